//! The search for an interleaving.
//!
//! A configuration is how far each session has come and what the keys hold. From one, the operation
//! that a session comes to next can be taken if what it shows is so. The search goes depth first
//! and remembers the configurations it has been in, by a hash of 128 bits (among `c`
//! configurations two that differ look alike with a probability below `c²/2^128`).
//!
//! What makes it short, and why nothing is missed:
//!
//! * *A read that fits is taken at once.* It changes nothing, so that in any interleaving that goes
//!   on from here it can be moved to the front.
//! * *What somebody still has to read is not replaced*, if nothing left can bring it back. So where
//!   values are distinguishable, a write waits for all reads of what it overwrites.
//! * *What only grows does not grow past what somebody still has to read*: an element is added or
//!   appended only if the smallest read that is left of that set or list shows it, and a counter
//!   does not exceed it. (Sets from which nothing is removed, counters that are never decremented.)
//! * *A value that nobody left looks for is like any other such value* of a register, and a list of
//!   which no read shows the beginning is like any other such list.
//! * Operations that completed early are tried first: a history that is nearly linearizable is
//!   gone through nearly straight.

use rustc_hash::{FxHashMap, FxHashSet};

/// What the states of sets may take, in elements.
const VOLUME_MAX: usize = 100_000_000;

/// What a key holds, numbered.
pub(super) type State = u32;

/// A change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// A register is overwritten by this value.
    Write(u32),
    /// A register that holds the first value is set to the second.
    Cas(u32, u32),
    /// An element is appended to a list.
    Append(u32),
    /// An element is added to a set.
    Add(u32),
    /// An element is taken out of a set.
    Remove(u32),
    /// A counter is changed.
    Increment(i64),
}

/// What an operation does to one key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Shows that it is in this state.
    Read { key: u32, state: State },
    /// Changes it.
    Change { key: u32, change: Change },
}

/// An operation: reads of several keys, or one change.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) session: u32,
    pub(super) steps: Vec<Step>,
    /// Whether it may not have happened; then it is the last of its session.
    pub(super) optional: bool,
    /// When it ended: a hint.
    pub(super) ended: u64,
}

/// What a key may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content {
    Value(u32),
    Empty,
    /// A list: another one and an element.
    Longer(State, u32),
    /// A list of which no read shows the beginning.
    Unseen,
    Elements(Vec<u32>),
    Sum(i64),
}

/// What kind of object a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Register,
    List,
    Set,
    Counter,
}

/// Operations, in the order of their sessions, and keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Problem {
    pub(super) ops: Vec<Op>,
    kinds: Vec<Kind>,
    /// By key: whether it may come back to a state that it has left.
    returns: Vec<bool>,
    states: FxHashMap<(u32, Content), State>,
    contents: Vec<Content>,
    /// How much memory `contents` takes, about, in words.
    volume: usize,
}

impl Problem {
    /// Another key. `returns`: whether it may come back to a state (of what is no register).
    pub(super) fn key(&mut self, kind: Kind, returns: bool) -> u32 {
        self.kinds.push(kind);
        self.returns.push(returns);
        self.kinds.len() as u32 - 1
    }

    /// How many sessions and keys there are: what it costs to look at a configuration.
    pub(super) fn width(&self) -> u64 {
        let sessions = self.ops.iter().map(|op| op.session + 1).max();
        u64::from(sessions.unwrap_or(0)) + self.kinds.len() as u64 + 1
    }

    fn state(&mut self, key: u32, content: Content) -> State {
        let next = self.contents.len() as u32;
        let state = *self.states.entry((key, content.clone())).or_insert(next);
        if state == next {
            if let Content::Elements(items) = &content {
                self.volume += items.len();
            }
            self.contents.push(content);
        }
        state
    }

    fn initial(&mut self, key: u32) -> State {
        let content = match self.kinds[key as usize] {
            Kind::Register => Content::Value(0),
            Kind::List => Content::Empty,
            Kind::Set => Content::Elements(Vec::new()),
            Kind::Counter => Content::Sum(0),
        };
        self.state(key, content)
    }

