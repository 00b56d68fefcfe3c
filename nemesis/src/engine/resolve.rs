//! From an entry with roles to an action on nodes and links.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand_pcg::Pcg32;

use super::description::{FaultDescription, describe};
use crate::action::{
    Action, ClockFault, Command, DiskFault, Endpoint, Impairment, Link, Node, NodeView,
    Orchestration, View,
};
use crate::fault::{Fault, Shape};
use crate::schedule::Entry;
use crate::selector::Scene;
use crate::shape::{cut_links, first_side, slow_links};

/// A fault with every role replaced by nodes.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// The nodes hit; none for a majorities ring.
    pub target: Option<Vec<Node>>,
    /// All nodes, for the shapes that divide them.
    pub order: Option<Vec<Node>>,
    /// What the substrate is to do.
    pub action: Action,
    /// The same in words.
    pub description: FaultDescription,
    /// Nodes that no other fault may take down meanwhile.
    pinned: Vec<Node>,
}

/// Replaces roles by nodes, or says why that is impossible at the moment.
pub(super) fn resolve(
    entry: &Entry,
    scene: &Scene<'_>,
    random: &mut Pcg32,
) -> Result<Resolved, &'static str> {
    let selector = entry.target.as_ref();
    let members;
    let mut choice = scene.clone();
    if entry.fault.is_of_members() {
        members = members_of(scene.view);
        choice.view = &members;
    }
    let mut target = selector
        .map(|selector| selector.resolve(&choice, random))
        .transpose()?;
    if entry.fault == Fault::Drain {
        target = target.map(|hit| sharing_hosts(scene.view, hit));
    }
    let mut order = None;
    if let Fault::Partition(shape) = entry.fault
        && shape.ordered()
    {
        let wanted = target.as_deref().unwrap_or(&[]);
        let nodes = entry
            .order
            .clone()
            .unwrap_or_else(|| arrange(shape, scene, wanted, random));
        target = hit_by(shape, &nodes, wanted.len());
        order = Some(nodes);
    }
    let hit = target.as_deref().unwrap_or(&[]);
    let action = action(&entry.fault, scene, hit, order.as_deref(), random)?;
    if links_of(&action).is_empty() && down(&action).is_empty() && commanded(&action).is_empty() {
        return Err("it would touch no link");
    }
    let pinned = match &entry.fault {
        Fault::Partition(shape) if shape.ordered() => Vec::new(),
        Fault::Partition(_)
        | Fault::Slow { .. }
        | Fault::Loss(_)
        | Fault::Reorder(_)
        | Fault::Duplicate(_) => hit.to_vec(),
        _ => Vec::new(),
    };
    Ok(Resolved {
        description: describe(entry, hit, order.as_deref(), &action),
        target,
        order,
        action,
        pinned,
    })
}

impl Resolved {
    /// The nodes that this fault takes down or forbids to.
    pub fn taken(&self, taken: &mut BTreeSet<Node>) {
        taken.extend(down(&self.action).iter().chain(&self.pinned));
    }

    /// Whether this fault, under way, stands in the way of another. See the
    /// [module](super#when-faults-meet).
    pub fn blocks(&self, other: &Self) -> bool {
        let (down_mine, down_other) = (down(&self.action), down(&other.action));
        let (links_mine, links_other) = (links_of(&self.action), links_of(&other.action));
        let ends = |link: &Link, node: Node| {
            link.from == Endpoint::Node(node) || link.to == Endpoint::Node(node)
        };
        down_other
            .iter()
            .any(|node| down_mine.contains(node) || self.pinned.contains(node))
            || links_other.iter().any(|link| {
                links_mine.contains(link) || down_mine.iter().any(|&node| ends(link, node))
            })
            || commanded(&other.action).iter().any(|node| {
                // One that is down cannot be given anything to do, but it can be let go.
                let needed = match &other.action {
                    Action::Admin(asked, Command::TakeHome(_)) => Some(asked),
                    Action::Admin(_, Command::TransferLeadership(to)) => Some(to),
                    _ => None,
                };
                commanded(&self.action).contains(node)
                    || needed.is_some_and(|node| down_mine.contains(node))
            })
    }
}

