//! Faults of links between pods, in the pods' own networks.
//!
//! A link is cut, and packets are queued, where it ends: in the network of the receiver. A shaper
//! sits where it begins. Whoever sends also proves: its agent opens connections from within the
//! network of the sending pod, whatever the pod's own processes are up to.
//!
//! Clients outside the cluster come through the kubelet, which connects to the pod's own loopback. So
//! a link from them is cut there, and cannot be impaired: packets of loopback are not queued. Clients
//! in the pod of a Job are a pod like the others: the order names it as node 0.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nemesis::mechanism::firewall::{self, Cut};
use nemesis::mechanism::namespace::Namespace;

use super::fault::{Bench, Fault, until};
use super::impair::Held;
use super::protocol::{Path, Release, Target};
use super::undo::{By, Network, Undo, network_of};

/// How long it may take until an effect is seen.
pub(super) const PROVE_WITHIN: Duration = Duration::from_secs(6);
/// For so long after its order a fault may be waiting for its proof on some node.
const NUDGED: Duration = Duration::from_secs(20);
/// Nobody listens there.
pub(super) const DISCARD: u16 = 9;
/// How long it may take until a healed link carries something again.
const HEAL_WITHIN: Duration = Duration::from_secs(6);
/// No answer in this time is silence, where an answer takes less than a millisecond.
const SILENCE: Duration = Duration::from_millis(400);

pub(super) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn target(fault: &Fault, node: u16) -> Result<&Target, String> {
    let found = fault.order.pods.iter().find(|pod| pod.node == node);
    found.ok_or_else(|| format!("the order does not say which pod n{node} is"))
}

pub(super) fn address(fault: &Fault, node: u16) -> Result<IpAddr, String> {
    if node == 0 && !fault.order.clients_are_a_pod() {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    target(fault, node)?
        .ip
        .ok_or_else(|| format!("n{node} has no address"))
}

pub(super) fn is_local(fault: &Fault, node: u16) -> bool {
    fault.locals.iter().any(|local| local.target.node == node)
}

/// In whose network a link begins: for clients outside, the kubelet speaks from within that of the pod.
pub(super) fn start(fault: &Fault, path: Path) -> u16 {
    if path.from == 0 && !fault.order.clients_are_a_pod() {
        path.to
    } else {
        path.from
    }
}

/// The links that end here, by their end.
pub(super) fn incoming(fault: &Fault) -> BTreeMap<u16, Vec<Path>> {
    let mut by_end: BTreeMap<u16, Vec<Path>> = BTreeMap::new();
    for &path in fault
        .order
        .links
        .iter()
        .filter(|path| is_local(fault, path.to))
    {
        by_end.entry(path.to).or_default().push(path);
    }
    by_end
}

/// The links that begin here; those from clients outside begin where they end.
pub(super) fn outgoing(fault: &Fault) -> BTreeSet<Path> {
    let begins = |path: &&Path| is_local(fault, start(fault, **path));
    fault.order.links.iter().filter(begins).copied().collect()
}

/// The network of a pod of this node.
pub(super) fn network(bench: &Bench, fault: &Fault, node: u16) -> Result<Namespace, String> {
    let uid = &target(fault, node)?.uid;
    network_of(&bench.tree, uid).ok_or_else(|| format!("the network of n{node} was not found"))
}

/// What undoes something in the network of a pod.
pub(super) fn undo(
    fault: &Fault,
    node: u16,
    namespace: &Namespace,
    by: By,
) -> Result<Undo, String> {
    Ok(Undo::Network(Network {
        uid: target(fault, node)?.uid.clone(),
        identity: namespace.identity().map_err(said)?,
        fault: fault.number,
        by,
    }))
}

pub(super) fn cut(bench: &Bench, fault: &mut Fault, stop: &AtomicBool) -> Result<String, String> {
    let mut networks = Vec::new();
    for (node, paths) in incoming(fault) {
        let namespace = network(bench, fault, node)?;
        let cuts: Result<Vec<_>, String> = paths
            .iter()
            .map(|path| {
                Ok(Cut {
                    from: address(fault, path.from)?,
                    answers_too: path.from == 0,
                    link: path.to_string(),
                })
            })
            .collect();
        let undo = undo(fault, node, &namespace, By::Firewall)?;
        fault.will_undo(bench, undo)?;
        firewall::cut(&namespace, fault.number, &cuts?).map_err(said)?;
        networks.push(namespace);
    }
    let mut seen = Vec::new();
    for path in outgoing(fault) {
        until(PROVE_WITHIN, stop, || {
            match probe(bench, fault, path, SILENCE)? {
                Probe::Silent => Ok(()),
                answered @ Probe::Answered(_) => Err(format!("{path} is not cut: {answered}")),
            }
        })?;
        seen.push(format!("{path} gave no answer in {SILENCE:?}"));
    }
    for namespace in &networks {
        let dropped = until(PROVE_WITHIN, stop, || {
            let mut rules = firewall::rules(namespace).map_err(said)?;
            rules.retain(|rule| rule.fault == fault.number);
            let mut by_link: BTreeMap<&str, u64> = BTreeMap::new();
            for rule in &rules {
                *by_link.entry(&rule.link).or_default() += rule.dropped;
            }
            match by_link.iter().find(|(_, dropped)| **dropped == 0) {
                Some((link, _)) => Err(format!("nothing was dropped on {link}")),
                None if by_link.is_empty() => Err("the rules are gone".to_owned()),
                None => Ok(by_link
                    .iter()
                    .map(|(link, dropped)| format!("{link} {dropped}"))
                    .collect::<Vec<_>>()),
            }
        })?;
        seen.push(format!(
            "packets dropped by nftables: {}",
            dropped.join(", ")
        ));
    }
    Ok(seen.join("; "))
}

/// What came of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// It stood, or was refused, after this time: packets went both ways.
    Answered(Duration),
    /// Nothing came back.
    Silent,
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(took) => write!(f, "an answer came after {took:.1?}"),
            Self::Silent => f.write_str("no answer came"),
        }
    }
}

