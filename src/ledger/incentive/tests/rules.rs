//! Each rule by itself, and each switch in both positions.

use super::*;
use crate::ledger::incentive::fixed::{ONE, div, from_u16, mul};
use crate::ledger::incentive::rows::{RowError, RowRules, admit, read_row, write_row};
use crate::protocol::layout::{LayoutError, Reader, Writer};

/// Three validators, 3 : 2 : 1, and miners 10 and 11.
fn plain() -> EpochInput {
    input(
        Switches::native(),
        vec![row(0, 3, &[(10, 1), (11, 1)]), row(1, 2, &[(10, 1)]), row(2, 1, &[(11, 1)])],
        vec![column(10), column(11)],
    )
}

/// The same four slots, the first two validators.
fn slots() -> EpochInput {
    let idle = |id| RowInput { permit: false, ..row(id, 0, &[]) };
    input(
        Switches::compat(),
        vec![row(0, 3, &[(2, 1), (3, 1)]), row(1, 2, &[(2, 1)]), idle(2), idle(3)],
        (0..4).map(column).collect(),
    )
}

fn permits(of: EpochInput) -> Vec<bool> {
    of_rows(&run(of), |row| row.permit)
}

#[test]
fn y01_a_row_is_alive_until_the_cutoff_and_a_broken_promise_silences_it() {
    let alive = |height, change: fn(&mut EpochInput)| {
        let mut of = plain();
        of.height = height;
        change(&mut of);
        of_rows(&run(of), |row| row.active > 0)
    };
    assert_eq!(alive(150, |_| ()), [true; 3]);
    assert_eq!(alive(151, |_| ()), [false; 3]);
    assert_eq!(alive(100, |of| of.rows[1].last_activity = None), [true, false, true]);
    assert_eq!(alive(100, |of| of.rows[1].missed = true), [true, false, true]);
    let update = |of: &mut EpochInput| (of.rows[1].missed, of.switches.activity) = (true, Activity::Update);
    assert_eq!(alive(100, update), [true; 3], "an update is enough where reveals are not asked for");
    assert_eq!(alive(u64::MAX, |of| of.rules.cutoff = u64::MAX), [true; 3], "the sum saturates");
}

#[test]
fn y02_stake_below_the_threshold_is_none_but_the_owners() {
    let mut of = plain();
    of.rules.stake_threshold = 2;
    assert_eq!(of_rows(&run(of.clone()), |row| row.stake), [div(3, 5), div(2, 5), 0]);
    of.owner = Some(MemberId(2));
    assert_eq!(run(of.clone()).rows[2].stake, 0, "no exemption without the switch");
    of.switches.owner = true;
    assert_eq!(run(of).rows[2].stake, div(1, 6));
}

#[test]
fn y03_seats_go_to_the_largest_and_ties_by_the_switch() {
    let mut of = plain();
    of.rules.seats = 2;
    of.rows[1].stake = 1;
    assert_eq!(permits(of.clone()), [true, true, false], "the older of equals");
    of.switches.tie = Tie::Younger;
    assert_eq!(permits(of.clone()), [true, false, true]);
    of.rows[2].stake = 0;
    of.rules.seats = 3;
    assert_eq!(permits(of.clone()), [true, true, false], "nobody without stake");
    of.switches.owner = true;
    of.owner = Some(MemberId(2));
    assert_eq!(permits(of.clone()), [true; 3], "the owner always");
    of.rules.seats = 0;
    assert_eq!(permits(of), [false, false, true]);
}

#[test]
fn y04_voices_are_made_whole_among_those_who_speak() {
    let mut of = plain();
    of.rows[0].permit = false;
    assert_eq!(
        of_rows(&run(of), |row| row.active),
        [0, div(div(2, 6), div(2, 6) + div(1, 6)), div(div(1, 6), div(2, 6) + div(1, 6))]
    );
}

