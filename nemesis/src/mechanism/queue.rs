//! Impairments by NFQUEUE: the kernel hands packets of chosen addresses to a thread of this program,
//! which drops them, holds them back, or delivers them twice. Works where the kernel has no netem,
//! and for an ordinary user.
//!
//! Every rule lets packets pass if nobody listens (`--queue-bypass`), so the impairment ends with
//! this program. The rules are of iptables, because nftables' own `queue` is missing in more kernels
//! than the match of iptables is; they are in the table `mangle`, before those of
//! [`super::firewall`].
//!
//! A second copy of a packet is sent through a raw socket in the network of its receiver, over
//! loopback: no rule of ours, all of which name the interface `eth0`, meets it again.

mod lane;
mod netfilter;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

pub use self::lane::Counts;
use self::lane::{Fate, Lane};
use self::netfilter::{Connection, Packet, Verdict};
use super::namespace::{Namespace, try_inside};
use super::tool::{self, ToolError};
use super::{Available, MARK};
use crate::Impairment;

/// The number of the queue: one in each network.
const NUMBER: u16 = 1;
/// The interface of a node.
const INTERFACE: &str = "eth0";

/// Packets that a node exchanges with one address, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Those that come from there.
    From(Ipv4Addr),
    /// Those that go there.
    To(Ipv4Addr),
}

impl Way {
    /// The end of a rule of iptables that chooses these packets.
    fn rule(self, fault: u32, link: &str) -> String {
        let which = match self {
            Self::From(address) => format!("INPUT -i {INTERFACE} -s {address}"),
            Self::To(address) => format!("OUTPUT -o {INTERFACE} -d {address}"),
        };
        format!(
            "-A {which} -m comment --comment \"{} {link}\" \
             -j NFQUEUE --queue-num {NUMBER} --queue-bypass",
            comment(fault)
        )
    }
}

fn comment(fault: u32) -> String {
    format!("{MARK} fault {fault}")
}

/// Whether packets can be queued here, also for an ordinary user.
///
/// # Errors
/// Why not.
pub fn available() -> Available {
    static AVAILABLE: OnceLock<Available> = OnceLock::new();
    AVAILABLE
        .get_or_init(|| {
            tool::run("iptables", &["--version"]).map_err(|error| error.to_string())?;
            try_inside(
                "iptables -w -t mangle -A INPUT -i eth0 -s 10.64.0.1 -m comment \
                 --comment 'quorate fault 1' -j NFQUEUE --queue-num 1 --queue-bypass",
            )
            .map_err(|why| format!("the kernel has no NFQUEUE for iptables ({why})"))
        })
        .clone()
}

/// Our rules in the name of a fault, as iptables lists them.
fn rules(namespace: &Namespace, fault: u32) -> io::Result<Vec<String>> {
    let listed = namespace
        .run(|| tool::run("iptables", &["-w", "-t", "mangle", "-S"]))?
        .map_err(io::Error::other)?;
    let ours = format!("\"{} ", comment(fault));
    let listed = listed.lines().filter(|line| line.contains(&ours));
    Ok(listed.map(str::to_owned).collect())
}

fn restore(namespace: &Namespace, rules: impl Iterator<Item = String>) -> io::Result<()> {
    let mut script = "*mangle\n".to_owned();
    for rule in rules {
        script += &rule;
        script.push('\n');
    }
    script += "COMMIT\n";
    let arguments = ["-w", "--noflush"];
    let done: Result<String, ToolError> =
        namespace.run(|| tool::run_with_input("iptables-restore", &arguments, &script))?;
    done.map(|_| ()).map_err(io::Error::other)
}

/// Removes the rules of a fault, also those that a program has left which is no more; how many
/// there were.
///
/// # Errors
/// If iptables is missing or refuses.
pub fn remove(namespace: &Namespace, fault: u32) -> io::Result<usize> {
    let found = rules(namespace, fault)?;
    if !found.is_empty() {
        let gone = found.iter().map(|rule| rule.replacen("-A", "-D", 1));
        restore(namespace, gone)?;
    }
    Ok(found.len())
}

