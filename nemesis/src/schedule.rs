//! Faults in time: the flat schedule, as YAML, and what makes one impossible. What is written in
//! blocks, with triggers, ranges and choices, is a [`Program`]; it runs as such a schedule.
//!
//! ```yaml
//! faults:
//!   - {at: 3s, for: 5s, fault: partition, shape: isolate, target: leader}
//!   - {at: 12s, for: 3s, fault: kill, target: leader}
//!   - {at: 20s, for: 4s, fault: slow, links: peers, target: follower, latency: 100ms, bandwidth: 64KiB/s}
//!   - {at: 30s, for: 2s, fault: wipe, target: follower}
//!   - {at: 35s, for: 1s, fault: upgrade, target: n2}
//!   - {at: 40s, for: 1s, fault: move-home, target: n1, to: n3}
//!   - {at: 45s, for: 5s, fault: replace-member, target: n1, by: n6}
//! ```
//!
//! A bare list of the same entries is read too. A realised schedule has the same form, with what
//! was observed beside each fault, and is itself a schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{Capabilities, Fault, LinkSet, Shape};
use crate::program::Program;
use crate::wire::{WireEntry, WireSchedule};
use crate::{Budget, Node, Selector};

/// An ordered list of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireSchedule", into = "WireSchedule")]
pub struct Schedule {
    /// The faults, in the order written; that of injection is by time.
    pub faults: Vec<Entry>,
}

/// One injection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "WireEntry")]
pub struct Entry {
    /// When, since the start of the run.
    pub at: Duration,
    /// For how long (`for` in YAML), from the moment it is injected.
    pub lasting: Duration,
    /// What.
    pub fault: Fault,
    /// To whom. Not needed by the shapes that divide all nodes ([`Shape::ordered`]).
    pub target: Option<Selector>,
    /// All nodes in the order in which such a shape divides them; drawn by seed if absent.
    pub order: Option<Vec<Node>>,
    /// The mechanism to use where the substrate has a choice, e.g. `freezer` or `signal` for a
    /// pause; the substrate's first choice if absent.
    pub via: Option<String>,
    /// The name (`as` in YAML) by which others mean the nodes that it hits.
    pub name: Option<String>,
    /// The name of the fault in whose shadow it is: it may hit what that one has hit, and is healed
    /// first.
    pub under: Option<String>,
    /// What came of it, in a realised schedule.
    pub realised: Option<Realised>,
}

/// What came of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realised {
    /// The selector that the concrete target was resolved from.
    pub was: Option<Selector>,
    /// When the proof of injection came, since the start of the run.
    pub injected_at: Option<Duration>,
    /// Whether the effect was seen.
    pub seen: Option<bool>,
    /// What was observed after injecting.
    pub proof: Option<String>,
    /// When the proof of healing came, since the start of the run.
    pub healed_at: Option<Duration>,
    /// Whether the effect was seen to be gone.
    pub gone: Option<bool>,
    /// What was observed after healing.
    pub heal_proof: Option<String>,
    /// Why it was never injected; such an entry is left out when the schedule is replayed.
    pub skipped: Option<String>,
}

/// Why a schedule cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It is not the YAML expected; the message holds line, column and field.
    #[error("{0}")]
    Syntax(#[from] serde_yaml::Error),
    /// It is, but asks for the impossible.
    #[error("faults{place}: {message}")]
    Impossible {
        /// Which field of which entry, e.g. `[0].target` or `[2].sequence[1].for`.
        place: String,
        /// What is wrong and what was expected.
        message: String,
    },
}

impl ScheduleError {
    /// Line and column (from 1) in the text, where known.
    pub fn location(&self) -> Option<(usize, usize)> {
        match self {
            Self::Syntax(error) => error.location().map(|l| (l.line(), l.column())),
            Self::Impossible { .. } => None,
        }
    }
}

