//! Wrong clocks. A node of the reference store has a clock of its own, which it is told to make
//! wrong; other programs, and it too where a schedule says so, are started with libfaketime. What a
//! node then says of its clock, beside the clock of this machine, is the proof. The clock of the
//! machine is never touched.

mod preload;
pub(crate) mod shown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nemesis::{ClockFault, Node, Proof};
use reference_cluster::server::{self, Clocks};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

pub(super) use self::preload::Preload;
use super::cluster::Cluster;
use super::crash::ask;
use super::fault::{Locked, all, locks};
use crate::experiment::Experiment;
use crate::substrate::Happening;

/// The mechanisms' names.
const NATIVE: &str = "native";
const LIBFAKETIME: &str = "libfaketime";
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// For how long a clock is watched that runs fast or slow, or is set over and over.
const WATCH: Duration = Duration::from_millis(300);
/// A clock counts as right that is wrong by no more than this, nanoseconds.
const RIGHT_NS: i64 = 1_000_000;

/// The part of a node's status that matters here.
#[derive(Deserialize)]
struct Standing {
    clock: Clocks,
}

async fn look(http: &reqwest::Client, address: SocketAddr) -> Result<Clocks, String> {
    let answer = http
        .get(format!("http://{address}/v1/status"))
        .timeout(ANSWER_WITHIN)
        .send();
    let answer = answer.await.map_err(|error| error.to_string())?;
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    let standing = serde_json::from_slice::<Standing>(&bytes);
    standing
        .map(|standing| standing.clock)
        .map_err(|_| "it says nothing of its clocks".to_owned())
}

