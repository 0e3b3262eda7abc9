//! Models that outlive their publisher, and holders that lie: in worlds, on real sockets, and by the command line.

use std::time::Instant;

use starling::actors::artifact_keeper::{PullArtifact, PutArtifact, ReadArtifacts, ReadChunk};
use starling::actors::mail::{ask, to};
use starling::net::memory::Weather;
use starling::net::{Command, Event, Protocol, Transport};
use starling::protocol::artifact::message::{Head, WANT_BYTES_MAX, Want};
use starling::protocol::artifact::publish::{Licence, ModelPublish};
use starling::protocol::artifact::{CHUNK_BYTES, ChunkList};
use starling::protocol::codec;
use starling::protocol::ids::Digest;
use starling::protocol::report::{ArtifactReport, ArtifactState};
use starling::protocol::transaction::Action;

use super::hostile::Stranger;
use super::world::{Plan, VISION, World, run, run_on_sockets};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

async fn put(world: &World, of: usize, bytes: Vec<u8>) -> Digest {
    let keeper = world.with_node(of, |node| to(&node.artifact_keeper));
    ask(&keeper, PutArtifact { bytes }, DEADLINE).await.expect("an answer").expect("room")
}

async fn look(world: &World, of: usize, id: Digest) -> ArtifactReport {
    let keeper = world.with_node(of, |node| to(&node.artifact_keeper));
    ask(&keeper, ReadArtifacts { ids: vec![id] }, DEADLINE).await.expect("an answer").remove(0)
}

async fn pull(world: &World, of: usize, id: Digest, seconds: u64) -> ArtifactReport {
    let keeper = world.with_node(of, |node| to(&node.artifact_keeper));
    ask(&keeper, PullArtifact { id }, DEADLINE).await.expect("an answer");
    let until = world.hub.now_ms() + seconds * 1_000;
    loop {
        let report = look(world, of, id).await;
        if matches!(report.state, ArtifactState::Whole | ArtifactState::Failed) {
            return report;
        }
        assert!(world.hub.now_ms() < until, "seed {}: not here in {seconds} s: {report:?}", world.seed);
        world.pass(20).await;
    }
}

async fn holds(world: &World, of: usize, id: Digest) -> bool {
    look(world, of, id).await.state == ArtifactState::Whole
}

/// Puts a model and its manifest on a citizen's shelf and its record on the ledger.
async fn publish(world: &World, of: usize, model: Vec<u8>) -> (Digest, Digest) {
    let size = model.len() as u64;
    let manifest = put(world, of, format!("manifest of {size} bytes").into_bytes()).await;
    let artifact = put(world, of, model).await;
    let record = ModelPublish {
        subnet: VISION,
        manifest,
        artifact,
        bytes: size,
        parent: Digest::ZERO,
        licence: Licence(1),
        sealed: false,
        salt: [0; 32],
        claims: Vec::new(),
    };
    let id = world.submit(of, Action::ModelPublish(Box::new(record))).await;
    world.finalised(of, id, 60).await;
    (artifact, manifest)
}

async fn kept_by(world: &World, among: &[usize], id: Digest, wanted: usize, seconds: u64) -> Vec<usize> {
    let until = world.hub.now_ms() + seconds * 1_000;
    loop {
        let mut keepers = Vec::new();
        for of in among {
            if holds(world, *of, id).await {
                keepers.push(*of);
            }
        }
        if keepers.len() >= wanted {
            return keepers;
        }
        assert!(world.hub.now_ms() < until, "seed {}: {keepers:?} hold it after {seconds} s", world.seed);
        world.pass(500).await;
    }
}

/// M13: a published model is copied to three lenders by itself, outlives its publisher, and when one of the three is gone
/// too, another takes its place.
#[test]
fn m13_the_publisher_is_gone_and_strangers_give_its_model() {
    let plan = Plan { seed: 71, validators: 5, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        let lenders = [0, 1, 2, 3, 4];
        world.reach(&lenders, 3, 60).await;
        let (publisher, reader) = (5, 6);
        let model = bytes(1, 5 * CHUNK_BYTES + 99);
        let (id, manifest) = publish(&world, publisher, model.clone()).await;
        let keepers = kept_by(&world, &lenders, id, 3, 120).await;
        assert_eq!(keepers.len(), 3, "as many as wished and no more");
        kept_by(&world, &lenders, manifest, 3, 120).await;
        world.crash(publisher);
        world.pass(5_000).await;
        let report = pull(&world, reader, id, 120).await;
        assert_eq!((report.state, report.chunks), (ArtifactState::Whole, 6), "{report:?}");
        assert!(report.sources >= 2, "{report:?}");
        let keeper = world.with_node(reader, |node| to(&node.artifact_keeper));
        let mut read = Vec::new();
        for index in 0..report.chunks {
            read.extend(ask(&keeper, ReadChunk { id, index }, DEADLINE).await.expect("an answer").expect("a chunk"));
        }
        assert_eq!(read, model);
        // One of the three dies for good: the copies are three again.
        world.crash(keepers[0]);
        let rest: Vec<usize> = lenders.into_iter().filter(|of| *of != keepers[0]).collect();
        kept_by(&world, &rest, id, 3, 300).await;
        world.check().await;
    });
}

