//! Each mistake shows, and the same run without it is clean.

use super::*;

fn run(conflicts: Conflicts, bug: Option<Bug>, seed: u64, op: impl Fn(u64, NodeId) -> Op) -> World {
    let config = Config {
        bugs: bug.into_iter().collect(),
        ..config(conflicts)
    };
    let mut world = World::new(config, 3, seed);
    world.run_ms(500);
    world.loss = 100;
    for step in 0..50 {
        for node in world.nodes.clone() {
            world.ask(node, op(step, node));
        }
        world.run_ms(7);
    }
    settle(&mut world);
    world
}

fn diverges(world: &mut World) -> bool {
    let digests = digests(world);
    digests.iter().any(|digest| *digest != digests[0])
}

#[test]
fn counters_merged_by_adding_count_too_much() {
    for seed in 0..20 {
        let op = |_, _| Op::Increment("k".into(), 1);
        let bug = Some(Bug::CounterMergedByAdding);
        let mut world = run(Conflicts::Crdt, bug, seed, op);
        assert_ne!(look(&mut world, 1, "k"), Some(Datum::Counter(150)));
        let mut world = run(Conflicts::Crdt, None, seed, op);
        assert_eq!(look(&mut world, 1, "k"), Some(Datum::Counter(150)));
        assert!(!diverges(&mut world));
    }
}

#[test]
fn ties_that_each_decides_for_itself_make_replicas_diverge() {
    for seed in 0..20 {
        let op = |step: u64, node: NodeId| write("k", step as i64 * 10 + i64::from(node.0));
        let bug = Some(Bug::TieKeepsOwn);
        assert!(diverges(&mut run(Conflicts::Lww, bug, seed, op)), "{seed}");
        assert!(
            !diverges(&mut run(Conflicts::Lww, None, seed, op)),
            "{seed}"
        );
    }
}

#[test]
fn a_change_that_is_sent_once_may_never_arrive() {
    for seed in 0..20 {
        let op = |step: u64, node: NodeId| Op::Append(format!("k{step}-{}", node.0).into(), int(1));
        let bug = Some(Bug::ChangeSentOnce);
        assert!(diverges(&mut run(Conflicts::Lww, bug, seed, op)), "{seed}");
        assert!(
            !diverges(&mut run(Conflicts::Lww, None, seed, op)),
            "{seed}"
        );
    }
}
