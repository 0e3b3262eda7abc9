//! What the fuzzers do with their bytes (T7): everything that outsiders' bytes can reach in rows, openings, epochs and
//! grants. The same entry points run here over a bounded number of inputs.

use starling::ledger::economy::grants::{Claimant, Voice, divide};
use starling::ledger::economy::largest_remainder;
use starling::ledger::economy::members::Price;
use starling::ledger::economy::rows::Curve;
use starling::ledger::economy::split::split;
use starling::ledger::economy::supply::emission;
use starling::ledger::incentive::rows::{read_row, write_row};
use starling::ledger::incentive::{BondBlock, EpochJob, InTurn, Switches, Workspace};
use starling::ledger::rows::Pool;
use starling::protocol::commitment::{Author, Opening, Width};
use starling::protocol::ids::{AccountId, ChainId, MemberId, PublicKey, SubnetId};
use starling::protocol::layout::{Reader, Writer};
use starling::protocol::parameters::{NetworkKind, Parameters};

use crate::chance::Chance;
use crate::compare::compare;
use crate::reference::Slow;

/// Any bytes are a row, or a block of bonds, in one way, or refused. Says whether they were one.
pub fn row_codec(bytes: &[u8]) -> bool {
    let mut from = Reader::new(bytes);
    let row = read_row(&mut from, 65_536);
    if let Ok(row) = &row {
        assert_eq!(write_row(Writer::new(), row).done(), &bytes[..bytes.len() - from.left()]);
    }
    let mut from = Reader::new(bytes);
    let block = BondBlock::read(&mut from);
    if let Ok(block) = &block {
        assert_eq!(block.write(Writer::new()).done(), &bytes[..bytes.len() - from.left()]);
    }
    row.is_ok() || block.is_ok()
}

/// Any bytes are an opening in one way, or refused; an opening opens its own commitment, and no other row, author or period.
pub fn reveal(bytes: &[u8]) -> bool {
    let mut from = Reader::new(bytes);
    let Ok(opening) = Opening::read(&mut from) else { return false };
    let used = &bytes[..bytes.len() - from.left()];
    assert_eq!(opening.write(Writer::new()).done(), used);
    let by = Author {
        chain: ChainId([1; 32]),
        subnet: SubnetId(2),
        mechanism: 0,
        period: 3,
        validator: MemberId(4),
        operator: PublicKey([5; 32]),
    };
    let sealed = opening.commitment(&by);
    assert!(opening.opens(&sealed, &by));
    assert!(!opening.opens(&sealed, &Author { validator: MemberId(6), ..by }));
    assert!(!opening.opens(&sealed, &Author { period: 4, ..by }));
    let mut other = used.to_vec();
    let at = usize::from(used[0]) % used.len();
    other[at] ^= 1 << (used[1] % 8);
    if let Ok(other) = Opening::read(&mut Reader::new(&other)) {
        assert!(!other.opens(&sealed, &by), "a bit of byte {at} is not sealed");
    }
    opening.check().is_ok()
}

/// Any epoch ends, says what the slow reference says, and the same with more lanes.
pub fn epoch(bytes: &[u8]) {
    let mut chance = Chance::fed(bytes);
    let mut switches = if chance.one_in(2) { Switches::native() } else { Switches::compat() };
    if chance.one_in(2) {
        chance.flip_switches(&mut switches);
    }
    let job = EpochJob::new(chance.input(switches)).expect("well-formed");
    let fast = job.run(&mut Workspace::new());
    compare(job.input(), &fast, &Slow::close(job.input())).unwrap_or_else(|wrong| panic!("{bytes:?}:\n{wrong}"));
    assert_eq!(fast, job.run_on(&mut Workspace::with_lanes(3), &InTurn));
}

