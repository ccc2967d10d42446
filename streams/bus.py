"""The in-process bus of the embedded engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streams.topics import Batch, Topic

Receive = Callable[[Batch], None]


class Bus:
    """Hands each batch to the subscribers of its topic, at once and in the order they subscribed."""

    def __init__(self) -> None:
        self._subscribers: dict[Topic, list[Receive]] = {topic: [] for topic in Topic}

    def subscribe(self, topics: Iterable[Topic], receive: Receive) -> None:
        for topic in topics:
            self._subscribers[topic].append(receive)

    def publish(self, batch: Batch) -> None:
        for receive in self._subscribers[batch.topic]:
            receive(batch)
