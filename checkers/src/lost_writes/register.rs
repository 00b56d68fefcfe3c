//! The lower bound for one register.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Findings;
use crate::observe::{self, KeyView, View};
use crate::{Outcome, Value};

/// What is known of a value: who wrote it, and since when it was in place.
struct Known {
    /// The write that may have put it there; `None`: only writes that failed.
    write: Option<usize>,
    /// Position in the history by which it was in place.
    in_place: usize,
}

pub(super) fn judge(
    findings: &mut Findings<'_, '_>,
    key: Option<&Value>,
    view: &KeyView<'_>,
    finals: &[View<'_>],
) {
    let operations = findings.operations;
    let acknowledged = || {
        view.writes
            .iter()
            .copied()
            .filter(|&w| operations[w].is_ok())
    };
    findings.counts.acknowledged += acknowledged().count() as u64;

    let mut values: FxHashMap<&Value, Known> = FxHashMap::default();
    for &w in &view.writes {
        let op = &operations[w];
        let Some(value) = observe::written(op) else {
            return findings.reason("malformed-cas", key);
        };
        let known = values.entry(value).or_insert(Known {
            write: None,
            in_place: usize::MAX,
        });
        if op.outcome == Outcome::Fail {
            continue;
        }
        if known.write.is_some() || value.is_nil() {
            return findings.reason("values-not-unique", key);
        }
        known.write = Some(w);
        if let (true, Some(completed)) = (op.is_ok(), op.completed_position) {
            known.in_place = completed;
        }
    }

    let written: FxHashSet<&Value> = values
        .iter()
        .filter(|(_, known)| known.write.is_some())
        .map(|(value, _)| *value)
        .collect();
    let initial = |value: &Value| observe::is_blank(value) && !written.contains(value);
    for read in view.reads.iter().filter(|r| !initial(r.value)) {
        let ended = operations[read.op].completed_position.unwrap_or(usize::MAX);
        match values.get_mut(read.value) {
            None => findings.unexpected(key, read.value, read.op, "nobody wrote it"),
            Some(Known { write: None, .. }) => {
                findings.unexpected(key, read.value, read.op, "every write of it failed");
            }
            Some(Known { write: Some(w), .. }) if operations[*w].invoked_position > ended => {
                findings.unexpected(key, read.value, read.op, "its write had not begun");
            }
            Some(known) => known.in_place = known.in_place.min(ended),
        }
    }

    // Whether the value read was in place before the write began: then the write is not in it.
    let older = |read: &View<'_>, write: usize| {
        initial(read.value)
            || values
                .get(read.value)
                .is_some_and(|k| k.in_place < operations[write].invoked_position)
    };
    for w in acknowledged() {
        let mut after = finals
            .iter()
            .filter(|r| operations[w].precedes(&operations[r.op]))
            .peekable();
        let Some(&&first) = after.peek() else {
            findings.counts.never_read += 1;
            continue;
        };
        let (mut missing, mut shown) = (0, 0);
        for read in after {
            *(if older(read, w) {
                &mut missing
            } else {
                &mut shown
            }) += 1;
        }
        if shown == 0 {
            let value = observe::written(&operations[w]).unwrap_or(&Value::Nil);
            findings.lost(key, value, w, first.op);
        } else if missing > 0 {
            findings.counts.stale += 1;
        }
    }
    let recovered = values.iter().filter(|(value, known)| {
        known.write.is_some_and(|w| !operations[w].is_ok())
            && finals.iter().any(|r| r.value == **value)
    });
    findings.counts.recovered += recovered.count() as u64;
}
