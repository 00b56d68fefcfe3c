//! What really happened in a simulation, known without looking at any answer to a client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reference_cluster::core::{Position, Role};
use serde::Serialize;

/// The fate of one client operation. The n-th call is the n-th client invocation of the history.
#[derive(Clone, Debug, Serialize)]
pub struct CallTruth {
    /// The node asked.
    pub node: u16,
    /// True time of the invocation, nanoseconds.
    pub invoked: u64,
    /// True time at which the client learnt the outcome; none while under way.
    pub completed: Option<u64>,
    /// The place of the invocation among all invocations and completions of the run: events at
    /// the same time have an order, too.
    pub began: u64,
    /// The place of the completion, likewise.
    pub ended: Option<u64>,
    /// Whether the client was told `ok`.
    pub acknowledged: bool,
    /// Whether it was meant to change something.
    pub write: bool,
    /// Whether it asked one replica what it holds: no read of a client.
    pub inspection: bool,
    /// The key, where it has one.
    pub key: Option<Arc<str>>,
    /// The entry that the replica created for it.
    pub created: Option<Position>,
    /// True time at which that entry was created.
    pub created_at: Option<u64>,
    /// The newest entry in the state that answered it.
    pub served: Option<Position>,
    /// True time at which the replica gave its answer.
    pub served_at: Option<u64>,
    /// The epoch of the node that answered.
    pub epoch: Option<u64>,
}

/// One change of role at one node.
#[derive(Clone, Debug, Serialize)]
pub struct RoleChange {
    /// True time, nanoseconds.
    pub at: u64,
    /// Which node.
    pub node: u16,
    /// What it became; `None`: it ended.
    pub role: Option<Role>,
    /// In which epoch.
    pub epoch: u64,
}

/// A divergent tail thrown away.
#[derive(Clone, Debug, Serialize)]
pub struct Discard {
    /// True time, nanoseconds.
    pub at: u64,
    /// Which node.
    pub node: u16,
    /// The entries, oldest first.
    pub entries: Vec<Position>,
}

/// One replica at the end.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaTruth {
    /// Which node.
    pub node: u16,
    /// The newest entry in its log.
    pub last: Position,
    /// The digest of its state.
    pub digest: u64,
    /// The part of the keys that it holds, in its own words; empty: all.
    pub scope: Arc<str>,
    /// Whether it has stopped replicating for good.
    pub stopped: bool,
}

/// Ground truth of one simulated run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Truth {
    /// Whether the cluster has one log. Without one nothing is known of what was lost or stale: no
    /// entries, no surviving log.
    pub one_log: bool,
    /// All client operations, in the order invoked.
    pub calls: Vec<CallTruth>,
    /// Who was what, when.
    pub roles: Vec<RoleChange>,
    /// What was thrown away, by whom.
    pub discards: Vec<Discard>,
    /// The first entry of each leadership, with the entry before it: the tree of all histories of
    /// the log. A leadership only ever appends to its own log.
    #[serde(serialize_with = "pairs")]
    pub beginnings: BTreeMap<Position, Position>,
    /// The newest entry that each leadership made, by epoch and leader.
    #[serde(skip)]
    pub(super) newest: BTreeMap<(u64, u16), u64>,
    /// Whether an entry was made at a place that another had had, by a node that had forgotten
    /// what it did: its disk was put back, or replaced. Then places say no longer which entry is
    /// meant, and nothing is known of what was lost or stale.
    pub reused: bool,
    /// What every replica that ran held at the end.
    pub replicas: Vec<ReplicaTruth>,
    /// The newest entry of the log that survived (the last leader's).
    pub survived: Position,
}

fn pairs<S: serde::Serializer>(
    map: &BTreeMap<Position, Position>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.iter())
}

