//! Schedules in blocks: one after the other or side by side, over and over, by choice, on a trigger.
//!
//! ```yaml
//! faults:
//!   - {at: 2s, for: 3s, fault: kill, target: leader}
//!   - at: 8s
//!     sequence:
//!       - fault: partition
//!         shape: isolate
//!         target: minority
//!         as: cut
//!         while:
//!           - wait: 1s..2s
//!           - {fault: kill, target: one-of($cut), for: 1s}
//!       - when: {acknowledged: 100}
//!         within: 10s
//!         do:
//!           - {fault: pause, target: one-of(others($cut)), for: 2s..4s}
//!   - at: 30s
//!     repeat: forever
//!     every: 10s
//!     do:
//!       - choose:
//!           - {weight: 3, do: [{use: kill}]}
//!           - {do: [{use: part-kill}]}
//! ```
//!
//! `docs/faults.md` describes each block. A [`Program`] of faults alone, each with its time and
//! length, is a flat [`Schedule`]; every run of a program comes to one.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::fault::{Capabilities, Fault};
use crate::package;
use crate::schedule::{Entry, Schedule, ScheduleError};
use crate::{Node, Selector, duration};

/// A list of what is to be done.
pub(crate) type Block = Arc<[Statement]>;

/// How long a fault with `while` waits for its chance if nothing is said.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// A time, or a range of which one is drawn: `2s` or `2s..4s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub least: Duration,
    pub most: Duration,
}

impl Span {
    pub fn exactly(time: Duration) -> Self {
        Self {
            least: time,
            most: time,
        }
    }

    /// One of its times; of a range a whole number of milliseconds after the least.
    pub fn draw(self, random: &mut impl Rng) -> Duration {
        let width = self.most.saturating_sub(self.least).as_millis();
        match u64::try_from(width).unwrap_or(u64::MAX) {
            0 => self.least,
            width => self.least + Duration::from_millis(random.random_range(0..=width)),
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// When, since the start of the block that it is in. Of a fault see [`Planned`].
    pub at: Option<Span>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Fault(Box<Planned>),
    /// One after the other, each when the one before is over.
    Sequence(Block),
    /// All side by side.
    Parallel(Block),
    Repeat {
        /// `None` until the end of the run.
        rounds: Option<u32>,
        /// From the beginning of one round to that of the next, at least.
        every: Option<Span>,
        body: Block,
    },
    /// One of these, by weight.
    Choose(Vec<Alternative>),
    Wait(Span),
    When {
        trigger: Trigger,
        /// How long it is waited for; `None` until the end of the run.
        within: Option<Duration>,
        body: Block,
    },
    /// For each of these nodes, one after the other, by a name.
    Each {
        selector: Selector,
        name: String,
        body: Block,
    },
    /// A package or composite by name.
    Use {
        name: String,
        /// What that is here, once it was looked up.
        body: Option<Block>,
    },
}

/// A fault whose time and length may be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// With the earliest time and the least length.
    pub entry: Entry,
    /// Whether its time is said at all.
    pub placed: bool,
    /// How much later than that it may be.
    pub later: Duration,
    /// How much longer.
    pub longer: Duration,
    /// What is done while it stands (`while`): it is healed when that is over.
    pub body: Option<Block>,
    /// How long it is tried to inject it; as long as it is to last if absent.
    pub window: Option<Duration>,
}

impl From<Entry> for Planned {
    fn from(entry: Entry) -> Self {
        Self {
            entry,
            placed: true,
            later: Duration::ZERO,
            longer: Duration::ZERO,
            body: None,
            window: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// From 1.
    pub weight: u32,
    pub body: Block,
}

/// What clients and nodes have to show before something is done; all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// So many more writes acknowledged.
    pub acknowledged: Option<u64>,
    /// So many more changes of leadership.
    pub leader_changes: Option<u64>,
    /// A read at least this stale.
    pub staleness: Option<Duration>,
    /// An operation without an answer yet.
    pub in_flight: Option<InFlight>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum InFlight {
    Read,
    Write,
    Any,
}

/// `100 acknowledgements and 1 change of leadership`.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: u64, one: &str, many: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {many}"),
        };
        let parts = [
            self.acknowledged
                .map(|n| count(n, "acknowledgement", "acknowledgements")),
            self.leader_changes
                .map(|n| count(n, "change of leadership", "changes of leadership")),
            self.staleness
                .map(|time| format!("a read {} stale", duration::format(time))),
            self.in_flight.map(|kind| {
                match kind {
                    InFlight::Read => "a read in flight",
                    InFlight::Write => "a write in flight",
                    InFlight::Any => "an operation in flight",
                }
                .to_owned()
            }),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" and "))
    }
}

