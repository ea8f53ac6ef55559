"""Read a download by its layout: the folders and file names that give a photo's class and split.

    flat         <split>/<label>_<id>.jpg
    folders      <split>/<class>/
    test_inside  <class>/ with a folder test/ inside: the evaluation photos
    numbered     <class>.<number>.jpg, all in one folder
    unsplit      <class>/
    labels       photos in any folder, and a CSV file with their classes

The names in <> are any folder or file names with that meaning. Archives often wrap all this in one
or two more folders.
"""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from pyimagesearch.support import console, label_files, photo_files
from pyimagesearch.support.errors import UserError

# What the folders of training, validation and evaluation photos are called, besides the names in
# config.py, in upper or lower case.
SPLIT_WORDS = (
    ("train", "training"),
    ("val", "valid", "validation", "dev"),
    ("test", "testing", "evaluation", "eval"),
)
WITHOUT_SPLITS = ("numbered", "unsplit", "labels")
DEEPEST = 3  # how many folders deep the folders of splits and classes are looked for
# A file name can contain a line break, which "." matches with DOTALL only.
FLAT_NAME = re.compile(r"(\d+)_.+", re.DOTALL)
# Browsers and file managers name a second cat.7.jpg "cat.7(1).jpg" or "cat.7 (1).jpg".
NUMBERED_NAME = re.compile(r"(.+)\.(\d+)(?: ?\(\d+\))?", re.DOTALL)


class Download(NamedTuple):
    """A folder of photos as it was downloaded, and the names to expect in it."""

    source: Path
    classes: tuple  # class names, in the order of their labels; (): those of the folders
    class_folders: dict  # {name of a class's folder: label}, in the same order
    split_names: tuple  # of (training, validation, evaluation)
    labels: tuple | None = None  # (CSV file, column of the photos, column of the classes)


class Original(NamedTuple):
    """A photo of a download. Its copy in the dataset has the same bytes."""

    path: Path
    label: int  # index into the classes
    split: str | None  # None: the layout has no splits


def open_download(download, layout=None):
    """Return (Download, layout): without the folders around it, and with the names of its classes.

    `layout` is a name from the list above; None: it is recognised. Raises UserError if the layout
    is not known, or if no class can be found.
    """
    if download.labels:
        layout = "labels"
    else:
        download = unwrapped(download)
        layout = layout or recognise(download)
    if not download.classes:
        names = class_names(download, layout)
        names = sorted(names, key=lambda name: (natural_key(name.casefold()), name))
        if len(names) < 2:
            raise only_one_class(download.source, names)
        refuse_same_folder(download.source, names)
        labels = {name: label for label, name in enumerate(names)}
        download = download._replace(classes=tuple(names), class_folders=labels)
    return download, layout


def only_one_class(source, names):
    """Return the error for a download with photos of one class."""
    remedy = "Put the photos of each class into a folder of its own"
    if tables := sorted(path.name for path in source.glob("*.csv")):
        columns = '"column of names", "column of classes"'
        remedy += f". Or, if {tables[0]} has their classes, add: labels=({tables[0]!r}, {columns})"
    return UserError(
        f"{source} has only one class: {quoted(names)}. A classifier needs two or more. {remedy}"
    )


def read_download(download, layout):
    """Return the photos of a Download as a list of Original, split after split.

    `layout` is a name from the list above. Raises UserError if the download is incomplete, has
    other classes, or has another layout.
    """
    find = {
        "flat": find_flat,
        "folders": find_in_class_folders,
        "test_inside": find_test_inside,
        "numbered": find_numbered,
        "unsplit": find_unsplit,
        "labels": find_with_labels,
    }
    return find[layout](download)


def recognise(download):
    """Return the name of a download's layout, or raise UserError if it has no known layout."""
    if is_numbered(download):
        return "numbered"
    splits = split_folders(download)
    if any(folders_with_photos(folder) for folder in splits.values()):
        return "folders"
    photos = [path for folder in splits.values() for path in photo_files.photos_in(folder)]
    if any(FLAT_NAME.fullmatch(path.stem) for path in photos):
        return "flat"
    folders = class_folders(download)
    if download.classes:
        folders = {name: folders[name] for name in download.class_folders if name in folders}
    if folders:
        has_test_folder = any(inner_test_folder(folder) for folder in folders.values())
        return "test_inside" if has_test_folder else "unsplit"
    raise unknown_layout(download)


