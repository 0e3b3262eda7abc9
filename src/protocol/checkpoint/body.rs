//! The body: who attended the parent, and the transactions as they were received (C12, L20).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::protocol::committee::Bitmap;
use crate::protocol::ids::Digest;
use crate::protocol::layout::LayoutError;
use crate::protocol::merkle::merkle_root;

use super::{Header, attendance_hash};

/// The most bytes of transactions in a body (L5).
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The most transactions in a body: 4,096 of users and 512 of the system (L5).
pub const BODY_TRANSACTIONS_MAX: usize = 4_096 + 512;

/// What a checkpoint contains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The signers of the parent's certificate in the proposal; empty above view 0 (C12).
    pub attendance: Bitmap,
    /// Signed transactions, the bytes as received: whoever verifies, verifies these (C8).
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub transactions: Vec<Vec<u8>>,
}

fn write<S: Serializer>(transactions: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(transactions.iter().map(|bytes| Bytes::new(bytes)))
}

fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    Ok(Vec::<ByteBuf>::deserialize(from)?.into_iter().map(ByteBuf::into_vec).collect())
}

impl Body {
    /// The Merkle root over the transactions (L20).
    pub fn root(&self) -> Digest {
        merkle_root(self.transactions.iter().map(Vec::as_slice))
    }

    /// Bytes of all transactions.
    pub fn bytes(&self) -> usize {
        self.transactions.iter().map(Vec::len).sum()
    }

    /// Whether the body keeps the size limits (L5).
    ///
    /// # Errors
    /// Too many transactions or bytes.
    pub fn check_size(&self) -> Result<(), LayoutError> {
        let count = self.transactions.len();
        if count > BODY_TRANSACTIONS_MAX {
            return Err(LayoutError::TooMany { what: "a body", found: count, limit: BODY_TRANSACTIONS_MAX });
        }
        let bytes = self.bytes();
        if bytes > BODY_BYTES_MAX {
            return Err(LayoutError::TooMany { what: "a body's bytes", found: bytes, limit: BODY_BYTES_MAX });
        }
        Ok(())
    }

    /// Whether this is the body the header names. If not, its deliverer is at fault, not the header's signer (C15).
    pub fn belongs_to(&self, header: &Header) -> bool {
        attendance_hash(self.attendance.as_bytes()) == header.attendance_hash && self.root() == header.body_root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec;

    #[test]
    fn bodies_travel_whole_and_stay_small() {
        let body = Body { attendance: Bitmap::of(4, [0, 2]), transactions: vec![vec![1, 2, 3], vec![], vec![9; 300]] };
        assert_eq!(codec::decode::<Body, 4096>(&codec::encode(&body)).unwrap(), body);
        assert_eq!(body.check_size(), Ok(()));
        let many = Body { transactions: vec![vec![]; BODY_TRANSACTIONS_MAX + 1], ..Body::default() };
        assert!(many.check_size().is_err());
        let large = Body { transactions: vec![vec![0; 1 << 19]; 3], ..Body::default() };
        assert!(large.check_size().is_err());
    }
}
