from pathlib import Path

import numpy as np
import pytest

from pyimagesearch import features
from pyimagesearch.console import UserError
from pyimagesearch.images import Photos

CLASSES = ("a", "b", "c")


def awkward_numbers(count, columns=5):
    """Return float32 numbers of every size, among them the smallest and the largest there are."""
    bits = np.random.default_rng(0).integers(0, 2**32, size=count * columns, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~np.isfinite(numbers)] = 0
    numbers[:4] = np.finfo(np.float32).max, -np.finfo(np.float32).tiny, 1e-45, -0.0
    return numbers.reshape(count, columns)


@pytest.fixture
def rows():
    """Return more rows than are read at a time."""
    return awkward_numbers(2 * features.PIECE + 7)


@pytest.fixture
def labels(rows):
    return np.arange(len(rows)) % len(CLASSES)


@pytest.fixture
def path(tmp_path, rows, labels):
    path = tmp_path / "tiny" / "features" / "training.csv"
    batches = np.array_split(rows, 9)
    features.write_csv(path, labels, batches, lambda count: None)
    return path


def photos_of(labels):
    return Photos(tuple(Path(f"{i}.jpg") for i in range(len(labels))), labels, CLASSES)


def same_bits(a, b):
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_a_csv_gives_back_every_bit(path, rows, labels):
    same_bits(features.read_split(path.parent, "training", photos_of(labels), 5), rows)


def test_pieces_hold_only_so_many_rows(path, rows):
    sizes = [len(piece) for piece, _ in features.read_pieces(path, CLASSES)]
    assert sizes == [features.PIECE, features.PIECE, 7]


def test_shuffled_pieces_give_every_row_with_its_label(path, rows, labels):
    order = np.random.default_rng(1).permutation(len(rows))
    starts = features.row_starts(path)
    pieces = list(features.read_shuffled(path, CLASSES, starts, order))
    same_bits(np.concatenate([piece for piece, _, _ in pieces]), rows[order])
    np.testing.assert_array_equal(np.concatenate([each for _, each, _ in pieces]), labels[order])
    np.testing.assert_array_equal(np.concatenate([each for _, _, each in pieces]), order)


def test_row_starts_are_where_the_rows_begin(path, rows):
    text = path.read_bytes()
    starts = features.row_starts(path)
    assert len(starts) == len(rows)
    assert [text[start - 1 : start] for start in starts[1:]] == [b"\n"] * (len(rows) - 1)


def test_rows_of_other_photos_are_refused(path, labels):
    other = labels.copy()
    other[-1] = (other[-1] + 1) % len(CLASSES)
    for wrong in (other, labels[:-1], np.append(labels, 0)):
        with pytest.raises(UserError, match="rows that are not the"):
            features.read_split(path.parent, "training", photos_of(wrong), 5)


def test_a_damaged_row_far_down_is_refused(path, labels):
    text = path.read_text().replace(",", ";", 1)
    first_bad, in_the_middle = text.encode(), path.read_bytes()[:-40] + b",,\n"
    for damaged in (first_bad, in_the_middle):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            features.read_split(path.parent, "training", photos_of(labels), 5)
