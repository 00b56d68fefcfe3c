//! The workloads that read before they act, or act on something else than one plain value.

use super::*;

/// What a correct store with one copy answers to the operations of these workloads; none for the
/// others. A list holds what a key holds; registers hold at most one value.
pub(super) fn apply(store: &mut Store, kind: Kind, invocation: &Invocation) -> Option<Completion> {
    let register = matches!(kind, Kind::Conflict | Kind::Calendar);
    let held = store.0.entry(invocation.key.clone()?).or_default();
    let pair = || invocation.value.items().expect("a pair");
    let done = Some(completion(Outcome::Ok, invocation.value.clone()));
    let refused = || {
        let mut refused = completion(Outcome::Fail, invocation.value.clone());
        refused.error = Some("cas-mismatch".into());
        Some(refused)
    };
    match &invocation.f {
        F::Read if register => {
            let shown = held.iter().cloned().collect();
            let mut completion = completion(Outcome::Ok, shown);
            completion.context = Some(format!("n1:{}", held.len()).into());
            Some(completion)
        }
        F::Read if kind == Kind::Counter => {
            let sum = held.iter().filter_map(Value::as_int).sum();
            Some(completion(Outcome::Ok, Value::Int(sum)))
        }
        F::Write if register => {
            *held = vec![invocation.value.clone()];
            done
        }
        F::Remove if invocation.value.is_nil() => {
            held.clear();
            done
        }
        F::Remove => {
            held.retain(|element| *element != invocation.value);
            done
        }
        F::Insert => {
            let [after, element] = pair() else {
                panic!("not a pair")
            };
            // What it was to follow may have been removed meanwhile: then the end.
            let place = held.iter().position(|shown| shown == after);
            let end = if after.is_nil() { 0 } else { held.len() };
            held.insert(place.map_or(end, |place| place + 1), element.clone());
            done
        }
        F::Cas if kind == Kind::Nondeterministic => refused(),
        F::Acquire if held.is_empty() => {
            held.push(invocation.value.clone());
            done
        }
        F::Release if held.first() == Some(&invocation.value) => {
            held.clear();
            done
        }
        F::Acquire | F::Release => refused(),
        _ => None,
    }
}

fn done(kind: Kind, json: &str, operations: u64) -> Vec<(u32, Invocation, Completion)> {
    let parameters: Parameters = serde_json::from_str(json).expect(json);
    run(&mut workload(kind, &parameters), operations)
}

fn count(done: &[(u32, Invocation, Completion)], f: &F) -> usize {
    done.iter().filter(|(_, i, _)| i.f == *f).count()
}

