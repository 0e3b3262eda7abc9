//! Seats against naive ones: commits, reveals, bonds and challenges, the rules said once more (T6).

use proptest::prelude::*;

use super::super::apply::execute;
use super::super::receipt::{Code, Refusal};
use super::super::rows::Member;
use super::*;
use crate::protocol::merkle::{merkle_path, merkle_root};

const TEMPO: u64 = 8;
/// Heights a challenge waits for its answer.
const PATIENCE: u64 = 6;
const MINIMUM: u64 = STAR / 10 * 9;

#[derive(Clone, Debug)]
enum Deed {
    Commit(u8, u8),
    Reveal(u8, u8),
    TopUp(u8, u64),
    Challenge(u8),
    Answer(u8),
    Wait,
}

#[derive(Clone, Debug, Default)]
struct Naive {
    bond: u64,
    /// The newest last.
    misses: Vec<bool>,
    suspended: bool,
    /// Row and number of commits of the open epoch, and of the one before: row, and times revealed.
    sealed: Option<(u8, u8)>,
    waiting: Option<(u8, u32)>,
    missed: bool,
    spoke: bool,
    /// Deadlines and numbers of challenges, the oldest first.
    challenges: Vec<(u64, u64)>,
    accountable_from: u64,
    logs: Vec<u64>,
}

/// Three validators at one height, in words as plain as they can be.
#[derive(Default)]
struct Model {
    height: u64,
    epoch: u64,
    apply_at: u64,
    number: u64,
    seats: Vec<Naive>,
}

impl Model {
    fn scheduled(&mut self) {
        self.height += 1;
        let (height, epoch) = (self.height, self.epoch);
        for seat in &mut self.seats {
            while seat.challenges.first().is_some_and(|challenge| challenge.0 <= height) {
                seat.challenges.remove(0);
                seat.bond -= seat.bond / 64;
                seat.accountable_from = epoch + 16;
            }
        }
        // The window of two heights is over.
        if height % TEMPO == 3 {
            self.apply_at = height + 2 + u64::from(self.seats.iter().any(|seat| seat.spoke));
            for seat in &mut self.seats {
                seat.missed = seat.waiting.take().is_some_and(|(_, times)| times == 0);
            }
        }
        if height == self.apply_at {
            for seat in &mut self.seats {
                let before = seat.misses.iter().rev().take(16).filter(|missed| **missed).count();
                if seat.missed {
                    seat.bond -= if before >= 6 { seat.bond } else { seat.bond / (64 >> before) };
                }
                seat.misses.push(seat.missed);
            }
        }
        if height % TEMPO == 1 {
            self.epoch += 1;
            for seat in &mut self.seats {
                seat.suspended = seat.bond < MINIMUM;
                seat.waiting = seat.sealed.take().map(|(row, _)| (row, 0));
            }
        }
    }

    fn deed(&mut self, deed: &Deed) -> Code {
        let (height, epoch) = (self.height, self.epoch);
        let revealing = height % TEMPO == 1 || height % TEMPO == 2;
        match *deed {
            Deed::Commit(of, row) => {
                let seat = &mut self.seats[usize::from(of)];
                let count = seat.sealed.map_or(0, |sealed| sealed.1);
                if seat.suspended {
                    return Code::SeatSuspended;
                }
                if count == 2 {
                    return Code::CommitsUsedUp;
                }
                seat.sealed = Some((row, count + 1));
            }
            Deed::Reveal(of, row) => {
                let seat = &mut self.seats[usize::from(of)];
                if !revealing {
                    return Code::TooLate;
                }
                let Some((sealed, times)) = &mut seat.waiting else { return Code::NoCommit };
                if *sealed != row {
                    return Code::OtherWeights;
                }
                if *times == 3 {
                    return Code::AlreadyRevealed;
                }
                *times += 1;
                if *times == 1 {
                    seat.logs.push(epoch - 1);
                    seat.spoke = true;
                }
            }
            Deed::TopUp(of, amount) => {
                let seat = &mut self.seats[usize::from(of)];
                seat.bond += amount;
                seat.suspended &= seat.bond < MINIMUM;
            }
            Deed::Challenge(of) => {
                let seat = &mut self.seats[usize::from(of)];
                if !seat.logs.contains(&(epoch - 1)) {
                    return Code::UnknownLog;
                }
                if seat.challenges.len() == 4 {
                    return Code::ChallengesFull;
                }
                seat.challenges.push((height + PATIENCE, self.number));
                self.number += 1;
            }
            Deed::Answer(of) => {
                self.seats[usize::from(of)].challenges.remove(0);
            }
            Deed::Wait => {}
        }
        Code::Applied
    }
}

