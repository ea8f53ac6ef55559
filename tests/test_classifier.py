"""A trained classifier: saved, loaded, used from Python, and compared with what is wanted now."""

import functools
import json
import os
import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import CLASSES, SPLIT_NAMES, assert_one_error, half_unlike, make_photo, tiny_recipe
from sklearn.linear_model import LogisticRegression

from pyimagesearch import checkpoint, classifier, config, datasets, networks
from pyimagesearch.recipe import Augmentation, Head, Regression
from pyimagesearch.support import files, similarity, sources
from pyimagesearch.support.errors import UserError

pytestmark = pytest.mark.usefixtures("untraced")

FINE_TUNE = Path("output/tiny/fine_tune")
LOGISTIC_REGRESSION = Path("output/tiny/logistic_regression")


def make_photos(count):
    """Return uint8 noise, (count, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@functools.cache
def build_once():
    """Return a network as train.py saves it. It is built once for all tests: do not change it."""
    return networks.float32_copy(networks.build(tiny_recipe(), None, seed=0))


@pytest.fixture
def network(thin):
    """Return the network of `build_once`."""
    return build_once()


@pytest.fixture
def folder(network):
    """Save a finished fine-tuned classifier; return its folder."""
    classifier.save_network(FINE_TUNE, network, CLASSES)
    files.write_json(FINE_TUNE / classifier.METRICS_FILE, {})
    return FINE_TUNE


def save_regression(classes, features=12):
    """Save a finished classifier by logistic regression; return (regression, its backbone)."""
    photos = keras.Input((32, 32, 3), dtype="uint8")
    means = keras.layers.AveragePooling2D(16)(keras.layers.Rescaling(1 / 255)(photos))
    backbone = keras.Model(photos, keras.layers.Flatten()(means))
    backbone.save("backbone.keras")
    rows = np.random.default_rng(0).normal(size=(30, features)).astype(np.float32)
    regression = LogisticRegression().fit(rows, np.arange(30) % len(classes))
    classifier.save_regression(LOGISTIC_REGRESSION, regression, classes, ".")
    files.write_json(LOGISTIC_REGRESSION / classifier.METRICS_FILE, {})
    return regression, backbone


# Use it from Python


def test_classifier_reads_photos_and_predicts_their_most_probable_classes(folder):
    make_photo(Path("wide.jpg"), 0, 0, size=(80, 40))
    make_photo(Path("small.png"), 1, 1, size=(20, 20))
    loaded = classifier.load(folder)
    photos = loaded.read(["wide.jpg", Path("small.png")])
    assert (photos.shape, photos.dtype) == ((2, 32, 32, 3), np.uint8)
    probabilities = loaded.predict(photos)
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    (name, probability), _ = loaded.top(probabilities[0], 2)
    assert name == CLASSES[probabilities[0].argmax()]
    assert probability == pytest.approx(probabilities[0].max())


@pytest.mark.parametrize("name", ["missing.jpg", "text.jpg"])
def test_read_refuses_what_is_not_a_photo_with_its_name(network, name):
    Path("text.jpg").write_text("not a photo")
    with pytest.raises(sources.Unreadable, match=name):
        classifier.from_network(network, CLASSES).read([name])


def test_top_lists_the_most_probable_classes_first(network):
    top = classifier.from_network(network, CLASSES).top
    probabilities = np.array([0.25, 0.125, 0.625], np.float32)
    assert top(probabilities, 2) == [("apple", 0.625), ("zebra", 0.25)]
    assert len(top(probabilities, 10)) == 3


def test_top_keeps_the_order_of_the_classes_for_equal_probabilities(network):
    top = classifier.from_network(network, CLASSES).top
    names = [name for name, _ in top(np.array([0.2, 0.4, 0.4]), 3)]
    assert names == ["Noodles/Pasta", "apple", "zebra"]


def test_sigmoid_network_predicts_both_classes():
    photos = keras.Input((32, 32, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(photos))
    network = keras.Model(photos, keras.layers.Dense(1, activation="sigmoid")(flat))
    second = networks.predict_function(network)(make_photos(5))[:, 0]
    probabilities = classifier.from_network(network, ["cat", "dog"]).predict(make_photos(5))
    np.testing.assert_allclose(probabilities, np.stack([1 - second, second], axis=1))


def test_prediction_says_which_photos_are_unlike_any_training_photo(network):
    photos = make_photos(20)
    reference = half_unlike(network, photos)
    loaded = classifier.from_network(network, CLASSES, reference)
    probabilities, unlike = loaded.predict_and_compare(photos)
    np.testing.assert_allclose(probabilities, networks.predict_function(network)(photos), rtol=1e-5)
    pooled = keras.Model(network.input, networks.pooled_features(network))
    expected = reference.are_unlike(networks.predict_function(pooled)(photos))
    assert unlike == expected.tolist()
    assert sum(unlike) == 10


def test_classifier_without_training_photos_to_compare_with_predicts_too(folder):
    _, unlike = classifier.load(folder).predict_and_compare(make_photos(2))
    assert unlike == [None, None]


def test_training_photos_of_another_network_are_one_error(folder):
    similarity.save(folder, similarity.Reference(np.eye(5, dtype=np.float16), threshold=0.5))
    with pytest.raises(UserError, match=r"similarity.npz has 5 features per photo.*--force"):
        classifier.load(folder)


# Save and load


def test_loaded_network_predicts_the_same(folder, network):
    loaded = classifier.load(folder)
    expected = networks.predict_function(network)(make_photos(5))
    np.testing.assert_allclose(loaded.predict(make_photos(5)), expected)
    assert loaded.classes == CLASSES
    assert loaded.image_size == 32


@pytest.mark.parametrize("classes", [CLASSES, ("cat", "dog")])
def test_loaded_regression_predicts_from_photos_what_scikit_learn_does_from_features(classes):
    regression, backbone = save_regression(classes)
    features = networks.predict_function(backbone)(make_photos(5))
    loaded = classifier.load(LOGISTIC_REGRESSION)
    expected = regression.predict_proba(features)
    np.testing.assert_allclose(loaded.predict(make_photos(5)), expected, atol=1e-6)
    assert loaded.classes == classes


def test_moved_classifier_predicts_too(folder):
    moved = shutil.move(folder, "elsewhere")
    assert classifier.load(moved).predict(make_photos(1)).shape == (1, 3)


def test_folder_without_metrics_is_unfinished(folder):
    (folder / classifier.METRICS_FILE).unlink()
    with pytest.raises(UserError) as refused:
        classifier.load(folder)
    assert str(refused.value) == (
        f"{folder} has no finished classifier. "
        f"Make it with: python train.py --recipe tiny --method fine_tune"
    )


def test_finish_records_what_the_classifier_was_made_from(built, folder):
    splits = datasets.list_splits("dataset", tiny_recipe(), SPLIT_NAMES)
    classifier.finish(folder, {"accuracy": 0.5}, "a report\n", {"SEED": 42}, splits, 42)
    metrics = files.read_json(folder / classifier.METRICS_FILE)
    assert metrics["accuracy"] == 0.5
    assert metrics["photos"] == {"training": 21, "validation": 12, "evaluation": 15}
    assert metrics["made_from"] == {"SEED": 42}
    assert metrics["versions"]["keras"] == version("keras")
    assert (folder / classifier.REPORT_FILE).read_text() == "a report\n"


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def kill_at_move(monkeypatch):
    """Return a function that lets a call of os.replace, counted from 1, end the process."""
    replace = os.replace

    def kill(number):
        moves = iter(range(1, number))

        def move_or_die(source, target):
            if next(moves, None) is None:
                raise Killed
            replace(source, target)

        monkeypatch.setattr(files.os, "replace", move_or_die)
        return lambda: monkeypatch.setattr(files.os, "replace", replace)

    return kill


def write_metrics_of(folder, name):
    """Write a metrics.json that names its classifier, and files that training leaves beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / classifier.METRICS_FILE).write_text(json.dumps({"name": name}))
    for file in classifier.CHECKPOINT_FILES:
        (folder / file).touch()


