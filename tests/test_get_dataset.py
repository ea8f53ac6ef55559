"""tools/get_dataset.py puts the photos of each tutorial where its row says, or tells what to do."""

import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import assert_one_error, make_photo
from made_downloads import (
    make_cats_vs_dogs,
    make_food5k,
    make_food11,
    make_knifey_spoony,
    make_simpsons,
)

from pyimagesearch import config
from pyimagesearch.recipe import Split
from pyimagesearch.support import downloads


def pack(folder, archive):
    """Pack the content of a folder into a zip or tar.gz archive. Return its bytes."""
    names = [path.relative_to(folder).as_posix() for path in sorted(Path(folder).rglob("*.*"))]
    if archive.endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.write(Path(folder, name), name)
    else:
        with tarfile.open(archive, "w:gz") as packed:
            for name in names:
                packed.add(Path(folder, name), name)
    data = Path(archive).read_bytes()
    Path(archive).unlink()
    return data


def in_class_folders(folder, classes):
    """Move <split>/<label>_<id>.jpg to <split>/<class>/, as in Kaggle's copies."""
    for path in sorted(Path(folder).rglob("*.jpg")):
        name = classes[int(path.name.split("_")[0])].replace("/", "-")
        target = path.parent / name / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


def pack_food11():
    make_food11()
    in_class_folders("Food-11", config.RECIPES["food11"].classes)
    return pack("Food-11", "a.zip")


def pack_food5k():
    make_food5k()
    in_class_folders("Food-5K", config.RECIPES["food5k"].classes)
    return pack("Food-5K", "a.zip")


def pack_knifey_spoony():
    make_knifey_spoony()
    Path("around").mkdir()
    Path("knifey-spoony").rename("around/knifey-spoony")
    return pack("around", "a.tar.gz")


def pack_cats_vs_dogs():
    """Pack PetImages/Cat/0.jpg and PetImages/Dog/0.jpg, as Microsoft does."""
    for label, name in enumerate(("Cat", "Dog")):
        for number in range(12):
            make_photo(Path("pets/PetImages", name, f"{number}.jpg"), label, number)
        Path("pets/PetImages", name, "Thumbs.db").touch()
    Path("pets/readme[1].txt").touch()
    return pack("pets", "a.zip")


