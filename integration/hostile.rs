//! Peers that mean harm: garbage on every topic and protocol, and floods. The node is unharmed and the peer pays.

use std::sync::{Arc, Mutex};

use starling::net::memory::{HubNode, Weather};
use starling::net::{self, Ask, Command, Event, Protocol, Topic, Transport};
use starling::protocol::chance::Chance;
use starling::protocol::hello::{About, Hello, Roles};
use starling::protocol::ids::NodeId;
use starling::protocol::keys::SecretKey;

use super::world::{Plan, World, run};

/// A node with no actors behind it: says what it is told to say.
pub struct Stranger {
    pub net: HubNode,
    pub events: Arc<Mutex<Vec<Event>>>,
    key: SecretKey,
}

impl Stranger {
    pub fn join(world: &World) -> Self {
        let key = SecretKey::from_seed([77; 32]);
        let mut params = net::Params::new(world.genesis.chain_id(), *key.seed());
        params.listen = vec!["/memory/77".into()];
        params.dev = true;
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let heard = Arc::clone(&events);
        let sink = Box::new(move |event| {
            heard.lock().expect("a lock").push(event);
            Ok(())
        });
        Self { net: world.hub.join(params, sink).expect("joins"), events, key }
    }

    pub fn say(&self, command: Command) {
        // A full queue is part of a flood.
        let _full = self.net.try_command(command);
    }

    /// Connects and says a hello that holds.
    pub async fn befriend(&self, world: &World, of: usize, node: NodeId) {
        self.say(Command::Dial { node: Some(node), addresses: vec![format!("/memory/{}", of + 1)] });
        world.pass(500).await;
        let about = About { roles: Roles::FULL, height: 0, claims: vec![], addresses: vec![] };
        let hello = Hello { chain: world.genesis.chain_id(), software: "stranger".into(), about, known: vec![] };
        let data = starling::protocol::codec::encode(&hello.seal(&self.key));
        self.say(Command::Ask(Ask { id: 1, to: node, protocol: Protocol::Hello, items: 1, data, deadline_ms: 5_000 }));
        world.pass(1_000).await;
    }

    pub fn was_dropped_by(&self, node: NodeId) -> bool {
        self.events.lock().expect("a lock").contains(&Event::Disconnected { node })
    }
}

fn plan(seed: u64) -> Plan {
    Plan { seed, validators: 4, others: 0, weather: Weather::CLEAR }
}

#[test]
fn garbage_on_every_topic_and_protocol_costs_its_sender_the_connection() {
    let kinds: Vec<(Option<Topic>, Option<Protocol>)> = Topic::ALL
        .into_iter()
        .map(|topic| (Some(topic), None))
        .chain([Protocol::Hello, Protocol::Sync, Protocol::Query].into_iter().map(|protocol| (None, Some(protocol))))
        .collect();
    for (round, kind) in (0_u64..).zip(kinds) {
        run(&plan(40 + round), |world| async move {
            world.start_all();
            world.reach(&[0, 1, 2, 3], 3, 60).await;
            let stranger = Stranger::join(&world);
            let victim = world.node_id(0);
            stranger.befriend(&world, 0, victim).await;
            let mut chance = Chance::from_seed([9; 32]);
            let mut data = vec![0; 300];
            for id in 10..14 {
                chance.fill(&mut data);
                let data = data.clone();
                match kind {
                    (Some(topic), _) => stranger.say(Command::Publish { topic, data }),
                    (_, Some(protocol)) => {
                        let ask = Ask { id, to: victim, protocol, items: 1, data, deadline_ms: 1_000 };
                        stranger.say(Command::Ask(ask));
                    }
                    _ => {}
                }
                world.pass(200).await;
            }
            world.pass(2_000).await;
            assert!(stranger.was_dropped_by(victim), "{kind:?} was not held against the stranger");
            let tip = world.height(0).await;
            world.reach(&[0, 1, 2, 3], tip + 5, 60).await;
            world.check().await;
        });
    }
}

#[test]
fn a_flood_slows_nobody() {
    run(&plan(60), |world| async move {
        world.start_all();
        world.reach(&[0, 1, 2, 3], 3, 60).await;
        let stranger = Stranger::join(&world);
        let victim = world.node_id(0);
        stranger.befriend(&world, 0, victim).await;
        let mut chance = Chance::from_seed([10; 32]);
        for burst in 0..50_u64 {
            for id in 0..200 {
                let mut data = vec![0; 512];
                chance.fill(&mut data);
                let ask = Ask {
                    id: 1_000 + burst * 200 + id,
                    to: victim,
                    protocol: Protocol::Sync,
                    items: 1,
                    data,
                    deadline_ms: 500,
                };
                stranger.say(Command::Ask(ask));
            }
            world.pass(100).await;
        }
        let tip = world.height(1).await;
        world.reach(&[0, 1, 2, 3], tip + 5, 20).await;
        world.check().await;
    });
}
