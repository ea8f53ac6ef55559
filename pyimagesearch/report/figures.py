"""Draw figures to PNG files: photos, training curves, confusion matrices."""

import math
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # draw to files; a server has no display

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps

from pyimagesearch import images
from pyimagesearch.report import fonts
from pyimagesearch.report.answers import percentage
from pyimagesearch.support import calibration, console, files

# Two colours of Okabe and Ito's palette, which colour-blind readers can tell apart.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
QUIET = "#5b6673"  # of text that is not read first
# With more classes, the cells of a confusion matrix are too small for text.
MAX_CELLS = 50
# A sheet of training photos with more rows is too long to look through.
MAX_CLASSES = 20
# Inches. A figure of this width has legible text on a phone too.
WIDTH = 4.8
STYLE = {"dpi": 150, "layout": "constrained"}
plt.rcParams.update(
    {
        "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "figure.titlesize": 11,
        "figure.titleweight": "bold",
        "legend.frameon": False,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
    }
)
# Inches between the photos of a sheet, and from one line of its text to the next.
GAP, LINE = 0.12, 0.17
VIEWS_SHOWN = 9
AUGMENTATION_TITLE = "One training photo and its augmented views"


class Tile(NamedTuple):
    """A photo of a sheet, with the lines of its caption."""

    picture: np.ndarray  # uint8 RGB, square
    name: str = ""  # of the predicted class, or of a view
    percentage: str = ""  # its probability
    note: str = ""  # "correct", or the true class
    file: str = ""  # folder and file name


