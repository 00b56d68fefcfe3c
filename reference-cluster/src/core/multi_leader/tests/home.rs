use super::*;
use crate::core::Admin;

/// Some key at home at this node.
fn key_of(world: &mut World, node: u16) -> String {
    for n in 0.. {
        let key = format!("k{n}");
        let id = world.ask(NodeId(node), write(&key, 0));
        world.run_ms(10);
        if result(world, id) == Ok(Answer::Done) {
            return key;
        }
    }
    unreachable!()
}

fn homes(world: &mut World, key: &str, n: i64) -> Vec<u16> {
    let nodes = world.nodes.clone();
    let asked = nodes
        .iter()
        .map(|node| (*node, world.ask(*node, write(key, n))));
    let asked: Vec<_> = asked.collect();
    world.run_ms(100);
    let done = asked.iter().filter(|(_, id)| result(world, *id).is_ok());
    done.map(|(node, _)| node.0).collect()
}

#[test]
fn each_key_is_written_at_its_home_only() {
    let mut world = World::new(config(Conflicts::Home), 4, 1);
    world.run_ms(500);
    let mut count = [0; 5];
    for n in 0..100 {
        let key = format!("key{n}");
        let home = homes(&mut world, &key, n);
        assert_eq!(home.len(), 1);
        count[usize::from(home[0])] += 1;
        let id = world.ask(NodeId(home[0] % 4 + 1), write(&key, n));
        world.run_ms(10);
        let leader = Some(NodeId(home[0]));
        assert_eq!(result(&world, id), Err(Refusal::NotLeader { leader }));
    }
    assert!(count[1..].iter().all(|keys| *keys > 10), "{count:?}");
    settle(&mut world);
    assert_converged(&mut world);
}

#[test]
fn a_home_can_be_moved() {
    let mut world = World::new(config(Conflicts::Home), 3, 1);
    world.run_ms(500);
    let key = key_of(&mut world, 1);
    world.ask(NodeId(2), Op::Admin(Admin::TakeHome(NodeId(1))));
    world.run_ms(500);
    assert_eq!(homes(&mut world, &key, 7), [2]);
    // And again, after the new home was started again.
    world.crash(NodeId(2));
    world.start(NodeId(2));
    world.ask(NodeId(3), Op::Admin(Admin::TakeHome(NodeId(2))));
    world.run_ms(500);
    assert_eq!(homes(&mut world, &key, 8), [3]);
    settle(&mut world);
    assert_eq!(look(&mut world, 1, &key), Some(Datum::Register(int(8))));
}

/// The weakness: the old home does not know, and both take writes, of which one side's are lost.
#[test]
fn a_home_moved_during_a_partition_loses_writes() {
    let mut world = World::new(config(Conflicts::Home), 3, 1);
    world.run_ms(500);
    let key = key_of(&mut world, 1);
    settle(&mut world);
    world.isolate(&[NodeId(1)]);
    world.ask(NodeId(2), Op::Admin(Admin::TakeHome(NodeId(1))));
    world.run_ms(500);
    assert_eq!(homes(&mut world, &key, 7), [1, 2]);
    settle(&mut world);
    assert_converged(&mut world);
    assert_eq!(homes(&mut world, &key, 8), [2]);
    let append = |n| Op::Append("l".into(), int(n));
    let mut world = World::new(config(Conflicts::Lww), 3, 1);
    let refused = world.ask(NodeId(2), Op::Admin(Admin::TakeHome(NodeId(1))));
    world.ask(NodeId(1), append(1));
    world.run_ms(10);
    assert!(matches!(
        result(&world, refused),
        Err(Refusal::Unsupported(_))
    ));
}
