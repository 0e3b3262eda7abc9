//! Why a miner earned what it earned: the parts that are shown sum to the line of its statement, in every history.

use super::super::event::Event;
use super::super::rows::Row;
use super::super::settlement::Settlement;
use super::*;
use crate::protocol::commitment::canonical_weights;
use crate::protocol::statement::Kind;

/// Every settlement of a height explains every line of miners' pay, to the mote, and nothing that was not paid (E22).
pub fn check_reasons(executed: &Executed) {
    for event in &executed.events {
        let Event::EpochClosed(closed) = event else { continue };
        let of: &Settlement = &closed.settlement;
        assert_eq!((of.subnet, of.close.period, of.height), (closed.subnet, closed.epoch, closed.height));
        assert_eq!(Settlement::decode(&of.encode()).as_ref(), Ok(of), "it reads back");
        let mut explained = 0;
        for judged in &of.miners {
            let why = of.why(judged.member).expect("a miner of this epoch");
            let parts: u64 = why.reasons.iter().map(|(_, part)| part).sum();
            assert_eq!(parts, why.amount, "the parts of {} in epoch {}", judged.member, closed.epoch);
            assert_eq!(why.reasons.iter().map(|(reason, _)| reason.term).sum::<u128>(), why.sum);
            let paid = executed.lines.iter().filter(|line| {
                (line.account, line.kind) == (judged.account, Kind::EmissionMiner)
                    && (line.subnet, line.epoch) == (Some(closed.subnet), Some(closed.epoch))
            });
            let paid: i64 = paid.map(|line| line.amount).sum();
            assert_eq!(Ok(paid), i64::try_from(why.paid()), "{} in epoch {}", judged.member, closed.epoch);
            explained += why.paid();
        }
        assert_eq!(explained, closed.paid_miners);
        assert_eq!(of.why(MemberId(u32::MAX)), None);
    }
}

/// Two validators, two miners: one row is clipped, and the clip shows.
#[test]
fn e22_a_clipped_row_and_a_silent_one_are_shown_as_such() {
    let mut world = World::new();
    world.grant(VISION, 20 * STAR);
    world.step(&[
        register(0, VISION, Role::Validator),
        register(1, VISION, Role::Validator),
        register(2, VISION, Role::Validator),
        register(5, VISION, Role::Miner),
        register(6, VISION, Role::Miner),
    ]);
    let rows: [(u8, &[(u32, u16)]); 3] = [(0, &[(3, 1), (4, 1)]), (1, &[(3, 1), (4, 1)]), (2, &[(3, 1)])];
    let rows = rows.map(|(of, row)| (of, canonical_weights(row.iter().map(|(id, weight)| (MemberId(*id), *weight)))));
    let commits = rows.clone().map(|(of, row)| commit_of(&world.state, VISION, 1, of, &opening(of, &row)));
    world.step(&commits);
    let opens = world.state.subnet(VISION).unwrap().next_open;
    world.run_to(opens);
    let reveals = rows.map(|(of, row)| reveal_of(&world.state, VISION, 1, of, opening(of, &row)));
    let mut events = world.step(&reveals).events;
    events.extend(world.run_to(opens + 10));
    let settlement = events.iter().find_map(|event| match event {
        Event::EpochClosed(of) if of.epoch == 1 && of.subnet == VISION => Some(&of.settlement),
        _ => None,
    });
    let settlement = settlement.expect("epoch 1 is settled");
    let why = settlement.why(MemberId(4)).unwrap();
    assert_eq!((why.rank, why.ladder.len(), why.deferred), (2, 2, false));
    let parts: Vec<(u32, bool)> = why.reasons.iter().map(|(of, part)| (of.validator.0, *part > 0)).collect();
    assert_eq!(parts, [(0, true), (1, true), (2, false)], "who said nothing is shown, with nothing");
    let best = settlement.why(MemberId(3)).unwrap();
    let (clipped, _) = best.reasons[2];
    assert!(clipped.weight > 2 * clipped.clipped - 8 && clipped.clipped == best.consensus, "{clipped:?}");
    assert_eq!(why.amount + best.amount, settlement.pots.divided);
    assert_eq!(settlement.pots.divided, settlement.pots.carried + why.split.miners);
}
