#!/bin/sh
# usage: scripts/npm.sh [DIRECTORY]
#
# Builds and checks the npm package @roomcast/client, and packs it into DIRECTORY (default:
# the current directory). It does not publish the package.
set -eu
to=$(cd "${1-.}" && pwd)
cd "$(dirname "$0")/../gateway/client/js"
npm ci --no-audit --no-fund --silent
npm run --silent build
npm run --silent check
(cd ../../.. && go run ./scripts/conformance \
    node scripts/conformance/drivers/js.mjs gateway/client/js/room.js gateway/client/js/node_modules/ws/wrapper.mjs)
gateway=$(mktemp)
trap 'rm -f "$gateway"' EXIT
(cd ../../.. && go build -o "$gateway" ./gateway && go run ./scripts/conformance -gateway "$gateway" \
    node scripts/conformance/drivers/js.mjs gateway/client/js/room.js gateway/client/js/node_modules/ws/wrapper.mjs)
npm pack --silent --ignore-scripts --pack-destination "$to"
