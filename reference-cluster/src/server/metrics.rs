//! What a node counts, in Prometheus' text format.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::core::{Role, Status};

/// A kind of operation and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Operation {
    /// `read`, `read-all`, `write`, … as the routes are called.
    pub kind: &'static str,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

/// Everything counted. Gauges are set when they are read.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    pub operations: Family<Operation, Counter>,
    pub fsync_seconds: Histogram,
    pub messages_sent: Counter,
    pub messages_received: Counter,
    pub messages_dropped: Counter,
    role: Family<RoleLabel, Gauge>,
    epoch: Gauge,
    last_index: Gauge,
    applied_index: Gauge,
    discarded: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("quorate_node"),
            operations: Family::default(),
            fsync_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            messages_sent: Counter::default(),
            messages_received: Counter::default(),
            messages_dropped: Counter::default(),
            role: Family::default(),
            epoch: Gauge::default(),
            last_index: Gauge::default(),
            applied_index: Gauge::default(),
            discarded: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register(
            "operations",
            "Client operations answered",
            metrics.operations.clone(),
        );
        r.register(
            "fsync_seconds",
            "Time of one sync of the journal",
            metrics.fsync_seconds.clone(),
        );
        r.register(
            "messages_sent",
            "Messages that peers took",
            metrics.messages_sent.clone(),
        );
        r.register(
            "messages_received",
            "Messages taken from peers",
            metrics.messages_received.clone(),
        );
        r.register(
            "messages_dropped",
            "Messages to peers that were lost or not sent",
            metrics.messages_dropped.clone(),
        );
        r.register(
            "role",
            "1 for the role that the node has",
            metrics.role.clone(),
        );
        r.register("epoch", "Epoch or term", metrics.epoch.clone());
        r.register(
            "last_index",
            "Index of the newest entry in the log",
            metrics.last_index.clone(),
        );
        r.register(
            "applied_index",
            "Index of the newest entry applied",
            metrics.applied_index.clone(),
        );
        r.register(
            "discarded_entries",
            "Entries thrown away as divergent since the start",
            metrics.discarded.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// All of it as text, gauges after this status.
    pub fn render(&self, status: &Status) -> Result<String, fmt::Error> {
        for role in [
            Role::Leader,
            Role::Follower,
            Role::Candidate,
            Role::Peer,
            Role::Gateway,
            Role::Monitor,
        ] {
            let label = RoleLabel { role: role.name() };
            self.role
                .get_or_create(&label)
                .set(i64::from(role == status.role));
        }
        self.epoch.set(status.epoch as i64);
        self.last_index.set(status.last.index as i64);
        self.applied_index.set(status.applied as i64);
        self.discarded.set(status.discarded as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
