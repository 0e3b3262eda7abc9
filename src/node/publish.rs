//! A miner's model made public: on the shelf with its manifest, then on the ledger (M13, M15).
//!
//! The record is sent once the account has its seat, so that nothing else of this account is under way; a record that
//! stands already is not sent again, also after a restart. Nothing here is needed to serve: without a record a miner
//! answers all the same, and nobody can check what it answered with.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::Recipient;

use super::miners::Miner;
use crate::actors::artifact_keeper::PutArtifact;
use crate::actors::ledger::{ReadLedger, SubmitTransaction, View};
use crate::actors::mail::{ask, tell};
use crate::actors::router::{Outbound, Publish};
use crate::actors::scorer::KIND_COMPETITION;
use crate::ledger::apply::minimum_fee;
use crate::ledger::models::Seal;
use crate::ml::model::Artifact;
use crate::protocol::artifact::manifest::{DataRef, FORMAT, Manifest};
use crate::protocol::artifact::publish::{Licence, ModelPublish};
use crate::protocol::ids::{AccountId, ChainId, Digest, SubnetId, hash};
use crate::protocol::keys::SecretKey;
use crate::protocol::transaction::{Action, Role, Transaction};

const DEADLINE: Duration = Duration::from_secs(60);
/// How often the ledger is looked at while waiting.
const LOOK: Duration = Duration::from_secs(1);
/// Looks until another try, and tries at most.
const LOOKS: u32 = 20;
const TRIES: u32 = 30;
/// Heights that the record stays valid.
const VALID_HEIGHTS: u64 = 15;

/// Whom publishing needs.
#[derive(Clone, Debug)]
pub struct Links {
    pub put: Recipient<PutArtifact>,
    pub read_ledger: Recipient<ReadLedger>,
    pub submit: Recipient<SubmitTransaction>,
    pub publish: Recipient<Publish>,
}

/// Who publishes. Without an account the model is shared and not recorded.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub chain: ChainId,
    pub account: Option<SecretKey>,
    pub links: Links,
}

/// What a miner's own training says about its model.
pub fn manifest_of(task: &str, artifact: &Artifact, id: Digest, bytes: u64, engine: &str) -> Manifest {
    let architecture = artifact.architecture();
    let numbers = architecture.numbers().into_iter().map(|(name, value)| (name.to_owned(), value as u64));
    Manifest {
        format: FORMAT,
        task: task.to_owned(),
        architecture: architecture.name().to_owned(),
        numbers: numbers.collect(),
        tokenizer: (task == "text").then(|| "bytes".to_owned()),
        artifact: id,
        bytes,
        parent: None,
        licence: Licence(3).name().to_owned(),
        data: vec![DataRef {
            name: format!("starling {task}"),
            hash: Digest::ZERO,
            licence: "docs/data.md".to_owned(),
        }],
        engine: engine.to_owned(),
        fingerprint: None,
        metrics: BTreeMap::new(),
    }
}

impl Publisher {
    /// Shares and records a model; ends when the record stands.
    ///
    /// # Errors
    /// In words: no room, no seat in time, or the ledger refuses.
    pub async fn publish(&self, miner: &Miner, artifact: &Artifact) -> Result<(), String> {
        let bytes = artifact.to_bytes();
        let size = bytes.len() as u64;
        let id = self.put(bytes).await?;
        let manifest = manifest_of(&miner.task, artifact, id, size, concat!("starling/", env!("CARGO_PKG_VERSION")));
        let manifest = self.put(manifest.to_bytes()).await?;
        let Some(key) = &self.account else { return Ok(()) };
        let record = ModelPublish {
            subnet: miner.subnet,
            manifest,
            artifact: id,
            bytes: size,
            parent: Digest::ZERO,
            licence: Licence(3),
            sealed: false,
            salt: [0; 32],
            claims: Vec::new(),
        };
        let account = key.public().into();
        let competes =
            |view: &View| view.state.subnet(miner.subnet).is_some_and(|of| of.rules.kind == KIND_COMPETITION);
        let record = if competes(&self.view(account).await?) {
            // Who is first is told by the seal: nobody can copy what nobody has seen (M2).
            let salt = hash("starling/1 model salt", &[key.seed(), &id.0]).0;
            self.record(key, ModelPublish::sealed(miner.subnet, &id, &account, &salt), id).await?;
            ModelPublish { salt, ..record }
        } else {
            record
        };
        self.record(key, record, id).await?;
        tracing::info!(subnet = %miner.subnet, model = %id.short(), "the model stands on the ledger");
        Ok(())
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, String> {
        ask(&self.links.put, PutArtifact { bytes }, DEADLINE).await.map_err(|error| error.to_string())?
    }

    pub(super) async fn view(&self, account: AccountId) -> Result<View, String> {
        ask(&self.links.read_ledger, ReadLedger { account: Some(account) }, DEADLINE).await.map_err(|e| e.to_string())
    }

    /// Brings a record onto the ledger, or the seal over one; done when it stands, or what it seals does.
    async fn record(&self, key: &SecretKey, record: ModelPublish, artifact: Digest) -> Result<(), String> {
        let account: AccountId = key.public().into();
        let subnet = record.subnet;
        let stands = |view: &View| {
            let seal = view.state.get::<Seal>(&(subnet, account));
            view.state.model(subnet, artifact).is_some()
                || record.sealed && seal.is_some_and(|of| of.seal == record.artifact)
        };
        let mut trouble = "no seat in the subnet".to_owned();
        let mut tries = 0;
        while tries < TRIES {
            let view = self.view(account).await?;
            if stands(&view) {
                return Ok(());
            }
            if !seated(&view, subnet, &account) {
                // A seat may take as long as it takes; nothing was sent, so nothing was tried.
                tokio::time::sleep(LOOK).await;
                continue;
            }
            tries += 1;
            if let Err(error) = self.send(key, &view, record.clone()).await {
                trouble = error;
            }
            for _ in 0..LOOKS {
                tokio::time::sleep(LOOK).await;
                if stands(&self.view(account).await?) {
                    return Ok(());
                }
            }
        }
        Err(trouble)
    }

    async fn send(&self, key: &SecretKey, view: &View, record: ModelPublish) -> Result<(), String> {
        let mut transaction = Transaction {
            account: key.public().into(),
            nonce: view.next_nonce,
            fee: 0,
            valid_until: view.tip.header.height + VALID_HEIGHTS,
            action: Action::ModelPublish(Box::new(record)),
        };
        transaction.fee = minimum_fee(&view.state, &transaction.action, transaction.signed_bytes());
        let signed = transaction.sign(&self.chain, key).map_err(|error| error.to_string())?;
        let bytes = signed.encode();
        let submit = SubmitTransaction { bytes: bytes.clone() };
        let taken = ask(&self.links.submit, submit, DEADLINE).await.map_err(|error| error.to_string())?;
        taken.map_err(|refusal| refusal.to_string())?;
        if tell(&self.links.publish, Publish(Outbound::Transaction(bytes))) {
            Ok(())
        } else {
            Err("the network's queue is full".to_owned())
        }
    }
}

fn seated(view: &View, subnet: SubnetId, account: &AccountId) -> bool {
    view.state.member_of(subnet, Role::Miner, account).is_some()
}
