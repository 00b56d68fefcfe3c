use super::*;

fn event(index: u64, process: u64, kind: Kind, f: F) -> Event {
    Event::new(
        index,
        index * 10,
        Process::Client(process),
        kind,
        f,
        Value::Nil,
    )
}

fn history(events: Vec<Event>) -> History {
    History { events }
}

#[test]
fn pairs_by_process_in_the_order_of_invocation() {
    let h = history(vec![
        event(0, 1, Kind::Invoke, F::Write),
        event(1, 2, Kind::Invoke, F::Read),
        event(2, 2, Kind::Ok, F::Read),
        event(3, 1, Kind::Info, F::Write),
        event(4, 3, Kind::Invoke, F::Cas),
    ]);
    let ops = h.operations().unwrap();
    let seen: Vec<_> = ops
        .iter()
        .map(|o| (o.invoke.index, o.outcome, o.completed_at()))
        .collect();
    assert_eq!(
        seen,
        [
            (0, Outcome::Info, None),
            (1, Outcome::Ok, Some(20)),
            (4, Outcome::Info, None)
        ]
    );
    assert!(!ops[0].precedes(&ops[2]));
    assert!(ops[1].precedes(&ops[2]));
}

/// Small numbers are looked up in a table, others are not.
#[test]
fn any_number_is_a_client() {
    for process in [0, 1, 70, 71, 1_000, u64::MAX] {
        let h = history(vec![
            event(0, process, Kind::Invoke, F::Write),
            event(1, process, Kind::Ok, F::Write),
            event(2, process, Kind::Invoke, F::Read),
            event(3, process.wrapping_add(1), Kind::Invoke, F::Read),
        ]);
        let paired = h.paired().unwrap();
        assert_eq!(paired.len(), 3);
        assert_eq!(paired.get(0).unwrap().completed_position, Some(1));
        let open = paired.iter().filter(|op| op.complete.is_none());
        assert_eq!(open.count(), 2);
    }
}

#[test]
fn nemesis_events_are_kept_apart() {
    let mut inject = event(1, 0, Kind::Info, F::Other("inject".into()));
    inject.process = Process::Nemesis;
    let mut phase = inject.clone();
    phase.index = 2;
    phase.f = F::Other("phase".into());
    phase.value = Value::str("final");
    let h = history(vec![event(0, 1, Kind::Invoke, F::Read), inject, phase]);
    assert_eq!(h.operations().unwrap().len(), 1);
    assert_eq!(h.nemesis().count(), 2);
    assert_eq!(h.final_phase(), Some(2));
}

#[test]
fn impossible_histories_are_refused_with_the_event() {
    let still_open = history(vec![
        event(0, 1, Kind::Invoke, F::Write),
        event(1, 1, Kind::Invoke, F::Write),
    ]);
    assert!(matches!(
        still_open.operations(),
        Err(HistoryError::StillOpen {
            index: 1,
            open: 0,
            ..
        })
    ));
    let not_invoked = history(vec![event(7, 1, Kind::Ok, F::Write)]);
    let error = not_invoked.operations().unwrap_err();
    assert_eq!(
        error.to_string(),
        "event 7: process 1 completes an operation that it has not invoked"
    );
    let twice = history(vec![
        event(0, 1, Kind::Invoke, F::Read),
        event(1, 1, Kind::Ok, F::Read),
        event(2, 1, Kind::Ok, F::Read),
    ]);
    let error = twice.operations().unwrap_err();
    assert!(matches!(error, HistoryError::NotInvoked { index: 2, .. }));
    let duplicate = history(vec![
        event(3, 1, Kind::Invoke, F::Read),
        event(3, 1, Kind::Ok, F::Read),
    ]);
    assert!(matches!(
        duplicate.operations(),
        Err(HistoryError::IndexNotIncreasing {
            index: 3,
            previous: 3
        })
    ));
    let mut back = event(2, 1, Kind::Ok, F::Read);
    back.time = 9;
    let back = history(vec![event(1, 1, Kind::Invoke, F::Read), back]);
    // Clocks may do that; positions decide.
    assert_eq!(back.operations().unwrap().len(), 1);
    let other = history(vec![
        event(0, 1, Kind::Invoke, F::Read),
        event(1, 1, Kind::Ok, F::Write),
    ]);
    assert!(matches!(
        other.operations(),
        Err(HistoryError::OtherFunction { index: 1, .. })
    ));
}
