//! The decision; what it rests on is proved in the [module above](super).

use super::super::{Id, NIL};
use super::table::{PLAIN, Table};

/// Why there is no order. Values stand for their clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Somebody read it, or its compare-and-set is needed, but nobody wrote what that expects.
    Unwritten(Id),
    /// Both were set by a compare-and-set of the same value.
    TwoSuccessors(Id, Id),
    /// It was set by a compare-and-set of a value that comes of itself.
    Cycle(Id),
    /// An operation of the second value (of the same block, and not before the first) ended before
    /// one of the first began that has to come before it.
    Within(Id, Id),
    /// Each of the two blocks, named by their first values, has to come before the other.
    Between(Id, Id),
    /// This one of the refused: its value was in force all the time.
    Refused(usize),
}

/// The links of compare-and-sets that must have taken effect.
pub(crate) struct Links {
    /// By value: the one that replaced it; [`PLAIN`] if none did. Empty if there is none at all.
    pub(crate) next: Vec<Id>,
    /// By value: whether its write must have taken effect. Empty if all must.
    pub(crate) needed: Vec<bool>,
}

impl Links {
    pub(crate) fn next(&self, value: Id) -> Option<Id> {
        let next = self.next.get(value as usize).copied();
        next.filter(|next| *next != PLAIN)
    }

    pub(crate) fn is_needed(&self, value: Id) -> bool {
        self.needed.get(value as usize).copied().unwrap_or(true)
    }
}

/// When the first operation of a block to end ended, and when the last one to begin began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zone {
    pub(crate) first_end: u32,
    pub(crate) last_call: u32,
    /// The first value of the block.
    pub(crate) root: Id,
}

impl Zone {
    /// Whether its value is in force from the one instant to the other, whatever the order.
    fn is_forward(&self) -> bool {
        self.first_end < self.last_call
    }
}

/// Whether there is an order; why there is none. `None`: of some refused compare-and-set nothing can
/// be said.
pub(super) fn decide(table: &Table) -> Option<Result<(), Conflict>> {
    let links = match links(table) {
        Ok(links) => links,
        Err(conflict) => return Some(Err(conflict)),
    };
    let in_order = blocks(table, &links).and_then(|(forward, backward)| pairs(forward, &backward));
    if let Err(conflict) = in_order {
        return Some(Err(conflict));
    }
    super::refused::decide(table, &links)
}

/// By value: whether its write must have taken effect.
fn needed(table: &Table) -> Vec<bool> {
    let mut needed = vec![false; table.clusters.len()];
    for (value, cluster) in table.clusters.iter().enumerate() {
        if !cluster.is_certain() {
            continue;
        }
        let mut value = value as Id;
        while !std::mem::replace(&mut needed[value as usize], true) {
            match table.old(value) {
                Some(old) => value = old,
                None => break,
            }
        }
    }
    needed
}

/// Links every value to the one that replaced it by compare-and-set.
pub(crate) fn links(table: &Table) -> Result<Links, Conflict> {
    let count = table.clusters.len();
    let mut links = Links {
        next: Vec::new(),
        needed: Vec::new(),
    };
    if table.has_pending {
        links.needed = needed(table);
    }
    if table.has_cas {
        links.next = vec![PLAIN; count];
    }
    for (value, cluster) in table.clusters.iter().enumerate() {
        let value = value as Id;
        if !cluster.is_written() {
            if cluster.is_read() {
                return Err(Conflict::Unwritten(value));
            }
            continue;
        }
        if cluster.old == PLAIN || !links.is_needed(value) {
            continue;
        }
        if !table.of(cluster.old).is_written() {
            return Err(Conflict::Unwritten(value));
        }
        let next = &mut links.next[cluster.old as usize];
        if *next != PLAIN {
            return Err(Conflict::TwoSuccessors(*next, value));
        }
        *next = value;
    }
    Ok(links)
}

