"""How the flow of each mode goes through the week in a city, by local time.

``[traffic.profile]`` of city.toml has 24 hourly shares of a weekday for each mode,
``[traffic.profile.saturday]`` and ``[traffic.profile.sunday]`` the same in the unit of the weekday's. What is
missing is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from cities.pack import City, CityError
from kernels.network import Mode
from kernels.profile import DEFAULT_HOURLY, DayProfile, day_profile

DAYS = ("weekday", "saturday", "sunday")
# Share of a weekday's traffic on Saturday and on Sunday, and its course: assumed.
WEEKEND_SHARE = {Mode.TRUCK: (0.35, 0.15), Mode.BUS: (0.7, 0.5)}
OTHER_WEEKEND_SHARE = (0.85, 0.7)
WEEKEND_HOURLY = (
    1.6, 1.1, 0.8, 0.6, 0.5, 0.7, 1.3, 2.2, 3.6, 5.2, 6.6, 7.2,
    6.9, 6.9, 7.1, 7.2, 7.2, 7.0, 6.3, 5.2, 4.2, 3.6, 3.2, 2.4,
)  # fmt: skip


class TrafficWeek:
    """Multiples of a weekday's average hour.

    Raises
    ------
    CityError
        When a profile of the city has not 24 shares above zero.
    """

    def __init__(self, city: City) -> None:
        self._zone = ZoneInfo(city.timezone)
        table = city.settings.get("traffic", {}).get("profile", {})
        self._profiles = {mode: _days(table, mode) for mode in Mode}
        self._known: dict[tuple[Mode, int], float] = {}

    def scale(self, mode: Mode, moment_ms: int) -> float:
        """Flow of a mode at a moment [ms since the epoch] against its average hour of a weekday."""
        known = self._known.get((mode, moment_ms))
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()
            local = datetime.fromtimestamp(moment_ms / 1000, self._zone)
            minute = local.hour * 60 + local.minute + moment_ms % 60_000 / 60_000
            day = self._profiles[mode][max(0, local.weekday() - 4)]
            known = self._known[mode, moment_ms] = day.scale(minute)
        return known


def _days(table: Mapping[str, object], mode: Mode) -> tuple[DayProfile, DayProfile, DayProfile]:
    name = mode.name.lower()
    weekday = _shares(table, name, "weekday") or DEFAULT_HOURLY
    mean = sum(weekday) / 24.0
    days = [_profile(weekday, mean, name, "weekday")]
    for day, share in zip(DAYS[1:], WEEKEND_SHARE.get(mode, OTHER_WEEKEND_SHARE), strict=True):
        of_day = table.get(day, {})
        shares = _shares(of_day, name, day) if isinstance(of_day, Mapping) else None
        if shares is None:
            factor = mean * share * 24.0 / sum(WEEKEND_HOURLY)
            shares = [factor * hourly for hourly in WEEKEND_HOURLY]
        days.append(_profile(shares, mean, name, day))
    return days[0], days[1], days[2]


def _shares(table: Mapping[str, object], name: str, day: str) -> Sequence[float] | None:
    value = table.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
        raise CityError(f"city.toml: traffic.profile: {day}: {name}: got {value!r}, expected 24 numbers")
    return value


def _profile(shares: Sequence[float], mean: float, name: str, day: str) -> DayProfile:
    try:
        return day_profile(shares, mean)
    except ValueError as error:
        raise CityError(f"city.toml: traffic.profile: {day}: {name}: {error}") from error
