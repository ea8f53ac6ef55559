"""Every way from a file to pixels: reading, resizing, augmenting, batches, and broken files."""

import contextlib
import io
import re
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import sklearn.datasets
from conftest import make_photo, tiny_recipe
from PIL import Image, features
from scipy import ndimage

from pyimagesearch import config, images
from pyimagesearch.recipe import Augmentation
from pyimagesearch.support.errors import UserError

pytestmark = pytest.mark.usefixtures("untraced")

LEFT, RIGHT = (200, 30, 40), (20, 60, 180)
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
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


# Formats and colours


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_read_rgb_reads_every_common_format(name):
    Image.fromarray(two_colours()).save(name)
    assert_two_colours(images.read_rgb(name), 12)


def test_read_rgb_reads_bytes_like_the_file():
    Image.fromarray(two_colours()).save("a.png")
    data = Path("a.png").read_bytes()
    np.testing.assert_array_equal(images.read_rgb(data), images.read_rgb("a.png"))


@pytest.mark.parametrize("kind", FORMATS)
def test_read_rgb_ignores_a_wrong_suffix(kind):
    path = write("photo.jpg", encoded(kind))
    np.testing.assert_array_equal(images.read_rgb(encoded(kind)), images.read_photo(str(path)))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_read_rgb_converts_the_colour_modes_of_jpegs(mode):
    Image.fromarray(two_colours()).convert(mode).save("a.jpg", quality=95)
    assert_two_colours(images.read_rgb("a.jpg"))


def test_read_rgb_converts_a_palette_to_its_colours():
    Image.fromarray(two_colours()).quantize(2).save("a.png")
    assert Image.open("a.png").mode == "P"
    assert_two_colours(images.read_rgb("a.png"), 1)


@pytest.mark.parametrize(("mode", "left"), [("L", 90), ("1", 0)])
def test_read_rgb_repeats_grey_in_three_channels(mode, left):
    grey = Image.new("L", (32, 24), 255)
    grey.paste(left, (0, 0, 16, 24))
    grey.convert(mode).save("a.png")
    assert Image.open("a.png").mode == mode
    photo = images.read_rgb("a.png")
    assert photo.shape == (24, 32, 3)
    np.testing.assert_array_equal(photo[12, 5], [left] * 3)
    np.testing.assert_array_equal(photo[12, 27], [255] * 3)


def test_read_rgb_keeps_the_brightness_of_16_bit_photos():
    grey = np.full((24, 32), 65535, np.uint16)
    grey[:, :16] = 100 * 257
    Image.fromarray(grey).save("grey.png")
    photo = images.read_rgb("grey.png")
    np.testing.assert_array_equal(photo[12, 5], [100, 100, 100])
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])
    cv2.imwrite("rgb.png", two_colours()[..., ::-1].astype(np.uint16) * 257)
    assert_two_colours(images.read_rgb("rgb.png"))


def test_read_rgb_refuses_floats_because_their_range_is_unknown():
    Image.fromarray(np.zeros((4, 4), np.float32)).save("a.tif")
    with pytest.raises(images.BrokenPhoto, match="32-bit floats"):
        images.read_rgb("a.tif")


def test_read_rgb_returns_the_first_frame_of_an_animation():
    frames = [Image.fromarray(two_colours()), Image.new("RGB", (32, 24), "white")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert_two_colours(images.read_rgb("a.gif"), 12)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp"])
def test_read_rgb_shows_white_where_a_photo_is_transparent(name):
    rgba = np.dstack([two_colours(), np.full((24, 32), 255, np.uint8)])
    rgba[:, 16:, 3] = 0
    Image.fromarray(rgba).save(name)
    photo = images.read_rgb(name)
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=12)
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])


def test_read_rgb_mixes_half_transparent_pixels_with_white():
    grey = np.dstack([np.zeros((4, 4), np.uint8), np.full((4, 4), 128, np.uint8)])
    Image.fromarray(grey, "LA").save("a.png")
    np.testing.assert_allclose(images.read_rgb("a.png"), 127, atol=1)


def test_read_rgb_shows_white_for_the_transparent_colour_of_a_palette():
    palette = Image.fromarray(two_colours()).quantize(2)
    palette.save("a.png", transparency=palette.getpixel((27, 12)))
    photo = images.read_rgb("a.png")
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=1)
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_rgb_turns_a_photo_upright(orientation):
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation](two_colours())
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save("turned.jpg", exif=exif, quality=95)
    assert_two_colours(images.read_rgb("turned.jpg"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_read_rgb_turns_every_format_with_an_orientation_once(name):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(two_colours())))
    stored.save(name, exif=exif, quality=95)
    assert_two_colours(images.read_rgb(name), 12)


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
            write(Path("Tiny", split, f"{label}_good.jpg"), encoded("jpg"))
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
