"""A mistake, a damaged file or a full disk is one [ERROR] line with its remedy.

The exit status is 2, there is no traceback, and no file is left unfinished.
"""

import errno
import fnmatch
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import (
    CLASSES,
    ROOT,
    SPLIT_NAMES,
    assert_one_error,
    is_root,
    leftovers,
    make_flat_download,
    make_photo,
    tiny_phase,
    write_csv,
)
from sklearn.linear_model import LogisticRegression

from pyimagesearch import classifier, config, datasets, features, images, networks, training
from pyimagesearch.recipe import Head
from pyimagesearch.support import array_files, exports, files, similarity

pytestmark = pytest.mark.usefixtures("untraced")

NOBODY = 65534  # the id of Linux's user without any permissions
ONE_PHASE = (tiny_phase("warmup", augment=False),)
OUTPUT, FEATURES = Path("output/tiny"), Path("output/tiny/features")
EXTRACT, TRAIN = "python extract_features.py --recipe tiny", "python train.py --recipe tiny"


@pytest.fixture
def refused(script):
    """Return a function that runs a script and expects one error line with these words."""

    def run(name, *arguments, words, prints=False):
        status, out, messages = script(name, *arguments)
        assert status == 2, messages
        assert bool(out) == prints
        assert_one_error(messages, *words)
        assert not leftovers()

    return run


# config.py


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [
        (
            "train.py",
            "batch_size=20",
            "batch_size=0",
            ["recipe", "batch_size is 0", "a whole number from 1"],
        ),
        (
            "build_dataset.py",
            "official_counts={TRAIN: 9866",
            "oficial_counts={TRAIN: 9866",
            ["line ", "Recipe has no field 'oficial_counts'", "Did you mean 'official_counts'?"],
        ),
        ("extract_features.py", 'method="fine_tune",', 'method="fine_tune"', ["line ", "comma"]),
        ("tools/get_sample.py", "batch_size=20", "batch_size=0", ["batch_size is 0"]),
    ],
    ids=["wrong value", "misspelt field", "missing comma", "tool"],
)
def test_wrong_config_is_one_error(name, right, wrong, words):
    shutil.copytree(ROOT / "pyimagesearch", "pyimagesearch")
    Path("tools").mkdir()
    shutil.copy(ROOT / name, name)
    settings = Path("pyimagesearch/config.py").read_text()
    assert right in settings
    Path("pyimagesearch/config.py").write_text(settings.replace(right, wrong, 1))
    command = (sys.executable, name)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert_one_error(result.stderr, "pyimagesearch/config.py", *words)


@pytest.mark.parametrize("name", ["build_dataset", "extract_features", "train", "predict"])
def test_unknown_recipe_is_refused_with_the_known_ones(tiny, refused, name):
    make_photo(Path("photo.jpg"), 0, 0)
    image = ("--image", "photo.jpg") if name == "predict" else ()
    refused(name, "--recipe", "nope", *image, words=["no recipe 'nope'", "config.py has: tiny"])


def test_unknown_argument_is_refused_with_help(tiny, refused):
    refused("build_dataset", "--recipy", "tiny", words=["--recipy", "--help"])


@pytest.mark.parametrize(
    ("layer", "words"),
    [("block9_pool", ["a layer of VGG16 such as"]), ("photos", ["unfreeze_after"])],
)
def test_layer_that_the_network_cannot_be_cut_at_is_refused(built, tiny, refused, layer, words):
    tiny(phases=(tiny_phase("warmup"), tiny_phase("unfrozen", unfreeze_after=layer)))
    refused("train", words=["phases[1].unfreeze_after", repr(layer), *words])


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_missing_weights_are_refused(built, refused, monkeypatch, name):
    monkeypatch.setattr(config, "WEIGHTS", Path("nowhere.weights.h5"))
    refused(name, words=["WEIGHTS", "'nowhere.weights.h5'", "not a file", "'imagenet'"])


@pytest.mark.parametrize("name", ["extract_features", "train"])
@pytest.mark.parametrize("kind", ["another network", "text"])
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_something_else_are_refused(built, refused, monkeypatch, name, kind):
    if kind == "text":
        Path("mine.weights.h5").write_text("no weights")
    else:
        small_network().save_weights("mine.weights.h5")
    monkeypatch.setattr(config, "WEIGHTS", "mine.weights.h5")
    words = ["mine.weights.h5", "VGG16 without its top", "Set WEIGHTS in", "'imagenet'"]
    refused(name, words=words)


# The download


