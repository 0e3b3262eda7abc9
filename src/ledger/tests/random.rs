//! Laws that hold whatever is sent: money, determinism, the store's rows, the leader's side and the checker's.

use std::collections::BTreeMap;

use super::super::apply::{build, execute};
use super::super::receipt::Code;
use super::super::state::State;
use super::*;
use crate::protocol::chance::Chance;
use crate::protocol::commitment::canonical_weights;
use crate::protocol::transaction::ALL;

/// Draws transactions of every kind that mostly make sense, and knows what it committed to.
struct Crowd {
    chance: Chance,
    sealed: BTreeMap<(SubnetId, u64, u8), Vec<Weight>>,
}

impl Crowd {
    fn action(&mut self, state: &State, of: u8) -> Action {
        let subnet = if self.chance.one_in(1, 2) { VISION } else { TEXT };
        let role = if of < 4 { Role::Validator } else { Role::Miner };
        let epoch = state.subnet(subnet).map_or(0, |subnet| subnet.epoch);
        let mine = state.member_of(subnet, role, &account(of));
        let amount = self.chance.below(20 * STAR) + 1;
        match (self.chance.below(10), mine) {
            (0..=2, _) => transfer(u8::try_from(self.chance.below(16)).unwrap(), amount),
            (3, _) if self.chance.one_in(1, 2) => Action::Delegate { validator: self.someone(), amount },
            (3, _) => Action::Stake { amount },
            (4, _) => {
                let amount = if self.chance.one_in(1, 3) { ALL } else { amount };
                match self.chance.below(5) {
                    0 => Action::Undelegate { validator: self.someone(), amount },
                    1 => Action::Redelegate { from: self.someone(), to: self.someone(), amount },
                    2 => Action::SetTake { take_bp: u16::try_from(self.chance.below(2_000)).unwrap() },
                    3 => Action::Claim,
                    _ => Action::Unstake { amount },
                }
            }
            (5, _) if self.chance.one_in(1, 6) => {
                let parts = if self.chance.one_in(1, 2) { vec![(subnet, 9)] } else { vec![(VISION, 1), (TEXT, 3)] };
                Action::Support { parts }
            }
            (5, _) if self.chance.one_in(1, 4) => Action::Unqueue { subnet, place: self.chance.below(4) },
            (5, Some(member)) if role == Role::Validator && self.chance.one_in(1, 2) => {
                let miner = MemberId(u32::try_from(self.chance.below(12)).unwrap());
                Action::MemberAttest { subnet, member, miner }
            }
            (5, Some(member)) if self.chance.one_in(1, 3) => Action::Leave { subnet, member },
            (6 | 7, Some(_)) if role == Role::Validator => {
                let ids: Vec<MemberId> =
                    state.members(subnet).filter(|m| m.1.role == Role::Miner).map(|m| m.0).collect();
                let vector =
                    canonical_weights(ids.iter().map(|id| (*id, u16::try_from(self.chance.below(65_536)).unwrap())));
                let action = commit_of(state, subnet, epoch, of, &opening(of, &vector)).1;
                self.sealed.insert((subnet, epoch, of), vector);
                action
            }
            (8 | 9, Some(_)) if role == Role::Validator => {
                let epoch = epoch.saturating_sub(1);
                let weights = self.sealed.get(&(subnet, epoch, of)).cloned().unwrap_or_default();
                reveal_of(state, subnet, epoch, of, opening(of, &weights)).1
            }
            _ => register(of, subnet, role).1,
        }
    }

    fn someone(&mut self) -> AccountId {
        account(u8::try_from(self.chance.below(6)).unwrap())
    }

    fn candidates(&mut self, world: &World) -> Vec<Vec<u8>> {
        let actions: Vec<(u8, Action)> = (0..self.chance.below(12))
            .map(|_| u8::try_from(self.chance.below(16)).unwrap())
            .collect::<Vec<_>>()
            .into_iter()
            .map(|of| (of, self.action(&world.state, of)))
            .collect();
        world.body(&actions)
    }
}

