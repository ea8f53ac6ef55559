"""An error is one [ERROR] line with its remedy and exit status 2, and no file is half written."""

import errno
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
    assert_one_error,
    is_root,
    leftovers,
    make_flat_download,
    make_photo,
    tiny_phase,
    write_csv,
)
from sklearn.linear_model import LogisticRegression

from pyimagesearch import (
    checkpoint,
    classifier,
    config,
    datasets,
    features,
    images,
    networks,
    training,
)
from pyimagesearch.recipe import Head
from pyimagesearch.report import annotation
from pyimagesearch.support import array_files, exports, files

NOBODY = 65534  # the id of Linux's user without any permissions
ONE_PHASE = (tiny_phase("warmup"),)
FEATURES = Path("output/tiny/features")
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


def damage(path):
    """Invert the middle of a file and cut its end off."""
    data = Path(path).read_bytes()
    third = len(data) // 3
    turned = bytes(255 - byte for byte in data[third : 2 * third])
    Path(path).write_bytes(data[:third] + turned)


# The download


def test_missing_source_is_refused_with_where_to_get_it(tiny, refused):
    tiny(download="Kaggle: some/zebras")
    refused("build_dataset", words=["Tiny is missing", "Kaggle: some/zebras", "config.py"])


def test_source_that_is_a_file_is_refused(tiny, refused):
    Path("Tiny").write_bytes(b"PK")
    refused("build_dataset", words=["Tiny is not a folder", "config.py"])


@pytest.mark.parametrize("name", ["build_dataset", "extract_features", "train", "predict"])
def test_unknown_recipe_is_refused_with_the_known_ones(tiny, refused, name):
    make_photo(Path("photo.jpg"), 0, 0)
    image = ("--image", "photo.jpg") if name == "predict" else ()
    words = ["no recipe 'nope'", "config.py has: tiny"]
    refused(name, "--recipe", "nope", *image, words=words)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("batch_size=20", "batch_size=0", ["recipe", "batch_size is 0", "a whole number from 1"]),
        (
            "official_counts={TRAIN: 9866",
            "oficial_counts={TRAIN: 9866",
            ["line ", "Recipe has no field 'oficial_counts'", "Did you mean 'official_counts'?"],
        ),
        ('method="fine_tune",', 'method="fine_tune"', ["line ", "comma"]),
    ],
    ids=["wrong value", "misspelt field", "missing comma"],
)
@pytest.mark.parametrize("name", ["build_dataset.py", "train.py", "tools/get_sample.py"])
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
    assert not leftovers()


@pytest.mark.parametrize(
    ("layer", "words"),
    [("block9_pool", ["a layer of VGG16 such as"]), ("photos", ["unfreeze_after"])],
)
def test_layer_that_the_network_cannot_be_cut_at_is_refused(built, tiny, refused, layer, words):
    tiny(phases=(tiny_phase("warmup"), tiny_phase("unfrozen", unfreeze_after=layer)))
    refused("train", words=["phases[1].unfreeze_after", repr(layer), *words])


def test_label_outside_the_classes_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 1, 1), labels=4)
    refused("build_dataset", words=["3_0.jpg has label 3", "classes 0 to 2", "config.py"])
    assert not Path("dataset").exists()


def test_empty_split_folder_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 0, 1))
    Path("Tiny/validation").mkdir()
    refused("build_dataset", words=["Tiny", "no photos", "validation", "complete?"])
    assert not Path("dataset").exists()


def test_missing_split_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 0, 1))
    refused("build_dataset", words=["Tiny has no folder 'validation'", "source"])
    assert not Path("dataset").exists()


def test_class_without_photos_is_refused(tiny, refused):
    make_flat_download("Tiny", (1, 1, 1))
    Path("Tiny/evaluation/1_0.jpg").unlink()
    words = ["no photos of class 'Noodles/Pasta'", "evaluation", "recipe's classes"]
    refused("build_dataset", words=words)
    assert not Path("dataset").exists()


def test_class_whose_photos_are_all_broken_is_refused_and_they_are_listed(tiny, refused):
    make_flat_download("Tiny", (2, 1, 1))
    for path in Path("Tiny/training").glob("1_*"):
        path.write_text("no picture")
    refused("build_dataset", words=["no photos of class 'Noodles/Pasta'", "training"])
    assert Path("dataset/tiny/rejected.csv").read_text().count("not a picture") == 2
    refused("extract_features", words=["training/Noodles-Pasta", "python build_dataset.py"])


