//! Queues that are filled, and emptied at the end.

use std::collections::VecDeque;

use super::*;

/// Queues of which one operation in some goes wrong.
#[derive(Default)]
struct Queues {
    all: BTreeMap<Value, VecDeque<Value>>,
    count: u64,
}

impl Queues {
    fn apply(&mut self, invocation: &Invocation, errs: bool) -> Completion {
        self.count += 1;
        let queue = self.all.entry(invocation.key.clone().expect("a key"));
        let queue = queue.or_default();
        let argument = || invocation.value.clone();
        if errs && self.count.is_multiple_of(7) {
            return completion(Outcome::Info, argument());
        }
        match invocation.f.name() {
            "enqueue" => {
                queue.push_back(argument());
                completion(Outcome::Ok, argument())
            }
            "dequeue" => match queue.pop_front() {
                Some(value) => completion(Outcome::Ok, value),
                None => Completion {
                    error: Some("empty".into()),
                    ..completion(Outcome::Fail, Value::Nil)
                },
            },
            "drain" => completion(Outcome::Ok, queue.drain(..).collect()),
            other => panic!("{other}"),
        }
    }
}

/// All operations of the end, on so many threads; those that are asked before their time has come
/// wait.
fn end(drains: &mut Drains, queues: &mut Queues, threads: u32, errs: bool) -> Vec<(u32, String)> {
    let free: Vec<u32> = (0..threads).collect();
    let mut done = Vec::new();
    let mut now = 0;
    loop {
        let context = Context {
            now,
            free: &free,
            threads,
        };
        match drains.next(&context) {
            Next::Op { thread, invocation } => {
                assert_eq!(invocation.node, Some((thread % 3) as u16 + 1));
                let completion = queues.apply(&invocation, errs);
                done.push((thread, invocation.f.name().to_owned()));
                drains.completed(&context, thread, &invocation, &completion);
            }
            Next::Wait(until) => {
                assert!(now < until && until < u64::MAX, "it waits for nothing");
                now = until;
            }
            Next::Exhausted => return done,
        }
    }
}

#[test]
fn queues_grow_and_every_element_is_unique() {
    let mut workload = workload(Kind::Queue, &Parameters::default());
    let mut queues = Queues::default();
    let mut elements = BTreeSet::new();
    for now in 0..1_000 {
        let context = Context {
            now,
            free: &[0, 1],
            threads: 2,
        };
        let Next::Op { thread, invocation } = workload.main.next(&context) else {
            panic!("a workload has no end");
        };
        if invocation.f.name() == "enqueue" {
            assert!(elements.insert(invocation.value.clone()));
        }
        let completion = queues.apply(&invocation, false);
        let main = &mut workload.main;
        main.completed(&context, thread, &invocation, &completion);
    }
    let left: usize = queues.all.values().map(VecDeque::len).sum();
    assert!(elements.len() > 500 && left > 100, "{left}");
    assert_eq!(queues.all.len(), 3);
}

#[test]
fn at_the_end_queues_are_emptied_and_every_thread_drains_them() {
    for errs in [false, true] {
        let mut queues = Queues::default();
        let keys = ["a", "b"].map(Value::str);
        for key in &keys {
            let elements = (0..40).map(Value::Int);
            queues.all.insert(key.clone(), elements.collect());
        }
        let mut drains = Drains::new(keys.to_vec(), 3);
        let done = end(&mut drains, &mut queues, 4, errs);
        assert!(queues.all.values().all(VecDeque::is_empty), "{errs}");
        assert_eq!(drains.given_up(), 0);
        let first = done.iter().position(|(_, f)| f == "drain").expect("drains");
        assert!(done[first..].iter().all(|(_, f)| f == "drain"));
        assert!(
            first >= 82,
            "one element an operation, until they are seen empty"
        );
        for thread in 0..4 {
            let own = done[first..].iter().filter(|(t, _)| *t == thread);
            let least = own.count();
            assert!(least >= 2 && (errs || least == 2), "{thread}: {least}");
        }
    }
}

#[test]
fn what_never_answers_is_given_up() {
    let mut drains = Drains::new(vec![Value::str("a")], 3);
    let mut asked = 0;
    let mut now = 0;
    loop {
        let context = Context {
            now,
            free: &[0, 1],
            threads: 2,
        };
        match drains.next(&context) {
            Next::Op { thread, invocation } => {
                asked += 1;
                let answer = Completion {
                    error: Some("unreachable".into()),
                    ..completion(Outcome::Fail, Value::Nil)
                };
                drains.completed(&context, thread, &invocation, &answer);
            }
            Next::Wait(until) => now = until,
            Next::Exhausted => break,
        }
    }
    assert_eq!((asked, drains.given_up()), (60, 2));
}