/// A vector of its own for each choice, with a log of two leaves.
fn chosen(of: u8, row: u8) -> (Opening, [Vec<u8>; 2]) {
    let leaves = [vec![row; 9], vec![of; 5]];
    let log_root = merkle_root(leaves.iter().map(Vec::as_slice));
    let weights = [(MemberId(3), 1 + u32::from(row)), (MemberId(4), 7)];
    (Opening { log_root, log_len: 2, ..opening(of, &weights) }, leaves)
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0..3_u8, 0..2_u8).prop_map(|(of, row)| Deed::Commit(of, row)),
        8 => (0..3_u8, 0..2_u8).prop_map(|(of, row)| Deed::Reveal(of, row)),
        1 => (0..3_u8, 1..STAR / 10).prop_map(|(of, amount)| Deed::TopUp(of, amount)),
        3 => (0..3_u8).prop_map(Deed::Challenge),
        2 => (0..3_u8).prop_map(Deed::Answer),
        4 => Just(Deed::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn t6_seats_are_the_naive_ones(deeds in prop::collection::vec(deed(), 1..180)) {
        let mut genesis = genesis();
        genesis.subnets.truncate(1);
        genesis.committee.iter_mut().for_each(|voter| voter.support.truncate(1));
        let rules = &mut genesis.subnets[0].rules;
        (rules.tempo, rules.slots) = (TEMPO, 16);
        genesis.parameters.seat_bond_min = MINIMUM;
        genesis.parameters.log_challenge_heights = PATIENCE;
        let mut world = World::of(&genesis.seal().unwrap().1);
        let validators = (0..3).map(|of| register(of, VISION, Role::Validator));
        world.step(&validators.chain((5..7).map(|of| register(of, VISION, Role::Miner))).collect::<Vec<_>>());
        let mut model = Model { height: 1, epoch: 1, ..Model::default() };
        model.seats = vec![Naive { bond: STAR, ..Naive::default() }; 3];
        // Which row each validator revealed in which epoch.
        let mut revealed = std::collections::BTreeMap::new();
        for deed in deeds {
            model.scheduled();
            let mut deed = deed;
            if let Deed::Answer(of) = deed && model.seats[usize::from(of)].challenges.is_empty() {
                deed = Deed::Wait;
            }
            let epoch = model.epoch;
            let action = match deed {
                Deed::Commit(of, row) => Some(commit_of(&world.state, VISION, epoch, of, &chosen(of, row).0)),
                Deed::Reveal(of, row) => Some(reveal_of(&world.state, VISION, epoch - 1, of, chosen(of, row).0)),
                Deed::TopUp(of, amount) => {
                    let member = member(of, VISION, Role::Validator, &world.state);
                    Some((of, Action::ValidatorBond { subnet: VISION, member, amount }))
                }
                Deed::Challenge(of) => {
                    let member = member(of, VISION, Role::Validator, &world.state);
                    Some((7, Action::LogChallenge { subnet: VISION, epoch: epoch - 1, member, entry: 1 }))
                }
                Deed::Answer(of) => {
                    let (deadline, number) = model.seats[usize::from(of)].challenges[0];
                    // The challenge was opened in the epoch of its height.
                    let period = (deadline - PATIENCE).div_ceil(TEMPO) - 1;
                    let leaves = chosen(of, revealed[&(of, period)]).1;
                    let path = merkle_path(leaves.iter().map(Vec::as_slice), 1).unwrap();
                    Some((of, Action::LogAnswer { deadline, number, leaf: leaves[1].clone(), path }))
                }
                Deed::Wait => None,
            };
            let want = model.deed(&deed);
            if let (Deed::Reveal(of, row), Code::Applied) = (&deed, want) {
                revealed.insert((*of, epoch - 1), *row);
            }
            let body = world.body(action.as_slice());
            let got = match execute(&world.state, &world.context(), &body) {
                Ok(executed) => {
                    world.take(&executed);
                    executed.receipts.first().map_or(Code::Applied, |receipt| receipt.code)
                }
                Err(inadmissible) => {
                    world.step(&[]);
                    match inadmissible.refusal {
                        Refusal::NoEffect(code) => code,
                        other => panic!("{other}"),
                    }
                }
            };
            prop_assert_eq!(got, want, "{:?} at height {}", deed, model.height);
            for (of, naive) in (0..).zip(&model.seats) {
                let id = member(of, VISION, Role::Validator, &world.state);
                let seat = world.state.seat(VISION, id);
                let bond = world.state.get::<Member>(&(VISION, id)).unwrap().bond;
                let misses = naive.misses.iter().fold(0_u16, |mask, missed| (mask << 1) | u16::from(*missed));
                let found = (bond, seat.suspended, seat.misses, usize::from(seat.challenges), seat.accountable_from);
                let want = (naive.bond, naive.suspended, misses, naive.challenges.len(), naive.accountable_from);
                prop_assert_eq!(found, want, "validator {} at height {}", of, model.height);
            }
            prop_assert_eq!(world.state.check(), Ok(()));
        }
    }
}
