//! Fixed little-endian layouts, written and read by hand: the bytes that are signed and hashed (C8).
//!
//! A layout has one encoding per value. The reader refuses what is short, and `end` refuses what is left over.

use super::ids::{AccountId, ChainId, Digest, NodeId, PublicKey};
use super::keys::Signature;

/// The first five bytes of everything that is signed.
pub const DOMAIN: &[u8; 5] = b"STAR1";

/// Why bytes are no valid layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("the bytes end {missing} short")]
    Short { missing: usize },
    #[error("{left} bytes are left over")]
    LeftOver { left: usize },
    #[error("{found} is not a known {what}")]
    Unknown { what: &'static str, found: u64 },
    #[error("{what} holds {found}, at most {limit} are allowed")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error("{0}")]
    NotCanonical(&'static str),
}

/// Appends fields in order.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with the signing domain and the tag of a kind (C8).
    pub fn signed(tag: u8) -> Self {
        Self::new().raw(DOMAIN).u8(tag)
    }

    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub fn done(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes fields in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], LayoutError> {
        let short = LayoutError::Short { missing: count.saturating_sub(self.rest.len()) };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A count that was read: at most `limit`, and that many items of at least `least` bytes are there. Nothing may be
    /// reserved for items before this has been asked.
    ///
    /// # Errors
    /// There are too many, or the bytes end short of them.
    pub fn room_for(&self, what: &'static str, count: u32, limit: usize, least: usize) -> Result<usize, LayoutError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > limit {
            return Err(LayoutError::TooMany { what, found: count, limit });
        }
        let bytes = count.saturating_mul(least);
        if bytes > self.left() {
            return Err(LayoutError::Short { missing: bytes - self.left() });
        }
        Ok(count)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], LayoutError> {
        let short = LayoutError::Short { missing: N.saturating_sub(self.rest.len()) };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// # Errors
    /// The bytes end short.
    pub fn u8(&mut self) -> Result<u8, LayoutError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// # Errors
    /// The bytes end short.
    pub fn u16(&mut self) -> Result<u16, LayoutError> {
        self.array().map(u16::from_le_bytes)
    }

    /// # Errors
    /// The bytes end short.
    pub fn u32(&mut self) -> Result<u32, LayoutError> {
        self.array().map(u32::from_le_bytes)
    }

    /// # Errors
    /// The bytes end short.
    pub fn u64(&mut self) -> Result<u64, LayoutError> {
        self.array().map(u64::from_le_bytes)
    }

    /// # Errors
    /// The bytes end short.
    pub fn digest(&mut self) -> Result<Digest, LayoutError> {
        self.array().map(Digest)
    }

    /// # Errors
    /// The bytes end short.
    pub fn chain(&mut self) -> Result<ChainId, LayoutError> {
        self.array().map(ChainId)
    }

    /// # Errors
    /// The bytes end short.
    pub fn key(&mut self) -> Result<PublicKey, LayoutError> {
        self.array().map(PublicKey)
    }

    /// # Errors
    /// The bytes end short.
    pub fn account(&mut self) -> Result<AccountId, LayoutError> {
        self.array().map(AccountId)
    }

    /// # Errors
    /// The bytes end short.
    pub fn node(&mut self) -> Result<NodeId, LayoutError> {
        self.array().map(NodeId)
    }

    /// # Errors
    /// The bytes end short.
    pub fn signature(&mut self) -> Result<Signature, LayoutError> {
        self.array().map(Signature)
    }

    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Bytes are left over.
    pub fn end(self) -> Result<(), LayoutError> {
        if self.rest.is_empty() { Ok(()) } else { Err(LayoutError::LeftOver { left: self.rest.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let bytes = Writer::signed(0x10).u16(7).u64(9).done();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.raw(5), Ok(&DOMAIN[..]));
        assert_eq!((reader.u8(), reader.u16(), reader.u64()), (Ok(0x10), Ok(7), Ok(9)));
        assert_eq!(reader.u32(), Err(LayoutError::Short { missing: 4 }));
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(Reader::new(&bytes).end(), Err(LayoutError::LeftOver { left: 16 }));
    }
}
