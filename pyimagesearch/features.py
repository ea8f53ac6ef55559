"""What the frozen part says about photos: computed once, in order, kept as CSV."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pyimagesearch import console, files, images
from pyimagesearch.console import UserError

MADE_FROM = "made_from.json"  # of features that are complete
BEGUN = "begun.json"  # of features that are being extracted
COMMAS_TO_LINE_BREAKS = bytes.maketrans(b",", b"\n")
PIECE = 2 << 20  # bytes of a CSV that are read at a time, and then to the end of the row
SHUFFLED_ROWS = 64  # and rows, where they lie in another order
AHEAD = 2  # pieces that threads parse while one is used


def write_csv(path, labels, batch_size, outputs, done):
    """Write one row a photo: its label, then its features. Reading them back is exact.

    A thread writes while the network computes the next batch. An interrupted file goes on where it
    stopped.

    Args:
        path: of the CSV; it appears when it is whole.
        labels: (n,) ints.
        batch_size: rows that `outputs` yields at a time.
        outputs: a function start -> an iterator over (batch, features) arrays from row `start` on.
        done: called with the number of rows after each batch.

    Returns:
        The number of features.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = files.partial_of(path)
    with open(partial, "ab+") as csv, ThreadPoolExecutor(1) as writer:
        start, written = resume(csv, len(labels), batch_size), None
        done(start)
        for batch in outputs(start):
            stop = start + len(batch)
            text = writer.submit(write_rows, csv, labels[start:stop], batch)
            # At most one batch waits to be written: memory stays flat on a slow disk.
            if written is not None:
                written.result()
            start, written = stop, text
            done(len(batch))
        if written is not None:
            written.result()
    os.replace(partial, path)
    return count_columns(path)


def count_columns(path):
    """Return how many features the first row of a CSV has."""
    with open(path, "rb") as csv:
        return csv.readline().count(b",")


def write_rows(csv, labels, rows):
    """Append rows to an open CSV. Nine digits are enough to give any float32 back bit for bit."""
    form = ",".join(["%d", *["%.9g"] * rows.shape[1]]) + "\n"
    for label, row in zip(labels, rows.astype(np.float32), strict=True):
        csv.write((form % (label, *row.tolist())).encode())
    csv.flush()
    # What is counted as done after a power cut has to be on the disk.
    os.fsync(csv.fileno())


def resume(csv, rows, batch_size):
    """Cut a growing CSV behind its last whole batch; return how many rows it has."""
    csv.seek(0)
    ends = line_ends(csv)
    # The last batch may be smaller: all rows are whole batches too.
    whole = rows if len(ends) >= rows else len(ends) - len(ends) % batch_size
    csv.truncate(ends[whole - 1] if whole else 0)
    return whole


def begin(folder, origin):
    """Note from what features are being extracted; forget what was begun from something else."""
    begun = files.read_json(folder / BEGUN)
    if begun is None or begun.get("from") != origin or "csvs" not in begun:
        for partial in folder.glob("*.partial"):
            partial.unlink()
        files.write_json(folder / BEGUN, {"from": origin, "csvs": {}})


def note(path, seconds, finished):
    """Note how long a CSV has taken so far, for the run after an interruption."""
    begun = files.read_json(path.parent / BEGUN)
    stamp = files.file_stamp(path) if finished else None
    begun["csvs"][path.stem] = {"stamp": stamp, "seconds": seconds}
    files.write_json(path.parent / BEGUN, begun)


def noted(path):
    """Return (seconds that a CSV of this extraction has taken so far, whether it is finished)."""
    csv = files.read_json(path.parent / BEGUN)["csvs"].get(path.stem)
    if csv is None:
        return 0, False
    if csv["stamp"] is None:
        return csv["seconds"], False
    finished = path.is_file() and [*files.file_stamp(path)] == csv["stamp"]
    return csv["seconds"] if finished else 0, finished


