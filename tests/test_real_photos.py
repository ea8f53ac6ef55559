"""Real ImageNet weights on real handwritten digits: nothing is called working before this."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, read

from pyimagesearch import config, networks


@pytest.fixture(scope="module", autouse=True)
def real_weights():
    """Fail without the ImageNet weights, and never skip: `make test` fetches them."""
    network = networks.build_feature_extractor(config.RECIPES["digits"], "imagenet")
    # The first biases of the published file.
    biases = network.get_layer("block1_conv1").bias.numpy()
    np.testing.assert_allclose(biases[:2], [0.73429835, 0.09340367], rtol=1e-6)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Write scikit-learn's digits as a download, once for all tests here."""
    import sys

    sys.path.insert(0, str(ROOT))
    from tools import get_sample

    folder = tmp_path_factory.mktemp("digits")
    get_sample.write_digits(folder / "downloads" / "digits")
    return folder


@pytest.fixture
def in_folder(digits, monkeypatch):
    monkeypatch.chdir(digits)


def test_logistic_regression_reads_nineteen_of_twenty_digits(in_folder, script):
    for name in ("build_dataset", "extract_features"):
        status, _, messages = script(name, "--recipe", "digits")
        assert status == 0, messages
    status, out, messages = script("train", "--recipe", "digits", "--method", "logistic_regression")
    assert status == 0, messages
    metrics = read("output/digits/logistic_regression/metrics.json")
    assert metrics["photos"] == {"training": 1078, "validation": 360, "evaluation": 359}
    assert metrics["accuracy"] >= 0.95, out


def test_fine_tuning_beats_its_own_first_epoch_and_its_warmup(digits, script):
    # A sixth of them teaches as much about this project, sooner.
    shutil.copytree(digits / "downloads", "downloads")
    for number, path in enumerate(sorted(Path("downloads").rglob("*.png"))):
        if number % 6:
            path.unlink()
    assert script("build_dataset", "--recipe", "digits")[0] == 0
    status, _, messages = script("train", "--recipe", "digits", "--method", "fine_tune")
    assert status == 0, messages
    with open("output/digits/fine_tune/history.csv") as file:
        rows = list(csv.DictReader(file))
    first, last = float(rows[0]["val_accuracy"]), float(rows[-1]["val_accuracy"])
    assert last > first
    losses = {
        phase: [float(row["val_loss"]) for row in rows if row["phase"] == phase]
        for phase in ("warmup", "unfrozen")
    }
    assert min(losses["unfrozen"]) < min(losses["warmup"])
    metrics = read("output/digits/fine_tune/metrics.json")
    assert metrics["accuracy"] > first
    assert metrics["phases"]["unfrozen"] == metrics["accuracy"]
