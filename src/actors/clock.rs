//! Time as an argument: the one clock of a node, made by the composition root and handed to its actors.
//!
//! Durations come from tokio's monotonic clock, which a world pauses and moves by hand; the wall clock serves timestamps
//! alone (C22). No rule of the ledger reads either.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

/// Where the wall time comes from.
#[derive(Clone, Copy, Debug)]
enum Wall {
    System,
    /// A world's: the given moment at the start, then as fast as its virtual time.
    From {
        ms: u64,
    },
}

/// A clock that can be handed around.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    wall: Wall,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { origin: Instant::now(), wall: Wall::System }
    }

    /// The virtual clock of a world that begins at this wall time.
    pub fn virtual_from(wall_ms: u64) -> Self {
        Self { origin: Instant::now(), wall: Wall::From { ms: wall_ms } }
    }

    /// Milliseconds since this clock was made; never goes back.
    pub fn mono_ms(&self) -> u64 {
        millis(self.origin.elapsed())
    }

    /// Milliseconds since 1970; may jump with the machine's clock.
    pub fn wall_ms(&self) -> u64 {
        match self.wall {
            Wall::From { ms } => ms + self.mono_ms(),
            Wall::System => wall_now_ms(),
        }
    }
}

/// Milliseconds since 1970 by the machine's clock.
pub fn wall_now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    let now = std::time::SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
