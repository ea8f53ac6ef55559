"""report.html: one page about one training, with its pictures inside. It opens without a server."""

import base64
from dataclasses import asdict
from pathlib import Path

import jinja2

from pyimagesearch.classifier import METRICS_FILE, REPORT_FILE
from pyimagesearch.support import files

NAME = "report.html"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
EVALUATION_PICTURES = ("confusion", "mistakes", "uncertain")
# Captions by the end of the picture's file name. They say what to look for.
CAPTIONS = {
    "confusion": "Rows are true classes, columns are predicted classes.",
    "mistakes": "The wrong predictions that gave the true class the lowest probability. Look for "
    "wrong labels, for photos that show two classes, and for what the mistakes have in common.",
    "uncertain": "The correct predictions with the lowest probability. These photos were nearly "
    "mistakes.",
    "history": "All phases in order. A dashed line marks the start of a phase.",
    "smoothed": "The same curves as moving averages.",
    "first_look": "A few training photos of each class.",
    "augmentation": "The subject of the photo should be recognisable in every version.",
}
# Fields of a recipe that logistic regression does not use.
FINE_TUNING_FIELDS = {"head", "augmentation", "views", "class_weights", "phases", "smoothing"}
# The settings that are on by default. They are shown when they are off, the others when on.
ON_BY_DEFAULT = ("augment", "shuffle")


def write(folder, recipe):
    """Write the page of a finished classifier into its folder and return the path.

    The pictures are embedded, so the page can be moved or mailed as a single file.

    Args:
        folder: of the classifier; its name is the method.
        recipe: the recipe that the classifier was trained with.
    """
    folder = Path(folder)
    metrics = files.read_json(folder / METRICS_FILE)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        recipe=recipe,
        method=folder.name.replace("_", " "),
        metrics=metrics,
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
    """Return [(heading, paths of PNGs)] in the order of the page. A file may be missing.

    Args:
        folder: of the classifier.
        phases: names of the phases; empty for logistic regression.
    """
    # The evaluation after the last phase is the one of the finished classifier.
    found = [("Evaluation", evaluation_pictures(folder, f"{phases[-1]}_" if phases else ""))]
    if phases:
        found += [("Training curves", curves(folder, phases))]
    for phase in phases[:-1]:
        found += [(f"Evaluation after {phase}", evaluation_pictures(folder, f"{phase}_"))]
    names = ("first_look", "augmentation") if phases else ("first_look",)
    found += [("Training photos", [folder.parent / f"{name}.png" for name in names])]
    return found


def evaluation_pictures(folder, stem):
    """Return the paths of an evaluation's pictures; `stem` is as in evaluation.save_evaluation."""
    return [folder / f"{stem}{name}.png" for name in EVALUATION_PICTURES]


def curves(folder, phases):
    """Return the paths of the training curves, those of all phases together first."""
    names = ["history"] if len(phases) > 1 else []
    for phase in phases:
        names += [phase, f"{phase}_smoothed"]
    return [folder / f"{name}.png" for name in names]


def caption_of(path):
    """Return the caption of a picture."""
    for end, caption in CAPTIONS.items():
        if path.stem.endswith(end):
            return caption
    return f"Loss and accuracy after each epoch of the phase {path.stem}."


def embed(path):
    """Return a PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def settings(recipe, method):
    """Return [(field, value)] of the recipe's fields that a method uses."""
    unused = unused_fields(recipe, method)
    rows = []
    for field, value in asdict(recipe).items():
        if field not in unused:
            rows += field_rows(field, value)
    if method == "logistic_regression":
        # The only setting of the head that features depend on.
        rows += [("pooling", recipe.head.pooling)]
    return rows


def unused_fields(recipe, method):
    """Return the names of the fields that are not shown for a method."""
    unused = {"name", "method"}
    if method == "logistic_regression":
        unused |= FINE_TUNING_FIELDS
    elif not any(phase.augment for phase in recipe.phases):
        unused |= {"augmentation", "views"}
    return unused


def field_rows(field, value):
    """Return [(field, text)] of one field: a row per phase, and none if the field is not set."""
    if field == "phases":
        return [(f"phase {phase.pop('name')}", format_fields(phase)) for phase in value]
    if isinstance(value, dict):
        return [(field, format_fields(value))]
    if field == "views" and value is None:
        return [(field, "None: every photo gets a new augmentation in every epoch")]
    if value in (None, ""):
        return []
    return [(field, ", ".join(value) if isinstance(value, tuple) else value)]


def format_fields(fields):
    """Return fields as text, without those that are off by default and are off."""
    return ", ".join(f"{name}={value!r}" for name, value in fields.items() if is_shown(name, value))


def is_shown(name, value):
    """Return False if a field is None, or False by default."""
    return value is not None and (value is not False or name in ON_BY_DEFAULT)
