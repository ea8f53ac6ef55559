"""build_dataset.py turns a download into a dataset of intact photos, which is then listed."""

import csv
import os
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from conftest import (
    CLASSES,
    assert_one_error,
    leftovers,
    make_flat_download,
    make_photo,
    tiny_recipe,
)
from PIL import Image

from pyimagesearch import config, datasets, images
from pyimagesearch.recipe import Split, folder_name
from pyimagesearch.support import copies
from pyimagesearch.support.errors import UserError

SPLITS = config.SPLITS
TRAINING = Path("Tiny") / config.TRAIN
ZEBRAS = Path("dataset/tiny") / config.TRAIN / "zebra"


@pytest.fixture
def build(tiny, script):
    """Return a function that runs build_dataset.py successfully: (stdout, stderr)."""

    def run(*arguments):
        status, out, messages = script("build_dataset", *arguments)
        assert status == 0, messages
        return out, messages

    return run


@pytest.fixture
def flat(tiny):
    """Make a small flat download: 3, 2 and 2 photos per class."""
    make_flat_download("Tiny", photos=(3, 2, 2))


def make_class_folders(source="Tiny", photos=(3, 2, 2)):
    """Write the photos of make_flat_download in class folders, as in Kaggle's copies."""
    make_flat_download(source, photos)
    for path in sorted(Path(source).rglob("*.jpg")):
        folder = path.parent / folder_name(CLASSES[int(path.name[0])])
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)


def snapshot(folder, pattern="*"):
    """Return {relative path: (date, bytes)} of the files in a folder."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(Path(folder).rglob(pattern))
        if path.is_file()
    }


def contents(folder):
    """Return {relative path: bytes} of the photos in a folder."""
    return {path: data for path, (_, data) in snapshot(folder, "*.jpg").items()}


def names(folder):
    """Return the names of the files in a folder."""
    return {path.name for path in Path(folder).iterdir()}


def rejected():
    """Return {file: reason} of rejected.csv."""
    with open("dataset/tiny/rejected.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def cut_short(path):
    """Remove the second half of a file."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


# From a download to a dataset


def test_flat_download_and_class_folders_give_the_same_dataset(tiny, build):
    make_flat_download("Tiny", photos=(3, 2, 2))
    build()
    from_flat = contents("dataset/tiny")
    assert len(from_flat) == 3 * (3 + 2 + 2)
    assert {path.parts[1] for path in from_flat} == {"zebra", "Noodles-Pasta", "apple"}
    make_class_folders("Folders")
    tiny(source="Folders")
    shutil.rmtree("dataset")
    build()
    assert contents("dataset/tiny") == from_flat


def test_flat_label_is_the_position_in_the_recipes_classes(flat, build):
    build()
    for label, name in enumerate(CLASSES):
        copy = Path("dataset/tiny", config.TEST, folder_name(name), f"{label}_0.jpg")
        assert copy.read_bytes() == Path("Tiny", config.TEST, copy.name).read_bytes()


def test_layout_of_the_recipe_is_used_instead_of_the_recognised_one(tiny, flat, build):
    make_photo(TRAINING / "extra" / "0_7.jpg", 0, 7)
    tiny(layout="flat")
    build()
    assert names(ZEBRAS) == {"0_0.jpg", "0_1.jpg", "0_2.jpg"}


@pytest.mark.parametrize(
    ("make", "wrong", "words"),
    [
        (make_flat_download, "training/3_0.jpg", ["3_0.jpg has label 3", "classes 0 to 2"]),
        (make_flat_download, "training/holiday.jpg", ["holiday.jpg", "<label>_<id>", "Rename it"]),
        (make_class_folders, "training/giraffe/0.jpg", ["has a folder 'giraffe'", "other data"]),
    ],
)
def test_a_wrong_photo_stops_the_build_before_anything_is_written(tiny, script, make, wrong, words):
    make("Tiny", (1, 1, 1))
    make_photo(Path("Tiny", wrong), 0, 0)
    status, _, messages = script("build_dataset")
    assert status == 2
    assert_one_error(messages, *words)
    assert not Path("dataset").exists()


