//! Bytes that survive a crash; what they mean is known elsewhere.

pub mod kv;
