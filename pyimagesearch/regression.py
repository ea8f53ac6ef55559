"""Logistic regression on features: in memory if they fit, else in blocks of rows."""

import copy
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_sample_weight

from pyimagesearch import features
from pyimagesearch.support import calibration, console, machine
from pyimagesearch.support.array_files import ArrayFile

BLOCK_ROWS = 512  # 50 MB of VGG16's 25,088 features
# When scikit-learn's solver stops: its `tol`, and the relative change of the loss.
GRADIENT_TOLERANCE, LOSS_TOLERANCE = 1e-4, 64 * np.finfo(float).eps


def fit(paths, splits, columns, recipe, max_iterations):
    """Return the LogisticRegression of a recipe, fitted to the features of its training photos.

    Args:
        paths: of training.csv, validation.csv and evaluation.csv.
        splits: the datasets.Splits of their photos.
        columns: the number of features.
        recipe: its `regression` and its `class_weights` are used.
        max_iterations: of each fit.

    Raises UserError if a CSV is damaged, or if its rows are not those of the photos.
    """
    photos = splits.training
    needed = features.fitting_bytes(len(photos), columns)
    available, stopwatch = machine.available_memory(), console.Stopwatch()
    fit_all = fit_in_memory
    if needed > available:
        console.info(
            f"{len(photos):,} rows of {columns:,} features need {needed / 1e9:.1f} GB of memory, "
            f"and {available / 1e9:.1f} GB are available: fitting in blocks of {BLOCK_ROWS} rows"
        )
        fit_all = fit_in_blocks
    fitted = fit_all(paths[0], photos, columns, recipe, max_iterations)
    best, words = fitted[0], ""
    if len(fitted) > 1:
        blocks = features.read_blocks(paths[1], splits.validation, columns)
        best = choose_best(fitted, blocks, splits.validation.labels)
        words = f", the best C is {best.C:g}"
    console.info(
        f"logistic regression: {len(photos):,} photos, {columns:,} features, "
        f"{best.n_iter_[0]} iterations{words} ({stopwatch})"
    )
    return best


def choose_best(fitted, blocks, labels):
    """Return the LogisticRegression with the lowest log loss.

    `blocks` iterates over (rows, features) arrays of the photos with these labels, in their order.
    """
    per_block = [[compute_logits(each, rows) for each in fitted] for rows in blocks]
    logits = map(np.concatenate, zip(*per_block, strict=True))
    losses = [calibration.log_loss(each, labels) for each in logits]
    return fitted[int(np.argmin(losses))]


def fit_in_memory(path, photos, columns, recipe, max_iterations):
    """Return a LogisticRegression for each C, fitted with all rows in memory."""
    rows = features.read_split(path, photos, columns)
    return fit_rows(rows, photos.labels, recipe, max_iterations)


def fit_rows(rows, labels, recipe, max_iterations):
    """Return a LogisticRegression for each C, fitted to (n, features) rows and (n,) labels."""
    settings = {"max_iter": max_iterations, "class_weight": recipe.class_weights}
    candidates = (LogisticRegression(C=C, **settings) for C in recipe.regression.candidates)
    return [candidate.fit(rows, labels) for candidate in candidates]


def fit_in_blocks(path, photos, columns, recipe, max_iterations):
    """Return a LogisticRegression for each C, fitted with a few rows in memory at a time.

    The objective is that of scikit-learn's LogisticRegression: the weighted mean of the log loss,
    plus the squared coefficients divided by 2 C and the number of rows. Its solver, L-BFGS, needs
    one pass over the rows for each value of the objective.
    """
    array_file = ArrayFile(Path(path).with_suffix(".npy"), (len(photos), columns), "float32")
    array_file.delete()  # what a killed run has left may be of other features

    def all_blocks(start):
        return features.read_blocks(path, photos, columns)

    try:
        # An array is read several times faster than a CSV, and is read in every iteration.
        with console.progress("features", len(photos)) as advance:
            array_file.write(BLOCK_ROWS, all_blocks, advance)
        row_weights = compute_sample_weight(recipe.class_weights, photos.labels)
        objective = BlockObjective(array_file, photos.labels, len(photos.classes), row_weights)
        return [minimize_loss(objective, C, max_iterations) for C in recipe.regression.candidates]
    finally:
        # It is as large as all rows in memory.
        array_file.delete()


