"""benchmarks/ours.py runs and times this project on a dataset and a schedule of the race."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, make_photo, read, write_csv

from pyimagesearch import config, frozen

SPLIT_NAMES = config.SPLITS
# The settings that ours.py changes.
CHANGED = ("DATASET_DIR", "OUTPUT_DIR", "RECIPES", "PRECISION")
DATASET, OUT = Path("photos"), Path("out")


@pytest.fixture
def ours(monkeypatch):
    """Import benchmarks/ours.py; undo what it changes in config after the test."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in CHANGED:
        monkeypatch.setattr(config, name, getattr(config, name))
    return importlib.import_module("ours")


@pytest.fixture
def dataset():
    """Make a dataset of two classes with four photos in each split."""
    for number, split in enumerate(SPLIT_NAMES):
        for label, name in enumerate(("tea", "cake")):
            for photo in range(4):
                make_photo(DATASET / split / name / f"{photo}.jpg", label, 10 * number + photo)
    return DATASET


@pytest.fixture
def run(ours, dataset, monkeypatch):
    """Return a function that runs ours.py; it returns the exit status of a script."""

    def main(what, *options):
        with monkeypatch.context() as patch:
            for name in CHANGED:
                patch.setattr(config, name, getattr(config, name))
            patch.setattr(sys, "argv", ["ours.py", what, str(dataset), str(OUT), *options])
            try:
                ours.main()
            except SystemExit as ended:
                return ended.code or 0

    return main


def test_row_has_food11s_settings_with_the_classes_and_epochs_of_the_race(ours, dataset):
    food11 = config.RECIPES["food11"]
    row = ours.use_dataset(SimpleNamespace(dataset=dataset, out=OUT, warmup=3, unfrozen=2))
    assert list(config.RECIPES.items()) == [("photos", row)]
    assert row.classes == ("cake", "tea")
    assert [phase.epochs for phase in row.phases] == [3, 2]
    same = {"classes": food11.classes, "phases": food11.phases, "name": "food11"}
    assert replace(row, **same, official_counts=food11.official_counts) == food11


def test_labels_of_a_csv_repeat_until_there_are_enough(ours):
    write_csv(Path("training.csv"), np.array([0, 2, 1]), np.eye(3, dtype=np.float32))
    assert list(ours.photos_of("training.csv", "abc").labels) == [0, 2, 1]
    assert list(ours.photos_of("training.csv", "abc", 7).labels) == [0, 2, 1, 0, 2, 1, 0]


def test_outputs_of_a_phase_come_after_those_that_they_are_computed_from(ours, tiny):
    recipe = tiny(views="auto")
    outputs = frozen.needed(recipe, frozen.Views(3, shared=1))
    views = [
        [(output.view, output.layer) for output in ours.training_outputs(outputs, phase)]
        for phase in recipe.phases
    ]
    # The third view of the first phase is computed from the first view of the second phase.
    assert views == [
        [(2, "block4_pool"), (0, None), (1, None), (2, None)],
        [(2, "block4_pool"), (3, "block4_pool"), (4, "block4_pool")],
    ]


@pytest.mark.soak
def test_parts_of_fine_tuning_are_those_that_the_race_adds_up(ours, built, tiny):
    # Three batches of validation photos: the first and the last step of each pass do not count.
    parts = ours.parts(tiny(views="auto", batch_size=4), OUT)
    assert [parts[phase]["views"] for phase in ("warmup", "unfrozen")] == [3, 3]
    assert parts["whole"] > parts["rest"] > 0
    race = importlib.import_module("race")
    assert race.our_schedule(parts, (21, 12, 15)) > 0


def test_read_times_a_csv(run):
    rows = np.ones((6, 25_088), np.float32)
    write_csv(OUT / "training.csv", np.array([0, 1] * 3), rows)
    run("read")
    assert read(OUT / "ours_read.json")["seconds"] > 0


@pytest.mark.soak
def test_scripts_run_on_the_dataset_and_leave_their_files_in_out(
    run, thin, random_weights, monkeypatch
):
    monkeypatch.setattr(config, "WEIGHTS", random_weights)
    epochs = ("--warmup", "1", "--unfrozen", "1", "--precision", "float32")
    for what in ("extract", "regression", "fine_tune", "predict"):
        assert run(what, *epochs) == 0
    assert (OUT / "photos" / "features" / "training.csv").is_file()
    for method in ("logistic_regression", "fine_tune"):
        metrics = read(OUT / "photos" / method / "metrics.json")
        assert metrics["precision"] == "float32"
        assert metrics["photos"] == dict.fromkeys(SPLIT_NAMES, 8)
    assert len(list((OUT / "photos" / "predictions").iterdir())) == 8
    run("forward", *epochs)
    assert read(OUT / "ours_forward.json")["photos_a_second"] > 0