def read_pieces(path, classes):
    """Yield a CSV in order as ((rows, features) float32, (rows,) int labels), some rows at a time.

    Raises:
        UserError: a row is damaged, a value is not a number, or a label is of no class.
    """
    if not ends_in_line_break(path):
        raise UserError(f"{path} is cut short. {remake(path)}")

    def blocks():
        with open(path, "rb") as file:
            while block := file.read(PIECE) + file.readline():
                yield block

    yield from images.ahead(lambda block: parse(block, path, classes), blocks(), AHEAD)


def read_shuffled(path, classes, starts, order):
    """Yield the same pieces with the rows in another order.

    Args:
        path, classes: as read_pieces takes them.
        starts: of the rows in the file, from row_starts.
        order: (n,) positions of rows.

    Yields:
        (features, labels, positions).
    """

    def blocks():
        with open(path, "rb") as file:
            for first in range(0, len(order), SHUFFLED_ROWS):
                positions = order[first : first + SHUFFLED_ROWS]
                lines = []
                for position in positions:
                    file.seek(starts[position])
                    lines.append(file.readline())
                yield b"".join(lines), positions

    def parsed(piece):
        block, positions = piece
        return *parse(block, path, classes), positions

    yield from images.ahead(parsed, blocks(), AHEAD)


def row_starts(path):
    """Return where each row of a CSV begins, in bytes, as (rows,) int64."""
    with open(path, "rb") as file:
        return np.concatenate([[0], line_ends(file)]).astype(np.int64)[:-1]


