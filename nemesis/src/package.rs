//! Seeded random schedules by name, as for `--nemesis kill,partition`.
//!
//! A package draws faults; the packages of a run take turns, in an order shuffled by the seed, so
//! that each comes up before any comes up again. The pace is Jepsen's: about one
//! [`Pace::interval`] of health between the end of a fault and the next one.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use serde::Deserialize;

use crate::fault::{Capabilities, Fault, FaultKind};
use crate::program::{
    Block, Here, Planned, Program, Span, Statement, What, faults_in, names_given,
};
use crate::schedule::Entry;
use crate::{Node, Selector};

/// A named source of random faults, or a composite of several, written in the language of schedules
/// ([`crate::program`]; all of them in `packages.yaml`).
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// The name used on the command line.
    pub name: String,
    /// One line for help and docs.
    pub description: String,
    /// Whether `all` draws it: it is a failure that comes and goes.
    in_all: bool,
    composite: bool,
    body: Block,
    draws: Draws,
}

/// How a package takes part where random faults take turns.
#[derive(Debug, PartialEq, Eq)]
enum Draws {
    /// One of these faults, each with the same chance.
    One(Vec<Planned>),
    /// This fault, once for each node in the order of their numbers.
    Each(Box<Planned>),
    /// All that it is, as one turn.
    Whole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePackage {
    name: String,
    description: String,
    #[serde(default)]
    in_all: bool,
    #[serde(default)]
    composite: bool,
    #[serde(rename = "do")]
    body: Vec<Statement>,
}

static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
    let wires: Vec<WirePackage> = serde_yaml::from_str(include_str!("packages.yaml"))
        .expect("packages.yaml is part of the program, and tests read it");
    wires.into_iter().map(Package::from).collect()
});

impl From<WirePackage> for Package {
    fn from(wire: WirePackage) -> Self {
        Self {
            draws: Draws::of(&wire.body),
            name: wire.name,
            description: wire.description,
            in_all: wire.in_all,
            composite: wire.composite,
            body: wire.body.into(),
        }
    }
}

impl Draws {
    fn of(body: &[Statement]) -> Self {
        let simple = |body: &[Statement]| match body {
            [
                Statement {
                    what: What::Fault(planned),
                    ..
                },
            ] if planned.body.is_none() => Some((**planned).clone()),
            _ => None,
        };
        let faults = match body {
            [
                Statement {
                    what: What::Choose(alternatives),
                    ..
                },
            ] if alternatives.iter().all(|one| one.weight == 1) => {
                alternatives.iter().map(|one| simple(&one.body)).collect()
            }
            [
                Statement {
                    what:
                        What::Each {
                            selector: Selector::All,
                            body,
                            ..
                        },
                    ..
                },
            ] => {
                return simple(body).map_or(Self::Whole, |fault| Self::Each(Box::new(fault)));
            }
            _ => simple(body).map(|fault| vec![fault]),
        };
        faults.map_or(Self::Whole, Self::One)
    }
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
        name: String,
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
    let packages = PACKAGES.iter();
    let mut all: Vec<_> = packages
        .map(|p| (p.name.as_str(), p.description.as_str()))
        .collect();
    all.extend(ALIASES.map(|(alias, _, what)| (alias, what)));
    all.push(("none", "no faults"));
    all.push((
        "all",
        "every failure of these that works on the substrate and cluster (kill to power-loss)",
    ));
    all
}

/// Whether a name stands for faults that are drawn one at a time, or for several that belong
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One fault at a time, or one node after the other.
    Package,
    /// Several that only together do their harm.
    Composite,
}

