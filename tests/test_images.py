"""Every way from a file to pixels: reading, resizing, augmenting, batches, and broken files."""

import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
import sklearn.datasets
from conftest import ROOT, make_photo, tiny_recipe
from PIL import Image, PngImagePlugin, features
from scipy import ndimage

from pyimagesearch import config, images
from pyimagesearch.recipe import Augmentation
from pyimagesearch.support import machine, photo_files
from pyimagesearch.support.errors import UserError

pytestmark = pytest.mark.usefixtures("untraced")

LEFT, RIGHT = (200, 30, 40), (20, 60, 180)
FORMATS = {
    **{"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"},
    "heic": "HEIF",
}
EXIF_ORIENTATION = 0x0112


def two_colours(width=32, height=24):
    """Return a photo with one colour in its left half and another in its right half."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = LEFT, RIGHT
    return pixels


def assert_two_colours(photo, tolerance=6):
    """Check that a photo is the uint8 RGB array of two_colours(), ready for OpenCV."""
    assert photo.dtype == np.uint8
    assert photo.shape == (24, 32, 3)
    assert photo.flags.c_contiguous
    assert cv2.resize(photo, (8, 8)).shape == (8, 8, 3)
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=tolerance)
    np.testing.assert_allclose(photo[12, 27].astype(int), RIGHT, atol=tolerance)


def write(path, data):
    """Write bytes to a file and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Formats, colours and orientations

# The colours of four_colours(), of its greys and of its black and white, from the top left by rows.
COLOURS = np.array([[200, 30, 40], [20, 60, 180], [240, 200, 60], [90, 140, 80]])
GREYS = np.array([[30] * 3, [90] * 3, [160] * 3, [240] * 3])
BLACK_AND_WHITE = np.array([[0] * 3, [255] * 3, [255] * 3, [0] * 3])
ALPHA = 128


def quarters(colours):
    """Return a picture of 32 x 24 pixels whose quarters have these colours."""
    rows = np.reshape(colours, (2, 2, 3)).repeat(12, axis=0).repeat(16, axis=1)
    return Image.fromarray(rows.astype(np.uint8))


def with_alpha(mode="RGBA"):
    """Return the picture of COLOURS or GREYS with half transparent pixels."""
    picture = quarters(COLOURS if mode == "RGBA" else GREYS).convert(mode)
    picture.putalpha(ALPHA)
    return picture


def clear_palette(picture):
    """Return a palette picture whose last quarter has the transparent colour."""
    palette = picture.quantize(4)
    palette.info["transparency"] = palette.getpixel((24, 18))
    return palette


def deep(colours, bits=16):
    """Return the grey picture of these colours with 16 bits per pixel, of which `bits` are used."""
    grey = np.asarray(quarters(colours).convert("L"), np.uint16)
    return Image.fromarray(grey * 257 >> 16 - bits)


