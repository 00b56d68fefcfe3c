//! Seeded random schedules by name, as for `--nemesis kill,partition`.
//!
//! A package draws faults; the packages of a run take turns, in an order shuffled by the seed, so
//! that each comes up before any comes up again. The pace is Jepsen's: about one
//! [`Pace::interval`] of health between the end of a fault and the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use crate::fault::{Bandwidth, Capabilities, Direction, Fault, LinkSet, Shape};
use crate::schedule::{Entry, Schedule};
use crate::{Node, Selector};

/// A named source of random faults.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// The name used on the command line.
    pub name: &'static str,
    /// One line for help and docs.
    pub description: &'static str,
    /// What it draws from, each with the same chance.
    faults: &'static [Draft],
    /// Whether each node is hit once, in the order of their numbers, whatever the target.
    each: bool,
    /// Whether it is drawn only where it is named, not by `all`: what it does lasts, or is no
    /// failure but an operator's doing.
    named: bool,
}

/// One kind of fault that a package draws.
#[derive(Debug, PartialEq, Eq)]
struct Draft {
    fault: Fault,
    target: Option<Selector>,
    /// Shortest and longest time in effect, in milliseconds.
    lasting_ms: (u64, u64),
}

/// How often and until when faults are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Mean time without a fault between two of them; drawn between half and one and a half of it.
    pub interval: Duration,
    /// Every fault ends before this time, counted from the start of the run.
    pub until: Duration,
    /// Shortest and longest time in effect, instead of what the packages would take.
    pub lasting: Option<(Duration, Duration)>,
}

impl Pace {
    /// The pace that shows two or three faults in a run of 30 s.
    pub const INTERVAL: Duration = Duration::from_secs(4);

    /// The default pace for a run of this length.
    pub fn until(until: Duration) -> Self {
        Self {
            interval: Self::INTERVAL,
            until,
            lasting: None,
        }
    }
}

/// A name that is no package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// There is no package of this name.
    #[error("`{name}` is no nemesis; expected one or more of {}", names().join(", "))]
    Unknown {
        /// What was written.
        name: String,
    },
    /// The substrate or cluster cannot do what it draws.
    #[error("the nemesis `{name}` cannot work here: {reason}")]
    Impossible {
        /// Which package.
        name: &'static str,
        /// Why not.
        reason: String,
    },
}

/// Every package by name, in the order of help and docs. Besides these, `none` stands for no
/// faults and `all` for every package of failures that works on the substrate and cluster at hand.
pub fn packages() -> &'static [Package] {
    &PACKAGES
}

/// Name and description of everything that [`select`] accepts.
pub fn catalogue() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = PACKAGES.iter().map(|p| (p.name, p.description)).collect();
    all.extend(ALIASES.map(|(alias, _, what)| (alias, what)));
    all.push(("none", "no faults"));
    all.push((
        "all",
        "every failure of these that works on the substrate and cluster (not wipe-follower and those after it)",
    ));
    all
}

fn names() -> Vec<&'static str> {
    catalogue().into_iter().map(|(name, _)| name).collect()
}

/// Another name of a package, as people say it; the package's own; and a line for help.
const ALIASES: [(&str, &str, &str); 1] = [(
    "partition-leader",
    "isolate-leader",
    "the same as isolate-leader",
)];

/// The package's own name, where this is another one of it.
pub fn meant(name: &str) -> &str {
    let alias = ALIASES.iter().find(|(alias, ..)| *alias == name);
    alias.map_or(name, |(_, meant, _)| meant)
}

/// The packages meant by a list of names, each once.
///
/// # Errors
/// If a name is unknown, or the package cannot work on this cluster or substrate.
pub fn select<S: AsRef<str>>(
    wanted: impl IntoIterator<Item = S>,
    nodes: Node,
    capabilities: &Capabilities,
) -> Result<Vec<&'static Package>, PackageError> {
    let mut chosen: Vec<&'static Package> = Vec::new();
    let mut add = |package: &'static Package| {
        if !chosen.contains(&package) {
            chosen.push(package);
        }
    };
    for name in wanted {
        match name.as_ref().trim() {
            "none" => {}
            "all" => PACKAGES
                .iter()
                .filter(|package| !package.named && package.possible(nodes, capabilities).is_ok())
                .for_each(&mut add),
            name => {
                let name = meant(name);
                let package = PACKAGES.iter().find(|package| package.name == name);
                let package = package.ok_or_else(|| PackageError::Unknown {
                    name: name.to_owned(),
                })?;
                package.possible(nodes, capabilities)?;
                add(package);
            }
        }
    }
    Ok(chosen)
}

