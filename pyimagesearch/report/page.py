"""report.html: one page about one training, with its pictures inside. It opens without a server."""

from dataclasses import asdict
from pathlib import Path

from PIL import Image

from pyimagesearch.classifier import METRICS_FILE, REPORT_FILE
from pyimagesearch.report import check, evaluation, figures, intervals
from pyimagesearch.report.markup import data_url, percent, render
from pyimagesearch.support import console, files

NAME = "report.html"
WIDE = 1300  # pixels; a wider figure, such as that of many classes, is as wide as the page
TEMPLATE = "report.html.jinja"
# Captions by the end of a picture's file name. They say what to look for.
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
    "first_look": "Look for photos in a wrong class.",
    "augmentation": "The subject of the photo should be recognisable in every version.",
}
PHOTO_SHEETS = {
    "mistakes": evaluation.MISTAKES_TITLE,
    "uncertain": evaluation.UNCERTAIN_TITLE,
}
# Fields of a recipe that logistic regression does not use.
FINE_TUNING_FIELDS = ("head", "augmentation", "views", "phases", "smoothing")
# The settings that are on by default. They are shown when they are off, the others when on.
ON_BY_DEFAULT = ("augment", "shuffle")


def write_if_missing(folder, recipe, splits):
    """Write the page of a finished classifier, if it has none, and print the path."""
    if not (folder / NAME).is_file():
        console.info(f"report: {write(folder, recipe, splits)}")


def write(folder, recipe, splits):
    """Write the page of a finished classifier into its folder and return the path.

    The name of the folder is the method. The pictures are embedded, so the page can be moved or
    mailed as a single file.

    Args:
        folder: output/<recipe>/<method>.
        recipe: a row of config.RECIPES.
        splits: datasets.Splits, for the training photos.
    """
    folder = Path(folder)
    metrics = files.read_json(folder / METRICS_FILE)
    page = render(
        TEMPLATE,
        recipe=recipe,
        method=folder.name.replace("_", " "),
        metrics=metrics,
        facts=facts(metrics),
        baseline=intervals.baseline(metrics["classes"]),
        interval=lambda accuracy: intervals.interval(accuracy, photo_count(metrics)),
        check=check.NAME if (folder.parent / check.NAME).is_file() else None,
        sections=sections(folder, recipe, splits, metrics),
        settings=settings(recipe, folder.name),
        text=(folder / REPORT_FILE).read_text(encoding="utf-8"),
    )
    files.write_text(folder / NAME, page)
    return folder / NAME


def photo_count(metrics):
    """Return the number of evaluation photos."""
    return sum(row["support"] for row in metrics["classes"].values())


def facts(metrics):
    """Return {name: lines of text} about a training, from metrics.json."""
    photos = ", ".join(f"{count:,} {split}" for split, count in metrics["photos"].items())
    time = [f"{console.duration(metrics['seconds'])} to train"]
    if "feature_seconds" in metrics:
        time.append(f"{console.duration(metrics['feature_seconds'])} to extract the features")
    found = {"Photos": [photos], "Time": time, "Machine": [metrics["processor"]]}
    found["Calibration"] = evaluation.calibration_text(metrics["calibration"]).strip().split("\n")
    if unlike := metrics.get("unlike_training_photos"):
        count, total = unlike["photos"], photo_count(metrics)
        share = percent(unlike["share"], 0)
        found["Similarity"] = [
            f"{count:,} of {total:,} photos ({share}) are unlike any training photo"
        ]
    return found


def sections(folder, recipe, splits, metrics):
    """Return [(heading, cards, True if it is folded)] in the order of the page."""
    phases = list(metrics.get("phases", {}))
    *earlier, last = phases or [""]
    # The evaluation after the last phase is the one of the finished classifier.
    calibrated = read_figures(folder, [f"{stem_of(last)}reliability"])
    scores = {"classes": metrics["classes"], "figures": calibrated}
    found = [("Evaluation", evaluation_cards(folder, last, [scores]), False)]
    if phases:
        names = (["history", "history_smoothed"] if earlier else []) + [last, f"{last}_smoothed"]
        found.append(("Training curves", figure_cards(folder, names), False))
    for phase in earlier:
        accuracy = metrics["phases"][phase]
        low, high = intervals.interval(accuracy, photo_count(metrics))
        heading = f"After {phase}: accuracy {percent(accuracy)} ({percent(low)} to {percent(high)})"
        cards = evaluation_cards(folder, phase, figure_cards(folder, [phase]))
        cards += figure_cards(folder, [f"{phase}_smoothed", f"{phase}_reliability"])
        found.append((heading, cards, True))
    photos = training_cards(recipe, splits.training, metrics["seed"] if phases else None)
    found.append(("Training photos", photos, False))
    return [(heading, fill_rows(cards), is_folded) for heading, cards, is_folded in found]


