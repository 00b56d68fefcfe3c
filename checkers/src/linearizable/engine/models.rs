//! The built-in models as [`Specification`]s for the general engine.
//!
//! Lists and texts are only ever compared as a whole, so that their state is a 128-bit hash of what
//! they hold and its length ([`hash`]); sets, maps, queues, stacks and priority queues are persistent
//! tries ([`trie`]) that compare by a 128-bit hash of theirs. The other states are exact.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::budget::{Meter, Totals};
use super::specification::{Call, Specification};
use super::{Action, Decision, Id, Limits, Model, Op, Refutation};

mod hash;
mod ordered;
mod shared;
mod trie;

use hash::Sequence;

/// Decides by the general engine. Of registers there is a better one.
pub(super) fn decide(
    model: Model,
    ops: &[Op],
    limits: &Limits,
    totals: Option<&Totals>,
) -> Decision {
    let mut meter = Meter::new(limits, totals);
    let mut decision = decide_metered(model, ops, &mut meter);
    if let Decision::NotLinearizable(why) = &mut decision
        && let Some(by) = why.by
    {
        // The search knew what was going to be returned by operations that were open then.
        let known = |op: &&Op| {
            op.call < by && matches!(op.action, Action::Dequeue(_) | Action::AcquireFenced(..))
        };
        let ends = ops.iter().filter(known).filter_map(|op| op.completion);
        why.by = ends.max().max(why.by);
    }
    decision
}

fn decide_metered(model: Model, ops: &[Op], meter: &mut Meter<'_>) -> Decision {
    match model {
        Model::Register => Decision::unknown("registers have their own engine"),
        Model::List => run(&List, ops, List::op, meter),
        Model::Text => {
            let puts = ops.iter().any(|op| matches!(op.action, Action::Put(_)));
            run(&Text { puts }, ops, Text::op, meter)
        }
        // Elements of which none is seen beside others are objects of their own.
        Model::Set if ops.iter().all(|op| element(op).is_some()) => by_element(ops, meter),
        // Fields that nobody reads.
        Model::Map if !ops.iter().any(|op| matches!(op.action, Action::ReadMap(_))) => {
            Decision::Linearizable
        }
        Model::Set => {
            let removes = ops.iter().any(|op| matches!(op.action, Action::Remove(_)));
            run(&shared::Set { removes }, ops, shared::op, meter)
        }
        Model::Map => run(&shared::Map, ops, shared::op, meter),
        Model::Queue => run(&ordered::Queue, ops, ordered::op, meter),
        Model::Stack => run(&ordered::Stack, ops, ordered::op, meter),
        Model::PriorityQueue => run(&ordered::PriorityQueue, ops, ordered::op, meter),
        Model::Counter => run(&Counter, ops, Clone::clone, meter),
        Model::Lock => run(&Semaphore(1), ops, Clone::clone, meter),
        Model::Semaphore(permits) => run(&Semaphore(permits), ops, Clone::clone, meter),
        Model::FencedLock => run(&FencedLock, ops, Clone::clone, meter),
    }
}

/// The one element that an operation on a set is about.
fn element(op: &Op) -> Option<Id> {
    match op.action {
        Action::Add(element) | Action::Remove(element) | Action::Contains(element, _) => {
            Some(element)
        }
        _ => None,
    }
}

/// Decides a set element by element (Horn and Kroening, *Faster linearizability checking via
/// P-compositionality*, 2015); of several that fail, the one that fails first.
fn by_element(ops: &[Op], meter: &mut Meter<'_>) -> Decision {
    let mut parts: BTreeMap<Id, Vec<usize>> = BTreeMap::new();
    for (i, op) in ops.iter().enumerate() {
        parts
            .entry(element(op).unwrap_or_default())
            .or_default()
            .push(i);
    }
    let mut undecided = None;
    let mut failed: Option<Refutation> = None;
    for part in parts.into_values() {
        let of_part: Vec<Op> = part.iter().map(|&i| ops[i].clone()).collect();
        let set = shared::Set { removes: true };
        match run(&set, &of_part, shared::op, meter) {
            Decision::Linearizable => {}
            Decision::NotLinearizable(mut why) => {
                why.core = part;
                let later = failed.as_ref().is_some_and(|known| known.by <= why.by);
                if !later {
                    failed = Some(why);
                }
            }
            Decision::Unknown(mut why) => {
                why.reached = why.reached.and_then(|at| part.get(at).copied());
                undecided.get_or_insert(why);
            }
        }
    }
    match (failed, undecided) {
        (Some(why), _) => Decision::NotLinearizable(why),
        (None, Some(why)) => Decision::Unknown(why),
        (None, None) => Decision::Linearizable,
    }
}

fn run<S: Specification>(
    specification: &S,
    ops: &[Op],
    op: impl Fn(&Action) -> S::Op,
    meter: &mut Meter<'_>,
) -> Decision {
    let call = |o: &Op| Call {
        begin: o.call,
        end: o.completion,
        op: op(&o.action),
    };
    let history: Vec<Call<S::Op>> = ops.iter().map(call).collect();
    super::jit::decide_metered(specification, &history, meter)
}

struct List;

#[derive(Clone, PartialEq, Eq, Hash)]
enum ListOp {
    Append(Id),
    Read(Sequence, Arc<[Id]>),
    Never,
}

