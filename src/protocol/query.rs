//! What crosses the wire when one node asks another's model, and the bounds of each part.
//!
//! `check` refuses what is out of bounds by its sizes and counts alone; whether an answer is any good is judged elsewhere.
//! Probabilities travel as `u16` with 65,535 for certainty, values of a time series as whole millionths, bytes need not be
//! text, and an answer never repeats the question. Questions and answers have fixed layouts of their own for the receipts
//! that miners sign (D11).

use serde::{Deserialize, Serialize};

use super::ids::{Digest, MemberId, SubnetId, hash};
use super::keys::Signature;
use super::layout::{LayoutError, Reader, Writer};

/// The most an encoded [`Ask`] may take.
pub const ASK_BYTES_MAX: usize = 1 << 20;
/// The most an encoded [`AnswerFrame`] may take.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Images or contexts in one query.
pub const ITEMS_MAX: usize = 256;
/// Pixels of one image, row by row.
pub const PIXELS: usize = 64;
/// The darkest pixel.
pub const PIXEL_MAX: u8 = 16;
/// Classes of one image.
pub const CLASSES: usize = 10;
/// Values of a byte, hence the length of a distribution over the next one.
pub const BYTE_VALUES: usize = 256;
/// Bytes of one context; a model reads as many of the last ones as it can.
pub const CONTEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a prompt.
pub const PROMPT_BYTES_MAX: usize = 64 << 10;
/// Bytes of one completion.
pub const COMPLETION_BYTES_MAX: u32 = 16 << 10;
/// Temperature in thousandths; 0 takes the likeliest byte always.
pub const TEMPERATURE_MILLI_MAX: u32 = 5_000;
/// Sequences that end a completion, and the bytes of each.
pub const STOPS_MAX: usize = 4;
/// Bytes of one stop sequence.
pub const STOP_BYTES_MAX: usize = 64;
/// Values of one time series, the oldest first.
pub const HISTORY_MAX: usize = 2_048;
/// Values of all series of one query together.
pub const VALUES_MAX: usize = 1 << 16;
/// Steps ahead of one forecast.
pub const HORIZON_MAX: usize = 336;
/// Steps ahead of all series of one query together; what keeps an answer within its frame.
pub const STEPS_MAX: usize = 4_800;
/// Which quantiles a forecast tells of each step, in thousandths.
pub const QUANTILES_MILLI: [u16; 5] = [100, 250, 500, 750, 900];
/// The largest value of a series either way, in millionths: a thousand million.
pub const MICROS_MAX: i64 = 1_000_000_000_000_000;
/// The longest time a query may be given.
pub const DEADLINE_MS_MAX: u64 = 600_000;
/// Bytes of the text that goes with a refusal.
pub const REFUSAL_BYTES_MAX: usize = 512;

/// Why a query or an answer is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    #[error("{what}: {found}, allowed are {least} to {most}")]
    Count { what: &'static str, found: u64, least: u64, most: u64 },
    #[error("{what} of item {item}: {found}, expected {expected}")]
    Shape { what: &'static str, item: usize, found: u64, expected: u64 },
    #[error("value {found} millionths of series {item}, allowed are up to {MICROS_MAX} either way")]
    Value { item: usize, found: i64 },
    #[error("step {step} of series {item}: its quantiles do not rise")]
    Order { item: usize, step: usize },
    #[error("a {found} does not answer a {asked} query")]
    Kind { asked: &'static str, found: &'static str },
}

fn within(what: &'static str, found: usize, least: usize, most: usize) -> Result<(), BoundsError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(BoundsError::Count { what, found: found as u64, least: least as u64, most: most as u64 })
}

/// A question to a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Which digit is on each image: 64 pixels of 0 to 16, row by row.
    Classify { images: Vec<Vec<u8>> },
    /// How likely each byte follows each context.
    NextByte { contexts: Vec<Vec<u8>> },
    /// A continuation of the prompt, byte by byte; equal seeds give equal continuations on one engine.
    Complete {
        #[serde(with = "serde_bytes")]
        prompt: Vec<u8>,
        max_bytes: u32,
        temperature_milli: u32,
        seed: u64,
        stop: Vec<Vec<u8>>,
    },
    /// How each series goes on: `horizon` steps after its last value, in whole millionths. `season` is how many steps make
    /// one period of the pattern that repeats; 1 when there is none.
    Forecast { series: Vec<Vec<i64>>, season: u32, horizon: u32 },
}

