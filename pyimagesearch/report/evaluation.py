"""Evaluate predictions: metrics, the text of report.txt, and pictures."""

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from pyimagesearch import images
from pyimagesearch.report import figures
from pyimagesearch.support import console, files

MAX_PAIRS = 10  # confused pairs of classes in a report
# From here on, a probability is printed as 100.00%.
CERTAIN = 0.99995
MISTAKES_TITLE = "The most confident mistakes"
UNCERTAIN_TITLE = "The least confident correct predictions"


def save_evaluation(folder, stem, photos, probabilities, limit):
    """Draw the pictures of an evaluation and print its report.

    Args:
        folder: where <stem>confusion.png, <stem>mistakes.png and <stem>uncertain.png go.
        stem: "", or the name of a phase and an underscore.
        photos: the evaluated photos, a list with `paths`, `labels` and `classes`.
        probabilities: (n, classes) floats, in the order of the photos.
        limit: the number of mistakes, and of uncertain predictions, to show.

    Returns:
        (numbers, text): the dict of `as_numbers`, and the text of report.txt.
    """
    truth, classes = photos.labels, photos.classes
    figures.draw_confusion(
        folder / f"{stem}confusion.png", confusion_counts(truth, probabilities), classes
    )
    mistakes = describe(most_confident_mistakes(truth, probabilities, limit), photos, probabilities)
    draw_predictions(folder / f"{stem}mistakes.png", mistakes, MISTAKES_TITLE)
    uncertain = describe(
        least_confident_correct(truth, probabilities, limit), photos, probabilities
    )
    draw_predictions(folder / f"{stem}uncertain.png", uncertain, UNCERTAIN_TITLE)
    text = report_text(photos, probabilities, mistakes)
    console.show(text)
    return as_numbers(truth, probabilities, classes), text


def evaluate_phase(network, data, history, folder):
    """Evaluate a network after a phase, and draw the training curves so far.

    Args:
        network: from networks.build, after the phase.
        data: batches.PhaseData of the phase.
        history: the rows of history.csv.
        folder: of the classifier.

    Returns:
        (numbers, text), as `save_evaluation` returns them.
    """
    from pyimagesearch import classifier, networks

    recipe, phase, photos = data.recipe, data.phase, data.splits.evaluation
    figures.draw_history(folder, recipe, history)
    # The network that is saved and predicts computes in float32, so this one is evaluated.
    model, inputs = data.evaluation_inputs(networks.float32_copy(network))
    predict = classifier.predict_function(model)
    with console.progress(f"evaluation after {phase.name}", len(photos)) as advance:
        probabilities = classifier.predict_batches(predict, inputs, advance)
    stem = f"{phase.name}_"
    numbers, text = save_evaluation(folder, stem, photos, probabilities, recipe.mistakes)
    console.info(f"{phase.name}: accuracy {numbers['accuracy']:.3f} on {len(photos):,} photos")
    return numbers, text


def as_numbers(truth, probabilities, classes):
    """Return the metrics of an evaluation, each from 0 to 1.

    Args:
        truth: (n,) ints, indices into `classes`.
        probabilities: (n, classes) floats.
        classes: the class names.

    Returns:
        {"accuracy": float, "classes": {name: {"precision", "recall", "f1", "support"}}}. Support
        is the number of photos of the class.
    """
    predicted = probabilities.argmax(axis=1)
    rows = classification_report(
        truth,
        predicted,
        labels=range(len(classes)),
        target_names=classes,
        zero_division=0,
        output_dict=True,
    )
    per_class = {
        name: {
            "precision": rows[name]["precision"],
            "recall": rows[name]["recall"],
            "f1": rows[name]["f1-score"],
            "support": int(rows[name]["support"]),
        }
        for name in classes
    }
    return {"accuracy": float(np.mean(predicted == truth)), "classes": per_class}


def as_text(truth, probabilities, classes):
    """Return scikit-learn's classification report, classes in the order of `classes`."""
    return classification_report(
        truth,
        probabilities.argmax(axis=1),
        labels=range(len(classes)),
        target_names=classes,
        zero_division=0,
    )


