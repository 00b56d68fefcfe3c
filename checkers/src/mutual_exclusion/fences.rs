//! Fencing tokens, as Kleppmann describes them (*How to do distributed locking*, 2016): storage that
//! refuses a token older than one it has seen is safe from owners that do not know that they have
//! lost the lock, as long as tokens increase.

use std::collections::BTreeMap;

use super::{Owner, extra};
use crate::found::{Found, anomaly};
use crate::observe::{self, KeyView};
use crate::{F, Operation, Value};

/// The token of an acquisition.
fn fence(op: &Operation<'_>) -> Option<i64> {
    let of_value = match op.result()? {
        Value::Map(fields) => fields.iter().find_map(|(name, value)| match name {
            Value::Str(s) | Value::Keyword(s) | Value::Symbol(s) if &**s == "fence" => Some(value),
            _ => None,
        }),
        _ => None,
    };
    of_value.or_else(|| extra(op, "fence"))?.as_int()
}

/// Judges the tokens of one lock; how many acquisitions had one.
pub(super) fn judge(
    operations: &[Operation<'_>],
    key: Option<&Value>,
    view: &KeyView<'_>,
    found: &mut Found,
) -> u64 {
    // By invocation.
    let fenced: Vec<(usize, i64)> = view
        .writes
        .iter()
        .filter(|&&w| operations[w].f() == &F::Acquire)
        .filter_map(|&w| Some((w, fence(&operations[w])?)))
        .collect();
    let mut by_end = fenced.clone();
    by_end.sort_by_key(|(w, _)| operations[*w].completed_position);
    let mut ended = by_end.iter().peekable();
    // The greatest token of those acknowledged before.
    let mut greatest: Option<(i64, usize)> = None;
    // By token: who had it first, and the first other owner.
    let mut holders: BTreeMap<i64, (usize, Option<usize>)> = BTreeMap::new();
    for &(w, fence) in &fenced {
        let op = &operations[w];
        while let Some(&(earlier, token)) = ended.next_if(|(e, _)| operations[*e].precedes(op)) {
            if greatest.is_none_or(|(most, _)| token > most) {
                greatest = Some((token, earlier));
            }
        }
        let of_other = |w: &usize| Owner::of(&operations[*w]) != Owner::of(op);
        let greater = greatest.filter(|(most, _)| *most > fence);
        let (one, another) = holders.entry(fence).or_insert((w, None));
        let shared = if of_other(one) { Some(*one) } else { *another };
        if another.is_none() && of_other(one) {
            *another = Some(w);
        }
        let before = greater.or(shared.map(|by| (fence, by)));
        if let Some((token, by)) = before {
            found.add("fence-not-increasing", || {
                let told = |op: &Operation<'_>| {
                    let at = op.completed_at().unwrap_or_default() as f64 / 1e9;
                    format!("the acquisition by process {} ({at:.3} s)", op.process())
                };
                let summary = format!(
                    "{} of the lock of {} got fencing token {fence}, after {} had got {token}",
                    told(op),
                    observe::key_name(key),
                    told(&operations[by])
                );
                anomaly(key, &[&operations[by], op], summary)
            });
        }
    }
    fenced.len() as u64
}
