//! What the harness itself costs: how many operations a second one process issues and records
//! against a store that answers at once, and how much memory that takes.
//!
//! Everything is as in a run on real machines (generator, router, one task a call on the runtime,
//! the queue of happenings, JSON Lines to a file) except that the client is a null client.
//! Beside it: the same without recording, and the client alone.

mod measure;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use checkers::{Event, F, Value};
use measure::{Span, peak_mib};
use nemesis::{Node, Order, Proof, View};
use quorate::calls::Calls;
use quorate::experiment::{Concurrency, Experiment};
use quorate::plan::plan;
use quorate::recorder::{FileSink, Sink};
use quorate::runner;
use quorate::substrate::{Happening, Substrate};
use tokio::runtime::Runtime;
use workloads::client::At;
use workloads::{Client, Invocation, Kind, NullClient};

/// Operations of a short run; a long one has ten times as many.
const OPERATIONS: u64 = 200_000;
/// Client threads.
const THREADS: u32 = 100;

/// Nodes that answer at once. The run is stopped as by Ctrl-C after so many calls.
struct NullSubstrate {
    calls: Calls<NullClient>,
    urls: Vec<Arc<str>>,
    events: Sender<Happening>,
    happenings: Receiver<Happening>,
    left: u64,
    start: Instant,
}

impl NullSubstrate {
    fn new(runtime: &Runtime, nodes: u16, operations: u64) -> Self {
        let (events, happenings) = channel();
        Self {
            calls: Calls::new(NullClient, runtime.handle().clone(), events.clone()),
            urls: (1..=nodes)
                .map(|node| format!("http://127.0.0.1:{}", 10_000 + node).into())
                .collect(),
            events,
            happenings,
            left: operations,
            start: Instant::now(),
        }
    }

    fn post(&self, happening: Happening) {
        // The receiver is this very value's.
        let _ = self.events.send(happening);
    }
}

impl Substrate for NullSubstrate {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn call(&mut self, thread: u32, node: Node, invocation: &Invocation) {
        let url = Arc::clone(&self.urls[usize::from(node) - 1]);
        self.calls.start(thread, node, url, invocation.clone());
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.post(Happening::Interrupted);
        }
    }

    fn inject(&mut self, id: u32, _: &Order) {
        let proof = Proof::NotSeen("there is nothing to break".to_owned());
        self.post(Happening::Injected { id, proof });
    }

    fn heal(&mut self, id: u32) {
        let proof = Proof::Seen("there is nothing to heal".to_owned());
        self.post(Happening::Healed { id, proof });
    }

    fn poll_view(&mut self) {
        self.post(Happening::View(View::default()));
    }

    fn next(&mut self, deadline: u64) -> Happening {
        let wait = Duration::from_nanos(deadline.saturating_sub(self.now()));
        match self.happenings.recv_timeout(wait) {
            Ok(happening) => happening,
            Err(RecvTimeoutError::Timeout) => Happening::Deadline,
            Err(RecvTimeoutError::Disconnected) => {
                Happening::Broken("the substrate has ended".to_owned())
            }
        }
    }
}

/// Looks at nothing and keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn record(&mut self, _: Event) {}

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One run through the real runner. Returns how many operations ended.
fn run(runtime: &Runtime, workload: Kind, operations: u64, sink: &mut dyn Sink) -> u64 {
    let mut experiment = Experiment {
        workload,
        seed: Some(1),
        ..Experiment::default()
    };
    experiment.clients.concurrency = Concurrency::Fixed(THREADS);
    experiment.clients.rate = 0.0;
    experiment.faults.packages = Vec::new();
    experiment.limits.time = Duration::from_secs(600);
    experiment.limits.recovery = Duration::ZERO;
    let mut substrate = NullSubstrate::new(runtime, experiment.nodes, operations);
    let plan = plan(&experiment).expect("an experiment without faults is possible");
    let ended = runner::run(plan, experiment.nodes, &mut substrate, sink, &mut ())
        .expect("the temporary file can be written");
    ended.counts.ok + ended.counts.fail + ended.counts.info
}

/// The client alone: as many threads, each a task that calls it again and again.
fn client_alone(runtime: &Runtime, operations: u64) -> u64 {
    let each = operations / u64::from(THREADS);
    let tasks: VecDeque<_> = (0..THREADS)
        .map(|_| {
            runtime.spawn(async move {
                for n in 0..each {
                    let invocation = Invocation::new(F::Write, None, Value::Int(n as i64));
                    let at = At {
                        thread: 0,
                        node: 1,
                        address: "",
                    };
                    let completion = NullClient.invoke(at, &invocation).await;
                    std::hint::black_box(completion);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        runtime
            .block_on(task)
            .expect("the null client does not panic");
    }
    each * u64::from(THREADS)
}

fn show(name: &str, operations: u64, span: &Span) {
    let (wall, cpu) = span.end();
    let ops = operations as f64;
    println!(
        "{name:<34}{operations:>10}{:>12.0}{:>12.0}{:>10.2}{:>10.1}",
        ops / wall,
        cpu * 1e9 / ops,
        cpu / wall,
        peak_mib(),
    );
}

fn recorded(runtime: &Runtime, workload: Kind, operations: u64, file: &Path) -> f64 {
    let mut sink = FileSink::create(file).expect("the temporary file can be made");
    let span = Span::begin();
    let done = run(runtime, workload, operations, &mut sink);
    show(&format!("{workload}, recorded to a file"), done, &span);
    peak_mib()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(quorate::calls::WORKERS)
        .build()
        .expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("history.jsonl");
    println!(
        "{:<34}{:>10}{:>12}{:>12}{:>10}{:>10}",
        "case", "ops", "ops/s", "cpu ns/op", "cores", "peak MiB"
    );
    // Small runs first: memory once used may stay with the process.
    run(&runtime, Kind::Register, OPERATIONS / 10, &mut Nowhere);
    let mut growth = Vec::new();
    for workload in [Kind::Register, Kind::Append] {
        let once = recorded(&runtime, workload, OPERATIONS, &file);
        let bytes = file.metadata().map_or(0, |file| file.len());
        let tenfold = recorded(&runtime, workload, 10 * OPERATIONS, &file);
        growth.push((workload, once, tenfold, bytes));
    }
    let span = Span::begin();
    let done = run(&runtime, Kind::Register, 5 * OPERATIONS, &mut Nowhere);
    show("register, not recorded", done, &span);
    let span = Span::begin();
    let done = client_alone(&runtime, 5 * OPERATIONS);
    show("the client alone", done, &span);
    println!();
    for (workload, once, tenfold, bytes) in growth {
        let extra = (tenfold - once) * 1024.0 * 1024.0;
        println!(
            "{workload}: {:.0} bytes of history an op in the file; {:.1} bytes of memory for each \
             op beyond the first {OPERATIONS}",
            bytes as f64 / OPERATIONS as f64,
            extra / (9 * OPERATIONS) as f64,
        );
    }
}
