//! Phenomena and the consistency models that forbid them.
//!
//! A model forbids some phenomena itself, all that the models weaker than it forbid, and whatever
//! implies one of these. The phenomena are those of Adya (*Weak Consistency*, 1999; Adya, Liskov &
//! O'Neil, *Generalized Isolation Level Definitions*, 2000) and of Elle (Kingsbury & Alvaro, VLDB
//! 2020). What is related to what follows Bailis et al. (*Highly Available Transactions*, 2013),
//! Cerone, Bernardi & Gotsman (*A Framework for Transactional Consistency Models with Atomic
//! Visibility*, 2015), Cerone & Gotsman (*Analysing Snapshot Isolation*, 2016: snapshot isolation
//! forbids cycles without two adjacent anti-dependencies, parallel snapshot isolation those with
//! one at most) and Daudjee & Salem (2004, 2006) for the variants of sessions.
//!
//! All dependencies here are on keys, none on predicates, so that `G-single` and `G-nonadjacent`
//! are special cases of `G2-item`. Of cursor stability, monotonic views and prefix consistency
//! only some of what they forbid can be told from a history; they are not ruled out by the rest.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of a cycle, from the worst on: each is a special case of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Write cycle: overwriting only.
    G0,
    /// Circular information flow: overwriting and reading.
    G1c,
    /// One anti-dependency: read skew.
    GSingle,
    /// Several anti-dependencies, no two in a row: long fork.
    GNonadjacent,
    /// Several anti-dependencies, some in a row: write skew.
    G2Item,
}

/// What beyond the data takes part in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Nothing.
    Data,
    /// The order of the operations of a process.
    Process,
    /// That something completed before something else was invoked.
    Realtime,
}

pub(crate) const CLASSES: [Class; 5] = [G0, G1c, GSingle, GNonadjacent, G2Item];

pub(crate) const LEVELS: [Level; 3] = [Data, Process, Realtime];

/// Something that a history shows and some models forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phenomenon {
    /// A read of a value that nobody wrote.
    GarbageRead,
    /// A read showed an element twice.
    DuplicateElements,
    /// The versions of a key have no order.
    CyclicVersions,
    /// Two reads of a list, neither of which continues the other.
    IncompatibleOrder,
    /// A transaction contradicts itself.
    Internal,
    /// A transaction read what it wrote only later.
    FutureRead,
    /// A read of what a failed transaction wrote.
    G1a,
    /// A committed write rests on a failed one.
    DirtyUpdate,
    /// A read of what its transaction overwrote itself.
    G1b,
    /// Two transactions read the same version and both replaced it.
    LostUpdate,
    /// A cycle of dependencies.
    Cycle(Class, Level),
}

use Class::{G0, G1c, G2Item, GNonadjacent, GSingle};
use Level::{Data, Process, Realtime};
use Phenomenon::Cycle;

impl Phenomenon {
    /// All of them, the worst first.
    pub(crate) const ALL: [Self; 25] = [
        Self::GarbageRead,
        Self::DuplicateElements,
        Self::CyclicVersions,
        Self::IncompatibleOrder,
        Self::Internal,
        Self::FutureRead,
        Self::G1a,
        Self::DirtyUpdate,
        Self::G1b,
        Self::LostUpdate,
        Cycle(G0, Data),
        Cycle(G1c, Data),
        Cycle(GSingle, Data),
        Cycle(GNonadjacent, Data),
        Cycle(G2Item, Data),
        Cycle(G0, Process),
        Cycle(G1c, Process),
        Cycle(GSingle, Process),
        Cycle(GNonadjacent, Process),
        Cycle(G2Item, Process),
        Cycle(G0, Realtime),
        Cycle(G1c, Realtime),
        Cycle(GSingle, Realtime),
        Cycle(GNonadjacent, Realtime),
        Cycle(G2Item, Realtime),
    ];

