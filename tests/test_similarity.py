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


def test_similarity_is_the_cosine_to_the_tenth_nearest_photo():
    training, photos = directions(60, seed=0), directions(20, seed=1)
    reference = similarity.fit(training, photos)
    neighbours = NearestNeighbors(n_neighbors=10, metric="cosine").fit(training)
    expected = 1 - neighbours.kneighbors(photos)[0][:, -1]
    np.testing.assert_allclose(reference.similarities(photos), expected, atol=1e-3)


def test_few_training_photos_are_all_neighbours():
    training = np.eye(3)
    reference = Reference(training.astype(np.float16), threshold=0.5)
    assert reference.similarities(np.ones((1, 3))) == pytest.approx(1 / np.sqrt(3), abs=1e-3)


def test_one_in_twenty_validation_photos_is_below_the_threshold():
    validation = directions(200, seed=1)
    reference = similarity.fit(directions(60, seed=0), validation)
    assert reference.are_unlike(validation).sum() == 10


def test_photo_in_another_direction_is_unlike_and_its_length_does_not_matter():
    rng = np.random.default_rng(0)
    training, validation = (np.eye(8)[0] + rng.normal(0, 0.1, (40, 8)) for _ in range(2))
    reference = similarity.fit(training, validation)
    photos = np.array([np.eye(8)[0], 100 * np.eye(8)[0], np.eye(8)[3], np.zeros(8)])
    assert reference.are_unlike(photos).tolist() == [False, False, True, True]


def test_few_photos_are_all_compared():
    assert similarity.choose_photos(np.array([2, 0, 2, 1])).tolist() == [0, 1, 2, 3]


def test_many_photos_are_thinned_out_in_the_classes_that_have_most():
    labels = np.repeat([0, 2, 1], [10, 5000, 900])
    chosen = similarity.choose_photos(labels)
    assert len(chosen) == similarity.MAX_PHOTOS
    assert np.bincount(labels[chosen]).tolist() == [10, 900, 1090]
    # Of the large class, photos from the first to the last.
    large = chosen[labels[chosen] == 2]
    assert (large[0], large[-1]) == (10, 5009)
    assert np.diff(large).max() <= 5


def test_every_class_has_a_photo_even_if_there_are_more_classes_than_photos_to_compare():
    labels = np.repeat(np.arange(similarity.MAX_PHOTOS + 1), 2)
    assert np.bincount(labels[similarity.choose_photos(labels)]).tolist() == [1] * len(set(labels))


def test_saved_reference_is_loaded_again(tmp_path):
    reference = similarity.fit(directions(60, seed=0), directions(20, seed=1))
    similarity.save(tmp_path, reference)
    loaded = similarity.load(tmp_path)
    np.testing.assert_array_equal(loaded.features, reference.features)
    assert loaded.threshold == reference.threshold
