import numpy as np
import pytest
import skops.io
from conftest import write_csv
from test_features import CLASSES, photos_of

from pyimagesearch import features, regression
from pyimagesearch.console import UserError

COLUMNS = 30


def blobs(count, seed, classes):
    """Return rows around a centre a class, as positive as features are, class after class."""
    centres = np.random.default_rng(0).random((len(CLASSES), COLUMNS)) * 4
    labels = np.sort(np.arange(count) % classes)
    noise = np.random.default_rng(seed).normal(0, 1.2, (count, COLUMNS))
    return np.maximum(0, centres[labels] + noise).astype(np.float32), labels


@pytest.fixture(params=[2, 3])
def splits(request, tmp_path):
    """Write training.csv and evaluation.csv; return their folder and {split: photos}."""
    photos = {}
    for split, count, seed in (("training", 600, 1), ("evaluation", 300, 2)):
        rows, labels = blobs(count, seed, request.param)
        write_csv(tmp_path / f"{split}.csv", labels, rows)
        each = photos_of(labels)
        photos[split] = type(each)(each.paths, labels, CLASSES[: request.param])
    return tmp_path, photos


def ask(fitted, folder, photos):
    return regression.ask(fitted, folder, "evaluation", photos["evaluation"], COLUMNS)


def accuracy(probabilities, photos):
    return np.mean(probabilities.argmax(axis=1) == photos["evaluation"].labels)


def test_pieces_learn_what_all_rows_at_once_learn(splits):
    folder, photos = splits
    scores = []
    for fit in (regression.fit_at_once, regression.fit_in_pieces):
        fitted, _ = fit(folder, "training", photos["training"], COLUMNS, 42)
        probabilities = ask(fitted, folder, photos)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        scores.append(accuracy(probabilities, photos))
    assert scores[0] > 0.9
    assert scores[1] > scores[0] - 0.03


def test_rows_beyond_the_memory_are_gone_over_in_pieces_and_it_is_said(splits, monkeypatch, capsys):
    folder, photos = splits
    monkeypatch.setattr(regression, "available_memory", lambda: 600 * COLUMNS * 4)
    monkeypatch.setattr(features, "read_split", None)  # would hold every row
    fitted, words = regression.fit(folder, "training", photos["training"], COLUMNS, 42)
    assert words == "6 passes"
    assert "600 rows of 30 features need" in capsys.readouterr().err
    assert accuracy(ask(fitted, folder, photos), photos) > 0.9


def test_rows_that_fit_are_fitted_at_once(splits, capsys):
    folder, photos = splits
    _, words = regression.fit(folder, "training", photos["training"], COLUMNS, 42)
    assert "iterations" in words
    assert not capsys.readouterr().err


def test_what_pieces_learned_is_saved_without_code(splits, tmp_path):
    folder, photos = splits
    fitted, _ = regression.fit_in_pieces(folder, "training", photos["training"], COLUMNS, 42)
    skops.io.dump(fitted, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=[])
    np.testing.assert_array_equal(ask(loaded, folder, photos), ask(fitted, folder, photos))


def test_an_interrupted_fit_in_pieces_goes_on_behind_its_last_whole_pass(
    splits, monkeypatch, capsys
):
    folder, photos = splits

    def fit():
        return regression.fit_in_pieces(folder, "training", photos["training"], COLUMNS, 42)[0]

    expected, files_before = fit(), set(folder.iterdir())
    real, rows = features.read_shuffled, []

    def interrupted(*arguments):
        for piece in real(*arguments):
            rows.append(len(piece[0]))
            if sum(rows) > 1500:
                raise KeyboardInterrupt
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(features, "read_shuffled", interrupted)
        with pytest.raises(KeyboardInterrupt, match="logistic"):
            fit()
    assert len(set(folder.iterdir()) - files_before) == 1
    np.testing.assert_array_equal(ask(fit(), folder, photos), ask(expected, folder, photos))
    assert "going on after pass 2 of 6" in capsys.readouterr().err
    assert set(folder.iterdir()) == files_before


def test_passes_over_other_rows_are_not_gone_on_with(splits, capsys):
    folder, photos = splits
    (folder / "training_0123456789abcdef.skops").write_bytes(b"of another file")
    regression.fit_in_pieces(folder, "training", photos["training"], COLUMNS, 42)
    assert "going on" not in capsys.readouterr().err
    assert not list(folder.glob("*.skops"))


def test_pieces_of_other_photos_or_columns_are_refused(splits):
    folder, photos = splits
    few = photos["training"].take(range(500))
    for wrong, columns in ((photos["training"], COLUMNS + 1), (few, COLUMNS)):
        with pytest.raises(UserError, match="Make it again"):
            regression.fit_in_pieces(folder, "training", wrong, columns, 42)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max", 8e9), ("2000000000", 1.6e9), ("20000000000", 8e9), (None, 8e9)],
)
def test_memory_is_what_a_container_may_take(monkeypatch, tmp_path, limit, expected):
    """Files that were read lately count as used, and make room."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    7812500 kB\n")
    monkeypatch.setattr(regression, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(regression, "CONTAINER", tmp_path)
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    (tmp_path / "memory.stat").write_text("anon 400000000\ninactive_file 600000000\n")
    assert regression.available_memory() == expected


def test_memory_is_what_the_system_says():
    assert 1e8 < regression.available_memory() < 1e14
