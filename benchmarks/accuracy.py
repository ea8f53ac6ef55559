"""Stored views against fresh augmentation: accuracy after each phase, over many trainings.

    python benchmarks/accuracy.py DATASET --warmup 20 --unfrozen 10 --seeds 1 2 3

DATASET holds <split>/<class>/ folders. 36 views of each training photo, stored once, serve all
trainings, which is what makes many of them affordable on a CPU. Fresh augmentation takes another
one in every epoch, none twice, as it is. A training on stored views draws as many as train.py
stores, shares as many between the phases, and learns from them as train.py does. A seed draws the
views, the head's first numbers, the order of the photos and dropout. What is in the results already
is not trained again.
"""

import argparse
import functools
import statistics
from pathlib import Path

import numpy as np
from ours import take_over
from race import ROOT, measured_on

from pyimagesearch import config, console, files, images

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
    if arguments.warmup + arguments.unfrozen > POOL:
        parser.error(f"fresh augmentation has {POOL} views, one an epoch")
    console.load_tensorflow()
    recipe = take_over(arguments)
    splits = [
        images.list_photos(config.DATASET_DIR, recipe, split)
        for split in (config.TRAIN, config.VAL, config.TEST)
    ]
    schedule = f"{recipe.name} {arguments.warmup} + {arguments.unfrozen}"
    kept = files.read_json(arguments.results) or {}
    trainings = kept.setdefault(schedule, {way: {} for way in WAYS})
    for seed in arguments.seeds:
        for way in WAYS:
            if str(seed) in trainings[way]:
                continue
            clock = console.Stopwatch()
            seen = draw(recipe, way, seed)
            found = train(recipe, splits, way, seed, seen, out / recipe.name)
            trainings[way][str(seed)] = found
            kept["machine"] = measured_on()
            files.write_json(arguments.results, kept)
            words = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            console.info(f"{way} {seed}: {words} ({clock})")
    console.show(table(trainings))


def draw(recipe, way, seed):
    """Return the numbers of the views that each phase of a training learns from."""
    from pyimagesearch import views

    order = tuple(map(int, np.random.default_rng(seed).permutation(POOL)))
    if way == "stored":
        return [
            tuple(order[number] for number in views.views_of(recipe, phase))
            for phase in range(len(recipe.phases))
        ]
    first, second = (phase.epochs for phase in recipe.phases)
    return [order[:first], order[first : first + second]]


def train(recipe, splits, way, seed, seen, folder):
    """Train once; return {"<phase>, <split>": accuracy}.

    Args:
        recipe: a row with stored views.
        splits: (training, validation, evaluation) as images.Photos.
        way: "fresh" or "stored".
        seed: of the training. Views are drawn with config.SEED.
        seen: numbers of views, for each phase.
        folder: for stored views.
    """
    import keras
    import tensorflow as tf

    from pyimagesearch import artifacts, networks, training, views

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    networks.set_precision(config.PRECISION)
    weights = networks.find_weights(recipe.backbone, config.WEIGHTS)
    classifier = networks.build(recipe, weights)
    found = {}
    for number, phase in enumerate(recipe.phases):
        stage = views.Stage(recipe, number, config.SEED, folder)
        networks.open_for(classifier, phase)
        maps = open_pool(classifier, stage, splits[0], seen[number])
        plain = views.open_views(classifier, stage, "validation", splits[1], views.PLAIN)
        _, learner = networks.split_at(classifier, phase.unfreeze_after)
        order = (seed, number), len(splits[0]), 0
        vary = (way == "stored", way == "stored" and phase.unfreeze_after is None)
        batches = functools.partial(views.stored_batches, recipe, splits[0], maps, *order, *vary)
        endless = training.as_dataset(batches, learner.input, tf.data.INFINITE_CARDINALITY, iter)
        steps = training.batches_in(splits[0], recipe)
        networks.compile_for(learner, phase)
        learner.fit(endless, epochs=phase.epochs, steps_per_epoch=steps, shuffle=False, verbose=0)

        batches = functools.partial(views.plain_stored_batches, recipe, splits[1], plain)
        once = training.as_dataset(
            batches, learner.input, training.batches_in(splits[1], recipe), iter
        )
        scored = learner.evaluate(once, verbose=0, return_dict=True)
        found[f"{phase.name}, validation"] = scored["accuracy"]
        network, batches = training.judged_source(networks.in_float32(classifier), stage, splits[2])
        said = artifacts.from_network(network, recipe.classes).ask(batches)
        found[f"{phase.name}, evaluation"] = float(np.mean(said.argmax(axis=1) == splits[2].labels))
    return found


def open_pool(classifier, stage, photos, seen):
    """Return some views of the pool, computed where they are not stored yet.

    Any view may serve any phase. So it is stored at the earliest cut first, as a shared one is.
    """
    from pyimagesearch import views

    own = views.VIEWS, views.LENT
    views.VIEWS = views.LENT = POOL
    try:
        return views.open_views(classifier, stage, "training", photos, seen)
    finally:
        views.VIEWS, views.LENT = own


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
