//! Our own signed envelopes: who says something to this network, and that it was said in these bytes.
//!
//! The signature covers the tag of the kind, the chain and the digest of the body *as received*; a body is decoded only
//! after its signature held.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::codec::{self, CodecError};
use super::ids::{ChainId, PublicKey, hash};
use super::keys::{SecretKey, Signature, verify};
use super::layout::Writer;

/// What an envelope carries; part of the signed bytes (C8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Hello = 0x20,
    Presence = 0x22,
}

/// A signed body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub author: PublicKey,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: Signature,
}

/// Why an envelope is refused. Every case is provable, so its deliverer pays.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the signature does not hold")]
    Signature,
    #[error(transparent)]
    Body(#[from] CodecError),
}

fn signed_bytes(tag: Tag, chain: &ChainId, body: &[u8]) -> Vec<u8> {
    Writer::signed(tag as u8).raw(&chain.0).raw(&hash("starling/1 envelope", &[body]).0).done()
}

impl Envelope {
    pub fn seal<T: Serialize>(tag: Tag, chain: &ChainId, key: &SecretKey, value: &T) -> Self {
        let body = codec::encode(value);
        Self { author: key.public(), signature: key.sign(&signed_bytes(tag, chain, &body)), body }
    }

    /// The body, if its author signed it for this chain.
    ///
    /// # Errors
    /// The signature does not hold or the body does not decode within `LIMIT` bytes.
    pub fn open<T: DeserializeOwned, const LIMIT: usize>(&self, tag: Tag, chain: &ChainId) -> Result<T, EnvelopeError> {
        verify(&self.author, &signed_bytes(tag, chain, &self.body), &self.signature)
            .map_err(|_| EnvelopeError::Signature)?;
        Ok(codec::decode::<T, LIMIT>(&self.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_kind_and_chain_only() {
        let key = SecretKey::from_seed([3; 32]);
        let chain = ChainId([1; 32]);
        let mut envelope = Envelope::seal(Tag::Hello, &chain, &key, &7_u32);
        assert_eq!(envelope.open::<u32, 64>(Tag::Hello, &chain).unwrap(), 7);
        assert!(matches!(envelope.open::<u32, 64>(Tag::Presence, &chain), Err(EnvelopeError::Signature)));
        assert!(matches!(envelope.open::<u32, 64>(Tag::Hello, &ChainId([2; 32])), Err(EnvelopeError::Signature)));
        envelope.body.push(0);
        assert!(matches!(envelope.open::<u32, 64>(Tag::Hello, &chain), Err(EnvelopeError::Signature)));
    }
}
