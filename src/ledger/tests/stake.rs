//! Pools of stake (E18): shares, delegating, moving, takes, penalties, and the laws that no sequence breaks.

use proptest::prelude::*;

use super::super::draft::Draft;
use super::super::economy::pools::{self, VIRTUAL};
use super::super::money::Note;
use super::super::receipt::Code;
use super::super::rows::{Pool, Shares};
use super::*;
use crate::protocol::statement::{Kind, Line};
use crate::protocol::transaction::ALL;

fn codes(world: &mut World, actions: &[(u8, Action)]) -> Vec<Code> {
    world.step(actions).receipts.iter().map(|receipt| receipt.code).collect()
}

fn delegate(of: u8, to: u8, amount: u64) -> (u8, Action) {
    (of, Action::Delegate { validator: account(to), amount })
}

fn undelegate(of: u8, from: u8, amount: u64) -> (u8, Action) {
    (of, Action::Undelegate { validator: account(from), amount })
}

fn redelegate(of: u8, from: u8, to: u8, amount: u64) -> (u8, Action) {
    (of, Action::Redelegate { from: account(from), to: account(to), amount })
}

/// Does something to the state outside of any transaction, as the end of an epoch or a proven fault would.
fn poke(world: &mut World, what: impl FnOnce(&mut Draft)) -> Vec<Line> {
    let parent = world.state.clone();
    let mut draft = Draft::new(&parent);
    what(&mut draft);
    let (state, _, lines) = draft.seal(&parent);
    world.state = state;
    lines
}

fn reward(world: &mut World, of: u8, amount: u64) {
    poke(world, |draft| {
        super::super::money::mint(draft, amount);
        assert!(pools::reward(draft, &account(of), amount, Note::of(Kind::EmissionValidator)));
    });
}

fn worth(world: &World, of: u8, pool: u8) -> u64 {
    world.state.worth(&account(of), &account(pool))
}

#[test]
fn e18_a_reward_raises_every_share_and_comes_out_after_the_unbonding_span() {
    let mut world = World::new();
    let tries = [delegate(5, 6, STAR), delegate(5, 0, STAR - 1), delegate(5, 0, 30 * STAR)];
    assert_eq!(codes(&mut world, &tries), [Code::UnknownPool, Code::BelowMinDelegation, Code::Applied]);
    assert_eq!((worth(&world, 5, 0), world.state.stake(&account(0))), (30 * STAR, 40 * STAR));
    reward(&mut world, 0, 4 * STAR);
    // A tenth of the pool each ten; the virtual share has its little part of it.
    assert_eq!(world.state.stake(&account(0)), 44 * STAR);
    let (mine, theirs) = (worth(&world, 5, 0), worth(&world, 0, 0));
    assert!(mine > 33 * STAR - 200_000 && mine < 33 * STAR && theirs > 11 * STAR - 200_000, "{mine} {theirs}");
    assert_eq!(
        codes(&mut world, &[undelegate(5, 0, 40 * STAR), undelegate(5, 0, ALL)]),
        [Code::StakeTooLow, Code::Applied]
    );
    let view = world.state.account_view(&account(5)).unwrap();
    assert_eq!((view.stake, view.unbonding), (0, mine));
    let (due, before) = (world.state.height() + 7, world.balance(5));
    world.run_to(due - 1);
    assert_eq!(world.balance(5), before);
    world.run_to(due);
    assert_eq!(world.balance(5), before + mine);
    assert_eq!(world.state.account(&account(5)).unwrap().attached, 0);
}

#[test]
fn e18_the_last_to_leave_takes_the_pool_with_it() {
    let mut world = World::new();
    assert_eq!(codes(&mut world, &[(5, Action::Stake { amount: 2 * STAR })]), [Code::Applied]);
    reward(&mut world, 5, STAR);
    let burned = world.state.supply().burned;
    let fee = world.transaction(5, Action::Unstake { amount: ALL }, 0).fee;
    let left = world.state.stake(&account(5)) - worth(&world, 5, 5);
    assert!(left > 0 && left < STAR / 1_000, "only the virtual share is left: {left}");
    world.step(&[(5, Action::Unstake { amount: ALL })]);
    assert!(world.state.get::<Pool>(&account(5)).is_none());
    assert_eq!(world.state.supply().burned - burned, left + fee);
}

