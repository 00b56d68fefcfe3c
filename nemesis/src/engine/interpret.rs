//! Walks the blocks of a program: begins what is due, waits for what is under way.
//!
//! Faults become [`Slot`]s, which the [engine](super) injects and heals; blocks wait for them.
//! Every statement has random streams of its own, derived from what it says, the block that it is
//! in and the round: one more statement shifts no draw of another.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand_pcg::Pcg32;

use super::{Nemesis, Phase, Slot};
use crate::action::{Node, View};
use crate::duration::nanos;
use crate::program::{Block, InFlight, Span, Statement, Trigger, What};
use crate::selector::Scene;

/// How long a round of a repetition takes at least, in nanoseconds: one in which nothing is done
/// must not keep the run from going on.
const ROUND_NS_MIN: u64 = 1_000_000;

/// What a statement is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Whence its random streams are derived.
    pub key: u64,
    /// Where the names that it gives are kept.
    pub scope: usize,
    /// The fault in whose `while` it is.
    pub outer: Option<usize>,
    /// Whether it is in a repetition without end.
    pub endless: bool,
}

/// Names given to nodes; those of a scope hide those of the scope around it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub around: Option<usize>,
    pub names: BTreeMap<String, Vec<Node>>,
}

/// A statement under way.
#[derive(Debug)]
pub(super) struct Running {
    place: Place,
    state: State,
}

#[derive(Debug)]
enum State {
    Fault {
        slot: usize,
        /// What is done while it stands, not yet begun.
        body: Option<Block>,
        meanwhile: Option<Sequence>,
    },
    Parallel(Vec<Branch>),
    Sequence(Sequence),
    Repeat {
        rounds: Option<u32>,
        every: Option<Span>,
        body: Block,
        /// Rounds begun so far.
        begun: u32,
        /// When the last one began.
        since: u64,
        /// When the next one begins at the earliest.
        next: u64,
        current: Option<Sequence>,
    },
    Wait(u64),
    When {
        trigger: Trigger,
        /// What there was when it began to wait.
        acknowledged: u64,
        leader_changes: u64,
        within: Option<Duration>,
        deadline: u64,
        body: Block,
        current: Option<Sequence>,
    },
    Each {
        /// Still to come, the next one last.
        nodes: Vec<Node>,
        name: String,
        body: Block,
        current: Option<Sequence>,
    },
    Over,
}

/// A list of statements, walked one after the other.
#[derive(Debug)]
struct Sequence {
    place: Place,
    block: Block,
    since: u64,
    next: usize,
    /// When the next one begins, where it says so.
    due: Option<u64>,
    current: Option<Box<Running>>,
}

/// One of several statements side by side.
#[derive(Debug)]
enum Branch {
    Waiting {
        statement: usize,
        at: u64,
        block: Block,
    },
    Running(Box<Running>),
}

/// What the walk sees, and when it is to be resumed.
pub(super) struct Now<'v> {
    pub time: u64,
    pub view: &'v View,
    pub wake: u64,
}

impl Now<'_> {
    /// Whether this time has come; if not, it is one to wake at.
    fn reached(&mut self, time: u64) -> bool {
        if self.time >= time {
            return true;
        }
        self.wake = self.wake.min(time);
        false
    }
}

/// The purposes for which a statement draws.
pub(super) const AT: u64 = 1;
pub(super) const LENGTH: u64 = 2;
const CHOICE: u64 = 3;
const NODES: u64 = 4;
const EVERY: u64 = 5;
/// That of a fault whose slot resolves its target.
pub(super) const TARGET: u64 = 6;

/// A random stream of the seed.
pub(super) fn stream(seed: u64, key: u64, purpose: u64) -> Pcg32 {
    Pcg32::new(seed, mix(key, purpose))
}

