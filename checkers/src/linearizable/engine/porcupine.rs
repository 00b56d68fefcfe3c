//! The engine over the crate porcupine-rs: Wing and Gong's search with Lowe's memoisation ("Testing
//! for linearizability", 2017).
//!
//! Its models take no parameter, so each model is a type here; what the steps share (budget,
//! interned lists) travels with the operations. Verdicts come from `check_operations_timeout` only:
//! its variant with partial linearizations answers "illegal" when it merely ran out of time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::{Action, Decision, Engine, Id, Limits, Model, NIL, Op, belongs};

use porcupine_rs::CheckResult;
use porcupine_rs::model as theirs;

/// The engine; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Porcupine;

impl Engine for Porcupine {
    fn decide(&self, model: Model, ops: &[Op], limits: &Limits) -> Decision {
        if ops.iter().any(|op| !belongs(model, &op.action)) {
            return Decision::unknown("an operation does not belong to the model");
        }
        match model {
            Model::Register => search::<Register>(ops, limits),
            Model::List => search::<List>(ops, limits),
            Model::Set if ops.iter().all(grows) => search::<Set>(ops, limits),
            Model::Text => search::<Text>(ops, limits),
            _ => Decision::unknown("the engine has no such model"),
        }
    }
}

/// Whether the set model below knows the operation.
fn grows(op: &Op) -> bool {
    matches!(op.action, Action::Add(_) | Action::ReadSet(_))
}

/// What the steps of one search share. Once the budget is spent, "illegal" means nothing.
#[derive(Debug)]
struct Shared {
    steps_left: AtomicU64,
    lists: Mutex<Lists>,
}

