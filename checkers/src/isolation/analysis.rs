//! Whether there is a commit order for a level, and what stands against it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::clocks;
use super::execution::{Execution, INITIAL};
use super::graph::{Components, Graph};
use super::levels::{self, Edge};

/// A level of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    ReadCommitted,
    ReadAtomic,
    /// With one commit order for all: causal convergence.
    Causal,
    /// With an order for each session ([`crate::causal`]). No commit order, so that it is not
    /// decided here.
    CausalMemory,
}

/// Why one transaction is before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// They are in one session.
    Session,
    /// The other read from it.
    ReadFrom,
    /// Reads of lists show their elements in this order.
    Versions,
    /// The axiom of the level asks for it.
    Axiom(Edge),
}

/// One thing that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A read of the initial state, though a write was visible.
    Initial(Edge),
    /// A read of something that is before what was visible even without the axiom: `way` leads from
    /// the transaction read from to the visible one.
    Overwritten { edge: Edge, way: Vec<(u32, Why)> },
    /// Transactions that would have to be before one another in a circle. Each with why it is
    /// before the next.
    Cycle(Vec<(u32, Why)>),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// What stands against the level, as far as listed.
    pub(crate) violations: Vec<Violation>,
    /// Pairs on cycles that are not listed, because there are too many.
    pub(crate) unlisted: u64,
    /// Of causality: whether something is violated even without one commit order for all.
    pub(crate) weak: bool,
    /// The reason if the level could not be decided.
    pub(crate) undecided: Option<String>,
}

/// How many violations are listed.
pub(crate) const LISTED_MAX: usize = 1_000;
/// How many pairs the search for short cycles may look at.
const SEARCH_MAX: u64 = 30_000_000;
/// How many pairs may wait before those that are there twice are dropped.
const PAIRS_MAX: usize = 1 << 24;
/// How many pairs there may be at all: 1 GiB of them.
const PAIRS_LIMIT: usize = 1 << 27;

/// Decides a level.
pub(crate) fn analyse(e: &Execution, level: Level) -> Findings {
    let mut findings = Findings::default();
    let order = match level {
        Level::Causal | Level::CausalMemory => clocks::causes_first(e),
        Level::ReadCommitted | Level::ReadAtomic => Some(Vec::new()),
    };
    let mut pairs = e.versions.clone();
    let Some(order) = order else {
        findings.weak = true;
        report_cycles(e, &mut findings);
        return findings;
    };
    let mut dedup_at = PAIRS_MAX;
    let mut left_out = false;
    let inferred = infer(e, level, &order, |edge| {
        if edge.after == INITIAL {
            findings.weak = true;
            list(&mut findings, || Violation::Initial(edge));
            return;
        }
        let pair = (edge.before, edge.after);
        if pairs.last() == Some(&pair) {
            return;
        }
        if pairs.len() >= PAIRS_LIMIT {
            left_out = true;
            return;
        }
        pairs.push(pair);
        if pairs.len() >= dedup_at {
            pairs.sort_unstable();
            pairs.dedup();
            dedup_at = PAIRS_MAX.max(2 * pairs.len());
        }
    });
    if let Err(reason) = inferred {
        findings.undecided = Some(reason);
    }
    if left_out {
        let reason = format!("budget: {PAIRS_LIMIT} pairs of transactions in order");
        findings.undecided = Some(reason);
    }
    let graph = Graph::new(e, &pairs);
    let components = graph.components();
    if components.cyclic() {
        drop(graph);
        drop(pairs);
        explain(e, level, &order, &components, &mut findings);
    }
    findings
}

fn list(findings: &mut Findings, violation: impl FnOnce() -> Violation) {
    if findings.violations.len() < LISTED_MAX {
        findings.violations.push(violation());
    } else {
        findings.unlisted += 1;
    }
}

fn infer(e: &Execution, level: Level, order: &[u32], emit: impl FnMut(Edge)) -> Result<(), String> {
    match level {
        Level::ReadCommitted => levels::read_committed(e, emit),
        Level::ReadAtomic => levels::read_atomic(e, emit),
        Level::Causal | Level::CausalMemory => return clocks::causal(e, order, emit),
    }
    Ok(())
}