    /// Its name in the literature, e.g. `G-single-realtime`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GarbageRead => "garbage-read",
            Self::DuplicateElements => "duplicate-elements",
            Self::CyclicVersions => "cyclic-versions",
            Self::IncompatibleOrder => "incompatible-order",
            Self::Internal => "internal",
            Self::FutureRead => "future-read",
            Self::G1a => "G1a",
            Self::DirtyUpdate => "dirty-update",
            Self::G1b => "G1b",
            Self::LostUpdate => "lost-update",
            Cycle(G0, Data) => "G0",
            Cycle(G1c, Data) => "G1c",
            Cycle(GSingle, Data) => "G-single",
            Cycle(GNonadjacent, Data) => "G-nonadjacent",
            Cycle(G2Item, Data) => "G2-item",
            Cycle(G0, Process) => "G0-process",
            Cycle(G1c, Process) => "G1c-process",
            Cycle(GSingle, Process) => "G-single-process",
            Cycle(GNonadjacent, Process) => "G-nonadjacent-process",
            Cycle(G2Item, Process) => "G2-item-process",
            Cycle(G0, Realtime) => "G0-realtime",
            Cycle(G1c, Realtime) => "G1c-realtime",
            Cycle(GSingle, Realtime) => "G-single-realtime",
            Cycle(GNonadjacent, Realtime) => "G-nonadjacent-realtime",
            Cycle(G2Item, Realtime) => "G2-item-realtime",
        }
    }

    /// Whether a history that shows this shows the other, too.
    pub(crate) fn implies(self, other: Self) -> bool {
        if self == other {
            return true;
        }
        match (self, other) {
            (Cycle(class, level), Cycle(other, beyond)) => class <= other && level <= beyond,
            // Two that replaced the same version each miss the other's write.
            (Self::LostUpdate, Cycle(G2Item, _)) |
            // Of two orders of a list one came from a state that was rolled back.
            (Self::IncompatibleOrder | Self::DirtyUpdate, Self::G1a) => true,
            // It depends on itself, by what it wrote and read.
            (Self::FutureRead, Cycle(class, _)) => class >= G1c,
            _ => false,
        }
    }
}

/// A promise about transactions that run at the same time.
///
/// Ordered as in [`ConsistencyModel::ALL`]: none is weaker than one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsistencyModel {
    /// Writes are not interleaved (PL-1).
    ReadUncommitted,
    /// Only what was committed, and committed last, is read (PL-2).
    ReadCommitted,
    /// Read uncommitted, and each process's own order.
    StrongSessionReadUncommitted,
    /// Read uncommitted, and real time.
    StrongReadUncommitted,
    /// Read committed, and each process's own order.
    StrongSessionReadCommitted,
    /// Read committed, and real time.
    StrongReadCommitted,
    /// Once a transaction has seen an effect of another, it sees all of them.
    MonotonicAtomicView,
    /// Monotonic view (PL-2L).
    MonotonicView,
    /// Monotonic snapshot reads (PL-MSR).
    MonotonicSnapshotRead,
    /// All effects of another transaction are seen, or none.
    ReadAtomic,
    /// No lost updates under a cursor (PL-CS).
    CursorStability,
    /// Read atomic, and no lost updates.
    UpdateAtomic,
    /// Causal consistency of transactions.
    Causal,
    /// Causal, and all see transactions appear in the same order.
    Prefix,
    /// Snapshots that need not be of one order.
    ParallelSnapshotIsolation,
    /// Reads of one consistent view (PL-2+).
    ConsistentView,
    /// Forward consistent view (PL-FCV).
    ForwardConsistentView,
    /// Update transactions are serializable (PL-3U).
    UpdateSerializable,
    /// What was read does not change until the end (PL-2.99).
    RepeatableRead,
    /// Reads of a snapshot, first committer wins (PL-SI).
    SnapshotIsolation,
    /// Snapshot isolation, and each process's own order.
    StrongSessionSnapshotIsolation,
    /// Snapshot isolation, and real time.
    StrongSnapshotIsolation,
    /// As if one after the other (PL-3).
    Serializable,
    /// Serializable in an order that keeps each process's own.
    StrongSessionSerializable,
    /// Serializable in an order that keeps real time: strict serializability (PL-SS).
    #[default]
    StrongSerializable,
}

use ConsistencyModel as M;

impl ConsistencyModel {
    /// All models; every one comes after those that are weaker than it.
    pub const ALL: [Self; 25] = [
        M::ReadUncommitted,
        M::ReadCommitted,
        M::StrongSessionReadUncommitted,
        M::StrongReadUncommitted,
        M::StrongSessionReadCommitted,
        M::StrongReadCommitted,
        M::MonotonicAtomicView,
        M::MonotonicView,
        M::MonotonicSnapshotRead,
        M::ReadAtomic,
        M::CursorStability,
        M::UpdateAtomic,
        M::Causal,
        M::Prefix,
        M::ParallelSnapshotIsolation,
        M::ConsistentView,
        M::ForwardConsistentView,
        M::UpdateSerializable,
        M::RepeatableRead,
        M::SnapshotIsolation,
        M::StrongSessionSnapshotIsolation,
        M::StrongSnapshotIsolation,
        M::Serializable,
        M::StrongSessionSerializable,
        M::StrongSerializable,
    ];