/// Draws a schedule: the same arguments give the same schedule.
pub fn draw(
    packages: &[&Package],
    nodes: Node,
    capabilities: &Capabilities,
    pace: &Pace,
    seed: u64,
) -> Schedule {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut turns = packages.to_vec();
    turns.shuffle(&mut random);
    let mut faults = Vec::new();
    // How often it was each package's turn.
    let mut had: BTreeMap<&str, Node> = BTreeMap::new();
    let interval = pace.interval.max(Duration::from_millis(1));
    let mut at = between(&mut random, interval / 2, interval);
    let mut turn = 0;
    while !turns.is_empty() {
        turn %= turns.len();
        let package = turns[turn];
        let next = had.entry(package.name).or_insert(0);
        *next += 1;
        let node = *next;
        if package.each && node > nodes {
            turns.remove(turn);
            continue;
        }
        turn += 1;
        let drafts: Vec<&Draft> = package
            .faults
            .iter()
            .filter(|draft| draft.possible(nodes, capabilities).is_ok())
            .collect();
        let Some(draft) = drafts.choose(&mut random) else {
            break; // `select` lets no such package through.
        };
        let (low, high) = pace.lasting.unwrap_or((
            Duration::from_millis(draft.lasting_ms.0),
            Duration::from_millis(draft.lasting_ms.1),
        ));
        let lasting = between(&mut random, low.max(Duration::from_millis(1)), high);
        if at + lasting > pace.until {
            break;
        }
        let target = if package.each {
            Some(Selector::Nodes(vec![node]))
        } else {
            draft.target.clone()
        };
        faults.push(Entry::new(at, lasting, draft.fault.clone(), target));
        at += lasting + between(&mut random, interval / 2, interval * 3 / 2);
    }
    Schedule { faults }
}

/// A whole number of milliseconds, for readable schedules.
fn between(random: &mut impl Rng, low: Duration, high: Duration) -> Duration {
    let low = u64::try_from(low.as_millis()).unwrap_or(u64::MAX);
    let high = u64::try_from(high.as_millis()).unwrap_or(u64::MAX).max(low);
    Duration::from_millis(random.random_range(low..=high).max(1))
}

impl Package {
    /// The faults that it draws from.
    pub fn draws(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().map(|draft| &draft.fault)
    }

