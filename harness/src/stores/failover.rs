//! Failover for stores whose nodes do not agree on a new primary by themselves: the part that a manager
//! of failovers (repmgr, orchestrator, an operator at night) has in practice.
//!
//! It stands beside the store, outside all faults, and does what such a manager should:
//!
//! * The primary is lost when, for [`LOST_FOR`], a majority of the nodes say so: replicas that answer
//!   and receive nothing from it, and itself if it does not answer.
//! * Then all replicas that answer stop receiving, so that nothing gets acknowledged by what is about
//!   to be left behind; as many as [`Managed::needed`] have to.
//! * The most advanced of them is promoted: anything else would lose writes that the store had kept.
//! * All others are told to follow it. One that cannot reach it yet, a primary that was cut off above
//!   all, does so when it can, and until then goes on as it was.
//!
//! Clients begin when all replicas have attached to the first primary. What it did is in
//! `nodes/failover.log` of the run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use nemesis::Node;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::Store;

/// How long a primary has to be lost before another node is promoted.
pub const LOST_FOR: Duration = Duration::from_secs(2);
/// Pause between two looks at the nodes.
const ROUND: Duration = Duration::from_millis(250);
/// How long a node may take to say where it stands.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long replicas may take to attach to the first primary.
const ATTACH_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to do what it is told.
const OBEY_WITHIN: Duration = Duration::from_secs(10);

/// A node of a managed store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub node: Node,
    /// Where it listens to clients.
    pub listen: SocketAddr,
    /// Where its configuration is, and what it is told by files.
    pub config_dir: PathBuf,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it takes writes.
    pub primary: bool,
    /// Whom it follows, if that can be told.
    pub follows: Option<Node>,
    /// Whether it is connected to whom it follows.
    pub attached: bool,
    /// How far it has got: first what outranks (a timeline), then how much it has received.
    pub received: (u64, u64),
}

/// A store whose nodes are promoted from outside.
pub trait Managed: Send + Sync {
    /// How many replicas have to answer before one is promoted: so many that each acknowledged write
    /// is on one of them.
    fn needed(&self) -> usize;

    /// Where a node stands; `None` if it does not answer.
    fn standing(&self, node: Node) -> impl Future<Output = Option<Standing>> + Send;

    /// Has a replica receive nothing more from whom it follows.
    fn detach(&self, node: Node) -> impl Future<Output = Result<(), String>> + Send;

    /// Makes a replica the primary.
    fn promote(&self, node: Node) -> impl Future<Output = Result<(), String>> + Send;

    /// What is to be done once all replicas have attached, before clients begin.
    fn settle(&self) -> impl Future<Output = Result<(), String>> + Send {
        async { Ok(()) }
    }

    /// Tells a node to follow another, as soon as it can reach that one itself; a former primary gives
    /// up what the new one does not have. Told twice it does it once.
    fn follow(&self, node: Node, primary: Node) -> impl Future<Output = Result<(), String>> + Send;
}

/// What manages a store's failovers for the time of a run: [`manage`] of some [`Managed`].
pub type Manager = fn(&Store, Duty) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a manager is given.
#[derive(Debug)]
pub struct Duty {
    /// The nodes, from n1 on.
    pub members: Vec<Member>,
    /// What was done, and when.
    pub log: Log,
    /// Told once: clients may begin, or why not.
    pub settled: oneshot::Sender<Result<(), String>>,
}

/// What was done, and when.
#[derive(Debug)]
pub struct Log {
    file: File,
    since: Instant,
}

impl Log {
    /// Into this file, anew.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path)?;
        Ok(Self {
            file,
            since: Instant::now(),
        })
    }

    fn say(&mut self, what: &str) {
        let at = self.since.elapsed().as_secs_f64();
        // A full disk ends the run elsewhere.
        let _ = writeln!(self.file, "{at:9.3} s  {what}");
    }
}

type Standings = BTreeMap<Node, Option<Standing>>;

