//! What the node says about itself to operators: every metric described once, the log, and the text of `/metrics`.

use std::io::IsTerminal;
use std::path::Path;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Seconds from a millisecond to a minute: latencies of queries, jobs and finality all lie there.
const SECONDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl LogStyle {
    /// People on a terminal, JSON for everything that is none.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Human } else { Self::Json }
    }
}

/// Starts the log on stderr. A second call changes nothing.
///
/// # Errors
/// The filter cannot be read; the text says where.
pub fn start_log(filter: &str, style: LogStyle) -> Result<(), ParseError> {
    // What these say at every start means nothing to an operator; a filter that names them hears it all the same.
    let filter = EnvFilter::try_new(format!("libp2p_kad=error,actix_server=warn,{filter}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Colours are for eyes; in a file they are noise.
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // Already started (several nodes in one process, as tests do): the first one's log serves all.
    let _already = match style {
        LogStyle::Human => builder.compact().try_init(),
        LogStyle::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// A panic anywhere ends the whole process at once: an actor or a task that has died must not leave a node half alive.
/// Journals make that safe. The usual message is printed first.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Installs the recorder of all metrics and describes them.
///
/// # Errors
/// A recorder is installed already, or the buckets are malformed.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()?;
    describe();
    metrics::gauge!("starling_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn describe() {
    describe_gauge!("starling_build_info", "Always 1; the version is a label");
    describe_gauge!("starling_ledger_height", "Last finalised height");
    describe_counter!("starling_ledger_transactions_total", "Transactions in finalised checkpoints");
    describe_gauge!("starling_ledger_mempool_transactions", "Transactions that wait");
    describe_histogram!(
        "starling_checkpoint_finality_seconds",
        Unit::Seconds,
        "From a checkpoint's timestamp to its finalisation here"
    );
    describe_counter!("starling_checkpoint_views_total", "Views entered, by how the one before ended");
    describe_counter!("starling_checkpoint_evidence_total", "Verified equivocations");
    describe_gauge!("starling_net_peers", "Peers whose hello held");
    describe_counter!("starling_net_gossip_bytes_total", Unit::Bytes, "Gossip payloads, by topic and direction");
    describe_counter!("starling_net_queue_dropped_total", "Messages dropped because a queue was full");
    describe_counter!("starling_net_faults_total", "Faults of peers, by kind");
    describe_counter!("starling_mail_dropped_total", "Tells dropped because a mailbox was full");
    describe_counter!("starling_pool_jobs_total", "Jobs of the worker pool, by device and outcome");
    describe_histogram!("starling_pool_job_seconds", Unit::Seconds, "From a job's arrival to its end");
    describe_histogram!("starling_query_seconds", Unit::Seconds, "From a query's arrival to its one outcome");
    describe_counter!("starling_query_total", "Queries, by outcome");
    describe_gauge!("starling_miner_score_ratio", "Mean score this validator gives, by subnet");
    describe_gauge!("starling_weights_age_heights", "Heights since this validator's last revealed weights, by subnet");
    describe_gauge!("starling_weights_reveal_heights", "Heights from sending the last reveal to its effect, by subnet");
    describe_counter!("starling_weights_late_total", "Weights that were sealed and not opened in time, by subnet");
    describe_counter!("starling_weights_skipped_total", "Epochs left out because reveals came too late, by subnet");
    describe_counter!("starling_bond_top_ups_total", "Bonds below their least: topped up, or why not, by outcome");
    describe_gauge!("starling_store_bytes", Unit::Bytes, "Bytes on disk, by part");
    describe_gauge!("starling_process_rss_bytes", Unit::Bytes, "Resident memory");
}

/// Bytes on disk below a node's folder, and its memory, as gauges.
pub fn measure_process(data_dir: &Path) {
    #[expect(clippy::cast_precision_loss, reason = "gauges for people")]
    let gauge = |name: &'static str, part: &'static str, bytes: u64| {
        metrics::gauge!(name, "part" => part).set(bytes as f64);
    };
    for (part, name) in [("ledger", "ledger.redb"), ("votes", "votes"), ("models", "models")] {
        gauge("starling_store_bytes", part, bytes_below(&data_dir.join(name)));
    }
    gauge("starling_process_rss_bytes", "process", rss_bytes());
}

/// Bytes of a file, or of the files right inside a folder; what cannot be read counts nothing.
fn bytes_below(path: &Path) -> u64 {
    let Ok(found) = std::fs::metadata(path) else { return 0 };
    if found.is_file() {
        return found.len();
    }
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|found| found.len()).sum()
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
pub fn rss_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(0, |kb: u64| kb * 1_024)
}