impl Schedule {
    /// Reads a schedule: a mapping with `faults`, or a bare list.
    ///
    /// # Errors
    /// [`ScheduleError::Syntax`] with line, field and what was expected.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if is_list(text) {
            let faults = serde_yaml::from_str(text)?;
            return Ok(Self { faults });
        }
        Ok(serde_yaml::from_str(text)?)
    }

    /// The schedule as YAML, such that [`Schedule::parse`] reads the same.
    pub fn to_yaml(&self) -> String {
        // Only text, numbers and lists: nothing that YAML could refuse.
        serde_yaml::to_string(self).unwrap_or_default()
    }

    /// Whether it can be carried out on this many nodes with these capabilities.
    ///
    /// # Errors
    /// [`ScheduleError::Impossible`] for the first entry that cannot.
    pub fn validate(&self, nodes: Node, capabilities: &Capabilities) -> Result<(), ScheduleError> {
        self.validate_among(nodes, 0, capabilities)
    }

    /// The same where so many nodes that are no replicas, gateways and the monitor, come after the
    /// replicas: they can be named, but no role and no number of nodes means them.
    ///
    /// # Errors
    /// As [`Schedule::validate`].
    pub fn validate_among(
        &self,
        nodes: Node,
        auxiliaries: Node,
        capabilities: &Capabilities,
    ) -> Result<(), ScheduleError> {
        Program::from(self.clone()).validate_among(nodes, auxiliaries, capabilities)
    }
}

impl Entry {
    /// An entry still to be carried out.
    pub fn new(at: Duration, lasting: Duration, fault: Fault, target: Option<Selector>) -> Self {
        Self {
            at,
            lasting,
            fault,
            target,
            order: None,
            via: None,
            name: None,
            under: None,
            realised: None,
        }
    }

    /// Whether it was planned but never injected.
    pub fn skipped(&self) -> bool {
        self.realised.as_ref().is_some_and(|r| r.skipped.is_some())
    }

    /// The field that makes it impossible, and how. One that was skipped is never injected, and
    /// possible.
    pub(crate) fn validate_among(
        &self,
        nodes: Node,
        auxiliaries: Node,
        capabilities: &Capabilities,
    ) -> Result<(), (&'static str, String)> {
        if self.skipped() {
            return Ok(());
        }
        let kind = self.fault.kind();
        if self.lasting.is_zero() {
            return Err(("for", "0s; expected a duration above zero".to_owned()));
        }
        if let Some(reason) = capabilities.obstacle(kind) {
            let name = kind.name();
            return Err(("fault", format!("{name} cannot be injected here: {reason}")));
        }
        let all = nodes.saturating_add(auxiliaries);
        self.validate_target(nodes, all)?;
        self.validate_role(capabilities)?;
        self.validate_budget(nodes, capabilities.budget())?;
        self.validate_order(nodes, all)?;
        match &self.fault {
            Fault::Partition(shape) => validate_shape(*shape, nodes, self.target.as_ref()),
            Fault::Slow {
                links,
                latency,
                jitter,
                bandwidth,
            } => {
                validate_links(*links, nodes)?;
                whole_milliseconds("latency", *latency)?;
                whole_milliseconds("jitter", *jitter)?;
                if jitter > latency {
                    let message = format!("{jitter:?}; expected at most the latency, {latency:?}");
                    return Err(("jitter", message));
                }
                if latency.is_zero() && bandwidth.is_none() {
                    let message = "nothing would be slow; expected a latency above zero, \
                                   a bandwidth, or both";
                    return Err(("latency", message.to_owned()));
                }
                Ok(())
            }
            Fault::Loss(disturbance)
            | Fault::Reorder(disturbance)
            | Fault::Duplicate(disturbance) => validate_links(disturbance.links, nodes),
            Fault::Memory { mib: 0 } => Err(("limit", "0MiB; expected 1MiB or more".to_owned())),
            Fault::SlowDisk { latency } => above_zero("latency", *latency),
            Fault::Rollback { age } => above_zero("age", *age),
            Fault::ClockJump { by_ms: 0 } | Fault::ClockStrobe { by_ms: 0, .. } => {
                Err(("by", "0ms; expected another time".to_owned()))
            }
            Fault::ClockStrobe { every, .. } => above_zero("every", *every),
            Fault::ClockDrift { ppm } if *ppm == 0 || *ppm <= -1_000_000 => {
                let message = format!("{ppm}; expected microseconds a second, above -1000000");
                Err(("ppm", message))
            }
            Fault::Kill
            | Fault::PowerLoss
            | Fault::Pause
            | Fault::Wipe
            | Fault::Upgrade
            | Fault::Crash { .. }
            | Fault::Cpu { .. }
            | Fault::TornWrite
            | Fault::BitFlip { .. }
            | Fault::DiskFull
            | Fault::ReadOnly
            | Fault::FsyncError
            | Fault::ThrottleDisk { .. }
            | Fault::Downgrade
            | Fault::Drain
            | Fault::Memory { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. } => Ok(()),
            Fault::Scale => self.validate_last(nodes, all),
            Fault::RollingRestart | Fault::NoEndpoints => match &self.target {
                Some(Selector::All) => Ok(()),
                // As a realised schedule names them.
                Some(Selector::Nodes(list)) if list.len() == usize::from(nodes) => Ok(()),
                target => {
                    let target = target.as_ref().map(Selector::to_string).unwrap_or_default();
                    Err(("target", format!("{target}; {} has all nodes", kind.name())))
                }
            },
            Fault::Snapshot => match &self.target {
                Some(target) if target.size(nodes) > 1 => {
                    Err(("target", format!("{target}; snapshot has one node")))
                }
                _ => Ok(()),
            },
            Fault::MoveHome { to } => self.validate_command("to", *to, nodes),
            Fault::ReplaceMember { by } => self.validate_command("by", Some(*by), nodes),
            Fault::AddMember | Fault::RemoveMember | Fault::TransferLeadership => {
                self.validate_command("target", None, nodes)
            }
        }
    }

