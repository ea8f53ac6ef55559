from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo

from pyimagesearch import images, report

CLASSES = ("zebra", "Noodles/Pasta", "apple")
TRUTH = np.array([0, 0, 1, 1, 2, 2])
# Right, right, wrong (as apple), right, right, wrong (as zebra).
PREDICTED = np.array([0, 0, 2, 1, 2, 0])
PROBABILITIES = np.eye(3)[PREDICTED] * 0.8 + 0.1


def test_numbers_are_those_counted_by_hand():
    numbers = report.as_numbers(TRUTH, PROBABILITIES, CLASSES)
    assert numbers["accuracy"] == pytest.approx(4 / 6)
    zebra = numbers["classes"]["zebra"]
    assert zebra["precision"] == pytest.approx(2 / 3)
    assert zebra["recall"] == 1
    assert zebra["f1"] == pytest.approx(0.8)
    assert zebra["support"] == 2
    assert numbers["classes"]["Noodles/Pasta"]["recall"] == 0.5


def test_a_class_never_predicted_has_precision_zero_and_no_warning(recwarn):
    always_zebra = np.eye(3)[np.zeros(6, int)]
    numbers = report.as_numbers(TRUTH, always_zebra, CLASSES)
    assert numbers["classes"]["apple"]["precision"] == 0
    assert not list(recwarn)


def test_text_lists_the_classes_in_the_recipes_order():
    lines = report.as_text(TRUTH, PROBABILITIES, CLASSES).splitlines()
    names = [line.split("  ")[0].strip() or line.strip().split("  ")[0] for line in lines[2:5]]
    assert names == list(CLASSES)


def test_most_confused_pairs_come_most_frequent_first():
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([2, 2, 0, 0, 1, 2])
    pairs = report.most_confused(truth, np.eye(3)[predicted], CLASSES)
    assert pairs == [("zebra", "apple", 2), ("Noodles/Pasta", "zebra", 1)]


@pytest.mark.parametrize("count", [3, 12, 120])
def test_the_numbers_of_classes_stand_under_their_columns(count):
    classes = [f"class {number}" for number in range(count)]
    lines = report.confusion_text(np.arange(count), np.eye(count), classes).splitlines()
    assert len({len(line) for line in lines[: count + 1]}) == 1
    assert lines[count].split() == [f"({number})" for number in range(count)]


def test_nothing_is_confused_where_everything_is_right():
    assert report.most_confused(TRUTH, np.eye(3)[TRUTH], CLASSES) == []


def test_mistakes_and_successes_are_sorted_by_the_probability_of_the_right_class():
    truth = np.array([0, 0, 0, 0])
    first = np.array([0.9, 0.2, 0.6, 0.4])
    probabilities = np.stack([first, 1 - first], axis=1)
    assert list(report.confident_mistakes(truth, probabilities, 9)) == [1, 3]
    assert list(report.uncertain_successes(truth, probabilities, 9)) == [2, 0]
    assert list(report.uncertain_successes(truth, probabilities, 1)) == [2]


def test_an_answer_that_reads_as_certain_is_not_among_the_least_certain():
    truth = np.array([0, 0, 0, 0])
    first = np.array([1.0, 0.9999, 1 - 1e-12, 0.99996])
    probabilities = np.stack([first, 1 - first], axis=1)
    assert list(report.uncertain_successes(truth, probabilities, 9)) == [1]


@pytest.fixture
def photos():
    paths = [Path(f"{number}.jpg") for number in range(len(TRUTH))]
    for number, path in enumerate(paths):
        make_photo(path, TRUTH[number], number)
    return images.Photos(tuple(paths), TRUTH, CLASSES)


def test_evaluation_leaves_its_pictures_and_lists_pairs_and_mistakes(photos, tmp_path):
    numbers, text = report.save_evaluation(tmp_path, "warmup_", photos, PROBABILITIES, 9)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"warmup_confusion.png", "warmup_mistakes.png", "warmup_uncertain.png"}
    assert numbers["accuracy"] == pytest.approx(4 / 6)
    assert "Noodles/Pasta taken for apple: 1 of 2" in text
    assert "2.jpg: Noodles/Pasta taken for apple (90.00%)" in text


def test_a_sheet_of_mistakes_goes_when_there_are_none_any_more(photos, tmp_path):
    report.save_evaluation(tmp_path, "", photos, PROBABILITIES, 9)
    _, text = report.save_evaluation(tmp_path, "", photos, np.eye(3)[TRUTH], 9)
    assert not (tmp_path / "mistakes.png").exists()
    assert "No mistakes" in text
