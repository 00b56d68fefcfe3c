//! Nothing outlives the harness.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nemesis::mechanism::lease::Undo;
use rustix::process::{Pid, Signal, kill_process};

use super::stand_in::{Scratch, node_arguments, owner_arguments};
use crate::local::leftovers;
use crate::local::manifest::{Entry, Manifest};
use crate::local::procfs::Identity;
use crate::local::program::NodeSetup;

struct Owner {
    child: Child,
    news: Lines<BufReader<ChildStdout>>,
    nodes: Vec<Entry>,
}

impl Owner {
    fn start(run_dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(owner_arguments(run_dir))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let news = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut owner = Self {
            child,
            news,
            nodes: Vec::new(),
        };
        owner.await_news("ready");
        owner.nodes = Manifest::read(run_dir).unwrap().unwrap().processes;
        assert_eq!(owner.nodes.len(), 3);
        assert!(owner.nodes.iter().all(|entry| entry.identity.is_alive()));
        owner
    }

    fn await_news(&mut self, news: &str) {
        let found = self.news.by_ref().any(|line| line.unwrap() == news);
        assert!(found, "the owner ended without saying {news:?}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn nodes_end(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.nodes.iter().any(|entry| entry.identity.is_alive()) {
            assert!(Instant::now() < deadline, "still alive: {:?}", self.nodes);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn nodes_end_with_a_killed_harness_the_paused_one_too() {
    let scratch = Scratch::new("kill-9");
    let mut owner = Owner::start(&scratch.0);
    // A harness that is alive has no leftovers, whatever its manifest says.
    assert_eq!(leftovers::find(&scratch.0).unwrap(), []);
    owner.signal(Signal::KILL);
    owner.child.wait().unwrap();
    owner.nodes_end();
    assert_eq!(leftovers::find(&scratch.0).unwrap(), []);
}

#[test]
fn the_second_signal_ends_a_harness_and_its_nodes() {
    let scratch = Scratch::new("ctrl-c");
    let mut owner = Owner::start(&scratch.0);
    owner.signal(Signal::INT);
    owner.await_news("interrupted");
    owner.signal(Signal::TERM);
    assert_eq!(owner.child.wait().unwrap().code(), Some(130));
    owner.nodes_end();
}

#[test]
fn a_leftover_is_found_and_killed_and_nothing_else_is() {
    let scratch = Scratch::new("leftover");
    let setup = NodeSetup {
        node: 1,
        data_dir: scratch.0.clone(),
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        peers: Vec::new(),
    };
    let executable = std::env::current_exe().unwrap();
    let mut child = Command::new(&executable)
        .args(node_arguments(&setup))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let me = Identity::of(std::process::id()).unwrap();
    let dead_owner = Identity {
        start_time: me.start_time + 1,
        ..me.clone()
    };
    let ours = Entry {
        node: 1,
        identity: Identity::of(child.id()).unwrap(),
        executable,
    };
    let mut reused = ours.clone();
    reused.identity.start_time += 1;
    let mut other_program = ours.clone();
    other_program.executable = "/bin/true".into();
    let mut other_boot = ours.clone();
    other_boot.identity.boot = "another".to_owned();
    let mut manifest = Manifest {
        owner: me,
        processes: vec![reused, other_program, other_boot, ours],
    };

    manifest.write(&scratch.0).unwrap();
    assert_eq!(leftovers::find(&scratch.0).unwrap(), []);

    manifest.owner = dead_owner;
    manifest.write(&scratch.0).unwrap();
    let found = leftovers::find(&scratch.0).unwrap();
    assert_eq!(found.len(), 1);
    let process = Identity::of(child.id()).unwrap();
    assert_eq!(found[0].undo, Undo::Kill(process));
    assert_eq!(found[0].node.as_deref(), Some("n1"));

    found[0].undo().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(leftovers::find(&scratch.0).unwrap(), []);
    // It is gone: killing it again has nothing to do.
    found[0].undo().unwrap();
}

#[test]
fn a_manifest_that_is_none_is_reported() {
    let scratch = Scratch::new("no-manifest");
    assert_eq!(leftovers::find(&scratch.0).unwrap(), []);
    std::fs::write(scratch.0.join("processes.json"), "{").unwrap();
    let error = leftovers::find(&scratch.0).unwrap_err().to_string();
    assert!(
        error.contains("processes.json is not a manifest"),
        "{error}"
    );
}
