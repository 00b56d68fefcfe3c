//! Cuts by nftables, and their proofs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use nemesis::mechanism::firewall::{self, Cut};
use nemesis::{Action, Endpoint, Link, Proof};
use tokio::task::JoinSet;

use super::super::wire::{Volley, fly};
use super::Namespaces;
use crate::local::cluster::Slot;
use crate::local::fault::{ANSWER, HEAL_WITHIN, PROVE_WITHIN, SILENCE, prove};
use crate::local::probe::{Probe, ask_over};
use crate::stores::recipe::Ready;

/// What cuts are made with.
const NFTABLES: &str = "nftables";

/// A few datagrams, of which one is enough to show that a link passes.
fn volley(patience: Duration) -> Volley {
    Volley {
        count: 5,
        bytes: 64,
        gap: Duration::from_millis(2),
        patience,
    }
}

pub(super) fn opposite(link: Link) -> Link {
    Link {
        from: link.to,
        to: link.from,
    }
}

/// A link's name in rules.
pub(super) fn name(link: Link) -> String {
    format!("{}>{}", link.from, link.to)
}

impl Namespaces {
    /// Whether a fault other than this one cuts a link.
    pub(super) fn is_cut(&self, link: Link, but_for: Option<u32>) -> bool {
        // What a link of clients carries includes the answers.
        let same =
            |cut: &Link| *cut == link || (cut.from == Endpoint::Clients && opposite(*cut) == link);
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.iter().any(|(&id, action)| {
            Some(id) != but_for && matches!(action, Action::Cut(links) if links.iter().any(same))
        })
    }

    pub(super) async fn cut(
        &self,
        id: u32,
        links: &[Link],
        via: Option<&str>,
    ) -> Result<String, String> {
        if let Some(via) = via.filter(|&via| via != NFTABLES) {
            return Err(format!("links are cut by {NFTABLES} here, not by {via}"));
        }
        self.by_receiver(links)?;
        self.stand(id, Action::Cut(links.to_vec()));
        self.at_receivers(links, move |namespace, sources| {
            let cuts: Vec<_> = sources
                .iter()
                .map(|(link, from)| Cut {
                    from: *from,
                    answers_too: link.from == Endpoint::Clients,
                    link: name(*link),
                })
                .collect();
            firewall::cut(namespace, id, &cuts)
        })
        .await?;
        match prove(PROVE_WITHIN, async || self.prove_cut(links).await).await {
            Proof::Seen(seen) => Ok(seen),
            Proof::NotSeen(why) => Err(why),
        }
    }

    /// How many packets our rules have dropped, link by link.
    async fn dropped(&self, links: &[Link]) -> Result<BTreeMap<String, u64>, String> {
        let rules = self
            .at_receivers(links, |namespace, _| firewall::rules(namespace))
            .await?;
        let mut dropped = BTreeMap::new();
        for rule in rules.into_iter().flatten() {
            *dropped.entry(rule.link).or_default() += rule.dropped;
        }
        Ok(dropped)
    }

    /// Nothing sent over the links arrived, and the rules say that they dropped it. Where only one
    /// direction is cut, the other one passes.
    async fn prove_cut(&self, links: &[Link]) -> Result<String, String> {
        let patience = SILENCE + self.latency(links);
        let before = self.dropped(links).await?;
        let mut looking = JoinSet::new();
        for &link in links {
            let (from, to) = (self.end(link.from)?, self.end(link.to)?);
            let back = opposite(link);
            let back_is_open = link.from != Endpoint::Clients && !self.is_cut(back, None);
            let address = self.service(link);
            looking.spawn(async move {
                let said = |error: std::io::Error| format!("{link} cannot be probed: {error}");
                let there = fly(&from, &to, volley(patience));
                let again = async {
                    if back_is_open {
                        Some(fly(&to, &from, volley(patience)).await)
                    } else {
                        None
                    }
                };
                let connection = async {
                    match address {
                        Some(address) => from.connect(address, patience).await,
                        None => Ok(None),
                    }
                };
                let (there, again, connection) = tokio::join!(there, again, connection);
                let there = there.map_err(said)?;
                if !there.took.is_empty() {
                    return Err(format!(
                        "{} of {} datagrams crossed {link}",
                        there.took.len(),
                        there.sent
                    ));
                }
                if connection.map_err(said)?.is_some() {
                    return Err(format!("a connection over {link} was answered"));
                }
                match again.transpose().map_err(said)? {
                    Some(again) if again.took.is_empty() => Err(format!(
                        "{back} lets nothing through either, which nobody asked for"
                    )),
                    other => Ok((link, there.sent as u64, other.is_some())),
                }
            });
        }
        let sights: Vec<_> = looking
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let after = self.dropped(links).await?;
        let mut dropped = 0;
        for (link, sent, _) in &sights {
            let count = |when: &BTreeMap<_, u64>| when.get(&name(*link)).copied().unwrap_or(0);
            let of_link = count(&after).saturating_sub(count(&before));
            if of_link < *sent {
                return Err(format!(
                    "{link} lets nothing through, but our rule dropped only {of_link} of {sent} packets"
                ));
            }
            dropped += of_link;
        }
        let open = sights.iter().filter(|(_, _, open)| *open).count();
        let back = match open {
            0 => String::new(),
            open => format!("; the way back is open on {open}"),
        };
        Ok(format!(
            "by {NFTABLES}: {0} of {0} cut links let nothing through in {patience:?}, \
             {dropped} packets were dropped{back}",
            links.len(),
        ))
    }