def test_another_food11_is_refused(tiny, script):
    """Kaggle's imbikramsaha/food11 has the same name, eleven classes, and nothing else in common.

    It has no validation folder. The second half of the test adds one.
    """
    other = (
        *("apple_pie", "cheesecake", "chicken_curry", "french_fries", "fried_rice"),
        *("hamburger", "hot_dog", "ice_cream", "omelette", "pizza", "sushi"),
    )
    kinds = ("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat")
    tiny(classes=(*kinds, "Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"))
    for split in ("train", "test"):
        for label, name in enumerate(other):
            make_photo(Path("Tiny") / split / name / f"{label}.jpg", label, 0)
    assert_one_error(script("build_dataset")[2], "Tiny/train", "'Bread'", "other data")
    Path("Tiny/train").rename(TRAINING)
    shutil.copytree("Tiny/test", f"Tiny/{config.VAL}")
    Path("Tiny/test").rename(f"Tiny/{config.TEST}")
    assert_one_error(script("build_dataset")[2], "Tiny/training", "'Bread'", "other data")
    assert not Path("dataset").exists()


@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_files_of_archivers_and_operating_systems_are_skipped(tiny, build, make):
    make("Tiny", (3, 2, 2))
    for folder in (path for path in [Path("Tiny"), *Path("Tiny").rglob("*")] if path.is_dir()):
        (folder / ".DS_Store").write_bytes(b"Bud1")
        (folder / "._0_5.jpg").write_bytes(b"Mac OS X")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    for folder in (Path("Tiny"), TRAINING):
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "0_6.jpg").write_bytes(b"Mac OS X")
        (folder / ".ipynb_checkpoints").mkdir()
    out, messages = build()
    assert "[WARN]" not in messages
    assert "not photos" not in messages
    assert out.splitlines()[-1].split() == ["all", "9", "6", "6"]


def test_photos_are_used_whatever_their_suffix_and_blank_ones_are_counted(tiny, build):
    make_flat_download("Tiny")
    (TRAINING / "0_0.jpg").rename(TRAINING / "0_0")
    (TRAINING / "0_1.jpg").rename(TRAINING / "0_1.JFIF")
    pillow_heif.register_heif_opener()
    Image.open(TRAINING / "0_2.jpg").save(TRAINING / "0_2.heic")
    for name in ("1_0.png", "1_1.png"):
        Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(TRAINING / name)
    _, messages = build()
    assert {"0_0", "0_1.JFIF", "0_2.heic"} <= names(ZEBRAS)
    assert "not photos" not in messages
    assert (
        "[WARN] photos that are nearly black or nearly white all over: 2, the first "
        "Tiny/training/1_0.png. Open it"
    ) in messages


def test_files_that_are_not_photos_are_reported_although_no_photo_is_left(flat, script):
    for path in TRAINING.iterdir():
        path.write_bytes(b"a video")
        path.rename(path.with_suffix(".mov"))
    status, _, messages = script("build_dataset")
    assert status == 2
    assert "files in Tiny that are not photos: 9 (9 .mov)" in messages
    assert_one_error(messages, "no photos for training")


def test_photos_in_deeper_folders_are_warned_of(tiny, build):
    tiny(classes=("a", "b"), layout="unsplit", split=Split(1, 1, 1))
    for name in ("a", "b", "not used"):
        for number in range(3):
            make_photo(Path("Tiny") / name / f"{number}.jpg", len(name) + ord(name[0]), number)
    make_photo(Path("Tiny/b/2023/more/1.jpg"), 1, 1)
    _, messages = build()
    assert "[WARN] photos that are not used because they are in deeper folders: 1" in messages
    assert "Tiny/b/2023/more" in messages


# Dividing


