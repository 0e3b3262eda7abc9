//! A conversation as one prompt: each turn begins with a byte that no text holds (M17).
//!
//! The gateway joins what a client said, and the engine that knows its model makes of it what that model was taught: a
//! model's own template, or messages for a server. A prompt without a mark is plain text. What is written so far belongs
//! to the last turn, so a completion that goes on elsewhere is the same prompt, longer. Marks are bytes that UTF-8 never
//! holds, so that nothing a client writes can begin a turn of its own.

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    System,
    User,
    Assistant,
}

impl Voice {
    pub const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// The byte that begins a turn of this voice.
    pub fn mark(self) -> u8 {
        match self {
            Self::System => 0xf8,
            Self::User => 0xf9,
            Self::Assistant => 0xfa,
        }
    }

    /// The word for it in the shapes of the OpenAI API.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    fn of(mark: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|voice| voice.mark() == mark)
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub voice: Voice,
    /// What was said, as far as the front of the prompt was not cut off.
    pub text: Vec<u8>,
}

/// Whether the byte begins a turn wherever it stands in a prompt.
pub fn is_mark(byte: u8) -> bool {
    Voice::of(byte).is_some()
}

/// The prompt of a conversation, its last turn the one to go on with: the model's own, begun here when the client's last
/// word was not the model's.
pub fn join(turns: &[Turn]) -> Vec<u8> {
    let mut prompt = Vec::new();
    for Turn { voice, text } in turns {
        prompt.push(voice.mark());
        prompt.extend(text.iter().filter(|byte| !is_mark(**byte)));
    }
    if turns.last().is_none_or(|last| last.voice != Voice::Assistant) {
        prompt.push(Voice::Assistant.mark());
    }
    prompt
}

/// The turns of a prompt, or `None` when it is plain text. What stands before the first mark, because the front was cut
/// off, is the user's.
pub fn split(prompt: &[u8]) -> Option<Vec<Turn>> {
    let mut turns = Vec::new();
    let mut rest = prompt;
    let first = rest.iter().position(|byte| is_mark(*byte))?;
    if first > 0 {
        turns.push(Turn { voice: Voice::User, text: rest.get(..first).unwrap_or_default().to_vec() });
    }
    rest = rest.get(first..).unwrap_or_default();
    while let Some((mark, after)) = rest.split_first() {
        let end = after.iter().position(|byte| is_mark(*byte)).unwrap_or(after.len());
        let (text, next) = after.split_at_checked(end).unwrap_or((after, &[]));
        let voice = Voice::of(*mark).unwrap_or(Voice::User);
        turns.push(Turn { voice, text: text.to_vec() });
        rest = next;
    }
    Some(turns)
}

/// What a model sees that continues text and knows no roles: the turns in their order, an empty line between two, and the
/// turn to go on with directly after them.
pub fn plain(prompt: &[u8]) -> Vec<u8> {
    let Some(mut turns) = split(prompt) else { return prompt.to_vec() };
    let open = turns.pop_if(|last| last.voice == Voice::Assistant).map(|last| last.text).unwrap_or_default();
    let said: Vec<&[u8]> = turns.iter().map(|turn| turn.text.as_slice()).collect();
    [said.join(&b"\n\n"[..]), open].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(voice: Voice, text: &str) -> Turn {
        Turn { voice, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn a_conversation_is_split_as_it_was_joined_and_goes_on_in_its_last_turn() {
        let said = [turn(Voice::System, "be"), turn(Voice::User, "hi")];
        let mut prompt = join(&said);
        prompt.extend(b"wel");
        let found = split(&prompt).unwrap();
        assert_eq!(found[..2], said);
        assert_eq!(found[2], turn(Voice::Assistant, "wel"));
        assert_eq!(plain(&prompt), b"be\n\nhiwel");
        assert_eq!(plain(&join(&said)), b"be\n\nhi");
        let begun = [turn(Voice::User, "hi"), turn(Voice::Assistant, "I ")];
        assert_eq!(split(&join(&begun)).unwrap(), begun, "the client began the answer");
    }

    #[test]
    fn plain_text_has_no_turns_and_a_cut_front_is_the_users() {
        assert_eq!(split("Grüße, 漢🦀".as_bytes()), None);
        assert_eq!(plain(b"ab"), b"ab");
        let prompt = join(&[turn(Voice::User, "a long word")]);
        let cut = split(&prompt[4..]).unwrap();
        assert_eq!(cut, [turn(Voice::User, "ong word"), turn(Voice::Assistant, "")]);
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_begins_a_turn(bytes in prop::collection::vec(any::<u8>(), 0..60), text in ".{0,20}") {
            let turns = [Turn { voice: Voice::User, text: bytes }, turn(Voice::User, &text)];
            prop_assert_eq!(split(&join(&turns)).unwrap().len(), 3);
            prop_assert_eq!(&split(&join(&turns)).unwrap()[1].text, text.as_bytes());
            prop_assert!(split(text.as_bytes()).is_none());
        }
    }
}
