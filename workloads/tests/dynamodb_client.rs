//! The client of the DynamoDB API: against a scripted server that says what the API can say, and
//! against dynalite (`npm install dynalite`), a server of the API for one node, where that is
//! installed; or against the endpoint that `QUORATE_DYNAMODB` names (`host:port`, without TLS).
#![cfg(feature = "dynamodb")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use checkers::{F, Outcome, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use workloads::client::At;
use workloads::client::dynamodb::{DynamoDbClient, Keys, Settings};
use workloads::{Client, Completion, Invocation};

fn client(table: &str, create: bool) -> DynamoDbClient {
    DynamoDbClient::new(Settings {
        timeout: Duration::from_secs(5),
        consistent: true,
        table: table.to_owned(),
        create,
        region: "us-east-1".to_owned(),
        tls: false,
        keys: Keys {
            id: "quorate".to_owned(),
            secret: "quorate".to_owned(),
            token: None,
        },
    })
}

async fn ask(client: &DynamoDbClient, address: &str, f: &str, key: &str, json: &str) -> Completion {
    let at = At {
        thread: 0,
        node: 1,
        address,
    };
    let f = F::from_name(f);
    let with_key = !key.is_empty() && f.name() != "txn";
    let key = with_key.then(|| Value::str(key));
    let value = serde_json::from_str(json).unwrap();
    client.invoke(at, &Invocation::new(f, key, value)).await
}

/// What a scripted server was asked, and how often.
#[derive(Clone, Default)]
struct Asked {
    times: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

/// A server that answers everything alike.
async fn scripted(status: u16, body: &'static str) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let app = Router::new().fallback(move |headers: HeaderMap, request: String| {
        let seen = seen.clone();
        async move {
            seen.times.fetch_add(1, Ordering::SeqCst);
            let target = headers["x-amz-target"].to_str().unwrap().to_owned();
            *seen.last.lock().unwrap() = format!("{target} {request}");
            let json = [("content-type", "application/x-amz-json-1.0")];
            (StatusCode::from_u16(status).unwrap(), json, body)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

#[tokio::test]
async fn an_error_is_asked_for_once_and_means_what_is_documented() {
    let throttled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"m"}"#;
    let canceled = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","CancellationReasons":[{"Code":"TransactionConflict"}]}"#;
    let internal = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}"#;
    for (status, body, f, value, outcome, error) in [
        (
            400,
            throttled,
            "write",
            "1",
            Outcome::Fail,
            "ProvisionedThroughputExceededException",
        ),
        (
            400,
            canceled,
            "txn",
            r#"[["w",1,1]]"#,
            Outcome::Fail,
            "TransactionCanceledException",
        ),
        (500, internal, "write", "1", Outcome::Info, "server-error"),
        (503, "", "write", "1", Outcome::Info, "server-error"),
        (
            200,
            "not JSON",
            "read",
            "null",
            Outcome::Info,
            "bad-response",
        ),
    ] {
        let (address, asked) = scripted(status, body).await;
        let client = client("t", false);
        let done = ask(&client, &address.to_string(), f, "x", value).await;
        assert_eq!(
            (done.outcome, done.error.as_deref()),
            (outcome, Some(error)),
            "{body}"
        );
        assert_eq!(asked.times.load(Ordering::SeqCst), 1, "{body}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_asked_again_and_nobody_is_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut first = [0; 1];
            // It has begun to read the request.
            stream.readable().await.unwrap();
            let _ = stream.try_read(&mut first);
        }
    });
    let done = ask(&client("t", false), &address, "write", "x", "1").await;
    assert_eq!(
        (done.outcome, done.error.as_deref()),
        (Outcome::Info, Some("connection-lost"))
    );
    assert_eq!(taken.load(Ordering::SeqCst), 1);
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let done = ask(&client("t", false), &address, "write", "x", "1").await;
    assert_eq!(
        (done.outcome, done.error.as_deref()),
        (Outcome::Fail, Some("connection-refused"))
    );
}

