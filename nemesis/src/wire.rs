//! The form in which schedules are written: one flat mapping a fault or block.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::fault::{
    Bandwidth, CrashPoint, Direction, Disturbance, Fault, FaultKind, LinkSet, Percent, Shape,
    Stored,
};
use crate::program::{
    self, Alternative, Block, InFlight, Planned, Program, Span, Statement, Trigger, What,
};
use crate::schedule::{Entry, Realised, Schedule};
use crate::selector::{self, Selector};
use crate::{Node, duration};

/// Version of the form; absent means this one.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireSchedule {
    #[serde(default)]
    version: Version,
    faults: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Version;

impl Default for Version {
    fn default() -> Self {
        Self
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == VERSION {
            return Ok(Self);
        }
        Err(format!(
            "version {version} is not known; expected {VERSION}"
        ))
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        VERSION
    }
}

impl Clone for Version {
    fn clone(&self) -> Self {
        Self
    }
}

impl From<WireSchedule> for Schedule {
    fn from(wire: WireSchedule) -> Self {
        Self {
            faults: wire.faults,
        }
    }
}

impl From<Schedule> for WireSchedule {
    fn from(schedule: Schedule) -> Self {
        Self {
            version: Version,
            faults: schedule.faults,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ShapeName {
    Isolate,
    Halves,
    Bridge,
    MajoritiesRing,
    OneWay,
    Clients,
}

/// A field of a schedule: a node by its name.
#[derive(Clone, Copy, Serialize)]
#[serde(into = "String")]
struct NodeName(Node);

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let node = selector::parse_node(text);
        node.map(Self)
            .ok_or_else(|| format!("`{text}` is no node; expected a name such as n3"))
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "the name of a node, such as n3")
    }
}

/// Reads a field that is written as text. Like [`MapVisitor`], so that an error gets its field.
pub(crate) fn from_text<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct TextVisitor<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(TextVisitor(expected, PhantomData))
}

/// The same for a field that may also be a number, where that means something.
fn from_number_or_text<'de, D, T>(
    deserializer: D,
    expected: &'static str,
    meaning: fn(u64) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct EitherVisitor<T>(&'static str, fn(u64) -> Option<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for EitherVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            let unexpected = de::Unexpected::Unsigned(number);
            (self.1)(number).ok_or_else(|| E::invalid_value(unexpected, &self))
        }
    }

    deserializer.deserialize_any(EitherVisitor(expected, meaning))
}

impl From<NodeName> for String {
    fn from(node: NodeName) -> Self {
        format!("n{}", node.0)
    }
}

/// A duration that is written as text.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Text(#[serde(with = "duration")] Duration);

/// Written `2s`, or `2s..4s` for a range.
impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let least = duration::format(self.least);
        if self.least == self.most {
            return serializer.collect_str(&least);
        }
        serializer.collect_str(&format_args!("{least}..{}", duration::format(self.most)))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((least, most)) = text.split_once("..") else {
            let time = duration::parse(text).map_err(|e| format!("{e}, or a range: 2s..4s"))?;
            return Ok(Self::exactly(time));
        };
        let parse = |time| duration::parse(time).map_err(|e| e.to_string());
        let (least, most) = (parse(least)?, parse(most)?);
        if most < least {
            return Err(format!(
                "`{text}` ends before it begins; expected e.g. 2s..4s"
            ));
        }
        Ok(Self { least, most })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_number_or_text(
            deserializer,
            "a duration with a unit, such as 300ms, 5s or 2m, or a range such as 2s..4s",
            |number| (number == 0).then(|| Self::exactly(Duration::ZERO)),
        )
    }
}

/// How often something is repeated: `5`, or `forever`.
#[derive(Clone, Copy)]
struct Rounds(Option<u32>);

impl FromStr for Rounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "forever" => Ok(Self(None)),
            _ => Err(format!("`{text}`; expected a number from 1, or forever")),
        }
    }
}

impl Serialize for Rounds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rounds) => serializer.serialize_u32(rounds),
            None => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Rounds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_number_or_text(deserializer, "a number from 1, or forever", |number| {
            let rounds = u32::try_from(number).ok().filter(|&rounds| rounds > 0);
            rounds.map(|rounds| Self(Some(rounds)))
        })
    }
}

