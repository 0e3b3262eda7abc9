//! The state commitment: a persistent binary radix tree with a digest in every node (L28).
//!
//! A key is the digest of table and row key, so the tree is balanced by chance and nobody can make it deep cheaply. A
//! subtree with one leaf *is* that leaf, an empty one is all zeros; hence one shape per content, whatever the order of
//! the writes. Nodes are shared between versions: an update copies the path it touches and hashes each node once, and an
//! old root stays readable for as long as somebody holds it. A proof is the digests beside the path and what was found
//! at its end, and shows absence as well as presence.

use std::sync::Arc;

use crate::protocol::ids::{Digest, hash};

/// Bits of a key, hence the greatest depth.
const BITS: usize = 256;

#[derive(Debug)]
enum Node {
    Leaf { key: Digest, value: Digest, digest: Digest },
    Branch { left: Tree, right: Tree, digest: Digest },
}

/// A tree; cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Tree(Option<Arc<Node>>);

/// What `update` is given: keys strictly ascending; none removes.
pub type Change = (Digest, Option<Digest>);

fn leaf_digest(key: &Digest, value: &Digest) -> Digest {
    hash("starling/1 state leaf", &[&key.0, &value.0])
}

fn branch_digest(left: &Digest, right: &Digest) -> Digest {
    hash("starling/1 state branch", &[&left.0, &right.0])
}

/// The digest a value has in a leaf.
pub fn value_digest(value: &[u8]) -> Digest {
    hash("starling/1 state value", &[value])
}

fn bit(key: &Digest, depth: usize) -> bool {
    key.0.get(depth / 8).is_some_and(|byte| (byte >> (7 - depth % 8)) & 1 == 1)
}

impl Tree {
    /// The digest of everything in the tree.
    pub fn root(&self) -> Digest {
        match self.0.as_deref() {
            None => Digest::ZERO,
            Some(Node::Leaf { digest, .. } | Node::Branch { digest, .. }) => *digest,
        }
    }

    fn leaf(key: Digest, value: Digest) -> Self {
        Self(Some(Arc::new(Node::Leaf { key, value, digest: leaf_digest(&key, &value) })))
    }

    /// Joins two halves; a single leaf moves up.
    fn join(left: Self, right: Self) -> Self {
        match (left.0.as_deref(), right.0.as_deref()) {
            (None, None) => Self(None),
            (Some(Node::Leaf { .. }), None) => left,
            (None, Some(Node::Leaf { .. })) => right,
            _ => {
                let digest = branch_digest(&left.root(), &right.root());
                Self(Some(Arc::new(Node::Branch { left, right, digest })))
            }
        }
    }

    /// The tree after the changes, which must ascend strictly by key.
    #[must_use]
    pub fn update(&self, changes: &[Change]) -> Self {
        debug_assert!(changes.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0)), "changes ascend");
        self.update_at(changes, 0)
    }

    fn update_at(&self, changes: &[Change], depth: usize) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        match self.0.as_deref() {
            Some(Node::Branch { left, right, .. }) => {
                let (low, high) = changes.split_at(changes.partition_point(|(key, _)| !bit(key, depth)));
                Self::join(left.update_at(low, depth + 1), right.update_at(high, depth + 1))
            }
            Some(Node::Leaf { key, value, .. }) => {
                let place = changes.partition_point(|change| change.0 < *key);
                if changes.get(place).is_some_and(|change| change.0 == *key) {
                    return Self::build(changes, depth);
                }
                let mut merged = changes.to_vec();
                merged.insert(place, (*key, Some(*value)));
                Self::build(&merged, depth)
            }
            None => Self::build(changes, depth),
        }
    }

    /// A tree of these leaves alone.
    fn build(changes: &[Change], depth: usize) -> Self {
        match changes {
            [] => Self(None),
            [(key, value)] => value.map_or(Self(None), |value| Self::leaf(*key, value)),
            _ if depth >= BITS => Self(None),
            _ => {
                let (low, high) = changes.split_at(changes.partition_point(|(key, _)| !bit(key, depth)));
                Self::join(Self::build(low, depth + 1), Self::build(high, depth + 1))
            }
        }
    }

    /// What the tree holds, or does not hold, at a key.
    pub fn prove(&self, key: &Digest) -> Proof {
        let mut siblings = Vec::new();
        let mut at = self.clone();
        loop {
            let next = match at.0.as_deref() {
                None => return Proof { siblings, end: None },
                Some(Node::Leaf { key, value, .. }) => return Proof { siblings, end: Some((*key, *value)) },
                Some(Node::Branch { left, right, .. }) => {
                    let (next, sibling) = if bit(key, siblings.len()) { (right, left) } else { (left, right) };
                    siblings.push(sibling.root());
                    next.clone()
                }
            };
            at = next;
        }
    }
}

