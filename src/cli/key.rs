//! `key`: keys are made, listed, moved and used to sign; a secret is never printed.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table};
use crate::protocol::chance::Chance;
use crate::protocol::ids::{PublicKey, to_hex};
use crate::protocol::keys::{SecretKey, Signature, verify};
use crate::store::keystore::{Cost, KeyError, KeyInfo, KeyKind, Keystore, Protection};

/// What `key sign` signs is led by these words, so that no signature made with it can pass for a vote or a transaction.
const MESSAGE_CONTEXT: &[u8] = b"starling/1 message\n";
const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Subcommand, Debug)]
pub enum Key {
    /// Make a key
    New(New),
    /// All keys of the keystore
    List,
    /// What is public of one key
    Show { name: String },
    /// Take in a key file, or a secret typed or piped in as 64 hex digits
    Import(Import),
    /// Write a key's file, sealed as it is
    Export(Export),
    /// Sign a file or standard input
    Sign(Sign),
    /// Check a signature made with `key sign`
    Verify(Verify),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    #[default]
    Account,
    Consensus,
    Node,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Account => Self::Account,
            Kind::Consensus => Self::Consensus,
            Kind::Node => Self::Node,
        }
    }
}

#[derive(Args, Debug)]
pub struct New {
    /// Its name in the keystore
    name: String,
    /// What it is for: own an account, vote, or be a node's link identity
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Leave it unsealed: anybody who reads the file has the key
    #[arg(long)]
    plain: bool,
}

#[derive(Args, Debug)]
pub struct Import {
    /// Its name in the keystore
    name: String,
    /// A file written by `key export`; `-` reads 64 hex digits from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What a bare secret is for
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Leave a bare secret unsealed
    #[arg(long)]
    plain: bool,
}

#[derive(Args, Debug)]
pub struct Export {
    name: String,
    /// Where to write it; it must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Sign {
    name: String,
    /// What to sign; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// The public key, 64 hex digits, or the name of a key
    key: String,
    /// What was signed; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// 128 hex digits
    signature: String,
}

impl Key {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        let keystore = context.keystore()?;
        match self {
            Self::New(new) => create(context, &keystore, &new.name, new.kind, new.plain, &fresh()?),
            Self::List => list(&keystore),
            Self::Show { name } => Ok(shown(&keystore.info(&name)?)),
            Self::Import(import) => take_in(context, &keystore, &import),
            Self::Export(export) => hand_out(&keystore, &export),
            Self::Sign(sign) => signed(context, &keystore, &sign),
            Self::Verify(check) => verified(&keystore, &check),
        }
    }
}

/// A stream of chance that starts from the system's entropy.
///
/// # Errors
/// The system gives none.
pub fn entropy() -> Result<Chance, CliError> {
    let mut seed = Zeroizing::new([0; 32]);
    let filled = getrandom::fill(seed.as_mut_slice());
    filled.map_err(|e| CliError::failed(format!("the system gives no random bytes: {e}")))?;
    Ok(Chance::from_seed(*seed))
}

/// A new secret.
///
/// # Errors
/// The system gives no entropy.
pub fn fresh() -> Result<SecretKey, CliError> {
    Ok(SecretKey::from_seed(*Zeroizing::new(entropy()?.bytes32())))
}

fn describe(info: &KeyInfo) -> Value {
    json!({
        "name": info.name,
        "kind": info.kind,
        "public": info.public,
        "sealed": !info.plain,
        "file": info.path.display().to_string(),
    })
}

fn shown(info: &KeyInfo) -> Reply {
    let what = match info.kind {
        KeyKind::Account => "account",
        KeyKind::Consensus => "votes as",
        KeyKind::Node => "node id",
    };
    Reply::of(&describe(info)).line(format!("Key {} ({})", info.name, info.kind)).facts([
        (what, info.public.to_string()),
        ("sealed", if info.plain { "NO: for devnets only".into() } else { "yes".into() }),
        ("file", info.path.display().to_string()),
    ])
}

