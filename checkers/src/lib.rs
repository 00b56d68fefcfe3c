//! Decides from a recorded history alone what a replicated store did wrong.
//!
//! Bytes in, verdict out: no clock, no thread of its own, no I/O beyond reading and writing
//! histories. The pieces, in the order data goes through them:
//!
//! * [`value`]: the values that operations carry.
//! * [`history`]: events, the history they make up, and the operations paired from them.
//! * [`format`](mod@format): reading and writing recorded histories.
//! * `observe`: what each key was asked and shown.
//! * `registers`: registers one by one, fields of maps and siblings included.
//! * [`linearizable`]: whether each key behaves as if there was one copy of it.
//! * [`k_atomicity`]: how far each register is from atomic, in versions and in time.
//! * [`lost_writes`]: acknowledged writes that are readable nowhere.
//! * [`set_full`]: every element through all reads: lost, stale, duplicated, phantom.
//! * [`stale_reads`]: reads that miss acknowledged writes, by versions and time.
//! * [`split_brain`]: nodes that acknowledged writes in overlapping time.
//! * [`sessions`]: reads and writes that contradict what their own client had done and seen.
//! * [`siblings`]: concurrent writes of registers that vanished though nobody replaced them.
//! * [`counter`]: counters that lost increments or counted them twice.
//! * [`mutual_exclusion`]: locks that two owners held at the same time.
//! * [`convergence`]: whether all replicas hold the same in the end.
//! * [`transactions`]: the isolation that transactions of several reads and writes got.
//! * `transactions`: transactions of micro-operations, and how they depend on each other.
//! * [`isolation`]: read committed and read atomic, of transactions.
//! * [`causal`]: causal consistency in its three forms.
//! * [`sequential`]: sequential consistency.
//! * [`bank`]: transfers between accounts that created or destroyed money.
//! * [`queue`]: elements of queues lost, duplicated, reordered, or from nowhere.
//! * [`kafka`]: messages of logs with offsets lost, duplicated, skipped, out of order.
//! * [`unique_ids`]: identifiers handed out more than once.
//! * [`availability`]: how long nothing succeeded, and recovery from each fault.
//! * [`verdict`]: the three-valued verdict, anomalies, and what a checker returns.
//! * [`check_all`](mod@check_all): several checkers over one history, and their merged verdict.
//! * [`minimal`]: the smallest history that fails again for the same reason.

pub mod availability;
pub mod bank;
pub mod causal;
pub mod check_all;
pub mod convergence;
pub mod counter;
pub mod format;
mod found;
pub mod history;
pub mod isolation;
pub mod k_atomicity;
pub mod kafka;
pub mod linearizable;
pub mod lost_writes;
pub mod minimal;
pub mod mutual_exclusion;
mod observe;
pub mod queue;
mod registers;
pub mod sequential;
pub mod sessions;
pub mod set_full;
pub mod siblings;
pub mod split_brain;
pub mod stale_reads;
#[cfg(test)]
mod testing;
pub mod transactions;
pub mod unique_ids;
pub mod value;
pub mod verdict;

pub use availability::Availability;
pub use bank::Bank;
pub use causal::Causal;
pub use check_all::{Report, by_name, check_all};
pub use convergence::Convergence;
pub use counter::Counter;
pub use format::Format;
pub use history::{
    Details, Event, F, History, HistoryError, Kind, Operation, Outcome, Paired, Process,
};
pub use isolation::{ReadAtomic, ReadCommitted};
pub use k_atomicity::KAtomicity;
pub use kafka::Kafka;
pub use linearizable::Linearizable;
pub use lost_writes::LostWrites;
pub use mutual_exclusion::MutualExclusion;
pub use queue::Queue;
pub use sequential::Sequential;
pub use sessions::Sessions;
pub use set_full::SetFull;
pub use siblings::Siblings;
pub use split_brain::SplitBrain;
pub use stale_reads::StaleReads;
pub use transactions::{ConsistencyModel, ListAppend, RwRegister};
pub use unique_ids::UniqueIds;
pub use value::{Items, Text, Value};
pub use verdict::{Anomaly, CheckResult, Checker, Verdict};
