//! What a test would do to a cluster, and to whom; nothing is done.
//!
//! The faults are walked through as a run would, by the same state machine and against the same
//! budget, as if n1 led and every fault were seen at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s::cluster::Cluster;
use k8s::discover::members;
use k8s::hosts;
use k8s::names::IMAGE;
use k8s::preload;
use k8s::rights::{DEPLOY, REACH, RUN, Right, VIEW};
use nemesis::{Action, Nemesis, Node, NodeView, Orchestration, Proof, Step, View};

use crate::experiment::Experiment;
use crate::plan::plan;

/// So many steps of a nemesis are walked through at most.
const STEPS: usize = 100_000;

/// Which host each node's pod is on, as far as that is known.
type Hosts = BTreeMap<Node, String>;

/// Prints what a run of this experiment would do.
///
/// # Errors
/// Why it would be refused.
pub(crate) async fn print(
    experiment: &Experiment,
    rights: &[Right],
    out: &mut impl Write,
) -> Result<()> {
    let kubernetes = experiment.kubernetes.clone().unwrap_or_default();
    let namespace = &kubernetes.namespace;
    let cluster = Cluster::connect().await?;
    let found = cluster.allowed(namespace).await?;
    let needed = [DEPLOY, VIEW, REACH, RUN, rights].concat();
    cluster.may(namespace, &needed).await?;
    writeln!(
        out,
        "namespace {namespace} of {} allows faults, and this account has all rights",
        cluster.url.trim_end_matches('/')
    )?;
    let all_nodes = experiment.all_nodes();
    let (store, on) = match &kubernetes.statefulset {
        Some(existing) => {
            if kubernetes.clocks {
                let container = existing.container.as_deref();
                preload::check(&cluster, namespace, &existing.selector, container).await?;
            }
            let members = members(&cluster, namespace, &existing.selector).await?;
            anyhow::ensure!(
                members.len() == usize::from(all_nodes),
                "{} selects {} pods; the experiment has {all_nodes} nodes (--nodes)",
                existing.selector,
                members.len()
            );
            let store = members.first().map(|member| member.set.clone());
            let store = store.unwrap_or_default();
            writeln!(
                out,
                "StatefulSet {store} would be tested as it is, and left"
            )?;
            let hosts = members.into_iter();
            (
                store,
                hosts.filter_map(|it| Some((it.node, it.on?))).collect(),
            )
        }
        None => {
            let remembered = found.metadata.annotations.unwrap_or_default().remove(IMAGE);
            let image = kubernetes.image.clone().or(remembered);
            let image = image.context("which image? say --image")?;
            writeln!(
                out,
                "a store run-… of {all_nodes} pods of {image} would be made, and removed at the end"
            )?;
            ("run-…".to_owned(), Hosts::new())
        }
    };
    hosts_of(&cluster, out).await?;
    let rows = faults(experiment, &store, &on)?;
    writeln!(out, "faults, as if n1 led:")?;
    if rows.is_empty() {
        writeln!(out, "  none")?;
    }
    let control_planes = control_planes(&cluster).await;
    for (mut row, host) in rows {
        if let Some(host) = host.filter(|host| control_planes.contains(host)) {
            row = format!("{row}: refused, {host} hosts the control plane");
        }
        writeln!(out, "  {row}")?;
    }
    Ok(())
}

/// Which hosts there are; an account that may not know them can do nothing to them.
async fn hosts_of(cluster: &Cluster, out: &mut impl Write) -> Result<()> {
    let Ok(hosts) = hosts::all(cluster).await else {
        writeln!(out, "Kubernetes nodes: this account may not see them")?;
        return Ok(());
    };
    let said = hosts.iter().map(|host| {
        let name = host.metadata.name.as_deref().unwrap_or_default();
        if hosts::is_control_plane(host) {
            format!("{name} (control plane, never drained)")
        } else {
            name.to_owned()
        }
    });
    let said: Vec<String> = said.collect();
    writeln!(out, "Kubernetes nodes: {}", said.join(", "))?;
    Ok(())
}

async fn control_planes(cluster: &Cluster) -> Vec<String> {
    let hosts = hosts::all(cluster).await.unwrap_or_default();
    let hosts = hosts.into_iter().filter(hosts::is_control_plane);
    hosts.filter_map(|host| host.metadata.name).collect()
}

