"""Outputs of frozen layers: which ones a training needs, computing them, reading them back."""

import itertools
import os
import pickle
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import SPLIT_NAMES, Tuning, tiny_phase, tiny_recipe, user_error

from pyimagesearch import datasets, frozen, images, networks
from pyimagesearch.frozen import Output, Store, Views
from pyimagesearch.recipe import Augmentation
from pyimagesearch.support.array_files import ArrayFile
from pyimagesearch.support.errors import UserError

HEAD = tiny_phase("head")
SECOND_HEAD = tiny_phase("second_head")
BLOCK5 = tiny_phase("block5", unfreeze_after="block4_pool")
BLOCK4 = tiny_phase("block4", unfreeze_after="block3_pool")
CACHE = Path("fine_tuning/cache")


def plain(phase):
    """Return a phase without augmentation."""
    return replace(phase, augment=False)


def held_out(phase):
    """Return a phase that validates on a fifth of the training photos."""
    return replace(phase, held_out=0.2)


# Which views a phase uses


@pytest.mark.parametrize(
    ("setting", "on_cpu", "on_gpu"),
    [
        # A GPU computes the frozen layers so fast that storing their outputs does not pay.
        ("auto", Views(3, shared=1), None),
        (5, Views(5, shared=0), Views(5, shared=0)),
        (0, Views(0, shared=0), Views(0, shared=0)),
        (None, None, None),
    ],
)
def test_choose_views_stores_views_by_default_on_a_cpu_only(monkeypatch, setting, on_cpu, on_gpu):
    for has_gpu, expected in ((False, on_cpu), (True, on_gpu)):
        monkeypatch.setattr(frozen.machine, "has_gpu", lambda has_gpu=has_gpu: has_gpu)
        assert frozen.choose_views(setting, stored_views=3, shared_views=1) == expected


@pytest.mark.parametrize(
    ("phases", "views", "numbers"),
    [
        ((HEAD, BLOCK5), Views(3, shared=0), [(0, 1, 2), (3, 4, 5)]),
        ((HEAD, BLOCK5), Views(3, shared=1), [(0, 1, 2), (2, 3, 4)]),
        ((HEAD, BLOCK5), Views(0, shared=0), [(None,), (None,)]),
        # A phase without augmentation counts, although it uses no views.
        ((plain(HEAD), BLOCK5), Views(3, shared=1), [(None,), (2, 3, 4)]),
    ],
)
def test_view_numbers_continue_from_phase_to_phase(phases, views, numbers):
    recipe = tiny_recipe(phases=phases)
    assert [frozen.view_numbers(recipe, number, views) for number in (0, 1)] == numbers


# Which outputs a training needs


def in_words(output):
    """Return an Output as "<split> <view>: <where it is computed from> -> <cut>"."""
    words = [output.split]
    if output.held_out:
        words.append(f"{'without' if output.split == 'training' else 'of'} {output.held_out:.0%}")
    if output.view is not None:
        words.append(f"view {output.view}")
    return f"{' '.join(words)}: {output.computed_from or 'photos'} -> {output.layer or 'backbone'}"


