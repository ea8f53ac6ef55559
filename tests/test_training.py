"""One phase of fine-tuning: what it trains, prints and records, and which weights it ends with."""

import csv
import functools
import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CLASSES, SPLIT_NAMES, Tuning, tiny_phase, tiny_recipe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pyimagesearch import classifier, images, networks, training
from pyimagesearch.recipe import Head, Regression

# Eight steps show the 21 photos more than once.
MANY_STEPS = tiny_phase("warmup", epochs=2, steps_per_epoch=8)


@functools.cache
def fit_once(views):
    """Return a Tuning after its only phase. It is trained once for all tests: do not change it."""
    tuning = Tuning(tiny_recipe(views=views, batch_size=5, phases=(MANY_STEPS,)))
    tuning.fit()
    return tuning


# What a phase does, with fresh augmentation, without augmentation, and with stored views
each_kind_of_views = pytest.mark.parametrize("views", [None, 0, 2])


@each_kind_of_views
def test_fit_trains_every_epoch_also_if_its_steps_repeat_the_photos(built, thin, views):
    history = fit_once(views).checkpoint.history
    assert [(row["phase"], row["epoch"]) for row in history] == [("warmup", 1), ("warmup", 2)]
    assert all(0 < row["loss"] < 10 and 0 <= row["accuracy"] <= 1 for row in history)


@each_kind_of_views
def test_val_accuracy_and_val_loss_are_those_of_the_network_on_every_photo(built, thin, views):
    tuning = fit_once(views)
    photos, last = tuning.splits.validation, tuning.checkpoint.history[-1]
    trained = classifier.from_network(tuning.network, tuning.recipe.classes)
    pixels = np.stack([images.read_resized(path, 32) for path in photos.paths])
    probabilities = trained.predict(pixels)
    accuracy = np.mean(probabilities.argmax(axis=1) == photos.labels)
    assert last["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    of_true_class = probabilities[np.arange(len(photos)), photos.labels]
    assert last["val_loss"] == pytest.approx(-np.log(of_true_class).mean(), rel=0.02)


@each_kind_of_views
def test_fit_changes_the_layers_of_the_phase_only(built, thin, views):
    tuning = fit_once(views)
    before = networks.build(tuning.recipe, None, seed=1)
    changed = {
        layer.name
        for layer in before.layers
        for was, now in zip(
            layer.get_weights(), tuning.network.get_layer(layer.name).get_weights(), strict=True
        )
        if layer.weights and np.any(was != now)
    }
    assert changed == {"head_dense", "probabilities"}


@each_kind_of_views
def test_network_has_no_optimizer_after_training(built, thin, views):
    """So it is saved without one."""
    assert not fit_once(views).network.compiled


# What it prints


def test_phase_is_announced_with_its_photos_and_its_layers(built, thin, capsys):
    tuning = Tuning(tiny_recipe(views=None))
    for number, phase in enumerate(tuning.recipe.phases):
        networks.unfreeze_after(tuning.network, phase.unfreeze_after)
        training.report_phase(tuning.network, tuning.data(number))
    lines = capsys.readouterr().err.splitlines()[-4:]
    assert lines[0] == "[INFO] warmup: 21 training photos, 12 validation photos"
    head = (64 * 8 + 8) + (8 * 3 + 3)
    everything = tuning.network.count_params()
    of_all = f"of {everything:,} weights"
    assert lines[1] == f"[INFO] warmup: training head_dense, probabilities: {head:,} {of_all}"
    assert "unfrozen: training block5_conv1, block5_conv2, block5_conv3, head_dense" in lines[3]
    block5 = 3 * (3 * 3 * 64 * 64 + 64)
    assert lines[3].endswith(f": {block5 + head:,} {of_all}")


@pytest.mark.parametrize(("read", "slower"), [(1e9, "the network"), (1e-9, "reading")])
def test_phase_ends_with_the_speeds_of_training_and_of_reading(
    built, thin, untraced, monkeypatch, capsys, read, slower
):
    """Not if it was finished before."""
    monkeypatch.setattr(training, "reading_speed", lambda data: read)
    tuning = Tuning(tiny_recipe(views=None))
    capsys.readouterr()
    tuning.fit()
    found = re.search(r"warmup: trained on (\S+) photos/s; reading .*", capsys.readouterr().err)
    assert found[0].endswith(f"reading alone: {read:,.4g} photos/s; {slower} is the slower part")
    # 21 photos in steps of 8: an epoch takes between a millisecond and 20 seconds.
    assert 1 < float(found[1].replace(",", "")) < 21000
    tuning.fit()
    assert "photos/s" not in capsys.readouterr().err


@each_kind_of_views
def test_reading_speed_counts_the_photos_of_whole_batches(built, thin, monkeypatch, views):
    data = Tuning(tiny_recipe(views=views)).data(0)
    now = itertools.count(100, 0.1)
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(now))
    # Batches of 8, 8 and 5 photos; not the first one. It is stopped after a second or 8 batches.
    photos = 8 + 5 + 8 + 8 + 5 + 8 + 8 + 5
    assert training.reading_speed(data) == pytest.approx(photos / 0.9)


