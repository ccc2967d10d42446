"""`twinroom bench cluster`: readings a second through Kafka into a worker's snapshots.

A worker takes in a log of Arrow messages: Kafka, decoding, every check, duplicates and revisions, the state
of sixteen regions, snapshots in Redis. The bound of the same run is a loop of bare aiokafka that decodes the
same messages and adds two columns up. The rows of the first figure lie in one step, which stays open; those
of the second close steps, so that fusion and all other agents work too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.blocks import write_blocks
from cities.pack import City, load_city
from cluster.broker import Broker, BrokerSettings
from cluster.child import Child, free_ports
from cluster.redis_server import RedisServer, RedisSettings
from kernels.network import Mode
from streams.cluster import Cluster, read_cluster
from streams.kafka import make_topics, new_producer
from streams.messages import rows_record, tick_record
from streams.observation import Observation, Source
from streams.readings import ReadingTable
from streams.snapshots import redis_of
from streams.topics import Topic
from streams.wire import ARROW, encode_readings
from studies.prepare import prepare_city

N_REGIONS = 16
ROWS = 500  # of a message
DETECTORS = 32  # of a street and direction: one for each lane and metre of a queue
AIR = """
[population]
total = 5000
source = "made up"

[background]
no2 = 15.0
o3 = 45.0
pm10 = 18.0
pm25 = 10.0
mean_wind_m_s = 3.0
source = "made up"

[emission]
year = 2020
source = "made up"
"""
START_MS = 1_710_223_200_000
WITHIN_S = 300.0
RUNS = 3


def run() -> dict[str, float | str]:
    """Figures of the worker and of the bare loop."""
    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as name:
        before = os.environ.get("TWINROOM_CACHE")
        os.environ["TWINROOM_CACHE"] = str(Path(name) / "cache")
        try:
            return _measure(Path(name))
        finally:
            if before is None:
                del os.environ["TWINROOM_CACHE"]
            else:
                os.environ["TWINROOM_CACHE"] = before


def _measure(folder: Path) -> dict[str, float | str]:
    city = write_city(folder / "region")
    regions = [f"region-{n:02d}" for n in range(N_REGIONS)]
    for region in regions:
        (folder / region).symlink_to(folder / "region")
    prepare_city(city, lambda _what, _fraction: None)
    broker = Broker(BrokerSettings(folder / "kafka", heap_mb=768))
    with broker, RedisServer(RedisSettings(folder / "redis")) as redis:
        found: dict[str, float | str] = {}
        rates, bounds = [], []
        for n in range(RUNS):
            cluster = _cluster(folder, f"open-{n}", regions, broker, redis)
            n_rows = asyncio.run(_fill(cluster, city, n_steps=1, seconds=60))
            bounds.append(asyncio.run(bare_rows_per_s(cluster, n_rows)))
            rates.append(worker_rows_per_s(folder, cluster, n_rows))
        sustained, durable = (statistics.median(each) for each in zip(*rates, strict=True))
        found["worker rows/s, sustained: Kafka, decoding, checks, state, snapshots"] = sustained
        found["the same to the snapshot of the last row"] = durable
        found["bare aiokafka rows/s: decoding the same messages"] = statistics.median(bounds)
        found["ratio of sustained"] = statistics.median(r[0] / b for r, b in zip(rates, bounds, strict=True))
        cluster = _cluster(folder, "closing", regions[:4], broker, redis)
        n_rows = asyncio.run(_fill(cluster, city, n_steps=4, seconds=30))
        found["worker rows/s with steps closing, all six agents"] = worker_rows_per_s(
            folder, cluster, n_rows
        )[0]
    found["rows a message, regions, detectors a region"] = f"{ROWS}, {N_REGIONS}, {len(city.sensors)}"
    found["cores"] = float(os.cpu_count() or 1)
    return found


def write_city(folder: Path) -> City:
    """A small town with a detector for each lane and queue of its streets."""
    write_blocks(folder, (3, 4), 300.0)
    (folder / "buildings.geojson").unlink()
    with (folder / "city.toml").open("a") as settings:
        settings.write(AIR)
    streets = json.loads((folder / "network.geojson").read_text())["features"]
    features = [
        _detector(street, direction, n)
        for street in streets
        for direction in ("forward", "backward")
        for n in range(DETECTORS)
    ]
    sensors = {"type": "FeatureCollection", "features": features}
    (folder / "sensors.geojson").write_text(json.dumps(sensors))
    return load_city(folder)


def _detector(street: dict[str, Any], direction: str, n: int) -> dict[str, object]:
    name, where = street["properties"]["id"], street["geometry"]["coordinates"][0]
    about = {
        "id": f"{name}-{direction[0]}{n}", "source": "loops", "segment_id": name, "direction": direction,
        "modes": ["car"], "simulated": True,
    }  # fmt: skip
    return {"type": "Feature", "properties": about, "geometry": {"type": "Point", "coordinates": where}}


def messages_of(city: City, n_steps: int, seconds: int) -> list[list[bytes]]:
    """Messages of each step: a count of every detector every second of its first ``seconds``."""
    chance = np.random.default_rng(7)
    found = []
    for step in range(n_steps):
        rows, messages = [], []
        for second in range(seconds):
            end_ms = START_MS + step * 60_000 + (second + 1) * 1000
            counts = chance.poisson(0.2, len(city.sensors))
            for sensor, count in zip(city.sensors, counts.tolist(), strict=True):
                rows.append(
                    Observation(
                        source=Source.LOOPS, sensor=sensor.id, start_ms=end_ms - 1000, end_ms=end_ms,
                        received_ms=end_ms + 500, mode=Mode.CAR, count=float(count), speed_kmh=42.0,
                        simulated=True, event_id=f"{sensor.id}-{end_ms}",
                    )
                )  # fmt: skip
                if len(rows) == ROWS:
                    messages.append(encode_readings(ReadingTable.of(rows), ARROW))
                    rows = []
        found.append(messages)
    return found


def _cluster(folder: Path, name: str, regions: Sequence[str], broker: Broker, redis: RedisServer) -> Cluster:
    path = folder / f"{name}.toml"
    packs = ", ".join(f'"./{region}"' for region in regions)
    path.write_text(
        f'[cluster]\nname = "{name}"\nregions = [{packs}]\n[kafka]\nbootstrap = ["{broker.address}"]\n'
        f'[redis]\nurl = "{redis.url}"\n'
    )
    cluster = read_cluster(path, {})
    asyncio.run(make_topics(cluster))
    return cluster


async def _fill(cluster: Cluster, city: City, *, n_steps: int, seconds: int) -> int:
    """Put the same messages into each region's partition; the number of rows."""
    producer = new_producer(cluster, linger_ms=50, max_batch_size=1 << 20)
    await producer.start()
    n_messages = 0
    try:
        for step, messages in enumerate(messages_of(city, n_steps, seconds)):
            for partition, region in enumerate(cluster.regions):
                records = [rows_record(raw, ARROW, region, n, "bench") for n, raw in enumerate(messages)]
                first_ms = START_MS + step * 60_000
                records.insert(0, tick_record(first_ms + 1000, region, "bench"))
                if n_steps > 1:
                    records.append(tick_record(first_ms + 91_000, region, "bench"))
                n_messages += len(messages)
                for record in records:
                    await producer.send(
                        cluster.topic(record.topic), value=record.value, key=record.key, partition=partition,
                        headers=list(record.headers),
                    )  # fmt: skip
        await producer.flush()
    finally:
        await producer.stop()
    return n_messages * ROWS


