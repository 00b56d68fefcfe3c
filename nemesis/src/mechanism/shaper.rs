//! Impairments by traffic control: netem where the kernel has it, and tbf for bandwidth alone.
//!
//! Packets are sorted on their way out of an interface by a queueing discipline of our own, known by
//! its handle; those of no lane pass it directly. An interface that carries such packets is one that
//! this program made, or one of a container that has no discipline of its own ([`foreign`]): none of
//! somebody else's is ever replaced.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::namespace::{Namespace, try_inside};
use super::{Available, tool};
use crate::Impairment;

/// Our discipline at the root of an interface: "qu" in ASCII.
const ROOT: &str = "7175:";
/// Bytes that tbf lets pass at once: a packet or two, so that the rate holds from the start.
pub const BURST: usize = 3000;

/// What impairs packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All that an [`Impairment`] can say.
    Netem,
    /// Bandwidth alone.
    Tbf,
}

impl Kind {
    /// As traffic control calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Tbf => "tbf",
        }
    }

    /// Whether the kernel has it, also for an ordinary user.
    ///
    /// # Errors
    /// Why not.
    pub fn available(self) -> Available {
        static NETEM: OnceLock<Available> = OnceLock::new();
        static TBF: OnceLock<Available> = OnceLock::new();
        let (known, line) = match self {
            Self::Netem => (&NETEM, "netem delay 1ms"),
            Self::Tbf => (&TBF, "tbf rate 1mbit burst 3000 latency 1s"),
        };
        known
            .get_or_init(|| {
                tool::run("tc", &["-V"]).map_err(|error| error.to_string())?;
                try_inside(&format!(
                    "tc qdisc add dev lo root handle 1: htb && \
                     tc class add dev lo parent 1: classid 1:1 htb rate 10gbit quantum 3000 && \
                     tc filter add dev lo parent 1: protocol ip prio 1 u32 match ip \
                     src 10.64.0.1/32 flowid 1:1 && \
                     tc qdisc add dev lo parent 1:1 {line}"
                ))
                .map_err(|why| format!("the kernel has no {} ({why})", self.name()))
            })
            .clone()
    }

    /// Whether it can do this; if not, why not.
    ///
    /// # Errors
    /// What it cannot do.
    pub fn can(self, asked: Impairment) -> Result<(), String> {
        let bandwidth_alone = Impairment {
            bandwidth_kib_s: asked.bandwidth_kib_s,
            ..Impairment::default()
        };
        match self {
            Self::Tbf if asked != bandwidth_alone || asked.bandwidth_kib_s.is_none() => {
                Err("tbf limits the bandwidth and nothing else".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The discipline that impairs, in the words of `tc`.
    fn line(self, asked: Impairment) -> String {
        let rate = asked.bandwidth_kib_s.unwrap_or(1).max(1);
        if self == Self::Tbf {
            return format!("tbf rate {rate}kibps burst {BURST} latency 2s");
        }
        let mut line = "netem limit 65536".to_owned();
        let (latency, jitter) = (asked.latency_ms, asked.jitter_ms);
        match (latency, asked.reorder_percent) {
            (0, 0) => {}
            // What is not delayed overtakes what is.
            (0, percent) => line += &format!(" delay 25ms reorder {}%", 100 - percent),
            (_, 0) => line += &format!(" delay {latency}ms {jitter}ms"),
            (_, percent) => line += &format!(" delay {latency}ms {jitter}ms reorder {percent}%"),
        }
        if asked.loss_percent > 0 {
            line += &format!(" loss {}%", asked.loss_percent);
        }
        if asked.duplicate_percent > 0 {
            line += &format!(" duplicate {}%", asked.duplicate_percent);
        }
        if asked.bandwidth_kib_s.is_some() {
            line += &format!(" rate {rate}kibps");
        }
        line
    }
}

/// Why an interface is not to be shaped: the discipline of somebody else at its root.
///
/// # Errors
/// If `tc` is missing or refuses.
pub fn foreign(namespace: &Namespace, interface: &str) -> io::Result<Option<String>> {
    let listed = listed(namespace, interface)?;
    let root = listed.lines().find(|line| line.contains(" root "));
    Ok(root
        .filter(|line| !line.contains(ROOT) && !line.starts_with("qdisc noqueue "))
        .map(|line| {
            format!(
                "{interface} has a queueing discipline of its own ({})",
                line.trim()
            )
        }))
}

/// Removes our discipline from an interface, whoever has put it there; whether there was one.
///
/// # Errors
/// If `tc` is missing or refuses.
pub fn remove(namespace: &Namespace, interface: &str) -> io::Result<bool> {
    if !listed(namespace, interface)?.contains(ROOT) {
        return Ok(false);
    }
    let script = format!("qdisc del dev {interface} root handle {ROOT} htb\n");
    let done = namespace.run(|| tool::run_with_input("tc", &["-batch", "-"], &script))?;
    done.map(|_| true).map_err(io::Error::other)
}

/// The disciplines of an interface, as `tc` lists them.
fn listed(namespace: &Namespace, interface: &str) -> io::Result<String> {
    let arguments = ["qdisc", "show", "dev", interface];
    let listed = namespace.run(|| tool::run("tc", &arguments))?;
    listed.map_err(io::Error::other)
}

/// Packets on their way out of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Those of this source.
    Source(Ipv4Addr),
    /// Those to this destination.
    Destination(Ipv4Addr),
}

impl Match {
    fn line(self) -> String {
        match self {
            Self::Source(address) => format!("src {address}/32"),
            Self::Destination(address) => format!("dst {address}/32"),
        }
    }
}

#[derive(Debug)]
struct Lane {
    /// Of its class, filter and discipline.
    number: u16,
    kind: Kind,
    faults: BTreeMap<u32, Impairment>,
}

impl Lane {
    fn sum(&self) -> Impairment {
        let all = self.faults.values().copied();
        all.fold(Impairment::default(), Impairment::and)
    }
}

/// The packets that leave one interface.
#[derive(Debug)]
pub struct Shaper {
    namespace: Arc<Namespace>,
    interface: String,
    lanes: Mutex<BTreeMap<Match, Lane>>,
}

impl Shaper {
    /// Of an interface that this program made, or may take ([`foreign`]).
    pub fn new(namespace: Arc<Namespace>, interface: String) -> Self {
        Self {
            namespace,
            interface,
            lanes: Mutex::default(),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Match, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Impairs packets in the name of a fault; several faults on one lane add up to the worst of
    /// each kind, by the mechanism of the first.
    ///
    /// # Errors
    /// If `tc` is missing or refuses.
    pub fn impair(&self, fault: u32, kind: Kind, lanes: &[(Match, Impairment)]) -> io::Result<()> {
        let mut known = self.lanes();
        let mut script = format!(
            "qdisc replace dev {} root handle {ROOT} htb\n",
            self.interface
        );
        if !known.is_empty() {
            script.clear();
        }
        for &(which, asked) in lanes {
            let free =
                (1..=u16::MAX).find(|&number| known.values().all(|lane| lane.number != number));
            let lane = known.entry(which).or_insert_with(|| Lane {
                number: free.unwrap_or(1),
                kind,
                faults: BTreeMap::new(),
            });
            lane.faults.insert(fault, asked);
            script += &self.class(which, lane);
        }
        self.apply(&script)
    }

    fn class(&self, which: Match, lane: &Lane) -> String {
        let (interface, number) = (&self.interface, lane.number);
        format!(
            "class replace dev {interface} parent {ROOT} classid {ROOT}{number} htb rate 10gbit quantum 3000\n\
             qdisc replace dev {interface} parent {ROOT}{number} {}\n\
             filter replace dev {interface} parent {ROOT} protocol ip prio {number} u32 match ip {} flowid {ROOT}{number}\n",
            lane.kind.line(lane.sum()),
            which.line(),
        )
    }

    /// Undoes what was done in the name of a fault.
    ///
    /// # Errors
    /// If `tc` is missing or refuses.
    pub fn release(&self, fault: u32) -> io::Result<()> {
        let mut known = self.lanes();
        let interface = &self.interface;
        let mut script = String::new();
        for (&which, lane) in known.iter_mut() {
            if lane.faults.remove(&fault).is_none() {
                continue;
            }
            let number = lane.number;
            script += &if lane.faults.is_empty() {
                format!(
                    "filter del dev {interface} parent {ROOT} protocol ip prio {number} u32\n\
                     class del dev {interface} classid {ROOT}{number}\n"
                )
            } else {
                self.class(which, lane)
            };
        }
        known.retain(|_, lane| !lane.faults.is_empty());
        if script.is_empty() {
            return Ok(());
        }
        if known.is_empty() {
            script = format!("qdisc del dev {interface} root handle {ROOT} htb\n");
        }
        if !self.listed()?.contains(ROOT) {
            // Somebody has removed it all.
            return Ok(());
        }
        self.apply(&script)
    }

    /// Whether packets are still impaired in the name of a fault; if not, why not.
    ///
    /// # Errors
    /// If `tc` is missing or refuses.
    pub fn stands(&self, fault: u32) -> io::Result<Result<(), String>> {
        let listed = self.listed()?;
        let known = self.lanes();
        for lane in known
            .values()
            .filter(|lane| lane.faults.contains_key(&fault))
        {
            let parent = format!("parent {ROOT}{} ", lane.number);
            let there = listed
                .lines()
                .any(|line| line.contains(&parent) && line.contains(lane.kind.name()));
            if !there {
                let name = lane.kind.name();
                return Ok(Err(format!("{name} is gone from {}", self.interface)));
            }
        }
        Ok(Ok(()))
    }

    /// The disciplines of the interface, as `tc` lists them.
    fn listed(&self) -> io::Result<String> {
        listed(&self.namespace, &self.interface)
    }

    fn apply(&self, script: &str) -> io::Result<()> {
        let applied = self
            .namespace
            .run(|| tool::run_with_input("tc", &["-batch", "-"], script))?;
        applied.map(|_| ()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::mechanism::testing::{Cable, HERE, THERE, fly};

    #[test]
    fn each_impairment_has_its_words() {
        let all = Impairment {
            latency_ms: 50,
            jitter_ms: 10,
            bandwidth_kib_s: Some(64),
            loss_percent: 5,
            reorder_percent: 20,
            duplicate_percent: 1,
        };
        assert_eq!(
            Kind::Netem.line(all),
            "netem limit 65536 delay 50ms 10ms reorder 20% loss 5% duplicate 1% rate 64kibps"
        );
        let reorder = Impairment {
            reorder_percent: 20,
            ..Impairment::default()
        };
        // 20 of a hundred are held back: 80 are not.
        assert_eq!(
            Kind::Netem.line(reorder),
            "netem limit 65536 delay 25ms reorder 80%"
        );
        let throttled = Impairment {
            bandwidth_kib_s: Some(64),
            ..Impairment::default()
        };
        assert_eq!(
            Kind::Tbf.line(throttled),
            "tbf rate 64kibps burst 3000 latency 2s"
        );
        assert!(Kind::Tbf.can(throttled).is_ok());
        assert!(Kind::Tbf.can(all).is_err());
        assert!(Kind::Tbf.can(Impairment::default()).is_err());
    }

    fn throttled(kib: u64) -> Impairment {
        Impairment {
            bandwidth_kib_s: Some(kib),
            ..Impairment::default()
        }
    }

    #[test]
    fn tbf_throttles_one_lane_and_no_other() {
        if let Err(why) = Kind::Tbf.available() {
            return eprintln!("not tested: {why}");
        }
        let Some(cable) = Cable::new() else { return };
        let shaper = Shaper::new(Arc::clone(&cable.here), "eth0".to_owned());
        let (there, here) = cable.sockets();
        let transfer = || {
            let begun = Instant::now();
            for _ in 0..20 {
                here.send(&[0; 1024]).unwrap();
            }
            there
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            for _ in 0..20 {
                there.recv(&mut [0; 2048]).unwrap();
            }
            begun.elapsed()
        };
        shaper.release(1).unwrap();
        let lane = Match::Destination(THERE);
        shaper
            .impair(1, Kind::Tbf, &[(lane, throttled(64))])
            .unwrap();
        shaper
            .impair(2, Kind::Tbf, &[(lane, throttled(128))])
            .unwrap();
        shaper
            .impair(3, Kind::Tbf, &[(Match::Destination(HERE), throttled(1))])
            .unwrap();
        assert_eq!(shaper.stands(1).unwrap(), Ok(()));
        // 20 KiB less the burst at 64 KiB/s.
        let least = Duration::from_millis(260);
        let took = transfer();
        assert!(took >= least, "{took:?}");
        let listed = || {
            let listed = cable
                .here
                .run(|| tool::run("tc", &["qdisc", "show", "dev", "eth0"]));
            listed.unwrap().unwrap()
        };
        let slowest = listed();
        shaper.release(1).unwrap();
        shaper.release(1).unwrap();
        assert_ne!(listed(), slowest);
        let took = transfer();
        assert!(took >= least / 2, "{took:?}");
        shaper.release(2).unwrap();
        shaper.release(3).unwrap();
        assert_eq!(fly(&here, &there, 20, Duration::from_millis(100)).len(), 20);
        let left = listed();
        assert!(!left.contains("htb") && !left.contains("tbf"), "{left}");

        shaper
            .impair(4, Kind::Tbf, &[(lane, throttled(64))])
            .unwrap();
        let removed = cable
            .here
            .run(|| tool::run("tc", &["qdisc", "del", "dev", "eth0", "root"]));
        removed.unwrap().unwrap();
        let gone = shaper.stands(4).unwrap().unwrap_err();
        assert!(gone.contains("tbf is gone from eth0"), "{gone}");
        shaper.release(4).unwrap();
    }
}
