//! Schedules drawn and changed: what the exploration tries.

use std::time::Duration;

use nemesis::package::{self, Pace, Package};
use nemesis::{
    Bandwidth, Capabilities, CrashPoint, Direction, Disturbance, Entry, Fault, FaultKind, LinkSet,
    Node, Percent, Selector, Shape,
};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::Input;

/// The kinds that a store promises to survive, whomever they hit and however many at a time: what
/// is explored unless other kinds are named. What destroys data on disk is no such promise, and
/// what operators do is no failure.
pub const SURVIVABLE: &[FaultKind] = &[
    FaultKind::Kill,
    FaultKind::PowerLoss,
    FaultKind::Pause,
    FaultKind::Partition,
    FaultKind::Slow,
    FaultKind::Crash,
    FaultKind::Cpu,
    FaultKind::Loss,
    FaultKind::Reorder,
    FaultKind::Duplicate,
    FaultKind::SlowDisk,
    FaultKind::ClockJump,
    FaultKind::ClockDrift,
    FaultKind::ClockStrobe,
];

/// What schedules are made of.
#[derive(Clone, Debug)]
pub struct Alphabet {
    nodes: Node,
    until: Duration,
    kinds: Vec<FaultKind>,
    capabilities: Capabilities,
    /// Those of all random packages that work here.
    packages: Vec<&'static Package>,
}

/// A schedule has at most so many faults.
const FAULTS_MAX: usize = 16;
/// Attempts to draw something possible.
const ATTEMPTS: usize = 32;

impl Alphabet {
    /// Of these kinds, as far as the capabilities allow, on a cluster of this size, in runs of this
    /// length.
    pub fn new(
        nodes: Node,
        until: Duration,
        kinds: &[FaultKind],
        capabilities: &Capabilities,
    ) -> Self {
        let kinds = kinds.iter().copied();
        let packages = package::select(["all"], nodes, capabilities).unwrap_or_default();
        Self {
            packages,
            nodes,
            until,
            kinds: kinds.filter(|&kind| capabilities.has(kind)).collect(),
            capabilities: capabilities.clone(),
        }
    }

    /// The kinds in use.
    pub fn kinds(&self) -> &[FaultKind] {
        &self.kinds
    }

    /// A schedule of a few faults: as a package would draw it, or of anything.
    pub fn schedule(&self, random: &mut impl Rng) -> Vec<Entry> {
        if random.random_bool(0.5) {
            let pace = Pace {
                interval: Duration::from_secs(1),
                until: self.until,
                lasting: Some((Duration::from_millis(100), Duration::from_secs(2))),
            };
            let (nodes, seed) = (self.nodes, random.random());
            let drawn = package::draw(&self.packages, nodes, &self.capabilities, &pace, seed);
            // Composites are none of the kinds of faults.
            let mut all = drawn.flat().unwrap_or_default();
            all.retain(|entry| self.kinds.contains(&entry.fault.kind()));
            all.truncate(FAULTS_MAX);
            if !all.is_empty() {
                return all;
            }
        }
        let count = random.random_range(1..=8);
        let mut all: Vec<Entry> = (0..count).filter_map(|_| self.entry(random)).collect();
        tidy(&mut all);
        all
    }

    /// One fault, somewhere in the run.
    fn entry(&self, random: &mut impl Rng) -> Option<Entry> {
        let at = self.time(random);
        self.entry_at(at, random)
    }

    fn entry_at(&self, at: Duration, random: &mut impl Rng) -> Option<Entry> {
        for _ in 0..ATTEMPTS {
            let kind = *self.kinds.choose(random)?;
            let fault = fault(kind, self.nodes, random);
            let target = self.target(&fault, random);
            let entry = Entry::new(at, lasting(random), fault, target);
            if self.possible(&entry) {
                return Some(entry);
            }
        }
        None
    }

    fn possible(&self, entry: &Entry) -> bool {
        let alone = nemesis::Schedule {
            faults: vec![entry.clone()],
        };
        entry.at < self.until && alone.validate(self.nodes, &self.capabilities).is_ok()
    }

    fn time(&self, random: &mut impl Rng) -> Duration {
        let most = self.until.as_millis().saturating_sub(1).max(1) as u64;
        Duration::from_millis(random.random_range(0..most))
    }

