//! A made-up run for tests and for the example: five nodes, ten clients, 30 s; n1 is isolated and
//! goes on acknowledging appends that are lost, then n2 is killed.

use std::sync::LazyLock;

use checkers::{Anomaly, CheckResult, Event, F, History, Kind, Process, Value, Verdict};
use serde_json::json;

use super::summary::SCHEMA;
use super::{FaultRecord, Summary, Tally};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const THREADS: u64 = 10;
const KEYS: u64 = 8;
const ISOLATED: (u64, u64) = (5 * S, 12 * S);
const PROMOTED: u64 = 6_800 * MS;
const KILLED: (u64, u64) = (18 * S, 24 * S);
const THIRD: u64 = 20_200 * MS;
const END: u64 = 30 * S;

/// A small linear congruential generator: enough for plausible jitter.
struct Jitter(u64);

impl Jitter {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct Client {
    process: u64,
    next: u64,
    asks_old_leader: bool,
}

enum Answer {
    Done(u64, u64),
    Refused,
    Silence,
}

fn leader_at(time: u64, asks_old_leader: bool) -> Answer {
    if time < ISOLATED.0 || (time < ISOLATED.1 && asks_old_leader) {
        Answer::Done(1, 1)
    } else if time < PROMOTED {
        Answer::Refused
    } else if time < KILLED.0 {
        Answer::Done(2, 2)
    } else if time < KILLED.0 + 300 * MS {
        Answer::Silence
    } else if time < THIRD {
        Answer::Refused
    } else {
        Answer::Done(3, 3)
    }
}

/// The history of the run, made once.
pub fn history() -> History {
    static HISTORY: LazyLock<History> = LazyLock::new(make_history);
    HISTORY.clone()
}

fn make_history() -> History {
    let mut jitter = Jitter(7);
    let mut events = Vec::new();
    let mut lists = vec![vec![Vec::new(); KEYS as usize]; 2];
    let mut element = 0;
    let mut clients: Vec<_> = (0..THREADS)
        .map(|t| Client {
            process: t,
            next: t * 7 * MS,
            asks_old_leader: t < 4,
        })
        .collect();
    for fault in faults() {
        let names = fault.targets.join(",");
        let at = (fault.injected_at_s * 1e9) as u64;
        let healed = (fault.healed_at_s.unwrap_or(30.0) * 1e9) as u64;
        for time in [at, healed] {
            events.push(event(
                time,
                Process::Nemesis,
                Kind::Info,
                &fault.name,
                &names,
            ));
        }
    }
    while let Some(client) = clients.iter_mut().min_by_key(|c| (c.next, c.process)) {
        let at = client.next;
        if at >= END {
            break;
        }
        let key_number = jitter.below(KEYS);
        let last_phase = at > END - S;
        let reads = last_phase || jitter.below(2) == 0;
        let answer = leader_at(at, client.asks_old_leader);
        let old = matches!(answer, Answer::Done(1, _)) && at >= ISOLATED.0;
        let side = usize::from(old);
        let mut took = MS / 2 + jitter.below(3 * MS);
        if jitter.below(60) == 0 {
            took += jitter.below(40 * MS);
        }
        let process = Process::Client(client.process);
        let key = Value::str(&format!("k{key_number}"));
        let list = &mut lists[side][key_number as usize];
        let (f, argument) = if reads {
            (F::Read, Value::Nil)
        } else {
            element += 1;
            (F::Append, Value::Int(element))
        };
        let mut invoke = event(at, process.clone(), Kind::Invoke, "", "");
        invoke.f = f.clone();
        invoke.key = Some(key.clone());
        invoke.value = argument.clone();
        let asked = match answer {
            Answer::Done(node, _) => node,
            _ => 1 + jitter.below(5),
        };
        invoke.node = Some(format!("n{asked}").into());
        let mut complete = invoke.clone();
        match answer {
            Answer::Done(_, epoch) => {
                complete.kind = Kind::Ok;
                complete.role = Some("leader".into());
                complete.epoch = Some(epoch);
                if reads {
                    complete.value = list.iter().cloned().collect();
                } else {
                    list.push(argument.clone());
                    if at < ISOLATED.0 {
                        lists[1][key_number as usize].push(argument);
                    }
                }
            }
            Answer::Refused => {
                complete.kind = Kind::Fail;
                complete.error = Some("not-leader".into());
                complete.role = Some("follower".into());
                took = MS;
            }
            Answer::Silence => {
                complete.kind = Kind::Info;
                complete.error = Some("timeout".into());
                took = S;
                client.process += THREADS;
            }
        }
        complete.time = at + took;
        client.next = at + took + 8 * MS + jitter.below(25 * MS);
        events.push(invoke);
        events.push(complete);
    }
    events.sort_by_key(|e| e.time);
    for (index, event) in (0..).zip(&mut events) {
        event.index = index;
    }
    History { events }
}

fn event(time: u64, process: Process, kind: Kind, f: &str, value: &str) -> Event {
    Event::new(
        0,
        time,
        process,
        kind,
        F::Other(f.into()),
        Value::str(value),
    )
}

fn faults() -> Vec<FaultRecord> {
    vec![
        FaultRecord {
            id: 1,
            name: "isolate leader".into(),
            targets: vec!["n1".into()],
            injected_at_s: 5.0,
            healed_at_s: Some(12.0),
            proof: "8 of 8 cut links gave no answer in 300 ms".into(),
            seen: true,
            recovery_s: Some(0.005),
        },
        FaultRecord {
            id: 2,
            name: "kill leader".into(),
            targets: vec!["n2".into()],
            injected_at_s: 18.0,
            healed_at_s: Some(24.0),
            proof: "process ended, port refuses connections".into(),
            seen: true,
            recovery_s: Some(2.209),
        },
        FaultRecord {
            id: 3,
            name: "slow link".into(),
            targets: vec!["n3→n4".into(), "n4→n3".into()],
            injected_at_s: 26.0,
            healed_at_s: Some(28.5),
            proof: "round trip 2 ms, 200 ms expected".into(),
            seen: false,
            recovery_s: None,
        },
    ]
}

fn anomaly(class: &str, key: Option<&Value>, summary: String, ops: Vec<u64>) -> Anomaly {
    Anomaly {
        class: class.into(),
        key: key.cloned(),
        summary,
        ops,
        figures: serde_json::Map::new(),
    }
}

fn result(
    checker: &str,
    verdict: Verdict,
    judged: u64,
    anomalies: Vec<Anomaly>,
    figures: &serde_json::Value,
) -> CheckResult {
    CheckResult {
        checker: checker.into(),
        verdict,
        judged,
        anomalies,
        figures: figures.as_object().cloned().unwrap_or_default(),
    }
}

struct Op<'a> {
    invoke: &'a Event,
    complete: &'a Event,
}

