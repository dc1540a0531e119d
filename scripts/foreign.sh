#!/bin/sh
# usage: scripts/foreign.sh
#
# Ten messages as text and ten as JSON with clients that know nothing of Roomcast: websockets
# and aiohttp for Python, ws and undici for Node, wscat, curl, and nats.js. The packages are
# kept in the user's cache directory.
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/roomcast
work=$(mktemp -d)
trap '[ -z "${gateway-}" ] || kill "$gateway"; rm -rf "$work"' EXIT

mkdir -p "$cache/node"
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
[ -x "$cache/foreign/bin/pip" ] || python3 -m venv "$cache/foreign"
"$cache/foreign/bin/pip" install 'websockets>=15' 'aiohttp>=3.10'
npm install --silent --no-audit --no-fund --no-save --prefix "$cache/node" ws@8 undici@6 wscat@6 @nats-io/transport-node@3
cp scripts/foreign/*.mjs "$cache/node" # so that node finds the packages

go build -o "$work/gateway" ./gateway
"$work/gateway" --listen 127.0.0.1:0 --nats-listen 127.0.0.1:0 --data-dir "$work/data" --sync 1s --rate 0 \
    --nats-monitor off --ops-listen off >"$work/banner" 2>"$work/log" &
gateway=$!
for _ in $(seq 600); do
    grep -q '^ *open ' "$work/banner" && break
    sleep 0.1
done
http=$(sed -n 's|^ *open *\(http://[^ ]*[^/ ]\)/*$|\1|p' "$work/banner")
ws=ws${http#http}
cat "$work/banner" "$work/log"

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
run nats.js node "$cache/node/nats.mjs" "$(sed -n 's|^ *NATS *\(nats://.*\)|\1|p' "$work/banner")"

# wscat ends when its input does, so the pipe stays open until all lines have come back.
wscat() { # arguments
    mkfifo "$work/lines"
    "$cache/node/node_modules/.bin/wscat" "$@" <"$work/lines" >"$work/wscat" &
    exec 3>"$work/lines"
    cat >&3
    for _ in $(seq 600); do
        [ "$(grep -c 'm[0-9]' "$work/wscat")" -lt 10 ] || break
        sleep 0.1
    done
    exec 3>&-
    wait $! || true
    rm "$work/lines"
    [ "$(grep -o 'm[0-9]' "$work/wscat" | uniq | tr -d '\n')" = m0m1m2m3m4m5m6m7m8m9 ] || { cat "$work/wscat"; exit 1; }
}
