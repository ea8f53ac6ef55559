"""A copy is recognised by its content; rejected and duplicated photos are reported."""

import csv
import errno
import os
from pathlib import Path

import pytest

from pyimagesearch.support import copies, layouts
from pyimagesearch.support.errors import UserError


@pytest.fixture
def pair():
    """Write a source and a copy of it, with the same content and date; return their paths."""
    paths = Path("source.jpg"), Path("target.jpg")
    for path in paths:
        path.write_bytes(b"photo")
        os.utime(path, ns=(0, 10**18))
    return paths


def test_is_copy_with_the_same_content_and_date(pair):
    assert copies.is_copy(*pair)


def test_is_copy_with_the_same_content_and_another_date(pair):
    os.utime(pair[1], (0, 0))
    assert copies.is_copy(*pair)


@pytest.mark.parametrize("content", [b"other", b"a longer photo"])
def test_is_not_a_copy_with_other_content(pair, content):
    pair[1].write_bytes(content)
    assert not copies.is_copy(*pair)


def test_is_not_a_copy_if_it_is_missing(pair):
    pair[1].unlink()
    assert not copies.is_copy(*pair)


def test_copy_has_the_date_of_the_source_and_stays_as_it_is_when_the_source_is_edited(pair):
    source, target = pair
    target.unlink()
    assert copies.copy_photo(source, target, force=False)
    assert target.stat().st_mtime_ns == 10**18
    assert not copies.copy_photo(source, target, force=False)
    assert copies.copy_photo(source, target, force=True)
    with open(source, "r+b") as file:  # in place, as some programs write photos
        file.write(b"PHOTO")
    assert target.read_bytes() == b"photo"


@pytest.mark.parametrize("left_out", [0, 2])
def test_copy_is_whole_if_the_file_system_cannot_copy_or_stops_early(pair, monkeypatch, left_out):
    def copy_file_range(source, target, count):
        if not left_out:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return os.write(target, os.read(source, max(0, count - left_out)))

    monkeypatch.setattr(os, "copy_file_range", copy_file_range, raising=False)
    pair[1].unlink()
    copies.copy_photo(*pair, force=False)
    assert pair[1].read_bytes() == b"photo"


def test_refuse_source_in_dataset_names_the_folder():
    photo = layouts.Original(Path("dataset/tiny/training/0_0.jpg"), 0, "training")
    photo.path.parent.mkdir(parents=True)
    copies.refuse_source_in_dataset([photo], [Path("elsewhere/training/zebra")])
    with pytest.raises(UserError, match="dataset/tiny/training is already in the dataset"):
        copies.refuse_source_in_dataset([photo], [Path("dataset/tiny/training/zebra")])


def test_report_rejected_lists_files_and_reasons_and_warns_of_the_first(capsys):
    path = Path("dataset/rejected.csv")
    rejected = [(Path("a.jpg"), "not a picture"), (Path("two\nlines.jpg"), "damaged: at 3, 4")]
    copies.report_rejected(path, rejected)
    with open(path, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["file", "reason"],
            ["a.jpg", "not a picture"],
            ["two\nlines.jpg", "damaged: at 3, 4"],
        ]
    assert "2, listed in dataset/rejected.csv; the first: a.jpg: not a picture" in (
        capsys.readouterr().err
    )


def test_report_rejected_empties_the_list_if_every_photo_is_intact(capsys):
    copies.report_rejected(Path("rejected.csv"), [(Path("a.jpg"), "not a picture")])
    capsys.readouterr()
    copies.report_rejected(Path("rejected.csv"), [])
    assert Path("rejected.csv").read_text().splitlines() == ["file,reason"]
    assert capsys.readouterr().err == ""


def test_report_duplicates_warns_of_the_same_content_in_two_splits_only(capsys):
    copies.report_duplicates([("1a", "training", "a.jpg"), ("1a", "training", "b.jpg")])
    assert capsys.readouterr().err == ""
    copies.report_duplicates([("1a", "training", "a.jpg"), ("1a", "evaluation", "b.jpg")])
    assert "exact copy in another split: 1. " in (message := capsys.readouterr().err)
    assert "The first: a.jpg = b.jpg" in message
