"""A download as it comes -> dataset/<recipe>/<split>/<class>/."""

import csv
import hashlib
import math
import os
import random
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
# A file name may hold a line break: DOTALL.
FLAT_NAME = re.compile(r"(\d+)_.+", re.DOTALL)
# Browsers and file managers put (1) behind the number of a second cat.7.jpg.
NUMBERED_NAME = re.compile(r"(.+)\.(\d+)(?: ?\(\d+\))?", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A photo of the download and where it goes."""

    source: Path
    split: str
    label: int  # index into the recipe's classes


def find(recipe, splits, seed):
    """Return the photos of a download as a list of Entry, split after split.

    Args:
        recipe: a row.
        splits: the names of (training, validation, evaluation).
        seed: of the shuffle, for a download that comes without splits.

    Raises:
        UserError: the download is missing, incomplete, or other data.
    """
    source = Path(recipe.source)
    if not source.is_dir():
        seen = "not a folder" if source.exists() else "missing"
        raise UserError(
            f"{source} is {seen}. Put the photos of recipe {recipe.name!r} there"
            f"{f' ({recipe.download})' if recipe.download else ''}, or set its source in "
            f"pyimagesearch/config.py"
        )
    layout = recipe.layout or recognise(recipe, source, splits)
    training, validation, evaluation = splits
    if layout in ("flat", "folders"):
        read_split = {"flat": find_flat, "folders": find_in_folders}[layout]
        entries = [
            Entry(path, split, label)
            for split in splits
            for path, label in read_split(recipe, split_folder(source, split, splits))
        ]
    elif layout == "test_inside":
        entries = [
            Entry(path, split, label)
            for split, inside in ((training, ""), (evaluation, "test"))
            for path, label in find_in_folders(recipe, source, inside, others_too=True)
        ]
    else:
        read = {"numbered": find_numbered, "unsplit": find_unsplit}[layout]
        entries = share_out(recipe, read(recipe, source), splits, seed)
    if recipe.validate_on_evaluation:
        entries = [each for each in entries if each.split != validation]
        entries += [
            Entry(each.source, validation, each.label)
            for each in entries
            if each.split == evaluation
        ]
    say_passed_over(source, {each.source for each in entries})
    refuse_empty(recipe, source, entries, splits)
    return entries


def recognise(recipe, source, splits):
    """Return the layout of a download."""
    inside = {each.name for each in source.iterdir() if each.is_dir() and images.visible(each)}
    if inside & set(splits):
        first = source / next(split for split in splits if split in inside)
        has_folders = any(images.visible(each) and each.is_dir() for each in first.iterdir())
        return "folders" if has_folders else "flat"
    wanted = {folder_name(name) for name in recipe.classes}
    class_folders = [path for name, path in images.folders_in(source).items() if name in wanted]
    if class_folders:
        has_tests = any((folder / "test").is_dir() for folder in class_folders)
        return "test_inside" if has_tests else "unsplit"
    together = images.photos_in(numbered_folder(source))
    if any(NUMBERED_NAME.fullmatch(path.stem) for path in together):
        return "numbered"
    raise UserError(
        f"{source} has neither the folders {', '.join(splits)} nor a folder for any class of "
        f"recipe {recipe.name!r} ({', '.join(recipe.classes)}). It has: {inside_of(source)}. Point "
        f"the recipe's source at the folder that holds them"
    )


def say_passed_over(source, used):
    """Say which files of a download are no photos by the ends of their names, how many of each.

    And how many photos lie deeper than those that are `used`, as in a class folder's own folders.
    """
    endings, deeper = Counter(), []
    homes = {path.parent for path in used}
    for folder, inside, names in os.walk(source):
        inside[:] = [name for name in inside if images.visible(Path(name))]
        paths = [Path(folder, name) for name in names]
        endings.update(
            path.suffix.lower() or "without an ending"
            for path in paths
            if images.visible(path) and path.suffix.lower() not in images.SUFFIXES
        )
        if homes.intersection(Path(folder).parents):
            deeper += [path for path in paths if images.is_photo(path) and path not in used]
    if endings:
        words = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(5))
        console.info(
            f"{endings.total():,} files in {source} are passed over ({words}): photos end in "
            f"{', '.join(sorted(images.SUFFIXES))}"
        )
    if deeper:
        console.warn(
            f"{len(deeper):,} photos are not used, for they lie deeper than the others: "
            f"{min(deeper).parent} holds some. Move them up"
        )


def inside_of(folder):
    """Say what lies in a folder, the first few names."""
    return ", ".join(sorted(each.name for each in folder.iterdir())[:8]) or "nothing"


def split_folder(source, split, splits):
    """Return the folder of a split."""
    folder = source / split
    if not folder.is_dir():
        raise UserError(
            f"{source} has no folder {split!r}; it has: {inside_of(source)}. Point the recipe's "
            f"source at the folder that holds {', '.join(splits)}"
        )
    return folder


def find_flat(recipe, folder):
    """Return (path, label) of the photos of a split that are named <label>_<id>.jpg."""
    found = []
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
        found.append((path, label))
    return found


def find_in_folders(recipe, folder, inside="", others_too=False):
    """Return (path, label) of the photos in a folder a class.

    Args:
        recipe: a row.
        folder: holds the class folders.
        inside: the folder inside each class folder that holds the photos; "": itself.
        others_too: allow folders of other classes, which are not used.
    """
    wanted = [folder_name(name) for name in recipe.classes]
    present = {
        name: path for name, path in images.folders_in(folder).items() if images.visible(path)
    }
    strange, missing = sorted(present.keys() - set(wanted)), sorted(set(wanted) - present.keys())
    if missing or (strange and not others_too):
        kind = "lacks the folder" if missing else "has a folder"
        raise UserError(
            f"{folder} {kind} {(missing or strange)[0]!r}. Recipe {recipe.name!r} has: "
            f"{', '.join(wanted)}. This is other data, or the recipe's classes need changing"
        )
    return [
        (path, label)
        for label, name in enumerate(wanted)
        for path in images.photos_in(present[name] / inside)
    ]


def find_unsplit(recipe, source):
    """Return (path, label) of a folder a class without splits; say which folders are not used."""
    others = sorted(
        name
        for name, path in images.folders_in(source).items()
        if images.visible(path) and name not in map(folder_name, recipe.classes)
    )
    if others:
        console.info(
            f"{len(others):,} other folders in {source} are no classes of recipe "
            f"{recipe.name!r} and are not used: {', '.join(others[:5])}"
        )
    return find_in_folders(recipe, source, others_too=True)


def numbered_folder(source):
    """Return where <class>.<number>.jpg lie: in the folder train/, if there is one."""
    return source / "train" if (source / "train").is_dir() else source


def find_numbered(recipe, source):
    """Return (path, label) of photos named <class>.<number>.jpg, in the order of the numbers."""
    found = []
    for path in images.photos_in(numbered_folder(source)):
        match = NUMBERED_NAME.fullmatch(path.stem)
        if not match:
            raise UserError(
                f"{path} is not named <class>.<number>, such as cat.0.jpg. Rename it or move it "
                f"away"
            )
        if match[1] not in recipe.classes:
            raise UserError(
                f"{path} is of class {match[1]!r}, and recipe {recipe.name!r} has: "
                f"{', '.join(recipe.classes)}. Move it away, or name its class there"
            )
        found.append((int(match[2]), path, recipe.classes.index(match[1])))
    return [(path, label) for _, path, label in sorted(found)]


def share_out(recipe, found, splits, seed):
    """Return the Entries of a download that comes without splits, as recipe.split says."""
    entries = []
    for label, name in enumerate(recipe.classes):
        mine = [path for path, its_label in found if its_label == label]
        if recipe.split.shuffle:
            random.Random(seed).shuffle(mine)
        else:
            mine.sort(key=by_number)
        start = 0
        for split, count in zip(splits, part_sizes(recipe, name, len(mine)), strict=True):
            entries += [Entry(path, split, label) for path in mine[start : start + count]]
            start += count
    return sorted(entries, key=lambda entry: splits.index(entry.split))


def by_number(path):
    """Return a key that sorts files by the numbers in their names: 9.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.stem)  # every second one is a number
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def shares(recipe):
    """Return what recipe.split gives (training, validation, evaluation).

    Where validation has the evaluation photos, the share that it would get of its own trains.
    """
    training, validation, evaluation = (
        recipe.split.training,
        recipe.split.validation,
        recipe.split.evaluation,
    )
    if not recipe.validate_on_evaluation:
        return training, validation, evaluation
    if validation is None:
        training = None
    elif type(training) is type(validation) is float:
        training += validation
    return training, 0, evaluation


