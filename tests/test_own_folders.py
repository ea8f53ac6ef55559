"""build_dataset.py takes a stranger's folder as it comes, or says in one line what to change."""

import shutil
import zipfile
from pathlib import Path

import pytest
from conftest import assert_one_error, make_photo, tiny_recipe
from PIL import Image

from pyimagesearch import config, datasets
from pyimagesearch.recipe import Split
from pyimagesearch.support import copies

DATASET = Path("dataset/tiny")


@pytest.fixture
def build(monkeypatch, script):
    """Return a function that runs build_dataset.py for a row: (status, stdout, stderr)."""

    def run(*arguments, **row):
        row = {"source": "photos", "classes": None, **row}
        monkeypatch.setattr(config, "RECIPES", {"tiny": tiny_recipe(**row)})
        return script("build_dataset", "--recipe", "tiny", *arguments)

    return run


def make_classes(folder, *names, count=4):
    """Write so many photos of each class; the name of the folder is part of what they show."""
    for name in names:
        for number in range(count):
            seed = sum(map(ord, f"{folder}/{name}"))
            make_photo(Path("photos", folder, name, f"{number}.jpg"), seed, number)


def counts(table):
    """Return {class: [photos in each split]} of the table that build_dataset.py prints."""
    rows = [line.rsplit(maxsplit=3) for line in table.splitlines()[1:]]
    return {name: list(map(int, numbers)) for name, *numbers in rows}


def splits_of(name):
    """Return {file: split} of a class."""
    return {path.name: path.parts[2] for path in DATASET.glob(f"*/{name}/*")}


# Splits


@pytest.mark.parametrize(
    ("folders", "found", "all_photos"),
    [
        (
            ("train", "validation", "test"),
            "train/ -> training (8 photos), validation/ -> validation (8), test/ -> evaluation (8)",
            [8, 8, 8],
        ),
        (
            ("train", "valid"),
            "train/ -> training (8 photos), valid/ -> validation (8); evaluation: 15 % of train/",
            [6, 8, 2],
        ),
        (
            ("x/x/Train", "x/x/Val", "x/x/Test"),
            "Train/ -> training (8 photos), Val/ -> validation (8), Test/ -> evaluation (8)",
            [8, 8, 8],
        ),
        (
            ("x/Training", "x/testing"),
            "Training/ -> training (8 photos), testing/ -> evaluation (8); "
            "validation: 15 % of Training/",
            [6, 2, 8],
        ),
        (
            ("train",),
            "train/ -> training (8 photos); validation: 15 % of train/, evaluation: 15 % of train/",
            [4, 2, 2],
        ),
        (
            ("x",),
            "8 photos without splits; training: the rest, validation: 15 %, evaluation: 15 %",
            [4, 2, 2],
        ),
    ],
)
def test_splits_are_found_under_their_usual_names_and_the_others_drawn(
    build, folders, found, all_photos
):
    for folder in folders:
        make_classes(folder, "cat", "dog")
    status, table, messages = build()
    assert status == 0, messages
    assert f"[INFO] found: {found}\n" in messages
    assert "[INFO] classes: 'cat', 'dog'\n" in messages
    assert counts(table)["all"] == all_photos


def test_a_class_without_evaluation_photos_is_named_and_the_rest_is_built(build):
    make_classes("train", "cat", "dog", "owl")
    make_classes("test", "cat", "dog")
    status, table, messages = build()
    assert status == 0, messages
    assert "[WARN] evaluation has no photos of 'owl'" in messages
    assert counts(table)["owl"] == [3, 1, 0]


def test_validation_on_evaluation_photos_needs_no_validation_folder(build):
    make_classes("train", "cat", "dog")
    make_classes("test", "cat", "dog")
    status, table, messages = build(validate_on_evaluation=True)
    assert status == 0, messages
    assert counts(table)["all"] == [8, 8, 8]


