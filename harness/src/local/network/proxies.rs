//! Links that are TCP proxies on loopback.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nemesis::{Action, Endpoint, FaultKind, Link, Node, Proof};

use crate::local::cluster::Slot;
use crate::local::link_proof::{Slowness, prove_cut, prove_passing, prove_quick, prove_slow};
use crate::local::proxy::{Impairment, LinkProxy, Target};

/// The only way to disturb links here.
const PROXY: &str = "proxy";

/// One proxy for every directed pair of replicas and one for the clients of each.
#[derive(Debug)]
pub(in crate::local) struct Proxies(BTreeMap<Link, LinkProxy>);

/// What a proxy of connections cannot do, and why.
pub(in crate::local) fn obstacles() -> [(FaultKind, String); 3] {
    [
        (FaultKind::Loss, "lose"),
        (FaultKind::Reorder, "reorder"),
        (FaultKind::Duplicate, "double"),
    ]
    .map(|(kind, what)| {
        (
            kind,
            format!("a TCP proxy cannot {what} packets: use --on netns"),
        )
    })
}

fn link(from: Endpoint, to: Node) -> Link {
    Link {
        from,
        to: Endpoint::Node(to),
    }
}

impl Proxies {
    pub async fn prepare(targets: &BTreeMap<Node, Arc<Target>>) -> io::Result<Self> {
        let mut links = BTreeMap::new();
        for (&to, target) in targets {
            let sources = targets
                .keys()
                .filter(|&&from| from != to)
                .map(|&from| Endpoint::Node(from));
            for from in sources.chain([Endpoint::Clients]) {
                let link = link(from, to);
                links.insert(link, LinkProxy::start(link, Arc::clone(target)).await?);
            }
        }
        Ok(Self(links))
    }

    pub fn get(&self, link: Link) -> Option<&LinkProxy> {
        self.0.get(&link)
    }

    pub fn peer_address(&self, from: Node, to: Node) -> Option<SocketAddr> {
        self.get(link(Endpoint::Node(from), to))
            .map(LinkProxy::address)
    }

    pub fn client_address(&self, node: Node) -> Option<SocketAddr> {
        self.get(link(Endpoint::Clients, node))
            .map(LinkProxy::address)
    }

    /// The proxy would take the connection that the node's own port refuses, and so turn a certain
    /// failure into an unknown outcome.
    pub fn leads_nowhere(&self, node: Node) -> bool {
        self.get(link(Endpoint::Clients, node))
            .is_some_and(|link| link.target().get().is_none() && !link.state().cut)
    }

    pub fn apply(&self, id: u32, action: &Action) {
        let (links, impairment) = match action {
            Action::Cut(links) => (links, Impairment::CUT),
            Action::Impair { links, .. } => (links, Slowness::of(action).impairment()),
            _ => return,
        };
        for proxy in links.iter().filter_map(|link| self.get(*link)) {
            proxy.impair(id, impairment);
        }
    }

    pub async fn inject(&self, slots: &[Slot], action: &Action, via: Option<&str>) -> Proof {
        if let Some(via) = via.filter(|&via| via != PROXY) {
            return Proof::NotSeen(format!(
                "links are {PROXY} here, there is no {via}: use --on netns"
            ));
        }
        if let Action::Impair { impairment, .. } = action
            && let Some((_, why)) = obstacles().into_iter().find(|(kind, _)| match kind {
                FaultKind::Loss => impairment.loss_percent > 0,
                FaultKind::Reorder => impairment.reorder_percent > 0,
                _ => impairment.duplicate_percent > 0,
            })
        {
            return Proof::NotSeen(why);
        }
        match action {
            Action::Cut(links) => prove_cut(self, slots, links).await,
            Action::Impair { links, .. } => {
                prove_slow(self, slots, links, Slowness::of(action)).await
            }
            _ => Proof::NotSeen("it is no fault of links".to_owned()),
        }
    }

    pub fn stands(&self, id: u32, action: &Action) -> Result<(), String> {
        let (Action::Cut(links) | Action::Impair { links, .. }) = action else {
            return Ok(());
        };
        let held = |link: &Link| self.get(*link).is_some_and(|proxy| proxy.holds(id));
        match links.iter().find(|link| !held(link)) {
            Some(link) => Err(format!("the proxy of {link} has let go")),
            None => Ok(()),
        }
    }

    pub async fn heal(&self, slots: &[Slot], id: u32, action: &Action) -> Proof {
        let (Action::Cut(links) | Action::Impair { links, .. }) = action else {
            return Proof::NotSeen("it is no fault of links".to_owned());
        };
        for proxy in links.iter().filter_map(|link| self.get(*link)) {
            proxy.release(id);
        }
        match action {
            Action::Impair { .. } => prove_quick(self, slots, links, Slowness::of(action)).await,
            _ => prove_passing(self, slots, links).await,
        }
    }
}
