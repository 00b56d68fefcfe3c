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
    let log = run_unchecked(nemesis, cluster, delay, stop);
    for place in 0..log.injected.len() {
        let (at, action) = &log.injected[place];
        let before = Log {
            injected: log.injected[..place].to_vec(),
            healed: (log.healed.iter().copied())
                .filter(|&(healed, other)| healed <= *at && other < place)
                .collect(),
        };
        assert_no_conflict(&before, action);
    }
    log
}

/// The same where faults may be under others.
fn run_unchecked(nemesis: &mut Nemesis, cluster: &mut Cluster, delay: u64, stop: u64) -> Log {
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

mod language {
    //! Programs at work on the same cluster.

    use std::collections::BTreeSet;

    use super::*;
    use crate::Budget;

    fn program(yaml: &str) -> Program {
        let program = Program::parse(yaml).expect("readable");
        program
            .validate_among(5, 0, &Capabilities::all())
            .expect("possible");
        program
    }

    fn walk(yaml: &str, seed: u64, stop_ms: u64) -> (Nemesis, Log) {
        let all = Capabilities::all();
        let mut nemesis = Nemesis::from_program(&program(yaml), 5, &all, seed);
        let log = run(&mut nemesis, &mut five(), 100 * MS, stop_ms * MS);
        (nemesis, log)
    }

    /// What was injected, with its time in milliseconds.
    fn injected(log: &Log) -> Vec<(u64, Action)> {
        let injected = log.injected.iter();
        injected
            .map(|(at, action)| (at / MS, action.clone()))
            .collect()
    }

    fn kill(node: Node) -> Action {
        Action::Kill(vec![node])
    }

    fn reasons(nemesis: &Nemesis) -> Vec<String> {
        let faults = nemesis.realised().faults;
        faults
            .into_iter()
            .filter_map(|entry| entry.realised?.skipped)
            .collect()
    }

    #[test]
    fn a_sequence_waits_until_each_is_healed_and_a_parallel_does_not() {
        let (_, log) = walk(
            "
- at: 1s
  sequence:
    - {fault: kill, target: n1, for: 1s}
    - wait: 500ms
    - {fault: kill, target: n2, for: 1s}
    - {at: 10s, fault: kill, target: n3, for: 1s}
- at: 20s
  parallel:
    - {fault: kill, target: n1, for: 1s}
    - {at: 300ms, fault: kill, target: n2, for: 1s}
",
            1,
            u64::MAX / MS,
        );
        // A proof takes 100 ms.
        assert_eq!(
            injected(&log),
            [
                (1_000, kill(1)),
                (2_600, kill(2)),
                (11_000, kill(3)),
                (20_000, kill(1)),
                (20_300, kill(2)),
            ]
        );
    }

    #[test]
    fn repetitions_keep_their_time_or_come_back_to_back() {
        let (_, log) = walk(
            "
- repeat: 3
  every: 2s
  do: [{fault: kill, target: n1, for: 500ms}]
- at: 10s
  repeat: 2
  do: [{fault: kill, target: n2, for: 500ms}]
- {at: 0s, repeat: 3, do: [{wait: 0s}]}
",
            1,
            u64::MAX / MS,
        );
        assert_eq!(
            injected(&log),
            [
                (0, kill(1)),
                (2_000, kill(1)),
                (4_000, kill(1)),
                (10_000, kill(2)),
                (10_600, kill(2)),
            ]
        );
        // Without end it goes on until the end of the run, and what that cuts off is no matter.
        let yaml = "- {repeat: forever, do: [{wait: 1s}, {fault: kill, target: n1, for: 1s}]}";
        let (nemesis, log) = walk(yaml, 1, 10_000);
        assert_eq!(log.injected.len(), 5);
        assert_eq!(reasons(&nemesis), Vec::<String>::new());
        // A round in which nothing is done must not keep the run from going on.
        let (_, log) = walk("- {repeat: forever, do: [{wait: 0s}]}", 1, 50);
        assert_eq!(log, Log::default());
    }

    #[test]
    fn a_choice_keeps_to_its_weights() {
        let yaml = "
- repeat: 400
  do:
    - choose:
        - {weight: 3, do: [{fault: kill, target: n1, for: 1ms}]}
        - {do: [{fault: kill, target: n2, for: 1ms}]}
";
        let (_, log) = walk(yaml, 7, u64::MAX / MS);
        let ones = log.injected.iter().filter(|(_, a)| *a == kill(1)).count();
        assert_eq!(log.injected.len(), 400);
        assert!((250..=350).contains(&ones), "{ones} of 400");
        assert_ne!(walk(yaml, 8, u64::MAX / MS).1, log);
    }

    #[test]
    fn names_mean_whom_a_fault_hit_and_what_is_inside_is_healed_first() {
        for seed in 0..30 {
            let (nemesis, log) = walk(
                "
- sequence:
    - fault: partition
      shape: isolate
      target: minority
      as: cut
      while:
        - wait: 1s
        - {fault: kill, target: one-of($cut), for: 1s}
    - {fault: pause, target: others($cut), for: 1s}
- at: 20s
  each: $cut
  do: [{fault: kill, target: $node, for: 1s}]
",
                seed,
                u64::MAX / MS,
            );
            // The name was given in another block side by side, so that it is known to both.
            let realised = nemesis.realised().faults;
            let nodes = |place: usize| match &realised[place].target {
                Some(Selector::Nodes(nodes)) => nodes.clone(),
                other => panic!("{other:?}"),
            };
            let (cut, killed, others) = (nodes(0), nodes(1), nodes(2));
            assert_eq!((cut.len(), killed.len(), others.len()), (2, 1, 3));
            assert!(cut.contains(&killed[0]), "{realised:?}");
            assert!(others.iter().all(|node| !cut.contains(node)));
            assert_eq!(realised[1].under.as_deref(), Some("cut"));
            let end = |place: usize| realised[place].at + realised[place].lasting;
            assert!(end(1) < end(0));
            assert_eq!(log.injected.len(), 5);
            assert_eq!([nodes(3)[0], nodes(4)[0]], [cut[0], cut[1]]);
        }
    }

    #[test]
    fn what_is_under_another_in_a_flat_schedule_may_hit_the_same_and_is_healed_first() {
        let flat = "
- {at: 0s, for: 1s, fault: partition, shape: isolate, target: n1, as: cut}
- {at: 500ms, for: 2s, fault: kill, target: $cut, under: cut}
";
        let (_, log) = walk(flat, 1, u64::MAX / MS);
        assert_eq!(injected(&log)[1], (500, kill(1)));
        assert_eq!(log.healed[0].1, 1, "{log:?}");
        assert_eq!(log.healed[1].0, 2_600 * MS, "{log:?}");
        // The same without `under` waits for the cut to be healed.
        let (_, log) = walk(&flat.replace(", under: cut", ""), 1, u64::MAX / MS);
        assert!(injected(&log)[1].0 > 1_000, "{log:?}");
    }

    fn seen(acknowledged: u64, leader: Node) -> View {
        let cluster = Cluster {
            leader: Some(leader),
            nodes: 5,
        };
        let mut view = cluster.view();
        view.clients.acknowledged = acknowledged;
        view
    }

    #[test]
    fn triggers_fire_on_what_clients_and_nodes_show() {
        let first = |when: &str| {
            let yaml =
                format!("- {{at: 1s, when: {when}, do: [{{fault: kill, target: n3, for: 1s}}]}}");
            Nemesis::from_program(&program(&yaml), 5, &Capabilities::all(), 1)
        };
        // Counted from the moment when it begins to wait.
        let mut acknowledged = first("{acknowledged: 100}");
        assert_eq!(acknowledged.next(0, &seen(50, 2)), Step::Wait(1_000 * MS));
        assert_eq!(
            acknowledged.next(1_000 * MS, &seen(60, 2)),
            Step::Wait(u64::MAX)
        );
        assert_eq!(
            acknowledged.next(1_500 * MS, &seen(159, 2)),
            Step::Wait(u64::MAX)
        );
        let step = acknowledged.next(1_600 * MS, &seen(160, 2));
        assert_eq!(action(step), Some(kill(3)));

        let mut changes = first("{leader_changes: 2}");
        for (time, leader) in [(0, 1), (900, 2), (1_000, 2), (1_100, 3), (1_200, 3)] {
            assert_eq!(action(changes.next(time * MS, &seen(0, leader))), None);
        }
        let step = changes.next(1_300 * MS, &seen(0, 1));
        assert_eq!(action(step), Some(kill(3)));

        let mut stale = first("{staleness: 500ms}");
        assert!(stale.observes_staleness() && !changes.observes_staleness());
        let mut view = seen(0, 2);
        for (time, staleness, fires) in [(1_000, 0, false), (1_100, 499, false), (1_200, 500, true)]
        {
            view.clients.staleness = Duration::from_millis(staleness);
            let step = stale.next(time * MS, &view);
            assert_eq!(action(step).is_some(), fires, "{staleness}");
        }

        let mut both = first("{in_flight: write, acknowledged: 1}");
        let mut view = seen(0, 2);
        view.clients.reads_in_flight = 4;
        assert_eq!(action(both.next(1_000 * MS, &view)), None);
        view.clients.acknowledged = 1;
        assert_eq!(action(both.next(1_100 * MS, &view)), None);
        view.clients.writes_in_flight = 1;
        assert_eq!(action(both.next(1_200 * MS, &view)), Some(kill(3)));
    }

    #[test]
    fn a_trigger_that_never_fires_is_recorded_with_its_reason() {
        let when = "when: {acknowledged: 100}";
        let body = "do: [{fault: kill, target: n3, for: 1s}]";
        let (nemesis, log) = walk(
            &format!(
                "- sequence: [{{{when}, within: 5s, {body}}}, {{fault: kill, target: n1, for: 1s}}]"
            ),
            1,
            u64::MAX / MS,
        );
        assert_eq!(injected(&log), [(5_000, kill(1))]);
        let reason = "100 acknowledgements did not come within 5s";
        assert_eq!(reasons(&nemesis), [reason]);
        let (nemesis, _) = walk(&format!("- {{{when}, {body}}}"), 1, 3_000);
        let reason = "the run ended before 100 acknowledgements";
        assert_eq!(reasons(&nemesis), [reason]);
        // It is left out of a replay, though its names are given nowhere.
        let realised = Schedule::parse(&nemesis.realised().to_yaml()).expect("readable");
        realised
            .validate(5, &Capabilities::all())
            .expect("possible");
        assert!(Nemesis::from_schedule(&realised, 5, 1).slots.is_empty());
    }

    #[test]
    fn what_stands_inside_a_fault_that_was_skipped_is_skipped() {
        let mut cluster = five();
        cluster.leader = None;
        let program = program(
            "
- fault: pause
  target: leader
  within: 2s
  at: 1s
  as: victim
  while:
    - {fault: kill, target: others($victim), for: 1s}
    - repeat: 5
      do: [{fault: kill, target: n1, for: 1s}]
",
        );
        let mut nemesis = Nemesis::from_program(&program, 5, &Capabilities::all(), 1);
        let log = run(&mut nemesis, &mut cluster, 0, u64::MAX);
        assert_eq!(log, Log::default());
        let inside = "the fault around it was skipped: no leader is known";
        assert_eq!(reasons(&nemesis), ["no leader is known", inside, inside]);
    }

    /// Each statement draws from a stream of its own: one more shifts nothing.
    #[test]
    fn one_more_statement_shifts_nothing_else() {
        let block = |more: &str| {
            format!(
                "
- parallel:
    - {{at: 1s..9s, fault: kill, target: n1, for: 10ms..90ms}}
{more}
    - {{at: 10s..19s, fault: kill, target: random, for: 10ms..90ms}}
    - {{at: 20s, choose: [{{do: [{{fault: kill, target: n1, for: 1ms}}]}}, {{do: [{{fault: kill, target: n2, for: 1ms}}]}}]}}
"
            )
        };
        for seed in 0..40 {
            let (_, plain) = walk(&block(""), seed, u64::MAX / MS);
            let more = "    - {at: 30s..40s, fault: pause, target: random(2), for: 1ms..1s}";
            let (_, mut with) = walk(&block(more), seed, u64::MAX / MS);
            assert!(matches!(with.injected.pop(), Some((_, Action::Pause(_)))));
            assert_eq!(with.injected, plain.injected);
        }
        // Those that say the same are told apart.
        let twin = "{fault: kill, target: random(2), for: 1ms..10s}";
        let yaml = format!("- parallel: [{{at: 0s, sequence: [{twin}, {twin}, {twin}]}}]");
        let (nemesis, log) = walk(&yaml, 3, u64::MAX / MS);
        let faults = nemesis.realised().faults;
        let lengths: BTreeSet<_> = faults.iter().map(|fault| fault.lasting).collect();
        assert_eq!((lengths.len(), log.injected.len()), (3, 3));
    }

    #[test]
    fn no_more_nodes_are_hurt_than_declared_nor_others() {
        let budget = Budget {
            hurt_at_most: Some(1),
            targets: Some([1, 2].into()),
        };
        let within = Capabilities::all().within(budget);
        let text = "
- {at: 1s, for: 2s, fault: kill, target: n1}
- {at: 2s, for: 3s, fault: kill, target: n2}
- {at: 10s, for: 1s, fault: kill, target: random}
- {at: 20s, for: 1s, fault: kill, target: leader}
- {at: 30s, for: 1s, fault: kill, target: n1}
- {at: 30s, for: 1s, fault: kill, target: n2}
";
        let program = program(text);
        program.validate_among(5, 0, &within).expect("possible");
        let mut nemesis = Nemesis::from_program(&program, 5, &within, 1);
        // n5 leads once n2 is gone.
        let mut cluster = Cluster {
            leader: Some(4),
            nodes: 5,
        };
        let log = run(&mut nemesis, &mut cluster, 100 * MS, u64::MAX);
        let actions = injected(&log);
        assert_eq!(actions[..2], [(1_000, kill(1)), (3_100, kill(2))]);
        assert!([kill(1), kill(2)].contains(&actions[2].1), "{actions:?}");
        assert_eq!(actions[3], (30_000, kill(1)));
        assert_eq!(
            reasons(&nemesis),
            [
                "it would hurt n4, and the targets declared are n1, n2",
                "n1, n2 would be hurt at once, and at most 1 may be"
            ]
        );
        for (impossible, expected) in [
            ("fault: kill, target: n3", "n3"),
            ("fault: kill, target: minority", "2 nodes"),
            ("fault: partition, shape: majorities-ring", "5 nodes"),
            ("fault: kill, target: all", "5 nodes"),
        ] {
            let text = format!("- {{at: 1s, for: 1s, {impossible}}}");
            let program = Program::parse(&text).expect("readable");
            let error = program.validate_among(5, 0, &within).expect_err(impossible);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// Random programs, by depth.
    fn statement() -> impl Strategy<Value = String> {
        let fault = prop::sample::select(vec![
            "fault: kill, target: random",
            "fault: kill, target: leader",
            "fault: pause, target: minority",
            "fault: wipe, target: n3",
            "fault: partition, shape: isolate, target: leader, as: victim",
            "fault: partition, shape: halves",
            "fault: partition, shape: majorities-ring",
            "fault: partition, shape: one-way, direction: out, target: random",
            "fault: partition, shape: clients, target: others($victim)",
            "fault: slow, target: follower, latency: 50ms",
            "fault: kill, target: one-of($victim)",
            "fault: transfer-leadership, target: follower",
            "fault: remove-member, target: random",
        ]);
        let leaf = prop_oneof![
            6 => (fault.clone(), 1_u64..3_000, 0_u64..2_000)
                .prop_map(|(fault, ms, more)| format!("{{{fault}, for: {ms}ms..{}ms}}", ms + more)),
            1 => (0_u64..1_000).prop_map(|ms| format!("{{wait: {ms}ms..{}ms}}", ms * 2)),
            1 => prop::sample::select(vec!["part-kill", "swizzle", "pause-kill", "kill", "partition"])
                .prop_map(|name| format!("{{use: {name}}}")),
        ];
        leaf.prop_recursive(3, 20, 3, move |inner| {
            let list = prop::collection::vec(inner, 1..4).prop_map(|all| all.join(", "));
            let while_fault = fault.clone();
            prop_oneof![
                list.clone()
                    .prop_map(|list| format!("{{sequence: [{list}]}}")),
                list.clone()
                    .prop_map(|list| format!("{{parallel: [{list}]}}")),
                (list.clone(), 1_u32..4)
                    .prop_map(|(list, n)| format!("{{repeat: {n}, do: [{list}]}}")),
                (list.clone(), 100_u64..5_000).prop_map(|(list, ms)| {
                    format!("{{repeat: forever, every: {ms}ms, do: [{list}]}}")
                }),
                (list.clone(), list.clone(), 1_u32..5).prop_map(|(one, other, weight)| {
                    format!("{{choose: [{{weight: {weight}, do: [{one}]}}, {{do: [{other}]}}]}}")
                }),
                (list.clone(), 1_u64..3).prop_map(|(list, n)| {
                    format!("{{when: {{leader_changes: {n}}}, within: 4s, do: [{list}]}}")
                }),
                list.clone()
                    .prop_map(|list| format!("{{each: random(2), do: [{list}]}}")),
                (while_fault, list)
                    .prop_map(|(fault, list)| format!("{{{fault}, while: [{list}]}}")),
            ]
        })
    }

    /// Both ends of the links, and the nodes otherwise named: nothing of it is taken from the engine.
    fn touched(action: &Action) -> (BTreeSet<Node>, Vec<(Node, Node)>) {
        let number = |end| match end {
            Endpoint::Node(node) => node,
            Endpoint::Clients => 0,
        };
        match action {
            Action::Cut(links) | Action::Impair { links, .. } => {
                let pairs = links.iter().map(|l| (number(l.from), number(l.to)));
                (BTreeSet::new(), pairs.collect())
            }
            Action::Kill(nodes) | Action::Pause(nodes) | Action::Wipe(nodes) => {
                (nodes.iter().copied().collect(), Vec::new())
            }
            Action::Admin(_, command) => (command.nodes().into_iter().collect(), Vec::new()),
            other => panic!("no such action is in these programs: {other:?}"),
        }
    }

    proptest! {
        /// Whatever a program says and whenever it is stopped: all is healed in the end, it does the
        /// same again, and its realised schedule, written and read, does it once more.
        #[test]
        fn programs_are_healed_and_replay(
            seed in any::<u64>(),
            statements in prop::collection::vec(statement(), 1..4),
            delay in 0..400 * MS,
            stop in (1_000 * MS)..(60_000 * MS),
        ) {
            let named = "- {at: 0s, for: 1ms, fault: kill, target: n4, as: victim}\n";
            let lines: Vec<String> = statements.iter().map(|s| format!("- {{sequence: [{s}]}}\n")).collect();
            let program = Program::parse(&format!("{named}{}", lines.concat())).expect("readable");
            let again = Program::parse(&program.to_yaml()).expect("readable");
            prop_assert_eq!(&again, &program);
            let all = Capabilities::all();
            program.validate_among(5, 0, &all).expect("possible");
            let mut first = Nemesis::from_program(&program, 5, &all, seed);
            let log = run_unchecked(&mut first, &mut five(), delay, stop);
            prop_assert_eq!(log.injected.len(), log.healed.len());
            let mut second = Nemesis::from_program(&program, 5, &all, seed);
            prop_assert_eq!(&run_unchecked(&mut second, &mut five(), delay, stop), &log);

            let realised = Schedule::parse(&first.realised().to_yaml()).expect("readable");
            prop_assert_eq!(&realised, &first.realised());
            realised.validate(5, &all).expect("possible");
            let mut replay = Nemesis::from_schedule(&realised, 5, seed ^ 1);
            let replayed = run_unchecked(&mut replay, &mut five(), delay, stop);
            prop_assert_eq!(&replayed.injected, &log.injected);
        }

        /// Nothing in any program makes the engine order what the budget forbids.
        #[test]
        fn budgets_hold_whatever_a_program_says(
            seed in any::<u64>(),
            statements in prop::collection::vec(statement(), 1..5),
            delay in 0..400 * MS,
            most in 0_u16..4,
            targets in prop::collection::btree_set(1_u16..=5, 0..5),
        ) {
            let named = "- {at: 0s, for: 1ms, fault: kill, target: n4, as: victim}\n";
            let lines: Vec<String> = statements.iter().map(|s| format!("- {s}\n")).collect();
            let text = format!("{named}- parallel:\n{}", lines.concat().replace("- ", "    - "));
            let program = Program::parse(&text).expect("readable");
            let budget = Budget { hurt_at_most: Some(most), targets: Some(targets.clone()) };
            let within = Capabilities::all().within(budget);
            let mut nemesis = Nemesis::from_program(&program, 5, &within, seed);
            let log = run_unchecked(&mut nemesis, &mut five(), delay, 30_000 * MS);
            for place in 0..log.injected.len() {
                let (at, _) = log.injected[place];
                // All that stands at that moment, itself included.
                let standing = (0..=place).filter(|&other| {
                    let healed = log.healed.iter().find(|&&(_, p)| p == other);
                    other == place || healed.is_none_or(|&(healed, _)| healed + delay > at)
                });
                let (mut nodes, mut links) = (BTreeSet::new(), Vec::new());
                for other in standing {
                    let (named, pairs) = touched(&log.injected[other].1);
                    nodes.extend(named);
                    links.extend(pairs);
                }
                prop_assert!(nodes.iter().all(|n| targets.contains(n)), "{:?}", log);
                // Some set of declared nodes, no larger than declared, explains every link.
                let candidates: Vec<Node> = targets.iter().copied().collect();
                let explained = (0_u32..1 << candidates.len()).any(|bits| {
                    let chosen = candidates.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
                    let mut chosen: BTreeSet<Node> = chosen.map(|(_, n)| *n).collect();
                    let covers = links.iter().all(|(a, b)| chosen.contains(a) || chosen.contains(b));
                    chosen.extend(&nodes);
                    covers && chosen.len() <= usize::from(most)
                });
                prop_assert!(explained, "{:?}", log);
            }
        }
    }
}
