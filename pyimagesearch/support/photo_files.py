"""Which files and folders are photos of the user, and which only look like photos."""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

from pyimagesearch.support import console
from pyimagesearch.support.errors import UserError

# A file with one of these suffixes is a photo; if it cannot be read, a script says why.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
}
# A file with another suffix, or none, is a photo if it begins like a JPEG, PNG, GIF, WebP, BMP,
# PPM, JPEG 2000, HEIF or AVIF.
PHOTO_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|P[1-6]\s+[\d#]"
    rb"|\0\0\0\x0cjP  |....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1|avi[fs])",
    re.DOTALL,
)
MAX_KINDS = 10  # in a message
TIFF_STARTS = (b"II*\0", b"MM\0*")


# Files and folders that operating systems, archivers and network disks (Synology, QNAP) add.
FOREIGN_NAMES = {
    *("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information"),
    *("lost+found", "@eadir", "#recycle", "#snapshot", "@recycle", "@tmp", "@sharebin"),
    "@recently-snapshot",
}


def is_visible(path):
    """Return False for hidden files and for those that an operating system or archiver adds."""
    return not path.name.startswith(".") and path.name.lower() not in FOREIGN_NAMES


def is_photo(path):
    """Return True if a file has the name or the first bytes of a photo, and is not hidden."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return path.suffix.lower() in SUFFIXES or begins_like_a_photo(path)


def begins_like_a_photo(path):
    """Return True if the first bytes of a file are those of a photo."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    # Camera raw files such as .nef begin like a TIFF, which holds a small preview of the photo.
    is_tiff = not path.suffix and start.startswith(TIFF_STARTS)
    return is_tiff or PHOTO_START.match(start) is not None


def report_others(folder, paths):
    """Print how many of the files at `paths`, all in `folder`, are not photos, and of which kinds.

    Hidden files and links to nothing are left out.
    """
    others = [path for path in paths if is_visible(path) and path.exists() and not is_photo(path)]
    kinds = Counter(sorted(path.suffix.lower() or "without suffix" for path in others))
    if kinds:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(MAX_KINDS))
        if len(kinds) > MAX_KINDS:
            counts += ", ..."
        console.info(
            f"files in {folder} that are not photos: {len(others):,} ({counts}). If some of them "
            f"are photos, save them as JPEG"
        )


def photos_in(folder):
    """Return the photos directly in a folder, sorted by name; [] if there is no such folder."""
    return [folder / name for name in sorted(photo_names(folder))]


def has_photo(folder):
    """Return True if a photo is directly in a folder."""
    return next(photo_names(folder), None) is not None


def photo_names(folder):
    """Yield the names of the photos directly in a folder; none if there is no such folder."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            # The folder itself tells if an entry is a file, and most photos have a suffix: so a
            # million of them need no million further looks at the disk.
            is_usual = (
                entry.is_file(follow_symlinks=False)
                and not entry.name.startswith(".")
                and os.path.splitext(entry.name)[1].lower() in SUFFIXES
            )
            if is_usual or is_photo(Path(entry.path)):
                yield entry.name


def folders_in(folder):
    """Return {name: path} of the folders directly in a folder, sorted by path.

    Names are in Unicode's composed form (NFC), as keyboards type them. macOS stores "é" as two
    characters, "e" and an accent. Raises UserError if two folders have the same composed name.
    """
    folders = {}
    for path in sorted(child for child in folder.iterdir() if child.is_dir()):
        name = unicodedata.normalize("NFC", path.name)
        first_path = folders.setdefault(name, path)
        if first_path != path:
            raise UserError(
                f"{folder} has two folders named {name!r}, written with different Unicode "
                f"characters. Move their photos into one of them"
            )
    return folders
