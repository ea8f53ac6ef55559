"""predict.py: photos, folders, patterns and addresses in; predictions and annotated copies out."""

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import CLASSES, assert_one_error, make_photo, read
from PIL import Image

from pyimagesearch import config, datasets
from pyimagesearch.report import answers
from pyimagesearch.support import files

pytestmark = pytest.mark.usefixtures("untraced")

BOTH = pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])
COPIES = Path("output/tiny/predictions")


@pytest.fixture
def photos(trained):
    """Fine-tune the tiny recipe; return the paths of its 15 evaluation photos."""
    trained()
    return evaluation_photos()


@pytest.fixture
def predict(script):
    """Return a function that predicts photos successfully and returns (stdout, stderr)."""

    def run(*names, options=()):
        status, out, messages = script("predict", "--image", *names, *options)
        assert status == 0, messages
        return out, messages

    return run


def evaluation_photos():
    return datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST).paths


def copies():
    """Return the names of the annotated copies."""
    return sorted(path.name for path in COPIES.iterdir()) if COPIES.is_dir() else []


# Which photos


def test_every_photo_gets_one_line_in_the_order_of_the_arguments(photos, predict):
    out, messages = predict(photos[7], photos[2], photos[11])
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert names == [str(photos[7]), str(photos[2]), str(photos[11])]
    assert "output/tiny/fine_tune, with the classes zebra, Noodles/Pasta, apple" in messages


def test_folder_and_pattern_stand_for_their_photos_by_name(photos, predict):
    folder = photos[0].parent
    out, _ = predict(*sorted(folder.iterdir()))
    assert len(out.splitlines()) == 5
    assert predict(folder)[0] == predict(folder / "*.jpg")[0] == out


def test_a_photo_is_predicted_the_same_alone_and_among_others(photos, predict):
    together, _ = predict(*photos)
    assert predict(photos[3])[0] == together.splitlines(keepends=True)[3]


def test_photo_that_cannot_be_read_is_reported_and_the_others_are_predicted(photos, script):
    Path("empty.jpg").touch()
    Path("half.jpg").write_bytes(photos[0].read_bytes()[:400])
    status, out, messages = script("predict", "--image", "empty.jpg", photos[0], "half.jpg")
    assert status == 1
    assert [line.split("  ")[0] for line in out.splitlines()] == [str(photos[0])]
    errors = [line for line in messages.splitlines() if line.startswith("[ERROR]")]
    assert ["empty.jpg" in errors[0], "half.jpg" in errors[1]] == [True, True]
    assert len(errors) == 2


def test_wrong_path_is_one_error_and_no_model_is_loaded(photos, script):
    status, out, messages = script("predict", "--image", "nowhere.jpg")
    assert status == 2
    assert not out
    assert_one_error(messages, "nowhere.jpg", "No such file", "--image")
    assert "loading model" not in messages


def test_folder_without_photos_is_one_error(photos, script):
    Path("nothing").mkdir()
    status, out, messages = script("predict", "--image", "nothing")
    assert status == 2
    assert not out
    assert_one_error(messages, "nothing", "a folder without photos")


# What is printed


def test_formats_contain_the_same_predictions(photos, predict):
    table, lines, rows = (
        predict(*photos, options=("--top", 2, "--format", each))[0]
        for each in ("table", "json", "csv")
    )
    found = [json.loads(line) for line in lines.splitlines()]
    assert [answer["image"] for answer in found] == list(map(str, photos))
    for answer, line in zip(found, table.splitlines(), strict=True):
        words = [
            f"{each['class']}: {answers.percentage(each['probability'])}"
            for each in answer["classes"]
        ]
        right = answer["classes"][0]["class"] == answer["folder_class"]
        folder = Path(answer["image"]).parent.name
        mark = "correct" if right else f"wrong: it is in {folder}/"
        mark += "  (unlike any training photo)" * answer["unlike_training_photos"]
        assert line == f"{answer['image']}  {', '.join(words)}  {mark}"
    header, *rows = csv.reader(io.StringIO(rows))
    columns = ["image", "class", "probability", "class_2", "probability_2"]
    assert header == [*columns, "unlike_training_photos", "folder_class"]
    for answer, row in zip(found, rows, strict=True):
        first, second = answer["classes"]
        assert row[:2] == [answer["image"], first["class"]]
        assert float(row[4]) == second["probability"]
        assert row[5:] == [str(answer["unlike_training_photos"]).lower(), answer["folder_class"]]