fn create(
    context: &Context,
    keystore: &Keystore,
    name: &str,
    kind: Kind,
    plain: bool,
    key: &SecretKey,
) -> Result<Reply, CliError> {
    // Whether the name is free is known before anybody types a passphrase.
    match keystore.info(name) {
        Err(KeyError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(KeyError::Exists(name.to_owned()).into()),
    }
    let protection = if plain {
        Protection::Plain
    } else {
        Protection::Sealed { passphrase: context.new_passphrase()?, cost: Cost::default() }
    };
    let info = keystore.create(name, kind.into(), key, &protection, &mut entropy()?)?;
    let reply = shown(&info);
    Ok(match info.kind {
        _ if plain => reply.warn("the key is not sealed: whoever reads its file has it"),
        KeyKind::Account => reply.hint("keep the passphrase and a copy of the file apart from each other"),
        KeyKind::Consensus => reply.hint("never use one consensus key in two places at once"),
        KeyKind::Node => reply,
    })
}

fn list(keystore: &Keystore) -> Result<Reply, CliError> {
    let (keys, broken) = keystore.list()?;
    let mut table = Table::new(&["name", "kind", "public key", "sealed"]).or("no keys yet");
    for info in &keys {
        let sealed = if info.plain { "no" } else { "yes" };
        table.row(vec![info.name.clone(), info.kind.to_string(), info.public.to_string(), sealed.into()]);
    }
    let data: Vec<Value> = keys.iter().map(describe).collect();
    let reply = broken.iter().fold(Reply::of(&data).table(table), |reply, error| reply.warn(error.to_string()));
    Ok(if keys.is_empty() { reply.hint("starling key new NAME") } else { reply })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let outcome = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    outcome.map_err(|e| CliError::file(path, &e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MESSAGE_BYTES_MAX {
        return Err(CliError::usage(format!("{} is longer than {MESSAGE_BYTES_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

fn take_in(context: &Context, keystore: &Keystore, import: &Import) -> Result<Reply, CliError> {
    let bytes = read(&import.file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| CliError::usage("this is neither a key file nor hex digits"))?;
    if text.trim_start().starts_with('{') {
        return Ok(shown(&keystore.import(&import.name, text)?));
    }
    let seed = crate::protocol::ids::from_hex::<32>(text.trim()).map(Zeroizing::new);
    let seed = seed.map_err(|e| CliError::usage(format!("this is neither a key file nor a secret: {e}")))?;
    create(context, keystore, &import.name, import.kind, import.plain, &SecretKey::from_seed(*seed))
}

fn hand_out(keystore: &Keystore, export: &Export) -> Result<Reply, CliError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let (info, text) = (keystore.info(&export.name)?, keystore.export(&export.name)?);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&export.file)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|e| CliError::file(&export.file, &e))?;
    let data = json!({ "name": info.name, "file": export.file.display().to_string(), "sealed": !info.plain });
    let reply = Reply::of(&data).line(format!("Key {} is in {}", info.name, export.file.display()));
    Ok(if info.plain { reply.warn("the file is not sealed: whoever reads it has the key") } else { reply })
}

fn message(file: &Path) -> Result<Vec<u8>, CliError> {
    Ok([MESSAGE_CONTEXT, &read(file)?].concat())
}

fn signed(context: &Context, keystore: &Keystore, sign: &Sign) -> Result<Reply, CliError> {
    let message = message(&sign.file)?;
    let key = keystore.open(&sign.name, |info| context.passphrase(&format!("Passphrase of \"{}\": ", info.name)))?;
    let signature = to_hex(&key.sign(&message).0);
    let data = json!({ "key": sign.name, "public": key.public(), "signature": signature });
    Ok(Reply::of(&data).line(signature))
}

fn verified(keystore: &Keystore, check: &Verify) -> Result<Reply, CliError> {
    let public: PublicKey = match check.key.parse() {
        Ok(public) => public,
        Err(_) => keystore.info(&check.key)?.public,
    };
    let bytes = crate::protocol::ids::from_hex::<64>(&check.signature)
        .map_err(|e| CliError::usage(format!("the signature: {e}")))?;
    verify(&public, &message(&check.file)?, &Signature(bytes))
        .map_err(|e| CliError::failed(e.to_string()).coded("bad_signature"))?;
    Ok(Reply::of(&json!({ "public": public, "valid": true })).line(format!("Signed by {public}.")))
}
