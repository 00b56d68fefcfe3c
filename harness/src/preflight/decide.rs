//! From what rolls have shown to **go**, **no-go** or **unknown**, with the reasons.
//!
//! * **no-go**: a version did not start, a node ended or stopped replicating, or something was
//!   violated that the same roll without an upgrade (the control, with the same seed) did not violate.
//! * **unknown**: nothing of that, but a roll is not whole: a change or fault was not proven, the
//!   cluster did not come back, a checker could not decide, or one version was never seen to read what
//!   the other wrote. Also where acknowledged writes are lost without an upgrade as well: then nothing
//!   can be said of the upgrade.
//! * **go**: every roll is whole, and nothing of the above.
//!
//! What the store violates without an upgrade, too, is said and not counted.

use serde::{Deserialize, Serialize};

use super::evidence::Part;
use crate::report::text::thousands;
use crate::statistics::at_most;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing speaks against the upgrade.
    Go,
    /// Something does.
    NoGo,
    /// Nobody can say.
    Unknown,
}

impl Outcome {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::NoGo => "no-go",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that a checker found violated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The checker.
    pub check: String,
    /// What it found, in one sentence.
    pub finding: String,
}

/// The same roll from a version to itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Its run directory.
    pub run: String,
    /// What was violated in it.
    pub violated: Vec<Violation>,
}

/// One roll: the upgrade of all nodes, and back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Roll {
    /// Where its randomness came from.
    pub seed: u64,
    /// Its run directory.
    pub run: String,
    /// The verdict of the run itself.
    pub verdict: String,
    /// How long it took, in seconds of the run's clock.
    pub duration_s: f64,
    /// How many changes of version were seen, and how many there are.
    pub changes: (u32, u32),
    /// The faults proven while both versions were there, by name.
    pub faults: Vec<String>,
    /// What the history shows of each part.
    pub parts: Vec<Part>,
    /// Which checkers have judged it, to the end.
    pub judged: Vec<String>,
    /// What a version did that no store may do.
    pub broken: Vec<String>,
    /// What was violated.
    pub violated: Vec<Violation>,
    /// Why it proves less than it should.
    pub doubts: Vec<String>,
    /// What happens without an upgrade; made where something was violated.
    pub controls: Vec<Control>,
}

impl Roll {
    /// The violations that the control has not, and those that it has.
    fn split(&self) -> (Vec<&Violation>, Vec<&Violation>) {
        let also = |violation: &&Violation| {
            let kind = Kind::of(&violation.check);
            let violated = self.controls.iter().flat_map(|control| &control.violated);
            violated.into_iter().any(|v| Kind::of(&v.check) == kind)
        };
        let (also, only): (Vec<_>, Vec<_>) = self.violated.iter().partition(also);
        (only, also)
    }

    /// Whether something was violated that no control has excused yet.
    pub fn wants_control(&self) -> bool {
        self.broken.is_empty() && !self.split().0.is_empty()
    }

    /// Whether it speaks against the upgrade.
    pub fn fails(&self) -> bool {
        !self.broken.is_empty() || !self.split().0.is_empty()
    }

    /// Whether it counts as a trial: it was made whole, or it failed.
    fn counts(&self) -> bool {
        self.fails() || self.doubts.is_empty()
    }
}

/// What may still go wrong, with 95 % confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    /// Of what, in words.
    pub of: String,
    /// Rolls in which it happened.
    pub seen: u64,
    /// Rolls that count.
    pub rolls: u64,
    /// The share of all rolls in which it may happen, at most.
    pub at_most: f64,
}

impl Risk {
    /// `≤ 1.5 % of rolls lose an acknowledged write (95 % confidence; 0 of 200 did)`.
    pub fn sentence(&self) -> String {
        format!(
            "≤ {:.1} % of rolls like these {} (95 % confidence; {} of {} did)",
            // Never less than it is.
            (self.at_most * 1_000.0).ceil() / 10.0,
            self.of,
            self.seen,
            self.rolls
        )
    }
}

