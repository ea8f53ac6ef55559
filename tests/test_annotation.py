import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimagesearch.report import annotation

GREY = np.full((300, 400, 3), 128, np.uint8)
PIXELS = np.zeros((32, 32, 3), np.uint8)
PROBABILITIES = np.array([0.25, 0.75])


def add_copies(copies, names):
    """Add one grey photo per name."""
    for name in names:
        copies.add(name, PIXELS, GREY, PROBABILITIES, ("Fruit", 0.75))


def file_names(folder="copies"):
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []


@pytest.fixture
def windows(monkeypatch):
    """Return the list of pictures that OpenCV would show; no window opens."""
    shown = []
    monkeypatch.setattr(annotation.cv2, "imshow", lambda title, picture: shown.append(picture))
    monkeypatch.setattr(annotation.cv2, "waitKey", lambda milliseconds: None)
    monkeypatch.setattr(annotation.cv2, "destroyAllWindows", lambda: None)
    return shown


# Small copies and what is drawn on them


@pytest.mark.parametrize("text", ["Fruit: 56.35%", "Crème brûlée: 3.20%", "x" * 80 + ": 100.00%"])
def test_annotation_is_green_and_clipped_only_when_the_text_is_very_long(text):
    photo = np.full((300, 800, 3), 128, np.uint8)
    picture = annotation.annotate(annotation.shrink(photo), text).astype(int)
    assert picture.shape == (150, 400, 3)
    green = (picture[..., 1] > 200) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
    columns = np.flatnonzero(green.any(axis=0))
    assert len(columns) > 50
    if len(text) < 40:
        assert columns.max() < 400 - 2


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 255, 0), (0, 0, 0)])
def test_annotation_is_on_a_dark_backing_over_any_photo(colour):
    photo = np.full((150, 400, 3), colour, np.uint8)
    picture = annotation.annotate(photo, "Fruit: 97 %").astype(int)
    rows, columns = np.nonzero((picture[..., 1] > 200) & (picture[..., 0] < 60))
    if colour == (0, 255, 0):
        rows, columns = np.nonzero(picture[..., 1] < 100)
    backing = picture[rows.min() : rows.max(), columns.min() : columns.max()]
    dark = backing.sum(axis=-1) < 200
    assert 0.3 < dark.mean() < 0.95


def test_small_photo_is_enlarged_to_the_tutorials_width():
    assert annotation.shrink(np.zeros((8, 8, 3), np.uint8)).shape == (400, 400, 3)


@pytest.mark.parametrize("shape", [(4, 4000, 3), (100, 4000, 3), (4000, 4, 3), (1, 1, 3)])
def test_very_wide_or_narrow_photo_gets_a_copy_of_a_usable_size(shape):
    picture = annotation.shrink(np.zeros(shape, np.uint8))
    assert picture.shape[1] == 400
    assert 40 <= picture.shape[0] <= 2000


def test_heat_map_is_yellow_where_it_is_hot_and_blue_where_it_is_cold():
    photo = np.full((80, 120, 3), 128, np.uint8)
    heat = np.zeros((14, 14), np.float32)
    heat[:7, 7:] = 1
    picture = annotation.overlay_heat(photo, heat).astype(int)
    hot, cold = picture[15, 105], picture[65, 15]
    assert picture.shape == photo.shape
    assert hot[0] > hot[2] + 50  # more red than blue
    assert cold[2] > cold[0]


def test_heat_map_is_to_the_right_of_the_photo():
    heat = np.ones((7, 7), np.float32)
    picture = annotation.annotate_with_heat(annotation.shrink(GREY), heat, "Fruit: 56.35%")
    assert picture.shape == (332, 800, 3)
    assert (picture[150:300, :400] == 128).all()
    assert (picture[150:300, 400:] != 128).any(axis=-1).all()


def test_colour_bar_below_has_the_colours_of_the_heat_map_between_two_texts():
    bar = annotation.colour_bar()
    scale = annotation.heat_colours(np.linspace(0, 1, 200, dtype=np.float32)[None])
    np.testing.assert_array_equal(bar[16:17, 300:500], scale)
    for text in (bar[:, :300], bar[:, 500:]):
        assert (text == 0).any()
        assert text.mean() > 200


# Annotated copies of a run


def test_copy_is_the_photo_with_its_class_and_probability():
    add_copies(annotation.AnnotatedCopies("copies", limit=9), ["a/photo.jpg"])
    assert file_names() == ["photo.png"]
    with Image.open("copies/photo.png") as picture:
        copy = np.asarray(picture)
    np.testing.assert_array_equal(copy, annotation.annotate(GREY, "Fruit: 75 %"))