#[test]
fn y05_what_does_not_count_is_left_out_of_the_row() {
    let mut of = plain();
    of.rows[0].weights = weights(&[(9, 5), (10, 1), (11, 1)]);
    let sums = |of: EpochInput| of_rows(&run(of), |row| row.weights);
    assert_eq!(sums(of.clone()), [2, 1, 1], "who is gone");
    of.rows[0].permit = false;
    assert_eq!(sums(of), [0, 1, 1], "who has no permit");
    let mut of = slots();
    of.rows[0].weights = weights(&[(0, 7), (2, 1), (3, 1)]);
    assert_eq!(sums(of.clone()), [2, 1, 0, 0], "the own slot");
    of.owner = Some(MemberId(0));
    assert_eq!(sums(of.clone()), [9, 1, 0, 0], "unless the owner's");
    of.columns[2].registered = 100;
    assert_eq!(sums(of.clone()), [8, 0, 0, 0], "a slot given out since the update");
    of.columns[2].registered = 99;
    of.rows[1].commit = Some(98);
    assert_eq!(sums(of), [9, 0, 0, 0], "a slot given out since the commit");
}

#[test]
fn y06_a_related_row_counts_only_downward() {
    let with = |related: &[(u32, u32)], change: fn(&mut EpochInput)| {
        let mut of = plain();
        of.related = related.iter().map(|(i, j)| (MemberId(*i), MemberId(*j))).collect();
        change(&mut of);
        run(of)
    };
    let nothing = |_: &mut EpochInput| ();
    assert!(with(&[], nothing).columns[0].consensus > 0);
    let alone = with(&[(0, 10), (1, 10)], nothing);
    assert_eq!(alone.columns[0].consensus, 0, "nobody else speaks for 10");
    assert!(kept(&alone).iter().all(|bond| bond.1 != 10));
    let off = with(&[(0, 10), (1, 10)], |of| of.switches.related = Related::Diagonal);
    assert!(off.columns[0].consensus > 0, "without the mask nobody is related");
    // The critic with the majority is related: its silence still keeps the consensus down.
    let down = with(&[(0, 11)], |of| of.rows[0].weights = weights(&[(10, 1)]));
    assert_eq!(down.columns[1].consensus, 0);
}

#[test]
fn y07_equality_with_the_minority_goes_up() {
    let half = |weight: Q| (weight, ONE / 2);
    assert_eq!(quantile(&mut [half(7), half(9)], ONE, ONE / 2), 9);
    assert_eq!(quantile(&mut [half(7), half(9)], ONE, ONE / 2 - 1), 7);
    assert_eq!(quantile(&mut [half(7)], ONE, ONE / 2), 7);
    assert_eq!(quantile(&mut [half(7)], ONE, ONE / 2 - 1), 0);
    assert_eq!(quantile(&mut [half(7), half(9)], ONE, -1), 7, "a negative minority");
    assert_eq!(quantile(&mut [half(7), half(9)], ONE, ONE), 9, "nothing qualifies");
    assert_eq!(quantile(&mut [], 0, 0), 0);
    assert_eq!((minority(ONE - 5, ONE, false), minority(ONE - 5, ONE, true)), (-5, 0));
}

#[test]
fn y08_weights_above_the_consensus_are_cut() {
    let out = run(plain());
    let consensus = out.columns[0].consensus;
    let found = explain(&EpochJob::new(plain()).unwrap(), &out, MemberId(10)).unwrap();
    assert_eq!((found[1].weight, found[1].clipped), (ONE, consensus));
    assert!(consensus < ONE);
}