NEEDED = {
    "one phase": (
        ((HEAD,), Views(2, shared=0)),
        "training view 0: photos -> backbone",
        "training view 1: photos -> backbone",
        "validation: photos -> backbone",
    ),
    # The validation photos go through the layers up to block4_pool once, for both phases.
    "two phases": (
        ((HEAD, BLOCK5), Views(1, shared=0)),
        "training view 0: photos -> backbone",
        "training view 1: photos -> block4_pool",
        "validation: photos -> block4_pool",
        "evaluation: photos -> block4_pool",
        "validation: block4_pool -> backbone",
    ),
    "two phases that share a view": (
        ((HEAD, BLOCK5), Views(3, shared=1)),
        "training view 0: photos -> backbone",
        "training view 1: photos -> backbone",
        "training view 2: photos -> block4_pool",
        "training view 3: photos -> block4_pool",
        "training view 4: photos -> block4_pool",
        "validation: photos -> block4_pool",
        "evaluation: photos -> block4_pool",
        "training view 2: block4_pool -> backbone",
        "validation: block4_pool -> backbone",
    ),
    # Never in a chain: the backbone's output is computed from block3_pool, not from block4_pool.
    "three phases without augmentation": (
        ((plain(HEAD), plain(BLOCK5), plain(BLOCK4)), Views(2, shared=0)),
        "training: photos -> block3_pool",
        "validation: photos -> block3_pool",
        "evaluation: photos -> block3_pool",
        "training: block3_pool -> backbone",
        "validation: block3_pool -> backbone",
        "training: block3_pool -> block4_pool",
        "validation: block3_pool -> block4_pool",
    ),
    "four phases that share views": (
        ((HEAD, SECOND_HEAD, BLOCK5, BLOCK4), Views(2, shared=1)),
        "training view 0: photos -> backbone",
        "training view 1: photos -> backbone",
        "training view 2: photos -> block4_pool",
        "training view 3: photos -> block3_pool",
        "training view 4: photos -> block3_pool",
        "validation: photos -> block3_pool",
        "evaluation: photos -> block3_pool",
        "validation: block3_pool -> backbone",
        "training view 2: block4_pool -> backbone",
        "training view 3: block3_pool -> block4_pool",
        "validation: block3_pool -> block4_pool",
    ),
    "no views": (
        ((HEAD, BLOCK5), Views(0, shared=0)),
        "training: photos -> block4_pool",
        "validation: photos -> block4_pool",
        "evaluation: photos -> block4_pool",
        "training: block4_pool -> backbone",
        "validation: block4_pool -> backbone",
    ),
    # Fresh augmentation stores nothing. Then the evaluation photos go through the whole network.
    "fresh augmentation": (((HEAD, BLOCK5), None),),
    "fresh augmentation in the second phase": (
        ((plain(HEAD), BLOCK5), None),
        "training: photos -> backbone",
        "validation: photos -> backbone",
    ),
    # Held-out photos are others than those of the validation split.
    "held-out photos in the first phase": (
        ((plain(held_out(HEAD)), plain(BLOCK5)), None),
        "training without 20%: photos -> backbone",
        "validation of 20%: photos -> backbone",
        "training: photos -> block4_pool",
        "validation: photos -> block4_pool",
        "evaluation: photos -> block4_pool",
    ),
    "held-out photos in both phases": (
        ((held_out(HEAD), held_out(BLOCK5)), Views(1, shared=0)),
        "training without 20% view 0: photos -> backbone",
        "training without 20% view 1: photos -> block4_pool",
        "validation of 20%: photos -> block4_pool",
        "evaluation: photos -> block4_pool",
        "validation of 20%: block4_pool -> backbone",
    ),
}


@pytest.mark.parametrize("name", NEEDED)
def test_needed_lists_the_outputs_of_every_phase_sources_first(name):
    (phases, views), *expected = NEEDED[name]
    listed = frozen.needed(tiny_recipe(phases=phases), views)
    assert [in_words(output) for output in listed] == expected


def test_needed_stores_evaluation_in_float32_by_the_float32_copy():
    listed = frozen.needed(tiny_recipe(phases=(HEAD, BLOCK5)), Views(2, shared=0))
    assert {(output.split, output.dtype, output.exact) for output in listed} == {
        ("training", "bfloat16", False),
        ("validation", "bfloat16", False),
        ("evaluation", "float32", True),
    }


def test_needed_looks_nothing_up(monkeypatch):
    """There is no dataset, no network is built, and the machine does not matter."""
    monkeypatch.setattr(frozen.machine, "has_gpu", None)
    monkeypatch.setattr(networks, "build", None)
    recipe = tiny_recipe(phases=(HEAD, BLOCK5))
    assert frozen.needed(recipe, Views(2, 0)) == frozen.needed(recipe, Views(2, 0))
    assert not any(Path().iterdir())