/// The queue of one node.
#[derive(Debug)]
pub struct Queue {
    namespace: Arc<Namespace>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lanes: Mutex<BTreeMap<Way, Lane>>,
    /// Written to when lanes have changed, or when it is to end.
    wake: OwnedFd,
    ending: AtomicBool,
    /// Why the thread has ended.
    ended: OnceLock<String>,
    /// How often more packets came at once than the kernel could hand over; they passed.
    escaped: AtomicBool,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Way, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) -> io::Result<()> {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

/// Other packets on every link, and in every fault (FNV-1).
fn seed(fault: u32, link: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ u64::from(fault);
    link.bytes().fold(start, |seed, byte| {
        seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
    })
}

impl Queue {
    /// Begins to listen in the network of a node. `others` is where those are whose packets go
    /// [`Way::To`]. No packet comes yet.
    ///
    /// # Errors
    /// Without the privilege.
    pub fn start(namespace: Arc<Namespace>, others: &Namespace) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            lanes: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ending: AtomicBool::new(false),
            ended: OnceLock::new(),
            escaped: AtomicBool::new(false),
        });
        let mut worker = Worker {
            connection: namespace.run(|| Connection::open(NUMBER))??,
            here: namespace.run(raw)??,
            there: others.run(raw)??,
            shared: Arc::clone(&shared),
            begun: Instant::now(),
            waiting: BinaryHeap::new(),
            order: 0,
        };
        let thread = std::thread::Builder::new()
            .name("packets".to_owned())
            .spawn(move || {
                let why = worker.work().err();
                let why = why.map_or_else(|| "it was told to end".to_owned(), |e| e.to_string());
                let _ = worker.shared.ended.set(why);
            })?;
        Ok(Self {
            namespace,
            shared,
            thread: Some(thread),
        })
    }

    /// Impairs packets in the name of a fault. Impairments of several faults add up to the worst of
    /// each kind. What the fault impaired before is forgotten.
    ///
    /// # Errors
    /// If iptables is missing or refuses; nothing is impaired then.
    pub fn impair(
        &self,
        fault: u32,
        link: &[(Way, String)],
        impairment: impl Fn(Way) -> Impairment,
    ) -> io::Result<()> {
        self.release(fault)?;
        {
            let mut lanes = self.shared.lanes();
            for (way, name) in link {
                lanes
                    .entry(*way)
                    .or_insert_with(|| Lane::new(seed(fault, name)))
                    .impair(fault, impairment(*way));
            }
        }
        let rules = link.iter().map(|(way, link)| way.rule(fault, link));
        restore(&self.namespace, rules).inspect_err(|_| self.forget(fault))
    }

    /// Undoes what was done in the name of a fault, and lets go what it holds back.
    ///
    /// # Errors
    /// If iptables is missing or refuses.
    pub fn release(&self, fault: u32) -> io::Result<()> {
        remove(&self.namespace, fault)?;
        self.forget(fault);
        Ok(())
    }

    fn forget(&self, fault: u32) {
        for lane in self.shared.lanes().values_mut() {
            lane.release(fault);
        }
        // It has ended by itself, and nothing waits there any more.
        let _ = self.shared.wake();
    }

    /// What happened to the packets of a lane since it was first impaired.
    pub fn counts(&self, way: Way) -> Counts {
        let lanes = self.shared.lanes();
        lanes.get(&way).map(|lane| lane.counts).unwrap_or_default()
    }

    /// Whether packets of these lanes are still impaired in the name of a fault; if not, why not.
    ///
    /// # Errors
    /// If iptables is missing or refuses.
    pub fn stands(&self, fault: u32, ways: &[Way]) -> io::Result<Result<(), String>> {
        if let Some(why) = self.shared.ended.get() {
            return Ok(Err(format!(
                "the thread that holds packets back has ended: {why}"
            )));
        }
        let rules = rules(&self.namespace, fault)?;
        if rules.len() < ways.len() {
            return Ok(Err(format!(
                "{} of {} rules are gone",
                ways.len() - rules.len(),
                ways.len()
            )));
        }
        let lanes = self.shared.lanes();
        let held = ways
            .iter()
            .all(|way| lanes.get(way).is_some_and(|lane| lane.has(fault)));
        Ok(if held {
            Ok(())
        } else {
            Err("it was taken back".to_owned())
        })
    }

    /// Whether some packets passed untouched because too many came at once.
    pub fn had_to_let_pass(&self) -> bool {
        self.shared.escaped.load(Ordering::Relaxed)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket for whole packets, in the network of the thread.
fn raw() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(ipproto::RAW),
    )?)
}

