//! A register checked while it runs, remembering only what may still matter.
//!
//! Operations are taken as they are invoked and answered. Now and then what was seen is decided (a
//! history that is not linearizable stays so, whatever comes), and then what can be forgotten is. Let `o`
//! be the first invocation among the operations under way: whatever is still to come, or to be answered,
//! began at `o` or later. Ends that are still to come lie after everything seen.
//!
//! *A block `A` is settled if `f(A) < o`, `s(A) < o`, and another block `B` has `f(B) < o` and
//! `f(A) < s(B)`.* `A` comes before `B`, and an operation that joins `A` from now on begins after `f(B)`, so
//! that `B` has to come before `A`, too: it is a violation, which is found without `A`, for it needs a value
//! that nobody wrote. Nor is `A` needed for what others do: a block `C` contradicts `A` only if `f(C) < s(A)`
//! and `f(A) < s(C)`. If `C` has no end yet, the first will never be. If it has, and `f(C) < s(A) < o`, then
//! `s(C) < f(A) < o` (or the two contradict each other already): so `A` settles `C`, which is forgotten with it.
//!
//! *A value of a block is settled if an operation on a level above those of its reads ended before `o`*:
//! who reads it from now on comes too late. The settled values are the first of the block; the first that
//! is not takes over their first end and their last beginning, and is the first of the block from then on.
//!
//! An unanswered compare-and-set that expects a settled value is forgotten: nobody can see its value any
//! more. An unanswered write that nobody has seen may be seen at any time: it is kept. So memory follows
//! what is under way, how long it has been, and how many writes were never answered nor seen.
//!
//! A value may be written again once it is forgotten: who reads it from then on cannot mean the old one.
//! Only if a compare-and-set that may still take effect expected it when it was forgotten, the two cannot be
//! told apart: then nothing more is known.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::{Id, NIL};
use super::decide::{self, Links};
use super::table::{Cluster, NEVER, PLAIN, Table};
use crate::Value;

/// What a client asks of the register.
#[derive(Clone, Copy, Debug)]
pub enum Request<'v> {
    /// What it holds.
    Read,
    /// To hold this.
    Write(&'v Value),
    /// To hold the second if it holds the first.
    Cas(&'v Value, &'v Value),
}

