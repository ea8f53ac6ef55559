"""benchmarks/many_photos.py makes different photos, and runs the scripts with a cheap network."""

import importlib
from pathlib import Path

import pytest
from conftest import ROOT

from pyimagesearch import config, images


@pytest.fixture
def many_photos(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("many_photos")


def test_made_photos_can_be_read_and_are_all_different(many_photos):
    many_photos.make_photos(Path("photos"), 40)
    paths = list(Path("photos").rglob("*.jpg"))
    assert len(paths) == 40
    assert len({path.read_bytes() for path in paths}) == 40
    assert {images.read_rgb(path).shape for path in paths} == {(8, 8, 3)}


@pytest.mark.soak
def test_every_step_runs_and_prints_its_cost(many_photos, monkeypatch, capsys):
    for name in ("RECIPES", "DATASET_DIR", "OUTPUT_DIR"):
        monkeypatch.setattr(config, name, getattr(config, name))
    for step in many_photos.STEPS:
        many_photos.run_step(step, Path("many").resolve(), 60)
        assert f"{step}: " in capsys.readouterr().out
