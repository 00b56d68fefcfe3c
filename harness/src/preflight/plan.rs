//! One roll as a schedule: every node is upgraded, one after the other, and then taken back, under
//! load; between two of them, while both versions are there, faults.
//!
//! The order is that of a StatefulSet's controller: the highest number first, both ways. A roll is
//! an ordinary schedule in the language of `docs/faults.md`, so it can be run again by itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use nemesis::{Program, ScheduleError, duration};
use serde::{Deserialize, Serialize};

/// What is done to the nodes while both versions are there.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// A node is killed and started again as what it was.
    Kill,
    /// A node stands still and goes on.
    Pause,
    /// The nodes of one version are cut off from those of the other.
    Partition,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Pause, Self::Partition];

    /// How long it lasts, at least and at most, in milliseconds: longer than a failover takes.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::Kill => (1_000, 2_000),
            Self::Pause => (1_500, 2_500),
            Self::Partition => (2_000, 3_000),
        }
    }
}

/// So many writes have to be acknowledged after each step before the next one: the cluster has
/// recovered from the step. If it does not, the roll goes on after [`PROGRESS_WITHIN`].
const PROGRESS: u32 = 10;
/// See [`PROGRESS`].
const PROGRESS_WITHIN: Duration = Duration::from_secs(20);
/// How long a change of version stands before it is looked at again.
const CHANGE: Duration = Duration::from_millis(500);
/// The least time without any fault between two steps.
const LEAST_CALM: Duration = Duration::from_millis(200);

/// What a roll consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Number of replicas.
    pub nodes: u16,
    /// What is done to them at each step with both versions.
    pub faults: BTreeSet<Disturbance>,
    /// Whether there is a leader to strike.
    pub leader: bool,
    /// How long nothing is done between two steps.
    pub calm: Duration,
}

impl Roll {
    /// The same, so calm that it takes about this time.
    ///
    /// # Errors
    /// The least time that it takes, if that is more.
    pub fn lasting(self, time: Duration) -> Result<Self, Duration> {
        let least = Self {
            calm: LEAST_CALM,
            ..self.clone()
        };
        let rest = time
            .checked_sub(least.takes())
            .ok_or_else(|| least.takes())?;
        let calm = LEAST_CALM + rest / least.calms();
        Ok(Self { calm, ..self })
    }

    /// About how long it takes, where nothing takes longer than it is meant to.
    pub fn takes(&self) -> Duration {
        let proof = Duration::from_millis(400);
        let changes = (CHANGE + proof) * (2 * u32::from(self.nodes));
        let mixed = 2 * u32::from(self.nodes.saturating_sub(1));
        let disturbed: Duration = self
            .faults
            .iter()
            .map(|fault| {
                let (least, most) = fault.lasts();
                Duration::from_millis(least.midpoint(most)) + proof
            })
            .sum();
        changes + disturbed * mixed + self.calm * self.calms()
    }

    /// How many times nothing is done.
    fn calms(&self) -> u32 {
        let (nodes, faults) = (u32::from(self.nodes), self.faults.len() as u32);
        // Before all, after each change, after each disturbance, and a long one in the middle.
        1 + 2 * nodes + 2 * (nodes - 1) * faults + HALFWAY
    }

    /// The schedule.
    ///
    /// # Errors
    /// Never, unless the language of schedules has changed.
    pub fn program(&self) -> Result<Program, ScheduleError> {
        Program::parse(&self.yaml())
    }

    fn yaml(&self) -> String {
        let mut steps = Vec::new();
        steps.push(self.progress(1));
        for upgrade in [true, false] {
            for done in 1..=self.nodes {
                let node = self.nodes + 1 - done;
                let kind = if upgrade { "upgrade" } else { "downgrade" };
                let change = duration::format(CHANGE);
                steps.push(format!(
                    "{{fault: {kind}, target: n{node}, for: {change}, within: 60s}}"
                ));
                let halfway = upgrade && done == self.nodes.div_ceil(2) && self.nodes > 1;
                steps.push(self.progress(if halfway { 1 + HALFWAY } else { 1 }));
                if done < self.nodes {
                    for fault in &self.faults {
                        steps.push(self.disturb(*fault, done));
                        steps.push(self.progress(1));
                    }
                }
            }
        }
        let mut text = "- at: 0s\n  sequence:\n".to_owned();
        for step in steps {
            let _ = writeln!(text, "    - {step}");
        }
        text
    }

