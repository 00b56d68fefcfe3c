//! Faults of links, proven by probes sent over them.

use nemesis::{Endpoint, Impairment, Link};

use super::super::network::{HELD_BACK, RETRANSMIT};
use super::super::{Happens, SimSubstrate};
use super::{Active, MS, OBSERVE, links};

/// When the probes of a link are sent that is cut or slow, nanoseconds after the change. More than
/// one, because the weather may lose one.
const PROBES: [u64; 3] = [0, 60 * MS, 120 * MS];
/// Between probes where there are many, nanoseconds.
const PAUSE: u64 = MS;
/// At most so many probes prove a disturbance.
const PROBES_MAX: f64 = 20_000.0;
/// How long a probe should take that shows a bandwidth, nanoseconds.
const FILL: u64 = 125 * MS;

/// One probe on its way.
#[derive(Clone, Copy)]
pub(in super::super) struct Probe {
    /// Which link of the action, or which node.
    pub of: u16,
    /// Which probe of the link.
    pub number: u32,
    /// When it was sent.
    pub sent: u64,
}

/// What came of the probes of one link.
#[derive(Default)]
pub(super) struct Probed {
    sent: u32,
    /// How often each arrived.
    arrived: Vec<u8>,
    /// How many came late, and after one that was sent later.
    overtaken: u32,
    newest: u32,
    /// How many took as long as what is held back, or was sent again.
    late: u32,
    /// Shortest, longest and all times together, nanoseconds.
    least: Option<u64>,
    pub(super) most: u64,
    total: u64,
    /// How much was sent twice over the link before.
    doubled: u64,
}

impl Probed {
    fn count(&self) -> u64 {
        self.arrived.iter().map(|times| u64::from(*times)).sum()
    }
}

/// Whether what a link carries can be lost, or come twice.
fn is_stream(link: Link) -> bool {
    link.from == Endpoint::Clients
}

/// How many of a hundred something happens to that a fault disturbs in one way.
fn disturbance(impairment: &Impairment) -> Option<(&'static str, u8)> {
    let kinds = [
        ("were lost", impairment.loss_percent),
        ("were overtaken", impairment.reorder_percent),
        ("came twice", impairment.duplicate_percent),
    ];
    kinds.into_iter().find(|(_, percent)| *percent > 0)
}

impl SimSubstrate {
    /// Sends the probes of a fault; how long it takes until they can be judged, nanoseconds.
    pub(super) fn probe_links(&mut self, id: u32, active: &mut Active) -> u64 {
        let links = links(&active.action).to_vec();
        let impairment = match &active.action {
            nemesis::Action::Impair { impairment, .. } => *impairment,
            _ => Impairment::default(),
        };
        if let Some((_, percent)) = disturbance(&impairment) {
            return self.probe_disturbance(id, active, &links, percent);
        }
        let times: Vec<u64> = if impairment.jitter_ms > 0 {
            (0..40).map(|n| n * 5 * MS).collect()
        } else {
            PROBES.to_vec()
        };
        let bytes = match impairment.bandwidth_kib_s {
            // One that fills the link for a while.
            Some(kib) => kib * 1024 / 1_000 * FILL / MS,
            None => 64,
        };
        for (number, after) in times.iter().enumerate() {
            for (of, link) in links.iter().enumerate() {
                let sent = self.now + after;
                active.probed[of].sent += 1;
                // A cut link carries nothing, and a slow one is as slow for a connection.
                if let Some(at) = self.network.stream(sent, *link, bytes, &mut self.rng) {
                    let probe = Probe {
                        of: of as u16,
                        number: number as u32,
                        sent,
                    };
                    self.queue.push(at, Happens::Probe { fault: id, probe });
                }
            }
        }
        let fill = impairment.bandwidth_kib_s.map_or(0, |_| 3 * FILL);
        OBSERVE + (impairment.latency_ms + impairment.jitter_ms) * MS + fill
    }

    /// Sends so many probes that a disturbance of so many percent shows beyond doubt.
    fn probe_disturbance(
        &mut self,
        id: u32,
        active: &mut Active,
        links: &[Link],
        percent: u8,
    ) -> u64 {
        let all = links.len().max(1) as f64;
        let p = f64::from(percent) / 100.0;
        let (_, disturbed) = self.expected(active, percent);
        // Four standard deviations on each side of the middle between calm and disturbed.
        let needed = (64.0 * disturbed * (1.0 - disturbed) / (p * p)).clamp(40.0, PROBES_MAX);
        let each = (needed / all).ceil() as u32;
        for number in 0..each {
            let sent = self.now + u64::from(number) * PAUSE;
            for (of, link) in links.iter().enumerate() {
                if number == 0 {
                    active.probed[of].doubled = self.network.doubled(*link);
                }
                active.probed[of].sent += 1;
                let arrivals = if is_stream(*link) {
                    [self.network.stream(sent, *link, 64, &mut self.rng), None]
                } else {
                    self.network.datagram(sent, *link, 64, &mut self.rng)
                };
                for at in arrivals.into_iter().flatten() {
                    let of = of as u16;
                    let probe = Probe { of, number, sent };
                    self.queue.push(at, Happens::Probe { fault: id, probe });
                }
            }
        }
        // All of a client's link comes late; that something was sent again is seen the first time.
        u64::from(each) * PAUSE + OBSERVE + 2 * RETRANSMIT
    }

