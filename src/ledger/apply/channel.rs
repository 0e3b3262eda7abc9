//! Payment channels: opened, topped up, redeemed, closed, challenged, and ended by their height (0x60-0x64, E10, L17).
//!
//! What a voucher moves is split: a part is burned and counted in the subnet's bank, a part waits in its pot for its
//! validators, the payee has the rest. The payer's own close leaves a term in which anybody may show a later voucher; the
//! payee's close settles at once.

use super::super::draft::Draft;
use super::super::money::{self, Note, credit, lock, outgo, release};
use super::super::receipt::Code;
use super::super::rows::{Account, Channel, Ending, Subnet};
use crate::protocol::channel::{Voucher, channel_id};
use crate::protocol::ids::{AccountId, Digest, Height, PublicKey, SubnetId};
use crate::protocol::statement::{Kind, Purse};

/// Channels one account may have open as payer.
pub const CHANNELS_MAX: usize = 256;
/// How far ahead a channel ends, in heights.
pub const EXPIRY_MIN: u64 = 600;
pub const EXPIRY_MAX: u64 = 2_600_000;
/// Channels that end at one height; the rest end at the next (L6).
const ENDED_MAX: usize = 128;
const BASIS: u128 = 10_000;

/// What is asked for when a channel is opened.
pub struct Wanted {
    pub payee: AccountId,
    pub voucher_key: PublicKey,
    pub subnet: SubnetId,
    pub deposit: u64,
    pub expiry: Height,
}

fn attach(draft: &mut Draft, account: &AccountId, more: bool) {
    draft.change::<Account>(account, |account| {
        account.attached = if more { account.attached.saturating_add(1) } else { account.attached.saturating_sub(1) };
    });
}

pub fn open(draft: &mut Draft, payer: &AccountId, wanted: &Wanted, nonce: u64, height: Height) -> Result<(), Code> {
    draft.get::<Subnet>(&wanted.subnet).ok_or(Code::UnknownSubnet)?;
    let ahead = wanted.expiry.saturating_sub(height);
    if !(EXPIRY_MIN..=EXPIRY_MAX).contains(&ahead) {
        return Err(Code::BadExpiry);
    }
    // Who pays itself pays the split for nothing, and a payee that does not exist cannot be paid.
    if wanted.payee == *payer || draft.account(&wanted.payee).is_none() {
        return Err(Code::BadPayee);
    }
    if draft.channels(payer).len() >= CHANNELS_MAX {
        return Err(Code::TooManyChannels);
    }
    let note = Note::of(Kind::ChannelDeposit).subnet(wanted.subnet).with(&wanted.payee);
    lock(draft, payer, Purse::Channel, wanted.deposit, note)?;
    let id = channel_id(payer, &wanted.payee, nonce);
    // Both sides stay while it is open: neither can be paid otherwise.
    attach(draft, payer, true);
    attach(draft, &wanted.payee, true);
    draft.put(&(wanted.expiry, id), Ending);
    draft.put(
        &id,
        Channel {
            payer: *payer,
            payee: wanted.payee,
            voucher_key: wanted.voucher_key,
            subnet: wanted.subnet,
            deposit: wanted.deposit,
            paid: 0,
            ends: wanted.expiry,
            closing: false,
        },
    );
    Ok(())
}

pub fn top_up(draft: &mut Draft, payer: &AccountId, id: &Digest, amount: u64) -> Result<(), Code> {
    let channel = draft.get::<Channel>(id).cloned().ok_or(Code::UnknownChannel)?;
    if channel.payer != *payer {
        return Err(Code::NotYours);
    }
    if channel.closing {
        return Err(Code::ChannelClosing);
    }
    let note = Note::of(Kind::ChannelDeposit).subnet(channel.subnet).with(&channel.payee);
    lock(draft, payer, Purse::Channel, amount, note)?;
    draft.change::<Channel>(id, |channel| channel.deposit = channel.deposit.saturating_add(amount));
    Ok(())
}

/// The payee takes what a voucher promises beyond what it already has; the channel stays open.
pub fn redeem(draft: &mut Draft, account: &AccountId, voucher: &Voucher) -> Result<(), Code> {
    let channel = draft.get::<Channel>(&voucher.channel).ok_or(Code::UnknownChannel)?;
    if channel.payee != *account {
        return Err(Code::NotYours);
    }
    pay(draft, voucher)
}

