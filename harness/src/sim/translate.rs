//! Between what workloads ask and what the reference cluster's core understands.

use std::sync::Arc;

use checkers::{F, Outcome, Value};
use reference_cluster::core::{
    Answer, Datum, Function, Op, Quorum, Refusal, Reply, Request, Role, Scalar, StateDigest,
};
use workloads::{Completion, Invocation, Witness};

/// Whether the operation is meant to change something.
pub fn is_write(invocation: &Invocation) -> bool {
    invocation.f.is_write()
}

/// A request of the core for an invocation. Values that the store cannot hold become text.
pub fn request(invocation: &Invocation) -> Request {
    let key = || invocation.key.as_ref().map_or_else(|| "".into(), text);
    let value = || scalar(&invocation.value);
    let op = match &invocation.f {
        F::Read if invocation.key.is_none() => Op::ReadAll,
        F::Write => Op::Write(key(), value()),
        F::Cas => {
            let (old, new) = pair(&invocation.value);
            Op::Cas(key(), old, new)
        }
        F::Append => Op::Append(key(), value()),
        F::Add => Op::Add(key(), value()),
        F::Increment => Op::Increment(key(), invocation.value.as_int().unwrap_or(0)),
        F::Insert => {
            let (after, new) = pair(&invocation.value);
            Op::Insert(key(), after, new)
        }
        F::Put => {
            let (field, value) = pair(&invocation.value);
            Op::Put(key(), field, value)
        }
        F::Remove if invocation.value == Value::Nil => Op::Delete(key()),
        F::Remove => Op::Remove(key(), value()),
        F::Generate => Op::Generate(key(), function(&invocation.value)),
        // A lock is a register that holds its owner.
        F::Acquire => Op::Cas(key(), Scalar::Nil, value()),
        F::Release => Op::Cas(key(), value(), Scalar::Nil),
        F::Inspect if invocation.key.is_none() => Op::Digest,
        F::Read | F::Inspect | F::Other(_) => Op::Read(key()),
    };
    let vector = |text: &Arc<str>| text.parse().ok();
    let quorum = invocation.quorum;
    Request {
        op,
        local: invocation.local || invocation.f == F::Inspect,
        session: invocation.session.as_ref().and_then(vector),
        context: invocation
            .replaces
            .as_ref()
            .and_then(|replaced| vector(&replaced.context)),
        quorum: Quorum {
            n: quorum.n,
            r: quorum.r,
            w: quorum.w,
        },
    }
}

/// A key as text.
pub fn text(key: &Value) -> Arc<str> {
    match key {
        Value::Str(s) => s.into(),
        other => other.to_string().into(),
    }
}

fn pair(value: &Value) -> (Scalar, Scalar) {
    let pair = value.items().unwrap_or_default();
    let part = |i| pair.get(i).map_or(Scalar::Nil, scalar);
    (part(0), part(1))
}

fn function(value: &Value) -> Function {
    match value {
        Value::Str(name) if &**name == "random" => Function::Random,
        Value::Str(name) if &**name == "auto-increment" => Function::AutoIncrement,
        Value::Str(name) if &**name == "trigger" => Function::Trigger,
        _ => Function::Now,
    }
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Nil => Scalar::Nil,
        Value::Int(n) => Scalar::Int(*n),
        Value::Str(s) => Scalar::Text(s.into()),
        other => Scalar::Text(other.to_string().into()),
    }
}

fn value(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Nil => Value::Nil,
        Scalar::Int(n) => Value::Int(*n),
        Scalar::Text(s) => Value::str(s),
    }
}

pub(super) fn datum(datum: &Datum) -> Value {
    match datum {
        Datum::Register(v) => value(v),
        Datum::List(items) => items.iter().map(value).collect(),
        Datum::Set(items) => items.iter().map(value).collect(),
        Datum::Counter(sum) => Value::Int(*sum),
        // As pairs, which every format can carry whatever the fields are.
        Datum::Map(map) => map
            .iter()
            .map(|(field, v)| [value(field), value(v)].into_iter().collect::<Value>())
            .collect(),
        Datum::Siblings(values) => values.iter().map(value).collect(),
    }
}

