"""Faust's Kafka consumer, told by snapshots where to read on instead of by its own acknowledgements.

Faust commits what its agents acknowledged, also events whose agent raised and events it skipped in a
rebalance; and it seeks to these commits after every hook for an assignment has run. So the seek itself is
replaced, while the flow is stopped, and the offsets that are committed are those of the snapshots: Kafka's
offsets tell the lag and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class Recovery(Protocol):
    """Who knows the snapshots."""

    async def take_up(self, assigned: set[TP], generation: int) -> Mapping[TP, int]:
        """Claim what was assigned, drop what was not; where to read on."""

    def durable(self, tp: TP) -> int | None:
        """Offset up to which a partition is in a snapshot; None before the first."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # a region's partitions of all topics must come to one worker: ranges of equally many partitions do
        consumer._partition_assignment_strategy = [RangePartitionAssignor]
        return consumer


class SnapshotConsumer(driver.Consumer):
    """Consumer of a :class:`SnapshotApp`."""

    @property
    def _recovery(self) -> Recovery:
        recovery: Recovery = self.app.recovery
        return recovery

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Read on where the snapshots of the assigned partitions end. The flow is stopped meanwhile."""
        await super().perform_seek()
        generation = self.app.consumer_generation_id
        offsets = await self._recovery.take_up(self.assignment(), generation)
        if generation != self.app.consumer_generation_id:
            return  # a newer rebalance seeks again
        if offsets:
            await self.seek_wait(offsets)
        for tp, offset in offsets.items():
            self._read_offset[tp] = offset or None
            self._committed_offset[tp] = offset or None

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._recovery.durable(tp) or None


class _Transport(driver.Transport):
    Consumer = SnapshotConsumer


class SnapshotApp(faust.App):
    """A Faust app whose consumer reads where the snapshots say."""

    def __init__(self, *args: Any, recovery: Recovery, **options: Any) -> None:
        super().__init__(*args, **options)
        self.recovery = recovery

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)
