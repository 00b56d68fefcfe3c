//! Monitors: one algorithm a model, each log-linear, for histories in which it is clear which
//! operation put in what another one took out or showed.
//!
//! A search tries orders; a monitor knows what any order has to look like. The price is that it
//! does not apply to every history: [`decide`] returns `None` where its proof does not reach, and a
//! general engine has to decide. Where it answers, it answers exactly.
//!
//! | model | applies if | cost |
//! | --- | --- | --- |
//! | list ([`list`]) | each element is appended by at most one operation | linear in the ops and the elements read |
//! | set, read as a whole ([`grow_set`]) | nothing is removed | the same, and sorting the reads by length |
//! | set, element by element ([`element`]) | it is not read as a whole | n log n; None past a limit of work |
//! | queue ([`queue`]) | each value is put in by at most one operation | n log n |
//! | stack ([`stack`]) | the same; not all with several takes unanswered | n log n |
//! | priority queue ([`priority_queue`]) | the same; not all with several takes unanswered | n log n |
//!
//! That unambiguous histories of collections can be decided this fast is the subject of Emmi and
//! Enea, "Sound, complete, and tractable linearizability monitoring for concurrent collections"
//! (2018), Lee and Mathur, "Efficient decrease-and-conquer linearizability monitoring" (2025), and
//! the monitors of `LiMo` (2025). The proofs in these modules do not rest on theirs: they are
//! short, and they include operations that were never answered.
//!
//! # Slots
//!
//! All proofs count time in *slots*: slot `i` lies between the instants `i` and `i + 1`. An
//! operation invoked at `c` and completed at `e` takes effect in one of the slots `c .. e` (half
//! open), one that never completed in any slot from `c` on, or never. Within a slot any number of
//! operations take effect, in any order. This is linearizability: one operation must come before
//! another only if it completed before the other was invoked, and then all its slots lie before the
//! other's.

pub mod element;
pub mod grow_set;
pub mod list;
pub mod priority_queue;
pub mod queue;
mod shared;
pub mod stack;

use super::{Action, Decision, Model, Op, belongs};
use shared::NEVER;

/// Decides if the monitor of the model applies to these operations, which may come in any order.
pub fn decide(model: Model, ops: &[Op]) -> Option<Decision> {
    let sound = |op: &Op| {
        belongs(model, &op.action)
            && op.call < NEVER
            && op.completion.is_none_or(|end| op.call < end && end < NEVER)
    };
    if ops.len() >= u32::MAX as usize / 4 || !ops.iter().all(sound) {
        return None;
    }
    match model {
        Model::List => list::decide(ops),
        Model::Set if ops.iter().any(is_answered_read) => grow_set::decide(ops),
        Model::Set => element::decide(ops),
        Model::Queue => queue::decide(ops),
        Model::Stack => stack::decide(ops),
        Model::PriorityQueue => priority_queue::decide(ops),
        _ => None,
    }
}

fn is_answered_read(op: &Op) -> bool {
    matches!(op.action, Action::ReadSet(_)) && op.completion.is_some()
}

#[cfg(test)]
mod tests;
