//! The words nodes share: identities, units, keys, and every message or record that crosses a wire or a disk.
//!
//! Nothing here acts. A type in this room can be checked, encoded and hashed; what follows from it is decided elsewhere.
//! Signed and hashed bytes are fixed little-endian layouts written by hand (C8); bincode, called in `codec` alone,
//! frames messages and never makes a byte that is signed or hashed.

pub mod artifact;
pub mod chance;
pub mod channel;
pub mod checkpoint;
pub mod codec;
pub mod commitment;
pub mod committee;
pub mod envelope;
pub mod genesis;
pub mod hello;
pub mod ids;
pub mod keys;
pub mod layout;
pub mod merkle;
pub mod parameters;
pub mod query;
pub mod report;
pub mod score_log;
pub mod statement;
pub mod sync;
pub mod transaction;
pub mod turns;
pub mod units;
pub mod wire;
