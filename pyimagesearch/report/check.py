"""check.html: near-copies in two splits, suspicious labels, and the sizes of the classes.

The features are those of the backbone before any training here: it has not seen the labels.
"""

import itertools
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from pyimagesearch.report import figures
from pyimagesearch.report.markup import render
from pyimagesearch.support import calibration, console, files, similarity

NAME = "check.html"
TEMPLATE = "check.html.jinja"
# Of 2,046 photos of dishes, cats and dogs, the pairs above 0.9 were copies; the most similar pair
# of two different photos had 0.891. docs/check.md says more.
ALMOST_SAME = 0.92
BLOCK_ROWS = 512  # photos whose similarities are in memory at once
FOLDS = 5  # of the cross-validation; smaller classes are not checked
SETTINGS = {"C": 10, "max_iter": 100}
MAX_PAIRS, MAX_PER_CLASS = 30, 10  # shown
UNEQUAL = 2  # a larger ratio of class sizes is worth class weights


class Found(NamedTuple):
    """The positions of photos, counted through all splits."""

    pairs: list  # of (similarity, photo, its near-copy in an earlier split), most similar first
    suspicious: list  # of (photo, label that the others suggest, its probability)


def write(path, recipe, splits, pooled, logits):
    """Write the page to a path, and print the path and the counts.

    Args:
        splits: datasets.Splits.
        pooled: the (n, channels) features of each split.
        logits: (n, classes) of the evaluation photos.
    """
    used = [0, 1, 2]
    if splits.validation.paths == splits.evaluation.paths:
        used = [0, 2]
    photos, names = [splits[k] for k in used], [splits._fields[k] for k in used]
    labels = np.concatenate([each.labels for each in photos])
    rows = similarity.unit_rows(np.concatenate([pooled[k] for k in used]))
    starts = np.cumsum([0, *map(len, photos)])
    found = Found(near_copies(rows, starts), suspicious_labels(rows, labels))

    everything = [
        (path, name) for each, name in zip(photos, names, strict=True) for path in each.paths
    ]
    concerned = np.array([photo for _, photo, _ in found.pairs], int) - starts[-2]
    page = render(
        TEMPLATE,
        name=recipe.name,
        pairs=pair_card(found.pairs, everything),
        pair_count=len(found.pairs),
        labels=label_card(found.suspicious, everything, labels, splits.training.classes),
        **accuracies(concerned[concerned >= 0], splits.evaluation.labels, logits),
        **class_sizes(recipe, splits.training, labels),
    )
    files.write_text(path, page)
    console.info(
        f"check: {len(found.pairs):,} near-copies in two splits, "
        f"{len(found.suspicious):,} labels to look at -> {path}"
    )


def near_copies(rows, starts):
    """Return the `pairs` of Found: each photo with the most similar one of the earlier splits.

    `rows` are (n, channels) of length 1, and `starts` the first position of each split, then n.
    """
    pairs = []
    for start, end in itertools.pairwise(starts[1:]):
        for first in range(start, end, BLOCK_ROWS):
            block = range(first, min(first + BLOCK_ROWS, end))
            cosines = rows[block.start : block.stop] @ rows[:start].T
            nearest, highest = cosines.argmax(axis=1), cosines.max(axis=1)
            each = zip(highest.tolist(), block, nearest.tolist(), strict=True)
            pairs += [pair for pair in each if pair[0] >= ALMOST_SAME]
    return sorted(pairs, reverse=True)


