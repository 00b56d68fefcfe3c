//! Stores that run already: found, spoken to in each way, judged, and left as they are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{quorate, run_dir};

/// A node that knows of no other; ended with the test.
struct Alone {
    process: Child,
    address: String,
}

impl Alone {
    fn start(dir: &Path, name: &str) -> Self {
        let config = dir.join("node.yaml");
        std::fs::write(&config, "{mode: single-leader}").unwrap();
        let mut process = quorate()
            .args([
                "node",
                "--id",
                "n1",
                "--listen",
                "127.0.0.1:0",
                "--exit-with-parent",
            ])
            .arg("--data")
            .arg(dir.join(name))
            .arg("--config")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("listening ").unwrap().to_owned();
        Self { process, address }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn example(name: &str) -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    docs.join(name).canonicalize().unwrap()
}

/// The exit code and the verdict.
fn test(dir: &Path, nodes: &str, target: &str) -> (i32, Value) {
    test_with(dir, nodes, target, "4s", &[])
}

fn test_with(dir: &Path, nodes: &str, target: &str, limit: &str, further: &[&str]) -> (i32, Value) {
    let store = dir.join("store");
    let output = quorate()
        .args(["test", "--nodes", nodes, "--target", target, "--seed", "4"])
        .args(further)
        .args(["--time-limit", limit, "--store"])
        .arg(&store)
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(run_dir(&store).join("verdict.json")).unwrap();
    let verdict = serde_json::from_str(&text).unwrap();
    (output.status.code().unwrap(), verdict)
}

fn ok(verdict: &Value) -> u64 {
    verdict["ops"]["ok"].as_u64().unwrap()
}

#[test]
fn one_store_is_spoken_to_by_a_program_by_description_and_by_its_own_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let node = Alone::start(dir.path(), "n1");
    let described = format!("http:{}", example("api.yaml").display());
    let program = format!("exec:python3 {}", example("client.py").display());
    let python = Path::new("/usr/bin/python3").exists();
    if !python {
        eprintln!("not tested: the example in Python, which is not installed");
    }
    for target in [described, "reference".to_owned(), program] {
        if target.starts_with("exec") && !python {
            continue;
        }
        // Each run has keys of its own: what the one before has written is not in its way.
        let (code, verdict) = test(dir.path(), &node.address, &target);
        assert_eq!(code, 0, "{target}: {verdict}");
        assert!(ok(&verdict) > 50, "{target}: {verdict}");
        let keys = run_dir(&dir.path().join("store")).join("clients/keys.txt");
        assert!(std::fs::read_to_string(keys).unwrap().starts_with('q'));
    }
}

#[test]
fn two_nodes_that_do_not_know_each_other_are_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (
        Alone::start(dir.path(), "n1"),
        Alone::start(dir.path(), "n2"),
    );
    let described = format!("http:{}", example("api.yaml").display());
    let nodes = format!("{},{}", one.address, other.address);
    let (code, verdict) = test(dir.path(), &nodes, &described);
    assert_eq!(code, 1, "{verdict}");
    assert!(ok(&verdict) > 50, "{verdict}");
}

/// A store whose transactions come one after the other, and the same with lost updates.
#[test]
fn transactions_are_judged_by_the_isolation_that_they_got() {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("not tested: the example in Python, which is not installed");
        return;
    }
    // The example keeps its store in a file; the harness wants to know where it listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let program = example("transactions.py");
    for (workload, mistake) in [
        ("list-append", "G2-item"),
        ("rw-register", "G2-item"),
        ("bank", "wrong-total"),
    ] {
        for forgetful in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("data.json");
            let mut target = format!(
                "exec:python3 -I -S {} {}",
                program.display(),
                file.display()
            );
            if forgetful {
                target += " --forgetful";
            }
            // However long an interpreter takes to start on a busy machine.
            let flags =
                format!("--workload {workload} --concurrency 6 --rate 300 --client-timeout 30s");
            let flags: Vec<_> = flags.split(' ').collect();
            let (code, verdict) = test_with(dir.path(), &node, &target, "10s", &flags);
            assert_eq!(code, i32::from(forgetful), "{workload}: {verdict}");
            let results = verdict["results"].as_array().unwrap();
            let result = results.iter().find(|r| r["checker"] == workload).unwrap();
            assert!(result["judged"].as_u64().unwrap() > 20, "{result}");
            let classes = || {
                let anomalies = result["anomalies"].as_array().unwrap().iter();
                anomalies.map(|anomaly| anomaly["class"].as_str().unwrap())
            };
            if forgetful {
                assert!(classes().any(|class| class == mistake || class == "lost-update"));
            } else {
                assert_eq!(classes().count(), 0);
            }
            // What is left in the store has the run's own name.
            let left = std::fs::read_to_string(&file).unwrap();
            assert!(left.contains(r#""q"#), "{left}");
        }
    }
}

