//! `wallet statement` and what is summed from statements: earnings of miners, rewards of stake (E21).
//!
//! A node tells lines and sums; `--verify` trusts none of it: every line is climbed to the receipt root of a header that a
//! quorum of the genesis file's committee signed or a descendant of which it signed, and the sums are made anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::chain::resolve_account;
use super::client::Client;
use super::context::Context;
use super::error::CliError;
use super::output::{Reply, Table, maybe};
use crate::protocol::checkpoint::{Certificate, Header, VoteKind};
use crate::protocol::codec;
use crate::protocol::committee::CommitteeContext;
use crate::protocol::genesis::Genesis;
use crate::protocol::ids::AccountId;
use crate::protocol::merkle::merkle_holds;
use crate::protocol::report::{LineProofReport, Motes, PurseReport, StatementLine, StatementReport};
use crate::protocol::statement::{Kind, Purse};

/// A certificate of a large committee.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

#[derive(Args, Debug)]
pub struct Statement {
    /// An account's id or the name of a key [default: the node's account key]
    account: Option<String>,
    /// The first height
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    from: u64,
    /// The last height [default: now]
    #[arg(long, value_name = "HEIGHT")]
    to: Option<u64>,
    /// One line each as comma-separated values, amounts in motes
    #[arg(long)]
    csv: bool,
    /// Check every line against the network's certificates and the genesis file
    #[arg(long)]
    verify: bool,
}

/// Motes with a sign, in STAR.
fn signed(amount: i64) -> String {
    let text = Motes(amount.unsigned_abs()).to_string();
    if amount < 0 { format!("-{text}") } else { text }
}

fn table_of(opening: &[PurseReport], closing: &[PurseReport]) -> BTreeMap<Purse, (i64, i64)> {
    let mut purses: BTreeMap<Purse, (i64, i64)> = BTreeMap::new();
    for row in opening {
        purses.entry(row.purse).or_default().0 = row.amount;
    }
    for row in closing {
        purses.entry(row.purse).or_default().1 = row.amount;
    }
    purses
}

/// The whole statement, page by page.
///
/// # Errors
/// No node, or it does not tell.
pub fn fetch(client: &Client, account: &AccountId, from: u64, to: Option<u64>) -> Result<StatementReport, CliError> {
    let page = |from: u64, to: Option<u64>| -> Result<StatementReport, CliError> {
        let to = to.map_or_else(String::new, |to| format!("&to={to}"));
        client.get(&format!("/api/v1/accounts/{account}/statement?from={from}{to}"))
    };
    let mut whole = page(from, to)?;
    // What came later than the first page is not of this statement: it ends where the first page saw the end.
    let to = Some(to.unwrap_or(whole.height));
    while let Some(next) = whole.next {
        let more = page(next, to)?;
        whole.lines.extend(more.lines);
        (whole.to, whole.closing, whole.next) = (more.to, more.closing, more.next.filter(|after| *after > next));
        whole.ok &= more.ok;
    }
    Ok(whole)
}

/// Whether opening and lines make the closing, purse by purse (E21).
fn adds_up(s: &StatementReport) -> bool {
    let mut sums: BTreeMap<Purse, i128> = s.opening.iter().map(|row| (row.purse, i128::from(row.amount))).collect();
    for line in &s.lines {
        *sums.entry(line.purse).or_default() += i128::from(line.amount);
    }
    let closing =
        |purse: &Purse| s.closing.iter().find(|row| row.purse == *purse).map_or(0, |row| i128::from(row.amount));
    Purse::ALL.iter().all(|purse| sums.get(purse).copied().unwrap_or(0) == closing(purse))
}

/// How many lines an account's whole statement has, and whether they make what it holds, purse by purse.
///
/// # Errors
/// No node, or it does not tell.
pub fn audit(client: &Client, account: &AccountId) -> Result<(usize, bool), CliError> {
    let whole = fetch(client, account, 0, None)?;
    Ok((whole.lines.len(), whole.ok && adds_up(&whole)))
}

