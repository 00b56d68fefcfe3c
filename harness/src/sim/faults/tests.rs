//! Each fault: done, proven by what it does, healed, and that proven too.

use nemesis::{
    Action, ClockFault, Command, CrashPoint, DiskFault, Endpoint, Impairment, Link, Node, Proof,
    Stored,
};
use reference_cluster::core::config::{Config, Mode};

use super::super::tests::{SECOND, heal, inject, not_seen, pass, raft, seen, start, write};
use super::{MS, capabilities};
use crate::sim::SimSubstrate;
use crate::substrate::{Happening, Substrate};

/// Two replicas of three, and clients, as links to and from n2.
fn links(from_clients: bool) -> Vec<Link> {
    let node = Endpoint::Node;
    let mut links: Vec<Link> = [(1, 2), (2, 1), (3, 2), (2, 3)]
        .map(|(from, to)| Link {
            from: node(from),
            to: node(to),
        })
        .into();
    if from_clients {
        links = vec![Link {
            from: Endpoint::Clients,
            to: node(2),
        }];
    }
    links
}

/// Injects something that takes effect only once the node writes, and writes meanwhile.
fn inject_under_load(sim: &mut SimSubstrate, id: u32, action: &Action) -> Proof {
    sim.inject(id, action, None);
    load(sim, id)
}

