//! Cycles of dependencies, by the phenomenon that they are.
//!
//! # What is decided exactly
//!
//! With the edges of a level (data alone, with the order of processes, with real time):
//!
//! * There is a G0 if and only if a component of the overwriting edges has two transactions; a G1c
//!   or G0 likewise with reads-from; a cycle of any class with anti-dependencies, too.
//! * There is a cycle without two adjacent anti-dependencies if and only if there is one in the
//!   graph of states "transaction, and whether it was reached by an anti-dependency", in which no
//!   second one can follow (Cerone & Gotsman: snapshot isolation is the absence of these). A closed
//!   walk there may visit a transaction twice. Cut at it, the walk falls into two; only one of the
//!   two can have got an adjacent pair where it was joined, so the other is shorter and without.
//!   By induction there is a cycle that visits each transaction once.
//!
//! So these cost O(transactions + edges), and for every such component a cycle is shown. Whether
//! there is a cycle with exactly *one* anti-dependency is asked of each anti-dependency that points
//! backwards in a topological order of the other edges, by a breadth-first search between its two
//! ends in that order. That is bounded; where the bound is reached, [`Found::undecided`] says so.
//!
//! # What is shown
//!
//! The search begins with all edges and goes into each component found, so that nothing is spent
//! on the rest. In a component it looks for short cycles first: of length two, three, four and so
//! on, each the shortest through the edge that it begins with. A cycle has no transaction in common
//! with another of its class or a worse one: one stale read is one anomaly, not all the cycles that
//! it closes.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use super::encode::{Transactions, Txn};
use super::graph::{Builder, Components, Edge, Graph, Kind, Kinds, nonadjacent_step};
use super::models::{CLASSES, Class, LEVELS, Level, Phenomenon};
use super::order::{link_processes, link_realtime};

/// A cycle: each transaction, and how the next one (after the last: the first) depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cycle {
    pub(crate) class: Class,
    pub(crate) level: Level,
    pub(crate) steps: Vec<(u32, Kind)>,
}

impl Cycle {
    pub(crate) fn of(steps: Vec<(u32, Kind)>) -> Self {
        let is_rw = |&(_, kind): &(u32, Kind)| kind == Kind::Rw;
        let anti = steps.iter().filter(|step| is_rw(step)).count();
        let next = steps.iter().cycle().skip(1);
        let adjacent = steps.iter().zip(next).any(|(a, b)| is_rw(a) && is_rw(b));
        let has = |kind| steps.iter().any(|&(_, k)| k == kind);
        let class = match anti {
            0 if !has(Kind::Wr) => Class::G0,
            0 => Class::G1c,
            1 => Class::GSingle,
            _ if adjacent => Class::G2Item,
            _ => Class::GNonadjacent,
        };
        let level = match (has(Kind::Realtime), has(Kind::Process)) {
            (true, _) => Level::Realtime,
            (_, true) => Level::Process,
            _ => Level::Data,
        };
        Self {
            class,
            level,
            steps,
        }
    }

    pub(crate) fn phenomenon(&self) -> Phenomenon {
        Phenomenon::Cycle(self.class, self.level)
    }
}

/// The cycles of a history.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// At most [`SHOWN_MAX`] of a phenomenon.
    pub(crate) cycles: Vec<Cycle>,
    /// How many there are of each, if more were found than are shown.
    pub(crate) counts: FxHashMap<Phenomenon, u64>,
    /// Levels of which it was not decided whether they have a cycle with exactly one
    /// anti-dependency.
    pub(crate) undecided: Vec<Level>,
}

/// How many of a kind are shown.
pub(crate) const SHOWN_MAX: usize = 1_000;

/// How many states all searches beyond the necessary ones may visit together.
const WORK_MAX: u64 = 200_000_000;

/// Lengths of cycles up to which is searched first.
const LIMITS: [u32; 9] = [2, 3, 4, 5, 6, 7, 8, 32, u32::MAX];

const fn level_kind(level: Level) -> Option<Kind> {
    match level {
        Level::Data => None,
        Level::Process => Some(Kind::Process),
        Level::Realtime => Some(Kind::Realtime),
    }
}

const WRITES: Kinds = Kinds::of(&[Kind::Ww]);
const READS: Kinds = Kinds::of(&[Kind::Ww, Kind::Wr]);
const DATA: Kinds = Kinds::of(&[Kind::Ww, Kind::Wr, Kind::Rw]);

