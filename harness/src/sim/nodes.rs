//! The nodes of the simulation: booting, crashing, and carrying out what replicas ask for.

use checkers::Outcome;
use nemesis::{CrashPoint, DiskFault, Endpoint, Link, Node, NodeView, View};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use reference_cluster::core::gateway::client_id;
use reference_cluster::core::{
    self, DiskOp, Effect, Event, NodeId, Replica, RequestId, Time, Trace,
};

use super::clock::Clock;
use super::disk::{self, Disk};
use super::trace::Sent;
use super::{Happens, SimSubstrate, Transit, errand, translate, truth};

/// One node.
pub(super) struct SimNode {
    pub(super) replica: Option<Box<dyn Replica>>,
    pub(super) disk: Disk<core::Record>,
    pub(super) clock: Clock,
    /// The clock as it would be without any fault.
    pub(super) right: Clock,
    /// How far the wall clock was set forward, nanoseconds.
    pub(super) step: i64,
    pub(super) incarnation: u32,
    /// The version of the storage format that its program writes.
    pub(super) storage_version: u16,
    pub(super) paused: u32,
    /// How many of those who pause it do so because its share of the processor is used up.
    pub(super) throttled: u32,
    /// What arrived while paused, as a socket buffer keeps it.
    pub(super) backlog: Vec<Event>,
    /// Local time for which a wake is scheduled.
    pub(super) wake: Time,
    /// When the disk is done with the syncs so far.
    pub(super) disk_free: u64,
    /// Events handled, as evidence that a pause holds.
    pub(super) handled: u64,
    /// When its process ended last, if ever, and whether the machine lost its power.
    pub(super) ended: Option<(u64, bool)>,
    /// Where its process is to end next.
    pub(super) trap: Option<Trap>,
    /// How its disk misbehaves.
    pub(super) disk_fault: Option<DiskFault>,
    /// Its journal could not be written: the process ends once it has done what it is at.
    pub(super) failing: bool,
    /// Why its process ended by itself, or did not start, last.
    pub(super) last_words: Option<String>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Alone.
    Process,
    /// With the machine's power.
    Power,
    /// With the machine's power, in the middle of a write.
    Torn,
}

/// Where a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// At a named point.
    Point(CrashPoint),
    /// With the next record written and not synced.
    Tear,
}

impl SimNode {
    /// One that was never started.
    pub(super) fn new(clock: Clock, storage_version: u16) -> Self {
        Self {
            replica: None,
            disk: Disk::default(),
            clock,
            right: clock,
            step: 0,
            incarnation: 0,
            storage_version,
            paused: 0,
            throttled: 0,
            backlog: Vec::new(),
            wake: Time::MAX,
            disk_free: 0,
            handled: 0,
            ended: None,
            trap: None,
            disk_fault: None,
            failing: false,
            last_words: None,
        }
    }

    /// Whether a message that arrives now was lost when its sender, this node, ended: half of its
    /// way it was in buffers of the process, which a kill loses; on a slow link it was then in a
    /// queue of the machine, which a loss of power loses, too.
    pub(super) fn took_along(&self, transit: Transit, now: u64) -> bool {
        let Some((ended, power)) = self.ended else {
            return false;
        };
        let way = (now - transit.sent).saturating_sub(transit.slowed);
        let queued = if power { transit.slowed } else { 0 };
        ended >= transit.sent && ended < transit.sent + way / 2 + queued
    }
}

impl SimSubstrate {
    pub(super) fn node(&mut self, node: u16) -> &mut SimNode {
        &mut self.nodes[usize::from(node) - 1]
    }

    pub(super) fn node_runs(&self, node: u16) -> bool {
        self.nodes[usize::from(node) - 1].replica.is_some()
    }

    /// Starts a node on what its disk holds. One that refuses it does not start, and says why.
    pub(super) fn boot(&mut self, node: u16) {
        let now = self.now;
        let recovered = match self.node(node).disk.recover() {
            Ok(recovered) => recovered,
            Err(disk::Corrupt { record, of }) => {
                let why = format!(
                    "record {} of {of} of its journal does not check",
                    record + 1
                );
                self.node(node).last_words = Some(why);
                return;
            }
        };
        let (mut config, nodes) = (self.options.config.clone(), self.options.all_nodes());
        let seed = self.options.seed ^ u64::from(node);
        let mut effects = std::mem::take(&mut self.effects);
        let this = self.node(node);
        config.storage_version = this.storage_version;
        this.incarnation += 1;
        this.wake = Time::MAX;
        this.disk_free = now;
        let seed = seed.wrapping_add(u64::from(this.incarnation) << 32);
        let step = this.step;
        let local = this.clock.local(now);
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        this.replica = Some(core::start(
            &config,
            NodeId(node),
            &ids,
            seed,
            local,
            recovered,
            &mut effects,
        ));
        self.effects = effects;
        self.carry_out(node);
        if step != 0 {
            self.deliver(node, Event::Stepped(step));
        }
    }

