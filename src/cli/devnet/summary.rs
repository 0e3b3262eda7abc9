//! What a run that ended has shown: the figures, and which of them are not as they must be. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::Extra;
use super::ranks::{percentile, spearman};
use crate::protocol::ids::{AccountId, Epoch, Height, MemberId, SubnetId};
use crate::protocol::report::{MetagraphReport, MetagraphRow, Motes, Share, SupplyReport};

/// Epochs after which pay must follow quality.
const EPOCHS_JUDGED: u64 = 3;
/// The rank correlation that pay must reach then.
const SPEARMAN_MIN: f64 = 0.8;
/// Of the best miner's pay, the share in hundredths that one who guesses must stay under.
const GUESSING_MAX_PERCENT: u64 = 5;
/// Closed epochs whose incentives are averaged: one alone has the luck of its draws in it.
const EPOCHS_AVERAGED: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub height: Height,
    pub seconds: u64,
    pub finality_ms: Quantiles,
    pub rss_bytes_max: u64,
    pub supply: Supply,
    pub statements: Statements,
    pub queries: Tally,
    pub subnets: Vec<SubnetSummary>,
    /// What is not as it must be, in words; empty when all is well.
    pub failures: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub p50: Option<u64>,
    pub p99: Option<u64>,
    pub samples: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Supply {
    pub ok: bool,
    pub genesis: Motes,
    pub minted: Motes,
    pub burned: Motes,
    pub total: Motes,
}

/// Whether every account's lines make what it holds (E21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statements {
    pub accounts: u64,
    pub lines: u64,
    /// Accounts whose lines do not.
    pub differences: u64,
}

/// Questions through the gateway. Each has one outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub asked: u64,
    pub answered: u64,
    pub failed: u64,
    /// The first few reasons.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubnetSummary {
    pub id: SubnetId,
    pub name: String,
    pub task: String,
    pub kind: String,
    /// Closed epochs that paid a miner.
    pub epochs: u64,
    /// Between true quality and incentive; none when there is nothing to rank.
    pub spearman: Option<f64>,
    pub miners: Vec<MinerSummary>,
    pub validators: Vec<ValidatorSummary>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidatorSummary {
    pub member: MemberId,
    pub node: String,
    pub behaviour: String,
    pub stake: Motes,
    /// The mean of the last few closed epochs.
    pub dividend: f64,
    pub earned: Motes,
    pub display: String,
    /// Commits that were not opened in time.
    pub missed: u32,
    /// In [-1, 1]: below 0 its rows repeat the past.
    pub freshness: Option<f64>,
    /// What is left of its seat's bond.
    pub bond: Motes,
    pub last_reveal: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinerSummary {
    pub member: MemberId,
    pub node: String,
    pub behaviour: String,
    /// On the full held-out set, what it answers being what is judged: nothing for one that never answers.
    pub true_quality: f64,
    pub score: Option<Share>,
    /// The mean of the last few closed epochs.
    pub incentive: f64,
    pub earned: Motes,
    pub display: String,
}

/// A miner as the plan knows it.
#[derive(Clone, Debug)]
pub struct Known {
    pub node: String,
    pub behaviour: String,
    pub true_quality: f64,
}

/// What was seen while it ran.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub height: Height,
    pub seconds: u64,
    /// Milliseconds to finality by node and height.
    pub finality_ms: BTreeMap<(String, Height), u64>,
    pub rss_bytes_max: u64,
    pub supply: SupplyReport,
    pub statements: Statements,
    pub tally: Tally,
    /// The last look at each subnet in each of its epochs.
    pub tables: BTreeMap<(SubnetId, Epoch), MetagraphReport>,
    pub kinds: BTreeMap<SubnetId, String>,
    /// Failures seen on the way: a node that ended, a height that did not come.
    pub failures: Vec<String>,
}

impl Observed {
    pub fn remember(&mut self, table: MetagraphReport) {
        self.tables.insert((table.subnet, table.epoch), table);
    }
}

fn float(share: Share) -> f64 {
    share.0 as f64 / Share::ONE.0 as f64
}

fn miners(table: &MetagraphReport) -> impl Iterator<Item = &MetagraphRow> {
    table.rows.iter().filter(|row| row.role == "miner")
}