    /// The names that [`ConsistencyModel::from_name`] takes, each model's own first, then others
    /// in use.
    pub const NAMES: [&str; 45] = [
        "read-uncommitted",
        "read-committed",
        "strong-session-read-uncommitted",
        "strong-read-uncommitted",
        "strong-session-read-committed",
        "strong-read-committed",
        "monotonic-atomic-view",
        "monotonic-view",
        "monotonic-snapshot-read",
        "read-atomic",
        "cursor-stability",
        "update-atomic",
        "causal",
        "prefix",
        "parallel-snapshot-isolation",
        "consistent-view",
        "forward-consistent-view",
        "update-serializable",
        "repeatable-read",
        "snapshot-isolation",
        "strong-session-snapshot-isolation",
        "strong-snapshot-isolation",
        "serializable",
        "strong-session-serializable",
        "strong-serializable",
        "strict-serializable",
        "conflict-serializable",
        "causal-cerone",
        "ROLA",
        "PL-1",
        "PL-2",
        "strong-session-PL-1",
        "strong-PL-1",
        "strong-session-PL-2",
        "strong-PL-2",
        "PL-CS",
        "PL-2L",
        "PL-MSR",
        "PL-2+",
        "PL-FCV",
        "PL-3U",
        "PL-2.99",
        "PL-SI",
        "PL-3",
        "PL-SS",
    ];

