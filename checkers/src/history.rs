//! Events, the history they make up, and the operations paired from them.

use crate::Value;

mod event;
mod operation;
mod pairing;

pub use event::{Details, Event, F, Kind, Process};
pub use operation::{Operation, Outcome};
pub use pairing::{HistoryError, Paired};

/// The ordered record of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// All events, client and nemesis, in the order recorded.
    pub events: Vec<Event>,
}

impl History {
    /// Pairs invocations with completions, in the order of the invocations.
    ///
    /// Events of the nemesis are left out (see [`History::nemesis`]). A process that is neither
    /// the nemesis nor a number counts as a client, save for its lone `info` events: remarks.
    /// An operation without completion, or completed by `info`, stays open for ever.
    ///
    /// What was first is decided by the positions of events. Times may go back.
    ///
    /// # Errors
    ///
    /// [`HistoryError`] names the events that cannot be: indexes that do not increase, a completion
    /// without invocation or of another function, an invocation by a process that has an operation
    /// open.
    pub fn paired(&self) -> Result<Paired<'_>, HistoryError> {
        pairing::pair(&self.events)
    }

    /// The operations of [`History::paired`], made one by one for those who read them often. For
    /// those who read them once, and where memory counts, there is [`Paired::iter`].
    ///
    /// # Errors
    ///
    /// As [`History::paired`].
    pub fn operations(&self) -> Result<Vec<Operation<'_>>, HistoryError> {
        Ok(self.paired()?.iter().collect())
    }

    /// The events of the nemesis: faults injected and healed, phases of the run.
    pub fn nemesis(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|e| e.process.is_nemesis())
    }

    /// Position of the event after which reads are final: the last remark of the nemesis that the
    /// phase `final` begins, after healing and recovery. In a history that marks phases but broke
    /// off before the final one, or whose replicas did not agree, the end: no read is final. `None` if no phase is marked at all.
    pub fn final_phase(&self) -> Option<usize> {
        let phase = |e: &Event| e.process.is_nemesis() && e.f.name() == "phase";
        let last = self.events.iter().rposition(|e| {
            phase(e) && matches!(&e.value, Value::Str(s) | Value::Keyword(s) if &**s == "final")
        });
        last.or_else(|| self.events.iter().any(phase).then_some(self.events.len()))
    }
}

#[cfg(test)]
mod tests;
