from pathlib import Path

import numpy as np
import pytest

from pyimagesearch import features, files
from pyimagesearch.console import UserError
from pyimagesearch.images import Photos

CLASSES = ("a", "b", "c")
BATCH = 16


def awkward_numbers(count, columns=5):
    """Return float32 numbers of every size, among them the smallest and the largest there are."""
    bits = np.random.default_rng(0).integers(0, 2**32, size=count * columns, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~np.isfinite(numbers)] = 0
    numbers[:4] = np.finfo(np.float32).max, -np.finfo(np.float32).tiny, 1e-45, -0.0
    return numbers.reshape(count, columns)


@pytest.fixture
def rows(monkeypatch):
    """Return more rows than are read at a time."""
    monkeypatch.setattr(features, "PIECE", 2000)
    return awkward_numbers(2 * features.SHUFFLED_ROWS + 7)


@pytest.fixture
def labels(rows):
    return np.arange(len(rows)) % len(CLASSES)


@pytest.fixture
def path(tmp_path, rows, labels):
    path = tmp_path / "tiny" / "features" / "training.csv"
    write(path, labels, rows)
    return path


def write(path, labels, rows, stop_before=None):
    """Write rows in batches of BATCH, or fail before the row `stop_before`; return the starts."""
    begun = []

    def outputs(start):
        begun.append(start)
        for first in range(start, len(rows), BATCH):
            if stop_before is not None and first >= stop_before:
                raise KeyboardInterrupt
            yield rows[first : first + BATCH]

    features.write_csv(path, labels, BATCH, outputs, lambda count: None)
    return begun


def photos_of(labels):
    return Photos(tuple(Path(f"{i}.jpg") for i in range(len(labels))), labels, CLASSES)


def same_bits(a, b):
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_a_csv_gives_back_every_bit(path, rows, labels):
    same_bits(features.read_split(path.parent, "training", photos_of(labels), 5), rows)


@pytest.mark.parametrize("zeros", [0.5, 0.95, 1])
def test_zeros_come_back_where_they_stood(tmp_path, zeros):
    rng = np.random.default_rng(1)
    rows = np.where(rng.random((40, 9)) < zeros, 0, rng.normal(size=(40, 9))).astype(np.float32)
    rows[5, 2:4] = -0.0, 10
    path, labels = tmp_path / "training.csv", np.arange(40) % len(CLASSES)
    write(path, labels, rows)
    same_bits(features.read_split(tmp_path, "training", photos_of(labels), 9), rows)


@pytest.mark.parametrize("cell", ["", " ", "x", "nan", "0x", "0 0", '"0"'])
def test_a_cell_between_zeros_that_is_no_number_is_refused(tmp_path, cell):
    path = tmp_path / "tiny" / "training.csv"
    path.parent.mkdir()
    path.write_text(f"0,0,0,0\n1,0,{cell},0\n2,0,0,0\n")
    with pytest.raises(UserError, match=r"damaged|not numbers"):
        list(features.read_pieces(path, CLASSES))


def test_pieces_hold_only_so_many_rows(path, rows):
    sizes = [len(piece) for piece, _ in features.read_pieces(path, CLASSES)]
    assert sum(sizes) == len(rows)
    longest = max(map(len, path.read_bytes().splitlines()))
    assert len(sizes) > 3
    assert max(sizes) * 10 <= features.PIECE + longest


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


@pytest.mark.parametrize("stop_before", [0, BATCH, 5 * BATCH])
@pytest.mark.parametrize("torn", [0, 1, 30, 200])
def test_an_interrupted_csv_goes_on_behind_its_last_whole_batch(
    path, rows, labels, stop_before, torn
):
    expected = path.read_bytes()
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        write(path, labels, rows, stop_before)
    assert not path.exists()
    partial = files.partial_of(path)
    kept = partial.read_bytes()
    assert expected.startswith(kept)
    # As a power cut leaves it: the end is lost, or torn off in the middle of a row.
    partial.write_bytes(kept[: max(0, len(kept) - torn)])
    [start] = write(path, labels, rows)
    assert start == (max(0, stop_before - BATCH) if torn and kept else stop_before)
    assert path.read_bytes() == expected
    assert not partial.exists()


def test_a_csv_whose_last_row_was_written_is_only_renamed(path, rows, labels):
    expected = path.read_bytes()
    path.rename(files.partial_of(path))
    assert write(path, labels, rows) == [len(rows)]
    assert path.read_bytes() == expected


def test_what_was_begun_from_other_photos_is_forgotten(tmp_path):
    features.begin(tmp_path, {"photos": 1})
    (tmp_path / "training.partial").touch()
    (tmp_path / "validation.csv").write_text("0,1\n")
    features.note(tmp_path / "validation.csv", 2.5, finished=True)
    features.note(tmp_path / "training.csv", 4.5, finished=False)
    features.begin(tmp_path, {"photos": 1})
    assert (tmp_path / "training.partial").exists()
    assert features.noted(tmp_path / "validation.csv") == (2.5, True)
    assert features.noted(tmp_path / "training.csv") == (4.5, False)
    (tmp_path / "validation.csv").write_text("0,1\n1,1\n")
    assert features.noted(tmp_path / "validation.csv") == (0, False)
    features.begin(tmp_path, {"photos": 2})
    assert not (tmp_path / "training.partial").exists()
    assert features.noted(tmp_path / "validation.csv") == (0, False)
