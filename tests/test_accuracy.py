"""The benchmark of stored views against fresh augmentation trains as train.py does."""

import csv
import importlib
import sys

import numpy as np
import pytest
from conftest import ROOT, make_photo, read

from pyimagesearch import artifacts, config, images, networks, views


@pytest.fixture
def accuracy(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("accuracy")


def test_training_on_the_views_that_train_py_stores_teaches_the_same(
    accuracy, built, tiny, script, monkeypatch, tmp_path
):
    # What only one phase sees it would store elsewhere, and round once more.
    monkeypatch.setattr(views, "LENT", views.VIEWS)
    recipe = tiny(views="auto")
    assert script("train", "--method", "fine_tune")[0] == 0
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune"

    judged, in_float32 = [], networks.in_float32

    def noted(model):
        judged.append(in_float32(model))
        return judged[-1]

    monkeypatch.setattr(networks, "in_float32", noted)
    splits = [
        images.list_photos(config.DATASET_DIR, recipe, split)
        for split in (config.TRAIN, config.VAL, config.TEST)
    ]
    seen = [views.views_of(recipe, number) for number in (0, 1)]
    found = accuracy.train(recipe, splits, "stored", config.SEED, seen, tmp_path / "pool")

    saved = artifacts.load_network(folder / artifacts.NETWORK)
    for mine, its in zip(judged[-1].get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    expected = {}
    with open(folder / artifacts.HISTORY) as file:
        for row in csv.DictReader(file):
            expected[f"{row['phase']}, validation"] = float(row["val_accuracy"])
    for phase, value in read(folder / artifacts.METRICS)["phases"].items():
        expected[f"{phase}, evaluation"] = value
    assert found == pytest.approx(expected)


def test_fresh_augmentation_sees_no_view_twice_and_stored_as_many_as_train_py(accuracy, tiny):
    recipe = tiny(views="auto")
    epochs = [phase.epochs for phase in recipe.phases]
    for seed in range(20):
        first, second = accuracy.draw(recipe, "fresh", seed)
        assert [len(first), len(second)] == epochs
        assert len(set(first + second)) == sum(epochs)
        first, second = accuracy.draw(recipe, "stored", seed)
        assert len(set(first)) == len(set(second)) == views.VIEWS
        assert len(set(first) & set(second)) == views.LENT
    assert accuracy.draw(recipe, "fresh", 1) != accuracy.draw(recipe, "fresh", 2)


@pytest.mark.parametrize(
    ("way", "varied_and_mixed"),
    [
        ("fresh", [(False, False), (False, False)]),
        ("stored", [(True, True), (True, False)]),
    ],
)
def test_only_stored_views_are_varied(
    accuracy, built, tiny, monkeypatch, tmp_path, way, varied_and_mixed
):
    recipe, given, batches = tiny(views="auto"), [], views.stored_batches

    def noted(*arguments):
        given.append(arguments[6:])
        return batches(*arguments)

    monkeypatch.setattr(views, "stored_batches", noted)
    splits = [
        images.list_photos(config.DATASET_DIR, recipe, split)
        for split in (config.TRAIN, config.VAL, config.TEST)
    ]
    seen = accuracy.draw(recipe, way, 1)
    accuracy.train(recipe, splits, way, 1, seen, tmp_path / "pool")
    assert given == varied_and_mixed


def test_what_is_in_the_results_is_not_trained_again(accuracy, monkeypatch, tmp_path, capsys):
    for split in (config.TRAIN, config.VAL, config.TEST):
        make_photo(tmp_path / "photos" / split / "a" / "1.jpg", 0, 0)
        make_photo(tmp_path / "photos" / split / "b" / "1.jpg", 1, 0)
    trained = []

    def train(recipe, splits, way, seed, *_):
        trained.append((way, seed))
        return {"warmup, validation": {"fresh": 0.5, "stored": 0.5 + seed / 10}[way]}

    monkeypatch.setattr(accuracy, "train", train)
    results = tmp_path / "results.json"
    for seeds in ("1", "3"), ("1", "2", "3"):
        options = ("--seeds", *seeds, "--results", str(results))
        with monkeypatch.context() as patch:
            for name in ("DATASET_DIR", "OUTPUT_DIR", "RECIPES"):
                patch.setattr(config, name, getattr(config, name))  # put back afterwards
            patch.setattr(sys, "argv", ["accuracy.py", str(tmp_path / "photos"), *options])
            accuracy.main()
    assert trained == [(way, seed) for seed in (1, 3, 2) for way in ("fresh", "stored")]
    # 0.1, 0.2 and 0.3: their standard deviation is 0.1.
    assert "0.500 ± 0.000  0.700 ± 0.100   +0.2000 (0.0577)" in capsys.readouterr().out