/// A packet that is held back until a time, and its copy if it is to come twice.
#[derive(Debug)]
struct Waiting {
    due: Duration,
    /// Among those due at once, the one that came first leaves first.
    order: u64,
    way: Way,
    id: u32,
    copy: Option<Vec<u8>>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// The thread that decides.
struct Worker {
    connection: Connection,
    here: OwnedFd,
    there: OwnedFd,
    shared: Arc<Shared>,
    begun: Instant,
    waiting: BinaryHeap<Reverse<Waiting>>,
    order: u64,
}

impl Worker {
    fn work(&mut self) -> io::Result<()> {
        loop {
            self.deliver(self.begun.elapsed())?;
            let next = self.waiting.peek().map(|Reverse(first)| first.due);
            let patience = next.map(|due| {
                let left = due.saturating_sub(self.begun.elapsed());
                Timespec {
                    tv_sec: left.as_secs() as i64,
                    tv_nsec: i64::from(left.subsec_nanos()),
                }
            });
            let woken = {
                let mut fds = [
                    PollFd::new(&self.connection, PollFlags::IN),
                    PollFd::new(&self.shared.wake, PollFlags::IN),
                ];
                match poll(&mut fds, patience.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
                !fds[1].revents().is_empty()
            };
            if woken {
                // The count does not matter.
                let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
                if self.shared.ending.load(Ordering::SeqCst) {
                    return self.deliver(Duration::MAX);
                }
                self.let_go()?;
            }
            self.receive()?;
        }
    }

    /// Takes in all that has come.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            let (packets, too_many) = self.connection.receive()?;
            if too_many {
                self.shared.escaped.store(true, Ordering::Relaxed);
                continue;
            }
            if packets.is_empty() {
                return Ok(());
            }
            for packet in packets {
                self.take(packet)?;
            }
        }
    }

    fn take(&mut self, packet: Packet) -> io::Result<()> {
        let now = self.begun.elapsed();
        let Some((from, to)) = addresses(&packet.bytes) else {
            return self.connection.decide(packet.id, Verdict::Accept);
        };
        let way = if packet.outgoing {
            Way::To(to)
        } else {
            Way::From(from)
        };
        let fate = match self.shared.lanes().get_mut(&way) {
            Some(lane) if !lane.is_free() => lane.fate(now, packet.bytes.len()),
            _ => Fate::Due(now, false),
        };
        match fate {
            Fate::Lost => self.connection.decide(packet.id, Verdict::Drop),
            Fate::Due(due, twice) => {
                self.order += 1;
                self.waiting.push(Reverse(Waiting {
                    due,
                    order: self.order,
                    way,
                    id: packet.id,
                    copy: twice.then_some(packet.bytes),
                }));
                Ok(())
            }
        }
    }

    /// Delivers what is due.
    fn deliver(&mut self, now: Duration) -> io::Result<()> {
        while let Some(Reverse(first)) = self.waiting.peek()
            && first.due <= now
        {
            if let Some(Reverse(packet)) = self.waiting.pop() {
                self.release(&packet)?;
            }
        }
        Ok(())
    }

    fn release(&self, packet: &Waiting) -> io::Result<()> {
        self.connection.decide(packet.id, Verdict::Accept)?;
        let Some((copy, (_, to))) = packet
            .copy
            .as_ref()
            .and_then(|copy| Some((copy, addresses(copy)?)))
        else {
            return Ok(());
        };
        let socket = match packet.way {
            Way::From(_) => &self.here,
            Way::To(_) => &self.there,
        };
        // A copy that does not fit is one packet that comes only once.
        let _ = sendto(socket, copy, SendFlags::empty(), &SocketAddrV4::new(to, 0));
        Ok(())
    }

    /// What waits for a fault that is over need not wait any longer.
    fn let_go(&mut self) -> io::Result<()> {
        let free: Vec<Way> = {
            let lanes = self.shared.lanes();
            let free = lanes.iter().filter(|(_, lane)| lane.is_free());
            free.map(|(way, _)| *way).collect()
        };
        let all = std::mem::take(&mut self.waiting).into_sorted_vec();
        // Sorted backwards: the one that is due first comes last.
        for Reverse(packet) in all.into_iter().rev() {
            if free.contains(&packet.way) {
                self.release(&packet)?;
            } else {
                self.waiting.push(Reverse(packet));
            }
        }
        Ok(())
    }
}

/// Source and destination of a packet of IPv4.
fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let at = |i: usize| -> Option<[u8; 4]> { packet.get(i..i + 4)?.try_into().ok() };
    Some((at(12)?.into(), at(16)?.into()))
}

#[cfg(test)]
mod tests;
