//! The nodes of the simulation: booting, crashing, and carrying out what replicas ask for.

use checkers::Outcome;
use nemesis::{Endpoint, Link, Node, NodeView, View};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use reference_cluster::core::gateway::client_id;
use reference_cluster::core::{
    self, DiskOp, Effect, Event, NodeId, Replica, RequestId, Time, Trace,
};

use super::clock::Clock;
use super::disk::Disk;
use super::trace::Sent;
use super::{Happens, SimSubstrate, Transit, errand, translate, truth};

/// One node.
pub(super) struct SimNode {
    pub(super) replica: Option<Box<dyn Replica>>,
    pub(super) disk: Disk<core::Record>,
    pub(super) clock: Clock,
    pub(super) incarnation: u32,
    /// The version of the storage format that its program writes.
    pub(super) storage_version: u16,
    pub(super) paused: u32,
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
}

impl SimNode {
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

    /// Starts a node on what its disk holds.
    pub(super) fn boot(&mut self, node: u16) {
        let now = self.now;
        let (mut config, nodes) = (self.options.config.clone(), self.options.all_nodes());
        let seed = self.options.seed ^ u64::from(node);
        let mut effects = std::mem::take(&mut self.effects);
        let this = self.node(node);
        config.storage_version = this.storage_version;
        this.incarnation += 1;
        this.wake = Time::MAX;
        this.disk_free = now;
        let seed = seed.wrapping_add(u64::from(this.incarnation) << 32);
        let recovered = this.disk.recover();
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
    }

    /// Ends a node's process; clients with a request there see their connection break.
    pub(super) fn crash(&mut self, node: u16, power: bool) {
        let now = self.now;
        let mut rng = std::mem::replace(&mut self.rng, Pcg64::seed_from_u64(0));
        let this = self.node(node);
        this.replica = None;
        this.backlog.clear();
        this.ended = Some((now, power));
        if power {
            this.disk.power_loss(&mut rng);
        } else {
            this.disk.process_crash();
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
        let Some(replica) = &mut this.replica else {
            return;
        };
        this.handled += 1;
        replica.handle(this.clock.local(now), event, &mut self.effects);
        self.carry_out(node);
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
                Effect::Disk(op) => self.write(node, op),
                Effect::Trace(trace) => self.observe(node, trace),
            }
        }
        self.effects = effects;
        let now = self.now;
        let this = &mut self.nodes[usize::from(node) - 1];
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
        let token = match op {
            DiskOp::Append(record) => {
                this.disk.append(record);
                return;
            }
            DiskOp::Sync(token) => {
                this.disk.sync(token);
                token
            }
            DiskOp::Replace(records, token) => {
                this.disk.replace(records, token);
                token
            }
        };
        let latency = self.options.conditions.fsync_us * 1000;
        let spread = self.rng.random_range(0..=latency / 2);
        let this = self.node(node);
        // A disk syncs in order; one sync covers those that wait behind it.
        let at = this.disk_free.max(now + latency + spread);
        this.disk_free = at;
        let incarnation = this.incarnation;
        self.queue.push(
            at,
            Happens::Synced {
                node,
                incarnation,
                token,
            },
        );
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
                    .filter(|_| n.paused == 0)
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
