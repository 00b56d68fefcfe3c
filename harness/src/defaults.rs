//! What fits a replication mode: which workloads can run on it, and what an experiment gets that
//! does not say.
//!
//! | mode | workload | clients | faults | checks left out |
//! | --- | --- | --- | --- | --- |
//! | single leader, raft | `append` | the leader (`split` if any replica answers reads) | of the leader | `siblings` |
//! | multi-leader `lww`, leaderless `lww` | `conflict` | `spread` | of any node | `linearizable`, `stale-reads`, `split-brain` |
//! | multi-leader `procedure` | `register` | `spread` | of any node | `linearizable`, `stale-reads`, `split-brain`, `siblings` |
//! | multi-leader `siblings`, leaderless | `conflict` | `spread` | of any node | `linearizable`, `stale-reads`, `split-brain`, `lost-writes` |
//! | multi-leader `crdt` | `counter` | `spread` | of any node | as with `procedure` |
//! | multi-leader `synchronous`, `home` | `append` | `spread` | of any node | as with `procedure` |
//!
//! What is left out is not promised by the mode, or has nothing to judge in it; all of it can be
//! asked for by name. `mutual-exclusion` judges `text` with `editing: lock` alone.

use std::time::Duration;

use reference_cluster::core::Config;
use reference_cluster::core::config::{Mode, Reads};
use reference_cluster::core::leaderless::Versions;
use reference_cluster::core::multi_leader::Conflicts;
use workloads::{Data, Editing, Kind, Policy};

use crate::experiment::{Experiment, Impossible, On};
use crate::mode;

/// What keys can hold in a mode, as its module in the reference cluster's core says.
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

/// The checkers that hold transactions to a consistency model.
pub const BY_MODEL: [&str; 2] = ["list-append", "rw-register"];

/// Whether of concurrent writes one stands and the others vanish, whoever wrote them.
fn lww(config: &Config) -> bool {
    match config.mode {
        Mode::SingleLeader | Mode::Raft => false,
        Mode::MultiLeader => config.multi_leader.conflicts == Conflicts::Lww,
        Mode::Leaderless => config.leaderless.versions == Versions::Lww,
    }
}

/// What the experiment file or the flags say themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The workload.
    pub workload: bool,
    /// The policy of the clients.
    pub policy: bool,
    /// The faults.
    pub faults: bool,
}

