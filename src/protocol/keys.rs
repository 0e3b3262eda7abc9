//! ed25519 by ZIP-215 (C6): the one definition of a valid signature, so that no two nodes can disagree on one.
//!
//! Secrets are erased when dropped and never printed. Keys come from given bytes; where those come from (the operating
//! system, a keystore, a devnet seed) is the caller's affair.

use std::fmt;

use ed25519_zebra::{SigningKey, VerificationKey, VerificationKeyBytes, batch};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::chance::Chance;
use super::ids::{PublicKey, from_hex, to_hex};

/// A detached ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", to_hex(self.0.first_chunk::<4>().unwrap_or(&[0; 4])))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&to_hex(&self.0))
        } else {
            serde_bytes::serialize(&self.0[..], to)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
            from_hex(&text).map(Self).map_err(serde::de::Error::custom)
        } else {
            serde_bytes::deserialize::<[u8; 64], D>(from).map(Self)
        }
    }
}

/// The signature does not hold: the bytes, the key or the signature are not the ones that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match the key and the bytes")]
pub struct BadSignature;

/// A signing key; erased on drop.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    signing: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

impl SecretKey {
    /// The key of a 32-byte seed, as RFC 8032 derives it.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { signing: SigningKey::from(seed), seed: Zeroizing::new(seed) }
    }

    /// The seed, for the keystore and for libp2p's own key type.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(VerificationKeyBytes::from(&self.signing).into())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.signing.sign(message).to_bytes())
    }
}

/// Verifies one signature by ZIP-215.
///
/// # Errors
/// The key is no curve point or the signature does not hold.
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    let key = VerificationKey::try_from(key.0).map_err(|_| BadSignature)?;
    key.verify(&ed25519_zebra::Signature::from_bytes(&signature.0), message).map_err(|_| BadSignature)
}

/// Verifies many signatures at once, with the verdict that verifying each alone would give (ZIP-215).
///
/// # Errors
/// At least one does not hold; which one is found by `verify`.
pub fn verify_batch<'a>(items: impl IntoIterator<Item = (PublicKey, &'a [u8], Signature)>) -> Result<(), BadSignature> {
    let mut batch = batch::Verifier::new();
    let mut transcript = blake3::Hasher::new_derive_key("starling/1 batch");
    for (key, message, signature) in items {
        transcript.update(&key.0).update(&signature.0).update(blake3::hash(message).as_bytes());
        batch.queue((VerificationKeyBytes::from(key.0), ed25519_zebra::Signature::from_bytes(&signature.0), message));
    }
    // The blinding factors must not be known before the signatures are fixed; drawn from a hash of all of them they are
    // not, and the same input gives the same verdict everywhere without an entropy source.
    batch.verify(Chance::from_seed(*transcript.finalize().as_bytes())).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_and_batch_agree_and_a_changed_bit_is_found() {
        let keys: Vec<SecretKey> = (1..6).map(|i| SecretKey::from_seed([i; 32])).collect();
        let items: Vec<_> = keys.iter().map(|k| (k.public(), &b"message"[..], k.sign(b"message"))).collect();
        assert_eq!(verify_batch(items.iter().copied()), Ok(()));
        for flipped in 0..items.len() {
            let mut items = items.clone();
            items[flipped].2.0[3] ^= 1;
            let (key, message, signature) = items[flipped];
            assert_eq!(verify(&key, message, &signature), Err(BadSignature));
            assert_eq!(verify_batch(items), Err(BadSignature));
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let key = SecretKey::from_seed([7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }
}