impl List {
    fn op(action: &Action) -> ListOp {
        match action {
            Action::Append(element) => ListOp::Append(*element),
            Action::ReadList(items) => ListOp::Read(Sequence::of(items), items.clone()),
            _ => ListOp::Never,
        }
    }
}

impl Specification for List {
    type State = Sequence;
    type Op = ListOp;

    fn initial(&self) -> Sequence {
        Sequence::default()
    }

    fn step(&self, state: &Sequence, op: &ListOp) -> Option<Sequence> {
        match op {
            ListOp::Append(element) => Some(state.with(u64::from(*element))),
            ListOp::Read(shown, _) => (state == shown).then_some(*state),
            ListOp::Never => None,
        }
    }

    fn is_read_only(&self, op: &ListOp) -> bool {
        matches!(op, ListOp::Read(..))
    }

    fn rules_out(&self, state: &Sequence, op: &ListOp, target: &ListOp) -> bool {
        match (op, target) {
            (ListOp::Append(element), ListOp::Read(_, items)) => {
                items.get(state.len as usize) != Some(element)
            }
            _ => false,
        }
    }
}

struct Text {
    /// Whether texts are ever replaced.
    puts: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum TextOp {
    Put(Sequence),
    Append(Arc<str>),
    Get(Sequence, Arc<str>),
    Never,
}

impl Text {
    fn op(action: &Action) -> TextOp {
        match action {
            Action::Put(text) => TextOp::Put(Sequence::default().with_text(text)),
            Action::AppendText(text) => TextOp::Append(text.clone()),
            Action::Get(text) => TextOp::Get(Sequence::default().with_text(text), text.clone()),
            _ => TextOp::Never,
        }
    }
}

impl Specification for Text {
    type State = Sequence;
    type Op = TextOp;

    fn initial(&self) -> Sequence {
        Sequence::default()
    }

    fn step(&self, state: &Sequence, op: &TextOp) -> Option<Sequence> {
        match op {
            TextOp::Put(text) => Some(*text),
            TextOp::Append(text) => Some(state.with_text(text)),
            TextOp::Get(shown, _) => (state == shown).then_some(*state),
            TextOp::Never => None,
        }
    }

    fn is_read_only(&self, op: &TextOp) -> bool {
        matches!(op, TextOp::Get(..))
    }

    fn rules_out(&self, state: &Sequence, op: &TextOp, target: &TextOp) -> bool {
        match (op, target) {
            (TextOp::Append(more), TextOp::Get(_, text)) if !self.puts => {
                let rest = text.as_bytes().get(state.len as usize..);
                !rest.is_some_and(|rest| rest.starts_with(more.as_bytes()))
            }
            _ => false,
        }
    }
}

struct Counter;

impl Specification for Counter {
    type State = i128;
    type Op = Action;

    fn initial(&self) -> i128 {
        0
    }

    fn step(&self, sum: &i128, op: &Action) -> Option<i128> {
        match op {
            Action::Increment(by) => sum.checked_add(i128::from(*by)),
            Action::ReadCounter(shown) => (i128::from(*shown) == *sum).then_some(*sum),
            _ => None,
        }
    }

    fn is_read_only(&self, op: &Action) -> bool {
        matches!(op, Action::ReadCounter(_) | Action::Increment(0))
    }

    fn commute(&self, a: &Action, b: &Action) -> bool {
        matches!((a, b), (Action::Increment(_), Action::Increment(_)))
    }
}

/// So many permits; a lock is one of one.
struct Semaphore(u32);

impl Specification for Semaphore {
    /// Owners, once a permit, ascending.
    type State = Vec<Id>;
    type Op = Action;

    fn initial(&self) -> Vec<Id> {
        Vec::new()
    }

    fn step(&self, holders: &Vec<Id>, op: &Action) -> Option<Vec<Id>> {
        let mut next = holders.clone();
        match op {
            Action::Acquire(owner) if holders.len() < self.0 as usize => {
                let at = holders.partition_point(|h| h < owner);
                next.insert(at, *owner);
                Some(next)
            }
            Action::Release(owner) => {
                let at = holders.binary_search(owner).ok()?;
                next.remove(at);
                Some(next)
            }
            _ => None,
        }
    }

    fn commute(&self, a: &Action, b: &Action) -> bool {
        match (a, b) {
            (Action::Acquire(_), Action::Acquire(_)) => true,
            (Action::Release(x), Action::Release(y)) => x != y,
            _ => false,
        }
    }

    fn bytes(&self, holders: &Vec<Id>) -> usize {
        4 * holders.len()
    }
}

struct FencedLock;

impl Specification for FencedLock {
    /// The owner, and the last fence given out.
    type State = (Option<Id>, i64);
    type Op = Action;

    fn initial(&self) -> (Option<Id>, i64) {
        (None, i64::MIN)
    }

    fn step(&self, (owner, last): &(Option<Id>, i64), op: &Action) -> Option<(Option<Id>, i64)> {
        match op {
            Action::AcquireFenced(by, fence) if owner.is_none() => {
                // Of a pending one the smallest possible: it leaves the most room to those after it.
                let fence = fence.unwrap_or(last.saturating_add(1));
                (fence > *last).then_some((Some(*by), fence))
            }
            Action::Release(by) => (*owner == Some(*by)).then_some((None, *last)),
            _ => None,
        }
    }
}
