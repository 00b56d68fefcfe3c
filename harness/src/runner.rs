//! One run: a single event loop over an abstract clock and substrate.
//!
//! Phases: clients and faults until the time limit; then every fault is healed and open operations
//! end; then the cluster gets time to recover; then the final reads; then, where convergence is
//! judged, every replica is asked what it holds. Simulation and reality share this loop.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use checkers::{Details, Event, F, Kind, Outcome, Process, Value};
use nemesis::{ClientView, Nemesis, Proof, Schedule, Step, View};
use workloads::generator::Phases;
use workloads::{Completion, Context, Generator, Invocation, Next, Router};

use crate::recorder::Sink;
use crate::staleness::Staleness;
use crate::substrate::{Happening, Substrate};
use crate::versions::NOT_UP;

/// What a run consists of.
pub struct Plan {
    /// Number of client threads.
    pub threads: u32,
    /// How long clients and faults go on.
    pub time_limit: Duration,
    /// Whether they end when the schedule is over, if that is earlier, or cannot go on since a node
    /// did not change its version.
    pub until_schedule_ends: bool,
    /// How long to wait for recovery before the final reads.
    pub recovery_limit: Duration,
    /// What clients do, paced.
    pub generator: Box<dyn Generator>,
    /// Makes the final reads, once the main phase is over.
    pub final_reads: Box<dyn FnOnce() -> Box<dyn Generator>>,
    /// Asks every replica what it holds, once the final reads are made; none if nobody judges it.
    pub inspections: Option<Box<dyn FnOnce() -> Box<dyn Generator>>>,
    /// Which node each thread asks.
    pub router: Router,
    /// When the cluster has recovered from all faults.
    pub recovered: Recovered,
    /// Whether each thread tells the store what its operations have shown it.
    pub sessions: bool,
    /// What is done to the cluster.
    pub nemesis: Nemesis,
    /// How often nodes are asked for their role.
    pub poll_interval: Duration,
}

/// Which part of the run is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Clients and faults.
    Main,
    /// Faults are being healed, open operations end.
    Healing,
    /// Waiting for the cluster to agree.
    Recovering,
    /// Final reads.
    Final,
    /// Asking every replica what it holds.
    Inspecting,
}

/// Counts of client operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Acknowledged.
    pub ok: u64,
    /// Certainly not done.
    pub fail: u64,
    /// Unknown.
    pub info: u64,
}

/// What the live display shows.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// Nanoseconds since the start.
    pub now: u64,
    /// When the main phase ends, nanoseconds; `u64::MAX` if with the schedule.
    pub ends: u64,
    /// Which phase.
    pub phase: Phase,
    /// Operations so far.
    pub counts: Counts,
    /// The leader, as nodes say.
    pub leader: Option<u16>,
    /// Faults now active, in words.
    pub faults: &'a [String],
}

