//! Quorate: drives a replicated store, breaks it, and proves what it lost.
//!
//! The way of an experiment:
//!
//! * [`cli`] and [`experiment`]: flags and file become one checked experiment; [`defaults`]: what
//!   fits its replication mode.
//! * [`commands`]: what each subcommand does. [`plan`]: what an experiment means for the runner.
//! * [`runner`]: one event loop over [`substrate::Substrate`]; [`recorder`] writes the history.
//! * [`sim`], [`local`] and [`mod@k8s`]: the substrates; [`calls`]: operations under way on real clients.
//! * [`judge`]: checkers, and whether the run itself was worth anything, become a summary.
//! * [`report`], [`live`], [`serve`]: what people look at; [`store`]: where runs are kept.
//! * [`compare`]: every mode under every fault, many times; [`statistics`]: what that is worth.
//! * [`preflight`]: the check before an upgrade.
//! * [`doctor`]: which faults this machine can do, by which mechanism.
//! * [`plugin`]: the name `kubectl-quorate`.
//! * [`explore`]: schedules steered by the protocol states that they reach.
//! * [`track_record`]: what runs have shown in other makers' stores.
//! * [`versions`]: two versions of a store, for runs that go from one to the other.
//! * [`node`]: the same binary as one replica of the reference cluster.

pub mod admin;
pub mod calls;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod defaults;
pub mod doctor;
pub mod exit;
pub mod experiment;
pub mod explore;
pub mod external;
pub mod judge;
pub mod k8s;
pub mod live;
pub mod local;
pub mod locate;
pub mod mode;
pub mod museum;
pub mod node;
pub mod overlay;
pub mod plan;
pub mod plugin;
pub mod preflight;
pub mod recorder;
pub mod report;
pub mod runner;
pub mod serve;
pub mod shrink;
pub mod sim;
pub mod staleness;
pub mod statistics;
pub mod store;
pub mod stores;
pub mod substrate;
pub mod track_record;
pub mod truth_table;
pub mod versions;
