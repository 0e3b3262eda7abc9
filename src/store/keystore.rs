//! The keystore: one file per key, sealed by a passphrase, readable by its owner alone.
//!
//! The layout follows EIP-2335 (kdf, checksum, cipher) with argon2id and XChaCha20-Poly1305; the cipher's own tag stands
//! in for the checksum and covers name, kind and public key, so that no file can pass for another. A plain key, for
//! devnets, says in the file that it is plain. A file that others may read is refused, none is ever overwritten, and no
//! secret is part of an error.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::protocol::chance::Chance;
use crate::protocol::ids::{PublicKey, from_hex, to_hex};
use crate::protocol::keys::SecretKey;

/// A key file is about 800 bytes; anything longer is none.
const FILE_BYTES_MAX: u64 = 16 * 1024;
const NAME_MAX: usize = 64;
/// Bounds on what a file may ask of the key derivation: a foreign file must not take the machine's memory or an hour.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// What a key is for. A key never serves two purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Owns an account: signs transactions.
    Account,
    /// Votes on checkpoints.
    Consensus,
    /// The link identity of a node.
    Node,
}

impl KeyKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Consensus => "consensus",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no key named \"{name}\" in {dir}")]
    NotFound { name: String, dir: String },
    #[error("a key named \"{0}\" exists already")]
    Exists(String),
    #[error("\"{0}\" is no name for a key; use up to 64 letters, digits, - and _")]
    Name(String),
    #[error("{path} is open to others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed { path: String, mode: u32 },
    #[error("{path} cannot be read: {problem}")]
    Unreadable { path: String, problem: String },
    #[error("{path} cannot be written: {problem}")]
    Unwritable { path: String, problem: String },
    #[error("the passphrase does not open \"{0}\"")]
    WrongPassphrase(String),
    #[error("\"{0}\" is sealed and no passphrase is at hand")]
    Locked(String),
    #[error("the key cannot be sealed: {0}")]
    Seal(String),
}

/// How a new key is written.
#[derive(Debug)]
pub enum Protection {
    /// Sealed by a passphrase at this cost.
    Sealed { passphrase: Zeroizing<String>, cost: Cost },
    /// In the clear. For devnets.
    Plain,
}

/// The price of one guess at a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106's second recommendation: 64 MiB, three passes; about 0.1 s.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// What a key file says without being opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    pub name: String,
    pub kind: KeyKind,
    pub public: PublicKey,
    pub plain: bool,
    pub path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    crypto: Crypto,
    description: String,
    pubkey: PublicKey,
    /// EIP-2335's derivation path; ours are not derived.
    path: String,
    kind: KeyKind,
    uuid: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    kdf: Module<KdfParams>,
    checksum: Module<NoParams>,
    cipher: Module<CipherParams>,
}

#[derive(Serialize, Deserialize)]
struct Module<P> {
    function: String,
    params: P,
    message: String,
}

#[derive(Default, Serialize, Deserialize)]
struct KdfParams {
    dklen: u32,
    m: u32,
    t: u32,
    p: u32,
    salt: String,
}

#[derive(Default, Serialize, Deserialize)]
struct NoParams {}

#[derive(Default, Serialize, Deserialize)]
struct CipherParams {
    nonce: String,
}

const VERSION: u32 = 4;
const PLAIN_WARNING: &str = "NOT ENCRYPTED: whoever reads this file has the key. For devnets only.";

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct Keystore {
    dir: PathBuf,
}

