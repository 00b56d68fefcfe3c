use super::*;

#[test]
fn every_node_takes_writes_and_has_those_of_others() {
    for topology in TOPOLOGIES {
        let mut config = config(Conflicts::Lww);
        config.multi_leader.topology = topology;
        let mut world = World::new(config, 5, 1);
        world.run_ms(500);
        let asked: Vec<_> = (1..=5)
            .map(|n| world.ask(NodeId(n), write(&format!("k{n}"), n.into())))
            .collect();
        assert!(
            world.reply(asked[0]).is_none(),
            "acknowledged before it was durable"
        );
        world.run_ms(100);
        for id in asked {
            assert_eq!(result(&world, id), Ok(Answer::Done));
        }
        for n in 1..=5 {
            assert_eq!(
                look(&mut world, n % 5 + 1, &format!("k{n}")),
                Some(Datum::Register(int(n.into())))
            );
        }
        settle(&mut world);
        assert_converged(&mut world);
    }
}

/// What the mode costs, with no fault at all.
#[test]
fn of_two_concurrent_writes_one_is_lost() {
    let mut world = World::new(config(Conflicts::Lww), 3, 1);
    world.run_ms(500);
    let a = world.ask(NodeId(1), Op::Append("k".into(), int(1)));
    let b = world.ask(NodeId(2), Op::Append("k".into(), int(2)));
    world.run_ms(500);
    assert_eq!(
        [result(&world, a), result(&world, b)],
        [Ok(Answer::Done), Ok(Answer::Done)]
    );
    for node in 1..=3 {
        assert_eq!(look(&mut world, node, "k"), Some(Datum::List(vec![int(2)])));
    }
}

#[test]
fn what_was_deleted_stays_so() {
    let mut world = World::new(config(Conflicts::Lww), 3, 1);
    world.ask(NodeId(1), write("k", 1));
    world.run_ms(500);
    world.ask(NodeId(2), Op::Delete("k".into()));
    world.run_ms(500);
    world.wipe(NodeId(3));
    settle(&mut world);
    for node in 1..=3 {
        assert_eq!(look(&mut world, node, "k"), None);
    }
}

#[test]
fn the_hybrid_clock_orders_what_was_seen() {
    for (clock, expected) in [(Clock::Wall, 1), (Clock::Hybrid, 2)] {
        let mut config = config(Conflicts::Lww);
        config.multi_leader.clock = clock;
        let mut fast = super::super::clock::Clocked::new(clock);
        let mut slow = super::super::clock::Clocked::new(clock);
        // The one node's clock is ahead; the other writes after it has seen that.
        let first = fast.tick(60_000 * MILLISECOND);
        slow.see(first);
        let second = slow.tick(1_000 * MILLISECOND);
        assert_eq!(if second > first { 2 } else { 1 }, expected);
    }
}
