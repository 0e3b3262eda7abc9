//! Challenges of score logs: anybody may ask a validator for an entry of the log its row came from (0x43, 0x44, D14).
//!
//! The deposit is the validator's when it answers in time with the entry and its path, and goes back otherwise; then a
//! 64th of the seat's bond is burned and the validator is unaccountable for sixteen periods. A wrong answer has no effect,
//! so that it can be put right before the deadline. The ledger judges where an entry stands, not what it says.

use super::super::draft::Draft;
use super::super::event::Event;
use super::super::judging::{LogChallenge, ScoreSource};
use super::super::money::{Note, credit, lock, outgo, release};
use super::super::receipt::Code;
use super::super::rows::{Account, Subnet};
use super::super::seats;
use crate::protocol::ids::{AccountId, Digest, Epoch, Height, MemberId, SubnetId};
use crate::protocol::merkle::merkle_holds;
use crate::protocol::statement::{Kind, Purse};

/// Challenges of one validator that may be open at once.
const OPEN_MAX: u8 = 4;
/// Challenges that end unanswered at one height at most; the rest end at the next.
const ENDED_MAX: usize = 256;

/// Which leaf of whose log is asked for.
pub struct Asked {
    pub subnet: SubnetId,
    pub period: Epoch,
    pub validator: MemberId,
    pub entry: u64,
}

/// Opens a challenge.
pub fn open(
    draft: &mut Draft,
    account: &AccountId,
    asked: &Asked,
    height: Height,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let Asked { subnet, period, validator, entry } = *asked;
    draft.get::<Subnet>(&subnet).ok_or(Code::UnknownSubnet)?;
    draft.member(subnet, validator).ok_or(Code::UnknownMember)?;
    let source = draft.get::<ScoreSource>(&(subnet, period, validator)).ok_or(Code::UnknownLog)?;
    if entry >= source.log_len {
        return Err(Code::NoSuchEntry);
    }
    if draft.seat(subnet, validator).challenges >= OPEN_MAX {
        return Err(Code::ChallengesFull);
    }
    let (deposit, heights) = (draft.parameters().log_challenge_deposit, draft.parameters().log_challenge_heights);
    lock(draft, account, Purse::Challenge, deposit, Note::of(Kind::Deposit).subnet(subnet).epoch(period))?;
    draft.change::<Account>(account, |account| account.attached = account.attached.saturating_add(1));
    seats::count_challenge(draft, subnet, validator, true);
    let deadline = height.saturating_add(heights);
    let chain = draft.chain_mut();
    let number = chain.due_seq;
    chain.due_seq = number.saturating_add(1);
    let challenger = *account;
    draft.put(&(deadline, number), LogChallenge { challenger, subnet, validator, period, entry, deposit });
    events.push(Event::LogChallenged { subnet, epoch: period, member: validator, entry, challenger, deadline, number });
    Ok(())
}

/// Answers a challenge: whoever holds the seat, with the entry and its path.
pub fn answer(
    draft: &mut Draft,
    account: &AccountId,
    key: (Height, u64),
    (leaf, path): (&[u8], &[Digest]),
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    let of = draft.get::<LogChallenge>(&key).cloned().ok_or(Code::UnknownChallenge)?;
    let member = draft.member(of.subnet, of.validator).ok_or(Code::UnknownMember)?;
    if member.account != *account {
        return Err(Code::NotYours);
    }
    let source = draft.get::<ScoreSource>(&(of.subnet, of.period, of.validator)).ok_or(Code::UnknownLog)?;
    if !merkle_holds(&source.log_root, source.log_len, of.entry, leaf, path) {
        return Err(Code::WrongEntry);
    }
    end(draft, key, &of);
    let note = |kind| Note::of(kind).subnet(of.subnet).epoch(of.period);
    outgo(draft, &of.challenger, Purse::Challenge, of.deposit, note(Kind::DepositForfeit).with(account));
    let paid = credit(draft, account, of.deposit, note(Kind::Reward).with(&of.challenger));
    assert!(paid, "violation: a member without an account");
    let (subnet, epoch, member, number) = (of.subnet, of.period, of.validator, key.1);
    events.push(Event::LogChallengeEnded { subnet, epoch, member, number, answered: true, burned: 0 });
    Ok(())
}

/// Ends the challenges whose time is up.
pub fn run(draft: &mut Draft, height: Height, events: &mut Vec<Event>) {
    let ended: Vec<((Height, u64), LogChallenge)> = draft
        .range::<LogChallenge>(..=(height, u64::MAX))
        .take(ENDED_MAX)
        .map(|(key, challenge)| (*key, challenge.clone()))
        .collect();
    for (key, of) in ended {
        end(draft, key, &of);
        let note = Note::of(Kind::DepositRefund).subnet(of.subnet).epoch(of.period);
        let back = release(draft, &of.challenger, Purse::Challenge, of.deposit, note);
        assert!(back, "violation: a challenge of {}, which does not exist", of.challenger);
        let burned = seats::unanswered(draft, of.subnet, of.validator, of.period);
        let (subnet, epoch, member, number) = (of.subnet, of.period, of.validator, key.1);
        events.push(Event::LogChallengeEnded { subnet, epoch, member, number, answered: false, burned });
    }
}

/// Takes a challenge off the books; its deposit is the caller's to place.
fn end(draft: &mut Draft, key: (Height, u64), of: &LogChallenge) {
    draft.remove::<LogChallenge>(&key);
    seats::count_challenge(draft, of.subnet, of.validator, false);
    draft.change::<Account>(&of.challenger, |account| account.attached = account.attached.saturating_sub(1));
}
