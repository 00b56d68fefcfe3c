//! Combinators, driven by hand.

use std::collections::BTreeMap;

use checkers::{F, Outcome, Value};
use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

/// Numbers its operations and hears of their completions.
struct Count {
    tag: i64,
    issued: i64,
    heard: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

fn count(tag: i64) -> Count {
    Count {
        tag,
        issued: 0,
        heard: std::sync::Arc::default(),
    }
}

impl Generator for Count {
    fn next(&mut self, context: &Context<'_>) -> Next {
        let Some(&thread) = context.free.first() else {
            return Next::Wait(u64::MAX);
        };
        self.issued += 1;
        Next::Op {
            thread,
            invocation: invocation(self.tag, self.issued),
        }
    }

    fn completed(&mut self, _: &Context<'_>, _: u32, _: &Invocation, _: &Completion) {
        self.heard
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn invocation(tag: i64, number: i64) -> Invocation {
    Invocation::new(F::Write, Some(Value::Int(tag)), Value::Int(number))
}

fn ok() -> Completion {
    Completion {
        outcome: Outcome::Ok,
        value: Value::Nil,
        witness: None,
        error: None,
        leader_hint: None,
        session: None,
        context: None,
        may_repeat: None,
    }
}

fn at(now: u64, free: &[u32]) -> Context<'_> {
    Context {
        now,
        free,
        threads: 4,
    }
}

/// Tag and number of an operation.
fn tag(next: &Next) -> Option<(i64, i64)> {
    match next {
        Next::Op { invocation, .. } => Some((
            invocation.key.as_ref()?.as_int()?,
            invocation.value.as_int()?,
        )),
        _ => None,
    }
}

/// Runs a generator with every operation completing at once; the times of the operations.
fn times(generator: &mut dyn Generator, until: u64) -> Vec<u64> {
    let mut times = Vec::new();
    let mut now = 0;
    while now < until {
        match generator.next(&at(now, &[0, 1, 2, 3])) {
            Next::Op { .. } => times.push(now),
            Next::Wait(next) => {
                assert!(next > now);
                now = next;
            }
            Next::Exhausted => break,
        }
    }
    times
}

#[test]
fn rate_is_even_and_makes_up_a_little() {
    let mut rate = Rate::new(count(1), 100.0);
    let issued = times(&mut rate, 1_000 * MS);
    assert_eq!(issued.len(), 100);
    assert!(issued.windows(2).all(|pair| pair[1] - pair[0] == 10 * MS));

    // Nobody was free for a second: not a hundred at once, but the few of the last moment.
    let mut rate = Rate::new(count(1), 100.0);
    assert!(tag(&rate.next(&at(0, &[0]))).is_some());
    let burst = (0..100).filter(|_| tag(&rate.next(&at(1_000 * MS, &[0]))).is_some());
    assert_eq!(burst.count(), 11);
    assert_eq!(
        times(&mut Rate::new(Limit::new(count(1), 5), 0.0), 1).len(),
        5
    );
}

#[test]
fn stagger_holds_its_mean() {
    for spread in [Spread::Uniform, Spread::Exponential] {
        let mut stagger = Stagger::new(count(1), MS, spread, 7);
        let issued = times(&mut stagger, 10_000 * MS).len();
        assert!((9_500..10_500).contains(&issued), "{spread:?}: {issued}");
        let again = times(&mut Stagger::new(count(1), MS, spread, 7), 10_000 * MS).len();
        assert_eq!(issued, again);
    }
}

#[test]
fn the_rate_holds_though_the_loop_wakes_late() {
    let free = [0, 1, 2, 3];
    let paced: [Box<dyn Generator>; 2] = [
        Box::new(Rate::new(count(1), 2_000.0)),
        Box::new(Stagger::new(count(1), MS / 2, Spread::Exponential, 3)),
    ];
    for mut generator in paced {
        let (mut now, mut issued) = (0, 0);
        while now < 10_000 * MS {
            match generator.next(&at(now, &free)) {
                Next::Op { .. } => issued += 1,
                // Timers of a whole millisecond, and one more until the loop has come round.
                Next::Wait(until) => now = until.next_multiple_of(MS) + MS,
                Next::Exhausted => panic!("it has no end"),
            }
        }
        assert!((19_000..21_000).contains(&issued), "{issued}");
    }
}

#[test]
fn limits_end() {
    assert_eq!(times(&mut Limit::new(count(1), 3), u64::MAX).len(), 3);
    let mut limited = TimeLimit::new(Rate::new(count(1), 10.0), 950 * MS);
    // The time runs from the first call, and a wait ends with it.
    assert!(tag(&limited.next(&at(5_000 * MS, &[0]))).is_some());
    assert!(tag(&limited.next(&at(5_900 * MS, &[0]))).is_some());
    for _ in 0..20 {
        limited.next(&at(5_900 * MS, &[0]));
    }
    assert_eq!(limited.next(&at(5_901 * MS, &[0])), Next::Wait(5_950 * MS));
    assert_eq!(limited.next(&at(5_950 * MS, &[0])), Next::Exhausted);
}

#[test]
fn mix_draws_by_weight_and_until_all_are_exhausted() {
    let parts: Vec<(u32, Box<dyn Generator>)> = vec![
        (3, Box::new(Limit::new(count(1), 3_000))),
        (1, Box::new(Limit::new(count(2), 1_000))),
        (0, Box::new(count(3))),
    ];
    let mut mix = Mix::new(parts, 5);
    let mut drawn = BTreeMap::new();
    for _ in 0..1_000 {
        let (tag, _) = tag(&mix.next(&at(0, &[0]))).expect("an operation");
        *drawn.entry(tag).or_insert(0) += 1;
    }
    assert!((700..800).contains(&drawn[&1]), "{drawn:?}");
    assert!(!drawn.contains_key(&3));
    let rest = std::iter::from_fn(|| tag(&mix.next(&at(0, &[0])))).count();
    assert_eq!(rest, 3_000);
    assert_eq!(mix.next(&at(0, &[0])), Next::Exhausted);
}

#[test]
fn a_phase_begins_when_all_before_is_over() {
    let (first, second) = (count(1), count(2));
    let heard = (first.heard.clone(), second.heard.clone());
    let mut phases = Phases::then(Limit::new(first, 1), Limit::new(second, 1));
    let all = [0, 1, 2, 3];
    assert_eq!(tag(&phases.next(&at(0, &all))), Some((1, 1)));
    assert_eq!(phases.next(&at(0, &all[1..])), Next::Wait(u64::MAX));
    phases.completed(&at(5, &all), 0, &invocation(1, 1), &ok());
    assert_eq!(tag(&phases.next(&at(5, &all))), Some((2, 1)));
    // Nothing comes after the last phase: nothing to wait for.
    assert_eq!(phases.next(&at(5, &all[1..])), Next::Exhausted);
    let heard = [heard.0, heard.1].map(|h| h.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(heard, [1, 0]);
}

#[test]
fn reserved_threads_are_left_to_their_owner() {
    let (one, rest) = (count(1), count(2));
    let heard = (one.heard.clone(), rest.heard.clone());
    let mut reserve = Reserve::new(vec![(1, Box::new(one))], Box::new(Limit::new(rest, 2)));
    let thread = |next: &Next| match next {
        Next::Op { thread, .. } => Some(*thread),
        _ => None,
    };
    let next = reserve.next(&at(0, &[0, 1, 2, 3]));
    assert_eq!((thread(&next), tag(&next)), (Some(0), Some((1, 1))));
    let next = reserve.next(&at(0, &[1, 2, 3]));
    assert_eq!((thread(&next), tag(&next)), (Some(1), Some((2, 1))));
    assert_eq!(thread(&reserve.next(&at(0, &[2, 3]))), Some(2));
    // The rest is exhausted; the first has more, when its thread is free.
    assert_eq!(reserve.next(&at(0, &[3])), Next::Wait(u64::MAX));
    reserve.completed(&at(0, &[2, 3]), 2, &invocation(2, 2), &ok());
    let heard = [heard.0, heard.1].map(|h| h.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(heard, [0, 1]);
}

#[test]
fn each_thread_has_its_own() {
    let mut each = EachThread::new(|thread| Box::new(Limit::new(count(i64::from(thread)), 2)));
    let mut issued = BTreeMap::new();
    while let Next::Op { thread, invocation } = each.next(&at(0, &[0, 1, 2, 3])) {
        assert_eq!(invocation.key, Some(Value::Int(i64::from(thread))));
        *issued.entry(thread).or_insert(0) += 1;
    }
    assert_eq!(issued, (0..4).map(|thread| (thread, 2)).collect());
}

/// A tower of combinators.
fn tower(seed: u64) -> Box<dyn Generator> {
    let part = |tag, hz| -> Box<dyn Generator> { Box::new(Rate::new(count(tag), hz)) };
    let mix = Mix::new(vec![(2, part(1, 300.0)), (1, part(2, 50.0))], seed);
    let reserve = Reserve::new(vec![(1, part(3, 100.0))], Box::new(mix));
    let stagger = Stagger::new(reserve, 3 * MS, Spread::Exponential, seed);
    let each = EachThread::new(|thread| Box::new(Limit::new(count(i64::from(thread)), 2)));
    Box::new(Phases::then(TimeLimit::new(stagger, 500 * MS), each))
}

proptest! {
    /// Asking more often, before the time has come, changes nothing.
    #[test]
    fn waiting_consumes_nothing(seed in any::<u64>(), extra in proptest::collection::vec(0_u8..3, 1..50)) {
        let free = [0, 1, 2, 3];
        let go = |extra: &[u8]| {
            let mut generator = tower(seed);
            let mut issued = Vec::new();
            let mut now = 0;
            let mut extra = extra.iter().cycle();
            loop {
                match generator.next(&at(now, &free)) {
                    Next::Op { thread, invocation } => issued.push((now, thread, invocation)),
                    Next::Exhausted => return issued,
                    Next::Wait(until) => {
                        for part in 0..u64::from(*extra.next().unwrap_or(&0)) {
                            let between = now + (until - now) / 3 * part;
                            assert_eq!(generator.next(&at(between, &free)), Next::Wait(until));
                        }
                        now = until;
                    }
                }
            }
        };
        prop_assert_eq!(go(&[0]), go(&extra));
    }
}
