//! What manages the failovers of PostgreSQL asks its nodes, and tells them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use nemesis::Node;
use tokio::time::{Instant, sleep};

use super::{Said, Store, administrator, said};
use crate::stores::failover::{self, Duty, Managed, Member, Standing};

/// A standby that follows nobody in this time, and can reach the primary, has more than the primary
/// of what it should not have: it is made anew.
const STRAY_FOR: Duration = Duration::from_secs(15);
/// Pause between two looks at whether something has come about.
const PAUSE: Duration = Duration::from_millis(50);

/// Nodes of PostgreSQL.
struct Nodes {
    members: Vec<Member>,
    /// How many standbys a commit waits for.
    sync: u16,
    /// Whom each standby was told to follow, and since when.
    told: Mutex<BTreeMap<Node, (Node, Instant)>>,
}

pub(super) fn manager(store: &Store, duty: Duty) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let sync = match store {
        Store::Postgres(postgres) => postgres.sync.0,
        _ => 0,
    };
    let nodes = Nodes {
        members: duty.members.clone(),
        sync,
        told: Mutex::default(),
    };
    Box::pin(async move { failover::manage(&nodes, duty).await })
}

impl Nodes {
    fn member(&self, node: Node) -> Result<&Member, String> {
        let found = self.members.iter().find(|member| member.node == node);
        found.ok_or_else(|| format!("there is no n{node}"))
    }

    async fn tell(&self, node: Node, statements: &[&str]) -> Result<(), String> {
        let at = self.member(node)?.listen;
        let client = administrator(at).await;
        let client = client.map_err(|error| error.to_string())?;
        for statement in statements {
            client.batch_execute(statement).await.map_err(told)?;
        }
        Ok(())
    }

    async fn said(&self, node: Node) -> Option<Said> {
        said(self.member(node).ok()?.listen).await
    }

    /// The node whose address a standby was given.
    fn named(&self, conninfo: &str) -> Option<Node> {
        let mut words = conninfo.split_whitespace();
        let host = words.find_map(|word| word.strip_prefix("host="))?;
        let mut members = self.members.iter();
        let found = members.find(|member| member.listen.ip().to_string() == host);
        Some(found?.node)
    }

    /// Since when a standby was told to follow this node.
    fn since(&self, node: Node, primary: Node) -> Instant {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = told.entry(node).or_insert((primary, Instant::now()));
        if entry.0 != primary {
            *entry = (primary, Instant::now());
        }
        entry.1
    }

    fn forget(&self, node: Node) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(&node);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn told(error: tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

/// Has a node make itself anew from this one, as soon as it reaches it.
fn remake(member: &Member, primary: &Member) -> io::Result<()> {
    let at = primary.listen;
    let file = member.config_dir.join("follow");
    let whole = member.config_dir.join("follow.new");
    fs::write(&whole, format!("{} {}\n", at.ip(), at.port()))?;
    // It is read at any time.
    fs::rename(whole, file)
}

impl Managed for Nodes {
    fn needed(&self) -> usize {
        match usize::from(self.sync) {
            // No number of them is certain to have it.
            0 => 1,
            k => self.members.len().saturating_sub(k).max(1),
        }
    }

    async fn standing(&self, node: Node) -> Option<Standing> {
        let said = self.said(node).await?;
        if said.attached {
            self.forget(node);
        }
        Some(Standing {
            primary: !said.follows,
            follows: self.named(&said.conninfo).filter(|_| said.follows),
            attached: said.attached,
            received: (said.timeline, said.received),
        })
    }

    async fn detach(&self, node: Node) -> Result<(), String> {
        let none = "ALTER SYSTEM SET primary_conninfo = ''";
        self.tell(node, &[none, "SELECT pg_reload_conf()"]).await?;
        // What it has received is on its disk when its receiver has ended.
        loop {
            match self.said(node).await {
                None => return Err("it does not answer any more".to_owned()),
                Some(said) if !said.attached => return Ok(()),
                Some(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn promote(&self, node: Node) -> Result<(), String> {
        self.tell(node, &["SELECT pg_promote(false)"]).await?;
        while self.said(node).await.is_none_or(|said| said.follows) {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn follow(&self, node: Node, primary: Node) -> Result<(), String> {
        let (member, next) = (self.member(node)?, self.member(primary)?);
        let said = self.said(node).await.ok_or("it does not answer")?;
        let anew = || remake(member, next).map_err(|error| error.to_string());
        if !said.follows {
            return anew();
        }
        if self.named(&said.conninfo) != Some(primary) {
            let at = next.listen;
            let set = format!(
                "ALTER SYSTEM SET primary_conninfo = \
                 'host={} port={} user=postgres application_name=n{node}'",
                at.ip(),
                at.port()
            );
            self.tell(node, &[&set, "SELECT pg_reload_conf()"]).await?;
        }
        if self.since(node, primary).elapsed() > STRAY_FOR {
            self.forget(node);
            return anew();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(sync: u16) -> Nodes {
        let member = |node: u8| Member {
            node: node.into(),
            listen: ([10, 1, 0, node], 7000).into(),
            config_dir: "/nowhere".into(),
        };
        Nodes {
            members: [1, 2, 3].map(member).to_vec(),
            sync,
            told: Mutex::default(),
        }
    }

    #[test]
    fn as_many_replicas_have_to_answer_as_make_sure_of_each_acknowledged_write() {
        assert_eq!(nodes(0).needed(), 1);
        // A write is on the primary and one of two others: on either of them.
        assert_eq!(nodes(1).needed(), 2);
        assert_eq!(nodes(2).needed(), 1);
    }

    #[test]
    fn a_standby_names_whom_it_follows_by_address() {
        let nodes = nodes(0);
        let conninfo = "host=10.1.0.2 port=7000 user=postgres application_name=n3";
        assert_eq!(nodes.named(conninfo), Some(2));
        assert_eq!(nodes.named(""), None);
        assert_eq!(nodes.named("host=10.9.0.2"), None);
    }
}
