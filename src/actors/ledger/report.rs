//! The ledger for people: reports made of a `View`, off the ledger's own thread.
//!
//! Nothing here decides. What only other actors know (nodes, scores) is filled in by whoever asks them too.

use std::collections::BTreeMap;

use super::View;
use super::archive::ArchiveError;
use crate::ledger::apply::PAID_BYTES_MAX;
use crate::ledger::economy::rows::Charter;
use crate::ledger::receipt::Code;
use crate::ledger::rows::{Member, Pool, Shares, Subnet, Vector};
use crate::ledger::view::MetagraphRow as LedgerRow;
use crate::protocol::checkpoint::Checkpoint;
use crate::protocol::committee::Committee;
use crate::protocol::ids::{AccountId, Digest, Height, MemberId, SubnetId};
use crate::protocol::parameters::SubnetRules;
use crate::protocol::report::{
    AccountReport, CheckpointReport, CommitteeReport, CommitteeRow, DelegationReport, FeesReport, HeadReport,
    Membership, MetagraphReport, MetagraphRow, Moment, Motes, PoolReport, Share, StakeReport, SubnetBrief,
    SubnetReport, SupplyReport, TransactionBrief, TransactionReport, TransactionState, UnbondingReport, WeightEntry,
    WeightsReport, WeightsRow,
};
use crate::protocol::transaction::{Action, Role, SignedTransaction, VALID_HEIGHTS_MAX};
use crate::protocol::units::format_star;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

fn not_found<T>(what: impl Into<String>) -> Result<T, ReportError> {
    Err(ReportError::NotFound(what.into()))
}

