//! The program that is a node, and how it is called.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use nemesis::Node;

use super::probe::HEALTH;
use super::view;
use crate::stores::Store;
use crate::stores::recipe::{Ready, Recipe, Setup, Status};
use crate::versions::Versions;

/// What a node is started with.
#[derive(Clone, Debug)]
pub(super) struct NodeSetup {
    pub node: Node,
    /// Its own directory, which exists.
    pub data_dir: PathBuf,
    /// Where it is to listen; on a free port where that is 0.
    pub listen: SocketAddr,
    /// How it reaches each other node.
    pub peers: Vec<(Node, SocketAddr)>,
}

/// How a node is known to serve, and what it says of itself.
#[derive(Clone, Debug)]
pub(super) struct Serves {
    /// It prints where it listens; else it listens where it was told to.
    pub says_where: bool,
    /// How it is known to serve.
    pub ready: Ready,
    /// How soon after its start it does, at the latest.
    pub ready_within: Duration,
    /// How it is asked what it is.
    pub status: Status,
}

impl Default for Serves {
    fn default() -> Self {
        Self {
            says_where: true,
            ready: Ready::Http(HEALTH),
            ready_within: Duration::from_secs(20),
            status: view::reference(),
        }
    }
}

/// The program that is a node. It prints `listening ADDRESS:PORT` once it does, answers
/// `GET /healthz` with 200 when it is ready, and ends when its standard input does.
pub(super) struct Program {
    pub path: PathBuf,
    pub arguments: Arguments,
    /// Before the number of the storage format, where a node is to write another than configured.
    pub version_flag: &'static str,
    /// What nodes are upgraded to and from, if that is said; they begin with the latter.
    pub versions: Option<Versions>,
    /// The arguments that make this very program a keeper of the leases in this file.
    pub keeper: fn(&Path) -> Vec<OsString>,
    /// Nodes are started with libfaketime, so that their clocks can be made wrong by it.
    pub preload_clock: bool,
    /// How they are known to serve.
    pub serves: Serves,
}

impl Program {
    /// Nodes of the reference cluster: this very program, as `quorate node`.
    pub fn reference(config: PathBuf, seed: u64) -> io::Result<Self> {
        Ok(Self {
            path: std::env::current_exe()?,
            arguments: Box::new(move |setup| Ok(node_arguments(setup, &config, seed))),
            version_flag: "--storage-version",
            versions: None,
            keeper: |file| vec!["keeper".into(), "--leases".into(), file.into()],
            preload_clock: false,
            serves: Serves::default(),
        })
    }

    /// Nodes of a store of another maker, which are configured below this directory.
    pub fn of(recipe: &'static Recipe, store: Store, configs: PathBuf) -> io::Result<Self> {
        let program = recipe.find().map_err(io::Error::other)?;
        let arguments = move |setup: &NodeSetup| {
            let mut members: Vec<_> = setup
                .peers
                .iter()
                .map(|&(node, at)| (node, at.ip()))
                .collect();
            members.push((setup.node, setup.listen.ip()));
            members.sort_unstable();
            let config_dir = config_dir(&configs, setup.node)?;
            fs::create_dir_all(&config_dir)?;
            let data_dir = path::absolute(&setup.data_dir)?;
            (recipe.arguments)(
                &Setup {
                    node: setup.node,
                    data_dir: &data_dir,
                    config_dir: &config_dir,
                    listen: setup.listen,
                    members: &members,
                },
                &store,
            )
        };
        Ok(Self {
            path: if recipe.in_shell {
                "/bin/sh".into()
            } else {
                program
            },
            arguments: Box::new(arguments),
            serves: Serves {
                says_where: false,
                ready: recipe.ready,
                ready_within: recipe.ready_within,
                status: recipe.status(),
            },
            ..Self::reference(PathBuf::new(), 0)?
        })
    }
}

/// Where the configuration of a node of another maker's store is, below the directory for all of
/// them.
pub(super) fn config_dir(configs: &Path, node: Node) -> io::Result<PathBuf> {
    path::absolute(configs.join(format!("n{node}-config")))
}

/// The arguments to start a node with.
pub(super) type Arguments = Box<dyn Fn(&NodeSetup) -> io::Result<Vec<OsString>>>;

/// The command line of `quorate node`.
fn node_arguments(setup: &NodeSetup, config: &Path, seed: u64) -> Vec<OsString> {
    let name = format!("n{}", setup.node);
    let peers: Vec<_> = setup
        .peers
        .iter()
        .map(|(node, at)| format!("n{node}={at}"))
        .collect();
    let mut arguments: Vec<OsString> = vec![
        "node".into(),
        "--listen".into(),
        setup.listen.to_string().into(),
        "--data".into(),
        setup.data_dir.clone().into(),
        "--config".into(),
        config.into(),
        "--allow-faults".into(),
        "--seed".into(),
        workloads::substream(seed, &name).to_string().into(),
        "--exit-with-parent".into(),
        "--id".into(),
        name.into(),
    ];
    if !peers.is_empty() {
        arguments.extend(["--peers".into(), peers.join(",").into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_its_name_its_peers_and_a_seed_of_its_own() {
        let setup = |node, peers: &[u16]| NodeSetup {
            node,
            data_dir: "data/n".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            peers: peers
                .iter()
                .map(|&n| (n, SocketAddr::from(([127, 0, 0, 1], 7000 + n))))
                .collect(),
        };
        let line = |setup: &NodeSetup| {
            let arguments = node_arguments(setup, Path::new("c.yaml"), 7);
            arguments
                .join(std::ffi::OsStr::new(" "))
                .into_string()
                .unwrap()
        };
        let one = line(&setup(1, &[2, 3]));
        assert!(
            one.starts_with(
                "node --listen 127.0.0.1:0 --data data/n --config c.yaml --allow-faults --seed "
            ),
            "{one}"
        );
        assert!(
            one.ends_with(
                " --exit-with-parent --id n1 --peers n2=127.0.0.1:7002,n3=127.0.0.1:7003"
            ),
            "{one}"
        );
        let seed = |line: &str| line.split(' ').nth(9).unwrap().parse::<u64>().unwrap();
        assert_ne!(seed(&one), seed(&line(&setup(2, &[1, 3]))));
        assert!(!line(&setup(1, &[])).contains("--peers"));
    }
}