def test_only_the_first_photos_are_annotated_and_the_message_gives_both_counts(capsys):
    copies = annotation.AnnotatedCopies("copies", limit=2)
    add_copies(copies, ["a.jpg", "b.jpg", "c.jpg"])
    assert file_names() == ["a.png", "b.png"]
    copies.report(photo_count=1500)
    message = capsys.readouterr().err
    assert "annotated the first 2 of 1,500 photos -> copies" in message
    assert "--copies N" in message


def test_message_gives_one_count_when_every_photo_is_annotated(capsys):
    copies = annotation.AnnotatedCopies("copies", limit=2)
    add_copies(copies, ["a.jpg", "b.jpg"])
    copies.report(photo_count=2)
    assert capsys.readouterr().err == "[INFO] annotated 2 photos -> copies\n"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_may_not_be_written_to_is_one_warning(capsys, monkeypatch, number):
    copies = annotation.AnnotatedCopies("copies", limit=9)
    add_copies(copies, ["a.jpg"])

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(annotation.files, "atomic_write", refuse)
    add_copies(copies, ["b.jpg", "c.jpg"])
    copies.report(photo_count=3)
    warning, counts = capsys.readouterr().err.splitlines()
    assert warning.startswith("[WARN] no annotated copies from here on: copies/b.png: ")
    assert "annotated the first 1 of 3 photos" in counts


def test_limit_of_zero_writes_and_reports_nothing(capsys):
    copies = annotation.AnnotatedCopies("copies", limit=0)
    add_copies(copies, ["a.jpg"])
    copies.report(photo_count=1)
    assert file_names() == []
    assert not capsys.readouterr().err


def test_photos_of_the_same_name_have_different_copies():
    names = ["a/photo.jpg", "a/photo (2).jpg", "b/photo.jpg", "b/PHOTO.png"]
    add_copies(annotation.AnnotatedCopies("copies", limit=9), names)
    # Numbered as well: on some file systems PHOTO.png would replace photo.png.
    assert file_names() == ["PHOTO (4).png", "photo (2).png", "photo (3).png", "photo.png"]


def test_copies_of_an_earlier_run_are_replaced():
    for _ in range(2):
        add_copies(annotation.AnnotatedCopies("copies", limit=9), ["photo.jpg"])
    assert file_names() == ["photo.png"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("https://example.org/photo.jpg?size=large/huge", "photo.png"),
        ("what?.jpg", "what?.png"),
        ("/", "photo.png"),
    ],
)
def test_copy_is_named_after_the_file_and_not_the_query_of_an_address(name, expected):
    add_copies(annotation.AnnotatedCopies("copies", limit=9), [name])
    assert file_names() == [expected]


@pytest.mark.parametrize("letter", ["x", "漢", "🍮"])
def test_long_names_of_any_letters_fit_the_file_system(letter):
    names = [f"{folder}/{letter * 200}.jpg" for folder in ("a", "b")]
    add_copies(annotation.AnnotatedCopies("copies", limit=9), names)
    assert len(file_names()) == 2
    assert all(letter in name for name in file_names())


def test_heat_map_of_the_most_likely_class_is_beside_the_photo():
    calls = []

    def heatmaps(photos, classes):
        calls.append((photos.shape, list(classes)))
        return np.ones((1, 7, 7), np.float32)

    copies = annotation.AnnotatedCopies("copies", limit=9, heatmap_function=heatmaps)
    add_copies(copies, ["photo.jpg", "b/photo.jpg"])
    assert calls[0] == ((1, 32, 32, 3), [1])
    assert file_names() == ["photo (2)_explained.png", "photo_explained.png"]
    assert Image.open("copies/photo_explained.png").size == (800, 332)


def test_show_opens_a_window_with_each_copy(windows, monkeypatch):
    monkeypatch.setattr(annotation, "has_display", lambda: True)
    copies = annotation.AnnotatedCopies("copies", limit=1, show_windows=True)
    add_copies(copies, ["a.jpg", "b.jpg"])
    assert [picture.shape for picture in windows] == [GREY.shape]


def test_without_show_no_window_opens(windows, monkeypatch):
    monkeypatch.setattr(annotation, "has_display", lambda: True)
    add_copies(annotation.AnnotatedCopies("copies", limit=1), ["a.jpg"])
    assert windows == []


def test_show_is_one_warning_when_the_display_does_not_answer_and_the_copies_are_written(
    windows, monkeypatch, capsys
):
    """As in tmux, after the ssh connection that set DISPLAY has ended."""
    monkeypatch.setenv("DISPLAY", "localhost:99.0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    copies = annotation.AnnotatedCopies("copies", limit=9, show_windows=True)
    add_copies(copies, ["a.jpg", "b.jpg"])
    assert windows == []
    assert file_names() == ["a.png", "b.png"]
    assert capsys.readouterr().err.count("[WARN] --show needs a display") == 1
