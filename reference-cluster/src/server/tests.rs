//! Nodes on loopback, spoken to as a client would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{NodeOptions, Running, bind, start};
use crate::core::config::{Ack, Mode, Reads};
use crate::core::{Config, NodeId};

/// A folder that is removed in the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-test-{}-{unique}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Cluster {
    client: Client,
    options: BTreeMap<NodeId, NodeOptions>,
    running: BTreeMap<NodeId, Running>,
    _folder: Folder,
}

impl Cluster {
    async fn new(config: Config, nodes: u16) -> Self {
        let folder = Folder::new();
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let mut options: BTreeMap<_, _> = ids
            .iter()
            .map(|id| {
                let options = NodeOptions {
                    id: *id,
                    listen: "127.0.0.1:0".parse().unwrap(),
                    peers: ids
                        .iter()
                        .filter(|peer| *peer != id)
                        .map(|peer| (*peer, String::new()))
                        .collect(),
                    data: folder.path().join(format!("n{}", id.0)),
                    config: config.clone(),
                    seed: 7,
                    allow_faults: true,
                    exit_with_parent: false,
                    exit_on_stdin_eof: false,
                };
                (*id, options)
            })
            .collect();
        let mut listeners = BTreeMap::new();
        for id in &ids {
            let listener = bind(&options[id]).await.unwrap();
            let address = listener.local_addr().unwrap();
            listeners.insert(*id, listener);
            for (other, options) in &mut options {
                if other == id {
                    options.listen = address;
                } else {
                    options.peers.insert(*id, address.to_string());
                }
            }
        }
        let running = listeners
            .into_iter()
            .map(|(id, listener)| (id, start(&options[&id], listener).unwrap()))
            .collect();
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Self {
            client,
            options,
            running,
            _folder: folder,
        }
    }

