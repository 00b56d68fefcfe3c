//! By how long reads are late: Δ-atomicity (Golab, Li and Shah, "Analyzing consistency properties for
//! fun and profit", PODC 2011).
//!
//! A history is Δ-atomic if it is atomic once every read begins Δ earlier: if reads may return what was
//! true up to Δ before they began. The smallest Δ is looked for among blocks, as they are in
//! [`zones`](crate::linearizable::engine::zones), where it is proved that the history is atomic if and
//! only if no block contradicts itself and no two contradict each other: `f(A) < s(B)` and `f(B) < s(A)`,
//! with `f` the first end and `s` the last beginning. Of a block, Δ moves only the beginnings of reads:
//! `s` is the greater of the last beginning of a write, and the last beginning of a read less Δ.
//!
//! *Of a pair* the smallest Δ (the *score* of Golab, Li and Shah) is the smaller of the two by which one
//! of the inequalities goes: the last read of `B` began that long after the first end of `A`, if all writes
//! of `B` began before that end, or the other way round. If neither can go, there is no Δ. *Of a block*, the
//! same is asked of every read and the first end on higher levels. The smallest Δ of the history is the
//! greatest of these: whatever Δ mends a pair, a greater one does, too.
//!
//! Not all pairs are looked at. For a given Δ, one sorted pass finds for every block that still contradicts
//! another one such; the greatest score among those found is a Δ that is needed at least. From there it is
//! asked again, of those blocks only, until none is left; between, the remaining range is halved, so that
//! there are at most 64 rounds of O(b log b) for `b` blocks in conflict, and mostly two.
//!
//! What Δ is compared with are times. Beginnings and ends of the same time are ordered by their positions;
//! only a beginning that was moved comes first. So the Δ that is found is the greatest lower bound: if it is
//! positive, no smaller one will do. It is zero without being atomic if the clock did not go on in between.

use crate::linearizable::engine::Id;
use crate::linearizable::engine::zones::decide::{Links, links};
use crate::linearizable::engine::zones::table::{PLAIN, Table};

/// A time (ns) and a position.
type Instant = (u64, u32);

/// What matters of one block.
#[derive(Clone, Copy, Debug)]
struct Block {
    first_end: Instant,
    last_write: Instant,
    last_read: Instant,
}

impl Block {
    /// The last beginning if reads begin so much earlier; `None` leaves everything as it is.
    fn last_call(&self, delta: Option<u64>) -> Instant {
        let read = match delta {
            None => self.last_read,
            Some(delta) => (self.last_read.0.saturating_sub(delta), 0),
        };
        self.last_write.max(read)
    }

    /// By how much the reads have to begin earlier so that this block does not have to come after the
    /// other.
    fn excess(&self, other: &Self) -> Option<u64> {
        let movable = self.last_write < other.first_end;
        movable.then(|| self.last_read.0.saturating_sub(other.first_end.0))
    }

