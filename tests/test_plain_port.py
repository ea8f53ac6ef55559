"""benchmarks/plain_port.py does what the original tutorials do, on the API of Keras 3."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, make_photo, read
from PIL import Image

WEIGHTS = str(ROOT / "weights" / "vgg16.weights.h5")  # from tools/get_weights.py

# Of Keras' ImageDataGenerator, and of a report on two photos.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Please import `affine_transform`:DeprecationWarning",
    "ignore:Precision is ill-defined",
)


@pytest.fixture
def plain_port(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("plain_port")


@pytest.fixture
def dataset():
    """Make a dataset of two classes. Return its folder."""
    for split in ("training", "validation", "evaluation"):
        for label, name in enumerate(("apple", "bread")):
            make_photo(Path("dataset", split, name, "1.png"), label, 0)
    return Path("dataset")


def test_extract_writes_the_class_and_the_flattened_output_of_the_network(
    plain_port, dataset, monkeypatch
):
    # In the place of VGG16, a network with the same shape of output.
    layers = keras.layers.AveragePooling2D(32), keras.layers.Conv2D(512, 1)
    network = keras.Sequential([keras.Input((224, 224, 3)), *layers])
    monkeypatch.setattr(plain_port, "VGG16", lambda **_: network)
    plain_port.extract(dataset, None, Path("."))
    rows = np.loadtxt("evaluation.csv", delimiter=",")
    assert sorted(rows[:, 0]) == [0, 1]
    for label, *features in rows:
        photo = Image.open(dataset / "evaluation" / ("apple", "bread")[int(label)] / "1.png")
        pixels = np.array(photo.resize((224, 224), Image.Resampling.NEAREST), "float32")[None]
        expected = network(keras.applications.vgg16.preprocess_input(pixels))
        assert expected.shape == (1, 7, 7, 512)
        np.testing.assert_allclose(features, np.ravel(expected), rtol=1e-4, atol=1e-3)


def test_fine_tuning_first_trains_the_head_then_block5_too(plain_port, dataset):
    def run_phase(model, train, validation, test, epochs):
        trained = [layer.name for layer in model.layers if layer.trainable and layer.weights]
        return {"trained": trained, "outputs": model.output_shape[-1], "epochs": epochs}

    result = plain_port.fine_tune(dataset, None, (50, 20), run_phase)
    warmup, unfrozen = result["warmup"], result["unfrozen"]
    head = warmup["trained"]
    assert len(head) == 2
    assert all(name.startswith("dense") for name in head)
    assert unfrozen["trained"] == ["block5_conv1", "block5_conv2", "block5_conv3", *head]
    assert (warmup["epochs"], unfrozen["epochs"]) == (50, 20)
    assert warmup["outputs"] == 2


def test_only_training_photos_are_augmented_and_shuffled(plain_port, dataset):
    train, validation, test = plain_port.open_splits(dataset)
    assert train.shuffle
    assert not validation.shuffle
    assert not test.shuffle
    (first, labels), (again, _) = test[0], test[0]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, [[1, 0], [0, 1]])
    (first, _), (again, _) = train[0], train[0]
    assert not np.array_equal(first, again)


@pytest.mark.soak
def test_fine_tuning_reports_the_accuracy_after_each_phase(plain_port, dataset, monkeypatch):
    command = ["plain_port.py", "fine_tune", "dataset", WEIGHTS, "out"]
    monkeypatch.setattr(sys, "argv", [*command, "--warmup", "2", "--unfrozen", "1"])
    plain_port.main()
    result = read("out/plain_fine_tune.json")
    assert (result["warmup"]["epochs"], result["unfrozen"]["epochs"]) == (2, 1)
    for phase in ("warmup", "unfrozen"):
        # There are two evaluation photos.
        assert result[phase]["accuracy"] in (0, 0.5, 1)
        assert result[phase]["fit_seconds"] < result["seconds"]


@pytest.mark.soak
def test_steps_reports_the_seconds_of_a_step_of_each_phase(plain_port, dataset, monkeypatch):
    # A median step needs three steps: the first and the last one do not count.
    monkeypatch.setattr(plain_port, "BATCH_SIZE", 1)
    for split in ("training", "validation"):
        make_photo(dataset / split / "apple" / "2.png", 0, 1)
    monkeypatch.setattr(sys, "argv", ["plain_port.py", "steps", "dataset", WEIGHTS, "out"])
    plain_port.main()
    result = read("out/plain_steps.json")
    for phase in ("warmup", "unfrozen"):
        assert 0 < result[phase]["step"] < result["seconds"]
        assert 0 < result[phase]["validation_step"] < result["seconds"]
