"""Evaluate predictions: metrics, the text of report.txt, and pictures."""

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.metrics import precision_recall_fscore_support as scores_per_class

from pyimagesearch import images
from pyimagesearch.report import figures, intervals
from pyimagesearch.support import console, files

MAX_PAIRS = 10  # confused pairs of classes in a report
# Below this probability, more than one in ten predictions of a calibrated classifier are wrong.
UNCERTAIN = 0.9
MISTAKES_TITLE = "The most confident mistakes"
UNCERTAIN_TITLE = f"Correct predictions below {UNCERTAIN:.0%}, the least confident first"


def save_evaluation(folder, stem, photos, probabilities, limit):
    """Draw the pictures of an evaluation and print its report.

    Args:
        folder: where <stem>confusion.png, <stem>mistakes.png and <stem>uncertain.png go.
        stem: "", or the name of a phase and an underscore.
        photos: datasets.Photos.
        probabilities: (n, classes) floats, in the order of the photos.
        limit: the number of mistakes, and of uncertain predictions, to show.

    Returns (metrics, report): the dict of `compute_metrics`, and the text of report.txt.
    """
    truth, classes = photos.labels, photos.classes
    matrix = confusion_counts(truth, probabilities)
    figures.draw_confusion(folder / f"{stem}confusion.png", matrix, classes)
    mistakes = most_confident_mistakes(truth, probabilities, limit)
    uncertain = least_confident_correct(truth, probabilities, limit)
    mistakes_path, uncertain_path = folder / f"{stem}mistakes.png", folder / f"{stem}uncertain.png"
    draw_predictions(mistakes_path, MISTAKES_TITLE, mistakes, photos, probabilities)
    draw_predictions(uncertain_path, UNCERTAIN_TITLE, uncertain, photos, probabilities)
    metrics = compute_metrics(truth, probabilities, classes)
    report = report_text(metrics, photos, probabilities, mistakes)
    console.show(report)
    console.info(f"{stem.removesuffix('_') or 'evaluation'}: {intervals.accuracy_text(metrics)}")
    return metrics, report


def evaluate_phase(network, data, history, folder):
    """Evaluate a network after a phase of batches.PhaseData; draw the training curves so far.

    `history` has the rows of history.csv. Returns (metrics, report) as `save_evaluation` does.
    """
    from pyimagesearch import classifier, networks

    recipe, phase, photos = data.recipe, data.phase, data.splits.evaluation
    figures.draw_history(folder, recipe, history)
    # The network that is saved and predicts computes in float32, so this one is evaluated.
    model, inputs = data.evaluation_inputs(networks.float32_copy(network))
    predict = classifier.probabilities_function(model)
    with console.progress(f"evaluation after {phase.name}", len(photos)) as advance:
        probabilities = classifier.predict_batches(predict, inputs, advance)
    return save_evaluation(folder, f"{phase.name}_", photos, probabilities, recipe.mistakes)


def compute_metrics(truth, probabilities, classes):
    """Return the metrics of an evaluation, from 0 to 1, as metrics.json has them.

    They are {"accuracy", "accuracy_interval": [low, high], "baseline": {"class", "accuracy"},
    "classes": {name: {"precision", "recall", "f1", "support"}}}; support is the number of photos of
    the class.
    """
    predicted = probabilities.argmax(axis=1)
    names, labels = ("precision", "recall", "f1", "support"), range(len(classes))
    columns = scores_per_class(truth, predicted, labels=labels, zero_division=0)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    per_class = [dict(zip(names, row, strict=True)) for row in rows]
    accuracy = float(np.mean(predicted == truth))
    class_metrics = dict(zip(classes, per_class, strict=True))
    return {
        "accuracy": accuracy,
        "accuracy_interval": intervals.interval(accuracy, len(truth)),
        "baseline": intervals.baseline(class_metrics),
        "classes": class_metrics,
    }


def report_text(metrics, photos, probabilities, mistakes):
    """Return the text of report.txt; `mistakes` are the positions of those to list.

    `metrics` are those of `compute_metrics`.
    """
    truth, classes = photos.labels, photos.classes
    matrix = confusion_counts(truth, probabilities)
    options = {"labels": range(len(classes)), "target_names": classes, "zero_division": 0}
    lines = [
        classification_report(truth, probabilities.argmax(axis=1), **options),
        intervals.accuracy_text(metrics),
        "",
        "Confusion matrix (rows: true classes, columns: predicted classes)",
        confusion_text(matrix, classes),
        "",
    ]
    if pairs := most_confused(matrix, classes):
        support = dict(zip(classes, np.bincount(truth, minlength=len(classes)), strict=True))
        lines += ["The most confused pairs"]
        for true, predicted, count in pairs:
            lines += [f"{true} predicted as {predicted}: {count} of {support[true]:,}"]
        lines += [""]
    lines += [MISTAKES_TITLE if len(mistakes) else "No mistakes"]
    lines += [caption(position, photos, probabilities) for position in mistakes]
    return "\n".join([*lines, ""])


def confusion_text(matrix, classes):
    """Return a confusion matrix as text: its columns are numbered, and the names follow below."""
    width = max(4, len(str(matrix.max())) + 1, len(f" ({len(classes) - 1})"))
    rows = ["".join(f"{count:>{width}}" for count in row) for row in matrix]
    header = "".join(f"{f'({number})':>{width}}" for number in range(len(classes)))
    names = [f"({number}) {name}" for number, name in enumerate(classes)]
    return "\n".join([*rows, header, *names])


def confusion_counts(truth, probabilities):
    """Return the (classes, classes) confusion matrix: rows are true, columns predicted classes."""
    labels = range(probabilities.shape[1])
    return confusion_matrix(truth, probabilities.argmax(axis=1), labels=labels)


def most_confused(matrix, classes):
    """Return [(true class, predicted class, count)] of mistakes, the most frequent pair first."""
    pairs = [
        (classes[row], classes[column], int(matrix[row, column]))
        for row, column in np.argwhere(matrix)
        if row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MAX_PAIRS]


def most_confident_mistakes(truth, probabilities, limit):
    """Return the positions of up to `limit` wrong predictions, the highest probability first."""
    highest = probabilities.max(axis=1)
    mistakes = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    return mistakes[np.argsort(-highest[mistakes], kind="stable")][:limit]


def least_confident_correct(truth, probabilities, limit):
    """Return the positions of up to `limit` correct predictions, the lowest probability first.

    Only those below UNCERTAIN count, even if there are fewer than `limit` or none.
    """
    highest = probabilities.max(axis=1)
    correct = np.flatnonzero((probabilities.argmax(axis=1) == truth) & (highest < UNCERTAIN))
    return correct[np.argsort(highest[correct], kind="stable")][:limit]


def caption(position, photos, probabilities):
    """Return a photo's file name, its true class if it was missed, and the predicted class."""
    name, label = files.printable(photos.paths[position].name), photos.labels[position]
    predicted = int(probabilities[position].argmax())
    result = f"{photos.classes[predicted]} ({probabilities[position, predicted]:.2%})"
    if label != predicted:
        result = f"{photos.classes[label]} predicted as {result}"
    return f"{name}: {result}"


def draw_predictions(path, title, positions, photos, probabilities):
    """Draw a sheet of photos with their captions. Without photos, delete an earlier sheet."""
    if not len(positions):
        path.unlink(missing_ok=True)
        return
    pictures = [images.read_thumbnail(photos.paths[position]) for position in positions]
    captions = [caption(position, photos, probabilities) for position in positions]
    figures.draw_sheet(path, pictures, captions, title)