/// Writes at n1 until the fault is proven, or not.
fn load(sim: &mut SimSubstrate, id: u32) -> Proof {
    for value in 1_000.. {
        let (key, value) = (checkers::Value::str("k"), checkers::Value::Int(value));
        let invocation = workloads::Invocation::new(checkers::F::Write, Some(key), value);
        sim.call(0, 1, &invocation);
        match sim.next(sim.now() + 10 * SECOND) {
            Happening::Injected { id: of, proof } if of == id => return proof,
            Happening::Completed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    unreachable!()
}

fn one_log() -> [Config; 2] {
    [Config::default(), raft()]
}

fn clock_of(sim: &SimSubstrate, node: Node) -> (u64, i128) {
    sim.nodes[usize::from(node) - 1].clocks(sim.now())
}

#[test]
fn everything_but_memory_bandwidth_of_disks_and_orchestration_is_known() {
    for kind in nemesis::FaultKind::ALL {
        let obstacle = capabilities().obstacle(kind).map(str::to_owned);
        assert_eq!(
            obstacle.is_some(),
            matches!(
                kind,
                nemesis::FaultKind::Memory | nemesis::FaultKind::ThrottleDisk
            ) || nemesis::FaultKind::ORCHESTRATED.contains(&kind),
            "{kind:?}"
        );
    }
    let mut sim = start(Config::default(), 3);
    let squeeze = Action::Memory(vec![1], 16);
    not_seen(&inject(&mut sim, 1, &squeeze), "no memory to squeeze");
    seen(&heal(&mut sim, 1), "nothing to heal");
}

#[test]
fn a_process_ends_at_each_point_and_what_was_written_stays() {
    for config in one_log() {
        for point in CrashPoint::ALL {
            let mut sim = start(config.clone(), 3);
            for value in 0..20 {
                let leader = sim.view().leader().unwrap();
                write(&mut sim, leader, value);
            }
            let leader = sim.view().leader().unwrap();
            assert_eq!(leader, 1);
            let before = sim.view().nodes[0].last_index;
            let crash = Action::Crash(vec![1], point);
            let proof = inject_under_load(&mut sim, 1, &crash);
            seen(
                &proof,
                &format!("1 of 1 processes ended at {}", point.name()),
            );
            assert!(sim.nodes[0].replica.is_none());
            // Written, and at two of the points synced; nobody was told.
            let disk = &sim.nodes[0].disk;
            assert_eq!(disk.unsynced() > 0, point == CrashPoint::BeforeFsync);
            seen(&heal(&mut sim, 1), "1 of 1 processes run");
            pass(&mut sim, 5 * SECOND);
            let after = sim.view();
            assert!(after.nodes.iter().all(|n| n.last_index > before));
        }
    }
}

#[test]
fn what_is_synced_but_not_told_is_in_no_reply_and_in_no_message() {
    let replied = |point| {
        let mut sim = start(Config::default(), 3);
        write(&mut sim, 1, 1);
        pass(&mut sim, SECOND);
        sim.inject(1, &Action::Crash(vec![1], point), None);
        let (key, value) = (checkers::Value::str("k"), checkers::Value::Int(7));
        let invocation = workloads::Invocation::new(checkers::F::Write, Some(key), value);
        sim.call(0, 1, &invocation);
        let outcome = loop {
            match sim.next(sim.now() + 10 * SECOND) {
                Happening::Completed { completion, .. } => break completion.outcome,
                Happening::Injected { proof, .. } => seen(&proof, "1 of 1"),
                other => panic!("{other:?}"),
            }
        };
        pass(&mut sim, SECOND);
        let follower = sim.view().nodes[1].last_index;
        let written = sim.nodes[0].disk.recover().unwrap().len();
        (outcome, follower, written)
    };
    let (fsync, _, before) = replied(CrashPoint::BeforeFsync);
    let (apply, _, at_apply) = replied(CrashPoint::BeforeApply);
    let (reply, _, at_reply) = replied(CrashPoint::BeforeReply);
    // The client learns nothing at any of them.
    for outcome in [fsync, apply, reply] {
        assert_eq!(outcome, checkers::Outcome::Info);
    }
    assert_eq!((before, at_apply), (at_apply, at_reply));
}

#[test]
fn a_point_that_is_not_passed_is_not_seen_and_not_passed_later() {
    let config = Config {
        fsync: reference_cluster::core::config::Fsync::Never,
        ..Config::default()
    };
    let mut sim = start(config, 3);
    let crash = Action::Crash(vec![1, 2], CrashPoint::BeforeFsync);
    let proof = inject_under_load(&mut sim, 1, &crash);
    not_seen(
        &proof,
        "0 of 2 processes ended at before-fsync; 2 did not pass",
    );
    assert!(sim.nodes.iter().all(|n| n.trap.is_none()));
    seen(&heal(&mut sim, 1), "2 of 2 processes run");
}

#[test]
fn a_throttled_process_works_its_share_and_no_more() {
    let mut sim = start(raft(), 3);
    let proof = inject(&mut sim, 1, &Action::Cpu(vec![2], 20));
    seen(
        &proof,
        "1 of 1 processes worked, and all did nothing for 80 ms in 2 of 2 periods",
    );
    // It answers who asks it how it stands, in the end.
    assert!(sim.view().nodes[1].role.is_some());
    pass(&mut sim, SECOND / 2);
    seen(&heal(&mut sim, 1), "1 of 1 processes go on");
    assert_eq!((sim.nodes[1].paused, sim.nodes[1].throttled), (0, 0));
    let proof = inject(&mut sim, 2, &Action::Cpu(vec![2], 100));
    not_seen(&proof, "0 of 0 periods");
    seen(&heal(&mut sim, 2), "go on");
}

#[test]
fn a_process_that_ends_under_a_fault_lets_it_fade() {
    let mut sim = start(Config::default(), 3);
    seen(&inject(&mut sim, 1, &Action::Cpu(vec![3], 50)), "worked");
    seen(&inject(&mut sim, 2, &Action::Kill(vec![3])), "gone");
    seen(&heal(&mut sim, 2), "run");
    sim.heal(1);
    let Happening::Faded { id: 1, why } = sim.next(sim.now() + SECOND) else {
        panic!("it has not faded");
    };
    assert!(why.contains("n3 has ended"), "{why}");
}

#[test]
fn links_are_disturbed_as_much_as_was_asked() {
    for from_clients in [false, true] {
        let mut sim = start(Config::default(), 3);
        let loss = |percent| Impairment {
            loss_percent: percent,
            ..Impairment::default()
        };
        let reorder = Impairment {
            reorder_percent: 25,
            ..Impairment::default()
        };
        let duplicate = Impairment {
            duplicate_percent: 10,
            ..Impairment::default()
        };
        let kinds = [
            (loss(1), "were lost; 1% were asked"),
            (loss(30), "were lost; 30% were asked"),
            (loss(100), "were lost; 100% were asked"),
            (reorder, "were overtaken; 25% were asked"),
            (duplicate, "came twice; 10% were asked"),
        ];
        for (id, (impairment, text)) in (1..).zip(kinds) {
            let links = links(from_clients);
            let action = Action::Impair { links, impairment };
            seen(&inject(&mut sim, id, &action), text);
            seen(&heal(&mut sim, id), text);
        }
    }
}

#[test]
fn a_disturbance_that_is_not_there_is_not_seen() {
    let mut sim = start(Config::default(), 3);
    let impairment = Impairment {
        loss_percent: 5,
        ..Impairment::default()
    };
    let action = Action::Impair {
        links: links(false),
        impairment,
    };
    sim.inject(1, &action, None);
    for link in links(false) {
        sim.network.impair(link, Impairment::default());
    }
    // The probes had left already; those after them find the links well.
    let first = sim.next(sim.now() + 60 * SECOND);
    assert!(matches!(first, Happening::Injected { .. }));
    seen(&heal(&mut sim, 1), "were lost");
    // And the other way round: one that stays is not healed.
    seen(&inject(&mut sim, 2, &action), "were lost");
    sim.heal(2);
    pass_probes_through(&mut sim, impairment);
}

/// Impairs the links again while they are proven to be well, and expects that to be noticed.
fn pass_probes_through(sim: &mut SimSubstrate, impairment: Impairment) {
    let healed = sim.next(sim.now() + 60 * SECOND);
    assert!(matches!(
        healed,
        Happening::Healed {
            proof: Proof::Seen(_),
            ..
        }
    ));
    let calm = Action::Impair {
        links: links(false),
        impairment,
    };
    let active = sim.active(calm.clone(), false);
    sim.observe_fault(9, active);
    let Happening::Injected { proof, .. } = sim.next(sim.now() + 60 * SECOND) else {
        panic!("no proof");
    };
    not_seen(&proof, "were lost; 5% were asked");
    for link in links(false) {
        sim.network.impair(link, impairment);
    }
    let active = sim.active(calm, true);
    sim.observe_fault(9, active);
    let Happening::Healed { proof, .. } = sim.next(sim.now() + 60 * SECOND) else {
        panic!("no proof");
    };
    not_seen(&proof, "were lost; 5% were asked");
}

#[test]
fn jitter_and_bandwidth_are_measured() {
    let mut sim = start(Config::default(), 3);
    let kinds = [
        Impairment {
            latency_ms: 50,
            jitter_ms: 50,
            ..Impairment::default()
        },
        Impairment {
            bandwidth_kib_s: Some(64),
            ..Impairment::default()
        },
        Impairment {
            bandwidth_kib_s: Some(1),
            latency_ms: 20,
            ..Impairment::default()
        },
    ];
    for (id, impairment) in (1..).zip(kinds) {
        let action = Action::Impair {
            links: links(false),
            impairment,
        };
        seen(&inject(&mut sim, id, &action), "were asked");
        seen(&heal(&mut sim, id), "were asked");
    }
}

#[test]
fn a_torn_write_loses_the_record_and_nothing_else() {
    let mut sim = start(Config::default(), 3);
    for value in 0..20 {
        write(&mut sim, 1, value);
    }
    pass(&mut sim, SECOND);
    let tear = Action::TornWrite(vec![2]);
    let had = sim.nodes[1].disk.len();
    let proof = inject_under_load(&mut sim, 1, &tear);
    seen(
        &proof,
        "1 of 1 machines lost power in the middle of a write",
    );
    assert_eq!(sim.nodes[1].disk.len(), had);
    seen(&heal(&mut sim, 1), "1 of 1 processes run");
    // Where nothing is written nothing tears, and nothing happens.
    pass(&mut sim, 2 * SECOND);
    let proof = inject(&mut sim, 2, &tear);
    not_seen(&proof, "1 wrote nothing in 4 s");
    assert!(sim.nodes[1].replica.is_some());
}

#[test]
fn a_flipped_bit_is_refused_and_the_node_starts_on_nothing() {
    for config in one_log() {
        let mut sim = start(config, 3);
        for value in 0..20 {
            write(&mut sim, 1, value);
        }
        let snapshot = Action::Admin(2, Command::Snapshot(2));
        let flip = |file| Action::BitFlip(vec![2], file);
        let has_none = sim.nodes[1].disk.len();
        assert!(has_none > 0);
        not_seen(
            &inject(&mut sim, 1, &flip(Stored::Snapshot)),
            "n2 has no snapshot",
        );
        seen(&heal(&mut sim, 1), "1 of 1 processes run");
        pass(&mut sim, SECOND);
        seen(&inject(&mut sim, 2, &snapshot), "n2 has a new snapshot");
        seen(&heal(&mut sim, 2), "stays as it is");
        write(&mut sim, 1, 21);
        pass(&mut sim, SECOND);
        let length = sim.view().nodes[0].last_index;
        for (id, file) in [(3, Stored::Snapshot), (4, Stored::Log)] {
            let proof = inject(&mut sim, id, &flip(file));
            seen(&proof, "1 of 1 processes are gone; record");
            // Of the log it may be the last record, which is then taken for torn.
            let refused = sim.nodes[1].disk.recover().is_err();
            let proof = heal(&mut sim, id);
            let note = if refused {
                "n2 was started on nothing: record"
            } else {
                "run"
            };
            seen(&proof, note);
            assert!(refused || file == Stored::Log);
            pass(&mut sim, 5 * SECOND);
            assert_eq!(sim.view().nodes[1].last_index, length);
        }
    }
}

#[test]
fn a_full_or_read_only_disk_ends_the_process_that_writes() {
    for (fault, text) in [
        (DiskFault::Full, "refuse a write: no space"),
        (DiskFault::ReadOnly, "refuse a write: read-only"),
    ] {
        let mut sim = start(Config::default(), 3);
        write(&mut sim, 1, 1);
        let proof = inject(&mut sim, 1, &Action::Disk(vec![2], fault));
        seen(&proof, text);
        // Without anything to write it goes on.
        assert!(sim.nodes[1].replica.is_some());
        let had = sim.nodes[1].disk.len();
        write(&mut sim, 1, 2);
        pass(&mut sim, SECOND);
        assert!(sim.nodes[1].replica.is_none());
        assert_eq!(sim.nodes[1].disk.len(), had);
        seen(&heal(&mut sim, 1), "1 of 1 disks are well");
        pass(&mut sim, 5 * SECOND);
        let view = sim.view();
        assert_eq!(view.nodes[1].last_index, view.nodes[0].last_index);
    }
}

#[test]
fn a_slow_disk_delays_what_waits_for_it() {
    let mut sim = start(Config::default(), 3);
    let proof = inject(&mut sim, 1, &Action::Disk(vec![1], DiskFault::Slow(200)));
    seen(&proof, "200 ms more were asked");
    let begun = sim.now();
    write(&mut sim, 1, 1);
    assert!(sim.now() - begun >= 400 * MS);
    seen(&heal(&mut sim, 1), "1 of 1 disks are well");
    let begun = sim.now();
    write(&mut sim, 1, 2);
    assert!(sim.now() - begun < 100 * MS);
}

#[test]
fn a_sync_that_fails_ends_the_process_and_what_it_dropped_goes_with_the_power() {
    let mut sim = start(Config::default(), 3);
    for value in 0..20 {
        write(&mut sim, 1, value);
    }
    let fault = Action::Disk(vec![1], DiskFault::FsyncError);
    let proof = inject_under_load(&mut sim, 1, &fault);
    seen(
        &proof,
        "1 of 1 disks fail a sync: input/output error; 1 of 1 processes ended",
    );
    assert!(sim.nodes[0].disk.unsynced() > 0);
    let had = sim.nodes[0].disk.len();
    seen(&heal(&mut sim, 1), "1 of 1 disks are well");
    pass(&mut sim, 2 * SECOND);
    assert!(sim.nodes[0].disk.len() >= had);
    assert_eq!(sim.nodes[0].disk.unsynced(), 0);
    seen(&inject(&mut sim, 2, &Action::PowerLoss(vec![1])), "gone");
    // What was synced since is after a hole.
    assert!(sim.nodes[0].disk.recover().is_err());
    seen(&heal(&mut sim, 2), "n1 was started on nothing: record");
}

#[test]
fn a_node_that_is_rolled_back_has_an_older_log() {
    let mut sim = start(Config::default(), 3);
    for value in 0..20 {
        write(&mut sim, 1, value);
    }
    pass(&mut sim, 3 * SECOND);
    let then = sim.nodes[2].disk.len();
    for value in 0..10 {
        write(&mut sim, 1, value);
    }
    pass(&mut sim, SECOND);
    assert!(sim.nodes[2].disk.len() > then);
    let back = |age_ms| Action::Rollback(vec![3], age_ms);
    seen(&inject(&mut sim, 1, &back(2_000)), "2000 ms old at least");
    assert_eq!(sim.nodes[2].disk.len(), then);
    seen(&heal(&mut sim, 1), "1 of 1 processes run");
    pass(&mut sim, 3 * SECOND);
    let view = sim.view();
    assert_eq!(view.nodes[2].last_index, view.nodes[0].last_index);
    not_seen(&inject(&mut sim, 2, &back(100)), "n3 has written nothing");
    seen(&heal(&mut sim, 2), "run");
    // Older than the run.
    seen(
        &inject(&mut sim, 3, &back(1_000_000)),
        "has 0, 1000000 ms old",
    );
    seen(&heal(&mut sim, 3), "run");
}

#[test]
fn a_jump_moves_the_wall_clock_alone() {
    let mut sim = start(Config::default(), 3);
    for (id, by_ms) in [(1, 60_000), (2, -3_000)] {
        let (monotonic, wall) = clock_of(&sim, 2);
        let begun = sim.now();
        let jump = Action::Clock(vec![2], ClockFault::Jump(by_ms));
        seen(
            &inject(&mut sim, id, &jump),
            &format!("shows {by_ms:+}.0 ms"),
        );
        let (now_monotonic, now_wall) = clock_of(&sim, 2);
        let passed = sim.now() - begun;
        assert!(now_monotonic - monotonic < passed + MS);
        let step = now_wall - wall - i128::from(passed);
        assert!((step - i128::from(by_ms) * 1_000_000).abs() < 1_000_000);
        seen(&heal(&mut sim, id), "1 of 1 clocks are right");
        assert_eq!(sim.nodes[1].step, 0);
    }
}

#[test]
fn a_clock_that_drifts_takes_timeouts_with_it_and_is_set_right() {
    let mut sim = start(Config::default(), 3);
    for (id, ppm) in [(1, 250), (2, 400_000), (3, -900_000), (4, -999_999)] {
        let before = sim.nodes[2].clock.drift_ppm();
        let drift = Action::Clock(vec![3], ClockFault::Drift(ppm));
        seen(
            &inject(&mut sim, id, &drift),
            &format!("{ppm} ppm were asked"),
        );
        pass(&mut sim, 2 * SECOND);
        seen(&heal(&mut sim, id), "1 of 1 clocks are right");
        assert_eq!(sim.nodes[2].clock.drift_ppm(), before);
    }
    // A follower whose clock runs much faster does not hear from its leader in time.
    let config = Config {
        pre_vote: false,
        ..raft()
    };
    let mut sim = start(config, 3);
    let epoch = sim.view().nodes[0].epoch;
    let drift = Action::Clock(vec![3], ClockFault::Drift(30_000_000));
    seen(&inject(&mut sim, 9, &drift), "ppm were asked");
    pass(&mut sim, 5 * SECOND);
    assert!(sim.view().nodes.iter().any(|n| n.epoch > epoch));
}

#[test]
fn a_strobe_sets_the_clock_there_and_back() {
    let mut sim = start(Config::default(), 3);
    let fault = ClockFault::Strobe {
        by_ms: 500,
        every_ms: 40,
    };
    let proof = inject(&mut sim, 1, &Action::Clock(vec![1, 2], fault));
    seen(&proof, "wrong by 500 ms 4 times");
    let mut steps = std::collections::BTreeSet::new();
    for _ in 0..20 {
        pass(&mut sim, 13 * MS);
        steps.insert(sim.nodes[0].step);
    }
    assert_eq!(Vec::from_iter(steps), [0, 500 * 1_000_000]);
    seen(&heal(&mut sim, 1), "2 of 2 clocks are right");
    pass(&mut sim, SECOND);
    assert_eq!((sim.nodes[0].step, sim.nodes[1].step), (0, 0));
}

#[test]
fn a_snapshot_shortens_the_journal_in_every_mode() {
    for mode in [
        Mode::SingleLeader,
        Mode::Raft,
        Mode::MultiLeader,
        Mode::Leaderless,
    ] {
        let config = Config {
            mode,
            ..Config::default()
        };
        let mut sim = start(config, 3);
        for value in 0..50 {
            write(&mut sim, 1, value);
        }
        pass(&mut sim, SECOND);
        for node in 1..=3 {
            let had = sim.nodes[usize::from(node) - 1].disk.len();
            let snapshot = Action::Admin(node, Command::Snapshot(node));
            let text = format!("n{node} has a new snapshot");
            seen(&inject(&mut sim, node.into(), &snapshot), &text);
            pass(&mut sim, SECOND);
            let has = sim.nodes[usize::from(node) - 1].disk.len();
            assert!(has < had / 3, "{mode:?}: {has} of {had}");
        }
        // Nothing is lost by it, neither at once nor after a restart.
        let digest = |sim: &SimSubstrate, node: usize| {
            let replica = sim.nodes[node - 1].replica.as_ref().unwrap();
            replica.digest()
        };
        let before = digest(&sim, 3);
        seen(&inject(&mut sim, 9, &Action::Wipe(vec![2])), "gone");
        seen(&heal(&mut sim, 9), "run");
        seen(&inject(&mut sim, 10, &Action::Kill(vec![3])), "gone");
        seen(&heal(&mut sim, 10), "run");
        pass(&mut sim, 10 * SECOND);
        assert_eq!(digest(&sim, 3), before, "{mode:?}");
        if mode != Mode::Leaderless {
            assert_eq!(digest(&sim, 2), before, "{mode:?}");
        }
    }
}

#[test]
fn a_downgrade_is_refused_where_the_journal_is_newer() {
    let config = |mode, storage_version| Config {
        mode,
        storage_version,
        ..Config::default()
    };
    let downgrade = Action::Downgrade(vec![2]);
    let mut sim = start(config(Mode::SingleLeader, 2), 3);
    write(&mut sim, 1, 1);
    let refusal = "n2 refuses: the journal is in storage format 2, this node reads up to 1";
    not_seen(&inject(&mut sim, 1, &downgrade), refusal);
    not_seen(&heal(&mut sim, 1), refusal);
    // An upgrade takes it back.
    let upgrade = Action::Upgrade(vec![2]);
    seen(
        &inject(&mut sim, 2, &upgrade),
        "1 of 1 nodes write storage format 2",
    );
    // Modes whose records are the same in all versions take them.
    for mode in [Mode::Raft, Mode::MultiLeader, Mode::Leaderless] {
        let mut sim = start(config(mode, 2), 3);
        write(&mut sim, 1, 1);
        let proof = inject(&mut sim, 1, &downgrade);
        seen(&proof, "1 of 1 nodes write storage format 1");
        seen(&heal(&mut sim, 1), "1 of 1 nodes write storage format 1");
        not_seen(&inject(&mut sim, 2, &downgrade), "the oldest there is");
    }
}
