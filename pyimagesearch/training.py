"""One phase of fine-tuning: fit the model to the batches of the phase, epoch by epoch."""

import csv

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from pyimagesearch import networks
from pyimagesearch.batches import as_dataset, explain_reading_errors
from pyimagesearch.support import console, files

HISTORY_FILE = "history.csv"
LOGS_FOLDER = "tensorboard"
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")


def fit(network, data, checkpoint, folder, tensorboard=False):
    """Train one phase; afterwards `network` has the trained weights.

    Args:
        network: from networks.build, with the layers of this phase unfrozen.
        data: batches.PhaseData.
        checkpoint: a checkpoint.Checkpoint, which knows the finished epochs and records new ones.
        folder: for history.csv and the logs.
        tensorboard: True to log the epochs for TensorBoard.
    """
    phase = data.phase
    report_phase(network, data)
    if is_finished(phase, checkpoint):
        checkpoint.restore_best()
        return
    model = data.model(network)
    networks.compile_for(model, phase)
    checkpoint.restore_optimizer(model)
    first_epoch, steps = checkpoint.epoch, data.steps_per_epoch
    callbacks = tensorboard_callbacks(folder / LOGS_FOLDER, phase, checkpoint, tensorboard)
    progress = console.progress(phase.name, (phase.epochs - first_epoch) * steps)
    with progress as advance, explain_reading_errors() as remember_errors:
        callbacks.append(EpochRecorder(phase, checkpoint, folder / HISTORY_FILE, advance))
        training, validation = datasets_for(model, data, first_epoch, remember_errors)
        model.fit(
            training,
            validation_data=validation,
            initial_epoch=first_epoch,
            epochs=phase.epochs,
            steps_per_epoch=steps,
            class_weight=class_weights(data.recipe, data.photos[0].labels),
            callbacks=callbacks,
            shuffle=False,  # the batches are shuffled already
            verbose=0,
        )
    checkpoint.restore_best()


def datasets_for(model, data, first_epoch, remember_errors):
    """Return the (endless training, validation) batches of a phase as tf.data.Datasets."""
    endless, count = tf.data.INFINITE_CARDINALITY, data.count_batches(data.photos[1])
    return (
        as_dataset(
            lambda: data.training_batches(first_epoch), model.input, endless, remember_errors
        ),
        as_dataset(data.validation_batches, model.input, count, remember_errors),
    )


def report_phase(network, data):
    """Print which photos a phase uses and what it trains."""
    phase, (training, validation) = data.phase, data.photos
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
    console.info(
        f"{phase.name}: training {', '.join(names)}: {len(network.trainable_weights)} of "
        f"{len(network.weights)} weight tensors, {networks.count_trainable(network):,} parameters"
    )


def is_finished(phase, checkpoint):
    """Return True if a phase has no epochs left, or has stopped early."""
    if checkpoint.epoch >= phase.epochs:
        return True
    if not checkpoint.epoch or phase.patience is None:
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
        history.append(row)
        write_history(self.history_path, history)
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


def write_history(path, history):
    """Write history.csv: one row per epoch of all phases."""
    with files.atomic_write(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, ("phase", "epoch", *METRICS, "seconds"))
        writer.writeheader()
        writer.writerows(history)


def class_weights(recipe, labels):
    """Return Keras' class_weight: {class: weight} that balances the classes, or None."""
    if recipe.class_weights is None:
        return None
    classes = np.arange(len(recipe.classes))
    weights = compute_class_weight(recipe.class_weights, classes=classes, y=labels)
    return dict(enumerate(map(float, weights)))


def tensorboard_callbacks(folder, phase, checkpoint, wanted):
    """Return [the callback that logs a phase for TensorBoard], or [] if it is not wanted."""
    is_new_training = checkpoint.phase == 0 and checkpoint.epoch == 0
    if is_new_training and folder.is_dir():
        # One by one, since the folder may be a link to another disk.
        for log_of_other_training in folder.iterdir():
            files.remove(log_of_other_training)
    return [keras.callbacks.TensorBoard(folder / phase.name, write_graph=False)] if wanted else []
