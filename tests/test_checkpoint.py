import keras
import numpy as np
import pytest
from conftest import tiny_recipe

from pyimagesearch import checkpoint, config, files, images, networks, training, views
from pyimagesearch.recipe import Phase

MADE_FROM = {"SEED": 1}


class Stopped(BaseException):
    """Stands for whatever ends a process."""


def train(recipe, folder, made_from=MADE_FROM, stop_after=None, monkeypatch=None):
    """Train every phase, or until so many epochs are on the disk; return (classifier, done)."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    splits = [images.list_photos("dataset", recipe, each) for each in (config.TRAIN, config.VAL)]
    classifier = networks.build(recipe, None)
    done = checkpoint.Checkpoint(folder, made_from, classifier, recipe.phases)
    done.resume()
    if stop_after is not None:
        real = checkpoint.Checkpoint.save

        def save(mine):
            real(mine)
            if len(mine.rows) == stop_after:
                raise Stopped

        monkeypatch.setattr(checkpoint.Checkpoint, "save", save)
    for number in range(done.phase, len(recipe.phases)):
        stage = views.Stage(recipe, number, 1, folder / "cache")
        training.fit(classifier, stage, splits, done, folder / "h.csv")
        done.finish_phase(recipe.phases[number].name, {"accuracy": 0.5}, "text")
    return classifier, done


def without_seconds(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, None),
        ({}, 2),
        ({"optimizer": "Adam"}, 2),
        ({"keep_best": True, "patience": 1, "learning_rate": 0.03}, 2),
    ],
    ids=["fresh views", "SGD", "Adam", "keep_best"],
)
def test_a_training_stopped_after_every_epoch_ends_as_an_uninterrupted_one(
    built, tmp_path, monkeypatch, options, count
):
    cuts = (None, "block4_pool")
    phases = tuple(
        Phase(f"phase_{cut}", unfreeze_after=cut, **{"epochs": 2, "learning_rate": 1e-3, **options})
        for cut in cuts
    )
    recipe = tiny_recipe(views=count, phases=phases)
    whole, expected = train(recipe, tmp_path / "whole")
    for epochs in range(1, len(expected.rows) + 1):
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            train(recipe, tmp_path / "stopped", stop_after=epochs, monkeypatch=patch)
    resumed, done = train(recipe, tmp_path / "stopped")
    assert without_seconds(done.rows) == without_seconds(expected.rows)
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def stopped(built, tmp_path, monkeypatch):
    """Stop a training of the tiny recipe after its first epoch; return (recipe, folder)."""
    recipe = tiny_recipe()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        train(recipe, tmp_path, stop_after=1, monkeypatch=patch)
    return recipe, tmp_path


def test_going_on_says_from_where_and_how_to_start_over(stopped, capsys):
    recipe, folder = stopped
    _, done = train(recipe, folder)
    said = capsys.readouterr().err
    assert "going on after epoch 1 of warmup" in said
    assert str(folder / "checkpoint.npz") in said
    assert [row["epoch"] for row in done.rows] == [1, 2, 1]


def test_another_recipe_starts_over_and_says_what_changed(stopped, capsys):
    recipe, folder = stopped
    _, done = train(recipe, folder, made_from={"SEED": 2})
    assert "starting over: SEED changed" in capsys.readouterr().err
    assert [row["epoch"] for row in done.rows] == [1, 2, 1]


@pytest.mark.parametrize("size", [0, 100, 1_000])
def test_a_damaged_checkpoint_starts_over_and_says_so(stopped, capsys, size):
    recipe, folder = stopped
    path = folder / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:size])
    _, done = train(recipe, folder)
    assert "is damaged" in capsys.readouterr().err
    assert [row["epoch"] for row in done.rows] == [1, 2, 1]


def test_what_is_left_over_of_a_finished_training_is_not_gone_on_with(stopped):
    recipe, folder = stopped
    files.write_json(folder / "metrics.json", {})
    _, done = train(recipe, folder)
    assert [row["epoch"] for row in done.rows] == [1, 2, 1]
    assert done.seconds == 0
