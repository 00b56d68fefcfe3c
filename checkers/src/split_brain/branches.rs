//! Split brain told by what reads show, without witnesses: a key whose history forked, while both
//! branches went on.
//!
//! A *fork* of a list (append, every element written once) is two reads of which neither shows the
//! beginning of the other. A fork of a register is two acknowledged compare-and-sets from the same
//! value, which was written once. After the fork each side, *branch*, holds what the other never
//! had. A fork alone may be a failover that lost the end of the first branch: then everything of the
//! first is older than everything of the second. What is reported is a write acknowledged on one
//! branch (`first`), then one begun and acknowledged on the other (`other`), then one begun on the
//! first again (`again`): the first branch took writes before and after the other one did, without
//! what the other one took. One sequence of owners can do that only if leadership goes back and
//! forth and what the one took is thrown away and taken up again each time. Where witnesses say so
//! (the epochs of the three writes increase) it is not reported; without them nobody can tell that
//! from two leaders, and it is as bad.
//!
//! Linear in the lists shown, times the branches of a key (at most 16 are followed).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::observe::{self, Family, KeyView};
use crate::{F, Operation, Value};

/// Branches of a key that are followed.
const BRANCHES_MAX: usize = 16;

/// A fork of which both branches went on. Operations by position among the operations.
pub(super) struct Divergence {
    pub(super) first: usize,
    pub(super) other: usize,
    pub(super) again: usize,
    /// Reads that show the branches, of a list.
    pub(super) shown: Option<(usize, usize)>,
}

/// The forks of a key.
pub(super) fn divergences(operations: &[Operation<'_>], view: &KeyView<'_>) -> Vec<Divergence> {
    match view.family {
        Family::List => lists(operations, view),
        Family::Register => registers(operations, view),
        _ => Vec::new(),
    }
}

/// Acknowledged writes by value, of values written once.
fn written_once<'a>(
    operations: &[Operation<'a>],
    view: &KeyView<'a>,
) -> FxHashMap<&'a Value, usize> {
    let mut once: FxHashMap<&Value, Option<usize>> = FxHashMap::default();
    for &w in view
        .writes
        .iter()
        .filter(|&&w| observe::possible(&operations[w]))
    {
        if let Some(value) = observe::written(&operations[w]) {
            let write = operations[w].is_ok().then_some(w);
            once.entry(value).and_modify(|w| *w = None).or_insert(write);
        }
    }
    once.into_iter()
        .filter_map(|(value, write)| Some((value, write?)))
        .collect()
}

