//! Faults that the owner of a store allows, as the commands that do them.
//!
//! ```yaml
//! external:
//!   nodes: [10.0.0.1:6379, 10.0.0.2:6379, 10.0.0.3:6379]
//!   faults:
//!     kill:
//!       inject: ssh {host} systemctl kill -s KILL redis
//!       heal: ssh {host} systemctl start redis
//!       seen: "! nc -z -w 1 {host} {port}"
//!     partition:
//!       inject: ssh {host} nft add element inet quorate cut '{ {peer} }'
//!       heal: ssh {host} nft delete element inet quorate cut '{ {peer} }' || true
//!       seen: "! ssh {host} ping -c 1 -W 1 {peer}"
//! ```
//!
//! | placeholder | what it stands for |
//! | --- | --- |
//! | `{node}`, `{host}`, `{port}` | the node that it is done to: `n1`, and where it listens |
//! | `{peer}`, `{peer_node}` | of a partition: the node whose messages to that node are to be lost |
//!
//! Each runs in `/bin/sh -c`, once for every node, or every link and direction that is cut. `seen` ends
//! with 0 while the fault is there and with another code when it is not: it is what proves both. `heal`
//! is known to a keeper before `inject` runs, and runs when the harness is gone; it may run twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result};
use nemesis::mechanism::keeper::{Keeper, Launch, Lost};
use nemesis::mechanism::lease::{Command, Lease, Undo};
use nemesis::{Action, Endpoint, FaultKind, Node, Proof};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::External;
use crate::local::leftovers;
use crate::substrate::Happening;

/// How long a command may take.
const RUN_WITHIN: Duration = Duration::from_secs(30);
/// How long a fault may take until it is seen, and until it is gone.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// The shell.
const SHELL: &str = "/bin/sh";
/// What commands may be given for.
pub const KINDS: [FaultKind; 3] = [FaultKind::Kill, FaultKind::Pause, FaultKind::Partition];

/// The commands of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Does it.
    pub inject: String,
    /// Undoes it, and may run when there is nothing to undo.
    pub heal: String,
    /// Ends with 0 while it is there.
    pub seen: String,
}

impl Hook {
    /// The command lines for one thing that it is done to.
    fn at(&self, place: &Place) -> Self {
        Self {
            inject: place.fill(&self.inject),
            heal: place.fill(&self.heal),
            seen: place.fill(&self.seen),
        }
    }

    /// What no placeholder stands for, if there is such.
    pub(super) fn strange(&self, kind: FaultKind) -> Option<String> {
        let known: &[&str] = match kind {
            FaultKind::Partition => &["node", "host", "port", "peer", "peer_node"],
            _ => &["node", "host", "port"],
        };
        for text in [&self.inject, &self.heal, &self.seen] {
            if text.trim().is_empty() {
                return Some("expected a command, not nothing".to_owned());
            }
            for part in text.split('{').skip(1) {
                let Some((name, _)) = part.split_once('}') else {
                    continue;
                };
                let word = |c: char| c.is_ascii_lowercase() || c == '_';
                if !name.is_empty() && name.chars().all(word) && !known.contains(&name) {
                    return Some(format!(
                        "{{{name}}} stands for nothing there; expected {{{}}}",
                        known.join("}, {")
                    ));
                }
            }
        }
        None
    }
}

/// One thing that a fault is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    node: Node,
    host: String,
    port: String,
    peer: Option<(Node, String)>,
}

impl Place {
    fn fill(&self, text: &str) -> String {
        let mut filled = text
            .replace("{node}", &format!("n{}", self.node))
            .replace("{host}", &self.host)
            .replace("{port}", &self.port);
        if let Some((node, host)) = &self.peer {
            filled = filled
                .replace("{peer}", host)
                .replace("{peer_node}", &format!("n{node}"));
        }
        filled
    }
}

