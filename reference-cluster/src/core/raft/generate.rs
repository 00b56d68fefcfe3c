//! What a leader comes up with, before it proposes: replicas then apply the same value.

use crate::core::timing::mix;
use crate::core::{Function, NodeId, Scalar, Time};

/// The functions of one node. Its counters begin anew when its process does.
#[derive(Debug)]
pub(super) struct Generator {
    id: NodeId,
    seed: u64,
    calls: u64,
    counter: i64,
    rows: u64,
}

impl Generator {
    pub fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            seed,
            calls: 0,
            counter: 0,
            rows: 0,
        }
    }

    /// Executes a function once.
    pub fn evaluate(&mut self, function: Function, now: Time) -> Scalar {
        self.calls += 1;
        match function {
            Function::Now => Scalar::Int(i64::try_from(now).unwrap_or(i64::MAX)),
            Function::Random => Scalar::Int((mix(self.seed, now, self.calls) >> 1) as i64),
            Function::AutoIncrement => {
                self.counter += 1;
                Scalar::Int(self.counter)
            }
            Function::Trigger => {
                self.rows += 1;
                Scalar::Text(format!("n{}:{}", self.id.0, self.rows).into())
            }
        }
    }
}
