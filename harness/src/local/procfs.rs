//! What `/proc` says of a process.

pub use nemesis::mechanism::process::Identity;
pub(super) use nemesis::mechanism::process::{Stat, executable};
