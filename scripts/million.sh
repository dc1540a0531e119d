#!/bin/sh
# million.sh connects a million members to one Roomcast on this machine: 52 gateways
# with 19,400 members each, since a process may have 20,000 descriptors, on loopback
# addresses of a network namespace, one NATS server, one message to every room.
# It wants some 16 GB of free memory and a few minutes; --gateways 4 --members 5000
# is the same in small.
set -eu

case " $* " in
*" --gateways "* | *" -gateways "*) ;;
*)
	free=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
	if [ "$free" -lt 16 ]; then
		echo "million.sh: $free GB of memory are free, 16 are needed; try $0 --gateways 4 --members 5000" >&2
		exit 1
	fi
	;;
esac
exec "$(dirname "$0")/bench" million "$@"