/// A raw 0.32 fraction as a share.
fn share(raw: u32) -> Share {
    // The fraction saturates one unit below 1.
    Share(if raw == u32::MAX { 1 << 32 } else { u64::from(raw) })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl View {
    pub fn head(&self, committee: &Committee) -> HeadReport {
        let header = &self.tip.header;
        HeadReport {
            height: header.height,
            hash: self.tip.hash,
            time: Moment(header.timestamp_ms),
            view: header.view,
            proposer: committee.get(header.proposer).map(|member| member.account).unwrap_or_default(),
            state_root: header.state_root,
            transactions: count(self.tip.transactions),
            finality_ms: self.finality_ms,
        }
    }

    /// # Errors
    /// No such checkpoint here, or the store fails.
    pub fn checkpoint(&self, height: Height, committee: &Committee) -> Result<CheckpointReport, ReportError> {
        let Some(checkpoint) = self.archive.checkpoint(height)? else {
            return not_found(format!("no checkpoint {height} here; the last final one is {}", self.tip.header.height));
        };
        let Checkpoint { header, body, certificate } = &checkpoint;
        let signers: Vec<u16> = certificate.iter().flat_map(|certificate| certificate.signers.iter()).collect();
        let briefs = body.transactions.iter().filter_map(|bytes| SignedTransaction::decode(bytes).ok());
        Ok(CheckpointReport {
            height,
            hash: header.hash(),
            parent: header.parent_hash,
            term: header.term,
            view: header.view,
            time: Moment(header.timestamp_ms),
            proposer: committee.get(header.proposer).map(|member| member.account).unwrap_or_default(),
            state_root: header.state_root,
            body_root: header.body_root,
            receipt_root: header.receipt_root,
            body_bytes: u64::try_from(body.bytes()).unwrap_or(u64::MAX),
            signed_weight: committee.weight_of(signers.iter().copied()),
            signers: signers.into_iter().map(u32::from).collect(),
            total_weight: committee.total(),
            transactions: briefs.map(|signed| self.brief(&signed)).collect::<Result<_, _>>()?,
        })
    }

    fn brief(&self, signed: &SignedTransaction) -> Result<TransactionBrief, ReportError> {
        let place = self.archive.place(&signed.id)?;
        Ok(TransactionBrief {
            id: signed.id,
            kind: signed.transaction.action.name().to_owned(),
            account: signed.transaction.account,
            fee: Motes(place.map_or(signed.transaction.fee, |place| place.receipt.fee)),
            code: place.map_or(0, |place| place.receipt.code.number()),
        })
    }

    /// A final transaction, or the pending one whose bytes are given.
    ///
    /// # Errors
    /// Nobody here has seen it, or the store fails.
    pub fn transaction(&self, id: &Digest, pending: Option<Vec<u8>>) -> Result<TransactionReport, ReportError> {
        if let Some(place) = self.archive.place(id)? {
            let checkpoint = self.archive.checkpoint(place.height)?.ok_or(ArchiveError::Missing(place.height))?;
            let index = usize::try_from(place.index).unwrap_or(usize::MAX);
            let bytes = checkpoint.body.transactions.get(index).ok_or(ArchiveError::Missing(place.height))?;
            let applied = place.receipt.code == Code::Applied;
            let state = if applied { TransactionState::Final } else { TransactionState::Failed };
            let report = describe(bytes, state);
            return match report {
                Some(report) => Ok(TransactionReport {
                    height: Some(place.height),
                    index: Some(place.index),
                    fee: Motes(place.receipt.fee),
                    code: place.receipt.code.number(),
                    outcome: place.receipt.code.to_string(),
                    ..report
                }),
                None => Err(ArchiveError::Missing(place.height).into()),
            };
        }
        match pending.and_then(|bytes| describe(&bytes, TransactionState::Pending)) {
            Some(report) => Ok(TransactionReport { outcome: "waits for a checkpoint".to_owned(), ..report }),
            None => not_found(format!("no transaction {id} is final or waiting here")),
        }
    }

    pub fn account(&self, id: AccountId) -> AccountReport {
        let Some(view) = self.state.account_view(&id) else {
            let height = self.state.height();
            return AccountReport {
                account: id,
                display: format_star(0),
                nonce: self.next_nonce,
                height,
                ..Default::default()
            };
        };
        let membership = |seat: &crate::ledger::view::Membership| Membership {
            subnet: seat.subnet,
            name: self.state.subnet(seat.subnet).map(|subnet| subnet.name.clone()).unwrap_or_default(),
            member: seat.member,
            role: seat.role.to_string(),
            stake: Motes(view.stake),
            earned: Motes(self.state.member(seat.subnet, seat.member).map_or(0, |member| member.earned)),
        };
        AccountReport {
            account: id,
            exists: true,
            amount: Motes(view.balance),
            display: format_star(view.balance),
            staked: Motes(view.stake),
            nonce: self.next_nonce,
            memberships: view.memberships.iter().map(membership).collect(),
            height: self.state.height(),
        }
    }

    /// What an account has in pools, and the pool it runs (E18).
    pub fn stake(&self, account: AccountId) -> StakeReport {
        let view = self.state.account_view(&account);
        let height = self.state.height();
        let delegation = |(validator, held): (AccountId, &Shares)| DelegationReport {
            validator,
            worth: Motes(self.state.worth(&account, &validator)),
            bound_until: if held.moved_until > height { held.moved_until } else { 0 },
        };
        let waiting = view.iter().flat_map(|view| &view.waiting);
        let unbonding = waiting.filter_map(|item| {
            item.pool.map(|validator| UnbondingReport { validator, amount: Motes(item.amount), at: item.height })
        });
        let pool = self.state.get::<Pool>(&account).map(|pool| {
            let rise = pool.rise.filter(|rise| rise.1 > height);
            PoolReport {
                total: Motes(pool.total),
                holders: pool.holders,
                take_bp: pool.take_at(height),
                next_take_bp: rise.map(|rise| rise.0),
                next_take_at: rise.map(|rise| rise.1),
            }
        });
        StakeReport {
            account,
            height,
            staked: Motes(view.as_ref().map_or(0, |view| view.stake)),
            owed: Motes(view.as_ref().map_or(0, |view| view.owed)),
            delegations: self.state.holdings(&account).map(delegation).collect(),
            unbonding: unbonding.filter(|item| item.amount.0 > 0).collect(),
            pool,
        }
    }

    pub fn fees(&self) -> FeesReport {
        let (fee_byte, fee_unit) = self.state.base_fees();
        FeesReport {
            chain_id: self.state.chain_id(),
            height: self.state.height(),
            fee_byte: Motes(fee_byte),
            fee_unit: Motes(fee_unit),
            validity_max: VALID_HEIGHTS_MAX,
            account_min: Motes(self.state.parameters().min_account),
        }
    }

    pub fn committee(&self, committee: &Committee, local: Option<u16>) -> CommitteeReport {
        let signed: Vec<u16> = self.tip.certificate.iter().flat_map(|certificate| certificate.signers.iter()).collect();
        let row = |(index, member): (u16, &crate::protocol::committee::CommitteeMember)| CommitteeRow {
            index: index.into(),
            key: member.key,
            account: member.account,
            node: None,
            weight: member.weight,
            share: Share::of(member.weight, committee.total()),
            signed_last: signed.contains(&index),
            local: local == Some(index),
        };
        CommitteeReport {
            term: committee.term(),
            set_hash: committee.set_hash(),
            total_weight: committee.total(),
            quorum_weight: committee.total() - (committee.total().saturating_sub(1)) / 3,
            members: (0..).zip(committee.members()).map(row).collect(),
        }
    }

    pub fn supply(&self) -> SupplyReport {
        let view = self.state.supply_view();
        SupplyReport {
            height: view.height,
            genesis: Motes(view.genesis),
            minted: Motes(view.minted),
            burned: Motes(view.burned),
            total: Motes(view.total),
            ok: view.ok,
        }
    }

    pub fn subnets(&self) -> Vec<SubnetReport> {
        self.state.range::<Subnet>(..).map(|(id, subnet)| self.subnet_report(*id, subnet)).collect()
    }

    /// # Errors
    /// There is no such subnet.
    pub fn subnet(&self, id: SubnetId) -> Result<SubnetReport, ReportError> {
        match self.state.subnet(id) {
            Some(subnet) => Ok(self.subnet_report(id, subnet)),
            None => not_found(format!("there is no subnet {id}; `starling subnet list` shows them")),
        }
    }

    pub fn subnet_briefs(&self) -> Vec<SubnetBrief> {
        let brief = |(id, subnet): (&SubnetId, &Subnet)| SubnetBrief {
            id: *id,
            name: subnet.name.clone(),
            task: subnet.task.clone(),
            epoch: subnet.epoch,
            miners: subnet.miners,
            validators: subnet.validators,
        };
        self.state.range::<Subnet>(..).map(brief).collect()
    }

    fn subnet_report(&self, id: SubnetId, subnet: &Subnet) -> SubnetReport {
        let staked = self
            .state
            .members(id)
            .filter(|(_, member)| member.role == Role::Validator)
            .map(|(_, member)| self.state.stake(&member.account))
            .fold(0, u64::saturating_add);
        let parameters = SubnetRules::SPECS
            .iter()
            .map(|spec| (spec.name.to_owned(), (spec.get)(&subnet.rules).to_string()))
            .collect();
        SubnetReport {
            id,
            name: subnet.name.clone(),
            task: subnet.task.clone(),
            kind: if subnet.rules.kind == 1 { "competition" } else { "service" }.to_owned(),
            owner: self.state.get::<Charter>(&id).and_then(|charter| charter.owner),
            tempo: subnet.rules.tempo,
            epoch: subnet.epoch,
            epoch_ends: subnet.next_open,
            emission_per_epoch: Motes(self.per_epoch(id, subnet)),
            validators: subnet.validators,
            miners: subnet.miners,
            members_max: u32::try_from(subnet.rules.slots).unwrap_or(u32::MAX),
            registration_price: Motes(
                self.state.place_price(id, &subnet.rules, self.state.height().saturating_add(1)).whole,
            ),
            staked: Motes(staked),
            parameters,
        }
    }

    /// # Errors
    /// There is no such subnet.
    pub fn metagraph(&self, id: SubnetId) -> Result<MetagraphReport, ReportError> {
        let (Some(subnet), Some(rows)) = (self.state.subnet(id), self.state.metagraph(id)) else {
            return not_found(format!("there is no subnet {id}; `starling subnet list` shows them"));
        };
        Ok(MetagraphReport {
            subnet: id,
            name: subnet.name.clone(),
            task: subnet.task.clone(),
            tempo: subnet.rules.tempo,
            epoch: subnet.epoch,
            height: self.state.height(),
            rows: rows.iter().map(|row| self.row(id, row)).collect(),
        })
    }

    /// What an epoch mints at the current grant (E7).
    fn per_epoch(&self, id: SubnetId, subnet: &Subnet) -> u64 {
        let term = u128::from(self.state.parameters().term_heights.max(1));
        let grant = u128::from(self.state.purse(id).grant());
        u64::try_from(grant * u128::from(subnet.rules.tempo) / term).unwrap_or(u64::MAX)
    }

    fn row(&self, id: SubnetId, row: &LedgerRow) -> MetagraphRow {
        let miner = row.role == Role::Miner;
        let active = if miner { !row.leaving } else { row.permit && row.last_reveal.is_some() };
        let purse = self.state.purse(id);
        let pot = if miner { purse.last_miners } else { purse.last_validators };
        let part = if miner { row.incentive } else { row.dividend };
        MetagraphRow {
            member: row.member,
            account: row.account,
            node: None,
            role: row.role.to_string(),
            active,
            stake: Motes(row.stake),
            weight: None,
            consensus: miner.then(|| share(row.consensus)),
            incentive: share(row.incentive),
            dividends: share(row.dividend),
            trust: (!miner).then(|| share(row.trust)),
            score: None,
            earned: Motes(row.earned),
            earned_last_epoch: Motes(u64::try_from((u128::from(pot) * u128::from(part)) >> 32).unwrap_or(0)),
            registered_at: row.registered,
            bond: Motes(row.bond),
            missed: row.missed,
            freshness: self.freshness(id, row.member),
            last_reveal: self.vector(id, row.member).map(|vector| vector.epoch),
        }
    }

    /// χ for people.
    fn freshness(&self, subnet: SubnetId, member: MemberId) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let part = |raw: i64| raw as f64 / (1_u64 << 32) as f64;
        self.state.freshness(subnet, member).map(part)
    }

    fn vector(&self, subnet: SubnetId, member: MemberId) -> Option<&Vector> {
        self.state.get(&(subnet, member))
    }

    /// The vectors in force.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn weights(&self, id: SubnetId) -> Result<WeightsReport, ReportError> {
        let Some(subnet) = self.state.subnet(id) else {
            return not_found(format!("there is no subnet {id}; `starling subnet list` shows them"));
        };
        let validators = self.state.members(id).filter(|(_, member)| member.role == Role::Validator);
        Ok(WeightsReport {
            subnet: id,
            name: subnet.name.clone(),
            epoch: subnet.epoch,
            validators: validators.map(|(member, row)| self.weights_row(id, member, row)).collect(),
        })
    }

    fn weights_row(&self, subnet: SubnetId, member: MemberId, row: &Member) -> WeightsRow {
        let vector = self.vector(subnet, member);
        let entries = vector.map(|vector| &*vector.weights).unwrap_or_default();
        WeightsRow {
            validator: member,
            account: row.account,
            stake: Motes(self.state.stake(&row.account)),
            epoch: vector.map(|vector| vector.epoch),
            committed_at: None,
            revealed_at: row.last_reveal,
            weights: entries.iter().map(|(miner, weight)| WeightEntry { miner: *miner, weight: *weight }).collect(),
        }
    }
}

