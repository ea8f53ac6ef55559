"""Turn a download into dataset/<recipe>/<split>/<class>/, and list the photos of a dataset."""

import hashlib
import itertools
import shlex
import tarfile
import zipfile
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyimagesearch import images
from pyimagesearch.recipe import Download, Recipe, folder_name, with_classes
from pyimagesearch.support import (
    console,
    copies,
    dividing,
    files,
    fingerprints,
    layouts,
    photo_files,
)
from pyimagesearch.support.errors import UserError


class Found(NamedTuple):
    """The photos of a recipe's download."""

    recipe: Recipe  # with its classes
    source: Path
    originals: list  # of layouts.Original
    drawn: tuple  # the splits that the download does not have: they are drawn from its photos


def find_originals(recipe, split_names):
    """Return the Found photos of a recipe's download, and print where they are.

    Raises UserError if the download is missing, is incomplete, or has other classes.
    """
    if len(set(split_names)) < 3:
        raise UserError(
            f"TRAIN, VAL and TEST in pyimagesearch/config.py are {', '.join(split_names)}. They "
            f"name three folders, so they must differ"
        )
    source = source_folder(recipe)
    layouts.report_broken_links(source)
    classes = recipe.classes or ()
    class_folders = {folder_name(name): label for label, name in enumerate(classes)}
    download = layouts.Download(source, classes, class_folders, split_names, recipe.labels)
    download, layout = layouts.open_download(download, recipe.layout)
    if recipe.classes is None:
        console.info(f"classes: {console.listed(map(repr, download.classes), 50)}")
    recipe = with_classes(recipe, download.classes)
    originals = layouts.read_download(download, layout)
    present = layouts.present_splits(download, layout)
    drawn = tuple(split for split in split_names if split not in present)
    if recipe.validate_on_evaluation:
        drawn = tuple(split for split in drawn if split != split_names[1])
    layouts.report_unused_files(source, {photo.path for photo in originals})
    refuse_empty_splits(recipe, originals, present or (None,))
    console.info(f"found: {found_text(recipe, originals, present, drawn, split_names)}")
    return Found(recipe, source, originals, drawn)


def source_folder(recipe):
    """Return the path of a recipe's source, or raise UserError if it is not a folder."""
    source = Path(recipe.source).expanduser()
    if not source.exists():
        # As it is written on Windows.
        source = Path(recipe.source.replace("\\", "/")).expanduser()
    if source.is_dir():
        return source
    for name, is_archive in (("zipfile", zipfile.is_zipfile), ("tarfile", tarfile.is_tarfile)):
        if source.is_file() and is_archive(source):
            folder = source.with_name(source.name.split(".")[0])
            command = shlex.join(["python", "-m", name, "-e", str(source), str(folder)])
            raise UserError(
                f"{source} is an archive. Unpack it with: {command}, and set the recipe's source "
                f"to {str(folder)!r}"
            )
    problem = "not a folder" if source.exists() else "missing"
    remedy = f"Put the photos of recipe {recipe.name!r} there"
    if isinstance(recipe.download, Download):
        remedy = f"Download its photos with: {console.command('tools/get_dataset', recipe.name)}"
    elif recipe.download:
        remedy += f" ({recipe.download})"
    raise UserError(
        f"{source} is {problem}. {remedy}, or change its source in pyimagesearch/config.py"
    )


def found_text(recipe, originals, present, drawn, split_names):
    """Return the sentence that says which folders have which photos, and what is drawn from them.

    `present` is {split: folder} of the splits that the download has, `drawn` are the others.
    """
    counts = Counter(photo.split for photo in originals)
    words = [
        f"{folder.name}/ -> {split} ({counts[split]:,}{'' if number else ' photos'})"
        for number, (split, folder) in enumerate(present.items())
    ]
    if not present:
        words = [f"{counts[None]:,} photos without splits"]
    pool = f" of {present[split_names[0]].name}/" if present else ""
    shares = dict(zip(split_names, dividing.drawn_parts(recipe, drawn, split_names), strict=True))
    draws = [f"{split}: {dividing.part_text(shares[split])}{pool}" for split in drawn]
    if recipe.validate_on_evaluation:
        draws.append(f"{split_names[1]}: the same photos as {split_names[2]}")
    return "; ".join(", ".join(part) for part in (words, draws) if part)


def refuse_source_in_dataset(found, folder, split_names):
    """Refuse to copy photos that are in the dataset's folder already."""
    names = [folder_name(name) for name in found.recipe.classes]
    class_folders = [folder / split / name for split in split_names for name in names]
    copies.refuse_source_in_dataset(found.originals, class_folders)