#[test]
fn what_is_not_there_or_not_to_be_hurt_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let says = |args: &[&str], code: i32, part: &str| {
        let output = quorate()
            .arg("test")
            .args(args)
            .arg("--store")
            .arg(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    };
    let nowhere = ["--nodes", "127.0.0.1:1"];
    says(&nowhere, 255, "n1 at 127.0.0.1:1 takes no connection");
    says(
        &[&nowhere[..], &["--nemesis", "kill"]].concat(),
        254,
        "not this harness's own",
    );
    says(
        &[&nowhere[..], &["--target", "telnet:x"]].concat(),
        254,
        "exec:PROGRAM or http:FILE",
    );
    says(
        &[&nowhere[..], &["--target", "exec:/no/such"]].concat(),
        254,
        "there is no program",
    );
    says(
        &["--target", "exec:sh"],
        254,
        "how to start it is not known",
    );
    says(&["--nodes", "many"], 254, "expected a number, or host:port");
}

/// An experiment that stops the node for two seconds of six by commands of its owner.
fn pausing(dir: &Path, node: &Alone) -> PathBuf {
    let pid = node.process.id();
    let file = dir.join("experiment.yaml");
    let text = format!(
        "substrate: external\nnodes: 1\nexternal:\n  nodes: [{}]\n  faults:\n    pause:\n      \
         inject: kill -STOP {pid} && echo {{node}} {{host}} {{port}} > {}\n      \
         heal: kill -CONT {pid}\n      seen: grep -q '^State:.T' /proc/{pid}/status\n\
         faults:\n  schedule:\n  - {{at: 1s, for: 2s, fault: pause, target: n1}}\n\
         limits: {{time: 6s}}\n",
        node.address,
        dir.join("told").display(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Whether a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}

#[test]
fn what_its_owner_has_commands_for_is_done_to_it_and_undone() {
    let dir = tempfile::tempdir().unwrap();
    let node = Alone::start(dir.path(), "n1");
    let experiment = pausing(dir.path(), &node);
    let store = dir.path().join("store");
    let output = quorate()
        .arg("test")
        .arg(&experiment)
        .arg("--store")
        .arg(&store)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let verdict = std::fs::read_to_string(run_dir(&store).join("verdict.json")).unwrap();
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    let fault = &verdict["faults"][0];
    assert_eq!(fault["seen"], true, "{fault}");
    assert!(fault["healed_at_s"].is_number(), "{fault}");
    assert!(!is_stopped(node.process.id()));
    let told = std::fs::read_to_string(dir.path().join("told")).unwrap();
    assert_eq!(
        told.trim(),
        format!("n1 {}", node.address.replace(':', " "))
    );
}

#[test]
fn what_was_done_is_undone_when_the_harness_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let node = Alone::start(dir.path(), "n1");
    let experiment = pausing(dir.path(), &node);
    let mut harness = quorate()
        .arg("test")
        .arg(&experiment)
        .arg("--store")
        .arg(dir.path().join("store"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = |stopped: bool| {
        for _ in 0..600 {
            if is_stopped(node.process.id()) == stopped {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the node's being stopped never was {stopped}");
    };
    until(true);
    harness.kill().unwrap();
    harness.wait().unwrap();
    until(false);
}

/// A queue in a file; one that is told to loses every tenth element that it acknowledges.
const QUEUE: &str = r#"
import fcntl, json, sys

folder, loses = sys.argv[1], len(sys.argv) > 2
for line in sys.stdin:
    op = json.loads(line)
    with open(f"{folder}/{op['key']}", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        queue = json.loads(file.read() or "[]")
        answer = {"type": "ok"}
        if op["f"] == "enqueue":
            if not (loses and op["value"] % 10 == 0):
                queue.append(op["value"])
        elif op["f"] == "drain":
            answer["value"], queue = queue, []
        elif queue:
            answer["value"] = queue.pop(0)
        else:
            answer = {"type": "fail", "error": "empty"}
        file.truncate(0)
        file.write(json.dumps(queue))
    print(json.dumps(answer), flush=True)
"#;

#[test]
fn a_queue_that_loses_what_it_acknowledged_is_found_out() {
    if !Path::new("/usr/bin/python3").exists() {
        eprintln!("not tested: queues by a program in Python, which is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("queue.py");
    std::fs::write(&program, QUEUE).unwrap();
    // A node has to be there, whatever it is.
    let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = node.local_addr().unwrap().to_string();
    std::thread::spawn(move || node.incoming().for_each(drop));
    let judged = |name: &str, option: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let target = format!(
            "exec:python3 {} {}{option}",
            program.display(),
            folder.display()
        );
        let store = folder.join("store");
        let output = quorate()
            .args(["test", "--nodes", &address, "--target", &target])
            .args(["--workload", "queue", "--time-limit", "4s"])
            // However slowly an interpreter starts.
            .args(["--client-timeout", "20s", "--store"])
            .arg(&store)
            .output()
            .unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(run_dir(&store).join("verdict.json")).unwrap();
        let verdict: Value = serde_json::from_str(&text).unwrap();
        let results = verdict["results"].as_array().unwrap().clone();
        let queue = results.into_iter().find(|r| r["checker"] == "queue");
        (
            output.status.code().unwrap(),
            queue.unwrap()["figures"].clone(),
        )
    };
    let count = |figures: &Value, name: &str| figures[name].as_u64().unwrap();
    let (code, sound) = judged("sound", "");
    assert_eq!(code, 0, "{sound}");
    assert!(count(&sound, "enqueued") > 20, "{sound}");
    assert_eq!(count(&sound, "dequeued"), count(&sound, "enqueued"));
    let (code, lossy) = judged("lossy", " loses");
    assert_eq!(code, 1, "{lossy}");
    assert_eq!(count(&lossy, "lost"), count(&lossy, "missing"));
    assert!(count(&lossy, "lost") > 1, "{lossy}");
}

#[test]
fn the_reference_store_has_no_queues() {
    let said = quorate()
        .args(["test", "--on", "sim", "--workload", "queue"])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(254));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("the reference store has no queues"), "{text}");
}

/// dynalite on a port of its own, ended with the test; `None` where it is not installed.
#[cfg(feature = "dynamodb")]
fn dynalite() -> Option<Alone> {
    let program = std::env::var_os("QUORATE_DYNALITE").unwrap_or_else(|| "dynalite".into());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let started = std::process::Command::new(program)
        .args(["--host", "127.0.0.1", "--createTableMs", "50", "--port"])
        .arg(address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut process) = started else {
        eprintln!(
            "not tested: no dynalite on the PATH or in QUORATE_DYNALITE: `npm install -g dynalite`"
        );
        return None;
    };
    let mut said = String::new();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    out.read_line(&mut said).unwrap();
    assert!(said.contains("listening"), "{said}");
    Some(Alone {
        process,
        address: address.to_string(),
    })
}

#[cfg(feature = "dynamodb")]
#[test]
fn one_node_of_the_dynamodb_api_is_linearizable() {
    let Some(node) = dynalite() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (code, verdict) = test(dir.path(), &node.address, "dynamodb:create=true");
    assert_eq!(code, 0, "{verdict}");
    assert!(ok(&verdict) > 50, "{verdict}");
    // Nobody makes the table: each operation is refused, which judges nothing.
    let (code, verdict) = test(dir.path(), &node.address, "dynamodb:table=none");
    assert_eq!(code, 2, "{verdict}");
    assert_eq!(ok(&verdict), 0, "{verdict}");
}

#[cfg(feature = "dynamodb")]
#[test]
fn an_endpoint_over_tls_is_not_asked_without_keys() {
    let output = quorate()
        .args(["test", "--nodes", "127.0.0.1:443", "--target"])
        .arg("dynamodb:tls=true")
        .env_remove("AWS_ACCESS_KEY_ID")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(254));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}
