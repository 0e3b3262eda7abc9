//! `completion`: what a shell needs to complete our commands.

use clap::Args;
use clap_complete::Shell;

use super::context::Context;
use super::error::CliError;
use super::output::Reply;

#[derive(Args, Debug)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self, context: &Context) -> Result<Option<Reply>, CliError> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::tree(), "starling", &mut text);
        // A closed pipe is no failure: `starling completion bash | head`.
        let _ = context.printer.raw(&String::from_utf8_lossy(&text));
        Ok(None)
    }
}