/// The completion of a request that got no answer from a replica.
pub fn unanswered(invocation: &Invocation, outcome: Outcome, error: &'static str) -> Completion {
    Completion {
        outcome,
        value: invocation.value.clone(),
        witness: None,
        error: Some(error.into()),
        leader_hint: None,
        session: None,
        context: None,
        may_repeat: None,
    }
}

const ROLES: [Role; 6] = [
    Role::Leader,
    Role::Follower,
    Role::Candidate,
    Role::Peer,
    Role::Gateway,
    Role::Monitor,
];

/// The texts that answers are made of, shared by all of them.
#[derive(Clone, Debug)]
pub struct Names {
    nodes: Vec<Arc<str>>,
    roles: [Arc<str>; 6],
}

impl Names {
    /// Of a cluster of this size.
    pub fn new(nodes: u16) -> Self {
        Self {
            nodes: (1..=nodes).map(|n| format!("n{n}").into()).collect(),
            roles: ROLES.map(|role| role.name().into()),
        }
    }

    fn witness(&self, reply: &Reply) -> Witness {
        let role = ROLES.iter().position(|role| *role == reply.role);
        Witness {
            node: self.nodes[usize::from(reply.node.0) - 1].clone(),
            role: self.roles[role.unwrap_or_default()].clone(),
            epoch: reply.epoch,
        }
    }
}

/// The completion that a client of this node derives from the replica's answer.
pub fn completion(invocation: &Invocation, reply: &Reply, names: &Names) -> Completion {
    let witness = Some(names.witness(reply));
    let (outcome, result, error, leader_hint) = match &reply.result {
        Ok(Answer::Done) => (Outcome::Ok, invocation.value.clone(), None, None),
        Ok(Answer::Value(read)) => (
            Outcome::Ok,
            read.as_ref().map_or(Value::Nil, datum),
            None,
            None,
        ),
        Ok(Answer::All(entries)) => {
            let pairs = entries
                .iter()
                .map(|(k, v)| (Value::str(k), datum(v)))
                .collect::<Vec<_>>();
            (Outcome::Ok, Value::Map(pairs.into()), None, None)
        }
        Ok(Answer::Generated(generated)) => (Outcome::Ok, value(generated), None, None),
        Ok(Answer::Digest(digest)) => (Outcome::Ok, state(digest), None, None),
        Err(refusal) => {
            let (outcome, code, hint) = match refusal {
                Refusal::NotLeader { leader } => (Outcome::Fail, "not-leader", leader.map(|l| l.0)),
                Refusal::CasMismatch { .. } => (Outcome::Fail, "cas-mismatch", None),
                Refusal::WrongKind(_) => (Outcome::Fail, "wrong-kind", None),
                Refusal::Unsupported(_) => (Outcome::Fail, "unsupported", None),
                Refusal::Unavailable(_) => (Outcome::Fail, "unavailable", None),
                Refusal::Indeterminate(_) => (Outcome::Info, "indeterminate", None),
            };
            (
                outcome,
                invocation.value.clone(),
                Some(Arc::from(code)),
                hint,
            )
        }
    };
    Completion {
        outcome,
        value: result,
        witness,
        error,
        leader_hint,
        session: reply.session.as_ref().map(|s| s.to_string().into()),
        context: reply.context.as_ref().map(|c| c.to_string().into()),
        may_repeat: None,
    }
}

/// A replica's digest as histories have it.
fn state(digest: &StateDigest) -> Value {
    let mut pairs = vec![
        (
            Value::str("digest"),
            Value::Str(format!("{:016x}", digest.digest).into()),
        ),
        (Value::str("scope"), Value::str(&digest.scope)),
    ];
    if let Some(why) = &digest.stopped {
        pairs.push((Value::str("stopped"), Value::str(why)));
    }
    Value::Map(pairs.into())
}
