//! What nodes are configured with.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{ADMIN, Mariadb, Replication};
use crate::stores::recipe::Setup;

/// Where nodes of Galera listen for each other, where increments come and where all data does.
const GALERA_PORTS: [u16; 3] = [4567, 4568, 4444];
/// What the provider of Galera is.
pub(super) const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
/// Of small clusters that begin often: what does not matter for what they promise.
pub(super) const SMALL: &str = "\
innodb-log-file-size = 8M
innodb-data-file-path = ibdata1:4M:autoextend
innodb-autoextend-increment = 1
innodb-buffer-pool-size = 32M
performance-schema = off
";

/// The file of a node whose data is there.
pub(super) fn text(setup: &Setup<'_>, mariadb: &Mariadb, data: &Path) -> String {
    let (ip, port) = (setup.listen.ip(), setup.listen.port());
    let Mariadb {
        flush, timeout_ms, ..
    } = mariadb;
    let mut text = format!(
        "[mariadbd]\nuser = root\ndatadir = {}\nsocket = {}\npid-file = {}\ntmpdir = {}\n\
         bind-address = {ip}\nport = {port}\nskip-name-resolve\nmax-connections = 500\n{SMALL}\
         innodb-flush-log-at-trx-commit = {flush}\ninnodb-lock-wait-timeout = 3\n\
         idle-transaction-timeout = 10\nbinlog-format = ROW\n",
        data.display(),
        socket(data, setup.config_dir).display(),
        setup.config_dir.join("mariadbd.pid").display(),
        setup.config_dir.display(),
    );
    if mariadb.is_galera() {
        return text + galera(setup).as_str();
    }
    // Nobody takes writes before it is told to, not even after a crash; lost partners are noticed
    // within two seconds.
    text += &format!(
        "log-bin = binlog\nlog-slave-updates\nsync-binlog = {}\ngtid-strict-mode\nread-only\n\
         relay-log = relay\nslave-net-timeout = 2\n",
        u8::from(*flush == 1)
    );
    if mariadb.replication == Replication::SemiSync {
        let point = mariadb.wait_point.name().replace('-', "_").to_uppercase();
        text += &format!(
            "rpl-semi-sync-slave-enabled\nrpl-semi-sync-slave-kill-conn-timeout = 1\n\
             rpl-semi-sync-master-timeout = {timeout_ms}\nrpl-semi-sync-master-wait-point = {point}\n"
        );
    }
    text
}

/// Where a server listens to those beside it. Servers work in their data directory, and so do those that
/// they start: seen from there the path is short, as it has to be. In the data itself a layer under it
/// may have no sockets.
fn socket(data: &Path, config: &Path) -> PathBuf {
    let shared = data.components().zip(config.components());
    let shared = shared.take_while(|(a, b)| a == b).count();
    let up = data.components().skip(shared).map(|_| "..");
    let down = config.components().skip(shared);
    let path: PathBuf = up.collect();
    path.join(down.collect::<PathBuf>()).join("mariadb.sock")
}

fn galera(setup: &Setup<'_>) -> String {
    let ip = setup.listen.ip();
    let [group, increments, all] = GALERA_PORTS;
    let members: Vec<_> = setup.members.iter().map(|(_, ip)| ip.to_string()).collect();
    // Silence counts as absence after two seconds instead of five; what goes with that goes with it.
    let options = [
        format!("base_host={ip}"),
        format!("gmcast.listen_addr=tcp://{ip}:{group}"),
        format!("ist.recv_addr={ip}:{increments}"),
        "gcache.size=32M".to_owned(),
        "pc.wait_prim=no".to_owned(),
        "evs.keepalive_period=PT0.5S".to_owned(),
        "evs.inactive_check_period=PT0.5S".to_owned(),
        "evs.suspect_timeout=PT2S".to_owned(),
        "evs.inactive_timeout=PT5S".to_owned(),
        "evs.install_timeout=PT5S".to_owned(),
        "gmcast.peer_timeout=PT2S".to_owned(),
    ];
    format!(
        "innodb-autoinc-lock-mode = 2\nwsrep-on = ON\nwsrep-provider = {PROVIDER}\n\
         wsrep-cluster-name = quorate\nwsrep-cluster-address = gcomm://{}\n\
         wsrep-node-address = {ip}\nwsrep-node-name = n{}\nwsrep-sst-method = mariabackup\n\
         wsrep-sst-auth = {ADMIN}:\nwsrep-sst-receive-address = {ip}:{all}\n\
         wsrep-slave-threads = 2\nwsrep-provider-options = \"{}\"\n",
        members.join(","),
        setup.node,
        options.join(";"),
    )
}

