"""The features of photos as CSV, and the CSV back as arrays.

A row is a photo: the number of its class, then its features.
"""

import shutil
from pathlib import Path

import numpy as np

from pyimagesearch import images
from pyimagesearch.support import console, files, fingerprints, machine
from pyimagesearch.support.errors import UserError

FINGERPRINT_FILE = "made_from.json"  # written last: the features are complete
UNFINISHED_FILE = "unfinished.json"  # the fingerprint of features that are being extracted
BACKBONE_FILE = "backbone.keras"  # the network that computes the features
OUTPUTS_FOLDER = "outputs"  # what the network has computed, until the CSV files are complete
SECONDS_FILE = "seconds.json"  # how long an interrupted extraction has taken
BLOCK_BYTES = 2 << 20  # how much of a CSV is parsed at once; then up to the end of the row
NUMBER_BYTES = 4  # of a float32
# The most that a feature takes on the disk: as a float32, and as a number in a CSV, which has 12
# bytes or less, unless it is tiny. A zero has 2.
BYTES_ON_DISK = NUMBER_BYTES + 12
# Memory that fitting logistic regression takes, as a multiple of the features' own size.
MEMORY_FACTOR = 1.3


def fingerprint(recipe, splits, precision, weights):
    """Return what the features of a recipe are made from, with config.PRECISION and WEIGHTS."""
    parts = {
        "classes": recipe.classes,
        "backbone": recipe.backbone,
        "preprocessing": recipe.preprocessing,
        "image_size": recipe.image_size,
        "pooling": recipe.head.pooling,
        "layers": list(recipe.regression.layers),
        "unit_length": recipe.regression.unit_length,
        "PRECISION": precision,
        "WEIGHTS": str(weights),
        "the weights file": fingerprints.file_digest(weights),
    }
    for split, photos in splits._asdict().items():
        parts[f"the {split} photos"] = photos.digest
    return fingerprints.fingerprint(parts)


def begin(folder, fingerprint, precision):
    """Prepare a folder for features that are about to be extracted.

    Files of other features are deleted. Those of an interrupted extraction stay: it resumes.
    `precision` is the name of the policy that PRECISION stands for on this machine. Returns a
    console.Stopwatch that includes the seconds of the interrupted runs.
    """
    # An unfinished extraction resumes only on the same kind of machine with the same packages.
    wanted = {**fingerprint, "precision": precision, "versions": fingerprints.versions()}
    files.remove(folder / FINGERPRINT_FILE)
    if files.read_json(folder / UNFINISHED_FILE) != wanted:
        for path in folder.glob("*.csv"):
            path.unlink()
        files.write_json(folder / UNFINISHED_FILE, wanted)
    return console.Stopwatch(folder / SECONDS_FILE, key=fingerprints.digest(wanted))


def finish(folder, fingerprint, facts, stopwatch):
    """Record that the features in a folder are complete, and what they were made from.

    The `facts` are "columns", the features per photo; "columns_of_last_map", those of the last
    feature map, which come first; its "channels"; and the "precision".
    """
    facts = {**facts, "seconds": round(stopwatch.seconds, 3)}
    files.write_json(folder / FINGERPRINT_FILE, {**fingerprint, **facts})
    files.remove(folder / UNFINISHED_FILE)
    files.remove(folder / OUTPUTS_FOLDER)
    stopwatch.remove()


def warn_of_size(folder, splits, facts):
    """Warn of features that may not fit the disk or the memory, before they are computed.

    Args:
        folder: for the CSV files.
        splits: the datasets.Splits of the photos.
        facts: those of `finish`.
    """
    columns, photos = facts["columns"], sum(map(len, splits))
    # What an interrupted extraction has written is a part of what is needed.
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = photos * columns * BYTES_ON_DISK, shutil.disk_usage(folder).free + written
    if needed > free:
        console.warn(
            f"{columns:,} features of {photos:,} photos can take {needed / 1e9:,.1f} GB in "
            f"{folder}, and {free / 1e9:,.1f} GB are free.{fewer_features(facts)}"
        )
    rows = len(splits.training)
    needed, available = fitting_bytes(rows, columns), machine.available_memory()
    if needed > available:
        from_disk = rows * columns * NUMBER_BYTES
        console.warn(
            f"logistic regression on {rows:,} photos with {columns:,} features each needs "
            f"{needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are available. So it "
            f"will read {from_disk / 1e9:,.1f} GB from the disk in every iteration."
            f"{fewer_features(facts)}"
        )


def fewer_features(facts):
    """Return a sentence on how to get fewer features, or "" if they are averaged already."""
    average = facts["columns"] - facts["columns_of_last_map"] + facts["channels"]
    if average == facts["columns"]:
        return ""
    return f" With pooling='average' in the recipe's head, a photo has {average:,} features."


def fitting_bytes(rows, columns):
    """Return how much memory fitting logistic regression to all rows at once takes."""
    return rows * columns * NUMBER_BYTES * MEMORY_FACTOR


