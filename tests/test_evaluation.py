import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo, tiny_phase
from PIL import Image

from pyimagesearch.datasets import Photos
from pyimagesearch.report import evaluation, figures, intervals
from pyimagesearch.support import files

CLASSES = ("zebra", "Noodles/Pasta", "apple")
TRUTH = np.array([0, 0, 1, 1, 2, 2])
# The third photo is predicted as apple, the last as zebra; the others are correct.
PREDICTED = np.array([0, 0, 2, 1, 2, 0])
PROBABILITIES = np.eye(3)[PREDICTED] * 0.7 + 0.1
LOGITS = np.log(PROBABILITIES)


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """Draw real pictures, but with few dots."""
    monkeypatch.setitem(figures.STYLE, "dpi", 60)


@pytest.fixture
def photos():
    """Return a made photo for each label in TRUTH."""
    paths = [Path(f"{number}.jpg") for number in range(len(TRUTH))]
    for number, path in enumerate(paths):
        make_photo(path, TRUTH[number], number)
    return Photos(tuple(paths), TRUTH, CLASSES)


# Metrics


def test_numbers_are_the_ones_computed_by_hand():
    numbers = evaluation.compute_metrics(TRUTH, PROBABILITIES, CLASSES)
    assert numbers["accuracy"] == pytest.approx(4 / 6)
    zebra = numbers["classes"]["zebra"]
    assert zebra["precision"] == pytest.approx(2 / 3)
    assert zebra["recall"] == 1
    assert zebra["f1"] == pytest.approx(0.8)
    assert zebra["support"] == 2
    assert numbers["classes"]["Noodles/Pasta"]["recall"] == 0.5
    assert numbers["accuracy_interval"] == intervals.interval(4 / 6, 6)
    assert numbers["baseline"] == {"class": "zebra", "accuracy": pytest.approx(1 / 3)}


def test_photos_are_counted_in_whole_numbers_if_no_prediction_is_correct(photos):
    wrong = np.roll(np.eye(3)[TRUTH], 1, axis=1)
    metrics = evaluation.compute_metrics(TRUTH, wrong, CLASSES)
    assert type(metrics["classes"]["zebra"]["support"]) is int
    assert "accuracy 0.000 on 6 photos" in evaluation.report_text(metrics, photos, wrong, [])


def test_class_that_is_never_predicted_has_precision_0_and_no_warning(recwarn):
    always_zebra = np.eye(3)[np.zeros(6, int)]
    numbers = evaluation.compute_metrics(TRUTH, always_zebra, CLASSES)
    assert numbers["classes"]["apple"]["precision"] == 0
    assert not list(recwarn)


# Text


def test_text_lists_the_classes_in_the_order_of_the_recipe(photos):
    metrics = evaluation.compute_metrics(TRUTH, PROBABILITIES, CLASSES)
    lines = evaluation.report_text(metrics, photos, PROBABILITIES, []).splitlines()
    names = [line.strip().split("  ")[0] for line in lines[2:5]]
    assert names == list(CLASSES)


def test_text_names_the_classes_that_were_not_judged(photos):
    for classes, words in ((CLASSES, ""), ((*CLASSES, "a, b"), "evaluation photos: 'a, b'\n")):
        probabilities = np.pad(PROBABILITIES, ((0, 0), (0, len(classes) - 3)))
        metrics = evaluation.compute_metrics(TRUTH, probabilities, classes)
        all_photos = Photos(photos.paths, TRUTH, classes)
        text = evaluation.report_text(metrics, all_photos, probabilities, [])
        assert words in text
        assert ("not judged" in text) == bool(words)


@pytest.mark.parametrize("count", [3, 12, 120])
def test_confusion_text_has_the_class_numbers_under_their_columns(count):
    classes = [f"class {number}" for number in range(count)]
    _, *lines = evaluation.confusion_text(np.eye(count, dtype=int), classes).splitlines()
    assert len({len(line) for line in lines[: count + 1]}) == 1
    assert lines[count].split() == [f"({number})" for number in range(count)]
    assert lines[count + 1 :] == [f"({number}) class {number}" for number in range(count)]


def test_confusion_text_has_true_classes_as_rows():
    matrix = evaluation.confusion_counts(TRUTH, PROBABILITIES)
    _, *lines = evaluation.confusion_text(matrix, CLASSES).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["2", "0", "0"],
        ["0", "1", "1"],
        ["1", "0", "1"],
    ]


