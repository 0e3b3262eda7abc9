//! Quotas by GCRA: a rate with a burst, in one number per peer and protocol.
//!
//! The same limiter stands at both ends: ours refuses what a peer asks beyond its quota, and keeps us from asking a peer
//! beyond its. Time is an argument in milliseconds; nothing here reads a clock. Tables are bounded: a row that has
//! recovered fully says nothing and is dropped.

use std::collections::BTreeMap;

use super::tables::Protocol;
use crate::protocol::ids::NodeId;

/// One rate: `items` in `period_ms`, all of them at once if wished.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub items: u32,
    pub period_ms: u64,
}

impl Rate {
    /// Microseconds that one item costs.
    fn item_us(self) -> u64 {
        self.period_ms.saturating_mul(1_000) / u64::from(self.items.max(1))
    }
}

/// The theoretical arrival time of the next item, in microseconds: all a GCRA limiter remembers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    next_us: u64,
}

impl Meter {
    /// Takes `items` if the rate allows it now; otherwise says in how many milliseconds it will, and takes nothing.
    ///
    /// # Errors
    /// Milliseconds to wait; `u64::MAX` when the items exceed the whole burst.
    pub fn take(&mut self, rate: Rate, items: u32, now_ms: u64) -> Result<(), u64> {
        if items > rate.items {
            return Err(u64::MAX);
        }
        let now_us = now_ms.saturating_mul(1_000);
        let after = self.next_us.max(now_us).saturating_add(rate.item_us().saturating_mul(u64::from(items)));
        let limit = now_us.saturating_add(rate.period_ms.saturating_mul(1_000));
        if after > limit {
            return Err((after - limit).div_ceil(1_000));
        }
        self.next_us = after;
        Ok(())
    }

    fn is_idle(self, now_ms: u64) -> bool {
        self.next_us <= now_ms.saturating_mul(1_000)
    }
}

/// One meter per peer and protocol, for one direction.
#[derive(Debug, Default)]
pub struct Quotas {
    artifact_items: u32,
    meters: BTreeMap<(NodeId, Protocol), Meter>,
}

/// Rows kept at most; beyond it, idle ones are dropped first and then a newcomer is refused.
const ROWS_MAX: usize = 8_192;

impl Quotas {
    /// With another quota for artifacts than the protocol's own.
    pub fn new(artifact_items: u32) -> Self {
        Self { artifact_items, ..Self::default() }
    }

    /// Charges a request of `items` to the peer.
    ///
    /// # Errors
    /// Milliseconds until the quota allows it.
    pub fn charge(&mut self, node: NodeId, protocol: Protocol, items: u16, now_ms: u64) -> Result<(), u64> {
        let spec = protocol.spec();
        let own = protocol == Protocol::Artifact && self.artifact_items > 0;
        let items_max = if own { self.artifact_items } else { spec.quota_items };
        let rate = Rate { items: items_max, period_ms: spec.quota_ms };
        if self.meters.len() >= ROWS_MAX && !self.meters.contains_key(&(node, protocol)) {
            self.meters.retain(|_, meter| !meter.is_idle(now_ms));
            if self.meters.len() >= ROWS_MAX {
                return Err(spec.quota_ms);
            }
        }
        self.meters.entry((node, protocol)).or_default().take(rate, u32::from(items.max(1)), now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let rate = Rate { items: 10, period_ms: 1_000 };
        let mut meter = Meter::default();
        for _ in 0..10 {
            assert_eq!(meter.take(rate, 1, 5_000), Ok(()));
        }
        assert_eq!(meter.take(rate, 1, 5_000), Err(100));
        assert_eq!(meter.take(rate, 1, 5_099), Err(1));
        assert_eq!(meter.take(rate, 1, 5_100), Ok(()));
        assert_eq!(meter.take(rate, 11, 60_000), Err(u64::MAX));
        assert_eq!(meter.take(rate, 10, 60_000), Ok(()));
    }

    #[test]
    fn peers_and_protocols_do_not_share() {
        let mut quotas = Quotas::default();
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        assert_eq!(quotas.charge(a, Protocol::Goodbye, 1, 0), Ok(()));
        assert!(quotas.charge(a, Protocol::Goodbye, 1, 0).is_err());
        assert_eq!(quotas.charge(b, Protocol::Goodbye, 1, 0), Ok(()));
        assert_eq!(quotas.charge(a, Protocol::Hello, 1, 0), Ok(()));
    }
}
