//! What nodes say of themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nemesis::{Node, NodeView};
use tokio::time::timeout;
use workloads::client::mysql::Access;

use super::{ADMIN, Gtid, admin};

/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// `wsrep_local_state` of a node that has all it should.
const SYNCED: &str = "4";

/// What the node there says, which was started here; `None` if nothing, or not in time.
pub(super) async fn status(node: Node, at: SocketAddr) -> Option<NodeView> {
    let epoch = format!("(SELECT MAX(epoch) FROM {ADMIN}.epochs)");
    let said = async { ask(admin(at).await?, &epoch).await };
    let said = timeout(ANSWER_WITHIN, said).await.ok()?.ok()?;
    Some(described(node, &said))
}

/// The same of a node that runs already, asked as its clients: it says nothing of an epoch.
pub(super) async fn status_as(access: &Access, node: Node, at: SocketAddr) -> Option<NodeView> {
    // What clients ask of their sessions may have a node wait that is behind.
    let plain = Access {
        session: Vec::new(),
        ..access.clone()
    };
    let client = Conn::new(plain.options(&at.to_string())?).await.ok()?;
    Some(described(node, &ask(client, "NULL").await.ok()?))
}

/// The answers to all that is asked.
#[derive(Debug, Default)]
struct Said {
    /// Of Galera; empty where it is not used.
    galera: BTreeMap<String, String>,
    read_only: bool,
    position: String,
    epoch: u64,
}

/// `epoch` is where it is found.
async fn ask(mut node: Conn, epoch: &str) -> Result<Said, mysql_async::Error> {
    let rows: Vec<(String, String)> = node
        .query(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_provider_name', 'wsrep_cluster_status', \
             'wsrep_local_state', 'wsrep_cluster_conf_id', 'wsrep_last_committed', \
             'wsrep_local_recv_queue')",
        )
        .await?;
    let mut said = Said {
        galera: rows.into_iter().collect(),
        ..Said::default()
    };
    if said
        .galera
        .get("wsrep_provider_name")
        .is_none_or(String::is_empty)
    {
        said.galera.clear();
        let asked = format!("SELECT @@global.read_only, @@global.gtid_current_pos, {epoch}");
        let row: Option<(bool, String, Option<u64>)> = node.query_first(asked).await?;
        let (read_only, position, epoch) = row.unwrap_or((true, String::new(), None));
        said = Said {
            read_only,
            position,
            epoch: epoch.unwrap_or_default(),
            ..said
        };
    }
    node.disconnect().await?;
    Ok(said)
}

/// In a Galera cluster all are members; who is not part of it, or has not all that it should, is a
/// joiner. Otherwise who takes writes leads.
fn described(node: Node, said: &Said) -> NodeView {
    if said.galera.is_empty() {
        let leads = !said.read_only;
        return NodeView {
            role: Some(if leads { "leader" } else { "follower" }.to_owned()),
            epoch: said.epoch,
            last_index: Gtid::furthest(&said.position).sequence,
            leader: leads.then_some(node),
            ..NodeView::silent(node)
        };
    }
    let field = |name: &str| said.galera.get(name).map_or("", String::as_str);
    let number = |name| field(name).parse().unwrap_or_default();
    let member = field("wsrep_cluster_status") == "Primary" && field("wsrep_local_state") == SYNCED;
    NodeView {
        role: Some(if member { "member" } else { "joiner" }.to_owned()),
        // Of a node that has lost the others it is no number, but the largest there is.
        epoch: if member {
            number("wsrep_cluster_conf_id")
        } else {
            0
        },
        last_index: number("wsrep_last_committed"),
        pending: if member {
            number("wsrep_local_recv_queue")
        } else {
            1
        },
        ..NodeView::silent(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicated(read_only: bool, position: &str) -> NodeView {
        let said = Said {
            read_only,
            position: position.to_owned(),
            epoch: 2,
            ..Said::default()
        };
        described(3, &said)
    }

    #[test]
    fn who_takes_writes_leads() {
        let leader = replicated(false, "0-3-42");
        assert_eq!(leader.role.as_deref(), Some("leader"));
        assert_eq!(
            (leader.leader, leader.epoch, leader.last_index),
            (Some(3), 2, 42)
        );
        let replica = replicated(true, "0-1-7");
        assert_eq!(replica.role.as_deref(), Some("follower"));
        assert_eq!((replica.leader, replica.last_index), (None, 7));
    }

    #[test]
    fn in_galera_nobody_leads_and_who_is_apart_has_work_left() {
        let galera = |status: &str, state: &str, epoch: &str| {
            let fields = [
                ("wsrep_provider_name", "Galera"),
                ("wsrep_cluster_status", status),
                ("wsrep_local_state", state),
                ("wsrep_cluster_conf_id", epoch),
                ("wsrep_last_committed", "12"),
                ("wsrep_local_recv_queue", "0"),
            ];
            let galera = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let said = Said {
                galera: galera.into(),
                ..Said::default()
            };
            let view = described(1, &said);
            assert_eq!((view.leader, view.last_index), (None, 12));
            (view.role.unwrap(), view.epoch, view.pending)
        };
        assert_eq!(galera("Primary", "4", "5"), ("member".to_owned(), 5, 0));
        let apart = ("joiner".to_owned(), 0, 1);
        assert_eq!(galera("non-Primary", "0", "18446744073709551615"), apart);
        assert_eq!(galera("Primary", "1", "5"), apart);
    }
}
