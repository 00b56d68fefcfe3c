//! The monitors of collections beside one call of porcupine-rs: seconds and peak memory at 10^4 to
//! 10^7 operations of 20 clients, one in a hundred never answered; of a linearizable history, and
//! of one that goes wrong near its end.
//!
//! `cargo bench -p checkers --bench monitors`. Every measurement is a process of its own, so that
//! its peak memory (`VmHWM` of Linux) is its own; porcupine-rs may take 20 seconds and 8 GiB.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use checkers::linearizable::engine::{Action, Decision, Id, Model, Op, Taken, monitors};
use porcupine_rs::{CheckResult, model as theirs};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

mod measure;

use measure::{peak_mib, timed};

const SIZES: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const CLIENTS: usize = 20;
const THEIR_SECONDS: u64 = 20;
const THEIR_KIB: u64 = 8 << 20;
/// Elements in all reads of everything together.
const ELEMENTS_READ: usize = 200_000_000;

/// What is measured. The sets are one that is read as a whole and only grows, and one of a thousand
/// elements that are added, removed and asked for.
const CASES: [(&str, Model); 6] = [
    ("list", Model::List),
    ("grow-only set", Model::Set),
    ("set", Model::Set),
    ("queue", Model::Queue),
    ("stack", Model::Stack),
    ("priority queue", Model::PriorityQueue),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, who, case, size, wrong] = args.as_slice()
        && child == "--measure"
    {
        let (case, size) = (case.parse().expect("a case"), size.parse().expect("a size"));
        return measure(who, case, size, wrong == "true");
    }
    println!(
        "monitors: {CLIENTS} clients, 1 % unanswered, beside porcupine-rs (at most 20 s, 8 GiB)"
    );
    println!(
        "{:<15} {:>9} {:<6}  {:>9} {:>8} {:>9}  {:>9} {:>9}",
        "model", "ops", "", "ours s", "ns/op", "peak MiB", "raw s", "peak MiB"
    );
    for (case, (name, _)) in CASES.iter().enumerate() {
        // What does not end at a tenth of the size does not end.
        let mut hopeless = [false, false];
        for size in SIZES {
            for wrong in [false, true] {
                let hopeless = &mut hopeless[usize::from(wrong)];
                *hopeless |= size > 1_000_000;
                *hopeless |= !row(name, case, size, wrong, *hopeless);
            }
        }
    }
    println!("(peak memory includes the history itself)");
}

/// Prints a line; whether porcupine-rs decided.
fn row(name: &str, case: usize, size: usize, wrong: bool, hopeless: bool) -> bool {
    let ours = in_child("ours", case, size, wrong);
    let raw = if hopeless {
        None
    } else {
        in_child("raw", case, size, wrong)
    };
    let mut line = format!(
        "{name:<15} {size:>9} {:<6}",
        if wrong { "wrong" } else { "right" }
    );
    let _ = match ours {
        Some((s, mib)) => {
            write!(line, "  {s:>9.4} {:>8.0} {mib:>9.0}", s * 1e9 / size as f64)
        }
        None => write!(line, "  {:>9} {:>8} {:>9}", "open", "", ""),
    };
    let _ = match raw {
        Some((s, mib)) => write!(line, "  {s:>9.3} {mib:>9.0}"),
        None if hopeless => write!(line, "  {:>9}", "-"),
        None => write!(line, "  {:>9}", "never"),
    };
    println!("{line}");
    raw.is_some()
}

/// Seconds and peak memory; `None` if it did not decide.
fn in_child(who: &str, case: usize, size: usize, wrong: bool) -> Option<(f64, f64)> {
    let exe = std::env::current_exe().expect("this program has a path");
    let limit = if who == "raw" {
        format!("ulimit -v {THEIR_KIB}; ")
    } else {
        String::new()
    };
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
        .arg(exe)
        .args([
            "--measure",
            who,
            &case.to_string(),
            &size.to_string(),
            &wrong.to_string(),
        ])
        .output()
        .expect("the child starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let memory = errors.contains("memory allocation");
    assert!(
        output.status.success() || memory,
        "{who} {case} {size}: {errors}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"));
    Some((numbers.next()?, numbers.next()?))
}

