//! From one state to the next: scheduled work, then the transactions of a body, then the fees (L1-L7).
//!
//! `execute` re-does what a leader proposes and refuses the whole body for one inadmissible transaction; `build` is the
//! leader's side and leaves such transactions out. Both run the same code in the same order: due queue, channels, epochs by
//! subnet id, transactions, fees. The parent is never changed.

mod challenge;
mod channel;
mod evidence;
mod member;
mod model;
mod stake;
mod support;
mod transfer;
mod weights;

pub use channel::split;

use super::draft::{Draft, RowChange};
use super::economy::{committee, grants, next_base, subnets};
use super::event::Event;
use super::money::{self, Note, debit};
use super::receipt::{Code, Receipt, Refusal};
use super::rows::Account;
use super::state::State;
use super::{due, epoch, seats};
use crate::protocol::ids::{AccountId, ChainId, Digest, Height};
use crate::protocol::keys::verify_batch;
use crate::protocol::merkle::merkle_root;
use crate::protocol::statement::{Kind, Line};
use crate::protocol::transaction::{Action, Class, SignedTransaction, Transaction, VALID_HEIGHTS_MAX};

/// What a body may hold (L5).
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of classes U and B: a tenth of the body is kept for class S.
pub const PAID_BYTES_MAX: usize = BODY_BYTES_MAX / 10 * 9;
pub const PAID_COUNT_MAX: usize = 4_096;
pub const PAID_UNITS_MAX: u32 = 40_960;
pub const SYSTEM_COUNT_MAX: usize = 512;
pub const SYSTEM_UNITS_MAX: u32 = 4_096;

/// What the header of a height gives to its execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// One above the parent's.
    pub height: Height,
    pub timestamp_ms: u64,
    /// The account of the leader that first proposed this body: it has the tips.
    pub proposer: AccountId,
    /// The hash of the parent's header; zeros for genesis.
    pub parent: Digest,
    /// Who signed the parent's certificate, as the body says, with their weights; and the weight of everybody (E5).
    pub attended: Vec<(AccountId, u64)>,
    pub committee: u64,
}

/// What a body comes to.
#[derive(Clone, Debug)]
pub struct Executed {
    pub state: State,
    /// One for each transaction, in body order.
    pub receipts: Vec<Receipt>,
    pub ids: Vec<Digest>,
    pub state_root: Digest,
    pub receipt_root: Digest,
    pub record_root: Digest,
    pub params_hash: Digest,
    /// The rows that changed, by key; none means removed.
    pub diff: Vec<RowChange>,
    /// What every account's statement says of this height, in the order it happened (E21).
    pub lines: Vec<Line>,
    pub events: Vec<Event>,
}

/// A body that no honest leader proposes, by its first bad transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transaction {index} of the body: {refusal}")]
pub struct Inadmissible {
    pub index: usize,
    pub refusal: Refusal,
}

/// Executes a body on its parent.
///
/// # Errors
/// A transaction is inadmissible; nothing has changed then.
///
/// # Panics
/// The height does not follow the parent's, or the money does not balance: violations of our own.
pub fn execute(parent: &State, context: &Context, transactions: &[Vec<u8>]) -> Result<Executed, Inadmissible> {
    execute_trusting(parent, context, transactions, |_| false)
}

/// `execute`, without verifying the signatures of transactions whose exact bytes are `known` to be good (L25).
///
/// # Errors
/// As `execute`.
///
/// # Panics
/// As `execute`.
pub fn execute_trusting(
    parent: &State,
    context: &Context,
    transactions: &[Vec<u8>],
    known: impl Fn(&[u8]) -> bool,
) -> Result<Executed, Inadmissible> {
    let mut signed = Vec::with_capacity(transactions.len().min(PAID_COUNT_MAX + SYSTEM_COUNT_MAX));
    for (index, bytes) in transactions.iter().enumerate() {
        // Counted before anything is verified, so that an endless body costs nothing.
        if index >= PAID_COUNT_MAX + SYSTEM_COUNT_MAX {
            return Err(Inadmissible { index, refusal: Refusal::BodyFull });
        }
        let refused = |e| Inadmissible { index, refusal: Refusal::Layout(e) };
        signed.push(SignedTransaction::decode(bytes).map_err(refused)?);
    }
    let unverified = |index: usize| transactions.get(index).is_some_and(|bytes| !known(bytes));
    verify_all(&parent.chain_id(), &signed, unverified)?;
    let mut run = Run::begin(parent, context);
    for (index, transaction) in signed.iter().enumerate() {
        run.include(transaction).map_err(|refusal| Inadmissible { index, refusal })?;
    }
    Ok(run.finish(parent))
}

