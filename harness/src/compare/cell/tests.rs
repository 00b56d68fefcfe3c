use checkers::{Availability, Checker, Event, Kind, LostWrites, Process};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use rayon::prelude::*;

use super::*;
use crate::compare::measure::{by_name, estimate};

const SECOND: u64 = 1_000_000_000;

/// A run of 30 s, written down by hand.
#[derive(Default)]
struct Script {
    events: Vec<Event>,
}

impl Script {
    fn push(&mut self, mut event: Event) {
        event.index = self.events.len() as u64;
        self.events.push(event);
    }

    fn remark(&mut self, at: u64, what: &str, value: Value) {
        let f = F::Other(what.into());
        self.push(Event::new(0, at, Process::Nemesis, Kind::Info, f, value));
    }

    fn fault(&mut self, at: u64, what: &str, id: i64, seen: bool) {
        let pairs = [
            ("id", Value::Int(id)),
            ("fault", Value::str("kill")),
            ("seen", Value::Bool(seen)),
        ];
        let pairs: Vec<_> = pairs.into_iter().map(|(k, v)| (Value::str(k), v)).collect();
        self.remark(at, what, Value::Map(pairs.into()));
    }

    /// An operation that succeeds after 10 ms.
    fn ok(&mut self, at: u64, f: &F, key: i64, argument: Value, result: Value) {
        for (time, kind, value) in [
            (at, Kind::Invoke, argument),
            (at + SECOND / 100, Kind::Ok, result),
        ] {
            let mut event = Event::new(0, time, Process::Client(0), kind, f.clone(), value);
            event.key = Some(Value::Int(key));
            self.push(event);
        }
    }

    fn append(&mut self, at: u64, key: i64, element: i64) {
        self.ok(
            at,
            &F::Append,
            key,
            Value::Int(element),
            Value::Int(element),
        );
    }

    fn measured(self) -> Figures {
        let history = History {
            events: self.events,
        };
        let results = [
            LostWrites.check(&history),
            Availability::default().check(&history),
        ];
        let mut experiment = Experiment::default();
        experiment.limits.time = std::time::Duration::from_secs(30);
        measure(&experiment, &history, &results)
    }
}

/// Three faults; before each three writes are acknowledged, of which the last `lost` are missing
/// from the final reads.
fn run(lost: [i64; 3]) -> Script {
    let mut script = Script::default();
    script.remark(0, "phase", Value::str("main"));
    for (key, _) in (0..).zip(lost) {
        let at = (5 + 8 * key as u64) * SECOND;
        for element in 1..=3 {
            script.append(at - (4 - element as u64) * SECOND / 10, key, element);
        }
        script.fault(at, "begin", key, true);
        script.fault(at + SECOND / 10, "inject", key, true);
        script.append(at + SECOND, key, 4);
        script.fault(at + 3 * SECOND, "heal", key, true);
    }
    script.remark(31 * SECOND, "phase", Value::str("final"));
    for (key, lost) in (0..).zip(lost) {
        let kept = (1..=3 - lost).chain([4]).map(Value::Int).collect();
        let at = (32 + key as u64) * SECOND;
        script.ok(at, &F::Read, key, Value::Nil, kept);
    }
    script
}

#[test]
fn a_lost_write_counts_for_the_nearest_fault() {
    let figures = run([0, 2, 1]).measured();
    assert_eq!((figures.judged, figures.lost), (Some(12), Some(3)));
    let lost: Vec<_> = figures.faults.iter().map(|f| f.lost.unwrap()).collect();
    assert_eq!(lost, [0, 2, 1]);
    let rpo: Vec<_> = figures.faults.iter().map(|f| f.rpo_s.unwrap()).collect();
    // The second to last write was acknowledged 190 ms before its fault, the last 90 ms.
    for (rpo, expected) in rpo.iter().zip([0.0, 0.19, 0.09]) {
        assert!((rpo - expected).abs() < 1e-9, "{rpo} {expected}");
    }
    for fault in &figures.faults {
        assert!((fault.write_rto_s.unwrap() - 1.01).abs() < 1e-9);
        assert!(fault.read_rto_s.is_some(), "the final read");
    }
}

