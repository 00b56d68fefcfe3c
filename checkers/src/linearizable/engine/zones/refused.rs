//! Refused compare-and-sets; see the [module above](super).

use super::super::Id;
use super::decide::{Conflict, Links, first_from};
use super::table::{PLAIN, Table};

/// From when to when a value is in force, whatever the order.
struct Held {
    from: u32,
    until: u32,
    value: Id,
}

/// Of a history that is linearizable without its refused compare-and-sets: whether it is with them.
/// `None` if there is one of which that is not plain.
pub(super) fn decide(table: &Table, links: &Links) -> Option<Result<(), Conflict>> {
    if table.refused.is_empty() {
        return Some(Ok(()));
    }
    let held = held(table, links);
    let mut plain = true;
    let mut near = 0;
    for (i, refused) in table.refused.iter().enumerate() {
        if !table.of(refused.value).is_written() {
            continue;
        }
        near = first_from(&held, near, |h| h.from >= refused.end);
        let before_end = held[..near].iter().rev();
        let other = before_end.clone().find(|h| h.value != refused.value);
        if other.is_some_and(|h| h.until > refused.call) {
            continue;
        }
        // Only of the value itself, if of any, and then it is the last.
        if let Some(same) = before_end.clone().next()
            && same.value == refused.value
            && same.from < refused.call
            && same.until > refused.end
        {
            return Some(Err(Conflict::Refused(i)));
        }
        plain = false;
    }
    plain.then_some(Ok(()))
}

/// Ascending, and no two at the same time.
fn held(table: &Table, links: &Links) -> Vec<Held> {
    let mut held = Vec::new();
    let mut values = Vec::new();
    for (root, cluster) in table.clusters.iter().enumerate() {
        let root = root as Id;
        if !cluster.is_written() || cluster.old != PLAIN || !links.is_needed(root) {
            continue;
        }
        values.clear();
        values.extend(std::iter::successors(Some(root), |v| links.next(*v)));
        let mut from = u32::MAX;
        for &value in values.iter().rev() {
            let cluster = table.of(value);
            from = from.min(cluster.first_end());
            let next_call = links
                .next(value)
                .map_or(0, |next| table.of(next).write_call);
            let until = cluster.last_read_call.max(next_call);
            if from < until {
                held.push(Held { from, until, value });
            }
        }
    }
    held.sort_unstable_by_key(|h| h.from);
    held
}