/// A path through the tree.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Proof {
    /// From the root down.
    pub siblings: Vec<Digest>,
    /// The leaf at the end of the path, if there is one.
    pub end: Option<(Digest, Digest)>,
}

/// A proof shows something else than claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead from this value to this root")]
pub struct BadProof;

impl Proof {
    /// Whether the root holds this value digest at the key, or nothing when none is claimed.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, root: &Digest, key: &Digest, value: Option<&Digest>) -> Result<(), BadProof> {
        if self.siblings.len() > BITS {
            return Err(BadProof);
        }
        let shown = self.end.as_ref().filter(|(found, _)| found == key).map(|(_, value)| value);
        if shown != value {
            return Err(BadProof);
        }
        if let Some((found, _)) = &self.end {
            // Another leaf proves absence only where this key would have to be.
            if (0..self.siblings.len()).any(|depth| bit(found, depth) != bit(key, depth)) {
                return Err(BadProof);
            }
        }
        let mut digest = self.end.as_ref().map_or(Digest::ZERO, |(key, value)| leaf_digest(key, value));
        for (depth, sibling) in self.siblings.iter().enumerate().rev() {
            digest = if bit(key, depth) { branch_digest(sibling, &digest) } else { branch_digest(&digest, sibling) };
        }
        if digest == *root { Ok(()) } else { Err(BadProof) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The definition, without any sharing: split by bits, a lone leaf stands for its subtree.
    fn naive(leaves: &BTreeMap<Digest, Digest>, depth: usize) -> Digest {
        if leaves.len() <= 1 {
            return leaves.iter().next().map_or(Digest::ZERO, |(key, value)| leaf_digest(key, value));
        }
        let half = |side: bool| {
            let part = leaves.iter().filter(|(key, _)| bit(key, depth) == side).map(|(k, v)| (*k, *v)).collect();
            naive(&part, depth + 1)
        };
        branch_digest(&half(false), &half(true))
    }

    /// Few distinct keys, many with long common prefixes.
    fn key() -> impl Strategy<Value = Digest> {
        (0..6_u8, 0..4_u8, 0..3_u8).prop_map(|(first, middle, last)| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[16], bytes[31]) = (first << 5, middle, last);
            Digest(bytes)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_history_gives_the_root_of_its_content_and_proofs_hold(
            steps in prop::collection::vec(prop::collection::btree_map(key(), prop::option::of(0..9_u8), 0..12), 1..8),
            asked in prop::collection::vec(key(), 8),
        ) {
            let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
            for step in steps {
                let changes: Vec<Change> =
                    step.iter().map(|(key, value)| (*key, value.map(|v| value_digest(&[v])))).collect();
                for (key, value) in &changes {
                    match value {
                        Some(value) => plain.insert(*key, *value),
                        None => plain.remove(key),
                    };
                }
                let before = tree.root();
                let next = tree.update(&changes);
                prop_assert_eq!(tree.root(), before);
                tree = next;
                prop_assert_eq!(tree.root(), naive(&plain, 0));
            }
            for key in asked {
                let proof = tree.prove(&key);
                let root = tree.root();
                prop_assert_eq!(proof.verify(&root, &key, plain.get(&key)), Ok(()));
                let other = value_digest(b"other");
                prop_assert_eq!(proof.verify(&root, &key, Some(&other)), Err(BadProof));
                if plain.contains_key(&key) {
                    prop_assert_eq!(proof.verify(&root, &key, None), Err(BadProof));
                }
                prop_assert_eq!(proof.verify(&Digest([7; 32]), &key, plain.get(&key)), Err(BadProof));
            }
        }
    }

    #[test]
    fn a_foreign_leaf_proves_no_absence() {
        let keys: Vec<Digest> = (0..64_u8).map(|i| value_digest(&[i])).collect();
        let mut changes: Vec<Change> = keys.iter().map(|key| (*key, Some(*key))).collect();
        changes.sort();
        let tree = Tree::default().update(&changes);
        let proof = tree.prove(&keys[0]);
        for key in &keys[1..] {
            assert_eq!(proof.verify(&tree.root(), key, None), Err(BadProof));
        }
    }
}
