//! Real sockets on 127.0.0.1: that libp2p is wired as the memory transport pretends. No sleeps: every wait is for a
//! condition, with a deadline.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::swarm::Net;
use super::{
    Ask, AskError, Command, Event, EventSink, NetError, Offence, Params, Protocol, Topic, Transport, Validity,
    peer_id_text,
};
use crate::protocol::ids::{ChainId, NodeId};

mod rogue;

type Log = Arc<(Mutex<Vec<Event>>, Condvar)>;

/// A node that admits everybody, accepts everything, dials whom it discovers and answers what it is asked.
struct Node {
    net: Arc<Net>,
    log: Log,
    dials: bool,
}

fn reaction(net: &Net, event: &Event, dials: bool) -> Option<Command> {
    match event {
        Event::Connected { node, .. } => Some(Command::Admit { node: *node }),
        Event::Discovered { node, addresses } if dials => {
            Some(Command::Dial { node: Some(*node), addresses: addresses.clone() })
        }
        Event::Gossip { ticket, .. } => Some(Command::Verdict { ticket: *ticket, validity: Validity::Accept }),
        Event::Asked { data, ticket, protocol: Protocol::Query, .. } => {
            let frames = usize::from(data[0]);
            for frame in 0..frames {
                let (data, last) = (vec![u8::try_from(frame).unwrap(); data.len()], frame + 1 == frames);
                // Frames that come faster than they leave would be dropped, and that is not what is tested here.
                while net.try_command(Command::Reply { ticket: *ticket, data: data.clone(), last }).is_err() {
                    std::thread::yield_now();
                }
            }
            None
        }
        Event::Asked { data, ticket, .. } => Some(Command::Reply { ticket: *ticket, data: data.clone(), last: true }),
        _ => None,
    }
}

impl Node {
    fn start(seed: u8, change: impl FnOnce(&mut Params)) -> Self {
        Self::try_start(seed, true, change).unwrap()
    }

    fn try_start(seed: u8, dials: bool, change: impl FnOnce(&mut Params)) -> Result<Self, NetError> {
        let mut params = Params::new(ChainId([7; 32]), [seed; 32]);
        params.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()];
        params.dev = true;
        params.expected_nodes = 4;
        change(&mut params);
        let log: Log = Arc::default();
        let way: Arc<OnceLock<std::sync::Weak<Net>>> = Arc::default();
        let (mine, to) = (Arc::clone(&log), Arc::clone(&way));
        let sink: EventSink = Box::new(move |event| {
            let net = to.get().and_then(std::sync::Weak::upgrade);
            if let Some(net) = net
                && let Some(command) = reaction(&net, &event, dials)
            {
                net.try_command(command).unwrap();
            }
            mine.0.lock().unwrap().push(event);
            mine.1.notify_all();
            Ok(())
        });
        let net = Arc::new(Net::start(params, sink)?);
        way.set(Arc::downgrade(&net)).unwrap();
        Ok(Self { net, log, dials })
    }

    fn net(&self) -> &Net {
        &self.net
    }

    fn id(&self) -> NodeId {
        self.net().local()
    }

    fn tell(&self, command: Command) {
        self.net().try_command(command).unwrap();
    }

    fn until(&self, limit: Duration, what: &str, holds: impl Fn(&[Event]) -> bool) {
        let end = Instant::now() + limit;
        let mut events = self.log.0.lock().unwrap();
        while !holds(&events) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {limit:?}: {what}; {} events, last {:?}", events.len(), tail(&events));
            events = self.log.1.wait_timeout(events, left.min(Duration::from_millis(50))).unwrap().0;
        }
    }

    fn soon(&self, what: &str, holds: impl Fn(&[Event]) -> bool) {
        self.until(Duration::from_secs(10), what, holds);
    }

    fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.log.0.lock().unwrap().iter().filter(|e| matches(e)).count()
    }

    /// Where it listens, with its peer id, for dialling; QUIC first.
    fn addresses(&self) -> Vec<String> {
        self.soon("it listens on both", |events| listening(events).len() == 2);
        let peer = peer_id_text(self.id()).unwrap();
        let mut found = listening(&self.log.0.lock().unwrap());
        found.sort_by_key(|address| !address.contains("quic"));
        found.iter().map(|address| format!("{address}/p2p/{peer}")).collect()
    }

    fn tcp_port(&self) -> u16 {
        let address = self.addresses().into_iter().find(|a| a.contains("/tcp/")).unwrap();
        address.split('/').nth(4).unwrap().parse().unwrap()
    }

    fn dial(&self, other: &Self) {
        self.tell(Command::Dial { node: Some(other.id()), addresses: other.addresses() });
    }

    fn join(&self, other: &Self) {
        self.dial(other);
        for (a, b) in [(self, other), (other, self)] {
            a.soon("they are connected", |events| peers(events).contains(&b.id()));
        }
    }

    fn ask(&self, id: u64, to: &Self, protocol: Protocol, data: Vec<u8>) {
        self.tell(Command::Ask(Ask { id, to: to.id(), protocol, items: 1, data, deadline_ms: 20_000 }));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.net.stop();
    }
}