    /// A register that holds this value; 0 is the initial one.
    pub(super) fn value(&mut self, key: u32, value: u32) -> State {
        self.state(key, Content::Value(value))
    }

    /// A list with these elements, which a read shows.
    pub(super) fn list(&mut self, key: u32, items: &[u32]) -> State {
        let empty = self.state(key, Content::Empty);
        let longer = |at, &item| self.state(key, Content::Longer(at, item));
        items.iter().fold(empty, longer)
    }

    /// A set with these elements.
    pub(super) fn set(&mut self, key: u32, mut items: Vec<u32>) -> State {
        items.sort_unstable();
        items.dedup();
        self.state(key, Content::Elements(items))
    }

    /// A counter with this sum.
    pub(super) fn sum(&mut self, key: u32, sum: i64) -> State {
        self.state(key, Content::Sum(sum))
    }

    /// Adds the values that a state is made of.
    pub(super) fn values_of(&self, state: State, values: &mut FxHashSet<u32>) {
        let mut at = state;
        loop {
            match &self.contents[at as usize] {
                Content::Longer(shorter, item) => {
                    values.insert(*item);
                    at = *shorter;
                }
                Content::Value(value) => {
                    values.insert(*value);
                    return;
                }
                Content::Elements(items) => {
                    values.extend(items);
                    return;
                }
                Content::Empty | Content::Unseen | Content::Sum(_) => return,
            }
        }
    }

    /// How large a state is of what only grows.
    fn size(&self, state: State) -> i64 {
        let mut at = state;
        let mut length = 0;
        loop {
            match &self.contents[at as usize] {
                Content::Longer(shorter, _) => {
                    length += 1;
                    at = *shorter;
                }
                Content::Elements(items) => return items.len() as i64,
                Content::Sum(sum) => return *sum,
                Content::Value(_) | Content::Empty | Content::Unseen => return length,
            }
        }
    }