fn ok_ops(history: &History) -> Vec<Op<'_>> {
    let mut ops = Vec::new();
    for complete in history.events.iter().filter(|e| e.kind == Kind::Ok) {
        let invoke = history
            .events
            .iter()
            .take(complete.index as usize)
            .rev()
            .find(|e| e.process == complete.process && e.kind == Kind::Invoke);
        ops.extend(invoke.map(|invoke| Op { invoke, complete }));
    }
    ops
}

fn seconds(time: u64) -> f64 {
    time as f64 / 1e9
}

/// What checkers would find in [`history`].
fn results(history: &History) -> Vec<CheckResult> {
    let ops = ok_ops(history);
    let appends = ops.iter().filter(|o| o.invoke.f == F::Append);
    let reads = ops.iter().filter(|o| o.invoke.f == F::Read);
    let by_old =
        |o: &&Op<'_>| o.complete.node.as_deref() == Some("n1") && o.invoke.time >= ISOLATED.0;
    let mut lost = Vec::new();
    for append in appends.clone().filter(by_old) {
        let key = append.invoke.key.as_ref();
        let read = reads.clone().rfind(|r| r.invoke.key.as_ref() == key);
        let mut proof = vec![append.invoke.index];
        proof.extend(read.map(|r| r.invoke.index));
        let mut found = anomaly(
            "lost",
            key,
            format!(
                "append {} to {}, acknowledged by n1 (epoch 1) at {:.3} s, is in no later read",
                append.invoke.value,
                key.unwrap_or(&Value::Nil),
                seconds(append.complete.time),
            ),
            proof,
        );
        found.figures = json!({"value": append.invoke.value, "node": "n1", "epoch": 1,
            "process": "3", "acknowledged_at_seconds": seconds(append.complete.time)})
        .as_object()
        .cloned()
        .unwrap_or_default();
        lost.push(found);
    }
    let mut stale = Vec::new();
    for read in reads.clone().filter(by_old) {
        let key = read.invoke.key.as_ref();
        let newer: Vec<_> = appends
            .clone()
            .filter(|a| {
                a.complete.node.as_deref() == Some("n2")
                    && a.invoke.key.as_ref() == key
                    && a.complete.time < read.invoke.time
            })
            .collect();
        let Some(newest) = newer.last() else { continue };
        let ms = (read.invoke.time - newest.complete.time) / MS;
        let mut found = anomaly(
            "stale-read",
            key,
            format!(
                "a read of {} from n1 missed {} versions; the newest was acknowledged {ms} ms before",
                key.unwrap_or(&Value::Nil),
                newer.len(),
            ),
            vec![newest.invoke.index, read.invoke.index],
        );
        found.figures = json!({"versions": newer.len(), "ms": ms, "node": "n1"})
            .as_object()
            .cloned()
            .unwrap_or_default();
        stale.push(found);
    }
    let mut both = appends
        .clone()
        .filter(|a| a.invoke.time > PROMOTED && a.invoke.time < ISOLATED.1)
        .collect::<Vec<_>>();
    both.sort_by_key(|a| a.complete.time);
    let of_node = |node: &str| {
        let node = node.to_owned();
        both.iter()
            .filter(move |a| a.complete.node.as_deref() == Some(&node))
    };
    let proof = [
        of_node("n2").next(),
        of_node("n1").next(),
        of_node("n1").next_back(),
    ];
    let mut split = anomaly(
        "split-brain",
        None,
        format!(
            "n1 (epoch 1) acknowledged {} write(s) that began after n2 (epoch 2) had acknowledged \
             one: 5.187 s with two leaders; {} of the 1074 writes acknowledged by n1 and 0 of the \
             2500 by n2 were discarded",
            of_node("n1").count(),
            lost.len()
        ),
        proof
            .into_iter()
            .flatten()
            .map(|a| a.invoke.index)
            .collect(),
    );
    split.figures = json!({
        "superseded": {"node": "n1", "epoch": 1, "acknowledged": 1074, "discarded": lost.len()},
        "by": {"node": "n2", "epoch": 2, "acknowledged": 2500, "discarded": 0},
        "writes": of_node("n1").count(), "from_seconds": 6.802, "seconds": 5.187})
    .as_object()
    .cloned()
    .unwrap_or_default();
    let (acknowledged, read_count) = (appends.clone().count() as u64, reads.clone().count() as u64);
    let (lost_count, stale_count) = (lost.len(), stale.len());
    vec![
        result(
            "lost-writes",
            Verdict::Invalid,
            acknowledged,
            lost,
            &json!({"acknowledged": acknowledged, "lost": lost_count}),
        ),
        result(
            "stale-reads",
            Verdict::Invalid,
            read_count,
            stale,
            &json!({"reads": read_count, "stale": stale_count,
                "reads_missing_lost_writes": 12,
                "versions_p50": 14, "versions_p99": 61, "versions_max": 66,
                "ms_p50": 31.2, "ms_p99": 411.0, "ms_max": 702.5}),
        ),
        result(
            "split-brain",
            Verdict::Invalid,
            acknowledged,
            vec![split],
            &json!({"tenures": 3, "pairs": 1, "overlap_seconds": 5.187, "discarded_writes": lost_count}),
        ),
        result(
            "linearizable",
            Verdict::Unknown("budget: 30 s spent on key k3".into()),
            ops.len() as u64,
            Vec::new(),
            &json!({"keys": KEYS, "keys_linearizable": KEYS - 1, "keys_not_linearizable": 0, "keys_unknown": 1}),
        ),
        result(
            "availability",
            Verdict::Valid,
            ops.len() as u64,
            Vec::new(),
            &json!({"threshold_seconds": 1.0, "writes_unavailable_seconds": 2.204,
            "reads_unavailable_seconds": 2.204,
            "faults": [
                {"id": 1, "recovery_seconds": 0.005, "writes_unavailable_seconds": 0.0},
                {"id": 2, "recovery_seconds": 2.209, "writes_unavailable_seconds": 2.204},
                {"id": 3, "recovery_seconds": null, "writes_unavailable_seconds": 1.5},
            ],
            "windows": [
                {"class": "writes", "from_seconds": 17.996, "to_seconds": 20.2, "ended": true},
                {"class": "reads", "from_seconds": 17.996, "to_seconds": 20.2, "ended": true},
            ]}),
        ),
    ]
}