/// Shown what happens.
pub trait Observer {
    /// Called often; should be cheap.
    fn observe(&mut self, snapshot: &Snapshot<'_>);
}

/// An observer that looks away.
impl Observer for () {
    fn observe(&mut self, _: &Snapshot<'_>) {}
}

/// One fault as it was really done.
#[derive(Clone, Debug)]
pub struct FaultLog {
    /// Its number in the run.
    pub id: u32,
    /// Its name, e.g. `partition`.
    pub name: String,
    /// To whom, e.g. `n2`.
    pub targets: Vec<String>,
    /// In words.
    pub what: String,
    /// When it was begun, nanoseconds.
    pub begun: u64,
    /// When healing was proven, nanoseconds.
    pub healed: Option<u64>,
    /// What was observed after injection; none if the run broke off before.
    pub proof: Option<Proof>,
    /// What was observed after healing.
    pub heal_proof: Option<Proof>,
}

/// How a run ended. What clients saw is in the sink.
#[derive(Debug)]
pub struct Ended {
    /// The user stopped it.
    pub interrupted: bool,
    /// The target broke, and how.
    pub broken: Option<String>,
    /// Whether all replicas agreed before the final reads.
    pub recovered: bool,
    /// A node did not come up in the version that it was to have, so that was not waited for.
    pub crippled: bool,
    /// Operations in all.
    pub counts: Counts,
    /// Faults in the order begun.
    pub faults: Vec<FaultLog>,
    /// The schedule as it was carried out.
    pub realised: Schedule,
    /// Events recorded.
    pub events: u64,
    /// Nanoseconds the run took, of its own clock.
    pub elapsed: u64,
}

struct Thread {
    process: u64,
    /// When its operation under way was sent, nanoseconds.
    sent: u64,
    /// What its operations have shown it, where sessions are kept.
    session: Option<Arc<str>>,
    open: Option<(Invocation, u16)>,
}

struct Run<'a> {
    plan: Plan,
    substrate: &'a mut dyn Substrate,
    sink: &'a mut dyn Sink,
    observer: &'a mut dyn Observer,
    threads: Vec<Thread>,
    free: Vec<u32>,
    names: Vec<Arc<str>>,
    roles: [Arc<str>; 4],
    /// The name of the field that says which values a write replaces.
    seen: Arc<str>,
    /// The name of the field that says which deliveries may be repetitions.
    may_repeat: Arc<str>,
    index: u64,
    counts: Counts,
    view: View,
    clients: ClientView,
    /// Kept only where something waits for a stale read.
    staleness: Option<Staleness>,
    faults: Vec<FaultLog>,
    active: Vec<String>,
    generator: Box<dyn Generator>,
    phase: Phase,
    next_poll: u64,
    next_observation: u64,
    interrupted: bool,
    broken: Option<String>,
    /// Nothing is left to be injected or healed, and the run is to end then.
    schedule_over: bool,
    /// A node does not come up in the version that it was to have: the cluster will not be whole again.
    crippled: bool,
    /// The nodes that say that they have stopped replicating.
    halted: Vec<nemesis::Node>,
}

/// How often the live display is told, nanoseconds.
const OBSERVE_EVERY: u64 = 100_000_000;

/// Runs a plan to its end. `nodes` counts all nodes, also those that hold no data.
///
/// # Errors
/// If the history cannot be written.
pub fn run(
    mut plan: Plan,
    nodes: u16,
    substrate: &mut dyn Substrate,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
) -> io::Result<Ended> {
    let threads = plan.threads;
    let generator = std::mem::replace(&mut plan.generator, nothing());
    let final_reads = std::mem::replace(&mut plan.final_reads, Box::new(nothing));
    let inspections = plan.inspections.take();
    let staleness = plan.nemesis.observes_staleness().then(Staleness::default);
    let mut run = Run {
        generator,
        plan,
        substrate,
        sink,
        observer,
        threads: (0..threads)
            .map(|t| Thread {
                process: u64::from(t),
                sent: 0,
                session: None,
                open: None,
            })
            .collect(),
        free: (0..threads).collect(),
        names: (0..=nodes).map(|n| format!("n{n}").into()).collect(),
        roles: ["leader", "follower", "candidate", "peer"].map(Into::into),
        seen: "seen".into(),
        may_repeat: checkers::queue::MAY_REPEAT.into(),
        index: 0,
        counts: Counts::default(),
        view: View::default(),
        clients: ClientView::default(),
        staleness,
        faults: Vec::new(),
        active: Vec::new(),
        phase: Phase::Main,
        next_poll: 0,
        next_observation: 0,
        interrupted: false,
        broken: None,
        schedule_over: false,
        crippled: false,
        halted: Vec::new(),
    };
    // A history that marks its phases and lacks the final one has no final reads.
    run.remark("phase", Value::str("main"));
    run.main_phase();
    run.heal();
    let recovered = run.broken.is_none() && run.recover();
    if run.broken.is_none() {
        if run.interrupted {
            // An interrupted run still gets its final reads, but not for long.
            run.plan.recovery_limit = run.plan.recovery_limit.min(Duration::from_secs(3));
        }
        run.generator = final_reads();
        run.plan.router.follow_leader();
        // Reads of replicas that have not agreed are not final: what one of them lacks, another may
        // still bring back.
        let phase = if recovered { "final" } else { "unsettled" };
        run.last_questions(Phase::Final, phase);
    }
    if let (None, Some(inspections)) = (&run.broken, inspections) {
        run.generator = inspections();
        run.last_questions(Phase::Inspecting, "inspection");
    }
    run.sink.flush()?;
    Ok(Ended {
        interrupted: run.interrupted,
        broken: run.broken,
        recovered,
        crippled: run.crippled,
        counts: run.counts,
        faults: run.faults,
        realised: run.plan.nemesis.realised(),
        events: run.index,
        elapsed: run.substrate.now(),
    })
}

impl Run<'_> {
    fn main_phase(&mut self) {
        let ends = nanos(self.plan.time_limit);
        while self.substrate.now() < ends && !self.stopped() && !self.schedule_over {
            let mut wake = ends;
            wake = wake.min(self.drive_nemesis());
            wake = wake.min(self.issue());
            // What was just sent may be what a trigger waits for.
            if self.plan.nemesis.watches() {
                wake = wake.min(self.drive_nemesis());
            }
            self.wait(wake);
        }
    }