/// Any run of terms keeps to the budget, to three quarters of what was burnt, and to the mote (E3, E6-E8, E12, E18, E19).
pub fn economy(bytes: &[u8]) {
    let mut chance = Chance::fed(bytes);
    let network = Parameters::defaults(NetworkKind::Public);
    let subnets = 1 + chance.below(5) as u32;
    let (mut banks, mut burnt, mut granted) = (vec![0_u64; subnets as usize], 0_u128, 0_u128);
    for _ in 0..1 + chance.below(6) {
        for bank in &mut banks {
            let any = chance.below(1 << 50);
            let fees = chance.of(&[0, 1, 15, 16, 1 << 40, any]);
            *bank += fees;
            burnt += u128::from(fees);
        }
        let voices: Vec<Voice> = (0..chance.below(6) as u8).map(|of| voice(&mut chance, of, subnets)).collect();
        let claimants: Vec<Claimant> = (0..subnets)
            .map(|of| Claimant {
                subnet: SubnetId(of),
                draw: banks[of as usize] >> 4,
                open: !chance.one_in(4),
                deaf: if chance.one_in(4) { vec![AccountId([0; 32])] } else { Vec::new() },
            })
            .collect();
        banks.iter_mut().zip(&claimants).for_each(|(bank, of)| *bank -= of.draw);
        let any = chance.below(1 << 50);
        let (usage, support) = (chance.of(&[0, 1, 36_000_000_000, any]), chance.of(&[0, 1, 18_000_000_000, any]));
        let grants = divide(&network, usage, support, &voices, &claimants);
        let (used, supported) = grants.iter().fold((0, 0), |sum, of| (sum.0 + of.usage, sum.1 + of.support));
        assert!(used <= usage && supported <= support, "{used} of {usage}, {supported} of {support}");
        assert!(grants.iter().zip(&claimants).all(|(grant, of)| of.open || grant.support == 0));
        granted += u128::from(used);
        assert!(granted * 10_000 <= burnt * u128::from(network.usage_theta_bp));
        for grant in grants {
            let parts = split(grant.usage, chance.below(1_801));
            assert_eq!(parts.owner + parts.miners + parts.validators, grant.usage);
        }
    }
    prices(&mut chance);
    let weights: Vec<u64> = (0..chance.below(12)).map(|_| amount(&mut chance)).collect();
    let pot = amount(&mut chance);
    let parts: u128 = largest_remainder(pot, &weights).into_iter().map(u128::from).sum();
    assert_eq!(parts, if weights.iter().all(|w| *w == 0) { 0 } else { pot.into() });
    let pool = Pool { total: amount(&mut chance) >> 1, shares: amount(&mut chance) >> 1, ..Pool::default() };
    let put = amount(&mut chance) >> 2;
    if pool.open() && pool.total.checked_add(put).is_some() {
        let bought = pool.issue(put);
        if let Some(shares) = pool.shares.checked_add(bought) {
            let after = Pool { total: pool.total + put, shares, ..pool.clone() };
            assert!(after.redeem(bought) <= put, "{pool:?}: {put} buys {bought}");
        }
    }
}

fn amount(chance: &mut Chance) -> u64 {
    let any = chance.next();
    chance.of(&[0, 1, 2, 1_000_000_000, any >> 1, any >> 32, u64::MAX])
}

fn voice(chance: &mut Chance, of: u8, subnets: u32) -> Voice {
    let any = chance.below(1 << 50);
    let stake = chance.of(&[0, 1, 1 << 40, any]);
    let mut parts: Vec<(SubnetId, u16)> = Vec::new();
    for subnet in 0..subnets {
        if chance.one_in(2) {
            parts.push((SubnetId(subnet), chance.of(&[1, 65_535, 3])));
        }
    }
    Voice { account: AccountId([of; 32]), stake, parts }
}