fn lists(operations: &[Operation<'_>], view: &KeyView<'_>) -> Vec<Divergence> {
    // The longest reads of each branch.
    let mut branches: Vec<(usize, &[Value])> = Vec::new();
    for read in &view.reads {
        let Some(items) = observe::elements(read.value) else {
            continue;
        };
        let room = branches.len() < BRANCHES_MAX;
        let known = branches.iter_mut().find(|(_, branch)| {
            observe::common_beginning(branch, items) == branch.len().min(items.len())
        });
        match known {
            Some((by, branch)) if branch.len() < items.len() => {
                (*by, *branch) = (read.op, items);
            }
            None if room => branches.push((read.op, items)),
            _ => {}
        }
    }
    if branches.len() < 2 {
        return Vec::new();
    }
    let writes = written_once(operations, view);
    let sets: Vec<FxHashSet<&Value>> = branches.iter().map(|(_, b)| b.iter().collect()).collect();
    let mut found = Vec::new();
    for (j, (second_read, second)) in branches.iter().enumerate() {
        for (i, (first_read, first)) in branches[..j].iter().enumerate() {
            let only = |branch: &[Value], other: usize| -> Vec<usize> {
                let missing = branch.iter().filter(|value| !sets[other].contains(value));
                missing
                    .filter_map(|value| writes.get(value).copied())
                    .collect()
            };
            let (ours, theirs) = (only(first, j), only(second, i));
            let shown = (*first_read, *second_read);
            let fork = went_on(operations, &ours, &theirs)
                .map(|ops| (ops, shown))
                .or_else(|| {
                    let ops = went_on(operations, &theirs, &ours)?;
                    Some((ops, (shown.1, shown.0)))
                });
            if let Some(([first, other, again], shown)) = fork {
                let shown = Some(shown);
                found.push(Divergence {
                    first,
                    other,
                    again,
                    shown,
                });
            }
        }
    }
    found
}

/// A write of the one branch, then one of the other, then one of the first again; on two nodes, as
/// far as that is known.
fn went_on(operations: &[Operation<'_>], branch: &[usize], others: &[usize]) -> Option<[usize; 3]> {
    let ended = |w: usize| operations[w].completed_position.unwrap_or(usize::MAX);
    let began = |w: usize| operations[w].invoked_position;
    let first = branch.iter().copied().min_by_key(|&w| ended(w))?;
    let again = branch.iter().copied().max_by_key(|&w| began(w))?;
    let two_nodes = |a: usize, b: usize| {
        let (a, b) = (operations[a].node(), operations[b].node());
        a.is_none() || b.is_none() || a != b
    };
    // Witnesses of one leader after the other: leadership went back and forth.
    let led_to = |a: usize, b: usize| match (operations[a].epoch(), operations[b].epoch()) {
        (Some(a), Some(b)) => a < b,
        _ => false,
    };
    let other = others.iter().copied().find(|&w| {
        two_nodes(first, w)
            && two_nodes(w, again)
            && !(led_to(first, w) && led_to(w, again))
            && ended(first) < began(w)
            && ended(w) < began(again)
    })?;
    Some([first, other, again])
}

fn registers(operations: &[Operation<'_>], view: &KeyView<'_>) -> Vec<Divergence> {
    // By old value: acknowledged compare-and-sets.
    let mut successors: FxHashMap<&Value, Vec<usize>> = FxHashMap::default();
    for &w in &view.writes {
        let op = &operations[w];
        if let (true, &F::Cas, Some((old, new))) =
            (op.is_ok(), op.f(), observe::pair(op.argument()))
            && old != new
        {
            successors.entry(old).or_default().push(w);
        }
    }
    if successors.values().all(|all| all.len() < 2) {
        return Vec::new();
    }
    let writes = written_once(operations, view);
    let new = |w: usize| observe::written(&operations[w]);
    let unique = |w: usize| new(w).is_some_and(|value| writes.get(value) == Some(&w));
    let mut forks: Vec<(&Value, &Vec<usize>)> = successors
        .iter()
        .filter(|(old, all)| all.len() > 1 && writes.contains_key(*old))
        .map(|(old, all)| (*old, all))
        .collect();
    forks.sort_by_key(|(_, all)| all[0]);
    let mut found = Vec::new();
    for (_, all) in forks {
        let all: Vec<usize> = all.iter().copied().filter(|&w| unique(w)).collect();
        let branches: Vec<Vec<usize>> = all
            .iter()
            .take(BRANCHES_MAX)
            .map(|&w| {
                // Every value was written once, so that there is no way back.
                let mut branch = vec![w];
                let mut next = 0;
                while let Some(&w) = branch.get(next) {
                    next += 1;
                    let after = new(w).and_then(|value| successors.get(value));
                    branch.extend(after.into_iter().flatten().copied().filter(|&w| unique(w)));
                    if branch.len() > operations.len() {
                        break;
                    }
                }
                branch
            })
            .collect();
        let mut pairs = (0..branches.len())
            .flat_map(|i| (0..branches.len()).map(move |j| (i, j)))
            .filter(|(i, j)| i != j);
        let fork = pairs.find_map(|(i, j)| went_on(operations, &branches[i], &branches[j]));
        if let Some([first, other, again]) = fork {
            found.push(Divergence {
                first,
                other,
                again,
                shown: None,
            });
        }
    }
    found
}
