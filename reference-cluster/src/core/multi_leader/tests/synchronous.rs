use super::*;

fn started(topology: Topology, seed: u64) -> World {
    let mut config = config(Conflicts::Synchronous);
    config.multi_leader.topology = topology;
    let mut world = World::new(config, 3, seed);
    world.run_ms(1_000);
    world
}

fn append(n: i64) -> Op {
    Op::Append("k".into(), int(n))
}

#[test]
fn a_write_is_answered_once_all_have_it() {
    for topology in TOPOLOGIES {
        let mut world = started(topology, 1);
        let id = world.ask(NodeId(2), append(1));
        world.run_ms(1_000);
        assert_eq!(result(&world, id), Ok(Answer::Done));
        for node in world.nodes.clone() {
            let read = world.ask(node, Op::Read("k".into()));
            let list = Datum::List(vec![int(1)]);
            assert_eq!(result(&world, read), Ok(Answer::Value(Some(list))));
        }
    }
}

#[test]
fn of_two_concurrent_writes_the_later_fails() {
    for seed in 0..50 {
        let mut world = started(Topology::AllToAll, seed);
        let later = world.ask(NodeId(3), append(3));
        let earlier = world.ask(NodeId(2), append(2));
        world.run_ms(500);
        assert_eq!(result(&world, earlier), Ok(Answer::Done), "seed {seed}");
        assert!(matches!(
            result(&world, later),
            Err(Refusal::Unavailable(_))
        ));
        settle(&mut world);
        let list = Some(Datum::List(vec![int(2)]));
        assert_eq!(look(&mut world, 1, "k"), list);
    }
}

#[test]
fn nothing_is_written_while_one_node_is_away() {
    let mut world = started(Topology::AllToAll, 1);
    world.isolate(&[NodeId(3)]);
    let ids = [1, 3].map(|node| world.ask(NodeId(node), append(node.into())));
    world.run_ms(2_000);
    for id in ids {
        assert!(matches!(result(&world, id), Err(Refusal::Unavailable(_))));
    }
    settle(&mut world);
    assert_eq!(look(&mut world, 2, "k"), None);
    let id = world.ask(NodeId(2), append(2));
    world.run_ms(500);
    assert_eq!(result(&world, id), Ok(Answer::Done));
}

/// Cut off between the promises and the acknowledgements, at every moment: the client is told
/// `unavailable` only if nothing was done, and reads never contradict each other.
#[test]
fn a_writer_cut_off_in_the_middle_keeps_its_word() {
    let (mut refused, mut unknown, mut waited) = (0, 0, 0);
    for seed in 0..60 {
        let mut world = started(Topology::AllToAll, seed);
        let id = world.ask(NodeId(1), append(1));
        world.run(seed * MILLISECOND / 8);
        world.isolate(&[NodeId(1)]);
        if seed % 3 == 0 {
            world.crash(NodeId(1));
        }
        world.run_ms(20);
        let read = world.ask(NodeId(2), Op::Read("k".into()));
        world.run_ms(3_000);
        waited += u64::from(matches!(result(&world, read), Err(Refusal::Unavailable(_))));
        let answer = world.reply(id).map(|reply| reply.result.clone());
        settle(&mut world);
        assert_converged(&mut world);
        let there = look(&mut world, 2, "k").is_some();
        match answer {
            Some(Ok(_)) => assert!(there, "seed {seed}"),
            Some(Err(Refusal::Unavailable(_))) => {
                refused += 1;
                assert!(!there, "seed {seed}");
            }
            Some(Err(Refusal::Indeterminate(_))) => {
                unknown += 1;
                assert!(there, "seed {seed}: it was made, and its maker lives");
            }
            Some(other) => panic!("{other:?}"),
            None => assert_eq!(seed % 3, 0, "seed {seed}: no answer"),
        }
    }
    assert!(
        refused > 5 && unknown > 5 && waited > 5,
        "{refused} {unknown} {waited}"
    );
}

/// Lists that are appended to show their whole past: so each read must be a prefix of each later
/// one, wherever it is made, and each acknowledged append be in all later ones.
#[test]
fn reads_and_writes_are_linearizable() {
    let mut all_done = 0;
    for seed in 0..300 {
        let mut config = config(Conflicts::Synchronous);
        config.multi_leader.topology = TOPOLOGIES[(seed % 3) as usize];
        config.log_keep = 16 + seed % 2 * 1_000;
        let mut world = World::new(config, 3, seed);
        world.run_ms(1_000);
        // For each read or append: when it was asked, and what had been shown or done by then.
        let mut asked: Vec<(RequestId, Vec<i64>)> = Vec::new();
        let mut shown: Vec<i64> = Vec::new();
        let elements = |world: &World, id| match &world.reply(id)?.result {
            Ok(Answer::Value(Some(Datum::List(list)))) => Some(
                list.iter()
                    .map(|element| match element {
                        Scalar::Int(n) => *n,
                        other => panic!("{other:?}"),
                    })
                    .collect::<Vec<i64>>(),
            ),
            Ok(Answer::Value(None)) => Some(Vec::new()),
            _ => None,
        };
        torment(&mut world, 120, false, |world, _, _| {
            for (id, _) in &asked {
                match world.asked[id] {
                    Op::Append(_, Scalar::Int(n)) => {
                        let done = world.reply(*id).is_some_and(|reply| reply.result.is_ok());
                        if done && !shown.contains(&n) {
                            shown.push(n);
                        }
                    }
                    _ => {
                        for n in elements(world, *id).unwrap_or_default() {
                            if !shown.contains(&n) {
                                shown.push(n);
                            }
                        }
                    }
                }
            }
            let id = RequestId(world.asked.len() as u64 + 1);
            asked.push((id, shown.clone()));
            Request::new(if world.draw(2) == 0 {
                append(id.0 as i64)
            } else {
                Op::Read("k".into())
            })
        });
        settle(&mut world);
        assert_converged(&mut world);
        let Some(Datum::List(last)) = look(&mut world, 1, "k") else {
            continue;
        };
        let last: Vec<i64> = last
            .iter()
            .map(|element| match element {
                Scalar::Int(n) => *n,
                other => panic!("{other:?}"),
            })
            .collect();
        for (id, before) in &asked {
            if let Some(read) = elements(&world, *id) {
                assert!(last.starts_with(&read), "seed {seed}: {read:?} of {last:?}");
                for n in before {
                    assert!(read.contains(n), "seed {seed}: {n} not in {read:?}");
                }
            } else if let Op::Append(_, Scalar::Int(n)) = world.asked[id] {
                match world.reply(*id).map(|reply| &reply.result) {
                    Some(Ok(_)) => {
                        all_done += 1;
                        assert!(last.contains(&n), "seed {seed}: {n} is lost");
                    }
                    Some(Err(Refusal::Unavailable(_))) => {
                        assert!(!last.contains(&n), "seed {seed}: {n} was done");
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(all_done > 1_000, "{all_done}: too calm");
}
