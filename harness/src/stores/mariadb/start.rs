//! How nodes are started. One data directory is made for all; every node begins with a copy of it, and
//! so does one that lost its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use workloads::client::mysql::TABLES;

use super::{ADMIN, CLIENT, Mariadb, config};
use crate::stores::Store;
use crate::stores::recipe::{Setup, found};

/// Makes the template: `template SERVER FOLDER DEFAULTS SQL PROVIDER`. For Galera (a provider is named)
/// a cluster of one gives it a position, which every node then begins at.
const TEMPLATE: &str = r#"
set -e
server=$1 folder=$2 defaults=$3 sql=$4 provider=$5
mariadb-install-db --defaults-file="$defaults" --user=root --datadir="$folder" \
    --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve
"$server" --defaults-file="$defaults" --user=root --datadir="$folder" --bootstrap < "$sql"
[ -n "$provider" ] || exit 0
"$server" --defaults-file="$defaults" --user=root --datadir="$folder" --skip-networking \
    --socket=template.sock --pid-file=template.pid --binlog-format=ROW --innodb-autoinc-lock-mode=2 \
    --wsrep-on=ON --wsrep-provider="$provider" --wsrep-cluster-name=template \
    --wsrep-cluster-address=gcomm:// --wsrep-new-cluster --wsrep-node-address=127.0.0.1 \
    --wsrep-provider-options='gmcast.listen_addr=tcp://127.0.0.1:4567;gcache.size=1M' &
of=$!
cd "$folder"
for try in $(seq 300); do
    kill -0 $of
    mariadb --no-defaults --socket=template.sock --user=root -e 'SHUTDOWN' 2>/dev/null && break
    sleep 0.1
done
wait $of
rm -f galera.cache gvwstate.dat
sed -i 's/^safe_to_bootstrap: .*/safe_to_bootstrap: 0/' grastate.dat
grep -q '^seqno: *[0-9]' grastate.dat
"#;

/// Runs a node: `node SERVER CONFIG DATA TEMPLATE ID`. It begins with a copy of the template if it has no
/// data, and again when the file `clone` names a primary that it reaches; then by another number among
/// servers, because no server takes from others what it has once written itself.
const NODE: &str = r#"
server=$1 config=$2 data=$3 template=$4 id=$5
while :; do
    more=
    if [ ! -d "$data" ]; then
        rm -rf "$data.new"
        cp -R "$template" "$data.new" || exit 1
        if [ ! -e "$config/begun" ]; then
            : > "$config/begun"
            [ ! -e "$config/gvwstate.dat" ] || cp "$config/gvwstate.dat" "$data.new"
            [ ! -e "$config/attach.sql" ] || more="--init-file=$config/attach.sql"
        else
            rm -f "$data.new/grastate.dat"
            echo x >> "$config/begun"
        fi
        # What a node begins with outlasts a loss of power.
        find "$data.new" -exec sync {} +
        mv "$data.new" "$data"
        sync "${data%/*}"
    elif [ -e "$data/grastate.dat" ]; then
        at=$("$server" --defaults-file="$config/my.cnf" --wsrep-recover 2>&1 |
            sed -n 's/.*WSREP: Recovered position: *//p' | tail -n 1)
        [ -z "$at" ] || more="--wsrep-start-position=$at"
    fi
    "$server" --defaults-file="$config/my.cnf" \
        --server-id=$((id + 1000 * $(wc -l < "$config/begun"))) ${more:+"$more"} &
    of=$! cloned=
    while kill -0 $of 2>/dev/null; do
        if [ -e "$config/clone" ] && read -r host port < "$config/clone" &&
            mariadb --no-defaults --host="$host" --port="$port" --user=quorate_admin \
                --connect-timeout=1 -e 'DO 1' 2>/dev/null
        then
            kill -9 $of
            cloned=yes
            break
        fi
        sleep 0.2
    done
    wait $of
    code=$?
    [ -n "$cloned" ] || exit $code
    rm -rf "$data"
    rm -f "$config/clone"
