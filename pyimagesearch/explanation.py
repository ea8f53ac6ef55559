"""Where a classifier looks: which places of a photo speak for a class."""

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import networks


def heat_of(network):
    """Return a function (photos, classes) -> for each photo, where it looks like its class.

    The function takes uint8 RGB (n, size, size, 3) photos and n indices of classes; it returns
    (n, rows, columns) float32 from 0 to 1, at VGG16 and 224 x 224 pixels 14 x 14: the last maps of
    the backbone before they are pooled, each weighed by how much the class's score rises with it.

    Source: Selvaraju et al., "Grad-CAM", 2017, arXiv 1610.02391.
    """
    maps = network.get_layer(networks.FEATURES).input
    layer = maps._keras_history.operation
    if isinstance(layer, keras.layers.MaxPooling2D):
        # Before the pooling there are four places for each one after it.
        maps = layer.input
    last = network.get_layer(networks.PROBABILITIES)
    lower, upper = keras.Model(network.input, maps), keras.Model(maps, last.input)

    @tf.function(reduce_retracing=True)
    def run(photos, classes):
        seen = lower(photos)
        with tf.GradientTape() as tape:
            tape.watch(seen)
            # The score before it becomes a probability: a certain answer would have no gradient.
            scores = keras.ops.matmul(upper(seen), last.kernel) + last.bias
            if scores.shape[1] == 1:
                scores = keras.ops.concatenate([-scores, scores], axis=1)
            score = tf.reduce_sum(tf.gather(scores, classes, axis=1, batch_dims=1))
        weights = tf.reduce_mean(tape.gradient(score, seen), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * seen, axis=-1))

    def heat(photos, classes):
        heats = run(tf.constant(photos), tf.constant(classes)).numpy()
        # Where nothing speaks for the class there is no heat at all.
        return heats / np.maximum(heats.max(axis=(1, 2), keepdims=True), 1e-12)

    return heat
