//! The binary BLAKE3 Merkle tree of lists in a header: transactions, receipts (L20).
//!
//! Leaves and inner nodes carry different prefixes, so neither passes for the other; an odd node is promoted, never
//! duplicated, so no two lists share a root. The root of the empty list is zero, which no leaf or node hashes to.

use super::ids::Digest;

fn digest(prefix: u8, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[prefix]);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The root over the leaves in order.
pub fn merkle_root<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut level: Vec<[u8; 32]> = leaves.into_iter().map(|leaf| digest(0, &[leaf])).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => digest(1, &[left, right]),
                [odd] => *odd,
                _ => [0; 32],
            })
            .collect();
    }
    Digest(level.first().copied().unwrap_or([0; 32]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_follow_the_stated_construction() {
        let leaf = |x: &[u8]| *blake3::hash(&[&[0], x].concat()).as_bytes();
        let node = |l: [u8; 32], r: [u8; 32]| *blake3::hash(&[&[1][..], &l, &r].concat()).as_bytes();
        assert_eq!(merkle_root([]), Digest::ZERO);
        assert_eq!(merkle_root([&b"a"[..]]), Digest(leaf(b"a")));
        let three = node(node(leaf(b"a"), leaf(b"b")), leaf(b"c"));
        assert_eq!(merkle_root([&b"a"[..], b"b", b"c"]), Digest(three));
        assert_ne!(merkle_root([&b"a"[..], b"b", b"c"]), merkle_root([&b"a"[..], b"b", b"c", b"c"]));
    }
}
