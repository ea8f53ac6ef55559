"""A download as it comes becomes dataset/<recipe>/<split>/<class>/, whole and nothing else."""

import csv
import os
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import (
    CLASSES,
    assert_one_error,
    leftovers,
    make_flat_download,
    make_photo,
    tiny_recipe,
)

from pyimagesearch import config, datasets, images
from pyimagesearch.recipe import Split, folder_name

SPLITS = (config.TRAIN, config.VAL, config.TEST)
TRAINING = Path("Tiny") / config.TRAIN
ZEBRAS = Path("dataset/tiny") / config.TRAIN / "zebra"


@pytest.fixture
def build(tiny, script):
    """Return a function that runs build_dataset.py, which has to succeed: (stdout, stderr)."""

    def run(*arguments):
        status, out, said = script("build_dataset", *arguments)
        assert status == 0, said
        return out, said

    return run


@pytest.fixture
def flat(tiny):
    """Make a small flat download."""
    make_flat_download("Tiny", photos=(3, 2, 2))


@pytest.fixture
def refused(tiny, script):
    """Return a function that runs build_dataset.py, which has to refuse with these words."""

    def run(*words):
        status, _, said = script("build_dataset")
        assert status == 2
        assert_one_error(said, *words)
        assert not Path("dataset").exists()

    return run


def make_class_folders(source="Tiny", photos=(3, 2, 2)):
    """Write the photos of make_flat_download in class folders, as Kaggle's copies have them."""
    make_flat_download(source, photos)
    for path in sorted(Path(source).rglob("*.jpg")):
        folder = path.parent / folder_name(CLASSES[int(path.name[0])])
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)


def snapshot(folder):
    """Return {relative path: (date, bytes)} of the files below a folder."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def only_photos(files):
    """Return a snapshot without what are no photos."""
    return {path: seen for path, seen in files.items() if path.suffix == ".jpg"}


def only_bytes(folder):
    """Return {relative path: bytes} of the photos below a folder."""
    return {path: data for path, (_, data) in only_photos(snapshot(folder)).items()}


def names(folder):
    """Return the names of what lies in a folder."""
    return {path.name for path in Path(folder).iterdir()}


def rejected():
    """Return {file: reason} of rejected.csv."""
    with open("dataset/tiny/rejected.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def cut_short(path):
    """Take the second half of a file away."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


# Layouts


def test_flat_download_and_class_folders_come_out_as_the_same_dataset(tiny, build):
    make_flat_download("Tiny", photos=(3, 2, 2))
    build()
    flat = only_bytes("dataset/tiny")
    assert len(flat) == 3 * (3 + 2 + 2)
    assert {path.parts[1] for path in flat} == {"zebra", "Noodles-Pasta", "apple"}
    make_class_folders("Folders")
    tiny(source="Folders")
    shutil.rmtree("dataset")
    build()
    assert only_bytes("dataset/tiny") == flat


def test_flat_label_is_the_place_in_the_recipe_and_not_in_the_alphabet(flat, build):
    build()
    for label, name in enumerate(CLASSES):
        copy = Path("dataset/tiny", config.TEST, folder_name(name), f"{label}_0.jpg")
        assert copy.read_bytes() == Path("Tiny", config.TEST, copy.name).read_bytes()


@pytest.mark.parametrize(
    ("make", "layout"), [(make_flat_download, "flat"), (make_class_folders, "folders")]
)
def test_layout_is_recognised(tiny, make, layout):
    make("Tiny", (1, 1, 1))
    assert datasets.recognise(config.RECIPES["tiny"], Path("Tiny"), SPLITS) == layout


def test_layout_of_the_recipe_is_obeyed_where_another_would_be_recognised(tiny, flat, build):
    make_photo(TRAINING / "extra" / "0_7.jpg", 0, 7)
    tiny(layout="flat")
    build()
    assert names(ZEBRAS) == {"0_0.jpg", "0_1.jpg", "0_2.jpg"}


def test_layout_of_the_recipe_is_obeyed_where_it_is_wrong(tiny, flat, refused):
    tiny(layout="folders")
    refused("Tiny/training", "lacks the folder 'Noodles-Pasta'")


# Copies


def test_copies_keep_date_and_bytes_and_the_download_is_left_as_it_is(flat, build):
    os.utime(TRAINING / "0_1.jpg", ns=(10**18, 10**18 + 123_456_789))
    before = snapshot("Tiny")
    build()
    assert snapshot("Tiny") == before
    assert snapshot(ZEBRAS)[Path("0_1.jpg")] == before[Path("training/0_1.jpg")]


