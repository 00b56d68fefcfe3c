//! Random faults under load: nothing acknowledged vanishes, and everything converges.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{config, nodes};
use crate::core::config::Fsync;
use crate::core::leaderless::ring::Ring;
use crate::core::leaderless::{Leaderless, ReadRepair, Versions};
use crate::core::testing::World;
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Config, Datum, NodeId, Op, Request, RequestId, Scalar};

/// A write of the storm.
struct Written {
    id: RequestId,
    key: Arc<str>,
    value: Scalar,
    /// Which values it replaces.
    seen: Vec<Scalar>,
}

/// Some seconds of random faults, with clients that write unique values to a few keys through any
/// node, mostly after having read.
fn storm(world: &mut World, steps: u64, wipes: bool) -> Vec<Written> {
    world.loss = 20;
    let mut writes = Vec::new();
    let mut reads: Vec<(RequestId, Arc<str>)> = Vec::new();
    for step in 0..steps {
        let node = nodes()[world.draw(5) as usize];
        match world.draw(40) {
            0 if wipes => world.wipe(node),
            0 | 1 => world.crash(node),
            2 => world.isolate(&[node]),
            3 => {
                let other = nodes()[world.draw(5) as usize];
                world.cut.insert((node, other));
            }
            4 => {
                let count = world.draw(4) as usize + 1;
                world.isolate(&nodes()[..count]);
            }
            5..8 => world.cut.clear(),
            8 => world.delay_max = (1 + world.draw(300)) * MILLISECOND,
            9 => world.delay_max = 2 * MILLISECOND,
            10..16 => {
                if let Some(node) = nodes().into_iter().find(|node| !world.is_up(*node)) {
                    world.start(node);
                }
            }
            _ => {}
        }
        for node in nodes() {
            if !world.is_up(node) {
                continue;
            }
            let key: Arc<str> = format!("k{}", world.draw(4)).into();
            if world.draw(2) == 0 {
                reads.push((
                    world.request(node, Request::new(Op::Read(key.clone()))),
                    key,
                ));
                continue;
            }
            let value = Scalar::Int(step as i64 * 10 + i64::from(node.0));
            let mut seen = Vec::new();
            let mut context = None;
            let newest = reads.iter().rev().find(|(_, read)| *read == key);
            if let Some(reply) = newest.and_then(|(id, _)| world.reply(*id))
                && let Ok(Answer::Value(datum)) = &reply.result
                && step % 3 > 0
            {
                context.clone_from(&reply.context);
                if let Some(Datum::Siblings(values)) = datum {
                    seen.clone_from(values);
                }
            }
            let request = Request {
                context,
                ..Request::new(Op::Write(key.clone(), value.clone()))
            };
            writes.push(Written {
                id: world.request(node, request),
                key,
                value,
                seen,
            });
        }
        let span = world.draw(100);
        world.run_ms(span);
    }
    writes
}

/// Heals and waits until no node knows of anything to be done.
fn settle(world: &mut World) {
    world.heal();
    for _ in 0..600 {
        if world
            .nodes
            .iter()
            .all(|node| world.status(*node).pending == 0)
        {
            return;
        }
        world.run_ms(100);
    }
    let standing: Vec<_> = world.nodes.iter().map(|node| world.status(*node)).collect();
    panic!("seed {}: never settles: {standing:?}", world.seed);
}

fn here(world: &mut World, node: NodeId, key: &Arc<str>) -> Answer {
    let id = world.ask_with(node, Op::Read(key.clone()), true);
    world.run_ms(10);
    world.reply(id).unwrap().result.clone().unwrap()
}

fn keys() -> [Arc<str>; 4] {
    ["k0", "k1", "k2", "k3"].map(Arc::from)
}

