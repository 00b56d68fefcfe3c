//! What reads at leaders show.

use super::{config, read, started, value, write};
use crate::core::config::{Bug, Reads};
use crate::core::testing::World;
use crate::core::{
    Admin, Answer, Config, Datum, Function, NodeId, Op, Refusal, RequestId, Role, Scalar,
};

fn lease() -> Config {
    Config {
        reads: Reads::Lease,
        ..config()
    }
}

/// Counts up at all who call themselves leader, amid faults, and reads there; returns how many
/// reads were answered, and how many of them showed less than was acknowledged before they were
/// asked.
fn stale(world: &mut World, steps: u64) -> (usize, usize) {
    let (mut number, mut floor) = (0, 0);
    let mut writes: Vec<(RequestId, i64)> = Vec::new();
    let mut reads: Vec<(RequestId, i64)> = Vec::new();
    for _ in 0..steps {
        match world.draw(30) {
            0 => {
                let nodes = world.nodes.clone();
                let leader = world.leader().unwrap_or(nodes[0]);
                world.isolate(&[leader]);
            }
            1 => {
                let node = NodeId(world.draw(5) as u16 + 1);
                world.crash(node);
                world.start(node);
            }
            2 => {
                if let Some(leader) = world.leader() {
                    let to = NodeId(world.draw(5) as u16 + 1);
                    world.ask(leader, Op::Admin(Admin::TransferLeadership(to)));
                }
            }
            3 | 4 => world.cut.clear(),
            _ => {}
        }
        for node in world.nodes.clone() {
            if world.status(node).role == Role::Leader {
                number += 1;
                writes.push((world.ask(node, write(number)), number));
                reads.push((world.ask(node, read()), floor));
            }
        }
        let span = world.draw(60);
        world.run_ms(span);
        writes.retain(|(id, number)| match world.reply(*id) {
            None => true,
            Some(reply) => {
                if reply.result.is_ok() {
                    floor = floor.max(*number);
                }
                false
            }
        });
    }
    let shown = |id| match &world.reply(id)?.result {
        Ok(Answer::Value(Some(Datum::Register(Scalar::Int(n))))) => Some(*n),
        Ok(Answer::Value(None)) => Some(0),
        _ => None,
    };
    let answered: Vec<_> = reads
        .iter()
        .filter_map(|(id, floor)| Some((shown(*id)?, *floor)))
        .collect();
    // A write at a leader that was deposed may come through later than one at its successor: the
    // register then shows the smaller number, and rightly so. What was acknowledged as the newer
    // counts all the same as long as the leaders' entries are in that order, which they are.
    let stale = answered
        .iter()
        .filter(|(shown, floor)| shown < floor)
        .count();
    (answered.len(), stale)
}

fn stale_in_all(config: &Config, rates: &[(u16, u64)]) -> usize {
    let (mut answered, mut wrong) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(config.clone(), 5, seed);
        world.rates = rates
            .iter()
            .map(|(node, rate)| (NodeId(*node), *rate))
            .collect();
        let (a, w) = stale(&mut world, 200);
        answered += a;
        wrong += w;
    }
    assert!(answered > 2_000, "{answered}");
    wrong
}

#[test]
fn reads_by_read_index_and_by_lease_are_never_stale() {
    assert_eq!(stale_in_all(&config(), &[]), 0);
    assert_eq!(stale_in_all(&lease(), &[]), 0);
    let without = Config {
        pre_vote: false,
        ..lease()
    };
    assert_eq!(stale_in_all(&without, &[]), 0);
    // The lease is shorter than the promise it rests on: that much clocks may differ.
    let apart = [(1, 99), (2, 99), (3, 101), (4, 101), (5, 100)];
    assert_eq!(stale_in_all(&lease(), &apart), 0);
}

#[test]
fn a_lease_measured_by_a_slow_clock_is_too_long() {
    let apart = [(1, 40), (2, 40), (3, 200), (4, 200), (5, 200)];
    assert!(stale_in_all(&lease(), &apart) > 0);
    // Asking a majority does not depend on clocks.
    assert_eq!(stale_in_all(&config(), &apart), 0);
}

