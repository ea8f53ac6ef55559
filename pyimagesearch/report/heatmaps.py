"""Heat maps: which parts of a photo raise the score of a class (Grad-CAM)."""

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import networks


def heatmap_function(network):
    """Return a function that computes heat maps.

    Its arguments are uint8 RGB (n, size, size, 3) photos and n class indices. It returns
    (n, rows, columns) float32 from 0 to 1, 14 x 14 for VGG16 at 224 x 224 pixels: the last feature
    maps of the backbone, each weighted by how much the class's score rises with it.

    Source: Selvaraju et al., "Grad-CAM", 2017, arXiv 1610.02391.
    """
    # Features of other layers stay as they are: the map shows what the last ones count.
    parts = [last_feature_maps(network), *networks.features_of_other_layers(network)]
    classify = network.get_layer(networks.PROBABILITIES)
    to_parts = keras.Model(network.input, parts)
    to_features = keras.Model(parts, classify.input)

    @tf.function(reduce_retracing=True)
    def grad_cam(photos, classes):
        maps, *others = keras.tree.flatten(to_parts(photos))
        with tf.GradientTape() as tape:
            tape.watch(maps)
            scores = logits(classify, to_features([maps, *others]))
            scores = tf.gather(scores, classes, axis=1, batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(scores, maps), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))

    def heatmaps(photos, classes):
        heat = grad_cam(tf.constant(photos), tf.constant(classes)).numpy()
        # If no part of a photo raises the score, its heat map is 0 everywhere.
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)

    return heatmaps


def last_feature_maps(network):
    """Return the tensor of the last feature maps before they are pooled into features."""
    maps = network.get_layer(networks.FEATURES).input
    layer = maps._keras_history.operation
    # Before VGG16's last max pooling, the maps have four times as many positions.
    return layer.input if isinstance(layer, keras.layers.MaxPooling2D) else maps


def logits(classify, features):
    """Return (n, classes) scores before the softmax or sigmoid."""
    # Where a probability is close to 1, its own gradient is close to 0 and would hide the maps.
    scores = keras.ops.matmul(features, classify.kernel) + classify.bias
    if scores.shape[1] == 1:
        # A sigmoid unit scores the second class.
        scores = keras.ops.concatenate([-scores, scores], axis=1)
    return scores
