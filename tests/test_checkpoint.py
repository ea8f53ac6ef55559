"""A training that is interrupted after any epoch resumes, and ends with the same weights."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Tuning, tiny_phase, tiny_recipe

from pyimagesearch import checkpoint
from pyimagesearch.support import files, fingerprints

pytestmark = pytest.mark.usefixtures("untraced")

FOLDER = Path("fine_tuning")


class Interrupted(BaseException):
    """Stands for whatever ends a process."""


def train_until(epochs, recipe, monkeypatch):
    """Train a recipe, and interrupt the training once this many epochs are on the disk."""
    save = checkpoint.Checkpoint.save

    def save_and_interrupt(self):
        save(self)
        if len(self.history) == epochs:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", save_and_interrupt)
        tuning = Tuning(recipe)
        with pytest.raises(Interrupted):
            tuning.fit_all()


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def assert_same_training(ours, theirs):
    """Check that two Tunings have the same history and, bit for bit, the same weights."""
    histories = [without_seconds(tuning.checkpoint.history) for tuning in (ours, theirs)]
    assert histories[0] == histories[1]
    weights = zip(ours.network.get_weights(), theirs.network.get_weights(), strict=True)
    for one, other in weights:
        np.testing.assert_array_equal(one, other)


# Interruptions


@pytest.mark.soak
@pytest.mark.parametrize(
    ("options", "views"),
    [
        ({}, None),
        ({}, 2),
        ({"optimizer": "Adam"}, 2),
        ({"keep_best": True, "patience": 1, "learning_rate": 0.03}, 2),
        ({"schedule": "cosine", "learning_rate": 0.03}, 2),
    ],
    ids=["fresh augmentation", "SGD", "Adam", "keep_best", "cosine"],
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
    uninterrupted.fit_all()
    for epochs in range(1, len(uninterrupted.checkpoint.history) + 1):
        train_until(epochs, recipe, monkeypatch)
    resumed = Tuning(recipe)
    resumed.fit_all()
    assert_same_training(resumed, uninterrupted)


PHASES = (
    tiny_phase("head", epochs=2, optimizer="Adam", momentum=0),
    tiny_phase("unfrozen", unfreeze_after="block4_pool"),
)


def recipe(**changes):
    return tiny_recipe(**{"views": 1, "phases": PHASES} | changes)


@pytest.fixture
def interrupted(built, thin, monkeypatch, kept):
    """Interrupt a training after the first of its epochs, which is done once for all tests."""
    finished = kept / "interrupted"
    if not finished.is_dir():
        train_until(1, recipe(), monkeypatch)
        for folder in (Path("dataset"), FOLDER):
            shutil.copytree(folder, finished / folder)
    for folder in (Path("dataset"), FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
        # With the dates of the photos, on which the names of the stored outputs depend.
        shutil.copytree(finished / folder, folder)


def test_resumed_phase_ends_with_the_same_weights(interrupted, capsys):
    uninterrupted = Tuning(recipe(), "uninterrupted")
    uninterrupted.fit(0)
    capsys.readouterr()
    resumed = Tuning(recipe())
    resumed.fit(0)
    assert_same_training(resumed, uninterrupted)
    messages = capsys.readouterr().err
    assert "resuming after epoch 1 of head" in messages
    assert f"to start over, delete {FOLDER / 'checkpoint.npz'}" in messages
    assert "head 1/2" not in messages
    assert "head 2/2" in messages


def test_finished_phase_is_not_trained_again(interrupted, capsys):
    tuning = Tuning(recipe())
    tuning.checkpoint.finished_epochs = 2
    tuning.checkpoint.finish_phase({"accuracy": 0.5}, "text")
    capsys.readouterr()
    resumed = Tuning(recipe())
    assert "resuming after head;" in capsys.readouterr().err
    assert (resumed.checkpoint.finished_phases, resumed.checkpoint.finished_epochs) == (1, 0)
    assert {output.layer for output in resumed.outputs} == {"block4_pool"}


# What a training resumes from


def load(parts, precision="float32"):
    """Return the Checkpoint for a fingerprint of these parts."""
    network = Tuning(recipe(views=None), "other").network
    fingerprint = {"format": fingerprints.FORMAT, "SEED": 1, **parts}
    return checkpoint.load_checkpoint(FOLDER, fingerprint, precision, network, PHASES)


def test_interrupted_training_of_the_same_settings_resumes(interrupted):
    progress = load({})
    assert (progress.finished_phases, progress.finished_epochs, len(progress.history)) == (0, 1, 1)


@pytest.mark.parametrize(
    ("parts", "precision", "change"),
    [
        ({"SEED": 2}, "float32", "SEED was 1 and is now 2"),
        ({}, "mixed_bfloat16", "precision was 'float32' and is now 'mixed_bfloat16'"),
        ({"format": 1}, "float32", "it was made by another version of this project"),
    ],
    ids=["settings", "precision", "version"],
)
def test_training_starts_over_and_says_what_changed(interrupted, capsys, parts, precision, change):
    progress = load(parts, precision)
    assert (progress.finished_phases, progress.finished_epochs, progress.history) == (0, 0, [])
    expected = f"[INFO] starting over after the interrupted training: {change}\n"
    assert expected in capsys.readouterr().err


def test_training_starts_over_with_another_version_of_a_package(interrupted, monkeypatch, capsys):
    versions = fingerprints.versions() | {"keras": "2.0"}
    monkeypatch.setattr(fingerprints, "versions", lambda: versions)
    assert load({}).finished_epochs == 0
    assert "and is now '2.0'" in capsys.readouterr().err


def test_fields_that_only_change_the_figures_do_not_start_a_training_over(interrupted):
    assert load({"mistakes": 3, "smoothing": 0.5}).finished_epochs == 1


@pytest.mark.parametrize("size", [0, 100, 1_000])
def test_damaged_checkpoint_starts_over_with_a_warning(interrupted, capsys, size):
    path = FOLDER / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:size])
    assert load({}).finished_epochs == 0
    assert f"[WARN] {path} is damaged" in capsys.readouterr().err


class Pickled:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def test_pickle_in_a_checkpoint_does_not_run(interrupted, capsys):
    np.savez(FOLDER / "checkpoint.npz", state=np.array([Pickled()], dtype=object))
    assert load({}).finished_epochs == 0
    assert "is damaged" in capsys.readouterr().err
    assert not os.path.exists("ran")


# Seconds and results


def test_seconds_of_interrupted_runs_count(interrupted):
    path = FOLDER / checkpoint.SECONDS_FILE
    saved = files.read_json(path)
    assert saved["seconds"] > 0
    files.write_json(path, saved | {"seconds": 1000})
    assert load({}).stopwatch.seconds > 1000


def test_seconds_of_another_training_do_not_count(interrupted):
    path = FOLDER / checkpoint.SECONDS_FILE
    files.write_json(path, files.read_json(path) | {"seconds": 1000})
    assert load({"SEED": 2}).stopwatch.seconds < 1000


def test_metrics_and_report_are_those_of_all_phases(interrupted):
    progress = load({})
    progress.finish_phase({"accuracy": 0.25, "classes": {}}, "first text\n")
    progress.finish_phase({"accuracy": 0.75, "classes": {"a": 1}}, "second text\n")
    metrics = progress.metrics()
    assert metrics.pop("seconds") > 0
    assert metrics == {
        "accuracy": 0.75,
        "classes": {"a": 1},
        "phases": {"head": 0.25, "unfrozen": 0.75},
    }
    assert progress.report() == ("After head\n\nfirst text\n\nAfter unfrozen\n\nsecond text\n")


def test_removed_checkpoint_leaves_no_file(interrupted):
    load({}).remove()
    assert not (FOLDER / "checkpoint.npz").exists()
    assert not (FOLDER / checkpoint.SECONDS_FILE).exists()
