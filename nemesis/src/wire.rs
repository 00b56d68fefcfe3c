//! The form in which schedules are written: one flat mapping a fault.

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
    every: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ppm: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<NodeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    /// The mechanism to use, where there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<String>,
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
            via: wire.via,
            order: wire.order.map(|nodes| nodes.iter().map(|n| n.0).collect()),
            realised: (realised != Realised::default()).then_some(realised),
        })
    }
}

impl WireEntry {
    /// The fault, or which field is missing or too many.
    fn fault(&self) -> Result<Fault, String> {
        use FaultKind as K;
        let name = self.fault.name();
        let is = |kinds: &[FaultKind]| kinds.contains(&self.fault);
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
            ("bandwidth", self.bandwidth.is_some(), is(&[K::Slow])),
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
                every: self
                    .every
                    .ok_or("`every` is missing; clock-strobe expects one such as 10ms")?
                    .0,
            },
            FaultKind::Snapshot => Fault::Snapshot,
            FaultKind::Downgrade => Fault::Downgrade,
            FaultKind::TransferLeadership => Fault::TransferLeadership,
        })
    }

    fn disturbance(&self) -> Result<Disturbance, String> {
        let name = self.fault.name();
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
                self.fault.name()
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
            jitter: None,
            percent: None,
            share: None,
            limit: None,
            point: None,
            file: None,
            age: None,
            every: None,
            ppm: None,
            to: None,
            by: None,
            via: entry.via,
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
            | Fault::TransferLeadership
            | Fault::TornWrite
            | Fault::DiskFull
            | Fault::ReadOnly
            | Fault::FsyncError
            | Fault::Snapshot
            | Fault::Downgrade => {}
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
            Fault::Rollback { age } => wire.age = Some(Text(age)),
            Fault::ClockJump { by_ms } => wire.by = Some(By::Millis(by_ms)),
            Fault::ClockDrift { ppm } => wire.ppm = Some(ppm),
            Fault::ClockStrobe { by_ms, every } => {
                wire.by = Some(By::Millis(by_ms));
                wire.every = Some(Text(every));
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