    /// The model of that name: one of [`ConsistencyModel::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        let own = Self::ALL.into_iter().find(|model| model.name() == name);
        own.or(match name {
            "strict-serializable" | "PL-SS" => Some(M::StrongSerializable),
            "conflict-serializable" | "PL-3" => Some(M::Serializable),
            "causal-cerone" => Some(M::Causal),
            "ROLA" => Some(M::UpdateAtomic),
            "PL-1" => Some(M::ReadUncommitted),
            "PL-2" => Some(M::ReadCommitted),
            "strong-session-PL-1" => Some(M::StrongSessionReadUncommitted),
            "strong-PL-1" => Some(M::StrongReadUncommitted),
            "strong-session-PL-2" => Some(M::StrongSessionReadCommitted),
            "strong-PL-2" => Some(M::StrongReadCommitted),
            "PL-CS" => Some(M::CursorStability),
            "PL-2L" => Some(M::MonotonicView),
            "PL-MSR" => Some(M::MonotonicSnapshotRead),
            "PL-2+" => Some(M::ConsistentView),
            "PL-FCV" => Some(M::ForwardConsistentView),
            "PL-3U" => Some(M::UpdateSerializable),
            "PL-2.99" => Some(M::RepeatableRead),
            "PL-SI" => Some(M::SnapshotIsolation),
            _ => None,
        })
    }

    /// Its name, e.g. `snapshot-isolation`.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Models that hold wherever this one does. Those that follow from these are not repeated.
    fn weaker(self) -> &'static [Self] {
        match self {
            M::ReadUncommitted => &[],
            M::ReadCommitted | M::StrongSessionReadUncommitted => &[M::ReadUncommitted],
            M::StrongReadUncommitted => &[M::StrongSessionReadUncommitted],
            M::StrongSessionReadCommitted => &[M::ReadCommitted, M::StrongSessionReadUncommitted],
            M::StrongReadCommitted => &[M::StrongSessionReadCommitted, M::StrongReadUncommitted],
            M::MonotonicAtomicView
            | M::MonotonicView
            | M::MonotonicSnapshotRead
            | M::CursorStability => &[M::ReadCommitted],
            M::ReadAtomic => &[M::MonotonicAtomicView],
            M::UpdateAtomic | M::Causal => &[M::ReadAtomic],
            M::Prefix => &[M::Causal],
            M::ParallelSnapshotIsolation => &[M::Causal, M::UpdateAtomic],
            M::ConsistentView => &[M::CursorStability, M::MonotonicView],
            M::ForwardConsistentView => &[M::ConsistentView],
            M::UpdateSerializable => &[M::ForwardConsistentView],
            M::RepeatableRead => &[M::CursorStability, M::MonotonicAtomicView],
            M::SnapshotIsolation => &[
                M::ForwardConsistentView,
                M::MonotonicSnapshotRead,
                M::ParallelSnapshotIsolation,
                M::Prefix,
            ],
            M::StrongSessionSnapshotIsolation => {
                &[M::SnapshotIsolation, M::StrongSessionReadCommitted]
            }
            M::StrongSnapshotIsolation => {
                &[M::StrongSessionSnapshotIsolation, M::StrongReadCommitted]
            }
            M::Serializable => &[
                M::RepeatableRead,
                M::SnapshotIsolation,
                M::UpdateSerializable,
            ],
            M::StrongSessionSerializable => &[M::Serializable, M::StrongSessionSnapshotIsolation],
            M::StrongSerializable => &[M::StrongSessionSerializable, M::StrongSnapshotIsolation],
        }
    }

    /// What it forbids beyond what the weaker models do.
    fn forbids_itself(self) -> &'static [Phenomenon] {
        match self {
            M::ReadUncommitted => &[
                Phenomenon::GarbageRead,
                Phenomenon::DuplicateElements,
                Phenomenon::CyclicVersions,
                Cycle(G0, Data),
            ],
            M::ReadCommitted => &[Phenomenon::G1a, Phenomenon::G1b, Cycle(G1c, Data)],
            M::StrongSessionReadUncommitted => &[Cycle(G0, Process)],
            M::StrongReadUncommitted => &[Cycle(G0, Realtime)],
            M::StrongSessionReadCommitted => &[Cycle(G1c, Process)],
            M::StrongReadCommitted => &[Cycle(G1c, Realtime)],
            M::ReadAtomic => &[Phenomenon::Internal],
            M::CursorStability | M::UpdateAtomic => &[Phenomenon::LostUpdate],
            M::ParallelSnapshotIsolation | M::ConsistentView => &[Cycle(GSingle, Data)],
            M::RepeatableRead | M::Serializable => &[Cycle(G2Item, Data)],
            M::SnapshotIsolation => &[Cycle(GNonadjacent, Data)],
            M::StrongSessionSnapshotIsolation => &[Cycle(GNonadjacent, Process)],
            M::StrongSnapshotIsolation => &[Cycle(GNonadjacent, Realtime)],
            M::StrongSessionSerializable => &[Cycle(G2Item, Process)],
            M::StrongSerializable => &[Cycle(G2Item, Realtime)],
            M::MonotonicAtomicView
            | M::MonotonicView
            | M::MonotonicSnapshotRead
            | M::Causal
            | M::Prefix
            | M::ForwardConsistentView
            | M::UpdateSerializable => &[],
        }
    }

    /// Whether it holds wherever `self` does.
    pub fn implies(self, weaker: Self) -> bool {
        self == weaker || self.weaker().iter().any(|model| model.implies(weaker))
    }

    /// Whether a history that shows this phenomenon breaks the model.
    pub(crate) fn forbids(self, phenomenon: Phenomenon) -> bool {
        let itself = self.forbids_itself();
        itself
            .iter()
            .any(|&forbidden| phenomenon.implies(forbidden))
            || self.weaker().iter().any(|model| model.forbids(phenomenon))
    }
}

/// By name, as [`ConsistencyModel::from_name`] takes it.
impl FromStr for ConsistencyModel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::from_name(name)
            .ok_or_else(|| format!("expected one of {}, not {name:?}", Self::NAMES.join(", ")))
    }
}

impl Serialize for ConsistencyModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ConsistencyModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for ConsistencyModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which models a history rules out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The weakest of them.
    pub(crate) not: Vec<ConsistencyModel>,
    /// All stronger ones.
    pub(crate) also_not: Vec<ConsistencyModel>,
    /// The strongest of the others.
    pub(crate) possible: Vec<ConsistencyModel>,
}