def names_in(folder):
    """Return the names of the finished classifiers in a folder and in its previous/."""
    found = [
        files.read_json(path / classifier.METRICS_FILE) for path in (folder, folder / "previous")
    ]
    return [metrics and metrics["name"] for metrics in found]


@pytest.mark.parametrize("move", [1, 2])
def test_classifier_is_put_in_place_by_the_next_call_after_a_kill(kill_at_move, move):
    for path, name in ((FINE_TUNE / "previous", "first"), (FINE_TUNE, "second")):
        write_metrics_of(path, name)
    write_metrics_of(files.partial_path(FINE_TUNE), "third")
    revive = kill_at_move(move)
    with pytest.raises(Killed):
        classifier.put_in_place(FINE_TUNE)
    revive()
    classifier.put_in_place(FINE_TUNE)
    assert names_in(FINE_TUNE) == ["third", "second"]
    assert [path.name for path in FINE_TUNE.parent.iterdir()] == [FINE_TUNE.name]
    assert not any((FINE_TUNE / name).exists() for name in classifier.CHECKPOINT_FILES)


@pytest.mark.parametrize("move", [1, 2, 3])
def test_previous_classifier_is_restored_by_the_same_command_after_a_kill(kill_at_move, move):
    for path, name in ((FINE_TUNE / "previous", "first"), (FINE_TUNE, "second")):
        write_metrics_of(path, name)
    unfinished = files.partial_path(FINE_TUNE)
    unfinished.mkdir()
    revive = kill_at_move(move)
    with pytest.raises(Killed):
        classifier.restore_previous(FINE_TUNE, {"format": 0})
    revive()
    classifier.restore_previous(FINE_TUNE, {"format": 0})
    assert names_in(FINE_TUNE) == ["first", "second"]
    # A training that was interrupted before can still resume.
    assert sorted(FINE_TUNE.parent.iterdir()) == [FINE_TUNE, unfinished]


