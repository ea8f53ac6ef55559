"""Logistic regression on features: at once where they fit in memory, else in pieces."""

import os
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from pyimagesearch import console, features, files

# How often the rows are gone over in pieces, and Adam's learning rate. On 1,000 photos of ten
# dishes, by 750 validation photos, two seeds: 0.60 after one pass, 0.66 after three, 0.68 after
# six, where logistic regression at once gets 0.69.
PASSES, LEARNING_RATE = 6, 0.02
# What skops does not trust of its own accord in a perceptron that is still learning.
TRUSTED = ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]
# Where Linux says how much memory is free, and how much a container may take.
MEMORY, CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# What fitting at once takes besides the features themselves.
MARGIN = 1.3


def fit(folder, split, photos, columns, seed):
    """Return (a fitted scikit-learn classifier, what was done in words).

    Args:
        folder: of the CSV files.
        split: which of them to learn from.
        photos: images.Photos, a row each.
        columns: features a row.
        seed: an int.

    Raises:
        UserError: the CSV is damaged or is not of these photos.
    """
    needed, free = len(photos) * columns * 4 * MARGIN, available_memory()
    if needed < free:
        return fit_at_once(folder, split, photos, columns, seed)
    console.info(
        f"{len(photos):,} rows of {columns:,} features need {needed / 1e9:.1f} GB of memory, and "
        f"{free / 1e9:.1f} GB are free: going over {split}.csv in pieces, {PASSES} times"
    )
    return fit_in_pieces(folder, split, photos, columns, seed)


def fit_at_once(folder, split, photos, columns, seed):
    """Fit with every row in memory; arguments and result as of `fit`."""
    rows = features.read_split(folder, split, photos, columns)
    regression = LogisticRegression(solver="lbfgs", max_iter=1000, random_state=seed)
    regression.fit(rows, photos.labels)
    return regression, f"{regression.n_iter_[0]} iterations"


def fit_in_pieces(folder, split, photos, columns, seed):
    """Fit with a few rows in memory at a time; arguments and result as of `fit`.

    A perceptron without a hidden layer is logistic regression; scikit-learn's can learn a piece
    at a time, in random order, from rows of length one. An interrupted one goes on behind its last
    whole pass.
    """
    path = Path(folder) / f"{split}.csv"
    starts = features.row_starts(path)
    if len(starts) != len(photos):
        raise features.other_rows(path, photos)
    of = (files.file_stamp(path), seed, PASSES, LEARNING_RATE, version("scikit-learn"))
    kept = path.with_name(f"{split}_{files.digest(*of)}.skops")
    perceptron, passed = resume(kept, seed)
    normalizer, classes = Normalizer(), np.arange(len(photos.classes))
    with console.progress("logistic regression", PASSES * len(photos)) as done:
        done(passed * len(photos))
        for number in range(passed, PASSES):
            order = np.random.default_rng((seed, number)).permutation(len(photos))
            for rows, labels, positions in features.read_shuffled(
                path, photos.classes, starts, order
            ):
                features.refuse_others(path, rows, labels, columns, photos, positions)
                perceptron.partial_fit(normalizer.transform(rows), labels, classes=classes)
                done(len(rows))
            with files.whole(kept) as partial:
                skops.io.dump((perceptron, number + 1), partial)
    files.remove(kept)
    # Its weights in the class that says what they are.
    regression = LogisticRegression()
    regression.classes_ = classes
    regression.coef_ = perceptron.coefs_[0].T
    regression.intercept_ = perceptron.intercepts_[0]
    regression.n_features_in_ = columns
    return Pipeline([("length_one", normalizer), ("regression", regression)]), f"{PASSES} passes"


def resume(kept, seed):
    """Return (perceptron, passes it has made): the one on disk, where there is a whole one."""
    # What is there of other rows or settings will not be asked for again.
    for other in kept.parent.glob(f"{kept.stem.rsplit('_', 1)[0]}_*.skops"):
        if other != kept:
            other.unlink()
    if zipfile.is_zipfile(kept):
        perceptron, passed = skops.io.load(kept, trusted=TRUSTED)
        console.info(f"going on after pass {passed} of {PASSES}")
        return perceptron, passed
    return MLPClassifier((), learning_rate_init=LEARNING_RATE, random_state=seed), 0


def ask(regression, folder, split, photos, columns):
    """Return the (n, classes) probabilities of the rows of a CSV, read in pieces."""
    pieces = features.read_checked(folder, split, photos, columns)
    return np.concatenate([regression.predict_proba(rows) for rows in pieces])


def available_memory():
    """Return how many bytes a process may take without the machine beginning to swap.

    Where Linux does not say, half of what the machine has. In a container, what its limit leaves.
    """
    try:
        words = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        available = int(words["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        limit, used = (int((CONTAINER / f"memory.{e}").read_text()) for e in ("max", "current"))
        words = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        # Files that were read or written lately count as used, and make room when it is needed.
        return min(available, limit - used + int(words["inactive_file"]))
    except (OSError, ValueError, KeyError):  # a limit of "max" is none
        return available
