//! What is compared: modes × faults × repetitions, and which run each cell is.

use nemesis::package;
use reference_cluster::core::Config;
use serde::{Deserialize, Serialize};

use crate::defaults::{self, Given};
use crate::experiment::{Experiment, Impossible};
use crate::mode;

/// Most cells of a comparison.
pub const MOST_CELLS: usize = 100_000;

/// The section `compare` of an experiment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Matrix {
    /// The replication modes, each by its word; the first is what the others are held against.
    pub modes: Vec<String>,
    /// The faults, each the name of a package, or `none`.
    pub faults: Vec<String>,
    /// How often each mode is run under each fault, 1 to 10 000.
    pub repeat: u32,
    /// Whether each mode runs the workload that fits it, not the experiment's; if it is not said:
    /// unless the experiment says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_workload: Option<bool>,
    /// The same of whom clients ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_policy: Option<bool>,
}

impl Default for Matrix {
    fn default() -> Self {
        Self {
            modes: ["async", "semi-sync(1)", "sync", "raft"]
                .map(str::to_owned)
                .to_vec(),
            faults: ["kill-leader", "partition-leader", "slow-follower", "none"]
                .map(str::to_owned)
                .to_vec(),
            repeat: 20,
            own_workload: None,
            own_policy: None,
        }
    }
}

/// A comparison that is known to be possible. All cells share everything but mode, fault and seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What the cells share; its `compare` is the matrix, its seed that of the first repetition.
    experiment: Experiment,
    matrix: Matrix,
}

/// Which cell: a mode under a fault, for so many-th time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The mode in one word.
    pub mode: String,
    /// The fault's name.
    pub fault: String,
    /// Which repetition, from 0. All modes and faults of one repetition share a seed.
    pub repetition: u32,
}

impl Definition {
    /// Makes a comparison of an experiment's `compare` section, or of the default matrix; `given` is
    /// what file and flags say of the experiment themselves. An absent seed is `seed`.
    ///
    /// # Errors
    /// The first impossible value; the fields of the matrix are below `compare`.
    pub fn new(mut experiment: Experiment, given: Given, seed: u64) -> Result<Self, Impossible> {
        let mut matrix = experiment.compare.take().unwrap_or_default();
        matrix.own_workload.get_or_insert(!given.workload);
        matrix.own_policy.get_or_insert(!given.policy);
        experiment.seed.get_or_insert(seed);
        let impossible = |field: &str, message: String| Impossible {
            field: field.to_owned(),
            message,
        };
        if experiment.faults.schedule.is_some() {
            return Err(impossible(
                "faults.schedule",
                "a comparison draws its faults from compare.faults".to_owned(),
            ));
        }
        if !(1..=10_000).contains(&matrix.repeat) {
            return Err(impossible(
                "compare.repeat",
                format!("expected 1 to 10000 repetitions, not {}", matrix.repeat),
            ));
        }
        experiment.faults.packages = vec!["none".to_owned()];
        // What can be done to each mode.
        let mut capabilities = Vec::new();
        for i in 0..matrix.modes.len() {
            let field = format!("compare.modes[{i}]");
            let word = &matrix.modes[i];
            let mut target = experiment.target.clone();
            mode::set(&mut target, word).map_err(|message| impossible(&field, message))?;
            target
                .validate(usize::from(experiment.nodes))
                .map_err(|e| impossible(&field, format!("{word}: {e}")))?;
            let fitted = fitted(&experiment, &matrix, target.clone());
            fitted.validate().map_err(|e| match e.field.as_str() {
                // A workload for all of them that this one cannot run.
                "workload" | "parameters.data" | "parameters.editing" => {
                    impossible(&field, format!("{word}: {}: {}", e.field, e.message))
                }
                // What does not depend on the mode is refused in its own name.
                _ => e,
            })?;
            let name = mode::name(&target);
            if matrix.modes[..i].contains(&name) {
                return Err(impossible(&field, format!("{name} is there already")));
            }
            capabilities.push((name.clone(), fitted.capabilities()));
            matrix.modes[i] = name;
        }
        for (i, name) in matrix.faults.iter().enumerate() {
            let field = format!("compare.faults[{i}]");
            for (mode, capabilities) in &capabilities {
                package::select([name], experiment.nodes, capabilities)
                    .map_err(|e| impossible(&field, format!("{mode}: {e}")))?;
            }
            if matrix.faults[..i].contains(name) {
                return Err(impossible(&field, format!("{name} is there already")));
            }
        }
        for (field, list) in [
            ("compare.modes", &matrix.modes),
            ("compare.faults", &matrix.faults),
        ] {
            if list.is_empty() {
                return Err(impossible(field, "expected at least one".to_owned()));
            }
        }
        let definition = Self { experiment, matrix };
        let cells = definition.size();
        if cells > MOST_CELLS {
            return Err(impossible(
                "compare.repeat",
                format!("{cells} cells are more than {MOST_CELLS}"),
            ));
        }
        Ok(definition)
    }

