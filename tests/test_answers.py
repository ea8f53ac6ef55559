import csv
import io
import json
import unicodedata

import numpy as np
import pytest

from pyimagesearch.report import answers

TOP_CLASSES = [("Noodles/Pasta", 0.75), ("crème brûlée", 0.125)]
PUDDING = answers.Answer("crème.jpg", [("crème 🍮", 0.5)])


def parse_csv(text):
    """Return the rows of CSV as lists."""
    return list(csv.reader(io.StringIO(text)))


def test_table_is_one_line_per_photo_with_percentages():
    text = answers.format_answer("table", answers.Answer("a.jpg", TOP_CLASSES))
    assert text == "a.jpg  Noodles/Pasta: 75 %, crème brûlée: 12 %"


def test_lines_are_the_name_and_then_one_line_per_class():
    text = answers.format_answer("lines", answers.Answer("a.jpg", TOP_CLASSES))
    assert text == "a.jpg\n  75 % : Noodles/Pasta\n  12 % : crème brûlée"


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        *((0, "< 1 %"), (0.005, "< 1 %"), (0.0051, "1 %"), (0.0151, "2 %"), (0.9694, "97 %")),
        *((0.9949, "99 %"), (0.995, "> 99 %"), (1, "> 99 %"), (np.float32(0.25), "25 %")),
    ],
)
def test_percentage_is_whole_and_never_claims_certainty(probability, expected):
    assert answers.percentage(probability) == expected


def test_json_is_one_object_per_line():
    text = answers.format_answer("json", answers.Answer("a.jpg", TOP_CLASSES))
    assert "\n" not in text
    assert answers.format_answer("jsonl", answers.Answer("a.jpg", TOP_CLASSES)) == text
    assert json.loads(text) == {
        "image": "a.jpg",
        "classes": [
            {"class": "Noodles/Pasta", "probability": 0.75},
            {"class": "crème brûlée", "probability": 0.125},
        ],
    }


def test_csv_has_one_row_of_column_names_above_the_first_answer():
    text = "\n".join(
        answers.format_answer("csv", answers.Answer(name, TOP_CLASSES), first=name == "a.jpg")
        for name in ("a.jpg", "b.jpg")
    )
    assert parse_csv(text) == [
        ["image", "class", "probability", "class_2", "probability_2"],
        ["a.jpg", "Noodles/Pasta", "0.75", "crème brûlée", "0.125"],
        ["b.jpg", "Noodles/Pasta", "0.75", "crème brûlée", "0.125"],
    ]


def test_csv_and_json_keep_every_digit_of_a_probability():
    top_classes = [("zebra", 0.1 + 0.2)]
    row = parse_csv(
        answers.format_answer("csv", answers.Answer("a.jpg", top_classes), first=False)
    )[0]
    assert float(row[2]) == 0.1 + 0.2
    answer = json.loads(answers.format_answer("json", answers.Answer("a.jpg", top_classes)))
    assert answer["classes"][0]["probability"] == 0.1 + 0.2


def test_name_with_a_line_break_a_quote_or_a_comma_stays_one_answer():
    name = 'a "b",\n c.jpg'
    assert len(answers.format_answer("table", answers.Answer(name, TOP_CLASSES)).splitlines()) == 1
    assert (
        json.loads(answers.format_answer("json", answers.Answer(name, TOP_CLASSES)))["image"]
        == name
    )
    rows = parse_csv(answers.format_answer("csv", answers.Answer(name, TOP_CLASSES)))
    assert len(rows) == 2
    assert rows[1][0] == name


# Photos that are unlike any training photo


@pytest.mark.parametrize("unlike", [True, False])
def test_every_format_says_whether_a_photo_is_unlike_any_training_photo(unlike):
    answer = answers.Answer("a.jpg", TOP_CLASSES, unlike)
    line = answers.format_answer("table", answer)
    assert line.endswith("  (unlike any training photo)") == unlike
    assert json.loads(answers.format_answer("json", answer))["unlike_training_photos"] is unlike
    names, values = parse_csv(answers.format_answer("csv", answer))
    assert dict(zip(names, values, strict=True))["unlike_training_photos"] == str(unlike).lower()


