//! The mode in the small deterministic world of [`crate::core::testing`].

mod crdt;
mod faults;
mod home;
mod lww;
mod planted;
mod procedure;
mod sessions;
mod siblings;
mod synchronous;

use super::{Clock, Conflicts, MultiLeader, Topology};
use crate::core::config::{Bug, Fsync, Mode};
use crate::core::testing::World;
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Config, Datum, NodeId, Op, Refusal, Reply, Request, RequestId, Scalar};

const TOPOLOGIES: [Topology; 3] = [Topology::AllToAll, Topology::Ring, Topology::Star];

fn config(conflicts: Conflicts) -> Config {
    Config {
        mode: Mode::MultiLeader,
        multi_leader: MultiLeader {
            conflicts,
            ..MultiLeader::default()
        },
        ..Config::default()
    }
}

fn int(n: i64) -> Scalar {
    Scalar::Int(n)
}

fn write(key: &str, n: i64) -> Op {
    Op::Write(key.into(), int(n))
}

fn result(world: &World, id: RequestId) -> Result<Answer, Refusal> {
    let reply = world
        .reply(id)
        .unwrap_or_else(|| panic!("{id:?}: no answer"));
    reply.result.clone()
}

/// What a node holds of a key.
fn look(world: &mut World, node: u16, key: &str) -> Option<Datum> {
    match look_closely(world, node, key).result {
        Ok(Answer::Value(datum)) => datum,
        other => panic!("{other:?}"),
    }
}

fn look_closely(world: &mut World, node: u16, key: &str) -> Reply {
    let id = world.ask(NodeId(node), Op::Read(key.into()));
    world.run_ms(5);
    world.reply(id).unwrap().clone()
}

fn pending(world: &World) -> u64 {
    let nodes = world.nodes.iter();
    nodes.map(|node| world.status(*node).pending).sum()
}

/// Heals everything and waits until nothing is under way.
fn settle(world: &mut World) {
    world.heal();
    for _ in 0..60 {
        if pending(world) == 0 {
            return;
        }
        world.run_ms(1_000);
    }
    let statuses = world.nodes.iter().map(|node| world.status(*node));
    let statuses: Vec<_> = statuses.collect();
    panic!("seed {}: did not settle: {statuses:?}", world.seed);
}

fn digests(world: &mut World) -> Vec<u64> {
    let ask = |world: &mut World, node| world.ask(node, Op::Digest);
    let asked: Vec<_> = world
        .nodes
        .clone()
        .into_iter()
        .map(|node| ask(world, node))
        .collect();
    world.run_ms(10);
    let digest = |id| match result(world, id) {
        Ok(Answer::Digest(state)) => state.digest,
        other => panic!("{other:?}"),
    };
    asked.into_iter().map(digest).collect()
}

fn assert_converged(world: &mut World) {
    let digests = digests(world);
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "seed {}: {digests:x?}",
        world.seed
    );
}

/// Faults of every kind, with something asked of a node that is up at every step. Wipes only if
/// `wipes`: what a node acknowledged and nobody else has is lost with it.
fn torment(
    world: &mut World,
    steps: u64,
    wipes: bool,
    mut ask: impl FnMut(&mut World, NodeId, u64) -> Request,
) -> Vec<(NodeId, RequestId)> {
    let mut asked = Vec::new();
    world.loss = 50;
    let nodes = world.nodes.clone();
    for step in 0..steps {
        let node = nodes[world.draw(nodes.len() as u64) as usize];
        match world.draw(40) {
            0 => world.crash(node),
            1 if wipes => world.wipe(node),
            2 => world.isolate(&[node]),
            3 => {
                let count = world.draw(nodes.len() as u64) as usize;
                world.isolate(&nodes[..count]);
            }
            4 | 5 => world.cut.clear(),
            6 => world.delay_max = (1 + world.draw(300)) * MILLISECOND,
            7 => world.delay_max = 2 * MILLISECOND,
            8..12 => {
                let down = nodes.iter().find(|node| !world.is_up(**node));
                if let Some(&node) = down {
                    world.start(node);
                }
            }
            _ => {}
        }
        for _ in 0..2 {
            let node = nodes[world.draw(nodes.len() as u64) as usize];
            if world.is_up(node) {
                let request = ask(world, node, step);
                asked.push((node, world.request(node, request)));
            }
        }
        let span = world.draw(100);
        world.run_ms(span);
    }
    asked
}

/// Some operation of every kind.
fn any_op(world: &mut World, unique: i64) -> Op {
    let which = world.draw(3);
    let key = |kind: &str| format!("{kind}{which}").into();
    let few = int(world.draw(5) as i64);
    match world.draw(12) {
        0 | 1 => Op::Write(key("register"), int(unique)),
        2 => Op::Increment(key("counter"), unique % 7 - 3),
        3 => Op::Add(key("set"), few),
        4 => Op::Remove(key("set"), few),
        5 => Op::Put(key("map"), few, int(unique)),
        6 => Op::Remove(key("map"), few),
        7 => Op::Append(key("text"), int(unique)),
        8 => Op::Insert(key("text"), few, int(unique)),
        9 => Op::Insert(key("text"), Scalar::Nil, few),
        10 => Op::Remove(key("text"), few),
        _ => Op::Delete(key(
            ["register", "set", "map", "text"][world.draw(4) as usize]
        )),
    }
}
