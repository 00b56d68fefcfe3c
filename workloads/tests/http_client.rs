//! The HTTP client against servers that behave, and servers that do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri, header};
use checkers::{F, Outcome, Value};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use workloads::client::At;
use workloads::{Client, Completion, HttpClient, Invocation, NullClient, Quorum, Replaced};

/// Far longer than anything here takes, so that no test depends on how fast the machine is.
const LONG: Duration = Duration::from_secs(60);

fn client(timeout: Duration) -> HttpClient {
    HttpClient::new(timeout).expect("an HTTP client")
}

fn at(address: &str) -> At<'_> {
    At {
        thread: 0,
        node: 1,
        address,
    }
}

fn invocation(f: F, key: Option<&str>, value: Value) -> Invocation {
    Invocation::new(f, key.map(Value::str), value)
}

fn write() -> Invocation {
    invocation(F::Write, Some("k1"), Value::Int(7))
}

fn read() -> Invocation {
    invocation(F::Read, Some("k1"), Value::Nil)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, format!("http://{address}"))
}

type Seen = Arc<Mutex<Vec<(Method, String, String)>>>;

/// A server that gives one answer to everything, and what it was asked.
async fn answering(status: u16, body: String) -> (String, Seen) {
    let (listener, url) = listen().await;
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let answer = move |method: Method, uri: Uri, request: Bytes| async move {
        let request = String::from_utf8_lossy(&request).into_owned();
        record
            .lock()
            .unwrap()
            .push((method, uri.to_string(), request));
        let status = StatusCode::from_u16(status).expect("a status");
        // Where a client that followed redirects would go.
        (status, [(header::LOCATION, "/elsewhere")], body)
    };
    let app = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

async fn ask(status: u16, body: &str, invocation: &Invocation) -> Completion {
    let (url, seen) = answering(status, body.to_owned()).await;
    let completion = client(LONG).invoke(at(&url), invocation).await;
    assert_eq!(seen.lock().unwrap().len(), 1, "asked exactly once");
    completion
}

fn assert_ends(completion: &Completion, outcome: Outcome, code: &str) {
    assert_eq!(
        (completion.outcome, completion.error.as_deref()),
        (outcome, Some(code)),
        "{completion:?}"
    );
}

/// A server that treats each connection as told, and counts the connections.
async fn treating<T, R>(treat: T) -> (String, Arc<Mutex<u32>>)
where
    T: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let (listener, url) = listen().await;
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            treat(stream).await;
        }
    });
    (url, connections)
}

/// Reads until the end of a request's head; the requests here are sent in one piece.
async fn take_request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
}

fn pair(first: Value, second: Value) -> Value {
    [first, second].into_iter().collect()
}

fn map(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs.iter().map(|(k, v)| (Value::str(k), Value::str(v)));
    Value::Map(pairs.collect())
}

const WITNESS: &str = r#""node":"n2","role":"leader","epoch":3"#;

