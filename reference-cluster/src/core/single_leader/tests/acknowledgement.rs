//! When a write is acknowledged, and when it is visible.

use super::{config, read, started, value, write};
use crate::core::config::{Ack, Fencing, Visibility};
use crate::core::{Answer, Config, NodeId, Op, Refusal, Scalar};

const FELL_BACK: &str = "semi-sync fell back to async";
const ON_AGAIN: &str = "semi-sync is on again";

fn semi_sync(timeout: Option<u64>) -> Config {
    Config {
        ack: Ack::SemiSync(1),
        semi_sync_timeout_ms: timeout,
        ..config()
    }
}

#[test]
fn semi_sync_falls_back_and_returns() {
    let mut world = started(semi_sync(Some(300)), 3, 11);
    world.isolate(&[NodeId(2), NodeId(3)]);
    let first = world.ask(NodeId(1), write(1));
    world.run_ms(100);
    let second = world.ask(NodeId(1), write(2));
    world.run_ms(150);
    assert!(world.reply(first).is_none() && world.remarks(FELL_BACK) == 0);
    world.run_ms(100);
    // The oldest has waited long enough: all that waits is acknowledged.
    assert_eq!(world.remarks(FELL_BACK), 1);
    for id in [first, second] {
        assert_eq!(world.result(id), &Ok(Answer::Done));
    }
    assert_eq!(world.done(NodeId(1), write(3)), Ok(Answer::Done));
    assert_eq!(world.remarks(ON_AGAIN), 0);

    world.cut.clear();
    world.run_ms(1_500);
    assert_eq!(world.remarks(ON_AGAIN), 1);
    world.isolate(&[NodeId(2), NodeId(3)]);
    let waits = world.ask(NodeId(1), write(4));
    world.run_ms(200);
    assert!(world.reply(waits).is_none(), "semi-sync is not on again");
}

#[test]
fn without_a_timeout_semi_sync_waits_for_ever() {
    let mut world = started(semi_sync(None), 3, 11);
    world.isolate(&[NodeId(2), NodeId(3)]);
    let id = world.ask(NodeId(1), write(1));
    world.run_ms(60_000);
    assert!(world.reply(id).is_none());
    assert_eq!(world.remarks(FELL_BACK), 0);
}

#[test]
fn what_a_fallen_leader_acknowledged_is_lost_with_it() {
    for (timeout, lost) in [(Some(100), true), (None, false)] {
        let mut world = started(semi_sync(timeout), 3, 5);
        world.isolate(&[NodeId(1)]);
        let id = world.ask(NodeId(1), write(1));
        world.run_ms(500);
        let acknowledged = world.reply(id).is_some();
        world.crash(NodeId(1));
        world.cut.clear();
        world.run_ms(4_000);
        let successor = world.leader().unwrap();
        let survives = world.done(successor, read()) == Ok(value(1));
        assert_eq!(acknowledged && !survives, lost, "{timeout:?}");
    }
}

#[test]
fn a_fenced_leader_does_not_fall_back_into_acknowledging() {
    let config = Config {
        fencing: Fencing::Epoch,
        ..semi_sync(Some(1_500))
    };
    let mut world = started(config, 3, 6);
    world.isolate(&[NodeId(1)]);
    let id = world.ask(NodeId(1), write(1));
    world.run_ms(4_000);
    assert_eq!(world.remarks(FELL_BACK), 1);
    assert!(world.reply(id).is_none(), "acknowledged by a fenced leader");
    world.heal();
    assert!(matches!(world.result(id), Err(Refusal::Indeterminate(_))));
    world.assert_converged();
}

#[test]
fn a_write_may_be_visible_before_it_is_acknowledged() {
    for (visibility, visible) in [(Visibility::BeforeAck, true), (Visibility::AfterAck, false)] {
        let mut world = started(
            Config {
                visibility,
                ..semi_sync(None)
            },
            3,
            4,
        );
        world.isolate(&[NodeId(1)]);
        let written = world.ask(NodeId(1), write(1));
        let before_disk = world.ask(NodeId(1), read());
        assert_eq!(world.result(before_disk), &Ok(Answer::Value(None)));
        world.run_ms(50);
        assert!(world.reply(written).is_none());
        let seen = world.done(NodeId(1), read());
        assert_eq!(seen == Ok(value(1)), visible, "{visibility:?}: {seen:?}");
        // The leader dies with it: what was read never was.
        world.crash(NodeId(1));
        world.cut.clear();
        world.run_ms(4_000);
        let successor = world.leader().unwrap();
        assert_eq!(world.done(successor, read()), Ok(Answer::Value(None)));
    }
}

#[test]
fn what_came_of_a_write_is_kept_until_it_is_acknowledged() {
    let mut world = started(
        Config {
            visibility: Visibility::BeforeAck,
            ..semi_sync(None)
        },
        3,
        4,
    );
    world.isolate(&[NodeId(1)]);
    let ids = [
        world.ask(NodeId(1), write(1)),
        world.ask(
            NodeId(1),
            Op::Cas("k".into(), Scalar::Int(7), Scalar::Int(8)),
        ),
    ];
    world.run_ms(50);
    assert!(ids.iter().all(|id| world.reply(*id).is_none()));
    world.cut.clear();
    world.run_ms(300);
    assert_eq!(world.result(ids[0]), &Ok(Answer::Done));
    let actual = Scalar::Int(1);
    assert_eq!(world.result(ids[1]), &Err(Refusal::CasMismatch { actual }));
}
