//! Byte-by-byte completion over any function that gives the next byte's logits.
//!
//! The byte at place `i` is picked by a generator of (seed, i) alone, so that whoever holds the weights can check any
//! one place of an answer without the others (M15).

use super::sampler::{choose, draw};
use super::{Control, EngineError, Sink};

/// What a completion is asked to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub prompt: &'a [u8],
    pub max_bytes: u32,
    pub temperature_milli: u32,
    pub seed: u64,
    pub stop: &'a [Vec<u8>],
}

/// Continues the prompt until enough, a stop sequence (which is not part of the text), or the sink has had its fill.
pub(super) fn complete(
    wish: &Wish<'_>,
    control: &Control<'_>,
    sink: &mut Sink<'_>,
    mut logits: impl FnMut(&[u8]) -> Result<Vec<f32>, EngineError>,
) -> Result<Vec<u8>, EngineError> {
    let mut text = wish.prompt.to_vec();
    let begin = text.len();
    // How much of the text the sink has seen.
    let mut sent = begin;
    let bytes_max = u64::from(wish.max_bytes).min(control.steps_max);
    for place in 0..bytes_max {
        control.go_on(place)?;
        let logits = logits(&text)?;
        text.push(pick(&logits, wish.temperature_milli, wish.seed, place));
        let written = text.get(begin..).unwrap_or_default();
        if let Some(stop) = wish.stop.iter().find(|stop| written.ends_with(stop)) {
            text.truncate(text.len() - stop.len());
            break;
        }
        // What may yet become a stop sequence waits.
        let free = text.len() - held_back(written, wish.stop);
        let piece = text.get(sent..free).unwrap_or_default();
        if !piece.is_empty() && !sink(piece) {
            text.truncate(free);
            return Ok(text.split_off(begin));
        }
        sent = sent.max(free);
    }
    let piece = text.get(sent..).unwrap_or_default();
    if !piece.is_empty() {
        // It is the last piece either way.
        let _ = sink(piece);
    }
    Ok(text.split_off(begin))
}

/// The length of the longest end of `text` that begins a stop sequence.
fn held_back(text: &[u8], stops: &[Vec<u8>]) -> usize {
    let begins = |stop: &Vec<u8>| (1..stop.len()).rev().find(|&n| stop.get(..n).is_some_and(|s| text.ends_with(s)));
    stops.iter().filter_map(begins).max().unwrap_or(0)
}

/// The byte at a place, drawn by (seed, place) alone.
fn pick(logits: &[f32], temperature_milli: u32, seed: u64, place: u64) -> u8 {
    // Bytes have 256 logits; what else there may be is no byte.
    u8::try_from(choose(logits, temperature_milli, draw(seed, place))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that says the alphabet.
    fn alphabet(text: &[u8]) -> Result<Vec<f32>, EngineError> {
        let next = text.last().map_or(b'a', |b| if b.is_ascii_lowercase() && *b != b'z' { b + 1 } else { b'a' });
        Ok((0..=255).map(|b: u8| if b == next { 5.0 } else { 0.0 }).collect())
    }

    fn check(prompt: &[u8], max_bytes: u32, stop: &[&[u8]], expected: &[u8], pieces: &[&[u8]]) {
        let stop: Vec<Vec<u8>> = stop.iter().map(|s| s.to_vec()).collect();
        let wish = Wish { prompt, max_bytes, temperature_milli: 0, seed: 0, stop: &stop };
        let mut seen = Vec::new();
        let mut sink = |piece: &[u8]| {
            seen.push(piece.to_vec());
            true
        };
        assert_eq!(complete(&wish, &Control::FREE, &mut sink, alphabet).unwrap(), expected);
        assert_eq!(seen, pieces);
    }

    #[test]
    fn pieces_make_the_text_and_stops_are_cut() {
        check(b"ab", 3, &[], b"cde", &[b"c", b"d", b"e"]);
        check(b"", 9, &[b"cd"], b"ab", &[b"a", b"b"]);
        check(b"a", 4, &[b"cx"], b"bcde", &[b"b", b"cd", b"e"]);
        check(b"a", 2, &[b"cd"], b"bc", &[b"b", b"c"]);
        check(b"ab", 9, &[b"bc", b"ef"], b"cd", &[b"c", b"d"]);
    }

    #[test]
    fn a_sink_that_is_full_and_a_control_that_stops_end_it() {
        let wish = Wish { prompt: b"", max_bytes: 100, temperature_milli: 0, seed: 0, stop: &[] };
        let mut left = 3;
        let mut sink = |_: &[u8]| {
            left -= 1;
            left > 0
        };
        assert_eq!(complete(&wish, &Control::FREE, &mut sink, alphabet).unwrap(), b"abc");
        let short = Control { steps_max: 5, ..Control::FREE };
        assert_eq!(complete(&wish, &short, &mut super::super::no_sink, alphabet).unwrap(), b"abcde");
        let stop = Control::until(&|| true);
        let error = complete(&wish, &stop, &mut super::super::no_sink, alphabet).unwrap_err();
        assert_eq!(error, EngineError::Stopped { steps: 0 });
    }

    #[test]
    fn drawing_follows_the_seed_and_the_distribution() {
        let logits: Vec<f32> = (0..256).map(|b| if b < 2 { 0.0 } else { -50.0 }).collect();
        let drawn: Vec<u8> = (0..2_000).map(|place| pick(&logits, 1_000, 7, place)).collect();
        assert!(drawn.iter().all(|&b| b < 2));
        let ones = drawn.iter().filter(|&&b| b == 1).count();
        assert!((900..1_100).contains(&ones), "{ones}");
        assert_eq!(pick(&logits, 1_000, 7, 5), drawn[5]);
        assert_eq!(pick(&logits, 0, 7, 5), 0);
    }
}