/// What the client hears.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'v> {
    /// The write took effect; or the compare-and-set did.
    Done,
    /// The register held this.
    Shown(&'v Value),
    /// It certainly did not take effect. (Of a compare-and-set nothing more is concluded.)
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Online {
    /// There is an order of everything up to here.
    Linearizable,
    /// There is none: found at this event, counted from 0.
    NotLinearizable(u64),
    /// Nothing is known: a value was written again while the first might still be seen, or the events
    /// do not pair.
    Unknown,
}

#[derive(Clone, Copy)]
enum Pending {
    Read,
    Write(Id),
    /// A compare-and-set from a value to itself.
    Confirm(Id),
}

#[derive(Clone, Copy)]
struct Open {
    call: u64,
    pending: Pending,
}

/// One register; see the [module](self).
pub struct Watch {
    table: Table,
    ids: FxHashMap<Value, Id>,
    /// Forgotten values that a compare-and-set expects which may still take effect.
    expected: FxHashSet<Value>,
    /// By process.
    open: FxHashMap<u64, Open>,
    position: u64,
    state: Online,
    /// Values remembered before it is looked what can be forgotten, at least.
    room: usize,
    next_look: usize,
}

/// Where values are that were forgotten: nobody ever wrote it.
const FORGOTTEN: Id = 1;

impl Default for Watch {
    fn default() -> Self {
        Self::with_room(4096)
    }
}

impl Watch {
    /// `room`: how many values are remembered before it is looked what can be forgotten, at least.
    pub fn with_room(room: usize) -> Self {
        let mut table = Table::default();
        table.clusters.push(Cluster::UNKNOWN);
        Self {
            table,
            ids: FxHashMap::default(),
            expected: FxHashSet::default(),
            open: FxHashMap::default(),
            position: 0,
            state: Online::Linearizable,
            room,
            next_look: room,
        }
    }

    /// A process, which has no other operation under way, asks.
    pub fn invoke(&mut self, process: u64, request: Request<'_>) {
        let call = self.position;
        self.position += 1;
        if let Request::Write(value) | Request::Cas(_, value) = request
            && self.expected.contains(value)
        {
            self.state = Online::Unknown;
        }
        let pending = match request {
            Request::Read => Pending::Read,
            Request::Write(value) => {
                let value = self.id(value);
                self.table.write(value, call, None);
                Pending::Write(value)
            }
            Request::Cas(old, new) => {
                let (old, new) = (self.id(old), self.id(new));
                if old == new {
                    Pending::Confirm(old)
                } else {
                    self.table.cas(old, new, call, None);
                    Pending::Write(new)
                }
            }
        };
        if self.open.insert(process, Open { call, pending }).is_some() || !self.table.is_unique() {
            self.state = Online::Unknown;
        }
    }

    /// What a process asked is answered.
    pub fn answer(&mut self, process: u64, answer: Answer<'_>) {
        let end = self.position;
        self.position += 1;
        let Some(open) = self.open.remove(&process) else {
            self.state = Online::Unknown;
            return;
        };
        match (open.pending, answer) {
            (Pending::Read, Answer::Shown(value)) => {
                let value = self.id(value);
                self.table.read(value, open.call, end);
            }
            (Pending::Confirm(value), Answer::Done) => self.table.read(value, open.call, end),
            (Pending::Write(value), Answer::Done) => self.table.answered(value, end),
            (Pending::Write(value), Answer::Failed) => self.table.take_back(value),
            _ => {}
        }
        if self.table.clusters.len() >= self.next_look {
            self.look();
        }
    }

    /// Decides what was seen so far.
    pub fn look(&mut self) -> Online {
        if self.state == Online::Linearizable {
            match self.table.decide() {
                Some(Ok(())) => self.forget(),
                Some(Err(_)) => {
                    self.state = Online::NotLinearizable(self.position.saturating_sub(1));
                }
                None => self.state = Online::Unknown,
            }
        }
        self.next_look = self.room.max(2 * self.table.clusters.len());
        self.state
    }

    /// How many values are remembered.
    pub fn remembered(&self) -> usize {
        self.table.clusters.len()
    }

    fn id(&mut self, value: &Value) -> Id {
        if value.is_nil() {
            return NIL;
        }
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = self.table.clusters.len() as Id;
        self.table.clusters.push(Cluster::UNKNOWN);
        self.ids.insert(value.clone(), id);
        id
    }

    /// Forgets what is settled, of a table that is linearizable.
    fn forget(&mut self) {
        let Ok(links) = decide::links(&self.table) else {
            return;
        };
        let first_call = self.open.values().map(|open| open.call).min();
        let Ok(first_call) = u32::try_from(first_call.unwrap_or(self.position) + 1) else {
            return;
        };
        let kept = self.kept(&links, first_call);
        let mut expected = vec![false; kept.len()];
        for (value, cluster) in self.table.clusters.iter().enumerate() {
            if cluster.old != PLAIN && !links.is_needed(value as Id) {
                expected[cluster.old as usize] = true;
            }
        }
        for open in self.open.values() {
            if let Pending::Confirm(value) = open.pending {
                expected[value as usize] = true;
            }
        }
        let mut number = vec![FORGOTTEN; kept.len()];
        let mut clusters = vec![kept[0].unwrap_or(Cluster::UNKNOWN), Cluster::UNKNOWN];
        number[NIL as usize] = NIL;
        for (value, cluster) in kept.into_iter().enumerate().skip(2) {
            if let Some(cluster) = cluster {
                number[value] = clusters.len() as Id;
                clusters.push(cluster);
            }
        }
        for cluster in &mut clusters {
            if cluster.old != PLAIN {
                cluster.old = number[cluster.old as usize];
            }
        }
        self.table.clusters = clusters;
        for open in self.open.values_mut() {
            match &mut open.pending {
                Pending::Write(value) | Pending::Confirm(value) => *value = number[*value as usize],
                Pending::Read => {}
            }
        }
        let still_expected = &mut self.expected;
        self.ids.retain(|value, id| {
            let was = *id as usize;
            *id = number[was];
            if *id == FORGOTTEN && expected[was] {
                still_expected.insert(value.clone());
            }
            *id != FORGOTTEN
        });
    }

    /// By value: its cluster, if it may still matter.
    fn kept(&self, links: &Links, first_call: u32) -> Vec<Option<Cluster>> {
        let clusters = &self.table.clusters;
        let mut kept: Vec<Option<Cluster>> = vec![None; clusters.len()];
        let in_block = |value: usize| clusters[value].is_written() && links.is_needed(value as Id);
        let roots = (0..clusters.len()).filter(|&v| in_block(v) && clusters[v].old == PLAIN);
        let zones: Vec<_> = roots
            .filter_map(|root| decide::block(&self.table, links, root as Id).ok())
            .map(|(zone, _)| zone)
            .collect();
        // The two that begin last of the blocks of which something ended before `first_call`.
        let (mut latest, mut second) = ((0, PLAIN), 0);
        for zone in zones.iter().filter(|zone| zone.first_end < first_call) {
            if zone.last_call >= latest.0 {
                second = latest.0;
                latest = (zone.last_call, zone.root);
            } else {
                second = second.max(zone.last_call);
            }
        }
        for zone in &zones {
            let other = if latest.1 == zone.root {
                second
            } else {
                latest.0
            };
            let is_past = zone.first_end.max(zone.last_call) < first_call;
            if !is_past || other <= zone.first_end {
                self.keep_block(links, zone.root, first_call, &mut kept);
            }
        }
        let mut under_way = vec![false; clusters.len()];
        for open in self.open.values() {
            if let Pending::Write(value) | Pending::Confirm(value) = open.pending {
                under_way[value as usize] = true;
            }
        }
        // What nobody has seen yet, and what a compare-and-set under way expects.
        for (value, cluster) in clusters.iter().enumerate() {
            if in_block(value) || value == NIL as usize || value == FORGOTTEN as usize {
                continue;
            }
            if !cluster.is_written() {
                if under_way[value] {
                    kept[value] = Some(*cluster);
                }
                continue;
            }
            let expected = (cluster.old != PLAIN).then_some(cluster.old as usize);
            let lost = |old: usize| {
                let old_cluster = &clusters[old];
                old == FORGOTTEN as usize || in_block(old) && kept[old].is_none() || {
                    old == NIL as usize && !old_cluster.is_written()
                }
            };
            if under_way[value] || !expected.is_some_and(lost) {
                kept[value] = Some(*cluster);
                // Somebody may yet write what it expects.
                if let Some(old) = expected
                    && !clusters[old].is_written()
                    && old > FORGOTTEN as usize
                {
                    kept[old] = Some(clusters[old]);
                }
            }
        }
        kept
    }

    /// Keeps the values of a block that are not settled.
    fn keep_block(&self, links: &Links, root: Id, first_call: u32, kept: &mut [Option<Cluster>]) {
        let values: Vec<Id> =
            std::iter::successors(Some(root), |value| links.next(*value)).collect();
        // From the last value back: the first end above.
        let mut above = NEVER;
        let mut settled = 0;
        for (i, value) in values.iter().enumerate().rev() {
            if above < first_call {
                settled = i + 1;
                break;
            }
            above = above.min(self.table.of(*value).first_end());
        }
        let (mut end, mut call) = (NEVER, 0);
        for value in &values[..settled] {
            let cluster = self.table.of(*value);
            end = end.min(cluster.first_end());
            call = call.max(cluster.write_call).max(cluster.last_read_call);
        }
        for (i, value) in values.iter().enumerate().skip(settled) {
            let mut cluster = self.table.of(*value);
            if i == settled {
                cluster.old = PLAIN;
                cluster.write_end = cluster.write_end.min(end);
                cluster.write_call = cluster.write_call.max(call);
            }
            kept[*value as usize] = Some(cluster);
        }
    }
}