    /// Ends faults and open operations.
    fn heal(&mut self) {
        self.phase = Phase::Healing;
        self.plan.nemesis.stop(self.substrate.now());
        let patience = self.substrate.now() + 30_000_000_000;
        while self.broken.is_none() && self.substrate.now() < patience {
            let wake = self.drive_nemesis();
            let idle = self.free.len() == self.threads.len();
            let over = |fault: &FaultLog| {
                fault.healed.is_some() || (self.crippled && changes_version(fault))
            };
            if idle && self.faults.iter().all(over) && wake == u64::MAX {
                break;
            }
            self.wait(wake.min(self.substrate.now() + 1_000_000_000));
        }
    }

    /// Waits until all replicas answer, agree on the leader and have logs of the same length; not if one
    /// cannot.
    fn recover(&mut self) -> bool {
        self.phase = Phase::Recovering;
        if self.crippled {
            return false;
        }
        let mut limit = nanos(self.plan.recovery_limit);
        if self.interrupted {
            limit = limit.min(3_000_000_000);
        }
        let until = self.substrate.now() + limit;
        // A view from before the healing says nothing; two that agree in a row are wanted.
        self.view = View::default();
        self.next_poll = 0;
        let mut last: Option<View> = None;
        while self.substrate.now() < until && self.broken.is_none() {
            self.wait(self.next_poll.min(until));
            if self.plan.recovered.is(&self.view) {
                if last.as_ref() == Some(&self.view) {
                    return true;
                }
                last = Some(std::mem::take(&mut self.view));
            }
        }
        false
    }

    /// Issues all that the generator has, within the limit of a recovery.
    fn last_questions(&mut self, phase: Phase, name: &str) {
        self.phase = phase;
        self.remark("phase", Value::str(name));
        let until = self.substrate.now() + nanos(self.plan.recovery_limit);
        let mut done = false;
        while self.substrate.now() < until && self.broken.is_none() {
            let wake = if done { u64::MAX } else { self.issue() };
            done |= wake == u64::MAX && self.free.len() == self.threads.len();
            if done && self.free.len() == self.threads.len() {
                break;
            }
            self.wait(wake.min(until));
        }
    }

    fn stopped(&self) -> bool {
        self.interrupted || self.broken.is_some()
    }

    /// Gives free threads something to do; returns when to ask again.
    fn issue(&mut self) -> u64 {
        while !self.free.is_empty() {
            let now = self.substrate.now();
            let context = Context {
                now,
                free: &self.free,
                threads: self.plan.threads,
            };
            match self.generator.next(&context) {
                Next::Op { thread, invocation } => self.call(now, thread, invocation),
                Next::Wait(until) => return until,
                Next::Exhausted => return u64::MAX,
            }
        }
        u64::MAX
    }

