"""Turn a download into dataset/<recipe>/<split>/<class>/, and list the photos of a dataset."""

import hashlib
import math
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyimagesearch import images
from pyimagesearch.recipe import folder_name
from pyimagesearch.support import console, copies, files, fingerprints, layouts, photo_files
from pyimagesearch.support.errors import UserError


def find_originals(recipe, split_names, seed):
    """Return the photos of a recipe's download as a list of layouts.Original, split after split.

    If the download has no splits, the seed shuffles it. Raises UserError if it is missing, is
    incomplete, or has other classes.
    """
    source = Path(recipe.source)
    if not source.is_dir():
        problem = "not a folder" if source.exists() else "missing"
        where = f" ({recipe.download})" if recipe.download else ""
        raise UserError(
            f"{source} is {problem}. Put the photos of recipe {recipe.name!r} there{where}, or "
            f"change its source in pyimagesearch/config.py"
        )
    class_folders = {folder_name(name): label for label, name in enumerate(recipe.classes)}
    download = layouts.Download(source, recipe.classes, class_folders, split_names)
    layout = recipe.layout or layouts.recognise(download)
    originals = layouts.read_download(download, layout)
    if layout in layouts.WITHOUT_SPLITS:
        originals = divide(recipe, originals, split_names, seed)
    if recipe.validate_on_evaluation:
        # The photos of evaluation are also in validation, instead of any others.
        _, validation, evaluation = split_names
        shared = [photo for photo in originals if photo.split == evaluation]
        originals = [photo for photo in originals if photo.split != validation]
        originals += [photo._replace(split=validation) for photo in shared]
    layouts.report_unused_files(source, {photo.path for photo in originals})
    refuse_empty(recipe, originals, split_names)
    return originals


def divide(recipe, originals, split_names, seed):
    """Return the photos of a download without splits, divided class by class as in recipe.split."""
    divided = []
    for label, name in enumerate(recipe.classes):
        photos = [photo for photo in originals if photo.label == label]
        if recipe.split.shuffle:
            random.Random(seed).shuffle(photos)
        else:
            photos.sort(key=lambda photo: layouts.number_key(photo.path))
        sizes, rest = split_sizes(recipe, name, len(photos)), iter(photos)
        for split, size in zip(split_names, sizes, strict=True):
            divided += [photo._replace(split=split) for photo in islice(rest, size)]
    return sorted(divided, key=lambda photo: split_names.index(photo.split))


def split_sizes(recipe, class_name, count):
    """Return how many of the `count` photos of a class go to (training, validation, evaluation)."""
    parts = split_parts(recipe)
    # A fraction is at least one photo, so that every split has photos of every class.
    sizes = [max(1, round(part * count)) if type(part) is float else part for part in parts]
    fractions = [part for part in parts if type(part) is float]
    if len(fractions) == 3 - recipe.validate_on_evaluation and math.isclose(sum(fractions), 1):
        # Each size is rounded on its own, so the sum can be off. Training makes up for it.
        sizes[0] = max(1, count - sum(sizes[1:]))
    used = sum(size for size in sizes if size is not None)
    needed = used + sizes.count(None)
    if count < needed:
        raise UserError(
            f"{recipe.source} has {count:,} photos of class {class_name!r}, but the split of "
            f"recipe {recipe.name!r} needs {needed:,}. Add photos, or make the numbers of its "
            f"split smaller in pyimagesearch/config.py"
        )
    return [count - used if size is None else size for size in sizes]


def split_parts(recipe):
    """Return the parts of recipe.split: (training, validation, evaluation)."""
    training, validation = recipe.split.training, recipe.split.validation
    if recipe.validate_on_evaluation:
        # The evaluation photos are also the validation photos; the other validation photos train.
        if validation is None:
            training = None
        elif type(training) is type(validation) is float:
            training += validation
        validation = 0
    return training, validation, recipe.split.evaluation