#[test]
fn who_resolves_replaces_what_he_has_read_and_who_does_not_writes_blindly() {
    let blind = done(Kind::Conflict, r#"{"resolve": false}"#, 2_000);
    let reads = count(&blind, &F::Read);
    assert!((500..700).contains(&reads), "{reads}");
    assert!(blind.iter().all(|(_, i, _)| i.replaces.is_none()));

    let mut read: BTreeMap<u32, (Option<Value>, Completion)> = BTreeMap::new();
    let mut writes = 0;
    for (thread, invocation, completion) in done(Kind::Conflict, "{}", 3_000) {
        if invocation.f == F::Read {
            assert!(invocation.replaces.is_none());
            read.insert(thread, (invocation.key, completion));
            continue;
        }
        writes += 1;
        let (key, shown) = read.remove(&thread).expect("a read before each write");
        assert_eq!((key, shown.outcome), (invocation.key, Outcome::Ok));
        let replaced = invocation.replaces.expect("what it replaces");
        assert_eq!(
            (Some(replaced.context), replaced.seen),
            (shown.context, shown.value)
        );
    }
    assert!(writes > 1_000, "{writes}");
}

#[test]
fn counters_go_up_and_down() {
    let done = done(Kind::Counter, r#"{"decrement_fraction": 0.5}"#, 2_000);
    let amounts: Vec<i64> = done
        .iter()
        .filter(|(_, i, _)| i.f == F::Increment)
        .map(|(_, i, _)| i.value.as_int().expect("a number"))
        .collect();
    let down = amounts.iter().filter(|amount| **amount < 0).count();
    assert!(amounts.len() > 1_000 && down > 400 && down < amounts.len() - 400);
    assert!(amounts.iter().all(|a| *a != 0 && a.abs() <= 10));
}

#[test]
fn the_store_is_asked_for_everything_it_can_come_up_with() {
    let done = done(Kind::Nondeterministic, "{}", 2_000);
    let asked: BTreeSet<Value> = done
        .iter()
        .filter(|(_, i, _)| i.f == F::Generate)
        .map(|(_, i, _)| i.value.clone())
        .collect();
    let all = ["auto-increment", "now", "random", "trigger"].map(Value::str);
    assert_eq!(asked, all.into());
    assert!(count(&done, &F::Cas) > 80, "operations fail in between");
    let of = |cas: bool| -> BTreeSet<_> {
        let ours = done.iter().filter(|(_, i, _)| (i.f == F::Cas) == cas);
        ours.map(|(_, i, _)| i.key.clone()).collect()
    };
    assert!(of(true).is_disjoint(&of(false)), "lists are no registers");
}

#[test]
fn authors_insert_after_what_they_saw_and_remove_it() {
    let done = done(
        Kind::Text,
        r#"{"editing": "crdt", "remove_fraction": 0.2}"#,
        4_000,
    );
    let (inserted, removed) = (count(&done, &F::Insert), count(&done, &F::Remove));
    let mut seen: BTreeMap<u32, Value> = BTreeMap::new();
    for (thread, invocation, completion) in &done {
        let target = match invocation.f {
            F::Read => {
                seen.insert(*thread, completion.value.clone());
                continue;
            }
            F::Insert => invocation.value.items().expect("a pair")[0].clone(),
            _ => invocation.value.clone(),
        };
        let shown = seen[thread].items().unwrap_or_default();
        assert!(target.is_nil() || shown.contains(&target));
    }
    assert!(inserted > 800 && removed > 100, "{inserted}, {removed}");
    let at_the_beginning = done.iter().filter(|(_, i, _)| {
        i.f == F::Insert && i.value.items().is_some_and(|pair| pair[0].is_nil())
    });
    let at_the_beginning = at_the_beginning.count();
    assert!(at_the_beginning < inserted / 2, "anywhere, not only there");
}

/// Between taking a lock and giving it back an author reads and inserts, and whatever becomes of
/// his operations he gives it back until he is told that he does not have it.
#[test]
fn authors_with_a_lock_give_it_back() {
    let done = done(Kind::Text, r#"{"editing": "lock"}"#, 4_000);
    let mut holds: BTreeMap<u32, (Value, Vec<F>)> = BTreeMap::new();
    let (mut edits, mut unknown) = (0, 0);
    for (thread, invocation, completion) in &done {
        match (&invocation.f, completion.outcome) {
            (F::Acquire, Outcome::Ok | Outcome::Info) => {
                unknown += u32::from(completion.outcome == Outcome::Info);
                let before = holds.insert(*thread, (invocation.value.clone(), Vec::new()));
                assert!(before.is_none(), "one lock at a time");
            }
            (F::Release, outcome) => {
                let held = holds
                    .get(thread)
                    .expect("nobody gives back what he has not");
                assert_eq!(held.0, invocation.value);
                if outcome != Outcome::Info {
                    let (_, between) = holds.remove(thread).expect("held");
                    assert!([&[F::Read, F::Insert][..], &[F::Read], &[]].contains(&&between[..]));
                    edits += u32::from(between.len() == 2);
                }
            }
            (f @ (F::Read | F::Insert), _) => {
                if let Some((_, between)) = holds.get_mut(thread) {
                    between.push(f.clone());
                } else {
                    assert_eq!(*f, F::Read, "only who has the lock edits");
                }
            }
            _ => {}
        }
    }
    assert!(edits > 200 && unknown > 5, "{edits}, {unknown}");
}

#[test]
fn locks_are_held_for_their_time_and_given_back() {
    let parameters: Parameters =
        serde_json::from_str(r#"{"keys": 1, "hold_ms": 5}"#).expect("parameters");
    let mut workload = workload(Kind::Lock, &parameters);
    let mut store = Store::default();
    let mut held: Option<(u32, u64)> = None;
    let (mut acquired, mut refused) = (0, 0);
    // A tenth of a millisecond at a time.
    for step in 0..10_000_u64 {
        let context = Context {
            now: step * 100_000,
            free: &[0, 1, 2],
            threads: 3,
        };
        let Next::Op { thread, invocation } = workload.main.next(&context) else {
            continue;
        };
        let done = store.apply(Kind::Lock, &invocation);
        match (&invocation.f, done.outcome) {
            (F::Acquire, Outcome::Ok) => {
                acquired += 1;
                held = Some((thread, context.now));
            }
            (F::Acquire, _) => refused += 1,
            (F::Release, outcome) => {
                let (holder, since) = held.take().expect("held");
                assert_eq!((holder, outcome), (thread, Outcome::Ok));
                assert!(context.now - since >= 5_000_000);
            }
            (other, _) => panic!("{other:?}"),
        }
        workload
            .main
            .completed(&context, thread, &invocation, &done);
    }
    assert!(acquired > 100 && refused > 1_000, "{acquired}, {refused}");
}

#[test]
fn slots_are_booked_cancelled_and_moved_in_the_knowledge_of_what_was_seen() {
    let done = done(Kind::Calendar, "{}", 6_000);
    let (booked, cancelled) = (count(&done, &F::Write), count(&done, &F::Remove));
    assert!(booked > 300 && cancelled > 200, "{booked}, {cancelled}");
    for (_, invocation, _) in &done {
        let seen = invocation
            .replaces
            .as_ref()
            .map(|r| r.seen.items().map_or(0, <[Value]>::len));
        match invocation.f {
            F::Read => assert_eq!(seen, None),
            F::Write => assert_eq!(seen, Some(0), "nobody books what is taken"),
            _ => assert_eq!(seen, Some(1), "nobody cancels what is free"),
        }
        let key = invocation.key.as_ref().expect("a slot").to_string();
        assert!(key.starts_with("day-") && key.ends_with('h'), "{key}");
    }
    // Who moves a booking looks at the other slot next.
    let mut moved = 0;
    let mut previous: BTreeMap<u32, F> = BTreeMap::new();
    for (thread, invocation, _) in &done {
        let before = previous.insert(*thread, invocation.f.clone());
        moved += u32::from(before == Some(F::Remove) && invocation.f == F::Read);
    }
    assert!(moved > 50);
}
