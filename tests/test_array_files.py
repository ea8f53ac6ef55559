"""Large arrays on disk: written batch by batch, resumed after their last whole batch."""

import ml_dtypes
import numpy as np
import pytest

from pyimagesearch.support import array_files, files
from pyimagesearch.support.array_files import ArrayFile

BATCH_SIZE = 4
ROWS = np.arange(60, dtype=np.float32).reshape(10, 2, 3)  # bfloat16 represents them exactly
HEADER_BYTES, ROW_BYTES = 128, 12


@pytest.fixture
def array_file(tmp_path):
    return ArrayFile(tmp_path / "rows.npy", ROWS.shape, "bfloat16")


def write(array_file, batches=None):
    """Write the rows, or stop after some batches; return the rows at which writing started."""
    starts, advanced = [], []

    def batches_from(start):
        starts.append(start)
        for number, first in enumerate(range(start, len(ROWS), BATCH_SIZE)):
            if number == batches:
                raise KeyboardInterrupt
            yield ROWS[first : first + BATCH_SIZE]

    array_file.write(BATCH_SIZE, batches_from, advanced.append)
    assert sum(advanced) == len(ROWS)
    return starts


def test_rows_are_read_back_exactly(array_file):
    write(array_file)
    rows = array_file.read()
    assert rows.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(rows, ROWS)
    assert array_file.path.stat().st_size == array_file.total_bytes
    assert array_file.missing_bytes == 0


def test_float32_is_not_rounded(tmp_path):
    numbers = np.random.default_rng(0).random(ROWS.shape, np.float32)
    array_file = ArrayFile(tmp_path / "a.npy", ROWS.shape, "float32")
    array_file.write(len(numbers), lambda start: [numbers], lambda count: None)
    np.testing.assert_array_equal(array_file.read(), numbers)
    np.testing.assert_array_equal(np.load(array_file.path), numbers)


@pytest.mark.parametrize("dtype", array_files.DTYPES)
def test_single_row_is_that_of_the_whole_array(tmp_path, dtype):
    array_file = ArrayFile(tmp_path / "a.npy", ROWS.shape, dtype)
    write(array_file)
    for position in (0, 3, len(ROWS) - 1):
        row = array_file.read_row(position)
        assert row.dtype == array_file.read().dtype
        np.testing.assert_array_equal(row, ROWS[position])
        assert row.base is None or not isinstance(row.base, np.memmap)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_interrupted_writing_resumes_after_the_last_whole_batch(array_file, batches):
    with pytest.raises(KeyboardInterrupt):
        write(array_file, batches)
    assert not array_file.path.exists()
    missing_rows = len(ROWS) - batches * BATCH_SIZE
    assert array_file.missing_bytes == missing_rows * ROW_BYTES
    assert write(array_file) == [batches * BATCH_SIZE]
    np.testing.assert_array_equal(array_file.read(), ROWS)
    assert list(array_file.path.parent.iterdir()) == [array_file.path]


@pytest.mark.parametrize("size", [0, 1, 60, 128, 129, 128 + 12 * 4 - 1, 128 + 12 * 4, 128 + 12 * 7])
def test_writing_killed_at_any_byte_resumes_after_the_last_whole_batch(array_file, size):
    write(array_file)
    expected = array_file.path.read_bytes()
    array_file.path.unlink()
    files.partial_path(array_file.path).write_bytes(expected[:size])
    whole_batches = max(0, size - HEADER_BYTES) // (ROW_BYTES * BATCH_SIZE)
    assert write(array_file) == [whole_batches * BATCH_SIZE]
    assert array_file.path.read_bytes() == expected


def test_writing_killed_before_the_file_was_renamed_writes_no_row_again(array_file):
    """All rows are whole batches, although the last batch is smaller."""
    write(array_file)
    array_file.path.rename(files.partial_path(array_file.path))
    assert array_file.missing_bytes == 0
    assert write(array_file) == [len(ROWS)]
    np.testing.assert_array_equal(array_file.read(), ROWS)


def test_partial_file_with_another_header_starts_anew(array_file):
    files.partial_path(array_file.path).write_bytes(b"\0" * 300)
    assert write(array_file) == [0]
    np.testing.assert_array_equal(array_file.read(), ROWS)


def test_delete_others_keeps_listed_files_and_their_partial_ones(tmp_path):
    listed = [ArrayFile(tmp_path / f"{name}.npy", (3, 2), "bfloat16") for name in "ab"]
    for name in ("a.npy", "old.npy"):
        np.save(tmp_path / name, np.zeros((3, 2), np.uint16))
    for name in ("b.partial", "old.partial", "other.txt"):
        (tmp_path / name).touch()
    array_files.delete_others(tmp_path, listed)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.npy", "b.partial", "other.txt"}


@pytest.mark.parametrize("size", [0, 60, 139, 141])
def test_delete_others_deletes_a_file_of_the_wrong_size(tmp_path, size):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 2), np.uint16))
    assert path.stat().st_size == 140
    path.write_bytes((path.read_bytes() + b"more")[:size])
    array_files.delete_others(tmp_path, [ArrayFile(path, (3, 2), "bfloat16")])
    assert not path.exists()
