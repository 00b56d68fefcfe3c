//! Forms of the replication stream, and versions of the storage format.

use super::{config, started, write};
use crate::core::config::{Fsync, Stream};
use crate::core::testing::World;
use crate::core::{Answer, Config, Function, NodeId, Op, Refusal, Scalar, Trace};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn stream(stream: Stream) -> Config {
    Config { stream, ..config() }
}

fn generate(function: Function) -> Op {
    Op::Generate("g".into(), function)
}

fn digests(world: &World) -> [u64; 3] {
    NODES.map(|node| world.digest(node))
}

fn alike(world: &World) -> bool {
    let [a, b, c] = digests(world);
    a == b && b == c
}

#[test]
fn what_is_not_deterministic_diverges_by_statement_only() {
    for form in [Stream::Statement, Stream::Wal, Stream::Logical] {
        for function in [Function::Now, Function::Random, Function::Trigger] {
            let mut world = started(stream(form), 3, 21);
            for _ in 0..3 {
                let done = world.done(NodeId(1), generate(function));
                assert!(matches!(done, Ok(Answer::Generated(_))), "{done:?}");
            }
            assert_eq!(world.log(NodeId(2)), world.log(NodeId(1)));
            let diverged = form == Stream::Statement;
            assert_eq!(!alike(&world), diverged, "{form:?} {function:?}");
        }
    }
}

#[test]
fn auto_increment_diverges_by_statement_after_a_failed_operation() {
    for form in [Stream::Statement, Stream::Wal, Stream::Logical] {
        let mut world = started(stream(form), 3, 22);
        world
            .done(NodeId(1), generate(Function::AutoIncrement))
            .unwrap();
        assert!(alike(&world), "nothing has failed yet");
        let fails = Op::Cas("r".into(), Scalar::Int(1), Scalar::Int(2));
        world.done(NodeId(1), fails).unwrap_err();
        let next = world.done(NodeId(1), generate(Function::AutoIncrement));
        assert_eq!(next, Ok(Answer::Generated(Scalar::Int(3))), "a gap");
        assert_eq!(alike(&world), form != Stream::Statement, "{form:?}");
        // By rows, the next leader goes on behind the last number.
        world.crash(NodeId(1));
        world.run_ms(4_000);
        let leader = world.leader().unwrap();
        let next = world.done(leader, generate(Function::AutoIncrement));
        let expected = if form == Stream::Statement { 3 } else { 4 };
        assert_eq!(
            next,
            Ok(Answer::Generated(Scalar::Int(expected))),
            "{form:?}"
        );
    }
}

#[test]
fn what_a_replica_generated_stays_as_it_was_when_it_starts_again() {
    let mut world = started(stream(Stream::Statement), 3, 23);
    for function in [Function::Now, Function::Random, Function::Trigger] {
        world.done(NodeId(1), generate(function)).unwrap();
    }
    let before = digests(&world);
    for node in NODES {
        world.crash(node);
    }
    world.heal();
    assert_eq!(digests(&world), before);
}

#[test]
fn deterministic_operations_converge_in_every_form() {
    for form in [Stream::Statement, Stream::Wal, Stream::Logical] {
        for seed in 0..20 {
            let mut world = World::new(stream(form), 5, seed);
            world.torment(100);
            world.heal();
            world.assert_converged();
            world.assert_log_matching();
        }
    }
}

fn upgrade(world: &mut World, node: NodeId, version: u16) {
    world.crash(node);
    world.versions.insert(node, version);
    world.start(node);
    world.run_ms(500);
}

#[test]
fn a_wal_stream_stops_between_versions_and_a_logical_one_goes_on() {
    for form in [Stream::Wal, Stream::Logical] {
        let mut world = started(stream(form), 3, 24);
        world.done(NodeId(1), write(1)).unwrap();
        upgrade(&mut world, NodeId(2), 2);
        world.done(NodeId(1), write(2)).unwrap();
        let stops = form == Stream::Wal;
        let (two, three) = (world.status(NodeId(2)), world.status(NodeId(3)));
        assert_eq!(two.last.index < three.last.index, stops, "{form:?}");
        assert_eq!(two.storage_version, 2);
        assert_eq!(two.stopped.is_some(), stops);
        let stopped = world.count(|trace| matches!(trace, Trace::Stopped(_)));
        assert_eq!(stopped, usize::from(stops), "said once");
        let Ok(Answer::Digest(digest)) = world.done(NodeId(2), Op::Digest) else {
            panic!("no digest");
        };
        assert_eq!(digest.stopped, two.stopped);
        assert_eq!(world.leader(), Some(NodeId(1)), "nobody took over");

        // When all are of one version all go on.
        for node in [NodeId(3), NodeId(1)] {
            upgrade(&mut world, node, 2);
        }
        world.heal();
        world.assert_converged();
        assert!(
            NODES
                .iter()
                .all(|node| world.status(*node).stopped.is_none())
        );
    }
}

#[test]
fn an_older_node_refuses_a_newer_journal() {
    for fsync in [Fsync::Always, Fsync::Never] {
        let mut world = started(
            Config {
                fsync,
                ..stream(Stream::Logical)
            },
            3,
            25,
        );
        world.done(NodeId(1), write(1)).unwrap();
        upgrade(&mut world, NodeId(3), 2);
        assert_eq!(world.status(NodeId(3)).stopped, None, "newer reads older");
        world.done(NodeId(1), write(2)).unwrap();
        world.crash(NodeId(3));
        let recovered = world.records(NodeId(3));
        world.versions.insert(NodeId(3), 1);
        world.start(NodeId(3));
        world.run_ms(3_000);
        if fsync == Fsync::Always {
            assert!(world.status(NodeId(3)).stopped.is_some());
            assert_eq!(
                world.records(NodeId(3)),
                recovered,
                "it left the journal alone"
            );
            let read = world.ask_with(NodeId(3), super::read(), true);
            assert!(matches!(world.result(read), Err(Refusal::Unavailable(_))));
        }
        // Upgraded again it reads what it wrote.
        upgrade(&mut world, NodeId(3), 2);
        world.heal();
        world.assert_converged();
    }
}

#[test]
fn an_odd_format_keeps_the_journal_of_the_even_one_before_it() {
    for (from, to, goes_back) in [(1, 2, false), (2, 3, true), (3, 4, false), (4, 5, true)] {
        let mut config = stream(Stream::Logical);
        config.storage_version = from;
        let mut world = started(config, 3, 26);
        upgrade(&mut world, NodeId(3), to);
        world.done(NodeId(1), write(1)).unwrap();
        upgrade(&mut world, NodeId(3), from);
        let refuses = world.status(NodeId(3)).stopped.is_some();
        assert_eq!(refuses, !goes_back, "{from} to {to}");
    }
}

#[test]
fn statements_differ_in_torment_and_rows_do_not() {
    let mut diverged = 0;
    for seed in 0..20 {
        for form in [Stream::Statement, Stream::Logical] {
            let mut world = World::new(stream(form), 3, seed);
            for step in 0..30 {
                world.run_ms(60);
                if let Some(leader) = world.leader() {
                    world.ask(
                        leader,
                        generate([Function::Now, Function::Random][step % 2]),
                    );
                    world.ask(leader, generate(Function::AutoIncrement));
                }
                if step == 15
                    && let Some(leader) = world.leader()
                {
                    world.crash(leader);
                }
            }
            world.heal();
            if form == Stream::Statement {
                diverged += usize::from(!alike(&world));
            } else {
                world.assert_converged();
            }
        }
    }
    assert!(diverged >= 18, "{diverged}");
}
