"""The photos of each class are divided into training, validation and evaluation."""

import math
from pathlib import Path

import pytest
from conftest import tiny_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimagesearch import config
from pyimagesearch.recipe import Split
from pyimagesearch.support import dividing, layouts
from pyimagesearch.support.errors import UserError

SPLITS = config.SPLITS


def photos_of_each_class(counts):
    """Return so many photos of each class, without splits."""
    return [
        layouts.Original(Path(f"{label}/{number}.jpg"), label, None)
        for label, count in enumerate(counts)
        for number in range(count)
    ]


parts = st.none() | st.integers(0, 40) | st.floats(0, 0.99)


@given(
    training=parts,
    validation=parts,
    evaluation=parts,
    counts=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    shuffle=st.booleans(),
    seed=st.integers(0, 5),
)
def test_divide_uses_no_photo_twice_and_gives_each_split_its_size(
    training, validation, evaluation, counts, shuffle, seed
):
    three_parts = (training, validation, evaluation)
    try:
        recipe = tiny_recipe(split=Split(*three_parts, shuffle))
    except UserError:
        assert three_parts.count(None) > 1
        return
    originals = photos_of_each_class(counts)
    try:
        divided = dividing.divide(recipe, originals, SPLITS, seed)
    except UserError:
        return
    assert len({photo.path for photo in divided}) == len(divided)
    assert {photo._replace(split=None) for photo in divided} <= set(originals)
    all_fractions = all(type(part) is float for part in three_parts)
    add_up = all_fractions and math.isclose(sum(three_parts), 1)
    for label, count in enumerate(counts):
        photos = [photo for photo in divided if photo.label == label]
        sizes = [sum(photo.split == split for photo in photos) for split in SPLITS]
        for size, part in zip(sizes, three_parts, strict=True):
            if type(part) is int:
                assert size == part
            elif part is training and add_up:
                assert sum(sizes) == count  # it makes up for rounding
            elif part is not None:
                assert size == max(1, round(part * count))
        if None in three_parts:
            assert sum(sizes) == count
    assert divided == dividing.divide(recipe, originals, SPLITS, seed)


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.8, 0.1, 0.1)])
def test_fractions_that_add_up_to_1_use_every_photo(fractions):
    recipe = tiny_recipe(split=Split(*fractions))
    for count in range(3, 400):
        sizes = dividing.split_sizes(dividing.split_parts(recipe), count)
        assert sum(sizes) == count
        for size, fraction in zip(sizes, fractions, strict=True):
            assert abs(size - fraction * count) < 2


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        (Split(), [85, 0, 15]),
        (Split(0.7, 0.15, 0.15), [85, 0, 15]),
        (Split(0.8, 0.05, None), [85, 0, 15]),
        (Split(0.7, None, 0.2), [80, 0, 20]),
        (Split(50, 10, 20), [50, 0, 20]),
        (Split(validation=0), [85, 0, 15]),
    ],
)
def test_validation_photos_train_if_the_evaluation_photos_validate(split, sizes):
    recipe = tiny_recipe(split=split, validate_on_evaluation=True)
    assert dividing.split_sizes(dividing.split_parts(recipe), 100) == sizes


def test_too_few_photos_for_the_split_are_refused():
    recipe = tiny_recipe(split=Split(6, 3, 3))
    photos = photos_of_each_class([12, 11, 5])
    message = "class 'Noodles/Pasta' has 11 and needs 12, class 'apple' has 5 and needs 12.*smaller"
    with pytest.raises(UserError, match=message):
        dividing.divide(recipe, photos, SPLITS, 1)


@pytest.mark.parametrize("field", ["training", "validation", "evaluation"])
def test_a_split_without_photos_is_refused(field):
    recipe = tiny_recipe(split=Split(**{field: 0}))
    with pytest.raises(UserError, match=rf"Split\({field}=0\), so {field} gets no photos.*0\.15"):
        dividing.divide(recipe, photos_of_each_class([9, 9, 9]), SPLITS, 1)


def test_splits_that_are_not_there_are_drawn_from_the_training_photos():
    photos = [
        photo._replace(split="evaluation" if int(photo.path.stem) < 4 else "training")
        for photo in photos_of_each_class([24, 24, 24])
    ]
    divided = dividing.divide(tiny_recipe(), photos, SPLITS, 1, drawn=("validation",))
    counts = [sum(photo.split == split for photo in divided) for split in SPLITS]
    assert counts == [3 * 17, 3 * 3, 3 * 4]
    assert {photo for photo in divided if photo.split == "evaluation"} <= set(photos)


@settings(max_examples=30)
@given(
    before=st.lists(st.integers(3, 30), min_size=3, max_size=3),
    added=st.lists(st.integers(0, 30), min_size=3, max_size=3),
)
def test_photos_stay_in_their_splits_and_only_new_ones_are_shared_out(before, added):
    first = dividing.divide(tiny_recipe(), photos_of_each_class(before), SPLITS, 1)
    earlier = {photo.path: photo.split for photo in first}
    both = photos_of_each_class([old + new for old, new in zip(before, added, strict=True)])
    second = dividing.divide(tiny_recipe(), both, SPLITS, 2, earlier=earlier)
    assert len(second) == len(both)
    assert set(first) <= set(second)
    for label in range(3):
        total = before[label] + added[label]
        for split in SPLITS[1:]:
            count = sum((photo.label, photo.split) == (label, split) for photo in second)
            # One less if an earlier run has already put one more into training.
            assert 0 <= max(1, round(0.15 * total)) - count <= 1
