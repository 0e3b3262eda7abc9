//! A competition in a world: models are sealed, shown, fetched and run by the validators; who is better takes the crown, and
//! who copies gets nothing.

use starling::actors::artifact_keeper::PutArtifact;
use starling::actors::mail::{ask, to};
use starling::ledger::rows::Member;
use starling::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
use starling::ml::engine::{Control, Engine};
use starling::ml::model::{Artifact, Tensor};
use starling::ml::task::{self, MinerSpec};
use starling::net::memory::Weather;
use starling::protocol::artifact::publish::{Licence, ModelPublish};
use starling::protocol::chance::Chance;
use starling::protocol::ids::{AccountId, Digest, MemberId};
use starling::protocol::transaction::{Action, Role};

use super::world::{Plan, VISION, World, run_with};

const VALIDATORS: usize = 4;
/// The citizens that compete, and one that only looks.
const WEAK: usize = 4;
const STRONG: usize = 5;
const COPIER: usize = 6;
const READER: usize = 7;

fn trained(place: usize, of: usize) -> Artifact {
    let task = task::open("vision").expect("a task");
    let mut engine = CpuEngine::new(MEMORY_BYTES).expect("an engine");
    let spec = MinerSpec::graded("vision", place, of);
    engine.train(None, &task.job(&spec), &Control::FREE).expect("a model").artifact
}

/// The same model with noise of a hundredth on every weight.
fn noisy(of: &Artifact, seed: u8) -> Artifact {
    let mut chance = Chance::from_seed([seed; 32]);
    let mut shaken = |value: &f32| {
        let noise = f32::from(u16::try_from(chance.below(2_001)).expect("small")) / 1_000.0 - 1.0;
        value * (1.0 + noise / 100.0)
    };
    let mut tensors = std::collections::BTreeMap::new();
    for (name, tensor) in of.tensors() {
        let values = tensor.values.iter().map(&mut shaken).collect();
        tensors.insert(name.clone(), Tensor { shape: tensor.shape.clone(), values });
    }
    Artifact::new(of.architecture(), tensors).expect("a model")
}

async fn put(world: &World, of: usize, bytes: Vec<u8>) -> Digest {
    let keeper = world.with_node(of, |node| to(&node.artifact_keeper));
    let put = ask(&keeper, PutArtifact { bytes }, std::time::Duration::from_secs(60)).await;
    put.expect("an answer").expect("room")
}

/// Seals a model, then shows it.
async fn publish(world: &World, of: usize, model: &Artifact) -> Digest {
    let bytes = model.to_bytes();
    let (size, salt) = (bytes.len() as u64, [9; 32]);
    let manifest = put(world, of, format!("manifest of {of}, {size} bytes").into_bytes()).await;
    let artifact = put(world, of, bytes).await;
    let seal = ModelPublish::sealed(VISION, &artifact, &world.account(of), &salt);
    let id = world.submit(of, Action::ModelPublish(Box::new(seal.clone()))).await;
    world.finalised(of, id, 60).await;
    let shown = ModelPublish { manifest, artifact, bytes: size, licence: Licence(1), sealed: false, salt, ..seal };
    let id = world.submit(of, Action::ModelPublish(Box::new(shown))).await;
    world.finalised(of, id, 60).await;
    assert!(world.view(of).await.state.model(VISION, artifact).is_some(), "the model does not stand");
    artifact
}

async fn epochs(world: &World, more: u64) {
    let subnet = world.view(READER).await.state.subnet(VISION).expect("a subnet").clone();
    let height = world.height(READER).await + more * subnet.rules.tempo;
    world.reach(&[READER], height, height * 4).await;
}

async fn seat(world: &World, of: usize) -> (MemberId, Member) {
    let account: AccountId = world.account(of);
    let view = world.view(READER).await;
    let id = view.state.member_of(VISION, Role::Miner, &account).expect("a seat");
    (id, view.state.member(VISION, id).expect("a member").clone())
}

#[test]
fn m02_the_better_model_takes_the_crown_and_its_copies_get_nothing() {
    let (weak, strong) = (trained(5, 6), trained(0, 6));
    let plan = Plan { seed: 61, validators: VALIDATORS, others: 4, weather: Weather::CLEAR };
    let competes = |genesis: &mut starling::protocol::genesis::Genesis| {
        for subnet in &mut genesis.subnets {
            subnet.rules.kind = 1;
        }
    };
    run_with(&plan, competes, |world| async move {
        world.start_all();
        world.reach(&(0..VALIDATORS).collect::<Vec<_>>(), 3, 60).await;
        for of in 0..VALIDATORS {
            world.register(of, Role::Validator).await;
        }
        for of in [WEAK, STRONG, COPIER] {
            world.register(of, Role::Miner).await;
        }
        publish(&world, WEAK, &weak).await;
        publish(&world, COPIER, &noisy(&weak, 1)).await;
        epochs(&world, 5).await;
        let (_, first) = seat(&world, WEAK).await;
        let (_, copy) = seat(&world, COPIER).await;
        assert!(first.incentive > u32::MAX / 10 * 9, "the only model of its own has {}", first.incentive);
        assert!(copy.incentive <= first.incentive / 100, "the copy has {}", copy.incentive);
        // Who has fetched the copy and not yet the original knows no better in that epoch.
        assert!(copy.earned * 20 <= first.earned, "the copy earned {}, its original {}", copy.earned, first.earned);
        // A better one comes, and is copied at once.
        publish(&world, STRONG, &strong).await;
        publish(&world, COPIER, &noisy(&strong, 2)).await;
        let (before, was) = (seat(&world, STRONG).await.1.earned, copy.earned);
        epochs(&world, 7).await;
        let ((_, old), (champion, new), (_, copy)) =
            (seat(&world, WEAK).await, seat(&world, STRONG).await, seat(&world, COPIER).await);
        assert!(new.incentive > u32::MAX / 2 && new.incentive > 2 * old.incentive, "{new:?} {old:?}");
        assert!(new.earned > before);
        let gained = copy.earned - was;
        assert!(copy.incentive <= new.incentive / 100, "the copy has {}", copy.incentive);
        assert!(gained * 20 <= new.earned, "the copy earned {gained}, its original {}", new.earned);
        // Anybody can do the sums again, and see why it was so much.
        let view = world.view(READER).await;
        let subnet = view.state.subnet(VISION).expect("a subnet");
        let epoch = subnet.epoch - subnet.rules.conceal - u64::from(subnet.settle_at.is_some());
        let rows = world.asks(READER).replay_epoch(VISION, epoch, None).await.expect("a report").rows;
        assert_eq!(rows.len(), VALIDATORS, "{rows:?}");
        assert!(rows.iter().all(|row| row.ok && row.judged > 0 && row.judged == row.entries), "{rows:?}");
        let why = world.asks(READER).why_paid(VISION, champion, None, true).await.expect("a reason");
        assert!(why.ok && why.amount.0 > 0 && why.rank == 1, "{why:?}");
        world.check().await;
    });
}