def test_a_second_run_changes_nothing_and_says_so(flat, build, monkeypatch):
    build()
    before = snapshot("dataset")
    monkeypatch.setattr(images, "read_rgb", lambda data: pytest.fail("decoded again"))
    _, said = build()
    assert only_photos(snapshot("dataset")) == only_photos(before)
    assert rejected() == {}
    assert "dataset/tiny is up to date: 21 photos" in said


def test_force_checks_and_copies_again(flat, build):
    build()
    inode = (ZEBRAS / "0_1.jpg").stat().st_ino
    _, said = build("--force")
    assert "21 photos copied" in said
    assert (ZEBRAS / "0_1.jpg").stat().st_ino != inode


def test_a_photo_added_to_the_download_later_is_picked_up(flat, build):
    build()
    make_photo(TRAINING / "0_9.jpg", 0, 9)
    _, said = build()
    assert "1 photos copied, 22 in all" in said
    assert "0_9.jpg" in names(ZEBRAS)


def test_a_photo_changed_in_the_download_later_is_copied_again(flat, build):
    build()
    make_photo(TRAINING / "0_1.jpg", 0, 77, size=(50, 50))
    build()
    assert (ZEBRAS / "0_1.jpg").read_bytes() == (TRAINING / "0_1.jpg").read_bytes()


def test_counts_are_shown_per_split_and_class(flat, build):
    make_photo(TRAINING / "2_9.jpg", 2, 9)
    out, _ = build()
    assert [line.split() for line in out.splitlines()] == [
        ["training", "validation", "evaluation"],
        ["zebra", "3", "2", "2"],
        ["Noodles/Pasta", "3", "2", "2"],
        ["apple", "4", "2", "2"],
        ["all", "10", "6", "6"],
    ]


# Damaged photos


def test_damaged_photos_are_left_out_listed_with_the_reason_and_said(flat, build):
    cut_short(TRAINING / "0_0.jpg")
    (TRAINING / "1_0.jpg").write_text("Not found, said the server")
    (TRAINING / "2_0.jpg").write_bytes(b"")
    out, said = build()
    assert "3 left out, listed in dataset/tiny/rejected.csv" in said
    assert "Tiny/training/0_0.jpg: damaged" in said
    assert not list(Path("dataset").rglob(f"{config.TRAIN}/*/*_0.jpg"))
    reasons = rejected()
    assert set(reasons) == {f"Tiny/training/{label}_0.jpg" for label in range(3)}
    assert "runcated" in reasons["Tiny/training/0_0.jpg"]
    assert reasons["Tiny/training/1_0.jpg"] == "not a picture"
    assert reasons["Tiny/training/2_0.jpg"] == "the file is empty"
    assert out.splitlines()[-1].split() == ["all", "6", "6", "6"]
    assert not leftovers()


def test_a_photo_repaired_later_comes_in_and_leaves_the_list(flat, build):
    whole = (TRAINING / "0_0.jpg").read_bytes()
    cut_short(TRAINING / "0_0.jpg")
    build()
    (TRAINING / "0_0.jpg").write_bytes(whole)
    _, said = build()
    assert "1 photos copied" in said
    assert "left out" not in said
    assert (ZEBRAS / "0_0.jpg").read_bytes() == whole
    assert rejected() == {}


def test_nothing_is_said_of_left_out_photos_when_all_are_whole(flat, build):
    _, said = build()
    assert "[WARN]" not in said
    assert rejected() == {}


# What looks wrong


def test_exact_copies_in_two_splits_are_warned_of(flat, build):
    shutil.copy(TRAINING / "0_0.jpg", f"Tiny/{config.TEST}/1_9.jpg")
    _, said = build()
    assert "1 photos have an exact copy in another split" in said
    assert "Tiny/training/0_0.jpg = Tiny/evaluation/1_9.jpg" in said


def test_exact_copies_in_one_split_are_not_warned_of(flat, build):
    shutil.copy(TRAINING / "0_0.jpg", TRAINING / "0_9.jpg")
    _, said = build()
    assert "exact copy" not in said


def test_counts_other_than_the_official_ones_are_warned_of(tiny, flat, build):
    tiny(official_counts={"training": 9, "validation": 6, "evaluation": 100})
    _, said = build()
    assert "evaluation has 6 photos; the official download has 100" in said
    assert said.count("the official download") == 1