# The disk


@contextmanager
def permissions_count():
    """Give up root's right to read and write everything, for as long as the block takes."""
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
    # What the script imports may be root's own to read.
    script(name, "--recipe", "nope")
    mode = Path(locked).stat().st_mode
    Path(locked).chmod(0)
    try:
        with permissions_count():
            refused(name, words=[locked, "permission denied", "chmod"])
    finally:
        Path(locked).chmod(mode)


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_an_output_folder_that_may_not_be_written_is_refused(built, script, refused, name):
    script(name, "--recipe", "nope")
    Path("output").mkdir(mode=0o555)
    with permissions_count():
        refused(name, words=["output/tiny", "permission denied", "chmod"])


class FullDisk:
    """Lets a function fail as on a full disk once it has been called `after` times."""

    def __init__(self, monkeypatch, owner, name, after=0):
        self.monkeypatch, self.owner, self.name = monkeypatch, owner, name
        self.function, self.calls_left = getattr(owner, name), after
        monkeypatch.setattr(owner, name, lambda *a, **k: self.call(*a, **k))

    def call(self, *arguments, **named):
        if self.calls_left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.calls_left -= 1
        return self.function(*arguments, **named)

    def free(self):
        """Make room: from now on the function works."""
        self.monkeypatch.setattr(self.owner, self.name, self.function)


@pytest.fixture
def full_disk(monkeypatch):
    """Return a function (owner, name, after=0) that makes a FullDisk."""
    return lambda *where, **options: FullDisk(monkeypatch, *where, **options)


FULL = ["the disk is full", "Free some space", "run the same command again"]


def test_full_disk_while_building_is_one_error(tiny, refused, full_disk):
    make_flat_download("Tiny")
    full_disk(shutil, "copy2", after=10)
    refused("build_dataset", words=FULL)
    copies = list(Path("dataset").rglob("*.jpg"))
    assert len(copies) == 10
    for copy in copies:
        images.read_rgb(copy)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(array_files.os, "fsync"), (features, "write_csv"), (keras.Model, "save")],
    ids=["outputs", "rows", "network"],
)
def test_full_disk_while_extracting_is_one_error(built, refused, full_disk, owner, name):
    full_disk(owner, name)
    refused("extract_features", words=FULL)
    assert not (FEATURES / features.FINGERPRINT_FILE).exists()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(array_files.os, "fsync"), (checkpoint.np, "savez"), (keras.Model, "save")],
    ids=["outputs", "checkpoint", "network"],
)
def test_full_disk_while_fine_tuning_is_one_error(built, tiny, refused, full_disk, owner, name):
    tiny(phases=ONE_PHASE)
    full_disk(owner, name)
    refused("train", words=FULL, prints=name == "save")
    assert not (config.OUTPUT_DIR / "tiny/fine_tune/metrics.json").exists()


def test_full_disk_while_saving_a_regression_is_one_error(built, refused, full_disk):
    make_features()
    full_disk(shutil, "copy2")
    refused("train", "--method", "logistic_regression", words=FULL, prints=True)
    assert not (config.OUTPUT_DIR / "tiny/logistic_regression/metrics.json").exists()


def test_full_disk_between_two_epochs_loses_no_epoch(built, tiny, script, full_disk):
    tiny(phases=(tiny_phase("warmup", epochs=3),), head=tiny().head)
    folder = config.OUTPUT_DIR / "tiny/fine_tune"
    disk = full_disk(checkpoint.np, "savez", after=1)
    status, _, messages = script("train")
    assert status == 2
    assert_one_error(messages, *FULL)
    assert not leftovers()
    disk.free()
    status, _, messages = script("train")
    assert status == 0, messages
    assert "resuming after epoch 1 of warmup" in messages
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 3


def test_full_disk_while_logging_for_tensorboard_is_one_error(built, tiny, refused, full_disk):
    tiny(phases=ONE_PHASE)
    full_disk(training, "tensorboard_callbacks")
    refused("train", "--tensorboard", words=FULL)