/// Manages a store, the first node of which begins as primary. Does not end unless its replicas never
/// attach.
pub async fn manage<S: Managed>(store: &S, duty: Duty) {
    let Duty {
        members,
        mut log,
        settled,
    } = duty;
    let nodes = members.len() as Node;
    let begun = begin(store, nodes, &mut log).await;
    let failed = begun.is_err();
    // Who waits may have been interrupted.
    let _ = settled.send(begun);
    if failed {
        return;
    }
    let mut primary: Node = 1;
    let mut lost_since = None;
    let mut told: BTreeMap<Node, Node> = BTreeMap::new();
    loop {
        let standings = look(store, nodes).await;
        if is_lost(primary, &standings) {
            let since = *lost_since.get_or_insert_with(|| {
                log.say(&format!("n{primary} is lost to a majority"));
                Instant::now()
            });
            if since.elapsed() >= LOST_FOR
                && let Some(next) = fail_over(store, primary, &standings, &mut log).await
            {
                primary = next;
                lost_since = None;
                told.clear();
            }
        } else {
            if lost_since.take().is_some() {
                log.say(&format!("n{primary} is back"));
            }
            for node in astray(primary, &standings) {
                let obeyed = timeout(OBEY_WITHIN, store.follow(node, primary)).await;
                if told.insert(node, primary) != Some(primary) {
                    log.say(&format!("n{node} to follow n{primary}: {obeyed:?}"));
                }
            }
        }
        sleep(ROUND).await;
    }
}

/// Waits for the replicas to attach to the first node.
async fn begin<S: Managed>(store: &S, nodes: u16, log: &mut Log) -> Result<(), String> {
    let until = Instant::now() + ATTACH_WITHIN;
    loop {
        let standings = look(store, nodes).await;
        let all = standings.values().all(Option::is_some);
        if all && astray(1, &standings).is_empty() {
            log.say("all replicas are attached to n1");
            return store.settle().await;
        }
        if Instant::now() > until {
            log.say(&format!("replicas are not attached to n1: {standings:?}"));
            return Err(format!(
                "the replicas did not attach to n1 in {ATTACH_WITHIN:?}"
            ));
        }
        sleep(ROUND).await;
    }
}

/// Where all nodes stand, asked one after the other of each kind at once.
async fn look<S: Managed>(store: &S, nodes: u16) -> Standings {
    let asked = (1..=nodes).map(|node| async move {
        let standing = timeout(ANSWER_WITHIN, store.standing(node)).await;
        (node, standing.ok().flatten())
    });
    futures_util::future::join_all(asked)
        .await
        .into_iter()
        .collect()
}

/// Whether a majority of the nodes have lost the primary.
fn is_lost(primary: Node, standings: &Standings) -> bool {
    let lost = standings.iter().filter(|(node, standing)| match standing {
        None => **node == primary,
        Some(standing) => **node != primary && !standing.primary && !standing.attached,
    });
    lost.count() > standings.len() / 2
}

/// Who answers, and is neither the primary nor connected to it.
fn astray(primary: Node, standings: &Standings) -> Vec<Node> {
    let astray = standings.iter().filter(|(node, standing)| {
        **node != primary
            && standing.is_some_and(|standing| {
                standing.primary
                    || standing.follows.is_some_and(|followed| followed != primary)
                    || !standing.attached
            })
    });
    astray.map(|(node, _)| *node).collect()
}

/// The replica that has received most; of equals the lowest.
fn most_advanced(standings: &Standings) -> Option<Node> {
    let replicas = standings.iter().filter_map(|(node, standing)| {
        let standing = standing.filter(|standing| !standing.primary)?;
        Some((*node, standing.received))
    });
    let best = replicas.max_by_key(|&(node, received)| (received, std::cmp::Reverse(node)));
    best.map(|(node, _)| node)
}

