"""Outputs of frozen layers: which ones a training needs, computing them, reading them back."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Tuning, tiny_phase, tiny_recipe

from pyimagesearch import frozen, images, networks
from pyimagesearch.frozen import Output, Views
from pyimagesearch.recipe import Augmentation
from pyimagesearch.support.errors import UserError

WARMUP, UNFROZEN = tiny_phase("warmup"), tiny_phase("unfrozen", unfreeze_after="block4_pool")
THREE = (WARMUP, UNFROZEN, tiny_phase("more", unfreeze_after="block3_pool"))


def outputs(recipe_phases, views, first=0):
    """Return what `needed` lists, as short tuples (split, view, layer, source)."""
    listed = frozen.needed(tiny_recipe(phases=recipe_phases), views, first)
    return [(output.split, output.view, output.layer, output.source) for output in listed]


def test_one_phase_needs_its_views_and_the_validation_photos():
    assert outputs((WARMUP,), Views(2, 0)) == [
        ("training", 0, None, None),
        ("training", 1, None, None),
        ("validation", None, None, None),
    ]


def test_several_phases_share_validation_and_evaluation_at_the_earliest_cut():
    assert outputs((WARMUP, UNFROZEN), Views(1, 0)) == [
        ("training", 0, None, None),
        ("training", 1, "block4_pool", None),
        ("validation", None, "block4_pool", None),
        ("evaluation", None, "block4_pool", None),
        ("validation", None, None, "block4_pool"),
    ]


def test_shared_view_is_computed_from_the_photos_at_the_earliest_cut_only():
    listed = outputs((WARMUP, UNFROZEN), Views(3, 1))
    assert ("training", 2, "block4_pool", None) in listed
    assert ("training", 2, None, "block4_pool") in listed
    assert ("training", 1, None, None) in listed


def test_source_is_the_last_phase_that_needs_the_view_and_never_a_chain():
    phases = tuple(replace(phase, augment=False) for phase in THREE)
    listed = frozen.needed(tiny_recipe(phases=phases), Views(2, 0))
    training = [output for output in listed if output.split == "training"]
    assert [(output.layer, output.source) for output in training] == [
        ("block3_pool", None),
        (None, "block3_pool"),
        ("block4_pool", "block3_pool"),
    ]
    sources = [output.source is not None for output in listed]
    assert sources == sorted(sources), "sources come first"


def test_later_start_lists_less_by_the_same_routes():
    everything = frozen.needed(tiny_recipe(phases=THREE), Views(3, 1))
    for first in (1, 2):
        assert set(frozen.needed(tiny_recipe(phases=THREE), Views(3, 1), first)) < set(everything)
    assert frozen.needed(tiny_recipe(phases=THREE), Views(3, 1), 3) == ()


def test_held_out_photos_are_other_photos():
    phases = (replace(WARMUP, held_out=0.2, augment=False), UNFROZEN)
    listed = frozen.needed(tiny_recipe(phases=phases), Views(2, 0))
    held_out = [output for output in listed if output.held_out == 0.2]
    assert {output.split for output in held_out} == {"training", "validation"}
    assert all(output.source is None for output in held_out)


@pytest.mark.parametrize(
    ("views", "augment", "stored"),
    [(None, True, 0), (None, False, 2), (Views(0, 0), True, 2), (Views(2, 0), True, 3)],
)
def test_only_phases_without_fresh_augmentation_are_stored(views, augment, stored):
    assert len(outputs((replace(WARMUP, augment=augment),), views)) == stored


def test_evaluation_is_stored_exactly_if_every_phase_is_stored():
    expected = Output("evaluation", 0, None, "block4_pool", None, "float32", exact=True)
    recipe = tiny_recipe(phases=(WARMUP, UNFROZEN))
    assert frozen.evaluation_output(recipe, Views(2, 0)) == expected
    assert frozen.evaluation_output(recipe, None) is None
    assert frozen.evaluation_output(tiny_recipe(phases=(WARMUP,)), Views(2, 0)) is None


def test_auto_views_are_fresh_on_a_gpu_and_stored_on_a_cpu(monkeypatch):
    for on_gpu, expected in ((True, None), (False, Views(3, 1))):
        monkeypatch.setattr(frozen.machine, "has_gpu", lambda on_gpu=on_gpu: on_gpu)
        assert frozen.choose_views("auto", 3, 1) == expected
        assert frozen.choose_views(5, 3, 1) == Views(5, 0)
        assert frozen.choose_views(None, 3, 1) is None


def test_phases_use_other_views_except_the_shared_ones():
    for views, expected in (
        (Views(3, 1), [(0, 1, 2), (2, 3, 4)]),
        (Views(3, 0), [(0, 1, 2), (3, 4, 5)]),
        (Views(0, 0), [(None,), (None,)]),
    ):
        recipe = tiny_recipe()
        assert [frozen.view_numbers(recipe, number, views) for number in (0, 1)] == expected


def test_stored_view_is_the_frozen_output_of_the_augmented_photo(built, thin):
    tuning = Tuning(tiny_recipe(), seed=7)
    photos, recipe = tuning.splits.training, tuning.recipe
    frozen_part, _ = networks.split_at(tuning.network, "block4_pool")
    for output, position in zip(
        frozen.training_outputs(recipe, 1, tuning.views), (0, 20), strict=True
    ):
        augment = images.augmenter(recipe.augmentation, 32, (7, output.view))
        photo = augment(position, images.read_resized(photos.paths[position], 32))
        expected = networks.predict_function(frozen_part)(photo[None])
        stored = tuning.store.read([output], [position]).astype(np.float32)
        # bfloat16 has 8 significant bits.
        np.testing.assert_allclose(stored, expected, rtol=2**-8, atol=1e-5)


def test_no_photo_goes_through_a_frozen_layer_twice(built, thin, monkeypatch):
    read, read_resized = [], images.read_resized

    def remember(path, size):
        read.append(path)
        return read_resized(path, size)

    monkeypatch.setattr(images, "read_resized", remember)
    tuning = Tuning(tiny_recipe(views="auto"))
    splits = tuning.splits
    # Five views of three phases: the third is shared.
    expected = [*splits.training.paths * 5, *splits.validation.paths, *splits.evaluation.paths]
    assert sorted(read) == sorted(expected)
    first = frozen.training_outputs(tuning.recipe, 0, tuning.views)[2]
    second = frozen.training_outputs(tuning.recipe, 1, tuning.views)[0]
    between = networks.part_between(tuning.network, "block4_pool", None)
    everything = range(len(splits.training))
    stored = tuning.store.read([second] * len(everything), everything)
    expected = networks.predict_function(between)(stored)
    shared = tuning.store.read([first] * len(everything), everything).astype(np.float32)
    np.testing.assert_allclose(shared, expected, rtol=2**-8, atol=1e-5)


def test_evaluation_outputs_are_those_of_the_float32_copy_for_all_phases(built, thin):
    keras.config.set_dtype_policy("mixed_bfloat16")
    tuning = Tuning(tiny_recipe())
    output = frozen.evaluation_output(tuning.recipe, tuning.views)
    copy = networks.float32_copy(tuning.network)
    photos = tuning.splits.evaluation
    pixels = np.stack([images.read_resized(path, 32) for path in photos.paths])
    expected = networks.predict_function(networks.split_at(copy, "block4_pool")[0])(pixels)
    stored = np.concatenate(list(tuning.store.in_order(output, 4)))
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-5)


def test_more_phases_in_the_same_folder_train_as_in_a_fresh_one(built, thin):
    """In an earlier version, stored outputs of the first training were used by another route."""
    one = (tiny_phase("first", augment=False),)
    three = (
        *one,
        tiny_phase("second", augment=False, unfreeze_after="block4_pool"),
        tiny_phase("third", augment=False, unfreeze_after="block3_pool"),
    )
    Tuning(tiny_recipe(phases=one), "used", cache=Path("cache")).fit_all()
    again = Tuning(tiny_recipe(phases=three), "again", cache=Path("cache")).fit_all()
    fresh = Tuning(tiny_recipe(phases=three), "fresh").fit_all()
    for ours, theirs in zip(again, fresh, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def names(folder="fine_tuning/cache"):
    return {path.name for path in Path(folder).iterdir()}


def test_files_are_made_again_if_what_they_are_made_from_changes(built, thin):
    Tuning(tiny_recipe())
    first = names()
    times = {path: path.stat().st_mtime_ns for path in Path("fine_tuning/cache").iterdir()}
    Tuning(tiny_recipe())
    assert {path: path.stat().st_mtime_ns for path in times} == times
    views = {name for name in first if "view" in name}
    for changed in (
        {"recipe": tiny_recipe(augmentation=Augmentation(rotation_degrees=5))},
        {"recipe": tiny_recipe(), "seed": 2},
    ):
        Tuning(**changed)
        assert not views & names()
        assert names() & first, "validation does not depend on the augmentation"
    for changed in (
        {"recipe": tiny_recipe(preprocessing="rescale")},
        {"recipe": tiny_recipe(), "weights_seed": 2},
    ):
        Tuning(**changed)
        assert not names() & first


def test_files_of_finished_phases_stay(built, thin):
    recipe = tiny_recipe()
    tuning = Tuning(recipe)
    everything = names()
    tuning.fit()
    tuning.checkpoint.finish_phase({}, "")
    resumed = Tuning(recipe)
    assert len(resumed.outputs) < len(tuning.outputs)
    assert names() == everything


def test_outputs_that_do_not_fit_are_refused_before_anything_is_computed(built, thin, monkeypatch):
    full = shutil.disk_usage(".")._replace(free=100)
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match=r"need .* GB more in .* views to a smaller number"):
        Tuning(tiny_recipe())
    assert names() == set()


def test_evaluation_is_predicted_from_the_photos_if_only_it_does_not_fit(
    built, thin, monkeypatch, capsys
):
    complete = Tuning(tiny_recipe(), "complete")
    evaluation = frozen.evaluation_output(complete.recipe, complete.views)
    sizes = [file.total_bytes for file in complete.store.files.values()]
    without = sum(sizes) - complete.store.files[evaluation].total_bytes
    room = shutil.disk_usage(".")._replace(free=without / frozen.FULL_DISK + 100)
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: room)
    tuning = Tuning(tiny_recipe())
    assert "no room for the evaluation photos' outputs" in capsys.readouterr().err
    assert evaluation not in tuning.store
    probabilities = []
    for each in (complete, tuning):
        network = networks.float32_copy(complete.network)
        model, inputs = each.data(0).evaluation_inputs(network)
        probabilities.append(
            np.concatenate([networks.predict_function(model)(batch) for batch in inputs])
        )
    np.testing.assert_allclose(*probabilities, rtol=1e-5)


def test_interrupted_computation_resumes_with_the_same_bytes(built, thin, monkeypatch):
    Tuning(tiny_recipe())
    expected = {path.name: path.read_bytes() for path in Path("fine_tuning/cache").iterdir()}
    shutil.rmtree("fine_tuning")
    calls, read_resized = [], images.read_resized

    def stop(path, size):
        calls.append(path)
        if len(calls) % 40 == 0:
            raise KeyboardInterrupt
        return read_resized(path, size)

    monkeypatch.setattr(images, "read_resized", stop)
    interruptions = 0
    while True:
        try:
            Tuning(tiny_recipe())
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 2
    found = {path.name: path.read_bytes() for path in Path("fine_tuning/cache").iterdir()}
    assert found == expected
