//! Accusations: what is proven, what it costs alone and together, and that no mote is lost on the way (C45, C47).

use proptest::prelude::*;

use super::super::offence::Offence;
use super::super::receipt::{Code, Refusal};
use super::*;
use crate::protocol::checkpoint::{Ballot, Candidate, Evidence, Subject, Vote};
use crate::protocol::committee::CommitteeContext;

/// The index under which an account of the committee votes.
fn signer(world: &World, of: u8) -> u16 {
    let committee = world.state.committee(0).unwrap();
    committee.index_of(&SecretKey::from_seed([of + 101; 32]).public()).unwrap()
}

/// Two candidates notarized by one signer in one view.
fn contradiction(world: &World, of: u8, view: u64) -> Evidence {
    let committee = world.state.committee(0).unwrap();
    let context = CommitteeContext::new(world.state.chain_id(), committee);
    let key = SecretKey::from_seed([of + 101; 32]);
    let vote = |hash: u8| {
        let ballot = Ballot::Notarize(Candidate { hash: Digest([hash; 32]), parent_view: view - 1 });
        Vote::sign(&context, Subject { term: 0, view, ballot }, signer(world, of), &key)
    };
    Evidence::new(vote(1), vote(2)).unwrap()
}

fn accuse(by: u8, evidence: Evidence) -> (u8, Action) {
    (by, Action::Accuse(Box::new(evidence)))
}

fn refusal(world: &World, action: (u8, Action)) -> Refusal {
    execute(&world.state, &world.context(), &world.body(&[action])).unwrap_err().refusal
}

#[test]
fn c45_a_contradiction_is_slashed_once_and_nothing_else_is() {
    let mut world = World::new();
    let evidence = contradiction(&world, 2, 9);
    let (balance, burned) = (world.balance(6), world.state.supply().burned);
    world.step(&[accuse(6, evidence)]);
    // A twentieth of 10 STAR, and a twentieth of that for who brought it. A quarter of the weight would lose three quarters.
    let taken = 10 * STAR / 4 * 3;
    assert_eq!(world.state.stake(&account(2)), 10 * STAR - taken);
    assert_eq!(world.balance(6), balance + taken / 20, "it is free for who brings it");
    assert_eq!(world.state.supply().burned, burned + taken - taken / 20);
    assert_eq!(refusal(&world, accuse(5, evidence)), Refusal::NoEffect(Code::AccusedAlready));
    let other_view = contradiction(&world, 2, 10);
    assert_eq!(refusal(&world, accuse(5, other_view)), Refusal::NoEffect(Code::AccusedAlready), "once a term");

    let (first, second) = evidence.votes();
    let another = Vote { signer: signer(&world, 1), ..*first };
    let framed = Evidence::new(another, Vote { signer: signer(&world, 1), ..*second }).unwrap();
    assert_eq!(
        refusal(&world, accuse(5, framed)),
        Refusal::NoEffect(Code::ProvesNothing),
        "somebody else signed these"
    );
    let later = |vote: &Vote| Vote { subject: Subject { term: 1, ..vote.subject }, ..*vote };
    let of_nobody = Evidence::new(later(first), later(second)).unwrap();
    assert_eq!(refusal(&world, accuse(5, of_nobody)), Refusal::NoEffect(Code::ProvesNothing), "no such committee");
}

#[test]
fn c47_who_is_caught_together_loses_all_and_who_accuses_itself_gets_nothing_back() {
    let mut genesis = genesis();
    // Small voters beside one that holds nearly all.
    genesis.committee[0].stake = 970 * STAR;
    let mut world = World::of(&genesis.seal().unwrap().1);
    let balance = world.balance(1);
    world.step(&[accuse(1, contradiction(&world, 1, 9))]);
    assert_eq!(world.state.stake(&account(1)), 10 * STAR - STAR / 2, "5 % alone");
    assert_eq!(world.balance(1), balance, "not a part of its own penalty");
    world.step(&[accuse(6, contradiction(&world, 2, 9))]);
    let two = 10 * STAR / 100 * 6;
    // The difference is taken in millionths of what is left.
    let paid = 10 * STAR - world.state.stake(&account(1));
    assert!(paid.abs_diff(two) < STAR / 10_000, "the first pays as much as both are: {paid}");
    assert_eq!(world.state.stake(&account(2)), 10 * STAR - two);
    world.step(&[accuse(6, contradiction(&world, 0, 9))]);
    assert!([0, 1, 2].map(|of| world.state.stake(&account(of))).iter().all(|left| *left < 2), "nearly all weight");
    assert_eq!(world.state.stake(&account(3)), 10 * STAR);
    // Half an unbonding span later the earlier ones are past.
    let mut world = World::of(&genesis);
    world.step(&[accuse(6, contradiction(&world, 1, 9))]);
    world.run_to(world.state.height() + 5);
    world.step(&[accuse(6, contradiction(&world, 2, 9))]);
    assert_eq!([1, 2].map(|of| world.state.stake(&account(of))), [10 * STAR - STAR / 2; 2]);
    let ppm: Vec<u32> = world.state.range::<Offence>(..).map(|(_, offence)| offence.ppm).collect();
    assert_eq!(ppm, [50_000, 50_000]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every step checks that each purse changed by its lines and that all money is somewhere (L7, E21).
    #[test]
    fn c47_no_penalty_makes_or_loses_a_mote(
        moves in prop::collection::vec((0_u8..8, 0_u8..4, 0_u8..4, 1_u64..40), 1..24),
    ) {
        let mut world = World::new();
        let mut accused = [false; 4];
        for (who, kind, whom, amount) in moves {
            let validator = account(whom);
            let amount = amount * STAR + amount;
            let action = match kind {
                0 => Action::Delegate { validator, amount },
                1 => Action::Undelegate { validator, amount: amount / 2 },
                2 => Action::Redelegate { from: validator, to: account((whom + 1) % 4), amount: amount / 3 },
                _ if accused[usize::from(whom)] => continue,
                _ => {
                    accused[usize::from(whom)] = true;
                    Action::Accuse(Box::new(contradiction(&world, whom, 7)))
                }
            };
            world.step(&[(who, action)]);
            prop_assert!(world.state.check().is_ok());
        }
        world.run_to(world.state.height() + 10);
        prop_assert!(world.state.check().is_ok());
    }
}
