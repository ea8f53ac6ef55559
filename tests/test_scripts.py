"""The four scripts one after the other, as a user runs them."""

import csv
import os
import shlex
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CLASSES,
    assert_one_error,
    leftovers,
    make_flat_download,
    make_photo,
    read,
    tiny_phase,
)
from PIL import Image

from pyimagesearch import classifier, config, datasets, features, frozen, images
from pyimagesearch.recipe import METHODS
from pyimagesearch.report import evaluation
from pyimagesearch.support import console, files

BOTH = pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])


def train(script, method):
    """Train the tiny recipe; return what train.py prints to stdout and to stderr."""
    if method == "logistic_regression":
        assert script("extract_features")[0] == 0
    status, out, messages = script("train", "--method", method)
    assert status == 0, messages
    return out, messages


def evaluation_photos():
    """Return the evaluation photos of the tiny recipe."""
    return datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)


@BOTH
def test_scripts_in_sequence_leave_a_classifier_its_report_and_its_pictures(built, script, method):
    out, messages = train(script, method)
    folder = config.OUTPUT_DIR / "tiny" / method
    metrics = read(folder / "metrics.json")
    assert read(folder / "classes.json") == list(CLASSES)
    assert set(metrics["classes"]) == set(CLASSES)
    assert sum(row["support"] for row in metrics["classes"].values()) == 15
    assert metrics["photos"] == {"training": 21, "validation": 12, "evaluation": 15}
    assert metrics["precision"] == "float32"
    assert metrics["seed"] == config.SEED
    assert metrics["seconds"] > 0
    assert "keras" in metrics["versions"]
    assert "support" in out
    assert "support" in (folder / "report.txt").read_text()
    assert "next: python predict.py" in messages
    if method == "fine_tune":
        drawn = {path.name for path in folder.glob("*.png")}
        for phase in ("warmup", "unfrozen"):
            assert {f"{phase}.png", f"{phase}_confusion.png", f"{phase}_mistakes.png"} <= drawn
        with open(folder / "history.csv") as file:
            rows = list(csv.DictReader(file))
        assert [(row["phase"], row["epoch"]) for row in rows] == [
            ("warmup", "1"),
            ("warmup", "2"),
            ("unfrozen", "1"),
        ]
        assert set(metrics["phases"]) == {"warmup", "unfrozen"}
    assert not leftovers()


@BOTH
def test_predict_agrees_with_the_evaluation_on_every_photo(trained, script, method):
    trained(method)
    photos = evaluation_photos()
    status, together, messages = script(
        "predict", "--method", method, "--top", 3, "--image", *photos.paths
    )
    assert status == 0, messages
    alone = [
        script("predict", "--method", method, "--top", 3, "--image", path)[1].strip()
        for path in photos.paths[:3]
    ]
    lines = together.strip().splitlines()
    assert lines[:3] == alone

    right = sum(
        line.removeprefix(f"{path}  ").startswith(f"{CLASSES[label]}: ")
        for line, path, label in zip(lines, photos.paths, photos.labels, strict=True)
    )
    accuracy = read(config.OUTPUT_DIR / "tiny" / method / "metrics.json")["accuracy"]
    assert right / len(photos) == pytest.approx(accuracy)


@BOTH
def test_saved_classifier_gives_the_probabilities_of_the_evaluation(
    built, script, method, monkeypatch
):
    evaluated, as_numbers = [], evaluation.as_numbers

    def remember(truth, probabilities, classes):
        evaluated.append(probabilities)
        return as_numbers(truth, probabilities, classes)

    monkeypatch.setattr(evaluation, "as_numbers", remember)
    train(script, method)
    loaded, photos = classifier.load(config.OUTPUT_DIR / "tiny" / method), evaluation_photos()
    for batch_size in (1, 4, 5):
        pixels = images.read_batches(photos.paths, loaded.image_size, batch_size)
        rows = np.concatenate([loaded.predict(batch) for batch in pixels])
        np.testing.assert_allclose(rows, evaluated[-1], atol=1e-4)


