//! The lower bound for one register.

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

    let mut values: Vec<Option<Known>> = Vec::new();
    values.resize_with(register.values.len(), || None);
    for &(w, value) in &register.writes {
        let op = &operations[w];
        let known = values[value as usize].get_or_insert(Known {
            write: None,
            in_place: usize::MAX,
        });
        if op.outcome == Outcome::Fail {
            continue;
        }
        if known.write.is_some() || register.values[value as usize].is_nil() {
            return findings.reason("values-not-unique", key);
        }
        known.write = Some(w);
        if let (true, Some(completed)) = (op.is_ok(), op.completed_position) {
            known.in_place = completed;
        }
    }

    for (read, shows) in reads {
        let ended = operations[*read].completed_position.unwrap_or(usize::MAX);
        for &number in register.shows(*shows) {
            let value = register.values[number as usize];
            match &mut values[number as usize] {
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

    // From when on all values of each final read were in place: a write that began later is not in
    // it. (One that nobody wrote says nothing of others, like one never in place.)
    let places: Vec<usize> = finals
        .iter()
        .map(|(_, shows)| {
            let of = |&value: &u32| {
                let known = values[value as usize].as_ref();
                known.map_or(usize::MAX, |known| known.in_place)
            };
            let shows = register.shows(*shows);
            shows
                .iter()
                .map(of)
                .max()
                .map_or(0, |place| place.saturating_add(1))
        })
        .collect();
    // Of each final read and those after it.
    let (mut least, mut most) = (places.clone(), places.clone());
    for i in (1..places.len()).rev() {
        least[i - 1] = least[i - 1].min(least[i]);
        most[i - 1] = most[i - 1].max(most[i]);
    }
    let removable = register.removals.from() != usize::MAX;
    for w in acknowledged() {
        let op = &operations[w];
        let after = finals.partition_point(|(read, _)| !op.precedes(&operations[*read]));
        let Some(&(first, _)) = finals.get(after) else {
            findings.counts.never_read += 1;
            continue;
        };
        let began = op.invoked_position;
        let older = |place: usize| place <= began;
        let (shown, removed, missing) = if removable {
            let (mut shown, mut removed, mut missing) = (false, false, false);
            for ((read, _), place) in finals[after..].iter().zip(&places[after..]) {
                let until = operations[*read].completed_position.unwrap_or(usize::MAX);
                *(if !older(*place) {
                    &mut shown
                } else if register.removals.may_take(began, until) {
                    &mut removed
                } else {
                    &mut missing
                }) = true;
            }
            (shown, removed, missing)
        } else {
            (!older(most[after]), false, older(least[after]))
        };
        if !shown && !removed {
            let value = observe::written(op).unwrap_or(&Value::Nil);
            findings.lost(key, value, w, first);
        } else if missing {
            findings.counts.stale += 1;
        } else if !shown {
            findings.counts.removed += 1;
        }
    }
    let mut last_shown = vec![false; values.len()];
    for &value in finals.iter().flat_map(|(_, shows)| register.shows(*shows)) {
        last_shown[value as usize] = true;
    }
    let recovered = values.iter().zip(last_shown).filter(|(known, shown)| {
        let write = known.as_ref().and_then(|known| known.write);
        *shown && write.is_some_and(|w| !operations[w].is_ok())
    });
    findings.counts.recovered += recovered.count() as u64;
}