/// A schedule in the full language. See the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub(crate) statements: Vec<Statement>,
}

impl From<Vec<Entry>> for Program {
    fn from(entries: Vec<Entry>) -> Self {
        let statements = entries.into_iter().map(Statement::from);
        Self {
            statements: statements.collect(),
        }
    }
}

impl From<Entry> for Statement {
    fn from(entry: Entry) -> Self {
        Self {
            at: None,
            what: What::Fault(Box::new(entry.into())),
        }
    }
}

impl From<Schedule> for Program {
    fn from(schedule: Schedule) -> Self {
        schedule.faults.into()
    }
}

/// The faults outside all blocks.
impl<'p> IntoIterator for &'p mut Program {
    type Item = &'p mut Entry;
    type IntoIter = Box<dyn Iterator<Item = &'p mut Entry> + 'p>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter_mut())
    }
}

impl Program {
    /// Reads a program: a mapping with `faults`, or a bare list.
    ///
    /// # Errors
    /// [`ScheduleError::Syntax`] with line, field and what was expected.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if crate::schedule::is_list(text) {
            return Ok(serde_yaml::from_str(text)?);
        }
        Ok(serde_yaml::from_str::<crate::wire::WireProgram>(text)?.into())
    }

    /// The program as a YAML list, such that [`Program::parse`] reads the same.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).unwrap_or_default()
    }

    /// The faults outside all blocks.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        let statements = self.statements.iter_mut();
        statements.filter_map(|statement| match &mut statement.what {
            What::Fault(planned) => Some(&mut planned.entry),
            _ => None,
        })
    }

    /// How many faults and blocks it lists.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Its faults, if it is a flat schedule: nothing is left to be drawn, waited for or looked up.
    pub fn flat(&self) -> Option<Vec<Entry>> {
        let entry = |statement: &Statement| match &statement.what {
            What::Fault(planned)
                if planned.placed
                    && planned.later.is_zero()
                    && planned.longer.is_zero()
                    && planned.body.is_none()
                    && planned.window.is_none() =>
            {
                Some(planned.entry.clone())
            }
            _ => None,
        };
        self.statements.iter().map(entry).collect()
    }

    /// Every fault that it may do here, those of packages and composites included.
    pub fn faults(&self, nodes: Node, capabilities: &Capabilities) -> Vec<Fault> {
        faults_in(&self.expanded(nodes, capabilities).statements)
    }

    /// Whether a fault in it is to be done by this mechanism.
    pub fn demands(&self, mechanism: &str) -> bool {
        let mut demands = false;
        for statement in &self.statements {
            statement.visit(&mut |statement| {
                demands |= matches!(
                    &statement.what,
                    What::Fault(planned) if planned.entry.via.as_deref() == Some(mechanism)
                );
            });
        }
        demands
    }

    /// Whether something in it waits for a stale read.
    pub fn observes_staleness(&self) -> bool {
        let mut observes = false;
        for statement in &self.statements {
            statement.visit(&mut |statement| {
                observes |= matches!(
                    &statement.what,
                    What::When { trigger, .. } if trigger.staleness.is_some()
                );
            });
        }
        observes
    }

    /// The first entry that cannot begin before this time, and its own.
    pub fn first_not_before(&self, time: Duration) -> Option<(usize, Duration)> {
        let late = |(index, statement): (usize, &Statement)| {
            let at = statement.earliest();
            (at >= time && !statement.skipped()).then_some((index, at))
        };
        self.statements.iter().enumerate().find_map(late)
    }

    /// Whether it can be carried out on this many nodes with these capabilities, where so many nodes
    /// that are no replicas, gateways and the monitor, come after the replicas: they can be named,
    /// but no role and no number of nodes means them.
    ///
    /// # Errors
    /// [`ScheduleError::Impossible`] for the first fault or block that cannot.
    pub fn validate_among(
        &self,
        nodes: Node,
        auxiliaries: Node,
        capabilities: &Capabilities,
    ) -> Result<(), ScheduleError> {
        let here = Here {
            nodes,
            auxiliaries,
            capabilities,
            names: names_given(&self.statements),
        };
        here.check(&self.statements, "")
            .map_err(|(place, message)| ScheduleError::Impossible { place, message })
    }

    /// The same with every package and composite looked up. What cannot be done here is not looked
    /// up, and will be skipped.
    pub(crate) fn expanded(&self, nodes: Node, capabilities: &Capabilities) -> Self {
        let here = Here {
            nodes,
            auxiliaries: 0,
            capabilities,
            names: BTreeSet::new(),
        };
        Self {
            statements: expand(&self.statements, &here).to_vec(),
        }
    }
}

