"""One phase of fine-tuning: fit the model to the batches of the phase, epoch by epoch."""

import csv
import math

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from pyimagesearch import networks
from pyimagesearch.support import console, files
from pyimagesearch.support.errors import UserError

HISTORY_FILE = "history.csv"
LOGS_FOLDER = "tensorboard"
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
# A loss diverges if it is more than ten times what it was. A loss below 1, which is about that of
# guessing among three classes, may rise tenfold and still be small, so it counts as 1.
DIVERGENCE_FACTOR, SMALL_LOSS = 10, 1


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
    model = data.model(network)
    networks.compile_for(model, phase)
    checkpoint.restore_optimizer(model)
    first_epoch, steps = checkpoint.finished_epochs, data.steps_per_epoch
    if checkpoint.finished_phases == first_epoch == 0:
        delete_logs(folder / LOGS_FOLDER)
    callbacks = [tensorboard_callback(folder / LOGS_FOLDER, phase)] if tensorboard else []
    errors = []
    training, validation = data.as_datasets(model.input, first_epoch, errors)
    with console.progress(phase.name, (phase.epochs - first_epoch) * steps) as advance:
        callbacks.append(EpochRecorder(phase, checkpoint, folder / HISTORY_FILE, advance))
        try:
            model.fit(
                training,
                validation_data=validation,
                initial_epoch=first_epoch,
                epochs=phase.epochs,
                steps_per_epoch=steps,
                class_weight=class_weights(data.recipe, data.photos.training.labels),
                callbacks=callbacks,
                shuffle=False,  # the batches are shuffled already
                verbose=0,
            )
        except tf.errors.OpError:
            # If a photo cannot be read, the list has the error that names it.
            if errors:
                raise errors[0] from None
            raise
    checkpoint.restore_best()


def report_phase(network, data):
    """Print which photos a phase uses and what it trains."""
    phase, training, validation = data.phase, data.photos.training, data.photos.validation
    weights = class_weights(data.recipe, training.labels)
    words = ""
    if weights is not None:
        pairs = (f"{training.classes[label]} {weight:.3f}" for label, weight in weights.items())
        words = f"; class weights: {', '.join(pairs)}"
    console.info(
        f"{phase.name}: {len(training):,} training photos, {len(validation):,} validation photos"
        f"{words}"
    )
    names = [layer.name for layer in network.layers if layer.trainable_weights]
    parameters = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    console.info(
        f"{phase.name}: training {', '.join(names)}: {len(network.trainable_weights)} of "
        f"{len(network.weights)} weight tensors, {parameters:,} parameters"
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

    def on_epoch_begin(self, epoch, logs=None):
        self.stopwatch = console.Stopwatch()

    def on_train_batch_end(self, batch, logs=None):
        self.advance(1)

    def on_epoch_end(self, epoch, logs=None):
        metrics = {name: float(logs[name]) for name in METRICS}
        seconds = round(self.stopwatch.seconds, 2)
        history = self.checkpoint.history
        row = {"phase": self.phase.name, "epoch": epoch + 1, **metrics, "seconds": seconds}
        if divergence := find_divergence(row, history, self.checkpoint.variables):
            self.checkpoint.remove()  # the same settings would diverge again
            raise UserError(f"{divergence}. {divergence_remedy(self.phase)}")
        history.append(row)
        path = self.history_path
        with files.atomic_write(path) as partial, open(partial, "w", newline="") as file:
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


def find_divergence(row, history, variables):
    """Return what shows that a training diverges after an epoch, or None.

    Its loss is not finite, or far above the first of the phase. The first one is compared with the
    phase before, whose head is trained. `row` is a row of history.csv, `history` has those before.
    """
    losses = [earlier["loss"] for earlier in history if earlier["phase"] == row["phase"]]
    if not losses:
        losses = [max(row["loss"], row["val_loss"]) for row in history[-1:]]
    highest = DIVERGENCE_FACTOR * max(*losses[:1], SMALL_LOSS) if losses else math.inf
    where = f"{row['phase']} diverges: after epoch {row['epoch']},"
    if not (row["loss"] <= highest and math.isfinite(row["loss"] + row["val_loss"])):
        return f"{where} loss is {row['loss']:.3g} and val_loss {row['val_loss']:.3g}"
    # ReLU and max pooling hide NaN from the losses here, but not on every machine.
    with np.errstate(invalid="ignore"):
        sums = [np.sum(variable) for variable in variables]
    return None if np.isfinite(sums).all() else f"{where} some weights are not finite"


def divergence_remedy(phase):
    """Return what to change after a phase has diverged, as sentences."""
    rate = phase.learning_rate
    # A tenth of 0.1 or more can still be too high.
    smaller = rate / (1000 if rate >= 0.1 else 10)
    return (
        f"learning_rate={rate} is too high for {phase.optimizer} here; try {smaller:g}. Nothing of "
        f"this training is saved; an earlier classifier stays as it is"
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