#[test]
fn e18_a_take_falls_at_once_and_rises_slowly_after_notice() {
    let mut world = World::new();
    let take = |take_bp| (0, Action::SetTake { take_bp });
    // Alone in its pool a validator may set what it likes, up to the bound.
    assert_eq!(codes(&mut world, &[take(1_801), take(1_000)]), [Code::TakeTooHigh, Code::Applied]);
    assert_eq!(codes(&mut world, &[(5, Action::SetTake { take_bp: 1 })]), [Code::UnknownPool]);
    world.step(&[delegate(5, 0, 10 * STAR)]);
    let (own, other) = (worth(&world, 0, 0), worth(&world, 5, 0));
    reward(&mut world, 0, 2 * STAR);
    let (got, shared) = (worth(&world, 0, 0) - own, worth(&world, 5, 0) - other);
    assert!(got.abs_diff(STAR * 11 / 10) < 200_000 && shared.abs_diff(STAR * 9 / 10) < 200_000, "{got} {shared}");
    assert_eq!(
        codes(&mut world, &[take(1_101), take(1_100), take(1_100)]),
        [Code::TakeTooHigh, Code::Applied, Code::TakeTooSoon]
    );
    let pool = world.state.get::<Pool>(&account(0)).unwrap();
    let height = world.state.height();
    let term = world.state.parameters().term_heights;
    assert_eq!(pool.rise, Some((1_100, height + term * 1_008)));
    assert_eq!((pool.take_at(height + term * 1_008 - 1), pool.take_at(height + term * 1_008)), (1_000, 1_100));
    assert_eq!(pool.next_rise, height + term * 4_320);
    // Lowering is at once, and forgets the rise.
    assert_eq!(codes(&mut world, &[take(500), take(600)]), [Code::Applied, Code::TakeTooSoon]);
    let pool = world.state.get::<Pool>(&account(0)).unwrap();
    assert_eq!((pool.take_at(u64::MAX), pool.rise), (500, None));
}

#[test]
fn e02_the_stake_of_genesis_stays_for_its_span_and_what_came_later_does_not() {
    let mut genesis = genesis();
    genesis.parameters.genesis_lock_heights = 4;
    let mut world = World::of(&genesis);
    let out = |amount| (0, Action::Unstake { amount });
    let moved = redelegate(0, 0, 1, STAR);
    assert_eq!(codes(&mut world, &[out(ALL), out(STAR), moved]), [Code::StakeLocked; 3]);
    // What is added is free, and so is what rewards bring: shares are locked, not their worth.
    let more = (0, Action::Stake { amount: 5 * STAR });
    assert_eq!(codes(&mut world, &[more, out(5 * STAR), out(1)]), [Code::Applied, Code::Applied, Code::StakeLocked]);
    world.run_to(4);
    assert_eq!(codes(&mut world, &[out(ALL)]), [Code::Applied]);
}

#[test]
fn e18_a_penalty_reaches_delegators_what_is_held_and_what_was_moved() {
    let mut world = World::new();
    world.step(&[delegate(5, 0, 40 * STAR), delegate(6, 0, 40 * STAR), delegate(7, 0, 10 * STAR)]);
    world.step(&[undelegate(6, 0, 20 * STAR), redelegate(7, 0, 1, ALL)]);
    // 10 of its own, 40 and 20 of others in the pool; 20 held; 10 moved.
    assert_eq!(world.state.stake(&account(0)), 70 * STAR);
    let (burned, reporter) = (world.state.supply().burned, world.balance(4));
    let mut taken = 0;
    let lines = poke(&mut world, |draft| taken = pools::slash(draft, &account(0), 100_000, Some(&account(4))));
    assert_eq!(taken, 10 * STAR, "a tenth of everything that was liable");
    let sum: i64 = lines.iter().filter(|line| line.kind == Kind::Slash).map(|line| line.amount).sum();
    assert_eq!(sum, -(10 * STAR).cast_signed());
    assert_eq!((worth(&world, 5, 0), worth(&world, 6, 0)), (36 * STAR, 18 * STAR));
    assert_eq!(world.state.account_view(&account(6)).unwrap().unbonding, 18 * STAR);
    assert_eq!(worth(&world, 7, 1), 9 * STAR);
    assert_eq!(world.balance(4) - reporter, 10 * STAR / 20);
    assert_eq!(world.state.supply().burned - burned, 10 * STAR - 10 * STAR / 20);
    // Nothing of it moved on in time, and nothing of it is liable after the span.
    assert_eq!(codes(&mut world, &[redelegate(7, 1, 2, ALL)]), [Code::MovedTooSoon]);
    let until = world.state.height() + 7;
    world.run_to(until);
    poke(&mut world, |draft| taken = pools::slash(draft, &account(0), 1_000_000, None));
    assert_eq!((taken, worth(&world, 7, 1)), (63 * STAR, 9 * STAR));
    assert_eq!(codes(&mut world, &[redelegate(7, 1, 2, ALL)]), [Code::Applied]);
    // A ruined pool sells no shares, pays nothing out and lets everybody go.
    assert_eq!(codes(&mut world, &[delegate(5, 0, STAR), undelegate(5, 0, ALL)]), [Code::PoolRuined, Code::Applied]);
}

