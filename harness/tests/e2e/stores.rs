//! Stores of other makers, started from the distribution's packages in networks of their own.

use std::path::Path;

use nemesis::mechanism::{firewall, namespace};
use quorate::stores::etcd;
use serde_json::Value;

use crate::{quorate, run_dir};

/// Whether this machine can do what is tested here; says why not.
fn possible(recipe: &quorate::stores::Recipe) -> bool {
    let installed = recipe.find().map(drop);
    for available in [namespace::available(), firewall::available(), installed] {
        if let Err(why) = available {
            eprintln!("not tested: {why}");
            return false;
        }
    }
    true
}

/// A run of three nodes; its exit code and verdict.
fn run(dir: &Path, target: &str, workload: &str, schedule: &str, limit: &str) -> (i32, Value) {
    let file = dir.join("schedule.yaml");
    std::fs::write(&file, schedule).unwrap();
    let store = dir.join("store");
    let output = quorate()
        .args(["test", "--on", "netns", "--target", target, "--nodes", "3"])
        .args(["--seed", "3", "--time-limit", limit, "--workload", workload])
        .arg("--schedule")
        .arg(&file)
        .arg("--store")
        .arg(&store)
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let run = run_dir(&store);
    let version = std::fs::read_to_string(run.join("nodes/version.txt")).unwrap();
    assert!(version.contains(|c: char| c.is_ascii_digit()), "{version}");
    let verdict = std::fs::read_to_string(run.join("verdict.json")).unwrap();
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    for fault in verdict["faults"].as_array().unwrap() {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
    (output.status.code().unwrap(), verdict)
}

fn checked<'a>(verdict: &'a Value, checker: &str) -> &'a Value {
    let results = verdict["results"].as_array().unwrap();
    results.iter().find(|r| r["checker"] == checker).unwrap()
}

const CUTS: &str = "\
- {at: 2s, for: 4s, fault: partition, shape: isolate, target: follower}
- {at: 8s, for: 3s, fault: partition, shape: isolate, target: leader}
- {at: 13s, for: 1s, fault: kill, target: leader}
";

#[test]
fn etcd_is_linearizable_unless_it_is_asked_for_less() {
    if !possible(&etcd::RECIPE) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (code, verdict) = run(dir.path(), "etcd", "register", CUTS, "17s");
    assert_eq!(code, 0, "{verdict}");
    assert!(
        checked(&verdict, "linearizable")["judged"]
            .as_u64()
            .unwrap()
            > 500
    );

    let dir = tempfile::tempdir().unwrap();
    let (code, verdict) = run(
        dir.path(),
        "etcd:reads=serializable",
        "register",
        CUTS,
        "17s",
    );
    assert_eq!(code, 1, "{verdict}");
    assert_eq!(checked(&verdict, "lost-writes")["verdict"], "valid");
    assert!(
        checked(&verdict, "stale-reads")["figures"]["stale"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[test]
fn a_doctor_says_what_installs_a_store() {
    let ask = |target: &str| {
        quorate()
            .args(["doctor", "--target", target])
            .output()
            .unwrap()
    };
    let said = ask("etcd");
    let text = String::from_utf8(said.stdout).unwrap();
    if possible(&etcd::RECIPE) {
        assert_eq!(said.status.code(), Some(0));
        assert!(text.contains("--target etcd"), "{text}");
    } else {
        assert_eq!(said.status.code(), Some(2));
    }
    assert_eq!(ask("oracle").status.code(), Some(254));
    let nowhere = quorate()
        .args(["doctor", "--target", "etcd"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    if !Path::new("/usr/sbin/etcd").exists() {
        let text = String::from_utf8(nowhere.stdout).unwrap();
        assert!(text.contains("`apt-get install etcd-server`"), "{text}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn redis_loses_what_a_primary_that_was_cut_off_acknowledged() {
    if !possible(&quorate::stores::redis::RECIPE) {
        return;
    }
    let cut = "- {at: 3s, for: 8s, fault: partition, shape: isolate, target: leader}";
    let lost = |target: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (code, verdict) = run(dir.path(), target, "append", cut, "13s");
        let lost = checked(&verdict, "lost-writes");
        assert_eq!(code, 1, "{verdict}");
        lost["figures"]["lost"].as_u64().unwrap()
    };
    let plain = lost("redis");
    assert!(plain > 100, "{plain}");
    // Too few replicas are noticed within a second or two, in which writes are lost still.
    let guarded = lost("redis:min-replicas-to-write=1,min-replicas-max-lag=1");
    assert!(0 < guarded && guarded < plain, "{guarded} of {plain}");
    let waited = lost("redis:wait=1");
    assert!(waited < guarded, "{waited} of {guarded}");
}

#[cfg(feature = "zookeeper")]
const ZOOKEEPER_CUTS: &str = "\
- {at: 2s, for: 4s, fault: partition, shape: isolate, target: follower}
- {at: 8s, for: 3s, fault: partition, shape: isolate, target: leader}
";

#[cfg(feature = "zookeeper")]
#[test]
fn zookeeper_loses_nothing_and_reads_what_is_past_from_a_follower_cut_off() {
    if !possible(&quorate::stores::zookeeper::RECIPE) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cuts = ZOOKEEPER_CUTS;
    let (code, verdict) = run(dir.path(), "zookeeper", "register", cuts, "12s");
    assert_eq!(code, 1, "{verdict}");
    assert_eq!(checked(&verdict, "lost-writes")["verdict"], "valid");
    let stale = &checked(&verdict, "stale-reads")["figures"]["stale"];
    assert!(stale.as_u64().unwrap() > 0, "{verdict}");
}

#[cfg(feature = "zookeeper")]
#[test]
fn zookeeper_reads_nothing_past_after_a_sync() {
    if !possible(&quorate::stores::zookeeper::RECIPE) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cuts = ZOOKEEPER_CUTS;
    let (code, verdict) = run(dir.path(), "zookeeper:sync=true", "register", cuts, "12s");
    assert_eq!(code, 0, "{verdict}");
    let stale = &checked(&verdict, "stale-reads")["figures"]["stale"];
    assert_eq!(stale.as_u64(), Some(0), "{verdict}");
    let judged = &checked(&verdict, "linearizable")["judged"];
    assert!(judged.as_u64().unwrap() > 500, "{verdict}");
}
