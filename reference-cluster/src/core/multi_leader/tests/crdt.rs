use std::collections::BTreeSet;

use super::*;

/// Everything acknowledged is there: increments, additions, fields and elements of a text, and
/// concurrent ones at that. Only a wipe takes something away.
#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 0..300 {
        let mut config = config(Conflicts::Crdt);
        config.multi_leader.topology = TOPOLOGIES[(seed % 3) as usize];
        config.log_keep = 16 + seed % 2 * 1_000;
        let mut world = World::new(config, 4, seed);
        let mut unique = 0;
        torment(&mut world, 100, false, |world, _, _| {
            unique += 1;
            let n = int(unique);
            Request::new(match world.draw(6) {
                0 => Op::Increment("counter".into(), 1),
                1 => Op::Increment("counter".into(), -1_000),
                2 => Op::Add("set".into(), n),
                3 => Op::Put("map".into(), n.clone(), n),
                4 => Op::Append("text".into(), n),
                _ => Op::Insert("text".into(), int(unique / 2), n),
            })
        });
        settle(&mut world);
        assert_converged(&mut world);
        let elements = |datum: Option<Datum>| -> BTreeSet<Scalar> {
            match datum {
                Some(Datum::List(list)) => {
                    let set: BTreeSet<_> = list.iter().cloned().collect();
                    assert_eq!(set.len(), list.len(), "seed {seed}: something came twice");
                    set
                }
                Some(Datum::Set(set)) => set,
                Some(Datum::Map(map)) => map.into_keys().collect(),
                None => BTreeSet::new(),
                other => panic!("{other:?}"),
            }
        };
        let [set, map, text] = ["set", "map", "text"].map(|key| elements(look(&mut world, 2, key)));
        let (mut least, mut most, mut done) = (0, 0, 0);
        for (id, op) in &world.asked {
            let ok = world.reply(*id).is_some_and(|reply| reply.result.is_ok());
            done += u64::from(ok);
            match op {
                Op::Increment(_, amount) => {
                    least += if ok || *amount < 0 { *amount } else { 0 };
                    most += if ok || *amount > 0 { *amount } else { 0 };
                }
                Op::Add(_, n) => assert!(!ok || set.contains(n), "seed {seed}: {n:?}"),
                Op::Put(_, n, _) => assert!(!ok || map.contains(n), "seed {seed}: {n:?}"),
                Op::Append(_, n) | Op::Insert(_, _, n) => {
                    assert!(!ok || text.contains(n), "seed {seed}: {n:?}");
                }
                _ => {}
            }
        }
        let sum = match look(&mut world, 3, "counter") {
            Some(Datum::Counter(sum)) => sum,
            None => 0,
            other => panic!("{other:?}"),
        };
        assert!(
            (least..=most).contains(&sum),
            "seed {seed}: {sum} of {least}..={most}"
        );
        assert!(done > 50, "seed {seed}: too calm");
    }
}

/// The calendar: each device is away in turn, and its owner goes on writing.
#[test]
fn devices_that_were_offline_have_everything_after_syncing() {
    for topology in TOPOLOGIES {
        for seed in 0..20 {
            let offline = |conflicts, op: &dyn Fn(i64) -> Op| {
                let mut config = config(conflicts);
                config.multi_leader.topology = topology;
                config.log_keep = 16 + seed % 2 * 1_000;
                let mut world = World::new(config, 3, seed);
                world.run_ms(500);
                let mut n = 0;
                for round in 0..6 {
                    let device = NodeId(round % 3 + 1);
                    world.cut.clear();
                    world.isolate(&[device]);
                    for _ in 0..20 {
                        for node in world.nodes.clone() {
                            let id = world.ask(node, op(n));
                            n += 1;
                            world.run_ms(10);
                            assert_eq!(result(&world, id), Ok(Answer::Done));
                        }
                    }
                }
                settle(&mut world);
                assert_converged(&mut world);
                (look(&mut world, 2, "calendar"), n)
            };
            let (all, n) = offline(Conflicts::Crdt, &|n| Op::Add("calendar".into(), int(n)));
            assert_eq!(all, Some(Datum::Set((0..n).map(int).collect())));
            let (all, n) = offline(Conflicts::Siblings, &|n| write("calendar", n));
            assert_eq!(all, Some(Datum::Siblings((0..n).map(int).collect())));
        }
    }
}

#[test]
fn what_does_not_commute_is_refused() {
    let mut world = World::new(config(Conflicts::Crdt), 1, 1);
    let mut ask = |op| {
        let id = world.ask(NodeId(1), op);
        world.run_ms(10);
        result(&world, id)
    };
    assert_eq!(ask(Op::Increment("k".into(), -3)), Ok(Answer::Done));
    let wrong = Err(Refusal::WrongKind("counter".into()));
    assert_eq!(ask(Op::Add("k".into(), int(1))), wrong);
    assert_eq!(ask(Op::Remove("k".into(), int(1))), wrong);
    for op in [
        Op::Delete("k".into()),
        Op::Cas("r".into(), Scalar::Nil, int(1)),
        Op::Generate("l".into(), crate::core::Function::Now),
    ] {
        assert!(matches!(ask(op), Err(Refusal::Unsupported(_))));
    }
    let read = Ok(Answer::Value(Some(Datum::Counter(-3))));
    assert_eq!(ask(Op::Read("k".into())), read);
}
