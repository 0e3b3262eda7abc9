//! Laws that hold for every epoch (T5), and any bytes for the codecs (T7).

use proptest::prelude::*;

use super::*;
use crate::ledger::incentive::fixed::{ONE, from_u16, mul};
use crate::ledger::incentive::rows::{read_row, write_row};
use crate::protocol::layout::{Reader, Writer};

/// Rows: stake, permit, weights by column; at most eight.
fn rows() -> impl Strategy<Value = Vec<RowInput>> {
    let stake = prop_oneof![Just(0), Just(1), 1..50_u64, any::<u32>().prop_map(u64::from), Just((u64::MAX >> 1) / 8)];
    let entries = prop::collection::btree_map(100..112_u32, prop_oneof![1..4_u32, 1..65_536_u32], 0..12);
    let one = (stake, prop::bool::weighted(0.9), entries);
    prop::collection::vec(one, 0..9).prop_map(|rows| {
        let entries =
            |of: std::collections::BTreeMap<u32, u32>| of.into_iter().map(|(j, w)| (MemberId(j), w)).collect();
        let make = |(id, (stake, permit, of)): (u32, (u64, bool, _))| RowInput {
            permit,
            ..RowInput::speaking(MemberId(id), stake, 100, entries(of))
        };
        (0..).zip(rows).map(make).collect()
    })
}

prop_compose! {
    fn job_input()(
        rows in rows(),
        columns in prop::collection::btree_set(100..112_u32, 0..12),
        held in prop::collection::vec((0..9_u32, 100..112_u32, any::<u32>()), 0..30),
        related in prop::collection::vec((0..9_u32, 100..112_u32), 0..6),
        kappa in prop_oneof![Just(32_767_u16), any::<u16>()],
        penalty in prop_oneof![Just(65_535_u16), any::<u16>()],
        liquid in prop::option::of(Just(Liquid { low: 45_875, high: 58_982, steepness: 1_000 })),
        lift in prop::option::of(Just(Lift { tau: 21_845, lambda: 65_535 })),
    ) -> EpochInput {
        let mut of = input(Switches { lift, ..Switches::native() }, rows, columns.into_iter().map(column).collect());
        of.rules = EpochRules { kappa, bonds_penalty: penalty, liquid, ..rules() };
        of.bonds = bonds(&held);
        of.related = related.into_iter().map(|(i, j)| (MemberId(i), MemberId(j))).collect();
        of
    }
}

