"""`make chaos`: workers under fire on a real Kafka and a real Redis, and the table of what became of it.

Four towns on two workers; readings come repeated and out of order; workers are killed with -9 and stopped for
longer than their session, Kafka and Redis are killed and restarted, Redis is emptied and set back. What was
published must be what one process publishes from the same recording.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from cluster.broker import Broker, BrokerSettings
from cluster.child import free_ports
from cluster.redis_server import RedisServer, RedisSettings
from streams.cluster import Cluster
from streams.kafka import make_topics
from streams.snapshots import redis_of
from tests.cluster.cast import (
    Gauge,
    WorkerProcess,
    embedded_digest,
    feed,
    results,
    settings_of,
    workers,
    write_settings,
    write_towns,
)

TOWNS = ("north", "east", "south", "west")
SHARE = 0.05  # of messages repeated or out of order
ZOMBIE_S = 9.0  # longer than the session of six seconds
LAG_S = 0.8  # caught up: in a snapshot what was in the log this long ago
CAUGHT_UP_WITHIN_S = 120.0
REFUSED = re.compile("another worker has claimed it|Kafka has fenced this worker")


def main() -> int:
    """Run it; exit status 1 where something was lost, doubled or went back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=270.0, help="of load under fire")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--zombies", type=int, default=4)
    parser.add_argument("--times", type=int, default=5, help="of each timed recovery")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the harness, too, loses its broker
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        os.environ["TWINROOM_CACHE"] = str(Path(name) / "cache")
        chaos = Chaos(Path(name), options)
        rows = chaos.run()
    for row in rows:
        print(
            f"{row['figure']:<62} {row['goal']:<18} {row['found']:<34} {'' if row['is_met'] else 'NOT MET'}"
        )
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    return 0 if all(row["is_met"] for row in rows) else 1


