//! The task that owns the replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender as DiskSender;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::NodeOptions;
use super::faults::{Clock, ClockFault, Clocks, CrashPoint, Trap};
use super::metrics::Metrics;
use super::peers::Links;
use crate::core::{
    DiskOp, Effect, Event, Message, NodeId, Record, Replica, Reply, Request, RequestId, Status,
    Time, Trace, start,
};

/// Inputs that may wait for the replica; beyond that requests are refused and messages lost.
pub(super) const INPUTS_MAX: usize = 8_192;
/// Unanswered requests beyond which those that nobody waits for are forgotten.
const ABANDONED_MAX: usize = 1_024;
/// Longest sleep; a deadline of "never" is looked at again after it.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// What reaches the replica from outside.
pub(super) enum Input {
    /// A client's request, and where its answer goes.
    Request(Request, oneshot::Sender<Reply>),
    /// Messages of a peer.
    Messages(NodeId, Vec<Message>),
    /// Somebody wants to know how it stands, and what its clocks show.
    Status(oneshot::Sender<(Status, Clocks)>),
    /// Its clock is to be wrong, or right again.
    Clock(ClockFault, oneshot::Sender<Clocks>),
}

/// What the replica acts upon.
pub(super) struct ActsUpon {
    pub links: Links,
    pub disk: DiskSender<DiskOp>,
    pub metrics: Arc<Metrics>,
    pub trap: Arc<Trap>,
}

/// The replica and all that it acts upon.
pub(super) struct Driver {
    replica: Box<dyn Replica>,
    /// The node's own: it starts with the wall clock's time, by which last-write-wins tells writes
    /// apart.
    clock: Clock,
    effects: Vec<Effect>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    requests: u64,
    links: Links,
    disk: DiskSender<DiskOp>,
    metrics: Arc<Metrics>,
    trap: Arc<Trap>,
}

impl Driver {
    /// Starts the replica on what was recovered.
    pub fn new(
        options: &NodeOptions,
        mut nodes: Vec<NodeId>,
        recovered: Vec<Record>,
        acts: ActsUpon,
    ) -> Self {
        let ActsUpon {
            links,
            disk,
            metrics,
            trap,
        } = acts;
        nodes.sort_unstable();
        let mut effects = Vec::new();
        let NodeOptions {
            config, id, seed, ..
        } = options;
        let clock = Clock::start();
        let now = clock.now();
        let replica = start(config, *id, &nodes, *seed, now, recovered, &mut effects);
        let (waiting, requests) = (BTreeMap::new(), 0);
        Self {
            replica,
            clock,
            effects,
            waiting,
            requests,
            links,
            disk,
            metrics,
            trap,
        }
    }

    /// Feeds the replica until nobody is left to feed it.
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut synced: mpsc::UnboundedReceiver<u64>,
    ) {
        self.carry_out();
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                token = synced.recv() => match token {
                    Some(token) => self.synced(token),
                    None => return,
                },
                () = sleep_until(wake) => {
                    self.beat();
                    if self.now() >= self.replica.deadline() {
                        self.handle(Event::Wake);
                    }
                }
                input = inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
            }
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    /// When the replica's deadline is, or a while hence if that is never.
    fn wake(&self) -> Instant {
        let latest = self.now() + SLEEP_MAX.as_nanos() as Time;
        let wake = self.clock.when(self.replica.deadline().min(latest));
        self.clock.next_beat().map_or(wake, |beat| wake.min(beat))
    }

    /// Sets the clock there or back, if that is due.
    fn beat(&mut self) {
        let before = self.clock.step();
        self.clock.beat(Instant::now());
        if self.clock.step() != before {
            self.handle(Event::Stepped(self.clock.step()));
        }
    }

    fn synced(&mut self, token: u64) {
        self.trap.pass(CrashPoint::BeforeApply);
        let now = self.now();
        self.replica
            .handle(now, Event::Synced(token), &mut self.effects);
        self.trap.pass(CrashPoint::BeforeReply);
        self.carry_out();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Request(request, answer) => {
                self.requests += 1;
                let id = RequestId(self.requests);
                if self.waiting.len() >= ABANDONED_MAX {
                    self.waiting.retain(|_, answer| !answer.is_closed());
                }
                self.waiting.insert(id, answer);
                self.handle(Event::Request(id, request));
            }
            Input::Messages(from, messages) => {
                self.metrics.messages_received.inc_by(messages.len() as u64);
                for message in messages {
                    self.handle(Event::Message(from, message));
                }
            }
            Input::Status(answer) => {
                // Who asked may have gone.
                let _ = answer.send((self.replica.status(), self.clock.reading(Instant::now())));
            }
            Input::Clock(fault, answer) => {
                self.clock.disturb(fault, Instant::now());
                tracing::warn!(?fault, "the clock is set as told");
                self.handle(Event::Stepped(self.clock.step()));
                let _ = answer.send(self.clock.reading(Instant::now()));
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.replica.handle(now, event, &mut self.effects);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send(to, message) => {
                    let link = self.links.get(&to);
                    if link.is_none_or(|link| link.try_send(message).is_err()) {
                        self.metrics.messages_dropped.inc();
                    }
                }
                Effect::Reply(id, reply) => {
                    if let Some(answer) = self.waiting.remove(&id) {
                        // The client may have gone.
                        let _ = answer.send(reply);
                    }
                }
                // The thread ends only on a failure, which ends the node.
                Effect::Disk(operation) => drop(self.disk.send(operation)),
                Effect::Trace(trace) => tell(&trace),
            }
        }
    }
}

/// Nanoseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the wall clock comes in"
)]
pub(super) fn wall_clock() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as Time)
}

/// Writes to the log what an operator wants to know.
fn tell(trace: &Trace) {
    match trace {
        Trace::Role { role, epoch } => tracing::info!(?role, epoch, "role"),
        Trace::Discarded { keep, entries } => {
            let first = entries.first().map_or(0, |(position, _)| position.index);
            let last = entries.last().map_or(0, |(position, _)| position.index);
            let count = entries.len();
            tracing::warn!(
                count,
                first,
                last,
                keep = keep.index,
                "discarded a divergent tail"
            );
        }
        Trace::SnapshotInstalled(position) => {
            tracing::info!(
                index = position.index,
                epoch = position.epoch,
                "installed a snapshot"
            );
        }
        Trace::Stopped(why) => tracing::error!(%why, "replication stopped"),
        Trace::Remark(what) => tracing::info!("{what}"),
        Trace::Created { .. } => {}
    }
}
