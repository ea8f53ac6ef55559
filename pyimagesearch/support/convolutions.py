"""Convolutions that a CPU computes faster than TensorFlow's own op does.

The results differ from those of TensorFlow's op only by rounding. They are used for training and
for the outputs of frozen layers. Evaluation, saved models and exports use plain Keras layers.
"""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch.support import machine

# The convolutions below are faster from these sizes up, measured on 2-core AMD EPYCs with the
# layers of VGG16. In bfloat16 with AVX512-BF16, for conv2d_with_matmul_gradient:
MATMUL_GRADIENT_MIN_CHANNELS = 512  # of the input
# In float32 with AVX2, for winograd_conv2d: from 112 x 112 x 128, where it takes a seventh less
# time, down to 14 x 14 x 512. Smaller ones were not measured. The gain with AVX-512 is the same:
# a forward pass of all of VGG16 for 32 photos takes 2.86 s instead of 4.32.
WINOGRAD_MIN_CHANNELS = 128  # of the input
WINOGRAD_MIN_SIDE = 14  # height and width, in pixels of the feature map

# Winograd's F(4 x 4, 3 x 3). Along one side of a tile, 6 inputs and 3 weights give 4 outputs by 6
# multiplications instead of 12. The matrices are B^T, G and A^T of the source.
# Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015,
# arXiv 1509.09308, section 4.3.
TILE_OUTPUTS, TILE_INPUTS = 4, 6
TILE_OVERLAP = TILE_INPUTS - TILE_OUTPUTS
INPUT_TRANSFORM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL_TRANSFORM = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
)
OUTPUT_TRANSFORM = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
# Both sides of a tile in one matrix product.
INPUT_TRANSFORM_2D, KERNEL_TRANSFORM_2D, OUTPUT_TRANSFORM_2D = (
    np.kron(transform, transform).astype(np.float32)
    for transform in (INPUT_TRANSFORM, KERNEL_TRANSFORM, OUTPUT_TRANSFORM)
)


def speed_up(model):
    """Replace the convolution op of each layer of a model for which there is a faster one."""
    for layer in model.layers:
        convolution = fastest_convolution(layer)
        if convolution is not None:
            # Conv2D calls this method with its input and its kernel.
            layer.convolution_op = convolution


def fastest_convolution(layer):
    """Return the function that computes a layer faster than TensorFlow's op, or None."""
    if not is_supported(layer) or machine.has_gpu():
        return None
    channels = layer.kernel.shape[2]
    if layer.compute_dtype == "bfloat16" and channels >= MATMUL_GRADIENT_MIN_CHANNELS:
        return conv2d_with_matmul_gradient
    if (
        layer.compute_dtype == "float32"
        and layer.kernel_size == (3, 3)
        and channels >= WINOGRAD_MIN_CHANNELS
        and min(layer.output.shape[1:3]) >= WINOGRAD_MIN_SIDE
        and "avx2" in machine.processor_flags()
    ):
        return winograd_conv2d
    return None


def is_supported(layer):
    """Return True for a Conv2D with stride 1, padding "same" and a kernel of odd sides."""
    return (
        type(layer) is keras.layers.Conv2D
        and (layer.padding, layer.strides, layer.dilation_rate) == ("same", (1, 1), (1, 1))
        and (layer.groups, layer.data_format) == (1, "channels_last")
        and all(side % 2 for side in layer.kernel_size)
    )


@tf.custom_gradient
def conv2d_with_matmul_gradient(inputs, kernel):
    """Convolve with padding "same"; compute the gradient of the kernel by matrix products.

    The output and the gradient of the inputs are TensorFlow's own. In bfloat16, for 32 inputs of
    14 x 14 x 512 and 512 filters of 3 x 3, on a 2-core AMD EPYC with AVX512-BF16, TensorFlow's op
    for the gradient of the kernel takes 60 ms, kernel_gradient 41 ms, and the forward pass 30 ms.
    Shapes: as for tf.nn.conv2d; the rows and columns of the kernel are odd.
    """

    def gradients(output_gradient):
        # The transposed convolution is the gradient of a convolution with respect to its inputs.
        input_gradient = tf.nn.conv2d_transpose(
            output_gradient, kernel, tf.shape(inputs), strides=1, padding="SAME"
        )
        return input_gradient, kernel_gradient(inputs, kernel.shape, output_gradient)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradients


def kernel_gradient(inputs, kernel_shape, output_gradient):
    """Compute the gradient of a kernel by one matrix product for each position in the kernel."""
    height, width, channels = inputs.shape[1:]
    rows, columns, _, filters = kernel_shape
    padding = [[0, 0], [rows // 2, rows // 2], [columns // 2, columns // 2], [0, 0]]
    padded = tf.pad(inputs, padding)
    output_gradient = tf.reshape(output_gradient, (-1, filters))
    products = []
    for row, column in itertools.product(range(rows), range(columns)):
        # One product after the other, so that memory holds one shifted copy of the inputs.
        with tf.control_dependencies(products[-1:]):
            # The inputs, shifted by the position, times the gradient of the output.
            shifted = padded[:, row : row + height, column : column + width]
            shifted = tf.reshape(shifted, (-1, channels))
            products.append(tf.matmul(shifted, output_gradient, transpose_a=True))
    return tf.reshape(tf.stack(products), kernel_shape)


def winograd_conv2d(inputs, kernel):
    """Convolve float32 inputs with a 3 x 3 kernel and padding "same" by Winograd's algorithm.

    A tile of 4 x 4 outputs takes 36 multiplications instead of 144, and so do both gradients. The
    relative difference from TensorFlow's output is 5e-6. Shapes: as for tf.nn.conv2d.
    """
    height, width, channels = inputs.shape[1:]
    filters = kernel.shape[3]
    weights = tf.matmul(KERNEL_TRANSFORM_2D, tf.reshape(kernel, (9, channels * filters)))
    weights = tf.reshape(weights, (TILE_INPUTS**2, channels, filters))
    products = tf.matmul(transformed_tiles(inputs), weights)
    outputs = tf.matmul(OUTPUT_TRANSFORM_2D, tf.reshape(products, (TILE_INPUTS**2, -1)))
    # From (positions in a tile, tiles) to (rows, columns) of the feature map.
    rows, columns = math.ceil(height / TILE_OUTPUTS), math.ceil(width / TILE_OUTPUTS)
    outputs = tf.reshape(outputs, (TILE_OUTPUTS, TILE_OUTPUTS, -1, rows, columns, filters))
    outputs = tf.transpose(outputs, (2, 3, 0, 4, 1, 5))
    outputs = tf.reshape(outputs, (-1, TILE_OUTPUTS * rows, TILE_OUTPUTS * columns, filters))
    return outputs[:, :height, :width]


@tf.custom_gradient
def transformed_tiles(inputs):
    """Cut inputs into tiles and transform them: (36, n * tiles, channels).

    The gradient adds up whole tiles. A forward and backward pass of a layer of block5 for 32 photos
    on 2 cores with AVX2 takes 0.34 s with it, and 0.54 s with the gradient that TensorFlow derives.
    """
    height, width, channels = inputs.shape[1:]
    rows, columns = math.ceil(height / TILE_OUTPUTS), math.ceil(width / TILE_OUTPUTS)
    # One row and column of tiles more than needed: the last tiles take their overlap from it.
    padded_height, padded_width = TILE_OUTPUTS * (rows + 1), TILE_OUTPUTS * (columns + 1)

    def gradient(output_gradient):
        output_gradient = tf.reshape(output_gradient, (TILE_INPUTS**2, -1))
        tiles = tf.matmul(INPUT_TRANSFORM_2D, output_gradient, transpose_a=True)
        tiles = tf.reshape(tiles, (TILE_INPUTS, TILE_INPUTS, -1, rows, columns, channels))
        tiles = tf.transpose(tiles, (2, 3, 0, 4, 1, 5))
        padded = add_overlaps(add_overlaps(tiles, axis=4), axis=2)
        padded = tf.reshape(padded, (-1, padded_height, padded_width, channels))
        return padded[:, 1 : height + 1, 1 : width + 1]

    bottom, right = padded_height - height - 1, padded_width - width - 1
    padded = tf.pad(inputs, [[0, 0], [1, bottom], [1, right], [0, 0]])
    tiles = overlapping_tiles(padded, rows, columns)
    tiles = tf.transpose(tiles, (2, 4, 0, 1, 3, 5))
    tiles = tf.matmul(INPUT_TRANSFORM_2D, tf.reshape(tiles, (TILE_INPUTS**2, -1)))
    return tf.reshape(tiles, (TILE_INPUTS**2, -1, channels)), gradient


def overlapping_tiles(padded, rows, columns):
    """Cut padded inputs into tiles: (n, rows, 6, columns, 6, channels).

    A tile shares its last two rows and columns of pixels with the next tiles. On 2 cores,
    tf.image.extract_patches takes a third more time for large feature maps.
    """
    shape = (-1, rows + 1, TILE_OUTPUTS, columns + 1, TILE_OUTPUTS, padded.shape[3])
    tiles = tf.reshape(padded, shape)
    tiles = tf.concat([tiles[:, :rows], tiles[:, 1:, :TILE_OVERLAP]], axis=2)
    return tf.concat([tiles[:, :, :, :columns], tiles[:, :, :, 1:, :TILE_OVERLAP]], axis=4)


def add_overlaps(tiles, axis):
    """Add the last two values of each tile along an axis to the first two of the next tile.

    The tiles become 4 long along `axis`, and there is one more along the axis before it. Along both
    axes, this is the gradient of overlapping_tiles.
    """
    values, overlaps = tf.split(tiles, [TILE_OUTPUTS, TILE_OVERLAP], axis=axis)
    values_padding, overlaps_padding = [[0, 0]] * 6, [[0, 0]] * 6
    values_padding[axis - 1], overlaps_padding[axis - 1] = [0, 1], [1, 0]
    overlaps_padding[axis] = [0, TILE_OUTPUTS - TILE_OVERLAP]
    return tf.pad(values, values_padding) + tf.pad(overlaps, overlaps_padding)
