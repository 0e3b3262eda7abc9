#!/usr/bin/env bash
# The swarm in real containers: builds the image around a release binary, starts config/deploy/compose.yaml, asks a
# question, cuts a validator off and heals it, kills a miner, takes everything down. Skips, with a word, where no
# container engine answers. Waits for states, never for time alone.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/x86_64-unknown-linux-gnu/release/starling}
[ -x "${binary}" ] || { echo "compose: no binary at ${binary}; cargo build --release first" >&2; exit 1; }

if ! command -v docker >/dev/null || ! timeout 20 docker info >/dev/null 2>&1; then
    echo "compose: SKIPPED, no container engine answers"
    exit 0
fi
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    echo "compose: SKIPPED, neither docker compose nor docker-compose is installed"
    exit 0
fi

scratch=$(mktemp -d)
project="starling-test-$$"
export STARLING_SWARM="${scratch}/swarm" STARLING_IMAGE="starling:${project}"
# Empty: the engine picks free ports.
export STARLING_GATEWAY_PORT="" STARLING_HTTP_PORT=""
in_swarm() {
    "${compose[@]}" --project-name "${project}" --env-file "${STARLING_SWARM}/.env" -f config/deploy/compose.yaml "$@"
}

finish() {
    local code=$?
    if [ "${code}" -ne 0 ]; then
        echo "compose: FAILED; the last words of every node:"
        in_swarm ps || true
        in_swarm logs --tail=15 || true
    fi
    in_swarm down --volumes --timeout 10 >/dev/null 2>&1 || true
    docker image rm --force "${STARLING_IMAGE}" >/dev/null 2>&1 || true
    rm -rf "${scratch}"
    exit "${code}"
}

say() { printf 'compose: [%3s s] %s\n' "${SECONDS}" "$*"; }

container() { in_swarm ps -q "$1"; }

# The finalised height that a node reports of itself; asked inside its container, so a cut network does not matter.
height() {
    local document
    # A node that is behind or stalled says so by its exit code and still tells its height.
    document=$(docker exec "$(container "$1")" /starling status --json 2>/dev/null || true)
    python3 -c 'import json, sys; print(json.loads(sys.argv[1])["data"]["height"])' "${document}" 2>/dev/null || echo 0
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if [ "${SECONDS}" -ge "${limit}" ]; then
            echo "compose: waited too long for ${what}" >&2
            return 1
        fi
        sleep 1
    done
}

at_least() { [ "$(height "$1")" -ge "$2" ]; }
published() { docker port "$(container gateway)" "$1/tcp" | head -n 1; }

ask() {
    curl --silent --show-error --fail --max-time 20 "http://$(published 8080)/v1/completions" \
        --header 'content-type: application/json' \
        --data '{"model": "text", "prompt": "The hacker said ", "max_tokens": 24}' >"${scratch}/answer.json" 2>"${scratch}/ask.log"
}

say "image"
mkdir "${scratch}/image"
# Debug information is for people with sources; a container has none.
strip -o "${scratch}/image/starling" "${binary}" 2>/dev/null || cp "${binary}" "${scratch}/image/starling"
docker build --quiet --file config/deploy/Dockerfile --tag "${STARLING_IMAGE}" "${scratch}/image" >"${scratch}/build.log" 2>&1 ||
    { cat "${scratch}/build.log"; exit 1; }
"${binary}" devnet plan --compose "${STARLING_SWARM}" --validators 4 --miners 4 >/dev/null
trap finish EXIT

say "start"
in_swarm up --detach >"${scratch}/up.log" 2>&1 || { cat "${scratch}/up.log"; exit 1; }
wait_for 180 "height 20 at the gateway" at_least gateway 20
say "height $(height gateway); asking"
wait_for 120 "an answer" ask
python3 -c 'import json, sys; print("compose: answer:", json.load(open(sys.argv[1]))["choices"][0]["text"][:60].replace("\n", " "))' \
    "${scratch}/answer.json"

cut=$(container validator-2)
docker network disconnect "${project}_swarm" "${cut}"
before=$(height gateway)
say "validator-2 is cut off at height ${before}"
wait_for 60 "heights to go on without it" at_least gateway "$((before + 10))"
behind=$(height validator-2)
say "height $(height gateway); validator-2 stands at ${behind}"
if [ "${behind}" -ge "$((before + 8))" ]; then
    echo "compose: validator-2 was not cut off" >&2
    exit 1
fi

docker network connect --alias validator-2 "${project}_swarm" "${cut}"
goal=$(height gateway)
wait_for 60 "validator-2 to catch up" at_least validator-2 "${goal}"
say "healed; validator-2 is at $(height validator-2)"

docker kill "$(container miner-1)" >/dev/null
say "miner-1 is killed"
wait_for 60 "an answer without it" ask
goal=$(($(height gateway) + 3))
wait_for 30 "heights to go on" at_least gateway "${goal}"

say "down"
in_swarm down --volumes --timeout 15 >"${scratch}/down.log" 2>&1 || { cat "${scratch}/down.log"; exit 1; }
say "passed"
