use super::*;
use crate::testing::{Script, ints};
use crate::{Kind, Verdict};

fn check(script: &Script) -> CheckResult {
    Siblings.check(&script.history())
}

/// Classes and operations of the anomalies.
fn found(script: &Script) -> Vec<(String, Vec<u64>)> {
    let anomalies = check(script).anomalies.into_iter();
    anomalies.map(|a| (a.class, a.ops)).collect()
}

fn one(class: &str, ops: &[u64]) -> Vec<(String, Vec<u64>)> {
    vec![(class.to_owned(), ops.to_vec())]
}

const NONE: [(String, Vec<u64>); 0] = [];

/// Two concurrent writes, of 1 (event 0) and of 2 (event 1).
fn concurrent() -> Script {
    let mut s = Script::new();
    s.key("k")
        .client(1, Kind::Invoke, F::Write, 1)
        .client(2, Kind::Invoke, F::Write, 2)
        .client(1, Kind::Ok, F::Write, 1)
        .client(2, Kind::Ok, F::Write, 2);
    s
}

fn replacing(s: &mut Script, kind: Kind, f: &F, value: impl Into<Value>, seen: &[i64]) {
    let value = value.into();
    s.client(3, Kind::Invoke, f.clone(), value.clone())
        .seen(ints(seen))
        .client(3, kind, f.clone(), value);
}

fn last(s: &mut Script, shown: impl Into<Value>) -> &mut Script {
    s.nemesis("phase", "final")
        .op(9, Kind::Ok, F::Read, shown.into())
}

#[test]
fn a_concurrent_write_that_vanishes_is_found() {
    let mut s = concurrent();
    assert_eq!(found(last(&mut s, ints(&[1, 2]))), NONE);
    assert_eq!(check(&s).verdict, Verdict::Valid);
    for shown in [ints(&[2]), Value::Int(2)] {
        let mut s = concurrent();
        assert_eq!(found(last(&mut s, shown)), one("vanished", &[0, 5]));
        assert_eq!(check(&s).verdict, Verdict::Invalid);
        assert_eq!(check(&s).figures["vanished"], 1);
        assert_eq!(check(&s).figures["acknowledged"], 2);
    }
    let mut s = concurrent();
    s.nemesis("phase", "final")
        .op(9, Kind::Ok, F::Read, ints(&[2]))
        .op(9, Kind::Ok, F::Read, ints(&[1]));
    assert_eq!(found(&s), NONE, "each is somewhere");
}

#[test]
fn who_had_read_it_may_replace_it_if_he_may_have_taken_effect() {
    for (kind, seen, gone) in [
        (Kind::Ok, &[1, 2][..], false),
        (Kind::Info, &[1, 2], false),
        (Kind::Fail, &[1, 2], true),
        (Kind::Ok, &[2], true),
        (Kind::Ok, &[], true),
    ] {
        for (f, value) in [(F::Write, Value::Int(3)), (F::Remove, Value::Nil)] {
            let mut s = concurrent();
            replacing(&mut s, kind, &f, value, seen);
            last(&mut s, ints(&[3]));
            let vanished: Vec<_> = found(&s)
                .into_iter()
                .filter(|(class, ops)| class == "vanished" && ops[0] == 0)
                .collect();
            assert_eq!(!vanished.is_empty(), gone, "{kind:?} {f:?} {seen:?}");
        }
    }
}

#[test]
fn a_blind_write_replaces_what_was_acknowledged_before_it_began() {
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Write, 2);
    assert_eq!(found(last(&mut s, 2)), NONE);
    // But what replaced it must not vanish in its turn.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Write, 2);
    assert_eq!(found(last(&mut s, 1)), one("vanished", &[2, 5]));
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(2, Kind::Ok, F::Cas, ints(&[1, 2]));
    assert_eq!(found(last(&mut s, 2)), NONE);
    // It began after all final reads had ended.
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, 1);
    last(&mut s, Value::Nil).op(2, Kind::Ok, F::Write, 2);
    assert_eq!(found(&s), one("vanished", &[0, 3]));
}

#[test]
fn what_was_replaced_must_not_come_back() {
    let mut s = concurrent();
    replacing(&mut s, Kind::Ok, &F::Write, 3, &[1]);
    assert_eq!(
        found(last(&mut s, ints(&[1, 2, 3]))),
        one("resurrected", &[0, 4, 7])
    );
    // Unless its replacement is not known to have taken effect.
    let mut s = concurrent();
    replacing(&mut s, Kind::Info, &F::Write, 3, &[1]);
    assert_eq!(found(last(&mut s, ints(&[1, 2]))), NONE);
    // A blind removal removes what was there, and not what came at the same time.
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .client(2, Kind::Invoke, F::Write, 2)
        .op(3, Kind::Ok, F::Remove, Value::Nil)
        .client(2, Kind::Ok, F::Write, 2);
    assert_eq!(
        found(last(&mut s, ints(&[1, 2]))),
        one("resurrected", &[0, 3, 7])
    );
    // A final read that shows it no longer settles it.
    s.op(9, Kind::Ok, F::Read, ints(&[2]));
    assert_eq!(found(&s), NONE);
}

#[test]
fn what_nobody_wrote_is_fabricated() {
    let mut s = concurrent();
    s.op(4, Kind::Fail, F::Write, 3)
        .op(5, Kind::Ok, F::Read, ints(&[1, 2, 3]))
        .op(5, Kind::Ok, F::Read, ints(&[1, 2, 4]))
        .op(5, Kind::Ok, F::Write, 4);
    last(&mut s, 4);
    let fabricated: Vec<_> = found(&s)
        .into_iter()
        .filter(|(class, _)| class == "fabricated")
        .collect();
    assert_eq!(fabricated[0], one("fabricated", &[6])[0]);
    assert_eq!(fabricated[1], one("fabricated", &[8])[0]);
}

#[test]
fn an_array_that_was_written_is_one_value() {
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Write, ints(&[1, 2]));
    assert_eq!(found(last(&mut s, ints(&[1, 2]))), NONE);
}

#[test]
fn what_cannot_be_judged_is_unknown() {
    let unknown = |reason: &str| Verdict::Unknown(reason.to_owned());
    let mut s = Script::new();
    s.key("k").op(1, Kind::Ok, F::Append, 1);
    assert_eq!(check(&s).verdict, unknown("nothing-to-judge"));
    let mut s = concurrent();
    s.nemesis("phase", "final");
    assert_eq!(check(&s).verdict, unknown("final-read-missing"));
    let mut s = Script::new();
    s.key("k")
        .op(1, Kind::Ok, F::Write, 1)
        .op(1, Kind::Ok, F::Write, 1);
    assert_eq!(
        check(&s).verdict,
        unknown("values-not-unique (1 keys); nothing-to-judge")
    );
}
