//! Queued queries of one model made into fewer engine runs, and the results given back to their askers.
//!
//! A run over many rows costs little more than over one. Rows are independent, so an answer is the same alone or in
//! company. Completions run alone; the order of arrival is kept.

use crate::ml::engine::{EngineError, Inferred};
use crate::protocol::query::{Answer, ITEMS_MAX, Query, STEPS_MAX, Usage, VALUES_MAX};

/// Several queries as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What the engine runs; within the bounds of any query.
    pub query: Query,
    /// Which of the merged queries, and how many rows each.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    index: usize,
    items: usize,
    input_bytes: u32,
}

impl Batch {
    /// How many queries are in it.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Which queries, by their place in what was merged.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().map(|part| part.index)
    }

    fn new(index: usize, query: Query) -> Self {
        let parts = vec![part(index, &query)];
        Self { query, parts }
    }

    /// Takes the rows of another query, or gives it back when it does not fit.
    fn join(&mut self, index: usize, query: Query) -> Result<(), Query> {
        if !has_room(&self.query, &query) {
            return Err(query);
        }
        let part = part(index, &query);
        match (&mut self.query, query) {
            (Query::Classify { images }, Query::Classify { images: more }) => images.extend(more),
            (Query::NextByte { contexts }, Query::NextByte { contexts: more }) => contexts.extend(more),
            (Query::Forecast { series, .. }, Query::Forecast { series: more, .. }) => series.extend(more),
            (_, query) => return Err(query),
        }
        self.parts.push(part);
        Ok(())
    }

    /// Each query's own result by its index.
    ///
    /// # Errors
    /// The engine's answer has not the rows of the query; nobody gets anything.
    pub fn split(&self, inferred: Inferred) -> Result<Vec<(usize, Inferred)>, EngineError> {
        inferred.answer.check(&self.query)?;
        let mut results = Vec::with_capacity(self.parts.len());
        match inferred.answer {
            Answer::Classes { probabilities } => {
                let mut rows = probabilities.into_iter();
                for part in &self.parts {
                    let probabilities = rows.by_ref().take(part.items).collect();
                    results.push((part.index, part.result(Answer::Classes { probabilities })));
                }
            }
            Answer::Distributions { probabilities } => {
                let mut rows = probabilities.into_iter();
                for part in &self.parts {
                    let probabilities = rows.by_ref().take(part.items).collect();
                    results.push((part.index, part.result(Answer::Distributions { probabilities })));
                }
            }
            Answer::Quantiles { steps } => {
                let mut rows = steps.into_iter();
                for part in &self.parts {
                    let steps = rows.by_ref().take(part.items).collect();
                    results.push((part.index, part.result(Answer::Quantiles { steps })));
                }
            }
            answer @ Answer::Text { .. } => {
                let usage = inferred.usage;
                results.extend(self.parts.first().map(|part| (part.index, Inferred { answer, usage })));
            }
        }
        Ok(results)
    }
}

/// Whether both together are within the bounds of one query, and ask the same of each item.
fn has_room(one: &Query, other: &Query) -> bool {
    let fits = match (one, other) {
        (
            Query::Forecast { series, season, horizon },
            Query::Forecast { series: more, season: other_season, horizon: other_horizon },
        ) => {
            let values: usize = series.iter().chain(more).map(Vec::len).sum();
            let steps = (series.len() + more.len()) * *horizon as usize;
            (season, horizon) == (other_season, other_horizon) && values <= VALUES_MAX && steps <= STEPS_MAX
        }
        _ => true,
    };
    fits && one.items() + other.items() <= ITEMS_MAX
}

impl Part {
    fn result(self, answer: Answer) -> Inferred {
        let items = u32::try_from(self.items).unwrap_or(u32::MAX);
        Inferred { answer, usage: Usage { items, input_bytes: self.input_bytes, output_bytes: 0 } }
    }
}

fn part(index: usize, query: &Query) -> Part {
    Part { index, items: query.items(), input_bytes: u32::try_from(query.input_bytes()).unwrap_or(u32::MAX) }
}

/// Puts queries of one model together, first come first, as many rows a run as one query may have.
pub fn merge(queries: impl IntoIterator<Item = Query>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (index, query) in queries.into_iter().enumerate() {
        // Only the newest batch of the same kind grows, so nobody is overtaken by its own kind.
        let newest = batches.iter_mut().rev().find(|batch| batch.query.kind() == query.kind());
        let alone = match newest {
            Some(batch) => batch.join(index, query).err(),
            None => Some(query),
        };
        batches.extend(alone.map(|query| Batch::new(index, query)));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::random::RandomEngine;
    use crate::ml::engine::{Control, Engine, no_sink};
    use crate::protocol::ids::Digest;
    use crate::protocol::query::{CLASSES, PIXELS};

    fn images(values: &[u8]) -> Query {
        Query::Classify { images: values.iter().map(|&v| vec![v; PIXELS]).collect() }
    }

    fn complete() -> Query {
        Query::Complete { prompt: vec![1], max_bytes: 4, temperature_milli: 0, seed: 0, stop: vec![] }
    }

    /// Answers each image with its first pixel.
    fn echo(query: &Query) -> Inferred {
        let Query::Classify { images } = query else { panic!() };
        let probabilities = images.iter().map(|i| vec![u16::from(i[0]); CLASSES]).collect();
        Inferred { answer: Answer::Classes { probabilities }, usage: Usage::default() }
    }

    #[test]
    fn merged_rows_find_their_askers() {
        let queries = [images(&[1, 2]), complete(), images(&[3]), images(&[4, 5, 6]), complete()];
        let batches = merge(queries.clone());
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 1, 1]);
        let results = batches[0].split(echo(&batches[0].query)).unwrap();
        assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 3]);
        for (index, result) in results {
            assert_eq!(result.answer, echo(&queries[index]).answer);
            assert_eq!(result.usage.items as usize, queries[index].items());
            assert_eq!(result.usage.input_bytes as usize, queries[index].items() * PIXELS);
        }
    }

    #[test]
    fn a_batch_is_never_larger_than_a_query_may_be() {
        let batches = merge((0..9).map(|_| images(&[0; 100])));
        assert!(batches.iter().all(|batch| batch.query.check().is_ok()));
        assert_eq!(batches.iter().flat_map(Batch::indices).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn forecasts_join_only_those_of_the_same_season_and_horizon() {
        let query =
            |count: usize, season, horizon| Query::Forecast { series: vec![vec![1; 100]; count], season, horizon };
        let queries = [query(2, 24, 24), query(3, 24, 24), query(1, 12, 24), query(1, 12, 24), query(199, 12, 24)];
        let batches = merge(queries.clone());
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(batches.iter().all(|batch| batch.query.check().is_ok()));
        let mut engine = RandomEngine::new(0);
        let all = engine.infer(Digest::ZERO, &batches[0].query, &Control::FREE, &mut no_sink).unwrap();
        for (index, result) in batches[0].split(all).unwrap() {
            assert_eq!(result.answer.check(&queries[index]), Ok(()));
        }
    }

    #[test]
    fn an_answer_with_other_rows_is_nobodys() {
        let batch = merge([images(&[1]), images(&[2])]).remove(0);
        assert!(batch.split(echo(&images(&[1]))).is_err());
        let mut engine = RandomEngine::new(0);
        let text = merge([complete()]).remove(0);
        let inferred = engine.infer(Digest::ZERO, &text.query, &Control::FREE, &mut no_sink).unwrap();
        assert_eq!(text.split(inferred.clone()).unwrap(), [(0, inferred)]);
    }
}
