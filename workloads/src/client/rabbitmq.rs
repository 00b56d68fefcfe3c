//! The client of RabbitMQ (AMQP 0-9-1). A key is a queue.
//!
//! | operation | method | |
//! | --- | --- | --- |
//! | enqueue | `basic.publish`, persistent and mandatory; with publisher confirms unless told otherwise | `ok` when confirmed |
//! | dequeue | `basic.get`, then `basic.ack` | `fail` (`empty`) if there is nothing |
//! | drain | both until the queue is empty | |
//!
//! Queues are declared (durable) before the first operation of a connection on them.
//!
//! | answer | outcome of an enqueue |
//! | --- | --- |
//! | confirmed | `ok` |
//! | returned as unroutable | `fail`: it reached no queue |
//! | refused (`basic.nack`) | `info`: the broker could not do it, which is not to say that no replica has it |
//! | none, or the connection broke | `info` |
//! | without confirms: none is asked for | `ok`, which then says that it was sent |
//!
//! **Dequeues.** An element counts as taken when it has arrived: its delivery proves that it was not
//! lost. Nothing confirms an acknowledgement by a consumer, so the broker may deliver it again; it
//! promises to mark what may be a repetition (`redelivered`), and those, and elements whose
//! acknowledgement could not be sent, are listed in `may_repeat`. A `basic.get` without an answer
//! is `info`: an element may be kept for a connection that is no more, until the broker notices.
//! That there is no such queue (404) is `fail`. A drain of which nothing came and that got no
//! answer is `fail`: whatever was sent to it goes back to the queue when its connection is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checkers::{Outcome, Value};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Error, ErrorKind,
};
use tokio::time::timeout;

use super::{At, Client, Login};
use crate::operation::{Completion, Invocation};

/// Seconds between heartbeats: how soon a broker notices that a client is gone.
const HEARTBEAT: u16 = 2;
/// AMQP's code for what does not exist.
const NOT_FOUND: u16 = 404;
/// The user that a server begins with, and its password.
const GUEST: &str = "guest";
/// The delivery mode of a message that goes to disk.
const PERSISTENT: u8 = 2;

/// As whom, and where, the client keeps its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whom it logs in as; `guest` with the same password where it is not said.
    pub login: Login,
    /// The virtual host.
    pub vhost: String,
}

impl Access {
    /// Where a node at this address is; `None` if that is no address.
    fn uri(&self, address: &str) -> Option<AMQPUri> {
        let (host, port) = address.rsplit_once(':')?;
        let given = |text: &Option<String>| text.clone().unwrap_or_else(|| GUEST.to_owned());
        Some(AMQPUri {
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: given(&self.login.user),
                    password: given(&self.login.password),
                },
                host: host.trim_matches(['[', ']']).to_owned(),
                port: port.parse().ok()?,
            },
            vhost: self.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(HEARTBEAT),
                ..AMQPQueryString::default()
            },
            ..AMQPUri::default()
        })
    }
}

/// Speaks to RabbitMQ, over a connection and a channel for each thread and node.
pub struct RabbitMqClient {
    timeout: Duration,
    /// The type that queues are declared with: `quorum` or `classic`.
    queue_type: &'static str,
    confirms: bool,
    access: Access,
    connections: Mutex<BTreeMap<(u32, String), Arc<Link>>>,
}

struct Link {
    /// Open for as long as this lives.
    connection: Connection,
    channel: Channel,
    declared: Mutex<BTreeSet<String>>,
}

