//! What clients do: generators (pure, seeded), clients (async), and which checkers judge it.
//!
//! ```
//! use workloads::generator::{Rate, TimeLimit};
//! use workloads::{Context, Generator, Kind, Next, Parameters, Workload};
//!
//! let mut workload = Workload::new(Kind::Append, &Parameters::default(), 7)?;
//! let mut main = TimeLimit::new(Rate::new(&mut workload.main, 500.0), 1_000_000_000);
//! let (mut now, mut issued) = (0, 0);
//! loop {
//!     match main.next(&Context { now, free: &[0, 1, 2], threads: 3 }) {
//!         Next::Op { .. } => issued += 1,
//!         Next::Wait(until) => now = until,
//!         Next::Exhausted => break,
//!     }
//! }
//! assert_eq!(issued, 500);
//! // Twenty keys at a time, and fresh ones for those that have taken their share.
//! assert!(workload.final_reads().left() >= 20);
//! # Ok::<(), workloads::ParameterError>(())
//! ```
//!
//! * [`operation`]: what a generator asks for and what a client answers.
//! * [`generator`]: the trait, and combinators that put generators together.
//! * [`workload`]: register, counter, text, …: the main generator, the final reads, the inspection
//!   of replicas, the checkers.
//! * [`route`]: which node a client thread asks.
//! * [`client`]: sends an operation to a store and tells how it ended.
//! * [`seed`]: named sub-streams of a run's one seed.
//! * [`transaction`]: what operations of several keys carry.
//!
//! Only [`client`] does I/O; everything else is a function of its seed and its calls.

pub mod client;
pub mod generator;
pub mod operation;
pub mod route;
pub mod seed;
pub mod transaction;
pub mod workload;

pub use client::{Client, HttpClient, NullClient};
pub use generator::{Context, Generator, Next};
pub use operation::{Completion, Invocation, Quorum, Replaced, Witness};
pub use route::{Policy, Router};
pub use seed::substream;
pub use workload::{
    Data, Editing, FinalReads, Inspections, Kind, ParameterError, Parameters, Workload, catalogue,
};
