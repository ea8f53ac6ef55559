"""Large arrays on disk that are written batch by batch, resumed, and mapped into memory."""

import io
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ml_dtypes
import numpy as np

from pyimagesearch.support import files

# The type of a number, and that of its bits in a .npy file, which has no bfloat16.
DTYPES = {
    "bfloat16": (ml_dtypes.bfloat16, "<u2"),
    "float32": (np.float32, "<f4"),
    "uint8": (np.uint8, "|u1"),
}


@dataclass(frozen=True)
class ArrayFile:
    """A .npy file of (rows, ...) numbers. The path appears when every row is written."""

    path: Path
    shape: tuple
    dtype: str  # a key of DTYPES

    @cached_property
    def header(self):
        """The bytes before the rows."""
        stream = io.BytesIO()
        form = {"descr": DTYPES[self.dtype][1], "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, form)
        return stream.getvalue()

    @property
    def row_bytes(self):
        """The bytes of one row."""
        return math.prod(self.shape[1:]) * np.dtype(DTYPES[self.dtype][1]).itemsize

    @property
    def total_bytes(self):
        """The bytes of the complete file."""
        return len(self.header) + self.shape[0] * self.row_bytes

    @property
    def missing_bytes(self):
        """The bytes that are not on disk yet."""
        if self.path.is_file():
            return 0
        partial = files.partial_path(self.path)
        written = partial.stat().st_size if partial.is_file() else 0
        return max(0, self.total_bytes - written)

    def read(self):
        """Return the rows, mapped into memory."""
        return np.load(self.path, mmap_mode="r").view(DTYPES[self.dtype][0])

    def read_row(self, position):
        """Return one row, as an array in memory."""
        dtype, start = DTYPES[self.dtype][0], len(self.header) + position * self.row_bytes
        numbers = np.fromfile(self.path, dtype, math.prod(self.shape[1:]), offset=start)
        return numbers.reshape(self.shape[1:])

    def write(self, batch_size, batches_from, advance):
        """Write all rows. An interrupted file resumes after its last whole batch.

        `batches_from` is a function from a row to an iterator over the batches from there on, and
        `advance` is called with the number of rows after each batch.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = files.partial_path(self.path)
        with open(partial, "a+b") as file:
            start = self.resume(file, batch_size)
            advance(start)
            for batch in batches_from(start):
                file.write(self.encode(batch))
                file.flush()
                # A resumed run trusts the size of the file, also after a power cut.
                os.fsync(file.fileno())
                advance(len(batch))
        files.replace(partial, self.path)

    def encode(self, batch):
        """Return the bytes of rows, as the file has them."""
        return batch.astype(DTYPES[self.dtype][0], copy=False).tobytes()

    def decode(self, data):
        """Return the rows that `encode` has turned into bytes."""
        return np.frombuffer(data, DTYPES[self.dtype][0]).reshape(-1, *self.shape[1:])

    def next_row(self, batch_size):
        """Return the row at which `write` will begin."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(files.partial_path(self.path), "a+b") as file:
            return self.resume(file, batch_size)

    def delete(self):
        """Delete the file, also an unfinished one."""
        for path in (self.path, files.partial_path(self.path)):
            files.remove(path)

    def resume(self, file, batch_size):
        """Truncate an open file after its last whole batch; return how many rows it has.

        A file that is empty, or that begins with another header, starts anew.
        """
        file.seek(0)
        if file.read(len(self.header)) != self.header:
            file.truncate(0)
            file.write(self.header)
            return 0
        rows = (file.seek(0, os.SEEK_END) - len(self.header)) // self.row_bytes
        # All rows are whole batches, although the last batch may be smaller.
        rows = self.shape[0] if rows >= self.shape[0] else rows - rows % batch_size
        file.truncate(len(self.header) + rows * self.row_bytes)
        return rows


def delete_others(folder, array_files):
    """Delete the .npy and .partial files of a folder that are not in a list or of a wrong size."""
    sizes = {file.path: file.total_bytes for file in array_files}
    for path in [*Path(folder).glob("*.npy"), *Path(folder).glob("*.partial")]:
        size = sizes.get(path.with_suffix(".npy"))
        # A .partial file may be shorter: it is resumed.
        if size is None or (path.suffix == ".npy" and path.stat().st_size != size):
            path.unlink()
