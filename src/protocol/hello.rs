//! What nodes tell each other about themselves: the hello of a new connection and the presence they gossip.
//!
//! A claim binds a node to an account or a consensus key: signed by the claimed key over the node's own key, so neither
//! can be lent to a stranger. Everything here has a bound, checked by `check` before anything is believed.

use serde::{Deserialize, Serialize};

use super::envelope::{Envelope, EnvelopeError, Tag};
use super::ids::{ChainId, Height, NodeId, PublicKey};
use super::keys::{BadSignature, SecretKey, Signature, verify};
use super::layout::Writer;

/// Longest hello or presence, in bytes.
pub const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Longest presence in gossip, in bytes.
pub const PRESENCE_BYTES_MAX: usize = 1024;
/// Most addresses of one node (N15).
pub const ADDRESSES_MAX: usize = 8;
/// Longest address text.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Most nodes recommended in one hello.
pub const RECORDS_MAX: usize = 16;
/// Most claims: one account and one consensus key.
pub const CLAIMS_MAX: usize = 2;

/// The roles of a node, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(pub u8);

impl Roles {
    pub const BOOT: Self = Self(1);
    pub const FULL: Self = Self(2);
    pub const VALIDATOR: Self = Self(4);
    pub const MINER: Self = Self(8);
    pub const GATEWAY: Self = Self(16);
    const NAMES: [(Self, &'static str); 5] = [
        (Self::BOOT, "boot"),
        (Self::FULL, "full"),
        (Self::VALIDATOR, "validator"),
        (Self::MINER, "miner"),
        (Self::GATEWAY, "gateway"),
    ];

    pub fn has(self, role: Self) -> bool {
        self.0 & role.0 == role.0
    }

    #[must_use]
    pub fn with(self, role: Self) -> Self {
        Self(self.0 | role.0)
    }

    /// The names of the roles held, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(role, _)| self.has(*role)).map(|(_, name)| *name).collect()
    }

    /// The role of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }
}

/// Which of its keys a node speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimKind {
    Account = 1,
    Consensus = 3,
}

/// A key's own word that a node speaks for it (N14).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub kind: ClaimKind,
    pub key: PublicKey,
    signature: Signature,
}

impl Claim {
    fn signed_bytes(kind: ClaimKind, chain: &ChainId, key: &PublicKey, node: &NodeId) -> Vec<u8> {
        Writer::signed(0x21).raw(&chain.0).u8(kind as u8).raw(&key.0).raw(&node.0).done()
    }

    pub fn sign(kind: ClaimKind, chain: &ChainId, key: &SecretKey, node: &NodeId) -> Self {
        let signature = key.sign(&Self::signed_bytes(kind, chain, &key.public(), node));
        Self { kind, key: key.public(), signature }
    }

    /// # Errors
    /// The claimed key did not sign for this node on this chain.
    pub fn verify(&self, chain: &ChainId, node: &NodeId) -> Result<(), BadSignature> {
        verify(&self.key, &Self::signed_bytes(self.kind, chain, &self.key, node), &self.signature)
    }
}

/// A node and where it was reached with success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRecord {
    pub node: NodeId,
    pub addresses: Vec<String>,
}

/// What a node is, said once per connection and again in its presence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub roles: Roles,
    pub height: Height,
    pub claims: Vec<Claim>,
    pub addresses: Vec<String>,
}

/// The first words on a connection (N11).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub chain: ChainId,
    pub software: String,
    pub about: About,
    /// Nodes the speaker has dialled with success.
    pub known: Vec<PeerRecord>,
}

/// A node's word to the whole network, once a minute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Presence {
    pub about: About,
    /// Rises with every word of one node; an older one never replaces a newer.
    pub sequence: u64,
}