fn told(fault: ClockFault) -> server::ClockFault {
    match fault {
        ClockFault::Jump(by_ms) => server::ClockFault::Jump { by_ms },
        ClockFault::Drift(ppm) => server::ClockFault::Drift { ppm },
        ClockFault::Strobe { by_ms, every_ms } => server::ClockFault::Strobe { by_ms, every_ms },
    }
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// Makes one clock wrong, and looks.
async fn disturb(
    http: &reqwest::Client,
    address: SocketAddr,
    fault: ClockFault,
) -> Result<String, String> {
    let before = look(http, address).await?;
    let began = Instant::now();
    ask(http, address, "clock", &json!(told(fault))).await?;
    let first = look(http, address).await?;
    match fault {
        ClockFault::Jump(by_ms) => {
            let by = first.wall_ahead_ns.saturating_sub(before.wall_ahead_ns);
            let asked = by_ms.saturating_mul(1_000_000);
            let text = format!("shows {:+.1} ms", ms(by));
            let near = by.abs_diff(asked) <= RIGHT_NS.unsigned_abs();
            if near { Ok(text) } else { Err(text) }
        }
        ClockFault::Drift(ppm) => {
            sleep(WATCH).await;
            let last = look(http, address).await?;
            // All the time in which it can have gained that.
            let most = began.elapsed().as_secs_f64() * 1e3;
            let gained = ms(last.monotonic_ahead_ns - before.monotonic_ahead_ns);
            let text = format!("gained {gained:+.4} ms in {most:.0} ms; {ppm} ppm were asked");
            let ppm = ppm as f64 / 1e6;
            let least = WATCH.as_secs_f64() * 1e3 * ppm;
            let within = gained.abs() >= least.abs() * 0.99 && gained.abs() <= (most * ppm).abs();
            if within && gained.signum() == ppm.signum() {
                Ok(text)
            } else {
                Err(text)
            }
        }
        ClockFault::Strobe { by_ms, every_ms } => {
            let asked = by_ms.saturating_mul(1_000_000);
            let (mut there, mut back) = (0, 0);
            let enough = WATCH.max(Duration::from_millis(every_ms.saturating_mul(3)));
            let enough = enough.min(Duration::from_secs(4));
            while began.elapsed() < enough {
                let wall = look(http, address).await?.wall_ahead_ns;
                let by = wall.saturating_sub(before.wall_ahead_ns);
                there += u32::from(by.abs_diff(asked) <= RIGHT_NS.unsigned_abs());
                back += u32::from(by.abs() <= RIGHT_NS);
                sleep(Duration::from_millis((every_ms / 4).clamp(1, 50))).await;
            }
            let text = format!("was seen {there} times {by_ms:+} ms ahead, {back} times not");
            // One that is not set back within that time cannot be seen back.
            let both = there > 0 && (back > 0 || u128::from(every_ms) >= enough.as_millis());
            if both { Ok(text) } else { Err(text) }
        }
    }
}

/// Whether clocks are to be made wrong by libfaketime, with which nodes have to be started.
pub fn is_preloaded(experiment: &Experiment) -> bool {
    let program = experiment.faults.schedule.as_ref();
    program.is_some_and(|program| program.demands(LIBFAKETIME))
}

/// Makes the clocks of the nodes wrong, and has them say so.
pub(super) async fn inject(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    id: u32,
    nodes: &[Node],
    fault: ClockFault,
    via: Option<&str>,
) -> Proof {
    let preloaded = match via {
        None | Some(NATIVE) => false,
        Some(LIBFAKETIME) => true,
        Some(via) => {
            return Proof::NotSeen(format!(
                "clocks are made wrong by {NATIVE} or {LIBFAKETIME}, not by {via}"
            ));
        }
    };
    let locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let mut each = Vec::new();
    for Locked { slot, lifecycle } in &locked {
        let node = slot.node;
        let running = lifecycle.process.as_ref().zip(slot.target.get());
        let done = match (running, &slot.clock) {
            (None, _) => Err("it is not running".to_owned()),
            (Some((_, address)), _) if !preloaded => {
                let seen = disturb(http, address, fault).await;
                seen.map(|text| format!("by {NATIVE}: the clock of n{node} {text}"))
            }
            (Some((process, address)), Some(clock)) => {
                let seen = preload::inject(clock, http, process.pid(), address, id, fault).await;
                seen.map(|text| format!("by {LIBFAKETIME}: the clock of n{node} {text}"))
            }
            (Some(_), None) => Err("it was not started with libfaketime".to_owned()),
        };
        each.push(done.map_err(|why| format!("the clock of n{node}: {why}")));
    }
    all(each)
}

/// Sets them right, having looked whether they are still wrong: a node that was started meanwhile
/// has a right clock, unless libfaketime makes it wrong.
pub(super) async fn heal(
    cluster: &Arc<Cluster>,
    http: &reqwest::Client,
    id: u32,
    nodes: &[Node],
    fault: ClockFault,
) -> Proof {
    let locked = match locks(cluster, nodes).await {
        Ok(locked) => locked,
        Err(unknown) => return Proof::NotSeen(unknown),
    };
    let mut each = Vec::new();
    for Locked { slot, .. } in &locked {
        let (node, address) = (slot.node, slot.target.get());
        let preloaded = slot.clock.as_ref().filter(|clock| clock.is_wrong_for(id));
        let done = match (preloaded, address) {
            (Some(clock), address) => preload::heal(clock, http, address, id, fault).await,
            (None, Some(address)) => {
                let faded = || {
                    let why = format!("the clock of n{node} was right already");
                    let _ = cluster.events.send(Happening::Faded { id, why });
                };
                restore(http, address, fault, faded).await
            }
            (None, None) => {
                let why = format!("n{node} is not running");
                let _ = cluster.events.send(Happening::Faded { id, why });
                Ok("will be right when it starts".to_owned())
            }
        };
        each.push(match done {
            Ok(text) => Ok(format!("the clock of n{node} {text}")),
            Err(why) => Err(format!("the clock of n{node}: {why}")),
        });
    }
    all(each)
}

/// Has one clock set right, and looks. Tells first if it is right already.
async fn restore(
    http: &reqwest::Client,
    address: SocketAddr,
    fault: ClockFault,
    faded: impl FnOnce(),
) -> Result<String, String> {
    let still = match (fault, look(http, address).await) {
        // It is right half of the time.
        (ClockFault::Strobe { .. }, now) => now.is_ok(),
        (_, Ok(now)) => now.wall_ahead_ns.abs() > 0,
        (_, Err(_)) => true,
    };
    if !still {
        faded();
    }
    let reset = ask(http, address, "clock", &json!(server::ClockFault::Reset)).await;
    reset.map_err(|why| format!("it cannot be set: {why}"))?;
    let now = look(http, address).await?;
    if now.wall_ahead_ns.abs() <= RIGHT_NS {
        Ok("is right".to_owned())
    } else {
        Err(format!("it is {:+.1} ms ahead", ms(now.wall_ahead_ns)))
    }
}
