//! The books of asking and answering: what we have asked, what we owe, and the quotas of both.
//!
//! Pure: time is an argument, nothing is sent from here. Both transports keep one, so worlds and real networks hold the
//! same limits. Every ask that enters leaves exactly once: answered, failed or cancelled. A ticket is good until its last
//! frame, its expiry, or the end of the peer.

use std::collections::{BTreeMap, BTreeSet};

use super::quota::Quotas;
use super::tables::{Limits, Protocol};
use super::{Ask, AskError, Refusal, ReplyTicket};
use crate::protocol::ids::NodeId;

/// The longest a query may be worked on for somebody else, whatever its asker said.
const QUERY_WORK_MS: u64 = 600_000;

/// What becomes of an ask.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Send(Ask),
    /// Our own quota is spent for the moment; `due` hands it out later.
    Waits,
    Failed(AskError),
}

#[derive(Debug)]
struct OpenAsk {
    to: NodeId,
    protocol: Protocol,
    expires_ms: u64,
    /// Of a query: when the first frame must be here.
    first_by_ms: Option<u64>,
    received: usize,
    /// Held back by our own quota.
    waiting: Option<(u64, Ask)>,
}

impl OpenAsk {
    fn due_ms(&self) -> u64 {
        let due = self.first_by_ms.map_or(self.expires_ms, |first| first.min(self.expires_ms));
        self.waiting.as_ref().map_or(due, |(at, _)| due.min(*at))
    }
}

#[derive(Debug)]
struct OpenReply {
    from: NodeId,
    protocol: Protocol,
    expires_ms: u64,
    sent: usize,
}

/// Whom a reply goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    pub node: NodeId,
    pub protocol: Protocol,
}

/// What time has done to the books.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Asks whose turn has come.
    pub send: Vec<Ask>,
    /// Asks that got no answer in time.
    pub expired: Vec<(u64, NodeId, Protocol)>,
    /// Tickets nobody replied to in time.
    pub lapsed: Vec<(ReplyTicket, ReplyTo)>,
}

/// The books.
#[derive(Debug)]
pub struct Desk {
    limits: Limits,
    asks: BTreeMap<u64, OpenAsk>,
    /// Asks that take a stream rather than a place among the requests.
    queries_out: usize,
    replies: BTreeMap<u64, OpenReply>,
    queries_in: usize,
    timers: BTreeSet<(u64, bool, u64)>,
    next_ticket: u64,
    quota_out: Quotas,
    quota_in: Quotas,
}

impl Desk {
    pub fn new(limits: Limits) -> Self {
        let quota = || Quotas::new(limits.artifact_items);
        let (quota_out, quota_in) = (quota(), quota());
        Self {
            limits,
            asks: BTreeMap::new(),
            queries_out: 0,
            replies: BTreeMap::new(),
            queries_in: 0,
            timers: BTreeSet::new(),
            next_ticket: 0,
            quota_out,
            quota_in,
        }
    }

    /// Enters an ask. What comes back as `Failed` was not entered.
    pub fn ask(&mut self, ask: Ask, connected: bool, now_ms: u64) -> Decision {
        let spec = ask.protocol.spec();
        if !connected {
            return Decision::Failed(AskError::Unreachable);
        }
        if ask.data.len() > spec.request_bytes_max || ask.items > spec.items_max {
            return Decision::Failed(AskError::TooLarge);
        }
        if self.asks.contains_key(&ask.id) || self.asks_are_full(ask.to, ask.protocol) {
            return Decision::Failed(AskError::Busy);
        }
        let query = ask.protocol == Protocol::Query;
        let longest = if query { QUERY_WORK_MS } else { spec.timeout_ms };
        let expires_ms = now_ms.saturating_add(ask.deadline_ms.min(longest));
        let mut open = OpenAsk {
            to: ask.to,
            protocol: ask.protocol,
            expires_ms,
            first_by_ms: query.then(|| now_ms.saturating_add(spec.timeout_ms)),
            received: 0,
            waiting: None,
        };
        let (id, decision) = match self.quota_out.charge(ask.to, ask.protocol, ask.items, now_ms) {
            Ok(()) => (ask.id, Decision::Send(ask)),
            Err(wait_ms) => {
                let at = now_ms.saturating_add(wait_ms);
                if at >= open.due_ms() {
                    return Decision::Failed(AskError::RateLimited);
                }
                let id = ask.id;
                open.waiting = Some((at, ask));
                (id, Decision::Waits)
            }
        };
        self.queries_out += usize::from(query);
        self.timers.insert((open.due_ms(), false, id));
        self.asks.insert(id, open);
        decision
    }