/// What all rolls come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The answer.
    pub outcome: Outcome,
    /// Why, in plain sentences.
    pub reasons: Vec<String>,
    /// What else should be known.
    pub notes: Vec<String>,
    /// What may still go wrong.
    pub risks: Vec<Risk>,
}

/// What is promised, or not, as a whole: a store that is not linearizable without an upgrade promises
/// no fresh read either, and whether one of two runs shows a stale read is chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    /// That what was acknowledged stays.
    Durability,
    /// That clients see one copy, and the newest.
    OneCopy,
    /// Anything else by itself.
    Other(&'a str),
}

impl<'a> Kind<'a> {
    fn of(check: &'a str) -> Self {
        match check {
            "lost-writes" | "set-full" | "siblings" | "counter" | "queue" => Self::Durability,
            "linearizable" | "sequential" | "stale-reads" | "split-brain" | "sessions"
            | "list-append" | "rw-register" => Self::OneCopy,
            other => Self::Other(other),
        }
    }

    /// Whether nothing can be said of an upgrade where it is violated anyway.
    fn indispensable(self) -> bool {
        matches!(self, Self::Durability | Self::Other("convergence"))
    }
}

/// Decides. `wanted` is how many rolls there were to be; `failed` says why they ended before.
pub fn decide(rolls: &[Roll], wanted: u32, failed: Option<&str>) -> Decision {
    let mut against = Counted::default();
    let mut unclear = Counted::default();
    let mut notes = Counted::default();
    for roll in rolls {
        for broken in &roll.broken {
            against.add(broken, broken);
        }
        let (only, also) = roll.split();
        for violation in only {
            let Violation { check, finding } = violation;
            if !roll.broken.is_empty() {
                // The control was not made: it would go on where this roll ended.
                let sentence = format!(
                    "{check}: {finding}; not compared with what happens without an upgrade"
                );
                notes.add(check, &sentence);
                continue;
            }
            let sentence = match roll.controls.len() {
                0 => format!("{check}: {finding}"),
                1 => format!("{check}: {finding}; not so in the same roll without an upgrade"),
                n => format!("{check}: {finding}; not so in {n} such rolls without an upgrade"),
            };
            against.add(check, &sentence);
        }
        for Violation { check, finding } in also {
            if Kind::of(check).indispensable() {
                let sentence = format!(
                    "{check}: {finding}; but so it is without an upgrade, so this cannot tell what \
                     the upgrade does: take a mode that survives these faults, or fewer with --faults"
                );
                unclear.add(check, &sentence);
            } else {
                let sentence = format!(
                    "{check}: {finding}; so it is without an upgrade, too, and does not count"
                );
                notes.add(check, &sentence);
            }
        }
        if !roll.fails() {
            for doubt in &roll.doubts {
                unclear.add(doubt, doubt);
            }
        }
    }
    if let Some(why) = failed {
        unclear.add(why, why);
    }
    let whole = rolls.iter().filter(|roll| roll.counts()).count();
    let outcome = if !against.is_empty() {
        Outcome::NoGo
    } else if !unclear.is_empty() || whole == 0 {
        Outcome::Unknown
    } else {
        Outcome::Go
    };
    let mut reasons = against.sentences(rolls.len());
    match outcome {
        Outcome::NoGo => notes.extend(unclear),
        Outcome::Unknown => reasons.extend(unclear.sentences(rolls.len())),
        Outcome::Go => {}
    }
    if reasons.is_empty() && outcome == Outcome::Unknown {
        reasons.push("no roll was made".to_owned());
    }
    if outcome == Outcome::Go {
        reasons = reasons_to_go(rolls);
    }
    let mut notes = notes.sentences(rolls.len());
    if rolls.len() < wanted as usize && outcome == Outcome::NoGo {
        notes.push(format!(
            "stopped after the first roll that failed, {} of {wanted}",
            rolls.len()
        ));
    }
    Decision {
        outcome,
        reasons,
        notes,
        risks: match outcome {
            Outcome::NoGo => Vec::new(),
            Outcome::Go | Outcome::Unknown => risks(rolls),
        },
    }
}