def test_photos_are_divided_by_the_numbers_in_their_names_without_a_shuffle(tiny, build):
    tiny(classes=("a", "b"), layout="unsplit", split=Split(9, 1, 2, shuffle=False))
    for name in ("a", "b"):
        for number in range(1, 13):
            make_photo(Path("Tiny") / name / f"frame{number}.jpg", ord(name), number)
    build()
    dataset = Path("dataset/tiny")
    assert names(dataset / config.VAL / "a") == {"frame10.jpg"}
    assert names(dataset / config.TEST / "b") == {"frame11.jpg", "frame12.jpg"}


# Copies


def test_copies_keep_date_and_bytes_and_the_download_is_not_changed(flat, build):
    os.utime(TRAINING / "0_1.jpg", ns=(10**18, 10**18 + 123_456_789))
    before = snapshot("Tiny")
    build()
    assert snapshot("Tiny") == before
    assert snapshot(ZEBRAS)[Path("0_1.jpg")] == before[Path("training/0_1.jpg")]


def test_a_second_run_decodes_and_changes_nothing(flat, build, monkeypatch):
    build()
    before = snapshot("dataset", "*.jpg")
    monkeypatch.setattr(images, "read_rgb", lambda *_: pytest.fail("decoded again"))
    _, messages = build()
    assert snapshot("dataset", "*.jpg") == before
    assert rejected() == {}
    assert "dataset/tiny is up to date: 21 photos" in messages


def test_force_checks_and_copies_again(flat, build):
    build()
    inode = (ZEBRAS / "0_1.jpg").stat().st_ino
    _, messages = build("--force")
    assert "21 photos in dataset/tiny, 21 of them new" in messages
    assert (ZEBRAS / "0_1.jpg").stat().st_ino != inode


def test_a_photo_added_to_the_download_is_copied_by_the_next_run(flat, build):
    build()
    make_photo(TRAINING / "0_9.jpg", 0, 9)
    _, messages = build()
    assert "22 photos in dataset/tiny, 1 of them new" in messages
    assert "0_9.jpg" in names(ZEBRAS)


def test_a_photo_changed_in_the_download_is_copied_again(flat, build):
    build()
    make_photo(TRAINING / "0_1.jpg", 0, 77, size=(50, 50))
    build()
    assert (ZEBRAS / "0_1.jpg").read_bytes() == (TRAINING / "0_1.jpg").read_bytes()


def test_photos_with_only_another_date_are_not_copied_again(flat, build):
    build()
    before = snapshot("dataset/tiny", "*.jpg")
    for photo in Path("Tiny").rglob("*.jpg"):
        os.utime(photo, (0, 0))
    _, messages = build()
    assert "is up to date" in messages
    assert snapshot("dataset/tiny", "*.jpg") == before


def test_each_split_is_announced_and_the_photos_are_counted_by_class(flat, build):
    make_photo(TRAINING / "2_9.jpg", 2, 9)
    out, messages = build()
    assert "[INFO] processing 'training split': 10 photos..." in messages
    assert "[INFO] processing 'evaluation split': 6 photos..." in messages
    assert [line.split() for line in out.splitlines()] == [
        ["training", "validation", "evaluation"],
        ["zebra", "3", "2", "2"],
        ["Noodles/Pasta", "3", "2", "2"],
        ["apple", "4", "2", "2"],
        ["all", "10", "6", "6"],
    ]


def test_validate_on_evaluation_copies_the_evaluation_photos_into_both_splits(tiny, flat, build):
    tiny(validate_on_evaluation=True)
    _, messages = build()
    assert contents("dataset/tiny/validation") == contents("dataset/tiny/evaluation")
    assert "exact copy" not in messages


# Damaged photos