impl Query {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Classify { .. } => "classify",
            Self::NextByte { .. } => "next_byte",
            Self::Complete { .. } => "complete",
            Self::Forecast { .. } => "forecast",
        }
    }

    /// Images, contexts or series; a completion is one item.
    pub fn items(&self) -> usize {
        match self {
            Self::Classify { images } => images.len(),
            Self::NextByte { contexts } => contexts.len(),
            Self::Complete { .. } => 1,
            Self::Forecast { series, .. } => series.len(),
        }
    }

    /// Bytes the model reads: pixels, contexts, the prompt, or eight for each value of a series.
    pub fn input_bytes(&self) -> usize {
        match self {
            Self::Classify { images } => images.iter().map(Vec::len).sum(),
            Self::NextByte { contexts } => contexts.iter().map(Vec::len).sum(),
            Self::Complete { prompt, .. } => prompt.len(),
            Self::Forecast { series, .. } => series.iter().map(|s| s.len() * size_of::<i64>()).sum(),
        }
    }

    /// # Errors
    /// A count, a length or a pixel is out of bounds; names it.
    pub fn check(&self) -> Result<(), BoundsError> {
        match self {
            Self::Classify { images } => {
                within("images", images.len(), 1, ITEMS_MAX)?;
                images.iter().enumerate().try_for_each(|(item, image)| check_image(item, image))
            }
            Self::NextByte { contexts } => {
                within("contexts", contexts.len(), 1, ITEMS_MAX)?;
                contexts.iter().try_for_each(|c| within("context bytes", c.len(), 0, CONTEXT_BYTES_MAX))
            }
            Self::Complete { prompt, max_bytes, temperature_milli, stop, .. } => {
                within("prompt bytes", prompt.len(), 0, PROMPT_BYTES_MAX)?;
                within("max_bytes", *max_bytes as usize, 1, COMPLETION_BYTES_MAX as usize)?;
                within("temperature_milli", *temperature_milli as usize, 0, TEMPERATURE_MILLI_MAX as usize)?;
                within("stop sequences", stop.len(), 0, STOPS_MAX)?;
                stop.iter().try_for_each(|s| within("stop bytes", s.len(), 1, STOP_BYTES_MAX))
            }
            Self::Forecast { series, season, horizon } => check_series(series, *season as usize, *horizon as usize),
        }
    }
}

fn check_image(item: usize, image: &[u8]) -> Result<(), BoundsError> {
    if image.len() != PIXELS {
        let (found, expected) = (image.len() as u64, PIXELS as u64);
        return Err(BoundsError::Shape { what: "pixels", item, found, expected });
    }
    let dark = image.iter().copied().max().unwrap_or(0);
    within("pixel", usize::from(dark), 0, usize::from(PIXEL_MAX))
}

fn check_series(series: &[Vec<i64>], season: usize, horizon: usize) -> Result<(), BoundsError> {
    within("series", series.len(), 1, ITEMS_MAX)?;
    within("horizon", horizon, 1, HORIZON_MAX)?;
    within("steps ahead of all series", series.len() * horizon, 1, STEPS_MAX)?;
    within("season", season, 1, HISTORY_MAX / 2)?;
    for (item, values) in series.iter().enumerate() {
        // A season can be told from noise only when it is seen twice.
        within("values of a series", values.len(), 2 * season, HISTORY_MAX)?;
        check_micros(item, values)?;
    }
    within("values of all series", series.iter().map(Vec::len).sum(), 1, VALUES_MAX)
}

fn check_micros(item: usize, values: &[i64]) -> Result<(), BoundsError> {
    let wild = values.iter().copied().find(|value| !(-MICROS_MAX..=MICROS_MAX).contains(value));
    wild.map_or(Ok(()), |found| Err(BoundsError::Value { item, found }))
}

/// Rows of whole numbers, little-endian, each row and all of them with their count in front.
fn write_series(to: Writer, rows: &[Vec<i64>]) -> Writer {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let row = |to: Writer, row: &Vec<i64>| {
        let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
        to.u32(count(row.len())).raw(&bytes)
    };
    rows.iter().fold(to.u32(count(rows.len())), row)
}