/// Prices stay in their bounds and fall while nobody buys; emission never rises with the supply.
fn prices(chance: &mut Chance) {
    let (min, more) = (amount(chance) >> 8, amount(chance) >> 8);
    let (max, half_life) = (min + more, chance.of(&[1, 360, 4_320, u64::MAX]));
    let curve = Curve { price: amount(chance), since: chance.below(1_000) };
    let (first, wait) = (chance.below(1 << 20), amount(chance) >> 1);
    let (now, later) = (curve.at(first, half_life, min, max), curve.at(first + wait, half_life, min, max));
    assert!((min..=max).contains(&now) && (min..=max).contains(&later) && later <= now);
    let price = Price::of(now, chance.below(2_501));
    assert!(price.fee + price.bond == now && price.fee <= now);
    assert!(Curve::bought(now, first, max).at(first, half_life, min, max) >= now);
    let (supply, cap) = (amount(chance), amount(chance) >> 1);
    assert!(emission(supply.into(), 100_000_000, cap) >= emission(u128::from(supply) + 1, 100_000_000, cap));
}

/// Bytes that are nearly an opening: a whole one, with some of its bits changed or its end cut off.
fn nearly_an_opening(chance: &mut Chance) -> Vec<u8> {
    let width = if chance.one_in(2) { Width::Two } else { Width::Four };
    let row = (0..chance.below(9) as u32).map(|id| (MemberId(id * 3), chance.of(&[1, 65_535]))).collect();
    Opening::bare(width, row, [chance.below(256) as u8; 32]).write(Writer::new()).done()
}

fn nearly_a_row(chance: &mut Chance) -> Vec<u8> {
    let row: Vec<(MemberId, u32)> =
        (0..chance.below(9) as u32).map(|id| (MemberId(id * 200), chance.of(&[1, 65_535, 65_536]))).collect();
    write_row(Writer::new(), &row).done()
}

fn spoiled(chance: &mut Chance, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..chance.below(3) {
        let at = chance.below(bytes.len().max(1) as u64) as usize;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << chance.below(8);
        }
    }
    if chance.one_in(8) {
        bytes.truncate(chance.below(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

fn any_bytes(chance: &mut Chance) -> Vec<u8> {
    (0..chance.below(400)).map(|_| chance.next().to_le_bytes()[3]).collect()
}

const INPUTS: usize = 20_000;

#[test]
fn t07_any_bytes_are_a_row_in_one_way_or_refused() {
    let mut chance = Chance::seeded(71);
    let read = |chance: &mut Chance| {
        let bytes = if chance.one_in(4) { any_bytes(chance) } else { nearly_a_row(chance) };
        row_codec(&spoiled(chance, bytes))
    };
    let taken = (0..INPUTS).filter(|_| read(&mut chance)).count();
    println!("{taken} of {INPUTS} inputs are a row or a block of bonds");
    assert!((INPUTS / 10..INPUTS * 9 / 10).contains(&taken), "{taken}: the inputs are all good, or all bad");
}

#[test]
fn t07_any_bytes_are_an_opening_in_one_way_or_refused() {
    let mut chance = Chance::seeded(72);
    let read = |chance: &mut Chance| {
        let bytes = if chance.one_in(4) { any_bytes(chance) } else { nearly_an_opening(chance) };
        reveal(&spoiled(chance, bytes))
    };
    let taken = (0..INPUTS).filter(|_| read(&mut chance)).count();
    println!("{taken} of {INPUTS} inputs are openings that may be revealed");
    assert!((INPUTS / 10..INPUTS * 9 / 10).contains(&taken), "{taken}: the inputs are all good, or all bad");
}

#[test]
fn t07_any_terms_keep_to_their_budget() {
    let mut chance = Chance::seeded(73);
    (0..INPUTS).for_each(|_| economy(&any_bytes(&mut chance)));
}

#[test]
fn t07_epochs_steered_by_bytes_are_the_slow_reference() {
    let mut chance = Chance::seeded(7);
    (0..10_000).for_each(|_| epoch(&any_bytes(&mut chance)));
}
