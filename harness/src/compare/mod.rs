//! Comparisons: every mode under every fault, many times, and what that says of each.
//!
//! The way of a comparison:
//!
//! * [`definition`]: modes × faults × repetitions, from flags and the section `compare` of an
//!   experiment file; which run each cell is.
//! * [`execute`]: runs the cells, on threads in simulation, one after the other on real machines.
//! * [`cell`]: the figures of one run, from its history and what the checkers found.
//! * [`campaign`]: the directory; every finished cell is in `cells.jsonl` at once, so that an
//!   interrupted comparison goes on where it stopped.
//! * [`measure`]: what is measured, and how runs become an estimate with its interval.
//! * [`scorecard`]: a row for each mode and fault. [`sentence`]: the row in plain words.
//! * [`table`], [`markdown`], [`page`] (with its [`plot`]s): what people look at, in [`words`]. [`progress`]: what they see meanwhile.

pub mod campaign;
pub mod cell;
pub mod definition;
pub mod execute;
pub mod markdown;
pub mod measure;
pub mod page;
pub mod plot;
pub mod progress;
pub mod scorecard;
pub mod sentence;
pub mod table;
pub mod words;

pub use definition::{Definition, Matrix};
