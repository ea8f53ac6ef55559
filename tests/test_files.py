import os

import pytest

from pyimagesearch import files


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_file_that_is_not_finished_leaves_the_old_one_and_nothing_else(tmp_path, failure):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def write_half():
        with files.whole(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "a.csv"
    for text in ("first", "second"):
        with files.whole(path) as partial:
            partial.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["vgg16.weights.h5", "model.keras", "warmup.png", "a.b.c.skops"])
def test_the_partial_file_ends_as_its_format_needs(tmp_path, name):
    with files.whole(tmp_path / name) as partial:
        assert partial.name.endswith("".join((tmp_path / name).suffixes[-2:]))
        partial.touch()


@pytest.mark.parametrize(
    "name",
    ["x" * 251 + ".jpg", "x" * 244 + ".weights.h5", "x." + "y" * 253, "\N{HIRAGANA LETTER A}" * 85],
)
def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path, name):
    assert len(name.encode()) in (254, 255)
    with files.whole(tmp_path / name) as partial:
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "whole"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.csv"
    with files.whole(path) as first:
        first.write_text("first")
        with files.whole(path) as second:
            second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"accuracy": 0.5})
    with pytest.raises(TypeError):
        files.write_json(path, {"accuracy": object()})
    assert files.read_json(path) == {"accuracy": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_as_it_was(tmp_path):
    files.write_json(tmp_path / "classes.json", ["Crème brûlée", "Noodles/Pasta"])
    assert files.read_json(tmp_path / "classes.json") == ["Crème brûlée", "Noodles/Pasta"]


def test_json_that_is_missing_or_damaged_is_none(tmp_path):
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"accuracy": ')
    assert files.read_json(tmp_path / "half.json") is None
    assert files.read_json(tmp_path / "half.json" / "below.json") is None
    (tmp_path / "empty.json").touch()
    assert files.read_json(tmp_path / "empty.json") is None
    (tmp_path / "binary.json").write_bytes(bytes(range(128, 255)))
    assert files.read_json(tmp_path / "binary.json") is None


def test_digest_changes_with_every_part():
    assert files.digest("a", 1) == files.digest("a", 1)
    assert len({files.digest("a", 1), files.digest("a", 2), files.digest("a1")}) == 3


def test_the_first_sentence_of_a_failure_is_one_line_without_its_stop():
    assert files.first_sentence(ValueError("no room\n on disk. Try later.")) == "no room on disk"
    assert files.first_sentence(KeyError()) == "KeyError"


def test_a_stamp_changes_with_the_size_and_with_the_time(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("a")
    os.utime(path, ns=(0, 5))
    first = files.file_stamp(path)
    os.utime(path, ns=(0, 6))
    later = files.file_stamp(path)
    path.write_text("ab")
    os.utime(path, ns=(0, 6))
    assert len({first, later, files.file_stamp(path)}) == 3
