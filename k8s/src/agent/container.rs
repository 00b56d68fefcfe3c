//! Faults of containers: ended, stopped, short of processor time or memory. By their control groups
//! and pidfds, so that nothing else can be hit.

use std::thread;
use std::time::{Duration, Instant};

use nemesis::mechanism::cgroup::disk::{Device, DiskLimit};
use nemesis::mechanism::cgroup::{Controller, Group};
use nemesis::mechanism::process::{Identity, processor_time};

use super::fault::{Bench, Fault, Local, processes as counted};
use super::undo::Undo;

/// How long a stopped or limited container is watched.
const WATCHED: Duration = Duration::from_millis(250);
/// The same for a limit of processor time: some of its periods.
const LOADED: Duration = Duration::from_millis(500);
/// How long killed processes may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// How many percent of a processor more than allowed are measured at the edges of a period.
const SLACK: f64 = 10.0;
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// How long it is watched what a container writes without a limit, and with one.
const WRITES_FREELY: Duration = Duration::from_secs(1);
/// See [`WRITES_FREELY`].
const WRITES_HELD: Duration = Duration::from_secs(2);
/// How much of a limit may be measured, as the kernel lets through slices of it at once.
const DISK_SLACK: f64 = 1.25;
/// And so many bytes a second beside: a request is not cut in two.
const DISK_MORE: f64 = 16_384.0;

/// Does it for each pod; what was seen, or the first reason why not.
pub(super) fn each(
    fault: &mut Fault,
    mut one: impl FnMut(&mut Fault, &Local) -> Result<String, String>,
) -> Result<String, String> {
    let mut seen = Vec::new();
    for local in fault.locals.clone() {
        let node = local.target.node;
        let text = one(fault, &local).map_err(|why| format!("n{node}: {why}"))?;
        seen.push(format!("n{node} {text}"));
    }
    Ok(seen.join("; "))
}

pub(super) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(super) fn check(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    each(fault, |_, local| {
        let groups = local.groups(&bench.tree)?;
        let processes = groups.freezer.processes().map_err(said)?.len();
        if processes == 0 {
            return Err("its container has no process".to_owned());
        }
        let controllers = [
            ("cpu", &groups.cpu),
            ("memory", &groups.memory),
            ("disk", &groups.disk),
        ];
        let has: Vec<_> = controllers
            .iter()
            .filter(|(_, group)| group.is_some())
            .map(|(name, _)| *name)
            .collect();
        Ok(format!(
            "may be hurt: {}, freezer {}, {}",
            counted(processes),
            groups.freezer.version,
            has.join(", ")
        ))
    })
}

pub(super) fn kill(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    each(fault, |fault, local| {
        let group = local.groups(&bench.tree)?.freezer;
        if bench.another(&fault.uid, |undo| *undo == Undo::Thaw(group.clone())) {
            return Err("is paused, and would end only when it goes on".to_owned());
        }
        let processes: Vec<_> = group.processes().map_err(said)?;
        let processes: Vec<_> = processes
            .into_iter()
            .filter_map(|pid| Identity::of(pid).ok())
            .collect();
        if processes.is_empty() {
            return Err("its container has no process".to_owned());
        }
        group.kill().map_err(said)?;
        for process in &processes {
            if !process.wait(END_WITHIN).map_err(said)? {
                return Err(format!(
                    "process {} was killed but has not ended after {END_WITHIN:?}",
                    process.pid
                ));
            }
        }
        Ok(format!(
            "was killed: {} of its container got SIGKILL and ended",
            counted(processes.len())
        ))
    })
}

pub(super) fn pause(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    each(fault, |fault, local| {
        let group = local.groups(&bench.tree)?.freezer;
        fault.will_undo(bench, Undo::Thaw(group.clone()))?;
        group.freeze().map_err(said)?;
        let processes = group.processes().map_err(said)?;
        if processes.is_empty() {
            return Err("its container has no process".to_owned());
        }
        let before = processor_time(&processes).map_err(said)?;
        thread::sleep(WATCHED);
        let ran = processor_time(&processes)
            .map_err(said)?
            .saturating_sub(before);
        if !ran.is_zero() {
            return Err(format!("ran for {ran:.1?} while it was frozen"));
        }
        Ok(format!(
            "is frozen: {} took no processor time in {WATCHED:?} (freezer {})",
            counted(processes.len()),
            group.version
        ))
    })
}