/// Why a hello or presence is refused.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("signed by {author:?}, delivered as {node:?}")]
    NotTheNode { author: NodeId, node: NodeId },
    #[error("the claim on {key:?} does not hold")]
    Claim { key: PublicKey },
    #[error("{what} holds {found}, at most {limit} are allowed")]
    TooMany { what: &'static str, found: usize, limit: usize },
    /// Both ids, so that a person sees which genesis file is the wrong one.
    #[error("another network: its chain id is {theirs}, ours is {ours}")]
    OtherChain { ours: ChainId, theirs: ChainId },
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), HelloError> {
    if found > limit { Err(HelloError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn check_addresses(addresses: &[String]) -> Result<(), HelloError> {
    at_most("the address list", addresses.len(), ADDRESSES_MAX)?;
    addresses.iter().try_for_each(|a| at_most("an address", a.len(), ADDRESS_BYTES_MAX))
}

impl About {
    fn check(&self, chain: &ChainId, node: &NodeId) -> Result<(), HelloError> {
        check_addresses(&self.addresses)?;
        at_most("the claim list", self.claims.len(), CLAIMS_MAX)?;
        self.claims
            .iter()
            .try_for_each(|claim| claim.verify(chain, node).map_err(|_| HelloError::Claim { key: claim.key }))
    }

    /// The key this node proved to speak for.
    pub fn claimed(&self, kind: ClaimKind) -> Option<PublicKey> {
        self.claims.iter().find(|claim| claim.kind == kind).map(|claim| claim.key)
    }
}

impl Hello {
    /// Signs the hello for the chain named in it. The tag's chain is all zero, so that a node of another network can still
    /// be told apart from a liar.
    pub fn seal(&self, node: &SecretKey) -> Envelope {
        Envelope::seal(Tag::Hello, &ChainId::ZERO, node, self)
    }

    /// Opens and checks a hello delivered by `node`.
    ///
    /// # Errors
    /// Not signed by that node, of another chain, out of bounds, or with a claim that does not hold.
    pub fn open(envelope: &Envelope, ours: &ChainId, node: &NodeId) -> Result<Self, HelloError> {
        let author = NodeId(envelope.author.0);
        if author != *node {
            return Err(HelloError::NotTheNode { author, node: *node });
        }
        let hello: Self = envelope.open::<_, HELLO_BYTES_MAX>(Tag::Hello, &ChainId::ZERO)?;
        if hello.chain != *ours {
            return Err(HelloError::OtherChain { ours: *ours, theirs: hello.chain });
        }
        at_most("the software name", hello.software.len(), 64)?;
        at_most("the list of known nodes", hello.known.len(), RECORDS_MAX)?;
        hello.known.iter().try_for_each(|record| check_addresses(&record.addresses))?;
        hello.about.check(ours, node)?;
        Ok(hello)
    }
}

impl Presence {
    pub fn seal(&self, chain: &ChainId, node: &SecretKey) -> Envelope {
        Envelope::seal(Tag::Presence, chain, node, self)
    }

    /// Opens and checks a presence from whoever delivered it: the author is the node it speaks of.
    ///
    /// # Errors
    /// The signature, a bound or a claim does not hold.
    pub fn open(envelope: &Envelope, chain: &ChainId) -> Result<(NodeId, Self), HelloError> {
        let presence: Self = envelope.open::<_, PRESENCE_BYTES_MAX>(Tag::Presence, chain)?;
        let node = NodeId(envelope.author.0);
        presence.about.check(chain, &node)?;
        Ok((node, presence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(chain: &ChainId, account: &SecretKey, node: &SecretKey) -> About {
        let claims = vec![Claim::sign(ClaimKind::Account, chain, account, &NodeId(node.public().0))];
        About { roles: Roles::MINER, height: 7, claims, addresses: vec!["/ip4/10.0.0.1/tcp/1".into()] }
    }

    #[test]
    fn a_hello_holds_for_its_node_and_chain() {
        let (chain, other) = (ChainId([1; 32]), ChainId([2; 32]));
        let (account, node) = (SecretKey::from_seed([3; 32]), SecretKey::from_seed([4; 32]));
        let id = NodeId(node.public().0);
        let hello = Hello { chain, software: "starling".into(), about: about(&chain, &account, &node), known: vec![] };
        let envelope = hello.seal(&node);
        let opened = Hello::open(&envelope, &chain, &id).unwrap();
        assert_eq!(opened.about.claimed(ClaimKind::Account), Some(account.public()));
        assert!(matches!(Hello::open(&envelope, &other, &id), Err(HelloError::OtherChain { .. })));
        assert!(matches!(Hello::open(&envelope, &chain, &NodeId([9; 32])), Err(HelloError::NotTheNode { .. })));
    }

    #[test]
    fn a_claim_cannot_be_lent_to_another_node() {
        let chain = ChainId([1; 32]);
        let (account, node, thief) =
            (SecretKey::from_seed([3; 32]), SecretKey::from_seed([4; 32]), SecretKey::from_seed([5; 32]));
        let presence = Presence { about: about(&chain, &account, &node), sequence: 1 };
        assert!(Presence::open(&presence.seal(&chain, &node), &chain).is_ok());
        assert!(matches!(Presence::open(&presence.seal(&chain, &thief), &chain), Err(HelloError::Claim { .. })));
    }

    #[test]
    fn roles_have_names() {
        let roles = Roles::named("validator").unwrap().with(Roles::GATEWAY);
        assert_eq!(roles.names(), ["validator", "gateway"]);
        assert_eq!(Roles::named("king"), None);
    }
}