/// One batch for all; only a bad batch is searched for its first bad signature.
fn verify_all(
    chain: &ChainId,
    signed: &[SignedTransaction],
    wanted: impl Fn(usize) -> bool,
) -> Result<(), Inadmissible> {
    let chosen: Vec<(usize, &SignedTransaction)> = signed.iter().enumerate().filter(|(i, _)| wanted(*i)).collect();
    let bytes: Vec<Vec<u8>> = chosen.iter().map(|(_, transaction)| transaction.signing_bytes(chain)).collect();
    let items = chosen
        .iter()
        .zip(&bytes)
        .map(|((_, signed), bytes)| (signed.transaction.account.into(), bytes.as_slice(), signed.signature));
    if verify_batch(items).is_ok() {
        return Ok(());
    }
    match chosen.iter().find(|(_, transaction)| transaction.verify(chain).is_err()) {
        Some((index, _)) => Err(Inadmissible { index: *index, refusal: Refusal::Signature }),
        None => Ok(()),
    }
}

/// What the receipt root of a header covers: the receipts in body order, then the lines in theirs (L4, E21). The two differ
/// in length, so that neither passes for the other.
pub fn leaves(receipts: &[Receipt], lines: &[Line]) -> Vec<Vec<u8>> {
    receipts.iter().map(Receipt::encode).chain(lines.iter().map(Line::encode)).collect()
}

/// Builds a body from candidates, best first, whose signatures were verified when they were taken in. What is
/// inadmissible or does not fit is left out.
///
/// # Panics
/// As `execute`.
pub fn build(
    parent: &State,
    context: &Context,
    candidates: impl IntoIterator<Item = Vec<u8>>,
) -> (Vec<Vec<u8>>, Executed) {
    let mut run = Run::begin(parent, context);
    let mut body = Vec::new();
    for bytes in candidates {
        let included = SignedTransaction::decode(&bytes).map(|signed| run.include(&signed));
        if matches!(included, Ok(Ok(()))) {
            body.push(bytes);
        }
    }
    (body, run.finish(parent))
}

/// Whether a transaction alone would be admissible at `height`, apart from its nonce and signature.
///
/// # Errors
/// Why it would not be.
pub fn admissible(state: &State, transaction: &Transaction, bytes: usize, height: Height) -> Result<(), Refusal> {
    admit(state, transaction, bytes, height)?;
    if transaction.class() == Class::System {
        effect(&mut Draft::new(state), transaction, height, &mut Vec::new()).map_err(Refusal::NoEffect)?;
    }
    Ok(())
}

/// The least fee of a transaction of this size now: it is burned, what is paid beyond it is the proposer's (E11).
pub fn minimum_fee(state: &State, action: &Action, bytes: usize) -> u64 {
    if action.class() == Class::System { 0 } else { full_fee(state, action, bytes) }
}

/// What a transaction of this size costs now where nothing of it is free.
pub fn full_fee(state: &State, action: &Action, bytes: usize) -> u64 {
    let (byte, unit) = state.base_fees();
    let by_bytes = u128::from(byte) * bytes as u128;
    let by_units = u128::from(unit) * u128::from(action.units());
    u64::try_from(by_bytes + by_units).unwrap_or(u64::MAX)
}

