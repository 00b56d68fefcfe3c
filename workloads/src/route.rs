//! Which node a client thread asks.

use std::fmt;
use std::str::FromStr;

use checkers::Outcome;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::operation::Completion;

/// How client threads choose a node. In an experiment: `leader`, `any`, `spread`, `split`,
/// `gateway` or a node, `n3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The leader that the thread believes in.
    #[default]
    Leader,
    /// A random node for every operation.
    Any,
    /// Always this node.
    Fixed(u16),
    /// One node for each thread, all nodes in turn.
    Spread,
    /// Writes to the leader that the thread believes in, reads to a random node for every
    /// operation: read/write splitting, as a proxy in front of replicas does it.
    Split,
    /// The gateways in turn, operation by operation.
    Gateway,
}

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no client policy; expected leader, any, spread, split, gateway or a node such as n3"
)]
pub struct PolicyError {
    /// What was written.
    pub text: String,
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Ok(match text {
            "leader" => Self::Leader,
            "any" => Self::Any,
            "spread" => Self::Spread,
            "split" => Self::Split,
            "gateway" => Self::Gateway,
            _ => Self::Fixed(parse_node(text).ok_or_else(|| PolicyError {
                text: text.to_owned(),
            })?),
        })
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Through a visitor, so that an error gets the line and field of an experiment file.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PolicyVisitor)
    }
}

struct PolicyVisitor;

impl Visitor<'_> for PolicyVisitor {
    type Value = Policy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client policy: leader, any, spread, split, gateway or a node such as n3")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Policy, E> {
        text.parse().map_err(E::custom)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Any => f.write_str("any"),
            Self::Fixed(node) => write!(f, "n{node}"),
            Self::Spread => f.write_str("spread"),
            Self::Split => f.write_str("split"),
            Self::Gateway => f.write_str("gateway"),
        }
    }
}

