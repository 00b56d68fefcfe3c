# A node under Patroni: a member of etcd, and Patroni, which starts PostgreSQL.
log=$1 etcd=$2 patroni=$3 config=$4
shift 4
"$etcd" "$@" >>"$log" 2>&1 &
exec "$patroni" "$config"
