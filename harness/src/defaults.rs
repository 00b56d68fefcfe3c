//! What fits a replication mode: which workloads can run on it, and what an experiment gets that
//! does not say.
//!
//! | mode | workload | clients | checks left out |
//! | --- | --- | --- | --- |
//! | single leader, raft | `append` | the leader | `siblings` |
//! | multi-leader `lww`, `procedure`, leaderless `lww` | `register` | `spread` | `linearizable`, `stale-reads`, `split-brain`, `siblings` |
//! | multi-leader `siblings`, leaderless | `conflict` | `spread` | `linearizable`, `stale-reads`, `split-brain` |
//! | multi-leader `crdt` | `counter` | `spread` | the same and `siblings` |
//! | multi-leader `synchronous`, `home` | `append` | `spread` | the same and `siblings` |
//!
//! What is left out is not promised by the mode, or has nothing to judge in it; all of it can be
//! asked for by name. `mutual-exclusion` judges `text` with `editing: lock` alone.

use reference_cluster::core::Config;
use reference_cluster::core::config::{Mode, Reads};
use reference_cluster::core::leaderless::Versions;
use reference_cluster::core::multi_leader::Conflicts;
use workloads::{Data, Editing, Kind, Policy};

use crate::experiment::{Experiment, Impossible};
use crate::mode;

/// What keys can hold in a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Everything: one log, or as good as one, decides the order of all operations.
    Everything,
    /// Registers of which the last write stands.
    Registers,
    /// Registers whose concurrent values are all kept.
    Siblings,
    /// Data types whose changes commute.
    Crdts,
}

fn holds(config: &Config) -> Holds {
    match (config.mode, config.multi_leader.conflicts) {
        (Mode::SingleLeader | Mode::Raft, _)
        | (Mode::MultiLeader, Conflicts::Synchronous | Conflicts::Home) => Holds::Everything,
        (Mode::MultiLeader, Conflicts::Lww | Conflicts::Procedure) => Holds::Registers,
        (Mode::MultiLeader, Conflicts::Siblings) => Holds::Siblings,
        (Mode::MultiLeader, Conflicts::Crdt) => Holds::Crdts,
        (Mode::Leaderless, _) => match config.leaderless.versions {
            Versions::Lww => Holds::Registers,
            Versions::Dotted => Holds::Siblings,
        },
    }
}

/// What the experiment file or the flags say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The workload.
    pub workload: bool,
    /// The policy of the clients.
    pub policy: bool,
}

/// Chooses for an experiment what was not given, by its mode.
pub fn choose(experiment: &mut Experiment, given: Given) {
    let holds = holds(&experiment.target);
    if !given.workload {
        experiment.workload = match holds {
            Holds::Everything => Kind::Append,
            Holds::Registers => Kind::Register,
            Holds::Siblings => Kind::Conflict,
            Holds::Crdts => Kind::Counter,
        };
    }
    let parameters = &mut experiment.parameters;
    if !experiment.target.one_log() {
        match experiment.workload {
            // There is nothing to compare with before all have agreed.
            Kind::Register => parameters.cas_fraction = parameters.cas_fraction.or(Some(0.0)),
            Kind::Text => parameters.editing = parameters.editing.or(Some(Editing::Crdt)),
            _ => {}
        }
    }
    if experiment.workload == Kind::Session && holds == Holds::Registers {
        parameters.data = parameters.data.or(Some(Data::Register));
    }
    if !given.policy {
        experiment.clients.policy = policy(experiment);
    }
}

/// Whom clients ask, unless they are told.
fn policy(experiment: &Experiment) -> Policy {
    match (experiment.target.one_log(), experiment.workload) {
        // A device is its client's own.
        (_, Kind::Calendar) if !experiment.target.one_log() => Policy::Spread,
        // Somebody who is sent to another replica each time sees what the replicas do not share.
        (true, Kind::Session) if any_replica_reads(&experiment.target) => Policy::Split,
        (true, _) => Policy::Leader,
        (false, Kind::Session) => Policy::Any,
        (false, _) => Policy::Spread,
    }
}

fn any_replica_reads(config: &Config) -> bool {
    matches!(config.reads, Reads::Any | Reads::Follower | Reads::Local)
}

/// The checkers that judge an experiment which names none.
pub fn checks(experiment: &Experiment) -> Vec<&'static str> {
    let one_log = experiment.target.one_log();
    let siblings = holds(&experiment.target) == Holds::Siblings;
    let locked = experiment.parameters.resolved(experiment.workload).editing == Some(Editing::Lock);
    let fits = |name: &str| match name {
        "linearizable" | "stale-reads" | "split-brain" => one_log,
        "siblings" => siblings,
        "mutual-exclusion" => locked,
        _ => true,
    };
    let known = crate::judge::checker_names();
    let all = experiment.workload.checkers().iter().copied();
    all.filter(|name| fits(name) && known.contains(name))
        .collect()
}

/// Refuses a workload whose operations the mode does not have.
///
/// # Errors
/// The field, and which workloads there are in this mode.
pub fn validate(experiment: &Experiment) -> Result<(), Impossible> {
    let config = &experiment.target;
    let holds = holds(config);
    if !runs(experiment.workload, config) {
        let possible = Kind::ALL.into_iter().filter(|kind| runs(*kind, config));
        let names: Vec<&str> = possible.map(Kind::name).collect();
        let mode = mode::name(config);
        return Err(Impossible {
            field: "workload".to_owned(),
            message: format!(
                "expected one of {} with mode {mode}, which lacks operations of {}",
                names.join(", "),
                experiment.workload
            ),
        });
    }
    let parameters = experiment.parameters.resolved(experiment.workload);
    if parameters.data == Some(Data::List) && holds != Holds::Everything {
        return Err(Impossible {
            field: "parameters.data".to_owned(),
            message: format!("expected register with mode {}", mode::name(config)),
        });
    }
    if parameters.editing == Some(Editing::Lock) && holds != Holds::Everything {
        return Err(Impossible {
            field: "parameters.editing".to_owned(),
            message: format!(
                "expected crdt with mode {}, which has no locks",
                mode::name(config)
            ),
        });
    }
    Ok(())
}

/// Whether a mode has the operations of a workload.
fn runs(kind: Kind, config: &Config) -> bool {
    match (holds(config), kind) {
        (_, Kind::Nondeterministic) => config.mode == Mode::SingleLeader,
        (_, Kind::Bootstrap | Kind::Upgrade) => config.one_log(),
        (Holds::Everything, _) => true,
        (Holds::Registers, _) => matches!(
            kind,
            Kind::Register | Kind::Session | Kind::Conflict | Kind::Calendar
        ),
        (Holds::Siblings, _) => matches!(kind, Kind::Conflict | Kind::Calendar),
        (Holds::Crdts, _) => matches!(kind, Kind::Counter | Kind::Set | Kind::Text),
    }
}
