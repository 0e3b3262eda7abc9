//! The worked example to the last bit, a slow dense reference, and the laws of the machine.

use proptest::prelude::*;

use super::super::economy::largest_remainder;
use super::*;
use crate::protocol::parameters::NetworkKind;

const STAR: u64 = 1_000_000_000;

fn rules() -> SubnetRules {
    SubnetRules { validator_stake: 1, ..SubnetRules::defaults(NetworkKind::Devnet) }
}

fn account(byte: u8) -> AccountId {
    AccountId([byte; 32])
}

fn validator(id: u32, stake: u64, weights: &[(u32, u16)], bonds: &[(u32, u32)]) -> ValidatorInput {
    ValidatorInput {
        member: MemberId(id),
        account: account(u8::try_from(id).unwrap()),
        stake,
        permit: true,
        last_reveal: Some(100),
        missed: false,
        weights: weights.iter().map(|(m, w)| (MemberId(*m), *w)).collect(),
        bonds: bonds.iter().map(|(m, b)| (MemberId(*m), *b)).collect(),
    }
}

fn miner(id: u32) -> MinerInput {
    MinerInput { member: MemberId(id), account: account(u8::try_from(id).unwrap()) }
}

/// Stakes 3, 2, 1; two miners; v0 has old bonds 4000 and 2000 over 65535.
fn example() -> EpochInput {
    let old = |b: u64| u32::try_from((b << 32) / 65_535).unwrap();
    EpochInput {
        height: 100,
        rules: rules(),
        validators: vec![
            validator(0, 3 * STAR, &[(3, 65_535), (4, 32_768)], &[(3, old(4_000)), (4, old(2_000))]),
            validator(1, 2 * STAR, &[(3, 65_535), (4, 65_535)], &[]),
            validator(2, STAR, &[(4, 65_535)], &[]),
        ],
        miners: vec![miner(3), miner(4)],
    }
}

fn bonds(outcome: &EpochOutcome) -> Vec<Vec<u32>> {
    outcome.validators.iter().map(|row| row.bonds.iter().map(|(_, bond)| *bond).collect()).collect()
}

#[test]
fn y01_to_y16_the_worked_example() {
    let out = close(example());
    let of = |get: fn(&ValidatorOutcome) -> u64| out.validators.iter().map(get).collect::<Vec<_>>();
    assert_eq!(of(|row| row.stake), [2_147_483_648, 1_431_655_765, 715_827_882]);
    let miners: Vec<_> = out.miners.iter().map(|m| (m.consensus, m.incentive)).collect();
    assert_eq!(miners, [(2_863_296_966, 2_342_701_490), (2_147_483_648, 1_952_265_805)]);
    assert_eq!(bonds(&out), [vec![522_262_895, 261_133_632], vec![214_748_365, 214_748_365], vec![214_748_365]]);
    assert_eq!(of(|row| row.dividend), [2_976_680_264, 1_067_134_446, 251_152_584]);
    let pot = STAR / 2;
    let incentives: Vec<u64> = out.miners.iter().map(|m| m.incentive).collect();
    assert_eq!(largest_remainder(pot, &incentives), [272_726_348, 227_273_652]);
    assert_eq!(largest_remainder(pot, &of(|row| row.dividend)), [346_531_191, 124_230_800, 29_238_009]);
}

#[test]
fn y06_a_word_on_a_miner_of_ones_own_counts_only_downward() {
    let mut input = example();
    input.miners[1].account = account(1);
    let out = close(input);
    let miners: Vec<_> = out.miners.iter().map(|m| (m.consensus, m.incentive)).collect();
    assert_eq!(miners, [(2_863_296_966, 2_576_966_396), (1_431_670_329, 1_718_000_899)]);
    assert_eq!(bonds(&out), [vec![522_262_895, 261_133_632], vec![214_748_365], vec![143_167_033]]);
    let dividends: Vec<u64> = out.validators.iter().map(|row| row.dividend).collect();
    assert_eq!(dividends, [3_464_834_630, 590_797_658, 239_335_007]);
}

#[test]
fn d04_a_commit_that_is_not_opened_has_no_voice_and_earns_nothing() {
    let mut input = example();
    input.validators[1].missed = true;
    let out = close(input);
    assert_eq!((out.validators[1].active, out.validators[1].dividend), (0, 0));
    assert!(out.validators[1].permit, "it keeps its seat");
}

#[test]
fn y01_old_weights_lose_their_voice_after_the_cutoff() {
    let mut input = example();
    let cutoff = input.rules.activity_epochs * input.rules.tempo;
    input.height = 100 + cutoff;
    assert!(close(input.clone()).validators.iter().all(|row| row.active > 0));
    input.height += 1;
    let out = close(input);
    assert!(out.validators.iter().all(|row| row.active == 0 && row.dividend == 0));
    assert!(out.miners.iter().all(|m| m.incentive == 0 && m.consensus == 0));
}

