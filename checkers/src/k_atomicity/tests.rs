use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::linearizable::engine::brute_force::BruteForce;
use crate::linearizable::engine::{Action, Engine, Id, Limits, Model, NIL, Op};
use crate::testing::Script;
use crate::{F, Kind, Verdict};

/// Reads return one of the last few values; some writes are never answered. `cas`: in percent of the
/// writes.
fn random_ops(rng: &mut SmallRng, max: usize, lag: usize, cas: u32) -> Vec<Op> {
    let count = rng.random_range(2..=max);
    let mut ops: Vec<Op> = Vec::new();
    let mut open: [Option<(usize, bool)>; 3] = [None; 3];
    let (mut written, mut now) = (vec![NIL], 0);
    while ops.len() < count || open.iter().any(Option::is_some) {
        let c = rng.random_range(0..3);
        now += 1;
        match open[c] {
            None if ops.len() == count => {}
            None => {
                open[c] = Some((ops.len(), false));
                let value = ops.len() as Id + 1;
                let action = match rng.random_range(0..100) {
                    0..50 => Action::Read(NIL),
                    n if n - 50 < cas / 2 => Action::Cas(written[written.len() - 1], value),
                    _ => Action::Write(value),
                };
                let (call, completion) = (now, None);
                ops.push(Op {
                    call,
                    completion,
                    action,
                });
            }
            Some((op, false)) => {
                open[c] = Some((op, true));
                let back = rng.random_range(0..=lag).min(written.len() - 1);
                match &mut ops[op].action {
                    Action::Read(value) => *value = written[written.len() - 1 - back],
                    Action::Write(value) | Action::Cas(_, value) => written.push(*value),
                    _ => {}
                }
            }
            Some((op, true)) => {
                open[c] = None;
                let answered = matches!(ops[op].action, Action::Read(_)) || rng.random_bool(0.8);
                ops[op].completion = answered.then_some(now);
            }
        }
    }
    ops
}

fn table(ops: &[Op]) -> Table {
    let mut table = Table::default();
    for op in ops {
        match (&op.action, op.completion) {
            (Action::Read(value), Some(end)) => table.read(*value, op.call, end),
            (Action::Write(value), end) => table.write(*value, op.call, end),
            (Action::Cas(old, new), end) => table.cas(*old, *new, op.call, end),
            _ => {}
        }
    }
    table
}

/// Whether an order of these operations has every read return one of the last `k` values.
fn is_k_atomic(ops: &[Op], k: usize) -> bool {
    fn any_order(left: &mut Vec<&Op>, written: &mut Vec<Id>, k: usize) -> bool {
        if left.iter().all(|op| op.completion.is_none()) {
            return true;
        }
        for i in 0..left.len() {
            let op = left[i];
            if left
                .iter()
                .any(|o| o.completion.is_some_and(|e| e < op.call))
            {
                continue;
            }
            let found = match op.action {
                Action::Write(value) => {
                    left.remove(i);
                    written.push(value);
                    let found = any_order(left, written, k);
                    written.pop();
                    left.insert(i, op);
                    found
                }
                Action::Read(value) if written.iter().rev().take(k).any(|v| *v == value) => {
                    left.remove(i);
                    let found = any_order(left, written, k);
                    left.insert(i, op);
                    found
                }
                _ => false,
            };
            if found {
                return true;
            }
        }
        false
    }
    any_order(&mut ops.iter().collect(), &mut vec![NIL], k)
}

#[test]
fn k_is_that_of_trying_every_order() {
    let mut rng = SmallRng::seed_from_u64(31);
    let mut seen = [0_u32; 4];
    for round in 0..100_000 {
        let lag = rng.random_range(0..4);
        let mut ops = random_ops(&mut rng, 8, lag, 0);
        if round % 50 == 0 {
            // What nobody wrote, or not yet.
            let last = ops.len() - 1;
            ops[last].action = Action::Read(rng.random_range(0..12));
            ops[last].completion = Some(ops[last].call + 1_000);
        }
        let Some(found) = of_table(&table(&ops), &mut |instant| u64::from(instant)) else {
            panic!("values are unique");
        };
        let expected = match () {
            () if is_k_atomic(&ops, 1) => K::One,
            () if is_k_atomic(&ops, 2) => K::Two,
            () if is_k_atomic(&ops, 9) => K::MoreThanTwo,
            () => K::None,
        };
        assert_eq!(found.k, expected, "round {round}: {ops:#?}");
        if let Some(most) = found.k_at_most {
            assert!(
                is_k_atomic(&ops, most),
                "round {round}: at most {most}, {ops:#?}"
            );
        }
        seen[match expected {
            K::One => 0,
            K::Two => 1,
            K::None => 3,
            _ => 2,
        }] += 1;
    }
    assert!(seen[0] > 20_000 && seen[1] > 10_000, "{seen:?}");
    assert!(seen[2] > 2_000 && seen[3] > 500, "{seen:?}");
}

