//! What a model writes, token by token: held back while it may become a stop sequence or is half a character, and cut at
//! its bound.

use super::super::Sink;

/// The text so far.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    written: Vec<u8>,
    sent: usize,
    bytes_max: usize,
    stop: &'a [Vec<u8>],
    /// A stop sequence or the bound ended it.
    ended: bool,
}

impl<'a> Writer<'a> {
    pub fn new(bytes_max: usize, stop: &'a [Vec<u8>]) -> Self {
        Self { written: Vec::new(), sent: 0, bytes_max, stop, ended: false }
    }

    /// Whether to write on.
    pub fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> bool {
        let from = self.written.len();
        self.written.extend_from_slice(bytes);
        let first = self.stop.iter().filter_map(|stop| {
            let near = from.saturating_sub(stop.len());
            let tail = self.written.get(near..).unwrap_or_default();
            tail.windows(stop.len()).position(|part| part == stop.as_slice()).map(|at| near + at)
        });
        if let Some(at) = first.min() {
            self.written.truncate(at);
            self.ended = true;
        }
        if self.written.len() >= self.bytes_max {
            self.written.truncate(self.bytes_max);
            self.written.truncate(whole_characters(&self.written));
            self.ended = true;
        }
        let held = self.stop.iter().map(|stop| stop.len() - 1).max().unwrap_or(0);
        let free = if self.ended { self.written.len() } else { self.written.len().saturating_sub(held) };
        let free = free.min(whole_characters(self.written.get(..free).unwrap_or_default()));
        self.give(free, sink) && !self.ended
    }

    /// Gives out up to `until`; whether more is wanted.
    fn give(&mut self, until: usize, sink: &mut Sink<'_>) -> bool {
        let piece = self.written.get(self.sent..until).unwrap_or_default();
        if piece.is_empty() {
            return true;
        }
        let wanted = sink(piece);
        self.sent = until;
        if !wanted {
            self.written.truncate(until);
        }
        wanted
    }

    /// The whole text; what was held back goes to the sink.
    pub fn end(mut self, sink: &mut Sink<'_>) -> Vec<u8> {
        let all = whole_characters(&self.written);
        self.written.truncate(all);
        // It is the last piece either way.
        let _ = self.give(all, sink);
        self.written
    }
}

/// Bytes until a character at the end that is not whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// The byte that a character of a byte-level vocabulary stands for (after GPT-2): printable ones for themselves, the rest
/// from 256 on in their order.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(code) {
        Ok(byte) => own(byte).then_some(byte),
        Err(_) => {
            let place = usize::try_from(code.checked_sub(256)?).ok()?;
            (0..=u8::MAX).filter(|byte| !own(*byte)).nth(place)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tokens: &[&str], bytes_max: usize, stop: &[&str]) -> (String, Vec<String>) {
        let stop: Vec<Vec<u8>> = stop.iter().map(|s| s.as_bytes().to_vec()).collect();
        let mut writer = Writer::new(bytes_max, &stop);
        let mut seen = Vec::new();
        let mut sink = |piece: &[u8]| {
            seen.push(String::from_utf8(piece.to_vec()).unwrap());
            true
        };
        for token in tokens {
            if !writer.push(token.as_bytes(), &mut sink) {
                break;
            }
        }
        let whole = String::from_utf8(writer.end(&mut sink)).unwrap();
        assert_eq!(seen.concat(), whole);
        (whole, seen)
    }

    #[test]
    fn stops_are_cut_wherever_tokens_end_and_the_bound_cuts_no_character() {
        assert_eq!(write(&["ab", "cd"], 99, &[]).1, ["ab", "cd"]);
        assert_eq!(write(&["ab<e", "nd>cd"], 99, &["<end>"]).0, "ab");
        assert_eq!(write(&["ab<e", "x"], 99, &["<end>"]).0, "ab<ex");
        assert_eq!(write(&["Grü", "ße"], 5, &[]).0, "Grü", "half of a character is none");
        assert_eq!(write(&["Grü", "ße"], 6, &[]).0, "Grüß");
    }

    #[test]
    fn every_byte_has_its_character() {
        let mut bytes: Vec<u8> = (0..0x150).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
    }
}