impl Link {
    fn stands(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

impl std::fmt::Debug for RabbitMqClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMqClient")
            .field("timeout", &self.timeout)
            .field("queue_type", &self.queue_type)
            .field("confirms", &self.confirms)
            .field("access", &self.access)
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
    /// The queue was seen empty.
    empty: bool,
}

impl RabbitMqClient {
    /// With this time for an operation, this type of queues, with publisher confirms or without, and
    /// this access.
    pub fn new(
        timeout: Duration,
        queue_type: &'static str,
        confirms: bool,
        access: Access,
    ) -> Self {
        Self {
            timeout,
            queue_type,
            confirms,
            access,
            connections: Mutex::default(),
        }
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<(u32, String), Arc<Link>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection with this queue declared. Nothing of the operation has been sent then.
    async fn link(&self, at: At<'_>, queue: &str) -> Result<Arc<Link>, String> {
        let place = (at.thread, at.address.to_owned());
        let known = self.connections().get(&place).cloned();
        let link = match known.filter(|link| link.stands()) {
            Some(link) => link,
            None => {
                let uri = self.access.uri(at.address).ok_or("bad-address")?;
                let link = Arc::new(self.connect(uri).await.map_err(|error| code(&error))?);
                self.connections().insert(place, Arc::clone(&link));
                link
            }
        };
        let declared = |link: &Link| {
            let declared = link.declared.lock();
            declared
                .unwrap_or_else(PoisonError::into_inner)
                .contains(queue)
        };
        if !declared(&link) {
            let mut arguments = FieldTable::default();
            let queue_type = AMQPValue::LongString(self.queue_type.into());
            arguments.insert("x-queue-type".into(), queue_type);
            let options = QueueDeclareOptions::durable();
            let made = link.channel.queue_declare(queue.into(), options, arguments);
            made.await.map_err(|error| code(&error))?;
            let declared = link.declared.lock();
            let mut declared = declared.unwrap_or_else(PoisonError::into_inner);
            declared.insert(queue.to_owned());
        }
        Ok(link)
    }

    async fn connect(&self, uri: AMQPUri) -> Result<Link, Error> {
        // By default it neither reconnects nor sends anything twice.
        let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        if self.confirms {
            let options = ConfirmSelectOptions::default();
            channel.confirm_select(options).await?;
        }
        Ok(Link {
            connection,
            channel,
            declared: Mutex::default(),
        })
    }

    async fn enqueue(&self, link: &Link, queue: &str, value: &Value) -> Result<(), Ended> {
        let unknown = |error: Error| (Outcome::Info, code(&error));
        let payload = serde_json::to_vec(value).unwrap_or_default();
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let sent =
            link.channel
                .basic_publish("".into(), queue.into(), options, &payload, properties);
        let confirmed = sent.await.map_err(unknown)?.await.map_err(unknown)?;
        published(&confirmed, self.confirms)
    }
}

/// What the broker's answer says of a message.
fn published(confirmed: &Confirmation, confirms: bool) -> Result<(), Ended> {
    match confirmed {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::NotRequested if !confirms => Ok(()),
        Confirmation::Ack(Some(_)) => Err((Outcome::Fail, "unroutable".to_owned())),
        Confirmation::Nack(_) => Err((Outcome::Info, "nack".to_owned())),
        Confirmation::NotRequested => Err((Outcome::Info, "unconfirmed".to_owned())),
    }
}

/// Takes one element, or as many as there are.
async fn take(link: &Link, queue: &str, all: bool, taken: &Mutex<Taken>) -> Result<(), Error> {
    let taken = || taken.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let got = link
            .channel
            .basic_get(queue.into(), BasicGetOptions::default());
        let Some(message) = got.await? else {
            taken().empty = true;
            return Ok(());
        };
        let delivery = message.delivery;
        let value: Value = serde_json::from_slice(&delivery.data)
            .unwrap_or_else(|_| Value::str(&String::from_utf8_lossy(&delivery.data)));
        {
            let mut taken = taken();
            taken.elements.push(value.clone());
            // Until it is known to have been acknowledged.
            taken.may_repeat.push(value);
        }
        let acknowledged = delivery.acker.ack(BasicAckOptions::default()).await;
        let sent = matches!(acknowledged, Ok(true));
        if sent && !delivery.redelivered {
            taken().may_repeat.pop();
        }
        if !all {
            return Ok(());
        }
        acknowledged?;
    }
}

/// A short stable code.
fn code(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.get_id() {
            NOT_FOUND => "not-found".to_owned(),
            403 => "access-refused".to_owned(),
            530 => "not-allowed".to_owned(),
            405 => "resource-locked".to_owned(),
            406 => "precondition-failed".to_owned(),
            320 => "connection-forced".to_owned(),
            541 => "internal-error".to_owned(),
            other => format!("amqp-{other}"),
        },
        ErrorKind::IOError(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection-refused".to_owned()
        }
        _ => "connection-lost".to_owned(),
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

/// What taking one element comes to, given what was taken and why it ended, if not well.
fn dequeued(taken: Taken, ended: Option<Ended>) -> Completion {
    match (taken.elements.into_iter().next(), ended) {
        (Some(element), _) => Completion {
            may_repeat: listed(taken.may_repeat),
            ..Completion::new(Outcome::Ok, element)
        },
        (None, Some((outcome, why))) => ended_badly(outcome, &why, Value::Nil),
        (None, None) => ended_badly(Outcome::Fail, "empty", Value::Nil),
    }
}

/// The same of all elements.
fn drained(taken: Taken, ended: Option<Ended>) -> Completion {
    let nothing = taken.elements.is_empty();
    let elements: Value = taken.elements.into_iter().collect();
    let may_repeat = listed(taken.may_repeat);
    match ended {
        None if taken.empty => Completion {
            may_repeat,
            ..Completion::new(Outcome::Ok, elements)
        },
        Some((_, why)) if nothing => ended_badly(Outcome::Fail, &why, Value::Nil),
        ended => {
            let why = ended.map_or("unfinished".to_owned(), |(_, why)| why);
            Completion {
                may_repeat,
                ..ended_badly(Outcome::Info, &why, elements)
            }
        }
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

impl Client for RabbitMqClient {
    async fn invoke(&self, at: At<'_>, invocation: &Invocation) -> Completion {
        let failed = |why: &str| ended_badly(Outcome::Fail, why, invocation.value.clone());
        let queue = match &invocation.key {
            Some(Value::Str(key)) => key.to_string(),
            Some(other) => other.to_string(),
            None => return failed("no-key"),
        };
        let link = match timeout(self.timeout, self.link(at, &queue)).await {
            Ok(Ok(link)) => link,
            // Nothing of the operation was sent.
            Ok(Err(why)) => return failed(&why),
            Err(_) => {
                let place = (at.thread, at.address.to_owned());
                self.connections().remove(&place);
                return failed("unreachable");
            }
        };
        let in_time = "timeout".to_owned();
        let completion = match invocation.f.name() {
            "enqueue" => {
                let done = self.enqueue(&link, &queue, &invocation.value);
                let done = timeout(self.timeout, done).await;
                match done.unwrap_or(Err((Outcome::Info, in_time))) {
                    Ok(()) => Completion::new(Outcome::Ok, invocation.value.clone()),
                    Err((outcome, why)) => ended_badly(outcome, &why, invocation.value.clone()),
                }
            }
            f @ ("dequeue" | "drain") => {
                let all = f == "drain";
                let taken = Mutex::default();
                let done = timeout(self.timeout, take(&link, &queue, all, &taken)).await;
                let ended = match done {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) if is_not_found(&error) => Some((Outcome::Fail, code(&error))),
                    Ok(Err(error)) => Some((Outcome::Info, code(&error))),
                    Err(_) => Some((Outcome::Info, in_time)),
                };
                let broken = ended.is_some();
                let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
                let completion = if all {
                    drained(taken, ended)
                } else {
                    dequeued(taken, ended)
                };
                if broken {
                    let place = (at.thread, at.address.to_owned());
                    self.connections().remove(&place);
                }
                completion
            }
            _ => return failed("unknown-function"),
        };
        if completion.outcome == Outcome::Info {
            // What it may still bring is an answer to nothing.
            let place = (at.thread, at.address.to_owned());
            self.connections().remove(&place);
        }
        completion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_broker_confirms_is_acknowledged() {
        let outcome = |confirmed, confirms| {
            published(&confirmed, confirms)
                .err()
                .map(|(outcome, _)| outcome)
        };
        assert_eq!(outcome(Confirmation::Ack(None), true), None);
        assert_eq!(outcome(Confirmation::Nack(None), true), Some(Outcome::Info));
        let not_asked = || Confirmation::NotRequested;
        assert_eq!(outcome(not_asked(), true), Some(Outcome::Info));
        assert_eq!(outcome(not_asked(), false), None);
    }

    fn taken(elements: &[i64], may_repeat: &[i64], empty: bool) -> Taken {
        let values = |all: &[i64]| all.iter().copied().map(Value::Int).collect();
        Taken {
            elements: values(elements),
            may_repeat: values(may_repeat),
            empty,
        }
    }

    #[test]
    fn what_has_arrived_was_taken_however_it_ended() {
        let timeout = || Some((Outcome::Info, "timeout".to_owned()));
        let one = dequeued(taken(&[7], &[7], false), timeout());
        assert_eq!((one.outcome, one.value), (Outcome::Ok, Value::Int(7)));
        assert_eq!(one.may_repeat, Some([Value::Int(7)].into_iter().collect()));
        let none = dequeued(taken(&[], &[], true), None);
        assert_eq!(none.outcome, Outcome::Fail);
        assert_eq!(none.error.as_deref(), Some("empty"));
        let silent = dequeued(taken(&[], &[], false), timeout());
        assert_eq!(silent.outcome, Outcome::Info);
    }

    #[test]
    fn a_drain_is_done_when_the_queue_is_empty() {
        let list = |all: &[i64]| all.iter().copied().map(Value::Int).collect::<Value>();
        let done = drained(taken(&[1, 2], &[], true), None);
        assert_eq!((done.outcome, done.value), (Outcome::Ok, list(&[1, 2])));
        assert_eq!(done.may_repeat, None);
        let why = || Some((Outcome::Info, "timeout".to_owned()));
        let broken = drained(taken(&[1], &[1], false), why());
        assert_eq!((broken.outcome, broken.value), (Outcome::Info, list(&[1])));
        let nothing = drained(taken(&[], &[], false), why());
        assert_eq!(nothing.outcome, Outcome::Fail);
    }
}
