//! Runs on networks of their own: real cuts and impairments, by root and by an ordinary user, and
//! nothing left behind.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{quorate, run_dir};
use nemesis::mechanism::{firewall, namespace, queue};
use quorate::local::manifest::Manifest;
use serde_json::Value;

/// Whether this machine can do what is tested here; says why not.
fn possible() -> bool {
    for available in [
        namespace::available(),
        firewall::available(),
        queue::available(),
    ] {
        if let Err(why) = available {
            eprintln!("not tested: {why}");
            return false;
        }
    }
    true
}

fn am_root() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("not tested: needs root");
    }
    root
}

fn schedule(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("schedule.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A run on networks of its own.
fn command(mut quorate: Command, dir: &Path, mode: &str, schedule: &Path, limit: &str) -> Command {
    quorate
        .args(["test", "--on", "netns", "--mode", mode, "--seed", "5"])
        .args(["--time-limit", limit, "--schedule"])
        .arg(schedule)
        .arg("--store")
        .arg(dir.join("store"));
    quorate
}

fn verdict(dir: &Path, output: &Output) -> Value {
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(run_dir(&dir.join("store")).join("verdict.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn all_seen_and_healed(verdict: &Value, faults: usize) {
    let all = verdict["faults"].as_array().unwrap();
    assert_eq!(all.len(), faults);
    for fault in all {
        assert_eq!(fault["seen"], true, "{fault}");
        assert!(fault["healed_at_s"].is_number(), "{fault}");
    }
}

const SHAPES: &str = "\
- {at: 1s, for: 5s, fault: partition, shape: isolate, target: leader}
- {at: 9s, for: 2s, fault: partition, shape: one-way, direction: out, target: leader}
- {at: 14s, for: 2s, fault: partition, shape: clients, target: leader}
- {at: 19s, for: 2s, fault: partition, shape: bridge}
- {at: 24s, for: 2s, fault: partition, shape: majorities-ring}
";

#[test]
fn asynchronous_replication_is_found_to_lose_writes_to_real_cuts() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schedule = schedule(dir.path(), SHAPES);
    let run = command(quorate(), dir.path(), "async", &schedule, "29s").output();
    let run = run.unwrap();
    let verdict = verdict(dir.path(), &run);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(verdict["verdict"], "invalid");
    let results = verdict["results"].as_array().unwrap();
    let lost = results
        .iter()
        .find(|r| r["checker"] == "lost-writes")
        .unwrap();
    assert!(lost["figures"]["lost"].as_u64().unwrap() > 0, "{lost}");
    all_seen_and_healed(&verdict, 5);
    let proof = verdict["faults"][0]["proof"].as_str().unwrap();
    assert!(
        proof.starts_with("by nftables: 8 of 8 cut links"),
        "{proof}"
    );
}

#[test]
fn raft_is_found_to_lose_nothing_to_packets_lost_delayed_doubled_and_overtaken() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schedule = schedule(
        dir.path(),
        "- {at: 1s, for: 3s, fault: partition, shape: isolate, target: leader}\n\
         - {at: 7s, for: 2s, fault: slow, links: all, target: leader, latency: 30ms, jitter: 10ms}\n\
         - {at: 12s, for: 2s, fault: loss, links: peers, target: n2, percent: 10%}\n\
         - {at: 17s, for: 2s, fault: duplicate, links: all, target: n3, percent: 30%}\n\
         - {at: 22s, for: 2s, fault: reorder, links: peers, target: leader, percent: 30%}\n\
         - {at: 27s, for: 2s, fault: slow, links: peers, target: n4, bandwidth: 128KiB/s}\n\
         - {at: 33s, for: 2s, fault: kill, target: leader}\n",
    );
    let run = command(quorate(), dir.path(), "raft", &schedule, "36s").output();
    let run = run.unwrap();
    let verdict = verdict(dir.path(), &run);
    assert_eq!(run.status.code(), Some(0));
    all_seen_and_healed(&verdict, 7);
}

/// A directory that others may read, and the binary in it: they may not read ours.
fn for_others() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let binary = dir.path().join("quorate");
    std::fs::copy(quorate().get_program(), &binary).unwrap();
    (dir, binary)
}

#[test]
fn an_ordinary_user_can_do_the_same() {
    if !possible() || !am_root() {
        return;
    }
    let (dir, binary) = for_others();
    let schedule = schedule(
        dir.path(),
        "- {at: 1s, for: 2s, fault: partition, shape: isolate, target: leader}\n\
         - {at: 6s, for: 2s, fault: slow, links: all, target: n2, latency: 20ms}\n\
         - {at: 12s, for: 1s, fault: kill, target: n3}\n",
    );
    let mut user = Command::new("setpriv");
    user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(binary);
    let run = command(user, dir.path(), "raft", &schedule, "14s").output();
    let run = run.unwrap();
    let verdict = verdict(dir.path(), &run);
    assert_eq!(run.status.code(), Some(0));
    all_seen_and_healed(&verdict, 3);
    let file = run_dir(&dir.path().join("store")).join("verdict.json");
    assert_eq!(file.metadata().unwrap().uid(), 65534);
}

#[test]
fn where_no_network_can_be_made_nothing_is_started() {
    if !possible() {
        return;
    }
    let (dir, binary) = for_others();
    let schedule = schedule(dir.path(), "[]\n");
    let mut without = Command::new("unshare");
    let none = "echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" \"$@\"";
    without.args(["-U", "-r", "sh", "-c", none]).arg(binary);
    let run = command(without, dir.path(), "raft", &schedule, "2s").output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(255), "{said}");
    assert!(said.contains("network namespaces do not work"), "{said}");
    assert!(said.contains("run as root, or allow them with"), "{said}");
    assert!(!dir.path().join("store").exists());
}