def is_numbered(download):
    """Return True if there are photos named <class>.<number>.jpg, of two classes or a known one."""
    source = download.source
    found = {match[1] for match in numbered_names(source)}
    if download.classes:
        return bool(found.intersection(download.classes))
    # Such photos beside folders with photos are just some photos.
    return len(found) > 1 and (numbered_folder(source) != source or not folders_with_photos(source))


def quoted(names):
    """Return the first few names in quotes, for a message: a name may contain a comma."""
    return console.listed(map(repr, names), 8)


def unknown_layout(download):
    """Return the error for a download in which neither splits nor classes can be found."""
    source, classes = download.source, quoted(download.classes)
    wanted = (
        f"a folder for any of the recipe's classes ({classes})"
        if classes
        else "two folders with photos, one per class"
    )
    return UserError(
        f"{source} has neither the folders {', '.join(download.split_names)} nor {wanted}. It "
        f"contains: {first_names(source)}. Set the recipe's source to the folder that contains them"
        f"{', or classes=None to use the names of the folders' if classes else ''}"
    )


def unwrapped(download):
    """Return a Download without the folders that only wrap it, such as the archive's own name."""
    for _ in range(DEEPEST - 1):
        folders = folders_with_photos(download.source)
        if len(folders) != 1 or split_folders(download) or photo_files.has_photo(download.source):
            break
        ((name, folder),) = folders.items()
        if name in download.class_folders or not folders_with_photos(folder):
            break
        download = download._replace(source=folder)
    return download


def split_folders(download):
    """Return {split: path} of the folders that are named like a split, in the order of the splits.

    {} if there is nothing but one such folder beside others with photos: it may be a class.
    """
    words = {
        word: split
        for split, names in zip(download.split_names, SPLIT_WORDS, strict=True)
        for word in names
    }
    words |= {split.casefold(): split for split in download.split_names}
    found, others = {}, False
    for name, folder in visible_folders(download.source).items():
        split = words.get(name.casefold())
        if split is None or name in download.class_folders:
            others = others or has_photos(folder)
        elif split in found:
            raise UserError(
                f"{found[split]} and {folder} are both for {split}. Move the photos of one into "
                f"the other, or move it away"
            )
        else:
            found[split] = folder
    training = download.split_names[0]
    if len(found) == 1 and (others or training not in found):
        return {}
    if found and training not in found:
        raise UserError(
            f"{download.source} has no folder for {training}, such as {training}/ or train/. It "
            f"contains: {first_names(download.source)}"
        )
    return {split: found[split] for split in download.split_names if split in found}


def visible_folders(folder):
    """Return {name: path} of the folders in a folder, without hidden ones."""
    folders = photo_files.folders_in(folder)
    return {name: path for name, path in folders.items() if photo_files.is_visible(path)}


def folders_with_photos(folder):
    """Return {name: path} of the visible folders in a folder that have photos, at any depth."""
    folders = visible_folders(folder)
    return {name: path for name, path in folders.items() if has_photos(path)}


def has_photos(folder):
    """Return True if a folder has a photo, at any depth."""
    for parent, subfolders, names in os.walk(folder):
        # os.walk does not enter what is removed from this list.
        subfolders[:] = [name for name in subfolders if photo_files.is_visible(Path(name))]
        if any(photo_files.is_photo(Path(parent, name)) for name in names):
            return True
    return False


def first_names(folder):
    """Return the first names in a folder, for a message."""
    return quoted(sorted(path.name for path in folder.iterdir())) or "nothing"


