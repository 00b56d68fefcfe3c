//! What is made smaller, one thing after the other.

use std::time::Duration;

use nemesis::shrink::{first_failing, smallest_part};
use nemesis::{Entry, Node, Program, Selector};

use super::Search;
use crate::experiment::{Concurrency, Experiment};

/// A name and what it does.
pub type Pass = (&'static str, fn(&mut Search<'_>, &str));

/// All passes, in the order of what readers gain most by.
pub const ALL: &[Pass] = &[
    ("cut the end", cut_the_end),
    ("fewer faults", fewer_faults),
    ("fewer but longer faults", fewer_but_longer),
    ("cut the end", cut_the_end),
    ("roles for names", roles_for_names),
    ("shorter waits", shorter_waits),
    ("shorter faults", shorter_faults),
    ("less time", less_time),
    ("fewer nodes", fewer_nodes),
    ("fewer clients", fewer_clients),
    ("fewer keys", fewer_keys),
    ("slower clients", slower_clients),
    ("fewer operations", fewer_operations),
];

/// Time left after the last fault was injected, so that something can come of it.
const AFTER: Duration = Duration::from_millis(500);

/// The faults of a flat schedule, which every run comes to.
fn entries(experiment: &Experiment) -> Vec<Entry> {
    let schedule = experiment.faults.schedule.as_ref();
    schedule.and_then(Program::flat).unwrap_or_default()
}

fn with_entries(experiment: &Experiment, entries: Vec<Entry>) -> Experiment {
    let mut smaller = experiment.clone();
    smaller.faults.schedule = Some(entries.into());
    smaller
}

/// The run ends at this time: what would be injected later is left out.
fn until(experiment: &Experiment, time: Duration) -> Experiment {
    let mut left = entries(experiment);
    left.retain(|entry| entry.at < time);
    let mut smaller = with_entries(experiment, left);
    smaller.limits.time = time;
    smaller
}

fn current(search: &Search<'_>) -> Experiment {
    search.best().experiment.clone()
}

fn cut_the_end(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    let shown = Duration::from_nanos(search.best().shown_at) + AFTER;
    let whole = now.limits.time;
    let shares = [16, 8, 4, 2].map(|n| whole / n);
    let mut times: Vec<Duration> = shares
        .into_iter()
        .chain([shown])
        .map(rounded)
        .filter(|&time| time < whole && !time.is_zero())
        .collect();
    times.sort_unstable();
    first_failing(times, &mut |&time| search.fails(&until(&now, time), name));
}

/// To whole tenths of a second: for readers.
fn rounded(time: Duration) -> Duration {
    const UNIT: Duration = Duration::from_millis(100);
    UNIT * u32::try_from(time.as_nanos().div_ceil(UNIT.as_nanos())).unwrap_or(u32::MAX)
}

/// Parts of the schedule without the waits between them, so that a smaller part is a shorter run;
/// with the waits as they were, should that make the failure go away.
fn fewer_faults(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    let all = entries(&now);
    let packed = search.fails(&packed(&now, &all), name) == Some(true) && !all.is_empty();
    smallest_part(&all, &mut |part| {
        let candidate = if packed {
            self::packed(&now, part)
        } else {
            with_entries(&now, part.to_vec())
        };
        search.fails(&candidate, name)
    });
}

/// As long as this a fault lasts before it is taken not to be enough by itself.
const LONG: Duration = Duration::from_secs(2);
/// Of so many faults at most each is tried without the others' help.
const FEW: usize = 6;

/// Without one of the few that are left, the others longer: a fault that was too short by itself
/// may have needed another's help.
fn fewer_but_longer(search: &mut Search<'_>, name: &str) {
    loop {
        let now = current(search);
        let all = entries(&now);
        if !(2..=FEW).contains(&all.len()) {
            return;
        }
        let without = (0..all.len()).rev();
        let shorter = first_failing(without, &mut |&i| {
            let mut rest = all.clone();
            rest.remove(i);
            for entry in &mut rest {
                entry.lasting = entry.lasting.max(LONG);
            }
            let over = rest.iter().map(|entry| entry.at + entry.lasting).max();
            let mut candidate = with_entries(&now, rest);
            let time = rounded(over.unwrap_or_default() + WAIT_MAX);
            candidate.limits.time = time.max(now.limits.time);
            search.fails(&candidate, name)
        });
        if shorter.is_none() {
            return;
        }
    }
}

/// At most this long nothing is injected, once the fault before is over.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Only these faults, one soon after the other; the run ends soon after the last.
fn packed(experiment: &Experiment, part: &[Entry]) -> Experiment {
    let mut faults = part.to_vec();
    let mut over = Duration::ZERO;
    let mut earlier = Duration::ZERO;
    for entry in &mut faults {
        let at = entry.at.saturating_sub(earlier);
        let latest = over + WAIT_MAX;
        if at > latest {
            earlier += at.saturating_sub(latest);
        }
        entry.at = at.min(latest);
        over = over.max(entry.at + entry.lasting);
    }
    let whole = experiment.limits.time;
    let mut smaller = with_entries(experiment, faults);
    smaller.limits.time = rounded(over + WAIT_MAX).min(whole);
    smaller
}