    /// The rules of the fault are there, and nothing gets past them.
    pub(super) async fn still_cut(&self, id: u32, links: &[Link]) -> Result<(), String> {
        let rules = self
            .at_receivers(links, |namespace, _| firewall::rules(namespace))
            .await?;
        let rules: Vec<_> = rules.into_iter().flatten().collect();
        for link in links {
            if !rules
                .iter()
                .any(|rule| rule.fault == id && rule.link == name(*link))
            {
                return Err(format!("the rule that cut {link} is gone"));
            }
        }
        let mut looking = JoinSet::new();
        for &link in links {
            let (from, to) = (self.end(link.from)?, self.end(link.to)?);
            looking.spawn(async move {
                let crossed = fly(&from, &to, volley(Duration::from_millis(50))).await;
                match crossed {
                    Ok(crossed) if crossed.took.is_empty() => Ok(()),
                    Ok(_) => Err(format!("{link} lets through although it is cut")),
                    Err(error) => Err(format!("{link} cannot be probed: {error}")),
                }
            });
        }
        looking.join_all().await.into_iter().collect()
    }

    pub(super) async fn release(
        &self,
        slots: &[Slot],
        id: u32,
        links: &[Link],
    ) -> Result<String, String> {
        self.at_receivers(links, move |namespace, _| firewall::release(namespace, id))
            .await?;
        self.fall(id);
        match prove(HEAL_WITHIN, async || self.prove_passing(slots, links).await).await {
            Proof::Seen(seen) => Ok(seen),
            Proof::NotSeen(why) => Err(why),
        }
    }

    /// Datagrams arrive, and connections are made, or refused by a node that is down.
    async fn prove_passing(&self, slots: &[Slot], links: &[Link]) -> Result<String, String> {
        let patience = ANSWER + self.latency(links);
        let mut looking = JoinSet::new();
        let mut notes = Vec::new();
        for &link in links {
            if self.is_cut(link, None) {
                notes.push(format!("{link} is still cut by another fault"));
                continue;
            }
            let (from, to) = (self.end(link.from)?, self.end(link.to)?);
            // A connection needs both directions.
            let address = self
                .service(link)
                .filter(|_| !self.is_cut(opposite(link), None));
            let slot = slots
                .iter()
                .find(|slot| Endpoint::Node(slot.node) == link.to);
            let paused = slot.is_some_and(Slot::is_paused);
            let ready = slot.map_or(Ready::Connects, |slot| slot.ready);
            looking.spawn(async move {
                let said = |error: std::io::Error| format!("{link} cannot be probed: {error}");
                let arrived = fly(&from, &to, volley(patience)).await.map_err(said)?;
                if arrived.took.is_empty() {
                    return Err(format!("no datagram crosses {link}"));
                }
                let Some(address) = address else {
                    return Ok(Some(format!(
                        "{link} passes datagrams; its way back is cut"
                    )));
                };
                match from.connect(address, patience).await.map_err(said)? {
                    None => Err(format!("a connection over {link} is not answered")),
                    Some(Err(_)) => Ok(Some(format!("{link} passes; {} is down", link.to))),
                    Some(Ok(_)) if paused => {
                        Ok(Some(format!("{link} passes; {} is paused", link.to)))
                    }
                    Some(Ok(stream)) => {
                        let asked =
                            tokio::time::timeout(patience, ask_over(stream, address, ready, 0));
                        match asked.await {
                            Ok(Probe::Answered(..)) => Ok(None),
                            other => Err(format!("a probe over {link} says {other:?}")),
                        }
                    }
                }
            });
        }
        let sights: Vec<_> = looking
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let answered = sights.iter().filter(|note| note.is_none()).count();
        notes.extend(sights.into_iter().flatten());
        notes.sort();
        notes.insert(0, format!("{answered} of {} links answer", links.len()));
        Ok(notes.join("; "))
    }

    /// Where the node listens that a link leads to.
    fn service(&self, link: Link) -> Option<SocketAddr> {
        match link.to {
            Endpoint::Node(node) => Some(self.address(node)),
            Endpoint::Clients => None,
        }
    }
}
