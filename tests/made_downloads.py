"""Small made downloads with the folders, file names and class balance of the real ones."""

from pathlib import Path

from conftest import make_photo

FOOD11_EVALUATION = (368, 148, 500, 335, 287, 432, 147, 96, 303, 500, 231)  # photos per class


def make_food5k():
    """Write Food-5K/<split>/<label>_<number>.jpg."""
    for split, count in (("training", 30), ("validation", 10), ("evaluation", 10)):
        for number in range(count):
            label = number % 2
            make_photo(Path("Food-5K", split, f"{label}_{number}.jpg"), label, number)


def make_food11():
    """Write Food-11/<split>/<label>_<number>.jpg."""
    for split in ("training", "validation", "evaluation"):
        for label, count in enumerate(FOOD11_EVALUATION):
            for number in range(max(1, count // 100)):
                make_photo(Path("Food-11", split, f"{label}_{number}.jpg"), label, number)


def make_knifey_spoony():
    """Write knifey-spoony/<class>/, and knifey-spoony/<class>/test/."""
    counts = {"forky": (10, 3), "knifey": (12, 3), "spoony": (20, 5)}
    for label, (name, (training, test)) in enumerate(counts.items()):
        for number in range(training):
            path = Path("knifey-spoony", name, f"{name}-{number:02}-{number}.jpg")
            make_photo(path, label, number)
        for number in range(test):
            path = Path("knifey-spoony", name, "test", f"{name}-test-{number}.jpg")
            make_photo(path, label, 900 + number)


def make_cats_vs_dogs(cats=12, dogs=12, first=0):
    """Write dogs-vs-cats/train/<class>.<number>.jpg, with numbers from `first`."""
    for label, (name, count) in enumerate((("cat", cats), ("dog", dogs))):
        for number in range(first, first + count):
            make_photo(Path("dogs-vs-cats", "train", f"{name}.{number}.jpg"), label, number)


def make_simpsons(names=("bart_simpson", "homer_simpson", "lisa_simpson")):
    """Write simpsons/<class>/, with one photo more in each class than in the one before."""
    for label, name in enumerate(names):
        for number in range(14 + label):
            make_photo(Path("simpsons", name, f"pic_{number:04}.jpg"), label, number)
