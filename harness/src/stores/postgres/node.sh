# A node of PostgreSQL: is made if it is not there yet, runs, and is made anew from another primary when
# the file `follow` names one that it can reach.
#
# The first node begins as primary, with the clients' table. Whoever has no data later, that one among them, copies a primary's.
data=$1 conf=$2 bin=$3 name=$4 first=$5 table=$6
shift 6
export LC_ALL=C PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=2

is_primary() {
    [ "$("$bin/psql" -XAtqc 'SELECT NOT pg_is_in_recovery()' -h "$1" -p "$2" 2>/dev/null)" = t ]
}

copy() {
    rm -rf "$data.new"
    "$bin/pg_basebackup" -h "$1" -p "$2" -D "$data.new" -X stream -c fast --no-sync || return 1
    touch "$data.new/standby.signal"
    echo "primary_conninfo = 'host=$1 port=$2 user=postgres application_name=$name'" \
        >"$data.new/postgresql.auto.conf"
}

swap() {
    rm -rf "$data"
    mv "$data.new" "$data"
}

start() {
    "$bin/postgres" -D "$data" -c config_file="$conf/postgresql.conf" \
        -c hba_file="$conf/pg_hba.conf" &
    pid=$!
}

if [ ! -s "$data/PG_VERSION" ]; then
    if [ "$name" = "$first" ] && [ ! -e "$conf/initialised" ]; then
        "$bin/initdb" -D "$data" --username=postgres --auth=trust --encoding=UTF8 --locale=C \
            --no-instructions >"$conf/initdb.log" 2>&1 || { cat "$conf/initdb.log" >&2; exit 1; }
        echo "$table" | "$bin/postgres" --single -D "$data" postgres >>"$conf/initdb.log" 2>&1
        touch "$conf/initialised"
    else
        rm -rf "$data"
        until [ -d "$data" ]; do
            for at in "$@"; do
                if is_primary "${at%:*}" "${at#*:}" && copy "${at%:*}" "${at#*:}"; then
                    swap
                    break
                fi
            done
            sleep 0.2
        done
    fi
fi

start
while kill -0 "$pid" 2>/dev/null; do
    if [ -e "$conf/follow" ]; then
        read -r host port <"$conf/follow"
        if is_primary "$host" "$port" && copy "$host" "$port"; then
            kill -QUIT "$pid"
            wait "$pid"
            swap
            rm -f "$conf/follow"
            start
        fi
    fi
    sleep 0.2
done
wait "$pid"
