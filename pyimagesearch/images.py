"""The only place where pixels come in: read a photo, resize it, augment it, make batches."""

import itertools
import math
import struct
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from pyimagesearch.recipe import height_and_width
from pyimagesearch.support import machine, sources
from pyimagesearch.support.errors import UserError

# Threads that read photos, per core: while one waits for the disk, the other one decodes.
READERS_PER_CORE = 2
# They share the cores with TensorFlow's threads. OpenCV's own would compete with both.
cv2.setNumThreads(1)

# The most pixels of a photo. Phones take up to 200 million; a small file that claims far more may
# be meant to fill the memory. Pillow refuses photos of more than twice MAX_IMAGE_PIXELS.
LARGEST_PHOTO = 250_000_000
Image.MAX_IMAGE_PIXELS = LARGEST_PHOTO // 2
# Photos with more pixels are decoded one after the other, so that they do not fill the memory: a
# photo of 200 million pixels takes 1 GB. It is one thread that does so, and not a lock, because the
# memory that a thread has freed is only used again by the same thread.
LARGE_PHOTO = 25_000_000
LARGE_PHOTOS = ThreadPoolExecutor(1)
STRIP_ROWS = 64

# Bytes of text or of a colour profile in a PNG. They are not used, but Pillow would refuse a photo
# with more than 1 MB of them.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 100_000_000

# The formats to try, independent of the file's name. PostScript is not among them, because Pillow
# would run Ghostscript to read it. `formats_for` adds HEIF.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")

# Pillow's decoders raise all of these for damaged files.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError),
    *(RuntimeError, struct.error),
)

# A photo without a brighter pixel is black to the eye. 12 bits in 16 bits reach 15 of 255 levels.
BLACKEST = 15
WHITE_IS_ZERO = 0  # a value of a TIFF's PhotometricInterpretation

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
    quarter of the time. In other formats, photos of more than LARGE_PHOTO pixels are shrunk.

    Raises:
        BrokenPhoto: the file is not a photo, is damaged or cut short, has too many pixels for the
            limit or the memory, or has a kind of pixels without defined colours.
        OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise BrokenPhoto("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=formats_for(data)) as picture:
                return decode(picture, at_least)
    except BrokenPhoto:
        raise
    except Image.DecompressionBombError as error:
        raise BrokenPhoto(f"more than {LARGEST_PHOTO:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise BrokenPhoto("not a picture of a known kind") from error
    except MemoryError as error:
        raise BrokenPhoto("it does not fit into the free memory") from error
    except DECODER_ERRORS as error:
        raise BrokenPhoto(f"damaged: {str(error).strip()}") from error


def formats_for(data):
    """Return the names of the formats to try for the bytes of a file."""
    if data[4:8] != b"ftyp":
        return FORMATS
    # HEIF, as from an iPhone, or AVIF. The import takes longer than reading most photos.
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return (*FORMATS, "HEIF")


def decode(picture, at_least):
    """Return the pixels of an open Pillow image as read_rgb does."""
    pixels = math.prod(picture.size)
    # The draft of other formats would be an embedded thumbnail.
    if at_least is not None and picture.format in ("JPEG", "MPO"):
        picture.draft(None, (at_least, at_least))
    if "progressive" not in picture.info:
        # A progressive JPEG is in memory as a whole before it is reduced. Others are not.
        pixels = math.prod(picture.size)
    if pixels <= LARGE_PHOTO:
        return to_array(picture, at_least)
    return LARGE_PHOTOS.submit(to_array, picture, at_least).result()


def to_array(picture, at_least):
    """Load the pixels of a Pillow image and return them as read_rgb does."""
    # Pillow raises if the file is cut short. OpenCV would fill the rest with grey.
    picture.load()
    is_large = math.prod(picture.size) > LARGE_PHOTO
    shades = to_8_bits(picture)
    rgb = in_strips(shades, at_least) if is_large else to_rgb(shades)
    pixels = np.asarray(turn_upright(rgb, picture))
    picture.close()  # frees its memory before the next photo
    return pixels


def turn_upright(rgb, picture):
    """Return an image turned as the EXIF orientation of the Pillow image `picture` demands."""
    try:
        operation = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation))
    except DECODER_ERRORS:
        # Some programs write invalid EXIF data. The pixels are intact.
        return rgb
    return rgb if operation is None else rgb.transpose(operation)


def to_8_bits(picture):
    """Return a Pillow image with 8 bits per channel. Greyscale photos can have up to 16."""
    tags = getattr(picture, "tag_v2", {})  # of a TIFF
    if picture.mode == "F" or (picture.mode == "I" and tags):
        numbers = "32-bit floats" if picture.mode == "F" else "signed or 32-bit integers"
        raise BrokenPhoto(f"{numbers} have no defined black and white")
    if not picture.mode.startswith("I"):
        return picture
    (bits,) = tags.get(ExifTags.Base.BitsPerSample, (16,))
    white = 2**bits - 1
    grey = np.clip(np.asarray(picture), 0, white) // (white // 255)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey.astype(np.uint8))


def to_rgb(picture):
    """Return a Pillow image of 8 bits per channel as RGB, with white instead of transparency."""
    if picture.has_transparency_data:
        background = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(background, picture.convert("RGBA"))
    # `convert` copies the pixels also if there is nothing to convert.
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def in_strips(picture, at_least):
    """Return a large Pillow image as to_rgb does, but shrunk as a large JPEG is.

    It is converted in strips, because a whole copy of it can take a gigabyte.
    """
    width, height = picture.size
    factor = 1 if at_least is None else max(1, min(width, height) // at_least)
    step = factor * STRIP_ROWS
    strips = [
        to_rgb(picture.crop((0, top, width, min(top + step, height)))).reduce(factor)
        for top in range(0, height, step)
    ]
    return Image.fromarray(np.concatenate([np.asarray(strip) for strip in strips]))


def is_blank(photo):
    """Return True if a uint8 photo is nearly black or nearly white all over."""
    return photo.max() <= BLACKEST or photo.min() >= 255 - BLACKEST


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
    """Return an iterator over the batches of photos at these paths, as `make_batches` gives them.

    They have an `image_size`. A photo that has changed raises UserError.
    """

    def read(position):
        return read_resized(paths[position], size)

    return make_batches(read, range(len(paths)), batch_size, augment, start)


def make_batches(read, positions, batch_size, augment=None, start=0):
    """Yield the photos at these positions in their order, as uint8 (batch, height, width, 3).

    Args:
        read: a function from a position to a photo.
        augment: None, or a function (place in `positions`, photo) -> changed photo.
        start: the place in `positions` to start from.

    The last batch can be smaller. Threads read ahead, so that the network does not wait for the
    disk.
    """

    def prepare(place):
        photo = read(positions[place])
        return photo if augment is None else augment(place, photo)

    # Two batches ahead: one for the network, and one that is being read.
    photos = read_ahead(prepare, range(start, len(positions)), 2 * batch_size)
    while batch := list(itertools.islice(photos, batch_size)):
        yield np.stack(batch)


def reader_threads():
    """Return how many threads read photos at the same time."""
    return READERS_PER_CORE * machine.usable_cores()


def read_ahead(function, items, count):
    """Yield function(item) for each item, in order, while threads compute the next `count`."""
    with ThreadPoolExecutor(reader_threads()) as threads:
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
