//! Whole histories against the definitions: which transactions of unknown outcome took effect and
//! from whom each read is, is tried, too.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::against_definitions::{causes, meets};
use crate::isolation::analysis::Level;
use crate::isolation::execution::{Builder, Execution, INITIAL, Read};
use crate::{Event, F, History, Kind, Process, Value, Verdict, by_name};

/// `Some(value)`: a write or append. `None`: a read that showed these (of a register one or none).
type Mop = (usize, Option<i64>, Vec<i64>);

#[derive(Clone, Debug)]
struct Txn {
    process: u64,
    outcome: Kind,
    mops: Vec<Mop>,
}

struct Shape {
    lists: bool,
    /// Whether values may be written twice.
    repeated: bool,
}

/// Up to 4 transactions; most as a serial store would answer them, some not.
fn any_txns(rng: &mut SmallRng, shape: &Shape) -> Vec<Txn> {
    let keys = rng.random_range(1..=2);
    let processes = rng.random_range(1..=3);
    let odd = rng.random_range(0.0..0.5);
    let mut next = 1;
    let mut held: Vec<Vec<i64>> = vec![Vec::new(); keys];
    let mut txns = Vec::new();
    for _ in 0..rng.random_range(2..=4) {
        let outcome = match rng.random_range(0..10) {
            0 => Kind::Fail,
            1 | 2 => Kind::Info,
            _ => Kind::Ok,
        };
        let mut mine = held.clone();
        let mut mops = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            let key = rng.random_range(0..keys);
            if rng.random_bool(0.5) {
                let value = if shape.repeated {
                    rng.random_range(1..=4)
                } else {
                    next
                };
                next += 1;
                mine[key].push(value);
                mops.push((key, Some(value), Vec::new()));
                continue;
            }
            let mut shown = mine[key].clone();
            if rng.random_bool(odd) {
                match rng.random_range(0..4) {
                    0 => shown.clear(),
                    1 => shown.push(rng.random_range(1..=next)),
                    2 => shown.truncate(shown.len() / 2),
                    _ => {
                        shown.pop();
                    }
                }
            }
            if !shape.lists {
                shown = shown.last().copied().into_iter().collect();
            }
            mops.push((key, None, shown));
        }
        if outcome == Kind::Ok || outcome == Kind::Info && rng.random_bool(0.5) {
            held = mine;
        }
        let process = rng.random_range(0..processes);
        txns.push(Txn {
            process,
            outcome,
            mops,
        });
    }
    txns
}

/// In real time one after the other, in any order that keeps each process.
fn history(txns: &[Txn], lists: bool) -> History {
    let mut events = Vec::new();
    for txn in txns {
        for kind in [Kind::Invoke, txn.outcome] {
            let mops = txn.mops.iter().map(|(key, written, shown)| {
                let key = Value::Int(*key as i64);
                let f = match (written, lists) {
                    (None, _) => "r",
                    (_, true) => "append",
                    (_, false) => "w",
                };
                let shown: Vec<Value> = shown.iter().copied().map(Value::Int).collect();
                let value = match written {
                    Some(value) => Value::Int(*value),
                    None if kind != Kind::Ok => Value::Nil,
                    None if lists => shown.into_iter().collect(),
                    None => shown.first().cloned().unwrap_or_default(),
                };
                [Value::Keyword(f.into()), key, value].into_iter().collect()
            });
            let index = events.len() as u64;
            let process = Process::Client(txn.process);
            let f = F::from_name("txn");
            events.push(Event::new(index, index, process, kind, f, mops.collect()));
        }
    }
    History { events }
}

/// Sessions of the transactions: a process, up to one of unknown outcome.
fn sessions(txns: &[Txn]) -> Vec<usize> {
    let mut sessions = Vec::new();
    for (i, txn) in txns.iter().enumerate() {
        let before = txns[..i].iter().rposition(|t| t.process == txn.process);
        sessions.push(match before {
            Some(b) if txns[b].outcome != Kind::Info => sessions[b],
            _ => i,
        });
    }
    sessions
}

/// Whether some choice of what happened, and from whom reads are, meets the level.
fn by_definition(txns: &[Txn], level: Level, lists: bool) -> bool {
    let infos: Vec<usize> = (0..txns.len())
        .filter(|&t| txns[t].outcome == Kind::Info)
        .collect();
    (0..1_u32 << infos.len()).any(|chosen| {
        let mut part: Vec<usize> = (0..txns.len())
            .filter(|t| match infos.iter().position(|i| i == t) {
                Some(bit) => chosen >> bit & 1 == 1,
                None => txns[*t].outcome == Kind::Ok,
            })
            .collect();
        let sessions = sessions(txns);
        part.sort_by_key(|&t| sessions[t]);
        let mut orders = Vec::new();
        permutations(&mut (0..part.len() as u32).collect(), 0, &mut orders);
        if !lists {
            return executions(txns, &part, &sessions).iter().any(|e| {
                let causes = causes(e);
                orders.iter().any(|order| meets(e, level, &causes, order))
            });
        }
        orders.iter().any(|order| {
            list_execution(txns, &part, &sessions, order)
                .is_some_and(|e| meets(&e, level, &causes(&e), order))
        })
    })
}

fn permutations(items: &mut Vec<u32>, from: usize, all: &mut Vec<Vec<u32>>) {
    if from == items.len() {
        all.push(items.clone());
    }
    for i in from..items.len() {
        items.swap(from, i);
        permutations(items, from + 1, all);
        items.swap(from, i);
    }
}