impl Keystore {
    /// The directory need not exist until a key is written.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &str) -> Result<PathBuf, KeyError> {
        let fits = !name.is_empty() && name.len() <= NAME_MAX;
        if !fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(KeyError::Name(name.to_owned()));
        }
        Ok(self.dir.join(format!("{name}.json")))
    }

    /// Every key, by name, and every file that should be one and is not.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn list(&self) -> Result<(Vec<KeyInfo>, Vec<KeyError>), KeyError> {
        if !self.dir.exists() {
            return Ok((Vec::new(), Vec::new()));
        }
        let unreadable = |e: std::io::Error| KeyError::Unreadable { path: show(&self.dir), problem: e.to_string() };
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.file_name();
            names.extend(file.to_str().and_then(|f| f.strip_suffix(".json")).map(str::to_owned));
        }
        names.sort();
        let (mut keys, mut broken) = (Vec::new(), Vec::new());
        for name in names {
            match self.info(&name) {
                Ok(info) => keys.push(info),
                Err(error) => broken.push(error),
            }
        }
        Ok((keys, broken))
    }

    /// What the file of a key says without being opened.
    ///
    /// # Errors
    /// There is none, or it is no key file of its owner alone.
    pub fn info(&self, name: &str) -> Result<KeyInfo, KeyError> {
        let path = self.path(name)?;
        let file = self.read(name, &path)?;
        let plain = file.crypto.cipher.function == "none";
        Ok(KeyInfo { name: name.to_owned(), kind: file.kind, public: file.pubkey, plain, path })
    }

    fn read(&self, name: &str, path: &Path) -> Result<KeyFile, KeyError> {
        if !path.exists() {
            return Err(KeyError::NotFound { name: name.to_owned(), dir: show(&self.dir) });
        }
        let unreadable = |problem: String| KeyError::Unreadable { path: show(path), problem };
        let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
        let mode = file.metadata().map_err(|e| unreadable(e.to_string()))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: show(path), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| unreadable(e.to_string()))?;
        parse(&text).map_err(unreadable)
    }

    /// Writes a new key. Salt, nonce and file id are drawn from `chance`, which starts from the system's entropy.
    ///
    /// # Errors
    /// The name is taken or no name, or the file cannot be written.
    pub fn create(
        &self,
        name: &str,
        kind: KeyKind,
        key: &SecretKey,
        protection: &Protection,
        chance: &mut Chance,
    ) -> Result<KeyInfo, KeyError> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(KeyError::Exists(name.to_owned()));
        }
        let text = render(kind, key, protection, chance)?;
        self.write(&path, &text).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => KeyError::Exists(name.to_owned()),
            _ => KeyError::Unwritable { path: show(&path), problem: e.to_string() },
        })?;
        let plain = matches!(protection, Protection::Plain);
        Ok(KeyInfo { name: name.to_owned(), kind, public: key.public(), plain, path })
    }

    /// Written beside, synced, then linked into place: a crash leaves a whole key or none, and a name is never taken twice.
    fn write(&self, path: &Path, text: &str) -> std::io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        let draft = path.with_extension(format!("draft-{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::hard_link(&draft, path)?;
            File::open(&self.dir)?.sync_all()
        })();
        fs::remove_file(&draft)?;
        written
    }

    /// Opens a key; `passphrase` is asked only when the file is sealed.
    ///
    /// # Errors
    /// There is no such key, its file is broken, or the passphrase does not fit.
    pub fn open<E: From<KeyError>>(
        &self,
        name: &str,
        passphrase: impl FnOnce(&KeyInfo) -> Result<Zeroizing<String>, E>,
    ) -> Result<SecretKey, E> {
        let info = self.info(name)?;
        let file = self.read(name, &info.path)?;
        if info.plain {
            return Ok(unseal_plain(&file, &info)?);
        }
        let given = passphrase(&info)?;
        Ok(unseal(&file, &info, &given)?)
    }

    /// Opens a key with the passphrase at hand, if one is.
    ///
    /// # Errors
    /// As `open`; a sealed key without a passphrase is `Locked`.
    pub fn open_with(&self, name: &str, passphrase: Option<&str>) -> Result<SecretKey, KeyError> {
        self.open(name, |info| {
            let text = passphrase.ok_or_else(|| KeyError::Locked(info.name.clone()))?;
            Ok(Zeroizing::new(text.to_owned()))
        })
    }

    /// The whole text of a key file, as `key export` hands it out; sealed keys stay sealed.
    ///
    /// # Errors
    /// There is no such key or it cannot be read.
    pub fn export(&self, name: &str) -> Result<Zeroizing<String>, KeyError> {
        let info = self.info(name)?;
        let unreadable = |e: std::io::Error| KeyError::Unreadable { path: show(&info.path), problem: e.to_string() };
        fs::read_to_string(&info.path).map(Zeroizing::new).map_err(unreadable)
    }

    /// Takes in the text of a key file under a name of its own; it keeps its seal.
    ///
    /// # Errors
    /// The text is no key file, or the name is taken.
    pub fn import(&self, name: &str, text: &str) -> Result<KeyInfo, KeyError> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(KeyError::Exists(name.to_owned()));
        }
        parse(text).map_err(|problem| KeyError::Unreadable { path: "the given file".to_owned(), problem })?;
        self.write(&path, text).map_err(|e| KeyError::Unwritable { path: show(&path), problem: e.to_string() })?;
        self.info(name)
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn parse(text: &str) -> Result<KeyFile, String> {
    let file: KeyFile = serde_json::from_str(text).map_err(|e| format!("it is no key file: {e}"))?;
    if file.version != VERSION {
        return Err(format!("it is a keystore of version {}; this program reads version {VERSION}", file.version));
    }
    Ok(file)
}

/// What the cipher's tag covers beside the secret.
fn associated(kind: KeyKind, public: &PublicKey) -> Vec<u8> {
    [b"starling/1 key ".as_slice(), kind.name().as_bytes(), &public.0].concat()
}