impl Truth {
    /// Takes note of a new entry and the one before it.
    pub(super) fn grow(&mut self, entry: Position, previous: Position) {
        let leadership = (entry.epoch, entry.leader);
        let newest = self.newest.entry(leadership).or_default();
        self.reused |= entry.index <= *newest;
        *newest = entry.index.max(*newest);
        if !same_leadership(entry, previous) {
            self.beginnings.entry(entry).or_insert(previous);
        }
    }

    /// The logs that end with this entry, as stretches of one leadership each, newest first: the
    /// first and the last entry of each.
    fn stretches(&self, newest: Position) -> impl Iterator<Item = (Position, Position)> {
        let mut last = newest;
        std::iter::from_fn(move || {
            let (first, previous) = self
                .beginnings
                .range(..=last)
                .next_back()
                .filter(|(first, _)| same_leadership(**first, last))?;
            // Of entries that power failures made ambiguous the chain might not go back.
            let stretch = (*first, last);
            last = if previous.index < first.index {
                *previous
            } else {
                Position::default()
            };
            Some(stretch)
        })
    }
}

fn same_leadership(a: Position, b: Position) -> bool {
    (a.epoch, a.leader) == (b.epoch, b.leader)
}

/// Whether an entry lies on a stretch of one leadership.
fn within(entry: Position, (first, last): (Position, Position)) -> bool {
    same_leadership(entry, first) && first.index <= entry.index && entry.index <= last.index
}

/// Questions about a truth, with the surviving log at hand.
pub struct Oracle<'a> {
    truth: &'a Truth,
    /// The log that survived, as stretches of one leadership each, oldest first.
    surviving: Vec<(Position, Position)>,
    /// By key: acknowledged changes as (place of the acknowledgement, entry, call).
    writes: BTreeMap<&'a str, Vec<(u64, Position, usize)>>,
    /// By key: all changes that made an entry, newest entry first.
    entries: BTreeMap<&'a str, Vec<(Position, usize)>>,
}

impl<'a> Oracle<'a> {
    /// Indexes a truth.
    pub fn new(truth: &'a Truth) -> Self {
        let mut writes: BTreeMap<&str, Vec<(u64, Position, usize)>> = BTreeMap::new();
        for (i, call) in truth.calls.iter().enumerate() {
            if let (true, true, Some(key), Some(done), Some(entry)) = (
                call.acknowledged,
                call.write,
                &call.key,
                call.ended,
                call.created,
            ) {
                writes.entry(key).or_default().push((done, entry, i));
            }
        }
        let mut entries: BTreeMap<&str, Vec<(Position, usize)>> = BTreeMap::new();
        for (i, call) in truth.calls.iter().enumerate() {
            if let (Some(key), Some(entry)) = (&call.key, call.created) {
                entries.entry(key).or_default().push((entry, i));
            }
        }
        for list in entries.values_mut() {
            list.sort_unstable_by_key(|(entry, _)| std::cmp::Reverse(entry.index));
        }
        let mut surviving: Vec<_> = truth.stretches(truth.survived).collect();
        surviving.reverse();
        Self {
            truth,
            surviving,
            writes,
            entries,
        }
    }

    /// Whether a state whose newest entry is `newest` contains `entry`.
    fn holds(&self, newest: Position, entry: Position) -> bool {
        if self.survives(newest) {
            return entry.index <= newest.index && self.survives(entry);
        }
        let mut stretches = self.truth.stretches(newest);
        let stretch = stretches.find(|(first, _)| first.index <= entry.index);
        stretch.is_some_and(|stretch| within(entry, stretch))
    }

    /// Whether this entry is in the surviving log.
    fn survives(&self, entry: Position) -> bool {
        let after = self
            .surviving
            .partition_point(|(first, _)| first.index <= entry.index);
        after
            .checked_sub(1)
            .is_some_and(|at| within(entry, self.surviving[at]))
    }

