"""Read a download by its layout: the folders and file names that give a photo's class and split.

    flat         <split>/<label>_<id>.jpg
    folders      <split>/<class>/
    test_inside  <class>/ with a folder test/ inside: the evaluation photos
    numbered     <class>.<number>.jpg, all in one folder
    unsplit      <class>/

The names in <> are any folder or file names with that meaning.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pyimagesearch.support import console, photo_files
from pyimagesearch.support.errors import UserError

WITHOUT_SPLITS = ("numbered", "unsplit")
# A file name can contain a line break, which "." matches with DOTALL only.
FLAT_NAME = re.compile(r"(\d+)_.+", re.DOTALL)
# Browsers and file managers name a second cat.7.jpg "cat.7(1).jpg" or "cat.7 (1).jpg".
NUMBERED_NAME = re.compile(r"(.+)\.(\d+)(?: ?\(\d+\))?", re.DOTALL)


class Download(NamedTuple):
    """A folder of photos as it was downloaded, and the names to expect in it."""

    source: Path
    classes: tuple  # class names, in the order of their labels
    class_folders: dict  # {name of a class's folder: label}, in the same order
    split_names: tuple  # of (training, validation, evaluation)


class Original(NamedTuple):
    """A photo of a download. Its copy in the dataset has the same bytes."""

    path: Path
    label: int  # index into the classes
    split: str | None  # None: the layout has no splits


def read_download(download, layout):
    """Return the photos of a Download as a list of Original.

    `layout` is a name from the list above. Raises UserError if the download is incomplete, has
    other classes, or has no known layout.
    """
    find = {
        "flat": find_flat,
        "folders": find_in_class_folders,
        "test_inside": find_test_inside,
        "numbered": find_numbered,
        "unsplit": find_unsplit,
    }
    return find[layout](download)


def recognise(download):
    """Return the name of a download's layout, or raise UserError if it has no known layout."""
    source, folders = download.source, visible_folders(download.source)
    if splits := [split for split in download.split_names if split in folders]:
        return "folders" if visible_folders(source / splits[0]) else "flat"
    if classes := download.class_folders.keys() & folders.keys():
        has_test_folder = any((folders[name] / "test").is_dir() for name in classes)
        return "test_inside" if has_test_folder else "unsplit"
    photos = photo_files.photos_in(numbered_folder(source))
    if any(NUMBERED_NAME.fullmatch(path.stem) for path in photos):
        return "numbered"
    raise UserError(
        f"{source} has neither the folders {', '.join(download.split_names)} nor a folder for any "
        f"of the recipe's classes ({', '.join(download.classes)}). It contains: "
        f"{first_names(source)}. Set the recipe's source to the folder that contains them"
    )


def visible_folders(folder):
    """Return {name: path} of the folders in a folder, without hidden ones."""
    folders = photo_files.folders_in(folder)
    return {name: path for name, path in folders.items() if photo_files.is_visible(path)}


def first_names(folder):
    """Return the first names in a folder, for a message."""
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"


def find_flat(download):
    """Return the photos of <split>/<label>_<id>.jpg."""
    return [
        Original(path, flat_label(path, download.classes), split)
        for split in download.split_names
        for path in photo_files.photos_in(split_folder(download, split))
    ]


def split_folder(download, split):
    """Return the folder of a split."""
    source = download.source
    if not (source / split).is_dir():
        raise UserError(
            f"{source} has no folder {split!r}. It contains: {first_names(source)}. Set the "
            f"recipe's source to the folder that contains {', '.join(download.split_names)}"
        )
    return source / split


def flat_label(path, classes):
    """Return the label in the name <label>_<id>.jpg."""
    match = FLAT_NAME.fullmatch(path.stem)
    if not match:
        raise UserError(
            f"{path} is not named <label>_<id>, such as 0_12.jpg. Rename it or move it away"
        )
    label = int(match[1])
    if label >= len(classes):
        raise UserError(
            f"{path} has label {label}, but the recipe has classes 0 to {len(classes) - 1} "
            f"({', '.join(classes)}). This is other data, or a class is missing from the recipe in "
            f"pyimagesearch/config.py"
        )
    return label


