//! One history for each phenomenon, small enough to be judged by eye.

use crate::format::{self, ReadOptions};
use crate::{CheckResult, Checker, ConsistencyModel, History, ListAppend, RwRegister, Verdict};

/// Transactions that all run at the same time, each by a process of its own: what they did, with
/// `!` before it if it failed and `?` if nobody knows.
fn together(txns: &[&str]) -> History {
    let mut text = String::new();
    for kind in ["invoke", "ok"] {
        for (process, txn) in txns.iter().enumerate() {
            text += &event(process, kind, txn);
        }
    }
    read(&text)
}

/// Transactions one after the other: process and what it did.
fn one_by_one(txns: &[(usize, &str)]) -> History {
    let mut text = String::new();
    for (process, txn) in txns {
        text += &event(*process, "invoke", txn);
        text += &event(*process, "ok", txn);
    }
    read(&text)
}

fn event(process: usize, kind: &str, txn: &str) -> String {
    let (kind, txn) = match (kind, txn.strip_prefix('!'), txn.strip_prefix('?')) {
        ("ok", Some(txn), _) => ("fail", txn),
        ("ok", _, Some(txn)) => ("info", txn),
        (_, failed, unknown) => (kind, failed.or(unknown).unwrap_or(txn)),
    };
    format!("{{:type :{kind} :f :txn :process {process} :value [{txn}]}}\n")
}

fn read(text: &str) -> History {
    let report = format::read_bytes(text.as_bytes(), None, &ReadOptions::default());
    report.unwrap().history
}

fn classes(result: &CheckResult) -> Vec<&str> {
    let mut classes: Vec<&str> = result.anomalies.iter().map(|a| a.class.as_str()).collect();
    classes.dedup();
    classes
}

#[track_caller]
fn lists(history: &History, expected: &[&str]) -> CheckResult {
    let result = ListAppend::default().check(history);
    assert_eq!(classes(&result), expected, "{:#?}", result.anomalies);
    let valid = expected.is_empty();
    assert_eq!(result.verdict == Verdict::Valid, valid);
    assert_eq!(result.verdict == Verdict::Invalid, !valid);
    result
}

#[track_caller]
fn registers(history: &History, checker: RwRegister, expected: &[&str]) -> CheckResult {
    let result = checker.check(history);
    assert_eq!(classes(&result), expected, "{:#?}", result.anomalies);
    result
}

fn strings<'r>(result: &'r CheckResult, figure: &str) -> Vec<&'r str> {
    let names = result.figures[figure].as_array().unwrap();
    names.iter().map(|n| n.as_str().unwrap()).collect()
}

#[test]
fn write_cycle() {
    let h = together(&[
        "[:append :x 1] [:append :y 1]",
        "[:append :x 2] [:append :y 2]",
        "[:r :x [1 2]] [:r :y [2 1]]",
    ]);
    let result = lists(&h, &["G0"]);
    assert_eq!(strings(&result, "not"), ["read-uncommitted"]);
    assert_eq!(
        result.anomalies[0].summary,
        "T1 = [append :x 1, append :y 1] (event 0, process 0), T2 = [append :x 2, append :y 2] \
         (event 1, process 1): T2 appended 2 to :x right after T1's 1; T1 appended 1 to :y right \
         after T2's 2. No order of these 2 transactions agrees with all of that"
    );
    assert_eq!(result.anomalies[0].ops, [0, 1]);
}

#[test]
fn reads_of_what_should_not_be_there() {
    lists(&together(&["![:append :x 1]", "[:r :x [1]]"]), &["G1a"]);
    lists(&together(&["?[:append :x 1]", "[:r :x [1]]"]), &[]);
    let h = together(&["![:append :x 1]", "[:append :x 2]", "[:r :x [1 2]]"]);
    lists(&h, &["G1a", "dirty-update"]);
    let h = together(&["[:append :x 1] [:append :x 2]", "[:r :x [1]]"]);
    lists(&h, &["G1b", "G-single"]);
    lists(
        &together(&["[:append :x 1]", "[:r :x [1 7]]"]),
        &["garbage-read"],
    );
    lists(
        &together(&["[:append :x 1]", "[:r :x [1 1]]"]),
        &["duplicate-elements"],
    );
    lists(&together(&["[:r :x [1]] [:append :x 1]"]), &["future-read"]);
}

