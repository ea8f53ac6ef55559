"""benchmarks/plain_regression.py trains on a CSV as the Food-5K tutorial does."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, read


@pytest.fixture
def plain_regression(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("plain_regression")


@pytest.fixture
def features():
    """Write two CSVs whose first feature is the class."""
    for name in ("training", "evaluation"):
        Path(f"{name}.csv").write_text("".join(f"{n % 2},{n % 2},0.5\n" for n in range(10)))


def test_load_split_returns_features_and_labels(plain_regression, features):
    rows, labels = plain_regression.load_split("training.csv")
    np.testing.assert_array_equal(rows[:2], [[0, 0.5], [1, 0.5]])
    assert rows.dtype == "float64"
    assert list(labels[:3]) == ["0", "1", "0"]


def test_regression_learns_from_the_csv(plain_regression, features, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plain_regression.py", "."])
    plain_regression.main()
    assert read("plain_regression.json")["accuracy"] == 1


def test_load_only_stops_after_loading(plain_regression, features, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plain_regression.py", ".", "--load-only"])
    plain_regression.main()
    assert set(read("plain_regression.json")) == {"load_seconds"}