    fn validate_target(&self, nodes: Node, all: Node) -> Result<(), (&'static str, String)> {
        let Some(target) = &self.target else {
            return match self.fault {
                Fault::Partition(shape) if shape.ordered() => Ok(()),
                _ => Err(("target", "missing; expected e.g. leader or n1".to_owned())),
            };
        };
        if let Selector::Nodes(list) = target {
            if let Some(stranger) = list.iter().find(|&&n| n == 0 || n > all) {
                let message = format!("n{stranger} does not exist; expected {}", range(all));
                return Err(("target", message));
            }
            if list.iter().collect::<BTreeSet<_>>().len() < list.len() {
                let message = format!("{target} names a node twice; expected distinct nodes");
                return Err(("target", message));
            }
        }
        match target.size(nodes) {
            0 => Err(("target", format!("{target} of {nodes} nodes is nobody"))),
            size if size > nodes => {
                let message = format!("{target} of {nodes} nodes; expected at most {nodes}");
                Err(("target", message))
            }
            _ => Ok(()),
        }
    }

    /// Whether anybody ever has the role that is meant.
    fn validate_role(&self, capabilities: &Capabilities) -> Result<(), (&'static str, String)> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        match target.role().and_then(|role| capabilities.absence(role)) {
            Some(reason) => Err(("target", format!("{target} is nobody here: {reason}"))),
            None => Ok(()),
        }
    }

    /// Whether it hurts more than may be hurt, whoever has which role.
    fn validate_budget(&self, nodes: Node, budget: &Budget) -> Result<(), (&'static str, String)> {
        let hurt = match (&self.fault, &self.target) {
            (Fault::Partition(Shape::MajoritiesRing), _) => Some((nodes, "shape")),
            (Fault::Partition(Shape::Bridge), _) => Some((nodes.saturating_sub(1), "shape")),
            (Fault::Partition(Shape::Halves), None) => Some((nodes / 2, "shape")),
            (_, Some(Selector::Nodes(named))) => {
                let named: BTreeSet<Node> = named.iter().copied().collect();
                let permitted = budget.permits(&named, &BTreeSet::new());
                return permitted.map_err(|message| ("target", message));
            }
            (
                _,
                Some(
                    target @ (Selector::All
                    | Selector::Majority
                    | Selector::Minority
                    | Selector::MinorityWithLeader
                    | Selector::MinorityWithoutLeader
                    | Selector::Random(_)),
                ),
            ) => Some((target.size(nodes), "target")),
            _ => None,
        };
        let permitted = match &budget.targets {
            Some(targets) => Node::try_from(targets.len()).unwrap_or(Node::MAX),
            None => nodes,
        };
        let most = budget.hurt_at_most.unwrap_or(nodes).min(permitted);
        match hurt {
            Some((count, field)) if count > most => Err((
                field,
                format!("{count} nodes would be hurt at once, and at most {most} may be"),
            )),
            _ => Ok(()),
        }
    }

    /// A smaller number of nodes is one without the last ones.
    fn validate_last(&self, nodes: Node, all: Node) -> Result<(), (&'static str, String)> {
        let one = [nodes];
        let named = match &self.target {
            Some(Selector::Nodes(named)) => named.as_slice(),
            Some(Selector::Last) => &one,
            _ => {
                let message =
                    format!("scale takes the last nodes away; expected last or e.g. n{all}");
                return Err(("target", message));
            }
        };
        let count = Node::try_from(named.len()).unwrap_or(all);
        if count >= all {
            return Err(("target", "no node would be left".to_owned()));
        }
        let mut sorted = named.to_vec();
        sorted.sort_unstable();
        if sorted.into_iter().eq(all - count + 1..=all) {
            return Ok(());
        }
        let message = format!(
            "{}; scale takes the last nodes away; expected {}",
            crate::selector::names(named),
            crate::selector::names(&(all - count + 1..=all).collect::<Vec<_>>()),
        );
        Err(("target", message))
    }

    /// A command has one node as its target, and maybe another beside it.
    fn validate_command(
        &self,
        field: &'static str,
        other: Option<Node>,
        nodes: Node,
    ) -> Result<(), (&'static str, String)> {
        let name = self.fault.kind().name();
        if let Some(target) = &self.target
            && target.size(nodes) > 1
        {
            return Err(("target", format!("{target}; {name} has one node")));
        }
        if nodes == 1 {
            let message = format!("{name} needs at least 2 nodes; there are 1");
            return Err(("fault", message));
        }
        let Some(other) = other else { return Ok(()) };
        if other > nodes {
            let message = format!("n{other} does not exist; expected {}", range(nodes));
            return Err((field, message));
        }
        if self.target == Some(Selector::Nodes(vec![other])) {
            let message = format!("n{other} is the target; expected another node");
            return Err((field, message));
        }
        Ok(())
    }

    fn validate_order(&self, nodes: Node, all: Node) -> Result<(), (&'static str, String)> {
        let Some(order) = &self.order else {
            return Ok(());
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        let replicas = sorted.partition_point(|&node| node <= nodes);
        let (replicas, others) = sorted.split_at(replicas);
        let distinct = others.windows(2).all(|pair| pair[0] < pair[1]);
        let known = others.last().is_none_or(|&last| last <= all);
        if !replicas.iter().copied().eq(1..=nodes) || !distinct || !known {
            let message = format!("expected each of {} exactly once", range(nodes));
            return Err(("order", message));
        }
        Ok(())
    }
}

