"""extract_features.py: the features it writes, when it writes them again, and how it resumes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CLASSES,
    SPLIT_NAMES,
    assert_one_error,
    leftovers,
    make_photo,
    read,
    tiny_recipe,
)

from pyimagesearch import config, datasets, features, images, networks
from pyimagesearch.recipe import Regression
from pyimagesearch.support import files

pytestmark = pytest.mark.usefixtures("untraced")

FOLDER = Path("output/tiny/features")
CSVS = [f"{split}.csv" for split in SPLIT_NAMES]
ZEBRA = Path("dataset/tiny/training/zebra/0_0.jpg")


@pytest.fixture
def extract(built, script):
    """Return a function that runs extract_features.py successfully and returns its messages."""

    def run(*arguments):
        status, out, messages = script("extract_features", *arguments)
        assert status == 0, messages
        assert not out
        return messages

    return run


@pytest.fixture
def extracted(trained):
    """Extract the features of the tiny recipe, once for all tests here."""
    trained("logistic_regression")


def contents():
    """Return {name: bytes} of the CSV files."""
    return {path.name: path.read_bytes() for path in FOLDER.glob("*.csv")}


def dates(names=CSVS):
    """Return {name: modification time} of files in the folder of the features."""
    return {name: (FOLDER / name).stat().st_mtime_ns for name in names}


# What it writes


@pytest.mark.parametrize(
    ("precision", "settings"),
    [
        ("float32", Regression()),
        ("mixed_bfloat16", Regression(layers=("block4_pool",), unit_length=True)),
    ],
)
def test_features_are_the_outputs_of_the_network_bit_for_bit(
    extract, monkeypatch, precision, settings
):
    recipe = tiny_recipe(regression=settings)
    monkeypatch.setitem(config.RECIPES, "tiny", recipe)
    monkeypatch.setattr(config, "PRECISION", precision)
    assert f"VGG16 without its top, computing in {precision}" in extract()
    networks.set_precision(precision)
    extractor = networks.build_feature_extractor(recipe, str(config.WEIGHTS))
    splits = datasets.list_splits(config.DATASET_DIR, recipe, SPLIT_NAMES)
    for name, photos in zip(SPLIT_NAMES, splits, strict=True):
        # Evaluation photos are computed in float32, as predict.py computes new photos.
        is_evaluation = name == config.TEST
        network = networks.float32_copy(extractor) if is_evaluation else extractor
        pixels = images.read_batches(photos.paths, 32, recipe.batch_size)
        expected = np.concatenate(list(map(networks.predict_function(network), pixels)))
        expected = expected.astype(np.float32)
        rows = features.read_split(FOLDER / f"{name}.csv", photos, expected.shape[1])
        np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))


def test_folder_has_the_csvs_the_classes_the_network_and_what_they_were_made_from(extract):
    messages = extract()
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {*CSVS, "classes.json", "backbone.keras", "made_from.json"}
    assert read(FOLDER / "classes.json") == list(CLASSES)
    recorded = read(FOLDER / "made_from.json")
    assert (recorded["columns"], recorded["precision"]) == (64, "float32")
    assert recorded["seconds"] > 0
    assert "training: 21 photos -> output/tiny/features/training.csv" in messages
    assert "64 features per photo" in messages
    command = "python train.py --recipe tiny --method logistic_regression"
    assert messages.splitlines()[-1] == f"[INFO] next: {command}"
    assert not leftovers()


# When it extracts again


def test_second_run_changes_nothing_and_says_so(extracted, extract):
    names = [path.name for path in FOLDER.iterdir()]
    before = dates(names)
    assert "output/tiny/features is up to date; --force extracts again" in extract()
    assert dates(names) == before


def test_force_extracts_again(extracted, extract):
    before, expected = dates(), contents()
    extract("--force")
    assert all(dates()[name] > before[name] for name in CSVS)
    assert contents() == expected


@pytest.mark.parametrize("name", ["validation.csv", "backbone.keras"])
def test_file_that_is_missing_is_made_again(extracted, extract, script, name):
    expected = contents()
    (FOLDER / name).unlink()
    status, _, messages = script("train", "--method", "logistic_regression", "--force")
    assert status == 2
    command = "Make it with: python extract_features.py --recipe tiny"
    assert_one_error(messages, f"output/tiny/features/{name} is missing. {command}")
    assert f"extracting again: output/tiny/features/{name} is missing\n" in extract()
    assert contents() == expected


def test_features_are_extracted_again_when_a_photo_is_deleted(extracted, extract, script):
    ZEBRA.unlink()
    status, _, messages = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(messages, "the training photos changed", "python extract_features.py")
    messages = extract()
    assert "[INFO] extracting again: the training photos changed\n" in messages
    assert "training: 20 photos" in messages
    assert script("train", "--method", "logistic_regression")[0] == 0


def test_features_are_extracted_again_when_the_weights_change(
    extracted, extract, script, monkeypatch, random_weights
):
    own = shutil.copy(random_weights, "own.weights.h5")
    monkeypatch.setattr(config, "WEIGHTS", own)
    # Another file, and then another one of the same name.
    for date in (1, 2):
        os.utime(own, (date, date))
        status, _, messages = script("train", "--method", "logistic_regression")
        assert status == 2
        assert_one_error(messages, "the weights file changed", "python extract_features.py")
        assert "extracting again: " in extract()


def test_features_of_an_earlier_version_are_reported_in_one_line_and_extracted_again(
    extracted, extract
):
    expected, recorded = contents(), read(FOLDER / "made_from.json")
    # The earlier version had no "format" and other parts.
    earlier = {name: recorded[name] for name in ("classes", "backbone", "columns", "seconds")}
    files.write_json(FOLDER / "made_from.json", earlier | {"photo_stamps": {}})
    lines = [line for line in extract().splitlines() if "again" in line]
    assert lines == ["[INFO] extracting again: it was made by another version of this project"]
    assert contents() == expected
    assert read(FOLDER / "made_from.json").keys() == recorded.keys()


# After an interruption


@pytest.fixture
def interrupted(extract, script, monkeypatch):
    """Return a function that extracts until a photo is read or a CSV is written, then Ctrl-C."""

    def run(*arguments, at_photo=None, at_csv=None):
        read_resized, write_csv = images.read_resized, features.write_csv

        def read_photo(path, *rest):
            if str(path).endswith(at_photo or "never"):
                raise KeyboardInterrupt
            return read_resized(path, *rest)

        def write(path, *rest):
            if path.stem == at_csv:
                raise KeyboardInterrupt
            write_csv(path, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(images, "read_resized", read_photo)
            patch.setattr(features, "write_csv", write)
            status, _, messages = script("extract_features", *arguments)
        assert status == 130
        assert "Run the same command again to resume" in messages

    return run


@pytest.fixture
def photos_read(monkeypatch):
    """Return the list of the photos that are read from now on, as <split>/<class>/<file>."""
    names, read_resized = [], images.read_resized

    def remember(path, *arguments):
        names.append(str(Path(path).relative_to("dataset/tiny")))
        return read_resized(path, *arguments)

    monkeypatch.setattr(images, "read_resized", remember)
    return names


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["", "force"])
def test_interrupted_extraction_resumes_with_the_same_bytes(
    extracted, extract, interrupted, photos_read, options
):
    expected = contents()
    if not options:
        shutil.rmtree(FOLDER)
    interrupted(*options, at_photo="validation/apple/2_1.jpg")
    photos_read.clear()
    extract(*options)
    assert contents() == expected
    # The photos of training, and the first two batches of validation, were finished.
    assert not [name for name in photos_read if name.startswith("training")]
    assert len([name for name in photos_read if name.startswith("validation")]) == 12 - 2 * 4
    assert not leftovers()
    assert not (FOLDER / "outputs").exists()


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["", "force"])
def test_finished_csv_is_not_computed_or_written_again(
    extracted, extract, interrupted, photos_read, options
):
    expected = contents()
    shutil.rmtree(FOLDER)
    interrupted(*options, at_csv="validation")
    assert [path.name for path in FOLDER.glob("*.csv")] == ["training.csv"]
    before = dates(["training.csv"])
    photos_read.clear()
    messages = extract(*options)
    assert photos_read == []  # the outputs of validation and evaluation are stored
    assert dates(["training.csv"]) == before
    assert "training: 21 photos" not in messages
    assert contents() == expected


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["", "force"])
def test_seconds_of_interrupted_runs_count(extract, interrupted, options):
    interrupted(*options, at_csv="training")
    seconds = FOLDER / features.SECONDS_FILE
    files.write_json(seconds, read(seconds) | {"seconds": 1000})
    interrupted(*options, at_csv="validation")
    assert "64 features per photo (16 min 4" in extract(*options)
    assert read(FOLDER / "made_from.json")["seconds"] > 1000
    assert not seconds.exists()


def test_interrupted_extraction_of_other_photos_does_not_resume(extract, interrupted, photos_read):
    interrupted(at_csv="validation")
    seconds = FOLDER / features.SECONDS_FILE
    files.write_json(seconds, read(seconds) | {"seconds": 1000})
    make_photo(ZEBRA, 2, 99)
    photos_read.clear()
    extract()
    assert "training/zebra/0_0.jpg" in photos_read
    assert read(FOLDER / "made_from.json")["seconds"] < 1000


def test_finished_features_stay_if_another_extraction_cannot_begin(extracted, script, monkeypatch):
    expected = contents()
    monkeypatch.setattr(config, "WEIGHTS", "missing.weights.h5")
    assert script("extract_features")[0] == 2
    assert contents() == expected
    assert (FOLDER / "made_from.json").is_file()