#[test]
fn orders_that_do_not_fit() {
    let two = "[:append :x 1]";
    let h = together(&[two, "[:append :x 2]", "[:r :x [1 2]]", "[:r :x [2 1]]"]);
    lists(&h, &["incompatible-order"]);
    let h = together(&["[:append :x 1] [:append :x 2]", "[:r :x [2 1]]"]);
    lists(&h, &["incompatible-order", "G1b"]);
    let h = together(&["[:append :x 1] [:append :x 2]", "[:r :x [2]]"]);
    lists(&h, &["incompatible-order", "G-single"]);
}

#[test]
fn a_transaction_knows_what_it_did() {
    let internal = ["internal"];
    lists(&together(&["[:append :x 1] [:r :x [1]] [:r :x [1]]"]), &[]);
    lists(
        &together(&["[:append :x 1]", "[:append :x 2] [:r :x [1 2]]"]),
        &[],
    );
    let h = together(&[
        "[:append :x 1] [:append :x 2]",
        "[:append :x 3] [:r :x [1 2]]",
    ]);
    lists(&h, &internal);
    let h = together(&["[:append :x 1]", "[:r :x []] [:append :y 1] [:r :x [1]]"]);
    let result = lists(&h, &["G-single", "internal"]);
    assert!(!strings(&result, "not").contains(&"read-committed"));
    lists(
        &together(&["[:r :x []] [:append :x 1] [:r :x []]"]),
        &internal,
    );
}

#[test]
fn circular_information_flow() {
    let h = together(&["[:append :x 1] [:r :y [1]]", "[:append :y 1] [:r :x [1]]"]);
    let result = lists(&h, &["G1c"]);
    assert_eq!(strings(&result, "not"), ["read-committed"]);
    let told = &result.anomalies[0].summary;
    assert!(
        told.contains("T2 observed T1's append of 1 to :x"),
        "{told}"
    );
}

#[test]
fn read_skew() {
    let h = together(&["[:r :x []] [:r :y [1]]", "[:append :x 1] [:append :y 1]"]);
    let result = lists(&h, &["G-single"]);
    assert!(strings(&result, "not-ruled-out").contains(&"strong-read-committed"));
    let told = &result.anomalies[0].summary;
    let missed = "T1 read :x = nil and did not observe T2's append of 1";
    assert!(told.contains(missed), "{told}");
    // The example of TiDB in the paper on Elle.
    let h = together(&[
        "[:append 34 2]",
        "[:append 34 1]",
        "[:r 34 [2 1]] [:append 36 5] [:append 34 4]",
        "[:append 34 5]",
        "[:r 34 [2 1 5 4]]",
    ]);
    let result = lists(&h, &["G-single"]);
    assert_eq!(result.anomalies[0].ops, [2, 3]);
}

#[test]
fn long_fork() {
    let h = together(&[
        "[:append :x 1]",
        "[:append :y 1]",
        "[:r :x [1]] [:r :y []]",
        "[:r :x []] [:r :y [1]]",
    ]);
    let result = lists(&h, &["G-nonadjacent"]);
    assert_eq!(
        strings(&result, "not"),
        ["repeatable-read", "snapshot-isolation"]
    );
    assert!(strings(&result, "not-ruled-out").contains(&"parallel-snapshot-isolation"));
    assert_eq!(result.anomalies[0].figures["transactions"], 4);
}

