//! The published stories of Yuma 3, told in the native mode (T2): who moves when, and what it has of it.
//!
//! Miner 10 is the one everybody weighs at first, miner 11 the one that turns out to be better. What is compared is the
//! dividend for each unit of stake, over that of all.

use super::*;
use crate::ledger::incentive::fixed::ONE;

const OLD: u32 = 10;
const NEW: u32 = 11;

/// Validators that speak epoch after epoch, bonds carried from one to the next.
struct Story {
    stakes: Vec<u64>,
    bonds: Vec<Arc<BondBlock>>,
    reset: Option<u32>,
}

impl Story {
    /// Everybody has weighed the old miner for so long that all bonds on it are full.
    fn of(stakes: &[u64]) -> Self {
        let mut story = Self { stakes: stakes.to_vec(), bonds: Vec::new(), reset: None };
        for _ in 0..300 {
            story.epoch(&vec![&[(OLD, 1)][..]; stakes.len()]);
        }
        story
    }

    /// An epoch in which each validator says this.
    fn epoch(&mut self, says: &[&[(u32, u32)]]) -> EpochResult {
        let rows = (0..).zip(&self.stakes).zip(says).map(|((id, stake), says)| row(id, *stake, says)).collect();
        let mut of = input(Switches::native(), rows, vec![column(OLD), column(NEW), column(12)]);
        for column in &mut of.columns {
            column.reset = Some(column.member.0) == self.reset;
        }
        of.bonds = std::mem::take(&mut self.bonds);
        let out = run(of);
        self.bonds = out.bonds.blocks(&out.rows, &out.columns).into_iter().map(|(_, b)| Arc::new(b)).collect();
        out
    }

    /// An epoch in which each validator weighs one miner: what each has for its stake, in thousandths of the mean.
    fn each_on(&mut self, on: &[u32]) -> Vec<i64> {
        let says: Vec<[(u32, u32); 1]> = on.iter().map(|miner| [(*miner, 1)]).collect();
        let out = self.epoch(&says.iter().map(|of| &of[..]).collect::<Vec<_>>());
        of_rows(&out, |row| i64::try_from(i128::from(row.dividend) * 1_000 / i128::from(row.stake.max(1))).unwrap())
    }
}

#[test]
fn t02_kappa_moves_first_and_has_the_most_of_it() {
    let mut story = Story::of(&[80, 10, 10]);
    let first = story.each_on(&[NEW, OLD, OLD]);
    assert!(first[0] > 1_240 && first[1] == 0 && first[2] == 0, "all that is agreed on is the new miner: {first:?}");
    let second = story.each_on(&[NEW, NEW, OLD]);
    assert!(second[0] > second[1] && second[1] > 0 && second[2] == 0, "{second:?}");
    for epoch in 0..20 {
        let found = story.each_on(&[NEW; 3]);
        assert!(found[0] > found[1] && found[1] > found[2], "epoch {epoch}: {found:?}");
    }
    (0..100).for_each(|_| drop(story.each_on(&[NEW; 3])));
    assert!(story.each_on(&[NEW; 3]).iter().all(|part| part.abs_diff(1_000) < 3), "in the end all are level");
}

#[test]
fn t02_kappa_moves_second_and_who_was_alone_gains_nothing_by_it() {
    let mut story = Story::of(&[80, 10, 10]);
    let alone = story.each_on(&[OLD, NEW, OLD]);
    assert!(alone[1] < alone[0] && alone[0] == alone[2], "it gave up bonds for a miner nobody else sees: {alone:?}");
    let joined = story.each_on(&[NEW, NEW, OLD]);
    assert!(joined[0].abs_diff(joined[1]) <= 1 && joined[2] == 0, "both begin now: {joined:?}");
    let late = story.each_on(&[NEW; 3]);
    assert!(late[0].abs_diff(late[1]) <= 1 && late[2] < late[0], "{late:?}");
}

#[test]
fn t02_kappa_moves_last_and_nobody_is_ahead() {
    let mut story = Story::of(&[80, 10, 10]);
    story.each_on(&[OLD, NEW, OLD]);
    let waiting = story.each_on(&[OLD, NEW, NEW]);
    assert!(waiting[0] > waiting[2] && waiting[2] > waiting[1], "bonds fade the longer one is away: {waiting:?}");
    let moved = story.each_on(&[NEW; 3]);
    assert!(moved.iter().all(|part| part.abs_diff(1_000) <= 1), "all begin at once: {moved:?}");
}

#[test]
fn t02_a_switch_for_one_epoch_costs_until_the_bonds_are_back() {
    let mut story = Story::of(&[40, 30, 30]);
    let away = story.each_on(&[OLD, OLD, NEW]);
    let back: Vec<Vec<i64>> = (0..60).map(|_| story.each_on(&[OLD; 3])).collect();
    assert!(away[2] < 1_000 && back[0][2] < 1_000, "{away:?} {:?}", back[0]);
    assert!(back.windows(2).all(|pair| pair[1][2] >= pair[0][2]), "it only gets better");
    assert!(back[59].iter().all(|part| part.abs_diff(1_000) < 3), "{:?}", back[59]);
}

#[test]
fn t02_bonds_on_a_stable_miner_do_not_follow_what_happens_to_others() {
    let run = |second: &[(u32, u32)]| {
        let mut story = Story::of(&[60, 40]);
        (0..5).for_each(|_| drop(story.epoch(&[&[(OLD, 1), (12, 1)], &[(OLD, 1), (12, 1)]])));
        let out = story.epoch(&[&[(OLD, 1), (12, 1)], second]);
        kept(&out).into_iter().filter(|bond| bond.1 == 12).collect::<Vec<_>>()
    };
    let stable = run(&[(OLD, 1), (12, 1)]);
    assert_eq!(stable.len(), 2);
    assert_eq!(run(&[(NEW, 1), (12, 1)]), stable);
}

#[test]
fn t02_a_reset_makes_all_bonds_on_a_miner_begin_again() {
    let mut story = Story::of(&[60, 40]);
    story.each_on(&[OLD, NEW]);
    story.reset = Some(OLD);
    let out = story.epoch(&[&[(OLD, 1)], &[(OLD, 1)]]);
    let bonds: Vec<u32> = kept(&out).into_iter().filter(|bond| bond.1 == OLD).map(|bond| bond.2).collect();
    let step = u32::try_from(ONE / 10).unwrap();
    assert!(bonds.len() == 2 && bonds.iter().all(|bond| bond.abs_diff(step) < 10), "a tenth of the weight: {bonds:?}");
    assert!(of_rows(&out, |row| (row.dividend - row.stake).abs()).iter().all(|off| *off < 10));
}

#[test]
fn t02_a_large_validator_that_comes_late_catches_up_slowly() {
    let mut story = Story::of(&[30, 30, 40]);
    (0..6).for_each(|_| drop(story.each_on(&[NEW, NEW, OLD])));
    let parts: Vec<i64> = (0..80).map(|_| story.each_on(&[NEW; 3])[2]).collect();
    assert!(parts[0] < 300, "six epochs of the others' bonds: {}", parts[0]);
    assert!(parts.windows(2).all(|pair| pair[1] >= pair[0]), "{parts:?}");
    assert!(parts[79].abs_diff(1_000) < 3, "{}", parts[79]);
}
