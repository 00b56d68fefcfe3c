//! Hints, anti-entropy, tombstones and wiped nodes.

use std::sync::Arc;

use super::{ask, config, done, here, nodes, places, read, register, siblings, strict, write};
use crate::core::leaderless::{Actor, Dotted, Entry, Leaderless, Message, ReadRepair, Versions};
use crate::core::testing::World;
use crate::core::{Answer, Config, Datum, NodeId, Op, Quorum, Refusal, Request, Scalar};

pub(super) fn sloppy(versions: Versions) -> Config {
    config(Leaderless {
        versions,
        sloppy: true,
        anti_entropy_ms: 0,
        read_repair: ReadRepair::Off,
        ..Leaderless::default()
    })
}

fn pending(world: &World) -> u64 {
    world
        .nodes
        .iter()
        .map(|node| world.status(*node).pending)
        .sum()
}

/// A write that only nodes beyond the preference list can have taken: the homes are cut off.
pub(super) fn hinted(config: Config, seed: u64) -> World {
    let mut world = World::new(config, 5, seed);
    let (_, others) = places();
    done(&mut world, others[0], write(1));
    world.isolate(&others);
    let refused = |reply: &crate::core::Reply| reply.result != Ok(Answer::Done);
    let mut tries = 2;
    while refused(&ask(&mut world, others[0], write(tries))) {
        tries += 1;
        assert!(tries < 5, "never available");
    }
    world
}

#[test]
fn a_sloppy_quorum_takes_writes_that_a_strict_one_refuses() {
    for versions in [Versions::Lww, Versions::Dotted] {
        let mut world = hinted(sloppy(versions), 1);
        let (homes, others) = places();
        assert!(pending(&world) > 0);
        let seen = ask(&mut world, others[1], read()).result.unwrap();
        let old = ask(&mut world, homes[1], read()).result.unwrap();
        assert_ne!(seen, old, "both sides answer, each with its own");
        world.heal();
        assert_eq!(pending(&world), 0);
        // The hints were delivered: two stand-ins stood in for two of three homes.
        let has_both = |answer: &Answer| match answer {
            Answer::Value(Some(Datum::Siblings(values))) => values.len() > 1,
            other => *other == seen,
        };
        let held = homes.map(|home| here(&mut world, home));
        assert_eq!(
            held.iter().filter(|held| has_both(held)).count(),
            2,
            "{held:?}"
        );

        let mut world = World::new(strict(versions, ReadRepair::Off), 5, 1);
        world.isolate(&others);
        ask(&mut world, others[0], write(1));
        let reply = ask(&mut world, others[0], write(2));
        assert!(
            matches!(reply.result, Err(Refusal::Unavailable(_))),
            "{reply:?}"
        );
    }
}

#[test]
fn a_sloppy_quorum_loses_what_its_stand_ins_lose() {
    for (wiped, kept) in [(true, false), (false, true)] {
        let mut world = hinted(sloppy(Versions::Lww), 2);
        let (homes, others) = places();
        for other in others {
            if wiped {
                world.wipe(other);
            } else {
                world.crash(other);
            }
        }
        world.heal();
        let seen = ask(&mut world, homes[0], read()).result;
        assert_eq!(seen != Ok(register(1)), kept, "{seen:?}");
    }
}

#[test]
fn hints_are_kept_until_the_owner_has_them() {
    let mut world = World::new(sloppy(Versions::Dotted), 5, 3);
    let (homes, _) = places();
    world.isolate(&[homes[2]]);
    done(&mut world, homes[0], write(1));
    world.run_ms(5_000);
    assert_eq!(pending(&world), 1, "one hint, for the home that is away");
    // An acknowledgement of an older state of the hint.
    for node in nodes() {
        let (key, hash) = ("k".into(), 7);
        let late = crate::core::Message::Leaderless(Message::HandedOff { key, hash });
        world.forge(node, homes[2], late);
    }
    assert_eq!(pending(&world), 1);
    world.loss = 500;
    world.cut.clear();
    world.run_ms(20_000);
    assert_eq!(pending(&world), 0);
    assert_eq!(here(&mut world, homes[2]), siblings(&[1]));
}

#[test]
fn anti_entropy_finds_and_mends_every_difference() {
    for (anti_entropy_ms, mends) in [(500, true), (0, false)] {
        let mut config = strict(Versions::Lww, ReadRepair::Off);
        config.leaderless.anti_entropy_ms = anti_entropy_ms;
        let mut world = World::new(config, 5, 4);
        let count = 3_000;
        let key = |n: i64| format!("key {n}").into();
        world.isolate(&[NodeId(3)]);
        for n in 0..count {
            world.ask(NodeId(1), Op::Write(key(n), Scalar::Int(n)));
        }
        world.run_ms(3_000);
        world.heal();
        world.run_ms(6_000);
        assert_eq!(pending(&world), 0);
        let keys = |world: &mut World, node| {
            let id = world.ask(node, Op::ReadAll);
            world.run_ms(10);
            match &world.reply(id).unwrap().result {
                Ok(Answer::All(all)) => all.len(),
                other => panic!("{other:?}"),
            }
        };
        let all: usize = nodes().map(|node| keys(&mut world, node)).iter().sum();
        let expected = 3 * count as usize;
        assert_eq!(all == expected, mends, "{all} of {expected}");
    }
}

