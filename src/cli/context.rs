//! What every command shares: the global flags, the configuration they lead to, the printer, the keys.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::client::Client;
use super::error::{CliError, Exit};
use super::output::{Format, Printer};
use crate::config::{Config, Origin, Sources};
use crate::protocol::keys::SecretKey;
use crate::protocol::units::parse_star;
use crate::store::keystore::{KeyInfo, KeyKind, Keystore};

const HEADING: &str = "Global options";

/// How long a mutation waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    // Plain comments: words beside each value would stretch the help of every command over two screens.
    // Until the node has taken it.
    Submitted,
    // Until it is in a finalised checkpoint.
    #[default]
    Final,
}

/// Flags that every command understands.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub struct Globals {
    /// Where the node keeps everything [default: ~/.starling]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A configuration file over the data directory's own
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node to talk to [env: STARLING_NODE] [default: the configured one]
    #[arg(long, global = true, value_name = "URL", env = "STARLING_NODE", hide_env = true)]
    pub node: Option<String>,
    /// The key to act with, by its name in the keystore
    #[arg(long, global = true, value_name = "NAME")]
    pub key: Option<String>,
    /// A file whose first line is the passphrase [env: STARLING_PASSPHRASE_FILE]
    #[arg(long, global = true, value_name = "FILE", env = "STARLING_PASSPHRASE_FILE", hide_env = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Set one configuration key, like --set network.peers_target=20
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print exactly one JSON document; ask nothing
    #[arg(long, global = true)]
    pub json: bool,
    /// How to print
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Print the result and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Show what would be done and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// What to wait for after sending a transaction
    #[arg(long, global = true, value_enum, default_value_t)]
    pub wait: Wait,
    /// Seconds to wait at most
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
    /// Refuse to pay a higher fee, in STAR
    #[arg(long, global = true, value_name = "STAR")]
    pub max_fee: Option<String>,
}

/// What `starling devnet up` leaves beside its nodes, as far as other commands use it.
#[derive(Clone, Debug, Deserialize)]
pub struct DevnetRecord {
    pub gateway: Option<DevnetGateway>,
    pub nodes: Vec<DevnetNode>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DevnetGateway {
    pub url: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct DevnetNode {
    pub name: String,
    pub role: String,
    /// Address of its HTTP face.
    pub http: String,
    pub data_dir: Option<PathBuf>,
}

impl DevnetRecord {
    /// The first node of this role, else the first of all.
    fn node(self, role: &str) -> Option<DevnetNode> {
        let at = self.nodes.iter().position(|n| n.role == role).unwrap_or(0);
        self.nodes.into_iter().nth(at)
    }
}

/// The flags and what follows from them.
#[derive(Clone, Debug)]
pub struct Context {
    pub globals: Globals,
    pub printer: Printer,
    /// Flags of a command that set configuration keys.
    extra: Vec<(String, String, String)>,
}

impl Context {
    pub fn new(globals: Globals) -> Self {
        let format = if globals.json { Format::Json } else { globals.output.unwrap_or_default() };
        let printer = Printer { format, quiet: globals.quiet, no_color: globals.no_color };
        Self { globals, printer, extra: Vec::new() }
    }

    /// Lets a command's own flag set a configuration key.
    pub fn set(&mut self, key: &str, value: impl Into<String>, flag: &str) {
        self.extra.push((key.to_owned(), value.into(), flag.to_owned()));
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.globals.timeout.clamp(1, 3_600))
    }

    /// `--max-fee` in motes.
    ///
    /// # Errors
    /// It is no amount.
    pub fn max_fee(&self) -> Result<Option<u64>, CliError> {
        let parse = |text: &String| parse_star(text).map_err(|e| CliError::usage(format!("--max-fee: {e}")));
        self.globals.max_fee.as_ref().map(parse).transpose()
    }

    fn sources(&self) -> Result<Sources, CliError> {
        let mut flags = self.extra.clone();
        for setting in &self.globals.settings {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| CliError::usage(format!("--set {setting}: write it like --set network.dev=true")))?;
            flags.push((key.trim().to_owned(), value.to_owned(), "--set".to_owned()));
        }
        Ok(Sources {
            flags,
            environment: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            file: self.globals.config.clone(),
            data_dir: self.globals.data_dir.clone(),
            home: home(),
        })
    }