def find_in_class_folders(download):
    """Return the photos of <split>/<class>/."""
    return [
        photo
        for split in download.split_names
        for photo in class_photos(download, split_folder(download, split), split, strict=True)
    ]


def class_photos(download, folder, split, subfolder="", strict=False):
    """Return the photos in <folder>/<class>/<subfolder>/; `strict` refuses other folders."""
    folders, class_folders = visible_folders(folder), download.class_folders
    missing = sorted(class_folders.keys() - folders.keys())
    unknown = sorted(folders.keys() - class_folders.keys())
    if missing or (unknown and strict):
        problem = f"has no folder {missing[0]!r}" if missing else f"has a folder {unknown[0]!r}"
        raise UserError(
            f"{folder} {problem}. The folders of the recipe's classes are: "
            f"{', '.join(class_folders)}. This is other data, or the recipe's classes are wrong"
        )
    return [
        Original(path, label, split)
        for name, label in class_folders.items()
        for path in photo_files.photos_in(folders[name] / subfolder)
    ]


def find_test_inside(download):
    """Return the photos of <class>/, which are for training, and of <class>/test/."""
    training, _, evaluation = download.split_names
    photos = class_photos(download, download.source, training)
    return photos + class_photos(download, download.source, evaluation, "test")


def find_numbered(download):
    """Return the photos of <class>.<number>.jpg, in the order of their numbers."""
    numbered = []
    for path in photo_files.photos_in(numbered_folder(download.source)):
        match = NUMBERED_NAME.fullmatch(path.stem)
        if not match:
            raise UserError(
                f"{path} is not named <class>.<number>, such as cat.0.jpg. Rename it or move it "
                f"away"
            )
        if match[1] not in download.classes:
            raise UserError(
                f"{path} is of class {match[1]!r}, but the recipe's classes are: "
                f"{', '.join(download.classes)}. Move it away, or add its class to the recipe"
            )
        numbered.append((int(match[2]), path, download.classes.index(match[1])))
    return [Original(path, label, None) for _, path, label in sorted(numbered)]


def numbered_folder(source):
    """Return the folder of the photos <class>.<number>.jpg: Kaggle's archive has them in train/."""
    return source / "train" if (source / "train").is_dir() else source


def number_key(path):
    """Return a sort key that puts 9.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.stem)  # every second part is a number
    return [int(part) if position % 2 else part for position, part in enumerate(parts)]


def find_unsplit(download):
    """Return the photos of <class>/."""
    others = sorted(visible_folders(download.source).keys() - download.class_folders.keys())
    if others:
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        console.info(
            f"{download.source} also has folders of other classes, which are not used: "
            f"{', '.join(others[:5])}{more}"
        )
    return class_photos(download, download.source, split=None)


def report_unused_files(source, used):
    """Report how many files of a download are not photos, and how many photos are too deep.

    These are in folders below those of the `used` photos, such as <class>/2023/.
    """
    suffixes, deeper = Counter(), []
    folders_with_photos = {path.parent for path in used}
    for folder, subfolders, names in os.walk(source):
        # os.walk does not enter what is removed from this list.
        subfolders[:] = [name for name in subfolders if photo_files.is_visible(Path(name))]
        paths = [Path(folder, name) for name in names]
        suffixes.update(
            path.suffix.lower() or "without suffix"
            for path in paths
            if photo_files.is_visible(path) and path.suffix.lower() not in photo_files.SUFFIXES
        )
        if folders_with_photos.intersection(Path(folder).parents):
            deeper += [path for path in paths if photo_files.is_photo(path) and path not in used]
    if suffixes:
        by_count = sorted(suffixes, key=lambda suffix: (-suffixes[suffix], suffix))
        counts = ", ".join(f"{suffixes[suffix]:,} {suffix}" for suffix in by_count[:5])
        console.info(
            f"files in {source} that are not photos: {suffixes.total():,} ({counts}). Photos end "
            f"in {', '.join(sorted(photo_files.SUFFIXES))}"
        )
    if deeper:
        console.warn(
            f"photos that are not used because they are in deeper folders: {len(deeper):,}, the "
            f"first in {min(deeper).parent}. Move them up to the other photos"
        )
