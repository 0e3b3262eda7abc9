//! Logs made, published, done again, and tampered with.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::protocol::ids::MemberId;

const CHAIN: ChainId = ChainId([7; 32]);
const SUBNET: SubnetId = SubnetId(1);
const ONE: u32 = u32::MAX;

fn operator(member: MemberId) -> SecretKey {
    SecretKey::from_seed([u8::try_from(member.0).unwrap(); 32])
}

fn rules() -> Rules {
    Rules { chance: ONE / 5, fresh: 32_768, deadline_ms: 2_000, samples: 32, full: FULL_U16, echoes_share: false }
}

fn entry(n: u8, miner: u32, score: u32) -> Entry {
    let digest = |what: u8| Digest([what.wrapping_add(n); 32]);
    let silent = Entry::silent(digest(1), digest(2), MemberId(miner), digest(3));
    if score == 0 {
        return silent;
    }
    let mut entry = Entry { answer: digest(4), arrival: 2, raw: vec![score, ONE], score, ..silent };
    entry.receipt = Some(entry.receipt_of(CHAIN, SUBNET).sign(&operator(entry.miner)));
    entry
}

fn log(entries: Vec<Entry>, before: Board) -> ScoreLog {
    let (scorer, before_digest) = (Digest([9; 32]), Digest::ZERO);
    let (chain, subnet, epoch, validator) = (CHAIN, SUBNET, 4, MemberId(0));
    let head =
        Head { chain, subnet, epoch, validator, scorer, rules: rules(), before: before_digest, after: before_digest };
    ScoreLog::new(head, entries, before, vec![vec![1, 2, 3]])
}

fn claim(log: &ScoreLog) -> Claim {
    let Head { chain, subnet, epoch, validator, scorer, .. } = log.head;
    let (rules, log_root, log_len) = (log.head.rules.digest(), log.root(), log.leaf_count());
    Claim { chain, subnet, epoch, validator, scorer, rules, log_root, log_len, row: log.row() }
}

fn judge(log: &ScoreLog, claim: &Claim) -> Result<(), Difference> {
    replay(log, claim, None, |member| Some(operator(member).public()))
}

fn sample() -> ScoreLog {
    let before = Board { scores: [(MemberId(3), ONE / 2), (MemberId(9), ONE)].into() };
    log(vec![entry(0, 3, ONE / 10 * 9), entry(1, 4, ONE / 2), entry(2, 5, 0), entry(3, 3, ONE / 10 * 7)], before)
}

