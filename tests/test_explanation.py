import keras
import numpy as np
import pytest
from conftest import tiny_recipe

from pyimagesearch import explanation, networks
from pyimagesearch.recipe import Head, Phase

PHASES = (Phase("head"),)


def colour_network(output):
    """A network that sees only how red and how blue each place is, and sums it up.

    "softmax" tells red (0) from blue (1); "sigmoid" has one unit, for blue.
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


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_heat_lies_where_the_class_is(output):
    photo = np.zeros((1, 32, 32, 3), np.uint8)
    photo[0, :16, :, 0] = 255  # red above
    photo[0, 16:, :, 2] = 255  # blue below
    heat = explanation.heat_of(colour_network(output))
    red, blue = heat(photo, [0])[0], heat(photo, [1])[0]
    assert red.shape == (8, 8)
    np.testing.assert_allclose(red[:4], 1)
    np.testing.assert_allclose(red[4:], 0)
    np.testing.assert_allclose(blue[:4], 0)
    np.testing.assert_allclose(blue[4:], 1)


def test_nothing_is_hot_where_nothing_speaks_for_the_class():
    heat = explanation.heat_of(colour_network("softmax"))
    assert heat(np.zeros((1, 32, 32, 3), np.uint8), [0]).max() == 0


@pytest.mark.parametrize("backbone", ["VGG16", "ResNet50"])
@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_heat_of_a_recipes_network_covers_the_photo(backbone, pooling):
    recipe = tiny_recipe(
        backbone=backbone, image_size=64, head=Head(pooling=pooling, units=8), phases=PHASES
    )
    network = networks.in_float32(networks.build(recipe, None))
    heat = explanation.heat_of(network)
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    heats = heat(photos, [0, 2])
    assert heats.shape == ((2, 4, 4) if backbone == "VGG16" else (2, 2, 2))
    assert heats.min() >= 0
    assert heats.max() <= 1
