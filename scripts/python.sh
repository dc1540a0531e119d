#!/bin/sh
# usage: scripts/python.sh
#
# Checks the Python client: its types, the conformance kit, and its tests against a real gateway.
# The tests use the wheel, which the script installs in an empty environment, as a new user would.
# The tools of the script are in another environment, in the user's cache directory.
set -eu
cd "$(dirname "$0")/.."
tools=${XDG_CACHE_HOME:-$HOME/.cache}/roomcast/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

[ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --upgrade 'mypy>=2' 'setuptools>=77' 'websockets>=16'
(cd gateway/client/python && "$tools/bin/mypy" --cache-dir "$work/mypy" --strict roomcast tests ../../../scripts/conformance/drivers/python.py)

cp -R gateway/client/python "$work/source"
"$tools/bin/pip" wheel --no-deps --no-build-isolation -w "$work" "$work/source"
python3 -m venv "$work/empty"
"$work/empty/bin/pip" install "$work"/roomcast-*.whl
[ -n "${ROOMCAST_GATEWAY-}" ] || { go build -o "$work/gateway" ./gateway && export ROOMCAST_GATEWAY="$work/gateway"; }
go run ./scripts/conformance "$work/empty/bin/python" scripts/conformance/drivers/python.py 2>"$work/log" || { cat "$work/log" && false; }
go run ./scripts/conformance -gateway "$ROOMCAST_GATEWAY" "$work/empty/bin/python" scripts/conformance/drivers/python.py 2>"$work/log" || { cat "$work/log" && false; }
"$work/empty/bin/python" -m unittest discover -s gateway/client/python/tests
