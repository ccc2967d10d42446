"""Every observation model has the mean and spread that it states."""

from __future__ import annotations

import numpy as np
import pytest

from studies import observe_models as models
from studies.observe_models import Luck

N = 40_000


def luck(name: str = "S1") -> Luck:
    return Luck(3, name)


def test_passages_are_poisson() -> None:
    n = models.passages(np.full(N, 7.0), luck(), "car")
    assert n.mean() == pytest.approx(7.0, rel=0.01)
    assert n.var() == pytest.approx(7.0, rel=0.03)


def test_no_traffic_makes_no_count() -> None:
    none = np.zeros(50)
    assert (models.loop_counts(none, luck(), "car") == 0).all()
    assert (models.telraam_counts(none, np.full(50, 0.8), 1.4, luck(), "car") == 0).all()
    assert (models.anpr_counts(none, luck(), "car") == 0).all()


def test_a_loop_detects_98_percent_with_a_gain_of_5_percent() -> None:
    mean = 200.0
    counts = models.loop_counts(np.full(N, mean), luck(), "car")
    assert counts.mean() == pytest.approx(0.98 * mean * np.exp(0.05**2 / 2), rel=0.003)
    # A thinned Poisson stays Poisson; the gain adds (0.05 mean)^2, rounding 1/12.
    expected = 0.98 * mean + (0.98 * mean) ** 2 * np.expm1(0.05**2) + 1 / 12
    assert counts.var() == pytest.approx(expected, rel=0.04)
    assert (counts == np.rint(counts)).all()


def test_a_speed_has_an_error_of_2_kmh() -> None:
    error = models.loop_speeds(np.full(N, 50.0), luck()) - 50.0
    assert error.mean() == pytest.approx(0.0, abs=0.04)
    assert error.std() == pytest.approx(2.0, rel=0.02)


def test_a_citizen_counter_sees_90_percent_times_its_bias_whatever_its_uptime() -> None:
    for uptime in (0.6, 1.0):
        counts = models.telraam_counts(np.full(N, 60.0), np.full(N, uptime), 1.3, luck(), "car")
        assert counts.mean() == pytest.approx(1.3 * 0.9 * 60.0 * np.exp(0.15**2 / 2), rel=0.006)
    relative = counts / counts.mean()
    assert relative.var() == pytest.approx(np.expm1(0.15**2) + 1 / 54.0, rel=0.06)


def test_biases_of_citizen_sites_spread_by_a_factor_of_exp_0_4() -> None:
    gains = np.log([models.telraam_gain(luck(f"T{k}")) for k in range(4000)])
    assert gains.mean() == pytest.approx(0.0, abs=0.02)
    assert gains.std() == pytest.approx(0.4, rel=0.04)


def test_uptime_is_between_60_and_100_percent() -> None:
    uptime = models.telraam_uptime(luck(), N)
    assert uptime.min() >= 0.6
    assert uptime.max() <= 1.0
    assert uptime.mean() == pytest.approx(0.8, abs=0.005)


def test_a_camera_reads_90_to_97_percent_and_a_pair_needs_both_reads() -> None:
    rates = np.array([models.anpr_read_rate(luck(f"A{k}")) for k in range(500)])
    assert rates.min() >= 0.90
    assert rates.max() <= 0.97
    counts = models.anpr_counts(np.full(N, 30.0), luck("A1"), "car")
    assert counts.mean() == pytest.approx(30.0 * rates[1], rel=0.01)
    vehicles, time_s = models.anpr_pairs(np.full(N, 20.0), np.full(N, 90.0), luck("A1 A2"), (0.9, 0.95))
    assert vehicles.mean() == pytest.approx(20.0 * 0.9 * 0.95, rel=0.01)
    assert np.median(time_s) == pytest.approx(90.0, rel=0.01)


def test_devices_per_person_are_0_6_with_a_spread_of_exp_0_3() -> None:
    people = np.full(40, 2000.0)
    factor = [np.log(models.wifi_devices(people, luck(f"W{k}")).mean() / 2000.0) for k in range(600)]
    assert np.mean(factor) == pytest.approx(np.log(0.6) + 0.15**2 / 2, abs=0.04)
    assert np.std(factor) == pytest.approx(0.3, rel=0.08)


def test_a_telecom_cell_sees_one_operator_and_hides_small_counts() -> None:
    people = np.array([[1000.0] * 400, [1000.0] * 400, [10.0] * 400])
    around = [np.array([1]), np.array([0]), np.zeros(0, dtype=np.int64)]
    devices = models.telecom_devices(people, around, [luck(f"C{k}") for k in range(3)])
    share = np.nanmean(devices[:2], axis=1) / 1000.0
    assert (share > 0.3 * 0.9).all()
    assert (share < 0.4 * 1.1).all()
    assert np.isnan(devices[2]).all()
    assert np.nanmin(devices) >= 20


def test_misassigned_devices_are_seen_next_door() -> None:
    people = np.array([[5000.0] * 200, [0.0] * 200])
    devices = models.telecom_devices(people, [np.array([1]), np.array([0])], [luck("C1"), luck("C2")])
    lost = np.nanmean(devices[1]) / (np.nanmean(devices[0]) + np.nanmean(devices[1]))
    assert 0.15 < lost < 0.36


def test_the_same_sensor_has_the_same_luck_in_two_truths() -> None:
    mean = np.full(100, 40.0)
    changed = mean.copy()
    changed[50] = 90.0
    first, second = (models.loop_counts(m, luck("L9"), "car") for m in (mean, changed))
    assert np.flatnonzero(first != second).tolist() == [50]
    assert second[50] > first[50]


def test_sensors_and_modes_have_luck_of_their_own() -> None:
    mean = np.full(200, 40.0)
    car = models.loop_counts(mean, luck("L1"), "car")
    assert abs(np.corrcoef(car, models.loop_counts(mean, luck("L2"), "car"))[0, 1]) < 0.25
    assert abs(np.corrcoef(car, models.loop_counts(mean, luck("L1"), "truck"))[0, 1]) < 0.25


@pytest.mark.parametrize(("source", "low", "high"), [("loops", 2, 8), ("telraam", 20, 60), ("wifi", 5, 30)])
def test_readings_arrive_within_the_delay_of_their_feed(source: str, low: int, high: int) -> None:
    delay = models.delay_s(source, luck(), 5000)
    assert (delay.min(), delay.max()) == (low, high)