/// The models ruled out by these phenomena.
pub(crate) fn boundary(phenomena: &[Phenomenon]) -> Boundary {
    let broken = |model: &M| phenomena.iter().any(|&p| model.forbids(p));
    let (out, possible): (Vec<M>, Vec<M>) = M::ALL.into_iter().partition(broken);
    let implied = |model: M| {
        out.iter()
            .any(|&other| other != model && model.implies(other))
    };
    let (also_not, not) = out.iter().partition(|&&model| implied(model));
    let covered = |model: M| possible.iter().any(|&p| p != model && p.implies(model));
    let strongest = possible.iter().copied().filter(|&model| !covered(model));
    Boundary {
        not,
        also_not,
        possible: strongest.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_model() {
        for (model, name) in M::ALL.into_iter().zip(M::NAMES) {
            assert_eq!(model.name(), name);
        }
        for name in M::NAMES {
            assert!(M::from_name(name).is_some(), "{name}");
        }
        assert_eq!(M::from_name("strict-serializable"), Some(M::default()));
        assert_eq!(M::from_name("linearizable"), None);
        let json = serde_json::to_string(&M::SnapshotIsolation).unwrap();
        assert_eq!(json, r#""snapshot-isolation""#);
        assert_eq!(
            serde_json::from_str::<M>(&json).unwrap(),
            M::SnapshotIsolation
        );
        assert!(
            "linearizable"
                .parse::<M>()
                .unwrap_err()
                .contains("strict-serializable")
        );
    }

    #[test]
    fn the_order_of_models_is_one() {
        for model in M::ALL {
            for weaker in model.weaker() {
                assert!(weaker < &model, "{weaker} before {model}");
                assert!(!weaker.implies(model));
            }
            assert!(M::StrongSerializable.implies(model));
            assert!(model.implies(M::ReadUncommitted));
        }
    }

    #[test]
    fn a_stronger_model_forbids_more() {
        for phenomenon in Phenomenon::ALL {
            assert!(M::StrongSerializable.forbids(phenomenon), "{phenomenon:?}");
            for model in M::ALL {
                for weaker in M::ALL {
                    if model.implies(weaker) && weaker.forbids(phenomenon) {
                        assert!(model.forbids(phenomenon));
                    }
                }
            }
        }
    }

    /// The textbook: which of the usual levels forbids which phenomenon.
    #[test]
    fn levels_and_phenomena_of_the_literature() {
        let levels = [
            M::ReadUncommitted,
            M::ReadCommitted,
            M::ParallelSnapshotIsolation,
            M::SnapshotIsolation,
            M::RepeatableRead,
            M::Serializable,
            M::StrongSessionSerializable,
            M::StrongSerializable,
        ];
        let table = [
            (Cycle(G0, Data), "11111111"),
            (Phenomenon::G1a, "01111111"),
            (Phenomenon::G1b, "01111111"),
            (Cycle(G1c, Data), "01111111"),
            (Phenomenon::Internal, "00110111"),
            (Cycle(GSingle, Data), "00111111"),
            (Phenomenon::LostUpdate, "00111111"),
            (Cycle(GNonadjacent, Data), "00011111"),
            (Cycle(G2Item, Data), "00001111"),
            (Cycle(G0, Process), "00000011"),
            (Cycle(GSingle, Process), "00000011"),
            (Cycle(G2Item, Realtime), "00000001"),
            (Cycle(G0, Realtime), "00000001"),
        ];
        for (phenomenon, expected) in table {
            let found: String = levels
                .iter()
                .map(|m| if m.forbids(phenomenon) { '1' } else { '0' })
                .collect();
            assert_eq!(found, expected, "{}", phenomenon.name());
        }
    }

    #[test]
    fn boundaries() {
        let names = |models: &[M]| models.iter().map(|m| m.name()).collect::<Vec<_>>();
        let b = boundary(&[Cycle(G2Item, Data)]);
        assert_eq!(names(&b.not), ["repeatable-read"]);
        assert_eq!(
            names(&b.also_not),
            [
                "serializable",
                "strong-session-serializable",
                "strong-serializable"
            ]
        );
        assert_eq!(
            names(&b.possible),
            ["update-serializable", "strong-snapshot-isolation"]
        );
        let b = boundary(&[Cycle(GSingle, Realtime)]);
        assert_eq!(names(&b.not), ["strong-snapshot-isolation"]);
        assert_eq!(names(&b.also_not), ["strong-serializable"]);
        let b = boundary(&[]);
        assert!(b.not.is_empty() && b.also_not.is_empty());
        assert_eq!(names(&b.possible), ["strong-serializable"]);
    }
}