#[test]
fn e18_moved_stake_that_was_taken_out_is_liable_still() {
    let mut world = World::new();
    world.step(&[delegate(7, 0, 10 * STAR)]);
    assert_eq!(
        codes(&mut world, &[redelegate(7, 0, 0, ALL), redelegate(7, 0, 5, ALL), redelegate(7, 0, 1, ALL)]),
        [Code::SamePool, Code::UnknownPool, Code::Applied]
    );
    world.step(&[undelegate(7, 1, ALL)]);
    let held = world.state.account_view(&account(7)).unwrap().unbonding;
    assert_eq!(held, 10 * STAR);
    poke(&mut world, |draft| {
        assert_eq!(pools::slash(draft, &account(0), 500_000, None), 10 * STAR);
    });
    assert_eq!(world.state.account_view(&account(7)).unwrap().unbonding, 5 * STAR);
}

#[test]
fn e18_one_account_holds_at_most_64_pools() {
    let mut genesis = genesis();
    genesis.accounts.extend((8..64).map(|of| GenesisAccount { account: account(of), balance: 10 * STAR }));
    genesis.accounts[5].balance = 1_000 * STAR;
    let mut world = World::of(&genesis.seal().unwrap().1);
    let own: Vec<_> = (0..64).map(|of| (of, Action::Stake { amount: STAR })).collect();
    assert!(codes(&mut world, &own).iter().all(|code| *code == Code::Applied));
    let all: Vec<_> = (0..64).filter(|of| *of != 5).map(|of| delegate(5, of, STAR)).collect();
    assert!(codes(&mut world, &all).iter().all(|code| *code == Code::Applied));
    assert_eq!(world.state.holdings(&account(5)).count(), pools::POOLS_MAX);
    // 64 is all there are keys for here: the next pool is one that a draft invents.
    poke(&mut world, |draft| {
        let stranger = AccountId([9; 32]);
        assert_eq!(pools::put_in(draft, &account(5), &stranger, STAR), Err(Code::TooManyPools));
    });
}