    fn call(&mut self, now: u64, thread: u32, mut invocation: Invocation) {
        let Ok(at) = self.free.binary_search(&thread) else {
            debug_assert!(false, "the generator chose a busy thread");
            return;
        };
        self.free.remove(at);
        let node = match invocation.node {
            Some(node) => node,
            None if invocation.only_reads() => self.plan.router.choose_to_read(thread, now),
            None => self.plan.router.choose(thread, now),
        };
        // Who is inspected is to tell what it holds, not what the session is owed.
        if self.plan.sessions && invocation.f != F::Inspect {
            invocation
                .session
                .clone_from(&self.threads[thread as usize].session);
        }
        let seen = invocation.replaces.as_ref();
        let seen = seen.map(|replaced| (self.seen.clone(), replaced.seen.clone()));
        let process = Process::Client(self.threads[thread as usize].process);
        let mut event = Event::new(
            0,
            now,
            process,
            Kind::Invoke,
            invocation.f.clone(),
            invocation.value.clone(),
        );
        event.key.clone_from(&invocation.key);
        event.set_details(Details {
            node: Some(self.names[usize::from(node)].clone()),
            extra: seen.into_iter().collect(),
            ..Details::default()
        });
        self.record(event);
        self.substrate.call(thread, node, &invocation);
        *self.in_flight(&invocation) += 1;
        let thread = &mut self.threads[thread as usize];
        thread.sent = now;
        thread.open = Some((invocation, node));
    }

    /// How many operations like this one have no answer yet.
    fn in_flight(&mut self, invocation: &Invocation) -> &mut u32 {
        if invocation.only_reads() {
            &mut self.clients.reads_in_flight
        } else {
            &mut self.clients.writes_in_flight
        }
    }

    /// Looks how stale a read was, where something waits for a stale one.
    fn look_for_staleness(&mut self, invocation: &Invocation, shown: &Value, sent: u64, now: u64) {
        let (Some(staleness), Some(key)) = (&mut self.staleness, &invocation.key) else {
            return;
        };
        if invocation.f == F::Read {
            self.clients.staleness = staleness.of_read(key, shown, sent);
        } else {
            staleness.acknowledged(key, &invocation.f, &invocation.value, sent, now);
        }
    }

    fn completed(&mut self, thread: u32, completion: Completion) {
        let now = self.substrate.now();
        let Some((invocation, node)) = self.threads[thread as usize].open.take() else {
            return;
        };
        let waiting = self.in_flight(&invocation);
        *waiting = waiting.saturating_sub(1);
        if completion.outcome == Outcome::Ok {
            let sent = self.threads[thread as usize].sent;
            self.look_for_staleness(&invocation, &completion.value, sent, now);
        }
        let state = &mut self.threads[thread as usize];
        let process = Process::Client(state.process);
        let kind = match completion.outcome {
            Outcome::Ok => {
                self.counts.ok += 1;
                if !invocation.only_reads() {
                    self.clients.acknowledged += 1;
                    let witness = completion.witness.as_ref();
                    let answered = witness.and_then(|w| nemesis::selector::parse_node(&w.node));
                    self.view.last_acknowledged = Some(answered.unwrap_or(node));
                }
                Kind::Ok
            }
            Outcome::Fail => {
                self.counts.fail += 1;
                Kind::Fail
            }
            Outcome::Info => {
                self.counts.info += 1;
                // Jepsen's rule: the process may still have an effect, so it is never used again.
                state.process += u64::from(self.plan.threads);
                Kind::Info
            }
        };
        if let Err(at) = self.free.binary_search(&thread) {
            self.free.insert(at, thread);
        }
        let state = &mut self.threads[thread as usize];
        match completion.outcome {
            // A new process is a new client.
            Outcome::Info => state.session = None,
            _ if invocation.f == F::Inspect => {}
            _ if completion.session.is_some() => state.session.clone_from(&completion.session),
            _ => {}
        }
        let context = Context {
            now,
            free: &self.free,
            threads: self.plan.threads,
        };
        self.generator
            .completed(&context, thread, &invocation, &completion);
        self.plan.router.learn(thread, node, &completion);
        let (node, role, epoch) = match completion.witness {
            Some(w) => (
                Some(w.node),
                Some(self.role(&w.role)),
                Some(w.epoch).filter(|e| *e > 0),
            ),
            None => (Some(self.names[usize::from(node)].clone()), None, None),
        };
        let mut event = Event::new(0, now, process, kind, invocation.f, completion.value);
        event.key = invocation.key;
        let repeatable = completion
            .may_repeat
            .map(|values| (self.may_repeat.clone(), values));
        event.set_details(Details {
            node,
            role,
            epoch,
            error: completion.error,
            extra: repeatable.into_iter().collect(),
        });
        self.record(event);
    }

    /// One shared text for each role, however often it is recorded.
    fn role(&self, role: &Arc<str>) -> Arc<str> {
        self.roles
            .iter()
            .find(|r| *r == role)
            .unwrap_or(role)
            .clone()
    }

