//! Nodes in networks of their own, on one bridge in the network of this program.
//!
//! ```text
//! this program's network                          n1's network
//! quorateK  10.K.255.1  clients                   eth0  10.K.0.1
//! (bridge)  10.K.255.2  administrator
//!    └── quorateKn1 ═══════ virtual cable ═══════════┘
//! ```
//!
//! All rules are in the networks of nodes, and name the addresses of other nodes or of the clients;
//! none names the administrator, whose path is therefore undisturbed.

mod cut;
mod impair;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nemesis::mechanism::MARK;
use nemesis::mechanism::firewall;
use nemesis::mechanism::namespace::{self, Namespace};
use nemesis::mechanism::queue::Queue;
use nemesis::mechanism::shaper::Shaper;
use nemesis::mechanism::tool;
use nemesis::{Action, Endpoint, FaultKind, Link, Node, Proof};
use tokio::task::JoinSet;

use self::impair::Via;
use super::wire::End;
use crate::local::cluster::Slot;

/// Where nodes listen: the same everywhere, for each has a network of its own.
const PORT: u16 = 7000;
/// The second byte of addresses: one for each network that this program makes, so that the end of
/// one cannot be in the way of the next.
const FIRST: u8 = 64;
/// Networks that can be had before numbers repeat.
const NETWORKS: u8 = 128;
static NEXT: AtomicU8 = AtomicU8::new(0);

/// The address of clients on the bridge: the first, so that whoever asks for none has it, and no
/// client can escape a fault by forgetting to.
const CLIENTS: [u8; 2] = [255, 1];
/// The administrator's, who has to ask for it.
const ADMINISTRATOR: [u8; 2] = [255, 2];

/// The networks of all nodes.
#[derive(Debug)]
pub(in crate::local) struct Namespaces {
    /// The second byte of all addresses.
    number: u8,
    home: Arc<Namespace>,
    /// What was done to links and not undone yet, by fault.
    standing: Mutex<BTreeMap<u32, Action>>,
    impaired: Mutex<Impaired>,
    nodes: BTreeMap<Node, Arc<Namespace>>,
}

/// What impairs the packets of nodes, once anything does.
#[derive(Debug, Default)]
struct Impaired {
    queues: BTreeMap<Node, Arc<Queue>>,
    /// Of packets to a node, and of those from it.
    shapers: BTreeMap<Node, [Arc<Shaper>; 2]>,
    /// By which mechanism each fault was injected.
    via: BTreeMap<u32, Via>,
}

impl Namespaces {
    /// A bridge, and a network with a cable to it for each node.
    pub fn prepare(nodes: impl Iterator<Item = Node>) -> io::Result<Self> {
        let mut network = Self {
            number: FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % NETWORKS,
            home: Arc::new(Namespace::current()?),
            standing: Mutex::default(),
            impaired: Mutex::default(),
            nodes: BTreeMap::new(),
        };
        let bridge = network.bridge();
        let mut script = format!(
            "link add name {bridge} type bridge stp_state 0 forward_delay 0\n\
             addr add {}/16 dev {bridge}\naddr add {}/16 dev {bridge}\n\
             link set dev {bridge} addrgenmode none up\n",
            network.clients(),
            network.administrator(),
        );
        for node in nodes {
            let namespace = Arc::new(Namespace::create()?);
            let cable = network.cable(node);
            script += &format!(
                "link add name {cable} type veth peer name eth0 netns {}\n\
                 link set dev {cable} master {bridge}\n\
                 link set dev {cable} addrgenmode none up\n",
                namespace.path(),
            );
            network.nodes.insert(node, namespace);
        }
        network.home.run(|| ip(&script))??;
        for (&node, namespace) in &network.nodes {
            let script = format!(
                "addr add {}/16 dev eth0\nlink set dev eth0 addrgenmode none up\n",
                network.address(node).ip(),
            );
            namespace.run(|| ip(&script))??;
        }
        Ok(network)
    }

    fn bridge(&self) -> String {
        format!("{MARK}{}", self.number)
    }

    fn cable(&self, node: Node) -> String {
        format!("{MARK}{}n{node}", self.number)
    }

