//! The sources of a configuration and how they lie over each other.
//!
//! A layer is a flat map from `section.key` to a value; the higher layer wins key by key, lists are replaced whole. Each
//! kept value remembers where it was written, so that an error and `config show --origin` can point at it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Kind};
use super::{Config, ConfigError, check};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::File { path, line } => f.pad(&format!("{}:{line}", path.display())),
            Self::Variable(name) => f.pad(&format!("environment {name}")),
            Self::Flag(name) => f.pad(name),
        }
    }
}

/// Everything a configuration is read from. The environment and home are arguments, so that tests own them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `section.key`, the value as typed, and the flag to name in errors.
    pub flags: Vec<(String, String, String)>,
    pub environment: Vec<(String, String)>,
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// `--data-dir`, or what stands for it.
    pub data_dir: Option<PathBuf>,
    pub home: Option<PathBuf>,
}

impl Sources {
    /// The data directory before any file is read: flag, environment, home.
    fn data_dir(&self) -> PathBuf {
        let from_environment =
            || self.environment.iter().find(|(name, _)| name == "STARLING_NODE_DATA_DIR").map(|(_, v)| v.into());
        let from_home = || self.home.as_ref().map(|h| h.join(".starling"));
        self.data_dir.clone().or_else(from_environment).or_else(from_home).unwrap_or_else(|| "starling-data".into())
    }
}

/// Values with their origins, before they are typed.
#[derive(Clone, Debug, Default)]
pub struct Layered {
    values: BTreeMap<String, (Value, Origin)>,
}

/// Reads every source and lays the higher over the lower.
///
/// # Errors
/// A file cannot be read or parsed, a key is unknown, or a value is not of its key's kind.
pub fn merge(sources: &Sources) -> Result<Layered, ConfigError> {
    let mut layered = Layered::default();
    layered.add_defaults()?;
    // The data directory may be moved by the file of --config, which lies over the directory's own.
    let mut upper = Layered::default();
    if let Some(path) = &sources.file {
        upper.add_file(path)?;
    }
    let moved = upper.values.get("node.data_dir").and_then(|(v, _)| v.as_str()).filter(|t| !t.is_empty());
    let named = sources.data_dir.is_some() || sources.environment.iter().any(|(n, _)| n == "STARLING_NODE_DATA_DIR");
    let data_dir = moved.filter(|_| !named).map_or_else(|| sources.data_dir(), PathBuf::from);
    let own = data_dir.join("config.toml");
    if own.is_file() && sources.file.as_ref() != Some(&own) {
        layered.add_file(&own)?;
    }
    layered.values.append(&mut upper.values);
    layered.add_environment(&sources.environment)?;
    layered.add_flags(&sources.flags)?;
    let origin =
        if sources.data_dir.is_some() { Origin::Flag("--data-dir".into()) } else { layered.origin("node.data_dir") };
    layered.values.insert("node.data_dir".into(), (Value::String(data_dir.display().to_string()), origin));
    Ok(layered)
}

