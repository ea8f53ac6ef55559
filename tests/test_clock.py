"""benchmarks/clock.py measures the steps of a Keras model."""

import importlib

import keras
import numpy as np
import pytest
from conftest import ROOT


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("clock").Clock()


def test_median_leaves_out_the_last_step_of_each_pass_and_the_time_between(clock, monkeypatch):
    """Two evaluations of 64 + 19 photos that start at 0 s and 100 s."""
    for start in (0, 100):
        clock.on_test_begin()
        for end in (start + 5, start + 7, start + 8):
            monkeypatch.setattr("time.perf_counter", lambda end=end: end)
            clock.on_test_batch_end(0)
    assert clock.median("test") == 2


def test_clock_separates_training_from_validation_steps(clock):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    x, y = np.ones((10, 3)), np.ones((10, 1))
    model.fit(x, y, batch_size=2, validation_data=(x, y), epochs=2, verbose=0, callbacks=[clock])
    assert [len(ends) for ends in clock.step_ends["train"]] == [5, 5]
    assert [len(ends) for ends in clock.step_ends["test"]] == [5, 5]
    assert clock.median("train") > 0
