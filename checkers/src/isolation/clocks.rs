//! Causality: session order and reads-from, in any number of steps.
//!
//! A transaction's causal past is a prefix of every session, so that one number a session says it:
//! a vector clock. [`walk`] computes them in an order in which causes come first, and forgets a
//! clock as soon as everybody who read from its transaction has been visited: memory follows what
//! is still to be read, not the history.
//!
//! [`causal`] gives the pairs that the axiom of causal consistency asks for (see
//! [`super::levels`]): `t3` read `x` from `t1`, and `t2`, which wrote `x`, is in its causal past.
//! Of each session only the last such `t2` counts, since the others are before it in session order;
//! and none that is in the causal past of `t1`, since it is before `t1` already. So there is at
//! most one pair for each read and session, found in the writes of that session to that key:
//! `O(n·k)` for `n` operations in `k` sessions, times a logarithm where the last place looked at is
//! far off.

use super::execution::{Execution, Grouped, INITIAL};
use super::levels::Edge;

/// What one analysis may cost, as the number of entries of vector clocks that it goes through.
pub(crate) const ENTRIES_MAX: u64 = 40_000_000_000;

/// What the clocks that are remembered may take, in entries of 4 bytes.
const REMEMBERED_MAX: usize = 1 << 29;

const NONE: u32 = u32::MAX;

/// All transactions, causes first; `None` if causality has a cycle.
///
/// Follows the order of the history as far as it can.
pub(crate) fn causes_first(e: &Execution) -> Option<Vec<u32>> {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut state = vec![NEW; e.txns() as usize];
    let mut order = Vec::with_capacity(e.txns() as usize);
    // A transaction, and how many of its causes have been seen to; the first is that before it in
    // its session.
    let mut stack: Vec<(u32, usize)> = Vec::new();
    for &root in &e.order {
        if state[root as usize] != NEW {
            continue;
        }
        state[root as usize] = OPEN;
        stack.push((root, 0));
        while let Some((txn, seen)) = stack.last_mut() {
            let cause = match *seen {
                0 => e.previous(*txn).unwrap_or(NONE),
                n => match e.sources(*txn).get(n - 1) {
                    Some(&cause) => cause,
                    None => {
                        state[*txn as usize] = DONE;
                        order.push(*txn);
                        stack.pop();
                        continue;
                    }
                },
            };
            *seen += 1;
            if cause == NONE {
                continue;
            }
            match state[cause as usize] {
                NEW => {
                    state[cause as usize] = OPEN;
                    stack.push((cause, 0));
                }
                OPEN => return None,
                _ => {}
            }
        }
    }
    Some(order)
}

/// A clock: of every session, the number after that of the last transaction in the past.
/// (Numbers ascend from session to session: what is below the session's own means none.)
pub(crate) type Clock = [u32];

/// The clocks that are still needed.
pub(crate) struct Clocks {
    sessions: usize,
    entries: Vec<u32>,
    free: Vec<u32>,
    slot_of: Vec<u32>,
}

impl Clocks {
    fn at(&self, slot: u32) -> &Clock {
        &self.entries[slot as usize * self.sessions..][..self.sessions]
    }

    /// The causal past of a transaction that the one visited reads from, itself included.
    pub(crate) fn of(&self, source: u32) -> &Clock {
        self.at(self.slot_of[source as usize])
    }

    fn take(&mut self) -> Result<u32, String> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        let slot = self.entries.len() / self.sessions;
        if self.entries.len() + self.sessions > REMEMBERED_MAX {
            return Err(format!(
                "budget: {slot} vector clocks of {} sessions take 2 GiB; fewer sessions would do",
                self.sessions
            ));
        }
        self.entries.resize(self.entries.len() + self.sessions, 0);
        Ok(slot as u32)
    }
}

