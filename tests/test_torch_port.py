"""benchmarks/torch_port.py computes the features of this project, in an environment of its own."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_photo, read

WEIGHTS = ROOT / "weights" / "vgg16.weights.h5"
OUT = Path("out")


@pytest.fixture
def port(monkeypatch):
    """Return a function that runs a task of the port on a small dataset; it returns the process.

    The first time, it installs PyTorch, as `race.py --only torch` does.
    """
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    python_with_torch = importlib.import_module("torch_environment").python_with_torch
    python = python_with_torch(ROOT / "output" / "race" / "torch_environment")
    for split in ("training", "validation"):
        for number in range(66):  # three batches: the last step does not count
            name = ("apple", "bread")[number % 2]
            make_photo(Path("dataset", split, name, f"{number}.png"), number % 2, number)
    command = [ROOT / "benchmarks" / "ours.py", "reference", "dataset", OUT]
    subprocess.run([sys.executable, *command], check=True)

    def run(task):
        command = [python, ROOT / "benchmarks" / "torch_port.py", task, "dataset", WEIGHTS, OUT]
        return subprocess.run(command, capture_output=True, text=True)

    return run


@pytest.mark.soak
def test_forward_and_steps_are_measured_after_the_features_were_compared(port):
    for task in ("forward", "steps"):
        process = port(task)
        assert process.returncode == 0, process.stderr
        assert "relative difference of the features of 32 photos" in process.stdout
    assert read(OUT / "torch_forward.json")["photos_a_second"] > 0
    steps = read(OUT / "torch_steps.json")
    assert steps["unfrozen"]["step"] > steps["unfrozen"]["validation_step"] > 0
    features = np.load(OUT / "features.npy")
    np.save(OUT / "features.npy", features * 1.001)
    process = port("forward")
    assert process.returncode == 1
    assert "does not compute the same features" in process.stderr
