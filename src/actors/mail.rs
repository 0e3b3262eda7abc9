//! `tell` and `ask`: the only two ways to send a message.
//!
//! A tell has no reply and may be lost: a full mailbox drops it, and the drop is counted. An ask has a reply and a
//! deadline, always. Both keep the mailbox bound, which actix's own `do_send` does not.

use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::dev::channel::{AddressReceiver, channel};
use actix::prelude::*;

/// A message that knows which actor hears it, for the drop counter.
pub trait Heard: Message {
    const BY: &'static str;
}

/// Declares the messages one actor hears: `heard! { "ledger": A -> Reply, B -> () }`.
macro_rules! heard {
    ($actor:literal: $($message:ty => $reply:ty),+ $(,)?) => {
        $(
            impl actix::Message for $message {
                type Result = $reply;
            }
            impl $crate::actors::mail::Heard for $message {
                const BY: &'static str = $actor;
            }
        )+
    };
}
pub(crate) use heard;

/// Why an ask has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("the {actor} did not answer within {deadline_ms} ms")]
    Late { actor: &'static str, deadline_ms: u128 },
    #[error("the {actor} has stopped")]
    Gone { actor: &'static str },
}

/// Sends without a reply. When the mailbox is full, or its actor gone, the message is dropped, counted and reported as
/// `false`; the sender goes on.
pub fn tell<M>(to: &Recipient<M>, message: M) -> bool
where
    M: Heard + Send + 'static,
    M::Result: Send,
{
    let sent = to.try_send(message).is_ok();
    if !sent {
        metrics::counter!("starling_mail_dropped_total", "actor" => M::BY).increment(1);
    }
    sent
}

/// Sends at once, so that asks arrive in the order they were made, and waits for the reply at most for `deadline`. The
/// future is driven outside handlers: a handler never awaits.
///
/// # Errors
/// No reply in time, or the actor has stopped.
pub fn ask<M>(
    to: &Recipient<M>,
    message: M,
    deadline: Duration,
) -> impl Future<Output = Result<M::Result, AskError>> + Send + use<M>
where
    M: Heard + Send + 'static,
    M::Result: Send,
{
    let reply = to.send(message);
    async move {
        match tokio::time::timeout(deadline, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(AskError::Gone { actor: M::BY }),
            Err(_) => Err(AskError::Late { actor: M::BY, deadline_ms: deadline.as_millis() }),
        }
    }
}

/// The two ends of an actor's mailbox, made before the actor: addresses of all actors can then be given to each other,
/// and every mailbox states its capacity.
pub fn mailbox<A: Actor<Context = Context<A>>>(capacity: usize) -> (Addr<A>, AddressReceiver<A>) {
    let (sender, receiver) = channel(capacity);
    (Addr::new(sender), receiver)
}

/// Starts an actor on its mailbox, in the arbiter of the calling thread.
pub fn start<A: Actor<Context = Context<A>>>(actor: A, mailbox: AddressReceiver<A>) {
    Context::with_receiver(mailbox).run(actor);
}

/// From node.rs, to every actor at the end: finish at once. What was not durable is as lost as in a crash.
#[derive(Clone, Copy, Debug)]
pub struct Stop;

impl Message for Stop {
    type Result = ();
}

/// Lets actors be stopped.
macro_rules! stops {
    ($($actor:ty),+ $(,)?) => {
        $(impl actix::Handler<$crate::actors::mail::Stop> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::actors::mail::Stop, context: &mut Self::Context) {
                actix::ActorContext::terminate(context);
            }
        })+
    };
}
pub(crate) use stops;

/// An address as the recipient of one kind of message.
pub fn to<A, M>(address: &Addr<A>) -> Recipient<M>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    address.clone().recipient()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slow;
    struct Note;
    struct Question;
    heard! { "slow": Note => (), Question => u32 }

    impl Actor for Slow {
        type Context = Context<Self>;
    }
    impl Handler<Note> for Slow {
        type Result = ();
        fn handle(&mut self, _: Note, _: &mut Self::Context) {}
    }
    impl Handler<Question> for Slow {
        type Result = ResponseFuture<u32>;
        fn handle(&mut self, _: Question, _: &mut Self::Context) -> Self::Result {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                7
            })
        }
    }

    fn world(test: impl Future<Output = ()>) {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        System::with_tokio_rt(runtime).block_on(test);
    }

    #[test]
    fn a_full_mailbox_drops_the_tell_and_says_so() {
        world(async {
            let (address, mailbox) = mailbox::<Slow>(2);
            let notes = to::<Slow, Note>(&address);
            let sent = (0..10).filter(|_| tell(&notes, Note)).count();
            assert!((2..=3).contains(&sent), "a mailbox of 2 took {sent}");
            start(Slow, mailbox);
        });
    }

    #[test]
    fn an_ask_ends_at_its_deadline_and_a_dead_actor_is_named() {
        world(async {
            let (address, mailbox) = mailbox::<Slow>(8);
            start(Slow, mailbox);
            // Sent when it is made, not when it is first polled: order is what the ledger lives by.
            let early = ask(&to::<Slow, Question>(&address), Question, Duration::from_secs(61));
            tokio::time::sleep(Duration::from_secs(60)).await;
            let asked = tokio::time::Instant::now();
            assert_eq!(early.await, Ok(7));
            assert!(asked.elapsed() < Duration::from_secs(1));
            let questions = to::<Slow, Question>(&address);
            let late = ask(&questions, Question, Duration::from_secs(1)).await;
            assert_eq!(late, Err(AskError::Late { actor: "slow", deadline_ms: 1_000 }));
            assert_eq!(ask(&questions, Question, Duration::from_secs(61)).await, Ok(7));
        });
    }
}