    /// The same, made within the Job of this run: the stores of its cells are named after it, so that
    /// whoever removes the run finds them.
    #[must_use]
    pub fn in_job(mut self, run: &str) -> Self {
        if self.experiment.substrate == crate::experiment::On::K8s {
            let kubernetes = self.experiment.kubernetes.get_or_insert_default();
            kubernetes.run = Some(run.to_owned());
        }
        self
    }

    /// The modes, faults and repetitions.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// What all cells share.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The seed of the first repetition.
    pub fn seed(&self) -> u64 {
        self.experiment.seed.unwrap_or_default()
    }

    /// How many cells there are.
    pub fn size(&self) -> usize {
        self.matrix.modes.len() * self.matrix.faults.len() * self.matrix.repeat as usize
    }

    /// All cells, repetition by repetition: what is stopped half-way has compared all modes.
    pub fn places(&self) -> Vec<Place> {
        let mut places = Vec::with_capacity(self.size());
        for repetition in 0..self.matrix.repeat {
            for fault in &self.matrix.faults {
                for mode in &self.matrix.modes {
                    places.push(Place {
                        mode: mode.clone(),
                        fault: fault.clone(),
                        repetition,
                    });
                }
            }
        }
        places
    }

    /// The run that a cell is: what `quorate test` does with this mode, nemesis and seed.
    pub fn run_of(&self, place: &Place) -> Experiment {
        let mut target = self.experiment.target.clone();
        // The words were checked when this was made.
        let _ = mode::set(&mut target, &place.mode);
        let mut experiment = fitted(&self.experiment, &self.matrix, target);
        experiment.faults.packages = vec![place.fault.clone()];
        experiment.seed = Some(self.seed().wrapping_add(u64::from(place.repetition)));
        experiment.name = format!(
            "{}-{}-{}",
            place.mode.replace(['(', ')'], ""),
            place.fault,
            place.repetition
        );
        experiment
    }

    /// What clients do in a mode.
    pub fn workload_of(&self, mode: &str) -> workloads::Kind {
        self.run_of(&Place {
            mode: mode.to_owned(),
            fault: "none".to_owned(),
            repetition: 0,
        })
        .workload
    }

    /// As an experiment file with its section `compare`; what [`Definition::new`] makes of it is
    /// this again.
    pub fn to_yaml(&self) -> String {
        self.to_experiment().to_yaml()
    }

    /// As an experiment with its section `compare`.
    pub fn to_experiment(&self) -> Experiment {
        Experiment {
            compare: Some(self.matrix.clone()),
            ..self.experiment.clone()
        }
    }

    /// Tells definitions apart: what is in `cells.jsonl` belongs to one of them.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", workloads::substream(0, &self.to_yaml()))
    }
}