/// The group for a limit, with what restores it written down.
fn to_limit(
    bench: &Bench,
    fault: &mut Fault,
    group: Option<Group>,
    controller: Controller,
) -> Result<Group, String> {
    let group = group.ok_or_else(|| format!("this node has no control groups of {controller}"))?;
    let setting = group.setting(controller).map_err(said)?;
    // In version 2 one group is used for everything: told apart by what is restored.
    let limited = |undo: &Undo| match undo {
        Undo::Restore(other, restores) => *other == group && restores.is_of_same_files(&setting),
        _ => false,
    };
    if bench.another(&fault.uid, limited) {
        return Err(format!("another fault limits its {controller} already"));
    }
    fault.will_undo(bench, Undo::Restore(group.clone(), setting))?;
    Ok(group)
}

pub(super) fn limit_cpu(bench: &Bench, fault: &mut Fault, percent: u8) -> Result<String, String> {
    each(fault, |fault, local| {
        let groups = local.groups(&bench.tree)?;
        let group = to_limit(bench, fault, groups.cpu, Controller::Cpu)?;
        let before = group.cpu_limit().map_err(said)?;
        if before.is_some_and(|before| before <= f64::from(percent)) {
            return Err(format!(
                "may take no more than {:.0}% anyway",
                before.unwrap_or(0.0)
            ));
        }
        group.limit_cpu(percent).map_err(said)?;
        let processes = groups.freezer.processes().map_err(said)?;
        let ran = || processor_time(&processes).map_err(said);
        let throttled = || group.throttled().map_err(said);
        let (started, used, times) = (Instant::now(), ran()?, throttled()?);
        thread::sleep(LOADED);
        let took = started.elapsed();
        let taken = 100.0 * ran()?.saturating_sub(used).as_secs_f64() / took.as_secs_f64();
        let times = throttled()? - times;
        let limit = group.cpu_limit().map_err(said)?;
        if limit != Some(f64::from(percent)) {
            return Err(format!(
                "may take {limit:?}% of a processor, not {percent}%"
            ));
        }
        let seen = format!("took {taken:.1}% of a processor in {took:.1?}");
        let by = format!("control group {}", group.version);
        if taken > f64::from(percent) + SLACK {
            Err(format!("{seen}, yet it may take {percent}% ({by})"))
        } else if times > 0 {
            Ok(format!(
                "{seen}, was throttled {times} times and may take {percent}% ({by})"
            ))
        } else {
            Ok(format!(
                "may take {percent}% of a processor ({by}, as read back); it {seen}, which is \
                 less, so that it was not throttled yet"
            ))
        }
    })
}

pub(super) fn limit_memory(bench: &Bench, fault: &mut Fault, mib: u64) -> Result<String, String> {
    each(fault, |fault, local| {
        let groups = local.groups(&bench.tree)?;
        let group = to_limit(bench, fault, groups.memory, Controller::Memory)?;
        let before = group.memory().map_err(said)?;
        let wanted = mib * MIB;
        if before.limit.is_some_and(|limit| limit <= wanted) {
            return Err(format!(
                "may have no more than {} MiB anyway",
                before.limit.unwrap_or(0) / MIB
            ));
        }
        group.limit_memory(wanted).map_err(|error| {
            format!(
                "has {} MiB, which cannot be taken from it ({error})",
                before.used / MIB
            )
        })?;
        let after = group.memory().map_err(said)?;
        if after.limit != Some(wanted) {
            return Err(format!(
                "may have {:?} bytes of memory, not {wanted}",
                after.limit
            ));
        }
        Ok(format!(
            "may have {mib} MiB of memory and has {} MiB (control group {}, as read back)",
            after.used / MIB,
            group.version
        ))
    })
}

