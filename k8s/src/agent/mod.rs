//! Faults that need the node: what the API server cannot do, an agent on each node does.
//!
//! ```text
//! harness ──► Lease in the namespace of the pods ──► agent on each node that has one of them
//!         ◄── annotations of the same Lease      ◄──
//! ```
//!
//! An agent listens on no port. Who may make Leases in a namespace may hurt the pods in it that
//! opted in, and nobody else: Kubernetes' own rights decide. The agent itself may write Leases only
//! where a `RoleBinding` lets it, and does nothing where it may not write.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`protocol`] | what Leases say: order, sign of life, proof |
//! | [`guard`] | whom an agent may hurt |
//! | [`keep`] | the agent: follows Leases, starts a task for each fault |
//! | `task` | one fault from its order to the end of its Lease; heals what lapses |
//! | `fault`, `container`, `clock`, `links`, `impair` | how a fault is done, proven and undone |
//! | [`locate`] | from a container to its control groups |
//! | [`undo`] | what undoes a fault, written down before it is done |
//! | [`order`] | the harness's side: gives an order, keeps it alive, reads the proofs |
//! | [`install`] | the agent as objects of Kubernetes |
//! | [`status`] | which agents there are, and what was ordered of them |

mod clock;
mod container;
mod fault;
pub mod guard;
mod impair;
pub mod install;
pub mod keep;
mod links;
pub mod locate;
pub mod order;
pub mod protocol;
pub mod status;
mod task;
pub mod undo;
