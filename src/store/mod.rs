//! The walls to the disk. What is kept here is bytes; what they mean is decided elsewhere.

pub mod disk;
pub mod journal;