def recipes_of_up_to_four_phases():
    """Yield (recipe, views) of many combinations."""
    kinds = [HEAD, plain(HEAD), held_out(HEAD), plain(held_out(HEAD))]
    cuts = (None, None, "block4_pool", "block3_pool")
    recipe = tiny_recipe()
    for count in range(1, 5):
        for chosen in itertools.product(kinds, repeat=count):
            phases = [
                replace(phase, name=str(number), unfreeze_after=cuts[number])
                for number, phase in enumerate(chosen)
            ]
            for views in (None, Views(0, 0), Views(2, 0), Views(3, 1)):
                yield replace(recipe, phases=tuple(phases)), views


def test_needed_follows_the_same_rules_for_every_recipe():
    for recipe, views in recipes_of_up_to_four_phases():
        listed = frozen.needed(recipe, views)
        assert len(set(listed)) == len(listed)
        cuts = [phase.unfreeze_after for phase in recipe.phases]
        for position, output in enumerate(listed):
            if output.computed_from != networks.PHOTOS:
                # The source comes first, is computed from the photos, and is a later phase's cut.
                source = output._replace(layer=output.computed_from, computed_from=networks.PHOTOS)
                assert source in listed[:position]
                assert cuts.index(output.computed_from) > cuts.index(output.layer)
        readable = {output._replace(computed_from=networks.PHOTOS) for output in listed}
        for number, phase in enumerate(recipe.phases):
            if frozen.is_stored(phase, views):
                assert {*frozen.training_outputs(recipe, number, views)} <= readable
                assert frozen.validation_output(phase) in readable
        evaluation = frozen.evaluation_output(recipe, views)
        assert evaluation is None or evaluation in listed


def test_needed_lists_less_by_the_same_routes_when_phases_are_finished():
    for recipe, views in recipes_of_up_to_four_phases():
        everything = frozen.needed(recipe, views)
        for first in range(1, len(recipe.phases)):
            assert set(frozen.needed(recipe, views, first)) <= set(everything)
        assert frozen.needed(recipe, views, first=len(recipe.phases)) == ()


def test_features_are_stored_in_float32_and_those_for_evaluation_are_exact():
    extractor = networks.build_feature_extractor(tiny_recipe(), None)
    training, evaluation = (
        frozen.feature_output(split, extractor) for split in ("training", "evaluation")
    )
    expected = Output("training", networks.FEATURES, dtype="float32", exact=False)
    assert training == expected
    assert evaluation == expected._replace(split="evaluation", exact=True)


# Reading


@pytest.fixture
def store():
    """Return a Store of two Outputs for 10 photos, the Outputs, and their rows."""
    outputs = [Output("training", None, view=view, dtype="float32") for view in (0, 1)]
    rows = np.random.default_rng(0).random((2, 10, 2, 3), np.float32)
    stored = {}
    for output, numbers in zip(outputs, rows, strict=True):
        array_file = ArrayFile(Path(f"{output.view}.npy"), (10, 2, 3), "float32")
        array_file.write(10, lambda start, numbers=numbers: [numbers], lambda count: None)
        # Readers do not know the source.
        stored[output._replace(computed_from="block4_pool")] = array_file
    return Store(stored), outputs, rows


def test_store_reads_each_row_from_its_output_and_position(store):
    store, (first, second), rows = store
    found = store.read([first, second, second], [9, 0, 3])
    np.testing.assert_array_equal(found, [rows[0][9], rows[1][0], rows[1][3]])


def test_store_yields_every_photo_once_in_order(store):
    store, (first, _), rows = store
    batches = list(store.in_order(first, batch_size=4))
    assert list(map(len, batches)) == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(batches), rows[0])
    rest = list(store.in_order(first, batch_size=4, start=8))
    np.testing.assert_array_equal(np.concatenate(rest), rows[0][8:])


