//! The HTTP face: what curl, browsers, scrapers and OpenAI clients see of a node.
//!
//! Two servers share this room. Every node serves health, metrics and the explorer's JSON; a gateway also serves the
//! OpenAI shapes. Both only ask (`Backend`); no handler keeps state of its own beyond limits on what it lets in.

pub mod backend;

pub use backend::{AnswerStream, Backend, Frame, QueryError, QueryFault, ReadError, Served, SubmitError};