#[test]
fn y09_the_lift_counts_for_incentive_and_for_no_bond() {
    let mut of = plain();
    of.rows = vec![row(0, 3, &[(10, 1), (11, 1)]), row(1, 3, &[(10, 1), (11, 1)]), row(2, 1, &[(10, 1)])];
    let off = run(of.clone());
    of.switches.lift = Some(Lift { tau: 21_845, lambda: 65_535 });
    let on = run(of.clone());
    assert!(on.columns[1].lift > 0 && on.columns[1].incentive > off.columns[1].incentive);
    assert_eq!(kept(&on), kept(&off));
    of.related = vec![(MemberId(2), MemberId(11))];
    assert!(run(of.clone()).columns[1].sum < on.columns[1].sum, "a related row is never lifted");
    of.switches.sums = Sums::Floored;
    of.related.clear();
    assert!(on.columns[1].rank() - run(of).columns[1].rank() <= 3, "each product floored is close");
}

#[test]
fn y10_incentive_is_the_part_of_the_sum_and_trust_what_was_left_standing() {
    let out = run(plain());
    let total: u128 = out.columns.iter().map(|column| column.sum).sum();
    for column in &out.columns {
        assert_eq!(column.incentive, crate::ledger::incentive::fixed::ratio(column.sum, total));
        assert_eq!(column.trust(), div(column.rank(), column.prerank));
    }
    let sum: Q = out.columns.iter().map(|column| (ONE / 2).min(column.consensus)).sum();
    assert_eq!(out.rows[0].trust, sum);
}

#[test]
fn y11_bonds_follow_the_clipped_weight_by_the_penalty() {
    let bond = |penalty| {
        let mut of = plain();
        (of.rules.bonds_penalty, of.rules.bonds_average_ppm) = (penalty, 0);
        let out = run(of);
        let bond = kept(&out).into_iter().find(|bond| (bond.0, bond.1) == (1, 10)).unwrap().2;
        (Q::from(bond), out.columns[0].consensus)
    };
    let (none, consensus) = bond(0);
    assert_eq!(none, ONE - 1, "the whole row, saturated");
    assert_eq!(bond(65_535).0, consensus);
    assert_eq!(bond(32_768).0, ONE + mul(from_u16(32_768), consensus - ONE));
}

#[test]
fn y12_bonds_on_a_new_slot_or_a_reset_miner_are_deleted() {
    let held = |change: fn(&mut EpochInput)| {
        let mut of = slots();
        of.bonds = bonds(&[(0, 2, 5_000), (0, 3, 5_000), (1, 3, 5_000)]);
        (of.rows[0].weights, of.rows[1].weights) = (weights(&[]), weights(&[]));
        change(&mut of);
        kept(&run(of)).len()
    };
    assert_eq!(held(|_| ()), 3);
    assert_eq!(held(|of| of.columns[3].registered = 91), 1, "since the close at 90");
    assert_eq!(held(|of| of.columns[3].registered = 90), 3);
    assert_eq!(held(|of| (of.columns[3].registered, of.last_close) = (90, None)), 1, "one tempo back");
    assert_eq!(held(|of| of.columns[2].reset = true), 2);
    let mut gone = plain();
    gone.bonds = bonds(&[(0, 9, 5_000), (7, 10, 5_000)]);
    assert_eq!(kept(&run(gone.clone())), kept(&run(plain())), "a removed id's bonds vanish");
}

#[test]
fn y13_liquid_alpha_fades_or_drops_what_is_no_longer_weighed() {
    let bond = |decay| {
        let mut of = plain();
        of.rules.liquid = Some(Liquid { low: 6_553, high: 19_660, steepness: 1_000 });
        of.switches.decay = decay;
        of.bonds = bonds(&[(1, 11, 1 << 30)]);
        kept(&run(of)).into_iter().find(|bond| (bond.0, bond.1) == (1, 11)).map(|bond| bond.2)
    };
    assert_eq!(bond(Decay::Dropped), None);
    assert!(bond(Decay::Faded).is_some_and(|bond| bond < 1 << 30 && bond > 1 << 29));
}

#[test]
fn y13_equal_bounds_are_the_plain_average() {
    let with = |liquid| {
        let mut of = plain();
        of.rules.bonds_average_ppm = 0;
        of.rules.liquid = liquid;
        kept(&run(of))
    };
    assert_eq!(with(Some(Liquid { low: 65_535, high: 65_535, steepness: 1_000 })), with(None));
}

