//! What each subcommand does.

pub mod agent;
pub mod check;
pub mod clean;
pub mod compare;
pub mod doctor;
pub mod explore;
pub mod in_cluster;
pub mod k8s;
pub mod keeper;
pub mod list;
pub mod museum;
pub mod operator;
pub mod preflight;
pub mod shrink;
pub mod sim;
pub mod test;
pub mod track_record;
pub mod truth;
