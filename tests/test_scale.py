"""benchmarks/scale.py: the tables of what was measured, and of what follows for more machines."""

import importlib

import pytest
from conftest import ROOT

# A start of 1 s and 100 ms per photo without Ray, 5 s and 105 ms with it.
SECONDS = {(0, 1): 11, (0, 4): 41, (1, 1): 15.5, (1, 4): 47}
RESULTS = {
    "machine": "a computer",
    "photos": 100,
    "photo_bytes": 50_000,
    "disk_bytes_per_second": 1e8,
    "runs": [
        {"machines": machines, "times": times, "seconds": seconds + late, "memory": 8e8}
        for (machines, times), seconds in SECONDS.items()
        for late in (-1, 0, 70)  # the median counts
    ],
}


@pytest.fixture
def scale(monkeypatch):
    """Import benchmarks/scale.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("scale")


def test_measured_table_has_the_time_of_a_photo_more_without_the_start(scale):
    assert scale.measured_table(RESULTS).splitlines()[3:] == [
        "| no Ray | 100 | 11 | 800 MB | 100.0 ms | +0.0% |",
        "| no Ray | 400 | 41 | 800 MB | 100.0 ms | +0.0% |",
        "| 1 | 100 | 16 | 800 MB | 105.0 ms | +5.0% |",
        "| 1 | 400 | 47 | 800 MB | 105.0 ms | +5.0% |",
    ]


def test_calculated_table_ends_where_the_disk_is_the_limit(scale):
    title, *_, one, eight, many, limit = scale.calculated_table(RESULTS).splitlines()
    assert title == "Calculated for 1,000,000 photos, not measured:"
    # 100 kB written per photo and 150 kB over the network
    assert one == "| 1 | 29 h 10 min | 16 min 44 s | 2 min 00 s | 29 h 10 min |"
    assert eight == "| 8 | 3 h 38 min | 16 min 44 s | 2 min 00 s | 3 h 38 min |"
    assert many == "| 64 | 27 min 21 s | 16 min 44 s | 2 min 00 s | 27 min 26 s |"
    assert limit == "More than 105 machines are not faster."