def test_missing_source_is_refused_with_where_to_get_it(tiny, refused):
    tiny(download="Kaggle: some/zebras")
    refused("build_dataset", words=["Tiny is missing", "Kaggle: some/zebras", "config.py"])


def test_source_that_is_a_file_is_refused(tiny, refused):
    Path("Tiny").write_bytes(b"PK")
    refused("build_dataset", words=["Tiny is not a folder", "config.py"])


def test_label_of_one_class_too_many_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 1, 1), labels=4)
    refused("build_dataset", words=["3_0.jpg has label 3", "classes 0 to 2", "config.py"])
    assert not Path("dataset").exists()


def test_empty_split_folder_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 0, 1))
    Path("Tiny/validation").mkdir()
    refused("build_dataset", words=["Tiny", "no photos", "validation", "complete?"])
    assert not Path("dataset").exists()


def test_class_without_training_photos_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 1, 1))
    Path("Tiny/training/1_0.jpg").unlink()
    refused("build_dataset", words=["class 'Noodles/Pasta' has 0 and needs 1", "Add photos"])


def test_class_whose_photos_are_all_damaged_is_refused_and_they_are_listed(tiny, refused):
    make_flat_download("Tiny", (2, 1, 1))
    for path in Path("Tiny/training").glob("1_*"):
        path.write_text("no picture")
    refused("build_dataset", words=["class 'Noodles/Pasta' has 0 and needs 1", "read"])
    assert Path("dataset/tiny/rejected.csv").read_text().count("not a picture") == 2
    refused("extract_features", words=["dataset/tiny/training", "python build_dataset.py"])


# Photos of the dataset that change after the build


def test_photo_deleted_after_the_build_is_not_missed(built, script):
    Path("dataset/tiny/training/zebra/0_0.jpg").unlink()
    status, _, messages = script("extract_features")
    assert status == 0
    assert "training: 20 photos" in messages


def test_photo_damaged_after_the_build_stops_the_extraction(built, refused):
    path = Path("dataset/tiny/validation/zebra/0_0.jpg")
    path.write_text("gone bad")
    refused("extract_features", words=[str(path), "not a picture", "put it back or delete it"])
    assert not (FEATURES / "validation.csv").exists()
    assert not (FEATURES / features.FINGERPRINT_FILE).exists()


@pytest.mark.parametrize(
    ("views", "split"),
    [(2, config.TRAIN), (2, config.VAL), (None, config.TRAIN), (None, config.VAL)],
)
def test_photo_damaged_after_the_build_stops_fine_tuning(built, tiny, refused, views, split):
    """With fresh augmentation, the photos are read by threads of TensorFlow."""
    tiny(views=views, phases=(tiny_phase("warmup"),))
    path = Path("dataset/tiny", split, "zebra", "0_1.jpg")
    path.write_text("gone bad")
    refused("train", words=[str(path), "not a picture", "put it back or delete it"])
    assert not (OUTPUT / "fine_tune/metrics.json").exists()


@pytest.mark.parametrize("phases", [ONE_PHASE, None], ids=["one phase", "two phases"])
def test_damaged_evaluation_photo_stops_fine_tuning(built, tiny, refused, phases):
    """After one phase it is read for the evaluation, after two it was read before training."""
    tiny(**{"phases": phases} if phases else {})
    path = Path("dataset/tiny/evaluation/zebra/0_1.jpg")
    path.write_text("gone bad")
    refused("train", words=[str(path), "not a picture", "put it back or delete it"])
    assert not (OUTPUT / "fine_tune/metrics.json").exists()


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_photo_that_disappears_while_a_script_starts_is_named(built, refused, monkeypatch, name):
    path, set_precision = Path("dataset/tiny/validation/apple/2_0.jpg"), networks.set_precision

    def delete_photo(setting):
        path.unlink()
        return set_precision(setting)

    monkeypatch.setattr(networks, "set_precision", delete_photo)
    refused(name, words=[str(path), "Put it back"])
    assert not (FEATURES / "validation.csv").exists()


# Permissions


@contextmanager
def without_the_rights_of_root():
    """Run the block as a user whom permissions can stop."""
    if not is_root():
        yield
        return
    Path().chmod(0o777)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "locked"),
    [
        ("build_dataset", "Tiny/training"),
        ("build_dataset", "Tiny/training/0_0.jpg"),
        ("build_dataset", "dataset/tiny/training/zebra"),
        ("extract_features", "dataset/tiny/training/zebra"),
        ("train", "dataset/tiny/evaluation"),
    ],
)
def test_what_may_not_be_read_is_refused(built, script, refused, name, locked):
    # Only root may read the modules that a first run imports.
    script(name, "--recipe", "nope")
    # Without its record, every photo is read again.
    Path("dataset/tiny/photos.json").unlink()
    mode = Path(locked).stat().st_mode
    Path(locked).chmod(0)
    try:
        with without_the_rights_of_root():
            refused(name, words=[locked, "permission denied", "chmod"])
    finally:
        Path(locked).chmod(mode)


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_output_folder_that_may_not_be_written_is_refused(built, script, refused, name):
    script(name, "--recipe", "nope")
    Path("output").mkdir(mode=0o555)
    with without_the_rights_of_root():
        refused(name, words=["output/tiny", "permission denied", "chmod"])


