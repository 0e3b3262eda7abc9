//! What a validator has to bring into the ledger: under which nonce, how often, and whether it is worth beginning.
//!
//! Pure. An errand is sent again until its effect is seen. Sent again it keeps its nonce while the pool still holds that
//! place: under another nonce it would wait behind itself wherever the first was lost. Where the pool has a gap below, it
//! takes the gap: nothing above one is ever included.

use std::collections::{BTreeMap, VecDeque};

use super::plan::RESEND_HEIGHTS;
use crate::protocol::ids::{Epoch, Height};
use crate::protocol::transaction::Action;

/// Nonces under way that are remembered; more than the pool holds of one account.
const UNDER_WAY_MAX: usize = 128;
/// Reveals that are remembered: as many as the ledger remembers misses of.
const REMEMBERED: usize = 16;
/// Misses from which the whole bond goes (D4).
const MISSES_MAX: u32 = 6;

/// What a transaction is for: its kind and two numbers that tell it from others of that kind.
pub type Errand = (&'static str, u64, u64);

/// An errand that is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub errand: Errand,
    pub action: Action,
    /// The last height at which it can have an effect, a little later each time it is sent: the same bytes would not travel
    /// again.
    pub valid_until: Height,
}

/// How often something was sent, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    last: Option<Height>,
    times: u64,
}

impl Sending {
    /// How often it was sent before, if it is to be sent at this height.
    pub fn again(&mut self, height: Height) -> Option<u64> {
        if self.last.is_some_and(|last| height < last.saturating_add(RESEND_HEIGHTS)) {
            return None;
        }
        let before = self.times;
        (self.last, self.times) = (Some(height), before.saturating_add(1));
        Some(before)
    }
}

/// The nonces of what is under way.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    sent: BTreeMap<u64, Errand>,
}

impl Outbox {
    /// A nonce for each of these, in order. `used` is the account's nonce in the ledger, `next` the first that the pool does
    /// not hold.
    pub fn assign(&mut self, due: &[Due], used: u64, next: u64) -> Vec<u64> {
        self.forget(used);
        let mut fresh = next;
        let mut nonces = Vec::with_capacity(due.len());
        for Due { errand, .. } in due {
            let held = self.sent.range(..next).find(|(_, sent)| *sent == errand).map(|(nonce, _)| *nonce);
            let nonce = held.unwrap_or(fresh);
            if held.is_none() {
                self.sent.retain(|_, sent| sent != errand);
                self.sent.insert(nonce, *errand);
                fresh = fresh.saturating_add(1);
            }
            nonces.push(nonce);
        }
        while self.sent.len() > UNDER_WAY_MAX {
            self.sent.pop_last();
        }
        nonces
    }

    /// Whether an errand may still take effect. `used` is the account's nonce in the ledger.
    pub fn waits(&mut self, errand: &Errand, used: u64) -> bool {
        self.forget(used);
        self.sent.values().any(|sent| sent == errand)
    }

    fn forget(&mut self, used: u64) {
        self.sent = self.sent.split_off(&used);
    }
}

/// A reveal on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revealing {
    pub epoch: Epoch,
    /// The height it was first sent at.
    pub first: Height,
    pub sending: Sending,
}

/// What became of the last reveals, the oldest first; none where nothing was sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    reveals: VecDeque<Option<bool>>,
}

impl Past {
    pub fn note(&mut self, in_time: Option<bool>) {
        self.reveals.push_back(in_time);
        while self.reveals.len() > REMEMBERED {
            self.reveals.pop_front();
        }
    }

    /// Whether to seal a vector at all: nothing sealed costs a period, a seal that stays shut a part of the bond, twice as much
    /// with each miss in the last sixteen periods (D4). The first costs about a period's dividend, so both are counted in
    /// those: what is lost when it is late again, as often as it was, against what is won when it is not. What a seat earns
    /// beyond that does not count, because it ends with the bond.
    pub fn worth_sealing(&self, misses: u32) -> bool {
        let count = |of: bool| self.reveals.iter().filter(|past| **past == Some(of)).count() as u64;
        count(false) << misses.min(MISSES_MAX) <= count(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::SubnetId;

    fn due(errand: Errand) -> Due {
        Due { errand, action: Action::SubnetClose { subnet: SubnetId(1) }, valid_until: 0 }
    }

    #[test]
    fn what_is_sent_again_keeps_its_nonce_and_never_waits_behind_a_gap() {
        let (a, b, c) = (("commit", 1, 7), ("reveal", 2, 6), ("reveal", 1, 6));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.assign(&[due(a), due(b)], 5, 5), [5, 6]);
        assert_eq!(outbox.assign(&[due(b), due(c)], 5, 7), [6, 7], "the pool holds 5 and 6");
        // The commit came too late and left the pool: what is above its place would wait for ever.
        assert_eq!(outbox.assign(&[due(b)], 5, 5), [5]);
        assert!(outbox.waits(&b, 5) && !outbox.waits(&a, 5));
        // It was included; something else of the account has taken the next place.
        assert_eq!(outbox.assign(&[due(c)], 6, 9), [7]);
        assert!(!outbox.waits(&b, 6));
        assert_eq!(outbox.assign(&[due(b)], 8, 9), [9]);
    }

    #[test]
    fn it_is_sent_again_after_so_many_heights_and_each_time_counted() {
        let mut sending = Sending::default();
        let sent: Vec<Option<u64>> = (10..15).map(|height| sending.again(height)).collect();
        assert_eq!(sent, [Some(0), None, Some(1), None, Some(2)]);
    }

    #[test]
    fn d04_who_was_late_too_often_seals_nothing_until_that_is_past() {
        let mut past = Past::default();
        assert!(past.worth_sealing(0), "nothing speaks against it");
        past.note(Some(false));
        assert!(!past.worth_sealing(1), "it never was in time");
        (0..REMEMBERED).for_each(|_| past.note(None));
        assert!(past.worth_sealing(0), "it tries again");
        (0..6).for_each(|_| past.note(Some(true)));
        past.note(Some(false));
        assert!(past.worth_sealing(1), "one in seven, at twice the first price");
        past.note(Some(false));
        assert!(!past.worth_sealing(2), "two in eight, at four times");
        (0..2).for_each(|_| past.note(Some(true)));
        assert!(past.worth_sealing(2));
        assert!(!past.worth_sealing(u32::MAX), "any number is a price");
    }
}
