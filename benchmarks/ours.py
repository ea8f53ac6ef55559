"""What race.py runs of this project: its scripts, on a dataset and a schedule of the race.

    python benchmarks/ours.py extract   DATASET OUT
    python benchmarks/ours.py fine_tune DATASET OUT [--warmup 50] [--unfrozen 20]
    python benchmarks/ours.py WHAT      DATASET OUT [--precision float32]

DATASET has <split>/<class>/ folders as build_dataset.py makes them. WHAT can also be `regression`
or `predict`, or one of four that write OUT/ours_<what>.json: `read` reads the training.csv in
OUT, `parts` times the parts of fine-tuning, `forward` times the frozen network alone, on photos
that are in memory already, and `reference` writes such photos and their features for torch_port.py.
"""

import argparse
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyimagesearch import config, datasets, features, images
from pyimagesearch.recipe import checked
from pyimagesearch.support import console, files

SPLIT_NAMES = (config.TRAIN, config.VAL, config.TEST)
REPETITIONS = 8  # of a timed forward pass


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
    recipe = use_dataset(arguments)
    if arguments.what in PARTS:
        result = PARTS[arguments.what](recipe, arguments.out)
        files.write_json(arguments.out / f"ours_{arguments.what}.json", result)
        return
    script, options = SCRIPTS[arguments.what]
    if script == "predict":
        photos = datasets.list_photos(config.DATASET_DIR, recipe, config.TEST)
        options = ["--image", *map(str, photos.paths)]
    script_main = importlib.import_module(script).main
    console.run(lambda: script_main(["--recipe", recipe.name, *options]))


def use_dataset(arguments):
    """Put a row into config: Food-11's settings, with another dataset and epochs; return it."""
    dataset = arguments.dataset.resolve()
    classes = tuple(sorted(folder.name for folder in (dataset / config.TRAIN).iterdir()))
    food11 = config.RECIPES["food11"]
    epochs = (arguments.warmup, arguments.unfrozen)
    phases = tuple(
        replace(phase, epochs=count) for phase, count in zip(food11.phases, epochs, strict=True)
    )
    row = replace(food11, classes=classes, official_counts=None, phases=phases)
    config.RECIPES = checked({dataset.name: row})
    config.DATASET_DIR, config.OUTPUT_DIR = dataset.parent, arguments.out
    return config.RECIPES[dataset.name]


def photos_of(path, classes, count=None):
    """Return datasets.Photos with the labels of a CSV, repeated until there are `count`."""
    labels = np.concatenate([labels for _, labels in features.parse_csv(path, len(classes))])
    labels = np.resize(labels, count or len(labels))
    return datasets.Photos(tuple(map(str, range(len(labels)))), labels, classes)


def read(recipe, out):
    """Time reading a CSV into arrays."""
    path = out / "training.csv"
    photos = photos_of(path, recipe.classes)
    stopwatch = console.Stopwatch()
    features.read_split(path, photos, 25088)
    return {"seconds": stopwatch.seconds}


def parts(recipe, out):
    """Time a photo through the frozen layers of each phase, and the steps of each phase."""
    console.import_tensorflow()
    from pyimagesearch import batches, frozen, networks

    networks.set_precision(config.PRECISION)
    network = networks.build(recipe, config.WEIGHTS, config.SEED)
    splits = datasets.list_splits(config.DATASET_DIR, recipe, SPLIT_NAMES)
    views = frozen.choose_views(recipe.views, config.STORED_VIEWS, config.SHARED_VIEWS)
    outputs = frozen.needed(recipe, views)
    inputs = (network, recipe, splits, config.SEED, out / "cache")
    result, frozen_seconds = {}, {}
    for phase in recipe.phases:
        stopwatch = console.Stopwatch()
        frozen.compute(training_outputs(outputs, phase), *inputs, keep=outputs)
        frozen_seconds[phase.name] = stopwatch.seconds
    store = frozen.compute(outputs, *inputs)
    for number, phase in enumerate(recipe.phases):
        networks.unfreeze_after(network, phase.unfreeze_after)
        data = batches.PhaseData(recipe, number, splits, config.SEED, views, store)
        photos_through = len(splits.training) * views.count
        result[phase.name] = {
            "views": views.count,
            "frozen": frozen_seconds[phase.name] / photos_through,
            **time_steps(network, data),
        }
    float32_network = networks.float32_copy(network)
    frozen_part, trained_part = networks.split_at(float32_network, recipe.phases[-1].unfreeze_after)
    batch = one_batch(recipe, splits.training)
    result["whole"] = seconds_per_photo(float32_network, batch)
    frozen_outputs = networks.predict_function(frozen_part)(batch)
    result["rest"] = seconds_per_photo(trained_part, frozen_outputs)
    return result


