//! The substrate with nodes that are this test binary, run again: stand-ins that are tiny HTTP
//! servers, and the reference cluster's.

mod data;
mod leases;
mod links;
mod netns;
mod processes;
mod reference;
mod stand_in;
mod substrate;
