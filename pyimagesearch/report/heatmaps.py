"""Heat maps: which parts of a photo raise the score of a class (Grad-CAM)."""

import functools

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
    maps = last_feature_maps(network)
    classify = network.get_layer(networks.PROBABILITIES)
    to_maps, to_features = keras.Model(network.input, maps), keras.Model(maps, classify.input)
    compute = tf.function(
        functools.partial(grad_cam, to_maps, to_features, classify), reduce_retracing=True
    )

    def heatmaps(photos, classes):
        heat = compute(tf.constant(photos), tf.constant(classes)).numpy()
        # If no part of a photo raises the score, its heat map is 0 everywhere.
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)

    return heatmaps


def last_feature_maps(network):
    """Return the tensor of the last feature maps before they are pooled into features."""
    maps = network.get_layer(networks.FEATURES).input
    layer = maps._keras_history.operation
    # Before VGG16's last max pooling, the maps have four times as many positions.
    return layer.input if isinstance(layer, keras.layers.MaxPooling2D) else maps


def grad_cam(to_maps, to_features, classify, photos, classes):
    """Return the feature maps, weighted by the gradient of the class's score and summed.

    Args:
        to_maps: a keras.Model from photos to the feature maps.
        to_features: a keras.Model from the feature maps to the input of `classify`.
        classify: the dense layer that outputs probabilities.
        photos: uint8 RGB (n, size, size, 3).
        classes: n class indices.
    """
    maps = to_maps(photos)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        scores = tf.gather(logits(classify, to_features(maps)), classes, axis=1, batch_dims=1)
        total = tf.reduce_sum(scores)
    weights = tf.reduce_mean(tape.gradient(total, maps), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))


def logits(classify, features):
    """Return (n, classes) scores before the softmax or sigmoid.

    Where a probability is close to 1, its own gradient is close to 0 and would hide the maps.
    """
    scores = keras.ops.matmul(features, classify.kernel) + classify.bias
    if scores.shape[1] == 1:
        # A sigmoid unit scores the second class.
        scores = keras.ops.concatenate([-scores, scores], axis=1)
    return scores
