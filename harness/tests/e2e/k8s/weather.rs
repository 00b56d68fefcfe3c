//! What goes wrong around a run: the API server is away, there is no room, no volume.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::operator::{Operator, STORE, crds, status, test, wait_for};
use super::under_way::{harness_in_job, nothing_is_left, of_runs, until};
use super::{Lab, every_fault_was_seen_and_healed};

/// A way to the API server that can be cut.
struct Way {
    address: std::net::SocketAddr,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicBool::new(true));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (is_open, all) = (Arc::clone(&open), Arc::clone(&streams));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // One that is cut takes connections no more than a server that is away.
                if !is_open.load(SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    all.lock().unwrap().push(from.try_clone().unwrap());
                    thread::spawn(move || copy(from, to));
                }
            }
        });
        Self {
            address,
            open,
            streams,
        }
    }

    fn cut(&self) {
        self.open.store(false, SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.open.store(true, SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 1 << 14];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The configuration of the cluster, by another way.
fn by(lab: &Lab) -> (Way, PathBuf) {
    let mut config: serde_json::Value = serde_json::from_str(&lab.kubectl(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "-o",
        "json",
    ]))
    .unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap().to_owned();
    let server = server.trim_start_matches("https://").trim_end_matches('/');
    let way = Way::to(server.to_owned());
    cluster["server"] = format!("https://{}", way.address).into();
    // Of the same name as before, whatever the certificate says.
    let name = server.rsplit_once(':').unwrap().0;
    cluster["tls-server-name"] = name.into();
    let path = lab.dir.path().join("by-another-way");
    std::fs::write(&path, config.to_string()).unwrap();
    (way, path)
}

#[test]
fn an_api_server_that_is_away_for_a_while_is_survived() {
    let Some(lab) = Lab::find("away") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let (way, kubeconfig) = by(&lab);
    // It goes while the second fault waits for its end, and comes back before the end of the run.
    let schedule = "- {at: 2s, for: 1s, fault: scale, target: n3}\n\
                    - {at: 3s, for: 12s, fault: kill, target: n1, within: 60s}\n";
    let raft = [
        "--mode",
        "raft",
        "--seed",
        "7",
        "--rate",
        "20",
        "--time-limit",
        "60s",
    ];
    let all = [&raft[..], lab.storage].concat();
    let mut run = lab.start_by(&kubeconfig, &all, schedule);
    let killed = |text: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.contains("\"inject\"") && line.contains("deleted at once"))
    };
    run.until("a pod is killed", |run| killed(&run.history()));
    way.cut();
    // Longer than an operation may take, shorter than what heals is tried.
    let now = |history: &str| {
        let last = history.lines().rev().find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["time"].as_u64()
        });
        last.unwrap_or_default()
    };
    let cut_at = now(&run.history());
    run.until("it was away", |run| {
        now(&run.history()) >= cut_at + 8_000_000_000
    });
    way.mend();
    let (code, _) = run.end();
    let verdict = run.verdict();
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 2);
    assert_eq!(lab.there(), "");
}

#[test]
fn no_room_and_no_volume_get_one_sentence_each() {
    let Some(lab) = Lab::find("room") else {
        return;
    };
    lab.make_namespace();
    let namespace = lab.namespace.as_str();
    lab.apply(&format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: small, namespace: {namespace}}}\n\
         spec: {{hard: {{pods: '1'}}}}\n"
    ));
    let up = ["k8s", "up", "--namespace", namespace, "--storage"];
    let crowded = lab.quorate(&[&up[..], &["empty-dir"]].concat());
    assert_eq!(crowded.status.code(), Some(255));
    let said = String::from_utf8_lossy(&crowded.stderr);
    assert!(said.contains("exceeded quota"), "{said}");
    lab.quorate(&["k8s", "down", "--namespace", namespace]);
    lab.kubectl(&["delete", "quota", "small", "-n", namespace]);
    let missing = ["volumes", "--storage-class", "quorate-e2e-missing"];
    let dry = lab.quorate(&[&up[..], &missing].concat());
    assert_eq!(dry.status.code(), Some(255));
    let said = String::from_utf8_lossy(&dry.stderr);
    assert!(said.contains("still pending"), "{said}");
    assert!(said.contains("--storage-class"), "{said}");
}

/// The network of a process, from which the API server cannot be reached; dropped, it can.
struct CutOff(String);

impl CutOff {
    fn of(pid: i32, server: &str) -> Self {
        let cut = Self(pid.to_string());
        cut.nft("add table inet weather");
        cut.nft("add chain inet weather out { type filter hook output priority 0; }");
        cut.nft(&format!(
            "add rule inet weather out ip daddr {server} counter drop"
        ));
        cut
    }

    fn nft(&self, script: &str) {
        let mut command = Command::new("nsenter");
        let done = command.args(["-t", &self.0, "-n", "nft", script]).status();
        assert!(done.unwrap().success(), "nft {script}");
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        self.nft("delete table inet weather");
    }
}

#[test]
fn an_api_server_that_is_away_is_survived_by_a_job_and_who_waits_for_it() {
    let Some(lab) = Lab::find("awayjob") else {
        return;
    };
    lab.make_namespace();
    lab.provide_volumes(3);
    let (way, kubeconfig) = by(&lab);
    let schedule = "- {at: 10s, for: 3s, fault: kill, target: n1, within: 60s}\n";
    let raft = [
        "--in-cluster",
        "--mode",
        "raft",
        "--seed",
        "7",
        "--time-limit",
        "45s",
    ];
    let all = [&raft[..], lab.storage].concat();
    let mut run = lab.start_by(&kubeconfig, &all, schedule);
    run.until("a part of the history is handed over", |_| {
        of_runs(&lab).contains("-part-0")
    });
    way.cut();
    let inside = harness_in_job(&lab);
    let server = ["get", "service", "kubernetes", "-n", "default", "-o"];
    let server = lab.kubectl(&[&server[..], &["jsonpath={.spec.clusterIP}"]].concat());
    let cut = inside.map(|pid| CutOff::of(pid.as_raw_nonzero().get(), &server));
    // That long it is away, which is what is tested: longer than a request may take.
    thread::sleep(Duration::from_secs(10));
    drop(cut);
    way.mend();
    let (code, _) = run.end();
    let verdict = run.verdict();
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 1);
    nothing_is_left(&lab);
}

#[test]
fn a_watch_that_is_dropped_is_taken_up_again() {
    let Some(lab) = Lab::find("watch") else {
        return;
    };
    lab.make_namespace();
    crds(&lab);
    let (way, kubeconfig) = by(&lab);
    let _operator = Operator::by(&lab, &kubeconfig);
    let drop_all = || {
        way.cut();
        way.mend();
    };
    let raft = format!(
        "{{{STORE}, target: {{mode: raft}}, faults: {{packages: [none]}}, limits: {{time: 10s}}}}"
    );
    test(&lab, "first", &raft);
    until("it runs", || status(&lab, "ct/first", "phase") == "Running");
    for _ in 0..3 {
        drop_all();
        until("it is looked at", || !of_runs(&lab).is_empty());
    }
    wait_for(&lab, "ct/first", "Complete");
    assert_eq!(status(&lab, "ct/first", "verdict"), "valid");
    // What is made while no watch stands is found.
    drop_all();
    test(&lab, "second", &raft);
    wait_for(&lab, "ct/second", "Complete");
    lab.kubectl(&["delete", "ct", "--all", "-n", &lab.namespace]);
    until("nothing is left", || of_runs(&lab).is_empty());
}