/// Whether a YAML text is a bare list.
pub(crate) fn is_list(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#') && *line != "---");
    first.is_some_and(|line| line.starts_with(['-', '[']))
}

fn validate_links(links: LinkSet, nodes: Node) -> Result<(), (&'static str, String)> {
    if nodes == 1 && links == LinkSet::Peers {
        let message = "peers; a single node has none, expected clients";
        return Err(("links", message.to_owned()));
    }
    Ok(())
}

fn whole_milliseconds(
    field: &'static str,
    duration: Duration,
) -> Result<(), (&'static str, String)> {
    if duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Ok(());
    }
    Err((field, format!("{duration:?}; expected whole milliseconds")))
}

fn above_zero(field: &'static str, duration: Duration) -> Result<(), (&'static str, String)> {
    if duration.is_zero() {
        return Err((field, "0s; expected a duration above zero".to_owned()));
    }
    whole_milliseconds(field, duration)
}

fn validate_shape(
    shape: Shape,
    nodes: Node,
    target: Option<&Selector>,
) -> Result<(), (&'static str, String)> {
    let least = match shape {
        Shape::Clients => 1,
        Shape::Isolate | Shape::Halves | Shape::OneWay(_) => 2,
        Shape::Bridge | Shape::MajoritiesRing => 3,
    };
    if nodes < least {
        let name = shape.name();
        let message = format!("{name} needs at least {least} nodes; there are {nodes}");
        return Err(("shape", message));
    }
    let most = match shape {
        Shape::Clients => nodes,
        Shape::Isolate | Shape::Halves | Shape::OneWay(_) => nodes - 1,
        Shape::Bridge => 1,
        Shape::MajoritiesRing => 0,
    };
    if let Some(target) = target
        && target.size(nodes) > most
    {
        let name = shape.name();
        let message = match shape {
            Shape::MajoritiesRing => format!("{name} takes no target: it divides all nodes"),
            Shape::Bridge => format!("{target}; the bridge is one node"),
            _ => format!(
                "{target}; expected at most {most} of {nodes} nodes, so that others are left to be cut from"
            ),
        };
        return Err(("target", message));
    }
    Ok(())
}

