# `just` lists what there is.
default:
    @just --list

# Before every commit.
check:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    cargo test --release --lib
    cargo test --release --test integration house::

# Exactly what continuous integration runs.
ci:
    bash .ci/run

# Whether the fuzzers still build; `cargo +nightly fuzz run fuzz_epoch` runs one.
fuzz:
    cd fuzz && cargo check --release

# Replays one world.
world SEED:
    WORLD_SEEDS={{SEED}} cargo test --release --test integration seeded -- --nocapture

# Fresh seeds until one fails or you stop it.
soak:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test --release --test integration --no-run
    while true; do
        seed=$((RANDOM * 32768 + RANDOM))
        echo "seeds from ${seed}"
        WORLD_SEEDS=${seed}..$((seed + 100)) cargo test --release --quiet --test integration seeded
    done

# A local swarm of ten nodes and a gateway.
devnet *ARGS:
    cargo run --release -- devnet up {{ARGS}}
