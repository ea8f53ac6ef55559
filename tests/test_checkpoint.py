"""A training that is interrupted after any epoch resumes, and ends with the same weights."""

import os

import numpy as np
import pytest
from conftest import Tuning, tiny_phase, tiny_recipe

from pyimagesearch import checkpoint
from pyimagesearch.support import files


class Interrupted(BaseException):
    """Stands for whatever ends a process."""


def interrupt_after(epochs, monkeypatch):
    """Interrupt the training once this many epochs are on the disk."""
    save = checkpoint.Checkpoint.save

    def save_and_interrupt(self):
        save(self)
        if len(self.history) == epochs:
            raise Interrupted

    monkeypatch.setattr(checkpoint.Checkpoint, "save", save_and_interrupt)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize(
    ("options", "views"),
    [
        pytest.param({}, None, marks=pytest.mark.soak),
        ({}, 2),
        pytest.param({"optimizer": "Adam"}, 2, marks=pytest.mark.soak),
        ({"keep_best": True, "patience": 1, "learning_rate": 0.03}, 2),
    ],
    ids=["fresh augmentation", "SGD", "Adam", "keep_best"],
)
def test_training_interrupted_after_every_epoch_ends_with_the_same_weights(
    built, thin, monkeypatch, options, views
):
    phases = tuple(
        tiny_phase(name, unfreeze_after=cut, **{"epochs": 2, **options})
        for name, cut in (("first", None), ("second", "block4_pool"))
    )
    recipe = tiny_recipe(views=views, phases=phases)
    uninterrupted = Tuning(recipe, "uninterrupted")
    expected = uninterrupted.fit_all()
    history = uninterrupted.checkpoint.history
    for epochs in range(1, len(history) + 1):
        with monkeypatch.context() as patch:
            interrupt_after(epochs, patch)
            tuning = Tuning(recipe)
            with pytest.raises(Interrupted):
                tuning.fit_all()
    resumed = Tuning(recipe)
    weights = resumed.fit_all()
    assert without_seconds(resumed.checkpoint.history) == without_seconds(history)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def interrupted(built, thin, monkeypatch):
    """Interrupt a training of the tiny recipe after its first epoch."""
    tuning = Tuning(tiny_recipe())
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        with pytest.raises(Interrupted):
            tuning.fit_all()


def epochs_of(tuning):
    """Train to the end; return the number of each epoch in history.csv."""
    tuning.fit_all()
    return [row["epoch"] for row in tuning.checkpoint.history]


def test_resuming_prints_where_and_how_to_start_over(interrupted, capsys):
    assert epochs_of(Tuning(tiny_recipe())) == [1, 2, 1]
    messages = capsys.readouterr().err
    assert "resuming after epoch 1 of warmup" in messages
    assert "to start over, delete fine_tuning/checkpoint.npz" in messages
    assert "warmup 1/2" not in messages


def test_other_settings_start_over_and_say_what_changed(interrupted, capsys):
    assert epochs_of(Tuning(tiny_recipe(), seed=2)) == [1, 2, 1]
    messages = capsys.readouterr().err
    assert "starting over after the interrupted training: SEED was 1 and is now 2" in messages
    assert "warmup 1/2" in messages


@pytest.mark.parametrize("size", [0, 100, 1_000])
def test_damaged_checkpoint_starts_over_with_a_warning(interrupted, capsys, size):
    path = Tuning(tiny_recipe()).checkpoint.path
    path.write_bytes(path.read_bytes()[:size])
    assert epochs_of(Tuning(tiny_recipe())) == [1, 2, 1]
    assert "is damaged" in capsys.readouterr().err


def test_checkpoint_of_a_finished_training_is_not_resumed(interrupted):
    files.write_json(Tuning(tiny_recipe()).folder / "metrics.json", {})
    assert Tuning(tiny_recipe()).checkpoint.epoch == 0


def test_seconds_of_interrupted_runs_count_unless_they_are_of_other_work(interrupted):
    tuning = Tuning(tiny_recipe())
    path = tuning.folder / checkpoint.SECONDS_FILE
    saved = files.read_json(path)
    assert saved["seconds"] > 0
    files.write_json(path, saved | {"seconds": 1000})
    assert Tuning(tiny_recipe()).checkpoint.stopwatch.seconds > 1000
    assert Tuning(tiny_recipe(), seed=2).checkpoint.stopwatch.seconds < 1000


def test_metrics_and_report_are_those_of_all_phases(built, thin):
    tuning = Tuning(tiny_recipe())
    for number, accuracy in enumerate((0.25, 0.75)):
        tuning.fit(number)
        tuning.checkpoint.finish_phase({"accuracy": accuracy}, f"text {number}\n")
    metrics = tuning.checkpoint.metrics()
    assert metrics["accuracy"] == 0.75
    assert metrics["phases"] == {"warmup": 0.25, "unfrozen": 0.75}
    assert metrics["seconds"] > 0
    assert tuning.checkpoint.report().startswith("After warmup\n\ntext 0\n")
    tuning.checkpoint.remove()
    assert not tuning.checkpoint.path.exists()


class Pickled:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def test_pickle_in_a_checkpoint_does_not_run(interrupted, capsys):
    path = Tuning(tiny_recipe()).checkpoint.path
    np.savez(path, facts=np.array([Pickled()], dtype=object))
    assert Tuning(tiny_recipe()).checkpoint.epoch == 0
    assert "is damaged" in capsys.readouterr().err
    assert not os.path.exists("ran")
