"""A download as it comes -> dataset/<recipe>/<split>/<class>/."""

import csv
import hashlib
import re
import shutil
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pyimagesearch import console, files, images
from pyimagesearch.console import UserError
from pyimagesearch.recipe import folder_name

REJECTED = "rejected.csv"
FLAT_NAME = re.compile(r"(\d+)_.+")


@dataclass(frozen=True)
class Entry:
    """A photo of the download and where it goes."""

    source: Path
    split: str
    label: int  # index into the recipe's classes


def find(recipe, splits):
    """Return the photos of a download as a list of Entry, split after split, by name.

    Raises:
        UserError: the download is missing, incomplete, or other data.
    """
    source = Path(recipe.source)
    if not source.is_dir():
        raise UserError(
            f"{source} is missing. Put the photos of recipe {recipe.name!r} there"
            f"{f' ({recipe.download})' if recipe.download else ''}, or set its source in "
            f"pyimagesearch/config.py"
        )
    missing = [split for split in splits if not (source / split).is_dir()]
    if missing:
        seen = ", ".join(sorted(each.name for each in source.iterdir())[:8]) or "nothing"
        raise UserError(
            f"{source} has no folder {missing[0]!r}; it has: {seen}. Point the recipe's source "
            f"at the folder that holds {', '.join(splits)}"
        )
    layout = recipe.layout or recognise(source / splits[0])
    read_split = {"flat": find_flat, "folders": find_in_folders}[layout]
    entries = []
    for split in splits:
        found = read_split(recipe, source / split, split)
        refuse_empty(recipe, source / split, found)
        entries += found
    return entries


def recognise(folder):
    """Return the layout of a split: class folders, or photos named <label>_<id>."""
    has_folders = any(visible(each) and each.is_dir() for each in folder.iterdir())
    return "folders" if has_folders else "flat"


def visible(path):
    """Tell whether a file or folder is the download's, not its archiver's or system's."""
    return not path.name.startswith((".", "__MACOSX"))


def find_flat(recipe, folder, split):
    """Return the entries of a split whose photos are named <label>_<id>.jpg."""
    entries = []
    for path in images.photos_in(folder):
        match = FLAT_NAME.fullmatch(path.stem)
        if not match:
            raise UserError(
                f"{path} is not named <label>_<id>, such as 0_12.jpg. Rename it or move it away"
            )
        label = int(match[1])
        if label >= len(recipe.classes):
            raise UserError(
                f"{path} has label {label}, and recipe {recipe.name!r} has classes 0 to "
                f"{len(recipe.classes) - 1} ({', '.join(recipe.classes)}). This is other data, or "
                f"a class is missing in pyimagesearch/config.py"
            )
        entries.append(Entry(path, split, label))
    return entries


def find_in_folders(recipe, folder, split):
    """Return the entries of a split that has a folder a class."""
    wanted = [folder_name(name) for name in recipe.classes]
    present = {each.name for each in folder.iterdir() if each.is_dir() and visible(each)}
    strange, missing = sorted(present - set(wanted)), sorted(set(wanted) - present)
    if strange or missing:
        kind = "has a folder" if strange else "lacks the folder"
        name = (strange or missing)[0]
        raise UserError(
            f"{folder} {kind} {name!r}. Recipe {recipe.name!r} has: {', '.join(wanted)}. This is "
            f"other data, or the recipe's classes need that name"
        )
    return [
        Entry(path, split, label)
        for label, name in enumerate(wanted)
        for path in images.photos_in(folder / name)
    ]


def refuse_empty(recipe, folder, entries):
    """Refuse a split without photos, or in which a class has none."""
    if not entries:
        raise UserError(f"{folder} holds no photos. Is the download complete?")
    counts = Counter(entry.label for entry in entries)
    for label, name in enumerate(recipe.classes):
        if not counts[label]:
            raise UserError(
                f"{folder} holds no photos of class {name!r}. Is the download complete? "
                f"If the class is not in it, take it out of the recipe's classes"
            )


@dataclass(frozen=True)
class Copied:
    """What became of one Entry."""

    entry: Entry
    reason: str | None  # why it was left out; None: it is in the dataset
    digest: str  # SHA-256 of the file
    new: bool  # it was not there before


def build(recipe, entries, dataset_dir, force, done):
    """Copy every photo that decodes; return a list of Copied in the order of `entries`.

    A photo that is in the dataset already, unchanged, is not decoded again unless `force` is set.
    """
    folder = Path(dataset_dir) / recipe.name
    targets = [target_of(recipe, folder, entry) for entry in entries]
    refuse_overlap(entries, targets)

    def copy(entry, target):
        copied = copy_one(entry, target, force)
        done()
        return copied

    with ThreadPoolExecutor(images.READERS) as threads:
        try:
            return list(threads.map(copy, entries, targets))
        except BaseException:
            # Ctrl-C or a full disk: what has not begun does not begin.
            threads.shutdown(cancel_futures=True)
            raise