def turned(orientation):
    """Return the picture of COLOURS as it is stored so that this EXIF orientation restores it."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    picture = quarters(COLOURS)
    return picture if undo == 1 else picture.transpose(images.UPRIGHT[undo])


def exif_with(orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return exif.tobytes()


COLOUR, GREY = quarters(COLOURS), quarters(GREYS).convert("L")
BINARY = quarters(BLACK_AND_WHITE).convert("1")
COLOURS_ON_WHITE, GREYS_ON_WHITE = (
    np.round(colours * ALPHA / 255 + 255 - ALPHA) for colours in (COLOURS, GREYS)
)
CLEAR_QUARTER = np.vstack([COLOURS[:3], [[255] * 3]])
WHITE_IS_ZERO = {"tiffinfo": {0x0106: 0}}
# File name: (picture, the colours that a person sees, options of Pillow's save).
SAVED = {
    **{
        f"a.{suffix}": (COLOUR, COLOURS, {"format": kind, "quality": 95})
        for suffix, kind in [
            *(("jpg", "JPEG"), ("JPE", "JPEG"), ("jfif", "JPEG"), ("webp", "WEBP")),
            *(("avif", "AVIF"), ("heic", "HEIF"), ("png", "PNG"), ("gif", "GIF"), ("bmp", "BMP")),
            *(("tif", "TIFF"), ("ppm", "PPM"), ("jp2", "JPEG2000")),
        ]
    },
    "no suffix": (COLOUR, COLOURS, {"format": "JPEG", "quality": 95}),
    "two pictures.mpo": (COLOUR, COLOURS, {"save_all": True, "append_images": [GREY]}),
    "CMYK.jpg": (COLOUR.convert("CMYK"), COLOURS, {"quality": 95}),
    "CMYK.tif": (COLOUR.convert("CMYK"), COLOURS, {}),
    "YCbCr.jpg": (COLOUR.convert("YCbCr"), COLOURS, {"quality": 95}),
    "grey.jpg": (GREY, GREYS, {}),
    "grey.png": (GREY, GREYS, {}),
    "grey, white is zero.tif": (GREY, GREYS, WHITE_IS_ZERO),
    "1 bit.png": (BINARY, BLACK_AND_WHITE, {}),
    "1 bit.tif": (BINARY, BLACK_AND_WHITE, {"compression": "group4"}),
    "16 bits.png": (deep(GREYS), GREYS, {}),
    "16 bits.tif": (deep(GREYS), GREYS, {}),
    "16 bits, white is zero.tif": (deep(255 - GREYS), GREYS, WHITE_IS_ZERO),
    "palette.png": (COLOUR.quantize(4), COLOURS, {}),
    "palette.tif": (COLOUR.quantize(4), COLOURS, {}),
    "clear colour.png": (clear_palette(COLOUR), CLEAR_QUARTER, {}),
    "clear colour.gif": (clear_palette(COLOUR), CLEAR_QUARTER, {}),
    "half clear.png": (with_alpha(), COLOURS_ON_WHITE, {}),
    "half clear.webp": (with_alpha(), COLOURS_ON_WHITE, {"lossless": True}),
    "half clear.heic": (with_alpha(), COLOURS_ON_WHITE, {"quality": 95}),
    "half clear, grey.png": (with_alpha("LA"), GREYS_ON_WHITE, {}),
    "half clear, grey.tif": (with_alpha("LA"), GREYS_ON_WHITE, {}),
    **{
        f"turned {number}.{suffix}": (
            turned(number),
            COLOURS,
            {"quality": 95, "exif": exif_with(number)},
        )
        for suffix, numbers in {"jpg": range(1, 9), "heic": (3, 5, 6, 8)}.items()
        for number in numbers
    },
    **{
        f"turned.{suffix}": (turned(6), COLOURS, {"quality": 95, "exif": exif_with(6)})
        for suffix in ("png", "webp", "tif", "avif")
    },
}


def centres(pixels):
    """Return the colours in the middle of the four quarters of a picture, (4, 3)."""
    return pixels[6::12, 8::16].reshape(4, 3).astype(int)


def save(name):
    """Write a picture of SAVED; return the colours that it shows."""
    picture, colours, options = SAVED[name]
    pillow_heif.register_heif_opener()  # to write HEIF; reading must not need it
    picture.save(name, **options)
    Image.OPEN.pop("HEIF", None)
    return colours


@pytest.mark.parametrize("name", SAVED)
def test_read_rgb_shows_a_photo_as_a_person_sees_it(name):
    colours = save(name)
    photo = images.read_rgb(name)
    assert photo.dtype == np.uint8
    assert photo.shape == (24, 32, 3)
    np.testing.assert_allclose(centres(photo), colours, atol=6)
    assert photo_files.is_photo(Path(name))


def test_read_rgb_reads_the_same_pixels_as_opencv():
    # OpenCV has no HEIF, ignores transparency, does not turn AVIF, and fails on a turned TIFF.
    others = [name for name in SAVED if not re.search("heic|clear|turned.(avif|tif)", name)]
    for name in others:
        save(name)
        pixels = cv2.imread(name)[..., ::-1]
        np.testing.assert_allclose(images.read_rgb(name), pixels.astype(int), atol=1, err_msg=name)


def test_read_rgb_reads_heif_with_the_brand_of_any_image():
    save("a.heic")
    data = Path("a.heic").read_bytes().replace(b"ftypheic", b"ftypmif1", 1)
    np.testing.assert_array_equal(images.read_rgb(data), images.read_rgb("a.heic"))


def test_read_rgb_imports_the_heif_decoder_only_for_a_file_that_needs_it(monkeypatch):
    for name in ("a.jpg", "a.heic"):
        save(name)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images.read_rgb("a.jpg")
    with pytest.raises(ImportError):
        images.read_rgb("a.heic")


def test_read_rgb_reads_16_bits_of_each_colour():
    pixels = np.asarray(COLOUR)[..., ::-1].astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        cv2.imwrite(name, pixels)
        np.testing.assert_array_equal(images.read_rgb(name), COLOUR)


def test_read_rgb_reads_a_tiff_of_12_bits():
    low, high = 1, 4095
    packed = (low << 12 | high).to_bytes(3)
    entries = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (278, 1), (279, 3)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = b"II*\0" + struct.pack("<I", 12) + packed + b"\0" + struct.pack("<H", 8) + directory
    photo = images.read_rgb(data + bytes(4))
    np.testing.assert_array_equal(photo[0, :, 0], [0, 255])


@pytest.mark.parametrize(
    ("dtype", "reason"), [(np.float32, "32-bit floats"), (np.int32, "signed or 32-bit integers")]
)
def test_read_rgb_refuses_numbers_whose_black_and_white_are_unknown(dtype, reason):
    Image.fromarray(np.arange(256, dtype=dtype).reshape(16, 16)).save("a.tif")
    with pytest.raises(images.BrokenPhoto, match=f"^{reason} have no defined black and white"):
        images.read_rgb("a.tif")


def test_read_rgb_reads_a_png_with_more_metadata_than_pixels():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    COLOUR.save("a.png", pnginfo=text, icc_profile=bytes(2_000_000))
    np.testing.assert_array_equal(images.read_rgb("a.png"), COLOUR)


@pytest.mark.parametrize(
    ("colours", "bits", "expected"),
    [(GREYS, 16, False), (GREYS, 12, True), (GREYS * 0, 16, True), (GREYS * 0 + 250, 16, True)],
)
def test_photo_that_is_black_or_white_all_over_is_blank(colours, bits, expected):
    deep(colours, bits).save("a.png")
    assert images.is_blank(images.read_rgb("a.png")) == expected


def test_read_rgb_reads_bytes_like_the_file():
    Image.fromarray(two_colours()).save("a.png")
    data = Path("a.png").read_bytes()
    np.testing.assert_array_equal(images.read_rgb(data), images.read_rgb("a.png"))


@pytest.mark.parametrize("kind", FORMATS)
def test_read_rgb_ignores_a_wrong_suffix(kind):
    path = write("photo.jpg", encoded(kind))
    np.testing.assert_array_equal(images.read_rgb(encoded(kind)), images.read_photo(str(path)))


def test_read_rgb_returns_the_first_frame_of_an_animation():
    frames = [Image.fromarray(two_colours()), Image.new("RGB", (32, 24), "white")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert_two_colours(images.read_rgb("a.gif"), 12)


@pytest.mark.parametrize(
    ("tag", "kind"),
    [(0x010E, 11), (0x0100, 2), (0x011A, 7)],
    ids=["description is a float", "width is a text", "resolution is bytes"],
)
def test_read_rgb_turns_a_photo_with_another_invalid_exif_tag(tag, kind):
    turned = struct.pack("<HHI4s", EXIF_ORIENTATION, 3, 1, b"\6\0\0\0")
    invalid = struct.pack("<HHI4s", tag, kind, 1, b"\1\0\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + invalid + bytes(4)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(two_colours())))
    stored.save("a.jpg", exif=exif, quality=95)
    assert_two_colours(images.read_rgb("a.jpg"))


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0no TIFF header"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.webp", {"lossless": True}), ("a.jpg", {"dpi": (72, 72)})],
)
def test_read_rgb_does_not_turn_an_intact_photo_with_invalid_exif(name, options, exif):
    Image.fromarray(two_colours()).save(name, exif=exif, **options)
    photo = images.read_rgb(name).astype(int)
    assert np.abs(photo - two_colours()).mean() < 3


# Reduced decoding, and resizing


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def real_photo(request):
    """Return the path of one of scikit-learn's photos, 640 x 427 pixels."""
    return Path(sklearn.datasets.__file__).parent / "images" / request.param


