//! The main job in a world: miners that really train, answers, challenges, weights, pay.

use starling::actors::query_dispatcher::{Behaviour, Frame};
use starling::ml::task::MinerSpec;
use starling::net::memory::Weather;
use starling::protocol::ids::SubnetId;
use starling::protocol::query::{Answer, Ask, CLASSES, PIXELS, Query};
use starling::protocol::transaction::Role;

use super::world::{Plan, VISION, World, run};

fn ask() -> Ask {
    let query = Query::Classify { images: vec![vec![3; PIXELS]; 2] };
    Ask { subnet: VISION, model: None, query, deadline_ms: 5_000, stream: false, receipt: None }
}

async fn incentive(world: &World, of: usize) -> u32 {
    let view = world.view(0).await;
    let member = view.state.member_of(VISION, Role::Miner, &world.account(of)).expect("a seat");
    view.state.member(VISION, member).expect("a member").incentive
}

/// Four validators; an honest miner, one that answers at random, one that is silent, one that comes late.
#[test]
fn pay_follows_quality() {
    let plan = Plan { seed: 21, validators: 4, others: 4, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3], 3, 60).await;
        for of in 0..4 {
            world.register(of, Role::Validator).await;
        }
        let (best, random, silent, late) = (4, 5, 6, 7);
        for of in [best, random, silent] {
            world.register(of, Role::Miner).await;
        }
        world.mine(best, Behaviour::Honest, MinerSpec::graded("vision", 0, 3)).await;
        world.mine(random, Behaviour::Random, MinerSpec::graded("vision", 0, 3)).await;
        world.mine(silent, Behaviour::Silent, MinerSpec::graded("vision", 2, 3)).await;
        let tip = world.height(0).await;
        world.reach(&[0], tip + 50, 120).await;
        let (paid, guessed, said) =
            (incentive(&world, best).await, incentive(&world, random).await, incentive(&world, silent).await);
        assert!(paid > 0, "the honest miner earns nothing");
        assert!(u64::from(guessed) * 20 < u64::from(paid), "random {guessed}, honest {paid}");
        assert_eq!(said, 0, "a silent miner is paid");
        world.register(late, Role::Miner).await;
        world.mine(late, Behaviour::Honest, MinerSpec::graded("vision", 1, 3)).await;
        let tip = world.height(0).await;
        world.reach(&[0], tip + 60, 150).await;
        let (risen, paid) = (incentive(&world, late).await, incentive(&world, best).await);
        assert!(u64::from(risen) * 5 > u64::from(paid), "a good latecomer has {risen}, the first {paid}");
        let frames = world.query(7, ask()).await;
        assert!(
            matches!(frames.last(), Some(Frame::Done { answer: Answer::Classes { probabilities }, .. })
                if probabilities.len() == 2 && probabilities.iter().all(|row| row.len() == CLASSES)),
            "{frames:?}"
        );
        // Who stops answering fades out, and somebody else has the pay.
        world.crash(best);
        let tip = world.height(0).await;
        world.reach(&[0], tip + 60, 150).await;
        let (faded, left) = (incentive(&world, best).await, incentive(&world, late).await);
        assert!(u64::from(faded) * 4 < u64::from(paid), "gone for six epochs and still at {faded} of {paid}");
        assert!(left > faded, "the one that answers has {left}, the one that is gone {faded}");
        world.check().await;
    });
}

#[test]
fn a_query_for_nobody_fails_in_words() {
    let plan = Plan { seed: 22, validators: 4, others: 1, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3, 4], 2, 60).await;
        let frames = world.query(4, Ask { subnet: SubnetId(9), ..ask() }).await;
        assert!(matches!(frames.as_slice(), [Frame::Failed(error)] if !error.message.is_empty()), "{frames:?}");
        world.check().await;
    });
}

#[test]
fn a_miner_that_dies_is_replaced_by_another() {
    let plan = Plan { seed: 23, validators: 4, others: 3, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3, 4, 5, 6], 3, 60).await;
        for of in [4, 5] {
            world.register(of, Role::Miner).await;
            world.mine(of, Behaviour::Honest, MinerSpec::graded("vision", 2, 3)).await;
        }
        world.pass(2_000).await;
        world.crash(4);
        for _ in 0..5 {
            let frames = world.query(6, ask()).await;
            assert!(matches!(frames.last(), Some(Frame::Done { .. })), "{frames:?}");
        }
        world.check().await;
    });
}
