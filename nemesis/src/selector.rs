//! Targets by role, resolved to nodes at the moment of injection.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand::seq::SliceRandom;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Budget, Node, View};

/// Who is to suffer a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The node that calls itself leader in the highest epoch.
    Leader,
    /// One node that calls itself follower.
    Follower,
    /// All of them.
    Followers,
    /// As many random nodes as can be missing while a majority is left.
    Minority,
    /// The same, the leader among them.
    MinorityWithLeader,
    /// As many, the leader not among them.
    MinorityWithoutLeader,
    /// As few random nodes as make a majority.
    Majority,
    /// Every node.
    All,
    /// The replica with the highest number.
    Last,
    /// This many random nodes.
    Random(u16),
    /// The node that was leader before the present one.
    FormerLeader,
    /// The follower whose log is longest.
    MostUpToDate,
    /// The follower whose log is shortest.
    LeastUpToDate,
    /// The node that acknowledged the last write, whatever it calls itself by now.
    LastAcknowledged,
    /// One of the gateways in front of the replicas.
    Gateway,
    /// The monitor that watches the leader.
    Monitor,
    /// A follower whose copy the leader's acknowledgements rest on.
    SynchronousStandby,
    /// The nodes that an earlier fault hit, by the name it gave them.
    Named {
        /// The name, without the `$`.
        name: String,
        /// All replicas but those.
        others: bool,
        /// One of them.
        one: bool,
    },
    /// These nodes.
    Nodes(Vec<Node>),
}

/// What a selector is resolved from.
#[derive(Clone)]
pub struct Scene<'a> {
    /// Size of the cluster.
    pub nodes: Node,
    /// What is known of it.
    pub view: &'a View,
    /// Who led before the present leader.
    pub former_leader: Option<Node>,
    /// Nodes under a fault already: random choices avoid them while there are others.
    pub taken: &'a BTreeSet<Node>,
    /// The nodes that faults have hit, by the names given to them.
    pub names: &'a BTreeMap<String, Vec<Node>>,
    /// Random choices are made among the nodes that it covers.
    pub budget: &'a Budget,
}

