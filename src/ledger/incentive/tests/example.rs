//! The worked example: stakes 3, 2, 1, two miners, in both modes, with the lift and with a relation.

use super::*;

const STAKES: [Q; 3] = [2_147_483_648, 1_431_655_765, 715_827_882];

fn native() -> EpochInput {
    let old = |b: u64| u32::try_from((b << 32) / 65_535).unwrap();
    EpochInput {
        bonds: bonds(&[(0, 3, old(4_000)), (0, 4, old(2_000))]),
        ..input(
            Switches::native(),
            vec![
                row(0, 3 * STAR, &[(3, 65_535), (4, 32_768)]),
                row(1, 2 * STAR, &[(3, 65_535), (4, 65_535)]),
                row(2, STAR, &[(4, 65_535)]),
            ],
            vec![column(3), column(4)],
        )
    }
}

fn compat() -> EpochInput {
    let mut of = native();
    of.switches = Switches::compat();
    of.bonds = bonds(&[(0, 3, 4_000), (0, 4, 2_000)]);
    of.rows.extend([3, 4].map(|id| RowInput { permit: false, ..row(id, 0, &[]) }));
    of.columns = (0..5).map(column).collect();
    of
}

#[test]
fn y01_to_y16_the_worked_example_compat() {
    let out = run(compat());
    assert_eq!(of_rows(&out, |row| row.stake)[..3], STAKES);
    let miners = of_columns(&out, |c| (c.consensus, c.rank(), c.incentive, c.amount));
    assert_eq!(
        miners[3..],
        [
            (2_863_296_966, 2_147_476_365, 2_342_701_490, 272_726_347),
            (2_147_483_648, 1_789_576_987, 1_952_265_805, 227_273_651)
        ]
    );
    assert_eq!(kept(&out), [(0, 3, 7_968), (1, 3, 3_276), (0, 4, 3_984), (1, 4, 3_276), (2, 4, 3_276)]);
    let paid = of_rows(&out, |row| (row.dividend, row.amount));
    assert_eq!(paid[..3], [(2_976_680_267, 346_531_191), (1_067_134_445, 124_230_799), (251_152_582, 29_238_008)]);
}

fn expect_native(
    out: &EpochResult,
    miners: [(Q, u128, Q, u64); 2],
    bonds: &[(u32, u32, u32)],
    validators: [(Q, u64); 3],
) {
    assert_eq!(of_rows(out, |row| row.stake), STAKES);
    assert_eq!(of_columns(out, |c| (c.consensus, c.sum, c.incentive, c.amount)), miners);
    assert_eq!(kept(out), bonds);
    assert_eq!(of_rows(out, |row| (row.dividend, row.amount)), validators);
}

const BONDS: [(u32, u32, u32); 5] =
    [(0, 3, 522_262_895), (1, 3, 214_748_365), (0, 4, 261_133_632), (1, 4, 214_748_365), (2, 4, 214_748_365)];

#[test]
fn y01_to_y16_the_worked_example_native() {
    expect_native(
        &run(native()),
        [
            (2_863_296_966, 9_223_340_758_755_442_688, 2_342_701_490, 272_726_348),
            (2_147_483_648, 7_686_174_637_134_184_448, 1_952_265_805, 227_273_652),
        ],
        &BONDS,
        [(2_976_680_264, 346_531_191), (1_067_134_446, 124_230_800), (251_152_584, 29_238_009)],
    );
}

#[test]
fn d07_the_worked_example_with_the_lift() {
    let mut of = native();
    of.switches.lift = Some(Lift { tau: 21_845, lambda: 65_535 });
    expect_native(
        &run(of),
        [
            (2_863_296_966, 10_760_569_430_132_916_224, 2_505_390_307, 291_665_819),
            (2_147_483_648, 7_686_174_637_134_184_448, 1_789_576_988, 208_334_181),
        ],
        &BONDS,
        [(3_013_129_748, 350_774_469), (1_053_905_668, 122_690_768), (227_931_879, 26_534_763)],
    );
}

#[test]
fn y06_the_worked_example_with_a_relation() {
    let mut of = native();
    of.related = vec![(MemberId(1), MemberId(4))];
    expect_native(
        &run(of),
        [
            (2_863_296_966, 9_223_340_758_755_442_688, 2_576_966_396, 299_998_372),
            (1_431_670_329, 6_148_977_240_276_890_055, 1_718_000_899, 200_001_628),
        ],
        &[(0, 3, 522_262_895), (1, 3, 214_748_365), (0, 4, 261_133_632), (2, 4, 143_167_033)],
        [(3_464_834_630, 403_359_839), (590_797_658, 68_777_899), (239_335_007, 27_862_262)],
    );
}
