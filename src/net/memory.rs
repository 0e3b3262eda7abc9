//! A network without sockets: many nodes in one thread on virtual time, for worlds.
//!
//! Owns the weather (delay, jitter, loss, duplicates, reordering), the cuts between nodes and one queue of everything that
//! is under way. It runs the same tables, quotas and books as the real network and gives the same events for the same
//! commands. One seed and one order of commands give one trace, byte for byte: time comes from tokio's clock, which a
//! world pauses, and chance from the seed; nothing else decides.
//!
//! What it does not pretend to be: there are no bytes on a wire, so garbage below the level of messages is tested on real
//! sockets; gossip floods to every linked subscriber instead of a mesh; loss eats messages (and breaks exchanges), while
//! connecting only gets slower by it, as with a transport that retransmits.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Busy, Command, EventSink, NetError, Params, Transport};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{Digest, NodeId};
use world::{Step, World};

mod exchange;
mod gossip;
mod links;
mod parts;
mod world;

pub use parts::Counts;

/// What happens to a message under way. Chances are per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    pub delay_ms: u64,
    /// Added on top, uniform from 0.
    pub jitter_ms: u64,
    pub loss: u16,
    pub duplicate: u16,
    /// Held back so that later messages overtake it.
    pub reorder: u16,
}

impl Weather {
    /// A local network on a good day.
    pub const CLEAR: Self = Self { delay_ms: 1, jitter_ms: 1, loss: 0, duplicate: 0, reorder: 0 };
}

/// The place where the nodes of one world meet. Clones name the same place.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    wake: Arc<Notify>,
    origin: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        // A panic elsewhere has already failed the world; its state is still the best report there is.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({:?})", self.shared.lock().counts())
    }
}

impl Hub {
    /// Opens a place and starts its driver. Must be called inside a tokio runtime of one thread; a second thread would
    /// bring an order of its own.
    pub fn open(chance: Chance, weather: Weather) -> Self {
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(chance, weather)),
            wake: Arc::new(Notify::new()),
            origin: Instant::now(),
        });
        tokio::spawn(drive(Arc::downgrade(&shared), Arc::clone(&shared.wake)));
        Self { shared }
    }

    /// Brings a node up. Its address is its first `listen` entry.
    ///
    /// # Errors
    /// The address or the node is here already, or there is no address.
    pub fn join(&self, params: Params, sink: EventSink) -> Result<HubNode, NetError> {
        let node = params.node();
        let incarnation = self.change(|world| world.join(node, params, sink))?;
        Ok(HubNode { shared: Arc::clone(&self.shared), node, incarnation })
    }

    /// The process of the node is gone without a word. Its peers notice as with a closed socket.
    pub fn crash(&self, node: NodeId) {
        self.change(|world| world.leave(node, false));
    }

    pub fn set_weather(&self, weather: Weather) {
        self.change(|world| world.weather = weather);
    }

    /// Nothing passes between the two any more; their connection breaks when pings have failed for long enough.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.change(|world| {
            world.cut(a, b);
            world.cut(b, a);
        });
    }

    /// Nothing passes in this one direction.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.change(|world| world.cut(from, to));
    }

    pub fn mend(&self, a: NodeId, b: NodeId) {
        self.change(|world| {
            world.cuts.remove(&(a, b));
            world.cuts.remove(&(b, a));
        });
    }

    /// Cuts every pair of nodes that are in different groups; a node in no group is cut from nobody.
    pub fn partition(&self, groups: &[&[NodeId]]) {
        self.change(|world| {
            for (i, group) in groups.iter().enumerate() {
                for other in groups.iter().skip(i + 1) {
                    for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                        world.cut(a, b);
                        world.cut(b, a);
                    }
                }
            }
        });
    }

    /// Mends every cut.
    pub fn heal(&self) {
        self.change(|world| world.cuts.clear());
    }

    /// Everything from and to the node takes this much longer.
    pub fn lag(&self, node: NodeId, lag_ms: u64) {
        self.change(|world| world.set_lag(node, lag_ms));
    }

    /// Hash of everything delivered so far, with its time and receiver.
    pub fn trace(&self) -> Digest {
        self.shared.lock().trace()
    }

    pub fn counts(&self) -> Counts {
        self.shared.lock().counts()
    }

    /// Virtual milliseconds since the hub was opened.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.shared.lock();
        world.now_ms = self.shared.now_ms();
        let result = change(&mut world);
        drop(world);
        self.shared.wake.notify_one();
        result
    }
}

/// One node's way into the hub.
#[derive(Clone)]
pub struct HubNode {
    shared: Arc<Shared>,
    node: NodeId,
    incarnation: u64,
}

impl fmt::Debug for HubNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubNode({})", self.node.short())
    }
}

impl Transport for HubNode {
    fn try_command(&self, command: Command) -> Result<(), Busy> {
        let mut world = self.shared.lock();
        world.now_ms = self.shared.now_ms();
        let result = world.enqueue(self.node, self.incarnation, command);
        drop(world);
        self.shared.wake.notify_one();
        result
    }

    fn local(&self) -> NodeId {
        self.node
    }
}

/// Takes what is due, one thing at a time, and hands out its events before the next: that fixes the order.
async fn drive(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let Some(hub) = shared.upgrade() else { return };
        let now_ms = hub.now_ms();
        let step = hub.lock().step(now_ms);
        match step {
            Step::Deliver { node, incarnation, sink, event } => {
                // The sink may give commands, so the world is not locked here.
                let result = sink.lock().unwrap_or_else(PoisonError::into_inner)(event);
                if let Err(event) = result {
                    hub.lock().undelivered(node, incarnation, &event);
                }
            }
            Step::Idle { next_ms } => {
                let next = next_ms.map(|ms| hub.origin + Duration::from_millis(ms));
                drop(hub);
                match next {
                    Some(next) => {
                        tokio::select! { biased; () = wake.notified() => {}, () = tokio::time::sleep_until(next) => {} }
                    }
                    None => wake.notified().await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