    /// The smallest Δ of two blocks that contradict each other.
    fn score(&self, other: &Self) -> Option<u64> {
        match (self.excess(other), other.excess(self)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// How late the reads of a register are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late {
    /// The smallest Δ, ns; `None` if there is none, however great.
    pub(super) delta: Option<u64>,
    /// How many blocks contradict another, or themselves.
    pub(super) blocks: usize,
}

/// How late the reads of a register are. `time`: that of an instant (a position plus one), ns.
pub(super) fn late(table: &Table, time: impl Fn(u32) -> u64) -> Late {
    let none = |blocks| Late {
        delta: None,
        blocks,
    };
    let Ok(links) = links(table) else {
        return none(1);
    };
    let at = |instant: u32| (time(instant), instant);
    let (mut blocks, mut within, mut in_conflict) = (Vec::new(), 0, 0);
    let mut in_blocks = 0;
    let mut needed = 0;
    for (value, cluster) in table.clusters.iter().enumerate() {
        let value = value as Id;
        if !cluster.is_written() || !links.is_needed(value) {
            continue;
        }
        needed += 1;
        if cluster.old != PLAIN {
            continue;
        }
        match block(table, &links, value, &at) {
            Some((block, excess, values)) => {
                blocks.push(block);
                in_blocks += values;
                in_conflict += usize::from(excess.is_some());
                within = within.max(excess.unwrap_or(0));
            }
            None => return none(1),
        }
    }
    if in_blocks < needed {
        return none(1);
    }
    let (of_pairs, blocks) = of_pairs(blocks);
    Late {
        delta: of_pairs.map(|delta| delta.max(within)),
        blocks: blocks + in_conflict,
    }
}

/// The block that begins with this value, by how much its reads contradict it (if they do), and how many
/// values it has. `None` if no Δ mends it.
fn block(
    table: &Table,
    links: &Links,
    root: Id,
    at: &impl Fn(u32) -> Instant,
) -> Option<(Block, Option<u64>, usize)> {
    let (mut first_end, mut last_write, mut last_read) = (u32::MAX, 0, 0);
    let mut excess = None;
    let mut values = 0;
    let mut next = Some(root);
    while let Some(value) = next {
        let cluster = table.of(value);
        values += 1;
        // Reads of the same value contradict each other never.
        let earlier_reads = last_read;
        for (end, write) in [
            (cluster.write_end, cluster.write_call),
            (cluster.first_read_end, 0),
        ] {
            if end < last_write {
                return None;
            }
            if end < earlier_reads {
                let by = at(earlier_reads).0.saturating_sub(at(end).0);
                excess = excess.max(Some(by));
            }
            last_write = last_write.max(write);
        }
        last_read = last_read.max(cluster.last_read_call);
        first_end = first_end.min(cluster.first_end());
        next = links.next(value);
    }
    let block = Block {
        first_end: at(first_end),
        last_write: at(last_write),
        last_read: at(last_read),
    };
    Some((block, excess, values))
}

/// The smallest Δ of all pairs, and how many blocks are in conflict with others.
fn of_pairs(blocks: Vec<Block>) -> (Option<u64>, usize) {
    let mut all = blocks;
    all.sort_unstable_by_key(|block| block.first_end);
    let (mut blocks, low) = conflicts(&all, None);
    drop(all);
    let count = blocks.len();
    if count == 0 {
        return (Some(0), 0);
    }
    let mut high = blocks.iter().map(|b| b.last_read.0).max().unwrap_or(0);
    let (Some(mut low), true) = (low, conflicts(&blocks, Some(high)).0.is_empty()) else {
        return (None, count);
    };
    loop {
        for delta in [low, low + high.saturating_sub(low) / 2] {
            let (left, score) = conflicts(&blocks, Some(delta));
            if !left.is_empty() {
                let Some(score) = score else {
                    return (None, count);
                };
                (blocks, low) = (left, low.max(score));
            } else if delta == low {
                return (Some(low), count);
            } else {
                high = delta;
            }
        }
    }
}

/// Of blocks sorted by their first ends those that contradict another, and the greatest score among the
/// pairs that were found; `None` if one of these has none.
fn conflicts(blocks: &[Block], delta: Option<u64>) -> (Vec<Block>, Option<u64>) {
    // Of all blocks up to each, the one that begins last, and the next.
    let mut latest: Vec<(usize, usize)> = Vec::with_capacity(blocks.len());
    let call = |i: usize| blocks[i].last_call(delta);
    for i in 0..blocks.len() {
        let (mut first, mut second) = latest.last().copied().unwrap_or((i, i));
        if i > 0 && call(i) > call(first) {
            (first, second) = (i, first);
        } else if i > 0 && (first == second || call(i) > call(second)) {
            second = i;
        }
        latest.push((first, second));
    }
    let (mut found, mut score) = (Vec::new(), Some(0));
    for (i, block) in blocks.iter().enumerate() {
        let until = blocks.partition_point(|other| other.first_end < call(i));
        let Some((first, second)) = until.checked_sub(1).map(|last| latest[last]) else {
            continue;
        };
        let other = if first == i { second } else { first };
        if other != i && block.first_end < call(other) {
            found.push(*block);
            let of_pair = block.score(&blocks[other]);
            score = score.and_then(|score: u64| Some(score.max(of_pair?)));
        }
    }
    (found, score)
}