fn tail(events: &[Event]) -> Vec<String> {
    events.iter().rev().take(6).map(|e| format!("{e:?}").chars().take(200).collect()).collect()
}

fn listening(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|e| if let Event::Listening { address } = e { Some(address.clone()) } else { None })
        .collect()
}

fn peers(events: &[Event]) -> Vec<NodeId> {
    let mut peers = Vec::new();
    for event in events {
        match event {
            Event::Connected { node, .. } => peers.push(*node),
            Event::Disconnected { node } => peers.retain(|other| other != node),
            _ => {}
        }
    }
    peers
}

fn heard(events: &[Event], of: Topic, text: &[u8]) -> usize {
    events.iter().filter(|e| matches!(e, Event::Gossip { topic, data, .. } if *topic == of && data == text)).count()
}

#[test]
fn twelve_meet_through_one_bootnode_and_a_thirteenth_without_it() {
    let boot = Node::start(1, |params| params.boot = true);
    let at_boot = boot.addresses();
    let mut nodes: Vec<Node> = (2..=12)
        .map(|seed| {
            Node::start(seed, |params| {
                params.bootnodes = at_boot.clone();
                params.limits.peers_min = 1;
                params.expected_nodes = 13;
            })
        })
        .collect();
    let started = Instant::now();
    nodes.insert(0, boot);
    for node in &nodes {
        node.soon("all are connected", |events| peers(events).len() == 11);
    }
    println!("twelve nodes connected after {:?}", started.elapsed());
    for (i, topic) in Topic::ALL.into_iter().enumerate() {
        let text = format!("on {}", topic.name()).into_bytes();
        nodes[i].tell(Command::Publish { topic, data: text.clone() });
        for node in &nodes {
            node.soon(&format!("{topic:?} is heard by all"), |events| heard(events, topic, &text) == 1);
        }
    }
    drop(nodes.remove(0));
    for node in &nodes {
        node.soon("the bootnode is gone", |events| peers(events).len() == 10);
    }
    let known = (nodes[4].id(), nodes[4].addresses());
    let late = Node::start(13, |params| {
        params.bootnodes = at_boot.clone();
        params.remembered = vec![known];
    });
    late.until(Duration::from_secs(20), "it joins through a remembered address", |events| peers(events).len() == 11);
    late.tell(Command::Publish { topic: Topic::Proposal, data: b"late".to_vec() });
    for node in &nodes {
        node.soon("the late one is heard", |events| heard(events, Topic::Proposal, b"late") == 1);
    }
}

