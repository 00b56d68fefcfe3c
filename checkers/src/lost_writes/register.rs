//! The lower bound for one register.

use rustc_hash::FxHashMap;

use super::Findings;
use crate::observe;
use crate::registers::Register;
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
    register: &Register<'_>,
    first_final: usize,
) {
    let operations = findings.operations;
    let (reads, finals) = (&register.reads, &register.reads[first_final..]);
    let acknowledged = || {
        let writes = register.writes.iter().map(|(w, _)| *w);
        writes.filter(|&w| operations[w].is_ok())
    };

    let mut values: FxHashMap<&Value, Known> = FxHashMap::default();
    for &(w, value) in &register.writes {
        let op = &operations[w];
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

    for (read, shows) in reads {
        let ended = operations[*read].completed_position.unwrap_or(usize::MAX);
        for value in shows {
            match values.get_mut(value) {
                None => findings.unexpected(key, value, *read, "nobody wrote it"),
                Some(Known { write: None, .. }) => {
                    findings.unexpected(key, value, *read, "every write of it failed");
                }
                Some(Known { write: Some(w), .. }) if operations[*w].invoked_position > ended => {
                    findings.unexpected(key, value, *read, "its write had not begun");
                }
                Some(known) => known.in_place = known.in_place.min(ended),
            }
        }
    }

    // Whether all values read were in place before the write began: then the write is not in it.
    let older = |shows: &[&Value], write: usize| {
        shows.iter().all(|value| {
            let known = values.get(value);
            known.is_some_and(|k| k.in_place < operations[write].invoked_position)
        })
    };
    for w in acknowledged() {
        let mut after = finals
            .iter()
            .filter(|(read, _)| operations[w].precedes(&operations[*read]))
            .peekable();
        let Some(&(first, _)) = after.peek() else {
            findings.counts.never_read += 1;
            continue;
        };
        let (mut missing, mut shown, mut removed) = (0, 0, 0);
        for (read, shows) in after {
            let until = operations[*read].completed_position.unwrap_or(usize::MAX);
            *(if !older(shows, w) {
                &mut shown
            } else if register
                .removals
                .may_take(operations[w].invoked_position, until)
            {
                &mut removed
            } else {
                &mut missing
            }) += 1;
        }
        if shown + removed == 0 {
            let value = observe::written(&operations[w]).unwrap_or(&Value::Nil);
            findings.lost(key, value, w, *first);
        } else if missing > 0 {
            findings.counts.stale += 1;
        } else if shown == 0 {
            findings.counts.removed += 1;
        }
    }
    let recovered = values.iter().filter(|(value, known)| {
        known.write.is_some_and(|w| !operations[w].is_ok())
            && finals.iter().any(|(_, shows)| shows.contains(*value))
    });
    findings.counts.recovered += recovered.count() as u64;
}
