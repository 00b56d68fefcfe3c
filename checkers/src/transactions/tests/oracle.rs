//! Whether small histories are serializable, by trying every order; and whether they are snapshot
//! isolated, by trying every order of beginnings and ends.

use std::collections::BTreeMap;

use crate::transactions::encode::{Mop, Shown, Transactions, Txn};
use crate::{ConsistencyModel, Outcome};

type State = BTreeMap<u32, Vec<u32>>;

/// Whether some order explains the history; `None` for a model that is not known here.
pub(super) fn allows(txns: &Transactions<'_>, model: ConsistencyModel) -> Option<bool> {
    use ConsistencyModel as M;
    let (session, real_time, snapshot) = match model {
        M::Serializable => (false, false, false),
        M::StrongSessionSerializable => (true, false, false),
        M::StrongSerializable => (true, true, false),
        M::SnapshotIsolation => (false, false, true),
        M::StrongSessionSnapshotIsolation => (true, false, true),
        M::StrongSnapshotIsolation => (true, true, true),
        _ => return None,
    };
    let before = |a: &Txn, b: &Txn| {
        Transactions::precedes(a, b) && (real_time || session && a.process == b.process)
    };
    let certain: Vec<&Txn> = txns
        .txns
        .iter()
        .filter(|t| t.outcome == Outcome::Ok)
        .collect();
    let maybe: Vec<&Txn> = txns
        .txns
        .iter()
        .filter(|t| t.outcome == Outcome::Info)
        .collect();
    let any = (0..1u32 << maybe.len()).any(|subset| {
        let mut chosen = certain.clone();
        chosen.extend(
            (0..maybe.len())
                .filter(|i| subset >> i & 1 == 1)
                .map(|i| maybe[i]),
        );
        let problem = Problem {
            txns,
            before: chosen
                .iter()
                .map(|b| chosen.iter().map(|a| before(a, b)).collect())
                .collect(),
            chosen,
        };
        if snapshot {
            let n = problem.chosen.len();
            problem.snapshots(
                &mut vec![None; n],
                &mut vec![false; n],
                &mut vec![],
                &State::new(),
            )
        } else {
            problem.orders(&mut vec![false; problem.chosen.len()], &State::new())
        }
    });
    Some(any)
}

struct Problem<'t, 'a> {
    txns: &'t Transactions<'a>,
    chosen: Vec<&'t Txn>,
    /// By transaction, whether each other must come before it.
    before: Vec<Vec<bool>>,
}

impl Problem<'_, '_> {
    /// The state after a transaction, and what it wrote, if it can have seen what it did.
    fn run(&self, txn: &Txn, state: &State) -> Option<(State, Vec<u32>)> {
        let mut state = state.clone();
        let mut keys = Vec::new();
        for &mop in self.txns.mops_of(txn) {
            match mop {
                Mop::Append { key, value } => {
                    state.entry(key).or_default().push(value);
                    keys.push(key);
                }
                Mop::Write { key, value } => {
                    state.insert(key, vec![value]);
                    keys.push(key);
                }
                Mop::Read { key, shown } => {
                    let held = state.get(&key).map_or(&[][..], Vec::as_slice);
                    let fits = match shown {
                        Shown::Unknown => true,
                        Shown::Value(value) => held == [value],
                        _ => held == self.txns.list(shown),
                    };
                    if !fits {
                        return None;
                    }
                }
            }
        }
        Some((state, keys))
    }

    fn orders(&self, done: &mut Vec<bool>, state: &State) -> bool {
        if done.iter().all(|&d| d) {
            return true;
        }
        for i in 0..done.len() {
            let ready = self.before[i].iter().zip(&*done).all(|(&b, &d)| !b || d);
            if done[i] || !ready {
                continue;
            }
            let Some((after, _)) = self.run(self.chosen[i], state) else {
                continue;
            };
            done[i] = true;
            let found = self.orders(done, &after);
            done[i] = false;
            if found {
                return true;
            }
        }
        false
    }

    /// `begun`: the snapshot of each transaction that has begun; `log`: the transactions ended,
    /// with what they wrote and how many had ended when they began.
    fn snapshots(
        &self,
        begun: &mut Vec<Option<(State, usize)>>,
        ended: &mut Vec<bool>,
        log: &mut Vec<Vec<u32>>,
        committed: &State,
    ) -> bool {
        if ended.iter().all(|&e| e) {
            return true;
        }
        for i in 0..ended.len() {
            if ended[i] {
                continue;
            }
            let Some((snapshot, at)) = begun[i].clone() else {
                let ready = self.before[i].iter().zip(&*ended).all(|(&b, &e)| !b || e);
                if !ready {
                    continue;
                }
                begun[i] = Some((committed.clone(), log.len()));
                let found = self.snapshots(begun, ended, log, committed);
                begun[i] = None;
                if found {
                    return true;
                }
                continue;
            };
            let Some((after, keys)) = self.run(self.chosen[i], &snapshot) else {
                return false;
            };
            let conflict = log[at..].iter().flatten().any(|key| keys.contains(key));
            if conflict {
                continue;
            }
            let mut next = committed.clone();
            for key in &keys {
                next.insert(*key, after[key].clone());
            }
            ended[i] = true;
            log.push(keys);
            let found = self.snapshots(begun, ended, log, &next);
            log.pop();
            ended[i] = false;
            if found {
                return true;
            }
        }
        false
    }
}
