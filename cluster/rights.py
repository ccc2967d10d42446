"""Tells the broker who may do what: the rules of rights.toml. A rule that is there already stays.

    python -m cluster.rights --cluster deploy/cluster.toml --rights deploy/rights.toml

Enters as the user of TWINROOM_KAFKA_USER, which must be one of the broker's super users.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from cluster.acls import Acl, Operation, Resource, create_acls
from streams.cluster import Cluster, ClusterError, read_cluster
from streams.topics import Topic

SETTINGS = frozenset(("read", "write", "agents", "groups"))
TRIES, PAUSE_S = 30, 2.0  # a broker that has just been started


def read_rights(path: Path) -> dict[str, dict[str, Any]]:
    """Read rights.toml.

    Raises
    ------
    ClusterError
        When it cannot be read, or names a topic or a setting that does not exist.
    """
    try:
        rights: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: is not TOML: {error}") from error
    topics = {topic.value for topic in Topic}
    for user, given in rights.items():
        if not isinstance(given, dict) or (unknown := given.keys() - SETTINGS):
            wrong = sorted(unknown) if isinstance(given, dict) else given
            raise ClusterError(f"{path}: [{user}]: got {wrong}, expected {', '.join(sorted(SETTINGS))}")
        for side in ("read", "write"):
            named = given.get(side, [])
            if not isinstance(named, list) or not set(named) <= topics:
                expected = ", ".join(sorted(topics))
                raise ClusterError(f"{path}: [{user}] {side}: got {named!r}, expected a list of {expected}")
        if given.get("groups", "describe") != "describe":
            raise ClusterError(f"{path}: [{user}] groups: got {given['groups']!r}, expected 'describe'")
    return rights


def rules_of(cluster: Cluster, rights: Mapping[str, Mapping[str, Any]]) -> list[Acl]:
    """Rules of all users for the topics, groups and transactional ids of a cluster."""
    rules = []
    for user, given in rights.items():
        for side, operation in (("read", Operation.READ), ("write", Operation.WRITE)):
            for topic in given.get(side, []):
                rules.append(Acl(user, operation, Resource.TOPIC, cluster.topic(Topic(topic))))
        agents = given.get("agents")
        if agents == "*":
            rules.append(Acl(user, Operation.READ, Resource.GROUP, f"{cluster.name}-", is_prefix=True))
        elif agents is not None:
            rules.append(Acl(user, Operation.READ, Resource.GROUP, f"{cluster.name}-{agents}"))
        if agents is not None:
            begins = f"{cluster.name}-" if agents == "*" else f"{cluster.name}-{agents}-"
            for operation in (Operation.WRITE, Operation.DESCRIBE):
                rules.append(Acl(user, operation, Resource.TRANSACTIONAL_ID, begins, is_prefix=True))
        if given.get("groups") == "describe":
            rules.append(Acl(user, Operation.DESCRIBE, Resource.GROUP, f"{cluster.name}-", is_prefix=True))
    return rules


async def grant(cluster: Cluster, rules: Iterable[Acl]) -> None:
    """Add the rules as the user of this process; a broker that is just starting is waited for."""
    for left in reversed(range(TRIES)):
        admin = AIOKafkaAdminClient(**cluster.kafka.client_options())
        try:
            await admin.start()
            await create_acls(admin, rules)
            return
        except KafkaConnectionError as error:
            if not left:
                raise ClusterError(f"Kafka at {', '.join(cluster.kafka.bootstrap)}: {error}") from error
        finally:
            await admin.close()
        await asyncio.sleep(PAUSE_S)


def main(arguments: list[str] | None = None) -> int:
    """Read both files and tell the broker; 0 when all rules stand, 1 with a message when they do not."""
    parser = argparse.ArgumentParser(description="Tells the broker who may do what.")
    parser.add_argument("--cluster", type=Path, required=True, metavar="F", help="cluster.toml")
    parser.add_argument("--rights", type=Path, required=True, metavar="F", help="rights.toml")
    given = parser.parse_args(arguments)
    try:
        cluster = read_cluster(given.cluster)
        rights = read_rights(given.rights)
        rules = rules_of(cluster, rights)
        asyncio.run(grant(cluster, rules))
    except (ClusterError, KafkaError) as error:
        print(f"rights: {error}", file=sys.stderr)
        return 1
    print(f"{len(rules)} rules for {len(rights)} users stand on the broker")
    return 0


if __name__ == "__main__":
    sys.exit(main())
