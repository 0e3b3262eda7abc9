//! `devnet status`: every node in a line, running or not.

use serde_json::json;

use super::eyes::{Eyes, View};
use super::record::Record;
use crate::cli::error::CliError;
use crate::cli::output::{Reply, Table, maybe, size};

/// # Errors
/// An address of the record is no URL.
pub fn status(record: &Record) -> Result<Reply, CliError> {
    let views = Eyes::new(record)?.look(false);
    let reply = reply(record, &views);
    Ok(match views.iter().any(|view| view.pid.is_some()) {
        true => reply,
        false => reply.line("\nNo node runs.").hint("starling devnet up      starts them again"),
    })
}

/// The nodes as they are.
pub fn reply(record: &Record, views: &[View]) -> Reply {
    let height = views.iter().map(View::height).max().unwrap_or(0);
    let nodes: Vec<_> = record
        .nodes
        .iter()
        .zip(views)
        .map(|(node, view)| {
            json!({
                "name": node.name,
                "role": node.role,
                "pid": view.pid,
                "p2p": node.p2p,
                "http": node.http,
                "height": view.height(),
                "peers": view.status.as_ref().map_or(0, |s| s.peers),
                "state": view.state(),
                "node": node.node,
                "account": node.account,
                "data_dir": node.data_dir,
                "rss_bytes": view.status.as_ref().map_or(0, |s| s.rss_bytes),
            })
        })
        .collect();
    let data = json!({
        "dir": record.dir,
        "chain_id": record.chain_id,
        "height": height,
        "gateway": record.gateway,
        "nodes": nodes,
    });
    let facts = [
        ("height", height.to_string()),
        ("gateway", record.gateway.url.clone()),
        ("folder", record.dir.display().to_string()),
    ];
    Reply::of(&data).facts(facts).table(nodes_table(record, views))
}

/// One line for each node.
pub fn nodes_table(record: &Record, views: &[View]) -> Table {
    let mut table = Table::new(&["node", "role", "state", ">pid", ">height", ">peers", ">finality", ">memory", "http"]);
    for (node, view) in record.nodes.iter().zip(views) {
        let finality = view.head.as_ref().and_then(|head| head.finality_ms).map(|ms| format!("{ms} ms"));
        let status = view.status.as_ref();
        table.row(vec![
            node.name.clone(),
            node.miner.as_ref().map_or_else(|| node.role.clone(), |miner| format!("{} ({})", node.role, miner.task)),
            view.state(),
            maybe(view.pid),
            maybe(status.map(|s| s.height)),
            maybe(status.map(|s| s.peers)),
            maybe(finality),
            maybe(status.map(|s| size(s.rss_bytes))),
            node.http.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::devnet::plan::Wishes;
    use crate::cli::devnet::record::NodeRecord;
    use crate::protocol::report::Moment;

    #[test]
    fn the_document_has_the_promised_names_and_a_node_that_is_down_says_so() {
        let node = NodeRecord {
            name: "miner-1".into(),
            role: "miner".into(),
            node: Default::default(),
            account: Default::default(),
            p2p: "/ip4/127.0.0.1/tcp/1/p2p/x".into(),
            http: "http://127.0.0.1:2".into(),
            data_dir: "/nowhere/miner-1".into(),
            miner: None,
            manner: None,
            ports: vec![1, 2],
        };
        let wishes = Wishes { validators: 0, miners: 1, seed: 1, with: vec![], tempo: None, pace_ms: None };
        let url = "http://127.0.0.1:8080".to_owned();
        let record = Record::new("/nowhere".as_ref(), wishes, Moment(0), Default::default(), url, vec![node]);
        let reply = status(&record).unwrap();
        for (path, value) in [
            ("/nodes/0/name", json!("miner-1")),
            ("/nodes/0/role", json!("miner")),
            ("/nodes/0/pid", json!(null)),
            ("/nodes/0/p2p", json!("/ip4/127.0.0.1/tcp/1/p2p/x")),
            ("/nodes/0/http", json!("http://127.0.0.1:2")),
            ("/nodes/0/height", json!(0)),
            ("/nodes/0/peers", json!(0)),
            ("/nodes/0/state", json!("down")),
            ("/gateway/url", json!("http://127.0.0.1:8080")),
            ("/height", json!(0)),
        ] {
            assert_eq!(reply.data().pointer(path), Some(&value), "{path}");
        }
    }
}
