//! The client by description, against a server that keeps registers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use checkers::{F, Outcome, Value};
use serde_json::{Value as AnyJson, json};
use workloads::client::At;
use workloads::client::mapped::{Api, Exchange, Found, MappedClient, Written};
use workloads::{Client, Completion, Invocation};

const LONG: Duration = Duration::from_secs(60);

type Registers = Arc<Mutex<BTreeMap<String, AnyJson>>>;

/// A store with an API of its own: 404 for a key never written, 409 for a swap that does not apply.
async fn store() -> String {
    async fn show(
        State(all): State<Registers>,
        Path(key): Path<String>,
    ) -> Result<Json<AnyJson>, StatusCode> {
        let value = all.lock().unwrap().get(&key).cloned();
        value
            .map(|value| Json(json!({"held": {"value": value}})))
            .ok_or(StatusCode::NOT_FOUND)
    }
    async fn set(State(all): State<Registers>, Path(key): Path<String>, body: Bytes) -> StatusCode {
        let body: AnyJson = serde_json::from_slice(&body).unwrap();
        all.lock().unwrap().insert(key, body["value"].clone());
        StatusCode::NO_CONTENT
    }
    async fn swap(
        State(all): State<Registers>,
        Path(key): Path<String>,
        body: Bytes,
    ) -> StatusCode {
        let body: AnyJson = serde_json::from_slice(&body).unwrap();
        let mut all = all.lock().unwrap();
        if all.get(&key) == Some(&body["from"]) {
            all.insert(key, body["to"].clone());
            StatusCode::OK
        } else {
            StatusCode::CONFLICT
        }
    }
    let app = Router::new()
        .route("/kv/{key}", get(show).put(set))
        .route("/kv/{key}/swap", post(swap))
        .with_state(Registers::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn exchange(request: &str) -> Exchange {
    Exchange {
        request: request.to_owned(),
        ..Exchange::default()
    }
}

fn api() -> Api {
    let found = |at: &str| Found {
        at: at.to_owned(),
        ..Found::default()
    };
    let read = Exchange {
        value: Some(found("/held/value")),
        absent: vec![404],
        ..exchange("GET /kv/{key}")
    };
    let write = Exchange {
        body: Some(r#"{"value": {value}}"#.to_owned()),
        ..exchange("PUT /kv/{key}")
    };
    let cas = Exchange {
        body: Some(r#"{"from": {old}, "to": {new}}"#.to_owned()),
        fail: vec![409],
        ..exchange("POST /kv/{key}/swap")
    };
    [("read", read), ("write", write), ("cas", cas)]
        .map(|(name, exchange)| (name.to_owned(), exchange))
        .into()
}

async fn ask(client: &MappedClient, url: &str, f: F, value: Value) -> Completion {
    let at = At {
        thread: 0,
        node: 1,
        address: url,
    };
    let key = Some(Value::str("a/b"));
    client.invoke(at, &Invocation::new(f, key, value)).await
}

#[tokio::test]
async fn a_register_behind_any_api_is_read_written_and_swapped() {
    let url = store().await;
    let client = MappedClient::new(&api(), LONG).unwrap();
    let shown = ask(&client, &url, F::Read, Value::Nil).await;
    assert_eq!((shown.outcome, shown.value), (Outcome::Ok, Value::Nil));
    assert_eq!(
        ask(&client, &url, F::Write, Value::Int(5)).await.outcome,
        Outcome::Ok
    );
    let shown = ask(&client, &url, F::Read, Value::Nil).await;
    assert_eq!((shown.outcome, shown.value), (Outcome::Ok, Value::Int(5)));
    let pair = |old, new| [old, new].into_iter().map(Value::Int).collect::<Value>();
    let refused = ask(&client, &url, F::Cas, pair(4, 6)).await;
    assert_eq!(
        (refused.outcome, refused.error.as_deref()),
        (Outcome::Fail, Some("http-409"))
    );
    assert_eq!(
        ask(&client, &url, F::Cas, pair(5, 6)).await.outcome,
        Outcome::Ok
    );
    assert_eq!(
        ask(&client, &url, F::Read, Value::Nil).await.value,
        Value::Int(6)
    );
    // What is not described was not asked.
    let unknown = ask(&client, &url, F::Append, Value::Int(1)).await;
    assert_eq!(
        (unknown.outcome, unknown.error.as_deref()),
        (Outcome::Fail, Some("unknown-function"))
    );
    let nobody = ask(&client, "http://127.0.0.1:1", F::Write, Value::Int(1)).await;
    assert_eq!(
        (nobody.outcome, nobody.error.as_deref()),
        (Outcome::Fail, Some("connection-refused"))
    );
}

/// A server that gives one answer to everything.
async fn answering(status: u16, body: &'static str) -> String {
    let app = Router::new()
        .fallback(move || async move { (StatusCode::from_u16(status).unwrap(), body) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn only_what_the_description_calls_so_is_ok_or_fail() {
    let client = MappedClient::new(&api(), LONG).unwrap();
    for (status, body, f, outcome, code) in [
        (400, "", F::Write, Outcome::Info, Some("http-400")),
        (404, "", F::Write, Outcome::Info, Some("http-404")),
        (500, "", F::Read, Outcome::Info, Some("http-500")),
        (202, "", F::Write, Outcome::Info, Some("http-202")),
        (409, "", F::Write, Outcome::Info, Some("http-409")),
        (201, "", F::Write, Outcome::Ok, None),
        (
            200,
            "not JSON",
            F::Read,
            Outcome::Info,
            Some("bad-response"),
        ),
        (200, "{}", F::Read, Outcome::Info, Some("bad-response")),
    ] {
        let url = answering(status, body).await;
        let done = ask(&client, &url, f.clone(), Value::Int(1)).await;
        assert_eq!(
            (done.outcome, done.error.as_deref()),
            (outcome, code),
            "{status} {body} {f:?}"
        );
    }
}

#[tokio::test]
async fn values_are_found_as_they_are_written() {
    // As etcd's gateway answers: Base64, nothing for a key never written, 200 for a failed swap.
    let read = Exchange {
        value: Some(Found {
            at: "/kvs/0/value".to_owned(),
            r#as: Written::Base64,
            optional: true,
        }),
        ..exchange("POST /v3/kv/range")
    };
    let cas = Exchange {
        succeeded: Some("/succeeded".to_owned()),
        ..exchange("POST /v3/kv/txn")
    };
    let api = [("read".to_owned(), read), ("cas".to_owned(), cas)].into();
    let client = MappedClient::new(&api, LONG).unwrap();
    let pair: Value = [1, 2].into_iter().map(Value::Int).collect();
    for (body, f, outcome, value) in [
        (
            r#"{"kvs":[{"value":"NDI="}]}"#,
            F::Read,
            Outcome::Ok,
            Value::Int(42),
        ),
        (
            r#"{"kvs":[{"value":"aGk="}]}"#,
            F::Read,
            Outcome::Ok,
            Value::str("hi"),
        ),
        (r#"{"count":"0"}"#, F::Read, Outcome::Ok, Value::Nil),
        (
            r#"{"kvs":[{"value":"%"}]}"#,
            F::Read,
            Outcome::Info,
            pair.clone(),
        ),
        (r#"{"succeeded":true}"#, F::Cas, Outcome::Ok, pair.clone()),
        (r"{}", F::Cas, Outcome::Fail, pair.clone()),
        (
            r#"{"succeeded":"perhaps"}"#,
            F::Cas,
            Outcome::Info,
            pair.clone(),
        ),
        ("gibberish", F::Cas, Outcome::Info, pair.clone()),
    ] {
        let url = answering(200, body).await;
        let done = ask(&client, &url, f, pair.clone()).await;
        assert_eq!((done.outcome, done.value), (outcome, value), "{body}");
    }
}

#[test]
fn a_description_that_cannot_be_one_is_refused_with_what_would_be_right() {
    let refused = |name: &str, exchange: Exchange| {
        let api = [(name.to_owned(), exchange)].into();
        MappedClient::new(&api, LONG).unwrap_err().to_string()
    };
    for (said, part) in [
        (refused("raed", exchange("GET /")), "no operation raed"),
        (refused("read", exchange("/kv")), "`GET /kv/{key}`"),
        (refused("read", exchange("FETCH /kv")), "PUT, POST"),
        (refused("read", exchange("GET kv")), "begin with /"),
        (
            refused("read", exchange("GET /{value}")),
            "read: there is no {value} here; there are {key}",
        ),
        (
            refused(
                "cas",
                Exchange {
                    succeeded: Some("succeeded".to_owned()),
                    ..exchange("POST /")
                },
            ),
            "JSON pointer",
        ),
    ] {
        assert!(said.contains(part), "{said}");
    }
}
