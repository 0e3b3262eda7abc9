//! What validators agree a miner is worth (Y6-Y10), one column at a time.
//!
//! An entry of a column is one `u64`: the weight above, then whether the row is related, then the row's place. Sorted as
//! plain numbers, entries are in the order of their weights. Consensus and lift are the same question with another
//! threshold: the smallest weight with more than so much stake at or below it.

use super::defence::Lifting;
use super::fixed::{Q, mul, sub};
use super::switches::Sums;

const RELATED: u64 = 1 << 16;
const WEIGHT_SHIFT: u32 = 17;

/// One row's word on a column: weight, relation and place in one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u64);

impl Entry {
    pub fn new(row: u16, weight: Q, related: bool) -> Self {
        let flag = if related { RELATED } else { 0 };
        Self((weight.unsigned_abs() << WEIGHT_SHIFT) | flag | u64::from(row))
    }

    #[inline]
    pub fn row(self) -> u16 {
        u16::try_from(self.0 & u64::from(u16::MAX)).unwrap_or(u16::MAX)
    }

    #[inline]
    pub fn weight(self) -> Q {
        Q::try_from(self.0 >> WEIGHT_SHIFT).unwrap_or(Q::MAX)
    }

    #[inline]
    pub fn related(self) -> bool {
        self.0 & RELATED != 0
    }
}

/// Who has a voice: parts of the stake that spoke.
#[derive(Debug, Default)]
pub(super) struct Voices {
    /// A of every row (Y4).
    pub active: Vec<Q>,
    /// u of every row: A made whole again.
    pub voice: Vec<Q>,
    /// T: the sum of all voices.
    pub total: Q,
}

impl Voices {
    #[inline]
    pub fn active(&self, row: u16) -> Q {
        self.active.get(usize::from(row)).copied().unwrap_or(0)
    }

    #[inline]
    pub fn voice(&self, row: u16) -> Q {
        self.voice.get(usize::from(row)).copied().unwrap_or(0)
    }
}

/// The smallest weight with more than `threshold` of the stake at or below it, the largest weight when there is none;
/// equality counts as not above (Y7).
///
/// `words` are weights above 0 with their stake, in any order, which changes; all other stake of `total` holds 0.
pub fn quantile(words: &mut [(Q, Q)], total: Q, threshold: Q) -> Q {
    select(words, |word| *word, total, threshold)
}

/// Of so few words the order is found at once.
const FEW: usize = 24;

/// `quantile` of anything that is in the order of its weights, by halving: nothing is sorted that the answer is not near.
fn select<T: Ord>(mut words: &mut [T], word: impl Fn(&T) -> (Q, Q), total: Q, threshold: Q) -> Q {
    let stake = |of: &[T]| -> Q { of.iter().map(|of| word(of).1).sum() };
    let mut below = sub(total, stake(words));
    if below > threshold && below > 0 {
        return 0;
    }
    let mut largest = 0;
    while words.len() > FEW {
        let (lower, at, upper) = words.select_nth_unstable(words.len() / 2);
        let lower_stake = stake(lower);
        if below + lower_stake > threshold {
            words = lower;
            continue;
        }
        let (weight, own) = word(at);
        below += lower_stake + own;
        largest = weight;
        if below > threshold {
            return largest;
        }
        words = upper;
    }
    words.sort_unstable();
    for (weight, stake) in words.iter().map(word) {
        below += stake;
        largest = weight;
        if below > threshold {
            break;
        }
    }
    largest
}

/// The same where some rows are related to the miner (Y6, decision 24). Whether a weight is reached is asked without the
/// related rows that give more, so a related row can lower what is found and never raise it: this is the least that leaving
/// out any of them comes to.
///
/// `sorted` are weights above 0, ascending, stake and whether the row is related; `threshold` is that of a set whose voices sum to its argument.
/// It must not fall, and not rise faster than the sum.
pub fn lowered(mut sorted: impl Iterator<Item = (Q, Q, bool)> + Clone, total: Q, threshold: impl Fn(Q) -> Q) -> Q {
    let above = |related: bool| -> Q { sorted.clone().filter(|of| of.2 == related).map(|of| of.1).sum() };
    // Related rows above what is looked at are left aside; the others above it are still to come.
    let (mut aside, mut left) = (above(true), above(false));
    let mut below = total - aside - left;
    let mut found = 0;
    while left > 0 && below <= threshold(total - aside) {
        let Some((weight, stake, related)) = sorted.next() else { break };
        found = weight;
        below += stake;
        *(if related { &mut aside } else { &mut left }) -= stake;
    }
    found
}

