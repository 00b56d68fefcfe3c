//! Replicas whose states are known, some of which differ: `convergence` says of them what its
//! definition, read off every pair of replicas, says.

use std::collections::{BTreeMap, BTreeSet};

use checkers::{Checker, Convergence, Event, F, History, Kind, Process, Value, Verdict};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

const RUNS: u64 = 3_000;
const KEYS: [&str; 4] = ["a1", "a2", "b1", "b2"];

/// A replica, as it is when it is inspected.
struct Replica {
    name: String,
    /// The prefix of the keys that it holds.
    scope: &'static str,
    state: BTreeMap<&'static str, i64>,
    stopped: bool,
    /// Whether it answers.
    answers: bool,
}

impl Replica {
    fn digest(&self) -> Value {
        let mut answer = vec![
            (
                Value::str("digest"),
                Value::str(&format!("{:?}", self.state)),
            ),
            (Value::str("scope"), Value::str(self.scope)),
        ];
        if self.stopped {
            answer.push((Value::str("stopped"), Value::str("another storage format")));
        }
        Value::Map(answer.into())
    }
}

/// Replicas of one state, but for what is planted.
fn replicas(rng: &mut SmallRng) -> Vec<Replica> {
    let common: Vec<i64> = KEYS.map(|_| rng.random_range(0..3)).into();
    let scopes: &[&str] = if rng.random_bool(0.3) {
        &["", "a"]
    } else {
        &[""]
    };
    let planted = if rng.random_bool(0.5) { 0.15 } else { 0.0 };
    (1..=rng.random_range(2..6))
        .map(|n| {
            let scope = *scopes.choose(rng).unwrap();
            let held = KEYS.iter().zip(&common);
            let state = held
                .filter(|(key, _)| key.starts_with(scope))
                .map(|(key, value)| (*key, value + i64::from(rng.random_bool(planted)) * 10))
                .collect();
            Replica {
                name: format!("n{n}"),
                scope,
                state,
                stopped: rng.random_bool(planted / 4.0),
                answers: rng.random_bool(0.95),
            }
        })
        .collect()
}

/// All are asked for their digests and for every key they hold, in any order; some had been asked
/// before they came to what they hold.
fn inspect(rng: &mut SmallRng, replicas: &[Replica]) -> History {
    let mut asked: Vec<(&Replica, Option<&str>)> = Vec::new();
    for replica in replicas {
        asked.push((replica, None));
        asked.extend(replica.state.keys().map(|key| (replica, Some(*key))));
    }
    asked.shuffle(rng);
    let early: Vec<_> = asked
        .iter()
        .copied()
        .filter(|_| rng.random_bool(0.2))
        .collect();
    let mut history = History::default();
    for (late, (replica, key)) in early
        .into_iter()
        .map(|asked| (false, asked))
        .chain(asked.into_iter().map(|asked| (true, asked)))
    {
        let answer = match (late, key) {
            (true, None) => replica.digest(),
            (true, Some(key)) => Value::Int(replica.state[key]),
            (false, None) => Value::Map([(Value::str("digest"), Value::str("before"))].into()),
            (false, Some(_)) => Value::Int(-1),
        };
        let (kind, answer) = if late && !replica.answers {
            (Kind::Info, Value::Nil)
        } else {
            (Kind::Ok, answer)
        };
        for (kind, value) in [(Kind::Invoke, Value::Nil), (kind, answer)] {
            let index = history.events.len() as u64;
            let process = Process::Client(index / 2);
            let mut event = Event::new(index, index, process, kind, F::Inspect, value);
            event.node = Some(replica.name.as_str().into());
            event.key = key.map(Value::str);
            history.events.push(event);
        }
    }
    history
}

/// Pairs of replicas that answered.
fn pairs(replicas: &[Replica]) -> impl Iterator<Item = (&Replica, &Replica)> {
    let answered = |replica: &&Replica| replica.answers;
    let first = replicas.iter().filter(answered);
    first.flat_map(move |a| {
        let second = replicas.iter().filter(answered);
        second.filter(|b| a.name < b.name).map(move |b| (a, b))
    })
}

#[test]
fn replicas_that_differ_are_found() {
    let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..RUNS {
        let mut rng = SmallRng::seed_from_u64(seed);
        let replicas = replicas(&mut rng);
        let history = inspect(&mut rng, &replicas);
        let result = Convergence.check(&history);
        let context = || format!("seed {seed}: {history:#?}\n{result:#?}");

        let scopes: BTreeSet<&str> = pairs(&replicas)
            .filter(|(a, b)| a.scope == b.scope && a.state != b.state)
            .map(|(a, _)| a.scope)
            .collect();
        let differ = |key: &&str| {
            pairs(&replicas).any(|(a, b)| match (a.state.get(key), b.state.get(key)) {
                (Some(a), Some(b)) => a != b,
                _ => false,
            })
        };
        let keys: BTreeSet<Value> = KEYS
            .iter()
            .filter(|k| differ(k))
            .map(|k| Value::str(k))
            .collect();
        let stopped = replicas.iter().filter(|r| r.answers && r.stopped).count();

        let found = result.anomalies.iter().filter(|a| a.class == "diverged");
        let named: BTreeSet<Value> = found.filter_map(|a| a.key.clone()).collect();
        assert_eq!(named, keys, "{}", context());
        assert_eq!(result.figures["diverged_keys"], keys.len(), "{}", context());
        assert_eq!(
            result.figures["diverged_scopes"],
            scopes.len(),
            "{}",
            context()
        );
        assert_eq!(result.figures["stopped"], stopped, "{}", context());

        let silent = replicas.iter().any(|replica| !replica.answers);
        let (expected, matches) = if !scopes.is_empty() || !keys.is_empty() || stopped > 0 {
            ("invalid", result.verdict == Verdict::Invalid)
        } else if silent || pairs(&replicas).next().is_none() {
            ("unknown", matches!(result.verdict, Verdict::Unknown(_)))
        } else {
            ("valid", result.verdict == Verdict::Valid)
        };
        assert!(matches, "expected {expected}; {}", context());
        *verdicts.entry(expected).or_default() += 1;
    }
    assert!(
        verdicts.len() == 3 && verdicts.values().all(|&n| n > 200),
        "{verdicts:?}"
    );
}
