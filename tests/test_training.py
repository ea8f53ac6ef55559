import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import CLASSES, tiny_recipe

from pyimagesearch import artifacts, cache, checkpoint, config, images, networks, training, views
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Phase


def fit(recipe, tmp_path):
    """Train the first phase of a recipe; return its classifier, validation photos and epochs."""
    photos = [images.list_photos("dataset", recipe, each) for each in (config.TRAIN, config.VAL)]
    classifier = networks.build(recipe, None)
    done = checkpoint.Checkpoint(tmp_path, {}, classifier, recipe.phases)
    stage = views.Stage(recipe, 0, 1, tmp_path / "cache")
    training.fit(classifier, stage, photos, done, tmp_path / "h.csv")
    return classifier, photos[1], done.rows


@pytest.mark.parametrize(("stored", "passes"), [(None, 2), (2, 1)])
def test_evaluation_asks_the_frozen_part_once_for_all_phases(
    built, tmp_path, monkeypatch, stored, passes
):
    """Kept in 32 bits, it says the same: the accuracy is that of the saved classifier."""
    recipe = tiny_recipe(views=stored)
    classifier = networks.build(recipe, None)
    photos = images.list_photos("dataset", recipe, config.TEST)
    whole = artifacts.from_network(classifier, recipe.classes)
    expected = whole.ask(images.batches(photos.paths, recipe.image_size, 4))
    read, real = [], images.load
    monkeypatch.setattr(images, "load", lambda path, size: read.append(path) or real(path, size))
    for number in range(2):
        stage = views.Stage(recipe, number, 1, tmp_path / "cache")
        network, batches = training.judged_source(classifier, stage, photos)
        asked = artifacts.from_network(network, recipe.classes).ask(batches)
        np.testing.assert_allclose(asked, expected, rtol=1e-6)
    assert len(read) == passes * len(photos)


def test_evaluation_goes_on_without_room_to_store(built, tmp_path, monkeypatch, capsys):
    recipe = tiny_recipe()
    classifier = networks.build(recipe, None)
    photos = images.list_photos("dataset", recipe, config.TEST)
    whole = artifacts.from_network(classifier, recipe.classes)
    expected = whole.ask(images.batches(photos.paths, recipe.image_size, 4))
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    stage = views.Stage(recipe, 0, 1, tmp_path / "cache")
    network, batches = training.judged_source(classifier, stage, photos)
    asked = artifacts.from_network(network, recipe.classes).ask(batches)
    np.testing.assert_allclose(asked, expected, rtol=1e-6)
    assert "too little room to store" in capsys.readouterr().err


def list_of(*labels):
    """Return images.Photos with these labels."""
    paths = tuple(Path(f"{number}.jpg") for number in range(len(labels)))
    return images.Photos(paths, np.array(labels), CLASSES)


def test_photos_are_held_out_class_by_class_and_each_keeps_one_to_learn_from():
    photos = list_of(*[0] * 20, *[1] * 4, 2)
    for seed in range(20):
        rest, held = training.hold_out(photos, 0.2, seed)
        assert list(np.bincount(held.labels, minlength=3)) == [4, 1, 0]
        assert list(np.bincount(rest.labels)) == [16, 3, 1]
        assert set(rest.paths) | set(held.paths) == set(photos.paths)
        assert list(held.labels) == sorted(held.labels)
    assert training.hold_out(photos, 0.2, 1)[1].paths != training.hold_out(photos, 0.2, 2)[1].paths


def test_holding_out_is_refused_where_it_would_leave_a_class_without_photos():
    with pytest.raises(UserError, match="held_out needs a class with two"):
        training.hold_out(list_of(0, 1, 2), 0.2, 1)


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ((), 2, False),
        ((3, 2), 2, False),
        ((2, 3), 2, False),
        ((2, 3, 3), 2, True),
        ((4, 3, 2, 1), 2, True),
        ((1, 2, 3), None, False),
        ((1, 2, 3, 4), None, True),
    ],
)
def test_a_phase_is_over_after_its_epochs_or_its_patience(losses, patience, over):
    phase = Phase("head", epochs=4, patience=patience)
    rows = [{"phase": "head", "val_loss": loss} for loss in losses]
    assert training.is_over(phase, SimpleNamespace(epoch=len(losses), rows=rows)) is over


