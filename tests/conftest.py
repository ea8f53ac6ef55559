"""What tests share: made photos, a tiny recipe, and the scripts run in this process."""

import importlib
import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import made_host
import numpy as np
import pytest
from PIL import Image

from pyimagesearch import config, features
from pyimagesearch.recipe import METHODS, Augmentation, Head, Phase, Recipe, checked
from pyimagesearch.report import figures
from pyimagesearch.support import console, files, fingerprints, similarity

ROOT = Path(__file__).resolve().parent.parent

# Not in alphabetical order: class order must come from the recipe, never from the folders.
CLASSES = ("zebra", "Noodles/Pasta", "apple")

# Convolutions and channels of each block of the thin VGG16: as few as its block5 and its cuts need.
THIN_BLOCKS = ((1, 8), (1, 16), (1, 32), (1, 64), (3, 64))


@pytest.fixture(autouse=True)
def _compute_in_float32():
    """Reset the precision that an earlier test may have set."""
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, which gets dataset/ and output/."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def untraced():
    """Run TensorFlow's functions without tracing them, which takes a third of a tiny training.

    Tests of what a script prints and writes use it. Those of numbers run what a user runs.
    """
    console.import_tensorflow()
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def quick_figures(monkeypatch):
    """Write noise instead of drawing figures, which takes a third of a tiny training.

    Every test that trains uses it, except those that use `real_figures`.
    """

    def save_noise(path, *_, **__):
        with files.atomic_write(path) as partial:
            # Wider than a screen, so that a page has to scale it.
            Image.effect_noise((1300, 4), 50).save(partial)

    for name in REAL_FIGURES:
        monkeypatch.setattr(figures, name, save_noise)


@pytest.fixture
def real_figures(monkeypatch, quick_figures):
    """Draw figures for real, although `tiny` uses quick_figures."""
    for name, draw in REAL_FIGURES.items():
        monkeypatch.setattr(figures, name, draw)


REAL_FIGURES = {
    name: getattr(figures, name)
    for name in ("draw_confusion", "draw_curves", "draw_reliability", "draw_sheet")
}


