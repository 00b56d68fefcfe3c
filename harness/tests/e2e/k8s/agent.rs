//! What agents on the nodes do, and that none of it outlives its owner: harness, agent and node are
//! killed in the middle of faults, and what is left is looked for from outside, in the control
//! groups and networks of the pods.

use std::process::Command;
use std::time::Instant;

use k8s::agent::locate::Tree;
use k8s::names::{AGENT, AGENT_NAMESPACE, CONTAINER};
use serde_json::Value;

use super::under_way::{self, until};
use super::{Lab, every_fault_was_seen_and_healed};

/// The flags of a run that agents take part in.
pub const RAFT: [&str; 7] = [
    "--agent",
    "--storage",
    "empty-dir",
    "--mode",
    "raft",
    "--seed",
    "7",
];

/// A cluster with agents, which are removed at the end.
pub struct Agents(pub Lab);

impl Agents {
    pub fn start(subject: &str) -> Option<Self> {
        let lab = Lab::find(subject)?;
        lab.make_namespace();
        let agents = Self(lab);
        agents.up();
        Some(agents)
    }

    pub fn up(&self) {
        let Self(lab) = self;
        let up = [
            "k8s",
            "agent",
            "up",
            "--image",
            &lab.image,
            "--allow",
            &lab.namespace,
        ];
        let up = lab.quorate(&up);
        assert_eq!(up.status.code(), Some(0));
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.0.quorate(&["k8s", "agent", "down"]);
    }
}

/// A run in the middle of its faults.
pub struct Run {
    run: under_way::Run,
    /// Of the store, by node.
    pub pods: Vec<Pod>,
}

/// A pod as it was then.
pub struct Pod {
    name: String,
    pub uid: String,
    pub container: String,
    pub on: String,
}