impl Selector {
    /// The nodes meant, ascending.
    ///
    /// # Errors
    /// Why nobody is meant at the moment, e.g. `no leader is known`.
    pub fn resolve(
        &self,
        scene: &Scene<'_>,
        random: &mut impl Rng,
    ) -> Result<Vec<Node>, &'static str> {
        let count = usize::from(scene.nodes);
        let leader = || scene.view.leader().ok_or("no leader is known");
        let with_role = |role| -> Vec<Node> {
            let views = scene.view.nodes.iter();
            views
                .filter(|n| n.role.as_deref() == Some(role))
                .map(|n| n.node)
                .collect()
        };
        let followers = || with_role("follower");
        // Of equal ones the first, so that the same view means the same node.
        let by_length = || -> Vec<(u64, Node)> {
            let views = scene.view.nodes.iter();
            let followers = views.filter(|n| n.role.as_deref() == Some("follower"));
            followers.map(|n| (n.last_index, n.node)).collect()
        };
        let longest = || {
            by_length()
                .into_iter()
                .min_by_key(|&(i, node)| (Reverse(i), node))
        };
        let shortest = || by_length().into_iter().min();
        let mut draw = |mut from: Vec<Node>, count: usize| -> Vec<Node> {
            from.retain(|&node| scene.budget.covers(node));
            from.shuffle(random);
            // Stable: the untaken first, each part in its random order.
            from.sort_by_key(|node| scene.taken.contains(node));
            from.truncate(count);
            from
        };
        let all = || (1..=scene.nodes).collect::<Vec<Node>>();
        let minority = count.saturating_sub(1) / 2;
        let mut chosen = match self {
            Self::Leader => vec![leader()?],
            Self::Follower => draw(followers(), 1),
            Self::Followers => followers(),
            Self::Minority => draw(all(), minority),
            Self::MinorityWithLeader => {
                let leader = leader()?;
                let others = all().into_iter().filter(|&n| n != leader).collect();
                let mut chosen = draw(others, minority.saturating_sub(1));
                chosen.push(leader);
                chosen
            }
            Self::MinorityWithoutLeader => {
                let leader = leader()?;
                draw(
                    all().into_iter().filter(|&n| n != leader).collect(),
                    minority,
                )
            }
            Self::Majority => draw(all(), count / 2 + 1),
            Self::All => all(),
            Self::Random(wanted) => draw(all(), usize::from(*wanted)),
            Self::Gateway => draw(with_role("gateway"), 1),
            Self::Monitor => with_role("monitor"),
            Self::MostUpToDate => longest().map(|(_, node)| node).into_iter().collect(),
            Self::LeastUpToDate => shortest().map(|(_, node)| node).into_iter().collect(),
            Self::LastAcknowledged => {
                let node = scene.view.last_acknowledged;
                vec![node.ok_or("nothing was acknowledged yet")?]
            }
            Self::FormerLeader => vec![scene.former_leader.ok_or("no former leader is known")?],
            Self::SynchronousStandby => {
                let leader = leader()?;
                let view = scene.view.nodes.iter().find(|view| view.node == leader);
                draw(view.map_or(Vec::new(), |view| view.standbys.clone()), 1)
            }
            Self::Named { name, others, one } => {
                let named = scene.names.get(name);
                let named = named.ok_or("no fault of that name has hit anybody yet")?;
                let meant = if *others {
                    all().into_iter().filter(|n| !named.contains(n)).collect()
                } else {
                    named.clone()
                };
                if *one { draw(meant, 1) } else { meant }
            }
            Self::Last => vec![scene.nodes],
            Self::Nodes(nodes) => nodes.clone(),
        };
        chosen.sort_unstable();
        chosen.dedup();
        if chosen.is_empty() {
            return Err(match self {
                Self::Follower | Self::Followers | Self::MostUpToDate | Self::LeastUpToDate => {
                    "no follower is known"
                }
                Self::Gateway => "no gateway is known",
                Self::SynchronousStandby => "no synchronous standby is known",
                Self::Monitor => "no monitor is known",
                _ => "the target is empty",
            });
        }
        Ok(chosen)
    }

    /// The role that a node must have for somebody to be meant: `leader`, `follower`,
    /// `synchronous-standby`, `gateway` or `monitor`.
    pub fn role(&self) -> Option<&'static str> {
        match self {
            Self::Leader
            | Self::FormerLeader
            | Self::MinorityWithLeader
            | Self::MinorityWithoutLeader => Some("leader"),
            Self::Follower | Self::Followers | Self::MostUpToDate | Self::LeastUpToDate => {
                Some("follower")
            }
            Self::SynchronousStandby => Some("synchronous-standby"),
            Self::Gateway => Some("gateway"),
            Self::Monitor => Some("monitor"),
            Self::Minority
            | Self::Majority
            | Self::All
            | Self::Last
            | Self::Random(_)
            | Self::LastAcknowledged
            | Self::Named { .. }
            | Self::Nodes(_) => None,
        }
    }

    /// How many nodes it means in a cluster of this size, at most.
    pub fn size(&self, nodes: Node) -> Node {
        match self {
            Self::Leader
            | Self::Follower
            | Self::MostUpToDate
            | Self::LeastUpToDate
            | Self::LastAcknowledged
            | Self::FormerLeader
            | Self::SynchronousStandby
            | Self::Gateway
            | Self::Monitor
            | Self::Last
            // How many nodes a name stands for is known when it is used.
            | Self::Named { .. } => 1,
            Self::Followers => nodes.saturating_sub(1),
            Self::Minority | Self::MinorityWithLeader | Self::MinorityWithoutLeader => {
                nodes.saturating_sub(1) / 2
            }
            Self::Majority => nodes / 2 + 1,
            Self::All => nodes,
            Self::Random(count) => *count,
            Self::Nodes(list) => Node::try_from(list.len()).unwrap_or(Node::MAX),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Follower => f.write_str("follower"),
            Self::Followers => f.write_str("followers"),
            Self::Minority => f.write_str("minority"),
            Self::MinorityWithLeader => f.write_str("minority-with-leader"),
            Self::MinorityWithoutLeader => f.write_str("minority-without-leader"),
            Self::MostUpToDate => f.write_str("most-up-to-date"),
            Self::LeastUpToDate => f.write_str("least-up-to-date"),
            Self::LastAcknowledged => f.write_str("last-acknowledged"),
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::Random(1) => f.write_str("random"),
            Self::Random(count) => write!(f, "random({count})"),
            Self::FormerLeader => f.write_str("former-leader"),
            Self::Gateway => f.write_str("gateway"),
            Self::Monitor => f.write_str("monitor"),
            Self::SynchronousStandby => f.write_str("synchronous-standby"),
            Self::Named { name, others, one } => match (others, one) {
                (false, false) => write!(f, "${name}"),
                (true, false) => write!(f, "others(${name})"),
                (false, true) => write!(f, "one-of(${name})"),
                (true, true) => write!(f, "one-of(others(${name}))"),
            },
            Self::Nodes(nodes) => f.write_str(&names(nodes)),
        }
    }
}

