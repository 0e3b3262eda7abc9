//! The composition root.

use crate::config::Config;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
    pub help: String,
    /// The exit code of the process.
    pub exit: u8,
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// It cannot start.
pub fn run(config: Config) -> Result<(), StartError> {
    let message = format!("this build has no node for {:?}", config.node.roles);
    Err(StartError { message, help: String::new(), exit: 1 })
}
