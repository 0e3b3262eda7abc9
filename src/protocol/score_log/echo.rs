//! Members that answer as others do: who gave the same bytes to the same question, read from a log (M16).
//!
//! A question of a log is put to every miner at once, so two that compute for themselves differ in some byte, and two
//! that share a model, or of whom one hands on what the other says, do not. Anybody who has the log finds the same
//! echoes; whether they cost anything is the subnet's rule. It is counted by question and not by pair, so that handing on
//! a different miner's answer each time hides nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Digest, Entry, MemberId};

/// Others named at most.
const NAMED_MAX: usize = 8;

/// How far a member's answers are also others'.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Echo {
    pub member: MemberId,
    /// Questions it answered.
    pub answers: u64,
    /// Of them, those to which somebody else gave the same bytes.
    pub shared: u64,
    /// Over all of them, the members that gave its answer, itself among them: `answers` when it is always alone.
    pub givers: u64,
    /// Some who gave the same, in ascending order.
    pub with: Vec<MemberId>,
}

/// Every member that answered, in ascending order. Linear in the entries but for sorting.
pub fn echoes(entries: &[Entry]) -> Vec<Echo> {
    let mut groups: BTreeMap<(Digest, Digest), BTreeSet<MemberId>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.receipt.is_some()) {
        groups.entry((entry.query, entry.answer)).or_default().insert(entry.miner);
    }
    let mut found: BTreeMap<MemberId, Echo> = BTreeMap::new();
    for group in groups.values() {
        for member in group {
            let echo = found.entry(*member).or_insert_with(|| Echo { member: *member, ..Echo::default() });
            echo.answers = echo.answers.saturating_add(1);
            echo.shared = echo.shared.saturating_add(u64::from(group.len() > 1));
            echo.givers = echo.givers.saturating_add(group.len() as u64);
            let others = group.iter().filter(|other| *other != member).take(NAMED_MAX);
            echo.with.extend(others);
            echo.with.sort_unstable();
            echo.with.dedup();
            echo.with.truncate(NAMED_MAX);
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::keys::Signature;

    fn entry(query: u8, miner: u32, answer: u8) -> Entry {
        let silent = Entry::silent(Digest([query; 32]), Digest([query; 32]), MemberId(miner), Digest([query; 32]));
        // 0: no answer came.
        if answer == 0 {
            return silent;
        }
        Entry { answer: Digest([answer; 32]), receipt: Some(Signature([1; 64])), arrival: 1, ..silent }
    }

    /// Questions 1, 2, ... to members 1, 2, ...: `said[question][member]`.
    fn table(said: &[&[u8]]) -> Vec<Entry> {
        let rows = (1..).zip(said);
        rows.flat_map(|(query, row)| (1..).zip(*row).map(move |(miner, answer)| entry(query, miner, *answer))).collect()
    }

    fn brief(found: &[Echo]) -> Vec<(u32, u64, u64, u64, Vec<u32>)> {
        let with = |echo: &Echo| echo.with.iter().map(|member| member.0).collect();
        found.iter().map(|echo| (echo.member.0, echo.answers, echo.shared, echo.givers, with(echo))).collect()
    }

    #[test]
    fn m16_who_answers_as_others_do_is_seen() {
        assert!(echoes(&[]).is_empty());
        // Member 3 says once what 1 says and once what 2 says; 4 says what nobody says, and nothing once.
        let found = echoes(&table(&[&[10, 20, 10, 40], &[11, 21, 21, 0]]));
        let expected = [(1, 2, 1, 3, vec![3]), (2, 2, 1, 3, vec![3]), (3, 2, 2, 4, vec![1, 2]), (4, 1, 0, 1, vec![])];
        assert_eq!(brief(&found), expected);
        // Silence makes nobody equal; the same bytes to another question are another answer.
        assert!(echoes(&table(&[&[0, 0]])).is_empty());
        assert!(echoes(&table(&[&[1, 2], &[2, 1]])).iter().all(|echo| echo.shared == 0));
    }

    proptest! {
        /// The order of entries changes nothing, and every answer has one giver at least.
        #[test]
        fn m16_echoes_are_a_function_of_the_set_of_entries(
            said in prop::collection::vec(prop::collection::vec(0_u8..4, 6), 1..6),
            turn in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<&[u8]> = said.iter().map(Vec::as_slice).collect();
            let mut entries = table(&rows);
            let found = echoes(&entries);
            for echo in &found {
                prop_assert!(echo.givers >= echo.answers + echo.shared && echo.shared <= echo.answers);
                prop_assert_eq!(echo.with.is_empty(), echo.shared == 0);
            }
            let middle = turn.index(entries.len());
            entries.rotate_left(middle);
            prop_assert_eq!(echoes(&entries), found);
        }
    }
}
