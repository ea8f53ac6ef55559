import unicodedata
from pathlib import Path

import pytest

from pyimagesearch.support import photo_files
from pyimagesearch.support.errors import UserError


@pytest.mark.parametrize("name", ["a.jpg", "LOUD.JPG", "dots.in.name.jpeg", "a.webp", "a b.tiff"])
def test_photo_is_recognized_by_its_suffix(tmp_path, name):
    (tmp_path / name).touch()
    assert photo_files.is_photo(tmp_path / name)


@pytest.mark.parametrize("name", ["notes.txt", "jpg", "._a.jpg", ".partial.jpg", "a.jpg.zip"])
def test_hidden_and_other_files_are_not_photos(tmp_path, name):
    (tmp_path / name).touch()
    assert not photo_files.is_photo(tmp_path / name)


def test_folder_and_missing_file_with_the_name_of_a_photo_are_not_photos(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert not photo_files.is_photo(tmp_path / "a.jpg")
    assert not photo_files.is_photo(tmp_path / "missing.jpg")


@pytest.mark.parametrize(
    "name",
    [
        *(".git", "._a.jpg", ".DS_Store", ".thumbnails", "__MACOSX", "Thumbs.db", "Desktop.ini"),
        *("@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "lost+found"),
    ],
)
def test_files_of_operating_systems_archivers_and_network_disks_are_not_visible(name):
    assert not photo_files.is_visible(Path("photos", name))


@pytest.mark.parametrize("name", ["zebra", "a.jpg", "notes.txt", "_a.jpg", "@home", "#1"])
def test_other_files_are_visible_even_in_a_hidden_folder(name):
    assert photo_files.is_visible(Path(".photos", name))


def test_photos_in_returns_the_photos_directly_in_a_folder_by_name(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "a.jpg", "notes.txt", "deeper/c.jpg"):
        (tmp_path / name).touch()
    assert photo_files.photos_in(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.png"]


def test_photos_in_returns_nothing_when_the_folder_is_missing(tmp_path):
    assert photo_files.photos_in(tmp_path / "missing") == []


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_folders_in_returns_names_as_keyboards_type_them(tmp_path, form):
    folder = tmp_path / unicodedata.normalize(form, "Crème brûlée")
    folder.mkdir()
    (tmp_path / "a.jpg").touch()
    assert photo_files.folders_in(tmp_path) == {"Cr\u00e8me br\u00fbl\u00e9e": folder}


def test_folders_in_refuses_two_folders_of_the_same_name(tmp_path):
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "Crème")).mkdir(exist_ok=True)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system normalizes names")
    with pytest.raises(UserError, match=r"two folders named 'Crème'.* Move their photos into one"):
        photo_files.folders_in(tmp_path)
