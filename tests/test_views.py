import itertools
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import make_flat_download, tiny_recipe

from pyimagesearch import config, datasets, images, networks, training, views
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Augmentation, Phase

SPLITS = (config.TRAIN, config.VAL, config.TEST)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return the training photos of a tiny dataset: 21, not a multiple of the batch of 4."""
    folder = tmp_path_factory.mktemp("views")
    recipe = tiny_recipe(source=str(folder / "Tiny"))
    make_flat_download(recipe.source)
    entries = datasets.find(recipe, SPLITS, 1)
    datasets.build(recipe, entries, folder / "dataset", False, lambda: None)
    return images.list_photos(folder / "dataset", recipe, config.TRAIN)


def one_epoch(batches, count):
    """Take batches from an endless source until `count` photos have come."""
    taken = []
    while sum(len(labels) for _, labels in taken) < count:
        taken.append(next(batches))
    return taken


def random_store(path, count, shape=(2, 2, 3), versions=3):
    numbers = np.random.default_rng(0).normal(size=(versions, count, *shape))
    np.save(path, numbers.astype(ml_dtypes.bfloat16).view(np.uint16))
    return views.Stored(np.load(path, mmap_mode="r"))


def test_epoch_without_steps_shows_every_photo_once():
    for epoch in range(3):
        assert sorted(views.epoch_order((1,), epoch, 21, 21)) == list(range(21))
    assert list(views.epoch_order((1,), 0, 21, 21)) != list(views.epoch_order((1,), 1, 21, 21))


def test_steps_per_epoch_go_on_where_the_last_epoch_stopped():
    seen = np.concatenate([views.epoch_order((1,), epoch, 10, 4) for epoch in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_more_steps_than_photos_repeat_them():
    counts = np.bincount(views.epoch_order((1,), 0, 10, 35))
    assert counts.min() >= 3
    assert counts.max() <= 4


def test_fresh_batches_are_the_same_again_from_the_same_seed(photos):
    recipe = tiny_recipe()

    def first_epochs(seed):
        source = views.fresh_batches(recipe, photos, True, seed, len(photos))
        return np.concatenate([batch for batch, _ in one_epoch(source, 2 * len(photos))])

    np.testing.assert_array_equal(first_epochs((1, 0)), first_epochs((1, 0)))
    assert np.any(first_epochs((1, 0)) != first_epochs((2, 0)))


def test_fresh_batches_change_a_photo_from_epoch_to_epoch(photos):
    recipe = tiny_recipe(augmentation=Augmentation(rotation_degrees=30))
    source = views.fresh_batches(recipe, photos, True, (1,), len(photos))
    epochs = [one_epoch(source, len(photos)) for _ in range(2)]
    means = [sorted(p.mean() for batch, _ in epoch for p in batch) for epoch in epochs]
    assert means[0] != means[1]


def test_batches_carry_the_label_of_their_photo(photos):
    recipe = tiny_recipe()
    plain = {
        images.load(path, 32).tobytes(): label
        for path, label in zip(photos.paths, photos.labels, strict=True)
    }
    source = views.fresh_batches(recipe, photos, False, (1,), len(photos))
    for batch, labels in one_epoch(source, len(photos)):
        assert [plain[photo.tobytes()] for photo in batch] == list(labels)


def test_validation_photos_come_once_in_order_and_never_augmented(photos):
    recipe = tiny_recipe()
    batches = list(views.plain_fresh_batches(recipe, photos))
    expected = np.stack([images.load(path, 32) for path in photos.paths])
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), photos.labels)
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 4, 4, 1]


def test_stored_views_are_what_the_frozen_part_says_of_each_augmented_photo(photos, tmp_path):
    recipe = tiny_recipe()
    classifier = networks.build(recipe, None)
    phase = recipe.phases[1]
    stored = views.store(tmp_path / "v.npy", classifier, phase, recipe, photos, 2, (7, 1))
    frozen, _ = networks.split_at(classifier, phase.unfreeze_after)
    augment = views.augmenter(recipe, (7, 1), len(photos))
    assert stored.maps.shape == (2, len(photos), 2, 2, 512)
    for view, position in ((0, 0), (1, 5), (1, 20)):
        photo = images.load(photos.paths[position], 32)
        changed = augment(view * len(photos) + position, photo)
        expected = networks.forward(frozen)(changed[None])
        seen = stored.read([view], [position])
        # Eight bits of a bfloat16's number are kept: within 2**-8 of it.
        np.testing.assert_allclose(seen, expected, rtol=2**-8, atol=1e-5)


def test_stored_batches_draw_every_view_of_a_photo_before_one_comes_again(photos, tmp_path):
    stored = random_store(tmp_path / "v.npy", len(photos))
    source = views.stored_batches(tiny_recipe(), photos, stored, (1,), len(photos), False)
    seen = [
        {bytes(each) for batch, _ in one_epoch(source, len(photos)) for each in batch}
        for _ in range(3)
    ]
    assert all(len(epoch) == len(photos) for epoch in seen)
    assert len(set.union(*seen)) == 3 * len(photos)


def test_stored_validation_comes_once_in_order(photos, tmp_path):
    stored = random_store(tmp_path / "v.npy", len(photos), versions=1)
    batches = list(views.plain_stored_batches(tiny_recipe(), photos, stored))
    everything = np.concatenate([batch for batch, _ in batches])
    expected = np.asarray(stored.maps[0]).view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(everything, expected)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), photos.labels)


def test_shifted_moves_a_map_by_whole_cells_and_repeats_its_edge():
    maps = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    shapes = set()
    for seed in range(200):
        moved = views.shifted(maps, 1, np.random.default_rng(seed))
        assert moved.shape == maps.shape
        shapes.add(moved.tobytes())
    assert len(shapes) == 9
    left = np.concatenate([maps[:, :, :1], maps[:, :, :3]], axis=2)
    assert left.tobytes() in shapes
    assert maps.tobytes() in shapes


def test_small_maps_are_not_shifted(photos, tmp_path):
    stored = random_store(tmp_path / "v.npy", len(photos), shape=(4, 4, 1), versions=1)
    source = views.stored_batches(tiny_recipe(), photos, stored, (1,), len(photos), True)
    known = {bytes(each) for each in stored.read([0] * len(photos), range(len(photos)))}
    assert {bytes(each) for batch, _ in one_epoch(source, len(photos)) for each in batch} == known


def test_auto_views_are_fresh_on_a_gpu_and_stored_on_a_cpu():
    assert views.choose("auto", on_gpu=True) is None
    assert views.choose("auto", on_gpu=False) == views.DEFAULT_VIEWS
    assert views.choose(3, on_gpu=True) == 3
    assert views.choose(None, on_gpu=False) is None


def test_views_that_do_not_fit_on_the_disk_are_refused_before_they_are_made(tmp_path):
    with pytest.raises(UserError, match=r"need .* GB .* set the recipe's views"):
        views.refuse_if_too_large(tmp_path / "v.npy", (1000, 10**6, 14, 14, 512))


def test_stored_views_are_made_again_when_what_they_depend_on_changes(photos, tmp_path):
    classifier = networks.build(tiny_recipe(), None)

    def files(recipe, versions=1, seeds=(1, 0), phase=None):
        phase = phase or recipe.phases[1]
        training.open_views(
            classifier, recipe, phase, photos, versions, seeds, tmp_path, "training"
        )
        return {path.name for path in Path(tmp_path).glob("unfrozen_*.npy")}

    recipe = tiny_recipe()
    first = files(recipe)
    assert files(recipe) == first
    for changed in (
        files(tiny_recipe(augmentation=Augmentation(rotation_degrees=5))),
        files(recipe, versions=2),
        files(recipe, seeds=(2, 0)),
        files(recipe, phase=Phase("unfrozen", unfreeze_after="block3_pool")),
    ):
        assert len(changed) == 1
        assert changed != first
    kernel = classifier.get_layer("block1_conv1").kernel
    kernel.assign(kernel * 1.5)
    assert files(recipe) != first


def test_an_interrupted_store_leaves_nothing_behind(photos, tmp_path, monkeypatch):
    recipe = tiny_recipe()
    classifier = networks.build(recipe, None)
    monkeypatch.setattr(views, "fill", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        views.store(tmp_path / "v.npy", classifier, recipe.phases[1], recipe, photos, 1, (1,))
    assert not list(tmp_path.iterdir())


def test_augmenter_gives_the_same_picture_for_the_same_position():
    recipe = tiny_recipe()
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    augment = views.augmenter(recipe, (1, 2), 10)
    again = views.augmenter(recipe, (1, 2), 10)
    np.testing.assert_array_equal(augment(13, photo), again(13, photo))
    pictures = {augment(position, photo).tobytes() for position in itertools.islice(range(40), 40)}
    assert len(pictures) == 40