/// Name and description of everything of one kind that [`select`] accepts.
pub fn catalogue_of(kind: Kind) -> Vec<(&'static str, &'static str)> {
    let composite = |name: &str| {
        let package = PACKAGES.iter().find(|package| package.name == name);
        package.is_some_and(|package| package.composite)
    };
    let mut all = catalogue();
    all.retain(|(name, _)| composite(name) == (kind == Kind::Composite));
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
                .filter(|package| package.in_all && package.possible(nodes, capabilities).is_ok())
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

/// What a package comes to in a program, without the alternatives that are impossible here.
pub(crate) fn body_of(name: &str, here: &Here<'_>) -> Result<Block, PackageError> {
    let meant = meant(name);
    let package = PACKAGES.iter().find(|package| package.name == meant);
    let package = package.ok_or_else(|| PackageError::Unknown {
        name: name.to_owned(),
    })?;
    package.possible(here.nodes, here.capabilities)
}

/// Draws a program: the same arguments give the same program. Random faults come flat, with their
/// times and lengths; composites by name, with the time left to them that they take at most.
pub fn draw(
    packages: &[&Package],
    nodes: Node,
    capabilities: &Capabilities,
    pace: &Pace,
    seed: u64,
) -> Program {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut turns = packages.to_vec();
    turns.shuffle(&mut random);
    let mut statements = Vec::new();
    // How often it was each package's turn.
    let mut had: BTreeMap<&str, Node> = BTreeMap::new();
    let interval = pace.interval.max(Duration::from_millis(1));
    let mut at = between(&mut random, interval / 2, interval);
    let mut turn = 0;
    while !turns.is_empty() {
        turn %= turns.len();
        let package = turns[turn];
        let next = had.entry(&package.name).or_insert(0);
        *next += 1;
        let node = *next;
        if matches!(package.draws, Draws::Each(_)) && node > nodes {
            turns.remove(turn);
            continue;
        }
        turn += 1;
        let (statement, lasting) = match &package.draws {
            Draws::Whole => package.whole(at, nodes, capabilities),
            Draws::One(faults) => {
                let faults: Vec<&Planned> = faults
                    .iter()
                    .filter(|fault| fault.possible(nodes, capabilities).is_ok())
                    .collect();
                let Some(fault) = faults.choose(&mut random) else {
                    break; // `select` lets no such package through.
                };
                let lasting = fault.length(pace, &mut random);
                (fault.at(at, lasting), lasting)
            }
            Draws::Each(fault) => {
                let possible = [fault];
                let Some(fault) = possible.choose(&mut random) else {
                    break;
                };
                let lasting = fault.length(pace, &mut random);
                let mut entry = fault.entry.clone();
                let node = if fault.is_rolled_from_the_last(capabilities) {
                    nodes + 1 - node
                } else {
                    node
                };
                entry.target = Some(Selector::Nodes(vec![node]));
                (Planned::from(entry).at(at, lasting), lasting)
            }
        };
        if at.saturating_add(lasting) > pace.until {
            break;
        }
        statements.push(statement);
        at += lasting + between(&mut random, interval / 2, interval * 3 / 2);
    }
    Program { statements }
}

/// A whole number of milliseconds, for readable schedules.
fn between(random: &mut impl Rng, low: Duration, high: Duration) -> Duration {
    let low = u64::try_from(low.as_millis()).unwrap_or(u64::MAX);
    let high = u64::try_from(high.as_millis()).unwrap_or(u64::MAX).max(low);
    Duration::from_millis(random.random_range(low..=high).max(1))
}

impl Package {
    /// Every fault that it may do, also those that are impossible here.
    pub fn faults(&self) -> Vec<Fault> {
        faults_in(&self.body)
    }

    /// What it does here, without the alternatives that are impossible; what is impossible, if
    /// nothing is left.
    fn possible(&self, nodes: Node, capabilities: &Capabilities) -> Result<Block, PackageError> {
        let here = Here {
            nodes,
            auxiliaries: 0,
            capabilities,
            names: names_given(&self.body),
        };
        let body = match &self.draws {
            Draws::Each(fault) if fault.is_rolled_from_the_last(capabilities) => {
                from_the_last(fault, nodes)
            }
            _ => self.body.clone(),
        };
        here.possible(&body)
            .map_err(|reason| PackageError::Impossible {
                name: self.name.clone(),
                reason,
            })
    }

    /// The package by name, and how long it may take.
    fn whole(
        &self,
        at: Duration,
        nodes: Node,
        capabilities: &Capabilities,
    ) -> (Statement, Duration) {
        let mut statement = Statement {
            at: None,
            what: What::Use {
                name: self.name.clone(),
                body: self.possible(nodes, capabilities).ok(),
            },
        };
        let lasting = statement.longest();
        statement.at = Some(Span::exactly(at));
        (statement, lasting)
    }
}

/// The same fault for each node, from the highest number down.
fn from_the_last(fault: &Planned, nodes: Node) -> Block {
    let each = (1..=nodes).rev().map(|node| {
        let mut planned = fault.clone();
        planned.entry.target = Some(Selector::Nodes(vec![node]));
        Statement {
            at: None,
            what: What::Fault(Box::new(planned)),
        }
    });
    each.collect()
}

impl Planned {
    /// Whether nodes have their turn in it from the highest number down.
    fn is_rolled_from_the_last(&self, capabilities: &Capabilities) -> bool {
        let kind = self.entry.fault.kind();
        let of_versions = matches!(kind, FaultKind::Upgrade | FaultKind::Downgrade);
        of_versions && capabilities.rolls_from_the_last()
    }

    fn possible(&self, nodes: Node, capabilities: &Capabilities) -> Result<(), String> {
        self.entry
            .validate_among(nodes, 0, capabilities)
            .map_err(|(_, message)| message)
    }

    fn length(&self, pace: &Pace, random: &mut impl Rng) -> Duration {
        let own = (self.entry.lasting, self.entry.lasting + self.longer);
        let (low, high) = pace.lasting.unwrap_or(own);
        between(random, low.max(Duration::from_millis(1)), high)
    }

    fn at(&self, at: Duration, lasting: Duration) -> Statement {
        let entry = self.entry.clone();
        Entry {
            at,
            lasting,
            ..entry
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, FaultKind, Schedule};

    fn chosen(names: &[&str]) -> Vec<&'static Package> {
        select(names, 5, &Capabilities::all()).expect("known")
    }

    fn draw_five(names: &[&str], seconds: u64, seed: u64) -> Schedule {
        let pace = Pace::until(Duration::from_secs(seconds));
        flat(&draw(&chosen(names), 5, &Capabilities::all(), &pace, seed))
    }

    fn flat(program: &Program) -> Schedule {
        Schedule {
            faults: program.flat().expect("no composite"),
        }
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

    /// Digests of what these packages drew before they were written in the language: the seeds in
    /// issues, tests and docs still mean the same.
    #[test]
    fn what_a_seed_means_stays() {
        let known: [(&str, u64); 23] = [
            ("kill", 0x6118_5ddc_5ec9_e0df),
            ("pause", 0xeb4e_8240_a100_d635),
            ("partition", 0x0a99_0e45_54eb_b901),
            ("slow", 0xef5c_3f44_36d1_faab),
            ("kill-leader", 0xbadf_283b_8a0b_89f3),
            ("pause-leader", 0x34f9_6c29_6c5a_ed6d),
            ("isolate-leader", 0x81f8_8fd2_8a01_2665),
            ("partition-halves", 0x240b_e8f4_73a8_90a9),
            ("partition-bridge", 0xd7c3_4ae5_85b7_051d),
            ("partition-ring", 0x41d9_c792_64d3_540b),
            ("partition-one-way", 0x9802_3632_377f_5c41),
            ("slow-leader", 0x7c31_969f_3e9c_bc39),
            ("slow-follower", 0xb5a8_6785_1e3c_9f75),
            ("power-loss", 0xce18_94ca_077c_dce9),
            ("wipe-follower", 0xeef6_7ee1_cfbc_4f17),
            ("rolling-upgrade", 0x9700_567d_e53d_c0fd),
            ("membership", 0xe952_844b_b9a0_4395),
            ("move-home", 0xfcee_5e0d_1fee_9f35),
            ("transfer-leadership", 0xc73f_d911_8f4c_0065),
            ("offline", 0xf246_8653_3858_c695),
            ("all", 0xb524_6faa_50c6_9189),
            ("isolate-leader,kill-leader", 0x294f_8c6b_c778_da41),
            ("rolling-upgrade,kill", 0x20a9_ebc7_60d2_24d7),
        ];
        let pace = Pace::until(Duration::from_secs(60));
        let all = Capabilities::all();
        for (names, digest) in known {
            let names: Vec<&str> = names.split(',').collect();
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            for (nodes, seed) in [3, 5]
                .into_iter()
                .flat_map(|n| (0..40).map(move |s| (n, s)))
            {
                let chosen = select(&names, nodes, &all).expect("known");
                let schedule = flat(&draw(&chosen, nodes, &all, &pace, seed));
                for byte in schedule.to_yaml().bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            assert_eq!(hash, digest, "{names:?}: {hash:#x}");
        }
    }

    #[test]
    fn what_is_drawn_can_be_done_and_ends_in_time() {
        for seed in 0..200 {
            for package in packages() {
                for nodes in [3, 5, 9] {
                    let pace = Pace::until(Duration::from_secs(60));
                    let all = Capabilities::all();
                    let program = draw(&[package], nodes, &all, &pace, seed);
                    let least = match package.draws {
                        Draws::Each(_) => usize::from(nodes),
                        Draws::One(_) => 4,
                        Draws::Whole => 1,
                    };
                    assert!(program.len() >= least, "{}", package.name);
                    program.validate_among(nodes, 0, &all).expect("possible");
                    let Some(faults) = program.flat() else {
                        assert_eq!(package.draws, Draws::Whole);
                        continue;
                    };
                    let schedule = Schedule { faults };
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
    fn where_the_last_comes_first_versions_are_rolled_from_there() {
        let from_last = Capabilities::all().rolled_from_the_last();
        for (name, kind) in [
            ("rolling-upgrade", FaultKind::Upgrade),
            ("rolling-downgrade", FaultKind::Downgrade),
        ] {
            let chosen = select([name], 3, &from_last).expect("known");
            let pace = Pace::until(Duration::from_secs(300));
            let drawn = flat(&draw(&chosen, 3, &from_last, &pace, 1)).faults;
            let meant = |entry: &Entry| match &entry.target {
                Some(Selector::Nodes(nodes)) => nodes[0],
                other => panic!("{other:?}"),
            };
            assert_eq!(drawn.iter().map(meant).collect::<Vec<_>>(), [3, 2, 1]);
            assert!(drawn.iter().all(|entry| entry.fault.kind() == kind));
            // And where the package is a part of a schedule.
            let used = chosen[0].possible(3, &from_last).expect("possible");
            let turns: Vec<Node> = used
                .iter()
                .map(|statement| match &statement.what {
                    What::Fault(planned) => meant(&planned.entry),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(turns, [3, 2, 1]);
        }
        // What starts nodes again as they were may do so in any order.
        let each = select(["rolling-restart"], 3, &from_last).expect("known");
        assert_eq!(
            each[0].possible(3, &from_last),
            each[0].possible(3, &Capabilities::all())
        );
    }

    #[test]
    fn names() {
        assert!(chosen(&["none"]).is_empty());
        let all = packages().iter().filter(|package| package.in_all).count();
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
    fn what_cannot_be_done_is_refused_with_its_reason_and_left_out_of_choices() {
        for kind in FaultKind::ALL {
            let without = Capabilities::all().without(kind, "there is no such thing");
            for package in packages() {
                let Err(error) = select([&package.name], 5, &without) else {
                    continue;
                };
                let expected = format!(
                    "the nemesis `{}` cannot work here: {} cannot be injected here: there is no such thing",
                    package.name,
                    kind.name()
                );
                assert_eq!(error.to_string(), expected);
            }
        }
        let without = Capabilities::all().without(FaultKind::Snapshot, "no log");
        assert!(select(["blackhole-until-snapshot"], 5, &without).is_err());
        let leaderless = Capabilities::all().without_role("leader", "nobody leads");
        let error = select(["kill-leader"], 5, &leaderless).expect_err("no leader");
        assert!(
            error
                .to_string()
                .ends_with("leader is nobody here: nobody leads"),
            "{error}"
        );
        let pace = Pace::until(Duration::from_secs(600));
        let chosen = select(["partition"], 5, &leaderless).expect("other shapes are left");
        for entry in flat(&draw(&chosen, 5, &leaderless, &pace, 1)).faults {
            assert_ne!(entry.target, Some(Selector::Leader));
        }
    }

    #[test]
    fn a_composite_takes_its_turn_with_others_and_ends_in_time() {
        let all = Capabilities::all();
        for seed in 0..50 {
            let chosen = select(["part-kill", "kill"], 5, &all).expect("known");
            let pace = Pace::until(Duration::from_secs(60));
            let program = draw(&chosen, 5, &all, &pace, seed);
            let mut over = Duration::ZERO;
            let mut composites = 0;
            for statement in &program.statements {
                let at = statement.at().expect("all have a time").least;
                assert!(at >= over, "{}", program.to_yaml());
                over = statement.longest().saturating_sub(Duration::from_secs(1));
                composites += usize::from(matches!(statement.what, What::Use { .. }));
            }
            assert!(over <= pace.until);
            assert!(
                composites > 0 && composites < program.len(),
                "{}",
                program.to_yaml()
            );
            program.validate_among(5, 0, &all).expect("possible");
        }
    }

    #[test]
    fn composites_and_packages_are_told_apart() {
        let composites: Vec<&str> = catalogue_of(Kind::Composite).iter().map(|c| c.0).collect();
        assert_eq!(
            composites,
            [
                "pause-kill",
                "part-kill",
                "swizzle",
                "blackhole-until-snapshot",
                "isolate-clients-then-kill-leader",
                "semi-sync-downgrade",
                "restart-under-pause",
                "amnesia-then-vote"
            ]
        );
        let packages = catalogue_of(Kind::Package).len();
        assert_eq!(packages + composites.len(), catalogue().len());
    }

    #[test]
    fn length_and_interval_can_be_set() {
        let pace = Pace {
            interval: Duration::from_secs(10),
            until: Duration::from_secs(300),
            lasting: Some((Duration::from_secs(1), Duration::from_secs(2))),
        };
        let schedule = flat(&draw(&chosen(&["all"]), 5, &Capabilities::all(), &pace, 3));
        assert!(!schedule.faults.is_empty());
        for pair in schedule.faults.windows(2) {
            assert!((1_000..=2_000).contains(&pair[0].lasting.as_millis()));
            let health = pair[1].at.saturating_sub(pair[0].at + pair[0].lasting);
            assert!((5_000..=15_000).contains(&health.as_millis()), "{health:?}");
        }
    }
}