def draw_confusion(path, matrix, classes):
    """Draw a confusion matrix: one row per true class, cells shaded by their share of the row."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shown = min(len(classes), MAX_CELLS)
    cell = min(max(3.3 / shown, 0.47), 0.9)  # inches
    figure, axes = plt.subplots(figsize=(shown * cell + 1.7, shown * cell + 1.5), **STYLE)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MAX_CELLS:
        write_counts(axes, matrix, shares, fontsize=9 if cell > 0.5 else 7.5)
    # Names that do not fit are left out.
    step = math.ceil(len(classes) / MAX_CELLS)
    ticks = range(0, len(classes), step)
    names = [fonts.class_name(classes[label], label) for label in ticks]
    axes.set_xticks(ticks, names, parse_math=False, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names, parse_math=False)
    axes.tick_params(length=0, labelcolor="black")
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Confusion matrix: {matrix.trace():,} of {matrix.sum():,} correct")
    save_figure(path, figure)


def write_counts(axes, matrix, shares, fontsize):
    """Write the count and the share into each cell of a confusion matrix."""
    for row, column in np.ndindex(matrix.shape):
        count, share = matrix[row, column], shares[row, column]
        text = f"{count:,}\n{100 * share:.0f} %" if count else "0"
        colour = "white" if share > 0.65 else "black" if count else "silver"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=fontsize)


def draw_reliability(path, truth, logits, temperature):
    """Draw accuracy over the probability of the predicted class, before and after calibration.

    `temperature` is that of the calibration; if it is 1, there is only one diagram.
    """
    panels = {"Not calibrated": 1}
    if temperature != 1:
        panels = {"Before": 1, "Calibrated": temperature}
    figure, row = plt.subplots(
        1, len(panels), figsize=(WIDTH, 2.7), squeeze=False, sharey=True, **STYLE
    )
    for axes, (title, value) in zip(row.flat, panels.items(), strict=True):
        probabilities = calibration.probabilities(logits, value)
        error = calibration.expected_calibration_error(truth, probabilities)
        photos, _, accuracy = calibration.reliability(truth, probabilities)
        centres = (np.arange(len(photos)) + 0.5) / len(photos)
        bars = axes.bar(centres, accuracy, 0.9 / len(photos), color=TRAINING_COLOUR)
        counts = [f"{count:,.0f}" if count else "" for count in photos]
        axes.plot([0, 1], [0, 1], color="dimgrey", linestyle="--", linewidth=1)
        backing = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.bar_label(bars, counts, padding=3, fontsize=8, color=QUIET, bbox=backing)
        axes.set(xlim=(0, 1), ylim=(0, 1.1), xticks=[0, 0.2, 0.4, 0.6, 0.8])
        axes.set_title(f"{title}:\ncalibration error {error:.3f}", fontsize=10)
    row[0, 0].set_ylabel("accuracy")
    figure.supxlabel("probability of the predicted class", fontsize=10, color=QUIET)
    save_figure(path, figure)


def square(photo, side=320):
    """Return the centre of a uint8 RGB photo as a square of at most `side` pixels."""
    side = min(side, *photo.shape[:2])
    return np.asarray(ImageOps.fit(Image.fromarray(photo), (side, side)))


def photo_tile(path, file, **caption):
    """Return the Tile of a photo of the dataset."""
    return Tile(square(images.read_thumbnail(path)), file=files.printable(file), **caption)


def prediction_tile(prediction):
    """Return the Tile of a prediction of evaluation.describe."""
    path, true_class = Path(prediction["photo"]), prediction["class"]
    is_correct = prediction["predicted"] == true_class
    return photo_tile(
        path,
        "/".join(path.parts[-2:]),
        name=prediction["predicted"],
        # A no-break space: "58 %" stays on one line.
        percentage=percentage(prediction["probability"]).replace(" ", "\N{NO-BREAK SPACE}"),
        note="correct" if is_correct else f"is {true_class}",
    )


def class_tiles(photos, per_class=5):
    """Return {class: a few Tiles} of datasets.Photos, for at most MAX_CLASSES classes."""
    sheet = {}
    for label, name in enumerate(photos.classes[:MAX_CLASSES]):
        positions = np.flatnonzero(photos.labels == label)
        count = min(per_class, len(positions))
        # Neighbouring files often show the same scene, so the first few would look alike.
        spread = positions[np.linspace(0, len(positions) - 1, count).astype(int)]
        paths = [photos.paths[position] for position in spread]
        sheet[name] = [photo_tile(path, path.name) for path in paths]
    return sheet


def classes_title(photos):
    """Return the title of `class_tiles`, which says if there are more classes."""
    count = len(photos.classes)
    shown = f"the first {MAX_CLASSES} of {count} classes" if count > MAX_CLASSES else "each class"
    return f"A few training photos of {shown}"


def augmentation_tiles(recipe, photos, seed):
    """Return the Tiles of one of datasets.Photos and of its first views.

    There are none if no phase augments its photos.
    """
    if not any(phase.augment for phase in recipe.phases):
        return []
    position = len(photos) // 2
    path = photos.paths[position]
    plain = images.read_resized(path, recipe.image_size)
    tiles = [Tile(plain, "original", file=files.printable(path.name))]
    for view in range(VIEWS_SHOWN):
        augment = images.augmenter(recipe.augmentation, recipe.image_size, (seed, view))
        tiles.append(Tile(augment(position, plain), f"view {view}"))
    return tiles


def draw_classes(path, photos):
    """Draw a few photos of each class in datasets.Photos, one row per class; print the path."""
    tiles = class_tiles(photos).items()
    sheet = {fonts.class_name(name, label): row for label, (name, row) in enumerate(tiles)}
    draw_sheet(path, classes_title(photos), sheet, max(map(len, sheet.values())))
    console.info(f"a first look at the training photos: {path}")


def draw_augmentation(folder, recipe, photos, seed):
    """Draw one of datasets.Photos and its first views to augmentation.png.

    If no phase augments its photos, a picture of an earlier training is deleted.
    """
    path = folder / "augmentation.png"
    files.remove(path)
    if tiles := augmentation_tiles(recipe, photos, seed):
        draw_sheet(path, AUGMENTATION_TITLE, {"": tiles}, best_columns(len(tiles)))
        console.info(f"what the augmentation does to a photo: {path}")


def draw_predictions(path, title, predictions, classes):
    """Draw a sheet of predictions of evaluation.describe; without any, delete an earlier one."""
    files.remove(path)
    names = {name: fonts.class_name(name, label) for label, name in enumerate(classes)}
    drawn = [
        each | {"class": names[each["class"]], "predicted": names[each["predicted"]]}
        for each in predictions
    ]
    if tiles := list(map(prediction_tile, drawn)):
        draw_sheet(path, title, {"": tiles}, best_columns(len(tiles)))


def best_columns(count, choices=(3, 4, 5)):
    """Return in how many columns `count` photos leave the fewest gaps in the last row."""
    return min(choices, key=lambda columns: (-count % columns, columns))


def draw_sheet(path, title, sheet, columns):
    """Draw photos on an even grid, with their captions below and the headings of rows above.

    `sheet` is {heading: [Tile]}. Each heading begins a new row; an empty one is not drawn.
    """
    side = 2.2 if columns <= 3 else 1.7  # of a photo, in inches
    lines = max(len(caption_lines(tile)) for tiles in sheet.values() for tile in tiles)
    row_height, heading_height = side + LINE * (lines + 1), 1.3 * LINE
    rows = sum(math.ceil(len(tiles) / columns) for tiles in sheet.values())
    width, top = columns * (side + GAP) - GAP, 2 * LINE
    height = top + rows * row_height + len(list(filter(None, sheet))) * heading_height
    figure = plt.figure(figsize=(width, height), dpi=STYLE["dpi"])
    # The unit of the axes is an inch, from the top left corner.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0, 0, title, va="top", parse_math=False, size=11, weight="bold")
    for heading, tiles in sheet.items():
        if heading:
            axes.text(0, top, heading, va="top", parse_math=False, size=10)
            top += heading_height
        for number, tile in enumerate(tiles):
            row, column = divmod(number, columns)
            draw_tile(axes, tile, column * (side + GAP), top + row * row_height, side)
        top += math.ceil(len(tiles) / columns) * row_height
    save_figure(path, figure)


def draw_tile(axes, tile, left, top, side):
    """Draw a Tile with its caption; the unit is an inch."""
    axes.imshow(tile.picture, extent=(left, left + side, top + side, top), aspect="auto")
    # A photo with a white background has an edge too.
    edge = {"fill": False, "color": "lightgrey", "linewidth": 0.5, "clip_on": False}
    axes.add_patch(plt.Rectangle((left, top), side, side, **edge))
    for number, (text, end, colour) in enumerate(caption_lines(tile)):
        place = (left, top + side + LINE * (number + 0.35))
        write_line(axes, place, side, text, end, size=9, color=colour)


def caption_lines(tile):
    """Return [(text, its end, colour)] of a Tile's caption. The end is never cut off."""
    end = f" {tile.percentage}" if tile.percentage else ""
    lines = [(tile.name, end, "black"), (tile.note, "", "black"), (tile.file, "", QUIET)]
    return [line for line in lines if line[0]]