async def bare_rows_per_s(cluster: Cluster, n_rows: int) -> float:
    """What a loop of bare aiokafka does that decodes the messages and adds columns up by second."""
    topic = cluster.topic(Topic.OBSERVATIONS)
    partitions = [TopicPartition(topic, p) for p in range(len(cluster.regions))]
    consumer = AIOKafkaConsumer(**cluster.kafka.client_options(), enable_auto_commit=False)
    await consumer.start()
    total, taken = np.zeros((10_000, 2)), 0
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        started = time.perf_counter()
        while taken < n_rows:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for record in records:
                    if record.key == b"clock":
                        continue
                    with pa.ipc.open_stream(record.value) as reader:
                        batch = reader.read_next_batch()
                    second = batch.column("end_ms").to_numpy() // 1000 % total.shape[0]
                    for k, name in enumerate(("count", "speed_kmh")):
                        np.add.at(total[:, k], second, batch.column(name).to_numpy())
                    taken += batch.num_rows
        return taken / (time.perf_counter() - started)
    finally:
        await consumer.stop()


def worker_rows_per_s(folder: Path, cluster: Cluster, n_rows: int) -> tuple[float, float]:
    """What a worker does between a twentieth and the last twentieth of the log, and to the last snapshot."""
    (port,) = free_ports(1)
    log = folder / f"{cluster.name}.log"
    command = [sys.executable, "-m", "controlroom", "worker", "--cluster", str(folder / cluster.source)]
    worker = Child("the worker", [*command, "--name", "bench", "--port", str(port)], log)
    worker.start()
    try:
        return asyncio.run(_rate(cluster, n_rows, port, log))
    finally:
        worker.stop()


async def _rate(cluster: Cluster, n_rows: int, port: int, log: Path) -> tuple[float, float]:
    consumer = AIOKafkaConsumer(**cluster.kafka.client_options())
    await consumer.start()
    partitions = [TopicPartition(cluster.topic(Topic.OBSERVATIONS), p) for p in range(len(cluster.regions))]
    ends = await consumer.end_offsets(partitions)
    await consumer.stop()
    client = redis_of(cluster.redis)
    keys = [cluster.key("snap", "all", region) for region in cluster.regions]
    begun = at_first = sustained = 0.0
    deadline = time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < deadline:
            now, rows = time.perf_counter(), await asyncio.to_thread(_rows_total, port)
            if not begun and rows > n_rows / 20:
                begun, at_first = now, rows
            durable = [int(await client.hget(key, "offset:observations") or 0) for key in keys]
            if not sustained and rows > 0.95 * n_rows:
                sustained = (rows - at_first) / (now - begun)
            if sustained and all(d >= ends[tp] for d, tp in zip(durable, partitions, strict=True)):
                return sustained, (n_rows - at_first) / (time.perf_counter() - begun)
            await asyncio.sleep(0.05)
    finally:
        await client.aclose()
    raise TimeoutError(f"the worker was not done in {WITHIN_S:g} s; its log: {log.read_text()[-2000:]}")


def _rows_total(port: int) -> float:
    """Readings that the worker has looked at so far."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    return sum(float(value) for value in re.findall(r"^twinroom_rows_total\{.*\} (\S+)$", text, re.M))
