//! `quorate node`: one replica of the reference cluster as a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use reference_cluster::core::{Config, NodeId};
use reference_cluster::server::{self, NodeOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::experiment::{Impossible, explain, parse_yaml};

/// `quorate node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Which node this is, e.g. n1, or the pod of a StatefulSet that it runs in: quorate-0 is n1.
    #[arg(long, value_parser = parse_id)]
    pub id: u16,
    /// Where to listen; port 0 takes a free one. The first line on stdout says which.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The other nodes, e.g. n2=127.0.0.1:7002,n3=127.0.0.1:7003; this node itself may be among them.
    #[arg(long, value_delimiter = ',', value_parser = parse_peer)]
    pub peers: Vec<(u16, String)>,
    /// Where the journal is kept.
    #[arg(long)]
    pub data: PathBuf,
    /// The cluster's configuration (YAML, the `target` section of an experiment).
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The version of the storage format to write, instead of the one in the configuration; by default
    /// what `QUORATE_STORAGE_VERSION` says, if that is set, as it may be in an image.
    #[arg(long)]
    pub storage_version: Option<u16>,
    /// Seed of election timeouts.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Let anybody who reaches this node have it end itself, or make its clock wrong.
    #[arg(long)]
    pub allow_faults: bool,
    /// End when the parent process ends, and when stdin is closed.
    #[arg(long)]
    pub exit_with_parent: bool,
}

fn parse_node(text: &str) -> Result<u16, String> {
    nemesis::selector::parse_node(text)
        .ok_or_else(|| format!("expected a node such as n1, not {text:?}"))
}

/// A node, or a pod by its ordinal, which counts from 0.
fn parse_id(text: &str) -> Result<u16, String> {
    let wrong = || format!("expected a node such as n1, or a pod such as quorate-0, not {text:?}");
    let Some((_, ordinal)) = text.rsplit_once('-') else {
        return parse_node(text).map_err(|_| wrong());
    };
    let ordinal: u16 = ordinal.parse().map_err(|_| wrong())?;
    ordinal.checked_add(1).ok_or_else(wrong)
}

fn parse_peer(text: &str) -> Result<(u16, String), String> {
    let (node, address) = text
        .split_once('=')
        .ok_or_else(|| format!("expected n2=HOST:PORT, not {text:?}"))?;
    Ok((parse_node(node)?, address.to_owned()))
}

/// The variable of the environment that says what `--storage-version` would.
const STORAGE_VERSION: &str = "QUORATE_STORAGE_VERSION";

/// The version that the flag says, or else the environment.
fn storage_version(flag: Option<u16>, said: Option<&str>) -> Result<Option<u16>> {
    match (flag, said) {
        (Some(version), _) => Ok(Some(version)),
        (None, None | Some("")) => Ok(None),
        (None, Some(text)) => text.parse().map(Some).map_err(|_| {
            anyhow::anyhow!("{STORAGE_VERSION}: expected a storage format such as 2, not {text:?}")
        }),
    }
}

/// Runs the replica until it is told to end.
///
/// # Errors
/// If the configuration is impossible, the journal is corrupt, or the address is taken.
pub fn run(mut args: NodeArgs) -> Result<()> {
    args.peers.retain(|(peer, _)| *peer != args.id);
    let mut config = Config::default();
    if let Some(path) = &args.config {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
        config = parse_yaml(&text, &file)?;
        config.validate(args.peers.len() + 1).map_err(|e| {
            let impossible = Impossible {
                field: e.field.to_owned(),
                message: e.message,
            };
            explain(&impossible, &file, Some(&text))
        })?;
    }
    let said = std::env::var(STORAGE_VERSION).ok();
    if let Some(version) = storage_version(args.storage_version, said.as_deref())? {
        config.storage_version = version;
    }
    let peers: BTreeMap<NodeId, String> = args
        .peers
        .into_iter()
        .map(|(n, address)| (NodeId(n), address))
        .collect();
    let options = NodeOptions {
        id: NodeId(args.id),
        listen: args.listen,
        peers,
        data: args.data,
        config,
        seed: args.seed,
        allow_faults: args.allow_faults,
        exit_with_parent: args.exit_with_parent,
        exit_on_stdin_eof: args.exit_with_parent,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // As the first process of a container it would otherwise ignore the signal. What was
        // acknowledged is in the journal already; nothing is left to be done.
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        tokio::select! {
            ended = server::run(options) => ended.map_err(Into::into),
            _ = terminate.recv() => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_counts_more_than_the_environment() {
        let version = |flag, said| storage_version(flag, said).unwrap();
        assert_eq!(version(None, None), None);
        assert_eq!(version(None, Some("")), None);
        assert_eq!(version(None, Some("2")), Some(2));
        assert_eq!(version(Some(3), Some("2")), Some(3));
        let refused = storage_version(None, Some("two")).unwrap_err().to_string();
        assert!(refused.starts_with(STORAGE_VERSION), "{refused}");
    }

    #[test]
    fn a_pod_is_a_node_by_its_ordinal() {
        assert_eq!(parse_id("n3"), Ok(3));
        assert_eq!(parse_id("quorate-0"), Ok(1));
        assert_eq!(parse_id("my-store-11"), Ok(12));
        for bad in [
            "",
            "n0",
            "quorate",
            "quorate-",
            "quorate-x",
            "q-65535",
            "q--1x",
        ] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }
}
