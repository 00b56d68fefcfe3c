//! Holds `sessions` against its definition, read off every pair and triple of operations.

use std::collections::{BTreeMap, BTreeSet};

use checkers::{Checker, F, Format, Kind, Sessions, Value, Verdict};

use crate::store::{Collection, Op, Run, Setup};
use crate::{FAMILIES, store};

/// Class, and the index of the invocation of the read.
type Found = BTreeSet<(&'static str, u64)>;

const CLASSES: [&str; 4] = [
    "read-your-writes",
    "monotonic-reads",
    "monotonic-writes",
    "writes-follow-reads",
];

/// The session of each operation: a process, up to an operation of unknown outcome.
fn sessions(run: &Run) -> Vec<usize> {
    let mut current: BTreeMap<String, usize> = BTreeMap::new();
    let mut next = 0;
    let mut sessions = Vec::new();
    for op in &run.ops {
        let process = run.history.events[op.invoked].process.to_string();
        let session = *current.entry(process.clone()).or_insert_with(|| {
            next += 1;
            next
        });
        if op.kind == Kind::Info {
            current.remove(&process);
        }
        sessions.push(session);
    }
    sessions
}

fn of_collections(run: &Run, list: bool) -> Found {
    let sessions = sessions(run);
    let index = |op: &Op| run.history.events[op.invoked].index;
    let reads: Vec<usize> = (0..run.ops.len())
        .filter(|&i| run.ops[i].write.is_none() && run.ops[i].is_ok())
        .collect();
    let mut found = Found::new();
    for &r in &reads {
        let read = &run.ops[r];
        let at = |id| read.lineage.iter().position(|x| *x == id);
        for earlier in 0..run.ops.len() {
            let op = &run.ops[earlier];
            if op.key != read.key || !op.is_ok() {
                continue;
            }
            // What the operation makes its session depend on.
            let own = op.write.is_some();
            let depends: Vec<i64> = op.write.map_or_else(|| op.lineage.clone(), |id| vec![id]);
            if sessions[earlier] == sessions[r] && earlier < r {
                let class = CLASSES[usize::from(!own)];
                if depends.iter().any(|&id| at(id).is_none()) {
                    found.insert((class, index(read)));
                }
            }
            for later in earlier + 1..run.ops.len() {
                let write = &run.ops[later];
                let Some(id) = write.write else { continue };
                let same = sessions[earlier] == sessions[later] && write.key == read.key;
                let (true, Some(shown)) = (same && write.kind != Kind::Fail, at(id)) else {
                    continue;
                };
                let breaks = |&first: &i64| match at(first) {
                    None => true,
                    Some(place) => list && place > shown,
                };
                let written = |id: &i64| {
                    (0..later).any(|w| {
                        let op = &run.ops[w];
                        sessions[w] == sessions[later] && op.is_ok() && op.write == Some(*id)
                    })
                };
                for first in depends.iter().filter(|id| breaks(id)) {
                    let class = CLASSES[if written(first) { 2 } else { 3 }];
                    found.insert((class, index(read)));
                }
            }
        }
    }
    found
}

fn of_registers(run: &Run) -> Found {
    let sessions = sessions(run);
    let index = |op: &Op| run.history.events[op.invoked].index;
    let value = |op: &Op| op.lineage.last().copied();
    let write_of = |id: i64| run.ops.iter().find(|op| op.write == Some(id)).unwrap();
    // Whether a value was in place before another one's write began.
    let older = |old: i64, new: i64| {
        let ends = run.ops.iter().filter(|op| {
            op.is_ok() && (op.write == Some(old) || op.write.is_none() && value(op) == Some(old))
        });
        ends.filter_map(|op| op.completed).min() < Some(write_of(new).invoked)
            && run.ops.iter().any(|op| {
                let shows = op.write == Some(old) || op.write.is_none() && value(op) == Some(old);
                op.is_ok() && shows
            })
    };
    let mut found = Found::new();
    for (r, read) in run.ops.iter().enumerate() {
        if read.write.is_some() || !read.is_ok() {
            continue;
        }
        let goes_back = |from: i64| value(read).is_none_or(|now| now != from && older(now, from));
        let before: Vec<&Op> = (0..r)
            .filter(|&i| sessions[i] == sessions[r])
            .map(|i| &run.ops[i])
            .filter(|op| op.key == read.key && op.is_ok())
            .collect();
        for (i, op) in before.iter().enumerate() {
            let Some(earlier) = op.write.or_else(|| value(op)) else {
                continue;
            };
            let own = op.write.is_some();
            // Shown, then not, then again.
            let again = !own && value(read) == Some(earlier) && {
                let between = before[i..].iter().filter(|op| op.write.is_none());
                between.clone().any(|op| value(op) != Some(earlier))
            };
            if goes_back(earlier) || again {
                found.insert((CLASSES[usize::from(!own)], index(read)));
            }
        }
    }
    found
}

#[test]
fn session_guarantees_are_broken_where_the_definition_says_so() {
    let (mut broken, mut clean) = (BTreeMap::new(), 0);
    for collection in FAMILIES {
        for (nodes, seed) in [1, 2, 3]
            .into_iter()
            .flat_map(|n| (0..400).map(move |s| (n, s)))
        {
            let setup = Setup {
                collection,
                nodes,
                fenced: seed % 2 == 0,
                marked: seed % 3 == 0,
                ops: 20,
            };
            let run = store::run(setup, seed);
            let result = Sessions.check(&run.history);
            let expected = match collection {
                Some(kind) => of_collections(&run, kind == Collection::List),
                None => of_registers(&run),
            };
            let context = || {
                let mut events = Vec::new();
                checkers::format::write(&mut events, &run.history, Format::Jsonl).unwrap();
                let events = String::from_utf8(events).unwrap();
                format!("{setup:?}, seed {seed}:\n{events}{result:#?}")
            };
            let found: Found = result
                .anomalies
                .iter()
                .map(|a| {
                    let class = CLASSES.into_iter().find(|class| a.class == *class);
                    (class.expect("a known class"), *a.ops.last().unwrap())
                })
                .collect();
            assert_eq!(found, expected, "{}", context());
            assert_eq!(result.anomalies.len(), expected.len(), "{}", context());
            assert_eq!(result.verdict == Verdict::Invalid, !found.is_empty());
            if nodes == 1 {
                assert!(found.is_empty(), "{}", context());
            }
            if found.is_empty() {
                clean += 1;
            }
            for (class, _) in found {
                *broken.entry((class, collection.is_some())).or_insert(0) += 1;
            }
        }
    }
    assert!(clean > 500, "{clean}");
    let often = |class, collection| broken.get(&(class, collection)).copied().unwrap_or(0);
    for class in CLASSES {
        assert!(often(class, true) > 100, "{broken:?}");
    }
    for class in &CLASSES[..2] {
        assert!(often(class, false) > 100, "{broken:?}");
    }
    // A register hides what was overwritten.
    assert_eq!(often(CLASSES[2], false) + often(CLASSES[3], false), 0);
}

/// Every read shows the same key twice over: as it is, and as the one sibling there is.
#[test]
fn one_sibling_is_a_value() {
    for seed in 0..300 {
        let setup = Setup {
            collection: None,
            nodes: 3,
            fenced: false,
            marked: true,
            ops: 20,
        };
        let run = store::run(setup, seed);
        let mut wrapped = run.history.clone();
        for event in &mut wrapped.events {
            if event.f == F::Read && event.kind == Kind::Ok && !event.value.is_nil() {
                event.value = [event.value.clone()].into_iter().collect::<Value>();
            }
        }
        for name in [
            "sessions",
            "lost-writes",
            "stale-reads",
            "linearizable",
            "siblings",
        ] {
            let checker = checkers::by_name(name).unwrap();
            let (plain, array) = (checker.check(&run.history), checker.check(&wrapped));
            assert_eq!(plain.verdict, array.verdict, "{name}, seed {seed}");
            let ops = |r: &checkers::CheckResult| -> Vec<Vec<u64>> {
                r.anomalies.iter().map(|a| a.ops.clone()).collect()
            };
            assert_eq!(ops(&plain), ops(&array), "{name}, seed {seed}");
        }
    }
}
