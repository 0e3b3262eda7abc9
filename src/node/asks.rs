//! A node behind the HTTP face: `Backend` as asks to the actors, each with its deadline.

mod models;

use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::actors::artifact_keeper::{DropArtifact, PullArtifact, PutArtifact, ReadArtifacts, ReadChunk};
use crate::actors::checkpointer::{ReadConsensus, Standing};
use crate::actors::clock::Clock;
use crate::actors::ledger::report::ReportError;
use crate::actors::ledger::{ReadLedger, ReadPending, SubmitTransaction, View};
use crate::actors::mail::{Heard, ask, tell};
use crate::actors::peer_manager::{Peers, ReadPeers};
use crate::actors::query_dispatcher::{ReadServing, SubmitQuery};
use crate::actors::router::{FetchLog, Outbound, Publish};
use crate::actors::scorer::{Opinions, ReadCare, ReadLog, ReadScores};
use crate::api::backend::{AnswerStream, Backend, Frame, QueryError, QueryFault, ReadError, SubmitError};
use crate::ledger::receipt::{Code, Refusal};
use crate::ledger::rows::Subnet;
use crate::net::{Command, Transport};
use crate::protocol::committee::Committee;
use crate::protocol::hello::Roles;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, NodeId, SubnetId};
use crate::protocol::query::Ask;
use crate::protocol::report::{
    AccountReport, ArtifactReport, BudgetReport, CheckpointReport, CommitteeReport, DutiesReport, FeesReport,
    HeadReport, HistoryReport, LineProofReport, MetagraphReport, MinerReport, ModelDetail, ModelReport, ModelRow,
    Moment, NodeState, NodeStatus, PeersReport, Readiness, ReadinessCheck, ReplayReport, Share, StakeReport,
    StandingReport, StatementReport, SubmitReport, SubnetReport, SupplyReport, TransactionReport, WeightsReport,
    WhyReport,
};
use crate::protocol::transaction::{Class, Role, SignedTransaction};

/// Reads are answered within this.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// A node that has finalised nothing for so long does not move.
const STALLED_MS: u64 = 15_000;
/// Frames of an answer that may wait for a slow reader.
const FRAMES: usize = 256;

/// The keeper, as the face asks it.
pub struct Artifacts {
    pub put: Recipient<PutArtifact>,
    pub pull: Recipient<PullArtifact>,
    pub read: Recipient<ReadArtifacts>,
    pub read_chunk: Recipient<ReadChunk>,
    pub drop: Recipient<DropArtifact>,
}

/// Whom the face asks.
pub struct Links {
    pub artifacts: Artifacts,
    pub read_ledger: Recipient<ReadLedger>,
    pub read_pending: Recipient<ReadPending>,
    pub submit: Recipient<SubmitTransaction>,
    pub publish: Recipient<Publish>,
    pub read_peers: Recipient<ReadPeers>,
    pub read_consensus: Recipient<ReadConsensus>,
    pub read_serving: Recipient<ReadServing>,
    pub query: Recipient<SubmitQuery>,
    pub read_scores: Option<Recipient<ReadScores>>,
    pub read_log: Option<Recipient<ReadLog>>,
    pub read_care: Option<Recipient<ReadCare>>,
    pub fetch_log: Recipient<FetchLog>,
}

/// What the face knows by itself.
#[derive(Clone)]
pub struct About {
    pub name: String,
    pub network: String,
    pub node: NodeId,
    pub account: Option<AccountId>,
    pub roles: Roles,
    pub committee: Committee,
    pub clock: Clock,
    /// Resident memory of the process.
    pub rss: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub transport: Arc<dyn Transport>,
    /// A development network: trouble may be made on purpose.
    pub dev: bool,
}

/// The backend of a running node.
pub struct Asks {
    links: Links,
    about: About,
}

pub(super) async fn reply<M>(to: &Recipient<M>, message: M) -> Result<M::Result, ReadError>
where
    M: Heard + Send + 'static,
    M::Result: Send,
{
    ask(to, message, READ_DEADLINE).await.map_err(|error| ReadError::Unavailable(error.to_string()))
}

