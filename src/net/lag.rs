//! A queue in which everything stays for a while: order is kept, bytes are bounded.
//!
//! It serves the lag of `Chaos` on a live network. When the delay is shortened, what is inside still leaves in order, so
//! an item never overtakes the one before it.

use std::collections::VecDeque;

/// Items on their way through the delay.
#[derive(Debug)]
pub struct Lag<T> {
    items: VecDeque<(u64, usize, T)>,
    bytes: usize,
    bytes_max: usize,
}

impl<T> Lag<T> {
    pub fn new(bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Puts an item in that may leave at `due_ms`, or later when one before it leaves later.
    ///
    /// # Errors
    /// Gives the item back when the bytes inside would exceed the bound.
    pub fn push(&mut self, due_ms: u64, bytes: usize, item: T) -> Result<(), T> {
        let Some(total) = self.bytes.checked_add(bytes).filter(|total| *total <= self.bytes_max) else {
            return Err(item);
        };
        let due_ms = self.items.back().map_or(due_ms, |(last, ..)| due_ms.max(*last));
        self.bytes = total;
        self.items.push_back((due_ms, bytes, item));
        Ok(())
    }

    /// When the first item may leave.
    pub fn due_ms(&self) -> Option<u64> {
        self.items.front().map(|(due, ..)| *due)
    }

    pub fn pop(&mut self, now_ms: u64) -> Option<T> {
        if self.due_ms()? > now_ms {
            return None;
        }
        let (_, bytes, item) = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_when_the_delay_shrinks_and_bytes_are_bounded() {
        let mut lag = Lag::new(10);
        assert_eq!(lag.push(100, 4, 'a'), Ok(()));
        assert_eq!(lag.push(50, 4, 'b'), Ok(()));
        assert_eq!(lag.push(50, 4, 'c'), Err('c'));
        assert_eq!(lag.pop(99), None);
        assert_eq!((lag.pop(100), lag.pop(100), lag.pop(100)), (Some('a'), Some('b'), None));
        assert_eq!(lag.push(0, 10, 'd'), Ok(()));
    }
}
