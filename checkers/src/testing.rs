//! Histories for tests: arbitrary ones for the codecs, and short-hand builders for the checkers.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::{Details, Event, F, History, Kind, Process, Value};

/// Any value that every format can carry.
pub fn any_value() -> impl Strategy<Value = Value> {
    let name = "[a-z][a-z0-9-]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("NaN has many bit patterns", |x| !x.is_nan())
            .prop_map(Value::Float),
        any::<String>().prop_map(|s| Value::str(&s)),
        name.prop_map(|s| Value::Keyword(s.as_str().into())),
        "[a-z][a-z0-9]{0,6}x".prop_map(|s| Value::Symbol(s.as_str().into())),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|v| Value::Vector(v.into())),
            vec(inner.clone(), 0..4).prop_map(|v| Value::List(v.into())),
            vec(inner.clone(), 0..4).prop_map(|v| Value::Set(v.into())),
            vec((inner.clone(), inner.clone()), 0..3).prop_map(|v| Value::Map(v.into())),
            vec(
                ("[$a-z]{0,9}".prop_map(|s| Value::str(&s)), inner.clone()),
                0..3
            )
            .prop_map(|v| Value::Map(v.into())),
            (name, inner).prop_map(|(t, v)| Value::tagged(t, v)),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let process = prop_oneof![
        (0..u64::MAX / 2).prop_map(Process::Client),
        Just(Process::Nemesis),
        "[a-m]{1,4}".prop_map(|s| Process::Other(s.as_str().into())),
    ];
    let kind = prop_oneof![
        Just(Kind::Invoke),
        Just(Kind::Ok),
        Just(Kind::Fail),
        Just(Kind::Info)
    ];
    let f =
        "read|write|cas|append|add|increment|insert|remove|put|generate|acquire|release|inspect|\
             [a-z]{1,5}-x"
            .prop_map(|s| F::from_name(&s));
    let text = || proptest::option::of(any::<String>().prop_map(|s| Arc::<str>::from(s.as_str())));
    let extra = vec(
        (
            "seen|x-[a-z]{1,5}".prop_map(|s| Arc::from(s.as_str())),
            any_value(),
        ),
        0..2,
    );
    (
        (
            process,
            kind,
            f,
            proptest::option::of(any_value()),
            any_value(),
        ),
        (
            text(),
            text(),
            proptest::option::of(any::<u32>()),
            text(),
            extra,
        ),
    )
        .prop_map(
            |((process, kind, f, key, value), (node, role, epoch, error, mut extra))| {
                extra.dedup_by(|a, b| a.0 == b.0);
                let mut event = Event::new(0, 0, process, kind, f, value);
                event.key = key.filter(|key: &Value| !key.is_nil());
                event.set_details(Details {
                    node,
                    role,
                    epoch: epoch.map(u64::from),
                    error,
                    extra,
                });
                event
            },
        )
}

/// Any sequence of events with increasing indexes and times (not necessarily one that pairs).
pub fn any_history() -> impl Strategy<Value = History> {
    vec((any_event(), 1..1000_u64, 0..1_000_000_u64), 0..12).prop_map(|events| {
        let (mut index, mut time) = (0, 0);
        let events = events.into_iter().map(|(mut event, i, t)| {
            index += i;
            time += t;
            event.index = index;
            event.time = time;
            event
        });
        History {
            events: events.collect(),
        }
    })
}

