//! Gateways in the small deterministic world of [`crate::core::testing`].

use super::{Message, client_id};
use crate::core::config::{Detection, Fencing, GatewayReads, Mode, Reads};
use crate::core::testing::World;
use crate::core::{
    Answer, Config, Datum, Message as AnyMessage, NodeId, Op, Refusal, Request, RequestId, Role,
    Scalar, Trace, VersionVector,
};

const GATEWAY: NodeId = NodeId(4);

fn config() -> Config {
    Config {
        gateways: 1,
        gateway_reads: GatewayReads::Leader,
        ..Config::default()
    }
}

fn started(config: Config) -> World {
    let mut world = World::new(config, 3, 3);
    world.run_ms(1_500);
    assert!(world.leader().is_some());
    world
}

fn append(n: i64) -> Op {
    Op::Append("l".into(), Scalar::Int(n))
}

fn read() -> Op {
    Op::Read("l".into())
}

fn list(result: &Result<Answer, Refusal>) -> Vec<Scalar> {
    match result {
        Ok(Answer::Value(Some(Datum::List(list)))) => list.clone(),
        other => panic!("{other:?}"),
    }
}

/// Who answered the last of these reads.
fn readers(world: &mut World, count: usize) -> Vec<u16> {
    let ids: Vec<RequestId> = (0..count)
        .map(|_| {
            world.run_ms(20);
            world.ask(GATEWAY, read())
        })
        .collect();
    world.run_ms(50);
    let node = |id: &RequestId| world.reply(*id).map_or(0, |reply| reply.node.0);
    ids.iter().map(node).collect()
}

#[test]
fn a_gateway_passes_on_to_the_leader_in_both_modes_with_one() {
    for mode in [Mode::SingleLeader, Mode::Raft] {
        let mut world = started(Config { mode, ..config() });
        let leader = world.leader().unwrap();
        let id = world.ask(GATEWAY, append(1));
        world.run_ms(50);
        let reply = world.reply(id).unwrap();
        assert_eq!(reply.result, Ok(Answer::Done));
        assert_eq!((reply.node, reply.role), (leader, Role::Leader));
        assert_eq!(list(&world.done(GATEWAY, read())), [Scalar::Int(1)]);
        // Observers find the client's request under its own number.
        let created = |(_, trace): &(NodeId, Trace)| match trace {
            Trace::Created { request, .. } => *request,
            _ => None,
        };
        let requests: Vec<RequestId> = world.traces.iter().filter_map(created).collect();
        assert_eq!(requests, [RequestId(4 << 48 | id.0)]);
        assert_eq!(client_id(requests[0]), id);
        assert_eq!(world.status(GATEWAY).role, Role::Gateway);
        assert_eq!(world.status(GATEWAY).leader, Some(leader));
    }
}

#[test]
fn a_gateway_follows_a_failover() {
    let mut world = started(config());
    world.done(GATEWAY, append(1)).unwrap();
    world.crash(NodeId(1));
    let lost = world.ask(GATEWAY, append(2));
    let read_lost = world.ask(GATEWAY, read());
    world.run_ms(1_100);
    assert!(matches!(world.result(lost), Err(Refusal::Indeterminate(_))));
    assert!(matches!(
        world.result(read_lost),
        Err(Refusal::Unavailable(_))
    ));
    world.run_ms(3_000);
    assert_eq!(world.done(GATEWAY, append(3)), Ok(Answer::Done));
    let expected = [Scalar::Int(1), Scalar::Int(3)];
    assert_eq!(list(&world.done(GATEWAY, read())), expected);
}

#[test]
fn a_certain_refusal_is_tried_again_at_the_leader_named() {
    let mut world = started(config());
    // The gateway does not hear how n1 stands, and takes n2 for the leader.
    let mut status = world.status(NodeId(2));
    (status.role, status.epoch) = (Role::Leader, 9);
    let stands = Message::Stands { life: 0, status };
    world.forge(GATEWAY, NodeId(2), AnyMessage::Gateway(stands));
    let id = world.ask(GATEWAY, append(1));
    world.run_ms(40);
    let reply = world.reply(id).unwrap();
    assert_eq!((reply.node, &reply.result), (NodeId(1), &Ok(Answer::Done)));
}

#[test]
fn where_nobody_is_known_a_gateway_says_so() {
    let mut world = started(config());
    world.isolate(&[GATEWAY]);
    world.run_ms(1_500);
    for op in [append(1), read()] {
        let id = world.ask(GATEWAY, op);
        assert!(matches!(world.result(id), Err(Refusal::Unavailable(_))));
    }
    let digest = world.ask(GATEWAY, Op::Digest);
    assert!(matches!(world.result(digest), Err(Refusal::Unsupported(_))));
}

#[test]
fn a_request_is_carried_out_at_most_once() {
    let mut carried_out = 0;
    for seed in 0..30 {
        let mut world = World::new(config(), 3, seed);
        world.run_ms(1_000);
        // One message in three is lost, one in three comes twice; replicas and gateway crash.
        world.loss = 330;
        let mut asked = Vec::new();
        for n in 0..120 {
            if world.is_up(GATEWAY) {
                asked.push((n, world.ask(GATEWAY, append(n))));
            }
            let node = NodeId(1 + world.draw(4) as u16);
            match world.draw(20) {
                0 => world.crash(node),
                1..4 if !world.is_up(node) => world.start(node),
                _ => {}
            }
            world.run_ms(20);
        }
        world.heal();
        world.assert_converged();
        let leader = world.leader().unwrap();
        let values = list(&world.done(leader, read()));
        let mut distinct = values.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), values.len(), "seed {seed}: {values:?}");
        carried_out += values.len();
        // What was certainly not done was not.
        for (n, id) in asked {
            if let Some(reply) = world.reply(id)
                && let Err(Refusal::NotLeader { .. } | Refusal::Unavailable(_)) = reply.result
            {
                assert!(
                    !values.contains(&Scalar::Int(n)),
                    "seed {seed}: {n} was done"
                );
            }
        }
    }
    assert!(carried_out > 300, "{carried_out}: too calm");
}

