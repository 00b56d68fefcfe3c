//! Looks for an order without remembering where it has been: fast where the order is all but
//! forced, and needing no memory but the operations themselves.
//!
//! It only ever answers that there is an order, and only after that order was checked from scratch
//! ([`holds`]): whatever is wrong with the search, it cannot make a history linearizable. Where it
//! finds none within its steps, another engine has to decide.
//!
//! Depth first, as in Wing and Gong's search, with two rules that keep it short:
//!
//! * A read that fits the state takes effect at once: it changes nothing.
//! * Else some write has to; those that leave what the next operation to complete needs come first.

use rustc_hash::FxHashMap;

use super::{Action, Id, Model, NIL, Op, belongs};

/// Steps for each operation, before it gives up.
const STEPS_EACH: usize = 32;

/// Whether an order was found. `false` says nothing.
pub(super) fn found(model: Model, ops: &[Op]) -> bool {
    let known = matches!(model, Model::Register | Model::List | Model::Set);
    let grows = |op: &Op| !matches!(op.action, Action::Remove(_) | Action::Contains(..));
    if !known || !ops.iter().all(grows) || ops.iter().any(|op| !belongs(model, &op.action)) {
        return false;
    }
    let mut search = Search::new(ops);
    search.run() && holds(ops, &search.order())
}

/// Whether the operations in this order obey real time and the model, and none that completed is
/// left out.
fn holds(ops: &[Op], order: &[usize]) -> bool {
    let mut left_out: Vec<bool> = vec![true; ops.len()];
    let mut state = State::default();
    // The latest invocation so far: nothing that completed before it may come any more.
    let mut latest_call = 0;
    for &i in order {
        let op = &ops[i];
        let in_time = op.completion.is_none_or(|end| end > latest_call);
        if !left_out[i] || !in_time || !state.admits(&op.action) {
            return false;
        }
        left_out[i] = false;
        latest_call = latest_call.max(op.call);
        state.apply(&op.action);
    }
    ops.iter()
        .zip(left_out)
        .all(|(op, left_out)| !left_out || op.completion.is_none())
}

/// The object, whichever it is.
#[derive(Debug, Default)]
struct State {
    register: Id,
    list: Vec<Id>,
    /// Of a set: how often each element was added.
    set: FxHashMap<Id, u32>,
}

impl State {
    fn admits(&self, action: &Action) -> bool {
        match action {
            Action::Read(value) | Action::Cas(value, _) => self.register == *value,
            Action::CasRefused(value) => self.register != *value,
            Action::ReadList(items) => self.list == **items,
            Action::ReadSet(items) => {
                self.set.len() == items.len() && items.iter().all(|e| self.set.contains_key(e))
            }
            Action::Write(_) | Action::Append(_) | Action::Add(_) => true,
            _ => false,
        }
    }

    /// What a register held before is returned, for [`State::undo`].
    fn apply(&mut self, action: &Action) -> Id {
        let before = self.register;
        match action {
            Action::Write(value) | Action::Cas(_, value) => self.register = *value,
            Action::Append(element) => self.list.push(*element),
            Action::Add(element) => *self.set.entry(*element).or_insert(0) += 1,
            _ => {}
        }
        before
    }

    fn undo(&mut self, action: &Action, before: Id) {
        match action {
            Action::Append(_) => {
                self.list.pop();
            }
            Action::Add(element) => {
                if let Some(times) = self.set.get_mut(element) {
                    *times -= 1;
                    if *times == 0 {
                        self.set.remove(element);
                    }
                }
            }
            _ => self.register = before,
        }
    }

    /// Whether the write brings the state closer to what the action needs.
    fn helps(&self, write: &Action, needs: &Action) -> bool {
        if std::ptr::eq(write, needs) {
            return true;
        }
        match (write, needs) {
            (
                Action::Write(v) | Action::Cas(_, v),
                Action::Read(needed) | Action::Cas(needed, _),
            ) => v == needed,
            (Action::Append(e), Action::ReadList(items)) => items.get(self.list.len()) == Some(e),
            (Action::Add(e), Action::ReadSet(items)) => items.binary_search(e).is_ok(),
            _ => false,
        }
    }
}

