#!/bin/sh
# usage: scripts/smoke.sh URL [URL2]
#
# Talks through a running Roomcast, for example http://127.0.0.1:8000, and says what
# works; with a second URL the two who talk are on different gateways. Waits up to 30 s
# for them to come up. Exits 1 at the first thing that does not work.
set -eu
cd "$(dirname "$0")/.."
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
exec go run ./scripts/smoke "$@"
