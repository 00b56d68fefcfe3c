//! A cluster and a substrate made of nothing but numbers, and the nemesis at work on them.

use proptest::prelude::*;

use super::*;
use crate::action::{Command, Endpoint, NodeView};
use crate::package::{packages, select};

const MS: u64 = 1_000_000;

/// A cluster whose leader is replaced by the next node whenever it is taken down.
#[derive(Clone)]
struct Cluster {
    leader: Option<Node>,
    nodes: Node,
}

impl Cluster {
    fn view(&self) -> View {
        let nodes = (1..=self.nodes).map(|node| NodeView {
            node,
            role: Some(
                if Some(node) == self.leader {
                    "leader"
                } else {
                    "follower"
                }
                .to_owned(),
            ),
            epoch: 1,
            last_index: 0,
            leader: self.leader,
            ..NodeView::silent(node)
        });
        View {
            nodes: nodes.collect(),
            ..View::default()
        }
    }
}

/// What a nemesis did, as seen by the substrate.
#[derive(Debug, Default, PartialEq)]
struct Log {
    /// When, what.
    injected: Vec<(u64, Action)>,
    /// When, which of `injected`.
    healed: Vec<(u64, usize)>,
}

/// Runs a nemesis until it is done; proofs take `delay`, and it is stopped at `stop`.
fn run(nemesis: &mut Nemesis, cluster: &mut Cluster, delay: u64, stop: u64) -> Log {
    let mut log = Log::default();
    let mut ids: Vec<u32> = Vec::new();
    let mut reports: Vec<(u64, u32, bool)> = Vec::new();
    let mut now = 0;
    let mut stopped = false;
    loop {
        if now >= stop && !stopped {
            stopped = true;
            nemesis.stop(now);
        }
        reports.retain(|&(at, id, injection)| {
            if at > now {
                return true;
            }
            if injection {
                nemesis.injected(id, now, &Proof::Seen("it is so".to_owned()));
            } else {
                nemesis.healed(id, now, &Proof::NotSeen("it is not so".to_owned()));
            }
            false
        });
        match nemesis.next(now, &cluster.view()) {
            Step::Inject { id, order, .. } => {
                let action = order.action().clone();
                if let (Action::Kill(nodes), Some(leader)) = (&action, cluster.leader)
                    && nodes.contains(&leader)
                {
                    cluster.leader = Some(leader % cluster.nodes + 1);
                }
                assert_no_conflict(&log, &action);
                log.injected.push((now, action));
                ids.push(id);
                reports.push((now + delay, id, true));
            }
            Step::Heal { id } => {
                let place = ids
                    .iter()
                    .position(|&other| other == id)
                    .expect("was injected");
                assert!(log.healed.iter().all(|&(_, p)| p != place), "healed twice");
                log.healed.push((now, place));
                reports.push((now + delay, id, false));
            }
            Step::Wait(until) => {
                assert!(until > now, "it would be asked for ever at {now}");
                let report = reports.iter().map(|&(at, ..)| at).min().unwrap_or(u64::MAX);
                let mut next = until.min(report);
                if !stopped {
                    next = next.min(stop);
                }
                assert!(next < u64::MAX, "it waits for nothing");
                now = next.max(now + 1);
            }
            Step::Done => return log,
        }
    }
}

