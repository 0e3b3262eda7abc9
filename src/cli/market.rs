//! Opening, changing and leaving markets: what `subnet` and `stake support` send (E7, E12-E17).
//!
//! What a price or a lock is now is asked first and shown; what is sent carries the most that may be taken, so that nobody
//! pays more than they saw.

use clap::Args;

use super::context::Context;
use super::error::{CliError, Exit};
use super::mutate::act;
use super::output::{Reply, Table, maybe};
use super::subnet::{Register, SeatRole, segment};
use crate::config::keys::near;
use crate::protocol::genesis::TASKS;
use crate::protocol::ids::{AccountId, MemberId, NodeId, PublicKey, SubnetId};
use crate::protocol::parameters::{Spec, SubnetRules, Unit};
use crate::protocol::report::{
    AccountReport, BudgetReport, Membership, Motes, NodeStatus, Share, StandingReport, StandingRow, SubnetReport,
};
use crate::protocol::transaction::{Action, CHANGES_MAX, NAME_BYTES_MAX, Role, SUPPORT_MAX};
use crate::protocol::units::parse_star;

#[derive(Args, Debug)]
pub struct Create {
    /// A new name: 1 to 32 of a-z, 0-9 and -
    name: String,
    /// What its miners are asked for
    #[arg(long, value_name = "TASK")]
    task: String,
    /// Heights of an epoch [default: what this kind of network has]
    #[arg(long, value_name = "HEIGHTS")]
    tempo: Option<u64>,
    /// The most that may be locked for it, in STAR; it comes back when the subnet closes [default: what it costs now]
    #[arg(long, value_name = "STAR")]
    max_lock: Option<String>,
}

#[derive(Args, Debug)]
pub struct Update {
    /// Name or number
    subnet: String,
    /// A rule and its new value, like tempo=100 or price_min="2 STAR"; it counts from the second epoch after this one
    #[arg(long = "set", value_name = "RULE=VALUE")]
    rules: Vec<String>,
    /// Whose it is from now on: an account's id, or the name of a key of this keystore
    #[arg(long, value_name = "ACCOUNT")]
    owner: Option<String>,
}

#[derive(Args, Debug)]
pub struct Unqueue {
    /// Name or number
    subnet: String,
    /// Which registration, by its number in the queue [default: the account's own]
    #[arg(long, value_name = "PLACE")]
    place: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Leave {
    /// Name or number
    subnet: String,
    /// Which seat, where the account has more than one
    #[arg(long, value_enum)]
    role: Option<SeatRole>,
}

#[derive(Args, Debug)]
pub struct Support {
    /// A subnet and its part, like vision=3; parts are weighed against each other
    #[arg(value_name = "SUBNET=PART", required_unless_present = "none")]
    parts: Vec<String>,
    /// Support nothing
    #[arg(long, conflicts_with = "parts")]
    none: bool,
}

fn standing_of(context: &Context, subnet: &str) -> Result<StandingReport, CliError> {
    context.client()?.get(&format!("/api/v1/subnets/{}/standing", segment(subnet)?))
}

fn role_of(role: SeatRole) -> (Role, &'static str) {
    match role {
        SeatRole::Miner => (Role::Miner, "miner"),
        SeatRole::Validator => (Role::Validator, "validator"),
    }
}

/// The most that may be taken: what was named, or what it is now.
fn most(named: Option<&String>, now: Motes, flag: &str) -> Result<u64, CliError> {
    let Some(text) = named else { return Ok(now.0) };
    let most = parse_star(text).map_err(|e| CliError::usage(format!("{flag}: {e}")))?;
    if most < now.0 {
        let message = format!("it is {now} now, {flag} allows {}", Motes(most));
        return Err(CliError::new(Exit::Refused, message, format!("wait until it has fallen, or raise {flag}")));
    }
    Ok(most)
}

/// Takes a seat in a subnet, or a place in the queue for one.
///
/// # Errors
/// There is no such subnet, it costs more than allowed, and see `mutate::act`.
pub fn register(context: &Context, wanted: &Register) -> Result<Reply, CliError> {
    let client = context.client()?;
    let door = standing_of(context, &wanted.subnet)?;
    let operator: NodeId = match &wanted.node_id {
        Some(text) => text.parse().map_err(|e| CliError::usage(format!("--node-id {text}: {e}")))?,
        None => client.get::<NodeStatus>("/api/v1/status")?.node,
    };
    let (role, word) = role_of(wanted.role);
    let now = if role == Role::Miner { door.price } else { door.seat_bond };
    let max_bond = most(wanted.max_price.as_ref(), now, "--max-price")?;
    let queue = if role == Role::Miner && door.free == 0 {
        format!(", behind {} that wait for a place", door.queue.len())
    } else {
        String::new()
    };
    let (name, most) = (&door.name, Motes(max_bond));
    let what = format!(
        "take a {word}'s seat in {name} for {now} now, {most} at most, served by node {}{queue}",
        operator.short()
    );
    let operator = PublicKey(operator.0);
    act(context, what, now.0, Action::Register { subnet: door.subnet, role, operator, max_bond })
}

/// Opens a subnet, or waits for the place of one.
///
/// # Errors
/// The name or the task cannot be, the lock is above what is allowed, and see `mutate::act`.
pub fn create(context: &Context, wanted: &Create) -> Result<Reply, CliError> {
    let Create { name, task, tempo, max_lock } = wanted;
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !fits || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(CliError::usage(format!("\"{name}\" cannot be a subnet's name; take 1 to 32 of a-z, 0-9 and -")));
    }
    if !TASKS.contains(&task.as_str()) {
        let hint = near(task, TASKS.iter().copied()).map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
        return Err(CliError::usage(format!("\"{task}\" is no task; there are {}{hint}", TASKS.join(", "))));
    }
    let client = context.client()?;
    let books: BudgetReport = client.get("/api/v1/budget")?;
    let tempo = match tempo {
        Some(tempo) => *tempo,
        // What the others have, so that a devnet's is a devnet's.
        None => {
            let others: Vec<SubnetReport> = client.get("/api/v1/subnets")?;
            let missing = || CliError::usage("name the heights of an epoch with --tempo");
            others.iter().map(|subnet| subnet.tempo).min().ok_or_else(missing)?
        }
    };
    let max_lock = most(max_lock.as_ref(), books.lock, "--max-lock")?;
    let full = books.subnets_open >= books.subnets_max;
    let waits = if full { " when there is a place for it" } else { "" };
    let what = format!(
        "open subnet {name} ({task}, {tempo} heights an epoch){waits}, locking {} now, {} at most",
        books.lock,
        Motes(max_lock)
    );
    act(context, what, books.lock.0, Action::SubnetCreate { name: name.clone(), task: task.clone(), tempo, max_lock })
}

