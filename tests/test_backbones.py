"""benchmarks/backbones.py measures every network, and docs/backbones.md has its table."""

import importlib
import json

import keras
import pytest
from conftest import ROOT

from pyimagesearch import config
from pyimagesearch.recipe import BACKBONES
from pyimagesearch.support.errors import UserError


@pytest.fixture
def backbones(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("backbones")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "backbones.json")
    return module


def test_accuracy_on_imagenet_is_known_for_every_network(backbones):
    assert set(backbones.IMAGENET_ACCURACY) == set(BACKBONES)


def test_network_is_measured_in_turns_with_vgg16(backbones, thin, thin_resnet, monkeypatch, capsys):
    monkeypatch.setattr(backbones, "BATCH", 2)
    monkeypatch.setattr(config, "PRECISION", "float32")
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)
    backbones.main(["ResNet50"])
    backbones.main(["VGG16"])
    results = json.loads(backbones.RESULTS.read_text())["float32"]
    assert list(results) == ["ResNet50", "VGG16"]
    assert results["VGG16"]["last_block_after"] == "block4_pool"
    assert results["VGG16"]["image_size"] == 224
    assert all(row["photos_per_second"] > 0 for row in results.values())
    # The second table has the first result too; the fastest network comes first.
    *_, first, second = capsys.readouterr().out.splitlines()
    speeds = [float(row.split("|")[6].split()[0]) for row in (first, second)]
    assert speeds == sorted(speeds, reverse=True)


def test_unknown_network_is_an_error(backbones):
    with pytest.raises(UserError, match="MobilNet"):
        backbones.main(["MobilNet"])


def test_page_has_the_table_of_the_results(backbones):
    results = json.loads((ROOT / "benchmarks" / "backbones.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    assert set(results["float32"]) == set(BACKBONES)
    assert backbones.table(results["float32"]) in page