    /// Starts a node that is down; one that refuses what its disk holds is started on nothing, as
    /// an operator would. What was remarkable about it.
    pub(super) fn restart(&mut self, node: u16) -> Option<String> {
        self.boot(node);
        if self.node(node).replica.is_some() {
            return None;
        }
        let why = self.node(node).last_words.take().unwrap_or_default();
        self.node(node).disk.wipe();
        self.boot(node);
        Some(format!("n{node} was started on nothing: {why}"))
    }

    /// Ends a node's process; clients with a request there see their connection break.
    pub(super) fn crash(&mut self, node: u16, end: End) {
        let now = self.now;
        let mut rng = std::mem::replace(&mut self.rng, Pcg64::seed_from_u64(0));
        let this = self.node(node);
        this.replica = None;
        this.backlog.clear();
        this.trap = None;
        this.failing = false;
        this.ended = Some((now, end != End::Process));
        match end {
            End::Process => this.disk.process_crash(),
            End::Power => drop(this.disk.power_loss(&mut rng)),
            End::Torn => drop(this.disk.torn_write()),
        }
        self.rng = rng;
        self.truth.roles.push(truth::RoleChange {
            at: now,
            node,
            role: None,
            epoch: 0,
        });
        for thread in 0..self.open.len() {
            if let Some(open) = &self.open[thread]
                && open.node == node
                && open.arrived
            {
                let (call, invocation) = (open.call, open.invocation.clone());
                let lost = translate::unanswered(&invocation, Outcome::Info, "connection-lost");
                self.answer(thread as u32, call, node, lost);
            }
        }
    }

    pub(super) fn deliver(&mut self, node: u16, event: Event) {
        let now = self.now;
        let this = &mut self.nodes[usize::from(node) - 1];
        if this.paused > 0 {
            this.backlog.push(event);
            return;
        }
        let trap = this.trap.filter(|_| matches!(event, Event::Synced(_)));
        let Some(replica) = &mut this.replica else {
            return;
        };
        if trap == Some(Trap::Point(CrashPoint::BeforeApply)) {
            return self.spring(node);
        }
        this.handled += 1;
        replica.handle(this.clock.local(now), event, &mut self.effects);
        if trap == Some(Trap::Point(CrashPoint::BeforeReply)) {
            self.effects.clear();
            return self.spring(node);
        }
        self.carry_out(node);
    }

    /// Ends a process where it is to end.
    fn spring(&mut self, node: u16) {
        let Some(trap) = self.node(node).trap.take() else {
            return;
        };
        let (end, words) = match trap {
            Trap::Point(point) => (End::Process, point.name()),
            Trap::Tear => (End::Torn, "in the middle of a write"),
        };
        self.crash(node, end);
        self.node(node).last_words = Some(words.to_owned());
        self.trap_sprung(node);
    }