def write_line(axes, place, width, text, end, **style):
    """Write a text and its end from their top left corner; shorten the text to fit the width."""
    text = fonts.drawable(text)
    label = axes.text(*place, text + end, va="top", parse_math=False, **style)
    fonts.choose(label)
    while len(text) > 1 and label.get_window_extent().width > width * axes.figure.dpi:
        text = text.removesuffix("…")[:-1] + "…"
        label.set_text(text + end)


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
    figure, panels = plt.subplots(2, 1, figsize=(WIDTH, 4.9), sharex=True, **STYLE)
    if smoothing:
        title += f", moving average with factor {smoothing}"
    figure.suptitle(title, x=0.02, ha="left")
    for axes, metric in zip(panels, ("loss", "accuracy"), strict=True):
        plot_metric(axes, rows, starts, metric, smoothing)
        # A dashed line marks the start of each phase after the first.
        for start in starts:
            axes.axvline(start + 0.5, color=QUIET, linestyle="--", linewidth=1)
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
    for start in [0, *starts] if starts else []:
        place = {"xy": (start + 0.5, 1.02), "xycoords": ("data", "axes fraction")}
        panels[0].annotate(phases[start], **place, color=QUIET)
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
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
        style = {"color": colour, "marker": "o", "markersize": 2}
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
    fonts.choose(figure)
    with files.atomic_write(path) as partial:
        figure.savefig(partial, bbox_inches="tight", pad_inches=0.1)
    plt.close(figure)