/// `leader` instead of the node that was leader: all at once, or one by one.
fn roles_for_names(search: &mut Search<'_>, name: &str) {
    let role = |entry: &Entry| {
        let was = entry.realised.as_ref().and_then(|r| r.was.clone());
        was.filter(|was| entry.target.as_ref() != Some(was))
    };
    let now = current(search);
    let all = entries(&now);
    let renamed = |only: Option<usize>| -> Experiment {
        let mut renamed = all.clone();
        for (i, entry) in renamed.iter_mut().enumerate() {
            if only.is_none_or(|only| only == i)
                && let Some(role) = role(entry)
            {
                entry.target = Some(role);
            }
        }
        with_entries(&now, renamed)
    };
    if all.iter().all(|entry| role(entry).is_none())
        || search.fails(&renamed(None), name) == Some(true)
    {
        return;
    }
    for i in 0..all.len() {
        let mut entries = entries(&current(search));
        let Some(role) = entries.get(i).and_then(role) else {
            continue;
        };
        entries[i].target = Some(role);
        let candidate = with_entries(&current(search), entries);
        if search.fails(&candidate, name).is_none() {
            return;
        }
    }
}

/// The waits before the first fault and between two, one after the other.
fn shorter_waits(search: &mut Search<'_>, name: &str) {
    for i in 0..entries(&current(search)).len() {
        let now = current(search);
        let all = entries(&now);
        let Some(at) = all.get(i).map(|entry| entry.at) else {
            return;
        };
        let before = i.checked_sub(1).map_or(Duration::ZERO, |i| all[i].at);
        let wait = at.saturating_sub(before);
        let waits = [50, 200, 500, 1000, 2000, 5000].map(Duration::from_millis);
        let waits = waits.into_iter().filter(|&w| w < wait);
        first_failing(waits, &mut |&shorter| {
            let earlier = wait.saturating_sub(shorter);
            let mut moved = all.clone();
            for entry in &mut moved[i..] {
                entry.at = entry.at.saturating_sub(earlier);
            }
            let mut candidate = with_entries(&now, moved);
            candidate.limits.time = now.limits.time.saturating_sub(earlier);
            search.fails(&candidate, name)
        });
    }
}

fn shorter_faults(search: &mut Search<'_>, name: &str) {
    for i in 0..entries(&current(search)).len() {
        let now = current(search);
        let all = entries(&now);
        let Some(lasting) = all.get(i).map(|entry| entry.lasting) else {
            return;
        };
        let shorter = [50, 100, 200, 500, 1000, 2000, 5000, 10_000].map(Duration::from_millis);
        let shorter = shorter.into_iter().filter(|&s| s < lasting);
        first_failing(shorter, &mut |&lasting| {
            let mut changed = all.clone();
            changed[i].lasting = lasting;
            search.fails(&with_entries(&now, changed), name)
        });
    }
}

fn less_time(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    let last = entries(&now).last().map_or(Duration::ZERO, |e| e.at);
    let times = [50, 100, 200, 500, 1000, 2000, 3000, 5000, 10_000, 20_000]
        .map(|ms| rounded(last + Duration::from_millis(ms)));
    let times = times.into_iter().filter(|&time| time < now.limits.time);
    first_failing(times, &mut |&time| search.fails(&until(&now, time), name));
}

fn fewer_nodes(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    first_failing(1..now.nodes, &mut |&nodes| {
        let mut candidate = now.clone();
        candidate.nodes = nodes;
        // As many threads as before: fewer of them is another pass.
        candidate.clients.concurrency = Concurrency::Fixed(now.threads());
        let stays = |&node: &Node| node <= nodes || node > now.nodes;
        for entry in candidate.faults.schedule.iter_mut().flatten() {
            if let Some(order) = &mut entry.order {
                order.retain(stays);
            }
            if let Some(Selector::Nodes(named)) = &mut entry.target {
                named.retain(stays);
            }
        }
        search.fails(&candidate, name)
    });
}

/// Small numbers first, then doubling.
fn numbers_below(limit: u32) -> impl Iterator<Item = u32> {
    let doubling = (0..32).map(|i| 1_u32 << i);
    let mut all: Vec<u32> = doubling
        .chain([3, 5, 6, 10, 20, 50, 100, 200, 500])
        .collect();
    all.sort_unstable();
    all.into_iter().filter(move |&n| n < limit)
}

fn fewer_clients(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    first_failing(numbers_below(now.threads()), &mut |&threads| {
        let mut candidate = now.clone();
        candidate.clients.concurrency = Concurrency::Fixed(threads);
        search.fails(&candidate, name)
    });
}

fn fewer_keys(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    let Some(keys) = now.parameters.keys else {
        return;
    };
    first_failing(numbers_below(keys), &mut |&keys| {
        let mut candidate = now.clone();
        candidate.parameters.keys = Some(keys);
        search.fails(&candidate, name)
    });
}

/// Only so many of the operations, the first ones: those after them are of no use.
fn fewer_operations(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    let most = u32::try_from(now.limits.operations.unwrap_or(search.best().ops));
    first_failing(
        numbers_below(most.unwrap_or(u32::MAX)),
        &mut |&operations| {
            let mut candidate = now.clone();
            candidate.limits.operations = Some(u64::from(operations));
            search.fails(&candidate, name)
        },
    );
}

fn slower_clients(search: &mut Search<'_>, name: &str) {
    let now = current(search);
    // Without a limit there is nothing to take away from.
    let rate = now.clients.rate;
    first_failing(numbers_below(rate as u32), &mut |&rate| {
        let mut candidate = now.clone();
        candidate.clients.rate = f64::from(rate);
        search.fails(&candidate, name)
    });
}