/// A line for each fault in its order, and the host that it is about, where one is known.
fn faults(
    experiment: &Experiment,
    store: &str,
    on: &Hosts,
) -> Result<Vec<(String, Option<String>)>> {
    let mut nemesis = plan(experiment)?.nemesis;
    let view = view(experiment.all_nodes(), on);
    let rows = walk(&mut nemesis, &view, experiment.limits.time, |action| {
        (
            deeds(action, experiment, store, on),
            match action {
                Action::Orchestrate(nodes, Orchestration::Drain) => {
                    nodes.first().and_then(|node| on.get(node)).cloned()
                }
                _ => None,
            },
        )
    });
    let realised = nemesis.realised();
    let skipped = realised.faults.iter().filter_map(|entry| {
        let why = entry.realised.as_ref()?.skipped.as_ref()?;
        let at = entry.at.as_secs_f64();
        let row = format!("{at:>6.1} s  {}: refused, {why}", entry.fault.kind().name());
        Some((row, None))
    });
    let mut rows = rows;
    rows.extend(skipped);
    Ok(rows)
}

fn walk(
    nemesis: &mut Nemesis,
    view: &View,
    limit: Duration,
    say: impl Fn(&Action) -> (String, Option<String>),
) -> Vec<(String, Option<String>)> {
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let (mut now, mut rows) = (0, Vec::new());
    let seen = Proof::Seen(String::new());
    for _ in 0..STEPS {
        match nemesis.next(now, view) {
            Step::Inject {
                id,
                description,
                order,
            } => {
                let (deeds, host) = say(order.action());
                let at = Duration::from_nanos(now).as_secs_f64();
                rows.push((format!("{at:>6.1} s  {description}: {deeds}"), host));
                nemesis.injected(id, now, &seen);
            }
            Step::Heal { id } => nemesis.healed(id, now, &seen),
            Step::Wait(until) if until >= limit => nemesis.stop(limit),
            Step::Wait(until) => now = until,
            Step::Done => break,
        }
        if now >= limit {
            nemesis.stop(now);
        }
    }
    rows
}

/// A cluster in which n1 leads.
fn view(nodes: Node, on: &Hosts) -> View {
    let node = |node| NodeView {
        role: Some(if node == 1 { "leader" } else { "follower" }.to_owned()),
        epoch: 1,
        leader: Some(1),
        host: on.get(&node).cloned(),
        ..NodeView::silent(node)
    };
    View {
        nodes: (1..=nodes).map(node).collect(),
        ..View::default()
    }
}

/// What would be done to which objects.
fn deeds(action: &Action, experiment: &Experiment, store: &str, on: &Hosts) -> String {
    let pods = |nodes: &[Node]| {
        let pods = nodes.iter().map(|node| {
            let pod = format!("{store}-{}", node - 1);
            match on.get(node) {
                Some(host) => format!("{pod} on {host}"),
                None => pod,
            }
        });
        pods.collect::<Vec<_>>().join(", ")
    };
    match action {
        Action::Kill(nodes) | Action::Wipe(nodes) => format!("pods {} would end", pods(nodes)),
        Action::Upgrade(nodes) | Action::Downgrade(nodes) => {
            let upgrade = matches!(action, Action::Upgrade(_));
            let versions = experiment.versions.as_ref();
            let to = versions.map_or_else(
                || "another storage format".to_owned(),
                |versions| versions.after(upgrade).to_string(),
            );
            format!("pods {} would be made anew ({to})", pods(nodes))
        }
        Action::Orchestrate(nodes, what) => match what {
            Orchestration::Drain => format!(
                "the Kubernetes nodes of {} would be cordoned, and these pods evicted",
                pods(nodes)
            ),
            Orchestration::Scale => format!("pods {} would go and come back", pods(nodes)),
            Orchestration::RollingRestart => {
                format!("pods {} would be made anew one by one", pods(nodes))
            }
            Orchestration::NoEndpoints => format!("the Services of {store} would lead nowhere"),
        },
        Action::Cut(links) | Action::Impair { links, .. } => {
            let links: Vec<String> = links.iter().map(ToString::to_string).collect();
            format!("links {}", links.join(", "))
        }
        Action::Pause(nodes)
        | Action::Crash(nodes, _)
        | Action::Cpu(nodes, _)
        | Action::Memory(nodes, _)
        | Action::Disk(nodes, _)
        | Action::ThrottleDisk(nodes, _) => format!("the processes of pods {}", pods(nodes)),
        Action::Clock(nodes, _) => format!("the clocks of pods {}", pods(nodes)),
        _ => "what the store is asked for".to_owned(),
    }
}
