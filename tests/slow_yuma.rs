//! The epoch a second time, slowly: every rule as literally as it is written, dense, in `i128`, one cell after another,
//! sharing no code with the machine under test. Equality of every output bit over random inputs (T3).
//!
//! The same binary holds the public vectors and the count of allocations. A failing case prints its seed; `STARLING_SEED`
//! runs from another one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]
// Tests may cut numbers they made themselves.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::cast_lossless)]

#[path = "slow_yuma/allocations.rs"]
mod allocations;
#[path = "slow_yuma/chance.rs"]
mod chance;
#[path = "slow_yuma/compare.rs"]
mod compare;
#[path = "slow_yuma/fuzzed.rs"]
mod fuzzed;
#[path = "slow_yuma/linear.rs"]
mod linear;
#[path = "slow_yuma/reference.rs"]
mod reference;
#[path = "slow_yuma/vectors.rs"]
mod vectors;

use chance::Chance;
use compare::compare;
use reference::Slow;
use starling::ledger::incentive::{EpochJob, InTurn, Switches, Workspace};

const CASES: u64 = 10_000;

fn differ(preset: Switches, any_switches: bool, salt: u64) {
    let start: u64 = std::env::var("STARLING_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut warm, mut lanes) = (Workspace::new(), Workspace::with_lanes(5));
    for seed in start..start + CASES {
        let mut chance = Chance::seeded(seed.wrapping_mul(0x9e37).wrapping_add(salt));
        let mut switches = preset;
        if any_switches {
            chance.flip_switches(&mut switches);
        }
        let input = chance.input(switches);
        let job = EpochJob::new(input).unwrap();
        let fast = job.run(&mut warm);
        if let Err(wrong) = compare(job.input(), &fast, &Slow::close(job.input())) {
            panic!("seed {seed}:\n{wrong}");
        }
        if seed % 4 == 0 {
            assert_eq!(fast, job.run(&mut Workspace::new()), "seed {seed}: a cold workspace");
            assert_eq!(fast, job.run_on(&mut lanes, &InTurn), "seed {seed}: five lanes");
        }
    }
}

#[test]
fn t03_native_is_the_slow_reference_to_the_bit() {
    differ(Switches::native(), false, 1);
}

#[test]
fn t03_compat_is_the_slow_reference_to_the_bit() {
    differ(Switches::compat(), false, 2);
}

#[test]
fn t03_every_mix_of_switches_is_the_slow_reference_to_the_bit() {
    differ(Switches::native(), true, 3);
    differ(Switches::compat(), true, 4);
}
