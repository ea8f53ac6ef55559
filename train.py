"""Train a recipe: logistic regression on its features, or fine-tuning phase after phase.

python train.py --recipe food5k
python train.py --recipe food11
python train.py --recipe food5k --method fine_tune
python train.py --recipe food11 --export onnx
"""

import shlex

from pyimagesearch import console
from pyimagesearch.recipe import EXPORTS, METHODS


def main(argv=None):
    arguments = read_arguments(argv)

    from pyimagesearch import artifacts, config, exports, images

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
        train(recipe, method, splits, folder, made_from, arguments.tensorboard)
    for kind in arguments.export or ():
        console.info(f"exported: {exports.export(folder, kind)}")
    photo = shlex.quote(str(splits[config.TEST].paths[0]))
    console.info(f"next: python predict.py --recipe {recipe.name} --image {photo}")
    return judge(folder, arguments.assert_accuracy_at_least)


def read_arguments(argv):
    """Return what the user typed."""
    parser = console.parser(__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, help="instead of the recipe's own")
    parser.add_argument("--force", action="store_true", help="train again what is trained")
    parser.add_argument(
        "--export", nargs="+", choices=EXPORTS, help="write the classifier for other programs too"
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="log the epochs for TensorBoard too"
    )
    parser.add_argument(
        "--assert-accuracy-at-least",
        type=float,
        metavar="SHARE",
        help="end with status 1 when the evaluation accuracy is lower",
    )
    arguments = parser.parse_args(argv)
    # Said now, not after an hour of training.
    if "onnx" in (arguments.export or ()):
        console.require("tf2onnx", "--export onnx")
    if arguments.tensorboard:
        console.require("tensorboard", "--tensorboard")
    least = arguments.assert_accuracy_at_least
    if least is not None and not 0 <= least <= 1:
        raise console.UserError(
            f"--assert-accuracy-at-least is {least}; it takes a share from 0 to 1, such as 0.85"
        )
    return arguments


def train(recipe, method, splits, folder, made_from, tensorboard):
    """Train by one of the two methods; write the page that shows it."""
    from pyimagesearch import config, page, pictures

    look = folder.parent / "first_look.png"
    pictures.draw_classes(look, splits[config.TRAIN])
    console.info(f"look before it learns: {look}")
    if method == "logistic_regression":
        train_regression(recipe, splits, folder, made_from)
    else:
        fine_tune(recipe, splits, folder, made_from, tensorboard)
    console.info(f"all of it on one page: {page.write(folder, recipe)}")


def judge(folder, least):
    """Return the exit status: 1 when the accuracy is below `least`."""
    from pyimagesearch import artifacts, files

    accuracy = files.read_json(folder / artifacts.METRICS)["accuracy"]
    if least is not None and accuracy < least:
        console.error(f"accuracy is {accuracy:.4f}, and at least {least} was asked for")
        return console.PARTLY


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


def fine_tune(recipe, splits, folder, made_from, tensorboard):
    """Teach a new head on the frozen backbone, then let the top of the backbone learn too."""
    console.load_tensorflow()
    import keras

    from pyimagesearch import artifacts, config, files, networks, pictures, training

    clock = console.Stopwatch()
    keras.utils.set_random_seed(config.SEED)
    precision = networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    classifier = networks.build(recipe, weights)
    console.info(f"{recipe.backbone}, computing in {precision}")
    if any(phase.augment for phase in recipe.phases):
        drawn = folder.parent / "augmentation.png"
        training.draw_augmentation(drawn, recipe, splits[config.TRAIN], config.SEED)
        console.info(f"and what the augmentation does: {drawn}")

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
            folder / "tensorboard" if tensorboard else None,
        )
        mine = [row for row in rows if row["phase"] == phase.name]
        title = f"{recipe.name}: {phase.name}"
        pictures.draw_learning(folder, phase.name, mine, title, recipe.smoothing)

        # What is judged is what will be saved and asked: computing in float32.
        finished = networks.in_float32(classifier)
        numbers, text = evaluate(finished, recipe, phase, test, folder)
        texts.append(f"After {phase.name}\n\n{text}")
        phases[phase.name] = numbers["accuracy"]

    if len(recipe.phases) > 1:
        title = f"{recipe.name}: all phases"
        pictures.draw_learning(folder, "history", rows, title, recipe.smoothing)
    artifacts.open_folder(folder)
    artifacts.save_network(folder, finished, recipe.classes)
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