impl Run {
    /// Starts a run with these flags and waits until so many faults were seen.
    pub fn in_the_middle(lab: &Lab, flags: &[&str], faults: &str, how_many: usize) -> Self {
        let mut run = lab.start(&[flags, &["--time-limit", "40s"]].concat(), faults);
        run.until("the faults are seen", |run| {
            let history = run.history();
            let injected = |line: &&str| line.contains(r#""f":"inject""#);
            let injected: Vec<&str> = history.lines().filter(injected).collect();
            let seen = |line: &&str| line.contains(r#""seen":true"#);
            assert!(injected.iter().all(seen), "{injected:#?}");
            injected.len() == how_many
        });
        let pods = pods(
            lab,
            &lab.namespace,
            "app.kubernetes.io/name=quorate-store",
            CONTAINER,
        );
        Self { run, pods }
    }

    /// What is wrong with the pods, as seen from outside.
    fn hurt(&self) -> Vec<String> {
        self.pods.iter().flat_map(hurt).collect()
    }

    /// Waits until nothing is.
    fn healed(&self, since: &str) {
        let start = Instant::now();
        until("everything is healed", || {
            let hurt = self.hurt();
            if !hurt.is_empty() {
                eprintln!("{:.1?} after {since}: {hurt:?}", start.elapsed());
            }
            hurt.is_empty()
        });
        eprintln!("healed {:.1?} after {since}", start.elapsed());
    }

    /// Kills the harness.
    pub fn kill(&mut self) {
        self.run.kill();
    }

    /// Waits for its end; its verdict.
    pub fn end(mut self) -> (Option<i32>, Value) {
        let (code, _) = self.run.end();
        (code, self.run.verdict())
    }
}

fn pods(lab: &Lab, namespace: &str, selector: &str, container: &str) -> Vec<Pod> {
    let listed = lab.kubectl(&["get", "pods", "-n", namespace, "-l", selector, "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| {
        let statuses = pod["status"]["containerStatuses"].as_array()?;
        let status = statuses.iter().find(|status| status["name"] == container)?;
        Some(Pod {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            container: text(&status["containerID"]),
            on: text(&pod["spec"]["nodeName"]),
        })
    };
    listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(pod)
        .collect()
}

/// What is wrong with a pod: frozen, limited, rules in its network. Nothing if it is gone.
fn hurt(pod: &Pod) -> Vec<String> {
    let tree = Tree::at("/sys/fs/cgroup");
    let mut found = Vec::new();
    let Ok(groups) = tree.container(&pod.uid, &pod.container) else {
        return found;
    };
    if groups.freezer.is_freezing().unwrap_or(false) {
        found.push(format!("{} is frozen", pod.name));
    }
    let limit = groups.cpu.and_then(|cpu| cpu.cpu_limit().ok().flatten());
    found.extend(limit.map(|limit| format!("{} may take {limit}% of a processor", pod.name)));
    let Some(pid) = tree.processes(&pod.uid).first().copied() else {
        return found;
    };
    let inside = |program: &[&str]| {
        let net = format!("--net=/proc/{pid}/ns/net");
        let output = Command::new("nsenter")
            .arg(net)
            .args(program)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (program, ours) in [
        (&["nft", "list", "ruleset"][..], "quorate"),
        (&["iptables", "-t", "mangle", "-S"][..], "quorate fault"),
        (&["tc", "qdisc", "show", "dev", "eth0"][..], "7175:"),
    ] {
        if inside(program).contains(ours) {
            found.push(format!("{} has rules of {}", pod.name, program[0]));
        }
    }
    found
}

/// The pods of these tests are looked at from this machine, which must be theirs.
pub fn visible(run: &Run) -> bool {
    let tree = Tree::at("/sys/fs/cgroup");
    let seen = |pod: &Pod| tree.container(&pod.uid, &pod.container).is_ok();
    let all = run.pods.len() == 3 && run.pods.iter().all(seen);
    if !all {
        eprintln!("skipped in part: the nodes of this cluster are not on this machine");
    }
    all
}

#[test]
fn consensus_holds_through_all_that_agents_do() {
    let Some(agents) = Agents::start("agent") else {
        return;
    };
    let Agents(lab) = &agents;
    let faults = "\
        - {at: 1s, for: 4s, fault: pause, target: leader}\n\
        - {at: 8s, for: 4s, fault: partition, shape: isolate, target: leader}\n\
        - {at: 15s, for: 2s, fault: partition, shape: clients, target: leader}\n\
        - {at: 20s, for: 3s, fault: slow, target: leader, latency: 30ms}\n\
        - {at: 26s, for: 3s, fault: slow, target: follower, bandwidth: 128KiB/s, via: tbf}\n\
        - {at: 32s, for: 3s, fault: loss, target: follower, percent: 30%}\n\
        - {at: 38s, for: 3s, fault: cpu, target: leader, share: 10%}\n\
        - {at: 44s, for: 3s, fault: memory, target: follower, limit: 128MiB}\n\
        - {at: 50s, for: 3s, fault: kill, target: leader}\n";
    let (code, verdict) = lab.test(&[&RAFT[..], &["--time-limit", "56s"]].concat(), faults);
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verdict["verdict"], "valid");
    every_fault_was_seen_and_healed(&verdict, 9);
    assert_eq!(lab.get("leases", "name"), "");
}

#[test]
fn a_leader_that_an_agent_cuts_off_loses_what_it_acknowledges() {
    let Some(agents) = Agents::start("agent-async") else {
        return;
    };
    let Agents(lab) = &agents;
    let faults = "- {at: 2s, for: 8s, fault: partition, shape: isolate, target: leader}\n";
    let flags = [
        "--agent",
        "--storage",
        "empty-dir",
        "--mode",
        "async",
        "--seed",
        "3",
    ];
    let (code, verdict) = lab.test(&[&flags[..], &["--time-limit", "14s"]].concat(), faults);
    assert_eq!(code, Some(1), "{verdict}");
    assert_eq!(verdict["verdict"], "invalid");
    every_fault_was_seen_and_healed(&verdict, 1);
}

#[test]
fn a_killed_harness_leaves_nothing_hurt() {
    let Some(agents) = Agents::start("agent-harness") else {
        return;
    };
    let Agents(lab) = &agents;
    for (faults, how_many) in [
        (
            "- {at: 1s, for: 60s, fault: pause, target: n1}\n\
             - {at: 1s, for: 60s, fault: cpu, share: 20%, target: n2}\n\
             - {at: 1s, for: 60s, fault: partition, shape: clients, target: n3}\n",
            3,
        ),
        (
            "- {at: 1s, for: 60s, fault: partition, shape: isolate, target: n2}\n",
            1,
        ),
        (
            "- {at: 1s, for: 60s, fault: slow, latency: 20ms, target: n1}\n",
            1,
        ),
        (
            "- {at: 1s, for: 60s, fault: slow, bandwidth: 64KiB/s, via: tbf, target: n1}\n",
            1,
        ),
    ] {
        let mut run = Run::in_the_middle(lab, &RAFT, faults, how_many);
        let look = visible(&run);
        assert!(!look || run.hurt().len() >= how_many, "{:?}", run.hurt());
        run.kill();
        if look {
            run.healed("the end of the harness");
        }
        let down = ["k8s", "down", "--namespace", &lab.namespace, "--runs"];
        assert_eq!(lab.quorate(&down).status.code(), Some(0));
    }
}

/// Kills the container of the agent on this node, from outside.
pub fn kill_agent(lab: &Lab, on: &str) {
    let selector = format!("app.kubernetes.io/name={AGENT}");
    let agents = pods(lab, AGENT_NAMESPACE, &selector, "agent");
    let agent = agents.iter().find(|agent| agent.on == on).unwrap();
    let groups = Tree::at("/sys/fs/cgroup").container(&agent.uid, &agent.container);
    assert!(groups.unwrap().freezer.kill().unwrap() > 0);
}

#[test]
fn an_agent_that_is_killed_or_told_to_end_leaves_nothing_hurt() {
    let Some(agents) = Agents::start("agent-end") else {
        return;
    };
    let Agents(lab) = &agents;
    let faults = "- {at: 1s, for: 60s, fault: pause, target: n1}\n\
                  - {at: 1s, for: 60s, fault: partition, shape: clients, target: n2}\n";
    let run = Run::in_the_middle(lab, &RAFT, faults, 2);
    if !visible(&run) {
        return;
    }
    assert_eq!(run.hurt().len(), 2, "{:?}", run.hurt());
    for pod in &run.pods {
        kill_agent(lab, &pod.on);
    }
    run.healed("the end of the agents");
    // A fault that ended before its time earns no credit.
    let (code, verdict) = run.end();
    assert_eq!(code, Some(2), "{verdict}");

    agents.up();
    let run = Run::in_the_middle(lab, &RAFT, faults, 2);
    assert_eq!(run.hurt().len(), 2, "{:?}", run.hurt());
    assert_eq!(
        lab.quorate(&["k8s", "agent", "down"]).status.code(),
        Some(0)
    );
    assert_eq!(run.hurt(), Vec::<String>::new());
    let (code, verdict) = run.end();
    assert_eq!(code, Some(2), "{verdict}");
}

#[test]
fn a_node_that_loses_power_leaves_nothing_hurt() {
    let Some(agents) = Agents::start("agent-power") else {
        return;
    };
    let Agents(lab) = &agents;
    let faults = "- {at: 1s, for: 25s, fault: partition, shape: isolate, target: n3}\n";
    let run = Run::in_the_middle(lab, &RAFT, faults, 1);
    let third = run.pods.iter().find(|pod| pod.name.ends_with("-2"));
    let victim = third.unwrap().on.clone();
    let Some(_power) = lab.cut_power(&victim) else {
        return;
    };
    // The others are healed although one agent says nothing any more.
    let (code, verdict) = run.end();
    assert_eq!(code, Some(2), "{verdict}");
}

#[test]
fn clients_in_a_job_are_cut_off_and_slowed_down_and_agents_are_cleaned_away() {
    let Some(agents) = Agents::start("agent-job") else {
        return;
    };
    let Agents(lab) = &agents;
    let faults = "\
        - {at: 2s, for: 3s, fault: partition, shape: clients, target: leader}\n\
        - {at: 9s, for: 3s, fault: slow, links: clients, target: leader, latency: 40ms}\n\
        - {at: 16s, for: 3s, fault: loss, links: all, target: follower, percent: 30%}\n";
    // From outside, clients come by a way whose packets cannot be impaired: nothing is begun.
    let mut refused = lab.start(&RAFT, faults);
    let (code, said) = refused.end();
    assert_eq!(code, Some(254));
    assert!(said.contains("--in-cluster"), "{said}");
    assert!(!refused.store().exists());

    let inside = ["--in-cluster", "--time-limit", "22s"];
    let (code, verdict) = lab.test(&[&RAFT[..], &inside].concat(), faults);
    assert_eq!(code, Some(0), "{verdict}");
    every_fault_was_seen_and_healed(&verdict, 3);

    let said = lab.clean(&["--agent", "--dry-run"]);
    assert!(said.contains("agents would be ended"), "{said}");
    lab.clean(&["--agent"]);
    let status = lab.quorate(&["k8s", "agent", "status"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains("there are no agents"), "{said}");
}
