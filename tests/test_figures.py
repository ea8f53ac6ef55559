"""Figures: what is drawn, and how it is labelled."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, make_photo, tiny_recipe
from PIL import Image

from pyimagesearch import images
from pyimagesearch.datasets import Photos
from pyimagesearch.report import figures

REAL_DPI = figures.STYLE["dpi"]
# History of one phase of two epochs, then one of one epoch.
ROWS = [
    {"phase": "a", "epoch": 1, "loss": 2.0, "accuracy": 0.2, "val_loss": 2.5, "val_accuracy": 0.1},
    {"phase": "a", "epoch": 2, "loss": 1.0, "accuracy": 0.6, "val_loss": 1.5, "val_accuracy": 0.5},
    {"phase": "b", "epoch": 1, "loss": 0.5, "accuracy": 0.8, "val_loss": 1.0, "val_accuracy": 0.7},
]


@pytest.fixture
def drawn_figures(monkeypatch):
    """Return the list of figures drawn so far. They stay open until the test ends."""
    drawn = []
    monkeypatch.setattr(figures.plt, "close", drawn.append)
    # Few dots: what is drawn is read from the figure, not from the file.
    monkeypatch.setitem(figures.STYLE, "dpi", 20)
    yield drawn
    monkeypatch.undo()
    figures.plt.close("all")


def make_photos(labels, classes):
    """Write one photo per label and return them as a list."""
    paths = [Path(f"{number}.jpg") for number in range(len(labels))]
    for number, path in enumerate(paths):
        make_photo(path, labels[number], number)
    return Photos(tuple(paths), np.array(labels), classes)


def lines_of(axes):
    """Return [(x, y)] of the lines in a plot."""
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def is_png(path):
    with Image.open(path) as picture:
        return picture.format == "PNG"


# Training curves


def test_curves_show_training_and_validation_of_every_epoch(tmp_path, drawn_figures):
    figures.draw_curves(tmp_path / "warmup.png", ROWS[:2], "tiny: warmup")
    drawn = {axes.get_ylabel(): lines_of(axes) for axes in drawn_figures[0].axes}
    assert drawn == {
        "loss": [([1, 2], [2.0, 1.0]), ([1, 2], [2.5, 1.5])],
        "accuracy": [([1, 2], [0.2, 0.6]), ([1, 2], [0.1, 0.5])],
    }
    assert drawn_figures[0].get_suptitle() == "tiny: warmup"
    assert is_png(tmp_path / "warmup.png")


def test_curves_of_two_phases_are_not_joined_and_a_line_marks_the_second(tmp_path, drawn_figures):
    figures.draw_curves(tmp_path / "history.png", ROWS, "tiny: all phases")
    loss = drawn_figures[0].axes[0]
    lines = lines_of(loss)
    assert ([1, 2], [2.0, 1.0]) in lines
    assert ([3], [0.5]) in lines
    assert ([2.5, 2.5], [0, 1]) in lines
    assert [text.get_text() for text in loss.texts] == ["a", "b"]


def test_curves_share_the_axis_of_epochs_and_their_legend_is_below_them(tmp_path, drawn_figures):
    figures.draw_curves(tmp_path / "history.png", ROWS, "tiny: all phases")
    figure = drawn_figures[0]
    loss, accuracy = figure.axes
    assert loss.get_shared_x_axes().joined(loss, accuracy)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    assert legend.get_window_extent().y1 < accuracy.get_window_extent().y0


def test_moving_average_starts_again_with_each_phase(tmp_path, drawn_figures):
    figures.draw_curves(tmp_path / "history.png", ROWS, "tiny", smoothing=0.5)
    lines = lines_of(drawn_figures[0].axes[0])
    assert ([1, 2], [2.0, 1.5]) in lines
    assert ([3], [0.5]) in lines
    assert "factor 0.5" in drawn_figures[0].get_suptitle()


def test_smooth_is_the_exponential_moving_average():
    np.testing.assert_allclose(figures.smooth([1, 2, 3], 0.8), [1, 1.2, 1.56])
    assert figures.smooth([1, 2, 3], 0) == [1, 2, 3]


def history_figures(folder, rows, smoothing):
    """Draw the history of a recipe into a folder; return the names of its figures."""
    figures.draw_history(folder, tiny_recipe(smoothing=smoothing), rows)
    return sorted(path.name for path in folder.glob("*.png"))


def test_history_has_a_figure_per_phase_and_of_several_one_of_all(tmp_path, drawn_figures):
    assert history_figures(tmp_path / "one", ROWS[:2], smoothing=0) == ["a.png"]
    assert history_figures(tmp_path / "two", ROWS, smoothing=0) == ["a.png", "b.png", "history.png"]


def test_history_has_smoothed_figures_only_when_smoothing_is_set(tmp_path, drawn_figures):
    assert history_figures(tmp_path, ROWS[:2], smoothing=0.8) == ["a.png", "a_smoothed.png"]
    # Those of an earlier training are deleted.
    assert history_figures(tmp_path, ROWS[:2], smoothing=0) == ["a.png"]


# Sheets of photos


def test_every_class_has_a_row_of_its_own_photos(tmp_path, drawn_figures):
    photos = make_photos([0] * 7 + [1] * 2 + [2], CLASSES)
    sheet = figures.class_tiles(photos)
    assert {name: len(tiles) for name, tiles in sheet.items()} == dict(
        zip(CLASSES, (5, 2, 1), strict=True)
    )
    # The made photos of a class have its colour: red, green or blue.
    for colour, tiles in enumerate(sheet.values()):
        assert {tile.picture.mean(axis=(0, 1)).argmax() for tile in tiles} == {colour}
    figures.draw_classes(tmp_path / "first_look.png", photos)
    axes = drawn_figures[0].axes[0]
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    # The name of a class is above its row, which begins on the left.
    for name, first in zip(CLASSES, ("0.jpg", "7.jpg", "9.jpg"), strict=True):
        assert texts[name][0] == texts[first][0] == 0
        assert texts[name][1] < texts[first][1]


def test_photos_of_a_class_are_spread_from_its_first_to_its_last():
    tiles = figures.class_tiles(make_photos([0] * 9, CLASSES[:1]), per_class=3)
    assert [tile.file for tile in tiles[CLASSES[0]]] == ["0.jpg", "4.jpg", "8.jpg"]


def test_only_the_first_20_classes_are_drawn_and_the_title_says_so(tmp_path, drawn_figures):
    classes = tuple(f"class {number}" for number in range(30))
    figures.draw_classes(tmp_path / "first_look.png", make_photos(range(30), classes))
    axes = drawn_figures[0].axes[0]
    assert len(axes.images) == 20
    assert axes.texts[0].get_text() == "A few training photos of the first 20 of 30 classes"


def draw_four_predictions(path):
    """Draw four predictions, among them one with a long name, a formula, and a mistake."""
    photos = make_photos([0, 1, 2, 0], CLASSES)
    names = [("long " * 20, "long " * 20), ("b $x$", "b $x$"), ("c", "b"), ("d", "d")]
    predictions = [
        {"photo": str(path), "class": true, "predicted": predicted, "probability": 0.58}
        for path, (predicted, true) in zip(photos.paths, names, strict=True)
    ]
    classes = dict.fromkeys(name for pair in names for name in pair)
    figures.draw_predictions(path, "title", predictions, classes)


def test_photos_of_a_sheet_are_squares_on_an_even_grid(tmp_path, drawn_figures):
    draw_four_predictions(tmp_path / "sheet.png")
    extents = [picture.get_extent() for picture in drawn_figures[0].axes[0].images]
    sides = [(right - left, bottom - top) for left, right, bottom, top in extents]
    np.testing.assert_allclose(sides, sides[0][0])
    assert len({extent[0] for extent in extents}) == 4  # four columns, and no gap
    assert len({extent[2] for extent in extents}) == 1


def test_captions_are_below_their_photos_and_shortened_but_for_the_probability(
    tmp_path, drawn_figures
):
    draw_four_predictions(tmp_path / "sheet.png")
    axes = drawn_figures[0].axes[0]
    _, *texts = axes.texts
    captions = [text.get_text() for text in texts]
    assert captions[0].endswith("… 58\N{NO-BREAK SPACE}%")
    assert captions[3:9] == [
        *("b $x$ 58\N{NO-BREAK SPACE}%", "correct", "1.jpg"),
        *("c 58\N{NO-BREAK SPACE}%", "is b", "2.jpg"),
    ]
    for number, text in enumerate(texts):
        left, right, bottom, _ = axes.images[number // 3].get_extent()
        assert text.get_position()[0] == left
        assert text.get_position()[1] > bottom
        assert text.get_window_extent().width <= (right - left) * drawn_figures[0].dpi


def test_sheet_of_the_predictions_before_is_deleted(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"earlier")
    figures.draw_predictions(tmp_path / "sheet.png", "title", [], CLASSES)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(("count", "columns"), [(1, 3), (4, 4), (7, 4), (9, 3), (10, 5)])
def test_columns_leave_the_fewest_gaps_in_the_last_row(count, columns):
    assert figures.best_columns(count) == columns


@pytest.mark.parametrize("shape", [(30, 40, 3), (900, 500, 3), (4, 4000, 3)])
def test_square_is_the_centre_of_a_photo_and_is_never_enlarged(shape):
    photo = np.zeros(shape, np.uint8)
    photo[shape[0] // 2, shape[1] // 2] = 255
    picture = figures.square(photo)
    side = min(320, *shape[:2])
    assert picture.shape == (side, side, 3)
    row, column = np.unravel_index(picture[..., 0].argmax(), picture.shape[:2])
    assert abs(row - side / 2) <= 1
    assert abs(column - side / 2) <= 1


def test_augmentation_shows_one_original_and_the_views_that_training_uses():
    photos, recipe = make_photos([0] * 5, CLASSES), tiny_recipe()
    original, *views = figures.augmentation_tiles(recipe, photos, seed=1)
    assert (original.name, original.file) == ("original", "2.jpg")
    assert [view.name for view in views] == [f"view {number}" for number in range(9)]
    paths, size = photos.paths, recipe.image_size
    np.testing.assert_array_equal(original.picture, next(images.read_batches(paths, size, 5))[2])
    augment = images.augmenter(recipe.augmentation, size, (1, 3))
    trained_on = next(images.read_batches(paths, size, 5, augment))[2]
    np.testing.assert_array_equal(views[3].picture, trained_on)


# Reliability


@pytest.mark.parametrize("temperature", [1, 2])
def test_reliability_diagram_has_the_accuracy_and_the_photos_of_each_bin(
    tmp_path, drawn_figures, temperature
):
    # Three photos with a probability of 0.88, two of which are right: 0.73 at temperature 2.
    logits, truth = np.array([[2.0, 0], [2, 0], [0, 2]]), np.array([0, 1, 1])
    figures.draw_reliability(tmp_path / "reliability.png", truth, logits, temperature)
    axes = drawn_figures[0].axes
    titles = [each.get_title("left").split(":")[0] for each in axes]
    assert titles == (["Not calibrated"] if temperature == 1 else ["Before", "Calibrated"])
    for each, filled in zip(axes, (8, 7), strict=False):
        heights = [bar.get_height() for bar in each.patches]
        expected = np.zeros(10)
        expected[filled] = 2 / 3
        np.testing.assert_allclose(heights, expected)
        assert [text.get_text() for text in each.texts if text.get_text()] == ["3"]


# Confusion matrix


@pytest.mark.parametrize("count", [2, 11])
def test_confusion_matrix_has_counts_shares_and_every_name(tmp_path, drawn_figures, count):
    classes = [f"a rather long name {number}" for number in range(count)]
    matrix = np.full((count, count), 1) + 8 * np.eye(count, dtype=int)
    figures.draw_confusion(tmp_path / "confusion.png", matrix, classes)
    axes = drawn_figures[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == f"9\n{900 / (8 + count):.0f} %"
    assert len(texts) == count**2
    assert axes.get_title("left") == f"Confusion matrix: {9 * count} of {matrix.sum()} correct"
    assert [label.get_text() for label in axes.get_xticklabels()] == classes
    # No label is cut off at the edge of the picture.
    renderer = drawn_figures[0].canvas.get_renderer()
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        box = label.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= drawn_figures[0].bbox.width


def test_confusion_matrix_of_a_class_without_photos_has_zeros(tmp_path, drawn_figures, recwarn):
    figures.draw_confusion(tmp_path / "confusion.png", np.array([[3, 1], [0, 0]]), ["a", "b"])
    texts = [text.get_text() for text in drawn_figures[0].axes[0].texts]
    assert texts == ["3\n75 %", "1\n25 %", "0", "0"]
    assert not list(recwarn)


def test_confusion_matrix_of_200_classes_has_every_fourth_name_and_no_counts(
    tmp_path, drawn_figures
):
    classes = [f"class {number}" for number in range(200)]
    figures.draw_confusion(tmp_path / "confusion.png", np.eye(200, dtype=int), classes)
    figure = drawn_figures[0]
    assert figure.get_figwidth() * REAL_DPI < 5000
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == classes[::4]
    assert not axes.texts
