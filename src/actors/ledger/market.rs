//! The markets for people: doors, notices, announced changes, and the budget of a term.

use super::View;
use super::report::ReportError;
use crate::ledger::economy::rows::{Attested, Charter, Standing, Support};
use crate::ledger::rows::{Member, Pool, Subnet};
use crate::protocol::ids::{MemberId, SubnetId};
use crate::protocol::parameters::{Spec, SubnetRules, Unit};
use crate::protocol::report::{
    BudgetReport, ChallengerRow, GrantRow, Motes, QueueRow, RuleChange, Share, StandingReport, StandingRow, VoiceRow,
};
use crate::protocol::transaction::Role;
use crate::protocol::units::format_star;

/// Openings from a notice to the exit (E16).
const NOTICE_EPOCHS: u64 = 2;

fn worded(spec: &Spec<SubnetRules>, value: u64) -> String {
    if spec.unit == Unit::Motes { format_star(value) } else { value.to_string() }
}

fn standing_words(row: &Member) -> (&'static str, Option<u64>) {
    match row.standing {
        _ if row.leaving => ("leaving", None),
        Standing::Active => ("active", None),
        Standing::Waiting { heights } => ("waiting", Some(heights)),
        Standing::Probation { epochs } => ("probation", Some(epochs)),
        Standing::Notice { epoch } => ("notice", Some(epoch.saturating_add(NOTICE_EPOCHS))),
    }
}

impl View {
    /// The doors of a subnet.
    ///
    /// # Errors
    /// There is no such subnet.
    pub fn standing(&self, id: SubnetId) -> Result<StandingReport, ReportError> {
        let Some(subnet) = self.state.subnet(id) else {
            return Err(ReportError::NotFound(format!("there is no subnet {id}; `starling subnet list` shows them")));
        };
        let height = self.state.height();
        let charter = self.state.get::<Charter>(&id).cloned().unwrap_or_default();
        let price = self.state.place_price(id, &subnet.rules, height.saturating_add(1));
        let members = u64::from(subnet.miners) + u64::from(subnet.validators);
        let change = |change: &crate::ledger::economy::rows::Change| {
            let spec = SubnetRules::SPECS.iter().find(|spec| spec.id == change.rule)?;
            let (now, then) = (worded(spec, (spec.get)(&subnet.rules)), worded(spec, change.value));
            Some(RuleChange { rule: spec.name.to_owned(), now, then, epoch: change.epoch })
        };
        let waiting = self.state.queue(id).into_iter().map(|(place, row)| QueueRow {
            place,
            account: row.account,
            paid: Motes(row.paid),
            bond: Motes(row.bond),
            since: row.since,
        });
        Ok(StandingReport {
            subnet: id,
            name: subnet.name.clone(),
            height,
            epoch: subnet.epoch,
            slots: subnet.rules.slots,
            free: subnet.rules.slots.saturating_sub(members),
            price: Motes(price.whole),
            price_burned: Motes(price.fee),
            price_returned: Motes(price.bond),
            seat_bond: Motes(subnet.rules.validator_bond.max(self.state.parameters().seat_bond_min)),
            owner: charter.owner,
            lock: Motes(charter.lock),
            created: charter.created,
            protected_until: charter.protected_until,
            closing: charter.closing,
            challenged: charter.challenged,
            changes: charter.changes.iter().filter_map(change).collect(),
            grant: self.grant(id, subnet, &self.voices()),
            exits: self.state.places_wanted(id, subnet) as u64,
            miners: self.standing_rows(id, subnet),
            queue: waiting.collect(),
        })
    }

