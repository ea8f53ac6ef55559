"""One phase of fine-tuning: what it reads, what learns, and how it is followed."""

import csv
from contextlib import ExitStack

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from pyimagesearch import console, files, networks, views

COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class Follow(keras.callbacks.Callback):
    """Prints a line an epoch, draws a bar within it, and keeps history.csv up to date."""

    def __init__(self, phase, steps, rows, path, bars):
        super().__init__()
        self.phase, self.steps, self.rows, self.path = phase, steps, rows, path
        self.bars = bars  # an ExitStack: the bar is put away even when an epoch is interrupted

    def on_epoch_begin(self, epoch, logs=None):
        self.clock = console.Stopwatch()
        title = f"{self.phase.name} {epoch + 1}/{self.phase.epochs}"
        self.step_done = self.bars.enter_context(console.progress(title, self.steps))

    def on_train_batch_end(self, batch, logs=None):
        self.step_done()

    def on_epoch_end(self, epoch, logs=None):
        self.bars.close()
        numbers = {name: float(logs[name]) for name in COLUMNS[2:6]}
        seconds = round(self.clock.seconds, 2)
        self.rows.append(
            {"phase": self.phase.name, "epoch": epoch + 1, **numbers, "seconds": seconds}
        )
        write_history(self.path, self.rows)
        console.info(
            f"{self.phase.name} {epoch + 1}/{self.phase.epochs}: "
            f"loss {numbers['loss']:.3f}, accuracy {numbers['accuracy']:.3f}, validation "
            f"{numbers['val_loss']:.3f} and {numbers['val_accuracy']:.3f} ({self.clock})"
        )


def write_history(path, rows):
    """Write history.csv: one row an epoch, over all phases."""
    with files.whole(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def fit(classifier, recipe, number, splits, seed, cache, rows, history_path):
    """Train the phase `recipe.phases[number]`; what it learns is in `classifier` afterwards.

    Args:
        classifier: a network from networks.build.
        number: of the phase, from 0.
        splits: (training, validation) as images.Photos.
        seed: an int.
        cache: a folder for stored views.
        rows: the epochs so far, as history.csv has them; this phase's are added.
        history_path: of history.csv.
    """
    phase = recipe.phases[number]
    networks.open_for(classifier, phase)
    source = stored_source if stores_views(recipe, phase) else fresh_source
    learner, training, validation = source(classifier, recipe, number, splits, seed, cache)
    networks.compile_for(learner, phase)
    steps = phase.steps_per_epoch or batches_in(splits[0], recipe)
    with ExitStack() as bars:
        learner.fit(
            training,
            epochs=phase.epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            class_weight=weigh_classes(recipe, splits[0].labels),
            callbacks=[Follow(phase, steps, rows, history_path, bars)],
            shuffle=False,  # the data come shuffled
            verbose=0,
        )


def describe(recipe):
    """Say in words what each epoch sees of a photo."""
    count = view_count(recipe)
    if count is None:
        return "every photo is augmented afresh in every epoch"
    if count == 0:
        return "the frozen part sees each photo once, not augmented"
    return f"the frozen part sees {count} augmented views of each photo, once"


def stores_views(recipe, phase):
    """Tell whether a phase learns from stored outputs of its frozen part."""
    return not phase.augment or view_count(recipe) is not None


def view_count(recipe):
    """Return how many views of a photo are stored on this machine, None for fresh ones."""
    return views.choose(recipe.views, bool(tf.config.list_physical_devices("GPU")))


def batches_in(photos, recipe):
    """Return how many batches show every photo once."""
    return -(-len(photos) // recipe.batch_size)


def seen_in_an_epoch(phase, photos, recipe):
    """Return how many photos an epoch shows."""
    return phase.steps_per_epoch * recipe.batch_size if phase.steps_per_epoch else len(photos)


def fresh_source(classifier, recipe, number, splits, seed, cache):
    """Return (learner, training data, validation data) with photos through the whole network."""
    phase = recipe.phases[number]
    training, validation = splits
    # A model of its own around the same layers: the classifier is saved without an optimizer.
    learner = keras.Model(classifier.input, classifier.output)
    count = seen_in_an_epoch(phase, training, recipe)
    changing = as_dataset(
        lambda: views.fresh_batches(recipe, training, phase.augment, (seed, number), count),
        tf.TensorSpec(learner.input.shape, "uint8"),
        tf.data.INFINITE_CARDINALITY,
    )
    plain = as_dataset(
        lambda: views.plain_fresh_batches(recipe, validation),
        tf.TensorSpec(learner.input.shape, "uint8"),
        batches_in(validation, recipe),
    )
    return learner, changing, plain


def stored_source(classifier, recipe, number, splits, seed, cache):
    """Return (learner, training data, validation data) with stored views through the rest."""
    phase = recipe.phases[number]
    training, validation = splits
    # Each phase has views of its own: those that the phase before learned from are known by
    # heart, and learning goes on better from others.
    seeds = (seed, number)
    versions = (view_count(recipe) or 0) if phase.augment else 0
    stored = open_views(classifier, recipe, phase, training, versions, seeds, cache, "training")
    kept = open_views(classifier, recipe, phase, validation, 0, seeds, cache, "validation")
    _, learner = networks.split_at(classifier, phase.unfreeze_after)
    count = seen_in_an_epoch(phase, training, recipe)
    # The warm-up loses nothing from seeing the same views again; a phase that opens the
    # backbone would learn them by heart.
    shift = phase.augment and phase.unfreeze_after is not None
    changing = as_dataset(
        lambda: views.stored_batches(recipe, training, stored, seeds, count, shift),
        tf.TensorSpec(learner.input.shape, "float32"),
        tf.data.INFINITE_CARDINALITY,
    )
    plain = as_dataset(
        lambda: views.plain_stored_batches(recipe, validation, kept),
        tf.TensorSpec(learner.input.shape, "float32"),
        batches_in(validation, recipe),
    )
    return learner, changing, plain


def as_dataset(batches, inputs, cardinality):
    """Return a tf.data.Dataset that calls `batches()` anew for every pass over it.

    A bare generator would go on where prefetching left it, and validation would drop photos.

    Args:
        batches: a function that returns an iterator of (inputs, labels).
        inputs: the TensorSpec of a batch of inputs.
        cardinality: how many batches a pass has.
    """
    signature = (inputs, tf.TensorSpec((None,), "int64"))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality)).prefetch(1)


def open_views(classifier, recipe, phase, photos, versions, seeds, cache, split):
    """Return the stored views of a split, computed now unless they lie in the cache."""
    frozen, _ = networks.split_at(classifier, phase.unfreeze_after)
    made_from = (
        *(photos.stamp, networks.weights_digest(frozen), recipe.augmentation, versions, seeds),
        *(recipe.image_size, recipe.preprocessing, keras.config.dtype_policy().name),
    )
    path = views.cache_path(cache, phase, split, *made_from)
    views.drop_stale(path)
    return views.store(path, classifier, phase, recipe, photos, versions, seeds)


def weigh_classes(recipe, labels):
    """Return Keras' class_weight for a recipe: None, or {class: weight} that balances them."""
    if recipe.class_weights is None:
        return None
    classes = np.arange(len(recipe.classes))
    weights = compute_class_weight(recipe.class_weights, classes=classes, y=labels)
    return dict(enumerate(map(float, weights)))
