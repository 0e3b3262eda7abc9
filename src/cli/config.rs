//! `config`: the configuration as it applies, whether it is right, and all there is to set.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::error::{CliError, Exit};
use super::output::{Reply, Table};
use crate::config::keys::{self, ENTRY_KEYS, KEYS, Key, Kind};
use crate::config::{Config, Origin, check};

#[derive(Subcommand, Debug)]
pub enum ConfigNoun {
    /// Every value as it applies
    Show {
        /// And where it was written
        #[arg(long)]
        origin: bool,
    },
    /// Whether the configuration is right; exit 3 when it is refused, 12 when something is probably not meant
    Check,
    /// Every key with its kind, default and meaning (with --json a JSON Schema)
    Schema,
}

impl ConfigNoun {
    pub(super) fn run(self, context: &Context) -> Result<Reply, CliError> {
        match self {
            Self::Show { origin } => Ok(show(&context.config()?, origin)),
            Self::Check => Ok(checked(&context.config()?)),
            Self::Schema => Ok(schema()),
        }
    }
}

/// Secrets are not shown, only that they are there.
fn shown(config: &Config) -> Value {
    let mut value = serde_json::to_value(config).unwrap_or(Value::Null);
    if let Some(Value::Array(list)) = value.pointer_mut("/gateway/api_keys") {
        list.iter_mut().for_each(|k| *k = json!("(hidden)"));
    }
    value
}

fn show(config: &Config, origin: bool) -> Reply {
    let values = shown(config);
    let mut document = Map::new();
    let columns: &[&str] = if origin { &["key", "value", "origin"] } else { &["key", "value"] };
    let mut table = Table::new(columns);
    for key in KEYS {
        let value = values.pointer(&format!("/{}/{}", key.section, key.name)).cloned().unwrap_or(Value::Null);
        let from = config.origins.get(&key.path()).cloned().unwrap_or(Origin::Default).to_string();
        let mut cells = vec![key.path(), value.to_string()];
        if origin {
            cells.push(from.clone());
        }
        table.row(cells);
        document.insert(key.path(), if origin { json!({ "value": value, "origin": from }) } else { value });
    }
    Reply::of(&document).table(table)
}

fn checked(config: &Config) -> Reply {
    let findings = check::findings(config);
    let reply = Reply::of(&json!({ "findings": findings }));
    if findings.is_empty() {
        return reply.line("The configuration is right.");
    }
    let mut table = Table::new(&["key", "finding", "remedy"]);
    for f in &findings {
        table.row(vec![f.key.clone(), f.problem.clone(), f.remedy.clone()]);
    }
    reply.line("The configuration works; this is probably not meant:").table(table).exit(Exit::Findings)
}

fn kind_words(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Path => "path".into(),
        Kind::Socket => "address:port".into(),
        Kind::Flag => "true or false".into(),
        Kind::Whole { min, max } if max >= 1 << 40 => format!("number from {min}"),
        Kind::Whole { min, max } => format!("number {min} to {max}"),
        Kind::Choice(choices) => choices.join(" | "),
        Kind::List => "list of texts".into(),
        Kind::ListOf(choices) => format!("list of {}", choices.join(" | ")),
        Kind::Entries(_) => "tables".into(),
    }
}

fn kind_schema(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path | Kind::Socket => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::ListOf(choices) => json!({ "type": "array", "items": { "enum": choices } }),
        Kind::Entries(keys) => json!({ "type": "array", "items": object(keys.iter()) }),
    }
}

fn object<'a>(keys: impl Iterator<Item = &'a Key>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys {
        let mut schema = kind_schema(key.kind);
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("description".into(), json!(key.doc));
            let default: Option<toml::Table> = format!("x = {}", key.default).parse().ok();
            if let Some(default) = default.and_then(|t| serde_json::to_value(t.get("x")?).ok()) {
                fields.insert("default".into(), default);
            }
        }
        if key.default.is_empty() {
            required.push(key.name);
        }
        properties.insert(key.name.into(), schema);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn schema() -> Reply {
    let mut sections = Map::new();
    let mut table = Table::new(&["key", "kind", "default", "meaning"]);
    for section in keys::sections() {
        let rows = || KEYS.iter().filter(|k| k.section == section);
        sections.insert(section.into(), object(rows()));
        for key in rows() {
            // A long default is in the file that documents it; here it would push the meaning off the screen.
            let default = if key.default.len() > 24 { "(see config/)" } else { key.default };
            table.row(vec![key.path(), kind_words(key.kind), default.into(), key.doc.into()]);
            if let Kind::Entries(inner) = key.kind {
                for key in inner {
                    table.row(vec![
                        format!("  {}", key.name),
                        kind_words(key.kind),
                        key.default.into(),
                        key.doc.into(),
                    ]);
                }
            }
        }
    }
    let document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "starling configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": sections,
    });
    Reply::of(&document).table(table).hint("every key is also a variable, like STARLING_NETWORK_LISTEN")
}

/// One key in words, for `explain`.
pub fn explain(key: &Key) -> Reply {
    let entries = ENTRY_KEYS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let inner = if matches!(key.kind, Kind::Entries(_)) { entries } else { String::new() };
    Reply::of(&json!({ "key": key.path(), "default": key.default, "meaning": key.doc, "variable": key.variable() }))
        .line(format!("{}: {}", key.path(), key.doc))
        .facts([
            ("kind", kind_words(key.kind)),
            ("default", key.default.to_owned()),
            ("variable", key.variable()),
            ("inside", inner),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn api_keys_are_never_shown() {
        let flags = vec![("gateway.api_keys".into(), "a-real-secret".into(), "--set".into())];
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let reply = show(&config, true);
        assert!(!reply.envelope().to_string().contains("a-real-secret"));
        assert_eq!(reply.data()["gateway.api_keys"]["origin"], "--set");
    }

    #[test]
    fn the_schema_holds_every_key() {
        let schema = schema();
        for key in KEYS {
            let path = format!("/properties/{}/properties/{}/description", key.section, key.name);
            assert_eq!(schema.data().pointer(&path).unwrap(), key.doc);
        }
    }
}