async fn fail_over<S: Managed>(
    store: &S,
    lost: Node,
    standings: &Standings,
    log: &mut Log,
) -> Option<Node> {
    let mut stopped = Standings::new();
    for (&node, standing) in standings {
        if node == lost || standing.is_none_or(|standing| standing.primary) {
            continue;
        }
        match timeout(OBEY_WITHIN, store.detach(node)).await {
            // Asked anew: what came between counts.
            Ok(Ok(())) => {
                let standing = timeout(ANSWER_WITHIN, store.standing(node)).await;
                stopped.insert(node, standing.ok().flatten());
            }
            refused => log.say(&format!("n{node} does not stop receiving: {refused:?}")),
        }
    }
    let answered = stopped.values().flatten().count();
    if answered < store.needed() {
        log.say(&format!(
            "{answered} replicas answer, {} are needed: nobody is promoted",
            store.needed()
        ));
        return None;
    }
    let next = most_advanced(&stopped)?;
    log.say(&format!("n{next} is promoted, of {stopped:?}"));
    match timeout(OBEY_WITHIN, store.promote(next)).await {
        Ok(Ok(())) => Some(next),
        refused => {
            log.say(&format!("n{next} was not promoted: {refused:?}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn standing(attached: bool, received: u64) -> Standing {
        Standing {
            primary: false,
            follows: Some(1),
            attached,
            received: (1, received),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one of those that answer")]
    fn replica(attached: bool, received: u64) -> Option<Standing> {
        Some(standing(attached, received))
    }

    const PRIMARY: Option<Standing> = Some(Standing {
        primary: true,
        follows: None,
        attached: false,
        received: (1, 9),
    });

    fn standings(of: &[Option<Standing>]) -> Standings {
        (1..).zip(of.iter().copied()).collect()
    }

    #[test]
    fn a_primary_is_lost_when_a_majority_says_so() {
        for (of, lost) in [
            (&[PRIMARY, replica(true, 1), replica(true, 1)][..], false),
            (&[PRIMARY, replica(false, 1), replica(true, 1)], false),
            (&[PRIMARY, replica(false, 1), replica(false, 1)], true),
            // Cut off from whoever asks is not lost to the others.
            (&[None, replica(true, 1), replica(true, 1)], false),
            (&[None, replica(false, 1), replica(true, 1)], true),
            (&[None, None, replica(false, 1)], true),
            (&[PRIMARY, None, None], false),
            (&[PRIMARY, None, replica(false, 1)], false),
        ] {
            assert_eq!(is_lost(1, &standings(of)), lost, "{of:?}");
        }
    }

    #[test]
    fn the_most_advanced_replica_comes_next() {
        let of = |of: &[_]| most_advanced(&standings(of));
        assert_eq!(of(&[None, replica(false, 4), replica(false, 5)]), Some(3));
        assert_eq!(of(&[None, replica(false, 5), replica(false, 5)]), Some(2));
        assert_eq!(of(&[PRIMARY, None, replica(false, 5)]), Some(3));
        assert_eq!(of(&[PRIMARY, None, None]), None);
    }

    #[test]
    fn who_does_not_follow_the_primary_is_astray() {
        let moved = Some(Standing {
            follows: Some(3),
            ..standing(true, 7)
        });
        let all = standings(&[PRIMARY, moved, replica(true, 3), None, replica(false, 3)]);
        assert_eq!(astray(1, &all), [2, 5]);
        assert_eq!(astray(3, &standings(&[PRIMARY, moved, PRIMARY])), [1]);
    }

    /// Three nodes, the first of which is dead.
    #[derive(Default)]
    struct Three {
        needed: usize,
        done: Mutex<Vec<String>>,
    }

    impl Three {
        fn note(&self, what: String) {
            self.done.lock().unwrap().push(what);
        }
    }

    impl Managed for Three {
        fn needed(&self) -> usize {
            self.needed
        }

        async fn standing(&self, node: Node) -> Option<Standing> {
            (node > 1).then(|| standing(false, 10 + u64::from(node)))
        }

        async fn detach(&self, node: Node) -> Result<(), String> {
            self.note(format!("detach {node}"));
            Ok(())
        }

        async fn promote(&self, node: Node) -> Result<(), String> {
            self.note(format!("promote {node}"));
            Ok(())
        }

        async fn follow(&self, node: Node, primary: Node) -> Result<(), String> {
            self.note(format!("{node} follows {primary}"));
            Ok(())
        }
    }

    #[tokio::test]
    async fn replicas_stop_receiving_before_one_of_them_is_promoted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::create(&dir.path().join("failover.log")).unwrap();
        let three = Three {
            needed: 2,
            ..Three::default()
        };
        let seen = look(&three, 3).await;
        assert_eq!(fail_over(&three, 1, &seen, &mut log).await, Some(3));
        let done = three.done.lock().unwrap().clone();
        assert_eq!(done, ["detach 2", "detach 3", "promote 3"]);

        let three = Three {
            needed: 3,
            ..Three::default()
        };
        assert_eq!(fail_over(&three, 1, &seen, &mut log).await, None);
        let done = three.done.lock().unwrap().clone();
        assert_eq!(done, ["detach 2", "detach 3"]);
        let said = std::fs::read_to_string(dir.path().join("failover.log")).unwrap();
        assert!(said.contains("2 replicas answer, 3 are needed"), "{said}");
    }
}
