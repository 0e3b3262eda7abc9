//! Who wins a competition (M2): published models, judged side by side on the same samples, in whole numbers.
//!
//! Pure, and without a memory: an epoch's verdict follows from the entries of that epoch and what they scored on its data,
//! so whoever has the models comes to the same. Entries are looked at in the order of their seals. The first is the
//! champion until one that was sealed later beats it: by more than `MARGIN`, and so clearly that among models of equal worth
//! one in a thousand epochs would show it by chance (a paired test; the level of one test is that of the epoch over the
//! fifteen tests an epoch has at most). Who is no better than an earlier entry and errs where that one errs is its copy and
//! gets nothing, whatever noise was put on it. The champion's part falls with its age from three quarters to a half, and the
//! rest goes to the next four by merit.

use crate::protocol::ids::{Digest, Epoch, Height, MemberId, SubnetId, hash};

/// Entries judged in one epoch.
pub const ENTRIES_MAX: usize = 16;
/// Samples of one entry in one epoch at most: the test's sums fit 128 bits up to here.
pub const SAMPLES_MAX: usize = 4_096;
/// All of a score, of a share.
const ONE: u32 = u32::MAX;
/// What a challenger must be better by, of `ONE`: half a hundredth.
const MARGIN: i128 = (ONE / 200) as i128;
/// The square of the bound of one test, in hundredths: 3.82 standard errors are passed by chance once in 15,000 times.
const BOUND_SQUARED: u128 = 1_459;
/// Two entries whose errors go together so closely are one and a copy: the square of their correlation, over 10,000.
const ALIKE_SQUARED: u128 = 9_604;
/// Of the champion's part, over 65,536: what it is at first and what it comes down to.
const FIRST: u64 = 49_152;
const LAST: u64 = 32_768;
/// How the rest is divided among those behind the champion, the best first.
const PLACES: [u64; 4] = [8, 4, 2, 1];

/// A model of an epoch's competition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub member: MemberId,
    pub artifact: Digest,
    /// The height of its seal, or of its record where it was not sealed: who is earlier has the right.
    pub since: Height,
    /// Epochs since it was shown.
    pub age: u32,
    /// One score for each sample, of 2^32 - 1; the same samples in the same order for every entry.
    pub scores: Vec<u32>,
}

/// What an entry turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Champion,
    /// In this place behind the champion, from 1.
    Behind(usize),
    /// It errs where this earlier entry errs, and is no better.
    CopyOf(MemberId),
    /// No better than an answer without knowledge.
    Worthless,
}

/// What an entry gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub member: MemberId,
    /// The mean of its scores.
    pub quality: u32,
    /// Its part of the row, of 2^32 - 1; parts sum to at most that.
    pub share: u32,
    pub standing: Standing,
}

/// Whether a challenger beats an earlier entry: it is better by more than the margin, and clearly so.
///
/// With d the differences less the margin, S their sum and Q the sum of their squares over n samples, this is the paired
/// test S²(n - 1) > z²(nQ - S²). Who has not the same number of samples beats nobody.
pub fn beats(challenger: &[u32], earlier: &[u32]) -> bool {
    let n = challenger.len();
    if n != earlier.len() || !(2..=SAMPLES_MAX).contains(&n) {
        return false;
    }
    let (mut sum, mut squares) = (0_i128, 0_u128);
    for (a, b) in challenger.iter().zip(earlier) {
        let difference = i128::from(*a) - i128::from(*b) - MARGIN;
        sum += difference;
        // At most 2^33 each, 2^12 of them.
        squares += (difference * difference).unsigned_abs();
    }
    if sum <= 0 {
        return false;
    }
    let (n, square) = (n as u128, (sum * sum).unsigned_abs());
    let spread = (n * squares).saturating_sub(square);
    // Squares of 2^45 at most, times 2^12 and 2^7.
    square * (n - 1) * 100 > BOUND_SQUARED * spread
}

/// Whether two entries err alike: their scores are equal, or go up and down together.
pub fn alike(a: &[u32], b: &[u32]) -> bool {
    if a == b {
        return true;
    }
    let n = a.len();
    if n != b.len() || !(2..=SAMPLES_MAX).contains(&n) {
        return false;
    }
    // Sixteen bits of a score are enough to tell, and the squares of sums of products fit.
    let (mut sums, mut squares, mut products) = ((0_i128, 0_i128), (0_i128, 0_i128), 0_i128);
    for (x, y) in a.iter().zip(b).map(|(x, y)| (i128::from(x >> 16), i128::from(y >> 16))) {
        sums = (sums.0 + x, sums.1 + y);
        squares = (squares.0 + x * x, squares.1 + y * y);
        products += x * y;
    }
    let n = n as i128;
    let together = n * products - sums.0 * sums.1;
    let (of_a, of_b) = (n * squares.0 - sums.0 * sums.0, n * squares.1 - sums.1 * sums.1);
    if together <= 0 {
        return false;
    }
    // 2^56 each at most: squared and times 2^14 they fit.
    let (together, apart) = ((together * together).unsigned_abs(), (of_a * of_b).unsigned_abs());
    together * 10_000 >= ALIKE_SQUARED * apart
}

