//! One element, and the reads in the order in which they began.

use crate::Value;

/// No read, or no operation.
pub(super) const NONE: u32 = u32::MAX;

/// One value of the key and what became of it. Operations by position among the operations, reads
/// by position among the reads of the key.
pub(super) struct Element<'a> {
    pub(super) value: &'a Value,
    /// The write that began first, of those that may have taken effect; if none may, one that
    /// failed, if there is one.
    pub(super) write: u32,
    /// Writes that may have taken effect.
    pub(super) possible: u32,
    /// The write acknowledged first.
    pub(super) acknowledged: u32,
    /// Occurrences in the read being looked at.
    pub(super) here: u32,
    /// The first read of the run of reads that show it, which may still go on.
    pub(super) since: u32,
    /// The last read of the run, once it has ended.
    pub(super) last: u32,
    /// Of the reads that show it the one that ended first.
    pub(super) shown: u32,
    /// Of the reads that began after `shown` had ended and miss it, the one that ended first.
    pub(super) missed: u32,
    pub(super) flags: Flags,
}

/// Independent findings on an element.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent findings, not a state"
)]
#[derive(Clone, Copy, Default)]
pub(super) struct Flags {
    /// Shown by a read that had not ended when the last one began.
    pub(super) recent: bool,
    /// Shown, missed, and shown again.
    pub(super) reappeared: bool,
    pub(super) duplicated: bool,
    pub(super) unexpected: bool,
}

impl<'a> Element<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        Self {
            value,
            write: NONE,
            possible: 0,
            acknowledged: NONE,
            here: 0,
            since: NONE,
            last: NONE,
            shown: NONE,
            missed: NONE,
            flags: Flags::default(),
        }
    }
}

/// A read of the key. Positions are those of the history.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) op: usize,
    pub(super) began: usize,
    pub(super) ended: usize,
    pub(super) items: &'a [Value],
}

/// The reads so far, by their beginning, with what is needed to find the one among the last of them
/// that ended first.
#[derive(Default)]
pub(super) struct Reads<'a> {
    pub(super) all: Vec<Read<'a>>,
    /// Reads that end before every later one does, ascending.
    first_to_end: Vec<u32>,
}

impl<'a> Reads<'a> {
    pub(super) fn push(&mut self, read: Read<'a>) {
        let Self { all, first_to_end } = self;
        while let Some(&last) = first_to_end.last()
            && all[last as usize].ended > read.ended
        {
            first_to_end.pop();
        }
        first_to_end.push(all.len() as u32);
        all.push(read);
    }

    pub(super) fn get(&self, read: u32) -> Option<&Read<'a>> {
        self.all.get(read as usize)
    }

    /// Of the reads from this one on the one that ended first.
    pub(super) fn first_ended_since(&self, from: u32) -> Option<u32> {
        let at = self.first_to_end.partition_point(|&read| read < from);
        self.first_to_end.get(at).copied()
    }

    /// The first read that began after a position.
    pub(super) fn first_after(&self, position: usize) -> u32 {
        self.all.partition_point(|read| read.began <= position) as u32
    }

    /// Of two reads the one that ended first.
    pub(super) fn earlier(&self, a: u32, b: u32) -> u32 {
        match (self.get(a), self.get(b)) {
            (Some(x), Some(y)) if y.ended < x.ended => b,
            (None, _) => b,
            _ => a,
        }
    }
}
