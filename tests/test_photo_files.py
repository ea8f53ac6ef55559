import unicodedata
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from pyimagesearch.support import photo_files
from pyimagesearch.support.errors import UserError


@pytest.mark.parametrize("name", ["a.jpg", "LOUD.HEIC", "dots.in.name.jpeg", "a.webp", "a b.tiff"])
def test_photo_is_recognized_by_its_suffix(tmp_path, name):
    (tmp_path / name).touch()
    assert photo_files.is_photo(tmp_path / name)


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "TIFF", "AVIF", "HEIF"]
)
def test_photo_without_a_suffix_is_recognized_by_its_first_bytes(tmp_path, kind):
    pillow_heif.register_heif_opener()
    Image.new("RGB", (16, 16)).save(tmp_path / "photo", kind)
    assert photo_files.is_photo(tmp_path / "photo")
    (tmp_path / "photo").rename(tmp_path / "Dr. Smith")
    assert photo_files.is_photo(tmp_path / "Dr. Smith") == (kind != "TIFF")


def test_raw_file_of_a_camera_is_not_a_photo_although_it_begins_like_a_tiff(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.nef", "TIFF")
    assert not photo_files.is_photo(tmp_path / "a.nef")


def test_others_are_counted_by_kind_without_hidden_files(tmp_path, capsys):
    names = ["a.mov", "b.MOV", "c.nef", "without", "Thumbs.db", "._a.jpg", "a.jpg"]
    for name in names:
        (tmp_path / name).write_text("not a photo")
    photo_files.report_others("here", [tmp_path / name for name in names])
    assert capsys.readouterr().err == (
        "[INFO] files in here that are not photos: 4 (2 .mov, 1 .nef, 1 without suffix). If some "
        "of them are photos, save them as JPEG\n"
    )


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
