"""Archives are unpacked completely and into their folder, or not at all."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import user_error

from pyimagesearch.support import archives

DATA = bytes(range(256)) * 40


def make_zip(path, contents, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def make_tar(path, contents, links=()):
    """Write a tar.gz file. `links` are (name, target) of symbolic links before the files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


PHOTOS = {"cat/1.jpg": DATA, "dog/größe.jpg": DATA[::-1]}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpacked_files_are_those_of_the_archive(make):
    assert archives.unpack(make(Path("a"), PHOTOS), Path("photos")) == 2
    found = {
        path.relative_to("photos").as_posix(): path.read_bytes()
        for path in Path("photos").rglob("*.jpg")
    }
    assert found == PHOTOS


def test_zip_archives_in_an_archive_are_unpacked_too():
    make_zip("train.zip", {"train/cat.0.jpg": DATA})
    make_zip("all.zip", {"train.zip": Path("train.zip").read_bytes(), "a.csv": "id,label"})
    assert archives.unpack(Path("all.zip"), Path("photos")) == 2
    assert Path("photos/train/train/cat.0.jpg").read_bytes() == DATA
    assert not Path("photos/train.zip").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "C:\\evil", "..\\evil"])
def test_archive_that_would_write_outside_its_folder_is_user_error(make, name):
    archive = make(Path("a"), {"cat/1.jpg": DATA, name: DATA})
    message = user_error(archives.unpack, archive, Path("in/photos"))
    assert f"outside its folder: {name!r}" in message
    assert [path.name for path in Path().rglob("*")] in (["a", "in"], ["in", "a"])
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("has_filter", sorted({False, hasattr(tarfile, "data_filter")}))
def test_link_out_of_the_folder_writes_nothing_outside(monkeypatch, has_filter):
    """Python before 3.11.4 has no filter for tar archives."""
    archive = make_tar(Path("a"), {"out/evil": DATA}, links=[("out", str(Path.cwd()))])
    if has_filter:
        assert "cannot be unpacked" in user_error(archives.unpack, archive, Path("photos"))
    else:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        archives.unpack(archive, Path("photos"))
    assert not Path("evil").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archive_that_would_fill_the_disk_is_refused_and_leaves_nothing(make, free_bytes):
    zeros = bytes(3_000_000)
    archive = make(Path("a"), {"1.jpg": zeros})
    free_bytes(archives.SPARE_BYTES + len(zeros) - 1)
    assert "Free some space" in user_error(archives.unpack, archive, Path("photos"))
    assert not Path("photos").exists()
    free_bytes(archives.SPARE_BYTES + len(zeros))
    assert archives.unpack(archive, Path("photos")) == 1


def test_archive_that_states_too_small_a_size_is_user_error():
    zeros = bytes(3_000_000)
    make_zip("a", {"1.jpg": zeros}, compression=zipfile.ZIP_DEFLATED)
    stated, false = (size.to_bytes(4, "little") for size in (len(zeros), 1000))
    data = Path("a").read_bytes()
    assert data.count(stated) == 2
    Path("a").write_bytes(data.replace(stated, false))
    assert "Bad CRC-32" in user_error(archives.unpack, Path("a"), Path("photos"))


@pytest.mark.parametrize(
    ("make", "damage", "words"),
    [
        (make_zip, lambda data: data[:-100], "its end is missing"),
        (make_tar, lambda data: data[:-100], "ended before the end-of-stream"),
        (make_zip, lambda data: data.replace(DATA[:50], DATA[50:100], 1), "Bad CRC-32"),
        (make_tar, lambda data: data[:40] + b"damage" + data[46:], "it is not a|invalid|incorrect"),
        (make_zip, lambda _: b"a text", "it is not a .zip or .tar.gz file"),
        # The first bit of the flags: the file is encrypted.
        (
            make_zip,
            lambda data: data.replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
            "password",
        ),
    ],
    ids=["cut zip", "cut tar", "damaged zip", "damaged tar", "text", "password"],
)
def test_damaged_archive_is_one_line_and_leaves_nothing(make, damage, words):
    path = make(Path("a"), {"cat/1.jpg": DATA})
    path.write_bytes(damage(path.read_bytes()))
    message = user_error(archives.unpack, path, Path("photos"), "Get another")
    assert re.search(rf"a cannot be unpacked: .*({words}).*\. Get another$", message)
    assert not Path("photos").exists()
