//! Two votes that no honest member can both have signed, brought by anybody (0x90, C45, C47).
//!
//! It costs everything that is liable for the signer 5 % at once, and more when others are caught within half an unbonding
//! span: a lone mistake is cheap, a conspiracy loses all. Each signer is accused once a term. Refuses what proves nothing,
//! and leaves no trace of it.

use super::super::draft::Draft;
use super::super::economy::pools::slash;
use super::super::offence::Offence;
use super::super::receipt::Code;
use crate::protocol::checkpoint::Evidence;
use crate::protocol::committee::{Committee, CommitteeContext};
use crate::protocol::ids::{AccountId, Height, Term};

/// What one offender pays, in millionths (C47).
const LEAST_PPM: u64 = 50_000;
/// All of it.
const WHOLE_PPM: u64 = 1_000_000;
/// The part of all weight that offends together loses three times as much of its own.
const TOGETHER: u64 = 3;

/// What each of those caught together pays in all (C47), in millionths.
fn due(offending: u64, whole: u64) -> u64 {
    let together = u128::from(WHOLE_PPM * TOGETHER) * u128::from(offending) / u128::from(whole.max(1));
    u64::try_from(together).unwrap_or(WHOLE_PPM).clamp(LEAST_PPM, WHOLE_PPM)
}

/// What of the rest has to go, in millionths, so that `goal` of the whole is gone when `gone` of it is already; rounded up.
fn further(goal: u64, gone: u64) -> u32 {
    let rest = WHOLE_PPM.saturating_sub(gone);
    let part = goal.saturating_sub(gone).saturating_mul(WHOLE_PPM).div_ceil(rest.max(1));
    u32::try_from(part.min(WHOLE_PPM)).unwrap_or(u32::MAX)
}

/// Punishes a signer for a contradiction.
///
/// # Errors
/// The votes prove nothing, are of no committee that is kept, or their signer was accused in that term already.
pub fn accuse(draft: &mut Draft, reporter: &AccountId, evidence: &Evidence, height: Height) -> Result<(), Code> {
    let (term, signer) = (evidence.votes().0.subject.term, evidence.signer());
    let key = (term, u64::from(signer));
    if draft.get::<Offence>(&key).is_some() {
        return Err(Code::AccusedAlready);
    }
    let committee = draft.committee(term).map_err(|_| Code::ProvesNothing)?;
    let context = CommitteeContext::new(draft.chain_id(), committee.clone());
    evidence.verify(&context).map_err(|_| Code::ProvesNothing)?;
    draft.put(&key, Offence { height, reporter: *reporter, ppm: 0 });
    punish(draft, &committee, height);
    Ok(())
}

/// Brings everybody who was caught lately to what they pay together.
fn punish(draft: &mut Draft, committee: &Committee, height: Height) {
    let since = height.saturating_sub(draft.parameters().unbond_heights / 2);
    let term = committee.term();
    let caught: Vec<((Term, u64), Offence)> = draft
        .range::<Offence>((term, 0)..=(term, u64::MAX))
        .filter(|(_, offence)| offence.height >= since)
        .map(|(key, offence)| (*key, *offence))
        .collect();
    let member = |index: u64| u16::try_from(index).ok().and_then(|index| committee.get(index));
    let offending = caught.iter().filter_map(|(key, _)| member(key.1)).map(|of| of.weight).fold(0, u64::saturating_add);
    let goal = due(offending, committee.total());
    for (key, offence) in caught {
        let (Some(of), gone) = (member(key.1), u64::from(offence.ppm)) else { continue };
        if goal <= gone {
            continue;
        }
        // Who accuses itself must not have a part of it back.
        let reporter = Some(&offence.reporter).filter(|reporter| **reporter != of.account);
        slash(draft, &of.account, further(goal, gone), reporter);
        draft.put(&key, Offence { ppm: u32::try_from(goal).unwrap_or(u32::MAX), ..offence });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c47_a_lone_mistake_costs_a_twentieth_and_a_third_of_all_weight_everything() {
        for (offending, whole, ppm) in [(1, 100, 50_000), (2, 100, 60_000), (10, 100, 300_000), (34, 100, 1_000_000)] {
            assert_eq!(due(offending, whole), ppm, "{offending} of {whole}");
        }
        assert_eq!(due(1, 0), WHOLE_PPM);
    }

    #[test]
    fn c47_what_is_gone_already_counts() {
        assert_eq!((further(50_000, 0), further(1_000_000, 50_000), further(50_000, 50_000)), (50_000, 1_000_000, 0));
        // 5 % gone, 30 % due: 25 of the 95 that are left.
        assert_eq!(further(300_000, 50_000), 263_158);
        assert_eq!(further(1_000_000, 1_000_000), 0);
    }
}
