//! The commitment of a weight vector and its opening (D2).
//!
//! A commitment is the digest of one fixed layout: who says it, where and when, the vector, what it was computed from,
//! and a salt. It binds the author's place, so nobody else can open a copy of it, and nobody can open it in another
//! subnet, mechanism, period or network. What is malformed is refused here, before any state is asked.

use serde::{Deserialize, Serialize};

use super::ids::{ChainId, Digest, Epoch, MemberId, PublicKey, SubnetId, hash};
use super::keys::SecretKey;
use super::layout::{LayoutError, Reader, Writer};

/// The most entries of a weight vector.
pub const WEIGHTS_MAX: usize = 2_048;

const COMMITMENT: &str = "starling 2026-11 weights commitment v1";
const SALT: &str = "starling 2026-11 weights salt v1";

/// One miner's weight in a vector; at most 65,535 where the width is 2.
pub type Weight = (MemberId, u32);

/// Bytes of a weight (Y18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    #[default]
    Two,
    Four,
}

impl Width {
    pub fn byte(self) -> u8 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// The largest weight, which the best miner of a fold gets (D13).
    pub fn most(self) -> u32 {
        match self {
            Self::Two => u16::MAX.into(),
            Self::Four => u32::MAX,
        }
    }

    /// The width a subnet asks for.
    pub fn of(bytes: u64) -> Self {
        if bytes > 2 { Self::Four } else { Self::Two }
    }

    /// # Errors
    /// There is no such width.
    pub fn from_byte(byte: u8) -> Result<Self, LayoutError> {
        match byte {
            2 => Ok(Self::Two),
            4 => Ok(Self::Four),
            other => Err(LayoutError::Unknown { what: "width of weights", found: other.into() }),
        }
    }
}

/// Whose vector of which period: everything in a commitment that its opening does not carry but the ledger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    pub chain: ChainId,
    pub subnet: SubnetId,
    pub mechanism: u8,
    pub period: Epoch,
    pub validator: MemberId,
    /// The operator key its seat had when it committed.
    pub operator: PublicKey,
}

/// What opens a commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The scorer's content (D11).
    pub scorer_digest: Digest,
    /// What the scorer was set to.
    pub params_digest: Digest,
    /// The Merkle root of the score log, and its entries.
    pub log_root: Digest,
    pub log_len: u64,
    pub width: Width,
    /// Miners strictly ascending, weights above 0: who is left out has 0, and there is no second way to say so.
    pub row: Vec<Weight>,
    pub salt: [u8; 32],
}

impl Opening {
    /// An opening that says nothing of how the row came about.
    pub fn bare(width: Width, row: Vec<Weight>, salt: [u8; 32]) -> Self {
        let none = Digest::ZERO;
        Self { scorer_digest: none, params_digest: none, log_root: none, log_len: 0, width, row, salt }
    }

    /// The bytes a commitment is the digest of (D2).
    pub fn preimage(&self, by: &Author) -> Vec<u8> {
        let to = Writer::new().raw(&by.chain.0).u32(by.subnet.0).u8(by.mechanism).u64(by.period);
        let to = to.u32(by.validator.0).raw(&by.operator.0);
        let to = to.raw(&self.scorer_digest.0).raw(&self.params_digest.0).raw(&self.log_root.0).u64(self.log_len);
        let to = to.u8(self.width.byte()).u32(u32::try_from(self.row.len()).unwrap_or(u32::MAX));
        let to = self.row.iter().fold(to, |to, (member, weight)| to.u32(member.0).u32(*weight));
        to.raw(&self.salt).done()
    }

    /// The commitment (D2).
    pub fn commitment(&self, by: &Author) -> Digest {
        hash(COMMITMENT, &[&self.preimage(by)])
    }

    /// Whether this opens a commitment of this author.
    pub fn opens(&self, commitment: &Digest, by: &Author) -> bool {
        self.commitment(by) == *commitment
    }

    /// As a transaction carries it: weights of `width` bytes.
    pub fn write(&self, to: Writer) -> Writer {
        let to = to.raw(&self.scorer_digest.0).raw(&self.params_digest.0).raw(&self.log_root.0).u64(self.log_len);
        let to = to.raw(&self.salt).u8(self.width.byte()).u16(u16::try_from(self.row.len()).unwrap_or(u16::MAX));
        self.row.iter().fold(to, |to, (member, weight)| match self.width {
            // A weight that does not fit is caught by `check`, which runs wherever a payload is made or read.
            Width::Two => to.u32(member.0).u16(u16::try_from(*weight).unwrap_or(u16::MAX)),
            Width::Four => to.u32(member.0).u32(*weight),
        })
    }

