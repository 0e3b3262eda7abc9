//! The budget of a term, the grants and the support, against what the rules say in words.

use proptest::prelude::*;

use super::*;
use crate::protocol::parameters::NetworkKind;

const STAR: u64 = 1_000_000_000;

fn network() -> Parameters {
    Parameters::defaults(NetworkKind::Public)
}

fn voice(of: u8, stake: u64, parts: &[(u32, u16)]) -> Voice {
    let parts = parts.iter().map(|(subnet, part)| (SubnetId(*subnet), *part)).collect();
    Voice { account: AccountId([of; 32]), stake, parts }
}

fn claimant(subnet: u32, draw: u64) -> Claimant {
    Claimant { subnet: SubnetId(subnet), draw, open: true, deaf: Vec::new() }
}

#[test]
fn e07_a_tenth_of_the_stake_must_agree_and_the_share_of_a_cabal_is_its_own() {
    let pot = 1_000 * STAR;
    let of = |cabal: u64, others: &[(u32, u16)]| {
        let voices = [voice(1, cabal, &[(1, 9)]), voice(2, 100 - cabal, others)];
        let grants = divide(&network(), 0, pot, &voices, &[claimant(1, 0), claimant(2, 0)]);
        (grants[0].support, grants[1].support)
    };
    // Below the quorum it has nothing, above it its own share of the pot, and never that of others (A16).
    assert_eq!(of(9, &[]).0, 0);
    let at = |share: u64| pot / 100 * share;
    assert!(of(10, &[]).0.abs_diff(at(10)) < 500 && of(15, &[]).0.abs_diff(at(15)) < 500);
    assert!(of(15, &[(2, 1)]).0.abs_diff(at(15)) < 500);
    assert_eq!(of(60, &[]).0, pot / 5, "no subnet has more than a fifth");
    // Stake that names nobody, or gives less than its all, leaves its part unminted.
    assert!(of(15, &[(2, 1), (3, 9)]).1.abs_diff(pot / 1_000 * 85) < 5_000);
}

#[test]
fn e07_a_voice_is_cut_down_to_what_a_quorum_gives_and_owners_are_not_heard() {
    let (pot, term) = (1_000 * STAR, network());
    // 5 % give all, 95 % a tenth: what counts is a tenth of everybody.
    let voices = [voice(1, 5, &[(1, 1)]), voice(2, 95, &[(1, 1), (2, 9)])];
    let found = divide(&term, 0, pot, &voices, &[claimant(1, 0)])[0].support;
    assert!(found.abs_diff(pot / 10) < 5_000, "{found}");
    let deaf = Claimant { deaf: vec![AccountId([2; 32])], ..claimant(1, 0) };
    assert_eq!(divide(&term, 0, pot, &voices, &[deaf])[0].support, 0, "5 % alone are below the quorum");
    let idle = Claimant { open: false, ..claimant(1, 0) };
    assert_eq!(divide(&term, 0, pot, &voices, &[idle])[0].support, 0, "who did not work is not supported");
}

#[test]
fn e06_a_usage_grant_is_theta_of_the_draw_behind_the_gate_and_a_quarter_of_the_pot_at_most() {
    let (pot, term) = (100 * STAR, network());
    let named = [voice(1, 100, &[(1, 1)])];
    let of = |voices: &[Voice], draws: &[u64]| -> Vec<u64> {
        let claimants: Vec<Claimant> = (1..).zip(draws).map(|(id, draw)| claimant(id, *draw)).collect();
        divide(&term, pot, 0, voices, &claimants).iter().map(|grant| grant.usage).collect()
    };
    assert_eq!(of(&named, &[8 * STAR]), [6 * STAR], "three quarters");
    assert_eq!(of(&[voice(1, 100, &[])], &[8 * STAR]), [6 * STAR / 4], "a quarter of that without support");
    let half = [voice(1, 5, &[(1, 1)]), voice(2, 95, &[])];
    assert!(of(&half, &[8 * STAR])[0].abs_diff(6 * STAR / 8 * 5) < 10, "half of the quorum");
    assert_eq!(of(&named, &[800 * STAR]), [25 * STAR]);
    let many = of(&[voice(1, 100, &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)])], &[50 * STAR; 5]);
    assert_eq!(many, [20 * STAR; 5], "the pot, in equal parts");
}

#[test]
fn e04_a_grant_accrues_by_the_height_and_what_nobody_took_waits() {
    let mut purse = Purse { usage_grant: 70, support_grant: 30, ..Purse::default() };
    assert_eq!((purse.take(100, 107, 20), purse.take(100, 107, 20), purse.take(100, 113, 20)), (35, 0, 30));
    purse.turn(Grant { usage: 0, support: 40 }, 4);
    assert_eq!((purse.pending, purse.mean_grant), (35, 10));
    assert_eq!((purse.take(120, 125, 20), purse.take(120, 140, 20)), (45, 30));
    assert_eq!(purse.accrued(120, 999, 20), 40, "never more than all of it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// T5.13: the bank gives at most theta of what was burned into it, whatever the burns and voices are.
    #[test]
    fn e06_t5_13_usage_grants_stay_below_theta_of_the_burns(
        burns in prop::collection::vec((0..3_usize, 0..1_000_000_000_000_u64), 1..40),
        stakes in prop::collection::vec((0..u64::MAX / 8, 0..4_u32), 1..6),
        pot in 0..100_000_000_000_000_u64,
    ) {
        let term = network();
        let voices: Vec<Voice> = (1..).zip(&stakes).map(|(of, (stake, subnet))| voice(of, *stake, &[(*subnet, 7)])).collect();
        let (mut banks, mut burned, mut granted) = ([0_u64; 3], 0_u128, 0_u128);
        for (of, burn) in burns {
            banks[of] += burn;
            burned += u128::from(burn);
            let claimants: Vec<Claimant> = (1..).zip(banks).map(|(id, bank)| claimant(id, bank >> 4)).collect();
            for (bank, of) in banks.iter_mut().zip(&claimants) {
                *bank -= of.draw;
            }
            let grants = divide(&term, pot, 0, &voices, &claimants);
            let sum: u128 = grants.iter().map(|grant| u128::from(grant.usage)).sum();
            prop_assert!(sum <= u128::from(pot));
            granted += sum;
            prop_assert!(granted * 10_000 <= burned * u128::from(term.usage_theta_bp));
        }
    }

    /// Support never grants more than the pot, and each voice moves at most its own share of it.
    #[test]
    fn e07_support_stays_within_the_pot(
        rows in prop::collection::vec((1..1_000_000_u64, prop::collection::btree_map(1..5_u32, 1..=u16::MAX, 0..4)), 1..8),
        pot in 0..1_000_000_000_000_u64,
    ) {
        let voices: Vec<Voice> = (1..).zip(&rows).map(|(of, (stake, parts))| {
            voice(of, *stake, &parts.iter().map(|(subnet, part)| (*subnet, *part)).collect::<Vec<_>>())
        }).collect();
        let claimants: Vec<Claimant> = (1..5).map(|id| claimant(id, 0)).collect();
        let whole = |voices: &[Voice]| divide(&network(), 0, pot, voices, &claimants).iter().map(|g| g.support).sum::<u64>();
        prop_assert!(whole(&voices) <= pot);
    }
}
