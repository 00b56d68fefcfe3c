//! The mode in the small deterministic world of [`crate::core::testing`].

use std::sync::Arc;

use crate::core::config::Mode;
use crate::core::leaderless::ring::Ring;
use crate::core::leaderless::{Leaderless, ReadRepair, Versions};
use crate::core::testing::World;
use crate::core::timing::MILLISECOND;
use crate::core::{
    Answer, Config, Datum, NodeId, Op, Quorum, Refusal, Reply, Request, RequestId, Role, Scalar,
};

fn config(leaderless: Leaderless) -> Config {
    Config {
        mode: Mode::Leaderless,
        leaderless,
        ..Config::default()
    }
}

fn strict(versions: Versions, read_repair: ReadRepair) -> Config {
    config(Leaderless {
        versions,
        read_repair,
        anti_entropy_ms: 0,
        ..Leaderless::default()
    })
}

fn write(n: i64) -> Request {
    Request::new(Op::Write("k".into(), Scalar::Int(n)))
}

fn read() -> Request {
    Request::new(Op::Read("k".into()))
}

fn siblings(values: &[i64]) -> Answer {
    let values = values.iter().map(|n| Scalar::Int(*n)).collect();
    Answer::Value(Some(Datum::Siblings(values)))
}

fn register(n: i64) -> Answer {
    Answer::Value(Some(Datum::Register(Scalar::Int(n))))
}

/// The three homes of the key, in ring order, and the other two nodes.
fn places() -> ([NodeId; 3], [NodeId; 2]) {
    let ring = Ring::new(&nodes());
    let walk: Vec<NodeId> = ring.walk(ring.range("k")).collect();
    ([walk[0], walk[1], walk[2]], [walk[3], walk[4]])
}

/// What one node holds.
fn here(world: &mut World, node: NodeId) -> Answer {
    let request = Request {
        local: true,
        ..read()
    };
    ask(world, node, request).result.unwrap()
}

fn nodes() -> [NodeId; 5] {
    [1, 2, 3, 4, 5].map(NodeId)
}

/// Asks and waits, at most for as long as a request may take.
fn ask(world: &mut World, node: NodeId, request: Request) -> Reply {
    let id = world.request(node, request);
    world.run_ms(1_100);
    world.reply(id).unwrap().clone()
}

fn done(world: &mut World, node: NodeId, request: Request) {
    let reply = ask(world, node, request);
    assert_eq!((reply.result, reply.role), (Ok(Answer::Done), Role::Peer));
}

#[test]
fn any_node_takes_writes_and_reads() {
    for versions in [Versions::Lww, Versions::Dotted] {
        let mut world = World::new(strict(versions, ReadRepair::Off), 5, 1);
        let mut context = None;
        for (n, node) in nodes().into_iter().enumerate() {
            let n = n as i64;
            let id = world.request(
                node,
                Request {
                    context,
                    ..write(n)
                },
            );
            assert_eq!(world.reply(id), None, "acknowledged before it was durable");
            world.run_ms(100);
            assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
            let reply = ask(&mut world, nodes()[(n as usize + 2) % 5], read());
            let expected = match versions {
                Versions::Lww => register(n),
                Versions::Dotted => siblings(&[n]),
            };
            assert_eq!(reply.result, Ok(expected));
            assert_eq!(reply.context.is_some(), versions == Versions::Dotted);
            context = reply.context;
        }
    }
}

#[test]
fn concurrent_writes_are_siblings_until_a_reader_replaces_them() {
    let config = strict(Versions::Dotted, ReadRepair::Off);
    let mut world = World::new(config, 5, 2);
    for (n, node) in nodes().into_iter().enumerate() {
        world.request(node, write(n as i64));
    }
    world.run_ms(500);
    let reply = ask(&mut world, NodeId(4), read());
    assert_eq!(reply.result, Ok(siblings(&[0, 1, 2, 3, 4])));
    let context = reply.context;
    done(
        &mut world,
        NodeId(2),
        Request {
            context,
            ..write(9)
        },
    );
    let reply = ask(&mut world, NodeId(1), read());
    assert_eq!(reply.result, Ok(siblings(&[9])));

    // A deletion with an old context leaves what it has not seen.
    done(&mut world, NodeId(3), write(10));
    let delete = Request {
        context: reply.context,
        ..Request::new(Op::Delete("k".into()))
    };
    done(&mut world, NodeId(5), delete);
    let reply = ask(&mut world, NodeId(1), read());
    assert_eq!(reply.result, Ok(siblings(&[10])));
    done(&mut world, NodeId(5), Request::new(Op::Delete("k".into())));
    let reply = ask(&mut world, NodeId(2), read());
    assert_eq!(reply.result, Ok(Answer::Value(None)));
}