/// N30: a holder that gives a right list and wrong chunks is found, left and disconnected; the rest comes from the others.
#[test]
fn n30_a_lying_holder_is_found_and_left() {
    let plan = Plan { seed: 72, validators: 4, others: 2, weather: Weather::CLEAR };
    run(&plan, |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3], 3, 60).await;
        let (publisher, reader) = (4, 5);
        let model = bytes(2, 16 * CHUNK_BYTES);
        let list = ChunkList::of(model.as_slice()).expect("a list");
        let (id, _) = publish(&world, publisher, model).await;
        let liar = Stranger::join(&world);
        let victim = world.node_id(reader);
        liar.befriend(&world, reader, victim).await;
        liar.say(Command::Provide { id, held: true });
        let keeper = world.with_node(reader, |node| to(&node.artifact_keeper));
        ask(&keeper, PullArtifact { id }, DEADLINE).await.expect("an answer");
        let mut lies = 0;
        for _ in 0..3_000 {
            let asked: Vec<Event> = std::mem::take(&mut *liar.events.lock().expect("a lock"));
            let (asked, kept): (Vec<Event>, Vec<Event>) =
                asked.into_iter().partition(|event| matches!(event, Event::Asked { protocol: Protocol::Artifact, .. }));
            liar.events.lock().expect("a lock").extend(kept);
            for event in asked {
                let Event::Asked { data, ticket, .. } = event else { continue };
                let data = match codec::decode::<Want, WANT_BYTES_MAX>(&data).expect("a want") {
                    Want::Head(_) => Head::encode(&list, None),
                    Want::Chunk { index, .. } => {
                        lies += 1;
                        vec![0; list.place(index).expect("a place").1]
                    }
                };
                let _full = liar.net.try_command(Command::Reply { ticket, data, last: true });
            }
            world.pass(5).await;
            if holds(&world, reader, id).await {
                break;
            }
        }
        let report = look(&world, reader, id).await;
        assert_eq!(report.state, ArtifactState::Whole, "{report:?}");
        assert!(lies > 0, "the liar was never asked");
        world.pass(2_000).await;
        assert!(liar.was_dropped_by(victim), "the liar is still connected");
        world.check().await;
    });
}

/// Real sockets, real files: what a verified download brings from one and from three holders, beside plain hashing and
/// plain copying in the same run.
#[test]
fn n30_real_sockets_from_one_and_three_holders() {
    const MIB: usize = 64;
    let plan = Plan { seed: 73, validators: 1, others: 4, weather: Weather::CLEAR };
    run_on_sockets(&plan, |world| async move {
        world.start_all();
        world.reach(&[0], 2, 60).await;
        let mut rates = Vec::new();
        for (seed, holders) in [(1_u8, vec![1]), (2, vec![1, 2, 3])] {
            let model = bytes(seed, MIB * CHUNK_BYTES);
            let began = Instant::now();
            let list = ChunkList::of(model.as_slice()).expect("a list");
            let hashing = MIB as f64 * 1.048_576 / began.elapsed().as_secs_f64();
            for holder in &holders {
                assert_eq!(put(&world, *holder, model.clone()).await, list.id());
            }
            let reader = 4;
            // Everybody must know everybody first: a dial is not what is measured.
            let until = world.hub.now_ms() + 30_000;
            while world.peers(reader).await.rows.len() < 4 {
                assert!(world.hub.now_ms() < until, "the reader never met the holders");
                world.pass(50).await;
            }
            let report = pull(&world, reader, list.id(), 120).await;
            assert_eq!(report.state, ArtifactState::Whole, "{report:?}");
            assert_eq!(report.sources as usize, holders.len(), "{report:?}");
            let took = report.took_ms.expect("a time").max(1) as f64 / 1_000.0;
            let rate = MIB as f64 * 1.048_576 / took;
            rates.push(format!("{} holders: {rate:.0} MB/s verified; hashing alone {hashing:.0} MB/s", holders.len()));
        }
        println!("{MIB} MiB on loopback, all nodes in this process: {}", rates.join("; "));
    });
}
