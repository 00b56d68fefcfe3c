//! What to simulate, and in what weather.

use reference_cluster::core::Config;
use serde::{Deserialize, Serialize};

/// The weather of the simulation, without any fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// Least one-way delay of every link, microseconds.
    pub latency_us: u64,
    /// Uniform random delay added to it, microseconds; what reorders messages.
    pub jitter_us: u64,
    /// Share of messages between replicas that are lost, 0 to 1.
    pub drop: f64,
    /// Share of messages between replicas that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Time a disk sync takes, microseconds.
    pub fsync_us: u64,
    /// Nodes' clocks start at most this far apart, milliseconds.
    pub clock_offset_ms: u64,
    /// Nodes' clocks run at most this much faster or slower, parts per million.
    pub clock_drift_ppm: u32,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency_us: 200,
            jitter_us: 300,
            drop: 0.001,
            duplicate: 0.001,
            fsync_us: 500,
            clock_offset_ms: 500,
            clock_drift_ppm: 100,
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Number of replicas; gateways and the monitor come after them.
    pub nodes: u16,
    /// Configuration of the reference cluster.
    pub config: Config,
    /// The run's sub-stream for the simulation.
    pub seed: u64,
    /// Weather.
    pub conditions: Conditions,
    /// The storage formats that `downgrade` and `upgrade` take nodes to, of which they begin with the
    /// first; without them, one lower and one higher.
    pub formats: Option<[u16; 2]>,
    /// How long a client waits for an answer, nanoseconds.
    pub call_timeout: u64,
}

impl SimOptions {
    /// Number of all nodes.
    pub(super) fn all_nodes(&self) -> u16 {
        self.nodes + self.config.auxiliaries() as u16
    }
}
