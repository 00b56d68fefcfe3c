//! The reference store on Kubernetes, from 1.20 to the newest version that `k8s-openapi` knows.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cluster`] | finds the cluster, what its version knows, what this account may do there, and whether a namespace allows faults |
//! | [`store`] | the store as objects: a pure function from a description to manifests |
//! | [`kustomize`] | the same objects as files for `kubectl apply -k` |
//! | [`deploy`] | applies them, waits until all are ready or says why not, removes them |
//! | [`discover`] | which pod is which node, how it is, and where it runs |
//! | [`forward`] | a port on loopback for a pod, through the API server |
//! | [`roles`] | keeps the role of each node as a label, which the leader's Service selects |
//! | [`pod`] | ends pods, and sees them end |
//! | [`agent`] | faults that need the node: an agent on each, driven by Lease objects |
//! | [`rollout`] | lets pods run another version, from the highest ordinal down |
//! | [`preload`] | whether the clocks of a StatefulSet's nodes can be made wrong |
//! | [`copy`] | throw-away copies of a StatefulSet, in namespaces of their own |
//! | [`hosts`] | Kubernetes nodes: cordons them, and never those of the control plane |
//! | [`scale`] | makes a StatefulSet smaller, and as large again |
//! | [`endpoints`] | lets Services lead nowhere |
//! | [`beat`] | says that a run is alive |
//! | [`clean`] | finds what runs have left, and undoes it |
//! | [`rights`] | what an account may have to do, as lists and as roles |
//! | [`job`] | a run in a Job: the harness inside the cluster, and what it may do there |
//! | [`results`] | what such a run hands over |
//! | [`volume`] | the same in the volume of a claim, and how it is read there |
//! | [`crd`] | the resources `ConsistencyTest` and `Scorecard` |
//! | [`phase`] | what comes next for such a resource: a pure function |
//! | [`schedule`] | when a schedule is due |
//! | [`leader`] | one operator of several, by a Lease |
//! | [`operator`] | the operator's own manifests |
//! | [`names`] | labels, annotations, ports |
//!
//! **Versions.** The types are those of the newest Kubernetes. Reading is safe: an older server
//! leaves fields out. Writing is not: server-side apply refuses a field that the server does not
//! know. So nothing newer than 1.20 is written, and where the version of an API differs
//! ([`cluster::Features`]) the server is asked.
//!
//! **Guard.** [`cluster::Cluster::allowed`] is asked before anything is started or broken: only
//! namespaces with the label [`names::FAULTS`]`=allowed` are touched.

pub mod agent;
pub mod beat;
pub mod clean;
pub mod cluster;
pub mod copy;
pub mod crd;
pub mod deploy;
pub mod discover;
pub mod endpoints;
mod error;
pub mod forward;
pub mod hosts;
pub mod job;
pub mod kustomize;
pub mod leader;
pub mod names;
pub mod operator;
pub mod phase;
pub mod pod;
pub mod preload;
pub mod results;
pub mod rights;
pub mod roles;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod store;
pub mod volume;

pub use cluster::Cluster;
pub use discover::Member;
pub use error::Error;
pub use store::{Storage, Store};