/// Lists the cycles: those without the axiom, the reads of what was overwritten, and then cycles
/// such that every other pair that is on one is on one that is listed.
fn explain(
    e: &Execution,
    level: Level,
    order: &[u32],
    components: &Components,
    findings: &mut Findings,
) {
    report_cycles(e, findings);
    let mut edges: Vec<Edge> = Vec::new();
    // A budget that was met is so at the same place again.
    let _ = infer(e, level, order, |edge| {
        if edge.after != INITIAL && components.same(edge.before, edge.after) {
            if edges.len() < PAIRS_MAX {
                edges.push(edge);
            } else {
                findings.unlisted += 1;
            }
        }
    });
    let overwritten = match level {
        Level::Causal | Level::CausalMemory => overwritten(e, order, &edges),
        Level::ReadCommitted | Level::ReadAtomic => FxHashSet::default(),
    };
    findings.weak |= !overwritten.is_empty();
    let mut budget = SEARCH_MAX;
    let base = Graph::new(e, &e.versions);
    let mut rest = Vec::new();
    for edge in edges {
        let known = overwritten.contains(&(edge.before, edge.after));
        if level == Level::Causal && !known {
            rest.push(edge);
            continue;
        }
        match base.way(components, edge.after, edge.before, &mut budget) {
            Some(way) => list(findings, || Violation::Overwritten {
                edge,
                way: links(e, &way, &FxHashMap::default()),
            }),
            None if known || budget == 0 => findings.unlisted += 1,
            None => rest.push(edge),
        }
    }
    let pairs: Vec<(u32, u32)> = rest.iter().map(|e| (e.before, e.after)).collect();
    let by_pair: FxHashMap<(u32, u32), Edge> =
        rest.iter().map(|e| ((e.before, e.after), *e)).collect();
    let mut all = pairs;
    all.extend_from_slice(&e.versions);
    let graph = Graph::new(e, &all);
    let components = graph.components();
    let mut covered: FxHashSet<(u32, u32)> = FxHashSet::default();
    for edge in rest {
        let pair = (edge.before, edge.after);
        if !components.same(edge.before, edge.after) || !covered.insert(pair) {
            continue;
        }
        if findings.violations.len() >= LISTED_MAX {
            findings.unlisted += 1;
            continue;
        }
        match graph.way(&components, edge.after, edge.before, &mut budget) {
            Some(way) => {
                covered.extend(way.windows(2).map(|two| (two[0], two[1])));
                let mut cycle = links(e, &way, &by_pair);
                cycle.push((edge.before, Why::Axiom(edge)));
                list(findings, || Violation::Cycle(cycle));
            }
            None => findings.unlisted += 1,
        }
    }
}

/// Which pairs put after the visible transaction what is in its causal past.
fn overwritten(e: &Execution, order: &[u32], edges: &[Edge]) -> FxHashSet<(u32, u32)> {
    let mut by_visible: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for edge in edges {
        by_visible.entry(edge.before).or_default().push(edge.after);
    }
    let mut found = FxHashSet::default();
    let _ = clocks::walk(e, order, |txn, clock, _| {
        for &read_from in by_visible.get(&txn).into_iter().flatten() {
            if read_from < clock[e.session_of(read_from) as usize] {
                found.insert((txn, read_from));
            }
        }
    });
    found
}

/// Lists one cycle of each component of session order, reads-from and versions.
fn report_cycles(e: &Execution, findings: &mut Findings) {
    let graph = Graph::new(e, &e.versions);
    let components = graph.components();
    if !components.cyclic() {
        return;
    }
    let mut budget = SEARCH_MAX;
    for txn in components.of_cycles() {
        let after = graph.first_within(&components, txn);
        let way = after.and_then(|after| graph.way(&components, after, txn, &mut budget));
        match (after, way) {
            (Some(after), Some(way)) => {
                let mut cycle = links(e, &way, &FxHashMap::default());
                cycle.push((txn, why(e, txn, after, &FxHashMap::default())));
                list(findings, || Violation::Cycle(cycle));
            }
            _ => findings.unlisted += 1,
        }
    }
}

/// Why each but the last is before the one that follows; steps within a session become one.
pub(crate) fn links(
    e: &Execution,
    way: &[u32],
    pairs: &FxHashMap<(u32, u32), Edge>,
) -> Vec<(u32, Why)> {
    let mut links: Vec<(u32, Why)> = Vec::new();
    for two in way.windows(2) {
        let why = why(e, two[0], two[1], pairs);
        let goes_on = matches!(links.last(), Some((_, Why::Session)));
        if !(why == Why::Session && goes_on) {
            links.push((two[0], why));
        }
    }
    links
}

fn why(e: &Execution, a: u32, b: u32, pairs: &FxHashMap<(u32, u32), Edge>) -> Why {
    if e.sources(b).contains(&a) {
        Why::ReadFrom
    } else if e.in_session_order(a, b) {
        Why::Session
    } else if let Some(edge) = pairs.get(&(a, b)) {
        Why::Axiom(*edge)
    } else {
        Why::Versions
    }
}
