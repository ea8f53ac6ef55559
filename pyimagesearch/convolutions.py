"""Convolutions that a processor computes faster than by TensorFlow's own op.

The results are those of TensorFlow's op but for rounding. They serve what learns and what is stored
of the frozen part; what is judged, saved and exported consists of plain layers.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from pyimagesearch import machine

# What a convolution must have to be faster, by shapes tried on 2-core AMD EPYCs. In bfloat16, with
# AVX512-BF16: this many channels coming in, for `by_products`.
MANY_CHANNELS = 512
# In float32, with AVX2: so many channels coming in and maps of this side, for `by_tiles`. VGG16's
# own were tried, from 112 x 112 x 128, where it gains a seventh, to 14 x 14 x 512; none below. With
# AVX-512 it gains as much: all of VGG16 forward took 2.86 s for 32 photos instead of 4.32.
CHANNELS, SIDE = 128, 14

# Winograd's F(4 x 4, 3 x 3): what makes 4 outputs of a convolution with 3 numbers from 6 inputs by
# 6 products instead of 12. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural
# Networks", 2015, arXiv 1509.09308, section 4.3.
OUTPUTS, INPUTS = 4, 6  # of a tile, along a side
FROM_MAPS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
FROM_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
TO_OUTPUTS = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
# The same along both sides of a tile at once.
MAPS_TO_TILES, KERNEL_TO_TILES, TILES_TO_OUTPUTS = (
    np.kron(each, each).astype(np.float32) for each in (FROM_MAPS, FROM_KERNEL, TO_OUTPUTS)
)


def speed_up(model):
    """Let each convolution of a model compute by the fastest way that gives its result."""
    for layer in model.layers:
        way = fastest_way(layer)
        if way is not None:
            layer.convolution_op = way


def fastest_way(layer):
    """Return the function that computes a layer faster than TensorFlow's op on a CPU, or None."""
    if not is_plain(layer) or machine.has_gpu():
        return None
    channels = layer.kernel.shape[2]
    if layer.compute_dtype == "bfloat16" and channels >= MANY_CHANNELS:
        return by_products
    if (
        layer.compute_dtype == "float32"
        and layer.kernel_size == (3, 3)
        and channels >= CHANNELS
        and min(layer.output.shape[1:3]) >= SIDE
        and machine.has_avx2()
    ):
        return by_tiles
    return None


def is_plain(layer):
    """Tell whether a layer is a convolution of every place, by a kernel of odd sides."""
    return (
        type(layer) is keras.layers.Conv2D
        and (layer.padding, layer.strides, layer.dilation_rate) == ("same", (1, 1), (1, 1))
        and (layer.groups, layer.data_format) == (1, "channels_last")
        and all(side % 2 for side in layer.kernel_size)
    )