def part_sizes(recipe, class_name, photos):
    """Return how many of a class's photos go to (training, validation, evaluation).

    Raises:
        UserError: there are too few.
    """
    parts = shares(recipe)
    # A share of a class is one photo at the least, so that no split goes without the class.
    sizes = [max(1, round(part * photos)) if type(part) is float else part for part in parts]
    fractions = [part for part in parts if type(part) is float]
    if len(fractions) == 3 - recipe.validate_on_evaluation and math.isclose(sum(fractions), 1):
        # Each is rounded on its own. What that makes too many or too few, training evens out.
        sizes[0] = max(1, photos - sum(sizes[1:]))
    rest = photos - sum(size for size in sizes if size is not None)
    needed = sum(size for size in sizes if size is not None) + (None in sizes)
    if photos < needed:
        raise UserError(
            f"{recipe.source} has {photos:,} photos of class {class_name!r}, and the split of "
            f"recipe {recipe.name!r} needs {needed:,}. Add photos, or make the numbers of its "
            f"split smaller in pyimagesearch/config.py"
        )
    return [rest if size is None else size for size in sizes]


def refuse_empty(recipe, folder, entries, splits):
    """Refuse a split without photos, or in which a class has none."""
    counts = Counter((entry.split, entry.label) for entry in entries)
    for split in splits:
        empty = [name for label, name in enumerate(recipe.classes) if not counts[split, label]]
        if len(empty) == len(recipe.classes):
            raise UserError(f"{folder} holds no photos for {split}. Is the download complete?")
        if empty:
            raise UserError(
                f"{folder} holds no photos of class {empty[0]!r} for {split}. Is the download "
                f"complete? If the class is not in it, take it out of the recipe's classes"
            )


