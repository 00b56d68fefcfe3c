//! Sets that are never read as a whole: element by element.
//!
//! Operations on one element say nothing of another, so that a history of a set is linearizable if
//! and only if its operations on each element are (locality). An element is a flag: adding sets it,
//! removing clears it, both whether or not it was; `contains` shows it. Values repeat here, however
//! often an element is added, so that who showed what to whom is not known. The frontier below is
//! exact nevertheless, and small in practice; if it gets wider than a limit, or if thousands of
//! operations on one element are open at a time, the monitor does not apply.
//!
//! # What an order is
//!
//! Call adding and finding an element *positive*, removing and missing it *negative*. The flag
//! *switches* at some instants; each switch is made by an add or a remove of its own, which takes
//! effect there. All other operations just need one of their slots in which the flag is theirs at
//! some time (an add while it is set changes nothing). So an order is a sequence of switches,
//! alternately by adds and removes, each in a slot of its operation, such that each answered
//! operation is *satisfied*: in one of its slots the flag is, at some time, as it needs it. In a
//! slot with a switch the flag is both, so all operations open there are satisfied. Unanswered
//! operations can make switches, and need not be satisfied.
//!
//! # Orders of one form are enough
//!
//! * *Of those operations that can make a switch, let the one make it that completes first.* If it
//!   was to make a later one, the other can make that: it is open for longer. Both are satisfied,
//!   being open in slots with switches.
//! * *Switch as late as possible.* Take an order with the fewest switches and, of these, one whose
//!   switches are latest. Let `o` be the operation that completes right after a slot with switches.
//!   If the last switch of the slot were moved behind that completion, or, behind the last
//!   completion, left out, that would be an order, too, unless (1) it is what satisfies `o`, or (2)
//!   it is made by `o`. For (1), there is one switch in the slot: before a second one, the flag
//!   would have been as `o` needs it. For (2), there are one or two: of three, the first two could
//!   be left out.
//!
//! So it is enough to switch right before completions: when `o` completes and the flag is not as
//! `o` needs it, switch if `o` is not yet satisfied, and perhaps switch by `o`, if it has not
//! switched yet; when the flag is as `o` needs it, perhaps switch twice, the second time by `o`, if
//! that satisfies anybody.
//!
//! # The frontier
//!
//! A configuration is the flag, when it switched last (who is open and was not then is satisfied
//! only if the flag is now as he needs it), and which open operations have made a switch. Of two
//! with the same flag, one is worth as much as the other or more if it switched no earlier and
//! those that have made a switch are among those of the other. What is worth less is dropped.
//! Unanswered operations of a kind are open for ever and alike, so that they are only counted.
//!
//! # Cost
//!
//! Sorting, and for each completion the configurations (at most 256, as a rule one or two) times
//! the open operations on the element.

use super::super::{Action, Decision, Id, Op};
use super::shared::{NEVER, refuted};

/// The widest frontier of one element.
const CONFIGURATIONS_MAX: usize = 256;

/// The most operations on one element that may be open at a time, and answered later.
const OPEN_MAX: usize = 4_096;

/// Decides; `None` if the frontier of an element gets too wide, and no other element is at fault.
pub(super) fn decide(ops: &[Op]) -> Option<Decision> {
    // By element, calls and completions in their order.
    let mut events: Vec<(Id, u64, u32)> = Vec::with_capacity(2 * ops.len());
    for (i, op) in ops.iter().enumerate() {
        let element = match op.action {
            Action::Add(element) | Action::Remove(element) => element,
            Action::Contains(element, _) if op.completion.is_some() => element,
            _ => continue,
        };
        events.push((element, op.call, i as u32));
        events.extend(op.completion.map(|end| (element, end, i as u32)));
    }
    events.sort_unstable();
    let mut undecided = false;
    let mut frontier = Frontier::default();
    for events in events.chunk_by(|a, b| a.0 == b.0) {
        match frontier.run(ops, events) {
            Found::Order => {}
            Found::TooWide => undecided = true,
            Found::NoOrder(by) => {
                // Of their operations, those invoked by then.
                let calls = events
                    .iter()
                    .filter(|(_, at, op)| ops[*op as usize].call == *at);
                let before = calls.take_while(|(_, at, _)| *at <= by);
                return Some(refuted(before.map(|(.., op)| *op as usize)));
            }
        }
    }
    (!undecided).then_some(Decision::Linearizable)
}

