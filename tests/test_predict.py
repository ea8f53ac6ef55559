"""predict.py on photos, folders, patterns and addresses, in every format."""

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import assert_one_error, make_photo
from PIL import Image

from pyimagesearch import config, datasets

CLASSES = ("zebra", "Noodles/Pasta", "apple")


@pytest.fixture
def photos(trained):
    """Train the tiny recipe; return the paths of its evaluation photos."""
    trained()
    return datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST).paths


def copies():
    folder = config.OUTPUT_DIR / "tiny" / "predictions"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_folder_and_a_pattern_are_asked_photo_by_photo_in_order(photos, script):
    folder = photos[0].parent
    _, named, _ = script("predict", "--image", *sorted(folder.iterdir()))
    _, by_folder, _ = script("predict", "--image", folder)
    _, by_pattern, _ = script("predict", "--image", folder / "*.jpg")
    assert len(named.splitlines()) == 5
    assert by_folder == by_pattern == named


def test_formats_hold_the_same_answers(photos, script):
    _, table, _ = script("predict", "--image", *photos, "--top", 2)
    _, lines, _ = script("predict", "--image", *photos, "--top", 2, "--format", "json")
    _, rows, _ = script("predict", "--image", *photos, "--top", 2, "--format", "csv")
    answers = [json.loads(line) for line in lines.splitlines()]
    assert [each["image"] for each in answers] == list(map(str, photos))
    for answer, line in zip(answers, table.splitlines(), strict=True):
        words = [f"{each['class']}: {each['probability']:.2%}" for each in answer["classes"]]
        assert line == f"{answer['image']}  {', '.join(words)}"
    header, *rows = csv.reader(io.StringIO(rows))
    assert header == ["image", "class", "probability", "class_2", "probability_2"]
    for answer, row in zip(answers, rows, strict=True):
        first, second = answer["classes"]
        assert row[:2] == [answer["image"], first["class"]]
        assert float(row[4]) == second["probability"]


def test_more_classes_than_there_are_is_all_of_them(photos, script):
    _, out, _ = script("predict", "--image", photos[0], "--top", 99, "--format", "json")
    classes = json.loads(out)["classes"]
    assert {each["class"] for each in classes} == set(CLASSES)
    assert sum(each["probability"] for each in classes) == pytest.approx(1, abs=1e-5)


def test_a_name_with_a_line_break_or_a_comma_stays_one_answer(photos, script, tmp_path):
    strange = tmp_path / 'a "b",\n c.jpg'
    make_photo(strange, 0, 1)
    _, table, _ = script("predict", "--image", strange)
    assert len(table.splitlines()) == 1
    _, line, _ = script("predict", "--image", strange, "--format", "json")
    assert json.loads(line)["image"] == str(strange)
    _, rows, _ = script("predict", "--image", strange, "--format", "csv")
    assert list(csv.reader(io.StringIO(rows)))[1][0] == str(strange)


def test_unreadable_photos_are_reported_and_the_rest_goes_on(photos, script):
    Path("empty.jpg").touch()
    Path("half.jpg").write_bytes(photos[0].read_bytes()[:400])
    status, out, messages = script("predict", "--image", "empty.jpg", photos[0], "half.jpg")
    assert status == 1
    assert len(out.splitlines()) == 1
    errors = [line for line in messages.splitlines() if line.startswith("[ERROR]")]
    assert len(errors) == 2
    assert "empty.jpg" in errors[0]
    assert "half.jpg" in errors[1]


def test_a_wrong_path_is_one_line(photos, script):
    status, out, messages = script("predict", "--image", "nowhere.jpg")
    assert status == 2
    assert not out
    assert_one_error(messages, "nowhere.jpg", "No such file", "--image")


def test_an_empty_folder_says_so(photos, script):
    Path("nothing").mkdir()
    status, out, messages = script("predict", "--image", "nothing")
    assert status == 2
    assert not out
    assert_one_error(messages, "nothing", "a folder without photos")


def test_copies_are_of_the_first_photos_and_the_message_says_of_how_many(photos, script):
    status, out, messages = script("predict", "--image", *photos, "--copies", 2)
    assert status == 0
    assert len(out.splitlines()) == 15
    assert copies() == ["0_0.png", "0_1.png"]
    assert "annotated the first 2 of 15 photos" in messages


def test_no_copies_writes_none(photos, script):
    _, _, messages = script("predict", "--image", photos[0], "--copies", 0)
    assert copies() == []
    assert "annotated" not in messages


@pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])
def test_explanation_stands_beside_the_photo(trained, script, method):
    trained(method)
    photo = config.DATASET_DIR / "tiny/evaluation/zebra/0_0.jpg"
    status, _, messages = script("predict", "--method", method, "--image", photo, "--explain")
    assert status == 0, messages
    assert copies() == ["0_0_explained.png"]
    assert Image.open(config.OUTPUT_DIR / "tiny/predictions/0_0_explained.png").width == 800


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--top", 0), ("--top", "0")),
        (("--copies", -1), ("--copies", "-1")),
        (("--format", "xml"), ("xml", "json")),
        (("--fast", "--explain"), ("--explain", "--fast")),
        (("--imagenet", "--explain"), ("--imagenet", "--explain")),
    ],
)
def test_wrong_arguments_are_one_line(tiny, script, arguments, words):
    status, _, messages = script("predict", "--image", "x.jpg", *arguments)
    assert status == 2
    assert_one_error(messages, *words)


def test_every_photo_has_a_copy_of_its_own_whatever_the_names(photos, script):
    named = [Path("a/photo.jpg"), Path("a/photo (2).jpg"), Path("b/photo.jpg"), Path("b/PHOTO.png")]
    for path in named:
        make_photo(path, 0, 0)
    folder = config.OUTPUT_DIR / "tiny" / "predictions"
    before = len(list(folder.glob("*.png")))
    status, _, messages = script("predict", "--image", *named)
    assert status == 0
    assert "annotated 4 photos" in messages
    made = sorted(path.name for path in folder.glob("[pP]*.png"))
    assert made == ["PHOTO (4).png", "photo (2).png", "photo (3).png", "photo.png"]
    assert len(list(folder.glob("*.png"))) == before + 4
