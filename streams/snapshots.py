"""Snapshots of regions in Redis: state, offsets and epoch in one atomic write, fenced.

Two scripts do all the writing. CLAIM makes a worker the owner of a region and gives it the state; WRITE
stores a newer one, and does nothing when another has claimed the region since. Frames for the dashboards go
with the same write, so that they never show what a later owner does not know of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.asyncio import from_url as _from_url

from streams.cluster import Cluster, RedisSettings

LEASE_MS = 60_000  # an owner of a later generation of the group that wrote this lately is not overtaken
FRAMES_KEPT = 20  # for dashboards that are a few steps behind; who is further takes the latest of each entity

# KEYS: snapshot. ARGV: generation, owner, lease [ms].
_CLAIM = """
local stored = tonumber(redis.call('HGET', KEYS[1], 'generation') or '-1')
local seen = tonumber(redis.call('HGET', KEYS[1], 'seen_ms') or '0')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[1]) < stored and now - seen < tonumber(ARGV[3]) then
  return {0, stored, redis.call('HGET', KEYS[1], 'owner')}
end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'owner', ARGV[2], 'seen_ms', now)
return {1, epoch, redis.call('HGETALL', KEYS[1])}
"""
# KEYS: snapshot, latest, frames. ARGV: epoch, number of fields, field, value ..., number of latest, key,
# batch ..., frame ('' for none), frames kept.
_WRITE = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'seen_ms', time[1] * 1000 + math.floor(time[2] / 1000))
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  at = at + 2
end
local n = tonumber(ARGV[at])
at = at + 1
for _ = 1, n do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
if ARGV[at] ~= '' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[at + 1], '*', 'frame', ARGV[at])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave: the epoch to write with, and what the snapshot holds (empty for a new region)."""

    epoch: int
    offsets: Mapping[str, int]
    parts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a write lets dashboards see: encoded batches by entity, and the whole of the step."""

    latest: Mapping[str, bytes] = field(default_factory=dict)
    step: bytes = b""


class ClaimRefusedError(RuntimeError):
    """Another worker of a later generation holds the region."""


class Snapshots:
    """Snapshots of the regions that one group of agents works on.

    Parameters
    ----------
    cluster : Cluster
    group : str
        Names the agents, as in ``all``.
    """

    def __init__(self, cluster: Cluster, group: str) -> None:
        self._cluster, self._group = cluster, group
        self.redis = redis_of(cluster.redis)
        self._claim = self.redis.register_script(_CLAIM)
        self._write = self.redis.register_script(_WRITE)

    def _keys(self, region: str) -> list[str]:
        key = self._cluster.key
        return [key("snap", self._group, region), key("latest", region), key("frames", region)]

    async def claim(self, region: str, generation: int, owner: str, *, lease_ms: int = LEASE_MS) -> Claim:
        """Become the owner of a region.

        Raises
        ------
        ClaimRefusedError
            While an owner of a later generation is alive.
        """
        granted, number, found = await self._claim(
            keys=self._keys(region)[:1], args=[generation, owner, lease_ms]
        )
        if not granted:
            holder = (found or b"nobody").decode()
            raise ClaimRefusedError(
                f"region {region}: {holder} holds it in generation {number}, this is {generation}"
            )
        fields = dict(zip(found[::2], found[1::2], strict=True))
        return Claim(
            epoch=number,
            offsets={
                name[7:].decode(): int(value) for name, value in fields.items() if name.startswith(b"offset:")
            },
            parts={name[5:].decode(): value for name, value in fields.items() if name.startswith(b"part:")},
        )

    async def write(
        self,
        region: str,
        epoch: int,
        offsets: Mapping[str, int],
        parts: Mapping[str, bytes],
        frame: Frame,
        step_ms: int,
    ) -> bool:
        """Store the parts that changed and the offsets; False when the region has another owner by now."""
        fields: list[Any] = ["step_ms", step_ms]
        for topic, offset in offsets.items():
            fields += (f"offset:{topic}", offset)
        for name, value in parts.items():
            fields += (f"part:{name}", value)
        latest: list[Any] = []
        for name, value in frame.latest.items():
            latest += (name, value)
        args = [
            epoch, len(fields) // 2, *fields, len(latest) // 2, *latest, frame.step, FRAMES_KEPT,
        ]  # fmt: skip
        return bool(await self._write(keys=self._keys(region), args=args))

    async def about(self, region: str) -> tuple[dict[str, str], dict[str, int]]:
        """Owner, epoch, generation, when it was last written and its last step; and the offsets."""
        key = self._keys(region)[0]
        names: list[Any] = await self.redis.hkeys(key)
        told = [name for name in names if not name.startswith(b"part:")]
        values: list[Any] = await self.redis.hmget(key, told) if told else []
        fields = {
            name.decode(): bytes(value or b"").decode() for name, value in zip(told, values, strict=True)
        }
        offsets = {name[7:]: int(value) for name, value in fields.items() if name.startswith("offset:")}
        return fields, offsets

    async def close(self) -> None:
        await self.redis.aclose()


def redis_of(settings: RedisSettings) -> Redis:
    """Client of the cluster's Redis; one that does not answer for ten seconds is taken for away."""
    client: Redis = _from_url(
        settings.url,
        socket_timeout=10.0,
        socket_connect_timeout=5.0,
        health_check_interval=15,
        **settings.client_options(),
    )
    return client
