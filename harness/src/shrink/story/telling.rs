//! What happened, in one paragraph of plain words.

use checkers::{F, Kind, Value};
use nemesis::{Node, duration};
use reference_cluster::core::Role;

use super::{Op, Story, contains};
use crate::report::text::{clip, plain, plural, seconds};
use crate::runner::FaultLog;
use crate::shrink::recording::{Fate, Held};
use crate::sim::trace::Process;

/// At most so many sentences of each kind.
const EACH: usize = 3;

/// The story: who led, what was done to whom, what was acknowledged by whom and held by whom, who
/// took over without it, what was read.
pub fn paragraph(story: &Story) -> String {
    let experiment = &story.failing.experiment;
    let mut moments: Vec<(u64, u8, String)> = Vec::new();
    let began = story.window.0;
    let run = duration::format(experiment.limits.time);
    let mut told = format!(
        "A cluster of {} in mode {} runs {} for {run}.",
        plural(u64::from(experiment.nodes), "replica"),
        experiment.mode(),
        experiment.workload.name(),
    );
    if let Some((leader, epoch)) = story.leader(began).filter(|(_, epoch)| *epoch > 0) {
        told = format!("{told} n{leader} leads in epoch {epoch}.");
    }
    if story.faults.is_empty() {
        told += " Nothing is done to it.";
    }
    for fault in story.faults.iter().take(EACH + 2) {
        let until = match fault.healed {
            Some(healed) => format!(" until {}", at(healed)),
            None => String::new(),
        };
        let sentence = format!("At {} {}{until}.", at(fault.begun), done(fault));
        moments.push((fault.begun, 0, sentence));
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

/// What a fault does, as one would say it.
fn done(fault: &FaultLog) -> String {
    let whom = match fault.targets.split_last() {
        None => "the cluster".to_owned(),
        Some((one, [])) => one.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    };
    let (is, its) = match fault.targets.len() {
        0 | 1 => ("is", "its"),
        _ => ("are", "their"),
    };
    let loses = if its == "its" { "loses" } else { "lose" };
    let shape = |shape: &str| fault.what.split(' ').any(|word| word == shape);
    match fault.name.as_str() {
        "kill" => format!("{whom} {is} killed, and down"),
        "power-loss" => format!("{whom} {loses} power and what was not synced, and {is} down"),
        "pause" => format!("{whom} {is} paused"),
        "wipe" => format!("{whom} {is} ended and {its} data deleted; down"),
        "partition" if shape("isolate") => {
            format!("{whom} {is} cut off from the other replicas, though not from clients,")
        }
        "partition" if shape("halves") => {
            format!("the network splits, {whom} on one side and the others on the other,")
        }
        "partition" if shape("clients") => format!("clients are cut off from {whom}"),
        "partition" if shape("out") => {
            format!("what {whom} sends to the other replicas is lost")
        }
        "partition" if shape("in") => {
            format!("what the other replicas send to {whom} is lost")
        }
        "slow" => format!("the links of {whom} are slow"),
        _ => format!("{} begins, and lasts", fault.what),
    }
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
        let first = led.len() == 1;
        let without = if lacks.is_empty() {
            String::new()
        } else {
            format!(" without {}", clip(&lacks.join(", "), 60))
        };
        let sentence = format!(
            "At {} n{} {} in epoch {epoch}{without}.",
            at(was.at),
            was.node,
            if first { "leads" } else { "takes over" },
        );
        all.push((was.at, 2, sentence));
    }
    all.truncate(EACH);
    all
}

/// Who had what was written and has it no more.
fn discards(story: &Story) -> Vec<(u64, u8, String)> {
    let mut all: Vec<(u64, u8, String)> = Vec::new();
    let keys = story.keys.iter();
    for (key, value) in keys.flat_map(|key| story.written.iter().map(move |v| (key, v))) {
        let loses = |node| Some((loses(story, node, key, value)?, node));
        let mut lost: Vec<(u64, Node)> = (1..=story.nodes).filter_map(loses).collect();
        lost.sort_unstable();
        let Some((first, _)) = lost.first() else {
            continue;
        };
        let nodes: Vec<Node> = lost.iter().map(|(_, node)| *node).collect();
        let s = if nodes.len() == 1 { "s" } else { "" };
        let why = match story.leader(*first) {
            Some((leader, epoch)) if epoch > 0 && !nodes.contains(&leader) => {
                format!(" to follow n{leader}")
            }
            _ => String::new(),
        };
        let sentence = format!(
            "At {} {} give{s} up {value}{why}.",
            at(*first),
            list(&nodes)
        );
        all.push((*first, 3, sentence));
    }
    all.sort();
    all.truncate(EACH);
    all
}

/// When a node that runs no longer has an element that it had.
fn loses(story: &Story, node: Node, key: &str, value: &Value) -> Option<u64> {
    let has = |held: &Held| held.value.as_ref().is_some_and(|v| contains(v, value));
    let list = |held: &Held| held.value.as_ref().is_some_and(|v| v.items().is_some());
    let held = story.held(node, key);
    let gone = held.windows(2).find(|pair| {
        let runs = || {
            let was = story.recording.was(node, pair[1].at);
            was.is_some_and(|was| was.process != Process::Down)
        };
        // A register is overwritten: no loss.
        list(pair[0]) && has(pair[0]) && !has(pair[1]) && pair[1].at >= story.window.0 && runs()
    })?;
    Some(gone[1].at)
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
