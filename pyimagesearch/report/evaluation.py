"""Evaluate predictions: metrics, the text of report.txt, and pictures."""

import csv
import json

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.metrics import precision_recall_fscore_support as scores_per_class

from pyimagesearch import regression
from pyimagesearch.report import check, figures, intervals
from pyimagesearch.report.answers import percentage
from pyimagesearch.support import calibration, console, files, similarity

MAX_PAIRS = 10  # confused pairs of classes in a report
# The most classes whose confusion matrix is printed: 20 columns of 4 digits are 80 characters.
LARGEST_MATRIX = 20
# Below this probability, more than one in ten predictions of a calibrated classifier are wrong.
UNCERTAIN = 0.9
MISTAKES_TITLE = "The most confident mistakes"
UNCERTAIN_TITLE = "Correct predictions below 90 %, the least confident first"
SHOWN_FILE = "shown.json"  # the predictions of mistakes.png and uncertain.png, for report.html


def save_evaluation(folder, stem, photos, logits, temperature, limit, unlike=None):
    """Draw the pictures of an evaluation and print its report.

    Args:
        folder: where <stem>confusion.png, <stem>mistakes.png, <stem>uncertain.png,
            <stem>reliability.png and <stem>shown.json go, and <stem>confusion.csv if there are many
            classes.
        stem: "", or the name of a phase and an underscore.
        photos: datasets.Photos.
        logits: (n, classes) floats, or (n, 1), in the order of the photos, not calibrated.
        temperature: of the calibration; 1: none.
        limit: the number of mistakes, and of uncertain predictions, to show.
        unlike: (n,) bool, True for a photo that is unlike any training photo; None: unknown.

    Returns (metrics, report): the dict of `compute_metrics` with, as "calibration", that of
    `calibration_metrics`; and the text of report.txt.
    """
    truth, classes = photos.labels, photos.classes
    probabilities = calibration.probabilities(logits, temperature)
    matrix = confusion_counts(truth, probabilities)
    figures.draw_confusion(folder / f"{stem}confusion.png", matrix, classes)
    mistakes = most_confident_mistakes(truth, probabilities, limit)
    uncertain = least_confident_correct(truth, probabilities, limit)
    show_predictions(folder, stem, photos, probabilities, mistakes, uncertain)
    figures.draw_reliability(folder / f"{stem}reliability.png", truth, logits, temperature)
    metrics = compute_metrics(truth, probabilities, classes)
    metrics["calibration"] = calibration_metrics(truth, logits, temperature)
    matrix_path = folder / f"{stem}confusion.csv"
    if len(classes) > LARGEST_MATRIX:
        write_confusion(matrix_path, matrix, classes)
    report = report_text(metrics, photos, probabilities, mistakes, matrix_path.name)
    report += calibration_text(metrics["calibration"])
    if unlike is not None:
        count, share = int(unlike.sum()), float(unlike.mean())
        metrics["unlike_training_photos"] = {"photos": count, "share": share}
        report += f"{count:,} of {len(unlike):,} photos are unlike any training photo\n"
    console.show(report)
    console.info(f"{stem.removesuffix('_') or 'evaluation'}: {intervals.accuracy_text(metrics)}")
    return metrics, report


def show_predictions(folder, stem, photos, probabilities, mistakes, uncertain):
    """Draw sheets of the predictions at two lists of positions, and list them for report.html."""
    sheets = (("mistakes", MISTAKES_TITLE, mistakes), ("uncertain", UNCERTAIN_TITLE, uncertain))
    shown = {}
    for name, title, positions in sheets:
        shown[name] = [describe(position, photos, probabilities) for position in positions]
        path = folder / f"{stem}{name}.png"
        figures.draw_predictions(path, title, shown[name], photos.classes)
    # In ASCII: the name of a file may have bytes that are no valid UTF-8.
    files.write_text(folder / f"{stem}{SHOWN_FILE}", json.dumps(shown, indent=2))


def evaluate_regression(model, recipe, splits, csvs, recorded, folder):
    """Calibrate and evaluate a LogisticRegression.

    `csvs` are the paths of the features of each split, and `recorded` is what features.require
    returns about them. Returns (metrics, report) as `save_evaluation` does.
    """
    outputs = [
        regression.compute_outputs(model, csv, photos, recorded)
        for csv, photos in zip(csvs, splits, strict=True)
    ]
    pooled = [each for _, each in outputs]
    check.write(folder.parent / check.NAME, recipe, splits, pooled, outputs[2][0])
    chosen = similarity.choose_photos(splits.training.labels, similarity.MAX_TRAINING)
    outputs[0] = [output[chosen] for output in outputs[0]]
    return evaluate_outputs(folder, "", recipe, (), splits, outputs)


