//! The `k8s` substrate: nodes are pods of a StatefulSet, reached through the API server.
//!
//! ```text
//! harness ──► a port on loopback a node ──► API server ──► kubelet ──► pod's loopback
//! ```
//!
//! A run makes a store of its own in the namespace, so that it begins with an empty one, and
//! removes it at the end. What faults do is asked of the API server; who may do it is decided by
//! its access rules.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`options`] | what an experiment says, and which faults that leaves |
//! | `substrate` | [`K8sSubstrate`] |
//! | `greeting` | what finds out whether a process of a store is there |
//! | `fault` | faults by the API: does them, proves them, heals them |
//! | `custody` | undoes on the cluster what the harness does not live to undo |
//! | `dry_run` | what a test would do, without doing it |
//! | `logs` | keeps what the nodes write |
//! | `in_cluster` | the run in a Job, from outside |
//! | [`operator`] | serves `ConsistencyTest`s and `Scorecard`s |
//! | `pack` | a run directory as one piece of bytes |
//! | `digest` | a run in a few figures |

#[cfg(feature = "k8s")]
mod custody;
#[cfg(feature = "k8s")]
pub(crate) mod digest;
#[cfg(feature = "k8s")]
pub(crate) mod dry_run;
#[cfg(feature = "k8s")]
mod fault;
#[cfg(feature = "k8s")]
mod greeting;
#[cfg(feature = "k8s")]
pub(crate) mod in_cluster;
#[cfg(feature = "k8s")]
mod logs;
#[cfg(feature = "k8s")]
pub mod operator;
pub mod options;
#[cfg(feature = "k8s")]
pub(crate) mod pack;
#[cfg(feature = "k8s")]
mod substrate;

pub use options::Kubernetes;
#[cfg(feature = "k8s")]
pub use substrate::{K8sOptions, K8sSubstrate};
#[cfg(feature = "k8s")]
pub(crate) use substrate::{described, new_run, roles_of, undo};
