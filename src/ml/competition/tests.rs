//! Verdicts over many seeds: what is better wins, what is equal hardly ever does, what is copied gets nothing.

use super::*;
use crate::protocol::chance::Chance;

const SAMPLES: usize = 512;

/// A share of `ONE`, in thousandths.
fn thousandths(of: u64) -> u32 {
    u32::try_from(u64::from(ONE) * of / 1_000).unwrap()
}

fn draw(chance: &mut Chance) -> u64 {
    chance.below(1_000)
}

/// How hard each sample is, for everybody.
fn samples(chance: &mut Chance, count: usize) -> Vec<u64> {
    (0..count).map(|_| draw(chance)).collect()
}

/// A model of some worth in thousandths: right where a sample is easy, wrong where it is hard, in between by its own luck.
fn model(chance: &mut Chance, hardness: &[u64], worth: u64) -> Vec<u32> {
    let one = |hard: &u64| {
        let right = (draw(chance) + draw(chance) + hard) / 3 < worth;
        thousandths(if right { 900 + draw(chance) / 10 } else { draw(chance) / 4 })
    };
    hardness.iter().map(one).collect()
}

/// The same model with noise on what it says, in thousandths.
fn noisy(chance: &mut Chance, scores: &[u32], noise: u64) -> Vec<u32> {
    let one = |score: &u32| {
        let off = i64::from(thousandths(chance.below(2 * noise + 1))) - i64::from(thousandths(noise));
        u32::try_from((i64::from(*score) + off).clamp(0, i64::from(ONE))).unwrap()
    };
    scores.iter().map(one).collect()
}

fn entry(member: u32, since: Height, scores: Vec<u32>) -> Entry {
    Entry { member: MemberId(member), artifact: Digest([u8::try_from(member).unwrap(); 32]), since, age: 0, scores }
}

fn standing(verdicts: &[Verdict], member: u32) -> Standing {
    verdicts.iter().find(|verdict| verdict.member == MemberId(member)).unwrap().standing
}

fn seeded(seed: u64) -> Chance {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Chance::from_seed(bytes)
}

/// The level, by trial: two models of equal worth, 10,000 times. One test in 15,000 may err, and the margin is on the
/// champion's side, so not even one is expected.
#[test]
fn m02_an_equal_model_does_not_dethrone() {
    let mut wrong = 0;
    for seed in 0..10_000 {
        let chance = &mut seeded(seed);
        let hardness = samples(chance, SAMPLES);
        let (first, second) = (model(chance, &hardness, 600), model(chance, &hardness, 600));
        wrong += u32::from(beats(&second, &first));
    }
    assert!(wrong <= 1, "{wrong} of 10,000 equal models dethroned the champion");
}

#[test]
fn m02_a_better_model_dethrones_and_a_worse_one_stays_behind() {
    let mut won = 0;
    for seed in 0..200 {
        let chance = &mut seeded(seed);
        let hardness = samples(chance, SAMPLES);
        let old = entry(3, 10, model(chance, &hardness, 560));
        let new = entry(1, 20, model(chance, &hardness, 680));
        let worse = entry(2, 30, model(chance, &hardness, 400));
        let verdicts = judge(&[new, old, worse], thousandths(100), 8);
        assert_ne!(standing(&verdicts, 2), Standing::Champion);
        won += u32::from(standing(&verdicts, 1) == Standing::Champion);
        let shares: u64 = verdicts.iter().map(|verdict| u64::from(verdict.share)).sum();
        assert!(shares <= u64::from(ONE), "{verdicts:?}");
    }
    assert!(won >= 195, "the better model won {won} of 200 epochs");
}

