//! The mempool: what it takes, in which order it offers it, and what it lets go.

use super::super::apply::build;
use super::super::mempool::{Dropped, Limits, Mempool};
use super::super::receipt::{Code, Refusal};
use super::*;
use crate::protocol::chance::Chance;

fn bytes(world: &World, of: u8, action: Action, ahead: u64, extra_fee: u64) -> Vec<u8> {
    let mut transaction = world.transaction(of, action, ahead);
    transaction.fee += extra_fee;
    world.sign(of, transaction).encode()
}

fn offer(pool: &mut Mempool, world: &World, bytes: &[u8]) -> Result<bool, Refusal> {
    pool.offer(bytes, &world.state).map(|offered| offered.new)
}

#[test]
fn l23_an_account_has_its_share_and_gaps_are_short() {
    let world = World::new();
    let mut pool = Mempool::default();
    for ahead in [1, 3, 0, 2] {
        assert_eq!(offer(&mut pool, &world, &bytes(&world, 5, transfer(6, 1), ahead, 0)), Ok(true));
    }
    assert_eq!(pool.next_nonce(&account(5), &world.state), 4);
    assert_eq!(offer(&mut pool, &world, &bytes(&world, 5, transfer(6, 1), 7, 0)), Ok(true), "three are missing");
    let far = bytes(&world, 5, transfer(6, 1), 9, 0);
    assert_eq!(offer(&mut pool, &world, &far), Err(Refusal::Nonce { expected: 0, found: 9 }));
    for ahead in [4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15] {
        assert_eq!(offer(&mut pool, &world, &bytes(&world, 5, transfer(6, 1), ahead, 0)), Ok(true));
    }
    let one_more = bytes(&world, 5, transfer(6, 1), 16, 0);
    assert_eq!(offer(&mut pool, &world, &one_more), Err(Refusal::AccountFull { limit: 16 }));
    // Those who stake may have more waiting.
    for ahead in 0..64 {
        assert_eq!(offer(&mut pool, &world, &bytes(&world, 0, transfer(6, 1), ahead, 0)), Ok(true));
    }
}

#[test]
fn l24_a_replacement_pays_a_tenth_more() {
    let world = World::new();
    let mut pool = Mempool::default();
    let first = bytes(&world, 5, transfer(6, 1), 0, 0);
    let fee = world.transaction(5, transfer(6, 1), 0).fee;
    let minimum = fee + fee.div_ceil(10);
    assert_eq!(offer(&mut pool, &world, &first), Ok(true));
    assert_eq!(offer(&mut pool, &world, &first), Ok(false));
    let cheap = bytes(&world, 5, transfer(6, 2), 0, minimum - fee - 1);
    assert_eq!(offer(&mut pool, &world, &cheap), Err(Refusal::ReplacementTooLow { minimum }));
    let dear = bytes(&world, 5, transfer(6, 2), 0, minimum - fee);
    assert_eq!(offer(&mut pool, &world, &dear), Ok(true));
    assert_eq!((pool.propose(&world.state), pool.len()), (vec![dear], 1));
    assert_eq!(pool.dropped(), Dropped { replaced: 1, ..Dropped::default() });
}

#[test]
fn l25_a_bad_signature_never_enters_even_under_a_known_id() {
    let world = World::new();
    let mut pool = Mempool::default();
    let good = bytes(&world, 5, transfer(6, 1), 0, 0);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(offer(&mut pool, &world, &forged), Err(Refusal::Signature));
    assert_eq!(offer(&mut pool, &world, &good), Ok(true));
    assert_eq!(offer(&mut pool, &world, &forged), Err(Refusal::Signature));
    assert!(pool.knows(&good) && !pool.knows(&forged));
}

#[test]
fn l24_the_best_paying_goes_first_each_account_in_order() {
    let world = World::new();
    let mut pool = Mempool::default();
    let low = bytes(&world, 5, transfer(6, 1), 0, 0);
    let follows = bytes(&world, 5, transfer(6, 1), 1, 9_000_000);
    let middle = bytes(&world, 6, transfer(5, 1), 0, 1_000_000);
    for bytes in [&low, &follows, &middle] {
        assert_eq!(offer(&mut pool, &world, bytes), Ok(true));
    }
    assert_eq!(pool.propose(&world.state), [middle, low, follows]);
}

