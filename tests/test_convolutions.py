import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_recipe

from pyimagesearch import networks
from pyimagesearch.support import convolutions, machine

BFLOAT16_PROCESSOR = {"avx2", "avx512f", "avx512_bf16"}
AVX2_PROCESSOR = {"avx2", "fma"}


def normal(rng, *shape):
    return tf.constant(rng.normal(size=shape), "float32")


def output_and_gradients(convolution, inputs, kernel, output_gradient):
    """Return (output, gradient of the inputs, gradient of the kernel)."""
    with tf.GradientTape() as tape:
        tape.watch((inputs, kernel))
        output = convolution(inputs, kernel)
    return output, *tape.gradient(output, (inputs, kernel), output_gradient)


def tensorflows_conv2d(inputs, kernel):
    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")


# The same results as TensorFlow's op


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (1, 5)])
def test_conv2d_with_matmul_gradient_equals_tensorflows_conv2d(rows, columns):
    rng = np.random.default_rng(1)
    inputs, kernel = normal(rng, 2, 6, 5, 4), normal(rng, rows, columns, 4, 3)
    arguments = inputs, kernel, normal(rng, 2, 6, 5, 3)
    ours = output_and_gradients(convolutions.conv2d_with_matmul_gradient, *arguments)
    tensorflows = output_and_gradients(tensorflows_conv2d, *arguments)
    for our_values, tensorflows_values in zip(ours, tensorflows, strict=True):
        np.testing.assert_allclose(our_values, tensorflows_values, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (16, 16), (17, 15), (3, 4), (1, 1)])
def test_winograd_conv2d_equals_tensorflows_conv2d_but_for_rounding(height, width):
    rng = np.random.default_rng(1)
    inputs, kernel = normal(rng, 2, height, width, 5), normal(rng, 3, 3, 5, 4)
    arguments = inputs, kernel, normal(rng, 2, height, width, 4)
    ours = output_and_gradients(convolutions.winograd_conv2d, *arguments)
    tensorflows = output_and_gradients(tensorflows_conv2d, *arguments)
    for our_values, tensorflows_values in zip(ours, tensorflows, strict=True):
        assert our_values.shape == tensorflows_values.shape
        difference = np.linalg.norm(our_values - tensorflows_values)
        assert difference < 1e-5 * np.linalg.norm(tensorflows_values)


# Which layers are computed by which function


def fast_layers(monkeypatch, policy, flags):
    """Return {name: function} of the layers of VGG16 that TensorFlow's op does not compute."""
    monkeypatch.setattr(machine, "processor_flags", lambda: flags)
    keras.config.set_dtype_policy(policy)
    classifier = networks.build(tiny_recipe(image_size=224), None)
    functions = {layer.name: convolutions.fastest_convolution(layer) for layer in classifier.layers}
    return {name: function for name, function in functions.items() if function is not None}


@pytest.mark.parametrize("processor", [AVX2_PROCESSOR, BFLOAT16_PROCESSOR])
def test_winograd_computes_large_layers_in_float32_with_avx2(monkeypatch, processor):
    layers = fast_layers(monkeypatch, "float32", processor)
    assert list(layers) == [
        "block2_conv2",
        *(f"block{block}_conv{n}" for block in (3, 4, 5) for n in (1, 2, 3)),
    ]
    assert set(layers.values()) == {convolutions.winograd_conv2d}
    assert not fast_layers(monkeypatch, "float32", set())


def test_matmul_gradient_computes_layers_with_many_channels_in_bfloat16(monkeypatch):
    layers = fast_layers(monkeypatch, "mixed_bfloat16", BFLOAT16_PROCESSOR)
    assert list(layers) == [
        *("block4_conv2", "block4_conv3"),
        *("block5_conv1", "block5_conv2", "block5_conv3"),
    ]
    assert set(layers.values()) == {convolutions.conv2d_with_matmul_gradient}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_tensorflow_computes_all_layers_on_a_gpu(monkeypatch, policy):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    assert not fast_layers(monkeypatch, policy, BFLOAT16_PROCESSOR)


@pytest.mark.parametrize(
    "change",
    [
        {"strides": 2},
        {"padding": "valid"},
        {"dilation_rate": 2},
        {"groups": 2},
        {"kernel_size": 2},
        {"kernel_size": 5},
    ],
)
def test_tensorflow_computes_other_convolutions_than_3_by_3_with_stride_1(monkeypatch, change):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    inputs = keras.Input((32, 32, 128))
    arguments = {"filters": 8, "kernel_size": 3, "padding": "same"}
    for arguments_of_layer, function in (
        (arguments, convolutions.winograd_conv2d),
        (arguments | change, None),
    ):
        layer = keras.layers.Conv2D(**arguments_of_layer)
        layer(inputs)
        assert convolutions.fastest_convolution(layer) is function


# Where they are used


def count_calls(monkeypatch, name):
    """Record the shapes of the inputs, without the batch, of each call of a convolution."""
    shapes, original = [], getattr(convolutions, name)

    def convolve(inputs, kernel):
        shapes.append(tuple(inputs.shape[1:]))
        return original(inputs, kernel)

    monkeypatch.setattr(convolutions, name, convolve)
    return shapes


def test_evaluation_uses_tensorflows_conv2d_and_training_the_faster_one(monkeypatch):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    shapes = count_calls(monkeypatch, "winograd_conv2d")
    network = networks.build(tiny_recipe(image_size=64), None)
    photos = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    fast = networks.predict_function(network)(photos)
    assert shapes == [(32, 32, 128), (16, 16, 128), (16, 16, 256), (16, 16, 256)]
    shapes.clear()
    evaluated = networks.predict_function(networks.float32_copy(network))(photos)
    assert not shapes
    np.testing.assert_allclose(fast, evaluated, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "name", "side"),
    [("mixed_bfloat16", "conv2d_with_matmul_gradient", 2), ("float32", "winograd_conv2d", 14)],
)
def test_training_of_block5_uses_the_faster_convolution(monkeypatch, policy, name, side):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    keras.config.set_dtype_policy(policy)
    shapes = count_calls(monkeypatch, name)
    recipe = tiny_recipe(image_size=16 * side)
    phase = recipe.phases[1]
    network = networks.build(recipe, None)
    networks.unfreeze_after(network, phase.unfreeze_after)
    _, trained_part = networks.split_at(network, phase.unfreeze_after)

    @tf.function
    def gradients(maps):
        with tf.GradientTape() as tape:
            probabilities = trained_part(maps, training=True)
        return tape.gradient(probabilities, trained_part.trainable_variables)

    maps = np.ones((1, side, side, 512), np.float32)
    assert all(gradient is not None for gradient in gradients(maps))
    assert shapes == [(side, side, 512)] * 3
