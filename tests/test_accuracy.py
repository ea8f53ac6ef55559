"""benchmarks/accuracy.py compares stored views with fresh augmentation, trained as by train.py."""

import csv
import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, make_photo, read

from pyimagesearch import classifier, config, datasets, frozen, networks, training
from pyimagesearch.frozen import Views

SPLIT_NAMES = config.SPLITS


@pytest.fixture
def accuracy(monkeypatch):
    """Import benchmarks/accuracy.py, with a pool of 6 views instead of 36."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("accuracy")
    monkeypatch.setattr(module, "POOL", 6)
    return module


def list_splits(recipe):
    return datasets.list_splits(config.DATASET_DIR, recipe, SPLIT_NAMES)


@pytest.mark.soak
def test_training_on_the_views_of_train_py_gives_its_weights_and_accuracies(
    accuracy, built, tiny, script, monkeypatch, tmp_path
):
    # A view that only one phase uses is computed by another route from the pool, and is rounded
    # once more.
    monkeypatch.setattr(config, "SHARED_VIEWS", config.STORED_VIEWS)
    recipe = tiny(views="auto", calibrate=False)  # calibration changes the last layer
    assert script("train", "--method", "fine_tune")[0] == 0
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune"

    evaluated, float32_copy = [], networks.float32_copy

    def copy_and_record(network):
        evaluated.append(float32_copy(network))
        return evaluated[-1]

    monkeypatch.setattr(networks, "float32_copy", copy_and_record)
    views = Views(config.STORED_VIEWS, config.SHARED_VIEWS)
    numbers = [frozen.view_numbers(recipe, number, views) for number in (0, 1)]
    accuracies = accuracy.train(
        recipe, list_splits(recipe), "stored", config.SEED, numbers, tmp_path / "pool"
    )

    saved = classifier.load_network(folder / classifier.NETWORK_FILE)
    for ours, theirs in zip(evaluated[-1].get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    expected = {}
    with open(folder / training.HISTORY_FILE) as file:
        for row in csv.DictReader(file):
            expected[f"{row['phase']}, validation"] = float(row["val_accuracy"])
    for phase, value in read(folder / classifier.METRICS_FILE)["phases"].items():
        expected[f"{phase}, evaluation"] = value
    assert accuracies == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_fresh_augmentation_uses_another_view_in_every_epoch(accuracy, tiny, seed):
    recipe = tiny(views="auto")
    epochs = [phase.epochs for phase in recipe.phases]
    first, second = accuracy.draw_views(recipe, "fresh", seed)
    assert [len(first), len(second)] == epochs
    assert len({*first, *second}) == sum(epochs)
    assert accuracy.draw_views(recipe, "fresh", seed + 1) != [first, second]


@pytest.mark.parametrize("seed", range(10))
def test_stored_views_are_as_many_as_train_py_stores_and_shares(accuracy, tiny, seed):
    first, second = accuracy.draw_views(tiny(views="auto"), "stored", seed)
    assert len(set(first)) == len(set(second)) == config.STORED_VIEWS
    assert len({*first} & {*second}) == config.SHARED_VIEWS
    assert all(0 <= view < accuracy.POOL for view in (*first, *second))


def test_only_stored_views_are_flipped_shifted_and_mixed(accuracy, built, tiny):
    recipe, pool, numbers = tiny(views="auto"), Views(6, shared=6), (4, 1, 2)
    splits = list_splits(recipe)
    network = networks.build(recipe, None, seed=1)
    inputs = (network, recipe, splits, config.SEED, "pool")
    store = frozen.compute(frozen.needed(recipe, pool), *inputs)
    photos = range(len(splits.training))
    for number in (0, 1):
        views = [frozen.training_outputs(recipe, number, pool)[view] for view in numbers]
        rows = [row for view in views for row in store.read([view] * len(photos), photos)]
        stored = {row.tobytes() for row in rows}
        for way in accuracy.WAYS:
            data = accuracy.pool_data(recipe, number, splits, 1, pool, store, way, numbers)
            batches = data.training_batches()
            maps = [row for _ in range(5) for row in next(batches)[0]]
            are_as_stored = all(row.tobytes() in stored for row in maps)
            assert are_as_stored is (way == "fresh")


@pytest.fixture
def photos(tmp_path):
    """Make a dataset of two classes; return its folder."""
    for split in SPLIT_NAMES:
        for label, name in enumerate("ab"):
            make_photo(tmp_path / "photos" / split / name / "1.jpg", label, 0)
    return tmp_path / "photos"


@pytest.fixture
def run(accuracy, photos, monkeypatch, tmp_path):
    """Return a function that runs accuracy.py with options, and `trained`, what it trained.

    In place of trainings, a fresh one has an accuracy of 0.5, a stored one of 0.5 + seed / 10.
    """
    trained = []

    def train(recipe, splits, way, seed, *_):
        trained.append((way, seed))
        return {"warmup, validation": 0.5 if way == "fresh" else 0.5 + seed / 10}

    def main(*options):
        with monkeypatch.context() as patch:
            for name in ("DATASET_DIR", "OUTPUT_DIR", "RECIPES"):
                patch.setattr(config, name, getattr(config, name))  # restored after the run
            results = ("--results", str(tmp_path / "results.json"))
            patch.setattr(sys, "argv", ["accuracy.py", str(photos), *results, *options])
            accuracy.main()

    monkeypatch.setattr(accuracy, "train", train)
    return SimpleNamespace(main=main, trained=trained)


SHORT = ("--warmup", "2", "--unfrozen", "1")


def test_trainings_in_the_results_are_not_repeated(run, capsys):
    run.main(*SHORT, "--seeds", "1", "3")
    run.main(*SHORT, "--seeds", "1", "2", "3")
    assert run.trained == [(way, seed) for seed in (1, 3, 2) for way in ("fresh", "stored")]
    # The differences 0.1, 0.2 and 0.3 have a standard deviation of 0.1.
    assert "0.500 ± 0.000  0.700 ± 0.100   +0.2000 (0.0577)" in capsys.readouterr().out


def test_other_numbers_of_epochs_are_other_results(run, tmp_path):
    for epochs in ("1", "2"):
        run.main("--warmup", epochs, "--unfrozen", "1", "--seeds", "1")
    assert len(run.trained) == 4
    assert {"photos 1 + 1", "photos 2 + 1"} < read(tmp_path / "results.json").keys()


def test_more_epochs_than_the_pool_has_views_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run.main("--warmup", "5", "--unfrozen", "2")
    assert "are 7 epochs, but fresh augmentation has 6 views" in capsys.readouterr().err
    assert run.trained == []