impl Query {
    /// What a receipt names the question by.
    pub fn digest(&self) -> Digest {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let parts = |to: Writer, parts: &[Vec<u8>]| {
            let to = to.u32(count(parts.len()));
            parts.iter().fold(to, |to, part| to.u32(count(part.len())).raw(part))
        };
        let to = match self {
            Self::Classify { images } => parts(Writer::new().u8(0), images),
            Self::NextByte { contexts } => parts(Writer::new().u8(1), contexts),
            Self::Complete { prompt, max_bytes, temperature_milli, seed, stop } => {
                let to = Writer::new().u8(2).u32(count(prompt.len())).raw(prompt);
                parts(to.u32(*max_bytes).u32(*temperature_milli).u64(*seed), stop)
            }
            Self::Forecast { series, season, horizon } => {
                write_series(Writer::new().u8(3), series).u32(*season).u32(*horizon)
            }
        };
        hash("starling/1 request", &[&to.done()])
    }
}

/// The receipt that the asker wants with the answer: by what name, and as which member it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptWish {
    pub query: Digest,
    pub member: MemberId,
}

/// A query on its way to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub subnet: SubnetId,
    /// The artifact that must answer; `None` leaves it to the miner.
    pub model: Option<Digest>,
    pub query: Query,
    /// Milliseconds the asker waits, counted from the arrival.
    pub deadline_ms: u64,
    /// Whether pieces of a completion are wanted before its end.
    pub stream: bool,
    /// `None` wants no receipt.
    pub receipt: Option<ReceiptWish>,
}

impl Ask {
    /// # Errors
    /// The deadline or the query is out of bounds.
    pub fn check(&self) -> Result<(), BoundsError> {
        if !(1..=DEADLINE_MS_MAX).contains(&self.deadline_ms) {
            let (found, least, most) = (self.deadline_ms, 1, DEADLINE_MS_MAX);
            return Err(BoundsError::Count { what: "deadline_ms", found, least, most });
        }
        self.query.check()
    }
}

fn counted(from: &mut Reader<'_>, what: &'static str, limit: usize) -> Result<usize, LayoutError> {
    let found = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    if found > limit { Err(LayoutError::TooMany { what, found, limit }) } else { Ok(found) }
}

/// What a model answers; item `i` answers item `i` of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One row of ten per image; 65,535 is certainty.
    Classes { probabilities: Vec<Vec<u16>> },
    /// One row of 256 per context.
    Distributions { probabilities: Vec<Vec<u16>> },
    /// The continuation, without the prompt.
    Text {
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// One row per series: the quantiles of the first step ahead, rising, then those of the next, in whole millionths.
    Quantiles { steps: Vec<Vec<i64>> },
}

impl Usage {
    /// What a query read and its answer wrote.
    pub fn of(query: &Query, answer: &Answer) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let written = if let Answer::Text { bytes } = answer { bytes.len() } else { 0 };
        Self { items: count(query.items()), input_bytes: count(query.input_bytes()), output_bytes: count(written) }
    }
}

impl Answer {
    /// The bytes that a receipt and a score log stand for.
    pub fn layout(&self) -> Vec<u8> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let rows = |to: Writer, rows: &[Vec<u16>]| {
            let row = |to: Writer, row: &Vec<u16>| row.iter().fold(to.u32(count(row.len())), |to, p| to.u16(*p));
            rows.iter().fold(to.u32(count(rows.len())), row)
        };
        match self {
            Self::Classes { probabilities } => rows(Writer::new().u8(0), probabilities).done(),
            Self::Distributions { probabilities } => rows(Writer::new().u8(1), probabilities).done(),
            Self::Text { bytes } => Writer::new().u8(2).u32(count(bytes.len())).raw(bytes).done(),
            Self::Quantiles { steps } => write_series(Writer::new().u8(3), steps).done(),
        }
    }

    /// # Errors
    /// The bytes are no answer, or have bytes left over.
    pub fn from_layout(bytes: &[u8]) -> Result<Self, LayoutError> {
        fn rows(from: &mut Reader<'_>) -> Result<Vec<Vec<u16>>, LayoutError> {
            let mut rows = Vec::new();
            for _ in 0..counted(from, "rows of an answer", ITEMS_MAX)? {
                let width = counted(from, "row of an answer", BYTE_VALUES)?;
                rows.push((0..width).map(|_| from.u16()).collect::<Result<_, _>>()?);
            }
            Ok(rows)
        }
        let mut from = Reader::new(bytes);
        let answer = match from.u8()? {
            0 => Self::Classes { probabilities: rows(&mut from)? },
            1 => Self::Distributions { probabilities: rows(&mut from)? },
            2 => {
                let length = counted(&mut from, "text", COMPLETION_BYTES_MAX as usize)?;
                Self::Text { bytes: from.raw(length)?.to_vec() }
            }
            3 => {
                let mut steps = Vec::new();
                for _ in 0..counted(&mut from, "rows of an answer", ITEMS_MAX)? {
                    let width = counted(&mut from, "row of an answer", HORIZON_MAX * QUANTILES_MILLI.len())?;
                    let row = (0..width).map(|_| from.u64().map(u64::cast_signed));
                    steps.push(row.collect::<Result<_, _>>()?);
                }
                Self::Quantiles { steps }
            }
            other => return Err(LayoutError::Unknown { what: "kind of answer", found: other.into() }),
        };
        from.end()?;
        Ok(answer)
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "classes",
            Self::Distributions { .. } => "distributions",
            Self::Text { .. } => "text",
            Self::Quantiles { .. } => "quantiles",
        }
    }

    /// Whether the shape is the one the query asks for.
    ///
    /// # Errors
    /// Another kind, another count of rows, a row of another length, more bytes than were asked for, or quantiles that
    /// cross.
    pub fn check(&self, query: &Query) -> Result<(), BoundsError> {
        match (self, query) {
            (Self::Classes { probabilities }, Query::Classify { images }) => rows(probabilities, images.len(), CLASSES),
            (Self::Distributions { probabilities }, Query::NextByte { contexts }) => {
                rows(probabilities, contexts.len(), BYTE_VALUES)
            }
            (Self::Text { bytes }, Query::Complete { max_bytes, .. }) => {
                within("completion bytes", bytes.len(), 0, *max_bytes as usize)
            }
            (Self::Quantiles { steps }, Query::Forecast { series, horizon, .. }) => {
                check_quantiles(steps, series.len(), *horizon as usize)
            }
            (found, asked) => Err(BoundsError::Kind { asked: asked.kind(), found: found.kind() }),
        }
    }
}

