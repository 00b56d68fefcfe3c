//! Planted mistakes show, and without them the same runs are clean.

use std::collections::BTreeMap;

use super::{config, read, started, value, write};
use crate::core::config::Bug;
use crate::core::testing::World;
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Config, NodeId, Op, Role, Scalar, Trace};

fn planted(bug: Option<Bug>) -> Config {
    Config {
        bugs: bug.into_iter().collect(),
        ..config()
    }
}

/// What a read at the leader shows.
fn shown(world: &mut World) -> Answer {
    let leader = world.leader().unwrap();
    let id = world.ask(leader, read());
    world.run_ms(300);
    world.reply(id).unwrap().result.clone().unwrap()
}

#[test]
fn acknowledged_before_fsync_is_lost_with_the_power() {
    let lost = |bug| {
        let lost = (0..100).filter(|seed| {
            let mut world = started(planted(bug), 3, *seed);
            world.delay_max = 100_000; // Faster than a sync.
            world.run_ms(seed % 50);
            let id = world.ask(NodeId(1), write(7));
            while world.reply(id).is_none() {
                world.run(50_000);
            }
            for node in world.nodes.clone() {
                world.crash(node);
            }
            world.heal();
            shown(&mut world) != value(7)
        });
        lost.count()
    };
    let planted = lost(Some(Bug::AcknowledgeBeforeFsync));
    assert!(planted > 10, "{planted}");
    assert_eq!(lost(None), 0);
}

#[test]
fn who_forgets_its_vote_elects_two_leaders_of_one_term() {
    let double = |bug| {
        let double = (0..100).filter(|seed| {
            let config = Config {
                pre_vote: false,
                ..planted(bug)
            };
            let mut world = World::new(config, 5, *seed);
            world.delay_max = 200 * MILLISECOND;
            for step in 0..300 {
                // Nobody hears from a leader for long, and voters come and go.
                match step % 20 {
                    0 => {
                        let leader = world.leader().unwrap_or(NodeId(1));
                        world.isolate(&[leader]);
                    }
                    15 => world.cut.clear(),
                    _ => {}
                }
                let node = NodeId(world.draw(5) as u16 + 1);
                world.crash(node);
                world.start(node);
                world.run_ms(100);
            }
            let mut leaders = BTreeMap::new();
            world.traces.iter().any(|(node, trace)| match trace {
                Trace::Role {
                    role: Role::Leader,
                    epoch,
                } => *leaders.entry(*epoch).or_insert(*node) != *node,
                _ => false,
            })
        });
        double.count()
    };
    let planted = double(Some(Bug::VoteForgotten));
    assert!(planted > 3, "{planted}");
    assert_eq!(double(None), 0);
}

#[test]
fn a_log_cut_at_the_restart_lacks_what_was_committed() {
    for (bug, keeps) in [(None, true), (Some(Bug::LogTruncatedBelowCommit), false)] {
        let mut world = started(planted(bug), 3, 5);
        world.isolate(&[NodeId(3)]);
        let id = world.ask(NodeId(1), write(7));
        world.run_ms(100);
        assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
        world.crash(NodeId(2));
        world.start(NodeId(2));
        world.cut.clear();
        world.isolate(&[NodeId(1)]);
        world.run_ms(5_000);
        assert!(world.leader().is_some_and(|leader| leader > NodeId(1)));
        assert_eq!(shown(&mut world) == value(7), keeps, "{bug:?}");
        // It does not hide behind a node that halts.
        world.heal();
        assert_eq!(shown(&mut world) == value(7), keeps, "{bug:?}");
        world.assert_converged();
    }
}

#[test]
fn a_snapshot_with_a_hole_makes_replicas_differ() {
    for (bug, same) in [(None, true), (Some(Bug::SnapshotWithHole), false)] {
        let config = Config {
            log_keep: 16,
            ..planted(bug)
        };
        let mut world = started(config, 3, 5);
        world.crash(NodeId(3));
        for n in 0..100 {
            world.ask(NodeId(1), Op::Write(format!("k{n}").into(), Scalar::Int(n)));
            world.run_ms(4);
        }
        world.heal();
        let installed = world.count(|trace| matches!(trace, Trace::SnapshotInstalled(_)));
        assert!(installed > 0);
        let digests = (world.digest(NodeId(1)), world.digest(NodeId(3)));
        assert_eq!(digests.0 == digests.1, same, "{bug:?}");
    }
}

/// Whatever is planted, however hard it gets: nothing panics.
#[test]
fn mistakes_cost_data_but_not_the_process() {
    for (seed, bug) in (0..100).zip(Bug::ALL.into_iter().cycle()) {
        let config = Config {
            log_keep: 16,
            pre_vote: seed % 3 > 0,
            ..planted(Some(bug))
        };
        let mut world = World::new(config, 5, seed);
        world.torment(150);
        world.heal();
    }
}
