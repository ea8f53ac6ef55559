"""Calibration: probabilities that are as high as the predictions are right.

A network learns to be surer than it should be. Dividing its logits by one number, the temperature,
corrects that. The order of the classes stays the same, and so does every prediction.

Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
arXiv 1706.04599.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from pyimagesearch.support import console

# Temperatures are searched up to this one and its inverse.
MAX_TEMPERATURE = 100
BINS = 10  # of equal width, from probability 0 to 1
DRAWS = 1000  # for `error_by_chance`


def calibrate(recipe, phases, logits, labels):
    """Return the temperature of a classifier; print it, or why it stays 1, which changes nothing.

    It is fitted on photos that were neither trained on nor are evaluated.

    Args:
        recipe: a row of config.RECIPES.
        phases: those that the classifier was trained with; logistic regression has none.
        logits: (n, classes), or (n, 1), of the validation photos.
        labels: (n,) ints.
    """
    if not recipe.calibrate:
        return 1.0
    name = f"{phases[-1].name}: " if phases else ""
    held_out = [phase.held_out for phase in phases] or [0]
    # A larger share contains the photos of a smaller one.
    if held_out[-1] > min(held_out):
        console.info(f"{name}not calibrated: an earlier phase was trained on its held-out photos")
        return 1.0
    if recipe.validate_on_evaluation and not held_out[-1]:
        console.info(f"{name}not calibrated: the validation photos are the evaluation photos")
        return 1.0
    temperature = fit_temperature(logits, labels)
    count = f"{len(labels):,} validation photos"
    console.info(f"{name}calibrated with temperature {temperature:.2f}, fitted on {count}")
    return temperature


def class_logits(logits):
    """Return (n, classes) logits; a single column is that of the second of two classes."""
    logits = np.asarray(logits, float)
    return np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits


def probabilities(logits, temperature=1):
    """Return the (n, classes) probabilities of logits divided by a temperature."""
    return np.exp(log_softmax(class_logits(logits) / temperature, axis=1))


def log_loss(logits, labels, temperature=1):
    """Return the mean negative log-likelihood of the true classes."""
    # Of logits, since a probability that is rounded to 0 would have an infinite loss.
    log_probabilities = log_softmax(class_logits(logits) / temperature, axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def fit_temperature(logits, labels):
    """Return the temperature with the lowest log loss on photos that were not trained on.

    If every prediction is right, the loss is lowest at a temperature of 0, which would claim that
    no photo can be misjudged. Then the temperature is 1: the probabilities stay as they are.

    Args:
        logits: (n, classes), or (n, 1) of the second of two classes.
        labels: (n,) ints.
    """
    if (class_logits(logits).argmax(axis=1) == labels).all():
        return 1.0
    bound = np.log(MAX_TEMPERATURE)
    options = {"bounds": (-bound, bound), "method": "bounded", "options": {"xatol": 1e-6}}
    # On a logarithmic scale, 1/2 and 2 are as far from 1.
    solution = minimize_scalar(lambda x: log_loss(logits, labels, np.exp(x)), **options)
    return float(np.exp(solution.x))


def reliability(truth, probabilities):
    """Return (photos, mean highest probability, accuracy) of BINS bins of the highest probability.

    Each is a (BINS,) array. The means of an empty bin are 0.
    """
    highest, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    numbers = bin_numbers(highest)
    photos, *sums = (
        np.bincount(numbers, weights, BINS) for weights in (np.ones(len(truth)), highest, correct)
    )
    return photos, *(each / np.maximum(photos, 1) for each in sums)


def bin_numbers(highest):
    """Return the number of the bin of each highest probability."""
    return np.minimum((highest * BINS).astype(int), BINS - 1)


def expected_calibration_error(truth, probabilities):
    """Return the mean distance of accuracy and highest probability, over the bins (ECE)."""
    photos, confidence, accuracy = reliability(truth, probabilities)
    return float((photos * np.abs(accuracy - confidence)).sum() / photos.sum())


def error_by_chance(probabilities):
    """Return the expected calibration error up to which (n, classes) probabilities may be right.

    In each of many draws, every photo is predicted correctly with just the probability that it has.
    The error is not 0 even then, since the photos are few. In 95 % of the draws, it is at most what
    is returned: a larger one is hardly chance.
    """
    rng, highest = np.random.default_rng(0), probabilities.max(axis=1)
    numbers, errors = bin_numbers(highest), []
    for _ in range(DRAWS):
        is_correct = rng.random(len(highest)) < highest
        distances = np.bincount(numbers, is_correct - highest, BINS)
        errors.append(np.abs(distances).sum() / len(highest))
    return float(np.quantile(errors, 0.95))