def stem_of(phase):
    """Return what the names of a phase's files begin with; logistic regression has the phase ""."""
    return f"{phase}_" if phase else ""


def evaluation_cards(folder, phase, beside):
    """Return the cards of the evaluation after a phase, those `beside` the confusion matrix too."""
    stem = stem_of(phase)
    shown = files.read_json(folder / f"{stem}{evaluation.SHOWN_FILE}") or {}
    cards = figure_cards(folder, [f"{stem}confusion"]) + beside
    for name, title in PHOTO_SHEETS.items():
        predictions = shown.get(name, [])
        if predictions and all(Path(each["photo"]).is_file() for each in predictions):
            tiles = [figures.prediction_tile(prediction) for prediction in predictions]
            # Three or two photos side by side are legible on a phone.
            narrow_columns = 2 if len(tiles) % 3 else 3
            columns = figures.best_columns(len(tiles)), narrow_columns
            cards.append(photo_card(title, CAPTIONS[name], {"": tiles}, columns))
        else:
            cards += figure_cards(folder, [f"{stem}{name}"])
    return cards


def figure_cards(folder, names):
    """Return a card for each of those PNGs of a folder that exist."""
    return [
        {"figures": [figure], "is_wide": figure["width"] > WIDE}
        for figure in read_figures(folder, names)
    ]


def read_figures(folder, names):
    """Return what `read_figure` does for those PNGs of a folder that exist."""
    paths = [folder / f"{name}.png" for name in names]
    return [read_figure(path) for path in paths if path.is_file()]


def read_figure(path):
    """Return {"source": data URL, "width": pixels, "caption", "has_photos"} of a PNG."""
    has_photos = path.stem.endswith(tuple(PHOTO_SHEETS))
    with Image.open(path) as picture:
        # A plot has few colours, so it is small without loss; photos are not.
        source = data_url(picture.convert("RGB"), lossless=not has_photos)
        width = picture.width
    return {
        "source": source,
        "width": width,
        "caption": caption_of(path),
        "has_photos": has_photos,
    }


def training_cards(recipe, photos, seed):
    """Return the cards of datasets.Photos; without a `seed`, there is no augmentation."""
    sheet = figures.class_tiles(photos)
    columns = max(map(len, sheet.values()))
    classes_per_row = figures.best_columns(len(sheet), choices=(2, 3))
    title, caption = figures.classes_title(photos), CAPTIONS["first_look"]
    cards = [photo_card(title, caption, sheet, (columns, columns), classes_per_row)]
    if seed is not None and (tiles := figures.augmentation_tiles(recipe, photos, seed)):
        title, caption = figures.AUGMENTATION_TITLE, CAPTIONS["augmentation"]
        columns = len(tiles), figures.best_columns(len(tiles))
        cards.append(photo_card(title, caption, {"": tiles}, columns))
    return [card | {"is_wide": True} for card in cards]


def photo_card(title, caption, sheet, columns, headings_per_row=1):
    """Return a card with photos: {heading: [figures.Tile]}.

    `columns` are those of the photos below a heading, on a desktop and on a phone.
    """
    return {
        "title": title,
        "caption": caption,
        "sheet": sheet,
        "columns": columns,
        "headings_per_row": headings_per_row,
    }


def fill_rows(cards):
    """Return cards, two of which fill a row. If one is left over, it fills a row alone."""
    narrow = [card for card in cards if not card.get("is_wide")]
    if len(narrow) % 2:
        narrow[-1]["is_wide"] = True
        if sheet := narrow[-1].get("sheet"):
            count, (_, on_a_phone) = len(sheet[""]), narrow[-1]["columns"]
            narrow[-1]["columns"] = figures.best_columns(count, range(6, 11)), on_a_phone
    return cards


def caption_of(path):
    """Return the caption of a picture."""
    other = f"Loss and accuracy after each epoch of the phase {path.stem}."
    return next((text for end, text in CAPTIONS.items() if path.stem.endswith(end)), other)


def settings(recipe, method):
    """Return [(field, text)] of the recipe's fields that a method uses and that are set."""
    values, hidden = asdict(recipe), ["name", "method"]
    if method == "logistic_regression":
        hidden += FINE_TUNING_FIELDS
        # The only setting of the head that features depend on.
        values["pooling"] = recipe.head.pooling
    else:
        hidden.append("regression")
        if not any(phase.augment for phase in recipe.phases):
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
            text = console.listed(map(str, value), 20) if isinstance(value, tuple) else value
            rows.append((field, text))
    return rows


def format_fields(fields):
    """Return fields as text, without those that are None, or off by default and off."""
    return ", ".join(
        f"{name}={value!r}"
        for name, value in fields.items()
        if value not in (None, ()) and (value is not False or name in ON_BY_DEFAULT)
    )
