//! Who takes part, and who leads.

use std::collections::BTreeSet;

use super::{appended, config, read, started, value, write};
use crate::core::testing::World;
use crate::core::{Admin, Answer, Config, NodeId, Op, Refusal, Role, Scalar, Trace};

/// Has the leader do it, whoever it is and however often it must be asked.
fn command(world: &mut World, admin: &Admin) {
    for _ in 0..100 {
        if let Some(leader) = world.leader() {
            let id = world.ask(leader, Op::Admin(admin.clone()));
            world.run_ms(300);
            match world.reply(id).map(|reply| &reply.result) {
                Some(Ok(answer)) => return assert_eq!(*answer, Answer::Done),
                Some(Err(Refusal::Unsupported(why))) => panic!("{why}"),
                _ => {}
            }
        }
        world.run_ms(300);
    }
    panic!("seed {}: {admin:?} was never done", world.seed);
}

fn absent(world: &World) -> Vec<u16> {
    let absent = world
        .nodes
        .iter()
        .filter(|node| world.status(**node).stopped.is_some());
    absent.map(|node| node.0).collect()
}

fn three_of_five(log_keep: u64) -> Config {
    Config {
        initial_members: Some(3),
        log_keep,
        ..config()
    }
}

#[test]
fn spares_wait_until_they_are_let_in() {
    for log_keep in [16, 1_000] {
        let mut world = started(three_of_five(log_keep), 5, 4);
        for n in 0..100 {
            world.ask(NodeId(1), write(n));
            world.run_ms(100);
        }
        assert_eq!(absent(&world), [4, 5]);
        assert_eq!(world.status(NodeId(5)).epoch, 0);
        let id = world.ask_with(NodeId(4), read(), true);
        assert!(matches!(
            world.reply(id).unwrap().result,
            Err(Refusal::Unavailable(_))
        ));
        for node in [4, 5] {
            command(&mut world, &Admin::AddMember(NodeId(node)));
        }
        world.run_ms(2_000);
        assert_eq!(absent(&world), [0_u16; 0]);
        world.assert_converged();
        // They count: without the first two there is still a majority.
        world.isolate(&[NodeId(1), NodeId(2)]);
        world.run_ms(5_000);
        let leader = world.leader().unwrap();
        assert!(leader > NodeId(2));
        let id = world.ask(leader, read());
        world.run_ms(100);
        assert_eq!(world.reply(id).unwrap().result, Ok(value(99)));
    }
}

#[test]
fn who_has_left_stands_for_no_election_even_if_it_missed_it() {
    for (pre_vote, missed) in [(true, false), (true, true), (false, false), (false, true)] {
        let config = Config {
            pre_vote,
            ..config()
        };
        let mut world = started(config, 4, 9);
        if missed {
            world.isolate(&[NodeId(3)]);
            world.run_ms(3_000);
        }
        command(&mut world, &Admin::RemoveMember(NodeId(3)));
        // Again: it is so already.
        command(&mut world, &Admin::RemoveMember(NodeId(3)));
        world.cut.clear();
        world.run_ms(5_000);
        assert_eq!(absent(&world), [3], "pre-vote {pre_vote}, missed {missed}");
        let epoch = world.status(world.leader().unwrap()).epoch;
        let stood = world.count(|trace| {
            matches!(
                trace,
                Trace::Role {
                    role: Role::Candidate,
                    ..
                }
            )
        });
        world.run_ms(10_000);
        assert_eq!(world.status(world.leader().unwrap()).epoch, epoch);
        let then = world.count(|trace| {
            matches!(
                trace,
                Trace::Role {
                    role: Role::Candidate,
                    ..
                }
            )
        });
        assert_eq!(stood, then);
        // Two of the three that are left are a majority.
        world.isolate(&[NodeId(4)]);
        let leader = world.leader().unwrap();
        let id = world.ask(leader, write(7));
        world.run_ms(100);
        assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
        // It may come back.
        world.cut.clear();
        command(&mut world, &Admin::AddMember(NodeId(3)));
        world.run_ms(3_000);
        world.assert_converged();
        assert_eq!(absent(&world), [0_u16; 0]);
    }
}