def training_outputs(outputs, phase):
    """Return the Outputs of a phase's training photos, after those that they are computed from."""
    from pyimagesearch import frozen

    of_phase = [
        output
        for output in outputs
        if output.split == "training" and output.layer == phase.unfreeze_after
    ]
    views = {output.view for output in of_phase if output.computed_from != frozen.PHOTOS}
    sources = [
        output
        for output in outputs
        if output.split == "training" and output.view in views and output not in of_phase
    ]
    return (*sources, *of_phase)


def time_steps(network, data):
    """Return the median seconds of a training step and of a validation step."""
    from clock import Clock

    from pyimagesearch import batches, networks

    model = data.model(network)
    networks.compile_for(model, data.phase, data.steps_per_epoch)
    clock = Clock()
    endless = batches.as_dataset(data.training_batches, model.input, -1, errors=[])
    model.fit(endless, steps_per_epoch=16, verbose=0, shuffle=False, callbacks=[clock])
    count = data.count_batches(data.photos.validation)
    validation = batches.as_dataset(data.validation_batches, model.input, count, errors=[])
    for _ in range(3):
        model.evaluate(validation, verbose=0, callbacks=[clock])
    return {"step": clock.median("train"), "validation_step": clock.median("test")}


def one_batch(recipe, photos):
    """Return the first 32 photos, in memory."""
    return next(images.read_batches(photos.paths[:32], recipe.image_size, 32))


def seconds_per_photo(network, batch):
    """Return the median seconds that a photo of a batch takes through a network alone."""
    from pyimagesearch import networks

    predict = networks.predict_function(network)
    predict(batch)
    seconds = []
    for _ in range(REPETITIONS):
        stopwatch = console.Stopwatch()
        predict(batch)
        seconds.append(stopwatch.seconds)
    return float(np.median(seconds)) / len(batch)


def forward(recipe, out):
    """Time the frozen network alone: the limit of everything that computes its outputs."""
    console.import_tensorflow()
    from pyimagesearch import networks

    precision = networks.set_precision(config.PRECISION)
    extractor = networks.build_feature_extractor(recipe, config.WEIGHTS)
    batch = one_batch(recipe, datasets.list_photos(config.DATASET_DIR, recipe, config.TRAIN))
    return {"precision": precision, "photos_a_second": 1 / seconds_per_photo(extractor, batch)}


def reference(recipe, out):
    """Write photos and their features in float32, which another network has to compute too."""
    console.import_tensorflow()
    from pyimagesearch import networks

    networks.set_precision("float32")
    extractor = networks.float32_copy(networks.build_feature_extractor(recipe, config.WEIGHTS))
    batch = one_batch(recipe, datasets.list_photos(config.DATASET_DIR, recipe, config.TRAIN))
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "photos.npy", batch)
    np.save(out / "features.npy", networks.predict_function(extractor)(batch))
    return {"photos": len(batch)}


SCRIPTS = {
    "extract": ("extract_features", ["--force"]),
    "regression": ("train", ["--method", "logistic_regression", "--force"]),
    "fine_tune": ("train", ["--method", "fine_tune", "--force"]),
    "predict": ("predict", None),
}
PARTS = {function.__name__: function for function in (read, parts, forward, reference)}

if __name__ == "__main__":
    main()
