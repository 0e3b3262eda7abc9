//! What only the whole can show. Each file is one subject; `house` reads the sources, the others run them.

// Everything here is a test, its tools included: what does not hold must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod checkpoints;
mod cli;
mod hostile;
mod house;
mod queries;
mod world;
