//! What was found, in a paragraph.

use nemesis::{Entry, Program, duration};

use super::{Failing, Goal, Size};

/// `5 nodes in mode async, 10 clients, 8 keys, …: 2 faults in 3s`.
pub fn size(size: &Size) -> String {
    let keys = size.keys.map_or(String::new(), |n| {
        format!(", {}", count(u64::from(n), "key"))
    });
    format!(
        "{} in {}, {}, {}{keys}, {}",
        count(size.faults as u64, "fault"),
        duration::format(size.time),
        count(u64::from(size.nodes), "node"),
        count(u64::from(size.clients), "client"),
        count(size.ops, "operation"),
    )
}

fn count(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// The failure in plain words: what was done, and what came of it.
pub fn paragraph(goal: &Goal, failing: &Failing) -> String {
    let e = &failing.experiment;
    let entries = e.faults.schedule.as_ref().and_then(Program::flat);
    let entries = entries.unwrap_or_default();
    let done: Vec<String> = entries.iter().map(sentence).collect();
    let done = match done.len() {
        0 => "Nothing is done to it.".to_owned(),
        _ => format!("{}.", done.join("; then ")),
    };
    let rate = match failing.rate {
        (_, 0 | 1) => String::new(),
        (failed, of) => format!(" {failed} of {of} runs failed this way."),
    };
    format!(
        "A cluster of {} in mode {}, workload {}, {}, {}. {done} {} reports `{}`: {}{rate}",
        count(u64::from(e.nodes), "node"),
        e.mode(),
        e.workload.name(),
        count(u64::from(e.threads()), "client"),
        duration::format(e.limits.time),
        goal.checker,
        goal.class,
        failing.anomaly.summary,
    )
}

/// `At 1s kill leader for 500ms`.
fn sentence(entry: &Entry) -> String {
    let whom = entry
        .target
        .as_ref()
        .map_or(String::new(), |t| format!(" of {t}"));
    let what = match &entry.fault {
        nemesis::Fault::Partition(shape) => format!("partition ({})", shape.name()),
        other => other.kind().name().to_owned(),
    };
    format!(
        "At {} {what}{whom} for {}",
        duration::format(entry.at),
        duration::format(entry.lasting)
    )
}