def pack_simpsons():
    """Pack the folders of the characters, and the same once more in a deeper folder."""
    for folder in ("simpsons_dataset", "simpsons_dataset/simpsons_dataset"):
        make_simpsons()
        for path in list(Path("simpsons").iterdir()):
            target = Path("around", folder, path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    make_photo(Path("around/kaggle_simpson_testset/kaggle_simpson_testset/lisa_1.jpg"), 0, 0)
    return pack("around", "a.zip")


SMALL = Split(training=6, validation=3, evaluation=3, shuffle=False)
# Recipe -> (function that packs a small archive like the real one, changed fields, photos)
ARCHIVES = {
    "food5k": (pack_food5k, {}, (30, 10, 10)),
    "food11": (pack_food11, {}, (30, 30, 30)),
    "knifey_spoony": (pack_knifey_spoony, {}, (42, 11, 11)),
    "cats_vs_dogs": (pack_cats_vs_dogs, {"split": SMALL}, (12, 6, 6)),
    "simpsons": (
        pack_simpsons,
        {"split": Split(training=None, validation=0, evaluation=5)},
        (19, 10, 10),
    ),
}


@pytest.fixture
def offered(host, monkeypatch):
    """Return a function that lets the host offer a file as the archive of a recipe."""

    def offer(name, data, **changes):
        host.files["/archive"] = data
        download = replace(
            config.RECIPES[name].download, url=f"{host.url}/archive", size=None, checksum=""
        )
        row = replace(config.RECIPES[name], download=download, **changes)
        monkeypatch.setitem(config.RECIPES, name, row)
        return row

    return offer


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_of_a_tutorial_gives_its_dataset(name, offered, script, tmp_path, monkeypatch):
    make_archive, changes, counts = ARCHIVES[name]
    data = make_archive()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    source = offered(name, data, **changes).source
    assert_one_error(
        script("build_dataset", "--recipe", name)[2],
        f"{source} is missing. Download its photos with: "
        f"python tools/get_dataset.py --recipe {name}, or",
    )
    status, _, messages = script("tools.get_dataset", "--recipe", name)
    assert status == 0, messages
    assert messages.endswith(f"[INFO] next: python build_dataset.py --recipe {name}\n")
    assert [path.name for path in Path().iterdir()] == [source]
    status, _, messages = script("build_dataset", "--recipe", name)
    assert status == 0, messages
    folder = Path("dataset", name)
    found = [len(list((folder / split).rglob("*.jpg"))) for split in config.SPLITS]
    assert found == list(counts)


def test_photos_that_are_there_are_kept_and_nothing_is_downloaded(offered, host, script):
    make_photo(Path("Food-11/mine.jpg"), 0, 0)
    offered("food11", b"")
    status, _, messages = script("tools.get_dataset", "--recipe", "food11")
    assert status == 0
    assert "Food-11 already exists. To get its photos again, rename or delete it" in messages
    assert [path.name for path in Path("Food-11").iterdir()] == ["mine.jpg"]
    assert not host.requests


def test_archive_of_kaggles_competition_from_the_browser_is_unpacked_and_kept(script, monkeypatch):
    row = replace(config.RECIPES["cats_vs_dogs"], split=SMALL)
    monkeypatch.setitem(config.RECIPES, "cats_vs_dogs", row)
    make_cats_vs_dogs()
    Path("dogs-vs-cats").rename("around")
    Path("train.zip").write_bytes(pack("around", "a.zip"))
    with zipfile.ZipFile("all.zip", "w") as packed:
        packed.write("train.zip")
    arguments = ("--recipe", "cats_vs_dogs", "--archive", "all.zip")
    status, _, messages = script("tools.get_dataset", *arguments)
    assert status == 0, messages
    assert Path("all.zip").exists()
    status, _, messages = script("build_dataset", "--recipe", "cats_vs_dogs")
    assert status == 0, messages
    names = {path.name for path in Path("dataset/cats_vs_dogs/training/dog").iterdir()}
    assert names == {f"dog.{number}.jpg" for number in range(6)}


def test_interrupted_run_resumes_and_a_failed_one_names_the_way_by_hand(
    offered, host, script, monkeypatch
):
    offered("food11", pack_food11())
    Path("Food-11").rename("elsewhere")
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", ())
    host.cuts = [1000]
    status, _, messages = script("tools.get_dataset", "--recipe", "food11")
    assert status == 2
    by_hand = "python tools/get_dataset.py --recipe food11 --archive PATH"
    assert_one_error(messages, "Run the same command again to resume", by_hand)
    status, _, messages = script("tools.get_dataset", "--recipe", "food11")
    assert status == 0, messages
    assert host.requests[-1] == ("/archive", "bytes=1000-")
    assert [path.name for path in Path().iterdir() if "Food-11" in path.name] == ["Food-11"]


def test_archive_that_cannot_be_unpacked_leaves_no_source(offered, script):
    offered("food11", b"a text")
    status, _, messages = script("tools.get_dataset", "--recipe", "food11")
    assert status == 2
    assert_one_error(messages, "it is not a .zip", "delete Food-11.download/archive and run")
    assert not Path("Food-11").exists()


@pytest.mark.parametrize(
    ("name", "download", "words"),
    [
        ("sample", "python tools/get_sample.py", "get its photos with: python tools/get_sample.py"),
        ("sample", "", "For downloads/sample, put its photos there"),
    ],
)
def test_recipe_without_an_archive_is_refused(monkeypatch, script, name, download, words):
    row = replace(config.RECIPES[name], download=download)
    monkeypatch.setitem(config.RECIPES, name, row)
    status, _, messages = script("tools.get_dataset", "--recipe", name)
    assert status == 2
    assert_one_error(messages, "names no archive to download", words)
