#!/usr/bin/env bash
# Installs what `make run` and `make test` need and is not there yet: .venv from the locks, PostgreSQL, Redis, Java
# and Maven by apt where that is allowed (else it says what to install), and Kafka's jars; for the tests also Node,
# Chromium and nginx (`ops/setup.sh run` leaves those out). Under a second when nothing is missing. It starts no
# service. Works with bash 3.2 (macOS).
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
stamp="$root/.venv/.setup-stamp"
log="$(mktemp "${TMPDIR:-/tmp}/durian-setup.XXXXXX")"
undo=()

finish() {
    local status=$?
    for action in ${undo[@]+"${undo[@]}"}; do $action; done
    rm -f "$log"
    exit "$status"
}
trap finish EXIT

say() { printf '[setup] %s\n' "$*"; }
fail() { # fail WHAT NEXT...
    printf '\n[setup] %s\n' "$1" >&2; shift
    printf '        %s\n' "$@" >&2
    exit 3
}
step() { # step WHAT COMMAND...: one line when it starts, one when it has ended; its output only if it fails
    local what="$1" start=$SECONDS; shift
    say "$what ..."
    if ! "$@" </dev/null >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        return 1
    fi
    say "$what: done in $((SECONDS - start)) s"
}

# Two of us in one tree wait for each other (where the system has flock).
if command -v flock >/dev/null 2>&1; then exec 9<"$root/ops/setup.sh"; flock 9; fi

