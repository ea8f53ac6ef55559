"""Calibration: the temperature, the figures that judge it, and when there is none."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny_phase, tiny_recipe
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pyimagesearch import datasets, regression
from pyimagesearch.support import calibration


def sure_logits(classes, temperature=4.0, count=5000):
    """Return (logits, labels) of a classifier that is too sure by a known temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return logits * temperature, labels


# The temperature


def test_temperature_that_made_a_classifier_too_sure_is_found():
    assert calibration.fit_temperature(*sure_logits(5)) == pytest.approx(4, rel=0.05)


def test_temperature_below_1_is_found_for_a_classifier_that_is_not_sure_enough():
    assert calibration.fit_temperature(*sure_logits(5, 0.5)) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("classes", [2, 6])
def test_calibrated_regression_gives_the_probabilities_of_scikit_learns_calibration(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % classes
    rows = rng.normal(0, 3, (120, 40)) + 4 * np.eye(classes, 40)[labels]
    model = LogisticRegression().fit(rows[:60], labels[:60])
    logits = model.decision_function(rows[60:]).reshape(60, -1)
    temperature = calibration.fit_temperature(logits, labels[60:])
    assert 1.1 < temperature < 20
    oracle = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    expected = oracle.fit(rows[60:], labels[60:]).predict_proba(rows)
    found = regression.calibrated_copy(model, temperature).predict_proba(rows)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_one_column_has_the_temperature_and_the_probabilities_of_two():
    logits, labels = sure_logits(2)
    column = logits[:, 1:] - logits[:, :1]
    found, expected = (calibration.fit_temperature(each, labels) for each in (column, logits))
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        calibration.probabilities(column, 3), calibration.probabilities(logits, 3)
    )


def test_predictions_that_are_all_right_are_not_made_surer():
    logits = np.eye(3)[[0, 1, 2, 1]]
    assert calibration.fit_temperature(logits, np.array([0, 1, 2, 1])) == 1


def test_predictions_that_are_all_wrong_have_the_largest_temperature():
    temperature = calibration.fit_temperature(10 * np.eye(3), np.array([1, 2, 0]))
    assert temperature == pytest.approx(calibration.MAX_TEMPERATURE, rel=1e-3)


def test_float32_logits_far_apart_have_a_finite_loss():
    logits = np.array([[0, 1000], [500, 0], [900, 0]], np.float32)
    labels = np.array([1, 0, 1])
    assert calibration.log_loss(logits, labels) == pytest.approx(900 / 3)
    assert np.isfinite(calibration.fit_temperature(logits, labels))


def test_temperature_never_changes_the_predicted_class():
    logits, _ = sure_logits(6)
    for temperature in (0.1, 1, 7.3, calibration.MAX_TEMPERATURE):
        predicted = calibration.probabilities(logits, temperature).argmax(axis=1)
        np.testing.assert_array_equal(predicted, logits.argmax(axis=1))


# The figures


def test_log_loss_is_that_of_scikit_learn():
    logits, labels = sure_logits(5)
    expected = log_loss(labels, calibration.probabilities(logits, 2))
    assert calibration.log_loss(logits, labels, 2) == pytest.approx(expected)


def test_calibration_error_is_the_one_computed_by_hand():
    # In the bin from 0.8 to 0.9: 0.82 and 0.88, one of them right. In the last one: 1.0, right.
    probabilities = np.array([[0.82, 0.18], [0.12, 0.88], [1, 0]])
    truth = np.array([0, 0, 0])
    photos, confidence, accuracy = calibration.reliability(truth, probabilities)
    assert photos.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 2, 1]
    assert confidence[8:] == pytest.approx([0.85, 1])
    assert accuracy[8:].tolist() == [0.5, 1]
    error = calibration.expected_calibration_error(truth, probabilities)
    assert error == pytest.approx((2 * 0.35 + 1 * 0) / 3)