def test_phase_is_announced_with_its_class_weights(built, thin, capsys):
    tuning = Tuning(tiny_recipe(views=None, class_weights="balanced"))
    training.report_phase(tuning.network, tuning.data(0))
    message = capsys.readouterr().err
    assert "; class weights: zebra 1.000, Noodles/Pasta 1.000, apple 1.000" in message


def test_balanced_class_weights_are_those_that_knifey_spoonys_tutorial_prints():
    labels = np.repeat([0, 1, 2], [994, 1210, 1966])
    weights = training.class_weights(tiny_recipe(class_weights="balanced"), labels)
    rounded = {label: round(weight, 3) for label, weight in weights.items()}
    assert rounded == {0: 1.398, 1: 1.149, 2: 0.707}
    assert training.class_weights(tiny_recipe(), labels) is None


def test_interruption_says_after_which_step_and_leaves_the_finished_epochs(
    built, thin, monkeypatch, capsys
):
    """6 steps show the 21 photos once. The second epoch is interrupted after its third step."""
    on_train_batch_end = training.EpochRecorder.on_train_batch_end

    def interrupt(recorder, batch, logs=None):
        on_train_batch_end(recorder, batch, logs)
        if len(recorder.checkpoint.history) == 1 and batch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.EpochRecorder, "on_train_batch_end", interrupt)
    tuning = Tuning(tiny_recipe(batch_size=4, phases=(tiny_phase("warmup", epochs=3),)))
    with pytest.raises(KeyboardInterrupt, match=r"^warmup: 9 of 18$"):
        tuning.fit()
    with open(tuning.folder / training.HISTORY_FILE) as file:
        [row] = csv.DictReader(file)
    assert (row["phase"], row["epoch"]) == ("warmup", "1")
    assert float(row["val_accuracy"]) == tuning.checkpoint.history[0]["val_accuracy"]
    assert "[INFO] warmup 1/3: loss " in capsys.readouterr().err


# Which weights it ends with


