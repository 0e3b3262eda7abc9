//! The Merkle root of a list, by one rule for bodies and receipts (L20).
//!
//! A leaf is hashed behind the byte 0, an inner node behind the byte 1, so that no leaf can pose as a node. An odd last
//! node is promoted, never duplicated: two lists of different length never share a root. The empty list is all zeros.

use super::ids::Digest;

fn leaf(bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&[0]).update(bytes).finalize().as_bytes()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *blake3::Hasher::new().update(&[1]).update(left).update(right).finalize().as_bytes()
}

/// The root over the leaves in their order.
pub fn merkle_root<'a>(leaves: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut level: Vec<[u8; 32]> = leaves.map(leaf).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node(left, right)),
                [odd] => Some(*odd),
                _ => None,
            })
            .collect();
    }
    level.first().copied().map_or(Digest::ZERO, Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(leaves: &[&[u8]]) -> Digest {
        merkle_root(leaves.iter().copied())
    }

    #[test]
    fn the_shape_is_promotion_and_leaves_are_no_nodes() {
        let (a, b, c) = (leaf(b"a"), leaf(b"b"), leaf(b"c"));
        assert_eq!(root(&[]), Digest::ZERO);
        assert_eq!(root(&[b"a"]), Digest(a));
        assert_eq!(root(&[b"a", b"b", b"c"]), Digest(node(&node(&a, &b), &c)));
        assert_ne!(root(&[b"a", b"b", b"c"]), root(&[b"a", b"b", b"c", b"c"]));
        assert_ne!(root(&[b"a", b"b"]), root(&[b"b", b"a"]));
        let forged = [&a[..], &b[..]].concat();
        assert_ne!(root(&[b"a", b"b"]), root(&[&forged]));
    }
}
