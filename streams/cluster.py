"""Where a cluster is and who may enter: cluster.toml, and what the environment of a process changes in it."""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.topics import Topic

SECURITY = ("plaintext", "sasl_ssl")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_TABLES: Mapping[str, frozenset[str]] = {
    "cluster": frozenset(("name", "regions")),
    "kafka": frozenset(
        (
            "bootstrap",
            "security",
            "user",
            "password_file",
            "ca_file",
            "replication",
            "retention_hours",
            "session_s",
        )
    ),
    "redis": frozenset(("url", "user", "password_file", "ca_file")),
}


class ClusterError(ValueError):
    """A cluster that cannot be used as it is described, or does not answer as described."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka; passwords are read when a connection is made and never shown."""

    bootstrap: tuple[str, ...]
    security: str = "plaintext"
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    replication: int = 1
    retention_hours: float = 48.0
    session_s: float = 6.0

    def client_options(self) -> dict[str, Any]:
        """Options that each aiokafka client takes."""
        options: dict[str, Any] = {"bootstrap_servers": list(self.bootstrap)}
        if self.security == "sasl_ssl":
            options |= {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password(),
                "ssl_context": self.tls(),
            }
        return options

    def password(self) -> str:
        return _secret(self.password_file, "kafka")

    def tls(self) -> ssl.SSLContext:
        """Context that trusts the cluster's own authority, else those of the system."""
        try:
            return ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise ClusterError(f"[kafka] ca_file: {self.ca_file}: {error}") from error


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How to reach Redis."""

    url: str
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None

    def client_options(self) -> dict[str, Any]:
        """Options of :func:`redis.asyncio.from_url` beside the address."""
        options: dict[str, Any] = {}
        if self.password_file is not None:
            options |= {"username": self.user or None, "password": _secret(self.password_file, "redis")}
        if self.url.startswith("rediss:"):
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
            if self.ca_file is not None:
                options["ssl_ca_certs"] = str(self.ca_file)
        return options


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as its processes see it.

    Attributes
    ----------
    name : str
        Prefix of topics, consumer groups, transactional ids and keys.
    regions : tuple of str
        Their names; the place in the list is the partition of every topic.
    packs : tuple of str
        City pack of each: a bundled name or a folder.
    """

    name: str
    regions: tuple[str, ...]
    packs: tuple[str, ...]
    kafka: KafkaSettings
    redis: RedisSettings
    source: str = field(default="cluster.toml", compare=False)

    def topic(self, topic: Topic) -> str:
        """Name of a topic in Kafka."""
        return f"{self.name}.{topic.value}"

    def key(self, kind: str, *parts: object) -> str:
        """Key in Redis."""
        return ":".join((self.name, kind, *map(str, parts)))

    def partition_of(self, region: str) -> int:
        """Partition of a region.

        Raises
        ------
        ClusterError
            For a region that is not in the list.
        """
        if region not in self.regions:
            raise ClusterError(
                f"{self.source}: [cluster] regions: got {region!r}, expected one of {', '.join(self.regions)}"
            )
        return self.regions.index(region)


def read_cluster(path: Path, environment: Mapping[str, str] | None = None) -> Cluster:
    """Read cluster.toml.

    TWINROOM_KAFKA_USER, TWINROOM_KAFKA_PASSWORD_FILE and the same of REDIS go before what stands there, so
    that each process may enter with rights of its own.

    Raises
    ------
    ClusterError
        When it cannot be read, or a setting is missing, unknown or out of range.
    """
    environment = os.environ if environment is None else environment
    try:
        text = path.read_bytes().decode()
        given = tomllib.loads(text)
    except OSError as error:
        raise ClusterError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: is not TOML: {error}") from error
    try:
        return _cluster(given, path, environment)
    except _SettingError as error:
        raise ClusterError(f"{path}: {error}") from None


class _SettingError(ValueError):
    """A setting, without the name of the file."""