/// What makes all nodes of a Galera cluster form it when they first meet, as after a loss of power of
/// all of them: nobody has to be started before the others, and nobody to be given data.
pub(super) fn view(setup: &Setup<'_>) -> String {
    let id = |node| format!("{node:08x}-0000-11f0-8000-{node:012x}");
    let first = setup.members.first().map_or(setup.node, |(node, _)| *node);
    let mut text = format!(
        "my_uuid: {}\n#vwbeg\nview_id: 3 {} 1\nbootstrap: 0\n",
        id(setup.node),
        id(first)
    );
    for (node, _) in setup.members {
        text += &format!("member: {} 0\n", id(*node));
    }
    text + "#vwend\n"
}

/// What has a node follow another from where it stands.
pub(super) fn follow(primary: IpAddr, port: u16) -> String {
    format!(
        "CHANGE MASTER TO MASTER_HOST = '{primary}', MASTER_PORT = {port}, MASTER_USER = '{ADMIN}', \
         MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 0.5"
    )
}

#[cfg(test)]
mod tests {
    use super::super::WaitPoint;
    use super::*;

    fn of(mariadb: &Mariadb) -> (String, String) {
        let ip = |last| IpAddr::from([10, 1, 0, last]);
        let setup = Setup {
            node: 2,
            data_dir: Path::new("/d"),
            config_dir: Path::new("/c"),
            listen: (ip(2), 7000).into(),
            members: &[(1, ip(1)), (2, ip(2)), (3, ip(3))],
        };
        (text(&setup, mariadb, Path::new("/d/mariadb")), view(&setup))
    }

    #[test]
    fn replicas_begin_read_only_and_wait_as_they_are_told() {
        let (plain, _) = of(&Mariadb::default());
        for line in [
            "bind-address = 10.1.0.2",
            "port = 7000",
            "read-only",
            "sync-binlog = 1",
            "innodb-flush-log-at-trx-commit = 1",
        ] {
            assert!(plain.lines().any(|l| l == line), "{line}\n{plain}");
        }
        assert!(
            !plain.contains("semi-sync") && !plain.contains("wsrep"),
            "{plain}"
        );
        let (semi, _) = of(&Mariadb {
            replication: Replication::SemiSync,
            timeout_ms: 1000,
            wait_point: WaitPoint::AfterSync,
            flush: 2,
            ..Mariadb::default()
        });
        for line in [
            "rpl-semi-sync-slave-enabled",
            "rpl-semi-sync-master-timeout = 1000",
            "rpl-semi-sync-master-wait-point = AFTER_SYNC",
            "sync-binlog = 0",
        ] {
            assert!(semi.lines().any(|l| l == line), "{line}\n{semi}");
        }
        // A replica that waited for replicas of its own would never get on.
        assert!(!semi.contains("semi-sync-master-enabled"), "{semi}");
    }

    #[test]
    fn a_socket_has_a_short_path_wherever_the_run_is() {
        let path = socket(
            Path::new("/a/long/run/data/n1/mariadb"),
            Path::new("/a/long/run/nodes/n1-config"),
        );
        assert_eq!(path, Path::new("../../../nodes/n1-config/mariadb.sock"));
    }

    #[test]
    fn nodes_of_galera_know_each_other_from_the_start() {
        let (text, view) = of(&Mariadb {
            replication: Replication::Galera,
            ..Mariadb::default()
        });
        assert!(
            text.contains("gcomm://10.1.0.1,10.1.0.2,10.1.0.3\n"),
            "{text}"
        );
        assert!(text.contains("evs.install_timeout=PT5S"), "{text}");
        assert!(!text.contains("read-only"), "{text}");
        assert!(view.starts_with("my_uuid: 00000002-0000-"), "{view}");
        assert!(view.contains("view_id: 3 00000001-0000-"), "{view}");
        assert_eq!(view.matches("member: ").count(), 3, "{view}");
    }
}