def test_damaged_photos_are_left_out_and_listed_with_the_reason(flat, build):
    cut_short(TRAINING / "0_0.jpg")
    (TRAINING / "1_0.jpg").write_text("<h1>404 Not Found</h1>")
    (TRAINING / "2_0.jpg").write_bytes(b"")
    out, messages = build()
    assert "photos left out: 3, listed in dataset/tiny/rejected.csv" in messages
    assert "Tiny/training/0_0.jpg: damaged" in messages
    assert not list(Path("dataset").rglob(f"{config.TRAIN}/*/*_0.jpg"))
    reasons = rejected()
    assert set(reasons) == {f"Tiny/training/{label}_0.jpg" for label in range(3)}
    assert "runcated" in reasons["Tiny/training/0_0.jpg"]
    assert reasons["Tiny/training/1_0.jpg"] == "not a picture of a known kind"
    assert reasons["Tiny/training/2_0.jpg"] == "the file is empty"
    assert out.splitlines()[-1].split() == ["all", "6", "6", "6"]
    assert not leftovers()


def test_a_repaired_photo_is_copied_and_leaves_the_list(flat, build):
    intact = (TRAINING / "0_0.jpg").read_bytes()
    cut_short(TRAINING / "0_0.jpg")
    build()
    (TRAINING / "0_0.jpg").write_bytes(intact)
    _, messages = build()
    assert "1 of them new" in messages
    assert "left out" not in messages
    assert (ZEBRAS / "0_0.jpg").read_bytes() == intact
    assert rejected() == {}


def test_nothing_is_warned_of_if_every_photo_is_intact(flat, build):
    _, messages = build()
    assert "[WARN]" not in messages
    assert rejected() == {}


# Other warnings


def test_exact_copies_in_two_splits_are_warned_of(flat, build):
    shutil.copy(TRAINING / "0_0.jpg", f"Tiny/{config.TEST}/0_9.jpg")
    _, messages = build()
    assert "exact copy in another split: 1. " in messages
    assert "Tiny/training/0_0.jpg = Tiny/evaluation/0_9.jpg" in messages


def test_exact_copies_in_one_split_are_not_warned_of(flat, build):
    shutil.copy(TRAINING / "0_0.jpg", TRAINING / "0_9.jpg")
    _, messages = build()
    assert "exact copy" not in messages


def test_counts_other_than_the_official_ones_are_warned_of(tiny, flat, build):
    tiny(official_counts={"training": 9, "validation": 6, "evaluation": 100})
    _, messages = build()
    assert "evaluation has 6 photos; the official download has 100" in messages
    assert messages.count("the official download") == 1


def test_official_counts_do_not_include_photos_that_were_left_out(tiny, flat, build):
    tiny(official_counts={"training": 9})
    cut_short(TRAINING / "0_0.jpg")
    _, messages = build()
    assert "training has 8 photos; the official download has 9" in messages


def test_official_counts_are_not_mentioned_if_they_agree(tiny, flat, build):
    tiny(official_counts={"training": 9, "validation": 6, "evaluation": 6})
    _, messages = build()
    assert "official" not in messages


def test_photos_that_are_only_in_the_dataset_are_warned_of_and_not_deleted(flat, build):
    build()
    make_photo(ZEBRAS / "mine.jpg", 0, 50)
    _, messages = build()
    assert "photos in dataset/tiny that do not come from Tiny: 1" in messages
    assert "dataset/tiny/training/zebra/mine.jpg" in messages
    assert names(ZEBRAS) == {"0_0.jpg", "0_1.jpg", "0_2.jpg", "mine.jpg"}


def test_a_photo_renamed_and_moved_to_another_split_of_the_download_moves_in_the_dataset(
    flat, build
):
    build()
    (TRAINING / "0_0.jpg").rename(Path("Tiny") / config.TEST / "0_new.jpg")
    _, messages = build()
    assert "[WARN]" not in messages
    assert names(ZEBRAS) == {"0_1.jpg", "0_2.jpg"}
    assert "0_new.jpg" in names(f"dataset/tiny/{config.TEST}/zebra")


# Names


