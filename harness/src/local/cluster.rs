//! The nodes and the links between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use nemesis::Node;
use nemesis::mechanism::cgroup::NodeGroup;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clock::Preload;
use super::custody::Custody;
use super::data::DataDir;
use super::disk;
use super::network::Network;
use super::probe::is_ready;
use super::process::{Launch, Process, Processes, log_tail};
use super::program::{NodeSetup, Program, Serves, config_dir};
use super::proxy::Target;
use super::start_error::{NotReady, StartError, io_error};
use super::{cpu, memory};
use crate::experiment::On;
use crate::stores::failover::Member;
use crate::stores::recipe::Ready;
use crate::substrate::Happening;
use crate::versions::{ENDED, Version};

/// How long one question whether it is ready may take.
const READY_PROBE: Duration = Duration::from_secs(1);
/// Pause between two of them.
const READY_PAUSE: Duration = Duration::from_millis(10);

/// One node's place in the cluster, whatever process fills it at the moment.
#[derive(Debug)]
pub(super) struct Slot {
    pub node: Node,
    pub launch: Launch,
    pub data: DataDir,
    /// What its clock goes by, if it was started with libfaketime.
    pub clock: Option<Arc<Preload>>,
    /// What it answers, which probes of it ask.
    pub ready: Ready,
    /// Where it was told to listen.
    pub listen: SocketAddr,
    /// Where it listens, while it runs.
    pub target: Arc<Target>,
    /// Held while the process is started, stopped, killed, and that is being proven.
    lifecycle: Arc<Mutex<Lifecycle>>,
    /// A copy of "is stopped by a fault" for who does not hold the lifecycle.
    paused: AtomicBool,
}

/// Which process fills a slot, and the faults that act on it.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    pub process: Option<Arc<Process>>,
    /// Faults that want the node down.
    pub down_for: BTreeSet<u32>,
    /// Faults that want its process stopped, and how.
    pub paused_for: BTreeMap<u32, Hold>,
    /// Faults that give it only a part of a processor.
    pub cpu_for: BTreeMap<u32, cpu::Share>,
    /// What stops and continues its process to that end, where there are no control groups.
    pub throttle: Option<cpu::Throttle>,
    /// Faults that give it little memory.
    pub memory_for: BTreeMap<u32, memory::Limit>,
    /// Faults of its disk, which it need not survive.
    pub disk_for: BTreeSet<u32>,
    /// What it is started as, if not as all others are.
    pub version: Option<Version>,
}

/// How a process is made to stand still, and whether it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub by: Mechanism,
    /// How long it had run on a processor when it was seen to stand still.
    pub ran: Option<Duration>,
}

/// What makes a process stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// `SIGSTOP`.
    Signal,
    /// The freezer of its control group.
    Freezer,
}

impl Slot {
    pub fn new(
        launch: Launch,
        data: DataDir,
        clock: Option<Arc<Preload>>,
        listen: SocketAddr,
        target: Arc<Target>,
        ready: Ready,
    ) -> Self {
        Self {
            node: launch.node,
            ready,
            listen,
            launch,
            data,
            clock,
            target,
            lifecycle: Arc::default(),
            paused: AtomicBool::new(false),
        }
    }

    /// Waits for those who start, stop or kill its process.
    pub async fn lock(&self) -> OwnedMutexGuard<Lifecycle> {
        let mut lifecycle = Arc::clone(&self.lifecycle).lock_owned().await;
        let ended = lifecycle
            .process
            .as_ref()
            .and_then(|process| process.status());
        if ended.is_some() && (!lifecycle.memory_for.is_empty() || !lifecycle.disk_for.is_empty()) {
            // It did not survive that: down until the fault is healed.
            lifecycle.process = None;
            lifecycle.throttle = None;
            let memory = lifecycle.memory_for.keys().copied();
            let faults: Vec<_> = memory.chain(lifecycle.disk_for.iter().copied()).collect();
            lifecycle.down_for.extend(faults);
        }
        lifecycle
    }

    /// The control groups of this node.
    pub fn group(&self) -> &NodeGroup {
        &self.launch.group
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }
}

/// All nodes and links of a run.
#[derive(Debug)]
pub(super) struct Cluster {
    pub slots: Vec<Slot>,
    pub network: Network,
    pub processes: Arc<Processes>,
    pub custody: Custody,
    pub serves: Serves,
    pub events: Sender<Happening>,
}

