//! Helper processes of the tests: a node, and an owner of nodes. Both are "tests" of this very
//! binary that do nothing unless they are asked for by a further argument, which the test runner
//! takes for one more filter.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::routing::{get, post};
use checkers::{F, Value};
use nemesis::{Action, Endpoint, Link, Node, Proof};
use reference_cluster::core::{NodeId, Position, Role, Status};
use rustix::process::{Signal, set_parent_process_death_signal};
use workloads::Invocation;

use crate::experiment::On;
use crate::local::disk::Needs;
use crate::local::program::{NodeSetup, Program, Serves};
use crate::local::{LocalSubstrate, StartError};
use crate::stores::AnyClient;
use crate::substrate::{Happening, Substrate};

/// The answer to [`ping`].
const ENTRIES: &str = r#"{"entries": {}, "node": "n1", "role": "leader", "epoch": 7}"#;
const AS_NODE: &str = "as-stand-in-node";
const AS_OWNER: &str = "as-owner-of-nodes";
const AS_KEEPER: &str = "as-keeper-of-leases";

/// A directory of this test alone, removed when dropped.
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Arguments that run one helper of this binary.
pub(super) fn helper(test: &str, role: &str, argument: &str) -> Vec<OsString> {
    let test = format!("local::tests::{test}");
    [
        "--exact",
        &test,
        "--nocapture",
        "--test-threads=1",
        role,
        argument,
    ]
    .map(Into::into)
    .into()
}

/// What follows this role on the command line, if this process is to play it.
pub(super) fn asked_for(role: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != role);
    arguments.next()?;
    arguments.next()
}

pub(super) fn node_arguments(setup: &NodeSetup) -> Vec<OsString> {
    let setup = format!("n{}@{}", setup.node, setup.listen);
    helper("stand_in::node", AS_NODE, &setup)
}

pub(super) fn owner_arguments(run_dir: &Path) -> Vec<OsString> {
    helper("stand_in::owner", AS_OWNER, run_dir.to_str().unwrap())
}

/// Reads everything, which a stand-in answers with nothing.
pub(super) fn ping() -> Invocation {
    Invocation::new(F::Read, None, Value::Nil)
}

pub(super) fn program() -> Program {
    Program {
        path: std::env::current_exe().unwrap(),
        arguments: Box::new(|setup| Ok(node_arguments(setup))),
        version_flag: "as-storage-version",
        versions: None,
        keeper: |file| helper("stand_in::keeper", AS_KEEPER, file.to_str().unwrap()),
        preload_clock: false,
        serves: Serves::default(),
    }
}

pub(super) fn start_program(
    nodes: u16,
    run_dir: &Path,
    program: &Program,
) -> Result<LocalSubstrate, StartError> {
    start_on(On::Local, nodes, run_dir, program)
}

pub(super) fn start_on(
    on: On,
    nodes: u16,
    run_dir: &Path,
    program: &Program,
) -> Result<LocalSubstrate, StartError> {
    let timeout = Duration::from_millis(500);
    let client = AnyClient::new(None, None, timeout).unwrap();
    LocalSubstrate::start_program(on, nodes, run_dir, client, program, &Needs::default())
}

pub(super) fn start(nodes: u16, run_dir: &Path) -> Result<LocalSubstrate, StartError> {
    start_program(nodes, run_dir, &program())
}

/// A node that follows the contract of [`Program`].
#[test]
fn node() {
    let Some(setup) = asked_for(AS_NODE) else {
        return;
    };
    let (name, listen) = setup.split_once('@').unwrap();
    let (name, listen) = (name.to_owned(), listen.to_owned());
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    eprintln!("{name} says hello");
    let id = NodeId(name.strip_prefix('n').unwrap().parse().unwrap());
    let status = Status {
        id,
        role: if id.0 == 1 {
            Role::Leader
        } else {
            Role::Follower
        },
        epoch: 7,
        leader: Some(NodeId(1)),
        last: Position {
            epoch: 7,
            leader: 1,
            index: 42,
        },
        applied: 42,
        discarded: 0,
        pending: 0,
        storage_version: storage_version(),
        stopped: None,
        standbys: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        // The test runner has begun a line of its own.
        println!("\nlistening {}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let router = axum::Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/v1/kv", get(|| async { ENTRIES }))
            .route(
                "/v1/admin",
                post(move |body: String| async move { admin(id.0, &body) }),
            )
            .route("/v1/status", get(|| async move { Json(status) }))
            .route("/child", get(|| async { child() }))
            .route("/hold", get(|| async { hold() }))
            .route("/exit", get(|| async { std::process::exit(3) as String }));
        axum::serve(listener, router).await.unwrap();
    });
}

/// Starts a process that does not notice this one's end, as some stores do; its pid.
fn child() -> String {
    let mut command = std::process::Command::new("sleep");
    command.arg("600").stdin(std::process::Stdio::null());
    let child = command.stdout(std::process::Stdio::null()).spawn();
    child.unwrap().id().to_string()
}

/// Holds 64 MiB more from now on.
fn hold() -> String {
    let bytes = vec![1_u8; 64 << 20];
    // Read, so that all of it is there.
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    std::mem::forget(bytes);
    sum.to_string()
}

fn storage_version() -> u16 {
    asked_for("as-storage-version").map_or(1, |version| version.parse().unwrap())
}

/// Node 1 says that node 2 leads, which lets n4 join and n3 leave, and nothing else.
fn admin(node: u16, body: &str) -> (StatusCode, String) {
    match (node, body) {
        (1, _) => (
            StatusCode::MISDIRECTED_REQUEST,
            r#"{"error": "not-leader", "leader": "n2", "message": "not the leader"}"#.to_owned(),
        ),
        (2, r#"{"add-member":4}"# | r#"{"remove-member":3}"#) => (StatusCode::OK, "{}".to_owned()),
        _ => (
            StatusCode::NOT_IMPLEMENTED,
            format!(
                r#"{{"error": "unsupported", "message": "no {}"}}"#,
                body.len()
            ),
        ),
    }
}

/// A keeper of the leases of a run.
#[test]
fn keeper() {
    let Some(leases) = asked_for(AS_KEEPER) else {
        return;
    };
    // The test runner has begun a line of its own.
    println!();
    let leases = leases.into();
    let code = crate::commands::keeper::run(&crate::commands::keeper::KeeperArgs { leases });
    std::process::exit(i32::from(code.unwrap()));
}

/// A harness with three nodes, one of them paused; says so and goes on until it is killed.
#[test]
fn owner() {
    let Some(run_dir) = asked_for(AS_OWNER) else {
        return;
    };
    let mut substrate = start(3, Path::new(&run_dir)).unwrap();
    substrate.inject(1, &Action::Pause(vec![2]), None);
    loop {
        let news = match substrate.next(u64::MAX) {
            Happening::Injected { .. } => "ready",
            Happening::Interrupted => "interrupted",
            other => panic!("{other:?}"),
        };
        println!("\n{news}");
        std::io::stdout().flush().unwrap();
    }
}

pub(super) fn between(from: Node, to: Node) -> Link {
    Link {
        from: Endpoint::Node(from),
        to: Endpoint::Node(to),
    }
}

pub(super) fn from_clients(to: Node) -> Link {
    Link {
        from: Endpoint::Clients,
        to: Endpoint::Node(to),
    }
}

#[track_caller]
pub(super) fn seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::Seen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}

#[track_caller]
pub(super) fn not_seen(proof: &Proof, part: &str) {
    assert!(
        matches!(proof, Proof::NotSeen(text) if text.contains(part)),
        "{part:?}: {proof:?}"
    );
}