    /// What a change makes of a state; `None` if it does not fit.
    fn after(&mut self, key: u32, state: State, change: Change) -> Option<State> {
        Some(match (change, &self.contents[state as usize]) {
            (Change::Write(value), _) => self.value(key, value),
            (Change::Cas(old, new), Content::Value(held)) if *held == old => self.value(key, new),
            (Change::Append(item), _) => {
                let longer = (key, Content::Longer(state, item));
                match self.states.get(&longer) {
                    Some(&state) => state,
                    None => self.state(key, Content::Unseen),
                }
            }
            (Change::Add(item), Content::Elements(items)) => match items.binary_search(&item) {
                Ok(_) => state,
                Err(at) => {
                    let mut items = items.clone();
                    items.insert(at, item);
                    self.state(key, Content::Elements(items))
                }
            },
            (Change::Remove(item), Content::Elements(items)) => match items.binary_search(&item) {
                Ok(at) => {
                    let mut items = items.clone();
                    items.remove(at);
                    self.state(key, Content::Elements(items))
                }
                Err(_) => state,
            },
            (Change::Increment(by), Content::Sum(sum)) => {
                let sum = sum.checked_add(by)?;
                self.state(key, Content::Sum(sum))
            }
            _ => return None,
        })
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The operations in an order that explains everything.
    Interleaving(Vec<u32>),
    /// There is none. The operations that sessions came to next where most had been taken.
    None { next: Vec<u32>, taken: usize },
    /// The budget was spent; how many operations had been taken at most.
    Budget { taken: usize },
}

struct Frame {
    trail: usize,
    choices: usize,
    next: usize,
}

struct Search {
    problem: Problem,
    sessions: Vec<Vec<u32>>,
    at: Vec<usize>,
    held: Vec<State>,
    /// By state: operations left that need it; those that must happen, and all.
    must: Vec<u32>,
    may: Vec<u32>,
    /// By state of a register: changes left that lead to it.
    makers: Vec<u32>,
    /// By key that only grows: the states that reads show, the smallest first.
    targets: Vec<Vec<State>>,
    /// What was taken, and what the key that it changed held before.
    trail: Vec<(u32, State)>,
    left: usize,
}

/// Looks for an interleaving, at most so many configurations far.
pub(super) fn search(problem: &Problem, configurations: u64) -> Found {
    let mut search = Search::new(problem.clone());
    let mut seen: FxHashSet<u128> = FxHashSet::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut choices: Vec<u32> = Vec::new();
    let mut furthest: Option<(usize, Vec<u32>)> = None;
    loop {
        search.settle();
        if search.left == 0 {
            return Found::Interleaving(search.trail.iter().map(|taken| taken.0).collect());
        }
        let taken = search.trail.len();
        if furthest.as_ref().is_none_or(|(most, _)| taken > *most) {
            furthest = Some((taken, search.next()));
        }
        if seen.insert(search.hash()) {
            if seen.len() as u64 > configurations || search.problem.volume > VOLUME_MAX {
                let taken = furthest.map_or(0, |(most, _)| most);
                return Found::Budget { taken };
            }
            let first = choices.len();
            let mut next = search.next();
            next.sort_unstable_by_key(|&op| search.problem.ops[op as usize].ended);
            choices.extend(next);
            frames.push(Frame {
                trail: search.trail.len(),
                choices: first,
                next: first,
            });
        }
        loop {
            let Some(frame) = frames.last_mut() else {
                let (taken, next) = furthest.unwrap_or_default();
                return Found::None { next, taken };
            };
            search.undo(frame.trail);
            match choices.get(frame.next) {
                Some(&op) => {
                    frame.next += 1;
                    if search.take(op) {
                        break;
                    }
                }
                None => {
                    choices.truncate(frame.choices);
                    frames.pop();
                }
            }
        }
    }
}

impl Search {
    fn new(mut problem: Problem) -> Self {
        let keys = 0..problem.kinds.len() as u32;
        let held = keys.map(|key| problem.initial(key)).collect();
        let sessions = problem.ops.iter().map(|op| op.session + 1).max();
        let mut search = Self {
            sessions: vec![Vec::new(); sessions.unwrap_or(0) as usize],
            at: vec![0; sessions.unwrap_or(0) as usize],
            held,
            must: Vec::new(),
            may: Vec::new(),
            makers: Vec::new(),
            targets: vec![Vec::new(); problem.kinds.len()],
            trail: Vec::new(),
            left: problem.ops.iter().filter(|op| !op.optional).count(),
            problem,
        };
        for op in 0..search.problem.ops.len() {
            let session = search.problem.ops[op].session as usize;
            search.sessions[session].push(op as u32);
            search.count(op as u32, true);
            for step in &search.problem.ops[op].steps {
                if let Step::Read { key, state } = *step
                    && !search.problem.returns[key as usize]
                    && search.problem.kinds[key as usize] != Kind::Register
                {
                    search.targets[key as usize].push(state);
                }
            }
        }
        let mut targets = std::mem::take(&mut search.targets);
        for of_key in &mut targets {
            of_key.sort_by_cached_key(|&state| (search.problem.size(state), state));
            of_key.dedup();
        }
        search.targets = targets;
        search
    }

    /// Whether a key that only grows did not grow past what somebody still has to read.
    fn fits_the_next_read(&self, key: u32, state: State, change: Change) -> bool {
        let mut targets = self.targets[key as usize].iter();
        let Some(&target) = targets.find(|&&target| self.must[target as usize] > 0) else {
            return true;
        };
        let contents = &self.problem.contents;
        match (
            &contents[state as usize],
            &contents[target as usize],
            change,
        ) {
            (Content::Unseen, ..) => false,
            (_, Content::Elements(items), Change::Add(item)) => items.binary_search(&item).is_ok(),
            (Content::Sum(sum), Content::Sum(most), _) => sum <= most,
            _ => true,
        }
    }