#[test]
fn impossible_quorums_are_refused() {
    let mut world = World::new(strict(Versions::Lww, ReadRepair::Off), 5, 3);
    for (n, r, w) in [
        (6, 1, 1),
        (0, 1, 1),
        (3, 4, 1),
        (3, 1, 4),
        (3, 0, 1),
        (3, 1, 0),
    ] {
        let quorum = Quorum {
            n: Some(n),
            r: Some(r),
            w: Some(w),
        };
        for request in [read(), write(1)] {
            let reply = ask(&mut world, NodeId(1), Request { quorum, ..request });
            assert!(
                matches!(reply.result, Err(Refusal::Unsupported(_))),
                "{reply:?}"
            );
        }
    }
    let cas = Op::Cas("k".into(), Scalar::Nil, Scalar::Int(1));
    let reply = ask(&mut world, NodeId(1), Request::new(cas));
    assert!(matches!(reply.result, Err(Refusal::Unsupported(_))));
    let quorum = Quorum {
        n: Some(5),
        r: None,
        w: Some(5),
    };
    done(&mut world, NodeId(1), Request { quorum, ..write(7) });
}

#[test]
fn local_reads_answer_from_one_home_alone() {
    let mut world = World::new(strict(Versions::Lww, ReadRepair::Off), 5, 3);
    let (homes, others) = places();
    done(&mut world, others[0], write(1));
    world.isolate(&[homes[1]]);
    done(&mut world, others[0], write(2));
    let held = homes.map(|home| here(&mut world, home));
    assert_eq!(held, [register(2), register(1), register(2)]);
    for other in others {
        let request = Request {
            local: true,
            ..read()
        };
        let reply = ask(&mut world, other, request);
        assert!(matches!(reply.result, Err(Refusal::Unsupported(_))));
    }
}

/// A write that too few took may surface later: that is Dynamo.
#[test]
fn a_partial_write_is_indeterminate_and_may_surface() {
    for versions in [Versions::Lww, Versions::Dotted] {
        let mut world = World::new(strict(versions, ReadRepair::Off), 5, 4);
        let (homes, others) = places();
        world.isolate(&[homes[0]]);
        let reply = ask(&mut world, homes[0], write(1));
        assert!(
            matches!(reply.result, Err(Refusal::Indeterminate(_))),
            "{reply:?}"
        );
        // By now it suspects the others, and certainly does nothing.
        let reply = ask(&mut world, homes[0], write(2));
        assert!(
            matches!(reply.result, Err(Refusal::Unavailable(_))),
            "{reply:?}"
        );
        let reply = ask(&mut world, homes[0], read());
        assert!(
            matches!(reply.result, Err(Refusal::Unavailable(_))),
            "{reply:?}"
        );
        assert_eq!(
            ask(&mut world, others[0], read()).result,
            Ok(Answer::Value(None))
        );
        world.heal();
        let seen = ask(&mut world, homes[0], read()).result;
        let expected = match versions {
            Versions::Lww => register(1),
            Versions::Dotted => siblings(&[1]),
        };
        assert_eq!(seen, Ok(expected));
    }
}

/// Two quorum reads, one after the other, of a write that only one home has: by a coordinator that
/// reaches that home and then by one that does not.
fn read_twice(read_repair: ReadRepair) -> (Answer, Answer, [Answer; 3]) {
    let mut world = World::new(strict(Versions::Lww, read_repair), 5, 5);
    let (homes, others) = places();
    done(&mut world, homes[0], write(1));
    world.isolate(&[homes[0]]);
    ask(&mut world, homes[0], write(2));
    world.cut.clear();
    // The first coordinator hears of the first two homes only.
    world
        .cut
        .extend([(homes[2], others[0]), (others[0], homes[2])]);
    let first = world.request(others[0], read());
    world.run_ms(1_100);
    let first = world.reply(first).unwrap().result.clone().unwrap();
    world.isolate(&[homes[0]]);
    let second = ask(&mut world, homes[2], read()).result.unwrap();
    world.heal();
    let held = homes.map(|home| here(&mut world, home));
    (first, second, held)
}

#[test]
fn without_read_repair_a_later_read_may_see_less() {
    let (first, second, held) = read_twice(ReadRepair::Off);
    assert_eq!((first, second), (register(2), register(1)));
    assert_eq!(held, [register(2), register(1), register(1)]);
}

#[test]
fn read_repair_brings_what_was_read_to_the_homes_that_lacked_it() {
    for repair in [ReadRepair::Background, ReadRepair::Blocking] {
        let (first, second, held) = read_twice(repair);
        assert_eq!((first, second), (register(2), register(2)), "{repair:?}");
        assert_eq!(held[..2], [register(2), register(2)], "{repair:?}");
    }
}