/// Finds the cycles among transactions that are known to have been committed. `dependencies` has
/// the edges of the data, and nodes as there are transactions.
pub(crate) fn find(
    txns: &Transactions<'_>,
    committed: &[bool],
    mut dependencies: Builder,
) -> Result<Found, String> {
    let barriers = dependencies.auxiliary();
    let all = (0u32..).zip(&txns.txns);
    link_realtime(
        &mut dependencies,
        all.filter(|&(node, _)| committed[node as usize]),
    );
    if dependencies.too_large() {
        return Err("too-large: more dependencies than can be numbered".to_owned());
    }
    let graph = dependencies.build();
    let components = graph.components(DATA.with(Some(Kind::Realtime)));
    let mut found = Found::default();
    if !components.any_cyclic() {
        return Ok(found);
    }
    let mut members: Vec<(u32, u32)> = (0..barriers)
        .map(|node| (components.of(node), node))
        .filter(|&(component, _)| components.is_cyclic(component))
        .collect();
    drop(components);
    // Stable, so that the members of a component stay in order.
    members.sort_by_key(|&(component, _)| component);
    let mut groups: Vec<&[(u32, u32)]> = members.chunk_by(|a, b| a.0 == b.0).collect();
    groups.sort_by_key(|group| group[0].1);
    let mut local = vec![u32::MAX; barriers as usize];
    let mut work = WORK_MAX;
    for group in groups {
        let part = Part::of(txns, &graph, group, &mut local);
        part.search(&mut found, &mut work);
        for &(_, node) in group {
            local[node as usize] = u32::MAX;
        }
    }
    Ok(found)
}

/// One component of the whole graph, with numbers of its own.
struct Part<'t> {
    /// By node: its number in the history. Transactions only.
    names: Vec<u32>,
    txns: Vec<&'t Txn>,
    graph: Graph,
}

impl<'t> Part<'t> {
    fn of(
        txns: &'t Transactions<'_>,
        whole: &Graph,
        group: &[(u32, u32)],
        local: &mut [u32],
    ) -> Self {
        let is_txn = |node: u32| node < whole.txns();
        let names: Vec<u32> = group.iter().map(|g| g.1).filter(|&n| is_txn(n)).collect();
        let mut builder = Builder::new(names.len() as u32);
        for (at, &(_, node)) in group.iter().enumerate() {
            // Transactions come first: their numbers are smaller.
            local[node as usize] = if is_txn(node) {
                at as u32
            } else {
                builder.auxiliary()
            };
        }
        for &(_, node) in group {
            for edge in whole.from(node) {
                let to = local.get(edge.to() as usize).copied();
                if let Some(to) = to.filter(|&to| to != u32::MAX && edge.kind() != Kind::Realtime) {
                    builder.add(local[node as usize], to, edge.kind());
                }
            }
        }
        let txns: Vec<&Txn> = names.iter().map(|&n| &txns.txns[n as usize]).collect();
        let all = (0u32..).zip(txns.iter().copied());
        link_processes(&mut builder, all.clone());
        link_realtime(&mut builder, all);
        Self {
            names,
            txns,
            graph: builder.build(),
        }
    }

    fn search(&self, found: &mut Found, work: &mut u64) {
        let mut record = Record {
            part: self,
            found,
            here: Vec::new(),
        };
        let mut bfs = Bfs::new(self);
        for level in LEVELS {
            let kind = level_kind(level);
            let all = self.graph.components(DATA.with(kind));
            if !all.any_cyclic() {
                continue;
            }
            let writes = self.graph.components(WRITES.with(kind));
            let reads = self.graph.components(READS.with(kind));
            let nonadjacent = self.graph.nonadjacent_components(DATA.with(kind));
            for class in CLASSES {
                let within = match class {
                    Class::G0 => &writes,
                    Class::G1c => &reads,
                    _ => &all,
                };
                let possible = match class {
                    Class::GNonadjacent => nonadjacent.any_cyclic(),
                    Class::GSingle => nonadjacent.any_cyclic() && all.any_cyclic(),
                    _ => within.any_cyclic(),
                };
                if !possible {
                    continue;
                }
                let want = Want::new(class, level);
                let budget = (20_000 + 4 * self.graph.size() as u64).min(*work);
                let mut left = budget;
                let ended = self.list(&want, within, &reads, &mut bfs, &mut record, &mut left);
                *work -= budget - left;
                let shown = |c: &Cycle| c.class <= Class::GSingle && c.level <= level;
                if class == Class::GSingle && !ended && !record.here.iter().any(shown) {
                    record.found.undecided.push(level);
                }
                match class {
                    Class::GSingle => {}
                    Class::GNonadjacent => {
                        self.one_nonadjacent(level, &nonadjacent, &mut bfs, &mut record);
                    }
                    _ => self.one_each(&want, within, &mut bfs, &mut record),
                }
            }
        }
    }

