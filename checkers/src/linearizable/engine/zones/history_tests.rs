use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::brute_force::BruteForce;
use super::*;
use crate::linearizable::encode as plainly;
use crate::observe;
use crate::{Event, F, History, Kind, Process, Value};

/// A history over two keys, most of it as a store gives it. `odd`: with values that are not plain,
/// repeated or malformed here and there.
fn random_history(rng: &mut SmallRng, odd: bool) -> History {
    let count = rng.random_range(2..12);
    let (mut processes, mut next) = ([0_u64, 1, 2], 1_i64);
    let mut open: [Option<(F, Value, Value)>; 3] = [const { None }; 3];
    let mut held = [Value::Nil, Value::Nil];
    let mut events = Vec::new();
    let mut begun = 0;
    while begun < count || rng.random_range(0..8) > 0 {
        let c = rng.random_range(0..3);
        let index = events.len() as u64;
        let process = Process::Client(processes[c]);
        let (kind, f, key, value) = match open[c].take() {
            None if begun >= count => continue,
            None => {
                begun += 1;
                let k = rng.random_range(0..2);
                next += rng.random_range(1..3_000) / 1_000;
                let fresh = match rng.random_range(0..if odd { 12 } else { 4 }) {
                    0 => Value::str(&next.to_string()),
                    4 => Value::Int(rng.random_range(0..3)),
                    5 => Value::str(""),
                    6 => [Value::Int(next)].into_iter().collect(),
                    7 => Value::Vector([].into()),
                    8 => Value::Int(next * 100_000),
                    9 => Value::Int(-next),
                    _ => Value::Int(next),
                };
                next += 1;
                let (f, value) = match rng.random_range(0..20) {
                    0..8 => (F::Read, Value::Nil),
                    8..14 => (F::Write, fresh),
                    14 if odd => (F::Cas, fresh),
                    15 => (F::Inspect, Value::Nil),
                    _ => (F::Cas, [held[k].clone(), fresh].into_iter().collect()),
                };
                let key = Value::str(["a", "b"][k]);
                open[c] = Some((f.clone(), key.clone(), value.clone()));
                (Kind::Invoke, f, key, value)
            }
            Some((f, key, value)) => {
                let k = usize::from(key == Value::str("b"));
                let kind = match rng.random_range(0..10) {
                    0 => Kind::Info,
                    1 => Kind::Fail,
                    _ => Kind::Ok,
                };
                let took_effect = kind == Kind::Ok || kind == Kind::Info && rng.random_bool(0.5);
                let value = match &f {
                    F::Read if odd && rng.random_bool(0.1) => {
                        [held[k].clone(), Value::Int(2)].into_iter().collect()
                    }
                    F::Read if odd && rng.random_bool(0.1) => Value::str(""),
                    F::Read if rng.random_bool(0.1) => Value::Int(rng.random_range(1..4)),
                    F::Read => held[k].clone(),
                    _ => value,
                };
                match &f {
                    F::Write if took_effect => held[k] = value.clone(),
                    F::Cas if took_effect => {
                        held[k] = observe::pair(&value).map_or(Value::Nil, |p| p.1.clone());
                    }
                    _ => {}
                }
                (kind, f, key, value)
            }
        };
        if kind == Kind::Info {
            processes[c] += 3;
        }
        let mut event = Event::new(index, index, process, kind, f, value);
        event.key = Some(key);
        events.push(event);
    }
    History { events }
}

