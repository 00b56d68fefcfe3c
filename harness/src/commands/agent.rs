//! `quorate agent`, one on each node of a cluster, and `quorate k8s agent`, which puts them there.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

/// `quorate agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where the host's control groups are mounted.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroups: PathBuf,
    /// The state folder, on the node.
    #[arg(long, value_name = "DIR", default_value = "/run/quorate-agent")]
    pub state: PathBuf,
    /// Say by the exit code whether the agent of this state folder is alive.
    #[arg(long)]
    pub alive: bool,
}

/// `quorate k8s agent`.
#[derive(Debug, Args)]
pub struct AgentCommands {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// What to do with the agents of a cluster.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Start an agent on every node but those of the control plane, and let them hurt pods in these
    /// namespaces.
    Up {
        /// The image of the agents, with nft, iptables, tc and ip in it.
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// A namespace whose pods they may hurt; it must carry the label that allows faults.
        #[arg(long, value_name = "NAMESPACE", default_values_t = ["quorate".to_owned()])]
        allow: Vec<String>,
    },
    /// End the agents, which heal what stands, and remove everything of them.
    Down,
    /// Show the agents, and the faults that were ordered.
    Status,
}

#[cfg(not(feature = "k8s"))]
mod done {
    use super::{AgentArgs, Result};

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn run(_args: &AgentArgs) -> Result<u8> {
        anyhow::bail!(
            "this quorate was built without Kubernetes; build it with `cargo build --features k8s`"
        )
    }
}

#[cfg(feature = "k8s")]
mod done {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use anyhow::Context;
    use k8s::Cluster;
    use k8s::agent::install::{down, up};
    use k8s::agent::keep::{self, Options};
    use k8s::agent::status::{agents, ordered};
    use k8s::agent::undo::is_alive;
    use tokio::signal::unix::{SignalKind, signal};

    use super::{AgentArgs, AgentCommand, AgentCommands, Result};
    use crate::exit;

    /// An agent that has left no sign of life for so long hangs.
    const ALIVE_WITHIN: Duration = Duration::from_secs(15);
    /// How long all agents may take to be ready.
    const READY_WITHIN: Duration = Duration::from_secs(120);
    /// How long they may take to heal and to end.
    const END_WITHIN: Duration = Duration::from_secs(90);

    /// Serves as an agent until told to end.
    ///
    /// # Errors
    /// If it does not know where it is, or cannot keep its state.
    pub fn run(args: &AgentArgs) -> Result<u8> {
        if args.alive {
            let alive = is_alive(&args.state, ALIVE_WITHIN);
            return Ok(if alive { exit::VALID } else { exit::INVALID });
        }
        let from = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set; agents are started by `quorate k8s agent up`")
            })
        };
        let options = Options {
            node: from("NODE_NAME")?,
            uid: from("POD_UID")?,
            cgroups: args.cgroups.clone(),
            state: args.state.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let end = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            keep::run(&options, end).await?;
            Ok(exit::VALID)
        })
    }

    pub(in crate::commands) async fn on_cluster(
        cluster: &Cluster,
        args: &AgentCommands,
    ) -> Result<u8> {
        match &args.command {
            AgentCommand::Up { image, allow } => {
                let began = Instant::now();
                let ready = up(cluster, image, allow, READY_WITHIN).await?;
                let took = began.elapsed().as_secs_f64();
                println!(
                    "{ready} agents are ready in {took:.1} s; they serve namespace {}",
                    allow.join(", ")
                );
                Ok(exit::VALID)
            }
            AgentCommand::Down => {
                let removed = down(cluster, END_WITHIN).await?;
                println!("the agents have healed and ended; {removed} objects removed");
                Ok(exit::VALID)
            }
            AgentCommand::Status => status(cluster).await,
        }
    }

    async fn status(cluster: &Cluster) -> Result<u8> {
        let agents = agents(cluster).await?;
        let mut out = std::io::stdout().lock();
        if agents.is_empty() {
            writeln!(
                out,
                "there are no agents; `quorate k8s agent up --image IMAGE` starts them"
            )?;
            return Ok(exit::UNKNOWN);
        }
        writeln!(
            out,
            "{:<24} {:<6} {:>8}  {:<24} trouble",
            "on", "ready", "restarts", "image"
        )?;
        for agent in &agents {
            let line = format!(
                "{:<24} {:<6} {:>8}  {:<24} {}",
                agent.on,
                if agent.ready { "yes" } else { "no" },
                agent.restarts,
                agent.image,
                agent.trouble.as_deref().unwrap_or_default()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        for fault in ordered(cluster).await? {
            writeln!(out, "\n{} in namespace {}", fault.lease, fault.namespace)?;
            for (node, said) in fault.said {
                match said {
                    Some(said) => {
                        let state = serde_json::to_value(said.state)?;
                        writeln!(
                            out,
                            "  {node}: {} {}",
                            state.as_str().unwrap_or_default(),
                            said.text
                        )?;
                    }
                    None => writeln!(out, "  {node}: has not answered")?,
                }
            }
        }
        let all = agents.iter().all(|agent| agent.ready);
        Ok(if all { exit::VALID } else { exit::UNKNOWN })
    }
}

#[cfg(feature = "k8s")]
pub(super) use done::on_cluster;
pub use done::run;