/// No node is taken down twice at once, no link is cut or slowed twice at once.
fn assert_no_conflict(log: &Log, action: &Action) {
    let under_way = log.injected.iter().enumerate();
    for (place, (_, other)) in under_way {
        if log.healed.iter().any(|&(_, healed)| healed == place) {
            continue;
        }
        match (action, other) {
            (
                Action::Kill(a)
                | Action::Pause(a)
                | Action::PowerLoss(a)
                | Action::Wipe(a)
                | Action::Upgrade(a),
                Action::Kill(b)
                | Action::Pause(b)
                | Action::PowerLoss(b)
                | Action::Wipe(b)
                | Action::Upgrade(b),
            ) => assert!(
                a.iter().all(|n| !b.contains(n)),
                "{action:?} during {other:?}"
            ),
            (
                Action::Cut(a) | Action::Impair { links: a, .. },
                Action::Cut(b) | Action::Impair { links: b, .. },
            ) => assert!(
                a.iter().all(|l| !b.contains(l)),
                "{action:?} during {other:?}"
            ),
            (
                Action::Cut(a) | Action::Impair { links: a, .. },
                Action::Kill(b)
                | Action::Pause(b)
                | Action::PowerLoss(b)
                | Action::Wipe(b)
                | Action::Upgrade(b),
            ) => {
                for node in b {
                    let end = Endpoint::Node(*node);
                    assert!(a.iter().all(|l| l.from != end && l.to != end));
                }
            }
            _ => {}
        }
    }
}

fn five() -> Cluster {
    Cluster {
        leader: Some(2),
        nodes: 5,
    }
}

fn action(step: Step) -> Option<Action> {
    match step {
        Step::Inject { order, .. } => Some(order.action().clone()),
        _ => None,
    }
}

fn nemesis(yaml: &str) -> Nemesis {
    let schedule = Schedule::parse(yaml).expect("readable");
    schedule
        .validate(5, &Capabilities::all())
        .expect("possible");
    Nemesis::from_schedule(&schedule, 5, 1)
}

