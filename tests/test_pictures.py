from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, make_photo
from PIL import Image

from pyimagesearch import images, pictures

ROWS = [
    {"phase": "a", "epoch": 1, "loss": 2.0, "accuracy": 0.2, "val_loss": 2.5, "val_accuracy": 0.1},
    {"phase": "a", "epoch": 2, "loss": 1.0, "accuracy": 0.6, "val_loss": 1.5, "val_accuracy": 0.5},
    {"phase": "b", "epoch": 1, "loss": 0.5, "accuracy": 0.8, "val_loss": 1.0, "val_accuracy": 0.7},
]


@pytest.fixture
def figures(monkeypatch):
    """Return what was drawn, before it is put away: a list of figures."""
    drawn = []
    monkeypatch.setattr(pictures.plt, "close", drawn.append)
    yield drawn
    monkeypatch.undo()
    pictures.plt.close("all")


def test_curves_show_training_and_validation_of_every_epoch(tmp_path, figures):
    pictures.draw_curves(tmp_path / "warmup.png", ROWS[:2], "tiny: warmup")
    drawn = {
        panel.get_ylabel(): [list(line.get_ydata()) for line in panel.lines]
        for panel in figures[0].axes
    }
    assert drawn == {
        "loss": [[2.0, 1.0], [2.5, 1.5]],
        "accuracy": [[0.2, 0.6], [0.1, 0.5]],
    }
    assert Image.open(tmp_path / "warmup.png").format == "PNG"


def test_curves_of_several_phases_are_not_joined_and_the_change_is_marked(tmp_path, figures):
    pictures.draw_curves(tmp_path / "history.png", ROWS, "tiny: all phases")
    loss = figures[0].axes[0]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines]
    assert ([1, 2], [2.0, 1.0]) in lines
    assert ([3], [0.5]) in lines
    assert ([2.5, 2.5], [0, 1]) in lines
    assert [text.get_text().strip() for text in loss.texts] == ["b"]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]


def test_learning_is_drawn_smoothed_as_well_only_where_asked(tmp_path):
    pictures.draw_learning(tmp_path, "plain", ROWS, "title", 0)
    pictures.draw_learning(tmp_path, "both", ROWS, "title", 0.8)
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["both.png", "both_smoothed.png", "plain.png"]
    # A smoothed picture of a training before would tell of other curves.
    pictures.draw_learning(tmp_path, "both", ROWS, "title", 0)
    assert not (tmp_path / "both_smoothed.png").exists()


def test_every_class_has_a_row_of_its_own_photos(tmp_path, figures):
    labels = np.array([0] * 7 + [1] * 2 + [2])
    paths = [Path(f"{number}.jpg") for number in range(len(labels))]
    for number, path in enumerate(paths):
        make_photo(path, labels[number], number)
    photos = images.Photos(tuple(paths), labels, CLASSES)
    pictures.draw_classes(tmp_path / "first_look.png", photos, each=5)
    captions = [panel.get_title() for panel in figures[0].axes]
    assert captions == [CLASSES[0]] * 5 + [CLASSES[1]] * 2 + [""] * 3 + [CLASSES[2]] + [""] * 4


def test_only_the_first_of_many_classes_are_drawn_and_the_title_says_so(tmp_path, figures):
    classes = tuple(f"class {number}" for number in range(30))
    paths = [Path(f"{number}.jpg") for number in range(30)]
    for number, path in enumerate(paths):
        make_photo(path, number, number)
    photos = images.Photos(tuple(paths), np.arange(30), classes)
    pictures.draw_classes(tmp_path / "first_look.png", photos, each=1)
    assert len(figures[0].axes) == 20
    assert "the first 20 of 30 classes" in figures[0].get_suptitle()


def test_confusion_matrix_of_hundreds_of_classes_stays_a_picture(tmp_path, figures):
    classes = [f"class {number}" for number in range(200)]
    pictures.draw_confusion(tmp_path / "confusion.png", np.eye(200, dtype=int), classes)
    assert Image.open(tmp_path / "confusion.png").width < 5000
    panel = figures[0].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == classes[::4]
    assert not panel.texts


@pytest.mark.parametrize("count", [2, 11])
def test_confusion_matrix_has_counts_shares_and_every_name(tmp_path, figures, count):
    classes = [f"a rather long name {number}" for number in range(count)]
    matrix = np.full((count, count), 1) + 8 * np.eye(count, dtype=int)
    pictures.draw_confusion(tmp_path / "confusion.png", matrix, classes)
    panel = figures[0].axes[0]
    texts = [text.get_text() for text in panel.texts]
    assert texts[0] == f"9\n{9 / (8 + count):.0%}"
    assert len(texts) == count**2
    assert panel.get_title() == f"Confusion matrix: {9 * count} of {matrix.sum()} right"
    assert [label.get_text() for label in panel.get_xticklabels()] == classes
    # Nothing is clipped: every label lies within the picture.
    renderer = figures[0].canvas.get_renderer()
    for label in [*panel.get_xticklabels(), *panel.get_yticklabels()]:
        box = label.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figures[0].bbox.width