#[test]
fn two_networks_never_connect_and_both_say_so() {
    let a = Node::start(1, |_| {});
    let b = Node::start(2, |params| params.chain = ChainId([8; 32]));
    a.dial(&b);
    for (node, theirs) in [(&a, "/starling/08080808/1"), (&b, "/starling/07070707/1")] {
        node.soon("the mismatch is named", |events| {
            events.iter().any(|e| {
                matches!(e, Event::Misbehaved { offence: Offence::WrongNetwork { theirs: named }, .. } if named == theirs)
            })
        });
    }
    let refused = |e: &Event| matches!(e, Event::DialFailed { .. });
    a.soon("it is refused after that", |events| {
        if !events.iter().any(refused) {
            a.dial(&b);
        }
        events.iter().any(refused)
    });
    assert_eq!(a.count(|e| matches!(e, Event::Connected { .. })), 0);
    assert_eq!(b.count(|e| matches!(e, Event::Connected { .. })), 0);
}

#[test]
fn requests_are_answered_and_queries_stream_a_hundred_frames() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    a.join(&b);
    for (id, protocol) in (1..).zip([Protocol::Hello, Protocol::Sync, Protocol::Fetch]) {
        a.ask(id, &b, protocol, vec![9; 100]);
        a.soon("an answer", |events| {
            events
                .iter()
                .any(|e| matches!(e, Event::Answered { id: i, frame, last: true } if *i == id && *frame == [9; 100]))
        });
    }
    a.ask(4, &b, Protocol::Goodbye, vec![1]);
    a.soon("a goodbye needs no reply of the actors", |events| {
        events.iter().any(|e| matches!(e, Event::Answered { id: 4, frame, .. } if frame.is_empty()))
    });
    let mut question = vec![0; 1_000];
    question[0] = 100;
    a.ask(5, &b, Protocol::Query, question);
    a.soon("the last frame", |events| {
        events.iter().any(|e| matches!(e, Event::Answered { id: 5, last: true, .. } | Event::AskFailed { id: 5, .. }))
    });
    let frames: Vec<u8> = a.log.0.lock().unwrap().iter().filter_map(frame_of_five).collect();
    assert_eq!(frames, (0..100).collect::<Vec<u8>>());
}

fn frame_of_five(event: &Event) -> Option<u8> {
    if let Event::Answered { id: 5, frame, .. } = event { frame.first().copied() } else { None }
}

#[test]
fn a_withdrawn_query_is_noticed_and_a_vanished_peer_fails_the_ask() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    a.join(&b);
    // No frame is ever sent for a question of zero frames.
    a.ask(1, &b, Protocol::Query, vec![0; 4]);
    b.soon("it is asked", |events| events.iter().any(|e| matches!(e, Event::Asked { .. })));
    a.tell(Command::CancelAsk { id: 1 });
    b.soon("the asker has gone", |events| events.iter().any(|e| matches!(e, Event::AskWithdrawn { .. })));
    a.ask(2, &b, Protocol::Query, vec![0; 4]);
    b.soon("it is asked again", |events| events.iter().filter(|e| matches!(e, Event::Asked { .. })).count() == 2);
    drop(b);
    a.soon("the ask fails", |events| {
        events.iter().any(|e| matches!(e, Event::AskFailed { id: 2, reason: AskError::Closed }))
    });
}