    fn asks_are_full(&self, to: NodeId, protocol: Protocol) -> bool {
        if protocol == Protocol::Query {
            let to_peer = self.asks.values().filter(|ask| ask.to == to && ask.protocol == protocol).count();
            return self.queries_out >= self.limits.query_streams || to_peer >= protocol.spec().in_flight;
        }
        let calls = || self.asks.values().filter(|ask| ask.protocol != Protocol::Query);
        let of_kind = calls().filter(|ask| ask.to == to && ask.protocol == protocol).count();
        self.asks.len() - self.queries_out >= self.limits.asks
            || calls().filter(|ask| ask.to == to).count() >= self.limits.asks_per_peer
            || of_kind >= protocol.spec().in_flight
    }

    /// A frame of an answer: whether it is still wanted, and within the limits.
    ///
    /// # Errors
    /// `None`: nobody waits for it. `Some`: the ask has failed and is closed.
    pub fn frame(&mut self, id: u64, length: usize, last: bool) -> Result<(), Option<AskError>> {
        let open = self.asks.get_mut(&id).ok_or(None)?;
        let spec = open.protocol.spec();
        open.received = open.received.saturating_add(length);
        if length > spec.answer_bytes_max || open.received > spec.answer_total_max {
            self.close_ask(id);
            return Err(Some(AskError::TooLarge));
        }
        if last {
            self.close_ask(id);
        } else {
            let before = open.due_ms();
            open.first_by_ms = None;
            let after = open.due_ms();
            self.timers.remove(&(before, false, id));
            self.timers.insert((after, false, id));
        }
        Ok(())
    }

    /// Takes an ask out of the books; whom it went to, if it was there.
    pub fn close_ask(&mut self, id: u64) -> Option<(NodeId, Protocol)> {
        let open = self.asks.remove(&id)?;
        self.timers.remove(&(open.due_ms(), false, id));
        self.queries_out -= usize::from(open.protocol == Protocol::Query);
        Some((open.to, open.protocol))
    }

    /// Whom an open ask went to.
    pub fn asked(&self, id: u64) -> Option<(NodeId, Protocol)> {
        self.asks.get(&id).map(|open| (open.to, open.protocol))
    }