def make_photo(path, label, number, size=(40, 30)):
    """Write a made photo (width, height): noise around a colour that tells its label."""
    rng = np.random.default_rng((label, number))
    colour = np.eye(3)[label % 3] * 180
    pixels = np.clip(rng.normal(colour, 40, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_flat_download(source, photos=(7, 4, 5), labels=3):
    """Write <split>/<label>_<id>.jpg, so many photos a class in each split."""
    for split, count in zip(config.SPLITS, photos, strict=True):
        for label in range(labels):
            for number in range(count):
                seed = number + {config.TRAIN: 0, config.VAL: 100, config.TEST: 200}[split]
                make_photo(Path(source) / split / f"{label}_{number}.jpg", label, seed)


def tiny_phase(name, **changes):
    """Return a phase of one epoch."""
    settings = {"epochs": 1, "optimizer": "SGD", "learning_rate": 1e-3, "momentum": 0.9}
    return Phase(name, **settings | changes)


def tiny_recipe(**changes):
    """Return a recipe that trains in a second: 32 x 32 pixels, batches of 8, 2 + 1 epochs."""
    row = {
        "source": "Tiny",
        "classes": CLASSES,
        "method": "fine_tune",
        "backbone": "VGG16",
        "image_size": 32,
        "batch_size": 8,
        "head": Head(pooling="flatten", units=8, dropout=0.5, output="softmax"),
        "augmentation": Augmentation(rotation_degrees=20, horizontal_flip=True),
        "views": 2,
        "mistakes": 3,
        "phases": (
            tiny_phase("warmup", epochs=2),
            tiny_phase("unfrozen", unfreeze_after="block4_pool"),
        ),
        **changes,
    }
    return checked({"tiny": Recipe(**row)})["tiny"]


def thin_vgg16(include_top, weights, input_tensor):
    """Return VGG16 without its top, with fewer layers and an eighth of their channels.

    TensorFlow traces the layers of each model that is trained, which takes longer than training.
    """
    import keras

    x = input_tensor
    for block, (convolutions, filters) in enumerate(THIN_BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"block{block}_conv{number}"
            x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    network = keras.Model(keras.utils.get_source_inputs(x), x, name="vgg16")
    if weights is not None:
        network.load_weights(weights)
    return network


def thin_resnet50(include_top, weights, input_tensor):
    """Return ResNet50 without its top: its first and last stack, with one and two thin blocks."""
    from keras import Model, layers
    from keras.utils import get_source_inputs

    def convolution(x, name, filters, size=1, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", name=f"{name}_conv")(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    x = layers.ReLU(name="conv1_relu")(convolution(input_tensor, "conv1", 8, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1_pool")(x)
    for stack, blocks in ((2, 1), (5, 2)):
        for block in range(1, blocks + 1):
            name, strides = f"conv{stack}_block{block}", 2 if block == 1 and stack > 2 else 1
            shortcut = convolution(x, f"{name}_0", 32, 1, strides) if block == 1 else x
            x = layers.ReLU(name=f"{name}_1_relu")(convolution(x, f"{name}_1", 8, 1, strides))
            x = layers.ReLU(name=f"{name}_2_relu")(convolution(x, f"{name}_2", 8, 3))
            x = layers.Add(name=f"{name}_add")([shortcut, convolution(x, f"{name}_3", 32)])
            x = layers.ReLU(name=f"{name}_out")(x)
    network = Model(get_source_inputs(x), x, name="resnet50")
    if weights is not None:
        network.load_weights(weights)
    return network


def put_thin_vgg16(put=setattr):
    """Let keras.applications.VGG16 be the thin one, in this process or as a test undoes it."""
    console.import_tensorflow()
    import keras

    thin_vgg16.__module__ = keras.applications.VGG16.__module__
    put(keras.applications, "VGG16", thin_vgg16)


@pytest.fixture
def thin(monkeypatch):
    """Let keras.applications.VGG16 be the thin one in a test."""
    put_thin_vgg16(monkeypatch.setattr)


@pytest.fixture
def thin_resnet(monkeypatch):
    """Let keras.applications.ResNet50 be the thin one in a test."""
    console.import_tensorflow()
    import keras

    thin_resnet50.__module__ = keras.applications.ResNet50.__module__
    monkeypatch.setattr(keras.applications, "ResNet50", thin_resnet50)


def write_random_weights(folder, build, size=32):
    """Write a weights file for a backbone holding random numbers; return its path."""
    console.import_tensorflow()
    import keras

    keras.utils.set_random_seed(1)
    path = folder / "random.weights.h5"
    photos = keras.Input((size, size, 3))
    build(include_top=False, weights=None, input_tensor=photos).save_weights(path)
    return path


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    """Return the path of a weights file for the thin VGG16 holding random numbers."""
    return write_random_weights(tmp_path_factory.mktemp("weights"), thin_vgg16)


@pytest.fixture
def tiny(monkeypatch, thin, random_weights, quick_figures):
    """Put a recipe called tiny into config, with random weights; return a way to change it."""

    def use(**changes):
        recipe = tiny_recipe(**changes)
        monkeypatch.setattr(config, "RECIPES", {"tiny": recipe})
        return recipe

    monkeypatch.setattr(config, "RECIPE", "tiny")
    monkeypatch.setattr(config, "PRECISION", "float32")
    monkeypatch.setattr(config, "WEIGHTS", random_weights)
    use()
    return use


@pytest.fixture(scope="session")
def random_resnet(tmp_path_factory):
    """Return the path of a weights file for the thin ResNet50 holding random numbers."""
    return write_random_weights(tmp_path_factory.mktemp("weights"), thin_resnet50)


@pytest.fixture
def shortened(monkeypatch, thin, thin_resnet, random_weights, random_resnet, quick_figures):
    """Cut a row's network, pixels, epochs and steps down, and nothing else that its user sees."""

    def shorten(name, **changes):
        row = config.RECIPES[name]
        steps = [phase.steps_per_epoch and 2 for phase in row.phases]
        phases = tuple(
            replace(phase, epochs=2, steps_per_epoch=step)
            for phase, step in zip(row.phases, steps, strict=True)
        )
        row = replace(row, image_size=64, phases=phases, views=1, **changes)
        monkeypatch.setitem(config.RECIPES, name, row)
        weights = {"VGG16": random_weights, "ResNet50": random_resnet}[row.backbone]
        monkeypatch.setattr(config, "WEIGHTS", weights)
        monkeypatch.setattr(config, "PRECISION", "float32")
        return row

    return shorten


@pytest.fixture
def script(monkeypatch, capsys, quick_figures):
    """Return a function that runs a script as its last line does: (status, stdout, stderr)."""
    monkeypatch.syspath_prepend(ROOT)

    def run(name, *arguments):
        main = importlib.import_module(name).main
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            console.run(lambda: main([str(each) for each in arguments]))
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def copy_dataset(tiny, script, kept):
    """Return a function that makes a flat download of the tiny recipe and builds its dataset.

    It does so once for all tests, and copies both, with the dates of their files.
    """

    def copy():
        if not (kept / "built").is_dir():
            make_flat_download("Tiny")
            status, _, said = script("build_dataset")
            assert status == 0, said
            for folder in ("Tiny", "dataset"):
                shutil.copytree(folder, kept / "built" / folder)
        for folder in ("Tiny", "dataset"):
            shutil.copytree(kept / "built" / folder, folder, dirs_exist_ok=True)

    return copy


@pytest.fixture
def built(copy_dataset):
    """Make a flat download of the tiny recipe and build its dataset."""
    copy_dataset()


@pytest.fixture
def host():
    """Return a server on this machine that plays the hosts of downloads."""
    with made_host.Host() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def free_bytes(monkeypatch):
    """Return a function that lets the disk have so many bytes left."""

    def leave(free):
        usage = shutil.disk_usage(".")._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    return leave


@pytest.fixture(scope="session")
def chromium():
    """Return a headless Chromium, Debian's or Google's own."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-background-networking", "--no-first-run"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Return a folder for what one test made and others may start from."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def trained(copy_dataset, script, kept):
    """Return a function that trains the tiny recipe by a method, once for all tests.

    It returns the classifier's folder; dataset/ and output/ are in the test's own folder.
    """

    def train(method="fine_tune"):
        finished = kept / method
        if not finished.is_dir():
            copy_dataset()
            if method == "logistic_regression":
                assert script("extract_features")[0] == 0
            status, _, messages = script("train", "--method", method)
            assert status == 0, messages
            for folder in (config.DATASET_DIR, config.OUTPUT_DIR):
                shutil.copytree(folder, finished / folder)
        for folder in (config.DATASET_DIR, config.OUTPUT_DIR):
            shutil.copytree(finished / folder, folder, dirs_exist_ok=True)
        return config.OUTPUT_DIR / "tiny" / method

    return train


def user_error(function, *arguments, **options):
    """Return the message of the UserError that a function raises."""
    with pytest.raises(console.UserError) as failure:
        function(*arguments, **options)
    return str(failure.value)


def assert_one_error(said, *words):
    """Check that there is one [ERROR] line, no traceback, and that it holds every word."""
    errors = [line for line in said.splitlines() if line.startswith("[ERROR]")]
    assert len(errors) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word in errors[0]


def leftovers(folder="."):
    """Return the half-written files below a folder, except those that a later run resumes."""
    partial_files = [path for path in Path(folder).rglob("*") if "partial" in path.name]
    return [
        path
        for path in partial_files
        if path.parent.name not in ("cache", "outputs") and path.stem not in METHODS
    ]


def read(path):
    """Return what a JSON file holds."""
    return json.loads(Path(path).read_text())


def write_csv(path, labels, rows):
    """Write features as extract_features.py does."""
    features.write_csv(path, labels, [rows])


def write_program(path, lines):
    """Write a shell script that takes the place of a program. Return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def is_root():
    """Tell whether permissions cannot stop this process."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


SPLIT_NAMES = config.SPLITS


class Tuning:
    """A fine-tuning of a tiny recipe, step by step as train.py does it."""

    def __init__(self, recipe, folder="fine_tuning", seed=1, weights_seed=1, cache=None, gpus=1):
        from pyimagesearch import checkpoint, datasets, frozen, networks

        console.import_tensorflow()
        self.recipe, self.folder, self.seed = recipe, Path(folder), seed
        self.splits = datasets.list_splits("dataset", recipe, SPLIT_NAMES)
        self.network = networks.build(recipe, None, weights_seed, gpus)
        self.views = frozen.choose_views(recipe.views, 3, 1)
        self.checkpoint = checkpoint.load_checkpoint(
            self.folder,
            fingerprints.fingerprint({"SEED": seed}),
            "float32",
            self.network,
            recipe.phases,
        )
        self.outputs = frozen.needed(recipe, self.views, self.checkpoint.finished_phases)
        self.cache = cache or self.folder / "cache"
        inputs = (self.network, recipe, self.splits, seed, self.cache)
        everything = frozen.needed(recipe, self.views)
        self.store = frozen.compute(self.outputs, *inputs, keep=everything)
        self.checkpoint.restore_weights()

    def data(self, number):
        """Return the PhaseData of a phase."""
        from pyimagesearch.batches import PhaseData

        inputs = (self.recipe, number, self.splits, self.seed, self.views, self.store)
        return PhaseData(*inputs, self.cache)

    def fit(self, number=0):
        """Train one phase; return the rows of history.csv so far."""
        from pyimagesearch import networks, training

        networks.unfreeze_after(self.network, self.recipe.phases[number].unfreeze_after)
        training.fit(self.network, self.data(number), self.checkpoint, self.folder)
        return self.checkpoint.history

    def fit_all(self):
        """Train every phase that is not finished; return the weights."""
        for number in range(self.checkpoint.finished_phases, len(self.recipe.phases)):
            self.fit(number)
            self.checkpoint.finish_phase({"accuracy": 0.5}, "text")
        return self.network.get_weights()


def half_unlike(network, photos):
    """Return a similarity.Reference to which half of these photos are unlike.

    `photos` are inputs of the network.
    """
    from pyimagesearch import networks

    model = networks.keras.Model(network.input, networks.pooled_features(network))
    features = networks.predict_function(model)(photos)
    rows = similarity.unit_rows(features[: len(photos) // 2]).astype(np.float16)
    reference = similarity.Reference(rows, threshold=0)
    return reference._replace(threshold=float(np.median(reference.similarities(features))))
