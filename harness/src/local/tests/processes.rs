//! What is done to processes, by each mechanism; and what is done behind the back of it.

use std::time::{Duration, Instant};

use nemesis::mechanism::cgroup::{Controller, Group};
use nemesis::mechanism::lease::{Leases, Undo};
use nemesis::mechanism::process::Stat;
use nemesis::{Action, Node, Proof};

use super::stand_in::{Scratch, not_seen, start};
use crate::local::LocalSubstrate;
use crate::local::leftovers::LEASES;
use crate::substrate::{Happening, Substrate};

struct Run {
    substrate: LocalSubstrate,
    scratch: Scratch,
}

impl Run {
    fn start(name: &str, nodes: u16) -> Self {
        let scratch = Scratch::new(name);
        let substrate = start(nodes, &scratch.0).unwrap();
        Self { substrate, scratch }
    }

    fn next(&mut self) -> Happening {
        let deadline = self.substrate.now() + 60_000_000_000;
        self.substrate.next(deadline)
    }

    fn inject(&mut self, id: u32, action: &Action, via: Option<&str>) -> Proof {
        let start = Instant::now();
        self.substrate.inject(id, action, via);
        match self.next() {
            Happening::Injected { id: of, proof } if of == id => {
                eprintln!(
                    "{action:?} by {via:?}: injected in {:.0?}: {proof:?}",
                    start.elapsed()
                );
                proof
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whether it had faded, and what was seen after healing.
    fn heal(&mut self, id: u32) -> (Option<String>, Proof) {
        let start = Instant::now();
        self.substrate.heal(id);
        let mut faded = None;
        loop {
            match self.next() {
                Happening::Faded { id: of, why } if of == id => faded = Some(why),
                Happening::Healed { id: of, proof } if of == id => {
                    eprintln!("healed in {:.0?}: {proof:?}", start.elapsed());
                    return (faded, proof);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Heals it, which must not have faded.
    fn heal_whole(&mut self, id: u32) -> Proof {
        let (faded, proof) = self.heal(id);
        assert_eq!(faded, None);
        proof
    }

    fn ask(&self, node: Node, path: &str) -> Result<String, String> {
        let address = self.substrate.cluster.slot(node).unwrap().target.get();
        let url = format!("http://{}{path}", address.unwrap());
        self.substrate.block_on(async {
            let answer = reqwest::get(url).await.map_err(|e| e.to_string())?;
            answer.text().await.map_err(|e| e.to_string())
        })
    }

    fn group(&self, node: Node, controller: Controller) -> Option<Group> {
        if let Some(why) = self.substrate.cluster.custody.groups.obstacle(controller) {
            eprintln!("not tested here: {why}");
            return None;
        }
        let slot = self.substrate.cluster.slot(node).unwrap();
        slot.group().of(controller).cloned()
    }

    /// What undoes the faults that are injected now, in the order injected.
    fn undos(&self) -> Vec<Undo> {
        let leases = Leases::read(&self.scratch.0.join(LEASES)).unwrap().unwrap();
        let faults = leases.leases.into_iter();
        faults
            .filter(|lease| lease.id.starts_with("fault-"))
            .map(|lease| lease.undo)
            .collect()
    }
}

fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| !"ZX".contains(stat.state))
}

#[track_caller]
fn seen(proof: &Proof, parts: &[&str]) {
    for part in parts {
        assert!(
            matches!(proof, Proof::Seen(text) if text.contains(part)),
            "{part:?}: {proof:?}"
        );
    }
}

#[test]
fn what_a_node_has_started_is_stopped_frozen_and_killed_with_it() {
    let mut run = Run::start("whole", 1);
    let Some(group) = run.group(1, Controller::Freezer) else {
        return;
    };
    let child: u32 = run.ask(1, "/child").unwrap().parse().unwrap();
    assert_eq!(group.processes().unwrap().len(), 2);
    let pause = Action::Pause(vec![1]);
    seen(
        &run.inject(1, &pause, Some("signal")),
        &["n1 is stopped (state T)"],
    );
    assert_eq!(Stat::of(child).unwrap().state, 'T');
    assert!(matches!(run.undos()[..], [Undo::Continue(_)]));
    seen(&run.heal_whole(1), &["n1 runs"]);
    assert_ne!(Stat::of(child).unwrap().state, 'T');
    assert_eq!(run.undos(), []);

    seen(
        &run.inject(2, &pause, Some("freezer")),
        &["n1 is frozen (2 processes"],
    );
    assert!(group.is_frozen().unwrap());
    assert_eq!(run.undos(), [Undo::Thaw(group.clone())]);
    // Both at once, in any order.
    seen(&run.inject(3, &pause, None), &["n1 is"]);
    seen(&run.heal_whole(2), &["n1 stays stopped for fault 3"]);
    assert!(!group.is_frozen().unwrap());
    seen(&run.inject(4, &pause, Some("freezer")), &["n1 is frozen"]);
    seen(&run.heal_whole(3), &["n1 stays stopped for fault 4"]);

    // Killed while frozen: both end, and what is started next is not frozen.
    seen(
        &run.inject(5, &Action::Kill(vec![1]), None),
        &["n1 ended (signal: 9 (SIGKILL))"],
    );
    assert!(!is_alive(child));
    seen(&run.heal_whole(5), &["n1 was restarted and answers"]);
    seen(&run.heal_whole(4), &["n1 runs"]);
    not_seen(
        &run.inject(6, &pause, Some("prayer")),
        "nothing pauses by \"prayer\"",
    );
}

#[test]
fn a_pause_that_somebody_ended_has_faded() {
    let mut run = Run::start("faded", 2);
    let pause = Action::Pause(vec![1, 2]);
    for (id, via) in [(1, "signal"), (3, "freezer")] {
        if via == "freezer" && run.group(2, Controller::Freezer).is_none() {
            continue;
        }
        seen(&run.inject(id, &pause, Some(via)), &["n1 is", "n2 is"]);
        let undos = run.undos();
        assert_eq!(undos.len(), 2);
        undos[1].carry_out().unwrap();
        let (faded, proof) = run.heal(id);
        assert_eq!(
            faded.as_deref(),
            Some("n2 was found running before its pause was over")
        );
        seen(&proof, &["n1 runs", "n2 runs"]);

        // Let go for a while only.
        let (id, pause) = (id + 1, Action::Pause(vec![1]));
        seen(&run.inject(id, &pause, Some(via)), &["n1 is"]);
        let undo = run.undos().remove(0);
        undo.carry_out().unwrap();
        for _ in 0..200 {
            run.ask(1, "/v1/kv").unwrap();
        }
        match &undo {
            Undo::Thaw(group) => group.freeze().unwrap(),
            Undo::Continue(process) => {
                process.signal(rustix::process::Signal::STOP).unwrap();
            }
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
        let (faded, _) = run.heal(id);
        let faded = faded.unwrap();
        assert!(faded.contains("n1 ran for"), "{faded}");
    }
}

#[test]
fn a_slow_node_is_seen_to_be_slow_by_either_mechanism() {
    let mut run = Run::start("cpu", 2);
    let slow = |percent| Action::Cpu(vec![1], percent);
    for (id, via) in [(1, "cgroup"), (3, "signal")] {
        let group = run.group(1, Controller::Cpu);
        if via == "cgroup" && group.is_none() {
            continue;
        }
        let proof = run.inject(id, &slow(10), Some(via));
        match (via, &group) {
            ("cgroup", Some(group)) => {
                assert_eq!(group.cpu_limit().unwrap(), Some(10.0));
                seen(&proof, &["n1 ", "10%", "control group"]);
            }
            _ => seen(
                &proof,
                &["n1 took", "found stopped in", "10% of the time (signals)"],
            ),
        }
        // The smaller share counts, and it holds for whoever takes the place of the process.
        seen(&run.inject(id + 1, &slow(5), Some(via)), &["5%"]);
        seen(
            &run.inject(90 + id, &Action::Kill(vec![1]), None),
            &["n1 ended"],
        );
        seen(&run.heal_whole(90 + id), &["n1 was restarted"]);
        let until = Instant::now() + Duration::from_secs(30);
        let process = run.substrate.cluster.slot(1).unwrap();
        let process = run.substrate.block_on(process.lock()).process.clone();
        while via == "signal" && process.as_ref().unwrap().state() != Some('T') {
            assert!(Instant::now() < until, "it is not slow");
        }
        seen(
            &run.heal_whole(id + 1),
            &[&format!("n1 stays slow for fault {id}")],
        );
        seen(
            &run.heal_whole(id),
            &["n1 may take all it can get, and answers"],
        );
        assert!(group.is_none_or(|group| group.cpu_limit().unwrap().is_none()));
        assert_eq!(run.undos(), []);
    }
    not_seen(
        &run.inject(9, &slow(10), Some("prayer")),
        "nothing limits processors by",
    );
}

#[test]
fn a_paused_node_stays_paused_while_it_is_slow() {
    let mut run = Run::start("both", 1);
    let slow = Action::Cpu(vec![1], 50);
    seen(&run.inject(1, &slow, Some("signal")), &["n1 took"]);
    seen(
        &run.inject(2, &Action::Pause(vec![1]), None),
        &["n1 is stopped"],
    );
    seen(
        &run.heal_whole(1),
        &["n1 may take all it can get, and is paused"],
    );
    seen(&run.heal_whole(2), &["n1 runs"]);
}

#[test]
fn a_lifted_quota_has_faded() {
    let mut run = Run::start("lifted", 1);
    let Some(group) = run.group(1, Controller::Cpu) else {
        return;
    };
    seen(&run.inject(1, &Action::Cpu(vec![1], 20), None), &["20%"]);
    group.lift_cpu().unwrap();
    let (faded, proof) = run.heal(1);
    let faded = faded.unwrap();
    assert!(
        faded.contains("allowed all it can get before its time"),
        "{faded}"
    );
    seen(&proof, &["n1 may take all it can get"]);
}

#[test]
fn a_node_that_needs_more_memory_than_it_may_have_ends_and_comes_back() {
    let mut run = Run::start("memory", 2);
    let squeeze = |mib| Action::Memory(vec![1], mib);
    if run.group(1, Controller::Memory).is_some() {
        let proof = run.inject(1, &squeeze(48), None);
        seen(&proof, &["n1 holds", "of the 48.0 MiB", "as read back"]);
        assert!(run.ask(1, "/hold").is_err());
        let (faded, proof) = run.heal(1);
        assert_eq!(faded, None);
        seen(
            &proof,
            &["may have all there is", "n1 was restarted and answers"],
        );
        let Proof::Seen(text) = &proof else { panic!() };
        assert!(!text.contains("and 0 of its processes"), "{text}");
        run.ask(1, "/hold").unwrap();

        // It holds more than it may have: it ends at once.
        seen(&run.inject(2, &squeeze(16), None), &["n1 ", "16.0 MiB"]);
        seen(&run.heal_whole(2), &["n1 was restarted and answers"]);

        // Lifted by somebody else.
        seen(&run.inject(3, &squeeze(64), None), &["n1 holds"]);
        run.undos()[0].carry_out().unwrap();
        let (faded, _) = run.heal(3);
        assert!(
            faded
                .unwrap()
                .contains("n1 was found to have another limit")
        );
    }
    seen(
        &run.inject(4, &squeeze(32), Some("rlimit")),
        &["n1 may have 32 MiB", "rlimit"],
    );
    assert!(run.ask(1, "/hold").is_err());
    seen(&run.heal_whole(4), &["n1 was restarted and answers"]);
    seen(
        &run.inject(5, &squeeze(256), Some("rlimit")),
        &["n1 may have 256 MiB"],
    );
    run.ask(1, "/hold").unwrap();
    seen(
        &run.heal_whole(5),
        &["may have the memory that it had before", "n1 runs already"],
    );
    not_seen(
        &run.inject(6, &squeeze(1), Some("prayer")),
        "nothing limits memory by",
    );
}

#[test]
fn nothing_is_left_when_a_run_has_ended() {
    let mut run = Run::start("left", 2);
    let groups = run.substrate.cluster.custody.groups.distinct();
    let keeper = run.substrate.cluster.custody.keeper.identity().unwrap();
    let via = run.group(1, Controller::Freezer).map(|_| "freezer");
    seen(&run.inject(1, &Action::Pause(vec![1]), via), &["n1 is"]);
    assert!(groups.iter().all(Group::exists) && keeper.is_alive());
    let Run { substrate, scratch } = run;
    drop(substrate);
    assert!(!groups.iter().any(Group::exists));
    assert!(!keeper.is_alive());
    assert!(!scratch.0.join(LEASES).exists());
}