impl Shared {
    /// Takes a step out of the budget.
    fn afford(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.steps_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    fn exhausted(&self) -> bool {
        self.steps_left.load(Ordering::Relaxed) == 0
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every list that occurs, numbered: a list is the list before its last element, and that element.
/// The empty list is 0. Equal numbers are equal lists, so that comparing is exact and cheap.
#[derive(Debug, Default)]
struct Lists {
    numbers: FxHashMap<(u32, Id), u32>,
}

impl Lists {
    fn push(&mut self, list: u32, element: Id) -> u32 {
        let next = self.numbers.len() as u32 + 1;
        *self.numbers.entry((list, element)).or_insert(next)
    }
}

/// An operation as the search sees it.
#[derive(Clone)]
struct Step {
    action: Action,
    /// A pending one explains any result.
    pending: bool,
    /// Of a read of a list: its number. Of a read of a set: its bits.
    list: u32,
    bits: Arc<[u64]>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.action.fmt(f)
    }
}

/// Rough cost of one remembered state: the set of operations in it (one bit each), the state (in the
/// table and on the stack), and
/// the table's own bytes.
fn bytes_a_state(ops: usize, state: usize) -> u64 {
    (ops.div_ceil(64) * 8 + 2 * state + 200) as u64
}

fn search<M>(ops: &[Op], limits: &Limits) -> Decision
where
    M: Sequential,
{
    let per_state = bytes_a_state(ops.len(), M::state_bytes(ops));
    let budget = limits
        .per_key_bytes
        .map_or(u64::MAX, |bytes| (bytes / per_state).max(1));
    let shared = Arc::new(Shared {
        steps_left: AtomicU64::new(budget),
        lists: Mutex::default(),
    });
    let no_bits: Arc<[u64]> = Arc::default();
    let operations: Vec<theirs::Operation<Adapter<M>>> = ops
        .iter()
        .map(|op| {
            let (mut list, mut bits) = (0, no_bits.clone());
            if let Action::ReadList(items) = &op.action {
                let mut lists = shared.lists();
                list = items.iter().fold(0, |list, &e| lists.push(list, e));
            }
            if let Action::ReadSet(items) = &op.action {
                let mut set = Vec::new();
                for &item in items.iter() {
                    insert_bit(&mut set, item);
                }
                bits = set.into();
            }
            theirs::Operation {
                client_id: None,
                call_time: op.call as i64,
                return_time: op.completion.map_or(i64::MAX, |end| end as i64),
                op: Step {
                    action: op.action.clone(),
                    pending: op.completion.is_none(),
                    list,
                    bits,
                    shared: shared.clone(),
                },
                metadata: None,
            }
        })
        .collect();
    let result = match limits.per_key {
        Some(limit) => porcupine_rs::check_operations_timeout(&operations, limit),
        None if porcupine_rs::check_operations(&operations) => CheckResult::Ok,
        None => CheckResult::Illegal,
    };
    match result {
        // An order that was found stands, whatever it cost.
        CheckResult::Ok => Decision::Linearizable,
        _ if shared.exhausted() => Decision::unknown(format!(
            "budget: {} MiB of search states",
            limits.per_key_bytes.unwrap_or_default() >> 20
        )),
        CheckResult::Illegal => Decision::not_linearizable(),
        CheckResult::Unknown => Decision::unknown(format!(
            "budget: {} s",
            limits.per_key.unwrap_or_default().as_secs_f64()
        )),
    }
}

fn insert_bit(set: &mut Vec<u64>, bit: Id) {
    let word = bit as usize / 64;
    if set.len() <= word {
        set.resize(word + 1, 0);
    }
    set[word] |= 1 << (bit % 64);
}

/// One of our models: a state and what a step makes of it.
trait Sequential: Clone + Send + Sync {
    type State: Clone + Send + Sync + std::fmt::Debug + std::hash::Hash + Eq;
    fn init() -> Self::State;
    /// The state after the step; `None` if the step cannot have happened in this state.
    fn step(state: &Self::State, step: &Step) -> Option<Self::State>;
    /// Bytes that a state may take beyond its own size.
    fn state_bytes(_ops: &[Op]) -> usize {
        0
    }
}

/// Makes a model of porcupine's out of one of ours.
#[derive(Clone)]
struct Adapter<M>(std::marker::PhantomData<M>);

impl<M: Sequential> theirs::Model for Adapter<M> {
    type State = M::State;
    type Op = Step;
    type Metadata = ();

    fn init() -> M::State {
        M::init()
    }

    fn step(state: &M::State, step: &Step) -> (bool, M::State) {
        match M::step(state, step) {
            Some(next) if step.shared.afford() => (true, next),
            // Out of budget no step is possible any more, so that the search ends soon.
            _ => (false, state.clone()),
        }
    }
}

#[derive(Clone)]
struct Register;

impl Sequential for Register {
    type State = Id;

    fn init() -> Id {
        NIL
    }

    fn step(&state: &Id, step: &Step) -> Option<Id> {
        match step.action {
            Action::Read(value) => (state == value).then_some(state),
            Action::Write(value) => Some(value),
            Action::Cas(old, new) if state == old => Some(new),
            Action::Cas(..) => step.pending.then_some(state),
            Action::CasRefused(old) => (state != old).then_some(state),
            _ => None,
        }
    }
}

#[derive(Clone)]
struct List;

impl Sequential for List {
    type State = u32;

    fn init() -> u32 {
        0
    }

    fn step(&state: &u32, step: &Step) -> Option<u32> {
        match step.action {
            Action::Append(element) => Some(step.shared.lists().push(state, element)),
            Action::ReadList(_) => (state == step.list).then_some(state),
            _ => None,
        }
    }
}

#[derive(Clone)]
struct Set;

impl Sequential for Set {
    type State = Vec<u64>;

    fn init() -> Vec<u64> {
        Vec::new()
    }

    fn step(state: &Vec<u64>, step: &Step) -> Option<Vec<u64>> {
        match step.action {
            Action::Add(element) => {
                let mut next = state.clone();
                insert_bit(&mut next, element);
                Some(next)
            }
            Action::ReadSet(_) => (**state == *step.bits).then(|| state.clone()),
            _ => None,
        }
    }

    fn state_bytes(ops: &[Op]) -> usize {
        ops.len() / 8
    }
}

#[derive(Clone)]
struct Text;

impl Sequential for Text {
    type State = Arc<str>;

    fn init() -> Arc<str> {
        Arc::default()
    }

    fn step(state: &Arc<str>, step: &Step) -> Option<Arc<str>> {
        match &step.action {
            Action::Put(text) => Some(text.clone()),
            Action::AppendText(text) => Some(format!("{state}{text}").into()),
            Action::Get(text) => (state == text).then(|| state.clone()),
            _ => None,
        }
    }

    fn state_bytes(ops: &[Op]) -> usize {
        ops.iter()
            .map(|op| match &op.action {
                Action::Put(text) | Action::AppendText(text) => text.len(),
                _ => 0,
            })
            .sum()
    }
}