# ---- Python ------------------------------------------------------------------
python_is_new() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() { # 3.11 first: it is the version that everything was measured with
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3 python3.14; do
        if command -v "$name" >/dev/null 2>&1 && python_is_new "$name"; then echo "$name"; return; fi
    done
    return 1
}
python_stamp() { # changes when the lock, our own metadata or the place of the tree changes
    { echo "$root"; cat ops/locks/dev.txt; sed '/one place for every tool/q' pyproject.toml; } | cksum
}
install_python_packages() {
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --require-hashes --requirement ops/locks/dev.txt
}
install_durian() {
    # compat: one .pth line that names the tree, so rooms added later are importable without another install.
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation \
        --config-settings editable_mode=compat --editable .
}
setup_python() {
    if [ -x .venv/bin/durian ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(python_stamp)" ] \
        && python_is_new .venv/bin/python; then return; fi
    # A tree that was moved has a .venv whose scripts name the old place: make it anew.
    if ! python_is_new .venv/bin/python || ! grep -qsF "$root/.venv" .venv/pyvenv.cfg; then
        local python
        if ! python="$(find_python)"; then
            apt_install python3 python3-venv || fail "Python 3.11 or newer is missing." \
                "Debian, Ubuntu: apt-get install python3 python3-venv" "Fedora: dnf install python3" \
                "macOS: brew install python@3.12" "or name one: make setup PYTHON=/path/to/python3"
            python="$(find_python)" || fail "The system's Python is older than 3.11." \
                "Install a newer one and name it: make setup PYTHON=/path/to/python3"
        fi
        if ! "$python" -c 'import ensurepip' 2>/dev/null; then
            apt_install python3-venv || fail "$python cannot make virtualenvs." \
                "Debian, Ubuntu: apt-get install python3-venv (or python3.12-venv for python3.12)"
        fi
        step "Virtualenv .venv with $("$python" --version)" "$python" -m venv --clear .venv \
            || fail "The virtualenv could not be made." "Remove .venv and run make setup again."
    fi
    step "Python packages from ops/locks/dev.txt (about a minute)" install_python_packages \
        || fail "pip could not install the locked packages." \
            "No network? pip's own settings (PIP_INDEX_URL, pip.conf) choose the index." \
            "Hash mismatch? Run make lock and look at what changed."
    step "The durian command" install_durian || fail "The project itself could not be installed (see above)."
    python_stamp >"$stamp"
}

# ---- Servers -----------------------------------------------------------------
major() { "$1" --version 2>/dev/null | grep -oE '[0-9]+' | head -n 1; }
first_number_at_least() { # first_number_at_least MINIMUM COMMAND...: is one of the commands new enough?
    local minimum="$1" command found; shift
    for command in "$@"; do
        if [ -x "$command" ] || command -v "$command" >/dev/null 2>&1; then
            found="$(major "$command")"
            if [ "${found:-0}" -ge "$minimum" ]; then return 0; fi
        fi
    done
    return 1
}
has_postgres() {
    first_number_at_least 15 postgres /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
        /opt/homebrew/opt/postgresql@*/bin/postgres /usr/local/opt/postgresql@*/bin/postgres
}
has_redis() { first_number_at_least 7 redis-server; }
# `java -version` speaks on stderr, and 1.8 means 8.
has_java() { command -v java >/dev/null 2>&1 && [ "$(java -version 2>&1 | grep -oE '[0-9]+' | head -n 1)" -ge 17 ] 2>/dev/null; }
has_maven() { command -v mvn >/dev/null 2>&1; }

as_root() { "$@"; }
may_be_root() {
    if [ "$(id -u)" = 0 ]; then return; fi
    if command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
        as_root() { sudo "$@"; }
        return
    fi
    return 1
}
remove_policy() { as_root rm -f /usr/sbin/policy-rc.d; }
remove_cluster_setting() { as_root rm -f /etc/postgresql-common/createcluster.d/durian-setup.conf; }
keep_services_from_starting() {
    # Debian's packages start their service and create a cluster; ours are private and started by `durian up`.
    # Both settings are undone when this script ends. A policy that is already there is the owner's: it stays.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
        undo+=(remove_policy)
    fi
    if [ ! -e /etc/postgresql-common/createcluster.d/durian-setup.conf ]; then
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' \
            | as_root tee /etc/postgresql-common/createcluster.d/durian-setup.conf >/dev/null
        undo+=(remove_cluster_setting)
    fi
}
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}
apt_install() { # false when apt is not there, not allowed, or fails
    command -v apt-get >/dev/null 2>&1 && may_be_root || return 1
    keep_services_from_starting
    # Lists that are there may be stale: they are refreshed only when the install fails with them.
    step "apt-get install $*" apt_get install -y --no-install-recommends "$@" 2>/dev/null && return
    step "apt-get update" apt_get update && step "apt-get install $*" apt_get install -y --no-install-recommends "$@"
}
java_package() {
    if apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then echo openjdk-17-jre-headless
    else echo default-jre-headless; fi
}
setup_servers() {
    local missing=() packages=()
    has_postgres || { missing+=("PostgreSQL 15 or newer"); packages+=(postgresql); }
    has_redis || { missing+=("Redis 7 or newer"); packages+=(redis-server); }
    has_java || { missing+=("Java 17 or newer (for Kafka)"); packages+=("$(java_package)"); }
    has_maven || { missing+=("Maven (fetches Kafka)"); packages+=(maven); }
    if [ ${#missing[@]} = 0 ]; then return; fi
    say "missing: $(printf '%s; ' "${missing[@]}")"
    if apt_install "${packages[@]}" && has_postgres && has_redis && has_java && has_maven; then return; fi
    fail "These servers are missing or too old, and apt could not help: $(printf '%s; ' "${missing[@]}")" \
        "Debian 12+, Ubuntu 24.04+: sudo apt-get install postgresql redis-server openjdk-17-jre-headless maven" \
        "Fedora: sudo dnf install postgresql-server valkey-compat-redis java-21-openjdk-headless maven" \
        "macOS: brew install postgresql@17 redis openjdk@21 maven (and put their bin directories on PATH)" \
        "Docker: docker compose -f ops/compose.yaml up --wait, then the exports at the head of that file;" \
        "        the tests still want the servers themselves."
}
setup_kafka() {
    .venv/bin/python -m ops.servers.kafka --installed >/dev/null 2>&1 && return
    step "Kafka's jars by Maven (45 MB, about 20 s)" .venv/bin/python -m ops.servers.kafka --install \
        || fail "Kafka could not be fetched (see above)." \
            "Maven's own settings (~/.m2/settings.xml) choose the mirror." "Then run make setup again."
}

# ---- What only tests need ----------------------------------------------------
has_node() { command -v npm >/dev/null 2>&1 && first_number_at_least 18 node; }
has_nginx() { command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || [ -x /usr/local/sbin/nginx ]; }
has_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null 2>&1; then return; fi
    done
    return 1
}
root_without_asking() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
setup_foreign_clients() {
    # Without them their tests are left out, and say so; in CI that is a failure. Nobody is asked for a password.
    local missing=() packages=() package
    has_node || { missing+=("Node 18 or newer with npm"); packages+=(nodejs npm); }
    has_nginx || { missing+=("nginx"); packages+=(nginx); }
    has_browser || { missing+=("Chromium"); packages+=(chromium); }
    if [ ${#missing[@]} != 0 ] && root_without_asking; then
        # One by one: a system that lacks one of them may have the others.
        for package in "${packages[@]}"; do apt_install "$package" || true; done
    fi
    if ! has_node || ! has_nginx || ! has_browser; then
        [ -z "${CI:-}" ] || fail "The tests of foreign clients and of the proxy need $(printf '%s; ' "${missing[@]}")"
        say "tests of foreign clients or of the proxy will be left out, missing: $(printf '%s; ' "${missing[@]}")"
        has_node || return 0
    fi
    .venv/bin/python -m tests.clients.install --check >/dev/null 2>&1 && return
    step "npm packages of tests/clients" .venv/bin/python -m tests.clients.install && return
    [ -z "${CI:-}" ] || fail "npm could not install the locked packages (see above)." \
        "npm's own settings (~/.npmrc) choose the registry."
}

start=$SECONDS
setup_python
setup_servers
setup_kafka
if [ "${1:-}" != run ]; then setup_foreign_clients; fi
if [ $((SECONDS - start)) -gt 1 ]; then say "ready after $((SECONDS - start)) s"; fi
