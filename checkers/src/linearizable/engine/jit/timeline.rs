//! Calls and completions in the order of the history, and a slot for every operation while it is
//! open.

/// Of an operation without slot, or without completion.
pub(super) const NONE: u32 = u32::MAX;

/// What happens at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An operation begins.
    Call(u32),
    /// An operation completes.
    End(u32),
}

/// The history as the engine goes through it.
pub(super) struct Timeline {
    /// Twice the operation, plus one at its completion.
    entries: Vec<u32>,
    /// By operation: where it is while it is open; [`NONE`] of pending ones, which stay open.
    pub(super) slots: Vec<u32>,
    /// By operation: the entry of its completion, or [`NONE`]. The smaller of two is the earlier
    /// deadline.
    pub(super) ends: Vec<u32>,
    /// Slots in all: the most operations that are open at once, pending ones not counted.
    pub(super) width: usize,
}

/// An instant and what happens at it; calls come before completions of the same instant, so that
/// what touches counts as concurrent.
type Instant = (u64, bool, u32);

impl Timeline {
    /// Of operations `(call, completion)`. Those that are to be left out are `None`.
    ///
    /// # Errors
    ///
    /// An operation that completes before it began, or more operations than can be numbered.
    pub(super) fn new(
        spans: impl ExactSizeIterator<Item = Option<(u64, Option<u64>)>> + Clone,
    ) -> Result<Self, &'static str> {
        let count = spans.len();
        if count >= (NONE / 4) as usize {
            return Err("too many operations");
        }
        let mut ends = vec![NONE; count];
        let mut slots = vec![NONE; count];
        let entries = Self::placed(spans.clone(), count).map_or_else(|| Self::sorted(spans), Ok)?;
        let mut free: Vec<u32> = Vec::new();
        let mut width = 0;
        for (at, entry) in entries.iter().enumerate() {
            if entry & 1 == 1 {
                ends[*entry as usize / 2] = at as u32;
            }
        }
        for entry in &entries {
            let op = *entry as usize / 2;
            if ends[op] == NONE {
                continue;
            }
            if entry & 1 == 1 {
                free.push(slots[op]);
            } else {
                slots[op] = free.pop().unwrap_or_else(|| {
                    width += 1;
                    width as u32 - 1
                });
            }
        }
        Ok(Self {
            entries,
            slots,
            ends,
            width,
        })
    }

    /// Where the instants are about as dense as positions in a history: without sorting.
    fn placed(
        spans: impl Iterator<Item = Option<(u64, Option<u64>)>>,
        count: usize,
    ) -> Option<Vec<u32>> {
        let mut at: Vec<u32> = vec![NONE; 2 * count + 64];
        let room = 8 * count + 1024;
        let mut place = |instant: u64, entry: u32| -> Option<()> {
            let instant = usize::try_from(instant).ok().filter(|i| *i < room)?;
            if at.len() <= instant {
                at.resize((2 * instant).min(room), NONE);
            }
            let cell = &mut at[instant];
            (*cell == NONE).then(|| *cell = entry)
        };
        for (op, span) in spans.enumerate() {
            let Some((call, completion)) = span else {
                continue;
            };
            place(call, 2 * op as u32)?;
            if let Some(end) = completion {
                (end > call).then_some(())?;
                place(end, 2 * op as u32 + 1)?;
            }
        }
        at.retain(|entry| *entry != NONE);
        Some(at)
    }

    fn sorted(
        spans: impl Iterator<Item = Option<(u64, Option<u64>)>>,
    ) -> Result<Vec<u32>, &'static str> {
        let mut instants: Vec<Instant> = Vec::new();
        for (op, span) in spans.enumerate() {
            let Some((call, completion)) = span else {
                continue;
            };
            instants.push((call, false, op as u32));
            if let Some(end) = completion {
                if end < call {
                    return Err("an operation completes before it begins");
                }
                instants.push((end, true, op as u32));
            }
        }
        instants.sort_unstable();
        let entry = |(_, ends, op): Instant| 2 * op + u32::from(ends);
        Ok(instants.into_iter().map(entry).collect())
    }

    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = Entry> {
        self.entries.iter().map(|entry| match entry & 1 {
            0 => Entry::Call(entry / 2),
            _ => Entry::End(entry / 2),
        })
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        4 * (self.entries.len() + self.slots.len() + self.ends.len()) as u64
    }
}
