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


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".jpg")
    with files.whole(path) as partial:
        partial.touch()
    assert path.is_file()


def test_json_comes_back_as_it_was(tmp_path):
    files.write_json(tmp_path / "classes.json", ["Crème brûlée", "Noodles/Pasta"])
    assert files.read_json(tmp_path / "classes.json") == ["Crème brûlée", "Noodles/Pasta"]


def test_json_that_is_missing_or_damaged_is_none(tmp_path):
    assert files.read_json(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"accuracy": ')
    assert files.read_json(tmp_path / "half.json") is None
    (tmp_path / "binary.json").write_bytes(bytes(range(128, 255)))
    assert files.read_json(tmp_path / "binary.json") is None


def test_digest_changes_with_every_part():
    assert files.digest("a", 1) == files.digest("a", 1)
    assert len({files.digest("a", 1), files.digest("a", 2), files.digest("a1")}) == 3