impl Statement {
    /// When, since the start of the block that it is in.
    pub fn at(&self) -> Option<Span> {
        match &self.what {
            What::Fault(planned) => planned.placed.then(|| Span {
                least: planned.entry.at,
                most: planned.entry.at + planned.later,
            }),
            _ => self.at,
        }
    }

    fn earliest(&self) -> Duration {
        self.at().map_or(Duration::ZERO, |at| at.least)
    }

    fn skipped(&self) -> bool {
        matches!(&self.what, What::Fault(planned) if planned.entry.skipped())
    }

    /// The lists inside it, each with the field that holds it.
    pub fn blocks(&self) -> Vec<(String, &Block)> {
        match &self.what {
            What::Fault(planned) => {
                let body = planned.body.iter();
                body.map(|body| ("while".to_owned(), body)).collect()
            }
            What::Sequence(body) => vec![("sequence".to_owned(), body)],
            What::Parallel(body) => vec![("parallel".to_owned(), body)],
            What::Repeat { body, .. } | What::When { body, .. } | What::Each { body, .. } => {
                vec![("do".to_owned(), body)]
            }
            What::Choose(alternatives) => {
                let bodies = alternatives.iter().enumerate();
                bodies
                    .map(|(i, alternative)| (format!("choose[{i}].do"), &alternative.body))
                    .collect()
            }
            What::Wait(_) | What::Use { .. } => Vec::new(),
        }
    }

    /// The same with nothing inside it.
    pub fn without_blocks(&self) -> Self {
        let mut statement = Self {
            at: self.at,
            what: match &self.what {
                What::Choose(_) => What::Choose(Vec::new()),
                other => other.clone(),
            },
        };
        if let Some(body) = statement.what.body_mut() {
            *body = Block::from([]);
        }
        statement
    }

    /// Shows this and everything inside it, from outside in.
    fn visit(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        for (_, block) in self.blocks() {
            block.iter().for_each(|statement| statement.visit(see));
        }
    }

    /// How long it may take, if nothing has to wait for its chance: the latest end of it, since the
    /// start of the block that it is in. What has no end takes for ever.
    pub fn longest(&self) -> Duration {
        /// For the proof of a fault, and that of its healing.
        const PROOFS: Duration = Duration::from_secs(1);
        let one_by_one = |body: &Block| {
            let times = body.iter().map(Self::longest);
            times.fold(Duration::ZERO, Duration::saturating_add)
        };
        let alone = match &self.what {
            What::Fault(planned) => match &planned.body {
                Some(body) => one_by_one(body),
                None => planned.entry.lasting + planned.longer,
            }
            .saturating_add(PROOFS),
            What::Sequence(body) => one_by_one(body),
            What::Parallel(body) => {
                let ends = body.iter().map(Self::longest);
                ends.max().unwrap_or_default()
            }
            What::Repeat {
                rounds,
                every,
                body,
            } => {
                let round = one_by_one(body).max(every.map_or(Duration::ZERO, |every| every.most));
                rounds.map_or(Duration::MAX, |rounds| round.saturating_mul(rounds))
            }
            What::Choose(alternatives) => {
                let ends = alternatives.iter().map(|a| one_by_one(&a.body));
                ends.max().unwrap_or_default()
            }
            What::Wait(time) => time.most,
            What::When { within, body, .. } => within.map_or(Duration::MAX, |within| {
                within.saturating_add(one_by_one(body))
            }),
            What::Each { selector, body, .. } => {
                one_by_one(body).saturating_mul(u32::from(selector.size(5)))
            }
            What::Use { body, .. } => body.as_ref().map_or(Duration::ZERO, one_by_one),
        };
        alone.saturating_add(self.at().map_or(Duration::ZERO, |at| at.most))
    }
}

