"""What holds for every input: the splits, the CSV, the layouts, the checks of a row."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, tiny_recipe, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyimagesearch import datasets, features, images
from pyimagesearch.console import UserError
from pyimagesearch.recipe import (
    RULES,
    Augmentation,
    Head,
    Phase,
    Recipe,
    Split,
    checked,
    folder_name,
)

SPLITS = ("training", "validation", "evaluation")
# Examples share the folder of their test, which they write over.
IN_ONE_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)

parts = st.none() | st.integers(0, 40) | st.floats(0, 0.99)


@given(
    training=parts,
    validation=parts,
    evaluation=parts,
    counts=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
)
def test_a_split_uses_no_photo_twice_and_has_the_sizes_asked_for(
    training, validation, evaluation, counts, shuffle, seed
):
    split = Split(training, validation, evaluation, shuffle)
    try:
        recipe = tiny_recipe(split=split)
    except UserError:
        assert [training, validation, evaluation].count(None) > 1
        return
    found = [
        (Path(f"{label}/{number}.jpg"), label)
        for label, count in enumerate(counts)
        for number in range(count)
    ]
    try:
        entries = datasets.share_out(recipe, found, SPLITS, seed)
    except UserError:
        return
    sources = [entry.source for entry in entries]
    assert len(set(sources)) == len(sources)
    assert set(sources) <= {path for path, _ in found}
    assert all(entry.source.parent.name == str(entry.label) for entry in entries)
    for label, count in enumerate(counts):
        sizes = [
            sum(entry.split == name and entry.label == label for entry in entries)
            for name in SPLITS
        ]
        three = (training, validation, evaluation)
        make_a_whole = all(type(part) is float for part in three) and math.isclose(sum(three), 1)
        for size, part in zip(sizes, three, strict=True):
            if type(part) is int:
                assert size == part
            elif part is training and make_a_whole:
                assert sum(sizes) == count  # it takes what rounding leaves
            elif part is not None:
                assert size == max(1, round(part * count))
        if None in (training, validation, evaluation):
            assert sum(sizes) == count
    assert entries == datasets.share_out(recipe, found, SPLITS, seed)


@IN_ONE_FOLDER
@given(data=st.data(), rows=st.integers(1, 9), columns=st.integers(1, 6))
def test_every_float_comes_back_from_the_csv_bit_for_bit(tmp_path, data, rows, columns):
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    count = rows * columns
    numbers = data.draw(st.lists(floats, min_size=count, max_size=count))
    numbers = np.array(numbers, np.float32).reshape(rows, columns)
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
    path = tmp_path / "training.csv"
    write_csv(path, labels, numbers)
    photos = images.Photos(tuple(map(Path, map(str, range(rows)))), labels, CLASSES)
    back = features.read_split(tmp_path, "training", photos, columns)
    np.testing.assert_array_equal(back.view(np.uint32), numbers.view(np.uint32))


@IN_ONE_FOLDER
@given(data=st.binary(max_size=200))
def test_a_csv_of_any_bytes_is_read_or_refused_in_a_line(tmp_path, data):
    path = tmp_path / "tiny" / "features" / "training.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    labels = np.array([0, 1, 2])
    photos = images.Photos((Path("a"), Path("b"), Path("c")), labels, CLASSES)
    try:
        rows = features.read_split(path.parent, "training", photos, 2)
    except UserError:
        return
    assert rows.shape == (3, 2)
    assert np.isfinite(rows).all()


# No letter that a file name cannot have, nor one that ends the stem.
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/.\x00"),
    min_size=1,
    max_size=20,
)


@IN_ONE_FOLDER
@given(label=st.integers(0, 99), name=names)
def test_a_flat_name_gives_its_label_or_is_refused(tmp_path, label, name):
    path = tmp_path / f"{label}_{name}.jpg"
    path.touch()
    try:
        found = datasets.find_flat(tiny_recipe(), tmp_path)
    except UserError as refused:
        assert str(path) in str(refused)  # noqa: PT017
    else:
        assert found == [(path, label)]
        assert label < len(CLASSES)
    finally:
        path.unlink()


@given(name=st.text(max_size=30))
def test_the_folder_of_any_class_is_one_name(name):
    folder = folder_name(name)
    assert "/" not in folder
    assert "\\" not in folder
    assert len(folder) == len(name)


values = (
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.floats(allow_nan=True)
    | st.text(max_size=5)
    | st.tuples(st.floats(0, 2), st.floats(0, 2))
    | st.lists(st.integers(), max_size=2)
    | st.sampled_from(["VGG16", "ResNet50", "sigmoid", "balanced", "block4_pool", "SGD", "auto"])
)


@pytest.mark.parametrize("kind", [Recipe, Head, Augmentation, Split, Phase])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_in_any_field_is_taken_or_refused_by_its_name(kind, data):
    field = data.draw(st.sampled_from(list(RULES[kind])))
    value = data.draw(values)
    row = {"source": "x", "classes": ("a", "b")}
    if kind is Recipe:
        row[field] = value
    elif kind is Phase:
        row["phases"] = (Phase(**{"name": "a", field: value}),)
    else:
        place = {Head: "head", Augmentation: "augmentation", Split: "split"}[kind]
        row[place] = kind(**{field: value})
    try:
        made = checked({"mine": Recipe(**row)})["mine"]
    except UserError as refused:
        assert "recipe 'mine'" in str(refused)  # noqa: PT017
        assert field in str(refused) or "split" in str(refused)  # noqa: PT017
    else:
        assert made.name == "mine"
