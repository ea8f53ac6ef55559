"""Pictures broken in many ways, through every script: refused in a line, or shown as they are."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimagesearch import config, images, sources
from pyimagesearch.console import UserError

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}


def photo():
    """Return a picture with something on it: a disc on a slope, and some noise."""
    y, x = np.mgrid[:120, :160]
    disc = ((x - 80) ** 2 + (y - 60) ** 2 < 1600)[..., None]
    pixels = np.where(disc, (200, 60, 40), np.stack([x, y, x + y], axis=-1) % 256)
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def encoded(kind):
    data = io.BytesIO()
    photo().save(data, FORMATS[kind])
    return data.getvalue()


def png_that_claims(width, height, data=b""):
    """Return a PNG whose header claims a size that its data do not have."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    )


def broken():
    """Return {name: bytes} of pictures that no person could see whole."""
    made = {"empty.jpg": b"", "text.png": b"no picture at all", "zeros.jpg": bytes(5000)}
    for kind in FORMATS:
        data = encoded(kind)
        for tenth in range(1, 10):
            made[f"cut_at_{tenth}_tenths.{kind}"] = data[: len(data) * tenth // 10]
    made["claims_20000.png"] = png_that_claims(20_000, 20_000)
    made["claims_2_billion.png"] = png_that_claims(2**31 - 1, 2**31 - 1)
    made["no_width.png"] = png_that_claims(0, 100)
    # 300 million pixels, of which ten rows are there.
    made["bomb.png"] = png_that_claims(30_000, 10_000, bytes(90_001 * 10))
    return made


def flipped():
    """Return {name: bytes} of pictures with wrong bytes: some still show, some do not."""
    rng = np.random.default_rng(1)
    made = {"half_the_rows.png": png_that_claims(100, 100, bytes(301 * 50))}
    for kind in FORMATS:
        for number in range(6):
            data = np.frombuffer(encoded(kind), np.uint8).copy()
            places = rng.integers(0, len(data), 1 + 4 * number)
            data[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
            made[f"flipped_{number}.{kind}"] = data.tobytes()
    return made


BROKEN, FLIPPED = broken(), flipped()


def test_there_are_enough_of_them():
    assert len(BROKEN) + len(FLIPPED) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_person_could_see_is_no_photo(name):
    with pytest.raises(images.BrokenPhoto):
        images.read_rgb(BROKEN[name])


@pytest.mark.parametrize("name", BROKEN)
def test_in_a_dataset_it_stops_what_reads_the_photos_and_is_named(name):
    path = Path(write(Path("dataset", "tiny", "training", name), BROKEN[name]))
    with pytest.raises(UserError, match=re.escape(str(path))):
        list(images.batches([path], 32, 4))


@pytest.mark.parametrize("name", FLIPPED)
def test_wrong_bytes_are_refused_or_give_a_picture_and_never_anything_else(name):
    try:
        pixels = images.read_rgb(FLIPPED[name])
    except images.BrokenPhoto:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_a_wrong_ending_does_not_matter(kind):
    np.testing.assert_array_equal(
        images.read_rgb(encoded(kind)), sources.read(write(Path("photo.jpg"), encoded(kind)))
    )


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def test_build_dataset_leaves_them_out_and_predict_reports_each(trained, tiny, script):
    trained()
    for name, data in BROKEN.items():
        write(Path("broken", name), data)
    good = write(Path("broken", "good.jpg"), encoded("jpg"))
    status, out, said = script("predict", "--image", "broken")
    assert status == 1
    assert [line.split("  ")[0] for line in out.splitlines()] == [good]
    errors = [line for line in said.splitlines() if line.startswith("[ERROR]")]
    assert len(errors) == len(BROKEN)
    assert "Traceback" not in said

    for name, data in BROKEN.items():
        write(Path("Tiny", "training", f"0_{name}"), data)
    for split in ("training", "validation", "evaluation"):
        for label in range(3):
            write(Path("Tiny", split, f"{label}_good.jpg"), encoded("jpg"))
    for path in Path("dataset").rglob("*.jpg"):
        path.unlink()
    status, _, said = script("build_dataset")
    assert status == 0, said
    kept = {path.name for path in (config.DATASET_DIR / "tiny").rglob("*") if path.is_file()}
    assert not kept & {f"0_{name}" for name in BROKEN}
    rejected = (config.DATASET_DIR / "tiny" / "rejected.csv").read_text()
    assert rejected.count("\n") == len(BROKEN) + 1


def test_a_photo_is_no_program_for_ghostscript(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    data = io.BytesIO()
    photo().save(data, "EPS")
    (tmp_path / "photo.jpg").write_bytes(data.getvalue())
    with pytest.raises(images.BrokenPhoto):
        images.read_rgb(tmp_path / "photo.jpg")
    assert not ran.exists()
