"""The four scripts one after the other, as a user runs them."""

import json
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
    make_flat_download,
    make_photo,
    read,
    tiny_phase,
    write_random_weights,
)

from pyimagesearch import classifier, config, datasets, images
from pyimagesearch.recipe import (
    EXPORTS,
    METHODS,
    SMALLEST_IMAGE,
    SMALLEST_IMAGE_OF_OTHERS,
    Head,
    Regression,
)
from pyimagesearch.report import evaluation
from pyimagesearch.support import calibration

BOTH = pytest.mark.parametrize("method", METHODS)
OUTPUT = Path("output/tiny")
HEAD = (tiny_phase("head", augment=False),)  # the cheapest fine-tuning
UNTRACED = pytest.mark.usefixtures("untraced")


@pytest.fixture
def run(script):
    """Return a function that runs a script successfully and returns (stdout, stderr)."""

    def run(name, *arguments):
        status, out, messages = script(name, *arguments)
        assert status == 0, messages
        return out, messages

    return run


def evaluation_photos():
    return datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)


# Training, evaluation and prediction agree


@BOTH
def test_saved_classifier_gives_the_probabilities_of_the_evaluation(
    built, tiny, run, monkeypatch, method
):
    evaluated, compute_metrics = [], evaluation.compute_metrics

    def remember(truth, probabilities, classes):
        evaluated.append(probabilities)
        return compute_metrics(truth, probabilities, classes)

    monkeypatch.setattr(evaluation, "compute_metrics", remember)
    # A fitted one may be 1, which changes nothing.
    monkeypatch.setattr(calibration, "fit_temperature", lambda logits, labels: 3.0)
    # After two phases, evaluation reads stored outputs; the saved network reads photos. A height
    # and a width must not be mixed up anywhere.
    phases = (*HEAD, tiny_phase("tail", augment=False, unfreeze_after="block4_pool"))
    settings = Regression(layers=("block4_pool",), unit_length=True, C=(1, 10))
    tiny(phases=phases, image_size=(32, 64), regression=settings)
    if method == "logistic_regression":
        run("extract_features")
    run("train", "--method", method)
    loaded, photos = classifier.load(OUTPUT / method), evaluation_photos()
    assert loaded.image_size == (32, 64)
    assert len(evaluated) == (2 if method == "fine_tune" else 1)
    for batch_size in (1, 4, 5):
        pixels = images.read_batches(photos.paths, loaded.image_size, batch_size)
        rows = np.concatenate([loaded.predict(batch) for batch in pixels])
        np.testing.assert_allclose(rows, evaluated[-1], atol=1e-5)


@BOTH
def test_predict_agrees_with_the_evaluation_on_every_photo(trained, run, method):
    metrics, photos = read(trained(method) / "metrics.json"), evaluation_photos()
    arguments = ("--method", method, "--top", 1, "--image")
    out, messages = run("predict", *arguments, *photos.paths)
    correct = round(metrics["accuracy"] * 15)
    counts = f"{correct} of 15 photos in folders of classes are correct"
    assert f"{counts}: accuracy {metrics['accuracy']:.3f} (95 % interval " in messages
    assert out.count("  correct\n") == correct
    predicted = []
    for line, path in zip(out.splitlines(), photos.paths, strict=True):
        name, _, _ = line.removeprefix(f"{path}  ").partition(": ")
        predicted.append(CLASSES.index(name))
    for label, name in enumerate(CLASSES):
        of_class = [
            guess for guess, truth in zip(predicted, photos.labels, strict=True) if truth == label
        ]
        recall = of_class.count(label) / len(of_class)
        assert recall == pytest.approx(metrics["classes"][name]["recall"])
    assert np.mean(predicted == photos.labels) == pytest.approx(metrics["accuracy"])


# The way from a download to a prediction


@pytest.mark.soak
@UNTRACED
@pytest.mark.parametrize(
    "backbone",
    [
        *("VGG19", "ResNet50", "ResNet50V2", "MobileNet", "MobileNetV2", "MobileNetV3Small"),
        *("DenseNet121", "InceptionV3", "InceptionResNetV2", "Xception", "NASNetMobile"),
        *("EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"),
    ],
)
def test_a_network_of_each_family_goes_all_the_way(
    built, tiny, run, monkeypatch, tmp_path, backbone
):
    """From features to exports, with random weights: no real ones can be downloaded everywhere."""
    import keras

    size = SMALLEST_IMAGE.get(backbone, SMALLEST_IMAGE_OF_OTHERS)
    weights = write_random_weights(tmp_path, getattr(keras.applications, backbone), size)
    monkeypatch.setattr(config, "WEIGHTS", weights)
    tiny(
        backbone=backbone,
        image_size=size,
        head=Head(pooling="average", units=None, dropout=0, output="softmax"),
        phases=(tiny_phase("warmup"), tiny_phase("unfrozen", unfreeze_after="auto")),
    )
    run("extract_features")
    run("train", "--method", "logistic_regression")
    run("train", "--export", *EXPORTS)
    options = ("--format", "json", "--copies", 0, "--image", *evaluation_photos().paths[:3])
    answers = [run("predict", *fast, *options)[0] for fast in ((), ("--fast",))]
    plain, fast = (
        [
            {each["class"]: each["probability"] for each in json.loads(line)["classes"]}
            for line in answer.splitlines()
        ]
        for answer in answers
    )
    assert len(plain) == 3
    for one, other in zip(plain, fast, strict=True):
        assert one == pytest.approx(other, abs=0.01)


