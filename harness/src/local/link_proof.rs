//! Proofs about links: probes through their proxies, all at once.

use std::num::NonZeroU64;
use std::time::Duration;

use nemesis::{Action, Endpoint, Link, Proof};
use tokio::task::JoinSet;

use super::cluster::Slot;
use super::fault::{ANSWER, HEAL_WITHIN, PROVE_WITHIN, SILENCE, prove};
use super::network::Proxies;
use super::probe::{Probe, probe};
use super::proxy::{Impairment, LinkProxy};

/// A throttled link is measured by a request that takes about this long to send …
const TRANSFER: Duration = Duration::from_millis(100);
/// … but is no longer than this, which servers take without complaint.
const PADDING_MAX: u64 = 16 * 1024;
/// A transfer faster than this cannot be told from an unthrottled one.
const TRANSFER_MIN: Duration = Duration::from_millis(10);
/// Delays below this are measured several times, lest one slow answer pass for a slow link.
const SHORT: Duration = Duration::from_millis(100);
/// How often.
const ROUNDS: usize = 3;

/// How much slower a link should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slowness {
    latency: Duration,
    jitter: Duration,
    rate: Option<NonZeroU64>,
}

impl Slowness {
    /// What an action asks for; nothing, unless it is [`Action::Impair`].
    pub fn of(action: &Action) -> Self {
        match action {
            Action::Impair { impairment, .. } => Self {
                latency: Duration::from_millis(impairment.latency_ms),
                jitter: Duration::from_millis(impairment.jitter_ms),
                // A link of no bandwidth would be a cut; the least that is not is 1 KiB/s.
                rate: impairment.bandwidth_kib_s.map(|kib| {
                    NonZeroU64::new(kib.saturating_mul(1024)).unwrap_or(NonZeroU64::MIN)
                }),
            },
            _ => Self {
                latency: Duration::ZERO,
                jitter: Duration::ZERO,
                rate: None,
            },
        }
    }

    pub fn impairment(self) -> Impairment {
        Impairment {
            cut: false,
            latency: self.latency,
            jitter: self.jitter,
            rate: self.rate,
        }
    }

    /// Bytes to add to a probe so that a throttle shows.
    fn padding(self) -> u64 {
        self.rate.map_or(0, |rate| {
            let bytes = rate.get() as f64 * TRANSFER.as_secs_f64();
            (bytes as u64).min(PADDING_MAX)
        })
    }

    /// How long sending the padding takes, if that can be measured.
    fn transfer(self) -> Option<Duration> {
        let rate = self.rate?;
        let takes = Duration::from_secs_f64(self.padding() as f64 / rate.get() as f64);
        (takes >= TRANSFER_MIN).then_some(takes)
    }

    /// The least that a padded probe takes over such a link.
    fn round_trip(self) -> Duration {
        self.latency.saturating_sub(self.jitter) + self.transfer().unwrap_or_default()
    }

    /// The most that it is made to take.
    fn longest(self) -> Duration {
        self.latency + self.jitter + self.transfer().unwrap_or_default()
    }

    fn throttle_note(self) -> &'static str {
        match (self.rate, self.transfer()) {
            (Some(_), None) => " (the throttle is too wide to be measured and is not proven)",
            (Some(_), Some(_)) => " (latency and the transfer at the throttled rate)",
            (None, _) => "",
        }
    }
}

/// What was seen of one link.
struct Sight<'a> {
    link: Link,
    proxy: &'a LinkProxy,
    probe: Probe,
    /// Bytes that the proxy let through meanwhile, anybody's.
    crossed: u64,
    target_is_down: bool,
    target_is_paused: bool,
}

impl Sight<'_> {
    /// Why no round trip can be measured, whatever this link is like.
    fn obstacle(&self) -> Option<String> {
        let node = self.link.to;
        if self.proxy.state().cut {
            Some(format!("{} is cut by another fault", self.link))
        } else if self.target_is_down {
            Some(format!("{node} is down"))
        } else if self.target_is_paused {
            Some(format!("{node} is paused"))
        } else {
            None
        }
    }
}