pub(super) fn read_error(error: ReportError) -> ReadError {
    match error {
        ReportError::NotFound(what) => ReadError::NotFound(what),
        ReportError::Archive(error) => ReadError::Unavailable(error.to_string()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Asks {
    pub fn new(links: Links, about: About) -> Self {
        Self { links, about }
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) async fn view(&self, account: Option<AccountId>) -> Result<View, ReadError> {
        reply(&self.links.read_ledger, ReadLedger { account }).await
    }

    pub(super) async fn peers_now(&self) -> Result<Peers, ReadError> {
        reply(&self.links.read_peers, ReadPeers).await
    }

    async fn standing(&self) -> Result<Standing, ReadError> {
        reply(&self.links.read_consensus, ReadConsensus).await
    }

    async fn opinions(&self) -> Opinions {
        match &self.links.read_scores {
            Some(to) => reply(to, ReadScores).await.unwrap_or_default(),
            None => Opinions::new(),
        }
    }

    fn state_of(&self, height: Height, peers: &Peers, standing: &Standing) -> NodeState {
        let best = peers.rows.iter().filter_map(|peer| peer.height).max().unwrap_or(0);
        if standing.halted {
            NodeState::Halted
        } else if best > height + 5 {
            NodeState::Syncing
        } else if standing.stale_ms > STALLED_MS {
            NodeState::Stalled
        } else if height == 0 {
            NodeState::Starting
        } else {
            NodeState::Ready
        }
    }
}

fn notes(peers: &Peers, standing: &Standing) -> Vec<String> {
    let mut notes = Vec::new();
    if peers.rows.is_empty() {
        notes.push("no peer is connected; check the bootnodes and the listening ports".to_owned());
    }
    if standing.stale_ms > STALLED_MS {
        notes.push(format!("no checkpoint became final for {} s", standing.stale_ms / 1_000));
    }
    if !standing.evidence.is_empty() {
        notes.push(format!("{} committee members signed contradicting votes", standing.evidence.len()));
    }
    // Old troubles say nothing once somebody is connected.
    if peers.rows.is_empty() {
        notes.extend(peers.troubles.iter().take(8).cloned());
    }
    notes
}

#[async_trait]
impl Backend for Asks {
    async fn status(&self) -> Result<NodeStatus, ReadError> {
        let (view, peers, standing) = (self.view(None).await?, self.peers_now().await?, self.standing().await?);
        let (about, header) = (&self.about, &view.tip.header);
        Ok(NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: about.name.clone(),
            node: about.node,
            chain_id: view.state.chain_id(),
            network: about.network.clone(),
            roles: about.roles.names().iter().map(ToString::to_string).collect(),
            state: self.state_of(header.height, &peers, &standing),
            height: header.height,
            finalised: view.tip.hash,
            finalised_at: Moment(header.timestamp_ms),
            finalised_age_ms: standing.stale_ms,
            peers: count(peers.rows.len()),
            uptime_s: about.clock.mono_ms() / 1_000,
            rss_bytes: (about.rss)(),
            account: about.account,
            votes: standing.member.is_some(),
            subnets: view.subnet_briefs(),
            notes: notes(&peers, &standing),
        })
    }

    async fn readiness(&self) -> Readiness {
        let check = |name: &str, ok: bool, detail: String| ReadinessCheck { name: name.to_owned(), ok, detail };
        let checks = match self.status().await {
            Ok(status) => vec![
                check("actors", true, "all answer".to_owned()),
                check("peers", status.peers > 0, format!("{} connected", status.peers)),
                check("height", status.state == NodeState::Ready, format!("{} at {}", status.state, status.height)),
            ],
            Err(error) => vec![check("actors", false, error.to_string())],
        };
        Readiness { ready: checks.iter().all(|check| check.ok), checks }
    }

    async fn head(&self) -> Result<HeadReport, ReadError> {
        Ok(self.view(None).await?.head(&self.about.committee))
    }

    async fn checkpoint(&self, height: Height) -> Result<CheckpointReport, ReadError> {
        self.view(None).await?.checkpoint(height, &self.about.committee).map_err(read_error)
    }

    async fn transaction(&self, id: Digest) -> Result<TransactionReport, ReadError> {
        let pending = reply(&self.links.read_pending, ReadPending(id)).await?;
        self.view(None).await?.transaction(&id, pending).map_err(read_error)
    }

    async fn account(&self, account: AccountId) -> Result<AccountReport, ReadError> {
        Ok(self.view(Some(account)).await?.account(account))
    }

    async fn stake(&self, account: AccountId) -> Result<StakeReport, ReadError> {
        Ok(self.view(None).await?.stake(account))
    }

    async fn statement(&self, account: AccountId, from: Height, to: Height) -> Result<StatementReport, ReadError> {
        self.view(None).await?.statement(account, from, to).map_err(read_error)
    }

    async fn line_proof(&self, height: Height, index: u32) -> Result<LineProofReport, ReadError> {
        self.view(None).await?.line_proof(height, index).map_err(read_error)
    }

    async fn fees(&self) -> Result<FeesReport, ReadError> {
        Ok(self.view(None).await?.fees())
    }

    async fn committee(&self) -> Result<CommitteeReport, ReadError> {
        let (view, peers, standing) = (self.view(None).await?, self.peers_now().await?, self.standing().await?);
        let mut report = view.committee(&self.about.committee, standing.member);
        for row in &mut report.members {
            let told = peers.voters.iter().find(|(key, _)| *key == row.key).map(|(_, node)| *node);
            row.node = if row.local { Some(self.about.node) } else { told };
        }
        Ok(report)
    }

    async fn supply(&self) -> Result<SupplyReport, ReadError> {
        Ok(self.view(None).await?.supply())
    }

    async fn subnets(&self) -> Result<Vec<SubnetReport>, ReadError> {
        Ok(self.view(None).await?.subnets())
    }

    async fn subnet(&self, subnet: SubnetId) -> Result<SubnetReport, ReadError> {
        self.view(None).await?.subnet(subnet).map_err(read_error)
    }

    async fn standing(&self, subnet: SubnetId) -> Result<StandingReport, ReadError> {
        self.view(None).await?.standing(subnet).map_err(read_error)
    }

    async fn budget(&self) -> Result<BudgetReport, ReadError> {
        Ok(self.view(None).await?.budget())
    }

    async fn metagraph(&self, subnet: SubnetId) -> Result<MetagraphReport, ReadError> {
        let (view, peers) = (self.view(None).await?, self.peers_now().await?);
        let opinions = self.opinions().await;
        let mut report = view.metagraph(subnet).map_err(read_error)?;
        for row in &mut report.rows {
            let told = peers.accounts.iter().find(|(account, _)| *account == row.account).map(|(_, node)| *node);
            row.node = if self.about.account == Some(row.account) { Some(self.about.node) } else { told };
            if let Some(opinion) = opinions.get(&subnet).and_then(|members| members.get(&row.member)) {
                row.weight = opinion.weight;
                row.score = opinion.score.map(share_of);
            }
        }
        Ok(report)
    }

    async fn weights(&self, subnet: SubnetId) -> Result<WeightsReport, ReadError> {
        self.view(None).await?.weights(subnet).map_err(read_error)
    }

    async fn history(&self, subnet: SubnetId, epochs: u64) -> Result<HistoryReport, ReadError> {
        self.weights_history(subnet, epochs).await
    }

    async fn duties(&self, account: Option<AccountId>) -> Result<DutiesReport, ReadError> {
        self.validator_duties(account).await
    }

    async fn replay(
        &self,
        subnet: SubnetId,
        epoch: Epoch,
        validator: Option<MemberId>,
    ) -> Result<ReplayReport, ReadError> {
        self.replay_epoch(subnet, epoch, validator).await
    }

    async fn why(
        &self,
        subnet: SubnetId,
        member: MemberId,
        epoch: Option<Epoch>,
        logs: bool,
    ) -> Result<WhyReport, ReadError> {
        self.why_paid(subnet, member, epoch, logs).await
    }

    async fn peers(&self) -> Result<PeersReport, ReadError> {
        let peers = self.peers_now().await?;
        let peer_id = crate::net::peer_id_text(self.about.node).unwrap_or_default();
        let full = |address: &String| {
            if address.contains("/p2p/") { address.clone() } else { format!("{address}/p2p/{peer_id}") }
        };
        let listening = peers.local_addresses.iter().map(full).collect();
        Ok(PeersReport { node: self.about.node, peer_id, listening, peers: peers.rows })
    }

    async fn miner(&self) -> Result<MinerReport, ReadError> {
        let (mut miners, view) = (reply(&self.links.read_serving, ReadServing).await?, self.view(None).await?);
        for row in &mut miners {
            let Some(subnet) = view.state.subnet(row.subnet) else { continue };
            (row.name, row.task) = (subnet.name.clone(), subnet.task.clone());
            let Some(account) = self.about.account else { continue };
            let Some(member) = view.state.member_of(row.subnet, Role::Miner, &account) else {
                row.notes.push("not registered yet: `starling subnet register` gives it a seat".to_owned());
                continue;
            };
            let seats: Vec<_> = view.state.members(row.subnet).filter(|(_, seat)| seat.role == Role::Miner).collect();
            let Some(own) = view.state.member(row.subnet, member) else { continue };
            let better = seats.iter().filter(|(_, seat)| seat.incentive > own.incentive).count();
            row.member = Some(member);
            row.incentive = Share(u64::from(own.incentive));
            row.earned = crate::protocol::report::Motes(own.earned);
            row.rank = (own.incentive > 0).then(|| count(better + 1));
            row.of = count(seats.len());
        }
        Ok(MinerReport { account: self.about.account, miners })
    }

    async fn submit(&self, transaction: Vec<u8>) -> Result<SubmitReport, SubmitError> {
        let unavailable = |error: crate::actors::mail::AskError| SubmitError::Unavailable(error.to_string());
        let message = SubmitTransaction { bytes: transaction.clone() };
        let submitted = ask(&self.links.submit, message, READ_DEADLINE).await.map_err(unavailable)?;
        let submitted = submitted.map_err(|refusal| submit_error(&refusal))?;
        let weights = SignedTransaction::decode(&transaction).is_ok_and(|s| s.transaction.class() == Class::System);
        let outbound = if weights { Outbound::Weights(transaction) } else { Outbound::Transaction(transaction) };
        if !tell(&self.links.publish, Publish(outbound)) {
            return Err(SubmitError::Unavailable("the network's queue is full; submit it again".to_owned()));
        }
        Ok(SubmitReport { id: submitted.id, new: submitted.new, height: submitted.height })
    }

    async fn models(&self) -> Result<Vec<ModelReport>, ReadError> {
        let (view, peers) = (self.view(None).await?, self.peers_now().await?);
        let here = |account: &AccountId| {
            self.about.account == Some(*account) || peers.accounts.iter().any(|(known, _)| known == account)
        };
        let genesis = view.state.timestamp_ms().min(view.tip.header.timestamp_ms);
        let report = |(id, subnet): (&SubnetId, &Subnet)| {
            let miners = view.state.members(*id).filter(|(_, m)| m.role == Role::Miner && here(&m.account)).count();
            ModelReport {
                id: subnet.name.clone(),
                subnet: *id,
                task: subnet.task.clone(),
                created: Moment(genesis),
                miners: count(miners),
            }
        };
        Ok(view.state.range::<Subnet>(..).map(report).collect())
    }

    async fn model_rows(&self) -> Result<Vec<ModelRow>, ReadError> {
        self.rows().await
    }

    async fn model_detail(&self, id: Digest) -> Result<ModelDetail, ReadError> {
        self.detail(id).await
    }

    async fn artifacts(&self) -> Result<Vec<ArtifactReport>, ReadError> {
        self.shelf().await
    }

    async fn artifact(&self, id: Digest) -> Result<ArtifactReport, ReadError> {
        self.artifact_now(id).await
    }

    async fn put_artifact(&self, bytes: Vec<u8>) -> Result<ArtifactReport, ReadError> {
        self.put(bytes).await
    }

    async fn pull_artifact(&self, id: Digest) -> Result<ArtifactReport, ReadError> {
        self.pull(id).await
    }

    async fn artifact_chunk(&self, id: Digest, index: u32) -> Result<Vec<u8>, ReadError> {
        self.chunk(id, index).await
    }

    async fn drop_artifact(&self, id: Digest) -> Result<bool, ReadError> {
        Asks::drop_artifact(self, id).await
    }

    async fn query(&self, query: Ask) -> Result<AnswerStream, QueryError> {
        let (sender, frames) = mpsc::channel::<Frame>(FRAMES);
        let submitted = ask(&self.links.query, SubmitQuery { ask: query, frames: sender }, READ_DEADLINE).await;
        let id = submitted.map_err(|error| QueryError::new(QueryFault::Internal, error.to_string()))??;
        Ok(AnswerStream { id, frames })
    }

    async fn chaos(&self, blocked: Vec<NodeId>, lag_ms: u64) -> Result<(), ReadError> {
        if !self.about.dev {
            return Err(ReadError::NotFound("this is no development network".to_owned()));
        }
        self.about
            .transport
            .try_command(Command::Chaos { blocked, lag_ms })
            .map_err(|busy| ReadError::Unavailable(busy.to_string()))
    }
}

/// A score for people.
fn share_of(score: f64) -> Share {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to [0, 1]")]
    let raw = (score.clamp(0.0, 1.0) * 4_294_967_296.0).round() as u64;
    Share(raw)
}

/// The ledger's refusal in the words of the face.
fn submit_error(refusal: &Refusal) -> SubmitError {
    let message = refusal.to_string();
    let code = match refusal {
        Refusal::Layout(_) | Refusal::Signature => return SubmitError::Malformed(message),
        Refusal::FeeNotPayable { .. } | Refusal::NoEffect(Code::BalanceTooLow) => {
            return SubmitError::Insufficient(message);
        }
        Refusal::PoolFull | Refusal::BodyFull | Refusal::AccountFull { .. } => {
            return SubmitError::Unavailable(message);
        }
        Refusal::Expired { .. } => "expired",
        Refusal::ValidTooLong { .. } => "valid_too_long",
        Refusal::UnknownAccount => "unknown_account",
        Refusal::Nonce { .. } => "nonce",
        Refusal::FeeTooLow { .. } => "fee_too_low",
        Refusal::FeeNotZero => "fee_not_zero",
        Refusal::NoEffect(_) => "no_effect",
        Refusal::ReplacementTooLow { .. } => "replacement_too_low",
    };
    SubmitError::Refused { code: code.to_owned(), message }
}