#[tokio::test]
async fn a_transfer_is_one_transaction_and_an_account_begins_with_its_first_balance() {
    let (address, asked) = scripted(200, "{}").await;
    let transfer = |amount| format!(r#"{{"from":"a","to":"b","amount":{amount}}}"#);
    for (amount, condition) in [
        (3, "attribute_not_exists(#v) OR #v >= :amount"),
        (11, "#v >= :amount"),
    ] {
        let client = client("t", false);
        let done = ask(
            &client,
            &address.to_string(),
            "transfer",
            "",
            &transfer(amount),
        )
        .await;
        assert_eq!(done.outcome, Outcome::Ok, "{done:?}");
        let sent = asked.last.lock().unwrap().clone();
        assert!(
            sent.starts_with("DynamoDB_20120810.TransactWriteItems"),
            "{sent}"
        );
        assert!(
            sent.contains(&format!("\"ConditionExpression\":\"{condition}\"")),
            "{sent}"
        );
        assert_eq!(sent.matches("\"Update\"").count(), 2, "{sent}");
        assert_eq!(sent.matches("ConditionExpression").count(), 1, "{sent}");
    }
    let held = r#"{"Responses":[{},{"Item":{"k":{"S":"b"},"v":{"N":"7"}}}]}"#;
    let (address, _) = scripted(200, held).await;
    let read = ask(
        &client("t", false),
        &address.to_string(),
        "read",
        "",
        r#"["a","b"]"#,
    )
    .await;
    let balances = [(Value::str("a"), 10.into()), (Value::str("b"), 7.into())];
    assert_eq!(
        (read.outcome, read.value),
        (Outcome::Ok, Value::Map(balances.into()))
    );
}

#[tokio::test]
async fn a_transaction_reads_or_writes_and_what_is_neither_is_not_sent() {
    let found = r#"{"Responses":[{"Item":{"k":{"S":"1"},"v":{"L":[{"N":"7"}]}}},{}]}"#;
    let (address, asked) = scripted(200, found).await;
    let address = address.to_string();
    let client = client("t", false);
    let read = ask(
        &client,
        &address,
        "txn",
        "",
        r#"[["r",1,null],["r",2,null]]"#,
    )
    .await;
    assert_eq!(read.outcome, Outcome::Ok);
    let shown: Value = serde_json::from_str(r#"[["r",1,[7]],["r",2,null]]"#).unwrap();
    assert_eq!(read.value, shown);
    let last = || asked.last.lock().unwrap().clone();
    assert!(
        last().starts_with("DynamoDB_20120810.TransactGetItems "),
        "{}",
        last()
    );

    let both = ask(
        &client,
        &address,
        "txn",
        "",
        r#"[["append",1,8],["w",2,9]]"#,
    )
    .await;
    assert_eq!(both.outcome, Outcome::Ok);
    assert!(
        last().starts_with("DynamoDB_20120810.TransactWriteItems "),
        "{}",
        last()
    );
    assert!(last().contains("list_append"), "{}", last());

    for text in [
        r#"[["r",1,null],["w",2,9]]"#,
        r#"[["w",1,8],["w",1,9]]"#,
        "[]",
    ] {
        let refused = ask(&client, &address, "txn", "", text).await;
        assert_eq!(refused.outcome, Outcome::Fail, "{text}");
        assert_eq!(
            refused.error.as_deref(),
            Some("transaction-not-expressible")
        );
    }
    assert_eq!(asked.times.load(Ordering::SeqCst), 2);
}

/// dynalite, ended with the test.
struct Served {
    address: String,
    _process: Option<tokio::process::Child>,
}

async fn served() -> Option<Served> {
    if let Some(address) = std::env::var_os("QUORATE_DYNAMODB") {
        let address = address.into_string().unwrap();
        return Some(Served {
            address,
            _process: None,
        });
    }
    let program = std::env::var_os("QUORATE_DYNALITE").unwrap_or(OsString::from("dynalite"));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let started = Command::new(&program)
        .args(["--host", "127.0.0.1", "--createTableMs", "50", "--port"])
        .arg(address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut process) = started else {
        eprintln!(
            "not tested: no dynalite on the PATH or in QUORATE_DYNALITE: `npm install -g dynalite`"
        );
        return None;
    };
    let mut said = String::new();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    out.read_line(&mut said).await.unwrap();
    assert!(said.contains("listening"), "{said}");
    Some(Served {
        address: address.to_string(),
        _process: Some(process),
    })
}

#[tokio::test]
async fn a_server_of_the_api_does_what_each_operation_says() {
    let Some(served) = served().await else {
        return;
    };
    let address = served.address.as_str();
    let table = format!("quorate-{}", std::process::id());
    let none = ask(&client(&table, false), address, "write", "x", "1").await;
    assert_eq!(
        (none.outcome, none.error.as_deref()),
        (Outcome::Fail, Some("ResourceNotFoundException"))
    );

    let client = client(&table, true);
    let ok = |text| Ok(serde_json::from_str::<Value>(text).unwrap());
    for (f, key, value, wanted) in [
        ("read", "x", "null", ok("null")),
        ("cas", "x", "[null,1]", ok("[null,1]")),
        ("cas", "x", "[null,2]", Err("not-equal")),
        ("cas", "x", "[2,3]", Err("not-equal")),
        ("read", "x", "null", ok("1")),
        ("cas", "x", "[1,2]", ok("[1,2]")),
        ("write", "x", "3", ok("3")),
        ("read", "x", "null", ok("3")),
        ("append", "l", "1", ok("1")),
        ("append", "l", "2", ok("2")),
        ("read", "l", "null", ok("[1,2]")),
        ("add", "s", "5", ok("5")),
        ("add", "s", "5", ok("5")),
        ("read", "s", "null", ok("[5]")),
        ("increment", "c", "2", ok("2")),
        ("increment", "c", "-5", ok("-5")),
        ("read", "c", "null", ok("-3")),
        ("increment", "l", "1", Err("ValidationException")),
        ("read", "l", "null", ok("[1,2]")),
    ] {
        let done = ask(&client, address, f, key, value).await;
        match wanted {
            Ok(wanted) => {
                assert_eq!(
                    (done.outcome, done.error),
                    (Outcome::Ok, None),
                    "{f} {value}"
                );
                assert_eq!(done.value, wanted, "{f} {value}");
            }
            Err(code) => {
                assert_eq!(done.outcome, Outcome::Fail, "{f} {value}");
                assert_eq!(done.error.as_deref(), Some(code), "{f} {value}");
            }
        }
    }

    let write = r#"[["w","x",7],["append","l",3]]"#;
    let written = ask(&client, address, "txn", "", write).await;
    if written.error.as_deref() == Some("UnknownOperationException") {
        eprintln!("not tested: transactions, which this server does not know");
        assert_eq!(written.outcome, Outcome::Fail);
        return;
    }
    assert_eq!((written.outcome, written.error), (Outcome::Ok, None));
    let read = ask(
        &client,
        address,
        "txn",
        "",
        r#"[["r","l",null],["r","x",null]]"#,
    )
    .await;
    let shown: Value = serde_json::from_str(r#"[["r","l",[1,2,3]],["r","x",7]]"#).unwrap();
    assert_eq!((read.outcome, read.value), (Outcome::Ok, shown));
}
