//! Who answers reads, and sessions.

use super::{config, read, started, value, write};
use crate::core::config::{Reads, Visibility};
use crate::core::testing::World;
use crate::core::{Answer, Config, NodeId, Op, Refusal, Request, RequestId, Scalar, VersionVector};

fn any() -> Config {
    Config {
        reads: Reads::Any,
        ..config()
    }
}

fn session(world: &World, id: RequestId) -> VersionVector {
    world.reply(id).unwrap().session.clone().unwrap()
}

fn read_in(session: VersionVector) -> Request {
    Request {
        session: Some(session),
        ..Request::new(read())
    }
}

fn unavailable(world: &World, id: RequestId) -> bool {
    matches!(world.result(id), Err(Refusal::Unavailable(_)))
}

#[test]
fn a_session_reads_its_own_writes_at_every_replica() {
    let mut world = started(any(), 3, 12);
    world.cut.insert((NodeId(1), NodeId(3)));
    let written = world.ask(NodeId(1), write(1));
    world.run_ms(20);
    let session = session(&world, written);
    assert_eq!(session, VersionVector::of_log(2));
    let stale = world.ask(NodeId(3), read());
    assert_eq!(world.result(stale), &Ok(Answer::Value(None)));
    let waits = world.request(NodeId(3), read_in(session.clone()));
    assert!(world.reply(waits).is_none());
    world.cut.clear();
    world.run_ms(300);
    assert_eq!(world.result(waits), &Ok(value(1)));
    assert_eq!(super::reading::session(&world, waits), session);
}

#[test]
fn a_session_never_goes_back() {
    let mut world = started(any(), 3, 13);
    world.cut.insert((NodeId(1), NodeId(3)));
    world.ask(NodeId(1), write(1));
    world.run_ms(20);
    let new = world.ask(NodeId(2), read());
    assert_eq!(world.result(new), &Ok(value(1)));
    let old = world.request(NodeId(3), read_in(session(&world, new)));
    world.run_ms(50);
    assert!(world.reply(old).is_none(), "answered from the past");
    // A refusal tells nothing new, and forgets nothing.
    world.run_ms(2_000);
    assert!(unavailable(&world, old));
    assert_eq!(session(&world, old), session(&world, new));
}

#[test]
fn waiting_reads_are_refused_when_the_replica_changes_its_role() {
    let config = Config {
        failover_timeout_ms: 2_000,
        ..any()
    };
    let mut world = started(config, 3, 14);
    world.crash(NodeId(1));
    world.run_ms(1_500);
    let waits = world.request(NodeId(2), read_in(VersionVector::of_log(99)));
    let elsewhere = world.request(NodeId(3), read_in(VersionVector::of_log(99)));
    world.run_ms(1_800);
    assert!(world.leader().is_some());
    assert!(unavailable(&world, waits) && unavailable(&world, elsewhere));
}

#[test]
fn no_more_than_so_many_reads_wait() {
    let mut world = started(any(), 3, 15);
    let ids: Vec<_> = (0..5_000)
        .map(|_| world.request(NodeId(2), read_in(VersionVector::of_log(99))))
        .collect();
    let refused = ids.iter().filter(|id| world.reply(**id).is_some()).count();
    assert_eq!(refused, 5_000 - 4_096);
    world.run_ms(1_100);
    assert!(ids.iter().all(|id| unavailable(&world, *id)));
}

#[test]
fn a_leader_leaves_reads_to_followers_while_it_has_one() {
    let mut world = started(
        Config {
            reads: Reads::Follower,
            ..config()
        },
        3,
        16,
    );
    world.done(NodeId(1), write(1)).unwrap();
    let id = world.ask(NodeId(1), read());
    assert!(unavailable(&world, id));
    assert_eq!(world.done(NodeId(2), read()), Ok(value(1)));
    world.crash(NodeId(2));
    world.crash(NodeId(3));
    world.run_ms(1_500);
    assert_eq!(world.done(NodeId(1), read()), Ok(value(1)));
    // Whatever the role, a local read is answered.
    world.heal();
    let local = world.ask_with(NodeId(1), read(), true);
    assert_eq!(world.result(local), &Ok(value(1)));
}

