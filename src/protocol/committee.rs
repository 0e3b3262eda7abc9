//! The voting committee of a term: who counts, how much, and when enough have spoken (C1-C4, C7).
//!
//! Members are sorted by key and named by their index in that order. All weight arithmetic is in integers and widened to
//! 128 bits before it is multiplied; a quorum is more than two thirds, never "at least".

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, ChainId, Digest, PublicKey, Term, hash};
use super::keys::{BadSignature, Signature, verify};
use super::layout::{LayoutError, Writer};

/// The most members a committee has.
pub const COMMITTEE_MAX: usize = 128;
/// The most weight a committee has together (C1).
pub const WEIGHT_MAX: u64 = 1 << 60;

/// One voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitteeMember {
    /// The consensus key: signs votes and nothing else (C5).
    pub key: PublicKey,
    pub weight: u64,
    /// Whom rewards for voting belong to; not part of the set hash.
    pub account: AccountId,
}

/// Why a list of members is no committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    #[error("a committee needs at least one member")]
    Empty,
    #[error("{found} members, at most {COMMITTEE_MAX} are allowed")]
    TooMany { found: usize },
    #[error("the key {0} is listed twice")]
    Duplicate(PublicKey),
    #[error("the member {0} has no weight")]
    Weightless(PublicKey),
    #[error("the weights exceed {WEIGHT_MAX} together")]
    TooHeavy,
}

/// The voters of one term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    term: Term,
    members: Vec<CommitteeMember>,
    total: u64,
    #[cfg(test)]
    lax: bool,
}

impl Committee {
    /// Sorts the members by key and checks them.
    ///
    /// # Errors
    /// None or too many members, a key twice, a member without weight, or too much weight.
    pub fn new(term: Term, mut members: Vec<CommitteeMember>) -> Result<Self, CommitteeError> {
        if members.is_empty() {
            return Err(CommitteeError::Empty);
        }
        if members.len() > COMMITTEE_MAX {
            return Err(CommitteeError::TooMany { found: members.len() });
        }
        members.sort_by_key(|member| member.key);
        for (one, next) in members.iter().zip(members.iter().skip(1)) {
            if one.key == next.key {
                return Err(CommitteeError::Duplicate(one.key));
            }
        }
        let mut total: u64 = 0;
        for member in &members {
            if member.weight == 0 {
                return Err(CommitteeError::Weightless(member.key));
            }
            total = total.checked_add(member.weight).filter(|t| *t <= WEIGHT_MAX).ok_or(CommitteeError::TooHeavy)?;
        }
        Ok(Self {
            term,
            members,
            total,
            #[cfg(test)]
            lax: false,
        })
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// The members in index order.
    pub fn members(&self) -> &[CommitteeMember] {
        &self.members
    }

    pub fn get(&self, index: u16) -> Option<&CommitteeMember> {
        self.members.get(usize::from(index))
    }

    /// The index of a key.
    pub fn index_of(&self, key: &PublicKey) -> Option<u16> {
        self.members.binary_search_by_key(key, |member| member.key).ok().and_then(|i| u16::try_from(i).ok())
    }

    /// All weight together.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The weight of distinct members; unknown indices weigh nothing. The caller sees to it that each counts once (C4).
    pub fn weight_of(&self, indices: impl IntoIterator<Item = u16>) -> u64 {
        indices.into_iter().filter_map(|index| self.get(index)).map(|member| member.weight).sum()
    }

    /// More than two thirds of the weight (C2).
    pub fn is_quorum(&self, weight: u64) -> bool {
        #[cfg(test)]
        if self.lax {
            return u128::from(weight) >= 2 * u128::from(self.total) / 3;
        }
        3 * u128::from(weight) > 2 * u128::from(self.total)
    }

    /// At least a third, hence with an honest member in it (C3).
    pub fn is_plausible(&self, weight: u64) -> bool {
        3 * u128::from(weight) >= u128::from(self.total)
    }

    /// What headers commit to: keys and weights in order (C7).
    pub fn set_hash(&self) -> Digest {
        let count = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let list = self
            .members
            .iter()
            .fold(Writer::new().u16(count), |writer, member| writer.raw(&member.key.0).u64(member.weight));
        hash("starling/1 set", &[&list.done()])
    }

    /// What every vote of the term is bound to: chain, term and set (C7).
    pub fn context(&self, chain: &ChainId) -> Digest {
        hash("starling/1 term", &[&chain.0, &self.term.to_le_bytes(), &self.set_hash().0])
    }

    /// The mutant that must die: a quorum at two thirds rounded down.
    #[cfg(test)]
    pub(crate) fn weakened(mut self) -> Self {
        self.lax = true;
        self
    }
}

/// A committee on a chain: all that is needed to judge a signature of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitteeContext {
    chain: ChainId,
    committee: Committee,
    set_hash: Digest,
    digest: Digest,
}

impl CommitteeContext {
    pub fn new(chain: ChainId, committee: Committee) -> Self {
        Self { set_hash: committee.set_hash(), digest: committee.context(&chain), chain, committee }
    }

    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    pub fn term(&self) -> Term {
        self.committee.term
    }

    pub fn set_hash(&self) -> Digest {
        self.set_hash
    }

