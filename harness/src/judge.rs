//! From what was recorded to the summary: the checkers, and whether the run itself was worth
//! anything (faults that were proven, a cluster that came back).

use checkers::linearizable::{Limits, Linearizable, Model, engine};
use checkers::{
    Bank, CheckResult, Checker, ConsistencyModel, History, ListAppend, Queue, RwRegister, Value,
    Verdict,
};
use jiff::Timestamp;
use nemesis::{Proof, duration};
use serde_json::{Map, json};
use workloads::{Kind, transaction};

use crate::cli::RefusedCas;
use crate::defaults;
use crate::exit;
use crate::experiment::Experiment;
use crate::report::{FaultRecord, Summary, Tally};
use crate::runner::{Ended, FaultLog};
use crate::store::RunDir;

/// The name under which the run itself is judged, beside the checkers.
pub const RUN: &str = "run";

/// Names of all checkers, for messages and help.
pub fn checker_names() -> &'static [&'static str] {
    &checkers::check_all::NAMES
}

/// What checkers are told beside the history.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a failed compare-and-set says.
    pub refused_cas: RefusedCas,
    /// The model of every key; by its functions if absent.
    pub model: Option<Model>,
    /// Name of the engine that decides linearizability.
    pub engine: &'static str,
    /// What that may cost.
    pub limits: Limits,
    /// Whether a key that fails ends the judging of all others.
    pub fail_fast: bool,
    /// What transactions were promised.
    pub consistency: ConsistencyModel,
    /// Whether queues promise order.
    pub fifo: bool,
    /// Whether accounts may be overdrawn.
    pub negative_balances: bool,
    /// The accounts of a bank, and what they come to; as most reads show them if absent.
    pub bank: Option<(Vec<Value>, i64)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refused_cas: RefusedCas::SaysNothing,
            model: None,
            engine: engine::NAMES[0],
            limits: Limits::default(),
            fail_fast: false,
            consistency: ConsistencyModel::default(),
            fifo: false,
            negative_balances: false,
            bank: None,
        }
    }
}

/// The checkers of these names, in that order; names that are unknown are left out.
pub fn checkers(names: &[&str], settings: &Settings) -> Vec<Box<dyn Checker>> {
    let model = settings.consistency;
    names
        .iter()
        .filter_map(|name| match *name {
            "linearizable" => Some(Box::new(Linearizable {
                model: settings.model,
                refused_cas_constrains: settings.refused_cas == RefusedCas::Constrains,
                limits: settings.limits,
                engine: engine::by_name(settings.engine)?,
                fail_fast: settings.fail_fast,
            }) as Box<dyn Checker>),
            "list-append" => Some(Box::new(ListAppend { model })),
            "rw-register" => Some(Box::new(RwRegister {
                model,
                ..RwRegister::default()
            })),
            "queue" => Some(Box::new(Queue {
                fifo: settings.fifo,
            })),
            "bank" => Some(Box::new(Bank {
                negative_balances: settings.negative_balances,
                accounts: settings.bank.as_ref().map(|(accounts, _)| accounts.clone()),
                total: settings.bank.as_ref().map(|(_, total)| *total),
            })),
            name => checkers::check_all::by_name(name),
        })
        .collect()
}

/// The names of the checkers that judge an experiment.
pub fn names(experiment: &Experiment) -> Vec<&str> {
    if experiment.checks.is_empty() {
        defaults::checks(experiment)
    } else {
        experiment.checks.iter().map(String::as_str).collect()
    }
}

/// The checkers that judge an experiment.
pub fn of_experiment(experiment: &Experiment) -> Vec<Box<dyn Checker>> {
    let settings = Settings {
        limits: Limits {
            per_key: Some(experiment.limits.check_per_key),
            ..Limits::default()
        },
        consistency: experiment.consistency(),
        bank: (experiment.workload == Kind::Bank)
            .then(|| (transaction::accounts(&Value::Nil), transaction::TOTAL)),
        ..Settings::default()
    };
    checkers(&names(experiment), &settings)
}