/// A harness under way; ended and reaped however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a run that slows, then cuts for so many seconds, and waits until that is proven.
fn under_way(dir: &Path, seconds: u64) -> (Running, Manifest, PathBuf) {
    let schedule = schedule(
        dir,
        &format!(
            "- {{at: 500ms, for: 1s, fault: slow, links: peers, target: n3, latency: 20ms}}\n\
             - {{at: 6s, for: {seconds}s, fault: partition, shape: isolate, target: n2}}\n"
        ),
    );
    let limit = format!("{}s", seconds + 7);
    let mut command = command(quorate(), dir, "raft", &schedule, &limit);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < until, "the run does not get under way");
        std::thread::sleep(Duration::from_millis(50));
        let Ok(run) = std::fs::canonicalize(dir.join("store/demo/latest")) else {
            continue;
        };
        let history = std::fs::read_to_string(run.join("history.jsonl")).unwrap_or_default();
        if history.contains("by nftables: 8 of 8") && history.contains(" links: 20 ms asked") {
            let manifest = Manifest::read(&run).unwrap().unwrap();
            assert_eq!(manifest.processes.len(), 5);
            return (running, manifest, run);
        }
    }
}

/// The network namespaces of these processes, by number.
fn networks(pids: impl IntoIterator<Item = u32>) -> BTreeSet<u64> {
    pids.into_iter()
        .filter_map(|pid| std::fs::metadata(format!("/proc/{pid}/ns/net")).ok())
        .map(|data| data.ino())
        .collect()
}

fn all_pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_killed_harness_leaves_no_process_no_network_no_interface_and_no_rule() {
    if !possible() || !am_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut harness, manifest, _) = under_way(dir.path(), 60);
    let pids = manifest.processes.iter().map(|p| p.identity.pid);
    let made = networks(pids.chain([harness.0.id()]));
    // One for each node and one for the harness, and none is the machine's.
    assert_eq!(made.len(), 6);
    assert!(!made.contains(&std::fs::metadata("/proc/self/ns/net").unwrap().ino()));
    harness.0.kill().unwrap();
    harness.0.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let alive = manifest.processes.iter().any(|p| p.identity.is_alive());
        let left = networks(all_pids());
        let held = said("lsns", &["-t", "net", "-n", "-o", "NS"]);
        let listed = made.iter().any(|ns| held.contains(&ns.to_string()));
        if !alive && !listed && left.is_disjoint(&made) {
            break;
        }
        assert!(Instant::now() < until, "left behind: {alive} {held}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!said("ip", &["-o", "link"]).contains("quorate"));
    assert!(!said("nft", &["list", "ruleset"]).contains("quorate"));
    assert!(!said("iptables", &["-t", "mangle", "-S"]).contains("quorate"));
    assert!(!said("ip", &["netns"]).contains("quorate"));
}

#[test]
fn two_runs_side_by_side_do_not_meet() {
    if !possible() {
        return;
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let runs: Vec<_> = dirs
        .iter()
        .map(|dir| {
            let schedule = schedule(
                dir.path(),
                "- {at: 1s, for: 3s, fault: partition, shape: isolate, target: n1}\n\
                 - {at: 8s, for: 2s, fault: slow, links: peers, target: n1, latency: 20ms}\n",
            );
            let mut command = command(quorate(), dir.path(), "raft", &schedule, "11s");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for (dir, run) in dirs.iter().zip(runs) {
        let run = run.wait_with_output().unwrap();
        let verdict = verdict(dir.path(), &run);
        assert_eq!(run.status.code(), Some(0));
        all_seen_and_healed(&verdict, 2);
    }
}

#[test]
fn a_cut_that_somebody_takes_away_makes_a_clean_run_unknown() {
    if !possible() || !am_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut harness, manifest, run) = under_way(dir.path(), 8);
    let n2 = manifest.processes.iter().find(|p| p.node == 2).unwrap();
    let network = format!("--net=/proc/{}/ns/net", n2.identity.pid);
    let arguments = [&*network, "nft", "delete", "table", "inet", "quorate"];
    let deleted = Command::new("nsenter").args(arguments).status().unwrap();
    assert!(deleted.success());
    assert_eq!(harness.0.wait().unwrap().code(), Some(2));
    let text = std::fs::read_to_string(run.join("verdict.json")).unwrap();
    let verdict: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(verdict["verdict"], "unknown", "{verdict}");
    assert!(text.contains("fault-not-effective"), "{text}");
    assert!(text.contains("the rule that cut n"), "{text}");
}
