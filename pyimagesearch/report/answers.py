"""Format the predictions that predict.py prints: text for a person, JSON and CSV for a program."""

import csv
import io
import json
from pathlib import Path

from pyimagesearch.recipe import folder_name
from pyimagesearch.report import intervals
from pyimagesearch.support import console, sources

# From here on, a probability is printed as > 99 %.
CERTAIN = 0.995
FORMATS = ("table", "lines", "json", "csv")


class Answers:
    """The predictions of one run as text, compared with the folders that the photos are in.

    A photo in a folder that has the name of a class should be predicted as this class.

    Args:
        kind: one of FORMATS.
        names: the paths and URLs of all photos.
        classes: the names of the classifier's classes.
        encoding: of the stream that the text is printed to, or None if it is unknown.
    """

    def __init__(self, kind, names, classes, encoding):
        self.kind, self.encoding = kind, encoding
        folders = {folder_name(label): label for label in classes}
        paths = [name for name in names if not sources.is_url(name)]
        parents = {name: folder_name(Path(name).parent.name) for name in paths}
        self.folder_classes = {
            name: folders[parent] for name, parent in parents.items() if parent in folders
        }
        self.count = 0
        self.are_correct = []  # one for each photo in a folder of a class

    def add(self, name, top_classes):
        """Return the prediction for the next photo as `format_answer` does."""
        folder_class = self.folder_classes.get(name, "" if self.folder_classes else None)
        if folder_class:
            self.are_correct.append(top_classes[0][0] == folder_class)
        self.count += 1
        first = self.count == 1
        return format_answer(self.kind, name, top_classes, first, self.encoding, folder_class)

    def report(self):
        """Print how many predictions are correct, if more than one can be compared."""
        count, correct = len(self.are_correct), sum(self.are_correct)
        if count > 1:
            accuracy = correct / count
            console.info(
                f"{correct:,} of {count:,} photos in folders of classes are correct: accuracy "
                f"{accuracy:.3f} (95 % interval {intervals.interval_text(accuracy, count)})"
            )


def format_answer(kind, name, top_classes, first=True, encoding="utf-8", folder_class=None):
    """Return the prediction for one photo as text, without a newline at the end.

    Args:
        kind: one of FORMATS; another one raises ValueError.
        name: the photo's path or URL.
        top_classes: [(class name, probability from 0 to 1)], most likely class first.
        first: True for the first answer of a run; CSV starts with a row of column names.
        encoding: of the stream that the text is printed to, or None if it is unknown.
        folder_class: the class whose folder the photo is in; "" if it is in none, but another photo
            of the run is; None: leave it out.
    """
    match kind:
        case "table":
            classes = ", ".join(f"{label}: {percentage(value)}" for label, value in top_classes)
            # A file name may contain line breaks.
            mark = mark_text(top_classes[0][0], folder_class)
            return f"{' '.join(name.splitlines())}  {classes}{mark}"
        case "lines":  # as the third tutorial prints them
            lines = [f"{percentage(value):>6} : {label}" for label, value in top_classes]
            return "\n".join([name, *lines])
        case "json":
            classes = [{"class": label, "probability": value} for label, value in top_classes]
            # Python would replace characters that the stream cannot print with \xXX or \UXXXXXXXX,
            # which are not JSON. Characters beyond ASCII are written as \uXXXX instead.
            ensure_ascii = "utf" not in (encoding or "").lower()
            answer = {"image": name, "classes": classes}
            if folder_class is not None:
                answer["folder_class"] = folder_class or None
            return json.dumps(answer, ensure_ascii=ensure_ascii)
        case "csv":
            return format_csv(name, top_classes, first, folder_class)
    raise ValueError(f"there is no answer format {kind!r}; use one of {', '.join(FORMATS)}")


def mark_text(predicted, folder_class):
    """Return what a line of the table ends with: whether the folder has the predicted class."""
    if not folder_class:
        return ""
    if predicted == folder_class:
        return "  correct"
    return f"  wrong: it is in {folder_name(folder_class)}/"


def percentage(probability):
    """Return a probability in whole percent, as text for a person: 97 %, > 99 % or < 1 %.

    A few dozen photos cannot tell 99.5 % from 100 %.
    """
    if probability >= CERTAIN:
        return "> 99 %"
    return f"{100 * probability:.0f} %" if probability > 1 - CERTAIN else "< 1 %"


def format_csv(name, top_classes, first, folder_class):
    """Return one row of CSV; the first answer has the column names above it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["image", "class", "probability"]
    for rank in range(2, len(top_classes) + 1):
        columns += [f"class_{rank}", f"probability_{rank}"]
    values = [name, *(value for pair in top_classes for value in pair)]
    if folder_class is not None:
        columns.append("folder_class")
        values.append(folder_class)
    if first:
        writer.writerow(columns)
    writer.writerow(values)
    return text.getvalue().removesuffix("\n")
