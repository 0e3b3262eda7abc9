//! Two and more nodes over the memory network.

use std::sync::OnceLock;

use super::*;
use crate::net::{Ask, AskError, Event, Offence, Protocol, Topic, Validity};
use crate::protocol::ids::ChainId;

/// A node that admits everybody, accepts everything, dials whom it discovers and answers with what it was asked.
struct Citizen {
    node: HubNode,
    log: Arc<Mutex<Vec<Event>>>,
}

impl Citizen {
    fn join(hub: &Hub, number: u8, change: impl FnOnce(&mut Params)) -> Self {
        let mut params = Params::new(ChainId([7; 32]), [number; 32]);
        params.listen = vec![format!("/memory/{number}")];
        params.dev = true;
        if number > 1 {
            params.bootnodes = vec!["/memory/1".into()];
        }
        change(&mut params);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mine, way): (_, Arc<OnceLock<HubNode>>) = (Arc::clone(&log), Arc::default());
        let to = Arc::clone(&way);
        let sink: EventSink = Box::new(move |event| {
            let node = to.get().unwrap();
            let answer = match &event {
                Event::Connected { node, .. } => Some(Command::Admit { node: *node }),
                Event::Discovered { node, addresses } => {
                    Some(Command::Dial { node: Some(*node), addresses: addresses.clone() })
                }
                Event::Gossip { ticket, .. } => Some(Command::Verdict { ticket: *ticket, validity: Validity::Accept }),
                Event::Asked { data, ticket, protocol: Protocol::Query, .. } => {
                    for _ in 0..4 {
                        node.try_command(Command::Reply { ticket: *ticket, data: data.clone(), last: false }).unwrap();
                    }
                    Some(Command::Reply { ticket: *ticket, data: data.clone(), last: true })
                }
                Event::Asked { data, ticket, .. } => {
                    Some(Command::Reply { ticket: *ticket, data: data.clone(), last: true })
                }
                _ => None,
            };
            if let Some(command) = answer {
                node.try_command(command).unwrap();
            }
            mine.lock().unwrap().push(event);
            Ok(())
        });
        let node = hub.join(params, sink).unwrap();
        way.set(node.clone()).unwrap();
        Self { node, log }
    }

    fn id(&self) -> NodeId {
        self.node.local()
    }

    fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.log.lock().unwrap().iter().filter(|event| matches(event)).count()
    }

    fn peers(&self) -> usize {
        self.count(|e| matches!(e, Event::Connected { .. })) - self.count(|e| matches!(e, Event::Disconnected { .. }))
    }

    fn heard(&self, text: &[u8]) -> usize {
        self.count(|e| matches!(e, Event::Gossip { data, .. } if data == text))
    }

    fn tell(&self, command: Command) {
        self.node.try_command(command).unwrap();
    }

    fn publish(&self, text: &[u8]) {
        self.tell(Command::Publish { topic: Topic::Transaction, data: text.to_vec() });
    }
}

fn hub(seed: u8, weather: Weather) -> Hub {
    Hub::open(Chance::from_seed([seed; 32]), weather)
}

fn swarm(hub: &Hub, nodes: u8) -> Vec<Citizen> {
    (1..=nodes).map(|number| Citizen::join(hub, number, |_| {})).collect()
}

