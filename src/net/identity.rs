//! Node names and libp2p's names for them. The only place where the two meet.
//!
//! A `NodeId` is an ed25519 public key; a libp2p peer id embeds the same key (identity multihash), so each is computed
//! from the other without a table. Peers with keys of another kind have no `NodeId` and are refused.

use libp2p::identity::{self, Keypair, PublicKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::NetError;
use crate::protocol::ids::NodeId;
use crate::protocol::keys::SecretKey;

/// The key pair of the link identity, through its 32 secret bytes: the two libraries share no type.
pub fn keypair(seed: &[u8; 32]) -> Result<Keypair, NetError> {
    let mut bytes = *seed;
    // libp2p erases the bytes it was given.
    Keypair::ed25519_from_bytes(&mut bytes).map_err(|e| NetError::Build(format!("the link key: {e}")))
}

pub fn node_of_seed(seed: &[u8; 32]) -> NodeId {
    NodeId(SecretKey::from_seed(*seed).public().0)
}

/// `None` when the 32 bytes are no point of the curve.
pub fn peer_of(node: NodeId) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// `None` when the peer's key is not ed25519.
pub fn node_of(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    // Code 0 is the identity multihash: the digest is the protobuf of the key itself.
    if hash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(NodeId(key.to_bytes()))
}

/// The peer that an address ends in.
pub fn peer_in(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Reads a peer id, or the end of a multiaddress.
pub fn node_of_text(text: &str) -> Option<NodeId> {
    if let Ok(peer) = text.parse::<PeerId>() {
        return node_of(&peer);
    }
    node_of(&peer_in(&text.parse().ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_peer_name_each_other() {
        let seed = [9; 32];
        let node = node_of_seed(&seed);
        let peer = keypair(&seed).unwrap().public().to_peer_id();
        assert_eq!(peer_of(node), Some(peer));
        assert_eq!(node_of(&peer), Some(node));
        assert_eq!(node_of_text(&peer.to_base58()), Some(node));
        assert_eq!(node_of_text(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")), Some(node));
        assert_eq!(node_of_text("/ip4/127.0.0.1/tcp/1"), None);
    }
}
