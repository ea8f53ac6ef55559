"""One phase of fine-tuning: fit the model to the batches of the phase, epoch by epoch."""

import csv
import itertools
import math
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight

from pyimagesearch import networks, regression
from pyimagesearch.support import console, devices, files
from pyimagesearch.support.errors import UserError

HISTORY_FILE = "history.csv"
LOGS_FOLDER = "tensorboard"
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
# How many times its first epoch's a loss may be, and the first epoch's that of its first batch.
# Warm-ups on `sample`, whose val_accuracy is 0.72 with the recipe's settings: Adam at 0.01 began
# with 27 times the loss of the first batch and reached 0.70; Adam at 0.1 with 530 times, and 0.48.
EPOCH_FACTOR, FIRST_EPOCH_FACTOR = 10, 100
# A loss below this counts as this: it may rise tenfold and still be small.
SMALL_LOSS = 1
# For a head that starts with logistic regression: how many epochs of augmented photos it is fitted
# to, and the most iterations.
START_EPOCHS, START_ITERATIONS = 3, 200
# A phase waits for its photos if they are read less than this many times as fast as it trains. On
# a CPU both share the cores, so reading alone is faster than reading while the network computes.
SLOW_READING = 1.5
# How long reading is timed: at most so many batches, and seconds.
READ_BATCHES, READ_SECONDS = 8, 1


def fit(network, data, checkpoint, folder, tensorboard=False):
    """Train one phase; afterwards `network` has the trained weights.

    Its layers are unfrozen already; `data` is its batches.PhaseData. The checkpoint records the
    epochs. history.csv and TensorBoard's logs go to `folder`. A loss that diverges is a UserError.
    """
    phase = data.phase
    report_phase(network, data)
    if is_finished(phase, checkpoint):
        checkpoint.restore_best()
        return
    data.store_photos()
    first_epoch, steps = checkpoint.finished_epochs, data.steps_per_epoch
    if checkpoint.finished_phases == first_epoch == 0:
        delete_logs(folder / LOGS_FOLDER)
        start_head(network, data)
    model = compiled_model(network, data, checkpoint)
    callbacks = [tensorboard_callback(folder / LOGS_FOLDER, phase)] if tensorboard else []
    errors = []
    inputs = inputs_of_fit(model, data, first_epoch, errors)
    with console.progress(phase.name, (phase.epochs - first_epoch) * steps) as advance:
        recorder = EpochRecorder(phase, checkpoint, folder / HISTORY_FILE, advance)
        try:
            model.fit(
                **inputs,
                initial_epoch=first_epoch,
                epochs=phase.epochs,
                steps_per_epoch=steps,
                callbacks=[*callbacks, recorder],
                shuffle=False,  # the batches are shuffled already
                verbose=0,
            )
        except tf.errors.OpError:
            # If a photo cannot be read, the list has the error that names it.
            if errors:
                raise errors[0] from None
            raise
    report_speed(data, recorder.step_seconds)
    checkpoint.restore_best()


def compiled_model(network, data, checkpoint):
    """Return the model that the epochs of a phase train, with the optimizer as it was left."""
    with network.distribute_strategy.scope():
        model = devices.for_devices(data.model(network))
        networks.compile_for(model, data.phase, data.steps_per_epoch)
        checkpoint.restore_optimizer(model)
    return model


def inputs_of_fit(model, data, first_epoch, errors):
    """Return the batches of a phase and its class weights, as arguments of model.fit.

    `errors` gets the error of a photo that cannot be read. Several devices need batches that can be
    divided; Keras takes either class weights or weights per photo, so the batches hold both.
    """
    training, validation = data.as_datasets(model.input, first_epoch, errors)
    weights = class_weights(data.recipe, data.photos.training.labels)
    parts = devices.count(model)
    if parts == 1:
        return {"x": training, "validation_data": validation, "class_weight": weights}
    training = devices.padded(training, parts, weights)
    return {"x": training, "validation_data": devices.padded(validation, parts)}


