//! Faults of disks on real processes: what a store that syncs survives, and what one that does not
//! loses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nemesis::Schedule;
use serde_json::Value;

use crate::{quorate, run_dir};

/// Whether this machine can put layers under data; said if not.
fn possible() -> bool {
    let available = nemesis::mechanism::disk::available();
    if let Err(why) = &available {
        eprintln!("not tested here: {why}");
    }
    available.is_ok()
}

struct Run {
    code: i32,
    verdict: Value,
    realised: Schedule,
    _dir: tempfile::TempDir,
}

/// Runs a schedule against three nodes with this configuration.
fn run(target: &str, seed: u64, seconds: u32, schedule: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("experiment.yaml");
    let text = format!(
        "name: demo\nsubstrate: local\nnodes: 3\nseed: {seed}\ntarget: {target}\n\
         limits: {{time: {seconds}s}}\nfaults:\n  schedule:\n{schedule}"
    );
    fs::write(&file, text).unwrap();
    let output = quorate()
        .arg("test")
        .arg(&file)
        .arg("--store")
        .arg(dir.path().join("store"))
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let run = run_dir(&dir.path().join("store"));
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    let realised = read("schedule.yaml");
    eprintln!("{realised}");
    Run {
        code: output.status.code().unwrap(),
        verdict: serde_json::from_str(&read("verdict.json")).unwrap(),
        realised: Schedule::parse(&realised).unwrap(),
        _dir: dir,
    }
}

impl Run {
    /// Every fault was seen to take effect and to be gone; what was seen of each.
    fn proofs(&self) -> Vec<(String, String)> {
        let each = self.realised.faults.iter().map(|entry| {
            let realised = entry.realised.clone().unwrap();
            assert_eq!(realised.seen, Some(true), "{realised:?}");
            assert_eq!(realised.gone, Some(true), "{realised:?}");
            (realised.proof.unwrap(), realised.heal_proof.unwrap())
        });
        each.collect()
    }

    fn lost(&self) -> u64 {
        let results = self.verdict["results"].as_array().unwrap();
        let result = results.iter().find(|r| r["checker"] == "lost-writes");
        result.unwrap()["figures"]["lost"].as_u64().unwrap()
    }
}

const ALL_LOSE_POWER: &str = "  - {at: 3s, for: 1s, fault: power-loss, target: [n1, n2, n3]}\n";

/// By chance the kernel may have written nearly everything back: more than one try.
fn all_lose_power_thrice() -> String {
    let losses = [3, 8, 13].map(|at| ALL_LOSE_POWER.replace("at: 3s", &format!("at: {at}s")));
    losses.concat()
}

#[test]
fn a_store_that_does_not_sync_loses_writes_when_power_is_lost() {
    if !possible() {
        return;
    }
    let run = run(
        "{mode: raft, fsync: never}",
        31,
        17,
        &all_lose_power_thrice(),
    );
    let (proof, _) = &run.proofs()[0];
    assert!(proof.contains("unsynced bytes"), "{proof}");
    assert_eq!((run.code, run.lost() > 0), (1, true));
}

#[test]
fn neither_does_one_keep_them_that_acknowledges_before_it_syncs() {
    if !possible() {
        return;
    }
    let target = "{mode: raft, bugs: [acknowledge-before-fsync]}";
    let run = run(target, 35, 17, &all_lose_power_thrice());
    run.proofs();
    assert_eq!((run.code, run.lost() > 0), (1, true));
}

#[test]
fn a_store_that_syncs_loses_nothing_even_if_all_power_is_lost() {
    if !possible() {
        return;
    }
    let schedule =
        format!("{ALL_LOSE_POWER}  - {{at: 7s, for: 1s, fault: torn-write, target: leader}}\n");
    let run = run("{mode: raft}", 32, 11, &schedule);
    let proofs = run.proofs();
    assert!(
        proofs[1].0.contains("bytes of a write to journal"),
        "{proofs:?}"
    );
    assert_eq!((run.code, run.lost()), (0, 0));
}

