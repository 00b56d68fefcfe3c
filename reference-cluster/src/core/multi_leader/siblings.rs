//! Concurrent values side by side, for the next reader to resolve.

use super::causal::{Causal, Context};
use super::origin::{Origin, Vector};
use crate::core::{Datum, Op, Refusal, Scalar};

/// What a key holds: its values by the write that made them.
pub type Cell = Causal<Scalar>;

/// The change that an operation makes: it replaces exactly what its context covers.
///
/// # Errors
/// [`Refusal::Unsupported`] for all but writes and deletions, and for a deletion without a context,
/// which would delete nothing.
pub(super) fn change(
    cell: Option<&Cell>,
    op: &Op,
    context: Option<Vector>,
    origin: Origin,
) -> Result<Cell, Refusal> {
    match (op, context) {
        (Op::Write(_, value), context) => {
            let context = Context::of(context.unwrap_or_default());
            let value = value.clone();
            Ok(cell
                .unwrap_or(&Cell::default())
                .write(origin, value, [], context))
        }
        (Op::Delete(_), Some(context)) => Ok(Cell {
            live: [].into(),
            context: Context::of(context),
        }),
        (Op::Delete(_), None) => Err(Refusal::Unsupported(
            "with siblings, a deletion needs the context of a read".into(),
        )),
        _ => Err(Refusal::Unsupported(
            "with siblings there are only reads, writes and deletions".into(),
        )),
    }
}

/// What a reader sees: the values, ordered; nothing if there are none.
pub(super) fn datum(cell: &Cell) -> Option<Datum> {
    let mut values: Vec<Scalar> = cell.live.values().cloned().collect();
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then_some(Datum::Siblings(values))
}