/// A rule and its value, as a person writes them.
fn change(text: &str) -> Result<(&'static Spec<SubnetRules>, u64), CliError> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        CliError::usage(format!("\"{text}\" is no change of a rule; write RULE=VALUE, like tempo=100"))
    })?;
    let (name, value) = (name.trim(), value.trim().trim_matches('"'));
    let names = || SubnetRules::SPECS.iter().map(|spec| spec.name);
    let spec = SubnetRules::SPECS.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let hint = near(name, names()).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        CliError::usage(format!("there is no rule \"{name}\"{hint} `starling subnet show` lists them"))
    })?;
    let wrong = |why: String| CliError::usage(format!("{name}: {why}"));
    let value = match spec.unit {
        Unit::Motes => parse_star(value).map_err(|e| wrong(e.to_string()))?,
        _ => value.parse().map_err(|_| wrong(format!("\"{value}\" is no whole number")))?,
    };
    Ok((spec, value))
}

/// Announces changes of rules, and hands a subnet over.
///
/// # Errors
/// Nothing or too much is to change, a rule or value is unknown, and see `mutate::act`.
pub fn update(context: &Context, wanted: &Update) -> Result<Reply, CliError> {
    let owner = wanted.owner.as_ref().map(|text| super::chain::resolve_account(context, text)).transpose()?;
    let changes: Vec<_> = wanted.rules.iter().map(|text| change(text)).collect::<Result<_, _>>()?;
    if owner.is_none() && changes.is_empty() {
        return Err(CliError::usage("nothing would change; give --set RULE=VALUE, or --owner ACCOUNT"));
    }
    if changes.len() > CHANGES_MAX {
        return Err(CliError::usage(format!("{} changes at once; at most {CHANGES_MAX}", changes.len())));
    }
    let door = standing_of(context, &wanted.subnet)?;
    let mut words: Vec<String> = changes.iter().map(|(spec, value)| worded(spec, *value)).collect();
    words.extend(owner.map(|owner| format!("owner {owner}, at once")));
    let what = format!("change {}: {} (rules from epoch {})", door.name, words.join(", "), door.epoch + 2);
    // Rules by their numbers, ascending: one encoding for one set.
    let mut changes: Vec<(u16, u64)> = changes.iter().map(|(spec, value)| (spec.id, *value)).collect();
    changes.sort_unstable_by_key(|row| row.0);
    if changes.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(CliError::usage("a rule is named twice"));
    }
    act(context, what, 0, Action::SubnetUpdate { subnet: door.subnet, owner, changes })
}

