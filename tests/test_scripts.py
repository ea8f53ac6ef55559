"""The four scripts one after the other, as a user runs them."""

import csv
import os
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import CLASSES, assert_one_error, leftovers, make_flat_download, read

from pyimagesearch import (
    artifacts,
    checkpoint,
    config,
    console,
    features,
    files,
    images,
    views,
)
from pyimagesearch.recipe import METHODS, Phase

BOTH = pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])


def train(script, method):
    if method == "logistic_regression":
        assert script("extract_features")[0] == 0
    status, out, said = script("train", "--method", method)
    assert status == 0, said
    return out, said


def evaluation_photos():
    return images.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)


@BOTH
def test_scripts_in_sequence_leave_a_classifier_its_report_and_its_pictures(built, script, method):
    out, said = train(script, method)
    folder = config.OUTPUT_DIR / "tiny" / method
    metrics = read(folder / "metrics.json")
    assert read(folder / "classes.json") == list(CLASSES)
    assert set(metrics["classes"]) == set(CLASSES)
    assert sum(each["support"] for each in metrics["classes"].values()) == 15
    assert metrics["photos"] == {"training": 21, "validation": 12, "evaluation": 15}
    assert metrics["precision"] == "float32"
    assert metrics["seed"] == config.SEED
    assert metrics["seconds"] > 0
    assert "keras" in metrics["versions"]
    assert "support" in out
    assert "support" in (folder / "report.txt").read_text()
    assert "next: python predict.py" in said
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
    status, together, said = script(
        "predict", "--method", method, "--top", 3, "--image", *photos.paths
    )
    assert status == 0, said
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
    from pyimagesearch import report

    evaluated = []
    real = report.as_numbers
    monkeypatch.setattr(
        report, "as_numbers", lambda *each: evaluated.append(each[1]) or real(*each)
    )
    train(script, method)
    classifier = artifacts.load(config.OUTPUT_DIR / "tiny" / method)
    photos = evaluation_photos()
    for batch_size in (1, 4, 5):
        rows = classifier.ask(images.batches(photos.paths, classifier.image_size, batch_size))
        np.testing.assert_allclose(rows, evaluated[-1], atol=1e-4)


def test_csv_holds_every_photo_once_in_order_bit_for_bit(built, script):
    from pyimagesearch import networks

    assert script("extract_features")[0] == 0
    folder = config.OUTPUT_DIR / "tiny" / "features"
    recipe = config.RECIPES["tiny"]
    extractor = networks.build_feature_extractor(recipe, str(config.WEIGHTS))
    for split in (config.TRAIN, config.VAL, config.TEST):
        # What judges goes through the network as it is saved.
        asked = networks.in_float32(extractor) if split == config.TEST else extractor
        run = networks.forward(asked)
        photos = images.list_photos(config.DATASET_DIR, recipe, split)
        pixels = images.batches(photos.paths, 32, recipe.batch_size)
        expected = np.concatenate(list(map(run, pixels)))
        rows = features.read_split(folder, split, photos, expected.shape[1])
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))
    assert read(folder / "classes.json") == list(CLASSES)


def test_a_second_run_of_each_script_changes_nothing(built, script):
    train(script, "logistic_regression")
    train(script, "fine_tune")
    files = [path for path in config.OUTPUT_DIR.rglob("*") if path.is_file()]
    files += [path for path in config.DATASET_DIR.rglob("*.jpg")]
    before = {path: path.stat().st_mtime_ns for path in files}
    for name, *arguments in (
        ("build_dataset",),
        ("extract_features",),
        ("train", "--method", "logistic_regression"),
        ("train", "--method", "fine_tune"),
    ):
        status, _, said = script(name, *arguments)
        assert status == 0
        assert "up to date" in said or "trained already" in said
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_training_starts_again_when_the_recipe_changes_and_says_what_did(built, tiny, script):
    train(script, "fine_tune")
    tiny(batch_size=5)
    _, said = train(script, "fine_tune")
    assert "training again: batch_size changed" in said


def test_features_are_extracted_again_when_the_photos_change(built, script):
    assert script("extract_features")[0] == 0
    (config.DATASET_DIR / "tiny" / "training" / "zebra" / "0_0.jpg").unlink()
    status, _, said = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(said, "photos of training have changed", "python extract_features.py")
    status, _, said = script("extract_features")
    assert status == 0
    assert "extracting again: the photos of training have changed" in said
    assert script("train", "--method", "logistic_regression")[0] == 0


