import shutil
import zipfile

import numpy as np
import pytest
from conftest import CLASSES, tiny_recipe

from pyimagesearch import artifacts, config, files, images, networks
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Augmentation


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a finished fine-tuned classifier."""
    folder = tmp_path / "output" / "tiny" / "fine_tune"
    artifacts.save_network(folder, networks.build(tiny_recipe(), None), CLASSES)
    files.write_json(folder / artifacts.METRICS, {})
    return folder


def test_loaded_network_answers_as_the_saved_one(tmp_path):
    # As train.py saves it: of plain layers.
    network = networks.in_float32(networks.build(tiny_recipe(), None))
    artifacts.save_network(tmp_path, network, CLASSES)
    files.write_json(tmp_path / artifacts.METRICS, {})
    loaded = artifacts.load(tmp_path)
    photos = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(loaded.probabilities(photos), networks.forward(network)(photos))
    assert loaded.classes == CLASSES
    assert loaded.image_size == 32


def test_unfinished_training_is_not_loaded(folder):
    artifacts.open_folder(folder)
    with pytest.raises(UserError, match=r"no finished classifier.*train\.py --recipe tiny"):
        artifacts.load(folder)


def test_a_classifier_of_another_version_that_does_not_load_says_of_which(folder):
    path = folder / artifacts.NETWORK
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"module": "keras.layers", "class_name": "OfTomorrow"}')
        archive.writestr("metadata.json", "{}")
    here = artifacts.version("keras")
    files.write_json(folder / artifacts.METRICS, {"versions": {"keras": "9.9.9", "numpy": "1"}})
    with pytest.raises(UserError, match=rf"made with keras 9\.9\.9 \(here {here}\), numpy 1"):
        artifacts.load(folder)
    files.write_json(folder / artifacts.METRICS, {"versions": {"keras": here}})
    with pytest.raises(UserError, match=r"cannot be loaded: .*\. Make it again") as refused:
        artifacts.load(folder)
    assert "made with" not in str(refused.value)


def test_a_moved_classifier_still_answers(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    photo = np.zeros((1, 32, 32, 3), np.uint8)
    assert artifacts.load(moved).probabilities(photo).shape == (1, 3)


def test_a_network_that_carries_code_is_refused(folder):
    import keras

    ran = []
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    evil = keras.Model(inputs, keras.layers.Lambda(lambda x: ran.append(1) or x)(inputs))
    evil.save(folder / artifacts.NETWORK)
    ran.clear()
    with pytest.raises(UserError, match="cannot be loaded"):
        artifacts.load(folder)
    assert not ran


def test_classifier_of_another_number_of_classes_is_refused(folder):
    files.write_json(folder / artifacts.CLASSES, ["only", "two"])
    with pytest.raises(UserError, match="2 class names"):
        artifacts.load(folder)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"source": "elsewhere"}, False),
        ({"download": "a mirror"}, False),
        ({"layout": "flat"}, False),
        ({"official_counts": {"training": 21}}, False),
        ({"batch_size": 8}, True),
        ({"augmentation": Augmentation(rotation_degrees=1)}, True),
    ],
)
def test_only_what_training_depends_on_asks_for_training_again(built, change, again):
    def made(recipe):
        splits = {
            name: images.list_photos("dataset", recipe, name) for name in ("training", "validation")
        }
        return artifacts.made_from(recipe, "fine_tune", splits, config)

    assert (made(tiny_recipe(**change)) != made(tiny_recipe())) == again


def test_find_prefers_the_recipes_own_method_and_falls_back_on_the_other(folder, tmp_path):
    output = tmp_path / "output"
    assert artifacts.find(output, tiny_recipe(method="logistic_regression")) == folder
    with pytest.raises(UserError, match="--method logistic_regression"):
        artifacts.find(output, tiny_recipe(), "logistic_regression")