fn subnet(tables: &[&MetagraphReport], kind: String, known: &BTreeMap<AccountId, Known>) -> Option<SubnetSummary> {
    let last = tables.last()?;
    let pays = |table: &&&MetagraphReport| miners(table).any(|row| row.incentive > Share(0));
    let epochs = tables.iter().filter(pays).count() as u64;
    let recent: Vec<&&MetagraphReport> = tables.iter().rev().filter(pays).take(EPOCHS_AVERAGED).collect();
    let incentive = |member: MemberId| {
        let seen: Vec<f64> = recent
            .iter()
            .filter_map(|table| miners(table).find(|row| row.member == member))
            .map(|row| float(row.incentive))
            .collect();
        seen.iter().sum::<f64>() / seen.len().max(1) as f64
    };
    let mut rows: Vec<MinerSummary> = miners(last)
        .map(|row| {
            let known = known.get(&row.account);
            MinerSummary {
                member: row.member,
                node: known.map_or_else(|| row.account.short(), |k| k.node.clone()),
                behaviour: known.map_or_else(|| "unknown".to_owned(), |k| k.behaviour.clone()),
                true_quality: known.map_or(0.0, |k| k.true_quality),
                score: row.score,
                incentive: incentive(row.member),
                earned: row.earned,
                display: row.earned.to_string(),
            }
        })
        .collect();
    let dividend = |member: MemberId| {
        let seen: Vec<f64> = recent
            .iter()
            .filter_map(|table| table.rows.iter().find(|row| row.member == member))
            .map(|row| float(row.dividends))
            .collect();
        seen.iter().sum::<f64>() / seen.len().max(1) as f64
    };
    let validator = |row: &MetagraphRow| {
        let known = known.get(&row.account);
        ValidatorSummary {
            member: row.member,
            node: known.map_or_else(|| row.account.short(), |k| k.node.clone()),
            behaviour: known.map_or_else(|| "unknown".to_owned(), |k| k.behaviour.clone()),
            stake: row.stake,
            dividend: dividend(row.member),
            earned: row.earned,
            display: row.earned.to_string(),
            missed: row.missed,
            freshness: row.freshness,
            bond: row.bond,
            last_reveal: row.last_reveal,
        }
    };
    let validators = last.rows.iter().filter(|row| row.role == "validator").map(validator).collect();
    let hollow = |row: &&MinerSummary| Extra::named(&row.behaviour).is_some_and(Extra::is_hollow);
    let own = rows.iter().filter(|row| !hollow(row));
    let pairs: Vec<(f64, f64)> = own.map(|row| (row.true_quality, row.incentive)).collect();
    rows.sort_by(|a, b| b.true_quality.total_cmp(&a.true_quality));
    Some(SubnetSummary {
        id: last.subnet,
        name: last.name.clone(),
        task: last.task.clone(),
        kind,
        epochs,
        spearman: spearman(&pairs).filter(|_| epochs > 0),
        miners: rows,
        validators,
    })
}

/// Makes the summary and judges it.
pub fn summarise(seen: Observed, known: &BTreeMap<AccountId, Known>) -> Summary {
    let finality: Vec<u64> = seen.finality_ms.values().copied().collect();
    let mut by_subnet: BTreeMap<SubnetId, Vec<&MetagraphReport>> = BTreeMap::new();
    for ((id, _), table) in &seen.tables {
        by_subnet.entry(*id).or_default().push(table);
    }
    let kind = |id: &SubnetId| seen.kinds.get(id).cloned().unwrap_or_default();
    let subnets: Vec<SubnetSummary> =
        by_subnet.iter().filter_map(|(id, tables)| subnet(tables, kind(id), known)).collect();
    let report = &seen.supply;
    let supply = Supply {
        ok: report.ok,
        genesis: report.genesis,
        minted: report.minted,
        burned: report.burned,
        total: report.total,
    };
    let mut summary = Summary {
        height: seen.height,
        seconds: seen.seconds,
        finality_ms: Quantiles {
            p50: percentile(&finality, 50),
            p99: percentile(&finality, 99),
            samples: finality.len(),
        },
        rss_bytes_max: seen.rss_bytes_max,
        supply,
        statements: seen.statements,
        queries: seen.tally,
        subnets,
        failures: seen.failures,
    };
    let mut found = judge(&summary);
    summary.failures.append(&mut found);
    summary
}