/// Every check of L3 but nonce, signature and the effect of class S.
fn admit(state: &State, transaction: &Transaction, bytes: usize, height: Height) -> Result<(), Refusal> {
    let (valid_until, fee) = (transaction.valid_until, transaction.fee);
    if valid_until < height {
        return Err(Refusal::Expired { valid_until, height });
    }
    let limit = height.saturating_add(VALID_HEIGHTS_MAX);
    if valid_until > limit {
        return Err(Refusal::ValidTooLong { valid_until, limit });
    }
    let account = state.account(&transaction.account).ok_or(Refusal::UnknownAccount)?;
    if transaction.class() == Class::System {
        return if fee == 0 { Ok(()) } else { Err(Refusal::FeeNotZero) };
    }
    let minimum = full_fee(state, &transaction.action, bytes);
    if fee < minimum {
        return Err(Refusal::FeeTooLow { found: fee, minimum });
    }
    if account.balance < fee {
        return Err(Refusal::FeeNotPayable { balance: account.balance, fee });
    }
    Ok(())
}

/// What a transaction does beyond fee and nonce. A draft is left half-written on failure: the caller restores it.
fn effect(draft: &mut Draft, of: &Transaction, height: Height, events: &mut Vec<Event>) -> Result<(), Code> {
    let account = &of.account;
    match &of.action {
        Action::Transfer { to, amount, .. } => transfer::transfer(draft, account, to, *amount, height),
        Action::Stake { amount } => stake::stake(draft, account, *amount),
        Action::Unstake { amount } => stake::unstake(draft, account, *amount),
        Action::Delegate { validator, amount } => stake::delegate(draft, account, validator, *amount),
        Action::Undelegate { validator, amount } => stake::undelegate(draft, account, validator, *amount),
        Action::SetTake { take_bp } => stake::set_take(draft, account, *take_bp),
        Action::Redelegate { from, to, amount } => stake::redelegate(draft, account, from, to, *amount),
        Action::Claim => stake::claim(draft, account),
        Action::ChannelOpen { payee, voucher_key, subnet, deposit, expiry } => {
            let (payee, voucher_key, subnet) = (*payee, *voucher_key, *subnet);
            let wanted = channel::Wanted { payee, voucher_key, subnet, deposit: *deposit, expiry: *expiry };
            channel::open(draft, account, &wanted, of.nonce, height)
        }
        Action::ChannelTopUp { channel: id, amount } => channel::top_up(draft, account, id, *amount),
        Action::ChannelRedeem { voucher } => channel::redeem(draft, account, voucher),
        Action::ChannelClose { channel: id, voucher } => channel::close(draft, account, id, voucher.as_ref(), height),
        Action::ChannelChallenge { voucher } => channel::challenge(draft, voucher),
        Action::Register { subnet, role, operator, max_bond } => {
            let wanted = member::Wanted { subnet: *subnet, role: *role, operator: *operator, max_bond: *max_bond };
            member::register(draft, account, &wanted, height, events)
        }
        Action::SubnetCreate { name, task, tempo, max_lock } => {
            let wanted = subnets::Wanted { name: name.clone(), task: task.clone(), tempo: *tempo, max_lock: *max_lock };
            subnets::create(draft, account, wanted)
        }
        Action::SubnetUpdate { subnet, owner, changes } => subnets::update(draft, account, *subnet, *owner, changes),
        Action::SubnetClose { subnet } => subnets::announce(draft, account, *subnet),
        Action::SubnetMatch { subnet } => subnets::matched(draft, account, *subnet),
        Action::SubnetCancel => subnets::cancel(draft, account),
        Action::Unqueue { subnet, place } => member::unqueue(draft, account, *subnet, *place, height),
        Action::Support { parts } => support::support(draft, account, parts),
        Action::MemberAttest { subnet, member, miner } => {
            support::attest(draft, account, *subnet, *member, *miner, height)
        }
        Action::Leave { subnet, member } => member::leave(draft, account, *subnet, *member),
        Action::ValidatorBond { subnet, member, amount } => {
            seats::top_up(draft, account, (*subnet, *member), *amount, events)
        }
        Action::LogChallenge { subnet, epoch, member, entry } => {
            let asked = challenge::Asked { subnet: *subnet, period: *epoch, validator: *member, entry: *entry };
            challenge::open(draft, account, &asked, height, events)
        }
        Action::LogAnswer { deadline, number, leaf, path } => {
            challenge::answer(draft, account, (*deadline, *number), (leaf, path), events)
        }
        Action::WeightsCommit { subnet, mechanism, epoch, member, version, hash } => {
            let sent = weights::Sent { account, free: of.fee == 0, height };
            let whose = weights::Whose { subnet: *subnet, mechanism: *mechanism, epoch: *epoch, member: *member };
            weights::commit(draft, &sent, whose, (*version, *hash), events)
        }
        Action::WeightsReveal { subnet, mechanism, epoch, member, opening } => {
            let sent = weights::Sent { account, free: of.fee == 0, height };
            let whose = weights::Whose { subnet: *subnet, mechanism: *mechanism, epoch: *epoch, member: *member };
            weights::reveal(draft, &sent, whose, opening, events)
        }
        Action::Accuse(of_votes) => evidence::accuse(draft, account, of_votes, height),
        Action::ModelPublish(of_model) => model::publish(draft, account, of_model, height, events),
    }
}

