//! Any epoch ends, says what the slow reference says, and the same with old buffers and more lanes.

#![no_main]
#![allow(dead_code)]

#[path = "../../tests/slow_yuma/chance.rs"]
mod chance;
#[path = "../../tests/slow_yuma/compare.rs"]
mod compare;
#[path = "../../tests/slow_yuma/reference.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;
use starling::ledger::incentive::{EpochJob, InTurn, Switches, Workspace};

fuzz_target!(|bytes: &[u8]| {
    let mut chance = chance::Chance::fed(bytes);
    let mut switches = if chance.one_in(2) { Switches::native() } else { Switches::compat() };
    if chance.one_in(2) {
        chance.flip_switches(&mut switches);
    }
    let job = EpochJob::new(chance.input(switches)).expect("well-formed");
    let fast = job.run(&mut Workspace::new());
    compare::compare(job.input(), &fast, &reference::Slow::close(job.input())).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(fast, job.run_on(&mut Workspace::with_lanes(3), &InTurn));
});
