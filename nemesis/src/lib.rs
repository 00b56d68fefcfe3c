//! Faults: what can be done to a cluster, when, and to whom.
//!
//! Everything here is pure: a [`Program`] (written by hand or drawn from a seed by a [`package`])
//! is turned by the [`Nemesis`] into primitive [`Action`]s at given times, with roles resolved from a
//! [`View`] of the cluster at that moment. A substrate carries out [`Order`]s for them, proves
//! that they took effect and heals them; it implements the contract described at [`Action`]. What
//! was really done is collected as a realised schedule, which replays.
//!
//! ```
//! use nemesis::{Capabilities, Nemesis, Proof, Schedule, Step, View};
//!
//! let schedule = Schedule::parse("- {at: 1s, for: 2s, fault: kill, target: n3}")?;
//! schedule.validate(5, &Capabilities::all())?;
//! let mut nemesis = Nemesis::from_schedule(&schedule, 5, 7);
//! let mut now = 0;
//! loop {
//!     match nemesis.next(now, &View::default()) {
//!         // A substrate would act, and observe what came of it.
//!         Step::Inject { id, .. } => nemesis.injected(id, now, &Proof::Seen("gone".into())),
//!         Step::Heal { id } => nemesis.healed(id, now, &Proof::Seen("back".into())),
//!         Step::Wait(until) => now = until,
//!         Step::Done => break,
//!     }
//! }
//! assert_eq!(now, 3_000_000_000);
//! assert!(nemesis.realised().to_yaml().contains("proof: gone"));
//! # Ok::<(), nemesis::ScheduleError>(())
//! ```
//!
//! * [`action`]: the contract with substrates: actions, links, proofs, views.
//! * [`duration`]: durations as people write them.
//! * [`selector`]: targets by role.
//! * [`fault`]: the kinds of faults and their parameters.
//! * [`shape`]: which links a partition cuts.
//! * [`schedule`]: faults in time, as YAML, and what makes a schedule impossible.
//! * [`program`]: the language around it: blocks, triggers, choices, names.
//! * [`budget`]: how much of a cluster a run may hurt.
//! * [`package`]: random faults and composites by name, written in that language.
//! * [`engine`]: the [`Nemesis`], a state machine that walks a program.
//! * `mechanism` (feature `mechanisms`): how faults are done on Linux, the one part that is not pure.
//! * [`shrink`]: the smallest part of a schedule that still does what the whole does.

pub mod action;
pub mod budget;
pub mod duration;
pub mod engine;
pub mod fault;
#[cfg(feature = "mechanisms")]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "the one part that is not pure"
)]
pub mod mechanism;
pub mod package;
pub mod program;
pub mod schedule;
pub mod selector;
pub mod shape;
pub mod shrink;
mod wire;

pub use action::{
    Action, ClientView, ClockFault, Command, DiskFault, Endpoint, Impairment, Link, Node, NodeView,
    Orchestration, Proof, View,
};
pub use budget::Budget;
pub use engine::{Active, FaultDescription, Nemesis, Order, Phase, Step};
pub use fault::{
    Bandwidth, Capabilities, CrashPoint, Direction, Disturbance, Fault, FaultKind, LinkSet,
    Percent, Shape, Stored,
};
pub use package::{Pace, Package};
pub use program::Program;
pub use schedule::{Entry, Realised, Schedule, ScheduleError};
pub use selector::Selector;