fn resolve<'a>(proxies: &'a Proxies, links: &[Link]) -> Result<Vec<(Link, &'a LinkProxy)>, String> {
    if links.is_empty() {
        return Err("no link is meant".to_owned());
    }
    links
        .iter()
        .map(|link| {
            let proxy = proxies.get(*link);
            proxy
                .map(|proxy| (*link, proxy))
                .ok_or_else(|| format!("there is no link {link}"))
        })
        .collect()
}

async fn look<'a>(
    slots: &[Slot],
    links: &[(Link, &'a LinkProxy)],
    padding: u64,
    within: Duration,
) -> Vec<Sight<'a>> {
    let before: Vec<_> = links.iter().map(|(_, proxy)| proxy.crossed()).collect();
    let mut probing = JoinSet::new();
    for (i, (_, proxy)) in links.iter().enumerate() {
        let address = proxy.address();
        probing.spawn(async move { (i, probe(address, padding as usize, within).await) });
    }
    let mut probes = probing.join_all().await;
    probes.sort_by_key(|(i, _)| *i);
    probes
        .into_iter()
        .map(|(i, probe)| {
            let (link, proxy) = links[i];
            let paused = match link.to {
                Endpoint::Node(node) => slots
                    .iter()
                    .any(|slot| slot.node == node && slot.is_paused()),
                Endpoint::Clients => false,
            };
            Sight {
                link,
                proxy,
                probe,
                crossed: proxy.crossed() - before[i],
                target_is_down: proxy.target().get().is_none(),
                target_is_paused: paused,
            }
        })
        .collect()
}

/// `3 of 4 links did it; n2 is down` from the number that did and the reasons of the others.
fn tally(did: usize, of: usize, what: &str, mut others: Vec<String>) -> String {
    others.sort();
    others.dedup();
    others.insert(0, format!("{did} of {of} {what}"));
    others.join("; ")
}

/// The longest round trip that faults add to any of the links.
fn slowest(links: &[(Link, &LinkProxy)]) -> Duration {
    let latencies = links.iter().map(|(_, proxy)| {
        let state = proxy.state();
        state.latency + state.jitter
    });
    latencies.max().unwrap_or_default()
}

/// No probe was answered and nothing went through, whoever sent it.
pub(super) async fn prove_cut(proxies: &Proxies, slots: &[Slot], links: &[Link]) -> Proof {
    let links = match resolve(proxies, links) {
        Ok(links) => links,
        Err(why) => return Proof::NotSeen(why),
    };
    prove(PROVE_WITHIN, async || {
        // On a link that another fault slows, silence means something only after its latency.
        let within = SILENCE + slowest(&links);
        let sights = look(slots, &links, 0, within).await;
        let (held, passed): (Vec<_>, Vec<_>) = sights
            .iter()
            .partition(|s| s.probe == Probe::Silent && s.crossed == 0);
        if passed.is_empty() {
            let what = format!("cut links let nothing through and gave no answer in {within:?}");
            return Ok(tally(held.len(), links.len(), &what, Vec::new()));
        }
        let others = passed
            .iter()
            .map(|s| format!("{}: {:?}, {} bytes crossed", s.link, s.probe, s.crossed))
            .collect();
        Err(tally(
            held.len(),
            links.len(),
            "links were seen to be cut",
            others,
        ))
    })
    .await
}

/// Every probe got through: to an answer, or to a node that cannot give one.
pub(super) async fn prove_passing(proxies: &Proxies, slots: &[Slot], links: &[Link]) -> Proof {
    let links = match resolve(proxies, links) {
        Ok(links) => links,
        Err(why) => return Proof::NotSeen(why),
    };
    prove(HEAL_WITHIN, async || {
        let sights = look(slots, &links, 0, ANSWER + slowest(&links)).await;
        let mut answered = 0;
        let mut notes = Vec::new();
        for s in &sights {
            match s.probe {
                Probe::Answered(..) => answered += 1,
                Probe::Closed if s.target_is_down => {
                    notes.push(format!(
                        "{} lets through again; {} itself is down",
                        s.link, s.link.to
                    ));
                }
                Probe::Silent if s.proxy.state().cut => {
                    notes.push(format!("{} is still cut by another fault", s.link));
                }
                Probe::Silent if s.target_is_paused && s.crossed > 0 => {
                    notes.push(format!(
                        "{} lets through again; {} is paused",
                        s.link, s.link.to
                    ));
                }
                _ => return Err(format!("a probe over {} says {:?}", s.link, s.probe)),
            }
        }
        Ok(tally(answered, links.len(), "links answer", notes))
    })
    .await
}

