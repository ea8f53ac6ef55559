"""Format the predictions that predict.py prints: text for a person, JSON and CSV for a program."""

import csv
import io
import json

FORMATS = ("table", "lines", "json", "csv")


def format_answer(kind, name, top_classes, first=True, encoding="utf-8"):
    """Return the prediction for one photo as text, without a newline at the end.

    Args:
        kind: one of FORMATS.
        name: the photo's path or web address.
        top_classes: [(class name, probability from 0 to 1)], most likely class first.
        first: True for the first answer of a run; CSV starts with a row of column names.
        encoding: of the stream that the text is printed to, or None if it is unknown.

    Raises:
        ValueError: `kind` is not in FORMATS.
    """
    match kind:
        case "table":
            return format_table(name, top_classes)
        case "lines":
            return format_lines(name, top_classes)
        case "json":
            return format_json(name, top_classes, encoding)
        case "csv":
            return format_csv(name, top_classes, first)
    raise ValueError(f"there is no answer format {kind!r}; use one of {', '.join(FORMATS)}")


def format_table(name, top_classes):
    """Return a photo's classes on one line."""
    classes = ", ".join(f"{label}: {probability:.2%}" for label, probability in top_classes)
    # A file name may contain line breaks.
    return f"{' '.join(name.splitlines())}  {classes}"


def format_lines(name, top_classes):
    """Return a photo's name, then one line per class, as the third tutorial prints them."""
    return "\n".join(
        [name, *(f"{probability:7.2%} : {label}" for label, probability in top_classes)]
    )


def format_json(name, top_classes, encoding="utf-8"):
    """Return one line of JSON.

    If `encoding` is not a UTF encoding, characters beyond ASCII are written as \\uXXXX. Python
    would replace those that the stream cannot print with \\xXX or \\UXXXXXXXX, which are not JSON.
    """
    classes = [{"class": label, "probability": probability} for label, probability in top_classes]
    prints_unicode = "utf" in (encoding or "").lower()
    return json.dumps({"image": name, "classes": classes}, ensure_ascii=not prints_unicode)


def format_csv(name, top_classes, first=True):
    """Return one row of CSV; the first answer has a row of column names above it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if first:
        writer.writerow(column_names(len(top_classes)))
    writer.writerow([name, *(value for pair in top_classes for value in pair)])
    return text.getvalue().removesuffix("\n")


def column_names(class_count):
    """Return image, class, probability, class_2, probability_2 and so on."""
    names = ["image"]
    for rank in range(1, class_count + 1):
        suffix = f"_{rank}" if rank > 1 else ""
        names += [f"class{suffix}", f"probability{suffix}"]
    return names
