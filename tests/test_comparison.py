"""What is printed about a new classifier: compared with the one before, and with guessing."""

from pathlib import Path

import pytest

from pyimagesearch.report import comparison
from pyimagesearch.support import files, fingerprints

FOLDER = Path("output/tiny/fine_tune")
RESTORE = "python train.py --recipe tiny --method fine_tune --restore-previous"


def write(folder, correct, photos=(4, 4, 4), **changes):
    """Write the metrics.json of a classifier that predicts so many photos correctly."""
    names, digest = ["bread", "soup", "rice"], f"{sum(photos):016x}"
    parts = {"classes": names, "the evaluation photos": digest, "SEED": 1}
    metrics = {
        "accuracy": correct / sum(photos),
        "classes": {name: {"support": count} for name, count in zip(names, photos, strict=True)},
        "photos": {"evaluation": sum(photos)},
        "made_from": fingerprints.fingerprint(parts | changes),
    }
    files.write_json(folder / "metrics.json", metrics)


def report(capsys, *kinds):
    comparison.report(FOLDER, kinds)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (11, 7, "[WARN] accuracy 0.917 -> 0.583 on the same 12 photos."),
        (7, 11, "[INFO] accuracy 0.583 -> 0.917 on the same 12 photos."),
        (7, 7, "[INFO] accuracy 0.583 -> 0.583 on the same 12 photos."),
    ],
)
def test_accuracy_is_compared_with_the_one_before_and_the_way_back_is_printed(
    capsys, before, after, line
):
    write(FOLDER / "previous", before, SEED=2)
    write(FOLDER, after)
    remedy = f"The earlier classifier is kept; put it back with: {RESTORE}"
    assert report(capsys) == [f"{line} {remedy}"]


@pytest.mark.parametrize(
    ("photos", "changes", "reason"),
    [
        ((5, 4, 4), {}, "the evaluation photos changed"),
        (
            (4, 4, 4),
            {"classes": ["bread", "soup", "fish"]},
            "classes[2] was 'fish' and is now 'rice'",
        ),
        ((4, 4, 4), {"format": 1}, "it was made by another version of this project"),
    ],
)
def test_accuracies_on_other_photos_or_classes_are_not_compared(capsys, photos, changes, reason):
    write(FOLDER / "previous", 6, photos, **changes)
    write(FOLDER, 6)
    [line] = report(capsys)
    assert f" cannot be compared: {reason}. The earlier classifier is kept" in line
    assert "->" not in line
    assert line.endswith(RESTORE)


def test_first_classifier_has_nothing_to_be_compared_with(capsys):
    write(FOLDER, 6)
    assert report(capsys) == []


@pytest.mark.parametrize(("correct", "warns"), [(5, True), (6, True), (7, False)])
def test_accuracy_of_the_most_frequent_class_or_less_is_a_warning(capsys, correct, warns):
    write(FOLDER, correct, photos=(3, 6, 3))
    lines = report(capsys)
    assert len(lines) == warns
    if warns:
        expected = "is no better than always answering soup, the most frequent class of the"
        assert lines[0].startswith(f"[WARN] accuracy {correct / 12:.3f} {expected}")
        assert "(0.500)" in lines[0]


@pytest.mark.parametrize(
    ("phases", "remedy"),
    [({}, "or add photos"), ({"phases": {"warmup": 0.5}}, "or change learning_rate and epochs")],
)
def test_remedy_against_guessing_is_one_of_the_method(capsys, phases, remedy):
    classes = {"bread": {"support": 6}, "soup": {"support": 6}}
    comparison.warn_if_guessing({"accuracy": 0.5, "classes": classes, **phases})
    assert capsys.readouterr().err.rstrip().endswith(remedy)


def test_damaged_metrics_of_the_previous_classifier_are_ignored(capsys):
    write(FOLDER, 6)
    files.write_text(FOLDER / "previous" / "metrics.json", "{")
    assert report(capsys) == []
