from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimagesearch.report import annotation, figures, fonts

STIX = fonts.USUAL.with_name("STIXGeneral.ttf")
# The usual font has none of these: STIX has the first, and no font of matplotlib has the second.
IN_STIX = "\N{LATIN SMALL LETTER D WITH PALATAL HOOK}\N{LATIN SMALL LETTER K WITH PALATAL HOOK}"
IN_NONE = "\N{CJK UNIFIED IDEOGRAPH-732B}"
GREY = np.full((300, 400, 3), 128, np.uint8)


@pytest.fixture(autouse=True)
def two_fonts(monkeypatch):
    """Let the usual font and STIX be the only ones that are installed."""
    monkeypatch.setattr(fonts, "installed", lambda: [fonts.USUAL, STIX])
    caches = fonts.find, fonts.warn_of_numbers
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def test_european_letters_are_in_the_usual_font_without_a_look_at_others(monkeypatch):
    text = "crème brûlée, Ærø, Žižek, Борщ, μελιτζάνα: > 99 %"
    assert set(map(ord, text)) <= fonts.characters(fonts.USUAL)
    monkeypatch.setattr(fonts, "installed", lambda: pytest.fail("looked up"))
    assert fonts.parts(text) == [(fonts.USUAL, text)]


def test_fonts_of_boxes_and_of_coloured_characters_are_not_used(monkeypatch):
    monkeypatch.undo()
    installed = list(fonts.installed())
    assert installed[0] == fonts.USUAL
    assert STIX in installed
    assert not [path for path in installed if "LastResort" in path.name or "Color" in path.name]


def test_font_that_was_removed_or_is_damaged_is_skipped(monkeypatch):
    Path("damaged.ttf").write_bytes(b"not a font")
    paths = [Path("removed.ttf"), Path("damaged.ttf"), STIX]
    monkeypatch.setattr(fonts, "installed", lambda: paths)
    assert fonts.find(IN_STIX[0]) == STIX


def test_each_part_of_a_text_gets_a_font_that_has_it():
    assert fonts.parts(f"a {IN_STIX}: 75 %") == [
        (fonts.USUAL, "a "),
        (STIX, IN_STIX),
        (fonts.USUAL, ": 75 %"),
    ]


def test_copy_of_a_photo_shows_the_letters_of_another_font():
    first, second = (annotation.annotate(GREY, letter) for letter in IN_STIX)
    assert np.any(first != second)  # the boxes for two missing letters are the same


def test_copies_show_the_number_of_a_class_whose_name_no_font_has(capsys):
    copies = annotation.AnnotatedCopies("copies", limit=9)
    for name in ("a.jpg", "b.jpg"):
        copies.add(name, None, GREY, np.array([0.25, 0.75]), (IN_NONE, 0.75))
    with Image.open("copies/b.png") as picture:
        np.testing.assert_array_equal(picture, annotation.annotate(GREY, "class 1: 75 %"))
    assert capsys.readouterr().err.count("[WARN] no installed font has all characters") == 1


def test_figures_write_every_name_without_a_warning(monkeypatch, recwarn, capsys):
    drawn = []
    monkeypatch.setattr(figures.plt, "close", drawn.append)
    figures.draw_confusion("confusion.png", np.eye(3, dtype=int), ("cake", IN_STIX, IN_NONE))
    tile = figures.Tile(GREY, name=IN_STIX, file=f"{IN_NONE}.jpg")
    figures.draw_sheet("sheet.png", IN_NONE, {IN_STIX: [tile]}, columns=1)
    names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert names == ["cake", IN_STIX, "class 2"]
    texts = [text.get_text() for text in drawn[1].axes[0].texts]
    assert texts == ["?", IN_STIX, IN_STIX, "?.jpg"]
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert capsys.readouterr().err.count("[WARN]") == 1