@pytest.mark.parametrize(
    ("losses", "patience", "is_finished"),
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
def test_phase_is_finished_after_its_epochs_or_its_patience(losses, patience, is_finished):
    phase = tiny_phase("head", epochs=4, patience=patience)
    history = [{"phase": "head", "val_loss": loss} for loss in losses]
    checkpoint = SimpleNamespace(finished_epochs=len(losses), history=history)
    assert training.is_finished(phase, checkpoint) is is_finished


@pytest.fixture
def fit_with_losses(built, thin, monkeypatch):
    """Return a function that trains a phase whose val_losses are given.

    It returns (the weights after each epoch, the weights after the phase).
    """

    def fit(losses, **options):
        weights, on_epoch_end = [], training.EpochRecorder.on_epoch_end

        def set_loss_and_record(recorder, epoch, logs):
            logs["val_loss"] = losses[epoch]
            weights.append(recorder.model.get_weights())
            on_epoch_end(recorder, epoch, logs)

        monkeypatch.setattr(training.EpochRecorder, "on_epoch_end", set_loss_and_record)
        phase = tiny_phase("warmup", epochs=len(losses), learning_rate=1e-2, **options)
        tuning = Tuning(tiny_recipe(views=0, phases=(phase,)))
        tuning.fit()
        return weights, tuning.data(0).model(tuning.network).get_weights()

    return fit


def are_same(weights, others):
    return all(np.array_equal(one, other) for one, other in zip(weights, others, strict=True))


def test_patience_ends_a_phase_and_keep_best_restores_its_best_epoch(fit_with_losses, capsys):
    epochs, final = fit_with_losses([3, 1, 2, 2, 2, 2], patience=2, keep_best=True)
    assert len(epochs) == 4
    assert are_same(final, epochs[1])
    assert not are_same(final, epochs[-1])
    assert "warmup stops: no lower val_loss for 2 epochs" in capsys.readouterr().err


def test_keep_best_without_patience_trains_every_epoch(fit_with_losses):
    epochs, final = fit_with_losses([1, 2, 3], keep_best=True)
    assert len(epochs) == 3
    assert are_same(final, epochs[0])


def test_without_keep_best_the_last_epoch_counts(fit_with_losses):
    epochs, final = fit_with_losses([1, 2, 3])
    assert len(epochs) == 3
    assert are_same(final, epochs[-1])
    assert not are_same(final, epochs[0])


# A head that starts with logistic regression

STARTED = Head(
    pooling="average", units=None, dropout=0, output="softmax", start="logistic_regression"
)
LAST_BLOCK = tiny_phase("unfrozen", unfreeze_after="block4_pool", learning_rate=1e-9)


def started_recipe(**changes):
    """Return a recipe with one phase, which trains block5 and a head that is started."""
    row = {"head": STARTED, "phases": (LAST_BLOCK,), "regression": Regression(C=0.5), "views": 2}
    return tiny_recipe(**row | changes)


def rows_of(network, batches):
    """Return (features, labels) of batches of stored outputs of block4_pool, and their labels."""
    inputs, labels = zip(*batches, strict=True)
    part = networks.part_between(network, "block4_pool", networks.FEATURES)
    return networks.predict_function(part)(np.concatenate(inputs)), np.concatenate(labels)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_started_head_is_logistic_regression_on_the_first_epochs(built, thin, output):
    classes = CLASSES
    if output == "sigmoid":
        classes = CLASSES[:2]
        for split in SPLIT_NAMES:
            shutil.rmtree(Path("dataset/tiny") / split / CLASSES[2])
    tuning = Tuning(started_recipe(head=replace(STARTED, output=output), classes=classes))
    network, data = tuning.network, tuning.data(0)
    training.start_head(network, data)
    epochs = itertools.islice(data.training_batches(), 3 * data.steps_per_epoch)
    rows, labels = rows_of(network, epochs)
    assert len(rows) == 3 * len(tuning.splits.training)
    expected = LogisticRegression(C=0.5, max_iter=200).fit(rows, labels)
    kernel, bias = network.get_layer(networks.PROBABILITIES).get_weights()
    np.testing.assert_allclose(kernel, expected.coef_.T, atol=1e-4)
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-4)


def test_started_head_has_the_lowest_log_loss_on_validation_of_all_C(built, thin, capsys):
    candidates, losses = (1e-3, 1.0, 1e3), []
    tuning = Tuning(started_recipe())
    network, data = tuning.network, tuning.data(0)
    whole = networks.predict_function(networks.split_at(network, "block4_pool")[1])
    inputs, labels = zip(*data.validation_batches(), strict=True)
    for C in (*candidates, candidates):
        recipe = replace(tuning.recipe, regression=Regression(C=C))
        training.start_head(network, replace(data, recipe=recipe))
        losses.append(log_loss(np.concatenate(labels), whole(np.concatenate(inputs))))
    assert len(set(losses[:3])) == 3
    assert losses[3] == min(losses[:3])
    best = candidates[int(np.argmin(losses[:3]))]
    assert f"features, C={best:g}: val_accuracy " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.filterwarnings("error")
def test_head_may_start_with_a_regression_that_has_not_converged(built, thin, monkeypatch):
    monkeypatch.setattr(training, "START_ITERATIONS", 1)
    tuning = Tuning(started_recipe())
    before = tuning.network.get_layer(networks.PROBABILITIES).get_weights()
    training.start_head(tuning.network, tuning.data(0))
    after = tuning.network.get_layer(networks.PROBABILITIES).get_weights()
    assert not are_same(before, after)


@pytest.mark.parametrize("views", [None, 2])
def test_training_begins_with_the_started_head(built, thin, views, capsys):
    """At this learning rate it hardly changes, and val_accuracy is that of logistic regression."""
    tuning = Tuning(started_recipe(views=views))
    [row] = tuning.fit()
    [line] = [line for line in capsys.readouterr().err.splitlines() if "the head starts" in line]
    assert f"val_accuracy {row['val_accuracy']:.3f} " in line


