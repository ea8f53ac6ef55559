"""The only place where pixels come in: read a photo, resize it, augment it, make batches."""

import itertools
import struct
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from pyimagesearch.recipe import height_and_width
from pyimagesearch.support import sources
from pyimagesearch.support.errors import UserError

READER_THREADS = 4
# These threads and TensorFlow's share the cores. OpenCV's own threads would compete with them.
cv2.setNumThreads(1)

# The most pixels of a photo. Phones take up to 200 million; a small file that claims far more may
# be meant to fill the memory. Pillow refuses photos of more than twice MAX_IMAGE_PIXELS.
LARGEST_PHOTO = 250_000_000
Image.MAX_IMAGE_PIXELS = LARGEST_PHOTO // 2

# The formats to try, independent of the file's name. PostScript is not among them, because Pillow
# would run Ghostscript to read it.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")

# Pillow's decoders raise all of these for damaged files.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError),
    *(RuntimeError, struct.error),
)

# EXIF orientation -> the operation that makes a photo upright. Pillow's own exif_transpose also
# rewrites the other EXIF tags, and fails if a camera wrote an invalid one.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Large JPEGs are decoded at a reduced size, but at no less than this multiple of the network's
# image size. After resizing, they differ from photos decoded in full by one or two of 255 levels
# per pixel, on average.
DECODING_MARGIN = 2
# The longer side of a photo on a screen, in pixels: the size of thumbnails, and the least size to
# decode to, because predict.py also shows the photos.
SCREEN_SIZE = 448


class BrokenPhoto(ValueError):
    """A file that cannot be read as a photo. The message gives the reason."""