/// Two numbers made one, such that others give others (`splitmix64`; Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators", OOPSLA 2014).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a
        .rotate_left(17)
        .wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number for a text (FNV-1a).
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The key of one of several statements: what it says itself, without what is inside it, and the
/// how manyth it is that says so.
pub(super) fn key_of(block: &[Statement], index: usize, around: u64) -> u64 {
    let said = |statement: &Statement| {
        serde_yaml::to_string(&statement.without_blocks()).unwrap_or_default()
    };
    let own = said(&block[index]);
    let twins = block[..index].iter().filter(|other| said(other) == own);
    mix(mix(around, digest(&own)), twins.count() as u64)
}

impl Place {
    pub fn inside(self, key: u64) -> Self {
        Self { key, ..self }
    }
}

impl Running {
    /// All statements of a program side by side, but for those that have slots already.
    pub fn program(nemesis: &Nemesis, block: &Block, rest: Vec<usize>) -> Self {
        let place = Place {
            key: 0,
            scope: 0,
            outer: None,
            endless: false,
        };
        let branches = rest
            .into_iter()
            .map(|statement| nemesis.branch(block, statement, place, 0));
        Self {
            place,
            state: State::Parallel(branches.collect()),
        }
    }
}

impl Sequence {
    fn new(block: &Block, place: Place, since: u64) -> Self {
        Self {
            place,
            block: block.clone(),
            since,
            next: 0,
            due: None,
            current: None,
        }
    }
}

