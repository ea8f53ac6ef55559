"""Whether a photo is unlike any training photo, by its features alone."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from pyimagesearch.support import similarity
from pyimagesearch.support.similarity import Reference


def directions(count, seed, size=16):
    """Return (count, size) features in random directions, of random lengths."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) * rng.uniform(0.1, 10, size=(count, 1))


def fit(training, validation):
    """Return the Reference of photos whose validation photos are of three classes in turn."""
    return similarity.fit(training, validation, np.arange(len(validation)) % 3)


def to_tenth_nearest(photos, compared):
    """Return scikit-learn's similarities of photos to the tenth nearest of those compared with."""
    neighbours = NearestNeighbors(n_neighbors=10, metric="cosine").fit(compared)
    return 1 - neighbours.kneighbors(photos)[0][:, -1]


def test_similarity_is_the_cosine_to_the_tenth_nearest_training_or_validation_photo():
    training, validation, photos = (directions(60, seed) for seed in range(3))
    expected = to_tenth_nearest(photos, np.concatenate([training, validation]))
    found = fit(training, validation).similarities(photos)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("limit", [500, 12])
def test_threshold_is_the_similarity_that_one_in_twenty_validation_photos_is_below(
    monkeypatch, limit
):
    """None of them is compared with itself."""
    monkeypatch.setattr(similarity, "MAX_VALIDATION", limit)
    training, validation = directions(60, seed=0), directions(40, seed=1)
    chosen = set(similarity.choose_photos(np.arange(40) % 3, limit).tolist())
    similarities = [
        to_tenth_nearest(
            validation[[number]],
            np.concatenate([training, validation[sorted(chosen - {number})]]),
        )
        for number in range(40)
    ]
    expected = np.quantile(similarities, 0.05)
    assert fit(training, validation).threshold == pytest.approx(expected, abs=1e-3)


def test_few_photos_are_all_neighbours_but_one():
    reference = Reference(np.eye(3, dtype=np.float16), threshold=0.5)
    assert reference.similarities([[1, 1, 0.1]]) == pytest.approx(0.705, abs=1e-3)
    assert -1 < fit(np.eye(3)[:1], np.eye(3)[:1]).threshold <= 1


def test_photo_in_another_direction_is_unlike_and_its_length_does_not_matter():
    rng = np.random.default_rng(0)
    training, validation = (np.eye(8)[0] + rng.normal(0, 0.1, (40, 8)) for _ in range(2))
    reference = fit(training, validation)
    photos = np.array([np.eye(8)[0], 100 * np.eye(8)[0], np.eye(8)[3], np.zeros(8)])
    assert reference.are_unlike(photos).tolist() == [False, False, True, True]


def test_few_photos_are_all_compared():
    assert similarity.choose_photos(np.array([2, 0, 2, 1]), 2000).tolist() == [0, 1, 2, 3]


def test_many_photos_are_thinned_out_in_the_classes_that_have_most():
    labels = np.repeat([0, 2, 1], [10, 5000, 900])
    chosen = similarity.choose_photos(labels, 2000)
    assert len(chosen) == 2000
    assert np.bincount(labels[chosen]).tolist() == [10, 900, 1090]
    # Of the large class, photos from the first to the last.
    large = chosen[labels[chosen] == 2]
    assert (large[0], large[-1]) == (10, 5009)
    assert np.diff(large).max() <= 5


def test_every_class_has_a_photo_even_if_there_are_more_classes_than_photos_to_compare():
    labels = np.repeat(np.arange(21), 2)
    assert np.bincount(labels[similarity.choose_photos(labels, 20)]).tolist() == [1] * 21


def test_saved_reference_is_loaded_again(tmp_path):
    reference = fit(directions(60, seed=0), directions(20, seed=1))
    similarity.save(tmp_path, reference)
    loaded = similarity.load(tmp_path)
    np.testing.assert_array_equal(loaded.features, reference.features)
    assert loaded.threshold == reference.threshold