    /// The configuration.
    ///
    /// # Errors
    /// It is refused; the error names place and key.
    pub fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.sources()?)?)
    }

    /// The devnet of this user, when nothing on the command line points elsewhere and no node of one's own is set up.
    pub fn devnet(&self) -> Option<DevnetRecord> {
        let pointed = self.globals.data_dir.is_some() || self.globals.config.is_some() || self.globals.node.is_some();
        let config = self.config().ok()?;
        if pointed || config.origins.get("http.bind").is_some_and(|o| *o != Origin::Default) {
            return None;
        }
        let text = std::fs::read_to_string(devnet_dir()?.join("devnet.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The address of the node to talk to; in a devnet that nobody pointed into, the first of this role.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn node_url(&self, role: &str) -> Result<String, CliError> {
        if let Some(url) = &self.globals.node {
            return Ok(url.clone());
        }
        if let Some(node) = self.devnet().and_then(|record| record.node(role)) {
            return Ok(node.http);
        }
        Ok(local_url(&self.config()?.http.bind))
    }

    /// The node that commands read from.
    ///
    /// # Errors
    /// The configuration is refused, or the address is no URL.
    pub fn client(&self) -> Result<Client, CliError> {
        self.client_of("validator")
    }

    /// The same, where a devnet's node of another role knows more.
    ///
    /// # Errors
    /// As `client`.
    pub fn client_of(&self, role: &str) -> Result<Client, CliError> {
        Client::new(&self.node_url(role)?, self.timeout())
    }

    /// The keystore of the configuration, or of a devnet's first validator when there is none of one's own.
    ///
    /// # Errors
    /// The configuration is refused.
    pub fn keystore(&self) -> Result<Keystore, CliError> {
        let own = self.config()?.keys_dir();
        let of_devnet = || self.devnet()?.node("validator")?.data_dir;
        match of_devnet() {
            Some(dir) if !own.exists() => Ok(Keystore::at(dir.join("keys"))),
            _ => Ok(Keystore::at(own)),
        }
    }

    /// Opens the key of `--key`, or this one.
    ///
    /// # Errors
    /// There is no such key, it is of another kind, or it stays locked.
    pub fn open_key(&self, default: &str, kind: KeyKind) -> Result<(KeyInfo, SecretKey), CliError> {
        let keystore = self.keystore()?;
        let name = self.globals.key.as_deref().unwrap_or(default);
        let info = keystore.info(name)?;
        if info.kind != kind {
            let message = format!("\"{name}\" is a {} key; this needs a key of kind {kind}", info.kind);
            return Err(CliError::usage(message));
        }
        let key = keystore.open(name, |info| self.passphrase(&format!("Passphrase of \"{}\": ", info.name)))?;
        Ok((info, key))
    }

    /// The account to speak of: `--key`'s, or that of the configured account key. No passphrase is needed.
    ///
    /// # Errors
    /// There is no such key.
    pub fn account_info(&self) -> Result<KeyInfo, CliError> {
        let name = match &self.globals.key {
            Some(name) => name.clone(),
            None => self.config()?.node.account_key,
        };
        Ok(self.keystore()?.info(&name)?)
    }

    /// A passphrase: from the file of the flag or the environment, else by prompt.
    ///
    /// # Errors
    /// The file cannot be read, or nobody can be asked.
    pub fn passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, CliError> {
        if let Some(path) = &self.globals.passphrase_file {
            return passphrase_of(path);
        }
        let configured = self.config()?.node.passphrase_file;
        if !configured.as_os_str().is_empty() {
            return passphrase_of(&configured);
        }
        if !self.printer.may_ask() {
            let help = "give --passphrase-file FILE, set STARLING_PASSPHRASE_FILE, or run on a terminal";
            return Err(CliError::new(Exit::KeyLocked, "a passphrase is needed and nobody can be asked", help));
        }
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|e| CliError::new(Exit::KeyLocked, format!("no passphrase was read: {e}"), ""))
    }

    /// A passphrase for a new key: asked twice on a terminal.
    ///
    /// # Errors
    /// As `passphrase`, or the two differ, or it is empty.
    pub fn new_passphrase(&self) -> Result<Zeroizing<String>, CliError> {
        let first = self.passphrase("New passphrase: ")?;
        if first.is_empty() {
            return Err(CliError::new(Exit::KeyLocked, "an empty passphrase protects nothing", "choose a longer one"));
        }
        if self.printer.may_ask() && self.globals.passphrase_file.is_none() {
            let second = self.passphrase("Again: ")?;
            if *first != *second {
                return Err(CliError::new(Exit::KeyLocked, "the two differ", "try again"));
            }
        }
        Ok(first)
    }

    /// Asks before a change; `--yes` answers, and without a person to ask it is refused.
    ///
    /// # Errors
    /// Exit 10 when nobody said yes.
    pub fn confirm(&self, question: &str) -> Result<(), CliError> {
        if self.globals.yes {
            return Ok(());
        }
        let needed = |message: &str| CliError::new(Exit::ConfirmationNeeded, message, "add --yes to go ahead");
        if !self.printer.may_ask() {
            return Err(needed("this changes something, and nobody can be asked"));
        }
        let mut err = std::io::stderr();
        let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
        asked.map_err(|e| CliError::failed(e.to_string()))?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|e| CliError::failed(e.to_string()))?;
        if matches!(line.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(needed("you did not say yes")) }
    }
}

/// The first line of a file.
///
/// # Errors
/// It cannot be read, or its first line is empty.
pub fn passphrase_of(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let locked = |problem: String| {
        CliError::new(
            Exit::KeyLocked,
            format!("passphrase file {}: {problem}", path.display()),
            "check the path and its mode",
        )
    };
    let file = std::fs::File::open(path).map_err(|e| locked(e.to_string()))?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(file.take(4_096)).read_line(&mut line).map_err(|e| locked(e.to_string()))?;
    let text = Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned());
    if text.is_empty() { Err(locked("its first line is empty".to_owned())) } else { Ok(text) }
}

pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from)
}

/// Where `devnet` keeps its nodes unless `--dir` says otherwise.
pub fn devnet_dir() -> Option<PathBuf> {
    let given = std::env::var_os("STARLING_DEVNET").filter(|d| !d.is_empty()).map(PathBuf::from);
    given.or_else(|| home().map(|h| h.join(".starling/devnet")))
}

/// How this machine reaches a bound address.
pub fn local_url(bind: &std::net::SocketAddr) -> String {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, bind.port()))
}

/// Waits this long; nothing can wake it but time or a signal.
pub fn pause(span: Duration) {
    std::thread::park_timeout(span);
}
