#!/bin/sh
# usage: scripts/passwords.sh >.env
#
# Prints random passwords for the NATS users of docker-compose.yml and scripts/cluster.sh,
# as lines of an environment file. Roomcast has no default passwords.
set -eu
for user in GATEWAY ROOMSVC OPERATOR ADMIN ROUTE; do
    # The first character is a letter, because nats.conf reads 4711 as a number.
    printf 'NATS_%s_PASSWORD=p%s\n' "$user" "$(head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n')"
done
