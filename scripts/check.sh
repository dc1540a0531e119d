#!/bin/sh
# usage: scripts/check.sh
#
# Every check there is, on a clean machine with Go: format, vet, staticcheck, shellcheck,
# the JavaScript tests, fuzzers, torture, and all Go tests with the race
# detector, in a browser too. As root it installs what is missing (Debian), otherwise it
# says what is. FUZZTIME=60s is for the fuzzers of what clients send, the frame reader and
# the command parser (the others take 10s), TORTURE=40s for each of three
# runs of the torture.
set -eu
cd "$(dirname "$0")/.."
: "${FUZZTIME:=60s}" "${TORTURE:=40s}"

step() { printf '\n== %s\n' "$*"; }

step tools
missing=
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps servers
need() { # command package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need chromium chromium
need node nodejs
need shellcheck shellcheck
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
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "check: these are missing, install them first:$missing" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # The tests start servers of their own; those of the packages must not start.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; fi
    installed=true
    # shellcheck disable=SC2086 # a list of names
    apt-get install -qq --no-install-recommends $missing >/dev/null || installed=false
    [ -z "$policy" ] || rm "$policy"
    $installed
fi
go version

step format
unformatted=$(gofmt -l gateway roomsvc proto scripts)
if [ -n "$unformatted" ]; then
    echo "check: run gofmt -w on:" >&2
    echo "$unformatted" >&2
    exit 1
fi
go mod verify >/dev/null

step vet
go vet ./...

step staticcheck
go tool staticcheck ./...

step shellcheck
# shellcheck disable=SC2046 # none of the names has a space
shellcheck -S warning .ci/run $(grep -rlE '^#!/bin/sh' scripts)

step 'node --test'
node --test gateway/web/

# Portable code that is not for this system must still be code.
step 'other systems'
GOOS=darwin go build ./gateway/loop
GOOS=windows go build -o /dev/null ./gateway

step fuzz
grep -rl '^func Fuzz' --include='*_test.go' gateway roomsvc proto scripts | while read -r file; do
    grep -o '^func Fuzz[A-Za-z0-9]*' "$file" | cut -d' ' -f2 | while read -r name; do
        case $name in
        FuzzReader | FuzzParseCommand) time=$FUZZTIME ;;
        *) time=10s ;;
        esac
        echo "$name in $(dirname "$file"), $time"
        go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 5x </dev/null
    done
done

# The standalone and the divided form are tried by go test ./scripts/smoke.
step compose
set -a
eval "$(scripts/passwords.sh)"
set +a
if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 && docker compose pull -q nats 2>/dev/null; then
    export COMPOSE_PROJECT_NAME=roomcast-check # its volume goes afterwards, nobody's log with it
    trap 'docker compose down -v --rmi local >/dev/null 2>&1' EXIT
    docker compose up -d --build --wait
    scripts/smoke.sh http://127.0.0.1:8000 http://127.0.0.1:8001
else
    echo 'there is no Docker engine that can fetch images: compose is not tried'
fi

# The same faults every time, so that what fails is the change; long runs draw their own.
# With a sync interval records are committed one by one, otherwise in batches.
step "torture, three times $TORTURE"
torture() { # flags
    echo "torture $*"
    go run ./scripts/torture -for "$TORTURE" -seed 1 "$@"
}
torture -mode single -sync always
torture -mode single -sync 2m
torture -mode cluster

step 'go test -race ./...'
# One package after the other: many of them start processes and watch the clock.
go build -race ./...
go test -race -p 1 -timeout 15m ./...