def test_read_rgb_decodes_a_large_jpeg_at_a_reduced_size(real_photo):
    assert images.read_rgb(real_photo).shape == (427, 640, 3)
    assert images.read_rgb(real_photo, 100).shape == (107, 160, 3)
    assert images.read_rgb(real_photo, 107).shape == (214, 320, 3)
    assert images.read_rgb(real_photo, 500).shape == (427, 640, 3)


def test_read_resized_hardly_changes_a_pixel_by_reduced_decoding(real_photo, monkeypatch):
    # At the size of a screen, these small photos would be decoded in full.
    monkeypatch.setattr(images, "SCREEN_SIZE", 0)
    reduced = images.read_resized(real_photo, 50)
    full = images.resize(images.read_rgb(real_photo), 50)
    assert np.abs(reduced.astype(int) - full).mean() < 2  # of 255 levels
    assert np.any(reduced != full)


def test_read_rgb_refuses_a_jpeg_cut_short_also_at_a_reduced_size(real_photo):
    data = real_photo.read_bytes()
    with pytest.raises(images.BrokenPhoto):
        images.read_rgb(data[: len(data) // 2], 100)


@pytest.fixture
def large(monkeypatch):
    """Let every photo of more than 500 pixels count as large, and be converted in short strips."""
    monkeypatch.setattr(images, "LARGE_PHOTO", 500)
    monkeypatch.setattr(images, "STRIP_ROWS", 2)


@pytest.mark.parametrize("name", ["a.png", "clear colour.png", "16 bits, white is zero.tif"])
def test_large_photo_is_read_in_strips_like_any_other(large, name):
    colours = save(name)
    small = images.read_rgb(name, 8)
    assert small.shape == (8, 11, 3)
    np.testing.assert_allclose(small[[1, 1, 6, 6], [1, 9, 1, 9]].astype(int), colours, atol=2)
    np.testing.assert_array_equal(centres(images.read_rgb(name)), colours)


def test_large_photo_is_turned_upright_after_it_was_shrunk(large):
    save("turned.png")
    assert images.read_rgb("turned.png", 12).shape == (12, 16, 3)
    np.testing.assert_array_equal(centres(images.read_rgb("turned.png")), COLOURS)


def test_large_photos_are_decoded_one_at_a_time(large, monkeypatch):
    save("a.png")
    decoding, most = [], []

    def slow(*_):
        decoding.append(1)
        most.append(len(decoding))
        time.sleep(0.01)
        decoding.pop()

    monkeypatch.setattr(images, "to_array", slow)
    list(images.read_ahead(images.read_rgb, ["a.png"] * 8, 8))
    assert most == [1] * 8


def test_photo_that_does_not_fit_into_the_memory_is_refused(monkeypatch):
    def fill_memory(*_):
        raise MemoryError

    save("a.png")
    monkeypatch.setattr(images, "to_array", fill_memory)
    with pytest.raises(images.BrokenPhoto, match="does not fit into the free memory"):
        images.read_rgb("a.png")


MEASURE_MEMORY = """
import resource, sys
from PIL import Image
from pyimagesearch import images
Image.new("RGB", (12_500, 8_000)).save("large.png", compress_level=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
list(images.read_ahead(lambda name: images.read_rgb(name, 448), ["large.png"] * 4, 4))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, ru_maxrss is not in kilobytes")
def test_four_photos_of_100_million_pixels_take_the_memory_of_one():
    command = [sys.executable, "-c", MEASURE_MEMORY]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert int(run.stdout) * 1000 < 200e6  # the first photo was made in the same memory


def test_resize_averages_areas_when_it_shrinks():
    chequered = np.indices((200, 200)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    small = images.resize(chequered.astype(np.uint8), 50)
    assert small.shape == (50, 50, 3)
    np.testing.assert_allclose(small, 127.5, atol=1)


@pytest.mark.parametrize("upright", [False, True])
def test_resize_averages_areas_when_only_one_side_shrinks(upright):
    striped = np.zeros((20, 400, 3), np.uint8)
    striped[:, ::10] = 255
    striped = striped.transpose(1, 0, 2) if upright else striped
    small = images.resize(np.ascontiguousarray(striped), 40)
    assert small.shape == (40, 40, 3)
    np.testing.assert_allclose(small, 25.5, atol=1)


@pytest.mark.parametrize(("width", "height"), [(32, 24), (500, 20)])
def test_resize_stretches_a_photo_to_a_square_or_to_a_height_and_a_width(width, height):
    assert images.resize(two_colours(width, height), 64).shape == (64, 64, 3)
    assert images.resize(two_colours(width, height), (48, 96)).shape == (48, 96, 3)


def test_resize_to_a_height_and_a_width_averages_areas_as_for_a_square():
    striped = np.zeros((20, 800, 3), np.uint8)
    striped[:, ::10] = 255
    np.testing.assert_allclose(images.resize(striped, (40, 80)), 25.5, atol=1)
    assert images.decode_size((48, 300)) == 600


@pytest.mark.parametrize(
    ("size", "expected"), [((2000, 1000), (448, 224)), ((3, 4000), (1, 448)), ((40, 30), (40, 30))]
)
def test_read_thumbnail_shrinks_to_the_size_of_a_screen_and_never_enlarges(size, expected):
    make_photo(Path("photo.png"), 0, 0, size)
    assert images.read_thumbnail("photo.png").shape == (expected[1], expected[0], 3)


# Broken files


def picture():
    """Return a Pillow image with some content: a disc on a gradient, and noise."""
    y, x = np.mgrid[:120, :160]
    disc = ((x - 80) ** 2 + (y - 60) ** 2 < 1600)[..., None]
    pixels = np.where(disc, (200, 60, 40), np.stack([x, y, x + y], axis=-1) % 256)
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def encoded(kind):
    """Return the bytes of picture() in a format."""
    data = io.BytesIO()
    pillow_heif.register_heif_opener()
    picture().save(data, FORMATS.get(kind, kind))
    return data.getvalue()


def png(width, height, rows=b""):
    """Return a PNG with a size in its header that its pixel rows need not have."""

    def chunk(name, body):
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def broken_files():
    """Return {name: bytes} of files that cannot be shown completely."""
    broken = {
        "empty.jpg": b"",
        "text.png": b"no picture at all",
        "zeros.jpg": bytes(5000),
        "claims_900_million_pixels.png": png(30_000, 30_000, bytes(1000)),
        "claims_20000.png": png(20_000, 20_000),
        "claims_2_billion.png": png(2**31 - 1, 2**31 - 1),
        "no_width.png": png(0, 100),
        # 300 million pixels, with data for ten rows.
        "bomb.png": png(30_000, 10_000, bytes(90_001 * 10)),
    }
    for kind in FORMATS:
        data = encoded(kind)
        for tenths in range(1, 10):
            broken[f"cut_at_{tenths}_tenths.{kind}"] = data[: len(data) * tenths // 10]
        if kind in ("jpg", "png"):
            broken[f"cut_at_95_percent.{kind}"] = data[: len(data) * 95 // 100]
    return broken


BROKEN = broken_files()


@pytest.mark.parametrize("name", BROKEN)
def test_read_rgb_refuses_a_broken_file_with_a_reason_of_one_line(name):
    with pytest.raises(images.BrokenPhoto) as refused:
        images.read_rgb(BROKEN[name])
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "the file is empty"),
        ("text.png", "not a picture"),
        ("claims_900_million_pixels.png", "more than 250,000,000 pixels"),
        ("cut_at_5_tenths.jpg", "damaged: .*truncated"),
    ],
)
def test_read_rgb_says_why_a_file_is_refused(name, reason):
    with pytest.raises(images.BrokenPhoto, match=reason):
        images.read_rgb(BROKEN[name])


@pytest.mark.parametrize("name", BROKEN)
def test_read_batches_names_a_broken_photo_of_the_dataset(name):
    path = write(Path("dataset", "tiny", "training", name), BROKEN[name])
    with pytest.raises(UserError, match=re.escape(str(path))):
        list(images.read_batches([path], 32, 4))


@pytest.mark.parametrize("kind", [*FORMATS, "AVIF"])
def test_read_rgb_returns_a_photo_or_a_reason_for_damaged_bytes(kind):
    # Many .jpg files from the web are AVIF inside.
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot read AVIF")
    data = np.frombuffer(encoded(kind), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = data.copy()
        positions = rng.integers(0, len(data), rng.integers(1, 22))
        damaged[positions] = rng.integers(0, 256, len(positions))
        with contextlib.suppress(images.BrokenPhoto):
            photo = images.read_rgb(damaged.tobytes())
            assert photo.dtype == np.uint8
            assert photo.ndim == 3
            assert photo.shape[2] == 3


def test_read_rgb_reads_a_png_with_half_of_its_rows():
    assert images.read_rgb(png(100, 100, bytes(301 * 50))).shape == (100, 100, 3)


def test_read_rgb_raises_file_not_found_for_a_missing_file():
    with pytest.raises(FileNotFoundError):
        images.read_rgb("a.jpg")


def test_read_rgb_never_runs_ghostscript(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    ghostscript = write(tmp_path / "gs", f"#!/bin/sh\ntouch {ran}\nexit 1\n".encode())
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(images.BrokenPhoto):
        images.read_rgb(write("photo.jpg", encoded("EPS")))
    assert not ran.exists()


def test_read_resized_names_a_photo_that_was_damaged_or_deleted_after_the_build():
    path = write("a.jpg", b"gone")
    refused = pytest.raises(UserError, match=r"a\.jpg cannot be read.*put it back or delete it")
    with refused:
        images.read_resized(path, 32)
    with refused:
        list(images.read_batches([path], 32, 4))
    path.unlink()
    with refused:
        images.read_resized(path, 32)


def test_scripts_skip_and_report_broken_files(trained, tiny, script):
    trained()
    for name, data in BROKEN.items():
        write(Path("broken", name), data)
    intact = write(Path("broken", "good.jpg"), encoded("jpg"))
    status, out, messages = script("predict", "--image", "broken")
    assert status == 1
    assert [line.split("  ")[0] for line in out.splitlines()] == [str(intact)]
    errors = [line for line in messages.splitlines() if line.startswith("[ERROR]")]
    assert len(errors) == len(BROKEN)
    assert "Traceback" not in messages

    for name, data in BROKEN.items():
        write(Path("Tiny", "training", f"0_{name}"), data)
    for split in ("training", "validation", "evaluation"):
        for label in range(3):
            # With a byte after the picture: the same file in two classes would be left out.
            write(Path("Tiny", split, f"{label}_good.jpg"), encoded("jpg") + bytes([label]))
    for path in Path("dataset").rglob("*.jpg"):
        path.unlink()
    status, _, messages = script("build_dataset")
    assert status == 0, messages
    dataset = config.DATASET_DIR / "tiny"
    names = {path.name for path in dataset.rglob("*") if path.is_file()}
    assert not names & {f"0_{name}" for name in BROKEN}
    assert (dataset / "rejected.csv").read_text().count("\n") == len(BROKEN) + 1


# Augmentation


def smooth_photo(size=64):
    """Return a smooth photo that looks different after every turn and flip."""
    y, x = np.mgrid[0:size, 0:size] / size
    planes = (x * 200 + 20, y * 150 + x * 50, 120 + 100 * np.sin(3 * x + 1) * np.cos(2 * y))
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def changed(photo, angle=0.0, shift=(0, 0), shear=0.0, zoom=(1, 1)):
    """Return a photo after these changes."""
    matrix = images.transform_matrix(angle, shift, shear, zoom, len(photo))
    return images.apply_transform(photo, matrix)


def assert_similar(photo, expected, tolerance=3):
    difference = np.abs(photo.astype(int) - expected.astype(int))
    assert difference.mean() < tolerance / 3
    assert np.quantile(difference, 0.99) <= tolerance


def sampled(photo, y, x):
    """Return a photo's colours at points counted from its centre; outside, of the nearest edge."""
    middle = (len(photo) - 1) / 2
    planes = [
        ndimage.map_coordinates(plane, (y + middle, x + middle), order=1, mode="nearest")
        for plane in np.moveaxis(photo.astype(float), -1, 0)
    ]
    return np.stack(planes, axis=-1)


def test_rotation_by_a_quarter_turn_equals_numpy_rot90():
    photo = smooth_photo()
    assert_similar(changed(photo, angle=np.pi / 2), np.rot90(photo), 1)
    assert np.abs(changed(photo, angle=np.pi / 2).astype(int) - np.rot90(photo, -1)).mean() > 20


def test_rotation_turns_a_photo_around_its_centre():
    photo = smooth_photo()
    turned = ndimage.rotate(photo, 30, axes=(0, 1), reshape=False, order=1, mode="nearest")
    assert_similar(changed(photo, angle=np.radians(30)), turned)


def test_shift_moves_a_photo_by_pixels_and_repeats_its_edge():
    photo = smooth_photo()
    moved = changed(photo, shift=(5, 0))
    np.testing.assert_array_equal(moved[:, :-5], photo[:, 5:])
    np.testing.assert_array_equal(moved[:, -5:], np.repeat(photo[:, -1:], 5, axis=1))
    moved = changed(photo, shift=(0, -3))
    np.testing.assert_array_equal(moved[3:], photo[:-3])
    np.testing.assert_array_equal(moved[:3], np.repeat(photo[:1], 3, axis=0))


@pytest.mark.parametrize("zoom", [(0.5, 1), (1, 0.5), (1.5, 1.2)])
def test_zoom_scales_each_axis_around_the_centre(zoom):
    photo = smooth_photo()
    y, x = np.mgrid[:64, :64] - 31.5
    assert_similar(changed(photo, zoom=zoom), sampled(photo, y * zoom[1], x * zoom[0]))


@pytest.mark.parametrize("degrees", [20, -20])
def test_shear_slants_the_columns(degrees):
    photo = smooth_photo()
    y, x = np.mgrid[:64, :64] - 31.5
    shear = np.radians(degrees)
    expected = sampled(photo, y * np.cos(shear), x - y * np.sin(shear))
    assert_similar(changed(photo, shear=shear), expected)


def test_negative_zoom_mirrors_a_photo_exactly():
    photo = smooth_photo()
    np.testing.assert_array_equal(changed(photo, zoom=(-1, 1)), photo[:, ::-1])
    np.testing.assert_array_equal(changed(photo, zoom=(1, -1)), photo[::-1])


@pytest.mark.parametrize(
    ("angle", "shift", "shear", "zoom"),
    [
        (0, (0, 0), 15, (1, 1)),
        (30, (0, 0), 0, (1, 1)),
        (0, (7, -4), 0, (1, 1)),
        (0, (0, 0), 0, (0.85, 1.15)),
        (-25, (6, 9), 10, (1.1, 0.9)),
    ],
)
def test_all_changes_together_equal_keras_image_data_generator(angle, shift, shear, zoom):
    from keras.src.legacy.preprocessing.image import apply_affine_transform

    photo = smooth_photo()
    expected = apply_affine_transform(
        photo.astype(float),
        theta=angle,
        tx=shift[0],
        ty=shift[1],
        shear=shear,
        zx=zoom[0],
        zy=zoom[1],
        row_axis=0,
        col_axis=1,
        channel_axis=2,
        fill_mode="nearest",
        order=1,
    )
    assert_similar(changed(photo, np.radians(angle), shift, np.radians(shear), zoom), expected)


def test_apply_transform_equals_scipy_affine_transform():
    photo = smooth_photo()
    matrix = images.transform_matrix(-0.4, (6, 9), 0.2, (1.1, 0.9), 64)
    y, x = np.mgrid[:64, :64]
    x_in_photo, y_in_photo = np.tensordot(matrix, [x, y, np.ones_like(x)], axes=1)
    expected = sampled(photo, y_in_photo - 31.5, x_in_photo - 31.5)
    assert_similar(images.apply_transform(photo, matrix), expected)


def test_photo_that_is_wider_than_high_is_turned_around_its_centre():
    photo = smooth_photo()[:32]
    matrix = images.transform_matrix(np.pi, (0, 0), 0, (1, 1), photo.shape[:2])
    assert_similar(images.apply_transform(photo, matrix), photo[::-1, ::-1])


def test_shifts_are_fractions_of_the_height_and_the_width():
    shifting = Augmentation(width_shift=0.5, height_shift=0.5)
    rng = np.random.default_rng(0)
    matrices = [images.random_transform(shifting, (100, 300), rng) for _ in range(500)]
    right, down = np.abs(np.array(matrices)[:, :, 2]).max(axis=0)
    assert (right, down) == (pytest.approx(150, rel=0.02), pytest.approx(50, rel=0.02))


def test_random_transform_is_the_identity_without_augmentation():
    matrix = images.random_transform(Augmentation(), 64, np.random.default_rng(0))
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    photo = smooth_photo()
    np.testing.assert_array_equal(images.apply_transform(photo, matrix), photo)


def drawn(**ranges):
    """Return 2,000 draws of one kind of augmentation, (2000, 2, 3)."""
    rng = np.random.default_rng(0)
    augmentation = Augmentation(**ranges)
    return np.array([images.random_transform(augmentation, 100, rng) for _ in range(2000)])


def assert_reaches(values, end):
    """Check that values come close to both ends of a range around 0 and never leave it."""
    assert 0.98 * end < values.max() <= end + 1e-9
    assert -end - 1e-9 <= values.min() < -0.98 * end


def test_random_transform_draws_from_the_whole_range_of_each_setting():
    turned = drawn(rotation_degrees=30)
    assert_reaches(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), 30)
    moved = drawn(width_shift=0.2, height_shift=0.1)
    assert_reaches(moved[:, 0, 2], 20)
    assert_reaches(moved[:, 1, 2], 10)
    slanted = drawn(shear_degrees=0.15)
    assert_reaches(np.degrees(np.arcsin(-slanted[:, 0, 1])), 0.15)


def test_random_transform_draws_the_zoom_of_each_axis_on_its_own():
    factors = drawn(zoom=(0.9, 1.5))[:, [0, 1], [0, 1]]
    assert 0.9 <= factors.min() < 0.92
    assert 1.48 < factors.max() <= 1.5
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.1


def test_random_transform_flips_half_of_the_photos_and_only_as_the_settings_allow():
    def flipped(**flips):
        matrices = drawn(zoom=(0.9, 1.5), **flips)
        return matrices[:, 0, 0] < 0, matrices[:, 1, 1] < 0

    horizontally, vertically = flipped(horizontal_flip=True)
    assert 0.4 < horizontally.mean() < 0.6
    assert not vertically.any()
    horizontally, vertically = flipped(vertical_flip=True)
    assert not horizontally.any()
    assert 0.4 < vertically.mean() < 0.6
    horizontally, vertically = flipped(horizontal_flip=True, vertical_flip=True)
    assert 0.15 < (horizontally & vertically).mean() < 0.35
    assert 0.15 < (~horizontally & ~vertically).mean() < 0.35


def test_random_transform_draws_the_same_from_the_same_seed():
    augmentation = tiny_recipe().augmentation
    first, again, other = (
        images.random_transform(augmentation, 64, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


# Batches


@pytest.fixture
def ten_paths(tmp_path):
    """Write ten different photos of 32 x 32 pixels; return their paths in order."""
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        make_photo(path, 0, number, size=(32, 32))
    return paths


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 11])
@pytest.mark.parametrize("count", [1, 10])
def test_read_batches_yields_every_photo_once_in_order(ten_paths, batch_size, count):
    paths = ten_paths[:count]
    batches = list(images.read_batches(paths, 32, batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_read_batches_gives_augment_each_photo_with_its_position(ten_paths):
    batches = images.read_batches(ten_paths, 32, 3, lambda position, photo: photo // 16 + position)
    plain = np.concatenate(list(images.read_batches(ten_paths, 32, 3)))
    positions = np.arange(10).reshape(10, 1, 1, 1)
    np.testing.assert_array_equal(np.concatenate(list(batches)), plain // 16 + positions)


def test_read_batches_augments_the_same_in_batches_of_any_size(ten_paths):
    def augmented(seed, batch_size):
        def augment(position, photo):
            rng = np.random.default_rng((seed, position))
            matrix = images.random_transform(tiny_recipe().augmentation, 32, rng)
            return images.apply_transform(photo, matrix)

        return np.concatenate(list(images.read_batches(ten_paths, 32, batch_size, augment)))

    first = augmented(1, 4)
    np.testing.assert_array_equal(augmented(1, 4), first)
    np.testing.assert_array_equal(augmented(1, 7), first)
    assert (augmented(2, 4) != first).any(axis=(1, 2, 3)).all()
    plain = np.concatenate(list(images.read_batches(ten_paths, 32, 4)))
    assert (plain != first).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_readers_are_two_per_core_and_their_number_changes_no_pixel(monkeypatch, ten_paths, cores):
    def batches():
        augment = images.augmenter(Augmentation(rotation_degrees=20), 32, (1, 2))
        return list(images.read_batches(ten_paths, 32, 4, augment))

    expected = batches()
    readers, read_resized = set(), images.read_resized
    all_read = threading.Barrier(2 * cores, timeout=30)

    def read(path, size):
        if path in ten_paths[: 2 * cores]:
            all_read.wait()  # until there are as many readers as this
        readers.add(threading.get_ident())
        return read_resized(path, size)

    monkeypatch.setattr(images, "read_resized", read)
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    for found, batch in zip(batches(), expected, strict=True):
        np.testing.assert_array_equal(found, batch)
    assert len(readers) == 2 * cores


def test_read_ahead_does_not_start_what_nobody_waits_for():
    started = []

    def slow(number):
        started.append(number)
        time.sleep(0.02)
        return number

    results = images.read_ahead(slow, range(1000), 500)
    assert next(results) == 0
    results.close()
    assert len(started) < 300