    /// Calls whose acknowledged change is not in the surviving log: acknowledged, then lost.
    pub fn lost(&self) -> BTreeSet<usize> {
        self.writes
            .values()
            .flatten()
            .filter(|(_, entry, _)| !self.survives(*entry))
            .map(|(.., call)| *call)
            .collect()
    }

    /// For each acknowledged read of a key: the changes of that key that were acknowledged before
    /// it was invoked and that the state that answered it did not hold. Only reads that missed
    /// something are listed.
    pub fn missed(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut missed = BTreeMap::new();
        for (i, call) in self.reads() {
            let (Some(key), Some(served)) = (&call.key, call.served) else {
                continue;
            };
            let these: Vec<usize> = self
                .writes
                .get(&**key)
                .into_iter()
                .flatten()
                .filter(|(done, entry, _)| *done < call.began && !self.holds(served, *entry))
                .map(|(.., write)| *write)
                .collect();
            if !these.is_empty() {
                missed.insert(i, these);
            }
        }
        missed
    }

    /// The reads among [`Oracle::missed`] that missed a change which the state of some read that
    /// ended later did hold: late, not lost.
    pub fn stale(&self, missed: &BTreeMap<usize, Vec<usize>>) -> BTreeSet<usize> {
        let mut reads: BTreeMap<&str, Vec<(u64, Position)>> = BTreeMap::new();
        for (_, read) in self.reads() {
            if let (Some(key), Some(done), Some(served)) = (&read.key, read.ended, read.served) {
                reads.entry(key).or_default().push((done, served));
            }
        }
        for list in reads.values_mut() {
            list.sort_unstable_by_key(|(done, _)| std::cmp::Reverse(*done));
        }
        let last_shown = |write: usize| {
            let write = &self.truth.calls[write];
            let (key, entry) = (write.key.as_deref()?, write.created?);
            let mut latest_first = reads.get(key)?.iter();
            latest_first
                .find(|(_, served)| self.holds(*served, entry))
                .map(|(done, _)| *done)
        };
        let mut shown: BTreeMap<usize, Option<u64>> = BTreeMap::new();
        missed
            .iter()
            .filter(|(read, writes)| {
                let ended = self.truth.calls[**read].ended;
                writes
                    .iter()
                    .any(|w| *shown.entry(*w).or_insert_with(|| last_shown(*w)) > ended)
            })
            .map(|(read, _)| *read)
            .collect()
    }

    /// The newest change of the read's key in the state that answered it, as a call.
    pub fn seen(&self, read: usize) -> Option<usize> {
        let call = &self.truth.calls[read];
        let (key, served) = (call.key.as_ref()?, call.served?);
        let entries = self.entries.get(&**key)?;
        entries
            .iter()
            .find(|(entry, _)| self.holds(served, *entry))
            .map(|(_, call)| *call)
    }

    /// Reads whose state lacked a write of the same process and key that had been acknowledged
    /// before. `processes`: of each call.
    pub fn own_missed(&self, processes: &[u64]) -> BTreeSet<usize> {
        let mut own: BTreeMap<(u64, &str), Vec<(u64, Position)>> = BTreeMap::new();
        for (key, writes) in &self.writes {
            for (done, entry, call) in writes {
                let of = (processes[*call], *key);
                own.entry(of).or_default().push((*done, *entry));
            }
        }
        let misses = |(i, read): &(usize, &CallTruth)| {
            let (Some(key), Some(served)) = (read.key.as_deref(), read.served) else {
                return false;
            };
            let mut writes = own.get(&(processes[*i], key)).into_iter().flatten();
            writes.any(|(done, entry)| *done < read.began && !self.holds(served, *entry))
        };
        self.reads().filter(misses).map(|(i, _)| i).collect()
    }