#[test]
fn y03_seats_go_to_the_largest_stakes_and_ties_to_the_older() {
    let mut input = example();
    input.rules.seats = 2;
    input.validators[2].stake = 3 * STAR;
    let permits: Vec<bool> = close(input.clone()).validators.iter().map(|row| row.permit).collect();
    assert_eq!(permits, [true, false, true]);
    input.validators[1].stake = 3 * STAR;
    let permits: Vec<bool> = close(input).validators.iter().map(|row| row.permit).collect();
    assert_eq!(permits, [true, true, false]);
}

#[test]
fn nothing_in_nothing_out() {
    let empty = EpochInput { height: 0, rules: rules(), validators: Vec::new(), miners: Vec::new() };
    assert_eq!(close(empty), EpochOutcome::default());
}

/// Every rule as literally as it is said: dense, signed, one value at a time.
mod slow {
    use super::*;

    const ONE: i128 = 1 << 32;

    fn norm(x: &[i128]) -> Vec<i128> {
        let t: i128 = x.iter().sum();
        x.iter().map(|v| if t == 0 { 0 } else { v * ONE / t }).collect()
    }

    fn median(rows: &[(i128, i128)], kappa: i128) -> i128 {
        let t: i128 = rows.iter().map(|r| r.1).sum();
        let minority = t - ((kappa * t) >> 32);
        let mut values: Vec<i128> = rows.iter().map(|r| r.0).collect();
        values.sort_unstable();
        let at_most = |w: i128| rows.iter().filter(|r| r.0 <= w).map(|r| r.1).sum::<i128>();
        values.iter().copied().find(|w| at_most(*w) > minority).or(values.last().copied()).unwrap_or(0)
    }

    pub struct Out {
        pub consensus: Vec<i128>,
        pub incentive: Vec<i128>,
        pub dividend: Vec<i128>,
        pub bonds: Vec<Vec<i128>>,
    }

    pub fn close(input: &EpochInput) -> Out {
        let (rows, columns) = (&input.validators, &input.miners);
        let of =
            |row: &ValidatorInput, m: MemberId| row.weights.iter().find(|w| w.0 == m).map_or(0, |w| i128::from(w.1));
        let raw: Vec<i128> =
            rows.iter().map(|r| if r.stake < input.rules.validator_stake { 0 } else { r.stake.into() }).collect();
        let total: i128 = raw.iter().sum();
        let s: Vec<i128> = raw.iter().map(|r| if total == 0 { 0 } else { (r << 32) / total }).collect();
        let cutoff = input.rules.activity_epochs * input.rules.tempo;
        let on = |r: &ValidatorInput| {
            r.permit && !r.missed && r.last_reveal.is_some_and(|last| last + cutoff >= input.height)
        };
        let a = norm(&rows.iter().zip(&s).map(|(r, s)| if on(r) { *s } else { 0 }).collect::<Vec<_>>());
        let u = norm(&a);
        let kappa = (i128::from(input.rules.kappa) << 32) / 65_535;
        let penalty = (i128::from(input.rules.bonds_penalty) << 32) / 65_535;
        let step = ONE - (i128::from(input.rules.bonds_average_ppm) << 32) / 1_000_000;
        let w: Vec<Vec<i128>> = rows
            .iter()
            .map(|r| {
                let t: i128 = columns.iter().map(|c| of(r, c.member)).sum();
                let share = |c: &MinerInput| if t == 0 || !r.permit { 0 } else { (of(r, c.member) << 32) / t };
                columns.iter().map(share).collect()
            })
            .collect();
        let (mut c, mut x) = (vec![0; columns.len()], vec![0; columns.len()]);
        let mut b = vec![vec![0; columns.len()]; rows.len()];
        for j in 0..columns.len() {
            let related = |i: usize| rows[i].account == columns[j].account;
            let voices = |all: bool| -> Vec<(i128, i128)> {
                (0..rows.len()).filter(|i| u[*i] > 0 && (all || !related(*i))).map(|i| (w[i][j], u[i])).collect()
            };
            c[j] = median(&voices(true), kappa);
            if (0..rows.len()).any(|i| u[i] > 0 && related(i)) {
                c[j] = c[j].min(median(&voices(false), kappa));
            }
            for i in 0..rows.len() {
                let clipped = w[i][j].min(c[j]);
                x[j] += a[i] * clipped;
                let follow = if related(i) { 0 } else { w[i][j] + ((penalty * (clipped - w[i][j])) >> 32) };
                let id = columns[j].member;
                let old = rows[i].bonds.iter().find(|o| o.0 == id).map_or(0, |o| i128::from(o.1));
                b[i][j] = ((step * follow) >> 32) + (((ONE - step) * old) >> 32);
            }
        }
        let sum: i128 = x.iter().sum();
        let incentive: Vec<i128> = x.iter().map(|x| if sum == 0 { 0 } else { (x << 32) / sum }).collect();
        let mut y = vec![0; rows.len()];
        for i in 0..rows.len() {
            let mut d = 0;
            for j in 0..columns.len() {
                let t: i128 = (0..rows.len()).map(|i| b[i][j]).sum();
                d += if t == 0 { 0 } else { (b[i][j] << 32) / t } * incentive[j];
            }
            y[i] = (d * a[i]) >> 32;
        }
        let sum: i128 = y.iter().sum();
        let dividend = y.iter().map(|y| if sum == 0 { 0 } else { (y << 32) / sum }).collect();
        Out { consensus: c, incentive, dividend, bonds: b }
    }
}