/// Copies and noisy copies of the champion, of its predecessor and of each other: nothing for any, at any noise that leaves
/// the copy a champion's worth, and never the crown.
#[test]
fn m02_copies_lose_whatever_noise_they_carry() {
    for seed in 0..300 {
        let chance = &mut seeded(seed);
        let hardness = samples(chance, SAMPLES);
        let first = model(chance, &hardness, 520);
        let best = model(chance, &hardness, 680);
        let noise = chance.below(60);
        let noisy_best = noisy(chance, &best, noise);
        let noisy_first = noisy(chance, &first, noise);
        let entries = [
            entry(0, 10, first),
            entry(1, 20, best.clone()),
            entry(2, 30, best),
            entry(3, 31, noisy_best),
            entry(4, 32, noisy_first),
        ];
        let verdicts = judge(&entries, thousandths(100), 8);
        for copy in [2, 3] {
            assert_eq!(standing(&verdicts, copy), Standing::CopyOf(MemberId(1)), "seed {seed}, noise {noise}");
        }
        assert_eq!(standing(&verdicts, 4), Standing::CopyOf(MemberId(0)), "seed {seed}, noise {noise}");
        assert!(verdicts.iter().skip(2).all(|verdict| verdict.share == 0));
    }
}

#[test]
fn m02_the_right_is_the_earlier_seals_not_the_lower_members() {
    let chance = &mut seeded(1);
    let hardness = samples(chance, SAMPLES);
    let scores = model(chance, &hardness, 600);
    let verdicts = judge(&[entry(1, 50, scores.clone()), entry(9, 40, scores)], 0, 8);
    assert_eq!(standing(&verdicts, 9), Standing::Champion);
    assert_eq!(standing(&verdicts, 1), Standing::CopyOf(MemberId(9)));
    assert_eq!(verdicts.iter().map(|verdict| verdict.member.0).collect::<Vec<_>>(), [1, 9]);
}

#[test]
fn m02_independent_models_of_equal_worth_are_no_copies() {
    let mut alikes = 0;
    for seed in 0..1_000 {
        let chance = &mut seeded(seed);
        let hardness = samples(chance, SAMPLES);
        alikes += u32::from(alike(&model(chance, &hardness, 600), &model(chance, &hardness, 600)));
    }
    assert_eq!(alikes, 0);
}

#[test]
fn m02_the_champions_part_falls_with_its_age_and_never_below_a_half() {
    let parts: Vec<u64> = (0..40).map(|age| champions_part(age, 4)).collect();
    assert_eq!((parts[0], parts[4], parts[8]), (FIRST, LAST + (FIRST - LAST) / 2, LAST + (FIRST - LAST) / 4));
    assert!(parts.windows(2).all(|two| two[0] >= two[1]) && parts[39] >= LAST && parts[39] < LAST + 100);
    assert_eq!(champions_part(u32::MAX, 1), LAST);
    assert_eq!(champions_part(3, 0), champions_part(3, 1));
}

#[test]
fn m02_who_knows_nothing_gets_nothing_and_one_alone_gets_all() {
    let low = entry(1, 1, vec![thousandths(100); 8]);
    let good = entry(2, 2, vec![thousandths(700), thousandths(800), thousandths(700), thousandths(790)]);
    assert_eq!(judge(&[], 0, 8), []);
    let verdicts = judge(std::slice::from_ref(&low), thousandths(100), 8);
    assert_eq!((verdicts[0].share, verdicts[0].standing), (0, Standing::Worthless));
    let verdicts = judge(&[low, good], thousandths(100), 8);
    assert_eq!(verdicts[0].share, 0);
    assert_eq!((verdicts[1].share, verdicts[1].standing), (ONE, Standing::Champion));
}

#[test]
fn m02_extreme_scores_and_sizes_neither_overflow_nor_win() {
    let (none, all) = (vec![0; SAMPLES_MAX], vec![ONE; SAMPLES_MAX]);
    assert!(beats(&all, &none) && !beats(&none, &all) && !beats(&all, &all));
    let half: Vec<u32> = (0..SAMPLES_MAX).map(|at| if at % 2 == 0 { ONE } else { 0 }).collect();
    assert!(beats(&all, &half) && beats(&half, &none) && !beats(&half, &all));
    assert!(alike(&half, &half) && !alike(&half, &all) && !alike(&none, &all));
    assert!(!beats(&vec![ONE; SAMPLES_MAX + 1], &vec![0; SAMPLES_MAX + 1]));
    assert!(!beats(&[ONE], &[0]) && !beats(&[ONE, ONE], &[0]) && !alike(&[1], &[1, 2]));
    assert_eq!((score_of(0), score_of(ONE)), (0, ONE));
    assert!(score_of(ONE / 4).abs_diff(ONE / 2) < 4);
}
