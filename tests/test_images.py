import contextlib
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import sklearn.datasets
from conftest import CLASSES, make_flat_download, make_photo, tiny_recipe
from PIL import Image, features
from scipy import ndimage

from pyimagesearch import config, images, views
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Augmentation

LEFT, RIGHT = (200, 30, 40), (20, 60, 180)


def two_colours(width=32, height=24):
    """Return a picture whose left half has one colour and whose right half another."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = LEFT, RIGHT
    return pixels


def smooth_photo(size=64):
    """Return a smooth made photo, unlike itself under every turn and flip."""
    y, x = np.mgrid[0:size, 0:size] / size
    planes = (x * 200 + 20, y * 150 + x * 50, 120 + 100 * np.sin(3 * x + 1) * np.cos(2 * y))
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def assert_alike(seen, expected, tolerance=3):
    difference = np.abs(seen.astype(int) - expected.astype(int))
    assert difference.mean() < tolerance / 3
    assert np.quantile(difference, 0.99) <= tolerance


def assert_two_colours(photo, tolerance=6):
    assert photo.dtype == np.uint8
    assert photo.shape == (24, 32, 3)
    assert photo.flags.c_contiguous
    assert cv2.resize(photo, (8, 8)).shape == (8, 8, 3)
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=tolerance)
    np.testing.assert_allclose(photo[12, 27].astype(int), RIGHT, atol=tolerance)


def by_scipy(photo, matrix):
    """Return what a (2, 3) matrix from (x, y) of the result to (x, y) of the photo makes."""
    swap = np.array([[0, 1], [1, 0]])
    linear, offset = swap @ matrix[:, :2] @ swap, swap @ matrix[:, 2]
    planes = [
        ndimage.affine_transform(
            photo[..., c].astype(float), linear, offset, order=1, mode="nearest"
        )
        for c in range(3)
    ]
    return np.stack(planes, axis=-1)


def changed(photo, angle=0.0, shift=(0, 0), shear=0.0, zoom=(1, 1)):
    return images.warp(photo, images.compose(angle, shift, shear, zoom, len(photo)))


def test_a_quarter_turn_is_numpys():
    photo = smooth_photo()
    assert_alike(changed(photo, angle=np.pi / 2), np.rot90(photo), 1)
    assert np.abs(changed(photo, angle=np.pi / 2).astype(int) - np.rot90(photo, -1)).mean() > 20


def test_rotation_alone_turns_about_the_centre():
    photo = smooth_photo()
    turned = ndimage.rotate(photo, 30, axes=(0, 1), reshape=False, order=1, mode="nearest")
    assert_alike(changed(photo, angle=np.radians(30)), turned)


def test_shift_alone_moves_by_whole_pixels_and_repeats_the_edge():
    photo = smooth_photo()
    moved = changed(photo, shift=(5, 0))
    np.testing.assert_array_equal(moved[:, :-5], photo[:, 5:])
    np.testing.assert_array_equal(moved[:, -5:], np.repeat(photo[:, -1:], 5, axis=1))
    moved = changed(photo, shift=(0, -3))
    np.testing.assert_array_equal(moved[3:], photo[:-3])
    np.testing.assert_array_equal(moved[:3], np.repeat(photo[:1], 3, axis=0))


def sampled(photo, y, x):
    """Return the photo's colours at places counted from its centre, the nearest edge outside."""
    middle = (len(photo) - 1) / 2
    planes = [
        ndimage.map_coordinates(plane, (y + middle, x + middle), order=1, mode="nearest")
        for plane in np.moveaxis(photo.astype(float), -1, 0)
    ]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("zoom", [(0.5, 1), (1, 0.5), (1.5, 1.2)])
def test_zoom_alone_scales_each_axis_about_the_centre(zoom):
    photo = smooth_photo()
    y, x = np.mgrid[:64, :64] - 31.5
    assert_alike(changed(photo, zoom=zoom), sampled(photo, y * zoom[1], x * zoom[0]))


@pytest.mark.parametrize("degrees", [20, -20])
def test_shear_alone_leans_the_columns(degrees):
    photo = smooth_photo()
    y, x = np.mgrid[:64, :64] - 31.5
    shear = np.radians(degrees)
    expected = sampled(photo, y * np.cos(shear), x - y * np.sin(shear))
    assert_alike(changed(photo, shear=shear), expected)


