"""Small made downloads, laid out, named and balanced as the real ones."""

from pathlib import Path

from conftest import make_photo

FOOD11_EVALUATION = (368, 148, 500, 335, 287, 432, 147, 96, 303, 500, 231)


def make_food5k():
    for split, count in (("training", 30), ("validation", 10), ("evaluation", 10)):
        for number in range(count):
            make_photo(Path("Food-5K", split, f"{number % 2}_{number}.jpg"), number % 2, number)


def make_food11():
    for split in ("training", "validation", "evaluation"):
        for label, support in enumerate(FOOD11_EVALUATION):
            for number in range(max(1, support // 100)):
                make_photo(Path("Food-11", split, f"{label}_{number}.jpg"), label, number)


def make_knifey_spoony():
    for label, (name, training, test) in enumerate(
        (("forky", 10, 3), ("knifey", 12, 3), ("spoony", 20, 5))
    ):
        for number in range(training):
            path = Path("knifey-spoony", name, f"{name}-{number:02}-{number}.jpg")
            make_photo(path, label, number)
        for number in range(test):
            path = Path("knifey-spoony", name, "test", f"{name}-test-{number}.jpg")
            make_photo(path, label, 900 + number)


def make_cats_vs_dogs(cats=12, dogs=12, first=0):
    for label, (name, count) in enumerate((("cat", cats), ("dog", dogs))):
        for number in range(first, first + count):
            make_photo(Path("dogs-vs-cats", "train", f"{name}.{number}.jpg"), label, number)


def make_simpsons(names=("bart_simpson", "homer_simpson", "lisa_simpson")):
    for label, name in enumerate(names):
        for number in range(14 + label):
            make_photo(Path("simpsons", name, f"pic_{number:04}.jpg"), label, number)