/// Visits every transaction, causes first, with its clock: what is before it, without itself.
///
/// # Errors
///
/// The reason of the verdict `unknown`, if it would cost too much.
pub(crate) fn walk(
    e: &Execution,
    order: &[u32],
    mut visit: impl FnMut(u32, &Clock, &Clocks),
) -> Result<(), String> {
    let sessions = e.sessions() as usize;
    let mut readers = vec![0_u32; e.txns() as usize];
    let mut joins = u64::from(e.txns());
    for txn in 0..e.txns() {
        for &source in e.sources(txn) {
            readers[source as usize] += 1;
            joins += 1;
        }
    }
    if joins * sessions as u64 > ENTRIES_MAX {
        return Err(format!(
            "budget: {} transactions of {sessions} sessions; fewer sessions would do",
            e.txns()
        ));
    }
    let mut clocks = Clocks {
        sessions,
        entries: Vec::new(),
        free: Vec::new(),
        slot_of: vec![NONE; e.txns() as usize],
    };
    // The slot of each session's clock, while it goes on.
    let mut current = vec![NONE; sessions];
    let mut clock = vec![0_u32; sessions];
    for &txn in order {
        let session = e.session_of(txn) as usize;
        match current[session] {
            NONE => clock.fill(0),
            slot => clock.copy_from_slice(clocks.at(slot)),
        }
        for &source in e.sources(txn) {
            let past = clocks.of(source);
            for (mine, theirs) in clock.iter_mut().zip(past) {
                *mine = (*mine).max(*theirs);
            }
        }
        clock[session] = txn;
        visit(txn, &clock, &clocks);
        for &source in e.sources(txn) {
            readers[source as usize] -= 1;
            if readers[source as usize] == 0 {
                clocks.free.push(clocks.slot_of[source as usize]);
            }
        }
        clock[session] = txn + 1;
        if e.next(txn).is_some() {
            if current[session] == NONE {
                current[session] = clocks.take()?;
            }
            let slot = current[session] as usize * sessions;
            clocks.entries[slot..slot + sessions].copy_from_slice(&clock);
        } else if current[session] != NONE {
            clocks.free.push(current[session]);
            current[session] = NONE;
        }
        if readers[txn as usize] > 0 {
            let slot = clocks.take()?;
            clocks.slot_of[txn as usize] = slot;
            let slot = slot as usize * sessions;
            clocks.entries[slot..slot + sessions].copy_from_slice(&clock);
        }
    }
    Ok(())
}

/// The writes of one session to one key.
struct Run {
    session: u32,
    /// In [`Writers::writers`].
    start: u32,
    end: u32,
    /// Where the last search ended: the next is often near.
    hint: u32,
}

/// Who wrote each key, by session.
struct Writers {
    of_keys: Grouped,
    run_starts: Vec<u32>,
    runs: Vec<Run>,
}

impl Writers {
    fn new(e: &Execution) -> Self {
        let pairs = || (0..e.txns()).flat_map(|t| e.writes(t).iter().map(move |&key| (key, t)));
        let writers = Grouped::new(e.keys(), pairs);
        let mut run_starts = vec![0];
        let mut runs: Vec<Run> = Vec::new();
        for key in 0..e.keys() as u32 {
            let first = runs.len();
            for (i, &writer) in writers.of(key).iter().enumerate() {
                let session = e.session_of(writer);
                match runs[first..].last_mut() {
                    Some(run) if run.session == session => run.end += 1,
                    _ => runs.push(Run {
                        session,
                        start: i as u32,
                        end: i as u32 + 1,
                        hint: i as u32,
                    }),
                }
            }
            run_starts.push(runs.len() as u32);
        }
        Self {
            of_keys: writers,
            run_starts,
            runs,
        }
    }
}

/// The last of `writers` in the run that is before `bound`.
fn last_before(writers: &[u32], run: &mut Run, bound: u32) -> Option<u32> {
    const STEPS: u32 = 4;
    let before = |at: u32| writers[at as usize] < bound;
    // All below `low` are before the bound, none from `high` on is.
    let (mut low, mut high) = (run.start, run.end);
    let mut at = run.hint;
    for _ in 0..STEPS {
        if at < high && before(at) {
            at += 1;
            low = at;
        } else {
            high = at;
            if at > low && !before(at - 1) {
                at -= 1;
                high = at;
            } else {
                low = at;
                break;
            }
        }
    }
    if low < high {
        let middle = &writers[low as usize..high as usize];
        low += middle.partition_point(|&writer| writer < bound) as u32;
    }
    run.hint = low;
    (low > run.start).then(|| writers[low as usize - 1])
}

/// Gives all pairs that causal consistency asks for, save those that follow from others.
///
/// # Errors
///
/// The reason of the verdict `unknown`; what was given before that holds nevertheless.
pub(crate) fn causal(
    e: &Execution,
    order: &[u32],
    mut emit: impl FnMut(Edge),
) -> Result<(), String> {
    let Writers {
        of_keys,
        run_starts,
        mut runs,
    } = Writers::new(e);
    walk(e, order, |reader, clock, clocks| {
        for read in e.reads(reader) {
            let past = (read.from != INITIAL).then(|| clocks.of(read.from));
            let of_key = run_starts[read.key as usize]..run_starts[read.key as usize + 1];
            let writers = of_keys.of(read.key);
            for run in &mut runs[of_key.start as usize..of_key.end as usize] {
                let bound = clock[run.session as usize];
                let known = past.map_or(0, |past| past[run.session as usize]);
                if bound <= known.max(writers[run.start as usize]) {
                    continue;
                }
                if let Some(before) = last_before(writers, run, bound)
                    && before >= known
                {
                    emit(Edge {
                        before,
                        after: read.from,
                        reader,
                        key: read.key,
                    });
                }
            }
        }
    })
}
