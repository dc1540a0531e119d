#!/bin/sh
# usage: scripts/cluster.sh up|down|status
#
# Runs a cluster on this machine: three NATS servers with three copies of every message, two roomsvc
# and three gateways. You can kill any of these processes with the pid that status prints. No
# acknowledged message is lost, and "cluster.sh up" starts the process again. Data, logs, pid files
# and the passwords of the NATS users are in the directory roomcast-data/cluster, or in
# $CLUSTER_DIR.
set -eu
cd "$(dirname "$0")/.."
dir=${CLUSTER_DIR:-roomcast-data/cluster}
bin=bin
names="nats1 nats2 nats3 roomsvc1 roomsvc2 gateway1 gateway2 gateway3"
nats=nats://127.0.0.1:4222,nats://127.0.0.1:4223,nats://127.0.0.1:4224

running() { # name
    [ -s "$dir/$1.pid" ] && kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null
}

start() { # name command...
    name=$1
    shift
    running "$name" && return
    nohup "$@" >>"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}

# passwords exports the passwords of the NATS users. The first call makes them.
passwords() {
    [ -s "$dir/passwords" ] || (umask 077 && scripts/passwords.sh >"$dir/passwords")
    set -a
    . "$dir/passwords"
    set +a
}

configure() { # number
    umask 077
    peer=nats://route:$NATS_ROUTE_PASSWORD@127.0.0.1
    cat >"$dir/nats$1.conf" <<CONF
include shipped.conf
listen: "127.0.0.1:$((4221 + $1))"
http: "127.0.0.1:$((8221 + $1))"
jetstream { store_dir: "$dir/nats$1", sync_interval: always }
cluster {
  name: roomcast
  listen: "127.0.0.1:$((6221 + $1))"
  authorization { user: route, password: \$NATS_ROUTE_PASSWORD }
  routes: ["$peer:6222", "$peer:6223", "$peer:6224"]
}
CONF
}

ready() { # name command...
    name=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        # If another process has ended, report that process. The process that is not ready may only
        # be waiting for it.
        for other in $names; do
            [ ! -e "$dir/$other.pid" ] || running "$other" || { name=$other && break 2; }
        done
        sleep 0.2
    done
    echo "cluster: $name did not become ready; the end of $dir/$name.log:" >&2
    tail -n 5 "$dir/$name.log" >&2
    exit 1
}

up() {
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    passwords
    cp scripts/nats.conf "$dir/shipped.conf"
    go build -o "$bin/" ./gateway ./roomsvc
    go build -o "$bin/nats-server" github.com/nats-io/nats-server/v2
    for n in 1 2 3; do
        configure $n
        start nats$n env NATS_SERVER_NAME=n$n "$bin/nats-server" -c "$dir/nats$n.conf"
    done
    for n in 1 2; do
        start roomsvc$n env NATS_PASSWORD="$NATS_ROOMSVC_PASSWORD" "$bin/roomsvc" --nats "$nats" \
            --user roomsvc --inbox-prefix _INBOX_roomsvc --replicas 3 --sync always --ops-listen "127.0.0.1:$((9090 + n))"
    done
    for n in 1 2 3; do
        start gateway$n env NATS_PASSWORD="$NATS_GATEWAY_PASSWORD" "$bin/gateway" --nats "$nats" \
            --user gateway --inbox-prefix _INBOX_gw --listen "127.0.0.1:$((7999 + n))" \
            --ops-listen "127.0.0.1:$((9099 + n))"
    done
    for n in 1 2; do ready roomsvc$n "$bin/roomsvc" ready --ops-listen "127.0.0.1:$((9090 + n))"; done
    for n in 1 2 3; do ready gateway$n "$bin/gateway" ready --ops-listen "127.0.0.1:$((9099 + n))"; done
    status
    echo "a NATS client: nats --user operator --password $NATS_OPERATOR_PASSWORD sub 'room.out.>'"
    echo "open http://127.0.0.1:8000/ and http://127.0.0.1:8001/, then kill any process"
}

down() {
    # Stop the gateways first and the NATS servers last, so that each process can finish its
    # requests.
    for kind in gateway roomsvc nats; do
        for name in $names; do
            case $name in
            $kind*) running "$name" && kill "$(cat "$dir/$name.pid")" ;;
            esac || true
        done
        for name in $names; do
            case $name in
            $kind*)
                for _ in $(seq 100); do
                    running "$name" || break
                    sleep 0.2
                done
                rm -f "$dir/$name.pid"
                ;;
            esac
        done
    done
}

address() { # name
    n=${1#"${1%?}"}
    case $1 in
    nats*) echo "nats://127.0.0.1:$((4221 + n))  http://127.0.0.1:$((8221 + n))/" ;;
    roomsvc*) echo "http://127.0.0.1:$((9090 + n))/readyz" ;;
    gateway*) echo "http://127.0.0.1:$((7999 + n))/  http://127.0.0.1:$((9099 + n))/readyz" ;;
    esac
}

status() {
    for name in $names; do
        if running "$name"; then
            printf '%-9s pid %-8s %s\n' "$name" "$(cat "$dir/$name.pid")" "$(address "$name")"
        else
            printf '%-9s down\n' "$name"
        fi
    done
}

case ${1:-} in
up) up ;;
down) down ;;
status) status ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
