"""Checks around copying a download: that no photo is overwritten, duplicated or in two splits.

`targets` are {layouts.Original: path of its copy in the dataset's folder}.
"""

import csv
from collections import defaultdict

from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError


def refuse_source_in_dataset(targets):
    """Refuse to copy a dataset onto itself, or class folders into a flat download."""
    folders = {(photo.path.parent, target.parent) for photo, target in targets.items()}
    for source, target in sorted(folders):
        if any(path.exists() and path.samefile(source) for path in (target, target.parent)):
            raise UserError(
                f"{source} is already in the dataset. The recipe's source must be another folder, "
                f"outside of DATASET_DIR"
            )


def refuse_changed_splits(targets, folder):
    """Refuse to put a photo into one split if an earlier run put it into another.

    It would be used for training and for evaluation. This happens if a download without splits
    gets more photos, or if the recipe's split or the seed changes.
    """
    expected, splits = set(targets.values()), {photo.split for photo in targets}
    for photo, target in targets.items():
        for split in splits - {photo.split}:
            other = folder / split / target.parent.name / target.name
            if other not in expected and is_copy(photo.path, other):
                raise UserError(
                    f"{other} now belongs in {photo.split}, because the photos are divided "
                    f"differently than before. Delete {folder}, which holds copies only, and run "
                    f"the same command again"
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
            f"photos left out because they cannot be read: {len(rejected):,}, listed in {path}; "
            f"the first: {first}: {reason}"
        )


def report_duplicates(photos):
    """Warn of photos (digest, split, path) that have the same content in more than one split."""
    paths, splits = defaultdict(list), defaultdict(set)
    for digest, split, path in photos:
        paths[digest].append(path)
        splits[digest].add(split)
    duplicates = [paths[digest] for digest in paths if len(splits[digest]) > 1]
    if duplicates:
        first, second = duplicates[0][:2]
        console.warn(
            f"photos with an exact copy in another split: {len(duplicates):,}. They make the score "
            f"better than it should be. The first: {first} = {second}"
        )