@pytest.mark.parametrize("views", [None, 0, 2])
def test_validation_accuracy_is_that_of_the_classifier_on_every_photo(built, tmp_path, views):
    recipe = tiny_recipe(views=views, batch_size=5)
    classifier, photos, rows = fit(recipe, tmp_path)
    asked = artifacts.from_network(classifier, recipe.classes)
    probabilities = asked.ask(images.batches(photos.paths, recipe.image_size, 3))
    accuracy = np.mean(probabilities.argmax(axis=1) == photos.labels)
    assert rows[-1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    true = probabilities[np.arange(len(photos)), photos.labels]
    assert rows[-1]["val_loss"] == pytest.approx(-np.log(true).mean(), rel=0.02)


def test_no_views_teach_what_no_augmentation_teaches(built, tmp_path):
    losses = []
    for count, augment in ((0, True), (2, False)):
        keras.utils.set_random_seed(1)
        phase = Phase("warmup", epochs=3, augment=augment)
        _, _, rows = fit(tiny_recipe(views=count, phases=(phase,)), tmp_path)
        losses.append([row["loss"] for row in rows])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("views", [None, 2])
def test_more_steps_than_batches_repeat_the_photos(built, tmp_path, views):
    recipe = tiny_recipe(views=views, phases=(Phase("warmup", epochs=2, steps_per_epoch=8),))
    _, _, rows = fit(recipe, tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2]


@pytest.mark.parametrize(
    ("cut", "augment", "augmented_and_mixed"),
    [
        (None, True, (True, True)),
        ("block4_pool", True, (True, False)),
        (None, False, (False, True)),
    ],
)
def test_stored_views_are_varied_where_the_phase_augments_and_mixed_for_a_head(
    built, tmp_path, monkeypatch, cut, augment, augmented_and_mixed
):
    seen = []
    real = views.stored_batches
    monkeypatch.setattr(
        views, "stored_batches", lambda *each: seen.append(each[-2:]) or real(*each)
    )
    phase = Phase("only", unfreeze_after=cut, augment=augment, epochs=1)
    fit(tiny_recipe(phases=(phase,)), tmp_path)
    assert seen == [augmented_and_mixed]


def test_history_is_on_disk_after_every_epoch(built, tmp_path, monkeypatch):
    lengths = []
    real = training.write_history
    monkeypatch.setattr(
        training,
        "write_history",
        lambda path, rows: real(path, rows) or lengths.append(len(path.read_text().splitlines())),
    )
    fit(tiny_recipe(phases=(Phase("warmup", epochs=3),)), tmp_path)
    assert lengths == [2, 3, 4]


@pytest.mark.parametrize("views", [None, 2])
def test_classifier_is_saved_without_an_optimizer(built, tmp_path, views):
    classifier, _, _ = fit(tiny_recipe(views=views), tmp_path)
    assert not classifier.compiled


def test_an_interrupted_epoch_puts_its_bar_away(built, tmp_path, monkeypatch):
    closed = []

    class Bar:
        def __enter__(self):
            return lambda: (_ for _ in ()).throw(KeyboardInterrupt)

        def __exit__(self, *_):
            closed.append(True)

    monkeypatch.setattr(training.console, "progress", lambda *_: Bar())
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe(views=None), tmp_path)
    assert closed == [True]


def test_no_thread_of_tf_data_is_waited_for_at_the_end_of_a_pass():
    """With autotuning on, a pass of 2.6 s ended after 5.1 s, now and then."""
    dataset = training.as_dataset(lambda: iter(()), keras.Input((4,)), 0, iter)
    assert dataset.options().autotune.enabled is False


def test_balanced_class_weights_are_scikit_learns():
    recipe = tiny_recipe(class_weights="balanced")
    labels = np.repeat([0, 1, 2], [994, 1210, 1966])
    weights = training.weigh_classes(recipe, labels)
    # Knifey-Spoony's, as the tutorial prints them.
    assert {label: round(weight, 3) for label, weight in weights.items()} == {
        0: 1.398,
        1: 1.149,
        2: 0.707,
    }
    assert training.weigh_classes(tiny_recipe(), labels) is None


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (2, r"warmup: about .* s; augmented afresh in every epoch it would be about .* s"),
        (None, r"warmup: about .* s; with views=3 in the row it would be about .* s"),
    ],
)
def test_minutes_of_both_ways_are_said_before_a_phase_begins(built, tmp_path, capsys, views, words):
    fit(tiny_recipe(views=views), tmp_path)
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert said.index("about") < said.index("warmup 1/2")