def test_csv_has_every_photo_once_in_order_bit_for_bit(built, script):
    from pyimagesearch import networks

    assert script("extract_features")[0] == 0
    folder = config.OUTPUT_DIR / "tiny" / "features"
    recipe = config.RECIPES["tiny"]
    extractor = networks.build_feature_extractor(recipe, str(config.WEIGHTS))
    for split in (config.TRAIN, config.VAL, config.TEST):
        # Evaluation features are computed by the network that is saved.
        is_evaluation = split == config.TEST
        network = networks.float32_copy(extractor) if is_evaluation else extractor
        photos = datasets.list_photos(config.DATASET_DIR, recipe, split)
        pixels = images.read_batches(photos.paths, 32, recipe.batch_size)
        expected = np.concatenate(list(map(networks.predict_function(network), pixels)))
        rows = features.read_split(folder / f"{split}.csv", photos, expected.shape[1])
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))
    assert read(folder / "classes.json") == list(CLASSES)
    names = {path.name for path in folder.iterdir()}
    csvs = {f"{split}.csv" for split in (config.TRAIN, config.VAL, config.TEST)}
    assert names == csvs | {"classes.json", "backbone.keras", "made_from.json"}


def test_a_second_run_of_each_script_changes_nothing(built, script):
    train(script, "logistic_regression")
    train(script, "fine_tune")
    paths = [path for path in config.OUTPUT_DIR.rglob("*") if path.is_file()]
    paths += config.DATASET_DIR.rglob("*.jpg")
    before = {path: path.stat().st_mtime_ns for path in paths}
    for name, *arguments in (
        ("build_dataset",),
        ("extract_features",),
        ("train", "--method", "logistic_regression"),
        ("train", "--method", "fine_tune"),
    ):
        status, _, messages = script(name, *arguments)
        assert status == 0
        assert "up to date" in messages
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_training_starts_again_when_the_recipe_changes_and_says_what_did(built, tiny, script):
    train(script, "fine_tune")
    tiny(batch_size=5)
    _, messages = train(script, "fine_tune")
    assert "training again: batch_size was 4 and is now 5" in messages


def test_features_are_extracted_again_when_the_photos_change(built, script):
    assert script("extract_features")[0] == 0
    (config.DATASET_DIR / "tiny" / "training" / "zebra" / "0_0.jpg").unlink()
    status, _, messages = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(messages, "the training photos changed", "python extract_features.py")
    status, _, messages = script("extract_features")
    assert status == 0
    assert "extracting again: the training photos changed" in messages
    assert script("train", "--method", "logistic_regression")[0] == 0


def interrupt(*_, **__):
    raise KeyboardInterrupt