def evaluate_phase(network, data, checkpoint, folder):
    """Calibrate and evaluate a network after a phase; draw the training curves so far.

    `data` is the batches.PhaseData. The Checkpoint has the rows of history.csv. Returns
    (metrics, report) as `save_evaluation` does.
    """
    from pyimagesearch import networks

    recipe, name, photos = data.recipe, data.phase.name, data.photos
    figures.draw_history(folder, recipe, checkpoint.history)
    # The network that is saved and predicts computes in float32, so this one is evaluated.
    network = networks.with_logits(networks.float32_copy(network))
    # This model reads what the epochs read. That may be rounded to 16 bits: with `sample`, the
    # temperature is 10.80 either way.
    model, inputs = data.model(network), (batch for batch, _ in data.validation_batches())
    validation = compute_outputs(model, inputs, f"validation after {name}", photos.validation)
    model, inputs = data.evaluation_inputs(network)
    outputs = compute_outputs(model, inputs, f"evaluation after {name}", photos.evaluation)
    training = None  # the photos that predictions are compared with
    if data.number == len(recipe.phases) - 1:
        chosen = similarity.choose_photos(photos.training.labels, similarity.MAX_TRAINING)
        model, inputs = data.comparison_inputs(network, chosen)
        training = compute_outputs(model, inputs, "photos to compare predictions with", chosen)
    phases = recipe.phases[: data.number + 1]
    outputs = training, validation, outputs
    evaluation = evaluate_outputs(folder, f"{name}_", recipe, phases, photos, outputs)
    warn_if_worse(phases, checkpoint.history)
    return evaluation


def warn_if_worse(phases, history):
    """Print a warning if the last of the phases made the network worse on the validation photos.

    `history` has the rows of history.csv.
    """
    from pyimagesearch import training

    if len(phases) < 2 or phases[-1].held_out != phases[-2].held_out:
        return  # there is no phase before, or it had other validation photos
    before, after = (training.val_accuracy(phase, history) for phase in phases[-2:])
    if after < before:
        last = phases[-1]
        remedies = ["fewer epochs" if last.patience else "fewer epochs or patience=3"]
        remedies += ["a smaller learning_rate"] + ["keep_best=True"] * (not last.keep_best)
        console.warn(
            f"{last.name} made it worse on validation: val_accuracy {before:.3f} -> {after:.3f}. "
            f"What usually helps: {', '.join(remedies)}"
        )


def compute_outputs(model, batches, title, photos):
    """Return [(n, classes) logits, (n, channels) pooled features] of the photos in `batches`.

    The `model` computes them; `title` is that of the progress bar, and `photos` has its length.
    """
    from pyimagesearch import networks

    outputs, run = [], networks.predict_function(model)
    with console.progress(title, len(photos)) as advance:
        for batch in batches:
            outputs.append(run(batch))
            advance(len(batch))
    return networks.concatenate(outputs)


def evaluate_outputs(folder, stem, recipe, phases, splits, outputs):
    """Calibrate a classifier, and evaluate it with `save_evaluation`, whose result is returned.

    Args:
        phases: those that the classifier was trained with; logistic regression has none.
        splits: the datasets.Splits of the photos.
        outputs: [logits, pooled features] for each split. Those of training photos are of the
            chosen ones; predictions will be compared with them, which are saved in the folder. None
            for the training photos: nothing is compared.
    """
    training, (validation_logits, validation), (logits, evaluation) = outputs
    temperature = calibration.calibrate(recipe, phases, validation_logits, splits.validation.labels)
    unlike = None
    if training is not None:
        reference = similarity.fit(training[1], validation, splits.validation.labels)
        similarity.save(folder, reference)
        unlike = reference.are_unlike(evaluation)
    return save_evaluation(
        folder, stem, splits.evaluation, logits, temperature, recipe.mistakes, unlike
    )


def calibration_metrics(truth, logits, temperature):
    """Return {"temperature", "ece", "nll", "ece_before", "nll_before", "ece_by_chance"}.

    ECE is the expected calibration error, NLL the negative log-likelihood; "before" is without
    the calibration, and "by chance" is up to where probabilities may be right.
    """
    by_chance = calibration.error_by_chance(calibration.probabilities(logits, temperature))
    metrics = {"temperature": temperature, "ece_by_chance": by_chance}
    for end, value in (("", temperature), ("_before", 1)):
        probabilities = calibration.probabilities(logits, value)
        metrics[f"ece{end}"] = calibration.expected_calibration_error(truth, probabilities)
        metrics[f"nll{end}"] = calibration.log_loss(logits, truth, value)
    return metrics