#[test]
fn y13_small_bonds_are_dropped_at_the_threshold_in_force() {
    let mut of = plain();
    of.bonds = bonds(&[(1, 11, 300)]);
    let with = |of: EpochInput| kept(&run(of)).iter().any(|bond| (bond.0, bond.1) == (1, 11));
    assert!(with(of.clone()), "270 are left");
    of.bond_floor = 512;
    assert!(!with(of.clone()));
    of.switches.bonds = Width::U16;
    of.bonds = bonds(&[(1, 11, 2)]);
    assert!(with(of), "u16 keeps what is not 0");
}

#[test]
fn y13_the_next_threshold_doubles_until_few_enough_are_left() {
    let mut histogram = [0_u64; 33];
    histogram[9] = 300_000;
    histogram[20] = 200_000;
    let next = |weights| crate::ledger::incentive::bonds::next_floor(&histogram, weights);
    assert_eq!((next(0), next(200_000)), (512, 256));
    let all = [1 << 40; 33];
    assert_eq!(crate::ledger::incentive::bonds::next_floor(&all, 0), 1 << 31, "it ends");
}

#[test]
fn y14_shares_of_a_column_are_stored_with_the_largest_as_the_whole() {
    let mut of = plain();
    of.rules.yuma = Yuma::Two;
    let out = run(of.clone());
    for id in [10, 11] {
        assert_eq!(kept(&out).iter().filter(|b| b.1 == id).map(|b| b.2).max(), Some(u32::MAX));
    }
    of.switches.bonds = Width::U16;
    assert_eq!(kept(&run(of)).iter().map(|bond| bond.2).max(), Some(65_535));
}

#[test]
fn y15_without_incentive_validators_take_the_pot_or_it_is_carried() {
    let mut of = plain();
    of.rows.iter_mut().for_each(|row| row.weights = weights(&[]));
    let out = run(of.clone());
    assert_eq!((out.carried_miners, out.carried_validators), (STAR / 2, STAR / 2));
    of.switches.no_miner = NoMiner::Validators;
    assert_eq!(of_rows(&run(of.clone()), |row| row.amount), [STAR / 2, STAR / 3, STAR / 6 + 1], "by voice");
    of.switches.payout = Payout::Floor;
    let floored = of_rows(&run(of.clone()), |row| row.amount);
    assert!(floored.iter().sum::<u64>() < STAR, "dust is lost: {floored:?}");
    of.height = 1_000;
    assert_eq!(of_rows(&run(of), |row| row.amount), floored, "by stake when nobody has a voice");
}

#[test]
fn y16_bonds_belong_to_a_new_permit() {
    let mut of = plain();
    of.rules.seats = 1;
    assert!(kept(&run(of)).iter().all(|bond| bond.0 == 0));
}

#[test]
fn y17_mechanisms_share_the_emission_and_are_joined() {
    assert_eq!(split_emission(10, &[32_767, 32_768], Payout::Floor), [5, 5], "the rest to the first");
    assert_eq!(split_emission(11, &[21_845, 21_845, 21_845], Payout::Remainder), [4, 4, 3]);
    let (mut one, mut two) = (run(plain()), run(plain()));
    one.rows[2].permit = false;
    two.columns[0].incentive = 0;
    two.rows.remove(0);
    let joined = merge(&[(16_384, one.clone()), (49_151, two)]);
    assert_eq!(joined.len(), 5);
    let miner = joined[3];
    assert_eq!((miner.member, miner.miner_amount), (MemberId(10), one.columns[0].amount * 2));
    assert_eq!(
        u128::from(miner.incentive.unsigned_abs()),
        u128::from(one.columns[0].incentive.unsigned_abs()) * 16_384 / 65_535
    );
    assert!(joined[2].permit, "one of them gives it");
    assert!(merge(&[]).is_empty());
}