@pytest.mark.parametrize("field", ["validation", "evaluation"])
def test_a_part_of_nothing_is_an_error_that_names_it(build, field):
    make_classes("", "cat", "dog")
    status, _, messages = build(split=Split(**{field: 0}))
    assert status == 2
    assert_one_error(messages, f"Split({field}=0)", f"{field} gets no photos")
    assert not DATASET.exists()


def test_numbered_photos_in_two_train_folders_need_no_classes(build):
    for name in ("cat", "dog"):
        for number in range(5):
            make_photo(Path(f"photos/train/train/{name}.{number}.jpg"), ord(name[0]), number)
    status, table, messages = build()
    assert status == 0, messages
    assert "[INFO] classes: 'cat', 'dog'\n" in messages
    assert counts(table)["all"] == [6, 2, 2]


def test_numbers_for_classes_need_the_names_in_the_recipe(build):
    for label in range(2):
        make_photo(Path(f"photos/train/{label}_0.jpg"), label, 0)
    assert_one_error(build()[2], "have numbers only", 'classes=("...", "...")')


def test_two_folders_for_one_split_are_an_error_that_names_both(build):
    make_classes("train", "cat", "dog")
    make_classes("dev", "cat", "dog")
    make_classes("val", "cat", "dog")
    assert_one_error(build()[2], "photos/dev", "photos/val", "both for validation")


def test_split_folders_of_the_config_with_one_name_are_an_error(build, monkeypatch):
    make_classes("", "cat", "dog")
    monkeypatch.setattr(config, "SPLITS", ("train", "test", "test"))
    assert_one_error(build()[2], "TRAIN, VAL and TEST", "train, test, test", "differ")


def test_a_class_called_train_beside_others_is_a_class(build):
    make_classes("", "car", "bus", "train")
    status, table, messages = build()
    assert status == 0, messages
    assert list(counts(table)) == ["bus", "car", "train", "all"]


# Classes


def test_classes_are_the_names_of_the_folders_in_natural_order(build):
    make_classes("", "class 10", "class 2", "Class 1")
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "#recycle"):
        make_classes("", name)
        make_classes("class 2", name)
    Path("photos/empty").mkdir()
    Path("photos/class 2/Thumbs.db").write_bytes(b"\xd0\xcf")
    Path("photos/class 2/._0.jpg").write_bytes(b"Mac OS X")
    status, table, messages = build()
    assert status == 0, messages
    assert "[INFO] classes: 'Class 1', 'class 2', 'class 10'\n" in messages
    assert counts(table)["all"] == [6, 3, 3]
    assert "[WARN]" not in messages


def test_a_misspelt_class_is_an_error_with_the_name_it_may_mean(build):
    make_classes("", "apple", "banana")
    message = build(classes=["aple", "banana"])[2]
    assert_one_error(message, "no folder 'aple'. Did you mean 'apple'?")


def test_classes_two_folders_down_are_found_if_their_names_differ(build):
    make_classes("food", "apple", "pear")
    make_classes("animals", "cat")
    status, table, messages = build()
    assert status == 0, messages
    assert list(counts(table)) == ["apple", "cat", "pear", "all"]
    for folder in ("toys", "toys/more"):
        make_classes(folder, "cat")
        assert_one_error(build()[2], "photos/animals/cat", f"photos/{folder}/cat", "Rename one")
        shutil.rmtree("photos/toys")


def test_strange_class_names_are_quoted(build):
    make_classes("", "rock, paper", " blank", "UPPER")
    status, _, messages = build()
    assert status == 0, messages
    assert "[INFO] classes: ' blank', 'rock, paper', 'UPPER'\n" in messages
    assert len(splits_of(" blank")) == 4


def test_a_single_class_is_an_error_that_names_it(build):
    make_classes("", "cat")
    assert_one_error(build()[2], "only one class: 'cat'", "two or more")
    Path("photos/train.csv").write_text("id,label\n")
    assert_one_error(build()[2], "Or, if train.csv has their classes, add: labels=('train.csv', ")


