//! Links between pods that are slow, narrow or lossy: by a queue of packets where they end, or a
//! shaper where they begin.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use nemesis::Impairment;
use nemesis::mechanism::namespace::Namespace;
use nemesis::mechanism::queue::{Counts, Queue, Way};
use nemesis::mechanism::shaper::{self, Kind, Match, Shaper};
use nemesis::mechanism::{Available, tool};

use super::fault::{Bench, Fault, until};
use super::links::{
    DISCARD, PROVE_WITHIN, Probe, address, incoming, network, outgoing, probe, said, undo,
};
use super::protocol::Path;
use super::undo::{By, INTERFACE};

/// How long a connection over an impaired link may take.
const SLOW: Duration = Duration::from_secs(3);
/// A throttled link is kept busy for about so long before it is measured.
const BUSY: Duration = Duration::from_millis(400);
/// Bytes of one packet of that load.
const PACKET: usize = 1400;
/// At most so many bytes are sent to keep a link busy.
const LOAD_MAX: u64 = 4 << 20;

/// Queues and shapers that are in use, by network: one of each in a network.
#[derive(Debug, Default)]
pub(super) struct Networks {
    queues: Mutex<BTreeMap<(u64, u64), Weak<Queue>>>,
    shapers: Mutex<BTreeMap<(u64, u64), Weak<Shaper>>>,
}

/// What one fault uses of them; they end with the last fault that does.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub queues: Vec<(Path, Arc<Queue>, Way)>,
    pub shapers: Vec<Arc<Shaper>>,
}

/// What impairs links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Queue,
    Shaper(Kind),
}

const NFQUEUE: &str = "nfqueue";

impl Via {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => NFQUEUE,
            Self::Shaper(kind) => kind.name(),
        }
    }

    /// Whether it can do this here, tried in a network that ends with the trial.
    fn can(self, asked: Impairment) -> Available {
        static QUEUE: OnceLock<Available> = OnceLock::new();
        static NETEM: OnceLock<Available> = OnceLock::new();
        static TBF: OnceLock<Available> = OnceLock::new();
        let trial = |program, line: &str| -> Available {
            let words: Vec<_> = line.split(' ').collect();
            let network =
                Namespace::create().map_err(|error| format!("no network can be made: {error}"))?;
            let done = network.run(|| tool::run(program, &words)).map_err(said)?;
            done.map(drop).map_err(said)
        };
        let discipline = |line: &str| trial("tc", &format!("qdisc add dev lo root {line}"));
        match self {
            Self::Queue => QUEUE
                .get_or_init(|| trial("iptables", "-w -t mangle -A INPUT -i eth0 -m comment --comment quorate -j NFQUEUE --queue-num 1 --queue-bypass"))
                .clone(),
            Self::Shaper(kind) => {
                kind.can(asked)?;
                match kind {
                    // It counts neither, so that neither could be proven.
                    Kind::Netem if asked.loss_percent + asked.reorder_percent + asked.duplicate_percent > 0 => {
                        Err("what netem loses, reorders or repeats in a pod is not counted".to_owned())
                    }
                    Kind::Netem => NETEM.get_or_init(|| discipline("netem delay 1ms")).clone(),
                    Kind::Tbf => TBF.get_or_init(|| discipline("tbf rate 1mbit burst 3000 latency 1s")).clone(),
                }
            }
        }
    }

    /// The one asked for, or the first that works here.
    fn choose(via: Option<&str>, asked: Impairment) -> Result<Self, String> {
        let all = [
            Self::Queue,
            Self::Shaper(Kind::Netem),
            Self::Shaper(Kind::Tbf),
        ];
        let mut obstacles = Vec::new();
        for one in all
            .into_iter()
            .filter(|one| via.is_none_or(|via| via == one.name()))
        {
            match one.can(asked) {
                Ok(()) => return Ok(one),
                Err(why) => obstacles.push(format!("{}: {why}", one.name())),
            }
        }
        match via {
            Some(via) if obstacles.is_empty() => Err(format!(
                "links are impaired by nfqueue, netem or tbf, not by {via}"
            )),
            _ => Err(obstacles.join("; ")),
        }
    }
}