def test_flips_alone_are_exact_mirrors():
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
def test_all_at_once_is_what_keras_image_data_generator_did(angle, shift, shear, zoom):
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
    matrix = images.compose(np.radians(angle), shift, np.radians(shear), zoom, 64)
    assert_alike(images.warp(photo, matrix), by_scipy(photo, matrix))
    assert_alike(images.warp(photo, matrix), expected)


def test_no_augmentation_draws_the_identity():
    matrix = images.draw(Augmentation(), 64, np.random.default_rng(0))
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    photo = smooth_photo()
    np.testing.assert_array_equal(images.warp(photo, matrix), photo)


def test_draws_stay_within_their_ranges_and_reach_their_ends(monkeypatch):
    drawn = []
    monkeypatch.setattr(images, "compose", lambda *values: drawn.append(values))
    augmentation = Augmentation(
        rotation_degrees=30,
        width_shift=0.2,
        height_shift=0.1,
        shear_degrees=0.15,
        zoom=(0.9, 1.5),
        horizontal_flip=True,
    )
    rng = np.random.default_rng(0)
    for _ in range(2000):
        images.draw(augmentation, 100, rng)
    angles, shifts, shears, zooms, _ = map(np.array, zip(*drawn, strict=True))
    for values, end in (
        (np.degrees(angles), 30),
        (shifts[:, 0], 20),
        (shifts[:, 1], 10),
        (np.degrees(shears), 0.15),
    ):
        assert 0.98 * end < values.max() <= end
        assert -end <= values.min() < -0.98 * end
    assert (zooms[:, 1] > 0).all()
    assert 0.4 < (zooms[:, 0] < 0).mean() < 0.6
    sizes = np.abs(zooms)
    assert 0.9 <= sizes.min() < 0.92
    assert 1.48 < sizes.max() <= 1.5
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 0.1


