#!/bin/sh
# Kafka's jars (Maven) into .cluster/libs, and Java, Maven and Redis (Debian's packages) where this user may install them.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
libs=$home/.cluster/libs
pom=$home/cluster/pom.xml

wanted=""
command -v redis-server >/dev/null 2>&1 || wanted="$wanted redis-server"
command -v java >/dev/null 2>&1 || wanted="$wanted default-jre-headless"
command -v openssl >/dev/null 2>&1 || wanted="$wanted openssl"
if ! cmp -s "$pom" "$libs/pom.xml"; then
    command -v mvn >/dev/null 2>&1 || wanted="$wanted maven"
fi
if [ -n "$wanted" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing$wanted for the cluster and its tests ..."
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    else
        echo "Not installed and cannot be here (needs root and apt-get):$wanted. The tests that need them will be skipped."
    fi
fi

if ! cmp -s "$pom" "$libs/pom.xml" && command -v mvn >/dev/null 2>&1; then
    echo "Fetching Kafka (46 MB) into .cluster/libs ..."
    new=$home/.cluster/libs.new
    rm -rf "$new"
    if mvn -B -q -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new"; then
        cp "$pom" "$new/pom.xml"
        rm -rf "$libs"
        mv "$new" "$libs"
    else
        echo "Maven could not fetch Kafka: the tests that need it will be skipped."
    fi
fi