def test_checkpoint_files_are_those_of_checkpoint():
    names = (checkpoint.CHECKPOINT_FILE, checkpoint.SECONDS_FILE)
    assert names == classifier.CHECKPOINT_FILES


def test_find_never_takes_a_previous_classifier(folder):
    shutil.move(folder, LOGISTIC_REGRESSION / "previous")
    with pytest.raises(UserError, match="has no finished classifier"):
        classifier.find("output", tiny_recipe())


def test_find_prefers_the_recipes_own_method_to_the_other(folder):
    recipe = tiny_recipe(method="logistic_regression")
    assert classifier.find("output", recipe) == folder
    save_regression(CLASSES)
    assert classifier.find("output", recipe) == LOGISTIC_REGRESSION
    assert classifier.find("output", recipe, "fine_tune") == folder


def test_find_refuses_a_method_that_is_not_trained(folder):
    with pytest.raises(UserError, match=r"train\.py --recipe tiny --method logistic_regression"):
        classifier.find("output", tiny_recipe(), "logistic_regression")


# Classifiers that cannot be loaded


def test_number_of_class_names_must_be_that_of_the_outputs(folder):
    files.write_json(folder / classifier.CLASSES_FILE, ["only", "two"])
    with pytest.raises(UserError, match=r"has 2 class names, and the classifier has 3 outputs\."):
        classifier.load(folder)


def test_number_of_features_that_the_regression_reads_must_be_that_of_the_backbone():
    save_regression(CLASSES, features=25)
    with pytest.raises(UserError, match=r"model\.skops reads 25 features, and .* computes 12\."):
        classifier.load(LOGISTIC_REGRESSION)


def test_skops_file_with_another_model_is_refused():
    import skops.io
    from sklearn.linear_model import Ridge

    save_regression(CLASSES)
    path = LOGISTIC_REGRESSION / classifier.REGRESSION_FILE
    skops.io.dump(Ridge(), path)
    with pytest.raises(UserError) as refused:
        classifier.load(LOGISTIC_REGRESSION)
    assert str(refused.value) == (
        f"{path} cannot be loaded: it contains a Ridge. Make it again with: "
        f"python train.py --recipe tiny --method logistic_regression --force"
    )


