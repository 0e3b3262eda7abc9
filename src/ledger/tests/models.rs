//! Published models: records that stay, parents that exist, seals that open for their own account in time (0x50).

use super::super::event::Event;
use super::super::models::Seal;
use super::super::receipt::Code;
use super::*;
use crate::protocol::artifact::publish::{Licence, ModelPublish, SEAL_HEIGHTS};

const ARTIFACT: Digest = Digest([2; 32]);

fn record(artifact: Digest) -> ModelPublish {
    ModelPublish {
        subnet: VISION,
        manifest: Digest([1; 32]),
        artifact,
        bytes: 5,
        parent: Digest::ZERO,
        licence: Licence(2),
        sealed: false,
        salt: [0; 32],
        claims: vec![(1, 900_000)],
    }
}

fn code(world: &mut World, of: u8, record: &ModelPublish) -> Code {
    world.step(&[(of, Action::ModelPublish(Box::new(record.clone())))]).receipts[0].code
}

#[test]
fn m13_a_model_is_recorded_once_and_its_parent_must_stand() {
    let mut world = World::new();
    let child = ModelPublish { parent: ARTIFACT, ..record(Digest([3; 32])) };
    assert_eq!(code(&mut world, 5, &child), Code::UnknownParent);
    let executed = world.step(&[(5, Action::ModelPublish(Box::new(record(ARTIFACT))))]);
    let height = world.state.height();
    assert_eq!(executed.receipts[0].code, Code::Applied);
    let told = Event::ModelPublished { subnet: VISION, artifact: ARTIFACT, account: account(5), since: height };
    assert_eq!(executed.events.last(), Some(&told));
    // Not again, by nobody; but in another subnet it is another model.
    assert_eq!(code(&mut world, 5, &record(ARTIFACT)), Code::ModelKnown);
    assert_eq!(code(&mut world, 6, &record(ARTIFACT)), Code::ModelKnown);
    assert_eq!(code(&mut world, 6, &ModelPublish { subnet: TEXT, ..record(ARTIFACT) }), Code::Applied);
    assert_eq!(code(&mut world, 6, &ModelPublish { subnet: SubnetId(9), ..record(ARTIFACT) }), Code::UnknownSubnet);
    assert_eq!(code(&mut world, 6, &child), Code::Applied);
    let found = world.state.model(VISION, ARTIFACT).unwrap();
    assert_eq!((found.publisher, found.since, found.published), (account(5), height, height));
    assert_eq!(world.state.models(VISION).count(), 2);
    // The rows come back from a store, under the same root.
    let again = State::load(world.state.rows()).unwrap();
    assert_eq!((again.root(), again.models(VISION).count()), (world.state.root(), 2));
}

#[test]
fn a_seal_gives_its_height_to_its_account_alone_and_in_time() {
    let mut world = World::new();
    let salt = [7; 32];
    let sealed = ModelPublish::sealed(VISION, &ARTIFACT, &account(5), &salt);
    assert_eq!(code(&mut world, 5, &sealed), Code::Applied);
    let height = world.state.height();
    assert_eq!(code(&mut world, 5, &sealed), Code::SealStands);
    // A copied seal opens for nobody else, and a wrong salt for nobody.
    assert_eq!(code(&mut world, 6, &sealed), Code::Applied);
    let opened = ModelPublish { salt, ..record(ARTIFACT) };
    assert_eq!(code(&mut world, 6, &opened), Code::NoSeal);
    assert_eq!(code(&mut world, 5, &ModelPublish { salt: [8; 32], ..record(ARTIFACT) }), Code::NoSeal);
    assert_eq!(code(&mut world, 5, &opened), Code::Applied);
    let found = world.state.model(VISION, ARTIFACT).unwrap();
    assert_eq!((found.since, found.published), (height, world.state.height()));
    assert!(world.state.get::<Seal>(&(VISION, account(5))).is_none());
    // Too late: it does not open any more, and makes room for another.
    let other = Digest([4; 32]);
    let late = ModelPublish::sealed(VISION, &other, &account(5), &salt);
    assert_eq!(code(&mut world, 5, &late), Code::Applied);
    let end = world.state.height() + SEAL_HEIGHTS;
    world.run_to(end);
    assert_eq!(code(&mut world, 5, &ModelPublish { salt, ..record(other) }), Code::SealExpired);
    assert_eq!(code(&mut world, 5, &late), Code::Applied);
}
