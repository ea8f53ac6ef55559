"""The folders and file names of a download give the class and the split of each photo."""

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyimagesearch.support import layouts
from pyimagesearch.support.errors import UserError

CLASSES = ("zebra", "Noodles/Pasta", "apple")
CLASS_FOLDERS = {"zebra": 0, "Noodles-Pasta": 1, "apple": 2}
SPLITS = ("training", "validation", "evaluation")
TINY = layouts.Download(Path("Tiny"), CLASSES, CLASS_FOLDERS, SPLITS)
CATS_AND_DOGS = layouts.Download(Path("pets"), ("cat", "dog"), {"cat": 0, "dog": 1}, SPLITS)

FLAT = [f"Tiny/{split}/{label}_0.jpg" for split in SPLITS for label in range(3)]
FOLDERS = [f"Tiny/{split}/{name}/a.jpg" for split in SPLITS for name in CLASS_FOLDERS]
UNSPLIT = [f"Tiny/{name}/a.jpg" for name in CLASS_FOLDERS]
TEST_INSIDE = [*UNSPLIT, *(f"Tiny/{name}/test/t.jpg" for name in CLASS_FOLDERS)]


def touch(*paths):
    """Make empty files. A layout is read from names only."""
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(download, layout=None):
    """Return {path: (class, split)} of a download."""
    originals = layouts.read_download(download, layout or layouts.recognise(download))
    return {str(photo.path): (download.classes[photo.label], photo.split) for photo in originals}


# Every layout


@pytest.mark.parametrize(
    ("paths", "layout"),
    [
        (FLAT, "flat"),
        (FOLDERS, "folders"),
        (TEST_INSIDE, "test_inside"),
        (["Tiny/zebra.0.jpg", "Tiny/apple.1.jpg"], "numbered"),
        (["Tiny/train/zebra.0.jpg"], "numbered"),
        (UNSPLIT, "unsplit"),
    ],
)
def test_recognise_names_the_layout(paths, layout):
    touch(*paths)
    assert layouts.recognise(TINY) == layout


def test_recognise_refuses_an_unknown_layout_and_lists_what_is_there():
    touch("Tiny/train/a.jpg", "Tiny/test/b.jpg")
    with pytest.raises(
        UserError, match=r"Tiny has neither .*training, .*zebra.*: 'test', 'train'\."
    ):
        layouts.recognise(TINY)


def test_flat_label_is_the_position_in_the_classes_and_not_in_the_alphabet():
    touch(*FLAT)
    photos = read(TINY, "flat")
    assert set(photos) == set(FLAT)
    assert photos["Tiny/training/0_0.jpg"] == ("zebra", "training")
    assert photos["Tiny/validation/1_0.jpg"] == ("Noodles/Pasta", "validation")
    assert photos["Tiny/evaluation/2_0.jpg"] == ("apple", "evaluation")


def test_class_folders_give_the_class():
    touch(*FOLDERS)
    photos = read(TINY, "folders")
    assert set(photos) == set(FOLDERS)
    assert photos["Tiny/training/Noodles-Pasta/a.jpg"] == ("Noodles/Pasta", "training")


def test_photos_in_test_folders_are_for_evaluation_and_the_others_for_training():
    touch(*TEST_INSIDE)
    photos = read(TINY, "test_inside")
    assert set(photos) == set(TEST_INSIDE)
    assert photos["Tiny/apple/a.jpg"] == ("apple", "training")
    assert photos["Tiny/apple/test/t.jpg"] == ("apple", "evaluation")


def test_numbered_photos_are_in_the_order_of_their_numbers_and_have_no_split():
    touch("pets/train/cat.10.jpg", "pets/train/cat.9.jpg", "pets/train/dog.9.jpg")
    assert read(CATS_AND_DOGS, "numbered") == {
        "pets/train/cat.9.jpg": ("cat", None),
        "pets/train/dog.9.jpg": ("dog", None),
        "pets/train/cat.10.jpg": ("cat", None),
    }
    paths = [photo.path.name for photo in layouts.read_download(CATS_AND_DOGS, "numbered")]
    assert paths == ["cat.9.jpg", "dog.9.jpg", "cat.10.jpg"]


@pytest.mark.parametrize("name", ["cat.3(1).jpg", "cat.3 (1).jpg"])
def test_numbered_photo_can_have_a_second_number_from_a_file_manager(name):
    touch(f"pets/{name}")
    assert read(CATS_AND_DOGS, "numbered") == {f"pets/{name}": ("cat", None)}


def test_unsplit_photos_have_no_split_and_other_folders_are_reported(capsys):
    touch(*UNSPLIT, *(f"Tiny/other {number}/a.jpg" for number in range(7)))
    photos = read(TINY, "unsplit")
    assert set(photos) == set(UNSPLIT)
    assert photos["Tiny/zebra/a.jpg"] == ("zebra", None)
    assert "not used: 'other 0', 'other 1', 'other 2', 'other 3'" in capsys.readouterr().err


def test_layout_of_the_recipe_is_used_although_another_would_be_recognised():
    touch(*FLAT, "Tiny/training/extra/0_7.jpg")
    assert layouts.recognise(TINY) == "folders"
    assert set(read(TINY, "flat")) == set(FLAT)


def test_natural_key_sorts_9_before_10():
    names = ["frame10", "frame9", "a2b10", "a2b9", "frame"]
    in_order = ["a2b9", "a2b10", "frame", "frame9", "frame10"]
    assert sorted(names, key=layouts.natural_key) == in_order


