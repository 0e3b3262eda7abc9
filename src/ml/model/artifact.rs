//! Weights as bytes: a safetensors file in one canonical form, so that equal weights are equal bytes (M12).
//!
//! Tensors stand in name order, little-endian `F32`, without gaps; the header is fixed by the architecture and padded
//! with spaces to eight bytes. The reader accepts exactly what the writer writes. It knows from the architecture how
//! long the file must be before it allocates for a tensor, and refuses what is no number (M14).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Architecture;
use crate::protocol::ids::Digest;

/// Bytes a header may claim.
pub const HEADER_BYTES_MAX: usize = 64 << 10;

/// Why bytes or tensors are no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    #[error("the artifact ends after {found} bytes, {expected} are expected")]
    Length { expected: u64, found: u64 },
    #[error("a header of {found} bytes, at most {HEADER_BYTES_MAX} are allowed")]
    HeaderTooLong { found: u64 },
    #[error("the header is no safetensors header: {0}")]
    Header(String),
    #[error("no architecture \"{name}\"; known are {known}", name = .0, known = Architecture::NAMES.join(", "))]
    UnknownArchitecture(String),
    #[error("embedding = {embedding} is no multiple of heads = {heads}")]
    Heads { embedding: usize, heads: usize },
    #[error("{name} = {found}, allowed are 1 to {most}")]
    Number { name: String, found: usize, most: usize },
    #[error("tensor {0} is missing")]
    Missing(String),
    #[error("tensor {0} does not belong to the architecture")]
    Surplus(String),
    #[error("tensor {name} has {what} {found}, expected {expected}")]
    Tensor { name: String, what: &'static str, found: String, expected: String },
    #[error("the header is not in canonical form")]
    NotCanonical,
    #[error("tensor {name} holds {found} at place {place}")]
    NotFinite { name: String, place: usize, found: String },
}

/// Numbers in row-major order with their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A whole model: its architecture and every tensor of it, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    architecture: Architecture,
    tensors: BTreeMap<String, Tensor>,
}