def pretend_seconds(path, seconds):
    """Change the seconds that a stopwatch has saved."""
    files.write_json(path, read(path) | {"seconds": seconds})


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_interrupted_extraction_resumes_with_the_same_bytes(built, script, monkeypatch, options):
    folder = config.OUTPUT_DIR / "tiny" / "features"
    assert script("extract_features")[0] == 0
    expected = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    if not options:
        shutil.rmtree(folder)
    write_csv, written = features.write_csv, []

    def interrupt_second(path, *arguments):
        written.append(path.name)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_csv(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(features, "write_csv", interrupt_second)
        status, _, messages = script("extract_features", *options)
    assert status == 130
    assert "Run the same command again to resume" in messages
    pretend_seconds(folder / features.SECONDS_FILE, 1000)
    (folder / "training.csv").touch()
    before = (folder / "training.csv").stat().st_mtime_ns
    status, _, messages = script("extract_features", *options)
    assert status == 0, messages
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == expected
    assert (folder / "training.csv").stat().st_mtime_ns == before
    assert "16 min 4" in messages
    assert read(folder / features.FINGERPRINT_FILE)["seconds"] > 1000


def test_interrupted_extraction_of_other_photos_does_not_resume(built, script, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "compute", interrupt)
        assert script("extract_features")[0] == 130
    folder = config.OUTPUT_DIR / "tiny" / "features"
    pretend_seconds(folder / features.SECONDS_FILE, 1000)
    make_photo(config.DATASET_DIR / "tiny/training/zebra/0_0.jpg", 2, 99)
    assert script("extract_features")[0] == 0
    assert read(folder / features.FINGERPRINT_FILE)["seconds"] < 1000


def test_other_figures_do_not_start_an_interrupted_training_over(built, tiny, script, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "save_network", interrupt)
        assert script("train", "--method", "fine_tune")[0] == 130
    tiny(mistakes=4)
    _, messages = train(script, "fine_tune")
    assert "resuming after unfrozen" in messages


def test_more_mistakes_in_the_recipe_train_again(trained, tiny, script):
    trained("logistic_regression")
    tiny(mistakes=4)
    _, messages = train(script, "logistic_regression")
    assert "training again: mistakes was 9 and is now 4" in messages


def test_seconds_of_an_interrupted_computation_count(built, script, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "compute", interrupt)
        assert script("train", "--method", "fine_tune")[0] == 130
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune"
    pretend_seconds(folder / "seconds.json", 1000)
    _, messages = train(script, "fine_tune")
    assert "resuming after" not in messages
    assert read(folder / "metrics.json")["seconds"] > 1000
    assert not (folder / "seconds.json").exists()


@pytest.mark.parametrize("method", METHODS)
def test_next_command_can_be_typed_and_uses_what_was_trained(
    built, tiny, script, monkeypatch, method
):
    recipe = replace(config.RECIPES["tiny"], name="my tiny", method="fine_tune")
    monkeypatch.setattr(config, "RECIPES", {"my tiny": recipe})
    monkeypatch.setattr(config, "RECIPE", "my tiny")
    messages = script("build_dataset")[2]
    if method == "logistic_regression":
        messages = script("extract_features")[2]
    commands = []
    for _ in range(2):
        command = shlex.split(messages.splitlines()[-1].split("next: ")[1])
        commands.append(command)
        status, _, messages = script(command[1].removesuffix(".py"), *command[2:])
        assert status == 0, messages
    assert commands[0][1] == "train.py"
    assert commands[1][1] == "predict.py"
    assert f"{config.OUTPUT_DIR / 'my tiny' / method}, with the classes" in messages


def test_a_training_stopped_before_it_is_saved_is_only_saved(trained, script, monkeypatch):
    folder = trained()
    expected = read(folder / classifier.METRICS_FILE)
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "save_network", interrupt)
        assert script("train", "--force")[0] == 130
    status, _, messages = script("train")
    assert status == 0
    assert "resuming after unfrozen" in messages
    assert "warmup 1/2" not in messages
    metrics = read(folder / classifier.METRICS_FILE)
    assert metrics["phases"] == expected["phases"]
    assert metrics["classes"] == expected["classes"]


def test_same_seed_gives_the_same_stored_outputs_weights_and_metrics(built, script):
    def train_anew():
        shutil.rmtree(config.OUTPUT_DIR, ignore_errors=True)
        train(script, "fine_tune")
        folder = config.OUTPUT_DIR / "tiny" / "fine_tune"
        history = (folder / "history.csv").read_text().splitlines()
        network = classifier.load_network(folder / classifier.NETWORK_FILE)
        return {
            "history": [line.rsplit(",", 1)[0] for line in history],  # without seconds
            "phases": read(folder / classifier.METRICS_FILE)["phases"],
            "weights": [weight.tobytes() for weight in network.get_weights()],
            "stored": {p.name: p.read_bytes() for p in folder.with_name("cache").glob("*.npy")},
        }

    first = train_anew()
    assert first["stored"]
    assert train_anew() == first