class Checked(NamedTuple):
    """A photo of a download that was decoded."""

    original: layouts.Original
    stamp: list  # files.file_stamp
    digest: str  # SHA-256 of the file
    error: str | None  # why it cannot be used
    is_blank: bool = False  # it was decoded in this run, and is nearly black or white all over

    def name(self, source):
        """Return its path in the source, as copies.RECORD_FILE has it."""
        return str(self.original.path.relative_to(source))


def check_photos(found, record):
    """Decode every photo; yield a Checked for each, in their order.

    Photos that have not changed since the earlier run of the `record` are not decoded again.
    """
    earlier = record["photos"] if record else {}

    def check(photo):
        name, stamp = str(photo.path.relative_to(found.source)), list(files.file_stamp(photo.path))
        known = earlier.get(name)
        if known and known["stamp"] == stamp:
            return Checked(photo, known["stamp"], known["digest"], None)
        data = photo.path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        try:
            is_blank = images.is_blank(images.read_rgb(data, images.SCREEN_SIZE))
        except images.BrokenPhoto as broken:
            return Checked(photo, stamp, digest, str(broken))
        return Checked(photo, stamp, digest, None, is_blank)

    return images.read_ahead(check, found.originals, 4 * images.reader_threads())


def reject_claimed_twice(recipe, checked):
    """Return the Checked photos, with an error for those that are in the folders of two classes."""
    counts = Counter(each.digest for each in checked if not each.error)
    labels = defaultdict(dict)  # {digest: {label: path}} of the photos that are there twice
    for each in checked:
        if counts[each.digest] > 1 and not each.error:
            labels[each.digest].setdefault(each.original.label, each.original.path)
    result = []
    for each in checked:
        others = [
            (label, path)
            for label, path in labels.get(each.digest, {}).items()
            if label != each.original.label
        ]
        if others and not each.error:
            label, path = others[0]
            each = each._replace(
                error=f"the same photo is in class {recipe.classes[label]!r}: {path}"
            )
        result.append(each)
    return result


def reject_copies(checked, split_names):
    """Return the Checked photos, with an error for all but the first of photos that are the same.

    Otherwise they could be drawn for two splits. Photos in a split of the download stay there.
    """
    first, result = {}, []
    for each in checked:
        may_be_drawn = each.original.split in (None, split_names[0])
        if may_be_drawn and not each.error:
            path = first.setdefault(each.digest, each.original.path)
            if path != each.original.path:
                each = each._replace(error=f"an exact copy of {path}")
        result.append(each)
    return result


class Plan(NamedTuple):
    """What the dataset will be."""

    recipe: Recipe  # without the classes that are left out
    targets: dict  # {layouts.Original: path of its copy in the dataset's folder, as text}
    divided: bool  # not all splits are those of the download


def plan(found, checked, record, folder, split_names, seed, skip_small_classes=False):
    """Return the Plan for the Checked photos of a download: which goes where.

    Photos that an earlier run has put into a split stay there; the others are divided. Raises
    UserError if a class has too few photos, unless these classes are to be skipped.
    """
    splits = copies.earlier_splits(record, folder, split_names)
    earlier = {
        each.original.path: split
        for each in checked
        if (split := splits.get(each.name(found.source), splits.get(each.digest)))
    }
    checked = reject_claimed_twice(found.recipe, checked)
    if found.drawn and found.recipe.split.shuffle:
        checked = reject_copies(checked, split_names)
    rejected = [(each.original.path, each.error) for each in checked if each.error]
    copies.report_rejected(folder / "rejected.csv", rejected)
    recipe, photos = found.recipe, [each.original for each in checked if not each.error]
    if skip_small_classes:
        recipe, photos = without_small_classes(recipe, photos, found.drawn, split_names)
    photos = dividing.divide(recipe, photos, split_names, seed, found.drawn, earlier)
    if recipe.validate_on_evaluation:
        # The photos of evaluation are also in validation, instead of any others.
        _, validation, evaluation = split_names
        shared = [photo for photo in photos if photo.split == evaluation]
        photos = [photo for photo in photos if photo.split != validation]
        photos += [photo._replace(split=validation) for photo in shared]
    refuse_empty_splits(recipe, photos, split_names)
    warn_of_missing_classes(recipe, photos, split_names[1:])
    return Plan(recipe, name_copies(recipe, photos, found.source), bool(found.drawn))