/// The mean of scores.
pub fn mean(scores: &[u32]) -> u32 {
    let sum: u64 = scores.iter().map(|score| u64::from(*score)).sum();
    u32::try_from(sum.checked_div(scores.len() as u64).unwrap_or(0)).unwrap_or(ONE)
}

/// The champion's part at this age, over 65,536; every `half_life` epochs it comes half the way down.
fn champions_part(age: u32, half_life: u32) -> u64 {
    let half_life = half_life.max(1);
    let over = (FIRST - LAST).checked_shr(age / half_life).unwrap_or(0);
    // Straight from one halving to the next.
    LAST + over - over / 2 * u64::from(age % half_life) / u64::from(half_life)
}

/// The verdict of an epoch, in the order of the entries' members. `chance` is what an answer without knowledge scores; what
/// is beyond `ENTRIES_MAX` entries, the last sealed, is not looked at.
pub fn judge(entries: &[Entry], chance: u32, half_life: u32) -> Vec<Verdict> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| (entry.since, entry.member));
    order.truncate(ENTRIES_MAX);
    let mut standings: Vec<(&Entry, Option<Standing>)> = Vec::with_capacity(order.len());
    for entry in order {
        let original = standings
            .iter()
            .map(|(earlier, _)| *earlier)
            .find(|earlier| alike(&entry.scores, &earlier.scores) && !beats(&entry.scores, &earlier.scores));
        let standing = match original {
            _ if mean(&entry.scores) <= chance => Some(Standing::Worthless),
            Some(original) => Some(Standing::CopyOf(original.member)),
            None => None,
        };
        standings.push((entry, standing));
    }
    let rivals = || standings.iter().filter(|(_, standing)| standing.is_none()).map(|(entry, _)| *entry);
    let champion = rivals().fold(None::<&Entry>, |champion, entry| match champion {
        Some(champion) if !beats(&entry.scores, &champion.scores) => Some(champion),
        _ => Some(entry),
    });
    let mut behind: Vec<&Entry> =
        rivals().filter(|entry| champion.is_some_and(|champion| champion.member != entry.member)).collect();
    behind.sort_by_key(|entry| (std::cmp::Reverse(mean(&entry.scores)), entry.since, entry.member));
    let part = champion.map_or(LAST, |champion| champions_part(champion.age, half_life));
    let whole: u64 = PLACES.iter().sum();
    let share = |standing: Standing| {
        let of_row = match standing {
            Standing::Champion if behind.is_empty() => 65_536,
            Standing::Champion => part,
            Standing::Behind(place) => {
                (65_536 - part) * PLACES.get(place.wrapping_sub(1)).copied().unwrap_or(0) / whole
            }
            Standing::CopyOf(_) | Standing::Worthless => 0,
        };
        u32::try_from((of_row * u64::from(ONE)) >> 16).unwrap_or(ONE)
    };
    let place = |member: MemberId| behind.iter().position(|entry| entry.member == member).map_or(0, |at| at + 1);
    let verdict = |(entry, standing): &(&Entry, Option<Standing>)| {
        let member = entry.member;
        let standing = standing.unwrap_or_else(|| match place(member) {
            0 => Standing::Champion,
            place => Standing::Behind(place),
        });
        Verdict { member, quality: mean(&entry.scores), share: share(standing), standing }
    };
    let mut verdicts: Vec<Verdict> = standings.iter().map(verdict).collect();
    verdicts.sort_by_key(|verdict| verdict.member);
    verdicts
}

/// The seed of a question: from the checkpoint that opened the epoch, so that nobody knew it when the models were shown and
/// everybody asks the same (M3).
pub fn question(ground: Digest, subnet: SubnetId, epoch: Epoch, index: u64) -> Digest {
    let (subnet, epoch, index) = (subnet.0.to_le_bytes(), epoch.to_le_bytes(), index.to_le_bytes());
    hash("starling/1 competition", &[&ground.0, &subnet, &epoch, &index])
}

/// What a miner's entries of a score log say for a share: its root, because a row is made of squares (D13).
pub fn score_of(share: u32) -> u32 {
    u32::try_from((u64::from(share) * u64::from(ONE)).isqrt()).unwrap_or(ONE)
}

#[cfg(test)]
mod tests;