@dataclass(frozen=True)
class Copied:
    """What became of one Entry."""

    entry: Entry
    reason: str | None  # why it was left out; None: it is in the dataset
    digest: str  # SHA-256 of the file
    new: bool  # it was not there before


def plan(recipe, entries, dataset_dir):
    """Return where each photo goes, as a list of paths in the order of `entries`.

    Raises:
        UserError: the download lies where its photos would go, or they would change splits.
    """
    folder = Path(dataset_dir) / recipe.name
    targets = [target_of(recipe, folder, entry) for entry in entries]
    refuse_overlap(entries, targets)
    refuse_moved(recipe, folder, entries, targets)
    return targets


def build(entries, targets, force, done):
    """Copy every photo that decodes; return a list of Copied in the order of `entries`.

    A photo that is in the dataset already, unchanged, is not decoded again unless `force` is set.
    """

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
    """Refuse to copy a dataset onto itself, or class folders into a flat download."""
    pairs = zip(entries, targets, strict=True)
    for source, target in sorted({(each.source.parent, to.parent) for each, to in pairs}):
        if any(each.exists() and each.samefile(source) for each in (target, target.parent)):
            raise UserError(
                f"{source} already lies in the dataset. The recipe's source has to be "
                f"another folder, or has to stay out of DATASET_DIR"
            )


def refuse_moved(recipe, folder, entries, targets):
    """Refuse to put a photo into one split while it lies in another from an earlier build.

    It would be trained on and evaluated with. That happens where a download is split anew,
    because photos have come or the recipe's split has changed.
    """
    wanted, splits = set(targets), {entry.split for entry in entries}
    for entry, target in zip(entries, targets, strict=True):
        for split in splits - {entry.split}:
            other = folder / split / target.parent.name / target.name
            if other not in wanted and same_file(entry.source, other, entry.source.read_bytes):
                raise UserError(
                    f"{other} belongs to {entry.split} now, since the photos are split anew. "
                    f"Delete {folder} (it holds copies only) and run this again"
                )


def copy_one(entry, target, force):
    """Check one photo and copy it with its date; return what became of it."""
    data = entry.source.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not force and same_file(entry.source, target, lambda: data):
        return Copied(entry, None, digest, new=False)
    try:
        images.read_rgb(data)
    except images.BrokenPhoto as broken:
        return Copied(entry, str(broken), digest, new=False)
    with files.whole(target) as partial:
        shutil.copy2(entry.source, partial)
    return Copied(entry, None, digest, new=True)


def same_file(source, target, read):
    """Tell whether a copy of the source is there; `read` gives the source's bytes.

    The same size and date are enough. A date alone says nothing: not every disk and program
    keeps it.
    """
    if not target.is_file():
        return False
    mine, its = files.file_stamp(source), files.file_stamp(target)
    return mine == its or (mine[0] == its[0] and read() == target.read_bytes())


def write_rejected(folder, results):
    """Write rejected.csv: the photos that were left out, and why."""
    path = Path(folder) / REJECTED
    # Not every file name is UTF-8: those of old archives are written with \udc.. for a byte.
    form = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with files.whole(path) as partial, open(partial, "w", **form) as file:
        writer = csv.writer(file)
        writer.writerow(("file", "reason"))
        writer.writerows((each.entry.source, each.reason) for each in results if each.reason)
    return path


def copies_across_splits(results, extra=()):
    """Return the groups of exact copies that sit in more than one split, as lists of paths.

    `extra` are photos that lie in the dataset besides.
    """
    groups = defaultdict(list)
    for each in results:
        if each.reason is None:
            groups[each.digest].append((each.entry.split, each.entry.source))
    for path in extra:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        groups[digest].append((path.parent.parent.name, path))
    return [
        [path for _, path in group]
        for group in groups.values()
        if len({split for split, _ in group}) > 1
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
    # Where validation and evaluation are the same photos, that is the recipe's own doing.
    twice = splits[1] if recipe.validate_on_evaluation else None
    extra = strangers(recipe, dataset_dir, results)
    copies = copies_across_splits(
        [each for each in results if each.entry.split != twice],
        [path for path in extra if path.parent.parent.name != twice],
    )
    if copies:
        example = " = ".join(str(path) for path in copies[0][:2])
        console.warn(
            f"{len(copies):,} photos have an exact copy in another split, which flatters the "
            f"score; the first: {example}"
        )
    if extra:
        console.warn(
            f"{len(extra):,} photos in {folder} are none of those that {recipe.source} gives now, "
            f"and will be used too; the first: {extra[0]}. Delete them if they are left over from "
            f"before"
        )
    kept = [each.entry for each in results if each.reason is None]
    refuse_empty(recipe, Path(recipe.source), kept, splits)
