//! The simulated substrate: the reference cluster's replicas on a simulated network, disk and
//! clock, in virtual time. One seed gives one history, to the byte.
//!
//! * `options`: what to simulate, in what weather. `queue`: events by virtual time.
//! * `network`, `disk`, `clock`: what surrounds a node. `nodes`: booting and driving replicas.
//! * `calls`, `translate`: clients. `faults`: carried out and proven. `errand`: an operator's.
//! * `truth`: what really happened; [`agreement`] holds the checkers against it.

pub mod agreement;
mod calls;
mod clock;
mod disk;
mod errand;
mod faults;
mod network;
mod nodes;
mod options;
mod queue;
#[cfg(test)]
mod tests;
pub mod trace;
mod translate;
mod truth;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use checkers::{F, Outcome};
#[cfg(test)]
use nemesis::Action;
use nemesis::{Endpoint, Link, Node, Order};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use reference_cluster::core::{self, Effect, Event, NodeId, Request, RequestId, Role, Time};
use workloads::{Completion, Invocation};

use crate::substrate::{Happening, Substrate};
use calls::Open;
use clock::Clock;
pub use faults::capabilities;
use network::Network;
use nodes::SimNode;
pub use options::{Conditions, SimOptions};
use queue::Queue;
pub use truth::{CallTruth, Oracle, Truth};

/// The part of the keys that a replica holds, in its own words; none if it is no replica of the
/// cluster's state, as a spare node is not.
fn scope(replica: &mut dyn core::Replica, now: Time) -> Option<Arc<str>> {
    let mut effects = Vec::new();
    let request = Request::new(core::Op::Digest);
    replica.handle(
        now,
        Event::Request(RequestId(u64::MAX), request),
        &mut effects,
    );
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(_, reply) => Some(reply.result),
        _ => None,
    });
    match answer {
        Some(Ok(core::Answer::Digest(digest))) => Some(digest.scope),
        Some(Err(core::Refusal::Unsupported(_))) => None,
        _ => Some(Arc::default()),
    }
}

/// What a message has behind it when it arrives, for what became of it if its sender ended.
#[derive(Clone, Copy)]
struct Transit {
    /// When it was sent.
    sent: u64,
    /// How much of its way was the delay of a slow link, which is on the sender's side.
    slowed: u64,
}

enum Happens {
    Deliver {
        to: u16,
        from: u16,
        message: core::Message,
        transit: Transit,
    },
    Arrive {
        thread: u32,
        call: u64,
        request: Request,
    },
    Answer {
        thread: u32,
        call: u64,
        completion: Box<Completion>,
    },
    Synced {
        node: u16,
        incarnation: u32,
        token: u64,
        fails: bool,
    },
    Wake {
        node: u16,
    },
    Probe {
        fault: u32,
        probe: faults::Probe,
    },
    Judge {
        fault: u32,
    },
    /// What a fault does again and again is due.
    Beat {
        fault: u32,
    },
    Errand {
        fault: u32,
    },
}

/// Apart from the stream of everything else, which stays what it is without failures.
const INJECTOR: u64 = 0x696e_6a65_6374;

/// A cluster in virtual time.
pub struct SimSubstrate {
    options: SimOptions,
    now: u64,
    queue: Queue<Happens>,
    network: Network,
    rng: Pcg64,
    nodes: Vec<SimNode>,
    names: translate::Names,
    /// The open call of each thread.
    open: Vec<Option<Open>>,
    /// The last call of each thread.
    last_call: Vec<u64>,
    /// How many invocations and completions there were.
    order: u64,
    /// The thread of each call.
    threads: Vec<u32>,
    /// Deadlines of calls, in order (the timeout is the same for all).
    timeouts: VecDeque<(u64, u32, u64)>,
    ready: VecDeque<Happening>,
    faults: BTreeMap<u32, faults::Active>,
    /// The share of faults that the injector fails to do, and what decides which.
    injector_failures: Option<(f64, Pcg64)>,
    /// How many requests an operator has made.
    errands: u64,
    /// The one of them that a replica is just being given, and its answer if it came at once.
    asking: Option<u64>,
    answered: Option<core::Reply>,
    effects: Vec<Effect>,
    truth: Truth,
    watcher: trace::Watcher,
}

impl SimSubstrate {
    /// Boots a cluster at virtual time zero, with empty disks.
    pub fn new(options: SimOptions) -> Self {
        let mut rng = Pcg64::seed_from_u64(options.seed);
        let conditions = options.conditions;
        let format = options.formats.map(|[from, _]| from);
        let format = format.unwrap_or(options.config.storage_version);
        let nodes = (0..options.all_nodes())
            .map(|_| {
                let offset = rng.random_range(0..=conditions.clock_offset_ms) * 1_000_000;
                let most = i64::from(conditions.clock_drift_ppm);
                let clock = Clock::new(offset, rng.random_range(-most..=most));
                SimNode::new(clock, format)
            })
            .collect();
        let mut sim = Self {
            network: Network::new(options.all_nodes(), conditions),
            now: 0,
            queue: Queue::default(),
            rng,
            nodes,
            names: translate::Names::new(options.all_nodes()),
            open: Vec::new(),
            last_call: Vec::new(),
            order: 0,
            threads: Vec::new(),
            timeouts: VecDeque::new(),
            ready: VecDeque::new(),
            faults: BTreeMap::new(),
            injector_failures: None,
            errands: 0,
            asking: None,
            answered: None,
            effects: Vec::new(),
            truth: Truth {
                one_log: options.config.one_log(),
                ..Truth::default()
            },
            watcher: trace::Watcher::default(),
            options,
        };
        for node in 1..=sim.options.all_nodes() {
            sim.boot(node);
        }
        sim
    }

