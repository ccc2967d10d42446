#!/bin/bash
# Gives the users of a running broker the passwords that now stand in kafka_users: after one was changed or added.
# Run in the container: docker compose exec kafka bash /opt/twinroom/users.sh OLD_PASSWORD_FILE_OF_ADMIN (none: unchanged)
set -euo pipefail
umask 077
secrets=${TWINROOM_SECRETS:-/run/secrets}
kafka=${KAFKA_HOME:-/opt/kafka}
scratch=$(mktemp -d "${TWINROOM_SCRATCH:-/tmp}/users.XXXXXX")
trap 'rm -r "$scratch"' EXIT

if [ $# -gt 0 ]; then admin=$(cat "$1"); else admin=$(sed -n 's/^admin=//p' "$secrets/kafka_users"); fi
cat >"$scratch/admin" <<END
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="$admin";
ssl.truststore.type=PEM
ssl.truststore.location=$secrets/ca.pem
END
while IFS='=' read -r name word; do
    [ "$name" != controller ] || continue
    echo "SCRAM-SHA-512=password=$word" >"$scratch/one"
    "$kafka/bin/kafka-configs.sh" --bootstrap-server "${KAFKA_BOOTSTRAP:-localhost:9092}" --command-config "$scratch/admin" \
        --alter --entity-type users --entity-name "$name" --add-config-file "$scratch/one" </dev/null
done < <(grep -v '^admin=' "$secrets/kafka_users"; grep '^admin=' "$secrets/kafka_users")
