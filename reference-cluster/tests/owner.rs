//! A node as a process of its own: it says where it listens, keeps what it acknowledged, and ends
//! with its owner, however that ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use reference_cluster::core::{Config, NodeId};
use reference_cluster::server::{NodeOptions, run};

/// Names the folder of the node, in the environment of a process that is to be one.
const FOLDER: &str = "QUORATE_TEST_NODE_FOLDER";
/// Whether that node watches its parent; otherwise it watches its stdin.
const PARENT: &str = "QUORATE_TEST_NODE_PARENT";

/// Not a test but the node itself, when the tests below start this program again.
#[tokio::test]
async fn node_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let parent = std::env::var_os(PARENT).is_some();
    let options = NodeOptions {
        id: NodeId(1),
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: BTreeMap::new(),
        data: folder.into(),
        config: Config::default(),
        seed: 0,
        allow_faults: false,
        exit_with_parent: parent,
        exit_on_stdin_eof: !parent,
    };
    run(options).await.unwrap();
}

/// The arguments that make this program run nothing but the node.
const ARGUMENTS: [&str; 3] = ["--exact", "node_process", "--nocapture"];

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("quorate-owner-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn spawn(command: &mut Command) -> (Child, BufReader<ChildStdout>, SocketAddr) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // The test harness has its own lines.
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the node ended");
        if let Some((_, address)) = line.split_once("listening ") {
            break address.trim().parse().unwrap();
        }
    };
    (child, stdout, address)
}

/// One request over a connection of its own.
fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: n1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Writes as soon as the node leads.
fn write(address: SocketAddr, value: i64) {
    let body = format!(r#"{{"value":{value}}}"#);
    while !call(address, "PUT", "/v1/kv/k", &body)
        .unwrap()
        .starts_with("HTTP/1.1 200")
    {
        sleep(Duration::from_millis(10));
    }
}

/// Waits until nobody listens there.
fn await_end(address: SocketAddr) {
    while TcpStream::connect(address).is_ok() {
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_ends_when_stdin_is_closed_and_starts_on_what_it_kept() {
    let folder = Folder::new("stdin");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(ARGUMENTS).env(FOLDER, &folder.0);
    let (mut child, _stdout, address) = spawn(&mut command);
    write(address, 7);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());

    let (mut child, _stdout, address) = spawn(&mut command);
    let answer = call(address, "GET", "/v1/kv/k?read=local", "").unwrap();
    assert!(answer.contains(r#""value":7"#), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
    await_end(address);
}

#[test]
fn it_is_killed_when_its_parent_is() {
    let folder = Folder::new("parent");
    // The shell is the parent. What it runs beside itself has no stdin of ours to watch.
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(r#""$0" "$@" & wait"#)
        .arg(std::env::current_exe().unwrap());
    shell
        .args(ARGUMENTS)
        .env(FOLDER, &folder.0)
        .env(PARENT, "yes");
    let (mut shell, _stdout, address) = spawn(&mut shell);
    assert!(
        call(address, "GET", "/healthz", "")
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    shell.kill().unwrap();
    shell.wait().unwrap();
    await_end(address);
}
