//! Every query has exactly one outcome, whatever happens in whatever order.

use proptest::prelude::*;

use super::*;
use crate::protocol::ids::{AccountId, SubnetId};
use crate::protocol::query::{CLASSES, PIXELS, RefusalCode};

const LIMITS: Limits = Limits { in_flight_max: 3, attempts_max: 3 };
const MODEL: Digest = Digest([7; 32]);

fn pick(byte: u8) -> Pick {
    Pick { member: MemberId(byte.into()), account: AccountId([byte; 32]), node: NodeId([byte; 32]) }
}

fn images() -> Ask {
    let query = Query::Classify { images: vec![vec![0; PIXELS]; 2] };
    Ask { subnet: SubnetId(1), model: None, query, deadline_ms: 8_000, stream: false, receipt: None }
}

fn complete(stream: bool) -> Ask {
    let (prompt, stop) = (b"once ".to_vec(), vec![]);
    let query = Query::Complete { prompt, max_bytes: 10, temperature_milli: 500, seed: 40, stop };
    Ask { subnet: SubnetId(2), model: None, query, deadline_ms: 8_000, stream, receipt: None }
}

fn frame_done(answer: Answer) -> Result<AnswerFrame, net::AskError> {
    Ok(AnswerFrame::Done { answer, usage: Usage::default(), model: MODEL, compute_ms: 5, receipt: None })
}

fn text(bytes: &[u8]) -> Result<AnswerFrame, net::AskError> {
    frame_done(Answer::Text { bytes: bytes.to_vec() })
}

fn classes(rows: usize) -> Result<AnswerFrame, net::AskError> {
    frame_done(Answer::Classes { probabilities: vec![vec![9; CLASSES]; rows] })
}

fn piece(bytes: &[u8]) -> Result<AnswerFrame, net::AskError> {
    Ok(AnswerFrame::Piece(bytes.to_vec()))
}

fn refused(code: RefusalCode) -> Result<AnswerFrame, net::AskError> {
    Ok(AnswerFrame::refused(code, "because"))
}

/// One query played through; keeps what a caller and a miner would see.
struct Play {
    inflight: Inflight,
    query: u64,
    frames: Vec<Frame>,
    opened: Vec<(NodeId, Ask)>,
    ended: Vec<(u8, AttemptOutcome, bool)>,
    closed: Vec<Outcome>,
    attempt: u64,
}

impl Play {
    fn of(ask: Ask) -> Self {
        let mut inflight = Inflight::new(LIMITS, 0);
        let (query, effects) = inflight.submit(0, ask).unwrap();
        assert!(matches!(effects[..], [Effect::WakeAt { at_ms: 8_000, .. }, Effect::Pick { .. }]));
        let (frames, opened, ended, closed) = (vec![], vec![], vec![], vec![]);
        Self { inflight, query, frames, opened, ended, closed, attempt: 0 }
    }

    fn step(&mut self, now_ms: u64, input: Input) -> &mut Self {
        for effect in self.inflight.step(now_ms, self.query, input) {
            match effect {
                Effect::Open { opening, .. } => {
                    self.attempt = opening.attempt;
                    self.opened.push((opening.to, opening.ask));
                }
                Effect::End { withdraw, ended, .. } => self.ended.push((ended.node.0[0], ended.outcome, withdraw)),
                Effect::Give { frame, .. } => self.frames.push(frame),
                Effect::Close { outcome, .. } => self.closed.push(outcome),
                _ => {}
            }
        }
        self
    }

    fn picked(&mut self, now_ms: u64, picks: &[u8]) -> &mut Self {
        self.step(now_ms, Input::Picked(picks.iter().map(|&byte| pick(byte)).collect()))
    }

    fn heard(&mut self, now_ms: u64, frame: Result<AnswerFrame, net::AskError>) -> &mut Self {
        let attempt = self.attempt;
        self.step(now_ms, Input::Heard { attempt, frame })
    }

    fn pieces(&self) -> Vec<u8> {
        let piece = |frame: &Frame| if let Frame::Piece(bytes) = frame { bytes.clone() } else { vec![] };
        self.frames.iter().flat_map(piece).collect()
    }

