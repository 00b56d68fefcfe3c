use std::process::{Child, Command, Stdio};

use super::*;

/// A process that works without end, and is ended with the test.
struct Busy(Child);

impl Busy {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The groups of a test, removed with it.
struct Made(Groups);

impl Drop for Made {
    fn drop(&mut self) {
        let removed = self.0.remove();
        assert!(removed.is_ok() || thread::panicking(), "{removed:?}");
    }
}

fn run_id(name: &str) -> String {
    format!("test-{name}-{}", std::process::id())
}

/// Control groups of this machine; `None` is said, where there are none.
fn groups(name: &str, controller: Controller) -> Option<(Made, NodeGroup)> {
    groups_in(&Hierarchies::read().unwrap(), name, controller)
}

fn groups_in(
    hierarchies: &Hierarchies,
    name: &str,
    controller: Controller,
) -> Option<(Made, NodeGroup)> {
    let made = Made(Groups::create_in(hierarchies, &run_id(name)));
    if let Some(why) = made.0.obstacle(controller) {
        eprintln!("not tested here: {why}");
        return None;
    }
    let node = made.0.node("n1").unwrap();
    Some((made, node))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(PAUSE);
    }
}

const SPIN: &str = "while :; do :; done";

fn freezes(hierarchies: &Hierarchies, name: &str, version: Version) {
    let Some((made, node)) = groups_in(hierarchies, name, Controller::Freezer) else {
        return;
    };
    let group = node.of(Controller::Freezer).unwrap();
    assert_eq!(group.version, version);
    // A process with a child of its own: both are in, and both are frozen.
    let mut busy = Busy::start("sh -c 'while :; do :; done' & wait");
    eventually("it has a child", || process::tree(busy.pid()).len() == 2);
    node.adopt(busy.pid()).unwrap();
    let all = group.processes().unwrap();
    assert_eq!(all.len(), 2);
    let used = || process::processor_time(&all).unwrap();
    let before = used();
    eventually("it works", || used() > before + Duration::from_millis(5));
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap() && group.is_freezing().unwrap());
    let frozen = used();
    thread::sleep(Duration::from_millis(60));
    assert_eq!(used(), frozen);
    group.thaw().unwrap();
    eventually("it works again", || {
        used() > frozen + Duration::from_millis(5)
    });
    assert!(!group.is_freezing().unwrap());
    // Frozen again when everything is removed: it ends all the same, and both of them.
    group.freeze().unwrap();
    made.0.remove().unwrap();
    assert!(!group.exists());
    assert!(!busy.0.wait().unwrap().success());
    assert!(
        all.iter()
            .all(|&pid| { process::Stat::of(pid).map_or(true, |stat| "ZX".contains(stat.state)) })
    );
    // What is gone is undone already.
    made.0.remove().unwrap();
    group.thaw().unwrap();
    assert!(group.processes().unwrap().is_empty());
}

#[test]
fn a_frozen_group_stands_still_with_all_its_processes() {
    let hierarchies = Hierarchies::read().unwrap();
    if hierarchies.v2.is_empty() {
        eprintln!("not tested here: no control groups v2");
    } else {
        freezes(&hierarchies, "freeze-v2", Version::V2);
    }
    let only_v1 = Hierarchies {
        v2: Vec::new(),
        ..hierarchies
    };
    if only_v1.v1.contains_key("freezer") {
        freezes(&only_v1, "freeze-v1", Version::V1);
    } else {
        eprintln!("not tested here: no freezer v1");
    }
}

#[test]
fn a_quota_of_processor_time_is_kept() {
    let Some((_made, node)) = groups("cpu", Controller::Cpu) else {
        return;
    };
    let group = node.of(Controller::Cpu).unwrap();
    assert_eq!(group.cpu_limit().unwrap(), None);
    let busy = Busy::start(SPIN);
    node.adopt(busy.pid()).unwrap();
    group.limit_cpu(10).unwrap();
    assert_eq!(group.cpu_limit().unwrap(), Some(10.0));
    let used = || process::processor_time(&[busy.pid()]).unwrap();
    eventually("it is throttled", || group.throttled().unwrap() > 0);
    let (before, start) = (used(), Instant::now());
    thread::sleep(Duration::from_millis(600));
    let share = used().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    // A period more or less than were waited for.
    assert!(share < 0.2, "{share}");
    group.lift_cpu().unwrap();
    assert_eq!(group.cpu_limit().unwrap(), None);
    let (throttled, before) = (group.throttled().unwrap(), used());
    eventually("it works freely", || {
        used() > before + Duration::from_millis(100)
    });
    assert!(group.throttled().unwrap() <= throttled + 1);
}

#[test]
fn who_wants_more_memory_than_there_is_ends() {
    let Some((_made, node)) = groups("memory", Controller::Memory) else {
        return;
    };
    let group = node.of(Controller::Memory).unwrap();
    assert_eq!(group.memory().unwrap().limit, None);
    // It begins when it is told to, and then doubles a string.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "read go; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
    ]);
    let mut hungry = Busy(command.stdin(Stdio::piped()).spawn().unwrap());
    node.adopt(hungry.pid()).unwrap();
    group.limit_memory(16 << 20).unwrap();
    assert_eq!(group.memory().unwrap().limit, Some(16 << 20));
    assert_eq!(group.memory().unwrap().killed, 0);
    let mut stdin = hungry.0.stdin.take().unwrap();
    io::Write::write_all(&mut stdin, b"go\n").unwrap();
    assert!(!hungry.0.wait().unwrap().success());
    let memory = group.memory().unwrap();
    assert!(memory.refused > 0 && memory.killed == 1, "{memory:?}");
    group.lift_memory().unwrap();
    assert_eq!(group.memory().unwrap().limit, None);
}