#[test]
fn sessions_hold_at_a_leader_that_shows_writes_late() {
    // Its own disk is the bottleneck: the session is ahead of what is applied.
    for visibility in [Visibility::AfterAck, Visibility::BeforeAck] {
        let mut world = started(
            Config {
                visibility,
                ..any()
            },
            3,
            17,
        );
        world.ask(NodeId(1), write(1));
        let waits = world.request(NodeId(1), read_in(VersionVector::of_log(2)));
        assert!(world.reply(waits).is_none());
        world.run_ms(20);
        assert_eq!(world.result(waits), &Ok(value(1)));
    }
}

fn partial() -> Config {
    Config {
        partial: [(3, "a/".to_owned())].into(),
        log_keep: 16,
        ..any()
    }
}

#[test]
fn a_partial_replica_holds_and_answers_for_its_part() {
    let mut world = started(partial(), 3, 18);
    let append = |key: &str, n| Op::Append(key.into(), Scalar::Int(n));
    for n in 0..20 {
        world.done(NodeId(1), append("a/x", n)).unwrap();
        world.done(NodeId(1), append("b", n)).unwrap();
    }
    let whole = world.done(NodeId(1), Op::Read("a/x".into()));
    assert_eq!(world.done(NodeId(3), Op::Read("a/x".into())), whole);
    for op in [Op::Read("b".into()), Op::ReadAll] {
        let refused = world.done(NodeId(3), op);
        assert!(
            matches!(refused, Err(Refusal::Unsupported(_))),
            "{refused:?}"
        );
    }
    let digest = |world: &mut World, node| match world.done(NodeId(node), Op::Digest) {
        Ok(Answer::Digest(digest)) => digest,
        other => panic!("{other:?}"),
    };
    let (two, three) = (digest(&mut world, 2), digest(&mut world, 3));
    assert_eq!((&*two.scope, &*three.scope), ("", "a/"));
    assert_ne!(two.digest, three.digest);
    assert_eq!(world.log(NodeId(3)), world.log(NodeId(1)));

    // By snapshot it gets the same as by the log, and keeps it over a crash.
    world.crash(NodeId(3));
    for n in 20..60 {
        world.done(NodeId(1), append("b", n)).unwrap();
    }
    world.heal();
    assert_eq!(digest(&mut world, 3), three);
    world.crash(NodeId(3));
    world.heal();
    assert_eq!(digest(&mut world, 3), three);
}

#[test]
fn a_partial_replica_is_never_promoted_and_holds_no_write() {
    use crate::core::config::Ack;
    let config = Config {
        ack: Ack::SemiSync(1),
        ..partial()
    };
    let mut world = started(config, 3, 19);
    world.isolate(&[NodeId(2)]);
    let id = world.ask(NodeId(1), write(1));
    world.run_ms(500);
    assert!(world.reply(id).is_none(), "the partial replica counted");
    world.crash(NodeId(1));
    world.run_ms(10_000);
    assert_eq!(
        world.leader(),
        Some(NodeId(2)),
        "cut off, it promotes itself"
    );
    world.crash(NodeId(2));
    world.run_ms(10_000);
    assert_eq!(world.leader(), None);
}

#[test]
fn impossible_partial_replicas_are_refused() {
    use crate::core::config::Stream;
    let with = |partial: &[(u16, &str)]| Config {
        partial: partial.iter().map(|(n, p)| (*n, (*p).to_owned())).collect(),
        ..config()
    };
    let field = |config: Config| config.validate(3).map_err(|error| error.field);
    assert_eq!(field(with(&[(3, "a")])), Ok(()));
    for bad in [
        &[(4, "a")][..],
        &[(0, "a")],
        &[(3, "")],
        &[(1, "a"), (2, "a"), (3, "a")],
    ] {
        assert_eq!(field(with(bad)), Err("partial"), "{bad:?}");
    }
    let wal = Config {
        stream: Stream::Wal,
        ..with(&[(3, "a")])
    };
    assert_eq!(field(wal), Err("partial"));
    let semi_sync = Config {
        ack: crate::core::config::Ack::SemiSync(2),
        ..with(&[(3, "a")])
    };
    assert_eq!(field(semi_sync), Err("ack"));
}
