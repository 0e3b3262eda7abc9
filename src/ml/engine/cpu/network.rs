//! A model on the device, whatever its architecture, and how it answers each kind of query.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use crate::ml::engine::complete::{Wish, complete};
use crate::ml::engine::{Control, EngineError, Sink};
use crate::ml::model::byte_gpt::ByteGpt;
use crate::ml::model::byte_mlp::{ByteMlp, window};
use crate::ml::model::conv::Conv;
use crate::ml::model::forecasters::{Patches, Regression, Seasonal};
use crate::ml::model::frame::{Forecast, Frame};
use crate::ml::model::mlp::Mlp;
use crate::ml::model::{Architecture, Artifact, ArtifactError};
use crate::ml::quantise::{from_micros, to_fixed, to_micros};
use crate::ml::train::series::Rows;
use crate::ml::train::{byte_rows, pixel_rows};
use crate::protocol::query::{Answer, BYTE_VALUES, CLASSES, Query};
use crate::protocol::turns::plain;

#[derive(Debug)]
pub(super) enum Network {
    Mlp(Mlp),
    Conv(Conv),
    ByteMlp { model: ByteMlp, context: usize },
    ByteGpt { model: ByteGpt, context: usize, heads: usize },
    Seasonal { model: Seasonal, seasons: usize },
    Linear { model: Regression, seasons: usize },
    Patches { model: Patches, seasons: usize, heads: usize },
}

pub(super) fn host(tensor: Tensor<2>) -> Result<Vec<f32>, EngineError> {
    tensor.try_into_vec_as().map_err(|e| EngineError::Device(e.to_string()))
}

impl Network {
    pub fn from_artifact(artifact: &Artifact, device: &Device) -> Result<Self, ArtifactError> {
        Ok(match artifact.architecture() {
            Architecture::Mlp { .. } => Self::Mlp(Mlp::from_artifact(artifact, device)?),
            Architecture::Conv { .. } => Self::Conv(Conv::from_artifact(artifact, device)?),
            Architecture::ByteMlp { context, .. } => {
                Self::ByteMlp { model: ByteMlp::from_artifact(artifact, device)?, context }
            }
            Architecture::ByteGpt { context, layers, heads, .. } => {
                Self::ByteGpt { model: ByteGpt::from_artifact(artifact, layers, device)?, context, heads }
            }
            Architecture::Seasonal { seasons } => {
                Self::Seasonal { model: Seasonal::from_artifact(artifact, seasons)?, seasons }
            }
            Architecture::Linear { seasons } => {
                Self::Linear { model: Regression::from_artifact(artifact, device)?, seasons }
            }
            Architecture::Patches { seasons, layers, heads, .. } => {
                Self::Patches { model: Patches::from_artifact(artifact, layers, device)?, seasons, heads }
            }
        })
    }

    /// Logits of images; `None` when the model sees none.
    pub fn images(&self, pixels: Vec<u8>, device: &Device) -> Option<Tensor<2>> {
        match self {
            Self::Mlp(model) => Some(model.forward(pixel_rows(pixels, device))),
            Self::Conv(model) => Some(model.forward(pixel_rows(pixels, device))),
            _ => None,
        }
    }