# A full disk

FULL = ["the disk is full", "Free some space", "run the same command again"]
FULL_DEVICE = Path("/dev/full")  # Linux: each write fails as on a full disk
needs_full_device = pytest.mark.skipif(not FULL_DEVICE.exists(), reason="there is no /dev/full")


@pytest.fixture
def full_disk(monkeypatch):
    """Return a function (pattern, after=0) that lets no more files of this name be written.

    It returns a function that makes room.
    """
    write = files.atomic_write

    def fill(pattern, after=0):
        remaining = iter(range(after))

        @contextmanager
        def write_to_full_disk(path):
            with write(path) as partial:
                if fnmatch.fnmatch(Path(path).name, pattern) and next(remaining, None) is None:
                    partial.symlink_to(FULL_DEVICE)
                yield partial

        monkeypatch.setattr(files, "atomic_write", write_to_full_disk)
        return lambda: monkeypatch.setattr(files, "atomic_write", write)

    return fill


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@needs_full_device
def test_full_disk_while_building_is_one_error(tiny, refused, full_disk):
    make_flat_download("Tiny")
    full_disk("*.jpg", after=10)
    refused("build_dataset", words=FULL)
    copies = list(Path("dataset").rglob("*.jpg"))
    assert len(copies) == 10
    for copy in copies:
        images.read_rgb(copy)


@needs_full_device
@pytest.mark.parametrize("name", ["training.csv", "backbone.keras", "classes.json"])
def test_full_disk_while_extracting_is_one_error(built, refused, full_disk, name):
    full_disk(name)
    refused("extract_features", words=FULL)
    assert not (FEATURES / name).exists()
    assert not (FEATURES / features.FINGERPRINT_FILE).exists()


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_full_disk_while_outputs_are_stored_is_one_error(built, tiny, refused, monkeypatch, name):
    tiny(phases=ONE_PHASE)
    # Another program may need the space that was free when the outputs were planned.
    monkeypatch.setattr(array_files.os, "fsync", no_space)
    refused(name, words=FULL)
    assert not list(OUTPUT.rglob("*.npy"))


@needs_full_device
@pytest.mark.parametrize("name", ["checkpoint.npz", "warmup_confusion.png", "model.keras"])
def test_full_disk_while_fine_tuning_is_one_error(built, tiny, refused, full_disk, name):
    tiny(phases=ONE_PHASE)
    full_disk(name)
    refused("train", words=FULL, prints=name == "model.keras")
    for missing in (name, "metrics.json"):
        assert not list(OUTPUT.glob(f"fine_tune*/{missing}"))


@needs_full_device
@pytest.mark.parametrize("name", ["model.skops", "backbone.keras"])
def test_full_disk_while_saving_a_regression_is_one_error(built, refused, full_disk, name):
    make_features()
    full_disk(name)
    refused("train", "--method", "logistic_regression", words=FULL, prints=True)
    for missing in (name, "metrics.json"):
        assert not list(OUTPUT.glob(f"logistic_regression*/{missing}"))


@needs_full_device
def test_full_disk_between_two_epochs_loses_no_epoch(built, tiny, script, full_disk):
    tiny(phases=(tiny_phase("warmup", epochs=3, augment=False),))
    make_room = full_disk("checkpoint.npz", after=1)
    status, _, messages = script("train")
    assert status == 2
    assert_one_error(messages, *FULL)
    assert not leftovers()
    make_room()
    status, _, messages = script("train")
    assert status == 0, messages
    assert "resuming after epoch 1 of warmup" in messages
    assert len((OUTPUT / "fine_tune/history.csv").read_text().splitlines()) == 1 + 3


def test_full_disk_while_logging_for_tensorboard_is_one_error(built, tiny, refused, monkeypatch):
    tiny(phases=ONE_PHASE)
    monkeypatch.setattr(training, "tensorboard_callback", no_space)
    refused("train", "--tensorboard", words=FULL)


