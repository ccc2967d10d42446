"""What sensors make of the true traffic: one observation model for each kind of sensor.

Every number is drawn by inverting a distribution at a uniform number that belongs to the sensor and the
interval, so that a sensor has the same luck in two truths and only what really changed differs between two
recordings. The penetrations are assumptions; the bias of citizen counters is of the order their users report.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom, poisson

LOOP_DETECTION, LOOP_GAIN_LOG_SD = 0.98, 0.05
SPEED_SD_KMH = 2.0
TELRAAM_DETECTION, TELRAAM_ROW_LOG_SD, TELRAAM_SITE_LOG_SD = 0.90, 0.15, 0.4
TELRAAM_UPTIME = (0.6, 1.0)
ANPR_READ = (0.90, 0.97)
WIFI_LOG_MEAN, WIFI_ZONE_LOG_SD, WIFI_ROW_LOG_SD = float(np.log(0.6)), 0.3, 0.15
TELECOM_SHARE, TELECOM_ROW_LOG_SD = (0.3, 0.4), 0.08
TELECOM_MISASSIGNED, TELECOM_LEAST = (0.2, 0.3), 20.0
DELAY_S = {"loops": (2, 8), "radar": (2, 8), "telraam": (20, 60)}
OTHER_DELAY_S = (5, 30)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Luck:
    """Uniform numbers of one sensor: every use has a stream of its own."""

    seed: int
    sensor: str

    def uniform(self, use: str, shape: int | tuple[int, ...] = 1) -> FloatArray:
        """Uniform numbers in (0, 1) of this sensor for one use."""
        key = zlib.crc32(f"{self.sensor} {use}".encode())
        drawn: FloatArray = np.random.default_rng([self.seed, 30, key]).uniform(1e-12, 1.0, size=shape)
        return drawn

    def normal(self, use: str, shape: int | tuple[int, ...] = 1) -> FloatArray:
        """Standard normal numbers of this sensor for one use."""
        drawn: FloatArray = ndtri(np.minimum(self.uniform(use, shape), 1.0 - 1e-12))
        return drawn


def passages(mean: FloatArray, luck: Luck, use: str) -> FloatArray:
    """Vehicles that pass in each interval: Poisson of the true mean, (n_intervals,)."""
    drawn: FloatArray = poisson.ppf(luck.uniform(f"{use} passages", mean.shape), mean)
    return np.where(mean > 0, drawn, 0.0)


def detected(n: FloatArray, probability: float, luck: Luck, use: str) -> FloatArray:
    """Binomial part of ``n`` that is seen."""
    drawn: FloatArray = binom.ppf(luck.uniform(f"{use} detected", n.shape), n, probability)
    return np.where(n > 0, drawn, 0.0)


def loop_counts(mean: FloatArray, luck: Luck, mode: str) -> FloatArray:
    """Loop or radar: Binomial(n, 0.98) x LogNormal(0, 0.05), whole vehicles."""
    seen = detected(passages(mean, luck, mode), LOOP_DETECTION, luck, mode)
    return np.rint(seen * np.exp(LOOP_GAIN_LOG_SD * luck.normal(f"{mode} gain", mean.shape)))


def loop_speeds(speed_kmh: FloatArray, luck: Luck) -> FloatArray:
    """Mean speed of an interval + N(0, 2 km/h)."""
    return np.maximum(speed_kmh + SPEED_SD_KMH * luck.normal("speed", speed_kmh.shape), 1.0)


def telraam_uptime(luck: Luck, n_intervals: int) -> FloatArray:
    """Share of each interval in which a citizen's camera saw: U(0.6, 1)."""
    low, high = TELRAAM_UPTIME
    return np.round(low + (high - low) * luck.uniform("uptime", n_intervals), 2)


def telraam_gain(site: Luck) -> float:
    """Bias of a site, the same in both directions and all modes: exp N(0, 0.4)."""
    return float(np.exp(TELRAAM_SITE_LOG_SD * site.normal("gain")[0]))


