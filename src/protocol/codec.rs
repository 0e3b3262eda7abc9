//! Bytes to typed messages and back: the only file that calls bincode.
//!
//! A frame is a version byte and one bincode value. The caller names the most a kind of message may take; that is checked
//! on the length before anything is decoded, bounds what decoding may allocate, and every byte must be used.

use bincode::config;
use serde::{Serialize, de::DeserializeOwned};

/// The version that opens every frame.
pub const VERSION: u8 = 1;

/// Why bytes from outside are no message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{length} bytes, at most {limit} are allowed")]
    TooLong { length: usize, limit: usize },
    #[error("an empty frame")]
    Empty,
    #[error("version {found} of the wire, this node speaks {VERSION}")]
    Version { found: u8 },
    #[error("the bytes do not decode: {0}")]
    Malformed(String),
    #[error("{left} bytes are left over")]
    LeftOver { left: usize },
}

/// Frames a value.
///
/// # Panics
/// Never for the types of this crate: none has a failing `Serialize`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    let written = bincode::serde::encode_into_std_write(value, &mut bytes, config::standard());
    assert!(written.is_ok(), "a message of our own does not encode: {written:?}");
    bytes
}

/// Reads a frame of at most `LIMIT` bytes.
///
/// # Errors
/// Too long, another version, undecodable, or with bytes left over.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong { length: bytes.len(), limit: LIMIT });
    }
    let (&version, rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version != VERSION {
        return Err(CodecError::Version { found: version });
    }
    // bincode counts what containers claim against the limit before it allocates for them.
    let config = config::standard().with_limit::<LIMIT>();
    let (value, used) =
        bincode::serde::decode_from_slice(rest, config).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if used != rest.len() {
        return Err(CodecError::LeftOver { left: rest.len() - used });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded_versioned_and_whole() {
        let bytes = encode(&(7_u32, "text".to_owned()));
        assert_eq!(decode::<(u32, String), 64>(&bytes).unwrap(), (7, "text".to_owned()));
        assert!(matches!(decode::<(u32, String), 3>(&bytes), Err(CodecError::TooLong { .. })));
        assert!(matches!(decode::<u32, 64>(&[2, 7]), Err(CodecError::Version { found: 2 })));
        assert!(matches!(decode::<u32, 64>(&[]), Err(CodecError::Empty)));
        assert!(matches!(decode::<u32, 64>(&bytes), Err(CodecError::LeftOver { left: 5 })));
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_allocation() {
        let bomb = [VERSION, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(decode::<Vec<u8>, 1024>(&bomb), Err(CodecError::Malformed(_))));
    }
}