def calibration_text(metrics):
    """Return the end of report.txt, from the dict of `calibration_metrics`."""
    is_calibrated = metrics["temperature"] != 1
    title = f"Calibrated with temperature {metrics['temperature']:.2f}"
    lines = ["", title if is_calibrated else "Not calibrated"]
    for name, words in (("ece", "expected calibration error"), ("nll", "negative log-likelihood")):
        remarks = [f"{metrics[f'{name}_before']:.3f} before"] if is_calibrated else []
        # Earlier versions did not store it.
        if name == "ece" and "ece_by_chance" in metrics:
            remarks.append(f"up to {metrics['ece_by_chance']:.3f} can be chance")
        lines.append(f"{words}: {metrics[name]:.3f}" + (f" ({'; '.join(remarks)})" * bool(remarks)))
    return "\n".join([*lines, ""])


def compute_metrics(truth, probabilities, classes):
    """Return the metrics of an evaluation, from 0 to 1, as metrics.json has them.

    They are {"accuracy", "accuracy_interval": [low, high], "baseline": {"class", "accuracy"},
    "classes": {name: {"precision", "recall", "f1", "support"}}}; support is the number of photos of
    the class.
    """
    predicted = probabilities.argmax(axis=1)
    names, labels = ("precision", "recall", "f1", "support"), range(len(classes))
    *scores, _ = scores_per_class(truth, predicted, labels=labels, zero_division=0)
    # scikit-learn's counts of the photos are floats if no prediction is correct.
    columns = *scores, np.bincount(truth, minlength=len(classes))
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


def report_text(metrics, photos, probabilities, mistakes, matrix_file="confusion.csv"):
    """Return the text of report.txt; `mistakes` are the positions of those to list.

    `metrics` are those of `compute_metrics`. If there are many classes, the text names the file of
    the confusion matrix instead.
    """
    truth, classes = photos.labels, photos.classes
    matrix = confusion_counts(truth, probabilities)
    options = {"labels": range(len(classes)), "target_names": classes, "zero_division": 0}
    lines = [
        classification_report(truth, probabilities.argmax(axis=1), **options),
        intervals.accuracy_text(metrics),
        *not_judged(metrics),
        "",
        f"Confusion matrix of {len(classes):,} classes: {matrix_file}"
        if len(classes) > LARGEST_MATRIX
        else confusion_text(matrix, classes),
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


def not_judged(metrics):
    """Return a line that names the classes without evaluation photos, or no line."""
    names = [repr(name) for name, row in metrics["classes"].items() if not row["support"]]
    if not names:
        return []
    return [f"not judged, because they have no evaluation photos: {console.listed(names)}"]


def confusion_text(matrix, classes):
    """Return a confusion matrix as text: its columns are numbered, and the names follow below."""
    title = "Confusion matrix (rows: true classes, columns: predicted classes)"
    width = max(4, len(str(matrix.max())) + 1, len(f" ({len(classes) - 1})"))
    rows = ["".join(f"{count:>{width}}" for count in row) for row in matrix]
    header = "".join(f"{f'({number})':>{width}}" for number in range(len(classes)))
    names = [f"({number}) {name}" for number, name in enumerate(classes)]
    return "\n".join([title, *rows, header, *names])


def write_confusion(path, matrix, classes):
    """Write a confusion matrix as CSV; its first row and column are the names of the classes."""
    options = {"newline": "", "encoding": "utf-8"}
    with files.atomic_write(path) as partial_path, open(partial_path, "w", **options) as file:
        writer = csv.writer(file)
        writer.writerow(["true class / predicted class", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))


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


def describe(position, photos, probabilities):
    """Return {"photo": path, "class", "predicted": class, "probability"} of a prediction."""
    predicted = int(probabilities[position].argmax())
    return {
        "photo": str(photos.paths[position]),
        "class": photos.classes[photos.labels[position]],
        "predicted": photos.classes[predicted],
        "probability": float(probabilities[position, predicted]),
    }


def caption(position, photos, probabilities):
    """Return a photo's file name, its true class if it was missed, and the predicted class."""
    prediction = describe(position, photos, probabilities)
    result = f"{prediction['predicted']} ({percentage(prediction['probability'])})"
    if prediction["class"] != prediction["predicted"]:
        result = f"{prediction['class']} predicted as {result}"
    return f"{files.printable(photos.paths[position].name)}: {result}"