fn random<const N: usize>(chance: &mut Chance) -> [u8; N] {
    let mut bytes = [0; N];
    chance.fill(&mut bytes);
    bytes
}

fn derive(passphrase: &str, salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>, String> {
    if cost.memory_kib > MEMORY_KIB_MAX || cost.passes > PASSES_MAX || cost.lanes > LANES_MAX {
        return Err("it asks for an unreasonable key derivation".to_owned());
    }
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|e| format!("its kdf: {e}"))?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, out.as_mut_slice())
        .map_err(|e| format!("its kdf: {e}"))?;
    Ok(out)
}

fn render(
    kind: KeyKind,
    key: &SecretKey,
    protection: &Protection,
    chance: &mut Chance,
) -> Result<Zeroizing<String>, KeyError> {
    let public = key.public();
    let id = to_hex(&random::<16>(chance));
    let at = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    let uuid = format!("{}-{}-4{}-8{}-{}", at(0, 8), at(8, 12), at(13, 16), at(17, 20), at(20, 32));
    let (kdf, cipher, checksum, description) = match protection {
        Protection::Plain => (
            Module { function: "none".into(), params: KdfParams::default(), message: String::new() },
            Module { function: "none".into(), params: CipherParams::default(), message: to_hex(key.seed()) },
            "none",
            PLAIN_WARNING,
        ),
        Protection::Sealed { passphrase, cost } => {
            let (salt, nonce) = (random::<32>(chance), random::<24>(chance));
            let derived = derive(passphrase, &salt, *cost).map_err(KeyError::Seal)?;
            let covered = associated(kind, &public);
            let sealed = XChaCha20Poly1305::new(derived.as_slice().try_into().map_err(|_| short())?)
                .encrypt(&XNonce::from(nonce), Payload { msg: key.seed(), aad: &covered })
                .map_err(|_| short())?;
            let params =
                KdfParams { dklen: 32, m: cost.memory_kib, t: cost.passes, p: cost.lanes, salt: to_hex(&salt) };
            (
                Module { function: "argon2id".into(), params, message: String::new() },
                Module {
                    function: "xchacha20-poly1305".into(),
                    params: CipherParams { nonce: to_hex(&nonce) },
                    message: to_hex(&sealed),
                },
                "poly1305",
                "",
            )
        }
    };
    let checksum = Module { function: checksum.into(), params: NoParams {}, message: String::new() };
    let mut file = KeyFile {
        crypto: Crypto { kdf, checksum, cipher },
        description: description.into(),
        pubkey: public,
        path: String::new(),
        kind,
        uuid,
        version: VERSION,
    };
    let text = serde_json::to_string_pretty(&file).map_err(|e| KeyError::Seal(e.to_string()));
    file.crypto.cipher.message.zeroize();
    text.map(|t| Zeroizing::new(t + "\n"))
}

/// Sealing 32 bytes with a 32-byte key does not fail; if it did, no key would be written.
fn short() -> KeyError {
    KeyError::Seal("the cipher refused".to_owned())
}

fn unseal_plain(file: &KeyFile, info: &KeyInfo) -> Result<SecretKey, KeyError> {
    let broken = |problem: String| KeyError::Unreadable { path: show(&info.path), problem };
    let seed = from_hex::<32>(&file.crypto.cipher.message).map(Zeroizing::new);
    let key = SecretKey::from_seed(*seed.map_err(|e| broken(format!("its key is damaged: {e}")))?);
    matching(key, info)
}

fn unseal(file: &KeyFile, info: &KeyInfo, passphrase: &str) -> Result<SecretKey, KeyError> {
    let broken = |problem: String| KeyError::Unreadable { path: show(&info.path), problem };
    let (kdf, cipher) = (&file.crypto.kdf, &file.crypto.cipher);
    if kdf.function != "argon2id" || cipher.function != "xchacha20-poly1305" {
        return Err(broken(format!("it is sealed by {} and {}, unknown here", kdf.function, cipher.function)));
    }
    let salt = from_hex::<32>(&kdf.params.salt).map_err(|e| broken(format!("its salt: {e}")))?;
    let nonce = from_hex::<24>(&cipher.params.nonce).map_err(|e| broken(format!("its nonce: {e}")))?;
    let sealed = from_hex::<48>(&cipher.message).map_err(|e| broken(format!("its key is damaged: {e}")))?;
    let cost = Cost { memory_kib: kdf.params.m, passes: kdf.params.t, lanes: kdf.params.p };
    let derived = derive(passphrase, &salt, cost).map_err(broken)?;
    let covered = associated(info.kind, &info.public);
    let seed = XChaCha20Poly1305::new(derived.as_slice().try_into().map_err(|_| short())?)
        .decrypt(&XNonce::from(nonce), Payload { msg: &sealed, aad: &covered })
        .map(Zeroizing::new)
        .map_err(|_| KeyError::WrongPassphrase(info.name.clone()))?;
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| short())?;
    matching(SecretKey::from_seed(*seed), info)
}