def test_store_deletes_the_file_of_an_output(store):
    store, (first, second), _ = store
    assert first in store
    store.delete(first)
    assert [path.name for path in Path().glob("*.npy")] == ["1.npy"]
    assert store.read([second], [0]).shape == (1, 2, 3)


# Computing


def read_all(tuning, output):
    """Return what is stored of an Output, in float32."""
    return np.concatenate(list(tuning.store.in_order(output, 4))).astype(np.float32)


def compute(tuning, outputs=None, keep=()):
    """Compute Outputs as `Tuning` does, with the same network."""
    inputs = (tuning.network, tuning.recipe, tuning.splits, tuning.seed, CACHE)
    return frozen.compute(tuning.outputs if outputs is None else outputs, *inputs, keep=keep)


def contents():
    """Return {name: bytes} of the stored outputs."""
    return {path.name: path.read_bytes() for path in CACHE.iterdir()}


def change_times():
    return {path.name: path.stat().st_mtime_ns for path in CACHE.iterdir()}


def test_stored_view_is_the_output_for_the_augmented_photo(built, thin):
    tuning = Tuning(tiny_recipe(), seed=7)
    photos, recipe = tuning.splits.training, tuning.recipe
    predict = networks.predict_function(networks.split_at(tuning.network, "block4_pool")[0])
    outputs = frozen.training_outputs(recipe, 1, tuning.views)
    for output, position in zip(outputs, (0, 20), strict=True):
        augment = images.augmenter(recipe.augmentation, 32, (7, output.view))
        photo = augment(position, images.read_resized(photos.paths[position], 32))
        stored = tuning.store.read([output], [position]).astype(np.float32)
        # bfloat16 has 8 significant bits.
        np.testing.assert_allclose(stored, predict(photo[None]), rtol=2**-8, atol=1e-5)


def test_every_view_is_read_from_the_photos_once(built, thin, monkeypatch):
    read, read_resized = [], images.read_resized

    def read_and_record(path, size):
        read.append(path)
        return read_resized(path, size)

    monkeypatch.setattr(images, "read_resized", read_and_record)
    splits = Tuning(tiny_recipe(views="auto")).splits
    # Two phases have three views each and share one: five views.
    expected = [*splits.training.paths * 5, *splits.validation.paths, *splits.evaluation.paths]
    assert sorted(read) == sorted(expected)


THREE_PHASES = (plain(HEAD), plain(BLOCK5), plain(BLOCK4))


def test_deeper_output_is_computed_from_the_stored_source(built, thin):
    tuning = Tuning(tiny_recipe(phases=THREE_PHASES))
    routed = [output for output in tuning.outputs if output.computed_from != networks.PHOTOS]
    assert len(routed) == 4
    for output in routed:
        source = output._replace(layer=output.computed_from, computed_from=networks.PHOTOS)
        part = networks.part_between(tuning.network, output.computed_from, output.layer)
        from_source = map(networks.predict_function(part), tuning.store.in_order(source, 4))
        rows = [batch.astype("bfloat16").astype(np.float32) for batch in from_source]
        stored = read_all(tuning, output._replace(computed_from=networks.PHOTOS))
        np.testing.assert_array_equal(stored, np.concatenate(rows))


def test_evaluation_is_computed_by_the_float32_copy(built, thin):
    keras.config.set_dtype_policy("mixed_bfloat16")
    tuning = Tuning(tiny_recipe())
    output = frozen.evaluation_output(tuning.recipe, tuning.views)
    paths = tuning.splits.evaluation.paths
    pixels = np.stack([images.read_resized(path, 32) for path in paths])
    copy = networks.float32_copy(tuning.network)
    exact, rounded = (
        networks.predict_function(networks.split_at(network, "block4_pool")[0])(pixels)
        for network in (copy, tuning.network)
    )
    stored = read_all(tuning, output)
    np.testing.assert_allclose(stored, exact, rtol=1e-4, atol=1e-5)
    assert np.any(np.abs(stored - rounded) > 1e-3 * np.abs(exact) + 1e-4)


