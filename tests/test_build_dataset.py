"""build_dataset.py: what it writes, prints and suggests. The rules are in test_datasets.py."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_error, leftovers, make_flat_download, make_photo

from pyimagesearch import config, images

FOLDERS = ("zebra", "Noodles-Pasta", "apple")  # "/" cannot be in a folder's name


@pytest.fixture
def download(tiny):
    """Make a download of the tiny recipe: 3, 2 and 2 photos per class."""
    make_flat_download("Tiny", photos=(3, 2, 2))


def photo_counts(folder="dataset/tiny"):
    """Return {"<split>/<class>": number of photos} of a dataset."""
    paths = sorted(Path(folder).rglob("*.jpg"))
    parents = [str(path.parent.relative_to(folder)) for path in paths]
    return {parent: parents.count(parent) for parent in parents}


def test_every_photo_gets_into_the_folder_of_its_split_and_class(download, script):
    status, table, messages = script("build_dataset")
    assert status == 0
    sizes = {"training": 3, "validation": 2, "evaluation": 2}
    assert photo_counts() == {
        f"{split}/{name}": sizes[split] for split in sizes for name in FOLDERS
    }
    assert table.splitlines()[-1].split() == ["all", "9", "6", "6"]
    assert "21 photos in dataset/tiny, 21 of them new" in messages
    assert not leftovers()


def test_second_run_copies_nothing_and_says_so(download, script):
    script("build_dataset")
    before = {path: path.stat().st_mtime_ns for path in Path("dataset").rglob("*.jpg")}
    status, table, messages = script("build_dataset")
    assert status == 0
    assert "dataset/tiny is up to date: 21 photos" in messages
    assert table.splitlines()[-1].split() == ["all", "9", "6", "6"]
    assert {path: path.stat().st_mtime_ns for path in Path("dataset").rglob("*.jpg")} == before


def test_first_look_is_drawn_after_every_change_of_the_photos(download, script):
    picture = Path("output/tiny/first_look.png")
    _, _, messages = script("build_dataset")
    assert f"a first look at the training photos: {picture}" in messages
    drawn = picture.stat().st_mtime_ns
    script("build_dataset")
    assert picture.stat().st_mtime_ns == drawn
    make_photo(Path("Tiny/training/0_99.jpg"), 0, 99)
    script("build_dataset")
    assert picture.stat().st_mtime_ns > drawn
    picture.unlink()
    script("build_dataset")
    assert picture.is_file()


@pytest.mark.parametrize(
    ("method", "script_name"),
    [("logistic_regression", "extract_features.py"), ("fine_tune", "train.py")],
)
def test_next_command_is_that_of_the_recipes_method(download, tiny, script, method, script_name):
    tiny(method=method)
    _, _, messages = script("build_dataset")
    assert messages.splitlines()[-1] == f"[INFO] next: python {script_name} --recipe tiny"


def test_recipe_argument_chooses_another_row(download, script, monkeypatch):
    monkeypatch.setattr(config, "RECIPE", "not a row")
    assert script("build_dataset", "--recipe", "tiny")[0] == 0
    assert sum(photo_counts().values()) == 21


def test_splits_have_the_names_of_the_config(tiny, script, monkeypatch):
    for name, split in (("TRAIN", "train"), ("VAL", "val"), ("TEST", "test")):
        monkeypatch.setattr(config, name, split)
    monkeypatch.setattr(config, "SPLITS", ("train", "val", "test"))
    make_flat_download("Tiny", photos=(1, 1, 1))
    assert script("build_dataset")[0] == 0
    assert set(photo_counts()) == {
        f"{split}/{name}" for split in ("train", "val", "test") for name in FOLDERS
    }


def test_dataset_folder_may_be_a_string(download, script, monkeypatch):
    monkeypatch.setattr(config, "DATASET_DIR", "photos")
    assert script("build_dataset")[0] == 0
    assert sum(photo_counts("photos/tiny").values()) == 21


def test_photo_that_cannot_be_read_is_left_out_and_the_others_are_copied(download, script):
    Path("Tiny/training/0_0.jpg").write_bytes(Path("Tiny/training/0_1.jpg").read_bytes()[:200])
    status, _, messages = script("build_dataset")
    assert status == 0
    assert photo_counts()["training/zebra"] == 2
    assert "photos left out: 1, listed in dataset/tiny/rejected.csv" in messages
    assert "Tiny/training/0_0.jpg" in Path("dataset/tiny/rejected.csv").read_text()


def test_folder_of_an_unknown_class_in_the_dataset_is_refused_by_the_next_script(download, script):
    script("build_dataset")
    make_photo(Path("dataset/tiny/training/cat/1.jpg"), 0, 0)
    status, _, messages = script("extract_features")
    assert status == 2
    assert_one_error(messages, "training/cat does not belong to a class of recipe 'tiny'")


@pytest.fixture
def peak_of_many(tiny, script, monkeypatch):
    """Return a function that builds a dataset of `count` photos; it returns its peak memory."""
    tiny(classes=None, official_counts=None)
    # Decoding photos and drawing them takes the same memory for any number of them.
    monkeypatch.setattr(images, "read_rgb", lambda *_: np.full((8, 8, 3), 128, np.uint8))
    monkeypatch.setattr("build_dataset.draw_first_look", lambda *_: None)

    def build(count):
        for number in range(count):
            path = Path(f"Tiny/class_{number % 2}/IMG_{number:06}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"photo {number}")
        tracemalloc.start()
        try:
            assert script("build_dataset")[0] == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return build


def test_a_photo_takes_less_than_2_kb_of_memory_also_when_a_dataset_is_brought_up_to_date(
    peak_of_many,
):
    peak_of_many(10)  # imports modules, which takes memory too
    few, few_again = peak_of_many(50), peak_of_many(50)
    many, many_again = peak_of_many(250), peak_of_many(250)
    assert 500 < (many - few) / 200 < 2000
    assert 500 < (many_again - few_again) / 200 < 2000
