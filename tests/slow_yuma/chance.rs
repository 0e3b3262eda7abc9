//! Random epochs, from a seed: small, with the values that break things.

use std::sync::Arc;

use starling::ledger::incentive::{
    Activity, BondBlock, ColumnInput, Decay, EpochInput, EpochRules, Ids, Lift, Liquid, NoMiner, Payout, Related,
    RowInput, StakeCurve, Sums, Switches, Tie, Width, Yuma, Zeros,
};
use starling::protocol::ids::MemberId;

/// Splitmix: enough for tests, the same everywhere.
pub struct Chance {
    state: u64,
    /// What a fuzzer steers by: a byte for each choice, until they are used up.
    fed: std::collections::VecDeque<u8>,
}

impl Chance {
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5eed, fed: std::collections::VecDeque::new() }
    }

    /// One choice for each byte, then chance.
    pub fn fed(bytes: &[u8]) -> Self {
        Self { state: 0x5eed, fed: bytes.iter().copied().collect() }
    }

    pub fn next(&mut self) -> u64 {
        let fed = self.fed.pop_front().map_or(0, u64::from);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ fed;
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    pub fn flip_switches(&mut self, of: &mut Switches) {
        let values = [of.width, of.bonds].map(|width| if self.one_in(2) { Width::U32 } else { width });
        (of.width, of.bonds) = (values[0], if self.one_in(2) { Width::U16 } else { values[1] });
        of.ids = self.of(&[Ids::Slots, Ids::Members]);
        of.activity = self.of(&[Activity::Update, Activity::Reveal]);
        of.related = self.of(&[Related::Diagonal, Related::Mask]);
        of.zeros = self.of(&[Zeros::Kept, Zeros::Refused]);
        of.sums = self.of(&[Sums::Floored, Sums::Exact]);
        of.owner = self.one_in(2);
        of.tie = self.of(&[Tie::Younger, Tie::Older]);
        of.payout = self.of(&[Payout::Floor, Payout::Remainder]);
        of.no_miner = self.of(&[NoMiner::Validators, NoMiner::Carried]);
        of.decay = self.of(&[Decay::Dropped, Decay::Faded]);
        of.dense = self.one_in(4);
        let lift = Lift { tau: self.of(&[0, 21_845, 10_000]), lambda: self.of(&[0, 65_535, 32_767]) };
        of.lift = if self.one_in(2) { Some(lift) } else { None };
        of.stake_curve =
            self.of(&[StakeCurve::Linear, StakeCurve::Knee, StakeCurve::Cap(3_277), StakeCurve::Cap(20_000)]);
    }

    fn fraction(&mut self) -> u16 {
        let any = u16::try_from(self.below(65_536)).unwrap();
        self.of(&[0, 65_535, 32_767, 32_768, any, any])
    }

    fn rules(&mut self) -> EpochRules {
        let liquid = Liquid {
            low: self.fraction(),
            high: self.fraction(),
            steepness: self.of(&[1_000, 1, 5_000, -1_000, 0, i16::MAX, i16::MIN]),
        };
        EpochRules {
            tempo: 10,
            cutoff: self.of(&[0, 20, 50, u64::MAX]),
            seats: self.of(&[0, 1, 2, 4, 64]),
            stake_threshold: self.of(&[0, 0, 2, 1_000]),
            kappa: self.fraction(),
            bonds_penalty: self.fraction(),
            bonds_average_ppm: self.of(&[900_000, 975_000, 0, 1_000_000, 1]),
            yuma: self.of(&[Yuma::Three, Yuma::Three, Yuma::Two]),
            liquid: if self.one_in(2) { Some(liquid) } else { None },
        }
    }

    fn weight(&mut self, switches: &Switches) -> u32 {
        let any = u32::try_from(self.below(65_536)).unwrap();
        let wide = if switches.width == Width::U32 { [u32::MAX, 1 << 20] } else { [65_535, 40_000] };
        let value = self.of(&[0, 1, 65_535, any, any, 30_000, wide[0], wide[1]]);
        if switches.zeros == Zeros::Refused { value.max(1) } else { value }
    }

    fn row(&mut self, id: u32, columns: &[u32], stakes: u64, switches: &Switches) -> RowInput {
        let any = self.below(1 << 40);
        let density = self.of(&[1, 2, 4]);
        let flat = if self.one_in(6) { Some(self.weight(switches)) } else { None };
        let entries: Vec<(MemberId, u32)> = (0..columns.len())
            .filter_map(|at| {
                let value = flat.unwrap_or_else(|| self.weight(switches));
                self.one_in(density).then_some((MemberId(columns[at]), value))
            })
            .collect();
        let gate = self.of(&[1_i64 << 32, 1 << 32, 1 << 32, 1 << 31, 1 << 30, 0]);
        RowInput {
            member: MemberId(id),
            stake: match stakes {
                0 => any,
                1 => 7,
                2 => self.of(&[0, 1, u64::MAX >> 6]),
                _ => self.of(&[0, 1, 2, 1_000, any]),
            },
            permit: !self.one_in(8),
            last_activity: if self.one_in(12) { None } else { Some(self.of(&[100, 95, 90, 51, 50, 0])) },
            missed: self.one_in(10),
            commit: if self.one_in(3) { Some(self.of(&[0, 94, 95, 96])) } else { None },
            gate: if stakes == 3 { gate } else { 1 << 32 },
            weights: entries.into(),
        }
    }

    /// An input the job takes: at most 24 rows, ids that are apart, some of the named gone.
    pub fn input(&mut self, switches: Switches) -> EpochInput {
        let n = u32::try_from(self.of(&[0, 1, 2, 3, 5, 8, 12, 24])).unwrap();
        let slots = switches.ids == Ids::Slots;
        let spread = if slots { 1 } else { self.of(&[1, 3, 40, 1_000_000]) };
        let rows: Vec<u32> = (0..n).map(|i| i * spread).collect();
        let m = if slots { n } else { u32::try_from(self.below(25)).unwrap() };
        // Without slots some members are both, most are not.
        let first = if slots || self.one_in(4) { 0 } else { 7 };
        let columns: Vec<u32> = (0..m).map(|j| j * spread + first).collect();
        let gone = if slots { None } else { Some(self.below(10_000)) };
        let mut named = columns.clone();
        named.extend(gone.and_then(|id| u32::try_from(id).ok()).filter(|id| !columns.contains(id)));
        named.sort_unstable();
        let stakes = self.below(5);
        let mut related = Vec::new();
        let all = self.one_in(20);
        for i in &rows {
            for j in &columns {
                if all || (self.one_in(8) && n < 20) {
                    related.push((MemberId(*i), MemberId(*j)));
                }
            }
        }
        let mut bonds = Vec::new();
        for i in rows.iter().copied().chain([9_999]) {
            for j in &named {
                if self.one_in(3) {
                    let any = u32::try_from(self.below(1 << 32)).unwrap();
                    let value = if switches.bonds == Width::U16 { any & 65_535 } else { any };
                    bonds.push((MemberId(i), MemberId(*j), self.of(&[value, value, 1, 65_535, 255, 256])));
                }
            }
        }
        let rules = self.rules();
        let column = |chance: &mut Self, id: &u32| ColumnInput {
            member: MemberId(*id),
            registered: chance.of(&[0, 0, 0, 90, 91, 95, 96]),
            reset: chance.one_in(12),
        };
        EpochInput {
            switches,
            rules,
            height: 100,
            last_close: self.of(&[None, Some(0), Some(89), Some(90)]),
            owner: if self.one_in(2) { Some(MemberId(self.of(&[0, 1, 40]))) } else { None },
            miner_pot: self.of(&[0, 1, 500_000_000, 1 << 40]),
            validator_pot: self.of(&[0, 3, 500_000_000]),
            rows: rows.iter().map(|id| self.row(*id, &named, stakes, &switches)).collect(),
            columns: columns.iter().map(|id| column(self, id)).collect(),
            related,
            bonds: BondBlock::of(&bonds).into_iter().map(|(_, block)| Arc::new(block)).collect(),
            bond_floor: self.of(&[256, 256, 1, 65_536]),
        }
    }
}