#[test]
fn a_fault_is_injected_proven_healed_and_recorded() {
    let mut nemesis = nemesis("- {at: 1s, for: 2s, fault: kill, target: leader}");
    let view = five().view();
    assert_eq!(nemesis.next(0, &view), Step::Wait(1_000 * MS));
    let Step::Inject {
        id,
        description,
        order,
    } = nemesis.next(1_003 * MS, &view)
    else {
        panic!("its time has come");
    };
    assert_eq!(*order.action(), Action::Kill(vec![2]));
    assert_eq!(description.to_string(), "kill n2 (leader)");
    assert_eq!(
        description.pairs(),
        [("fault", "kill"), ("targets", "n2"), ("selected", "leader")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    // Its proof is awaited, however long that takes.
    assert_eq!(nemesis.next(9_000 * MS, &view), Step::Wait(u64::MAX));
    assert_eq!(nemesis.active()[0].phase, Phase::Injecting);
    nemesis.injected(
        id,
        1_100 * MS,
        &Proof::Seen("the process is gone".to_owned()),
    );
    assert_eq!(nemesis.next(1_100 * MS, &view), Step::Wait(3_003 * MS));
    assert_eq!(nemesis.active()[0].phase, Phase::Active);
    assert_eq!(nemesis.next(3_003 * MS, &view), Step::Heal { id });
    assert_eq!(nemesis.next(3_003 * MS, &view), Step::Wait(u64::MAX));
    nemesis.healed(id, 3_200 * MS, &Proof::Seen("it answers".to_owned()));
    assert_eq!(nemesis.next(3_200 * MS, &view), Step::Done);
    assert!(nemesis.active().is_empty());
    assert_eq!(
        nemesis.realised().to_yaml(),
        "version: 1
faults:
- at: 1s 3ms
  for: 2s
  fault: kill
  target: n2
  was: leader
  injected_at: 1s 100ms
  seen: true
  proof: the process is gone
  healed_at: 3s 200ms
  gone: true
  heal_proof: it answers
"
    );
}

#[test]
fn without_a_leader_it_retries_and_then_gives_up() {
    let mut cluster = five();
    cluster.leader = None;
    let yaml = "- {at: 1s, for: 2s, fault: partition, shape: isolate, target: leader}";
    let mut gives_up = nemesis(yaml);
    let log = run(&mut gives_up, &mut cluster, MS, u64::MAX);
    assert_eq!(log, Log::default());
    let entry = &gives_up.realised().faults[0];
    let reason = entry.realised.as_ref().and_then(|r| r.skipped.as_deref());
    assert_eq!(reason, Some("no leader is known"));
    let replay = Nemesis::from_schedule(&gives_up.realised(), 5, 9);
    assert!(replay.slots.is_empty());

    let mut late = nemesis(yaml);
    assert_eq!(
        late.next(1_000 * MS, &cluster.view()),
        Step::Wait(1_100 * MS)
    );
    assert!(matches!(
        late.next(2_900 * MS, &five().view()),
        Step::Inject { .. }
    ));
    late.injected(0, 2_900 * MS, &Proof::Seen(String::new()));
    // It keeps its length.
    assert_eq!(
        late.next(2_900 * MS, &five().view()),
        Step::Wait(4_900 * MS)
    );
}

#[test]
fn a_former_leader_is_the_one_before() {
    let mut nemesis = nemesis("- {at: 2s, for: 2s, fault: pause, target: former-leader}");
    let mut cluster = five();
    assert_eq!(nemesis.next(0, &cluster.view()), Step::Wait(2_000 * MS));
    assert_eq!(
        nemesis.next(2_000 * MS, &cluster.view()),
        Step::Wait(2_100 * MS)
    );
    cluster.leader = None;
    nemesis.next(2_050 * MS, &cluster.view());
    cluster.leader = Some(5);
    let step = nemesis.next(2_100 * MS, &cluster.view());
    assert_eq!(action(step), Some(Action::Pause(vec![2])));
}

#[test]
fn a_fault_waits_for_another_on_the_same_node_or_link() {
    // The second comes when the first is healed; the third finds another node at once.
    let mut nemesis = nemesis(
        "
- {at: 1s, for: 2s, fault: pause, target: n3}
- {at: 2s, for: 2s, fault: kill, target: n3}
- {at: 2s, for: 2s, fault: pause, target: random(4)}
- {at: 2s, for: 5s, fault: partition, shape: isolate, target: n1}
",
    );
    let log = run(&mut nemesis, &mut five(), 0, u64::MAX);
    assert_eq!(log.injected[0], (1_000 * MS, Action::Pause(vec![3])));
    assert_eq!(
        log.injected[1],
        (2_000 * MS, Action::Pause(vec![1, 2, 4, 5]))
    );
    assert!(matches!(&log.injected[2], (at, Action::Kill(n)) if *at >= 3_000 * MS && *n == [3]));
    // Links of nodes that are down cannot be proven cut.
    assert!(matches!(&log.injected[3], (at, Action::Cut(_)) if *at >= 5_000 * MS));
}

#[test]
fn stopping_heals_everything_and_injects_nothing_more() {
    let mut nemesis = nemesis(
        "
- {at: 1s, for: 60s, fault: kill, target: n3}
- {at: 1s, for: 60s, fault: partition, shape: isolate, target: n1}
- {at: 30s, for: 1s, fault: kill, target: n4}
",
    );
    // The cut waits for n3, which is down until the end.
    let log = run(&mut nemesis, &mut five(), 10 * MS, 5_000 * MS);
    assert_eq!(log.injected.len(), 1);
    assert_eq!(log.healed, [(5_000 * MS, 0)]);
    let realised = nemesis.realised();
    assert_eq!(realised.faults[0].lasting, Duration::from_secs(4));
    let reason = |place: usize| {
        let entry = realised.faults[place].realised.as_ref();
        entry.and_then(|r| r.skipped.clone()).unwrap_or_default()
    };
    assert_eq!(
        reason(1),
        "the run ended before it; it met another fault: kill n3"
    );
    assert_eq!(reason(2), "the run ended before it");
}

#[test]
fn an_injection_without_a_report_is_healed_all_the_same() {
    let mut nemesis = nemesis("- {at: 0s, for: 1s, fault: kill, target: n3}");
    let view = five().view();
    assert!(matches!(nemesis.next(0, &view), Step::Inject { .. }));
    nemesis.stop(500 * MS);
    assert_eq!(nemesis.next(500 * MS, &view), Step::Wait(STOP_GRACE_NS));
    assert_eq!(nemesis.next(STOP_GRACE_NS, &view), Step::Heal { id: 0 });
}

#[test]
fn commands_are_resolved_to_whom_to_ask() {
    let ask = |fault: &str| {
        let mut nemesis = nemesis(&format!("- {{at: 0s, for: 1s, {fault}}}"));
        action(nemesis.next(0, &five().view()))
    };
    // n2 leads.
    for (fault, asked, command) in [
        ("remove-member, target: n3", 2, Command::RemoveMember(3)),
        ("remove-member, target: leader", 2, Command::RemoveMember(2)),
        ("add-member, target: n4", 2, Command::AddMember(4)),
        (
            "replace-member, target: n4, by: n5",
            2,
            Command::ReplaceMember(4, 5),
        ),
        (
            "transfer-leadership, target: n1",
            2,
            Command::TransferLeadership(1),
        ),
        ("move-home, target: n1, to: n3", 3, Command::TakeHome(1)),
    ] {
        let action = ask(&format!("fault: {fault}"));
        assert_eq!(action, Some(Action::Admin(asked, command)), "{fault}");
    }
    for impossible in [
        "transfer-leadership, target: leader",
        "replace-member, target: leader, by: n2",
    ] {
        assert_eq!(ask(&format!("fault: {impossible}")), None);
    }
    let remove = Command::RemoveMember(3);
    assert_eq!(remove.undo(), Command::AddMember(3).requests());
    let replace = Command::ReplaceMember(3, 6);
    assert_eq!(replace.undo(), Command::ReplaceMember(6, 3).requests());
}

#[test]
fn a_node_that_was_never_let_in_is_no_follower_to_remove() {
    let mut nemesis = nemesis("- {at: 0s, for: 1s, fault: remove-member, target: follower}");
    let mut view = five().view();
    for node in &mut view.nodes {
        if node.node != 2 && node.node != 4 {
            node.leader = None;
        }
    }
    let asked = action(nemesis.next(0, &view));
    assert_eq!(asked, Some(Action::Admin(2, Command::RemoveMember(4))));
}

#[test]
fn where_keys_were_moved_to_is_kept_for_replays() {
    let mut nemesis = nemesis("- {at: 0s, for: 1s, fault: move-home, target: n3}");
    let step = nemesis.next(0, &five().view());
    let Some(Action::Admin(to, Command::TakeHome(3))) = action(step) else {
        panic!("not injected")
    };
    assert_ne!(to, 3);
    let fault = &nemesis.realised().faults[0].fault;
    assert_eq!(*fault, Fault::MoveHome { to: Some(to) });
}

#[test]
fn nobody_is_made_leader_or_home_while_down() {
    for (fault, waits) in [
        ("transfer-leadership, target: n3", true),
        ("move-home, target: n1, to: n3", true),
        ("move-home, target: n3, to: n1", false),
        ("remove-member, target: n3", false),
    ] {
        let mut nemesis = nemesis(&format!(
            "- {{at: 0s, for: 1s, fault: kill, target: n3}}\n- {{at: 0s, for: 1s, fault: {fault}}}"
        ));
        let view = five().view();
        assert!(matches!(nemesis.next(0, &view), Step::Inject { .. }));
        let next = nemesis.next(0, &view);
        assert_eq!(matches!(next, Step::Wait(_)), waits, "{fault}: {next:?}");
    }
}

#[test]
fn descriptions_read_well() {
    let show = |fault: &str| -> String {
        let mut nemesis = nemesis(&format!("- {{at: 0s, for: 1s, {fault}}}"));
        match nemesis.next(0, &five().view()) {
            Step::Inject { description, .. } => description.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (fault, text) in [
        ("fault: kill, target: n3", "kill n3"),
        (
            "fault: partition, shape: isolate, target: leader",
            "partition isolate n2 (leader)",
        ),
        (
            "fault: partition, shape: one-way, direction: out, target: [n1, n4]",
            "partition one-way out n1, n4",
        ),
        (
            "fault: partition, shape: halves, order: [n5, n1, n2, n3, n4]",
            "partition halves n1, n5",
        ),
        ("fault: wipe, target: n3", "wipe n3"),
        ("fault: move-home, target: n3, to: n4", "move-home to n4 n3"),
        (
            "fault: replace-member, target: leader, by: n5",
            "replace-member by n5 n2 (leader)",
        ),
        (
            "fault: slow, target: leader, latency: 100ms, bandwidth: 64KiB/s",
            "slow peers 100ms 64KiB/s n2 (leader)",
        ),
    ] {
        assert_eq!(show(fault), text);
    }
}

proptest! {
    /// Whatever is drawn and whenever it is stopped: every fault injected is healed by the end, the
    /// same seed does the same, and the realised schedule, written and read, does it again.
    #[test]
    fn drawn_faults_are_healed_and_replay(
        seed in any::<u64>(),
        nodes in 3_u16..=9,
        picks in proptest::collection::vec(0..packages().len(), 1..4),
        delay in 0..500 * MS,
        stop in (1_000 * MS)..(90_000 * MS),
    ) {
        let names: Vec<&str> = picks.iter().map(|&pick| packages()[pick].name.as_str()).collect();
        let all = Capabilities::all();
        let chosen = select(&names, nodes, &all).expect("known");
        let pace = Pace::until(Duration::from_secs(60));
        let cluster = Cluster { leader: Some(1), nodes };
        let go = |nemesis: &mut Nemesis, seed_of_replay: bool| {
            let stop = if seed_of_replay { u64::MAX } else { stop };
            run(nemesis, &mut cluster.clone(), delay, stop)
        };
        let mut first = Nemesis::from_packages(&chosen, nodes, &all, &pace, seed);
        let log = go(&mut first, false);
        prop_assert_eq!(log.injected.len(), log.healed.len());
        let mut again = Nemesis::from_packages(&chosen, nodes, &all, &pace, seed);
        prop_assert_eq!(&go(&mut again, false), &log);

        let realised = Schedule::parse(&first.realised().to_yaml()).expect("readable");
        prop_assert_eq!(&realised, &first.realised());
        realised.validate(nodes, &all).expect("possible");
        let mut replay = Nemesis::from_schedule(&realised, nodes, seed ^ 1);
        prop_assert_eq!(&go(&mut replay, true).injected, &log.injected);
    }

    /// Overlapping faults of every kind: none is left behind, none conflicts.
    #[test]
    fn crowded_schedules_end_healed(
        seed in any::<u64>(),
        entries in proptest::collection::vec((0_usize..13, 0_u64..10_000, 1_u64..5_000), 1..25),
        delay in 0..300 * MS,
        stop in (1_000 * MS)..(30_000 * MS),
    ) {
        let faults = [
            "fault: kill, target: random",
            "fault: kill, target: leader",
            "fault: pause, target: minority",
            "fault: power-loss, target: random(3)",
            "fault: partition, shape: isolate, target: leader",
            "fault: partition, shape: majorities-ring",
            "fault: partition, shape: clients, target: follower",
            "fault: slow, target: random, latency: 50ms, links: all",
            "fault: wipe, target: follower",
            "fault: upgrade, target: random",
            "fault: move-home, target: random",
            "fault: remove-member, target: follower",
            "fault: transfer-leadership, target: follower",
        ];
        let lines: Vec<String> = entries
            .iter()
            .map(|&(fault, at, lasting)| {
                format!("- {{at: {at}ms, for: {lasting}ms, {}}}\n", faults[fault])
            })
            .collect();
        let schedule = Schedule::parse(&lines.concat()).expect("readable");
        let mut nemesis = Nemesis::from_schedule(&schedule, 5, seed);
        let log = run(&mut nemesis, &mut five(), delay, stop);
        prop_assert_eq!(log.injected.len(), log.healed.len());
        let realised = nemesis.realised();
        let skipped = realised.faults.iter().filter(|entry| entry.skipped()).count();
        prop_assert_eq!(log.injected.len() + skipped, entries.len());
    }
}
