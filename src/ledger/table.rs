//! What a table is: a row type, a key type, a number, and where the state keeps it.
//!
//! A row key is the number and the key's bytes. Keys are big-endian, so that rows of a store come in the order of the
//! map.

use imbl::OrdMap;

use super::rows::Row;
use super::state::State;
use crate::protocol::ids::{AccountId, Digest, MemberId, SubnetId};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// A row key: the table's number and the key's bytes, which sort as the keys do.
pub type RowKey = Vec<u8>;

/// The key of a table.
pub trait Key: Ord + Clone + std::fmt::Debug + 'static {
    fn write(&self, to: Writer) -> Writer;
    /// # Errors
    /// The bytes end short.
    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError>;
}

impl Key for AccountId {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.0)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.account()
    }
}

impl Key for Digest {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.0)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.digest()
    }
}

impl Key for u8 {
    fn write(&self, to: Writer) -> Writer {
        to.u8(*self)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.u8()
    }
}

impl Key for u32 {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.to_be_bytes())
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.array().map(u32::from_be_bytes)
    }
}

impl Key for u64 {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.to_be_bytes())
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.array().map(u64::from_be_bytes)
    }
}

impl Key for SubnetId {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.0.to_be_bytes())
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.array().map(|bytes| Self(u32::from_be_bytes(bytes)))
    }
}

impl Key for MemberId {
    fn write(&self, to: Writer) -> Writer {
        to.raw(&self.0.to_be_bytes())
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        from.array().map(|bytes| Self(u32::from_be_bytes(bytes)))
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn write(&self, to: Writer) -> Writer {
        self.1.write(self.0.write(to))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn write(&self, to: Writer) -> Writer {
        self.2.write(self.1.write(self.0.write(to)))
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok((A::read(from)?, B::read(from)?, C::read(from)?))
    }
}

/// A row type is its table.
pub trait Table: Row {
    const ID: u8;
    type Key: Key;
    fn map(state: &State) -> &OrdMap<Self::Key, Self>;
    fn map_mut(state: &mut State) -> &mut OrdMap<Self::Key, Self>;

    /// Keeps what is derived from the table in step.
    fn changed(_: &mut State, _: &Self::Key, _before: Option<&Self>, _after: Option<&Self>) {}

    fn row_key(key: &Self::Key) -> RowKey {
        key.write(Writer::new().u8(Self::ID)).done()
    }
}