    fn standing_rows(&self, id: SubnetId, subnet: &Subnet) -> Vec<StandingRow> {
        let (ranking, wanted) = (self.state.ranking(id), self.state.places_wanted(id, subnet));
        let safe = ranking.get(wanted).map(|row| row.score);
        let last = wanted.checked_sub(1).and_then(|at| ranking.get(at)).map(|row| row.score);
        let row = |(member, of): (MemberId, &Member)| {
            let rank = ranking.iter().position(|row| row.member == member);
            let (standing, since) = standing_words(of);
            let goes = rank.is_some_and(|rank| rank < wanted);
            let attested = self.state.get::<Attested>(&(id, member)).map_or(0, |attested| attested.by.len());
            StandingRow {
                member,
                account: of.account,
                standing: standing.to_owned(),
                since,
                attested: u32::try_from(attested).unwrap_or(u32::MAX),
                score: Share(of.score),
                rank: rank.and_then(|rank| u32::try_from(rank).ok()),
                lacks: safe.filter(|_| goes).map(|safe| Share(safe.saturating_sub(of.score))),
                ahead: last.filter(|_| rank.is_some() && !goes).map(|last| Share(of.score.saturating_sub(last))),
            }
        };
        let miners = self.state.members(id).filter(|(_, member)| member.role == Role::Miner);
        let mut rows: Vec<StandingRow> = miners.map(row).collect();
        rows.sort_by_key(|row| (row.rank.is_none(), row.rank, row.member));
        rows
    }

    fn voices(&self) -> Vec<VoiceRow> {
        let voice = |(account, pool): (&crate::protocol::ids::AccountId, &Pool)| {
            let support = self.state.get::<Support>(account)?;
            let whole: u64 = support.parts.iter().map(|(_, part)| u64::from(*part)).sum();
            let parts = support.parts.iter().map(|(subnet, part)| (*subnet, Share::of((*part).into(), whole)));
            Some(VoiceRow { account: *account, stake: Motes(pool.total), parts: parts.collect() })
        };
        self.state.range::<Pool>(..).filter_map(voice).collect()
    }

    fn grant(&self, id: SubnetId, subnet: &Subnet, voices: &[VoiceRow]) -> GrantRow {
        let purse = self.state.purse(id);
        let all: u64 = self.state.range::<Pool>(..).map(|(_, pool)| pool.total).fold(0, u64::saturating_add);
        let names = |voice: &&VoiceRow| voice.parts.iter().any(|(subnet, _)| *subnet == id);
        let behind: u64 = voices.iter().filter(names).map(|voice| voice.stake.0).fold(0, u64::saturating_add);
        GrantRow {
            subnet: id,
            name: subnet.name.clone(),
            usage: Motes(purse.usage_grant),
            support: Motes(purse.support_grant),
            taken: Motes(purse.taken),
            pending: Motes(purse.pending),
            mean: Motes(purse.mean_grant),
            bank: Motes(subnet.burned_fees),
            named: Share::of(behind, all),
        }
    }

    /// What the current term may mint.
    pub fn budget(&self) -> BudgetReport {
        let (books, of_network, height) = (self.state.treasury(), self.state.parameters(), self.state.height());
        let last = books.budget;
        let budget = last.committee.saturating_add(last.usage).saturating_add(last.support);
        let given = last.paid.saturating_add(last.used).saturating_add(last.supported);
        let lock = books.lock.at(
            height.saturating_add(1),
            of_network.lock_half_life,
            of_network.lock_min,
            of_network.supply_cap,
        );
        let voices = self.voices();
        let subnets: Vec<GrantRow> =
            self.state.range::<Subnet>(..).map(|(id, subnet)| self.grant(*id, subnet, &voices)).collect();
        let challengers = books.challengers.iter().map(|of| ChallengerRow {
            account: of.account,
            name: of.name.clone(),
            task: of.task.clone(),
            tempo: of.tempo,
            lock: Motes(of.lock),
            since: of.since,
        });
        BudgetReport {
            height,
            term_start: books.term_start,
            term_end: books.term_start.saturating_add(of_network.term_heights),
            budget: Motes(budget),
            committee: Motes(last.committee),
            usage: Motes(last.usage),
            support: Motes(last.support),
            committee_paid: Motes(last.paid),
            usage_granted: Motes(last.used),
            support_granted: Motes(last.supported),
            unminted: Motes(budget.saturating_sub(given)),
            subnets_open: subnets.len() as u64,
            subnets,
            voices,
            lock: Motes(lock),
            subnets_max: of_network.subnet_limit,
            challengers: challengers.collect(),
        }
    }
}