impl Artifact {
    /// # Errors
    /// Tensors other than the architecture's, or a value that is no number.
    pub fn new(architecture: Architecture, tensors: BTreeMap<String, Tensor>) -> Result<Self, ArtifactError> {
        architecture.check()?;
        let shapes = architecture.shapes();
        if let Some(name) = tensors.keys().find(|name| !shapes.contains_key(*name)) {
            return Err(ArtifactError::Surplus(name.clone()));
        }
        for (name, shape) in shapes {
            let tensor = tensors.get(&name).ok_or_else(|| ArtifactError::Missing(name.clone()))?;
            check_tensor(&name, tensor, &shape)?;
        }
        Ok(Self { architecture, tensors })
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// By name, in name order.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// BLAKE3 of the canonical bytes.
    pub fn id(&self) -> Digest {
        Digest(*blake3::hash(&self.to_bytes()).as_bytes())
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let header = header(&self.architecture);
        let mut bytes = Vec::with_capacity(8 + header.len() + self.architecture.parameters() * 4);
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        for tensor in self.tensors.values() {
            for value in &tensor.values {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads the canonical form and nothing else.
    ///
    /// # Errors
    /// Names what is wrong: length, header, architecture, tensor or value.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let found = bytes.len() as u64;
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or(ArtifactError::Length { expected: 8, found })?;
        let length = u64::from_le_bytes(*length);
        let within = usize::try_from(length).ok().filter(|&l| l <= HEADER_BYTES_MAX);
        let length = within.ok_or(ArtifactError::HeaderTooLong { found: length })?;
        let expected = 8 + length as u64;
        let (text, data) = rest.split_at_checked(length).ok_or(ArtifactError::Length { expected, found })?;
        let architecture = read_header(text)?;
        let expected = expected + architecture.weight_bytes();
        if found != expected {
            return Err(ArtifactError::Length { expected, found });
        }
        let mut values = data.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
        let mut tensors = BTreeMap::new();
        for (name, shape) in architecture.shapes() {
            let count = shape.iter().product();
            let values = values.by_ref().take(count).collect();
            tensors.insert(name, Tensor { shape, values });
        }
        Self::new(architecture, tensors)
    }
}

fn check_tensor(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<(), ArtifactError> {
    let wrong = |what, found: String, expected: String| {
        Err(ArtifactError::Tensor { name: name.to_owned(), what, found, expected })
    };
    if tensor.shape != shape {
        return wrong("shape", format!("{:?}", tensor.shape), format!("{shape:?}"));
    }
    let count: usize = shape.iter().product();
    if tensor.values.len() != count {
        return wrong("length", tensor.values.len().to_string(), count.to_string());
    }
    match tensor.values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((place, value)) => {
            Err(ArtifactError::NotFinite { name: name.to_owned(), place, found: value.to_string() })
        }
    }
}

/// The header that belongs to an architecture.
fn header(architecture: &Architecture) -> String {
    let mut text = format!("{{\"__metadata__\":{{\"architecture\":\"{}\"", architecture.name());
    for (name, value) in architecture.numbers() {
        // Writing to a string does not fail.
        let _ = write!(text, ",\"{name}\":\"{value}\"");
    }
    text.push('}');
    let mut start = 0;
    for (name, shape) in architecture.shapes() {
        let end = start + 4 * shape.iter().product::<usize>();
        let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let _ = write!(text, ",\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}");
        start = end;
    }
    text.push('}');
    while text.len() % 8 != 0 {
        text.push(' ');
    }
    text
}

/// One tensor's line in a header, for telling what is wrong with it.
#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
}

fn read_header(text: &[u8]) -> Result<Architecture, ArtifactError> {
    let malformed = |e: serde_json::Error| ArtifactError::Header(e.to_string());
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(text).map_err(malformed)?;
    let metadata = entries.remove("__metadata__").ok_or_else(|| ArtifactError::Header("no metadata".to_owned()))?;
    let mut metadata: BTreeMap<String, String> = serde_json::from_value(metadata).map_err(malformed)?;
    let name = metadata.remove("architecture").unwrap_or_default();
    let mut numbers = BTreeMap::new();
    for (key, value) in metadata {
        let number = value.parse().map_err(|_| ArtifactError::Header(format!("{key} is no number")))?;
        numbers.insert(key, number);
    }
    let architecture = Architecture::from_numbers(&name, &numbers)?;
    if header(&architecture).as_bytes() == text {
        return Ok(architecture);
    }
    // Not what we would write; say where, if a tensor is to blame.
    for (name, shape) in architecture.shapes() {
        let entry = entries.remove(&name).ok_or_else(|| ArtifactError::Missing(name.clone()))?;
        let entry: Entry = serde_json::from_value(entry).map_err(malformed)?;
        let wrong = |what, found, expected| ArtifactError::Tensor { name: name.clone(), what, found, expected };
        if entry.dtype != "F32" {
            return Err(wrong("type", entry.dtype, "F32".to_owned()));
        }
        if entry.shape != shape {
            return Err(wrong("shape", format!("{:?}", entry.shape), format!("{shape:?}")));
        }
    }
    Err(entries.into_keys().next().map_or(ArtifactError::NotCanonical, ArtifactError::Surplus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact() -> Artifact {
        let architecture = Architecture::Mlp { hidden: 3 };
        let tensors = architecture.shapes().into_iter().map(|(name, shape)| {
            let count: usize = shape.iter().product();
            (name, Tensor { values: (0..count).map(|i| i as f32 * 0.5).collect(), shape })
        });
        Artifact::new(architecture, tensors.collect()).unwrap()
    }

    fn with_header(change: impl Fn(&str) -> String) -> Vec<u8> {
        let artifact = artifact();
        let old = header(&artifact.architecture);
        let new = change(&old);
        let mut bytes = (new.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(new.as_bytes());
        bytes.extend_from_slice(&artifact.to_bytes()[8 + old.len()..]);
        bytes
    }

    #[test]
    fn equal_weights_are_equal_bytes_and_read_back() {
        let bytes = artifact().to_bytes();
        assert_eq!(bytes, artifact().to_bytes());
        let read = Artifact::from_bytes(&bytes).unwrap();
        assert_eq!(read, artifact());
        assert_eq!(read.id(), Digest(*blake3::hash(&bytes).as_bytes()));
    }

    #[test]
    fn every_cut_and_every_longer_file_is_refused() {
        let bytes = artifact().to_bytes();
        for length in (0..bytes.len()).step_by(7) {
            assert!(Artifact::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Artifact::from_bytes(&longer), Err(ArtifactError::Length { .. })));
        assert!(matches!(Artifact::from_bytes(&[0xff; 64]), Err(ArtifactError::HeaderTooLong { .. })));
    }

    #[test]
    fn a_wrong_header_is_named() {
        let cases: [(&str, &str, &str); 8] = [
            ("F32", "F16", "tensor hidden1.bias has type F16"),
            ("[64,3]", "[3,64]", "tensor hidden1.weight has shape [3, 64], expected [64, 3]"),
            ("output.bias", "output.bios", "tensor output.bias is missing"),
            ("\"mlp\"", "\"rnn\"", "no architecture \"rnn\"; known are byte_gpt, byte_mlp, conv"),
            ("\"hidden\":\"3\"", "\"hidden\":\"0\"", "hidden = 0"),
            ("\"hidden\":\"3\"", "\"hidden\":\"999999999999\"", "hidden = 999999999999"),
            ("{\"dtype\":\"F32\",\"shape\":[3]", "{ \"dtype\":\"F32\",\"shape\":[3]", "canonical"),
            ("{\"__metadata__\"", "{{", "no safetensors header"),
        ];
        for (from, to, message) in cases {
            let bytes = with_header(|header| header.replacen(from, to, 1));
            let error = Artifact::from_bytes(&bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bytes = artifact().to_bytes();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&poison.to_le_bytes());
            let error = Artifact::from_bytes(&bytes).unwrap_err();
            assert!(matches!(&error, ArtifactError::NotFinite { name, place: 29, .. } if name == "output.weight"));
        }
    }
}
