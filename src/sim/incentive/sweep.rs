//! The points of a sweep: a document with some of its values set to each of a list, every combination once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::scenario::{POINTS_MAX, Scenario, ScenarioError, range};

/// A scenario at one point of its sweep.
#[derive(Clone, Debug)]
pub struct Point {
    /// What was swept, and its value here.
    pub at: BTreeMap<String, Value>,
    pub scenario: Scenario,
}

/// What was swept, its value here, and the document with it.
pub type Swept = (BTreeMap<String, Value>, Value);

/// The documents of a sweep, every combination of values once.
///
/// # Errors
/// The sweep does not read, or names what is not there.
pub fn sweep(document: &Value) -> Result<Vec<Swept>, ScenarioError> {
    let sweep: BTreeMap<String, Vec<Value>> = match document.get("sweep") {
        None => BTreeMap::new(),
        Some(sweep) => {
            serde_json::from_value(sweep.clone()).map_err(|error| ScenarioError::Shape(format!("sweep: {error}")))?
        }
    };
    let mut combinations: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
    for (path, values) in &sweep {
        if values.is_empty() {
            return Err(range(&format!("sweep of {path}"), &"empty", "name at least one value"));
        }
        let with = |so_far: &BTreeMap<String, Value>, value: &Value| {
            let mut point = so_far.clone();
            point.insert(path.clone(), value.clone());
            point
        };
        combinations = combinations.iter().flat_map(|so_far| values.iter().map(move |v| with(so_far, v))).collect();
        if combinations.len() > POINTS_MAX {
            return Err(range("the sweep", &combinations.len(), &format!("at most {POINTS_MAX} points are played")));
        }
    }
    let place = |at: BTreeMap<String, Value>| {
        let mut here = document.clone();
        for (path, value) in &at {
            set(&mut here, path, value).ok_or_else(|| ScenarioError::Path { path: path.clone() })?;
        }
        Ok((at, here))
    };
    combinations.into_iter().map(place).collect()
}

/// Reads a document and the points of its sweep.
///
/// # Errors
/// The document is no scenario, a sweep names what is not there, or a value is out of range.
pub fn points(document: &Value) -> Result<Vec<Point>, ScenarioError> {
    sweep(document)?.into_iter().map(|(at, here)| Ok(Point { at, scenario: Scenario::read(&here)? })).collect()
}

/// Sets the value at a path such as `agents[1].stake`. A last key that is not there yet is made; what is no key of the
/// format is refused when the document is read.
fn set(document: &mut Value, path: &str, value: &Value) -> Option<()> {
    let mut here = document;
    let mut steps = path.split(['.', '[']).peekable();
    while let Some(step) = steps.next() {
        let last = steps.peek().is_none();
        here = match step.strip_suffix(']') {
            Some(place) => here.get_mut(place.parse::<usize>().ok()?)?,
            None if last => here.as_object_mut()?.entry(step).or_insert(Value::Null),
            None => here.as_object_mut()?.entry(step).or_insert_with(|| Value::Object(Map::new())),
        };
    }
    *here = value.clone();
    Some(())
}
