//! Numerics: data, models, engines, tasks, and the judgement of answers. Floats live here and nowhere below.
//!
//! Reading order: `task` says what is asked and what a good answer is, `model` what a miner runs and its bytes,
//! `engine` who computes it, `train` how it comes to be, `batch` how queries share one run, `mark` what one answer is
//! worth in whole numbers, `quantise` the one gate from floats to the integers everything else is
//! made of, `verify` whether the claimed model wrote an answer, and `bench` what all of it costs.

pub mod batch;
pub mod bench;
pub mod competition;
pub mod data;
pub mod engine;
pub mod mark;
pub mod model;
pub mod quantise;
pub mod task;
pub mod train;
pub mod verify;