/// Judges a run.
pub fn summary(
    experiment: &Experiment,
    history: &History,
    ended: &Ended,
    started: Timestamp,
    dir: &RunDir,
) -> Summary {
    let mut results = check(experiment, history);
    let faults = ended
        .faults
        .iter()
        .map(|f| fault_record(f, &results))
        .collect();
    results.push(judge_run(experiment, ended));
    let mut summary = assemble(experiment, history, results, dir);
    summary.faults = faults;
    summary.started = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    summary.duration_s = ended.elapsed as f64 / 1e9;
    if ended.interrupted {
        summary.exit_code = i32::from(exit::INTERRUPTED);
    } else if ended.broken.is_some() && summary.verdict != Verdict::Invalid {
        summary.exit_code = i32::from(exit::CRASHED);
    }
    summary
}

/// Judges a run directory again. What only the run knew is taken from the old summary.
pub fn again(experiment: &Experiment, history: &History, old: Summary, dir: &RunDir) -> Summary {
    let mut results = check(experiment, history);
    results.extend(old.results.into_iter().filter(|r| r.checker == RUN));
    let mut summary = assemble(experiment, history, results, dir);
    for fault in &old.faults {
        let recovery_s = recovery(fault.id, &summary.results);
        summary.faults.push(FaultRecord {
            recovery_s,
            ..fault.clone()
        });
    }
    summary.started = old.started;
    summary.duration_s = old.duration_s;
    let ended_early = [exit::INTERRUPTED, exit::CRASHED]
        .map(i32::from)
        .contains(&old.exit_code);
    if ended_early && summary.verdict != Verdict::Invalid {
        summary.exit_code = old.exit_code;
    }
    summary
}

/// Judges what a killed harness left behind.
pub fn unfinished(experiment: &Experiment, history: &History, dir: &RunDir) -> Summary {
    let mut results = check(experiment, history);
    let reason = "unfinished: the harness ended before the run did".to_owned();
    results.push(CheckResult::unknown(RUN, reason));
    let mut summary = assemble(experiment, history, results, dir);
    summary.duration_s = history.events.last().map_or(0.0, |e| e.time as f64 / 1e9);
    summary
}

/// The result of each of the experiment's checkers.
pub fn check(experiment: &Experiment, history: &History) -> Vec<CheckResult> {
    let checkers = of_experiment(experiment);
    checkers::check_all(history, &checkers).results
}

