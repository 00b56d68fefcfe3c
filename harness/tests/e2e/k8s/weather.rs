//! What goes wrong around a run: the API server is away, there is no room, no volume.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Lab, every_fault_was_seen_and_healed};
use crate::run_dir;

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
    let (args, store) = lab.test_args(&[&raft[..], lab.storage].concat(), schedule);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut harness = lab
        .command(&args)
        .env("KUBECONFIG", kubeconfig)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let history = || {
        let run = store.join("demo/latest/history.jsonl");
        std::fs::read_to_string(run).unwrap_or_default()
    };
    let killed = |text: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.contains("\"inject\"") && line.contains("deleted at once"))
    };
    while !killed(&history()) {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended");
        thread::sleep(Duration::from_millis(200));
    }
    way.cut();
    // Longer than an operation may take, shorter than what heals is tried.
    let now = || {
        let last = history().lines().rev().find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["time"].as_u64()
        });
        last.unwrap_or_default()
    };
    let cut_at = now();
    while now() < cut_at + 8_000_000_000 {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended");
        thread::sleep(Duration::from_millis(200));
    }
    way.mend();
    let code = harness.wait().unwrap().code();
    let verdict = std::fs::read_to_string(run_dir(&store).join("verdict.json")).unwrap();
    let verdict: serde_json::Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 2);
    let left = [
        "get",
        "statefulsets,services,leases,pods",
        "-o",
        "name",
        "-n",
    ];
    assert_eq!(lab.kubectl(&[&left[..], &[&lab.namespace]].concat()), "");
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
