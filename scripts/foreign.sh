#!/bin/sh
# usage: scripts/foreign.sh
#
# Sends ten messages as text and ten as JSON with clients that were not made for Roomcast:
# websockets and aiohttp for Python, ws and undici for Node, nats.js, the programs wscat and nats,
# and curl with Server-Sent Events. It installs these programs in the user's cache directory.
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/roomcast
work=$(mktemp -d)
trap '[ -z "${gateway-}" ] || { kill "$gateway"; wait "$gateway" || :; }; rm -rf "$work"' EXIT

# until_true waits up to a minute for a command to succeed.
until_true() {
    for _ in $(seq 600); do
        "$@" && return
        sleep 0.1
    done
    echo "foreign: waited for a minute: $*" >&2
    exit 1
}

mkdir -p "$cache/node"
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
[ -x "$cache/foreign/bin/pip" ] || python3 -m venv "$cache/foreign"
"$cache/foreign/bin/pip" install 'websockets>=15' 'aiohttp>=3.10'
npm install --silent --no-audit --no-fund --no-save --prefix "$cache/node" ws@8 undici@6 @nats-io/transport-node@3 wscat@6
cp scripts/foreign/*.mjs "$cache/node" # node looks for packages beside the script

cli=$cache/natscli-0.5.0
[ -x "$cli/nats" ] || GOBIN=$cli go install github.com/nats-io/natscli/nats@v0.5.0

go build -o "$work/gateway" ./gateway
"$work/gateway" --listen 127.0.0.1:0 --nats-listen 127.0.0.1:0 --data-dir "$work/data" --sync 1s --rate 0 \
    --nats-monitor off --ops-listen off >"$work/banner" 2>"$work/log" &
gateway=$!
until_true grep -q '^ *open ' "$work/banner"
http=$(sed -n 's|^ *open *\(http://[^ ]*[^/ ]\)/*$|\1|p' "$work/banner")
ws=ws${http#http}

run() { # name command...
    name=$1
    shift
    timeout 60 "$@" || { echo "foreign: $name fails" >&2 && exit 1; }
    echo "ok   $name"
}

run websockets "$cache/foreign/bin/python" scripts/foreign/with_websockets.py "$ws"
run aiohttp "$cache/foreign/bin/python" scripts/foreign/with_aiohttp.py "$ws"
run ws node "$cache/node/websocket.mjs" ws "$ws"
run undici node "$cache/node/websocket.mjs" undici "$ws"
nats=$(sed -n 's|^ *NATS *\(nats://.*\)|\1|p' "$work/banner")
run nats.js node "$cache/node/nats.mjs" "$nats"

# ten checks that a file contains the ten messages in order.
ten() {
    [ "$(grep -o 'msg-[0-9]' "$1" | tr -d '\n')" = msg-0msg-1msg-2msg-3msg-4msg-5msg-6msg-7msg-8msg-9 ] && return
    echo "foreign: not the ten messages:" >&2
    cat "$1" >&2
    exit 1
}

for i in 0 1 2 3 4 5 6 7 8 9; do
    curl -sSf -o "$work/answer" -H 'Content-Type: text/plain' -d "msg-$i" "$http/api/rooms/curl/messages"
    curl -sSf -o "$work/answer" -H 'Content-Type: application/json' -d "{\"data\":\"msg-$i\"}" "$http/api/rooms/curl-json/messages"
done
for room in curl curl-json; do
    curl -sSN "$http/room/$room/events?since=0" >"$work/$room" &
    until_true grep -qs 'msg-9' "$work/$room"
    kill $!
    ten "$work/$room"
done
echo 'ok   curl'

# wscat runs the program wscat until it has received the last of the messages that its options send.
# The program stops at the end of its input. So its input is a pipe that stays open.
mkfifo "$work/input"
exec 9<>"$work/input"
wscat() { # room options...
    room=$1
    shift
    "$cache/node/node_modules/.bin/wscat" -c "$ws/room/$room/" -w -1 "$@" >"$work/$room" <&9 &
    follower=$!
    until_true grep -qs 'msg-9' "$work/$room"
    kill "$follower"
    ten "$work/$room"
}

wscat wscat -x msg-0 -x msg-1 -x msg-2 -x msg-3 -x msg-4 -x msg-5 -x msg-6 -x msg-7 -x msg-8 -x msg-9
set -- -s roomcast.v1
for i in 0 1 2 3 4 5 6 7 8 9; do
    set -- "$@" -x "{\"say\":{\"data\":\"msg-$i\"}}"
done
wscat wscat-json "$@"
echo 'ok   wscat'

for room in natscli natscli-json; do
    "$cli/nats" --server "$nats" sub "room.out.*.$room" >"$work/$room" 2>&1 &
    follower=$!
    until_true grep -qs Subscribing "$work/$room"
    kind=text
    [ "$room" = natscli ] || kind=data
    for i in 0 1 2 3 4 5 6 7 8 9; do
        message=msg-$i
        [ "$kind" = text ] || message="\"msg-$i\""
        "$cli/nats" --server "$nats" req "room.$room" "$message" -H "Rc-Kind:$kind" >"$work/answer" 2>&1
        grep -q '"ok"' "$work/answer"
    done
    until_true grep -q msg-9 "$work/$room"
    kill "$follower"
    ten "$work/$room"
done
echo 'ok   nats'
