"""One Redis on the loopback address that keeps what it was told over a kill -9."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster import child
from cluster.certificates import Certificates
from cluster.child import Child, Server
from streams.cluster import ClusterError

ADMIN = "admin"
READY_WITHIN_S = 60.0


def missing() -> str | None:
    """What this machine lacks for a Redis, in words; None if nothing."""
    return child.missing("redis-server")


@dataclass(frozen=True, slots=True)
class RedisUser:
    """A user and what he may do, in the words of Redis' access lists.

    Parameters
    ----------
    name, password
        The password is kept as its SHA-256 in the file of users.
    keys, channels
        Patterns of the keys and of the channels that he may touch; "%R~" before one of keys: only read.
    commands
        Rules such as "+@read" or "-@dangerous"; he starts with none.
    """

    name: str
    password: str = field(repr=False)
    keys: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] = ("*",)
    commands: tuple[str, ...] = ("+@all",)

    def rule(self) -> str:
        """His line in the file of users. ClusterError if a field is empty or has a blank."""
        words = [self.name, self.password, *self.keys, *self.channels, *self.commands]
        if any(not word or word.split() != [word] for word in words):
            raise ClusterError(f"user: got {self}, expected words without blanks")
        digest = hashlib.sha256(self.password.encode()).hexdigest()
        keys = [pattern if pattern.startswith("%") else f"~{pattern}" for pattern in self.keys]
        channels = [f"&{pattern}" for pattern in self.channels]
        return " ".join(["user", self.name, "on", f"#{digest}", *keys, *channels, "-@all", *self.commands])


@dataclass(frozen=True, slots=True)
class RedisSecurity:
    """TLS and passwords: who has no name here is refused.

    Parameters
    ----------
    certificates
        The server's.
    admin_password
        Of the user "admin", who may do everything.
    users
        The others.
    """

    certificates: Certificates
    admin_password: str = field(repr=False)
    users: tuple[RedisUser, ...] = ()


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """What one Redis is started with.

    Parameters
    ----------
    folder
        Its append-only file, its configuration and its log (redis.log).
    port
        Of 127.0.0.1; 0 takes a free one, which it keeps over restarts.
    security
        None: everyone who reaches the port may do everything.
    """

    folder: Path
    port: int = 0
    security: RedisSecurity | None = None


def configuration(settings: RedisSettings, port: int) -> str:
    """Redis' configuration: each write goes to the append-only file, which goes to the disk each second."""
    lines = ["bind 127.0.0.1", "protected-mode yes", "daemonize no", f"dir {_quoted(settings.folder)}"]
    lines += ["appendonly yes", "appendfsync everysec", 'save ""', "databases 1"]
    if settings.security is None:
        lines.append(f"port {port}")
    else:
        certificates = settings.security.certificates
        lines += ["port 0", f"tls-port {port}", "tls-auth-clients no"]
        lines += [f"tls-cert-file {_quoted(certificates.certificate)}"]
        lines += [f"tls-key-file {_quoted(certificates.key)}"]
        lines += [f"tls-ca-cert-file {_quoted(certificates.authority)}"]
        lines += [f"aclfile {_quoted(_users_file(settings))}"]
    return "\n".join(lines) + "\n"


def _users_file(settings: RedisSettings) -> Path:
    return settings.folder / "users.acl"


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


class RedisServer(Server):
    """A Redis as a child of this process; its append-only file outlives both.

    Its methods block: a coroutine calls them with `asyncio.to_thread`. As a context manager it is started and
    stopped.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.port = settings.port or child.free_ports(1)[0]
        security = settings.security
        self._users: tuple[RedisUser, ...] = ()
        if security is not None:
            self._users = (RedisUser(ADMIN, security.admin_password), *security.users)
        command = ["redis-server", str(settings.folder / "redis.conf")]
        self.child = Child("the Redis server", command, settings.folder / "redis.log")

    @property
    def url(self) -> str:
        """Scheme, host and port for clients, without a user."""
        return f"{'redis' if self.settings.security is None else 'rediss'}://127.0.0.1:{self.port}/0"

    def client(self, user: str = ADMIN) -> dict[str, Any]:
        """The arguments with which `redis.Redis` or `redis.asyncio.Redis` of that user reaches this server.

        On an open server nobody has a name, and the user is not looked at.
        """
        reached: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if self.settings.security is None:
            return reached
        passwords = {one.name: one.password for one in self._users}
        if user not in passwords:
            raise ClusterError(f"user: got {user!r}, expected one of {', '.join(passwords)}")
        authority = str(self.settings.security.certificates.authority)
        named = {"username": user, "password": passwords[user]}
        return reached | named | {"ssl": True, "ssl_ca_certs": authority}

    def start(self, within_s: float = READY_WITHIN_S) -> None:
        """Start, and return when it has read its file and answers.

        Raises ClusterError if something is missing, if the server ends, or if time [s] is up; a server
        that is not ready then is stopped.
        """
        absent = missing()
        if absent is not None:
            raise ClusterError(absent)
        child.refuse_taken(self.port, self.child.name)
        self._write()
        self.child.start()
        try:
            self.child.wait_until(lambda: child.accepts(self.port), within_s)
            self.child.wait_until(self._answers, within_s)
        except BaseException:
            self.child.stop()
            raise

    def _answers(self) -> bool:
        try:
            once = Retry(NoBackoff(), 0)  # who waits for the server asks again himself
            with redis.Redis(**self.client(), socket_timeout=5.0, retry=once) as connection:
                return bool(connection.ping())
        except (redis.BusyLoadingError, redis.TimeoutError, redis.ConnectionError) as error:
            if isinstance(error, redis.AuthenticationError):
                raise
            return False

    def _write(self) -> None:
        folder = self.settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "redis.conf").write_text(configuration(self.settings, self.port), encoding="utf-8")
        if self._users:
            rules = ["user default off", *(user.rule() for user in self._users)]
            file = _users_file(self.settings)
            file.touch(mode=0o600)
            file.chmod(0o600)
            file.write_text("\n".join(rules) + "\n", encoding="utf-8")