def test_more_phases_in_the_same_folder_have_the_outputs_of_a_fresh_folder(built, thin):
    """The route is part of a file's name: with one phase, the backbone reads the photos."""
    Tuning(tiny_recipe(phases=THREE_PHASES[:1]))
    with_one = contents()
    Tuning(tiny_recipe(phases=THREE_PHASES))
    with_three = contents()
    shutil.rmtree(CACHE)
    Tuning(tiny_recipe(phases=THREE_PHASES))
    assert contents() == with_three
    by_photos, by_block3 = (
        next(content for name, content in each.items() if name.startswith("training_backbone"))
        for each in (with_one, with_three)
    )
    assert by_photos != by_block3


@pytest.mark.soak
def test_more_phases_in_the_same_folder_train_the_weights_of_a_fresh_folder(built, thin):
    Tuning(tiny_recipe(phases=THREE_PHASES[:1]), "first", cache=CACHE).fit_all()
    again = Tuning(tiny_recipe(phases=THREE_PHASES), "again", cache=CACHE).fit_all()
    fresh = Tuning(tiny_recipe(phases=THREE_PHASES), "fresh").fit_all()
    for ours, theirs in zip(again, fresh, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Files


@pytest.fixture
def name_files(built, thin):
    """Return a function that returns {Output: name of its file} for the tiny recipe."""
    base = tiny_recipe()
    usual_network = networks.build(base, None, seed=1)
    splits = datasets.list_splits("dataset", base, SPLIT_NAMES)

    def name(recipe=base, seed=1, network=usual_network, outputs=None):
        computation = frozen.Computation(network, recipe, splits, seed)
        outputs = outputs or frozen.needed(base, Views(2, shared=0))
        return {output: computation.array_file(output, Path()).path.name for output in outputs}

    return name


def renamed(names, others):
    """Return the kinds of Outputs whose files have another name: "views", "plain"."""
    is_renamed = {"views": set(), "plain": set()}
    for output in names:
        kind = "plain" if output.view is None else "views"
        is_renamed[kind].add(names[output] != others[output])
    assert all(len(each) == 1 for each in is_renamed.values()), "all of a kind, or none"
    return {kind for kind, (each,) in is_renamed.items() if each}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"batch_size": 4, "mistakes": 2, "views": 1}, set()),
        ({"augmentation": Augmentation(rotation_degrees=5)}, {"views"}),
        ({"preprocessing": "rescale"}, {"views", "plain"}),
        ({"image_size": 64}, {"views", "plain"}),
        # Only the name of the backbone is another one here: the weights of a network that is not
        # trained may be the same.
        ({"backbone": "VGG19"}, {"views", "plain"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_file_has_another_name_if_the_recipe_computes_something_else(name_files, changes, kinds):
    assert renamed(name_files(), name_files(replace(tiny_recipe(), **changes))) == kinds


def test_file_of_a_view_has_another_name_for_another_seed(name_files):
    assert renamed(name_files(), name_files(seed=2)) == {"views"}


def test_file_has_another_name_for_other_weights_of_its_frozen_layers(name_files):
    network = networks.build(tiny_recipe(), None, seed=1)
    for layer, kinds in (("head_dense", set()), ("block1_conv1", {"views", "plain"})):
        kernel = network.get_layer(layer).kernel
        kernel.assign(kernel * 1.5)
        assert renamed(name_files(), name_files(network=network)) == kinds


def test_file_has_another_name_for_another_precision(name_files):
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = networks.build(tiny_recipe(), None, seed=1)
    assert renamed(name_files(), name_files(network=network)) == {"views", "plain"}


def test_file_has_another_name_for_every_field_of_its_output(name_files):
    base = Output("training", "block4_pool")
    changes = {
        "split": "validation",
        "layer": "block3_pool",
        "held_out": 0.2,
        "view": 0,
        "computed_from": "block3_pool",
        "dtype": "float32",
        "exact": True,
    }
    assert tuple(changes) == Output._fields
    outputs = [base, *(base._replace(**{field: value}) for field, value in changes.items())]
    assert len(set(name_files(outputs=outputs).values())) == len(outputs)


def test_stored_outputs_are_not_computed_again(built, thin):
    tuning = Tuning(tiny_recipe())
    before = change_times()
    compute(tuning)
    assert change_times() == before


def test_outputs_of_changed_photos_are_computed_again_and_the_old_ones_deleted(built, thin):
    tuning = Tuning(tiny_recipe())
    before = set(contents())
    os.utime(tuning.splits.training.paths[0])
    compute(tuning)
    after = set(contents())
    assert len(after) == len(before)
    assert {name.split("_")[0] for name in before - after} == {"training"}


@pytest.mark.parametrize("change", [-1, 1], ids=["too short", "too long"])
def test_file_of_the_wrong_size_is_made_anew(built, thin, change):
    tuning = Tuning(tiny_recipe(phases=(HEAD,)))
    expected = contents()
    path = min(CACHE.iterdir())
    path.write_bytes((expected[path.name] + b"\0")[: len(expected[path.name]) + change])
    assert contents() != expected
    compute(tuning)
    assert contents() == expected


def test_files_of_finished_phases_stay_while_the_training_resumes(built, thin):
    tuning = Tuning(tiny_recipe())
    before = change_times()
    remaining = frozen.needed(tuning.recipe, tuning.views, first=1)
    assert len(remaining) < len(tuning.outputs)
    store = compute(tuning, remaining, keep=tuning.outputs)
    assert change_times() == before
    assert frozen.evaluation_output(tuning.recipe, tuning.views) in store


def interrupt_after(batches, monkeypatch):
    """Let every computation be interrupted after some batches."""

    @contextmanager
    def progress(*_):
        calls = itertools.count()

        def advance(count):
            # The first call counts the rows that an earlier run has written.
            if next(calls) == batches:
                raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(frozen.console, "progress", progress)


@pytest.mark.parametrize("batches", [pytest.param(1, marks=pytest.mark.soak), 4])
def test_interrupted_computation_resumes_and_ends_with_the_same_bytes(
    built, thin, monkeypatch, batches
):
    tuning = Tuning(tiny_recipe(views=1, batch_size=4))
    expected = contents()
    shutil.rmtree(CACHE)
    interrupt_after(batches, monkeypatch)
    interruptions, is_complete = 0, False
    while not is_complete:
        try:
            compute(tuning)
            is_complete = True
        except KeyboardInterrupt:
            interruptions += 1
    # 6 batches of training photos for each phase, 3 + 3 of validation photos, 4 for evaluation
    assert interruptions >= 22 // (batches + 1)
    assert contents() == expected


# Room on the disk


def leave_free(free_bytes, monkeypatch):
    """Let the disk have this much room; return a list that grows whenever it is looked up."""
    lookups, usage = [], shutil.disk_usage(".")

    def disk_usage(folder):
        lookups.append(folder)
        return usage._replace(free=free_bytes)

    monkeypatch.setattr(frozen.shutil, "disk_usage", disk_usage)
    return lookups


def test_what_is_stored_is_printed_before_it_is_computed(built, thin, monkeypatch, capsys):
    interrupt_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Tuning(tiny_recipe())
    messages = capsys.readouterr().err.splitlines()
    assert f"[INFO] computing the outputs of the frozen layers once: 0 MB in {CACHE}" in messages


def test_outputs_that_do_not_fit_are_refused_before_a_photo_is_read(built, thin, monkeypatch):
    lookups = leave_free(100, monkeypatch)
    monkeypatch.setattr(images, "read_resized", None)
    with pytest.raises(UserError, match=r"need .* GB more in .* views to a smaller number"):
        Tuning(tiny_recipe())
    assert len(lookups) == 1
    assert contents() == {}


def test_room_is_checked_once_and_only_for_the_files_that_are_missing(built, thin, monkeypatch):
    tuning = Tuning(tiny_recipe())
    removed = [path for path in CACHE.iterdir() if "backbone" in path.name]
    missing = sum(path.stat().st_size for path in removed)
    assert len(removed) == 3
    for path in removed:
        path.unlink()
    leave_free(missing / frozen.FULL_DISK - 1, monkeypatch)
    with pytest.raises(UserError, match="GB are free"):
        compute(tuning)
    lookups = leave_free(missing / frozen.FULL_DISK + 1, monkeypatch)
    compute(tuning)
    assert len(lookups) == 1


def test_evaluation_is_predicted_from_the_photos_if_only_it_does_not_fit(
    built, thin, monkeypatch, capsys
):
    complete = Tuning(tiny_recipe())
    evaluation = frozen.evaluation_output(complete.recipe, complete.views)
    others = {name: content for name, content in contents().items() if "evaluation" not in name}
    shutil.rmtree("fine_tuning")
    leave_free(sum(map(len, others.values())) / frozen.FULL_DISK + 1, monkeypatch)
    capsys.readouterr()
    tuning = Tuning(tiny_recipe())
    assert capsys.readouterr().err.count("no room for the evaluation photos' outputs") == 1
    assert contents() == others
    assert evaluation not in tuning.store
    network = networks.float32_copy(tuning.network)
    model, inputs = tuning.data(1).evaluation_inputs(network)
    probabilities = networks.concatenate(map(networks.predict_function(model), inputs))
    pixels = [images.read_resized(path, 32) for path in tuning.splits.evaluation.paths]
    expected = networks.predict_function(network)(np.stack(pixels))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


# On a cluster, played by this process. tests/test_cluster.py has the tests with Ray.


@pytest.fixture
def cluster_here(monkeypatch):
    """Let this process compute the tasks of a cluster; return the lists of tasks that it got.

    The items of `stop` say how many results there are before an interruption.
    """
    jobs, stop = [], []

    def map_in_order(address, make_worker, arguments, tasks):
        assert address == "auto"
        jobs.append(tasks)
        if tasks:
            worker, note = make_worker(None, *through_the_network(arguments))
            if note:
                frozen.console.warn(note)
        for task in tasks:
            if stop and (stop.append(stop.pop() - 1) or stop[-1] < 0):
                stop.clear()
                raise KeyboardInterrupt
            yield worker(*task)

    monkeypatch.setattr(frozen.cluster, "map_in_order", map_in_order)
    return jobs, stop


def through_the_network(arguments):
    """Return arguments as a worker on another machine gets them."""
    return pickle.loads(pickle.dumps(tuple(arguments)))  # noqa: S301


def compute_by_cluster(tuning):
    """Compute the Outputs of a Tuning on a cluster, in the folder CACHE."""
    inputs = (tuning.network, tuning.recipe, tuning.splits, tuning.seed, CACHE)
    return frozen.compute(tuning.outputs, *inputs, address="auto")


@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("float32", marks=pytest.mark.soak)]
)
def test_cluster_writes_the_same_bytes(built, thin, cluster_here, precision):
    keras.config.set_dtype_policy(precision)
    tuning = Tuning(tiny_recipe(phases=(plain(HEAD), BLOCK5), views=1, batch_size=4))
    expected = contents()
    shutil.rmtree(CACHE)
    compute_by_cluster(tuning)
    assert contents() == expected
    from_photos, from_outputs = cluster_here[0]
    # 21 + 21 training photos, 12 for validation and 15 for evaluation, in batches of 4
    assert len(from_photos) == 6 + 6 + 3 + 4
    assert [end - start for _, start, end in from_outputs] == [4, 4, 4]