def report_speed(data, step_seconds):
    """Print what a phase waits for, reading or the network.

    `step_seconds` are those of its steps. Their photos per second are compared with those of
    reading the same batches without a network.
    """
    if not step_seconds:
        return
    photos_per_step = data.photos_per_epoch / data.steps_per_epoch
    trained, read = photos_per_step / float(np.mean(step_seconds)), reading_speed(data)
    slower = "reading" if read < SLOW_READING * trained else "the network"
    console.info(
        f"{data.phase.name}: trained on {trained:,.4g} photos/s; reading alone: {read:,.4g} "
        f"photos/s; {slower} is the slower part"
    )


def reading_speed(data):
    """Return how many photos per second are read and augmented if no network waits for them."""
    batches = data.training_batches()
    next(batches)  # threads start
    start, photos = time.perf_counter(), 0
    for _, labels in itertools.islice(batches, READ_BATCHES):
        photos += len(labels)
        if time.perf_counter() - start > READ_SECONDS:
            break
    batches.close()
    return photos / (time.perf_counter() - start)


def report_phase(network, data):
    """Print which photos a phase uses and what it trains."""
    phase, training, validation = data.phase, data.photos.training, data.photos.validation
    weights = class_weights(data.recipe, training.labels)
    words = ""
    if weights is not None:
        pairs = (f"{training.classes[label]} {weight:.3f}" for label, weight in weights.items())
        words = f"; class weights: {console.listed(pairs)}"
    console.info(
        f"{phase.name}: {len(training):,} training photos, {len(validation):,} validation photos"
        f"{words}"
    )
    names = [layer.name for layer in network.layers if layer.trainable_weights]
    trained, everything = (
        sum(math.prod(variable.shape) for variable in variables)
        for variables in (network.trainable_weights, network.weights)
    )
    console.info(
        f"{phase.name}: training {console.listed(names)}: {trained:,} of {everything:,} weights"
    )


def start_head(network, data):
    """Give the last layer the weights of logistic regression, if the recipe says so.

    The regression is fitted to what the layer reads, the averaged outputs of the backbone, for the
    photos of the first epochs of a phase. Of several C, the one with the lowest log loss on the
    validation photos is used.
    """
    recipe, stopwatch = data.recipe, console.Stopwatch()
    if recipe.head.start is None:
        return
    first = data.phase.unfreeze_after if data.is_stored else networks.PHOTOS
    predict = networks.predict_function(networks.part_between(network, first, networks.FEATURES))

    def rows_of(batches):
        """Return ((n, channels) rows, (n,) labels) of (inputs, labels) batches."""
        pairs = [(predict(inputs).astype(np.float32), labels) for inputs, labels in batches]
        return map(np.concatenate, zip(*pairs, strict=True))

    count = data.steps_per_epoch * (START_EPOCHS if data.phase.augment else 1)
    rows, labels = rows_of(itertools.islice(data.training_batches(), count))
    val_rows, val_labels = rows_of(data.validation_batches())
    with warnings.catch_warnings():
        # To start from, coefficients are good enough before they have converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = regression.fit_rows(rows, labels, recipe, START_ITERATIONS)
    best = regression.choose_best(fitted, [val_rows], val_labels)
    network.get_layer(networks.PROBABILITIES).set_weights([best.coef_.T, best.intercept_])
    console.info(
        f"the head starts with logistic regression on {len(rows):,} rows of {rows.shape[1]:,} "
        f"features, C={best.C:g}: val_accuracy {best.score(val_rows, val_labels):.3f} ({stopwatch})"
    )


def is_finished(phase, checkpoint):
    """Return True if a phase has no epochs left, or has stopped early."""
    if checkpoint.finished_epochs >= phase.epochs:
        return True
    if not checkpoint.finished_epochs or phase.patience is None:
        return False
    return epochs_since_best(phase, checkpoint.history) >= phase.patience


def epochs_since_best(phase, history):
    """Return how many epochs ago the val_loss of a phase was lowest."""
    losses = [row["val_loss"] for row in history if row["phase"] == phase.name]
    return len(losses) - 1 - losses.index(min(losses))