def write_csv(path, labels, batches):
    """Write one row per photo: its label, then its features. The path appears at the end.

    Nine digits are enough to read every float32 back bit for bit.

    Args:
        labels: (n,) ints.
        batches: an iterator over (batch, features) arrays, in the order of the labels.
    """
    rows = (row for batch in batches for row in batch)
    with files.atomic_write(path) as partial, open(partial, "wb") as csv:
        for label, row in zip(labels, rows, strict=True):
            row_format = "%d" + ",%.9g" * len(row) + "\n"
            csv.write((row_format % (label, *row.tolist())).encode())


def require(folder, recipe, wanted, split_names):
    """Return what is recorded about the features in a folder; `wanted` is their fingerprint.

    Raises UserError if features are missing, or were made from other photos or settings.
    """
    recorded = files.read_json(folder / FINGERPRINT_FILE)
    command = console.command("extract_features", recipe.name)
    missing = missing_files(folder, split_names)
    if missing:
        raise UserError(f"{missing[0]} is missing. Make it with: {command}")
    changes = fingerprints.differences(recorded, wanted)
    if changes:
        raise UserError(f"{folder} is out of date: {'; '.join(changes)}. Update it with: {command}")
    return recorded


def missing_files(folder, split_names):
    """Return the paths of the files that features in a folder should have and do not have."""
    names = (*(f"{name}.csv" for name in split_names), BACKBONE_FILE, FINGERPRINT_FILE)
    return [folder / name for name in names if not (folder / name).is_file()]


def read_split(path, photos, columns):
    """Return the (n, columns) float32 features of a split, in the order of its photos."""
    rows, start = np.empty((len(photos), columns), np.float32), 0
    for block in read_blocks(path, photos, columns):
        rows[start : start + len(block)] = block
        start += len(block)
    return rows


def read_blocks(path, photos, columns):
    """Yield the features of datasets.Photos in order, as (rows, columns) float32 blocks.

    Raises UserError if the CSV is damaged, or its columns or labels are not those of the photos.
    """
    start = 0
    for rows, labels in parse_csv(path, class_count=len(photos.classes)):
        if rows.shape[1] != columns:
            raise UserError(
                f"{path} has {rows.shape[1]:,} columns, not {columns:,}. {remedy(path)}"
            )
        if not np.array_equal(labels, photos.labels[start : start + len(rows)]):
            raise wrong_rows(path, photos)
        start += len(rows)
        yield rows
    if start != len(photos):
        raise wrong_rows(path, photos)


def parse_csv(path, class_count):
    """Yield the rows of a CSV in order, as ((rows, features) float32, (rows,) int labels).

    Raises UserError if a row is damaged, or if a label is not below the number of classes.
    """

    def blocks():
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES) + file.readline():
                if not block.endswith(b"\n"):
                    raise UserError(f"{path} is cut short. {remedy(path)}")
                yield block

    # One block per core is parsed ahead. More would only fill the memory.
    ahead = machine.usable_cores()
    parse = images.read_ahead(lambda block: parse_block(block, path), blocks(), ahead)
    for table in parse:
        labels = table[:, 0].astype(int)
        is_wrong = (labels != table[:, 0]) | (labels < 0) | (labels >= class_count)
        if is_wrong.any():
            raise UserError(
                f"{path} has label {table[is_wrong, 0][0]:g}, which is not that of a class. "
                f"{remedy(path)}"
            )
        yield table[:, 1:], labels


def parse_block(block, path):
    """Return whole rows of a CSV, given as bytes, as a (rows, 1 + features) float32 array.

    CSV readers are slow with 25,000 columns, so the values are read as one long column.
    """
    lengths = [row.count(b",") + 1 for row in block.splitlines()]
    if min(lengths) == 1 or min(lengths) < max(lengths):
        raise UserError(f"{path} is damaged: its rows differ in length. {remedy(path)}")
    values = read_column(block.replace(b",", b"\n"), path)
    if len(values) != sum(lengths) or not np.isfinite(values).all():
        raise UserError(f"{path} contains values that are not numbers. {remedy(path)}")
    return values.reshape(len(lengths), -1)


def read_column(text, path):
    """Return the float32 values in `text`, bytes with one value per line."""
    import polars

    try:
        return polars.read_csv(
            text,
            has_header=False,
            schema={"value": polars.Float32},
            quote_char=None,
        )["value"].to_numpy()
    except polars.exceptions.PolarsError as failure:
        # The rest of the message is about one long column, which the file does not have.
        reason = str(failure).split(" at column")[0]
        raise UserError(f"{path} is damaged: {reason}. {remedy(path)}") from failure


def wrong_rows(path, photos):
    """Return the error for a CSV whose rows are not those of its split's photos."""
    return UserError(
        f"{path} has rows that are not the {len(photos):,} photos of {Path(path).stem}. "
        f"{remedy(path)}"
    )


def remedy(path):
    """Return how to make the CSV at `path` again."""
    recipe = Path(path).parent.parent.name
    return f"Make it again with: {console.command('extract_features', recipe, '--force')}"
