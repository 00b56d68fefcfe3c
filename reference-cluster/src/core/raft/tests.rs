//! The mode in the small deterministic world of [`crate::core::testing`].

mod members;
mod mistakes;
mod reads;

use std::collections::BTreeSet;

use crate::core::config::{Fsync, Mode, Reads};
use crate::core::testing::World;
use crate::core::{Answer, Config, Datum, NodeId, Op, Refusal, Role, Scalar, Trace};

fn config() -> Config {
    Config {
        mode: Mode::Raft,
        ..Config::default()
    }
}

fn write(n: i64) -> Op {
    Op::Write("k".into(), Scalar::Int(n))
}

fn read() -> Op {
    Op::Read("k".into())
}

fn value(n: i64) -> Answer {
    Answer::Value(Some(Datum::Register(Scalar::Int(n))))
}

fn started(config: Config, nodes: u16, seed: u64) -> World {
    let mut world = World::new(config, nodes, seed);
    world.run_ms(500);
    assert_eq!(world.leader(), Some(NodeId(1)));
    world
}

/// Everything in the three lists that [`World::torment`] appends to.
fn appended(world: &mut World) -> Vec<Scalar> {
    let leader = world.leader().unwrap();
    let id = world.ask(leader, Op::ReadAll);
    world.run_ms(500);
    let Ok(Answer::All(all)) = &world.reply(id).unwrap().result else {
        panic!("no answer")
    };
    let lists = all.iter().map(|(_, datum)| match datum {
        Datum::List(list) => list.clone(),
        other => panic!("a {}", other.kind()),
    });
    lists.flatten().collect()
}