impl Layered {
    fn origin(&self, path: &str) -> Origin {
        self.values.get(path).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn add_defaults(&mut self) -> Result<(), ConfigError> {
        for key in KEYS {
            let value = literal(key.default)
                .ok_or_else(|| syntax(Origin::Default, format!("the default of {} does not parse", key.path())))?;
            self.values.insert(key.path(), (value, Origin::Default));
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::File { path: path.display().to_string(), problem: e.to_string() })?;
        self.add_text(&text, path)
    }

    /// Adds the text of a file that lies at `path`.
    ///
    /// # Errors
    /// The text is no TOML, or a key or value in it is wrong.
    pub fn add_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: text.get(..offset).unwrap_or(text).matches('\n').count() + 1,
        };
        let document = DeTable::parse(text)
            .map_err(|e| syntax(at(e.span().map_or(0, |span| span.start)), e.message().to_owned()))?;
        for (section, body) in document.get_ref() {
            let origin = at(section.span().start);
            let name = section.get_ref().to_string();
            if !keys::sections().contains(&name.as_str()) {
                let near = keys::near(&name, keys::sections()).map(|n| format!("[{n}]"));
                return Err(ConfigError::UnknownKey { origin, key: name, near });
            }
            let DeValue::Table(table) = body.get_ref() else {
                return Err(syntax(origin, format!("`{name}` is a section; write [{name}]")));
            };
            for (key, value) in table {
                let value =
                    plain(value.get_ref()).ok_or_else(|| syntax(origin.clone(), "a date has no place here".into()))?;
                self.set(&format!("{name}.{}", key.get_ref()), value, at(key.span().start), path.parent())?;
            }
        }
        Ok(())
    }

    fn add_environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for (variable, text) in environment {
            let Some(rest) = variable.strip_prefix("STARLING_") else { continue };
            // Other variables with our prefix are somebody else's, unless they begin like a section of ours.
            let lower = rest.to_lowercase();
            let Some((section, name)) = keys::sections()
                .iter()
                .find_map(|section| lower.strip_prefix(section)?.strip_prefix('_').map(|name| (*section, name)))
            else {
                continue;
            };
            // Container tools set names like STARLING_GATEWAY_PORT of their own accord, so only what looks like a
            // slip of ours is an error.
            let names = || keys::KEYS.iter().filter(|k| k.section == section).map(|k| k.name);
            if !names().any(|n| n == name) && keys::near(name, names()).is_none() {
                continue;
            }
            let origin = Origin::Variable(variable.clone());
            self.set_typed(&format!("{section}.{name}"), text, origin)?;
        }
        Ok(())
    }

    fn add_flags(&mut self, flags: &[(String, String, String)]) -> Result<(), ConfigError> {
        flags.iter().try_for_each(|(path, text, flag)| self.set_typed(path, text, Origin::Flag(flag.clone())))
    }

    /// Sets a key from text as people type it: a list as `a,b`, a text without quotes.
    fn set_typed(&mut self, path: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let kind = keys::find(path).map(|k| k.kind);
        let value = match kind {
            Some(Kind::List | Kind::ListOf(_)) if !text.trim_start().starts_with('[') => Value::Array(
                text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| Value::String(t.into())).collect(),
            ),
            Some(Kind::Text | Kind::Path | Kind::Socket | Kind::Choice(_)) => Value::String(text.to_owned()),
            _ => literal(text).unwrap_or_else(|| Value::String(text.to_owned())),
        };
        self.set(path, value, origin, None)
    }

    fn set(&mut self, path: &str, value: Value, origin: Origin, base: Option<&Path>) -> Result<(), ConfigError> {
        let Some(key) = keys::find(path) else {
            let paths: Vec<String> = KEYS.iter().map(keys::Key::path).collect();
            let section = path.split('.').next().unwrap_or_default();
            let name = path.split_once('.').map_or(path, |(_, name)| name);
            // The same section first: a slip of the finger stays in its section more often than not.
            let near = keys::near(name, KEYS.iter().filter(|k| k.section == section).map(|k| k.name))
                .map(|n| format!("{section}.{n}"))
                .or_else(|| KEYS.iter().find(|k| k.name == name).map(keys::Key::path))
                .or_else(|| keys::near(path, paths.iter().map(String::as_str)).map(str::to_owned));
            return Err(ConfigError::UnknownKey { origin, key: path.to_owned(), near });
        };
        if let Some(problem) = keys::problem(key.kind, &value) {
            return Err(ConfigError::Value { origin, key: path.to_owned(), problem });
        }
        let value = match (key.kind, base, value.as_str()) {
            (Kind::Path, Some(base), Some(text)) if !text.is_empty() => {
                Value::String(base.join(text).display().to_string())
            }
            _ => value,
        };
        self.values.insert(path.to_owned(), (value, origin));
        Ok(())
    }

    /// Types the merged values and checks what concerns several of them.
    ///
    /// # Errors
    /// A rule of `check` is broken.
    pub fn build(self) -> Result<Config, ConfigError> {
        let mut document = toml::Table::new();
        let mut origins = BTreeMap::new();
        for (path, (value, origin)) in self.values {
            let Some((section, name)) = path.split_once('.') else { continue };
            let table = document.entry(section).or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(table) = table {
                table.insert(name.to_owned(), value);
            }
            origins.insert(path, origin);
        }
        // Kinds were checked key by key, so what is left here is a row of KEYS that disagrees with its field.
        let mut config: Config =
            document.try_into().map_err(|e: toml::de::Error| syntax(Origin::Default, e.message().to_owned()))?;
        config.origins = origins;
        check::refuse(&config)?;
        Ok(config)
    }
}

