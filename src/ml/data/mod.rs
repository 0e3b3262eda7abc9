//! The data of the built-in tasks: in the binary, checked by hash when first unpacked, split once for all.
//!
//! What is held out is fixed by a hash of its place and nothing else. Honest miners train on the training part only; a
//! challenge is drawn from the held-out part only.

pub mod series;
pub mod transform;

use std::io::Read;
use std::sync::OnceLock;

use ndarray::Array2;

use crate::protocol::ids::{from_hex, hash, to_hex};
use crate::protocol::query::PIXELS;

static DIGITS: &[u8] = include_bytes!("../../../data/digits.bin.gz");
static JARGON: &[u8] = include_bytes!("../../../data/jargon.txt.gz");

/// BLAKE3 of the shipped files.
pub const DIGITS_HASH: &str = "841ed9f7bfec5242de3110fe5980409488bca27130057159b09bdffd36b29dd4";
/// BLAKE3 of the shipped files.
pub const JARGON_HASH: &str = "e34c4bca0864256c38c9f805d32d410b278efd72e6b607a8f2de46de5a46653d";
/// Images in the set.
pub const DIGITS_COUNT: usize = 1_797;
/// Bytes of one block of text, the unit that is held out.
pub const BLOCK_BYTES: usize = 2_048;
/// The most a file may unpack to.
const UNPACKED_BYTES_MAX: u64 = 4 << 20;

/// Why data in the binary cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    #[error("{name} hashes to {found}, expected {expected}: the binary is damaged")]
    Hash { name: &'static str, found: String, expected: &'static str },
    #[error("{name} does not unpack: {why}")]
    Unpack { name: &'static str, why: String },
    #[error("{name} has {found} bytes, expected {expected}")]
    Length { name: &'static str, found: usize, expected: usize },
}

fn unpack(name: &'static str, packed: &[u8], expected: &'static str) -> Result<Vec<u8>, DataError> {
    let found = blake3::hash(packed);
    if from_hex(expected) != Ok(*found.as_bytes()) {
        return Err(DataError::Hash { name, found: to_hex(found.as_bytes()), expected });
    }
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed).take(UNPACKED_BYTES_MAX);
    reader.read_to_end(&mut bytes).map_err(|e| DataError::Unpack { name, why: e.to_string() })?;
    Ok(bytes)
}

/// Labelled images: rows of 64 pixels of 0 to 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub pixels: Array2<u8>,
    pub labels: Vec<u8>,
}

/// Handwritten digits, split in two.
#[derive(Clone, Debug)]
pub struct Digits {
    pub train: Images,
    pub held: Images,
}

/// A text in blocks, split in two; neighbours of the training part are joined into passages.
#[derive(Clone, Debug)]
pub struct Jargon {
    pub train: Vec<Vec<u8>>,
    pub held: Vec<Vec<u8>>,
}

/// Whether item `index` is held out: `share` in 256.
fn is_held(data: &str, index: usize, share: u8) -> bool {
    hash("starling/1 held out", &[data.as_bytes(), &(index as u64).to_le_bytes()]).0[0] < share
}

/// The digits; unpacked once per process.
///
/// # Errors
/// The data in the binary are damaged.
pub fn digits() -> Result<&'static Digits, DataError> {
    static LOADED: OnceLock<Result<Digits, DataError>> = OnceLock::new();
    LOADED.get_or_init(read_digits).as_ref().map_err(Clone::clone)
}

/// The text; unpacked once per process.
///
/// # Errors
/// The data in the binary are damaged.
pub fn jargon() -> Result<&'static Jargon, DataError> {
    static LOADED: OnceLock<Result<Jargon, DataError>> = OnceLock::new();
    LOADED.get_or_init(read_jargon).as_ref().map_err(Clone::clone)
}

fn read_digits() -> Result<Digits, DataError> {
    let name = "digits.bin.gz";
    let bytes = unpack(name, DIGITS, DIGITS_HASH)?;
    let (rows, rest) = bytes.as_chunks::<{ PIXELS + 1 }>();
    if rows.len() != DIGITS_COUNT || !rest.is_empty() {
        return Err(DataError::Length { name, found: bytes.len(), expected: DIGITS_COUNT * (PIXELS + 1) });
    }
    let part = |held: bool| {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for (_, [row @ .., label]) in rows.iter().enumerate().filter(|(i, _)| is_held("digits", *i, 51) == held) {
            pixels.extend_from_slice(row);
            labels.push(*label);
        }
        let found = pixels.len();
        let pixels = Array2::from_shape_vec((labels.len(), PIXELS), pixels);
        let pixels = pixels.map_err(|_| DataError::Length { name, found, expected: labels.len() * PIXELS })?;
        Ok(Images { pixels, labels })
    };
    Ok(Digits { train: part(false)?, held: part(true)? })
}

fn read_jargon() -> Result<Jargon, DataError> {
    let bytes = unpack("jargon.txt.gz", JARGON, JARGON_HASH)?;
    let (mut train, mut held): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let mut joined = false;
    for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        if is_held("jargon", index, 12) {
            held.push(block.to_vec());
            joined = false;
        } else {
            match train.last_mut().filter(|_| joined) {
                Some(passage) => passage.extend_from_slice(block),
                None => train.push(block.to_vec()),
            }
            joined = true;
        }
    }
    Ok(Jargon { train, held })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_whole_and_the_parts_do_not_overlap() {
        let digits = digits().unwrap();
        assert_eq!(digits.train.labels.len() + digits.held.labels.len(), DIGITS_COUNT);
        assert!((320..400).contains(&digits.held.labels.len()), "{}", digits.held.labels.len());
        for part in [&digits.train, &digits.held] {
            assert!(part.pixels.iter().all(|&p| p <= 16) && part.labels.iter().all(|&l| l < 10));
            assert_eq!(part.pixels.nrows(), part.labels.len());
        }
        let train: std::collections::BTreeSet<Vec<u8>> =
            digits.train.pixels.rows().into_iter().map(|r| r.to_vec()).collect();
        assert!(digits.held.pixels.rows().into_iter().all(|row| !train.contains(&row.to_vec())));
    }

    #[test]
    fn the_text_is_whole() {
        let jargon = jargon().unwrap();
        let bytes = |part: &[Vec<u8>]| part.iter().map(Vec::len).sum::<usize>();
        assert_eq!(bytes(&jargon.train) + bytes(&jargon.held), 1_413_399);
        assert!((50_000..90_000).contains(&bytes(&jargon.held)), "{}", bytes(&jargon.held));
        assert!(jargon.train.iter().chain(&jargon.held).flatten().all(|&b| b == b'\n' || (32..127).contains(&b)));
    }

    #[test]
    fn a_changed_bit_is_found_before_unpacking() {
        let mut damaged = DIGITS.to_vec();
        damaged[100] ^= 1;
        assert!(matches!(unpack("digits", &damaged, DIGITS_HASH), Err(DataError::Hash { .. })));
    }
}
