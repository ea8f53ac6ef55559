"""Pictures of a training set, of a training, and of an evaluation, drawn to PNG files."""

import textwrap

import matplotlib

matplotlib.use("Agg")  # draw to files: there may be no display

import matplotlib.pyplot as plt
import numpy as np

from pyimagesearch import files, images

# From Okabe and Ito's palette, which colour-blind people can tell apart.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
CELLS_SHOWN = 50  # along a side of a confusion matrix
CLASSES_SHOWN = 20  # of a training set; more make a picture nobody looks at


def draw_confusion(path, matrix, classes):
    """Draw a confusion matrix: counts, shaded by the share of the true class.

    Args:
        path: of the PNG.
        matrix: (classes, classes) counts, true class (row) against predicted one (column).
        classes: the class names.
    """
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.75 * min(len(classes), CELLS_SHOWN)
    figure, panel = plt.subplots(figsize=(side + 1.5, side), dpi=100, layout="constrained")
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # Of more classes only the shades can be told, and every so manieth name.
    cells = np.ndindex(matrix.shape) if len(classes) <= CELLS_SHOWN else ()
    for row, column in cells:
        count, share = matrix[row, column], shares[row, column]
        panel.text(
            column,
            row,
            f"{count:,}\n{share:.0%}" if count else "0",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black" if count else "silver",
            fontsize=9,
        )
    ticks = range(0, len(classes), -(-len(classes) // CELLS_SHOWN))
    named = [classes[each] for each in ticks]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(ticks, named, parse_math=False, **slanted)
    panel.set_yticks(ticks, named, parse_math=False)
    panel.set(xlabel="predicted", ylabel="true")
    panel.set_title(f"Confusion matrix: {matrix.trace():,} of {matrix.sum():,} right")
    save_figure(path, figure)


def draw_classes(path, photos, each=5):
    """Draw some training photos of each class, a row a class, in the order of the classes.

    Args:
        path: of the PNG.
        photos: images.Photos.
        each: how many of a class.
    """
    shown = photos.classes[:CLASSES_SHOWN]
    pictures, captions = [], []
    for label, name in enumerate(shown):
        mine = np.flatnonzero(photos.labels == label)
        # Spread over the class: neighbours in a folder are often of one series.
        chosen = mine[np.linspace(0, len(mine) - 1, min(each, len(mine))).astype(int)]
        for position in chosen:
            pictures.append(images.read_for_sheet(photos.paths[position]))
            captions.append(name)
        pictures += [None] * (each - len(chosen))
        captions += [""] * (each - len(chosen))
    title = "Training photos, a row a class"
    if len(shown) < len(photos.classes):
        title += f": the first {len(shown)} of {len(photos.classes)} classes"
    draw_sheet(path, pictures, captions, title, columns=each)


def draw_sheet(path, pictures, captions, title, columns=3):
    """Draw uint8 RGB pictures (None: a gap) in rows, each with its caption."""
    rows = -(-len(pictures) // columns)
    # As high as most pictures are, so that wide ones leave no gaps.
    shape = np.median([each.shape[0] / each.shape[1] for each in pictures if each is not None])
    width = 3.4 if columns <= 3 else 2.4
    captions = ["\n".join(wrapped(caption, round(10 * width))) for caption in captions]
    lines = max(caption.count("\n") + 1 for caption in captions)
    row_height = width * min(max(shape, 0.4), 1.4) + 0.2 * lines + 0.15
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, row_height * rows + 0.4),
        dpi=100,
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title)
    for panel in panels.flat:
        panel.axis("off")
    for panel, picture, caption in zip(panels.flat, pictures, captions, strict=False):
        if picture is None:
            continue
        panel.imshow(picture)
        panel.set_title(caption, size=10, parse_math=False)
    save_figure(path, figure)


def wrapped(text, width):
    """Return a text as lines of so many letters at the most."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, width)]


def smooth(values, factor):
    """Return the exponential moving average of a curve, as Deep Learning with Python plots it."""
    smoothed = []
    for value in values:
        smoothed.append(smoothed[-1] * factor + value * (1 - factor) if smoothed else value)
    return smoothed


def draw_learning(folder, stem, rows, title, smoothing):
    """Draw curves as they are to <stem>.png and, unless `smoothing` is 0, smoothed as well."""
    draw_curves(folder / f"{stem}.png", rows, title)
    smoothed = folder / f"{stem}_smoothed.png"
    files.remove(smoothed)
    if smoothing:
        draw_curves(smoothed, rows, title, smoothing)


def draw_curves(path, rows, title, smoothing=0):
    """Draw loss and accuracy, on training and on validation photos, epoch after epoch.

    Where the rows are of several phases, a line marks where each begins.

    Args:
        path: of the PNG.
        rows: of history.csv.
        title: stands over both panels.
        smoothing: 0 for the curves as they are, or the factor of a moving average.
    """
    epochs = np.arange(len(rows)) + 1
    begins = [at for at, row in enumerate(rows) if at and row["phase"] != rows[at - 1]["phase"]]
    stretches = np.split(np.arange(len(rows)), begins)
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), dpi=100, layout="constrained")
    figure.suptitle(f"{title}, smoothed by {smoothing}" if smoothing else title)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for column, label, colour in (
            (name, "training", TRAINING_COLOUR),
            (f"val_{name}", "validation", VALIDATION_COLOUR),
        ):
            # A phase begins anew: no line, and no average, leads over from the one before.
            for stretch in stretches:
                values = smooth([rows[at][column] for at in stretch], smoothing)
                first = stretch[0] == 0
                panel.plot(
                    *(epochs[stretch], values),
                    color=colour,
                    label=label if first else None,
                    marker="o",
                    markersize=3,
                )
        for begin in begins:
            panel.axvline(begin + 0.5, color="grey", linestyle="--", linewidth=1)
            panel.annotate(
                f" {rows[begin]['phase']}",
                (begin + 0.5, 0.98),
                xycoords=("data", "axes fraction"),
                va="top",
                color="dimgrey",
            )
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend(loc="best")
    save_figure(path, figure)


def save_figure(path, figure):
    """Write a figure as PNG and close it."""
    with files.whole(path) as partial:
        figure.savefig(partial, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
