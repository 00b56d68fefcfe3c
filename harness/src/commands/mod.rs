//! What each subcommand does.

pub mod check;
pub mod clean;
pub mod compare;
pub mod doctor;
pub mod explore;
pub mod k8s;
pub mod keeper;
pub mod list;
pub mod museum;
pub mod preflight;
pub mod shrink;
pub mod sim;
pub mod test;
pub mod truth;
