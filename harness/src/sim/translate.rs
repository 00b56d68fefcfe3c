//! Between what workloads ask and what the reference cluster's core understands.

use std::sync::Arc;

use checkers::{F, Outcome, Value};
use reference_cluster::core::{Answer, Datum, Op, Refusal, Reply, Request, Role, Scalar};
use workloads::{Completion, Invocation, Witness};

/// Whether the operation is meant to change something.
pub fn is_write(invocation: &Invocation) -> bool {
    invocation.f != F::Read
}

/// The role's name in histories.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
    }
}

/// A request of the core for an invocation. Values that the store cannot hold become text.
pub fn request(invocation: &Invocation) -> Request {
    let key = || invocation.key.as_ref().map_or_else(|| "".into(), text);
    let value = || scalar(&invocation.value);
    let op = match &invocation.f {
        F::Read if invocation.key.is_none() => Op::ReadAll,
        F::Read | F::Other(_) => Op::Read(key()),
        F::Write => Op::Write(key(), value()),
        F::Cas => {
            let pair = invocation.value.items().unwrap_or_default();
            let part = |i| pair.get(i).map_or(Scalar::Nil, scalar);
            Op::Cas(key(), part(0), part(1))
        }
        F::Append => Op::Append(key(), value()),
        F::Add => Op::Add(key(), value()),
    };
    Request {
        op,
        local: invocation.local,
    }
}

/// A key as text.
pub fn text(key: &Value) -> Arc<str> {
    match key {
        Value::Str(s) => s.clone(),
        other => other.to_string().into(),
    }
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Nil => Scalar::Nil,
        Value::Int(n) => Scalar::Int(*n),
        Value::Str(s) => Scalar::Text(s.clone()),
        other => Scalar::Text(other.to_string().into()),
    }
}

fn value(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Nil => Value::Nil,
        Scalar::Int(n) => Value::Int(*n),
        Scalar::Text(s) => Value::Str(s.clone()),
    }
}

fn datum(datum: &Datum) -> Value {
    match datum {
        Datum::Register(v) => value(v),
        Datum::List(items) => items.iter().map(value).collect(),
        Datum::Set(items) => items.iter().map(value).collect(),
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
    }
}

/// The texts that answers are made of, shared by all of them.
#[derive(Clone, Debug)]
pub struct Names {
    nodes: Vec<Arc<str>>,
    roles: [Arc<str>; 3],
}

impl Names {
    /// Of a cluster of this size.
    pub fn new(nodes: u16) -> Self {
        Self {
            nodes: (1..=nodes).map(|n| format!("n{n}").into()).collect(),
            roles: [Role::Leader, Role::Follower, Role::Candidate].map(|r| role(r).into()),
        }
    }

    fn witness(&self, node: u16, reply: &Reply) -> Witness {
        let role = match reply.role {
            Role::Leader => 0,
            Role::Follower => 1,
            Role::Candidate => 2,
        };
        Witness {
            node: self.nodes[usize::from(node) - 1].clone(),
            role: self.roles[role].clone(),
            epoch: reply.epoch,
        }
    }
}

/// The completion that a client of this node derives from the replica's answer.
pub fn completion(invocation: &Invocation, reply: &Reply, node: u16, names: &Names) -> Completion {
    let witness = Some(names.witness(node, reply));
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
                .map(|(k, v)| (Value::Str(k.clone()), datum(v)))
                .collect::<Vec<_>>();
            (Outcome::Ok, Value::Map(pairs.into()), None, None)
        }
        Err(refusal) => {
            let (outcome, code, hint) = match refusal {
                Refusal::NotLeader { leader } => (Outcome::Fail, "not-leader", leader.map(|l| l.0)),
                Refusal::CasMismatch { .. } => (Outcome::Fail, "cas-mismatch", None),
                Refusal::WrongKind(_) => (Outcome::Fail, "wrong-kind", None),
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
    }
}
