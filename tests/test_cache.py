import ml_dtypes
import numpy as np
import pytest

from pyimagesearch import cache, files
from pyimagesearch.console import UserError

SHAPE, BATCH = (10, 2, 3), 4


def rows(view):
    """Return made numbers that a bfloat16 holds exactly."""
    return np.arange(60, dtype=np.float32).reshape(SHAPE) + 64 * view


def outputs_that_stop_after(batches, starts):
    """Return `outputs` for cache.open_stored, cut off by Ctrl-C after so many batches."""

    def outputs(view, start):
        starts.append((view, start))
        for number, first in enumerate(range(start, len(rows(view)), BATCH)):
            if number == batches:
                raise KeyboardInterrupt
            yield rows(view)[first : first + BATCH]

    return outputs


def paths(folder):
    return [folder / "a_0.npy", folder / "a_1.npy"]


def open_all(folder, batches=None):
    starts = []
    stored = cache.open_stored(
        paths(folder), SHAPE, cache.BFLOAT16, BATCH, outputs_that_stop_after(batches, starts)
    )
    return stored, starts


def test_stored_views_are_read_back_exactly(tmp_path):
    stored, _ = open_all(tmp_path)
    seen = stored.read([0, 1, 1], [9, 0, 3])
    np.testing.assert_array_equal(seen, [rows(0)[9], rows(1)[0], rows(1)[3]])
    assert seen.dtype == ml_dtypes.bfloat16


def test_what_is_kept_in_32_bits_is_not_rounded(tmp_path):
    numbers = np.random.default_rng(0).random(SHAPE, np.float32)
    for _ in range(2):  # made, and found on the disk
        stored = cache.open_stored(
            [tmp_path / "a.npy"], SHAPE, cache.FLOAT32, len(numbers), lambda view, start: [numbers]
        )
        seen = stored.read([0] * len(numbers), range(len(numbers)))
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, numbers)


def test_views_on_disk_are_not_computed_again(tmp_path):
    open_all(tmp_path)
    _, starts = open_all(tmp_path)
    assert starts == []


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, batches):
    with pytest.raises(KeyboardInterrupt):
        open_all(tmp_path, batches)
    assert not any(path.exists() for path in paths(tmp_path))
    stored, starts = open_all(tmp_path)
    assert starts == [(0, batches * BATCH), (1, 0)]
    for view in (0, 1):
        np.testing.assert_array_equal(stored.read([view] * 10, range(10)), rows(view))
    assert sorted(tmp_path.iterdir()) == paths(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 60, 128, 129, 128 + 12 * 4 - 1, 128 + 12 * 4, 128 + 12 * 7])
def test_a_build_killed_in_the_middle_of_a_write_goes_on_from_its_last_whole_batch(tmp_path, kept):
    open_all(tmp_path)
    whole = paths(tmp_path)[0]
    data = whole.read_bytes()
    whole.unlink()
    files.partial_of(whole).write_bytes(data[:kept])
    _, starts = open_all(tmp_path)
    assert starts == [(0, max(0, kept - 128) // (12 * BATCH) * BATCH)]
    assert whole.read_bytes() == data


def test_a_partial_file_of_another_shape_is_not_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        open_all(tmp_path, 1)
    partial = files.partial_of(paths(tmp_path)[0])
    partial.write_bytes(b"\0" * partial.stat().st_size)
    stored, starts = open_all(tmp_path)
    assert starts == [(0, 0), (1, 0)]
    np.testing.assert_array_equal(stored.read([0] * 10, range(10)), rows(0))


def test_views_that_do_not_fit_on_the_disk_are_refused_before_they_are_made(tmp_path):
    shape = (10**9, 14, 14, 512)
    with pytest.raises(UserError, match=r"need .* GB .* set the recipe's views"):
        cache.open_stored(paths(tmp_path), shape, cache.BFLOAT16, BATCH, None)


def test_what_is_needed_on_the_disk_is_said_before_it_is_taken(tmp_path, capsys):
    open_all(tmp_path)
    assert "storing 2 views of 10 photos" in capsys.readouterr().err


def test_only_views_made_from_something_else_are_dropped(tmp_path):
    names = {"a_view_new_0.npy", "a_view_old_0.npy", "b_view_old_0.npy"}
    for name in names:
        np.save(tmp_path / name, np.zeros((3, 2), np.uint16))
    (tmp_path / "a_view_old_1.partial").touch()
    (tmp_path / "a_view_new_1.partial").touch()
    cache.drop_stale(tmp_path, "a_view_", "a_view_new", (3, 2), cache.BFLOAT16)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == names - {"a_view_old_0.npy"} | {"a_view_new_1.partial"}


@pytest.mark.parametrize("size", [0, 60, 139, 141])
def test_a_view_that_was_cut_short_is_dropped(tmp_path, size):
    path = tmp_path / "a_view_new_0.npy"
    np.save(path, np.zeros((3, 2), np.uint16))
    whole = path.read_bytes()
    assert len(whole) == 140
    path.write_bytes((whole + b"more")[:size])
    cache.drop_stale(tmp_path, "a_view_", "a_view_new", (3, 2), cache.BFLOAT16)
    assert not path.exists()
