//! How nodes and clients reach each other, and what faults do to that: one of two ways.
//!
//! | | [`Proxies`] | [`Namespaces`] |
//! | --- | --- | --- |
//! | a node listens | on a free port of loopback | on an address of its own, in a network of its own |
//! | a link is | a TCP proxy | what the kernel carries from one address to the other |
//! | a cut holds | bytes | packets, of whatever protocol, those of answers too |
//! | privileges | none | root, or a user namespace |
//!
//! A link of the second kind carries *packets*. Where only n1→n2 is cut, n2 still reaches n1, but
//! hears no answer: TCP connections make no progress in either direction, as on any network.

mod namespaces;
mod proxies;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nemesis::mechanism::namespace::Namespace;
use nemesis::{Action, FaultKind, Node, Proof};

use self::namespaces::obstacles as of_namespaces;
pub(super) use self::namespaces::{Namespaces, administrator_towards};
pub(super) use self::proxies::Proxies;
use self::proxies::obstacles as of_proxies;
use super::cluster::Slot;
use super::proxy::Target;
use crate::experiment::On;

/// The kinds of faults of links that cannot be done, and why.
pub(super) fn obstacles(on: On) -> Vec<(FaultKind, String)> {
    match on {
        On::Netns => of_namespaces(),
        On::Local | On::Sim | On::K8s | On::External => of_proxies().into(),
    }
}

/// All links of a run.
#[derive(Debug)]
pub(super) enum Network {
    /// On loopback.
    Proxies(Proxies),
    /// On a bridge.
    Namespaces(Namespaces),
}

impl Network {
    /// Links between nodes that do not run yet. Must be called within a tokio runtime.
    pub async fn prepare(on: On, targets: &BTreeMap<Node, Arc<Target>>) -> io::Result<Self> {
        match on {
            On::Netns => Namespaces::prepare(targets.keys().copied()).map(Self::Namespaces),
            On::Local | On::Sim | On::K8s | On::External => {
                Proxies::prepare(targets).await.map(Self::Proxies)
            }
        }
    }

    /// Where a node is to listen; with port 0, on a free one.
    pub fn listen(&self, node: Node) -> SocketAddr {
        match self {
            Self::Proxies(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
            Self::Namespaces(network) => network.address(node),
        }
    }

    /// How one node reaches another.
    pub fn peer_address(&self, from: Node, to: Node) -> Option<SocketAddr> {
        match self {
            Self::Proxies(proxies) => proxies.peer_address(from, to),
            Self::Namespaces(network) => network.has(to).then(|| network.address(to)),
        }
    }

    /// How clients reach a node: the same for the whole run.
    pub fn client_address(&self, node: Node) -> Option<SocketAddr> {
        match self {
            Self::Proxies(proxies) => proxies.client_address(node),
            Self::Namespaces(network) => network.has(node).then(|| network.address(node)),
        }
    }

    /// Whether what clients send there is certain to reach nobody although a connection is made.
    pub fn leads_nowhere(&self, node: Node) -> bool {
        match self {
            Self::Proxies(proxies) => proxies.leads_nowhere(node),
            Self::Namespaces(_) => false,
        }
    }

    /// The network that a node's process is to be started in; that of this program if none.
    pub fn namespace(&self, node: Node) -> Option<Arc<Namespace>> {
        match self {
            Self::Proxies(_) => None,
            Self::Namespaces(network) => network.namespace(node),
        }
    }

    /// What the administrator speaks from, on a path that no fault touches.
    pub fn administrator(&self) -> Option<IpAddr> {
        match self {
            Self::Proxies(_) => None,
            Self::Namespaces(network) => Some(network.administrator()),
        }
    }

    /// The part of an injection that takes effect at once.
    pub fn apply(&self, id: u32, action: &Action) {
        if let Self::Proxies(proxies) = self {
            proxies.apply(id, action);
        }
    }

    /// Cuts or impairs links, and proves it.
    pub async fn inject(
        &self,
        slots: &[Slot],
        id: u32,
        action: &Action,
        via: Option<&str>,
    ) -> Proof {
        match self {
            Self::Proxies(proxies) => proxies.inject(slots, action, via).await,
            Self::Namespaces(network) => network.inject(id, action, via).await,
        }
    }

    /// Whether links are still cut or impaired in the name of this fault; if not, what was seen.
    pub async fn stands(&self, id: u32, action: &Action) -> Result<(), String> {
        match self {
            Self::Proxies(proxies) => proxies.stands(id, action),
            Self::Namespaces(network) => network.stands(id, action).await,
        }
    }

    /// Undoes it, and proves that it is gone.
    pub async fn heal(&self, slots: &[Slot], id: u32, action: &Action) -> Proof {
        match self {
            Self::Proxies(proxies) => proxies.heal(slots, id, action).await,
            Self::Namespaces(network) => network.heal(slots, id, action).await,
        }
    }
}