@UNTRACED
@BOTH
def test_each_next_command_can_be_typed_and_leads_to_a_prediction(tiny, run, monkeypatch, method):
    make_flat_download("Tiny")
    recipe = replace(tiny(phases=HEAD), name="my tiny", method=method)
    monkeypatch.setattr(config, "RECIPES", {"my tiny": recipe})
    monkeypatch.setattr(config, "RECIPE", "my tiny")
    commands, command = [], "python build_dataset.py"
    while command:
        _, name, *arguments = shlex.split(command)
        commands.append(name)
        out, messages = run(name.removesuffix(".py"), *arguments)
        command = messages.rpartition("next: ")[2].strip() if "next: " in messages else None
    extract = ["extract_features.py"] if method == "logistic_regression" else []
    assert commands == ["build_dataset.py", *extract, "train.py", "predict.py"]
    assert f"output/my tiny/{method}, with the classes" in messages
    assert "%" in out


@UNTRACED
@BOTH
def test_splits_may_have_other_names(tiny, run, monkeypatch, method):
    for name, split in (("TRAIN", "train"), ("VAL", "val"), ("TEST", "test")):
        monkeypatch.setattr(config, name, split)
    monkeypatch.setattr(config, "SPLITS", ("train", "val", "test"))
    make_flat_download("Tiny")
    tiny(phases=HEAD)
    run("build_dataset")
    if method == "logistic_regression":
        run("extract_features")
        assert {path.stem for path in OUTPUT.glob("features/*.csv")} == {"train", "val", "test"}
    run("train", "--method", method)
    page = (OUTPUT / method / "report.html").read_text(encoding="utf-8")
    assert "accuracy on 15 evaluation photos" in page


@UNTRACED
def test_folders_of_the_config_may_be_strings(tiny, run, monkeypatch):
    monkeypatch.setattr(config, "DATASET_DIR", "photos")
    monkeypatch.setattr(config, "OUTPUT_DIR", "results")
    make_flat_download("Tiny", photos=(2, 1, 1))
    tiny(phases=HEAD)
    run("build_dataset")
    run("extract_features")
    run("train", "--method", "logistic_regression")
    run("predict", "--image", "photos/tiny/evaluation/zebra/0_0.jpg")
    assert Path("results/tiny/predictions/0_0.png").is_file()
    assert not Path("dataset").exists()
    assert not Path("output").exists()


@UNTRACED
def test_names_that_are_not_unicode_or_look_like_formulas_go_all_the_way(
    built, tiny, run, real_figures
):
    tiny(phases=(tiny_phase("head"),), mistakes=99)
    strange = (os.fsdecode(b"caf\xe9.jpg"), "$x^$.jpg", "a $ b $.jpg")
    for split in (config.TRAIN, config.TEST):
        folder = Path("dataset/tiny", split)
        for number, name in enumerate(strange):
            shutil.copy(folder / "zebra" / f"0_{number}.jpg", folder / "apple" / name)
        # The pictures of the report have the names as captions. Few other photos are drawn too.
        for path in [*folder.rglob("*_[1-9].jpg")]:
            path.unlink()
    run("train")
    out, _ = run("predict", "--image", *(folder / "apple" / name for name in strange))
    assert len(out.splitlines()) == 3


# What the scripts leave alone


def snapshot(folder):
    """Return {path: (bytes or None, time)} of everything except dataset/ and output/."""
    own_folders = (Path(folder) / config.DATASET_DIR, Path(folder) / config.OUTPUT_DIR)
    return {
        path: (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if not any(path == own or own in path.parents for own in own_folders)
    }


@UNTRACED
@BOTH
def test_scripts_change_no_file_of_the_user_and_connect_to_nothing(tiny, run, monkeypatch, method):
    connections = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: connections.append(address))
    make_flat_download("Tiny", photos=(2, 1, 1))
    make_photo(Path("mine", "holiday.jpg"), 1, 1)
    Path("mine", "diary.txt").write_text("dear diary")
    Path("Tiny", "training", "0_link.jpg").symlink_to(Path("mine", "holiday.jpg").absolute())
    before = snapshot(".")
    tiny(phases=HEAD)
    run("build_dataset")
    if method == "logistic_regression":
        run("extract_features")
        run("train", "--method", method)
    else:
        run("train", "--method", method, "--export", "litert")
    run("predict", "--image", "mine", "Tiny", "--explain")
    assert snapshot(".") == before
    assert connections == []