@pytest.mark.parametrize("kind", exports.FILES)
def test_full_disk_while_exporting_keeps_the_classifier_and_the_last_export(
    trained, script, full_disk, kind
):
    folder = trained()
    classifier.save_network(folder, little_network(units=5000), CLASSES)
    assert script("train", "--export", kind)[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    disk = full_disk(keras.Model, "export")
    status, _, messages = script("train", "--export", kind)
    assert status == 2
    assert_one_error(messages, *FULL)
    assert not leftovers()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    disk.free()
    assert script("train", "--export", kind)[0] == 0


def test_full_disk_while_copies_are_written_is_one_error(photo, script, full_disk):
    make_classifier("fine_tune")
    full_disk(annotation.Image.Image, "save")
    status, out, messages = script("predict", "--image", photo)
    assert status == 2
    assert "%" in out
    assert_one_error(messages, *FULL)
    assert not leftovers()


# Photos of the dataset that change between one step and the next


def test_a_photo_deleted_after_the_build_is_not_missed(built, script):
    Path("dataset/tiny/training/zebra/0_0.jpg").unlink()
    status, _, messages = script("extract_features")
    assert status == 0
    assert "training: 20 photos" in messages


def test_a_photo_damaged_after_the_build_stops_the_extraction(built, refused):
    path = Path("dataset/tiny/validation/zebra/0_0.jpg")
    path.write_text("gone bad")
    refused("extract_features", words=[str(path), "not a picture", "put it back or delete it"])
    assert not (FEATURES / "validation.csv").exists()
    assert not (FEATURES / features.FINGERPRINT_FILE).exists()


def test_a_photo_that_disappears_during_the_extraction_stops_it(built, refused, monkeypatch):
    path = Path("dataset/tiny/training/apple/2_0.jpg")
    real = networks.set_precision
    monkeypatch.setattr(networks, "set_precision", lambda each: path.unlink() or real(each))
    refused("extract_features", words=[str(path), "Put it back"])
    assert not (FEATURES / "training.csv").exists()


@pytest.mark.parametrize(
    ("views", "split"),
    [(2, config.TRAIN), (2, config.VAL), (None, config.VAL), (2, config.TEST)],
)
def test_a_photo_damaged_after_the_build_stops_fine_tuning(built, tiny, refused, views, split):
    tiny(views=views, phases=ONE_PHASE)
    path = Path("dataset/tiny", split, "zebra", "0_1.jpg")
    path.write_text("gone bad")
    refused("train", words=[str(path), "not a picture", "put it back or delete it"])
    assert not (config.OUTPUT_DIR / "tiny/fine_tune/metrics.json").exists()


# Features


def make_features(columns=4):
    """Write random features of the built dataset, as extract_features.py leaves them."""
    recipe = config.RECIPES["tiny"]
    names = (config.TRAIN, config.VAL, config.TEST)
    splits = datasets.list_splits(config.DATASET_DIR, recipe, names)
    for seed, (name, photos) in enumerate(zip(names, splits, strict=True)):
        rows = np.random.default_rng(seed).random((len(photos), columns), np.float32)
        write_csv(FEATURES / f"{name}.csv", photos.labels, rows)
    fingerprint = features.fingerprint(recipe, splits, config.PRECISION, config.WEIGHTS)
    facts = {"columns": columns, "precision": "float32", "seconds": 0.0}
    little_network(outputs=columns).save(FEATURES / features.BACKBONE_FILE)
    files.write_json(FEATURES / features.FINGERPRINT_FILE, fingerprint | facts)


def little_network(outputs=3, units=1):
    """Return a network from photos of 32 x 32 pixels to probabilities, of no use but whole."""
    photos = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(photos))
    x = keras.layers.Dense(units)(x)
    return keras.Model(photos, keras.layers.Dense(outputs, activation="softmax")(x))


@pytest.fixture
def regression_refused(refused):
    """Return a function that runs train.py on the features, which has to refuse."""

    def run(*words):
        refused("train", "--method", "logistic_regression", words=words)
        assert not (config.OUTPUT_DIR / "tiny/logistic_regression/metrics.json").exists()

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