    /// Lists cycles of a class without common transactions, the shortest first; whether it got
    /// through all of them.
    fn list(
        &self,
        want: &Want,
        within: &Components,
        reads: &Components,
        bfs: &mut Bfs<'_>,
        record: &mut Record<'_, '_>,
        left: &mut u64,
    ) -> bool {
        let mut covered = vec![false; self.graph.nodes() as usize];
        let phenomenon = Phenomenon::Cycle(want.class, want.level);
        for cycle in &record.here {
            if cycle.phenomenon().implies(phenomenon) {
                for &(txn, _) in &cycle.steps {
                    covered[txn as usize] = true;
                }
            }
        }
        let starts = || {
            let nodes = 0..self.graph.txns();
            nodes.flat_map(|u| self.graph.from(u).iter().map(move |&edge| (u, edge)))
        };
        for limit in LIMITS {
            for (u, first) in starts() {
                let component = within.of(u);
                if first.kind() != want.first
                    || covered[u as usize]
                    || covered[first.to() as usize]
                    || !within.is_cyclic(component)
                    || within.of(first.to()) != component
                {
                    continue;
                }
                let walk = if want.class == Class::GSingle {
                    // Along the other edges, only what lies between the ends in their order.
                    let (end, start) = (reads.of(u), reads.of(first.to()));
                    if start < end {
                        continue;
                    }
                    let allowed = |n: u32| {
                        within.of(n) == component
                            && (end..=start).contains(&reads.of(n))
                            && !covered[n as usize]
                    };
                    bfs.closed_walk(want, u, first, limit, left, allowed)
                } else {
                    let allowed = |n: u32| within.of(n) == component && !covered[n as usize];
                    bfs.closed_walk(want, u, first, limit, left, allowed)
                };
                if *left == 0 {
                    return false;
                }
                for cycle in walk.into_iter().flat_map(|walk| self.simple(walk)) {
                    let cycle = Cycle::of(cycle);
                    if (cycle.class, cycle.level) == (want.class, want.level) {
                        for &(txn, _) in &cycle.steps {
                            covered[txn as usize] = true;
                        }
                        // Of the short ones all shorter ones were found before.
                        let short = limit <= 8;
                        let cycle = if short {
                            cycle
                        } else {
                            self.shrunk(cycle, bfs)
                        };
                        record.add(cycle);
                    }
                }
            }
        }
        true
    }

    /// A cycle as bad as this one of fewer of its transactions, if there is one that is soon
    /// found.
    fn shrunk(&self, cycle: Cycle, bfs: &mut Bfs<'_>) -> Cycle {
        const LENGTHS: std::ops::RangeInclusive<usize> = 3..=64;
        const WORK: u64 = 100_000;
        let n = cycle.steps.len();
        if !LENGTHS.contains(&n) {
            return cycle;
        }
        let mut members: Vec<u32> = cycle.steps.iter().map(|s| s.0).collect();
        members.sort_unstable();
        let within = |n: u32| n >= self.graph.txns() || members.binary_search(&n).is_ok();
        let mut left = WORK;
        let wants: Vec<Want> = LEVELS
            .into_iter()
            .filter(|&level| level <= cycle.level)
            .flat_map(|level| CLASSES.map(|class| Want::new(class, level)))
            .filter(|want| want.class <= cycle.class)
            .collect();
        for limit in 2..n as u32 {
            for want in &wants {
                for &u in &members {
                    for &first in self.graph.from(u) {
                        if first.kind() != want.first || !within(first.to()) {
                            continue;
                        }
                        let walk = bfs.closed_walk(want, u, first, limit, &mut left, within);
                        let cycles = walk.into_iter().flat_map(|walk| self.simple(walk));
                        let smaller = cycles
                            .map(Cycle::of)
                            .find(|c| c.phenomenon().implies(cycle.phenomenon()));
                        if let Some(smaller) = smaller {
                            return smaller;
                        }
                    }
                }
            }
        }
        cycle
    }