def test_confusion_matrix_of_many_classes_is_in_a_file_and_not_in_the_text(photos):
    classes = tuple(f"class {number}" for number in range(525))
    many = Photos(photos.paths, TRUTH, classes)
    probabilities = np.eye(525)[PREDICTED]
    metrics = evaluation.compute_metrics(TRUTH, probabilities, classes)
    text = evaluation.report_text(metrics, many, probabilities, [], "warmup_confusion.csv")
    assert "Confusion matrix of 525 classes: warmup_confusion.csv\n" in text
    assert "class 1 predicted as class 2: 1 of 2" in text
    assert len(text.splitlines()) < 525 + 20
    assert max(map(len, text.splitlines())) < 200
    matrix = evaluation.confusion_counts(TRUTH, probabilities)
    evaluation.write_confusion(Path("matrix.csv"), matrix, classes)
    header, _, second, *_ = csv.reader(Path("matrix.csv").read_text().splitlines())
    assert header == ["true class / predicted class", *classes]
    assert second[:4] == ["class 1", "0", "1", "1"]


# Which predictions are shown


def test_most_confused_pairs_are_sorted_by_their_count():
    matrix = np.array([[1, 0, 2], [1, 1, 0], [0, 0, 1]])
    pairs = evaluation.most_confused(matrix, CLASSES)
    assert pairs == [("zebra", "apple", 2), ("Noodles/Pasta", "zebra", 1)]


def test_at_most_ten_confused_pairs_are_reported():
    pairs = evaluation.most_confused(np.ones((5, 5), int), list("abcde"))
    assert len(pairs) == 10


def test_no_pair_is_confused_when_every_prediction_is_correct():
    assert evaluation.most_confused(np.eye(3, dtype=int), CLASSES) == []


def test_mistakes_are_sorted_by_the_probability_of_the_wrong_class():
    truth = np.array([0, 0, 0, 0])
    # The third mistake gives the true class more than the second does, and is more confident.
    probabilities = np.array([[0.9, 0.1, 0], [0.1, 0.5, 0.4], [0.2, 0.8, 0], [0.45, 0.55, 0]])
    assert list(evaluation.most_confident_mistakes(truth, probabilities, 9)) == [2, 3, 1]
    assert list(evaluation.most_confident_mistakes(truth, probabilities, 1)) == [2]


def test_only_uncertain_predictions_are_among_the_least_confident():
    truth = np.array([0, 0, 0, 0, 0])
    first = np.array([0.89, 1.0, 0.6, 0.4, 0.91])
    probabilities = np.stack([first, 1 - first], axis=1)
    assert list(evaluation.least_confident_correct(truth, probabilities, 9)) == [2, 0]
    assert list(evaluation.least_confident_correct(truth, probabilities, 1)) == [2]
    assert list(evaluation.least_confident_correct(truth[:0], probabilities[:0], 9)) == []


# Files


def test_evaluation_writes_its_pictures_and_lists_pairs_and_mistakes(photos, tmp_path):
    numbers, text = evaluation.save_evaluation(tmp_path, "warmup_", photos, LOGITS, 1, 9)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    pictures = ("confusion", "mistakes", "uncertain", "reliability")
    assert drawn == {f"warmup_{name}.png" for name in pictures}
    for name in drawn:
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert picture.width > 200
    assert numbers["accuracy"] == pytest.approx(4 / 6)
    assert "Noodles/Pasta predicted as apple: 1 of 2" in text
    assert "The most confident mistakes" in text
    assert "2.jpg: Noodles/Pasta predicted as apple (80 %)" in text
    shown = files.read_json(tmp_path / "warmup_shown.json")
    mistake = {"photo": "2.jpg", "class": "Noodles/Pasta", "predicted": "apple"}
    assert shown["mistakes"][0] == {**mistake, "probability": pytest.approx(0.8)}
    assert [each["photo"] for each in shown["uncertain"]] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]


@pytest.mark.usefixtures("quick_figures")
def test_accuracy_is_reported_and_printed_with_its_interval_and_baseline(photos, tmp_path, capsys):
    line = (
        'accuracy 0.667 on 6 photos (95 % interval 0.30 to 0.90; always predicting "zebra": 0.33)'
    )
    for stem, name in (("warmup_", "warmup"), ("", "evaluation")):
        _, text = evaluation.save_evaluation(tmp_path, stem, photos, LOGITS, 1, 9)
        assert line in text.splitlines()
        assert f"[INFO] {name}: {line}\n" in capsys.readouterr().err


