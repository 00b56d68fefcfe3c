//! Planted mistakes: each schedule shows its mistake, and is clean without it.

use std::sync::Arc;

use super::{config, read, started, value, write};
use crate::core::config::{Ack, Bug, Fencing, Reads};
use crate::core::single_leader::{Entry, Leadership, Message};
use crate::core::testing::World;
use crate::core::{
    Answer, Config, Datum, Message as AnyMessage, NodeId, Op, Position, Request, Role, Scalar,
    VersionVector,
};

/// Whether the schedule shows something wrong, with and without the mistake.
fn shows(bug: Bug, config: &Config, schedule: impl Fn(Config) -> bool) {
    assert!(!schedule(config.clone()), "wrong without {bug:?}");
    let config = Config {
        bugs: [bug].into(),
        ..config.clone()
    };
    assert!(schedule(config), "{bug:?} does not show");
}

fn cas(old: Scalar, new: i64) -> Op {
    Op::Cas("k".into(), old, Scalar::Int(new))
}

#[test]
fn acknowledged_before_fsync_is_lost_with_the_power() {
    shows(Bug::AcknowledgeBeforeFsync, &config(), |config| {
        let mut world = started(config, 3, 41);
        world.isolate(&[NodeId(1)]);
        let id = world.ask(NodeId(1), write(1));
        world.run_ms(0);
        let acknowledged = world.reply(id).is_some();
        world.lose_power(NodeId(1));
        world.start(NodeId(1));
        let kept = world.ask_with(NodeId(1), read(), true);
        acknowledged && world.result(kept) != &Ok(value(1))
    });
}

#[test]
fn a_follower_that_matches_before_fsync_breaks_semi_sync() {
    let semi_sync = Config {
        ack: Ack::SemiSync(1),
        ..config()
    };
    shows(Bug::AcknowledgeBeforeFsync, &semi_sync, |config| {
        let mut world = started(config, 3, 42);
        world.delay_max = 100_000;
        world.cut.insert((NodeId(1), NodeId(3)));
        let id = world.ask(NodeId(1), write(1));
        // A sync takes longer than a message there and back.
        world.run(600_000);
        let acknowledged = world.reply(id).is_some();
        world.lose_power(NodeId(1));
        world.lose_power(NodeId(2));
        world.start(NodeId(2));
        world.cut.clear();
        world.run_ms(4_000);
        let leader = world.leader().unwrap();
        acknowledged && world.done(leader, read()) != Ok(value(1))
    });
}

#[test]
fn a_snapshot_with_a_hole_makes_replicas_differ() {
    let short = Config {
        log_keep: 16,
        ..config()
    };
    shows(Bug::SnapshotWithHole, &short, |config| {
        let mut world = started(config, 3, 43);
        world.crash(NodeId(3));
        for n in 0..100 {
            let key = format!("k{}", n % 7);
            world
                .done(NodeId(1), Op::Write(key.into(), Scalar::Int(n)))
                .unwrap();
        }
        // The last key does not change any more: the log does not mend the hole.
        for n in 0..40 {
            world
                .done(NodeId(1), Op::Write("a".into(), Scalar::Int(n)))
                .unwrap();
        }
        world.heal();
        world.digest(NodeId(3)) != world.digest(NodeId(1))
    });
}

#[test]
fn a_duplicate_applied_twice_makes_replicas_differ() {
    shows(Bug::DuplicateAppliedTwice, &config(), |config| {
        let mut world = started(config, 3, 44);
        let append = Op::Append("l".into(), Scalar::Int(1));
        world.done(NodeId(1), append.clone()).unwrap();
        let (leadership, prev) = leadership(&world, NodeId(1));
        let position = Position {
            index: prev.index + 1,
            ..prev
        };
        let op = Some(append);
        let message = Message::Append {
            leadership,
            seq: 1,
            prev,
            entries: Arc::new([Arc::new(Entry { position, op })]),
            version: 1,
        };
        world.forge(NodeId(2), NodeId(1), AnyMessage::SingleLeader(message));
        world.run_ms(50);
        world.digest(NodeId(2)) != world.digest(NodeId(1))
    });
}

/// The leadership of a leader, and the entry that began it.
fn leadership(world: &World, leader: NodeId) -> (Leadership, Position) {
    let prev = world.log(leader)[0];
    let leadership = Leadership {
        epoch: prev.epoch,
        leader: prev.leader,
    };
    (leadership, prev)
}