@pytest.mark.soak
def test_interrupted_computation_on_a_cluster_computes_the_rest_only(built, thin, cluster_here):
    tuning = Tuning(tiny_recipe(views=1, batch_size=4))
    expected = contents()
    shutil.rmtree(CACHE)
    jobs, stop = cluster_here
    stop.append(8)
    with pytest.raises(KeyboardInterrupt):
        compute_by_cluster(tuning)
    # The network for the workers is deleted.
    assert not [path for path in CACHE.iterdir() if ".keras" in path.name]
    first = jobs.pop()
    compute_by_cluster(tuning)
    # The first file was complete. The others have other numbers now.
    assert len(jobs[0]) == len(first) - 8
    assert contents() == expected


@pytest.mark.parametrize(
    ("rows", "row_bytes", "sizes"),
    [
        (10, 1, [4, 4, 2]),
        # At most TASK_BYTES in a task, and at least TASKS_PER_OUTPUT tasks.
        (4 * 640, 1, [40] * 64),
        (4 * 640, 1_000_000, [32] * 80),
        (10, 100_000_000, [4, 4, 2]),
    ],
)
def test_tasks_are_whole_batches(tmp_path, rows, row_bytes, sizes):
    array_file = ArrayFile(tmp_path / "a.npy", (rows, row_bytes // 4 or 1), "float32")
    tasks = frozen.tasks_of(7, array_file, batch_size=4)
    assert [end - start for _, start, end in tasks] == sizes
    assert {number for number, _, _ in tasks} == {7}
    starts, ends = ([task[position] for task in tasks] for position in (1, 2))
    assert starts == [0, *ends[:-1]]


def test_photo_that_a_worker_cannot_read_is_reported_as_everywhere(built, thin, cluster_here):
    tuning = Tuning(tiny_recipe(phases=(HEAD,)))
    shutil.rmtree(CACHE)
    path = tuning.splits.training.paths[9]
    path.write_bytes(b"no photo")
    message = user_error(frozen.compute, *everything(tuning), address="auto")
    assert message == user_error(frozen.compute, *everything(tuning))
    assert f"{path} cannot be read: not a picture" in message


def everything(tuning):
    """Return the arguments of frozen.compute for a Tuning."""
    inputs = (tuning.network, tuning.recipe, tuning.splits, tuning.seed)
    return tuning.outputs, *inputs, CACHE


def worker_plan(tuning, **changes):
    """Return the Plan of the first Output of a Tuning."""
    tuning.network.save("network.keras")
    computation = frozen.Computation(tuning.network, tuning.recipe, tuning.splits, tuning.seed)
    plan = computation.plan(tuning.outputs[:1], tuning.store, Path("network.keras"))
    return plan._replace(**changes)


def test_machine_that_does_not_see_a_folder_says_which(built, thin, tmp_path):
    tuning = Tuning(tiny_recipe(phases=(HEAD,)))
    plan = worker_plan(tuning)
    for lost, folder in (("network.keras", ""), ("dataset", "dataset/tiny/training/zebra")):
        Path(lost).rename("elsewhere")
        message = user_error(frozen.make_worker, None, *plan)
        assert f"cannot see {tmp_path / folder}. Every machine of the cluster needs" in message
        Path("elsewhere").rename(lost)
    assert frozen.make_worker(None, *plan)[1] == ""


def test_machine_that_computes_other_numbers_is_named(built, thin):
    tuning = Tuning(tiny_recipe(phases=(HEAD,)))
    plan = worker_plan(tuning)
    (rows,) = plan.checks.values()
    changed = rows.copy()
    changed[0].flat[rows.argmax()] *= 1.001
    plan = plan._replace(checks={0: changed}, processor="front (Some CPU)")
    note = frozen.make_worker(None, *plan)[1]
    assert "does not compute the same bits as front (Some CPU)" in note
    assert "differ by up to 1.0e-03 of the largest" in note
