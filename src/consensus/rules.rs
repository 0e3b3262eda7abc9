//! The safety rules of a voter as predicates over what it has durably said, and nothing else (C17-C20).
//!
//! Each predicate consults `Rules`, which is strict in every node. Tests weaken one rule at a time and expect the
//! simulator to catch it: a rule whose loss nobody notices is not tested.

use crate::protocol::checkpoint::{Ballot, Candidate, Vote};

/// A rule that tests can switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A quorum is more than two thirds (C2); weakened in the committee itself.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests weaken rules"))]
    Quorum,
    /// No finalize after nullify (C19).
    FinalizeAfterNullify,
    /// No nullify after finalize (C18).
    NullifyAfterFinalize,
    /// Skipped views are proven nullified (C15).
    SkipProof,
    /// Own votes outlive a crash (C36, C38).
    RememberVotes,
    /// One notarize per view (C17).
    NotarizeOnce,
    /// A restarted member does not notarize where it finalized (C17, C38).
    FinalizedBeforeCrash,
}

/// Which rules hold: all, but for one in a test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    weak: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) fn without(rule: Option<Rule>) -> Self {
        Self { weak: rule }
    }

    pub(crate) fn hold(&self, rule: Rule) -> bool {
        self.weak != Some(rule)
    }
}

/// What this member has durably said in one view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) notarized: Option<Candidate>,
    pub(crate) nullified: bool,
    pub(crate) finalized: Option<Candidate>,
    /// The votes as signed, to be sent again verbatim (C38).
    pub(crate) votes: Vec<Vote>,
}

impl Own {
    /// Remembers a vote of ours.
    pub(crate) fn note(&mut self, vote: Vote) {
        match vote.subject.ballot {
            Ballot::Notarize(candidate) => self.notarized = Some(candidate),
            Ballot::Nullify => self.nullified = true,
            Ballot::Finalize(candidate) => self.finalized = Some(candidate),
        }
        if !self.votes.contains(&vote) {
            self.votes.push(vote);
        }
    }

    /// C17, for the first valid proposal of the current view.
    pub(crate) fn may_notarize(&self, rules: Rules, candidate: &Candidate) -> bool {
        let once = match &self.notarized {
            None => true,
            Some(said) => !rules.hold(Rule::NotarizeOnce) && said != candidate,
        };
        let unfinalized = self.finalized.is_none() || !rules.hold(Rule::FinalizedBeforeCrash);
        once && !self.nullified && unfinalized
    }

    /// C18, for the current view.
    pub(crate) fn may_nullify(&self, rules: Rules) -> bool {
        !self.nullified && (self.finalized.is_none() || !rules.hold(Rule::NullifyAfterFinalize))
    }

    /// C19, for a notarized candidate whose body is executed and durable; also in a view long left.
    pub(crate) fn may_finalize(&self, rules: Rules, candidate: &Candidate) -> bool {
        self.finalized.is_none()
            && (!self.nullified || !rules.hold(Rule::FinalizeAfterNullify))
            && self.notarized.as_ref().is_none_or(|said| said == candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::Digest;

    #[test]
    fn what_was_said_decides_what_may_be_said() {
        let [c, d] = [1, 2].map(|hash| Candidate { hash: Digest([hash; 32]), parent_view: 0 });
        let strict = Rules::default();
        // (notarized, nullified, finalized) -> may notarize c, nullify, finalize c
        let cases = [
            ((None, false, None), (true, true, true)),
            ((Some(c), false, None), (false, true, true)),
            ((Some(d), false, None), (false, true, false)),
            ((None, true, None), (false, false, false)),
            ((Some(c), true, None), (false, false, false)),
            ((None, false, Some(c)), (false, false, false)),
            ((Some(c), false, Some(c)), (false, false, false)),
        ];
        for ((notarized, nullified, finalized), expected) in cases {
            let own = Own { notarized, nullified, finalized, votes: vec![] };
            let found = (own.may_notarize(strict, &c), own.may_nullify(strict), own.may_finalize(strict, &c));
            assert_eq!(found, expected, "{own:?}");
        }
    }
}