    /// Reads whose state lacked something that an earlier read of the same process and key had
    /// been shown. A log that holds an entry holds all before it, so that the newest is enough.
    pub fn gone_back(&self, processes: &[u64]) -> BTreeSet<usize> {
        let mut shown: BTreeMap<(u64, &str), Vec<Position>> = BTreeMap::new();
        let mut back = BTreeSet::new();
        // Reads of one process follow one another, in the order of their calls.
        for (i, read) in self.reads() {
            let (Some(key), Some(served)) = (read.key.as_deref(), read.served) else {
                continue;
            };
            let before = shown.entry((processes[i], key)).or_default();
            if before.iter().any(|entry| !self.holds(served, *entry)) {
                back.insert(i);
            }
            let newest = self.seen(i).and_then(|call| self.truth.calls[call].created);
            if let Some(newest) = newest
                && before.last() != Some(&newest)
            {
                before.push(newest);
            }
        }
        back
    }

    fn reads(&self) -> impl Iterator<Item = (usize, &CallTruth)> {
        self.truth
            .calls
            .iter()
            .enumerate()
            .filter(|(_, c)| c.acknowledged && !c.write && !c.inspection)
    }

    /// Two leaders at once, as clients could see it: an acknowledged write that was invoked after
    /// another node had acknowledged one in an epoch at least as high.
    pub fn split_brain(&self) -> bool {
        // (place of the acknowledgement, epoch, node), in order; for each prefix the highest epoch and the
        // highest one of any other node than that epoch's.
        let mut done: Vec<(u64, u64, u16)> = self
            .acknowledged_writes()
            .filter_map(|c| Some((c.ended?, c.epoch?, c.node)))
            .collect();
        done.sort_unstable();
        let mut best: Vec<[Option<(u64, u16)>; 2]> = Vec::with_capacity(done.len());
        let mut top: [Option<(u64, u16)>; 2] = [None, None];
        for &(_, epoch, node) in &done {
            match top[0] {
                Some((e, n)) if n == node => top[0] = Some((e.max(epoch), n)),
                Some((e, n)) if epoch > e => top = [Some((epoch, node)), Some((e, n))],
                Some(_) if top[1].is_none_or(|(e, _)| epoch > e) => top[1] = Some((epoch, node)),
                Some(_) => {}
                None => top[0] = Some((epoch, node)),
            }
            if let [Some(a), Some(b)] = top
                && b.0 > a.0
            {
                top = [Some(b), Some(a)];
            }
            best.push(top);
        }
        self.acknowledged_writes().any(|c| {
            let before = done.partition_point(|(at, ..)| *at < c.began);
            let Some(epoch) = c.epoch else { return false };
            before.checked_sub(1).is_some_and(|i| {
                best[i]
                    .iter()
                    .flatten()
                    .any(|(theirs, node)| *node != c.node && *theirs >= epoch)
            })
        })
    }

    /// Whether any two replicas that hold the same keys hold different things, or one has stopped
    /// replicating. None if some replica holds keys of its own, whose digest says nothing.
    pub fn diverged(&self) -> Option<bool> {
        let replicas = &self.truth.replicas;
        if replicas.iter().any(|r| r.stopped) {
            return Some(true);
        }
        let first = replicas.first()?;
        if replicas.iter().any(|r| r.scope != first.scope) {
            return None;
        }
        Some(replicas.iter().any(|r| r.digest != first.digest))
    }

    fn acknowledged_writes(&self) -> impl Iterator<Item = &CallTruth> {
        self.truth
            .calls
            .iter()
            .filter(|c| c.acknowledged && c.write)
    }

    /// A certificate of linearizability, independent of any search: true if putting every change
    /// at the moment its entry was created and every read at the moment it was served explains
    /// everything clients saw in the one log that survived. False proves nothing.
    pub fn certifies_linearizable(&self) -> bool {
        let survives = |p: Position| p.index == 0 || self.survives(p);
        self.reads().all(|(_, c)| c.served.is_none_or(survives))
            && self.lost().is_empty()
            && self.missed().is_empty()
            && self.reads_are_monotonic()
    }