#[test]
fn weights_wait_for_their_time_and_others_are_refused() {
    let mut world = World::new();
    let mut pool = Mempool::default();
    world.step(&[register(0, VISION, Role::Validator)]);
    let commit = |epoch| Action::WeightsCommit {
        subnet: VISION,
        mechanism: 0,
        epoch,
        member: MemberId(0),
        version: 0,
        hash: Digest::ZERO,
    };
    // A node that is a height behind must not lose what another sends at once.
    let early = bytes(&world, 0, commit(2), 0, 0);
    assert_eq!(offer(&mut pool, &world, &early), Ok(true));
    let late = bytes(&world, 0, commit(0), 1, 0);
    assert_eq!(offer(&mut pool, &world, &late), Err(Refusal::NoEffect(Code::TooLate)));
    let foreign = bytes(&world, 1, commit(1), 0, 0);
    assert_eq!(offer(&mut pool, &world, &foreign), Err(Refusal::NoEffect(Code::NotYours)));
    let (body, _) = build(&world.state, &world.context(), pool.propose(&world.state));
    assert!(body.is_empty());
    world.run_to(5);
    pool.settle(&world.state, &[]);
    let (body, executed) = build(&world.state, &world.context(), pool.propose(&world.state));
    assert_eq!(body, [early]);
    pool.settle(&executed.state, &executed.ids);
    assert!(pool.is_empty());
}

#[test]
fn a_free_transaction_that_waits_in_vain_gives_way_to_a_later_one() {
    let mut world = World::new();
    let mut pool = Mempool::default();
    world.step(&[register(0, VISION, Role::Validator)]);
    let commit = |world: &World, epoch: u64, later: u64| {
        let (subnet, member) = (VISION, MemberId(0));
        let action = Action::WeightsCommit { subnet, mechanism: 0, epoch, member, version: 0, hash: Digest::ZERO };
        let mut transaction = world.transaction(0, action, 0);
        transaction.valid_until += later;
        world.sign(0, transaction).encode()
    };
    let (first, other, late) = (commit(&world, 2, 1), commit(&world, 2, 2), commit(&world, 2, 0));
    assert_eq!(offer(&mut pool, &world, &first), Ok(true));
    assert_eq!(offer(&mut pool, &world, &other), Err(Refusal::ReplacementTooLow { minimum: 1 }), "at once");
    world.run_to(world.state.height() + 2);
    assert_eq!(offer(&mut pool, &world, &late), Err(Refusal::ReplacementTooLow { minimum: 1 }), "it goes back");
    assert_eq!(offer(&mut pool, &world, &other), Ok(true));
    assert_eq!((pool.len(), pool.dropped().replaced), (1, 1));
    assert_eq!(offer(&mut pool, &world, &first), Err(Refusal::ReplacementTooLow { minimum: 1 }));
}

#[test]
fn what_can_no_longer_be_included_is_let_go_and_counted() {
    let mut world = World::new();
    let mut pool = Mempool::default();
    let gap = bytes(&world, 5, transfer(6, 1), 2, 0);
    let stale = bytes(&world, 6, transfer(5, 1), 0, 0);
    let expires = bytes(&world, 7, transfer(5, 1), 0, 0);
    let mut long = world.transaction(4, transfer(5, 1), 1);
    long.valid_until = 1_000;
    let long = world.sign(4, long).encode();
    for bytes in [&gap, &stale, &expires, &long] {
        assert_eq!(offer(&mut pool, &world, bytes), Ok(true));
    }
    world.step(&[(6, transfer(5, 2))]);
    pool.settle(&world.state, &[]);
    assert_eq!(pool.dropped(), Dropped { stale: 1, ..Dropped::default() });
    world.run_to(11);
    pool.settle(&world.state, &[]);
    assert_eq!(pool.dropped(), Dropped { stale: 1, expired: 2, ..Dropped::default() });
    world.run_to(62);
    pool.settle(&world.state, &[]);
    assert_eq!(pool.dropped(), Dropped { stale: 1, expired: 2, gap: 1, ..Dropped::default() });
    assert_eq!((pool.len(), pool.bytes()), (0, 0));
}

#[test]
fn l23_the_bounds_hold_whatever_is_offered() {
    let mut genesis = genesis();
    genesis.accounts.extend((20..40).map(|of| GenesisAccount { account: account(of), balance: 100 * STAR }));
    let world = World::of(&genesis.seal().unwrap().1);
    let limits = Limits { count_max: 40, bytes_max: 7_000, ..Limits::default() };
    let mut pool = Mempool::new(limits);
    let mut chance = Chance::from_seed([3; 32]);
    let mut taken = 0;
    for _ in 0..600 {
        let of = 20 + u8::try_from(chance.below(20)).unwrap();
        let memo = vec![0; chance.index(64)];
        let action = Action::Transfer { to: account(5), amount: 1, memo };
        let next = pool.next_nonce(&account(of), &world.state);
        let offered = offer(&mut pool, &world, &bytes(&world, of, action, next, chance.below(100_000)));
        taken += u64::from(offered == Ok(true));
        assert!(matches!(offered, Ok(true) | Err(Refusal::PoolFull | Refusal::AccountFull { .. })), "{offered:?}");
        assert!(pool.len() <= 36 && pool.bytes() <= 6_300, "a tenth is kept for class S");
    }
    assert_eq!(taken, pool.len() as u64 + pool.dropped().evicted);
    assert!(pool.dropped().evicted > 10);
    // What is left can be proposed without a refusal.
    let candidates = pool.propose(&world.state);
    let (body, _) = build(&world.state, &world.context(), candidates.clone());
    assert_eq!(body, candidates);
}
