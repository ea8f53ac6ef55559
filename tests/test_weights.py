"""Where the weights of a backbone come from, and what to do if they cannot be loaded."""

import keras
import pytest
from conftest import ROOT, tiny_recipe

from pyimagesearch import networks
from pyimagesearch.support import weights
from pyimagesearch.support.errors import UserError


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Let a folder of the test take the place of the project's weights/."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    return tmp_path


def loading_error(backbone, setting, failure):
    """Return the error of a user when Keras raises `failure`."""
    with pytest.raises(UserError) as explained, weights.explain_errors(backbone, setting):
        raise failure
    return str(explained.value)


# Which file


def test_weights_folder_is_at_the_top_of_the_project():
    assert weights.weights_file("VGG16") == ROOT / "weights" / "vgg16.weights.h5"


def test_imagenet_weights_are_downloaded_unless_the_weights_folder_has_them(folder):
    assert weights.find_weights("VGG16", "imagenet") == "imagenet"
    local = folder / "vgg16.weights.h5"
    local.touch()
    assert weights.find_weights("VGG16", "imagenet") == str(local)
    assert weights.find_weights("ResNet50", "imagenet") == "imagenet"


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_weights_of_ones_own_take_precedence_over_the_weights_folder(folder, kind):
    (folder / "vgg16.weights.h5").touch()
    own = folder / "mine.weights.h5"
    own.touch()
    assert weights.find_weights("VGG16", kind(own)) == str(own)


@pytest.mark.parametrize("name", ["missing.weights.h5", "a_folder"])
def test_weights_of_ones_own_that_are_not_a_file_are_refused(folder, name):
    (folder / "a_folder").mkdir()
    with pytest.raises(UserError) as refused:
        weights.find_weights("VGG16", folder / name)
    assert str(refused.value) == (
        f"WEIGHTS in pyimagesearch/config.py is '{folder / name}', which is not a file. "
        f"Correct the path, or set it to 'imagenet'"
    )


# Files that Keras cannot load


@pytest.mark.parametrize("content", ["text", "another network"])
def test_file_without_the_weights_of_the_backbone_is_one_error(folder, content, random_weights):
    path = folder / "mine.weights.h5"
    path.write_bytes(b"text" if content == "text" else random_weights.read_bytes())
    words = r"mine\.weights\.h5 does not contain the weights of VGG16 without its top"
    with pytest.raises(UserError, match=words):
        networks.build(tiny_recipe(), path)


@pytest.mark.filterwarnings("error")
def test_warnings_about_the_layers_that_keras_skips_are_not_shown(folder, random_weights):
    with pytest.raises(UserError, match="does not contain"):
        networks.build(tiny_recipe(), random_weights)


@pytest.mark.parametrize(
    ("backbone", "name", "remedy"),
    [
        ("VGG16", "vgg16", "Make it again with: python tools/get_weights.py --force"),
        # The tool has the weights of VGG16 alone.
        ("ResNet50", "resnet50", "Replace it, or delete it"),
        (
            "VGG16",
            "elsewhere/vgg16",
            "Set WEIGHTS in pyimagesearch/config.py to another file, or to 'imagenet'",
        ),
    ],
)
def test_remedy_for_a_damaged_file_depends_on_where_it_is_from(folder, backbone, name, remedy):
    path = str(folder / f"{name}.weights.h5")
    error = loading_error(backbone, path, OSError("Unable to open file. It is truncated"))
    assert error == (
        f"{path} does not contain the weights of {backbone} without its top "
        f"(Unable to open file). {remedy}"
    )


# Downloads


@pytest.fixture
def download_fails(folder, monkeypatch):
    """Return a function that lets the download of VGG16's weights raise an error."""

    def let_fail(failure):
        def fail(**_):
            raise failure

        fail.__module__ = keras.applications.VGG16.__module__
        monkeypatch.setattr(keras.applications, "VGG16", fail)

    return let_fail


# Keras raises a bare Exception.
NO_ROUTE = Exception("URL fetch failure on https://a.b: None -- no route")


def test_failed_download_is_one_error_with_its_reason(download_fails):
    download_fails(NO_ROUTE)
    words = r"the ImageNet weights of VGG16 cannot be downloaded \(URL fetch failure .* no route\)"
    with pytest.raises(UserError, match=words):
        networks.build(tiny_recipe(), "imagenet")


@pytest.mark.parametrize(
    ("backbone", "remedy"),
    [
        ("VGG16", "Try: python tools/get_weights.py"),
        # The tool has the weights of VGG16 alone, without its top.
        ("VGG19", "Download this file on another computer and put it into ~/.keras/models"),
        ("VGG16 with its top", "Download this file on another computer and put it into"),
    ],
)
def test_remedy_for_a_failed_download_depends_on_the_backbone(backbone, remedy):
    assert f"no route). {remedy}" in loading_error(backbone, "imagenet", NO_ROUTE)


def test_damaged_download_is_one_error_with_the_folder_to_delete_it_from(download_fails):
    download_fails(ValueError("Incomplete or corrupted file detected. The sha256 file hash does"))
    with pytest.raises(UserError) as refused:
        networks.build(tiny_recipe(), "imagenet")
    assert str(refused.value) == (
        "the download of VGG16's ImageNet weights is damaged (Incomplete or corrupted file "
        "detected). Delete it from ~/.keras/models and run the same command again"
    )


# Other errors are not about weights


@pytest.mark.parametrize(
    ("setting", "failure"),
    [(None, ValueError("a layer is wrong")), ("imagenet", RuntimeError("out of memory"))],
    ids=["random weights", "another error"],
)
def test_error_that_is_not_about_weights_stays_as_it_is(setting, failure):
    with pytest.raises(type(failure)) as raised, weights.explain_errors("VGG16", setting):
        raise failure
    assert raised.value is failure
