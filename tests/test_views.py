import itertools
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import make_flat_download, tiny_recipe

from pyimagesearch import cache, config, datasets, images, networks, views
from pyimagesearch.recipe import Augmentation, Phase

SPLITS = (config.TRAIN, config.VAL, config.TEST)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return the training photos of a tiny dataset: 21, not a multiple of the batch of 4."""
    folder = tmp_path_factory.mktemp("views")
    recipe = tiny_recipe(source=str(folder / "Tiny"))
    make_flat_download(recipe.source)
    entries = datasets.find(recipe, SPLITS, 1)
    targets = datasets.plan(recipe, entries, folder / "dataset")
    datasets.build(entries, targets, False, lambda: None)
    return images.list_photos(folder / "dataset", recipe, config.TRAIN)


def one_epoch(batches, count):
    """Take batches from an endless source until `count` photos have come."""
    taken = []
    while sum(len(labels) for _, labels in taken) < count:
        taken.append(next(batches))
    return taken


def random_store(count, shape=(2, 2, 3), versions=3):
    numbers = np.random.default_rng(0).normal(size=(versions, count, *shape))
    paths = [Path(f"{view}.npy").absolute() for view in range(versions)]
    for path, each in zip(paths, numbers, strict=True):
        np.save(path, each.astype(ml_dtypes.bfloat16).view(np.uint16))
    return cache.Stored(tuple(paths), cache.BFLOAT16)


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


def open_training_views(classifier, recipe, number, photos, folder, seed=7):
    stage = views.Stage(recipe, number, seed, folder)
    seen = views.views_of(recipe, number)
    return views.open_views(classifier, stage, "training", photos, seen)


def test_stored_views_are_what_the_frozen_part_says_of_each_augmented_photo(photos, tmp_path):
    recipe = tiny_recipe()
    classifier = networks.build(recipe, None)
    stored = open_training_views(classifier, recipe, 1, photos, tmp_path)
    frozen, _ = networks.split_at(classifier, "block4_pool")
    assert len(stored.paths) == 2
    for view, position in ((0, 0), (1, 5), (1, 20)):
        # Phase 1 has its own two views, 2 and 3.
        augment = views.augmenter(recipe, (7, 2 + view), len(photos))
        changed = augment(position, images.load(photos.paths[position], 32))
        expected = networks.forward(frozen)(changed[None])
        seen = stored.read([view], [position]).astype(np.float32)
        # Eight bits of a bfloat16's number are kept: within 2**-8 of it.
        np.testing.assert_allclose(seen, expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("split", ["training", "validation"])
def test_no_view_passes_a_frozen_layer_twice(photos, tmp_path, monkeypatch, split):
    """The first phase goes on from what the second stores of the same views, layers earlier."""
    recipe = tiny_recipe()
    classifier = networks.build(recipe, None)
    read = []
    real = images.load
    monkeypatch.setattr(images, "load", lambda path, size: read.append(path) or real(path, size))
    seen = views.views_of(recipe, 1) if split == "training" else views.PLAIN
    first, second = (
        views.open_views(classifier, views.Stage(recipe, number, 7, tmp_path), split, photos, seen)
        for number in (0, 1)
    )
    assert sorted(read) == sorted(photos.paths * len(seen))
    between = networks.forward(networks.between(classifier, "block4_pool", None))
    everything = range(len(photos))
    for view in range(len(seen)):
        expected = between(second.read([view] * len(photos), everything))
        stored = first.read([view] * len(photos), everything).astype(np.float32)
        np.testing.assert_allclose(stored, expected, rtol=2**-8, atol=1e-5)


def test_a_phase_that_holds_photos_out_shares_nothing():
    phases = tuple(replace(phase, held_out=0.2) for phase in tiny_recipe().phases[:1])
    recipe = tiny_recipe(phases=(*phases, tiny_recipe().phases[1]))
    for split, seen in (("validation", views.PLAIN), ("training", (2, 3))):
        for row, first in ((recipe, 0), (tiny_recipe(), 1)):
            stage = views.Stage(row, 0, 7, Path("cache"))
            for view in seen:
                assert views.first_to_store(stage, split, view).number == first


def test_stored_batches_draw_every_view_of_a_photo_before_one_comes_again(photos):
    stored = random_store(len(photos))
    source = views.stored_batches(tiny_recipe(), photos, stored, (1,), len(photos))
    seen = [
        {each.tobytes() for batch, _ in one_epoch(source, len(photos)) for each in batch}
        for _ in range(3)
    ]
    assert all(len(epoch) == len(photos) for epoch in seen)
    assert len(set.union(*seen)) == 3 * len(photos)


@pytest.mark.parametrize("kind", ["fresh", "stored"])
def test_batches_behind_finished_epochs_are_those_of_an_uninterrupted_training(photos, kind):
    recipe, stored = tiny_recipe(), random_store(len(photos), shape=(7, 7, 2))

    def epochs(done, count):
        if kind == "fresh":
            source = views.fresh_batches(recipe, photos, True, (1,), len(photos), done)
        else:
            source = views.stored_batches(
                recipe, photos, stored, (1,), len(photos), done, augmented=True, mixes=True
            )
        taken = one_epoch(source, count * len(photos))
        return np.concatenate([batch for batch, _ in taken])

    np.testing.assert_array_equal(epochs(0, 3)[2 * len(photos) :], epochs(2, 1))


def test_stored_validation_comes_once_in_order(photos):
    stored = random_store(len(photos), versions=1)
    batches = list(views.plain_stored_batches(tiny_recipe(), photos, stored))
    everything = np.concatenate([batch for batch, _ in batches])
    expected = stored.read([0] * len(photos), range(len(photos)))
    np.testing.assert_array_equal(everything, expected)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), photos.labels)


def variants(maps, **augmentation):
    """Return the different maps that 200 seeds make of one."""
    made = set()
    for seed in range(200):
        varied = views.varied(maps, Augmentation(**augmentation), np.random.default_rng(seed))
        assert varied.shape == maps.shape
        made.add(varied.tobytes())
    return made


def test_a_map_is_moved_by_whole_cells_and_its_edge_repeated():
    maps = np.arange(14 * 14, dtype=np.float32).reshape(1, 14, 14, 1)
    shapes = variants(maps, width_shift=0.2, height_shift=0.2)
    assert len(shapes) == 9
    left = np.concatenate([maps[:, :, :1], maps[:, :, :13]], axis=2)
    assert left.tobytes() in shapes
    assert maps.tobytes() in shapes
    assert len(variants(maps, height_shift=0.2)) == 3


def test_a_map_is_mirrored_first_and_then_moved():
    maps = np.arange(14 * 14 * 2, dtype=np.float32).reshape(1, 14, 14, 2)
    expected = set()
    for axes, up, left in itertools.product([(), 1, 2, (1, 2)], range(3), range(3)):
        framed = np.pad(np.flip(maps, axes), [(0, 0), (1, 1), (1, 1), (0, 0)], "edge")
        expected.add(framed[:, up : up + 14, left : left + 14].tobytes())
    assert len(expected) == 36
    everything = {"vertical_flip": True, "horizontal_flip": True}
    assert variants(maps, **everything, width_shift=0.2, height_shift=0.2) == expected


def test_a_map_is_mirrored_only_where_photos_are():
    maps = np.arange(8 * 8 * 2, dtype=np.float32).reshape(1, 8, 8, 2)
    assert variants(maps, horizontal_flip=True) == {maps.tobytes(), maps[:, :, ::-1].tobytes()}
    assert variants(maps, vertical_flip=True) == {maps.tobytes(), maps[:, ::-1].tobytes()}
    assert variants(maps, rotation_degrees=30, zoom=0.2) == {maps.tobytes()}


@pytest.mark.parametrize(("side", "count"), [(4, 1), (6, 1), (7, 3), (14, 3), (28, 5)])
def test_maps_are_moved_as_far_as_their_size_allows(side, count):
    maps = np.arange(side * side, dtype=np.float32).reshape(1, side, side, 1)
    assert len(variants(maps, width_shift=0.2)) == count


def test_varying_leaves_what_was_read_as_it_is():
    maps = np.arange(8 * 8, dtype=np.float32).reshape(1, 8, 8, 1)
    before = maps.copy()
    variants(maps, horizontal_flip=True, width_shift=0.1)
    np.testing.assert_array_equal(maps, before)


def test_mixed_maps_lie_between_two_views_of_the_same_photo(photos):
    stored = random_store(len(photos), versions=2)
    still = tiny_recipe(augmentation=Augmentation())
    source = views.stored_batches(
        still, photos, stored, (1,), len(photos), augmented=True, mixes=True
    )
    both = [stored.read([v] * len(photos), range(len(photos))).astype(np.float32) for v in (0, 1)]
    low, high = np.minimum(*both), np.maximum(*both)
    between = 0
    for maps, _ in one_epoch(source, len(photos)):
        for each in maps.astype(np.float32):
            # bfloat16 rounds to the nearest of its numbers, in whose range both views lie.
            fits = np.all((low <= each) & (each <= high), axis=(1, 2, 3))
            assert fits.any()
            between += np.any((low[fits] < each) & (each < high[fits]))
    assert between > len(photos) / 4


def test_auto_views_are_fresh_on_a_gpu_and_stored_on_a_cpu():
    assert views.choose("auto", True) is None
    assert views.choose("auto", False) == views.VIEWS
    assert views.choose(3, True) == 3
    assert views.choose(None, False) is None


def test_phases_have_views_of_their_own_but_one_by_default():
    for count, first, second in (
        ("auto", (0, 1, 2), (2, 3, 4)),
        (3, (0, 1, 2), (3, 4, 5)),
        (0, views.PLAIN, views.PLAIN),
    ):
        recipe = tiny_recipe(views=count)
        assert [views.views_of(recipe, number) for number in (0, 1)] == [first, second]


def test_the_view_that_phases_share_passes_the_frozen_layers_once(photos, tmp_path, monkeypatch):
    recipe = tiny_recipe(views="auto")
    classifier = networks.build(recipe, None)
    read, real = [], images.load
    monkeypatch.setattr(images, "load", lambda path, size: read.append(path) or real(path, size))
    first, second = (
        open_training_views(classifier, recipe, number, photos, tmp_path) for number in (0, 1)
    )
    assert sorted(read) == sorted(photos.paths * 5)
    between = networks.forward(networks.between(classifier, "block4_pool", None))
    frozen, _ = networks.split_at(classifier, None)
    everything = range(len(photos))
    lent = between(second.read([0] * len(photos), everything))
    augment = views.augmenter(recipe, (7, 1), len(photos))
    own = [augment(n, images.load(path, 32)) for n, path in enumerate(photos.paths)]
    for place, expected in ((2, lent), (1, networks.forward(frozen)(np.stack(own)))):
        stored = first.read([place] * len(photos), everything).astype(np.float32)
        np.testing.assert_allclose(stored, expected, rtol=2**-8, atol=1e-5)


def test_stored_views_of_two_backbones_have_two_names(photos, tmp_path):
    """Before the first weights nothing else tells them apart."""
    recipe = tiny_recipe()
    frozen, _ = networks.split_at(networks.build(recipe, None), "block1_pool")
    found = set()
    for backbone in ("ResNet50", "ResNet50V2"):
        row = replace(recipe, backbone=backbone)
        stage = views.Stage(row, 0, 7, tmp_path)
        found.update(views.view_paths(frozen, stage, "training", photos, (0,)))
    assert len(found) == 2


def test_stored_views_are_made_again_when_what_they_depend_on_changes(photos, tmp_path):
    classifier = networks.build(tiny_recipe(), None)

    def files(recipe, seed=1):
        open_training_views(classifier, recipe, 1, photos, tmp_path, seed)
        cut = recipe.phases[1].unfreeze_after
        return {path.name for path in tmp_path.glob(f"training_{cut}_*.npy")}

    recipe = tiny_recipe()
    first = files(recipe)
    assert files(recipe) == first
    for changed in (
        files(tiny_recipe(augmentation=Augmentation(rotation_degrees=5))),
        files(recipe, seed=2),
        files(tiny_recipe(preprocessing="rescale")),
    ):
        assert len(changed) == 2
        assert not changed & first
    kernel = classifier.get_layer("block1_conv1").kernel
    kernel.assign(kernel * 1.5)
    assert not files(recipe) & first
    deeper = (recipe.phases[0], Phase("unfrozen", unfreeze_after="block3_pool"))
    assert not files(tiny_recipe(phases=deeper)) & first


def test_augmenter_gives_the_same_picture_for_the_same_position():
    recipe = tiny_recipe()
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    augment = views.augmenter(recipe, (1, 2), 10)
    again = views.augmenter(recipe, (1, 2), 10)
    np.testing.assert_array_equal(augment(13, photo), again(13, photo))
    pictures = {augment(position, photo).tobytes() for position in itertools.islice(range(40), 40)}
    assert len(pictures) == 40