/// What was seen to go well.
fn reasons_to_go(rolls: &[Roll]) -> Vec<String> {
    let sum = |of: fn(&Part) -> u64| -> u64 { rolls.iter().flat_map(|r| &r.parts).map(of).sum() };
    let faults: usize = rolls.iter().map(|roll| roll.faults.len()).sum();
    let changes: u32 = rolls.iter().map(|roll| roll.changes.0).sum();
    let times = if rolls.len() == 1 { "roll" } else { "rolls" };
    let mut reasons = vec![format!(
        "in {} {times} all {changes} changes of version were proven, through {faults} proven faults \
         while both versions were there",
        rolls.len()
    )];
    let mut held: Vec<&str> = rolls.first().map_or_else(Vec::new, |first| {
        first.judged.iter().map(String::as_str).collect()
    });
    held.retain(|check| {
        let violated = |roll: &Roll| roll.violated.iter().any(|v| v.check == *check);
        rolls
            .iter()
            .all(|roll| !violated(roll) && roll.judged.iter().any(|j| j == check))
    });
    reasons.push(format!("held in all of them: {}", held.join(", ")));
    reasons.push(format!(
        "of {} acknowledged writes, {} were later read at nodes of the new version and {} at nodes of \
         the old one",
        thousands(sum(|p| p.writes)),
        thousands(sum(|p| p.read_by_to)),
        thousands(sum(|p| p.read_by_from))
    ));
    reasons
}