/// `n1, n2`.
pub(crate) fn names(nodes: &[Node]) -> String {
    let names: Vec<String> = nodes.iter().map(|n| format!("n{n}")).collect();
    names.join(", ")
}

/// A node by its name: `n3` is 3.
pub fn parse_node(text: &str) -> Option<Node> {
    let digits = text.strip_prefix('n')?;
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether a text can name the nodes that a fault hit.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// `$name`, `others($name)`, `one-of($name)` or `one-of(others($name))`.
fn parse_named(text: &str) -> Option<Selector> {
    fn within<'a>(text: &'a str, function: &str) -> Option<&'a str> {
        text.strip_prefix(function)?
            .strip_prefix('(')?
            .strip_suffix(')')
    }
    let (text, one) = within(text, "one-of").map_or((text, false), |inner| (inner, true));
    let (text, others) = within(text, "others").map_or((text, false), |inner| (inner, true));
    let name = text.strip_prefix('$').filter(|name| is_name(name))?;
    Some(Selector::Named {
        name: name.to_owned(),
        others,
        one,
    })
}

/// A text that selects nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no target; expected leader, follower, followers, minority, \
     minority-with-leader, minority-without-leader, majority, all, last, random, random(k), \
     former-leader, most-up-to-date, least-up-to-date, synchronous-standby, last-acknowledged, \
     gateway, monitor, $name, others($name), one-of($name), a node such as n3, or a list such as \
     [n1, n2]"
)]
pub struct SelectorError {
    /// What was written.
    pub text: String,
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let wrong = || SelectorError {
            text: text.to_owned(),
        };
        Ok(match text {
            "leader" => Self::Leader,
            "follower" => Self::Follower,
            "followers" => Self::Followers,
            "minority" => Self::Minority,
            "minority-with-leader" => Self::MinorityWithLeader,
            "minority-without-leader" => Self::MinorityWithoutLeader,
            "most-up-to-date" => Self::MostUpToDate,
            "least-up-to-date" => Self::LeastUpToDate,
            "last-acknowledged" => Self::LastAcknowledged,
            "majority" => Self::Majority,
            "all" => Self::All,
            "last" => Self::Last,
            "random" => Self::Random(1),
            "former-leader" => Self::FormerLeader,
            "gateway" => Self::Gateway,
            "monitor" => Self::Monitor,
            "synchronous-standby" => Self::SynchronousStandby,
            _ => {
                if let Some(named) = parse_named(text) {
                    return Ok(named);
                }
                if let Some(node) = parse_node(text) {
                    return Ok(Self::Nodes(vec![node]));
                }
                let count = text
                    .strip_prefix("random(")
                    .and_then(|rest| rest.strip_suffix(')'));
                let count = count.and_then(|digits| digits.trim().parse().ok());
                Self::Random(count.filter(|&count| count > 0).ok_or_else(wrong)?)
            }
        })
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nodes(nodes) if nodes.len() != 1 => {
                serializer.collect_seq(nodes.iter().map(|n| format!("n{n}")))
            }
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SelectorVisitor)
    }
}

struct SelectorVisitor;

