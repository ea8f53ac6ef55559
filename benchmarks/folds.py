"""Accuracy of each way on all photos of a recipe by cross-validation, for those with few photos.

    python benchmarks/folds.py --recipe sample
    python benchmarks/folds.py --recipe sample --ways tutorial averages

Build the dataset first. The photos of all splits are divided anew into five folds, with as many
photos of each class. Each fold is evaluated once, by a classifier that is trained on three others
and validated on the one after it. So every photo is evaluated once, and never by a classifier that
has seen it. benchmarks/ladder.py explains the ways. The results go to output/<recipe>/folds/. A
fine-tuning that has finished is not repeated.
"""

import sys
from pathlib import Path

import ladder
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sklearn.model_selection import StratifiedKFold

from pyimagesearch import classifier, config, datasets, images, regression
from pyimagesearch.datasets import Splits
from pyimagesearch.recipe import find_recipe
from pyimagesearch.report import intervals
from pyimagesearch.support import calibration, console, files

FOLDS = 5
RESULTS = "folds.json"


def main(argv=None):
    parser = console.argument_parser(__doc__)
    ways = ladder.WAYS
    parser.add_argument("--ways", nargs="+", choices=ways, default=ways, help="default: all")
    arguments = parser.parse_args(argv)
    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    recipe, splits = datasets.open_dataset(config.DATASET_DIR, recipe, config.SPLITS)
    folder = Path(config.OUTPUT_DIR) / recipe.name / "folds"
    labels = np.concatenate([photos.labels for photos in splits])
    probabilities, results = {}, {}
    for way in arguments.ways:
        prepare = prepare_fine_tuning if way in ladder.FINE_TUNED else prepare_regression
        stopwatch = console.Stopwatch()
        predict = prepare(ladder.recipe_of(way, recipe), splits, folder / way)
        probabilities[way] = cross_validate(predict, labels, len(recipe.classes))
        results[way] = judge(labels, probabilities[way]) | {"seconds": stopwatch.seconds}
        files.write_json(folder / RESULTS, results)
    console.show(table(results, len(labels)))
    first, *others = arguments.ways
    for way in others:
        console.info(
            f"{way}: {difference(labels, probabilities[first], probabilities[way], first)}"
        )
    console.info(f"results: {folder / RESULTS}")


def divide(labels):
    """Return [(training, validation, evaluation) positions of the photos] of each fold."""
    shuffled = StratifiedKFold(FOLDS, shuffle=True, random_state=config.SEED)
    parts = [positions for _, positions in shuffled.split(labels, labels)]
    folds = []
    for number, evaluation in enumerate(parts):
        validation = parts[(number + 1) % FOLDS]
        others = np.concatenate([evaluation, validation])
        folds.append((np.setdiff1d(np.arange(len(labels)), others), validation, evaluation))
    return folds


def cross_validate(predict, labels, class_count):
    """Return the (photos, classes) probabilities of all photos, each predicted in its fold.

    `predict` is a function (number of the fold, training, validation, evaluation positions) -> the
    probabilities of the evaluation photos.
    """
    probabilities = np.zeros((len(labels), class_count))
    for number, fold in enumerate(divide(labels), start=1):
        probabilities[fold[-1]] = predict(number, *fold)
    return probabilities


def prepare_regression(recipe, splits, folder):
    """Return the `predict` of `cross_validate` for logistic regression."""
    rows, _ = ladder.read_features(recipe, splits, folder / "features")
    rows, labels = np.concatenate(rows), np.concatenate([photos.labels for photos in splits])

    def predict(_, training, validation, evaluation):
        fitted = regression.fit_rows(
            rows[training], labels[training], recipe, config.MAX_ITERATIONS
        )
        best = regression.choose_best(fitted, [rows[validation]], labels[validation])
        logits = regression.compute_logits(best, rows[validation])
        temperature = calibration.fit_temperature(logits, labels[validation])
        logits = regression.compute_logits(best, rows[evaluation])
        return calibration.probabilities(logits, temperature)

    return predict


def prepare_fine_tuning(recipe, splits, folder):
    """Return the `predict` of `cross_validate` for fine-tuning."""
    paths = tuple(path for photos in splits for path in photos.paths)
    labels = np.concatenate([photos.labels for photos in splits])
    photos = datasets.Photos(paths, labels, recipe.classes)

    def predict(number, *positions):
        fold = Splits(*map(photos.take, positions))
        target = folder / f"fold_{number}"
        ladder.fine_tune_once(recipe, fold, target)
        trained = classifier.load(target)
        batches = images.read_batches(fold.evaluation.paths, recipe.image_size, recipe.batch_size)
        return np.concatenate([trained.predict(batch) for batch in batches])

    return predict


def judge(labels, probabilities):
    """Return the accuracy and the calibration of (photos, classes) probabilities."""
    of_true_class = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "ece": calibration.expected_calibration_error(labels, probabilities),
        "nll": float(-np.log(np.maximum(of_true_class, np.finfo(float).tiny)).mean()),
    }


def difference(labels, before, after, name):
    """Return by how many points one way is better than another on the same photos, as text."""
    gain = (after.argmax(axis=1) == labels).astype(int) - (before.argmax(axis=1) == labels)
    error = gain.std() / len(gain) ** 0.5
    return (
        f"{100 * gain.mean():+.1f} points compared with {name} (standard error {100 * error:.1f}); "
        f"{(gain > 0).sum()} photos are right only here, {(gain < 0).sum()} only there"
    )


def table(results, count):
    """Return the results as text: one row per way."""
    lines = [f"{'way':<12}{'accuracy':>9}   95 % interval   ECE    NLL   minutes"]
    for way, row in results.items():
        interval = intervals.interval_text(row["accuracy"], count)
        lines.append(
            f"{way:<12}{row['accuracy']:>9.3f}   {interval:<13}{row['ece']:>8.3f}"
            f"{row['nll']:>7.3f}{row['seconds'] / 60:>9.1f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    console.run(main)