    /// Lets clients work for as many calm times, once writes are acknowledged.
    fn progress(&self, calms: u32) -> String {
        let calm = duration::format(self.calm * calms);
        let within = duration::format(PROGRESS_WITHIN);
        format!("{{when: {{acknowledged: {PROGRESS}}}, within: {within}, do: [{{wait: {calm}}}]}}")
    }

    /// What is done when so many nodes have changed. The node that has just changed and the leader
    /// take turns, so that both have it at some step.
    fn disturb(&self, fault: Disturbance, changed: u16) -> String {
        let last = format!("n{}", self.nodes + 1 - changed);
        let leader = if self.leader { "leader" } else { "random" };
        let (least, most) = fault.lasts();
        let rest = format!("for: {least}ms..{most}ms, within: 20s");
        match fault {
            Disturbance::Kill => {
                let target = if changed % 2 == 1 { leader } else { &last };
                format!("{{fault: kill, target: {target}, {rest}}}")
            }
            Disturbance::Pause => {
                let target = if changed % 2 == 1 { &last } else { leader };
                format!("{{fault: pause, target: {target}, {rest}}}")
            }
            Disturbance::Partition => {
                let changed = (self.nodes + 1 - changed..=self.nodes).map(|n| format!("n{n}"));
                let changed: Vec<_> = changed.collect();
                let target = changed.join(", ");
                format!("{{fault: partition, shape: isolate, target: [{target}], {rest}}}")
            }
        }
    }
}

/// So many calm times more it stays mixed in the middle of the upgrade.
const HALFWAY: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(nodes: u16, faults: &[Disturbance]) -> Roll {
        Roll {
            nodes,
            faults: faults.iter().copied().collect(),
            leader: true,
            calm: Duration::from_millis(500),
        }
    }

    #[test]
    fn every_node_is_upgraded_and_taken_back_the_highest_first() {
        let yaml = roll(3, &[]).yaml();
        let changes: Vec<_> = yaml
            .lines()
            .filter_map(|line| line.split_once("fault: ")?.1.split_once(", for"))
            .map(|(change, _)| change.replace(", target:", ""))
            .collect();
        assert_eq!(
            changes,
            [
                "upgrade n3",
                "upgrade n2",
                "upgrade n1",
                "downgrade n3",
                "downgrade n2",
                "downgrade n1"
            ]
        );
    }

    #[test]
    fn faults_are_done_only_while_both_versions_are_there_and_split_them() {
        let yaml = roll(3, &Disturbance::ALL).yaml();
        let of = |kind: &str| yaml.matches(&format!("fault: {kind},")).count();
        assert_eq!(
            [of("kill"), of("pause"), of("partition")],
            [4, 4, 4],
            "{yaml}"
        );
        assert!(yaml.contains("isolate, target: [n3],"), "{yaml}");
        assert!(yaml.contains("isolate, target: [n2, n3],"), "{yaml}");
        assert!(!yaml.contains("[n1, n2, n3]"), "{yaml}");
    }

    #[test]
    fn a_roll_of_any_size_is_a_schedule() {
        for nodes in [1, 2, 3, 5, 9] {
            for leader in [true, false] {
                let roll = Roll {
                    leader,
                    ..roll(nodes, &Disturbance::ALL)
                };
                let program = roll.program().unwrap();
                let here = nemesis::Capabilities::all();
                program.validate_among(nodes, 0, &here).unwrap();
            }
        }
    }

    #[test]
    fn what_is_left_of_the_time_is_calm() {
        let short = roll(3, &[Disturbance::Kill]);
        let least = short.clone().lasting(Duration::from_secs(1)).unwrap_err();
        let just = short.clone().lasting(least).unwrap();
        assert_eq!(just.calm, LEAST_CALM);
        let minute = short.lasting(Duration::from_secs(60)).unwrap();
        assert!(minute.calm > just.calm);
        let off = minute.takes().abs_diff(Duration::from_secs(60));
        assert!(off < Duration::from_millis(1), "{off:?}");
    }
}