#[test]
fn what_was_meant_for_a_former_process_is_not_carried_out() {
    let mut world = started(config());
    world.done(GATEWAY, append(1)).unwrap();
    let forward = |number, life, to| {
        AnyMessage::Gateway(Message::Forward {
            number,
            life,
            to,
            request: Request::new(append(number as i64)),
        })
    };
    // To a life that n1 does not have; then in a newer life of the gateway, twice.
    world.forge(NodeId(1), GATEWAY, forward(100, 0, 77));
    world.forge(NodeId(1), GATEWAY, forward(101, 5, 0));
    world.forge(NodeId(1), GATEWAY, forward(101, 5, 0));
    world.run_ms(20);
    world.forge(NodeId(1), GATEWAY, forward(101, 5, 0));
    // What the former life sent comes late.
    world.forge(NodeId(1), GATEWAY, forward(102, 0, 0));
    world.run_ms(50);
    let values = list(&world.done(NodeId(1), read()));
    assert_eq!(values, [1, 101].map(Scalar::Int));
}

#[test]
fn reads_are_spread_as_configured() {
    let spread = |gateway_reads| Config {
        gateway_reads,
        ..config()
    };
    let mut world = started(spread(GatewayReads::Leader));
    assert_eq!(readers(&mut world, 4), [1; 4]);
    let mut world = started(spread(GatewayReads::RoundRobin));
    let mut six = readers(&mut world, 6);
    assert_ne!(six[0], six[1]);
    six.sort_unstable();
    assert_eq!(six, [1, 1, 2, 2, 3, 3]);
    // One that is down is left out once it is missed.
    world.crash(NodeId(2));
    world.run_ms(1_100);
    assert!(!readers(&mut world, 6).contains(&2));

    let mut world = started(spread(GatewayReads::LeastConnections));
    world.cut.insert((NodeId(3), GATEWAY));
    world.cut.insert((NodeId(2), GATEWAY));
    let ids: Vec<RequestId> = (0..9)
        .map(|_| {
            world.run_ms(20);
            world.ask(GATEWAY, read())
        })
        .collect();
    world.run_ms(20);
    let answered = ids.iter().filter(|id| world.reply(**id).is_some()).count();
    assert_eq!(answered, 7, "the silent ones have one each");
}

#[test]
fn bounded_staleness_leaves_out_who_is_too_far_behind() {
    for (staleness, expected) in [(5, false), (500, true)] {
        let mut world = started(Config {
            gateway_reads: GatewayReads::BoundedStaleness,
            gateway_staleness: staleness,
            ..config()
        });
        world.cut.insert((NodeId(1), NodeId(3)));
        for n in 0..20 {
            world.done(GATEWAY, append(n)).unwrap();
        }
        let readers = readers(&mut world, 9);
        assert!(readers.contains(&1) && readers.contains(&2), "{readers:?}");
        assert_eq!(readers.contains(&3), expected, "{staleness}: {readers:?}");
    }
}

#[test]
fn a_spread_read_keeps_to_its_session() {
    let mut world = started(Config {
        gateway_reads: GatewayReads::RoundRobin,
        reads: Reads::Any,
        ..config()
    });
    world.cut.insert((NodeId(1), NodeId(3)));
    world.done(GATEWAY, append(1)).unwrap();
    for _ in 0..6 {
        let request = Request {
            session: Some(VersionVector::of_log(2)),
            ..Request::new(read())
        };
        let id = world.request(GATEWAY, request);
        world.run_ms(30);
        if let Some(reply) = world.reply(id) {
            assert_eq!(list(&reply.result), [Scalar::Int(1)]);
        }
    }
}

#[test]
fn followers_read_through_a_gateway_when_the_leader_leaves_reads_to_them() {
    let mut world = started(Config {
        gateway_reads: GatewayReads::RoundRobin,
        reads: Reads::Follower,
        ..config()
    });
    let readers = readers(&mut world, 6);
    assert!(
        readers.iter().all(|node| [2, 3].contains(node)),
        "{readers:?}"
    );
}

#[test]
fn gateways_stand_before_the_monitor() {
    let config = Config {
        detection: Detection::Monitor,
        gateways: 2,
        fencing: Fencing::Epoch,
        ..config()
    };
    assert_eq!(config.auxiliaries(), 3);
    let mut world = started(config);
    let roles = [4, 5, 6].map(|node| world.status(NodeId(node)).role);
    assert_eq!(roles, [Role::Gateway, Role::Gateway, Role::Monitor]);
    world.done(NodeId(5), append(1)).unwrap();
    world.crash(NodeId(1));
    world.run_ms(2_000);
    assert_eq!(world.done(NodeId(4), append(2)), Ok(Answer::Done));
    let id = world.ask(NodeId(6), read());
    assert!(matches!(world.result(id), Err(Refusal::Unsupported(_))));
    world.heal();
    world.assert_converged();
}

#[test]
fn requests_under_way_are_bounded() {
    let mut world = started(config());
    world.isolate(&[GATEWAY]);
    let ids: Vec<RequestId> = (0..8_200).map(|n| world.ask(GATEWAY, append(n))).collect();
    let refused = ids.iter().filter(|id| world.reply(**id).is_some()).count();
    assert_eq!(refused, 8);
    world.run_ms(1_100);
    assert!(ids.iter().all(|id| world.result(*id).is_err()));
}
