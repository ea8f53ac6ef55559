"""check.html: near-copies, suspicious labels and the sizes of the classes, from made features."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, make_photo, tiny_recipe

from pyimagesearch.datasets import Photos, Splits
from pyimagesearch.report import check
from pyimagesearch.support import similarity


def directions(labels, seed=0, size=16, noise=0.1):
    """Return features around a direction per label."""
    return np.eye(size)[labels] + np.random.default_rng(seed).normal(0, noise, (len(labels), size))


def made_splits(counts):
    """Return Splits with so many photos of each class, which are written, and their features."""
    labels = np.repeat(np.arange(len(counts)), counts)
    splits, pooled = [], []
    for seed, name in enumerate(Splits._fields):
        paths = tuple(Path(name, f"{number}.jpg") for number in range(len(labels)))
        for number, path in enumerate(paths):
            make_photo(path, labels[number], number)
        splits.append(Photos(paths, labels.copy(), CLASSES))
        pooled.append(directions(labels, seed, noise=0.4))
    return Splits(*splits), pooled


def test_near_copy_is_found_in_an_earlier_split_only():
    rows = similarity.unit_rows(np.random.default_rng(0).normal(size=(12, 16)))
    rows[1] = rows[0]  # in the same split
    rows[5], rows[9], rows[10] = rows[2], rows[3], rows[6]
    pairs = check.near_copies(rows, np.array([0, 4, 8, 12]))
    assert {pair[1:] for pair in pairs} == {(5, 2), (9, 3), (10, 6)}


def test_flipped_label_is_suspicious_with_the_class_of_its_neighbours():
    labels = np.repeat([0, 1, 2], 20)
    rows = directions(labels)
    given = labels.copy()
    given[[3, 45]] = 1
    found = check.suspicious_labels(rows, given)
    assert {(photo, other) for photo, other, _ in found} == {(3, 0), (45, 2)}


@pytest.mark.parametrize("labels", [[0, 1], [0] * 9, [0] * 9 + [1] * 4, []])
def test_classes_of_few_photos_have_no_suspicious_labels(labels):
    labels = np.array(labels, int)
    assert check.suspicious_labels(directions(labels), labels) == []


def test_accuracy_without_near_copies_leaves_them_out():
    logits = np.eye(2)[[0, 0, 1, 1]]
    found = check.accuracies(np.array([0, 1]), np.array([0, 0, 0, 1]), logits)
    assert found == {"concerned": 2, "accuracy": 0.75, "without": 0.5}


def test_class_weights_are_advised_only_if_sizes_differ_and_the_recipe_has_none():
    photos, _ = made_splits((6, 2, 2))
    for labels, weights, advised in (
        (photos.training.labels, None, True),
        (photos.training.labels, "balanced", False),
        (np.arange(9) % 3, None, False),
    ):
        training = Photos((), labels, CLASSES)
        found = check.class_sizes(tiny_recipe(class_weights=weights), training, labels)
        assert (found["advice"] is not None) == advised


def test_page_shows_the_pair_the_label_and_the_line_to_add(capsys):
    splits, pooled = made_splits((12, 6, 5))
    pooled[2][4] = pooled[0][7]
    splits.training.labels[1] = 1
    pooled[0][1] = 3 * np.eye(16)[0]
    check.write(
        Path("check.html"), tiny_recipe(), splits, pooled, np.eye(3)[splits.evaluation.labels]
    )
    text = Path("check.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for words in ("training/training/7.jpg", "evaluation/evaluation/4.jpg", "zebra?"):
        assert words in text
    assert "class_weights=&#34;balanced&#34;" in text
    assert "check: 1 near-copies in two splits" in capsys.readouterr().err