fn rows(probabilities: &[Vec<u16>], expected: usize, width: usize) -> Result<(), BoundsError> {
    within("rows", probabilities.len(), expected, expected)?;
    for (item, row) in probabilities.iter().enumerate() {
        if row.len() != width {
            let (found, expected) = (row.len() as u64, width as u64);
            return Err(BoundsError::Shape { what: "probabilities", item, found, expected });
        }
    }
    Ok(())
}

fn check_quantiles(steps: &[Vec<i64>], expected: usize, horizon: usize) -> Result<(), BoundsError> {
    within("rows", steps.len(), expected, expected)?;
    for (item, row) in steps.iter().enumerate() {
        let expected = horizon * QUANTILES_MILLI.len();
        if row.len() != expected {
            let (found, expected) = (row.len() as u64, expected as u64);
            return Err(BoundsError::Shape { what: "quantiles", item, found, expected });
        }
        check_micros(item, row)?;
        if let Some(step) = row.chunks(QUANTILES_MILLI.len()).position(|step| !step.is_sorted()) {
            return Err(BoundsError::Order { item, step });
        }
    }
    Ok(())
}

/// Work done for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Images, contexts, series or completions.
    pub items: u32,
    /// Bytes read: pixels, contexts, the prompt, or eight for each value.
    pub input_bytes: u32,
    /// Bytes written by a completion.
    pub output_bytes: u32,
}

/// Why a node does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No permit is free; ask somebody else or later.
    Busy,
    /// Time is up, or would be before an answer.
    Late,
    /// The query is out of bounds.
    Malformed,
    /// The subnet is not served here.
    UnknownSubnet,
    /// The artifact asked for is not loaded here.
    UnknownModel,
    /// No engine here can answer this kind of query.
    Unsupported,
    /// The node is stopping.
    Stopping,
    /// The work was begun and failed.
    Failed,
}

impl RefusalCode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Malformed => "malformed",
            Self::UnknownSubnet => "unknown_subnet",
            Self::UnknownModel => "unknown_model",
            Self::Unsupported => "unsupported",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// One frame of an answer: any number of pieces, then exactly one of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerFrame {
    /// The next bytes of a completion.
    Piece(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The whole answer, pieces included.
    Done {
        answer: Answer,
        usage: Usage,
        model: Digest,
        compute_ms: u64,
        /// The operator's signature, where the asker wanted one.
        receipt: Option<Signature>,
    },
    Refused(RefusalCode, String),
}

impl AnswerFrame {
    /// A refusal with its text cut to the bound, at a character.
    pub fn refused(code: RefusalCode, text: &str) -> Self {
        Self::Refused(code, text.chars().take(REFUSAL_BYTES_MAX / 4).collect())
    }

