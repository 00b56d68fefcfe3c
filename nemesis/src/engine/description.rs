//! Faults in words.

use std::fmt;

use serde::Serialize;

use crate::action::{Action, Node};
use crate::duration;
use crate::fault::{Direction, Fault, Shape};
use crate::schedule::Entry;
use crate::selector::{Selector, names};

/// What a fault is, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultDescription {
    /// The kind: `kill`, `partition`, …
    pub name: String,
    /// The nodes hit, by name; empty for a majorities ring.
    pub targets: Vec<String>,
    /// Everything else: shape, direction, latency, how the target was chosen, ….
    pub parameters: Vec<(String, String)>,
}

impl FaultDescription {
    /// All of it as pairs of texts: `fault`, `targets`, then the parameters.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("fault".to_owned(), self.name.clone())];
        if !self.targets.is_empty() {
            pairs.push(("targets".to_owned(), self.targets.join(", ")));
        }
        pairs.extend(self.parameters.iter().cloned());
        pairs
    }
}

/// `partition isolate n1 (leader)`.
impl fmt::Display for FaultDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let selected = self.parameters.iter().find(|(name, _)| name == "selected");
        for (name, value) in &self.parameters {
            if name != "selected" && name != "order" {
                write!(f, " {value}")?;
            }
        }
        if !self.targets.is_empty() {
            write!(f, " {}", self.targets.join(", "))?;
        }
        if let Some((_, selector)) = selected {
            write!(f, " ({selector})")?;
        }
        Ok(())
    }
}

pub(super) fn describe(
    entry: &Entry,
    hit: &[Node],
    order: Option<&[Node]>,
    action: &Action,
) -> FaultDescription {
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| parameters.push((name.to_owned(), value));
    match &entry.fault {
        Fault::Kill
        | Fault::PowerLoss
        | Fault::Pause
        | Fault::Wipe
        | Fault::Upgrade
        | Fault::AddMember
        | Fault::RemoveMember
        | Fault::TransferLeadership
        | Fault::TornWrite
        | Fault::DiskFull
        | Fault::ReadOnly
        | Fault::FsyncError
        | Fault::Snapshot
        | Fault::Downgrade
        | Fault::Drain
        | Fault::Scale
        | Fault::RollingRestart
        | Fault::NoEndpoints => {}
        Fault::Crash { point } => add("point", point.name().to_owned()),
        Fault::Cpu { share } => add("share", share.to_string()),
        Fault::Memory { mib } => add("limit", format!("{mib}MiB")),
        Fault::Loss(disturbance) | Fault::Reorder(disturbance) | Fault::Duplicate(disturbance) => {
            add("links", disturbance.links.name().to_owned());
            add("percent", disturbance.percent.to_string());
        }
        Fault::BitFlip { file } => add("file", file.name().to_owned()),
        Fault::ThrottleDisk { bandwidth } => add("bandwidth", bandwidth.to_string()),
        Fault::SlowDisk { latency } => add("latency", duration::format(*latency)),
        Fault::Rollback { age } => add("age", format!("by {}", duration::format(*age))),
        Fault::ClockJump { by_ms } => add("by", format!("by {by_ms}ms")),
        Fault::ClockDrift { ppm } => add("ppm", format!("by {ppm}ppm")),
        Fault::ClockStrobe { by_ms, every } => {
            add("by", format!("by {by_ms}ms"));
            add("every", format!("every {}", duration::format(*every)));
        }
        Fault::MoveHome { .. } => {
            if let Action::Admin(to, _) = action {
                add("to", format!("to n{to}"));
            }
        }
        Fault::ReplaceMember { by } => add("by", format!("by n{by}")),
        Fault::Partition(shape) => {
            add("shape", shape.name().to_owned());
            if let Shape::OneWay(direction) = shape {
                let name = match direction {
                    Direction::Out => "out",
                    Direction::In => "in",
                };
                add("direction", name.to_owned());
            }
        }
        Fault::Slow {
            links,
            latency,
            jitter,
            bandwidth,
        } => {
            add("links", links.name().to_owned());
            if !latency.is_zero() {
                add("latency", duration::format(*latency));
            }
            if !jitter.is_zero() {
                add("jitter", format!("±{}", duration::format(*jitter)));
            }
            if let Some(bandwidth) = bandwidth {
                add("bandwidth", bandwidth.to_string());
            }
        }
    }
    if let Some(order) = order {
        add("order", names(order));
    }
    match &entry.target {
        None | Some(Selector::Nodes(_)) => {}
        Some(selector) => add("selected", selector.to_string()),
    }
    FaultDescription {
        name: entry.fault.kind().name().to_owned(),
        targets: hit.iter().map(|node| format!("n{node}")).collect(),
        parameters,
    }
}
