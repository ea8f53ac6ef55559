from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import tiny_phase, tiny_recipe

from pyimagesearch import classifier, networks
from pyimagesearch.recipe import Head, Regression
from pyimagesearch.report import heatmaps


def colour_network(output):
    """Return a network that classifies a photo by its colour, red (class 0) or blue (class 1).

    Args:
        output: "softmax" with two units, or "sigmoid" with one unit for blue.
    """
    photos = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(photos)
    maps = keras.layers.AveragePooling2D(4)(x)
    x = keras.layers.GlobalAveragePooling2D(name=networks.FEATURES)(maps)
    units = 1 if output == "sigmoid" else 2
    last = keras.layers.Dense(units, activation=output, name=networks.PROBABILITIES)
    network = keras.Model(photos, last(x))
    kernel = np.array([[1, -1], [0, 0], [-1, 1]], np.float32) * 5
    last.set_weights([kernel[:, -units:], np.zeros(units, np.float32)])
    return network


def red_above_blue():
    photo = np.zeros((1, 32, 32, 3), np.uint8)
    photo[0, :16, :, 0] = 255
    photo[0, 16:, :, 2] = 255
    return photo


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_heat_map_is_1_where_the_photo_shows_the_class_and_0_elsewhere(output):
    heatmap_function = heatmaps.heatmap_function(colour_network(output))
    red, blue = (heatmap_function(red_above_blue(), [label])[0] for label in (0, 1))
    assert red.shape == (8, 8)
    np.testing.assert_allclose(red[:4], 1)
    np.testing.assert_allclose(red[4:], 0)
    np.testing.assert_allclose(blue[:4], 0)
    np.testing.assert_allclose(blue[4:], 1)


def test_features_of_other_layers_leave_the_heat_map_as_it_is():
    settings = Regression(layers=("block4_pool",), unit_length=True)
    recipe = tiny_recipe(head=Head("average", None, 0, "softmax"), regression=settings)
    extractor = networks.build_feature_extractor(recipe, None)
    coefficients = np.random.default_rng(0).normal(size=(3, extractor.output_shape[-1]))
    # Those of the other layer, in the last columns, change every score.
    others = coefficients.copy()
    others[:, 512:] += 1
    photos = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), np.uint8)
    maps = [
        heatmaps.heatmap_function(network)(photos, [1])
        for network in (
            classifier.append_regression(
                extractor, SimpleNamespace(coef_=each, intercept_=np.zeros(3))
            )
            for each in (coefficients, others)
        )
    ]
    assert maps[0].max() == 1
    np.testing.assert_array_equal(*maps)


def test_each_photo_gets_the_heat_map_of_its_own_class():
    photos = np.concatenate([red_above_blue(), red_above_blue()])
    red, blue = heatmaps.heatmap_function(colour_network("softmax"))(photos, [0, 1])
    np.testing.assert_allclose(red[:4], 1)
    np.testing.assert_allclose(blue[4:], 1)


def test_heat_map_is_0_everywhere_when_nothing_raises_the_score():
    black = np.zeros((1, 32, 32, 3), np.uint8)
    heat = heatmaps.heatmap_function(colour_network("softmax"))(black, [0])
    assert heat.max() == 0


@pytest.mark.parametrize(
    ("backbone", "pooling", "size"),
    [("VGG16", "flatten", 4), ("VGG16", "average", 4), ("ResNet50", "average", 8)],
)
def test_heat_maps_of_a_backbone_have_one_number_per_position_of_its_last_maps(
    thin, thin_resnet, backbone, pooling, size
):
    head = Head(pooling=pooling, units=8, dropout=0.5, output="softmax")
    recipe = tiny_recipe(backbone=backbone, image_size=64, head=head, phases=(tiny_phase("head"),))
    network = networks.float32_copy(networks.build(recipe, None))
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    heat = heatmaps.heatmap_function(network)(photos, [0, 2])
    assert heat.shape == (2, size, size)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() <= 1