def test_resumed_training_does_not_start_the_head_again(built, thin, monkeypatch):
    tuning = Tuning(started_recipe(phases=(replace(LAST_BLOCK, epochs=1),)))
    tuning.fit()
    monkeypatch.setattr(training, "start_head", lambda *_: pytest.fail("the head is started again"))
    resumed = Tuning(started_recipe(phases=(replace(LAST_BLOCK, epochs=2),)))
    assert resumed.checkpoint.finished_epochs == 1
    assert len(resumed.fit()) == 2


# Losses that diverge


def epoch(phase, loss, val_loss=1.0):
    """Return a row of history.csv."""
    return {"phase": phase, "epoch": 2, "loss": loss, "val_loss": val_loss, "val_accuracy": 0.5}


@pytest.mark.parametrize(
    ("row", "history", "diverges"),
    [
        (epoch("head", np.nan), [], True),
        (epoch("head", 1.0, np.nan), [], True),
        (epoch("head", np.inf), [], True),
        # The first epoch of a phase is compared with its first batch, whose loss is 2.
        (epoch("head", 199.0), [], False),
        (epoch("head", 201.0), [], True),
        (epoch("tail", 199.0), [epoch("head", 0.1)], False),
        # Later epochs are compared with the first one of the phase.
        (epoch("head", 19.9), [epoch("head", 2.0), epoch("head", 0.1)], False),
        (epoch("head", 20.1), [epoch("head", 2.0), epoch("head", 9.0)], True),
        (epoch("tail", 20.1), [epoch("head", 9.0), epoch("tail", 2.0)], True),
        # A small loss may rise.
        (epoch("head", 0.5), [epoch("head", 0.001)], False),
    ],
)
def test_divergence_is_a_loss_that_is_not_finite_or_far_above_the_first(row, history, diverges):
    found = training.find_divergence(row, history, 2.0, [])
    assert (found is not None) == diverges
    if diverges:
        assert found == f"loss is {row['loss']:.3g} and val_loss {row['val_loss']:.3g}"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_divergence_is_found_in_weights_whose_losses_are_finite(value):
    good, bad = np.ones(3), np.array([1, value, -value])
    assert training.find_divergence(epoch("head", 1.0), [], 1.0, [good]) is None
    found = training.find_divergence(epoch("head", 1.0), [], 1.0, [good, bad])
    assert found == "some weights are not finite"


@pytest.mark.parametrize(
    ("optimizer", "rate", "suggestion"),
    [("SGD", 1.0, "0.001"), ("Adam", 0.1, "0.0001"), ("SGD", 0.01, "0.001")],
)
def test_remedy_of_a_divergence_is_a_smaller_learning_rate(optimizer, rate, suggestion):
    phase = tiny_phase("head", optimizer=optimizer, learning_rate=rate)
    error = str(training.divergence_error(phase, 3, "loss is nan and val_loss 1"))
    remedy = f"learning_rate={rate} is too high for {optimizer} here; try {suggestion}."
    assert error.startswith(f"head diverges: after epoch 3, loss is nan and val_loss 1. {remedy}")
    error = str(training.divergence_error(phase, 3, "loss is nan and val_loss 1", device_count=2))
    assert f"try {suggestion}, or GPUS = 1 if that goes well with one GPU. Nothing" in error


def test_val_accuracy_of_a_phase_is_that_of_the_epoch_it_keeps():
    losses_and_accuracies = [(3, 0.25), (1, 0.75), (2, 0.5)]
    history = [
        {"phase": name, "val_loss": loss, "val_accuracy": accuracy}
        for name in ("head", "tail")
        for loss, accuracy in losses_and_accuracies
    ]
    history[-1]["val_accuracy"] = 0.6
    assert training.val_accuracy(tiny_phase("head", keep_best=True), history) == 0.75
    assert training.val_accuracy(tiny_phase("head"), history) == 0.5
    assert training.val_accuracy(tiny_phase("tail"), history) == 0.6


# Logs


def test_logs_of_an_earlier_training_are_deleted_also_if_their_folder_is_a_link():
    disk, folder = Path("disk"), Path("tensorboard")
    (disk / "warmup").mkdir(parents=True)
    folder.symlink_to(disk)
    training.delete_logs(folder)
    assert not (disk / "warmup").exists()
    assert folder.is_symlink()