/// That two were equal when a comparison began says nothing of what changed at one since.
#[test]
fn what_changes_during_a_comparison_is_compared_again() {
    for changes in [false, true] {
        let mut config = strict(Versions::Lww, ReadRepair::Off);
        config.leaderless.anti_entropy_ms = 5_000;
        let mut world = World::new(config, 5, 9);
        let (homes, _) = places();
        let alone = Request {
            quorum: Quorum {
                w: Some(1),
                ..Quorum::default()
            },
            ..write(1)
        };
        world.run_ms(12_000);
        assert_eq!(pending(&world), 0);
        world.isolate(&homes[..1]);
        done(&mut world, homes[0], alone.clone());
        // It asks the others to compare, who do not hear it.
        world.script = Some(Vec::new());
        world.run_ms(6_000);
        let script = world.script.take().unwrap();
        let round = |line: &String| {
            let (_, rest) = line.split_once("Roots { round: ")?;
            rest.split(',').next()?.parse().ok()
        };
        let rounds: Vec<u64> = script.iter().filter_map(round).collect();
        assert!(rounds.len() >= 2, "{rounds:?}");
        if changes {
            let id = world.request(homes[0], alone);
            world.run_ms(10);
            assert_eq!(world.reply(id).unwrap().result, Ok(Answer::Done));
        }
        for peer in &homes[1..] {
            for round in rounds.iter().copied() {
                let same = Message::Compared { round, same: true };
                let same = crate::core::Message::Leaderless(same);
                world.forge(homes[0], *peer, same);
            }
        }
        let unlike = if changes { 2 } else { 0 };
        assert_eq!(world.status(homes[0]).pending, unlike);
        world.heal();
        world.run_ms(6_000);
        assert_eq!(pending(&world), 0);
        for peer in &homes[1..] {
            assert_eq!(here(&mut world, *peer) == register(1), changes);
        }
    }
}

/// A node that lost its disk comes back empty and mints again: its new dots are none of those that
/// it minted before.
#[test]
fn a_wiped_node_is_refilled_and_mints_other_dots() {
    for anti_entropy_ms in [0, 500] {
        let mut config = strict(Versions::Dotted, ReadRepair::Off);
        config.leaderless.anti_entropy_ms = anti_entropy_ms;
        let mut world = World::new(config, 5, 5);
        let (homes, _) = places();
        done(&mut world, homes[0], write(1));
        done(&mut world, homes[0], write(2));
        world.wipe(homes[0]);
        world.start(homes[0]);
        assert_eq!(
            pending(&world) > 0,
            anti_entropy_ms > 0,
            "empty, and it knows"
        );
        done(&mut world, homes[0], write(3));
        let reply = ask(&mut world, homes[1], read());
        assert_eq!(reply.result, Ok(siblings(&[1, 2, 3])));
        world.run_ms(5_000);
        assert_eq!(pending(&world), 0);
        let expected = if anti_entropy_ms > 0 {
            siblings(&[1, 2, 3])
        } else {
            siblings(&[3])
        };
        assert_eq!(here(&mut world, homes[0]), expected);
    }
}

#[test]
fn tombstones_are_collected_once_all_have_them() {
    for (versions, sloppy) in [(Versions::Lww, false), (Versions::Dotted, true)] {
        let config = config(Leaderless {
            versions,
            sloppy,
            anti_entropy_ms: 500,
            ..Leaderless::default()
        });
        let mut world = World::new(config, 5, 6);
        let (homes, others) = places();
        done(&mut world, homes[1], write(1));
        world.run_ms(2_000);
        world.isolate(&[homes[2]]);
        done(&mut world, homes[1], Request::new(Op::Delete("k".into())));
        world.script = Some(Vec::new());
        world.run_ms(20_000);
        let forgotten = |world: &World| {
            let script = world.script.iter().flatten();
            let own = script.filter(|line| line.contains("Forgotten { owner: None"));
            own.count()
        };
        assert_eq!(forgotten(&world), 0, "one home does not have it yet");
        world.heal();
        world.run_ms(10_000);
        assert_eq!(forgotten(&world), 3);
        assert_eq!(pending(&world), 0);
        for node in [homes[0], homes[2], others[1]] {
            assert_eq!(
                ask(&mut world, node, read()).result,
                Ok(Answer::Value(None))
            );
        }
    }
}

