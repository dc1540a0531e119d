#!/bin/sh
# usage: scripts/smoke.sh URL [URL2]
#
# Sends messages through a running Roomcast, for example http://127.0.0.1:8000, and prints each
# check that passes. Each check uses two clients; with a second URL, the second client uses that
# gateway. The script waits up to 30 s for the gateways, and exits with 1 at the first failed check.
set -eu
cd "$(dirname "$0")/.."
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
exec go run ./scripts/smoke "$@"
