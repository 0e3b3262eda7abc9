//! How a reply is shown: as words and aligned tables for people, or as exactly one JSON document for programs.
//!
//! Commands produce a `Reply` and print nothing themselves; standard output carries the reply alone, everything else
//! (progress, questions, notes, errors) goes to standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::CliError;

/// The version of the JSON documents.
const DOCUMENT_VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Jsonl,
    Csv,
}

/// A column's name and whether its cells are numbers, which stand at the right.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<(&'static str, bool)>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// Columns of words; a name that starts with `>` is a column of numbers.
    pub fn new(columns: &[&'static str]) -> Self {
        let head = columns.iter().map(|c| c.strip_prefix('>').map_or((*c, false), |c| (c, true))).collect();
        Self { head, rows: Vec::new(), empty: "none" }
    }

    /// What to say when there is no row.
    #[must_use]
    pub fn or(mut self, empty: &'static str) -> Self {
        self.empty = empty;
        self
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn render(&self, ink: Ink) -> String {
        if self.rows.is_empty() {
            return format!("  {}\n", ink.dim(self.empty));
        }
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
            cells.chain(self.head.get(i).map(|(name, _)| name.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let parts = cells.iter().zip(&widths).zip(&self.head).map(|((cell, width), (_, right))| {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                if *right { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
            });
            format!("  {}", parts.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        };
        let head: Vec<String> = self.head.iter().map(|(name, _)| name.to_uppercase()).collect();
        let mut out = ink.dim(&line(head.iter().map(String::as_str).collect())) + "\n";
        for row in &self.rows {
            out += &line(row.iter().map(String::as_str).collect());
            out.push('\n');
        }
        out
    }

    fn csv(&self) -> String {
        let quote = |cell: &str| {
            if cell.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.to_owned()
            }
        };
        let head = self.head.iter().map(|(name, _)| quote(&name.to_lowercase().replace(' ', "_"))).collect::<Vec<_>>();
        let rows = self.rows.iter().map(|row| row.iter().map(|c| quote(c)).collect::<Vec<_>>());
        std::iter::once(head).chain(rows).map(|cells| cells.join(",") + "\n").collect()
    }
}

/// One part of what people read.
#[derive(Clone, Debug)]
enum Block {
    Line(String),
    Heading(String),
    Facts(Vec<(String, String)>),
    Table(Table),
    Hint(String),
}

/// What a command has to say.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    data: Value,
    blocks: Vec<Block>,
    warnings: Vec<String>,
    exit: u8,
}

impl Reply {
    /// A reply whose JSON is this value.
    pub fn of(data: &impl Serialize) -> Self {
        // Serialising our own reports cannot fail: their map keys are texts.
        Self { data: serde_json::to_value(data).unwrap_or(Value::Null), ..Self::default() }
    }

    #[must_use]
    pub fn line(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Line(text.into()));
        self
    }

    #[must_use]
    pub fn heading(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Heading(text.into()));
        self
    }

    /// Pairs of a name and its value; pairs with an empty value are left out.
    #[must_use]
    pub fn facts<K: Into<String>>(mut self, facts: impl IntoIterator<Item = (K, String)>) -> Self {
        let facts = facts.into_iter().map(|(k, v)| (k.into(), v)).filter(|(_, v)| !v.is_empty());
        self.blocks.push(Block::Facts(facts.collect()));
        self
    }

    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.blocks.push(Block::Table(table));
        self
    }

    /// A next step, shown last.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Hint(text.into()));
        self
    }

    #[must_use]
    pub fn warn(mut self, text: impl Into<String>) -> Self {
        self.warnings.push(text.into());
        self
    }

    /// Ends the program with this code although there is a reply: `doctor` with findings.
    #[must_use]
    pub fn exit(mut self, code: super::error::Exit) -> Self {
        self.exit = code as u8;
        self
    }

    pub fn exit_code(&self) -> u8 {
        self.exit
    }

    pub fn data(&self) -> &Value {
        &self.data
    }

    pub fn envelope(&self) -> Value {
        json!({ "v": DOCUMENT_VERSION, "ok": true, "data": self.data, "warnings": self.warnings })
    }

    /// The reply for people.
    pub fn text(&self, ink: Ink) -> String {
        let mut out = String::new();
        let mut hinted = false;
        for block in &self.blocks {
            match block {
                Block::Line(text) => out += &format!("{text}\n"),
                Block::Heading(text) => {
                    out += &format!("{}{}\n", if out.is_empty() { "" } else { "\n" }, ink.bold(text));
                }
                Block::Facts(facts) => {
                    let width = facts.iter().map(|(k, _)| k.chars().count()).max().unwrap_or(0);
                    for (name, value) in facts {
                        out += &format!("  {}  {value}\n", ink.dim(&format!("{name:width$}")));
                    }
                }
                Block::Table(table) => out += &table.render(ink),
                Block::Hint(text) => {
                    let lead = if hinted { "      " } else { "next: " };
                    let gap = if hinted || out.is_empty() { "" } else { "\n" };
                    out += &format!("{gap}{}\n", ink.dim(&format!("{lead}{text}")));
                    hinted = true;
                }
            }
        }
        out
    }

    fn render(&self, format: Format, ink: Ink) -> String {
        match format {
            Format::Table => self.text(ink),
            Format::Json => format!("{:#}\n", self.envelope()),
            Format::Jsonl => match &self.data {
                Value::Array(items) => items.iter().map(|item| format!("{item}\n")).collect(),
                other => format!("{other}\n"),
            },
            Format::Csv => {
                let table = self.blocks.iter().find_map(|b| if let Block::Table(t) = b { Some(t.csv()) } else { None });
                table.unwrap_or_else(|| facts_csv(&self.blocks))
            }
        }
    }
}

