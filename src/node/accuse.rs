//! Contradictions of committee members, brought before the ledger (C45).
//!
//! Consensus sees them and keeps them; here they become a transaction, once for each signer and term, by whoever has an
//! account. It is free, everybody who saw it brings it, and the first that is included has the reward; the others are
//! refused without a trace.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::Recipient;

use super::Node;
use crate::actors::checkpointer::ReadConsensus;
use crate::actors::ledger::{ReadLedger, SubmitTransaction};
use crate::actors::mail::{ask, tell, to};
use crate::actors::router::{Outbound, Publish};
use crate::ledger::offence::Offence;
use crate::protocol::checkpoint::Evidence;
use crate::protocol::ids::{AccountId, ChainId, Term};
use crate::protocol::keys::SecretKey;
use crate::protocol::transaction::{Action, Transaction};

const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether there is anything to bring.
const LOOK: Duration = Duration::from_secs(10);
/// Heights that an accusation stays valid.
const VALID_HEIGHTS: u64 = 15;

/// Whom accusing needs.
#[derive(Clone, Debug)]
pub struct Links {
    pub read_consensus: Recipient<ReadConsensus>,
    pub read_ledger: Recipient<ReadLedger>,
    pub submit: Recipient<SubmitTransaction>,
    pub publish: Recipient<Publish>,
}

/// Who accuses.
#[derive(Clone, Debug)]
pub struct Accuser {
    pub chain: ChainId,
    pub account: SecretKey,
    pub links: Links,
}

impl Accuser {
    /// For what this node's consensus sees.
    pub fn of(node: &Node, chain: ChainId, account: SecretKey) -> Self {
        let links = Links {
            read_consensus: to(&node.checkpointer),
            read_ledger: to(&node.ledger),
            submit: to(&node.ledger),
            publish: to(&node.router),
        };
        Self { chain, account, links }
    }

    /// Brings everything that this node saw and the ledger does not know. How many that were.
    ///
    /// # Errors
    /// In words: the node does not answer, or the ledger refuses.
    pub async fn look(&self) -> Result<usize, String> {
        let seen = ask(&self.links.read_consensus, ReadConsensus, DEADLINE).await.map_err(|e| e.to_string())?.evidence;
        let mut told = BTreeSet::new();
        for evidence in seen {
            let of: (Term, u16) = (evidence.votes().0.subject.term, evidence.signer());
            if told.contains(&of) || self.stands(of).await? {
                continue;
            }
            self.send(evidence).await?;
            told.insert(of);
        }
        Ok(told.len())
    }

    async fn stands(&self, (term, signer): (Term, u16)) -> Result<bool, String> {
        let view = ask(&self.links.read_ledger, ReadLedger { account: None }, DEADLINE).await;
        Ok(view.map_err(|e| e.to_string())?.state.get::<Offence>(&(term, signer.into())).is_some())
    }

    async fn send(&self, evidence: Evidence) -> Result<(), String> {
        let account: AccountId = self.account.public().into();
        let view = ask(&self.links.read_ledger, ReadLedger { account: Some(account) }, DEADLINE).await;
        let view = view.map_err(|e| e.to_string())?;
        let valid_until = view.tip.header.height + VALID_HEIGHTS;
        let action = Action::Accuse(Box::new(evidence));
        let transaction = Transaction { account, nonce: view.next_nonce, fee: 0, valid_until, action };
        let bytes = transaction.sign(&self.chain, &self.account).map_err(|e| e.to_string())?.encode();
        let taken = ask(&self.links.submit, SubmitTransaction { bytes: bytes.clone() }, DEADLINE).await;
        taken.map_err(|e| e.to_string())?.map_err(|refusal| refusal.to_string())?;
        tracing::warn!(signer = evidence.signer(), "a committee member is accused before the ledger");
        if tell(&self.links.publish, Publish(Outbound::Transaction(bytes))) {
            Ok(())
        } else {
            Err("the network's queue is full".to_owned())
        }
    }

    /// Looks for as long as the node runs.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look().await {
                tracing::warn!(error, "a contradiction could not be brought before the ledger");
            }
        }
    }
}
