#!/bin/bash
# Starts PostgreSQL in the container; makes the cluster first when the volume is empty.
set -euo pipefail

PGDATA=${PGDATA:-/var/lib/postgresql/data}
database=${POSTGRES_DB:-groundwork}
bin=$(echo /usr/lib/postgresql/*/bin)

say() { echo "entrypoint: $*" >&2; }

# The cluster grows in a folder beside its place and is renamed when it is complete, so
# a container that was killed half-way starts again from nothing. The volume itself
# cannot be renamed: the cluster is a folder inside it.
cluster=$PGDATA/cluster
new=$PGDATA/cluster.new

make_cluster() {
  local password=${POSTGRES_PASSWORD:-}
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then password=$(< "$POSTGRES_PASSWORD_FILE"); fi
  if [ -z "$password" ]; then
    say "error: the volume is empty and no password is set for the superuser postgres"
    say "set POSTGRES_PASSWORD, or POSTGRES_PASSWORD_FILE to the path of a file with it"
    exit 1
  fi

  say "making a new cluster with the database $database"
  rm -rf "$new"
  "$bin/initdb" --pgdata="$new" --username=postgres --pwfile=<(printf '%s\n' "$password") \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-sync \
    --auth-local=scram-sha-256 --auth-host=scram-sha-256 > /dev/null
  cat /usr/local/share/groundwork/postgresql.conf >> "$new/postgresql.conf"
  cat > "$new/pg_hba.conf" <<-'END'
	# type  database     user  address  method
	local   replication  gw_cdc         reject
	host    replication  gw_cdc  all    reject
	local   all          all            scram-sha-256
	local   replication  all            scram-sha-256
	host    all          all   all      scram-sha-256
	host    replication  all   all      scram-sha-256
	END

  # Single-user mode: no socket is open before the cluster is complete, so nothing
  # mistakes a server that is about to stop for the real one.
  # It exits 0 whatever happened, so the answer is looked at.
  if [ "$database" != postgres ]; then
    local name=${database//\"/\"\"} answer
    answer=$(printf '%s\n' "create database \"$name\"" \
      "select count(*) as made from pg_database where datname = '${database//\'/\'\'}'" |
      "$bin/postgres" --single -D "$new" -c shared_preload_libraries= postgres 2>&1)
    if [[ $answer != *'made = "1"'* ]]; then
      say "error: could not create the database $database"
      echo "$answer" >&2
      exit 1
    fi
  fi
  sync
  mv -T "$new" "$cluster"
  sync "$PGDATA"
}

[ -s "$cluster/PG_VERSION" ] || make_cluster
unset POSTGRES_PASSWORD

# A day's file is emptied when the server reaches that day, not when it starts on it.
find "$PGDATA/log" -name 'postgresql-*.log' -mtime +5 -delete 2> /dev/null || true

made=$(< "$cluster/PG_VERSION")
if [ "$bin" != "/usr/lib/postgresql/$made/bin" ]; then
  say "error: the cluster is of PostgreSQL $made and this image has $bin"
  say "dump it with the older image and restore it here, or use pg_upgrade"
  exit 1
fi

# Given as options, so that a new image or another environment changes them.
set -- -D "$cluster" -c listen_addresses='*' -c cron.database_name="$database" "$@"
# wal2json is refused until it is listed; older minor releases do not know the setting.
# (No grep -q: it leaves early, and pipefail then reports postgres's broken pipe.)
if "$bin/postgres" --describe-config | grep '^output_plugin_libraries' > /dev/null; then
  set -- "$@" -c output_plugin_libraries='pgoutput, test_decoding, wal2json'
fi

exec "$bin/postgres" "$@"