    fn ip(&self, [high, low]: [u8; 2]) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, high, low)
    }

    /// Whether there is such a node.
    pub fn has(&self, node: Node) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Where a node listens.
    pub fn address(&self, node: Node) -> SocketAddr {
        SocketAddr::from((self.ip(node.to_be_bytes()), PORT))
    }

    pub fn clients(&self) -> IpAddr {
        self.ip(CLIENTS).into()
    }

    pub fn administrator(&self) -> IpAddr {
        self.ip(ADMINISTRATOR).into()
    }

    /// What is about to be done to links: others' proofs have to reckon with it from now on.
    fn stand(&self, id: u32, action: Action) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.insert(id, action);
    }

    /// It was undone.
    fn fall(&self, id: u32) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.remove(&id);
    }

    fn end(&self, endpoint: Endpoint) -> Result<End, String> {
        match endpoint {
            Endpoint::Clients => Ok(End {
                namespace: Arc::clone(&self.home),
                address: self.clients(),
            }),
            Endpoint::Node(node) => Ok(End {
                namespace: self
                    .namespace(node)
                    .ok_or_else(|| format!("there is no n{node}"))?,
                address: self.address(node).ip(),
            }),
        }
    }

    /// The links by the node whose network carries their rules: the one that they lead to.
    fn by_receiver(&self, links: &[Link]) -> Result<BTreeMap<Node, Vec<Link>>, String> {
        let mut receivers: BTreeMap<Node, Vec<Link>> = BTreeMap::new();
        for link in links {
            self.end(link.from)?;
            match link.to {
                Endpoint::Node(node) if link.from != link.to && self.has(node) => {
                    receivers.entry(node).or_default().push(*link);
                }
                _ => return Err(format!("there is no link {link}")),
            }
        }
        if receivers.is_empty() {
            return Err("no link is meant".to_owned());
        }
        Ok(receivers)
    }

    /// Does something blocking for each node that links lead to.
    async fn at_receivers<T: Send + 'static>(
        &self,
        links: &[Link],
        what: impl Fn(&Namespace, &[(Link, IpAddr)]) -> io::Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>, String> {
        let mut working = JoinSet::new();
        for (node, links) in self.by_receiver(links)? {
            let namespace = self.end(Endpoint::Node(node))?.namespace;
            let mut sources = Vec::new();
            for link in links {
                sources.push((link, self.end(link.from)?.address));
            }
            let what = what.clone();
            working.spawn_blocking(move || {
                what(&namespace, &sources).map_err(|error| format!("n{node}: {error}"))
            });
        }
        working.join_all().await.into_iter().collect()
    }

    pub async fn inject(&self, id: u32, action: &Action, via: Option<&str>) -> Proof {
        let done = match action {
            Action::Cut(links) => self.cut(id, links, via).await,
            Action::Impair { links, impairment } => self.impair(id, links, *impairment, via).await,
            _ => Err("it is no fault of links".to_owned()),
        };
        done.map_or_else(Proof::NotSeen, Proof::Seen)
    }

    pub async fn stands(&self, id: u32, action: &Action) -> Result<(), String> {
        match action {
            Action::Cut(links) => self.still_cut(id, links).await,
            Action::Impair { links, .. } => self.still_impaired(id, links).await,
            _ => Ok(()),
        }
    }

    pub async fn heal(&self, slots: &[Slot], id: u32, action: &Action) -> Proof {
        let done = match action {
            Action::Cut(links) => self.release(slots, id, links).await,
            Action::Impair { links, impairment } => self.restore(id, links, *impairment).await,
            _ => Err("it is no fault of links".to_owned()),
        };
        done.map_or_else(Proof::NotSeen, Proof::Seen)
    }

    pub fn namespace(&self, node: Node) -> Option<Arc<Namespace>> {
        self.nodes.get(&node).cloned()
    }
}

/// The kinds of faults of links that this machine cannot do to networks of nodes, and why.
pub(in crate::local) fn obstacles() -> Vec<(FaultKind, String)> {
    use FaultKind::{Duplicate, Loss, Partition, Reorder, Slow};
    if let Err(why) = namespace::available() {
        return FaultKind::ALL.map(|kind| (kind, why.clone())).into();
    }
    let mut obstacles = Vec::new();
    if let Err(why) = firewall::available() {
        obstacles.push((Partition, why));
    }
    if let Err(why) = impair::available() {
        obstacles.extend([Loss, Reorder, Duplicate].map(|kind| (kind, why.clone())));
        // Some links can still be throttled where none can be delayed.
        if impair::bandwidth_available().is_err() {
            obstacles.push((Slow, why));
        }
    }
    obstacles
}

/// The administrator's address on the network that this address is of, if it is one of ours.
pub(in crate::local) fn administrator_towards(address: SocketAddr) -> Option<IpAddr> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let [ten, number, ..] = ip.octets();
    let ours = ten == 10 && (FIRST..FIRST + NETWORKS).contains(&number);
    let [high, low] = ADMINISTRATOR;
    ours.then(|| Ipv4Addr::new(10, number, high, low).into())
}

impl Drop for Namespaces {
    /// The networks of nodes end by themselves with their processes, some time later. Without its
    /// cables nothing can reach them any more.
    fn drop(&mut self) {
        let mut script = format!("link del dev {}\n", self.bridge());
        for &node in self.nodes.keys() {
            script += &format!("link del dev {}\n", self.cable(node));
        }
        let removed = self.home.run(|| {
            tool::run_with_input("ip", &["-force", "-batch", "-"], &script)
                .map_err(io::Error::other)
        });
        if let Err(error) = removed.and_then(|removed| removed) {
            tracing::debug!(%error, "the network ends only with this program");
        }
    }
}

fn ip(script: &str) -> io::Result<()> {
    tool::run_with_input("ip", &["-batch", "-"], script)
        .map(|_| ())
        .map_err(io::Error::other)
}