def class_folders(download, folder=None):
    """Return {name: path} of the folders of classes in a folder: the nearest that have photos.

    They may be in other folders, such as animals/cat/. A folder with the name of a class of the
    recipe, also as Cat/ for "cat", counts even if it has no photos. Raises UserError if two have
    the same name.
    """
    wanted = download.class_folders
    spelled = {name.casefold(): name for name in wanted}
    found, parents = {}, [folder or download.source]
    for _ in range(DEEPEST):
        here, deeper = {}, []
        for parent in parents:
            for name, path in visible_folders(parent).items():
                name = spelled.get(name.casefold(), name)
                # Some archives have all of their folders a second time, in a deeper folder.
                twin = here.get(name) if wanted else (found | here).get(name)
                if name not in wanted and not photo_files.has_photo(path):
                    deeper.append(path)
                elif twin and (name in wanted or not wanted):
                    raise UserError(
                        f"{twin} and {path} have the same name, so they would be one class. "
                        f"Rename one of them, or move it away"
                    )
                else:
                    here[name] = path
        found, parents = here | found, deeper
    return found


def class_names(download, layout):
    """Return the names of a download's classes, for a recipe without classes."""
    if layout == "flat":
        raise UserError(
            f"the file names in {download.source} have numbers only, so the recipe needs the names "
            f'of the classes 0, 1, ... in this order: classes=("...", "...")'
        )
    if layout == "labels":
        pairs = label_files.read_labels(download.source, download.labels)
        return {class_name for _, class_name in pairs}
    if layout == "numbered":
        return {match[1] for match in numbered_names(download.source)}
    parents = split_folders(download).values() if layout == "folders" else [download.source]
    return {name for parent in parents for name in class_folders(download, parent)}


def refuse_same_folder(source, names):
    """Refuse folders that differ in upper and lower case only."""
    seen = {}
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            raise UserError(
                f"{source} has the folders {first!r} and {name!r}, which would be one folder on "
                f"Windows and macOS. Rename one of them"
            )


def find_flat(download):
    """Return the photos of <split>/<label>_<id>.jpg."""
    return [
        Original(path, flat_label(path, download.classes), split)
        for split, folder in required_splits(download).items()
        for path in photo_files.photos_in(folder)
    ]


def required_splits(download):
    """Return the split_folders of a download, or raise UserError if there are none."""
    splits = split_folders(download)
    if not splits:
        raise UserError(
            f"{download.source} has no folder {download.split_names[0]!r}. It contains: "
            f"{first_names(download.source)}. Set the recipe's source to the folder that contains "
            f"{', '.join(download.split_names)}"
        )
    return splits


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
            f"({quoted(classes)}). This is other data, or a class is missing from the recipe in "
            f"pyimagesearch/config.py"
        )
    return label


def find_in_class_folders(download):
    """Return the photos of <split>/<class>/."""
    splits = required_splits(download)
    return [
        photo
        for split, folder in splits.items()
        for photo in class_photos(download, folder, split, strict=True)
    ]


def class_photos(download, folder, split, strict=False, subfolder=lambda path: path):
    """Return the photos in the folders of the classes, or in a subfolder of each.

    A class may be missing outside of training. `strict` refuses folders of other classes.
    """
    folders, wanted = class_folders(download, folder), download.class_folders
    missing = [name for name in wanted if name not in folders]
    unknown = sorted(folders.keys() - wanted.keys())
    is_incomplete = missing and (
        split in (None, download.split_names[0]) or len(missing) == len(wanted)
    )
    if is_incomplete or (unknown and strict):
        raise wrong_folders(folder, min(missing, default=None), unknown, wanted)
    return [
        Original(path, label, split)
        for name, label in wanted.items()
        if name in folders and (inner := subfolder(folders[name]))
        for path in photo_files.photos_in(inner)
    ]


def wrong_folders(folder, missing, unknown, wanted):
    """Return the error for a folder without the folder of a class, or with another one."""
    name, others = (missing, unknown) if missing else (unknown[0], list(wanted))
    similar = difflib.get_close_matches(name, others, n=1)
    problem = f"has no folder {missing!r}" if missing else f"has a folder {unknown[0]!r}"
    hint = f". Did you mean {similar[0]!r}?" if similar else "."
    return UserError(
        f"{folder} {problem}{hint} The folders of the recipe's classes are: "
        f"{quoted(wanted)}. This is other data, or the recipe's classes are wrong: "
        f"classes=None uses the names of the folders"
    )