/// What the owner allows, and who undoes it when the harness does not live to.
pub(super) struct Hooks {
    by_kind: BTreeMap<FaultKind, Hook>,
    nodes: Vec<(String, String)>,
    keeper: Keeper,
}

impl Hooks {
    /// Starts the keeper, if anything is allowed. The run is over when there is no keeper any more.
    pub fn begin(
        external: &External,
        run_dir: &Path,
        events: Sender<Happening>,
    ) -> Result<Option<Self>> {
        if external.faults.is_empty() {
            return Ok(None);
        }
        let run_dir = std::fs::canonicalize(run_dir)
            .with_context(|| format!("cannot find {}", run_dir.display()))?;
        let file = run_dir.join(leftovers::LEASES);
        let launch = Launch {
            program: std::env::current_exe().context("cannot find this program")?,
            arguments: vec!["keeper".into(), "--leases".into(), file.clone().into()],
            log: run_dir.join("keeper.log"),
            file,
        };
        let lost = move |why: &Lost| {
            // The runner may be gone already.
            let _ = events.send(Happening::Broken(why.to_string()));
        };
        let keeper = Keeper::start(launch, lost).context("cannot start the keeper")?;
        let nodes = external.nodes.iter().map(|at| {
            let (host, port) = at.rsplit_once(':').unwrap_or((at, ""));
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (host.to_owned(), port.to_owned())
        });
        Ok(Some(Self {
            by_kind: external.faults.clone(),
            nodes: nodes.collect(),
            keeper,
        }))
    }

    /// What is to be run for an action.
    fn commands(&self, action: &Action) -> Result<Vec<Hook>, String> {
        let place = |node: Node, peer: Option<Node>| {
            let at = |node: Node| {
                let place = usize::from(node).checked_sub(1);
                let found = place.and_then(|place| self.nodes.get(place));
                found.ok_or_else(|| format!("there is no n{node}"))
            };
            let (host, port) = at(node)?.clone();
            let peer = peer.map(|peer| Ok::<_, String>((peer, at(peer)?.0.clone())));
            Ok::<_, String>(Place {
                node,
                host,
                port,
                peer: peer.transpose()?,
            })
        };
        let hook = |kind: FaultKind| {
            let hook = self.by_kind.get(&kind);
            hook.ok_or_else(|| format!("external.faults has no {}", kind.name()))
        };
        let of_nodes = |kind, nodes: &[Node]| {
            let hook = hook(kind)?;
            let at = |&node: &Node| Ok(hook.at(&place(node, None)?));
            nodes.iter().map(at).collect()
        };
        match action {
            Action::Kill(nodes) => of_nodes(FaultKind::Kill, nodes),
            Action::Pause(nodes) => of_nodes(FaultKind::Pause, nodes),
            Action::Cut(links) => {
                let hook = hook(FaultKind::Partition)?;
                let at = |link: &nemesis::Link| match (link.from, link.to) {
                    (Endpoint::Node(from), Endpoint::Node(to)) => {
                        Ok(hook.at(&place(to, Some(from))?))
                    }
                    _ => {
                        Err("nodes of others are cut from each other, not from clients".to_owned())
                    }
                };
                links.iter().map(at).collect()
            }
            _ => Err("it is no fault that commands can be given for".to_owned()),
        }
    }

    /// Does it, and looks whether it is there.
    pub async fn inject(&self, id: u32, action: &Action) -> Proof {
        match self.injected(id, action).await {
            Ok(how) => Proof::Seen(how),
            Err(why) => Proof::NotSeen(why),
        }
    }

    async fn injected(&self, id: u32, action: &Action) -> Result<String, String> {
        let commands = self.commands(action)?;
        for (i, command) in commands.iter().enumerate() {
            let undo = Undo::Run(Command {
                program: SHELL.into(),
                arguments: vec!["-c".to_owned(), command.heal.clone()],
            });
            let registered = self.keeper.register(Lease::new(lease(id, i), undo));
            registered.map_err(|lost| lost.to_string())?;
        }
        for command in &commands {
            run(&command.inject).await?;
        }
        for command in &commands {
            until(&command.seen, true).await?;
        }
        Ok(match commands.as_slice() {
            [one] => format!("`{}` says so", one.seen),
            [first, ..] => format!("{} commands say so, as `{}`", commands.len(), first.seen),
            [] => return Err("there is nobody to do it to".to_owned()),
        })
    }