#[test]
fn a_limit_below_what_is_held_is_refused_in_version_1() {
    let Some((_made, node)) = groups("held", Controller::Memory) else {
        return;
    };
    let group = node.of(Controller::Memory).unwrap();
    if group.version != Version::V1 {
        return;
    }
    let script =
        "read go; x=aaaaaaaaaaaaaaaa; while [ ${#x} -lt 20000000 ]; do x=$x$x; done; read go";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let mut holder = Busy(command.stdin(Stdio::piped()).spawn().unwrap());
    node.adopt(holder.pid()).unwrap();
    let mut stdin = holder.0.stdin.take().unwrap();
    io::Write::write_all(&mut stdin, b"go\n").unwrap();
    eventually("it holds much", || {
        group.memory().unwrap().used > 20_000_000
    });
    let error = group.limit_memory(4 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
    assert_eq!(group.memory().unwrap().limit, None);
}

#[test]
fn every_controller_of_this_machine_is_there_or_says_why_not() {
    for controller in Controller::ALL {
        if let Err(why) = available(controller) {
            eprintln!("{controller}: not here: {why}");
            assert!(!why.is_empty());
        }
    }
    let left = Groups::candidates(&format!("probe-{}", std::process::id()));
    assert!(left.iter().all(|group| !group.exists()));
}

#[test]
fn only_groups_of_ours_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = Group {
        version: Version::V1,
        path: dir.path().join("theirs"),
    };
    fs::create_dir(&theirs.path).unwrap();
    let error = remove(std::slice::from_ref(&theirs))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a control group of ours"), "{error}");
    assert!(theirs.path.exists());
}

/// Version 2 as its files are, where the machine has its controllers in version 1.
#[test]
fn version_2_is_written_and_read_in_its_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let group = Group {
        version: Version::V2,
        path: dir.path().to_owned(),
    };
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let has = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    file("cpu.max", "max 100000\n");
    assert_eq!(group.cpu_limit().unwrap(), None);
    file("cpu.max", "");
    group.limit_cpu(25).unwrap();
    assert_eq!(has("cpu.max"), "25000 100000");
    assert_eq!(group.cpu_limit().unwrap(), Some(25.0));
    file("cpu.stat", "usage_usec 9\nnr_periods 8\nnr_throttled 7\n");
    assert_eq!(group.throttled().unwrap(), 7);
    file("memory.max", "");
    group.limit_memory(4096).unwrap();
    file("memory.current", "512\n");
    file("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n");
    let memory = group.memory().unwrap();
    assert_eq!((memory.used, memory.limit), (512, Some(4096)));
    assert_eq!((memory.refused, memory.killed), (3, 2));
    file("memory.max", "max\n");
    assert_eq!(group.memory().unwrap().limit, None);
    // A file that is missing is a controller that is missing, and is not made.
    assert!(group.freeze().is_err());
    assert!(!dir.path().join("cgroup.freeze").exists());
}

#[test]
fn a_controller_that_is_not_handed_on_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let group = Group {
        version: Version::V2,
        path: dir.path().join("quorate-x"),
    };
    fs::create_dir(&group.path).unwrap();
    fs::write(
        group.path.join("cgroup.controllers"),
        "cpuset memory pids\n",
    )
    .unwrap();
    fs::write(group.path.join("cgroup.subtree_control"), "").unwrap();
    assert_eq!(group.hand_on(Controller::Freezer), Ok(()));
    assert_eq!(group.hand_on(Controller::Memory), Ok(()));
    let why = group.hand_on(Controller::Cpu).unwrap_err();
    assert!(why.contains("does not hand on the controller cpu"), "{why}");
}

#[test]
fn hierarchies_are_found_as_they_are_mounted() {
    let v1 = "30 25 0:26 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
              31 25 0:27 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
              32 25 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
              33 25 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    let own = "5:pids:/x\n4:memory:/docker/ab/cd\n3:cpu,cpuacct:/user\n0::/user/one/two\n";
    let found = Hierarchies::parse(v1, own, &|_| true);
    let at = |c: &str| found.v1[c].to_str().unwrap().to_owned();
    assert_eq!(at("cpu"), "/sys/fs/cgroup/cpu/user");
    assert_eq!(at("memory"), "/sys/fs/cgroup/memory/cd");
    assert_eq!(found.v1.len(), 2);
    let v2: Vec<_> = found.v2.iter().map(|p| p.to_str().unwrap()).collect();
    let base = "/sys/fs/cgroup/unified";
    assert_eq!(
        v2,
        [
            &format!("{base}/user/one/two"),
            &format!("{base}/user/one"),
            &format!("{base}/user"),
            base
        ]
    );
    // In a container that does not see its own group.
    let found = Hierarchies::parse(v1, own, &|_| false);
    assert_eq!(found.v2, [Path::new(base)]);
    assert_eq!(found.v1["cpu"], Path::new("/sys/fs/cgroup/cpu"));
    assert_eq!(
        Hierarchies::parse("", own, &|_| true),
        Hierarchies::default()
    );
}