fn build(txns: &[Txn], part: &[usize], sessions: &[usize], reads: &[Vec<Read>]) -> Execution {
    let mut builder = Builder::new(2, part.len());
    for (i, &t) in part.iter().enumerate() {
        if i == 0 || sessions[part[i - 1]] != sessions[t] {
            builder.session();
        }
        let writes = txns[t].mops.iter().filter(|m| m.1.is_some());
        let writes: Vec<u32> = writes.map(|m| m.0 as u32).collect();
        builder.txn(&reads[i], &writes);
    }
    builder.finish()
}

/// All executions of registers that these values allow.
fn executions(txns: &[Txn], part: &[usize], sessions: &[usize]) -> Vec<Execution> {
    let mut choices: Vec<Vec<Vec<Read>>> = vec![vec![Vec::new(); part.len()]];
    for (i, &t) in part.iter().enumerate() {
        if txns[t].outcome != Kind::Ok {
            continue;
        }
        for (at, (key, written, shown)) in txns[t].mops.iter().enumerate() {
            if written.is_some() {
                continue;
            }
            let own = txns[t].mops[..at]
                .iter()
                .rev()
                .find(|m| m.0 == *key && m.1.is_some());
            if let Some(own) = own {
                if own.1 != shown.first().copied() {
                    return Vec::new();
                }
                continue;
            }
            let left = |w: usize| {
                let mut writes = txns[part[w]].mops.iter().rev();
                writes
                    .find(|m| m.0 == *key && m.1.is_some())
                    .and_then(|m| m.1)
            };
            let from: Vec<u32> = match shown.first() {
                None => vec![INITIAL],
                Some(value) => (0..part.len())
                    .filter(|&w| w != i && left(w) == Some(*value))
                    .map(|w| w as u32)
                    .collect(),
            };
            let key = *key as u32;
            let with = choices.iter().flat_map(|choice| {
                from.iter().map(|&from| {
                    let mut choice = choice.clone();
                    choice[i].push(Read { key, from });
                    choice
                })
            });
            choices = with.collect();
        }
    }
    choices
        .iter()
        .map(|reads| build(txns, part, sessions, reads))
        .collect()
}

/// The execution of lists, if all reads show beginnings of the lists as committed in this order,
/// with whole transactions of others.
fn list_execution(
    txns: &[Txn],
    part: &[usize],
    sessions: &[usize],
    order: &[u32],
) -> Option<Execution> {
    let mut reads = vec![Vec::new(); part.len()];
    for (i, &t) in part.iter().enumerate() {
        if txns[t].outcome != Kind::Ok {
            continue;
        }
        for (at, (key, written, shown)) in txns[t].mops.iter().enumerate() {
            if written.is_some() {
                continue;
            }
            let appended = |mops: &[Mop]| -> Vec<i64> {
                mops.iter()
                    .filter(|m| m.0 == *key)
                    .filter_map(|m| m.1)
                    .collect()
            };
            let own = appended(&txns[t].mops[..at]);
            let of_others = shown.strip_suffix(&own[..])?;
            let mut list: Vec<i64> = Vec::new();
            let mut from = None;
            if of_others.is_empty() {
                from = Some(INITIAL);
            }
            let mut whole: Vec<i64> = Vec::new();
            for &o in order {
                let elements = appended(&txns[part[o as usize]].mops);
                whole.extend(&elements);
                if o as usize == i {
                    continue;
                }
                list.extend(&elements);
                if list == of_others && !elements.is_empty() {
                    from = Some(o);
                }
            }
            if !whole.starts_with(shown) {
                return None;
            }
            reads[i].push(Read {
                key: *key as u32,
                from: from?,
            });
        }
    }
    Some(build(txns, part, sessions, &reads))
}

#[test]
fn histories_are_judged_as_the_definitions_say() {
    const LEVELS: [(Level, &str); 3] = [
        (Level::ReadCommitted, "read-committed"),
        (Level::ReadAtomic, "read-atomic"),
        (Level::Causal, "causal-convergence"),
    ];
    let shapes = [
        (false, false, 60_000),
        (true, false, 60_000),
        (false, true, 20_000),
    ];
    for (lists, repeated, cases) in shapes {
        let shape = Shape { lists, repeated };
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = [[0_u32; 3]; 3];
        for case in 0..cases {
            let txns = any_txns(&mut rng, &shape);
            let history = history(&txns, lists);
            for (i, (level, name)) in LEVELS.into_iter().enumerate() {
                let result = by_name(name).unwrap().check(&history);
                let expected = by_definition(&txns, level, lists);
                match &result.verdict {
                    Verdict::Valid => assert!(expected, "case {case}: {name}: {txns:#?}"),
                    Verdict::Invalid => {
                        assert!(!expected, "case {case}: {txns:#?} {:#?}", result.anomalies);
                        for anomaly in &result.anomalies {
                            assert!(!anomaly.ops.is_empty() && !anomaly.summary.is_empty());
                        }
                    }
                    Verdict::Unknown(reason) => assert!(
                        reason == "nothing-to-judge"
                            || repeated
                            || lists && reason.starts_with("amb"),
                        "case {case}: {reason}: {txns:#?}"
                    ),
                }
                let column = match result.verdict {
                    Verdict::Valid => 0,
                    Verdict::Invalid => 1,
                    Verdict::Unknown(_) => 2,
                };
                counts[i][column] += 1;
            }
        }
        println!("lists {lists}, repeated {repeated}: {counts:?}");
        for [valid, invalid, _] in counts {
            assert!(valid > cases / 8 && invalid > cases / 8, "{counts:?}");
        }
    }
}