/// Connects over a link, from within the network where it begins.
pub(super) fn probe(
    bench: &Bench,
    fault: &Fault,
    path: Path,
    within: Duration,
) -> Result<Probe, String> {
    let begins = start(fault, path);
    let from = network(bench, fault, begins)?;
    let to = if begins == path.to { 0 } else { path.to };
    let to = SocketAddr::new(address(fault, to)?, fault.order.port);
    from.run(|| {
        let start = Instant::now();
        match TcpStream::connect_timeout(&to, within) {
            Ok(_) => Ok(Probe::Answered(start.elapsed())),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                    Ok(Probe::Answered(start.elapsed()))
                }
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(Probe::Silent),
                // Also that there is no way: a pod that is gone is not one that is cut off.
                _ => Err(format!("{path}: {error}")),
            },
        }
    })
    .map_err(said)?
}

/// Sends one small packet over each link that begins here, to nobody. Where a link ends, another
/// agent waits for something to count, and may have begun to when the probes from here were over.
fn nudge(bench: &Bench, fault: &Fault) {
    let between = |path: &Path| start(fault, *path) != path.to;
    for path in outgoing(fault).into_iter().filter(between) {
        let (Ok(from), Ok(to)) = (network(bench, fault, path.from), address(fault, path.to)) else {
            continue;
        };
        let send = move || {
            let any: IpAddr = match to {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.send_to(&[0], (to, DISCARD))
        };
        // It is to be lost.
        let _ = from.run(send);
    }
}

/// Why links are not hurt any more, if so.
pub(super) fn faded(bench: &Bench, fault: &Fault) -> Option<String> {
    if fault.begun.elapsed() < NUDGED {
        nudge(bench, fault);
    }
    for undo in &fault.record.undo {
        let Undo::Network(network) = undo else {
            continue;
        };
        let Some(namespace) = network.find(&bench.tree) else {
            return Some("a pod is gone, and the fault with its network".to_owned());
        };
        if network.by == By::Firewall {
            let rules = firewall::rules(&namespace);
            if rules.is_ok_and(|rules| rules.iter().all(|rule| rule.fault != fault.number)) {
                return Some("the rules were found to be gone before their time".to_owned());
            }
        }
    }
    let queues: BTreeMap<_, _> = fault
        .held
        .queues
        .iter()
        .map(|(path, queue, way)| (path.to, (queue, way)))
        .collect();
    for (queue, way) in queues.values() {
        if let Ok(Err(why)) = queue.stands(fault.number, &[**way]) {
            return Some(why);
        }
    }
    fault
        .held
        .shapers
        .iter()
        .find_map(|shaper| match shaper.stands(fault.number) {
            Ok(Err(why)) => Some(why),
            _ => None,
        })
}

pub(super) fn heal(
    bench: &Bench,
    fault: &mut Fault,
    release: Option<Release>,
) -> Result<String, String> {
    let mut why = Vec::new();
    for (_, queue, _) in &fault.held.queues {
        why.extend(queue.release(fault.number).err().map(said));
    }
    for shaper in &fault.held.shapers {
        why.extend(shaper.release(fault.number).err().map(said));
    }
    let mut undone = Vec::new();
    for undo in fault.record.undo.iter().rev() {
        let Undo::Network(network) = undo else {
            continue;
        };
        // The whole discipline of a network that other faults shape is theirs, too.
        if network.by != By::Shaper {
            why.extend(undo.carry_out(&bench.tree).err().map(said));
        }
        let uid = &network.uid;
        let pod = fault.order.pods.iter().find(|pod| pod.uid == *uid);
        undone.extend(pod.map(|pod| format!("n{}", pod.node)));
    }
    // A pod that is gone took all with it, and tools fail there.
    why.retain(|_| {
        fault.record.undo.iter().any(|undo| match undo {
            Undo::Network(network) => network.find(&bench.tree).is_some(),
            _ => false,
        })
    });
    if let Some(why) = why.into_iter().next() {
        return Err(why);
    }
    // The last fault that uses a queue or a shaper takes it along.
    fault.held = Held::default();
    let mut seen = Vec::new();
    if !undone.is_empty() {
        seen.push(format!("no rule is left at {}", undone.join(", ")));
    }
    if release == Some(Release::Alone) {
        let go = AtomicBool::new(false);
        for path in outgoing(fault) {
            if network(bench, fault, start(fault, path)).is_err() {
                seen.push(format!("{path}: its pod is gone"));
                continue;
            }
            let took = until(HEAL_WITHIN, &go, || {
                match probe(bench, fault, path, SILENCE)? {
                    Probe::Answered(took) => Ok(took),
                    Probe::Silent => Err(format!(
                        "{path} gives no answer, though nothing of this fault is left here"
                    )),
                }
            })?;
            seen.push(format!("{path} answers in {took:.1?}"));
        }
    } else if !fault.order.links.is_empty() {
        seen.push("no link was tried, as other faults stand or nobody asks".to_owned());
    }
    Ok(seen.join("; "))
}