@BOTH
def test_predict_needs_nothing_from_config_but_the_folder(trained, tiny, script, method):
    trained(method)
    photo = evaluation_photos().paths[0]
    _, before, _ = script("predict", "--method", method, "--image", photo)
    tiny(classes=("one", "two"), image_size=64, preprocessing="rescale")
    config.WEIGHTS = "nowhere.weights.h5"  # `tiny` resets it
    _, after, _ = script("predict", "--method", method, "--image", photo)
    assert after == before


def test_predict_writes_copies_400_pixels_wide_and_keeps_namesakes_apart(trained, script, tmp_path):
    trained()
    for folder in ("here", "there"):
        make_photo(tmp_path / folder / "photo.jpg", 0, 1)
    status, out, _ = script("predict", "--image", "here/photo.jpg", "there/photo.jpg")
    assert status == 0
    assert len(out.splitlines()) == 2
    copies = sorted((config.OUTPUT_DIR / "tiny" / "predictions").iterdir())
    assert [path.name for path in copies] == ["photo (2).png", "photo.png"]
    assert all(Image.open(path).width == 400 for path in copies)


@BOTH
def test_classes_are_drawn_before_training_and_the_augmentation_only_where_there_is_one(
    built, tiny, script, method
):
    tiny(phases=(tiny_phase("head", augment=False),))
    train(script, method)
    drawn = {path.name for path in (config.OUTPUT_DIR / "tiny").glob("*.png")}
    assert drawn == {"first_look.png"}
    if method == "fine_tune":
        tiny()
        train(script, method)
        assert (config.OUTPUT_DIR / "tiny" / "augmentation.png").is_file()


def test_accuracy_below_the_required_one_is_status_1(trained, script):
    path = trained() / "metrics.json"
    path.write_text(path.read_text().replace('"accuracy": ', '"accuracy": 0.5, "was": ', 1))
    command = ("train", "--method", "fine_tune", "--assert-accuracy-at-least")
    status, out, messages = script(*command, 0.51)
    assert status == 1
    assert "support" in out
    assert_one_error(messages, "accuracy is 0.5", "less than 0.51")
    assert script(*command, 0.5)[0] == 0
    status, _, messages = script(*command, 85)
    assert status == 2
    assert_one_error(messages, "--assert-accuracy-at-least", "85", "0.85")


@pytest.mark.parametrize("options", [("--tensorboard",), ("--export", "onnx")])
def test_missing_optional_package_is_reported_before_training(built, script, monkeypatch, options):
    real = console.importlib.util.find_spec
    hidden = ("tensorboard", "tf2onnx")
    monkeypatch.setattr(
        console.importlib.util, "find_spec", lambda name, *_: None if name in hidden else real(name)
    )
    status, _, messages = script("train", *options)
    assert status == 2
    assert_one_error(messages, options[-1], "pip install -r requirements-extras.txt")
    assert not config.OUTPUT_DIR.exists()


def test_tensorboard_finds_every_phase(built, script):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert script("train", "--method", "fine_tune", "--tensorboard")[0] == 0
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune" / "tensorboard"
    for phase, epochs in (("warmup", 2), ("unfrozen", 1)):
        events = EventAccumulator(str(folder / phase / "validation"))
        events.Reload()
        assert "epoch_accuracy" in events.Tags()["tensors"]
        assert len(events.Tensors("epoch_accuracy")) == epochs


def test_classifier_trained_in_16_bits_is_evaluated_and_saved_in_float32(
    built, script, monkeypatch
):
    monkeypatch.setattr(config, "PRECISION", "mixed_bfloat16")
    for method in ("logistic_regression", "fine_tune"):
        train(script, method)
        folder = config.OUTPUT_DIR / "tiny" / method
        network = classifier.load(folder).network
        policies = {layer.dtype_policy.name for layer in network.layers if layer.weights}
        assert policies == {"float32"}
        assert read(folder / "metrics.json")["precision"] == "mixed_bfloat16"
        photos, loaded = evaluation_photos(), classifier.load(folder)
        pixels = np.concatenate([loaded.read([path]) for path in photos.paths])
        accuracy = np.mean(loaded.predict(pixels).argmax(axis=1) == photos.labels)
        assert read(folder / "metrics.json")["accuracy"] == pytest.approx(accuracy)


