//! Fetching without a network: holders that are right, slow, gone, empty, or lie.

use super::*;
use crate::protocol::artifact::CHUNK_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Right,
    /// Right, after so many milliseconds.
    Slow(u64),
    Lies,
    /// Another artifact's list.
    LiesAboutTheList,
    Empty,
    Silent,
    Busy,
}

/// Plays holders by their kind until the fetch ends; who gave how many chunks, who was blamed, and how it ended.
struct Play {
    given: BTreeMap<NodeId, usize>,
    blamed: Vec<NodeId>,
    how: Result<(), String>,
    asked: usize,
    ended_ms: u64,
}

fn node(of: usize) -> NodeId {
    NodeId([u8::try_from(of).unwrap(); 32])
}

fn play(all: &[u8], holders: &[Holder]) -> Play {
    let list = ChunkList::of(all).unwrap();
    let other = ChunkList::of(vec![9; CHUNK_BYTES * 2].as_slice()).unwrap();
    let mut fetch = Fetch::new(list.id(), 0, BTreeSet::new());
    let mut queue: BTreeMap<(u64, usize), Input> = BTreeMap::from([((0, 0), Input::Woken)]);
    let mut play = Play { given: BTreeMap::new(), blamed: Vec::new(), how: Ok(()), asked: 0, ended_ms: 0 };
    let mut entries = 0;
    let mut kept = BTreeSet::new();
    while let Some(((now_ms, _), input)) = queue.pop_first() {
        assert!(entries < 100_000, "no end");
        let mut push = |after: u64, input: Input| {
            entries += 1;
            queue.insert((now_ms + after, entries), input);
        };
        for effect in fetch.step(now_ms, input) {
            match effect {
                Effect::Find => push(5, Input::Sources((0..holders.len()).map(node).collect())),
                Effect::Ask { to, want } => {
                    play.asked += 1;
                    let holder = holders[usize::from(to.0[0])];
                    let right = || match want {
                        Want::Head(_) if list.count() == 1 => Head::encode(&list, Some(all)),
                        Want::Head(_) => Head::encode(&list, None),
                        Want::Chunk { index, .. } => all.chunks(CHUNK_BYTES).nth(index as usize).unwrap().to_vec(),
                    };
                    let (after, result) = match (holder, want) {
                        (Holder::Right, _) => (2, Ok(right())),
                        (Holder::Slow(ms), _) => (ms, Ok(right())),
                        (Holder::Lies, Want::Chunk { .. }) => (1, Ok(vec![0; right().len()])),
                        (Holder::Lies, Want::Head(_)) => (1, Ok(right())),
                        (Holder::LiesAboutTheList, _) => (1, Ok(Head::encode(&other, None))),
                        (Holder::Empty, _) => (1, Err(AskError::NotFound)),
                        (Holder::Silent, _) => (20_000, Err(AskError::Timeout)),
                        (Holder::Busy, _) => (1, Err(AskError::Busy)),
                    };
                    push(after, Input::Answered { from: to, want, result });
                }
                Effect::Begin(begun) => push(1, Input::Begun(Ok((0..begun.count()).collect()))),
                Effect::Keep { from, index, bytes } => {
                    let verdict = if list.verify(index, &bytes).is_ok() { Verdict::Kept } else { Verdict::Wrong };
                    if verdict == Verdict::Kept {
                        kept.insert(index);
                        *play.given.entry(from).or_default() += 1;
                    }
                    push(1, Input::Kept { from, index, verdict });
                }
                Effect::Blame { node } => play.blamed.push(node),
                Effect::WakeAt(at) => push(at.saturating_sub(now_ms).max(1), Input::Woken),
                Effect::Ended(how) => {
                    play.how = how;
                    play.ended_ms = now_ms;
                    assert!(play.how.is_err() || kept.len() == list.count() as usize, "ended without {kept:?}");
                    return play;
                }
            }
        }
    }
    panic!("the fetch fell silent");
}

fn artifact(chunks: usize) -> Vec<u8> {
    let mut all = vec![0; chunks * CHUNK_BYTES - 5];
    blake3::Hasher::new().update(b"fetch").finalize_xof().fill(&mut all);
    all
}

#[test]
fn n30_several_holders_share_the_work_and_a_slow_one_gives_less() {
    let play = play(&artifact(60), &[Holder::Right, Holder::Right, Holder::Slow(8)]);
    assert_eq!(play.how, Ok(()));
    assert_eq!(play.given.len(), 3, "{:?}", play.given);
    assert!(play.given[&node(2)] < play.given[&node(0)], "{:?}", play.given);
    // At most the last few chunks are asked twice.
    assert!(play.asked <= 60 + 2 + LAST, "{}", play.asked);
}

#[test]
fn n30_a_liar_is_named_once_left_and_the_rest_comes_from_others() {
    let found = play(&artifact(9), &[Holder::Lies, Holder::Right, Holder::Empty]);
    assert_eq!((found.how, found.blamed), (Ok(()), vec![node(0)]));
    assert_eq!(found.given.keys().collect::<Vec<_>>(), [&node(1)]);
    // A list of something else is as bad as a wrong chunk.
    let found = play(&artifact(3), &[Holder::LiesAboutTheList, Holder::Right]);
    assert_eq!((found.how, found.blamed), (Ok(()), vec![node(0)]));
    let found = play(&artifact(3), &[Holder::Lies]);
    assert_eq!(found.blamed, [node(0)]);
    assert!(found.how.is_err());
}

#[test]
fn who_is_silent_or_busy_costs_time_and_nothing_else() {
    let found = play(&artifact(6), &[Holder::Silent, Holder::Busy, Holder::Right]);
    assert_eq!(found.how, Ok(()));
    assert!(found.blamed.is_empty() && found.ended_ms < 25_000, "{} ms", found.ended_ms);
    let found = play(&artifact(2), &[Holder::Empty, Holder::Silent]);
    assert_eq!(found.how, Err("nobody found has it".to_owned()));
    assert!(found.blamed.is_empty());
}

#[test]
fn an_artifact_of_one_chunk_comes_with_its_head() {
    let found = play(b"small", &[Holder::Right, Holder::Empty]);
    assert_eq!((found.how, found.asked), (Ok(()), 2));
}