#[test]
fn no_acknowledged_write_is_lost_in_any_torment() {
    let (mut done, mut snapshots, mut discarded) = (0, 0, 0);
    for seed in 0..200 {
        let mut world = World::new(
            Config {
                log_keep: 16 + seed % 3 * 500,
                ..config()
            },
            5,
            seed,
        );
        world.torment(150);
        world.heal();
        world.assert_converged();
        let logs: BTreeSet<_> = world.nodes.iter().map(|node| world.log(*node)).collect();
        assert_eq!(logs.len(), 1, "seed {seed}: logs differ");
        world.assert_log_matching();

        let held = appended(&mut world);
        let distinct: BTreeSet<_> = held.iter().cloned().collect();
        assert_eq!(
            held.len(),
            distinct.len(),
            "seed {seed}: a write was applied twice"
        );
        for (id, (_, reply)) in &world.replies {
            let (result, op) = (&reply.result, &world.asked[id]);
            let Op::Append(_, scalar) = op else { continue };
            let there = distinct.contains(scalar);
            match result {
                Ok(_) => {
                    done += 1;
                    assert!(there, "seed {seed}: {op:?} was acknowledged and lost");
                }
                Err(Refusal::Indeterminate(_)) => {}
                Err(refusal) => assert!(!there, "seed {seed}: {op:?} was done despite {refusal}"),
            }
        }
        snapshots += world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
        discarded += world.count(|trace| matches!(trace, Trace::Discarded { .. }));
    }
    assert!(
        done > 5_000 && snapshots > 50 && discarded > 50,
        "{done} {snapshots} {discarded}"
    );
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let script = |seed| {
        let mut world = World::new(
            Config {
                log_keep: 16,
                ..config()
            },
            5,
            seed,
        );
        world.script = Some(Vec::new());
        world.torment(100);
        world.heal();
        world.script.unwrap()
    };
    for seed in 0..20 {
        let (first, second) = (script(seed), script(seed));
        assert!(first.len() > 1_000);
        for (a, b) in first.iter().zip(&second) {
            assert_eq!(a, b, "seed {seed} is not deterministic");
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn operations_at_the_leader_see_each_other() {
    let mut world = started(config(), 3, 7);
    for n in 0..20 {
        let written = world.ask(NodeId(1), write(n));
        assert_eq!(world.reply(written), None);
        world.run_ms(30);
        assert_eq!(world.reply(written).unwrap().result, Ok(Answer::Done));
        let reads: Vec<_> = (0..5).map(|_| world.ask(NodeId(1), read())).collect();
        assert_eq!(
            world.reply(reads[0]),
            None,
            "answered without a confirmation"
        );
        world.run_ms(30);
        for id in reads {
            assert_eq!(world.reply(id).unwrap().result, Ok(value(n)));
        }
    }
    let cas = world.ask(
        NodeId(1),
        Op::Cas("k".into(), Scalar::Int(5), Scalar::Int(6)),
    );
    let elsewhere = world.ask(NodeId(2), write(0));
    world.run_ms(30);
    let actual = Scalar::Int(19);
    assert_eq!(
        world.reply(cas).unwrap().result,
        Err(Refusal::CasMismatch { actual })
    );
    let leader = Some(NodeId(1));
    assert_eq!(
        world.reply(elsewhere).unwrap().result,
        Err(Refusal::NotLeader { leader })
    );
}

#[test]
fn a_cut_off_leader_answers_nothing_and_steps_down() {
    let mut world = started(config(), 5, 3);
    let stale = world.ask(NodeId(1), write(1));
    world.run_ms(100);
    assert_eq!(world.reply(stale).unwrap().result, Ok(Answer::Done));
    world.isolate(&[NodeId(1), NodeId(2)]);
    let (lost, seen) = (world.ask(NodeId(1), write(2)), world.ask(NodeId(1), read()));
    world.run_ms(5_000);
    assert!(matches!(
        world.reply(lost).unwrap().result,
        Err(Refusal::Indeterminate(_))
    ));
    assert!(matches!(
        world.reply(seen).unwrap().result,
        Err(Refusal::Unavailable(_))
    ));
    let successor = world.leader().unwrap();
    assert!(successor > NodeId(2));
    assert_ne!(world.status(NodeId(1)).role, Role::Leader);
    world.heal();
    world.assert_converged();
    let id = world.ask(world.leader().unwrap(), read());
    world.run_ms(100);
    assert_eq!(world.reply(id).unwrap().result, Ok(value(1)));
    assert!(world.count(|trace| matches!(trace, Trace::Discarded { .. })) > 0);
}

#[test]
fn local_reads_are_answered_at_once_and_may_be_stale() {
    let mut world = started(
        Config {
            reads: Reads::Local,
            ..config()
        },
        3,
        1,
    );
    world.ask(NodeId(1), write(1));
    world.run_ms(300);
    world.isolate(&[NodeId(3)]);
    world.ask(NodeId(1), write(2));
    world.run_ms(300);
    for (node, expected) in [(1, 2), (3, 1)] {
        let id = world.ask(NodeId(node), read());
        assert_eq!(world.reply(id).unwrap().result, Ok(value(expected)));
    }
}

#[test]
fn those_left_behind_catch_up_from_the_log_or_from_a_snapshot() {
    for (log_keep, snapshots) in [(1_000, 0), (16, 1)] {
        let mut world = started(
            Config {
                log_keep,
                ..config()
            },
            3,
            8,
        );
        world.crash(NodeId(3));
        for n in 0..200 {
            world.ask(NodeId(1), write(n));
            world.run_ms(4);
        }
        world.heal();
        world.assert_converged();
        let count = world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
        assert_eq!(count, snapshots);
        world.crash(NodeId(3));
        world.heal();
        world.assert_converged();
        assert_eq!(world.log(NodeId(3)), world.log(NodeId(1)));
    }
}

#[test]
fn a_single_node_serves_alone() {
    let mut world = started(config(), 1, 1);
    let written = world.ask(NodeId(1), write(1));
    world.run_ms(20);
    assert_eq!(world.reply(written).unwrap().result, Ok(Answer::Done));
    let id = world.ask(NodeId(1), read());
    world.run_ms(20);
    assert_eq!(world.reply(id).unwrap().result, Ok(value(1)));
}

/// Raft stands on disks that keep what they acknowledged. Where they do not, replicas may halt or
/// lose writes, but nothing panics.
#[test]
fn disks_that_forget_cost_writes_but_not_the_process() {
    for seed in 0..200 {
        let fsync = [Fsync::Never, Fsync::Interval][(seed % 2) as usize];
        let mut world = World::new(
            Config {
                fsync,
                log_keep: 16,
                ..config()
            },
            5,
            seed,
        );
        world.torment(150);
        world.heal();
    }
}
