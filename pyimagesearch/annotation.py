"""The picture of an answer: a copy of the photo with the class on it, and where it was seen."""

import importlib.util
import os
from pathlib import Path

import cv2
import imutils
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyimagesearch import files

# Pixels; the width is the tutorial's.
WIDTH, MARGIN, SHORTEST, TALLEST = 400, 8, 40, 2000
# OpenCV's letters are ASCII only; matplotlib brings a font that can write most class names. Its
# import would take longer than the answer.
FONT = (
    Path(importlib.util.find_spec("matplotlib").origin).parent
    / "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"
)
COLDEST, HOTTEST = 0.2, 0.65  # how much of the photo the colours cover


def small_copy(photo):
    """Return a copy of a uint8 RGB photo, 400 pixels wide."""
    height = round(photo.shape[0] * WIDTH / photo.shape[1])
    if SHORTEST <= height <= TALLEST:
        return imutils.resize(photo, width=WIDTH)
    # A strip of a few pixels, or a tower: no shape to keep.
    return cv2.resize(photo, (WIDTH, min(max(height, SHORTEST), TALLEST)))


def annotate(picture, text):
    """Return a small copy with a line of green text on it."""
    picture = Image.fromarray(picture)
    ImageDraw.Draw(picture).text(
        (MARGIN, MARGIN),
        text,
        font=fitting_font(text, WIDTH - 2 * MARGIN),
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


def explain(picture, heat, text):
    """Return a small copy and, to its right, the same one `covered`; the text is on both."""
    return np.hstack([annotate(each, text) for each in (picture, covered(picture, heat))])


def covered(photo, heat):
    """Return a photo under the heat of what counted for a class, dark blue to yellow.

    Args:
        photo: uint8 RGB (height, width, 3).
        heat: (rows, columns) float32 from 0 to 1, over the whole photo.
    """
    smooth = cv2.resize(heat, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    # Viridis is read alike by colour-blind people and in black and white.
    colours = cv2.applyColorMap(np.uint8(255 * smooth), cv2.COLORMAP_VIRIDIS)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)
    share = COLDEST + (HOTTEST - COLDEST) * smooth[..., None]
    return np.uint8(share * colours + (1 - share) * photo)


def save(path, picture):
    """Write a uint8 RGB picture as PNG."""
    with files.whole(path) as partial:
        Image.fromarray(picture).save(partial)


def show(picture):
    """Show a uint8 RGB picture in a window until a key is pressed."""
    # OpenCV's window toolkit warns of every font that it does not find, and needs none.
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
    cv2.imshow("any key goes on", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.waitKey(0)
    cv2.destroyAllWindows()