def test_same_seed_draws_the_same_change():
    augmentation = tiny_recipe().augmentation
    first, again, other = (
        images.draw(augmentation, 64, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def mirrored(augmentation):
    """Return, for 200 draws, whether each is mirrored along x and along y."""
    rng = np.random.default_rng(0)
    drawn = np.array([images.draw(augmentation, 64, rng) for _ in range(200)])
    return drawn[:, 0, 0] < 0, drawn[:, 1, 1] < 0


def test_flips_are_drawn_half_the_time_and_only_where_asked_for():
    sideways, over = mirrored(Augmentation(vertical_flip=True))
    assert not sideways.any()
    assert 0.4 < over.mean() < 0.6
    sideways, over = mirrored(Augmentation(horizontal_flip=True, vertical_flip=True))
    assert 0.15 < (sideways & over).mean() < 0.35
    assert 0.15 < (~sideways & ~over).mean() < 0.35


@pytest.fixture
def ten_paths(tmp_path):
    """Write ten different photos of 32 x 32 pixels; return their paths in order."""
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        make_photo(path, 0, number, size=(32, 32))
    return paths


def test_augmented_batches_are_the_same_again_from_their_seed(ten_paths):
    def augmented(seed, batch_size):
        augment = views.augmenter(tiny_recipe(), (seed,), len(ten_paths))
        return np.concatenate(list(images.batches(ten_paths, 32, batch_size, augment)))

    first = augmented(1, 4)
    np.testing.assert_array_equal(augmented(1, 4), first)
    # Neither the threads nor the size of a batch has a say in it.
    np.testing.assert_array_equal(augmented(1, 7), first)
    assert (augmented(2, 4) != first).any(axis=(1, 2, 3)).all()
    plain = np.concatenate(list(images.batches(ten_paths, 32, 4)))
    assert (plain != first).any(axis=(1, 2, 3)).all()


def test_one_photo_is_changed_otherwise_at_another_position():
    augment = views.augmenter(tiny_recipe(), (1,), 10)
    photo = smooth_photo(32)
    versions = [augment(position, photo).tobytes() for position in (0, 1, 10, 0)]
    assert len(set(versions)) == 3
    assert versions[0] == versions[3]


def test_augment_is_given_each_photo_with_its_own_position(ten_paths):
    seen = images.batches(ten_paths, 32, 3, lambda position, photo: photo // 16 + position)
    plain = np.concatenate(list(images.batches(ten_paths, 32, 3)))
    positions = np.arange(10).reshape(10, 1, 1, 1)
    np.testing.assert_array_equal(np.concatenate(list(seen)), plain // 16 + positions)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_every_format_that_tells_its_turn_is_turned_once(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(two_colours())))
    lying.save(tmp_path / name, exif=exif, quality=95)
    assert_two_colours(images.read_rgb(tmp_path / name), 12)


@pytest.mark.parametrize(("tag", "kind"), [(0x010E, 11), (0x0100, 2), (0x011A, 7)])
def test_a_turned_photo_with_an_odd_tag_beside_comes_in_upright(tmp_path, tag, kind):
    """A description that is a float, a width that is a text, a resolution that is bytes."""
    turn = struct.pack("<HHI4s", 0x0112, 3, 1, b"\6\0\0\0")
    odd = struct.pack("<HHI4s", tag, kind, 1, b"\1\0\0\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turn + odd + bytes(4)
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(two_colours())))
    lying.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert_two_colours(images.read_rgb(tmp_path / "a.jpg"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_comes_in_upright(tmp_path, orientation):
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
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    assert_two_colours(images.read_rgb(path))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_every_usual_format_comes_in_as_rgb(tmp_path, name):
    Image.fromarray(two_colours()).save(tmp_path / name)
    assert_two_colours(images.read_rgb(tmp_path / name), 12)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp"])
def test_what_is_transparent_stands_on_white(tmp_path, name):
    rgba = np.dstack([two_colours(), np.full((24, 32), 255, np.uint8)])
    rgba[:, 16:, 3] = 0
    Image.fromarray(rgba).save(tmp_path / name)
    photo = images.read_rgb(tmp_path / name)
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=12)
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])


def test_half_transparent_mixes_with_white(tmp_path):
    grey = np.dstack([np.zeros((4, 4), np.uint8), np.full((4, 4), 128, np.uint8)])
    Image.fromarray(grey, "LA").save(tmp_path / "a.png")
    np.testing.assert_allclose(images.read_rgb(tmp_path / "a.png"), 127, atol=1)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_the_colour_modes_of_jpegs_come_in_as_rgb(tmp_path, mode):
    Image.fromarray(two_colours()).convert(mode).save(tmp_path / "a.jpg", quality=95)
    assert_two_colours(images.read_rgb(tmp_path / "a.jpg"))


def test_a_palette_comes_in_as_its_colours(tmp_path):
    Image.fromarray(two_colours()).quantize(2).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert_two_colours(images.read_rgb(tmp_path / "a.png"), 1)


def test_a_transparent_colour_of_a_palette_stands_on_white(tmp_path):
    palette = Image.fromarray(two_colours()).quantize(2)
    palette.save(tmp_path / "a.png", transparency=palette.getpixel((27, 12)))
    photo = images.read_rgb(tmp_path / "a.png")
    np.testing.assert_allclose(photo[12, 5].astype(int), LEFT, atol=1)
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])


@pytest.mark.parametrize(("mode", "left"), [("L", 90), ("1", 0)])
def test_grey_and_black_and_white_come_in_as_three_equal_channels(tmp_path, mode, left):
    grey = Image.new("L", (32, 24), 255)
    grey.paste(left, (0, 0, 16, 24))
    grey.convert(mode).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == mode
    photo = images.read_rgb(tmp_path / "a.png")
    assert photo.shape == (24, 32, 3)
    np.testing.assert_array_equal(photo[12, 5], [left] * 3)
    np.testing.assert_array_equal(photo[12, 27], [255] * 3)


def test_sixteen_bits_keep_their_brightness(tmp_path):
    grey = np.full((24, 32), 65535, np.uint16)
    grey[:, :16] = 100 * 257
    Image.fromarray(grey).save(tmp_path / "grey.png")
    photo = images.read_rgb(tmp_path / "grey.png")
    np.testing.assert_array_equal(photo[12, 5], [100, 100, 100])
    np.testing.assert_array_equal(photo[12, 27], [255, 255, 255])
    cv2.imwrite(str(tmp_path / "rgb.png"), two_colours()[..., ::-1].astype(np.uint16) * 257)
    assert_two_colours(images.read_rgb(tmp_path / "rgb.png"))