def name_copies(recipe, photos, source):
    """Return {layouts.Original: path of its copy}, which has its name if no other has it.

    On Windows and macOS, IMG.jpg and img.jpg are one file, so two names also differ by more than
    upper and lower case.
    """
    folders = [folder_name(name) for name in recipe.classes]
    targets = {photo: f"{photo.split}/{folders[photo.label]}/{photo.path.name}" for photo in photos}
    counts = Counter(target.casefold() for target in targets.values())
    for photo, target in targets.items():
        if counts[target.casefold()] > 1:
            folder, longer = Path(target).parent, "_".join(photo.path.relative_to(source).parts)
            name = free_name(folder / longer, counts).as_posix()
            counts[name.casefold()] = 1
            targets[photo] = name
    return targets


def free_name(path, taken):
    """Return a path that is not taken, if need be with a number: x_img.jpg, x_img_2.jpg, ...

    `taken` has the paths in lower case.
    """
    numbered = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
    names = itertools.chain([path], numbered)
    return next(name for name in names if name.as_posix().casefold() not in taken)


def without_small_classes(recipe, photos, drawn, split_names):
    """Return (recipe, photos) without the classes that have too few photos; print their names."""
    parts = dividing.drawn_parts(recipe, drawn, split_names)
    small = dividing.small_classes(parts, dividing.photos_to_divide(recipe, photos, split_names))
    if not small:
        return recipe, photos
    names = [f"{recipe.classes[label]!r} ({count:,})" for label, (count, _) in small.items()]
    console.warn(f"classes left out because they have too few photos: {console.listed(names)}")
    labels = [label for label in range(len(recipe.classes)) if label not in small]
    recipe = with_classes(recipe, [recipe.classes[label] for label in labels])
    new_labels = {label: number for number, label in enumerate(labels)}
    kept = [photo for photo in photos if photo.label in new_labels]
    return recipe, [photo._replace(label=new_labels[photo.label]) for photo in kept]


def refuse_empty_splits(recipe, originals, split_names):
    """Refuse a split without any photos."""
    with_photos = {photo.split for photo in originals}
    for split in split_names:
        if split not in with_photos:
            where = f" for {split}" if split else ""
            raise UserError(f"{recipe.source} has no photos{where}. Is the download complete?")


def warn_of_missing_classes(recipe, photos, split_names):
    """Warn of classes without photos for validation or evaluation."""
    found = {(photo.split, photo.label) for photo in photos}
    for split in split_names:
        missing = [
            repr(name) for label, name in enumerate(recipe.classes) if (split, label) not in found
        ]
        if missing:
            console.warn(
                f"{split} has no photos of {console.listed(missing)}, so it cannot judge them"
            )


def update_record(recipe, source, plan, checked, record, folder, seed):
    """Record what the dataset in a folder will be, and take away copies that it has no longer.

    `recipe` is that of config.py, `source` the folder of the download, and `record` the one that
    the plan was made with. The new one is written before the photos are copied: a run that is
    interrupted and then resumed puts each photo into the same split.
    """
    paths = defaultdict(list)  # {path in the source: copies}
    for photo, target in plan.targets.items():
        paths[photo.path].append(target)
    copies.report_changes(record, {each.digest for each in checked if each.original.path in paths})
    divided_by = {"SEED": seed, "split": asdict(recipe.split)}
    changes = list(fingerprints.compare("", (record or {}).get("divided_by"), divided_by))
    if plan.divided and record and record["photos"] and changes:
        console.warn(
            f"{'; '.join(changes)}, but photos stay in the split that they are in. Divide them "
            f"again with: {console.command('build_dataset', recipe.name, '--force')}"
        )
        divided_by = record["divided_by"]
    # With --force, the `record` is empty, but there may be copies of an earlier run.
    on_disk = copies.read_record(folder) if record == copies.NO_RECORD else record
    copies.remove_stale(on_disk, plan.targets.values(), folder, {each.digest for each in checked})
    settings = {
        "recipe_classes": recipe.classes,
        "classes": plan.recipe.classes,
        "divided_by": divided_by,
    }
    photos = (
        (
            each.name(source),
            {
                "stamp": each.stamp,
                "digest": each.digest,
                "copies": paths.get(each.original.path, ()),
            },
        )
        for each in checked
        if not each.error
    )
    copies.write_record(folder, settings, photos)