/// An operation that took effect.
struct Taken {
    op: u32,
    before: Id,
    /// Of a write: the others that could have been taken instead, a range of `choices`. A read
    /// leaves no choice.
    from: u32,
    next: u32,
    to: u32,
}

/// Calls and completions in a doubly linked list; what took effect is taken out.
struct Search<'o> {
    ops: &'o [Op],
    /// By entry: its operation, and whether it is the completion.
    entries: Vec<(u32, bool)>,
    /// By operation: its entries. A pending one has no completion.
    call_entry: Vec<u32>,
    end_entry: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    state: State,
    taken: Vec<Taken>,
    choices: Vec<u32>,
    completions_left: usize,
}

const NONE: u32 = u32::MAX;

impl<'o> Search<'o> {
    fn new(ops: &'o [Op]) -> Self {
        let mut instants: Vec<(u64, u32, bool)> = Vec::with_capacity(2 * ops.len());
        for (i, op) in ops.iter().enumerate() {
            instants.push((op.call, i as u32, false));
            instants.extend(op.completion.map(|end| (end, i as u32, true)));
        }
        instants.sort_unstable();
        // The entry 0 is the head of the list.
        let mut entries = Vec::with_capacity(instants.len() + 1);
        entries.push((NONE, false));
        let mut call_entry = vec![NONE; ops.len()];
        let mut end_entry = vec![NONE; ops.len()];
        for (_, op, ends) in instants {
            let of = if ends {
                &mut end_entry
            } else {
                &mut call_entry
            };
            of[op as usize] = entries.len() as u32;
            entries.push((op, ends));
        }
        let count = entries.len() as u32;
        Self {
            ops,
            call_entry,
            completions_left: end_entry.iter().filter(|e| **e != NONE).count(),
            end_entry,
            next: (1..=count)
                .map(|i| if i == count { 0 } else { i })
                .collect(),
            previous: (0..count)
                .map(|i| i.checked_sub(1).unwrap_or(count - 1))
                .collect(),
            entries,
            state: State {
                register: NIL,
                ..State::default()
            },
            taken: Vec::with_capacity(ops.len()),
            choices: Vec::new(),
        }
    }

    fn order(&self) -> Vec<usize> {
        self.taken.iter().map(|t| t.op as usize).collect()
    }

    fn run(&mut self) -> bool {
        let mut steps_left = self.ops.len() * STEPS_EACH;
        while self.completions_left > 0 {
            if steps_left == 0 {
                return false;
            }
            steps_left -= 1;
            if self.take_reads() {
                continue;
            }
            let from = self.choices.len() as u32;
            self.collect_writes();
            let to = self.choices.len() as u32;
            if from < to {
                self.take(self.choices[from as usize], from, from + 1, to);
            } else if !self.backtrack() {
                return false;
            }
        }
        true
    }

    /// Lets every read that fits take effect; whether there was one.
    fn take_reads(&mut self) -> bool {
        let mut any = false;
        let mut entry = self.next[0];
        while entry != 0 {
            let (op, ends) = self.entries[entry as usize];
            if ends {
                break;
            }
            entry = self.next[entry as usize];
            let action = &self.ops[op as usize].action;
            if !is_write(action) && self.state.admits(action) {
                let at = self.choices.len() as u32;
                self.take(op, at, at, at);
                any = true;
                // The next entry may have been this one's completion.
                entry = self.next[0];
            }
        }
        any
    }

    /// Appends the writes that can take effect now to the choices, the most promising first.
    fn collect_writes(&mut self) {
        let from = self.choices.len();
        let mut entry = self.next[0];
        while entry != 0 {
            let (op, ends) = self.entries[entry as usize];
            if ends {
                break;
            }
            let action = &self.ops[op as usize].action;
            if is_write(action) && self.state.admits(action) {
                self.choices.push(op);
            }
            entry = self.next[entry as usize];
        }
        if entry == 0 {
            return;
        }
        let needs = &self.ops[self.entries[entry as usize].0 as usize].action;
        let (state, ops) = (&self.state, self.ops);
        self.choices[from..].sort_by_key(|&op| !state.helps(&ops[op as usize].action, needs));
    }