def test_estimates_follow_what_a_batch_takes(built, tmp_path, capsys, monkeypatch):
    """21 photos in 6 steps of 4, 12 to validate in 3: a second a photo, a third a step."""
    recipe = tiny_recipe(views=2, phases=(Phase("warmup", epochs=10),))
    seconds = iter([4, 0.3])
    monkeypatch.setattr(training, "seconds_of", lambda work: next(seconds))
    fit(recipe, tmp_path)
    # Learning: 10 epochs of 6 + 3 / 3 steps, 21 s. Stored: 2 x 21 + 12 photos. Fresh: 10 x 33.
    assert "about 1 min 15 s; augmented afresh in every epoch it would be about 5 min 51 s" in (
        capsys.readouterr().err
    )


def test_views_on_disk_cost_no_time_in_the_estimate(built, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "seconds_of", lambda work: 4)
    for seconds in ("5 min 34 s", "4 min 52 s"):
        keras.utils.set_random_seed(1)  # the same weights
        fit(tiny_recipe(views=2, phases=(Phase("warmup", epochs=10),)), tmp_path)
        assert f"about {seconds}; augmented" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("views", "augment", "words"),
    [
        (None, True, "afresh in every epoch"),
        (0, True, "not augmented"),
        (3, True, "3 augmented views"),
        (3, False, "not augmented"),
        (None, False, "not augmented"),
    ],
)
def test_description_says_what_the_epochs_of_a_phase_see(views, augment, words):
    phase = Phase("warmup", augment=augment)
    assert words in training.describe(tiny_recipe(views=views), phase)


class Losses:
    """Stands for the validation of a training: what it found in each epoch."""

    def __init__(self, monkeypatch, losses):
        self.weights = []
        real = training.Follow.on_epoch_end

        def on_epoch_end(follow, epoch, logs=None):
            logs["val_loss"] = losses[epoch]
            self.weights.append([w.numpy() for w in follow.model.trainable_variables])
            real(follow, epoch, logs)

        monkeypatch.setattr(training.Follow, "on_epoch_end", on_epoch_end)


def test_patience_ends_a_phase_and_keep_best_goes_back_to_its_best_epoch(
    built, tmp_path, monkeypatch
):
    seen = Losses(monkeypatch, [3, 1, 2, 2, 2, 2])
    phase = Phase("warmup", epochs=6, learning_rate=1e-2, patience=2, keep_best=True)
    classifier, _, rows = fit(tiny_recipe(phases=(phase,)), tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    now = [weight.numpy() for weight in classifier.trainable_weights]
    for kept, best, last in zip(now, seen.weights[1], seen.weights[-1], strict=True):
        np.testing.assert_array_equal(kept, best)
        assert np.any(kept != last)


def test_keep_best_without_patience_trains_every_epoch(built, tmp_path, monkeypatch):
    seen = Losses(monkeypatch, [1, 2, 3])
    phase = Phase("warmup", epochs=3, learning_rate=1e-2, keep_best=True)
    classifier, _, rows = fit(tiny_recipe(phases=(phase,)), tmp_path)
    assert len(rows) == 3
    for kept, best in zip(classifier.trainable_weights, seen.weights[0], strict=True):
        np.testing.assert_array_equal(kept.numpy(), best)


def test_without_either_the_last_epoch_counts(built, tmp_path, monkeypatch):
    seen = Losses(monkeypatch, [1, 2, 3])
    phase = Phase("warmup", epochs=3, learning_rate=1e-2)
    classifier, _, rows = fit(tiny_recipe(phases=(phase,)), tmp_path)
    assert len(rows) == 3
    for kept, last in zip(classifier.trainable_weights, seen.weights[-1], strict=True):
        np.testing.assert_array_equal(kept.numpy(), last)
