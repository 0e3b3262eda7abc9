//! The shelf under kills at every write, rot, and a quota.

use super::*;
use crate::protocol::chance::Chance;

fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    out
}

fn shelf(place: &Memory, quota: u64) -> Shelf {
    Shelf::open(Box::new(place.clone()), quota).unwrap()
}

fn chunk(all: &[u8], index: u32) -> &[u8] {
    all.chunks(CHUNK_BYTES).nth(index as usize).unwrap()
}

const MIB: u64 = CHUNK_BYTES as u64;

/// N30: killed before every single write of a download, with torn and lost writes, each time the next run goes on with
/// what holds, never keeps a wrong byte, and ends with the right ones.
#[test]
fn n30_a_download_killed_at_every_write_ends_whole() {
    let all = bytes(1, 4 * CHUNK_BYTES + 77);
    let list = ChunkList::of(all.as_slice()).unwrap();
    let id = list.id();
    let mut chance = Chance::from_seed([5; 32]);
    let mut fetched = Vec::new();
    for stop in 0..40 {
        let place = Memory::default();
        let mut again = 0;
        place.stop_after(Some(stop));
        for _ in 0..3 {
            let run = || -> Result<(), ShelfError> {
                let shelf = Shelf::open(Box::new(place.clone()), 10 * MIB)?;
                for index in shelf.begin(&list)? {
                    again += 1;
                    shelf.write(&id, index, chunk(&all, index))?;
                }
                assert!(shelf.is_whole(&id));
                Ok(())
            };
            // What a run has not done, the next one does.
            let _killed = { run }();
            place.crash(&mut chance);
            place.stop_after(None);
        }
        let shelf = shelf(&place, 10 * MIB);
        assert_eq!(shelf.read_whole(&id, all.len()).unwrap(), all, "killed before write {stop}");
        fetched.push(again);
    }
    // The kills fell into the download, and nothing was fetched for ever.
    assert!(fetched.iter().any(|chunks| *chunks > 5) && fetched.iter().all(|chunks| *chunks <= 15), "{fetched:?}");
}

#[test]
fn n30_a_resumed_part_asks_only_for_what_is_missing() {
    let all = bytes(2, 5 * CHUNK_BYTES);
    let list = ChunkList::of(all.as_slice()).unwrap();
    let place = Memory::default();
    let first = shelf(&place, 10 * MIB);
    assert_eq!(first.begin(&list).unwrap().len(), 5);
    for index in [0, 3] {
        first.write(&list.id(), index, chunk(&all, index)).unwrap();
    }
    let wrong = first.write(&list.id(), 1, chunk(&all, 0));
    assert!(matches!(wrong, Err(ShelfError::Chunk(ChunkError::Other { index: 1 }))));
    drop(first);
    let second = shelf(&place, 10 * MIB);
    assert_eq!(second.begin(&list).unwrap(), BTreeSet::from([1, 2, 4]));
    assert!(!second.is_whole(&list.id()));
    assert!(matches!(second.read(&list.id(), 0), Err(ShelfError::Absent(_))), "a part is not served");
}

#[test]
fn what_has_rotted_is_given_up_and_never_served() {
    let all = bytes(3, 2 * CHUNK_BYTES);
    let place = Memory::default();
    let shelf = shelf(&place, 10 * MIB);
    let id = shelf.put(&all).unwrap().id();
    place.flip(&format!("{id}.art"), CHUNK_BYTES + 9);
    assert_eq!(shelf.read(&id, 0).unwrap(), all[..CHUNK_BYTES]);
    assert!(matches!(shelf.read(&id, 1), Err(ShelfError::Chunk(ChunkError::Other { index: 1 }))));
    assert!(shelf.holding(&id).is_none() && place.list().unwrap().is_empty());
    assert_eq!(shelf.put(&all).unwrap().id(), id, "and can be had again");
}

#[test]
fn the_quota_holds_and_the_least_used_goes_unless_pinned_or_wanted() {
    let place = Memory::default();
    let shelf_of = || shelf(&place, 3 * MIB);
    let shelf = shelf_of();
    let ids: Vec<Digest> = (0..3).map(|seed| shelf.put(&bytes(10 + seed, CHUNK_BYTES)).unwrap().id()).collect();
    shelf.pin(&ids[0]).unwrap();
    shelf.read(&ids[1], 0).unwrap();
    let fourth = shelf.put(&bytes(20, CHUNK_BYTES)).unwrap().id();
    assert!(shelf.is_whole(&ids[0]) && shelf.is_whole(&ids[1]) && !shelf.is_whole(&ids[2]));
    shelf.want(BTreeSet::from([ids[1], fourth]));
    let full = shelf.put(&bytes(21, 1)).unwrap_err();
    assert!(matches!(full, ShelfError::Full { needed: 1, free: 0, .. }), "{full}");
    assert!(shelf.put(&bytes(22, 4 * CHUNK_BYTES)).is_err());
    assert_eq!(shelf.bytes(), 3 * MIB);
    drop(shelf);
    // Pins outlive the process; wishes are told again.
    let shelf = shelf_of();
    assert!(shelf.holding(&ids[0]).unwrap().pinned);
    shelf.put(&bytes(23, 2 * CHUNK_BYTES)).unwrap();
    assert!(shelf.is_whole(&ids[0]) && shelf.bytes() <= 3 * MIB);
    assert!(shelf.remove(&ids[0]) && !shelf.remove(&ids[0]));
}

#[test]
fn a_real_folder_keeps_artifacts_across_processes() {
    let path = std::env::temp_dir().join(format!("starling-shelf-{}", std::process::id()));
    let all = bytes(4, CHUNK_BYTES + 5);
    let open = || Shelf::open(Box::new(Folder::open(&path).unwrap()), 10 * MIB).unwrap();
    let id = open().put(&all).unwrap().id();
    assert_eq!(open().read_whole(&id, all.len()).unwrap(), all);
    std::fs::remove_dir_all(&path).unwrap();
}