/// What background repair does not promise and blocking repair does: the answer of the first read
/// is there before w replicas hold it.
#[test]
fn a_blocking_read_answers_only_once_a_quorum_holds_what_it_returns() {
    for (repair, answers) in [
        (ReadRepair::Background, true),
        (ReadRepair::Blocking, false),
    ] {
        let mut config = strict(Versions::Lww, repair);
        config.leaderless.r = 1;
        let mut world = World::new(config, 5, 6);
        let (homes, _) = places();
        done(&mut world, homes[0], write(1));
        world.isolate(&[homes[0]]);
        ask(&mut world, homes[0], write(2));
        let reply = ask(&mut world, homes[0], read()).result;
        match reply {
            Ok(answer) => assert!(answers && answer == register(2)),
            Err(refusal) => assert!(!answers && matches!(refusal, Refusal::Unavailable(_))),
        }
        world.heal();
        assert_eq!(ask(&mut world, homes[0], read()).result, Ok(register(2)));
    }
}

#[test]
fn with_overlapping_quorums_reads_are_fresh_and_with_others_they_are_not() {
    for (r, w, fresh) in [(2, 2, true), (1, 3, true), (3, 1, true), (1, 1, false)] {
        let mut stale = 0;
        for seed in 0..40 {
            let mut config = strict(Versions::Lww, ReadRepair::Off);
            (config.leaderless.r, config.leaderless.w) = (r, w);
            let mut world = World::new(config, 5, seed);
            world.delay_max = 50 * MILLISECOND;
            for n in 0..20 {
                let node = nodes()[world.draw(5) as usize];
                let id = world.request(node, write(n));
                while world.reply(id).is_none() {
                    world.run_ms(1);
                }
                assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
                let node = nodes()[world.draw(5) as usize];
                let reply = ask(&mut world, node, read());
                stale += usize::from(reply.result != Ok(register(n)));
            }
        }
        assert_eq!(stale == 0, fresh, "r {r}, w {w}: {stale} stale reads");
    }
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let script = |seed| {
        let config = config(Leaderless {
            sloppy: true,
            ..Leaderless::default()
        });
        let mut world = World::new(config, 5, seed);
        world.script = Some(Vec::new());
        storm(&mut world, 60);
        world.heal();
        world.script.unwrap()
    };
    for seed in 0..5 {
        let (first, second) = (script(seed), script(seed));
        assert!(first.len() > 1_000);
        assert!(first == second, "seed {seed} is not deterministic");
    }
    assert_ne!(script(1), script(2));
}

/// Some seconds of random faults, with clients that write unique values to a few keys through any
/// node, mostly after having read. Returns the writes: key, value, and which values they replace.
fn storm(world: &mut World, steps: u64) -> Vec<(RequestId, Arc<str>, Scalar, Vec<Scalar>)> {
    world.loss = 20;
    let mut writes = Vec::new();
    let mut reads: Vec<(RequestId, Arc<str>)> = Vec::new();
    for step in 0..steps {
        let node = nodes()[world.draw(5) as usize];
        match world.draw(40) {
            0 | 1 => world.crash(node),
            2 => world.isolate(&[node]),
            3 => {
                let other = nodes()[world.draw(5) as usize];
                world.cut.insert((node, other));
            }
            4 => {
                let count = world.draw(4) as usize + 1;
                world.isolate(&nodes()[..count]);
            }
            5..8 => world.cut.clear(),
            8 => world.delay_max = (1 + world.draw(300)) * MILLISECOND,
            9 => world.delay_max = 2 * MILLISECOND,
            10..16 => {
                if let Some(node) = nodes().into_iter().find(|node| !world.is_up(*node)) {
                    world.start(node);
                }
            }
            _ => {}
        }
        for node in nodes() {
            if !world.is_up(node) {
                continue;
            }
            let key: Arc<str> = format!("k{}", world.draw(4)).into();
            if world.draw(2) == 0 {
                reads.push((
                    world.request(node, Request::new(Op::Read(key.clone()))),
                    key,
                ));
                continue;
            }
            let value = Scalar::Int(step as i64 * 10 + i64::from(node.0));
            let mut seen = Vec::new();
            let mut context = None;
            let newest = reads.iter().rev().find(|(_, read)| *read == key);
            if let Some(reply) = newest.and_then(|(id, _)| world.reply(*id))
                && let Ok(Answer::Value(datum)) = &reply.result
                && step % 3 > 0
            {
                context.clone_from(&reply.context);
                if let Some(Datum::Siblings(values)) = datum {
                    seen.clone_from(values);
                }
            }
            let request = Request {
                context,
                ..Request::new(Op::Write(key.clone(), value.clone()))
            };
            writes.push((world.request(node, request), key, value, seen));
        }
        let span = world.draw(100);
        world.run_ms(span);
    }
    writes
}