fn risks(rolls: &[Roll]) -> Vec<Risk> {
    let counted: Vec<&Roll> = rolls.iter().filter(|roll| roll.counts()).collect();
    let risk = |of: &str, among: &[&Roll], happened: &dyn Fn(&Roll) -> bool| {
        let seen = among.iter().filter(|roll| happened(roll)).count() as u64;
        let rolls = among.len() as u64;
        Some(Risk {
            of: of.to_owned(),
            seen,
            rolls,
            at_most: at_most(seen, rolls)?,
        })
    };
    let check = "lost-writes";
    let judged: Vec<&Roll> = counted
        .iter()
        .copied()
        .filter(|roll| roll.judged.iter().any(|judged| judged == check))
        // Where they are lost anyway, it says nothing of the upgrade.
        .filter(|roll| roll.split().1.iter().all(|also| also.check != check))
        .collect();
    let loses = |roll: &Roll| roll.violated.iter().any(|v| v.check == check);
    [
        risk("lose an acknowledged write", &judged, &loses),
        risk("fail in any way looked for", &counted, &Roll::fails),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Sentences by what they are about, with how many rolls have said so.
#[derive(Default)]
struct Counted(Vec<(String, String, usize)>);

impl Counted {
    fn add(&mut self, about: &str, sentence: &str) {
        match self.0.iter_mut().find(|(known, _, _)| known == about) {
            Some((_, _, times)) => *times += 1,
            None => self.0.push((about.to_owned(), sentence.to_owned(), 1)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn sentences(&self, rolls: usize) -> Vec<String> {
        let sentence = |(_, sentence, times): &(String, String, usize)| match (times, rolls) {
            (_, 1) => sentence.clone(),
            (times, _) => format!("{sentence} (in {} of {rolls} rolls)", times.min(&rolls)),
        };
        self.0.iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Roll {
        Roll {
            changes: (6, 6),
            judged: vec!["lost-writes".to_owned(), "stale-reads".to_owned()],
            ..Roll::default()
        }
    }

    fn violates(check: &str) -> Violation {
        Violation {
            check: check.to_owned(),
            finding: "3 of 100".to_owned(),
        }
    }

    fn violating(check: &str, control: &[&str]) -> Roll {
        Roll {
            violated: vec![violates(check)],
            controls: vec![Control {
                run: "c".to_owned(),
                violated: control.iter().map(|check| violates(check)).collect(),
            }],
            ..whole()
        }
    }

    fn outcome(rolls: &[Roll]) -> Outcome {
        decide(rolls, rolls.len() as u32, None).outcome
    }

    #[test]
    fn whole_rolls_without_a_fault_are_a_go() {
        let decision = decide(&[whole(), whole()], 2, None);
        assert_eq!(decision.outcome, Outcome::Go);
        assert!(decision.reasons[1].contains("lost-writes, stale-reads"));
    }

    #[test]
    fn what_only_the_upgrade_violates_is_a_no_go() {
        assert_eq!(outcome(&[violating("stale-reads", &[])]), Outcome::NoGo);
        let without = Roll {
            controls: Vec::new(),
            ..violating("lost-writes", &[])
        };
        assert_eq!(outcome(&[without]), Outcome::NoGo, "no control excuses it");
        let other = violating("lost-writes", &["stale-reads"]);
        assert_eq!(outcome(&[whole(), other]), Outcome::NoGo);
    }

    #[test]
    fn what_happens_without_an_upgrade_too_is_said_and_lost_writes_leave_it_open() {
        let stale = decide(&[violating("stale-reads", &["stale-reads"])], 1, None);
        assert_eq!(stale.outcome, Outcome::Go);
        assert!(stale.notes[0].contains("does not count"), "{stale:?}");
        assert!(!stale.reasons[1].contains("stale-reads"), "{stale:?}");
        let alike = violating("stale-reads", &["linearizable"]);
        assert_eq!(outcome(&[alike]), Outcome::Go, "neither is promised");
        let lost = decide(&[violating("lost-writes", &["lost-writes"])], 1, None);
        assert_eq!(lost.outcome, Outcome::Unknown);
        assert!(lost.reasons[0].contains("--faults"), "{lost:?}");
    }

    #[test]
    fn what_is_broken_outweighs_what_is_unclear() {
        let broken = Roll {
            broken: vec!["n3 refuses".to_owned()],
            doubts: vec!["fault-not-effective".to_owned()],
            ..whole()
        };
        let decision = decide(&[whole(), broken], 5, Some("interrupted"));
        assert_eq!(decision.outcome, Outcome::NoGo);
        assert_eq!(decision.reasons, ["n3 refuses (in 1 of 2 rolls)"]);
        assert!(decision.notes.iter().any(|n| n.contains("2 of 5")));
    }

    #[test]
    fn a_doubt_or_no_roll_at_all_is_unknown() {
        let doubted = Roll {
            doubts: vec!["not-recovered".to_owned()],
            ..whole()
        };
        assert_eq!(outcome(&[whole(), doubted]), Outcome::Unknown);
        assert_eq!(outcome(&[]), Outcome::Unknown);
        let failed = decide(&[whole()], 2, Some("the cluster is gone"));
        assert_eq!(failed.outcome, Outcome::Unknown);
        assert!(failed.reasons[0].contains("gone"));
    }

    #[test]
    fn the_risk_counts_whole_rolls_and_those_that_failed() {
        let doubted = Roll {
            doubts: vec!["not-recovered".to_owned()],
            ..whole()
        };
        let rolls = vec![whole(); 199];
        let risks = risks(&rolls);
        assert_eq!(risks[0].rolls, 199);
        assert_eq!(
            risks[0].sentence(),
            "≤ 1.5 % of rolls like these lose an acknowledged write (95 % confidence; 0 of 199 did)"
        );
        let few = super::risks(&[whole(), doubted, violating("lost-writes", &[])]);
        assert_eq!((few[0].seen, few[0].rolls), (1, 2));
        assert_eq!((few[1].seen, few[1].rolls), (1, 2));
        assert!(super::risks(&[]).is_empty());
    }
}