    /// Undoes it, and looks whether it is gone.
    pub async fn heal(&self, id: u32, action: &Action) -> Proof {
        match self.healed(id, action).await {
            Ok(how) => Proof::Seen(how),
            Err(why) => Proof::NotSeen(why),
        }
    }

    async fn healed(&self, id: u32, action: &Action) -> Result<String, String> {
        let commands = self.commands(action)?;
        let mut failed = Ok(());
        for (i, command) in commands.iter().enumerate() {
            // One that fails is left to the keeper, and keeps no other from being undone.
            match run(&command.heal).await {
                Ok(()) => self.keeper.release(&lease(id, i)),
                Err(why) => failed = Err(why),
            }
        }
        failed?;
        for command in &commands {
            until(&command.seen, false).await?;
        }
        Ok("the commands that saw it do not any more".to_owned())
    }

    /// Lets the keeper go; it undoes what is left.
    pub fn end(&self) {
        self.keeper.close();
    }
}

fn lease(id: u32, place: usize) -> String {
    format!("fault-{id}-{place}")
}

/// Runs a command; what it says is told if it fails.
async fn run(text: &str) -> Result<(), String> {
    let output = tokio::process::Command::new(SHELL)
        .args(["-c", text])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(RUN_WITHIN, output).await {
        Err(_) => Err(format!("`{text}` did not end in {RUN_WITHIN:?}")),
        Ok(Err(error)) => Err(format!("`{text}` cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default();
            Err(format!("`{text}` ended with {}: {last}", output.status))
        }
    }
}

/// Waits until a command says that the fault is there, or that it is not.
async fn until(seen: &str, there: bool) -> Result<(), String> {
    let until = Instant::now() + SEEN_WITHIN;
    loop {
        if run(seen).await.is_ok() == there {
            return Ok(());
        }
        if Instant::now() > until {
            let word = if there {
                "does not see it"
            } else {
                "sees it still"
            };
            return Err(format!("`{seen}` {word} after {SEEN_WITHIN:?}"));
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook() -> Hook {
        Hook {
            inject: "cut {host} from {peer}".to_owned(),
            heal: "join {node} {peer_node}".to_owned(),
            seen: "awk '{print}' {port}".to_owned(),
        }
    }

    #[test]
    fn placeholders_stand_for_the_node_and_its_peer() {
        let place = Place {
            node: 2,
            host: "10.0.0.2".to_owned(),
            port: "6379".to_owned(),
            peer: Some((3, "10.0.0.3".to_owned())),
        };
        let filled = hook().at(&place);
        assert_eq!(filled.inject, "cut 10.0.0.2 from 10.0.0.3");
        assert_eq!(filled.heal, "join n2 n3");
        assert_eq!(filled.seen, "awk '{print}' 6379");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        let awk = |kind| hook().strange(kind).unwrap();
        assert!(awk(FaultKind::Partition).starts_with("{print} stands for nothing"));
        let good = Hook {
            seen: "test {port}".to_owned(),
            ..hook()
        };
        assert_eq!(good.strange(FaultKind::Partition), None);
        assert!(
            awk(FaultKind::Kill).starts_with("{peer} stands for nothing there; expected {node}")
        );
        let empty = Hook {
            heal: " ".to_owned(),
            ..good
        };
        assert!(empty.strange(FaultKind::Partition).is_some());
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        assert_eq!(run("true").await, Ok(()));
        let said = run("echo so it is >&2; exit 3").await.unwrap_err();
        assert!(said.ends_with("exit status: 3: so it is"), "{said}");
    }
}