def read_rgb(source, at_least=None):
    """Return the photo at a path or in bytes as a person sees it: uint8 RGB (height, width, 3).

    A photo with an EXIF orientation is turned upright. Transparent pixels become white. Greyscale,
    palette, CMYK and 16-bit photos become RGB. Of an animation, the first frame is returned.

    With `at_least`, a large JPEG is decoded at a half, a quarter or an eighth of its size, but with
    at least this many pixels along each side. For 12 million pixels, as from a phone, this takes a
    quarter of the time.

    Raises:
        BrokenPhoto: the file is not a photo, is damaged or cut short, has too many pixels, or has
            a kind of pixels without defined colours.
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
                # Pillow raises if the file is cut short. OpenCV would fill the rest with grey.
                picture.load()
                return np.asarray(to_rgb(turn_upright(picture)))
    except Image.DecompressionBombError as error:
        raise BrokenPhoto(f"more than {LARGEST_PHOTO:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise BrokenPhoto("not a picture") from error
    except DECODER_ERRORS as error:
        raise BrokenPhoto(f"damaged: {error}") from error


def turn_upright(picture):
    """Return a Pillow image turned as its EXIF orientation demands, if it has one."""
    try:
        operation = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation))
    except DECODER_ERRORS:
        # Some programs write invalid EXIF data. The pixels are intact.
        return picture
    return picture if operation is None else picture.transpose(operation)


def to_rgb(picture):
    """Return a Pillow image of any mode as RGB, with white instead of transparent pixels."""
    if picture.mode.startswith("I"):
        # 16 bits per pixel: 65535 / 257 is 255.
        picture = Image.fromarray((np.clip(np.asarray(picture), 0, 65535) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("32-bit floats have no defined black and white")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    background = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(background, picture.convert("RGBA")).convert("RGB")


def resize(photo, size):
    """Return a uint8 copy of an `image_size`. As in the tutorials, it is squeezed, not cropped.

    Unlike in the tutorials, shrinking averages all pixels of an area. Picking single pixels
    creates false patterns.
    """
    sides, new_sides = photo.shape[:2], height_and_width(size)
    factors = [side / new_side for side, new_side in zip(sides, new_sides, strict=True)]
    # If only one side shrinks, to no less than half, linear interpolation skips no pixel.
    if min(factors) > 1 or max(factors) > 2:
        height, width = map(min, sides, new_sides)
        photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(photo, new_sides[::-1], interpolation=cv2.INTER_LINEAR)


def read_resized(path, size):
    """Return one photo of the dataset as the network sees it: uint8 RGB of an `image_size`."""
    return resize(read_dataset_photo(path, decode_size(size)), size)


def decode_size(size):
    """Return the `at_least` of read_rgb for a network with that image size."""
    return max(*(DECODING_MARGIN * side for side in height_and_width(size)), SCREEN_SIZE)


def read_dataset_photo(path, at_least=None):
    """Return one photo of the dataset, as read_rgb does, or raise UserError if it has changed."""
    try:
        return read_rgb(path, at_least)
    except (BrokenPhoto, FileNotFoundError) as error:
        raise UserError(
            f"{path} cannot be read: {error}. It was intact when build_dataset.py checked it: "
            f"put it back or delete it, then run the same command again"
        ) from error


def read_thumbnail(path):
    """Return one photo of the dataset, shrunk to at most SCREEN_SIZE pixels along a side."""
    photo = read_dataset_photo(path, SCREEN_SIZE)
    scale = min(1, SCREEN_SIZE / max(photo.shape[:2]))
    size = tuple(max(1, round(scale * side)) for side in photo.shape[1::-1])
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)


def read_photo(name, at_least=None):
    """Return the photo at a path or URL from a user, as read_rgb does, or raise Unreadable."""
    try:
        return read_rgb(sources.fetch(name), at_least)
    except BrokenPhoto as error:
        message = f"{name} cannot be read as a photo: {error}. Use another file"
        raise sources.Unreadable(message) from error


def augmenter(augmentation, size, seed):
    """Return a function (position, photo) -> the photo with a random change.

    The same position always gets the same change. The ranges are a recipe.Augmentation, `size` is
    an `image_size`, and the seed is a tuple of ints.
    """

    def augment(position, photo):
        rng = np.random.default_rng((*seed, 0, position))
        return apply_transform(photo, random_transform(augmentation, size, rng))

    return augment


def random_transform(augmentation, size, rng):
    """Draw the random changes of one photo from the ranges of a recipe.Augmentation.

    Returns a float64 (2, 3) matrix for apply_transform, which makes all changes in one step.
    """
    turn, slant, right, down = rng.uniform(-1, 1, size=4)
    angle = np.radians(turn * augmentation.rotation_degrees)
    shear = np.radians(slant * augmentation.shear_degrees)
    height, width = height_and_width(size)
    shift = right * augmentation.width_shift * width, down * augmentation.height_shift * height
    zoom_x, zoom_y = rng.uniform(*augmentation.zoom_range, size=2)
    if augmentation.horizontal_flip and rng.random() < 0.5:
        zoom_x = -zoom_x
    if augmentation.vertical_flip and rng.random() < 0.5:
        zoom_y = -zoom_y
    return transform_matrix(angle, shift, shear, (zoom_x, zoom_y), size)


def transform_matrix(angle, shift, shear, zoom, size):
    """Return the (2, 3) matrix of a rotation, shift, shear and zoom around the photo's centre.

    It maps a point (x, y, 1) of the changed photo to the point of the plain photo that appears
    there. The order is that of Keras' old ImageDataGenerator: zoom, shear, shift, rotation.

    Angle and shear are counterclockwise in radians, shift is (x, y) in pixels. Where zoom (x, y) is
    above 1, the photo gets smaller; a negative value mirrors it. `size` is an `image_size`.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    translation = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    shearing = np.array([[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]])
    scaling = np.diag([zoom[0], zoom[1], 1])
    y, x = ((side - 1) / 2 for side in height_and_width(size))
    to_centre = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
    from_centre = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])
    return (from_centre @ rotation @ translation @ shearing @ scaling @ to_centre)[:2]


def apply_transform(photo, matrix):
    """Return a photo changed by a transform_matrix; gaps are filled with the nearest edge."""
    options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(photo, matrix, photo.shape[1::-1], **options)


def read_batches(paths, size, batch_size, augment=None, start=0):
    """Yield every photo once, in order, as uint8 (batch, height, width, 3) of an `image_size`.

    The last batch can be smaller. The first one is at position `start`. `augment` is None or a
    function (position in paths, photo) -> changed photo. Threads read ahead, so that the network
    does not wait for the disk. A photo that has changed raises UserError.
    """

    def prepare(position):
        photo = read_resized(paths[position], size)
        return photo if augment is None else augment(position, photo)

    # Two batches ahead: one for the network, and one that is being read.
    photos = read_ahead(prepare, range(start, len(paths)), 2 * batch_size)
    while batch := list(itertools.islice(photos, batch_size)):
        yield np.stack(batch)


def read_ahead(function, items, count):
    """Yield function(item) for each item, in order, while threads compute the next `count`."""
    with ThreadPoolExecutor(READER_THREADS) as threads:
        pending = deque()
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            # After Ctrl-C, or if the caller stops early, calls that have not begun are cancelled.
            threads.shutdown(wait=False, cancel_futures=True)
            raise