    fn take(&mut self, op: u32, from: u32, next: u32, to: u32) {
        let before = self.state.apply(&self.ops[op as usize].action);
        self.unlink(self.call_entry[op as usize]);
        let end = self.end_entry[op as usize];
        if end != NONE {
            self.unlink(end);
            self.completions_left -= 1;
        }
        self.taken.push(Taken {
            op,
            before,
            from,
            next,
            to,
        });
    }

    /// Takes back what was taken since the last choice, and chooses otherwise; whether there was
    /// anything left to choose.
    fn backtrack(&mut self) -> bool {
        while let Some(taken) = self.taken.pop() {
            let op = taken.op as usize;
            if self.end_entry[op] != NONE {
                self.link(self.end_entry[op]);
                self.completions_left += 1;
            }
            self.link(self.call_entry[op]);
            self.state.undo(&self.ops[op].action, taken.before);
            if taken.next < taken.to {
                self.choices.truncate(taken.to as usize);
                let other = self.choices[taken.next as usize];
                self.take(other, taken.from, taken.next + 1, taken.to);
                return true;
            }
            self.choices.truncate(taken.from as usize);
        }
        false
    }

    fn unlink(&mut self, entry: u32) {
        let (previous, next) = (self.previous[entry as usize], self.next[entry as usize]);
        self.next[previous as usize] = next;
        self.previous[next as usize] = previous;
    }

    /// Puts back what was unlinked last.
    fn link(&mut self, entry: u32) {
        let (previous, next) = (self.previous[entry as usize], self.next[entry as usize]);
        self.next[previous as usize] = entry;
        self.previous[next as usize] = entry;
    }
}

fn is_write(action: &Action) -> bool {
    matches!(
        action,
        Action::Write(_) | Action::Cas(..) | Action::Append(_) | Action::Add(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(call: u64, completion: Option<u64>, action: Action) -> Op {
        Op {
            call,
            completion,
            action,
        }
    }

    /// Whatever the search may come to do wrong, nothing but a right order passes.
    #[test]
    fn only_a_right_order_holds() {
        let ops = [
            op(0, Some(3), Action::Write(1)),
            op(1, Some(2), Action::Write(2)),
            op(4, Some(5), Action::Read(1)),
            op(6, None, Action::Write(3)),
        ];
        assert!(holds(&ops, &[1, 0, 2]));
        assert!(holds(&ops, &[1, 0, 2, 3]));
        assert!(!holds(&ops, &[0, 1, 2]), "the read shows another value");
        assert!(
            !holds(&ops, &[0, 2, 1]),
            "write 2 had completed before the read"
        );
        assert!(!holds(&ops, &[0, 2]), "write 2 is left out");
        assert!(!holds(&ops, &[1, 0, 0, 2]), "write 1 takes effect twice");
        assert!(!holds(&ops, &[3, 1, 0, 2]), "write 3 had not begun");
        let ops = [
            op(0, Some(1), Action::Append(1)),
            op(2, Some(3), Action::Append(2)),
            op(4, Some(5), Action::ReadList([1, 2].into())),
        ];
        assert!(holds(&ops, &[0, 1, 2]));
        assert!(!holds(&ops, &[1, 0, 2]));
        let ops = [
            op(0, Some(1), Action::Add(1)),
            op(2, Some(3), Action::ReadSet([1, 2].into())),
        ];
        assert!(!holds(&ops, &[0, 1]));
    }

    /// A long history without mistakes is decided here, and not by the search with memory.
    #[test]
    fn finds_the_order_of_long_histories() {
        let writes = (0..5_000_u64).flat_map(|n| {
            let (at, value) = (10 * n, n as Id + 1);
            [
                op(at, Some(at + 5), Action::Write(value)),
                op(at + 1, Some(at + 8), Action::Read(value)),
                // In doubt, and read by nobody: written after what is read, or never.
                op(
                    at + 2,
                    (n % 2 == 0).then_some(at + 3),
                    Action::Write(1_000_000),
                ),
            ]
        });
        assert!(found(Model::Register, &writes.collect::<Vec<_>>()));
    }
}