def refuse_empty(recipe, originals, split_names):
    """Refuse a split without photos, or without photos of one class."""
    counts = Counter((photo.split, photo.label) for photo in originals)
    for split in split_names:
        empty = [name for label, name in enumerate(recipe.classes) if not counts[split, label]]
        if len(empty) == len(recipe.classes):
            raise UserError(f"{recipe.source} has no photos for {split}. Is the download complete?")
        if empty:
            raise UserError(
                f"{recipe.source} has no photos of class {empty[0]!r} for {split}. Is the download "
                f"complete? If it does not have that class, remove it from the recipe's classes"
            )


def plan_copies(recipe, originals, folder):
    """Return {Original: path of its copy in the dataset's folder}.

    Raises UserError if the source is in the dataset, or if an earlier run divided photos otherwise.
    """
    targets = {
        photo: folder / photo.split / folder_name(recipe.classes[photo.label]) / photo.path.name
        for photo in originals
    }
    copies.refuse_source_in_dataset(targets)
    copies.refuse_changed_splits(targets, folder)
    return targets


class Result(NamedTuple):
    """What copy_photos did with one photo."""

    original: layouts.Original
    target: Path
    error: str | None  # why the photo was rejected; None: it is in the dataset
    digest: str  # SHA-256 of the file
    is_new: bool  # it was not in the dataset before


def copy_photos(targets, force):
    """Copy every photo that can be decoded; yield a Result for each, in the order of `targets`.

    Photos that are in the dataset already are not decoded again, unless `force` is set.
    """
    ahead = 4 * images.READER_THREADS
    return images.read_ahead(lambda item: copy_photo(*item, force), targets.items(), ahead)


def copy_photo(original, target, force):
    """Decode one photo and copy it with its date; return its Result."""
    data = original.path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    result = Result(original, target, error=None, digest=digest, is_new=False)
    if not force and copies.is_copy(original.path, target):
        return result
    try:
        images.read_rgb(data)
    except images.BrokenPhoto as error:
        return result._replace(error=str(error))
    with files.atomic_write(target) as partial:
        shutil.copy2(original.path, partial)
    return result._replace(is_new=True)


def report_problems(recipe, results, folder, split_names):
    """Write rejected.csv, and warn of everything in the dataset that looks wrong.

    Raises UserError if all photos that a split has of a class were rejected.
    """
    rejected = [(result.original.path, result.error) for result in results if result.error]
    copied = [result for result in results if not result.error]
    copies.report_rejected(folder / "rejected.csv", rejected)
    counts = Counter(result.original.split for result in copied)
    for split, official in (recipe.official_counts or {}).items():
        if counts[split] != official:
            console.warn(
                f"{split} has {counts[split]:,} photos; the official download has {official:,}"
            )
    extra_paths = find_extra_photos(recipe, copied, folder, split_names)
    photos = [(result.digest, result.original.split, result.original.path) for result in copied]
    for path in extra_paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        photos.append((digest, path.parent.parent.name, path))
    if recipe.validate_on_evaluation:
        # Every photo of validation has a copy in evaluation by design.
        photos = [photo for photo in photos if photo[1] != split_names[1]]
    copies.report_duplicates(photos)
    if extra_paths:
        console.warn(
            f"photos in {folder} that do not come from {recipe.source}: {len(extra_paths):,}, the "
            f"first {extra_paths[0]}. They are used too. Delete them if they are from an earlier "
            f"download"
        )
    refuse_empty(recipe, [result.original for result in copied], split_names)


def find_extra_photos(recipe, copied, folder, split_names):
    """Return the paths of photos in the dataset that are not copies of this download's photos."""
    class_folders = [
        folder / split / folder_name(name) for split in split_names for name in recipe.classes
    ]
    paths = {path for class_folder in class_folders for path in photo_files.photos_in(class_folder)}
    return sorted(paths - {result.target for result in copied})