/// The summary of the run, made once.
pub fn summary() -> Summary {
    static SUMMARY: LazyLock<Summary> = LazyLock::new(|| make_summary(&history()));
    SUMMARY.clone()
}

fn make_summary(history: &History) -> Summary {
    let mut tally = Tally::default();
    history.events.iter().for_each(|e| tally.record(e));
    let (ops, latency_ms) = tally.finish();
    Summary {
        schema: SCHEMA,
        name: "async-failover".into(),
        verdict: Verdict::Invalid,
        exit_code: 1,
        seed: 7,
        mode: "single-leader (async)".into(),
        target: "reference".into(),
        substrate: "local".into(),
        workload: "append".into(),
        nodes: (1..=5).map(|n| format!("n{n}")).collect(),
        concurrency: THREADS as u32,
        started: "2026-11-21T22:40:02Z".into(),
        duration_s: 30.0,
        ops,
        latency_ms,
        results: results(history),
        faults: faults(),
        reproduce: "quorate test --mode async --workload append --seed 7 --time-limit 30".into(),
        version: "0.1.0".into(),
    }
}

/// A summary of a run in which all was well.
pub fn valid() -> Summary {
    let mut summary = summary();
    summary.verdict = Verdict::Valid;
    summary.exit_code = 0;
    summary.mode = "raft".into();
    summary.name = "raft-failover".into();
    summary.faults.truncate(2);
    for result in &mut summary.results {
        result.verdict = Verdict::Valid;
        result.anomalies.clear();
        for name in ["lost", "stale", "discarded_writes", "overlap_seconds"] {
            if let Some(figure) = result.figures.get_mut(name) {
                *figure = json!(0);
            }
        }
    }
    summary
}

/// The resolved experiment.
pub const EXPERIMENT: &str = "\
name: async-failover
seed: 7
target: { kind: reference, mode: single-leader, ack: async, nodes: 5 }
workload: { kind: append, keys: 8, rate: 500 }
time_limit: 30s
faults:
  - at: 5s
    isolate: leader
    for: 7s
  - at: 18s
    kill: leader
    for: 6s
";