fn matching(key: SecretKey, info: &KeyInfo) -> Result<SecretKey, KeyError> {
    if key.public() == info.public {
        return Ok(key);
    }
    let problem = "its public key is not that of its secret key".to_owned();
    Err(KeyError::Unreadable { path: show(&info.path), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn keystore(name: &str) -> Keystore {
        let dir = std::env::temp_dir().join(format!("starling-keys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Keystore::at(dir)
    }

    fn draw() -> Chance {
        Chance::from_seed([3; 32])
    }

    fn sealed(passphrase: &str) -> Protection {
        Protection::Sealed { passphrase: Zeroizing::new(passphrase.to_owned()), cost: CHEAP }
    }

    fn say(passphrase: &str) -> impl FnOnce(&KeyInfo) -> Result<Zeroizing<String>, KeyError> {
        move |_| Ok(Zeroizing::new(passphrase.to_owned()))
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_and_no_other() {
        let store = keystore("sealed");
        let key = SecretKey::from_seed([7; 32]);
        let info = store.create("cold", KeyKind::Account, &key, &sealed("right"), &mut draw()).unwrap();
        assert_eq!(fs::metadata(&info.path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&info.path).unwrap();
        assert!(!text.contains(&to_hex(key.seed())) && text.contains("argon2id"));
        assert_eq!(store.open("cold", say("right")).unwrap().public(), key.public());
        assert!(matches!(store.open("cold", say("wrong")), Err(KeyError::WrongPassphrase(_))));
        assert!(matches!(
            store.create("cold", KeyKind::Account, &key, &sealed("x"), &mut draw()),
            Err(KeyError::Exists(_))
        ));
        assert!(matches!(store.open("warm", say("right")), Err(KeyError::NotFound { .. })));
        assert_eq!(store.list().unwrap().0, [info]);
    }

    #[test]
    fn a_plain_key_says_so_and_asks_nothing() {
        let store = keystore("plain");
        let key = SecretKey::from_seed([8; 32]);
        let info = store.create("node", KeyKind::Node, &key, &Protection::Plain, &mut draw()).unwrap();
        assert!(info.plain && fs::read_to_string(&info.path).unwrap().contains("NOT ENCRYPTED"));
        let opened = store.open::<KeyError>("node", |_| panic!("asked")).unwrap();
        assert_eq!(opened.public(), key.public());
    }

    #[test]
    fn exposed_damaged_and_swapped_files_are_refused() {
        let store = keystore("damaged");
        let key = SecretKey::from_seed([9; 32]);
        let info = store.create("a", KeyKind::Account, &key, &sealed("p"), &mut draw()).unwrap();
        let text = fs::read_to_string(&info.path).unwrap();
        let write = |text: &str| fs::write(&info.path, text).unwrap();
        // A key of one kind does not pass for another.
        write(&text.replace("\"kind\": \"account\"", "\"kind\": \"node\""));
        assert!(matches!(store.open("a", say("p")), Err(KeyError::WrongPassphrase(_))));
        write(&text.replace("\"m\": 64", "\"m\": 4294967295"));
        assert!(store.open("a", say("p")).unwrap_err().to_string().contains("unreasonable"));
        write("{}");
        assert!(matches!(store.info("a"), Err(KeyError::Unreadable { .. })));
        assert_eq!(store.list().unwrap().1.len(), 1);
        write(&text);
        fs::set_permissions(&info.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(store.info("a").unwrap_err().to_string().contains("chmod 600"));
        for name in ["", "../x", "a/b", "a.b", &"x".repeat(65)] {
            assert!(matches!(store.info(name), Err(KeyError::Name(_))), "{name}");
        }
    }

    #[test]
    fn an_export_imports_under_another_name_and_keeps_its_seal() {
        let store = keystore("export");
        let key = SecretKey::from_seed([5; 32]);
        store.create("one", KeyKind::Consensus, &key, &sealed("p"), &mut draw()).unwrap();
        let text = store.export("one").unwrap();
        let info = store.import("two", &text).unwrap();
        assert_eq!((info.kind, info.plain), (KeyKind::Consensus, false));
        assert_eq!(store.open("two", say("p")).unwrap().public(), key.public());
        assert!(matches!(store.import("three", "nonsense"), Err(KeyError::Unreadable { .. })));
    }
}
