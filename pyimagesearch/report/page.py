"""report.html: one page about one training, with its pictures inside. It opens without a server."""

import base64
import io
from dataclasses import asdict
from pathlib import Path

import jinja2
from PIL import Image

from pyimagesearch.classifier import METRICS_FILE, REPORT_FILE
from pyimagesearch.report import intervals
from pyimagesearch.support import console, files

NAME = "report.html"
WEBP_QUALITY = 85  # of 100; the text in the figures stays sharp
TEMPLATE = Path(__file__).with_name("report.html.jinja")
# Captions by the end of the picture's file name. They say what to look for.
CAPTIONS = {
    "confusion": "Rows are true classes, columns are predicted classes.",
    "mistakes": "The wrong predictions with the highest probability. Look for wrong labels, for "
    "photos that show two classes, and for what the mistakes have in common.",
    "uncertain": "The correct predictions that are uncertain, the lowest probability first. These "
    "photos were nearly mistakes.",
    "reliability": "Accuracy by the probability of the predicted class; the numbers count photos. "
    "A bar that ends at the dashed line is right as often as its probability says.",
    "history": "All phases in order. A dashed line marks the start of a phase.",
    "smoothed": "The same curves as moving averages.",
    "first_look": "A few training photos of each class.",
    "augmentation": "The subject of the photo should be recognisable in every version.",
}
EVALUATION = ("confusion", "mistakes", "uncertain", "reliability")  # in the order of the page
# Fields of a recipe that logistic regression does not use.
FINE_TUNING_FIELDS = ("head", "augmentation", "views", "class_weights", "phases", "smoothing")
# The settings that are on by default. They are shown when they are off, the others when on.
ON_BY_DEFAULT = ("augment", "shuffle")


def write_if_missing(folder, recipe):
    """Write the page of a finished classifier, if it has none, and print the path."""
    if not (folder / NAME).is_file():
        console.info(f"report: {write(folder, recipe)}")


def write(folder, recipe):
    """Write the page of a finished classifier into its folder and return the path.

    The name of the folder is the method. The pictures are embedded, so the page can be moved or
    mailed as a single file.
    """
    folder = Path(folder)
    metrics = files.read_json(folder / METRICS_FILE)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        recipe=recipe,
        method=folder.name.replace("_", " "),
        metrics=metrics,
        baseline=intervals.baseline(metrics["classes"]),
        interval=lambda accuracy: intervals.interval(accuracy, metrics["photos"]["evaluation"]),
        sections=[
            (heading, [(embed(path), caption_of(path)) for path in paths if path.is_file()])
            for heading, paths in sections(folder, list(metrics.get("phases", {})))
        ],
        settings=settings(recipe, folder.name),
        text=(folder / REPORT_FILE).read_text(encoding="utf-8"),
    )
    files.write_text(folder / NAME, page)
    return folder / NAME


def sections(folder, phases):
    """Return [(heading, paths of PNGs)] in the order of the page. A file may be missing."""

    def evaluation(stem):
        return [folder / f"{stem}{name}.png" for name in EVALUATION]

    if not phases:
        first_look = [folder.parent / "first_look.png"]
        return [("Evaluation", evaluation("")), ("Training photos", first_look)]
    curves = ["history"] if len(phases) > 1 else []
    curves += [f"{phase}{end}" for phase in phases for end in ("", "_smoothed")]
    photos = ("first_look", "augmentation")
    return [
        # The evaluation after the last phase is the one of the finished classifier.
        ("Evaluation", evaluation(f"{phases[-1]}_")),
        ("Training curves", [folder / f"{name}.png" for name in curves]),
        *((f"Evaluation after {phase}", evaluation(f"{phase}_")) for phase in phases[:-1]),
        ("Training photos", [folder.parent / f"{name}.png" for name in photos]),
    ]


def caption_of(path):
    """Return the caption of a picture."""
    other = f"Loss and accuracy after each epoch of the phase {path.stem}."
    return next((text for end, text in CAPTIONS.items() if path.stem.endswith(end)), other)


def embed(path):
    """Return a PNG as a data URL of WebP: a sheet of photos takes a tenth of the bytes."""
    webp = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(webp, "WEBP", quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"


def settings(recipe, method):
    """Return [(field, text)] of the recipe's fields that a method uses and that are set."""
    values, hidden = asdict(recipe), ["name", "method"]
    if method == "logistic_regression":
        hidden += FINE_TUNING_FIELDS
        # The only setting of the head that features depend on.
        values["pooling"] = recipe.head.pooling
    elif not any(phase.augment for phase in recipe.phases):
        hidden += ["augmentation", "views"]
    elif recipe.views is None:
        values["views"] = "None: every photo gets a new augmentation in every epoch"
    rows = []
    for field, value in values.items():
        if field in hidden or value in (None, ""):
            continue
        if field == "phases":
            rows += [(f"phase {phase.pop('name')}", format_fields(phase)) for phase in value]
        elif isinstance(value, dict):
            rows.append((field, format_fields(value)))
        else:
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            rows.append((field, text))
    return rows


def format_fields(fields):
    """Return fields as text, without those that are None, or off by default and off."""
    return ", ".join(
        f"{name}={value!r}"
        for name, value in fields.items()
        if value is not None and (value is not False or name in ON_BY_DEFAULT)
    )