def test_left_out_photos_do_not_count_as_official_ones(tiny, flat, build):
    tiny(official_counts={"training": 9})
    cut_short(TRAINING / "0_0.jpg")
    _, said = build()
    assert "training has 8 photos; the official download has 9" in said


def test_official_counts_are_passed_over_in_silence_when_they_agree(tiny, flat, build):
    tiny(official_counts={"training": 9, "validation": 6, "evaluation": 6})
    _, said = build()
    assert "official" not in said


def test_photos_of_the_dataset_that_the_download_lacks_are_warned_of_and_kept(flat, build):
    build()
    make_photo(ZEBRAS / "mine.jpg", 0, 50)
    (TRAINING / "0_0.jpg").unlink()
    _, said = build()
    assert "2 photos in dataset/tiny are none of those that Tiny gives now" in said
    assert "dataset/tiny/training/zebra/0_0.jpg" in said
    assert names(ZEBRAS) == {"0_0.jpg", "0_1.jpg", "0_2.jpg", "mine.jpg"}


def test_photos_that_have_only_another_date_are_not_copied_again(flat, build):
    build()
    before = snapshot("dataset/tiny")
    for photo in Path("Tiny").rglob("*.jpg"):
        os.utime(photo, (0, 0))
    _, said = build()
    assert "is up to date" in said
    assert only_photos(snapshot("dataset/tiny")) == only_photos(before)


def test_renamed_photos_that_land_in_another_split_are_warned_of(flat, build):
    build()
    (TRAINING / "0_0.jpg").rename(Path("Tiny") / config.TEST / "0_new.jpg")
    _, said = build()
    assert "1 photos have an exact copy in another split, which flatters" in said
    assert "dataset/tiny/training/zebra/0_0.jpg" in said


# Other data