    /// Sees to it that every component has a cycle shown that is as bad as its class.
    fn one_each(
        &self,
        want: &Want,
        within: &Components,
        bfs: &mut Bfs<'_>,
        record: &mut Record<'_, '_>,
    ) {
        let mut shown = vec![false; within.count()];
        for cycle in &record.here {
            let component = within.of(cycle.steps[0].0);
            let inside = cycle.steps.iter().all(|s| within.of(s.0) == component);
            if inside && cycle.class <= want.class && cycle.level <= want.level {
                shown[component as usize] = true;
            }
        }
        let any = Want::any(want);
        for u in 0..self.graph.txns() {
            let component = within.of(u);
            if shown[component as usize] || !within.is_cyclic(component) {
                continue;
            }
            let into =
                |edge: &&Edge| any.kinds.has(edge.kind()) && within.of(edge.to()) == component;
            for &first in self.graph.from(u).iter().filter(into) {
                let allowed = |n: u32| within.of(n) == component;
                let mut left = u64::MAX;
                let walk = bfs.closed_walk(&any, u, first, u32::MAX, &mut left, allowed);
                let Some(cycle) = walk.and_then(|walk| self.simple(walk).pop()) else {
                    continue;
                };
                shown[component as usize] = true;
                record.add(self.shrunk(Cycle::of(cycle), bfs));
                break;
            }
        }
    }

    /// The same for components of the graph without adjacent anti-dependencies.
    fn one_nonadjacent(
        &self,
        level: Level,
        states: &Components,
        bfs: &mut Bfs<'_>,
        record: &mut Record<'_, '_>,
    ) {
        let mut shown = vec![false; states.count()];
        let bad = |c: &&Cycle| c.class <= Class::GNonadjacent && c.level <= level;
        for cycle in record.here.iter().filter(bad) {
            let before = cycle.steps.iter().cycle().skip(cycle.steps.len() - 1);
            for (&(_, kind), &(txn, _)) in before.zip(&cycle.steps) {
                let state = 2 * txn + u32::from(kind == Kind::Rw);
                shown[states.of(state) as usize] = true;
            }
        }
        let kinds = DATA.with(level_kind(level));
        for start in 0..2 * self.graph.txns() {
            let component = states.of(start);
            if shown[component as usize] || !states.is_cyclic(component) {
                continue;
            }
            shown[component as usize] = true;
            let Some(walk) = self.walk_of_states(start, kinds, states) else {
                continue;
            };
            for cycle in self.simple(walk) {
                let cycle = Cycle::of(cycle);
                if cycle.class <= Class::GNonadjacent {
                    record.add(self.shrunk(cycle, bfs));
                }
            }
        }
    }

    /// A shortest walk from a state back to it.
    fn walk_of_states(
        &self,
        start: u32,
        kinds: Kinds,
        states: &Components,
    ) -> Option<Vec<(u32, Kind)>> {
        let component = states.of(start);
        let mut parents: FxHashMap<u32, (u32, Kind)> = FxHashMap::default();
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            for edge in self.graph.from(state / 2) {
                let Some(after_rw) = nonadjacent_step(state & 1 != 0, edge.kind()) else {
                    continue;
                };
                let next = 2 * edge.to() + u32::from(after_rw);
                if !kinds.has(edge.kind()) || states.of(next) != component {
                    continue;
                }
                if next == start {
                    let mut walk = vec![(state / 2, edge.kind())];
                    let mut at = state;
                    while at != start {
                        let &(parent, kind) = parents.get(&at)?;
                        walk.push((parent / 2, kind));
                        at = parent;
                    }
                    walk.reverse();
                    return Some(self.contract(walk));
                }
                if let Entry::Vacant(entry) = parents.entry(next) {
                    entry.insert((state, edge.kind()));
                    if edge.to() < self.graph.txns() {
                        queue.push_back(next);
                    } else {
                        queue.push_front(next);
                    }
                }
            }
        }
        None
    }

    /// A walk over transactions only.
    fn contract(&self, walk: Vec<(u32, Kind)>) -> Vec<(u32, Kind)> {
        let is_txn = |node: u32| node < self.graph.txns();
        walk.into_iter().filter(|s| is_txn(s.0)).collect()
    }

    /// The cycles that a closed walk consists of: cut wherever it comes back to a transaction.
    fn simple(&self, walk: Vec<(u32, Kind)>) -> Vec<Vec<(u32, Kind)>> {
        let mut cycles = Vec::new();
        let mut open: Vec<(u32, Kind)> = Vec::new();
        let mut places: FxHashMap<u32, usize> = FxHashMap::default();
        for step in walk {
            if let Some(&place) = places.get(&step.0) {
                let cycle: Vec<_> = open.drain(place..).collect();
                for (txn, _) in &cycle {
                    places.remove(txn);
                }
                cycles.push(cycle);
            }
            places.insert(step.0, open.len());
            open.push(step);
        }
        cycles.push(open);
        cycles.retain(|cycle| cycle.len() > 1);
        for cycle in &mut cycles {
            self.join_orders(cycle);
        }
        cycles
    }

    /// Makes one step of several in a row that only say what was before what: what was before
    /// something that was before a third was before the third.
    fn join_orders(&self, cycle: &mut Vec<(u32, Kind)>) {
        let is_order = |kind| matches!(kind, Kind::Process | Kind::Realtime);
        // No cycle is made of orders alone.
        let data = cycle.iter().position(|&(_, kind)| !is_order(kind));
        cycle.rotate_left(data.unwrap_or(0));
        cycle.dedup_by(|later, earlier| is_order(later.1) && is_order(earlier.1));
        for at in 0..cycle.len() {
            let to = cycle[(at + 1) % cycle.len()].0;
            let (from, kind) = &mut cycle[at];
            let process = |txn: u32| self.txns[txn as usize].process;
            if is_order(*kind) {
                let same = process(*from) == process(to);
                *kind = if same { Kind::Process } else { Kind::Realtime };
            }
        }
    }
}