/// The smallest `k` of spans, by all orders of them; `limit` if greater.
fn smallest_k(spans: &[Span], limit: usize) -> usize {
    fn any_order(spans: &[Span], order: &mut Vec<usize>, k: usize) -> bool {
        if order.len() == spans.len() {
            return true;
        }
        for y in (0..spans.len())
            .filter(|y| !order.contains(y))
            .collect::<Vec<_>>()
        {
            let waits = (0..spans.len())
                .any(|x| x != y && !order.contains(&x) && spans[x].end < spans[y].call);
            let behind = order.len().saturating_sub(k - 1);
            let late = order[..behind]
                .iter()
                .any(|&x| spans[x].last_read > spans[y].end);
            if waits || late {
                continue;
            }
            order.push(y);
            let found = any_order(spans, order, k);
            order.pop();
            if found {
                return true;
            }
        }
        false
    }
    (1..limit)
        .find(|&k| any_order(spans, &mut Vec::new(), k))
        .unwrap_or(limit)
}

#[test]
fn spans_are_two_atomic_if_some_order_of_them_is() {
    let mut rng = SmallRng::seed_from_u64(37);
    let mut seen = [0_u32; 4];
    for round in 0..100_000 {
        let count = rng.random_range(1..=8);
        let mut instants: Vec<u32> = (1..=3 * count).collect();
        let reach = rng.random_range(2..12);
        for i in (1..instants.len()).rev() {
            instants.swap(i, i - rng.random_range(0..=i.min(reach)));
        }
        let mut spans: Vec<Span> = instants
            .chunks_exact(3)
            .map(|three| Span {
                call: three[0].min(three[1]),
                end: three[0].max(three[1]),
                last_read: if rng.random_bool(0.7) { three[2] } else { 0 },
            })
            .collect();
        if round % 2 == 0 {
            // The initial value.
            (spans[0].call, spans[0].end) = (0, 0);
        }
        let k = smallest_k(&spans, 4);
        let found = two::is_two_atomic(&spans);
        assert_eq!(found, Some(k <= 2), "round {round}, k {k}: {spans:?}");
        let bound = two::upper_bound(&spans);
        assert!(
            bound >= k,
            "round {round}: {k} but at most {bound}, {spans:?}"
        );
        seen[k - 1] += 1;
    }
    assert!(seen.iter().all(|n| *n > 1_000), "{seen:?}");
}

/// The history with reads that begin so much earlier, linearized by all orders.
fn is_delta_atomic(ops: &[Op], times: &[u64], delta: Option<u64>) -> bool {
    let mut instants: Vec<((u64, u64), usize, bool)> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let call = match (&op.action, delta) {
            (Action::Read(_), Some(delta)) => (times[op.call as usize].saturating_sub(delta), 0),
            _ => (times[op.call as usize], op.call),
        };
        instants.push((call, i, false));
        if let Some(end) = op.completion {
            instants.push(((times[end as usize], end), i, true));
        }
    }
    instants.sort_unstable();
    let mut moved = ops.to_vec();
    for (at, (_, i, ends)) in instants.into_iter().enumerate() {
        if ends {
            moved[i].completion = Some(at as u64);
        } else {
            moved[i].call = at as u64;
        }
    }
    let decision = BruteForce.decide(Model::Register, &moved, &Limits::NONE);
    decision.is_linearizable().unwrap()
}

#[test]
fn delta_is_that_of_trying_every_delta() {
    let mut rng = SmallRng::seed_from_u64(41);
    let (mut positive, mut none, mut atomic) = (0, 0, 0);
    let rounds = 60_000;
    for round in 0..rounds {
        let lag = rng.random_range(0..4);
        let cas = if round % 2 == 0 { 0 } else { 60 };
        let mut ops = random_ops(&mut rng, 7, lag, cas);
        if round % 40 == 0 {
            let last = ops.len() - 1;
            ops[last].action = Action::Read(rng.random_range(0..12));
            let end = ops[last].call + 60;
            ops[last].completion.get_or_insert(end);
        }
        ops.retain(|op| op.completion.is_some() || !matches!(op.action, Action::Read(_)));
        let mut time = 0;
        let times: Vec<u64> = (0..200)
            .map(|_| {
                time += rng.random_range(0..4);
                time
            })
            .collect();
        let found = of_table(&table(&ops), &mut |instant| {
            (instant as usize).checked_sub(1).map_or(0, |at| times[at])
        });
        let found = found.unwrap();
        let mut deltas: Vec<u64> = vec![0];
        for a in &ops {
            for b in ops.iter().filter_map(|op| op.completion) {
                deltas.extend(times[a.call as usize].checked_sub(times[b as usize]));
            }
        }
        deltas.sort_unstable();
        deltas.dedup();
        let is_atomic = is_delta_atomic(&ops, &times, None);
        let by = |delta: &u64| is_atomic || is_delta_atomic(&ops, &times, Some(*delta));
        let expected = deltas.into_iter().find(by);
        assert_eq!(
            found.late.delta, expected,
            "round {round}: {ops:#?} at {times:?}"
        );
        assert_eq!(found.k == K::One, is_atomic, "round {round}");
        atomic += u32::from(is_atomic);
        positive += u32::from(expected.is_some_and(|delta| delta > 0));
        none += u32::from(expected.is_none());
    }
    assert!(atomic > rounds / 5, "{atomic}");
    assert!(positive > rounds / 10 && none > 500, "{positive}, {none}");
}

