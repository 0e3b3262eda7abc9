//! Strict reading of TOML tables: a section remembers the keys it was asked for, and what is left over is an error.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{GenesisError, rule};
use crate::protocol::ids::{NameError, SubnetId};
use crate::protocol::parameters::{NetworkKind, Spec, Unit};
use crate::protocol::units::parse_star;

/// One table of the file, which remembers the keys it was asked for: what is left at the end is unknown.
pub struct Section<'a> {
    place: String,
    table: &'a Table,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    pub fn new(place: String, table: &'a Table) -> Self {
        Self { place, table, asked: BTreeSet::new() }
    }

    pub fn has(&mut self, key: &'static str) -> bool {
        self.asked.insert(key);
        self.table.contains_key(key)
    }

    fn get(&mut self, key: &'static str) -> Result<&'a Value, GenesisError> {
        self.asked.insert(key);
        // A misspelt key is more helpful to name than the one that is missing for it.
        let missing = || GenesisError::Missing { place: self.place.clone(), key };
        self.table.get(key).ok_or_else(|| self.misspelt(key).unwrap_or_else(missing))
    }

    fn misspelt(&self, wanted: &'static str) -> Option<GenesisError> {
        let key = self.table.keys().find(|key| nearest(key, [wanted]).is_some())?;
        Some(GenesisError::UnknownKey { place: self.place.clone(), key: key.clone(), near: Some(wanted.to_owned()) })
    }

    pub fn wrong(&self, key: &str, reason: impl Into<String>) -> GenesisError {
        GenesisError::Value { place: self.place.clone(), key: key.to_owned(), reason: reason.into() }
    }

    fn kind(&self, key: &str, expected: &'static str) -> GenesisError {
        GenesisError::Type { place: self.place.clone(), key: key.to_owned(), expected }
    }

    pub fn text(&mut self, key: &'static str) -> Result<String, GenesisError> {
        self.get(key)?.as_str().map(str::to_owned).ok_or_else(|| self.kind(key, "a text"))
    }

    pub fn texts(&mut self, key: &'static str) -> Result<Vec<String>, GenesisError> {
        if !self.has(key) {
            return Ok(Vec::new());
        }
        let list = self.get(key)?.as_array().ok_or_else(|| self.kind(key, "a list of texts"))?;
        let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts.ok_or_else(|| self.kind(key, "a list of texts"))
    }

    /// Numbers of subnets; none when the key is not there.
    pub fn ids(&mut self, key: &'static str) -> Result<Vec<SubnetId>, GenesisError> {
        if !self.has(key) {
            return Ok(Vec::new());
        }
        let list = self.get(key)?.as_array().ok_or_else(|| self.kind(key, "a list of subnet numbers"))?;
        let id = |item: &Value| item.as_integer().and_then(|id| u32::try_from(id).ok()).map(SubnetId);
        let ids: Option<Vec<SubnetId>> = list.iter().map(id).collect();
        ids.ok_or_else(|| self.kind(key, "a list of subnet numbers"))
    }

    pub fn integer(&mut self, key: &'static str) -> Result<u64, GenesisError> {
        let value = self.get(key)?.as_integer().and_then(|v| u64::try_from(v).ok());
        value.ok_or_else(|| self.kind(key, "a whole number, not negative"))
    }

    pub fn star(&mut self, key: &'static str) -> Result<u64, GenesisError> {
        let expected = "an amount as a text, like \"12.5 STAR\"";
        let text = self.get(key)?.as_str().ok_or_else(|| self.kind(key, expected))?;
        parse_star(text).map_err(|e| self.wrong(key, e.to_string()))
    }

    pub fn name<T: std::str::FromStr<Err = NameError>>(&mut self, key: &'static str) -> Result<T, GenesisError> {
        self.text(key)?.parse().map_err(|e: NameError| self.wrong(key, e.to_string()))
    }

    pub fn section(&mut self, key: &'static str) -> Result<Option<Section<'a>>, GenesisError> {
        if !self.has(key) {
            return Ok(None);
        }
        let table = self.get(key)?.as_table().ok_or_else(|| self.kind(key, "a table"))?;
        Ok(Some(Section::new(key.to_owned(), table)))
    }

    pub fn rows<T>(
        &mut self,
        key: &'static str,
        max: usize,
        mut read: impl FnMut(&mut Section<'a>) -> Result<T, GenesisError>,
    ) -> Result<Vec<T>, GenesisError> {
        if !self.has(key) {
            return Ok(Vec::new());
        }
        let list = self.get(key)?.as_array().ok_or_else(|| self.kind(key, "a list of tables"))?;
        if list.len() > max {
            return Err(rule(key, format!("{} rows, at most {max} are allowed", list.len())));
        }
        let mut out = Vec::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            let table = item.as_table().ok_or_else(|| self.kind(key, "a list of tables"))?;
            let mut section = Section::new(format!("{key}, row {}", i + 1), table);
            out.push(read(&mut section)?);
            section.end()?;
        }
        Ok(out)
    }

    pub fn specs<T>(
        &mut self,
        specs: &'static [Spec<T>],
        of: &mut T,
        network: NetworkKind,
    ) -> Result<(), GenesisError> {
        for spec in specs {
            if !self.has(spec.name) {
                continue;
            }
            let value = if spec.unit == Unit::Motes { self.star(spec.name)? } else { self.integer(spec.name)? };
            spec.check(value, network).map_err(|bounds| GenesisError::Bounds { place: self.place.clone(), bounds })?;
            (spec.set)(of, value);
        }
        Ok(())
    }

    pub fn end(self) -> Result<(), GenesisError> {
        match self.table.keys().find(|key| !self.asked.contains(key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let near = nearest(key, self.asked.iter().copied()).map(str::to_owned);
                Err(GenesisError::UnknownKey { place: self.place, key: key.clone(), near })
            }
        }
    }
}

/// The known key a person most likely meant, if any is near enough.
pub fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|name| (distance(key, name), name)).min()?;
    (best.0 <= 1 + best.1.len() / 4).then_some(best.1)
}

/// Edits between two texts (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, diagonal), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