/// Every fault in these statements, and in what they use.
pub(crate) fn faults_in(statements: &[Statement]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for statement in statements {
        statement.visit(&mut |statement| match &statement.what {
            What::Fault(planned) => faults.push(planned.entry.fault.clone()),
            What::Use {
                body: Some(body), ..
            } => faults.extend(faults_in(body)),
            _ => {}
        });
    }
    faults
}

/// What a program is held against.
pub(crate) struct Here<'a> {
    pub nodes: Node,
    pub auxiliaries: Node,
    pub capabilities: &'a Capabilities,
    /// The names that its faults give.
    pub names: BTreeSet<String>,
}

/// The names that faults in these statements give to the nodes they hit.
pub(crate) fn names_given(statements: &[Statement]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for statement in statements {
        statement.visit(&mut |statement| match &statement.what {
            What::Fault(planned) => names.extend(planned.entry.name.clone()),
            What::Each { name, .. } => names.extend([name.clone()]),
            _ => {}
        });
    }
    names
}

impl Here<'_> {
    /// The place of the first impossible field, and what is impossible.
    pub fn check(&self, statements: &[Statement], path: &str) -> Result<(), (String, String)> {
        for (index, statement) in statements.iter().enumerate() {
            let place = format!("{path}[{index}]");
            self.statement(statement)
                .map_err(|(field, message)| (format!("{place}.{field}"), message))?;
            for (field, block) in statement.blocks() {
                self.check(block, &format!("{place}.{field}"))?;
            }
        }
        Ok(())
    }

    /// The field of this statement, not of what is inside it, that is impossible.
    fn statement(&self, statement: &Statement) -> Result<(), (&'static str, String)> {
        match &statement.what {
            What::Fault(planned) => {
                let entry = &planned.entry;
                let (nodes, auxiliaries) = (self.nodes, self.auxiliaries);
                entry.validate_among(nodes, auxiliaries, self.capabilities)?;
                if entry.skipped() {
                    return Ok(());
                }
                if let Some(target) = &entry.target {
                    self.known(target).map_err(|message| ("target", message))?;
                }
                match &entry.under {
                    Some(under) if !self.names.contains(under) => Err((
                        "under",
                        format!("no fault is called {under}; give one `as: {under}`"),
                    )),
                    _ => Ok(()),
                }
            }
            What::Each { selector, .. } => {
                self.known(selector).map_err(|message| ("each", message))?;
                match selector.role().and_then(|r| self.capabilities.absence(r)) {
                    Some(reason) => Err(("each", format!("{selector} is nobody here: {reason}"))),
                    None => Ok(()),
                }
            }
            What::Use { name, .. } => {
                package::body_of(name, self).map_err(|error| ("use", error.to_string()))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the name that a selector uses is given anywhere.
    fn known(&self, selector: &Selector) -> Result<(), String> {
        match selector {
            Selector::Named { name, .. } if !self.names.contains(name) => Err(format!(
                "{selector}: no fault is called {name}; give one `as: {name}`"
            )),
            _ => Ok(()),
        }
    }

    /// The statements without the alternatives that are impossible here; why nothing is left of
    /// them, if so.
    pub fn possible(&self, statements: &[Statement]) -> Result<Block, String> {
        let statements = statements.iter().map(|statement| {
            self.statement(statement).map_err(|(_, message)| message)?;
            let mut statement = statement.clone();
            match &mut statement.what {
                What::Choose(alternatives) => {
                    let mut first = None;
                    let mut left = Vec::new();
                    for alternative in alternatives.iter() {
                        match self.possible(&alternative.body) {
                            Ok(body) => left.push(Alternative {
                                weight: alternative.weight,
                                body,
                            }),
                            Err(reason) => first = first.or(Some(reason)),
                        }
                    }
                    if left.is_empty() {
                        return Err(first.unwrap_or_default());
                    }
                    *alternatives = left;
                }
                What::Use { name, body } => {
                    *body = Some(package::body_of(name, self).map_err(|e| e.to_string())?);
                }
                what => {
                    if let Some(body) = what.body_mut() {
                        *body = self.possible(body)?;
                    }
                }
            }
            Ok(statement)
        });
        statements.collect()
    }
}

impl What {
    fn body_mut(&mut self) -> Option<&mut Block> {
        match self {
            Self::Fault(planned) => planned.body.as_mut(),
            Self::Sequence(body)
            | Self::Parallel(body)
            | Self::Repeat { body, .. }
            | Self::When { body, .. }
            | Self::Each { body, .. } => Some(body),
            Self::Choose(_) | Self::Wait(_) | Self::Use { .. } => None,
        }
    }
}

fn expand(statements: &[Statement], here: &Here<'_>) -> Block {
    let statements = statements.iter().map(|statement| {
        let mut statement = statement.clone();
        match &mut statement.what {
            What::Choose(alternatives) => {
                for alternative in alternatives {
                    alternative.body = expand(&alternative.body, here);
                }
            }
            What::Use { name, body } => *body = package::body_of(name, here).ok(),
            what => {
                if let Some(body) = what.body_mut() {
                    *body = expand(body, here);
                }
            }
        }
        statement
    });
    statements.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, FaultKind};

    const EXAMPLE: &str = "
- {at: 3s, for: 5s, fault: partition, shape: isolate, target: leader, as: cut}
- {at: 4s, for: 1s, fault: kill, target: one-of(others($cut)), under: cut, via: signal}
- at: 8s..10s
  sequence:
  - fault: partition
    shape: isolate
    target: minority
    within: 3s
    while:
    - wait: 1s..2s
    - {fault: kill, target: random, for: 1s..2s}
  - when: {acknowledged: 100, leader_changes: 2, staleness: 1s, in_flight: any}
    within: 10s
    do:
    - {at: 1s, use: part-kill}
- repeat: forever
  every: 10s
  do:
  - choose:
    - {weight: 3, do: [{fault: kill, target: synchronous-standby, for: 1s}]}
    - {do: []}
- repeat: 3
  do:
  - each: followers
    do:
    - {fault: clock-strobe, by: 1s, every: 100ms, target: $node, for: 1s}
- parallel:
  - each: random(2)
    as: one
    do: [{fault: pause, target: $one, for: 1s}]
";

    #[test]
    fn every_block_is_read_and_written() {
        let program = Program::parse(EXAMPLE).expect("readable");
        assert_eq!(program.len(), 6);
        let all = Capabilities::all();
        program.validate_among(5, 0, &all).expect("possible");
        let written = program.to_yaml();
        assert_eq!(Program::parse(&written).expect(&written), program);
        let mapping = format!("version: 1\nfaults:{}", EXAMPLE.replace('\n', "\n  "));
        assert_eq!(Program::parse(&mapping).expect(&mapping), program);
        assert!(Program::parse("version: 2\nfaults: []").is_err());
        assert!(program.observes_staleness());
        assert_eq!(program.flat(), None);
        let late = program.first_not_before(Duration::from_secs(5));
        assert_eq!(late, Some((2, Duration::from_secs(8))));
    }

    #[test]
    fn a_flat_schedule_is_a_program_and_the_other_way_round() {
        let text = "- {at: 3s, for: 5s, fault: kill, target: leader, as: cut}\n";
        let schedule = Schedule::parse(text).expect("readable");
        let mut program = Program::parse(text).expect("readable");
        assert_eq!(Program::from(schedule.clone()), program);
        assert_eq!(program.flat(), Some(schedule.faults));
        for entry in &mut program {
            entry.lasting = Duration::from_secs(1);
        }
        assert!(program.to_yaml().contains("for: 1s"));
        for open in ["at: 3s..4s, for: 5s", "at: 3s, for: 5s..6s"] {
            let text = format!("- {{{open}, fault: kill, target: leader}}\n");
            assert_eq!(Program::parse(&text).expect("readable").flat(), None);
            assert!(Schedule::parse(&text).is_err());
        }
    }

    #[test]
    fn an_error_names_line_field_and_what_was_expected() {
        let cases = [
            ("{fault: kill, for: 1s}", &["target", "missing"][..]),
            ("{fault: kill, target: n1}", &["`for` is missing"]),
            (
                "{fault: kill, target: n1, for: 1s, while: [{wait: 1s}]}",
                &["`for` and `while` exclude"],
            ),
            (
                "{fault: kill, target: n1, while: []}",
                &["`while` is empty"],
            ),
            ("{sequence: []}", &["`sequence` is empty"]),
            ("{repeat: 0, do: [{wait: 1s}]}", &["repeat", "forever"]),
            ("{repeat: often, do: [{wait: 1s}]}", &["often", "forever"]),
            ("{repeat: 2}", &["`do` is missing"]),
            ("{repeat: 2, wait: 1s}", &["`repeat` and `wait` exclude"]),
            (
                "{wait: 1s, do: [{wait: 1s}]}",
                &["`do` does not apply to wait"],
            ),
            ("{choose: []}", &["`choose` is empty"]),
            ("{choose: [{weight: 0, do: []}]}", &["weight", "from 1"]),
            (
                "{when: {}, do: [{wait: 1s}]}",
                &["`when` is empty", "staleness"],
            ),
            (
                "{when: {in_flight: nothing}, do: [{wait: 1s}]}",
                &["in_flight", "nothing", "write"],
            ),
            (
                "{fault: kill, target: n1, for: 1s, as: Victim}",
                &["as", "Victim", "small letters"],
            ),
            ("{wait: 3}", &["wait", "unit", "2s..4s"]),
            ("{at: 1s}", &["expected one of fault", "use"]),
            ("{do: [{wait: 1s}]}", &["expected one of fault"]),
            (
                "{fault: kill, target: others(leader), for: 1s}",
                &["others(leader)", "others($name)"],
            ),
        ];
        for (statement, expected) in cases {
            let text = format!("- at: 1s\n  parallel:\n  - wait: 1s\n  - {statement}\n");
            let error = Program::parse(&text).expect_err(statement);
            let message = error.to_string();
            for word in expected.iter().chain(&["[0].parallel[1]"]) {
                assert!(
                    message.contains(word),
                    "{statement}: no `{word}` in: {message}"
                );
            }
            let (line, _) = error.location().expect(&message);
            assert_eq!(line, 4, "{message}");
        }
        let error = Program::parse("- {fault: kill, target: n1, for: 1s}").expect_err("no time");
        assert!(error.to_string().contains("`at` is missing"), "{error}");
    }

    #[test]
    fn the_impossible_is_refused_with_its_place() {
        let capabilities = Capabilities::all()
            .without(FaultKind::Wipe, "it would be missed")
            .without_role("follower", "nobody follows")
            .within(Budget {
                hurt_at_most: Some(2),
                targets: None,
            });
        for (statement, expected) in [
            (
                "{sequence: [{wait: 1s}, {fault: kill, target: n9, for: 1s}]}",
                "faults[0].sequence[1].target: n9 does not exist",
            ),
            (
                "{fault: pause, target: n1, while: [{fault: kill, target: $x, for: 1s}]}",
                "faults[0].while[0].target: $x: no fault is called x",
            ),
            (
                "{choose: [{do: [{wait: 1s}]}, {do: [{fault: wipe, target: n1, for: 1s}]}]}",
                "faults[0].choose[1].do[0].fault: wipe cannot be injected here: it would be missed",
            ),
            (
                "{repeat: 2, do: [{each: followers, do: [{wait: 1s}]}]}",
                "faults[0].do[0].each: followers is nobody here: nobody follows",
            ),
            (
                "{fault: kill, target: follower, for: 1s}",
                "faults[0].target: follower is nobody here: nobody follows",
            ),
            (
                "{use: amnesia-then-vote}",
                "faults[0].use: the nemesis `amnesia-then-vote` cannot work here: follower is nobody",
            ),
            (
                "{use: earthquake}",
                "faults[0].use: `earthquake` is no nemesis",
            ),
            (
                "{fault: kill, target: majority, for: 1s}",
                "faults[0].target: 3 nodes would be hurt at once, and at most 2 may be",
            ),
            (
                "{fault: kill, target: n1, for: 1s, under: x}",
                "faults[0].under: no fault is called x",
            ),
        ] {
            let text = format!("- {}", statement.replacen('{', "{at: 1s, ", 1));
            let program = Program::parse(&text).expect(&text);
            let error = program.validate_among(5, 0, &capabilities);
            let message = error.expect_err(statement).to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
