"""Which way to take with your photos: accuracy against minutes, and against the number of photos.

    python benchmarks/ladder.py --recipe mine
    python benchmarks/ladder.py --recipe mine --photos 10 30 100 --ways tutorial averages

Build the dataset first. The ways, from the fastest to the slowest:

    tutorial    logistic regression as in the Food-5K tutorial: the whole last feature map, C=1
    averages    logistic regression on averages of two layers, each of unit length; the best of
                several C on the validation photos
    fine_tune   the phases of the recipe
    better      those of the recipe food11_better, with its head

Each way is trained on all training photos, and on as many photos of each class as --photos says,
drawn with SEED. The way to take is chosen by the accuracy on the validation photos. The accuracy on
the evaluation photos is what to expect. The minutes contain the computation of all features. The
results go to output/<recipe>/ladder/. A fine-tuning that has finished is not repeated.
"""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import extract_features
import train
from pyimagesearch import classifier, config, datasets, features, regression
from pyimagesearch.recipe import Regression, checked, find_recipe
from pyimagesearch.report import intervals
from pyimagesearch.support import console, files, fingerprints

AVERAGES = Regression(layers=("auto",), unit_length=True, C=(1, 3, 10, 30, 100))
WAYS = ("tutorial", "averages", "fine_tune", "better")
FINE_TUNED = ("fine_tune", "better")
PHOTOS = (10, 30, 100)
RESULTS, PICTURE = "ladder.json", "ladder.png"


def main(argv=None):
    parser = console.argument_parser(__doc__)
    add = parser.add_argument
    number = console.whole_number(1)
    add("--photos", nargs="+", type=number, default=PHOTOS, metavar="N", help="of each class")
    add("--ways", nargs="+", choices=WAYS, default=WAYS, help="what to train (default: all)")
    arguments = parser.parse_args(argv)
    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    recipe, splits = datasets.open_dataset(config.DATASET_DIR, recipe, config.SPLITS)
    folder = Path(config.OUTPUT_DIR) / recipe.name / "ladder"
    choices = choose_photos(splits.training.labels, arguments.photos)
    results = files.read_json(folder / RESULTS) or {}
    for way in arguments.ways:
        prepare = prepare_fine_tuning if way in FINE_TUNED else prepare_regression
        train_on = prepare(recipe_of(way, recipe), splits, folder / way)
        results[way] = {}
        # The seconds are those of all photos; the others use some of their outputs.
        for count in sorted(choices, reverse=True):
            results[way][str(count)] = train_on(choices[count])
            files.write_json(folder / RESULTS, results)
    draw(folder / PICTURE, results)
    console.show(table(results, splits))
    console.info(f"results: {folder / RESULTS}, {folder / PICTURE}")
    console.info(advice(results, len(splits.validation)))


def choose_photos(labels, counts):
    """Return {photos of each class: sorted positions of the chosen photos}.

    Larger choices contain the smaller ones. The last one has all photos; its number is that of the
    largest class. Counts that are not smaller are left out.
    """
    rng = np.random.default_rng(config.SEED)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    largest = max(map(len, orders))
    counts = [count for count in sorted(set(counts)) if count < largest]
    return {
        count: np.sort(np.concatenate([order[:count] for order in orders]))
        for count in (*counts, largest)
    }