class EpochRecorder(keras.callbacks.Callback):
    """After each epoch: a line on the console, a row of history.csv, and the checkpoint."""

    def __init__(self, phase, checkpoint, history_path, advance):
        super().__init__()
        self.phase, self.checkpoint, self.history_path = phase, checkpoint, history_path
        self.advance = advance
        self.step_seconds = []  # of all steps but the first one of each epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.stopwatch = console.Stopwatch()

    def on_train_batch_begin(self, batch, logs=None):
        self.step_start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.first_loss = float(logs["loss"])  # computed before the weights are updated
        else:
            self.step_seconds.append(time.perf_counter() - self.step_start)
        self.advance(1)

    def on_epoch_end(self, epoch, logs=None):
        metrics = {name: float(logs[name]) for name in METRICS}
        seconds = round(self.stopwatch.seconds, 2)
        history = self.checkpoint.history
        row = {"phase": self.phase.name, "epoch": epoch + 1, **metrics, "seconds": seconds}
        variables = self.checkpoint.variables
        if divergence := find_divergence(row, history, self.first_loss, variables):
            self.checkpoint.remove()  # the same settings would diverge again
            count = devices.count(self.model)
            raise divergence_error(self.phase, epoch + 1, divergence, count)
        history.append(row)
        path = self.history_path
        with (
            files.atomic_write(path) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, row.keys())
            writer.writeheader()
            writer.writerows(history)
        since_best = epochs_since_best(self.phase, history)
        is_best = self.phase.keep_best and since_best == 0
        self.checkpoint.finish_epoch(self.model, is_best)
        words = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        console.info(
            f"{self.phase.name} {epoch + 1}/{self.phase.epochs}: {words} ({self.stopwatch})"
        )
        if self.phase.patience is not None and since_best >= self.phase.patience:
            console.info(f"{self.phase.name} stops: no lower val_loss for {since_best} epochs")
            self.model.stop_training = True


def find_divergence(row, history, first_loss, variables):
    """Return what shows that a training diverges after an epoch, or None.

    Args:
        row: the epoch, as in history.csv.
        history: the rows before it.
        first_loss: the loss of the epoch's first batch.
        variables: what training changes.
    """
    losses = [earlier["loss"] for earlier in history if earlier["phase"] == row["phase"]]
    factor, usual = (EPOCH_FACTOR, losses[0]) if losses else (FIRST_EPOCH_FACTOR, first_loss)
    is_finite = math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])
    if not is_finite or row["loss"] > factor * max(usual, SMALL_LOSS):
        return f"loss is {row['loss']:.3g} and val_loss {row['val_loss']:.3g}"
    # ReLU and max pooling can hide NaN from the losses.
    with np.errstate(invalid="ignore"):
        sums = [np.sum(variable) for variable in variables]
    return None if np.isfinite(sums).all() else "some weights are not finite"


def divergence_error(phase, epoch, divergence, device_count=1):
    """Return the error for a phase that diverges, with a learning rate to try."""
    rate = phase.learning_rate
    # A tenth of 0.1 or more can still be too high.
    smaller = rate / (1000 if rate >= 0.1 else 10)
    # On some machines, TensorFlow's MirroredStrategy gives NaN: its issues 62915 and 90686.
    hint = ", or GPUS = 1 if that goes well with one GPU" if device_count > 1 else ""
    return UserError(
        f"{phase.name} diverges: after epoch {epoch}, {divergence}. learning_rate={rate} is too "
        f"high for {phase.optimizer} here; try {smaller:g}{hint}. Nothing of this training is "
        f"saved; an earlier classifier stays as it is"
    )


def val_accuracy(phase, history):
    """Return the val_accuracy of the weights with which a finished phase ended."""
    rows = [row for row in history if row["phase"] == phase.name]
    since_best = epochs_since_best(phase, history) if phase.keep_best else 0
    return rows[-1 - since_best]["val_accuracy"]


def class_weights(recipe, labels):
    """Return Keras' class_weight: {class: weight} that balances the classes, or None."""
    if recipe.class_weights is None:
        return None
    classes = np.arange(len(recipe.classes))
    weights = compute_class_weight(recipe.class_weights, classes=classes, y=labels)
    return dict(enumerate(map(float, weights)))


def delete_logs(folder):
    """Delete the logs of an earlier training run, one by one: the folder may be a link."""
    for log in folder.iterdir() if folder.is_dir() else ():
        files.remove(log)


def tensorboard_callback(folder, phase):
    """Return the callback that logs a phase for TensorBoard."""
    return keras.callbacks.TensorBoard(folder / phase.name, write_graph=False)