fn worded(spec: &Spec<SubnetRules>, value: u64) -> String {
    let value = if spec.unit == Unit::Motes { Motes(value).to_string() } else { value.to_string() };
    format!("{} = {value}", spec.name)
}

/// Announces the end of a subnet.
///
/// # Errors
/// There is no such subnet, and see `mutate::act`.
pub fn close(context: &Context, subnet: &str) -> Result<Reply, CliError> {
    let door = standing_of(context, subnet)?;
    let what = format!("announce the end of {}; {} come back to its owner then", door.name, door.lock);
    act(context, what, 0, Action::SubnetClose { subnet: door.subnet })
}

/// Keeps a subnet whose place somebody wants.
///
/// # Errors
/// Nobody wants it, and see `mutate::act`.
pub fn matched(context: &Context, subnet: &str) -> Result<Reply, CliError> {
    let door = standing_of(context, subnet)?;
    let books: BudgetReport = context.client()?.get("/api/v1/budget")?;
    let Some(first) = books.challengers.first().filter(|_| door.challenged) else {
        let help = format!("`starling subnet show {}` shows a notice when there is one", door.name);
        return Err(CliError::new(Exit::Refused, format!("nobody wants the place of {}", door.name), help));
    };
    let what = format!("keep {} by locking {} more, as much as {} locked", door.name, first.lock, first.name);
    act(context, what, first.lock.0, Action::SubnetMatch { subnet: door.subnet })
}

/// Gives up a creation that waits.
///
/// # Errors
/// None of the account's waits, and see `mutate::act`.
pub fn cancel(context: &Context) -> Result<Reply, CliError> {
    let account = AccountId::from(context.account_info()?.public);
    let books: BudgetReport = context.client()?.get("/api/v1/budget")?;
    let Some(own) = books.challengers.iter().find(|of| of.account == account) else {
        let help = "`starling subnet list` shows subnets that are open; `subnet close` ends one of yours";
        return Err(CliError::not_found("no creation of this account waits for a place", help));
    };
    let what = format!("give up the creation of {}; {} come back at once", own.name, own.lock);
    act(context, what, 0, Action::SubnetCancel)
}

/// Gives up a registration that waits.
///
/// # Errors
/// None of the account's waits there, and see `mutate::act`.
pub fn unqueue(context: &Context, wanted: &Unqueue) -> Result<Reply, CliError> {
    let account = AccountId::from(context.account_info()?.public);
    let door = standing_of(context, &wanted.subnet)?;
    let mut own = door.queue.iter().filter(|row| row.account == account);
    let Some(row) = own.find(|row| wanted.place.is_none_or(|place| row.place == place)) else {
        let help = format!("`starling subnet eviction-list {}` shows who waits", door.name);
        return Err(CliError::not_found(format!("no registration of this account waits in {}", door.name), help));
    };
    let what = format!("give up the registration in {}; {} are on the way back", door.name, row.bond);
    act(context, what, 0, Action::Unqueue { subnet: door.subnet, place: row.place })
}

/// Gives up a seat.
///
/// # Errors
/// The account has none there, or two and none is named, and see `mutate::act`.
pub fn leave(context: &Context, wanted: &Leave) -> Result<Reply, CliError> {
    let account = AccountId::from(context.account_info()?.public);
    let door = standing_of(context, &wanted.subnet)?;
    let of: AccountReport = context.client()?.get(&format!("/api/v1/account/{account}"))?;
    let named = wanted.role.map(|role| role_of(role).1);
    let fits = |seat: &&Membership| seat.subnet == door.subnet && named.is_none_or(|role| seat.role == role);
    let seats: Vec<&Membership> = of.memberships.iter().filter(fits).collect();
    match seats.as_slice() {
        [] => {
            let help = "`starling chain account` shows the seats of an account";
            Err(CliError::not_found(format!("this account has no such seat in {}", door.name), help))
        }
        [seat] => {
            let (subnet, member): (SubnetId, MemberId) = (seat.subnet, seat.member);
            let what = format!("leave {} as {} {member} when its next epoch opens", door.name, seat.role);
            act(context, what, 0, Action::Leave { subnet, member })
        }
        _ => Err(CliError::usage("this account has more than one seat there; add --role miner or --role validator")),
    }
}