def count_table(recipe, results, split_names):
    """Return how many photos of each class each split has, as a text table."""
    photos = [result.original for result in results if not result.error]
    # None stands for all classes.
    counts = Counter((label, photo.split) for photo in photos for label in (photo.label, None))
    rows = [*enumerate(recipe.classes), (None, "all")]
    width = max(len(name) for _, name in rows)
    lines = [" " * width + "".join(f"{split:>12}" for split in split_names)]
    for label, name in rows:
        numbers = [f"{counts[label, split]:>12,}" for split in split_names]
        lines.append(f"{name:<{width}}" + "".join(numbers))
    return "\n".join(lines)


@dataclass(frozen=True)
class Photos:
    """An ordered list of photos. The class of paths[i] is classes[labels[i]]."""

    paths: tuple
    labels: np.ndarray  # (photos,) integers
    classes: tuple

    def __len__(self):
        return len(self.paths)

    def take(self, positions):
        """Return the photos at these positions as Photos, in the order of the positions."""
        paths = tuple(self.paths[position] for position in positions)
        return Photos(paths, self.labels[list(positions)], self.classes)

    @property
    def digest(self):
        """16 hexadecimal digits that change if a photo is added, removed or changed."""
        try:
            names = [(path.parent.name, path.name, *files.file_stamp(path)) for path in self.paths]
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} has just disappeared. Put it back, or run the same command "
                f"again to continue without it"
            ) from error
        return fingerprints.digest(names, self.classes)


class Splits(NamedTuple):
    """The photos of a dataset."""

    training: Photos
    validation: Photos
    evaluation: Photos


def list_splits(dataset_dir, recipe, split_names):
    """Return the photos of all three splits as Splits. Raises the errors of list_photos."""
    return Splits(*(list_photos(dataset_dir, recipe, split) for split in split_names))


def list_photos(dataset_dir, recipe, split):
    """Return the Photos of one split in a fixed order: class after class, then by name.

    Raises UserError if the split or a class is missing or empty, or a folder belongs to no class.
    """
    folder = Path(dataset_dir) / recipe.name / split
    command = console.command("build_dataset", recipe.name)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing. Make it with: {command}")
    folders = photo_files.folders_in(folder)
    class_folders = [folder_name(name) for name in recipe.classes]
    unknown = [name for name in folders.keys() - set(class_folders) if not name.startswith(".")]
    if unknown:
        raise UserError(
            f"{folders[min(unknown)]} does not belong to a class of recipe {recipe.name!r}. Move "
            f"it away, or add the class to the recipe"
        )
    paths, labels = [], []
    for label, name in enumerate(class_folders):
        # Not imutils.paths.list_images, which the posts use: it does not sort, and it also lists
        # the files named ._photo.jpg that macOS writes next to photos.
        photos = photo_files.photos_in(folders.get(name, folder / name))
        if not photos:
            raise UserError(f"{folder / name} has no photos. Put some there, or run: {command}")
        paths += photos
        labels += [label] * len(photos)
    return Photos(tuple(paths), np.array(labels), recipe.classes)


def hold_out(splits, share, seed):
    """Return Splits that validate on a random share of each class of the training photos.

    At least one photo of every class stays in training. Raises UserError if no class has two. If
    the share is 0, the Splits stay as they are.
    """
    if not share:
        return splits
    photos = splits.training
    shuffled = np.random.default_rng(seed).permutation(len(photos))
    is_held_out = np.zeros(len(photos), bool)
    for label in np.unique(photos.labels):
        positions = shuffled[photos.labels[shuffled] == label]
        count = max(1, round(share * len(positions)))
        is_held_out[positions[: min(count, len(positions) - 1)]] = True
    if not is_held_out.any():
        raise UserError(
            "held_out needs a class with two training photos, but there is none. Add photos"
        )
    training, validation = (photos.take(np.flatnonzero(k)) for k in (~is_held_out, is_held_out))
    return splits._replace(training=training, validation=validation)