    /// # Errors
    /// The bytes end short or name more miners than a vector may.
    pub fn read(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (scorer_digest, params_digest, log_root) = (from.digest()?, from.digest()?, from.digest()?);
        let (log_len, salt, width) = (from.u64()?, from.array()?, Width::from_byte(from.u8()?)?);
        let count = usize::from(from.u16()?);
        if count > WEIGHTS_MAX {
            return Err(LayoutError::TooMany { what: "weight vector", found: count, limit: WEIGHTS_MAX });
        }
        let weight = |from: &mut Reader<'_>| match width {
            Width::Two => from.u16().map(u32::from),
            Width::Four => from.u32(),
        };
        let row = (0..count).map(|_| Ok((MemberId(from.u32()?), weight(from)?))).collect::<Result<_, _>>()?;
        Ok(Self { scorer_digest, params_digest, log_root, log_len, width, row, salt })
    }

    /// What can be judged without any state.
    ///
    /// # Errors
    /// No subnet could ever take this vector.
    pub fn check(&self) -> Result<(), LayoutError> {
        let row = &self.row;
        if row.len() > WEIGHTS_MAX {
            return Err(LayoutError::TooMany { what: "weight vector", found: row.len(), limit: WEIGHTS_MAX });
        }
        if row.iter().any(|(_, weight)| *weight == 0) {
            return Err(LayoutError::NotCanonical("a weight is 0; leave the miner out instead"));
        }
        if row.iter().any(|(_, weight)| *weight > self.width.most()) {
            return Err(LayoutError::NotCanonical("a weight is above 65535; say that the width is 4"));
        }
        if !row.iter().zip(row.iter().skip(1)).all(|(a, b)| a.0 < b.0) {
            return Err(LayoutError::NotCanonical("member ids of a weight vector do not strictly ascend"));
        }
        if (self.log_len == 0) != (self.log_root == Digest::ZERO) {
            return Err(LayoutError::NotCanonical("only an empty score log has a root of zeros"));
        }
        Ok(())
    }
}

/// The salt of an author's commitment: from the operator's secret and the place alone, so that a node that lost its disk
/// but kept its key and log can still reveal (D2).
pub fn salt(secret: &SecretKey, chain: &ChainId, subnet: SubnetId, mechanism: u8, period: Epoch) -> [u8; 32] {
    let place = Writer::new().raw(&chain.0).u32(subnet.0).u8(mechanism).u64(period).done();
    hash(SALT, &[secret.seed(), &place]).0
}