def test_features_of_other_weights_are_not_taken_for_current(
    built, script, monkeypatch, random_weights
):
    assert script("extract_features")[0] == 0
    other = shutil.copy(random_weights, "other.weights.h5")
    monkeypatch.setattr(config, "WEIGHTS", other)
    for touched in (0, 1):  # another file, and then another of the same name
        os.utime(other, (touched, touched))
        status, _, messages = script("extract_features")
        assert status == 0
        assert "up to date" not in messages
    os.utime(other)
    status, _, messages = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(messages, "the file of WEIGHTS changed", "extract_features.py")


def cut_a_row(rows):
    """Take the end of the last row away."""
    return rows.rstrip("\n").rsplit(",", 2)[0]


def cut_a_number(rows):
    """Take the end of the last number away."""
    return rows[:-3]


def drop_a_row(rows):
    """Take the last row away."""
    return "".join(rows.splitlines(keepends=True)[:-1])


def drop_a_column(rows):
    """Take the last number of every row away."""
    return "".join(row.rsplit(",", 1)[0] + "\n" for row in rows.splitlines())


def drop_a_field(rows):
    """Take the last number of the first row away."""
    first, rest = rows.split("\n", 1)
    return first.rsplit(",", 1)[0] + "\n" + rest


def spoil_a_number(rows):
    """Put nan in place of the first number after the label."""
    label, _, rest = rows.split(",", 2)
    return f"{label},nan,{rest}"


def put_first(text):
    """Return a function that puts other text in place of the first label, a 0."""
    return lambda rows: text + rows[1:]


@pytest.mark.parametrize("split", [config.TRAIN, config.TEST])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_a_row, "is cut short"),
        (cut_a_number, "is cut short"),
        (drop_a_row, "rows that are not the"),
        (drop_a_column, "columns"),
        (drop_a_field, "its rows differ in length. Make"),
        (put_first("zebra"), "could not parse `zebra`"),
        (spoil_a_number, "values that are not numbers"),
        (put_first("nan"), "values that are not numbers"),
        (put_first("7"), "has label 7, which is not that of a class"),
        (put_first("-1"), "has label -1, which is not that of a class"),
        (put_first("0.5"), "has label 0.5, which is not that of a class"),
        (put_first("1"), "rows that are not the"),
        (lambda rows: "", "is cut short"),
    ],
)
def test_damaged_csv_is_refused(built, regression_refused, split, spoil, words):
    make_features()
    path = FEATURES / f"{split}.csv"
    path.write_text(spoil(path.read_text()))
    regression_refused(str(path), words, f"{EXTRACT} --force")


@pytest.mark.parametrize("name", ["training.csv", "evaluation.csv", "backbone.keras"])
def test_missing_file_of_the_features_is_refused_with_what_brings_it_back(
    built, regression_refused, name
):
    make_features()
    (FEATURES / name).unlink()
    regression_refused(f"{FEATURES / name} is missing", f"{EXTRACT} --force")


# Trained classifiers


def make_classifier(method):
    """Write a classifier as train.py leaves it, in no time; return its folder."""
    folder = config.OUTPUT_DIR / "tiny" / method
    network = little_network()
    if method == "fine_tune":
        classifier.save_network(folder, network, CLASSES)
    else:
        network.save("backbone.keras")
        regression = LogisticRegression().fit(np.eye(3, dtype=np.float32), [0, 1, 2])
        classifier.save_regression(folder, regression, CLASSES, "backbone.keras")
    files.write_json(folder / classifier.METRICS_FILE, {})
    return folder


FILES = [
    ("fine_tune", "model.keras"),
    ("fine_tune", "classes.json"),
    ("logistic_regression", "model.skops"),
    ("logistic_regression", "backbone.keras"),
    ("logistic_regression", "classes.json"),
]


@pytest.fixture
def photo(tiny):
    """Write a photo to ask about; return its path."""
    make_photo(Path("photo.jpg"), 0, 0)
    return "photo.jpg"


@pytest.mark.parametrize("method", ["fine_tune", "logistic_regression"])
def test_whole_classifier_of_these_tests_answers(photo, script, method):
    make_classifier(method)
    status, out, messages = script("predict", "--method", method, "--image", photo)
    assert status == 0, messages
    assert "%" in out