    /// The term context of C7.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Verifies one member's signature.
    ///
    /// # Errors
    /// The index is unknown or the signature does not hold.
    pub fn verify(&self, signer: u16, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        verify(&self.committee.get(signer).ok_or(BadSignature)?.key, message, signature)
    }
}

/// A set of member indices: bit `i % 8` of byte `i / 8`, as many bytes as the committee needs (C4).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bitmap(#[serde(with = "serde_bytes")] Vec<u8>);

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Bitmap {
    /// The set of the indices below `members`; others are left out.
    pub fn of(members: usize, indices: impl IntoIterator<Item = u16>) -> Self {
        let mut bytes = vec![0_u8; members.div_ceil(8)];
        for index in indices.into_iter().filter(|index| usize::from(*index) < members) {
            if let Some(byte) = bytes.get_mut(usize::from(index / 8)) {
                *byte |= 1 << (index % 8);
            }
        }
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a bitmap back from its bytes; `check` tells whether it fits a committee.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub fn contains(&self, index: u16) -> bool {
        self.0.get(usize::from(index / 8)).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// The indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0_u16..).zip(self.0.iter()).flat_map(|(at, byte)| {
            (0..8_u16).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at.saturating_mul(8) + bit)
        })
    }

    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether this is the one encoding of a set of indices below `members` (C4).
    ///
    /// # Errors
    /// The length is wrong or a bit beyond the last member is set.
    pub fn check(&self, members: usize) -> Result<(), LayoutError> {
        if self.0.len() != members.div_ceil(8) {
            return Err(LayoutError::NotCanonical("a bitmap is as long as its committee needs"));
        }
        let used = members % 8;
        let padding = if used == 0 { 0 } else { self.0.last().copied().unwrap_or(0) >> used };
        if padding == 0 {
            Ok(())
        } else {
            Err(LayoutError::NotCanonical("a bitmap has no bits beyond the last member"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::keys::SecretKey;

    fn committee(weights: &[u64]) -> Committee {
        let members = (1..).zip(weights).map(|(i, &weight)| {
            let key = SecretKey::from_seed([i; 32]).public();
            CommitteeMember { key, weight, account: key.into() }
        });
        Committee::new(0, members.collect()).unwrap()
    }

    #[test]
    fn a_quorum_is_more_than_two_thirds_at_every_total() {
        for total in 1..400_u64 {
            let committee = committee(&[total]);
            let faulty = (total - 1) / 3;
            for weight in 0..=total {
                assert_eq!(committee.is_quorum(weight), weight >= total - faulty, "{weight} of {total}");
                assert_eq!(committee.is_plausible(weight), weight > faulty, "{weight} of {total}");
            }
        }
        let most = committee(&[WEIGHT_MAX]);
        assert!(most.is_quorum(WEIGHT_MAX) && !most.is_quorum(WEIGHT_MAX / 3 * 2));
    }

    #[test]
    fn committees_are_sorted_and_refuse_nonsense() {
        let good = committee(&[3, 2, 2]);
        assert!(good.members().windows(2).all(|pair| pair[0].key < pair[1].key));
        assert_eq!(good.index_of(&good.members()[2].key), Some(2));
        let member = good.members()[0];
        assert_eq!(Committee::new(0, vec![]), Err(CommitteeError::Empty));
        assert_eq!(Committee::new(0, vec![member; 129]), Err(CommitteeError::TooMany { found: 129 }));
        assert_eq!(Committee::new(0, vec![member; 2]), Err(CommitteeError::Duplicate(member.key)));
        let weightless = CommitteeMember { weight: 0, ..member };
        assert_eq!(Committee::new(0, vec![weightless]), Err(CommitteeError::Weightless(member.key)));
        let heavy = CommitteeMember { weight: WEIGHT_MAX + 1, ..member };
        assert_eq!(Committee::new(0, vec![heavy]), Err(CommitteeError::TooHeavy));
    }

    #[test]
    fn a_bitmap_has_one_encoding() {
        let bitmap = Bitmap::of(10, [9, 0, 3, 3, 10]);
        assert_eq!(bitmap.as_bytes(), [0b1001, 0b10]);
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), [0, 3, 9]);
        assert_eq!(
            (bitmap.count(), bitmap.contains(9), bitmap.contains(8), bitmap.contains(900)),
            (3, true, false, false)
        );
        assert_eq!(bitmap.check(10), Ok(()));
        assert!(bitmap.check(9).is_err(), "index 9 is unknown to nine members");
        assert!(bitmap.check(17).is_err() && bitmap.check(8).is_err());
        assert_eq!(Bitmap::from_bytes(vec![255, 255]).check(16), Ok(()));
    }

    #[test]
    fn the_context_separates_chains_terms_and_sets() {
        let one = committee(&[1, 1, 1, 1]);
        let other_term = Committee::new(1, one.members().to_vec()).unwrap();
        let context = one.context(&ChainId([1; 32]));
        assert_ne!(context, one.context(&ChainId([2; 32])));
        assert_ne!(context, other_term.context(&ChainId([1; 32])));
        assert_ne!(context, committee(&[1, 1, 1, 2]).context(&ChainId([1; 32])));
    }
}
