//! The mode in the small deterministic world of [`crate::core::testing`].

mod acknowledgement;
mod bugs;
mod failing_over;
mod joining;
mod reading;
mod streaming;

use crate::core::config::{Ack, Detection, Failover, Fencing, Fsync, Reads, Stream, Visibility};
use crate::core::testing::World;
use crate::core::{Answer, Config, Datum, NodeId, Op, Refusal, Role, Scalar, Trace};

fn config() -> Config {
    Config::default()
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

#[test]
fn replicas_converge_after_every_torment() {
    let (mut discarded, mut snapshots) = (0, 0);
    for seed in 0..200 {
        let ack = [Ack::Async, Ack::SemiSync(1), Ack::Sync][(seed % 3) as usize];
        let fsync =
            [Fsync::Always, Fsync::Always, Fsync::Interval, Fsync::Never][(seed % 4) as usize];
        let fencing = [Fencing::None, Fencing::Epoch][(seed % 2) as usize];
        let failover_requires_majority = seed % 5 == 0;
        let log_keep = 16 + seed % 3 * 500;
        let config = Config {
            ack,
            failover_requires_majority,
            fencing,
            fsync,
            log_keep,
            ..config()
        };
        let mut world = World::new(config, 5, seed);
        world.torment(150);
        world.heal();
        world.assert_converged();
        world.assert_log_matching();
        discarded += world.count(|trace| matches!(trace, Trace::Discarded { .. }));
        snapshots += world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
    }
    assert!(
        discarded > 100 && snapshots > 100,
        "{discarded} {snapshots}: too calm"
    );
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let plain = Config {
        log_keep: 16,
        ..config()
    };
    let rich = Config {
        ack: Ack::SemiSync(1),
        semi_sync_timeout_ms: Some(50),
        visibility: Visibility::BeforeAck,
        stream: Stream::Statement,
        detection: Detection::Monitor,
        gateways: 1,
        partial: [(2, "k1".to_owned())].into(),
        ..plain.clone()
    };
    let script = |seed: u64| {
        let config = if seed.is_multiple_of(2) {
            &plain
        } else {
            &rich
        };
        let mut world = World::new(config.clone(), 5, seed);
        world.script = Some(Vec::new());
        world.torment(100);
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

#[test]
fn writes_reach_every_replica() {
    let mut world = started(config(), 3, 7);
    let written = world.ask(NodeId(1), write(1));
    assert_eq!(
        world.reply(written),
        None,
        "acknowledged before it was durable"
    );
    world.run_ms(50);
    let reply = world.reply(written).unwrap();
    assert_eq!(
        (reply.result.clone(), reply.role, reply.epoch),
        (Ok(Answer::Done), Role::Leader, 1)
    );
    for node in [1, 2, 3].map(NodeId) {
        let local = world.ask_with(node, read(), true);
        assert_eq!(world.reply(local).unwrap().result, Ok(value(1)));
    }
    let elsewhere = world.ask(NodeId(2), read());
    assert_eq!(
        world.reply(elsewhere).unwrap().result,
        Err(Refusal::NotLeader {
            leader: Some(NodeId(1))
        })
    );
}

#[test]
fn any_replica_may_be_allowed_to_answer_reads() {
    let mut world = started(
        Config {
            reads: Reads::Any,
            ..config()
        },
        3,
        1,
    );
    world.ask(NodeId(1), write(4));
    world.run_ms(50);
    let reply = world.ask(NodeId(3), read());
    assert_eq!(world.reply(reply).unwrap().result, Ok(value(4)));
}

/// The reason why this mode is worth testing.
#[test]
fn a_cut_off_leader_acknowledges_and_later_discards() {
    let mut world = started(config(), 5, 3);
    world.isolate(&[NodeId(1)]);
    world.run_ms(4_000);
    let successor = world.leader().unwrap();
    assert_ne!(successor, NodeId(1));
    let (lost, kept) = (
        world.ask(NodeId(1), write(1)),
        world.ask(successor, write(2)),
    );
    world.run_ms(50);
    for id in [lost, kept] {
        assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
    }
    world.heal();
    world.assert_converged();
    let discarded: Vec<_> = world
        .traces
        .iter()
        .filter_map(|(node, trace)| match trace {
            Trace::Discarded { keep, entries } => Some((*node, keep.index, entries.clone())),
            _ => None,
        })
        .collect();
    let [(NodeId(1), 1, entries)] = &discarded[..] else {
        panic!("{discarded:?}")
    };
    assert_eq!(
        entries.iter().map(|(_, op)| op.clone()).collect::<Vec<_>>(),
        [Some(write(1))]
    );
    assert_eq!(world.status(NodeId(1)).discarded, 1);
    let id = world.ask(successor, read());
    assert_eq!(world.reply(id).unwrap().result, Ok(value(2)));
}

#[test]
fn fencing_silences_a_cut_off_leader() {
    let mut world = started(
        Config {
            fencing: Fencing::Epoch,
            ..config()
        },
        5,
        3,
    );
    world.isolate(&[NodeId(1)]);
    world.run_ms(4_000);
    for op in [write(1), read()] {
        let id = world.ask(NodeId(1), op);
        assert!(matches!(
            world.reply(id).unwrap().result,
            Err(Refusal::Unavailable(_))
        ));
    }
    world.heal();
    world.assert_converged();
    assert_eq!(
        world.count(|trace| matches!(trace, Trace::Discarded { .. })),
        0
    );
}

#[test]
fn a_failover_may_need_a_majority() {
    for (demanded, leaders) in [(true, 1), (false, 2)] {
        let failover_requires_majority = demanded;
        let mut world = started(
            Config {
                failover_requires_majority,
                ..config()
            },
            5,
            9,
        );
        world.isolate(&[NodeId(4), NodeId(5)]);
        world.run_ms(5_000);
        let count = world
            .nodes
            .iter()
            .filter(|node| world.status(**node).role == Role::Leader)
            .count();
        assert_eq!(count, leaders);
        world.heal();
        world.assert_converged();
    }
}

#[test]
fn nobody_takes_over_with_manual_failover() {
    let mut world = started(
        Config {
            failover: Failover::Manual,
            ..config()
        },
        3,
        5,
    );
    world.ask(NodeId(1), write(1));
    world.run_ms(50);
    world.crash(NodeId(1));
    world.run_ms(10_000);
    assert_eq!(world.leader(), None);
    world.heal();
    world.assert_converged();
    let id = world.ask(NodeId(1), read());
    assert_eq!(world.reply(id).unwrap().result, Ok(value(1)));
    assert_eq!(
        world.status(NodeId(1)).epoch,
        2,
        "a leadership is not used twice"
    );
}

#[test]
fn what_semi_sync_acknowledged_survives_the_leader() {
    for seed in 0..200 {
        let mut world = started(
            Config {
                ack: Ack::SemiSync(1),
                ..config()
            },
            5,
            seed,
        );
        let mut acknowledged = Vec::new();
        for round in 0..5 {
            world.loss = 50;
            world.delay_max = 20_000_000;
            let leader = world.leader().unwrap();
            let ids: Vec<_> = (0..20)
                .map(|n| {
                    world.run_ms(5);
                    let op = Op::Add("s".into(), Scalar::Int(round * 100 + n));
                    (round * 100 + n, world.ask(leader, op))
                })
                .collect();
            world.crash(leader);
            let done = |id| world.reply(id).is_some_and(|reply| reply.result.is_ok());
            acknowledged.extend(ids.into_iter().filter(|(_, id)| done(*id)).map(|(n, _)| n));
            // The others meet before the old leader is back.
            world.loss = 0;
            world.delay_max = 2_000_000;
            world.run_ms(5_000);
            world.heal();
            world.assert_converged();
        }
        assert!(
            acknowledged.len() > 20,
            "seed {seed}: {}",
            acknowledged.len()
        );
        let leader = world.leader().unwrap();
        let id = world.ask(leader, Op::Read("s".into()));
        let Ok(Answer::Value(Some(Datum::Set(set)))) = &world.reply(id).unwrap().result else {
            panic!("seed {seed}: nothing to read");
        };
        for n in acknowledged {
            assert!(set.contains(&Scalar::Int(n)), "seed {seed}: {n} was lost");
        }
    }
}

#[test]
fn semi_sync_waits_for_followers_and_sync_for_all() {
    for (ack, away, done) in [
        (Ack::SemiSync(2), vec![4, 5], true),
        (Ack::SemiSync(2), vec![3, 4, 5], false),
        (Ack::Sync, vec![5], false),
        (Ack::Sync, vec![], true),
    ] {
        let mut world = started(Config { ack, ..config() }, 5, 2);
        let away: Vec<NodeId> = away.into_iter().map(NodeId).collect();
        world.isolate(&away);
        let id = world.ask(NodeId(1), write(1));
        world.run_ms(500);
        assert_eq!(world.reply(id).is_some(), done, "{ack} without {away:?}");
        world.heal();
        world.assert_converged();
        let reply = &world.reply(id).unwrap().result;
        assert!(
            matches!(reply, Ok(Answer::Done) | Err(Refusal::Indeterminate(_))),
            "{reply:?}"
        );
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
            world.run_ms(2);
        }
        world.heal();
        world.assert_converged();
        let count = world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
        assert_eq!(count, snapshots);
        // What was installed survives a crash.
        world.crash(NodeId(3));
        world.heal();
        world.assert_converged();
        let count = world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
        assert_eq!(count, snapshots);
        assert_eq!(world.log(NodeId(3)), world.log(NodeId(1)));
    }
}

#[test]
fn a_divergence_behind_the_truncated_log_is_undone_by_a_snapshot() {
    let mut world = started(
        Config {
            log_keep: 16,
            ..config()
        },
        5,
        4,
    );
    world.isolate(&[NodeId(1)]);
    world.run_ms(4_000);
    for n in 0..100 {
        world.ask(NodeId(1), write(n));
        world.run_ms(2);
    }
    world.heal();
    world.assert_converged();
    assert_eq!(
        world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_))),
        1
    );
    assert!(world.status(NodeId(1)).discarded >= 16);
}
