"""Logistic regression on features: the same answers in memory and in blocks of rows."""

import resource

import numpy as np
import pytest
import skops.io
from conftest import write_csv
from test_features import CLASSES, photos_of

from pyimagesearch import features, regression
from pyimagesearch.support import machine
from pyimagesearch.support.errors import UserError

COLUMNS, MAX_ITERATIONS = 30, 1000


def blobs(count, seed, classes):
    """Return rows around one centre per class, positive as features are, class after class."""
    centres = np.random.default_rng(0).random((len(CLASSES), COLUMNS)) * 4
    labels = np.sort(np.arange(count) % classes)
    noise = np.random.default_rng(seed).normal(0, 1.2, (count, COLUMNS))
    return np.maximum(0, centres[labels] + noise).astype(np.float32), labels


@pytest.fixture(params=[2, 3], ids=["two classes", "three classes"])
def splits(request, tmp_path):
    """Write training.csv and evaluation.csv; return {split: (path, photos)}."""
    splits = {}
    for split, count, seed in (("training", 600, 1), ("evaluation", 300, 2)):
        rows, labels = blobs(count, seed, request.param)
        path = tmp_path / "tiny" / "features" / f"{split}.csv"
        write_csv(path, labels, rows)
        splits[split] = path, photos_of(labels, CLASSES[: request.param])
    return splits


@pytest.fixture
def small_blocks(monkeypatch):
    """Fit with several blocks of the 600 rows."""
    monkeypatch.setattr(regression, "BLOCK_ROWS", 64)


def test_blocks_give_the_answers_of_scikit_learn_in_memory(splits, small_blocks):
    in_memory = regression.fit_in_memory(*splits["training"], COLUMNS, 42, MAX_ITERATIONS)
    in_blocks = regression.fit_in_blocks(*splits["training"], COLUMNS, MAX_ITERATIONS)
    expected, found = (
        regression.predict(fitted, *splits["evaluation"]) for fitted in (in_memory, in_blocks)
    )
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.mean(found.argmax(axis=1) == splits["evaluation"][1].labels) > 0.9
    assert in_blocks.coef_.shape == in_memory.coef_.shape
    assert in_blocks.n_iter_[0] > 1


def test_gradient_is_that_of_the_loss(splits, small_blocks, tmp_path):
    path, photos = splits["training"]
    rows = features.read_split(path, photos, COLUMNS)
    array_file = regression.ArrayFile(tmp_path / "rows.npy", rows.shape, "float32")
    array_file.write(64, lambda start: [rows], lambda count: None)
    objective = regression.BlockObjective(array_file, photos.labels, len(photos.classes))
    point = np.random.default_rng(0).normal(0, 0.1, np.prod(objective.shape))
    _, gradient = objective(point)
    for position in (0, 7, -1):
        step = np.zeros_like(point)
        step[position] = 1e-3
        slope = (objective(point + step)[0] - objective(point - step)[0]) / 2e-3
        assert slope == pytest.approx(gradient[position], rel=1e-2, abs=1e-4)


def test_rows_beyond_the_memory_are_fitted_in_blocks(splits, small_blocks, monkeypatch, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: 600 * COLUMNS * 4)
    monkeypatch.setattr(features, "read_split", None)  # would read every row
    fitted = regression.fit(*splits["training"], COLUMNS, 42, MAX_ITERATIONS)
    messages = capsys.readouterr().err
    assert "600 rows of 30 features need" in messages
    assert "fitting in blocks of 64 rows" in messages
    assert regression.predict(fitted, *splits["evaluation"]).shape[0] == 300


def test_rows_that_fit_in_memory_are_fitted_at_once(splits, monkeypatch, capsys):
    monkeypatch.setattr(regression, "fit_in_blocks", None)
    regression.fit(*splits["training"], COLUMNS, 42, MAX_ITERATIONS)
    assert "600 photos, 30 features" in capsys.readouterr().err


def test_iterations_are_limited(splits, small_blocks):
    assert regression.fit_in_blocks(*splits["training"], COLUMNS, 3).n_iter_[0] == 3


def test_fitted_blocks_are_saved_without_code(splits, small_blocks, tmp_path):
    fitted = regression.fit_in_blocks(*splits["training"], COLUMNS, MAX_ITERATIONS)
    skops.io.dump(fitted, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=[])
    expected, found = (regression.predict(each, *splits["evaluation"]) for each in (fitted, loaded))
    np.testing.assert_array_equal(found, expected)


def test_array_of_an_interrupted_fit_is_not_used_and_none_stays(splits, small_blocks):
    path, photos = splits["training"]
    expected = regression.fit_in_blocks(path, photos, COLUMNS, MAX_ITERATIONS)
    path.with_suffix(".npy").write_bytes(b"of other features")
    path.with_suffix(".partial").write_bytes(b"of other features")
    found = regression.fit_in_blocks(path, photos, COLUMNS, MAX_ITERATIONS)
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    assert {each.name for each in path.parent.iterdir()} == {"training.csv", "evaluation.csv"}


def test_blocks_of_other_photos_or_columns_are_refused(splits, small_blocks):
    path, photos = splits["training"]
    for wrong, columns in ((photos, COLUMNS + 1), (photos.take(range(500)), COLUMNS)):
        with pytest.raises(UserError, match="Make it again"):
            regression.fit_in_blocks(path, wrong, columns, MAX_ITERATIONS)


@pytest.mark.soak
def test_memory_of_blocks_does_not_grow_with_the_rows(tmp_path):
    """20,000 rows of 5,000 features are 400 MB."""
    labels = np.arange(20_000) % 3
    rng = np.random.default_rng(0)
    path = tmp_path / "tiny" / "features" / "training.csv"
    blocks = (rng.integers(0, 3, (1000, 5000)).astype(np.float32) for _ in range(20))
    features.write_csv(path, labels, blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    regression.fit_in_blocks(path, photos_of(labels), 5000, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
