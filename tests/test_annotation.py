import numpy as np
import pytest

from pyimagesearch import annotation


@pytest.mark.parametrize("text", ["Fruit: 56.35%", "Crème brûlée: 3.20%", "x" * 80 + ": 100.00%"])
def test_annotation_is_readable_and_clipped_only_where_it_is_too_long(text):
    photo = np.full((300, 800, 3), 128, np.uint8)
    picture = annotation.annotate(annotation.small_copy(photo), text).astype(int)
    assert picture.shape == (150, 400, 3)
    green = (picture[..., 1] > 200) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
    columns = np.flatnonzero(green.any(axis=0))
    assert len(columns) > 50
    if len(text) < 40:
        assert columns.max() < 400 - 2


def test_a_small_photo_is_enlarged_to_the_tutorials_width():
    assert annotation.small_copy(np.zeros((8, 8, 3), np.uint8)).shape == (400, 400, 3)


@pytest.mark.parametrize("shape", [(4, 4000, 3), (100, 4000, 3), (4000, 4, 3), (1, 1, 3)])
def test_a_strip_or_a_tower_is_annotated_in_a_size_one_can_look_at(shape):
    picture = annotation.small_copy(np.zeros(shape, np.uint8))
    assert picture.shape[1] == 400
    assert 40 <= picture.shape[0] <= 2000


def test_heat_is_yellow_where_the_classifier_looks_and_blue_where_it_does_not():
    photo = np.full((80, 120, 3), 128, np.uint8)
    heat = np.zeros((14, 14), np.float32)
    heat[:7, 7:] = 1
    covered = annotation.covered(photo, heat).astype(int)
    hot, cold = covered[15, 105], covered[65, 15]
    assert covered.shape == photo.shape
    assert hot[0] > hot[2] + 50  # more red than blue
    assert cold[2] > cold[0]


def test_an_explanation_stands_beside_its_photo():
    photo = np.full((300, 400, 3), 128, np.uint8)
    picture = annotation.explain(
        annotation.small_copy(photo), np.ones((7, 7), np.float32), "Fruit: 56.35%"
    )
    assert picture.shape == (300, 800, 3)
