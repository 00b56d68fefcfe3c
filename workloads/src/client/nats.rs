//! The client of NATS JetStream: its API is requests and answers in JSON over plain NATS
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>).
//!
//! | operation | request | |
//! | --- | --- | --- |
//! | enqueue | to the stream's own subject | `ok` when the stream says its sequence number |
//! | dequeue | `CONSUMER.MSG.NEXT` of one message, then `+ACK`, confirmed | `fail` (`empty`) if there is none |
//! | drain | the same until the consumer has nothing to deliver and none unacknowledged | |
//! | write | to `$KV.quorate.KEY` | |
//! | read | `STREAM.MSG.GET` of the last one, or `DIRECT.GET` | |
//! | cas | a read, then a write that expects its revision | `fail` if the value or the revision differs |
//!
//! A queue is a stream (retention `workqueue`, on disk) with one durable pull consumer; all keys of
//! registers are one bucket. They are made when they are first used.
//!
//! | answer | outcome of a change |
//! | --- | --- |
//! | an acknowledgement | `ok` |
//! | nobody listens (`no responders`) | `fail`: the server handed it to nobody |
//! | wrong last sequence | `fail`: compared before it is stored |
//! | any other error, none in time, or the connection broke | `info` |
//!
//! **Dequeues.** An element counts as taken when it has arrived. What the server says was delivered
//! before, and what it did not confirm the acknowledgement of, is listed in `may_repeat`. Without an
//! answer a dequeue is `info`: what it may have been sent is delivered again when it was not
//! acknowledged in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, HeaderMap, Message, Request, RequestErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkers::{F, Outcome, Value};
use serde_json::{Value as Json, json};
use tokio::time::{sleep, timeout};

use super::{At, Client, Login};
use crate::operation::{Completion, Invocation};

/// The bucket of all registers, and the stream that it is.
const BUCKET: &str = "quorate";
const BUCKET_STREAM: &str = "KV_quorate";
/// The consumer of every queue.
const CONSUMER: &str = "quorate";
/// What is not acknowledged so soon is delivered again, nanoseconds.
const ACK_WAIT_NS: u64 = 2_000_000_000;
/// Pause before a consumer that waits for acknowledgements is asked again.
const DRAIN_PAUSE: Duration = Duration::from_millis(100);
/// Longer than any run: a connection that broke is replaced by this client, not by the library.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Codes of errors of JetStream's API.
const WRONG_LAST_SEQUENCE: u64 = 10_071;
const NO_MESSAGE: u64 = 10_037;
const STREAM_NOT_FOUND: u64 = 10_059;
const CONSUMER_NOT_FOUND: u64 = 10_014;

