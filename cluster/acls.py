"""Who may do what on the broker: users at its first start, access rules at any time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from streams.cluster import ClusterError

ANY_HOST = "*"
ALLOW = 3
LITERAL, PREFIXED = 3, 4

# Kafka reads names and passwords from lists and quoted strings of its own, without a way to escape.
PLAIN = re.compile(r"[A-Za-z0-9._~-]+")


class Resource(IntEnum):
    """What a rule speaks of; the numbers are those of Kafka's protocol."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """What a rule allows; the numbers are those of Kafka's protocol."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    DESCRIBE = 8


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One allowance: everything that no rule allows is refused.

    A producer needs WRITE on its topics alone, also an idempotent one. A consumer needs READ on its topics
    and on its group (the group of a Faust worker is the name of its app).

    Parameters
    ----------
    user
        Name without Kafka's "User:".
    operation, resource
        What is allowed on what.
    name
        Of the topic or the group; "kafka-cluster" for the cluster.
    is_prefix
        The rule holds for every name that starts so.
    """

    user: str
    operation: Operation
    resource: Resource
    name: str
    is_prefix: bool = False


async def create_acls(admin: AIOKafkaAdminClient, acls: Iterable[Acl]) -> None:
    """Add the rules through a started admin client; a rule that is there already stays.

    Raises ClusterError, with Kafka's code and words, if the broker refuses one.
    """
    for acl in acls:
        pattern = PREFIXED if acl.is_prefix else LITERAL
        request = CreateAclsRequest(
            acl.resource, acl.name, pattern, f"User:{acl.user}", ANY_HOST, acl.operation, ALLOW
        )
        # The admin client has no method for this request: it is sent as the client sends its own.
        response = await admin._send_to_controller(request)
        for code, message in response.creation_responses:
            if code != 0:
                raise ClusterError(f"the broker refused {acl}: error {code}, {message}")


def scram_arguments(passwords: Mapping[str, str]) -> list[str]:
    """The arguments with which the format of a new store gets its first users.

    Raises ClusterError for a name or a password that Kafka would read otherwise than it is meant.
    """
    arguments = []
    for name, password in passwords.items():
        for what, value in (("user", name), ("password of user " + name, password)):
            if not PLAIN.fullmatch(value):
                got = repr(value) if what == "user" else "another character"
                raise ClusterError(f"{what}: got {got}, expected letters, digits and . _ ~ - only")
        arguments += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
    return arguments