fn range(nodes: Node) -> String {
    if nodes == 1 {
        return "n1".to_owned();
    }
    format!("n1 to n{nodes}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Bandwidth, Direction, FaultKind};

    const EXAMPLE: &str = "
- {at: 3s, for: 5s, fault: partition, shape: isolate, target: leader}
- {at: 12s, for: 3s, fault: kill, target: leader}
- {at: 20s, for: 4s, fault: slow, links: peers, target: follower, latency: 100ms, bandwidth: 64KiB/s}
- {at: 25s, for: 500ms, fault: partition, shape: one-way, direction: in, target: [n1, n2]}
- {at: 26s, for: 1.5s, fault: partition, shape: bridge, order: [n5, n4, n3, n2, n1]}
- {at: 28s, for: 1s, fault: wipe, target: follower}
- {at: 29s, for: 1s, fault: upgrade, target: n2}
- {at: 30s, for: 1s, fault: move-home, target: n1, to: n3}
- {at: 31s, for: 1s, fault: add-member, target: n4}
- {at: 32s, for: 1s, fault: remove-member, target: leader}
- {at: 33s, for: 1s, fault: replace-member, target: follower, by: n5}
- {at: 34s, for: 1s, fault: transfer-leadership, target: random}
";

    #[test]
    fn the_documented_form_is_read() {
        let schedule = Schedule::parse(EXAMPLE).expect("readable");
        let seconds = Duration::from_secs;
        assert_eq!(
            schedule.faults[0],
            Entry::new(
                seconds(3),
                seconds(5),
                Fault::Partition(Shape::Isolate),
                Some(Selector::Leader)
            )
        );
        assert_eq!(
            schedule.faults[2].fault,
            Fault::Slow {
                links: LinkSet::Peers,
                latency: Duration::from_millis(100),
                jitter: Duration::ZERO,
                bandwidth: Some(Bandwidth { kib_s: 64 }),
            }
        );
        assert_eq!(
            schedule.faults[3].fault,
            Fault::Partition(Shape::OneWay(Direction::In))
        );
        assert_eq!(schedule.faults[4].order, Some(vec![5, 4, 3, 2, 1]));
        assert_eq!(schedule.faults[7].fault, Fault::MoveHome { to: Some(3) });
        assert_eq!(schedule.faults[10].fault, Fault::ReplaceMember { by: 5 });
        schedule
            .validate(5, &Capabilities::all())
            .expect("possible");

        let as_mapping = format!("# three faults\nversion: 1\nfaults:{EXAMPLE}");
        assert_eq!(Schedule::parse(&as_mapping).expect("readable"), schedule);
        assert_eq!(
            Schedule::parse(&schedule.to_yaml()).expect("readable"),
            schedule
        );
        assert!(
            Schedule::parse("faults: []")
                .expect("readable")
                .faults
                .is_empty()
        );
    }

    #[test]
    fn an_error_names_line_and_field_and_what_was_expected() {
        let cases = [
            (
                "{at: 3, for: 5s, fault: kill, target: n1}",
                &["unit", "300ms"][..],
            ),
            (
                "{at: 3s, for: 5s, fault: kil, target: n1}",
                &["kil", "power-loss"],
            ),
            (
                "{at: 3s, for: 5s, fault: kill, target: boss}",
                &["boss", "former-leader"],
            ),
            (
                "{at: 3s, for: 5s, fault: kill, targets: n1}",
                &["targets", "target"],
            ),
            (
                "{at: 3s, for: 5s, fault: kill}",
                &["target", "missing", "leader"],
            ),
            ("{for: 5s, fault: kill, target: n1}", &["at"]),
            (
                "{at: 3s, for: 5s, fault: partition, target: n1}",
                &["shape", "isolate"],
            ),
            (
                "{at: 3s, for: 5s, fault: partition, shape: ring, target: n1}",
                &["ring", "majorities-ring"],
            ),
            (
                "{at: 3s, for: 5s, fault: partition, shape: one-way, target: n1}",
                &["direction", "out or in"],
            ),
            (
                "{at: 3s, for: 5s, fault: kill, shape: halves, target: n1}",
                &["shape", "does not apply"],
            ),
            (
                "{at: 3s, for: 5s, fault: replace-member, target: n1}",
                &["by", "n6"],
            ),
            (
                "{at: 3s, for: 5s, fault: wipe, target: n1, to: n2}",
                &["to", "does not apply"],
            ),
            (
                "{at: 3s, for: 5s, fault: slow, target: n1}",
                &["latency", "bandwidth"],
            ),
            (
                "{at: 3s, for: 5s, fault: slow, target: n1, bandwidth: 3}",
                &["[1].bandwidth", "64KiB/s"],
            ),
            (
                "{at: 3s, for: 5s, fault: partition, shape: bridge, order: [x]}",
                &["[1].order[0]", "n3"],
            ),
        ];
        for (entry, expected) in cases {
            let text = format!("- {{at: 1s, for: 1s, fault: kill, target: n1}}\n- {entry}\n");
            let error = Schedule::parse(&text).expect_err(entry);
            let message = error.to_string();
            for word in expected {
                assert!(
                    message.contains(word),
                    "{entry}: `{word}` is not in: {message}"
                );
            }
            let (line, _) = error
                .location()
                .unwrap_or_else(|| panic!("no line in: {message}"));
            assert_eq!(line, 2, "{message}");
        }
        assert!(Schedule::parse("version: 9\nfaults: []").is_err());
        assert!(Schedule::parse("fault: []").is_err());
    }

    #[test]
    fn nodes_that_are_no_replicas_can_be_named() {
        let partition = "at: 1s, for: 1s, fault: partition, shape";
        let schedule = |rest: &str| Schedule::parse(&format!("- {{{partition}: {rest}}}"));
        let valid = |rest: &str| {
            let schedule = schedule(rest).expect(rest);
            schedule.validate_among(3, 2, &Capabilities::all()).is_ok()
        };
        for possible in [
            "isolate, target: n5",
            "isolate, target: gateway",
            "halves, target: n4, order: [n4, n2, n1, n3]",
            "halves, target: n1, order: [n1, n2, n3]",
        ] {
            assert!(valid(possible), "{possible}");
        }
        for impossible in [
            "isolate, target: n6",
            "halves, target: n4, order: [n4, n2, n3]",
            "halves, target: n4, order: [n4, n4, n1, n2, n3]",
            "halves, target: n6, order: [n6, n1, n2, n3]",
        ] {
            assert!(!valid(impossible), "{impossible}");
        }
    }

    #[test]
    fn the_impossible_is_refused() {
        let cases = [
            (
                "fault: kill, target: n9",
                5,
                "faults[0].target: n9 does not exist; expected n1 to n5",
            ),
            ("fault: kill, target: [n1, n1]", 5, "twice"),
            ("fault: kill, target: random(6)", 5, "at most 5"),
            ("fault: kill, target: minority", 2, "nobody"),
            ("fault: power-loss, target: n1", 5, "cannot be injected"),
            (
                "fault: move-home, target: n1, to: n1",
                5,
                "faults[0].to: n1 is the target",
            ),
            ("fault: move-home, target: n1, to: n6", 5, "n1 to n5"),
            (
                "fault: replace-member, target: n1, by: n9",
                5,
                "faults[0].by: n9 does not exist",
            ),
            ("fault: remove-member, target: minority", 5, "one node"),
            (
                "fault: transfer-leadership, target: n1",
                1,
                "at least 2 nodes",
            ),
            (
                "fault: partition, shape: isolate, target: n1",
                1,
                "at least 2",
            ),
            (
                "fault: partition, shape: isolate, target: all",
                5,
                "at most 4",
            ),
            (
                "fault: partition, shape: halves, target: [n1, n2, n3]",
                3,
                "at most 2",
            ),
            ("fault: partition, shape: bridge", 2, "at least 3"),
            (
                "fault: partition, shape: bridge, target: followers",
                5,
                "one node",
            ),
            (
                "fault: partition, shape: majorities-ring, target: n1",
                5,
                "no target",
            ),
            (
                "fault: partition, shape: bridge, order: [n1, n2]",
                3,
                "exactly once",
            ),
            (
                "fault: slow, latency: 10us, target: n1",
                3,
                "whole milliseconds",
            ),
            ("fault: slow, latency: 0, target: n1", 3, "above zero"),
            (
                "fault: slow, latency: 5ms, target: n1",
                1,
                "expected clients",
            ),
        ];
        let capabilities = Capabilities::all().without(FaultKind::PowerLoss, "no power");
        for (fault, nodes, expected) in cases {
            let schedule =
                Schedule::parse(&format!("- {{at: 0s, for: 1s, {fault}}}")).expect(fault);
            let error = schedule.validate(nodes, &capabilities).expect_err(fault);
            assert!(error.to_string().contains(expected), "{fault}: {error}");
        }
        let zero =
            Schedule::parse("- {at: 1s, for: 0s, fault: kill, target: n1}").expect("readable");
        let error = zero.validate(5, &capabilities).expect_err("no length");
        assert!(error.to_string().contains("faults[0].for"), "{error}");
    }
}