/// The cycles of a part as they are found.
struct Record<'p, 'f> {
    part: &'p Part<'p>,
    found: &'f mut Found,
    /// The cycles of this part, in its own numbers.
    here: Vec<Cycle>,
}

impl Record<'_, '_> {
    fn add(&mut self, mut cycle: Cycle) {
        let first = (0..cycle.steps.len()).min_by_key(|&i| cycle.steps[i].0);
        cycle.steps.rotate_left(first.unwrap_or(0));
        self.here.push(cycle.clone());
        let count = self.found.counts.entry(cycle.phenomenon()).or_insert(0);
        *count += 1;
        if *count <= SHOWN_MAX as u64 {
            for step in &mut cycle.steps {
                step.0 = self.part.names[step.0 as usize];
            }
            self.found.cycles.push(cycle);
        }
    }
}

/// What a search looks for.
struct Want {
    class: Class,
    level: Level,
    /// The kind of the edge that a cycle begins with.
    first: Kind,
    /// The kinds of the others.
    kinds: Kinds,
    /// The kind of edge that there must be one of, beside the first.
    level_kind: Option<Kind>,
    /// Whether there must be a second anti-dependency.
    second_rw: bool,
    /// Whether no two may be adjacent.
    nonadjacent: bool,
}

impl Want {
    fn new(class: Class, level: Level) -> Self {
        let kind = level_kind(level);
        let (first, kinds) = match class {
            Class::G0 => (kind.unwrap_or(Kind::Ww), WRITES),
            Class::G1c => (Kind::Wr, READS),
            Class::GSingle => (Kind::Rw, READS),
            Class::GNonadjacent | Class::G2Item => (Kind::Rw, DATA),
        };
        Self {
            class,
            level,
            first,
            kinds: kinds.with(kind),
            level_kind: kind.filter(|&kind| kind != first),
            second_rw: class >= Class::GNonadjacent,
            nonadjacent: class == Class::GNonadjacent,
        }
    }

    /// Any cycle of the same kinds of edges.
    fn any(other: &Self) -> Self {
        Self {
            level_kind: None,
            second_rw: false,
            nonadjacent: false,
            ..*other
        }
    }
}

/// What is known of the way to a node.
const AFTER_RW: u64 = 1;
const LEVEL: u64 = 2;
const SECOND_RW: u64 = 4;
/// It has not come to a second transaction yet.
const FRESH: u64 = 8;
const FLAGS: u64 = 16;

struct Bfs<'p> {
    part: &'p Part<'p>,
    parents: FxHashMap<u64, (u64, Kind)>,
    queue: VecDeque<(u64, u32)>,
}

impl<'p> Bfs<'p> {
    fn new(part: &'p Part<'p>) -> Self {
        Self {
            part,
            parents: FxHashMap::default(),
            queue: VecDeque::new(),
        }
    }

