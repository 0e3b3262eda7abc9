//! Seats in subnets: one `register` transaction for every validator in each subnet and for every miner in its own, sent
//! through one node and followed until final. The keys are the devnet's own, which the orchestrator made.

use super::plan;
use super::record::Record;
use crate::cli::client::Client;
use crate::cli::error::{CliError, Exit};
use crate::protocol::ids::{AccountId, Digest, PublicKey, SubnetId};
use crate::protocol::report::{
    AccountReport, FeesReport, SubmitReport, SubnetReport, TransactionReport, TransactionState,
};
use crate::protocol::transaction::{Action, Role, Transaction};
use crate::store::keystore::KeyKind;

/// Heights that a registration stays valid; one that is lost is sent anew after them.
const VALID_HEIGHTS: u64 = 30;
/// All miners of a devnet register at once, and each raises the price for the next (E12): ten rises are about ten times it.
const PRICE_RISES: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent { id: Digest, until: u64 },
    Held,
}

/// A seat to be taken.
#[derive(Clone, Debug)]
struct Seat {
    node: String,
    account: AccountId,
    subnet: SubnetId,
    role: Role,
    state: State,
}

/// All seats of a devnet, on their way.
#[derive(Debug)]
pub struct Enrolment {
    seed: u64,
    seats: Vec<Seat>,
    /// Why the last try of somebody did not get through.
    pub trouble: Option<String>,
}

impl Enrolment {
    /// Seats of the nodes that `wanted` names.
    pub fn new(record: &Record, wanted: impl Fn(&super::record::NodeRecord) -> bool) -> Self {
        let mut seats = Vec::new();
        for node in record.nodes.iter().filter(|node| wanted(node)) {
            let mut seat = |subnet, role| {
                seats.push(Seat {
                    node: node.name.clone(),
                    account: node.account,
                    subnet,
                    role,
                    state: State::Waiting,
                });
            };
            match &node.miner {
                Some(miner) => seat(miner.subnet, Role::Miner),
                None if node.role == "validator" => {
                    plan::markets(&record.wishes).iter().for_each(|(subnet, _)| seat(*subnet, Role::Validator));
                }
                None => {}
            }
        }
        Self { seed: record.wishes.seed, seats, trouble: None }
    }

    pub fn total(&self) -> usize {
        self.seats.len()
    }

    pub fn held(&self) -> usize {
        self.seats.iter().filter(|seat| seat.state == State::Held).count()
    }

    pub fn is_done(&self) -> bool {
        self.held() == self.total()
    }

    /// One round: sends what may be sent, asks after what was. What fails for a reason that passes is tried again in the
    /// next round.
    ///
    /// # Errors
    /// The ledger refused a registration for good.
    pub fn step(&mut self, client: &Client, ready: impl Fn(&str) -> bool) -> Result<(), CliError> {
        let mut fees: Option<FeesReport> = None;
        for i in 0..self.seats.len() {
            let Some(seat) = self.seats.get(i) else { continue };
            let next = match seat.state {
                State::Held => continue,
                State::Waiting if !ready(&seat.node) => continue,
                State::Waiting => {
                    let fees = match &fees {
                        Some(fees) => fees.clone(),
                        None => fees.insert(client.get("/api/v1/fees")?).clone(),
                    };
                    self.send(client, seat, &fees)
                }
                State::Sent { id, until } => follow(client, seat, id, until),
            };
            match next {
                Ok(state) => {
                    if let Some(seat) = self.seats.get_mut(i) {
                        seat.state = state;
                    }
                }
                Err(error) if error.retryable || error.exit == Exit::NotFound => {
                    self.trouble = Some(error.message);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send(&self, client: &Client, seat: &Seat, fees: &FeesReport) -> Result<State, CliError> {
        let account: AccountReport = client.get(&format!("/api/v1/account/{}", seat.account))?;
        let role = seat.role.to_string();
        if account.memberships.iter().any(|m| m.subnet == seat.subnet && m.role == role) {
            return Ok(State::Held);
        }
        let subnet: SubnetReport = client.get(&format!("/api/v1/subnets/{}", seat.subnet))?;
        let until = fees.height.saturating_add(VALID_HEIGHTS.min(fees.validity_max));
        let operator = PublicKey(plan::node_id(self.seed, &seat.node).0);
        let max_bond = subnet.registration_price.0.saturating_mul(PRICE_RISES);
        let action = Action::Register { subnet: seat.subnet, role: seat.role, operator, max_bond };
        let mut transaction =
            Transaction { account: seat.account, nonce: account.nonce, fee: 0, valid_until: until, action };
        let units = u64::from(transaction.action.units());
        let bytes = transaction.signed_bytes() as u64;
        // The fee stands in a field of fixed width: the size does not depend on it.
        transaction.fee = bytes.saturating_mul(fees.fee_byte.0).saturating_add(units.saturating_mul(fees.fee_unit.0));
        let key = plan::key(self.seed, &seat.node, KeyKind::Account);
        let signed = transaction.sign(&fees.chain_id, &key).map_err(|e| CliError::failed(e.to_string()))?;
        let sent = client.post("/api/v1/tx", "application/octet-stream", &signed.encode())?;
        let sent: SubmitReport = serde_json::from_value(sent.body).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(State::Sent { id: sent.id, until })
    }
}

/// Where a sent registration is.
fn follow(client: &Client, seat: &Seat, id: Digest, until: u64) -> Result<State, CliError> {
    let report: TransactionReport = match client.get(&format!("/api/v1/tx/{id}")) {
        Ok(report) => report,
        // Nobody knows it any more: a node may have restarted before it was final. The account tells in the next round.
        Err(error) if error.exit == Exit::NotFound => {
            let head: crate::protocol::report::HeadReport = client.get("/api/v1/head")?;
            return Ok(if head.height > until { State::Waiting } else { State::Sent { id, until } });
        }
        Err(error) => return Err(error),
    };
    match report.state {
        TransactionState::Pending => Ok(State::Sent { id, until }),
        TransactionState::Final => Ok(State::Held),
        TransactionState::Failed => {
            let message =
                format!("{} got no seat as {} in subnet {}: {}", seat.node, seat.role, seat.subnet, report.outcome);
            Err(CliError::new(Exit::Refused, message, ""))
        }
    }
}
