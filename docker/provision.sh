#!/bin/bash
# Installs PostgreSQL with the extensions that Groundwork needs on Debian 12 or 13.
# It creates and starts no cluster, upgrades nothing but an old pg_cron, and leaves apt's
# sources alone.
#
#   provision.sh          (root) installs what is missing
#   provision.sh --check  (anyone) prints what is missing, one a line; exit code 1 if any
#
# The last line on stdout is the directory with the programs of the chosen PostgreSQL;
# all else goes to stderr. A second run touches nothing.
set -euo pipefail
exec 3>&1 1>&2
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C

wanted="server pg_cron vector plpgsql_check pgcrypto btree_gin pg_stat_statements wal2json"

step() { echo "provision: $*"; }
fail() {
  echo "provision: error: $1"
  shift
  for line in "$@"; do echo "  $line"; done
  exit 1
}

# Files rather than packages: an extension may have been built from source, the server may
# be from PGDG, and a look at seven files costs a millisecond.
missing() {
  local major=$1 name file
  for name in $wanted; do
    case $name in
      server) file=/usr/lib/postgresql/$major/bin/postgres ;;
      wal2json) file=/usr/lib/postgresql/$major/lib/wal2json.so ;;
      tzdata-legacy) file=/usr/share/zoneinfo/US/Pacific ;;
      *) file=/usr/share/postgresql/$major/extension/$name.control ;;
    esac
    [ -e "$file" ] || echo "$name"
  done
}

# Until 1.5 pg_cron's background workers wait for each other: one long job holds up all others.
is_old() { [[ $1 =~ ^1\.[0-4]([^0-9]|$) ]]; }

has_old_pg_cron() {
  local file=/usr/share/postgresql/$1/extension/pg_cron.control
  [ -e "$file" ] && is_old "$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$file")"
}

# Newest first: the highest complete one wins, then the highest that can be completed.
installed_majors() {
  local program major
  for program in /usr/lib/postgresql/*/bin/postgres; do
    major=${program#/usr/lib/postgresql/}
    major=${major%%/*}
    if [ -x "$program" ] && [ "$major" -ge 15 ] 2>/dev/null; then echo "$major"; fi
  done | sort -rn
}

finish() {
  echo "/usr/lib/postgresql/$1/bin" >&3
  exit 0
}

id='' version='' codename=''
if [ -r /etc/os-release ]; then
  id=$(. /etc/os-release && echo "${ID:-}")
  version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
fi
case $id-$version in
  debian-12) default=15 ;;
  debian-13) default=17 ;;
  *) default='' ;;
esac
# Browsers and old databases have names such as Asia/Calcutta. Debian 13 moved them into a
# package of their own.
[ -z "$default" ] || wanted="$wanted tzdata-legacy"

majors=$(installed_majors)
for major in $majors; do
  [ -n "$(missing "$major")" ] || has_old_pg_cron "$major" || finish "$major"
done

case ${1:-} in
  --check)
    major=$(echo "$majors" | sed -n 1p)
    missing "${major:-${default:-17}}" >&3
    [ -z "$major" ] || ! has_old_pg_cron "$major" || echo 'pg_cron 1.5 or newer' >&3
    exit 1
    ;;
  '') ;;
  *) fail "unknown argument: $1" "usage: provision.sh [--check]" ;;
esac

[ -n "$default" ] || fail "this system is ${id:-unknown} ${version}, not Debian 12 or 13" \
  "Install PostgreSQL 15 or newer with these yourself: $wanted" \
  "or use the container: docker-compose up -d db"
[ "$(id -u)" = 0 ] || fail "installing packages needs root" "Run: sudo $0"

log=$(mktemp "${TMPDIR:-/tmp}/groundwork-provision.XXXXXX.log")
work=$(mktemp -d)
chmod 755 "$work" # apt downloads as its own user
no_main=/etc/postgresql-common/createcluster.d/groundwork.conf

cleanup() {
  local code=$?
  rm -rf "$work" "$no_main"
  if [ "$code" = 0 ]; then rm -f "$log"; else echo "provision: the whole log: $log"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# Runs a command with its output in the log; shows the end of it when it fails.
quiet() {
  local hint=$1
  shift
  echo "+ $*" >> "$log"
  "$@" >> "$log" 2>&1 < /dev/null && return
  tail -n 15 "$log" | sed 's/^/  | /'
  fail "failed: $*" "$hint"
}

# Another apt may be at work (unattended upgrades after boot): DPkg::Lock::Timeout waits
# for installations, but not for the lock that update takes, so that is waited for here.
update() {
  local left=60 tries=2
  while ! apt-get -q "$@" update > "$work/update" 2>&1 < /dev/null; do
    cat "$work/update" >> "$log"
    if grep -q 'Could not get lock' "$work/update" && [ $left -gt 0 ]; then
      left=$((left - 1))
    else
      tries=$((tries - 1))
      [ $tries -gt 0 ] || return 1
    fi
    sleep 5
  done
  cat "$work/update" >> "$log"
}

known() { [ -n "$(apt-cache --no-all-versions show "$1" 2> /dev/null)" ]; }

# An upgrade of a server restarts its clusters. Left to itself apt makes one when the
# headers are newer: it upgrades what comes from the same source package, --no-upgrade
# or not. So that is switched off, and a rehearsal refuses what would still upgrade.
install() {
  local upgrades
  set -- -y --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=600 \
    -o APT::Get::Upgrade-By-Source-Package=false -o Acquire::Retries=3 install "$@"
  upgrades=$(apt-get -s "$@" 2>> "$log" |
    sed -n 's/^Inst \(postgresql-[0-9][0-9]*\) \[.*/\1/p' || true)
  [ -z "$upgrades" ] ||
    fail "this would upgrade $upgrades and so restart its clusters" \
      "When that suits, run: apt-get install --only-upgrade $upgrades; then this again."
  quiet "Is the network up and the mirror reachable, the disk not full, and 'dpkg --audit' silent?" \
    apt-get -q "$@"
}