/// Speaks to NATS JetStream, over a connection for each thread and node.
pub struct NatsClient {
    timeout: Duration,
    replicas: u16,
    /// Reads of registers are answered by any replica.
    direct: bool,
    login: Login,
    connections: Mutex<BTreeMap<(u32, String), async_nats::Client>>,
    /// Streams that are known to be there.
    made: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for NatsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsClient")
            .field("timeout", &self.timeout)
            .field("replicas", &self.replicas)
            .field("direct", &self.direct)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// How something ended that did not end well.
type Ended = (Outcome, String);

/// What came of an operation until it ended, or its time was up.
#[derive(Debug, Default)]
struct Taken {
    elements: Vec<Value>,
    may_repeat: Vec<Value>,
}

impl NatsClient {
    /// With this time for an operation, so many copies of each stream, and reads of registers from
    /// any replica (`direct`) or from the leader, and this login: a password without a user is a
    /// token.
    pub fn new(timeout: Duration, replicas: u16, direct: bool, login: Login) -> Self {
        Self {
            timeout,
            replicas,
            direct,
            login,
            connections: Mutex::default(),
            made: Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<(u32, String), async_nats::Client>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(&self, at: At<'_>) -> Result<async_nats::Client, String> {
        let place = (at.thread, at.address.to_owned());
        let known = self.connections().get(&place).cloned();
        let connected = |client: &async_nats::Client| {
            client.connection_state() == async_nats::connection::State::Connected
        };
        if let Some(client) = known.filter(connected) {
            return Ok(client);
        }
        let first = AtomicBool::new(true);
        let mut options = ConnectOptions::new()
            .ignore_discovered_servers()
            .connection_timeout(self.timeout)
            .request_timeout(None)
            .reconnect_delay_callback(move |_| {
                if first.swap(false, Ordering::SeqCst) {
                    Duration::ZERO
                } else {
                    NEVER
                }
            });
        let Login { user, password } = self.login.clone();
        options = match (user, password) {
            (Some(user), password) => options.user_and_password(user, password.unwrap_or_default()),
            (None, Some(token)) => options.token(token),
            (None, None) => options,
        };
        let made = options.connect(format!("nats://{}", at.address)).await;
        let client = made.map_err(|error| match error.kind() {
            ConnectErrorKind::TimedOut => "unreachable".to_owned(),
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                "access-denied".to_owned()
            }
            _ => "connection-refused".to_owned(),
        })?;
        self.connections().insert(place, client.clone());
        Ok(client)
    }

    /// Makes what the operation goes to, unless it is known to be there.
    async fn prepare(&self, client: &async_nats::Client, stream: &str) -> Result<(), String> {
        if self.made().contains(stream) {
            return Ok(());
        }
        let said = |error: Ended| error.1;
        let (name, config) = if stream == BUCKET_STREAM {
            (BUCKET_STREAM, self.bucket())
        } else {
            (stream, self.queue(stream))
        };
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        asked(client, &subject, &config).await.map_err(said)?;
        if stream != BUCKET_STREAM {
            let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{CONSUMER}");
            asked(client, &subject, &consumer(stream))
                .await
                .map_err(said)?;
        }
        self.made().insert(stream.to_owned());
        Ok(())
    }

    fn queue(&self, stream: &str) -> Json {
        json!({
            "name": stream, "subjects": [stream], "retention": "workqueue", "storage": "file",
            "num_replicas": self.replicas, "discard": "new", "max_consumers": -1, "max_msgs": -1,
            "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
        })
    }

    fn bucket(&self) -> Json {
        json!({
            "name": BUCKET_STREAM, "subjects": [format!("$KV.{BUCKET}.>")], "retention": "limits",
            "storage": "file", "num_replicas": self.replicas, "discard": "new",
            "max_msgs_per_subject": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
            "max_age": 0, "max_msg_size": -1, "deny_delete": true, "allow_rollup_hdrs": true,
            "allow_direct": self.direct,
        })
    }

    async fn carry_out(
        &self,
        client: &async_nats::Client,
        stream: &str,
        key: &str,
        invocation: &Invocation,
    ) -> Result<Value, Ended> {
        let value = &invocation.value;
        match &invocation.f {
            F::Read => self.read(client, key).await.map(|(value, _)| value),
            F::Write => {
                let subject = format!("$KV.{BUCKET}.{key}");
                stored(client, &subject, value, None).await?;
                Ok(value.clone())
            }
            F::Cas => {
                let Some([old, new]) = value.items() else {
                    return Err((Outcome::Fail, "bad-argument".to_owned()));
                };
                // Only a read so far: whatever becomes of it, nothing was changed.
                let read = self.read(client, key).await;
                let (shown, revision) = read.map_err(|(_, why)| (Outcome::Fail, why))?;
                if shown != *old {
                    return Err((Outcome::Fail, "not-equal".to_owned()));
                }
                let subject = format!("$KV.{BUCKET}.{key}");
                stored(client, &subject, new, Some(revision)).await?;
                Ok(value.clone())
            }
            _ => {
                stored(client, stream, value, None).await?;
                Ok(value.clone())
            }
        }
    }

    /// The value under a key and its revision; 0 if there is none.
    async fn read(&self, client: &async_nats::Client, key: &str) -> Result<(Value, u64), Ended> {
        let bad = || (Outcome::Info, "bad-response".to_owned());
        let subject = format!("$KV.{BUCKET}.{key}");
        if self.direct {
            let request = format!("$JS.API.DIRECT.GET.{BUCKET_STREAM}.{subject}");
            let message = exchanged(client, &request, Request::new()).await?;
            if message.status.is_some_and(|status| status.as_u16() == 404) {
                return Ok((Value::Nil, 0));
            }
            let revision = message.headers.as_ref().and_then(|headers| {
                let sequence = headers.get("Nats-Sequence")?;
                sequence.as_str().parse().ok()
            });
            let value = serde_json::from_slice(&message.payload).map_err(|_| bad())?;
            return Ok((value, revision.ok_or_else(bad)?));
        }
        let request = format!("$JS.API.STREAM.MSG.GET.{BUCKET_STREAM}");
        let answer = match answered(client, &request, &json!({"last_by_subj": subject})).await {
            Err(error) if error.api == Some(NO_MESSAGE) => return Ok((Value::Nil, 0)),
            answer => answer.map_err(Ended::from)?,
        };
        let message = &answer["message"];
        let data = STANDARD.decode(message["data"].as_str().ok_or_else(bad)?);
        let value = serde_json::from_slice(&data.map_err(|_| bad())?).map_err(|_| bad())?;
        Ok((value, message["seq"].as_u64().ok_or_else(bad)?))
    }
}

fn consumer(stream: &str) -> Json {
    json!({
        "stream_name": stream,
        "config": {
            "durable_name": CONSUMER, "ack_policy": "explicit", "ack_wait": ACK_WAIT_NS,
            "deliver_policy": "all", "replay_policy": "instant", "max_deliver": -1,
        },
    })
}

/// Why a request came to nothing.
#[derive(Debug, PartialEq)]
struct Refused {
    /// The code of JetStream's error, if it answered with one.
    api: Option<u64>,
    outcome: Outcome,
    why: String,
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        (refused.outcome, refused.why)
    }
}

async fn exchanged(
    client: &async_nats::Client,
    subject: &str,
    request: Request,
) -> Result<Message, Ended> {
    // The library waits for an answer for ever, also on a connection that broke.
    let answer = client.send_request(subject.to_owned(), request.timeout(None));
    let broke = async {
        while client.connection_state() == async_nats::connection::State::Connected {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer.map_err(|error| request_ended(error.kind())),
        () = broke => Err((Outcome::Info, "connection-lost".to_owned())),
    }
}

fn request_ended(kind: RequestErrorKind) -> Ended {
    match kind {
        RequestErrorKind::NoResponders => (Outcome::Fail, "no-responders".to_owned()),
        RequestErrorKind::TimedOut => (Outcome::Info, "timeout".to_owned()),
        _ => (Outcome::Info, "connection-lost".to_owned()),
    }
}

/// The answer to a request of the API, or to a message that a stream is to keep.
async fn answered(
    client: &async_nats::Client,
    subject: &str,
    body: &Json,
) -> Result<Json, Refused> {
    let request = Request::new().payload(body.to_string().into());
    let message = exchanged(client, subject, request).await;
    let message = message.map_err(|(outcome, why)| Refused {
        api: None,
        outcome,
        why,
    })?;
    judged(&message.payload)
}

/// The same where the code of an error does not matter.
async fn asked(client: &async_nats::Client, subject: &str, body: &Json) -> Result<Json, Ended> {
    Ok(answered(client, subject, body).await?)
}

fn judged(payload: &[u8]) -> Result<Json, Refused> {
    let answer: Json = serde_json::from_slice(payload).map_err(|_| Refused {
        api: None,
        outcome: Outcome::Info,
        why: "bad-response".to_owned(),
    })?;
    let error = &answer["error"];
    if error.is_null() {
        return Ok(answer);
    }
    let api = error["err_code"].as_u64();
    let (outcome, why) = match api {
        Some(WRONG_LAST_SEQUENCE) => (Outcome::Fail, "not-equal".to_owned()),
        Some(STREAM_NOT_FOUND) => (Outcome::Fail, "stream-not-found".to_owned()),
        Some(CONSUMER_NOT_FOUND) => (Outcome::Fail, "consumer-not-found".to_owned()),
        Some(code) => (Outcome::Info, format!("js-{code}")),
        None => (Outcome::Info, "js-error".to_owned()),
    };
    Err(Refused { api, outcome, why })
}

/// Has a stream keep a value.
async fn stored(
    client: &async_nats::Client,
    subject: &str,
    value: &Value,
    revision: Option<u64>,
) -> Result<(), Ended> {
    let payload = serde_json::to_vec(value).unwrap_or_default();
    let mut request = Request::new().payload(payload.into());
    if let Some(revision) = revision {
        let mut headers = HeaderMap::new();
        let expected = revision.to_string();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.as_str());
        request = request.headers(headers);
    }
    let message = exchanged(client, subject, request).await?;
    let answer = judged(&message.payload)?;
    match answer["seq"].as_u64() {
        Some(1..) => Ok(()),
        _ => Err((Outcome::Info, "bad-response".to_owned())),
    }
}

/// Takes one element, or as many as there are until none is left or on its way. Whether the queue
/// was seen empty.
async fn take(
    client: &async_nats::Client,
    stream: &str,
    all: bool,
    taken: &Mutex<Taken>,
) -> Result<bool, Ended> {
    let taken = || taken.lock().unwrap_or_else(PoisonError::into_inner);
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{CONSUMER}");
    let info = format!("$JS.API.CONSUMER.INFO.{stream}.{CONSUMER}");
    loop {
        let body = json!({"batch": 1, "no_wait": true}).to_string();
        // What is delivered keeps the subject that it was stored under, so that only a subscription of
        // its own tells what it answers.
        let request = Request::new()
            .payload(body.into())
            .inbox(client.new_inbox());
        let message = exchanged(client, &next, request).await?;
        if let Some(status) = message.status {
            match status.as_u16() {
                404 if !all => return Ok(true),
                404 => {}
                other => return Err((Outcome::Fail, format!("status-{other}"))),
            }
            let state = asked(client, &info, &json!({})).await?;
            let none = |field: &str| state[field].as_u64() == Some(0);
            if none("num_pending") && none("num_ack_pending") {
                return Ok(true);
            }
            sleep(DRAIN_PAUSE).await;
            continue;
        }
        let value: Value = serde_json::from_slice(&message.payload)
            .map_err(|_| (Outcome::Info, "bad-response".to_owned()))?;
        {
            let mut taken = taken();
            taken.elements.push(value.clone());
            // Until it is known to have been acknowledged.
            taken.may_repeat.push(value);
        }
        let Some(reply) = message.reply else {
            return Err((Outcome::Info, "bad-response".to_owned()));
        };
        let deliveries = delivered(&reply);
        let ack = Request::new().payload("+ACK".into());
        exchanged(client, &reply, ack).await?;
        if deliveries == Some(1) {
            taken().may_repeat.pop();
        }
        if !all {
            return Ok(false);
        }
    }
}

/// How often a message was delivered, as the subject of its acknowledgement says.
fn delivered(reply: &str) -> Option<u64> {
    let tokens: Vec<&str> = reply.split('.').collect();
    // Newer servers put a domain and an account before the stream.
    let place = if tokens.len() == 9 { 4 } else { 6 };
    tokens.get(place)?.parse().ok()
}

/// What taking one element comes to.
fn dequeued(taken: Taken, ended: Result<bool, Ended>) -> Completion {
    match (taken.elements.into_iter().next(), ended) {
        (Some(element), _) => Completion {
            may_repeat: listed(taken.may_repeat),
            ..Completion::new(Outcome::Ok, element)
        },
        (None, Ok(_)) => ended_badly(Outcome::Fail, "empty", Value::Nil),
        (None, Err((outcome, why))) => ended_badly(outcome, &why, Value::Nil),
    }
}

/// The same of all elements.
fn drained(taken: Taken, ended: Result<bool, Ended>) -> Completion {
    let nothing = taken.elements.is_empty();
    let elements: Value = taken.elements.into_iter().collect();
    let may_repeat = listed(taken.may_repeat);
    match ended {
        Ok(_) => Completion {
            may_repeat,
            ..Completion::new(Outcome::Ok, elements)
        },
        Err((_, why)) if nothing => ended_badly(Outcome::Fail, &why, Value::Nil),
        Err((_, why)) => Completion {
            may_repeat,
            ..ended_badly(Outcome::Info, &why, elements)
        },
    }
}

fn listed(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then(|| values.into_iter().collect())
}

fn ended_badly(outcome: Outcome, why: &str, value: Value) -> Completion {
    Completion {
        error: Some(why.into()),
        ..Completion::new(outcome, value)
    }
}

/// A key as a token of a subject.
fn token(key: &Value) -> String {
    let text = match key {
        Value::Str(text) => text.to_string(),
        other => other.to_string(),
    };
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.chars()
        .map(|c| if kept(c) { c } else { '_' })
        .collect()
}

impl Client for NatsClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let argument = || invocation.value.clone();
        let f = invocation.f.name();
        let Some(key) = invocation.key.as_ref().map(token) else {
            return ended_badly(Outcome::Fail, "no-key", argument());
        };
        let stream = match f {
            "enqueue" | "dequeue" | "drain" => key.clone(),
            "read" | "write" | "cas" => BUCKET_STREAM.to_owned(),
            _ => return ended_badly(Outcome::Fail, "unknown-function", argument()),
        };
        let prepared = async {
            let client = self.connection(at).await?;
            self.prepare(&client, &stream).await?;
            Ok::<_, String>(client)
        };
        let place = (at.thread, at.address.to_owned());
        let client = match timeout(self.timeout, prepared).await {
            Ok(Ok(client)) => client,
            // Nothing of the operation was sent.
            Ok(Err(why)) => return ended_badly(Outcome::Fail, &why, argument()),
            Err(_) => {
                self.connections().remove(&place);
                return ended_badly(Outcome::Fail, "unreachable", argument());
            }
        };
        let in_time = || (Outcome::Info, "timeout".to_owned());
        let completion = if matches!(f, "dequeue" | "drain") {
            let taken = Mutex::default();
            let done = take(&client, &stream, f == "drain", &taken);
            let ended = timeout(self.timeout, done)
                .await
                .unwrap_or_else(|_| Err(in_time()));
            let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
            if f == "drain" {
                drained(taken, ended)
            } else {
                dequeued(taken, ended)
            }
        } else {
            let done = self.carry_out(&client, &stream, &key, invocation);
            let ended = timeout(self.timeout, done)
                .await
                .unwrap_or_else(|_| Err(in_time()));
            match ended {
                Ok(value) => Completion::new(Outcome::Ok, value),
                // A read changes nothing.
                Err((_, why)) if f == "read" => ended_badly(Outcome::Fail, &why, argument()),
                Err((outcome, why)) => ended_badly(outcome, &why, argument()),
            }
        };
        let why = completion.error.as_deref().unwrap_or_default();
        if matches!(
            why,
            "no-responders" | "stream-not-found" | "consumer-not-found"
        ) {
            // It may be gone for good: it is made again where it is.
            self.made().remove(&stream);
        }
        if matches!(why, "timeout" | "connection-lost" | "bad-response") {
            // What it may still bring is an answer to nothing.
            self.connections().remove(&place);
        }
        completion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_failures_only_where_nothing_was_stored() {
        let outcome = |text: &str| judged(text.as_bytes()).map_err(|refused| refused.outcome);
        assert!(outcome(r#"{"stream":"k0","seq":3}"#).is_ok());
        let error = |code: u64| format!(r#"{{"error":{{"code":400,"err_code":{code}}}}}"#);
        assert_eq!(outcome(&error(WRONG_LAST_SEQUENCE)), Err(Outcome::Fail));
        assert_eq!(outcome(&error(10_077)), Err(Outcome::Info));
        assert_eq!(outcome("+OK"), Err(Outcome::Info));
        let ended = |kind| request_ended(kind).0;
        assert_eq!(ended(RequestErrorKind::NoResponders), Outcome::Fail);
        assert_eq!(ended(RequestErrorKind::TimedOut), Outcome::Info);
        assert_eq!(ended(RequestErrorKind::Other), Outcome::Info);
    }

    #[test]
    fn a_message_says_how_often_it_was_delivered() {
        assert_eq!(delivered("$JS.ACK.k0.quorate.2.7.9.1700000000.0"), Some(2));
        let with_domain = "$JS.ACK._.hash.k0.quorate.3.7.9.1700000000.0.x";
        assert_eq!(delivered(with_domain), Some(3));
        assert_eq!(delivered("_INBOX.x"), None);
    }

    #[test]
    fn what_has_arrived_was_taken_however_it_ended() {
        let taken = || Taken {
            elements: vec![Value::Int(7)],
            may_repeat: vec![Value::Int(7)],
        };
        let broke = || Err((Outcome::Info, "timeout".to_owned()));
        let one = dequeued(taken(), broke());
        assert_eq!((one.outcome, one.value), (Outcome::Ok, Value::Int(7)));
        assert!(one.may_repeat.is_some());
        let empty = dequeued(Taken::default(), Ok(true));
        assert_eq!(empty.error.as_deref(), Some("empty"));
        assert_eq!(drained(taken(), broke()).outcome, Outcome::Info);
        assert_eq!(drained(Taken::default(), broke()).outcome, Outcome::Fail);
        assert_eq!(drained(taken(), Ok(true)).outcome, Outcome::Ok);
    }

    #[test]
    fn keys_are_tokens_of_subjects() {
        assert_eq!(token(&Value::str("q4f09a1-k3")), "q4f09a1-k3");
        assert_eq!(token(&Value::str("a.b c")), "a_b_c");
    }
}
