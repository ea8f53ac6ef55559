"""Train a recipe: logistic regression on its features, or fine-tuning, phase by phase.

python train.py --recipe food5k
python train.py --recipe food11
python train.py --recipe food5k --method fine_tune
python train.py --recipe food11 --export onnx
"""

from pathlib import Path

from pyimagesearch.recipe import EXPORTS, METHODS, find_recipe
from pyimagesearch.support import console


def main(argv=None):
    arguments = read_arguments(argv)

    from pyimagesearch import classifier, config, datasets
    from pyimagesearch.report import comparison, page
    from pyimagesearch.support import files

    recipe = find_recipe(config.RECIPES, arguments.recipe or config.RECIPE)
    method = arguments.method or recipe.method
    train = fine_tune if method == "fine_tune" else train_regression
    folder = Path(config.OUTPUT_DIR) / recipe.name / method
    with files.locked(Path(config.DATASET_DIR) / recipe.name, shared=True):
        recipe, splits = datasets.open_dataset(config.DATASET_DIR, recipe, config.SPLITS)
        with files.locked(folder.parent):
            settings = {name: getattr(config, name) for name in classifier.SETTINGS[method]}
            fingerprint = classifier.fingerprint(recipe, splits, folder, settings)
            if arguments.restore_previous:
                classifier.restore_previous(folder, fingerprint)
            elif not classifier.is_up_to_date(folder, fingerprint, arguments.force):
                unfinished = files.partial_path(folder)
                train(recipe, splits, unfinished, fingerprint, arguments.tensorboard)
                comparison.report(folder, arguments.export)
            page.write_if_missing(folder, recipe, splits)
            for kind in arguments.export:
                classifier.export(folder, kind)
    options = ("--method", method, "--image", splits.evaluation.paths[0])
    console.info(f"next: {console.command('predict', recipe.name, *options)}")
    return classifier.check_accuracy(folder, arguments.assert_accuracy_at_least)


def read_arguments(argv):
    """Return the parsed command line."""
    parser = console.argument_parser(__doc__)
    add, number = parser.add_argument, {"type": console.fraction, "metavar": "FRACTION"}
    add("--method", choices=METHODS, help="instead of the recipe's own")
    add("--force", action="store_true", help="train again, even if up to date")
    add("--restore-previous", action="store_true", help="undo the last training")
    add("--export", nargs="+", choices=EXPORTS, default=(), help="also save for other programs")
    add("--tensorboard", action="store_true", help="log the epochs for TensorBoard")
    add("--assert-accuracy-at-least", **number, help="exit with status 1 below this accuracy")
    arguments = parser.parse_args(argv)
    # A missing package is reported now, not after an hour of training.
    if "onnx" in arguments.export:
        console.require_package("tf2onnx", "--export onnx")
    if arguments.tensorboard:
        console.require_package("tensorboard", "--tensorboard")
    return arguments


def train_regression(recipe, splits, folder, fingerprint, tensorboard):
    """Fit logistic regression to the training features and evaluate it."""
    from pyimagesearch import classifier, config, features, regression
    from pyimagesearch.report import evaluation

    features_folder = folder.parent / "features"
    wanted = features.fingerprint(recipe, splits, config.PRECISION, config.WEIGHTS)
    recorded = features.require(features_folder, recipe, wanted, config.SPLITS)
    if tensorboard:
        console.warn("--tensorboard logs nothing: logistic regression has no epochs")
    console.info("training model...")
    stopwatch, columns = console.Stopwatch(), recorded["columns"]
    csvs = [features_folder / f"{name}.csv" for name in config.SPLITS]
    model = regression.fit(csvs, splits, columns, recipe, config.MAX_ITERATIONS)
    times = {"seconds": round(stopwatch.seconds, 3), "feature_seconds": recorded["seconds"]}

    console.info("evaluating and saving model...")
    metrics, report = evaluation.evaluate_regression(model, recipe, splits, csvs, recorded, folder)
    model = regression.calibrated_copy(model, metrics["calibration"]["temperature"])
    classifier.save_regression(folder, model, recipe.classes, features_folder)
    metrics |= {**times, "precision": recorded["precision"]}
    classifier.finish(folder, metrics, report, fingerprint, splits, config.SEED)


def fine_tune(recipe, splits, folder, fingerprint, tensorboard):
    """Train a new head on the frozen backbone, then the last layers of the backbone too."""
    console.import_tensorflow()
    from pyimagesearch import batches, classifier, config, frozen, networks, training
    from pyimagesearch.checkpoint import load_checkpoint
    from pyimagesearch.report import evaluation, figures

    console.info("loading network...")
    precision = networks.set_precision(config.PRECISION)
    network = networks.build(recipe, config.WEIGHTS, config.SEED, config.GPUS)
    console.info(f"{recipe.backbone}, computing in {precision}")
    figures.draw_augmentation(folder.parent, recipe, splits.training, config.SEED)

    # The outputs of the frozen layers are computed once, with the original weights. Only then is
    # an interrupted run resumed. The outputs that its finished phases needed stay on disk.
    checkpoint = load_checkpoint(folder, fingerprint, precision, network, recipe.phases)
    views = frozen.choose_views(recipe.views, config.STORED_VIEWS, config.SHARED_VIEWS)
    all_outputs = frozen.needed(recipe, views)
    outputs = frozen.needed(recipe, views, checkpoint.finished_phases)
    cache = folder.parent / "cache"
    inputs = (network, recipe, splits, config.SEED, cache)
    with checkpoint.stopwatch:
        store = frozen.compute(outputs, *inputs, keep=all_outputs, address=config.CLUSTER)
    checkpoint.restore_weights()
    figures.draw_history(folder, recipe, checkpoint.history)  # its `smoothing` may have changed

    for number in range(checkpoint.finished_phases, len(recipe.phases)):
        # The head starts from random weights. Its first gradients are large and would destroy the
        # ImageNet filters, so the first phase trains the head alone.
        networks.unfreeze_after(network, recipe.phases[number].unfreeze_after)
        data = batches.PhaseData(recipe, number, splits, config.SEED, views, store, cache)
        training.fit(network, data, checkpoint, folder, tensorboard)
        checkpoint.finish_phase(*evaluation.evaluate_phase(network, data, checkpoint, folder))

    console.info("saving model...")
    metrics = checkpoint.metrics() | {"precision": precision}
    network = networks.calibrated_copy(network, metrics["calibration"]["temperature"])
    classifier.save_network(folder, network, recipe.classes)
    classifier.finish(folder, metrics, checkpoint.report(), fingerprint, splits, config.SEED)


if __name__ == "__main__":
    console.run(main)