impl Resolved {
    /// The same of a fault inside this one, which may hit what this one has hit: but no probe proves
    /// a change to the links of a node that is down, nor one to a link that is changed already.
    pub fn blocks_inside(&self, inner: &Self) -> bool {
        let links_mine = links_of(&self.action);
        let down_mine = down(&self.action);
        links_of(&inner.action).iter().any(|link| {
            links_mine.contains(link)
                || down_mine.iter().any(|&node| {
                    link.from == Endpoint::Node(node) || link.to == Endpoint::Node(node)
                })
        })
    }
}

/// All nodes that a target can be cut off from: the replicas, and the monitor, which is one of
/// their own. Gateways are on the side of the clients, which every partition leaves alone unless it
/// says otherwise.
fn natural(scene: &Scene<'_>, hit: &[Node]) -> Vec<Node> {
    let monitors = scene.view.nodes.iter();
    let monitors = monitors.filter(|node| node.role.as_deref() == Some("monitor"));
    let mut nodes: Vec<Node> = (1..=scene.nodes)
        .chain(monitors.map(|node| node.node))
        .chain(hit.iter().copied())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The view without the nodes that know of no leader: one that was never let in is nobody's
/// follower, whatever it calls itself.
fn members_of(view: &View) -> View {
    let mut view = view.clone();
    view.nodes.retain(|node| node.leader.is_some());
    view
}

/// These nodes, and all others on their hosts: a host is drained of all.
fn sharing_hosts(view: &View, mut hit: Vec<Node>) -> Vec<Node> {
    let host = |node: Node| {
        let of = view.nodes.iter().find(|view| view.node == node)?;
        of.host.as_deref()
    };
    let hosts: BTreeSet<&str> = hit.iter().filter_map(|&node| host(node)).collect();
    let there = |of: &&NodeView| of.host.as_deref().is_some_and(|host| hosts.contains(host));
    hit.extend(view.nodes.iter().filter(there).map(|of| of.node));
    hit.sort_unstable();
    hit.dedup();
    hit
}

/// What an operator is to ask whom.
fn command(
    fault: &Fault,
    hit: &[Node],
    scene: &Scene<'_>,
    random: &mut Pcg32,
) -> Result<Action, &'static str> {
    let &[node] = hit else {
        return Err("one node is to be meant");
    };
    let leader = scene.view.leader().ok_or("no leader is known");
    Ok(match *fault {
        Fault::MoveHome { to } => {
            let mut others: Vec<Node> = (1..=scene.nodes).filter(|&other| other != node).collect();
            others.shuffle(random);
            others.sort_by_key(|node| scene.taken.contains(node));
            let to = to.or(others.first().copied()).ok_or("there is one node")?;
            if to == node {
                return Err("it is its own home already");
            }
            Action::Admin(to, Command::TakeHome(node))
        }
        Fault::AddMember => Action::Admin(leader?, Command::AddMember(node)),
        Fault::RemoveMember => Action::Admin(leader?, Command::RemoveMember(node)),
        Fault::ReplaceMember { by } if by == node => return Err("it would replace itself"),
        Fault::ReplaceMember { by } => Action::Admin(leader?, Command::ReplaceMember(node, by)),
        _ => {
            let leader = leader?;
            if leader == node {
                return Err("it leads already");
            }
            Action::Admin(leader, Command::TransferLeadership(node))
        }
    })
}