def test_predict_before_training_names_the_command(built, script):
    make_photo(config.DATASET_DIR / "x.jpg", 0, 0)
    status, _, messages = script("predict", "--image", config.DATASET_DIR / "x.jpg")
    assert status == 2
    assert_one_error(messages, "no finished classifier", "python train.py --recipe tiny")


def test_train_before_extracting_names_the_command(built, script):
    status, _, messages = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(
        messages, "training.csv is missing", "python extract_features.py --recipe tiny"
    )


def test_scripts_before_building_name_the_command(tiny, script):
    for name in ("extract_features", "train"):
        status, _, messages = script(name)
        assert status == 2
        assert_one_error(messages, "is missing", "python build_dataset.py --recipe tiny")


def test_fresh_augmentation_makes_the_same_files_and_stores_no_views(tiny, trained, script):
    folder = trained()
    expected = {path.name for path in folder.iterdir()}
    shutil.rmtree(config.OUTPUT_DIR)
    tiny(views=None)
    train(script, "fine_tune")
    differing = expected ^ {path.name for path in folder.iterdir()}
    # A sheet is drawn where there is something to show on it.
    assert all(name.endswith(("mistakes.png", "uncertain.png")) for name in differing)
    assert not folder.with_name("cache").exists()


def test_splits_may_have_other_names(tiny, script, monkeypatch):
    for name, split in (("TRAIN", "train"), ("VAL", "val"), ("TEST", "test")):
        monkeypatch.setattr(config, name, split)
    make_flat_download("Tiny")
    assert script("build_dataset")[0] == 0
    for method in METHODS:
        train(script, method)
        text = (config.OUTPUT_DIR / "tiny" / method / "report.html").read_text(encoding="utf-8")
        assert "accuracy on 15 evaluation photos" in text


def test_a_page_that_is_missing_is_written_without_training_again(trained, script):
    page = trained() / "report.html"
    page.unlink()
    status, _, messages = script("train")
    assert status == 0
    assert "is up to date" in messages
    assert page.is_file()


def test_no_augmentation_is_shown_where_none_is_left(trained, tiny, script):
    drawn = trained().with_name("augmentation.png")
    assert drawn.is_file()
    tiny(phases=(tiny_phase("head", augment=False),))
    train(script, "fine_tune")
    assert not drawn.exists()


def test_a_training_that_was_interrupted_leaves_no_curves_to_another(trained, script):
    """Its history.csv, and so its pictures, are later than the metrics.json of the one before."""
    os.utime(trained() / classifier.HISTORY_FILE)
    status, _, messages = script("train")
    assert status == 0
    assert "training again: another training began here and was interrupted" in messages
    status, _, messages = script("train")
    assert "is up to date" in messages


def test_logs_for_tensorboard_are_of_one_training(trained, script):
    folder = trained()
    old = folder / "tensorboard" / "warmup" / "old"
    old.parent.mkdir(parents=True)
    old.touch()
    assert script("train", "--method", "fine_tune", "--force")[0] == 0
    assert not old.exists()


def snapshot(folder):
    """Return {path: (bytes or None, time)} of everything except dataset/ and output/."""
    own_folders = (Path(folder) / config.DATASET_DIR, Path(folder) / config.OUTPUT_DIR)
    return {
        path: (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if not any(path == own or own in path.parents for own in own_folders)
    }


def test_the_scripts_change_no_file_of_the_user_and_connect_to_nothing(
    tiny, script, monkeypatch, tmp_path
):
    connections = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: connections.append(address))
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
        status, _, messages = script(*command)
        assert status == 0, messages
    assert snapshot(".") == before
    assert connections == []
