#!/bin/sh
# Makes the passwords and certificates of a cluster in deploy/secrets, which git ignores. What is there stays, except
# what is asked for by name:
#   sudo deploy/secrets.sh                       what is missing
#   sudo deploy/secrets.sh --certificates        new certificates, from a new authority
#   sudo deploy/secrets.sh --password fusion     a new password for one user
#   --cluster NAME     of cluster.toml, in the rules of Redis (default: flanders)
#   --names A,B        more names or addresses of the Kafka and Redis servers, for clients on other machines
#   --host NAME        of the page (default: localhost)
# As root each file goes to the user of the container that reads it, mode 600. As another user all files stay that
# user's, and containers that run as others cannot read them.
set -eu
umask 077
home=$(cd "$(dirname "$0")" && pwd)
folder=${TWINROOM_SECRETS:-$home/secrets}
kafka=1000 redis=999 proxy=101 twinroom=10001
users="worker fusion emission air noise exposure alarms feed dashboard monitor"
cluster=flanders host=localhost names="" renew="" only=""

while [ $# -gt 0 ]; do
    case $1 in
        --certificates) renew=yes; shift; continue ;;
        --cluster | --host | --names | --password) ;;
        *) echo "secrets.sh: got $1, expected --certificates, --password, --cluster, --names or --host" >&2; exit 2 ;;
    esac
    [ $# -ge 2 ] || { echo "secrets.sh: $1 needs a value" >&2; exit 2; }
    case $1 in
        --cluster) cluster=$2 ;;
        --host) host=$2 ;;
        --names) names=$2 ;;
        --password) only=$2 ;;
    esac
    shift 2
done
case " admin controller operator $users " in
    *" ${only:-admin} "*) ;;
    *) echo "secrets.sh: --password: got $only, expected one of admin controller operator $users" >&2; exit 2 ;;
esac
case $cluster in
    "" | *[!a-z0-9-]*) echo "secrets.sh: --cluster: got $cluster, expected small letters, digits and hyphens" >&2; exit 2 ;;
esac
mkdir -p "$folder"
chmod 700 "$folder"

# Written in place: a container has the file itself mounted, not its name.
put() {
    file=$folder/$1 owner=$2 mode=$3
    cat >"$file"
    chmod "$mode" "$file"
    if [ "$(id -u)" = 0 ]; then chown "$owner:$owner" "$file"; fi
}
word() { openssl rand -hex 24; }
digest() { printf %s "$1" | openssl dgst -sha256 -r | cut -d ' ' -f 1; }

for user in admin $users controller operator; do
    if [ ! -s "$folder/$user" ] || [ "$only" = "$user" ]; then
        word | put "$user" $twinroom 600
        echo "password of $user: made"
    fi
done
for user in admin controller $users; do
    echo "$user=$(cat "$folder/$user")"
done | put kafka_users $kafka 600

rules=$(sed "s/@cluster@/$cluster/g" "$home/redis/users.acl.template")
for user in admin $users; do
    rules=$(printf '%s\n' "$rules" | sed "s/#@$user@/#$(digest "$(cat "$folder/$user")")/")
done
printf '%s\n' "$rules" | put redis_users.acl $redis 600
echo "operator:$(openssl passwd -6 -stdin <"$folder/operator")" | put proxy_users $proxy 600

if [ ! -s "$folder/ca.pem" ] || [ -n "$renew" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    more=""
    for name in $(echo "$names" | tr , ' '); do
        case $name in *[!0-9.]*) more="$more,DNS:$name" ;; *) more="$more,IP:$name" ;; esac
    done
    cat >"$scratch/ca.cnf" <<END
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = Twinroom $cluster
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    openssl req -x509 -config "$scratch/ca.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
        -days 825 -keyout "$scratch/ca.key" -out "$scratch/ca.pem" 2>/dev/null
    certify() { # name of the file, its alternative names
        cat >"$scratch/$1.ext" <<END
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $2
END
        openssl req -new -subj "/CN=Twinroom $1" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
            -keyout "$scratch/$1.key" -out "$scratch/$1.csr" 2>/dev/null
        openssl x509 -req -in "$scratch/$1.csr" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" -CAcreateserial -sha256 \
            -days 825 -extfile "$scratch/$1.ext" -out "$scratch/$1.crt" 2>/dev/null
    }
    certify kafka "DNS:kafka,DNS:localhost,IP:127.0.0.1$more"
    certify redis "DNS:redis,DNS:localhost,IP:127.0.0.1$more"
    case $host in *[!0-9.]*) certify proxy "DNS:$host" ;; *) certify proxy "IP:$host" ;; esac
    # The key of the authority goes with the scratch folder: nobody can sign another server.
    put ca.pem $twinroom 644 <"$scratch/ca.pem"
    cat "$scratch/kafka.key" "$scratch/kafka.crt" "$scratch/ca.pem" | put kafka_server.pem $kafka 600
    put redis.crt $redis 644 <"$scratch/redis.crt"
    put redis.key $redis 600 <"$scratch/redis.key"
    put proxy.crt $proxy 644 <"$scratch/proxy.crt"
    put proxy.key $proxy 600 <"$scratch/proxy.key"
    echo "certificates: made, good for 825 days"
fi
if [ "$(id -u)" != 0 ]; then
    echo "not root: all files belong to $(id -un), and containers cannot read them; for compose.yaml run it with sudo"
fi