# A package name for each missing thing. On Debian 12 pgvector has none, and pg_cron an old one,
# which is built instead.
packages() {
  local major=$1 name
  for name in $(missing "$major"); do
    case $name in
      server | pgcrypto | btree_gin | pg_stat_statements) echo "postgresql-$major" ;;
      pg_cron) ! has_new_pg_cron "$major" || echo "postgresql-$major-cron" ;;
      wal2json) echo "postgresql-$major-wal2json" ;;
      plpgsql_check) echo "postgresql-$major-plpgsql-check" ;;
      tzdata-legacy) if known tzdata-legacy; then echo tzdata-legacy; else echo tzdata; fi ;;
      vector) ! known "postgresql-$major-pgvector" || echo "postgresql-$major-pgvector" ;;
    esac
  done | sort -u
}

has_new_pg_cron() {
  local version
  version=$(apt-cache --no-all-versions show "postgresql-$1-cron" 2> /dev/null |
    sed -n 's/^Version: //p' | sed -n 1p)
  [ -n "$version" ] && ! is_old "$version"
}

# Debian 12 lacks these, but the source packages of 13 build on it. They are fetched with
# lists of their own: a trixie line in the system's sources would let the next upgrade mix
# two releases.
prepare_sources() {
  local major=$1 mirror
  step "installing what builds extensions (a compiler and PostgreSQL's headers)"
  install --mark-auto gcc libc6-dev make dpkg-dev "postgresql-server-dev-$major"

  # The mirror that the system's own packages come from: it may be the only one reachable.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" \
    'Origin: Debian' 'Component: main' 'Created-By: Packages' 2>> "$log" | sed -n 1p)
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/src"
  cat > "$work/apt/conf" <<-END
	Dir::Etc::sourcelist "$work/apt/sources.list";
	Dir::Etc::sourceparts "/dev/null";
	Dir::State::lists "$work/apt/lists";
	Dir::Cache "$work/apt/cache";
	END
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
    "${mirror:-http://deb.debian.org/debian} trixie main" > "$work/apt/sources.list"
  APT_CONFIG=$work/apt/conf update -o APT::Update::Error-Mode=any ||
    fail "no source list of Debian 13 from ${mirror:-http://deb.debian.org/debian}"
}

