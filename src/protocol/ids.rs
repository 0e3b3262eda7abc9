//! Names of things: digests, chains, accounts, nodes, subnets, members.
//!
//! Every 32-byte name prints as 64 lower-case hex digits and is read back from the same; a name is never guessed from a
//! prefix of itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Checkpoints from genesis, which is height 0.
pub type Height = u64;
/// A subnet's scoring period, counted from 0.
pub type Epoch = u64;
/// One leader's attempt at a checkpoint; restarts at 1 in each term.
pub type View = u64;
/// A span of heights with one fixed voting committee.
pub type Term = u64;

/// Why a name could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("expected {expected} hex digits, found {found}")]
    Length { expected: usize, found: usize },
    #[error("character {position} is not a hex digit")]
    Digit { position: usize },
}

/// Lower-case hex of any bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?')));
        }
    }
    out
}

/// Reads exactly `N` bytes of hex, either case.
///
/// # Errors
/// The length is not `2 * N`, or a character is no hex digit.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], NameError> {
    if text.len() != N * 2 {
        return Err(NameError::Length { expected: N * 2, found: text.len() });
    }
    let mut out = [0; N];
    for (i, (byte, pair)) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)).enumerate() {
        for (j, digit) in pair.iter().enumerate() {
            let value = char::from(*digit).to_digit(16).ok_or(NameError::Digit { position: i * 2 + j })?;
            *byte = (*byte << 4) | u8::try_from(value).unwrap_or(0);
        }
    }
    Ok(out)
}

/// Declares a 32-byte name with hex text form; in JSON and TOML a hex string, in bincode 32 raw bytes.
macro_rules! name32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            pub const ZERO: Self = Self([0; 32]);

            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits, for people; never for look-ups.
            pub fn short(&self) -> String {
                to_hex(self.0.first_chunk::<4>().unwrap_or(&[0; 4]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                from_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.serialize_str(&to_hex(&self.0)) } else { self.0.serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(from).map(Self)
                }
            }
        }
    };
}

name32! {
    /// BLAKE3 of something under a stated context.
    Digest
}
name32! {
    /// The network's identity: the digest of its genesis file (C50).
    ChainId
}
name32! {
    /// An ed25519 public key (compressed Edwards point, not checked to be one until it is used).
    PublicKey
}
name32! {
    /// An account: its first cold public key (L10).
    AccountId
}
name32! {
    /// A node on the network: the public key of its link identity.
    NodeId
}

impl From<PublicKey> for AccountId {
    fn from(key: PublicKey) -> Self {
        Self(key.0)
    }
}

impl From<AccountId> for PublicKey {
    fn from(account: AccountId) -> Self {
        Self(account.0)
    }
}

impl ChainId {
    /// Eight hex digits that every topic and protocol name of this network carries (N11).
    pub fn netid(&self) -> String {
        self.short()
    }
}

/// Declares an integer name.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A market for one task.
    SubnetId
}
number! {
    /// A participant of a subnet: assigned in order, never reused (L15).
    MemberId
}

/// `H(ctx, x)`: BLAKE3 in key-derivation mode, so that digests of different meaning never collide.
pub fn hash(context: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_what_they_print_and_say_what_is_wrong() {
        let digest = hash("starling/1 test", &[b"x"]);
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        assert_eq!("ab".parse::<Digest>(), Err(NameError::Length { expected: 64, found: 2 }));
        let wrong = format!("{}g{}", "0".repeat(10), "0".repeat(53));
        assert_eq!(wrong.parse::<Digest>(), Err(NameError::Digit { position: 10 }));
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn contexts_separate_digests() {
        assert_ne!(hash("starling/1 a", &[b"x"]), hash("starling/1 b", &[b"x"]));
        assert_eq!(hash("starling/1 a", &[b"x", b"y"]), hash("starling/1 a", &[b"xy"]));
    }
}
