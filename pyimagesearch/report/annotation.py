"""Annotated photos: small copies with the predicted class and, on request, a heat map."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import cv2
import imutils
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pyimagesearch.report import fonts
from pyimagesearch.report.answers import UNLIKE, percentage
from pyimagesearch.support import console, files

# Pixels. The width is the tutorial's.
WIDTH, MIN_HEIGHT, MAX_HEIGHT, MARGIN, BAR_HEIGHT = 400, 40, 2000, 8, 32
LARGEST_FONT, SMALLEST_FONT = 20, 8
GREEN, BACKING = (0, 255, 0), (0, 0, 0, 200)  # the last number is the opacity, of 255
# Opacity of a heat map's colours over the photo, from 0 to 1.
COLDEST, HOTTEST = 0.2, 0.65
DISPLAY_SECONDS = 20  # in which a window can be opened, also over a slow network
# File systems allow 255 bytes; this leaves room for a number and an ending.
MAX_NAME_BYTES = 150
MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)


class AnnotatedCopies:
    """Writes annotated copies of the first `limit` photos of a run, each under a name of its own.

    With a function from heatmaps.heatmap_function, each copy has a heat map beside it.
    """

    def __init__(self, folder, limit, show_windows=False, heatmap_function=None):
        if show_windows and not has_display():
            console.warn("--show needs a display; without one, the copies are only saved")
            show_windows = False
        self.folder, self.limit, self.show_windows = Path(folder), limit, show_windows
        self.heatmap_function = heatmap_function
        # In lower case: some file systems do not distinguish photo.png from PHOTO.png.
        self.names = set()

    def add(self, name, pixels, small_copy, probabilities, top_class, unlike=None):
        """Write the copy of one photo, unless the limit is reached.

        `name` is the photo's path or URL, `pixels` the input of the network, `small_copy` the photo
        as `shrink` returns it, `top_class` (class name, probability) of the likeliest class, and
        `unlike` True if the photo is unlike any training photo.
        """
        if len(self.names) >= self.limit:
            return
        label, probability = top_class
        label = fonts.class_name(label, int(probabilities.argmax()))
        text = f"{label}: {percentage(probability)}" + f"\n({UNLIKE})" * bool(unlike)
        if self.heatmap_function is None:
            picture = annotate(small_copy, text)
        else:
            heat = self.heatmap_function(pixels[None], [int(probabilities.argmax())])[0]
            picture = annotate_with_heat(small_copy, heat, text)
        self.save(picture, self.unique_name(name))
        if self.show_windows:
            show(picture)

    def save(self, picture, file_name):
        """Write a copy. If the folder cannot be written to, warn once and write no more."""
        try:
            with files.atomic_write(self.folder / file_name) as partial:
                Image.fromarray(picture).save(partial)
        except OSError as failure:
            if failure.errno not in MAY_NOT_WRITE:
                raise
            # The predictions are worth more than their copies.
            console.warn(f"no annotated copies from here on: {console.describe(failure)}")
            self.names.remove(file_name.casefold())
            self.limit = len(self.names)

    def unique_name(self, name):
        """Return a file name for a photo's copy that no other photo of this run has."""
        if "://" in name:
            name = name.split("?")[0]  # the query of a web address
        stem = os.fsencode(Path(name).stem)[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "photo"
        ending = ".png" if self.heatmap_function is None else "_explained.png"
        for number in itertools.count(1):
            copy = f"{stem} ({number}){ending}" if number > 1 else f"{stem}{ending}"
            if copy.casefold() not in self.names:
                self.names.add(copy.casefold())
                return copy

    def report(self, photo_count):
        """Print how many of the run's photos are annotated, and the folder of the copies."""
        count = len(self.names)
        if 0 < count < photo_count:
            photos = f"the first {count:,} of {photo_count:,} photos"
            console.info(f"annotated {photos} -> {self.folder}. For more, use --copies N")
        elif count:
            photos = "1 photo" if count == 1 else f"{count:,} photos"
            console.info(f"annotated {photos} -> {self.folder}")


def has_display():
    """Return True if a window can be opened: another process tries it.

    If the display does not answer, OpenCV's Qt ends the whole process.
    """
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('test')"]
    try:
        return not subprocess.run(command, capture_output=True, timeout=DISPLAY_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return False


def shrink(photo):
    """Return a copy of a uint8 RGB photo, 400 pixels wide and 40 to 2000 pixels high."""
    height = round(photo.shape[0] * WIDTH / photo.shape[1])
    if MIN_HEIGHT <= height <= MAX_HEIGHT:
        return imutils.resize(photo, width=WIDTH)
    # The photo is too narrow or too wide to keep its aspect ratio.
    return cv2.resize(photo, (WIDTH, min(max(height, MIN_HEIGHT), MAX_HEIGHT)))


def annotate(picture, text):
    """Return a copy of a picture from `shrink` with lines of green text on a dark backing."""
    # The largest font in which the text fits, or else the smallest.
    for size in range(LARGEST_FONT, SMALLEST_FONT - 1, -1):
        parts = place_parts(text, size)
        boxes = [font.getbbox(part, anchor="ls") for _, part, font in parts]
        right = max(place[0] + box[2] for (place, *_), box in zip(parts, boxes, strict=True))
        if right <= WIDTH - MARGIN:
            break
    picture = Image.fromarray(picture)
    drawing = ImageDraw.Draw(picture, "RGBA")
    top = min(place[1] + box[1] for (place, *_), box in zip(parts, boxes, strict=True))
    bottom = max(place[1] + box[3] for (place, *_), box in zip(parts, boxes, strict=True))
    box = MARGIN / 2, top - MARGIN / 2, right + MARGIN / 2, bottom + MARGIN / 2
    drawing.rounded_rectangle(box, MARGIN / 2, fill=BACKING)
    for place, part, font in parts:
        drawing.text(place, part, GREEN, font, anchor="ls")
    return np.asarray(picture)


def place_parts(text, size):
    """Return [((x, y), part of the text, Pillow font that has it)]; y is that of the baseline."""
    parts, y = [], MARGIN + size
    for line in text.splitlines():
        x = MARGIN
        for path, part in fonts.parts(line):
            font = ImageFont.truetype(path, size)
            parts.append(((x, y), part, font))
            x += font.getlength(part)
        y += size + MARGIN // 2
    return parts


def annotate_with_heat(picture, heat, text):
    """Return two annotated copies side by side: the plain picture, and under its heat map.

    Below them is a bar with the colours of the heat map and their meaning.
    """
    copies = np.hstack([annotate(picture, text), annotate(overlay_heat(picture, heat), text)])
    return np.vstack([copies, colour_bar()])


def colour_bar():
    """Return the colours of a heat map from 0 to 1 with their meaning: uint8 RGB, 32 x 800."""
    bar = Image.new("RGB", (2 * WIDTH, BAR_HEIGHT), "white")
    ramp = np.linspace(0, 1, WIDTH // 2, dtype=np.float32)
    colours = Image.fromarray(heat_colours(np.tile(ramp, (BAR_HEIGHT // 2, 1))))
    left = (bar.width - colours.width) // 2
    bar.paste(colours, (left, BAR_HEIGHT // 4))
    drawing, font = ImageDraw.Draw(bar), ImageFont.truetype(fonts.USUAL, 14)
    middle, right = BAR_HEIGHT // 2, left + colours.width
    drawing.text(
        (left - MARGIN, middle), "does not count for the class", "black", font, anchor="rm"
    )
    drawing.text((right + MARGIN, middle), "counts most for the class", "black", font, anchor="lm")
    return np.asarray(bar)


def heat_colours(heat):
    """Return uint8 RGB colours from dark blue (0) to yellow (1) for a float32 heat map."""
    # Colour-blind readers can read Viridis, and it survives printing in black and white.
    colours = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_VIRIDIS)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)


def overlay_heat(photo, heat):
    """Return a uint8 RGB photo with a heat map over it, from dark blue (0) to yellow (1).

    The heat map, (rows, columns) float32 from 0 to 1, is stretched over the whole photo.
    """
    smooth = cv2.resize(heat, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    opacity = COLDEST + (HOTTEST - COLDEST) * smooth[..., None]
    return np.uint8(opacity * heat_colours(smooth) + (1 - opacity) * photo)


def show(picture):
    """Show a uint8 RGB picture in a window until a key is pressed."""
    # OpenCV's Qt warns about missing fonts; the window has no text that needs them.
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
    cv2.imshow("Press any key to continue", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    cv2.waitKey(0)
    cv2.destroyAllWindows()