/// What is not as it must be.
fn judge(summary: &Summary) -> Vec<String> {
    let mut failures = Vec::new();
    if !summary.supply.ok {
        failures.push("the supply is not what genesis, minting and burning make it".to_owned());
    }
    let statements = &summary.statements;
    if statements.differences > 0 {
        let (wrong, all) = (statements.differences, statements.accounts);
        failures.push(format!("{wrong} of {all} accounts hold something else than their statements say"));
    }
    let queries = &summary.queries;
    if queries.failed > 0 || (queries.asked > 0 && queries.answered == 0) {
        let why = queries.reasons.first().map(|r| format!(": {r}")).unwrap_or_default();
        failures.push(format!("{} of {} queries failed{why}", queries.failed, queries.asked));
    }
    for subnet in summary.subnets.iter().filter(|s| s.epochs >= EPOCHS_JUDGED && s.miners.len() > 1) {
        match subnet.spearman {
            Some(rank) if rank >= SPEARMAN_MIN => {}
            Some(rank) => {
                failures.push(format!("{}: pay follows quality by {rank:.2} only, {SPEARMAN_MIN} is due", subnet.name));
            }
            None => failures.push(format!("{}: pay tells no miner from another", subnet.name)),
        }
        let best = subnet.miners.iter().map(|m| m.earned.0).max().unwrap_or(0);
        let guess = |m: &&MinerSummary| m.behaviour == Extra::Random.name();
        for miner in subnet.miners.iter().filter(guess) {
            if miner.earned.0.saturating_mul(100) > best.saturating_mul(GUESSING_MAX_PERCENT) {
                let message = format!("{}: {} guesses and earned {}", subnet.name, miner.node, miner.display);
                failures.push(format!("{message}, over {GUESSING_MAX_PERCENT} % of the best"));
            }
        }
    }
    for subnet in summary.subnets.iter().filter(|s| s.epochs >= EPOCHS_JUDGED) {
        failures.extend(cheats_that_pay(subnet));
    }
    failures
}