def target_of(recipe, folder, entry):
    """Return where a photo goes."""
    class_folder = folder_name(recipe.classes[entry.label])
    return folder / entry.split / class_folder / entry.source.name


def refuse_overlap(entries, targets):
    """Refuse to copy a dataset onto itself."""
    for entry, target in zip(entries, targets, strict=True):
        if target.exists() and target.samefile(entry.source):
            raise UserError(
                f"{entry.source} already lies in the dataset. The recipe's source has to be "
                f"another folder, or has to stay out of DATASET_DIR"
            )


def copy_one(entry, target, force):
    """Check one photo and copy it with its date; return what became of it."""
    data = entry.source.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not force and same_file(entry.source, target):
        return Copied(entry, None, digest, new=False)
    try:
        images.read_rgb(data)
    except images.BrokenPhoto as broken:
        return Copied(entry, str(broken), digest, new=False)
    with files.whole(target) as partial:
        shutil.copy2(entry.source, partial)
    return Copied(entry, None, digest, new=True)


def same_file(source, target):
    """Tell whether a copy with the source's size and date is there."""
    return target.is_file() and files.file_stamp(source) == files.file_stamp(target)


def write_rejected(folder, results):
    """Write rejected.csv: the photos that were left out, and why."""
    path = Path(folder) / REJECTED
    with files.whole(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows((each.entry.source, each.reason) for each in results if each.reason)
    return path


def copies_across_splits(results):
    """Return the groups of exact copies that sit in more than one split, as lists of paths."""
    groups = defaultdict(list)
    for each in results:
        if each.reason is None:
            groups[each.digest].append(each.entry)
    return [
        [entry.source for entry in group]
        for group in groups.values()
        if len({entry.split for entry in group}) > 1
    ]


def strangers(recipe, dataset_dir, results):
    """Return photos in the dataset's class folders that this download did not bring."""
    folder = Path(dataset_dir) / recipe.name
    kept = {target_of(recipe, folder, each.entry) for each in results if each.reason is None}
    splits = {each.entry.split for each in results}
    return sorted(
        path
        for split in splits
        for name in recipe.classes
        for path in images.photos_in(folder / split / folder_name(name))
        if path not in kept
    )


def count_table(recipe, results, splits):
    """Return the photos of each class and split as a text table."""
    counts = Counter((each.entry.label, each.entry.split) for each in results if not each.reason)
    width = max(len(name) for name in (*recipe.classes, "all"))
    lines = [" " * width + "".join(f"{split:>12}" for split in splits)]
    for label, name in enumerate(recipe.classes):
        lines.append(f"{name:<{width}}" + "".join(f"{counts[label, s]:>12,}" for s in splits))
    totals = [sum(counts[label, s] for label in range(len(recipe.classes))) for s in splits]
    lines.append(f"{'all':<{width}}" + "".join(f"{total:>12,}" for total in totals))
    return "\n".join(lines)


def report_build(recipe, results, dataset_dir, splits):
    """Tell the user what was copied, what was left out, and what looks wrong."""
    folder = Path(dataset_dir) / recipe.name
    rejected = [each for each in results if each.reason]
    rejected_path = write_rejected(folder, results)
    if rejected:
        first = rejected[0]
        console.warn(
            f"{len(rejected):,} left out, listed in {rejected_path}; "
            f"the first: {first.entry.source}: {first.reason}"
        )
    for split, official in (recipe.official_counts or {}).items():
        seen = sum(each.entry.split == split and not each.reason for each in results)
        if seen != official:
            console.warn(f"{split} has {seen:,} photos; the official download has {official:,}")
    copies = copies_across_splits(results)
    if copies:
        example = " = ".join(str(path) for path in copies[0][:2])
        console.warn(
            f"{len(copies):,} photos have an exact copy in another split, which flatters the "
            f"score; the first: {example}"
        )
    extra = strangers(recipe, dataset_dir, results)
    if extra:
        console.warn(
            f"{len(extra):,} photos in {folder} are not from {recipe.source} and will be used "
            f"too; the first: {extra[0]}. Delete them if they are left over from before"
        )
    refuse_empty_after_check(recipe, results, splits)


def refuse_empty_after_check(recipe, results, splits):
    """Refuse a dataset in which a class of a split has lost all its photos to the check."""
    for split in splits:
        kept = [e.entry for e in results if e.entry.split == split and e.reason is None]
        refuse_empty(recipe, Path(recipe.source) / split, kept)
