//! A peer that speaks our network's name and then says what it must not.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{Config, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify};
use libp2p_stream::Control;
use tokio::runtime::Runtime;

use super::*;
use crate::net::{behaviour, identity, tables};

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Mask {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// Connected to one victim, free to open any stream.
struct Rogue {
    runtime: Runtime,
    control: Control,
    victim: PeerId,
    chain: ChainId,
}

impl Rogue {
    fn join(seed: u8, victim: &Node) -> Self {
        let params = Params::new(ChainId([7; 32]), [seed; 32]);
        let chain = params.chain;
        let address: Multiaddr = victim.addresses()[1].parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let control = runtime.block_on(async {
            let keypair = identity::keypair(&params.link_seed).unwrap();
            let (transport, _) = behaviour::transport(&params, &keypair).unwrap();
            let mask = Mask {
                identify: identify::Behaviour::new(identify::Config::new(
                    tables::network_version(&chain),
                    keypair.public(),
                )),
                streams: libp2p_stream::Behaviour::new(),
            };
            let config = Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
            let mut swarm = Swarm::new(transport, mask, keypair.public().to_peer_id(), config);
            let control = swarm.behaviour().streams.new_control();
            swarm.dial(address).unwrap();
            tokio::spawn(async move { while swarm.next().await.is_some() {} });
            control
        });
        let node = params.node();
        victim.soon("the rogue is taken for a peer", |events| peers(events).contains(&node));
        Self { runtime, control, victim: identity::peer_of(victim.id()).unwrap(), chain }
    }

    /// Opens a stream, writes, and hears what comes until the other side ends it.
    fn say(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let name = StreamProtocol::try_from_owned(format!("/starling/{}/{name}/1", self.chain.netid())).unwrap();
        let (mut control, victim) = (self.control.clone(), self.victim);
        self.runtime.block_on(async move {
            let mut stream = control.open_stream(victim, name).await.unwrap();
            // It may be cut while we still write.
            let _cut = stream.write_all(bytes).await;
            let _cut = stream.flush().await;
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer).await;
            answer
        })
    }
}

fn offences(events: &[Event]) -> Vec<Offence> {
    events
        .iter()
        .filter_map(|e| if let Event::Misbehaved { offence, .. } = e { Some(offence.clone()) } else { None })
        .collect()
}

/// A request as it goes over the wire, with any claim for its length.
fn request(claimed: u32, data: &[u8]) -> Vec<u8> {
    [&1_u16.to_le_bytes()[..], &claimed.to_le_bytes(), data].concat()
}

#[test]
fn frames_over_their_limit_are_refused_before_they_are_read() {
    let victim = Node::start(1, |_| {});
    let rogue = Rogue::join(66, &victim);
    // A request is told that it is too large; a query stream just ends.
    let cases: [(&str, u32, &[u8]); 3] =
        [("hello", 8 << 10, &[4, 0, 0, 0, 0]), ("sync", 1 << 10, &[4, 0, 0, 0, 0]), ("query", 1 << 20, &[])];
    for (round, (name, limit, answer)) in cases.into_iter().enumerate() {
        assert_eq!(rogue.say(name, &request(limit + 1, &[0; 64])), answer);
        victim.soon(name, |events| offences(events).len() > round);
    }
    assert!(offences(&victim.log.0.lock().unwrap()).iter().all(|offence| *offence == Offence::Oversize));
    assert_eq!(victim.count(|e| matches!(e, Event::Asked { .. })), 0);
}

#[test]
fn a_quota_holds_against_one_who_keeps_none() {
    let victim = Node::start(1, |_| {});
    let rogue = Rogue::join(66, &victim);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(rogue.say("hello", &request(1, &[9]))[0]);
    }
    assert_eq!(statuses, [0, 0, 0, 2, 2]);
    victim.soon("it is named", |events| offences(events).contains(&Offence::Quota { protocol: Protocol::Hello }));
    assert_eq!(victim.count(|e| matches!(e, Event::Asked { .. })), 3);
}

#[test]
fn votes_of_a_stranger_are_not_heard() {
    let victim = Node::start(1, |_| {});
    let rogue = Rogue::join(66, &victim);
    let vote = [&4_u16.to_le_bytes()[..], b"vote"].concat();
    assert!(rogue.say("vote", &vote).is_empty());
    let member = Params::new(ChainId([7; 32]), [66; 32]).node();
    victim.tell(Command::SetVoters { nodes: vec![member] });
    // Now it is heard; and a frame over the limit ends the stream and is named.
    let end = Instant::now() + Duration::from_secs(10);
    let long = [&vote[..], &161_u16.to_le_bytes(), &[0; 161]].concat();
    while rogue.say("vote", &long) != [1] {
        assert!(Instant::now() < end, "the stream of a member is taken");
    }
    victim.soon("the vote before it counts", |events| {
        events.iter().filter(|e| matches!(e, Event::VoteArrived { data, .. } if data == b"vote")).count() == 1
            && offences(events) == [Offence::Oversize]
    });
}

#[test]
fn admitted_peers_are_kept_and_others_are_not() {
    let victim = Node::try_start(1, false, |params| {
        params.limits.idle_ms = 200;
        params.topics = vec![];
    })
    .unwrap();
    // The rogue speaks no gossip and kad: nothing but our wish keeps it.
    let _rogue = Rogue::join(66, &victim);
    let node = Params::new(ChainId([7; 32]), [66; 32]).node();
    let unknown = Node::start(2, |params| {
        params.topics = vec![];
        params.limits.idle_ms = 200;
    });
    unknown.dial(&victim);
    victim.soon("both are there", |events| peers(events).len() == 2);
    // Not admitted any more is not asked for by anybody; here we take our own wish back by leaving.
    unknown.tell(Command::Disconnect { node: victim.id(), ban_ms: Some(60_000) });
    victim.soon("only the rogue stays", |events| peers(events) == [node]);
    let since = Instant::now();
    victim.until(Duration::from_secs(10), "it stays for five idle times", |events| {
        assert_eq!(peers(events), [node]);
        since.elapsed() > Duration::from_secs(1)
    });
}
