"""One phase of fine-tuning: what it trains, records and keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Tuning, tiny_phase, tiny_recipe

from pyimagesearch import classifier, images, training


@pytest.mark.parametrize(
    ("losses", "patience", "finished"),
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
def test_phase_is_finished_after_its_epochs_or_its_patience(losses, patience, finished):
    phase = tiny_phase("head", epochs=4, patience=patience)
    history = [{"phase": "head", "val_loss": loss} for loss in losses]
    checkpoint = SimpleNamespace(epoch=len(losses), history=history)
    assert training.is_finished(phase, checkpoint) is finished


@pytest.mark.parametrize("views", [None, 0, 2])
def test_val_accuracy_is_that_of_the_classifier_on_every_photo(built, thin, views):
    recipe = tiny_recipe(views=views, batch_size=5)
    tuning = Tuning(recipe)
    history, photos = tuning.fit(), tuning.splits.validation
    trained = classifier.from_network(tuning.network, recipe.classes)
    pixels = np.stack([images.read_resized(path, 32) for path in photos.paths])
    probabilities = trained.predict(pixels)
    accuracy = np.mean(probabilities.argmax(axis=1) == photos.labels)
    assert history[-1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    true_class = probabilities[np.arange(len(photos)), photos.labels]
    assert history[-1]["val_loss"] == pytest.approx(-np.log(true_class).mean(), rel=0.02)


@pytest.mark.parametrize("views", [None, 2])
def test_more_steps_than_batches_repeat_the_photos(built, thin, views):
    phase = tiny_phase("warmup", epochs=2, steps_per_epoch=8)
    history = Tuning(tiny_recipe(views=views, phases=(phase,))).fit()
    assert [row["epoch"] for row in history] == [1, 2]


def test_history_is_on_disk_after_every_epoch(built, thin, monkeypatch):
    lengths, write_history = [], training.write_history

    def write_and_count(path, history):
        write_history(path, history)
        lengths.append(len(path.read_text().splitlines()))

    monkeypatch.setattr(training, "write_history", write_and_count)
    Tuning(tiny_recipe(phases=(tiny_phase("warmup", epochs=3),))).fit()
    assert lengths == [2, 3, 4]


def test_console_names_what_is_trained(built, thin, capsys):
    tuning = Tuning(tiny_recipe(class_weights="balanced"))
    tuning.fit(0)
    tuning.checkpoint.finish_phase({}, "")
    tuning.fit(1)
    messages = capsys.readouterr().err
    assert "warmup: 21 training photos, 12 validation photos; class weights: zebra" in messages
    assert "warmup: training head_dense, probabilities: 4 of 30 weight tensors" in messages
    assert "unfrozen: training block5_conv1, block5_conv2, block5_conv3, head_dense" in messages
    assert "warmup 2/2: loss " in messages
    assert "val_accuracy " in messages


@pytest.mark.parametrize("views", [None, 2])
def test_network_is_saved_without_an_optimizer(built, thin, views):
    tuning = Tuning(tiny_recipe(views=views))
    tuning.fit()
    assert not tuning.network.compiled


def test_interruption_of_an_epoch_removes_the_progress_bar(built, thin, monkeypatch):
    closed = []

    class Progress:
        def __enter__(self):
            return self.interrupt

        def __exit__(self, *_):
            closed.append(True)

        def interrupt(self, count):
            raise KeyboardInterrupt

    tuning = Tuning(tiny_recipe(views=None))
    monkeypatch.setattr(training.console, "progress", lambda *_: Progress())
    with pytest.raises(KeyboardInterrupt):
        tuning.fit()
    assert closed == [True]


def test_balanced_class_weights_are_those_that_knifey_spoonys_tutorial_prints():
    labels = np.repeat([0, 1, 2], [994, 1210, 1966])
    weights = training.class_weights(tiny_recipe(class_weights="balanced"), labels)
    rounded = {label: round(weight, 3) for label, weight in weights.items()}
    assert rounded == {0: 1.398, 1: 1.149, 2: 0.707}
    assert training.class_weights(tiny_recipe(), labels) is None


@pytest.fixture
def fit_with_losses(built, thin, monkeypatch):
    """Return a function that trains a phase whose val_losses are given.

    It returns (the weights after each epoch, the weights after the phase, the history).
    """

    def fit(losses, **options):
        weights, on_epoch_end = [], training.EpochRecorder.on_epoch_end

        def record(recorder, epoch, logs):
            logs["val_loss"] = losses[epoch]
            weights.append([each.numpy() for each in recorder.model.trainable_variables])
            on_epoch_end(recorder, epoch, logs)

        monkeypatch.setattr(training.EpochRecorder, "on_epoch_end", record)
        phase = tiny_phase("warmup", epochs=len(losses), learning_rate=1e-2, **options)
        tuning = Tuning(tiny_recipe(phases=(phase,)))
        history = tuning.fit()
        return weights, [each.numpy() for each in tuning.network.trainable_weights], history

    return fit


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_patience_ends_a_phase_and_keep_best_restores_its_best_epoch(fit_with_losses, capsys):
    weights, final, history = fit_with_losses([3, 1, 2, 2, 2, 2], patience=2, keep_best=True)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert_same(final, weights[1])
    assert any(np.any(one != other) for one, other in zip(final, weights[-1], strict=True))
    assert "warmup stops: no lower val_loss for 2 epochs" in capsys.readouterr().err


def test_keep_best_without_patience_trains_every_epoch(fit_with_losses):
    weights, final, history = fit_with_losses([1, 2, 3], keep_best=True)
    assert len(history) == 3
    assert_same(final, weights[0])


def test_without_keep_best_the_last_epoch_counts(fit_with_losses):
    weights, final, history = fit_with_losses([1, 2, 3])
    assert len(history) == 3
    assert_same(final, weights[-1])