#[test]
fn what_is_lost_under_a_fault_reaches_to_the_last_of_it() {
    let mut script = Script::default();
    script.remark(0, "phase", Value::str("main"));
    script.append(4_900_000_000, 0, 1);
    script.fault(5 * SECOND, "begin", 0, true);
    script.fault(5 * SECOND, "inject", 0, true);
    script.append(7 * SECOND, 0, 2);
    script.fault(9 * SECOND, "heal", 0, true);
    script.remark(31 * SECOND, "phase", Value::str("final"));
    script.ok(32 * SECOND, &F::Read, 0, Value::Nil, Value::from_iter([]));
    let figures = script.measured();
    let fault = &figures.faults[0];
    assert_eq!(fault.lost, Some(2));
    assert!((fault.rpo_s.unwrap() - 2.1).abs() < 1e-9, "{fault:?}");
}

#[test]
fn a_fault_without_proof_counts_for_nothing() {
    let mut script = run([0, 0, 0]);
    for event in &mut script.events {
        if event.f.name() == "inject" && field(event, "id") == Some(&Value::Int(1)) {
            event.value = Value::Map(vec![(Value::str("id"), Value::Int(1))].into());
        }
    }
    assert_eq!(script.measured().faults.len(), 2);
}

#[test]
fn what_no_final_read_tells_is_not_measured() {
    let mut script = run([0, 0, 3]);
    script.events.retain(|event| event.time < 31 * SECOND);
    script.remark(31 * SECOND, "phase", Value::str("final"));
    let figures = script.measured();
    assert_eq!((figures.judged, figures.lost), (None, None));
    assert!(
        figures
            .faults
            .iter()
            .all(|f| f.lost.is_none() && f.rpo_s.is_none())
    );
    assert_eq!(figures.stale, None);
    assert_eq!(figures.split_brain_s, None);
    assert_eq!(figures.reads_down_s, None, "nobody read");
}

#[test]
fn time_is_divided_by_faults() {
    let figures = run([0, 0, 0]).measured();
    let (calm, faulty) = (figures.calm.unwrap(), figures.faulty.unwrap());
    assert!((faulty.seconds - 9.0).abs() < 1e-9, "{faulty:?}");
    assert!((calm.seconds - 21.0).abs() < 1e-9, "{calm:?}");
    assert_eq!((calm.ok, faulty.ok), (9, 3));
    let [p50, p99] = calm.write_ms.unwrap();
    assert!((p50 - 10.0).abs() < 1e-9 && (p99 - 10.0).abs() < 1e-9);
    assert_eq!(calm.read_ms, None);
}

/// Campaigns with a planted rate of losses, through the checkers and everything that the scorecard
/// is made with: the intervals cover what was planted.
#[test]
fn intervals_of_whole_campaigns_cover_the_planted_losses() {
    const CAMPAIGNS: u64 = 2_000;
    const RUNS: u64 = 20;
    for share in [0.05, 0.25, 0.5] {
        // A fault that loses anything loses one, two or three writes.
        let planted = [
            ("losing_faults", share),
            ("lost_per_fault", 2.0 * share),
            ("lost_share", 2.0 * share / 4.0),
        ];
        // Runs come in few kinds: each is measured once.
        let kinds: Vec<Figures> = (0..64)
            .map(|kind| run([kind % 4, kind / 4 % 4, kind / 16]).measured())
            .collect();
        let covering = (0..CAMPAIGNS)
            .into_par_iter()
            .map(|seed| {
                let mut random = Pcg32::seed_from_u64(seed);
                let mut lost = || {
                    let loses = random.random_bool(share);
                    if loses { random.random_range(1..=3) } else { 0 }
                };
                let runs: Vec<&Figures> = (0..RUNS)
                    .map(|_| &kinds[lost() + 4 * lost() + 16 * lost()])
                    .collect();
                planted.map(|(name, truth)| {
                    let estimate = estimate(by_name(name).expect("a measure"), &runs, seed);
                    let low = estimate.low.unwrap_or(f64::NEG_INFINITY);
                    let high = estimate.high.unwrap_or(f64::INFINITY);
                    u64::from(estimate.value.is_some() && low <= truth && truth <= high)
                })
            })
            .reduce(|| [0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        for ((name, _), covering) in planted.iter().zip(covering) {
            let covered = covering as f64 / CAMPAIGNS as f64;
            // Few losses leave an end open, which covers everything: it claims nothing.
            let most = if share < 0.1 { 1.0 } else { 0.98 };
            assert!(
                (0.93..=most).contains(&covered),
                "{name} of {share}: {covered}"
            );
        }
    }
}