impl Cluster {
    pub fn slot(&self, node: Node) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.node == node)
    }

    /// What manages a store's failovers is told of them.
    pub fn members(&self, configs: &Path) -> io::Result<Vec<Member>> {
        let members = self.slots.iter().map(|slot| {
            Ok(Member {
                node: slot.node,
                listen: slot.listen,
                config_dir: config_dir(configs, slot.node)?,
            })
        });
        members.collect()
    }

    /// Where the nodes listen themselves, not through proxies.
    pub fn addresses(&self) -> Vec<(Node, Option<SocketAddr>)> {
        self.slots
            .iter()
            .map(|slot| (slot.node, slot.target.get()))
            .collect()
    }

    /// Starts a node's process and waits until it answers. A process that is merely slow goes on
    /// running; one that ended is reported as [`Happening::Broken`] too.
    pub async fn start(&self, slot: &Slot, lifecycle: &mut Lifecycle) -> Result<(), NotReady> {
        let failed = |why: String| NotReady {
            node: slot.node,
            why,
            log: slot.launch.log.clone(),
            tail: log_tail(&slot.launch.log),
        };
        let ended = {
            let (events, target) = (self.events.clone(), Arc::clone(&slot.target));
            let (node, log) = (slot.node, slot.launch.log.clone());
            let keeper = Arc::clone(&self.custody.keeper);
            move |status: String, tolerated: bool| {
                target.set(None);
                if tolerated {
                    return;
                }
                // The keeper kills all nodes of a harness that stood still.
                let why = keeper.lost().map(|lost| lost.to_string());
                // The runner may be gone already.
                let _ = events.send(Happening::Broken(why.unwrap_or_else(|| {
                    format!(
                        "n{node} {ENDED} ({status}); the end of {}:\n{}",
                        log.display(),
                        log_tail(&log)
                    )
                })));
            }
        };
        let launch = slot.launch.of(lifecycle.version.as_ref());
        let process = self
            .processes
            .start(&launch, ended)
            .await
            .map_err(|error| {
                failed(format!(
                    "{} cannot be started: {error}",
                    slot.launch.program.display()
                ))
            })?;
        lifecycle.process = Some(Arc::clone(&process));
        // Control groups hold for it as they did for the one before; what was done to that process
        // is done to this one.
        let fragile = !lifecycle.memory_for.is_empty() || !lifecycle.disk_for.is_empty();
        process.tolerate_end(fragile);
        lifecycle.throttle = cpu::throttle(lifecycle);
        memory::limit_process(lifecycle);
        let ready = async {
            let address = if self.serves.says_where {
                process.address().await
            } else {
                Some(slot.listen)
            };
            // Its output may be closed a moment before it ends; which is the more telling news.
            let Some(address) = address else {
                return std::future::pending().await;
            };
            slot.target.set(Some(address));
            while !is_ready(address, self.serves.ready, READY_PROBE).await {
                sleep(READY_PAUSE).await;
            }
        };
        let within = self.serves.ready_within;
        tokio::select! {
            biased;
            status = process.ended() => Err(failed(format!("it ended ({status})"))),
            ready = timeout(within, ready) => {
                ready.map_err(|_| failed(match slot.target.get() {
                    None => format!("it did not say where it listens in {within:?}"),
                    Some(address) => {
                        format!("it did not serve at {address} in {within:?}")
                    }
                }))
            }
        }
    }
}

/// Links, directories and an empty manifest: everything but the nodes.
pub(super) async fn prepare(
    on: On,
    nodes: u16,
    run_dir: &Path,
    program: &Program,
    custody: Custody,
    disk: &disk::Needs,
    events: Sender<Happening>,
) -> Result<Arc<Cluster>, StartError> {
    allow_many_connections();
    let logs = run_dir.join("nodes");
    fs::create_dir_all(&logs).map_err(io_error(format!("creating {}", logs.display())))?;
    let targets = (1..=nodes).map(|node| (node, Arc::default())).collect();
    let network = Network::prepare(on, &targets)
        .await
        .map_err(io_error("setting up the network"))?;
    let mut slots = Vec::new();
    for (&node, target) in &targets {
        let data_dir = run_dir.join("data").join(format!("n{node}"));
        let mut data = DataDir::create(data_dir.clone(), node)
            .map_err(io_error(format!("creating {}", data_dir.display())))?;
        data.prepare(disk, node).map_err(io_error(format!(
            "putting a layer over {}",
            data_dir.display()
        )))?;
        let peers = targets.keys().filter(|&&to| to != node).filter_map(|&to| {
            let address = network.peer_address(node, to)?;
            Some((to, address))
        });
        let setup = NodeSetup {
            node,
            data_dir: data.path().to_owned(),
            listen: network.listen(node),
            peers: peers.collect(),
        };
        let clock = program.preload_clock.then(|| Preload::of(&logs, node));
        let clock = clock
            .transpose()
            .map_err(io_error("giving nodes a clock that can be made wrong"))?;
        let launch = Launch {
            node,
            program: program.path.clone(),
            args: (program.arguments)(&setup).map_err(io_error(format!("configuring n{node}")))?,
            environment: clock
                .as_ref()
                .map(|clock| clock.environment())
                .unwrap_or_default(),
            version_flag: program.version_flag,
            versions: program.versions.clone(),
            log: logs.join(format!("n{node}.log")),
            network: network.namespace(node),
            group: custody
                .groups
                .node(&format!("n{node}"))
                .map_err(io_error("making control groups"))?,
        };
        let begins = launch.versions.as_ref().map(|v| v.from.clone());
        let (at, target) = (setup.listen, Arc::clone(target));
        let slot = Slot::new(launch, data, clock, at, target, program.serves.ready);
        slot.lock().await.version = begins;
        slots.push(slot);
    }
    let processes = Processes::new(run_dir, Arc::clone(&custody.keeper))
        .map_err(io_error(format!("writing into {}", run_dir.display())))?;
    Ok(Arc::new(Cluster {
        slots,
        network,
        processes,
        custody,
        serves: program.serves.clone(),
        events,
    }))
}

/// Every client connection takes three file descriptors here (the client's, and two of the proxy),
/// and the usual limit of 1,024 is kept only for the sake of programs that use `select`.
fn allow_many_connections() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Starts all nodes at once and waits until each is ready.
pub(super) async fn start_all(cluster: Arc<Cluster>) -> Result<(), StartError> {
    let mut starting = JoinSet::new();
    for i in 0..cluster.slots.len() {
        let cluster = Arc::clone(&cluster);
        starting.spawn(async move {
            let slot = &cluster.slots[i];
            let mut lifecycle = slot.lock().await;
            cluster.start(slot, &mut lifecycle).await
        });
    }
    let results = starting.join_all().await;
    Ok(results.into_iter().collect::<Result<(), NotReady>>()?)
}