    /// Does what the nemesis wants done by now; returns when to ask again.
    fn drive_nemesis(&mut self) -> u64 {
        loop {
            let now = self.substrate.now();
            self.view.clients = self.clients;
            match self.plan.nemesis.next(now, &self.view) {
                Step::Inject {
                    id,
                    description,
                    order,
                } => {
                    let log = FaultLog {
                        id,
                        name: description.name.clone(),
                        targets: description.targets.clone(),
                        what: description.to_string(),
                        begun: now,
                        healed: None,
                        proof: None,
                        heal_proof: None,
                    };
                    self.remark_fault("begin", &log, None);
                    self.active.push(log.what.clone());
                    self.faults.push(log);
                    self.substrate.inject(id, &order);
                }
                Step::Heal { id } => self.substrate.heal(id),
                Step::Wait(until) => return until,
                Step::Done => {
                    self.schedule_over = self.plan.until_schedule_ends;
                    return u64::MAX;
                }
            }
        }
    }

    fn injected(&mut self, id: u32, proof: &Proof) {
        let now = self.substrate.now();
        self.plan.nemesis.injected(id, now, proof);
        if let Some(fault) = self.faults.iter_mut().find(|f| f.id == id) {
            fault.proof = Some(proof.clone());
            let fault = fault.clone();
            if let Proof::NotSeen(why) = proof
                && changes_version(&fault)
                && self.plan.until_schedule_ends
            {
                // What follows is meant for a node of another version.
                self.schedule_over = true;
                self.crippled |= why.contains(NOT_UP);
            }
            self.remark_fault("inject", &fault, Some(proof));
        }
    }

    fn faded(&mut self, id: u32, why: &str) {
        self.plan.nemesis.faded(id, why);
        if let Some(fault) = self.faults.iter_mut().find(|f| f.id == id) {
            let proof = Proof::NotSeen(why.to_owned());
            fault.proof = Some(proof.clone());
            let fault = fault.clone();
            self.remark_fault("fade", &fault, Some(&proof));
        }
    }

    fn healed(&mut self, id: u32, proof: &Proof) {
        let now = self.substrate.now();
        self.plan.nemesis.healed(id, now, proof);
        if let Some(fault) = self.faults.iter_mut().find(|f| f.id == id) {
            fault.healed = Some(now);
            fault.heal_proof = Some(proof.clone());
            let fault = fault.clone();
            if let Some(at) = self.active.iter().position(|w| *w == fault.what) {
                self.active.remove(at);
            }
            self.remark_fault("heal", &fault, Some(proof));
        }
    }

    /// Waits for one happening, and takes in what else is already there.
    fn wait(&mut self, mut wake: u64) {
        let now = self.substrate.now();
        if now >= self.next_poll {
            self.next_poll = now + nanos(self.plan.poll_interval);
            self.substrate.poll_view();
        }
        if now >= self.next_observation {
            self.next_observation = now + OBSERVE_EVERY;
            // So that a killed harness leaves all but the last moment behind.
            if let Err(e) = self.sink.flush() {
                self.broken = Some(format!("the history cannot be written: {e}"));
            }
            self.observer.observe(&Snapshot {
                now,
                ends: if self.plan.until_schedule_ends {
                    u64::MAX
                } else {
                    nanos(self.plan.time_limit)
                },
                phase: self.phase,
                counts: self.counts,
                leader: self.view.leader(),
                faults: &self.active,
            });
        }
        wake = wake.min(self.next_poll);
        match self.substrate.next(wake.max(now)) {
            Happening::Completed { thread, completion } => self.completed(thread, completion),
            Happening::Injected { id, proof } => self.injected(id, &proof),
            Happening::Faded { id, why } => self.faded(id, &why),
            Happening::Healed { id, proof } => self.healed(id, &proof),
            Happening::View(view) => {
                let beliefs: Vec<_> = view.nodes.iter().map(|n| (n.node, n.leader)).collect();
                self.plan.router.observe(&beliefs);
                self.look_for_halted(&view);
                let last_acknowledged = self.view.last_acknowledged;
                self.view = View {
                    last_acknowledged,
                    ..view
                };
            }
            Happening::Interrupted => self.interrupted = true,
            Happening::Broken(why) => self.broken = Some(why),
            Happening::Deadline => {}
        }
    }

