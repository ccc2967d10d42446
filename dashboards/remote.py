"""What the page may ask of a region that runs elsewhere: its workers over Redis, its log over Kafka."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy as np
from aiokafka.errors import KafkaError

from agents.air import AirExplanation
from agents.engines.answers import (
    AnswerError,
    read_air_explanation,
    read_evidence,
    read_explanation,
    read_faults,
    read_gains,
)
from agents.fusion_answers import Evidence, Explanation, Gain, SensorFault
from cities.pack import City
from dashboards.board import Board
from dashboards.feed_frames import FrameFeed
from dashboards.history import STEPS
from kernels.network import Direction, Mode
from streams.clock import STEP_MS
from streams.cluster import Cluster, ClusterError
from streams.kafka import new_producer
from streams.messages import Output, output_record
from streams.questions import Asker, QuestionError
from streams.topics import Batch, Topic

OPERATOR = "operator"
SEND_S = 15.0  # for an action; an operator who is told later has gone on
FRESH_S = 2.0  # that an explanation waits for the evidence of its step
QUIET_S = 180.0  # three steps of live time without a frame: somebody should look

log = logging.getLogger("twinroom.dashboard")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """The clock of a live region: the end of the last step, and what the trends have room for."""

    now_ms: int
    playing: bool = True
    speed: float = 1.0
    finished: bool = False
    step_wall_s: float = float("nan")
    mode: str = "LIVE"

    @property
    def start_ms(self) -> int:
        return self.now_ms - STEPS * STEP_MS

    @property
    def end_ms(self) -> int:
        return self.now_ms


class RemoteControl:
    """Controls of a region in a cluster (:class:`dashboards.control.Control`).

    Parameters
    ----------
    feed : FrameFeed
        Of the same region; after each of its steps the counters' evidence and faults are fetched.
    wall_s : callable
        Wall time [s since the epoch].
    """

    def __init__(
        self, cluster: Cluster, region: str, city: City, board: Board, feed: FrameFeed,
        *, timeout_s: float = 5.0, wall_s: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._cluster, self._region, self._board, self._feed = cluster, region, board, feed
        self._partition = cluster.partition_of(region)
        self._zone, self._wall_s = ZoneInfo(city.timezone), wall_s
        self._started_s = wall_s()
        self._asker = Asker(cluster, region, timeout_s=timeout_s)
        self._refresher = Asker(cluster, region, timeout_s=timeout_s)
        self._counters_pool = ThreadPoolExecutor(1, thread_name_prefix="counters")
        self._actions_pool = ThreadPoolExecutor(1, thread_name_prefix="actions")
        self._counters: Future[None] | None = None
        self._evidence: Mapping[int, tuple[Evidence, ...]] = {}
        self._faults: tuple[SensorFault, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._silent: Mapping[str, str] = {}
        feed.on_step.append(self._fetch_counters)

    @property
    def transport(self) -> None:
        """None: the clock of a live region is that of its sources."""
        return

    def status(self) -> LiveStatus:
        return LiveStatus(self._board.now_ms)

    def notices(self) -> Sequence[str]:
        """Who does not answer or lags, and since when; nothing while all is well."""
        state, told = self._feed.state, []
        if state.away_since_s:
            told.append(f"no connection to Redis since {self._clock(state.away_since_s)}")
        elif self._wall_s() - (state.frame_s or self._started_s) > QUIET_S:
            since = self._clock(state.frame_s) if state.frame_s else "the start of this page"
            told.append(f"no step from the workers since {since}")
        for agent, end_ms in state.behind.items():
            told.append(f"{agent} is silent, its values are of {self._clock(end_ms / 1000)}")
        if state.n_undecodable:
            told.append(f"{state.n_undecodable} frames could not be read")
        return [*told, *dict.fromkeys(self._silent.values())]

    def refused(self) -> Mapping[str, str]:
        """Why an alarm's acknowledgement was not taken, by its key."""
        return self._refused

    def health(self) -> Mapping[str, object]:
        """Age of the last frame [s], None before the first, and whether Redis answers."""
        state = self._feed.state
        age_s = round(max(0.0, self._wall_s() - state.frame_s), 1) if state.frame_s else None
        return {
            "frame_age_s": age_s,
            "has_redis": not state.away_since_s,
            "n_undecodable": state.n_undecodable,
            "behind": dict(state.behind),
        }

    # ---- actions ----

    def acknowledge(self, alarm_key: str, who: str, note: str) -> None:
        """Send an acknowledgement into the log; :meth:`refused` tells if that fails."""
        self._actions_pool.submit(self._send, alarm_key, who, note)

    def _send(self, alarm_key: str, who: str, note: str) -> None:
        columns = {
            name: np.array([text], dtype=object)
            for name, text in (("action", "acknowledge"), ("who", who), ("note", note))
        }
        batch = Batch(
            Topic.OPERATOR_ACTIONS, alarm_key, self._board.now_ms, columns,
            attributes={"action_id": uuid4().hex},
        )  # fmt: skip
        others = {key: reason for key, reason in self._refused.items() if key != alarm_key}
        try:
            asyncio.run(asyncio.wait_for(self._send_batch(batch), SEND_S))
        except (KafkaError, ClusterError, OSError, TimeoutError) as error:
            log.warning(
                "region %s: an acknowledgement of %s was not sent: %r", self._region, alarm_key, error
            )
            now = self._clock(self._wall_s())
            self._refused = others | {
                alarm_key: f"Not acknowledged at {now}: Kafka does not answer. Try again."
            }
        else:
            self._refused = others

    async def _send_batch(self, batch: Batch) -> None:
        record = output_record(Output(OPERATOR, batch), self._region)
        producer = new_producer(self._cluster)
        try:
            await producer.start()
            await producer.send_and_wait(
                self._cluster.topic(record.topic),
                value=record.value,
                key=record.key,
                partition=self._partition,
                headers=list(record.headers),
            )
        finally:
            await producer.stop()

    # ---- questions ----

    def faults(self) -> Sequence[SensorFault]:
        """Counters in doubt, as last fetched."""
        return self._faults

    def evidence(self, segment: int) -> Sequence[Evidence]:
        """What the counters on a segment say; waits a moment for what is being fetched."""
        fetching = self._counters
        if fetching is not None:
            try:
                fetching.result(FRESH_S)
            except TimeoutError:
                log.debug("region %s: evidence of the step before", self._region)
        return self._evidence.get(segment, ())

    def gains(self) -> Sequence[Gain]:
        """Gains of the counters that nobody calibrated; none while nobody answers."""
        return self._asked(self._asker, "gains", read_gains) or ()

    def explain_air(self, cell: int, quantity: str, averaging: str) -> AirExplanation | None:
        """Where a concentration comes from; None while nobody answers."""
        return self._asked(
            self._asker,
            "explain_air",
            read_air_explanation,
            cell=cell,
            quantity=quantity,
            averaging=averaging,
        )

    def explain(self, segment: int, direction: Direction, mode: Mode) -> Explanation | None:
        """Why a street has its flow; None while nobody answers."""
        return self._asked(
            self._asker,
            "explain",
            read_explanation,
            segment=segment,
            direction=int(direction),
            mode=int(mode),
        )

    def _asked(self, asker: Asker, name: str, read: Callable[[object], T], **arguments: object) -> T | None:
        try:
            answer = read(asker.ask(name, **arguments))
        except (QuestionError, AnswerError) as error:
            log.warning("region %s: %s", self._region, error)
            self._silent = {**self._silent, name: "the workers do not answer questions"}
            return None
        self._silent = {known: text for known, text in self._silent.items() if known != name}
        return answer

    def _fetch_counters(self) -> None:
        """Fetch evidence and faults of the step that has closed, unless that is under way."""
        if self._counters is None or self._counters.done():
            self._counters = self._counters_pool.submit(self._fetch)

    def _fetch(self) -> None:
        evidence = self._asked(self._refresher, "evidence", read_evidence)
        faults = self._asked(self._refresher, "faults", read_faults)
        self._evidence = self._evidence if evidence is None else evidence
        self._faults = self._faults if faults is None else faults

    def _clock(self, wall_s: float) -> str:
        return datetime.fromtimestamp(wall_s, self._zone).strftime("%H:%M:%S")

    def close(self) -> None:
        """Let the threads end; an action under way is sent first."""
        self._counters_pool.shutdown(cancel_futures=True)
        self._actions_pool.shutdown()
        self._asker.close()
        self._refresher.close()