/// The stake that may stay at or below the consensus of a set whose voices sum to `total`.
pub fn minority(total: Q, kappa: Q, of_set: bool) -> Q {
    sub(total, if of_set { mul(kappa, total) } else { kappa })
}

/// How columns of an epoch are judged.
pub(super) struct Judge<'a> {
    pub voices: &'a Voices,
    pub kappa: Q,
    /// Whether kappa is a part of the set that speaks, or of all there is (Y7).
    pub of_set: bool,
    pub lifting: Option<Lifting>,
    pub sums: Sums,
}

/// What is found about a column.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    pub consensus: Q,
    pub lift: Q,
    pub sum: u128,
    pub prerank: Q,
}

impl Judge<'_> {
    /// C and L (Y7, D7). `heard` is room for the words of those who have a voice.
    pub fn agree(&self, entries: &[Entry], related: &[u16], heard: &mut Vec<Entry>) -> (Q, Q) {
        heard.clear();
        heard.extend(entries.iter().filter(|e| e.weight() > 0 && self.voices.voice(e.row()) > 0));
        if !related.is_empty() {
            heard.sort_unstable();
        }
        let consensus = self.level(heard, related, |total| minority(total, self.kappa, self.of_set));
        let lift = |lifting: Lifting| {
            let low = self.level(heard, related, |total| lifting.threshold(total));
            lifting.level(low, consensus)
        };
        (consensus, self.lifting.map_or(0, lift))
    }

    fn level(&self, heard: &mut [Entry], related: &[u16], threshold: impl Fn(Q) -> Q) -> Q {
        let (voices, total) = (self.voices, self.voices.total);
        if related.is_empty() {
            return select(heard, |e| (e.weight(), voices.voice(e.row())), total, threshold(total));
        }
        lowered(heard.iter().map(|e| (e.weight(), voices.voice(e.row()), e.related())), total, threshold)
    }

    /// X and P (Y8-Y10), and the trust each row earns here.
    pub fn rank(&self, entries: &[Entry], related: &[u16], found: &mut Judged, trust: &mut [Q]) {
        let (consensus, lift) = (found.consensus, found.lift);
        let (mut sum, mut before) = (Total::new(self.sums), Total::new(self.sums));
        // What the rows that have no entry here are lifted by.
        let mut spoken = 0;
        for entry in entries {
            let (row, weight) = (entry.row(), entry.weight());
            let (active, clipped) = (self.voices.active(row), weight.min(consensus));
            if let Some(trust) = trust.get_mut(usize::from(row)) {
                *trust += clipped;
            }
            if active == 0 {
                continue;
            }
            let counted = if entry.related() { clipped } else { clipped.max(lift) };
            sum.add(active, counted);
            before.add(active, weight);
            spoken += if entry.related() { 0 } else { active };
        }
        if lift > 0 {
            self.lift_the_silent(entries, related, spoken, lift, &mut sum);
        }
        (found.sum, found.prerank) = (sum.q64, before.whole());
    }

    /// Unrelated rows without an entry count as the lift (Y9).
    fn lift_the_silent(&self, entries: &[Entry], related: &[u16], spoken: Q, lift: Q, sum: &mut Total) {
        let active: Q = self.voices.active.iter().sum();
        let away: Q = related.iter().map(|row| self.voices.active(*row)).sum();
        if self.sums == Sums::Exact {
            sum.add(active - away - spoken, lift);
            return;
        }
        // Entries are in the order of their rows, and so are the related.
        let (mut entries, mut related) = (entries.iter().peekable(), related.iter().peekable());
        for (row, active) in (0_u16..).zip(&self.voices.active) {
            let speaks = entries.next_if(|e| e.row() == row).is_some();
            let is_related = related.next_if(|r| **r == row).is_some();
            if !speaks && !is_related {
                sum.add(*active, lift);
            }
        }
    }
}

/// A sum of products, floored each or exact.
pub(super) struct Total {
    sums: Sums,
    pub q64: u128,
}

impl Total {
    pub fn new(sums: Sums) -> Self {
        Self { sums, q64: 0 }
    }

    /// Adds a product of two numbers that are not negative.
    pub fn add(&mut self, a: Q, b: Q) {
        let product = u128::from(a.unsigned_abs()) * u128::from(b.unsigned_abs());
        self.q64 += match self.sums {
            Sums::Floored => (product >> 32) << 32,
            Sums::Exact => product,
        };
    }

    pub fn whole(&self) -> Q {
        super::fixed::sat_u(self.q64 >> 32)
    }
}
