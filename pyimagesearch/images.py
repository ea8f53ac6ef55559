"""Pixels come in here and nowhere else: read, resize, augment; ordered lists and batches."""

import itertools
import struct
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from pyimagesearch import console, files
from pyimagesearch.console import UserError
from pyimagesearch.recipe import composed, folder_name

# The threads of `batches` and of TensorFlow share the cores; OpenCV's own would come on top.
cv2.setNumThreads(1)

# What a person calls a photo. Anything else is passed over; build_dataset.py counts it.
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
# Pixels. A phone takes up to 200 million; beyond that a small file may be meant to fill memory.
LARGEST_PHOTO = 250_000_000
Image.MAX_IMAGE_PIXELS = LARGEST_PHOTO // 2  # Pillow refuses at twice this and warns from here
READERS = 4
# A photo is decoded to twice the network's size at the least: what that leaves out changes a pixel
# of the small copy by one or two levels in 255 at the most, on average. And to what a picture on a
# screen needs, for predict.py shows it.
DETAIL, ON_SCREEN = 2, 448
# What undoes each EXIF orientation; 1 is upright. Pillow's own exif_transpose also writes the
# other tags anew, and fails where a camera wrote an odd one.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Whatever a file's name says. PostScript is not among them: Pillow would let Ghostscript run it.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
# Pillow's decoders raise all of these on damaged files.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError),
    *(RuntimeError, struct.error),
)


class BrokenPhoto(ValueError):
    """A file that cannot be read as a photo; the message says why."""


def read_rgb(source, at_least=None):
    """Return a photo as a person sees it: uint8 RGB (height, width, 3).

    A turned photo (EXIF) is upright, what is transparent stands on white, greyscale, palette,
    CMYK and 16-bit pictures become RGB, an animation its first frame.

    Args:
        source: a path, or the bytes of a file.
        at_least: pixels that no side needs to have more than: a large JPEG is decoded to a half,
            a quarter or an eighth, which takes a quarter of the time for a phone's 12 million
            pixels. None: every pixel.

    Raises:
        BrokenPhoto: no picture, one cut short, one too large, or one of a kind without colours.
        OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise BrokenPhoto("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=FORMATS) as picture:
                if at_least is not None:
                    picture.draft(None, (at_least, at_least))
                # `load` raises on a file cut short, where OpenCV would fill up with grey.
                picture.load()
                return np.asarray(on_white(upright(picture)))
    except Image.DecompressionBombError as failure:
        raise BrokenPhoto(f"more than {LARGEST_PHOTO:,} pixels") from failure
    except Image.UnidentifiedImageError as failure:
        raise BrokenPhoto("not a picture") from failure
    except DAMAGE as failure:
        raise BrokenPhoto(f"damaged: {failure}") from failure


def upright(picture):
    """Return a Pillow picture turned as its EXIF orientation says, if it says anything."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    except DAMAGE:  # some programs write it wrong: the picture is whole
        turn = None
    return picture if turn is None else picture.transpose(turn)


def on_white(picture):
    """Return a Pillow picture of any mode as RGB; what is transparent shows white."""
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.clip(np.asarray(picture), 0, 65535) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("32-bit floats have no agreed black and white")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    paper = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(paper, layer).convert("RGB")


