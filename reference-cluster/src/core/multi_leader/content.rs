//! What a node holds, whatever becomes of conflicts.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use super::origin::Vector;
use super::procedure::Procedure;
use super::{Conflicts, crdt, lww, procedure, siblings};
use crate::core::config::Bug;
use crate::core::{Config, Datum, Op, Refusal};

/// What a key holds, or a change of it: both are merged in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// With `lww`, `home` and `synchronous`.
    Lww(lww::Cell),
    /// With `siblings`.
    Siblings(siblings::Cell),
    /// With `crdt`.
    Crdt(Box<crdt::Cell>),
    /// With `procedure`.
    Procedure(procedure::Cell),
}

impl Cell {
    /// What a reader sees.
    pub fn datum(&self) -> Option<Datum> {
        match self {
            Self::Lww(cell) => cell.datum.clone(),
            Self::Siblings(cell) => siblings::datum(cell),
            Self::Crdt(cell) => cell.datum(),
            Self::Procedure(cell) => Some(Datum::Register(cell.value.clone())),
        }
    }
}

/// All keys.
#[derive(Debug)]
pub(super) struct Content {
    cells: BTreeMap<Arc<str>, Cell>,
    conflicts: Conflicts,
    procedure: Option<Procedure>,
    tie_keeps_own: bool,
    counters_add: bool,
}

impl Content {
    pub fn new(config: &Config) -> Self {
        let options = &config.multi_leader;
        let procedure = (options.conflicts == Conflicts::Procedure)
            .then(|| Procedure::compile(&options.procedure, options.procedure_steps).ok());
        Self {
            cells: BTreeMap::new(),
            conflicts: options.conflicts,
            procedure: procedure.flatten(),
            tie_keeps_own: config.has(Bug::TieKeepsOwn),
            counters_add: config.has(Bug::CounterMergedByAdding),
        }
    }

    pub fn cells(&self) -> &BTreeMap<Arc<str>, Cell> {
        &self.cells
    }

    /// What a key holds as a reader sees it, and the context for a write that replaces it.
    pub fn read(&self, key: &str) -> (Option<Datum>, Option<Vector>) {
        let cell = self.cells.get(key);
        let context = match cell {
            Some(Cell::Siblings(cell)) => Some(cell.context.seen.clone()),
            None if self.conflicts == Conflicts::Siblings => Some(Vector::default()),
            _ => None,
        };
        (cell.and_then(Cell::datum), context)
    }

    /// What all keys hold.
    pub fn read_all(&self) -> Vec<(Arc<str>, Datum)> {
        let each = self.cells.iter();
        each.filter_map(|(key, cell)| Some((key.clone(), cell.datum()?)))
            .collect()
    }

    /// The change that an operation makes of a key.
    pub fn change(
        &self,
        key: &str,
        op: &Op,
        context: Option<Vector>,
        stamp: Stamp,
    ) -> Result<Cell, Refusal> {
        let cell = self.cells.get(key);
        match self.conflicts {
            Conflicts::Lww | Conflicts::Home | Conflicts::Synchronous => {
                let cell = cell.and_then(|cell| match cell {
                    Cell::Lww(cell) => Some(cell),
                    _ => None,
                });
                lww::change(cell, op, stamp).map(Cell::Lww)
            }
            Conflicts::Siblings => {
                let cell = cell.and_then(|cell| match cell {
                    Cell::Siblings(cell) => Some(cell),
                    _ => None,
                });
                siblings::change(cell, op, context, stamp.origin).map(Cell::Siblings)
            }
            Conflicts::Crdt => {
                let cell = cell.and_then(|cell| match cell {
                    Cell::Crdt(cell) => Some(cell.as_ref()),
                    _ => None,
                });
                crdt::change(cell, op, stamp).map(|cell| Cell::Crdt(cell.into()))
            }
            Conflicts::Procedure => {
                let cell = cell.and_then(|cell| match cell {
                    Cell::Procedure(cell) => Some(cell),
                    _ => None,
                });
                procedure::change(cell, op, stamp.origin).map(Cell::Procedure)
            }
        }
    }

    /// Merges a change, or what another node holds of a key. Whether all went as it should: not
    /// so if the procedure failed.
    pub fn merge(&mut self, key: &Arc<str>, theirs: &Cell) -> bool {
        let Some(ours) = self.cells.get_mut(key) else {
            self.cells.insert(key.clone(), theirs.clone());
            return true;
        };
        match (ours, theirs) {
            (Cell::Lww(ours), Cell::Lww(theirs)) => ours.merge(theirs, self.tie_keeps_own),
            (Cell::Siblings(ours), Cell::Siblings(theirs)) => ours.merge(theirs),
            (Cell::Crdt(ours), Cell::Crdt(theirs)) => ours.merge(theirs, self.counters_add),
            (Cell::Procedure(ours), Cell::Procedure(theirs)) => {
                let Some(procedure) = &self.procedure else {
                    return false;
                };
                return procedure.merge(ours, theirs);
            }
            // Of another mode: nodes are all configured alike, so nobody meant it.
            _ => {}
        }
        true
    }

    /// Of what readers see, and nothing else: not of timestamps, versions or tombstones.
    pub fn digest(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for (key, cell) in &self.cells {
            if let Some(datum) = cell.datum() {
                key.hash(&mut hasher);
                datum.hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}