def test_captions_have_both_classes_for_a_mistake_and_one_for_a_correct_prediction(photos):
    captions = [evaluation.caption(position, photos, PROBABILITIES) for position in (0, 2)]
    assert captions == [
        "0.jpg: zebra (80 %)",
        "2.jpg: Noodles/Pasta predicted as apple (80 %)",
    ]


@pytest.mark.usefixtures("quick_figures")
def test_sheets_are_deleted_when_there_are_no_mistakes_and_no_uncertain_photos(photos, tmp_path):
    evaluation.save_evaluation(tmp_path, "", photos, LOGITS, 1, 9)
    sheets = {"mistakes.png", "uncertain.png"}
    assert sheets <= {path.name for path in tmp_path.iterdir()}
    _, text = evaluation.save_evaluation(tmp_path, "", photos, 50 * np.eye(3)[TRUTH], 1, 9)
    assert not sheets & {path.name for path in tmp_path.iterdir()}
    assert "No mistakes" in text
    assert "The most confused pairs" not in text


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("temperature", [1, 2])
def test_metrics_and_text_compare_the_figures_before_and_after_calibration(
    photos, tmp_path, temperature
):
    numbers, text = evaluation.save_evaluation(tmp_path, "", photos, LOGITS, temperature, 9)
    found = numbers["calibration"]
    # Before, all six have 0.8, and four are right.
    assert found["temperature"] == temperature
    assert found["ece_before"] == pytest.approx(0.8 - 4 / 6)
    assert found["nll_before"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)
    # Afterwards they have sqrt(8) / (sqrt(8) + 2).
    highest = 0.8 if temperature == 1 else 8**0.5 / (8**0.5 + 2)
    assert found["ece"] == pytest.approx(abs(highest - 4 / 6))
    # A photo of six that is right by chance changes the accuracy by 0.17.
    assert 0.2 < found["ece_by_chance"] < 0.5
    chance = f"up to {found['ece_by_chance']:.3f} can be chance"
    remarks = chance if temperature == 1 else f"0.133 before; {chance}"
    assert f"expected calibration error: {found['ece']:.3f} ({remarks})\n" in text
    title = "Not calibrated" if temperature == 1 else "Calibrated with temperature 2.00"
    assert f"\n\n{title}\n" in text


@pytest.mark.usefixtures("quick_figures")
def test_mistakes_are_captioned_with_calibrated_probabilities(photos, tmp_path):
    _, text = evaluation.save_evaluation(tmp_path, "", photos, LOGITS, 2, 9)
    assert "2.jpg: Noodles/Pasta predicted as apple (59 %)" in text


# A phase that makes it worse


def phases_with(**changes):
    return tiny_phase("warmup"), tiny_phase("unfrozen", **changes)


def warning(phases, before, after, capsys):
    """Return what is printed about two phases with these val_accuracies."""
    pairs = (("warmup", before), ("unfrozen", after))
    history = [{"phase": name, "val_loss": 1, "val_accuracy": accuracy} for name, accuracy in pairs]
    evaluation.warn_if_worse(phases, history)
    return capsys.readouterr().err


def test_phase_that_made_it_worse_is_a_warning_with_the_settings_that_help(capsys):
    worse = "[WARN] unfrozen made it worse on validation: val_accuracy 0.747 -> 0.723. "
    remedies = "fewer epochs or patience=3, a smaller learning_rate, keep_best=True\n"
    assert warning(phases_with(), 0.747, 0.723, capsys) == f"{worse}What usually helps: {remedies}"
    # It does not suggest what is set already.
    printed = warning(phases_with(keep_best=True, patience=2), 0.747, 0.723, capsys)
    assert printed == f"{worse}What usually helps: fewer epochs, a smaller learning_rate\n"


def test_phase_that_made_it_no_worse_or_cannot_be_compared_is_no_warning(capsys):
    assert warning(phases_with(), 0.5, 0.5, capsys) == ""
    assert warning(phases_with()[:1], 0.5, 0.4, capsys) == ""
    # It has other validation photos.
    assert warning(phases_with(held_out=0.1), 0.5, 0.4, capsys) == ""