def test_report_counts_the_photos_that_are_unlike_any_training_photo(capsys):
    answered = answers.Answers("table", ["a.jpg", "b.jpg", "c.jpg"], LABELS, "utf-8")
    for name, unlike in (("a.jpg", True), ("b.jpg", False), ("c.jpg", True)):
        answered.add(name, TOP_CLASSES, unlike)
    answered.report()
    assert "2 of 3 photos are unlike any training photo" in capsys.readouterr().err


# Photos in folders that have the names of classes

NAMES = ("x/Noodles-Pasta/1.jpg", "x/crème brûlée/1.jpg", "x/holiday/1.jpg")
LABELS = ("Noodles/Pasta", "crème brûlée", "zebra")


def answer_all(kind, names=NAMES):
    """Return (Answers, text) after the same prediction, Noodles/Pasta, for each photo."""
    answered = answers.Answers(kind, names, LABELS, "utf-8")
    return answered, "\n".join([answered.add(name, TOP_CLASSES) for name in names])


def test_table_marks_the_photos_in_folders_of_classes():
    _, text = answer_all("table")
    classes = "Noodles/Pasta: 75 %, crème brûlée: 12 %"
    assert text.splitlines() == [
        f"x/Noodles-Pasta/1.jpg  {classes}  correct",
        f"x/crème brûlée/1.jpg  {classes}  wrong: it is in crème brûlée/",
        f"x/holiday/1.jpg  {classes}",
    ]


def test_json_and_csv_have_the_class_of_the_folder():
    _, text = answer_all("json")
    found = [json.loads(line)["folder_class"] for line in text.splitlines()]
    assert found == ["Noodles/Pasta", "crème brûlée", None]
    rows = parse_csv(answer_all("csv")[1])
    assert [row[-1] for row in rows] == ["folder_class", "Noodles/Pasta", "crème brûlée", ""]
    assert {len(row) for row in rows} == {6}


@pytest.mark.parametrize(
    "name", ["x/holiday/1.jpg", "1.jpg", "zebra.jpg", "https://example.org/zebra/1.jpg"]
)
def test_photos_in_other_folders_and_web_addresses_are_not_compared(name, capsys):
    for kind in answers.FORMATS:
        answered, text = answer_all(kind, [name, name])
        assert "folder" not in text
        assert "correct" not in text
        assert "wrong" not in text
        answered.report()
    assert not capsys.readouterr().err


def test_folder_in_decomposed_unicode_is_the_folder_of_its_class():
    name = unicodedata.normalize("NFD", "x/crème brûlée/1.jpg")
    assert name != NAMES[1]
    assert "wrong" in answer_all("table", [name])[1]


def test_report_counts_the_photos_in_folders_of_classes(capsys):
    answered, _ = answer_all("table", [*NAMES, "x/Noodles-Pasta/2.jpg"])
    answered.report()
    assert capsys.readouterr().err == (
        "[INFO] 2 of 3 photos in folders of classes are correct: accuracy 0.667 "
        "(95 % interval 0.21 to 0.94)\n"
    )


def test_a_single_photo_is_marked_and_not_counted(capsys):
    answered, text = answer_all("table", NAMES[:1])
    answered.report()
    assert text.endswith("  correct")
    assert not capsys.readouterr().err


# Encodings


@pytest.mark.parametrize("encoding", ["iso8859-2", "ascii", None])
def test_json_has_only_ascii_characters_when_the_stream_is_not_unicode(encoding):
    text = answers.format_answer("json", PUDDING, encoding=encoding)
    assert text.isascii()
    answer = json.loads(text)
    assert answer["image"] == "crème.jpg"
    assert answer["classes"] == [{"class": "crème 🍮", "probability": 0.5}]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-16", "utf8"])
def test_json_shows_letters_as_they_are_when_the_stream_is_unicode(encoding):
    text = answers.format_answer("json", PUDDING, encoding=encoding)
    assert "crème 🍮" in text


@pytest.mark.parametrize("kind", answers.FORMATS)
def test_every_format_contains_the_name_and_the_classes(kind):
    text = answers.format_answer(kind, answers.Answer("a.jpg", TOP_CLASSES))
    for expected in ("a.jpg", "Noodles/Pasta", "crème brûlée"):
        assert expected in text


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"xml.*table, lines, json, jsonl, csv"):
        answers.format_answer("xml", answers.Answer("a.jpg", TOP_CLASSES))
