//! The header: 360 bytes that name a checkpoint and commit to all it contains and leads to (C9).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::protocol::ids::{ChainId, Digest, Height, Term, View, hash};
use crate::protocol::layout::{LayoutError, Reader, Writer};

use super::Body;

/// The layout version of this page.
pub const HEADER_VERSION: u16 = 1;
/// Every header is exactly this long.
pub const HEADER_BYTES: usize = 360;

/// What a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u16,
    pub chain: ChainId,
    pub height: Height,
    pub term: Term,
    /// The view it was first proposed in.
    pub view: View,
    pub timestamp_ms: u64,
    /// Committee index of the leader of `view`.
    pub proposer: u16,
    pub tx_count: u32,
    pub parent_hash: Digest,
    pub body_root: Digest,
    /// After the body.
    pub state_root: Digest,
    pub receipt_root: Digest,
    pub record_root: Digest,
    pub set_hash: Digest,
    pub next_set_hash: Digest,
    pub params_hash: Digest,
    pub attendance_hash: Digest,
}

/// What a genesis header takes from the genesis file; the rest of it is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenesisHeader {
    pub chain: ChainId,
    pub timestamp_ms: u64,
    pub state_root: Digest,
    pub receipt_root: Digest,
    pub record_root: Digest,
    pub set_hash: Digest,
    pub next_set_hash: Digest,
    pub params_hash: Digest,
}

/// What a header says about the attendance bitmap of its body (C12).
pub fn attendance_hash(bitmap: &[u8]) -> Digest {
    hash("starling/1 attend", &[bitmap])
}

impl Header {
    /// Height 0, view 0: final without a certificate (C11, C50).
    pub fn genesis(parts: GenesisHeader) -> Self {
        let body = Body::default();
        Self {
            version: HEADER_VERSION,
            chain: parts.chain,
            height: 0,
            term: 0,
            view: 0,
            timestamp_ms: parts.timestamp_ms,
            proposer: 0,
            tx_count: 0,
            parent_hash: Digest::ZERO,
            body_root: body.root(),
            state_root: parts.state_root,
            receipt_root: parts.receipt_root,
            record_root: parts.record_root,
            set_hash: parts.set_hash,
            next_set_hash: parts.next_set_hash,
            params_hash: parts.params_hash,
            attendance_hash: attendance_hash(body.attendance.as_bytes()),
        }
    }

    /// The name of the checkpoint (C9).
    pub fn hash(&self) -> Digest {
        hash("starling/1 header", &[&self.layout()])
    }

    /// The 360 bytes.
    pub fn layout(&self) -> Vec<u8> {
        let start = Writer::new()
            .u16(self.version)
            .raw(&self.chain.0)
            .u64(self.height)
            .u64(self.term)
            .u64(self.view)
            .u64(self.timestamp_ms)
            .u16(self.proposer)
            .u32(self.tx_count);
        self.digests().into_iter().fold(start, |writer, digest| writer.raw(&digest.0)).done()
    }

    /// Reads the 360 bytes.
    ///
    /// # Errors
    /// Another length.
    pub fn from_layout(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader::new(bytes);
        let header = Self {
            version: from.u16()?,
            chain: from.chain()?,
            height: from.u64()?,
            term: from.u64()?,
            view: from.u64()?,
            timestamp_ms: from.u64()?,
            proposer: from.u16()?,
            tx_count: from.u32()?,
            parent_hash: from.digest()?,
            body_root: from.digest()?,
            state_root: from.digest()?,
            receipt_root: from.digest()?,
            record_root: from.digest()?,
            set_hash: from.digest()?,
            next_set_hash: from.digest()?,
            params_hash: from.digest()?,
            attendance_hash: from.digest()?,
        };
        from.end()?;
        Ok(header)
    }

    fn digests(&self) -> [Digest; 9] {
        [
            self.parent_hash,
            self.body_root,
            self.state_root,
            self.receipt_root,
            self.record_root,
            self.set_hash,
            self.next_set_hash,
            self.params_hash,
            self.attendance_hash,
        ]
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&self.layout(), to)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes: [u8; HEADER_BYTES] = serde_bytes::deserialize(from)?;
        Self::from_layout(&bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::protocol::codec;

    pub(crate) fn sample() -> Header {
        let digest = |i: u8| Digest([i; 32]);
        Header {
            version: HEADER_VERSION,
            chain: ChainId([0xC0; 32]),
            height: 0x0102_0304_0506_0708,
            term: 2,
            view: 3,
            timestamp_ms: 1_700_000_000_123,
            proposer: 0x0A0B,
            tx_count: 77,
            parent_hash: digest(1),
            body_root: digest(2),
            state_root: digest(3),
            receipt_root: digest(4),
            record_root: digest(5),
            set_hash: digest(6),
            next_set_hash: digest(7),
            params_hash: digest(8),
            attendance_hash: digest(9),
        }
    }

    #[test]
    fn the_layout_is_360_bytes_and_reads_back() {
        let bytes = sample().layout();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(bytes[..2], [1, 0]);
        assert_eq!(bytes[34..42], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[66..72], [0x0B, 0x0A, 77, 0, 0, 0]);
        assert_eq!(bytes[72..104], [1; 32]);
        assert_eq!(Header::from_layout(&bytes), Ok(sample()));
        assert!(Header::from_layout(&bytes[1..]).is_err());
        assert_eq!(codec::decode::<Header, 400>(&codec::encode(&sample())).unwrap(), sample());
    }

    #[test]
    fn golden_header_hash() {
        assert_eq!(sample().hash().to_string(), "096c522d8453bc19cc5f4d8001defcda1382c336b84e5ade3ec1f7127b17200e");
    }
}