#[test]
fn y18_rows_are_admitted_by_rule_and_refused_by_name() {
    let rules =
        RowRules { switches: Switches::native(), miners: 3, min_weights: 2, version: 4, max_weight_limit: 40_000 };
    let try_row = |row: &[(u32, u32)], version, rules: RowRules| {
        let row: Vec<(MemberId, u32)> = row.iter().map(|(id, value)| (MemberId(*id), *value)).collect();
        admit(&row, version, &rules, |id| id.0 < 3).map(|row| row.iter().map(|entry| entry.1).collect::<Vec<u32>>())
    };
    let good = [(0, 5), (1, 6)];
    assert_eq!(try_row(&good, 4, rules), Ok(vec![5, 6]));
    let refused = [
        (try_row(&good, 3, rules), "weight_version"),
        (try_row(&[(0, 5)], 4, rules), "weight_few"),
        (try_row(&[(0, 1), (1, 1), (2, 1), (3, 1)], 4, rules), "weight_long"),
        (try_row(&[(1, 5), (0, 6)], 4, rules), "weight_order"),
        (try_row(&[(1, 5), (1, 6)], 4, rules), "weight_order"),
        (try_row(&[(1, 5), (2, 0)], 4, rules), "weight_zero"),
        (try_row(&[(1, 5), (2, 65_536)], 4, rules), "weight_wide"),
        (try_row(&[(1, 5), (3, 5)], 4, rules), "weight_unknown"),
        (try_row(&[(1, 5), (2, 9)], 4, rules), "weight_limit"),
    ];
    for (found, code) in refused {
        assert_eq!(found.as_ref().map_err(RowError::code), Err(code));
    }
    let wide = RowRules { switches: Switches { width: Width::U32, ..rules.switches }, ..rules };
    assert_eq!(try_row(&[(1, 70_000), (2, 65_536)], 4, wide), Ok(vec![70_000, 65_536]));
    let compat = RowRules { switches: Switches::compat(), ..rules };
    assert_eq!(try_row(&[(0, 0), (1, 2), (2, 2)], 4, compat), Ok(vec![0, 65_535, 65_535]), "stretched, zeros kept");
    assert_eq!(try_row(&[], 4, RowRules { min_weights: 0, ..rules }), Ok(vec![]), "an empty row passes");
}

#[test]
fn y18_malformed_jobs_are_refused_by_name() {
    let refused = |change: fn(&mut EpochInput), slotted: bool| {
        let mut of = if slotted { slots() } else { plain() };
        change(&mut of);
        EpochJob::new(of).err()
    };
    assert_eq!(refused(|_| (), true), None);
    let one = MemberId(1);
    assert_eq!(refused(|of| of.rows[0].member = MemberId(1), false), Some(JobError::RowTwice(one)));
    assert_eq!(refused(|of| of.columns[0].member = MemberId(11), false), Some(JobError::ColumnTwice(MemberId(11))));
    assert_eq!(refused(|of| of.rows[1].weights = weights(&[(11, 1), (10, 1)]), false), Some(JobError::Order(one)));
    assert_eq!(refused(|of| of.rows[1].weights = weights(&[(10, 0)]), false), Some(JobError::Zero(one)));
    assert_eq!(refused(|of| of.rows[1].weights = weights(&[(10, 65_536)]), false), Some(JobError::Wide(one)));
    assert_eq!(refused(|of| of.rows[1].weights = weights(&[(3, 1), (4, 1)]), true), Some(JobError::Unknown(one)));
    assert_eq!(refused(|of| of.columns.truncate(3), true), Some(JobError::Slots));
    let twice = |of: &mut EpochInput| of.bonds = [bonds(&[(0, 10, 1)]), bonds(&[(0, 10, 2)])].concat();
    assert_eq!(refused(twice, false), Some(JobError::Bonds));
}

