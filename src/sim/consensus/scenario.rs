//! What happens in a world: who takes part, how the links are, what goes wrong and when.

use super::byzantine::Behaviour;
use super::link::LinkParams;

/// One thing that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The process dies; what was not synced is lost.
    Crash(usize),
    Restart(usize),
    /// It starts with nothing but its key, for the first time.
    Join(usize),
    /// Groups that hear only themselves.
    Partition(Vec<Vec<usize>>),
    /// `from` is not heard by `to`.
    Deafen {
        from: usize,
        to: usize,
    },
    Heal,
    Links(LinkParams),
    /// The wall clock of a node is off by so much from now on.
    Clock {
        node: usize,
        off_ms: i64,
    },
}

/// Random faults until a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    pub until_ms: u64,
    /// A crash within a step, per 100,000 effects.
    pub crash_per_100k: u64,
    /// A crashed node comes back within so much.
    pub down_ms: u64,
    /// How often links are cut anew, at random; 0 for never.
    pub partition_every_ms: u64,
}

/// A world to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub name: &'static str,
    /// Voting weights; one node each, in this order.
    pub weights: Vec<u64>,
    /// Nodes without a voting key, after the members.
    pub observers: usize,
    /// Nodes that are not there at first, until they `Join`.
    pub absent: Vec<usize>,
    pub byzantine: Vec<(usize, Behaviour)>,
    /// A second live node with the key of this member, after the observers.
    pub twin_of: Option<usize>,
    pub interval_ms: u64,
    pub delta_ms: u64,
    pub links: LinkParams,
    pub script: Vec<(u64, Happening)>,
    pub chaos: Chaos,
    pub run_ms: u64,
    /// At the end every honest node that is up is at least this high.
    pub expect_height: u64,
    /// And no lower than the highest by more than this.
    pub expect_spread: u64,
}

impl Scenario {
    /// The scenarios with names.
    pub const NAMES: [&'static str; 8] =
        ["calm", "mixed", "lossy", "byzantine", "crashes", "partitions", "weighted", "catch-up"];

    /// Equal members on steady links of 50 ms, for a minute.
    pub fn calm(members: usize) -> Self {
        Self {
            name: "calm",
            weights: vec![1; members.max(1)],
            observers: 0,
            absent: Vec::new(),
            byzantine: Vec::new(),
            twin_of: None,
            interval_ms: 1_000,
            delta_ms: 500,
            links: LinkParams::steady(50),
            script: Vec::new(),
            chaos: Chaos::default(),
            run_ms: 60_000,
            expect_height: 50,
            expect_spread: 2,
        }
    }

    /// A scenario by its name, for so many members.
    pub fn named(name: &str, members: usize) -> Option<Self> {
        let calm = Self::calm(members);
        let faulty = members.saturating_sub(1) / 3;
        let rough = LinkParams { latency_ms: 20, jitter_ms: 120, lost_per_mille: 30, doubled_per_mille: 50 };
        let storm = Chaos { until_ms: 45_000, crash_per_100k: 60, down_ms: 6_000, partition_every_ms: 4_000 };
        let byzantine = |turn: usize| (0..faulty).map(|i| (i, Behaviour::in_turn(turn + i))).collect::<Vec<_>>();
        let scenario = match name {
            "calm" => calm,
            "mixed" => Self {
                name: "mixed",
                observers: 1,
                byzantine: (0..faulty).map(|i| (i, Behaviour::Fickle)).collect(),
                links: rough,
                chaos: storm,
                run_ms: 75_000,
                expect_height: 4,
                script: vec![(45_000, Happening::Heal), (45_000, Happening::Links(LinkParams::steady(50)))],
                ..calm
            },
            "lossy" => Self {
                name: "lossy",
                links: LinkParams { latency_ms: 20, jitter_ms: 2_000, lost_per_mille: 200, doubled_per_mille: 900 },
                script: vec![(60_000, Happening::Links(LinkParams::steady(50)))],
                run_ms: 90_000,
                expect_height: 10,
                ..calm
            },
            "byzantine" => Self { name: "byzantine", byzantine: byzantine(0), expect_height: 10, ..calm },
            "crashes" => Self {
                name: "crashes",
                chaos: Chaos { crash_per_100k: 300, down_ms: 6_000, partition_every_ms: 0, until_ms: 45_000 },
                run_ms: 75_000,
                expect_height: 10,
                ..calm
            },
            "partitions" => Self {
                name: "partitions",
                chaos: Chaos { crash_per_100k: 0, down_ms: 0, partition_every_ms: 3_000, until_ms: 45_000 },
                script: vec![(45_000, Happening::Heal)],
                run_ms: 75_000,
                expect_height: 10,
                ..calm
            },
            "weighted" => Self {
                name: "weighted",
                weights: (0..members.max(1)).map(|i| 1 + (i as u64 * 7) % 5).collect(),
                links: LinkParams { jitter_ms: 100, ..calm.links },
                expect_height: 30,
                ..calm
            },
            "catch-up" => Self {
                name: "catch-up",
                observers: 1,
                absent: vec![members],
                script: vec![
                    (2_000, Happening::Crash(0)),
                    (150_000, Happening::Restart(0)),
                    (150_000, Happening::Join(members)),
                ],
                run_ms: 180_000,
                expect_height: 100,
                ..calm
            },
            _ => return None,
        };
        Some(scenario)
    }
}