@tf.custom_gradient
def by_products(maps, kernel):
    """Convolve maps with a kernel of odd sides; they keep their size.

    Only the gradient of the kernel is not TensorFlow's own. It is made of matrix products, one for
    each place of the kernel: the maps moved by that place, times the gradient of the output. In
    bfloat16, for 32 maps of 14 x 14 x 512 and as many filters of 3 x 3, TensorFlow's own op took
    60 ms and nine products 41 on a 2-core AMD EPYC with AVX512-BF16; forward took 30.

    Args:
        maps: (n, height, width, channels).
        kernel: (rows, columns, channels, filters).

    Returns:
        (n, height, width, filters) maps, and the function that TensorFlow asks for gradients.
    """

    def gradients_of(back):
        height, width, channels = maps.shape[1:]
        rows, columns, _, filters = kernel.shape
        to_maps = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(maps),
            filter=kernel,
            out_backprop=back,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        around = [[0, 0], [rows // 2, rows // 2], [columns // 2, columns // 2], [0, 0]]
        framed, back = tf.pad(maps, around), tf.reshape(back, (-1, filters))
        products = []
        for row, column in itertools.product(range(rows), range(columns)):
            # One after the other: a moved copy of the maps at a time.
            with tf.control_dependencies(products[-1:]):
                moved = framed[:, row : row + height, column : column + width]
                flat = tf.reshape(moved, (-1, channels))
                products.append(tf.matmul(flat, back, transpose_a=True))
        return to_maps, tf.reshape(tf.stack(products), kernel.shape)

    return tf.nn.conv2d(maps, kernel, strides=1, padding="SAME"), gradients_of


def by_tiles(maps, kernel):
    """Convolve maps with a 3 x 3 kernel by Winograd's algorithm; they keep their size.

    A tile of 4 x 4 outputs takes 36 products of numbers instead of 144, and so do both gradients.
    In float32 the result differs from TensorFlow's by 5e-6 of its size.

    Args:
        maps: (n, height, width, channels) float32.
        kernel: (3, 3, channels, filters) float32.

    Returns:
        (n, height, width, filters) float32.

    Source: Lavin and Gray, arXiv 1509.09308.
    """
    height, width, channels = maps.shape[1:]
    filters = kernel.shape[3]
    flat = tf.matmul(KERNEL_TO_TILES, tf.reshape(kernel, (9, channels * filters)))
    products = tf.matmul(to_tiles(maps), tf.reshape(flat, (INPUTS**2, channels, filters)))
    outputs = tf.matmul(TILES_TO_OUTPUTS, tf.reshape(products, (INPUTS**2, -1)))
    down, across = tiles_along(height), tiles_along(width)
    outputs = tf.reshape(outputs, (OUTPUTS, OUTPUTS, -1, down, across, filters))
    outputs = tf.transpose(outputs, (2, 3, 0, 4, 1, 5))
    outputs = tf.reshape(outputs, (-1, OUTPUTS * down, OUTPUTS * across, filters))
    return outputs[:, :height, :width]


def tiles_along(side):
    """Return how many tiles cover a side of a map."""
    return -(-side // OUTPUTS)


@tf.custom_gradient
def to_tiles(maps):
    """Return maps as (36, n * tiles, channels): what is multiplied with the kernel's numbers.

    The gradient is put together from whole tiles. With the one TensorFlow would make, forward and
    back through a layer of block5 take 0.54 s for 32 photos, with this 0.34, on 2 cores with AVX2.
    """
    height, width, channels = maps.shape[1:]
    down, across = tiles_along(height), tiles_along(width)

    def gradient_of(back):
        tiles = tf.matmul(MAPS_TO_TILES, tf.reshape(back, (INPUTS**2, -1)), transpose_a=True)
        tiles = tf.reshape(tiles, (INPUTS, INPUTS, -1, down, across, channels))
        return joined(tf.transpose(tiles, (2, 3, 0, 4, 1, 5)))[:, 1 : height + 1, 1 : width + 1]

    tiles = tf.transpose(overlapping(maps, down, across), (2, 4, 0, 1, 3, 5))
    tiles = tf.matmul(MAPS_TO_TILES, tf.reshape(tiles, (INPUTS**2, -1)))
    return tf.reshape(tiles, (INPUTS**2, -1, channels)), gradient_of


def overlapping(maps, down, across):
    """Return the tiles of framed maps, each with the edges of its neighbours.

    They are (n, down, 6, across, 6, channels).
    """
    height, width, channels = maps.shape[1:]
    below, beside = (OUTPUTS * (n + 1) - side - 1 for n, side in ((down, height), (across, width)))
    framed = tf.pad(maps, [[0, 0], [1, below], [1, beside], [0, 0]])
    tiles = tf.reshape(framed, (-1, down + 1, OUTPUTS, across + 1, OUTPUTS, channels))
    edge = INPUTS - OUTPUTS
    tiles = tf.concat([tiles[:, :down], tiles[:, 1:, :edge]], axis=2)
    return tf.concat([tiles[:, :, :, :across], tiles[:, :, :, 1:, :edge]], axis=4)


def joined(tiles):
    """Return framed maps whose numbers are the sums of those that tiles have for them.

    The opposite of `overlapping`, as gradients go: (n, 4 * (down + 1), 4 * (across + 1), channels).
    """
    _, down, _, across, _, channels = tiles.shape
    tiles = apart(apart(tiles, axis=4), axis=2)
    return tf.reshape(tiles, (-1, OUTPUTS * (down + 1), OUTPUTS * (across + 1), channels))


def apart(tiles, axis):
    """Add the edges along one axis of tiles to the tiles behind them."""
    own, edge = tf.split(tiles, [OUTPUTS, INPUTS - OUTPUTS], axis=axis)
    last, first = ([[0, 0] for _ in range(6)] for _ in range(2))
    last[axis - 1], first[axis - 1], first[axis] = [0, 1], [1, 0], [0, 2 * OUTPUTS - INPUTS]
    return tf.pad(own, last) + tf.pad(edge, first)