fn facts_csv(blocks: &[Block]) -> String {
    let mut table = Table::new(&["name", "value"]);
    for block in blocks {
        if let Block::Facts(facts) = block {
            facts.iter().for_each(|(k, v)| table.row(vec![k.clone(), v.clone()]));
        }
    }
    table.csv()
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ink(pub bool);

impl Ink {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Where and how things are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Printer {
    pub format: Format,
    pub quiet: bool,
    pub no_color: bool,
}

impl Printer {
    fn coloured(self, terminal: bool) -> Ink {
        let wanted = !self.no_color && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Ink(wanted && terminal && self.format == Format::Table)
    }

    pub fn ink(self) -> Ink {
        self.coloured(io::stdout().is_terminal())
    }

    /// Whether a person sits there and may be asked.
    pub fn may_ask(self) -> bool {
        self.format == Format::Table && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints a reply to standard output, warnings to standard error unless they are in the document.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn reply(self, reply: &Reply) -> io::Result<()> {
        if self.format != Format::Json {
            reply.warnings.iter().for_each(|w| self.note(&format!("warning: {w}")));
        }
        self.raw(&reply.render(self.format, self.ink()))
    }

    /// Writes text to standard output at once.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn raw(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// One line of a JSON stream.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn event(self, event: &Value) -> io::Result<()> {
        self.raw(&format!("{event}\n"))
    }

    /// A word aside, on standard error; silent with `--quiet`.
    pub fn note(self, text: &str) {
        if !self.quiet {
            // A closed standard error must not stop the work itself.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints an error: the document on standard output, or words on standard error.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn error(self, error: &CliError) -> io::Result<()> {
        if matches!(self.format, Format::Json | Format::Jsonl) {
            let document = json!({ "v": DOCUMENT_VERSION, "ok": false, "error": error });
            return self.raw(&if self.format == Format::Json {
                format!("{document:#}\n")
            } else {
                format!("{document}\n")
            });
        }
        let ink = self.coloured(io::stderr().is_terminal());
        let mut out = io::stderr().lock();
        writeln!(out, "{} {}", ink.bad("error:"), error.message)?;
        if error.help.is_empty() { Ok(()) } else { writeln!(out, "{} {}", ink.dim("help: "), error.help) }
    }
}

/// A span of time as people say it.
pub fn ago(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes / 1_024, bytes % 1_024 * 10 / 1_024),
        1_048_576..1_073_741_824 => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
        _ => format!("{}.{} GiB", bytes / 1_073_741_824, bytes % 1_073_741_824 * 10 / 1_073_741_824),
    }
}

/// `-` for what is not there.
pub fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::error::Exit;
    use super::*;

    #[test]
    fn the_envelope_has_the_promised_shape() {
        let reply = Reply::of(&json!({ "height": 3 })).warn("old");
        assert_eq!(reply.envelope(), json!({ "v": 1, "ok": true, "data": { "height": 3 }, "warnings": ["old"] }));
        let error = CliError::new(Exit::Unreachable, "no node", "start one");
        let expected = json!({ "code": "unreachable", "message": "no node", "help": "start one", "retryable": true });
        assert_eq!(serde_json::to_value(&error).unwrap(), expected);
    }

    #[test]
    fn tables_align_and_facts_skip_what_is_empty() {
        let mut table = Table::new(&["name", ">stake"]);
        table.row(vec!["a".into(), "1".into()]);
        table.row(vec!["longer".into(), "100".into()]);
        let reply =
            Reply::of(&1).facts([("height", "5".to_owned()), ("peers", String::new())]).table(table).hint("go on");
        let expected = "  height  5\n  NAME    STAKE\n  a           1\n  longer    100\n\nnext: go on\n";
        assert_eq!(reply.text(Ink(false)), expected);
        assert_eq!(reply.render(Format::Csv, Ink(false)), "name,stake\na,1\nlonger,100\n");
        assert_eq!(Reply::of(&[1, 2]).render(Format::Jsonl, Ink(false)), "1\n2\n");
        let mut quoted = Table::new(&["a b"]);
        quoted.row(vec!["x,\"y\"".into()]);
        assert_eq!(quoted.csv(), "a_b\n\"x,\"\"y\"\"\"\n");
    }

    #[test]
    fn spans_and_sizes_are_readable() {
        for (ms, text) in
            [(5, "5 ms"), (1_540, "1.5 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(ago(ms), text);
        }
        for (bytes, text) in [(5, "5 B"), (1_536, "1.5 KiB"), (157_286_400, "150.0 MiB"), (3_221_225_472, "3.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