    fn possible(&self, nodes: Node, capabilities: &Capabilities) -> Result<(), PackageError> {
        let mut reason = None;
        for draft in self.faults {
            match draft.possible(nodes, capabilities) {
                Ok(()) => return Ok(()),
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        Err(PackageError::Impossible {
            name: self.name,
            reason: reason.unwrap_or_default(),
        })
    }
}

impl Draft {
    fn possible(&self, nodes: Node, capabilities: &Capabilities) -> Result<(), String> {
        let entry = Entry::new(
            Duration::ZERO,
            Duration::from_millis(self.lasting_ms.0),
            self.fault.clone(),
            self.target.clone(),
        );
        entry
            .validate(nodes, capabilities)
            .map_err(|(_, message)| message)
    }
}

const fn draft(fault: Fault, target: Option<Selector>, lasting_ms: (u64, u64)) -> Draft {
    Draft {
        fault,
        target,
        lasting_ms,
    }
}

const fn partition(shape: Shape, target: Option<Selector>) -> Draft {
    draft(Fault::Partition(shape), target, (4_000, 6_000))
}

const fn slow(target: Selector, latency_ms: u64, bandwidth: Option<Bandwidth>) -> Draft {
    let fault = Fault::Slow {
        links: LinkSet::Peers,
        latency: Duration::from_millis(latency_ms),
        jitter: Duration::ZERO,
        bandwidth,
    };
    draft(fault, Some(target), (3_000, 5_000))
}

const RANDOM: Selector = Selector::Random(1);
const NARROW: Option<Bandwidth> = Some(Bandwidth { kib_s: 64 });

static PACKAGES: [Package; 20] = [
    Package {
        name: "kill",
        description: "end a random node, or a minority, at once; start it again after 2 to 4 s",
        faults: &[
            draft(Fault::Kill, Some(RANDOM), (2_000, 4_000)),
            draft(Fault::Kill, Some(Selector::Minority), (2_000, 4_000)),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "pause",
        description: "stop a random node, or a minority, for 2 to 4 s, as a long garbage collection does",
        faults: &[
            draft(Fault::Pause, Some(RANDOM), (2_000, 4_000)),
            draft(Fault::Pause, Some(Selector::Minority), (2_000, 4_000)),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "partition",
        description: "a partition of random shape for 4 to 6 s: any of the partition packages",
        faults: &[
            partition(Shape::Isolate, Some(RANDOM)),
            partition(Shape::Isolate, Some(Selector::Leader)),
            partition(Shape::Halves, None),
            partition(Shape::Bridge, None),
            partition(Shape::MajoritiesRing, None),
            partition(Shape::OneWay(Direction::Out), Some(RANDOM)),
            partition(Shape::OneWay(Direction::In), Some(RANDOM)),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "slow",
        description: "delay a random node's links to its peers by 50 or 200 ms, or throttle them, for 3 to 5 s",
        faults: &[
            slow(RANDOM, 50, None),
            slow(RANDOM, 200, None),
            slow(RANDOM, 20, NARROW),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "kill-leader",
        description: "end the leader at once; start it again after 2 to 4 s",
        faults: &[draft(Fault::Kill, Some(Selector::Leader), (2_000, 4_000))],
        each: false,
        named: false,
    },
    Package {
        name: "pause-leader",
        description: "stop the leader for 2 to 4 s: it comes back believing that it still leads",
        faults: &[draft(Fault::Pause, Some(Selector::Leader), (2_000, 4_000))],
        each: false,
        named: false,
    },
    Package {
        name: "isolate-leader",
        description: "cut the leader from all other replicas, but not from clients, for 4 to 6 s",
        faults: &[partition(Shape::Isolate, Some(Selector::Leader))],
        each: false,
        named: false,
    },
    Package {
        name: "partition-halves",
        description: "divide the replicas into two halves for 4 to 6 s",
        faults: &[partition(Shape::Halves, None)],
        each: false,
        named: false,
    },
    Package {
        name: "partition-bridge",
        description: "divide the replicas into two halves that only one node can talk to both of, for 4 to 6 s",
        faults: &[partition(Shape::Bridge, None)],
        each: false,
        named: false,
    },
    Package {
        name: "partition-ring",
        description: "let every replica see a majority, but no two the same one, for 4 to 6 s",
        faults: &[partition(Shape::MajoritiesRing, None)],
        each: false,
        named: false,
    },
    Package {
        name: "partition-one-way",
        description: "lose all that a leader or random node sends to its peers, or all that it is sent, for 4 to 6 s",
        faults: &[
            partition(Shape::OneWay(Direction::Out), Some(Selector::Leader)),
            partition(Shape::OneWay(Direction::In), Some(Selector::Leader)),
            partition(Shape::OneWay(Direction::Out), Some(RANDOM)),
            partition(Shape::OneWay(Direction::In), Some(RANDOM)),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "slow-leader",
        description: "delay the leader's links to its peers by 100 ms, or throttle them, for 3 to 5 s",
        faults: &[
            slow(Selector::Leader, 100, None),
            slow(Selector::Leader, 20, NARROW),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "slow-follower",
        description: "delay a follower's links to its peers by 100 ms, or throttle them, for 3 to 5 s",
        faults: &[
            slow(Selector::Follower, 100, None),
            slow(Selector::Follower, 20, NARROW),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "power-loss",
        description: "cut the power of a random node or the leader: what was not synced is lost (simulation only)",
        faults: &[
            draft(Fault::PowerLoss, Some(RANDOM), (2_000, 4_000)),
            draft(Fault::PowerLoss, Some(Selector::Leader), (2_000, 4_000)),
        ],
        each: false,
        named: false,
    },
    Package {
        name: "wipe-follower",
        description: "end a follower at once and delete its data; start it on nothing after 1 to 3 s",
        faults: &[draft(Fault::Wipe, Some(Selector::Follower), (1_000, 3_000))],
        each: false,
        named: true,
    },
    Package {
        name: "rolling-upgrade",
        description: "start the nodes again, one after the other, with a newer storage format; they keep it",
        faults: &[draft(Fault::Upgrade, Some(RANDOM), (500, 1_000))],
        each: true,
        named: true,
    },
    Package {
        name: "membership",
        description: "let a follower leave the cluster for 2 to 4 s, then take it back (raft)",
        faults: &[draft(
            Fault::RemoveMember,
            Some(Selector::Follower),
            (2_000, 4_000),
        )],
        each: false,
        named: true,
    },
    Package {
        name: "move-home",
        description: "give the keys of a random node a new home (multi-leader)",
        faults: &[draft(
            Fault::MoveHome { to: None },
            Some(RANDOM),
            (500, 1_000),
        )],
        each: false,
        named: true,
    },
    Package {
        name: "transfer-leadership",
        description: "have the leader hand over to a follower (raft, single-leader)",
        faults: &[draft(
            Fault::TransferLeadership,
            Some(Selector::Follower),
            (500, 1_000),
        )],
        each: false,
        named: true,
    },
    Package {
        name: "offline",
        description: "cut one node at a time from all other replicas, but not from its clients, for 3 to 8 s: a device that is away",
        faults: &[draft(
            Fault::Partition(Shape::Isolate),
            Some(RANDOM),
            (3_000, 8_000),
        )],
        each: false,
        named: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultKind;

    fn chosen(names: &[&str]) -> Vec<&'static Package> {
        select(names, 5, &Capabilities::all()).expect("known")
    }

    fn draw_five(names: &[&str], seconds: u64, seed: u64) -> Schedule {
        let pace = Pace::until(Duration::from_secs(seconds));
        draw(&chosen(names), 5, &Capabilities::all(), &pace, seed)
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        let mut distinct = Vec::new();
        for seed in 0..50 {
            let schedule = draw_five(&["all"], 120, seed);
            assert_eq!(schedule, draw_five(&["all"], 120, seed));
            if !distinct.contains(&schedule) {
                distinct.push(schedule);
            }
        }
        assert_eq!(distinct.len(), 50);
    }

    #[test]
    fn what_is_drawn_can_be_done_and_ends_in_time() {
        for seed in 0..200 {
            for package in packages() {
                for nodes in [3, 5, 9] {
                    let pace = Pace::until(Duration::from_secs(60));
                    let schedule = draw(&[package], nodes, &Capabilities::all(), &pace, seed);
                    let least = if package.each { usize::from(nodes) } else { 4 };
                    assert!(schedule.faults.len() >= least, "{}", package.name);
                    schedule
                        .validate(nodes, &Capabilities::all())
                        .expect("possible");
                    let mut healthy_from = Duration::ZERO;
                    for entry in &schedule.faults {
                        assert!(entry.at >= healthy_from + pace.interval / 2, "{schedule:?}");
                        healthy_from = entry.at + entry.lasting;
                    }
                    assert!(healthy_from <= pace.until);
                }
            }
        }
    }

    #[test]
    fn in_thirty_seconds_both_of_two_packages_come_up() {
        for seed in 0..500 {
            let schedule = draw_five(&["isolate-leader", "kill-leader"], 30, seed);
            let kinds = |kind| {
                schedule
                    .faults
                    .iter()
                    .filter(|f| f.fault.kind() == kind)
                    .count()
            };
            let (cuts, kills) = (kinds(FaultKind::Partition), kinds(FaultKind::Kill));
            assert!(
                cuts > 0 && kills > 0 && cuts.abs_diff(kills) <= 1,
                "seed {seed}: {schedule:?}"
            );
        }
    }

    #[test]
    fn a_rolling_upgrade_takes_each_node_once() {
        let schedule = draw_five(&["rolling-upgrade", "kill"], 300, 7);
        let mut upgraded = Vec::new();
        for entry in &schedule.faults {
            if let (Fault::Upgrade, Some(Selector::Nodes(nodes))) = (&entry.fault, &entry.target) {
                upgraded.extend(nodes.clone());
            }
        }
        assert_eq!(upgraded, [1, 2, 3, 4, 5]);
        assert!(schedule.faults.len() > 30);
        assert_eq!(draw_five(&["rolling-upgrade"], 300, 7).faults.len(), 5);
    }

    #[test]
    fn names() {
        assert!(chosen(&["none"]).is_empty());
        let all = packages().iter().filter(|package| !package.named).count();
        assert_eq!(chosen(&["all"]).len(), all);
        assert_eq!(chosen(&["kill", " kill", "pause"]).len(), 2);
        assert_eq!(chosen(&["partition-leader"]), chosen(&["isolate-leader"]));
        let error = select(["kil"], 5, &Capabilities::all()).expect_err("no such package");
        assert!(error.to_string().contains("isolate-leader"), "{error}");

        let without = Capabilities::all().without(FaultKind::PowerLoss, "no power");
        assert_eq!(select(["all"], 5, &without).expect("known").len(), all - 1);
        assert!(select(["power-loss"], 5, &without).is_err());
        assert!(select(["isolate-leader"], 1, &without).is_err());
        // A single node can still be killed, though no minority of it.
        assert_eq!(select(["kill"], 1, &without).expect("possible").len(), 1);
        assert_eq!(draw_five(&["none"], 60, 1), Schedule::default());
        assert!(
            catalogue()
                .iter()
                .all(|(name, line)| !name.is_empty() && !line.contains('\n'))
        );
    }

    #[test]
    fn length_and_interval_can_be_set() {
        let pace = Pace {
            interval: Duration::from_secs(10),
            until: Duration::from_secs(300),
            lasting: Some((Duration::from_secs(1), Duration::from_secs(2))),
        };
        let schedule = draw(&chosen(&["all"]), 5, &Capabilities::all(), &pace, 3);
        assert!(!schedule.faults.is_empty());
        for pair in schedule.faults.windows(2) {
            assert!((1_000..=2_000).contains(&pair[0].lasting.as_millis()));
            let health = pair[1].at.saturating_sub(pair[0].at + pair[0].lasting);
            assert!((5_000..=15_000).contains(&health.as_millis()), "{health:?}");
        }
    }
}