@needs_full_device
@pytest.mark.parametrize("kind", exports.FILES)
def test_full_disk_while_exporting_keeps_the_classifier_and_the_last_export(
    trained, script, refused, full_disk, monkeypatch, kind
):
    folder = trained()
    classifier.save_network(folder, small_network(units=5000), CLASSES)
    (folder / similarity.FILE).unlink()  # it is that of another network
    # A saved_model is a folder.
    last_export = {"saved_model": "saved_model/saved_model.pb"}.get(kind, exports.FILES[kind])
    files.write_text(folder / "exports" / last_export, "the last export")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    make_room = full_disk(exports.FILES[kind])
    with monkeypatch.context() as patch:
        if kind == "saved_model":
            # A folder cannot be written to /dev/full.
            patch.setattr(keras.Model, "export", no_space)
        refused("train", "--export", kind, words=FULL, prints=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    make_room()
    assert script("train", "--export", kind)[0] == 0


@needs_full_device
def test_full_disk_while_copies_are_written_is_one_error(photo, refused, full_disk):
    make_classifier("fine_tune")
    full_disk("*.png")
    refused("predict", "--image", photo, words=FULL, prints=True)


# Features


def small_network(outputs=3, units=1):
    """Return an untrained network from photos of 32 x 32 pixels to probabilities."""
    photos = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(photos))
    x = keras.layers.Dense(units)(x)
    return keras.Model(photos, keras.layers.Dense(outputs, activation="softmax")(x))


def make_features(columns=4):
    """Write random features of the built dataset, as extract_features.py leaves them."""
    recipe = config.RECIPES["tiny"]
    splits = datasets.list_splits(config.DATASET_DIR, recipe, SPLIT_NAMES)
    for seed, (name, photos) in enumerate(zip(SPLIT_NAMES, splits, strict=True)):
        rows = np.random.default_rng(seed).random((len(photos), columns), np.float32)
        write_csv(FEATURES / f"{name}.csv", photos.labels, rows)
    fingerprint = features.fingerprint(recipe, splits, config.PRECISION, config.WEIGHTS)
    facts = {
        "columns": columns,
        "columns_of_last_map": columns,
        "channels": columns,
        "precision": "float32",
        "seconds": 0.0,
    }
    small_network(outputs=columns).save(FEATURES / features.BACKBONE_FILE)
    files.write_json(FEATURES / features.FINGERPRINT_FILE, fingerprint | facts)


@pytest.fixture
def regression_refused(refused):
    """Return a function that runs train.py on the features and expects these words."""

    def run(*words):
        refused("train", "--method", "logistic_regression", words=words)
        assert not (OUTPUT / "logistic_regression/metrics.json").exists()

    return run


def test_features_of_replaced_photos_are_refused(built, regression_refused):
    make_features()
    make_photo(Path("dataset/tiny/evaluation/apple/2_0.jpg"), 2, 77)
    regression_refused("the evaluation photos changed", EXTRACT)


def test_features_of_an_older_dataset_are_refused(built, script, regression_refused):
    make_features()
    make_photo(Path("Tiny/training/0_9.jpg"), 0, 9)
    assert script("build_dataset")[0] == 0
    regression_refused("the training photos changed", EXTRACT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 48}, "image_size was 32 and is now 48"),
        ({"preprocessing": "rescale"}, "preprocessing was None and is now 'rescale'"),
        ({"backbone": "VGG19", "phases": ONE_PHASE}, "backbone was 'VGG16' and is now 'VGG19'"),
        (
            {"head": Head(pooling="average", units=8, dropout=0.5, output="softmax")},
            "pooling was 'flatten' and is now 'average'",
        ),
    ],
    ids=["image_size", "preprocessing", "backbone", "pooling"],
)
def test_features_of_other_settings_are_refused(built, tiny, regression_refused, changes, words):
    make_features()
    tiny(**changes)
    regression_refused(words, EXTRACT)


def cut_a_row(rows):
    """Cut off the end of the last row."""
    return rows.rstrip("\n").rsplit(",", 2)[0]


def cut_a_number(rows):
    """Cut off the end of the last number."""
    return rows[:-3]


def drop_a_row(rows):
    """Remove the last row."""
    return "".join(rows.splitlines(keepends=True)[:-1])


def drop_a_column(rows):
    """Remove the last number of every row."""
    return "".join(row.rsplit(",", 1)[0] + "\n" for row in rows.splitlines())


def drop_a_number(rows):
    """Remove the last number of the first row."""
    first, rest = rows.split("\n", 1)
    return first.rsplit(",", 1)[0] + "\n" + rest


def put_nan(rows):
    """Replace the first number after the label by nan."""
    label, _, rest = rows.split(",", 2)
    return f"{label},nan,{rest}"