/// Long histories in which every read misses the last write or two.
#[test]
fn long_histories_are_quick() {
    let late = |writes: u32, by: u32| -> Table {
        let mut table = Table::default();
        for n in 1..=writes {
            let at = u64::from(n) * 10;
            table.write(n, at, Some(at + 1));
            if n > by {
                table.read(n - by, at + 2, at + 3);
            }
        }
        table
    };
    for (by, k, most) in [(0, K::One, 1), (1, K::Two, 2), (2, K::MoreThanTwo, 3)] {
        let found = of_table(&late(100_000, by), &mut |instant| u64::from(instant)).unwrap();
        assert_eq!((found.k, found.k_at_most), (k, Some(most)));
        let ns = u64::from(by) * 10;
        assert_eq!(
            found.late.delta,
            Some(ns.saturating_sub(if by > 0 { 9 } else { 0 }))
        );
    }
}

#[test]
fn a_key_is_judged_in_words_and_figures() {
    let mut s = Script::new();
    s.key("good")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Read, 1);
    let result = KAtomicity.check(&s.history());
    assert_eq!(result.verdict, Verdict::Valid);
    assert_eq!(result.figures["k"], 1);
    assert_eq!(result.figures["delta_ms"], 0.0);
    s.key("late")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Write, 2)
        .op(3, Kind::Ok, F::Read, 1);
    let result = KAtomicity.check(&s.history());
    assert_eq!(result.verdict, Verdict::Invalid);
    assert_eq!(result.figures["k"], 2);
    assert_eq!(result.figures["delta_ms"], 1.0);
    assert_eq!(result.anomalies.len(), 1);
    let anomaly = &result.anomalies[0];
    assert_eq!(anomaly.ops, [4, 6, 8]);
    let begins = "key late is not atomic: every read returns one of the last 2 values, as late as \
                  1.000 ms; e.g. no order of these operations is atomic: write 1 by process 1";
    assert!(anomaly.summary.starts_with(begins), "{}", anomaly.summary);
    s.key("later").op(1, Kind::Ok, F::Write, 1);
    s.op(1, Kind::Ok, F::Write, 2)
        .op(1, Kind::Ok, F::Write, 3)
        .op(1, Kind::Ok, F::Read, 1);
    s.key("never").op(1, Kind::Ok, F::Read, 7);
    s.key("cas").op(1, Kind::Ok, F::Write, 1);
    s.op(1, Kind::Ok, F::Cas, crate::testing::ints(&[1, 2]))
        .op(1, Kind::Ok, F::Read, 1);
    s.key("twice")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 1);
    s.key("list").op(1, Kind::Ok, F::Append, 1);
    let result = KAtomicity.check(&s.history());
    let of: Vec<_> = result.anomalies.iter().map(|a| &a.figures["k"]).collect();
    assert_eq!(
        of,
        ["more than 1", "2", "more than 2", "none"]
            .map(|k| match k {
                "2" => json!(2),
                k => json!(k),
            })
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(result.figures["k"], "none");
    assert_eq!(result.figures.get("delta_ms"), None);
    assert_eq!(result.figures["keys_unknown"], 1);
    assert_eq!(result.anomalies[2].figures["k_at_most"], 3);
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let verdict = |s: &Script| KAtomicity.check(&s.history()).verdict;
    assert_eq!(
        verdict(&Script::new()),
        Verdict::Unknown("nothing-to-judge".into())
    );
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, 1);
    s.op(1, Kind::Ok, F::Write, 1);
    assert_eq!(
        verdict(&s),
        Verdict::Unknown("values-not-unique at key k".into())
    );
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, 1);
    s.op(1, Kind::Ok, F::Remove, Value::Nil);
    assert_eq!(verdict(&s), Verdict::Unknown("removed at key k".into()));
}