def test_numbered_photos_beside_folders_of_classes_are_not_classes(build):
    make_classes("", "cat", "dog")
    for name in ("IMG.1.jpg", "scan.2.jpg"):
        make_photo(Path("photos", name), len(name), 99)
    status, table, messages = build()
    assert status == 0, messages
    assert list(counts(table)) == ["cat", "dog", "all"]


def test_class_folders_that_differ_in_case_only_are_an_error(build):
    make_classes("", "UPPER", "upper", "other")
    if len(list(Path("photos").iterdir())) < 3:
        pytest.skip("this disk has one folder for both")
    assert_one_error(build()[2], "'UPPER' and 'upper'", "one folder on Windows", "Rename one")


def open_dataset():
    """Return what train.py gets from the dataset: (recipe, datasets.Splits)."""
    return datasets.open_dataset("dataset", config.RECIPES["tiny"], config.SPLITS)


def test_the_dataset_gives_its_classes_to_the_other_scripts(build):
    make_classes("", "class 10", "class 2")
    build()
    assert config.RECIPES["tiny"].classes is None
    recipe, splits = open_dataset()
    assert recipe.classes == splits.training.classes == ("class 2", "class 10")
    # A recipe with other classes than those that were built does not get them.
    build(classes=("class 10", "class 2"))
    assert open_dataset()[0].classes == ("class 10", "class 2")
    config.RECIPES["tiny"] = tiny_recipe(classes=("class 2", "class 10"))
    assert open_dataset()[0].classes == ("class 2", "class 10")


def test_a_dataset_is_needed_to_know_the_classes(script, monkeypatch):
    monkeypatch.setattr(config, "RECIPES", {"tiny": tiny_recipe(classes=None)})
    status, _, messages = script("train", "--recipe", "tiny")
    assert status == 2
    assert_one_error(messages, "dataset/tiny/photos.json", "build_dataset.py")


def test_flat_photos_get_their_classes_from_a_csv(build):
    rows = ["id,label"]
    for label, name in enumerate(("rock, paper", "scissors")):
        for number in range(5):
            make_photo(Path(f"photos/images/{label}{number}.jpg"), label, number)
            rows.append(f'{label}{number},"{name}"')
    Path("photos/labels.csv").write_text("\n".join(rows))
    status, table, messages = build(labels=("labels.csv", "id", "label"))
    assert status == 0, messages
    assert "[INFO] classes: 'rock, paper', 'scissors'\n" in messages
    assert counts(table) == {"rock, paper": [3, 1, 1], "scissors": [3, 1, 1], "all": [6, 2, 2]}


@pytest.mark.parametrize("second", ["photo.jpg", "PHOTO.JPG"])
def test_photos_of_one_class_with_the_same_name_all_get_into_the_dataset(build, second):
    """On Windows and macOS, names that differ in upper and lower case only are the same."""
    rows = ["id,label"]
    for number in range(16):
        label, name = number % 2, f"day {number}/{second if number % 4 < 2 else 'photo.jpg'}"
        make_photo(Path("photos", name), label, number)
        rows.append(f"{name},{label}")
    Path("photos/labels.csv").write_text("\n".join(rows))
    for _ in range(2):
        status, _, messages = build(labels=("labels.csv", "id", "label"))
        assert status == 0, messages
        photos = [path for path in DATASET.rglob("*.*") if path.suffix.lower() == ".jpg"]
        copies = {str(path).casefold(): path.read_bytes() for path in photos}
        assert len(copies) == len(set(copies.values())) == 16
    assert "up to date" in messages


# Small classes and damaged photos


