"""Fonts for the names of classes and files: the usual one has no Chinese, Hindi or Thai letters."""

import functools
import importlib.util
import itertools
from pathlib import Path

from pyimagesearch.support import console

# OpenCV's fonts have ASCII letters only. This one comes with matplotlib, whose import takes longer
# than a prediction, so only its folder is looked up.
MATPLOTLIB = Path(importlib.util.find_spec("matplotlib").origin).parent
USUAL = MATPLOTLIB / "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"
# The usual font has all characters before this one: Latin, Greek and Cyrillic letters.
FIRST_OTHER = "\u0500"
# Fonts with one of these words in their name have a box for every character, or have coloured
# characters, which cannot be drawn.
UNUSABLE = ("LastResort", "Color")


@functools.cache
def find(character):
    """Return the path of a font that has a character, or None."""
    if character < FIRST_OTHER:
        return USUAL
    return next((path for path in installed() if ord(character) in characters(path)), None)


def parts(text):
    """Return [(path of a font, part of the text)]: neighbouring characters in the same font.

    A font for one language may lack the letters and digits of others.
    """
    return [(path or USUAL, "".join(part)) for path, part in itertools.groupby(text, find)]


def installed():
    """Yield the paths of all fonts that can be used, the usual one first."""
    from matplotlib import font_manager

    yield USUAL
    known = {font.fname for font in font_manager.fontManager.ttflist}
    # matplotlib stores the first list, so a font that was just installed is only in the second.
    for paths in (lambda: known, font_manager.findSystemFonts):
        for path in map(Path, sorted(paths())):
            if not any(word in path.name for word in UNUSABLE):
                yield path


@functools.cache
def characters(path):
    """Return the characters of a font as a set of their Unicode numbers; {} if it is damaged."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()  # or it was removed, but is still in matplotlib's list


def class_name(name, number):
    """Return the name of a class as pictures show it: its number, if no font has the name."""
    if all(map(find, name)):
        return name
    warn_of_numbers()
    return f"class {number}"


@functools.cache
def warn_of_numbers():
    """Warn once that pictures show numbers."""
    console.warn(
        "no installed font has all characters of some class names: pictures show the numbers of "
        "these classes, counted from 0. Install a font for their language, such as Noto Sans"
    )


def drawable(text):
    """Return a text with question marks for the characters that no font has."""
    return "".join(character if find(character) else "?" for character in text)


def choose(artist):
    """Give each text in a matplotlib figure, or a single one, the fonts that have its characters.

    What no font has becomes a question mark, as the names of files may need.
    """
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

    for element in artist.findobj(Text):
        text = drawable(element.get_text())
        others = set(map(find, text)) - {USUAL}
        for path in others:
            fontManager.addfont(path)
        families = {FT2Font(path).family_name for path in others} - {*element.get_fontfamily()}
        element.set_text(text)
        element.set_fontfamily([*element.get_fontfamily(), *sorted(families)])
