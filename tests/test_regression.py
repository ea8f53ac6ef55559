"""Logistic regression on features: the same answers in memory and in blocks of rows."""

import multiprocessing
import resource

import numpy as np
import pytest
import skops.io
from conftest import tiny_recipe, write_csv
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from test_features import photos_of

from pyimagesearch import features, regression
from pyimagesearch.datasets import Splits
from pyimagesearch.recipe import Regression
from pyimagesearch.support import calibration, machine
from pyimagesearch.support.array_files import ArrayFile
from pyimagesearch.support.errors import UserError

ROWS, COLUMNS = 660, 30
# Enough to converge, and enough where only the files and the memory matter.
MAX_ITERATIONS, FEW_ITERATIONS = 1000, 5


def overlapping_classes(count, seed, classes):
    """Return (rows, labels): features that are at least 0, scattered around a centre per class."""
    centres = np.random.default_rng(0).random((classes, COLUMNS)) * 4
    labels = np.sort(np.arange(count) % classes)
    noise = np.random.default_rng(seed).normal(0, 1.6, (count, COLUMNS))
    return np.maximum(0, centres[labels] + noise).astype(np.float32), labels


def write_splits(folder, classes, rare_class=False):
    """Write training.csv and evaluation.csv; return {split: (path, photos)}.

    With `rare_class`, the first class has a quarter of the photos.
    """
    splits = {}
    for seed, (split, count) in enumerate((("training", ROWS), ("evaluation", ROWS // 2))):
        rows, labels = overlapping_classes(count, seed, classes)
        if rare_class:
            kept = np.flatnonzero((labels > 0) | (np.arange(count) % 4 == 0))
            rows, labels = rows[kept], labels[kept]
        path = folder / "tiny" / "features" / f"{split}.csv"
        write_csv(path, labels, rows)
        splits[split] = path, photos_of(labels, tuple(map(str, range(classes))))
    return splits


@pytest.fixture
def splits(tmp_path):
    return write_splits(tmp_path, classes=3)


@pytest.fixture(autouse=True)
def three_blocks(monkeypatch):
    """Divide the training rows into three blocks, the last one smaller."""
    monkeypatch.setattr(regression, "BLOCK_ROWS", 256)


def fit_in_memory(splits, max_iterations=MAX_ITERATIONS, weights=None, C=1):
    recipe = tiny_recipe(class_weights=weights, regression=Regression(C=C))
    return regression.fit_in_memory(*splits["training"], COLUMNS, recipe, max_iterations)[0]


def fit_in_blocks(splits, max_iterations=MAX_ITERATIONS, weights=None, C=1):
    recipe = tiny_recipe(class_weights=weights, regression=Regression(C=C))
    return regression.fit_in_blocks(*splits["training"], COLUMNS, recipe, max_iterations)[0]


def file_names(splits):
    """Return the names of the files in the folder of the features."""
    return {path.name for path in splits["training"][0].parent.iterdir()}


# The answers


@pytest.mark.parametrize(
    ("classes", "weights", "C"), [(2, "balanced", 1), (3, None, 0.01), (11, None, 1)]
)
def test_blocks_give_the_answers_of_scikit_learn_in_memory(tmp_path, classes, weights, C):
    splits = write_splits(tmp_path, classes, rare_class=weights is not None)
    in_memory, in_blocks = (
        fit(splits, weights=weights, C=C) for fit in (fit_in_memory, fit_in_blocks)
    )
    expected, found = (predict(fitted, *splits["evaluation"]) for fitted in (in_memory, in_blocks))
    assert np.abs(found - expected).mean() < 2e-3
    # Both solvers stop when the gradient is small, a little apart. So near ties may differ.
    second, first = np.sort(expected, axis=1).T[-2:]
    is_clear = first - second > 0.2
    assert is_clear.mean() > 0.8
    np.testing.assert_array_equal(found.argmax(axis=1)[is_clear], expected.argmax(axis=1)[is_clear])
    assert loss(in_blocks, splits, weights) < loss(in_memory, splits, weights) + 1e-4
    for name in ("coef_", "intercept_", "classes_", "n_iter_"):
        assert getattr(in_blocks, name).shape == getattr(in_memory, name).shape


def compute_logits(fitted, path, photos):
    """Return the logits of the rows of a CSV."""
    recorded = {"columns_of_last_map": COLUMNS, "channels": COLUMNS}
    return regression.compute_outputs(fitted, path, photos, recorded)[0]


def predict(fitted, path, photos):
    """Return the (n, classes) probabilities of the rows of a CSV."""
    return calibration.probabilities(compute_logits(fitted, path, photos))


def loss(fitted, splits, weights):
    """Return the value of scikit-learn's objective on the training photos."""
    path, photos = splits["training"]
    probabilities = predict(fitted, path, photos)
    row_weights = compute_sample_weight(weights, photos.labels)
    penalty = (fitted.coef_**2).sum() / (2 * fitted.C) / len(photos)
    return log_loss(photos.labels, probabilities, sample_weight=row_weights) + penalty


@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_of_the_blocks_is_the_slope_of_their_loss(tmp_path, classes):
    rows, labels = overlapping_classes(ROWS, 0, classes)
    array_file = ArrayFile(tmp_path / "rows.npy", rows.shape, "float32")
    array_file.write(len(rows), lambda start: [rows], lambda count: None)
    weights = np.random.default_rng(1).random(ROWS)
    objective = regression.BlockObjective(array_file, labels, classes, weights)
    point = np.random.default_rng(0).normal(0, 0.1, np.prod(objective.shape))
    _, gradient = objective(point, C=0.5)
    # Two coefficients and the last intercept.
    for position in (0, 7, -1):
        step = np.zeros_like(point)
        step[position] = 1e-3
        above, below = (objective(point + change, C=0.5)[0] for change in (step, -step))
        slope = (above - below) / 2e-3
        assert slope == pytest.approx(gradient[position], rel=1e-2, abs=1e-4)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(("classes", "columns"), [(2, 1), (3, 3)])
def test_logits_give_the_probabilities_of_scikit_learn(tmp_path, classes, columns):
    path, photos = write_splits(tmp_path, classes)["evaluation"]
    rows, labels = overlapping_classes(ROWS, 0, classes)
    fitted = LogisticRegression(max_iter=FEW_ITERATIONS).fit(rows, labels)
    logits = compute_logits(fitted, path, photos)
    assert logits.shape == (ROWS // 2, columns)
    expected = fitted.predict_proba(features.read_split(path, photos, COLUMNS))
    np.testing.assert_allclose(calibration.probabilities(logits), expected, atol=1e-6)


def test_pooled_features_are_means_of_the_last_map_over_the_places_of_the_photo(splits):
    path, photos = splits["evaluation"]
    fitted = fit_in_blocks(splits, FEW_ITERATIONS)
    # Two places of 10 channels; the last 10 columns are those of another layer.
    recorded = {"columns_of_last_map": 20, "channels": 10}
    _, pooled = regression.compute_outputs(fitted, path, photos, recorded)
    rows = features.read_split(path, photos, COLUMNS)
    # Flattening puts all channels of the first place before those of the second.
    np.testing.assert_allclose(pooled, (rows[:, :10] + rows[:, 10:20]) / 2, rtol=1e-6)


def test_calibrated_copy_leaves_the_regression_as_it_is(splits):
    fitted = fit_in_blocks(splits, FEW_ITERATIONS)
    coefficients, intercepts = fitted.coef_.copy(), fitted.intercept_.copy()
    calibrated = regression.calibrated_copy(fitted, 2)
    np.testing.assert_array_equal(fitted.coef_, coefficients)
    np.testing.assert_array_equal(fitted.intercept_, intercepts)
    logits, halves = (compute_logits(each, *splits["evaluation"]) for each in (fitted, calibrated))
    np.testing.assert_allclose(halves, logits / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("in_memory", [True, False])
def test_best_of_several_strengths_has_the_lowest_log_loss_on_validation(
    splits, monkeypatch, capsys, in_memory
):
    monkeypatch.setattr(machine, "available_memory", lambda: 1e9 if in_memory else 0)
    paths, photos = zip(splits["training"], splits["evaluation"], strict=True)
    losses = {}
    for C in (1e-4, 1e-2, 10.0):
        recipe = tiny_recipe(regression=Regression(C=C))
        fitted = regression.fit(paths, Splits(*photos, None), COLUMNS, recipe, MAX_ITERATIONS)
        losses[C] = log_loss(photos[1].labels, predict(fitted, paths[1], photos[1]))
    recipe = tiny_recipe(regression=Regression(C=tuple(losses)))
    fitted = regression.fit(paths, Splits(*photos, None), COLUMNS, recipe, MAX_ITERATIONS)
    assert min(losses, key=losses.get) == fitted.C
    assert f"the best C is {fitted.C:g}" in capsys.readouterr().err


def test_solver_stops_after_max_iterations(splits):
    assert fit_in_blocks(splits, FEW_ITERATIONS).n_iter_[0] == FEW_ITERATIONS


def test_regression_fitted_in_blocks_is_saved_and_loaded_like_scikit_learns(splits, tmp_path):
    fitted = fit_in_blocks(splits, FEW_ITERATIONS)
    skops.io.dump(fitted, tmp_path / "model.skops")
    # No type in the file needs to be trusted.
    loaded = skops.io.load(tmp_path / "model.skops", trusted=[])
    expected, found = (predict(each, *splits["evaluation"]) for each in (fitted, loaded))
    np.testing.assert_array_equal(found, expected)


# Memory


def fit_with_memory(splits, monkeypatch, available):
    """Fit as train.py does, on a machine with this much available memory in bytes."""
    monkeypatch.setattr(machine, "available_memory", lambda: available)
    paths, photos = zip(splits["training"], splits["evaluation"], strict=True)
    return regression.fit(paths, Splits(*photos, None), COLUMNS, tiny_recipe(), FEW_ITERATIONS)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_rows_that_fit_in_memory_are_fitted_in_memory(splits, monkeypatch, capsys):
    fitted = fit_with_memory(splits, monkeypatch, available=2 * ROWS * COLUMNS * 4)
    np.testing.assert_array_equal(fitted.coef_, fit_in_memory(splits, FEW_ITERATIONS).coef_)
    messages = capsys.readouterr().err
    assert "logistic regression: 660 photos, 30 features" in messages
    assert "blocks" not in messages


def test_rows_that_do_not_fit_in_memory_are_fitted_in_blocks(splits, monkeypatch, capsys):
    def read_all_rows(*_):
        pytest.fail("every row was read into memory")

    monkeypatch.setattr(features, "read_split", read_all_rows)
    # There is room for the rows, but scikit-learn needs more than that.
    fitted = fit_with_memory(splits, monkeypatch, available=ROWS * COLUMNS * 4)
    np.testing.assert_array_equal(fitted.coef_, fit_in_blocks(splits, FEW_ITERATIONS).coef_)
    messages = capsys.readouterr().err
    assert "660 rows of 30 features need" in messages
    assert "fitting in blocks of 256 rows" in messages


def memory_growth(path, few_rows, many_rows, columns):
    """Return how many MB more this process needs to fit many rows in blocks than for few rows."""
    block = np.random.default_rng(0).integers(0, 3, (500, columns)).astype(np.float32)
    peaks = []
    for count in (few_rows, many_rows):
        labels = np.arange(count) % 3
        features.write_csv(path, labels, (block for _ in range(count // 500)))
        regression.fit_in_blocks(path, photos_of(labels), columns, tiny_recipe(), 3)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)  # Linux counts kB
    return peaks[1] - peaks[0]


@pytest.mark.soak
def test_memory_of_blocks_does_not_grow_with_the_rows(tmp_path):
    """22,000 rows of 2,000 features are 176 MB."""
    # In a new process, because the peak of this one may have been higher before.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        growth = pool.apply(memory_growth, (tmp_path / "training.csv", 6000, 22_000, 2000))
    assert growth < 50


# Files


def test_fitting_in_blocks_leaves_no_array(splits):
    fit_in_blocks(splits, FEW_ITERATIONS)
    assert file_names(splits) == {"training.csv", "evaluation.csv"}


@pytest.mark.parametrize("when", ["while the array is written", "during the iterations"])
def test_interrupted_fit_leaves_no_array(splits, monkeypatch, when):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if when == "while the array is written":
        monkeypatch.setattr(features, "read_blocks", interrupt)
    else:
        monkeypatch.setattr(regression.BlockObjective, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_in_blocks(splits, FEW_ITERATIONS)
    assert file_names(splits) == {"training.csv", "evaluation.csv"}


@pytest.mark.parametrize("name", ["training.npy", "training.partial"])
def test_array_that_a_killed_run_has_left_is_not_used(splits, name):
    expected = fit_in_blocks(splits, FEW_ITERATIONS)
    # The rows of other features, with a valid header.
    left = ArrayFile(splits["training"][0].with_name(name), (ROWS, COLUMNS), "float32")
    zeros = np.zeros((ROWS, COLUMNS), np.float32)
    left.write(ROWS, lambda start: [zeros], lambda count: None)
    np.testing.assert_array_equal(fit_in_blocks(splits, FEW_ITERATIONS).coef_, expected.coef_)
    assert file_names(splits) == {"training.csv", "evaluation.csv"}


@pytest.mark.parametrize("fit", ["fit_in_memory", "fit_in_blocks"])
def test_rows_of_other_photos_or_columns_are_refused(splits, fit):
    path, photos = splits["training"]
    for wrong, columns in ((photos, COLUMNS + 1), (photos.take(range(500)), COLUMNS)):
        with pytest.raises(UserError, match="Make it again"):
            getattr(regression, fit)(path, wrong, columns, tiny_recipe(), MAX_ITERATIONS)
    assert file_names(splits) == {"training.csv", "evaluation.csv"}