/// A pool and what some accounts did to it, step by step.
#[derive(Clone, Debug)]
enum Step {
    Buy(usize, u64),
    Sell(usize, u64),
    SellAll(usize),
    Reward(u64),
    Slash(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![1..1_000_u64, 1..10_000 * STAR, 1..5_000_000 * STAR];
    prop_oneof![
        3 => (0..4_usize, amount()).prop_map(|(of, amount)| Step::Buy(of, amount)),
        2 => (0..4_usize, amount()).prop_map(|(of, amount)| Step::Sell(of, amount)),
        1 => (0..4_usize).prop_map(Step::SellAll),
        1 => amount().prop_map(Step::Reward),
        1 => (0..1_000_001_u32).prop_map(Step::Slash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// T5.12: buying and selling at once never gains, and loses at most a mote and what one share is worth.
    #[test]
    fn e18_t5_12_what_is_bought_is_worth_what_was_paid(
        total in 0..20_000_000 * STAR, shares in 0..(1_u64 << 60), amount in 1..20_000_000 * STAR,
    ) {
        let pool = Pool { total, shares, ..Pool::default() };
        prop_assume!(pool.open() && total > 0 || shares == 0);
        let got = pool.issue(amount);
        let after = Pool { total: total + amount, shares: shares + got, ..pool.clone() };
        let back = after.redeem(got);
        prop_assert!(back <= amount);
        let share = (total + VIRTUAL) / (shares + VIRTUAL);
        prop_assert!(back + 2 + share >= amount, "{} of {}", back, amount);
        // Taking out an amount costs the fewest shares that are worth it.
        let cost = after.cost(back);
        prop_assert!(cost <= got && after.redeem(cost) >= back);
        prop_assert!(cost == 0 || after.redeem(cost - 1) < back);
    }

    /// T5.12: whatever others do, nobody loses more than the rounding of each step, and all shares together are never
    /// worth more than the pool.
    #[test]
    fn e18_t5_12_no_account_loses_by_what_another_does(steps in prop::collection::vec(step(), 1..40)) {
        let mut pool = Pool::default();
        let mut held = [0_u64; 4];
        for step in steps {
            let before: Vec<u64> = held.iter().map(|shares| pool.redeem(*shares)).collect();
            let mut actor = None;
            let mut fair = true;
            match step {
                Step::Buy(of, amount) if pool.open() && pool.total + amount < 20_000_000 * STAR => {
                    let got = pool.issue(amount);
                    pool.total += amount;
                    pool.shares += got;
                    held[of] += got;
                    actor = Some(of);
                }
                Step::Sell(of, amount) => {
                    let cost = pool.cost(amount);
                    if cost <= held[of] {
                        pool.total -= amount;
                        pool.shares -= cost;
                        held[of] -= cost;
                        actor = Some(of);
                    }
                }
                Step::SellAll(of) => {
                    pool.total -= pool.redeem(held[of]);
                    pool.shares -= held[of];
                    held[of] = 0;
                    actor = Some(of);
                }
                Step::Reward(amount) if pool.total + amount < 20_000_000 * STAR => pool.total += amount,
                Step::Slash(ppm) => {
                    let cut = u128::from(pool.total) * u128::from(ppm) / 1_000_000;
                    pool.total -= u64::try_from(cut).unwrap();
                    fair = false;
                }
                _ => {}
            }
            let worth: Vec<u64> = held.iter().map(|shares| pool.redeem(*shares)).collect();
            prop_assert!(worth.iter().sum::<u64>() <= pool.total);
            prop_assert_eq!(held.iter().sum::<u64>(), pool.shares);
            for of in (0..4).filter(|of| fair && actor != Some(*of)) {
                prop_assert!(worth[of] + 1 >= before[of], "{} had {} and has {}", of, before[of], worth[of]);
            }
        }
    }

    /// T5.12: a take is at most its part of the reward, and the shares it buys are worth no more.
    #[test]
    fn e18_t5_12_a_take_never_exceeds_its_bound(
        take_bp in 0..=pools::TAKE_MAX_BP, own in 10..1_000_u64, others in 1..1_000_u64, paid in 1..10_000 * STAR,
    ) {
        let mut world = World::new();
        poke(&mut world, |draft| {
            let (total, shares) = ((own + others) * STAR, (own + others) * STAR);
            super::super::money::mint(draft, total - 10 * STAR);
            draft.put(&account(0), Pool { total, shares, holders: 2, take_bp, ..Pool::default() });
            draft.put(&(account(0), account(0)), Shares { shares: own * STAR, moved_until: 0, locked: 0 });
            draft.put(&(account(5), account(0)), Shares { shares: others * STAR, moved_until: 0, locked: 0 });
        });
        reward(&mut world, 0, paid);
        let gain = worth(&world, 5, 0) - others * STAR;
        let least = u128::from(paid) * u128::from(10_000 - take_bp) / 10_000 * u128::from(others)
            / u128::from(own + others);
        // The virtual million has its part too, in a pool of at least two STAR.
        prop_assert!(u128::from(gain) + least / 1_000 + 2 >= least, "{} of {}", gain, least);
        prop_assert!(worth(&world, 0, 0) + worth(&world, 5, 0) <= world.state.stake(&account(0)));
    }
}
