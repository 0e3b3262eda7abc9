//! `devnet`: a whole swarm on this machine, as processes of this program.

use clap::Args;

use super::context::Context;
use super::error::CliError;
use super::output::Reply;

#[derive(Args, Debug)]
pub struct Devnet {}

impl Devnet {
    pub fn run(self, _context: &Context) -> Result<Option<Reply>, CliError> {
        Err(CliError::failed("this build has no devnet"))
    }
}
