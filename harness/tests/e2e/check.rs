//! `quorate check` on recorded histories of every format, and the reports of a run.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::{quorate, run_dir};

fn check(text: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    std::fs::write(&file, text).unwrap();
    quorate()
        .arg("check")
        .args(args)
        .arg(file)
        .output()
        .unwrap()
}

/// A register that is written 1, then 2, then read as `read`.
fn edn(read: u8) -> String {
    let ops = [
        (0, "write", "1".to_owned()),
        (1, "write", "2".to_owned()),
        (0, "read", read.to_string()),
    ];
    let mut text = String::from("[");
    for (process, f, value) in ops {
        let argument = if f == "read" { "nil" } else { &value };
        writeln!(
            text,
            "{{:process {process}, :type :invoke, :f :{f}, :value {argument}}}"
        )
        .unwrap();
        writeln!(
            text,
            "{{:process {process}, :type :ok, :f :{f}, :value {value}}}"
        )
        .unwrap();
    }
    text + "]"
}

#[test]
fn jepsen_edn_is_judged() {
    let good = check(
        &edn(2),
        &["--workload", "register", "--checks", "linearizable"],
    );
    assert_eq!(
        good.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    let bad = check(&edn(1), &["--checks", "linearizable", "-o", "json"]);
    assert_eq!(bad.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(verdict["results"][0]["checker"], "linearizable");
    assert!(
        verdict["results"][0]["anomalies"][0]["ops"]
            .as_array()
            .unwrap()
            .len()
            >= 2
    );
}

#[test]
fn jepsen_text_logs_are_judged() {
    let log = |read| {
        format!(
            "INFO  jepsen.util - 0 :invoke :write 1\nINFO  jepsen.util - 0 :ok :write 1\n\
             INFO  jepsen.util - 1 :invoke :write 2\nINFO  jepsen.util - 1 :ok :write 2\n\
             INFO  jepsen.util - 0 :invoke :read nil\nINFO  jepsen.util - 0 :ok :read {read}\n"
        )
    };
    for (read, code) in [(2, 0), (1, 1)] {
        let output = check(&log(read), &["--checks", "linearizable"]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_history_that_cannot_be_is_refused_in_one_line() {
    let line = |index: u64, process: u64, kind: &str| {
        format!(
            r#"{{"index":{index},"time":{index},"process":{process},"type":"{kind}","f":"write","key":"k","value":1}}"#
        )
    };
    for (first, second, says) in [
        ((0, "invoke"), (0, "invoke"), "still open"),
        ((0, "invoke"), (1, "ok"), "has not invoked"),
    ] {
        let text = format!(
            "{}\n{}\n",
            line(0, first.0, first.1),
            line(1, second.0, second.1)
        );
        let output = check(&text, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(254), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains(says), "{said}");
    }
}

#[test]
fn engines_models_and_budgets_can_be_chosen() {
    for engine in ["auto", "zones", "jit", "porcupine"] {
        for (read, code) in [(2, 0), (1, 1)] {
            let args = ["--checks", "linearizable", "--engine", engine];
            assert_eq!(
                check(&edn(read), &args).status.code(),
                Some(code),
                "{engine}"
            );
        }
    }
    // A register is no queue, and nothing can be decided within nothing.
    let queue = check(&edn(2), &["--model", "queue"]);
    assert_eq!(queue.status.code(), Some(2));
    let budget = [
        "--engine",
        "jit",
        "--configurations-per-key",
        "0",
        "-o",
        "json",
    ];
    let spent = check(
        &edn(1),
        &[&["--checks", "linearizable"], &budget[..]].concat(),
    );
    let said = String::from_utf8_lossy(&spent.stdout).into_owned();
    assert_eq!(spent.status.code(), Some(2), "{said}");
    assert!(
        said.contains("budget: 0 configurations at the object, at event "),
        "{said}"
    );
    for bad in [
        ["--engine", "fast"],
        ["--model", "tree"],
        ["--consistency-model", "best"],
    ] {
        let refused = check(&edn(2), &bad);
        assert_eq!(refused.status.code(), Some(254));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.lines().count() == 1 && said.contains("expected one of"),
            "{said}"
        );
    }
}

#[test]
fn a_history_without_acknowledgements_is_unknown() {
    let line = |kind| {
        format!(
            r#"{{"index":{},"time":1,"process":0,"type":"{kind}","f":"append","key":"k","value":1}}"#,
            u8::from(kind == "info")
        )
    };
    let text = format!("{}\n{}\n", line("invoke"), line("info"));
    let output = check(&text, &["--workload", "append", "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        verdict["reason"]
            .as_str()
            .unwrap()
            .contains("nothing-to-judge"),
        "{verdict}"
    );
}

#[test]
fn recorded_histories_with_known_verdicts_are_agreed_with() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/histories");
    let file = |name: &str| -> PathBuf { folder.join(name) };
    if !folder.exists() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let cases = [
        ("porcupine/kv/c10-ok.txt", 0),
        ("porcupine/kv/c10-bad.txt", 1),
        ("porcupine/jepsen/etcd_001.log", 1),
        ("porcupine/jepsen/etcd_007.log", 0),
    ];
    for (name, code) in cases {
        let output = quorate().arg("check").arg(file(name)).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_run_is_judged_again_in_every_output_format() {
    let dir = tempfile::tempdir().unwrap();
    let test = quorate()
        .args([
            "test",
            "--on",
            "sim",
            "--seed",
            "3",
            "--time-limit",
            "10s",
            "-o",
            "json",
            "--store",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(test.status.code(), Some(1));
    let first: Value = serde_json::from_slice(&test.stdout).unwrap();
    let run = run_dir(dir.path());
    for (format, needle) in [
        ("table", "INVALID"),
        ("json", "\"verdict\""),
        ("yaml", "verdict: invalid"),
        ("junit", "<testsuite"),
        ("md", "acknowledged"),
    ] {
        let output = quorate()
            .args(["report", "-o", format])
            .arg(&run)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{format}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(needle), "{format}: {text}");
    }
    let text = std::fs::read_to_string(run.join("verdict.json")).unwrap();
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(again, first, "judging again changes nothing");
    assert!(
        run.join("truth.json").exists(),
        "the simulation emits its ground truth"
    );
}

#[test]
fn old_runs_are_cleaned_and_the_newest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let test = quorate()
        .args([
            "test",
            "--on",
            "sim",
            "--seed",
            "1",
            "--time-limit",
            "2s",
            "--nemesis",
            "none",
        ])
        .args(["--test-count", "3", "-o", "json", "--store"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(
        test.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&test.stdout)
    );
    let newest = run_dir(dir.path());
    let clean = |extra: &[&str]| {
        let output = quorate()
            .args(["clean", "--keep", "1", "--store"])
            .arg(dir.path())
            .args(extra)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        quorate::store::runs(dir.path()).unwrap().len()
    };
    assert_eq!(clean(&["--dry-run"]), 3);
    assert_eq!(clean(&[]), 1);
    assert!(newest.exists());
}

/// A compare-and-set that was refused although the register held what it expected all the time.
fn refused_for_no_reason() -> String {
    let lines = [
        "0 :invoke :write 1",
        "0 :ok :write 1",
        "0 :invoke :cas [1 2]",
        "0 :fail :cas [1 2]",
        "0 :invoke :read nil",
        "0 :ok :read 1",
    ];
    lines.iter().fold(String::new(), |text, line| {
        text + "INFO  jepsen.util - " + *line + "\n"
    })
}

#[test]
fn what_a_refused_cas_says_can_be_chosen() {
    for (flag, code) in [("constrains", 1), ("says-nothing", 0)] {
        let args = ["--checks", "linearizable", "--refused-cas", flag];
        assert_eq!(
            check(&refused_for_no_reason(), &args).status.code(),
            Some(code),
            "{flag}"
        );
    }
    let output = check(&refused_for_no_reason(), &["--checks", "linearizable"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "etcd's reading for etcd's logs"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("--refused-cas"));
}

#[test]
fn checkers_that_a_recorded_history_gives_nothing_to_go_by_are_left_out_and_named() {
    let output = check(&edn(2), &["--workload", "register", "-o", "json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("not judged: split-brain: no-witnesses"),
        "{stderr}"
    );
    // Asked for by name, it answers.
    let output = check(&edn(2), &["--checks", "split-brain"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_functions_in_a_history_choose_its_checkers() {
    let line = |index: u64, kind: &str, f: &str, value: &str, more: &str| {
        format!(
            r#"{{"index":{index},"time":{index},"process":0,"type":"{kind}","f":"{f}","key":"k","value":{value}{more}}}"#
        ) + "\n"
    };
    let history = |ops: &[(&str, &str, &str)]| -> String {
        let events = ops.iter().zip(0..).map(|((f, value, more), i)| {
            line(2 * i, "invoke", f, value, more) + line(2 * i + 1, "ok", f, value, more).as_str()
        });
        events.collect()
    };
    for (ops, code, judged) in [
        (
            &[("increment", "2", ""), ("read", "3", "")][..],
            1,
            "counter",
        ),
        (
            &[("acquire", "1", ""), ("release", "1", "")],
            0,
            "mutual-exclusion",
        ),
        (
            &[
                ("write", "1", ""),
                ("inspect", "1", r#","node":"n1""#),
                ("inspect", "2", r#","node":"n2""#),
            ],
            1,
            "convergence",
        ),
        (
            &[
                ("write", "1", ""),
                ("write", "2", r#","seen":[1]"#),
                ("read", "[2]", ""),
            ],
            0,
            "siblings",
        ),
        (&[("append", "1", ""), ("read", "[]", "")], 1, "sessions"),
    ] {
        let output = check(&history(ops), &["-o", "json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{judged}: {stderr}");
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = verdict["results"].as_array().unwrap();
        let of = results.iter().find(|r| r["checker"] == judged).unwrap();
        let expected = if code == 0 { "valid" } else { "invalid" };
        assert_eq!(of["verdict"], expected, "{judged}: {of}");
    }
}

#[test]
fn a_workload_that_does_not_fit_the_history_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.jsonl");
    let history = concat!(
        r#"{"index":0,"time":1,"process":0,"type":"invoke","f":"append","key":"k","value":1}"#,
        "\n",
        r#"{"index":1,"time":2,"process":0,"type":"ok","f":"append","key":"k","value":1}"#,
        "\n",
    );
    std::fs::write(&file, history).unwrap();
    for (workload, warned) in [("register", true), ("append", false)] {
        let output = quorate()
            .args(["check", "--workload", workload])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            said.contains("looks like workload append"),
            warned,
            "{said}"
        );
    }
}
