"""Format the predictions that predict.py prints: text for a person, JSON and CSV for a program."""

import csv
import io
import json

FORMATS = ("table", "lines", "json", "csv")


def format_answer(kind, name, top_classes, first=True, encoding="utf-8"):
    """Return the prediction for one photo as text, without a newline at the end.

    Args:
        kind: one of FORMATS; another one raises ValueError.
        name: the photo's path or URL.
        top_classes: [(class name, probability from 0 to 1)], most likely class first.
        first: True for the first answer of a run; CSV starts with a row of column names.
        encoding: of the stream that the text is printed to, or None if it is unknown.
    """
    match kind:
        case "table":
            classes = ", ".join(f"{label}: {probability:.2%}" for label, probability in top_classes)
            # A file name may contain line breaks.
            return f"{' '.join(name.splitlines())}  {classes}"
        case "lines":  # as the third tutorial prints them
            lines = [f"{probability:7.2%} : {label}" for label, probability in top_classes]
            return "\n".join([name, *lines])
        case "json":
            classes = [{"class": label, "probability": value} for label, value in top_classes]
            # Python would replace characters that the stream cannot print with \xXX or \UXXXXXXXX,
            # which are not JSON. Characters beyond ASCII are written as \uXXXX instead.
            ensure_ascii = "utf" not in (encoding or "").lower()
            return json.dumps({"image": name, "classes": classes}, ensure_ascii=ensure_ascii)
        case "csv":
            return format_csv(name, top_classes, first)
    raise ValueError(f"there is no answer format {kind!r}; use one of {', '.join(FORMATS)}")


def format_csv(name, top_classes, first):
    """Return one row of CSV; the first answer has the column names above it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if first:
        columns = ["image", "class", "probability"]
        for rank in range(2, len(top_classes) + 1):
            columns += [f"class_{rank}", f"probability_{rank}"]
        writer.writerow(columns)
    writer.writerow([name, *(value for pair in top_classes for value in pair)])
    return text.getvalue().removesuffix("\n")
