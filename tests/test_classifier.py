"""A trained classifier on disk: saved, loaded, used, and compared with what is wanted now."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CLASSES,
    SPLIT_NAMES,
    assert_one_error,
    make_photo,
    tiny_recipe,
)

from pyimagesearch import classifier, config, datasets, networks
from pyimagesearch.recipe import Augmentation
from pyimagesearch.support import files
from pyimagesearch.support.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a finished fine-tuned classifier."""
    folder = tmp_path / "output" / "tiny" / "fine_tune"
    classifier.save_network(folder, networks.build(tiny_recipe(), None), CLASSES)
    files.write_json(folder / classifier.METRICS_FILE, {})
    return folder


def test_loaded_network_answers_as_the_saved_one(tmp_path):
    # As train.py saves it: of plain layers.
    network = networks.float32_copy(networks.build(tiny_recipe(), None))
    classifier.save_network(tmp_path, network, CLASSES)
    files.write_json(tmp_path / classifier.METRICS_FILE, {})
    loaded = classifier.load(tmp_path)
    photos = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(loaded.predict(photos), networks.predict_function(network)(photos))
    assert loaded.classes == CLASSES
    assert loaded.image_size == 32


def test_unfinished_training_is_not_loaded(folder):
    classifier.begin(folder)
    with pytest.raises(UserError, match=r"no finished classifier.*train\.py --recipe tiny"):
        classifier.load(folder)


def test_a_classifier_of_another_version_that_does_not_load_says_of_which(folder):
    path = folder / classifier.NETWORK_FILE
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"module": "keras.layers", "class_name": "OfTomorrow"}')
        archive.writestr("metadata.json", "{}")
    here = classifier.version("keras")
    files.write_json(
        folder / classifier.METRICS_FILE, {"versions": {"keras": "9.9.9", "numpy": "1"}}
    )
    with pytest.raises(UserError, match=rf"trained with keras 9\.9\.9 \(here {here}\), numpy 1"):
        classifier.load(folder)
    files.write_json(folder / classifier.METRICS_FILE, {"versions": {"keras": here}})
    with pytest.raises(UserError, match=r"cannot be loaded: .*\. Make it again") as refused:
        classifier.load(folder)
    assert "trained with" not in str(refused.value)


def test_a_moved_classifier_still_answers(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    photo = np.zeros((1, 32, 32, 3), np.uint8)
    assert classifier.load(moved).predict(photo).shape == (1, 3)


def test_a_network_that_carries_code_is_refused(folder):
    import keras

    ran = []
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    evil = keras.Model(inputs, keras.layers.Lambda(lambda x: ran.append(1) or x)(inputs))
    evil.save(folder / classifier.NETWORK_FILE)
    ran.clear()
    with pytest.raises(UserError, match="cannot be loaded"):
        classifier.load(folder)
    assert not ran


def test_classifier_of_another_number_of_classes_is_refused(folder):
    files.write_json(folder / classifier.CLASSES_FILE, ["only", "two"])
    with pytest.raises(UserError, match="2 class names"):
        classifier.load(folder)


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
def test_only_what_training_depends_on_is_in_the_fingerprint(built, change, again):
    def fingerprint(recipe):
        splits = datasets.list_splits("dataset", recipe, SPLIT_NAMES)
        settings = {name: getattr(config, name) for name in classifier.SETTINGS["fine_tune"]}
        return classifier.fingerprint(recipe, splits, "output/tiny/fine_tune", settings)

    assert (fingerprint(tiny_recipe(**change)) != fingerprint(tiny_recipe())) == again


def test_read_predict_and_top_are_all_that_a_python_program_needs(folder):
    make_photo(Path("a.jpg"), 0, 0)
    make_photo(Path("b.png"), 1, 0, size=(300, 200))
    loaded = classifier.load(folder)
    photos = loaded.read(["a.jpg", Path("b.png")])
    assert (photos.shape, photos.dtype) == ((2, 32, 32, 3), np.uint8)
    probabilities = loaded.predict(photos)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    [(name, probability), _] = loaded.top(probabilities[0], 2)
    assert name == CLASSES[probabilities[0].argmax()]
    assert probability == pytest.approx(probabilities[0].max())


def test_skops_file_with_another_model_is_refused(tmp_path):
    import skops.io
    from sklearn.linear_model import Ridge

    path = tmp_path / "tiny" / "logistic_regression" / "model.skops"
    path.parent.mkdir(parents=True)
    skops.io.dump(Ridge(), path)
    with pytest.raises(UserError, match=r"it contains a Ridge.*python train\.py"):
        classifier.load_regression(path)


def test_classifier_of_an_earlier_version_predicts_and_is_trained_again(trained, script):
    folder = trained()
    metrics = files.read_json(folder / "metrics.json")
    metrics["made_from"] = {"SEED": 42, "photo_stamps": {}}
    files.write_json(folder / "metrics.json", metrics)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    assert script("predict", "--image", photo)[0] == 0
    status, _, messages = script("train")
    assert status == 0
    assert "training again: it was made by another version of this project" in messages


def test_find_prefers_the_recipes_own_method_and_falls_back_on_the_other(folder, tmp_path):
    output = tmp_path / "output"
    assert classifier.find(output, tiny_recipe(method="logistic_regression")) == folder
    with pytest.raises(UserError, match="--method logistic_regression"):
        classifier.find(output, tiny_recipe(), "logistic_regression")


# Files from strangers

TROJAN = "touch ran"  # leaves a file, so that a test sees that it ran


class Pickled:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (TROJAN,)


def regression_with_a_function(path):
    """Write a skops file that calls os.system."""
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(func=os.system), path)


