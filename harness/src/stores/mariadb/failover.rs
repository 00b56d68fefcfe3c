//! Failovers of a primary with replicas, by position (GTID): Galera has none, and needs none.
//!
//! A node whose position is part of what the present primary began with follows it from there. Any
//! other, and a former primary that still takes writes, begins anew: from the template, with all that
//! the primary's binary log has. That is done by its own script (`start`), which first makes sure that
//! it reaches the new primary, and ends the server without letting it answer anybody.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use nemesis::Node;
use tokio::time::{Instant, sleep};

use super::{ADMIN, Gtid, Mariadb, Replication, admin, config, status};
use crate::stores::Store;
use crate::stores::failover::{Duty, Managed, Member, Standing, manage};

/// How long all nodes of a Galera cluster may take to be part of it.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// How long a replica may take to carry out what it has received.
const APPLY_WITHIN: Duration = Duration::from_secs(8);
/// Pause between two looks.
const ROUND: Duration = Duration::from_millis(100);

/// Manages failovers until the run ends; of Galera waits for the cluster, no more.
pub(super) fn manager(store: &Store, duty: Duty) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let Store::Mariadb(mariadb) = store else {
        return Box::pin(async {});
    };
    if mariadb.is_galera() {
        return Box::pin(async move {
            let met = meet(&duty.members).await;
            // Who waits may have been interrupted.
            let _ = duty.settled.send(met);
        });
    }
    let replicated = Replicated::new(mariadb, &duty.members);
    Box::pin(async move { manage(&replicated, duty).await })
}

/// Waits until all nodes are part of one cluster.
async fn meet(members: &[Member]) -> Result<(), String> {
    let until = Instant::now() + MEET_WITHIN;
    loop {
        let mut met = 0;
        for member in members {
            let said = status(member.node, member.listen).await;
            met += usize::from(said.is_some_and(|said| said.pending == 0));
        }
        if met == members.len() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!(
                "the nodes did not form a cluster in {MEET_WITHIN:?}"
            ));
        }
        sleep(ROUND).await;
    }
}

/// A time in which one node was primary.
#[derive(Clone, Copy, Debug)]
struct Term {
    node: Node,
    /// Its number among servers then.
    server: u64,
    /// What it began with.
    from: u64,
}

/// Who was primary, and from where on.
#[derive(Debug)]
struct Terms {
    /// The present one is the last.
    all: Vec<Term>,
    /// Whether the first was given its office.
    begun: bool,
}

impl Terms {
    /// Whether this is the present primary, with what it had: one that lost its data begins by another
    /// number.
    fn holds(&self, node: Node, server: u64) -> bool {
        let last = self.all.last();
        self.begun && last.is_some_and(|term| term.node == node && term.server == server)
    }

    /// Whether what ends there is the beginning of what the present primary has.
    fn contain(&self, position: Gtid) -> bool {
        let Gtid { sequence, server } = position;
        let ends = self.all.iter().skip(1).map(|term| term.from);
        let ends = ends.chain([u64::MAX]);
        position == Gtid::default()
            || self
                .all
                .iter()
                .zip(ends)
                .any(|(term, end)| term.server == server && term.from < sequence && sequence <= end)
    }
}

/// A primary with replicas.
struct Replicated {
    members: BTreeMap<Node, Member>,
    semi_sync: bool,
    terms: Mutex<Terms>,
}

/// What replication has come to on a node.
#[derive(Debug)]
struct Replica {
    host: String,
    receives: bool,
    applies: bool,
    /// It cannot go on.
    broken: bool,
    received: Gtid,
}