#[tokio::test]
async fn every_operation_is_asked_as_the_api_says() {
    let cas: Value = [Value::Int(1), Value::Int(2)].into_iter().collect();
    let mut local = read();
    local.local = true;
    let mut local_all = invocation(F::Read, None, Value::Nil);
    local_all.local = true;
    let value_7 = r#"{"value":7}"#;
    for (invocation, method, path, body) in [
        (read(), "GET", "/v1/kv/k1", ""),
        (local, "GET", "/v1/kv/k1?read=local", ""),
        (invocation(F::Read, None, Value::Nil), "GET", "/v1/kv", ""),
        (local_all, "GET", "/v1/kv?read=local", ""),
        (write(), "PUT", "/v1/kv/k1", value_7),
        (
            invocation(F::Cas, Some("k1"), cas),
            "POST",
            "/v1/kv/k1/cas",
            r#"{"new":2,"old":1}"#,
        ),
        (
            invocation(F::Append, Some("k1"), Value::Int(7)),
            "POST",
            "/v1/kv/k1/append",
            value_7,
        ),
        (
            invocation(F::Add, Some("k1"), Value::Int(7)),
            "POST",
            "/v1/kv/k1/add",
            value_7,
        ),
        (
            invocation(F::Increment, Some("k1"), Value::Int(-7)),
            "POST",
            "/v1/kv/k1/increment",
            r#"{"value":-7}"#,
        ),
        (
            invocation(F::Insert, Some("k1"), pair(Value::Nil, Value::Int(7))),
            "POST",
            "/v1/kv/k1/insert",
            r#"{"after":null,"value":7}"#,
        ),
        (
            invocation(F::Remove, Some("k1"), Value::Int(7)),
            "POST",
            "/v1/kv/k1/remove",
            value_7,
        ),
        (
            invocation(F::Remove, Some("k1"), Value::Nil),
            "DELETE",
            "/v1/kv/k1",
            "",
        ),
        (
            invocation(F::Put, Some("k1"), pair(Value::str("f"), Value::Int(7))),
            "POST",
            "/v1/kv/k1/put",
            r#"{"field":"f","value":7}"#,
        ),
        (
            invocation(F::Generate, Some("k1"), Value::str("random")),
            "POST",
            "/v1/kv/k1/generate",
            r#"{"function":"random"}"#,
        ),
        (
            invocation(F::Acquire, Some("k1"), Value::str("me")),
            "POST",
            "/v1/kv/k1/cas",
            r#"{"new":"me","old":null}"#,
        ),
        (
            invocation(F::Release, Some("k1"), Value::str("me")),
            "POST",
            "/v1/kv/k1/cas",
            r#"{"new":null,"old":"me"}"#,
        ),
        (
            invocation(F::Inspect, None, Value::Nil),
            "GET",
            "/v1/digest",
            "",
        ),
        (
            invocation(F::Inspect, Some("k1"), Value::Nil),
            "GET",
            "/v1/kv/k1?read=local",
            "",
        ),
        (
            invocation(F::Write, Some("a/b ?é"), Value::Int(7)),
            "PUT",
            "/v1/kv/a%2Fb%20%3F%C3%A9",
            value_7,
        ),
    ] {
        let (url, seen) = answering(
            200,
            format!(r#"{{"value":5,"entries":{{"k1":5}},"digest":"0f","scope":"a/",{WITNESS}}}"#),
        )
        .await;
        let completion = client(LONG)
            .invoke(at(&format!("{url}/")), &invocation)
            .await;
        assert_eq!(completion.outcome, Outcome::Ok, "{completion:?}");
        let witness = completion.witness.expect("a witness");
        assert_eq!(
            (&*witness.node, &*witness.role, witness.epoch),
            ("n2", "leader", 3)
        );
        let expected = match (&invocation.f, &invocation.key) {
            (F::Read | F::Inspect, Some(_)) | (F::Generate, _) => Value::Int(5),
            (F::Inspect, None) => map(&[("digest", "0f"), ("scope", "a/")]),
            (F::Read, None) => Value::Map([(Value::str("k1"), Value::Int(5))].into()),
            _ => invocation.value.clone(),
        };
        assert_eq!(completion.value, expected);
        let seen = seen.lock().unwrap();
        assert_eq!(
            *seen,
            [(method.parse().unwrap(), path.to_owned(), body.to_owned())]
        );
    }
}

#[tokio::test]
async fn what_else_is_asked_for_is_in_the_query_and_what_comes_back_is_kept() {
    let mut asked = write();
    asked.session = Some("n0:5".into());
    asked.replaces = Some(Replaced {
        context: "n1:3,n2:4".into(),
        seen: [Value::Int(1)].into_iter().collect(),
    });
    asked.quorum = Quorum {
        n: Some(3),
        r: None,
        w: Some(2),
    };
    // Reads alone can be local.
    asked.local = true;
    let body = format!(r#"{{"session":"n0:6","context":"n1:4",{WITNESS}}}"#);
    let (url, seen) = answering(200, body).await;
    let completion = client(LONG).invoke(at(&url), &asked).await;
    assert_eq!(
        seen.lock().unwrap()[0].1,
        "/v1/kv/k1?session=n0:5&context=n1:3,n2:4&n=3&w=2"
    );
    assert_eq!(completion.session.as_deref(), Some("n0:6"));
    assert_eq!(completion.context.as_deref(), Some("n1:4"));

    let mut asked = read();
    asked.local = true;
    asked.quorum.r = Some(1);
    asked.session = Some("a&b=ü".into());
    let error = format!(r#"{{"error":"unavailable","outcome":"fail","session":"s",{WITNESS}}}"#);
    let (url, seen) = answering(503, error).await;
    let completion = client(LONG).invoke(at(&url), &asked).await;
    assert_eq!(
        seen.lock().unwrap()[0].1,
        "/v1/kv/k1?read=local&session=a%26b%3D%C3%BC&r=1"
    );
    assert_ends(&completion, Outcome::Fail, "unavailable");
    assert_eq!(completion.session.as_deref(), Some("s"));
}

#[tokio::test]
async fn a_digest_without_scope_is_none_and_one_that_stopped_says_why() {
    let inspect = invocation(F::Inspect, None, Value::Nil);
    let body = format!(r#"{{"digest":"0f",{WITNESS}}}"#);
    let completion = ask(200, &body, &inspect).await;
    assert_ends(&completion, Outcome::Info, "bad-response");
    let body = format!(r#"{{"digest":"0f","scope":"","stopped":"version 2",{WITNESS}}}"#);
    let expected = map(&[("digest", "0f"), ("scope", ""), ("stopped", "version 2")]);
    assert_eq!(ask(200, &body, &inspect).await.value, expected);
}

#[tokio::test]
async fn reads_return_registers_lists_and_nothing() {
    for (value, expected) in [
        ("null", Value::Nil),
        ("42", Value::Int(42)),
        (
            "[1,2]",
            [Value::Int(1), Value::Int(2)].into_iter().collect(),
        ),
        (
            r#"[["f",1]]"#,
            [pair(Value::str("f"), Value::Int(1))].into_iter().collect(),
        ),
    ] {
        let body = format!(r#"{{"value":{value},{WITNESS}}}"#);
        let completion = ask(200, &body, &read()).await;
        assert_eq!(
            (completion.outcome, completion.value),
            (Outcome::Ok, expected)
        );
    }
}

#[tokio::test]
async fn the_store_s_own_word_on_an_error_counts() {
    let error = |code: &str, outcome: &str| {
        json!({"error": code, "message": "m", "outcome": outcome, "leader": "n3",
               "node": "n1", "role": "follower", "epoch": 2})
        .to_string()
    };
    let completion = ask(503, &error("not-leader", "fail"), &write()).await;
    assert_ends(&completion, Outcome::Fail, "not-leader");
    assert_eq!(completion.leader_hint, Some(3));
    assert_eq!(completion.value, Value::Int(7));
    let witness = completion.witness.expect("a witness");
    assert_eq!(
        (&*witness.node, &*witness.role, witness.epoch),
        ("n1", "follower", 2)
    );

    let completion = ask(409, &error("leadership-lost", "info"), &write()).await;
    assert_ends(&completion, Outcome::Info, "leadership-lost");
    let without_hint = r#"{"error":"cas-mismatch","outcome":"fail"}"#;
    let completion = ask(409, without_hint, &write()).await;
    assert_ends(&completion, Outcome::Fail, "cas-mismatch");
    assert_eq!((completion.leader_hint, completion.witness), (None, None));
    // An outcome that there is not is no word at all.
    let completion = ask(500, &error("odd", "perhaps"), &write()).await;
    assert_ends(&completion, Outcome::Info, "http-500");
}

#[tokio::test]
async fn without_the_store_s_word_the_status_decides() {
    for (status, outcome) in [
        (400, Outcome::Fail),
        (404, Outcome::Fail),
        (413, Outcome::Fail),
        (408, Outcome::Info),
        (500, Outcome::Info),
        (502, Outcome::Info),
        (503, Outcome::Info),
    ] {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"error":"x"}"#,
            r#"{"outcome":"fail"}"#,
        ] {
            let completion = ask(status, body, &write()).await;
            assert_ends(&completion, outcome, &format!("http-{status}"));
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let completion = ask(status, "", &write()).await;
        assert_ends(&completion, Outcome::Info, &format!("http-{status}"));
    }
}

#[tokio::test]
async fn a_success_that_does_not_parse_is_unknown() {
    for body in [
        "",
        "ok",
        "{",
        "[]",
        "{}",
        r#"{"value":5}"#,
        r#"{"value":5,"node":"n1"}"#,
    ] {
        assert_ends(
            &ask(200, body, &write()).await,
            Outcome::Info,
            "bad-response",
        );
        assert_ends(
            &ask(200, body, &read()).await,
            Outcome::Info,
            "bad-response",
        );
    }
    let no_value = format!("{{{WITNESS}}}");
    assert_ends(
        &ask(200, &no_value, &read()).await,
        Outcome::Info,
        "bad-response",
    );
    assert_eq!(ask(200, &no_value, &write()).await.outcome, Outcome::Ok);
}

#[tokio::test]
async fn a_refused_connection_is_a_certain_failure() {
    let (listener, url) = listen().await;
    drop(listener);
    let completion = client(LONG).invoke(at(&url), &write()).await;
    assert_ends(&completion, Outcome::Fail, "connection-refused");
    assert_eq!(completion.value, Value::Int(7));
}

#[tokio::test]
async fn a_timeout_is_unknown_before_and_within_the_answer() {
    let short = client(Duration::from_millis(50));
    let (silent, _) = treating(|mut stream| async move {
        take_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_ends(
        &short.invoke(at(&silent), &write()).await,
        Outcome::Info,
        "timeout",
    );
    let (stuck, _) = treating(|mut stream| async move {
        take_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
        stream.write_all(head).await.expect("written");
        std::future::pending::<()>().await;
    })
    .await;
    assert_ends(
        &short.invoke(at(&stuck), &write()).await,
        Outcome::Info,
        "timeout",
    );
}

#[tokio::test]
async fn a_lost_connection_is_unknown_and_never_retried() {
    let answers: [&[u8]; 3] = [
        b"",
        b"HTTP/1.1 200 OK\r\ncont",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"value\":",
    ];
    for answer in answers {
        let (url, connections) = treating(move |mut stream| async move {
            take_request(&mut stream).await;
            stream.write_all(answer).await.expect("written");
        })
        .await;
        let completion = client(LONG).invoke(at(&url), &write()).await;
        assert_ends(&completion, Outcome::Info, "connection-lost");
        assert_eq!(*connections.lock().unwrap(), 1);
    }
}

#[tokio::test]
async fn a_request_lost_on_a_reused_connection_is_not_sent_again() {
    let (url, connections) = treating(|mut stream| async move {
        take_request(&mut stream).await;
        let body = format!("{{{WITNESS}}}");
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.expect("written");
        // The second request is read, and then the server dies.
        take_request(&mut stream).await;
    })
    .await;
    let client = client(LONG);
    assert_eq!(client.invoke(at(&url), &write()).await.outcome, Outcome::Ok);
    let completion = client.invoke(at(&url), &write()).await;
    assert_ends(&completion, Outcome::Info, "connection-lost");
    assert_eq!(
        *connections.lock().unwrap(),
        1,
        "kept alive, and not opened again"
    );
}

#[tokio::test]
async fn what_the_store_cannot_do_is_not_sent() {
    let client = client(LONG);
    for (invocation, code) in [
        (
            invocation(F::Other("drop".into()), Some("k1"), Value::Nil),
            "unknown-function",
        ),
        (
            invocation(F::Cas, Some("k1"), Value::Int(1)),
            "bad-argument",
        ),
        (
            invocation(F::Increment, Some("k1"), Value::str("one")),
            "bad-argument",
        ),
        (
            invocation(F::Insert, Some("k1"), Value::Int(1)),
            "bad-argument",
        ),
        (invocation(F::Write, None, Value::Int(1)), "no-key"),
        (invocation(F::Remove, None, Value::Nil), "no-key"),
    ] {
        let completion = client.invoke(at("http://127.0.0.1:1"), &invocation).await;
        assert_ends(&completion, Outcome::Fail, code);
    }
    assert_ends(
        &client.invoke(at("no url"), &write()).await,
        Outcome::Fail,
        "bad-url",
    );
}

#[tokio::test]
async fn the_null_client_says_yes() {
    let completion = NullClient.invoke(at(""), &write()).await;
    assert_eq!(
        (completion.outcome, completion.value),
        (Outcome::Ok, Value::Int(7))
    );
}