@pytest.fixture
def pet_images():
    """Make PetImages/Cat and Dog as they are in Microsoft's archive, with some damaged files."""
    make_classes("PetImages", "Cat", "Dog", count=10)
    cats = Path("photos/PetImages/Cat")
    with Image.open(cats / "0.jpg") as picture:
        picture.save(cats / "1.jpg", "BMP")
        picture.save(cats / "2.jpg", "GIF")
    (cats / "3.jpg").write_bytes(b"")
    (cats / "4.jpg").write_bytes((cats / "5.jpg").read_bytes()[:400])
    (cats / "6.jpg").write_text("<h1>404 Not Found</h1>")
    (cats / "Thumbs.db").write_bytes(b"\xd0\xcf")


def test_photos_with_a_wrong_suffix_are_kept_and_broken_ones_listed(build, pet_images):
    status, table, messages = build()
    assert status == 0, messages
    assert counts(table) == {"Cat": [5, 1, 1], "Dog": [6, 2, 2], "all": [11, 3, 3]}
    assert "photos left out: 3, listed in dataset/tiny/rejected.csv" in messages


def test_a_damaged_photo_takes_no_place_in_a_split(build, pet_images):
    build()
    with_damaged = splits_of("Cat")
    for number in (3, 4, 6):
        Path(f"photos/PetImages/Cat/{number}.jpg").unlink()
    shutil.rmtree("dataset")
    build()
    assert splits_of("Cat") == with_damaged


def test_small_classes_are_named_and_left_out_if_asked(build, script):
    make_classes("", "cat", "dog", count=5)
    make_classes("", "one", count=1)
    Path("photos/empty").mkdir()
    Path("photos/empty/0.jpg").touch()
    status, _, messages = build()
    assert status == 2
    small = "class 'empty' has 0 and needs 3, class 'one' has 1 and needs 3"
    assert_one_error(messages, small, "Add photos", "--skip-small-classes")
    status, table, messages = build("--skip-small-classes")
    assert status == 0, messages
    assert "left out because they have too few photos: 'empty' (0), 'one' (1)" in messages
    assert list(counts(table)) == ["cat", "dog", "all"]


def test_a_photo_that_two_classes_claim_is_in_neither_and_both_are_listed(build):
    make_classes("", "cat", "dog", count=5)
    shutil.copy("photos/cat/1.jpg", "photos/dog/9.jpg")
    status, table, messages = build()
    assert status == 0, messages
    assert counts(table) == {"cat": [2, 1, 1], "dog": [3, 1, 1], "all": [5, 2, 2]}
    listed = (DATASET / "rejected.csv").read_text()
    assert "photos/cat/1.jpg,the same photo is in class 'dog': photos/dog/9.jpg" in listed
    assert "photos/dog/9.jpg,the same photo is in class 'cat': photos/cat/1.jpg" in listed


def test_empty_folders_are_named_and_links_to_nothing_are_no_other_files(build):
    make_classes("", "cat", "dog")
    Path("photos/bird").mkdir()
    Path("photos/cat/dead.jpg").symlink_to("nowhere.jpg")
    status, _, messages = build()
    assert status == 0, messages
    assert "[INFO] empty folders: 1, the first photos/bird\n" in messages
    assert "the first photos/cat/dead.jpg. If git-annex" in messages
    assert "that are not photos" not in messages


@pytest.mark.parametrize("shuffle", [True, False])
def test_exact_copies_are_drawn_once_except_where_numbers_decide(build, shuffle):
    make_classes("", "cat", "dog", count=5)
    for number in range(5, 20):
        shutil.copy("photos/cat/1.jpg", f"photos/cat/{number}.jpg")
    status, table, messages = build(split=Split(shuffle=shuffle))
    assert status == 0, messages
    listed = (DATASET / "rejected.csv").read_text()
    assert ("photos/cat/7.jpg,an exact copy of photos/cat/1.jpg" in listed) == shuffle
    assert sum(counts(table)["cat"]) == (5 if shuffle else 20)
    assert ("with an exact copy in another split" in messages) == (not shuffle)


# Photos that come and go