def test_fitted_temperature_lowers_both_figures():
    logits, labels = sure_logits(5)
    temperature = calibration.fit_temperature(logits, labels)
    before, after = (
        calibration.expected_calibration_error(labels, calibration.probabilities(logits, value))
        for value in (1, temperature)
    )
    assert before > 0.2
    assert after < 0.03
    assert calibration.log_loss(logits, labels, temperature) < calibration.log_loss(logits, labels)


# Which photos


def calibrate(capsys, *held_out, **changes):
    """Calibrate a recipe that has these phases; return (temperature, messages)."""
    phases = [tiny_phase(f"phase{n}", held_out=share) for n, share in enumerate(held_out)]
    recipe = replace(tiny_recipe(), **changes)
    temperature = calibration.calibrate(recipe, phases, *sure_logits(3))
    return temperature, capsys.readouterr().err


@pytest.mark.parametrize("phases", [(), (0,), (0, 0), (0.1, 0), (0.2, 0.2), (0.2, 0.1)])
def test_photos_that_were_not_trained_on_are_fitted(capsys, phases):
    temperature, messages = calibrate(capsys, *phases)
    assert temperature == pytest.approx(4, rel=0.1)
    assert f"temperature {temperature:.2f}, fitted on 5,000 validation photos" in messages


@pytest.mark.parametrize("phases", [(), (0,), (0.1, 0)])
def test_evaluation_photos_are_not_fitted_and_one_line_says_so(capsys, phases):
    temperature, messages = calibrate(capsys, *phases, validate_on_evaluation=True)
    assert temperature == 1
    assert messages.count("\n") == 1
    assert "not calibrated: the validation photos are the evaluation photos" in messages


def test_held_out_photos_are_fitted_where_validation_is_evaluation(capsys):
    temperature, _ = calibrate(capsys, 0.1, validate_on_evaluation=True)
    assert temperature == pytest.approx(4, rel=0.1)


def test_held_out_photos_that_an_earlier_phase_was_trained_on_are_not_fitted(capsys):
    temperature, messages = calibrate(capsys, 0, 0.1)
    assert temperature == 1
    assert "phase1: not calibrated: an earlier phase was trained on its held-out photos" in messages


def test_larger_held_out_share_contains_the_photos_of_a_smaller_one():
    """Otherwise a phase could be trained on the photos that a later one is calibrated on."""
    paths = tuple(f"{number}.jpg" for number in range(50))
    photos = datasets.Photos(paths, np.arange(50) % 3, ("a", "b", "c"))
    splits = datasets.Splits(photos, photos, photos)
    fewer, more = (set(datasets.hold_out(splits, s, 42).validation.paths) for s in (0.1, 0.3))
    assert fewer < more


def test_recipe_can_switch_the_calibration_off(capsys):
    assert calibrate(capsys, 0, calibrate=False) == (1, "")


# The error that chance gives


def random_probabilities(count, seed=1):
    """Return (n, 4) probabilities, and classes that are drawn with just these probabilities."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), count)
    drawn = (rng.random((count, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return probabilities, np.minimum(drawn, 3)


def test_probabilities_that_are_right_have_an_error_that_can_be_chance_19_times_in_20():
    errors = []
    for seed in range(60):
        probabilities, truth = random_probabilities(84, seed)
        error = calibration.expected_calibration_error(truth, probabilities)
        errors.append(error - calibration.error_by_chance(probabilities))
    share = np.mean(np.array(errors) <= 0)
    assert 0.9 < share < 1


def test_error_by_chance_gets_smaller_with_more_photos():
    few, many = (calibration.error_by_chance(random_probabilities(n)[0]) for n in (84, 8400))
    assert 0.1 < few < 0.2
    assert many < few / 5


def test_probabilities_that_are_too_sure_have_an_error_that_is_not_chance():
    probabilities, truth = random_probabilities(500)
    too_sure = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    error = calibration.expected_calibration_error(truth, too_sure)
    assert error > 2 * calibration.error_by_chance(too_sure)
