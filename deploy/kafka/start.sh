#!/bin/bash
# Starts the broker: adds the passwords to server.properties, makes the store the first time, and becomes Kafka.
set -euo pipefail
umask 077
secrets=${TWINROOM_SECRETS:-/run/secrets}
kafka=${KAFKA_HOME:-/opt/kafka}
given=${TWINROOM_PROPERTIES:-/opt/twinroom/server.properties}
scratch=${TWINROOM_SCRATCH:-/tmp}
properties=$scratch/server.properties

password() { sed -n "s/^$1=//p" "$secrets/kafka_users"; }

admin=$(password admin)
controller=$(password controller)
if [ -z "$admin" ] || [ -z "$controller" ]; then
    echo "$secrets/kafka_users: expected a line admin=... and a line controller=... (deploy/secrets.sh writes them)" >&2
    exit 78
fi
module=org.apache.kafka.common.security
{
    cat "$given"
    echo "advertised.listeners=CLIENT://${KAFKA_ADVERTISED:-kafka:9092}"
    echo "listener.name.client.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required username=\"admin\" password=\"$admin\";"
    echo "listener.name.controller.plain.sasl.jaas.config=$module.plain.PlainLoginModule required username=\"admin\" password=\"$controller\" user_admin=\"$controller\";"
} >"$properties"
store=$(sed -n 's/^log\.dirs=//p' "$properties" | tail -n 1)

if [ ! -e "$store/meta.properties" ]; then
    echo "Making the store in $store, with the users of $secrets/kafka_users"
    # Kafka's tool reads arguments from a file: the process list shows no password.
    while IFS='=' read -r name word; do
        [ "$name" = controller ] || printf -- '--add-scram\nSCRAM-SHA-512=[name=%s,password=%s]\n' "$name" "$word"
    done <"$secrets/kafka_users" >"$scratch/users"
    identity=$("$kafka/bin/kafka-storage.sh" random-uuid | tail -n 1)
    "$kafka/bin/kafka-storage.sh" format --cluster-id "$identity" --config "$properties" "@$scratch/users"
    rm "$scratch/users"
fi
exec "$kafka/bin/kafka-server-start.sh" "$properties"
