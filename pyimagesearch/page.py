"""report.html: everything about one training, on a page that opens from disk."""

import base64
from dataclasses import asdict
from pathlib import Path

import jinja2

from pyimagesearch import artifacts, files

NAME = "report.html"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
# What to look for in a picture, by the end of its file's name.
CAPTIONS = {
    "confusion": "A row is a true class, a column is what its photos were taken for.",
    "mistakes": "The wrong answers given with the most confidence. Look for wrong labels, for "
    "photos of two things, and for what the mistakes have in common.",
    "uncertain": "The right answers given with the least certainty: photos that could as well "
    "have gone wrong.",
    "history": "All phases, one after the other. A dashed line marks where a phase begins.",
    "smoothed": "The same curves as moving averages.",
    "first_look": "What the classes look like.",
    "augmentation": "What is on the photo must stay recognisable in every draw.",
}
# Fields of a row that logistic regression does not read.
OF_FINE_TUNING = {"head", "augmentation", "views", "class_weights", "phases", "smoothing"}
ON_BY_DEFAULT = ("augment", "shuffle")


def write(folder, recipe):
    """Write the page of a finished classifier into its folder; return the path.

    The pictures are inside, so that the page can be moved or mailed alone.

    Args:
        folder: of the classifier.
        recipe: its row.
    """
    folder = Path(folder)
    metrics = files.read_json(folder / artifacts.METRICS)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        recipe=recipe,
        method=folder.name.replace("_", " "),
        metrics=metrics,
        sections=[
            (heading, [(embedded(path), caption_of(path)) for path in paths if path.is_file()])
            for heading, paths in sections(folder, list(metrics.get("phases", {})))
        ],
        settings=settings(recipe, folder.name),
        text=(folder / artifacts.REPORT).read_text(encoding="utf-8"),
    )
    files.write_text(folder / NAME, page)
    return folder / NAME


def sections(folder, phases):
    """Return [(heading, paths of its pictures)], what matters most first."""
    asked = ("confusion", "mistakes", "uncertain")
    last = f"{phases[-1]}_" if phases else ""
    curves = [name for phase in phases for name in (phase, f"{phase}_smoothed")]
    if len(phases) > 1:
        curves.insert(0, "history")
    varied = ["augmentation"] if phases else []
    return [
        ("What it gets right and wrong", [folder / f"{last}{name}.png" for name in asked]),
        *([("How it learned", [folder / f"{name}.png" for name in curves])] if phases else []),
        *(
            (f"After {phase}", [folder / f"{phase}_{name}.png" for name in asked])
            for phase in phases[:-1]
        ),
        (
            "What it learned from",
            [folder.parent / f"{name}.png" for name in ("first_look", *varied)],
        ),
    ]


def caption_of(path):
    """Return what to look for in a picture."""
    ends = [caption for end, caption in CAPTIONS.items() if path.stem.endswith(end)]
    return ends[0] if ends else f"Loss and accuracy in the phase {path.stem}, epoch by epoch."


def embedded(path):
    """Return a PNG as an address that holds the picture itself."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def settings(recipe, method):
    """Return [(field, value)] of what a method uses of a row, its parts field by field."""
    rows, unused = [], {"name", "method"}
    if method == "logistic_regression":
        unused |= OF_FINE_TUNING
    elif not any(phase.augment for phase in recipe.phases):
        unused |= {"augmentation", "views"}
    for field, value in asdict(recipe).items():
        if field in unused:
            continue
        if field == "phases":
            rows += [(f"phase {phase.pop('name')}", described(phase)) for phase in value]
        elif isinstance(value, dict):
            rows.append((field, described(value)))
        elif field == "views" and value is None:
            rows.append((field, "None: every photo augmented afresh in every epoch"))
        elif value not in (None, ""):
            rows.append((field, ", ".join(value) if isinstance(value, tuple) else value))
    if method == "logistic_regression":
        rows.append(("pooling", recipe.head.pooling))
    return rows


def described(fields):
    """Return fields as text, without those that are off as they are by default."""
    off = {k for k, v in fields.items() if v is None or (v is False and k not in ON_BY_DEFAULT)}
    return ", ".join(f"{k}={v!r}" for k, v in fields.items() if k not in off)