/// The shortest of some round trips over each link; an obstacle's name where there is none.
async fn measure<'a>(
    slots: &[Slot],
    links: &[(Link, &'a LinkProxy)],
    slowness: Slowness,
) -> Vec<(Sight<'a>, Result<Duration, String>)> {
    let within = slowness.longest() * 2 + ANSWER;
    let rounds = if slowness.round_trip() < SHORT {
        ROUNDS
    } else {
        1
    };
    let mut best: Vec<(Sight<'_>, Result<Duration, String>)> = Vec::new();
    for _ in 0..rounds {
        for (i, s) in look(slots, links, slowness.padding(), within)
            .await
            .into_iter()
            .enumerate()
        {
            let took = match (&s.probe, s.obstacle()) {
                (Probe::Answered(_, took), _) => Ok(*took),
                (_, Some(obstacle)) => Err(obstacle),
                // No answer in that time is a round trip of more than that time.
                (Probe::Silent, None) => Ok(within),
                (other, None) => Err(format!("a probe over {} says {other:?}", s.link)),
            };
            match best.get_mut(i) {
                None => best.push((s, took)),
                Some((_, Ok(least))) => *least = (*least).min(took.unwrap_or(*least)),
                Some((_, missing)) => *missing = took,
            }
        }
    }
    best
}

/// No round trip over the links was shorter than asked for.
pub(super) async fn prove_slow(
    proxies: &Proxies,
    slots: &[Slot],
    links: &[Link],
    slowness: Slowness,
) -> Proof {
    let links = match resolve(proxies, links) {
        Ok(links) => links,
        Err(why) => return Proof::NotSeen(why),
    };
    let least = slowness.round_trip();
    if least.is_zero() {
        return Proof::NotSeen("no delay was asked for that could be measured".to_owned());
    }
    prove(PROVE_WITHIN, async || {
        let mut slow = Vec::new();
        let mut notes = Vec::new();
        for (s, took) in measure(slots, &links, slowness).await {
            match took {
                Ok(took) if took >= least => slow.push(took),
                Ok(took) => return Err(format!("{} answered in {took:.1?} already", s.link)),
                Err(note) => notes.push(note),
            }
        }
        let what = format!(
            "slowed links measured, none answered in less than {:.1?}, {least:.1?} asked{}",
            slow.iter().min().copied().unwrap_or_default(),
            slowness.throttle_note()
        );
        if slow.is_empty() {
            return Err(tally(
                0,
                links.len(),
                "slowed links could be measured",
                notes,
            ));
        }
        Ok(tally(slow.len(), links.len(), &what, notes))
    })
    .await
}

/// Every link answered sooner than while it was slow.
pub(super) async fn prove_quick(
    proxies: &Proxies,
    slots: &[Slot],
    links: &[Link],
    slowness: Slowness,
) -> Proof {
    let links = match resolve(proxies, links) {
        Ok(links) => links,
        Err(why) => return Proof::NotSeen(why),
    };
    let least = slowness.round_trip();
    if least.is_zero() {
        return Proof::NotSeen("no delay was asked for that could be measured".to_owned());
    }
    prove(HEAL_WITHIN, async || {
        let mut quick = Vec::new();
        let mut masked = 0;
        let mut notes = Vec::new();
        for (s, took) in measure(slots, &links, slowness).await {
            let rest = s.proxy.state();
            match took {
                Ok(took) if took < least => quick.push(took),
                Ok(_) if !rest.latency.is_zero() || rest.rate.is_some() => {
                    masked += 1;
                    notes.push(format!("{} is still slowed by another fault", s.link));
                }
                Ok(took) => return Err(format!("{} still takes {took:.1?}", s.link)),
                Err(note) => notes.push(note),
            }
        }
        let what = format!(
            "links answer in {:.1?} at most",
            quick.iter().max().copied().unwrap_or_default()
        );
        if quick.is_empty() && masked == 0 {
            return Err(tally(0, links.len(), "links could be measured", notes));
        }
        Ok(tally(quick.len(), links.len(), &what, notes))
    })
    .await
}
