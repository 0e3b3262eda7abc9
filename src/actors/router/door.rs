//! The way from the network's task into the router's mailbox: never waits, and keeps permits for each class of message.
//!
//! A mailbox is one queue, so priority is made here: a class that has used up its permits is refused while the others go
//! on (C49). The permit travels with the message and ends with its verdict.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Semaphore;

use super::NetEvent;
use crate::net::{Event, EventSink, Topic};

/// Kinds of work, each with permits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Votes,
    Certificates,
    Proposals,
    Transactions,
    Presence,
}

impl Class {
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::VoteArrived { .. } => Some(Self::Votes),
            Event::Gossip { topic, .. } => Some(match topic {
                Topic::Vote => Self::Votes,
                Topic::Certificate => Self::Certificates,
                Topic::Proposal => Self::Proposals,
                Topic::Transaction | Topic::Weights => Self::Transactions,
                Topic::Presence => Self::Presence,
            }),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Votes => "votes",
            Self::Certificates => "certificates",
            Self::Proposals => "proposals",
            Self::Transactions => "transactions",
            Self::Presence => "presence",
        }
    }
}

/// The permits of all classes.
#[derive(Clone, Debug)]
pub struct Door {
    votes: Arc<Semaphore>,
    certificates: Arc<Semaphore>,
    proposals: Arc<Semaphore>,
    transactions: Arc<Semaphore>,
    presence: Arc<Semaphore>,
}

impl Door {
    /// Permits for a committee of this size.
    pub fn new(members: usize) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count));
        Self {
            votes: permits((4 * members).max(64)),
            certificates: permits(256),
            proposals: permits(16),
            transactions: permits(4_096),
            presence: permits(256),
        }
    }

    fn permits(&self, class: Class) -> Arc<Semaphore> {
        Arc::clone(match class {
            Class::Votes => &self.votes,
            Class::Certificates => &self.certificates,
            Class::Proposals => &self.proposals,
            Class::Transactions => &self.transactions,
            Class::Presence => &self.presence,
        })
    }

    /// The sink that a transport is given.
    pub fn sink(self, router: Recipient<NetEvent>) -> EventSink {
        Box::new(move |event| {
            let permit = match Class::of(&event) {
                None => None,
                Some(class) => match self.permits(class).try_acquire_owned() {
                    Ok(permit) => Some(permit),
                    Err(_) => {
                        metrics::counter!("starling_net_queue_dropped_total", "queue" => class.name()).increment(1);
                        return Err(event);
                    }
                },
            };
            router.try_send(NetEvent { event, permit }).map_err(|refused| match refused {
                SendError::Full(message) | SendError::Closed(message) => message.event,
            })
        })
    }
}