/// Says which subnets the account's stake supports.
///
/// # Errors
/// A subnet or a part cannot be read, and see `mutate::act`.
pub fn support(context: &Context, wanted: &Support) -> Result<Reply, CliError> {
    let mut parts: Vec<(SubnetId, u16)> = Vec::new();
    let mut words = Vec::new();
    let mut read = Vec::new();
    for text in &wanted.parts {
        let (subnet, part) = text
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("\"{text}\" is no support; write SUBNET=PART, like vision=3")))?;
        let part: u16 = part.parse().ok().filter(|part| *part > 0).ok_or_else(|| {
            CliError::usage(format!("{subnet}: \"{part}\" is no part; write a whole number from 1 to 65535"))
        })?;
        read.push((segment(subnet)?, part));
    }
    if read.len() > SUPPORT_MAX {
        return Err(CliError::usage(format!("{} subnets; stake supports at most {SUPPORT_MAX}", read.len())));
    }
    for (subnet, part) in read {
        let of: SubnetReport = context.client()?.get(&format!("/api/v1/subnets/{subnet}"))?;
        words.push(format!("{} {part}", of.name));
        parts.push((of.id, part));
    }
    parts.sort_unstable_by_key(|row| row.0);
    if parts.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(CliError::usage("a subnet is named twice"));
    }
    let what = if parts.is_empty() { "support nothing".to_owned() } else { format!("support {}", words.join(", ")) };
    act(context, what, 0, Action::Support { parts })
}

fn standing_word(row: &StandingRow) -> String {
    match (row.standing.as_str(), row.since) {
        ("waiting", Some(heights)) => format!("waits for {heights} heights, seen by {}", row.attested),
        ("probation", Some(epochs)) => format!("safe for {epochs} epochs"),
        ("notice", Some(epoch)) => format!("on notice, may go at epoch {epoch}"),
        (word, _) => word.to_owned(),
    }
}

/// The miners that may lose their place, the lowest first, and who waits for one.
///
/// # Errors
/// There is no such subnet.
pub fn eviction_list(context: &Context, subnet: &str) -> Result<Reply, CliError> {
    let door = standing_of(context, subnet)?;
    Ok(eviction_reply(&door))
}

fn eviction_reply(door: &StandingReport) -> Reply {
    let mut table = Table::new(&[">rank", ">member", "account", ">score", ">lacks", ">ahead", "standing"])
        .or("no miner has a place yet");
    for row in &door.miners {
        table.row(vec![
            maybe(row.rank),
            row.member.to_string(),
            row.account.short(),
            row.score.to_string(),
            maybe(row.lacks),
            maybe(row.ahead),
            standing_word(row),
        ]);
    }
    let mut queue = Table::new(&[">place", "account", ">paid", ">comes back", ">since"]).or("nobody waits");
    for row in &door.queue {
        let (place, since) = (row.place.to_string(), row.since.to_string());
        queue.row(vec![place, row.account.short(), row.paid.to_string(), row.bond.to_string(), since]);
    }
    let open = format!("{} in epoch {}: {} of {} places are free", door.name, door.epoch, door.free, door.slots);
    let goes = match door.exits {
        0 => "nobody has to go".to_owned(),
        exits => format!("the lowest {exits} would have to go"),
    };
    Reply::of(door).line(format!("{open}; {goes}")).table(table).heading("Waiting").table(queue)
}

/// What `subnet show` adds from the doors.
pub fn facts(door: &StandingReport) -> Vec<(&'static str, String)> {
    let closing = match (door.closing, door.challenged) {
        (None, _) => String::new(),
        (Some(at), false) => format!("at height {at}, because its owner wants it to"),
        (Some(at), true) => format!("at height {at}, unless its owner matches who wants its place (`subnet match`)"),
    };
    let grant = &door.grant;
    vec![
        ("a miner's place", format!("{}, of which {} come back", door.price, door.price_returned)),
        ("a validator's seat", format!("locks {}", door.seat_bond)),
        ("free places", format!("{} of {}, {} wait", door.free, door.slots, door.queue.len())),
        ("granted", format!("{} for usage and {} for support this term", grant.usage, grant.support)),
        ("bank", format!("{} of burned fees", grant.bank)),
        ("named by", format!("{} of all stake", grant.named)),
        ("locked", door.lock.to_string()),
        ("closes", closing),
    ]
}

/// The changes that an owner announced.
pub fn changes_table(door: &StandingReport) -> Table {
    let mut table = Table::new(&["rule", ">now", ">then", ">from epoch"]);
    for of in &door.changes {
        table.row(vec![of.rule.clone(), of.now.clone(), of.then.clone(), of.epoch.to_string()]);
    }
    table
}