impl Nemesis {
    /// Begins what is due and looks what is over.
    pub(super) fn walk(&mut self, now: &mut Now<'_>) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        if !self.step(&mut running, now) {
            self.running = Some(running);
        }
    }

    fn branch(&self, block: &Block, statement: usize, place: Place, since: u64) -> Branch {
        let at = block[statement].at().map_or(0, |at| {
            let key = key_of(block, statement, place.key);
            nanos(at.draw(&mut stream(self.seed, key, AT)))
        });
        Branch::Waiting {
            statement,
            at: since.saturating_add(at),
            block: block.clone(),
        }
    }

    fn scope(&mut self, around: usize) -> usize {
        self.scopes.push(Scope {
            around: Some(around),
            names: BTreeMap::new(),
        });
        self.scopes.len() - 1
    }

    /// All names known in a scope.
    pub(super) fn names(&self, scope: usize) -> BTreeMap<String, Vec<Node>> {
        let mut names = BTreeMap::new();
        let mut at = Some(scope);
        while let Some(scope) = at.and_then(|scope| self.scopes.get(scope)) {
            for (name, nodes) in &scope.names {
                names.entry(name.clone()).or_insert_with(|| nodes.clone());
            }
            at = scope.around;
        }
        names
    }

    fn begin(&mut self, block: &Block, index: usize, around: Place, now: &Now<'_>) -> Running {
        let statement = &block[index];
        let key = key_of(block, index, around.key);
        let place = around.inside(key);
        let draw = |span: Span, purpose| span.draw(&mut stream(self.seed, key, purpose));
        let state = match &statement.what {
            What::Fault(planned) => {
                let mut entry = planned.entry.clone();
                entry.at = Duration::from_nanos(now.time);
                entry.lasting = draw(
                    Span {
                        least: entry.lasting,
                        most: entry.lasting + planned.longer,
                    },
                    LENGTH,
                );
                let mut slot = Slot::new(entry, stream(self.seed, key, TARGET));
                slot.window = planned.window;
                slot.scope = place.scope;
                slot.outer = place.outer;
                slot.endless = place.endless;
                slot.held = planned.body.is_some();
                self.slots.push(slot);
                State::Fault {
                    slot: self.slots.len() - 1,
                    body: planned.body.clone(),
                    meanwhile: None,
                }
            }
            What::Sequence(body) => State::Sequence(Sequence::new(body, place, now.time)),
            What::Parallel(body) => {
                let branches = 0..body.len();
                State::Parallel(
                    branches
                        .map(|index| self.branch(body, index, place, now.time))
                        .collect(),
                )
            }
            What::Repeat {
                rounds,
                every,
                body,
            } => State::Repeat {
                rounds: *rounds,
                every: *every,
                body: body.clone(),
                begun: 0,
                since: now.time,
                next: now.time,
                current: None,
            },
            What::Choose(alternatives) => {
                let total: u64 = alternatives.iter().map(|one| u64::from(one.weight)).sum();
                let mut random = stream(self.seed, key, CHOICE);
                let mut drawn = random.random_range(0..total.max(1));
                let chosen = alternatives.iter().find(|one| {
                    let weight = u64::from(one.weight);
                    let hit = drawn < weight;
                    drawn = drawn.saturating_sub(weight);
                    hit
                });
                chosen.map_or(State::Over, |one| {
                    State::Sequence(Sequence::new(&one.body, place, now.time))
                })
            }
            What::Wait(time) => State::Wait(now.time.saturating_add(nanos(draw(*time, LENGTH)))),
            What::When {
                trigger,
                within,
                body,
            } => State::When {
                trigger: *trigger,
                acknowledged: now.view.clients.acknowledged,
                leader_changes: self.leader_changes,
                within: *within,
                deadline: within.map_or(u64::MAX, |time| now.time.saturating_add(nanos(time))),
                body: body.clone(),
                current: None,
            },
            What::Each {
                selector,
                name,
                body,
            } => {
                let scene = Scene {
                    nodes: self.nodes,
                    view: now.view,
                    former_leader: self.former_leader,
                    taken: &self.taken(),
                    names: &self.names(place.scope),
                    budget: &self.budget,
                };
                match selector.resolve(&scene, &mut stream(self.seed, key, NODES)) {
                    Ok(mut nodes) => {
                        nodes.reverse();
                        State::Each {
                            nodes,
                            name: name.clone(),
                            body: body.clone(),
                            current: None,
                        }
                    }
                    Err(reason) => {
                        self.pass_over(body, place, now.time, reason);
                        State::Over
                    }
                }
            }
            What::Use {
                body: Some(body), ..
            } => {
                let scope = self.scope(place.scope);
                let place = Place { scope, ..place };
                State::Sequence(Sequence::new(body, place, now.time))
            }
            // It was said when the program was validated.
            What::Use { body: None, .. } => State::Over,
        };
        Running { place, state }
    }

    /// Goes on with a statement; whether it is over.
    fn step(&mut self, running: &mut Running, now: &mut Now<'_>) -> bool {
        let place = running.place;
        let over = match &mut running.state {
            State::Over => true,
            State::Wait(until) => now.reached(*until),
            State::Fault {
                slot,
                body,
                meanwhile,
            } => self.step_fault(*slot, body, meanwhile, place, now),
            State::Parallel(branches) => {
                let mut left = Vec::with_capacity(branches.len());
                for branch in branches.drain(..) {
                    let mut running = match branch {
                        Branch::Running(running) => running,
                        Branch::Waiting {
                            statement,
                            at,
                            block,
                        } => {
                            if !now.reached(at) {
                                left.push(Branch::Waiting {
                                    statement,
                                    at,
                                    block,
                                });
                                continue;
                            }
                            Box::new(self.begin(&block, statement, place, now))
                        }
                    };
                    if !self.step(&mut running, now) {
                        left.push(Branch::Running(running));
                    }
                }
                *branches = left;
                branches.is_empty()
            }
            State::Sequence(sequence) => self.step_sequence(sequence, now),
            State::Repeat {
                rounds,
                every,
                body,
                begun,
                since,
                next,
                current,
            } => loop {
                if let Some(round) = current {
                    if !self.step_sequence(round, now) {
                        break false;
                    }
                    *current = None;
                    *next = (*next).max(now.time).max(*since + ROUND_NS_MIN);
                }
                if rounds.is_some_and(|rounds| *begun >= rounds) {
                    break true;
                }
                if !now.reached(*next) {
                    break false;
                }
                let key = mix(place.key, 0x100 + u64::from(*begun));
                let place = Place {
                    key,
                    scope: self.scope(place.scope),
                    endless: place.endless || rounds.is_none(),
                    ..place
                };
                *begun += 1;
                *since = now.time;
                *next = every.map_or(now.time, |every| {
                    let apart = every.draw(&mut stream(self.seed, key, EVERY));
                    now.time.saturating_add(nanos(apart))
                });
                *current = Some(Sequence::new(body, place, now.time));
            },
            State::When {
                trigger,
                acknowledged,
                leader_changes,
                within,
                deadline,
                body,
                current,
            } => {
                if let Some(current) = current {
                    self.step_sequence(current, now)
                } else if self.holds(*trigger, *acknowledged, *leader_changes, now.view) {
                    let mut sequence = Sequence::new(body, place, now.time);
                    let over = self.step_sequence(&mut sequence, now);
                    *current = Some(sequence);
                    over
                } else if now.reached(*deadline) {
                    let time = within.map_or(String::new(), crate::duration::format);
                    let reason = format!("{trigger} did not come within {time}");
                    self.pass_over(body, place, now.time, &reason);
                    true
                } else {
                    false
                }
            }
            State::Each {
                nodes,
                name,
                body,
                current,
            } => loop {
                if let Some(one) = current {
                    if !self.step_sequence(one, now) {
                        break false;
                    }
                    *current = None;
                }
                let Some(node) = nodes.pop() else {
                    break true;
                };
                let scope = self.scope(place.scope);
                self.scopes[scope].names.insert(name.clone(), vec![node]);
                let key = mix(place.key, u64::from(node));
                let place = Place {
                    key,
                    scope,
                    ..place
                };
                *current = Some(Sequence::new(body, place, now.time));
            },
        };
        if over {
            running.state = State::Over;
        }
        over
    }

    fn step_sequence(&mut self, sequence: &mut Sequence, now: &mut Now<'_>) -> bool {
        loop {
            if let Some(current) = &mut sequence.current {
                if !self.step(current, now) {
                    return false;
                }
                sequence.current = None;
                sequence.due = None;
                sequence.next += 1;
            }
            let Some(statement) = sequence.block.get(sequence.next) else {
                return true;
            };
            if let Some(at) = statement.at() {
                let due = *sequence.due.get_or_insert_with(|| {
                    let key = key_of(&sequence.block, sequence.next, sequence.place.key);
                    let at = at.draw(&mut stream(self.seed, key, AT));
                    sequence.since.saturating_add(nanos(at))
                });
                if !now.reached(due) {
                    return false;
                }
            }
            let running = self.begin(&sequence.block, sequence.next, sequence.place, now);
            sequence.current = Some(Box::new(running));
        }
    }

    fn step_fault(
        &mut self,
        slot: usize,
        body: &mut Option<Block>,
        meanwhile: &mut Option<Sequence>,
        place: Place,
        now: &mut Now<'_>,
    ) -> bool {
        match self.slots[slot].phase {
            Phase::Pending | Phase::Injecting | Phase::Healing => false,
            Phase::Healed => true,
            Phase::Skipped => {
                if let Some(body) = body.take() {
                    let why = self.slots[slot].obstacle.clone().unwrap_or_default();
                    let reason = format!("the fault around it was skipped: {why}");
                    self.pass_over(&body, place, now.time, &reason);
                }
                true
            }
            Phase::Active => {
                if let Some(body) = body.take() {
                    let inside = Place {
                        outer: Some(slot),
                        ..place
                    };
                    *meanwhile = Some(Sequence::new(&body, inside, now.time));
                }
                if let Some(sequence) = meanwhile
                    && self.step_sequence(sequence, now)
                {
                    self.slots[slot].released.get_or_insert(now.time);
                }
                false
            }
        }
    }

    fn holds(&self, trigger: Trigger, acknowledged: u64, changes: u64, view: &View) -> bool {
        let clients = &view.clients;
        let (reads, writes) = (clients.reads_in_flight, clients.writes_in_flight);
        let enough = |wanted: Option<u64>, had: u64, has: u64| {
            wanted.is_none_or(|wanted| has.saturating_sub(had) >= wanted)
        };
        enough(trigger.acknowledged, acknowledged, clients.acknowledged)
            && enough(trigger.leader_changes, changes, self.leader_changes)
            && trigger
                .staleness
                .is_none_or(|least| !clients.staleness.is_zero() && clients.staleness >= least)
            && trigger.in_flight.is_none_or(|kind| match kind {
                InFlight::Read => reads > 0,
                InFlight::Write => writes > 0,
                InFlight::Any => reads + writes > 0,
            })
    }

    /// Records the faults in these statements as skipped: of each repetition one round, of each
    /// choice the first alternative.
    fn pass_over(&mut self, block: &[Statement], place: Place, now: u64, reason: &str) {
        if place.endless && self.stopped_at.is_some() {
            return;
        }
        for statement in block {
            if let What::Fault(planned) = &statement.what {
                let mut entry = planned.entry.clone();
                entry.at = Duration::from_nanos(now);
                let mut slot = Slot::new(entry, stream(self.seed, place.key, TARGET));
                slot.phase = Phase::Skipped;
                slot.obstacle = Some(reason.to_owned());
                self.slots.push(slot);
            }
            let mut blocks = statement.blocks();
            if matches!(statement.what, What::Choose(_)) {
                blocks.truncate(1);
            }
            for (_, block) in blocks {
                self.pass_over(block, place, now, reason);
            }
            if let What::Use {
                body: Some(body), ..
            } = &statement.what
            {
                self.pass_over(body, place, now, reason);
            }
        }
    }

    /// Records what the end of the run leaves undone.
    pub(super) fn abandon(&mut self, now: u64) {
        if let Some(running) = self.running.take() {
            self.abandon_one(running, now);
        }
    }

    fn abandon_one(&mut self, running: Running, now: u64) {
        const REASON: &str = "the run ended before it";
        let place = running.place;
        match running.state {
            State::Over | State::Wait(_) => {}
            State::Fault {
                body, meanwhile, ..
            } => {
                if let Some(body) = body {
                    self.pass_over(&body, place, now, REASON);
                }
                self.abandon_sequence(meanwhile, now);
            }
            State::Parallel(branches) => {
                for branch in branches {
                    match branch {
                        Branch::Running(running) => self.abandon_one(*running, now),
                        Branch::Waiting {
                            statement, block, ..
                        } => {
                            let one = &block[statement..=statement];
                            self.pass_over(one, place, now, REASON);
                        }
                    }
                }
            }
            State::Sequence(sequence) => self.abandon_sequence(Some(sequence), now),
            State::Repeat {
                rounds,
                body,
                begun,
                current,
                ..
            } => {
                self.abandon_sequence(current, now);
                if rounds.is_some_and(|rounds| begun < rounds) {
                    self.pass_over(&body, place, now, REASON);
                }
            }
            State::When {
                trigger,
                body,
                current,
                ..
            } => {
                if current.is_none() {
                    let reason = format!("the run ended before {trigger}");
                    self.pass_over(&body, place, now, &reason);
                }
                self.abandon_sequence(current, now);
            }
            State::Each {
                nodes,
                body,
                current,
                ..
            } => {
                self.abandon_sequence(current, now);
                if !nodes.is_empty() {
                    self.pass_over(&body, place, now, REASON);
                }
            }
        }
    }

    fn abandon_sequence(&mut self, sequence: Option<Sequence>, now: u64) {
        let Some(sequence) = sequence else { return };
        let begun = usize::from(sequence.current.is_some());
        if let Some(current) = sequence.current {
            self.abandon_one(*current, now);
        }
        let rest = sequence.block.get(sequence.next + begun..).unwrap_or(&[]);
        self.pass_over(rest, sequence.place, now, "the run ended before it");
    }
}