fn syntax(origin: Origin, problem: String) -> ConfigError {
    ConfigError::Syntax { origin, problem }
}

/// A TOML literal standing alone.
fn literal(text: &str) -> Option<Value> {
    format!("x = {text}").parse::<toml::Table>().ok()?.remove("x")
}

/// A spanned value without its spans.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().ok()?),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => Value::Array(items.iter().map(|v| plain(v.get_ref())).collect::<Option<_>>()?),
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(k, v)| Some((k.get_ref().to_string(), plain(v.get_ref())?)))
                .collect::<Option<toml::Table>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("starling-layers-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn flags_lie_over_the_environment_over_the_file_over_the_data_dir_over_defaults() {
        let dir = scratch("precedence");
        std::fs::write(
            dir.join("config.toml"),
            "[gateway]\nqueries_max = 1\n[network]\npeers_target = 1\n[pool]\njobs_max = 1\n[log]\nfilter = \"own\"\n",
        )
        .unwrap();
        let file = dir.join("given.toml");
        std::fs::write(&file, "[gateway]\nqueries_max = 2\n[network]\npeers_target = 2\n[pool]\njobs_max = 2\n")
            .unwrap();
        let sources = Sources {
            flags: vec![("gateway.queries_max".into(), "4".into(), "--set".into())],
            environment: vec![
                ("STARLING_GATEWAY_QUERIES_MAX".into(), "3".into()),
                ("STARLING_NETWORK_PEERS_TARGET".into(), "3".into()),
                ("STARLING_NETWORK_LISTEN".into(), "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2".into()),
                ("STARLING_UNRELATED".into(), "x".into()),
                ("STARLING_GATEWAY_SERVICE_HOST".into(), "x".into()),
            ],
            file: Some(file.clone()),
            data_dir: Some(dir.clone()),
            home: None,
        };
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.gateway.queries_max, 4);
        assert_eq!(config.network.peers_target, 3);
        assert_eq!(config.network.listen, ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]);
        assert_eq!(config.pool.jobs_max, 2);
        assert_eq!(config.log.filter, "own");
        assert_eq!(config.pool.threads, 0);
        assert_eq!(config.node.data_dir, dir);
        assert_eq!(config.origins["pool.jobs_max"], Origin::File { path: file, line: 6 });
        assert_eq!(config.origins["log.filter"].to_string(), format!("{}:8", dir.join("config.toml").display()));
        assert_eq!(config.origins["network.peers_target"].to_string(), "environment STARLING_NETWORK_PEERS_TARGET");
        assert_eq!(config.origins["gateway.queries_max"].to_string(), "--set");
        assert_eq!(config.origins["pool.threads"], Origin::Default);
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_place_and_the_near_match() {
        let text = |text: &str| Layered::default().add_text(text, Path::new("c.toml")).unwrap_err().to_string();
        assert_eq!(
            text("[network]\nlisten = []\nbootnode = []\n"),
            "c.toml:3: unknown key `network.bootnode`; did you mean `network.bootnodes`?"
        );
        assert_eq!(text("[netwrok]\n"), "c.toml:1: unknown key `netwrok`; did you mean `[network]`?");
        assert_eq!(
            text("[http]\ninsecure = true\n"),
            "c.toml:2: unknown key `http.insecure`; did you mean `gateway.insecure`?"
        );
        assert!(text("[http]\nbind = 5\n").starts_with("c.toml:2: `http.bind` must be an address"));
        assert!(text("[http\n").starts_with("c.toml:1: "));
        let sources = Sources { environment: vec![("STARLING_HTTP_BNID".into(), "x".into())], ..Sources::default() };
        assert_eq!(
            Config::load(&sources).unwrap_err().to_string(),
            "environment STARLING_HTTP_BNID: unknown key `http.bnid`; did you mean `http.bind`?"
        );
    }

    #[test]
    fn paths_in_a_file_are_taken_from_its_place() {
        let dir = scratch("paths");
        let file = dir.join("c.toml");
        std::fs::write(&file, "[node]\ndata_dir = \"d\"\nkeys = \"k\"\n").unwrap();
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        assert_eq!((config.node.data_dir.clone(), config.keys_dir()), (dir.join("d"), dir.join("k")));
    }
}