def resize(photo, size):
    """Return a uint8 (size, size, 3) copy; the shape is not kept, as in the tutorials.

    Shrinking averages the pixels that fall together; picking single ones makes false patterns.
    """
    height, width = photo.shape[:2]
    # Where only one side shrinks, and to no less than half, a straight line between two pixels
    # passes none over.
    if min(height, width) > size or max(height, width) > 2 * size:
        small = min(width, size), min(height, size)
        photo = cv2.resize(photo, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(photo, (size, size), interpolation=cv2.INTER_LINEAR)


def draw(augmentation, size, rng):
    """Draw one random change of a photo.

    Args:
        augmentation: the ranges, a recipe.Augmentation.
        size: pixels along a side.
        rng: a numpy Generator.

    Returns:
        A float64 (2, 3) matrix from a point (x, y, 1) of the changed photo to the point of the
        plain photo that it shows: one warp does everything at once.
    """
    low, high = augmentation.zoom_range
    angle, shear = np.radians(
        [
            rng.uniform(-1, 1) * augmentation.rotation_degrees,
            rng.uniform(-1, 1) * augmentation.shear_degrees,
        ]
    )
    shift_x = rng.uniform(-1, 1) * augmentation.width_shift * size
    shift_y = rng.uniform(-1, 1) * augmentation.height_shift * size
    zoom_x, zoom_y = rng.uniform(low, high, size=2)
    flip_x = -1 if augmentation.horizontal_flip and rng.random() < 0.5 else 1
    flip_y = -1 if augmentation.vertical_flip and rng.random() < 0.5 else 1
    return compose(angle, (shift_x, shift_y), shear, (zoom_x * flip_x, zoom_y * flip_y), size)


def compose(angle, shift, shear, zoom, size):
    """Return the matrix of a rotation, shift, shear and zoom about the photo's centre.

    Angles are in radians, counted against the clock, and the shift in pixels; a negative zoom
    mirrors. The order is that of Keras' old ImageDataGenerator: zoom, shear, shift, rotate.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    lean = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    scale = np.diag([zoom[0], zoom[1], 1])
    middle = (size - 1) / 2
    to_centre = np.array([[1, 0, -middle], [0, 1, -middle], [0, 0, 1]])
    from_centre = np.array([[1, 0, middle], [0, 1, middle], [0, 0, 1]])
    return (from_centre @ rotate @ move @ lean @ scale @ to_centre)[:2]


def warp(photo, matrix):
    """Return a photo changed by a matrix of `draw`; the nearest edge fills what comes in."""
    return cv2.warpAffine(
        photo,
        matrix,
        photo.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


@dataclass(frozen=True)
class Photos:
    """An ordered list of photos: labels[i], an index into classes, is the class of paths[i]."""

    paths: tuple
    labels: np.ndarray
    classes: tuple

    def __len__(self):
        return len(self.paths)

    def take(self, positions):
        """Return a list of only the photos at these positions, in their order."""
        paths = tuple(self.paths[position] for position in positions)
        return Photos(paths, self.labels[list(positions)], self.classes)

    @property
    def stamp(self):
        """16 hexadecimal digits that change when a photo comes, goes or changes."""
        try:
            names = [(path.parent.name, path.name, *files.file_stamp(path)) for path in self.paths]
        except FileNotFoundError as failure:
            raise UserError(
                f"{failure.filename} has just disappeared. Put it back, or run the same command "
                f"again to go on without it"
            ) from failure
        return files.digest(names, self.classes)


def list_photos(dataset_dir, recipe, split):
    """Return the photos of one split in a fixed order: class after class, then by name.

    Raises:
        UserError: the split or a class is missing or empty, or there is a class too many.
    """
    folder = Path(dataset_dir) / recipe.name / split
    remedy = console.command("build_dataset", recipe.name)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing. Make it with: {remedy}")
    wanted = [folder_name(name) for name in recipe.classes]
    folders = folders_in(folder)
    strange = {name for name in folders.keys() - set(wanted) if not name.startswith(".")}
    if strange:
        raise UserError(
            f"{folders[min(strange)]} is the folder of no class of recipe {recipe.name!r}. "
            f"Move it away, or name it in the recipe's classes"
        )
    paths, labels = [], []
    for label, name in enumerate(wanted):
        found = photos_in(folders.get(name, folder / name))
        if not found:
            raise UserError(f"{folder / name} has no photos. Put some there, or run: {remedy}")
        paths += found
        labels += [label] * len(found)
    return Photos(tuple(paths), np.array(labels), recipe.classes)


def folders_in(folder):
    """Return {name: path} of the folders in a folder, accents in the names as recipes have them.

    Raises:
        UserError: two names differ in nothing else.
    """
    found = {}
    for path in sorted(each for each in folder.iterdir() if each.is_dir()):
        other = found.setdefault(composed(path.name), path)
        if other != path:
            raise UserError(
                f"two folders in {folder} are named {composed(path.name)!r}, with the accent in "
                f"the letter and behind it. Put their photos into one"
            )
    return found


def visible(path):
    """Tell whether a file or folder is a person's, not its archiver's or system's."""
    name = path.name.lower()
    return not name.startswith((".", "__macosx")) and name not in ("thumbs.db", "desktop.ini")


def photos_in(folder):
    """Return the photos that lie in a folder, by name; [] where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_photo(path))


def is_photo(path):
    """Tell whether a file's name is that of a photo: ._x.jpg and .partial.jpg are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_dataset_photo(path, at_least=None):
    """Return one photo of the dataset, as read_rgb does.

    Raises:
        UserError: it cannot be read: it has changed since build_dataset checked it.
    """
    try:
        return read_rgb(path, at_least)
    except (BrokenPhoto, FileNotFoundError) as failure:
        raise UserError(
            f"{path} cannot be read: {failure}. It was whole when build_dataset.py checked it; "
            f"put it back or delete it, then run the same command again"
        ) from failure


def read_for_sheet(path):
    """Return one photo of the dataset, no larger than a sheet of many shows it."""
    photo = read_dataset_photo(path, ON_SCREEN)
    height, width = photo.shape[:2]
    share = min(1, ON_SCREEN / max(height, width))
    size = max(1, round(share * width)), max(1, round(share * height))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def enough_for(size):
    """Return how many pixels a side of a photo has to keep for a network of that size."""
    return max(DETAIL * size, ON_SCREEN)


def load(path, size):
    """Return one photo of the dataset at the network's size; errors as read_dataset_photo."""
    return resize(read_dataset_photo(path, enough_for(size)), size)


def batches(paths, size, batch_size, augment=None):
    """Yield every photo once, in order, as uint8 (batch, size, size, 3); the last may be smaller.

    Threads read ahead, so that the network does not wait for the disk.

    Args:
        paths: of the photos.
        size: pixels along a side.
        batch_size: photos a batch.
        augment: None, or a function of (position in paths, photo) that returns the photo changed.
    """

    def prepare(position):
        photo = load(paths[position], size)
        return photo if augment is None else augment(position, photo)

    # Two batches ahead: one for the network, one being read.
    photos = ahead(prepare, range(len(paths)), 2 * batch_size)
    while batch := list(itertools.islice(photos, batch_size)):
        yield np.stack(batch)


def ahead(work, things, count):
    """Yield work(thing) for each thing, in order, while threads work on the next `count`."""
    with ThreadPoolExecutor(READERS) as threads:
        waiting = deque()
        try:
            for thing in things:
                waiting.append(threads.submit(work, thing))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            # Ctrl-C, or nobody wants more: what has not begun does not begin.
            threads.shutdown(wait=False, cancel_futures=True)
            raise