def minimize_loss(objective, C, max_iterations):
    """Return the LogisticRegression with the lowest value of a BlockObjective."""
    options = {"maxiter": max_iterations, "gtol": GRADIENT_TOLERANCE, "ftol": LOSS_TOLERANCE}
    with console.progress("iterations of logistic regression", max_iterations) as advance:
        solution = minimize(
            objective,
            np.zeros(objective.shape).ravel(),
            args=(C,),
            jac=True,
            method="L-BFGS-B",
            options=options,
            callback=lambda _: advance(1),
        )
    return as_regression(solution.x.reshape(objective.shape), C, solution.nit)


class BlockObjective:
    """The loss of logistic regression and its gradient, added up over blocks of rows.

    The parameters are (classes, features + 1), the intercept last. Two classes have one row, the
    logit of the second class.
    """

    def __init__(self, array_file, labels, class_count, row_weights):
        self.array_file, self.labels, self.class_count = array_file, labels, class_count
        self.row_weights = row_weights  # their sum is the number of rows
        self.shape = (1 if class_count == 2 else class_count, array_file.shape[1] + 1)

    def __call__(self, parameters, C):
        """Return (loss, gradient) of flat parameters, for scikit-learn's C."""
        parameters = parameters.reshape(self.shape)
        coefficients, intercepts = parameters[:, :-1], parameters[:, -1]
        loss, gradient = 0.0, np.zeros(self.shape)
        count = len(self.labels)
        for start in range(0, count, BLOCK_ROWS):
            # Mapped anew for each block, so that the pages of the last one can be freed.
            rows = np.asarray(self.array_file.read()[start : start + BLOCK_ROWS])
            logits = rows @ coefficients.T.astype(np.float32) + intercepts
            logits = calibration.class_logits(logits)
            labels = self.labels[start : start + BLOCK_ROWS]
            weights = self.row_weights[start : start + BLOCK_ROWS]
            loss -= weights @ log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
            errors = softmax(logits, axis=1) - np.eye(self.class_count)[labels]
            errors *= weights[:, np.newaxis]
            errors = errors[:, -len(parameters) :]
            gradient[:, :-1] += errors.T.astype(np.float32) @ rows
            gradient[:, -1] += errors.sum(axis=0)
        loss += (coefficients**2).sum() / (2 * C)
        gradient[:, :-1] += coefficients / C
        return loss / count, (gradient / count).ravel()


def as_regression(parameters, C, iterations):
    """Return a fitted LogisticRegression with these (classes, features + 1) parameters."""
    regression = LogisticRegression(C=C)
    regression.classes_ = np.arange(max(2, len(parameters)))
    regression.coef_, regression.intercept_ = parameters[:, :-1], parameters[:, -1]
    regression.n_features_in_ = parameters.shape[1] - 1
    regression.n_iter_ = np.array([iterations], dtype=np.int32)
    return regression


def compute_outputs(regression, path, photos, recorded):
    """Return [(n, classes) logits, (n, channels) pooled features] of the rows of a CSV.

    Two classes have one column of logits, that of the second class. Pooled are the features of the
    last feature map. `recorded` is what features.require returns. Errors are those of `fit`.
    """
    logits, pooled = [], []
    for rows in features.read_blocks(path, photos, regression.n_features_in_):
        logits.append(compute_logits(regression, rows))
        # Flattened features are a row of channels for each place of the photo.
        last_map = rows[:, : recorded["columns_of_last_map"]]
        pooled.append(last_map.reshape(len(rows), -1, recorded["channels"]).mean(axis=1))
    return [np.concatenate(logits), np.concatenate(pooled)]


def compute_logits(regression, rows):
    """Return (n, classes) logits of (n, features) rows, or (n, 1) if there are two classes."""
    return regression.decision_function(rows).reshape(len(rows), -1)


def calibrated_copy(regression, temperature):
    """Return a copy of a LogisticRegression whose logits are divided by a temperature."""
    result = copy.copy(regression)
    result.coef_ = regression.coef_ / temperature
    result.intercept_ = regression.intercept_ / temperature
    return result