#[test]
fn a_leader_may_leave_and_may_hand_over() {
    let mut world = started(config(), 3, 2);
    let id = world.ask(NodeId(1), Op::Admin(Admin::TransferLeadership(NodeId(3))));
    assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
    world.run_ms(50);
    assert_eq!(world.leader(), Some(NodeId(3)));
    let id = world.ask(NodeId(3), Op::Admin(Admin::RemoveMember(NodeId(3))));
    world.run_ms(100);
    assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
    assert_ne!(world.status(NodeId(3)).role, Role::Leader);
    world.run_ms(5_000);
    assert_eq!(absent(&world), [3]);
    let leader = world.leader().unwrap();
    assert!(leader < NodeId(3));
    let id = world.ask(leader, write(1));
    world.run_ms(100);
    assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = started(config(), 3, 2);
    let mut ask = |node, admin| {
        let id = world.ask(NodeId(node), Op::Admin(admin));
        world.reply(id).unwrap().result.clone().unwrap_err()
    };
    assert!(matches!(
        ask(2, Admin::AddMember(NodeId(1))),
        Refusal::NotLeader { .. }
    ));
    assert!(matches!(
        ask(1, Admin::AddMember(NodeId(9))),
        Refusal::Unsupported(_)
    ));
    assert!(matches!(
        ask(2, Admin::TakeHome(NodeId(1))),
        Refusal::Unsupported(_)
    ));
    for node in [2, 3] {
        command(&mut world, &Admin::RemoveMember(NodeId(node)));
    }
    for admin in [
        Admin::RemoveMember(NodeId(1)),
        Admin::TransferLeadership(NodeId(2)),
    ] {
        let id = world.ask(NodeId(1), Op::Admin(admin));
        let result = &world.reply(id).unwrap().result;
        assert!(matches!(result, Err(Refusal::Unavailable(_))), "{result:?}");
    }
}

#[test]
fn who_is_a_member_survives_restarts() {
    for log_keep in [16, 1_000] {
        let mut world = started(three_of_five(log_keep), 5, 4);
        command(&mut world, &Admin::AddMember(NodeId(5)));
        let leader = world.leader().unwrap();
        command(&mut world, &Admin::RemoveMember(NodeId(leader.0 % 3 + 1)));
        for n in 0..100 {
            let leader = world.leader().unwrap();
            world.ask(leader, write(n));
            world.run_ms(20);
        }
        let before = absent(&world);
        assert_eq!(before.len(), 2);
        for node in world.nodes.clone() {
            world.crash(node);
        }
        world.heal();
        assert_eq!(absent(&world), before);
        let leader = world.leader().unwrap();
        let id = world.ask(leader, read());
        world.run_ms(100);
        assert_eq!(world.reply(id).unwrap().result, Ok(value(99)));
    }
}

#[test]
fn a_member_with_a_new_disk_is_brought_up_to_date() {
    for log_keep in [16, 1_000] {
        let config = Config {
            log_keep,
            ..config()
        };
        let mut world = started(config, 3, 6);
        for n in 0..100 {
            world.ask(NodeId(1), write(n));
            world.run_ms(4);
        }
        world.run_ms(500);
        let epoch = world.status(NodeId(1)).epoch;
        world.wipe(NodeId(3));
        world.heal();
        world.assert_converged();
        assert_eq!(world.status(NodeId(1)).epoch, epoch);
    }
}

#[test]
fn members_come_and_go_in_any_torment_and_no_acknowledged_write_is_lost() {
    let (mut done, mut changes) = (0, 0);
    for seed in 0..100 {
        let mut world = World::new(
            Config {
                pre_vote: seed % 2 == 0,
                ..three_of_five(16 + seed % 3 * 500)
            },
            5,
            seed,
        );
        for _ in 0..25 {
            world.torment(6);
            let node = NodeId(world.draw(5) as u16 + 1);
            let admin = match world.draw(5) {
                0 | 1 => Admin::RemoveMember(node),
                2 => Admin::TransferLeadership(node),
                _ => Admin::AddMember(node),
            };
            if let Some(leader) = world.leader() {
                let id = world.ask(leader, Op::Admin(admin));
                world.run_ms(100);
                changes += usize::from(world.reply(id).is_some_and(|r| r.result.is_ok()));
            }
        }
        world.heal();
        for node in world.nodes.clone() {
            command(&mut world, &Admin::AddMember(node));
        }
        world.run_ms(3_000);
        world.assert_converged();
        world.assert_log_matching();
        let held: BTreeSet<Scalar> = appended(&mut world).into_iter().collect();
        for (id, (_, reply)) in &world.replies {
            if let (Ok(_), Op::Append(_, scalar)) = (&reply.result, &world.asked[id]) {
                done += 1;
                assert!(held.contains(scalar), "seed {seed}: {scalar:?} was lost");
            }
        }
    }
    assert!(done > 3_000 && changes > 500, "{done} {changes}");
}
