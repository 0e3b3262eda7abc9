//! The command line: one file per noun, one way to print, one table of exit codes.
//!
//! A command turns its arguments into a `Reply` or a `CliError`; parsing, printing and exit codes are here. Nothing in
//! this room decides anything about the network: it asks a node, or makes and signs bytes that a node will judge.

pub mod ask;
pub mod bench;
pub mod chain;
pub mod client;
pub mod completion;
pub mod config;
pub mod context;
pub mod devnet;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod init;
pub mod key;
pub mod market;
pub mod miner;
pub mod model;
pub mod mutate;
pub mod output;
pub mod peer;
pub mod sim;
pub mod stake;
mod statement;
pub mod status;
pub mod subnet;
pub mod up;
pub mod validator;
pub mod version;
pub mod wallet;

use std::ffi::OsString;
use std::io;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use context::{Context, Globals};
use error::{CliError, Exit};
use output::{Format, Printer, Reply};

const AFTER_HELP: &str = "\
First steps:
  starling devnet up            a whole swarm on this machine, with miners that learn and answer
  starling ask \"Once upon a\"    ask it something
  starling status               how a node is, in words

Every command takes --json. Exit codes: `starling explain exits`.";

/// Run a machine-learning network together, with nobody in charge
#[derive(Parser, Debug)]
#[command(name = "starling", version, after_help = AFTER_HELP, propagate_version = false, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Set up a node: configuration, keys, and what to do next
    Init(init::Init),
    /// Run a node in the foreground
    Up(up::Up),
    /// How a node is, in words
    Status(status::Status),
    /// A live view of a node and its network
    Top(status::Top),
    /// Ask the network something
    Ask(ask::Ask),
    /// Examine this machine and this node; exit 12 when something is found
    Doctor(doctor::Doctor),
    /// A whole swarm on this machine
    Devnet(devnet::Devnet),
    /// Keys: make, list, move, sign
    #[command(subcommand)]
    Key(key::Key),
    /// Balance and payments
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Stake behind a validator
    #[command(subcommand)]
    Stake(stake::Stake),
    /// Subnets: markets for one task each
    #[command(subcommand)]
    Subnet(subnet::Subnet),
    /// The miners inside a node
    #[command(subcommand)]
    Miner(miner::Miner),
    /// Models: published, fetched, ranked
    #[command(subcommand)]
    Model(model::Model),
    /// What validators think of miners
    #[command(subcommand)]
    Validator(validator::Validator),
    /// Checkpoints, transactions, accounts
    #[command(subcommand)]
    Chain(chain::Chain),
    /// Whom a node is connected to
    #[command(subcommand)]
    Peer(peer::Peer),
    /// The configuration and where each value came from
    #[command(subcommand)]
    Config(config::ConfigNoun),
    /// Offline worlds: epochs from a file, attacks on what is paid, a consensus under faults
    #[command(subcommand)]
    Sim(sim::Sim),
    /// What the hot parts of this program cost on this machine
    Bench(bench::Bench),
    /// Completions for a shell, to standard output
    Completion(completion::Completion),
    /// What a code means: an exit code or the name of an error
    Explain(explain::Explain),
    /// What this program is
    Version(version::Version),
}

impl Command {
    fn run(self, context: Context) -> Result<Option<Reply>, CliError> {
        match self {
            Self::Init(noun) => noun.run(&context).map(Some),
            Self::Up(noun) => noun.run(context),
            Self::Status(noun) => noun.run(&context),
            Self::Top(noun) => noun.run(&context),
            Self::Ask(noun) => noun.run(&context),
            Self::Doctor(noun) => noun.run(&context).map(Some),
            Self::Devnet(noun) => noun.run(&context),
            Self::Key(noun) => noun.run(&context).map(Some),
            Self::Wallet(noun) => noun.run(&context).map(Some),
            Self::Stake(noun) => noun.run(&context).map(Some),
            Self::Subnet(noun) => noun.run(&context).map(Some),
            Self::Miner(noun) => noun.run(&context).map(Some),
            Self::Model(noun) => noun.run(&context).map(Some),
            Self::Validator(noun) => noun.run(&context).map(Some),
            Self::Chain(noun) => noun.run(&context).map(Some),
            Self::Peer(noun) => noun.run(&context).map(Some),
            Self::Config(noun) => noun.run(&context).map(Some),
            Self::Sim(noun) => noun.run().map(Some),
            Self::Bench(noun) => noun.run().map(Some),
            Self::Completion(noun) => noun.run(&context),
            Self::Explain(noun) => noun.run().map(Some),
            Self::Version(noun) => noun.run().map(Some),
        }
    }
}

/// Parses, runs, prints; returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let code = match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let context = Context::new(cli.globals);
            let printer = context.printer;
            finish(printer, cli.command.run(context))
        }
        Err(error) => usage(&error, arguments.iter().any(|a| a == "--json")),
    };
    // A reader that went away (`| head`) is no failure of ours, and nobody is left to be told.
    code.unwrap_or(0)
}

fn finish(printer: Printer, outcome: Result<Option<Reply>, CliError>) -> io::Result<u8> {
    match outcome {
        Ok(None) => Ok(0),
        Ok(Some(reply)) => printer.reply(&reply).map(|()| reply.exit_code()),
        Err(error) => printer.error(&error).map(|()| error.exit as u8),
    }
}

/// Help and version are answers; everything else is a mistake of usage, exit 2.
fn usage(error: &clap::Error, json: bool) -> io::Result<u8> {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || !json {
        error.print()?;
        return Ok(if asked { 0 } else { Exit::Usage as u8 });
    }
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let printer = Printer { format: Format::Json, quiet: false, no_color: true };
    printer.error(&CliError::usage(message))?;
    Ok(Exit::Usage as u8)
}

/// The whole tree of commands, for completions.
pub fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn first_day_commands_are_understood() {
        for line in [
            "init --roles miner,gateway --network devnet",
            "up",
            "status --watch",
            "top",
            "ask hello --subnet text --stream",
            "key new cold --kind account",
            "key list",
            "wallet balance",
            "wallet send --to 00 --amount 1.5 --wait submitted",
            "stake add 10",
            "stake list",
            "subnet list",
            "subnet show vision",
            "subnet metagraph vision",
            "subnet register vision",
            "miner status",
            "validator weights show vision",
            "model list --subnet vision",
            "model show 00",
            "model publish m.safetensors --subnet vision --claim accuracy=0.9 --sealed",
            "model pull 00 --out here",
            "model push f",
            "model verify f --id 00",
            "model leaderboard",
            "model rm 00",
            "chain head",
            "chain checkpoint 4",
            "chain tx 00",
            "chain account me",
            "chain committee",
            "chain supply",
            "peer list",
            "peer id",
            "doctor net",
            "config show --origin",
            "config check",
            "config schema",
            "version",
            "completion bash",
            "explain 7",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("starling").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
