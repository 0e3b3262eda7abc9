//! What only the whole can show. Each file is one subject; `house` reads the sources, the others run them.

mod checkpoints;
mod cli;
mod hostile;
mod house;
mod queries;
mod world;