fn measure(who: &str, case: usize, size: usize, wrong: bool) {
    let (name, model) = CASES[case];
    let ops = generate(name, model, size, wrong);
    let elapsed = if who == "ours" {
        let (decision, elapsed) = timed(|| monitors::decide(model, &ops));
        let decided = decision.as_ref().and_then(Decision::is_linearizable);
        assert!(decided.is_none_or(|yes| yes != wrong), "{decision:?}");
        decided.map(|_| elapsed)
    } else {
        let (result, elapsed) = timed(|| raw(name, &ops));
        assert!(result == CheckResult::Unknown || (result == CheckResult::Ok) != wrong);
        (result != CheckResult::Unknown).then_some(elapsed)
    };
    if let Some(elapsed) = elapsed {
        println!("{} {}", elapsed.as_secs_f64(), peak_mib());
    }
}

/// The object that the clients use.
#[derive(Default)]
struct Object {
    sequence: VecDeque<Id>,
    sorted: BTreeSet<Id>,
}

impl Object {
    fn apply(&mut self, model: Model, action: &mut Action, answered: bool) {
        match action {
            Action::Append(e) => self.sequence.push_back(*e),
            Action::Enqueue(e) if model != Model::PriorityQueue => self.sequence.push_back(*e),
            Action::Add(e) | Action::Enqueue(e) => {
                self.sorted.insert(*e);
            }
            Action::Remove(e) => {
                self.sorted.remove(e);
            }
            Action::Contains(e, shown) => *shown = self.sorted.contains(e),
            Action::ReadList(items) => *items = self.sequence.iter().copied().collect(),
            Action::ReadSet(items) => *items = self.sorted.iter().copied().collect(),
            Action::Dequeue(taken) => {
                let out = match model {
                    Model::Queue => self.sequence.pop_front(),
                    Model::Stack => self.sequence.pop_back(),
                    _ => self.sorted.pop_first(),
                };
                if answered {
                    *taken = out.map_or(Taken::Empty, Taken::Value);
                }
            }
            _ => {}
        }
    }
}