fn whole(shares: impl Iterator<Item = Q>, parts: usize) -> bool {
    let sum: Q = shares.sum();
    sum == 0 || (sum <= ONE && sum > ONE - Q::try_from(parts).unwrap() - 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn t05_2_shares_are_parts_of_one(of in job_input()) {
        let job = EpochJob::new(of).unwrap();
        let out = job.run(&mut Workspace::new());
        prop_assert!(whole(out.columns.iter().map(|c| c.incentive), out.columns.len()));
        prop_assert!(whole(out.rows.iter().map(|r| r.dividend), out.rows.len()));
        prop_assert!(out.rows.iter().all(|row| row.trust <= ONE));
        for column in &out.columns {
            let reasons = explain(&job, &out, column.member).unwrap();
            let most = reasons.iter().map(|reason| reason.weight).max().unwrap_or(0);
            prop_assert!(column.consensus <= most && column.lift <= column.consensus);
            prop_assert!(reasons.iter().all(|r| r.clipped <= r.weight && r.clipped <= column.consensus));
            prop_assert_eq!(reasons.iter().map(|reason| reason.term).sum::<u128>(), column.sum);
        }
        let paid: u64 = out.columns.iter().map(|c| c.amount).chain(out.rows.iter().map(|r| r.amount)).sum();
        prop_assert_eq!(paid + out.carried_miners + out.carried_validators, STAR);
    }

    #[test]
    fn t05_3_neither_the_order_of_input_nor_the_numbers_of_members_matter(of in job_input()) {
        let out = run(of.clone());
        let mut turned = of.clone();
        turned.rows.reverse();
        turned.columns.reverse();
        turned.related.reverse();
        prop_assert_eq!(&run(turned), &out);
        // Ids further apart, in the same order.
        let far = |id: MemberId| MemberId(id.0 * 1_000_003);
        let mut moved = of;
        for row in &mut moved.rows {
            row.member = far(row.member);
            row.weights = row.weights.iter().map(|(j, w)| (far(*j), *w)).collect();
        }
        moved.columns.iter_mut().for_each(|column| column.member = far(column.member));
        moved.related.iter_mut().for_each(|pair| *pair = (far(pair.0), far(pair.1)));
        let held: Vec<Bond> = moved.bonds.iter().flat_map(|b| b.bonds()).map(|(i, j, b)| (far(i), far(j), b)).collect();
        moved.bonds = BondBlock::of(&held).into_iter().map(|(_, block)| Arc::new(block)).collect();
        let mut other = run(moved);
        prop_assert_eq!(other.columns.len(), out.columns.len());
        other.rows.iter_mut().zip(&out.rows).for_each(|(row, was)| row.member = was.member);
        other.columns.iter_mut().zip(&out.columns).for_each(|(column, was)| column.member = was.member);
        prop_assert_eq!(other, out);
    }

    #[test]
    fn t05_4_scale_changes_no_bit(of in job_input(), by in 1..1_000_u32) {
        let mut of = of;
        of.switches.width = Width::U32;
        of.rows.iter_mut().for_each(|row| row.stake >>= 10);
        let out = run(of.clone());
        for row in &mut of.rows {
            row.stake *= u64::from(by);
            row.weights = row.weights.iter().map(|(j, w)| (*j, w * by)).collect();
        }
        let mut other = run(of);
        other.rows.iter_mut().zip(&out.rows).for_each(|(row, was)| row.weights = was.weights);
        prop_assert_eq!(other, out);
    }

    #[test]
    fn t05_5_consensus_rises_with_weights_and_follows_stake(
        rows in prop::collection::vec((0..6_i64, 1..6_i64), 1..9),
        at in any::<prop::sample::Index>(),
        more in 1..4_i64,
        threshold in 0..30_i64,
    ) {
        let unit = ONE / 64;
        let level = |rows: &[(Q, Q)]| {
            let mut above: Vec<(Q, Q)> = rows.iter().copied().filter(|row| row.0 > 0).collect();
            quantile(&mut above, rows.iter().map(|row| row.1).sum(), threshold * unit + unit / 2)
        };
        let rows: Vec<(Q, Q)> = rows.into_iter().map(|(w, s)| (w * unit, s * unit)).collect();
        let (before, at) = (level(&rows), at.index(rows.len()));
        let mut raised = rows.clone();
        raised[at].0 += more * unit;
        prop_assert!(level(&raised) >= before);
        // The minority is a fixed amount of stake here: what speaks below can only pull down.
        let mut louder = rows.clone();
        louder[at].1 += more * unit;
        if rows[at].0 <= before {
            prop_assert!(level(&louder) <= before);
        }
    }

    #[test]
    fn y07_halving_finds_what_sorting_finds(
        rows in prop::collection::vec((1..40_i64, 0..6_i64), 0..200), silent in 0..9_i64, threshold in -2..500_i64,
    ) {
        let total = silent + rows.iter().map(|row| row.1).sum::<Q>();
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        let mut below = silent;
        let mut found = sorted.iter().find(|row| { below += row.1; below > threshold }).or(sorted.last()).map_or(0, |r| r.0);
        if silent > threshold && silent > 0 {
            found = 0;
        }
        prop_assert_eq!(quantile(&mut rows.clone(), total, threshold), found);
    }

    #[test]
    fn t05_6_a_minority_gives_nothing_and_takes_nothing(
        loud in 1..400_u64, others in prop::collection::vec(1..60_000_u32, 3..8), says in prop::option::of(1..65_536_u32),
    ) {
        // One row of less than a third against many: for a miner nobody knows, and against one all know.
        let each = 1_000 / u64::try_from(others.len()).unwrap() + 1;
        let mut all: Vec<RowInput> =
            (0..).zip(&others).map(|(id, w)| row(id, each, &[(100, 65_535), (101, *w)])).collect();
        let said: Vec<(u32, u32)> = says.into_iter().map(|w| (101, w)).chain([(102, 65_535)]).collect();
        all.push(row(50, loud, &said));
        let mut of = input(Switches::native(), all, vec![column(100), column(101), column(102)]);
        of.switches.lift = Some(Lift { tau: 21_845, lambda: 65_535 });
        let job = EpochJob::new(of).unwrap();
        let out = job.run(&mut Workspace::new());
        prop_assert_eq!((out.columns[2].consensus, out.columns[2].incentive), (0, 0));
        let reasons = explain(&job, &out, MemberId(101)).unwrap();
        let least = reasons.iter().filter(|r| r.validator != MemberId(50)).map(|r| r.weight).min().unwrap();
        prop_assert!(out.columns[1].lift >= mul(from_u16(65_535), least));
    }

    #[test]
    fn t05_7_a_relation_never_raises_and_builds_no_bond(of in job_input(), i in 0..9_u32, j in 100..112_u32) {
        let mut of = of;
        of.bonds.clear();
        let before = run(of.clone());
        of.related.push((MemberId(i), MemberId(j)));
        let after = run(of);
        for (was, now) in before.columns.iter().zip(&after.columns).filter(|(was, _)| was.member == MemberId(j)) {
            prop_assert!(now.consensus <= was.consensus && now.lift <= was.lift && now.sum <= was.sum);
        }
        prop_assert!(!kept(&after).iter().any(|bond| (bond.0, bond.1) == (i, j)));
    }

    #[test]
    fn y07_related_rows_count_as_the_choice_of_them_that_leaves_least(
        rows in prop::collection::vec((0..5_i64, 1..6_i64, any::<bool>()), 0..8),
        part in 0..=64_i64,
        low in any::<bool>(),
    ) {
        let unit = ONE / 64;
        let rows: Vec<(Q, Q, bool)> = rows.into_iter().map(|(w, s, r)| (w * unit, s * unit, r)).collect();
        let threshold = |total: Q| if low { mul(part * unit, total) } else { minority(total, part * unit, true) };
        let sorted = |rows: &[(Q, Q, bool)]| {
            let mut above: Vec<(Q, Q, bool)> = rows.iter().copied().filter(|row| row.0 > 0).collect();
            above.sort_unstable();
            (above.into_iter(), rows.iter().map(|row| row.1).sum::<Q>())
        };
        let related: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].2).collect();
        let least = (0..1_usize << related.len()).map(|chosen| {
            let out = |at: &usize| related.iter().position(|of| of == at).is_some_and(|bit| chosen >> bit & 1 == 1);
            let kept: Vec<(Q, Q, bool)> = (0..rows.len()).filter(|at| !out(at)).map(|at| rows[at]).collect();
            let (above, total) = sorted(&kept);
            quantile(&mut above.map(|row| (row.0, row.1)).collect::<Vec<(Q, Q)>>(), total, threshold(total))
        });
        let least = least.min().unwrap();
        let (above, total) = sorted(&rows);
        prop_assert_eq!(lowered(above, total, threshold), least);
    }

    #[test]
    fn t05_8_splitting_a_validator_changes_next_to_nothing(
        stakes in prop::collection::vec(1..1_000_u64, 2..6), values in prop::collection::vec(1..65_536_u32, 12),
    ) {
        let entries = |i: usize| [(100, values[i]), (101, values[i + 6])];
        let whole: Vec<RowInput> =
            (0..).zip(&stakes).map(|(i, s)| row(i, s * 2_000_003, &entries(usize::try_from(i).unwrap()))).collect();
        let mut split = whole.clone();
        split[0].stake /= 2;
        split.push(RowInput { member: MemberId(50), stake: whole[0].stake - split[0].stake, ..split[0].clone() });
        let columns = || vec![column(100), column(101)];
        let one = run(input(Switches::native(), whole, columns()));
        let two = run(input(Switches::native(), split, columns()));
        let halves = two.rows[0].stake + two.rows.last().unwrap().stake;
        prop_assert!((one.rows[0].stake - halves).abs() <= 1);
        // Away from exact ties the consensus is the same weight, so only floors differ.
        if one.columns.iter().zip(&two.columns).all(|(a, b)| a.consensus == b.consensus) {
            for (a, b) in one.columns.iter().zip(&two.columns) {
                prop_assert!((a.incentive - b.incentive).abs() <= 2, "{} {}", a.incentive, b.incentive);
            }
        }
    }

    #[test]
    fn t05_9_nothing_panics_whatever_the_numbers(
        of in job_input(),
        height in any::<u64>(), cutoff in any::<u64>(), threshold in any::<u64>(), seats in any::<u32>(),
        average in any::<u32>(), floor in any::<u32>(), gate in any::<i64>(), pots in any::<(u64, u64)>(), two in any::<bool>(),
        steepness in any::<i16>(), tau in any::<u16>(),
    ) {
        let mut of = of;
        (of.height, of.bond_floor, of.miner_pot, of.validator_pot) = (height, floor, pots.0, pots.1);
        of.rules.cutoff = cutoff;
        of.rules.stake_threshold = threshold;
        of.rules.seats = seats;
        of.rules.bonds_average_ppm = average;
        of.rules.liquid = Some(Liquid { low: 60_000, high: 3, steepness });
        of.rules.yuma = if two { Yuma::Two } else { Yuma::Three };
        of.switches.lift = Some(Lift { tau, lambda: 65_535 });
        of.switches.width = Width::U32;
        for row in &mut of.rows {
            row.gate = gate;
            row.weights = row.weights.iter().map(|(j, w)| (*j, w.wrapping_mul(0x9e37_79b9).max(1))).collect();
        }
        let out = run(of.clone());
        of.switches = Switches { sums: Sums::Floored, bonds: Width::U16, dense: true, ..of.switches };
        prop_assert_eq!(run(of).rows.len(), out.rows.len());
    }

    #[test]
    fn t05_10_lanes_threads_and_old_buffers_change_no_bit(of in job_input(), more in job_input(), lanes in 1..9_usize) {
        let (job, other) = (EpochJob::new(of).unwrap(), EpochJob::new(more).unwrap());
        let cold = job.run(&mut Workspace::new());
        let mut used = Workspace::with_lanes(lanes);
        other.run(&mut used);
        prop_assert_eq!(&job.run(&mut used), &cold);
        prop_assert_eq!(&job.run_on(&mut used, &Threads), &cold);
    }

    #[test]
    fn t07_any_bytes_are_a_row_in_one_way_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut from = Reader::new(&bytes);
        if let Ok(row) = read_row(&mut from, 1_000) {
            let used = bytes.len() - from.left();
            prop_assert_eq!(write_row(Writer::new(), &row).done(), &bytes[..used]);
        }
        let mut from = Reader::new(&bytes);
        if let Ok(block) = BondBlock::read(&mut from) {
            let used = bytes.len() - from.left();
            prop_assert_eq!(block.write(Writer::new()).done(), &bytes[..used]);
        }
    }

    #[test]
    fn t07_rows_and_blocks_survive_their_bytes(
        row in prop::collection::btree_map(any::<u32>(), any::<u32>(), 0..50),
        held in prop::collection::vec((any::<u32>(), 0..640_u32, any::<u32>()), 0..60),
    ) {
        let row: Vec<(MemberId, u32)> = row.into_iter().map(|(id, value)| (MemberId(id), value)).collect();
        let bytes = write_row(Writer::new(), &row).done();
        prop_assert_eq!(read_row(&mut Reader::new(&bytes), 50), Ok(row));
        for block in bonds(&held) {
            let bytes = block.write(Writer::new()).done();
            let mut from = Reader::new(&bytes);
            prop_assert_eq!(BondBlock::read(&mut from), Ok((*block).clone()));
            prop_assert_eq!(from.left(), 0);
        }
    }
}

/// Runs lanes at once.
struct Threads;

impl Spread for Threads {
    fn each(&self, lanes: &mut [Lane], work: &(dyn Fn(&mut Lane) + Sync)) {
        std::thread::scope(|scope| {
            for lane in lanes.iter_mut().rev() {
                scope.spawn(move || work(lane));
            }
        });
    }
}