    /// A shortest walk from `u` by the edge `first` back to `u` that is what is wanted, over nodes
    /// that are allowed, and of at most `limit` transactions. Steps into auxiliary nodes cost
    /// nothing. `left` goes down with every state visited; at 0 it gives up.
    fn closed_walk(
        &mut self,
        want: &Want,
        u: u32,
        first: Edge,
        limit: u32,
        left: &mut u64,
        allowed: impl Fn(u32) -> bool,
    ) -> Option<Vec<(u32, Kind)>> {
        // Clearing a table costs as much as it once held.
        if self.parents.capacity() > 4_096 {
            self.parents = FxHashMap::default();
        }
        self.parents.clear();
        self.queue.clear();
        let graph = &self.part.graph;
        let is_txn = |node: u32| node < graph.txns();
        let mut flags = 0;
        if want.nonadjacent && first.kind() == Kind::Rw {
            flags |= AFTER_RW;
        }
        if want.level_kind.is_none() {
            flags |= LEVEL;
        }
        if !want.second_rw {
            flags |= SECOND_RW;
        }
        let length = u32::from(is_txn(first.to()));
        if length == 0 {
            flags |= FRESH;
        }
        let begin = u64::from(first.to()) * FLAGS + flags;
        self.parents.insert(begin, (u64::MAX, first.kind()));
        self.queue.push_back((begin, length));
        while let Some((state, length)) = self.queue.pop_front() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return None;
            }
            let node = (state / FLAGS) as u32;
            let flags = state % FLAGS;
            if is_txn(node) && want.kinds.has(Kind::Realtime) && self.closes(want, node, u, flags) {
                return Some(self.walk(u, first, state, Kind::Realtime));
            }
            for &edge in graph.from(node) {
                let (to, kind) = (edge.to(), edge.kind());
                if !want.kinds.has(kind) {
                    continue;
                }
                let Some(flags) = step(want, flags, kind) else {
                    continue;
                };
                let (flags, length) = if is_txn(to) {
                    (flags & !FRESH, length + 1)
                } else {
                    (flags, length)
                };
                if to == u {
                    if length > 1 && done(want, flags) {
                        return Some(self.walk(u, first, state, kind));
                    }
                    continue;
                }
                if length >= limit || !allowed(to) {
                    continue;
                }
                let next = u64::from(to) * FLAGS + flags;
                if let Entry::Vacant(entry) = self.parents.entry(next) {
                    entry.insert((state, kind));
                    if is_txn(to) {
                        self.queue.push_back((next, length));
                    } else {
                        self.queue.push_front((next, length));
                    }
                }
            }
        }
        None
    }

    /// Whether real time leads from a transaction to `u` and so closes the cycle. It would be found
    /// through the auxiliary nodes, too, but only after everything in between.
    fn closes(&self, want: &Want, node: u32, u: u32, flags: u64) -> bool {
        let txn = |node: u32| self.part.txns[node as usize];
        Transactions::precedes(txn(node), txn(u))
            && step(want, flags, Kind::Realtime).is_some_and(|flags| done(want, flags))
    }

    /// The walk that ends with an edge from `last` to `u`.
    fn walk(&self, u: u32, first: Edge, last: u64, kind: Kind) -> Vec<(u32, Kind)> {
        let mut walk = Vec::new();
        let (mut state, mut leaves) = (last, kind);
        while let Some(&(parent, enters)) = self.parents.get(&state) {
            walk.push(((state / FLAGS) as u32, leaves));
            (state, leaves) = (parent, enters);
        }
        walk.push((u, first.kind()));
        walk.reverse();
        self.part.contract(walk)
    }
}

/// What is known after one more edge; `None` if it may not be taken.
fn step(want: &Want, mut flags: u64, kind: Kind) -> Option<u64> {
    if want.nonadjacent {
        let after_rw = nonadjacent_step(flags & AFTER_RW != 0, kind)?;
        flags = if after_rw {
            flags | AFTER_RW
        } else {
            flags & !AFTER_RW
        };
    }
    if kind == Kind::Rw {
        flags |= SECOND_RW;
    }
    if want.level_kind == Some(kind) {
        flags |= LEVEL;
    }
    Some(flags)
}

/// Whether a walk that is closed now is what is wanted.
fn done(want: &Want, flags: u64) -> bool {
    flags & LEVEL != 0 && flags & SECOND_RW != 0 && (!want.nonadjacent || flags & AFTER_RW == 0)
}