impl<'de> Visitor<'de> for SelectorVisitor {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target such as leader, random(2), n3 or [n1, n2]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Selector, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Selector, A::Error> {
        let mut nodes = Vec::new();
        while let Some(text) = seq.next_element::<String>()? {
            let node = parse_node(&text).ok_or_else(|| {
                de::Error::custom(format!("`{text}` is no node; expected a name such as n3"))
            })?;
            nodes.push(node);
        }
        if nodes.is_empty() {
            return Err(de::Error::custom(
                "a list of targets names at least one node",
            ));
        }
        Ok(Selector::Nodes(nodes))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg32;

    use super::*;
    use crate::NodeView;

    fn view(roles: &[(Option<&str>, u64)]) -> View {
        let nodes = roles
            .iter()
            .zip(1..)
            .map(|(&(role, epoch), node)| NodeView {
                node,
                role: role.map(str::to_owned),
                epoch,
                ..NodeView::silent(node)
            });
        View {
            nodes: nodes.collect(),
            ..View::default()
        }
    }

    fn resolve(
        text: &str,
        view: &View,
        taken: &[Node],
        seed: u64,
    ) -> Result<Vec<Node>, &'static str> {
        let selector: Selector = text.parse().expect(text);
        let taken = taken.iter().copied().collect();
        let scene = Scene {
            nodes: 5,
            view,
            former_leader: Some(4),
            taken: &taken,
            names: &BTreeMap::from([("victim".to_owned(), vec![2, 5])]),
            budget: &Budget::default(),
        };
        selector.resolve(&scene, &mut Pcg32::seed_from_u64(seed))
    }

    #[test]
    fn roles_resolve_from_the_view() {
        let follower = Some("follower");
        // n2 is a leader of the past; n3 leads in the newest epoch; n5 does not answer.
        let view = view(&[
            (follower, 3),
            (Some("leader"), 2),
            (Some("leader"), 3),
            (follower, 3),
            (None, 0),
        ]);
        for seed in 0..50 {
            assert_eq!(resolve("leader", &view, &[], seed), Ok(vec![3]));
            assert_eq!(resolve("followers", &view, &[], seed), Ok(vec![1, 4]));
            assert_eq!(resolve("former-leader", &view, &[], seed), Ok(vec![4]));
            assert_eq!(resolve("follower", &view, &[4], seed), Ok(vec![1]));
            assert_eq!(resolve("random", &view, &[1, 2, 3, 5], seed), Ok(vec![4]));
            assert_eq!(resolve("all", &view, &[], seed), Ok(vec![1, 2, 3, 4, 5]));
            assert_eq!(resolve("majority", &view, &[], seed).unwrap().len(), 3);
            assert_eq!(resolve("minority", &view, &[], seed).unwrap().len(), 2);
            let minority = resolve("minority-with-leader", &view, &[], seed).unwrap();
            assert!(minority.len() == 2 && minority.contains(&3), "{minority:?}");
        }
    }

    #[test]
    fn followers_are_told_apart_by_their_logs_and_acknowledgements_by_who_gave_them() {
        let mut view = view(&[
            (Some("follower"), 1),
            (Some("leader"), 1),
            (Some("follower"), 1),
            (Some("follower"), 1),
            (None, 0),
        ]);
        for (node, length) in view.nodes.iter_mut().zip([7, 9, 5, 7, 99]) {
            node.last_index = length;
        }
        for seed in 0..20 {
            assert_eq!(resolve("most-up-to-date", &view, &[], seed), Ok(vec![1]));
            assert_eq!(resolve("least-up-to-date", &view, &[], seed), Ok(vec![3]));
            let minority = resolve("minority-without-leader", &view, &[], seed).unwrap();
            assert!(
                minority.len() == 2 && !minority.contains(&2),
                "{minority:?}"
            );
        }
        let nobody = resolve("last-acknowledged", &view, &[], 0);
        assert_eq!(nobody, Err("nothing was acknowledged yet"));
        view.last_acknowledged = Some(5);
        assert_eq!(resolve("last-acknowledged", &view, &[], 0), Ok(vec![5]));
        view.nodes.clear();
        assert_eq!(
            resolve("most-up-to-date", &view, &[], 0),
            Err("no follower is known")
        );
    }

