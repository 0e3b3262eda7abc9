//! `devnet`: a whole swarm on this machine, as processes of this program.
//!
//! `plan` says what there shall be, `layout` writes it, `processes` runs it, `eyes` look at it, `enrol` takes the seats,
//! `up` does all of it in order. What runs is found again by its folder; no daemon keeps watch.

pub mod chaos;
pub mod enrol;
pub mod eyes;
pub mod interrupt;
pub mod layout;
pub mod live;
pub mod logs;
pub mod plan;
pub mod processes;
pub mod progress;
pub mod question;
pub mod ranks;
pub mod ready;
pub mod record;
pub mod run;
pub mod status;
pub mod summary;
pub mod up;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use self::interrupt::Interrupt;
use self::plan::Wishes;
use self::record::Record;
use super::context::{Context, devnet_dir};
use super::error::{CliError, Exit};
use super::output::Reply;
use crate::config::Origin;
use crate::protocol::report::Moment;

#[derive(Args, Debug)]
pub struct Devnet {
    /// The devnet's folder [default: $STARLING_DEVNET, else ~/.starling/devnet]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a swarm, or the stopped one of the folder again; Ctrl-C stops it
    Up(up::Up),
    /// Every node in a line
    Status,
    /// Stop every node; what they know stays
    Down,
    /// Stop every node and remove the folder
    Reset,
    /// What a node wrote to its log
    Logs(logs::Logs),
    /// Trouble on purpose
    #[command(subcommand)]
    Chaos(chaos::Chaos),
    /// Write a swarm's files without starting it
    Plan(Plan),
    /// Take the seats of a swarm that is run by other means, through a node of it
    Register(Register),
}

/// How many of what. Shared by `up` and `plan`.
#[derive(Args, Clone, Debug)]
pub struct Sizes {
    /// Validators [default: 4]
    #[arg(long, value_name = "N")]
    validators: Option<u32>,
    /// Honest miners, dealt to the subnets in turn [default: 6]
    #[arg(long, value_name = "N")]
    miners: Option<u32>,
    /// All keys and training slices follow from it [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Further miners: random, silent, late, relay, memoriser, upstream; further validators: copier, non_revealer, self_dealer; a third subnet: forecast
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    with: Option<Vec<String>>,
    /// Heights of an epoch, in both subnets [default: 10]
    #[arg(long, value_name = "HEIGHTS", value_parser = clap::value_parser!(u64).range(6..=1_000))]
    tempo: Option<u64>,
    /// Milliseconds between two heights [default: 1000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pace: Option<u64>,
}

#[derive(Args, Debug)]
struct Plan {
    #[command(flatten)]
    sizes: Sizes,
    /// For containers: one folder per service of config/deploy/compose.yaml
    #[arg(long, value_name = "DIR")]
    compose: PathBuf,
}

#[derive(Args, Debug)]
struct Register {
    /// Heights are awaited this long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    within: u64,
}

impl Sizes {
    /// What is asked for, by flags over the configuration's `[devnet]`; whether the gateway's port was named, and which.
    fn settle(&self, context: &Context, port: Option<u16>) -> Result<(Wishes, u16, bool), CliError> {
        let mut context = context.clone();
        let mut set = |key: &str, value: Option<String>, flag: &str| {
            if let Some(value) = value {
                context.set(key, value, flag);
            }
        };
        set("devnet.validators", self.validators.map(|n| n.to_string()), "--validators");
        set("devnet.miners", self.miners.map(|n| n.to_string()), "--miners");
        set("devnet.seed", self.seed.map(|n| n.to_string()), "--seed");
        set("devnet.with", self.with.as_ref().map(|list| list.join(",")), "--with");
        set("devnet.gateway_port", port.map(|n| n.to_string()), "--gateway-port");
        let config = context.config()?;
        let named = config.origins.get("devnet.gateway_port").is_some_and(|origin| *origin != Origin::Default);
        let with = config.devnet.with.iter().filter_map(|name| plan::Extra::named(name)).collect();
        let section = config.devnet;
        let wishes = Wishes {
            validators: section.validators,
            miners: section.miners,
            seed: section.seed,
            with,
            tempo: self.tempo,
            pace_ms: self.pace,
        };
        Ok((wishes, section.gateway_port, named))
    }
}