#[test]
fn what_is_over_a_limit_is_refused_and_named() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    a.join(&b);
    a.ask(1, &b, Protocol::Hello, vec![0; (8 << 10) + 1]);
    a.soon("our own side holds the limit", |events| {
        events.iter().any(|e| matches!(e, Event::AskFailed { id: 1, reason: AskError::TooLarge }))
    });
    // Right at the limit of a topic it passes, though libp2p counts its own bytes on the way in.
    for topic in [Topic::Presence, Topic::Vote, Topic::Certificate] {
        let data = vec![5; topic.max_bytes()];
        a.tell(Command::Publish { topic, data: data.clone() });
        b.soon("a message at its limit", |events| heard(events, topic, &data) == 1);
        a.tell(Command::Publish { topic, data: vec![6; topic.max_bytes() + 1] });
    }
    let data = vec![7; Topic::Proposal.max_bytes()];
    a.tell(Command::Publish { topic: Topic::Proposal, data: data.clone() });
    b.soon("a proposal of 1.5 MiB", |events| heard(events, Topic::Proposal, &data) == 1);
    assert_eq!(a.count(|e| matches!(e, Event::Gossip { data, .. } if data.first() == Some(&6))), 0);
    // The fourth hello of a minute waits on our side, and a fifth that cannot wait fails.
    for id in 10..14 {
        a.ask(id, &b, Protocol::Hello, vec![1]);
        a.soon("it ends", |events| {
            events.iter().any(|e| match e {
                Event::Answered { id: i, .. } | Event::AskFailed { id: i, .. } => *i == id,
                _ => false,
            })
        });
    }
    assert_eq!(a.count(|e| matches!(e, Event::AskFailed { id: 13, reason: AskError::RateLimited })), 1);
}

#[test]
fn garbage_on_the_port_harms_nobody() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    let mut raw = TcpStream::connect(("127.0.0.1", a.tcp_port())).unwrap();
    raw.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let garbage: Vec<u8> = (0..100_000_u32).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    // It may hang up while we still write.
    let _broken = raw.write_all(&garbage);
    let mut answer = Vec::new();
    let _reset = raw.read_to_end(&mut answer);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = a.addresses()[0].split('/').nth(4).unwrap().parse::<u16>().unwrap();
    for chunk in garbage.chunks(1_200) {
        udp.send_to(chunk, ("127.0.0.1", quic)).unwrap();
    }
    a.join(&b);
    a.tell(Command::Publish { topic: Topic::Transaction, data: b"still here".to_vec() });
    b.soon("it works as before", |events| heard(events, Topic::Transaction, b"still here") == 1);
}

#[test]
fn a_ban_holds_until_it_is_lifted() {
    let (a, b) = (Node::start(1, |_| {}), Node::try_start(2, false, |_| {}).unwrap());
    a.join(&b);
    assert!(!b.dials);
    a.tell(Command::Disconnect { node: b.id(), ban_ms: Some(600_000) });
    b.soon("it is gone", |events| peers(events).is_empty());
    a.soon("it is gone here too", |events| peers(events).is_empty());
    b.dial(&a);
    a.dial(&b);
    a.soon("our own dial is refused", |events| events.iter().any(|e| matches!(e, Event::DialFailed { .. })));
    assert!(peers(&a.log.0.lock().unwrap()).is_empty());
    a.tell(Command::Disconnect { node: b.id(), ban_ms: Some(0) });
    a.dial(&b);
    a.soon("the ban is lifted", |events| peers(events).contains(&b.id()));
}

#[test]
fn votes_go_by_stream_and_by_topic_when_there_is_none() {
    let nodes = [Node::start(1, |_| {}), Node::start(2, |_| {}), Node::start(3, |_| {})];
    nodes[0].join(&nodes[1]);
    nodes[0].join(&nodes[2]);
    let voters: Vec<NodeId> = nodes.iter().map(Node::id).collect();
    // Nobody hears our stream yet: the topic carries the first vote.
    nodes[0].tell(Command::SetVoters { nodes: voters.clone() });
    nodes[0].tell(Command::SendVote { data: b"first".to_vec() });
    nodes[1].soon("by the topic", |events| heard(events, Topic::Vote, b"first") == 1);
    for node in &nodes[1..] {
        node.tell(Command::SetVoters { nodes: voters.clone() });
    }
    for (round, sender) in nodes.iter().enumerate() {
        let vote = format!("vote {round}").into_bytes();
        sender.tell(Command::SendVote { data: vote.clone() });
        for other in nodes.iter().filter(|other| other.id() != sender.id()) {
            other.soon("by a stream", |events| {
                events
                    .iter()
                    .any(|e| matches!(e, Event::VoteArrived { from, data } if *from == sender.id() && *data == vote))
            });
        }
    }
    // Once the streams stand, the topic is silent.
    nodes[1].tell(Command::SendVote { data: b"direct".to_vec() });
    nodes[2].soon("direct", |events| {
        events.iter().any(|e| matches!(e, Event::VoteArrived { data, .. } if data == b"direct"))
    });
    assert_eq!(nodes[2].count(|e| matches!(e, Event::Gossip { data, .. } if data == b"direct")), 0);
    let [a, b, c] = nodes;
    drop(c);
    a.soon("one voter is gone", |events| peers(events).len() == 1);
    a.tell(Command::SendVote { data: b"to those left".to_vec() });
    b.soon("by both ways", |events| {
        heard(events, Topic::Vote, b"to those left") == 1
            && events.iter().any(|e| matches!(e, Event::VoteArrived { data, .. } if data == b"to those left"))
    });
}