def test_another_food11_is_refused(tiny, refused):
    """Kaggle's imbikramsaha/food11 has the same name, eleven classes, and nothing else in common.

    Its splits are called train and test; the second half of the test renames them.
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
    refused("Tiny", "test, train")
    Path("Tiny/train").rename(TRAINING)
    shutil.copytree("Tiny/test", f"Tiny/{config.VAL}")
    Path("Tiny/test").rename(f"Tiny/{config.TEST}")
    refused("Tiny/training", "'Bread'", "other data")


def test_a_label_outside_the_classes_is_refused(flat, refused):
    make_photo(TRAINING / "3_0.jpg", 3, 0)
    refused("Tiny/training/3_0.jpg", "label 3", "classes 0 to 2", "zebra")


def test_a_flat_name_without_a_label_is_refused(flat, refused):
    make_photo(TRAINING / "holiday.jpg", 0, 0)
    refused("Tiny/training/holiday.jpg", "<label>_<id>", "Rename it")


def test_a_class_folder_too_many_is_refused(tiny, refused):
    make_class_folders()
    make_photo(TRAINING / "giraffe" / "0.jpg", 0, 0)
    refused("Tiny/training", "has a folder 'giraffe'", "zebra, Noodles-Pasta, apple")


def test_a_missing_class_folder_is_refused(tiny, refused):
    make_class_folders()
    shutil.rmtree(f"Tiny/{config.VAL}/Noodles-Pasta")
    refused("Tiny/validation", "lacks the folder 'Noodles-Pasta'")


@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_what_archivers_and_systems_leave_behind_is_passed_over(tiny, build, make):
    make("Tiny", (3, 2, 2))
    for folder in (path for path in [Path("Tiny"), *Path("Tiny").rglob("*")] if path.is_dir()):
        (folder / ".DS_Store").write_bytes(b"Bud1")
        (folder / "._0_5.jpg").write_bytes(b"Mac OS X")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    for folder in (Path("Tiny"), TRAINING):
        (folder / "__MACOSX").mkdir()
        (folder / "__MACOSX" / "0_6.jpg").write_bytes(b"Mac OS X")
        (folder / ".ipynb_checkpoints").mkdir()
    out, said = build()
    assert "[WARN]" not in said
    assert "passed over" not in said
    assert out.splitlines()[-1].split() == ["all", "9", "6", "6"]


def test_files_that_are_no_photos_by_their_names_are_counted(tiny, flat, build):
    for name in ("0_7.HEIC", "0_8.heic", "notes.txt", "no ending"):
        (TRAINING / name).write_bytes(b"")
    _, said = build()
    assert "4 files in Tiny are passed over (2 .heic, 1 .txt, 1 without an ending)" in said
    assert ".jpeg, .jpg, .png" in said


def test_photos_deeper_than_the_others_are_counted(tiny, flat, build):
    tiny(layout="flat")
    for year, name in (("2022", "0_8.jpg"), ("2023", "0_9.jpg"), ("2023", "._0_9.jpg")):
        make_photo(TRAINING / year / name, 0, 9)
    _, said = build()
    assert "[WARN] 2 photos are not used, for they lie deeper than the others" in said
    assert f"{TRAINING / '2022'} holds some" in said


def test_photos_in_folders_inside_a_class_are_counted(tiny, build):
    tiny(classes=("a", "b"), layout="unsplit", split=Split(1, 1, 1))
    for name in ("a", "b", "not used"):
        for number in range(3):
            make_photo(Path("Tiny") / name / f"{number}.jpg", 0, number)
    make_photo(Path("Tiny/b/2023/more/1.jpg"), 1, 1)
    _, said = build()
    assert "[WARN] 1 photos are not used" in said
    assert "Tiny/b/2023/more holds some" in said


def test_files_that_are_passed_over_are_told_where_nothing_else_is_left(tiny, flat, script):
    for path in TRAINING.iterdir():
        path.rename(path.with_suffix(".heic"))
    status, _, said = script("build_dataset")
    assert status == 2
    assert "9 files in Tiny are passed over (9 .heic)" in said
    assert_one_error(said, "no photos for training")


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        (Split(), [85, 0, 15]),
        (Split(0.7, 0.15, 0.15), [85, 0, 15]),
        (Split(0.8, 0.05, None), [85, 0, 15]),
        (Split(0.7, None, 0.2), [80, 0, 20]),
        (Split(50, 10, 20), [50, 0, 20]),
        (Split(validation=0), [85, 0, 15]),
    ],
)
def test_photos_train_that_validation_does_not_need_of_its_own(split, sizes):
    recipe = tiny_recipe(split=split, validate_on_evaluation=True)
    assert datasets.part_sizes(recipe, "zebra", 100) == sizes


def test_without_a_shuffle_photos_in_class_folders_go_by_their_numbers(tiny, build):
    tiny(classes=("a", "b"), layout="unsplit", split=Split(9, 1, 2, shuffle=False))
    for name in ("a", "b"):
        for number in range(1, 13):
            make_photo(Path("Tiny") / name / f"frame{number}.jpg", 0, number)
    build()
    dataset = Path("dataset/tiny")
    assert names(dataset / config.VAL / "a") == {"frame10.jpg"}
    assert names(dataset / config.TEST / "b") == {"frame11.jpg", "frame12.jpg"}


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.8, 0.1, 0.1)])
def test_shares_that_make_a_whole_use_every_photo_of_any_class(shares):
    recipe = tiny_recipe(split=Split(*shares))
    for photos in range(3, 400):
        sizes = datasets.part_sizes(recipe, "zebra", photos)
        assert sum(sizes) == photos
        for size, share in zip(sizes, shares, strict=True):
            assert abs(size - share * photos) < 2


# Names


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("in_recipe", ["NFC", "NFD"])
def test_a_class_is_found_however_its_accent_is_written(tiny, script, written, in_recipe):
    """Macs keep it behind its letter (NFD), keyboards write both as one (NFC)."""
    name, other = "crème brûlée", "apple pie"
    tiny(source="mine", classes=(unicodedata.normalize(in_recipe, name), other), layout="unsplit")
    for label, each in enumerate((unicodedata.normalize(written, name), other)):
        for number in range(10):
            make_photo(Path("mine", each, f"{number}.jpg"), label, number)
    status, counts, said = script("build_dataset")
    assert status == 0, said
    assert "not used" not in said
    assert counts.splitlines()[-1].split() == ["all", "12", "4", "4"]
    # A dataset that was carried over from a Mac, or to one.
    for split in SPLITS:
        folder = Path("dataset/tiny", split)
        folder.joinpath(name).rename(folder / unicodedata.normalize("NFD", name))
        photos = images.list_photos("dataset", config.RECIPES["tiny"], split)
        assert len(set(photos.labels)) == 2


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take them for one name")
def test_two_folders_of_one_name_are_refused(tiny, refused):
    tiny(source="mine", classes=("crème", "other"), layout="unsplit")
    for form in ("NFC", "NFD"):
        for name in ("crème", "other"):
            make_photo(Path("mine", unicodedata.normalize(form, name), "0.jpg"), 0, 0)
    refused("two folders in mine", "Put their photos into one")


STRANGE_NAMES = (
    "a photo with spaces.jpg",
    "Crème brûlée 😋.jpg",
    "LOUD.JPG",
    "-rf.jpg",
    "--force.jpg",
    "two\nlines.jpg",
    "dots.in.name.jpeg",
    "x" * 251 + ".jpg",
    # Latin-1, as old archives have it, is not UTF-8; macOS does not let such a file be made.
    *(() if sys.platform == "darwin" else (os.fsdecode(b"caf\xe9.jpg"),)),
)


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_photos_of_any_name_are_copied(tiny, build, make, name):
    make("Tiny", (1, 1, 1))
    name = name if make is make_class_folders else "0_" + name[-253:]
    zebras = TRAINING / "zebra" if make is make_class_folders else TRAINING
    shutil.copy2(f"{zebras}/0_0.jpg", zebras / name)
    build()
    assert names(ZEBRAS) == {"0_0.jpg", name}
    _, said = build()
    assert "up to date" in said


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take them for one name")
def test_names_that_differ_in_case_only_are_two_photos(tiny, build):
    make_class_folders()
    shutil.copy2(TRAINING / "zebra/0_0.jpg", TRAINING / "zebra/Photo.jpg")
    shutil.copy2(TRAINING / "zebra/0_1.jpg", TRAINING / "zebra/photo.jpg")
    build()
    for name, source in (("Photo.jpg", "0_0.jpg"), ("photo.jpg", "0_1.jpg")):
        assert (ZEBRAS / name).read_bytes() == (TRAINING / "zebra" / source).read_bytes()


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
def test_damaged_photos_of_any_name_are_listed(tiny, build, name):
    make_class_folders()
    (TRAINING / "zebra" / name).write_bytes(b"")
    # As Python's own stderr, and not pytest's, writes what is not UTF-8.
    sys.stderr.reconfigure(errors="backslashreplace")
    _, said = build()
    assert "1 left out" in said
    (listed,) = rejected()
    assert listed == f"Tiny/training/zebra/{name.encode(errors='backslashreplace').decode()}"


def test_folders_that_link_in_a_circle_are_passed_over(tiny, build):
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


# Interrupted, and pointed at itself


def check_until_stopped(real, calls):
    """Return a read_rgb in which Ctrl-C comes at the eighth photo."""

    def read(data):
        calls.append(data)
        if len(calls) == 8:
            raise KeyboardInterrupt
        if len(calls) > 8:
            time.sleep(0.2)  # leaves the main thread time to stop the others
        return real(data)

    return read


def copy_until_stopped(real, calls):
    """Return a copy2 in which Ctrl-C comes in the middle of the eighth photo."""

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
    [(images, "read_rgb", check_until_stopped), (shutil, "copy2", copy_until_stopped)],
    ids=["checking", "copying"],
)
def test_ctrl_c_leaves_whole_photos_only_and_the_next_run_completes(
    flat, build, script, monkeypatch, module, name, stop
):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop(getattr(module, name), []))
        status, _, said = script("build_dataset")
    assert status == 130
    assert "stopped" in said
    assert "Traceback" not in said
    assert not leftovers()
    copied = only_bytes("dataset/tiny")
    assert len(copied) < 16
    originals = only_bytes("Tiny")
    for path, data in copied.items():
        assert originals[Path(path.parts[0], path.name)] == data

    _, said = build()
    assert f"{21 - len(copied)} photos copied, 21 in all" in said


@pytest.mark.parametrize("make", [make_flat_download, make_class_folders])
def test_a_source_inside_the_dataset_folder_is_refused(tiny, script, make):
    make("dataset/tiny", (3, 2, 2))
    tiny(source="dataset/tiny")
    before = snapshot("dataset")
    for arguments in ((), ("--force",)):
        status, _, said = script("build_dataset", *arguments)
        assert status == 2
        assert_one_error(said, "dataset/tiny", "another folder")
        assert snapshot("dataset") == before


def test_a_dataset_that_links_to_the_download_is_refused(tiny, script):
    make_class_folders()
    Path("dataset").mkdir()
    Path("dataset/tiny").symlink_to(Path("Tiny").resolve())
    before = snapshot("Tiny")
    status, _, said = script("build_dataset", "--force")
    assert status == 2
    assert_one_error(said, "another folder")
    assert snapshot("Tiny") == before