#[test]
fn write_skew() {
    let h = together(&["[:r :x []] [:append :y 1]", "[:r :y []] [:append :x 1]"]);
    let result = lists(&h, &["G2-item"]);
    assert_eq!(strings(&result, "not"), ["repeatable-read"]);
    let model = ConsistencyModel::SnapshotIsolation;
    let result = ListAppend { model }.check(&h);
    assert_eq!(result.verdict, Verdict::Valid);
    assert!(result.anomalies.is_empty());
    let also = &result.figures["also-seen"][0];
    assert_eq!(also["class"], "G2-item");
    assert_eq!(result.figures["G2-item_count"], 1);
}

#[test]
fn lost_update() {
    let h = together(&["[:r :x []] [:append :x 1]", "[:r :x []] [:append :x 2]"]);
    lists(&h, &["lost-update", "G2-item"]);
    let h = together(&[
        "[:append :x 0]",
        "[:r :x [0]] [:append :x 1]",
        "[:r :x [0]] [:append :x 2]",
        "[:r :x [0 1 2]]",
    ]);
    let result = lists(&h, &["lost-update", "G-single"]);
    assert_eq!(result.anomalies[0].ops, [1, 2]);
}

#[test]
fn by_process_and_by_real_time() {
    lists(
        &one_by_one(&[(0, "[:append :x 1]"), (1, "[:r :x [1]]")]),
        &[],
    );
    let stale = |p| one_by_one(&[(0, "[:append :x 1]"), (p, "[:r :x []]")]);
    lists(&stale(0), &["G-single-process"]);
    let result = lists(&stale(1), &["G-single-realtime"]);
    let told = &result.anomalies[0].summary;
    let real_time = "T1 had completed (event 1) before T2 was invoked (event 2)";
    assert!(told.contains(real_time), "{told}");
    let h = one_by_one(&[
        (0, "[:append :x 1]"),
        (1, "[:append :x 2]"),
        (2, "[:r :x [2 1]]"),
    ]);
    let result = lists(&h, &["G0-realtime"]);
    assert_eq!(strings(&result, "not"), ["strong-read-uncommitted"]);
    let h = one_by_one(&[(0, "[:r :x [1]]"), (1, "[:append :x 1]")]);
    lists(&h, &["G1c-realtime"]);
    let h = one_by_one(&[
        (0, "[:append :x 1]"),
        (1, "[:append :y 1]"),
        (2, "[:r :x []] [:r :y [1]]"),
    ]);
    lists(&h, &["G-single-realtime"]);
}

#[test]
fn what_may_not_have_happened_is_only_known_by_what_was_seen() {
    lists(
        &together(&["?[:append :x 1]", "[:r :x []]", "[:append :y 1]"]),
        &[],
    );
    // It happened, as :x shows, and so :y was not seen.
    let h = together(&["?[:append :x 1] [:append :y 1]", "[:r :x [1]] [:r :y []]"]);
    lists(&h, &["G-single"]);
}

#[test]
fn values_written_twice_are_unknown() {
    let h = together(&["[:append :x 1]", "[:append :x 1]", "[:r :x [1 1]]"]);
    let result = ListAppend::default().check(&h);
    let reason = "repeated-appends: on 1 keys, of which nothing can be said; 1 was appended to :x \
                  more than once";
    assert_eq!(result.verdict, Verdict::Unknown(reason.into()));
    let h = together(&["[:w :x 1]", "[:w :x 1]", "[:r :x 1]"]);
    let result = RwRegister::default().check(&h);
    assert!(matches!(result.verdict, Verdict::Unknown(_)));
    let h = together(&["[:w :x nil] [:r :x nil]"]);
    let result = RwRegister::default().check(&h);
    assert!(matches!(result.verdict, Verdict::Unknown(_)));
}

#[test]
fn nothing_to_judge() {
    let unknown = Verdict::Unknown("nothing-to-judge".into());
    for h in [
        History::default(),
        together(&["[:append :x 1]"]),
        together(&["?[:append :x 1] [:r :x nil]"]),
    ] {
        assert_eq!(ListAppend::default().check(&h).verdict, unknown);
    }
    let h = together(&["[:w :x 1]", "[:r :x 1]"]);
    let result = ListAppend::default().check(&h);
    assert!(matches!(result.verdict, Verdict::Unknown(_)));
}

