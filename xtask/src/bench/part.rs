//! Programs of our own that measure one part of the gateway by itself, and print what they have found as one JSON object.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};

use super::{
    machine::{self, Cores},
    process,
    work::Part,
};
use crate::cargo::printed;

/// What a program prints that says how fast the machine was just then: its own measure of something that is not ours.
const CALIBRATION: &str = "calibration";

/// What a program has found.
pub(super) struct Found {
    values: BTreeMap<String, f64>,
    /// The share of its CPUs that others used meanwhile.
    pub(super) foreign: f64,
}

impl Found {
    pub(super) fn value(&self, name: &str) -> Result<f64> {
        self.values.get(name).copied().with_context(|| format!("the program prints no `{name}`"))
    }

    pub(super) fn calibration(&self) -> Option<f64> {
        self.values.get(CALIBRATION).copied()
    }
}

impl Part {
    /// What tells it from others.
    pub(super) fn name(&self) -> &'static str {
        self.arguments.first().copied().unwrap_or(self.example)
    }

    pub(super) fn run(&self, examples: &Path, seconds: u32) -> Result<Found> {
        let cores = Cores::now(self.cpus)?;
        let used = machine::seconds_of_ended_children()?;
        let mut command = process::pinned(self.cpus, examples.join(self.example));
        let text = printed(command.args(self.arguments).arg(seconds.to_string()))?;
        let used = machine::seconds_of_ended_children()? - used;
        let foreign = cores.foreign(used)?;
        let values = serde_json::from_str(&text).with_context(|| format!("{} printed: {text}", self.example))?;
        Ok(Found { values, foreign })
    }
}
