//! The few operations that a conflict rests on.

use super::super::{Id, NIL};
use super::decide::{Conflict, Links};
use super::table::{PLAIN, Table};

/// One instant of each operation (its invocation or its completion): positions in the history,
/// ascending.
///
/// No order of these operations alone exists: whatever value one of them needs, the writes that lead
/// to it are among them, and so is something completed that needs a pending one.
pub(super) fn positions(table: &Table, conflict: Conflict) -> Vec<u64> {
    let mut core = Core::new(table);
    match conflict {
        Conflict::Unwritten(value) if table.of(value).is_written() => core.write(value),
        Conflict::Unwritten(value) => core.ends_before(&[value], u32::MAX),
        Conflict::TwoSuccessors(a, b) => {
            core.write(a);
            core.write(b);
        }
        Conflict::Cycle(value) => core.write(value),
        Conflict::Within(late, early) => {
            let (write, read) = (core.write_call(late), core.last_read_call(late));
            let is_write = late == early || write.instant > read.instant;
            let last = if is_write { write } else { read };
            core.op(late, last);
            core.ends_before(&[early], last.instant);
        }
        Conflict::Between(a, b) => {
            core.before(a, b);
            core.before(b, a);
        }
        Conflict::Refused(i) => {
            let refused = table.refused[i];
            core.instants.push(refused.call);
            core.ends_before(&core.chain(refused.value), refused.call);
            let read = core.last_read_call(refused.value);
            if read.instant > refused.end {
                core.op(refused.value, read);
            } else if let Some(next) = core.links.next(refused.value) {
                core.write(next);
            }
        }
    }
    core.finish()
}

struct Core<'t> {
    table: &'t Table,
    links: Links,
    /// By value whose write is needed: the one that it was first needed for, itself if for none.
    needed_for: Vec<Id>,
    instants: Vec<u32>,
}

impl<'t> Core<'t> {
    fn new(table: &'t Table) -> Self {
        let mut needed_for = vec![PLAIN; table.clusters.len()];
        for (value, cluster) in table.clusters.iter().enumerate() {
            let (mut value, mut needs) = (value as Id, value as Id);
            if !cluster.is_certain() {
                continue;
            }
            while needed_for[value as usize] == PLAIN {
                needed_for[value as usize] = needs;
                needs = value;
                match table.old(value) {
                    Some(old) => value = old,
                    None => break,
                }
            }
        }
        let mut next = vec![PLAIN; table.clusters.len()];
        for (value, needs) in needed_for.iter().enumerate() {
            if let Some(old) = table.old(value as Id)
                && *needs != PLAIN
            {
                next[old as usize] = value as Id;
            }
        }
        Self {
            table,
            links: Links {
                next,
                needed: Vec::new(),
            },
            needed_for,
            instants: Vec::new(),
        }
    }

    fn finish(mut self) -> Vec<u64> {
        self.instants.sort_unstable();
        self.instants.dedup();
        let positions = self.instants.into_iter();
        positions
            .map(|instant| u64::from(instant.saturating_sub(1)))
            .collect()
    }

    /// The write of a value, those that lead to it, and what shows that it took effect.
    fn write(&mut self, value: Id) {
        let mut shown = value;
        while self.table.of(shown).write_end == u32::MAX {
            if self.table.of(shown).is_read() {
                self.instants.push(self.table.of(shown).first_read_end);
                break;
            }
            let of = self.needed_for.get(shown as usize).copied();
            match of.filter(|of| *of != PLAIN && *of != shown) {
                Some(of) => shown = of,
                None => break,
            }
        }
        self.writes_down_from(shown);
        self.writes_down_from(value);
    }

    fn writes_down_from(&mut self, value: Id) {
        let mut at = Some(value);
        let mut steps_left = self.table.clusters.len();
        while let Some(value) = at {
            let cluster = self.table.of(value);
            if value == NIL || !cluster.is_written() || steps_left == 0 {
                break;
            }
            steps_left -= 1;
            self.instants.push(cluster.write_call);
            at = self.table.old(value);
        }
    }

    /// An operation of the one block that ends before one of the other begins.
    fn before(&mut self, first: Id, second: Id) {
        let (first, second) = (self.chain(first), self.chain(second));
        let ends = first.iter().map(|v| self.table.of(*v).first_end());
        let first_end = ends.min().unwrap_or(0);
        let late = |&v: &Id| Some((v, self.late(v, first_end)?));
        if let Some((value, late)) = second.iter().find_map(late) {
            self.op(value, late);
            self.ends_before(&first, late.instant);
        }
    }

    /// An operation of one of these values that ended before an instant.
    fn ends_before(&mut self, values: &[Id], before: u32) {
        let early = values
            .iter()
            .find_map(|&v| Some((v, self.early(v, before)?)));
        if let Some((value, early)) = early {
            self.op(value, early);
        }
    }

    /// The value and those that came of it.
    fn chain(&self, root: Id) -> Vec<Id> {
        let chain = std::iter::successors(Some(root), |v| self.links.next(*v));
        chain.take(self.table.clusters.len()).collect()
    }

    /// An operation of this value that began after an instant, the write if possible.
    fn late(&self, value: Id, after: u32) -> Option<End> {
        let ends = [self.write_call(value), self.last_read_call(value)];
        ends.into_iter().find(|end| end.instant > after)
    }

    /// An operation of this value that ended before an instant, the write if possible.
    fn early(&self, value: Id, before: u32) -> Option<End> {
        let cluster = self.table.of(value);
        let ends = [
            End::of_write(cluster.write_end),
            End::of_read(cluster.first_read_end),
        ];
        ends.into_iter().find(|end| end.instant < before)
    }

    fn write_call(&self, value: Id) -> End {
        End::of_write(self.table.of(value).write_call)
    }

    fn last_read_call(&self, value: Id) -> End {
        End::of_read(self.table.of(value).last_read_call)
    }

    fn op(&mut self, value: Id, end: End) {
        if end.is_read {
            self.instants.push(end.instant);
            self.writes_down_from(value);
        } else {
            self.write(value);
        }
    }
}

/// Where an operation begins or ends.
#[derive(Clone, Copy)]
struct End {
    instant: u32,
    is_read: bool,
}

impl End {
    fn of_write(instant: u32) -> Self {
        let is_read = false;
        Self { instant, is_read }
    }

    fn of_read(instant: u32) -> Self {
        let is_read = true;
        Self { instant, is_read }
    }
}