fn row() -> impl Strategy<Value = ValidatorInput> {
    let stake = prop_oneof![Just(0), Just(1), 1..5_u64, any::<u32>().prop_map(u64::from), Just(u64::MAX / 32)];
    let weight = prop_oneof![Just(1_u16), Just(65_535), any::<u16>()].prop_map(|w| w.max(1));
    let weights = prop::collection::btree_map(100..112_u32, weight, 0..12);
    let bonds = prop::collection::btree_map(100..112_u32, prop_oneof![Just(u32::MAX), any::<u32>()], 0..12);
    let flags = (prop::bool::weighted(0.9), prop::bool::weighted(0.1), prop::option::weighted(0.9, 0..200_u64));
    (stake, weights, bonds, flags, 0..6_u8).prop_map(|(stake, weights, bonds, (permit, missed, last), owner)| {
        ValidatorInput {
            member: MemberId(0),
            account: account(owner),
            stake,
            permit,
            last_reveal: last,
            missed,
            weights: weights.into_iter().map(|(m, w)| (MemberId(m), w)).collect(),
            bonds: bonds.into_iter().map(|(m, b)| (MemberId(m), b)).collect(),
        }
    })
}

prop_compose! {
    fn input()(
        rows in prop::collection::vec(row(), 0..8),
        owners in prop::collection::btree_map(100..112_u32, 0..20_u8, 0..10),
        kappa in prop_oneof![Just(0_u64), Just(32_767), Just(65_535), 0..65_536_u64],
        penalty in prop_oneof![Just(0_u64), Just(65_535), 0..65_536_u64],
        average in prop_oneof![Just(0_u64), Just(900_000), 0..1_000_000_u64],
    ) -> EpochInput {
        let rules = SubnetRules { kappa, bonds_penalty: penalty, bonds_average_ppm: average, ..rules() };
        let validators = (0..).zip(rows).map(|(id, row)| ValidatorInput { member: MemberId(id), ..row }).collect();
        let miners = owners.into_iter().map(|(id, a)| MinerInput { member: MemberId(id), account: account(a) });
        EpochInput { height: 160, rules, validators, miners: miners.collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn t3_the_fast_path_is_the_slow_one_to_the_bit(input in input()) {
        let (fast, slow) = (close(input.clone()), slow::close(&input));
        for (j, miner) in fast.miners.iter().enumerate() {
            prop_assert_eq!(i128::from(miner.consensus), slow.consensus[j]);
            prop_assert_eq!(i128::from(miner.incentive), slow.incentive[j]);
        }
        for (i, row) in fast.validators.iter().enumerate() {
            prop_assert_eq!(i128::from(row.dividend), slow.dividend[i]);
            for (j, miner) in input.miners.iter().enumerate() {
                let got = row.bonds.iter().find(|b| b.0 == miner.member).map_or(0, |b| i128::from(b.1));
                let want = slow.bonds[i][j].min(i128::from(u32::MAX));
                prop_assert_eq!(got, if want < 256 || !row.permit { 0 } else { want });
            }
        }
    }

    #[test]
    fn t5_shares_are_parts_of_one_and_the_order_of_rows_does_not_matter(input in input()) {
        let out = close(input.clone());
        let n = (input.validators.len() + input.miners.len()) as u64;
        for sum in [
            out.miners.iter().map(|m| m.incentive).sum::<u64>(),
            out.validators.iter().map(|v| v.dividend).sum::<u64>(),
        ] {
            prop_assert!(sum == 0 || (sum <= ONE && sum > ONE - n - 1));
        }
        let mut shuffled = input;
        shuffled.validators.reverse();
        shuffled.miners.reverse();
        prop_assert_eq!(close(shuffled), out);
    }

    #[test]
    fn t5_a_minority_alone_gives_a_miner_nothing(input in input(), favourite in 100..112_u32) {
        // The smaller half of the stake gives everything to one miner that the others leave out.
        let mut input = input;
        input.rules.kappa = 32_767;
        let loud: u64 = input.validators.iter().take(2).map(|row| row.stake.min(1_000)).sum();
        for (i, row) in input.validators.iter_mut().enumerate() {
            (row.permit, row.missed, row.last_reveal) = (true, false, Some(160));
            row.stake = if i < 2 { row.stake.min(1_000) } else { 10_000 };
            row.weights.retain(|w| w.0 != MemberId(favourite));
            if i < 2 {
                row.weights = vec![(MemberId(favourite), 65_535)];
            }
        }
        if input.validators.len() < 3 || loud == 0 {
            return Ok(());
        }
        let out = close(input);
        let found = out.miners.iter().find(|m| m.member == MemberId(favourite));
        prop_assert!(found.is_none_or(|m| m.consensus == 0 && m.incentive == 0));
    }
}
