"""One phase of fine-tuning: what it reads, what learns, and how it is followed."""

import csv
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from pyimagesearch import cache, console, files, images, networks, pictures, views
from pyimagesearch.console import UserError

COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class Follow(keras.callbacks.Callback):
    """Follows a phase: a line and a row of history.csv an epoch, the bar, the checkpoint."""

    def __init__(self, phase, checkpoint, history_path, step_done):
        super().__init__()
        self.phase, self.checkpoint, self.path = phase, checkpoint, history_path
        self.step_done = step_done

    def on_epoch_begin(self, epoch, logs=None):
        self.clock = console.Stopwatch()

    def on_train_batch_end(self, batch, logs=None):
        self.step_done()

    def on_epoch_end(self, epoch, logs=None):
        numbers = {name: float(logs[name]) for name in COLUMNS[2:6]}
        seconds = round(self.clock.seconds, 2)
        self.checkpoint.rows.append(
            {"phase": self.phase.name, "epoch": epoch + 1, **numbers, "seconds": seconds}
        )
        write_history(self.path, self.checkpoint.rows)
        since_best = epochs_since_best(self.phase, self.checkpoint.rows)
        self.checkpoint.finish_epoch(self.model, best=self.phase.keep_best and not since_best)
        console.info(
            f"{self.phase.name} {epoch + 1}/{self.phase.epochs}: "
            f"loss {numbers['loss']:.3f}, accuracy {numbers['accuracy']:.3f}, validation "
            f"{numbers['val_loss']:.3f} and {numbers['val_accuracy']:.3f} ({self.clock})"
        )
        if self.phase.patience is not None and since_best >= self.phase.patience:
            console.info(f"{self.phase.name}: no lower validation loss for {since_best} epochs")
            self.model.stop_training = True


def epochs_since_best(phase, rows):
    """Return how many epochs ago the validation loss of a phase was lowest."""
    losses = [row["val_loss"] for row in rows if row["phase"] == phase.name]
    return len(losses) - 1 - losses.index(min(losses))


