"""Real ImageNet weights on real photos of handwritten digits.

Made photos and random weights show that the scripts do what they say. Only real ones show that a
network learns from it.
"""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, read

from pyimagesearch import config, networks

BUILD, EXTRACT = ("build_dataset",), ("extract_features",)
FIT, FINE_TUNE = ("train", "--method", "logistic_regression"), ("train", "--method", "fine_tune")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Write scikit-learn's 1,797 digits as a download, once for all tests here."""
    sys.path.insert(0, str(ROOT))
    from tools import get_sample

    folder = tmp_path_factory.mktemp("digits") / "downloads"
    get_sample.write_digits(folder / "digits")
    return folder


def copy_every(step, digits):
    """Copy every second, third, ... digit to the test's own downloads/."""
    for path in sorted(digits.rglob("*.png"))[::step]:
        copy = Path("downloads") / path.relative_to(digits)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


@pytest.fixture
def run(script, quick_figures):
    """Return a function that runs scripts successfully on the digits and returns metrics.json."""

    def run(*commands):
        for name, *arguments in commands:
            status, _, messages = script(name, "--recipe", "digits", *arguments)
            assert status == 0, messages
        return read(Path("output/digits", arguments[-1], "metrics.json"))

    return run


def test_weights_are_the_published_ones():
    """It fails without them, and is never skipped: `make test` downloads them."""
    extractor = networks.build_feature_extractor(config.RECIPES["digits"], "imagenet")
    biases = extractor.get_layer("block1_conv1").bias.numpy()
    np.testing.assert_allclose(biases[:2], [0.73429835, 0.09340367], rtol=1e-6)


def test_logistic_regression_learns_digits_from_12_photos_of_each(digits, run, monkeypatch):
    small = replace(config.RECIPES["digits"], image_size=32)
    monkeypatch.setitem(config.RECIPES, "digits", small)
    copy_every(9, digits)
    metrics = run(BUILD, EXTRACT, FIT)
    assert metrics["photos"]["training"] == 120
    # One in ten would be chance.
    assert metrics["accuracy"] > 0.7


@pytest.mark.soak
def test_logistic_regression_reads_nineteen_of_twenty_digits(digits, run):
    copy_every(1, digits)
    metrics = run(BUILD, EXTRACT, FIT)
    assert metrics["photos"] == {"training": 1078, "validation": 360, "evaluation": 359}
    assert metrics["accuracy"] >= 0.95


@pytest.mark.soak
def test_fine_tuning_beats_its_first_epoch_and_its_warmup(digits, run):
    copy_every(6, digits)
    metrics = run(BUILD, FINE_TUNE)
    with open("output/digits/fine_tune/history.csv") as file:
        rows = list(csv.DictReader(file))
    first, last = float(rows[0]["val_accuracy"]), float(rows[-1]["val_accuracy"])
    assert first < last
    losses = {
        phase: [float(row["val_loss"]) for row in rows if row["phase"] == phase]
        for phase in ("warmup", "unfrozen")
    }
    assert min(losses["unfrozen"]) < min(losses["warmup"])
    assert metrics["accuracy"] > first
    assert metrics["phases"]["unfrozen"] == metrics["accuracy"]