    fn target(&self, fault: &Fault, random: &mut impl Rng) -> Option<Selector> {
        if let Fault::Partition(shape) = fault
            && shape.ordered()
            && random.random_bool(0.5)
        {
            return None;
        }
        Some(match random.random_range(0..14) {
            0..3 => Selector::Leader,
            3..5 => Selector::Nodes(vec![random.random_range(1..=self.nodes)]),
            5 => Selector::Follower,
            6 => Selector::MostUpToDate,
            7 => Selector::LeastUpToDate,
            8 => Selector::LastAcknowledged,
            9 => Selector::FormerLeader,
            10 => Selector::Minority,
            11 => Selector::MinorityWithLeader,
            12 => Selector::Majority,
            _ => Selector::All,
        })
    }

    /// Another input, made from one that reached something new, or from two.
    pub fn mutate(&self, parent: &Input, other: Option<&Input>, random: &mut impl Rng) -> Input {
        let mut child = Input {
            seed: parent.seed,
            schedule: parent.schedule.clone(),
        };
        for _ in 0..random.random_range(1..=4) {
            self.change(&mut child, parent, other, random);
        }
        child.schedule.retain(|entry| self.possible(entry));
        tidy(&mut child.schedule);
        child
    }

    fn change(
        &self,
        child: &mut Input,
        parent: &Input,
        other: Option<&Input>,
        random: &mut impl Rng,
    ) {
        let faults = &mut child.schedule;
        let some = (!faults.is_empty()).then(|| random.random_range(0..faults.len().max(1)));
        match (random.random_range(0..20), some) {
            (0..4, _) | (_, None) => faults.extend(self.entry(random)),
            // Where a fault begins or ends, something is going on.
            (4..8, Some(i)) => {
                let near = near(&faults[i], random);
                faults.extend(self.entry_at(near, random));
            }
            (8..10, Some(i)) => drop(faults.remove(i)),
            (10, Some(i)) => faults[i].at = self.time(random),
            (11, Some(i)) => {
                let by = Duration::from_millis(random.random_range(1..=500));
                faults[i].at = if random.random() {
                    faults[i].at + by
                } else {
                    faults[i].at.saturating_sub(by)
                };
            }
            (12, Some(i)) => {
                let j = random.random_range(0..faults.len());
                faults[i].at = near(&faults[j], random);
            }
            (13..15, Some(i)) => faults[i].lasting = lasting(random),
            (15, Some(i)) => {
                let target = self.target(&faults[i].fault, random);
                faults[i].target = target;
            }
            (16, Some(i)) => {
                let at = faults[i].at;
                if let Some(mut entry) = self.entry_at(at, random) {
                    entry.lasting = faults[i].lasting;
                    faults[i] = entry;
                }
            }
            (17, Some(i)) => {
                // Once more, later.
                let mut again = faults[i].clone();
                again.at = self.time(random);
                faults.push(again);
            }
            (18, Some(_)) => {
                // The beginning of one, the end of the other.
                let cut = self.time(random);
                if let Some(other) = other {
                    faults.retain(|entry| entry.at < cut);
                    let end = other.schedule.iter().filter(|entry| entry.at >= cut);
                    faults.extend(end.cloned());
                }
            }
            _ => child.seed = random.random_range(0..1 << 32),
        }
        if child.schedule.len() > FAULTS_MAX {
            child.schedule.clone_from(&parent.schedule);
        }
    }
}

/// About when it begins, or when it ends.
fn near(entry: &Entry, random: &mut impl Rng) -> Duration {
    let at = if random.random() {
        entry.at
    } else {
        entry.at + entry.lasting
    };
    let after = [0, 5, 20, 50, 100, 200, 500, 1000];
    at + Duration::from_millis(*after.choose(random).unwrap_or(&0))
}

/// By time, for readers, and so that equal schedules are equal.
fn tidy(schedule: &mut [Entry]) {
    schedule.sort_by_key(|entry| entry.at);
}

/// From a hundredth of a second to a few: each order of magnitude as often as the next.
fn lasting(random: &mut impl Rng) -> Duration {
    let (low, high) = *[(10, 100), (100, 500), (500, 1500), (1000, 3000)]
        .choose(random)
        .unwrap_or(&(100, 500));
    Duration::from_millis(random.random_range(low..=high))
}

