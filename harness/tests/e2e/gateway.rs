//! Clients that reach the replicas through gateways, and the monitor, in simulation.

use std::time::Duration;

use checkers::Verdict;
use nemesis::Schedule;
use quorate::commands::sim::{SeedResult, seeds};
use quorate::experiment::{Experiment, On};
use reference_cluster::core::config::{Detection, Fencing, GatewayReads};
use workloads::{Kind as Workload, Policy};

fn experiment(faults: &str) -> Experiment {
    let mut experiment = Experiment {
        nodes: 3,
        substrate: On::Sim,
        workload: Workload::Append,
        ..Experiment::default()
    };
    experiment.target.gateways = 2;
    experiment.target.gateway_reads = GatewayReads::Leader;
    experiment.target.heartbeat_ms = 50;
    experiment.target.failover_timeout_ms = 300;
    experiment.clients.policy = Policy::Gateway;
    experiment.clients.rate = 100.0;
    experiment.clients.timeout = Duration::from_millis(500);
    experiment.limits.time = Duration::from_secs(6);
    if faults.is_empty() {
        experiment.faults.packages = vec!["none".to_owned()];
    } else {
        let schedule = Schedule::parse(faults).expect(faults);
        experiment.faults.schedule = Some(schedule.faults.into());
    }
    experiment.validate().unwrap();
    experiment
}

fn run(experiment: &Experiment) -> Vec<SeedResult> {
    let results = seeds(experiment, 0..20, 2).unwrap();
    for result in &results {
        let wrong = &result.truth.disagreements;
        assert!(wrong.is_empty(), "seed {}: {wrong:?}", result.seed);
        assert!(result.ops > 100, "seed {}: {} ops", result.seed, result.ops);
    }
    results
}

fn assert_valid(results: &[SeedResult]) {
    for result in results {
        let verdict = &result.verdict;
        assert_eq!(
            verdict,
            &Verdict::Valid,
            "{}: {:?}",
            result.seed,
            result.checks
        );
    }
}

const KILL_LEADER: &str = "faults:\n- {at: 2s, fault: kill, target: leader, for: 3s}\n";

#[test]
fn without_faults_clients_of_a_gateway_notice_nothing() {
    assert_valid(&run(&experiment("")));
}

#[test]
fn a_gateway_that_dies_or_is_cut_off_harms_no_data() {
    for fault in ["kill", "pause", "partition, shape: isolate"] {
        let text = format!("faults:\n- {{at: 2s, fault: {fault}, target: gateway, for: 2s}}\n");
        let results = run(&experiment(&text));
        let faults: Vec<usize> = results.iter().map(|result| result.faults).collect();
        assert_eq!(faults, [1; 20], "{fault}");
        assert_valid(&results);
    }
}

#[test]
fn a_gateway_follows_a_failover() {
    let mut lost = 0;
    for result in run(&experiment(KILL_LEADER)) {
        lost += result.lost;
        let availability = &result.checks["availability"];
        assert_eq!(availability, "valid", "seed {}", result.seed);
    }
    assert!(lost < 20, "{lost}: more than the tail of the log");
}

#[test]
fn the_monitor_brings_a_failover_about() {
    let mut experiment = experiment(KILL_LEADER);
    experiment.target.detection = Detection::Monitor;
    experiment.target.fencing = Fencing::Epoch;
    assert_eq!(experiment.all_nodes(), 6);
    for result in run(&experiment) {
        assert_eq!(
            result.checks["availability"], "valid",
            "seed {}",
            result.seed
        );
    }
    // With the monitor away as well nothing is done until it returns.
    let both = "faults:\n- {at: 1s, fault: kill, target: monitor, for: 4s}\n\
                - {at: 2s, fault: kill, target: leader, for: 2s}\n";
    experiment.faults.schedule = Some(Schedule::parse(both).unwrap().into());
    let results = run(&experiment);
    assert!(results.iter().all(|result| result.faults == 2));
}

#[test]
fn reads_that_a_gateway_spreads_may_be_stale() {
    let mut spread = experiment("");
    spread.target.gateway_reads = GatewayReads::RoundRobin;
    spread.clients.rate = 1_000.0;
    let results = run(&spread);
    assert!(results.iter().any(|result| result.stale > 0));
    assert!(results.iter().all(|result| result.lost == 0));
}