    /// Does what the replica asked for in its last step, and schedules its next wake.
    pub(super) fn carry_out(&mut self, node: u16) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(NodeId(to), message) => {
                    let link = Link {
                        from: Endpoint::Node(node),
                        to: Endpoint::Node(to),
                    };
                    let arrivals = self.network.datagram(self.now, link, 200, &mut self.rng);
                    self.watcher.sent(&Sent {
                        now: self.now,
                        from: node,
                        to,
                        message: &message,
                        arrivals,
                        cut: self.network.is_cut(link),
                    });
                    match arrivals {
                        [None, None] => {}
                        [first, second] => {
                            let transit = Transit {
                                sent: self.now,
                                slowed: self.network.slowed(link),
                            };
                            if let Some(at) = second {
                                let message = message.clone();
                                self.queue.push(
                                    at,
                                    Happens::Deliver {
                                        to,
                                        from: node,
                                        message,
                                        transit,
                                    },
                                );
                            }
                            if let Some(at) = first {
                                self.queue.push(
                                    at,
                                    Happens::Deliver {
                                        to,
                                        from: node,
                                        message,
                                        transit,
                                    },
                                );
                            }
                        }
                    }
                }
                Effect::Reply(RequestId(call), reply) if call >= errand::OPERATORS => {
                    self.errand_answered(call, &reply);
                }
                Effect::Reply(RequestId(call), reply) => self.reply(node, call, &reply),
                Effect::Disk(op) => {
                    self.write(node, op);
                    if self.nodes[usize::from(node) - 1].replica.is_none() {
                        break;
                    }
                }
                Effect::Trace(trace) => self.observe(node, trace),
            }
        }
        self.effects = effects;
        let now = self.now;
        let this = &mut self.nodes[usize::from(node) - 1];
        if this.failing {
            // The journal is written by a thread of its own, so that what was to be said is said.
            return self.crash(node, End::Process);
        }
        if let Some(replica) = &this.replica {
            let deadline = replica.deadline();
            if deadline < this.wake {
                this.wake = deadline;
                let at = this.clock.when(deadline).max(now);
                self.queue.push(at, Happens::Wake { node });
            }
        }
    }

    pub(super) fn write(&mut self, node: u16, op: DiskOp) {
        let now = self.now;
        let this = self.node(node);
        if this.failing {
            return;
        }
        let syncs = !matches!(op, DiskOp::Append(_));
        match this.trap {
            Some(Trap::Point(CrashPoint::BeforeFsync)) if syncs => return self.spring(node),
            Some(Trap::Tear) if syncs && this.disk.unsynced() > 0 => return self.spring(node),
            _ => {}
        }
        let fault = this.disk_fault;
        match (fault, &op) {
            (Some(DiskFault::Full), DiskOp::Append(_) | DiskOp::Replace(..)) => {
                return self.fail(node, "no space left on its disk");
            }
            (Some(DiskFault::ReadOnly), DiskOp::Append(_) | DiskOp::Replace(..)) => {
                return self.fail(node, "its file system is read-only");
            }
            _ => {}
        }
        let this = self.node(node);
        let token = match op {
            DiskOp::Append(record) => {
                this.disk.append(record, now);
                return;
            }
            DiskOp::Sync(token) => {
                this.disk.sync(token);
                token
            }
            DiskOp::Replace(records, token) => {
                this.disk.replace(records, token, now);
                token
            }
        };
        let at = self.sync_done(node);
        let this = self.node(node);
        let incarnation = this.incarnation;
        // A file that is to replace another is synced before it does: nothing is lost with it.
        let fails = fault == Some(DiskFault::FsyncError);
        self.queue.push(
            at,
            Happens::Synced {
                node,
                incarnation,
                token,
                fails,
            },
        );
    }

    /// When a sync that is begun now is done.
    pub(super) fn sync_done(&mut self, node: u16) -> u64 {
        let now = self.now;
        let latency = self.options.conditions.fsync_us * 1000;
        let spread = self.rng.random_range(0..=latency / 2);
        let this = self.node(node);
        let slow = match this.disk_fault {
            // The write, and the sync.
            Some(DiskFault::Slow(ms)) => 2 * ms * 1_000_000,
            _ => 0,
        };
        // A disk syncs in order; one sync covers those that wait behind it.
        let at = this.disk_free.max(now + latency + spread + slow);
        this.disk_free = at;
        at
    }

    /// The journal cannot be written, and the process is to end over it.
    fn fail(&mut self, node: u16, why: &str) {
        let this = self.node(node);
        this.failing = true;
        this.last_words = Some(why.to_owned());
    }

    /// A sync is over, done or failed.
    pub(super) fn synced(&mut self, node: u16, incarnation: u32, token: u64, fails: bool) {
        let now = self.now;
        let this = self.node(node);
        if this.incarnation != incarnation || this.replica.is_none() {
            return;
        }
        if fails {
            this.disk.sync_fails();
            this.last_words = Some("a sync of its journal failed".to_owned());
            return self.crash(node, End::Process);
        }
        this.disk.synced(token, now);
        self.deliver(node, Event::Synced(token));
    }

    pub(super) fn observe(&mut self, node: u16, trace: Trace) {
        let at = self.now;
        match trace {
            Trace::Role { role, epoch } => {
                let role = Some(role);
                self.truth.roles.push(truth::RoleChange {
                    at,
                    node,
                    role,
                    epoch,
                });
            }
            Trace::Created {
                position,
                previous,
                request,
            } => {
                self.truth.grow(position, previous);
                // An operator's request is no call; a client's is one, whether or not a gateway
                // passed it on.
                let request = request.filter(|id| id.0 < errand::OPERATORS);
                if let Some(RequestId(call)) = request.map(client_id) {
                    let call = &mut self.truth.calls[call as usize];
                    call.created = Some(position);
                    call.created_at = Some(at);
                }
            }
            Trace::Discarded { entries, .. } => {
                let entries = entries.into_iter().map(|(p, _)| p).collect();
                self.truth
                    .discards
                    .push(truth::Discard { at, node, entries });
            }
            Trace::SnapshotInstalled(_) | Trace::Stopped(_) | Trace::Remark(_) => {}
        }
    }

    pub(super) fn wake(&mut self, node: u16) {
        let now = self.now;
        let this = self.node(node);
        let Some(replica) = &this.replica else { return };
        // Of several wakes scheduled only the one for the current deadline counts.
        if this.clock.local(now) < this.wake {
            return;
        }
        this.wake = Time::MAX;
        if replica.deadline() <= this.clock.local(now) {
            self.deliver(node, Event::Wake);
        } else {
            self.carry_out(node);
        }
    }

    pub(super) fn view(&self) -> View {
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let node = i as Node + 1;
                match n
                    .replica
                    .as_ref()
                    .filter(|_| n.paused == n.throttled)
                    .map(|r| r.status())
                {
                    Some(status) => NodeView {
                        node,
                        role: Some(status.role.name().to_owned()),
                        epoch: status.epoch,
                        last_index: status.last.index,
                        leader: status.leader.map(|l| l.0),
                        pending: status.pending,
                        storage_version: status.storage_version,
                        stopped: status.stopped.is_some(),
                        standbys: status.standbys.iter().map(|standby| standby.0).collect(),
                        host: None,
                    },
                    None => NodeView::silent(node),
                }
            })
            .collect();
        View {
            nodes,
            ..View::default()
        }
    }
}
