"""A whole cluster on one machine without containers: `make cluster`.

Kafka and Redis with TLS, passwords and rights, workers, a feed that plays each region's recording, and a
dashboard, all on the loopback address and all children of this process. The folder keeps what must last; the
users and their rights are those of deploy/.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from cluster.broker import Broker, BrokerSecurity, BrokerSettings
from cluster.certificates import Certificates, make_certificates
from cluster.child import Child
from cluster.redis_server import RedisSecurity, RedisServer, RedisSettings, RedisUser
from cluster.rights import grant, read_rights, rules_of
from streams.cluster import ClusterError, read_cluster
from streams.kafka import make_topics

HOME = Path(__file__).resolve().parent.parent
NAME = "site"
STOP_WITHIN_S = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HOME / ".cluster" / "site", help="keeps it all")
    parser.add_argument("--regions", nargs="+", required=True, help="bundled cities or folders")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--speed", default="20", help="of the recordings; 0 plays none")
    parser.add_argument("--port", type=int, default=5006, help="of the first region's dashboard")
    options = parser.parse_args(arguments)
    try:
        Site(options).run()
    except (ClusterError, ValueError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 2
    return 0


class Site:
    """Servers and processes of one machine."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder: Path = options.folder
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._rights = read_rights(HOME / "deploy" / "rights.toml")
        users = ("admin", "controller", *self._rights)
        self._passwords = {user: self._password(user) for user in users}
        certificates = self._certificates()
        self._broker = Broker(
            BrokerSettings(
                self._folder / "kafka",
                security=BrokerSecurity(
                    certificates,
                    admin_password=self._passwords["admin"],
                    controller_password=self._passwords["controller"],
                    users={user: self._passwords[user] for user in self._rights},
                ),
            )
        )
        self._redis = RedisServer(
            RedisSettings(
                self._folder / "redis",
                security=RedisSecurity(certificates, self._passwords["admin"], tuple(self._redis_users())),
            )
        )
        self._settings = self._folder / "cluster.toml"
        regions = ", ".join(f'"{self._pack(region)}"' for region in options.regions)
        self._settings.write_text(
            f'[cluster]\nname = "{NAME}"\nregions = [{regions}]\n'
            f'[kafka]\nbootstrap = ["{self._broker.address}"]\nsecurity = "sasl_ssl"\nuser = "monitor"\n'
            f'password_file = "monitor.password"\nca_file = "{certificates.authority}"\n'
            f'[redis]\nurl = "{self._redis.url}"\nuser = "monitor"\npassword_file = "monitor.password"\n'
            f'ca_file = "{certificates.authority}"\n'
        )

    def run(self) -> None:
        """Start all in order, wait for a signal, stop all in order."""
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        print(f"Starting Kafka and Redis in {self._folder} ...", flush=True)
        with self._broker, self._redis:
            cluster = read_cluster(self._settings, self._environment("admin"))
            asyncio.run(make_topics(cluster))
            asyncio.run(grant(cluster, rules_of(cluster, self._rights)))
            children = [
                self._start("worker", f"worker-{n}", "--name", f"worker-{n}", "--port", str(6066 + n))
                for n in range(self._options.workers)
            ]
            for n, region in enumerate(cluster.regions):
                of_region = "--region", region
                if float(self._options.speed) > 0:
                    speed = "--speed", self._options.speed
                    children.append(self._start("feed", f"feed-{region}", *of_region, *speed))
                port = self._options.port + n
                children.append(
                    self._start("dashboard", f"dashboard-{region}", *of_region, "--port", str(port))
                )
                print(f"{region}: http://127.0.0.1:{port}", flush=True)
            print(f"State: twinroom cluster status --cluster {self._settings}")
            print(f"Logs: {self._folder}/*.log (Ctrl+C ends it all)", flush=True)
            stopped.wait()
            print("Stopping ...", flush=True)
            for child in reversed(children):
                child.stop(STOP_WITHIN_S)

    def _start(self, command: str, name: str, *arguments: str) -> Child:
        """Start a command of Twinroom as the user that is called like it."""
        words = [
            "env",
            *(f"{key}={value}" for key, value in self._environment(command).items()),
            *(sys.executable, "-m", "controlroom", command, "--cluster", str(self._settings)),
            *arguments,
        ]
        child = Child(name, words, self._folder / f"{name}.log")
        child.start()
        return child

    def _environment(self, user: str) -> dict[str, str]:
        file = str(self._folder / f"{user}.password")
        return {
            "TWINROOM_KAFKA_USER": user, "TWINROOM_KAFKA_PASSWORD_FILE": file,
            "TWINROOM_REDIS_USER": user, "TWINROOM_REDIS_PASSWORD_FILE": file,
        }  # fmt: skip

    def _password(self, user: str) -> str:
        """Made once; readable by this user of the machine alone."""
        path = self._folder / f"{user}.password"
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text()

    def _certificates(self) -> Certificates:
        folder = self._folder / "certificates"
        found = Certificates.of(folder)
        return make_certificates(folder, days=3650) if found is None else found

    def _redis_users(self) -> list[RedisUser]:
        """Users of the access list of deploy/redis."""
        users = []
        for line in (HOME / "deploy" / "redis" / "users.acl.template").read_text().splitlines():
            _, name, *words = line.replace("@cluster@", NAME).split()
            if name in self._rights:
                keys = tuple(w.removeprefix("~") for w in words if w.startswith(("~", "%R~")))
                commands = tuple(w for w in words if w[0] in "+-" and w != "-@all")
                users.append(
                    RedisUser(name, self._passwords[name], keys=keys, channels=(), commands=commands)
                )
        return users

    def _pack(self, region: str) -> str:
        return str(Path(region).resolve()) if "/" in region else region


if __name__ == "__main__":
    sys.exit(main())