#[test]
fn d06_the_gate_lowers_a_dividend_and_the_rest_is_made_whole() {
    let mut of = plain();
    let off = run(of.clone());
    of.rows[0].gate = ONE / 4;
    let on = run(of);
    assert!(on.rows[0].dividend < off.rows[0].dividend / 2 && on.rows[1].dividend > off.rows[1].dividend);
    let sum: Q = on.rows.iter().map(|row| row.dividend).sum();
    assert!((ONE - 3..=ONE).contains(&sum));
}

#[test]
fn d10_stake_curves_are_smooth_at_the_bend_and_flat_or_concave_above() {
    let knee = Curve::new(StakeCurve::Knee, 1_000, 1_000, 10);
    assert_eq!([0, 399, 400, 401, 1_600].map(|stake| knee.of(stake)), [0, 399, 400, 400, 1_200]);
    let cap = Curve::new(StakeCurve::Cap(6_554), 0, 1_000, 10);
    assert_eq!([99, 100, 101, u64::MAX].map(|stake| cap.of(stake)), [99, 100, 100, 100]);
    let linear = Curve::new(StakeCurve::Linear, 1_000, 1_000, 10);
    assert_eq!(linear.of(u64::MAX), u64::MAX);
    let nobody = Curve::new(StakeCurve::Knee, 0, 1_000, 10);
    assert_eq!(nobody.of(900), 900, "or nobody would ever get a seat");
    let mut of = plain();
    of.switches.stake_curve = StakeCurve::Cap(22_000);
    assert_eq!(run(of).rows[0].stake, div(2, 5), "cut from 3 to 2 of 6");
}

#[test]
fn e22_the_reasons_sum_to_the_rank() {
    for lift in [None, Some(Lift { tau: 21_845, lambda: 40_000 })] {
        for sums in [Sums::Exact, Sums::Floored] {
            let mut of = plain();
            (of.switches.lift, of.switches.sums) = (lift, sums);
            of.related = vec![(MemberId(1), MemberId(10))];
            let job = EpochJob::new(of).unwrap();
            let out = job.run(&mut Workspace::new());
            for column in &out.columns {
                let reasons = explain(&job, &out, column.member).unwrap();
                assert_eq!(reasons.iter().map(|reason| reason.term).sum::<u128>(), column.sum);
            }
            assert_eq!(explain(&job, &out, MemberId(99)), None);
        }
    }
}

#[test]
fn y16_rows_and_blocks_have_one_encoding_and_are_capped_before_they_are_read() {
    let row = [(MemberId(3), 5), (MemberId(200), 65_535)];
    let bytes = write_row(Writer::new(), &row).done();
    assert_eq!(bytes, [2, 2, 3, 5, 0, 0xc5, 1, 0xff, 0xff]);
    let read = |bytes: &[u8], limit| read_row(&mut Reader::new(bytes), limit);
    assert_eq!(read(&bytes, 2), Ok(row.to_vec()));
    assert_eq!(read(&bytes, 1), Err(LayoutError::TooMany { what: "a row", found: 2, limit: 1 }));
    assert_eq!(read(&[2, 0xff, 0xff, 3], 1 << 20), Err(LayoutError::Short { missing: 3 * 65_535 }));
    assert!(read(&[4, 1, 3, 5, 0, 0, 0], 9).is_err(), "wider than it needs");
    assert!(read(&[2, 1, 0x83, 0, 5, 0], 9).is_err(), "a longer number than it needs");
    assert!(read(&[2, 2, 3, 5, 0, 0, 5, 0], 9).is_err(), "an id twice");
    let [block] = &bonds(&[(7, 64, 5), (9, 64, 70_000), (9, 127, 1)])[..] else { panic!("one block") };
    let bytes = block.write(Writer::new()).done();
    assert_eq!(BondBlock::read(&mut Reader::new(&bytes)).as_ref(), Ok(&**block));
    for cut in 0..bytes.len() {
        assert!(BondBlock::read(&mut Reader::new(&bytes[..cut])).is_err());
    }
    assert_eq!(bonds(&[(7, 63, 5), (7, 64, 5)]).len(), 2, "64 miners a block");
}