def recipe_of(way, recipe):
    """Return a recipe with the settings of a way."""
    if way == "fine_tune":
        return recipe
    better, head = config.FOOD11_BETTER, recipe.head
    settings, changes = {
        "tutorial": (Regression(), {"head": replace(head, pooling="flatten")}),
        "averages": (AVERAGES, {"head": replace(head, pooling="average")}),
        "better": (
            better.regression,
            {"head": replace(better.head, output=head.output), "phases": better.phases},
        ),
    }[way]
    if recipe.validate_on_evaluation:
        # There are no photos to choose C on. The one in the middle is taken.
        settings = replace(settings, C=settings.candidates[len(settings.candidates) // 2])
    row = replace(recipe, regression=settings, **changes)
    return checked({recipe.name: row})[recipe.name]


def prepare_regression(recipe, splits, folder):
    """Return a function from the positions of training photos to the result of the regression."""
    rows, seconds = read_features(recipe, splits, folder / "features")
    training, validation, evaluation = rows

    def train_on(positions):
        stopwatch, labels = console.Stopwatch(), splits.training.labels[positions]
        fitted = regression.fit_rows(training[positions], labels, recipe, config.MAX_ITERATIONS)
        best = regression.choose_best(fitted, [validation], splits.validation.labels)
        return {
            "validation": float(best.score(validation, splits.validation.labels)),
            "evaluation": float(best.score(evaluation, splits.evaluation.labels)),
            "minutes": (seconds + stopwatch.seconds) / 60,
            "C": best.C,
        }

    return train_on


def read_features(recipe, splits, folder):
    """Return ([(photos, features) of each split], the seconds to extract and read them).

    Features that are in the folder already are not extracted again.
    """
    wanted = features.fingerprint(recipe, splits, config.PRECISION, config.WEIGHTS)
    if fingerprints.differences(files.read_json(folder / features.FINGERPRINT_FILE), wanted):
        extract_features.extract(recipe, splits, folder, wanted)
    recorded = files.read_json(folder / features.FINGERPRINT_FILE)
    stopwatch = console.Stopwatch()
    rows = [
        features.read_split(folder / f"{name}.csv", photos, recorded["columns"])
        for name, photos in zip(config.SPLITS, splits, strict=True)
    ]
    return rows, recorded["seconds"] + stopwatch.seconds


def prepare_fine_tuning(recipe, splits, folder):
    """Return a function from the positions of training photos to the result of fine-tuning."""

    def train_on(positions):
        from pyimagesearch import training

        fewer = splits._replace(training=splits.training.take(positions))
        target = folder / f"{len(positions)}_photos"
        fine_tune_once(recipe, fewer, target)
        metrics = files.read_json(target / classifier.METRICS_FILE)
        return {
            "validation": last_val_accuracy(target / training.HISTORY_FILE, recipe.phases[-1]),
            "evaluation": metrics["accuracy"],
            "minutes": metrics["seconds"] / 60,
        }

    return train_on


def fine_tune_once(recipe, splits, folder):
    """Fine-tune on the training photos of Splits, unless that has finished in the folder."""
    settings = {name: getattr(config, name) for name in classifier.SETTINGS["fine_tune"]}
    fingerprint = classifier.fingerprint(recipe, splits, folder, settings)
    if not classifier.is_up_to_date(folder, fingerprint):
        unfinished = files.partial_path(folder)
        train.fine_tune(recipe, splits, unfinished, fingerprint, tensorboard=False)


def last_val_accuracy(path, phase):
    """Return the val_accuracy in a history.csv with which a phase ended."""
    from pyimagesearch import training

    with open(path, newline="", encoding="utf-8") as file:
        rows = [
            {**row, **{name: float(row[name]) for name in training.METRICS}}
            for row in csv.DictReader(file)
        ]
    return training.val_accuracy(phase, rows)


def largest_choice(results):
    """Return {way: result with all photos}."""
    return {way: by_count[max(by_count, key=int)] for way, by_count in results.items()}


def table(results, splits):
    """Return the results as text: one row per way and number of photos."""
    count = len(splits.evaluation)
    head = f"{'way':<12}{'photos of each class':>21}{'validation':>12}{'evaluation':>12}"
    lines = [f"{head}   95 % interval  minutes"]
    for way, by_count in results.items():
        largest = largest_choice(results)[way]
        for photos in sorted(by_count, key=int):
            result = by_count[photos]
            interval = intervals.interval_text(result["evaluation"], count)
            minutes = f"{result['minutes']:.1f}" if result is largest else ""
            lines.append(
                f"{way:<12}{photos:>21}{result['validation']:>12.3f}"
                f"{result['evaluation']:>12.3f}   {interval:<13}{minutes:>9}"
            )
    return "\n".join(lines) + "\n"


def advice(results, validation_count):
    """Return which way to take: a fast one of those that are not clearly worse than the best."""
    ways = largest_choice(results)
    best = max(ways, key=lambda way: ways[way]["validation"])
    accuracy = ways[best]["validation"]
    standard_error = (accuracy * (1 - accuracy) / validation_count) ** 0.5
    good = [way for way in ways if ways[way]["validation"] >= accuracy - standard_error]
    limit = 1.2 * min(ways[way]["minutes"] for way in good)
    fast = [way for way in good if ways[way]["minutes"] <= limit]
    taken = max(fast, key=lambda way: ways[way]["validation"])
    words = f"take {taken}: {ways[taken]['validation']:.3f} on the validation photos"
    if taken != best:
        words += f"; {best} has {accuracy:.3f}, which may be chance "
        words += f"(standard error {standard_error:.3f})"
    *_, fewer, more = [None, *sorted(results[taken], key=int)]
    if fewer is not None:
        rise = results[taken][more]["validation"] - results[taken][fewer]["validation"]
        words += f". {more} instead of {fewer} photos of each class changed that by {rise:+.3f}"
    return words


def draw(path, results):
    """Draw accuracy against minutes, and against the number of photos."""
    from matplotlib import pyplot as plt

    from pyimagesearch.report import figures

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(2 * figures.WIDTH, 3.6), sharey=True, **figures.STYLE
    )
    for way, by_count in results.items():
        result = largest_choice(results)[way]
        place = result["minutes"], result["evaluation"]
        (line,) = left.plot(*place, "o")
        left.annotate(way, place, (0, 7), textcoords="offset points", ha="center")
        counts = sorted(map(int, by_count))
        accuracies = [by_count[str(count)]["evaluation"] for count in counts]
        right.plot(counts, accuracies, "o-", color=line.get_color(), label=way)
    left.set(title="Accuracy on evaluation photos", xlabel="minutes")
    left.margins(x=0.25)
    left.set_xlim(left=0)
    right.set(title="With fewer training photos", xlabel="photos of each class", xscale="log")
    right.set_xticks(counts, labels=counts)
    right.minorticks_off()
    right.legend()
    figures.save_figure(path, figure)


if __name__ == "__main__":
    console.run(main)