    /// Counts what an operation that is left needs and makes, or counts it no longer.
    fn count(&mut self, op: u32, left: bool) {
        let ops = std::mem::take(&mut self.problem.ops);
        let op = &ops[op as usize];
        for step in &op.steps {
            let needed = match *step {
                Step::Read { state, .. } => Some(state),
                Step::Change {
                    key,
                    change: Change::Cas(old, _),
                } => Some(self.problem.value(key, old)),
                Step::Change { .. } => None,
            };
            let made = match *step {
                Step::Change {
                    key,
                    change: Change::Cas(_, new) | Change::Write(new),
                } => Some(self.problem.value(key, new)),
                _ => None,
            };
            self.grow();
            let add = |count: &mut u32| {
                *count = if left { *count + 1 } else { *count - 1 };
            };
            if let Some(state) = needed {
                add(&mut self.may[state as usize]);
                if !op.optional {
                    add(&mut self.must[state as usize]);
                }
            }
            if let Some(state) = made {
                add(&mut self.makers[state as usize]);
            }
        }
        self.problem.ops = ops;
    }

    fn grow(&mut self) {
        let states = self.problem.contents.len();
        self.must.resize(states, 0);
        self.may.resize(states, 0);
        self.makers.resize(states, 0);
    }

    /// The operations that sessions come to next.
    fn next(&self) -> Vec<u32> {
        let next = self.sessions.iter().zip(&self.at);
        next.filter_map(|(ops, &at)| ops.get(at).copied()).collect()
    }

    /// Takes all reads that fit.
    fn settle(&mut self) {
        let mut again = true;
        while again {
            again = false;
            for session in 0..self.sessions.len() {
                while let Some(&op) = self.sessions[session].get(self.at[session]) {
                    let steps = &self.problem.ops[op as usize].steps;
                    let fits = steps.iter().all(|step| match *step {
                        Step::Read { key, state } => self.held[key as usize] == state,
                        Step::Change { .. } => false,
                    });
                    if !fits {
                        break;
                    }
                    self.taken(op, 0);
                    again = true;
                }
            }
        }
    }

    fn taken(&mut self, op: u32, before: State) {
        let Op {
            session, optional, ..
        } = self.problem.ops[op as usize];
        self.at[session as usize] += 1;
        self.left -= usize::from(!optional);
        self.count(op, false);
        self.trail.push((op, before));
    }

    /// Takes a change, if it fits and leaves behind nothing that is needed.
    fn take(&mut self, op: u32) -> bool {
        let [Step::Change { key, change }] = self.problem.ops[op as usize].steps[..] else {
            return false;
        };
        let before = self.held[key as usize];
        let Some(after) = self.problem.after(key, before, change) else {
            return false;
        };
        self.grow();
        self.taken(op, before);
        self.held[key as usize] = after;
        let comes_back = match self.problem.kinds[key as usize] {
            Kind::Register => self.makers[before as usize] > 0,
            _ => self.problem.returns[key as usize],
        };
        let needed = after != before && !comes_back && self.must[before as usize] > 0;
        !needed && self.fits_the_next_read(key, after, change)
    }

    /// Goes back to when this many operations had been taken.
    fn undo(&mut self, trail: usize) {
        while self.trail.len() > trail {
            let Some((op, before)) = self.trail.pop() else {
                return;
            };
            let taken = &self.problem.ops[op as usize];
            self.at[taken.session as usize] -= 1;
            self.left += usize::from(!taken.optional);
            if let [Step::Change { key, .. }] = taken.steps[..] {
                self.held[key as usize] = before;
            }
            self.count(op, true);
        }
    }

    fn hash(&self) -> u128 {
        let at = self.at.iter().map(|&at| at as u64);
        let held = self.held.iter().zip(&self.problem.kinds);
        let held = held.map(|(&state, &kind)| {
            if kind == Kind::Register && self.may[state as usize] == 0 {
                u64::MAX
            } else {
                u64::from(state)
            }
        });
        let (mut a, mut b) = (0x9e37_79b9_7f4a_7c15_u64, 0xd1b5_4a32_d192_ed03_u64);
        for word in at.chain(held) {
            a = mix(a ^ word);
            b = mix(b.wrapping_add(word).wrapping_mul(0x2545_f491_4f6c_dd1d));
        }
        u128::from(a) << 64 | u128::from(b)
    }
}

/// A bijection that spreads every bit (the finalizer of `SplitMix64`).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
