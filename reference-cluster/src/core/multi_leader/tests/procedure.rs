use super::*;
use crate::core::Trace;

fn scripted(procedure: &str) -> Config {
    let mut config = config(Conflicts::Procedure);
    config.multi_leader.procedure = procedure.to_owned();
    config
}

/// Two concurrent writes at two nodes; what each node holds in the end.
fn merged(procedure: &str, a: Scalar, b: Scalar) -> (Vec<Scalar>, usize) {
    let mut world = World::new(scripted(procedure), 2, 1);
    world.run_ms(500);
    world.ask(NodeId(1), Op::Write("k".into(), a));
    world.ask(NodeId(2), Op::Write("k".into(), b));
    settle(&mut world);
    let held = [1, 2].map(|node| match look(&mut world, node, "k") {
        Some(Datum::Register(value)) => value,
        other => panic!("{other:?}"),
    });
    let failed = world.count(|trace| matches!(trace, Trace::Remark(_)));
    (held.to_vec(), failed)
}

#[test]
fn a_script_decides_on_concurrent_values() {
    let text = |text: &str| Scalar::Text(text.into());
    let least = "fn merge(ours, theirs) { if ours < theirs { ours } else { theirs } }";
    assert_eq!(merged(least, int(3), int(4)), (vec![int(3), int(3)], 0));
    let sum = "fn merge(a, b) { a + b }";
    assert_eq!(merged(sum, int(3), int(4)), (vec![int(7), int(7)], 0));
    let longer = "fn merge(a, b) { if a.len > b.len { a } else { b } }";
    let (held, failed) = merged(longer, text("long"), text("z"));
    assert_eq!((held, failed), (vec![text("long"), text("long")], 0));
    let nothing = "fn merge(a, b) { () }";
    assert_eq!(
        merged(nothing, int(3), int(4)).0,
        [Scalar::Nil, Scalar::Nil]
    );
}

#[test]
fn newer_values_are_no_business_of_the_script() {
    let mut world = World::new(scripted("fn merge(a, b) { -1 }"), 3, 1);
    world.run_ms(500);
    for n in 1..=6 {
        let node = NodeId(n as u16 % 3 + 1);
        world.ask(node, write("k", n));
        world.run_ms(500);
    }
    assert_eq!(look(&mut world, 2, "k"), Some(Datum::Register(int(6))));
}

#[test]
fn a_script_that_is_not_commutative_makes_replicas_diverge() {
    let (held, failed) = merged("fn merge(ours, theirs) { ours }", int(3), int(4));
    assert_eq!((held, failed), (vec![int(3), int(4)], 0));
}

#[test]
fn a_script_that_fails_or_runs_away_is_stopped() {
    for bad in [
        "fn merge(a, b) { loop { } }",
        "fn merge(a, b) { throw \"no\" }",
        "fn merge(a, b) { merge(a, b) }",
        "fn merge(a, b) { let s = \"x\"; loop { s += s; } }",
        "fn merge(a, b) { a / 0 }",
        "fn merge(a, b) { 'c' }",
        "fn merge(a, b) { true }",
        "fn merge(a, b) { unheard_of(a) }",
    ] {
        let (held, failed) = merged(bad, int(3), int(4));
        assert_eq!(held, [int(4), int(4)], "{bad}");
        assert_eq!(failed, 2, "{bad}");
    }
}

#[test]
fn what_does_not_compile_is_refused() {
    for (bad, expected) in [
        ("fn merge(a, b) { ", "line 1"),
        ("fn other(a, b) { a }", "merge(ours, theirs)"),
        ("fn merge(a) { a }", "merge(ours, theirs)"),
        ("", "merge(ours, theirs)"),
        ("fn merge(a, b) { eval(\"a\") }", "eval"),
    ] {
        let error = scripted(bad).validate(3).unwrap_err();
        assert_eq!(error.field, "multi_leader.procedure");
        assert!(error.message.contains(expected), "{error}");
    }
    // Not chosen, not compiled.
    let mut config = scripted("nonsense");
    config.multi_leader.conflicts = Conflicts::Lww;
    assert_eq!(config.validate(3), Ok(()));
    for (field, config) in [
        ("multi_leader.resend_ms", {
            let mut config = config.clone();
            config.multi_leader.resend_ms = 0;
            config
        }),
        ("multi_leader.procedure_steps", {
            let mut config = config.clone();
            config.multi_leader.procedure_steps = 99;
            config
        }),
    ] {
        assert_eq!(config.validate(3).unwrap_err().field, field);
    }
}