def test_new_photos_are_shared_out_and_the_others_stay(build):
    make_classes("", "cat", "dog", count=10)
    build()
    before = splits_of("cat")
    make_classes("", "cat", count=30)
    Path("photos/cat/0.jpg").unlink()
    Path("photos/cat/1.jpg").rename("photos/cat/renamed.jpg")
    status, table, messages = build()
    assert status == 0, messages
    assert "since the last run: 20 new photos, 1 gone" in messages
    after = splits_of("cat")
    assert after.pop("renamed.jpg") == before.pop("1.jpg")
    gone_from = before.pop("0.jpg")
    assert before.items() <= after.items()
    assert counts(table)["cat"] == [21, 4, 4]
    assert (DATASET / "gone" / gone_from / "cat" / "0.jpg").is_file()
    assert "up to date" in build()[2]


def test_a_class_that_is_gone_leaves_the_dataset(build):
    make_classes("", "cat", "dog", "owl", count=10)
    build()
    shutil.rmtree("photos/owl")
    status, table, messages = build()
    assert status == 0, messages
    assert "10 gone" in messages
    assert list(counts(table)) == ["cat", "dog", "all"]
    splits = open_dataset()[1]
    assert splits.training.classes == ("cat", "dog")


def test_force_divides_again_and_leaves_no_copy_in_the_split_before(build, monkeypatch):
    make_classes("", "cat", "dog", count=12)
    build()
    before = splits_of("cat")
    monkeypatch.setattr(config, "SEED", 7)
    assert "Divide them again with: python build_dataset.py --recipe tiny --force" in build()[2]
    assert splits_of("cat") == before
    status, table, messages = build("--force")
    assert status == 0, messages
    assert "[WARN]" not in messages
    assert splits_of("cat") != before
    assert counts(table)["cat"] == [8, 2, 2]
    assert len(list(DATASET.rglob("*.jpg"))) == 24


def test_an_interrupted_run_and_the_next_one_divide_as_one_run(build, monkeypatch):
    make_classes("", "cat", "dog", count=12)
    build()
    expected = splits_of("cat")
    shutil.rmtree("dataset")

    def stop(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copies, "clone", stop)
        assert build()[0] == 130
    assert not splits_of("cat")
    make_classes("", "cat", count=15)
    assert build()[0] == 0
    assert expected.items() <= splits_of("cat").items()


def test_a_dataset_without_a_record_keeps_its_splits(build):
    make_classes("", "cat", "dog", count=12)
    build()
    before = splits_of("cat")
    (DATASET / "photos.json").unlink()
    make_classes("", "cat", count=20)
    _, table, messages = build()
    assert before.items() <= splits_of("cat").items()
    assert counts(table)["cat"] == [14, 3, 3]
    assert "exact copy" not in messages


# The source


def test_an_archive_is_an_error_that_says_how_to_unpack_it(build):
    make_classes("", "cat")
    with zipfile.ZipFile("my photos.zip", "w") as archive:
        archive.write("photos/cat/0.jpg")
    message = build(source="my photos.zip")[2]
    assert_one_error(message, "python -m zipfile -e 'my photos.zip' 'my photos'", "source")


def test_links_that_lead_nowhere_are_counted_and_the_first_named(build):
    make_classes("", "cat", "dog", count=3)
    for number in range(12):
        Path(f"photos/cat/{number:02}_annex.jpg").symlink_to(f"../.git/annex/{number}.jpg")
    status, _, messages = build()
    assert status == 0, messages
    assert "do not exist: 12, the first photos/cat/00_annex.jpg" in messages


@pytest.mark.parametrize("source", ["~/photos", "photos\\animals"])
def test_source_can_be_in_the_home_folder_or_written_with_backslashes(build, monkeypatch, source):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    make_classes("animals", "cat", "dog")
    status, table, messages = build(source=source)
    assert status == 0, messages
    assert counts(table)["all"] == [4, 2, 2]