/// An experiment in this mode: with what fits the mode where nothing else is wanted, and all
/// defaults written out.
fn fitted(experiment: &Experiment, matrix: &Matrix, target: Config) -> Experiment {
    let mut experiment = Experiment {
        target,
        ..experiment.clone()
    };
    let given = Given {
        workload: matrix.own_workload == Some(false),
        policy: matrix.own_policy == Some(false),
        faults: true,
    };
    defaults::choose(&mut experiment, given);
    experiment.resolved()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Result<Definition, Impossible> {
        let experiment = Experiment::parse(yaml, "c.yaml").expect("well formed");
        let given = Given {
            workload: yaml.contains("workload"),
            ..Given::default()
        };
        Definition::new(experiment, given, 7)
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let yaml = "compare: {modes: [raft, semi-sync], faults: [kill-leader, none], repeat: 3}\nnodes: 3\n";
        let definition = of(yaml).unwrap();
        assert_eq!(definition.matrix().modes, ["raft", "semi-sync(1)"]);
        let again = of(&definition.to_yaml()).unwrap();
        assert_eq!(again, definition);
        assert_eq!(again.fingerprint(), definition.fingerprint());
        let other = of(&yaml.replace("repeat: 3", "repeat: 4")).unwrap();
        assert_ne!(other.fingerprint(), definition.fingerprint());
    }

    #[test]
    fn cells_are_paired_by_seed() {
        let definition =
            of("compare: {modes: [async, raft], faults: [kill-leader, none], repeat: 3}").unwrap();
        let places = definition.places();
        assert_eq!(places.len(), 12);
        for place in &places {
            let run = definition.run_of(place);
            assert_eq!(run.seed, Some(7 + u64::from(place.repetition)));
            assert_eq!(run.mode(), place.mode);
            run.validate().unwrap();
        }
    }

    #[test]
    fn each_mode_runs_what_fits_it_unless_told() {
        let yaml = "compare: {modes: [raft, leaderless], faults: [kill], repeat: 1}\n";
        let workloads = |definition: &Definition| -> Vec<workloads::Kind> {
            let runs = definition.places();
            let runs = runs.iter().map(|place| definition.run_of(place).workload);
            runs.collect()
        };
        let definition = of(yaml).unwrap();
        let own = [workloads::Kind::Append, workloads::Kind::Conflict];
        assert_eq!(workloads(&definition), own);
        assert_eq!(
            workloads(&of(&definition.to_yaml()).unwrap()),
            own,
            "read back"
        );
        let e = of(&format!("{yaml}workload: append\n")).expect_err("no lists there");
        assert_eq!(e.field, "compare.modes[1]");
        let told = of(&format!("{yaml}workload: conflict\n")).unwrap();
        assert_eq!(workloads(&told), [workloads::Kind::Conflict; 2]);
    }

    #[test]
    fn the_impossible_is_named() {
        for (yaml, field, says) in [
            ("compare: {modes: [paxos]}", "compare.modes[0]", "raft"),
            (
                "compare: {modes: [async, async]}",
                "compare.modes[1]",
                "already",
            ),
            (
                "compare: {modes: [async, semi-sync(9)]}",
                "compare.modes[1]",
                "semi-sync(9)",
            ),
            ("compare: {modes: []}", "compare.modes", "at least one"),
            (
                "compare: {faults: [kill-leader, earthquake]}",
                "compare.faults[1]",
                "kill-leader",
            ),
            ("compare: {repeat: 0}", "compare.repeat", "1 to 10000"),
            ("nodes: 0", "nodes", "1 to 99"),
            (
                "faults: {schedule: [{at: 1s, for: 1s, fault: kill, target: n1}]}",
                "faults.schedule",
                "compare.faults",
            ),
        ] {
            let e = of(yaml).expect_err(yaml);
            assert_eq!(e.field, field, "{yaml}: {}", e.message);
            assert!(e.message.contains(says), "{yaml}: {}", e.message);
        }
    }
}