    /// Whether this frame may answer the query; the sum of the pieces is the receiver's to count.
    ///
    /// # Errors
    /// A piece to what is no completion or longer than it, an answer of another shape, too long a refusal.
    pub fn check(&self, query: &Query) -> Result<(), BoundsError> {
        match self {
            Self::Piece(bytes) => match query {
                Query::Complete { max_bytes, .. } => within("piece bytes", bytes.len(), 1, *max_bytes as usize),
                _ => Err(BoundsError::Kind { asked: query.kind(), found: "piece" }),
            },
            Self::Done { answer, .. } => answer.check(query),
            Self::Refused(_, text) => within("refusal bytes", text.len(), 0, REFUSAL_BYTES_MAX),
        }
    }

    /// Whether nothing may follow.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Piece(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec;

    fn complete(prompt: usize, max_bytes: u32, temperature_milli: u32, stop: &[usize]) -> Query {
        let stop = stop.iter().map(|&n| vec![b'.'; n]).collect();
        Query::Complete { prompt: vec![0xff; prompt], max_bytes, temperature_milli, seed: 1, stop }
    }

    #[test]
    fn queries_within_bounds_pass_and_others_are_named() {
        let image = vec![PIXEL_MAX; PIXELS];
        let good = [
            Query::Classify { images: vec![image.clone(); ITEMS_MAX] },
            Query::NextByte { contexts: vec![vec![], vec![7; CONTEXT_BYTES_MAX]] },
            complete(PROMPT_BYTES_MAX, COMPLETION_BYTES_MAX, TEMPERATURE_MILLI_MAX, &[1, STOP_BYTES_MAX]),
            forecast(200, 168, 24, 24),
            forecast(1, HISTORY_MAX, 1, u32::try_from(HORIZON_MAX).unwrap()),
        ];
        for query in good {
            assert_eq!(query.check(), Ok(()));
        }
        let mut dark = image.clone();
        dark[63] = 17;
        let bad = [
            (Query::Classify { images: vec![] }, "images"),
            (Query::Classify { images: vec![image.clone(); ITEMS_MAX + 1] }, "images"),
            (Query::Classify { images: vec![image, vec![0; 63]] }, "pixels of item 1"),
            (Query::Classify { images: vec![dark] }, "pixel: 17"),
            (Query::NextByte { contexts: vec![vec![7; CONTEXT_BYTES_MAX + 1]] }, "context bytes"),
            (complete(PROMPT_BYTES_MAX + 1, 1, 0, &[]), "prompt bytes"),
            (complete(0, 0, 0, &[]), "max_bytes"),
            (complete(0, 1, 5_001, &[]), "temperature_milli"),
            (complete(0, 1, 0, &[1; 5]), "stop sequences"),
            (complete(0, 1, 0, &[0]), "stop bytes"),
            (forecast(0, 48, 24, 24), "series"),
            (forecast(201, 48, 24, 24), "steps ahead"),
            (forecast(1, 47, 24, 24), "values of a series: 47"),
            (forecast(1, 48, 0, 24), "season"),
            (forecast(1, 48, 24, 337), "horizon"),
            (forecast(33, HISTORY_MAX, 24, 1), "values of all series"),
            (Query::Forecast { series: vec![vec![0, MICROS_MAX + 1]], season: 1, horizon: 1 }, "of series 0"),
        ];
        for (query, word) in bad {
            let text = query.check().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    fn forecast(series: usize, values: usize, season: u32, horizon: u32) -> Query {
        Query::Forecast { series: vec![vec![-MICROS_MAX; values]; series], season, horizon }
    }

    #[test]
    fn a_forecast_answers_every_step_with_quantiles_that_rise() {
        let query = forecast(2, 48, 24, 3);
        let quantiles = |row: Vec<i64>| Answer::Quantiles { steps: vec![row; 2] }.check(&query);
        let rising: Vec<i64> = (0..15).map(|i| i % 5).collect();
        assert_eq!(quantiles(rising.clone()), Ok(()));
        assert_eq!(quantiles(vec![7; 15]), Ok(()), "equal quantiles are a point");
        assert!(quantiles(vec![7; 14]).is_err());
        let crossed = [rising[..13].to_vec(), vec![9, 8]].concat();
        assert_eq!(quantiles(crossed), Err(BoundsError::Order { item: 0, step: 2 }));
        assert!(matches!(quantiles(vec![i64::MIN; 15]), Err(BoundsError::Value { found: i64::MIN, .. })));
        assert!(Answer::Quantiles { steps: vec![rising] }.check(&query).is_err());
    }

    #[test]
    fn an_answer_has_the_shape_of_its_query() {
        let query = Query::Classify { images: vec![vec![0; PIXELS]; 2] };
        let classes = |rows: usize, width: usize| Answer::Classes { probabilities: vec![vec![0; width]; rows] };
        assert_eq!(classes(2, CLASSES).check(&query), Ok(()));
        assert!(classes(1, CLASSES).check(&query).is_err());
        assert!(classes(2, 9).check(&query).is_err());
        assert!(Answer::Text { bytes: vec![] }.check(&query).is_err());
        assert!(AnswerFrame::Piece(vec![1]).check(&query).is_err());
        assert!(AnswerFrame::Piece(vec![1; 3]).check(&complete(0, 2, 0, &[])).is_err());
        let long = AnswerFrame::refused(RefusalCode::Busy, &"ü".repeat(10_000));
        assert_eq!(long.check(&query), Ok(()));
    }

    #[test]
    fn the_largest_messages_fit_their_frames() {
        let ask = |query| Ask {
            subnet: SubnetId(1),
            model: Some(Digest::ZERO),
            query,
            deadline_ms: 1,
            stream: true,
            receipt: None,
        };
        let most = ask(Query::NextByte { contexts: vec![vec![0xff; CONTEXT_BYTES_MAX]; ITEMS_MAX] });
        assert_eq!(most.check(), Ok(()));
        let bytes = codec::encode(&most);
        assert_eq!(codec::decode::<Ask, ASK_BYTES_MAX>(&bytes).unwrap(), most);
        let answer = Answer::Distributions { probabilities: vec![vec![u16::MAX; BYTE_VALUES]; ITEMS_MAX] };
        let frame =
            AnswerFrame::Done { answer, usage: Usage::default(), model: Digest::ZERO, compute_ms: 9, receipt: None };
        let bytes = codec::encode(&frame);
        assert_eq!(codec::decode::<AnswerFrame, FRAME_BYTES_MAX>(&bytes).unwrap(), frame);
        let most = ask(forecast(32, HISTORY_MAX, 24, 150));
        assert_eq!(most.check(), Ok(()));
        assert_eq!(codec::decode::<Ask, ASK_BYTES_MAX>(&codec::encode(&most)).unwrap(), most);
        let answer = Answer::Quantiles { steps: vec![vec![-MICROS_MAX; 750]; 32] };
        assert_eq!(answer.check(&most.query), Ok(()));
        let frame =
            AnswerFrame::Done { answer, usage: Usage::default(), model: Digest::ZERO, compute_ms: 9, receipt: None };
        assert_eq!(codec::decode::<AnswerFrame, FRAME_BYTES_MAX>(&codec::encode(&frame)).unwrap(), frame);
    }

    #[test]
    fn d11_answers_have_one_layout_and_questions_one_name() {
        let row = vec![1, 2, 3];
        let answers = [
            Answer::Classes { probabilities: vec![row.clone(), vec![]] },
            Answer::Distributions { probabilities: vec![row] },
            Answer::Text { bytes: b"ab".to_vec() },
            Answer::Quantiles { steps: vec![vec![-1, MICROS_MAX], vec![7]] },
        ];
        for answer in answers {
            let bytes = answer.layout();
            assert_eq!(Answer::from_layout(&bytes).unwrap(), answer);
            assert!(Answer::from_layout(&bytes[..bytes.len() - 1]).is_err());
            assert!(Answer::from_layout(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        let bomb = [&[0_u8][..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(Answer::from_layout(&bomb), Err(LayoutError::TooMany { .. })));
        // Bytes that move from one context to the next make another question.
        let asked = |contexts: &[&[u8]]| Query::NextByte { contexts: contexts.iter().map(|c| c.to_vec()).collect() };
        assert_ne!(asked(&[b"ab", b"c"]).digest(), asked(&[b"a", b"bc"]).digest());
        assert_eq!(asked(&[b"ab"]).digest(), asked(&[b"ab"]).digest());
        let ahead = |series: Vec<Vec<i64>>, season| Query::Forecast { series, season, horizon: 1 }.digest();
        assert_ne!(ahead(vec![vec![1, 2], vec![3]], 1), ahead(vec![vec![1], vec![2, 3]], 1));
        assert_ne!(ahead(vec![vec![1, 2]], 1), ahead(vec![vec![1, 2]], 2));
    }
}