# Other data


@pytest.mark.parametrize(
    ("paths", "layout", "message"),
    [
        ([*FLAT, "Tiny/training/3_0.jpg"], "flat", r"3_0\.jpg has label 3.*classes 0 to 2.*zebra"),
        ([*FLAT, "Tiny/training/x.jpg"], "flat", r"x\.jpg is not named <label>_<id>.*Rename it"),
        (FLAT[3:], "flat", "Tiny has no folder for training.*contains: 'evaluation', 'validation'"),
        (UNSPLIT, "flat", "Tiny has no folder 'training'. It contains: 'Noodles-Pasta', 'apple'"),
        (FLAT, "folders", "training has no folder 'Noodles-Pasta'.*other data"),
        (FOLDERS[1:], "folders", "training has no folder 'zebra'"),
        (
            [*FOLDERS, "Tiny/training/giraffe/a.jpg"],
            "folders",
            "training has a folder 'giraffe'.*'zebra', 'Noodles-Pasta', 'apple'",
        ),
        (UNSPLIT[1:], "unsplit", "Tiny has no folder 'zebra'"),
        (["Tiny/zebra.x.jpg"], "numbered", r"x\.jpg is not named <class>\.<number>.*Rename it"),
        (["Tiny/lion.0.jpg"], "numbered", "is of class 'lion'.*'zebra', 'Noodles/Pasta', 'apple'"),
    ],
)
def test_read_download_refuses_other_data_and_names_it(paths, layout, message):
    touch(*paths)
    with pytest.raises(UserError, match=message):
        layouts.read_download(TINY, layout or layouts.recognise(TINY))


# Names


# File names have no "/", and a further "." would end the stem.
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/.\x00"),
    min_size=1,
    max_size=20,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(label=st.integers(0, 99), name=names)
def test_any_flat_name_gives_its_label_or_is_refused_by_name(tmp_path, label, name):
    path = tmp_path / "training" / f"{label}_{name}.jpg"
    touch(path, tmp_path / "validation" / "0_0.jpg", tmp_path / "evaluation" / "0_0.jpg")
    try:
        originals = layouts.read_download(TINY._replace(source=tmp_path), "flat")
    except UserError as refused:
        assert str(path) in str(refused)  # noqa: PT017
        assert label >= len(CLASSES)
    else:
        assert originals[0] == (path, label, "training")
    finally:
        path.unlink()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_is_found_in_either_form_of_its_accent(form):
    """Keyboards type é as one character (NFC), macOS stores it as two (NFD)."""
    folder = unicodedata.normalize(form, "crème brûlée")
    touch(f"desserts/{folder}/a.jpg", "desserts/pie/a.jpg")
    class_folders = {unicodedata.normalize("NFC", folder): 0, "pie": 1}
    download = layouts.Download(Path("desserts"), tuple(class_folders), class_folders, SPLITS)
    assert layouts.recognise(download) == "unsplit"
    assert read(download)[f"desserts/{folder}/a.jpg"] == ("crème brûlée", None)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one folder for both forms")
def test_a_class_with_a_folder_in_each_form_is_refused():
    for form in ("NFC", "NFD"):
        touch(Path("desserts", unicodedata.normalize(form, "crème"), "a.jpg"))
    download = layouts.Download(Path("desserts"), ("crème", "pie"), {"crème": 0, "pie": 1}, SPLITS)
    with pytest.raises(UserError, match=r"desserts has two folders.*Move their photos into one"):
        layouts.recognise(download)


# Files that are not used


def report(source="Tiny"):
    """Report what a flat download does not use."""
    used = {photo.path for photo in layouts.read_download(TINY, "flat")}
    layouts.report_unused_files(Path(source), used)


def test_files_that_are_not_photos_are_counted_by_suffix(capsys):
    touch(*FLAT)
    for name in ("0_7.MOV", "0_8.mov", "notes.txt", "no suffix"):
        touch(Path("Tiny/training", name))
    report()
    messages = capsys.readouterr().err
    assert "files in Tiny that are not photos: 4 (2 .mov, 1 .txt, 1 without suffix)" in messages
    assert "[WARN]" not in messages


def test_hidden_files_are_not_reported(capsys):
    touch(*FLAT)
    for folder in (".ipynb_checkpoints", "__MACOSX", "."):
        for name in (".DS_Store", "._0_5.jpg", "Thumbs.db"):
            touch(Path("Tiny/training", folder, name))
    report()
    assert capsys.readouterr().err == ""


def test_photos_in_deeper_folders_are_warned_of(capsys):
    touch(*FLAT)
    for year, name in (("2022", "0_8.jpg"), ("2023", "0_9.jpg"), ("2023", "._0_9.jpg")):
        touch(Path("Tiny/training", year, name))
    report()
    assert (
        "[WARN] photos that are not used because they are in deeper folders: 2, the first in "
        "Tiny/training/2022. Move them up"
    ) in capsys.readouterr().err


def test_photos_in_folders_of_other_classes_are_not_warned_of(capsys):
    touch(*UNSPLIT, "Tiny/other/a.jpg", "Tiny/apple/2023/more/1.jpg")
    used = {photo.path for photo in layouts.read_download(TINY, "unsplit")}
    layouts.report_unused_files(Path("Tiny"), used)
    messages = capsys.readouterr().err
    assert "in deeper folders: 1, the first in Tiny/apple/2023/more" in messages
