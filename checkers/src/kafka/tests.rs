use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::seq::{IndexedMutRandom, IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::*;
use crate::testing::Script;
use crate::{Kind, Verdict};

const KEYS: i64 = 2;

fn vector(items: impl IntoIterator<Item = Value>) -> Value {
    items.into_iter().collect()
}

fn send(key: i64, sent: impl Into<Value>) -> Value {
    vector([Value::Keyword("send".into()), Value::Int(key), sent.into()])
}

fn at(offset: impl Into<Value>, value: i64) -> Value {
    vector([offset.into(), Value::Int(value)])
}

fn polled(logs: &[(i64, &[(i64, i64)])]) -> Value {
    let logs = logs.iter().map(|(key, log)| {
        let log = log.iter().map(|(offset, value)| at(*offset, *value));
        (Value::Int(*key), vector(log))
    });
    vector([Value::Keyword("poll".into()), Value::Map(logs.collect())])
}

fn poll() -> Value {
    vector([Value::Keyword("poll".into())])
}

fn f(name: &str) -> F {
    F::from_name(name)
}

#[derive(Clone, Default)]
struct Store {
    logs: Vec<Vec<(i64, i64)>>,
    next_offset: Vec<i64>,
    next_value: i64,
}

#[derive(Clone, Default)]
struct Consumer {
    keys: Vec<i64>,
    places: BTreeMap<i64, usize>,
}

impl Store {
    /// What a broker without mistakes answers: polls see what was committed before.
    fn answer(&mut self, rng: &mut SmallRng, consumer: &mut Consumer, asked: &Value) -> Value {
        let mut sends: Vec<usize> = Vec::new();
        let mut answers: Vec<Value> = Vec::new();
        for micro in asked.items().unwrap() {
            if micro.items().unwrap().len() == 3 {
                sends.push(answers.len());
                answers.push(micro.clone());
                continue;
            }
            let mut logs = Vec::new();
            for &key in &consumer.keys {
                let log = &self.logs[key as usize];
                let place = consumer.places.entry(key).or_insert(0);
                let until = log.len().min(*place + rng.random_range(0..4));
                logs.push((key, log[*place..until].to_vec()));
                *place = until;
            }
            let logs: Vec<(i64, &[(i64, i64)])> = logs.iter().map(|(k, l)| (*k, &l[..])).collect();
            answers.push(polled(&logs));
        }
        for n in sends {
            let micro = answers[n].items().unwrap();
            let key = micro[1].as_int().unwrap() as usize;
            let value = micro[2].as_int().unwrap();
            let offset = self.next_offset[key] + rng.random_range(0..2);
            self.next_offset[key] = offset + 1;
            self.logs[key].push((offset, value));
            let told = if rng.random_bool(0.1) {
                Value::Nil
            } else {
                Value::Int(offset)
            };
            answers[n] = send(key as i64, at(told, value));
        }
        vector(answers)
    }
}

/// A run without mistakes: rounds of concurrent operations, and somebody polls all in the end.
fn run(rng: &mut SmallRng) -> History {
    let mut store = Store {
        logs: vec![Vec::new(); KEYS as usize],
        next_offset: vec![0; KEYS as usize],
        next_value: 0,
    };
    let mut script = Script::new();
    let mut processes: Vec<u64> = vec![0, 1, 2];
    let mut consumers: Vec<Consumer> = vec![Consumer::default(); 3];
    for _ in 0..rng.random_range(2..8) {
        let mut round: Vec<usize> = (0..3).filter(|_| rng.random_bool(0.7)).collect();
        let mut asked = BTreeMap::new();
        for &p in &round {
            let (name, value) = match rng.random_range(0..8) {
                n if n == 0 || consumers[p].keys.is_empty() && rng.random_bool(0.8) => {
                    let keys = (0..KEYS).filter(|_| rng.random_bool(0.7)).map(Value::Int);
                    ("assign", vector(keys))
                }
                n => {
                    let mut one = |n: i32| {
                        if n % 2 == 0 {
                            return poll();
                        }
                        store.next_value += 1;
                        send(rng.random_range(0..KEYS), store.next_value)
                    };
                    match n {
                        1..=3 => ("send", vector([one(1)])),
                        4..=6 => ("poll", vector([one(2)])),
                        _ => ("txn", vector([one(2), one(1), one(2), one(1)])),
                    }
                }
            };
            script.client(processes[p], Kind::Invoke, f(name), value.clone());
            asked.insert(p, (name, value));
        }
        round.shuffle(rng);
        let mut answers = Vec::new();
        for &p in &round {
            let (name, value) = &asked[&p];
            let kind = match rng.random_range(0..8) {
                0 => Kind::Fail,
                1 => Kind::Info,
                _ => Kind::Ok,
            };
            let mut answer = value.clone();
            if *name == "assign" {
                if kind == Kind::Ok {
                    let keys: Vec<i64> = value
                        .items()
                        .unwrap()
                        .iter()
                        .filter_map(Value::as_int)
                        .collect();
                    consumers[p].places.retain(|key, _| keys.contains(key));
                    consumers[p].keys = keys;
                }
            } else if kind == Kind::Ok {
                answer = store.answer(rng, &mut consumers[p], value);
            } else if kind == Kind::Info && rng.random_bool(0.5) {
                store.answer(rng, &mut consumers[p], value);
            }
            answers.push((p, kind, *name, answer));
        }
        answers.shuffle(rng);
        for (p, kind, name, answer) in answers {
            script.client(processes[p], kind, f(name), answer);
            if kind == Kind::Info {
                processes[p] += 3;
                consumers[p] = Consumer::default();
            }
        }
    }
    let all: Vec<Value> = (0..KEYS).map(Value::Int).collect();
    script.op(99_999, Kind::Ok, f("assign"), vector(all));
    let logs: Vec<(i64, &[(i64, i64)])> = (0..KEYS)
        .map(|k| (k, &store.logs[k as usize][..]))
        .collect();
    script
        .client(99_999, Kind::Invoke, f("poll"), vector([poll()]))
        .client(99_999, Kind::Ok, f("poll"), vector([polled(&logs)]));
    script.history()
}

/// Damages an answer.
fn damage(rng: &mut SmallRng, history: &mut History) {
    let answers: Vec<usize> = (0..history.events.len())
        .filter(|&i| {
            let event = &history.events[i];
            event.kind == Kind::Ok && carries_messages(&event.f)
        })
        .collect();
    let Some(&at_event) = answers.choose(rng) else {
        return;
    };
    let event = &mut history.events[at_event];
    let mut micros: Vec<Value> = event.value.items().unwrap().to_vec();
    let n = rng.random_range(0..micros.len());
    let parts = micros[n].items().unwrap().to_vec();
    let own = micros.iter().find_map(|micro| match micro.items() {
        Some([_, _, sent]) => {
            let sent = sent.items().unwrap();
            Some((sent[0].as_int()?, sent[1].as_int()?))
        }
        _ => None,
    });
    micros[n] = if let [_, key, sent] = &parts[..] {
        let [offset, value] = sent.items().unwrap() else {
            return;
        };
        let offset = offset.as_int().unwrap_or(0) + rng.random_range(-1..2);
        send(key.as_int().unwrap(), at(offset, value.as_int().unwrap()))
    } else {
        let Value::Map(logs) = &parts[1] else { return };
        let mut logs: Vec<(i64, Vec<(i64, i64)>)> = logs
            .iter()
            .map(|(key, log)| {
                let pair = |p: &Value| {
                    let p = p.items().unwrap();
                    (p[0].as_int().unwrap(), p[1].as_int().unwrap())
                };
                (
                    key.as_int().unwrap(),
                    log.items().unwrap().iter().map(pair).collect(),
                )
            })
            .collect();
        let Some((_, log)) = logs.choose_mut(rng) else {
            return;
        };
        let n = rng.random_range(0..=log.len());
        match rng.random_range(0..6) {
            0 if own.is_some() => log.extend(own),
            0 if n < log.len() => {
                log.remove(n);
            }
            1 if n < log.len() => log[n].0 += rng.random_range(-1..2),
            2 => log.insert(n, (rng.random_range(0..6), rng.random_range(1..12))),
            3 if n > 0 && n < log.len() => log.swap(n - 1, n),
            _ => log.truncate(n),
        }
        let logs: Vec<(i64, &[(i64, i64)])> = logs.iter().map(|(k, l)| (*k, &l[..])).collect();
        polled(&logs)
    };
    event.value = vector(micros);
}

/// One message: operation, key, whether sent, offset, value.
type Seen = (usize, i64, bool, Option<i64>, i64);

fn seen(history: &History) -> (Vec<Seen>, Vec<Operation<'_>>) {
    let operations = history.operations().unwrap();
    let mut all = Vec::new();
    for (i, op) in operations.iter().enumerate() {
        if !carries_messages(op.f()) {
            continue;
        }
        for micro in op.result().unwrap_or(op.argument()).items().unwrap() {
            match micro.items().unwrap() {
                [_, key, sent] => {
                    let (offset, value) = match sent.items() {
                        Some([offset, value]) => (offset.as_int(), value),
                        _ => (None, sent),
                    };
                    let (key, value) = (key.as_int().unwrap(), value.as_int().unwrap());
                    all.push((i, key, true, offset, value));
                }
                [_, Value::Map(logs)] => {
                    for (key, log) in logs.iter() {
                        for pair in log.items().unwrap() {
                            let [offset, value] = pair.items().unwrap() else {
                                panic!()
                            };
                            let (key, value) = (key.as_int().unwrap(), value.as_int().unwrap());
                            all.push((i, key, false, offset.as_int(), value));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    (all, operations)
}

/// The definitions, message by message: class, key and value; and how many are unseen.
fn truth(history: &History) -> (BTreeSet<(String, i64, i64)>, u64) {
    let (all, operations) = seen(history);
    let mut truth = BTreeSet::new();
    let mut add = |class: &str, key, value| truth.insert((class.to_owned(), key, value));
    let ok = |m: &&Seen| operations[m.0].is_ok();
    let log: Vec<&Seen> = all.iter().filter(ok).filter(|m| m.3.is_some()).collect();
    let mut unseen = 0;
    for key in 0..KEYS {
        let of: Vec<&&Seen> = log.iter().filter(|m| m.1 == key).collect();
        let polls = || all.iter().filter(ok).filter(move |m| m.1 == key && !m.2);
        let sends = || all.iter().filter(move |m| m.1 == key && m.2);
        for offset in of.iter().map(|m| m.3).collect::<BTreeSet<_>>() {
            let values: BTreeSet<i64> = of.iter().filter(|m| m.3 == offset).map(|m| m.4).collect();
            if values.len() > 1 {
                add("inconsistent-offsets", key, offset.unwrap());
            }
        }
        for value in all.iter().map(|m| m.4).collect::<BTreeSet<_>>() {
            let offsets: BTreeSet<_> = of.iter().filter(|m| m.4 == value).map(|m| m.3).collect();
            if offsets.len() > 1 {
                add("duplicate", key, value);
            }
            let sent: Vec<&Seen> = sends().filter(|m| m.4 == value).collect();
            let possible = sent
                .iter()
                .find(|m| operations[m.0].outcome != Outcome::Fail);
            let polled: Vec<&Seen> = polls().filter(|m| m.4 == value).collect();
            if polled.is_empty() {
                let Some(send) = possible.filter(|m| ok(m)) else {
                    continue;
                };
                if send.3.is_some() && polls().any(|m| m.3 >= send.3) {
                    add("lost", key, value);
                } else {
                    unseen += 1;
                }
            } else if sent.is_empty() {
                if sends().next().is_some() {
                    add("unexpected", key, value);
                }
            } else if let Some(send) = possible {
                if polled
                    .iter()
                    .any(|m| operations[m.0].precedes(&operations[send.0]))
                {
                    add("unexpected", key, value);
                }
                if polled.iter().any(|m| m.0 == send.0) {
                    add("precommitted-read", key, value);
                }
            } else {
                add("aborted-read", key, value);
            }
        }
        // Each message with the one before it of the same process, unless it turned elsewhere.
        for (sent, names) in [
            (false, ["int-nonmonotonic-poll", "nonmonotonic-poll"]),
            (true, ["int-nonmonotonic-send", "nonmonotonic-send"]),
        ] {
            let with_offset: Vec<&&Seen> = of.iter().copied().filter(|m| m.2 == sent).collect();
            for (n, m) in with_offset.iter().enumerate() {
                let process = operations[m.0].process();
                let before = with_offset[..n]
                    .iter()
                    .rfind(|b| operations[b.0].process() == process);
                let Some(b) = before else { continue };
                let turned = (b.0..m.0).any(|i| {
                    let op = &operations[i];
                    let keys = || op.argument().items().unwrap();
                    op.process() == process
                        && op.f().name() == "assign"
                        && op.outcome != Outcome::Fail
                        && !keys().contains(&Value::Int(key))
                });
                if turned {
                    continue;
                }
                let internal = b.0 == m.0;
                let between = of.iter().any(|x| x.3 > b.3 && x.3 < m.3);
                if m.3 <= b.3 {
                    add(names[usize::from(!internal)], key, m.4);
                } else if !sent && between {
                    add(
                        if internal {
                            "int-poll-skip"
                        } else {
                            "poll-skip"
                        },
                        key,
                        m.4,
                    );
                }
            }
        }
    }
    (truth, unseen)
}

#[test]
fn what_is_found_is_what_the_definitions_say() {
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let mut valid = 0;
    for seed in 0..20_000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut history = run(&mut rng);
        let damaged = rng.random_bool(0.7);
        if damaged {
            for _ in 0..rng.random_range(1..4) {
                damage(&mut rng, &mut history);
            }
        }
        let (expected, unseen) = truth(&history);
        let result = Kafka.check(&history);
        let context = || format!("seed {seed}: {result:#?} {history:#?}");
        let found: BTreeSet<(String, i64, i64)> = result
            .anomalies
            .iter()
            .map(|a| {
                let key = a.key.as_ref().unwrap().as_int().unwrap();
                let value = a.figures["value"].as_i64().unwrap();
                if a.class == "inconsistent-offsets" {
                    let offset = a.summary.split(' ').nth(1).unwrap().parse().unwrap();
                    return (a.class.clone(), key, offset);
                }
                (a.class.clone(), key, value)
            })
            .collect();
        assert_eq!(found, expected, "{}", context());
        assert_eq!(result.figures["unseen"], unseen, "{}", context());
        let invalid = result.verdict == Verdict::Invalid;
        assert_eq!(invalid, !expected.is_empty(), "{}", context());
        assert!(damaged || !invalid, "{}", context());
        valid += u64::from(result.verdict == Verdict::Valid);
        for (class, _, _) in expected {
            *classes.entry(class).or_default() += 1;
        }
    }
    for (class, _) in CLASSES {
        assert!(
            classes.get(class).is_some_and(|n| *n > 30),
            "{class}: {classes:?}"
        );
    }
    assert!(valid > 3_000, "{valid}");
}

#[test]
fn who_is_subscribed_may_be_rebalanced() {
    for (turn, invalid) in [("assign", true), ("subscribe", false)] {
        let mut s = Script::new();
        s.op(1, Kind::Ok, f(turn), vector([Value::Int(0)]));
        for n in 1..4 {
            s.client(2, Kind::Invoke, f("send"), vector([send(0, n)]))
                .client(2, Kind::Ok, f("send"), vector([send(0, at(n, n))]));
        }
        for log in [&[(1, 1)][..], &[(3, 3)], &[(2, 2)]] {
            s.client(1, Kind::Invoke, f("poll"), vector([poll()]))
                .client(1, Kind::Ok, f("poll"), vector([polled(&[(0, log)])]));
        }
        let result = Kafka.check(&s.history());
        assert_eq!(result.verdict == Verdict::Invalid, invalid, "{result:?}");
        let (skips, back) = if invalid { (0, 0) } else { (1, 1) };
        assert_eq!(result.figures["poll_skips_subscribed"], skips);
        assert_eq!(result.figures["nonmonotonic_polls_subscribed"], back);
        assert_eq!(result.figures["nonmonotonic_polls"], 1 - back);
    }
}

#[test]
fn keys_of_json_are_those_of_sends_and_what_is_not_seen_is_unknown() {
    let mut s = Script::new();
    let log = Value::Map([(Value::str("0"), vector([at(0, 1)]))].into());
    let text = |name: &str| Value::str(name);
    for (sent, offset) in [(1, 0), (2, 1)] {
        s.client(1, Kind::Invoke, f("send"), vector([send(0, sent)]))
            .client(1, Kind::Ok, f("send"), vector([send(0, at(offset, sent))]));
    }
    s.client(2, Kind::Invoke, f("poll"), vector([vector([text("poll")])]))
        .client(
            2,
            Kind::Ok,
            f("poll"),
            vector([vector([text("poll"), log])]),
        );
    let result = Kafka.check(&s.history());
    assert_eq!(result.figures["keys"], 1);
    let reason = "unseen: 1 acknowledged messages";
    assert_eq!(result.verdict, Verdict::Unknown(reason.into()));
    s.op(
        1,
        Kind::Ok,
        f("txn"),
        vector([vector([text("append"), Value::Int(1), Value::Int(2)])]),
    );
    let reason = "malformed-messages (1 operations); unseen: 1 acknowledged messages";
    let verdict = Kafka.check(&s.history()).verdict;
    assert_eq!(verdict, Verdict::Unknown(reason.into()));
}