/// The same by a file system of each node's own that is shut down.
#[test]
fn a_file_system_that_is_shut_down_keeps_what_was_synced_and_no_more() {
    if let Err(why) = nemesis::mechanism::disk::ext4::available() {
        eprintln!("not tested here: {why}");
        return;
    }
    let schedule = "  - {at: 3s, for: 1s, fault: power-loss, via: ext4, target: [n1, n2, n3]}\n";
    let synced = run("{mode: raft, fsync: always}", 35, 7, schedule);
    assert_eq!((synced.code, synced.lost()), (0, 0));
    let unsynced = run("{mode: raft, fsync: never}", 35, 7, schedule);
    let (proof, _) = &unsynced.proofs()[0];
    assert!(proof.contains("by ext4: n1 lost "), "{proof}");
    assert_eq!((unsynced.code, unsynced.lost() > 0), (1, true));
}

#[test]
fn a_store_stops_rather_than_lies_when_its_disk_refuses() {
    if !possible() {
        return;
    }
    let run = run(
        "{mode: raft}",
        33,
        20,
        "  - {at: 1s, for: 2s, fault: disk-full, target: leader}\n  \
         - {at: 5s, for: 2s, fault: fsync-error, target: follower}\n  \
         - {at: 9s, for: 2s, fault: read-only, target: follower}\n  \
         - {at: 13s, for: 2s, fault: slow-disk, target: leader, latency: 20ms}\n",
    );
    let proofs = run.proofs();
    for (proof, (seen, gone)) in [
        "No space left",
        "Input/output",
        "Read-only",
        "a write takes",
    ]
    .iter()
    .zip(&proofs)
    {
        assert!(seen.contains(proof), "{seen}");
        assert!(gone.contains("can write and sync"), "{gone}");
    }
    // The leader had to write, and ended over it.
    assert!(
        proofs[0].1.contains("was restarted and answers"),
        "{proofs:?}"
    );
    assert_eq!((run.code, run.lost()), (0, 0));
}

#[test]
fn a_flipped_bit_and_an_older_copy_are_put_under_a_node() {
    let run = run(
        "{mode: raft}",
        34,
        10,
        "  - {at: 2s, for: 500ms, fault: bit-flip, file: log, target: follower}\n  \
         - {at: 6s, for: 500ms, fault: rollback, age: 1s, target: follower}\n",
    );
    let proofs = run.proofs();
    assert!(
        proofs[0].0.contains("of the log in journal is flipped"),
        "{proofs:?}"
    );
    assert!(proofs[1].0.contains("ms ago"), "{proofs:?}");
}

/// The mounts of processes that lie in a folder.
fn mounts_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path().join("mountinfo");
        // Most of what is there is no process, or has ended meanwhile.
        let mounts = fs::read_to_string(path).unwrap_or_default();
        let below = mounts
            .lines()
            .filter(|line| line.contains(folder.to_str().unwrap()));
        found.extend(below.map(str::to_owned));
    }
    found
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_stays_mounted_when_the_harness_is_killed() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schedule = dir.path().join("schedule.yaml");
    fs::write(
        &schedule,
        "- {at: 100ms, for: 50s, fault: slow-disk, target: n1, latency: 500ms}\n",
    )
    .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args([
            "test",
            "--on",
            "local",
            "--mode",
            "raft",
            "--time-limit",
            "60s",
            "--schedule",
        ])
        .arg(&schedule)
        .arg("--store")
        .arg(dir.path().join("store"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mounted = || mounts_below(dir.path());
    until("layers are mounted", || {
        mounted().iter().any(|line| line.contains("fuse.quorate"))
    });
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!own.contains(dir.path().to_str().unwrap()), "{own}");
    let run = run_dir(&dir.path().join("store"));
    until("the fault is proven", || {
        let history = fs::read_to_string(run.join("history.jsonl")).unwrap_or_default();
        history.contains("a write takes")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    until("nothing is mounted", || mounted().is_empty());
    // What programs saw is there.
    assert!(fs::metadata(run.join("data/n1/journal")).unwrap().len() > 0);
}