#[test]
fn an_epoch_that_is_not_compared_lets_two_lead() {
    let fenced = Config {
        failover_requires_majority: true,
        fencing: Fencing::Epoch,
        ..config()
    };
    shows(Bug::EpochNotCompared, &fenced, |config| {
        let mut world = started(config, 5, 45);
        // n2 and n3 cannot reach each other and are promoted at the same time, by others who
        // could each reach a majority.
        world.crash(NodeId(1));
        world
            .cut
            .extend([(NodeId(2), NodeId(3)), (NodeId(3), NodeId(2))]);
        world.run_ms(900);
        for node in [NodeId(2), NodeId(3)] {
            let promote = AnyMessage::SingleLeader(Message::Promote { epoch: 1 });
            world.forge(node, NodeId(5), promote);
        }
        world.run_ms(5_000);
        let acknowledge = |world: &mut World, node| {
            let led = world.status(node).role == Role::Leader;
            led && world.done(node, write(i64::from(node.0))).is_ok()
        };
        acknowledge(&mut world, NodeId(2)) && acknowledge(&mut world, NodeId(3))
    });
}

#[test]
fn half_is_no_majority() {
    let fenced = Config {
        failover_requires_majority: true,
        fencing: Fencing::Epoch,
        ..config()
    };
    shows(Bug::MajorityOffByOne, &fenced, |config| {
        let mut world = started(config, 4, 46);
        world.isolate(&[NodeId(1), NodeId(2)]);
        world.run_ms(5_000);
        let acknowledge = |world: &mut World, node| {
            let led = world.status(node).role == Role::Leader;
            led && world.done(node, write(i64::from(node.0))).is_ok()
        };
        let sides = world.nodes.clone().into_iter();
        sides.filter(|node| acknowledge(&mut world, *node)).count() > 1
    });
}

#[test]
fn an_ignored_session_goes_back_in_time() {
    let any = Config {
        reads: Reads::Any,
        ..config()
    };
    shows(Bug::SessionIgnored, &any, |config| {
        let mut world = started(config, 3, 47);
        world.cut.insert((NodeId(1), NodeId(3)));
        world.done(NodeId(1), write(1)).unwrap();
        let request = Request {
            session: Some(VersionVector::of_log(2)),
            ..Request::new(read())
        };
        let id = world.request(NodeId(3), request);
        world.cut.clear();
        world.run_ms(500);
        world.result(id) == &Ok(Answer::Value(None))
    });
}

#[test]
fn a_compare_and_set_that_is_decided_early_lets_two_win() {
    shows(Bug::CasDecidedEarly, &config(), |config| {
        let mut world = started(config, 3, 48);
        let ids = [1, 2].map(|n| world.ask(NodeId(1), cas(Scalar::Nil, n)));
        world.run_ms(50);
        let winners = ids.iter().filter(|id| world.result(**id).is_ok()).count();
        winners > 1
    });
}

#[test]
fn mistakes_do_not_make_a_replica_panic() {
    for bug in Bug::ALL {
        for seed in 0..20 {
            let config = Config {
                bugs: [bug].into(),
                failover_requires_majority: seed % 2 == 0,
                log_keep: 16,
                ..config()
            };
            let mut world = World::new(config, 5, seed);
            world.torment(80);
            world.heal();
            assert!(world.handled < 1_000_000, "{bug:?}: a storm of messages");
        }
    }
}

#[test]
fn lists_of_a_hole_are_noticed_by_value() {
    // What the convergence checker sees of a hole: the key is not there at all.
    let config = Config {
        log_keep: 16,
        bugs: [Bug::SnapshotWithHole].into(),
        ..config()
    };
    let mut world = started(config, 3, 49);
    world.crash(NodeId(3));
    for n in 0..100 {
        world
            .done(NodeId(1), Op::Append("l".into(), Scalar::Int(n)))
            .unwrap();
    }
    world.heal();
    let id = world.ask_with(NodeId(3), Op::Read("l".into()), true);
    let Ok(Answer::Value(Some(Datum::List(list)))) = world.result(id) else {
        panic!("{:?}", world.result(id));
    };
    assert!(list.len() < 100);
}