/// The name of the nodes that a fault hits.
#[derive(Clone, Serialize)]
#[serde(transparent)]
struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if selector::is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{text}` is no name; expected small letters, digits, - and _, a letter first, \
             such as victim"
        ))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a name such as victim")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAlternative {
    #[serde(default = "one", skip_serializing_if = "is_one")]
    weight: u32,
    #[serde(rename = "do")]
    body: Vec<Statement>,
}

fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTrigger {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader_changes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    staleness: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_flight: Option<InFlight>,
}

/// Who joins in somebody's place, or by how much a clock is set.
#[derive(Clone, Copy)]
enum By {
    Node(Node),
    Millis(i64),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(node) = selector::parse_node(text) {
            return Ok(Self::Node(node));
        }
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let millis = duration::parse(rest)
            .ok()
            .filter(|time| time.subsec_nanos() % 1_000_000 == 0);
        let millis = millis.and_then(|time| i64::try_from(time.as_millis()).ok());
        millis.map(|ms| Self::Millis(sign * ms)).ok_or_else(|| {
            format!("`{text}` is neither a node such as n6 nor a time such as 500ms or -2s")
        })
    }
}

impl Serialize for By {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Node(node) => serializer.collect_str(&format_args!("n{node}")),
            Self::Millis(ms) => serializer.collect_str(&format_args!("{ms}ms")),
        }
    }
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(
            deserializer,
            "a node such as n6, or a time such as 500ms or -2s",
        )
    }
}

/// An amount of memory in MiB; written `64MiB`.
#[derive(Clone, Copy)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .strip_suffix("MiB")
            .and_then(|t| t.trim_end().parse().ok());
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no amount of memory; expected one such as 64MiB"))
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}MiB", self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an amount of memory such as 64MiB")
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Span>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    lasting: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<FaultKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ShapeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Selector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Vec<NodeName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    links: Option<LinkSet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bandwidth: Option<Bandwidth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jitter: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    percent: Option<Percent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<Percent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<Size>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<CrashPoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<Stored>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    age: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ppm: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<NodeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    /// The mechanism to use, where there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    /// The name of the nodes that it hits.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    under: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Text>,
    #[serde(rename = "while", default, skip_serializing_if = "Option::is_none")]
    meanwhile: Option<Vec<Statement>>,
    // Blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<Vec<Statement>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parallel: Option<Vec<Statement>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repeat: Option<Rounds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    choose: Option<Vec<WireAlternative>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    when: Option<WireTrigger>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each: Option<Selector>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    body: Option<Vec<Statement>>,
    // What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<Selector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    injected_at: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    healed_at: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heal_proof: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

/// Through a visitor, not `#[serde(try_from)]`: an error raised while the mapping is read gets its
/// line, one raised afterwards that of the whole list.
struct MapVisitor<T>(PhantomData<T>);

impl<'de, T: TryFrom<WireEntry, Error = String>> Visitor<'de> for MapVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault such as {at: 3s, for: 5s, fault: kill, target: leader}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let wire = WireEntry::deserialize(MapAccessDeserializer::new(map))?;
        T::try_from(wire).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Statement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

/// One that is in no block: a fault says when.
struct Outermost(Statement);

impl<'de> Deserialize<'de> for Outermost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl TryFrom<WireEntry> for Outermost {
    type Error = String;

    fn try_from(wire: WireEntry) -> Result<Self, String> {
        let statement = Statement::try_from(wire)?;
        match &statement.what {
            What::Fault(planned) if !planned.placed => {
                Err("`at` is missing; expected when, such as 3s".to_owned())
            }
            _ => Ok(Self(statement)),
        }
    }
}

impl Serialize for Statement {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireEntry::from(self.clone()).serialize(serializer)
    }
}

