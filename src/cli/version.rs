//! `version`: what this program is and was built for.

use clap::Args;
use serde_json::json;

use super::error::CliError;
use super::output::Reply;
use crate::protocol::codec;

#[derive(Args, Debug)]
pub struct Version {}

impl Version {
    pub(super) fn run(self) -> Result<Reply, CliError> {
        let (version, target) = (env!("CARGO_PKG_VERSION"), concat_target());
        let wire = codec::VERSION;
        Ok(Reply::of(
            &json!({ "version": version, "wire": wire, "target": target, "licence": env!("CARGO_PKG_LICENSE") }),
        )
        .line(format!("starling {version} (wire {wire}, {target})")))
    }
}

fn concat_target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}