/// A vector as an opening wants it: sorted by member, the last of equal members, without zeros.
pub fn canonical_weights<W: Into<u32>>(weights: impl IntoIterator<Item = (MemberId, W)>) -> Vec<Weight> {
    let sorted: std::collections::BTreeMap<MemberId, u32> =
        weights.into_iter().map(|(id, weight)| (id, weight.into())).collect();
    sorted.into_iter().filter(|(_, weight)| *weight > 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn author() -> Author {
        Author {
            chain: ChainId([1; 32]),
            subnet: SubnetId(2),
            mechanism: 0,
            period: 3,
            validator: MemberId(4),
            operator: PublicKey([5; 32]),
        }
    }

    fn opening(row: Vec<Weight>) -> Opening {
        let digest = |byte| Digest([byte; 32]);
        Opening {
            scorer_digest: digest(6),
            params_digest: digest(7),
            log_root: digest(8),
            log_len: 9,
            width: Width::Two,
            row,
            salt: [10; 32],
        }
    }

    /// The layout, field by field as the rule states it.
    #[test]
    fn d02_the_preimage_is_the_stated_layout() {
        let bytes = opening(vec![(MemberId(1), 65_535), (MemberId(300), 2)]).preimage(&author());
        let repeated = |byte: u8| vec![byte; 32];
        let want = [
            repeated(1),
            vec![2, 0, 0, 0],
            vec![0],
            vec![3, 0, 0, 0, 0, 0, 0, 0],
            vec![4, 0, 0, 0],
            repeated(5),
            repeated(6),
            repeated(7),
            repeated(8),
            vec![9, 0, 0, 0, 0, 0, 0, 0],
            vec![2],
            vec![2, 0, 0, 0],
            vec![1, 0, 0, 0, 0xff, 0xff, 0, 0],
            vec![44, 1, 0, 0, 2, 0, 0, 0],
            repeated(10),
        ]
        .concat();
        assert_eq!(bytes, want);
        let want = Digest(blake3::derive_key("starling 2026-11 weights commitment v1", &want));
        assert_eq!(opening(vec![(MemberId(1), 65_535), (MemberId(300), 2)]).commitment(&author()), want);
    }

    #[test]
    fn d02_the_salt_comes_back_from_the_key_and_from_no_other() {
        let (key, chain) = (SecretKey::from_seed([9; 32]), ChainId([1; 32]));
        let first = salt(&key, &chain, SubnetId(2), 0, 3);
        let bytes = [&[9; 32][..], &[1; 32], &[2, 0, 0, 0], &[0], &[3, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(first, blake3::derive_key("starling 2026-11 weights salt v1", &bytes));
        assert_eq!(first, salt(&key, &chain, SubnetId(2), 0, 3));
        let other = SecretKey::from_seed([8; 32]);
        for salted in [
            salt(&other, &chain, SubnetId(2), 0, 3),
            salt(&key, &ChainId([2; 32]), SubnetId(2), 0, 3),
            salt(&key, &chain, SubnetId(3), 0, 3),
            salt(&key, &chain, SubnetId(2), 1, 3),
            salt(&key, &chain, SubnetId(2), 0, 4),
        ] {
            assert_ne!(salted, first);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// T5.11: any changed bit of m gives another commitment, and no commitment opens for another place.
        #[test]
        fn t5_11_a_commitment_opens_for_its_author_and_its_bytes_alone(
            list in prop::collection::vec((1..5_u32, 1..=u32::from(u16::MAX)), 0..20),
            bit in any::<prop::sample::Index>(),
            (subnet, mechanism, period, validator) in (1..9_u32, 1..9_u8, 1..9_u64, 1..9_u32),
            byte in 1..=255_u8,
        ) {
            let mut last = 0;
            let row = list.into_iter().map(|(step, weight)| { last += step; (MemberId(last), weight) }).collect();
            let (by, of) = (author(), opening(row));
            let sealed = of.commitment(&by);
            prop_assert!(of.opens(&sealed, &by));
            let mut bytes = of.preimage(&by);
            let at = bit.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_ne!(hash(COMMITMENT, &[&bytes]), sealed);
            for other in [
                Author { chain: ChainId([byte.wrapping_add(1); 32]), ..by },
                Author { subnet: SubnetId(2 + subnet), ..by },
                Author { mechanism, ..by },
                Author { period: 3 + period, ..by },
                Author { validator: MemberId(4 + validator), ..by },
                Author { operator: PublicKey([byte.wrapping_add(5); 32]), ..by },
            ] {
                prop_assert!(other == by || !of.opens(&sealed, &other));
            }
        }

        #[test]
        fn d03_an_opening_has_one_encoding(
            list in prop::collection::vec((1..5_u32, 1..=u32::MAX), 0..20),
            log_len in 0..3_u64,
        ) {
            let mut last = 0;
            let row = list.into_iter().map(|(step, weight)| { last += step; (MemberId(last), weight) }).collect();
            let log_root = if log_len == 0 { Digest::ZERO } else { Digest([8; 32]) };
            let of = Opening { log_root, log_len, width: Width::Four, ..opening(row) };
            prop_assert_eq!(of.check(), Ok(()));
            let bytes = of.write(Writer::new()).done();
            let mut from = Reader::new(&bytes);
            prop_assert_eq!(Opening::read(&mut from), Ok(of));
            prop_assert_eq!(from.end(), Ok(()));
        }
    }

    #[test]
    fn y18_what_no_subnet_could_take_is_refused_without_state() {
        let of = |row: &[(u32, u32)]| opening(row.iter().map(|(id, weight)| (MemberId(*id), *weight)).collect());
        assert_eq!(of(&[]).check(), Ok(()));
        for wrong in [of(&[(1, 0)]), of(&[(1, 65_536)]), of(&[(2, 1), (1, 1)]), of(&[(1, 1), (1, 1)])] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert_eq!(Opening { width: Width::Four, ..of(&[(1, 65_536)]) }.check(), Ok(()));
        let many = opening((0..2_049).map(|id| (MemberId(id), 1)).collect());
        assert!(many.check().is_err());
        assert!(Opening { log_len: 0, ..of(&[]) }.check().is_err());
        assert!(Opening { log_root: Digest::ZERO, ..of(&[]) }.check().is_err());
        assert_eq!(Width::from_byte(3).unwrap_err().to_string(), "3 is not a known width of weights");
    }
}
