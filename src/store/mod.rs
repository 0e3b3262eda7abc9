//! Bytes that survive a crash. This room knows files and how they tear; it does not know what the bytes mean.

pub mod artifacts;
pub mod disk;
pub mod journal;
pub mod keystore;
pub mod kv;