    /// Logits of the byte after each context; `None` when the model reads no text.
    pub fn bytes<'a>(&self, contexts: impl Iterator<Item = &'a [u8]>, device: &Device) -> Option<Tensor<2>> {
        let rows = |context: usize| byte_rows(contexts.flat_map(|c| window(c, context)).collect(), context, device);
        match self {
            Self::ByteMlp { model, context } => Some(model.forward(rows(*context))),
            Self::ByteGpt { model, context, heads } => Some(model.forward(rows(*context), *heads)),
            _ => None,
        }
    }

    /// Seasons of differences a forecaster reads; `None` when the model is none.
    pub fn seasons(&self) -> Option<usize> {
        match self {
            Self::Seasonal { seasons, .. } | Self::Linear { seasons, .. } | Self::Patches { seasons, .. } => {
                Some(*seasons)
            }
            _ => None,
        }
    }

    /// Corrections for the season ahead of each row; `None` when the model is no forecaster.
    pub fn series(&self, rows: &Rows, device: &Device) -> Result<Option<Tensor<2>>, EngineError> {
        Ok(Some(match self {
            Self::Seasonal { model, .. } => {
                let width = rows.differences.len() / rows.count.max(1);
                let outputs: Vec<f32> =
                    rows.differences.chunks(width.max(1)).flat_map(|row| model.forward(row)).collect();
                let shape = [rows.count, outputs.len() / rows.count.max(1)];
                Tensor::from_data(TensorData::new(outputs, shape), device)
            }
            Self::Linear { model, .. } => model.forward(rows.inputs(device)),
            Self::Patches { model, heads, .. } => model.forward(rows.inputs(device), *heads),
            _ => return Ok(None),
        }))
    }

    /// `None` when the network does not answer this kind of query.
    pub fn answer(
        &self,
        query: &Query,
        control: &Control<'_>,
        sink: &mut Sink<'_>,
        device: &Device,
    ) -> Result<Option<Answer>, EngineError> {
        let rows = |tensor: Tensor<2>, width: usize| -> Result<Vec<Vec<u16>>, EngineError> {
            Ok(host(softmax(tensor, 1))?.chunks(width).map(to_fixed).collect())
        };
        Ok(match query {
            Query::Classify { images } => match self.images(images.concat(), device) {
                Some(logits) => Some(Answer::Classes { probabilities: rows(logits, CLASSES)? }),
                None => None,
            },
            Query::NextByte { contexts } => match self.bytes(contexts.iter().map(Vec::as_slice), device) {
                Some(logits) => Some(Answer::Distributions { probabilities: rows(logits, BYTE_VALUES)? }),
                None => None,
            },
            Query::Complete { prompt, max_bytes, temperature_milli, seed, stop } => {
                if !matches!(self, Self::ByteMlp { .. } | Self::ByteGpt { .. }) {
                    return Ok(None);
                }
                let (max_bytes, temperature_milli, seed) = (*max_bytes, *temperature_milli, *seed);
                let wish = Wish { prompt: &plain(prompt), max_bytes, temperature_milli, seed, stop };
                let bytes = complete(&wish, control, sink, |text| {
                    self.bytes(std::iter::once(text), device).map_or_else(|| Ok(Vec::new()), host)
                })?;
                Some(Answer::Text { bytes })
            }
            Query::Forecast { series, season, horizon } => self.forecast(series, *season, *horizon, control, device)?,
        })
    }

    fn forecast(
        &self,
        series: &[Vec<i64>],
        season: u32,
        horizon: u32,
        control: &Control<'_>,
        device: &Device,
    ) -> Result<Option<Answer>, EngineError> {
        let Some(seasons) = self.seasons() else { return Ok(None) };
        let frame = |values: &Vec<i64>| {
            let history: Vec<f64> = values.iter().map(|v| from_micros(*v)).collect();
            Frame::new(&history, season as usize, seasons)
        };
        let mut forecast = Forecast::new(series.iter().map(frame).collect(), horizon as usize);
        let mut added = 0;
        while !forecast.is_done() {
            control.go_on(added)?;
            let differences = forecast.frames().iter().flat_map(|frame| frame.row(seasons)).collect();
            let rows = Rows { differences, truth: Vec::new(), count: series.len() };
            let Some(outputs) = self.series(&rows, device)? else { return Ok(None) };
            forecast.add(&host(outputs)?);
            added += 1;
        }
        let steps = forecast.steps().map(|steps| steps.into_iter().map(to_micros).collect()).collect();
        Ok(Some(Answer::Quantiles { steps }))
    }
}