impl Networks {
    fn queue(&self, namespace: Namespace) -> Result<Arc<Queue>, String> {
        let mut known = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, queue| queue.strong_count() > 0);
        let identity = namespace.identity().map_err(said)?;
        if let Some(queue) = known.get(&identity).and_then(Weak::upgrade) {
            return Ok(queue);
        }
        let namespace = Arc::new(namespace);
        let queue = Queue::start(Arc::clone(&namespace), &namespace)
            .map_err(|error| format!("packets cannot be queued: {error}"))?;
        let queue = Arc::new(queue);
        known.insert(identity, Arc::downgrade(&queue));
        Ok(queue)
    }

    fn shaper(&self, namespace: Namespace) -> Result<Arc<Shaper>, String> {
        let mut known = self.shapers.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, shaper| shaper.strong_count() > 0);
        let identity = namespace.identity().map_err(said)?;
        if let Some(shaper) = known.get(&identity).and_then(Weak::upgrade) {
            return Ok(shaper);
        }
        if let Some(theirs) = shaper::foreign(&namespace, INTERFACE).map_err(said)? {
            return Err(theirs);
        }
        let shaper = Arc::new(Shaper::new(Arc::new(namespace), INTERFACE.to_owned()));
        known.insert(identity, Arc::downgrade(&shaper));
        Ok(shaper)
    }
}

pub(super) fn impair(
    bench: &Bench,
    fault: &mut Fault,
    asked: Impairment,
    stop: &AtomicBool,
) -> Result<String, String> {
    if asked == Impairment::default() {
        return Err("nothing was asked for".to_owned());
    }
    let of_clients = fault.order.links.iter().any(|path| path.from == 0);
    if of_clients && !fault.order.clients_are_a_pod() {
        return Err(
            "clients come through the kubelet and the pod's loopback, whose packets cannot be \
             impaired; name links between nodes (`links: peers`), or let the clients be in the cluster \
             (--in-cluster)"
                .to_owned(),
        );
    }
    let via = Via::choose(fault.order.via.as_deref(), asked)?;
    match via {
        Via::Queue => queue_up(bench, fault, asked)?,
        Via::Shaper(kind) => shape(bench, fault, kind, asked)?,
    }
    let mut seen = Vec::new();
    for path in outgoing(fault) {
        seen.extend(until(PROVE_WITHIN, stop, || {
            measure(bench, fault, path, asked)
        })?);
    }
    if fault.held.queues.is_empty() {
        if seen.is_empty() {
            seen.push("what was done is proven where the links begin".to_owned());
        }
        return Ok(format!("{} ({})", seen.join("; "), via.name()));
    }
    for (path, queue, way) in &fault.held.queues {
        let counted = until(PROVE_WITHIN, stop, || counted(queue.counts(*way), asked));
        seen.push(
            counted
                .map(|text| format!("{path}: {text}"))
                .map_err(|why| format!("{path}: {why}"))?,
        );
    }
    Ok(format!("{} ({})", seen.join("; "), via.name()))
}

fn queue_up(bench: &Bench, fault: &mut Fault, asked: Impairment) -> Result<(), String> {
    for (node, paths) in incoming(fault) {
        let namespace = network(bench, fault, node)?;
        let undo = undo(fault, node, &namespace, By::Queue)?;
        let queue = bench.networks.queue(namespace)?;
        fault.will_undo(bench, undo)?;
        let mut lanes = Vec::new();
        for path in paths {
            let way = Way::From(v4(fault, path.from)?);
            lanes.push((way, path.to_string()));
            fault.held.queues.push((path, Arc::clone(&queue), way));
        }
        queue
            .impair(fault.number, &lanes, |_| asked)
            .map_err(said)?;
    }
    Ok(())
}

fn shape(bench: &Bench, fault: &mut Fault, kind: Kind, asked: Impairment) -> Result<(), String> {
    let mut by_start: BTreeMap<u16, Vec<Path>> = BTreeMap::new();
    for path in outgoing(fault) {
        by_start.entry(path.from).or_default().push(path);
    }
    for (node, paths) in by_start {
        let namespace = network(bench, fault, node)?;
        let undo = undo(fault, node, &namespace, By::Shaper)?;
        let shaper = bench.networks.shaper(namespace)?;
        fault.will_undo(bench, undo)?;
        fault.held.shapers.push(Arc::clone(&shaper));
        let lanes: Result<Vec<_>, String> = paths
            .iter()
            .map(|path| Ok((Match::Destination(v4(fault, path.to)?), asked)))
            .collect();
        shaper.impair(fault.number, kind, &lanes?).map_err(said)?;
    }
    Ok(())
}

