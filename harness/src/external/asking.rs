//! [`Asking`]: how nodes of a store that runs already, here or on Kubernetes, are asked what they are.

use std::net::SocketAddr;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
use std::sync::Arc;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
use std::time::Duration;

use nemesis::{Node, View};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
use tokio::time::timeout;
#[cfg(feature = "redis")]
use workloads::client::Login;
#[cfg(feature = "mysql")]
use workloads::client::mysql::Access;
#[cfg(feature = "postgres")]
use workloads::client::postgres::Session;

use crate::local::view::{poll_by, poll_with};
#[cfg(feature = "mysql")]
use crate::stores::mariadb;
#[cfg(feature = "postgres")]
use crate::stores::postgres;
use crate::stores::recipe::Status;
#[cfg(feature = "redis")]
use crate::stores::redis;
use crate::stores::{Store, recipe};

/// How long a node may take for a login and an answer, through the API server of a cluster where it is
/// on one.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Why nobody is known to lead in NATS.
const MONITOR_ONLY: &str = "nodes of NATS that run already say who leads to their monitor alone, which is \
                            at another port than their clients'";

/// How nodes are asked.
#[derive(Clone, Debug)]
pub(crate) enum Asking {
    /// Without a login.
    Anybody(Status),
    /// As clients log in.
    #[cfg(feature = "mysql")]
    Mariadb(Arc<Access>),
    /// As clients log in.
    #[cfg(feature = "postgres")]
    Postgres(Arc<Session>),
    /// As clients log in; no Sentinel is asked, as nobody says where it is.
    #[cfg(feature = "redis")]
    Redis(Arc<Login>),
}

impl Asking {
    /// How those of this store are, of the reference store if there is none; `None` if they say nothing to
    /// those who have not started them.
    pub fn of(store: Option<&Store>) -> Option<Self> {
        let Some(store) = store else {
            return Some(Self::Anybody(Status::Reference));
        };
        Some(match store {
            #[cfg(feature = "mysql")]
            Store::Mariadb(mariadb) => Self::Mariadb(mariadb.access().into()),
            #[cfg(feature = "postgres")]
            Store::Postgres(postgres) => Self::Postgres(postgres.session().into()),
            #[cfg(feature = "postgres")]
            Store::Patroni(patroni) => Self::Postgres(patroni.session().into()),
            #[cfg(feature = "redis")]
            Store::Redis(redis) => Self::Redis(redis.login().into()),
            _ if without_roles(store) == Some(MONITOR_ONLY) => return None,
            _ => Self::Anybody(store.recipe()?.status),
        })
    }

    /// Whether the nodes are the reference store's.
    #[cfg(feature = "k8s")]
    pub fn is_reference(&self) -> bool {
        matches!(self, Self::Anybody(Status::Reference))
    }

    /// Asks all nodes at once. Those that do not answer in time have no role.
    pub async fn view(&self, http: &reqwest::Client, nodes: &[(Node, Option<SocketAddr>)]) -> View {
        match self {
            Self::Anybody(status) => poll_by(http, *status, nodes).await,
            #[cfg(feature = "mysql")]
            Self::Mariadb(access) => {
                let ask = |node, at| {
                    let access = Arc::clone(access);
                    async move {
                        let said = mariadb::status_as(&access, node, at);
                        timeout(ANSWER_WITHIN, said).await.ok()?
                    }
                };
                poll_with(nodes, ask).await
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => {
                let ask = |node, at| {
                    let session = Arc::clone(session);
                    async move {
                        let said = postgres::status_as(&session, node, at);
                        timeout(ANSWER_WITHIN, said).await.ok()?
                    }
                };
                poll_with(nodes, ask).await
            }
            #[cfg(feature = "redis")]
            Self::Redis(login) => {
                let ask = |node, at| {
                    let login = Arc::clone(login);
                    async move {
                        let said = redis::status_as(&login, node, at);
                        timeout(ANSWER_WITHIN, said).await.ok()?
                    }
                };
                poll_with(nodes, ask).await
            }
        }
    }
}

/// Why nodes of this store, which runs already, do not say who leads, if they do not.
pub(crate) fn without_roles(store: &Store) -> Option<&'static str> {
    // By its name, since not every build knows of it.
    let nats = |recipe: &recipe::Recipe| recipe.name == "nats";
    let monitor = || store.recipe().filter(|it| nats(it)).map(|_| MONITOR_ONLY);
    store.without_roles().or_else(monitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(flag: &str) -> Store {
        Store::from_flag(flag).unwrap().unwrap()
    }

    #[test]
    fn nodes_are_asked_only_what_they_say_to_those_who_have_not_started_them() {
        assert!(matches!(
            Asking::of(None),
            Some(Asking::Anybody(Status::Reference))
        ));
        assert!(matches!(
            Asking::of(Some(&store("etcd"))),
            Some(Asking::Anybody(Status::Etcd))
        ));
        assert!(Asking::of(Some(&store("exec:true"))).is_none());
        assert_eq!(without_roles(&store("etcd")), None);
    }

    #[cfg(feature = "nats")]
    #[test]
    fn nodes_of_nats_say_nothing_at_the_port_of_clients() {
        assert!(Asking::of(Some(&store("nats"))).is_none());
        assert!(without_roles(&store("nats")).unwrap().contains("monitor"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn who_clients_are_asks_nodes() {
        let Some(Asking::Postgres(session)) = Asking::of(Some(&store("postgres:user=shop"))) else {
            panic!("not asked");
        };
        assert_eq!(session.user, "shop");
    }
}
