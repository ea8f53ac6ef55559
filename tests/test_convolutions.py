import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_recipe

from pyimagesearch import convolutions, machine, networks

BFLOAT16_PROCESSOR, AVX2_PROCESSOR = {"avx2", "avx512f", "avx512_bf16"}, {"avx2", "fma"}


def both_ways(way, maps, kernel, back):
    """Return (output, gradient of the maps, gradient of the kernel) of a way and of TensorFlow."""
    found = []
    for convolve in (way, lambda *both: tf.nn.conv2d(*both, 1, "SAME")):
        with tf.GradientTape() as tape:
            tape.watch((maps, kernel))
            forward = convolve(maps, kernel)
        found.append((forward, *tape.gradient(forward, (maps, kernel), back)))
    return zip(*found, strict=True)


def drawn(rng, *shape):
    return tf.constant(rng.normal(size=shape), "float32")


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (1, 5)])
def test_matrix_products_give_what_tensorflow_computes(rows, columns):
    rng = np.random.default_rng(1)
    maps, kernel = drawn(rng, 2, 6, 5, 4), drawn(rng, rows, columns, 4, 3)
    back = drawn(rng, 2, 6, 5, 3)
    for ours, tensorflows in both_ways(convolutions.by_products, maps, kernel, back):
        np.testing.assert_allclose(ours, tensorflows, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (16, 16), (17, 15), (3, 4), (1, 1)])
def test_tiles_give_what_tensorflow_computes(height, width):
    rng = np.random.default_rng(1)
    maps, kernel = drawn(rng, 2, height, width, 5), drawn(rng, 3, 3, 5, 4)
    back = drawn(rng, 2, height, width, 4)
    for ours, tensorflows in both_ways(convolutions.by_tiles, maps, kernel, back):
        assert ours.shape == tensorflows.shape
        assert np.linalg.norm(ours - tensorflows) < 1e-5 * np.linalg.norm(tensorflows)


def ways_of_vgg16(monkeypatch, policy, flags):
    """Return {name: way} of the layers of VGG16 that are computed another way than by default."""
    monkeypatch.setattr(machine, "processor_flags", lambda: flags)
    keras.config.set_dtype_policy(policy)
    classifier = networks.build(tiny_recipe(image_size=224), None)
    ways = {each.name: convolutions.fastest_way(each) for each in classifier.layers}
    return {name: way for name, way in ways.items() if way is not None}


@pytest.mark.parametrize("processor", [AVX2_PROCESSOR, BFLOAT16_PROCESSOR])
def test_tiles_serve_float32_on_a_processor_with_avx2(monkeypatch, processor):
    ways = ways_of_vgg16(monkeypatch, "float32", processor)
    assert list(ways) == [
        "block2_conv2",
        *(f"block{block}_conv{n}" for block in (3, 4, 5) for n in (1, 2, 3)),
    ]
    assert set(ways.values()) == {convolutions.by_tiles}
    assert not ways_of_vgg16(monkeypatch, "float32", set())


def test_matrix_products_serve_sixteen_bits_and_many_channels(monkeypatch):
    ways = ways_of_vgg16(monkeypatch, "mixed_bfloat16", BFLOAT16_PROCESSOR)
    assert list(ways) == [
        *("block4_conv2", "block4_conv3"),
        *("block5_conv1", "block5_conv2", "block5_conv3"),
    ]
    assert set(ways.values()) == {convolutions.by_products}


def test_nothing_is_faster_where_a_gpu_computes(monkeypatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    for policy in ("float32", "mixed_bfloat16"):
        assert not ways_of_vgg16(monkeypatch, policy, AVX2_PROCESSOR)


@pytest.mark.parametrize(
    "other",
    [
        {"strides": 2},
        {"padding": "valid"},
        {"dilation_rate": 2},
        {"groups": 2},
        {"kernel_size": 2},
        {"kernel_size": 5},
    ],
)
def test_tiles_serve_no_other_convolution(monkeypatch, other):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    maps = keras.Input((32, 32, 128))
    settings = {"filters": 8, "kernel_size": 3, "padding": "same"}
    for changes, way in (({}, convolutions.by_tiles), (other, None)):
        layer = keras.layers.Conv2D(**settings | changes)
        layer(maps)
        assert convolutions.fastest_way(layer) is way


def test_what_is_judged_and_saved_consists_of_plain_layers(monkeypatch):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    calls, real = [], convolutions.by_tiles
    monkeypatch.setattr(
        convolutions, "by_tiles", lambda *both: calls.append(both[0].shape[1:]) or real(*both)
    )
    classifier = networks.build(tiny_recipe(image_size=64), None)
    photos = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    learning = networks.forward(classifier)(photos)
    assert calls == [(32, 32, 128), (16, 16, 128), (16, 16, 256), (16, 16, 256)]
    judged = networks.forward(networks.in_float32(classifier))(photos)
    assert len(calls) == 4
    np.testing.assert_allclose(learning, judged, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "way", "side"), [("mixed_bfloat16", "by_products", 2), ("float32", "by_tiles", 14)]
)
def test_block5_learns_by_the_faster_way(monkeypatch, policy, way, side):
    monkeypatch.setattr(machine, "processor_flags", lambda: AVX2_PROCESSOR)
    keras.config.set_dtype_policy(policy)
    calls, real = [], getattr(convolutions, way)
    monkeypatch.setattr(convolutions, way, lambda *both: calls.append(1) or real(*both))
    recipe = tiny_recipe(image_size=16 * side)
    classifier = networks.build(recipe, None)
    networks.open_for(classifier, recipe.phases[1])
    rest = networks.split_at(classifier, "block4_pool")[1]
    networks.gradients(rest)(np.zeros((1, side, side, 512), np.float32))
    assert len(calls) == 3
