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

# Clients can tell this server from another by ca.crt, which lies in a volume that they read.
# The authority's key is gone as soon as it has signed: nobody can make a second certificate.
tls=$PGDATA/tls
public=${GW_TLS_DIR:-/var/lib/postgresql/tls}
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

make_certificate() {
  local new=$PGDATA/tls.new names="DNS:db,DNS:localhost,IP:127.0.0.1"
  say "making a certificate for ${names}${GW_TLS_NAMES:+,$GW_TLS_NAMES}"
  rm -rf "$new"
  mkdir -m 700 "$new"
  {
    openssl req -x509 "${key[@]}" -days 3650 -subj "/CN=Groundwork, $(hostname)" \
      -keyout "$new/ca.key" -out "$new/ca.crt"
    openssl req "${key[@]}" -subj '/CN=db' -keyout "$new/server.key" -out "$new/server.csr"
    openssl x509 -req -in "$new/server.csr" -CA "$new/ca.crt" -CAkey "$new/ca.key" \
      -CAcreateserial -days 3650 -out "$new/server.crt" \
      -extfile <(echo "subjectAltName=$names${GW_TLS_NAMES:+,$GW_TLS_NAMES}")
  } 2> "$new/said" || { cat "$new/said" >&2; exit 1; }
  rm -rf "$new/ca.key" "$new/server.csr" "$new/ca.srl" "$new/said" "$tls"
  mv -T "$new" "$tls"
}

[ -s "$cluster/PG_VERSION" ] || make_cluster
# Made anew a month before it ends.
openssl x509 -checkend $((30 * 86400)) -noout -in "$tls/server.crt" > /dev/null 2>&1 ||
  make_certificate
[ ! -w "$public" ] || install -m 644 "$tls/ca.crt" "$public/ca.crt"
unset POSTGRES_PASSWORD

# A day's file is emptied when the server reaches that day, not when it starts on it.
find "$PGDATA/log" -name 'postgresql-*.log' -mtime +5 -delete 2> /dev/null || true

made=$(< "$cluster/PG_VERSION")
if [ "$bin" != "/usr/lib/postgresql/$made/bin" ]; then
  say "error: the cluster is of PostgreSQL $made and this image has $bin"
  say "dump it with the older image and restore it here, or use pg_upgrade"
  exit 1
fi

# What depends on memory, computed as src/server/tuning.ts does. The container's limit counts.
memory_settings() {
  local kb limit shared work maintenance
  kb=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2> /dev/null || echo max)
  if [[ $limit =~ ^[0-9]+$ ]] && [ $((limit / 1024)) -lt "$kb" ]; then kb=$((limit / 1024)); fi
  shared=$((kb / 4 < 32768 ? 32768 : kb / 4))
  work=$(((kb - shared) / 400))
  work=$((work < 4096 ? 4096 : work > 65536 ? 65536 : work))
  maintenance=$((kb / 16 < 65536 ? 65536 : kb / 16 > 2097152 ? 2097152 : kb / 16))
  echo "shared_buffers = $((shared / 1024))MB"
  echo "effective_cache_size = $((kb * 3 / 4 / 1024))MB"
  echo "work_mem = $((work / 1024))MB"
  echo "maintenance_work_mem = $((maintenance / 1024))MB"
}
memory_settings > "$cluster/machine.conf"

# Given as options, so that a new image or another environment changes them.
set -- -D "$cluster" -c listen_addresses='*' -c cron.database_name="$database" \
  -c ssl=on -c ssl_cert_file="$tls/server.crt" -c ssl_key_file="$tls/server.key" "$@"
# wal2json is refused until it is listed; older minor releases do not know the setting.
# (No grep -q: it leaves early, and pipefail then reports postgres's broken pipe.)
if "$bin/postgres" --describe-config | grep '^output_plugin_libraries' > /dev/null; then
  set -- "$@" -c output_plugin_libraries='pgoutput, test_decoding, wal2json'
fi

exec "$bin/postgres" "$@"
