//! The mechanisms that do faults to real processes, and which faults each does where.

use nemesis::FaultKind as K;
use nemesis::mechanism::Available;

use crate::experiment::On;

/// One way of doing faults.
#[derive(Clone, Copy, Debug)]
pub struct Mechanism {
    /// Its name, as in `via` and in proofs.
    pub name: &'static str,
    /// How it works, in a few words.
    pub what: &'static str,
    /// Where it is used.
    pub on: &'static [On],
    /// Which faults it does, in order of [`K::ALL`].
    pub faults: &'static [K],
    /// Whether it works on this machine.
    pub available: fn() -> Available,
}

const PROCESSES: &[On] = &[On::Local, On::Netns];
const LOCAL: &[On] = &[On::Local];

/// All of them; of those that do the same fault the first choice comes first.
pub const MECHANISMS: &[Mechanism] = &[
    Mechanism {
        name: "simulation",
        what: "done to simulated nodes, links, disks and clocks",
        on: &[On::Sim],
        faults: &K::ALL,
        available: || Ok(()),
    },
    Mechanism {
        name: "signal",
        what: "SIGKILL, SIGSTOP and SIGCONT through pidfds",
        on: PROCESSES,
        faults: &[K::Kill, K::Pause, K::Wipe, K::Upgrade, K::Downgrade],
        available: || Ok(()),
    },
    Mechanism {
        name: "proxy",
        what: "a TCP proxy on every link",
        on: LOCAL,
        faults: &[K::Partition, K::Slow],
        available: || Ok(()),
    },
    Mechanism {
        name: "fuse",
        what: "a layer under a node's data that loses, tears, refuses and delays",
        on: PROCESSES,
        faults: &[
            K::PowerLoss,
            K::TornWrite,
            K::DiskFull,
            K::ReadOnly,
            K::SlowDisk,
            K::FsyncError,
        ],
        available: nemesis::mechanism::disk::available,
    },
    Mechanism {
        name: "files",
        what: "a node's files, changed while it is down",
        on: PROCESSES,
        faults: &[K::BitFlip, K::Rollback],
        available: || Ok(()),
    },
    Mechanism {
        name: "operator",
        what: "requests of an operator to the store",
        on: PROCESSES,
        faults: &[
            K::MoveHome,
            K::AddMember,
            K::RemoveMember,
            K::ReplaceMember,
            K::TransferLeadership,
            K::Snapshot,
        ],
        available: || Ok(()),
    },
];