/// What the statement shows wrong: the proof of a line against the genesis file, by rule of the light client.
///
/// # Errors
/// Which step does not hold.
fn check(
    proof: &LineProofReport,
    line: &StatementLine,
    account: AccountId,
    trust: &CommitteeContext,
) -> Result<(), String> {
    let bytes = unhex(&proof.line)?;
    if bytes != line.line(account).encode() {
        return Err("the proof is of another line".to_owned());
    }
    let place = u64::from(proof.index);
    let under = |header: &Header| merkle_holds(&header.receipt_root, proof.leaves, place, &bytes, &proof.path);
    let mut parent = None;
    for (step, text) in proof.headers.iter().enumerate() {
        let header = Header::from_layout(&unhex(text)?).map_err(|e| e.to_string())?;
        if step == 0 && (header.height != line.height || !under(&header)) {
            return Err("the line is not under the receipt root of its height".to_owned());
        }
        if header.chain != *trust.chain() {
            return Err("the header is of another network".to_owned());
        }
        if parent.is_some_and(|parent| parent != header.parent_hash) {
            return Err("the headers are no chain".to_owned());
        }
        parent = Some(header.hash());
    }
    let certificate: Certificate =
        codec::decode::<_, CERTIFICATE_BYTES_MAX>(&unhex(&proof.certificate)?).map_err(|e| e.to_string())?;
    certificate.verify(trust).map_err(|e| e.to_string())?;
    let signed = certificate.subject.ballot.candidate().map(|candidate| candidate.hash);
    if certificate.kind() != VoteKind::Finalize || signed.is_none() || signed != parent {
        return Err("the certificate is not of these headers".to_owned());
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or("no hex")?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// What an account began with, by the genesis file.
fn given(genesis: &Genesis, account: &AccountId) -> Vec<(Purse, i128)> {
    let balances = genesis.accounts.iter().filter(|row| row.account == *account).map(|row| row.balance);
    let stakes = genesis.committee.iter().filter(|row| row.account == *account).map(|row| row.stake);
    let sum = |amounts: &mut dyn Iterator<Item = u64>| amounts.map(i128::from).sum::<i128>();
    vec![(Purse::Balance, sum(&mut balances.into_iter())), (Purse::Pool, sum(&mut stakes.into_iter()))]
}

impl Statement {
    pub(super) fn run(&self, context: &Context) -> Result<Reply, CliError> {
        let account = match &self.account {
            Some(text) => resolve_account(context, text)?,
            None => context.account_info()?.public.into(),
        };
        let client = context.client()?;
        let s = fetch(&client, &account, self.from, self.to)?;
        if !s.ok || !adds_up(&s) {
            return Err(CliError::failed(
                "the node's statement does not add up; ask another node, and tell its operator",
            ));
        }
        let verified = if self.verify { Some(verify(context, &client, &s)?) } else { None };
        if self.csv {
            return Ok(Reply::of(&s).line(csv(&s).trim_end()));
        }
        let mut purses = Table::new(&["purse", ">opening", ">change", ">closing"]).or("nothing in any purse");
        for (purse, (opening, closing)) in table_of(&s.opening, &s.closing) {
            purses.row(vec![purse.to_string(), signed(opening), signed(closing - opening), signed(closing)]);
        }
        let mut lines = Table::new(&[">height", "purse", "kind", "subnet", "epoch", ">amount", "with"]).or("no lines");
        for line in &s.lines {
            lines.row(vec![
                line.height.to_string(),
                line.purse.to_string(),
                line.kind.to_string(),
                maybe(line.subnet),
                maybe(line.epoch),
                signed(line.amount),
                line.counterpart.map_or_else(|| "-".to_owned(), |account| account.short()),
            ]);
        }
        let data = json!({ "statement": s, "verified_lines": verified });
        let reply = Reply::of(&data)
            .line(format!("Statement of {account}, heights {} to {}", s.from, s.to))
            .table(purses)
            .heading("Lines")
            .table(lines);
        Ok(match verified {
            Some(count) => {
                reply.line(format!("{count} lines proved under final checkpoints; the sums hold to the mote."))
            }
            None => reply.line("Opening and lines make the closing, to the mote."),
        })
    }
}

/// Proves every line and, from height 0 on, that the opening is the genesis file's. How many lines were proved.
fn verify(context: &Context, client: &Client, s: &StatementReport) -> Result<usize, CliError> {
    let path = context.config()?.genesis_path();
    let bytes = std::fs::read(&path).map_err(|e| CliError::file(&path, &e))?;
    let genesis = Genesis::parse(&bytes).map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
    let committee = genesis.first_committee().map_err(|e| CliError::failed(e.to_string()))?;
    let trust = CommitteeContext::new(genesis.chain_id(), committee);
    let wrong = |line: &StatementLine, why: String| {
        CliError::failed(format!("line {} at height {} is not proved: {why}", line.index, line.height))
    };
    let mut proved = 0;
    let mut began: BTreeMap<Purse, i128> = BTreeMap::new();
    for line in &s.lines {
        if line.kind == Kind::Genesis {
            *began.entry(line.purse).or_default() += i128::from(line.amount);
            continue;
        }
        let place = format!("/api/v1/accounts/{}/statement/{}/{}", s.account, line.height, line.index);
        let proof: LineProofReport = client.get(&place)?;
        check(&proof, line, s.account, &trust).map_err(|why| wrong(line, why))?;
        proved += 1;
    }
    if s.from == 0
        && given(&genesis, &s.account).into_iter().any(|(purse, sum)| began.get(&purse).copied().unwrap_or(0) != sum)
    {
        return Err(CliError::failed("the statement does not begin with what the genesis file gives this account"));
    }
    Ok(proved)
}

/// Lines as comma-separated values, amounts in motes, between the rows of opening and closing.
fn csv(s: &StatementReport) -> String {
    let mut out = "height,index,purse,kind,subnet,epoch,mechanism,amount,counterpart,share,pot\n".to_owned();
    let edge = |out: &mut String, height: u64, word: &str, rows: &[PurseReport]| {
        for row in rows {
            let _ = writeln!(out, "{height},,{},{word},,,,{},,,", row.purse, row.amount);
        }
    };
    edge(&mut out, s.from, "opening", &s.opening);
    let text = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for line in &s.lines {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{}",
            line.height,
            line.index,
            line.purse,
            line.kind,
            text(line.subnet.map(|id| id.0.into())),
            text(line.epoch),
            text(line.mechanism.map(u64::from)),
            line.amount,
            line.counterpart.map_or_else(String::new, |account| account.to_string()),
            line.share.0,
            line.pot.0
        );
    }
    edge(&mut out, s.to, "closing", &s.closing);
    out
}

/// What an account's miners were paid, by subnet and epoch, and what was claimed of it.
///
/// # Errors
/// No node, or it does not tell.
pub fn earnings(context: &Context) -> Result<Reply, CliError> {
    let account: AccountId = context.account_info()?.public.into();
    let s = fetch(&context.client()?, &account, 0, None)?;
    let mut rows: BTreeMap<_, (i64, u64, u64)> = BTreeMap::new();
    let (mut total, mut fees, mut claimed) = (0_i64, 0_i64, 0_i64);
    for line in &s.lines {
        match (line.purse, line.kind) {
            (Purse::Owed, Kind::Claim) => claimed -= line.amount,
            (Purse::Owed, _) => {
                let row = rows.entry((line.subnet, line.epoch)).or_default();
                *row = (row.0 + line.amount, line.share.0, line.pot.0);
                total += line.amount;
            }
            (Purse::Balance, Kind::QueryFee) if line.amount > 0 => fees += line.amount,
            _ => {}
        }
    }
    let mut table = Table::new(&["subnet", ">epoch", ">earned", ">of the pot"]).or("nothing was earned yet");
    for ((subnet, epoch), (amount, _, pot)) in &rows {
        table.row(vec![maybe(*subnet), maybe(*epoch), signed(*amount), Motes(*pot).to_string()]);
    }
    let owed = total - claimed;
    let data = json!({ "account": account, "earned": Motes(total.unsigned_abs()), "fees": Motes(fees.unsigned_abs()),
        "claimed": Motes(claimed.unsigned_abs()), "owed": Motes(owed.unsigned_abs()), "height": s.height });
    let reply = Reply::of(&data).line(format!("{} earned", signed(total))).table(table).facts([
        ("query fees", signed(fees)),
        ("claimed", signed(claimed)),
        ("owed", signed(owed)),
    ]);
    let reply = match rows.keys().next_back() {
        Some((Some(subnet), Some(epoch))) => {
            reply.hint(format!("starling miner why --subnet {subnet} --epoch {epoch}   why it was so much"))
        }
        _ => reply,
    };
    Ok(if owed > 0 { reply.hint("starling wallet claim   moves what is owed to the balance") } else { reply })
}

/// What stake brought: what went into pools, what came out, what it is worth now.
///
/// # Errors
/// No node, or it does not tell.
pub fn rewards(context: &Context) -> Result<Reply, CliError> {
    let account: AccountId = context.account_info()?.public.into();
    let client = context.client()?;
    let s = fetch(&client, &account, 0, None)?;
    let now: crate::protocol::report::StakeReport = client.get(&format!("/api/v1/accounts/{account}/stake"))?;
    let sum = |wanted: &dyn Fn(&StatementLine) -> bool| -> i64 {
        s.lines.iter().filter(|line| wanted(line)).map(|line| line.amount).sum()
    };
    let put_in = sum(&|line| line.kind == Kind::Genesis && line.purse == Purse::Pool)
        - sum(&|line| line.kind == Kind::Delegate && line.purse == Purse::Balance);
    let out = sum(&|line| line.kind == Kind::Undelegate && line.purse == Purse::Unbonding);
    let take = sum(&|line| line.kind == Kind::Take);
    let pool = sum(&|line| {
        line.purse == Purse::Pool
            && matches!(line.kind, Kind::EmissionValidator | Kind::EmissionCommittee | Kind::QueryFee | Kind::Take)
    });
    let worth = i64::try_from(now.staked.0).unwrap_or(i64::MAX);
    let gained = worth + out - put_in;
    let data = json!({ "account": account, "put_in": put_in.to_string(), "taken_out": out.to_string(),
        "worth": worth.to_string(), "gained": gained.to_string(), "pool_rewards": pool.to_string(),
        "take": take.to_string(), "height": s.height });
    Ok(Reply::of(&data).line(format!("{} gained by stake", signed(gained))).facts([
        ("put in", signed(put_in)),
        ("taken out", signed(out)),
        ("worth now", signed(worth)),
        ("rewards of the own pool", if pool > 0 { signed(pool) } else { String::new() }),
        ("of them by take", if take > 0 { signed(take) } else { String::new() }),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::to_hex;
    use crate::protocol::statement::Line;

    fn line(purse: Purse, kind: Kind, amount: i64) -> StatementLine {
        let account = AccountId([1; 32]);
        let (subnet, epoch, mechanism, counterpart) = (None, None, None, None);
        StatementLine::of(&Line {
            height: 3,
            account,
            purse,
            kind,
            subnet,
            epoch,
            mechanism,
            amount,
            counterpart,
            share: 0,
            pot: 0,
        })
    }

    #[test]
    fn e21_a_statement_adds_up_or_is_refused() {
        let purse = |amount| PurseReport { purse: Purse::Balance, amount };
        let mut s = StatementReport {
            opening: vec![purse(10)],
            closing: vec![purse(12)],
            lines: vec![line(Purse::Balance, Kind::Fee, -3), line(Purse::Balance, Kind::Transfer, 5)],
            ..Default::default()
        };
        assert!(adds_up(&s));
        let text = csv(&s);
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("3,0,balance,fee,,,,-3,,0,0"), "{text}");
        s.closing = vec![purse(13)];
        assert!(!adds_up(&s));
    }

    #[test]
    fn hex_of_any_length_reads_back() {
        assert_eq!(unhex(&to_hex(&[0, 1, 0xab])).unwrap(), [0, 1, 0xab]);
        assert!(unhex("abc").is_err() && unhex("zz").is_err());
    }
}
