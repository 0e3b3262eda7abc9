//! Any bytes are an opening in one way, or refused.

#![no_main]
#![allow(dead_code)]

#[path = "../../tests/slow_yuma/chance.rs"]
mod chance;
#[path = "../../tests/slow_yuma/compare.rs"]
mod compare;
#[path = "../../tests/slow_yuma/fuzzed.rs"]
mod fuzzed;
#[path = "../../tests/slow_yuma/reference.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = fuzzed::reveal(bytes);
});