def find_test_inside(download):
    """Return the photos of <class>/, which are for training, and of <class>/test/."""
    training, _, evaluation = download.split_names
    photos = class_photos(download, download.source, training)
    inside = class_photos(download, download.source, evaluation, subfolder=inner_test_folder)
    return photos + inside


def inner_test_folder(folder):
    """Return the folder test/ in the folder of a class, or None."""
    folders = visible_folders(folder).items()
    return next((path for name, path in folders if name.casefold() in SPLIT_WORDS[2]), None)


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
                f"{quoted(download.classes)}. Move it away, or add its class to the recipe"
            )
        numbered.append((int(match[2]), path, download.classes.index(match[1])))
    return [Original(path, label, None) for _, path, label in sorted(numbered)]


def numbered_folder(source):
    """Return the folder of the photos <class>.<number>.jpg: Kaggle's archive has them in train/."""
    while (source / "train").is_dir():
        source = source / "train"
    return source


def numbered_names(source):
    """Return the matches of NUMBERED_NAME with the names of a download's photos."""
    paths = photo_files.photos_in(numbered_folder(source))
    return list(filter(None, (NUMBERED_NAME.fullmatch(path.stem) for path in paths)))


def natural_key(text):
    """Return a sort key that puts "9" before "10"."""
    parts = re.split(r"(\d+)", text)  # every second part is a number
    return [int(part) if position % 2 else part for position, part in enumerate(parts)]


def find_unsplit(download):
    """Return the photos of <class>/."""
    others = sorted(class_folders(download).keys() - download.class_folders.keys())
    if others:
        console.info(
            f"{download.source} also has folders of other classes, which are not used: "
            f"{quoted(others)}"
        )
    return class_photos(download, download.source, split=None)


def find_with_labels(download):
    """Return the photos that a CSV file gives the classes of."""
    pairs = label_files.read_labels(download.source, download.labels)
    found = label_files.find_labelled(download.source, pairs, download.classes)
    return [Original(path, label, None) for path, label in sorted(found.items())]


def present_splits(download, layout):
    """Return {split: path} of the splits that a download has. The path is for messages."""
    if layout in WITHOUT_SPLITS:
        return {}
    if layout == "test_inside":
        training, _, evaluation = download.split_names
        return {training: download.source, evaluation: download.source / "*" / "test"}
    return split_folders(download)


def report_broken_links(source):
    """Warn of photos that are links to nothing, as git-annex and DVC have before a download."""
    links = [
        path
        for path in source.rglob("*")
        if path.suffix.lower() in photo_files.SUFFIXES and path.is_symlink() and not path.exists()
    ]
    if links:
        console.warn(
            f"photos that are links to files which do not exist: {len(links):,}, the first "
            f"{min(links)}. If git-annex or DVC made them, run git annex get, or dvc pull"
        )


def report_unused_files(source, used):
    """Report empty folders of a download, files that are not photos, and photos that are too deep.

    These are in folders below those of the `used` photos, such as <class>/2023/.
    """
    unused, empty, folders_with_photos = [], [], {path.parent for path in used}
    for folder, subfolders, names in os.walk(source):
        # os.walk does not enter what is removed from this list.
        subfolders[:] = [name for name in subfolders if photo_files.is_visible(Path(name))]
        unused += [path for name in names if (path := Path(folder, name)) not in used]
        empty += [] if names or subfolders else [Path(folder)]
    if empty:
        console.info(f"empty folders: {len(empty):,}, the first {min(empty)}")
    photo_files.report_others(source, unused)
    deeper = [
        path
        for path in filter(photo_files.is_photo, unused)
        if folders_with_photos.intersection(path.parent.parents)
    ]
    if deeper:
        console.warn(
            f"photos that are not used because they are in deeper folders: {len(deeper):,}, the "
            f"first in {min(deeper).parent}. Move them up to the other photos"
        )