done
"#;

/// Who may do what, and what is there from the start.
fn sql() -> String {
    let mut text = format!(
        "FLUSH PRIVILEGES;\nCREATE USER {ADMIN}@'%';\nGRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION;\n\
         CREATE USER {CLIENT}@'%';\nCREATE DATABASE {CLIENT};\n\
         GRANT ALL ON {CLIENT}.* TO {CLIENT}@'%';\n\
         CREATE DATABASE {ADMIN};\nCREATE TABLE {ADMIN}.epochs (epoch BIGINT PRIMARY KEY) ENGINE=InnoDB;\n\
         INSERT INTO {ADMIN}.epochs VALUES (1);\nUSE {CLIENT};\n"
    );
    for table in TABLES {
        text += &format!("{table};\n");
    }
    text
}

/// Writes the configuration of a node, and makes the template if there is none.
pub(super) fn arguments(setup: &Setup<'_>, store: &Store) -> io::Result<Vec<OsString>> {
    let Store::Mariadb(mariadb) = store else {
        return Err(io::Error::other("these are not the options of MariaDB"));
    };
    let server = found("mariadbd").ok_or_else(|| io::Error::other("no mariadbd"))?;
    let data = setup.data_dir.join("mariadb");
    let config = setup.config_dir;
    let template = config.with_file_name("mariadb-template");
    if !template.exists() {
        make_template(&template, &server, mariadb)?;
    }
    let begins = |name: &str, text: String| fs::write(config.join(name), text);
    begins("my.cnf", config::text(setup, mariadb, &data))?;
    let first = setup.members.first();
    if mariadb.is_galera() {
        begins("gvwstate.dat", config::view(setup))?;
    } else if let Some(&(first, ip)) = first
        && first != setup.node
    {
        let follow = config::follow(ip, setup.listen.port());
        begins("attach.sql", format!("{follow};\nSTART SLAVE;\n"))?;
    }
    Ok(vec![
        "-c".into(),
        NODE.into(),
        "node".into(),
        server.into(),
        config.into(),
        data.into(),
        template.into(),
        setup.node.to_string().into(),
    ])
}

fn make_template(template: &Path, server: &Path, mariadb: &Mariadb) -> io::Result<()> {
    let beside = |name: &str| -> PathBuf { template.with_extension(name) };
    let (defaults, sql_file, log) = (beside("cnf"), beside("sql"), beside("log"));
    fs::write(&defaults, format!("[mariadbd]\n{}", config::SMALL))?;
    fs::write(&sql_file, sql())?;
    let said = fs::File::create(&log)?;
    let made = Command::new("/bin/sh")
        .args(["-c", TEMPLATE, "template"])
        .args([server, template, &defaults, &sql_file])
        .arg(if mariadb.is_galera() {
            config::PROVIDER
        } else {
            ""
        })
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .status()?;
    if made.success() {
        return Ok(());
    }
    // Not to be taken for one.
    let _ = fs::remove_dir_all(template);
    let told = fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<_> = told.lines().rev().take(10).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    let what = format!(
        "no data directory could be made ({made}):\n{}",
        last.join("\n")
    );
    Err(io::Error::other(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_no_right_to_write_where_it_is_read_only() {
        let text = sql();
        assert!(
            text.contains("GRANT ALL ON quorate.* TO quorate@'%'"),
            "{text}"
        );
        assert_eq!(text.matches("GRANT ALL ON *.*").count(), 1, "{text}");
        assert_eq!(text.matches("CREATE TABLE").count(), 3, "{text}");
    }

    #[test]
    fn both_scripts_can_be_read_by_a_shell() {
        for script in [TEMPLATE, NODE] {
            let read = Command::new("/bin/sh").args(["-n", "-c", script]).status();
            assert!(read.unwrap().success());
        }
    }
}
