from __future__ import annotations

from benchmarks import air


def test_a_small_town_reports_times_errors_and_the_ratio_to_the_machine():
    figures = air.run(n_receptors=40_000, n_segments=60, n_direct=2_000)
    assert figures["receptors"] == 40_000
    assert figures["incremental_equals_full"] == "bit-identical"
    assert figures["srm1_streets_worst_relative_error"] < 1e-9
    assert figures["annual_rose_rms_percent"] < 0.05
    assert figures["single_hour_rms_percent"] < 0.1
    assert figures["copy_bytes_per_s"] > 1e8
    for name, value in figures.items():
        assert name == "incremental_equals_full" or value > 0.0