def copy_photos(targets, folder, force):
    """Copy photos to a dataset's folder; yield True for each that was not there before.

    `targets` is an iterator over the items of a Plan's targets. Photos that are in the dataset
    already are not copied again, unless `force` is set.
    """

    def copy(item):
        original, target = item
        return copies.copy_photo(original.path, folder / target, force)

    return images.read_ahead(copy, targets, 4 * images.reader_threads())


def report_problems(plan, checked, folder, split_names):
    """Warn of everything in the dataset that looks wrong."""
    recipe = plan.recipe
    copies.report_blank([each.original.path for each in checked if each.is_blank])
    counts = Counter(photo.split for photo in plan.targets)
    for split, official in (recipe.official_counts or {}).items():
        if counts[split] != official:
            console.warn(
                f"{split} has {counts[split]:,} photos; the official download has {official:,}"
            )
    extra_paths = find_extra_photos(plan, folder, split_names)
    digests = {each.original.path: each.digest for each in checked}
    photos = itertools.chain(
        ((digests[photo.path], photo.split, photo.path) for photo in plan.targets),
        ((copies.file_digest(path), path.parent.parent.name, path) for path in extra_paths),
    )
    if recipe.validate_on_evaluation:
        # Every photo of validation has a copy in evaluation by design.
        photos = (photo for photo in photos if photo[1] != split_names[1])
    copies.report_duplicates(photos)
    if extra_paths:
        console.warn(
            f"photos in {folder} that do not come from {recipe.source}: {len(extra_paths):,}, the "
            f"first {extra_paths[0]}. They are used too. Delete them if they are from an earlier "
            f"download"
        )


def find_extra_photos(plan, folder, split_names):
    """Return the paths of photos in the dataset that are not copies of this download's photos."""
    copied = set(plan.targets.values())
    class_folders = [
        f"{split}/{folder_name(name)}" for split in split_names for name in plan.recipe.classes
    ]
    return sorted(
        folder / class_folder / name
        for class_folder in class_folders
        for name in photo_files.photo_names(folder / class_folder)
        if f"{class_folder}/{name}" not in copied
    )


def count_table(plan, split_names):
    """Return how many photos of each class each split has, as a text table."""
    # None stands for all classes.
    counts = Counter(
        (label, photo.split) for photo in plan.targets for label in (photo.label, None)
    )
    rows = [*enumerate(plan.recipe.classes), (None, "all")]
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


def open_dataset(dataset_dir, recipe, split_names):
    """Return (recipe with the classes of its dataset, Splits). Raises the errors of list_splits."""
    folder = Path(dataset_dir) / recipe.name
    record = copies.read_record(folder)
    if record and record["recipe_classes"] == (recipe.classes and list(recipe.classes)):
        recipe = with_classes(recipe, record["classes"])
    elif recipe.classes is None:
        command = console.command("build_dataset", recipe.name)
        raise UserError(
            f"{folder / copies.RECORD_FILE} is missing or out of date. Make it with: {command}"
        )
    return recipe, list_splits(dataset_dir, recipe, split_names)


def list_splits(dataset_dir, recipe, split_names):
    """Return the photos of all three splits as Splits. Raises the errors of list_photos.

    Only the training photos must have every class.
    """
    splits = Splits(*(list_photos(dataset_dir, recipe, split) for split in split_names))
    missing = set(range(len(recipe.classes))) - set(splits.training.labels.tolist())
    if missing:
        folder = Path(
            dataset_dir, recipe.name, split_names[0], folder_name(recipe.classes[min(missing)])
        )
        raise no_photos(folder, recipe)
    return splits


def no_photos(folder, recipe):
    """Return the error for a folder of a dataset that has no photos."""
    command = console.command("build_dataset", recipe.name)
    return UserError(f"{folder} has no photos. Put some there, or run: {command}")


def list_photos(dataset_dir, recipe, split):
    """Return the Photos of one split in a fixed order: class after class, then by name.

    Raises UserError if the split is missing or empty, or a folder belongs to no class.
    """
    folder = Path(dataset_dir) / recipe.name / split
    command = console.command("build_dataset", recipe.name)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing. Make it with: {command}")
    folders = photo_files.folders_in(folder)
    class_folders = [folder_name(name) for name in recipe.classes]
    others = {name: path for name, path in folders.items() if name not in class_folders}
    # A class that is gone from the download leaves an empty folder.
    unknown = [
        name
        for name, path in others.items()
        if photo_files.is_visible(path) and photo_files.has_photo(path)
    ]
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
        paths += photos
        labels += [label] * len(photos)
    if not paths:
        raise no_photos(folder, recipe)
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
