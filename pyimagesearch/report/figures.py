"""Draw figures to PNG files: photos, training curves, confusion matrices."""

import math
import textwrap
from itertools import accumulate

import matplotlib

matplotlib.use("Agg")  # draw to files; a server has no display

import matplotlib.pyplot as plt
import numpy as np

from pyimagesearch import images
from pyimagesearch.support import calibration, console, files

# Two colours of Okabe and Ito's palette, which colour-blind readers can tell apart.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
# With more classes, the cells of a confusion matrix are too small for text.
MAX_CELLS = 50
# A sheet of training photos with more rows is too long to look through.
MAX_CLASSES = 20
STYLE = {"dpi": 100, "layout": "constrained"}


def draw_confusion(path, matrix, classes):
    """Draw a confusion matrix: one row per true class, cells shaded by their share of the row."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.75 * min(len(classes), MAX_CELLS)
    figure, axes = plt.subplots(figsize=(side + 1.5, side), **STYLE)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MAX_CELLS:
        write_counts(axes, matrix, shares)
    # Names that do not fit are left out.
    step = math.ceil(len(classes) / MAX_CELLS)
    ticks, names = range(0, len(classes), step), list(classes[::step])
    axes.set_xticks(ticks, names, parse_math=False, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Confusion matrix: {matrix.trace():,} of {matrix.sum():,} correct")
    save_figure(path, figure)


def write_counts(axes, matrix, shares):
    """Write the count and the share into each cell of a confusion matrix."""
    for row, column in np.ndindex(matrix.shape):
        count, share = matrix[row, column], shares[row, column]
        text = f"{count:,}\n{share:.0%}" if count else "0"
        colour = "white" if share > 0.5 else "black" if count else "silver"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def draw_reliability(path, truth, logits, temperature):
    """Draw accuracy over the probability of the predicted class, before and after calibration.

    `temperature` is that of the calibration; if it is 1, there is only one diagram.
    """
    panels = {"Not calibrated": 1}
    if temperature != 1:
        panels = {"Before": 1, "Calibrated": temperature}
    figure, row = plt.subplots(1, len(panels), figsize=(5 * len(panels), 5), squeeze=False, **STYLE)
    for axes, (title, value) in zip(row.flat, panels.items(), strict=True):
        probabilities = calibration.probabilities(logits, value)
        error = calibration.expected_calibration_error(truth, probabilities)
        photos, _, accuracy = calibration.reliability(truth, probabilities)
        centres = (np.arange(len(photos)) + 0.5) / len(photos)
        bars = axes.bar(centres, accuracy, 0.9 / len(photos), color=TRAINING_COLOUR)
        counts = [f"{count:,.0f}" if count else "" for count in photos]
        axes.bar_label(bars, counts, padding=2)
        axes.plot([0, 1], [0, 1], color="dimgrey", linestyle="--")
        axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="probability of the predicted class")
        axes.set_title(f"{title}: calibration error {error:.3f}")
    row[0, 0].set_ylabel("accuracy")
    save_figure(path, figure)


def draw_classes(path, photos, per_class=5):
    """Draw a few photos of each class in datasets.Photos, one row per class; print the path."""
    classes = photos.classes[:MAX_CLASSES]
    pictures, captions = [], []
    for label, name in enumerate(classes):
        positions = np.flatnonzero(photos.labels == label)
        count = min(per_class, len(positions))
        # Neighbouring files often show the same scene, so the first few would look alike.
        spread = positions[np.linspace(0, len(positions) - 1, count).astype(int)]
        pictures += [images.read_thumbnail(photos.paths[position]) for position in spread]
        pictures += [None] * (per_class - count)
        captions += [name] * count + [""] * (per_class - count)
    title = "Training photos, one row per class"
    if len(classes) < len(photos.classes):
        title += f": the first {len(classes)} of {len(photos.classes)} classes"
    draw_sheet(path, pictures, captions, title, columns=per_class)
    console.info(f"a first look at the training photos: {path}")


def draw_sheet(path, pictures, captions, title, columns=3):
    """Draw pictures in a grid, each with its caption above it; long captions are wrapped.

    The pictures are uint8 RGB arrays of any size; None leaves a gap.
    """
    rows = math.ceil(len(pictures) / columns)
    width = 3.4 if columns <= 3 else 2.4  # of a picture, in inches
    # A no-break space: "58 %" stays on one line.
    captions = [
        textwrap.fill(text.replace(" %", "\N{NO-BREAK SPACE}%"), round(10 * width))
        for text in captions
    ]
    # The median shape decides, so that one tall picture does not leave gaps between the others.
    ratios = [picture.shape[0] / picture.shape[1] for picture in pictures if picture is not None]
    lines = max(caption.count("\n") + 1 for caption in captions)
    height = width * min(max(np.median(ratios), 0.4), 1.4) + 0.2 * lines + 0.15
    size = (width * columns, height * rows + 0.4)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, **STYLE)
    figure.suptitle(title)
    for axes in panels.flat:
        axes.axis("off")
    # The last row may have more axes than pictures.
    for axes, picture, caption in zip(panels.flat, pictures, captions, strict=False):
        if picture is not None:
            axes.imshow(picture)
            axes.set_title(caption, size=10, parse_math=False)
    save_figure(path, figure)


def draw_augmentation(folder, recipe, photo, seed):
    """Draw a training photo and the first nine views of it to augmentation.png.

    If no phase augments its photos, a picture of an earlier training is deleted.
    """
    path = folder / "augmentation.png"
    files.remove(path)
    if not any(phase.augment for phase in recipe.phases):
        return
    plain = images.read_resized(photo, recipe.image_size)
    pictures, captions = [plain], [files.printable(photo.name)]
    for view in range(9):
        augment = images.augmenter(recipe.augmentation, recipe.image_size, (seed, view))
        pictures.append(augment(0, plain))
        captions.append(f"view {view}")
    title = "One photo as it is, and nine augmented views of it"
    draw_sheet(path, pictures, captions, title, columns=5)
    console.info(f"what the augmentation does to a photo: {path}")


def draw_history(folder, recipe, history):
    """Draw the curves of each phase in the rows of history.csv and, of several, all together.

    A recipe with `smoothing` also gets their moving averages. Else, earlier ones are deleted.
    """
    names = list(dict.fromkeys(row["phase"] for row in history))
    curves = {name: [row for row in history if row["phase"] == name] for name in names}
    if len(names) > 1:
        curves["history"] = history
    for name, rows in curves.items():
        title = f"{recipe.name}: {'all phases' if name == 'history' else name}"
        draw_curves(folder / f"{name}.png", rows, title)
        smoothed = folder / f"{name}_smoothed.png"
        files.remove(smoothed)
        if recipe.smoothing:
            draw_curves(smoothed, rows, title, recipe.smoothing)


def draw_curves(path, rows, title, smoothing=0):
    """Draw loss and accuracy per epoch; `smoothing` is the factor of a moving average, 0 to 1."""
    phases = [row["phase"] for row in rows]
    starts = [epoch for epoch in range(1, len(rows)) if phases[epoch] != phases[epoch - 1]]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), **STYLE)
    figure.suptitle(f"{title}, moving average with factor {smoothing}" if smoothing else title)
    for axes, metric in zip(panels, ("loss", "accuracy"), strict=True):
        plot_metric(axes, rows, starts, metric, smoothing)
        # A dashed line marks the start of each phase after the first.
        for start in starts:
            place = {"xy": (start + 0.5, 0.98), "xycoords": ("data", "axes fraction")}
            axes.axvline(start + 0.5, color="grey", linestyle="--", linewidth=1)
            axes.annotate(f" {phases[start]}", **place, va="top", color="dimgrey")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    save_figure(path, figure)


def plot_metric(axes, rows, starts, metric, smoothing):
    """Plot a metric on the training and the validation photos, one line per phase.

    Neither the line nor the moving average continues across the start of a phase: the learning
    rate and the trained layers change there.
    """
    for column, label, colour in (
        (metric, "training", TRAINING_COLOUR),
        (f"val_{metric}", "validation", VALIDATION_COLOUR),
    ):
        style = {"color": colour, "marker": "o", "markersize": 3}
        for epochs in np.split(np.arange(len(rows)), starts):
            values = smooth([rows[epoch][column] for epoch in epochs], smoothing)
            axes.plot(epochs + 1, values, label=None if epochs[0] else label, **style)


def smooth(values, factor):
    """Return the exponential moving average of a curve.

    Source: Chollet, "Deep Learning with Python", which plots noisy curves this way.
    """
    return list(accumulate(values, lambda mean, value: mean * factor + value * (1 - factor)))


def save_figure(path, figure):
    """Write a figure as PNG and close it."""
    with files.atomic_write(path) as partial:
        figure.savefig(partial, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