def test_an_animation_comes_in_as_its_first_frame(tmp_path):
    frames = [Image.fromarray(two_colours()), Image.new("RGB", (32, 24), "white")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert_two_colours(images.read_rgb(tmp_path / "a.gif"), 12)


def test_floats_without_a_scale_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(images.BrokenPhoto, match="32-bit floats"):
        images.read_rgb(tmp_path / "a.tif")


def saved(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_picture_cut_short_is_refused(tmp_path, name, share):
    data = saved(tmp_path, name)
    with pytest.raises(images.BrokenPhoto) as refused:
        images.read_rgb(data[: int(len(data) * share)])
    assert len(str(refused.value).splitlines()) == 1


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def real_photo(request):
    """Return a path of one of scikit-learn's photos, 640 x 427 pixels."""
    return Path(sklearn.datasets.__file__).parent / "images" / request.param


def test_a_large_jpeg_is_decoded_no_larger_than_needed(real_photo):
    assert images.read_rgb(real_photo).shape == (427, 640, 3)
    assert images.read_rgb(real_photo, 100).shape == (107, 160, 3)
    assert images.read_rgb(real_photo, 107).shape == (214, 320, 3)
    assert images.read_rgb(real_photo, 500).shape == (427, 640, 3)


def test_a_photo_decoded_smaller_looks_the_same_to_the_network(real_photo, monkeypatch):
    size = 50
    # So large a copy for the screen would be all of this small photo.
    monkeypatch.setattr(images, "ON_SCREEN", 0)
    seen = images.load(real_photo, size)
    whole = images.resize(images.read_rgb(real_photo), size)
    assert np.abs(seen.astype(int) - whole).mean() < 2  # of 255
    assert np.any(seen != whole)


def test_a_large_jpeg_cut_short_is_refused_when_it_is_decoded_smaller(real_photo):
    data = real_photo.read_bytes()
    with pytest.raises(images.BrokenPhoto):
        images.read_rgb(data[: len(data) // 2], 100)


def test_no_picture_is_refused_with_its_reason(tmp_path):
    with pytest.raises(images.BrokenPhoto, match="not a picture"):
        images.read_rgb(b"a text named .jpg")
    with pytest.raises(images.BrokenPhoto, match="empty"):
        images.read_rgb(b"")


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0no TIFF header"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.webp", {"lossless": True}), ("a.jpg", {"dpi": (72, 72)})],
)
def test_a_whole_photo_with_exif_that_is_none_is_read_as_it_lies(tmp_path, name, options, exif):
    Image.fromarray(two_colours()).save(tmp_path / name, exif=exif, **options)
    seen = images.read_rgb(tmp_path / name).astype(int)
    assert np.abs(seen - two_colours()).mean() < 3


def test_a_path_that_is_not_there_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        images.read_rgb(tmp_path / "a.jpg")


def test_a_decompression_bomb_is_refused_before_it_is_unpacked():
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    with pytest.raises(images.BrokenPhoto, match="more than 250,000,000 pixels"):
        images.read_rgb(data)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif", "a.avif"])
def test_damaged_bytes_give_a_photo_or_a_reason_and_never_a_crash(tmp_path, name):
    # Many a .jpg from the web is an AVIF within.
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow knows no AVIF")
    data = np.frombuffer(saved(tmp_path, name), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 20))
        damaged[places] = rng.integers(0, 256, len(places))
        with contextlib.suppress(images.BrokenPhoto):
            assert images.read_rgb(damaged.tobytes()).shape[2:] == (3,)


def test_shrinking_averages_the_pixels_that_fall_together():
    chequers = np.indices((200, 200)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    small = images.resize(chequers.astype(np.uint8), 50)
    assert small.shape == (50, 50, 3)
    np.testing.assert_allclose(small, 127.5, atol=1)


@pytest.mark.parametrize("turned", [False, True])
def test_what_shrinks_along_one_side_only_is_averaged_too(turned):
    stripes = np.zeros((20, 400, 3), np.uint8)
    stripes[:, ::10] = 255
    stripes = stripes.transpose(1, 0, 2) if turned else stripes
    small = images.resize(np.ascontiguousarray(stripes), 40)
    assert small.shape == (40, 40, 3)
    np.testing.assert_allclose(small, 25.5, atol=1)


def test_nobody_waits_for_photos_that_nobody_wants_any_more():
    begun = []

    def read(number):
        begun.append(number)
        time.sleep(0.02)
        return number

    numbers = images.ahead(read, range(1000), 500)
    assert next(numbers) == 0
    numbers.close()
    assert len(begun) < 300


def test_enlarging_and_stretching_give_the_networks_square():
    assert images.resize(two_colours(), 64).shape == (64, 64, 3)
    assert images.resize(two_colours(500, 20), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 11])
