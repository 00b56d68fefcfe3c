//! Fewer operations that have no interleaving either.

use rustc_hash::FxHashSet;

use super::search::{Change, Found, Op, Problem, Step, search};

/// Longer problems are not shrunk.
const OPS_MAX: usize = 200;
/// What one search may cost, and all together.
const CONFIGURATIONS_MAX: u64 = 20_000;
const SEARCHES_MAX: usize = 2_000;

/// Operations, by position, without an interleaving, such that leaving out any one of them leaves
/// one. A read may be left out, and a change that no read left needs: a read of what was left out
/// would be no proof. `None` if that would take too long.
pub(super) fn shrink(problem: &Problem) -> Option<Vec<u32>> {
    if problem.ops.len() > OPS_MAX {
        return None;
    }
    let mut kept: Vec<u32> = (0..problem.ops.len() as u32).collect();
    let mut searches = 0;
    loop {
        let before = kept.len();
        for at in (0..kept.len()).rev() {
            let mut fewer = kept.clone();
            let op = fewer.remove(at);
            if !can_go(problem, &problem.ops[op as usize], &fewer) {
                continue;
            }
            searches += 1;
            if searches > SEARCHES_MAX {
                return None;
            }
            let mut part = problem.clone();
            part.ops = fewer
                .iter()
                .map(|&op| problem.ops[op as usize].clone())
                .collect();
            if let Found::None { .. } = search(&part, CONFIGURATIONS_MAX) {
                kept = fewer;
            }
        }
        if kept.len() == before {
            return Some(kept);
        }
    }
}

/// Whether no operation left needs what this one wrote.
fn can_go(problem: &Problem, op: &Op, left: &[u32]) -> bool {
    op.steps.iter().all(|step| match *step {
        Step::Read { .. } => true,
        Step::Change { key, change } => {
            let value = match change {
                Change::Write(value)
                | Change::Cas(_, value)
                | Change::Append(value)
                | Change::Add(value) => value,
                // Every read of the key depends on it.
                Change::Remove(_) | Change::Increment(_) => return unread(problem, key, left),
            };
            let mut needed = FxHashSet::default();
            for &other in left {
                for step in &problem.ops[other as usize].steps {
                    match *step {
                        Step::Read { key: k, state } if k == key => {
                            problem.values_of(state, &mut needed);
                        }
                        Step::Change {
                            key: k,
                            change: Change::Cas(old, _),
                        } if k == key => {
                            needed.insert(old);
                        }
                        _ => {}
                    }
                }
            }
            !needed.contains(&value)
        }
    })
}

fn unread(problem: &Problem, key: u32, left: &[u32]) -> bool {
    let reads = |step: &Step| matches!(*step, Step::Read { key: k, .. } if k == key);
    let mut ops = left.iter().map(|&op| &problem.ops[op as usize]);
    !ops.any(|op| op.steps.iter().any(reads))
}
