#!/bin/sh
# million.sh connects a million members to one Roomcast on this machine and sends one message to
# every room. It starts one NATS server and 52 gateways. Each gateway has 19,400 members, because a
# process may have 20,000 file descriptors. The processes use loopback addresses in a network
# namespace of their own. It needs about 16 GB of free memory and a few minutes. For a small run,
# use --gateways 4 --members 5000.
set -eu

case " $* " in
*" --gateways "* | *" -gateways "*) ;;
*)
	free=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
	if [ "$free" -lt 16 ]; then
		echo "million.sh: $free GB of memory are free, but it needs 16; try $0 --gateways 4 --members 5000" >&2
		exit 1
	fi
	;;
esac
exec "$(dirname "$0")/bench" million "$@"
