"""Outputs of the frozen part on disk: computed once, whole or to be gone on with, read by map."""

import functools
import glob
import io
import math
import os
import shutil
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from pyimagesearch import console, files
from pyimagesearch.console import UserError

# What a number is kept as: its type, and that of its bits in a .npy file, which knows no bfloat16.
BFLOAT16, FLOAT32 = (ml_dtypes.bfloat16, "<u2"), (np.float32, "<f4")


class NoRoom(UserError):
    """The disk has no room for stored views."""


@dataclass(frozen=True)
class Stored:
    """Outputs of the frozen part on disk: a file a view, each (photos, *cut) numbers."""

    paths: tuple
    kept: tuple  # BFLOAT16 or FLOAT32

    def read(self, views, positions):
        """Return (n, *cut) numbers: view views[i] of photo positions[i].

        The files are mapped anew each time: what stays mapped counts as this process's memory.
        """
        maps = {view: np.load(self.paths[view], mmap_mode="r") for view in set(views)}
        bits = np.stack([maps[v][p] for v, p in zip(views, positions, strict=True)])
        return bits.view(self.kept[0])


def open_stored(paths, shape, kept, batch_size, outputs):
    """Return the stored views that lie at `paths`, after computing those that do not.

    Args:
        paths: of the .npy files, one a view; a name says what the file was made from, for one
            that is there is taken as it is.
        shape: (photos, *cut), of each.
        kept: BFLOAT16 or FLOAT32.
        batch_size: rows that `outputs` yields at a time.
        outputs: a function (view, start) -> an iterator over (batch, *cut) arrays from row
            `start` on. Views count as `paths` do.

    Raises:
        NoRoom: the disk has none for them.
    """
    missing = {view: path for view, path in enumerate(paths) if not path.is_file()}
    if missing:
        refuse_if_too_large(list(missing.values()), shape, kept)
        with console.progress("what the frozen part says", len(missing) * shape[0]) as done:
            for view, path in missing.items():
                store(path, shape, kept, batch_size, functools.partial(outputs, view), done)
    return Stored(tuple(paths), kept)


def store(path, shape, kept, batch_size, outputs, done):
    """Write the rows of one view; an interrupted one goes on where it stopped.

    Args:
        path, shape, kept, batch_size: as open_stored has them.
        outputs: a function start -> an iterator over (batch, *cut) arrays from row `start` on.
        done: called with the number of rows after each batch.
    """
    partial = files.partial_of(path)
    with open(partial, "a+b") as file:
        start = resume(file, shape, kept, batch_size)
        done(start)
        for batch in outputs(start):
            file.write(batch.astype(kept[0]).tobytes())
            file.flush()
            # What is counted as done after a power cut has to be on the disk.
            os.fsync(file.fileno())
            done(len(batch))
    os.replace(partial, path)


def resume(file, shape, kept, batch_size):
    """Set a growing file to the end of its last whole batch; return how many rows it has.

    An empty or strange one begins anew.
    """
    header, row = header_of(shape, kept), row_bytes(shape, kept)
    file.seek(0)
    rows = 0
    if file.read(len(header)) == header:
        rows = (file.seek(0, os.SEEK_END) - len(header)) // row
        # The last batch of a view may be smaller: all rows are whole batches too.
        rows = shape[0] if rows >= shape[0] else rows - rows % batch_size
        file.truncate(len(header) + rows * row)
    else:
        file.truncate(0)
        file.write(header)
    return rows


def header_of(shape, kept):
    """Return the bytes that stand before the rows of a view."""
    header = io.BytesIO()
    form = {"descr": kept[1], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, form)
    return header.getvalue()


def row_bytes(shape, kept):
    """Return the bytes of one row of a (rows, *cut) array."""
    return math.prod(shape[1:]) * np.dtype(kept[1]).itemsize


def refuse_if_too_large(paths, shape, kept):
    """Say what the stored views at `paths` need, and stop before they fill the disk."""
    folder = paths[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    started = sum(p.stat().st_size for p in map(files.partial_of, paths) if p.is_file())
    needed = len(paths) * shape[0] * row_bytes(shape, kept) - started
    free = shutil.disk_usage(folder).free
    if needed > free * 0.95:
        raise NoRoom(
            f"the stored views need {needed / 1e9:.1f} GB more in {folder}, where "
            f"{free / 1e9:.1f} GB are free. Free some. Or set the recipe's views to a smaller "
            f"number or to None, which starts the training over"
        )
    each = "1 view" if len(paths) == 1 else f"{len(paths)} views"
    console.info(f"storing {each} of {shape[0]:,} photos: {needed / 1e6:,.0f} MB in {folder}")


def drop_stale(folder, stem, name, shape, kept):
    """Delete stored views whose names begin with `stem` but not with `name`, and those cut short.

    Args:
        folder, stem, name: of the files.
        shape, kept: of each, as open_stored has them.
    """
    size = len(header_of(shape, kept)) + shape[0] * row_bytes(shape, kept)
    for other in folder.glob(f"{glob.escape(stem)}*"):
        whole = other.suffix != ".npy" or other.stat().st_size == size
        if not (whole and other.name.startswith(name)):
            other.unlink()
