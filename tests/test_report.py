import numpy as np
import pytest
from PIL import Image

from pyimagesearch import report

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


def test_curves_show_training_and_validation_of_every_epoch(tmp_path, monkeypatch):
    drawn = {}
    real = report.plt.close

    def look(figure):
        for panel in figure.axes:
            drawn[panel.get_ylabel()] = [list(line.get_ydata()) for line in panel.lines]
        real(figure)

    monkeypatch.setattr(report.plt, "close", look)
    rows = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.2, "val_loss": 2.5, "val_accuracy": 0.1},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.6, "val_loss": 1.5, "val_accuracy": 0.5},
    ]
    report.save_curves(tmp_path / "warmup.png", rows, "tiny: warmup")
    assert drawn == {
        "loss": [[2.0, 1.0], [2.5, 1.5]],
        "accuracy": [[0.2, 0.6], [0.1, 0.5]],
    }
    assert Image.open(tmp_path / "warmup.png").format == "PNG"


@pytest.mark.parametrize("text", ["Fruit: 56.35%", "Crème brûlée: 3.20%", "x" * 80 + ": 100.00%"])
def test_annotation_is_readable_and_not_clipped(text):
    photo = np.full((300, 800, 3), 128, np.uint8)
    picture = report.annotate(photo, text).astype(int)
    assert picture.shape == (150, 400, 3)
    green = (picture[..., 1] > 200) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
    columns = np.flatnonzero(green.any(axis=0))
    assert len(columns) > 50
    if len(text) < 40:
        assert columns.max() < 400 - 2


def test_a_small_photo_is_enlarged_to_the_tutorials_width():
    assert report.annotate(np.zeros((8, 8, 3), np.uint8), "1: 99.00%").shape == (400, 400, 3)


@pytest.mark.parametrize("shape", [(4, 4000, 3), (4000, 4, 3), (1, 1, 3)])
def test_a_strip_or_a_tower_is_annotated_in_a_size_one_can_look_at(shape):
    picture = report.annotate(np.zeros(shape, np.uint8), "1: 99.00%")
    assert picture.shape[1] == 400
    assert 30 <= picture.shape[0] <= 2000
