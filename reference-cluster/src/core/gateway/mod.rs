//! Nodes that hold no data: gateways, which pass requests on to replicas, and the monitor.
//!
//! * `forwarding`: a gateway, the load balancer in front of a replicated store.
//! * `monitor`: watches the leader and promotes another.
//! * `served`: around every replica of a cluster with auxiliaries; answers them.
//! * `known`: what an auxiliary knows of the replicas.
//!
//! None of them keeps a journal: what they know they learn again after a restart.

mod forwarding;
mod known;
mod monitor;
mod served;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Config, NodeId, Replica, Reply, Request, RequestId, Status, Time};

pub use forwarding::Gateway;
pub use monitor::Monitor;
pub use served::Served;

/// Bits of a forwarded request's [`RequestId`] that are the client's own; those above are the
/// number of the gateway.
pub const REQUEST_BITS: u32 = 48;

/// The number under which a replica knows a request that a gateway passed on.
fn forwarded_id(gateway: NodeId, number: u64) -> RequestId {
    RequestId((u64::from(gateway.0) << REQUEST_BITS) | client_id(RequestId(number)).0)
}

/// The client's own number of a request, whether or not a gateway passed it on.
pub fn client_id(request: RequestId) -> RequestId {
    RequestId(request.0 & ((1 << REQUEST_BITS) - 1))
}

/// What gateways and monitors say to replicas, and these to them.
///
/// A *life* is when a process started, by its own clock: it tells what was meant for a process or
/// sent by it from what concerns one before it under the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// To a replica: carry this out. One that arrives twice is carried out once.
    Forward {
        /// Repeated in the answer.
        number: u64,
        /// The gateway's life.
        life: Time,
        /// The replica's life, as the gateway knows it: another does not carry it out.
        to: Time,
        /// What.
        request: Request,
    },
    /// From a replica: what came of it.
    Forwarded {
        /// The number repeated.
        number: u64,
        /// The gateway's life, repeated.
        life: Time,
        /// What came of it.
        reply: Reply,
    },
    /// To a replica: how do you stand?
    Ask,
    /// From a replica: so.
    Stands {
        /// Its life.
        life: Time,
        /// How it stands.
        status: Status,
    },
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Probe(pub u64);

/// See [`super::start`]; `which` counts the auxiliaries from 0.
pub fn start(
    config: &Config,
    id: NodeId,
    replicas: &[NodeId],
    which: usize,
    _seed: u64,
    now: Time,
) -> Box<dyn Replica> {
    if which < usize::from(config.gateways) {
        Box::new(Gateway::start(config, id, replicas, which, now))
    } else {
        Box::new(Monitor::start(config, id, replicas, now))
    }
}
