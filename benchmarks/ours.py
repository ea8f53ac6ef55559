"""What race.py runs of this project: its own scripts on a dataset and a schedule of the race's.

    python benchmarks/ours.py extract   DATASET OUT
    python benchmarks/ours.py fine_tune DATASET OUT [--warmup 50] [--unfrozen 20]
    python benchmarks/ours.py WHAT      DATASET OUT [--precision float32]

DATASET holds <split>/<class>/ folders as build_dataset.py makes them. WHAT is also `regression`
or `predict`, or one of three that write OUT/ours_<what>.json: `read` reads the training.csv in
OUT, `parts` times the parts of fine-tuning, and `forward` the frozen network alone, on photos that
are in memory already.
"""

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import config, console, features, files, images
from pyimagesearch.recipe import checked


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=(*SCRIPTS, *PARTS))
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--unfrozen", type=int, default=20)
    parser.add_argument("--precision", default=config.PRECISION)
    arguments = parser.parse_args()
    config.PRECISION = arguments.precision
    recipe = take_over(arguments)
    if arguments.what in PARTS:
        result = PARTS[arguments.what](recipe, arguments.out)
        files.write_json(arguments.out / f"ours_{arguments.what}.json", result)
        return
    script, options = SCRIPTS[arguments.what]
    if script == "predict":
        photos = images.list_photos(config.DATASET_DIR, recipe, config.TEST)
        options = ["--image", *map(str, photos.paths)]
    script_main = importlib.import_module(script).main
    console.run(lambda: script_main(["--recipe", recipe.name, *options]))


def take_over(arguments):
    """Put a row for the race into config: Food-11's, on this dataset; return it."""
    dataset = arguments.dataset.resolve()
    classes = tuple(sorted(each.name for each in (dataset / config.TRAIN).iterdir()))
    food11 = config.RECIPES["food11"]
    phases = [
        replace(phase, epochs=epochs)
        for phase, epochs in zip(food11.phases, (arguments.warmup, arguments.unfrozen), strict=True)
    ]
    row = replace(food11, classes=classes, official_counts=None, phases=tuple(phases))
    config.RECIPES = checked({dataset.name: row})
    config.DATASET_DIR, config.OUTPUT_DIR = dataset.parent, arguments.out
    return config.RECIPES[dataset.name]


def photos_of(path, classes, count=None):
    """Return images.Photos that stand for the rows of a CSV, again and again up to `count`."""
    labels = np.concatenate([each for _, each in features.read_pieces(path, classes)])
    labels = np.resize(labels, count or len(labels))
    return images.Photos(tuple(map(str, range(len(labels)))), labels, classes)


def read(recipe, out):
    """Time reading a CSV into arrays."""
    photos = photos_of(out / "training.csv", recipe.classes)
    clock = console.Stopwatch()
    features.read_split(out, "training", photos, 25088)
    return {"seconds": clock.seconds}


def parts(recipe, out):
    """Time a photo through each phase's frozen part, and each phase's steps."""
    console.load_tensorflow()
    import keras
    from clock import Clock

    from pyimagesearch import networks, training, views

    keras.utils.set_random_seed(config.SEED)
    networks.set_precision(config.PRECISION)
    classifier = networks.build(recipe, networks.find_weights(recipe.backbone, config.WEIGHTS))
    splits = [
        images.list_photos(config.DATASET_DIR, recipe, each) for each in (config.TRAIN, config.VAL)
    ]
    result = {}
    for number, phase in enumerate(recipe.phases):
        networks.open_for(classifier, phase)
        seen = views.views_of(recipe, number)
        stage = views.Stage(recipe, number, config.SEED, out / "cache")
        clock = console.Stopwatch()
        views.open_views(classifier, stage, "training", splits[0], seen)
        frozen = clock.seconds / len(splits[0]) / len(seen)
        learner, train, validation = training.stored_source(classifier, stage, splits, 0)
        networks.compile_for(learner, phase)
        clock = Clock()
        batches = training.as_dataset(train, learner.input, -1, iter)
        learner.fit(batches, steps_per_epoch=16, verbose=0, shuffle=False, callbacks=[clock])
        count = training.batches_in(splits[1], recipe)
        batches = training.as_dataset(validation, learner.input, count, iter)
        for _ in range(3):
            learner.evaluate(batches, verbose=0, callbacks=[clock])
        result[phase.name] = {
            "views": len(seen),
            "frozen": frozen,
            "step": clock.median("train"),
            "validation_step": clock.median("test"),
        }
    exact = networks.in_float32(classifier)
    frozen, rest = networks.split_at(exact, recipe.phases[-1].unfreeze_after)
    batch = one_batch(recipe, splits[0])
    result["whole"] = seconds_a_photo(exact, batch)
    result["rest"] = seconds_a_photo(rest, networks.forward(frozen)(batch))
    return result


def one_batch(recipe, photos):
    """Return the first 32 photos, in memory."""
    return next(images.batches(photos.paths[:32], recipe.image_size, 32))


def seconds_a_photo(network, batch):
    """Return the seconds a photo of a batch takes through a network alone."""
    from pyimagesearch import networks

    run = networks.forward(network)
    run(batch)
    seconds = []
    for _ in range(8):
        clock = console.Stopwatch()
        run(batch)
        seconds.append(clock.seconds)
    return float(np.median(seconds)) / len(batch)


def forward(recipe, out):
    """Time the frozen network alone: the limit of everything that sends photos through it."""
    console.load_tensorflow()
    from pyimagesearch import networks

    precision = networks.set_precision(config.PRECISION)
    extractor = networks.build_feature_extractor(
        recipe, networks.find_weights(recipe.backbone, config.WEIGHTS)
    )
    batch = one_batch(recipe, images.list_photos(config.DATASET_DIR, recipe, config.TRAIN))
    return {"precision": precision, "photos_a_second": 1 / seconds_a_photo(extractor, batch)}


SCRIPTS = {
    "extract": ("extract_features", ["--force"]),
    "regression": ("train", ["--method", "logistic_regression", "--force"]),
    "fine_tune": ("train", ["--method", "fine_tune", "--force"]),
    "predict": ("predict", None),
}
PARTS = {each.__name__: each for each in (read, parts, forward)}

if __name__ == "__main__":
    main()
