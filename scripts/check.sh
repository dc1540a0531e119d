#!/bin/sh
# usage: scripts/check.sh [quick]
#
# Runs every check of Roomcast, as continuous integration does. A machine with two cores and
# warm caches needs up to 40 minutes. The script prints the purpose of each step, and at the
# end how long each step took.
#
# quick is for use while working, and takes less than two minutes. It runs format, vet,
# staticcheck, shellcheck, the JavaScript tests, and the fast Go tests without the race
# detector. It prints what it leaves out.
#
# As root on Debian the script installs missing programs; otherwise it names them.
#
# FUZZ=1000000 is the number of inputs for each fuzzer of a parser for bytes from clients; other
# fuzzers get a tenth. The limit is a number and not a time, because fuzzing in Go sometimes fails
# with a time limit: golang.org/issue/75804.
# TORTURE=40s is how long each of the three torture runs takes.
set -eu
cd "$(dirname "$0")/.."
: "${FUZZ:=1000000}" "${TORTURE:=40s}"
case ${1-} in
'' | quick) ;;
*)
    echo 'usage: scripts/check.sh [quick]' >&2
    exit 2
    ;;
esac

began=$(date +%s) step='' steps=''

# step begins a step of the check, and records how long the previous step took.
step() { # name purpose
    lap
    step=$1 at=$(date +%s)
    printf '\n== %s: %s\n' "$1" "$2"
}

lap() {
    [ -z "$step" ] || steps="$steps$(printf '%6d s  %s' $(($(date +%s) - at)) "$step")
"
}

report() {
    lap
    printf '\n%s%6d s  together\n' "$steps" $(($(date +%s) - began))
}

need() { # command package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

tools() {
    step tools 'the programs that the tests start are installed'
    missing=
    PATH=$PATH:/usr/sbin:/sbin # the directories in which Debian installs servers
    need node nodejs
    [ -n "${quick-}" ] || need npm npm
    need shellcheck shellcheck
    if [ -z "${quick-}" ]; then
        need chromium chromium
        need curl curl
        need ip iproute2
        need nft nftables
        need unshare util-linux
        need strace strace
        need nginx nginx-light
        need haproxy haproxy
        need apache2 apache2
        need caddy caddy
        need mkfs.ext4 e2fsprogs
        need gcc gcc # for the race detector
        need python3 python3
        python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    fi
    if [ -n "$missing" ]; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
            echo "check: these packages are missing, install them first:$missing" >&2
            exit 1
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # The tests start the servers themselves. So keep apt from starting the servers of the
        # packages.
        policy=/usr/sbin/policy-rc.d
        if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
        installed=true
        # shellcheck disable=SC2086 # a list of names
        apt-get install -qq --no-install-recommends $missing >/dev/null || installed=false
        [ -z "$policy" ] || rm "$policy"
        $installed
    fi
    go version
}

static() {
    step format 'all Go files are in the format of gofmt'
    unformatted=$(gofmt -l gateway roomsvc proto scripts)
    if [ -n "$unformatted" ]; then
        echo 'check: run gofmt -w on these files:' >&2
        echo "$unformatted" >&2
        exit 1
    fi

    step vet 'every package and test compiles, without the usual mistakes'
    go vet ./...

    step staticcheck 'no dead code, no misused API'
    go tool staticcheck ./...

    step shellcheck 'the shell scripts have no known mistakes'
    # shellcheck disable=SC2046 # none of the names has a space
    shellcheck -S warning .ci/run $(grep -rlE '^#!/bin/sh' scripts)

    step 'node --test' 'the JavaScript client keeps the protocol and its golden files'
    node --test gateway/client/js/*.test.js gateway/web/*.test.js
}

if [ "${1-}" = quick ]; then
    quick=true
    tools
    static
    step 'go test' 'the fast tests, without the race detector'
    # These packages are slow: their tests start many processes, wait for timeouts, or use a
    # browser.
    slow='gateway/(bridge|session|web)|roomsvc/(service|owner|stream)|proto/history|scripts/.*'
    slowTests='Flood|LogIsWrittenAgain|FullDisk|SilentServer|Damage|WhatTheLogLost'
    # shellcheck disable=SC2046 # none of the names has a space
    go test -timeout 2m -skip "$slowTests" $(go list ./... | grep -Ev "^roomcast/($slow)\$")
    report
    echo "left out: the race detector, fuzzers, torture, Compose, other systems, Python,"
    echo "  the packages $slow and the tests $slowTests"
    exit
fi

tools
static

# For other systems, go vet checks the types of the code, which is faster than building programs.
step 'other systems' 'the portable code compiles for macOS and Windows'
go mod verify >/dev/null
GOOS=darwin go vet ./gateway/loop
GOOS=windows go vet ./gateway

step npm 'the npm package works in an empty folder, and its examples compile'
scripts/npm.sh "$(mktemp -d)"

step fuzz 'what parses hostile bytes neither crashes nor disagrees with its model'
grep -rl '^func Fuzz' --include='*_test.go' gateway roomsvc proto scripts | while read -r file; do
    grep -o '^func Fuzz[A-Za-z0-9]*' "$file" | cut -d' ' -f2 | while read -r name; do
        case $name in
        FuzzReader | FuzzParseCommand) inputs=$FUZZ ;;
        *) inputs=$((FUZZ / 10)) ;;
        esac
        echo "$name in $(dirname "$file"), $inputs inputs"
        go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "${inputs}x" -fuzzminimizetime 5x </dev/null
    done
done

# This step needs Docker. The tests of scripts/smoke run the same two forms without containers.
step compose 'the containers of docker-compose.yml work together'
set -a
eval "$(scripts/passwords.sh)"
set +a
if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 && docker compose pull -q nats 2>/dev/null; then
    export COMPOSE_PROJECT_NAME=roomcast-check # so that Docker uses another volume, which is removed afterwards
    trap 'docker compose down -v --rmi local >/dev/null 2>&1' EXIT
    docker compose up -d --build --wait
    scripts/smoke.sh http://127.0.0.1:8000 http://127.0.0.1:8001
else
    step='compose (skipped)'
    echo 'skipped: there is no Docker engine that can fetch images'
fi

# The seeds are fixed, so that every CI run injects the same faults and a new failure points to the
# change. These seeds inject many kinds of faults in their first 40 s. A run without -seed uses a
# random seed. The first two runs differ in -sync, because roomsvc commits single records with a
# sync interval and batches with always.
step torture "killed, paused and separated processes lose no acknowledged message (3 times $TORTURE)"
torture() { # flags
    echo "torture $*"
    go run ./scripts/torture -for "$TORTURE" "$@"
}
torture -mode single -sync always -seed 20
torture -mode single -sync 2m -seed 1
torture -mode cluster -seed 1

step python 'the Python client is typed, keeps its promises and installs as a wheel'
scripts/python.sh

step foreign 'clients that know nothing of Roomcast are members'
scripts/foreign.sh

# Test one package at a time (-p 1), because many packages start processes and wait for timeouts.
step 'go test -race' 'all tests, with the race detector'
go build -race ./...
go test -race -p 1 -timeout 15m ./...

report
