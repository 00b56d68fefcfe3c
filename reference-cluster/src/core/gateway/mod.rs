//! Nodes that hold no data: gateways, which pass requests on to replicas, and the monitor.

use serde::{Deserialize, Serialize};

use super::{Config, Effect, Event, NodeId, Position, Replica, Reply, Request, Status, Time};

/// What gateways and monitors say to replicas, and these to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// To a replica: carry this out.
    Forward {
        /// Repeated in the answer.
        number: u64,
        /// What.
        request: Request,
    },
    /// From a replica: what came of it.
    Forwarded {
        /// The number repeated.
        number: u64,
        /// What came of it.
        reply: Reply,
    },
    /// To a replica: how do you stand?
    Ask,
    /// From a replica: so.
    Stands(Status),
    /// From the monitor: could a leader there acknowledge a write? Others do not answer.
    Probe(Probe),
    /// From a leader: it could.
    Probed(Probe),
    /// From the monitor: lead, in an epoch above this one.
    Promote {
        /// The highest epoch found.
        epoch: u64,
    },
}

/// Numbers the monitor's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe(pub u64);

/// See [`super::start`]; `which` counts the auxiliaries from 0.
pub fn start(
    _config: &Config,
    _id: NodeId,
    _replicas: &[NodeId],
    _which: usize,
    _seed: u64,
    _now: Time,
) -> Box<dyn Replica> {
    unimplemented!("refused by Config::validate until it is built")
}

/// A replica that also serves gateways and the monitor.
pub struct Served {
    replica: Box<dyn Replica>,
}

impl Served {
    /// Wraps a replica of any mode.
    pub fn new(replica: Box<dyn Replica>) -> Self {
        Self { replica }
    }
}

impl Replica for Served {
    fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.replica.handle(now, event, effects);
    }

    fn deadline(&self) -> Time {
        self.replica.deadline()
    }

    fn status(&self) -> Status {
        self.replica.status()
    }

    fn digest(&self) -> u64 {
        self.replica.digest()
    }

    fn log(&self, first: u64) -> Vec<Position> {
        self.replica.log(first)
    }
}
