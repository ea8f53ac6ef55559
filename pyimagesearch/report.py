"""What one evaluation showed: numbers, text, and the pictures that go with them."""

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from pyimagesearch import files, images, pictures

PAIRS = 10  # most confused pairs of classes in a report
CERTAIN = 0.99995  # from here on a probability reads as 100.00%


def as_text(truth, probabilities, classes):
    """Return scikit-learn's classification report, a line a class in the order of `classes`.

    Args:
        truth: (n,) ints, indices into `classes`.
        probabilities: (n, classes) floats.
        classes: the class names.
    """
    return classification_report(
        truth,
        probabilities.argmax(axis=1),
        labels=range(len(classes)),
        target_names=classes,
        zero_division=0,
    )


def as_numbers(truth, probabilities, classes):
    """Return {"accuracy": share from 0 to 1, "classes": {name: precision, recall, f1, support}}."""
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


def confusion_text(truth, probabilities, classes):
    """Return the confusion matrix as text: rows are true classes, columns predicted ones.

    Under it a line a class tells which number stands for it.
    """
    matrix = confusion(truth, probabilities)
    width = max(4, len(str(matrix.max())) + 1, len(f" ({len(classes) - 1})"))
    lines = ["".join(f"{number:>{width}}" for number in row) for row in matrix]
    header = "".join(f"{f'({number})':>{width}}" for number in range(len(classes)))
    names = [f"({number}) {name}" for number, name in enumerate(classes)]
    return "\n".join([*lines, header, *names])


def confusion(truth, probabilities):
    """Return the (classes, classes) counts of true class (row) against predicted one (column)."""
    labels = range(probabilities.shape[1])
    return confusion_matrix(truth, probabilities.argmax(axis=1), labels=labels)


def most_confused(truth, probabilities, classes):
    """Return [(true class, class it was taken for, how often)], the most frequent first."""
    matrix = confusion(truth, probabilities)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:PAIRS]
    pairs = zip(*np.unravel_index(order, matrix.shape), strict=True)
    return [(classes[a], classes[b], int(matrix[a, b])) for a, b in pairs if matrix[a, b]]


def confident_mistakes(truth, probabilities, count):
    """Return the positions of the wrong answers with the most misplaced confidence, worst first.

    The order is by |truth - probability| of the true class: the less likely the right answer
    seemed, the worse.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    return least_likely(wrong, truth, probabilities, count)


def uncertain_successes(truth, probabilities, count):
    """Return the positions of the right answers given with the least certainty, lowest first.

    An answer that reads as 100.00% is none of them, however few others there are.
    """
    uncertain = probabilities.max(axis=1) < CERTAIN
    right = np.flatnonzero((probabilities.argmax(axis=1) == truth) & uncertain)
    return least_likely(right, truth, probabilities, count)


def least_likely(positions, truth, probabilities, count):
    """Return those of some positions where the right answer seemed least likely, lowest first."""
    right_answer = probabilities[positions, truth[positions]]
    return positions[np.argsort(right_answer, kind="stable")][:count]


def save_evaluation(folder, stem, photos, probabilities, count):
    """Write the pictures of one evaluation; return (numbers, text) of it.

    Args:
        folder: of the classifier; gets <stem>confusion.png, <stem>mistakes.png and
            <stem>uncertain.png.
        stem: "" or the name of a phase with an underscore.
        photos: the images.Photos evaluated.
        probabilities: (n, classes) floats, in the order of the photos.
        count: how many of the most confident mistakes, and of the least certain right answers.
    """
    truth, classes = photos.labels, photos.classes
    matrix = confusion(truth, probabilities)
    pictures.draw_confusion(folder / f"{stem}confusion.png", matrix, classes)
    mistakes = describe(confident_mistakes(truth, probabilities, count), photos, probabilities)
    draw_answers(folder / f"{stem}mistakes.png", mistakes, "The most confident mistakes")
    right = describe(uncertain_successes(truth, probabilities, count), photos, probabilities)
    draw_answers(folder / f"{stem}uncertain.png", right, "Right, but with the least certainty")
    pairs = most_confused(truth, probabilities, classes)
    text = "\n".join(
        [
            as_text(truth, probabilities, classes),
            "Confusion matrix: a row is a true class, a column what it was taken for",
            confusion_text(truth, probabilities, classes),
            "",
            *(["The most confused pairs"] if pairs else []),
            *(
                f"{a} taken for {b}: {times} of {matrix[classes.index(a)].sum():,}"
                for a, b, times in pairs
            ),
            *([""] if pairs else []),
            "The most confident mistakes" if mistakes else "No mistakes",
            *(line for _, line in mistakes),
            "",
        ]
    )
    return as_numbers(truth, probabilities, classes), text


def describe(positions, photos, probabilities):
    """Return (path, line) an answer: file name, true class, predicted class, its probability."""
    answers = []
    for position in positions:
        path = photos.paths[position]
        truth, predicted = photos.labels[position], int(probabilities[position].argmax())
        words = photos.classes[predicted]
        if truth != predicted:
            words = f"{photos.classes[truth]} taken for {words}"
        share = probabilities[position, predicted]
        answers.append((path, f"{files.printable(path.name)}: {words} ({share:.2%})"))
    return answers


def draw_answers(path, answers, title):
    """Draw a sheet of `describe`d answers; where there are none, none stays from before."""
    if not answers:
        path.unlink(missing_ok=True)
        return
    photos = [images.read_for_sheet(photo) for photo, _ in answers]
    pictures.draw_sheet(path, photos, [line for _, line in answers], title)