impl Serialize for Program {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.statements)
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let statements = Vec::<Outermost>::deserialize(deserializer)?;
        Ok(Self {
            statements: statements.into_iter().map(|outer| outer.0).collect(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireProgram {
    #[serde(default)]
    #[expect(dead_code, reason = "read to be checked")]
    version: Version,
    faults: Program,
}

impl From<WireProgram> for Program {
    fn from(wire: WireProgram) -> Self {
        wire.faults
    }
}

impl TryFrom<WireEntry> for Entry {
    type Error = String;

    fn try_from(wire: WireEntry) -> Result<Self, String> {
        let program = Program {
            statements: vec![Outermost::try_from(wire)?.0],
        };
        let flat = program.flat().and_then(|mut entries| entries.pop());
        flat.ok_or_else(|| {
            "expected a fault with its time and length, not a block or a range".to_owned()
        })
    }
}

impl TryFrom<WireEntry> for Statement {
    type Error = String;

    fn try_from(mut wire: WireEntry) -> Result<Self, String> {
        let heads = [
            ("fault", wire.fault.is_some()),
            ("sequence", wire.sequence.is_some()),
            ("parallel", wire.parallel.is_some()),
            ("repeat", wire.repeat.is_some()),
            ("choose", wire.choose.is_some()),
            ("wait", wire.wait.is_some()),
            ("when", wire.when.is_some()),
            ("each", wire.each.is_some()),
            ("use", wire.package.is_some()),
        ];
        let mut present = heads.iter().filter(|(_, present)| *present);
        let head = match (present.next(), present.next()) {
            (Some((head, _)), None) => *head,
            (Some((one, _)), Some((other, _))) => {
                return Err(format!("`{one}` and `{other}` exclude each other"));
            }
            _ => {
                let names = heads.map(|(name, _)| name).join(", ");
                return Err(format!("nothing is to be done; expected one of {names}"));
            }
        };
        wire.refuse_strangers(head)?;
        let at = wire.at;
        let what = match head {
            "fault" => return wire.planned(),
            "sequence" => What::Sequence(block(wire.sequence, head)?),
            "parallel" => What::Parallel(block(wire.parallel, head)?),
            "repeat" => What::Repeat {
                rounds: wire.repeat.and_then(|rounds| rounds.0),
                every: wire.every,
                body: block(wire.body, "do")?,
            },
            "choose" => What::Choose(alternatives(wire.choose.unwrap_or_default())?),
            "wait" => What::Wait(wire.wait.unwrap_or(Span::exactly(Duration::ZERO))),
            "when" => What::When {
                trigger: trigger(wire.when)?,
                within: wire.within.map(|time| time.0),
                body: block(wire.body, "do")?,
            },
            "each" => What::Each {
                selector: wire.each.take().unwrap_or(Selector::All),
                name: wire.name.map_or_else(|| "node".to_owned(), |name| name.0),
                body: block(wire.body, "do")?,
            },
            _ => What::Use {
                name: wire.package.unwrap_or_default(),
                body: None,
            },
        };
        Ok(Self { at, what })
    }
}

/// A list with something in it.
fn block(statements: Option<Vec<Statement>>, field: &str) -> Result<Block, String> {
    match statements {
        Some(statements) if !statements.is_empty() => Ok(statements.into()),
        Some(_) => Err(format!("`{field}` is empty; expected something to do")),
        None => Err(format!(
            "`{field}` is missing; expected a list of what to do"
        )),
    }
}

fn alternatives(wires: Vec<WireAlternative>) -> Result<Vec<Alternative>, String> {
    if wires.is_empty() {
        return Err("`choose` is empty; expected e.g. [{weight: 3, do: […]}, {do: […]}]".into());
    }
    let alternatives = wires.into_iter().map(|wire| match wire.weight {
        0 => Err("`weight` is 0; expected a whole number from 1".to_owned()),
        weight => Ok(Alternative {
            weight,
            body: wire.body.into(),
        }),
    });
    alternatives.collect()
}

fn trigger(wire: Option<WireTrigger>) -> Result<Trigger, String> {
    let trigger = wire.map_or(Trigger::default(), |wire| Trigger {
        acknowledged: wire.acknowledged,
        leader_changes: wire.leader_changes,
        staleness: wire.staleness.map(|time| time.0),
        in_flight: wire.in_flight,
    });
    if trigger == Trigger::default() {
        return Err(
            "`when` is empty; expected acknowledged, leader_changes, staleness or in_flight"
                .to_owned(),
        );
    }
    Ok(trigger)
}

impl WireEntry {
    /// Refuses fields that say nothing of a block with this head. Which fields a fault has depends
    /// on its kind.
    fn refuse_strangers(&self, head: &str) -> Result<(), String> {
        let blocks = [
            ("every", self.every.is_some(), &["fault", "repeat"][..]),
            ("within", self.within.is_some(), &["fault", "when"]),
            ("as", self.name.is_some(), &["fault", "each"]),
            ("do", self.body.is_some(), &["repeat", "when", "each"]),
        ];
        let faults = [
            ("for", self.lasting.is_some()),
            ("shape", self.shape.is_some()),
            ("direction", self.direction.is_some()),
            ("target", self.target.is_some()),
            ("order", self.order.is_some()),
            ("links", self.links.is_some()),
            ("latency", self.latency.is_some()),
            ("bandwidth", self.bandwidth.is_some()),
            ("jitter", self.jitter.is_some()),
            ("percent", self.percent.is_some()),
            ("share", self.share.is_some()),
            ("limit", self.limit.is_some()),
            ("point", self.point.is_some()),
            ("file", self.file.is_some()),
            ("age", self.age.is_some()),
            ("ppm", self.ppm.is_some()),
            ("to", self.to.is_some()),
            ("by", self.by.is_some()),
            ("via", self.via.is_some()),
            ("under", self.under.is_some()),
            ("while", self.meanwhile.is_some()),
            ("was", self.was.is_some()),
            ("skipped", self.skipped.is_some()),
        ];
        let stranger = blocks
            .into_iter()
            .map(|(name, present, of)| (name, present && !of.contains(&head)))
            .chain(faults.map(|(name, present)| (name, present && head != "fault")))
            .find(|(_, stranger)| *stranger);
        match stranger {
            Some((name, _)) => Err(format!("`{name}` does not apply to {head}")),
            None => Ok(()),
        }
    }

    /// A fault with what is open of its time and length.
    fn planned(self) -> Result<Statement, String> {
        let kind = self.kind();
        let fault = self.fault()?;
        let name = kind.name();
        let ordered = matches!(fault, Fault::Partition(shape) if shape.ordered());
        if self.order.is_some() && !ordered {
            return Err("`order` applies only to halves, bridge and majorities-ring".to_owned());
        }
        if self.target.is_none() && !ordered {
            return Err(format!(
                "`target` is missing; {name} expects one, e.g. leader or n1"
            ));
        }
        let window = self.within.map(|time| time.0);
        let lasting = match (self.lasting, &self.meanwhile) {
            (Some(lasting), None) => lasting,
            (None, Some(_)) => Span::exactly(window.unwrap_or(program::WINDOW)),
            (Some(_), Some(_)) => return Err("`for` and `while` exclude each other".to_owned()),
            (None, None) => {
                return Err("`for` is missing; expected how long, such as 5s".to_owned());
            }
        };
        let at = self.at.unwrap_or(Span::exactly(Duration::ZERO));
        let realised = Realised {
            was: self.was,
            injected_at: self.injected_at.map(|t| t.0),
            seen: self.seen,
            proof: self.proof,
            healed_at: self.healed_at.map(|t| t.0),
            gone: self.gone,
            heal_proof: self.heal_proof,
            skipped: self.skipped,
        };
        let entry = Entry {
            at: at.least,
            lasting: lasting.least,
            fault,
            target: self.target,
            via: self.via,
            order: self.order.map(|nodes| nodes.iter().map(|n| n.0).collect()),
            name: self.name.map(|name| name.0),
            under: self.under.map(|name| name.0),
            realised: (realised != Realised::default()).then_some(realised),
        };
        let planned = Planned {
            entry,
            placed: self.at.is_some(),
            later: at.most.saturating_sub(at.least),
            longer: lasting.most.saturating_sub(lasting.least),
            body: match self.meanwhile {
                Some(body) => Some(block(Some(body), "while")?),
                None => None,
            },
            window,
        };
        Ok(Statement {
            at: None,
            what: What::Fault(Box::new(planned)),
        })
    }

    /// Of a fault.
    fn kind(&self) -> FaultKind {
        self.fault.unwrap_or(FaultKind::Kill)
    }

    /// The fault, or which field is missing or too many.
    fn fault(&self) -> Result<Fault, String> {
        use FaultKind as K;
        let kind = self.kind();
        let name = kind.name();
        let is = |kinds: &[FaultKind]| kinds.contains(&kind);
        for (field, present, allowed) in [
            ("shape", self.shape.is_some(), is(&[K::Partition])),
            ("direction", self.direction.is_some(), is(&[K::Partition])),
            (
                "links",
                self.links.is_some(),
                is(&[K::Slow, K::Loss, K::Reorder, K::Duplicate]),
            ),
            (
                "latency",
                self.latency.is_some(),
                is(&[K::Slow, K::SlowDisk]),
            ),
            ("jitter", self.jitter.is_some(), is(&[K::Slow])),
            (
                "bandwidth",
                self.bandwidth.is_some(),
                is(&[K::Slow, K::ThrottleDisk]),
            ),
            (
                "percent",
                self.percent.is_some(),
                is(&[K::Loss, K::Reorder, K::Duplicate]),
            ),
            ("share", self.share.is_some(), is(&[K::Cpu])),
            ("limit", self.limit.is_some(), is(&[K::Memory])),
            ("point", self.point.is_some(), is(&[K::Crash])),
            ("file", self.file.is_some(), is(&[K::BitFlip])),
            ("age", self.age.is_some(), is(&[K::Rollback])),
            ("every", self.every.is_some(), is(&[K::ClockStrobe])),
            ("ppm", self.ppm.is_some(), is(&[K::ClockDrift])),
            ("to", self.to.is_some(), is(&[K::MoveHome])),
            (
                "by",
                self.by.is_some(),
                is(&[K::ReplaceMember, K::ClockJump, K::ClockStrobe]),
            ),
        ] {
            if present && !allowed {
                return Err(format!("`{field}` does not apply to {name}"));
            }
        }
        Ok(match kind {
            FaultKind::Kill => Fault::Kill,
            FaultKind::PowerLoss => Fault::PowerLoss,
            FaultKind::Pause => Fault::Pause,
            FaultKind::Partition => Fault::Partition(self.shape()?),
            FaultKind::Slow => {
                if self.latency.is_none() && self.bandwidth.is_none() {
                    return Err("slow expects `latency`, `bandwidth` or both".to_owned());
                }
                Fault::Slow {
                    links: self.links.unwrap_or_default(),
                    latency: self.latency.map_or(Duration::ZERO, |t| t.0),
                    jitter: self.jitter.map_or(Duration::ZERO, |t| t.0),
                    bandwidth: self.bandwidth,
                }
            }
            FaultKind::Wipe => Fault::Wipe,
            FaultKind::Upgrade => Fault::Upgrade,
            FaultKind::MoveHome => Fault::MoveHome {
                to: self.to.map(|node| node.0),
            },
            FaultKind::AddMember => Fault::AddMember,
            FaultKind::RemoveMember => Fault::RemoveMember,
            FaultKind::ReplaceMember => match self.by {
                Some(By::Node(by)) => Fault::ReplaceMember { by },
                Some(By::Millis(_)) => {
                    return Err(
                        "`by` is a time; replace-member expects who joins, such as n6".into(),
                    );
                }
                None => {
                    return Err(
                        "`by` is missing; replace-member expects who joins, such as n6".into(),
                    );
                }
            },
            FaultKind::Crash => Fault::Crash {
                point: self.point.ok_or(
                    "`point` is missing; crash expects before-fsync, before-reply or before-apply",
                )?,
            },
            FaultKind::Cpu => Fault::Cpu {
                share: self
                    .share
                    .ok_or("`share` is missing; cpu expects a part of one processor such as 10%")?,
            },
            FaultKind::Memory => Fault::Memory {
                mib: self
                    .limit
                    .ok_or("`limit` is missing; memory expects an amount such as 64MiB")?
                    .0,
            },
            FaultKind::Loss => Fault::Loss(self.disturbance()?),
            FaultKind::Reorder => Fault::Reorder(self.disturbance()?),
            FaultKind::Duplicate => Fault::Duplicate(self.disturbance()?),
            FaultKind::TornWrite => Fault::TornWrite,
            FaultKind::BitFlip => Fault::BitFlip {
                file: self.file.unwrap_or_default(),
            },
            FaultKind::DiskFull => Fault::DiskFull,
            FaultKind::ReadOnly => Fault::ReadOnly,
            FaultKind::SlowDisk => Fault::SlowDisk {
                latency: self
                    .latency
                    .ok_or("`latency` is missing; slow-disk expects one such as 50ms")?
                    .0,
            },
            FaultKind::FsyncError => Fault::FsyncError,
            FaultKind::ThrottleDisk => Fault::ThrottleDisk {
                bandwidth: self
                    .bandwidth
                    .ok_or("`bandwidth` is missing; throttle-disk expects one such as 64KiB/s")?,
            },
            FaultKind::Rollback => Fault::Rollback {
                age: self
                    .age
                    .ok_or("`age` is missing; rollback expects how old the copy is, such as 2s")?
                    .0,
            },
            FaultKind::ClockJump => Fault::ClockJump {
                by_ms: self.by_ms()?,
            },
            FaultKind::ClockDrift => Fault::ClockDrift {
                ppm: self.ppm.ok_or(
                    "`ppm` is missing; clock-drift expects microseconds a second, such as 500",
                )?,
            },
            FaultKind::ClockStrobe => Fault::ClockStrobe {
                by_ms: self.by_ms()?,
                every: match self.every {
                    Some(every) if every.least == every.most => every.least,
                    Some(_) => return Err("`every` of clock-strobe is no range".to_owned()),
                    None => {
                        return Err(
                            "`every` is missing; clock-strobe expects one such as 10ms".to_owned()
                        );
                    }
                },
            },
            FaultKind::Snapshot => Fault::Snapshot,
            FaultKind::Downgrade => Fault::Downgrade,
            FaultKind::Drain => Fault::Drain,
            FaultKind::Scale => Fault::Scale,
            FaultKind::RollingRestart => Fault::RollingRestart,
            FaultKind::NoEndpoints => Fault::NoEndpoints,
            FaultKind::TransferLeadership => Fault::TransferLeadership,
        })
    }

    fn disturbance(&self) -> Result<Disturbance, String> {
        let name = self.kind().name();
        let missing = || format!("`percent` is missing; {name} expects one such as 30%");
        Ok(Disturbance {
            links: self.links.unwrap_or_default(),
            percent: self.percent.ok_or_else(missing)?,
        })
    }

    fn by_ms(&self) -> Result<i64, String> {
        match self.by {
            Some(By::Millis(ms)) => Ok(ms),
            _ => Err(format!(
                "`by` is missing; {} expects a time such as 500ms or -2s",
                self.kind().name()
            )),
        }
    }

    fn shape(&self) -> Result<Shape, String> {
        let Some(name) = self.shape else {
            return Err(
                "`shape` is missing; a partition expects isolate, halves, bridge, \
                 majorities-ring, one-way or clients"
                    .to_owned(),
            );
        };
        let shape = match name {
            ShapeName::Isolate => Shape::Isolate,
            ShapeName::Halves => Shape::Halves,
            ShapeName::Bridge => Shape::Bridge,
            ShapeName::MajoritiesRing => Shape::MajoritiesRing,
            ShapeName::Clients => Shape::Clients,
            ShapeName::OneWay => Shape::OneWay(
                self.direction
                    .ok_or("`direction` is missing; one-way expects out or in")?,
            ),
        };
        if self.direction.is_some() && !matches!(shape, Shape::OneWay(_)) {
            return Err(format!("`direction` does not apply to {}", shape.name()));
        }
        Ok(shape)
    }
}

impl From<Entry> for WireEntry {
    fn from(entry: Entry) -> Self {
        let realised = entry.realised.unwrap_or_default();
        let kind = entry.fault.kind();
        let mut wire = Self {
            at: Some(Span::exactly(entry.at)),
            lasting: Some(Span::exactly(entry.lasting)),
            fault: Some(kind),
            target: entry.target,
            order: entry
                .order
                .map(|nodes| nodes.into_iter().map(NodeName).collect()),
            via: entry.via,
            name: entry.name.map(Name),
            under: entry.under.map(Name),
            was: realised.was,
            injected_at: realised.injected_at.map(Text),
            seen: realised.seen,
            proof: realised.proof,
            healed_at: realised.healed_at.map(Text),
            gone: realised.gone,
            heal_proof: realised.heal_proof,
            skipped: realised.skipped,
            ..Self::default()
        };
        match entry.fault {
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
            Fault::Crash { point } => wire.point = Some(point),
            Fault::Cpu { share } => wire.share = Some(share),
            Fault::Memory { mib } => wire.limit = Some(Size(mib)),
            Fault::Loss(disturbance)
            | Fault::Reorder(disturbance)
            | Fault::Duplicate(disturbance) => {
                wire.links = Some(disturbance.links);
                wire.percent = Some(disturbance.percent);
            }
            Fault::BitFlip { file } => wire.file = Some(file),
            Fault::SlowDisk { latency } => wire.latency = Some(Text(latency)),
            Fault::ThrottleDisk { bandwidth } => wire.bandwidth = Some(bandwidth),
            Fault::Rollback { age } => wire.age = Some(Text(age)),
            Fault::ClockJump { by_ms } => wire.by = Some(By::Millis(by_ms)),
            Fault::ClockDrift { ppm } => wire.ppm = Some(ppm),
            Fault::ClockStrobe { by_ms, every } => {
                wire.by = Some(By::Millis(by_ms));
                wire.every = Some(Span::exactly(every));
            }
            Fault::MoveHome { to } => wire.to = to.map(NodeName),
            Fault::ReplaceMember { by } => wire.by = Some(By::Node(by)),
            Fault::Partition(shape) => {
                wire.shape = Some(match shape {
                    Shape::Isolate => ShapeName::Isolate,
                    Shape::Halves => ShapeName::Halves,
                    Shape::Bridge => ShapeName::Bridge,
                    Shape::MajoritiesRing => ShapeName::MajoritiesRing,
                    Shape::OneWay(direction) => {
                        wire.direction = Some(direction);
                        ShapeName::OneWay
                    }
                    Shape::Clients => ShapeName::Clients,
                });
            }
            Fault::Slow {
                links,
                latency,
                jitter,
                bandwidth,
            } => {
                wire.links = Some(links);
                wire.latency = Some(Text(latency));
                wire.jitter = (!jitter.is_zero()).then_some(Text(jitter));
                wire.bandwidth = bandwidth;
            }
        }
        wire
    }
}

impl From<Statement> for WireEntry {
    fn from(statement: Statement) -> Self {
        let mut wire = Self::default();
        match statement.what {
            What::Fault(planned) => {
                let (at, lasting) = (planned.entry.at, planned.entry.lasting);
                wire = planned.entry.into();
                wire.at = planned.placed.then(|| Span {
                    least: at,
                    most: at + planned.later,
                });
                wire.lasting = planned.body.is_none().then(|| Span {
                    least: lasting,
                    most: lasting + planned.longer,
                });
                wire.within = planned.window.map(Text);
                wire.meanwhile = planned.body.map(|body| body.to_vec());
                return wire;
            }
            What::Sequence(body) => wire.sequence = Some(body.to_vec()),
            What::Parallel(body) => wire.parallel = Some(body.to_vec()),
            What::Repeat {
                rounds,
                every,
                body,
            } => {
                wire.repeat = Some(Rounds(rounds));
                wire.every = every;
                wire.body = Some(body.to_vec());
            }
            What::Choose(alternatives) => {
                let wires = alternatives.into_iter().map(|one| WireAlternative {
                    weight: one.weight,
                    body: one.body.to_vec(),
                });
                wire.choose = Some(wires.collect());
            }
            What::Wait(time) => wire.wait = Some(time),
            What::When {
                trigger,
                within,
                body,
            } => {
                wire.when = Some(WireTrigger {
                    acknowledged: trigger.acknowledged,
                    leader_changes: trigger.leader_changes,
                    staleness: trigger.staleness.map(Text),
                    in_flight: trigger.in_flight,
                });
                wire.within = within.map(Text);
                wire.body = Some(body.to_vec());
            }
            What::Each {
                selector,
                name,
                body,
            } => {
                wire.each = Some(selector);
                wire.name = Some(Name(name));
                wire.body = Some(body.to_vec());
            }
            What::Use { name, .. } => wire.package = Some(name),
        }
        wire.at = statement.at;
        wire
    }
}