async fn until(limit_ms: u64, what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_millis(limit_ms);
    while !condition() {
        assert!(Instant::now() < end, "not within {limit_ms} ms: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn full_mesh(citizens: &[Citizen]) {
    let want = citizens.len() - 1;
    until(20_000, "all connected", || citizens.iter().all(|c| c.peers() == want)).await;
}

const ROUGH: Weather = Weather { delay_ms: 30, jitter_ms: 40, loss: 200, duplicate: 50, reorder: 100 };

#[tokio::test(start_paused = true)]
async fn all_meet_through_one_bootnode_and_hear_each_other() {
    let hub = hub(1, Weather::CLEAR);
    let citizens = swarm(&hub, 12);
    full_mesh(&citizens).await;
    citizens[5].publish(b"hello");
    until(100, "all heard", || citizens.iter().all(|c| c.heard(b"hello") == 1)).await;
    citizens[5].publish(b"hello");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(citizens.iter().all(|c| c.heard(b"hello") == 1), "the same bytes are the same message");
}

#[tokio::test(start_paused = true)]
async fn loss_is_repaired_by_many_paths_and_lazy_pull() {
    let hub = hub(2, ROUGH);
    let citizens = swarm(&hub, 6);
    full_mesh(&citizens).await;
    for i in 0..200_u8 {
        citizens[usize::from(i % 6)].publish(&[i]);
    }
    until(10_000, "all heard all", || citizens.iter().all(|c| (0..200_u8).all(|i| c.heard(&[i]) == 1))).await;
    assert!(hub.counts().lost > 100 && hub.counts().duplicated > 10, "{:?}", hub.counts());
}

async fn story(seed: u8) -> Digest {
    let hub = hub(seed, ROUGH);
    let citizens = swarm(&hub, 5);
    full_mesh(&citizens).await;
    let ids: Vec<NodeId> = citizens.iter().map(Citizen::id).collect();
    hub.partition(&[&ids[..2], &ids[2..]]);
    for i in 0..50_u8 {
        citizens[usize::from(i % 5)].publish(&[i]);
        tokio::time::sleep(Duration::from_millis(17)).await;
    }
    hub.heal();
    for id in 0..20 {
        let ask = Ask { id, to: ids[1], protocol: Protocol::Query, items: 1, data: vec![1; 9], deadline_ms: 3_000 };
        citizens[3].tell(Command::Ask(ask));
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    hub.trace()
}

#[tokio::test(start_paused = true)]
async fn one_seed_one_trace() {
    let first = story(9).await;
    assert_eq!(first, story(9).await);
    assert_ne!(first, story(10).await);
}

#[tokio::test(start_paused = true)]
async fn a_partition_breaks_links_and_healing_brings_them_back() {
    let hub = hub(3, Weather::CLEAR);
    let citizens = swarm(&hub, 4);
    full_mesh(&citizens).await;
    let ids: Vec<NodeId> = citizens.iter().map(Citizen::id).collect();
    hub.partition(&[&ids[..2], &ids[2..]]);
    citizens[0].publish(b"inside");
    until(100, "own side hears", || citizens[1].heard(b"inside") == 1).await;
    until(30_000, "links break", || citizens.iter().all(|c| c.peers() == 1)).await;
    assert_eq!(citizens[2].heard(b"inside") + citizens[3].heard(b"inside"), 0);
    hub.heal();
    until(60_000, "links return", || citizens.iter().all(|c| c.peers() == 3)).await;
    hub.crash(ids[3]);
    until(1_000, "the crash is noticed", || citizens[..3].iter().all(|c| c.peers() == 2)).await;
    assert_eq!(citizens[3].node.try_command(Command::Shutdown), Err(Busy));
    let again = Citizen::join(&hub, 4, |_| {});
    until(20_000, "it returns", || again.peers() == 3 && citizens[..3].iter().all(|c| c.peers() == 3)).await;
}

#[tokio::test(start_paused = true)]
async fn queries_stream_in_order_and_every_ask_ends_once() {
    let hub = hub(4, ROUGH);
    let citizens = swarm(&hub, 3);
    full_mesh(&citizens).await;
    for id in 0..30 {
        let data = id.to_string().into_bytes();
        let ask = Ask { id, to: citizens[2].id(), protocol: Protocol::Query, items: 1, data, deadline_ms: 5_000 };
        citizens[1].tell(Command::Ask(ask));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut whole = 0;
    for want in 0..30_u64 {
        let answered = citizens[1].count(|e| matches!(e, Event::Answered { id, last: true, .. } if *id == want));
        let failed = citizens[1].count(|e| matches!(e, Event::AskFailed { id, .. } if *id == want));
        assert_eq!(answered + failed, 1, "ask {want}");
        let frames = citizens[1].count(
            |e| matches!(e, Event::Answered { id, frame, .. } if *id == want && *frame == want.to_string().into_bytes()),
        );
        assert!(answered == 0 || frames == 5);
        whole += answered;
    }
    assert!((1..30).contains(&whole), "20 % loss breaks some and not all: {whole}");
}

#[tokio::test(start_paused = true)]
async fn quotas_bind_the_asked_side_too() {
    let hub = hub(5, Weather::CLEAR);
    let citizens = swarm(&hub, 2);
    full_mesh(&citizens).await;
    for id in 0..4 {
        let data = vec![0; 8];
        let ask = Ask { id, to: citizens[0].id(), protocol: Protocol::Hello, items: 1, data, deadline_ms: 5_000 };
        citizens[1].tell(Command::Ask(ask));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let limited = |e: &Event| matches!(e, Event::AskFailed { id: 3, reason: AskError::RateLimited });
    until(1_000, "the fourth hello is held back", || citizens[1].count(limited) == 1).await;
    // A node that has forgotten its own quota meets the other's.
    hub.crash(citizens[1].id());
    let again = Citizen::join(&hub, 2, |_| {});
    until(5_000, "it returns", || again.peers() == 1).await;
    let to = citizens[0].id();
    again.tell(Command::Ask(Ask { id: 9, to, protocol: Protocol::Hello, items: 1, data: vec![], deadline_ms: 5_000 }));
    until(1_000, "refused there", || {
        again.count(|e| matches!(e, Event::AskFailed { id: 9, reason: AskError::RateLimited })) == 1
            && citizens[0].count(|e| matches!(e, Event::Misbehaved { offence: Offence::Quota { .. }, .. })) == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn votes_go_direct_and_by_topic_where_there_is_no_stream() {
    let hub = hub(6, Weather::CLEAR);
    let citizens = swarm(&hub, 4);
    full_mesh(&citizens).await;
    let ids: Vec<NodeId> = citizens.iter().map(Citizen::id).collect();
    for citizen in &citizens[..3] {
        citizen.tell(Command::SetVoters { nodes: ids[..3].to_vec() });
    }
    citizens[0].tell(Command::SendVote { data: vec![1; 100] });
    until(100, "direct", || citizens[1..3].iter().all(|c| c.count(|e| matches!(e, Event::VoteArrived { .. })) == 1))
        .await;
    assert_eq!(citizens[3].heard(&[1; 100]), 0);
    hub.cut(ids[0], ids[1]);
    until(30_000, "the link breaks", || citizens[0].peers() == 2).await;
    citizens[0].tell(Command::SendVote { data: vec![2; 100] });
    until(100, "by the topic", || citizens[1].heard(&[2; 100]) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn networks_do_not_mix_and_bans_hold() {
    let hub = hub(7, Weather::CLEAR);
    let citizens = swarm(&hub, 2);
    full_mesh(&citizens).await;
    let stranger = Citizen::join(&hub, 3, |params| params.chain = ChainId([8; 32]));
    let wrong = |e: &Event| matches!(e, Event::Misbehaved { offence: Offence::WrongNetwork { .. }, .. });
    until(5_000, "both sides say so", || stranger.count(wrong) == 1 && citizens[0].count(wrong) == 1).await;
    assert_eq!(stranger.peers(), 0);
    citizens[0].tell(Command::Disconnect { node: citizens[1].id(), ban_ms: Some(60_000) });
    until(1_000, "gone", || citizens[1].peers() == 0).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(citizens[1].peers(), 0);
    until(400_000, "the ban ends", || citizens[1].peers() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_receiver_costs_a_message_its_verdict_and_nothing_else() {
    let hub = hub(8, Weather::CLEAR);
    let citizens = swarm(&hub, 2);
    full_mesh(&citizens).await;
    let mut params = Params::new(ChainId([7; 32]), [9; 32]);
    params.listen = vec!["/memory/9".into()];
    params.bootnodes = vec!["/memory/1".into()];
    let _deaf = hub.join(params, Box::new(Err)).unwrap();
    until(5_000, "connected", || citizens[0].peers() == 2).await;
    let (id, to) = (1, Params::new(ChainId([7; 32]), [9; 32]).node());
    citizens[0].tell(Command::Ask(Ask { id, to, protocol: Protocol::Sync, items: 1, data: vec![1], deadline_ms: 900 }));
    until(1_000, "busy", || {
        citizens[0].count(|e| matches!(e, Event::AskFailed { id: 1, reason: AskError::Busy })) == 1
    })
    .await;
    assert!(hub.counts().dropped > 0);
}