def regression_that_is_a_pickle(path):
    """Write a pickle that calls os.system."""
    import pickle

    path.write_bytes(pickle.dumps(Pickled()))


def regression_of_an_unknown_class(path):
    """Write a skops file with a class that is not scikit-learn's."""
    import skops.io

    skops.io.dump(Pickled.__new__(Pickled), path)


def network_with_a_lambda(path):
    """Write a .keras file with Python bytecode in a Lambda layer."""
    import keras

    photos = keras.Input((32, 32, 3), dtype="uint8")
    evil = keras.layers.Lambda(lambda x: os.system(TROJAN) or x)
    keras.Model(photos, evil(photos)).save(path)
    Path("ran").unlink(missing_ok=True)  # building the model has run the command


def network_of_another_module(path):
    """Write a .keras file whose model class is os.system."""
    config = {"module": "os", "class_name": "system", "config": {"command": TROJAN}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({**config, "registered_name": "os>system"}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))


def network_with_a_saved_model(path):
    """Write a .keras file with a layer that loads a TensorFlow graph, which can write files."""
    import keras
    import tensorflow as tf

    class Trojan(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.uint8)])
        def serve(self, photos):
            tf.io.write_file("ran", "")
            return tf.ones((tf.shape(photos)[0], 3)) / 3

    trojan = Trojan()
    tf.saved_model.save(trojan, "trojan", signatures={"serve": trojan.serve})
    photos = keras.Input((32, 32, 3), dtype="uint8")
    keras.Model(photos, keras.layers.Identity()(photos)).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    layer = config["config"]["layers"][1]
    layer["class_name"] = "TFSMLayer"
    layer["config"] = {"filepath": "trojan", "call_endpoint": "serve", "name": "trojan"}
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("method", "name", "make"),
    [
        ("fine_tune", classifier.NETWORK_FILE, network_with_a_lambda),
        ("fine_tune", classifier.NETWORK_FILE, network_of_another_module),
        ("fine_tune", classifier.NETWORK_FILE, network_with_a_saved_model),
        ("logistic_regression", classifier.BACKBONE_FILE, network_with_a_lambda),
        ("logistic_regression", classifier.REGRESSION_FILE, regression_with_a_function),
        ("logistic_regression", classifier.REGRESSION_FILE, regression_of_an_unknown_class),
        ("logistic_regression", classifier.REGRESSION_FILE, regression_that_is_a_pickle),
    ],
)
@pytest.mark.parametrize("use", ["predict", "export"])
def test_predict_and_export_refuse_a_file_with_code_in_it(trained, script, method, name, make, use):
    folder = trained(method)
    make(folder / name)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    if use == "predict":
        status, out, messages = script("predict", "--method", method, "--image", photo)
    else:
        status, out, messages = script("train", "--method", method, "--export", "litert")
    assert status == 2
    assert_one_error(messages, name)
    assert use == "export" or out == ""
    assert not Path("ran").exists()


@pytest.mark.parametrize("classes", ["{}", "[1, 2, 3]", "[[], [], []]", '"abc"', "null"])
@pytest.mark.parametrize("method", ["fine_tune", "logistic_regression"])
def test_predict_refuses_class_names_that_are_not_strings(trained, script, method, classes):
    folder = trained(method)
    (folder / classifier.CLASSES_FILE).write_text(classes)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, messages = script("predict", "--method", method, "--image", photo)
    assert status == 2
    assert_one_error(messages, "classes.json is missing or damaged")
