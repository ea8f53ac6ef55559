"""Which files and folders are photos of the user, and which only look like photos."""

import unicodedata

from pyimagesearch.support.errors import UserError

# build_dataset.py and predict.py look for these suffixes. build_dataset.py counts other files.
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


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
    """Return True if a file has the name of a photo. Hidden files such as ._x.jpg do not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def photos_in(folder):
    """Return the photos directly in a folder, sorted by name; [] if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_photo(path))


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