    async fn call(&self, node: NodeId, method: Method, path: &str, body: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.options[&node].listen);
        let request = self.client.request(method, url).body(body.to_owned());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, node: NodeId, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, text) = self.call(node, method, path, &body).await;
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        (status, value)
    }

    async fn get(&self, node: NodeId, path: &str) -> (u16, Value) {
        self.json(node, Method::GET, path, Value::Null).await
    }

    /// Waits until every node is ready and believes in the same leader, and returns it.
    async fn leader(&self) -> NodeId {
        loop {
            let mut leaders = Vec::new();
            for node in self.running.keys() {
                let (ready, _) = self.call(*node, Method::GET, "/readyz", "").await;
                let (_, status) = self.get(*node, "/v1/status").await;
                if ready == 200 {
                    leaders.push(status["leader"].as_u64());
                }
            }
            leaders.dedup();
            if let [Some(leader)] = leaders[..]
                && self.running.contains_key(&NodeId(leader as u16))
                && self.get(NodeId(leader as u16), "/v1/status").await.1["role"] == "leader"
            {
                return NodeId(leader as u16);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a local read at a node gives this value.
    async fn await_value(&self, node: NodeId, key: &str, expected: &Value) {
        loop {
            let (_, answer) = self.get(node, &format!("/v1/kv/{key}?read=local")).await;
            if answer["value"] == *expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&mut self, node: NodeId) {
        let Running {
            driver, serving, ..
        } = self.running.remove(&node).unwrap();
        for task in [driver.abort_handle(), serving.abort_handle()] {
            task.abort();
        }
        let _ = (driver.await, serving.await);
    }

    async fn restart(&mut self, node: NodeId) {
        // The thread of the journal lets go of it in its own time.
        loop {
            let listener = bind(&self.options[&node]).await;
            if let Ok(running) = listener.and_then(|l| start(&self.options[&node], l)) {
                self.running.insert(node, running);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn raft() -> Config {
    Config {
        mode: Mode::Raft,
        ..Config::default()
    }
}

async fn serves_everything(config: Config) {
    // No failover on a machine that is merely busy.
    let config = Config {
        failover_timeout_ms: 4_000,
        ..config
    };
    let cluster = Cluster::new(config, 3).await;
    let leader = cluster.leader().await;
    let follower = *cluster
        .running
        .keys()
        .find(|node| **node != leader)
        .unwrap();
    let put = |key: &str, value: Value| {
        let path = format!("/v1/kv/{key}");
        let cluster = &cluster;
        async move {
            cluster
                .json(leader, Method::PUT, &path, json!({ "value": value }))
                .await
        }
    };
    let post = |path: &'static str, body: Value| cluster.json(leader, Method::POST, path, body);

    let (status, answer) = cluster.get(leader, "/v1/kv/a").await;
    assert_eq!((status, &answer["value"]), (200, &Value::Null));
    let (status, answer) = put("a", json!(1)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["node"], format!("n{}", leader.0));
    assert_eq!(answer["role"], "leader");
    assert!(answer["epoch"].as_u64().unwrap() >= 1 && answer["position"].as_u64().unwrap() >= 1);
    assert_eq!(cluster.get(leader, "/v1/kv/a").await.1["value"], 1);

    let (status, answer) = post("/v1/kv/a/cas", json!({ "old": 1, "new": "zwei" })).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = post("/v1/kv/a/cas", json!({ "old": 1, "new": 3 })).await;
    assert_eq!((status, &answer["error"]), (409, &json!("cas-mismatch")));
    assert_eq!(
        (&answer["actual"], &answer["outcome"]),
        (&json!("zwei"), &json!("fail"))
    );

    for n in [3, 1, 3] {
        assert_eq!(post("/v1/kv/l/append", json!({ "value": n })).await.0, 200);
        assert_eq!(post("/v1/kv/s/add", json!({ "value": n })).await.0, 200);
    }
    let (status, answer) = post("/v1/kv/l/add", json!({ "value": 1 })).await;
    assert_eq!((status, &answer["error"]), (409, &json!("wrong-kind")));
    // Keys may hold any character.
    assert_eq!(put("%2F%3Fk%C3%A4%20%25", json!(null)).await.0, 200);
    let (_, answer) = cluster.get(leader, "/v1/kv").await;
    let all = json!({ "a": "zwei", "l": [3, 1, 3], "s": [1, 3], "/?kä %": null });
    assert_eq!(answer["entries"], all);

    for n in [5, -2] {
        assert_eq!(
            post("/v1/kv/c/increment", json!({ "value": n })).await.0,
            200
        );
    }
    for (after, n) in [
        (json!(null), 1),
        (json!(1), 3),
        (json!(1), 2),
        (json!(3), 4),
    ] {
        let body = json!({ "after": after, "value": n });
        assert_eq!(post("/v1/kv/t/insert", body).await.0, 200);
    }
    assert_eq!(post("/v1/kv/t/remove", json!({ "value": 3 })).await.0, 200);
    for (field, n) in [("b", 1), ("a", 2)] {
        let body = json!({ "field": field, "value": n });
        assert_eq!(post("/v1/kv/m/put", body).await.0, 200);
    }
    for (key, value) in [
        ("c", json!(3)),
        ("t", json!([1, 2, 4])),
        ("m", json!([["a", 2], ["b", 1]])),
    ] {
        let (_, answer) = cluster.get(leader, &format!("/v1/kv/{key}")).await;
        assert_eq!(answer["value"], value, "{key}");
    }
    let delete = |key: &str| {
        let path = format!("/v1/kv/{key}");
        let cluster = &cluster;
        async move {
            cluster
                .json(leader, Method::DELETE, &path, Value::Null)
                .await
        }
    };
    assert_eq!(delete("m").await.0, 200);
    assert_eq!(
        cluster.get(leader, "/v1/kv/m").await.1["value"],
        Value::Null
    );

    let (status, answer) = cluster.get(leader, "/v1/digest").await;
    assert_eq!((status, &answer["scope"]), (200, &json!("")));
    let digest = answer["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), 16);
    // A follower tells its own, and comes to hold the same.
    while cluster.get(follower, "/v1/digest").await.1["digest"] != json!(digest) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let (status, answer) = cluster.get(follower, "/v1/kv/a").await;
    assert_eq!((status, &answer["error"]), (421, &json!("not-leader")));
    assert_eq!(answer["leader"], format!("n{}", leader.0));
    cluster.await_value(follower, "l", &json!([3, 1, 3])).await;

    let (status, answer) = cluster.get(leader, "/v1/status").await;
    assert_eq!((status, &answer["role"]), (200, &json!("leader")));
    assert_eq!(
        cluster.call(leader, Method::GET, "/healthz", "").await.0,
        200
    );
    let (status, text) = cluster.call(leader, Method::GET, "/metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "quorate_node_operations_total{kind=\"cas\",outcome=\"cas-mismatch\"} 1",
        "quorate_node_role{role=\"leader\"} 1",
        "quorate_node_fsync_seconds_count",
    ] {
        assert!(text.contains(line), "no {line} in:\n{text}");
    }
}

#[tokio::test]
async fn a_single_leader_serves_everything() {
    serves_everything(Config::default()).await;
}

#[tokio::test]
async fn semi_sync_serves_everything() {
    serves_everything(Config {
        ack: Ack::SemiSync(1),
        ..Config::default()
    })
    .await;
}

#[tokio::test]
async fn raft_serves_everything() {
    serves_everything(raft()).await;
}

#[tokio::test]
async fn operators_are_answered_like_clients() {
    let cluster = Cluster::new(Config::default(), 3).await;
    let leader = cluster.leader().await;
    let join = json!({"add-member": 2});
    let (status, answer) = cluster.json(leader, Method::POST, "/v1/admin", join).await;
    assert_eq!((status, &answer["error"]), (501, &json!("unsupported")));
    let (status, answer) = cluster
        .json(leader, Method::POST, "/v1/admin", json!({"dance": 2}))
        .await;
    assert_eq!((status, &answer["error"]), (400, &json!("bad-input")));
    assert!(answer["message"].as_str().unwrap().contains("add-member"));
}

#[tokio::test]
async fn a_raft_member_leaves_and_comes_back() {
    let cluster = Cluster::new(raft(), 3).await;
    let leader = cluster.leader().await;
    let other = NodeId(leader.0 % 3 + 1);
    let ask = async |node, body| cluster.json(node, Method::POST, "/v1/admin", body).await;
    let (status, answer) = ask(other, json!({"remove-member": other.0})).await;
    assert_eq!((status, &answer["error"]), (421, &json!("not-leader")));
    for (request, stopped) in [("remove-member", true), ("add-member", false)] {
        assert_eq!(ask(leader, json!({ request: other.0 })).await.0, 200);
        while cluster.get(other, "/v1/status").await.1["stopped"].is_string() != stopped {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn bad_input_is_told_what_was_wrong() {
    let config = Config {
        max_key_bytes: 8,
        max_value_bytes: 16,
        max_body_bytes: 64,
        reads: Reads::Any,
        ..Config::default()
    };
    let cluster = Cluster::new(config, 1).await;
    let node = cluster.leader().await;
    let long = format!(r#"{{"value":"{}"}}"#, "x".repeat(17));
    let longer = format!(r#"{{"value":"{}"}}"#, "x".repeat(100));
    for (method, path, body, status, code, word) in [
        ("PUT", "/v1/kv/k", "", 400, "bad-input", "EOF"),
        ("PUT", "/v1/kv/k", "{", 400, "bad-input", "line 1"),
        (
            "PUT",
            "/v1/kv/k",
            "{}",
            400,
            "bad-input",
            "missing field `value`",
        ),
        (
            "PUT",
            "/v1/kv/k",
            r#"{"value":1.5}"#,
            400,
            "bad-input",
            "whole number",
        ),
        (
            "PUT",
            "/v1/kv/k",
            r#"{"value":[1]}"#,
            400,
            "bad-input",
            "whole number",
        ),
        (
            "PUT",
            "/v1/kv/k",
            r#"{"value":9223372036854775808}"#,
            400,
            "bad-input",
            "64 bits",
        ),
        (
            "PUT",
            "/v1/kv/k",
            r#"{"value":1,"ttl":2}"#,
            400,
            "bad-input",
            "ttl",
        ),
        (
            "PUT",
            "/v1/kv/k",
            r#"{"value":1} x"#,
            400,
            "bad-input",
            "trailing",
        ),
        ("PUT", "/v1/kv/k", &long, 413, "too-large", "17 bytes"),
        ("PUT", "/v1/kv/k", &longer, 413, "too-large", "64 bytes"),
        (
            "PUT",
            "/v1/kv/",
            r#"{"value":1}"#,
            400,
            "bad-input",
            "empty",
        ),
        (
            "PUT",
            "/v1/kv/123456789",
            r#"{"value":1}"#,
            413,
            "too-large",
            "9 bytes",
        ),
        (
            "PUT",
            "/v1/kv/%ff",
            r#"{"value":1}"#,
            400,
            "bad-input",
            "UTF-8",
        ),
        (
            "POST",
            "/v1/kv/k/cas",
            r#"{"old":1}"#,
            400,
            "bad-input",
            "missing field `new`",
        ),
        (
            "GET",
            "/v1/kv/k?read=stale",
            "",
            400,
            "bad-input",
            "read=local",
        ),
        (
            "GET",
            "/v1/kv/k?session=5",
            "",
            400,
            "bad-input",
            "version vector",
        ),
        ("GET", "/v1/kv/k?w=many", "", 400, "bad-input", "w="),
        (
            "GET",
            "/v1/digest?colour=red",
            "",
            400,
            "bad-input",
            "colour",
        ),
        (
            "POST",
            "/v1/kv/k/increment",
            r#"{"value":"1"}"#,
            400,
            "bad-input",
            "i64",
        ),
        (
            "POST",
            "/v1/kv/k/insert",
            r#"{"value":1}"#,
            400,
            "bad-input",
            "missing field `after`",
        ),
        (
            "POST",
            "/v1/kv/k/generate",
            r#"{"function":"guess"}"#,
            400,
            "bad-input",
            "auto-increment",
        ),
        ("PATCH", "/v1/kv/k", "", 405, "method-not-allowed", "PATCH"),
        ("POST", "/v1/kv/k/pop", "", 404, "not-found", "/pop"),
        ("GET", "/", "", 404, "not-found", "nothing"),
        (
            "POST",
            "/internal/messages",
            "gibberish",
            400,
            "bad-input",
            "batch",
        ),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (found, text) = cluster.call(node, method.clone(), path, body).await;
        let answer: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{method} {path} {body}: no JSON but {text:?}"));
        let what = format!("{method} {path} {body}: {answer}");
        assert_eq!((found, &answer["error"]), (status, &json!(code)), "{what}");
        assert_eq!(answer["outcome"], "fail", "{what}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{what}");
    }
    let (_, answer) = cluster.get(node, "/v1/kv").await;
    assert_eq!(answer["entries"], json!({}), "something was half-applied");
}

/// What the query asks for reaches the replica, and what it answers reaches the client.
#[test]
fn sessions_contexts_and_quorums_pass_through() {
    use super::json::answer;
    use super::query::Query;
    use crate::core::{Answer, Op, Position, Quorum, Reply, Request, Role};
    use axum::body::to_bytes;

    let uri = "/v1/kv/k?read=local&session=n0:5&context=n1%3A3,n2:4&n=3&r=2&w=1";
    let query = axum::extract::Query::<Query>::try_from_uri(&uri.parse().unwrap()).unwrap();
    let request = query.0.request(Op::Read("k".into()));
    assert_eq!(
        request,
        Request {
            op: Op::Read("k".into()),
            local: true,
            session: Some("n0:5".parse().unwrap()),
            context: Some("n1:3,n2:4".parse().unwrap()),
            quorum: Quorum {
                n: Some(3),
                r: Some(2),
                w: Some(1),
            },
        }
    );
    let reply = Reply {
        result: Ok(Answer::Done),
        node: NodeId(4),
        role: Role::Peer,
        epoch: 0,
        position: Position::default(),
        session: Some("n1:1".parse().unwrap()),
        context: Some("n2:2".parse().unwrap()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let body = runtime
        .block_on(to_bytes(answer(&reply).into_body(), 1_000))
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({ "node": "n4", "role": "peer", "epoch": 0, "position": 0,
        "session": "n1:1", "context": "n2:2" });
    assert_eq!(body, expected);
}

async fn survives_its_leader(config: Config) {
    let mut cluster = Cluster::new(config, 3).await;
    let first = cluster.leader().await;
    let body = json!({ "value": 1 });
    assert_eq!(
        cluster.json(first, Method::PUT, "/v1/kv/k", body).await.0,
        200
    );
    for node in cluster.running.keys() {
        cluster.await_value(*node, "k", &json!(1)).await;
    }
    cluster.stop(first).await;
    let second = cluster.leader().await;
    assert_ne!(first, second);
    let body = json!({ "old": 1, "new": 2 });
    assert_eq!(
        cluster
            .json(second, Method::POST, "/v1/kv/k/cas", body)
            .await
            .0,
        200
    );
    cluster.restart(first).await;
    cluster.await_value(first, "k", &json!(2)).await;
    // All at once, from their journals alone.
    for node in [1, 2, 3].map(NodeId) {
        cluster.stop(node).await;
    }
    for node in [1, 2, 3].map(NodeId) {
        cluster.restart(node).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(cluster.get(leader, "/v1/kv/k").await.1["value"], 2);
}

#[tokio::test]
async fn a_single_leader_is_replaced_and_returns() {
    survives_its_leader(Config::default()).await;
}

#[tokio::test]
async fn a_raft_leader_is_replaced_and_returns() {
    survives_its_leader(raft()).await;
}

#[tokio::test]
async fn a_clock_that_is_set_shows_in_the_status_and_in_what_is_generated() {
    let cluster = Cluster::new(Config::default(), 1).await;
    let node = cluster.leader().await;
    let generate = async || {
        let function = json!({"function": "now"});
        let path = "/v1/kv/k/generate";
        let (status, answer) = cluster.json(node, Method::POST, path, function).await;
        assert_eq!(status, 200, "{answer}");
        answer["value"].as_i64().unwrap()
    };
    let before = generate().await;
    let jump = json!({"jump": {"by_ms": -3_600_000}});
    let (status, said) = cluster
        .json(node, Method::POST, "/v1/fault/clock", jump)
        .await;
    assert_eq!(
        (status, &said["wall_ahead_ns"]),
        (200, &json!(-3_600_000_000_000_i64))
    );
    assert!(generate().await < before - 3_000_000_000_000);
    let (_, standing) = cluster.get(node, "/v1/status").await;
    assert_eq!(
        standing["clock"]["wall_ahead_ns"],
        json!(-3_600_000_000_000_i64)
    );
    assert_eq!(standing["clock"]["monotonic_ahead_ns"], json!(0));
    let (_, said) = cluster
        .json(node, Method::POST, "/v1/fault/clock", json!("reset"))
        .await;
    assert_eq!(said["wall_ahead_ns"], json!(0));
    assert!(generate().await > before);
    let wrong = json!({"jump": {"by": 1}});
    let (status, _) = cluster
        .json(node, Method::POST, "/v1/fault/clock", wrong)
        .await;
    assert_eq!(status, 400);
}