STRANGE_NAMES = (
    "a photo with spaces.jpg",
    "Crème brûlée 😋.jpg",
    "LOUD.JPG",
    "-rf.jpg",
    "--force.jpg",
    "two\nlines.jpg",
    "dots.in.name.jpeg",
    "x" * 251 + ".jpg",
    # Old archives have names in Latin-1, which is not UTF-8. macOS does not allow them.
    *(() if sys.platform == "darwin" else (os.fsdecode(b"caf\xe9.jpg"),)),
)


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_photos_with_any_name_are_copied(tiny, build, make, name):
    make("Tiny", (1, 1, 1))
    name = name if make is make_class_folders else "0_" + name[-253:]
    zebras = TRAINING / "zebra" if make is make_class_folders else TRAINING
    shutil.copy2(f"{zebras}/0_0.jpg", zebras / name)
    build()
    assert names(ZEBRAS) == {"0_0.jpg", name}
    _, messages = build()
    assert "up to date" in messages


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
def test_damaged_photos_with_any_name_are_listed(tiny, build, name):
    make_class_folders()
    (TRAINING / "zebra" / name).write_bytes(b"")
    # console.run does this for the real stderr, but not for pytest's.
    sys.stderr.reconfigure(errors="backslashreplace")
    _, messages = build()
    assert "photos left out: 1, " in messages
    (listed,) = rejected()
    assert listed == f"Tiny/training/zebra/{name.encode(errors='backslashreplace').decode()}"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one file for both names")
def test_names_that_differ_in_case_only_have_copies_that_differ_by_more(tiny, build):
    """On Windows and macOS, copies with such names would overwrite each other."""
    make_class_folders()
    before = [path.read_bytes() for path in sorted((TRAINING / "zebra").iterdir())]
    names = ("Photo.jpg", "photo.jpg", "Photo.JPG", "zebra_photo.jpg")
    for number, name in enumerate(names):
        make_photo(TRAINING / "zebra" / name, 0, 100 + number)
    originals = [(TRAINING / "zebra" / name).read_bytes() for name in names]
    build()
    copies = list(ZEBRAS.iterdir())
    assert len({path.name.casefold() for path in copies}) == len(copies)
    assert sorted(path.read_bytes() for path in copies) == sorted([*before, *originals])
    dates = {path: path.stat().st_mtime_ns for path in copies}
    build()
    assert {path: path.stat().st_mtime_ns for path in ZEBRAS.iterdir()} == dates


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_recipe", ["NFC", "NFD"])
def test_a_class_is_found_in_either_form_of_its_accent(tiny, script, on_disk, in_recipe):
    """Keyboards type é as one character (NFC), macOS stores it as two (NFD)."""
    name, other = "crème brûlée", "apple pie"
    tiny(source="mine", classes=(unicodedata.normalize(in_recipe, name), other), layout="unsplit")
    for label, folder in enumerate((unicodedata.normalize(on_disk, name), other)):
        for number in range(10):
            make_photo(Path("mine", folder, f"{number}.jpg"), label, number)
    status, counts, messages = script("build_dataset")
    assert status == 0, messages
    assert "not used" not in messages
    assert counts.splitlines()[-1].split() == ["all", "12", "4", "4"]
    # As if the dataset had been copied from a Mac.
    for split in SPLITS:
        folder = Path("dataset/tiny", split)
        folder.joinpath(name).rename(folder / unicodedata.normalize("NFD", name))
        photos = datasets.list_photos("dataset", config.RECIPES["tiny"], split)
        assert len(set(photos.labels)) == 2


def test_links_in_a_circle_are_not_followed(tiny, build):
    make_class_folders()
    (TRAINING / "zebra" / "loop").symlink_to("..", target_is_directory=True)
    (TRAINING / "zebra" / "self.jpg").symlink_to("self.jpg")
    (Path("Tiny") / "loop").symlink_to(".", target_is_directory=True)
    build()
    assert names(ZEBRAS) == {"0_0.jpg", "0_1.jpg", "0_2.jpg"}


