//! The mechanisms that do faults to real processes, and which faults each does where.

use nemesis::FaultKind as K;
use nemesis::mechanism::cgroup::{self, Controller};
use nemesis::mechanism::{Available, clock, firewall, namespace, queue, shaper};

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
const NETNS: &[On] = &[On::Netns];

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
        name: "freezer",
        what: "control groups that are frozen",
        on: PROCESSES,
        faults: &[K::Pause],
        available: || cgroup::available(Controller::Freezer),
    },
    Mechanism {
        name: "cpu-quota",
        what: "control groups with a part of a processor (via: cgroup)",
        on: PROCESSES,
        faults: &[K::Cpu],
        available: || cgroup::available(Controller::Cpu),
    },
    Mechanism {
        name: "stop-and-go",
        what: "processes stopped and continued over and over (via: signal)",
        on: PROCESSES,
        faults: &[K::Cpu],
        available: || Ok(()),
    },
    Mechanism {
        name: "memory-limit",
        what: "control groups with little memory (via: cgroup)",
        on: PROCESSES,
        faults: &[K::Memory],
        available: || cgroup::available(Controller::Memory),
    },
    Mechanism {
        name: "rlimit",
        what: "a limit of the address space of processes",
        on: PROCESSES,
        faults: &[K::Memory],
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
        name: "namespaces",
        what: "a network of its own for every node, on a bridge",
        on: &[],
        faults: &[],
        available: namespace::available,
    },
    Mechanism {
        name: "nftables",
        what: "a table of our own in a node's network",
        on: NETNS,
        faults: &[K::Partition],
        available: firewall::available,
    },
    Mechanism {
        name: "netem",
        what: "a queueing discipline of the kernel",
        on: NETNS,
        faults: &[K::Slow, K::Loss, K::Reorder, K::Duplicate],
        available: || shaper::Kind::Netem.available(),
    },
    Mechanism {
        name: "nfqueue",
        what: "packets taken out of the kernel and given back later",
        on: NETNS,
        faults: &[K::Slow, K::Loss, K::Reorder, K::Duplicate],
        available: queue::available,
    },
    Mechanism {
        name: "tbf",
        what: "a token bucket of the kernel: bandwidth alone",
        on: NETNS,
        faults: &[K::Slow],
        available: || shaper::Kind::Tbf.available(),
    },
    Mechanism {
        name: "native",
        what: "the reference store does it to itself when told to",
        on: PROCESSES,
        faults: &[K::Crash, K::ClockJump, K::ClockDrift, K::ClockStrobe],
        available: || Ok(()),
    },
    Mechanism {
        name: "libfaketime",
        what: "a library loaded before the C library, which says what time it is (via: libfaketime)",
        on: PROCESSES,
        faults: &[K::ClockJump, K::ClockDrift, K::ClockStrobe],
        available: clock::available,
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
        name: "ext4",
        what: "a file system of a node's own, on a loop device, that is shut down (via: ext4)",
        on: PROCESSES,
        faults: &[K::PowerLoss],
        available: nemesis::mechanism::disk::ext4::available,
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