#[test]
fn a_leader_that_asks_nobody_shows_what_is_past() {
    let planted = Config {
        bugs: [Bug::ReadIndexWithoutQuorum].into(),
        ..config()
    };
    assert!(stale_in_all(&planted, &[]) > 10);
}

#[test]
fn a_lease_saves_the_round_and_is_given_up_with_a_hand_over() {
    let mut world = started(lease(), 3, 1);
    world.ask(NodeId(1), write(1));
    world.run_ms(500);
    let id = world.ask(NodeId(1), read());
    assert_eq!(world.reply(id).unwrap().result, Ok(value(1)));
    // Cut off, it answers until its lease ends, and then no more.
    world.isolate(&[NodeId(1)]);
    world.run_ms(500);
    let id = world.ask(NodeId(1), read());
    assert_eq!(world.reply(id).unwrap().result, Ok(value(1)));
    world.run_ms(500);
    let id = world.ask(NodeId(1), read());
    assert_eq!(world.reply(id), None);
    world.run_ms(3_000);
    assert!(matches!(
        world.reply(id).unwrap().result,
        Err(Refusal::Unavailable(_))
    ));
    world.heal();
    let leader = world.leader().unwrap();
    let to = NodeId(leader.0 % 3 + 1);
    let id = world.ask(leader, read());
    assert!(world.reply(id).is_some());
    world.ask(leader, Op::Admin(Admin::TransferLeadership(to)));
    let id = world.ask(leader, read());
    assert_eq!(world.reply(id), None);
}

#[test]
fn a_digest_is_of_the_replica_that_is_asked() {
    let mut world = started(config(), 3, 1);
    world.isolate(&[NodeId(3)]);
    world.ask(NodeId(1), write(1));
    world.run_ms(300);
    let digests: Vec<_> = (1..=3)
        .map(|node| {
            let id = world.ask(NodeId(node), Op::Digest);
            match &world.reply(id).unwrap().result {
                Ok(Answer::Digest(digest)) => digest.digest,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(digests[0], world.digest(NodeId(1)));
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}

#[test]
fn what_is_generated_is_the_same_everywhere() {
    let mut world = started(config(), 3, 1);
    let functions = [
        Function::Now,
        Function::Random,
        Function::AutoIncrement,
        Function::Trigger,
    ];
    let mut generated = Vec::new();
    for function in functions.iter().cycle().take(8) {
        let id = world.ask(NodeId(1), Op::Generate("g".into(), *function));
        world.run_ms(50);
        match &world.reply(id).unwrap().result {
            Ok(Answer::Generated(value)) => generated.push(value.clone()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(generated[2], Scalar::Int(1));
    assert_eq!(generated[6], Scalar::Int(2));
    assert_eq!(generated[7], Scalar::Text("n1:2".into()));
    world.run_ms(500);
    world.assert_converged();
    let id = world.ask_with(NodeId(2), Op::Read("g".into()), true);
    let list = Answer::Value(Some(Datum::List(generated)));
    assert_eq!(world.reply(id).unwrap().result, Ok(list));
}

#[test]
fn all_kinds_of_data_are_replicated() {
    let mut world = started(config(), 3, 1);
    let int = Scalar::Int;
    for op in [
        Op::Increment("c".into(), 3),
        Op::Increment("c".into(), -1),
        Op::Insert("t".into(), Scalar::Nil, int(2)),
        Op::Insert("t".into(), Scalar::Nil, int(1)),
        Op::Insert("t".into(), int(1), int(9)),
        Op::Remove("t".into(), int(2)),
        Op::Put("m".into(), int(1), int(2)),
        Op::Put("m".into(), int(3), int(4)),
        Op::Remove("m".into(), int(1)),
        Op::Write("gone".into(), int(1)),
        Op::Delete("gone".into()),
    ] {
        let id = world.ask(NodeId(1), op.clone());
        world.run_ms(50);
        assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done), "{op:?}");
    }
    world.run_ms(500);
    let id = world.ask_with(NodeId(3), Op::ReadAll, true);
    let expected = vec![
        ("c".into(), Datum::Counter(2)),
        ("m".into(), Datum::Map([(int(3), int(4))].into())),
        ("t".into(), Datum::List(vec![int(1), int(9)])),
    ];
    assert_eq!(world.reply(id).unwrap().result, Ok(Answer::All(expected)));
}