def write_history(path, rows):
    """Write history.csv: one row an epoch, over all phases."""
    with files.whole(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def fit(classifier, stage, splits, checkpoint, history_path, log_dir=None):
    """Train a phase; what it learns is in `classifier` afterwards.

    Args:
        classifier: a network from networks.build.
        stage: views.Stage of the phase.
        splits: (training, validation) as images.Photos.
        checkpoint: a checkpoint.Checkpoint: says which epochs are finished, and is told of each.
        history_path: of history.csv.
        log_dir: for TensorBoard, or None.
    """
    recipe, phase, done = stage.recipe, stage.phase, checkpoint.epoch
    if phase.held_out:
        splits = hold_out(splits[0], phase.held_out, stage.seed)
    console.info(
        f"{phase.name}: {len(splits[0]):,} photos train, {len(splits[1]):,} validate"
        f"{say_weights(recipe, splits[0])}; {describe(recipe, phase)}"
    )
    networks.open_for(classifier, phase)
    learning = classifier.trainable_weights
    console.info(
        f"{phase.name}: {len(learning)} of {len(classifier.weights)} weight tensors learn, "
        f"{networks.count_trainable(classifier):,} numbers, in "
        f"{', '.join(networks.trainable_layers(classifier))}"
    )
    if not is_over(phase, checkpoint):
        say_minutes(classifier, stage, splits, phase.epochs - done)
        stores = views.stores_views(recipe, phase)
        source = stored_source if stores else fresh_source
        try:
            learner, training, validation = source(classifier, stage, splits, done)
        finally:
            if stores and not done:
                # What it took counts, should training be stopped before an epoch is finished.
                checkpoint.save()
        networks.compile_for(learner, phase)
        checkpoint.restore_optimizer(learner)
        steps = steps_in_an_epoch(phase, splits[0], recipe)
        bar = console.progress(phase.name, (phase.epochs - done) * steps)
        with bar as step_done, reading_errors_explained() as note:
            follow = Follow(phase, checkpoint, history_path, step_done)
            learner.fit(
                as_dataset(training, learner.input, tf.data.INFINITE_CARDINALITY, note),
                initial_epoch=done,
                epochs=phase.epochs,
                steps_per_epoch=steps,
                validation_data=as_dataset(
                    validation, learner.input, batches_in(splits[1], recipe), note
                ),
                class_weight=weigh_classes(recipe, splits[0].labels),
                callbacks=[follow, *tensorboard(log_dir, phase)],
                shuffle=False,  # the data come shuffled
                verbose=0,
            )
    checkpoint.take_best()


def is_over(phase, checkpoint):
    """Tell whether no epoch of a phase is left, because it had them all or did not get better."""
    if checkpoint.epoch >= phase.epochs:
        return True
    if not checkpoint.epoch or phase.patience is None:
        return False
    return epochs_since_best(phase, checkpoint.rows) >= phase.patience


def tensorboard(log_dir, phase):
    """Return the callback that logs for TensorBoard, where there is a folder for it."""
    if log_dir is None:
        return []
    return [keras.callbacks.TensorBoard(log_dir / phase.name, write_graph=False)]


def say_minutes(classifier, stage, splits, epochs):
    """Say about how long the epochs left of a phase take, with stored views and fresh ones."""
    recipe, phase = stage.recipe, stage.phase
    photos, validation = splits
    frozen, rest = networks.split_at(classifier, phase.unfreeze_after)
    photo_seconds, step_seconds = pace(frozen, rest, recipe, photos)
    steps = steps_in_an_epoch(phase, photos, recipe)
    # A forward pass alone costs about a third of a training step.
    learning = epochs * step_seconds * (steps + batches_in(validation, recipe) / 3)
    shown = seen_in_an_epoch(phase, photos, recipe)
    fresh = learning + epochs * photo_seconds * (shown + len(validation))

    stores = views.stores_views(recipe, phase)
    missing = views.VIEWS
    if stores:
        seen = views.views_of(recipe, stage.number)
        paths = views.view_paths(frozen, stage, "training", photos, seen)
        missing = sum(not path.is_file() for path in paths)
    stored = learning + photo_seconds * (missing * len(photos) + len(validation))

    stored, fresh = (f"about {console.duration(seconds)}" for seconds in (stored, fresh))
    if not phase.augment:
        words = stored
    elif stores:
        words = f"{stored}; augmented afresh in every epoch it would be {fresh}"
    else:
        words = f"{fresh}; with views={views.VIEWS} in the row it would be {stored}"
    console.info(f"{phase.name}: {words}")


def pace(frozen, rest, recipe, photos):
    """Return the seconds of a photo through the frozen part, and of a training step of the rest.

    One batch is timed, after another that only warms up.
    """
    paths = photos.paths[: recipe.batch_size]
    batch = next(images.batches(paths, recipe.image_size, len(paths)))
    forward, step = networks.forward(frozen), networks.gradients(rest)
    maps = forward(batch)
    step(maps)
    return seconds_of(lambda: forward(batch)) / len(batch), seconds_of(lambda: step(maps))


def seconds_of(work):
    """Return how long a function takes."""
    clock = console.Stopwatch()
    work()
    return clock.seconds


def draw_augmentation(path, recipe, photos, seed):
    """Draw one training photo as it is and under nine draws of the recipe's augmentation."""
    photo = photos.paths[0]
    plain = images.load(photo, recipe.image_size)
    augment = views.augmenter(recipe, (seed,), 1)
    changed = [plain, *(augment(draw, plain) for draw in range(9))]
    captions = [files.printable(photo.name), *(f"draw {draw + 1}" for draw in range(9))]
    title = "One photo as it is, and nine draws of the recipe's augmentation"
    pictures.draw_sheet(path, changed, captions, title, columns=5)


def hold_out(photos, share, seed):
    """Return (the rest, a share) of a list of photos, drawn class by class, both in order.

    Every class keeps a photo to learn from.

    Raises:
        UserError: no class has a second one.
    """
    drawn = np.random.default_rng(seed).permutation(len(photos))
    held = np.zeros(len(photos), bool)
    for label in np.unique(photos.labels):
        mine = drawn[photos.labels[drawn] == label]
        count = max(1, round(share * len(mine)))
        held[mine[: min(count, len(mine) - 1)]] = True
    if not held.any():
        raise UserError("held_out needs a class with two training photos, and none has. Add some")
    return photos.take(np.flatnonzero(~held)), photos.take(np.flatnonzero(held))


def describe(recipe, phase):
    """Say in words what the epochs of a phase see of a photo."""
    count = views.view_count(recipe)
    if count == 0 or not phase.augment:
        return "the frozen part sees each photo once, not augmented"
    if count is None:
        return "every photo is augmented afresh in every epoch"
    return f"the frozen part sees {count} augmented views of each photo, once"


def batches_in(photos, recipe):
    """Return how many batches show every photo once."""
    return -(-len(photos) // recipe.batch_size)


def steps_in_an_epoch(phase, photos, recipe):
    """Return how many batches an epoch has."""
    return phase.steps_per_epoch or batches_in(photos, recipe)


def seen_in_an_epoch(phase, photos, recipe):
    """Return how many photos an epoch shows."""
    return phase.steps_per_epoch * recipe.batch_size if phase.steps_per_epoch else len(photos)


def fresh_source(classifier, stage, splits, done):
    """Return (learner, training, validation) with photos through the whole network.

    training and validation are functions that return an iterator of (inputs, labels): the first
    goes on without end, behind the epochs that are done, the second gives every photo once.
    """
    recipe, phase, seed = stage.recipe, stage.phase, (stage.seed, stage.number)
    training, validation = splits
    # A model of its own around the same layers: the classifier is saved without an optimizer.
    learner = networks.learner_of(classifier, phase.unfreeze_after)
    count = seen_in_an_epoch(phase, training, recipe)
    return (
        learner,
        lambda: views.fresh_batches(recipe, training, phase.augment, seed, count, done),
        lambda: views.plain_fresh_batches(recipe, validation),
    )


def stored_source(classifier, stage, splits, done):
    """Return (learner, training, validation), as fresh_source, from stored views."""
    recipe, phase, seed = stage.recipe, stage.phase, (stage.seed, stage.number)
    training, validation = splits
    seen = views.views_of(recipe, stage.number)
    maps = views.open_views(classifier, stage, "training", training, seen)
    plain = views.open_views(classifier, stage, "validation", validation, views.PLAIN)
    _, learner = networks.split_at(classifier, phase.unfreeze_after)
    count = seen_in_an_epoch(phase, training, recipe)
    # Mixed maps teach a head well. Behind a cut they still show where things are.
    vary = (seen != views.PLAIN, phase.unfreeze_after is None)
    return (
        learner,
        lambda: views.stored_batches(recipe, training, maps, seed, count, done, *vary),
        lambda: views.plain_stored_batches(recipe, validation, plain),
    )


def judged_source(classifier, stage, photos):
    """Return (network, batches) that together say what `classifier` says of every photo, in order.

    What no phase teaches says the same after each: it is asked once, and its words are kept where
    there is room for them.
    """
    recipe = stage.recipe
    whole = classifier, images.batches(photos.paths, recipe.image_size, recipe.batch_size)
    stages = [replace(stage, number=number) for number in range(len(recipe.phases))]
    if len(stages) == 1 or not all(views.stores_views(recipe, each.phase) for each in stages):
        return whole
    first = views.earliest(stages)
    try:
        stored = views.open_views(classifier, first, "evaluation", photos, views.PLAIN)
    except cache.NoRoom:
        console.info("too little room to store what the frozen part says of evaluation photos")
        return whole
    _, rest = networks.split_at(classifier, first.phase.unfreeze_after)
    return rest, (maps for maps, _ in views.plain_stored_batches(recipe, photos, stored))


def as_dataset(batches, inputs, cardinality, note):
    """Return a tf.data.Dataset that calls `batches()` anew for every pass over it.

    A bare generator would go on where prefetching left it, and validation would drop photos.

    Args:
        batches: a function that returns an iterator of (inputs, labels).
        inputs: the network's symbolic input.
        cardinality: how many batches a pass has.
        note: wraps the iterator, to remember what it raises.
    """
    # Photos come as bytes, stored views as they are stored.
    dtype = "uint8" if inputs.dtype == "uint8" else "bfloat16"
    signature = (tf.TensorSpec(inputs.shape, dtype), tf.TensorSpec((None,), "int64"))
    dataset = tf.data.Dataset.from_generator(lambda: note(batches()), output_signature=signature)
    dataset = dataset.map(lambda batch, labels: (tf.cast(batch, inputs.dtype), labels))
    # Nothing here is left to tf.data to tune. The thread that would do it is woken at 10, 20, 40
    # ... ms, and the end of a pass may wait for it: for as long again as the pass has taken.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.with_options(options)
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality)).prefetch(1)


@contextmanager
def reading_errors_explained():
    """Let a photo that cannot be read come out of `fit` as its own error.

    tf.data turns what a generator raises into an error of its own, with a page of traceback. The
    function this gives wraps an iterator and remembers what was raised in it.
    """
    raised = []

    def note(batches):
        try:
            yield from batches
        except (UserError, OSError) as failure:
            raised.append(failure)
            raise

    try:
        yield note
    except tf.errors.OpError as failure:
        if not raised:
            raise
        raise raised[0] from failure


def say_weights(recipe, photos):
    """Say the class weights, where the recipe has any."""
    weights = weigh_classes(recipe, photos.labels)
    if weights is None:
        return ""
    words = [f"{photos.classes[label]} {weight:.3f}" for label, weight in weights.items()]
    return f"; class weights: {', '.join(words)}"


def weigh_classes(recipe, labels):
    """Return Keras' class_weight for a recipe: None, or {class: weight} that balances them."""
    if recipe.class_weights is None:
        return None
    classes = np.arange(len(recipe.classes))
    weights = compute_class_weight(recipe.class_weights, classes=classes, y=labels)
    return dict(enumerate(map(float, weights)))