    #[test]
    fn who_holds_nothing_is_meant_only_by_its_own_name() {
        let follower = Some("follower");
        let view = view(&[
            (Some("leader"), 1),
            (follower, 1),
            (follower, 1),
            (follower, 1),
            (follower, 1),
            (Some("gateway"), 1),
            (Some("gateway"), 1),
            (Some("monitor"), 1),
        ]);
        for seed in 0..50 {
            let gateway = resolve("gateway", &view, &[6], seed);
            assert_eq!(gateway, Ok(vec![7]));
            assert_eq!(resolve("monitor", &view, &[], seed), Ok(vec![8]));
            for text in ["followers", "all", "majority", "minority", "random(5)"] {
                let chosen = resolve(text, &view, &[], seed).unwrap();
                assert!(chosen.iter().all(|node| *node <= 5), "{text}: {chosen:?}");
            }
        }
    }

    #[test]
    fn names_mean_whom_a_fault_hit() {
        let mut view = view(&[(Some("leader"), 1), (Some("follower"), 1)]);
        view.nodes[0].standbys = vec![2];
        for seed in 0..20 {
            assert_eq!(resolve("$victim", &view, &[], seed), Ok(vec![2, 5]));
            assert_eq!(
                resolve("others($victim)", &view, &[], seed),
                Ok(vec![1, 3, 4])
            );
            assert_eq!(resolve("one-of($victim)", &view, &[2], seed), Ok(vec![5]));
            let other = resolve("one-of(others($victim))", &view, &[1, 3], seed);
            assert_eq!(other, Ok(vec![4]));
            assert_eq!(
                resolve("synchronous-standby", &view, &[], seed),
                Ok(vec![2])
            );
        }
        assert!(resolve("$nobody", &view, &[], 0).is_err());
    }

    #[test]
    fn random_choices_keep_to_the_declared_targets() {
        let view = view(&[
            (Some("leader"), 1),
            (Some("follower"), 1),
            (Some("follower"), 1),
        ]);
        let budget = Budget {
            targets: Some([1, 3].into()),
            ..Budget::default()
        };
        for seed in 0..20 {
            for (text, expected) in [("follower", vec![3]), ("random(2)", vec![1, 3])] {
                let selector: Selector = text.parse().unwrap();
                let scene = Scene {
                    nodes: 3,
                    view: &view,
                    former_leader: None,
                    taken: &BTreeSet::new(),
                    names: &BTreeMap::new(),
                    budget: &budget,
                };
                let chosen = selector.resolve(&scene, &mut Pcg32::seed_from_u64(seed));
                assert_eq!(chosen, Ok(expected), "{text}");
            }
        }
    }

    #[test]
    fn what_nobody_fits_says_so() {
        let silent = view(&[(None, 0); 5]);
        assert_eq!(
            resolve("leader", &silent, &[], 1),
            Err("no leader is known")
        );
        assert_eq!(
            resolve("follower", &silent, &[], 1),
            Err("no follower is known")
        );
        assert_eq!(
            resolve("gateway", &silent, &[], 1),
            Err("no gateway is known")
        );
        assert_eq!(
            resolve("minority-with-leader", &silent, &[], 1),
            Err("no leader is known")
        );
    }

    #[test]
    fn round_trip() {
        for text in [
            "leader",
            "follower",
            "followers",
            "minority",
            "minority-with-leader",
            "majority",
            "all",
            "random",
            "random(3)",
            "former-leader",
            "gateway",
            "monitor",
            "n12",
            "[n1, n2]",
            "synchronous-standby",
            "$victim",
            "others($victim)",
            "one-of($victim-2)",
            "one-of(others($v_1))",
        ] {
            let selector: Selector = serde_yaml::from_str(text).expect(text);
            let written = serde_yaml::to_string(&selector).unwrap();
            assert_eq!(
                serde_yaml::from_str::<Selector>(&written).unwrap(),
                selector
            );
        }
        for text in [
            "n0",
            "n",
            "n01",
            "leaders",
            "random(0)",
            "random(x)",
            "[]",
            "[leader]",
            "3",
            "$",
            "$Victim",
            "$2",
            "others(victim)",
            "others(one-of($victim))",
            "one-of()",
        ] {
            assert!(serde_yaml::from_str::<Selector>(text).is_err(), "{text}");
        }
    }
}
