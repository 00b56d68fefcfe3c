//! From the operations on one key to their table, in one pass.
//!
//! It says what [`encode`](crate::linearizable) says of a register, without a record an operation in
//! between: see there for what an operation means.

use rustc_hash::FxHashSet;

use super::Table;
use super::numbers::Numbers;
use crate::observe::{self, KeyView};
use crate::{F, Operation, Outcome, Value};

/// The operations on a register.
pub(crate) struct Encoded {
    pub(crate) table: Table,
    /// Whether a read showed several concurrent values. Such reads are left out.
    pub(crate) siblings: bool,
}

/// Encodes the operations on a key as those on a register. `refused_cas`: a failed compare-and-set
/// says that the register did not hold the expected value.
///
/// # Errors
///
/// The reason why the key cannot be judged.
pub(crate) fn encode<'a>(
    operations: &[Operation<'a>],
    view: &KeyView<'a>,
    refused_cas: bool,
) -> Result<Encoded, &'static str> {
    let mut numbers = Numbers::default();
    let mut table = Table::with_capacity(view.writes.len());
    for &w in &view.writes {
        let op = &operations[w];
        let call = op.invoked_position as u64;
        let end = op.completed_position.map(|p| p as u64);
        let pair = || observe::pair(op.argument()).ok_or("malformed-cas");
        match (op.f(), op.outcome, end) {
            (F::Cas, Outcome::Fail, Some(end)) if refused_cas => {
                table.cas_refused(numbers.of(pair()?.0), call, end);
            }
            (_, Outcome::Fail, _) => {}
            (F::Write, ..) => table.write(numbers.of(op.argument()), call, end),
            (F::Cas, ..) => {
                let (old, new) = pair()?;
                table.cas(numbers.of(old), numbers.of(new), call, end);
            }
            _ => return Err("function-outside-the-model"),
        }
    }
    let mut shown = Shown::default();
    let mut siblings = false;
    for read in &view.reads {
        let op = &operations[read.op];
        let Some(end) = op.completed_position else {
            continue;
        };
        match shown.by(operations, view, read.value) {
            Some(value) => {
                table.read(numbers.of(value), op.invoked_position as u64, end as u64);
            }
            None => siblings = true,
        }
    }
    Ok(Encoded { table, siblings })
}

/// What reads of the register show. Most show a plain value; the sets are made when one does not.
#[derive(Default)]
struct Shown<'a> {
    /// Everything that anybody asked to write.
    asked: Option<FxHashSet<&'a Value>>,
    /// Blank values that somebody may have written.
    blank: Option<FxHashSet<&'a Value>>,
}

impl<'a> Shown<'a> {
    /// The value that a read shows; `None` if several.
    fn by(
        &mut self,
        operations: &[Operation<'a>],
        view: &KeyView<'a>,
        value: &'a Value,
    ) -> Option<&'a Value> {
        let written = |w: &usize| observe::written(&operations[*w]);
        if observe::is_blank(value) && !value.is_nil() {
            let may = |w: &&usize| observe::possible(&operations[**w]);
            let all = || view.writes.iter().filter(may).filter_map(written);
            let blank = self
                .blank
                .get_or_insert_with(|| all().filter(|v| observe::is_blank(v)).collect());
            if !blank.contains(value) {
                return Some(&Value::Nil);
            }
        }
        if value.items().is_none() {
            return Some(value);
        }
        let all = || view.writes.iter().filter_map(written).collect();
        let asked = self.asked.get_or_insert_with(all);
        match observe::siblings(value, |v| asked.contains(v)) {
            [] => Some(value),
            [one] => Some(one),
            _ => None,
        }
    }
}
