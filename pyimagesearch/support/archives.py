"""Unpack zip and tar archives: completely and into their folder, or not at all."""

import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import PureWindowsPath

from pyimagesearch.support import console, files
from pyimagesearch.support.downloads import Failed, explain, require_room

SPARE_BYTES = 100_000_000  # stay free on the disk while an archive is unpacked

DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
)
# zipfile raises these for a password and for an unknown compression.
NOT_SUPPORTED = (RuntimeError, NotImplementedError)


def unpack(archive, folder, remedy=""):
    """Unpack a zip or tar archive into a new folder. Return the number of its files.

    Zip archives at the top of it are unpacked too: Kaggle packs competitions twice.

    Raises:
        UserError: it is damaged or no archive, it would write outside the folder, or the disk
            has no room.
    """
    with explain(f"{archive} cannot be unpacked", remedy), files.atomic_write(folder) as partial:
        partial.mkdir()
        try:
            count = unpack_one(archive, partial)
            for inner in sorted(partial.glob("*.zip")):
                count += unpack_one(inner, partial / inner.stem) - 1
                inner.unlink()
        except (*DAMAGE, *NOT_SUPPORTED) as failure:
            raise Failed(files.first_sentence(failure)) from failure
    return count


def unpack_one(archive, folder):
    """Unpack a zip or tar archive into a folder. Return the number of its files."""
    count = 0
    size = os.stat(archive).st_size
    with open(archive, "rb") as file, console.progress("unpacking", size, in_bytes=True) as advance:
        position = 0
        for name, is_folder, extract in members(file, folder.parent):
            refuse_outside(name)
            extract(folder)
            count += not is_folder
            advance(max(0, file.tell() - position))
            position = max(position, file.tell())
    return count


def members(file, disk):
    """Yield (name, is a folder, function that extracts it to a folder) of an archive's members.

    Raises Failed if it is no archive, UserError if a folder, `disk`, has too little room for them.
    The sizes that an archive states may be wrong, but zipfile and tarfile do not write more.
    """
    if tarfile.is_tarfile(file):
        # The filter refuses devices, and links that lead out of the folder. Python before 3.11.4
        # does not have it; there, everything but files and folders is left out.
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                # Their sum is known only at the end.
                require_room(disk, member.size + SPARE_BYTES)
                if options or member.isfile() or member.isdir():
                    yield member.name, member.isdir(), partial(archive.extract, member, **options)
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            sizes = [member.file_size for member in archive.infolist()]
            require_room(disk, sum(sizes) + SPARE_BYTES)
            for member in archive.infolist():
                yield member.filename, member.is_dir(), partial(archive.extract, member)
    else:
        raise Failed("it is not a .zip or .tar.gz file, or its end is missing")


def refuse_outside(name):
    """Raise Failed if unpacking a file of an archive would write outside the folder."""
    path = PureWindowsPath(name)  # which also knows "/" and drives
    if path.anchor or ".." in path.parts:
        raise Failed(f"it would write outside its folder: {name!r}. Do not use this archive")
