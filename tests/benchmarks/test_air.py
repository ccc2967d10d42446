from __future__ import annotations

from benchmarks import air


def test_reports_times_and_the_ratio_to_the_machine(toy_folder):
    figures = air.run(str(toy_folder))
    assert figures["receptors"] > 0
    assert figures["street_pairs"] > 0
    for name, value in figures.items():
        assert name == "city" or value >= 0.0
    assert figures["copy_bytes_per_s"] > 1e8
    assert figures["ratio_to_memory_copy"] > 0.0
