"""The commands of the distributed engine: worker, feed, and those of `twinroom cluster`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.engines.region import RegionEngine

Command = Callable[[argparse.Namespace], int]
NewCommand = Callable[[Any, str, Command, str, str], argparse.ArgumentParser]


def add_commands(commands: Any, new: NewCommand) -> None:
    """Add the commands to a parser; ``new`` makes one with its help and example."""
    worker = new(commands, "worker", _worker, "agents of the regions that Kafka assigns to this process",
                 "twinroom worker --cluster cluster.toml --name worker-1")  # fmt: skip
    _cluster_option(worker)
    worker.add_argument("--agents", default="all", help="all, or some: fusion,emission (default: all)")
    worker.add_argument("--name", default=socket.gethostname(),
                        help="tells this worker from all others (default: the host's name)")  # fmt: skip
    worker.add_argument("--port", type=int, default=6066, help="of /health and /metrics (default: 6066)")
    worker.add_argument("--address", default="127.0.0.1", help="of /health and /metrics (default: 127.0.0.1)")

    feed = new(commands, "feed", _feed, "play a recording into the cluster",
               "twinroom feed --cluster cluster.toml --region ghent --speed 20")  # fmt: skip
    _cluster_option(feed)
    feed.add_argument("--region", required=True, help="one of those in cluster.toml")
    feed.add_argument("--recording", type=Path, help="another recording than the city's own")
    feed.add_argument("--speed", type=speed_of, default="20", help="times real time, or max (default: 20)")
    feed.add_argument("--batch", type=int, default=500, help="readings in a message; changes no result")

    inner = commands.add_parser("cluster", help="the cluster's topics, state and results").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for name, function, text in (
        ("topics", _topics, "make the topics that are missing, and check their partitions"),
        ("status", _status, "lag, owner, epoch and age of the snapshot of each region"),
        ("digest", _digest, "digest of all that was published, to compare with that of a replay"),
    ):
        command = new(inner, name, function, text, f"twinroom cluster {name} --cluster cluster.toml")
        _cluster_option(command)
        if name != "topics":
            command.add_argument("--agents", default="all", help="the group of agents (default: all)")


def _cluster_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cluster", type=Path, required=True, metavar="F", help="cluster.toml")


def speed_of(text: str) -> float:
    """Speed of a replay from its option: a number above 0, or max."""
    value = math.inf if text == "max" else float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number above 0, or max")
    return value


def _worker(options: argparse.Namespace) -> int:
    _log()
    import uvloop

    import agents.room  # noqa: F401  before the fork, so that a new child finds them imported
    import studies.prepare  # noqa: F401
    from agents.chain import group_of
    from agents.engines.monitor import Monitor
    from agents.engines.worker import Worker
    from cluster.supervisor import REFUSED, supervise
    from streams.cluster import ClusterError, read_cluster

    cluster = read_cluster(options.cluster)
    try:
        names = group_of(options.agents)
    except ValueError as error:
        raise ClusterError(str(error)) from error
    packs = dict(zip(cluster.regions, cluster.packs, strict=True))

    async def work() -> None:
        worker = Worker(cluster, names, lambda region, wanted: _engine(packs[region], wanted), options.name)
        monitor = Monitor(worker, options.address, options.port)
        await monitor.start()
        await worker.run()
        await monitor.stop()

    def run() -> int:
        try:
            uvloop.run(work())
        except ClusterError as error:
            print(f"twinroom: {error}", file=sys.stderr)
            return REFUSED
        return 0

    return supervise(f"worker {options.name}", run)


def _engine(pack: str, names: Sequence[str]) -> RegionEngine:
    """Engine of a region: its city is read, and prepared from the cache or anew."""
    from agents.engines.region import RegionEngine
    from agents.room import make_agents
    from cities.pack import find_city, load_city
    from studies.prepare import prepare_city

    city = load_city(find_city(pack))
    prepared = prepare_city(city, _progress)
    made = make_agents(city, prepared.prior, prepared.air, prepared.noise)
    return RegionEngine(city, [agent for agent in made if agent.name in names])


def _feed(options: argparse.Namespace) -> int:
    _log()
    from cities.pack import find_city
    from streams.cluster import read_cluster
    from streams.kafka_feed import play_into
    from streams.recording import read_recording

    cluster = read_cluster(options.cluster)
    pack = cluster.packs[cluster.partition_of(options.region)]
    recording = read_recording(options.recording or find_city(pack))
    started = time.monotonic()
    sent = asyncio.run(
        play_into(cluster, options.region, recording, speed=options.speed, batch_rows=options.batch)
    )
    print(f"{options.region}: {sent} messages of {recording.path.name} in {time.monotonic() - started:.1f} s")
    return 0


def _topics(options: argparse.Namespace) -> int:
    from streams.cluster import read_cluster
    from streams.kafka import make_topics

    cluster = read_cluster(options.cluster)
    made = asyncio.run(make_topics(cluster))
    print(f"made: {', '.join(made)}" if made else "all topics are there")
    print(f"{len(cluster.regions)} partitions each: {', '.join(cluster.regions)}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from cluster.status import status_lines
    from streams.cluster import read_cluster

    print("\n".join(asyncio.run(status_lines(read_cluster(options.cluster), options.agents))))
    return 0


def _digest(options: argparse.Namespace) -> int:
    from streams.cluster import read_cluster
    from streams.kafka_digest import published_of

    cluster = read_cluster(options.cluster)
    is_sound = True
    for region in cluster.regions:
        found = asyncio.run(published_of(cluster, region))
        print(f"{region}: {found.digest}, {found.n_batches} batches, {found.n_repeats} sent again")
        for shown in (*found.contradictions, *found.backwards):
            print(f"{region}: contradicts what was published before: {shown}", file=sys.stderr)
            is_sound = False
    return 0 if is_sound else 1


def _log() -> None:
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("twinroom").setLevel(logging.INFO)


def _progress(what: str, fraction: float) -> None:
    if fraction >= 1:
        logging.getLogger("twinroom.worker").info("%s: done", what)
