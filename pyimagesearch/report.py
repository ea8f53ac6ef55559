"""Numbers and pictures of one evaluation."""

import textwrap
from itertools import zip_longest
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw to files: there may be no display

import cv2
import imutils
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import classification_report, confusion_matrix

from pyimagesearch import files, images

# From Okabe and Ito's palette, which colour-blind people can tell apart.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
ANNOTATED_WIDTH, MARGIN, TALLEST = 400, 8, 2000  # pixels; the width is the tutorial's
# OpenCV's letters are ASCII only; matplotlib brings a font that can write most class names.
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"


def as_text(truth, probabilities, classes):
    """Return scikit-learn's classification report, a line a class in the order of `classes`.

    Args:
        truth: (n,) ints, indices into `classes`.
        probabilities: (n, classes) floats.
        classes: the class names.
    """
    return classification_report(
        truth,
        probabilities.argmax(axis=1),
        labels=range(len(classes)),
        target_names=classes,
        zero_division=0,
    )


def as_numbers(truth, probabilities, classes):
    """Return {"accuracy": share from 0 to 1, "classes": {name: precision, recall, f1, support}}."""
    predicted = probabilities.argmax(axis=1)
    rows = classification_report(
        truth,
        predicted,
        labels=range(len(classes)),
        target_names=classes,
        zero_division=0,
        output_dict=True,
    )
    per_class = {
        name: {
            "precision": rows[name]["precision"],
            "recall": rows[name]["recall"],
            "f1": rows[name]["f1-score"],
            "support": int(rows[name]["support"]),
        }
        for name in classes
    }
    return {"accuracy": float(np.mean(predicted == truth)), "classes": per_class}


def confusion_text(truth, probabilities, classes):
    """Return the confusion matrix as text: rows are true classes, columns predicted ones.

    Under it a line a class tells which number stands for it.
    """
    matrix = confusion(truth, probabilities)
    width = max(4, len(str(matrix.max())) + 1)
    lines = ["".join(f"{number:>{width}}" for number in row) for row in matrix]
    header = "".join(f"{f'({number})':>{width}}" for number in range(len(classes)))
    names = [f"({number}) {name}" for number, name in enumerate(classes)]
    return "\n".join([*lines, header, *names])


def confusion(truth, probabilities):
    """Return the (classes, classes) counts of true class (row) against predicted one (column)."""
    labels = range(probabilities.shape[1])
    return confusion_matrix(truth, probabilities.argmax(axis=1), labels=labels)


def save_confusion(path, truth, probabilities, classes):
    """Draw the confusion matrix: counts, shaded by the share of the true class."""
    matrix = confusion(truth, probabilities)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.75 * len(classes)
    figure, panel = plt.subplots(figsize=(side + 1.5, side), dpi=100, layout="constrained")
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        share = shares[row, column]
        panel.text(
            column,
            row,
            f"{matrix[row, column]}\n{share:.0%}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
            fontsize=9,
        )
    ticks = range(len(classes))
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(ticks, classes, parse_math=False, **slanted)
    panel.set_yticks(ticks, classes, parse_math=False)
    panel.set(xlabel="predicted", ylabel="true")
    panel.set_title(f"{matrix.trace():,} of {matrix.sum():,} right")
    save_figure(path, figure)


