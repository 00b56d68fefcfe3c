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
    let store = dir.join("store");
    let output = quorate()
        .args(["test", "--nodes", nodes, "--target", target, "--seed", "4"])
        .args(["--time-limit", "4s", "--store"])
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