/// What is seen from where a link begins; nothing where only its end can see.
fn measure(
    bench: &Bench,
    fault: &Fault,
    path: Path,
    asked: Impairment,
) -> Result<Option<String>, String> {
    let mut least = Duration::from_millis(asked.latency_ms.saturating_sub(asked.jitter_ms));
    let mut load = 0;
    if let Some(rate) = asked.bandwidth_kib_s {
        let bytes_s = rate.max(1) * 1024;
        let for_busy = u64::try_from(u128::from(bytes_s) * BUSY.as_millis() / 1000);
        load = for_busy
            .unwrap_or(LOAD_MAX)
            .clamp(2 * PACKET as u64, LOAD_MAX);
        // Half of what it takes by the rate: some of it may be in a burst, some already gone.
        least += Duration::from_secs_f64(load as f64 / bytes_s as f64 / 2.0);
        if least < Duration::from_millis(2) {
            return Err(format!(
                "{path}: {rate} KiB/s is too much to be told from no limit"
            ));
        }
        keep_busy(bench, fault, path, load)?;
    }
    let probed = probe(bench, fault, path, SLOW)?;
    if least.is_zero() {
        // The connection was for the counters where the link ends.
        return Ok(None);
    }
    match probed {
        Probe::Answered(took) if took < least => {
            Err(format!("{path} took {took:.1?}, less than {least:?}"))
        }
        Probe::Answered(took) if load > 0 => Ok(Some(format!(
            "{path} took {took:.1?} behind {load} bytes, at least {least:.1?} was expected"
        ))),
        Probe::Answered(took) => Ok(Some(format!("{path} took {took:.1?} to connect"))),
        Probe::Silent => Err(format!("{path} gave no answer in {SLOW:?}")),
    }
}

/// Sends so many bytes over a link, to nobody.
fn keep_busy(bench: &Bench, fault: &Fault, path: Path, bytes: u64) -> Result<(), String> {
    let from = network(bench, fault, path.from)?;
    let to = SocketAddr::new(address(fault, path.to)?, DISCARD);
    let sent = from.run(|| -> std::io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for _ in 0..bytes.div_ceil(PACKET as u64) {
            // Not connected: that nobody listens is no error here.
            let _ = socket.send_to(&[0; PACKET], to);
        }
        Ok(())
    });
    sent.map_err(said)?.map_err(said)
}

/// What the end of a link has counted, if it shows all that was asked for.
fn counted(counts: Counts, asked: Impairment) -> Result<String, String> {
    let Counts {
        packets,
        lost,
        held_back,
        twice,
        overflowed,
    } = counts;
    let wanted = [
        (asked.loss_percent, lost, "lost"),
        (asked.reorder_percent, held_back, "held back"),
        (asked.duplicate_percent, twice, "delivered twice"),
    ];
    if packets == 0 {
        return Err("no packet has come".to_owned());
    }
    let mut text = format!("of {packets} packets");
    let mut also = Vec::new();
    for (percent, count, word) in wanted {
        if percent > 0 && count == 0 {
            return Err(format!("none of {packets} packets was {word} yet"));
        }
        if percent > 0 {
            also.push(format!("{count} were {word}"));
        }
    }
    if overflowed > 0 {
        also.push(format!("{overflowed} found no room"));
    }
    if also.is_empty() {
        return Ok(format!("{packets} packets passed the queue"));
    }
    text += " ";
    text += &also.join(", ");
    Ok(text)
}

fn v4(fault: &Fault, node: u16) -> Result<Ipv4Addr, String> {
    match address(fault, node)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(format!(
            "n{node} has the address {address}; only links of IPv4 can be impaired"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_must_have_been_counted() {
        let asked = Impairment {
            loss_percent: 10,
            duplicate_percent: 5,
            ..Impairment::default()
        };
        let counts = |packets, lost, twice| Counts {
            packets,
            lost,
            twice,
            ..Counts::default()
        };
        assert!(counted(counts(0, 0, 0), asked).is_err());
        assert!(counted(counts(50, 0, 2), asked).is_err());
        let seen = counted(counts(50, 4, 2), asked).unwrap();
        assert_eq!(seen, "of 50 packets 4 were lost, 2 were delivered twice");
        let delay = Impairment {
            latency_ms: 5,
            ..Impairment::default()
        };
        assert!(counted(counts(3, 0, 0), delay).is_ok());
    }

    #[test]
    fn an_unknown_mechanism_is_named() {
        let delay = Impairment {
            latency_ms: 5,
            ..Impairment::default()
        };
        let error = Via::choose(Some("magic"), delay).unwrap_err();
        assert!(error.contains("nfqueue, netem or tbf"), "{error}");
    }
}