    /// The same with an injector that fails to do this share of the faults, 0 to 1, and does not
    /// know it: what is seen of them must tell.
    #[must_use]
    pub fn with_injector_failures(mut self, share: f64) -> Self {
        let random = Pcg64::seed_from_u64(self.options.seed ^ INJECTOR);
        self.injector_failures = Some((share, random));
        self
    }

    /// How many simulated events were scheduled so far.
    pub fn events(&self) -> u64 {
        self.queue.scheduled()
    }

    /// Ends the simulation and tells what really happened.
    pub fn into_truth(mut self) -> Truth {
        let leader = self.view().leader();
        for (i, node) in self.nodes.iter_mut().enumerate() {
            let Some(replica) = &mut node.replica else {
                continue;
            };
            let status = replica.status();
            if matches!(status.role, Role::Gateway | Role::Monitor) {
                continue;
            }
            let id = i as u16 + 1;
            let digest = replica.digest();
            if let Some(scope) = scope(&mut **replica, node.clock.local(self.now)) {
                self.truth.replicas.push(truth::ReplicaTruth {
                    node: id,
                    last: status.last,
                    digest,
                    scope,
                    stopped: status.stopped.is_some(),
                });
            }
            if leader == Some(id) {
                self.truth.survived = status.last;
            }
        }
        self.truth
    }

    fn step(&mut self, event: Happens) {
        match event {
            Happens::Deliver {
                to,
                from,
                message,
                transit,
            } => {
                let now = self.now;
                let lost = self.node(from).took_along(transit, now);
                self.watcher.arrived(&trace::Arrived {
                    now,
                    sent: transit.sent,
                    from,
                    to,
                    message: &message,
                    taken: !lost && self.node_runs(to),
                });
                if !lost {
                    self.deliver(to, Event::Message(NodeId(from), message));
                    self.seen(to);
                }
            }
            Happens::Arrive {
                thread,
                call,
                request,
            } => {
                let asked = self.truth.calls[call as usize].node;
                self.arrive(thread, call, request);
                self.seen(asked);
            }
            Happens::Answer {
                thread,
                call,
                completion,
            } => self.complete(thread, call, *completion),
            Happens::Synced {
                node,
                incarnation,
                token,
                fails,
            } => {
                self.synced(node, incarnation, token, fails);
                self.seen(node);
            }
            Happens::Wake { node } => {
                self.wake(node);
                self.seen(node);
            }
            Happens::Probe { fault, probe } => self.probe_arrived(fault, probe),
            Happens::Judge { fault } => self.judge(fault),
            Happens::Beat { fault } => self.beat(fault),
            Happens::Errand { fault } => self.run_errand(fault),
        }
    }
}

#[cfg(test)]
impl SimSubstrate {
    /// What an order for this action would do.
    fn inject(&mut self, id: u32, action: &Action, _via: Option<&str>) {
        self.start_fault(id, action);
    }
}

impl Substrate for SimSubstrate {
    fn now(&self) -> u64 {
        self.now
    }

    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation) {
        let call = self.truth.calls.len() as u64;
        let request = translate::request(invocation);
        self.truth.calls.push(CallTruth {
            node,
            invoked: self.now,
            completed: None,
            began: self.order,
            ended: None,
            acknowledged: false,
            write: translate::is_write(invocation),
            inspection: invocation.f == F::Inspect,
            key: invocation.key.as_ref().map(translate::text),
            created: None,
            created_at: None,
            served: None,
            served_at: None,
            epoch: None,
        });
        self.order += 1;
        self.threads.push(thread);
        if self.open.len() <= thread as usize {
            self.open.resize_with(thread as usize + 1, || None);
            self.last_call.resize(thread as usize + 1, 0);
        }
        self.last_call[thread as usize] = call;
        let invocation = invocation.clone();
        self.open[thread as usize] = Some(Open {
            call,
            node,
            arrived: false,
            invocation,
        });
        self.timeouts
            .push_back((self.now + self.options.call_timeout, thread, call));
        let link = Link {
            from: Endpoint::Clients,
            to: Endpoint::Node(node),
        };
        if let Some(at) = self.network.stream(self.now, link, 200, &mut self.rng) {
            self.queue.push(
                at,
                Happens::Arrive {
                    thread,
                    call,
                    request,
                },
            );
        }
    }

    fn inject(&mut self, id: u32, order: &Order) {
        self.start_fault(id, order.action());
        self.fault_seen(id, Some(order.action()));
    }

    fn heal(&mut self, id: u32) {
        self.end_fault(id);
        self.fault_seen(id, None);
    }

    fn poll_view(&mut self) {
        let view = self.view();
        self.ready.push_back(Happening::View(view));
    }

    fn next(&mut self, deadline: u64) -> Happening {
        loop {
            if let Some(happening) = self.ready.pop_front() {
                if let Happening::Completed { thread, .. } = &happening {
                    // Only now does the client learn it.
                    let call = self.last_call[*thread as usize];
                    self.truth.calls[call as usize].ended = Some(self.order);
                    self.order += 1;
                }
                return happening;
            }
            let queued = self.queue.peek().unwrap_or(u64::MAX);
            let timeout = self.timeouts.front().map_or(u64::MAX, |(at, ..)| *at);
            if deadline <= queued && deadline <= timeout {
                self.now = self.now.max(deadline);
                return Happening::Deadline;
            }
            if timeout <= queued {
                if let Some((at, thread, call)) = self.timeouts.pop_front()
                    && let Some(open) = &self.open[thread as usize]
                    && open.call == call
                {
                    self.now = at;
                    let late = translate::unanswered(&open.invocation, Outcome::Info, "timeout");
                    self.complete(thread, call, late);
                }
            } else if let Some((at, event)) = self.queue.pop() {
                self.now = at;
                self.step(event);
            }
        }
    }
}