def put_label(text):
    """Return a function that replaces the first label, a 0."""
    return lambda rows: text + rows[1:]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_a_row, "is cut short"),
        (cut_a_number, "is cut short"),
        (drop_a_row, "rows that are not the"),
        (drop_a_column, "columns"),
        (drop_a_number, "its rows differ in length. Make"),
        (put_nan, "values that are not numbers"),
        (put_label("zebra"), "could not parse `zebra`"),
        (put_label("nan"), "values that are not numbers"),
        (put_label("7"), "has label 7, which is not that of a class"),
        (put_label("3"), "has label 3, which is not that of a class"),
        (put_label("-1"), "has label -1, which is not that of a class"),
        (put_label("0.5"), "has label 0.5, which is not that of a class"),
        (put_label("1"), "rows that are not the"),
        (lambda rows: "", "rows that are not the"),
    ],
    ids=[
        *("cut row", "cut number", "no last row", "no last column", "number missing", "nan"),
        *("label zebra", "label nan", "label 7", "label 3", "label -1", "label 0.5"),
        *("label of another class", "empty"),
    ],
)
def test_damaged_csv_is_refused(built, regression_refused, spoil, words):
    make_features()
    for path in (FEATURES / "training.csv", FEATURES / "evaluation.csv"):
        intact = path.read_text()
        path.write_text(spoil(intact))
        regression_refused(str(path), words, f"{EXTRACT} --force")
        path.write_text(intact)


@pytest.mark.parametrize("name", ["training.csv", "evaluation.csv", "backbone.keras"])
def test_missing_file_of_the_features_is_refused_with_its_command(built, regression_refused, name):
    make_features()
    (FEATURES / name).unlink()
    regression_refused(f"{FEATURES / name} is missing", EXTRACT)


# Trained classifiers


def make_classifier(method):
    """Write an untrained classifier as train.py leaves it; return its folder."""
    folder = config.OUTPUT_DIR / "tiny" / method
    network = small_network()
    if method == "fine_tune":
        classifier.save_network(folder, network, CLASSES)
    else:
        network.save("backbone.keras")
        regression = LogisticRegression().fit(np.eye(3, dtype=np.float32), [0, 1, 2])
        classifier.save_regression(folder, regression, CLASSES, ".")
    files.write_json(folder / classifier.METRICS_FILE, {})
    return folder


def damage(path):
    """Invert the middle of a file and cut its end off."""
    data = path.read_bytes()
    third = len(data) // 3
    inverted = bytes(255 - byte for byte in data[third : 2 * third])
    path.write_bytes(data[:third] + inverted)


@pytest.fixture
def photo(tiny):
    """Write a photo; return its path."""
    make_photo(Path("photo.jpg"), 0, 0)
    return "photo.jpg"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("fine_tune", "model.keras"),
        ("fine_tune", "classes.json"),
        ("logistic_regression", "model.skops"),
        ("logistic_regression", "backbone.keras"),
        ("logistic_regression", "classes.json"),
    ],
)
def test_classifier_with_a_damaged_file_is_refused_until_the_file_is_intact_again(
    photo, script, refused, method, name
):
    path = make_classifier(method) / name
    intact = path.read_bytes()
    for spoil in (
        Path.unlink,
        damage,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("?"),
    ):
        spoil(path)
        # Without --force, train.py would call it up to date.
        remedy = f"{TRAIN} --method {method} --force"
        refused("predict", "--method", method, "--image", photo, words=[str(path), remedy])
        path.write_bytes(intact)
    status, out, messages = script("predict", "--method", method, "--image", photo)
    assert status == 0, messages
    assert "%" in out


@pytest.mark.parametrize("method", ["fine_tune", "logistic_regression"])
@pytest.mark.parametrize("count", [2, 4])
def test_classifier_with_a_class_too_few_or_too_many_is_refused(photo, refused, method, count):
    path = make_classifier(method) / "classes.json"
    files.write_json(path, [*CLASSES, "cat"][:count])
    words = [f"{path} has {count} class names", "3 outputs", f"{TRAIN} --method {method} --force"]
    refused("predict", "--method", method, "--image", photo, words=words)


def test_long_names_of_wide_letters_fit_the_file_system(tiny, script):
    make_classifier("fine_tune")
    photos = [Path(folder, f"{'漢' * 83}.jpg") for folder in ("one", "two")]
    for path in photos:
        make_photo(path, 0, 0)
    status, _, messages = script("predict", "--image", *photos)
    assert status == 0, messages
    assert len(list((OUTPUT / "predictions").iterdir())) == 2
