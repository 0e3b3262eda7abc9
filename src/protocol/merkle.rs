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

fn above(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let node = |pair: &[[u8; 32]]| match pair {
        [left, right] => digest(1, &[left, right]),
        [odd] => *odd,
        _ => [0; 32],
    };
    level.chunks(2).map(node).collect()
}

/// The root over the leaves in order.
pub fn merkle_root<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut level: Vec<[u8; 32]> = leaves.into_iter().map(|leaf| digest(0, &[leaf])).collect();
    while level.len() > 1 {
        level = above(&level);
    }
    Digest(level.first().copied().unwrap_or([0; 32]))
}

/// The nodes beside the way from one leaf up to the root; none when there is no such leaf.
pub fn merkle_path<'a>(leaves: impl IntoIterator<Item = &'a [u8]>, index: u64) -> Option<Vec<Digest>> {
    let mut level: Vec<[u8; 32]> = leaves.into_iter().map(|leaf| digest(0, &[leaf])).collect();
    let mut at = usize::try_from(index).ok().filter(|at| *at < level.len())?;
    let mut path = Vec::new();
    while level.len() > 1 {
        // The last of an odd level goes up alone and has nothing beside it.
        path.extend(level.get(at ^ 1).map(|beside| Digest(*beside)));
        level = above(&level);
        at /= 2;
    }
    Some(path)
}

/// Whether `leaf` is number `index` of the `count` leaves under `root`. The path of a leaf has one length, so that there
/// is one proof of it.
pub fn merkle_holds(root: &Digest, count: u64, index: u64, leaf: &[u8], path: &[Digest]) -> bool {
    if index >= count {
        return false;
    }
    let (mut node, mut at, mut count) = (digest(0, &[leaf]), index, count);
    let mut path = path.iter();
    while count > 1 {
        if at ^ 1 < count {
            let Some(beside) = path.next() else { return false };
            node = if at.is_multiple_of(2) { digest(1, &[&node, &beside.0]) } else { digest(1, &[&beside.0, &node]) };
        }
        (at, count) = (at / 2, count.div_ceil(2));
    }
    path.next().is_none() && node == root.0
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

    #[test]
    fn d14_every_leaf_has_one_path_and_no_other_leaf_passes() {
        for count in 1..20_u64 {
            let leaves: Vec<Vec<u8>> = (0..count).map(|n| vec![u8::try_from(n).unwrap(); 3]).collect();
            let all = || leaves.iter().map(Vec::as_slice);
            let root = merkle_root(all());
            for (index, leaf) in (0..).zip(&leaves) {
                let path = merkle_path(all(), index).unwrap();
                assert!(merkle_holds(&root, count, index, leaf, &path), "{index} of {count}");
                assert!(!merkle_holds(&root, count, index, b"other", &path));
                assert!(!merkle_holds(&root, count, index + 1, leaf, &path));
                let longer = [path.as_slice(), &[Digest::ZERO]].concat();
                assert!(!merkle_holds(&root, count, index, leaf, &longer));
                let shorter = path.split_last().map(|(_, rest)| rest.to_vec());
                assert!(shorter.is_none_or(|path| !merkle_holds(&root, count, index, leaf, &path)));
            }
            assert_eq!(merkle_path(all(), count), None);
        }
        assert!(!merkle_holds(&Digest::ZERO, 0, 0, b"", &[]));
    }
}
