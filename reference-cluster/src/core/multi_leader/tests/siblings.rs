use super::*;
use crate::core::VersionVector;

fn siblings(values: &[i64]) -> Option<Datum> {
    (!values.is_empty()).then(|| Datum::Siblings(values.iter().copied().map(int).collect()))
}

fn replace(world: &mut World, node: u16, op: Op, context: Option<VersionVector>) -> RequestId {
    world.request(
        NodeId(node),
        Request {
            context,
            ..Request::new(op)
        },
    )
}

#[test]
fn a_write_replaces_what_its_context_covers() {
    let mut world = World::new(config(Conflicts::Siblings), 3, 1);
    world.run_ms(500);
    world.ask(NodeId(1), write("k", 1));
    world.ask(NodeId(2), write("k", 2));
    world.run_ms(500);
    let read = look_closely(&mut world, 3, "k");
    assert_eq!(read.result, Ok(Answer::Value(siblings(&[1, 2]))));
    // A third value comes between the read and the write.
    world.ask(NodeId(1), write("k", 3));
    world.run_ms(500);
    replace(&mut world, 2, write("k", 4), read.context.clone());
    world.run_ms(500);
    for node in 1..=3 {
        assert_eq!(look(&mut world, node, "k"), siblings(&[3, 4]));
    }
    let refused = replace(&mut world, 2, Op::Delete("k".into()), None);
    world.run_ms(10);
    assert!(matches!(
        result(&world, refused),
        Err(Refusal::Unsupported(_))
    ));
    let read = look_closely(&mut world, 1, "k");
    replace(&mut world, 3, Op::Delete("k".into()), read.context);
    settle(&mut world);
    for node in 1..=3 {
        assert_eq!(look(&mut world, node, "k"), None);
    }
    // Written again, it does not come back with what was deleted.
    world.ask(NodeId(2), write("k", 5));
    settle(&mut world);
    assert_eq!(look(&mut world, 1, "k"), siblings(&[5]));
}

/// Every acknowledged write is there in the end, or some other was written in its place by a
/// client that had read it.
#[test]
fn no_acknowledged_write_vanishes_unresolved() {
    for seed in 0..300 {
        let mut config = config(Conflicts::Siblings);
        config.multi_leader.topology = TOPOLOGIES[(seed % 3) as usize];
        config.log_keep = 16 + seed % 2 * 1_000;
        let mut world = World::new(config, 4, seed);
        // What is known of each value: which it replaced.
        let mut replaced: Vec<(RequestId, i64, Vec<Scalar>)> = Vec::new();
        let mut last: Option<(Vec<Scalar>, Option<VersionVector>, String)> = None;
        let mut unique = 0;
        let mut reads = Vec::new();
        torment(&mut world, 100, false, |world, _, _| {
            let key = format!("k{}", world.draw(2));
            let id = RequestId(world.asked.len() as u64 + 1);
            let read = reads
                .iter()
                .rev()
                .find_map(|(id, key): &(RequestId, String)| {
                    let reply = world.reply(*id)?;
                    let Ok(Answer::Value(Some(Datum::Siblings(values)))) = &reply.result else {
                        return None;
                    };
                    Some((values.clone(), reply.context.clone(), key.clone()))
                });
            last = read.or(last.take());
            unique += 1;
            match (world.draw(3), &last) {
                (0, _) | (_, None) if world.draw(2) == 0 => {
                    reads.push((id, key.clone()));
                    Request::new(Op::Read(key.as_str().into()))
                }
                (1, Some((seen, context, key))) => {
                    replaced.push((id, unique, seen.clone()));
                    Request {
                        context: context.clone(),
                        ..Request::new(write(key, unique))
                    }
                }
                _ => {
                    replaced.push((id, unique, Vec::new()));
                    Request::new(write(&key, unique))
                }
            }
        });
        settle(&mut world);
        assert_converged(&mut world);
        let mut there = Vec::new();
        for key in ["k0", "k1"] {
            if let Some(Datum::Siblings(values)) = look(&mut world, 1, key) {
                there.extend(values);
            }
        }
        let mut acknowledged = 0;
        for (id, value, _) in &replaced {
            if world.reply(*id).is_none_or(|reply| reply.result.is_err()) {
                continue;
            }
            acknowledged += 1;
            let by_another = replaced
                .iter()
                .any(|(_, _, seen)| seen.contains(&int(*value)));
            assert!(
                there.contains(&int(*value)) || by_another,
                "seed {seed}: {value} is gone"
            );
        }
        assert!(acknowledged > 20, "seed {seed}: too calm");
    }
}
