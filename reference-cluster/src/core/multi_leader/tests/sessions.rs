use super::*;
use crate::core::VersionVector;

fn ask(world: &mut World, node: u16, op: Op, session: Option<VersionVector>) -> RequestId {
    world.request(
        NodeId(node),
        Request {
            session,
            ..Request::new(op)
        },
    )
}

#[test]
fn a_client_reads_its_own_writes_at_another_node_or_waits() {
    for conflicts in [Conflicts::Lww, Conflicts::Crdt, Conflicts::Procedure] {
        let mut world = World::new(config(conflicts), 3, 1);
        world.run_ms(500);
        let id = world.ask(NodeId(1), write("k", 1));
        world.run(MILLISECOND + 1);
        let session = world.reply(id).unwrap().session.clone();
        let free = ask(&mut world, 2, Op::Read("k".into()), None);
        assert_eq!(result(&world, free), Ok(Answer::Value(None)));
        let bound = ask(&mut world, 2, Op::Read("k".into()), session);
        assert_eq!(world.reply(bound), None, "it has not come yet");
        world.run_ms(100);
        let value = Datum::Register(int(1));
        assert_eq!(result(&world, bound), Ok(Answer::Value(Some(value))));
    }
}

#[test]
fn who_cannot_catch_up_refuses() {
    let mut world = World::new(config(Conflicts::Lww), 3, 1);
    world.run_ms(500);
    world.isolate(&[NodeId(2)]);
    let id = world.ask(NodeId(1), write("k", 1));
    world.run_ms(10);
    let session = world.reply(id).unwrap().session.clone();
    let read = ask(&mut world, 2, Op::Read("k".into()), session.clone());
    let written = ask(&mut world, 2, write("k", 2), session);
    world.run_ms(900);
    assert_eq!(world.reply(read), None);
    world.run_ms(200);
    for id in [read, written] {
        assert!(matches!(result(&world, id), Err(Refusal::Unavailable(_))));
    }
}

/// Causal: nobody sees an answer without the question, in whichever order they arrive.
#[test]
fn what_was_seen_before_a_write_comes_before_it_everywhere() {
    let mut early = 0;
    for seed in 0..300 {
        let mut config = config(Conflicts::Lww);
        config.multi_leader.topology = TOPOLOGIES[(seed % 3) as usize];
        let mut world = World::new(config, 4, seed);
        world.run_ms(500);
        world.delay_max = 100 * MILLISECOND;
        world.loss = 100;
        world.ask(NodeId(1), write("question", 1));
        let mut answered = false;
        for _ in 0..200 {
            world.run_ms(5);
            if !answered && look(&mut world, 2, "question").is_some() {
                world.ask(NodeId(2), write("answer", 1));
                answered = true;
            }
            for node in [3, 4] {
                let answer = look(&mut world, node, "answer");
                early += u64::from(answer.is_some() && world.now < 700 * MILLISECOND);
                assert!(
                    answer.is_none() || look(&mut world, node, "question").is_some(),
                    "seed {seed}: n{node}"
                );
            }
        }
        assert!(answered);
    }
    assert!(early > 100, "{early}: too slow to be told apart");
}