def test_a_link_to_a_photo_is_copied_as_a_photo(flat, build):
    (TRAINING / "0_9.jpg").symlink_to(Path("0_0.jpg"))
    build()
    assert not (ZEBRAS / "0_9.jpg").is_symlink()
    assert (ZEBRAS / "0_9.jpg").read_bytes() == (TRAINING / "0_0.jpg").read_bytes()


# Interruptions, and a source in the dataset


def check_until_stopped(real, calls):
    """Return a read_rgb that raises Ctrl-C at the eighth photo."""

    def read(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        if len(calls) > 8:
            time.sleep(0.2)  # gives the main thread time to stop the others
        return real(*arguments)

    return read


def copy_until_stopped(real, calls):
    """Return a clone that raises Ctrl-C in the middle of the eighth photo."""

    def copy(source, target):
        calls.append(source)
        if len(calls) == 8:
            Path(target).write_bytes(Path(source).read_bytes()[:500])
            raise KeyboardInterrupt
        if len(calls) > 8:
            time.sleep(0.2)
        return real(source, target)

    return copy


@pytest.mark.parametrize(
    ("module", "name", "stop"),
    [(images, "read_rgb", check_until_stopped), (copies, "clone", copy_until_stopped)],
    ids=["checking", "copying"],
)
def test_ctrl_c_leaves_only_whole_photos_and_the_next_run_adds_the_others(
    flat, build, script, monkeypatch, module, name, stop
):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop(getattr(module, name), []))
        status, _, messages = script("build_dataset")
    assert status == 130
    assert "stopped" in messages
    assert "Traceback" not in messages
    assert not leftovers()
    copied = contents("dataset/tiny")
    assert len(copied) < 16
    originals = contents("Tiny")
    for path, data in copied.items():
        assert originals[Path(path.parts[0], path.name)] == data

    _, messages = build()
    assert f"21 photos in dataset/tiny, {21 - len(copied)} of them new" in messages


@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_a_source_in_the_dataset_is_refused(tiny, script, make):
    make("dataset/tiny", (3, 2, 2))
    tiny(source="dataset/tiny")
    before = snapshot("dataset")
    for arguments in ((), ("--force",)):
        status, _, messages = script("build_dataset", *arguments)
        assert status == 2
        assert_one_error(messages, "dataset/tiny", "another folder")
        assert snapshot("dataset") == before


def test_a_dataset_that_links_to_the_download_is_refused(tiny, script):
    make_class_folders()
    Path("dataset").mkdir()
    Path("dataset/tiny").symlink_to(Path("Tiny").resolve())
    before = snapshot("Tiny")
    status, _, messages = script("build_dataset", "--force")
    assert status == 2
    assert_one_error(messages, "another folder")
    assert snapshot("Tiny") == before


# Listing a dataset


@pytest.fixture
def list_split(built):
    """Build the tiny dataset; return a function that lists a split of it."""

    def list_split(split=config.TRAIN):
        return datasets.list_photos("dataset", tiny_recipe(), split)

    return list_split


def test_list_photos_sorts_by_the_recipes_classes_and_then_by_name(list_split):
    photos = list_split()
    assert photos.classes == CLASSES
    folders = [path.parent.name for path in photos.paths]
    assert folders == ["zebra"] * 7 + ["Noodles-Pasta"] * 7 + ["apple"] * 7
    assert list(photos.labels) == [0] * 7 + [1] * 7 + [2] * 7
    zebras = [path.name for path in photos.paths[:7]]
    assert zebras == sorted(zebras)