    /// No acknowledged read saw less of the log than one that ended before it began.
    fn reads_are_monotonic(&self) -> bool {
        let mut seen: Vec<(u64, u64)> = self
            .reads()
            .filter_map(|(_, c)| Some((c.ended?, c.served?.index)))
            .collect();
        seen.sort_unstable();
        let mut highest = 0;
        for entry in &mut seen {
            highest = highest.max(entry.1);
            entry.1 = highest;
        }
        self.reads().all(|(_, c)| {
            let before = seen.partition_point(|(done, _)| *done < c.began);
            let floor = before.checked_sub(1).map_or(0, |i| seen[i].1);
            c.served.is_none_or(|p| p.index >= floor)
        })
    }
}

#[cfg(test)]
mod tests {
    use reference_cluster::core::Position;

    use super::{Oracle, Truth};

    fn at(epoch: u64, leader: u16, index: u64) -> Position {
        Position {
            epoch,
            leader,
            index,
        }
    }

    /// n1 makes entries 1 to 6; n2 goes on after 4, and n3 after n2's 7. n3's log survived.
    fn truth() -> Truth {
        let mut truth = Truth {
            one_log: true,
            survived: at(3, 3, 9),
            ..Truth::default()
        };
        let logs = [
            (at(0, 0, 0), 1, 1, 1..=6),
            (at(1, 1, 4), 2, 2, 5..=8),
            (at(2, 2, 7), 3, 3, 8..=9),
        ];
        for (mut previous, epoch, leader, indices) in logs {
            for index in indices {
                truth.grow(at(epoch, leader, index), previous);
                previous = at(epoch, leader, index);
            }
        }
        truth
    }

    #[test]
    fn one_beginning_a_leadership_is_enough() {
        let truth = truth();
        assert_eq!(truth.beginnings.len(), 3);
        let stretches: Vec<_> = truth.stretches(at(2, 2, 6)).collect();
        assert_eq!(
            stretches,
            [(at(2, 2, 5), at(2, 2, 6)), (at(1, 1, 1), at(1, 1, 4))]
        );
        assert_eq!(truth.stretches(Position::default()).count(), 0);
    }

    #[test]
    fn a_place_that_is_taken_twice_is_noticed() {
        let mut truth = truth();
        assert!(!truth.reused);
        truth.grow(at(3, 3, 10), at(3, 3, 9));
        truth.grow(at(3, 2, 10), at(3, 3, 9));
        assert!(!truth.reused);
        truth.grow(at(2, 2, 8), at(2, 2, 7));
        assert!(truth.reused);
    }

    #[test]
    fn a_state_holds_what_led_to_it() {
        let truth = truth();
        let oracle = Oracle::new(&truth);
        for (entry, survives) in [
            (at(1, 1, 4), true),
            (at(1, 1, 5), false),
            (at(2, 2, 5), true),
            (at(2, 2, 7), true),
            (at(2, 2, 8), false),
            (at(3, 3, 9), true),
            (at(3, 3, 10), false),
            (at(0, 0, 0), false),
        ] {
            assert_eq!(oracle.survives(entry), survives, "{entry:?}");
        }
        // In the log that survived, and in one that was discarded.
        assert!(oracle.holds(at(3, 3, 8), at(1, 1, 4)));
        assert!(!oracle.holds(at(3, 3, 8), at(3, 3, 9)));
        assert!(!oracle.holds(at(3, 3, 8), at(1, 1, 5)));
        assert!(oracle.holds(at(1, 1, 6), at(1, 1, 5)));
        assert!(!oracle.holds(at(1, 1, 5), at(1, 1, 6)));
        assert!(!oracle.holds(at(1, 1, 6), at(2, 2, 5)));
        assert!(oracle.holds(at(2, 2, 8), at(1, 1, 2)));
        assert!(!oracle.holds(Position::default(), at(1, 1, 1)));
    }
}
