//! From an experiment to what the runner and the simulation need: one seed, a named sub-stream for
//! each consumer.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use nemesis::{Nemesis, package};
use reference_cluster::core::config::Mode;
use workloads::generator::{Limit, Phases, Spread, Stagger};
use workloads::{Generator, Quorum, Router, Workload, substream};

use crate::experiment::Experiment;
use crate::judge;
use crate::runner::{Plan, Recovered};
use crate::sim::{SimOptions, SimSubstrate};

/// What a run of this experiment consists of.
///
/// # Errors
/// If a package of faults cannot work on this cluster.
pub fn plan(experiment: &Experiment) -> Result<Plan> {
    let seed = experiment.seed.unwrap_or_default();
    let threads = experiment.threads();
    let mut workload = Workload::new(experiment.workload, &experiment.parameters, seed)?;
    let traffic = std::mem::replace(&mut workload.main, Box::new(Phases::new(Vec::new())));
    let generator: Box<dyn Generator> = if experiment.clients.rate > 0.0 {
        let mean = (1e9 / experiment.clients.rate) as u64;
        Box::new(Stagger::new(
            traffic,
            mean,
            Spread::Exponential,
            substream(seed, "pace"),
        ))
    } else {
        traffic
    };
    let generator: Box<dyn Generator> = match experiment.limits.operations {
        Some(operations) => Box::new(Limit::new(generator, operations)),
        None => generator,
    };
    let nemesis_seed = substream(seed, "nemesis");
    let capabilities = experiment.capabilities();
    let nemesis = match &experiment.faults.schedule {
        Some(program) => {
            Nemesis::from_program(program, experiment.nodes, &capabilities, nemesis_seed)
        }
        None => {
            let packages =
                package::select(&experiment.faults.packages, experiment.nodes, &capabilities)?;
            let pace = package::Pace {
                interval: experiment.faults.interval,
                until: experiment.limits.time,
                lasting: experiment.faults.lasting.map(|l| (l.min, l.max)),
            };
            Nemesis::from_packages(
                &packages,
                experiment.nodes,
                &capabilities,
                &pace,
                nemesis_seed,
            )
        }
    };
    // Of what an incomplete write left, a read of fewer than all may show any part.
    let all = match experiment.target.mode {
        Mode::Leaderless => Some(experiment.target.leaderless.n),
        _ => None,
    };
    let quorum = Quorum {
        r: all,
        ..Quorum::default()
    };
    let workload = Rc::new(workload);
    let inspected = Rc::clone(&workload);
    let nodes = experiment.nodes;
    let inspections = judge::names(experiment).contains(&"convergence").then(|| {
        Box::new(move || Box::new(inspected.inspections(nodes)) as Box<dyn Generator>)
            as Box<dyn FnOnce() -> Box<dyn Generator>>
    });
    Ok(Plan {
        threads,
        time_limit: experiment.limits.time,
        until_schedule_ends: experiment.limits.until_schedule_ends,
        recovery_limit: experiment.limits.recovery,
        generator,
        final_reads: Box::new(move || workload.last_operations(nodes, quorum)),
        inspections,
        router: Router::new(
            experiment.clients.policy,
            experiment.nodes,
            substream(seed, "router"),
        )
        .with_gateways(experiment.target.gateways),
        recovered: recovered(experiment),
        sessions: experiment.clients.sessions,
        nemesis,
        poll_interval: Duration::from_millis(250),
    })
}

/// When its cluster has recovered.
fn recovered(experiment: &Experiment) -> Recovered {
    match (experiment.has_leader(), experiment.is_foreign()) {
        (true, true) => Recovered::United,
        (true, false) => Recovered::Agreed,
        (false, _) => Recovered::Settled,
    }
}

/// The simulated substrate of an experiment.
pub fn simulation(experiment: &Experiment) -> SimSubstrate {
    SimSubstrate::new(SimOptions {
        nodes: experiment.nodes,
        config: experiment.target.clone(),
        seed: substream(experiment.seed.unwrap_or_default(), "simulation"),
        conditions: experiment.simulation,
        formats: experiment.versions.as_ref().map(|versions| {
            let configured = experiment.target.storage_version;
            [&versions.from, &versions.to].map(|version| version.storage.unwrap_or(configured))
        }),
        call_timeout: u64::try_from(experiment.clients.timeout.as_nanos()).unwrap_or(u64::MAX),
    })
}
