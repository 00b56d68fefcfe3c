//! Append-lists whose elements are appended by at most one operation each.
//!
//! # Why it is exact
//!
//! Let `L` be the longest answered read. In any order that explains the history:
//!
//! * Every answered read is a prefix of `L`, the elements of `L` are distinct, and each was
//!   appended. Otherwise there is none.
//! * A read of length `k` comes after the append of `L[k-1]` and before that of `L[k]`.
//! * An append whose element is not in `L` comes after all reads of length `|L|`, hence after every
//!   answered read and every append in `L`: no read shows it. If it was never answered, it may as
//!   well be left out: what is appended after it is not in `L` either, and shown by nobody.
//! * A read without answer says nothing.
//!
//! So the operations fall into groups, *reads of length 0, append of `L[0]`, reads of length 1, …,
//! reads of length `|L|`, acknowledged appends outside `L`*, and every order runs through the
//! groups in this sequence. Conversely, any order that does explains the history: operations of one
//! group commute, but for the last, whose own order nobody sees. Within a group, real time can be
//! obeyed. Hence the history is linearizable if and only if no operation completed before one of an
//! earlier group was invoked. An unanswered append in `L` took effect (somebody saw it) and
//! constrains by its invocation alone.
//!
//! # Cost
//!
//! Linear in the operations and the elements in the reads: one comparison of each read with `L`,
//! and one pass over the groups.

use std::sync::Arc;

use super::super::{Action, Decision, Id, Op};
use super::shared::{IdMap, refuted};

/// What the reads of one length say: when the last was invoked and when the first completed.
#[derive(Clone, Copy)]
struct Group {
    latest_call: (u64, usize),
    earliest_end: (u64, usize),
}

/// Decides; `None` if an element is appended more than once.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    let appended = |op: &Op| match op.action {
        Action::Append(element) => Some(element),
        _ => None,
    };
    let largest = ops.iter().filter_map(appended).max().unwrap_or(0);
    let mut appends = IdMap::new(largest, ops.len());
    let mut longest: Option<(usize, &Arc<[Id]>)> = None;
    for (i, op) in ops.iter().enumerate() {
        match &op.action {
            Action::Append(element) if appends.insert(*element, i as u32).is_some() => return None,
            Action::ReadList(items)
                if op.completion.is_some()
                    && longest.is_none_or(|(_, longest)| longest.len() < items.len()) =>
            {
                longest = Some((i, items));
            }
            _ => {}
        }
    }
    let Some((longest_at, longest)) = longest else {
        // Nobody looked.
        return Some(Decision::Linearizable);
    };
    let mut seen = vec![false; ops.len()];
    for &element in longest.iter() {
        match appends.get(element) {
            None => return Some(refuted([longest_at])),
            Some(append) if seen[append] => return Some(refuted([longest_at, append])),
            Some(append) => seen[append] = true,
        }
    }
    let mut groups = vec![
        Group {
            latest_call: (0, usize::MAX),
            earliest_end: (u64::MAX, usize::MAX),
        };
        longest.len() + 1
    ];
    for (i, op) in ops.iter().enumerate() {
        let (Action::ReadList(items), Some(end)) = (&op.action, op.completion) else {
            continue;
        };
        if !Arc::ptr_eq(items, longest) && !longest.starts_with(items) {
            return Some(diverged(&appends, (i, items), (longest_at, longest)));
        }
        let group = &mut groups[items.len()];
        group.latest_call = group.latest_call.max((op.call, i));
        group.earliest_end = group.earliest_end.min((end, i));
    }
    let mut latest_call = (0, usize::MAX);
    let conflict = |early: usize, late: usize| {
        Some(explained(ops, &appends, longest_at, longest, early, late))
    };
    for (length, group) in groups.iter().enumerate() {
        if let Some(append) = length
            .checked_sub(1)
            .and_then(|at| appends.get(longest[at]))
        {
            if ops[append]
                .completion
                .is_some_and(|end| end < latest_call.0)
            {
                return conflict(append, latest_call.1);
            }
            latest_call = latest_call.max((ops[append].call, append));
        }
        if group.earliest_end.0 < latest_call.0 {
            return conflict(group.earliest_end.1, latest_call.1);
        }
        latest_call = latest_call.max(group.latest_call);
    }
    let unseen = ops.iter().enumerate().filter(|(i, _)| !seen[*i]);
    for (i, op) in unseen.filter(|(_, op)| appended(op).is_some()) {
        if op.completion.is_some_and(|end| end < latest_call.0) {
            return conflict(i, latest_call.1);
        }
    }
    Some(Decision::Linearizable)
}

/// A read that is no prefix of the longest one: they differ at some element first.
fn diverged(appends: &IdMap, read: (usize, &[Id]), longest: (usize, &[Id])) -> Decision {
    let same = read.1.iter().zip(longest.1).take_while(|(a, b)| a == b);
    let at = same.count();
    // It is not longer than the longest, so that it ends nowhere before it differs.
    let (Some(&shown), Some(&other)) = (read.1.get(at), longest.1.get(at)) else {
        return refuted([]);
    };
    let other = appends.get(other);
    match appends.get(shown) {
        None => refuted([read.0]),
        Some(append) if read.1[..at].contains(&shown) => refuted([read.0, append]),
        Some(append) => refuted([read.0, longest.0, append].into_iter().chain(other)),
    }
}

/// `early` completed before `late` was invoked, although `late` is of an earlier group.
fn explained(
    ops: &[Op],
    appends: &IdMap,
    longest_at: usize,
    longest: &[Id],
    early: usize,
    late: usize,
) -> Decision {
    let third = match (&ops[early].action, &ops[late].action) {
        // The longest read shows the later one but not the earlier, or shows it first.
        (Action::Append(_), Action::Append(_)) => Some(longest_at),
        // The later read misses an element that the earlier one shows.
        (Action::ReadList(_), Action::ReadList(short)) => {
            longest.get(short.len()).and_then(|&e| appends.get(e))
        }
        _ => None,
    };
    refuted([early, late].into_iter().chain(third))
}