#[test]
fn one_pass_says_what_the_long_way_says() {
    let mut rng = SmallRng::seed_from_u64(23);
    let (mut screened, mut decided, mut valid, mut keys) = (0, 0, 0, 0);
    for round in 0..40_000 {
        let odd = round % 2 == 0;
        let history = random_history(&mut rng, odd);
        let here = format!("round {round}: {:#?}", history.events);
        let refused = round % 3 == 0;
        let operations = history.operations().unwrap();
        let mut expected = Vec::new();
        for (key, view) in observe::by_key(&operations) {
            let long = plainly::encode_all(&operations, &view, Model::Register, refused);
            let short = encode::encode(&operations, &view, refused);
            let (long, short) = match (long, short) {
                (Ok(long), Ok(short)) => (long, short),
                (long, short) => {
                    assert_eq!(long.err(), short.err(), "{here}");
                    expected.push(None);
                    continue;
                }
            };
            assert_eq!(long.siblings, short.siblings, "{here}");
            let is_ok = short.table.decide().map(|decided| decided.is_ok());
            let by_ops = decide(&long.ops).map(|decided| decided.is_linearizable().unwrap());
            assert_eq!(is_ok, by_ops, "{here}");
            let all = BruteForce.decide(Model::Register, &long.ops, &Limits::NONE);
            if let (Some(is_ok), Some(all)) = (is_ok, all.is_linearizable()) {
                assert_eq!(is_ok, all, "{here}");
                decided += 1;
                valid += u32::from(is_ok);
            }
            keys += 1;
            let acknowledged = view.writes.iter().filter(|&&w| operations[w].is_ok());
            let judged = (acknowledged.count() + view.reads.len()) as u64;
            expected.push(is_ok.map(|is_ok| (key, judged, is_ok)));
        }
        let Some(found) = screen(&history, refused) else {
            continue;
        };
        screened += 1;
        let found_plainly = found
            .iter()
            .map(|k| Some((k.key.as_ref(), k.judged, k.decision.is_ok())));
        assert_eq!(found_plainly.collect::<Vec<_>>(), expected, "{here}");
        for refuted in found.into_iter().filter_map(|key| key.decision.err()) {
            let core = operations_at(&history, &refuted.positions);
            let all: Vec<_> = operations
                .iter()
                .filter(|op| {
                    let at = |p: usize| refuted.positions.contains(&(p as u64));
                    at(op.invoked_position) || op.completed_position.is_some_and(at)
                })
                .collect();
            assert_eq!(format!("{core:?}"), format!("[{}]", join(&all)), "{here}");
        }
    }
    assert!(screened > 15_000, "{screened} of 40000 screened");
    let share = f64::from(decided) / f64::from(keys);
    assert!(share > 0.7, "{share} decided");
    let share = f64::from(valid) / f64::from(decided);
    assert!((0.2..0.9).contains(&share), "{share} valid");
}

fn join(operations: &[&crate::Operation<'_>]) -> String {
    let each: Vec<String> = operations.iter().map(|op| format!("{op:?}")).collect();
    each.join(", ")
}

/// What the long way refuses is not screened either.
#[test]
fn what_does_not_pair_is_not_screened() {
    let event = |index, time, process, kind, f: F| {
        let value = Value::Int(index as i64 + 1);
        let mut event = Event::new(index, time, Process::Client(process), kind, f, value);
        event.key = Some(Value::Int(1));
        event
    };
    let good = vec![
        event(0, 5, 1, Kind::Invoke, F::Write),
        event(1, 6, 1, Kind::Ok, F::Write),
    ];
    let screened = |events: &[Event]| {
        let history = History {
            events: events.to_vec(),
        };
        let screened = screen(&history, false).is_some();
        assert!(!screened || history.operations().is_ok());
        screened
    };
    assert!(screened(&good));
    let broken = |change: fn(&mut Vec<Event>)| {
        let mut events = good.clone();
        change(&mut events);
        screened(&events)
    };
    assert!(!broken(|e| e[1].index = 0));
    assert!(!broken(|e| e[1].time = 4));
    assert!(!broken(|e| e[1].f = F::Read));
    assert!(!broken(|e| e[1].key = Some(Value::Int(2))));
    assert!(!broken(|e| e[0].key = None));
    assert!(broken(|e| {
        e[0].f = F::Inspect;
        e[1].f = F::Inspect;
    }));
    assert!(!broken(|e| {
        e[0].f = F::Inspect;
        e[1].f = F::Inspect;
        e[1].key = Some(Value::Int(2));
    }));
    assert!(!broken(|e| e[1].process = Process::Client(2)));
    assert!(!broken(|e| e[1].kind = Kind::Invoke));
    assert!(!broken(|e| e[1].process = Process::Other("a".into())));
    assert!(!broken(|e| e[0].f = F::Other("x".into())));
    assert!(broken(|e| e[1].process = Process::Nemesis), "it is open");
}
