//! Changes to the ledger: made and signed here, judged by a node and by everybody after it.
//!
//! The node is asked for nonce, fees and height, never for a signature: the secret key does not leave this process. What
//! will change is shown before anything is sent. Between sending and finality the outcome is unknown, and that is said
//! with exit 7 rather than guessed; sending the same bytes again is harmless, because their id and nonce are the same.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::context::{Context, Wait, pause};
use super::error::{CliError, Exit};
use super::output::Reply;
use super::subnet::segment;
use crate::protocol::artifact::publish::ModelPublish;
use crate::protocol::ids::{AccountId, Epoch, MemberId};
use crate::protocol::report::{
    AccountReport, FeesReport, Motes, SubmitReport, SubnetReport, TransactionReport, TransactionState,
};
use crate::protocol::transaction::{Action, Class, Transaction};
use crate::protocol::units::MOTES_PER_STAR;
use crate::store::keystore::{KeyInfo, KeyKind};

/// Heights that a transaction stays valid: ten minutes at a height a second, then it can no longer surprise anybody.
const VALID_HEIGHTS: u64 = 600;
/// How often a sent transaction is asked after.
const POLL: Duration = Duration::from_millis(200);

/// A change as it stands before it is sent.
struct Plan {
    what: String,
    transaction: Transaction,
    fees: FeesReport,
    before: AccountReport,
    /// Motes that leave the free balance, without the fee.
    leaves: u64,
}

impl Plan {
    fn after(&self) -> u64 {
        self.before.amount.0.saturating_sub(self.leaves).saturating_sub(self.transaction.fee)
    }