def test_top_prints_the_likeliest_classes_and_never_more_than_there_are(photos, predict):
    def classes(top):
        out, _ = predict(photos[0], options=("--top", top, "--format", "json"))
        return json.loads(out)["classes"]

    every = classes(99)
    assert {each["class"] for each in every} == set(CLASSES)
    assert sum(each["probability"] for each in every) == pytest.approx(1, abs=1e-5)
    assert classes(1) == every[:1]
    assert every[0]["probability"] >= every[1]["probability"] >= every[2]["probability"]


def test_name_with_a_line_break_or_a_comma_stays_one_prediction(photos, predict):
    strange = Path('a "b",\n c.jpg')
    make_photo(strange, 0, 1)
    table, line, rows = (
        predict(strange, options=("--format", each))[0] for each in ("table", "json", "csv")
    )
    assert len(table.splitlines()) == 1
    assert json.loads(line)["image"] == str(strange)
    assert list(csv.reader(io.StringIO(rows)))[1][0] == str(strange)


# Annotated copies


def test_copies_are_400_pixels_wide_and_namesakes_are_numbered(photos, predict):
    for folder in ("here", "there"):
        make_photo(Path(folder, "photo.jpg"), 0, 1)
    _, messages = predict("here/photo.jpg", "there/photo.jpg")
    assert copies() == ["photo (2).png", "photo.png"]
    assert all(Image.open(COPIES / name).width == 400 for name in copies())
    assert "annotated 2 photos -> output/tiny/predictions" in messages


def test_only_the_first_photos_are_annotated_and_the_message_gives_both_counts(photos, predict):
    out, messages = predict(*photos, options=("--copies", 2))
    assert len(out.splitlines()) == 15
    assert copies() == ["0_0.png", "0_1.png"]
    assert "annotated the first 2 of 15 photos" in messages


def test_no_photo_is_annotated_with_copies_0(photos, predict):
    _, messages = predict(photos[0], options=("--copies", 0))
    assert copies() == []
    assert "annotated" not in messages


@BOTH
def test_explain_puts_a_heat_map_beside_the_photo(trained, predict, method):
    trained(method)
    predict(evaluation_photos()[0], options=("--method", method, "--explain"))
    assert copies() == ["0_0_explained.png"]
    assert Image.open(COPIES / "0_0_explained.png").width == 800


# Which classifier


@BOTH
def test_only_the_folder_of_the_classifier_decides_and_not_the_row(
    trained, tiny, predict, monkeypatch, method
):
    trained(method)
    photo, options = evaluation_photos()[0], ("--method", method)
    before, _ = predict(photo, options=options)
    tiny(classes=("one", "two"), image_size=64, preprocessing="rescale")
    monkeypatch.setattr(config, "WEIGHTS", "nowhere.weights.h5")
    assert predict(photo, options=options)[0] == before


def test_other_method_is_used_if_the_recipes_own_is_not_trained(trained, predict):
    trained("logistic_regression")
    _, messages = predict(evaluation_photos()[0])
    assert "output/tiny/logistic_regression, with the classes" in messages


@BOTH
def test_classifier_of_an_earlier_version_predicts(trained, predict, method):
    path = trained(method) / "metrics.json"
    photo, options = evaluation_photos()[0], ("--method", method)
    before, _ = predict(photo, options=options)
    metrics = read(path)
    del metrics["made_from"]["format"]
    files.write_json(path, metrics)
    assert predict(photo, options=options)[0] == before


def test_predict_before_training_names_the_command(built, script):
    status, _, messages = script("predict", "--image", evaluation_photos()[0])
    assert status == 2
    command = "python train.py --recipe tiny --method fine_tune"
    assert_one_error(messages, "no finished classifier", command)


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--top", 0), ("--top", "'0' is not a whole number from 1")),
        (("--top", -1), ("--top", "'-1'")),
        (("--top", "two"), ("--top", "'two'")),
        (("--copies", -1), ("--copies", "'-1' is not a whole number from 0")),
        (("--format", "xml"), ("xml", "json")),
        (("--fast", "--explain"), ("--explain", "not allowed with", "--fast")),
        (("--imagenet", "--explain"), ("--imagenet", "--explain")),
        (("--imagenet", "--fast"), ("--imagenet", "--fast")),
        (("--imagenet", "VGG15"), ("VGG15", "VGG16")),
        (("--method", "perceptron"), ("perceptron", "fine_tune")),
    ],
)
def test_wrong_arguments_are_one_error(tiny, script, arguments, words):
    make_photo(Path("photo.jpg"), 0, 0)
    status, out, messages = script("predict", "--image", "photo.jpg", *arguments)
    assert status == 2
    assert not out
    assert_one_error(messages, *words)


def test_photos_are_required(tiny, script):
    status, _, messages = script("predict")
    assert status == 2
    assert_one_error(messages, "--image")
