"""Train a recipe: logistic regression on its features, or fine-tuning phase after phase.

python train.py --recipe food5k
python train.py --recipe food11
python train.py --recipe food5k --method fine_tune
"""

import shlex

from pyimagesearch import console
from pyimagesearch.recipe import METHODS


def main(argv=None):
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, help="instead of the recipe's own")
    parser.add_argument("--force", action="store_true", help="train again what is trained")
    arguments = parser.parse_args(argv)

    from pyimagesearch import artifacts, config, images

    recipe = console.find_recipe(arguments.recipe)
    method = arguments.method or recipe.method
    folder = config.OUTPUT_DIR / recipe.name / method
    names = (config.TRAIN, config.VAL, config.TEST)
    splits = {name: images.list_photos(config.DATASET_DIR, recipe, name) for name in names}

    made_from = artifacts.made_from(recipe, method, splits, config)
    changes = artifacts.changes(folder, made_from)
    if changes == [] and not arguments.force:
        console.show((folder / artifacts.REPORT).read_text(encoding="utf-8"))
        console.info(f"{folder} is trained already; --force trains again")
    else:
        if changes:
            console.info(f"training again: {'; '.join(changes)} changed")
        train = {"logistic_regression": train_regression, "fine_tune": fine_tune}[method]
        train(recipe, splits, folder, made_from)
        console.info(f"report and pictures: {folder}")
    photo = shlex.quote(str(splits[config.TEST].paths[0]))
    console.info(f"next: python predict.py --recipe {recipe.name} --image {photo}")


def train_regression(recipe, splits, folder, made_from):
    """Fit logistic regression to the training features; report on the evaluation features."""
    from pyimagesearch import artifacts, config, features, files, regression, report

    source = config.OUTPUT_DIR / recipe.name / "features"
    made = features.require(source, recipe, splits, config)
    clock = console.Stopwatch()
    test, columns = splits[config.TEST], made["columns"]
    fitted, words = regression.fit(source, config.TRAIN, splits[config.TRAIN], columns, config.SEED)
    console.info(
        f"logistic regression on {len(splits[config.TRAIN]):,} rows of {columns:,}: {words} "
        f"({clock})"
    )
    probabilities = regression.ask(fitted, source, config.TEST, test, columns)
    artifacts.open_folder(folder)
    numbers, text = report.save_evaluation(folder, "", test, probabilities, recipe.mistakes)
    console.show(text)
    metrics = {
        **numbers,
        "seconds": round(clock.seconds, 1),
        "feature_seconds": made["seconds"],
        "precision": made["precision"],
    }
    artifacts.save_regression(folder, fitted, recipe.classes, source / "backbone.keras")
    files.write_text(folder / artifacts.REPORT, text)
    artifacts.finish(folder, metrics, made_from, splits, config.SEED)


def fine_tune(recipe, splits, folder, made_from):
    """Teach a new head on the frozen backbone, then let the top of the backbone learn too."""
    console.load_tensorflow()
    import keras

    from pyimagesearch import artifacts, config, files, networks, report, training

    clock = console.Stopwatch()
    keras.utils.set_random_seed(config.SEED)
    precision = networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    classifier = networks.build(recipe, weights)
    console.info(f"{recipe.backbone}, computing in {precision}")
    drawn = training.save_first_look(recipe, splits[config.TRAIN], config.SEED, folder.parent)
    console.info(f"look before it learns: {', '.join(map(str, drawn))}")

    test = splits[config.TEST]
    rows, texts, phases = [], [], {}
    for number, phase in enumerate(recipe.phases):
        # The head starts from random numbers. Its first gradients are large and would wreck
        # the ImageNet filters, so the first phase leaves the backbone alone.
        training.fit(
            classifier,
            recipe,
            number,
            (splits[config.TRAIN], splits[config.VAL]),
            config.SEED,
            folder.parent / "cache",
            rows,
            folder / "history.csv",
        )
        report.save_phase_curves(folder, recipe, phase, rows)

        numbers, text = evaluate(classifier, recipe, phase, test, folder)
        texts.append(f"After {phase.name}\n\n{text}")
        phases[phase.name] = numbers["accuracy"]

    artifacts.open_folder(folder)
    artifacts.save_network(folder, classifier, recipe.classes)
    files.write_text(folder / artifacts.REPORT, "\n".join(texts))
    seconds = round(clock.seconds, 1)
    metrics = {**numbers, "phases": phases, "seconds": seconds, "precision": precision}
    artifacts.finish(folder, metrics, made_from, splits, config.SEED)


def evaluate(classifier, recipe, phase, photos, folder):
    """Ask the classifier about every photo once; show and return (numbers, text) of the report."""
    from pyimagesearch import artifacts, report

    asked = artifacts.from_network(classifier, recipe.classes)
    with console.progress(f"evaluation after {phase.name}", len(photos)) as done:
        probabilities = asked.ask(photos.paths, recipe.batch_size, done)
    stem = f"{phase.name}_"
    numbers, text = report.save_evaluation(folder, stem, photos, probabilities, recipe.mistakes)
    console.info(f"{phase.name}: accuracy {numbers['accuracy']:.3f} on {len(photos):,} photos")
    console.show(text)
    return numbers, text


if __name__ == "__main__":
    console.run(main)