    /// Records which nodes have stopped replicating, when that changes. One that does not answer has
    /// said nothing new.
    fn look_for_halted(&mut self, view: &View) {
        let halted = |n: &&nemesis::NodeView| {
            n.stopped || (n.role.is_none() && self.halted.contains(&n.node))
        };
        let halted: Vec<_> = view.nodes.iter().filter(halted).map(|n| n.node).collect();
        if halted != self.halted {
            let names = halted.iter().map(|n| Value::str(&format!("n{n}")));
            let names: Value = names.collect();
            self.halted = halted;
            self.remark("stopped", names);
        }
    }

    fn remark_fault(&mut self, what: &str, fault: &FaultLog, proof: Option<&Proof>) {
        let targets: Value = fault.targets.iter().map(|t| Value::str(t)).collect();
        let mut pairs = vec![
            ("id", Value::Int(i64::from(fault.id))),
            ("fault", Value::str(&fault.name)),
            ("target", targets),
            ("what", Value::str(&fault.what)),
            ("begun", Value::Int(fault.begun as i64)),
        ];
        match proof {
            Some(Proof::Seen(how)) => {
                pairs.push(("seen", Value::Bool(true)));
                pairs.push(("proof", Value::str(how)));
            }
            Some(Proof::NotSeen(why)) => {
                pairs.push(("seen", Value::Bool(false)));
                pairs.push(("proof", Value::str(why)));
            }
            None => {}
        }
        let pairs: Vec<_> = pairs.into_iter().map(|(k, v)| (Value::str(k), v)).collect();
        self.remark(what, Value::Map(pairs.into()));
    }

    fn remark(&mut self, what: &str, value: Value) {
        self.record(Event::new(
            0,
            self.substrate.now(),
            Process::Nemesis,
            Kind::Info,
            F::Other(what.into()),
            value,
        ));
    }

    fn record(&mut self, mut event: Event) {
        event.index = self.index;
        self.index += 1;
        self.sink.record(event);
    }
}

fn changes_version(fault: &FaultLog) -> bool {
    matches!(fault.name.as_str(), "upgrade" | "downgrade")
}

/// A generator that issues nothing.
fn nothing() -> Box<dyn Generator> {
    Box::new(Phases::new(Vec::new()))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When a cluster has recovered, by what its nodes say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// All follow one leader, and have logs of the same length.
    Agreed,
    /// None has anything left to deliver or to fetch.
    Settled,
    /// One leads and all have as much as it, of nodes that do not say whom they follow. Two leaders
    /// are none: of what is read then, one of them will know nothing later.
    United,
}

impl Recovered {
    fn is(self, view: &View) -> bool {
        match self {
            Self::Agreed => agreed(view),
            Self::Settled => settled(view),
            Self::United => united(view),
        }
    }
}

fn united(view: &View) -> bool {
    let leaders = view
        .nodes
        .iter()
        .filter(|n| n.role.as_deref() == Some("leader"));
    let lengths: BTreeSet<_> = view.nodes.iter().map(|n| n.last_index).collect();
    settled(view) && leaders.count() == 1 && lengths.len() == 1
}

/// Whether all nodes answer and none has anything left to deliver or to fetch.
fn settled(view: &View) -> bool {
    !view.nodes.is_empty()
        && view
            .nodes
            .iter()
            .all(|n| n.role.is_some() && n.pending == 0)
}

/// Whether all replicas answer, follow the same leader and have logs of the same length. Those that
/// have stopped for good are not waited for; gateways and the monitor hold nothing.
fn agreed(view: &View) -> bool {
    let Some(leader) = view.leader() else {
        return false;
    };
    let holds_nothing = |role: &str| matches!(role, "gateway" | "monitor");
    let length = view
        .nodes
        .iter()
        .find(|n| n.node == leader)
        .map(|n| n.last_index);
    view.nodes.iter().all(|n| match &n.role {
        None => false,
        Some(role) if holds_nothing(role) => true,
        Some(_) => n.stopped || (n.leader == Some(leader) && Some(n.last_index) == length),
    })
}
