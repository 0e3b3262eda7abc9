//! What only the whole can show. Each file is one subject; `house` reads the sources, the others run them.
//! Tools of tests may fail loudly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod artifacts;
mod checkpoints;
mod cli;
mod competition;
mod hostile;
mod house;
mod judgement;
mod processes;
mod queries;
mod world;
