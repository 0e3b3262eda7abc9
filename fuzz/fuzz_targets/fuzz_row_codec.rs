//! Any bytes are a row, or a block of bonds, in one way, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use starling::ledger::incentive::BondBlock;
use starling::ledger::incentive::rows::{read_row, write_row};
use starling::protocol::layout::{Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    let mut from = Reader::new(bytes);
    if let Ok(row) = read_row(&mut from, 65_536) {
        assert_eq!(write_row(Writer::new(), &row).done(), &bytes[..bytes.len() - from.left()]);
    }
    let mut from = Reader::new(bytes);
    if let Ok(block) = BondBlock::read(&mut from) {
        assert_eq!(block.write(Writer::new()).done(), &bytes[..bytes.len() - from.left()]);
    }
});
