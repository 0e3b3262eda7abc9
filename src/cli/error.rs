//! What can go wrong for a person at the command line: one error type, one table of exit codes.
//!
//! The codes are promises to scripts. A message says what happened, a help line what to do about it.

use serde::Serialize;

use crate::config::ConfigError;
use crate::store::keystore::KeyError;

/// The exit codes, each with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    Config = 3,
    NotFound = 4,
    KeyLocked = 5,
    Unreachable = 6,
    OutcomeUnknown = 7,
    Refused = 8,
    Insufficient = 9,
    ConfirmationNeeded = 10,
    NotSynced = 11,
    Findings = 12,
    VoteProtection = 13,
    Interrupted = 130,
}

/// Every exit code for `explain`: number, name, meaning, remedy.
pub const EXITS: &[(u8, &str, &str, &str)] = &[
    (0, "ok", "It worked.", ""),
    (1, "failed", "It failed for a reason the message names.", "Read the message; run again with -v for the log."),
    (2, "usage", "The command line is not understood.", "Add --help after the noun."),
    (
        3,
        "config",
        "The configuration is refused.",
        "The message names file, line and key; `starling config schema` lists all.",
    ),
    (4, "not_found", "There is no such thing.", "List what there is, for example with `starling subnet list`."),
    (
        5,
        "key_locked",
        "A key cannot be opened.",
        "Check the passphrase, the file's mode (600) and `starling key list`.",
    ),
    (6, "unreachable", "No node or network answers.", "Start one with `starling up`, or name one with --node URL."),
    (
        7,
        "outcome_unknown",
        "It was sent and is not final yet.",
        "`starling chain tx ID` tells later; sending again is safe.",
    ),
    (
        8,
        "refused",
        "A rule of the ledger refuses it.",
        "`starling explain RULE` explains; nothing was changed but a fee may be due.",
    ),
    (
        9,
        "insufficient",
        "The balance or the budget does not cover it.",
        "`starling wallet balance` shows what there is.",
    ),
    (10, "confirmation_needed", "It changes something and nobody said yes.", "Add --yes, or run it on a terminal."),
    (11, "not_synced", "The node is behind the network.", "Wait; `starling status --watch` shows it catching up."),
    (12, "findings", "The examination found something.", "Each finding names its remedy."),
    (13, "vote_protection", "Voting would risk a contradiction.", "Never run one consensus key in two places."),
    (130, "interrupted", "Stopped by the keyboard.", ""),
];

/// An error with everything a person or a script needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{message}")]
pub struct CliError {
    pub code: String,
    pub message: String,
    pub help: String,
    pub retryable: bool,
    #[serde(skip)]
    pub exit: Exit,
}

impl CliError {
    pub fn new(exit: Exit, message: impl Into<String>, help: impl Into<String>) -> Self {
        let name = EXITS.iter().find(|(number, ..)| *number == exit as u8).map_or("failed", |(_, name, ..)| name);
        let retryable = matches!(exit, Exit::Unreachable | Exit::OutcomeUnknown | Exit::NotSynced);
        Self { code: name.to_owned(), message: message.into(), help: help.into(), retryable, exit }
    }

    /// The same error under a finer code.
    #[must_use]
    pub fn coded(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message, "")
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, "add --help to see what is understood")
    }

    pub fn not_found(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message, help)
    }

    /// Reading or writing a file of the person's.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Self::new(exit, format!("{}: {error}", path.display()), "")
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let help = match &error {
            ConfigError::File { .. } => "name a readable file with --config",
            _ => "`starling config schema` lists every key with its meaning",
        };
        Self::new(Exit::Config, error.to_string(), help)
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        let (exit, help) = match &error {
            KeyError::NotFound { .. } => {
                (Exit::NotFound, "`starling key list` shows the keys; `starling key new` makes one")
            }
            KeyError::Exists(_) => (Exit::Failed, "choose another name; keys are never overwritten"),
            KeyError::Name(_) => (Exit::Usage, ""),
            KeyError::Locked(_) => {
                (Exit::KeyLocked, "give --passphrase-file FILE, set STARLING_PASSPHRASE_FILE, or run on a terminal")
            }
            KeyError::WrongPassphrase(_) => (Exit::KeyLocked, "try again; without the passphrase the key is lost"),
            KeyError::Exposed { .. } | KeyError::Unreadable { .. } => (Exit::KeyLocked, "the file was left as it is"),
            KeyError::Unwritable { .. } | KeyError::Seal(_) => (Exit::Failed, ""),
        };
        Self::new(exit, error.to_string(), help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_promised_ones() {
        let promised: Vec<u8> = (0..=13).chain([130]).collect();
        assert_eq!(EXITS.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), promised);
        for (exit, name) in [
            (Exit::Failed, "failed"),
            (Exit::Usage, "usage"),
            (Exit::Config, "config"),
            (Exit::NotFound, "not_found"),
            (Exit::KeyLocked, "key_locked"),
            (Exit::Unreachable, "unreachable"),
            (Exit::OutcomeUnknown, "outcome_unknown"),
            (Exit::Refused, "refused"),
            (Exit::Insufficient, "insufficient"),
            (Exit::ConfirmationNeeded, "confirmation_needed"),
            (Exit::NotSynced, "not_synced"),
            (Exit::Findings, "findings"),
            (Exit::VoteProtection, "vote_protection"),
            (Exit::Interrupted, "interrupted"),
        ] {
            assert_eq!(CliError::new(exit, "", "").code, name);
        }
    }

    #[test]
    fn key_errors_exit_with_5_unless_there_is_no_such_key() {
        let exit = |error: KeyError| CliError::from(error).exit;
        assert_eq!(exit(KeyError::WrongPassphrase("a".into())), Exit::KeyLocked);
        assert_eq!(exit(KeyError::Locked("a".into())), Exit::KeyLocked);
        assert_eq!(exit(KeyError::Exposed { path: "a".into(), mode: 0o644 }), Exit::KeyLocked);
        assert_eq!(exit(KeyError::NotFound { name: "a".into(), dir: "d".into() }), Exit::NotFound);
    }
}