def test_list_photos_skips_hidden_files_and_files_that_are_not_photos(list_split):
    before = len(list_split())
    folder = Path("dataset/tiny/training/zebra")
    for name in ("._0_0.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / name).write_text("x")
    (folder / "album.jpg").mkdir()
    (folder.parent / ".ipynb_checkpoints").mkdir()
    assert len(list_split()) == before


def test_list_photos_names_a_missing_split_an_empty_class_and_an_unknown_folder(list_split):
    with pytest.raises(UserError, match=r"nowhere is missing.*build_dataset\.py --recipe tiny"):
        list_split("nowhere")
    unknown = Path("dataset/tiny/training/giraffe")
    unknown.mkdir()
    list_split()
    make_photo(unknown / "0.jpg", 0, 0)
    with pytest.raises(UserError, match=r"giraffe does not belong to a class.*Move it away"):
        list_split()
    shutil.rmtree(unknown)
    for path in Path("dataset/tiny/training/apple").iterdir():
        path.unlink()
    message = r"apple has no photos.*build_dataset\.py --recipe tiny"
    with pytest.raises(UserError, match=message):
        datasets.list_splits("dataset", tiny_recipe(), SPLITS)
    Path("dataset/tiny/training/apple").rmdir()
    with pytest.raises(UserError, match=message):
        datasets.list_splits("dataset", tiny_recipe(), SPLITS)


def test_list_splits_lists_all_three_splits(list_split):
    splits = datasets.list_splits("dataset", tiny_recipe(), SPLITS)
    assert splits._fields == ("training", "validation", "evaluation")
    for photos, split in zip(splits, SPLITS, strict=True):
        assert photos.paths == list_split(split).paths


def test_digest_changes_when_a_photo_is_added_changed_or_removed(list_split):
    first = list_split().digest
    assert list_split().digest == first
    path = Path("dataset/tiny/training/zebra/0_0.jpg")
    path.with_name("0_new.jpg").write_bytes(path.read_bytes())
    added = list_split().digest
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    touched = list_split().digest
    path.write_bytes(path.read_bytes() + b"x")
    longer = list_split().digest
    path.unlink()
    removed = list_split().digest
    assert len({first, added, touched, longer, removed}) == 5


def test_digest_names_a_photo_that_has_disappeared(list_split):
    photos = list_split()
    photos.paths[3].unlink()
    with pytest.raises(UserError, match=r"zebra/0_3\.jpg has just disappeared\. Put it back"):
        _ = photos.digest


def test_take_keeps_paths_and_labels_together(list_split):
    photos = list_split()
    taken = photos.take([20, 0, 8])
    assert taken.paths == (photos.paths[20], photos.paths[0], photos.paths[8])
    assert list(taken.labels) == [2, 0, 1]
    assert taken.classes == CLASSES


# Holding out a share of the training photos


def photos_with_labels(*labels):
    """Return Photos with these labels; the files do not exist."""
    paths = tuple(Path(f"{number}.jpg") for number in range(len(labels)))
    return datasets.Photos(paths, np.array(labels), CLASSES)


def hold_out(photos, share, seed):
    """Return the training and validation photos that hold_out makes of training photos."""
    others = photos_with_labels(0)
    training, validation, evaluation = datasets.hold_out(
        datasets.Splits(photos, others, others), share, seed
    )
    assert evaluation == others
    return training, validation


def test_hold_out_of_nothing_leaves_the_splits_as_they_are():
    splits = datasets.Splits(*(photos_with_labels(label) for label in range(3)))
    assert datasets.hold_out(splits, 0, seed=1) is splits


def test_hold_out_takes_a_share_of_each_class_and_leaves_one_photo_to_train_on():
    photos = photos_with_labels(*[0] * 20, *[1] * 4, 2)
    for seed in range(20):
        rest, held_out = hold_out(photos, 0.2, seed)
        assert list(np.bincount(held_out.labels, minlength=3)) == [4, 1, 0]
        assert list(np.bincount(rest.labels)) == [16, 3, 1]
        assert set(rest.paths) | set(held_out.paths) == set(photos.paths)
        assert list(held_out.labels) == sorted(held_out.labels)


def test_hold_out_draws_other_photos_from_another_seed():
    photos = photos_with_labels(*[0] * 20, *[1] * 4, 2)
    first, again, other = (hold_out(photos, 0.2, seed)[1].paths for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_hold_out_refuses_if_no_class_has_two_photos():
    with pytest.raises(UserError, match="held_out needs a class with two"):
        hold_out(photos_with_labels(0, 1, 2), 0.2, 1)
