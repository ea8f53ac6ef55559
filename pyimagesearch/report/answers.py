"""Format the predictions that predict.py prints: text for a person, JSON and CSV for a program."""

import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

from pyimagesearch.recipe import folder_name
from pyimagesearch.report import intervals
from pyimagesearch.support import console, sources

# From here on, a probability is printed as > 99 %.
CERTAIN = 0.995
FORMATS = ("table", "lines", "json", "jsonl", "csv")
UNLIKE, UNLIKE_COLUMN = "unlike any training photo", "unlike_training_photos"


class Answer(NamedTuple):
    """The prediction for one photo."""

    name: str  # its path or URL
    top_classes: list  # [(class name, probability from 0 to 1)], most likely class first
    unlike: bool | None = None  # True: it is unlike any training photo; None: unknown
    # The class whose folder it is in. "": in none, but another photo of the run is. None: none is.
    folder_class: str | None = None


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
        self.count = self.unlike_count = 0
        self.are_correct = []  # one for each photo in a folder of a class

    def add(self, name, top_classes, unlike=None):
        """Return the prediction for the next photo as `format_answer` does."""
        folder_class = self.folder_classes.get(name, "" if self.folder_classes else None)
        if folder_class:
            self.are_correct.append(top_classes[0][0] == folder_class)
        self.count += 1
        self.unlike_count += bool(unlike)
        answer = Answer(name, top_classes, unlike, folder_class)
        return format_answer(self.kind, answer, self.count == 1, self.encoding)

    def report(self):
        """Print how many photos are unlike any training photo, and how many predictions correct."""
        if self.unlike_count:
            console.info(
                f"{self.unlike_count:,} of {self.count:,} photos are unlike any training photo: "
                f"do not rely on their classes"
            )
        count, correct = len(self.are_correct), sum(self.are_correct)
        if count > 1:
            accuracy = correct / count
            console.info(
                f"{correct:,} of {count:,} photos in folders of classes are correct: accuracy "
                f"{accuracy:.3f} (95 % interval {intervals.interval_text(accuracy, count)})"
            )


def format_answer(kind, answer, first=True, encoding="utf-8"):
    """Return an Answer as text, without a newline at the end.

    Args:
        kind: one of FORMATS; another one raises ValueError.
        first: True for the first answer of a run; CSV starts with a row of column names.
        encoding: of the stream that the text is printed to, or None if it is unknown.
    """
    name, top_classes = answer.name, answer.top_classes
    match kind:
        case "table":
            classes = ", ".join(f"{label}: {percentage(value)}" for label, value in top_classes)
            # A file name may contain line breaks.
            return f"{' '.join(name.splitlines())}  {classes}{marks(answer)}"
        case "lines":  # as the third tutorial prints them
            lines = [f"{percentage(value):>6} : {label}" for label, value in top_classes]
            return "\n".join([name, *lines])
        case "json" | "jsonl":  # JSON Lines: one object per line
            # Python would replace characters that the stream cannot print with \xXX or \UXXXXXXXX,
            # which are not JSON. Characters beyond ASCII are written as \uXXXX instead.
            ensure_ascii = "utf" not in (encoding or "").lower()
            return json.dumps(as_dict(answer), ensure_ascii=ensure_ascii)
        case "csv":
            return format_csv(answer, first)
    raise ValueError(f"there is no answer format {kind!r}; use one of {', '.join(FORMATS)}")


def marks(answer):
    """Return what a line of the table ends with: what the folder says, and a warning."""
    mark, folder_class = "", answer.folder_class
    if folder_class:
        is_correct = answer.top_classes[0][0] == folder_class
        mark = "  correct" if is_correct else f"  wrong: it is in {folder_name(folder_class)}/"
    return mark + f"  ({UNLIKE})" * bool(answer.unlike)


def as_dict(answer):
    """Return an Answer as `--format json` prints it."""
    classes = [{"class": label, "probability": value} for label, value in answer.top_classes]
    result = {"image": answer.name, "classes": classes}
    if answer.unlike is not None:
        result[UNLIKE_COLUMN] = answer.unlike
    if answer.folder_class is not None:
        result["folder_class"] = answer.folder_class or None
    return result


def percentage(probability):
    """Return a probability in whole percent, as text for a person: 97 %, > 99 % or < 1 %.

    A few dozen photos cannot tell 99.5 % from 100 %.
    """
    if probability >= CERTAIN:
        return "> 99 %"
    return f"{100 * probability:.0f} %" if probability > 1 - CERTAIN else "< 1 %"


def format_csv(answer, first):
    """Return one row of CSV; the first answer has the column names above it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["image", "class", "probability"]
    for rank in range(2, len(answer.top_classes) + 1):
        columns += [f"class_{rank}", f"probability_{rank}"]
    values = [answer.name, *(value for pair in answer.top_classes for value in pair)]
    if answer.unlike is not None:
        columns.append(UNLIKE_COLUMN)
        values.append("true" if answer.unlike else "false")
    if answer.folder_class is not None:
        columns.append("folder_class")
        values.append(answer.folder_class)
    if first:
        writer.writerow(columns)
    writer.writerow(values)
    return text.getvalue().removesuffix("\n")