/// What the current term may mint, and who said so.
///
/// # Errors
/// The node does not answer.
pub fn budget(context: &Context) -> Result<Reply, CliError> {
    let books: BudgetReport = context.client()?.get("/api/v1/budget")?;
    Ok(budget_reply(&books))
}

fn budget_reply(books: &BudgetReport) -> Reply {
    let mut parts = Table::new(&["part", ">of the budget", ">given"]);
    for (name, whole, given) in [
        ("committee", books.committee, books.committee_paid),
        ("usage", books.usage, books.usage_granted),
        ("support", books.support, books.support_granted),
    ] {
        parts.row(vec![name.to_owned(), whole.to_string(), given.to_string()]);
    }
    let mut subnets = Table::new(&["subnet", ">usage", ">support", ">taken", ">left before", ">bank", ">named by"])
        .or("no subnet yet");
    for s in &books.subnets {
        let cells = [s.usage, s.support, s.taken, s.pending, s.bank].map(|motes| motes.to_string());
        let row = std::iter::once(s.name.clone()).chain(cells).chain([s.named.to_string()]);
        subnets.row(row.collect());
    }
    let name = |id: &SubnetId| {
        let found = books.subnets.iter().find(|subnet| subnet.subnet == *id);
        found.map_or_else(|| id.to_string(), |subnet| subnet.name.clone())
    };
    let mut voices = Table::new(&["validator", ">stake", "supports"]).or("nobody supports anything");
    for voice in &books.voices {
        let words: Vec<String> =
            voice.parts.iter().map(|(id, part): &(_, Share)| format!("{} {part}", name(id))).collect();
        voices.row(vec![voice.account.short(), voice.stake.to_string(), words.join("  ")]);
    }
    let mut waiting = Table::new(&["waits", "task", ">locked", ">since"]).or("nobody waits for a place");
    for of in &books.challengers {
        waiting.row(vec![of.name.clone(), of.task.clone(), of.lock.to_string(), of.since.to_string()]);
    }
    Reply::of(books)
        .line(format!("Term from height {} to {}: {} to give", books.term_start, books.term_end, books.budget))
        .table(parts)
        .line(format!("{} stay unminted", books.unminted))
        .heading("Subnets")
        .table(subnets)
        .heading("Support")
        .table(voices)
        .heading("Places")
        .line(format!(
            "{} of {} subnets are open; another locks {} now",
            books.subnets_open, books.subnets_max, books.lock
        ))
        .table(waiting)
}

#[cfg(test)]
mod tests {
    use super::super::output::Ink;
    use super::*;

    #[test]
    fn e17_a_change_of_a_rule_is_read_in_its_own_unit() {
        let read = |text: &str| change(text).map(|(spec, value)| (spec.name, value));
        assert_eq!(read("tempo=100").unwrap(), ("tempo", 100));
        assert_eq!(read("price_min=\"2 STAR\"").unwrap(), ("price_min", 2_000_000_000));
        assert_eq!(read("price_min=0.5").unwrap(), ("price_min", 500_000_000));
        for (text, part) in [
            ("tempo", "RULE=VALUE"),
            ("tmpo=9", "did you mean tempo?"),
            ("tempo=soon", "no whole number"),
            ("price_min=much", "price_min"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(part) && error.exit == Exit::Usage, "{error}");
        }
    }

    #[test]
    fn nobody_pays_more_than_they_allow() {
        assert_eq!(most(None, Motes(7), "--max-price").unwrap(), 7);
        assert_eq!(most(Some(&"1".into()), Motes(7), "--max-price").unwrap(), 1_000_000_000);
        let error = most(Some(&"0.000000001".into()), Motes(7), "--max-price").unwrap_err();
        assert!(error.exit == Exit::Refused && error.help.contains("--max-price"), "{error}");
        assert_eq!(most(Some(&"x".into()), Motes(7), "--max-price").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn e16_the_list_says_who_goes_and_what_it_lacks() {
        let row = |member, rank, lacks, standing: &str| StandingRow {
            member: MemberId(member),
            rank,
            lacks,
            standing: standing.into(),
            since: Some(9),
            ..StandingRow::default()
        };
        let miners = vec![row(4, Some(0), Some(Share(1 << 31)), "notice"), row(5, None, None, "probation")];
        let door = StandingReport { name: "vision".into(), exits: 1, miners, ..StandingReport::default() };
        let text = eviction_reply(&door).text(Ink(false));
        assert!(text.contains("the lowest 1 would have to go") && text.contains("50.00 %"), "{text}");
        assert!(text.contains("on notice, may go at epoch 9") && text.contains("safe for 9 epochs"), "{text}");
        assert!(text.contains("nobody waits"), "{text}");
    }
}
