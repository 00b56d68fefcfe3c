//! Where an experiment runs, as the runner sees it: a clock, calls to nodes, faults, and one
//! queue of happenings. The runner is one loop over [`Substrate::next`]; in simulation that
//! advances virtual time, on real machines it waits.

use nemesis::{Node, Order, Proof, View};
use workloads::{Completion, Invocation};

/// Something the runner has to react to.
#[derive(Debug)]
pub enum Happening {
    /// An operation ended (a timeout is a completion with outcome `info`).
    Completed {
        /// The thread that issued it.
        thread: u32,
        /// How it ended.
        completion: Completion,
    },
    /// A fault was injected, or an attempt was made.
    Injected {
        /// The id given to [`Substrate::inject`].
        id: u32,
        /// What was observed.
        proof: Proof,
    },
    /// A fault that was proven is found to have ended by itself before its time.
    Faded {
        /// The id given to [`Substrate::inject`].
        id: u32,
        /// What was observed.
        why: String,
    },
    /// A fault was healed.
    Healed {
        /// The id given to [`Substrate::inject`].
        id: u32,
        /// What was observed.
        proof: Proof,
    },
    /// The answer to [`Substrate::poll_view`].
    View(View),
    /// The user wants to stop (Ctrl-C, `SIGTERM`).
    Interrupted,
    /// The target is beyond repair, e.g. a node ended that nobody killed; why.
    Broken(String),
    /// The deadline passed.
    Deadline,
}

/// A place where a cluster runs.
pub trait Substrate {
    /// Nanoseconds since the start of the run, monotonic.
    fn now(&self) -> u64;

    /// Sends an operation to a node on behalf of a client thread. At most one a thread is under way.
    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation);

    /// Carries out the action of an order, proves it and holds it until [`Substrate::heal`]; by the
    /// mechanism that the order names, if any. The proof names the mechanism used where there is
    /// more than one. Nothing is done to the cluster without an [`Order`], and only the nemesis
    /// makes one, within the budget of the run.
    fn inject(&mut self, id: u32, order: &Order);

    /// Looks whether the action of this id still has its effect ([`Happening::Faded`] if not), then
    /// undoes it and proves that it is gone.
    fn heal(&mut self, id: u32);

    /// Asks all nodes for their status; the answer comes as [`Happening::View`].
    fn poll_view(&mut self);

    /// Waits for the next happening, until `deadline` at the latest.
    fn next(&mut self, deadline: u64) -> Happening;
}
