//! The form in which schedules are written: one flat mapping a fault.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::fault::{Bandwidth, Direction, Fault, FaultKind, LinkSet, Shape};
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

/// Reads a field that is written as text. Like [`EntryVisitor`], so that an error gets its field.
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

impl From<NodeName> for String {
    fn from(node: NodeName) -> Self {
        format!("n{}", node.0)
    }
}

/// A duration that is written as text.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Text(#[serde(with = "duration")] Duration);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireEntry {
    at: Text,
    #[serde(rename = "for")]
    lasting: Text,
    fault: FaultKind,
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
    to: Option<NodeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<NodeName>,
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
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault such as {at: 3s, for: 5s, fault: kill, target: leader}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let wire = WireEntry::deserialize(MapAccessDeserializer::new(map))?;
        Entry::try_from(wire).map_err(de::Error::custom)
    }
}

impl TryFrom<WireEntry> for Entry {
    type Error = String;

    fn try_from(wire: WireEntry) -> Result<Self, String> {
        let fault = wire.fault()?;
        let ordered = matches!(fault, Fault::Partition(shape) if shape.ordered());
        if wire.order.is_some() && !ordered {
            return Err("`order` applies only to halves, bridge and majorities-ring".to_owned());
        }
        if wire.target.is_none() && !ordered {
            let name = wire.fault.name();
            return Err(format!(
                "`target` is missing; {name} expects one, e.g. leader or n1"
            ));
        }
        let realised = Realised {
            was: wire.was,
            injected_at: wire.injected_at.map(|t| t.0),
            seen: wire.seen,
            proof: wire.proof,
            healed_at: wire.healed_at.map(|t| t.0),
            gone: wire.gone,
            heal_proof: wire.heal_proof,
            skipped: wire.skipped,
        };
        Ok(Self {
            at: wire.at.0,
            lasting: wire.lasting.0,
            fault,
            target: wire.target,
            order: wire.order.map(|nodes| nodes.iter().map(|n| n.0).collect()),
            realised: (realised != Realised::default()).then_some(realised),
        })
    }
}

impl WireEntry {
    /// The fault, or which field is missing or too many.
    fn fault(&self) -> Result<Fault, String> {
        let name = self.fault.name();
        let partition = self.fault == FaultKind::Partition;
        let slow = self.fault == FaultKind::Slow;
        for (field, present, allowed) in [
            ("shape", self.shape.is_some(), partition),
            ("direction", self.direction.is_some(), partition),
            ("links", self.links.is_some(), slow),
            ("latency", self.latency.is_some(), slow),
            ("bandwidth", self.bandwidth.is_some(), slow),
            ("to", self.to.is_some(), self.fault == FaultKind::MoveHome),
            (
                "by",
                self.by.is_some(),
                self.fault == FaultKind::ReplaceMember,
            ),
        ] {
            if present && !allowed {
                return Err(format!("`{field}` does not apply to {name}"));
            }
        }
        Ok(match self.fault {
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
            FaultKind::ReplaceMember => Fault::ReplaceMember {
                by: self
                    .by
                    .ok_or("`by` is missing; replace-member expects who joins, such as n6")?
                    .0,
            },
            FaultKind::TransferLeadership => Fault::TransferLeadership,
        })
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
            at: Text(entry.at),
            lasting: Text(entry.lasting),
            fault: kind,
            shape: None,
            direction: None,
            target: entry.target,
            order: entry
                .order
                .map(|nodes| nodes.into_iter().map(NodeName).collect()),
            links: None,
            latency: None,
            bandwidth: None,
            to: None,
            by: None,
            was: realised.was,
            injected_at: realised.injected_at.map(Text),
            seen: realised.seen,
            proof: realised.proof,
            healed_at: realised.healed_at.map(Text),
            gone: realised.gone,
            heal_proof: realised.heal_proof,
            skipped: realised.skipped,
        };
        match entry.fault {
            Fault::Kill
            | Fault::PowerLoss
            | Fault::Pause
            | Fault::Wipe
            | Fault::Upgrade
            | Fault::AddMember
            | Fault::RemoveMember
            | Fault::TransferLeadership => {}
            Fault::MoveHome { to } => wire.to = to.map(NodeName),
            Fault::ReplaceMember { by } => wire.by = Some(NodeName(by)),
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
                bandwidth,
            } => {
                wire.links = Some(links);
                wire.latency = Some(Text(latency));
                wire.bandwidth = bandwidth;
            }
        }
        wire
    }
}