#[test]
fn d11_a_log_reads_back_and_every_cut_is_refused() {
    let log = sample();
    let bytes = log.encode();
    assert_eq!(ScoreLog::decode(&bytes).unwrap(), log);
    for cut in 0..bytes.len() {
        assert!(ScoreLog::decode(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(ScoreLog::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    for entry in &log.entries {
        assert_eq!(Entry::from_leaf(&entry.leaf()).unwrap(), *entry);
    }
    // A count that promises more than there can be is refused before anything is made for it.
    let at = 1 + log.head.leaf().len();
    let mut bomb = bytes;
    bomb[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(ScoreLog::decode(&bomb), Err(LayoutError::TooMany { .. })));
}

#[test]
fn d13_the_fold_is_the_mean_mixed_with_the_board_before() {
    let log = sample();
    let after = log.after();
    // Member 9 was not asked although others were: it has left.
    assert_eq!(after.scores.keys().map(|m| m.0).collect::<Vec<_>>(), [3, 4, 5]);
    let near = |found: u32, expected: f64| (f64::from(found) / f64::from(ONE) - expected).abs() < 1e-6;
    assert!(near(after.scores[&MemberId(3)], (0.5 + 0.8) / 2.0), "half the memory, half the mean");
    assert!(near(after.scores[&MemberId(4)], 0.5), "a newcomer begins with its mean");
    assert_eq!(after.scores[&MemberId(5)], 0);
    // (0.65 - 0.2)² is the whole, (0.5 - 0.2)² is 4/9 of it.
    assert_eq!(log.row(), [(MemberId(3), 65_535), (MemberId(4), 29_126)]);
    let nobody = log.before.clone();
    assert_eq!(board(&rules(), &nobody, &[]), nobody, "where nobody was asked nothing changes");
    let chance = Board { scores: [(MemberId(1), ONE / 5)].into() };
    assert_eq!(row(&rules(), &chance, &[]), []);
    let wide = Rules { full: FULL_U32, ..rules() };
    assert_eq!(row(&wide, &after, &[])[0].1, u32::MAX);
}

#[test]
fn d13_the_order_of_entries_changes_no_row() {
    let log = sample();
    let mut turned = log.clone();
    turned.entries.reverse();
    assert_eq!(turned.row(), log.row());
    assert_ne!(turned.root(), log.root(), "and it is another log");
}

#[test]
fn m16_an_answer_that_several_gave_is_worth_its_part_to_each() {
    let board = Board { scores: [1, 2, 3].map(|member| (MemberId(member), ONE)).into() };
    let echo = |member, givers| Echo { member: MemberId(member), answers: 4, givers, ..Echo::default() };
    // 3 says always what 1 or 2 says, and each of them is heard twice in four.
    let echoes = [echo(1, 6), echo(2, 6), echo(3, 8)];
    let weights = |rules: &Rules| row(rules, &board, &echoes).into_iter().map(|(_, weight)| weight).collect::<Vec<_>>();
    assert_eq!(weights(&rules()), [65_535, 65_535, 65_535], "shown, not weighed");
    assert_eq!(weights(&Rules { echoes_share: true, ..rules() }), [65_535, 65_535, 49_151]);
}

#[test]
fn d13_a_row_names_the_heaviest_when_there_are_too_many() {
    let many = u32::try_from(crate::protocol::commitment::WEIGHTS_MAX).unwrap() + 3;
    let mut scores: std::collections::BTreeMap<MemberId, u32> = (0..many).map(|n| (MemberId(n), ONE / 2)).collect();
    scores.insert(MemberId(many), ONE);
    let row = row(&rules(), &Board { scores }, &[]);
    assert_eq!(row.len(), crate::protocol::commitment::WEIGHTS_MAX);
    assert_eq!(row.last(), Some(&(MemberId(many), 65_535)));
    assert!(row.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn d12_an_honest_log_replays_and_each_change_is_named() {
    let honest = sample();
    let said = claim(&honest);
    assert_eq!(judge(&honest, &said), Ok(()));
    let published = honest.head.before;
    assert_eq!(replay(&honest, &said, Some(published), |_| None), Ok(()));
    let broken = replay(&honest, &said, Some(Digest([1; 32])), |_| None).unwrap_err();
    assert!(matches!(broken, Difference::Broken { .. }), "{broken}");

    let mut other = honest.clone();
    other.entries[0].score += 1;
    assert!(matches!(judge(&other, &said), Err(Difference::Tree { .. })), "the root holds every bit");
    // What follows is sealed anew by its author, so that the tree holds and only the content lies.
    let mut forged = honest.clone();
    forged.entries[1].answer = Digest([44; 32]);
    let forged = ScoreLog::new(forged.head, forged.entries, forged.before, vec![]);
    assert_eq!(judge(&forged, &claim(&forged)), Err(Difference::Receipt { index: 2, miner: MemberId(4) }));
    let mut gift = honest.clone();
    gift.entries[2].score = 5;
    let gift = ScoreLog::new(gift.head, gift.entries, gift.before, vec![]);
    assert!(matches!(judge(&gift, &claim(&gift)), Err(Difference::Entry { index: 3, .. })));
    let mut board = honest.clone();
    board.head.after = Digest([5; 32]);
    assert_eq!(judge(&board, &claim(&board)), Err(Difference::BoardAfter));
    let mut start = honest.clone();
    start.before.scores.insert(MemberId(4), ONE);
    assert_eq!(judge(&start, &claim(&honest)), Err(Difference::BoardBefore));
    let row = Claim { row: vec![(MemberId(3), 65_535), (MemberId(4), 65_535)], ..said.clone() };
    let difference = judge(&honest, &row).unwrap_err();
    assert_eq!(difference, Difference::Row { member: MemberId(4), replayed: 29_126, revealed: 65_535 });
    assert!(difference.to_string().contains("member 4"), "{difference}");
    let elsewhere = Claim { epoch: 5, ..said };
    assert_eq!(judge(&honest, &elsewhere), Err(Difference::Head { what: "epoch" }));
}

#[test]
fn d14_every_leaf_proves_itself_against_the_root() {
    let log = sample();
    for index in 0..log.leaf_count() {
        let (leaf, path) = log.proof(index).unwrap();
        assert!(leaf.len() + path.len() * 32 < 8 * 1_024);
        assert!(crate::protocol::merkle::merkle_holds(&log.root(), log.leaf_count(), index, &leaf, &path));
    }
    assert_eq!(log.proof(log.leaf_count()), None);
}

#[test]
fn d11_arrivals_fall_into_sixteenths() {
    let found: Vec<u8> = [0, 1, 125, 126, 2_000, 2_001, u64::MAX].map(|ms| bucket(ms, 2_000)).to_vec();
    assert_eq!(found, [0, 1, 1, 2, 16, 17, 17]);
    assert!(!bucket_is_late(16) && bucket_is_late(17) && bucket_is_late(NEVER));
}

#[test]
fn d11_a_receipt_binds_everything_it_names() {
    let entry = entry(0, 3, ONE);
    let (receipt, signature) = (entry.receipt_of(CHAIN, SUBNET), entry.receipt.unwrap());
    let key = operator(MemberId(3)).public();
    assert!(receipt.check(&key, &signature).is_ok());
    for other in [
        Receipt { chain: ChainId([8; 32]), ..receipt },
        Receipt { subnet: SubnetId(2), ..receipt },
        Receipt { member: MemberId(4), ..receipt },
        Receipt { query: Digest([0; 32]), ..receipt },
        Receipt { request: Digest([0; 32]), ..receipt },
        Receipt { answer: Digest([0; 32]), ..receipt },
    ] {
        assert!(other.check(&key, &signature).is_err());
    }
}

proptest! {
    /// A better score never weighs less, the best has all of it, and who is not above chance is not named.
    #[test]
    fn d13_better_never_weighs_less(scores in prop::collection::vec(any::<u32>(), 1..40), chance in any::<u32>()) {
        let board = Board { scores: (0..).map(MemberId).zip(scores.iter().copied()).collect() };
        let rules = Rules { chance, ..rules() };
        let row: BTreeMap<MemberId, u32> = row(&rules, &board, &[]).into_iter().collect();
        let weight = |member: &MemberId| row.get(member).copied().unwrap_or(0);
        for (one, a) in &board.scores {
            prop_assert!(*a > chance || weight(one) == 0);
            for (other, b) in &board.scores {
                prop_assert!(a > b || weight(one) <= weight(other));
            }
        }
        let best = scores.iter().copied().max().unwrap_or(0);
        prop_assert_eq!(row.values().copied().max(), (best > chance).then_some(FULL_U16));
    }
}