@pytest.mark.parametrize("count", [1, 10])
def test_batches_give_every_photo_once_in_order_as_it_is(ten_paths, batch_size, count):
    paths = ten_paths[:count]
    batches = list(images.batches(paths, 32, batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    everything = np.concatenate(batches)
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_array_equal(everything, expected)


def test_a_photo_damaged_since_the_build_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("gone")
    refused = pytest.raises(UserError, match=r"a\.jpg cannot be read.*put it back or delete it")
    with refused:
        images.load(path, 32)
    with refused:
        list(images.batches([path], 32, 4))
    path.unlink()
    with refused:
        images.load(path, 32)


@pytest.fixture
def dataset(tiny, script):
    """Build the tiny dataset; return a function that lists a split of it."""
    make_flat_download("Tiny")
    assert script("build_dataset")[0] == 0

    def listed(split=config.TRAIN):
        return images.list_photos("dataset", tiny_recipe(), split)

    return listed


def test_photos_are_listed_in_the_recipes_class_order_then_by_name(dataset):
    photos = dataset()
    assert photos.classes == CLASSES
    folders = [path.parent.name for path in photos.paths]
    assert folders == ["zebra"] * 7 + ["Noodles-Pasta"] * 7 + ["apple"] * 7
    assert list(photos.labels) == [0] * 7 + [1] * 7 + [2] * 7
    names = [path.name for path in photos.paths[:7]]
    assert names == sorted(names)


def test_hidden_files_and_other_files_are_passed_over(dataset):
    before = len(dataset())
    folder = Path("dataset/tiny/training/zebra")
    for name in ("._0_0.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_text("x")
    (folder / "album.jpg").mkdir()
    (folder.parent / ".ipynb_checkpoints").mkdir()
    assert len(dataset()) == before


def test_a_missing_split_an_empty_class_and_a_class_too_many_are_named(dataset):
    with pytest.raises(UserError, match=r"nowhere is missing.*build_dataset\.py --recipe tiny"):
        dataset("nowhere")
    extra = Path("dataset/tiny/training/giraffe")
    extra.mkdir()
    with pytest.raises(UserError, match=r"giraffe is the folder of no class.*Move it away"):
        dataset()
    extra.rmdir()
    for path in Path("dataset/tiny/training/apple").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"apple has no photos.*build_dataset\.py --recipe tiny"):
        dataset()
    Path("dataset/tiny/training/apple").rmdir()
    with pytest.raises(UserError, match="apple has no photos"):
        dataset()


def test_stamp_changes_when_a_photo_comes_goes_or_changes(dataset):
    first = dataset().stamp
    assert dataset().stamp == first
    path = Path("dataset/tiny/training/zebra/0_0.jpg")
    path.with_name("0_new.jpg").write_bytes(path.read_bytes())
    added = dataset().stamp
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    touched = dataset().stamp
    path.write_bytes(path.read_bytes() + b"x")
    longer = dataset().stamp
    path.unlink()
    gone = dataset().stamp
    assert len({first, added, touched, longer, gone}) == 5


def test_taking_some_photos_keeps_paths_and_labels_together(dataset):
    photos = dataset()
    some = photos.take([20, 0, 8])
    assert some.paths == (photos.paths[20], photos.paths[0], photos.paths[8])
    assert list(some.labels) == [2, 0, 1]


@pytest.mark.parametrize(
    ("size", "shown"), [((2000, 1000), (448, 224)), ((3, 4000), (1, 448)), ((40, 30), (40, 30))]
)
def test_a_photo_on_a_sheet_of_many_takes_no_more_memory_than_it_shows(tmp_path, size, shown):
    make_photo(tmp_path / "photo.png", 0, 0, size)
    assert images.read_for_sheet(tmp_path / "photo.png").shape == (shown[1], shown[0], 3)