def line_ends(file):
    """Return the places behind each line break of an open file, as (lines,) int64."""
    ends, start = [np.empty(0, np.int64)], 0
    while block := file.read(1 << 24):
        ends.append(start + 1 + np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")))
        start += len(block)
    return np.concatenate(ends)


def parse(block, path, classes):
    """Return the (rows, features) float32 and (rows,) int labels of whole rows of a CSV, as bytes.

    A reader that takes 25,000 columns for a table of 25,000 things is slow. So the values are
    read as one column, one below the other: a comma becomes a line break. And most of what comes
    out of a ReLU is 0, which needs no reader.
    """
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    stops = characters == ord(",")
    stops[ends] = True
    values = np.flatnonzero(stops)
    columns = np.diff(np.searchsorted(values, ends), prepend=-1)
    if columns.min() == 1 or columns.min() < columns.max():
        raise UserError(f"{path} is damaged: its rows differ in length. {remake(path)}")
    zeros = lone_zeros(characters, stops)
    is_read = np.flatnonzero(~zeros[values - 1])
    # A zero goes with the stop behind it.
    zeros[1:] |= zeros[:-1]
    read = read_values(characters[np.flatnonzero(~zeros)].tobytes(), path)
    if len(read) != len(is_read) or not np.isfinite(read).all():
        raise UserError(f"{path} holds values that are not numbers. {remake(path)}")
    table = np.zeros(len(values), np.float32)
    table[is_read] = read
    table = table.reshape(len(ends), -1)
    labels = table[:, 0].astype(int)
    strange = table[(labels != table[:, 0]) | (labels < 0) | (labels >= len(classes)), 0]
    if len(strange):
        raise UserError(f"{path} has label {strange[0]:g}, which is no class. {remake(path)}")
    return table[:, 1:], labels


def lone_zeros(characters, stops):
    """Tell of each character whether it is a value of its own, a 0 between two stops."""
    zeros = np.zeros(len(characters), bool)
    zeros[1:-1] = (characters[1:-1] == ord("0")) & stops[:-2] & stops[2:]
    return zeros


def read_values(text, path):
    """Return the float32 values in `text`, bytes with a comma or a line break behind each."""
    import polars

    column = text.translate(COMMAS_TO_LINE_BREAKS)
    try:
        return polars.read_csv(
            column, has_header=False, schema={"value": polars.Float32}, quote_char=None
        )["value"].to_numpy()
    except polars.exceptions.PolarsError as failure:
        # What follows tells of one long column, which the file does not have.
        reason = str(failure).split(" at column")[0]
        raise UserError(f"{path} is damaged: {reason}. {remake(path)}") from failure


def ends_in_line_break(path):
    """Tell whether the last row of a CSV is whole: its last number might be cut in two."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() == b"\n"


def read_split(folder, split, photos, columns):
    """Return the (n, columns) float32 features of a split, a row a photo in their order.

    Raises:
        UserError: as read_checked.
    """
    rows, start = np.empty((len(photos), columns), np.float32), 0
    for piece in read_checked(folder, split, photos, columns):
        rows[start : start + len(piece)] = piece
        start += len(piece)
    return rows


def read_checked(folder, split, photos, columns):
    """Yield the features of a split in order, as (rows, columns) float32, some at a time.

    Raises:
        UserError: the CSV is damaged, it has not so many columns of features, or its labels are
            not those of the photos.
    """
    path, start = Path(folder) / f"{split}.csv", 0
    for rows, labels in read_pieces(path, photos.classes):
        refuse_others(path, rows, labels, columns, photos, slice(start, start + len(rows)))
        start += len(rows)
        yield rows
    if start != len(photos):
        raise other_rows(path, photos)


def refuse_others(path, rows, labels, columns, photos, positions):
    """Refuse rows of a CSV without so many features, or not of the photos at these positions."""
    if rows.shape[1] != columns:
        raise UserError(f"{path} has {rows.shape[1]:,} columns, not {columns:,}. {remake(path)}")
    if not np.array_equal(labels, photos.labels[positions]):
        raise other_rows(path, photos)


def other_rows(path, photos):
    """Return the error for a CSV whose rows are not those of its split's photos."""
    return UserError(
        f"{path} has rows that are not the {len(photos):,} photos of {path.stem}. {remake(path)}"
    )


def remake(path):
    """Say how the features in `path` are made again."""
    recipe = Path(path).parent.parent.name
    return f"Make it again with: {console.command('extract_features', recipe, '--force')}"


def origin(recipe, splits, config):
    """Return what the features of a recipe depend on, as JSON can hold it.

    Args:
        recipe: a row.
        splits: {split: images.Photos}.
        config: the module; its PRECISION and WEIGHTS count.
    """
    return {
        "classes": list(recipe.classes),
        "backbone": recipe.backbone,
        "preprocessing": recipe.preprocessing,
        "image_size": recipe.image_size,
        "pooling": recipe.head.pooling,
        "PRECISION": config.PRECISION,
        "WEIGHTS": str(config.WEIGHTS),
        "weights_stamp": stamp_of_weights(config.WEIGHTS),
        "photos": {split: len(photos) for split, photos in splits.items()},
        "photo_stamps": {split: photos.stamp for split, photos in splits.items()},
    }


def stamp_of_weights(setting):
    """Return what changes when a user's own file of weights does: Keras' own are one file."""
    path = Path(setting)
    return files.digest(files.file_stamp(path)) if path.is_file() else None


def require(folder, recipe, splits, config):
    """Return what is written about the features in a folder, when they are there and current.

    Raises:
        UserError: they are missing, or were made from other photos or settings.
    """
    made = files.read_json(folder / MADE_FROM)
    command = console.command("extract_features", recipe.name)
    needed = [*(f"{name}.csv" for name in splits), "backbone.keras"]
    missing = [name for name in needed if not (folder / name).is_file()]
    if made is None or missing:
        # Where made_from.json is there, extract_features.py would find nothing to do.
        again = "" if made is None else " --force"
        name = (missing or needed)[0]
        raise UserError(f"{folder / name} is missing. Make it with: {command}{again}")
    differences = changes(made, origin(recipe, splits, config))
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
        elif name == "weights_stamp":
            words.append(f"{wanted['WEIGHTS']} has changed since")
        elif name != "photos":
            words.append(f"{name} was {made.get(name)!r} and is {value!r}")
    return words
