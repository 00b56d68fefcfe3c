//! New and returning followers, while writes go on.

use super::{config, started};
use crate::core::testing::World;
use crate::core::{Answer, Config, Datum, NodeId, Op, Scalar, Trace};

const NEW: NodeId = NodeId(5);

fn keep(log_keep: u64) -> Config {
    Config {
        log_keep,
        ..config()
    }
}

/// Appends to a list at whoever leads, every 5 ms; returns what was acknowledged.
fn load(world: &mut World, from: i64, count: i64, leader: NodeId) -> Vec<i64> {
    let ids: Vec<_> = (from..from + count)
        .map(|n| {
            world.run_ms(5);
            (n, world.ask(leader, Op::Append("l".into(), Scalar::Int(n))))
        })
        .collect();
    world.run_ms(50);
    ids.into_iter()
        .filter(|(_, id)| world.reply(*id).is_some_and(|reply| reply.result.is_ok()))
        .map(|(n, _)| n)
        .collect()
}

fn list(world: &mut World, node: NodeId) -> Vec<i64> {
    let id = world.ask_with(node, Op::Read("l".into()), true);
    match world.result(id) {
        Ok(Answer::Value(Some(Datum::List(list)))) => list
            .iter()
            .map(|value| match value {
                Scalar::Int(n) => *n,
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn snapshots(world: &World, node: NodeId) -> usize {
    let at = |(who, trace): &&(NodeId, Trace)| {
        *who == node && matches!(trace, Trace::SnapshotInstalled(_))
    };
    world.traces.iter().filter(at).count()
}

#[test]
fn an_empty_node_joins_under_load_from_the_log_or_from_a_snapshot() {
    for (log_keep, expected) in [(10_000, 0), (16, 1)] {
        for seed in 0..20 {
            let mut world = started(keep(log_keep), 5, seed);
            world.crash(NEW);
            world.wipe(NEW);
            world.loss = 20;
            let mut done = load(&mut world, 0, 100, NodeId(1));
            world.start(NEW);
            done.extend(load(&mut world, 100, 100, NodeId(1)));
            world.heal();
            world.assert_converged();
            assert_eq!(done.len(), 200);
            assert_eq!(list(&mut world, NEW), done, "seed {seed}: a hole");
            if expected == 0 {
                assert_eq!(snapshots(&world, NEW), 0, "seed {seed}");
            } else {
                assert!(snapshots(&world, NEW) >= 1, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_node_joins_while_the_leader_fails_over() {
    for seed in 0..40 {
        let mut world = started(keep(16), 5, seed);
        world.crash(NEW);
        world.wipe(NEW);
        load(&mut world, 0, 60, NodeId(1));
        world.start(NEW);
        load(&mut world, 60, (seed % 10) as i64, NodeId(1));
        world.crash(NodeId(1));
        world.run_ms(4_000);
        let leader = world.leader().unwrap();
        assert!(leader != NEW || world.log(NEW) == world.log(NodeId(2)));
        load(&mut world, 1_000, 60, leader);
        world.heal();
        world.assert_converged();
        let expected = list(&mut world, leader);
        assert_eq!(list(&mut world, NEW), expected, "seed {seed}");
        assert!(expected.len() >= 115, "seed {seed}: {}", expected.len());
    }
}

#[test]
fn who_was_away_for_less_than_the_log_is_kept_needs_no_snapshot() {
    for (away, expected) in [(20, 0), (200, 1)] {
        let mut world = started(keep(64), 3, 31);
        load(&mut world, 0, 50, NodeId(1));
        world.crash(NodeId(3));
        load(&mut world, 100, away, NodeId(1));
        world.start(NodeId(3));
        load(&mut world, 1_000, 20, NodeId(1));
        world.heal();
        world.assert_converged();
        assert_eq!(snapshots(&world, NodeId(3)), expected, "away for {away}");
    }
}
