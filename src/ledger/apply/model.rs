//! Publishing a model, sealed first or openly (0x50, ADR 0015).

use super::super::draft::Draft;
use super::super::event::Event;
use super::super::models::{Model, Seal};
use super::super::receipt::Code;
use super::super::rows::Subnet;
use crate::protocol::artifact::publish::{ModelPublish, SEAL_HEIGHTS, seal};
use crate::protocol::ids::{AccountId, Digest, Height};

pub fn publish(
    draft: &mut Draft,
    account: &AccountId,
    of: &ModelPublish,
    height: Height,
    events: &mut Vec<Event>,
) -> Result<(), Code> {
    draft.get::<Subnet>(&of.subnet).ok_or(Code::UnknownSubnet)?;
    let place = (of.subnet, *account);
    let standing = draft.get::<Seal>(&place).cloned();
    let open = |seal: &Seal| height <= seal.height.saturating_add(SEAL_HEIGHTS);
    if of.sealed {
        if standing.as_ref().is_some_and(open) {
            return Err(Code::SealStands);
        }
        draft.put(&place, Seal { seal: of.artifact, height });
        return Ok(());
    }
    if draft.model(of.subnet, of.artifact).is_some() {
        return Err(Code::ModelKnown);
    }
    if of.parent != Digest::ZERO && draft.model(of.subnet, of.parent).is_none() {
        return Err(Code::UnknownParent);
    }
    let mut since = height;
    if of.salt != [0; 32] {
        let wanted = seal(&of.artifact, account, &of.salt);
        let found = standing.filter(|found| found.seal == wanted).ok_or(Code::NoSeal)?;
        if !open(&found) {
            return Err(Code::SealExpired);
        }
        since = found.height;
        draft.remove::<Seal>(&place);
    }
    let model = Model {
        publisher: *account,
        manifest: of.manifest,
        bytes: of.bytes,
        parent: of.parent,
        licence: of.licence,
        claims: of.claims.clone(),
        since,
        published: height,
    };
    draft.put(&(of.subnet, of.artifact), model);
    events.push(Event::ModelPublished { subnet: of.subnet, artifact: of.artifact, account: *account, since });
    Ok(())
}