/// What is used up of a body's room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    bytes: usize,
    paid_bytes: usize,
    paid: (usize, u32),
    system: (usize, u32),
}

impl Room {
    /// How much of what is kept for class S is used, over 10,000: by its fullest measure (D3).
    pub fn weight_room(&self) -> u64 {
        let part = |used: usize, of: usize| (used as u64).saturating_mul(10_000) / (of as u64).max(1);
        let units = u64::from(self.system.1).saturating_mul(10_000) / u64::from(SYSTEM_UNITS_MAX);
        let bytes = part(self.bytes - self.paid_bytes, BODY_BYTES_MAX - PAID_BYTES_MAX);
        part(self.system.0, SYSTEM_COUNT_MAX).max(units).max(bytes).min(10_000)
    }

    /// Takes room for a transaction (L5).
    ///
    /// # Errors
    /// There is none left for it; nothing is taken then.
    pub fn take(&mut self, class: Class, bytes: usize, units: u32) -> Result<(), Refusal> {
        let (of, count_max, units_max) = match class {
            Class::System => (&mut self.system, SYSTEM_COUNT_MAX, SYSTEM_UNITS_MAX),
            Class::User | Class::Bonded => (&mut self.paid, PAID_COUNT_MAX, PAID_UNITS_MAX),
        };
        let paid_bytes = if class == Class::System { self.paid_bytes } else { self.paid_bytes + bytes };
        let fits = self.bytes + bytes <= BODY_BYTES_MAX && paid_bytes <= PAID_BYTES_MAX;
        if !fits || of.0 + 1 > count_max || of.1 + units > units_max {
            return Err(Refusal::BodyFull);
        }
        *of = (of.0 + 1, of.1 + units);
        self.bytes += bytes;
        self.paid_bytes = paid_bytes;
        Ok(())
    }
}

/// A height being executed.
struct Run {
    draft: Draft,
    context: Context,
    used: Room,
    fees: u64,
    tips: u64,
    receipts: Vec<Receipt>,
    ids: Vec<Digest>,
    events: Vec<Event>,
}

impl Run {
    /// Opens the height and does the scheduled work.
    fn begin(parent: &State, context: &Context) -> Self {
        assert!(
            context.height == parent.height() + 1,
            "violation: height {} on a parent of height {}",
            context.height,
            parent.height()
        );
        let (mut draft, mut events) = (Draft::new(parent), Vec::new());
        let chain = draft.chain_mut();
        chain.height = context.height;
        chain.timestamp_ms = context.timestamp_ms;
        draft.records_mut().append(&context.parent);
        due::run(&mut draft, context.height);
        channel::run(&mut draft, context.height);
        challenge::run(&mut draft, context.height, &mut events);
        committee::attend(&mut draft, &context.attended, context.committee);
        grants::run(&mut draft, context.height);
        epoch::run(&mut draft, context.height, &mut events);
        subnets::run(&mut draft, context.height, &mut events);
        let (receipts, ids) = (Vec::new(), Vec::new());
        Self { draft, context: context.clone(), used: Room::default(), fees: 0, tips: 0, receipts, ids, events }
    }

