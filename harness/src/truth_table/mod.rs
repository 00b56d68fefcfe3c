//! The truth table: what theory says of each replication mode under each fault, and whether the
//! harness finds exactly that.
//!
//! A row is an experiment and, for each checker that has something to say about it, whether the
//! property *holds* — it must not be found violated in any seed — or *is violated* — it must be
//! found so in at least the stated share of the seeds, within the virtual time of one run. A row
//! that behaves otherwise is a bug of ours or a discovery to be explained; the table is never bent
//! to the code.
//!
//! * [`rows`]: the table itself. [`run`]: rows against seeds. [`render`]: for terminal, docs and
//!   machines.

pub mod figures;
pub mod render;
pub mod rows;
pub mod run;

use std::fmt;

use crate::experiment::{Experiment, ExperimentError, parse_yaml};
use crate::overlay::overlay;

pub use run::{Finding, RowResult, run};

/// One mode under one fault.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Names it on the command line: letters, digits and `-`.
    pub id: &'static str,
    /// The mode, in words.
    pub mode: &'static str,
    /// The fault, in words.
    pub fault: &'static str,
    /// What theory says, in words.
    pub expected: &'static str,
    /// The experiment: what it has other than [`rows::BASE`], as YAML.
    pub experiment: &'static str,
    /// What is demanded of the checkers.
    pub demands: &'static [Demand],
}

/// What is demanded of one property in one row.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// What is looked at.
    pub property: Property,
    /// What must be seen.
    pub expect: Expect,
}

/// A property of a run.
#[derive(Clone, Copy, Debug)]
pub enum Property {
    /// The verdict of a checker.
    Checker(&'static str),
    /// Whether a checker found an anomaly of one class.
    Class(&'static str, &'static str),
    /// What no verdict says by itself.
    Figure(Figure),
}

/// A property of a run that no checker's verdict says by itself.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// In words.
    pub name: &'static str,
    /// The checker whose figures it needs, if any.
    pub checker: Option<&'static str>,
    /// Whether it holds; none if that is unknown.
    pub holds: fn(&run::Judged) -> Option<bool>,
}

/// What must be seen of a property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expect {
    /// It holds in every seed.
    Holds,
    /// It is violated in at least this share of the seeds.
    Violated(f64),
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checker(name) | Self::Figure(Figure { name, .. }) => f.write_str(name),
            Self::Class(checker, class) => write!(f, "{checker}: {class}"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Violated(share) => write!(f, "violated in ≥ {:.0} %", share * 100.0),
        }
    }
}

impl Row {
    /// The row's experiment, without a seed.
    ///
    /// # Errors
    /// If its YAML is no experiment, or an impossible one: a mistake in the table.
    pub fn experiment(&self) -> Result<Experiment, ExperimentError> {
        let text = overlay(rows::BASE, self.experiment).map_err(ExperimentError)?;
        let mut experiment: Experiment = parse_yaml(&text, self.id)?;
        self.id.clone_into(&mut experiment.name);
        experiment.checks = self.checks();
        experiment
            .validate()
            .map_err(|e| crate::experiment::explain(&e, self.id, Some(&text)))?;
        Ok(experiment)
    }

    /// The checkers that its demands need, each once.
    fn checks(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &str| {
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        };
        for demand in self.demands {
            match demand.property {
                Property::Checker(name) | Property::Class(name, _) => add(name),
                Property::Figure(figure) => figure.checker.into_iter().for_each(&mut add),
            }
        }
        names
    }
}

/// The rows with these ids, in the order of the table; all without any.
///
/// # Errors
/// The first id that no row has.
pub fn select(ids: &[String]) -> Result<Vec<&'static Row>, ExperimentError> {
    if let Some(unknown) = ids.iter().find(|id| !rows::all().any(|r| r.id == **id)) {
        let known: Vec<&str> = rows::all().map(|row| row.id).collect();
        return Err(ExperimentError(format!(
            "there is no row {unknown:?}; expected some of {}",
            known.join(", ")
        )));
    }
    let wanted = |row: &&Row| ids.is_empty() || ids.iter().any(|id| id == row.id);
    Ok(rows::all().filter(wanted).collect())
}
