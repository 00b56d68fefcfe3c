//! What finds out whether a process of a store is there.

use k8s::forward::Greeting;

use crate::stores::Store;

/// A client of PostgreSQL that asks for TLS: any server says whether it has it, to whom it does not know
/// yet, and waits.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// A client of ZooKeeper that begins a session, of 30 s: a server in a quorum gives it one, and keeps
/// the connection for as long.
const SESSION_REQUEST: [u8; 48] = {
    let mut request = [0; 48];
    // How many bytes follow; then a version, what was seen last, the timeout in ms, a session, and the
    // length of its password, 16.
    request[3] = 44;
    [request[18], request[19]] = 30_000_u16.to_be_bytes();
    request[31] = 16;
    request
};

/// What a process of this store answers, or of the reference store, and after which it keeps the
/// connection: its end proves that of the process.
pub(super) fn greeting(store: Option<&Store>) -> Greeting {
    match store {
        None => Greeting::http("/healthz"),
        Some(Store::Etcd(_)) => Greeting::http("/health"),
        Some(Store::Postgres(_) | Store::Patroni(_)) => Greeting::Ask(SSL_REQUEST.to_vec()),
        Some(Store::RabbitMq(_)) => Greeting::Ask(b"AMQP\0\0\t\x01".to_vec()),
        Some(Store::Redis(_)) => Greeting::line("PING"),
        Some(Store::Zookeeper(_)) => Greeting::Ask(SESSION_REQUEST.to_vec()),
        // MariaDB and NATS speak first; of others it is not known what they answer.
        Some(_) => Greeting::Connect,
    }
}