    /// One transaction: refused without a trace, or included with a receipt (L3).
    fn include(&mut self, signed: &SignedTransaction) -> Result<(), Refusal> {
        let (transaction, height) = (&signed.transaction, self.context.height);
        let (class, units) = (transaction.class(), transaction.action.units());
        admit(&self.draft, transaction, signed.bytes(), height)?;
        let expected = self.draft.account(&transaction.account).map_or(0, |account| account.nonce);
        if transaction.nonce != expected {
            return Err(Refusal::Nonce { expected, found: transaction.nonce });
        }
        let mut used = self.used;
        used.take(class, signed.bytes(), units)?;
        let before = self.draft.mark();
        // Admitted: the balance covers the fee.
        let base = minimum_fee(&self.draft, &transaction.action, signed.bytes());
        let tip = transaction.fee.saturating_sub(base);
        for (amount, kind) in [(base, Kind::Fee), (tip, Kind::Tip)] {
            debit(&mut self.draft, &transaction.account, amount, Note::of(kind)).map_err(Refusal::NoEffect)?;
        }
        self.draft.change::<Account>(&transaction.account, |account| account.nonce = account.nonce.saturating_add(1));
        let (paid, events) = (self.draft.mark(), self.events.len());
        let code = match effect(&mut self.draft, transaction, height, &mut self.events) {
            Ok(()) => Code::Applied,
            Err(code) => {
                self.draft.restore(paid);
                self.events.truncate(events);
                code
            }
        };
        if class == Class::System && code != Code::Applied {
            self.draft.restore(before);
            return Err(Refusal::NoEffect(code));
        }
        self.used = used;
        self.fees = self.fees.saturating_add(base);
        self.tips = self.tips.saturating_add(tip);
        transfer::reap(&mut self.draft, &transaction.account, height);
        self.receipts.push(Receipt { code, fee: transaction.fee, units });
        self.ids.push(signed.id);
        Ok(())
    }

    /// Burns the base fees, pays the tips, sets the next base fees, and seals the state.
    fn finish(mut self, parent: &State) -> Executed {
        let used = self.used.weight_room();
        let chain = self.draft.chain_mut();
        chain.weight_room = chain.weight_room.saturating_add(used);
        let proposer = self.context.proposer;
        // A leader without an account has nowhere to be paid.
        let paid = money::credit(&mut self.draft, &proposer, self.tips, Note::of(Kind::Tip));
        money::burn(&mut self.draft, if paid { self.fees } else { self.fees.saturating_add(self.tips) });
        let (least_byte, least_unit) = (self.draft.parameters().fee_byte, self.draft.parameters().fee_unit);
        let (bytes, units) = (self.used.paid_bytes as u64, u64::from(self.used.paid.1));
        let chain = self.draft.chain_mut();
        chain.base_byte = next_base(chain.base_byte, bytes, PAID_BYTES_MAX as u64, least_byte);
        chain.base_unit = next_base(chain.base_unit, units, PAID_UNITS_MAX.into(), least_unit);
        let (state, diff, lines) = self.draft.seal(parent);
        let leaves = leaves(&self.receipts, &lines);
        Executed {
            state_root: state.root(),
            receipt_root: merkle_root(leaves.iter().map(Vec::as_slice)),
            record_root: state.record_root(),
            params_hash: state.params_hash(),
            state,
            receipts: self.receipts,
            ids: self.ids,
            diff,
            lines,
            events: self.events,
        }
    }
}