impl Replica {
    async fn of(node: &mut Conn) -> Result<Option<Self>, mysql_async::Error> {
        let row: Option<Row> = node.query_first("SHOW SLAVE STATUS").await?;
        Ok(row.map(|row| {
            let field = |name: &str| -> String {
                row.get_opt::<Option<String>, _>(name)
                    .and_then(Result::ok)
                    .flatten()
                    .unwrap_or_default()
            };
            Self {
                host: field("Master_Host"),
                receives: field("Slave_IO_Running") == "Yes",
                applies: field("Slave_SQL_Running") == "Yes",
                // What it asks for is not in the primary's log, or what it is told cannot be done.
                broken: field("Last_IO_Errno") == "1236"
                    || !matches!(&*field("Last_SQL_Errno"), "" | "0"),
                received: Gtid::furthest(&field("Gtid_IO_Pos")),
            }
        }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn told(error: mysql_async::Error) -> String {
    error.to_string()
}

impl Replicated {
    fn new(mariadb: &Mariadb, members: &[Member]) -> Self {
        let members: BTreeMap<_, _> = members.iter().map(|m| (m.node, m.clone())).collect();
        Self {
            members,
            semi_sync: mariadb.replication == Replication::SemiSync,
            terms: Mutex::new(Terms {
                all: vec![Term {
                    node: 1,
                    server: 1,
                    from: 0,
                }],
                begun: false,
            }),
        }
    }

    fn terms(&self) -> MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, node: Node) -> Result<&Member, String> {
        let member = self.members.get(&node);
        member.ok_or_else(|| format!("there is no n{node}"))
    }

    async fn connect(&self, node: Node) -> Result<Conn, String> {
        admin(self.member(node)?.listen).await.map_err(told)
    }

    fn at(&self, host: &str) -> Option<Node> {
        let mut members = self.members.values();
        let found = members.find(|member| member.listen.ip().to_string() == host);
        Some(found?.node)
    }

    /// Lets a node take writes; they wait for replicas from the first on.
    async fn take_office(&self, node: &mut Conn) -> Result<(), mysql_async::Error> {
        if self.semi_sync {
            node.query_drop("SET GLOBAL rpl_semi_sync_master_enabled = ON")
                .await?;
        }
        node.query_drop("SET GLOBAL read_only = OFF").await
    }

    async fn stand(&self, node: Node) -> Result<Standing, String> {
        let mut connection = self.connect(node).await?;
        let asked = "SELECT @@global.read_only, @@global.gtid_current_pos, @@global.server_id";
        let row: Option<(bool, String, u64)> = connection.query_first(asked).await.map_err(told)?;
        let (mut read_only, position, server) = row.ok_or("no answer")?;
        // A primary that was started again does not know that it is one.
        if read_only && self.terms().holds(node, server) {
            self.take_office(&mut connection).await.map_err(told)?;
            read_only = false;
        }
        let replica = Replica::of(&mut connection).await.map_err(told)?;
        let replica = replica.as_ref();
        let received = replica.map_or(0, |replica| replica.received.sequence);
        let standing = Standing {
            primary: !read_only,
            follows: replica.and_then(|replica| self.at(&replica.host)),
            attached: replica.is_some_and(|replica| replica.receives && replica.applies),
            received: (0, received.max(Gtid::furthest(&position).sequence)),
        };
        // Who is done with does not care.
        let _ = connection.disconnect().await;
        Ok(standing)
    }

    /// Waits until a replica has carried out all that it has received; its position then.
    async fn applied(&self, connection: &mut Conn) -> Result<u64, String> {
        let until = Instant::now() + APPLY_WITHIN;
        loop {
            let replica = Replica::of(connection).await.map_err(told)?;
            let asked = "SELECT @@global.gtid_current_pos";
            let position: Option<String> = connection.query_first(asked).await.map_err(told)?;
            let done = Gtid::furthest(&position.unwrap_or_default()).sequence;
            let received = replica.map_or(0, |replica| replica.received.sequence);
            if done >= received {
                return Ok(done);
            }
            if Instant::now() > until {
                return Err(format!("it has carried out {done} of {received}"));
            }
            sleep(ROUND).await;
        }
    }

    /// Has the script of a node begin anew as soon as it reaches the primary.
    fn clone_from(member: &Member, primary: SocketAddr) -> Result<(), String> {
        let (new, file) = (
            member.config_dir.join("clone.new"),
            member.config_dir.join("clone"),
        );
        let text = format!("{} {}\n", primary.ip(), primary.port());
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
        written.map_err(|error| error.to_string())
    }
}

impl Managed for Replicated {
    fn needed(&self) -> usize {
        // One replica, whichever, has what a semi-synchronous primary acknowledged.
        if self.semi_sync {
            self.members.len().saturating_sub(1)
        } else {
            1
        }
    }

    async fn standing(&self, node: Node) -> Option<Standing> {
        self.stand(node).await.ok()
    }

    async fn detach(&self, node: Node) -> Result<(), String> {
        let mut connection = self.connect(node).await?;
        connection
            .query_drop("STOP SLAVE IO_THREAD")
            .await
            .map_err(told)
    }

    async fn promote(&self, node: Node) -> Result<(), String> {
        let mut connection = self.connect(node).await?;
        let from = self.applied(&mut connection).await?;
        for statement in ["STOP SLAVE", "RESET SLAVE ALL"] {
            connection.query_drop(statement).await.map_err(told)?;
        }
        let server = connection.query_first("SELECT @@global.server_id").await;
        let server = server.map_err(told)?.ok_or("no answer")?;
        // Before it waits for replicas, which it does not have yet.
        let epoch = self.terms().all.len() + 1;
        let epoch = format!("REPLACE INTO {ADMIN}.epochs VALUES ({epoch})");
        connection.query_drop(epoch).await.map_err(told)?;
        self.take_office(&mut connection).await.map_err(told)?;
        self.terms().all.push(Term { node, server, from });
        Ok(())
    }

    async fn settle(&self) -> Result<(), String> {
        let mut connection = self.connect(1).await?;
        self.take_office(&mut connection).await.map_err(told)?;
        self.terms().begun = true;
        Ok(())
    }

    async fn follow(&self, node: Node, primary: Node) -> Result<(), String> {
        let (member, to) = (self.member(node)?, self.member(primary)?.listen);
        if member.config_dir.join("clone").exists() {
            return Ok(());
        }
        let mut connection = self.connect(node).await?;
        let replica = Replica::of(&mut connection).await.map_err(told)?;
        if let Some(replica) = &replica
            && replica.host == to.ip().to_string()
            && !replica.broken
        {
            // It goes on trying; if it was told to stop, no more.
            return connection.query_drop("START SLAVE").await.map_err(told);
        }
        let asked = "SELECT @@global.read_only, @@global.gtid_current_pos";
        let row: Option<(bool, String)> = connection.query_first(asked).await.map_err(told)?;
        let (read_only, position) = row.ok_or("no answer")?;
        let broken = replica.is_some_and(|replica| replica.broken);
        if broken || !read_only || !self.terms().contain(Gtid::furthest(&position)) {
            return Self::clone_from(member, to);
        }
        for statement in [
            "STOP SLAVE",
            "SET GLOBAL gtid_slave_pos = @@global.gtid_current_pos",
            &config::follow(to.ip(), to.port()),
            "START SLAVE",
        ] {
            connection.query_drop(statement).await.map_err(told)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtid(server: u64, sequence: u64) -> Gtid {
        Gtid { sequence, server }
    }

    #[test]
    fn a_position_is_part_of_a_history_or_it_is_not() {
        let term = |node, server, from| Term { node, server, from };
        let terms = Terms {
            all: vec![term(1, 1, 0), term(2, 2, 40), term(1, 1001, 60)],
            begun: true,
        };
        assert!(terms.holds(1, 1001) && !terms.holds(1, 1) && !terms.holds(2, 2));
        for (position, part) in [
            (gtid(0, 0), true),
            (gtid(1, 40), true),
            // Written by the first after the second had taken over.
            (gtid(1, 41), false),
            (gtid(2, 41), true),
            (gtid(2, 60), true),
            (gtid(2, 61), false),
            (gtid(1, 61), false),
            (gtid(1001, 61), true),
            (gtid(3, 10), false),
        ] {
            assert_eq!(terms.contain(position), part, "{position:?}");
        }
    }

    #[test]
    fn with_semi_synchronous_replication_all_replicas_are_asked() {
        let member = |node| Member {
            node,
            listen: ([10, 1, 0, 1], 7000 + node).into(),
            config_dir: "/c".into(),
        };
        let members = [member(1), member(2), member(3)];
        let needed = |replication| {
            let mariadb = Mariadb {
                replication,
                ..Mariadb::default()
            };
            Replicated::new(&mariadb, &members).needed()
        };
        assert_eq!(needed(Replication::Async), 1);
        assert_eq!(needed(Replication::SemiSync), 2);
    }
}