/// The zones of all blocks: the forward ones and the others.
fn blocks(table: &Table, links: &Links) -> Result<(Vec<Zone>, Vec<Zone>), Conflict> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let (mut in_blocks, mut all) = (0, 0);
    for (value, cluster) in table.clusters.iter().enumerate() {
        let value = value as Id;
        if !cluster.is_written() || !links.is_needed(value) {
            continue;
        }
        all += 1;
        if cluster.old != PLAIN {
            continue;
        }
        let (zone, values) = block(table, links, value)?;
        in_blocks += values;
        if zone.is_forward() {
            forward.push(zone);
        } else {
            backward.push(zone);
        }
    }
    if in_blocks < all {
        return Err(cycle(table, links));
    }
    Ok((forward, backward))
}

/// The zone of the block that begins with this value, and how many values it has.
pub(crate) fn block(table: &Table, links: &Links, root: Id) -> Result<(Zone, usize), Conflict> {
    let mut zone = Zone {
        first_end: u32::MAX,
        last_call: 0,
        root,
    };
    // Where `last_call` is of.
    let mut last = root;
    let mut values = 0;
    let mut at = Some(root);
    while let Some(value) = at {
        let cluster = table.of(value);
        values += 1;
        if cluster.write_end < zone.last_call {
            return Err(Conflict::Within(last, value));
        }
        if cluster.write_call > zone.last_call {
            (zone.last_call, last) = (cluster.write_call, value);
        }
        if cluster.first_read_end < zone.last_call {
            return Err(Conflict::Within(last, value));
        }
        if cluster.last_read_call > zone.last_call {
            (zone.last_call, last) = (cluster.last_read_call, value);
        }
        zone.first_end = zone.first_end.min(cluster.first_end());
        at = links.next(value);
    }
    Ok((zone, values))
}

/// A value of a circle, if not all needed ones are in blocks.
fn cycle(table: &Table, links: &Links) -> Conflict {
    let mut reached = vec![false; table.clusters.len()];
    for (value, cluster) in table.clusters.iter().enumerate() {
        let mut at = (cluster.is_written() && cluster.old == PLAIN).then_some(value as Id);
        while let Some(value) = at {
            reached[value as usize] = true;
            at = links.next(value);
        }
    }
    let needed = |value: Id| table.of(value).is_written() && links.is_needed(value);
    let left = (0..table.clusters.len() as Id).find(|v| needed(*v) && !reached[*v as usize]);
    Conflict::Cycle(left.unwrap_or(NIL))
}

/// Whether no two blocks have to come before each other.
pub(crate) fn pairs(mut forward: Vec<Zone>, backward: &[Zone]) -> Result<(), Conflict> {
    if !forward.is_sorted_by_key(|zone| zone.first_end) {
        forward.sort_unstable_by_key(|zone| zone.first_end);
    }
    for pair in forward.windows(2) {
        if pair[1].first_end < pair[0].last_call {
            return Err(Conflict::Between(pair[0].root, pair[1].root));
        }
    }
    let mut near = 0;
    for zone in backward {
        near = first_from(&forward, near, |f| f.first_end >= zone.last_call);
        let before = near.checked_sub(1).and_then(|i| forward.get(i));
        if let Some(before) = before
            && zone.first_end < before.last_call
        {
            return Err(Conflict::Between(before.root, zone.root));
        }
    }
    Ok(())
}

/// The index of the first element that is `late`, of elements of which the late ones come last.
/// Looked for around `near`, because neighbours ask for neighbours.
pub(crate) fn first_from<T>(sorted: &[T], near: usize, late: impl Fn(&T) -> bool) -> usize {
    let (mut low, mut high) = (near, near);
    let mut step = 1;
    while low > 0 && late(&sorted[low - 1]) {
        (high, low) = (low - 1, low.saturating_sub(step));
        step *= 2;
    }
    step = 1;
    while high < sorted.len() && !late(&sorted[high]) {
        low = high + 1;
        high = high.saturating_add(step).min(sorted.len());
        step *= 2;
    }
    low + sorted[low..high].partition_point(|element| !late(element))
}