    fn facts(&self) -> [(&'static str, String); 5] {
        [
            ("do", self.what.clone()),
            ("account", self.before.account.to_string()),
            ("before", self.before.amount.to_string()),
            ("after", Motes(self.after()).to_string()),
            ("fee", Motes(self.transaction.fee).to_string()),
        ]
    }

    fn data(&self) -> serde_json::Value {
        json!({
            "what": self.what,
            "account": self.before.account,
            "kind": self.transaction.action.name(),
            "nonce": self.transaction.nonce,
            "valid_until": self.transaction.valid_until,
            "fee": Motes(self.transaction.fee),
            "before": self.before.amount,
            "after": Motes(self.after()),
            "display": {
                "fee": Motes(self.transaction.fee).to_string(),
                "before": self.before.amount.to_string(),
                "after": Motes(self.after()).to_string(),
            },
        })
    }
}

/// Sends motes.
///
/// # Errors
/// See `send`.
pub fn transfer(context: &Context, to: AccountId, amount: u64, memo: &str) -> Result<Reply, CliError> {
    let what = format!("send {} to {to}", Motes(amount));
    send(context, what, amount, Action::Transfer { to, amount, memo: memo.as_bytes().to_vec() })
}

/// Puts motes behind the account's validator.
///
/// # Errors
/// See `send`.
pub fn stake(context: &Context, amount: u64) -> Result<Reply, CliError> {
    send(context, format!("stake {}", Motes(amount)), amount, Action::Stake { amount })
}

/// Any other change of the account's own, said in words.
///
/// # Errors
/// See `send`.
pub fn act(context: &Context, what: String, leaves: u64, action: Action) -> Result<Reply, CliError> {
    send(context, what, leaves, action)
}

/// Records a model, or a seal over one.
///
/// # Errors
/// See `send`.
pub fn model_publish(context: &Context, what: String, record: ModelPublish) -> Result<Reply, CliError> {
    send(context, what, 0, Action::ModelPublish(Box::new(record)))
}

/// Asks a validator for an entry of its score log.
///
/// # Errors
/// There is no such subnet, and see `send`.
pub fn challenge(
    context: &Context,
    subnet: &str,
    (member, epoch, entry): (MemberId, Epoch, u64),
) -> Result<Reply, CliError> {
    let subnet: SubnetReport = context.client()?.get(&format!("/api/v1/subnets/{}", segment(subnet)?))?;
    let what = format!("ask validator {member} of {} for entry {entry} of epoch {epoch}, with a deposit", subnet.name);
    send(context, what, MOTES_PER_STAR, Action::LogChallenge { subnet: subnet.id, epoch, member, entry })
}

/// Builds, shows, asks, signs, sends and waits.
///
/// # Errors
/// Exit 5 without the key, 6 without a node, 7 when the outcome is unknown, 8 when a rule refuses it, 9 when it cannot be
/// paid, 10 when nobody said yes.
fn send(context: &Context, what: String, leaves: u64, action: Action) -> Result<Reply, CliError> {
    let client = context.client()?;
    let info = context.account_info()?;
    let plan = plan(&client, &info, what, leaves, action)?;
    affordable(context, &plan)?;
    if context.globals.dry_run {
        let reply = Reply::of(&json!({ "dry_run": true, "plan": plan.data() })).facts(plan.facts());
        return Ok(reply.line("\nNothing was sent (--dry-run)."));
    }
    if context.printer.may_ask() && !context.globals.yes {
        context.printer.note(Reply::default().facts(plan.facts()).text(context.printer.ink()).trim_end());
    }
    context.confirm("Go ahead?")?;
    let (_, key) = context.open_key(&info.name, KeyKind::Account)?;
    let signed = plan
        .transaction
        .clone()
        .sign(&plan.fees.chain_id, &key)
        .map_err(|e| CliError::usage(format!("this cannot be a transaction: {e}")))?;
    let id = signed.id.to_string();
    let unknown = |why: String| {
        let help = format!("`starling chain tx {id}` tells later");
        CliError::new(Exit::OutcomeUnknown, format!("transaction {id}: {why}"), help)
    };
    let sent = client.post("/api/v1/tx", "application/octet-stream", &signed.encode());
    let sent = sent.map_err(|e| if e.code == "timeout" { unknown("sent, and no answer came".into()) } else { e })?;
    let sent: SubmitReport = serde_json::from_value(sent.body).map_err(|e| unknown(format!("strange answer: {e}")))?;
    context.printer.note(&format!("sent as {}", sent.id));
    if context.globals.wait == Wait::Submitted {
        let data = json!({ "id": sent.id, "state": TransactionState::Pending, "plan": plan.data() });
        let hint = format!("starling chain tx {}   whether it is final", sent.id);
        return Ok(Reply::of(&data).line(format!("Sent as {}", sent.id)).facts(plan.facts()).hint(hint));
    }
    let report = wait(&client, &id, context.timeout()).ok_or_else(|| unknown("sent, not final yet".into()))?;
    settled(&client, &plan, &report)
}

fn plan(client: &Client, info: &KeyInfo, what: String, leaves: u64, action: Action) -> Result<Plan, CliError> {
    let account: AccountId = info.public.into();
    let fees: FeesReport = client.get("/api/v1/fees")?;
    let before: AccountReport = client.get(&format!("/api/v1/account/{account}"))?;
    if !before.exists {
        let help = format!("ask somebody to send it something: its id is {account}");
        return Err(CliError::new(Exit::Insufficient, format!("account \"{}\" is empty", info.name), help));
    }
    let mut transaction = Transaction {
        account,
        nonce: before.nonce,
        fee: 0,
        valid_until: fees.height.saturating_add(VALID_HEIGHTS.min(fees.validity_max)),
        action,
    };
    // The fee stands in a field of fixed width, so the size is known before the fee is.
    let bytes = u64::try_from(transaction.signed_bytes()).unwrap_or(u64::MAX);
    if transaction.action.class() != Class::System {
        let units = u64::from(transaction.action.units());
        let (by_byte, by_unit) = (bytes.saturating_mul(fees.fee_byte.0), units.saturating_mul(fees.fee_unit.0));
        transaction.fee = by_byte.saturating_add(by_unit);
    }
    Ok(Plan { what, transaction, fees, before, leaves })
}

fn affordable(context: &Context, plan: &Plan) -> Result<(), CliError> {
    let fee = plan.transaction.fee;
    if let Some(most) = context.max_fee()?.filter(|most| fee > *most) {
        let message = format!("the fee is {}, --max-fee allows {}", Motes(fee), Motes(most));
        return Err(CliError::new(Exit::Insufficient, message, "allow more, or wait for lower fees"));
    }
    let needed = plan.leaves.saturating_add(fee);
    if needed > plan.before.amount.0 {
        let message = format!("this takes {} with the fee; free are {}", Motes(needed), plan.before.amount);
        return Err(CliError::new(Exit::Insufficient, message, "`starling wallet balance` shows what there is"));
    }
    Ok(())
}

/// Asks until the transaction is settled; `None` when time is up first.
fn wait(client: &Client, id: &str, limit: Duration) -> Option<TransactionReport> {
    let began = Instant::now();
    while began.elapsed() < limit {
        // A node that stumbles for a moment is asked again: only time decides that the outcome stays unknown.
        let report: Result<TransactionReport, CliError> = client.get(&format!("/api/v1/tx/{id}"));
        match report {
            Ok(report) if report.state != TransactionState::Pending => return Some(report),
            _ => pause(POLL),
        }
    }
    None
}

fn settled(client: &Client, plan: &Plan, report: &TransactionReport) -> Result<Reply, CliError> {
    if report.state == TransactionState::Failed {
        let message = format!("the ledger refused to {}: {}", plan.what, report.outcome);
        let help = format!("the fee of {} was taken; nothing else changed", report.fee);
        return Err(CliError::new(Exit::Refused, message, help));
    }
    let account = plan.before.account;
    let after: AccountReport = client.get(&format!("/api/v1/account/{account}"))?;
    let height = report.height.unwrap_or_default();
    let data = json!({
        "id": report.id,
        "state": report.state,
        "height": height,
        "kind": report.kind,
        "account": account,
        "fee": report.fee,
        "before": plan.before.amount,
        "after": after.amount,
        "display": {
            "fee": report.fee.to_string(),
            "before": plan.before.amount.to_string(),
            "after": after.amount.to_string(),
        },
    });
    Ok(Reply::of(&data).line(format!("Done: {}", plan.what)).facts([
        ("transaction", report.id.to_string()),
        ("final in", format!("checkpoint {height}")),
        ("before", plan.before.amount.to_string()),
        ("after", after.amount.to_string()),
        ("fee", report.fee.to_string()),
        ("staked", if after.staked.0 > 0 { after.staked.to_string() } else { String::new() }),
    ]))
}