class Chaos:
    """The servers, the towns and the rows of the table."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.rows: list[dict[str, Any]] = []
        self.broker = Broker(
            BrokerSettings(folder / "broker", jvm_options=("-XX:+UseSerialGC",), session_timeout_ms=2_000)
        )
        self.redis = RedisServer(RedisSettings(folder / "redis"))

    def run(self) -> list[dict[str, Any]]:
        speed = 60.0
        minutes = round(self.options.seconds * speed / 60)
        _say(f"{len(TOWNS)} towns, {minutes} minutes each at {speed:g} times real time")
        write_towns(self.folder, TOWNS, minutes=minutes)
        digests = [embedded_digest(self.folder / town) for town in TOWNS]
        with self.broker, self.redis:
            for n in (1, 2, 4):
                asyncio.run(self._peace(n, digests))
            asyncio.run(self._fire(digests, speed))
            asyncio.run(self._redis_lost(digests))
            asyncio.run(self._times(speed))
        return self.rows

    def _cluster(self, name: str) -> tuple[Path, Cluster]:
        path = write_settings(self.folder, name, TOWNS, self.broker.address, self.redis.url)
        cluster = settings_of(path)
        return path, cluster

    async def _peace(self, n: int, digests: list[str]) -> None:
        """The same recording on n workers, with nothing in the way."""
        _say(f"{n} workers in peace")
        path, cluster = self._cluster(f"peace-{n}")
        await make_topics(cluster)
        with workers(path, [f"w{k}" for k in range(n)], free_ports(n)) as started:
            async with Gauge(cluster) as gauge:
                await feed(cluster, self.folder, speed=1e9)
                await gauge.caught_up(CAUGHT_UP_WITHIN_S)
            await _stop(started)
        await self._compare(cluster, digests, f"digest, {len(TOWNS)} regions on {n} workers")

    async def _fire(self, digests: list[str], speed: float) -> None:
        options = self.options
        _say(f"{options.kills} kill -9 and {options.zombies} zombies in {options.seconds:g} s of load")
        path, cluster = self._cluster("fire")
        await make_topics(cluster)
        chance = random.Random(options.seed)
        with workers(path, ["a", "b"], free_ports(2)) as started:
            blows: list[Callable[[], None]] = [
                *(lambda: _kill(chance.choice(started), chance) for _ in range(options.kills - 2)),
                *(lambda: _suspend(chance.choice(started)) for _ in range(options.zombies)),
                lambda: _kill_each(started, chance),
                self._broker_killed,
                self.broker.restart,
                self._redis_killed,
                self._redis_restarted,
            ]
            chance.shuffle(blows)
            pause_s = options.seconds / (len(blows) + 1)
            async with Gauge(cluster) as gauge:
                feeding = asyncio.create_task(
                    feed(cluster, self.folder, speed=speed, share=SHARE, seed=options.seed)
                )
                for blow in blows:
                    await asyncio.sleep(pause_s * chance.uniform(0.5, 1.5))
                    await asyncio.to_thread(blow)
                await feeding
                await asyncio.sleep(ZOMBIE_S)
                await gauge.caught_up(CAUGHT_UP_WITHIN_S)
            await _stop(started)
            refused = sum(len(REFUSED.findall(worker.text())) for worker in started)
        await self._compare(
            cluster, digests,
            f"digest after {options.kills} kill -9, broker and Redis killed and restarted",
        )  # fmt: skip
        found = await results(cluster)
        self._row(
            f"{options.zombies} zombies: contradicting or backward writes, {refused} late ones refused",
            "none",
            str(sum(len(f.contradictions) + len(f.backwards) for f in found)),
            all(not f.contradictions and not f.backwards for f in found),
        )
        self._row(
            "duplicate and reordered delivery at 5 %",
            "digest equal",
            "equal" if [f.digest for f in found] == digests else "different",
            [f.digest for f in found] == digests,
        )

    def _broker_killed(self) -> None:
        self.broker.kill()
        self.broker.start()

    def _redis_killed(self) -> None:
        self.redis.kill()
        self.redis.start()

    def _redis_restarted(self) -> None:
        self.redis.stop()
        self.redis.start()

    async def _redis_lost(self, digests: list[str]) -> None:
        """Redis set back to half way, then emptied; both are rebuilt from the log."""
        _say("Redis set back, then emptied")
        path, cluster = self._cluster("lost")
        await make_topics(cluster)
        client = redis_of(cluster.redis)
        keys = [cluster.key("snap", "all", region) for region in TOWNS]
        with workers(path, ["a", "b"], free_ports(2)) as started:
            async with Gauge(cluster) as gauge:
                feeding = asyncio.create_task(feed(cluster, self.folder, speed=1e9))
                while min(await gauge.durable()) < 200:
                    await asyncio.sleep(0.1)
                old = [await client.dump(key) for key in keys]
                await feeding
                await gauge.caught_up(CAUGHT_UP_WITHIN_S)
                for key, value in zip(keys, old, strict=True):
                    await client.restore(key, 0, value, replace=True)
                for worker in started:
                    worker.kill()
                await gauge.caught_up(CAUGHT_UP_WITHIN_S)
                set_back = [f.digest for f in await results(cluster)] == digests
                await client.flushall()
                for worker in started:
                    worker.kill()
                await gauge.caught_up(CAUGHT_UP_WITHIN_S)
            await _stop(started)
        await client.aclose()
        self._row(
            "Redis set back to half way: digest", "equal", "equal" if set_back else "different", set_back
        )
        await self._compare(cluster, digests, "Redis emptied: rebuilt from the log, digest")

    async def _times(self, speed: float) -> None:
        """Kill -9 to caught up, under load, for the same worker and for a survivor."""
        _say("recovery times")
        path, cluster = self._cluster("times")
        await make_topics(cluster)
        with workers(path, ["a", "b"], free_ports(2)) as started:
            async with Gauge(cluster) as gauge:
                feeding = asyncio.create_task(feed(cluster, self.folder, speed=speed, batch_rows=2))
                await asyncio.sleep(12)
                await gauge.caught_up(CAUGHT_UP_WITHIN_S, lag_s=LAG_S)
                again, over = [], []
                for _ in range(self.options.times):
                    started[0].kill()
                    again.append(await gauge.caught_up(CAUGHT_UP_WITHIN_S, lag_s=LAG_S, of_new=True))
                    await asyncio.sleep(3)
                for _ in range(self.options.times):
                    started[0].kill_all()
                    over.append(await gauge.caught_up(CAUGHT_UP_WITHIN_S, lag_s=LAG_S, of_new=True))
                    started[0].start()
                    await asyncio.sleep(15)
                    await gauge.caught_up(CAUGHT_UP_WITHIN_S, lag_s=LAG_S)
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        for text, goal_s, found in (("the same worker", 4.0, again), ("another takes over", 8.0, over)):
            median = statistics.median(found)
            self._row(
                f"kill -9 to caught up: {text}",
                f"<= {goal_s:g} s",
                f"{median:.1f} s ({min(found):.1f}-{max(found):.1f}, n {len(found)})",
                median <= goal_s,
            )

    async def _compare(self, cluster: Cluster, digests: Sequence[str], text: str) -> None:
        found = await results(cluster)
        equal = sum(f.digest == d for f, d in zip(found, digests, strict=True))
        repeats = sum(f.n_repeats for f in found)
        self._row(text, "equal", f"{equal} of {len(found)} equal, {repeats} repeats", equal == len(found))

    def _row(self, figure: str, goal: str, found: str, is_met: bool) -> None:
        self.rows.append({"figure": figure, "goal": goal, "found": found, "is_met": is_met})
        _say(f"  {figure}: {found}")


def _kill(worker: WorkerProcess, chance: random.Random) -> None:
    """Kill the child, or its supervisor too, which is then started again."""
    if chance.random() < 0.7:
        worker.kill()
    else:
        worker.kill_all()
        worker.start()


def _kill_each(started: Sequence[WorkerProcess], chance: random.Random) -> None:
    for worker in started:
        _kill(worker, chance)


def _suspend(worker: WorkerProcess) -> None:
    """Stop a worker for longer than its session, then let it go on."""
    number = worker.suspend()
    if number is None:
        return
    time.sleep(ZOMBIE_S)
    try:
        psutil.Process(number).send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        _say("  a zombie died in its sleep")


async def _stop(started: Sequence[WorkerProcess]) -> None:
    await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in started))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