#[test]
fn a_port_in_use_is_named() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
    ];
    for address in taken {
        let result = Node::try_start(1, true, |params| params.listen = vec![address.clone()]);
        let error = result.err().unwrap().to_string();
        assert!(error.contains(&address) && error.contains("in use"), "{error}");
    }
    // Another node of ours holds its port too, though libp2p would share it.
    let node = Node::start(2, |_| {});
    let address = format!("/ip4/127.0.0.1/tcp/{}", node.tcp_port());
    assert!(Node::try_start(1, true, |params| params.listen = vec![address]).is_err());
}

#[test]
fn names_are_resolved_and_a_dead_address_says_why() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    let by_name = b.addresses()[1].replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    a.tell(Command::Dial { node: None, addresses: vec![by_name] });
    a.soon("found by name", |events| peers(events).contains(&b.id()));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("/ip4/127.0.0.1/tcp/{port}");
    a.tell(Command::Dial { node: None, addresses: vec![dead.clone(), "no address".into()] });
    a.soon("both are reported", |events| {
        let failed = |text: &str| {
            events.iter().any(
                |e| matches!(e, Event::DialFailed { address, reason, .. } if address == text && !reason.is_empty()),
            )
        };
        failed(&dead) && failed("no address")
    });
}

#[test]
fn trouble_on_purpose_delays_in_order_and_blocks_both_ways() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    a.join(&b);
    a.tell(Command::Chaos { blocked: vec![], lag_ms: 300 });
    let sent = Instant::now();
    for i in 0..10_u8 {
        a.tell(Command::Publish { topic: Topic::Transaction, data: vec![i] });
    }
    b.soon("all arrive", |events| (0..10).all(|i| heard(events, Topic::Transaction, &[i]) == 1));
    assert!(sent.elapsed() >= Duration::from_millis(300));
    let order: Vec<u8> = a.log.0.lock().unwrap().iter().filter_map(byte_of_gossip).collect();
    assert!(order.is_sorted(), "{order:?}");
    a.tell(Command::Chaos { blocked: vec![b.id()], lag_ms: 0 });
    b.soon("cut off", |events| peers(events).is_empty());
    a.soon("cut off here", |events| peers(events).is_empty());
    a.tell(Command::Chaos { blocked: vec![], lag_ms: 0 });
    a.join(&b);
}

fn byte_of_gossip(event: &Event) -> Option<u8> {
    if let Event::Gossip { data, .. } = event { data.first().copied() } else { None }
}

#[test]
fn a_stop_is_quick_and_peers_see_it() {
    let (a, b) = (Node::start(1, |_| {}), Node::start(2, |_| {}));
    a.join(&b);
    let text = a.net().metrics_text();
    assert!(text.contains("libp2p_swarm_connections_established") && !text.contains("# EOF"), "{text}");
    let started = Instant::now();
    a.tell(Command::Shutdown);
    a.soon("it says so", |events| events.last() == Some(&Event::Stopped));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    b.soon("its peer sees it", |events| peers(events).is_empty());
    assert!(a.net().try_command(Command::Shutdown).is_err());
}