enum Found {
    Order,
    /// What completed up to this instant has none.
    NoOrder(u64),
    TooWide,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Configuration {
    set: bool,
    /// Right before this instant; 0 if it never did.
    switched: u64,
    /// Open operations, to be answered, that have made a switch: ascending.
    spent: Vec<u32>,
    /// How many unanswered removes and adds have.
    unanswered_spent: [u32; 2],
}

impl Configuration {
    /// Whether this one is worth as much as the other or more.
    fn covers(&self, other: &Self) -> bool {
        self.set == other.set
            && self.switched >= other.switched
            && self.unanswered_spent[0] <= other.unanswered_spent[0]
            && self.unanswered_spent[1] <= other.unanswered_spent[1]
            && self
                .spent
                .iter()
                .all(|op| other.spent.binary_search(op).is_ok())
    }
}

/// An operation without its element.
#[derive(Clone, Copy)]
struct Flag {
    positive: bool,
    writes: bool,
    call: u64,
    end: u64,
}

fn flag(op: &Op) -> Flag {
    Flag {
        positive: matches!(op.action, Action::Add(_) | Action::Contains(_, true)),
        writes: matches!(op.action, Action::Add(_) | Action::Remove(_)),
        call: op.call,
        end: op.completion.unwrap_or(NEVER),
    }
}

#[derive(Default)]
struct Frontier {
    now: Vec<Configuration>,
    next: Vec<Configuration>,
    /// Operations invoked and not completed, that are to be answered.
    open: Vec<(u32, Flag)>,
    /// How many removes and adds were invoked that are never answered.
    unanswered: [u32; 2],
}

impl Frontier {
    fn run(&mut self, ops: &[Op], events: &[(Id, u64, u32)]) -> Found {
        self.open.clear();
        self.unanswered = [0, 0];
        self.now.clear();
        self.now.push(Configuration {
            set: false,
            switched: 0,
            spent: Vec::new(),
            unanswered_spent: [0, 0],
        });
        for &(_, at, op) in events {
            let flag = flag(&ops[op as usize]);
            if flag.call == at {
                if flag.end == NEVER {
                    self.unanswered[usize::from(flag.positive)] += 1;
                } else {
                    self.open.push((op, flag));
                }
                continue;
            }
            self.complete(op, flag);
            self.open.retain(|(other, _)| *other != op);
            if self.now.is_empty() {
                return Found::NoOrder(at);
            }
            if self.now.len() > CONFIGURATIONS_MAX || self.open.len() > OPEN_MAX {
                return Found::TooWide;
            }
        }
        Found::Order
    }

    fn complete(&mut self, op: u32, flag: Flag) {
        let now = std::mem::take(&mut self.now);
        for mut configuration in now {
            let spent = configuration.spent.binary_search(&op);
            if let Ok(at) = spent {
                configuration.spent.remove(at);
            }
            let can_write = flag.writes && spent.is_err();
            let switched = Configuration {
                set: flag.positive,
                switched: flag.end,
                ..configuration.clone()
            };
            if configuration.set == flag.positive {
                if can_write && self.helps_somebody(&configuration) {
                    self.switch_by_another(switched, op, !flag.positive);
                }
                self.next.push(configuration);
            } else if flag.call < configuration.switched {
                if can_write {
                    self.next.push(switched);
                }
                self.next.push(configuration);
            } else if can_write {
                self.next.push(switched);
            } else {
                self.switch_by_another(switched, op, flag.positive);
            }
        }
        self.keep_the_best();
    }

    /// Whether an open operation is not satisfied.
    fn helps_somebody(&self, configuration: &Configuration) -> bool {
        self.open.iter().any(|(_, other)| {
            other.positive != configuration.set && other.call > configuration.switched
        })
    }

    /// Lets an add or a remove that is open, other than `op`, make a switch, if there is one.
    fn switch_by_another(&mut self, mut switched: Configuration, op: u32, positive: bool) {
        let can = |(other, flag): &&(u32, Flag)| {
            *other != op
                && flag.writes
                && flag.positive == positive
                && switched.spent.binary_search(other).is_err()
        };
        let first = self
            .open
            .iter()
            .filter(can)
            .min_by_key(|(_, flag)| flag.end);
        let kind = usize::from(positive);
        if let Some(&(other, _)) = first {
            let at = switched.spent.partition_point(|spent| *spent < other);
            switched.spent.insert(at, other);
        } else if switched.unanswered_spent[kind] < self.unanswered[kind] {
            switched.unanswered_spent[kind] += 1;
        } else {
            return;
        }
        self.next.push(switched);
    }

    /// Moves what is worth keeping from `next` to `now`.
    fn keep_the_best(&mut self) {
        for configuration in self.next.drain(..) {
            if !self.now.iter().any(|other| other.covers(&configuration)) {
                self.now.retain(|other| !configuration.covers(other));
                self.now.push(configuration);
            }
        }
    }
}
