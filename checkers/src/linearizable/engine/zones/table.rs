//! What a decision needs to know of a register: one small record a value.

use super::super::{Action, Id, NIL, Op};

/// No such instant: the end of a pending write, the end of the first of no reads.
pub(crate) const NEVER: u32 = u32::MAX;

/// In place of the expected value: a plain write.
pub(crate) const PLAIN: Id = Id::MAX;

/// The writer of one value and the reads of it (its *cluster*). Instants are positions in the
/// history, plus one: zero is before all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster {
    /// When the write was invoked; [`NEVER`] if nobody wrote the value.
    pub(crate) write_call: u32,
    /// When it completed; [`NEVER`] if it is pending.
    pub(crate) write_end: u32,
    /// When the last read to begin began; 0 without reads.
    pub(crate) last_read_call: u32,
    /// When the first read to end ended; [`NEVER`] without reads.
    pub(crate) first_read_end: u32,
    /// What the compare-and-set that wrote the value expected; [`PLAIN`] of a plain write.
    pub(crate) old: Id,
}

impl Cluster {
    pub(super) const UNKNOWN: Self = Self {
        write_call: NEVER,
        write_end: NEVER,
        last_read_call: 0,
        first_read_end: NEVER,
        old: PLAIN,
    };

    /// The initial value is as good as written before everything.
    const INITIAL: Self = Self {
        write_call: 0,
        write_end: 0,
        ..Self::UNKNOWN
    };

    pub(crate) fn is_written(&self) -> bool {
        self.write_call != NEVER
    }

    pub(crate) fn is_read(&self) -> bool {
        self.first_read_end != NEVER
    }

    /// Whether its write certainly took effect: it completed, or was read.
    pub(crate) fn is_certain(&self) -> bool {
        self.is_written() && (self.write_end != NEVER || self.is_read())
    }

    /// When the first of its operations to end ended.
    pub(crate) fn first_end(&self) -> u32 {
        self.write_end.min(self.first_read_end)
    }
}

/// A compare-and-set that was refused: the register did not hold the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) value: Id,
    pub(crate) call: u32,
    pub(crate) end: u32,
}

/// The clusters of one register, filled operation by operation in any order.
///
/// Reads leave nothing behind but the minimum and maximum of their value: the table takes 20 bytes
/// a value, whatever the number of operations. Values should be numbered densely, best in the
/// order in which they appear: the table is as long as the greatest.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) has_cas: bool,
    pub(crate) has_pending: bool,
    /// A value was written twice, or a position does not fit.
    unfit: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            clusters: vec![Cluster::INITIAL],
            refused: Vec::new(),
            has_cas: false,
            has_pending: false,
            unfit: false,
        }
    }
}

impl Table {
    /// An empty one, with room for this many values.
    pub fn with_capacity(values: usize) -> Self {
        let mut table = Self::default();
        table.clusters.reserve(values);
        table
    }

    /// Whether every value was written by at most one operation, and the initial one by none: only
    /// then can anything be decided. (Positions must fit into 32 bits, too.)
    pub fn is_unique(&self) -> bool {
        !self.unfit
    }

    /// Takes note of a read that completed.
    pub fn read(&mut self, value: Id, call: u64, end: u64) {
        let (call, end) = (self.instant(call), self.instant(end));
        let cluster = self.cluster(value);
        cluster.last_read_call = cluster.last_read_call.max(call);
        cluster.first_read_end = cluster.first_read_end.min(end);
    }

    /// Takes note of a write; without end it is pending.
    pub fn write(&mut self, value: Id, call: u64, end: Option<u64>) {
        self.written(value, PLAIN, call, end);
    }

    /// Takes note of a compare-and-set that set the value; without end it is pending.
    ///
    /// One from a value to itself changes nothing: it is a read if it completed, and nothing if it
    /// is pending.
    pub fn cas(&mut self, old: Id, new: Id, call: u64, end: Option<u64>) {
        if old != new {
            // Known to exist, should nobody write it.
            self.cluster(old);
            self.has_cas = true;
            self.written(new, old, call, end);
        } else if let Some(end) = end {
            self.read(old, call, end);
        }
    }

    /// Takes note of a compare-and-set that was refused because the register held another value.
    pub fn cas_refused(&mut self, value: Id, call: u64, end: u64) {
        let (call, end) = (self.instant(call), self.instant(end));
        self.refused.push(Refused { value, call, end });
    }

    /// Takes note of an operation. A pending one that changes nothing is nothing; `None` if it is
    /// none of a register.
    pub(super) fn add(&mut self, op: &Op, mut id: impl FnMut(Id) -> Id) -> Option<()> {
        match (&op.action, op.completion) {
            (Action::Read(value), Some(end)) => self.read(id(*value), op.call, end),
            (Action::CasRefused(value), Some(end)) => {
                self.cas_refused(id(*value), op.call, end);
            }
            (Action::Read(_) | Action::CasRefused(_), None) => {}
            (Action::Write(value), end) => self.write(id(*value), op.call, end),
            (Action::Cas(old, new), end) => self.cas(id(*old), id(*new), op.call, end),
            _ => return None,
        }
        Some(())
    }

    fn written(&mut self, value: Id, old: Id, call: u64, end: Option<u64>) {
        let call = self.instant(call);
        let end = end.map_or(NEVER, |end| self.instant(end));
        self.has_pending |= end == NEVER;
        let cluster = self.cluster(value);
        let again = cluster.is_written() || value == NIL;
        if !again {
            cluster.write_call = call;
            cluster.write_end = end;
            cluster.old = old;
        }
        self.unfit |= again;
    }

    /// Takes note that the pending write of this value completed.
    pub(super) fn answered(&mut self, value: Id, end: u64) {
        let end = self.instant(end);
        let cluster = self.cluster(value);
        cluster.write_end = cluster.write_end.min(end);
    }

    /// Forgets the pending write of this value: it did not take effect.
    pub(super) fn take_back(&mut self, value: Id) {
        let cluster = self.cluster(value);
        cluster.write_call = NEVER;
        cluster.old = PLAIN;
    }

    fn instant(&mut self, position: u64) -> u32 {
        match u32::try_from(position) {
            Ok(position) if position < NEVER - 1 => position + 1,
            _ => {
                self.unfit = true;
                1
            }
        }
    }

    fn cluster(&mut self, value: Id) -> &mut Cluster {
        let at = value as usize;
        if at >= self.clusters.len() {
            self.clusters.resize(at + 1, Cluster::UNKNOWN);
        }
        &mut self.clusters[at]
    }

    pub(crate) fn of(&self, value: Id) -> Cluster {
        let known = self.clusters.get(value as usize);
        known.copied().unwrap_or(Cluster::UNKNOWN)
    }

    /// The value that the writer of this one replaced, if it was a compare-and-set.
    pub(crate) fn old(&self, value: Id) -> Option<Id> {
        Some(self.of(value).old).filter(|old| *old != PLAIN)
    }
}