def _cluster(given: Mapping[str, Any], path: Path, environment: Mapping[str, str]) -> Cluster:
    for table, values in given.items():
        if table not in _TABLES or not isinstance(values, dict):
            raise _SettingError(f"[{table}]: unknown, expected {', '.join(f'[{t}]' for t in _TABLES)}")
        for name in values:
            if name not in _TABLES[table]:
                known = ", ".join(sorted(_TABLES[table]))
                raise _SettingError(f"[{table}] {name}: unknown, expected one of {known}")
    cluster, kafka, redis = (given.get(table, {}) for table in _TABLES)
    name = cluster.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _SettingError(
            f"[cluster] name: got {name!r}, expected small letters, digits and hyphens, as in 'flanders'"
        )
    packs = _texts(cluster, "cluster", "regions")
    regions = tuple(Path(pack).name for pack in packs)
    if len(set(regions)) < len(regions):
        twice = next(r for r in regions if regions.count(r) > 1)
        raise _SettingError(f"[cluster] regions: {twice!r} stands there twice; each is one partition")
    security = kafka.get("security", "plaintext")
    if security not in SECURITY:
        raise _SettingError(f"[kafka] security: got {security!r}, expected one of {', '.join(SECURITY)}")
    url = redis.get("url")
    if not isinstance(url, str) or not url.startswith(("redis://", "rediss://")):
        raise _SettingError(f"[redis] url: got {url!r}, expected redis://host:port/0, or rediss:// for TLS")
    if "@" in url:
        raise _SettingError("[redis] url: holds a password; give it as a file, with password_file")
    made = Cluster(
        name=name,
        regions=regions,
        packs=tuple(str(path.parent / pack) if "/" in pack else pack for pack in packs),
        kafka=KafkaSettings(
            bootstrap=_texts(kafka, "kafka", "bootstrap"),
            security=security,
            user=environment.get("TWINROOM_KAFKA_USER") or str(kafka.get("user", "")),
            password_file=_password_file(kafka, path, environment.get("TWINROOM_KAFKA_PASSWORD_FILE")),
            ca_file=_beside(kafka, "ca_file", path),
            replication=int(_number(kafka, "kafka", "replication", 1, 1, 32767)),
            retention_hours=_number(kafka, "kafka", "retention_hours", 48.0, 0.1, 87_600.0),
            session_s=_number(kafka, "kafka", "session_s", 6.0, 2.0, 300.0),
        ),
        redis=RedisSettings(
            url=url,
            user=environment.get("TWINROOM_REDIS_USER") or str(redis.get("user", "")),
            password_file=_password_file(redis, path, environment.get("TWINROOM_REDIS_PASSWORD_FILE")),
            ca_file=_beside(redis, "ca_file", path),
        ),
        source=path.name,
    )
    if made.kafka.security == "sasl_ssl" and not (made.kafka.user and made.kafka.password_file):
        raise _SettingError("[kafka] security: 'sasl_ssl' needs user and password_file")
    return made


def _texts(table: Mapping[str, Any], where: str, name: str) -> tuple[str, ...]:
    values = table.get(name)
    if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
        raise _SettingError(f"[{where}] {name}: got {values!r}, expected a list of at least one text")
    return tuple(values)


def _number(
    table: Mapping[str, Any], where: str, name: str, default: float, least: float, most: float
) -> float:
    value = table.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _SettingError(f"[{where}] {name}: got {value!r}, expected a number from {least:g} to {most:g}")
    return float(value)


def _beside(table: Mapping[str, Any], name: str, beside: Path) -> Path | None:
    """A file named in cluster.toml lies relative to it."""
    text = str(table.get(name, ""))
    return beside.parent / text if text else None


def _password_file(table: Mapping[str, Any], beside: Path, override: str | None) -> Path | None:
    return Path(override) if override else _beside(table, "password_file", beside)


def _secret(path: Path | None, where: str) -> str:
    if path is None:
        raise ClusterError(f"[{where}] password_file: is missing")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ClusterError(f"[{where}] password_file: {path}: {error.strerror}") from error