pub(super) fn throttle_disk(
    bench: &Bench,
    fault: &mut Fault,
    kib_s: u64,
) -> Result<String, String> {
    each(fault, |fault, local| {
        let groups = local.groups(&bench.tree)?;
        let group = groups.disk.ok_or(
            "this node limits no disks for containers (no controller blkio, or io of version 2)",
        )?;
        let processes = groups.freezer.processes().map_err(said)?;
        let pid = *processes.first().ok_or("its container has no process")?;
        let device = Device::behind(pid, &local.data)?;
        let taken = |undo: &Undo| match undo {
            Undo::Unthrottle(other, of, _) => *other == group && *of == device,
            _ => false,
        };
        if bench.another(&fault.uid, taken) {
            return Err("another fault limits its disk already".to_owned());
        }
        let before = group.disk_limit(device).map_err(said)?;
        let wanted = kib_s * KIB;
        let tighter = |limit: Option<u64>| limit.is_some_and(|limit| limit <= wanted);
        if tighter(before.write) {
            return Err(format!("may write no more than {kib_s} KiB/s anyway"));
        }
        // What would be within the limit anyway shows nothing.
        let most = wanted as f64 * DISK_SLACK + DISK_MORE;
        let on = format!("to disk {device} behind {}", local.data.display());
        let free = writes(&group, device, WRITES_FREELY)?;
        if free <= most {
            return Err(format!(
                "wrote {:.0} KiB/s {on}, which a limit of {kib_s} KiB/s would hardly hold back",
                free / KIB as f64
            ));
        }
        fault.will_undo(bench, Undo::Unthrottle(group.clone(), device, before))?;
        let limit = DiskLimit {
            read: if tighter(before.read) {
                before.read
            } else {
                Some(wanted)
            },
            write: Some(wanted),
        };
        group.limit_disk(device, limit).map_err(said)?;
        if group.disk_limit(device).map_err(said)? != limit {
            return Err(format!("has no limit {on}, as read back"));
        }
        thread::sleep(WATCHED);
        let held = writes(&group, device, WRITES_HELD)?;
        let seen = format!(
            "wrote {:.0} KiB/s {on}, and {:.0} KiB/s before",
            held / KIB as f64,
            free / KIB as f64
        );
        if held > most {
            return Err(format!("{seen}, yet it may write {kib_s} KiB/s"));
        }
        Ok(format!("{seen} (control group {})", group.version))
    })
}

/// How many bytes a second go to a disk.
fn writes(group: &Group, device: Device, during: Duration) -> Result<f64, String> {
    let written = || group.disk_written(device).map_err(said);
    let (started, before) = (Instant::now(), written()?);
    thread::sleep(during);
    let bytes = written()?.saturating_sub(before);
    Ok(bytes as f64 / started.elapsed().as_secs_f64())
}

/// Why a container is not hurt any more, if so.
pub(super) fn faded(fault: &Fault) -> Option<String> {
    fault.record.undo.iter().find_map(|undo| {
        let (Undo::Thaw(group) | Undo::Restore(group, _) | Undo::Unthrottle(group, ..)) = undo
        else {
            return None;
        };
        if !group.exists() || group.processes().is_ok_and(|pids| pids.is_empty()) {
            return Some("a container has ended, and the fault with it".to_owned());
        }
        match undo {
            Undo::Thaw(group) => match group.is_freezing() {
                Ok(true) => None,
                Ok(false) => Some("a container was found to run before its time".to_owned()),
                Err(error) => Some(said(error)),
            },
            Undo::Restore(group, setting) => match group.is_set_to(setting) {
                Ok(false) => None,
                Ok(true) => Some("a limit was found to be lifted before its time".to_owned()),
                Err(error) => Some(said(error)),
            },
            Undo::Unthrottle(group, device, limit) => match group.disk_limit(*device) {
                Ok(now) if now == *limit => {
                    Some("a limit was found to be lifted before its time".to_owned())
                }
                Ok(_) => None,
                Err(error) => Some(said(error)),
            },
            Undo::Network(_) | Undo::Clock(_) => None,
        }
    })
}

pub(super) fn heal(bench: &Bench, fault: &mut Fault) -> Result<String, String> {
    if fault.record.undo.is_empty() {
        return Ok("there was nothing to undo".to_owned());
    }
    let mut seen = Vec::new();
    for undo in fault.record.undo.iter().rev() {
        if let Undo::Thaw(_) = undo
            && bench.another(&fault.uid, |other| other == undo)
        {
            seen.push("a container stays frozen for another fault".to_owned());
            continue;
        }
        undo.carry_out(&bench.tree).map_err(said)?;
        let (Undo::Thaw(group) | Undo::Restore(group, _) | Undo::Unthrottle(group, ..)) = undo
        else {
            continue;
        };
        if !group.exists() {
            seen.push("a container has ended".to_owned());
            continue;
        }
        seen.push(match undo {
            Undo::Restore(group, setting) if group.is_set_to(setting).map_err(said)? => {
                format!("a limit is again what it was ({setting})")
            }
            Undo::Unthrottle(group, device, limit)
                if group.disk_limit(*device).map_err(said)? == *limit =>
            {
                format!("the limit of disk {device} is again what it was")
            }
            Undo::Thaw(group) if !group.is_freezing().map_err(said)? => {
                format!(
                    "runs again ({})",
                    counted(group.processes().map_err(said)?.len())
                )
            }
            _ => return Err(format!("{undo} still")),
        });
    }
    Ok(seen.join("; "))
}