@pytest.mark.parametrize(("method", "name"), FILES)
@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, damage, lambda path: path.write_bytes(b""), lambda path: path.write_text("?")],
    ids=["missing", "damaged", "empty", "text"],
)
def test_spoilt_classifier_is_refused_with_what_makes_it_again(photo, refused, method, name, spoil):
    path = make_classifier(method) / name
    spoil(path)
    # Without --force, train.py would find it trained already.
    remedy = f"{TRAIN} --method {method} --force"
    refused("predict", "--method", method, "--image", photo, words=[str(path), remedy])


# Settings


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_weights_that_are_not_there_are_refused(built, refused, monkeypatch, name):
    monkeypatch.setattr(config, "WEIGHTS", Path("nowhere.weights.h5"))
    refused(name, words=["WEIGHTS", "'nowhere.weights.h5'", "not a file", "'imagenet'"])


@pytest.mark.parametrize("name", ["extract_features", "train"])
@pytest.mark.parametrize("kind", ["other network", "text"])
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_something_else_are_refused(built, refused, monkeypatch, name, kind):
    if kind == "text":
        Path("mine.weights.h5").write_text("no weights")
    else:
        little_network().save_weights("mine.weights.h5")
    monkeypatch.setattr(config, "WEIGHTS", "mine.weights.h5")
    refused(
        name, words=["mine.weights.h5", "VGG16 without its top", "Set WEIGHTS in", "'imagenet'"]
    )


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_misspelt_precision_is_refused(built, refused, monkeypatch, name):
    monkeypatch.setattr(config, "PRECISION", "float23")
    refused(name, words=["PRECISION is 'float23'", "'mixed_bfloat16'"])


@pytest.mark.parametrize("top", ["0", "-1", "two"])
def test_top_other_than_a_count_is_refused(photo, refused, top):
    make_classifier("fine_tune")
    refused("predict", "--image", photo, "--top", top, words=["--top", top])


def test_an_argument_that_no_script_has_is_refused(tiny, refused):
    refused("build_dataset", "--recipy", "tiny", words=["--recipy", "--help"])


def test_a_photo_that_disappears_while_training_starts_is_named(built, tiny, script, monkeypatch):
    tiny(phases=ONE_PHASE)
    path = Path("dataset/tiny/validation/apple/2_0.jpg")
    real = networks.set_precision
    monkeypatch.setattr(networks, "set_precision", lambda each: path.unlink() or real(each))
    status, _, messages = script("train")
    assert status == 2
    assert_one_error(messages, str(path), "Put it back")


def test_folders_given_as_texts_do_as_well_as_paths(tiny, script, monkeypatch):
    monkeypatch.setattr(config, "DATASET_DIR", "photos")
    monkeypatch.setattr(config, "OUTPUT_DIR", "results")
    make_flat_download("Tiny")
    assert script("build_dataset")[0] == 0
    assert Path("photos/tiny/training/zebra").is_dir()


def test_names_that_are_no_text_or_look_like_formulas_go_the_whole_road(built, tiny, script):
    tiny(phases=ONE_PHASE)
    strange = (os.fsdecode(b"caf\xe9.jpg"), "$x^$.jpg", "a $ b $.jpg")
    for split in (config.TRAIN, config.TEST):
        for number, name in enumerate(strange):
            shutil.copy(
                f"dataset/tiny/{split}/zebra/0_{number}.jpg", f"dataset/tiny/{split}/apple/{name}"
            )
    status, _, messages = script("train")
    assert status == 0, messages
    paths = [Path("dataset/tiny/evaluation/apple", name) for name in strange]
    status, _, messages = script("predict", "--image", *paths)
    assert status == 0, messages


def test_long_names_of_wide_letters_fit_the_file_system(built, tiny, script):
    make_classifier("fine_tune")
    for folder in ("one", "two"):
        Path(folder).mkdir()
        shutil.copy("dataset/tiny/training/zebra/0_0.jpg", f"{folder}/{'漢' * 83}.jpg")
    photos = [f"{folder}/{'漢' * 83}.jpg" for folder in ("one", "two")]
    status, _, messages = script("predict", "--image", *photos)
    assert status == 0, messages
    assert len(list(Path("output/tiny/predictions").iterdir())) == 2
