"""What the frozen part says about photos: computed once, in order, kept as CSV."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pyimagesearch import files, images
from pyimagesearch.console import UserError

MADE_FROM = "made_from.json"


def frozen_outputs(run, paths, size, batch_size, augment=None):
    """Yield what the frozen part says about each photo: every photo once, in order.

    Args:
        run: networks.forward of the frozen part.
        paths, size, batch_size, augment: as images.batches takes them.

    Yields:
        (batch, *cut) arrays, the last batch smaller. At VGG16's block5_pool and 224 x 224 pixels
        a photo is (7, 7, 512).
    """
    for batch in images.batches(paths, size, batch_size, augment):
        yield run(batch)


def write_csv(path, labels, batches, done):
    """Write one row a photo: its label, then its features. Reading them back is exact.

    A thread writes while the network computes the next batch.

    Args:
        path: of the CSV; it appears when it is whole.
        labels: (n,) ints.
        batches: (batch, features) arrays, n rows in all.
        done: called with the number of rows after each batch.

    Returns:
        The number of features.
    """
    columns = 0
    with files.whole(path) as partial, open(partial, "w") as csv, ThreadPoolExecutor(1) as writer:
        start, written = 0, None
        for batch in batches:
            columns = batch.shape[1]
            stop = start + len(batch)
            text = writer.submit(write_rows, csv, labels[start:stop], batch)
            # At most one batch waits to be written: memory stays flat on a slow disk.
            if written is not None:
                written.result()
            start, written = stop, text
            done(len(batch))
        if written is not None:
            written.result()
    return columns


def write_rows(csv, labels, rows):
    """Append rows to an open CSV. Nine digits are enough to give any float32 back bit for bit."""
    form = ",".join(["%d", *["%.9g"] * rows.shape[1]]) + "\n"
    for label, row in zip(labels, rows.astype(np.float32), strict=True):
        csv.write(form % (label, *row.tolist()))


def read_csv(path, classes):
    """Return the (n, features) float32 features and (n,) int labels of a CSV.

    Raises:
        UserError: a row is damaged, a value is not a number, or a label is of no class.
    """
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except ValueError as failure:
        raise UserError(f"{path} is damaged: {failure}. {remake(path)}") from failure
    labels = table[:, 0].astype(int)
    features = np.ascontiguousarray(table[:, 1:])
    if not features.size or not np.isfinite(table).all():
        raise UserError(f"{path} holds values that are not numbers. {remake(path)}")
    strange = labels[(labels < 0) | (labels >= len(classes))]
    if len(strange):
        raise UserError(f"{path} has label {strange[0]}, which is no class. {remake(path)}")
    return features, labels


def remake(path):
    """Say how the features in `path` are made again."""
    recipe = Path(path).parent.parent.name
    return f"Make it again with: python extract_features.py --recipe {recipe} --force"


def origin(recipe, splits):
    """Return what the features of a recipe depend on, as JSON can hold it.

    Args:
        recipe: a row.
        splits: {split: images.Photos}.
    """
    return {
        "classes": list(recipe.classes),
        "backbone": recipe.backbone,
        "preprocessing": recipe.preprocessing,
        "image_size": recipe.image_size,
        "photos": {split: len(photos) for split, photos in splits.items()},
        "photo_stamps": {split: photos.stamp for split, photos in splits.items()},
    }


def require(folder, recipe, splits):
    """Return what is written about the features in a folder, when they are there and current.

    Raises:
        UserError: they are missing, or were made from other photos or settings.
    """
    made = files.read_json(folder / MADE_FROM)
    command = f"python extract_features.py --recipe {recipe.name}"
    missing = [name for name in splits if not (folder / f"{name}.csv").is_file()]
    if made is None or missing:
        name = missing[0] if missing else "training"
        raise UserError(f"{folder / name}.csv is missing. Make it with: {command}")
    differences = changes(made, origin(recipe, splits))
    if differences:
        raise UserError(
            f"{folder} does not fit any more: {'; '.join(differences)}. Make it again with: "
            f"{command}"
        )
    return made


def changes(made, wanted):
    """Return in words how two `origin`s differ: [] when they are the same."""
    words = []
    for name, value in wanted.items():
        if made.get(name) == value:
            continue
        if name == "photo_stamps":
            old = made.get(name, {})
            stale = [split for split in value if old.get(split) != value[split]]
            words.append(f"the photos of {' and '.join(stale)} have changed since")
        elif name != "photos":
            words.append(f"{name} was {made.get(name)!r} and is {value!r}")
    return words