def unloadable(folder, trained_with):
    """Put a network of another Keras into a folder; return the error of loading it."""
    with zipfile.ZipFile(folder / classifier.NETWORK_FILE, "w") as archive:
        archive.writestr("config.json", '{"module": "keras.layers", "class_name": "OfTomorrow"}')
        archive.writestr("metadata.json", "{}")
    files.write_json(folder / classifier.METRICS_FILE, {"versions": trained_with})
    with pytest.raises(UserError, match=r"model\.keras cannot be loaded: ") as refused:
        classifier.load(folder)
    return str(refused.value)


def test_network_that_keras_cannot_load_is_refused_with_the_versions_that_differ(folder):
    keras_here, numpy_here = version("keras"), version("numpy")
    trained_with = {"keras": "9.9.9", "numpy": "1", "pillow": version("pillow")}
    assert (
        f". It was trained with keras 9.9.9 (here {keras_here}), numpy 1 (here {numpy_here}). "
        f"Make it again with: python train.py"
    ) in unloadable(folder, trained_with)


def test_network_that_keras_cannot_load_is_refused_without_versions_if_none_differ(folder):
    error = unloadable(folder, {"keras": version("keras")})
    assert "It was trained with" not in error
    assert "Make it again with: python train.py" in error


@pytest.mark.parametrize("classes", ["{}", "[1, 2, 3]", "[[], [], []]", '"abc"', "null"])
@pytest.mark.parametrize("method", ["fine_tune", "logistic_regression"])
def test_predict_refuses_class_names_that_are_not_strings(trained, script, method, classes):
    folder = trained(method)
    (folder / classifier.CLASSES_FILE).write_text(classes)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    status, _, messages = script("predict", "--method", method, "--image", photo)
    assert status == 2
    assert_one_error(messages, "classes.json is missing or damaged", "--force")


# What a classifier is made from


def fingerprint_of(recipe, method="fine_tune", **changes):
    """Return the fingerprint of a classifier of the dataset in this folder."""
    splits = datasets.list_splits("dataset", recipe, SPLIT_NAMES)
    settings = {name: getattr(config, name) for name in classifier.SETTINGS[method]} | changes
    return classifier.fingerprint(recipe, splits, Path("output/tiny") / method, settings)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"source": "elsewhere"}, False),
        ({"download": "a mirror"}, False),
        ({"layout": "flat"}, False),
        ({"official_counts": {"training": 21}}, False),
        ({"method": "logistic_regression"}, False),
        ({"batch_size": 4}, True),
        ({"augmentation": Augmentation(rotation_degrees=1)}, True),
        ({"mistakes": 2}, True),
    ],
)
def test_fingerprint_depends_on_the_fields_that_change_the_classifier(built, change, again):
    changed = fingerprint_of(tiny_recipe(**change)) != fingerprint_of(tiny_recipe())
    assert changed == again


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"augmentation": Augmentation(zoom=0.5)}])
def test_fingerprint_of_regression_does_not_depend_on_fine_tuning(built, change):
    method = "logistic_regression"
    assert fingerprint_of(tiny_recipe(**change), method) == fingerprint_of(tiny_recipe(), method)


def test_fingerprint_of_regression_depends_on_the_class_weights(built):
    balanced = tiny_recipe(class_weights="balanced")
    method = "logistic_regression"
    assert fingerprint_of(balanced, method) != fingerprint_of(tiny_recipe(), method)