impl Devnet {
    /// # Errors
    /// Whatever the command finds; see each.
    pub fn run(self, context: &Context) -> Result<Option<Reply>, CliError> {
        let Self { dir, command } = self;
        let dir = dir
            .or_else(devnet_dir)
            .ok_or_else(|| CliError::usage("no home folder is known; name the devnet's folder with --dir"))?;
        let dir = std::path::absolute(&dir).map_err(|e| CliError::file(&dir, &e))?;
        match command {
            Command::Up(up) => up.run(context, &dir),
            Command::Status => status::status(&Record::open(&dir)?).map(Some),
            Command::Down => down(&Record::open(&dir)?).map(Some),
            Command::Reset => reset(&Record::open(&dir)?).map(Some),
            Command::Logs(logs) => logs.run(context, &Record::open(&dir)?),
            Command::Chaos(chaos) => chaos.run(&Record::open(&dir)?).map(Some),
            Command::Plan(plan) => plan.run(context).map(Some),
            Command::Register(register) => register.run(context, &Record::open(&dir)?).map(Some),
        }
    }
}

/// Now, for what is written down; what is decided is decided by the nodes.
fn now() -> Moment {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn down(record: &Record) -> Result<Reply, CliError> {
    let interrupt = Interrupt::listen()?;
    let stopped = processes::stop(record.processes(), &mut processes::Children::default(), &interrupt)?;
    let data = json!({ "stopped": stopped.asked, "killed": stopped.killed, "dir": record.dir });
    let reply = Reply::of(&data).line(stopped.words());
    Ok(reply.hint("starling devnet up      goes on where it stopped").hint("starling devnet reset   forgets it"))
}

fn reset(record: &Record) -> Result<Reply, CliError> {
    let stopped = processes::stop(record.processes(), &mut processes::Children::default(), &Interrupt::listen()?)?;
    remove(record)?;
    let data = json!({ "stopped": stopped.asked, "removed": record.dir });
    Ok(Reply::of(&data).line(format!("{} nodes stopped, {} removed.", stopped.asked, record.dir.display())))
}

/// Removes what a devnet wrote and nothing else that lies in its folder.
fn remove(record: &Record) -> Result<(), CliError> {
    let gone = |path: PathBuf, outcome: std::io::Result<()>| match outcome {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CliError::file(&path, &e)),
        _ => Ok(()),
    };
    for node in record.processes() {
        // Only a folder inside ours: a record that was edited must not lead anywhere else.
        if node.data_dir.parent() == Some(record.dir.as_path()) {
            gone(node.data_dir.clone(), std::fs::remove_dir_all(&node.data_dir))?;
        }
    }
    // The record goes last, so that a reset that was broken off can be repeated.
    for file in ["genesis.toml", chaos::FILE, "devnet.json"] {
        let path = record.dir.join(file);
        gone(path.clone(), std::fs::remove_file(&path))?;
    }
    // Stays when something of the person's lies in it.
    let _ = std::fs::remove_dir(&record.dir);
    Ok(())
}

impl Plan {
    fn run(self, context: &Context) -> Result<Reply, CliError> {
        let (wishes, ..) = self.sizes.settle(context, None)?;
        let dir = std::path::absolute(&self.compose).map_err(|e| CliError::file(&self.compose, &e))?;
        let record = layout::containers(&dir, &wishes, now())?;
        let names: Vec<&str> = record.nodes.iter().map(|n| n.name.as_str()).collect();
        let data = json!({ "dir": dir, "chain_id": record.chain_id, "nodes": names });
        let reply = Reply::of(&data).line(format!("{} nodes planned in {}.", names.len(), dir.display()));
        Ok(reply.hint(format!(
            "STARLING_SWARM={0} docker compose --env-file {0}/.env -f config/deploy/compose.yaml up --detach",
            dir.display()
        )))
    }
}

impl Register {
    fn run(self, context: &Context, record: &Record) -> Result<Reply, CliError> {
        let client = super::client::Client::new(&context.node_url("validator")?, Duration::from_secs(5))?;
        let mut enrolment = enrol::Enrolment::new(record, |_| true);
        let interrupt = Interrupt::listen()?;
        let began = Instant::now();
        while !enrolment.is_done() {
            match enrolment.step(&client, |_| true) {
                Err(error) if error.retryable => enrolment.trouble = Some(error.message),
                other => other?,
            }
            if began.elapsed() > Duration::from_secs(self.within) {
                let trouble = enrolment.trouble.clone().unwrap_or_else(|| "the network finalises nothing".to_owned());
                let message = format!("{} of {} seats are taken: {trouble}", enrolment.held(), enrolment.total());
                return Err(CliError::new(Exit::OutcomeUnknown, message, "run it again: seats that are held are kept"));
            }
            if interrupt.wait(Duration::from_millis(500)) {
                return Err(CliError::new(Exit::Interrupted, "interrupted", ""));
            }
        }
        let data = json!({ "seats": enrolment.total() });
        Ok(Reply::of(&data).line(format!("All {} seats are taken.", enrolment.total())))
    }
}