/// 40 random networks of 150 heights each.
#[test]
fn t5_any_history_balances_repeats_and_reloads() {
    let (mut applied, mut failed, mut paid) = (0, 0, 0);
    for seed in 0..40 {
        let mut genesis = genesis();
        genesis.parameters.term_heights = 20;
        genesis.subnets[0].owner = Some(account(7));
        let mut world = World::of(&genesis.seal().unwrap().1);
        let mut store: BTreeMap<Vec<u8>, Vec<u8>> = world.state.rows().into_iter().collect();
        let mut crowd = Crowd { chance: Chance::from_seed([seed; 32]), sealed: BTreeMap::new() };
        for _ in 0..150 {
            let candidates = crowd.candidates(&world);
            let before = world.state.root();
            let (body, built) = build(&world.state, &world.context(), candidates);
            let checked = execute(&world.state, &world.context(), &body).expect("what is built is admissible");
            assert_eq!(world.state.root(), before, "the parent is never changed");
            // What the leader computes is what everyone computes (L1).
            assert_eq!(built.state_root, checked.state_root);
            assert_eq!(built.receipts, checked.receipts);
            assert_eq!((built.receipt_root, built.record_root), (checked.receipt_root, checked.record_root));
            assert_eq!((&built.diff, &built.events), (&checked.diff, &checked.events));
            for receipt in &checked.receipts {
                if receipt.code == Code::Applied { applied += 1 } else { failed += 1 }
            }
            for (key, value) in &checked.diff {
                match value {
                    Some(value) => store.insert(key.clone(), value.clone()),
                    None => store.remove(key),
                };
            }
            // Every row added up anew (L7, S12).
            assert_eq!(checked.state.check(), Ok(()));
            let nonces = |state: &State| (0..16).map(|of| state.account(&account(of)).map(|a| a.nonce)).collect();
            let (old, new): (Vec<_>, Vec<_>) = (nonces(&world.state), nonces(&checked.state));
            assert!(old.iter().zip(&new).all(|(a, b)| a.is_none() || b.is_none() || a <= b), "nonces rise");
            world.take(&checked);
        }
        // The rows of the store are the state (and the root of their tree is the one that was built step by step).
        let loaded = State::load(store.clone()).unwrap();
        assert_eq!(loaded.root(), world.state.root());
        assert!(store.into_iter().eq(world.state.rows()));
        // A reloaded node goes on exactly like the one that never stopped.
        let mut again = World { state: loaded, parent: world.parent };
        let actions = [(7, transfer(6, STAR / 100)), register(7, TEXT, Role::Miner)];
        let actions = if again.balance(7) > STAR { &actions[..] } else { &[] };
        assert_eq!(again.step(actions).state_root, world.step(actions).state_root);
        paid += world.state.supply().minted;
    }
    assert!(applied > 5_000 && failed > 1_000 && paid > 0, "{applied} applied, {failed} failed, {paid} minted");
}

#[test]
fn a_store_that_was_tampered_with_does_not_load() {
    use super::super::rows::{Account, Row};
    use super::super::state::StateError;
    use super::super::table::Table;
    let state = World::new().state;
    let mut rows = state.rows();
    let at = rows.iter().position(|row| row.0 == Account::row_key(&account(5))).unwrap();
    rows[at].1 = Account { balance: 1, nonce: 0, attached: 0 }.encode();
    assert!(matches!(State::load(rows.clone()), Err(StateError::Imbalance(_))));
    rows[at].1.push(0);
    assert!(matches!(State::load(rows.clone()), Err(StateError::Row(_))));
    rows.remove(at);
    rows.retain(|row| row.0 != [18]);
    assert!(matches!(State::load(rows), Err(StateError::Missing(18))));
}