# Names that a library needs and the server does not have. Headers that are newer than the
# server's program bring some, and the server would not start with the library.
unresolved() {
  local postgres=/usr/lib/postgresql/$target/bin/postgres
  ldd -r "$1" 2> /dev/null | sed -n 's/^undefined symbol: \([^ \t]*\).*/\1/p' | sort -u |
    grep -vxFf <(
      for file in "$postgres" $(ldd "$postgres" | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'); do
        nm -D --defined-only "$file" | sed 's/.* //; s/@.*//'
      done
    ) || true
}

# Builds an extension from the source package of Debian 13, for $target.
build() {
  local source=$1 lacking
  shift
  step "fetching the source of $source"
  (
    cd "$work/src"
    APT_CONFIG=$work/apt/conf quiet "Is the mirror reachable?" \
      apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 source "$source"
  ) || exit 1
  step "building $source for PostgreSQL $target"
  set -- -C "$work/src/$source"-*/ PG_CONFIG="/usr/lib/postgresql/$target/bin/pg_config" "$@"
  quiet "Please report this with the log." make -j "$(nproc)" "$@"
  lacking=$(unresolved "$work/src/$source"-*/*.so)
  [ -z "$lacking" ] || fail "PostgreSQL $target lacks what $source was built with:" $lacking \
    "Its headers are of a newer release than the server. When a restart suits, run:" \
    "apt-get install --only-upgrade postgresql-$target; then this again."
  # What the package manager put there is not overwritten behind its back. Running servers
  # have it loaded, and get the new one when they start the next time.
  if [ "$source" = pg-cron ] && dpkg -s "postgresql-$target-cron" > /dev/null 2>&1; then
    step "removing the package postgresql-$target-cron, which is too old"
    quiet "Is another apt at work?" \
      apt-get -q -y -o DPkg::Lock::Timeout=600 remove "postgresql-$target-cron"
  fi
  quiet "Please report this with the log." make "$@" install
}

step "reading the package lists (log: $log)"
update || step "warning: some package lists could not be read"

target=''
for major in $majors $default; do
  if known "postgresql-$major-wal2json"; then
    target=$major
    break
  fi
done
[ -n "$target" ] || fail "apt knows no postgresql-$default-wal2json" \
  "Is the network up, and does /etc/apt name a Debian mirror? Try: apt-get update"

# Debian would make and start a cluster "main" on port 5432 with the first server package.
mkdir -p "${no_main%/*}"
echo "create_main_cluster = false" > "$no_main"

list=$(packages "$target")
if [ -n "$list" ]; then
  step "installing" $list
  install $list
fi
prepared=''
prepare_once() {
  [ -n "$prepared" ] || prepare_sources "$target"
  prepared=yes
}
if missing "$target" | grep -x pg_cron > /dev/null || has_old_pg_cron "$target"; then
  # Not every mirror has the sources. An old one does, with what the check "cron-jobs" says of it.
  if (prepare_once && build pg-cron); then
    prepared=yes
  else
    step "warning: pg_cron 1.5 or newer cannot be built here"
    if missing "$target" | grep -x pg_cron > /dev/null; then install "postgresql-$target-cron"; fi
  fi
fi
if missing "$target" | grep -x vector > /dev/null; then
  prepare_once
  # OPTFLAGS is -march=native otherwise, and the result would die on an older processor.
  build pgvector OPTFLAGS=
fi

rest=$(missing "$target")
[ -z "$rest" ] || fail "still missing after the installation:" $rest
step "PostgreSQL $target is ready"
finish "$target"
