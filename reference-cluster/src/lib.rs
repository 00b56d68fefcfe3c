//! A replicated key-value store in every replication mode worth comparing.
//!
//! * [`core`]: sans-I/O replicas. A replica is a deterministic state machine: what happened goes
//!   in, what to do comes out. It has no thread, socket, clock, file or random source of its own.
//! * [`server`]: the shell that runs one replica as a process: HTTP for clients and peers, a
//!   checksummed log on disk.

pub mod core;
pub mod server;
