//! What people look at after a run.
//!
//! Everything here is a view of two things: the [`Summary`] (the content of `verdict.json`) and the
//! history. Nothing is judged here; a figure that no checker reported is left out, never shown as 0.
//!
//! * [`summary`]: the content of `verdict.json`, and its reading and writing.
//! * [`tally`]: operation counts and latency, counted while events stream by.
//! * [`figures`]: what the checkers measured, read by name.
//! * [`findings`]: what they found, one sentence each.
//! * [`screen`]: the one terminal screen at the end.
//! * [`formats`]: `-o table|json|yaml|junit|md`.
//! * [`html`]: the page `report.html`.
//! * `picture`: the operations that prove an anomaly, drawn over time.

pub mod figures;
pub mod findings;
pub mod formats;
pub mod html;
mod junit;
mod markdown;
mod picture;
pub mod screen;
pub mod summary;
pub mod tally;
pub(crate) mod text;

#[cfg(test)]
pub(crate) mod fixture;

pub use formats::Format;
pub use summary::{FaultRecord, Latency, Ops, Summary};
pub use tally::Tally;
