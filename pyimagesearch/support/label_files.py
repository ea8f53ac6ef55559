"""A CSV file that gives the class of each photo, for photos that are not in folders of classes."""

import csv
import difflib
import os
from pathlib import Path, PureWindowsPath

from pyimagesearch.support import console, photo_files
from pyimagesearch.support.errors import UserError

DELIMITERS = ",;\t"


def read_labels(source, labels):
    """Return [(name of a photo, name of its class)] of a CSV file, without rows that have no class.

    `labels` is that of a recipe: the path of the file in the source, the column with the names of
    the photos, and the column with the classes. Raises UserError if there is no such file or
    column.
    """
    file_name, *columns = labels
    path = Path(source) / file_name
    if not path.is_file():
        raise UserError(f"{path} is missing. The recipe's labels name it: {tuple(labels)!r}")
    # Excel begins a file with a mark that it is UTF-8, and separates columns as the country does.
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        header = file.readline()
        file.seek(0)
        rows = csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count))
        names = rows.fieldnames or []
        for column in columns:
            if column not in names:
                similar = difflib.get_close_matches(column, names, n=1)
                hint = f" Did you mean {similar[0]!r}?" if similar else ""
                raise UserError(
                    f"{path} has no column {column!r}.{hint} It has: {', '.join(map(repr, names))}"
                )
        pairs = [tuple((row[column] or "").strip() for column in columns) for row in rows]
    return [(name, class_name) for name, class_name in pairs if name and class_name]


def find_labelled(source, pairs, classes):
    """Return {path: label} of the photos that the `pairs` of read_labels name.

    A photo is named by its path in the source or by its file name, with or without the suffix. Rows
    without a photo, or with a class that is not one of `classes`, are counted and reported.
    """
    paths, labels = index_photos(source), {name: label for label, name in enumerate(classes)}
    found, missing, unknown = {}, [], []
    for name, class_name in pairs:
        candidates = paths.get(PureWindowsPath(name).as_posix(), [])
        if class_name not in labels:
            unknown.append(class_name)
        elif not candidates:
            missing.append(name)
        elif len(candidates) > 1:
            raise UserError(
                f"the name {name!r} is that of {candidates[0]} and {candidates[1]}. Write the path "
                f"in {source} into the file of labels, or move one of the photos away"
            )
        elif found.setdefault(candidates[0], labels[class_name]) != labels[class_name]:
            raise UserError(f"{candidates[0]} has two labels. Correct the file of labels")
    report_rows("photos that the labels name but that are missing", missing)
    report_rows("rows with a label that is not one of the recipe's classes", unknown)
    return found


def index_photos(source):
    """Return {name: [paths of photos]} for each way to name a photo of a folder."""
    names = {}
    for parent, subfolders, _ in os.walk(source):
        # os.walk does not enter what is removed from this list.
        subfolders[:] = sorted(name for name in subfolders if photo_files.is_visible(Path(name)))
        for path in photo_files.photos_in(Path(parent)):
            inner = path.relative_to(source)
            for name in {inner.as_posix(), inner.with_suffix("").as_posix(), path.name, path.stem}:
                names.setdefault(name, []).append(path)
    return names


def report_rows(problem, names):
    """Warn of rows that cannot be used, with their number and the first of them."""
    if names:
        console.warn(f"{problem}: {len(names):,}, the first {names[0]!r}")