/// A summary with everything that follows from experiment, history and results.
fn assemble(
    experiment: &Experiment,
    history: &History,
    results: Vec<CheckResult>,
    dir: &RunDir,
) -> Summary {
    let verdict = results
        .iter()
        .map(|r| r.verdict.clone())
        .reduce(Verdict::merge)
        .unwrap_or(Verdict::Valid);
    let mut tally = Tally::default();
    history.events.iter().for_each(|e| tally.record(e));
    let (ops, latency_ms) = tally.finish();
    Summary {
        schema: crate::report::summary::SCHEMA,
        name: experiment.name.clone(),
        exit_code: i32::from(exit::of(&verdict)),
        verdict,
        seed: experiment.seed.unwrap_or_default(),
        mode: experiment.mode(),
        target: experiment.target_name().to_owned(),
        substrate: experiment.substrate.to_string(),
        workload: experiment.workload.name().to_owned(),
        nodes: (1..=experiment.nodes).map(|n| format!("n{n}")).collect(),
        concurrency: experiment.threads(),
        started: String::new(),
        duration_s: 0.0,
        ops,
        latency_ms,
        results,
        faults: Vec::new(),
        reproduce: reproduce(experiment, dir),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The command that repeats the run. In simulation it repeats it to the byte; elsewhere it does
/// the same to the same nodes at the same times.
pub(crate) fn reproduce(experiment: &Experiment, dir: &RunDir) -> String {
    let file = |name: &str| quoted(&dir.path().join(name).display().to_string());
    let mut command = format!("{} test {}", program(), file("experiment.yaml"));
    if experiment.substrate != crate::experiment::On::Sim {
        command = format!("{command} --schedule {}", file("schedule.yaml"));
    }
    // A run is at <store>/<name>/<time>.
    match dir.path().ancestors().nth(2) {
        Some(store) if store != std::path::Path::new("store") => {
            let store = if store.as_os_str().is_empty() {
                ".".to_owned()
            } else {
                quoted(&store.display().to_string())
            };
            format!("{command} --store {store}")
        }
        _ => command,
    }
}

/// This program as it was called, so that a printed command can be pasted.
pub(crate) fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.contains('/') && called.ends_with("/quorate") {
        quoted(&called)
    } else {
        "quorate".to_owned()
    }
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Whether the run itself counts: nothing broke, faults were asked for and proven, and the cluster
/// came back. A run that proves nothing is not a pass.
pub(crate) fn judge_run(experiment: &Experiment, ended: &Ended) -> CheckResult {
    let mut doubts = Vec::new();
    if let Some(why) = &ended.broken {
        doubts.push(format!("target-broken: {why}"));
    }
    if ended.interrupted {
        doubts.push("interrupted: the run ended before its time".to_owned());
    }
    let wanted = experiment.faults.schedule.as_ref().map_or_else(
        || experiment.faults.packages.iter().any(|p| p != "none"),
        |program| !program.is_empty(),
    );
    if wanted && ended.faults.is_empty() && !ended.interrupted && ended.broken.is_none() {
        doubts.push(
            "fault-not-effective: no fault was injected; a longer time limit leaves room for some"
                .to_owned(),
        );
    }
    for fault in &ended.faults {
        match &fault.proof {
            Some(Proof::Seen(_)) => {}
            Some(Proof::NotSeen(why)) => {
                doubts.push(format!("fault-not-effective: {}: {why}", fault.what));
            }
            None => doubts.push(format!(
                "fault-not-effective: {}: never observed",
                fault.what
            )),
        }
        match &fault.heal_proof {
            Some(Proof::Seen(_)) => {}
            Some(Proof::NotSeen(why)) => {
                doubts.push(format!("fault-not-healed: {}: {why}", fault.what));
            }
            None => doubts.push(format!("fault-not-healed: {}: never observed", fault.what)),
        }
    }
    if !ended.recovered && ended.broken.is_none() && !ended.interrupted {
        let recovery = experiment.limits.recovery;
        doubts.push(if ended.crippled {
            "not-recovered: a node did not come up, so agreement was not waited for".to_owned()
        } else {
            format!("not-recovered: the replicas did not agree within {recovery:?} of healing")
        });
    }
    let skipped = || ended.realised.faults.iter().filter(|entry| entry.skipped());
    if experiment.faults.schedule.is_some() && !ended.interrupted && ended.broken.is_none() {
        for entry in skipped() {
            let why = entry.realised.as_ref().and_then(|r| r.skipped.as_deref());
            doubts.push(format!(
                "fault-not-effective: {} at {} was never injected: {}",
                entry.fault.kind().name(),
                duration::format(entry.at),
                why.unwrap_or("no reason was recorded"),
            ));
        }
    }
    let verdict = if doubts.is_empty() {
        Verdict::Valid
    } else {
        Verdict::Unknown(doubts.join("; "))
    };
    let mut figures = Map::new();
    let proven = ended
        .faults
        .iter()
        .filter(|f| matches!(f.proof, Some(Proof::Seen(_))))
        .count();
    figures.insert("faults".to_owned(), json!(ended.faults.len()));
    figures.insert("proven".to_owned(), json!(proven));
    figures.insert("skipped".to_owned(), json!(skipped().count()));
    figures.insert("recovered".to_owned(), json!(ended.recovered));
    CheckResult {
        checker: RUN.to_owned(),
        verdict,
        judged: ended.faults.len() as u64,
        anomalies: Vec::new(),
        figures,
    }
}

fn fault_record(fault: &FaultLog, results: &[CheckResult]) -> FaultRecord {
    let (seen, proof) = match &fault.proof {
        Some(Proof::Seen(how)) => (true, how.clone()),
        Some(Proof::NotSeen(why)) => (false, why.clone()),
        None => (false, "never observed".to_owned()),
    };
    FaultRecord {
        id: fault.id,
        name: fault.name.clone(),
        targets: fault.targets.clone(),
        injected_at_s: fault.begun as f64 / 1e9,
        healed_at_s: fault.healed.map(|ns| ns as f64 / 1e9),
        proof,
        seen,
        recovery_s: recovery(fault.id, results),
    }
}

/// Seconds from a fault until writes were acknowledged again, as the checker `availability` found.
fn recovery(fault: u32, results: &[CheckResult]) -> Option<f64> {
    let availability = results.iter().find(|r| r.checker == "availability")?;
    let faults = availability.figures.get("faults")?.as_array()?;
    faults.iter().find(|f| f["id"] == json!(fault))?["recovery_seconds"].as_f64()
}

#[cfg(test)]
mod tests {
    use nemesis::Schedule;

    use super::*;
    use crate::runner::Counts;

    fn seen() -> Proof {
        Proof::Seen("it was seen".to_owned())
    }

    /// A run in which one fault was injected, seen and healed.
    fn ended() -> Ended {
        Ended {
            interrupted: false,
            broken: None,
            recovered: true,
            crippled: false,
            counts: Counts::default(),
            faults: vec![FaultLog {
                id: 0,
                name: "kill".to_owned(),
                targets: vec!["n1".to_owned()],
                what: "kill n1".to_owned(),
                begun: 1,
                healed: Some(2),
                proof: Some(seen()),
                heal_proof: Some(seen()),
            }],
            realised: Schedule { faults: Vec::new() },
            events: 0,
            elapsed: 3,
        }
    }

    fn verdict(change: impl FnOnce(&mut Ended)) -> Verdict {
        let mut ended = ended();
        change(&mut ended);
        judge_run(&Experiment::default(), &ended).verdict
    }

    #[test]
    fn a_run_that_proves_nothing_is_not_a_pass() {
        assert_eq!(verdict(|_| {}), Verdict::Valid);
        let not_seen = || Some(Proof::NotSeen("nothing happened".to_owned()));
        let doubted = [
            (
                "fault-not-effective",
                verdict(|e| e.faults[0].proof = not_seen()),
            ),
            ("fault-not-effective", verdict(|e| e.faults[0].proof = None)),
            ("fault-not-effective", verdict(|e| e.faults.clear())),
            (
                "fault-not-healed",
                verdict(|e| e.faults[0].heal_proof = not_seen()),
            ),
            (
                "fault-not-healed",
                verdict(|e| e.faults[0].heal_proof = None),
            ),
            ("not-recovered", verdict(|e| e.recovered = false)),
            (
                "not-recovered: a node did not come up",
                verdict(|e| (e.recovered, e.crippled) = (false, true)),
            ),
            ("interrupted", verdict(|e| e.interrupted = true)),
            (
                "target-broken",
                verdict(|e| e.broken = Some("n1 ended".to_owned())),
            ),
        ];
        for (reason, verdict) in doubted {
            let Verdict::Unknown(why) = &verdict else {
                panic!("{reason}: {verdict:?}")
            };
            assert!(why.starts_with(reason), "{reason}: {why}");
        }
    }

    #[test]
    fn without_wanted_faults_none_are_missed() {
        let mut experiment = Experiment::default();
        experiment.faults.packages = vec!["none".to_owned()];
        let mut ended = ended();
        ended.faults.clear();
        assert_eq!(judge_run(&experiment, &ended).verdict, Verdict::Valid);
    }

    #[test]
    fn a_scheduled_fault_that_was_never_injected_is_doubted() {
        let yaml = "- {at: 1s, for: 1s, fault: kill, target: n1, skipped: no leader is known}";
        let schedule = Schedule::parse(yaml).unwrap();
        let mut experiment = Experiment::default();
        experiment.faults.schedule = Some(schedule.clone().into());
        let mut ended = ended();
        ended.realised = schedule;
        let Verdict::Unknown(why) = judge_run(&experiment, &ended).verdict else {
            panic!("a skipped fault earned credit")
        };
        assert!(why.contains("no leader is known"), "{why}");
    }

    #[test]
    fn words_are_quoted_for_a_shell_where_they_must_be() {
        assert_eq!(quoted("store/demo/2026.1Z"), "store/demo/2026.1Z");
        assert_eq!(quoted("a store"), "'a store'");
        assert_eq!(quoted("it's $x"), "'it'\\''s $x'");
        assert_eq!(quoted(""), "''");
    }
}