#[test]
fn registers_by_hand() {
    let plain = RwRegister::default();
    registers(&together(&["![:w :x 1]", "[:r :x 1]"]), plain, &["G1a"]);
    registers(
        &together(&["[:w :x 1] [:w :x 2]", "[:r :x 1]"]),
        plain,
        &["G1b"],
    );
    registers(&together(&["[:r :x 1] [:w :x 1]"]), plain, &["future-read"]);
    registers(&together(&["[:w :x 1] [:r :x nil]"]), plain, &["internal"]);
    let h = together(&["[:w :x 1] [:r :y 1]", "[:w :y 1] [:r :x 1]"]);
    registers(&h, plain, &["G1c"]);
    let h = together(&["[:r :x nil] [:r :y 1]", "[:w :x 1] [:w :y 1]"]);
    registers(&h, plain, &["G-single"]);
    let h = together(&["[:r :x nil] [:w :y 1]", "[:r :y nil] [:w :x 1]"]);
    registers(&h, plain, &["G2-item"]);
    let h = together(&["[:w :x 1]", "[:r :x 1] [:w :x 2]", "[:r :x 1] [:w :x 3]"]);
    registers(&h, plain, &["lost-update", "G2-item"]);
    let h = together(&[
        "[:w :x 1] [:w :y 1]",
        "[:r :x 1] [:w :x 2] [:w :y 2]",
        "[:r :x 2] [:r :y 1]",
    ]);
    registers(&h, plain, &[]);
    let h = together(&["[:w :x 1]", "[:w :x 2]", "[:r :x 8]", "[:r :x 9]"]);
    registers(&h, plain, &["garbage-read"]);
    let result = registers(&together(&["[:w :x 1]", "[:r :x 8]"]), plain, &[]);
    assert_eq!(result.figures["unwritten-values"], 1);
}

#[test]
fn registers_whose_keys_are_taken_to_be_linearizable() {
    let linearizable = RwRegister {
        linearizable_keys: true,
        ..RwRegister::default()
    };
    let plain = RwRegister::default();
    let stale = [(0, "[:w :x 1]"), (1, "[:w :x 2]"), (2, "[:r :x 1]")];
    registers(&one_by_one(&stale), plain, &[]);
    registers(&one_by_one(&stale), linearizable, &["cyclic-versions"]);
    // Overwritten in real time, and seen by who does not see the other key's write.
    let h = one_by_one(&[
        (0, "[:w :x 1]"),
        (1, "[:w :x 2] [:w :y 1]"),
        (2, "[:r :y 1]"),
    ]);
    registers(&h, linearizable, &[]);
    let h = read(
        &[
            event(0, "invoke", "[:w :x 1]"),
            event(0, "ok", "[:w :x 1]"),
            event(1, "invoke", "[:r :x 1] [:r :y 1]"),
            event(2, "invoke", "[:w :x 2] [:w :y 1]"),
            event(2, "ok", "[:w :x 2] [:w :y 1]"),
            event(1, "ok", "[:r :x 1] [:r :y 1]"),
        ]
        .concat(),
    );
    let model = ConsistencyModel::Serializable;
    registers(&h, RwRegister { model, ..plain }, &[]);
    let result = registers(
        &h,
        RwRegister {
            model,
            ..linearizable
        },
        &["G-single"],
    );
    let told = &result.anomalies[0].summary;
    assert!(told.contains("in the order assumed of versions"), "{told}");
    let sequential = RwRegister {
        sequential_keys: true,
        ..plain
    };
    let h = one_by_one(&[(0, "[:w :x 1]"), (0, "[:w :x 2]"), (0, "[:r :x 1]")]);
    registers(&h, sequential, &["cyclic-versions"]);
}