#[test]
fn a_journal_that_is_written_anew_holds_the_same() {
    let mut config = strict(Versions::Dotted, ReadRepair::Off);
    config.log_keep = 16;
    let mut world = World::new(config, 5, 7);
    world.script = Some(Vec::new());
    for n in 0..100 {
        world.ask(
            NodeId(1),
            Op::Write(format!("k{}", n % 3).into(), Scalar::Int(n)),
        );
        world.run_ms(20);
    }
    assert!(
        world
            .script
            .iter()
            .flatten()
            .any(|line| line.contains("Replace("))
    );
    let all = |world: &mut World| {
        nodes().map(|node| {
            let id = world.ask(node, Op::ReadAll);
            world.run_ms(10);
            world.reply(id).unwrap().result.clone()
        })
    };
    let before = all(&mut world);
    for node in nodes() {
        world.crash(node);
    }
    world.heal();
    assert_eq!(all(&mut world), before);
}

/// A request to mint that the network delivers again much later makes no second dot, by which what
/// was replaced would come back.
#[test]
fn a_duplicated_request_to_mint_is_carried_out_once() {
    let mut world = World::new(strict(Versions::Dotted, ReadRepair::Off), 5, 9);
    let (homes, others) = places();
    let mint = Message::Mint {
        number: 12,
        key: "k".into(),
        value: Some(Scalar::Int(1)),
        context: None,
        owner: None,
    };
    let mint = crate::core::Message::Leaderless(mint);
    world.forge(homes[0], others[0], mint.clone());
    let context = ask(&mut world, homes[0], read()).context;
    assert_eq!(here(&mut world, homes[0]), siblings(&[1]));
    let delete = Request::new(Op::Delete("k".into()));
    done(&mut world, homes[0], Request { context, ..delete });
    assert_eq!(here(&mut world, homes[0]), Answer::Value(None));
    world.forge(homes[0], others[0], mint);
    assert_eq!(here(&mut world, homes[0]), Answer::Value(None));
}

/// Whatever a peer says, a replica does not fall over.
#[test]
fn nonsense_from_a_peer_does_no_harm() {
    let config = sloppy(Versions::Dotted);
    let mut world = World::new(config, 5, 8);
    done(&mut world, NodeId(1), write(1));
    let key: Arc<str> = "k".into();
    let actor = Actor {
        node: NodeId(900),
        epoch: u64::MAX,
    };
    let entry = Entry::Dotted(Dotted {
        clock: [(actor, u32::MAX)].into(),
        siblings: [((actor, 7), Scalar::Nil)].into(),
    });
    let nonsense = [
        Message::Ack { number: 0 },
        Message::Got {
            number: u64::MAX,
            entry: Some(entry.clone()),
        },
        Message::Put {
            number: 1,
            key: key.clone(),
            entry: entry.clone(),
            owner: Some(NodeId(77)),
            repair: false,
        },
        Message::Mint {
            number: 2,
            key: "other".into(),
            value: Some(Scalar::Nil),
            context: Some("n65535:18446744073709551615".parse().unwrap()),
            owner: Some(NodeId(u16::MAX)),
        },
        Message::HandedOff {
            key: key.clone(),
            hash: 1,
        },
        Message::Roots {
            round: 1,
            roots: vec![(u16::MAX, u16::MAX, 1); 5_000],
        },
        Message::Compared {
            round: 9,
            same: true,
        },
        Message::Hashes {
            level: u8::MAX,
            hashes: vec![(0, u16::MAX, 1), (1, 3, 1)],
        },
        Message::Hashes {
            level: 1,
            hashes: vec![(0, u16::MAX, 1), (1, 3, 1)],
        },
        Message::Listing {
            range: 9_999,
            bucket: 9_999,
            from: "z".into(),
            until: Some("a".into()),
            keys: Vec::new(),
        },
        Message::Exchange {
            entries: vec![("new".into(), entry.clone())],
            want: vec![key.clone(); 10_000],
        },
        Message::Cover {
            key: "newer".into(),
            entry,
        },
        Message::Covered {
            key: key.clone(),
            hash: 0,
        },
        Message::Forget { key, hash: 0 },
    ];
    for message in nonsense {
        for from in [NodeId(2), NodeId(99)] {
            world.forge(
                NodeId(1),
                from,
                crate::core::Message::Leaderless(message.clone()),
            );
        }
    }
    world.run_ms(3_000);
    assert_eq!(
        ask(&mut world, NodeId(4), read()).result,
        Ok(siblings(&[1]))
    );
    // A hint for a node that does not exist is refused: nobody would ever take it.
    let standing: Vec<_> = nodes().map(|node| world.status(node).pending).into();
    assert_eq!(standing, [0; 5]);
}
