"""What comes from strangers runs no code, and nothing of the user's is touched or sent."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_error, make_flat_download, make_photo

from pyimagesearch import artifacts, config

TROJAN = "touch ran"  # leaves a file where it is run


class Pickled:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (TROJAN,)


def regression_with_a_function(path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(func=os.system), path)


def regression_that_is_a_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Pickled()))


def regression_of_a_strange_class(path):
    import skops.io

    skops.io.dump(Pickled.__new__(Pickled), path)


def network_with_a_lambda(path):
    import keras

    photos = keras.Input((32, 32, 3), dtype="uint8")
    evil = keras.layers.Lambda(lambda x: os.system(TROJAN) or x)
    keras.Model(photos, evil(photos)).save(path)
    Path("ran").unlink(missing_ok=True)  # building it ran it


def network_of_another_module(path):
    import json
    import zipfile

    config = {"module": "os", "class_name": "system", "config": {"command": TROJAN}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({**config, "registered_name": "os>system"}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))


def network_with_a_saved_model_of_its_own(path):
    """A layer that would load a TensorFlow graph, whose operations may write files."""
    import json
    import zipfile

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
        ("fine_tune", artifacts.NETWORK, network_with_a_lambda),
        ("fine_tune", artifacts.NETWORK, network_of_another_module),
        ("fine_tune", artifacts.NETWORK, network_with_a_saved_model_of_its_own),
        ("logistic_regression", artifacts.BACKBONE, network_with_a_lambda),
        ("logistic_regression", artifacts.REGRESSION, regression_with_a_function),
        ("logistic_regression", artifacts.REGRESSION, regression_of_a_strange_class),
        ("logistic_regression", artifacts.REGRESSION, regression_that_is_a_pickle),
    ],
)
@pytest.mark.parametrize("use", ["predict", "export"])
def test_a_file_that_carries_code_is_refused_and_does_not_run(
    trained, script, method, name, make, use
):
    folder = trained(method)
    make(folder / name)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    if use == "predict":
        status, out, said = script("predict", "--method", method, "--image", photo)
    else:
        status, out, said = script("train", "--method", method, "--export", "litert")
    assert status == 2
    assert_one_error(said, name)
    assert use == "export" or out == ""
    assert not Path("ran").exists()


def test_a_checkpoint_with_a_pickle_in_it_is_not_gone_on_with(trained, script):
    folder = trained()
    (folder / artifacts.METRICS).unlink()
    np.savez(folder / artifacts.CHECKPOINT, facts=np.array([Pickled()], dtype=object))
    status, _, said = script("train")
    assert status == 0
    assert "is damaged" in said
    assert not Path("ran").exists()


@pytest.mark.parametrize("classes", ["{}", "[1, 2, 3]", "[[], [], []]", '"abc"', "null"])
@pytest.mark.parametrize("method", ["fine_tune", "logistic_regression"])
def test_class_names_that_are_no_texts_are_refused(trained, script, method, classes):
    folder = trained(method)
    (folder / artifacts.CLASSES).write_text(classes)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, said = script("predict", "--method", method, "--image", photo)
    assert status == 2
    assert_one_error(said, "classes.json is missing or damaged")


def snapshot(folder):
    """Return {path: (bytes or None, time)} of everything but what the project makes."""
    made = (Path(folder) / config.DATASET_DIR, Path(folder) / config.OUTPUT_DIR)
    return {
        path: (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if not any(path == each or each in path.parents for each in made)
    }


def test_the_whole_road_changes_nothing_of_the_users_and_connects_to_nothing(
    tiny, script, monkeypatch, tmp_path
):
    connected = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connected.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **_: connected.append(asked))
    make_flat_download("Tiny")
    make_photo(Path("mine", "holiday.jpg"), 1, 1)
    Path("mine", "diary.txt").write_text("dear diary")
    Path("Tiny", "training", "0_link.jpg").symlink_to(Path("mine", "holiday.jpg").absolute())
    before = snapshot(".")
    for command in (
        ("build_dataset",),
        ("extract_features",),
        ("train", "--method", "logistic_regression"),
        ("train", "--method", "fine_tune", "--export", "litert"),
        ("predict", "--image", "mine", "Tiny", "--explain"),
    ):
        status, _, said = script(*command)
        assert status == 0, said
    assert snapshot(".") == before
    assert connected == []