fn fault(kind: FaultKind, nodes: Node, random: &mut impl Rng) -> Fault {
    let links = LinkSet::Peers;
    let percent = |random: &mut _| {
        let percent = [5, 10, 30, 60].choose(random).copied().unwrap_or(10);
        Percent::new(percent).unwrap_or(const { Percent::new(10).unwrap() })
    };
    let ms = |values: &[u64], random: &mut _| {
        Duration::from_millis(values.choose(random).copied().unwrap_or(100))
    };
    match kind {
        FaultKind::Kill => Fault::Kill,
        FaultKind::PowerLoss => Fault::PowerLoss,
        FaultKind::Pause => Fault::Pause,
        FaultKind::Partition => Fault::Partition(
            *[
                Shape::Isolate,
                Shape::Isolate,
                Shape::Halves,
                Shape::Bridge,
                Shape::MajoritiesRing,
                Shape::OneWay(Direction::In),
                Shape::OneWay(Direction::Out),
                Shape::Clients,
            ]
            .choose(random)
            .unwrap_or(&Shape::Isolate),
        ),
        FaultKind::Slow => Fault::Slow {
            links,
            latency: ms(&[20, 50, 200, 500], random),
            jitter: Duration::ZERO,
            bandwidth: random.random_bool(0.2).then_some(Bandwidth { kib_s: 64 }),
        },
        FaultKind::Wipe => Fault::Wipe,
        FaultKind::Upgrade => Fault::Upgrade,
        FaultKind::MoveHome => Fault::MoveHome { to: None },
        FaultKind::AddMember => Fault::AddMember,
        FaultKind::RemoveMember => Fault::RemoveMember,
        FaultKind::ReplaceMember => Fault::ReplaceMember {
            by: random.random_range(1..=nodes),
        },
        FaultKind::TransferLeadership => Fault::TransferLeadership,
        FaultKind::Crash => Fault::Crash {
            point: *CrashPoint::ALL
                .choose(random)
                .unwrap_or(&CrashPoint::BeforeReply),
        },
        FaultKind::Cpu => Fault::Cpu {
            share: percent(random),
        },
        FaultKind::Memory => Fault::Memory { mib: 64 },
        FaultKind::Loss => Fault::Loss(Disturbance {
            links,
            percent: percent(random),
        }),
        FaultKind::Reorder => Fault::Reorder(Disturbance {
            links,
            percent: percent(random),
        }),
        FaultKind::Duplicate => Fault::Duplicate(Disturbance {
            links,
            percent: percent(random),
        }),
        FaultKind::TornWrite => Fault::TornWrite,
        FaultKind::BitFlip => Fault::BitFlip {
            file: nemesis::Stored::Log,
        },
        FaultKind::DiskFull => Fault::DiskFull,
        FaultKind::ReadOnly => Fault::ReadOnly,
        FaultKind::SlowDisk => Fault::SlowDisk {
            latency: ms(&[5, 20, 100], random),
        },
        FaultKind::FsyncError => Fault::FsyncError,
        FaultKind::ThrottleDisk => Fault::ThrottleDisk {
            bandwidth: Bandwidth { kib_s: 64 },
        },
        FaultKind::Rollback => Fault::Rollback {
            age: ms(&[100, 1000, 3000], random),
        },
        FaultKind::ClockJump => Fault::ClockJump {
            by_ms: *[-5000, -500, 500, 5000].choose(random).unwrap_or(&500),
        },
        FaultKind::ClockDrift => Fault::ClockDrift {
            ppm: *[-100_000, -10_000, 10_000, 100_000]
                .choose(random)
                .unwrap_or(&10_000),
        },
        FaultKind::ClockStrobe => Fault::ClockStrobe {
            by_ms: *[-500, 500].choose(random).unwrap_or(&500),
            every: ms(&[20, 100], random),
        },
        FaultKind::Snapshot => Fault::Snapshot,
        FaultKind::Downgrade => Fault::Downgrade,
        FaultKind::Drain => Fault::Drain,
        FaultKind::Scale => Fault::Scale,
        FaultKind::RollingRestart => Fault::RollingRestart,
        FaultKind::NoEndpoints => Fault::NoEndpoints,
    }
}
