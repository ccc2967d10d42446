"""One Kafka broker (KRaft, its own controller) from Maven's jars, on the loopback address."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from cluster import child
from cluster.acls import Acl, create_acls, scram_arguments
from cluster.certificates import Certificates
from cluster.child import Child, Server
from streams.cluster import ClusterError

HERE = Path(__file__).resolve().parent
ADMIN = "admin"
PROBE_TOPIC = "_probe"
TOPIC_ALREADY_EXISTS = 36
READY_WITHIN_S = 90.0

Client = TypeVar("Client", AIOKafkaAdminClient, AIOKafkaConsumer, AIOKafkaProducer)


def libs_folder() -> Path:
    """Where the jars lie: $TWINROOM_KAFKA_LIBS, else where `make broker` puts them."""
    return Path(os.environ.get("TWINROOM_KAFKA_LIBS") or HERE.parent / ".cluster" / "libs")


def missing() -> str | None:
    """What this machine lacks for a broker, in words; None if nothing."""
    absent = child.missing("java")
    if absent is None and not list(libs_folder().glob("kafka_*.jar")):
        absent = f"no Kafka in {libs_folder()} (`make broker` fetches it, with Maven)"
    return absent


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """TLS and passwords for clients, rules for every one of them but the admin.

    Parameters
    ----------
    certificates
        The server's.
    admin_password
        Of the user "admin", who may do everything and as whom the broker logs in to itself.
    controller_password
        Between the broker and its controller, on the loopback address, without TLS.
    users
        Password of each other user. Users are made with the store: a later change has no effect on it.
    acls
        Rules that are made at the first start.
    """

    certificates: Certificates
    admin_password: str = field(repr=False)
    controller_password: str = field(repr=False)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    acls: tuple[Acl, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """What one broker is started with.

    Parameters
    ----------
    folder
        Its store, its properties and its log (broker.log).
    port, controller_port
        Of 127.0.0.1; 0 takes a free one, which the broker keeps over restarts.
    heap_mb
        The most memory [MiB] of Java's heap; half of it is taken at once.
    jvm_options
        More options of Java.
    session_timeout_ms
        After a kill -9 the controller waits so long for the dead broker before a new one may register. A
        broker that gets no processor for longer is taken for dead.
    security
        None: everyone who reaches the port may do everything.
    properties
        More of Kafka's properties; they win over those made here.
    """

    folder: Path
    port: int = 0
    controller_port: int = 0
    heap_mb: int = 512
    jvm_options: tuple[str, ...] = ()
    session_timeout_ms: int = 9_000
    security: BrokerSecurity | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


def server_properties(settings: BrokerSettings, port: int, controller_port: int) -> dict[str, str]:
    """Kafka's properties of a single node for these settings and ports."""
    client = f"CLIENT://127.0.0.1:{port}"
    secured = settings.security is not None
    protocols = (
        "CONTROLLER:SASL_PLAINTEXT,CLIENT:SASL_SSL" if secured else "CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT"
    )
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"{client},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": client,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": protocols,
        "log.dirs": str(settings.folder / "store"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "2000",
        "broker.session.timeout.ms": str(settings.session_timeout_ms),
        "broker.heartbeat.interval.ms": str(settings.session_timeout_ms // 4),
        "log.cleaner.dedupe.buffer.size": str(16 << 20),  # Kafka's 128 MiB is a quarter of this heap
    }
    if settings.security is not None:
        properties |= _security_properties(settings.security)
    return properties | dict(settings.properties)


def _security_properties(security: BrokerSecurity) -> dict[str, str]:
    jaas = 'org.apache.kafka.common.security.{} required username="admin" password="{}"{};'
    scram = jaas.format("scram.ScramLoginModule", security.admin_password, "")
    own = f' user_{ADMIN}="{security.controller_password}"'
    plain = jaas.format("plain.PlainLoginModule", security.controller_password, own)
    return {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": scram,
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(security.certificates.keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(security.certificates.authority),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN}",
        "allow.everyone.if.no.acl.found": "false",
    }


def properties_text(properties: Mapping[str, str]) -> str:
    """A Java properties file: ASCII, with its escapes, for a folder's name may have any letter."""
    lines = []
    for name, value in properties.items():
        units = value.encode("utf-16-be")
        codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
        text = "".join(chr(c) if 32 <= c < 127 and c != 92 else f"\\u{c:04x}" for c in codes)
        lines.append(f"{name}={text}\n")
    return "".join(lines)


class Broker(Server):
    """A broker as a child of this process; its store outlives both.

    Its methods block: a coroutine calls them with `asyncio.to_thread`. As a context manager it is started and
    stopped.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        free = child.free_ports(2)
        self.port = settings.port or free[0]
        self.controller_port = settings.controller_port or free[1]
        security = settings.security
        self._passwords = {} if security is None else {ADMIN: security.admin_password, **security.users}
        java = ["java", *self._log_option(), f"-Xms{settings.heap_mb // 2}m", f"-Xmx{settings.heap_mb}m"]
        java += [
            *settings.jvm_options,
            "-cp",
            f"{libs_folder()}/*",
            "kafka.Kafka",
            str(self._properties_file),
        ]
        self.child = Child("the Kafka broker", java, settings.folder / "broker.log")

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self.port}"

    def client(self, user: str = ADMIN) -> dict[str, Any]:
        """The arguments with which an aiokafka client of that user reaches this broker.

        On an open broker nobody has a name, and the user is not looked at.
        """
        if self.settings.security is None:
            return {"bootstrap_servers": self.address}
        if user not in self._passwords:
            raise ClusterError(f"user: got {user!r}, expected one of {', '.join(self._passwords)}")
        authority = self.settings.security.certificates.authority
        return {
            "bootstrap_servers": self.address,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": self._passwords[user],
            "ssl_context": ssl.create_default_context(cafile=str(authority)),
        }

    def start(self, within_s: float = READY_WITHIN_S) -> None:
        """Start, and return when topics can be made, records written and groups formed.

        Raises ClusterError if something is missing, if the broker ends, or if time [s] is up; a broker
        that is not ready then is stopped.
        """
        absent = missing()
        if absent is not None:
            raise ClusterError(absent)
        for port in (self.port, self.controller_port):
            child.refuse_taken(port, self.child.name)
        deadline = time.monotonic() + within_s
        is_new = self._write()
        self.child.start()
        try:
            self.child.wait_until(lambda: child.accepts(self.port), within_s)
            asyncio.run(self._make_ready(deadline))
            if is_new and self.settings.security is not None:
                self.grant(self.settings.security.acls)
        except BaseException:
            self.child.stop()
            raise

    def grant(self, acls: Iterable[Acl]) -> None:
        """Add rules to a running broker with security."""
        asyncio.run(self._grant(tuple(acls)))

    def create_topics(self, topics: Iterable[NewTopic]) -> None:
        """Make topics; one that is there already stays as it is. ClusterError if the broker refuses one."""
        asyncio.run(self._create_topics(list(topics)))

    @property
    def _properties_file(self) -> Path:
        return self.settings.folder / "server.properties"

    @staticmethod
    def _log_option() -> list[str]:
        return [f"-Dlog4j.configuration={(HERE / 'log4j.properties').as_uri()}"]

    def _write(self) -> bool:
        """Write the properties and, the first time, the store; whether it was made now."""
        folder = self.settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        properties = server_properties(self.settings, self.port, self.controller_port)
        _write_secret(self._properties_file, properties_text(properties))
        if (folder / "store" / "meta.properties").exists():
            return False
        # Java reads its arguments from a file that only this user may read: no process list shows a password.
        arguments = [*self._log_option(), "-XX:TieredStopAtLevel=1", "-cp", f"{libs_folder()}/*"]
        arguments += ["kafka.tools.StorageTool", "format", "--cluster-id", _new_cluster_id()]
        arguments += ["--config", str(self._properties_file), *scram_arguments(self._passwords)]
        file = folder / "format.args"
        quoted = [argument.replace("\\", "\\\\").replace('"', '\\"') for argument in arguments]
        _write_secret(file, "".join(f'"{argument}"\n' for argument in quoted))
        try:
            done = subprocess.run(["java", f"@{file}"], capture_output=True, text=True, check=False)
        finally:
            file.unlink()
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()
            raise ClusterError(f"Kafka could not make its store in {folder}: {output}")
        return True

    async def _make_ready(self, deadline: float) -> None:
        """Ask for everything that clients will ask for, until all of it works."""
        while True:
            try:
                async with started(AIOKafkaAdminClient(**self.client())) as admin:
                    if not (await admin.describe_cluster())["brokers"]:
                        raise ClusterError("no broker has registered")
                    await _create(admin, [NewTopic(PROBE_TOPIC, 1, 1)])
                    await admin.find_coordinator("probe")
                async with started(AIOKafkaProducer(**self.client(), acks="all")) as producer:
                    await producer.send_and_wait(PROBE_TOPIC, b"ready")
                return
            except (KafkaError, ClusterError, OSError) as error:
                self.child.check()
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"the Kafka broker is not ready: {error}; {self.child.tail()}"
                    ) from error
            await asyncio.sleep(child.POLL_S)

    async def _grant(self, acls: tuple[Acl, ...]) -> None:
        async with started(AIOKafkaAdminClient(**self.client())) as admin:
            await create_acls(admin, acls)

    async def _create_topics(self, topics: list[NewTopic]) -> None:
        async with started(AIOKafkaAdminClient(**self.client())) as admin:
            await _create(admin, topics)


@asynccontextmanager
async def started(client: Client) -> AsyncIterator[Client]:
    """Start a client of aiokafka and close it in the end.

    Also when its start fails: `async with client` leaves it, and its sockets, open then.
    """
    try:
        await client.start()
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    response = await admin.create_topics(topics)
    for name, code, *words in response.topic_errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise ClusterError(f"the broker refused topic {name}: error {code}, {words}")


def _new_cluster_id() -> str:
    """16 random bytes in base64; Kafka's tools take a leading hyphen for an option."""
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):
            return name


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")