/// Chooses for an experiment what was not given, by its mode.
pub fn choose(experiment: &mut Experiment, given: Given) {
    let holds = holds(&experiment.target);
    if !given.workload {
        experiment.workload = match holds {
            Holds::Everything => Kind::Append,
            // A procedure resolves what is concurrent as its author wants it.
            Holds::Registers if !lww(&experiment.target) => Kind::Register,
            Holds::Registers | Holds::Siblings => Kind::Conflict,
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
    if !given.faults && !experiment.target.one_log() {
        // There is no leader to strike.
        experiment.faults.packages = ["partition-halves", "kill"].map(str::to_owned).into();
    }
}

/// How long a store of another maker may take to recover, at least.
const FOREIGN_RECOVERY: Duration = Duration::from_secs(60);

/// Chooses for a store of another maker, of which nothing is known but what its clients can do.
pub fn choose_foreign(experiment: &mut Experiment, given: Given) {
    if !given.workload {
        let queues = experiment
            .store
            .as_ref()
            .is_some_and(|store| store.target().has("enqueue") && !store.target().has("write"));
        experiment.workload = if queues { Kind::Queue } else { Kind::Register };
    }
    if experiment
        .store
        .as_ref()
        .is_some_and(|store| !store.target().has("cas"))
        && experiment.workload == Kind::Register
    {
        let parameters = &mut experiment.parameters;
        parameters.cas_fraction = parameters.cas_fraction.or(Some(0.0));
    }
    if !given.policy {
        experiment.clients.policy = Policy::Spread;
    }
    // What is left to a Sentinel takes it some ten seconds, and then some.
    let limits = &mut experiment.limits;
    limits.recovery = limits.recovery.max(FOREIGN_RECOVERY);
    if !given.faults && experiment.substrate == On::External {
        experiment.faults.packages = vec!["none".to_owned()];
    } else if !given.faults
        && let Some(store) = &experiment.store
        && store.target().without_roles().is_some()
    {
        // There is no leader to strike.
        experiment.faults.packages = ["partition-halves", "kill"].map(str::to_owned).into();
    }
}

/// Whom clients ask, unless they are told.
fn policy(experiment: &Experiment) -> Policy {
    match (experiment.target.one_log(), experiment.workload) {
        // A device is its client's own.
        (false, Kind::Calendar) => Policy::Spread,
        // Who starts gateways wants them asked.
        _ if experiment.target.gateways > 0 => Policy::Gateway,
        // Somebody who is sent to another replica each time sees what the replicas do not share.
        (true, _) if any_replica_reads(&experiment.target) => Policy::Split,
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
    let parameters = experiment.parameters.resolved(experiment.workload);
    let of_locks = experiment.workload == Kind::Lock;
    let locked = of_locks || parameters.editing == Some(Editing::Lock);
    let fits = |name: &str| match name {
        // Only nodes that say who they are can be seen to lead, and what they hold be compared.
        "split-brain" | "convergence" if experiment.is_foreign() => false,
        // One that stands alone agrees with itself.
        // A lease ends without anybody giving the lock back.
        "linearizable" if of_locks && experiment.is_foreign() => false,
        "convergence" if experiment.substrate == On::External && experiment.nodes == 1 => false,
        "linearizable" | "stale-reads" | "split-brain" => one_log,
        // Which concurrent writes the last one costs nobody else can tell.
        "siblings" => siblings || lww(&experiment.target),
        // Where concurrent values are kept, nothing but `siblings` knows what is lost.
        "lost-writes" => !siblings,
        "mutual-exclusion" => locked,
        _ => true,
    };
    let all = experiment.workload.checkers().iter().copied();
    all.filter(|name| fits(name)).collect()
}

/// Refuses a workload whose operations the mode does not have.
///
/// # Errors
/// The field, and which workloads there are in this mode.
pub fn validate(experiment: &Experiment) -> Result<(), Impossible> {
    if experiment.is_foreign() {
        return Ok(());
    }
    let config = &experiment.target;
    let holds = holds(config);
    let without = match experiment.workload {
        kind if kind.is_transactional() => Some("transactions"),
        Kind::Queue => Some("queues"),
        _ => None,
    };
    if let Some(what) = without {
        return Err(Impossible {
            field: "workload".to_owned(),
            message: format!(
                "the reference store has no {what}; {} needs another store (--target NAME)",
                experiment.workload
            ),
        });
    }
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
    if parameters.data == Some(Data::List) && holds == Holds::Registers {
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
        (_, kind) if kind.is_transactional() => false,
        (_, Kind::Nondeterministic | Kind::Bootstrap | Kind::Upgrade) => config.one_log(),
        // The reference store has no queues.
        (_, Kind::Queue) => false,
        (Holds::Everything, _) => true,
        (Holds::Registers, _) => matches!(
            kind,
            Kind::Register | Kind::Session | Kind::Conflict | Kind::Calendar
        ),
        (Holds::Siblings, _) => matches!(kind, Kind::Conflict | Kind::Calendar),
        (Holds::Crdts, _) => matches!(
            kind,
            Kind::Counter | Kind::Set | Kind::Append | Kind::Session | Kind::Text
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: &str, given: Given, change: impl FnOnce(&mut Experiment)) -> Experiment {
        let mut experiment = Experiment::default();
        mode::set(&mut experiment.target, mode).unwrap();
        change(&mut experiment);
        choose(&mut experiment, given);
        experiment
    }

    #[test]
    fn every_mode_gets_a_workload_that_it_can_run_and_something_to_judge() {
        for word in &mode::WORDS {
            let mode = word.word.replace("(k)", "(1)");
            let experiment = of(&mode, Given::default(), |_| {});
            assert_eq!(validate(&experiment), Ok(()), "{mode}");
            let one_log = experiment.target.one_log();
            let checks = checks(&experiment);
            assert!(checks.contains(&"convergence"), "{mode}: {checks:?}");
            assert_eq!(checks.contains(&"linearizable"), one_log, "{mode}");
            let policy = match (one_log, mode.as_str()) {
                (true, "raft-local") => Policy::Split,
                (true, _) => Policy::Leader,
                (false, _) => Policy::Spread,
            };
            assert_eq!(experiment.clients.policy, policy, "{mode}");
            let leader = experiment
                .faults
                .packages
                .iter()
                .any(|p| p.contains("leader"));
            assert_eq!(leader, one_log, "{mode}: {:?}", experiment.faults.packages);
        }
        let workload = |mode| of(mode, Given::default(), |_| {}).workload;
        assert_eq!(workload("raft"), Kind::Append);
        assert_eq!(workload("leaderless"), Kind::Conflict);
        assert_eq!(workload("multi-leader-siblings"), Kind::Conflict);
        assert_eq!(workload("leaderless-lww"), Kind::Conflict);
        assert_eq!(workload("multi-leader-procedure"), Kind::Register);
        assert_eq!(workload("multi-leader-crdt"), Kind::Counter);
        let judged = |mode, name| checks(&of(mode, Given::default(), |_| {})).contains(&name);
        assert!(judged("multi-leader-lww", "siblings"));
        assert!(judged("leaderless-lww", "siblings"));
        assert!(!judged("multi-leader-procedure", "siblings"));
        let register = of("multi-leader-procedure", Given::default(), |_| {});
        assert_eq!(register.parameters.cas_fraction, Some(0.0));
    }

    #[test]
    fn what_was_given_stays() {
        let given = Given {
            workload: true,
            policy: true,
            faults: true,
        };
        let experiment = of("leaderless", given, |experiment| {
            experiment.workload = Kind::Calendar;
            experiment.clients.policy = Policy::Fixed(2);
        });
        assert_eq!(experiment.workload, Kind::Calendar);
        assert_eq!(experiment.clients.policy, Policy::Fixed(2));
    }

    #[test]
    fn gateways_are_asked_where_there_are_any() {
        for (mode, workload, expected) in [
            ("async", None, Policy::Gateway),
            ("raft", Some(Kind::Session), Policy::Gateway),
            ("multi-leader-lww", Some(Kind::Calendar), Policy::Spread),
        ] {
            let given = Given {
                workload: workload.is_some(),
                ..Given::default()
            };
            let experiment = of(mode, given, |experiment| {
                experiment.target.gateways = 2;
                experiment.workload = workload.unwrap_or_default();
            });
            assert_eq!(experiment.clients.policy, expected, "{mode}");
        }
    }

    #[test]
    fn sessions_are_sent_to_replicas_that_answer() {
        let given = Given {
            workload: true,
            policy: false,
            faults: false,
        };
        let session = |mode: &str, reads| {
            of(mode, given, |experiment| {
                experiment.workload = Kind::Session;
                experiment.target.reads = reads;
            })
        };
        let policy = |mode, reads| session(mode, reads).clients.policy;
        assert_eq!(policy("async", Reads::Leader), Policy::Leader);
        assert_eq!(policy("async", Reads::Any), Policy::Split);
        assert_eq!(policy("multi-leader-lww", Reads::Leader), Policy::Any);
        let lww = session("multi-leader-lww", Reads::Leader);
        assert_eq!(lww.parameters.data, Some(Data::Register));
        assert_eq!(validate(&lww), Ok(()));
    }

    #[test]
    fn what_a_mode_lacks_is_refused_with_what_it_has() {
        let given = Given {
            workload: true,
            policy: true,
            faults: true,
        };
        for (mode, kind, field, has) in [
            ("leaderless", Kind::Append, "workload", "conflict, calendar"),
            ("leaderless-lww", Kind::Counter, "workload", "register, "),
            (
                "multi-leader-siblings",
                Kind::Register,
                "workload",
                "conflict",
            ),
            ("multi-leader-crdt", Kind::Conflict, "workload", "counter"),
            (
                "multi-leader-lww",
                Kind::Nondeterministic,
                "workload",
                "register",
            ),
        ] {
            let experiment = of(mode, given, |experiment| experiment.workload = kind);
            let refused = validate(&experiment).unwrap_err();
            assert_eq!(refused.field, field, "{mode} {kind}");
            assert!(refused.message.contains(has), "{}", refused.message);
        }
        let locked = of("multi-leader-crdt", given, |experiment| {
            experiment.workload = Kind::Text;
            experiment.parameters.editing = Some(Editing::Lock);
        });
        assert_eq!(validate(&locked).unwrap_err().field, "parameters.editing");
        let lists = of("leaderless-lww", given, |experiment| {
            experiment.workload = Kind::Session;
            experiment.parameters.data = Some(Data::List);
        });
        assert_eq!(validate(&lists).unwrap_err().field, "parameters.data");
    }

    #[test]
    fn transactions_are_refused_where_there_are_none() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_transactional()) {
            let mut experiment = Experiment {
                workload: kind,
                ..Experiment::default()
            };
            let refused = experiment.validate().unwrap_err();
            assert_eq!(refused.field, "workload");
            assert!(refused.message.contains("reference store"), "{refused:?}");
            experiment.store = Some(crate::stores::Store::Exec(crate::stores::Exec(
                "sh".to_owned(),
            )));
            assert_eq!(validate(&experiment), Ok(()));
        }
    }

    #[test]
    fn a_lock_is_judged_where_there_is_one() {
        for (editing, judged) in [(Editing::Lock, true), (Editing::Crdt, false)] {
            let mut experiment = Experiment {
                workload: Kind::Text,
                ..Experiment::default()
            };
            experiment.parameters.editing = Some(editing);
            assert_eq!(checks(&experiment).contains(&"mutual-exclusion"), judged);
        }
    }
}
