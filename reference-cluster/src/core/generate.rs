//! What a replica comes up with: [`Op::Generate`], evaluated at one node.
//!
//! A mode that ships what was generated evaluates at the leader, before the operation enters the
//! log, so that every replica applies the same [`Op::Generated`]. Statement replication ships the
//! call instead and has each replica evaluate it: with its own clock, its own random numbers and
//! its own counters, which is why replicas then differ (`MySQL` 8.0 Reference Manual,
//! "Determination of Safe and Unsafe Statements in Binary Logging").

use super::store::Store;
use super::timing::mix;
use super::{Function, NodeId, Op, Scalar, Time};

/// The node that evaluates, and what it draws from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The node.
    pub node: NodeId,
    /// Its seed.
    pub seed: u64,
    /// Its wall clock.
    pub now: Time,
    /// Differs from evaluation to evaluation in the life of a replica.
    pub draw: u64,
}

/// Turns a [`Op::Generate`] into the row change that it amounts to at this node, advancing the
/// counters of its store; every other operation stays as it is.
///
/// The counters advance now, not when the change is applied, so that evaluations that overlap
/// differ; applying a change brings the counters of other replicas up to it.
pub(crate) fn evaluate(op: Op, source: &Source, store: &mut Store) -> Op {
    let Op::Generate(key, function) = op else {
        return op;
    };
    let counters = store.counters_mut();
    let value = match function {
        Function::Now => Scalar::Int(source.now.try_into().unwrap_or(i64::MAX)),
        Function::Random => {
            let drawn = mix(source.seed ^ source.now, source.node.0.into(), source.draw);
            // What JSON carries exactly.
            Scalar::Int((drawn >> 11).try_into().unwrap_or_default())
        }
        Function::AutoIncrement => Scalar::Int(counters.advance()),
        Function::Trigger => {
            counters.triggered += 1;
            Scalar::Text(format!("n{}:{}", source.node.0, counters.triggered).into())
        }
    };
    Op::Generated(key, function, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Answer, Datum};

    const FUNCTIONS: [Function; 4] = [
        Function::Now,
        Function::Random,
        Function::AutoIncrement,
        Function::Trigger,
    ];

    fn source(node: u16, now: Time) -> Source {
        Source {
            node: NodeId(node),
            seed: node.into(),
            now,
            draw: 1,
        }
    }

    #[test]
    fn each_function_gives_each_node_its_own() {
        for function in FUNCTIONS {
            let call = || Op::Generate("k".into(), function);
            let (mut a, mut b) = (Store::default(), Store::default());
            b.counters_mut().advance();
            let a = evaluate(call(), &source(1, 5), &mut a);
            let b = evaluate(call(), &source(2, 6), &mut b);
            assert_ne!(a, b, "{function:?}");
        }
    }

    #[test]
    fn what_was_generated_is_applied_alike_and_keeps_counters_in_step() {
        let (mut leader, mut follower) = (Store::default(), Store::default());
        for now in 0..3 {
            for function in FUNCTIONS {
                let call = Op::Generate("k".into(), function);
                let change = evaluate(call, &source(1, now), &mut leader);
                let answer = leader.apply(&change);
                let Op::Generated(_, _, value) = &change else {
                    panic!("{change:?}");
                };
                assert_eq!(answer, Ok(Answer::Generated(value.clone())));
                follower.apply(&change).unwrap();
            }
        }
        assert_eq!(leader, follower);
        let Answer::Value(Some(Datum::List(list))) = leader.read(&Op::Read("k".into())) else {
            panic!("no list");
        };
        assert_eq!(list.len(), 12);
        // A new leader goes on where the old one was.
        let call = Op::Generate("k".into(), Function::AutoIncrement);
        let next = evaluate(call, &source(2, 9), &mut follower);
        let expected = Scalar::Int(4);
        assert_eq!(
            next,
            Op::Generated("k".into(), Function::AutoIncrement, expected)
        );
    }

    #[test]
    fn other_operations_are_left_alone() {
        let op = Op::Append("k".into(), Scalar::Int(1));
        let mut store = Store::default();
        assert_eq!(evaluate(op.clone(), &source(1, 0), &mut store), op);
        assert_eq!(store, Store::default());
    }
}