    /// Which share of probes is disturbed without the fault, and with it.
    fn expected(&self, active: &Active, percent: u8) -> (f64, f64) {
        let links = links(&active.action);
        let weather = self.options.conditions;
        let (drop, twice) = match &active.action {
            nemesis::Action::Impair { impairment, .. } if impairment.loss_percent > 0 => {
                (weather.drop, 0.0)
            }
            nemesis::Action::Impair { impairment, .. } if impairment.duplicate_percent > 0 => {
                (0.0, weather.duplicate)
            }
            _ => (0.0, 0.0),
        };
        let datagrams = links.iter().filter(|link| !is_stream(**link)).count();
        let calm = (drop + twice) * datagrams as f64 / links.len().max(1) as f64;
        let p = f64::from(percent) / 100.0;
        (calm, calm + p * (1.0 - calm))
    }

    pub(in super::super) fn probe_arrived(&mut self, fault: u32, probe: Probe) {
        let now = self.now;
        let Some(active) = self.faults.get_mut(&fault) else {
            return;
        };
        let Some(probed) = active.probed.get_mut(usize::from(probe.of)) else {
            return;
        };
        let took = now - probe.sent;
        let usual = self.options.conditions.latency_us * 1_000;
        let number = probe.number as usize;
        if probed.arrived.len() <= number {
            probed.arrived.resize(number + 1, 0);
        }
        probed.arrived[number] = probed.arrived[number].saturating_add(1);
        let late = took >= usual + *HELD_BACK.start();
        probed.overtaken += u32::from(late && probe.number < probed.newest);
        probed.newest = probed.newest.max(probe.number);
        probed.late += u32::from(late);
        probed.least = Some(probed.least.map_or(took, |least| least.min(took)));
        probed.most = probed.most.max(took);
        probed.total += took;
    }

    pub(super) fn judge_impaired(
        &self,
        active: &Active,
        impairment: &Impairment,
    ) -> (bool, String) {
        if let Some((what, percent)) = disturbance(impairment) {
            return self.judge_disturbed(active, what, percent);
        }
        let fastest = active.probed.iter().map(|p| p.least.unwrap_or(u64::MAX));
        let slowest = active.probed.iter().map(|p| match p.count() {
            0 => u64::MAX,
            _ => p.most,
        });
        let (Some(fastest), Some(slowest)) = (fastest.min(), slowest.max()) else {
            return (false, "no link is meant".to_owned());
        };
        let latency_ms = impairment.latency_ms;
        let least = latency_ms.saturating_sub(impairment.jitter_ms) * MS;
        let count: u64 = active.probed.iter().map(Probed::count).sum();
        let total: u64 = active.probed.iter().map(|p| p.total).sum();
        let mean = total / count.max(1);
        let mut asked = Vec::new();
        if latency_ms > 0 {
            asked.push(format!("{latency_ms} ms"));
        }
        if let Some(kib) = impairment.bandwidth_kib_s {
            asked.push(format!("{kib} KiB/s"));
        }
        let asked = asked.join(" and ");
        // A bandwidth shows in how long much takes, a delay that varies in its mean.
        let fill = impairment.bandwidth_kib_s.map_or(0, |_| FILL * 9 / 10);
        let (seen, took) = if active.healing {
            let within = fill.max(if impairment.jitter_ms > 0 {
                latency_ms * MS / 2
            } else {
                latency_ms * MS
            });
            match impairment.jitter_ms {
                0 => (slowest < within, slowest),
                _ => (slowest != u64::MAX && mean < within, mean),
            }
        } else {
            match impairment.jitter_ms {
                0 => (fastest >= least + fill && fastest != u64::MAX, fastest),
                _ => (
                    fastest >= least + fill && mean >= latency_ms * MS / 2 && count > 0,
                    mean,
                ),
            }
        };
        if took == u64::MAX || count == 0 {
            return (false, "no probe arrived".to_owned());
        }
        let ms = took as f64 / 1e6;
        (seen, format!("a probe took {ms:.1} ms; {asked} were asked"))
    }

    fn judge_disturbed(&self, active: &Active, what: &str, percent: u8) -> (bool, String) {
        let nemesis::Action::Impair { links, impairment } = &active.action else {
            return (false, "no link is meant".to_owned());
        };
        let (mut sent, mut disturbed, mut streams) = (0, 0, 0);
        for (link, probed) in links.iter().zip(&active.probed) {
            sent += probed.sent;
            let stream = is_stream(*link);
            streams += usize::from(stream);
            let once = probed.arrived.iter().filter(|times| **times > 0).count() as u32;
            disturbed += if impairment.loss_percent > 0 {
                // What a connection lost it sends again.
                probed.sent - once + if stream { probed.late } else { 0 }
            } else if impairment.reorder_percent > 0 {
                if stream {
                    probed.late
                } else {
                    probed.overtaken
                }
            } else if stream {
                // A connection delivers it once; that it was sent twice the network knows.
                (self.network.doubled(*link) - probed.doubled) as u32
            } else {
                probed.arrived.iter().filter(|times| **times > 1).count() as u32
            };
        }
        let (calm, expected) = self.expected(active, percent);
        let share = f64::from(disturbed) / f64::from(sent.max(1));
        let shows = share > f64::midpoint(calm, expected);
        let mut text = format!("{disturbed} of {sent} probes {what}; {percent}% were asked");
        if streams > 0 {
            let how = match what {
                "were lost" => "sent again",
                "were overtaken" => "held back",
                _ => "delivered once",
            };
            text = format!("{text} (on the connections of clients {how})");
        }
        (shows != active.healing, text)
    }
}

pub(super) fn judge_cut(active: &Active) -> (bool, String) {
    let total = active.probed.len();
    let silent = active.probed.iter().filter(|p| p.count() == 0).count();
    if active.healing {
        (
            silent == 0,
            format!("{} of {total} links carry probes", total - silent),
        )
    } else {
        (
            silent == total,
            format!("{silent} of {total} cut links gave no answer in 300 ms"),
        )
    }
}