    fn fault(&self) -> (QueryFault, String) {
        match self.frames.last() {
            Some(Frame::Failed(error)) => (error.fault, error.message.clone()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_good_answer_ends_the_query() {
    let mut play = Play::of(images());
    play.picked(1, &[1, 2]).heard(30, classes(2));
    assert_eq!(play.closed, [Outcome::Done]);
    assert_eq!(play.ended, [(1, AttemptOutcome::Answered, false)]);
    let [Frame::Started(started), Frame::Done { served, .. }] = &play.frames[..] else { panic!("{:?}", play.frames) };
    assert_eq!((started.member, started.attempts, started.model), (Some(MemberId(1)), 1, Some(MODEL)));
    assert_eq!(served.model, Some(MODEL));
    assert_eq!(play.inflight.len(), 1, "until the caller has it");
    play.step(31, Input::Delivered);
    assert_eq!(play.inflight.len(), 0);
}

#[test]
fn the_next_miner_is_tried_until_the_cap() {
    let mut play = Play::of(images());
    play.picked(0, &[1, 2]).heard(10, refused(RefusalCode::Busy));
    play.picked(10, &[2, 3]).heard(20, classes(1));
    play.picked(20, &[3, 4]).heard(30, Err(net::AskError::Closed));
    assert_eq!(play.closed, [Outcome::Failed]);
    let ended =
        [(1, AttemptOutcome::Refused, false), (2, AttemptOutcome::Malformed, true), (3, AttemptOutcome::Broken, false)];
    assert_eq!(play.ended, ended);
    let (fault, message) = play.fault();
    assert_eq!(fault, QueryFault::NoCapacity);
    assert!(message.contains("3 miners") && message.contains("connection closed"), "{message}");
}

#[test]
fn a_silent_miner_costs_half_of_the_time_left_and_the_last_one_gets_all() {
    let mut play = Play::of(images());
    play.picked(0, &[1, 2]);
    assert_eq!(play.opened[0].1.deadline_ms, 4_000);
    play.step(3_999, Input::Woken);
    assert!(play.ended.is_empty());
    play.step(4_000, Input::Woken);
    assert_eq!(play.ended, [(1, AttemptOutcome::Late, true)]);
    play.picked(4_000, &[2]);
    assert_eq!(play.opened[1].1.deadline_ms, 4_000, "nobody else could be asked");
    play.step(8_000, Input::Woken);
    assert_eq!((play.closed.clone(), play.fault().0), (vec![Outcome::Failed], QueryFault::Timeout));
}

#[test]
fn reasons_reach_the_caller_as_faults() {
    for (code, fault) in [
        (RefusalCode::Busy, QueryFault::NoCapacity),
        (RefusalCode::UnknownModel, QueryFault::UnknownModel),
        (RefusalCode::Unsupported, QueryFault::Invalid),
        (RefusalCode::Late, QueryFault::Timeout),
        (RefusalCode::Failed, QueryFault::NoCapacity),
    ] {
        let mut play = Play::of(images());
        play.picked(0, &[1]).heard(5, refused(code)).picked(5, &[]);
        assert_eq!(play.fault().0, fault, "{code:?}");
    }
    let mut play = Play::of(images());
    assert_eq!(play.picked(0, &[]).fault().0, QueryFault::NoCapacity);
    let mut play = Play::of(images());
    assert_eq!(play.step(0, Input::PickFailed).fault().0, QueryFault::Internal);
    let mut play = Play::of(images());
    assert_eq!(play.step(8_000, Input::Woken).fault().0, QueryFault::Timeout);
    let mut play = Play::of(Ask { model: Some(Digest([1; 32])), ..images() });
    play.picked(0, &[1]).heard(5, classes(2));
    assert_eq!(play.ended, [(1, AttemptOutcome::Malformed, true)], "another model than asked for");
}

#[test]
fn a_stream_goes_on_at_another_miner_and_nothing_repeats() {
    let mut play = Play::of(complete(true));
    play.picked(0, &[1, 2]).heard(10, piece(b"up")).heard(20, piece(b"on ")).heard(30, Err(net::AskError::Closed));
    play.picked(40, &[2]);
    let Query::Complete { prompt, max_bytes, seed, .. } = &play.opened[1].1.query else { panic!() };
    assert_eq!((prompt.as_slice(), *max_bytes, *seed), (b"once upon ".as_slice(), 5, 45));
    play.heard(50, piece(b"a t")).heard(60, text(b"a tim"));
    assert_eq!(play.closed, [Outcome::Done]);
    assert_eq!(play.pieces(), b"upon a tim");
    let Some(Frame::Done { answer: Answer::Text { bytes }, usage, served, .. }) = play.frames.last() else { panic!() };
    assert_eq!(bytes, b"upon a tim");
    assert_eq!((usage.input_bytes, usage.output_bytes, served.attempts), (5, 10, 2));
    let starts = play.frames.iter().filter(|frame| matches!(frame, Frame::Started(_))).count();
    assert_eq!(starts, 2);
}

#[test]
fn a_stream_without_another_miner_ends_with_an_error_not_a_cut() {
    let mut play = Play::of(complete(true));
    play.picked(0, &[1, 2]).heard(10, piece(b"upon")).step(20, Input::Closed { attempt: 0 }).picked(20, &[]);
    assert_eq!(play.closed, [Outcome::Failed]);
    assert!(play.fault().1.contains("after 4 bytes"), "{:?}", play.fault());
}

#[test]
fn a_stream_that_said_all_needs_no_other_miner() {
    let mut play = Play::of(complete(true));
    play.picked(0, &[1, 2]).heard(10, piece(b"0123456789")).step(20, Input::Closed { attempt: 0 });
    assert_eq!(play.closed, [Outcome::Done]);
    assert!(
        matches!(play.frames.last(), Some(Frame::Done { answer: Answer::Text { bytes }, .. }) if bytes.len() == 10)
    );
}

#[test]
fn a_miner_that_contradicts_its_own_stream_is_left() {
    for frame in [text(b"uX"), piece(b"0123456789")] {
        let mut play = Play::of(complete(true));
        play.picked(0, &[1, 2]).heard(10, piece(b"up")).heard(20, frame);
        assert_eq!(play.ended[0].1, AttemptOutcome::Malformed);
        assert_eq!(play.pieces(), b"up");
        assert!(play.closed.is_empty(), "the next one may still answer");
    }
    let mut play = Play::of(complete(false));
    play.picked(0, &[1, 2]).heard(10, piece(b"up"));
    assert_eq!(play.ended[0].1, AttemptOutcome::Malformed, "no pieces were asked for");
}

#[test]
fn pieces_keep_an_attempt_alive() {
    let mut play = Play::of(complete(true));
    play.picked(0, &[1, 2]);
    play.heard(3_900, piece(b"a")).step(4_000, Input::Woken).heard(5_900, piece(b"b")).step(6_000, Input::Woken);
    assert!(play.ended.is_empty());
    play.step(6_950, Input::Woken);
    assert_eq!(play.ended, [(1, AttemptOutcome::Late, true)]);
}

#[test]
fn a_caller_that_leaves_withdraws_and_one_that_does_not_read_is_forgotten() {
    let mut play = Play::of(complete(true));
    play.picked(0, &[1, 2]).heard(10, piece(b"up")).step(20, Input::CallerGone);
    assert_eq!((play.closed.clone(), play.inflight.len()), (vec![Outcome::Cancelled], 0));
    assert_eq!(play.ended, [(1, AttemptOutcome::Cancelled, true)]);

    let mut play = Play::of(images());
    play.picked(0, &[1]).heard(10, classes(2)).step(5_009, Input::Woken);
    assert_eq!(play.inflight.len(), 1);
    play.step(5_010, Input::Woken);
    assert_eq!((play.closed.clone(), play.inflight.len()), (vec![Outcome::Done], 0));
}

#[test]
fn admission_is_bounded() {
    let mut inflight = Inflight::new(LIMITS, 0);
    for _ in 0..3 {
        inflight.submit(0, images()).unwrap();
    }
    let busy = inflight.submit(0, images()).unwrap_err();
    assert_eq!((busy.fault, busy.retry_after_s), (QueryFault::Busy, Some(1)));
    let mut empty = images();
    empty.deadline_ms = 0;
    assert_eq!(inflight.submit(0, empty).unwrap_err().fault, QueryFault::Invalid);
}

/// What one caller has been given, and what became of its query.
#[derive(Default)]
struct Seen {
    stream: bool,
    pieces: Vec<u8>,
    last: bool,
    closes: usize,
    attempts: u32,
    open: Option<u64>,
    forgotten: bool,
}

impl Seen {
    fn take(&mut self, effect: Effect, now: u64, due: u64) -> Result<(), TestCaseError> {
        prop_assert!(!self.forgotten, "an effect after the end: {effect:?}");
        match effect {
            Effect::Open { opening, .. } => {
                prop_assert!(self.open.is_none() && now < due && now + opening.deadline_ms <= due);
                prop_assert_eq!(opening.ask.check(), Ok(()));
                self.attempts += 1;
                prop_assert!(self.attempts <= LIMITS.attempts_max);
                self.open = Some(opening.attempt);
            }
            Effect::End { attempt, .. } => prop_assert_eq!(self.open.take(), Some(attempt)),
            Effect::Give { frame, .. } => {
                prop_assert!(!self.last);
                self.last = frame.is_last();
                match frame {
                    Frame::Piece(bytes) => self.pieces.extend(bytes),
                    Frame::Done { answer: Answer::Text { bytes }, .. } if self.stream => {
                        prop_assert_eq!(&bytes, &self.pieces);
                        prop_assert!(bytes.len() <= 10);
                    }
                    _ => {}
                }
            }
            Effect::Close { .. } => {
                self.closes += 1;
                prop_assert!(self.open.is_none());
            }
            Effect::Forget { .. } => self.forgotten = true,
            _ => {}
        }
        prop_assert!(self.closes <= 1);
        Ok(())
    }
}

fn random_input(what: u8, value: u8, attempt: u64) -> Input {
    let heard = |frame| Input::Heard { attempt, frame };
    let letters = [b'a' + value % 26; 12];
    match what {
        0 => Input::Picked((0..value % 3).map(|i| pick(value.wrapping_add(i))).collect()),
        1 => heard(piece(&letters[..usize::from(value % 11) + 1])),
        2 => heard(text(&letters[..usize::from(value % 12)])),
        3 => heard(classes(usize::from(value % 3))),
        4 => heard(refused(RefusalCode::Busy)),
        5 => heard(Err(net::AskError::Timeout)),
        6 => Input::Closed { attempt: attempt + u64::from(value % 2) },
        7 if value < 9 => Input::CallerGone,
        7 if value < 12 => Input::PickFailed,
        8 => Input::Delivered,
        _ => Input::Woken,
    }
}

proptest! {
    #[test]
    fn whatever_happens_every_query_has_one_outcome(
        asks in proptest::collection::vec(0_u8..3, 1..6),
        events in proptest::collection::vec((0_u8..12, any::<u8>(), 0_usize..6, 0_u64..900), 1..200),
    ) {
        let mut inflight = Inflight::new(LIMITS, 0);
        let mut seen: BTreeMap<u64, (Seen, u64)> = BTreeMap::new();
        let mut now = 0;
        // Odd values bring no new query: at the end all that is left is time.
        let end = (0..6).flat_map(|query| [(9, 1, query, 9_000), (9, 1, query, 6_000)]);
        let mut asks = asks.into_iter();
        for (what, value, query, later) in events.into_iter().chain(end) {
            now += later;
            if let Some(kind) = if value % 2 == 0 { asks.next() } else { None } {
                let ask = match kind { 0 => images(), kind => complete(kind == 1) };
                if let Ok((query, effects)) = inflight.submit(now, ask) {
                    let mut new = Seen { stream: kind == 1, ..Seen::default() };
                    for effect in effects { new.take(effect, now, now + 8_000)?; }
                    seen.insert(query, (new, now + 8_000));
                }
            }
            prop_assert!(inflight.len() <= LIMITS.in_flight_max);
            let query = query as u64 + 1;
            let attempt = seen.get(&query).and_then(|(seen, _)| seen.open).unwrap_or(0);
            for effect in inflight.step(now, query, random_input(what, value, attempt)) {
                let Some((seen, due)) = seen.get_mut(&query) else { panic!("an effect of no query") };
                seen.take(effect, now, *due)?;
            }
        }
        for (seen, _) in seen.values() {
            prop_assert!(seen.closes == 1 && seen.open.is_none() && seen.forgotten);
        }
        prop_assert_eq!(inflight.len(), 0);
    }
}
