"""The copies in a dataset: what is recorded about them, and what is wrong with them."""

import csv
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from pyimagesearch.support import console, files, photo_files
from pyimagesearch.support.errors import UserError

# What build_dataset.py has found and done, in the dataset's folder:
#   recipe_classes  the classes of the recipe, or None
#   classes         those of the dataset
#   divided_by      the settings that divide the photos
#   photos          {path in the source: {"stamp": files.file_stamp, "digest": SHA-256,
#                   "copies": [path in the dataset]}}; without the photos that cannot be read
RECORD_FILE = "photos.json"
NO_RECORD = {"photos": {}}  # to start over
GONE_FOLDER = "gone"  # copies of photos that are no longer in the source


def read_record(folder):
    """Return the record of a dataset's folder, or None if there is none."""
    record = files.read_json(Path(folder) / RECORD_FILE)
    is_valid = record and {"recipe_classes", "classes", "divided_by", "photos"} <= record.keys()
    return record if is_valid else None


def write_record(folder, settings, photos):
    """Write the record of a dataset. The bytes of a file name may be invalid Unicode.

    `settings` is a dict of its other parts, and `photos` an iterator over (path in the source,
    what is recorded about the photo). As one text, a million photos would take a gigabyte.
    """
    path, separator = Path(folder) / RECORD_FILE, ""
    with files.atomic_write(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(json.dumps(settings)[:-1] + ', "photos": {')
        for name, photo in photos:
            file.write(f"{separator}\n{json.dumps(name)}: {json.dumps(photo)}")
            separator = ","
        file.write("\n}}\n")


def earlier_splits(record, folder, split_names):
    """Return {photo: split} of the photos that earlier runs have put into a dataset's folder.

    A photo is there twice: by its path in the source, and by its SHA-256, since it may be renamed.
    """
    if record is not None:
        splits = {}
        for name, photo in record["photos"].items():
            if photo["copies"]:
                split = sys.intern(photo["copies"][0].split("/")[0])
                splits |= {photo["digest"]: split, name: split}
        return splits
    # An earlier version of this project made the dataset, or nothing has yet.
    return {
        file_digest(path): split
        for split in split_names
        for class_folder in sorted(Path(folder, split).glob("*/"))
        for path in photo_files.photos_in(class_folder)
    }


def file_digest(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report_changes(record, digests):
    """Print how many photos are new since the earlier run, and how many are gone.

    `digests` are those of the photos that are used now.
    """
    photos = record["photos"].values() if record else ()
    before = {each["digest"] for each in photos if each["copies"]}
    new, gone = len(digests - before), len(before - digests)
    if before and (new or gone):
        words = [f"{new:,} new photos"] * (new > 0) + [f"{gone:,} gone"] * (gone > 0)
        console.info(f"since the last run: {', '.join(words)}")


def remove_stale(record, targets, folder, digests):
    """Take away the copies that an earlier run made and that are not among the `targets` now.

    `targets` are paths in the dataset's folder, as text.
    A photo that is no longer in the source, whose digest is not in `digests`, may be the only one
    that the user has. So it is moved to GONE_FOLDER, not deleted.
    """
    photos = record["photos"].values() if record else ()
    before = {copy for each in photos for copy in each["copies"]}
    gone = []
    for path in (Path(folder, copy) for copy in sorted(before.difference(targets))):
        if path.is_file() and file_digest(path) in digests:
            path.unlink()
        elif path.is_file():
            gone.append(Path(folder, GONE_FOLDER, path.relative_to(folder)))
            gone[-1].parent.mkdir(parents=True, exist_ok=True)
            files.replace(path, gone[-1])
    if gone:
        console.info(
            f"copies of photos that are gone: {len(gone):,}, now in {Path(folder, GONE_FOLDER)} "
            f"and not used"
        )


def refuse_source_in_dataset(originals, class_folders):
    """Refuse to copy a dataset onto itself, or class folders into a flat download.

    `class_folders` are those of the dataset.
    """
    dataset = {path.resolve() for folder in class_folders for path in (folder, *folder.parents[:2])}
    for source in sorted({photo.path.parent for photo in originals}):
        if source.resolve() in dataset:
            raise UserError(
                f"{source} is already in the dataset. The recipe's source must be another folder, "
                f"outside of DATASET_DIR"
            )


def is_copy(source, target):
    """Return True if a file exists and has the content of another."""
    if not target.is_file():
        return False
    stamp, target_stamp = files.file_stamp(source), files.file_stamp(target)
    # The same size and time are enough. Not every disk and program keeps the time of a file: if
    # it differs, the content decides.
    same_size = stamp[0] == target_stamp[0]
    return stamp == target_stamp or (same_size and source.read_bytes() == target.read_bytes())


def copy_photo(source, target, force):
    """Copy one photo with its date; return False if the copy was there already.

    With `force`, it is always copied.
    """
    if not force and is_copy(source, target):
        return False
    with files.atomic_write(target) as partial:
        if clone(source, partial):
            shutil.copystat(source, partial)
        else:
            shutil.copy2(source, partial)
    return True


def clone(source, target):
    """Copy a file's content inside of the system; return False if it cannot do it.

    On Btrfs and XFS, the copy shares the disk blocks of the source: it takes no room, and if one
    of the two is edited, the other stays as it is. With a hard link, both would change, and an
    edited download would get into the dataset without being checked.
    """
    if not hasattr(os, "copy_file_range"):  # only Linux has it
        return False
    with open(source, "rb") as original, open(target, "wb") as copy:
        left = os.fstat(original.fileno()).st_size
        try:
            while left and (copied := os.copy_file_range(original.fileno(), copy.fileno(), left)):
                left -= copied
        except OSError:
            return False
    return left == 0


def report_rejected(path, rejected):
    """Write the (file, reason) of photos that were left out to a CSV file, and warn of them."""
    # The file names of old archives are not always UTF-8. Their other bytes are written as \udc...
    options = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with files.atomic_write(path) as partial, open(partial, "w", **options) as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows(rejected)
    if rejected:
        first, reason = rejected[0]
        console.warn(
            f"photos left out: {len(rejected):,}, listed in {path}; the first: {first}: {reason}"
        )


def report_blank(paths):
    """Warn of photos that show nothing, such as those that use only 12 of their 16 bits."""
    if paths:
        console.warn(
            f"photos that are nearly black or nearly white all over: {len(paths):,}, the first "
            f"{paths[0]}. Open it: if it should show something, save it as JPEG"
        )


def report_duplicates(photos):
    """Warn of photos (digest, split, path) that have the same content in more than one split."""
    first_photos, duplicates = {}, {}
    for digest, split, path in photos:
        first_split, first_path = first_photos.setdefault(digest, (split, path))
        if split != first_split:
            duplicates.setdefault(digest, (first_path, path))
    if duplicates:
        first, second = next(iter(duplicates.values()))
        console.warn(
            f"photos with an exact copy in another split: {len(duplicates):,}. They make the score "
            f"better than it should be. The first: {first} = {second}"
        )