def test_seconds_of_an_extraction_that_was_stopped_count(built, script, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    folder = config.OUTPUT_DIR / "tiny" / "features"
    with monkeypatch.context() as patch:
        patch.setattr(features, "write_rows", stop)
        assert script("extract_features")[0] == 130
    begun = read(folder / features.BEGUN)
    assert begun["csvs"]["training"]["seconds"] > 0
    begun["csvs"]["training"]["seconds"] = 1000
    files.write_json(folder / features.BEGUN, begun)
    status, _, said = script("extract_features")
    assert status == 0
    assert re.search(r"training: 21 photos -> .* columns, 16 min 4\d s\)", said)
    assert read(folder / features.MADE_FROM)["seconds"] > 1000


def test_no_waiting_is_told_where_no_photo_was_read(built, script, monkeypatch):
    write_json = files.write_json

    def stop(path, value):
        if path.name == "classes.json":
            raise KeyboardInterrupt
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", stop)
        assert script("extract_features")[0] == 130
    status, _, said = script("extract_features")
    assert status == 0
    assert said.count("finished before the interruption") == 3
    assert "waited for photos" not in said
    made = read(config.OUTPUT_DIR / "tiny" / "features" / features.MADE_FROM)
    assert made["waiting_share"] is None
    assert made["seconds"] > 0


def test_pictures_asked_for_anew_do_not_start_a_stopped_training_over(
    built, tiny, script, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "save_network", stop)
        assert script("train", "--method", "fine_tune")[0] == 130
    tiny(mistakes=4, smoothing=0.5)
    _, said = train(script, "fine_tune")
    assert "going on after unfrozen" in said
    folder = config.OUTPUT_DIR / "tiny" / "fine_tune"
    assert {path.name for path in folder.glob("*_smoothed.png")} == {
        f"{name}_smoothed.png" for name in ("warmup", "unfrozen", "history")
    }


def test_a_checkpoint_that_is_not_gone_on_with_is_deleted(trained, script):
    left = trained() / artifacts.CHECKPOINT
    left.write_bytes(b"of a forced training that was stopped at once")
    _, said = train(script, "fine_tune")
    assert "is trained already" in said
    assert not left.exists()


def test_more_mistakes_are_shown_when_they_are_asked_for(trained, tiny, script):
    trained("logistic_regression")
    tiny(mistakes=4)
    _, said = train(script, "logistic_regression")
    assert "training again: mistakes changed" in said


def test_seconds_of_views_count_when_their_storing_was_stopped(built, script, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(views, "open_views", stop)
        patch.setattr(checkpoint.Checkpoint, "total_seconds", 1000)
        assert script("train", "--method", "fine_tune")[0] == 130
    _, said = train(script, "fine_tune")
    assert "going on after" not in said
    assert read(config.OUTPUT_DIR / "tiny" / "fine_tune" / "metrics.json")["seconds"] > 1000


@pytest.mark.parametrize("method", METHODS)
def test_the_next_command_asks_what_was_trained_and_can_be_typed(
    built, tiny, script, monkeypatch, method
):
    recipe = replace(config.RECIPES["tiny"], name="my tiny", method="fine_tune")
    monkeypatch.setattr(config, "RECIPES", {"my tiny": recipe})
    monkeypatch.setattr(config, "RECIPE", "my tiny")
    said = script("build_dataset")[2]
    if method == "logistic_regression":
        said = script("extract_features")[2]
    commands = []
    for _ in range(2):
        command = shlex.split(said.splitlines()[-1].split("next: ")[1])
        commands.append(command)
        status, _, said = script(command[1].removesuffix(".py"), *command[2:])
        assert status == 0, said
    assert commands[0][1] == "train.py"
    assert commands[1][1] == "predict.py"
    assert f"asking {config.OUTPUT_DIR / 'my tiny' / method}" in said


def test_a_training_stopped_before_it_is_saved_is_only_saved(trained, script, monkeypatch):
    folder = trained()
    expected = read(folder / artifacts.METRICS)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "save_network", stop)
        assert script("train", "--force")[0] == 130
    status, _, said = script("train")
    assert status == 0
    assert "going on after unfrozen" in said
    assert "warmup 1/2" not in said
    metrics = read(folder / artifacts.METRICS)
    assert metrics["phases"] == expected["phases"]
    assert metrics["classes"] == expected["classes"]


def test_same_seed_gives_the_same_views_weights_and_metrics_twice(built, script):
    def train_anew():
        shutil.rmtree(config.OUTPUT_DIR, ignore_errors=True)
        train(script, "fine_tune")
        folder = config.OUTPUT_DIR / "tiny" / "fine_tune"
        history = (folder / "history.csv").read_text().splitlines()
        network = artifacts.load_network(folder / artifacts.NETWORK)
        return {
            "history": [line.rsplit(",", 1)[0] for line in history],  # without seconds
            "phases": read(folder / artifacts.METRICS)["phases"],
            "weights": [weight.tobytes() for weight in network.get_weights()],
            "views": {p.name: p.read_bytes() for p in folder.with_name("cache").glob("*.npy")},
        }

    first = train_anew()
    assert first["views"]
    assert train_anew() == first


@BOTH
def test_predict_needs_nothing_from_config_but_the_folder(trained, tiny, script, method):
    trained(method)
    photo = evaluation_photos().paths[0]
    _, before, _ = script("predict", "--method", method, "--image", photo)
    tiny(classes=("one", "two"), image_size=64, preprocessing="rescale")
    config.WEIGHTS = "nowhere.weights.h5"
    _, after, _ = script("predict", "--method", method, "--image", photo)
    assert after == before


def test_predict_writes_copies_400_pixels_wide_and_keeps_namesakes_apart(trained, script, tmp_path):
    from conftest import make_photo
    from PIL import Image

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
    tiny(phases=(Phase("head", augment=False, epochs=1),))
    train(script, method)
    drawn = {path.name for path in (config.OUTPUT_DIR / "tiny").glob("*.png")}
    assert drawn == {"first_look.png"}
    if method == "fine_tune":
        tiny()
        train(script, method)
        assert (config.OUTPUT_DIR / "tiny" / "augmentation.png").is_file()


def test_accuracy_asked_for_and_not_reached_ends_with_status_1(trained, script):
    path = trained() / "metrics.json"
    path.write_text(path.read_text().replace('"accuracy": ', '"accuracy": 0.5, "was": ', 1))
    command = ("train", "--method", "fine_tune", "--assert-accuracy-at-least")
    status, out, said = script(*command, 0.51)
    assert status == 1
    assert "support" in out
    assert_one_error(said, "accuracy is 0.5", "0.51")
    assert script(*command, 0.5)[0] == 0
    status, _, said = script(*command, 85)
    assert status == 2
    assert_one_error(said, "--assert-accuracy-at-least", "85", "0.85")


@pytest.mark.parametrize("options", [("--tensorboard",), ("--export", "onnx")])
def test_a_missing_optional_package_is_said_before_training(built, script, monkeypatch, options):
    real = console.importlib.util.find_spec
    hidden = ("tensorboard", "tf2onnx")
    monkeypatch.setattr(
        console.importlib.util, "find_spec", lambda name, *_: None if name in hidden else real(name)
    )
    status, _, said = script("train", *options)
    assert status == 2
    assert_one_error(said, options[-1], "pip install -r requirements-extras.txt")
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


def test_sixteen_bits_learn_and_what_is_judged_and_saved_computes_in_32(built, script, monkeypatch):
    monkeypatch.setattr(config, "PRECISION", "mixed_bfloat16")
    for method in ("logistic_regression", "fine_tune"):
        train(script, method)
        folder = config.OUTPUT_DIR / "tiny" / method
        network, _ = artifacts.load_whole(folder)
        policies = {layer.dtype_policy.name for layer in network.layers if layer.weights}
        assert policies == {"float32"}
        assert read(folder / "metrics.json")["precision"] == "mixed_bfloat16"
        photos = evaluation_photos()
        classifier = artifacts.load(folder)
        answers = classifier.ask(images.batches(photos.paths, classifier.image_size, 4))
        accuracy = np.mean(answers.argmax(axis=1) == photos.labels)
        assert read(folder / "metrics.json")["accuracy"] == pytest.approx(accuracy)


def test_predict_before_training_names_the_command(built, script):
    status, _, said = script("predict", "--image", "x.jpg")
    assert status == 2
    assert_one_error(said, "no finished classifier", "python train.py --recipe tiny")


def test_train_before_extracting_names_the_command(built, script):
    status, _, said = script("train", "--method", "logistic_regression")
    assert status == 2
    assert_one_error(said, "training.csv is missing", "python extract_features.py --recipe tiny")


def test_scripts_before_building_name_the_command(tiny, script):
    for name in ("extract_features", "train"):
        status, _, said = script(name)
        assert status == 2
        assert_one_error(said, "is missing", "python build_dataset.py --recipe tiny")


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
        assert "of 15 evaluation photos" in text


def test_a_page_that_is_missing_is_written_without_training_again(trained, script):
    page = trained() / "report.html"
    page.unlink()
    status, _, said = script("train")
    assert status == 0
    assert "is trained already" in said
    assert page.is_file()


def test_no_augmentation_is_shown_where_none_is_left(trained, tiny, script):
    drawn = trained().with_name("augmentation.png")
    assert drawn.is_file()
    tiny(phases=(Phase("head", augment=False),))
    train(script, "fine_tune")
    assert not drawn.exists()


def test_a_training_that_was_interrupted_leaves_no_curves_to_another(trained, script):
    """Its history.csv, and so its pictures, are later than the metrics.json of the one before."""
    os.utime(trained() / artifacts.HISTORY)
    status, _, said = script("train")
    assert status == 0
    assert "training again: history.csv changed" in said
    status, _, said = script("train")
    assert "is trained already" in said


def test_logs_for_tensorboard_are_of_one_training(trained, script):
    folder = trained()
    old = folder / "tensorboard" / "warmup" / "old"
    old.parent.mkdir(parents=True)
    old.touch()
    assert script("train", "--method", "fine_tune", "--force")[0] == 0
    assert not old.exists()