/// What all homes of a key hold.
fn agreed(world: &mut World, key: &Arc<str>) -> Answer {
    let ring = Ring::new(&world.nodes);
    let homes: Vec<NodeId> = ring
        .homes(ring.range(key), world.config.leaderless.n)
        .collect();
    let all: Vec<Answer> = homes.iter().map(|home| here(world, *home, key)).collect();
    let seed = world.seed;
    assert!(
        all.iter().all(|one| *one == all[0]),
        "seed {seed}: {key} {homes:?} {all:?}"
    );
    all[0].clone()
}

#[test]
fn replicas_converge_after_every_storm() {
    let mut held = 0;
    for seed in 0..400_u64 {
        let leaderless = Leaderless {
            versions: [Versions::Lww, Versions::Dotted][(seed % 2) as usize],
            sloppy: seed / 2 % 2 == 0,
            n: [3, 5, 2][(seed / 4 % 3) as usize],
            read_repair: [
                ReadRepair::Off,
                ReadRepair::Background,
                ReadRepair::Blocking,
            ][(seed / 12 % 3) as usize],
            anti_entropy_ms: 300,
            ..Leaderless::default()
        };
        let config = Config {
            fsync: [Fsync::Always, Fsync::Interval, Fsync::Never][(seed / 36 % 3) as usize],
            log_keep: 16,
            ..config(leaderless)
        };
        let mut world = World::new(config, 5, seed);
        storm(&mut world, 60, seed % 5 > 0);
        settle(&mut world);
        for key in keys() {
            held += usize::from(agreed(&mut world, &key) != Answer::Value(None));
        }
        let digests = nodes().map(|node| {
            let id = world.ask(node, Op::Digest);
            world.run_ms(10);
            match &world.reply(id).unwrap().result {
                Ok(Answer::Digest(digest)) => digest.clone(),
                other => panic!("{other:?}"),
            }
        });
        let everything = world.config.leaderless.n == 5;
        let first = digests[0].clone();
        assert_eq!(
            digests.iter().all(|other| *other == first),
            everything,
            "seed {seed}: {digests:?}"
        );
    }
    assert!(held > 1_000, "{held} keys with values: too calm");
}

/// Sibling completeness: with quorums that overlap and disks that keep what they synced, every
/// acknowledged write is there at the end, or one that has seen it is.
#[test]
fn no_acknowledged_write_vanishes_unresolved() {
    let (mut acknowledged, mut replaced) = (0, 0);
    for seed in 0..300_u64 {
        let leaderless = Leaderless {
            n: [3, 5][(seed % 2) as usize],
            r: [2, 3][(seed % 2) as usize],
            w: [2, 3][(seed % 2) as usize],
            read_repair: [
                ReadRepair::Off,
                ReadRepair::Background,
                ReadRepair::Blocking,
            ][(seed / 2 % 3) as usize],
            anti_entropy_ms: 300,
            sloppy: seed / 6 % 2 == 0,
            ..Leaderless::default()
        };
        let mut world = World::new(config(leaderless), 5, seed);
        let written = storm(&mut world, 60, false);
        settle(&mut world);
        for key in keys() {
            let mut alive: BTreeSet<Scalar> = match agreed(&mut world, &key) {
                Answer::Value(Some(Datum::Siblings(values))) => values.into_iter().collect(),
                _ => BTreeSet::new(),
            };
            // What a write has seen was written before it.
            for write in written.iter().rev().filter(|write| write.key == key) {
                if alive.contains(&write.value) {
                    alive.extend(write.seen.iter().cloned());
                    replaced += write.seen.len();
                }
                let done = world
                    .reply(write.id)
                    .is_some_and(|reply| reply.result.is_ok());
                acknowledged += usize::from(done);
                let value = &write.value;
                assert!(
                    !done || alive.contains(value),
                    "seed {seed}: {key} {value:?} is lost"
                );
            }
        }
    }
    assert!(
        acknowledged > 5_000 && replaced > 2_000,
        "{acknowledged} {replaced}: too calm"
    );
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let script = |seed| {
        let config = config(Leaderless {
            sloppy: true,
            ..Leaderless::default()
        });
        let mut world = World::new(config, 5, seed);
        world.script = Some(Vec::new());
        storm(&mut world, 60, true);
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