/// Builds histories for checkers: one line a call, times and indexes by position (1 ms apart).
#[derive(Clone, Default)]
pub struct Script {
    history: History,
    key: Option<Value>,
    answering: Option<(Arc<str>, u64)>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// The key of the operations that follow.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.key = Some(Value::str(key));
        self
    }

    /// Node and epoch of the completions that follow.
    pub fn node(&mut self, node: &str, epoch: u64) -> &mut Self {
        self.answering = Some((node.into(), epoch));
        self
    }

    fn event(&mut self, process: Process, kind: Kind, f: F, value: Value) -> &mut Event {
        let index = self.history.events.len() as u64;
        let event = Event::new(index, index * 1_000_000, process, kind, f, value);
        self.history.events.push(event);
        self.history.events.last_mut().unwrap()
    }

    /// One event of a client.
    pub fn client(&mut self, process: u64, kind: Kind, f: F, value: impl Into<Value>) -> &mut Self {
        let (key, answering) = (self.key.clone(), self.answering.clone());
        let event = self.event(Process::Client(process), kind, f, value.into());
        event.key = key;
        if let (true, Some((node, epoch))) = (kind != Kind::Invoke, answering) {
            event.node = Some(node);
            event.epoch = Some(epoch);
        }
        self
    }

    /// What the client of the last event had read, and replaces.
    pub fn seen(&mut self, values: impl Into<Value>) -> &mut Self {
        let last = self.history.events.last_mut().unwrap();
        last.extra.push(("seen".into(), values.into()));
        self
    }

    /// Invocation and completion, one after the other.
    pub fn op(&mut self, process: u64, kind: Kind, f: F, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        let argument = if f == F::Read {
            Value::Nil
        } else {
            value.clone()
        };
        self.client(process, Kind::Invoke, f.clone(), argument)
            .client(process, kind, f, value)
    }

    /// An event of the nemesis.
    pub fn nemesis(&mut self, f: &str, value: impl Into<Value>) -> &mut Self {
        self.event(Process::Nemesis, Kind::Info, F::from_name(f), value.into());
        self
    }

    pub fn history(&self) -> History {
        self.history.clone()
    }
}

/// A vector of numbers.
pub fn ints(items: &[i64]) -> Value {
    items.iter().copied().map(Value::Int).collect()
}

/// What a store that makes no mistake records: every operation takes effect at one instant while it
/// is open, a failed one never, one of unknown outcome perhaps, at any time after its invocation.
///
/// `next` comes up with operations, `apply` carries one out and says what it answers.
pub fn correct_run<S>(
    rng: &mut SmallRng,
    store: &mut S,
    clients: usize,
    ops: usize,
    mut next: impl FnMut(&mut SmallRng) -> (F, Value),
    mut apply: impl FnMut(&mut S, &F, &Value) -> Value,
) -> History {
    enum Client {
        Idle,
        Asked(F, Value, Kind),
        Done(F, Value, Kind),
    }
    let mut script = Script::new();
    let mut open: Vec<Client> = (0..clients).map(|_| Client::Idle).collect();
    let mut processes: Vec<u64> = (0..clients as u64).collect();
    let mut late: Vec<(F, Value)> = Vec::new();
    let mut begun = 0;
    loop {
        if !late.is_empty() && rng.random_bool(0.1) {
            let (f, value) = late.swap_remove(rng.random_range(0..late.len()));
            if rng.random_bool(0.5) {
                apply(store, &f, &value);
            }
        }
        let c = rng.random_range(0..clients);
        let process = processes[c];
        open[c] = match std::mem::replace(&mut open[c], Client::Idle) {
            Client::Idle if begun == ops => {
                if open.iter().all(|client| matches!(client, Client::Idle)) {
                    return script.history();
                }
                Client::Idle
            }
            Client::Idle => {
                begun += 1;
                let (f, value) = next(rng);
                script.client(process, Kind::Invoke, f.clone(), value.clone());
                let kind = match rng.random_range(0..10) {
                    0 => Kind::Info,
                    1 => Kind::Fail,
                    _ => Kind::Ok,
                };
                Client::Asked(f, value, kind)
            }
            Client::Asked(f, value, kind) => {
                let result = match kind {
                    Kind::Ok => apply(store, &f, &value),
                    Kind::Info => {
                        late.push((f.clone(), value.clone()));
                        value
                    }
                    _ => value,
                };
                Client::Done(f, result, kind)
            }
            Client::Done(f, result, kind) => {
                script.client(process, kind, f, result);
                if kind == Kind::Info {
                    processes[c] += clients as u64;
                }
                Client::Idle
            }
        };
    }
}