/// Clients take turns at random; operations take effect at a random instant while they are open.
fn generate(name: &str, model: Model, size: usize, wrong: bool) -> Vec<Op> {
    struct Open {
        op: usize,
        done: bool,
        answered: bool,
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let mut object = Object::default();
    let mut ops: Vec<Op> = Vec::with_capacity(size);
    let mut clients: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
    let mut values: Vec<Id> = (1..=size as Id).collect();
    if model == Model::PriorityQueue {
        for i in (1..size).rev() {
            values.swap(i, rng.random_range(0..=i));
        }
    }
    // Reads of everything, of half of it on average.
    let reads = (2 * ELEMENTS_READ / size).clamp(1, 200).min(size / 2);
    let read_every = size / reads;
    let mut now = 0;
    while ops.len() < size || clients.iter().any(Option::is_some) {
        let c = rng.random_range(0..CLIENTS);
        now += 1;
        match &mut clients[c] {
            None if ops.len() == size => {}
            slot @ None => {
                let i = ops.len();
                let put = rng.random_bool(0.5);
                let element = rng.random_range(1..=1_000);
                let action = match model {
                    Model::List if i % read_every == read_every - 1 => {
                        Action::ReadList(Arc::default())
                    }
                    Model::List => Action::Append(values[i]),
                    Model::Set if name == "set" => match rng.random_range(0..4) {
                        0 => Action::Add(element),
                        1 => Action::Remove(element),
                        _ => Action::Contains(element, false),
                    },
                    Model::Set if i % read_every == read_every - 1 => {
                        Action::ReadSet(Arc::default())
                    }
                    Model::Set => Action::Add(values[i]),
                    _ if put => Action::Enqueue(values[i]),
                    _ => Action::Dequeue(Taken::Unknown),
                };
                ops.push(Op {
                    call: now,
                    completion: None,
                    action,
                });
                let answered = rng.random_bool(0.99);
                *slot = Some(Open {
                    op: i,
                    done: false,
                    answered,
                });
            }
            Some(open) if !open.done => {
                if open.answered || rng.random_bool(0.5) {
                    object.apply(model, &mut ops[open.op].action, open.answered);
                }
                open.done = true;
            }
            Some(open) => {
                ops[open.op].completion = open.answered.then_some(now);
                clients[c] = None;
            }
        }
    }
    if wrong {
        spoil(&mut ops);
    }
    ops
}

/// Makes one answer near the end wrong.
fn spoil(ops: &mut [Op]) {
    let from = ops.len() * 9 / 10;
    let answers = |op: &&mut Op| op.completion.is_some();
    let mut late = ops[from..].iter_mut().filter(answers);
    let read = late.find_map(|op| match &mut op.action {
        Action::ReadList(items) | Action::ReadSet(items) if items.len() > 1_000 => {
            // It misses an element of long ago.
            let without = items[..100].iter().chain(&items[101..]).copied().collect();
            *items = without;
            Some(())
        }
        _ => None,
    });
    if read.is_some() {
        return;
    }
    if let Some((i, j)) = exchangeable(ops, from) {
        let later = ops[j].action.clone();
        ops[j].action = std::mem::replace(&mut ops[i].action, later);
        return;
    }
    // Of a set, an element is there and is not, more often than what was never answered explains.
    let open = ops.iter().filter(|op| match op.action {
        Action::Add(element) | Action::Remove(element) => element == 1 && op.completion.is_none(),
        _ => false,
    });
    let turns = 2 * open.count() as u64 + 2;
    let end = ops
        .iter()
        .map(|op| op.completion.unwrap_or(op.call))
        .max()
        .unwrap_or(0);
    for (turn, op) in (0..turns).zip(ops.iter_mut().rev()) {
        let call = end + 1 + 2 * turn;
        let action = Action::Contains(1, turn % 2 == 0);
        *op = Op {
            call,
            completion: Some(call + 1),
            action,
        };
    }
}

/// Two takes of values that were both in when the first began, put in one after the other, taken
/// one after the other: in no order do they come out the other way round.
fn exchangeable(ops: &[Op], from: usize) -> Option<(usize, usize)> {
    let mut puts = vec![(0, u64::MAX); ops.len() + 1];
    for op in ops {
        if let (Action::Enqueue(value), Some(end)) = (&op.action, op.completion) {
            puts[*value as usize] = (op.call, end);
        }
    }
    let taken = |op: &Op| match op.action {
        Action::Dequeue(Taken::Value(value)) => Some((puts[value as usize], op.completion?)),
        _ => None,
    };
    for i in from..ops.len() {
        let Some((put, end)) = taken(&ops[i]) else {
            continue;
        };
        for (j, later) in ops.iter().enumerate().skip(i + 1).take(200) {
            if let Some((other, _)) = taken(later)
                && end < later.call
                && put.1.max(other.1) < ops[i].call
                && (put.1 < other.0 || other.1 < put.0)
            {
                return Some((i, j));
            }
        }
    }
    None
}

/// The operations in one call of porcupine-rs, with a plain state for each model.
fn raw(name: &str, ops: &[Op]) -> CheckResult {
    match name {
        "list" | "grow-only set" => check::<Sums>(ops),
        "set" => check::<Flags>(ops),
        "queue" => check::<Taker<0>>(ops),
        "stack" => check::<Taker<1>>(ops),
        _ => check::<Taker<2>>(ops),
    }
}

fn check<M>(ops: &[Op]) -> CheckResult
where
    M: theirs::Model<Op = Step, Metadata = ()>,
{
    let pending_read = |op: &&Op| {
        op.completion.is_some()
            || matches!(
                op.action,
                Action::Append(_)
                    | Action::Add(_)
                    | Action::Remove(_)
                    | Action::Enqueue(_)
                    | Action::Dequeue(_)
            )
    };
    let ops: Vec<theirs::Operation<M>> = ops
        .iter()
        .filter(pending_read)
        .map(|op| theirs::Operation {
            client_id: None,
            call_time: op.call as i64,
            return_time: op.completion.map_or(i64::MAX, |end| end as i64),
            op: Step::of(&op.action),
            metadata: None,
        })
        .collect();
    porcupine_rs::check_operations_timeout(&ops, Duration::from_secs(THEIR_SECONDS))
}

#[derive(Clone, Debug)]
enum Step {
    Put(Id),
    Remove(Id),
    Shown(Id, bool),
    Take(Taken),
    /// How many elements were read, and a sum of them that depends on their order in lists.
    Read(usize, u64),
}

/// Good enough for elements that are put in once, each: porcupine-rs need not hold them.
fn mix(element: Id, at: usize) -> u64 {
    let mut x = (u64::from(element) << 32 | at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x.wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

impl Step {
    fn of(action: &Action) -> Self {
        match action {
            Action::Append(e) | Action::Add(e) | Action::Enqueue(e) => Self::Put(*e),
            Action::Remove(e) => Self::Remove(*e),
            Action::Contains(e, shown) => Self::Shown(*e, *shown),
            Action::Dequeue(taken) => Self::Take(*taken),
            Action::ReadList(items) | Action::ReadSet(items) => {
                let sum = items.iter().map(|e| mix(*e, 0)).fold(0, u64::wrapping_add);
                Self::Read(items.len(), sum)
            }
            _ => unreachable!("no such operation is generated"),
        }
    }
}

/// A list or set that only grows, as the sum of its elements. (It takes no account of the order of
/// a list, which is to its advantage.)
#[derive(Clone)]
struct Sums;

impl theirs::Model for Sums {
    type State = (usize, u64);
    type Op = Step;
    type Metadata = ();

    fn init() -> (usize, u64) {
        (0, 0)
    }

    fn step(state: &(usize, u64), step: &Step) -> (bool, (usize, u64)) {
        match step {
            Step::Put(e) => (true, (state.0 + 1, state.1.wrapping_add(mix(*e, 0)))),
            Step::Read(count, sum) => (*state == (*count, *sum), *state),
            _ => (false, *state),
        }
    }
}

/// A set, element by element.
#[derive(Clone)]
struct Flags;

impl theirs::Model for Flags {
    type State = bool;
    type Op = Step;
    type Metadata = ();

    fn partition_operations(
        history: &[theirs::Operation<Self>],
    ) -> Vec<Vec<theirs::Operation<Self>>> {
        let mut elements = vec![Vec::new(); 1_001];
        for op in history {
            let (Step::Put(e) | Step::Remove(e) | Step::Shown(e, _)) = op.op else {
                continue;
            };
            elements[e as usize].push(op.clone());
        }
        elements
    }

    fn init() -> bool {
        false
    }

    fn step(state: &bool, step: &Step) -> (bool, bool) {
        match step {
            Step::Put(_) => (true, true),
            Step::Remove(_) => (true, false),
            Step::Shown(_, shown) => (shown == state, *state),
            _ => (false, *state),
        }
    }
}

/// A queue (0), stack (1) or priority queue (2).
#[derive(Clone)]
struct Taker<const WHICH: u8>;

impl<const WHICH: u8> theirs::Model for Taker<WHICH> {
    type State = VecDeque<Id>;
    type Op = Step;
    type Metadata = ();

    fn init() -> VecDeque<Id> {
        VecDeque::new()
    }

    fn step(state: &VecDeque<Id>, step: &Step) -> (bool, VecDeque<Id>) {
        let mut next = state.clone();
        let right = match step {
            Step::Put(e) if WHICH == 2 => {
                next.insert(next.partition_point(|other| other < e), *e);
                true
            }
            Step::Put(e) => {
                next.push_back(*e);
                true
            }
            Step::Take(taken) => {
                let out = if WHICH == 1 {
                    next.pop_back()
                } else {
                    next.pop_front()
                };
                match taken {
                    Taken::Value(value) => out == Some(*value),
                    Taken::Empty => out.is_none(),
                    Taken::Unknown => true,
                }
            }
            _ => false,
        };
        (right, next)
    }
}