    /// Somebody asks us: a ticket, or what to tell them.
    ///
    /// # Errors
    /// Too large a request, a spent quota, or too much under way.
    pub fn admit(
        &mut self,
        from: NodeId,
        protocol: Protocol,
        items: u16,
        length: usize,
        now_ms: u64,
    ) -> Result<ReplyTicket, Refusal> {
        let spec = protocol.spec();
        if length > spec.request_bytes_max || items > spec.items_max {
            return Err(Refusal::TooLarge);
        }
        self.quota_in.charge(from, protocol, items, now_ms).map_err(|_| Refusal::RateLimited)?;
        let query = protocol == Protocol::Query;
        let mine = self.replies.values().filter(|r| r.from == from && r.protocol == protocol).count();
        let full = if query {
            self.queries_in >= self.limits.query_streams
        } else {
            self.replies.len() - self.queries_in >= self.limits.replies
        };
        if full || mine >= spec.in_flight {
            return Err(Refusal::Busy);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let expires_ms = now_ms.saturating_add(if query { QUERY_WORK_MS } else { spec.timeout_ms });
        self.queries_in += usize::from(query);
        self.timers.insert((expires_ms, true, ticket));
        self.replies.insert(ticket, OpenReply { from, protocol, expires_ms, sent: 0 });
        Ok(ReplyTicket(ticket))
    }

    /// A frame of a reply: to whom it goes. `None` when the ticket is spent, or the frame breaks our own limits.
    pub fn reply(&mut self, ticket: ReplyTicket, length: usize, last: bool) -> Option<ReplyTo> {
        let open = self.replies.get_mut(&ticket.0)?;
        let spec = open.protocol.spec();
        open.sent = open.sent.saturating_add(length);
        let to = ReplyTo { node: open.from, protocol: open.protocol };
        if length > spec.answer_bytes_max || open.sent > spec.answer_total_max {
            return None;
        }
        // A second frame has no place in a protocol of one answer.
        if last || to.protocol != Protocol::Query {
            self.close_reply(ticket);
        }
        Some(to)
    }

    /// Takes a ticket out of the books; whose it was, if it was there.
    pub fn close_reply(&mut self, ticket: ReplyTicket) -> Option<ReplyTo> {
        let open = self.replies.remove(&ticket.0)?;
        self.timers.remove(&(open.expires_ms, true, ticket.0));
        self.queries_in -= usize::from(open.protocol == Protocol::Query);
        Some(ReplyTo { node: open.from, protocol: open.protocol })
    }

    /// The peer is gone: asks that fail with it, and query tickets that lead nowhere now.
    pub fn close_peer(&mut self, node: NodeId) -> (Vec<u64>, Vec<ReplyTicket>) {
        let asks: Vec<u64> = self.asks.iter().filter(|(_, ask)| ask.to == node).map(|(id, _)| *id).collect();
        let tickets: Vec<ReplyTicket> =
            self.replies.iter().filter(|(_, r)| r.from == node).map(|(id, _)| ReplyTicket(*id)).collect();
        for id in &asks {
            self.close_ask(*id);
        }
        let queries = tickets
            .into_iter()
            .filter(|ticket| self.close_reply(*ticket).is_some_and(|to| to.protocol == Protocol::Query));
        let queries = queries.collect();
        (asks, queries)
    }

    /// When something next happens by itself.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// What has come due.
    pub fn due(&mut self, now_ms: u64) -> Due {
        let mut due = Due::default();
        while let Some(&(at, reply, id)) = self.timers.first() {
            if at > now_ms {
                break;
            }
            self.timers.pop_first();
            if reply {
                let ticket = ReplyTicket(id);
                due.lapsed.extend(self.close_reply(ticket).map(|to| (ticket, to)));
            } else {
                self.ask_is_due(id, now_ms, &mut due);
            }
        }
        due
    }

    fn ask_is_due(&mut self, id: u64, now_ms: u64, due: &mut Due) {
        let Some(open) = self.asks.get_mut(&id) else { return };
        if let Some((_, ask)) = open.waiting.take() {
            match self.quota_out.charge(ask.to, ask.protocol, ask.items, now_ms) {
                Ok(()) => due.send.push(ask),
                Err(wait_ms) => open.waiting = Some((now_ms.saturating_add(wait_ms.max(1)), ask)),
            }
        }
        let ends_ms = open.first_by_ms.map_or(open.expires_ms, |first| first.min(open.expires_ms));
        if ends_ms > now_ms {
            self.timers.insert((open.due_ms(), false, id));
            return;
        }
        due.send.retain(|ask| ask.id != id);
        if let Some((to, protocol)) = self.close_ask(id) {
            due.expired.push((id, to, protocol));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId([1; 32]);

    fn ask(id: u64, protocol: Protocol, items: u16) -> Ask {
        Ask { id, to: PEER, protocol, items, data: vec![0; 8], deadline_ms: 60_000 }
    }

    #[test]
    fn an_ask_over_our_own_quota_waits_and_leaves_when_allowed() {
        let mut desk = Desk::new(Limits::default());
        // 2,048 heights in 10 s, 4 in flight: 32 requests of 64 drain the burst.
        for id in 0..32 {
            assert!(matches!(desk.ask(ask(id, Protocol::Sync, 64), true, 0), Decision::Send(_)));
            assert_eq!(desk.frame(id, 10, true), Ok(()));
        }
        assert_eq!(desk.ask(ask(40, Protocol::Sync, 64), true, 0), Decision::Waits);
        let at = desk.next_due_ms().unwrap();
        assert!((300..400).contains(&at), "{at}");
        assert_eq!(desk.due(at).send.len(), 1);
        assert_eq!(desk.due(at + 15_000).expired, vec![(40, PEER, Protocol::Sync)]);
        assert_eq!(desk.next_due_ms(), None);
    }

    #[test]
    fn what_cannot_wait_is_refused_and_never_entered() {
        let mut desk = Desk::new(Limits::default());
        assert!(matches!(desk.ask(ask(1, Protocol::Goodbye, 1), true, 0), Decision::Send(_)));
        assert_eq!(desk.ask(ask(2, Protocol::Goodbye, 1), true, 0), Decision::Failed(AskError::Busy));
        desk.close_ask(1);
        assert_eq!(desk.ask(ask(2, Protocol::Goodbye, 1), true, 0), Decision::Failed(AskError::RateLimited));
        assert_eq!(desk.ask(ask(3, Protocol::Sync, 1), false, 0), Decision::Failed(AskError::Unreachable));
        assert_eq!(desk.ask(ask(3, Protocol::Sync, 65), true, 0), Decision::Failed(AskError::TooLarge));
        assert_eq!(desk.next_due_ms(), None);
    }

    #[test]
    fn a_query_must_begin_in_time_and_stay_within_its_total() {
        let mut desk = Desk::new(Limits::default());
        assert!(matches!(desk.ask(ask(1, Protocol::Query, 1), true, 0), Decision::Send(_)));
        assert!(matches!(desk.ask(ask(2, Protocol::Query, 1), true, 0), Decision::Send(_)));
        assert_eq!(desk.frame(1, 256 << 10, false), Ok(()));
        assert_eq!(desk.due(10_000).expired, vec![(2, PEER, Protocol::Query)]);
        for _ in 1..64 {
            assert_eq!(desk.frame(1, 256 << 10, false), Ok(()));
        }
        assert_eq!(desk.frame(1, 1, false), Err(Some(AskError::TooLarge)));
        assert_eq!(desk.frame(1, 1, false), Err(None));
    }

    #[test]
    fn tickets_are_bounded_and_end_with_their_peer() {
        let mut desk = Desk::new(Limits::default());
        let tickets: Vec<_> = (0..32).map(|_| desk.admit(PEER, Protocol::Query, 1, 9, 0).unwrap()).collect();
        assert_eq!(desk.admit(PEER, Protocol::Query, 1, 9, 0), Err(Refusal::Busy));
        assert!(desk.reply(tickets[0], 9, false).is_some());
        assert!(desk.reply(tickets[0], 9, true).is_some());
        assert_eq!(desk.reply(tickets[0], 9, true), None);
        assert_eq!(desk.admit(PEER, Protocol::Fetch, 64, 2_049, 0), Err(Refusal::TooLarge));
        let fetch = desk.admit(PEER, Protocol::Fetch, 64, 2_048, 0).unwrap();
        assert_eq!(desk.close_peer(PEER).1.len(), 31);
        assert_eq!(desk.reply(fetch, 0, true), None);
        assert_eq!(desk.next_due_ms(), None);
    }
}
