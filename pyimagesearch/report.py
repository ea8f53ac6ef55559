"""Numbers and pictures of one evaluation."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draw to files: there may be no display

import cv2
import imutils
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import classification_report

from pyimagesearch import files

# From Okabe and Ito's palette, which colour-blind people can tell apart.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
ANNOTATED_WIDTH, MARGIN = 400, 8  # pixels; the width is the tutorial's
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


def save_curves(path, rows, title):
    """Draw loss and accuracy of one phase, on training and on validation photos.

    Args:
        path: of the PNG.
        rows: the phase's rows of history.csv.
        title: stands over both panels.
    """
    epochs = [row["epoch"] for row in rows]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), dpi=100, layout="constrained")
    figure.suptitle(title)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for column, label, colour in (
            (name, "training", TRAINING_COLOUR),
            (f"val_{name}", "validation", VALIDATION_COLOUR),
        ):
            values = [row[column] for row in rows]
            panel.plot(epochs, values, color=colour, label=label, marker="o", markersize=3)
        panel.set(xlabel="epoch", ylabel=name)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend()
    with files.whole(path) as partial:
        figure.savefig(partial)
    plt.close(figure)


def annotate(photo, text):
    """Return a copy of a uint8 RGB photo, 400 pixels wide, with a line of green text on it."""
    picture = Image.fromarray(imutils.resize(photo, width=ANNOTATED_WIDTH))
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