def confident_mistakes(truth, probabilities, count):
    """Return the positions of the wrong answers with the most misplaced confidence, worst first.

    The order is by |truth - probability| of the true class: the less likely the right answer
    seemed, the worse.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    right_answer = probabilities[wrong, truth[wrong]]
    return wrong[np.argsort(right_answer, kind="stable")][:count]


def save_evaluation(folder, stem, photos, probabilities, mistakes):
    """Write the pictures of one evaluation; return (numbers, text) of it.

    Args:
        folder: of the classifier; gets <stem>confusion.png and <stem>mistakes.png.
        stem: "" or the name of a phase with an underscore.
        photos: the images.Photos evaluated.
        probabilities: (n, classes) floats, in the order of the photos.
        mistakes: how many of the most confident ones to show.
    """
    truth, classes = photos.labels, photos.classes
    save_confusion(folder / f"{stem}confusion.png", truth, probabilities, classes)
    worst = confident_mistakes(truth, probabilities, mistakes)
    lines = describe_mistakes(worst, photos, probabilities)
    sheet = folder / f"{stem}mistakes.png"
    if len(worst):
        pictures = [images.read_dataset_photo(photos.paths[position]) for position in worst]
        save_sheet(sheet, pictures, lines, "The most confident mistakes")
    else:
        sheet.unlink(missing_ok=True)
    text = "\n".join(
        [
            as_text(truth, probabilities, classes),
            "Confusion matrix: a row is a true class, a column what it was taken for",
            confusion_text(truth, probabilities, classes),
            "",
            "The most confident mistakes" if lines else "No mistakes",
            *lines,
            "",
        ]
    )
    return as_numbers(truth, probabilities, classes), text


def save_first_look(path, photos, count=9):
    """Draw training photos with their true classes: of each class in turn, up to `count`."""
    classes = range(len(photos.classes))
    queues = [list(np.flatnonzero(photos.labels == label)) for label in classes]
    in_turn = [each for row in zip_longest(*queues) for each in row if each is not None][:count]
    pictures = [images.read_dataset_photo(photos.paths[position]) for position in in_turn]
    names = [photos.classes[photos.labels[position]] for position in in_turn]
    save_sheet(path, pictures, names, "Photos of the training split")


def describe_mistakes(positions, photos, probabilities):
    """Return a line a mistake: file name, true class, predicted class, its probability."""
    lines = []
    for position in positions:
        name = printable(photos.paths[position].name)
        truth = photos.classes[photos.labels[position]]
        predicted = int(probabilities[position].argmax())
        share = probabilities[position, predicted]
        lines.append(f"{name}: {truth} taken for {photos.classes[predicted]} ({share:.2%})")
    return lines


def save_sheet(path, pictures, captions, title, columns=3):
    """Draw uint8 RGB pictures in rows, each with its caption."""
    rows = -(-len(pictures) // columns)
    # As high as most pictures are, so that wide ones leave no gaps.
    shape = np.median([picture.shape[0] / picture.shape[1] for picture in pictures])
    row_height = 3.2 * min(max(shape, 0.4), 1.4) + 0.7
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(3.4 * columns, row_height * rows + 0.4),
        dpi=100,
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title)
    for panel in panels.flat:
        panel.axis("off")
    for panel, picture, caption in zip(panels.flat, pictures, captions, strict=False):
        panel.imshow(picture)
        wrapped = [textwrap.fill(line, 34) for line in printable(caption).splitlines()]
        panel.set_title("\n".join(wrapped), size=10, parse_math=False)
    save_figure(path, figure)


def printable(text):
    """Return a text with what is no Unicode in it, as in a file's name, made visible as "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def smooth(values, factor):
    """Return the exponential moving average of a curve, as Deep Learning with Python plots it."""
    smoothed = []
    for value in values:
        smoothed.append(smoothed[-1] * factor + value * (1 - factor) if smoothed else value)
    return smoothed


def save_curves(path, rows, title, smoothing=0):
    """Draw loss and accuracy of one phase, on training and on validation photos.

    Args:
        path: of the PNG.
        rows: the phase's rows of history.csv.
        title: stands over both panels.
        smoothing: 0 for the curves as they are, or the factor of a moving average.
    """
    epochs = [row["epoch"] for row in rows]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), dpi=100, layout="constrained")
    figure.suptitle(f"{title}, smoothed by {smoothing}" if smoothing else title)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for column, label, colour in (
            (name, "training", TRAINING_COLOUR),
            (f"val_{name}", "validation", VALIDATION_COLOUR),
        ):
            values = smooth([row[column] for row in rows], smoothing)
            panel.plot(epochs, values, color=colour, label=label, marker="o", markersize=3)
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend()
    save_figure(path, figure)


def save_phase_curves(folder, recipe, phase, rows):
    """Draw a phase's curves as they are and, where the recipe asks for it, smoothed as well."""
    mine = [row for row in rows if row["phase"] == phase.name]
    title = f"{recipe.name}: {phase.name}"
    save_curves(folder / f"{phase.name}.png", mine, title)
    if recipe.smoothing:
        save_curves(folder / f"{phase.name}_smoothed.png", mine, title, recipe.smoothing)


def save_figure(path, figure):
    """Write a figure as PNG and close it."""
    with files.whole(path) as partial:
        figure.savefig(partial)
    plt.close(figure)


def annotate(photo, text):
    """Return a copy of a uint8 RGB photo, 400 pixels wide, with a line of green text on it."""
    height = round(photo.shape[0] * ANNOTATED_WIDTH / photo.shape[1])
    if MARGIN <= height <= TALLEST:
        picture = imutils.resize(photo, width=ANNOTATED_WIDTH)
    else:
        # A strip of a few pixels, or a tower: no shape to keep.
        picture = cv2.resize(photo, (ANNOTATED_WIDTH, min(max(height, 40), TALLEST)))
    picture = Image.fromarray(picture)
    ImageDraw.Draw(picture).text(
        (MARGIN, MARGIN),
        text,
        font=fitting_font(text, ANNOTATED_WIDTH - 2 * MARGIN),
        fill=(0, 255, 0),
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    return np.asarray(picture)


def fitting_font(text, width):
    """Return the largest font, of 20 pixels at most, in which a text is no wider than `width`."""
    for size in range(20, 7, -1):
        font = ImageFont.truetype(FONT, size)
        if font.getlength(text) <= width:
            break
    return font


def save_picture(path, picture):
    """Write a uint8 RGB picture as PNG."""
    with files.whole(path) as partial:
        Image.fromarray(picture).save(partial)


def show_picture(picture):
    """Show a uint8 RGB picture in a window until a key is pressed."""
    cv2.imshow("any key goes on", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.waitKey(0)
    cv2.destroyAllWindows()
