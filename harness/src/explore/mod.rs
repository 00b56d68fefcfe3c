//! Coverage-guided exploration: schedules of faults are steered by the protocol states that they
//! reach in simulation.
//!
//! The principle is that of coverage-guided fuzzers (AFL; and, for distributed protocols, Winter et
//! al., *Randomized Testing of Byzantine Fault Tolerant Algorithms*, OOPSLA 2023, and Meng et al.,
//! *Greybox Fuzzing of Distributed Systems*, CCS 2023): an input that reaches a state that no input
//! reached before joins the corpus; inputs of the corpus are changed a little and tried again, those
//! that reach rare states more often.
//!
//! * [`coverage`]: what a state is.
//! * [`mutate`]: what an input is made of, and how it is changed.
//! * [`Explorer`]: the corpus and the choice of what to try: no clock, no thread, one seed.
//! * [`campaign`]: runs what it chooses, and judges.
//! * [`detection`]: how soon planted mistakes are found, beside plain random.

pub mod campaign;
pub mod coverage;
pub mod detection;
pub mod mutate;

use std::collections::BTreeMap;

use nemesis::Entry;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use workloads::substream;

use coverage::{Coverage, Reached, State};
use mutate::Alphabet;

/// What is tried: the faults, and the seed of everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The seed of the run.
    pub seed: u64,
    /// What is done to the cluster.
    pub schedule: Vec<Entry>,
}

/// How inputs are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Guidance {
    /// By the states reached.
    #[default]
    Coverage,
    /// Drawn and changed in the same way, whatever comes of it.
    Blind,
    /// By the packages of random faults, as `quorate sim` draws them.
    Packages,
}

/// An input that reached something new.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    input: Input,
    /// The rarest states that it reached when it was kept.
    states: Vec<State>,
    /// How often it was changed since.
    chosen: u32,
}

/// As many states of an input decide how rare it is.
const STATES_KEPT: usize = 8;
/// A larger corpus forgets what was chosen most often.
const CORPUS_MAX: usize = 512;
/// So many inputs are chosen before the results of any of them are known, whatever the number of
/// threads: the same seed gives the same exploration on every machine.
pub const BATCH: usize = 8;

/// The state of an exploration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explorer {
    seed: u64,
    guidance: Guidance,
    /// Inputs tried.
    runs: u64,
    /// How many runs reached each state.
    #[serde(with = "pairs")]
    seen: BTreeMap<State, u32>,
    /// States that include what is under way, likewise.
    #[serde(with = "pairs")]
    seen_deep: BTreeMap<State, u32>,
    corpus: Vec<Kept>,
}

impl Explorer {
    /// An exploration that has tried nothing yet.
    pub fn new(seed: u64, guidance: Guidance) -> Self {
        Self {
            seed,
            guidance,
            runs: 0,
            seen: BTreeMap::new(),
            seen_deep: BTreeMap::new(),
            corpus: Vec::new(),
        }
    }

    /// Inputs tried so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// States reached so far: without and with what is under way.
    pub fn states(&self) -> (usize, usize) {
        (self.seen.len(), self.seen_deep.len())
    }

    /// Inputs in the corpus.
    pub fn corpus(&self) -> usize {
        self.corpus.len()
    }

    /// How inputs are chosen.
    pub fn guidance(&self) -> Guidance {
        self.guidance
    }

    /// The next inputs, at most [`BATCH`]: a function of the seed, of how many were tried, and of
    /// what they reached.
    pub fn next(&mut self, alphabet: &Alphabet, at_most: usize) -> Vec<Input> {
        let stream = substream(self.seed, "explore").wrapping_add(self.runs);
        let mut random = Pcg64Mcg::seed_from_u64(stream);
        (0..at_most.min(BATCH))
            .map(|_| self.choose(alphabet, &mut random))
            .collect()
    }

    fn choose(&mut self, alphabet: &Alphabet, random: &mut Pcg64Mcg) -> Input {
        // New ones throughout: what the corpus has may be a dead end.
        if self.corpus.len() < 8 || random.random_bool(0.3) {
            return Input {
                seed: random.random_range(0..1 << 32),
                schedule: alphabet.schedule(random),
            };
        }
        let parent = self.draw(random);
        let other = self.draw(random);
        self.corpus[parent].chosen += 1;
        let other = &self.corpus[other].input;
        alphabet.mutate(&self.corpus[parent].input, Some(other), random)
    }

    /// One of the corpus, the likelier the rarer what it reached and the less often it was drawn.
    fn draw(&self, random: &mut Pcg64Mcg) -> usize {
        if self.guidance == Guidance::Blind {
            return random.random_range(0..self.corpus.len());
        }
        let energy = |kept: &Kept| -> f64 {
            let rare: f64 = kept
                .states
                .iter()
                .map(|state| 1.0 / f64::from(self.seen.get(state).copied().unwrap_or(1).max(1)))
                .sum();
            (rare + 0.01) / f64::from(kept.chosen + 1).sqrt()
        };
        let all: Vec<f64> = self.corpus.iter().map(energy).collect();
        let mut left = random.random::<f64>() * all.iter().sum::<f64>();
        for (i, energy) in all.iter().enumerate() {
            left -= energy;
            if left <= 0.0 {
                return i;
            }
        }
        self.corpus.len() - 1
    }

    /// Learns what an input reached. Returns how many states were new.
    pub fn learn(&mut self, input: Input, coverage: &Coverage) -> usize {
        self.runs += 1;
        let reached = coverage.shallow();
        let mut new = 0;
        for Reached { state, .. } in &reached {
            let count = self.seen.entry(*state).or_default();
            new += usize::from(*count == 0);
            *count = count.saturating_add(1);
        }
        for Reached { state, .. } in coverage.deep() {
            let count = self.seen_deep.entry(state).or_default();
            *count = count.saturating_add(1);
        }
        let keeps = match self.guidance {
            Guidance::Coverage => new > 0,
            Guidance::Blind => true,
            Guidance::Packages => false,
        };
        if keeps {
            let mut states: Vec<State> = reached.iter().map(|reached| reached.state).collect();
            states.sort_by_key(|state| (self.seen.get(state).copied(), *state));
            states.truncate(STATES_KEPT);
            self.corpus.push(Kept {
                input,
                states,
                chosen: 0,
            });
            self.forget();
        }
        new
    }

    fn forget(&mut self) {
        if self.corpus.len() <= CORPUS_MAX {
            return;
        }
        let most = self.corpus.iter().enumerate().max_by_key(|(i, kept)| {
            // Of equal ones the oldest.
            (kept.chosen, usize::MAX - i)
        });
        if let Some((i, _)) = most {
            self.corpus.remove(i);
        }
    }
}

/// Maps with numbers as keys, which JSON does not have.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::State;

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<State, u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<State, u32>, D::Error> {
        let pairs: Vec<(State, u32)> = Vec::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}
