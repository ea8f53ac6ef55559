"""A CSV file gives the classes of photos that are not in folders of classes."""

from pathlib import Path

import pytest

from pyimagesearch.support import label_files
from pyimagesearch.support.errors import UserError

LABELS = ("labels.csv", "id", "label")
SOURCE = Path("photos")


def write_csv(text, encoding="utf-8"):
    """Write the CSV file of LABELS."""
    SOURCE.mkdir(exist_ok=True)
    (SOURCE / "labels.csv").write_text(text, encoding=encoding)


def touch(*names):
    """Make empty photos."""
    for name in names:
        path = SOURCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_rows_are_read_from_the_csv_of_any_spreadsheet(delimiter, encoding):
    rows = [["extra", "label", "id"], ["1", "crème", "a"], ["2", "", "b"], ["3", "pie", " c "], []]
    write_csv("\r\n".join(delimiter.join(row) for row in rows), encoding)
    assert label_files.read_labels(SOURCE, LABELS) == [("a", "crème"), ("c", "pie")]


def test_missing_file_and_misspelt_column_are_named():
    with pytest.raises(UserError, match=r"photos/labels\.csv is missing.*'labels\.csv', 'id'"):
        label_files.read_labels(SOURCE, LABELS)
    write_csv("id,labels\na,pie\n")
    with pytest.raises(
        UserError, match=r"no column 'label'\. Did you mean 'labels'\? It has: 'id'"
    ):
        label_files.read_labels(SOURCE, LABELS)


@pytest.mark.parametrize("name", ["a/b.jpg", "a/b", "b.jpg", "b", "a\\b.jpg"])
def test_photo_is_found_by_its_path_or_name_with_or_without_suffix(name):
    touch("a/b.jpg", "a/other.jpg", "@eaDir/b.jpg", "a/._b.jpg")
    found = label_files.find_labelled(SOURCE, [(name, "pie")], ["cake", "pie"])
    assert found == {SOURCE / "a/b.jpg": 1}


def test_rows_without_a_photo_or_a_class_are_counted(capsys):
    touch("a.jpg", "b.jpg")
    pairs = [("a", "pie"), ("b", "tart"), ("gone", "pie"), ("lost", "pie")]
    assert label_files.find_labelled(SOURCE, pairs, ["pie"]) == {SOURCE / "a.jpg": 0}
    messages = capsys.readouterr().err
    assert "but that are missing: 2, the first 'gone'" in messages
    assert "not one of the recipe's classes: 1, the first 'tart'" in messages


def test_a_name_of_two_photos_and_a_photo_with_two_labels_are_refused():
    touch("x/a.jpg", "y/a.jpg")
    with pytest.raises(UserError, match=r"'a' is that of photos/x/a\.jpg and photos/y/a\.jpg"):
        label_files.find_labelled(SOURCE, [("a", "pie")], ["pie"])
    with pytest.raises(UserError, match=r"x/a\.jpg has two labels"):
        label_files.find_labelled(SOURCE, [("x/a", "pie"), ("x/a.jpg", "cake")], ["cake", "pie"])
