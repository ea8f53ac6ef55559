"""Train a recipe: logistic regression on its features, or fine-tuning phase after phase.

python train.py --recipe food5k
python train.py --recipe food11
python train.py --recipe food5k --method fine_tune
python train.py --recipe food11 --export onnx
"""

from pyimagesearch import console
from pyimagesearch.recipe import EXPORTS, METHODS


def main(argv=None):
    arguments = read_arguments(argv)

    from pyimagesearch import config, files, images

    recipe = console.find_recipe(arguments.recipe)
    method = arguments.method or recipe.method
    dataset, output = (each / recipe.name for each in (config.DATASET_DIR, config.OUTPUT_DIR))
    names = (config.TRAIN, config.VAL, config.TEST)
    with files.held(dataset, shared=True):
        splits = {name: images.list_photos(config.DATASET_DIR, recipe, name) for name in names}
        with files.held(output):
            bring_up_to_date(recipe, method, splits, output / method, arguments)
    # Without the method predict.py asks the recipe's own, where it is trained.
    which = () if method == recipe.method else ("--method", method)
    photo = splits[config.TEST].paths[0]
    console.info(f"next: {console.command('predict', recipe.name, *which, '--image', photo)}")
    return judge(output / method, arguments.assert_accuracy_at_least)


def bring_up_to_date(recipe, method, splits, folder, arguments):
    """Train what is not trained yet or not from this; export what was asked for."""
    from pyimagesearch import artifacts, config, exports, files, page

    made_from = artifacts.made_from(recipe, method, splits, config)
    changes = artifacts.changes(folder, made_from)
    if changes == [] and not arguments.force:
        console.show((folder / artifacts.REPORT).read_text(encoding="utf-8"))
        console.info(f"{folder} is trained already; --force trains again")
        files.remove(folder / artifacts.CHECKPOINT)  # of one that was not gone on with
    else:
        if changes:
            console.info(f"training again: {'; '.join(changes)} changed")
        files.remove(folder / page.NAME)
        train(recipe, method, splits, folder, made_from, arguments.tensorboard)
    if not (folder / page.NAME).is_file():
        console.info(f"all of it on one page: {page.write(folder, recipe)}")
    for kind in arguments.export or ():
        console.info(f"exported: {exports.export(folder, kind)}")


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
    """Train by one of the two methods."""
    from pyimagesearch import config, pictures

    look = folder.parent / "first_look.png"
    pictures.draw_classes(look, splits[config.TRAIN])
    console.info(f"look before it learns: {look}")
    if method == "logistic_regression":
        if tensorboard:
            console.warn("--tensorboard logs nothing: logistic regression has no epochs")
        train_regression(recipe, splits, folder, made_from)
    else:
        fine_tune(recipe, splits, folder, made_from, tensorboard)


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
        "seconds": round(clock.seconds, 3),
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

    from pyimagesearch import artifacts, checkpoint, config, files, networks, training, views

    keras.utils.set_random_seed(config.SEED)
    precision = networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    classifier = networks.build(recipe, weights)
    console.info(f"{recipe.backbone}, computing in {precision}")
    drawn = folder.parent / "augmentation.png"
    files.remove(drawn)
    if any(phase.augment for phase in recipe.phases):
        training.draw_augmentation(drawn, recipe, splits[config.TRAIN], config.SEED)
        console.info(f"and what the augmentation does: {drawn}")

    # An interrupted training goes on only on the same kind of machine, with the same packages.
    learned = {k: v for k, v in made_from.items() if k not in artifacts.ABOUT_THE_PICTURES}
    of = {**learned, "precision": precision, "versions": artifacts.versions()}
    done = checkpoint.Checkpoint(folder, of, classifier, recipe.phases)
    done.resume()
    for phase in recipe.phases[: done.phase]:
        # Since they were drawn the recipe may have been told to smooth them.
        draw_phase(folder, recipe, phase, done.rows)
    logs = folder / "tensorboard"
    if logs.is_dir() and not done.phase and not done.epoch:
        for old in logs.iterdir():  # of another training; the folder may be another disk
            files.remove(old)
    logs = logs if tensorboard else None
    learned_from = splits[config.TRAIN], splits[config.VAL]
    exact = None
    for number, phase in enumerate(recipe.phases[done.phase :], done.phase):
        # The head starts from random numbers. Its first gradients are large and would wreck
        # the ImageNet filters, so the first phase leaves the backbone alone.
        stage = views.Stage(recipe, number, config.SEED, folder.parent / "cache")
        training.fit(classifier, stage, learned_from, done, folder / artifacts.HISTORY, logs)
        # What is judged is what will be saved and asked: computing in float32.
        exact = networks.in_float32(classifier)
        numbers, text = evaluate(exact, stage, done.rows, splits[config.TEST], folder)
        done.finish_phase(phase.name, numbers, text)
    if exact is None:
        # The run before this one was stopped when all phases were finished.
        exact = networks.in_float32(classifier)
    metrics = save(exact, recipe, done, folder)
    artifacts.finish(folder, {**metrics, "precision": precision}, made_from, splits, config.SEED)
    done.remove()


def evaluate(classifier, stage, rows, photos, folder):
    """Draw how a phase learned and ask the classifier about every photo once.

    Returns:
        (numbers, text) of the report.
    """
    from pyimagesearch import artifacts, report, training

    recipe, phase = stage.recipe, stage.phase
    draw_phase(folder, recipe, phase, rows)
    network, batches = training.judged_source(classifier, stage, photos)
    asked = artifacts.from_network(network, recipe.classes)
    with console.progress(f"evaluation after {phase.name}", len(photos)) as done:
        probabilities = asked.ask(batches, done)
    stem = f"{phase.name}_"
    numbers, text = report.save_evaluation(folder, stem, photos, probabilities, recipe.mistakes)
    console.info(f"{phase.name}: accuracy {numbers['accuracy']:.3f} on {len(photos):,} photos")
    console.show(text)
    return numbers, text


def draw_phase(folder, recipe, phase, rows):
    """Draw the curves of one phase of those in `rows`."""
    from pyimagesearch import pictures

    mine = [row for row in rows if row["phase"] == phase.name]
    title = f"{recipe.name}: {phase.name}"
    pictures.draw_learning(folder, phase.name, mine, title, recipe.smoothing)


def save(classifier, recipe, done, folder):
    """Save what all phases taught, and the report of each; return its metrics."""
    from pyimagesearch import artifacts, files, pictures

    evaluations = done.evaluations
    if len(recipe.phases) > 1:
        title = f"{recipe.name}: all phases"
        pictures.draw_learning(folder, "history", done.rows, title, recipe.smoothing)
    artifacts.open_folder(folder)
    artifacts.save_network(folder, classifier, recipe.classes)
    texts = [f"After {name}\n\n{each['text']}" for name, each in evaluations.items()]
    files.write_text(folder / artifacts.REPORT, "\n".join(texts))
    return {
        **evaluations[recipe.phases[-1].name]["numbers"],
        "phases": {name: each["numbers"]["accuracy"] for name, each in evaluations.items()},
        "seconds": round(done.total_seconds, 3),
    }


if __name__ == "__main__":
    console.run(main)