def suspicious_labels(rows, labels):
    """Return the `suspicious` of Found: up to MAX_PER_CLASS of each class, the worst first.

    Each photo is predicted by logistic regression that was fitted without it. Its label is
    suspicious if another class has a higher probability than the photos of that class have on
    average.

    Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021, arXiv 1911.00068.
    """
    checked = np.flatnonzero(np.bincount(labels)[labels] >= FOLDS)
    classes, given = np.unique(labels[checked], return_inverse=True)
    if len(classes) < 2:
        return []
    with warnings.catch_warnings():
        # An approximate solution is enough to compare probabilities.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probabilities = cross_val_predict(
            LogisticRegression(**SETTINGS),
            rows[checked],
            given,
            cv=StratifiedKFold(FOLDS),
            method="predict_proba",
        )
    everyone = np.arange(len(given))
    own = probabilities[everyone, given]
    usual = np.bincount(given, own) / np.bincount(given)
    other = probabilities.argmax(axis=1)
    highest = probabilities[everyone, other]
    found = []
    for label in range(len(classes)):
        is_wrong = (given == label) & (other != label) & (highest >= usual[other])
        positions = np.flatnonzero(is_wrong)
        positions = positions[np.argsort(own[positions] - highest[positions], kind="stable")]
        for position in positions[:MAX_PER_CLASS]:
            suggestion = int(classes[other[position]]), float(highest[position])
            found.append((int(checked[position]), *suggestion))
    return found


def accuracies(concerned, truth, logits):
    """Return the accuracy on all evaluation photos, and without those at these positions."""
    correct = calibration.probabilities(logits, 1).argmax(axis=1) == truth
    rest = np.delete(correct, concerned)
    without = float(rest.mean()) if len(rest) else None
    return {"concerned": len(concerned), "accuracy": float(correct.mean()), "without": without}


def class_sizes(recipe, training, labels):
    """Return what the page says about the sizes of the classes; `labels` are of all photos."""
    classes = training.classes
    counts = np.bincount(training.labels, minlength=len(classes))
    ratio = counts.max() / max(counts.min(), 1)
    advice = 'class_weights="balanced",' if ratio >= UNEQUAL and not recipe.class_weights else None
    small = np.bincount(labels, minlength=len(classes)) < FOLDS
    unchecked = [name for name, is_small in zip(classes, small, strict=True) if is_small]
    sizes = dict(zip(classes, counts.tolist(), strict=True))
    return {"ratio": ratio, "advice": advice, "unchecked": unchecked, "counts": sizes}


def tile(photo, everything, **caption):
    """Return the figures.Tile of a photo; `everything` has its (path, split)."""
    path, split = everything[photo]
    return figures.photo_tile(path, f"{split}/{path.parent.name}/{path.name}", **caption)


def pair_card(pairs, everything):
    """Return the photo sheet of near-copies, for the template."""
    tiles = []
    for value, *both in pairs[:MAX_PAIRS]:
        for photo in both:
            path, split = everything[photo]
            tiles.append(tile(photo, everything, name=split, note=path.parent.name))
        tiles[-1] = tiles[-1]._replace(percentage=f"{value:.3f}")
    shown = f"The {MAX_PAIRS} most similar pairs are shown. " if len(pairs) > MAX_PAIRS else ""
    return {
        "title": "Pairs, side by side",
        "caption": f"{shown}Below each photo: its split and its class; at the end, the similarity.",
        "sheet": {"": tiles},
        "columns": (6, 2),
        "headings_per_row": 1,
    }


def label_card(suspicious, everything, labels, classes):
    """Return the photo sheet of suspicious labels, for the template."""
    sheet = {}
    for photo, other, probability in suspicious:
        heading = f"labelled {classes[labels[photo]]}"
        share = f"{100 * probability:.0f}\N{NO-BREAK SPACE}%"
        name, note = f"{classes[other]}?", everything[photo][1]
        sheet.setdefault(heading, []).append(
            tile(photo, everything, name=name, percentage=share, note=note)
        )
    return {
        "title": "Photos whose label the others contradict",
        "caption": "Below each photo: the class that the other photos suggest, with its "
        "probability, and the split. Not all of them are wrong: some photos are just unusual.",
        "sheet": sheet,
        "columns": (5, 2),
        "headings_per_row": 1,
    }