/// Validators that cheat and earn more than the honest ones do on average. A copier's lag is too small a loss to be
/// judged over a short run; it is shown and not judged.
fn cheats_that_pay(subnet: &SubnetSummary) -> Vec<String> {
    let honest: Vec<u64> = subnet.validators.iter().filter(|v| v.behaviour == "honest").map(|v| v.earned.0).collect();
    let mean = honest.iter().fold(0, |sum: u64, earned| sum.saturating_add(*earned)) / honest.len().max(1) as u64;
    let losing = [Extra::NonRevealer.name(), Extra::SelfDealer.name()];
    let cheats = subnet.validators.iter().filter(|v| losing.contains(&v.behaviour.as_str()));
    cheats
        .filter(|v| v.earned.0 > mean)
        .map(|v| {
            format!(
                "{}: {} is a {} and earned {}, more than honest validators",
                subnet.name, v.node, v.behaviour, v.display
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(member: u32, incentive: u64, earned: u64) -> MetagraphRow {
        MetagraphRow {
            member: MemberId(member),
            account: AccountId([u8::try_from(member).unwrap(); 32]),
            role: "miner".into(),
            incentive: Share::of(incentive, 100),
            earned: Motes(earned),
            ..MetagraphRow::default()
        }
    }

    fn table(epoch: u64, rows: Vec<MetagraphRow>) -> MetagraphReport {
        MetagraphReport {
            subnet: SubnetId(1),
            name: "vision".into(),
            task: "vision".into(),
            epoch,
            rows,
            ..Default::default()
        }
    }

    fn known(rows: &[(u32, f64, &str)]) -> BTreeMap<AccountId, Known> {
        rows.iter()
            .map(|(member, quality, behaviour)| {
                let known =
                    Known { node: format!("m{member}"), behaviour: (*behaviour).into(), true_quality: *quality };
                (AccountId([u8::try_from(*member).unwrap(); 32]), known)
            })
            .collect()
    }

    fn seen(tables: Vec<MetagraphReport>) -> Observed {
        let mut seen = Observed { supply: SupplyReport { ok: true, ..Default::default() }, ..Default::default() };
        seen.tally = Tally { asked: 2, answered: 2, ..Tally::default() };
        tables.into_iter().for_each(|t| seen.remember(t));
        seen
    }

    #[test]
    fn pay_that_follows_quality_is_well() {
        let tables = (0..5).map(|e| table(e, vec![row(1, 60 * e.min(1), 600), row(2, 40 * e.min(1), 400)])).collect();
        let summary = summarise(seen(tables), &known(&[(1, 0.9, "honest"), (2, 0.5, "honest")]));
        assert_eq!(summary.failures, Vec::<String>::new());
        let subnet = &summary.subnets[0];
        assert_eq!((subnet.epochs, subnet.spearman), (4, Some(1.0)));
        assert!((subnet.miners[0].incentive - 0.6).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_well_is_named() {
        let tables: Vec<_> = (1..4).map(|e| table(e, vec![row(1, 40, 400), row(2, 54, 540), row(3, 6, 60)])).collect();
        let mut observed = seen(tables.clone());
        observed.supply.ok = false;
        observed.statements = Statements { accounts: 9, lines: 40, differences: 2 };
        observed.tally = Tally { asked: 3, answered: 2, failed: 1, reasons: vec!["no miner".into()] };
        observed.failures.push("miner-1 has ended".into());
        let people = known(&[(1, 0.9, "honest"), (2, 0.5, "honest"), (3, 0.1, "random")]);
        let failures = summarise(observed, &people).failures;
        assert_eq!(failures.len(), 6, "{failures:#?}");
        let parts = ["ended", "supply", "2 of 9 accounts", "1 of 3", "0.50 only", "m3 guesses"];
        for (failure, part) in failures.iter().zip(parts) {
            assert!(failure.contains(part), "{failure}");
        }
        // Too early to judge pay.
        assert_eq!(summarise(seen(tables[..2].to_vec()), &people).failures, Vec::<String>::new());
    }

    #[test]
    fn validators_are_shown_and_those_that_cheat_must_lose() {
        let validator = |member: u32, earned: u64| MetagraphRow {
            role: "validator".into(),
            dividends: Share::of(earned, 100),
            missed: 3,
            ..row(member, 0, earned)
        };
        let table = |epoch| {
            table(epoch, vec![row(1, 60, 600), row(2, 40, 400), validator(7, 40), validator(8, 41), validator(9, 60)])
        };
        let mut people = known(&[(1, 0.9, "honest"), (2, 0.5, "honest"), (7, 0.0, "honest"), (8, 0.0, "copier")]);
        people.extend(known(&[(9, 0.0, "self_dealer")]));
        let summary = summarise(seen((1..5).map(table).collect()), &people);
        assert_eq!(summary.failures.len(), 1, "{:?}", summary.failures);
        assert!(summary.failures[0].contains("m9 is a self_dealer"), "{:?}", summary.failures);
        let validators = &summary.subnets[0].validators;
        assert_eq!(validators.iter().map(|v| (v.earned.0, v.missed)).collect::<Vec<_>>(), [(40, 3), (41, 3), (60, 3)]);
        assert!((validators[0].dividend - 0.4).abs() < 1e-6);
    }

    #[test]
    fn one_who_joined_late_is_averaged_over_its_own_epochs() {
        let tables = vec![
            table(1, vec![row(1, 100, 10)]),
            table(2, vec![row(1, 100, 20)]),
            table(3, vec![row(1, 50, 25), row(2, 50, 5)]),
        ];
        let summary = summarise(seen(tables), &known(&[(1, 0.5, "honest"), (2, 0.9, "late")]));
        assert!((summary.subnets[0].miners[0].incentive - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_document_has_the_promised_names() {
        let value = serde_json::to_value(summarise(seen(vec![table(1, vec![row(1, 100, 7)])]), &known(&[]))).unwrap();
        for path in [
            "/height",
            "/finality_ms/p50",
            "/finality_ms/p99",
            "/rss_bytes_max",
            "/supply/ok",
            "/supply/genesis",
            "/supply/minted",
            "/supply/burned",
            "/supply/total",
            "/statements/accounts",
            "/statements/lines",
            "/statements/differences",
            "/queries/asked",
            "/queries/answered",
            "/queries/failed",
            "/subnets/0/id",
            "/subnets/0/name",
            "/subnets/0/task",
            "/subnets/0/kind",
            "/subnets/0/epochs",
            "/subnets/0/spearman",
            "/subnets/0/miners/0/member",
            "/subnets/0/miners/0/node",
            "/subnets/0/miners/0/behaviour",
            "/subnets/0/miners/0/true_quality",
            "/subnets/0/miners/0/score",
            "/subnets/0/miners/0/incentive",
            "/subnets/0/miners/0/earned",
        ] {
            assert!(value.pointer(path).is_some(), "{path}");
        }
        assert_eq!(value.pointer("/subnets/0/miners/0/earned").unwrap(), "7");
    }
}