/// A transaction in words, before its outcome.
fn describe(bytes: &[u8], state: TransactionState) -> Option<TransactionReport> {
    let signed = SignedTransaction::decode(bytes).ok().filter(|_| bytes.len() <= PAID_BYTES_MAX)?;
    let transaction = &signed.transaction;
    Some(TransactionReport {
        id: signed.id,
        state,
        height: None,
        index: None,
        kind: transaction.action.name().to_owned(),
        account: transaction.account,
        nonce: transaction.nonce,
        fee: Motes(transaction.fee),
        valid_until: transaction.valid_until,
        bytes: count(bytes.len()),
        code: 0,
        outcome: String::new(),
        fields: fields(&transaction.action),
    })
}

fn fields(action: &Action) -> BTreeMap<String, String> {
    let list: Vec<(&str, String)> = match action {
        Action::Transfer { to, amount, memo } => vec![
            ("to", to.to_string()),
            ("amount", amount.to_string()),
            ("memo", String::from_utf8_lossy(memo).into_owned()),
        ],
        Action::Stake { amount } | Action::Unstake { amount } => vec![("amount", amount.to_string())],
        Action::Delegate { validator, amount } | Action::Undelegate { validator, amount } => {
            vec![("validator", validator.to_string()), ("amount", amount.to_string())]
        }
        Action::SetTake { take_bp } => vec![("take_bp", take_bp.to_string())],
        Action::Redelegate { from, to, amount } => {
            vec![("from", from.to_string()), ("to", to.to_string()), ("amount", amount.to_string())]
        }
        Action::Claim => Vec::new(),
        Action::ChannelOpen { payee, subnet, deposit, expiry, .. } => vec![
            ("payee", payee.to_string()),
            ("subnet", subnet.to_string()),
            ("deposit", deposit.to_string()),
            ("expiry", expiry.to_string()),
        ],
        Action::ChannelTopUp { channel, amount } => {
            vec![("channel", channel.to_string()), ("amount", amount.to_string())]
        }
        Action::ChannelRedeem { voucher } | Action::ChannelChallenge { voucher } => {
            vec![("channel", voucher.channel.to_string()), ("cumulative", voucher.cumulative.to_string())]
        }
        Action::ChannelClose { channel, voucher } => {
            let cumulative = voucher.map_or(0, |voucher| voucher.cumulative);
            vec![("channel", channel.to_string()), ("cumulative", cumulative.to_string())]
        }
        Action::Register { subnet, role, operator, max_bond } => vec![
            ("subnet", subnet.to_string()),
            ("role", role.to_string()),
            ("operator", operator.to_string()),
            ("max_bond", max_bond.to_string()),
        ],
        Action::SubnetCreate { name, task, tempo, max_lock } => vec![
            ("name", name.clone()),
            ("task", task.clone()),
            ("tempo", tempo.to_string()),
            ("max_lock", max_lock.to_string()),
        ],
        Action::SubnetUpdate { subnet, owner, changes } => {
            let changes: Vec<String> = changes.iter().map(|(rule, value)| format!("{rule}={value}")).collect();
            let mut of = vec![("subnet", subnet.to_string()), ("changes", changes.join(" "))];
            of.extend(owner.map(|owner| ("owner", owner.to_string())));
            of
        }
        Action::SubnetCancel => Vec::new(),
        Action::SubnetClose { subnet } | Action::SubnetMatch { subnet } => vec![("subnet", subnet.to_string())],
        Action::Unqueue { subnet, place } => vec![("subnet", subnet.to_string()), ("place", place.to_string())],
        Action::Support { parts } => {
            let parts: Vec<String> = parts.iter().map(|(subnet, part)| format!("{subnet}:{part}")).collect();
            vec![("parts", parts.join(" "))]
        }
        Action::MemberAttest { subnet, member, miner } => {
            vec![("subnet", subnet.to_string()), ("member", member.to_string()), ("miner", miner.to_string())]
        }
        Action::Leave { subnet, member } => vec![("subnet", subnet.to_string()), ("member", member.to_string())],
        Action::ValidatorBond { subnet, member, amount } => {
            vec![("subnet", subnet.to_string()), ("member", member.to_string()), ("amount", amount.to_string())]
        }
        Action::LogChallenge { subnet, epoch, member, entry } => vec![
            ("subnet", subnet.to_string()),
            ("epoch", epoch.to_string()),
            ("member", member.to_string()),
            ("entry", entry.to_string()),
        ],
        Action::LogAnswer { deadline, number, leaf, .. } => {
            vec![("deadline", deadline.to_string()), ("number", number.to_string()), ("bytes", leaf.len().to_string())]
        }
        Action::WeightsCommit { subnet, epoch, member, hash, .. } => vec![
            ("subnet", subnet.to_string()),
            ("epoch", epoch.to_string()),
            ("member", member.to_string()),
            ("hash", hash.to_string()),
        ],
        Action::WeightsReveal { subnet, epoch, member, opening, .. } => vec![
            ("subnet", subnet.to_string()),
            ("epoch", epoch.to_string()),
            ("member", member.to_string()),
            ("miners", opening.row.len().to_string()),
            ("log_root", opening.log_root.to_string()),
            ("log_len", opening.log_len.to_string()),
        ],
        Action::Accuse(evidence) => vec![
            ("term", evidence.votes().0.subject.term.to_string()),
            ("view", evidence.votes().0.subject.view.to_string()),
            ("signer", evidence.signer().to_string()),
        ],
        Action::ModelPublish(model) => vec![
            ("subnet", model.subnet.to_string()),
            (if model.sealed { "seal" } else { "artifact" }, model.artifact.to_string()),
            ("manifest", model.manifest.to_string()),
            ("bytes", model.bytes.to_string()),
            ("parent", model.parent.to_string()),
            ("licence", model.licence.name().to_owned()),
        ],
    };
    list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