@pytest.mark.parametrize("start", [None, "logistic_regression"])
def test_fingerprint_of_fine_tuning_depends_on_C_if_the_head_starts_with_regression(built, start):
    head = Head(pooling="average", units=None, dropout=0, output="softmax", start=start)
    of_C = [fingerprint_of(tiny_recipe(head=head, regression=Regression(C=C))) for C in (1, 0.1)]
    assert (of_C[0] != of_C[1]) == (start is not None)


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("fine_tune", {"SEED": 7}),
        ("fine_tune", {"STORED_VIEWS": 7}),
        ("logistic_regression", {"SEED": 7}),
        ("logistic_regression", {"MAX_ITERATIONS": 7}),
    ],
)
def test_fingerprint_depends_on_the_settings_of_the_method(built, method, setting):
    recipe = tiny_recipe()
    assert fingerprint_of(recipe, method, **setting) != fingerprint_of(recipe, method)


def write_metrics(folder, fingerprint):
    """Write the metrics of a classifier that was made from these parts, and its report."""
    files.write_json(folder / classifier.METRICS_FILE, {"made_from": fingerprint})
    (folder / classifier.REPORT_FILE).write_text("the report\n")


def test_classifier_that_is_up_to_date_prints_its_report(built, folder, capsys):
    wanted = fingerprint_of(tiny_recipe())
    write_metrics(folder, wanted)
    assert classifier.is_up_to_date(folder, wanted)
    printed = capsys.readouterr()
    assert "the report" in printed.out
    assert f"{folder} is up to date; --force trains again" in printed.err


def test_classifier_of_other_settings_is_out_of_date_with_the_difference(built, folder, capsys):
    write_metrics(folder, fingerprint_of(tiny_recipe()))
    assert not classifier.is_up_to_date(folder, fingerprint_of(tiny_recipe(batch_size=4)))
    assert "training again: batch_size was 8 and is now 4" in capsys.readouterr().err


def test_folder_without_a_classifier_is_not_up_to_date(built, capsys):
    assert not classifier.is_up_to_date(FINE_TUNE, fingerprint_of(tiny_recipe()))
    assert capsys.readouterr().err == ""


def test_classifier_of_an_earlier_version_predicts_and_is_trained_again(trained, script):
    folder = trained()
    metrics = files.read_json(folder / classifier.METRICS_FILE)
    metrics["made_from"] = {"SEED": 42, "photo_stamps": {}}
    files.write_json(folder / classifier.METRICS_FILE, metrics)
    photo = next(config.DATASET_DIR.rglob("*.jpg"))
    assert script("predict", "--image", photo)[0] == 0
    status, _, messages = script("train")
    assert status == 0
    assert "training again: it was made by another version of this project" in messages


@pytest.mark.parametrize(("minimum", "status"), [(None, None), (0.5, None), (0.75, 1)])
def test_check_accuracy_fails_below_the_minimum(folder, capsys, minimum, status):
    files.write_json(folder / classifier.METRICS_FILE, {"accuracy": 0.5})
    assert classifier.check_accuracy(folder, minimum) == status
    if status:
        assert_one_error(capsys.readouterr().err, "accuracy is 0.5000, which is less than 0.75")


# Files from strangers: no code in them runs

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
    photos = keras.Input((32, 32, 3), dtype="uint8")
    evil = keras.layers.Lambda(lambda x: os.system(TROJAN) or x)
    keras.Model(photos, evil(photos)).save(path)
    Path("ran").unlink(missing_ok=True)  # building the model has run the command


def network_of_another_module(path):
    """Write a .keras file whose model class is os.system."""
    trojan = {"module": "os", "class_name": "system", "config": {"command": TROJAN}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({**trojan, "registered_name": "os>system"}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))


def network_with_a_saved_model(path):
    """Write a .keras file with a layer that loads a TensorFlow graph, which can write files."""
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
    model = json.loads(members["config.json"])
    layer = model["config"]["layers"][1]
    layer["class_name"] = "TFSMLayer"
    layer["config"] = {"filepath": "trojan", "call_endpoint": "serve", "name": "trojan"}
    members["config.json"] = json.dumps(model)
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
        assert out == ""
    else:
        status, _, messages = script("train", "--method", method, "--export", "litert")
    assert status == 2
    assert_one_error(messages, name)
    assert not Path("ran").exists()