def report_text(photos, probabilities, mistakes):
    """Return the text of report.txt.

    Args:
        photos: the evaluated photos.
        probabilities: (n, classes) floats, in the order of the photos.
        mistakes: [(path, caption)] of the mistakes to list.
    """
    truth, classes = photos.labels, photos.classes
    lines = [
        as_text(truth, probabilities, classes),
        "Confusion matrix (rows: true classes, columns: predicted classes)",
        confusion_text(truth, probabilities, classes),
        "",
    ]
    pairs = most_confused(truth, probabilities, classes)
    if pairs:
        support = dict(zip(classes, np.bincount(truth, minlength=len(classes)), strict=True))
        lines += ["The most confused pairs"]
        lines += [
            f"{true_class} predicted as {predicted_class}: {count} of {support[true_class]:,}"
            for true_class, predicted_class, count in pairs
        ]
        lines += [""]
    lines += [MISTAKES_TITLE if mistakes else "No mistakes"]
    lines += [caption for _, caption in mistakes]
    return "\n".join([*lines, ""])


def confusion_text(truth, probabilities, classes):
    """Return the confusion matrix as text: rows are true classes, columns predicted classes.

    The columns are numbered; the names of the classes follow below.
    """
    matrix = confusion_counts(truth, probabilities)
    width = max(4, len(str(matrix.max())) + 1, len(f" ({len(classes) - 1})"))
    rows = ["".join(f"{count:>{width}}" for count in row) for row in matrix]
    header = "".join(f"{f'({number})':>{width}}" for number in range(len(classes)))
    names = [f"({number}) {name}" for number, name in enumerate(classes)]
    return "\n".join([*rows, header, *names])


def confusion_counts(truth, probabilities):
    """Return the (classes, classes) confusion matrix: rows are true, columns predicted classes."""
    labels = range(probabilities.shape[1])
    return confusion_matrix(truth, probabilities.argmax(axis=1), labels=labels)


def most_confused(truth, probabilities, classes):
    """Return [(true class, predicted class, count)] of mistakes, the most frequent pair first."""
    matrix = confusion_counts(truth, probabilities)
    np.fill_diagonal(matrix, 0)
    most_frequent = np.argsort(-matrix, axis=None, kind="stable")[:MAX_PAIRS]
    rows, columns = np.unravel_index(most_frequent, matrix.shape)
    return [
        (classes[row], classes[column], int(matrix[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if matrix[row, column]
    ]


def most_confident_mistakes(truth, probabilities, limit):
    """Return the positions of the wrong predictions, the worst first.

    The worst gives the true class the lowest probability, so |truth - probability| is largest.
    """
    mistakes = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    return lowest_first(mistakes, truth, probabilities, limit)


def least_confident_correct(truth, probabilities, limit):
    """Return the positions of the correct predictions, the lowest probability first.

    Predictions that are printed as 100.00% are left out, even if there are fewer than `limit`.
    """
    uncertain = probabilities.max(axis=1) < CERTAIN
    correct = np.flatnonzero((probabilities.argmax(axis=1) == truth) & uncertain)
    return lowest_first(correct, truth, probabilities, limit)


def lowest_first(positions, truth, probabilities, limit):
    """Return up to `limit` positions, sorted by the probability of the true class."""
    of_true_class = probabilities[positions, truth[positions]]
    return positions[np.argsort(of_true_class, kind="stable")][:limit]


def describe(positions, photos, probabilities):
    """Return [(path, caption)] of predictions: file name, true and predicted class, probability."""
    described = []
    for position in positions:
        path, label = photos.paths[position], photos.labels[position]
        predicted = int(probabilities[position].argmax())
        result = photos.classes[predicted]
        if label != predicted:
            result = f"{photos.classes[label]} predicted as {result}"
        probability = probabilities[position, predicted]
        described.append((path, f"{files.printable(path.name)}: {result} ({probability:.2%})"))
    return described


def draw_predictions(path, described, title):
    """Draw a sheet of photos with their captions. Without photos, delete an earlier sheet."""
    if not described:
        path.unlink(missing_ok=True)
        return
    pictures = [images.read_thumbnail(photo) for photo, _ in described]
    figures.draw_sheet(path, pictures, [caption for _, caption in described], title)