/// A node by its name: `n3` is 3.
pub(crate) fn parse_node(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('n')?;
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// How often, on average, a thread asks a node who the leader is: 1 s, in nanoseconds.
pub const REFRESH_NS: u64 = 1_000_000_000;

/// Chooses nodes. Under [`Policy::Leader`] every thread has its own belief, as every client of a
/// real deployment does: it follows hints, tries another node after a failure without one, and now
/// and then asks a random node who leads (service discovery). That is how clients come to be on
/// both sides of a split brain.
#[derive(Clone, Debug)]
pub struct Router {
    policy: Policy,
    nodes: u16,
    /// Gateways are the nodes after these.
    gateways: u16,
    /// Which of them is asked next.
    turn: u16,
    refresh: u64,
    random: Pcg64Mcg,
    threads: Vec<Belief>,
    /// Who each node said leads, by node number less one.
    said: Vec<Option<u16>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    leader: Option<u16>,
    refresh_at: u64,
}

impl Router {
    /// For a cluster of this size (at least 1).
    pub fn new(policy: Policy, nodes: u16, seed: u64) -> Self {
        Self {
            policy,
            nodes: nodes.max(1),
            gateways: 0,
            turn: 0,
            refresh: REFRESH_NS,
            random: Pcg64Mcg::seed_from_u64(seed),
            threads: Vec::new(),
            said: Vec::new(),
        }
    }

    /// With so many gateways after the replicas, at least 1 for [`Policy::Gateway`].
    #[must_use]
    pub fn with_gateways(mut self, gateways: u16) -> Self {
        self.gateways = gateways;
        self
    }

    /// With another mean time between two discoveries of a thread, in nanoseconds.
    #[must_use]
    pub fn with_refresh(mut self, refresh: u64) -> Self {
        self.refresh = refresh;
        self
    }

    /// From now on asks the leader, whatever the policy was: the final reads must show what the
    /// cluster holds, not what one follower does.
    pub fn follow_leader(&mut self) {
        self.policy = Policy::Leader;
    }

    /// What the nodes last said: each with the leader that it believes in. A node that does not
    /// answer, or is not listed, knows of none.
    pub fn observe(&mut self, view: &[(u16, Option<u16>)]) {
        self.said = vec![None; usize::from(self.nodes)];
        for &(node, leader) in view {
            let known = leader.filter(|&leader| self.exists(leader));
            if self.exists(node) {
                self.said[usize::from(node) - 1] = known;
            }
        }
    }

    /// The node that a thread is to ask at this time (nanoseconds of the run).
    pub fn choose(&mut self, thread: u32, now: u64) -> u16 {
        match self.policy {
            Policy::Any => self.any(),
            Policy::Fixed(node) => node,
            Policy::Gateway => {
                self.turn = self.turn % self.gateways.max(1) + 1;
                self.nodes + self.turn
            }
            Policy::Spread => (thread % u32::from(self.nodes)) as u16 + 1,
            Policy::Leader | Policy::Split => {
                if now >= self.belief(thread).refresh_at {
                    self.discover(thread, now);
                }
                match self.belief(thread).leader {
                    Some(leader) => leader,
                    None => self.any(),
                }
            }
        }
    }

    /// The node that a thread is to ask for a read.
    pub fn choose_to_read(&mut self, thread: u32, now: u64) -> u16 {
        match self.policy {
            Policy::Split => self.any(),
            _ => self.choose(thread, now),
        }
    }

    /// What the answer of a node tells a thread.
    pub fn learn(&mut self, thread: u32, node: u16, completion: &Completion) {
        if !matches!(self.policy, Policy::Leader | Policy::Split) {
            return;
        }
        let from_leader = completion
            .witness
            .as_ref()
            .is_some_and(|witness| &*witness.role == "leader");
        let hint = completion
            .leader_hint
            .filter(|&hint| hint != node && self.exists(hint));
        let leader = match completion.outcome {
            // A leader that refuses (a compare-and-set that does not match) is still the leader.
            Outcome::Ok | Outcome::Fail if from_leader => node,
            // A follower that answers a local read says nothing about the leader.
            Outcome::Ok => return,
            Outcome::Fail | Outcome::Info => match hint {
                Some(hint) => hint,
                // Somebody else's silence says nothing about the leader.
                None if self.policy == Policy::Split
                    && self.belief(thread).leader != Some(node) =>
                {
                    return;
                }
                None => self.another(node),
            },
        };
        self.belief(thread).leader = Some(leader);
    }

    fn discover(&mut self, thread: u32, now: u64) {
        let asked = self.any();
        let said = self.said.get(usize::from(asked) - 1).copied().flatten();
        // Between half and one and a half of the mean, so that threads do not move as one.
        let jitter = self.random.random_range(0..=self.refresh);
        let pause = (self.refresh / 2).saturating_add(jitter).max(1);
        let belief = self.belief(thread);
        belief.leader = said.or(belief.leader);
        belief.refresh_at = now.saturating_add(pause);
    }

    fn belief(&mut self, thread: u32) -> &mut Belief {
        let place = thread as usize;
        if place >= self.threads.len() {
            self.threads.resize(place + 1, Belief::default());
        }
        &mut self.threads[place]
    }

    fn any(&mut self) -> u16 {
        self.random.random_range(1..=self.nodes)
    }

    fn another(&mut self, than: u16) -> u16 {
        if self.nodes == 1 || !self.exists(than) {
            return self.any();
        }
        let other = self.random.random_range(1..self.nodes);
        if other >= than { other + 1 } else { other }
    }

    fn exists(&self, node: u16) -> bool {
        (1..=self.nodes).contains(&node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use checkers::Value;

    use super::*;
    use crate::operation::Witness;

    const SECOND: u64 = 1_000_000_000;

    fn answer(outcome: Outcome, role: Option<&str>, hint: Option<u16>) -> Completion {
        Completion {
            outcome,
            value: Value::Nil,
            witness: role.map(|role| Witness {
                node: "n1".into(),
                role: role.into(),
                epoch: 1,
            }),
            error: None,
            leader_hint: hint,
            session: None,
            context: None,
            may_repeat: None,
        }
    }

    #[test]
    fn policies_round_trip() {
        for text in ["leader", "any", "spread", "split", "n3"] {
            let policy: Policy = serde_json::from_str(&format!("\"{text}\"")).expect(text);
            assert_eq!(policy.to_string(), text);
            assert_eq!(
                serde_json::to_string(&policy).unwrap(),
                format!("\"{text}\"")
            );
        }
        assert!(serde_json::from_str::<Policy>("3").is_err());
        for text in ["n0", "n", "n+1", "3", "leaders"] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }

    #[test]
    fn fixed_spread_and_any() {
        let mut fixed = Router::new(Policy::Fixed(3), 5, 1);
        fixed.learn(0, 3, &answer(Outcome::Fail, Some("follower"), Some(1)));
        assert_eq!(fixed.choose(0, 0), 3);
        let mut spread = Router::new(Policy::Spread, 3, 1);
        let nodes: Vec<u16> = (0..6).map(|thread| spread.choose(thread, 0)).collect();
        assert_eq!(nodes, [1, 2, 3, 1, 2, 3]);
        let mut any = Router::new(Policy::Any, 5, 1);
        let nodes: BTreeSet<u16> = (0..100).map(|_| any.choose(0, 0)).collect();
        assert_eq!(nodes, (1..=5).collect());
    }

    #[test]
    fn splitting_writes_to_the_leader_and_reads_anywhere() {
        let mut router = Router::new(Policy::Split, 5, 1);
        router.choose(0, 0);
        router.learn(0, 2, &answer(Outcome::Ok, Some("leader"), None));
        assert_eq!(router.choose(0, 0), 2);
        let nodes: BTreeSet<u16> = (0..100).map(|_| router.choose_to_read(0, 0)).collect();
        assert_eq!(nodes, (1..=5).collect());
        // A read that another does not answer says nothing of the leader, one of its own does.
        router.learn(0, 4, &answer(Outcome::Info, None, None));
        assert_eq!(router.choose(0, 0), 2);
        router.learn(0, 2, &answer(Outcome::Info, None, None));
        assert_ne!(router.choose(0, 0), 2);
    }

    #[test]
    fn final_reads_go_to_the_leader_whatever_the_policy_was() {
        for policy in [Policy::Fixed(3), Policy::Spread, Policy::Any] {
            let mut router = Router::new(policy, 5, 1);
            router.choose(0, 0);
            router.observe(&[1, 2, 3, 4, 5].map(|node| (node, Some(2))));
            router.follow_leader();
            assert!((0..10).all(|thread| router.choose(thread, SECOND) == 2));
        }
    }

    #[test]
    fn a_belief_follows_answers_and_hints() {
        for seed in 0..50 {
            let mut router = Router::new(Policy::Leader, 5, seed);
            let now = 0;
            router.choose(0, now);
            router.learn(0, 2, &answer(Outcome::Ok, Some("leader"), None));
            assert_eq!(router.choose(0, now), 2);
            // A compare-and-set that does not match is the leader's answer all the same.
            router.learn(0, 2, &answer(Outcome::Fail, Some("leader"), None));
            assert_eq!(router.choose(0, now), 2);
            // A local read by a follower says nothing.
            router.learn(0, 4, &answer(Outcome::Ok, Some("follower"), None));
            assert_eq!(router.choose(0, now), 2);
            router.learn(0, 2, &answer(Outcome::Fail, Some("follower"), Some(4)));
            assert_eq!(router.choose(0, now), 4);
            router.learn(0, 4, &answer(Outcome::Info, None, None));
            assert_ne!(router.choose(0, now), 4);
            // Nobody is his own hint, and nobody is led by a stranger.
            for hint in [3, 0, 9] {
                router.learn(0, 3, &answer(Outcome::Fail, Some("follower"), Some(hint)));
                let next = router.choose(0, now);
                assert!((1..=5).contains(&next) && next != 3, "{next}");
            }
        }
    }

    #[test]
    fn discovery_brings_clients_to_both_sides_of_a_split_brain() {
        // n1 leads n1 and n2; n3 leads the others; n5 does not answer.
        let view = [
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(3)),
            (4, Some(3)),
            (5, None),
        ];
        let mut router = Router::new(Policy::Leader, 5, 4);
        router.observe(&view);
        let threads = 0..40;
        for second in 0..5 {
            let now = second * 2 * SECOND;
            let nodes: BTreeSet<u16> = threads.clone().map(|t| router.choose(t, now)).collect();
            assert!(nodes.contains(&1) && nodes.contains(&3), "{nodes:?}");
        }
        // When all agree, all arrive, though some ask n5 first.
        router.observe(&(1..=5).map(|node| (node, Some(3))).collect::<Vec<_>>());
        for thread in threads.clone() {
            assert_eq!(router.choose(thread, 20 * SECOND), 3);
        }
        // Between two discoveries a belief stays.
        router.observe(&(1..=5).map(|node| (node, Some(1))).collect::<Vec<_>>());
        for thread in threads {
            assert_eq!(router.choose(thread, 20 * SECOND + SECOND / 2 - 1), 3);
            assert_eq!(router.choose(thread, 20 * SECOND + SECOND * 3 / 2), 1);
        }
    }

    #[test]
    fn gateways_are_asked_in_turn_and_the_leader_at_the_end() {
        let mut router = Router::new(Policy::Gateway, 5, 4).with_gateways(2);
        let asked: Vec<u16> = (0..4).map(|thread| router.choose(thread, 0)).collect();
        assert_eq!(asked, [6, 7, 6, 7]);
        router.follow_leader();
        router.observe(&[(6, Some(6)), (1, Some(2))]);
        assert!((0..50).all(|thread| router.choose(thread, 0) <= 5));
    }

    #[test]
    fn a_single_node_is_asked_whatever_it_says() {
        let mut router = Router::new(Policy::Leader, 1, 4);
        router.learn(0, 1, &answer(Outcome::Info, None, None));
        assert_eq!(router.choose(0, 0), 1);
    }

    #[test]
    fn the_same_seed_and_calls_choose_the_same() {
        let go = |seed| -> Vec<u16> {
            let mut router = Router::new(Policy::Leader, 5, seed);
            let mut nodes = Vec::new();
            for step in 0..200_u32 {
                let node = router.choose(step % 7, u64::from(step) * SECOND / 10);
                router.learn(step % 7, node, &answer(Outcome::Info, None, None));
                nodes.push(node);
            }
            nodes
        };
        assert_eq!(go(3), go(3));
        assert_ne!(go(3), go(4));
    }
}
