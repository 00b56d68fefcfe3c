//! What happened, in one paragraph of plain words.

use checkers::{F, Kind};
use nemesis::{Node, duration};
use reference_cluster::core::Role;

use super::{Op, Story, contains};
use crate::report::text::{clip, plain, seconds};
use crate::shrink::recording::Fate;
use crate::sim::trace::Process;

/// At most so many sentences of each kind.
const EACH: usize = 3;

/// The story: who led, what was done to whom, what was acknowledged by whom and held by whom, who
/// took over without it, what was read.
pub fn paragraph(story: &Story) -> String {
    let experiment = &story.failing.experiment;
    let mut moments: Vec<(u64, u8, String)> = Vec::new();
    let mut told = String::new();
    let began = story.window.0;
    told += &format!(
        "{} replicas in mode {}, workload {}, {}.",
        experiment.nodes,
        experiment.mode(),
        experiment.workload.name(),
        duration::format(experiment.limits.time),
    );
    if let Some((leader, epoch)) = story.leader(began).filter(|(_, epoch)| *epoch > 0) {
        told += &format!(" n{leader} leads in epoch {epoch}.");
    }
    for fault in story.faults.iter().take(EACH + 2) {
        let healed = match fault.healed {
            Some(healed) => format!(", until {}", at(healed)),
            None => String::new(),
        };
        moments.push((
            fault.begun,
            0,
            format!("At {} {}{healed}.", at(fault.begun), fault.what),
        ));
    }
    for op in story
        .ops
        .iter()
        .filter(|op| op.proves && op.invoke.f.is_write())
        .take(EACH)
    {
        moments.push((op.end(), 1, write(story, op)));
    }
    moments.extend(takeovers(story));
    moments.extend(discards(story));
    let reads = |op: &&Op| op.proves && op.invoke.f == F::Read;
    let all: Vec<&Op> = story.ops.iter().filter(reads).collect();
    // The last read is the one that shows it.
    for op in all.iter().rev().take(2).rev() {
        moments.push((op.end(), 4, read(op)));
    }
    moments.sort();
    for (_, _, sentence) in moments {
        told += " ";
        told += &sentence;
    }
    let goal = &story.goal;
    let rate = match story.failing.rate {
        (_, 0 | 1) => String::new(),
        (failed, of) => format!(" Failed {failed} of {of}."),
    };
    format!(
        "{told} {} reports `{}`: {}{rate}",
        goal.checker,
        goal.class,
        story.failing.anomaly.summary.trim_end()
    )
}

pub(super) fn at(ns: u64) -> String {
    seconds(ns as f64 / 1e9)
}

fn write(story: &Story, op: &Op) -> String {
    let what = format!("{} {}", op.invoke.f.name(), op.invoke.value);
    let what = clip(&plain(&what), 40);
    let key = op.key().map_or(String::new(), |key| format!(" ({key})"));
    let Some(done) = op.complete.as_ref().filter(|done| done.kind == Kind::Ok) else {
        let end = match op.complete.as_ref().map(|done| done.kind) {
            Some(Kind::Fail) => "is refused",
            _ => "gets no answer",
        };
        return format!("`{what}`{key}, asked at {}, {end}.", at(op.invoke.time));
    };
    let by = match (&done.node, done.epoch) {
        (Some(node), Some(epoch)) if epoch > 0 => format!("{node} in epoch {epoch}"),
        (Some(node), _) => node.to_string(),
        _ => "the store".to_owned(),
    };
    let holders = op.key().map(|key| {
        let value = super::written(&op.invoke);
        let has = |node: &Node| {
            let held = story.recording.held_at(*node, &key, done.time);
            held.is_some_and(|held| contains(held, &value))
        };
        (1..=story.nodes).filter(has).collect::<Vec<Node>>()
    });
    let holders = match holders.as_deref() {
        None => String::new(),
        Some([]) => "; at that moment no replica shows it".to_owned(),
        Some([one]) => format!("; at that moment only n{one} has it"),
        Some(some) => format!("; at that moment {} have it", list(some)),
    };
    format!(
        "At {} {by} acknowledges `{what}`{key}{holders}.",
        at(done.time)
    )
}

/// Who began to lead in the window, and whether it had what was written.
fn takeovers(story: &Story) -> Vec<(u64, u8, String)> {
    let (from, to) = story.window;
    let roles = story.recording.roles.iter();
    let leads = roles.filter(|was| {
        (from..=to).contains(&was.at)
            && matches!(was.role, Some((Role::Leader, epoch)) if epoch > 0)
            && was.process == Process::Up
    });
    let mut led: Vec<(Node, u64)> = story.leader(from).into_iter().collect();
    let mut all = Vec::new();
    for was in leads {
        let Some((_, epoch)) = was.role else { continue };
        if led.contains(&(was.node, epoch)) {
            continue;
        }
        led.push((was.node, epoch));
        let lacks: Vec<String> = story
            .ops
            .iter()
            .filter(|op| op.proves && op.invoke.f.is_write() && op.end() <= was.at)
            .filter(|op| {
                op.complete
                    .as_ref()
                    .is_some_and(|done| done.kind == Kind::Ok)
            })
            .filter(|op| {
                let value = super::written(&op.invoke);
                let key = op.key().unwrap_or_default();
                let held = story.recording.held_at(was.node, &key, was.at);
                held.is_none_or(|held| !contains(held, &value))
            })
            .map(|op| super::written(&op.invoke).to_string())
            .collect();
        let without = if lacks.is_empty() {
            String::new()
        } else {
            format!(" without {}", clip(&lacks.join(", "), 60))
        };
        let sentence = format!(
            "At {} n{} takes over in epoch {epoch}{without}.",
            at(was.at),
            was.node
        );
        all.push((was.at, 2, sentence));
    }
    all.truncate(EACH);
    all
}

/// Who had what was written and has it no more.
fn discards(story: &Story) -> Vec<(u64, u8, String)> {
    let mut all = Vec::new();
    for key in &story.keys {
        for node in 1..=story.nodes {
            let held = story.held(node, key);
            for pair in held.windows(2) {
                let (before, after) = (pair[0], pair[1]);
                for value in &story.written {
                    let has = |held: &super::Held| {
                        held.value.as_ref().is_some_and(|v| contains(v, value))
                    };
                    let of_list = before.value.as_ref().is_some_and(|v| v.items().is_some());
                    if !of_list || !has(before) || has(after) || after.at < story.window.0 {
                        continue;
                    }
                    let runs = story
                        .recording
                        .was(node, after.at)
                        .is_some_and(|was| was.process != Process::Down);
                    if runs {
                        let sentence = format!("At {} n{node} gives up {value}.", at(after.at));
                        all.push((after.at, 3, sentence));
                    }
                }
            }
        }
    }
    all.sort();
    all.truncate(EACH);
    all
}

fn read(op: &Op) -> String {
    let key = op.key().map_or("everything".to_owned(), |key| key);
    let Some(done) = op.complete.as_ref().filter(|done| done.kind == Kind::Ok) else {
        return format!("A read of {key} at {} gets no answer.", at(op.invoke.time));
    };
    let by = done
        .node
        .as_ref()
        .map_or(String::new(), |node| format!(" from {node}"));
    format!(
        "A read of {key} at {} gets {}{by}.",
        at(done.time),
        clip(&plain(&done.value.to_string()), 60)
    )
}

fn list(nodes: &[Node]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// One word for what became of a message.
pub(super) fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Arrived => "arrived",
        Fate::Cut => "cut off by a fault",
        Fate::Lost => "lost by the network",
        Fate::Nobody => "nobody was there to take it",
    }
}