/// The payee settles at once, with or without a last voucher; the payer announces the end and may name a last sum too.
pub fn close(
    draft: &mut Draft,
    account: &AccountId,
    id: &Digest,
    voucher: Option<&Voucher>,
    height: Height,
) -> Result<(), Code> {
    let channel = draft.get::<Channel>(id).cloned().ok_or(Code::UnknownChannel)?;
    if channel.payee != *account && channel.payer != *account {
        return Err(Code::NotYours);
    }
    if channel.payee != *account && channel.closing {
        return Err(Code::ChannelClosing);
    }
    if let Some(voucher) = voucher {
        pay(draft, voucher)?;
    }
    if channel.payee == *account {
        end(draft, id);
        return Ok(());
    }
    let at = height.saturating_add(draft.parameters().term_heights).min(channel.ends);
    draft.remove::<Ending>(&(channel.ends, *id));
    draft.put(&(at, *id), Ending);
    draft.change::<Channel>(id, |channel| (channel.closing, channel.ends) = (true, at));
    Ok(())
}

/// Anybody shows a later voucher of a channel that its payer is closing; the payee has the difference.
pub fn challenge(draft: &mut Draft, voucher: &Voucher) -> Result<(), Code> {
    let channel = draft.get::<Channel>(&voucher.channel).ok_or(Code::UnknownChannel)?;
    if !channel.closing {
        return Err(Code::ChannelOpen);
    }
    pay(draft, voucher)
}

/// Pays what a voucher promises beyond what was paid, split by E10: the burn rounded up, the validators' part down.
fn pay(draft: &mut Draft, voucher: &Voucher) -> Result<(), Code> {
    let channel = draft.get::<Channel>(&voucher.channel).cloned().ok_or(Code::UnknownChannel)?;
    if voucher.cumulative <= channel.paid || voucher.cumulative > channel.deposit {
        return Err(Code::VoucherSum);
    }
    voucher.verify(&draft.chain_id(), &channel.voucher_key).map_err(|_| Code::BadVoucher)?;
    let due = voucher.cumulative - channel.paid;
    let (burned, validators, rest) =
        split(due, draft.parameters().query_burn_bp, draft.parameters().query_validators_bp);
    let note = Note::of(Kind::QueryFee).subnet(channel.subnet);
    outgo(draft, &channel.payer, Purse::Channel, due, note.with(&channel.payee));
    let paid = credit(draft, &channel.payee, rest, note.with(&channel.payer).share(rest, due));
    assert!(paid, "violation: the payee of channel {} does not exist", voucher.channel);
    draft.change::<Channel>(&voucher.channel, |channel| channel.paid = voucher.cumulative);
    let known = draft.change::<Subnet>(&channel.subnet, |subnet| {
        subnet.burned_fees = subnet.burned_fees.saturating_add(burned);
        subnet.fee_pot = subnet.fee_pot.saturating_add(validators);
    });
    // A subnet that was closed meanwhile has neither bank nor pot.
    money::burn(draft, if known { burned } else { burned.saturating_add(validators) });
    Ok(())
}

/// What is burned, what the validators have, what the payee has: always the whole.
pub fn split(due: u64, burn_bp: u64, validators_bp: u64) -> (u64, u64, u64) {
    let narrow = |value: u128| u64::try_from(value).unwrap_or(u64::MAX);
    let burned = narrow((u128::from(due) * u128::from(burn_bp)).div_ceil(BASIS)).min(due);
    let validators = narrow(u128::from(due) * u128::from(validators_bp) / BASIS).min(due - burned);
    (burned, validators, due - burned - validators)
}

/// Ends a channel: what is left of the deposit goes back.
fn end(draft: &mut Draft, id: &Digest) {
    let Some(channel) = draft.get::<Channel>(id).cloned() else { return };
    draft.remove::<Channel>(id);
    draft.remove::<Ending>(&(channel.ends, *id));
    let left = channel.deposit.saturating_sub(channel.paid);
    let note = Note::of(Kind::ChannelRefund).subnet(channel.subnet).with(&channel.payee);
    let there = release(draft, &channel.payer, Purse::Channel, left, note);
    assert!(there, "violation: the payer of channel {id} does not exist");
    attach(draft, &channel.payer, false);
    attach(draft, &channel.payee, false);
}

/// Ends the channels whose height has come.
pub fn run(draft: &mut Draft, height: Height) {
    let all = ..=(height, Digest([0xff; 32]));
    let ended: Vec<Digest> = draft.range::<Ending>(all).take(ENDED_MAX).map(|(key, _)| key.1).collect();
    for id in ended {
        end(draft, &id);
    }
}
