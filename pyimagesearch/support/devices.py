"""Train on several GPUs at once, with the result of one.

Each GPU gets an equal part of a batch. Keras would let the photos of a smaller part count more, and
fails if a GPU gets none. So batches are padded to equal parts, and padding counts nothing.
"""

import keras
import tensorflow as tf

from pyimagesearch.support import console

ACCURACIES = {
    "binary_crossentropy": keras.metrics.BinaryAccuracy,
    "sparse_categorical_crossentropy": keras.metrics.SparseCategoricalAccuracy,
}


def choose_strategy(setting):
    """Return the tf.distribute.Strategy that trains on the GPUs which config.GPUS allows.

    With one GPU or none it is TensorFlow's default one, which changes nothing.
    """
    gpus = gpu_names()
    gpus = gpus if setting == "all" else gpus[:setting]
    if len(gpus) < 2:
        return tf.distribute.get_strategy()
    console.info(f"training on {len(gpus)} GPUs")
    return tf.distribute.MirroredStrategy(gpus)


def gpu_names():
    """Return the names of the GPUs that TensorFlow sees."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def count(model):
    """Return on how many devices a model is trained. It was made in the scope of a strategy."""
    return model.distribute_strategy.num_replicas_in_sync


def for_devices(model):
    """Return the model that `fit` trains: a DividedModel if there are several devices."""
    return model if count(model) == 1 else DividedModel(model.input, model.output)


class DividedModel(keras.Model):
    """A model that several devices train with the batches of `padded`.

    Every photo counts once in the loss, its gradients and the metrics, as on one device.
    """

    def compile(self, loss, metrics, **options):
        """Configure the training. The metrics are the loss and the accuracy."""
        super().compile(loss=loss, **options)
        self.losses_of = keras.losses.get(loss)
        self.mean_loss = keras.metrics.Mean("loss")
        self.accuracy = ACCURACIES[loss]("accuracy")

    @property
    def metrics(self):
        """The metrics that Keras resets before each epoch."""
        return [self.mean_loss, self.accuracy]

    def train_step(self, batch):
        """Change the weights with one device's part of a batch; return the metrics so far."""
        inputs, labels, weights = batch
        with tf.GradientTape() as tape:
            probabilities = self(inputs, training=True)
            loss = self.update_metrics(labels, probabilities, weights)
            scaled = self.optimizer.scale_loss(loss)
        gradients = spread_overflow(tape.gradient(scaled, self.trainable_weights))
        # Keras adds the gradients of all devices.
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self.get_metrics_result()

    def test_step(self, batch):
        """Evaluate one device's part of a batch; return the metrics so far."""
        inputs, labels, weights = batch
        self.update_metrics(labels, self(inputs, training=False), weights)
        return self.get_metrics_result()

    def update_metrics(self, labels, probabilities, weights):
        """Count each photo once; return this device's part of the mean loss of the batch."""
        is_photo = tf.cast(weights > 0, "float32")
        losses = weights * self.losses_of(labels, probabilities)
        self.mean_loss.update_state(losses, sample_weight=is_photo)
        self.accuracy.update_state(labels, probabilities, sample_weight=is_photo)
        return tf.reduce_sum(losses) / sum_over_devices(tf.reduce_sum(is_photo))


def sum_over_devices(number):
    """Return the sum of a number that each device has."""
    return tf.distribute.get_replica_context().all_reduce("SUM", number)


def spread_overflow(gradients):
    """Return the gradients of one device; if those of any device are not finite, with NaN.

    In float16, Keras leaves out a step whose gradients have overflowed. In Keras 3.15 it looks at
    those of the first device only, and the others could make the weights infinite.
    """
    zero_or_nan = 0 * tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])
    return [gradients[0] + sum_over_devices(zero_or_nan), *gradients[1:]]


def padded(dataset, parts, class_weights=None):
    """Return a tf.data.Dataset of (inputs, labels, weights) that can be divided evenly.

    Args:
        dataset: of (inputs, labels).
        parts: the number of devices. Each batch is padded with zeros to a multiple of it.
        class_weights: {class: weight above 0} of the loss; None: 1.

    The labels are (n, 1), and the weights (n,) float32: those of the classes, 0 for padding.
    """

    def pad(inputs, labels):
        if class_weights is None:
            weights = tf.ones_like(labels, "float32")
        else:
            weights = tf.gather(list(class_weights.values()), labels)
        missing = -tf.shape(labels)[0] % parts
        return tuple(pad_rows(rows, missing) for rows in (inputs, labels[:, None], weights))

    return dataset.map(pad)


def pad_rows(rows, missing):
    """Return a tensor with some more rows of zeros."""
    return tf.pad(rows, [[0, missing], *[[0, 0]] * (rows.shape.rank - 1)])
