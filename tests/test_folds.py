"""benchmarks/folds.py evaluates every photo once, by a classifier that has not seen it."""

import importlib

import numpy as np
import pytest
from conftest import ROOT, read
from sklearn.metrics import accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss


@pytest.fixture
def folds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("folds")


def test_every_photo_is_evaluated_once_and_validated_once_and_never_in_two_roles(folds):
    labels = np.repeat([0, 1, 2], [20, 31, 7])
    divided = folds.divide(labels)
    everything = list(range(len(labels)))
    for role in (1, 2):
        assert sorted(np.concatenate([fold[role] for fold in divided])) == everything
    for fold in divided:
        assert sorted(np.concatenate(fold)) == everything
        for positions in fold[1:]:
            counts = np.bincount(labels[positions], minlength=3)
            assert (np.abs(counts - np.array([4, 6.2, 1.4])) < 1).all()


def test_each_photo_has_the_probabilities_of_the_fold_that_evaluates_it(folds):
    labels = np.arange(30) % 3

    def predict(number, training, validation, evaluation):
        assert not set(evaluation) & {*training, *validation}
        return np.array([[number, position, 0] for position in evaluation])

    probabilities = folds.cross_validate(predict, labels, 3)
    assert probabilities[:, 1].tolist() == list(range(30))
    assert np.bincount(probabilities[:, 0].astype(int)).tolist() == [0, 6, 6, 6, 6, 6]


def test_figures_are_those_of_scikit_learn(folds):
    rng = np.random.default_rng(0)
    labels, probabilities = np.arange(40) % 4, rng.dirichlet(np.ones(4), 40)
    figures = folds.judge(labels, probabilities)
    assert figures["accuracy"] == accuracy_score(labels, probabilities.argmax(axis=1))
    assert figures["nll"] == pytest.approx(sklearn_log_loss(labels, probabilities))
    assert 0 < figures["ece"] < 1


def test_difference_counts_the_photos_that_only_one_way_predicts_right(folds):
    """Of 100 photos, 6 are right only after, 2 only before: +4 with the error of paired photos."""
    labels, right, wrong = np.zeros(100, int), [1, 0], [0, 1]
    before = np.array([wrong] * 6 + [right] * 94)
    after = np.array([right] * 98 + [wrong] * 2)
    text = folds.difference(labels, before, after, "tutorial")
    assert text == (
        "+4.0 points compared with tutorial (standard error 2.8); "
        "6 photos are right only here, 2 only there"
    )


@pytest.mark.soak
def test_each_way_is_cross_validated_and_finished_folds_are_not_repeated(
    folds, built, tiny, script
):
    tiny()
    status, out, err = script("folds")
    assert status == 0
    results = read("output/tiny/folds/folds.json")
    assert list(results) == ["tutorial", "averages", "fine_tune", "better"]
    for way, row in results.items():
        assert f"{way:<12}{row['accuracy']:>9.3f}" in out
    assert "fine_tune: " in err
    _, _, err = script("folds", "--ways", "fine_tune")
    assert err.count("is up to date") == 5
