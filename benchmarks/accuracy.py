"""Stored views compared with fresh augmentation: accuracy after each phase of many trainings.

    python benchmarks/accuracy.py DATASET --warmup 20 --unfrozen 10 --seeds 1 2 3

DATASET has <split>/<class>/ folders. 36 views of each training photo are stored once and serve all
trainings, so that many trainings are possible on a CPU. Fresh augmentation uses another view in
every epoch and none twice. A training on stored views draws as many views as train.py stores,
shares as many between the phases, and varies them as train.py does. A seed decides the views, the
first weights of the head, the order of the photos and dropout. Trainings that are in the results
already are skipped.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from ours import SPLIT_NAMES, use_dataset
from race import ROOT, measured_on

from pyimagesearch import config, datasets
from pyimagesearch.support import console, files

RESULTS = ROOT / "benchmarks" / "accuracy.json"
POOL = 36  # views of each photo
WAYS = ("fresh", "stored")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--warmup", type=int, default=20, metavar="EPOCHS")
    parser.add_argument("--unfrozen", type=int, default=10, metavar="EPOCHS")
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3), metavar="SEED")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    out = ROOT / config.OUTPUT_DIR / "accuracy"
    parser.set_defaults(out=out)
    arguments = parser.parse_args()
    epochs = arguments.warmup + arguments.unfrozen
    if epochs > POOL:
        parser.error(
            f"--warmup and --unfrozen are {epochs} epochs, but fresh augmentation has {POOL} "
            f"views, one for each epoch. Use fewer epochs"
        )
    console.import_tensorflow()
    recipe = use_dataset(arguments)
    splits = datasets.list_splits(config.DATASET_DIR, recipe, SPLIT_NAMES)
    schedule = f"{recipe.name} {arguments.warmup} + {arguments.unfrozen}"
    results = files.read_json(arguments.results) or {}
    trainings = results.setdefault(schedule, {way: {} for way in WAYS})
    for seed in arguments.seeds:
        for way in WAYS:
            if str(seed) in trainings[way]:
                continue
            stopwatch = console.Stopwatch()
            view_numbers = draw_views(recipe, way, seed)
            accuracies = train(recipe, splits, way, seed, view_numbers, out / recipe.name)
            trainings[way][str(seed)] = accuracies
            results["machine"] = measured_on()
            files.write_json(arguments.results, results)
            words = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
            console.info(f"{way} {seed}: {words} ({stopwatch})")
    console.show(table(trainings))


def draw_views(recipe, way, seed):
    """Return the numbers of the views that each phase of a training uses, one tuple a phase."""
    from pyimagesearch import frozen

    order = tuple(map(int, np.random.default_rng(seed).permutation(POOL)))
    if way == "stored":
        views = frozen.Views(config.STORED_VIEWS, config.SHARED_VIEWS)
        numbers = [frozen.view_numbers(recipe, number, views) for number in (0, 1)]
        return [tuple(order[number] for number in phase_numbers) for phase_numbers in numbers]
    first, second = (phase.epochs for phase in recipe.phases)
    return [order[:first], order[first : first + second]]


def train(recipe, splits, way, seed, view_numbers, folder):
    """Train once; return {"<phase>, <split>": accuracy}.

    Args:
        recipe: a row of config.RECIPES.
        splits: datasets.Splits.
        way: "fresh" or "stored".
        seed: of the training. The views are computed with config.SEED.
        view_numbers: from draw_views.
        folder: for the stored outputs.
    """
    import keras

    from pyimagesearch import frozen, networks

    keras.utils.clear_session()
    networks.set_precision(config.PRECISION)
    network = networks.build(recipe, config.WEIGHTS, seed)
    # Any view can serve any phase, so each is shared by both.
    pool = frozen.Views(POOL, shared=POOL)
    outputs = frozen.needed(recipe, pool)
    store = frozen.compute(outputs, network, recipe, splits, config.SEED, folder)
    accuracies = {}
    for number, numbers in enumerate(view_numbers):
        networks.unfreeze_after(network, recipe.phases[number].unfreeze_after)
        data = pool_data(recipe, number, splits, seed, pool, store, way, numbers)
        accuracies |= train_phase(network, data)
    return accuracies


def pool_data(recipe, number, splits, seed, pool, store, way, numbers):
    """Return the batches.PhaseData of a phase that uses only some views of the pool."""
    from pyimagesearch import frozen
    from pyimagesearch.batches import PhaseData

    every_view = frozen.training_outputs(recipe, number, pool)

    class PoolData(PhaseData):
        def training_batches(self, first_epoch=0):
            outputs = [every_view[view] for view in numbers]
            # A view that comes once needs no variation.
            return self.stored_batches(outputs, first_epoch, vary=way == "stored")

    return PoolData(recipe, number, splits, seed, pool, store)


def train_phase(network, data):
    """Train one phase; return its accuracies as `train` does."""
    import tensorflow as tf

    from pyimagesearch import classifier, networks
    from pyimagesearch.batches import as_dataset

    errors = []
    phase, evaluation = data.phase, data.splits.evaluation
    model = data.model(network)
    networks.compile_for(model, phase, data.steps_per_epoch)
    endless = as_dataset(data.training_batches, model.input, tf.data.INFINITE_CARDINALITY, errors)
    model.fit(
        endless,
        epochs=phase.epochs,
        steps_per_epoch=data.steps_per_epoch,
        shuffle=False,
        verbose=0,
    )
    count = data.count_batches(data.splits.validation)
    validation = as_dataset(data.validation_batches, model.input, count, errors)
    metrics = model.evaluate(validation, verbose=0, return_dict=True)
    evaluated, inputs = data.evaluation_inputs(networks.float32_copy(network))
    outputs = networks.concatenate(map(networks.predict_function(evaluated), inputs))
    probabilities = classifier.both_classes(outputs)
    return {
        f"{phase.name}, validation": metrics["accuracy"],
        f"{phase.name}, evaluation": float(
            np.mean(probabilities.argmax(axis=1) == evaluation.labels)
        ),
    }


def table(trainings):
    """Return means, standard deviations, and stored less fresh of the same seeds, as text."""
    seeds = sorted(set(trainings["fresh"]) & set(trainings["stored"]), key=int)
    lines = [f"{len(seeds)} seeds{'':<17}{'fresh':>15}{'stored':>15}   stored - fresh (std. error)"]
    for name in trainings["fresh"][seeds[0]]:
        fresh, stored = ([trainings[way][seed][name] for seed in seeds] for way in WAYS)
        cells = "".join(f"{mean_and_spread(each):>15}" for each in (fresh, stored))
        differences = [a - b for a, b in zip(stored, fresh, strict=True)]
        error = spread(differences) / len(seeds) ** 0.5
        lines.append(f"{name:<24}{cells}   {statistics.mean(differences):+.4f} ({error:.4f})")
    return "\n".join(lines)


def mean_and_spread(numbers):
    """Return a mean and a standard deviation as text."""
    return f"{statistics.mean(numbers):.3f} ± {spread(numbers):.3f}"


def spread(numbers):
    """Return the standard deviation of numbers, 0 of one."""
    return statistics.stdev(numbers) if len(numbers) > 1 else 0.0


if __name__ == "__main__":
    console.run(main)
