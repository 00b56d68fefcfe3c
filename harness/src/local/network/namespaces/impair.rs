//! Impaired links: by netem, NFQUEUE or tbf, whichever this machine has, and their proofs: volleys of
//! datagrams over each link, timed and counted.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nemesis::mechanism::queue::{self, Counts, Queue, Way};
use nemesis::mechanism::shaper::{BURST, Kind, Match, Shaper};
use nemesis::{Action, Endpoint, Impairment, Link, Node, Proof};
use tokio::task::JoinSet;

use super::super::wire::{Arrivals, End, Volley, fly};
use super::Namespaces;
use super::cut::{name, opposite};
use crate::local::fault::{ANSWER, HEAL_WITHIN, PROVE_WITHIN, SILENCE, prove};

/// How packets are impaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
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

    fn can(self, asked: Impairment) -> Result<(), String> {
        match self {
            Self::Queue => queue::available(),
            Self::Shaper(kind) => kind.can(asked).and_then(|()| kind.available()),
        }
    }

    /// The one asked for, or the first that this machine has.
    fn choose(via: Option<&str>, asked: Impairment) -> Result<Self, String> {
        let all = [
            Self::Shaper(Kind::Netem),
            Self::Queue,
            Self::Shaper(Kind::Tbf),
        ];
        let mut obstacles = Vec::new();
        for one in all {
            if via.is_some_and(|via| via != one.name()) {
                continue;
            }
            match one.can(asked) {
                Ok(()) => return Ok(one),
                Err(why) => obstacles.push(why),
            }
        }
        match via {
            Some(via) if obstacles.is_empty() => Err(format!(
                "links are impaired by netem, nfqueue or tbf, not by {via}"
            )),
            _ => Err(obstacles.join("; ")),
        }
    }
}

/// Why links cannot be impaired at all on this machine, if they cannot; bandwidth aside.
pub(super) fn available() -> Result<(), String> {
    let delay = Impairment {
        latency_ms: 1,
        ..Impairment::default()
    };
    Via::choose(None, delay).map(|_| ())
}

/// Why not even bandwidth can be limited, if it cannot.
pub(super) fn bandwidth_available() -> Result<(), String> {
    let bandwidth = Impairment {
        bandwidth_kib_s: Some(1),
        ..Impairment::default()
    };
    Via::choose(None, bandwidth).map(|_| ())
}