def telraam_counts(mean: FloatArray, uptime: FloatArray, gain: float, luck: Luck, mode: str) -> FloatArray:
    """Citizen counter: Binomial(n, 0.90) x LogNormal(b_s, 0.15), scaled up by its uptime."""
    seen = detected(passages(mean * uptime, luck, mode), TELRAAM_DETECTION, luck, mode)
    row = np.exp(TELRAAM_ROW_LOG_SD * luck.normal(f"{mode} row", mean.shape))
    return np.round(gain * seen * row / uptime, 1)


def anpr_read_rate(luck: Luck) -> float:
    """Chance that a camera reads a plate: U(0.90, 0.97)."""
    low, high = ANPR_READ
    return low + (high - low) * float(luck.uniform("read rate")[0])


def anpr_counts(mean: FloatArray, luck: Luck, mode: str) -> FloatArray:
    """Plates read in each interval."""
    return detected(passages(mean, luck, mode), anpr_read_rate(luck), luck, mode)


def anpr_pairs(
    mean: FloatArray, time_s: FloatArray, pair: Luck, reads: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Matched pairs of two cameras and their median travel time; a match needs both reads.

    Parameters
    ----------
    mean : (n_intervals,) float64
        Vehicles that pass both.
    time_s : (n_intervals,) float64
        True mean travel time between them [s].
    """
    vehicles = detected(passages(mean, pair, "pair"), reads[0] * reads[1], pair, "pair")
    spread = 0.12 / np.sqrt(np.maximum(vehicles, 1.0))  # 12 % between drivers
    return vehicles, time_s * np.exp(spread * pair.normal("travel time", mean.shape))


def wifi_devices(people: FloatArray, luck: Luck) -> FloatArray:
    """Devices seen in a zone: devices per person LogNormal(ln 0.6, 0.3) by zone, 0.15 by row."""
    factor = np.exp(WIFI_LOG_MEAN + WIFI_ZONE_LOG_SD * luck.normal("devices per person")[0])
    row = np.exp(WIFI_ROW_LOG_SD * luck.normal("row", people.shape))
    return passages(people * factor * row, luck, "devices")


def telecom_devices(people: FloatArray, neighbours: list[NDArray[np.int64]], lucks: list[Luck]) -> FloatArray:
    """Devices of one operator in each cell: share 0.3-0.4, 20-30 % seen by a neighbour; below 20 is NaN.

    Parameters
    ----------
    people : (n_cells, n_intervals) float64
    neighbours : of each cell, indices of the cells around it
    """
    lost = np.array(
        [TELECOM_MISASSIGNED[0] + np.ptp(TELECOM_MISASSIGNED) * luck.uniform("lost")[0] for luck in lucks]
    )
    seen = people * (1.0 - lost)[:, None]
    for cell, around in enumerate(neighbours):
        for other in around:
            seen[other] += people[cell] * lost[cell] / len(around)
    devices = np.empty_like(seen)
    for cell, luck in enumerate(lucks):
        share = TELECOM_SHARE[0] + np.ptp(TELECOM_SHARE) * luck.uniform("share")[0]
        row = np.exp(TELECOM_ROW_LOG_SD * luck.normal("row", seen[cell].shape))
        devices[cell] = passages(seen[cell] * share * row, luck, "devices")
    return np.where(devices < TELECOM_LEAST, np.nan, devices)


def bikeshare_trips(clock: FloatArray, luck: Luck) -> tuple[FloatArray, FloatArray]:
    """Departures and arrivals of a dock; now and then a van brings or takes eight bicycles."""
    size = np.exp(0.6 * luck.normal("size"))[0]
    balance = 0.4 * luck.normal("balance")[0]
    departures = passages(1.6 * size * np.exp(balance) * clock, luck, "departures")
    arrivals = passages(1.6 * size * np.exp(-balance) * clock, luck, "arrivals")
    van = luck.uniform("van", clock.shape)
    return departures + 8.0 * (van < 0.01), arrivals + 8.0 * (van > 0.99)


def delay_s(source: str, luck: Luck, n_intervals: int) -> NDArray[np.int64]:
    """Whole seconds from the end of an interval to its arrival."""
    low, high = DELAY_S.get(source, OTHER_DELAY_S)
    return (low + np.floor((high - low + 1) * luck.uniform("delay", n_intervals))).astype(np.int64)
