//! What only the whole can show. Each file is one subject; `house` reads the sources, the others run them.

// Everything here is a test, its tools included: what does not hold must fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]
// A test may stop at what it did not expect; helpers are part of the tests that call them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod checkpoints;
mod cli;
mod hostile;
mod house;
mod queries;
mod world;