fn action(
    fault: &Fault,
    scene: &Scene<'_>,
    hit: &[Node],
    order: Option<&[Node]>,
    random: &mut Pcg32,
) -> Result<Action, &'static str> {
    Ok(match fault {
        Fault::Kill => Action::Kill(hit.to_vec()),
        Fault::PowerLoss => Action::PowerLoss(hit.to_vec()),
        Fault::Pause => Action::Pause(hit.to_vec()),
        Fault::Wipe => Action::Wipe(hit.to_vec()),
        Fault::Upgrade => Action::Upgrade(hit.to_vec()),
        Fault::Partition(shape) => {
            let natural = natural(scene, hit);
            Action::Cut(cut_links(*shape, order.unwrap_or(&natural), hit))
        }
        Fault::Slow {
            links,
            latency,
            jitter,
            bandwidth,
        } => Action::Impair {
            links: slow_links(*links, scene.nodes, hit),
            impairment: Impairment {
                latency_ms: millis(*latency),
                jitter_ms: millis(*jitter),
                bandwidth_kib_s: bandwidth.map(|b| b.kib_s),
                ..Impairment::default()
            },
        },
        Fault::Loss(disturbance) | Fault::Reorder(disturbance) | Fault::Duplicate(disturbance) => {
            let percent = disturbance.percent.get();
            let mut impairment = Impairment::default();
            match fault {
                Fault::Loss(_) => impairment.loss_percent = percent,
                Fault::Reorder(_) => impairment.reorder_percent = percent,
                _ => impairment.duplicate_percent = percent,
            }
            let links = slow_links(disturbance.links, scene.nodes, hit);
            Action::Impair { links, impairment }
        }
        Fault::Crash { point } => Action::Crash(hit.to_vec(), *point),
        Fault::Cpu { share } => Action::Cpu(hit.to_vec(), share.get()),
        Fault::Memory { mib } => Action::Memory(hit.to_vec(), *mib),
        Fault::TornWrite => Action::TornWrite(hit.to_vec()),
        Fault::BitFlip { file } => Action::BitFlip(hit.to_vec(), *file),
        Fault::DiskFull => Action::Disk(hit.to_vec(), DiskFault::Full),
        Fault::ReadOnly => Action::Disk(hit.to_vec(), DiskFault::ReadOnly),
        Fault::ThrottleDisk { bandwidth } => Action::ThrottleDisk(hit.to_vec(), bandwidth.kib_s),
        Fault::SlowDisk { latency } => {
            Action::Disk(hit.to_vec(), DiskFault::Slow(millis(*latency)))
        }
        Fault::FsyncError => Action::Disk(hit.to_vec(), DiskFault::FsyncError),
        Fault::Rollback { age } => Action::Rollback(hit.to_vec(), millis(*age)),
        Fault::ClockJump { by_ms } => Action::Clock(hit.to_vec(), ClockFault::Jump(*by_ms)),
        Fault::ClockDrift { ppm } => Action::Clock(hit.to_vec(), ClockFault::Drift(*ppm)),
        Fault::ClockStrobe { by_ms, every } => {
            let (by_ms, every_ms) = (*by_ms, millis(*every));
            Action::Clock(hit.to_vec(), ClockFault::Strobe { by_ms, every_ms })
        }
        Fault::Downgrade => Action::Downgrade(hit.to_vec()),
        Fault::Drain => Action::Orchestrate(hit.to_vec(), Orchestration::Drain),
        Fault::Scale => Action::Orchestrate(hit.to_vec(), Orchestration::Scale),
        Fault::RollingRestart => Action::Orchestrate(hit.to_vec(), Orchestration::RollingRestart),
        Fault::NoEndpoints => Action::Orchestrate(hit.to_vec(), Orchestration::NoEndpoints),
        Fault::Snapshot => match hit {
            &[node] => Action::Admin(node, Command::Snapshot(node)),
            _ => return Err("one node is to be meant"),
        },
        Fault::MoveHome { .. }
        | Fault::AddMember
        | Fault::RemoveMember
        | Fault::ReplaceMember { .. }
        | Fault::TransferLeadership => command(fault, hit, scene, random)?,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// All nodes in a random order, with the target in its place in the shape.
fn arrange(shape: Shape, scene: &Scene<'_>, target: &[Node], random: &mut Pcg32) -> Vec<Node> {
    let nodes = scene.nodes;
    let mut all: Vec<Node> = (1..=nodes).filter(|node| !target.contains(node)).collect();
    all.shuffle(random);
    // Stable: of two halves it is the first that is hurt.
    all.sort_by_key(|&node| !scene.budget.covers(node));
    let place = match shape {
        Shape::Bridge if !target.is_empty() => usize::from(nodes.saturating_sub(1) / 2),
        _ => 0,
    };
    let place = place.min(all.len());
    all.splice(place..place, target.iter().copied());
    all
}

/// The nodes that a shape over this order is said to hit, `wanted` of them at least.
fn hit_by(shape: Shape, order: &[Node], wanted: usize) -> Option<Vec<Node>> {
    match shape {
        Shape::Halves => {
            let side = first_side(order.len(), wanted).min(order.len());
            let mut half = order[..side].to_vec();
            half.sort_unstable();
            Some(half)
        }
        Shape::Bridge => {
            let bridge = order.get(order.len().saturating_sub(1) / 2);
            bridge.map(|&node| vec![node])
        }
        _ => None,
    }
}

/// The nodes that an action takes down.
pub(super) fn down(action: &Action) -> &[Node] {
    match action {
        Action::Kill(nodes)
        | Action::PowerLoss(nodes)
        | Action::Wipe(nodes)
        | Action::Upgrade(nodes)
        | Action::Pause(nodes)
        | Action::Crash(nodes, _)
        | Action::Memory(nodes, _)
        | Action::Cpu(nodes, _)
        | Action::TornWrite(nodes)
        | Action::BitFlip(nodes, _)
        | Action::Rollback(nodes, _)
        | Action::Disk(nodes, _)
        | Action::ThrottleDisk(nodes, _)
        | Action::Clock(nodes, _)
        | Action::Downgrade(nodes)
        | Action::Orchestrate(nodes, _) => nodes,
        Action::Cut(_) | Action::Impair { .. } | Action::Admin(..) => &[],
    }
}

/// The links that an action touches.
pub(super) fn links_of(action: &Action) -> &[Link] {
    match action {
        Action::Cut(links) | Action::Impair { links, .. } => links,
        _ => &[],
    }
}

/// The nodes that a command names.
pub(super) fn commanded(action: &Action) -> Vec<Node> {
    match action {
        Action::Admin(_, command) => command.nodes(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;

    use super::*;
    use crate::{Endpoint, Schedule};

    /// Three replicas, led by the first, a gateway and the monitor.
    fn view() -> View {
        let roles = ["leader", "follower", "follower", "gateway", "monitor"];
        let nodes = roles.iter().zip(1..).map(|(role, node)| NodeView {
            role: Some((*role).to_owned()),
            ..NodeView::silent(node)
        });
        View {
            nodes: nodes.collect(),
            ..View::default()
        }
    }

    /// The nodes that are cut off from the target, one way or the other.
    fn cut_from(target: &str) -> Vec<Node> {
        let text =
            format!("- {{at: 1s, for: 1s, fault: partition, shape: isolate, target: {target}}}");
        let schedule = Schedule::parse(&text).unwrap();
        let scene = Scene {
            nodes: 3,
            view: &view(),
            former_leader: None,
            taken: &BTreeSet::new(),
            names: &BTreeMap::new(),
            budget: &crate::Budget::default(),
        };
        let mut random = Pcg32::seed_from_u64(1);
        let resolved = resolve(&schedule.faults[0], &scene, &mut random).unwrap();
        let hit = resolved.target.unwrap();
        let ends =
            links_of(&resolved.action)
                .iter()
                .filter_map(|link| match (link.from, link.to) {
                    (Endpoint::Node(from), Endpoint::Node(to)) if hit.contains(&from) => Some(to),
                    _ => None,
                });
        ends.collect()
    }

    #[test]
    fn a_host_is_drained_of_all_its_nodes() {
        let mut view = view();
        for (node, host) in view.nodes.iter_mut().zip(["a", "b", "a"]) {
            node.host = Some(host.to_owned());
        }
        assert_eq!(sharing_hosts(&view, vec![3]), [1, 3]);
        assert_eq!(sharing_hosts(&view, vec![2]), [2]);
        // Nothing is known of the hosts of the last two, so they share none.
        assert_eq!(sharing_hosts(&view, vec![5]), [5]);
    }

    #[test]
    fn isolation_parts_a_node_from_replicas_and_monitor_but_not_from_gateways() {
        assert_eq!(cut_from("leader"), [2, 3, 5]);
        assert_eq!(cut_from("monitor"), [1, 2, 3]);
        assert_eq!(cut_from("gateway"), [1, 2, 3, 5]);
    }
}