/// What each direction of a link of clients gets: the delays halved, so that a round trip has all.
fn halves(asked: Impairment) -> [Impairment; 2] {
    let there = Impairment {
        latency_ms: asked.latency_ms.div_ceil(2),
        jitter_ms: asked.jitter_ms.div_ceil(2),
        ..asked
    };
    let back = Impairment {
        latency_ms: asked.latency_ms / 2,
        jitter_ms: asked.jitter_ms / 2,
        ..asked
    };
    [there, back]
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

impl Namespaces {
    /// What all standing faults but one ask of a link.
    pub(super) fn impairment(&self, link: Link, but_for: Option<u32>) -> Impairment {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing
            .iter()
            .filter(|(id, _)| Some(**id) != but_for)
            .filter_map(|(_, action)| match action {
                Action::Impair { links, impairment }
                    if links.contains(&link)
                        || links
                            .iter()
                            .any(|of| of.from == Endpoint::Clients && opposite(*of) == link) =>
                {
                    Some(*impairment)
                }
                _ => None,
            })
            .fold(Impairment::default(), Impairment::and)
    }

    /// The longest that faults make packets wait on any of the links, there and back.
    pub(super) fn latency(&self, links: &[Link]) -> Duration {
        let wait = |link| {
            let Impairment {
                latency_ms,
                jitter_ms,
                ..
            } = self.impairment(link, None);
            latency_ms + jitter_ms
        };
        let waits = links.iter().map(|link| wait(*link) + wait(opposite(*link)));
        Duration::from_millis(waits.max().unwrap_or_default())
    }

    /// What is impaired at one node in the name of a fault: which packets, of which link, how.
    fn lanes(
        &self,
        links: &[Link],
        asked: Impairment,
    ) -> Result<Vec<(Way, String, Impairment)>, String> {
        let mut lanes = Vec::new();
        for link in links {
            let address = v4(self.end(link.from)?.address);
            if link.from == Endpoint::Clients {
                let [there, back] = halves(asked);
                lanes.push((Way::From(address), name(*link), there));
                lanes.push((Way::To(address), name(*link), back));
            } else {
                lanes.push((Way::From(address), name(*link), asked));
            }
        }
        Ok(lanes)
    }

    /// The queue of a node, started if there is none.
    fn queue(&self, node: Node) -> Result<Arc<Queue>, String> {
        let mut impaired = self.impaired.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = impaired.queues.get(&node) {
            return Ok(Arc::clone(queue));
        }
        let namespace = self.end(Endpoint::Node(node))?.namespace;
        let queue = Queue::start(namespace, &self.home)
            .map_err(|error| format!("n{node}: packets cannot be queued: {error}"))?;
        let queue = Arc::new(queue);
        impaired.queues.insert(node, Arc::clone(&queue));
        Ok(queue)
    }

    /// What shapes the packets to a node, and those from it.
    fn shapers(&self, node: Node) -> Result<[Arc<Shaper>; 2], String> {
        let namespace = self.end(Endpoint::Node(node))?.namespace;
        let mut impaired = self.impaired.lock().unwrap_or_else(PoisonError::into_inner);
        let shapers = impaired.shapers.entry(node).or_insert_with(|| {
            let inward = Shaper::new(Arc::clone(&self.home), self.cable(node));
            let outward = Shaper::new(namespace, "eth0".to_owned());
            [inward, outward].map(Arc::new)
        });
        Ok(shapers.clone())
    }

    pub(super) async fn impair(
        &self,
        id: u32,
        links: &[Link],
        asked: Impairment,
        via: Option<&str>,
    ) -> Result<String, String> {
        if asked == Impairment::default() {
            return Err("nothing was asked for".to_owned());
        }
        let owned = via.map(str::to_owned);
        let via = tokio::task::spawn_blocking(move || Via::choose(owned.as_deref(), asked))
            .await
            .map_err(|error| error.to_string())??;
        let receivers = self.by_receiver(links)?;
        {
            // Known before it is done, so that what was done in part is undone too.
            let mut impaired = self.impaired.lock().unwrap_or_else(PoisonError::into_inner);
            impaired.via.insert(id, via);
        }
        let action = Action::Impair {
            links: links.to_vec(),
            impairment: asked,
        };
        self.stand(id, action);
        let mut working = JoinSet::new();
        for (node, links) in receivers {
            let lanes = self.lanes(&links, asked)?;
            match via {
                Via::Queue => {
                    let queue = self.queue(node)?;
                    working.spawn_blocking(move || {
                        let rules: Vec<_> = lanes
                            .iter()
                            .map(|(way, link, _)| (*way, link.clone()))
                            .collect();
                        let how = |way| {
                            let lane = lanes.iter().find(|(lane, ..)| *lane == way);
                            lane.map_or(asked, |(.., how)| *how)
                        };
                        queue.impair(id, &rules, how)
                    });
                }
                Via::Shaper(kind) => {
                    let [inward, outward] = self.shapers(node)?;
                    let (mut to, mut from) = (Vec::new(), Vec::new());
                    for (way, _, how) in lanes {
                        match way {
                            Way::From(address) => to.push((Match::Source(address), how)),
                            Way::To(address) => from.push((Match::Destination(address), how)),
                        }
                    }
                    working.spawn_blocking(move || {
                        inward.impair(id, kind, &to)?;
                        if from.is_empty() {
                            Ok(())
                        } else {
                            outward.impair(id, kind, &from)
                        }
                    });
                }
            }
        }
        let done: std::io::Result<Vec<()>> = working.join_all().await.into_iter().collect();
        done.map_err(|error| error.to_string())?;
        let attempt = async || self.prove_impaired(links, asked, via).await;
        match prove(PROVE_WITHIN, attempt).await {
            Proof::Seen(seen) => Ok(seen),
            Proof::NotSeen(why) => Err(why),
        }
    }

    fn via(&self, id: u32) -> Option<Via> {
        let impaired = self.impaired.lock().unwrap_or_else(PoisonError::into_inner);
        impaired.via.get(&id).copied()
    }

    /// What the queues of their receivers have counted on these links.
    fn counted(&self, links: &[Link]) -> Counts {
        let impaired = self.impaired.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Counts::default();
        for link in links {
            let (Endpoint::Node(node), Ok(End { address, .. })) = (link.to, self.end(link.from))
            else {
                continue;
            };
            let Some(queue) = impaired.queues.get(&node) else {
                continue;
            };
            for way in [Way::From(v4(address)), Way::To(v4(address))] {
                let Counts {
                    packets,
                    lost,
                    held_back,
                    twice,
                    overflowed,
                } = queue.counts(way);
                sum.packets += packets;
                sum.lost += lost;
                sum.held_back += held_back;
                sum.twice += twice;
                sum.overflowed += overflowed;
            }
        }
        sum
    }

    /// Flies all that the impairment asks to be measured over each link at once.
    async fn measure(
        &self,
        links: &[Link],
        asked: Impairment,
    ) -> Result<Vec<(Link, Sight)>, String> {
        let patience = SILENCE + self.latency(links);
        let mut looking = JoinSet::new();
        for &link in links {
            let (from, to) = (self.end(link.from)?, self.end(link.to)?);
            looking.spawn(async move {
                let sight = Sight::of(&from, &to, link, asked, patience).await;
                let sight = sight.map_err(|error| format!("{link} cannot be probed: {error}"))?;
                Ok::<_, String>((link, sight))
            });
        }
        let mut sights: Vec<_> = looking
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        sights.sort_by_key(|(link, _)| *link);
        Ok(sights)
    }

    async fn prove_impaired(
        &self,
        links: &[Link],
        asked: Impairment,
        via: Via,
    ) -> Result<String, String> {
        let open: Vec<Link> = links
            .iter()
            .copied()
            .filter(|link| !self.is_cut(*link, None))
            .collect();
        if open.is_empty() {
            return Err("all links are cut by another fault".to_owned());
        }
        let each_before: Vec<_> = open.iter().map(|link| self.counted(&[*link])).collect();
        let before = self.counted(&open);
        let sights = self.measure(&open, asked).await?;
        let after = self.counted(&open);
        for (link, before) in open.iter().zip(each_before) {
            let packets = self.counted(&[*link]).packets - before.packets;
            let sight = sights.iter().find(|(of, _)| of == link);
            let sent = sight.map_or(0, |(_, sight)| sight.chances.sent as u64);
            if via == Via::Queue && packets < sent {
                return Err(format!("{packets} of {sent} packets of {link} were queued"));
            }
        }
        let mut said = Vec::new();
        let all =
            |sum: fn(&Sight) -> usize| sights.iter().map(|(_, sight)| sum(sight)).sum::<usize>();
        if let Some(least) = least(asked) {
            for (link, sight) in &sights {
                // Where all are lost none can be timed.
                let Some(fastest) = sight.fastest else {
                    if asked.loss_percent == 100 {
                        continue;
                    }
                    return Err(format!("nothing crosses {link}"));
                };
                if fastest < least {
                    return Err(format!("a datagram crossed {link} in {}", ms(fastest)));
                }
            }
            let (fastest, slowest) = (
                sights.iter().filter_map(|(_, s)| s.fastest).min(),
                sights.iter().filter_map(|(_, s)| s.slowest).max(),
            );
            let mut medians: Vec<_> = sights.iter().filter_map(|(_, s)| s.median).collect();
            medians.sort_unstable();
            let median = medians.get(medians.len() / 2).copied();
            let jitter = match asked.jitter_ms {
                0 => String::new(),
                jitter => format!(" ± {jitter} ms"),
            };
            said.push(format!(
                "{} ms{jitter} asked, {} measured ({} to {})",
                asked.latency_ms,
                ms(median.unwrap_or_default()),
                ms(fastest.unwrap_or_default()),
                ms(slowest.unwrap_or_default()),
            ));
        }
        for (what, percent, seen, of, counted) in [
            (
                "lost",
                asked.loss_percent,
                all(|s| s.chances.lost()),
                all(|s| s.chances.sent),
                (before.lost, after.lost),
            ),
            (
                "doubled",
                asked.duplicate_percent,
                all(|s| s.chances.twice),
                all(|s| s.chances.took.len()),
                (before.twice, after.twice),
            ),
            (
                "overtaken",
                asked.reorder_percent,
                all(|s| s.chances.overtaken),
                all(|s| s.chances.took.len()),
                (before.held_back, after.held_back),
            ),
        ] {
            if percent == 0 {
                continue;
            }
            if seen == 0 && !(what != "lost" && asked.loss_percent == 100) {
                return Err(format!("none of {of} datagrams was {what}"));
            }
            let counted = counted.1 - counted.0;
            if via == Via::Queue && counted < seen as u64 {
                return Err(format!(
                    "{seen} of {of} datagrams were {what}, but {counted} by us"
                ));
            }
            let part = seen as f64 * 100.0 / (of.max(1)) as f64;
            said.push(format!(
                "{percent} % {what} asked, {part:.1} % measured ({seen} of {of})"
            ));
        }
        if let Some(rate) = asked.bandwidth_kib_s {
            let transfer = transfer(asked);
            let at_once = match via {
                Via::Queue => 0,
                Via::Shaper(_) => BURST,
            };
            let rates = sights.iter().filter_map(|(_, s)| s.rate(at_once));
            match (transfer, rates.reduce(f64::max)) {
                (Some(_), Some(fastest)) => {
                    if fastest > rate as f64 * 1.05 {
                        return Err(format!(
                            "{rate} KiB/s asked, but a link carried {fastest:.0} KiB/s"
                        ));
                    }
                    said.push(format!("{rate} KiB/s asked, {fastest:.1} KiB/s measured"));
                }
                _ => said.push(format!(
                    "{rate} KiB/s are too many to be measured and not proven"
                )),
            }
        }
        if transfer(asked).is_none() && least(asked).is_none() && chances(asked).is_none() {
            return Err("nothing was asked for that could be measured".to_owned());
        }
        Ok(format!(
            "by {}, on {} of {} links: {}",
            via.name(),
            open.len(),
            links.len(),
            said.join("; ")
        ))
    }

    /// The rules are there, and the thread that holds packets back.
    pub(super) async fn still_impaired(&self, id: u32, links: &[Link]) -> Result<(), String> {
        let Some(via) = self.via(id) else {
            return Err("it was not injected".to_owned());
        };
        let mut working = JoinSet::new();
        for (node, links) in self.by_receiver(links)? {
            let lanes = self.lanes(&links, Impairment::default())?;
            match via {
                Via::Queue => {
                    let queue = self.queue(node)?;
                    let ways: Vec<_> = lanes.into_iter().map(|(way, ..)| way).collect();
                    working.spawn_blocking(move || (node, queue.stands(id, &ways)));
                }
                Via::Shaper(_) => {
                    let shapers = self.shapers(node)?;
                    working.spawn_blocking(move || {
                        let looked = shapers.iter().map(|shaper| shaper.stands(id));
                        let all: std::io::Result<Result<Vec<()>, String>> = looked
                            .collect::<std::io::Result<Vec<_>>>()
                            .map(|each| each.into_iter().collect());
                        (node, all.map(|each| each.map(|_| ())))
                    });
                }
            }
        }
        for (node, looked) in working.join_all().await {
            match looked {
                Ok(stands) => stands.map_err(|why| format!("at n{node} {why}"))?,
                Err(error) => return Err(format!("n{node} cannot be looked at: {error}")),
            }
        }
        Ok(())
    }

    pub(super) async fn restore(
        &self,
        id: u32,
        links: &[Link],
        asked: Impairment,
    ) -> Result<String, String> {
        // Nothing to undo if it was never begun.
        if let Some(via) = self.via(id) {
            let mut working = JoinSet::new();
            for node in self.by_receiver(links)?.into_keys() {
                match via {
                    Via::Queue => {
                        let queue = self.queue(node)?;
                        working.spawn_blocking(move || queue.release(id));
                    }
                    Via::Shaper(_) => {
                        for shaper in self.shapers(node)? {
                            working.spawn_blocking(move || shaper.release(id));
                        }
                    }
                }
            }
            let done: std::io::Result<Vec<()>> = working.join_all().await.into_iter().collect();
            done.map_err(|error| error.to_string())?;
        }
        self.fall(id);
        match prove(HEAL_WITHIN, async || {
            self.prove_restored(links, asked).await
        })
        .await
        {
            Proof::Seen(seen) => Ok(seen),
            Proof::NotSeen(why) => Err(why),
        }
    }

    /// All that is sent arrives once, in order, and sooner than before.
    async fn prove_restored(&self, links: &[Link], asked: Impairment) -> Result<String, String> {
        let mut notes = Vec::new();
        let mut clean = Vec::new();
        for &link in links {
            if self.is_cut(link, None) || self.is_cut(opposite(link), None) {
                notes.push(format!("{link} is cut by another fault"));
            } else if self.impairment(link, None) != Impairment::default() {
                notes.push(format!("{link} is still impaired by another fault"));
            } else {
                clean.push(link);
            }
        }
        let sights = self.measure(&clean, asked).await?;
        for (link, sight) in &sights {
            let chances = &sight.chances;
            if chances.lost() + chances.twice + chances.overtaken > 0 {
                return Err(format!(
                    "of {} datagrams over {link} {} were lost, {} doubled, {} overtaken",
                    chances.sent,
                    chances.lost(),
                    chances.twice,
                    chances.overtaken
                ));
            }
            match (sight.fastest, least(asked)) {
                (None, _) => return Err(format!("nothing crosses {link}")),
                (Some(fastest), Some(least)) if fastest >= least => {
                    return Err(format!("{link} still takes {}", ms(fastest)));
                }
                _ => {}
            }
            if let (Some(_), Some(rate), Some(now)) =
                (transfer(asked), asked.bandwidth_kib_s, sight.rate(0))
                && now <= rate as f64
            {
                return Err(format!("{link} still carries no more than {now:.1} KiB/s"));
            }
        }
        let slowest = sights.iter().filter_map(|(_, sight)| sight.fastest).max();
        notes.insert(
            0,
            format!(
                "{} of {} links carry all again, within {}",
                sights.len(),
                links.len(),
                ms(slowest.unwrap_or_default())
            ),
        );
        Ok(notes.join("; "))
    }
}

/// The least that a datagram takes, there and back if both are slowed; `None` if that is nothing.
fn least(asked: Impairment) -> Option<Duration> {
    let least = asked.latency_ms.saturating_sub(asked.jitter_ms);
    (least > 0).then(|| Duration::from_millis(least))
}

/// Bytes of a datagram that fills a packet.
const FULL: usize = 1400;
/// A throttled link is measured by a transfer that takes about this long …
const TRANSFER: Duration = Duration::from_millis(250);
/// … of at most so many datagrams …
const TRANSFER_MAX: u16 = 100;
/// … unless that takes less than this, which cannot be told from an unthrottled one.
const TRANSFER_MIN: Duration = Duration::from_millis(20);

/// How many full datagrams show that a link is throttled, if that can be seen.
fn transfer(asked: Impairment) -> Option<u16> {
    let bytes_s = asked.bandwidth_kib_s? as f64 * 1024.0;
    let count = (bytes_s * TRANSFER.as_secs_f64() / FULL as f64).ceil();
    let count = count.clamp(4.0, f64::from(TRANSFER_MAX)) as u16;
    let takes = f64::from(count) * FULL as f64 / bytes_s;
    (takes >= TRANSFER_MIN.as_secs_f64()).then_some(count)
}

/// How many datagrams show a chance, if one is asked for.
fn chances(asked: Impairment) -> Option<u16> {
    let percents = [
        asked.loss_percent,
        asked.reorder_percent,
        asked.duplicate_percent,
    ];
    let least = percents.into_iter().filter(|&percent| percent > 0).min()?;
    Some((800 / u16::from(least)).clamp(40, 400))
}

/// What was seen of one link.
#[derive(Debug, Default)]
struct Sight {
    /// The fastest datagram, the one in the middle and the slowest, each way added up on links of
    /// clients.
    fastest: Option<Duration>,
    median: Option<Duration>,
    slowest: Option<Duration>,
    /// Those that chance was to act upon, both ways on links of clients.
    chances: Arrivals,
    /// Bytes that arrived of a transfer, and how long all took.
    carried: Option<(usize, Duration)>,
}

impl Sight {
    async fn of(
        from: &End,
        to: &End,
        link: Link,
        asked: Impairment,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let both_ways = link.from == Endpoint::Clients;
        let volley = Volley {
            count: chances(asked).unwrap_or(20),
            bytes: 64,
            gap: Duration::from_millis(1),
            patience,
        };
        let mut sight = Self::default();
        let there = fly(from, to, volley).await?;
        (sight.fastest, sight.slowest) = (there.fastest(), there.slowest());
        sight.median = there.median();
        sight.chances = there;
        if both_ways {
            let back = fly(to, from, volley).await?;
            let sum = |a: Option<Duration>, b: Option<Duration>| Some(a? + b?);
            sight.fastest = sum(sight.fastest, back.fastest());
            sight.median = sum(sight.median, back.median());
            sight.slowest = sum(sight.slowest, back.slowest());
            sight.chances.add(&back);
        }
        if let Some(count) = transfer(asked) {
            let transfer = Volley {
                count,
                bytes: FULL,
                gap: Duration::ZERO,
                patience: patience + TRANSFER * 8 + ANSWER,
            };
            let came = fly(from, to, transfer).await?;
            let bytes = came.took.len() * FULL;
            sight.carried = (bytes > 0).then_some((bytes, came.all));
        }
        Ok(sight)
    }

    /// In KiB/s, without what the delay takes and what is let through at once.
    fn rate(&self, at_once: usize) -> Option<f64> {
        let (bytes, took) = self.carried?;
        let bytes = bytes.saturating_sub(at_once);
        let took = took.saturating_sub(self.fastest.unwrap_or_default());
        Some(bytes as f64 / 1024.0 / took.as_secs_f64().max(1e-6))
    }
}
