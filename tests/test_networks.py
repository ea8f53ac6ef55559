"""The network of a recipe: its parts, where it can be cut, and what a phase trains."""

import re
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import tiny_phase, tiny_recipe

from pyimagesearch import classifier, config, networks
from pyimagesearch.recipe import (
    BACKBONES,
    OPTIMIZERS,
    PRECISIONS,
    SMALLEST_IMAGE,
    Head,
    Regression,
    checked,
)
from pyimagesearch.support import calibration, machine, similarity
from pyimagesearch.support.errors import UserError


def make_photos(count=3, size=32):
    """Return uint8 noise, (count, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def output_of(model, photos):
    """Return what a model computes in inference mode."""
    return model(photos, training=False).numpy()


@pytest.fixture
def network(thin):
    """Return the network of the tiny recipe, a thin VGG16 with a head."""
    return networks.build(tiny_recipe(), None, seed=0)


def small_network():
    """Return a network that is built as residual networks are.

    It has a branch around block1_conv and one around block2_conv. The first ends with an Add
    layer, the second with a `+`, which is an operation but not a layer.
    """
    photos = keras.Input((8, 8, 3), dtype="uint8", name="photos")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(photos)
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(x)
    branch = keras.layers.Conv2D(4, 3, padding="same", name="block1_conv")(x)
    branch = keras.layers.BatchNormalization(name="block1_bn")(branch)
    x = keras.layers.Add(name="block1_add")([x, branch])
    branch = keras.layers.Conv2D(4, 3, padding="same", name="block2_conv")(x)
    branch = keras.layers.BatchNormalization(name="block2_bn")(branch)
    x = keras.layers.Dropout(0.5, name="block2_drop")(x + branch)
    x = keras.layers.Flatten(name=networks.FEATURES)(x)
    x = keras.layers.Dense(3, activation="softmax", name=networks.PROBABILITIES)(x)
    return keras.Model(photos, x)


def train_a_step(model, phase):
    """Train a model with the optimizer of a phase on eight photos of noise."""
    networks.compile_for(model, phase, steps_per_epoch=2)
    photos = make_photos(8, model.input_shape[1])
    model.fit(photos, np.arange(8) % model.output_shape[1], batch_size=4, verbose=0)


def weights_by_layer(network):
    """Return {layer name: its weights}."""
    return {layer.name: layer.get_weights() for layer in network.layers}


def changed_layers(network, weights_before):
    """Return the names of the layers whose weights have changed."""
    return {
        layer.name
        for layer in network.layers
        for old, new in zip(weights_before[layer.name], layer.get_weights(), strict=True)
        if np.any(old != new)
    }


# The network of a recipe


def test_network_is_a_backbone_then_features_then_a_head(network):
    names = [layer.name for layer in network.layers]
    assert (names[0], names[1]) == ("photos", "block1_conv1")
    assert names[-5:] == [
        *("block5_pool", "features"),
        *("head_dense", "head_dropout", "probabilities"),
    ]
    assert network.input.dtype == "uint8"
    assert network.output.shape == (None, 3)


def test_head_of_food11_has_the_shapes_of_the_post():
    network = networks.build(config.RECIPES["food11"], None)
    backbone = [layer for layer in network.layers if layer.name.startswith("block")]
    assert sum(layer.count_params() for layer in backbone) == 14_714_688
    assert network.get_layer("features").output.shape == (None, 25_088)
    assert network.get_layer("head_dense").count_params() == 25_088 * 512 + 512
    assert network.get_layer("probabilities").count_params() == 512 * 11 + 11
    assert network.get_layer("head_dropout").rate == 0.5


def test_head_of_simpsons_reads_2048_averages():
    network = networks.build(config.RECIPES["simpsons"], None)
    assert network.get_layer("features").output.shape == (None, 2_048)
    assert network.get_layer("probabilities").count_params() == 2_049


def test_cats_vs_dogs_trains_4_of_30_weight_tensors_first():
    recipe = config.RECIPES["cats_vs_dogs"]
    network = networks.build(recipe, None)
    assert len(network.weights) == 30
    networks.unfreeze_after(network, recipe.phases[0].unfreeze_after)
    assert len(network.trainable_weights) == 4
    assert network.get_layer("features").output.shape == (None, 8_192)


@pytest.mark.parametrize(
    ("head", "layers"),
    [
        ({"units": 5, "dropout": 0.25}, ["head_dense", "head_dropout"]),
        ({"units": 5, "dropout": 0}, ["head_dense"]),
        ({"units": None, "dropout": 0}, []),
    ],
)
def test_head_has_only_the_layers_of_its_row(thin, head, layers):
    head = Head(pooling="average", output="softmax", **head)
    network = networks.build(tiny_recipe(head=head), None)
    assert [layer.name for layer in network.layers if "head" in layer.name] == layers
    if head.units:
        assert network.get_layer("head_dense").units == 5
    if head.dropout:
        assert network.get_layer("head_dropout").rate == 0.25


def test_sigmoid_head_has_one_output_for_two_classes(thin):
    head = Head(pooling="flatten", units=None, dropout=0, output="sigmoid")
    network = networks.build(tiny_recipe(classes=("cat", "dog"), head=head), None)
    assert network.output.shape == (None, 1)


def test_seed_gives_the_same_head_again(thin):
    def build(seed):
        return networks.weights_digest(networks.build(tiny_recipe(), None, seed))

    assert build(1) == build(1)
    assert build(1) != build(2)


@pytest.mark.parametrize("name", ["my photos", "küche", "_mine", "2026-11"])
def test_network_can_be_built_and_copied_for_any_name_of_a_recipe(thin, name):
    network = networks.build(replace(tiny_recipe(), name=name), None)
    copy = networks.float32_copy(network)
    assert networks.predict_function(copy)(make_photos(2)).shape == (2, 3)


# Preprocessing


def test_preprocessing_of_the_backbone_is_part_of_the_network():
    keras.utils.set_random_seed(0)
    extractor = networks.build_feature_extractor(tiny_recipe(), None)
    keras.utils.set_random_seed(0)
    plain = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    pixels = keras.applications.vgg16.preprocess_input(make_photos().astype("float32"))
    expected = output_of(plain, pixels).reshape(3, -1)
    # The extractor may use faster convolutions, which round differently.
    np.testing.assert_allclose(output_of(extractor, make_photos()), expected, rtol=1e-4, atol=1e-4)


def test_rescale_divides_pixels_by_255_instead(thin):
    network = networks.build(tiny_recipe(preprocessing="rescale"), None)
    scaled = keras.Model(network.input, network.get_layer("rescale").output)
    np.testing.assert_allclose(output_of(scaled, make_photos()), make_photos() / 255, atol=1e-6)


EFFICIENTNET = tiny_recipe(
    backbone="EfficientNetB0",
    image_size=32,
    head=Head(pooling="flatten", units=None, dropout=0, output="softmax"),
    phases=(tiny_phase("head"),),
)


@pytest.fixture(scope="module")
def normalizing_weights(tmp_path_factory):
    """Return the path of weights for EfficientNetB0, which normalizes pixels by itself."""
    photos = keras.Input((32, 32, 3))
    network = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_tensor=photos
    )
    is_normalization = keras.layers.Normalization
    layer = next(layer for layer in network.layers if isinstance(layer, is_normalization))
    layer.adapt_mean.assign([0.485, 0.456, 0.406])
    layer.adapt_variance.assign([0.229, 0.224, 0.225])
    # With random weights, the features would be about a millionth.
    network.get_layer("top_bn").gamma.assign(np.full(1280, 1e6))
    path = tmp_path_factory.mktemp("weights") / "efficientnet.weights.h5"
    network.save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def efficientnet(normalizing_weights):
    """Return the network of EFFICIENTNET. No test may change its weights."""
    networks.set_precision("float32")
    return networks.build(EFFICIENTNET, normalizing_weights)


@pytest.mark.soak
def test_weights_from_a_file_give_the_network_that_keras_builds_from_its_download(
    efficientnet, normalizing_weights, monkeypatch
):
    """For its own download, Keras adds a layer to EfficientNet."""
    from_file = keras.Model(efficientnet.input, efficientnet.get_layer("features").output)
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: normalizing_weights)
    from_download = networks.build_feature_extractor(EFFICIENTNET, "imagenet")
    expected = output_of(from_download, make_photos())
    tolerance = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(output_of(from_file, make_photos()), expected, **tolerance)


# Where a network can be cut


def test_network_can_be_cut_at_a_layer_that_no_branch_goes_around():
    assert networks.cut_points(small_network()) == [
        *("rescale", "stem"),
        "block1_add",  # not in block1: its branch also reads stem
        "block2_drop",  # the `+` before it is not a layer, so it has no name of its own
        *("features", "probabilities"),
    ]


def layers_that_keras_can_cut(network):
    """Return the names of the layers at which Keras builds a model of the layers after them."""
    possible = []
    for layer in network.layers[1:-1]:
        try:
            keras.Model(layer.output, network.output)
        except ValueError:
            continue
        possible.append(layer.name)
    return possible


def test_cut_points_of_the_small_network_are_those_of_keras():
    network = small_network()
    assert networks.cut_points(network)[:-1] == layers_that_keras_can_cut(network)


@pytest.mark.parametrize(
    "backbone",
    [
        "VGG16",
        pytest.param("ResNet50", marks=pytest.mark.soak),
        pytest.param("MobileNetV3Small", marks=pytest.mark.soak),
    ],
)
def test_cut_points_of_a_backbone_are_those_of_keras(backbone):
    recipe = tiny_recipe(backbone=backbone, image_size=32, phases=(tiny_phase("head"),))
    network = networks.build(recipe, None)
    assert networks.cut_points(network)[:-1] == layers_that_keras_can_cut(network)


def test_vgg16_can_be_cut_at_every_layer_but_its_input():
    network = networks.build(tiny_recipe(), None)
    layers = [layer.name for layer in network.layers]
    assert networks.cut_points(network) == layers[1:]


@pytest.mark.parametrize("name", config.RECIPES)
def test_row_has_a_probability_per_class_and_its_phases_cut_it_and_train_these_layers(name):
    # Small photos give the same layers.
    recipe = replace(config.RECIPES[name], image_size=32)
    network = networks.build(recipe, None)
    expected = output_of(network, make_photos(2))
    probabilities = classifier.both_classes(expected)
    assert probabilities.shape == (2, len(recipe.classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    head = ["probabilities"] if recipe.head.units is None else ["head_dense", "probabilities"]
    for phase in recipe.phases:
        frozen_part, trained_part = networks.split_at(network, phase.unfreeze_after)
        halves = output_of(trained_part, output_of(frozen_part, make_photos(2)))
        np.testing.assert_allclose(halves, expected, atol=1e-5)
        networks.unfreeze_after(network, phase.unfreeze_after)
        trained = [layer.name for layer in network.layers if layer.trainable_weights]
        assert trained == TRAINED_LAYERS[name, phase.name] + head


@pytest.mark.parametrize(
    "cut", ["block1_conv1", "block3_conv1", "block4_pool", "block5_pool", None]
)
def test_frozen_part_then_trained_part_equals_the_whole_network(network, cut):
    frozen_part, trained_part = networks.split_at(network, cut)
    halves = output_of(trained_part, output_of(frozen_part, make_photos()))
    np.testing.assert_allclose(halves, output_of(network, make_photos()), atol=1e-6)


def test_part_between_two_cuts_computes_one_from_the_other(network):
    photos = make_photos()
    first = output_of(networks.part_between(network, "photos", "block3_pool"), photos)
    last = output_of(networks.part_between(network, "block3_pool", None), first)
    frozen_part, _ = networks.split_at(network, None)
    np.testing.assert_allclose(last, output_of(frozen_part, photos), rtol=1e-5)


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param(name, marks=[] if name == "MobileNetV3Small" else [pytest.mark.soak])
        for name in BACKBONES
    ],
)
def test_any_backbone_can_be_built_at_its_own_size_and_cut(backbone):
    head = Head(pooling="average", units=None, dropout=0, output="softmax")
    recipe = tiny_recipe(
        backbone=backbone, image_size=None, head=head, phases=(tiny_phase("head"),)
    )
    network = networks.build(recipe, None)
    cuts = networks.cut_points(network)
    # The nearest to the middle of the backbone.
    cut = cuts[cuts.index("features") // 2]
    frozen_part, trained_part = networks.split_at(network, cut)
    photos = make_photos(1, BACKBONES[backbone])
    halves = output_of(trained_part, output_of(frozen_part, photos))
    np.testing.assert_allclose(halves, output_of(network, photos), atol=1e-5)


# Cuts that are refused


def cut_error(*cuts, backbone="VGG16"):
    """Return the error of a recipe whose phases begin after these layers."""
    phases = [tiny_phase(f"phase{n}", unfreeze_after=cut) for n, cut in enumerate(cuts)]
    with pytest.raises(UserError) as refused:
        networks.build(tiny_recipe(backbone=backbone, phases=tuple(phases)), None)
    return str(refused.value)


def test_misspelt_layer_is_refused_with_similar_ones(thin):
    assert cut_error("block4_pol") == (
        "pyimagesearch/config.py, recipe 'tiny': phases[0].unfreeze_after is 'block4_pol'; "
        "allowed: 'auto', or a layer of VGG16 such as block4_pool, block5_pool, block3_pool"
    )


def test_layer_that_is_like_no_other_is_refused_with_the_last_ones(thin):
    message = cut_error(None, "xyz")
    assert "phases[1].unfreeze_after is 'xyz'" in message
    assert "such as block5_conv2, block5_conv3, block5_pool" in message


def test_layer_in_a_residual_block_is_refused_with_its_two_neighbours(thin_resnet):
    message = cut_error("conv5_block2_2_conv", backbone="ResNet50")
    assert "allowed: conv5_block1_out or conv5_block2_add, where ResNet50 can be cut" in message


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ("photos", "allowed: block1_conv1, where VGG16 can be cut"),
        ("features", "allowed: block5_pool, where VGG16 can be cut"),
        ("head_dense", "allowed: block5_pool, where VGG16 can be cut"),
    ],
)
def test_layer_outside_the_backbone_is_refused_with_the_nearest_in_it(thin, layer, allowed):
    assert allowed in cut_error(layer)


def test_operation_without_a_name_of_its_own_is_refused():
    """Keras numbers additions that are not layers: the same one is add_2 in the next network."""
    network = small_network()
    (addition,) = [each.name for each in network.operations if each.name.startswith("add")]
    recipe = tiny_recipe(phases=(tiny_phase("unfrozen", unfreeze_after=addition),))
    with pytest.raises(UserError, match=f"unfreeze_after is '{addition}'"):
        networks.check_cuts(network, recipe)


def test_phase_that_trains_fewer_layers_than_the_one_before_is_refused(thin):
    message = cut_error("block3_pool", "block4_pool")
    assert "phases[1].unfreeze_after is 'block4_pool'" in message
    assert "'block3_pool' or an earlier layer, since a phase trains the layers of" in message


def test_one_layer_cannot_have_two_names(thin):
    message = cut_error("auto", "block4_pool")
    assert "phases[1].unfreeze_after is 'block4_pool'; allowed: 'auto' or an earlier" in message


@pytest.mark.parametrize(
    "cuts", [(None, "block4_pool", "block4_pool", "block3_pool"), (None, "auto", "block3_pool")]
)
def test_phase_that_trains_the_same_layers_or_more_is_accepted(thin, cuts):
    phases = [tiny_phase(f"phase{n}", unfreeze_after=cut) for n, cut in enumerate(cuts)]
    networks.build(tiny_recipe(phases=tuple(phases)), None)


# The last block

# {network: the layer after which its last block begins}, one of each family. The layers of Xception
# are numbered anew for each network.
LAST_BLOCKS = {
    "VGG16": "block4_pool",
    "VGG19": "block4_pool",
    "ResNet50": "conv5_block1_out",
    "ResNet50V2": "conv5_block1_preact_relu",
    "MobileNet": "conv_dw_12_relu",
    "MobileNetV2": "block_13_project_BN",
    "MobileNetV3Small": "expanded_conv_8_project_bn",
    "DenseNet121": "pool4_pool",
    "InceptionV3": "mixed8",
    "InceptionResNetV2": "mixed_7a",
    "Xception": r"add_\d+",
    "NASNetMobile": "stem_bn1",
    "EfficientNetB0": "block6a_project_bn",
    "EfficientNetV2B0": "block6a_project_bn",
    "ConvNeXtTiny": "convnext_tiny_downsampling_block_2",
}


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        pytest.param(*each, marks=[] if each[0] in ("VGG16", "MobileNetV2") else [pytest.mark.soak])
        for each in LAST_BLOCKS.items()
    ],
)
def test_food11_with_another_backbone_trains_its_last_block(backbone, layer, capsys):
    row = replace(config.FOOD11, backbone=backbone, image_size=SMALLEST_IMAGE.get(backbone, 32))
    recipe = checked({"mine": row})["mine"]
    network = networks.build(recipe, None)
    cut = networks.resolve_cut(network, recipe.phases[1].unfreeze_after)
    assert re.fullmatch(layer, cut)
    printed = {
        "VGG16": "",
        "VGG19": "",
        "NASNetMobile": f"[WARN] NASNetMobile can only be cut near its start: all after {cut} is ",
    }
    expected = printed.get(backbone, f"[INFO] {backbone}: the last block begins after {cut}\n")
    assert capsys.readouterr().err.startswith(expected)
    trained = {layer.name for layer in networks.trained_layers(network, cut)}
    parameters = {layer.name: layer.count_params() for layer in network.layers[:-3]}
    share = sum(parameters.get(name, 0) for name in trained) / sum(parameters.values())
    assert 0.2 < share < 0.75 or backbone == "NASNetMobile"


def test_auto_cuts_vgg16_where_food11_does(thin):
    def build(cut):
        return networks.build(tiny_recipe(phases=(tiny_phase("any", unfreeze_after=cut),)), None, 0)

    photos = make_photos()
    frozen, trained = networks.split_at(build("auto"), "auto")
    expected, _ = networks.split_at(build("block4_pool"), "block4_pool")
    np.testing.assert_array_equal(output_of(frozen, photos), output_of(expected, photos))
    assert trained.input.shape == expected.output.shape


def test_second_phase_that_trains_the_head_alone_is_a_warning(thin, capsys):
    networks.build(tiny_recipe(phases=(tiny_phase("warmup"), tiny_phase("unfrozen"))), None)
    assert capsys.readouterr().err == (
        "[WARN] unfrozen trains the head alone, as warmup does. To train the last block of VGG16 "
        "too, add unfreeze_after='auto' to the phase\n"
    )


# What a phase trains

WEIGHTS = ("kernel", "bias")
BLOCK4 = ["block4_conv1", "block4_conv2", "block4_conv3"]
BLOCK5 = ["block5_conv1", "block5_conv2", "block5_conv3"]
# {(recipe, phase): the layers of the backbone that it trains}
TRAINED_LAYERS = {
    ("food5k", "warmup"): [],
    ("food5k", "unfrozen"): BLOCK5,
    ("food11", "warmup"): [],
    ("food11", "unfrozen"): BLOCK5,
    ("food11_better", "unfrozen"): BLOCK5,
    ("knifey_spoony", "transfer"): [],
    ("knifey_spoony", "fine_tuning"): BLOCK4 + BLOCK5,
    ("cats_vs_dogs_features", "head"): [],
    ("cats_vs_dogs", "frozen"): [],
    ("cats_vs_dogs", "unfrozen"): BLOCK5,
    ("simpsons", "head"): [],
    ("simpsons", "unfrozen"): [
        f"conv5_block{block}_{number}_conv" for block in (2, 3) for number in (1, 2, 3)
    ],
    ("sample", "warmup"): [],
    ("sample", "unfrozen"): BLOCK5,
    ("digits", "warmup"): [],
    ("digits", "unfrozen"): BLOCK5,
}


def test_first_phase_changes_the_head_and_no_weight_of_the_backbone(network):
    before = weights_by_layer(network)
    networks.unfreeze_after(network, None)
    train_a_step(network, tiny_phase("warmup", learning_rate=0.1))
    assert changed_layers(network, before) == {"head_dense", "probabilities"}


def test_second_phase_changes_the_layers_after_the_cut_too_and_no_others(network):
    before = weights_by_layer(network)
    networks.unfreeze_after(network, "block4_pool")
    train_a_step(network, tiny_phase("unfrozen", learning_rate=0.1))
    assert changed_layers(network, before) == {*BLOCK5, "head_dense", "probabilities"}


def test_batch_normalization_stays_frozen_while_the_layers_around_it_are_trained():
    network = small_network()
    before = weights_by_layer(network)
    networks.unfreeze_after(network, "stem")
    train_a_step(network, tiny_phase("unfrozen", learning_rate=0.1))
    assert changed_layers(network, before) == {"block1_conv", "block2_conv", "probabilities"}


@pytest.mark.soak
def test_batch_normalization_of_simpsons_stays_frozen():
    recipe = replace(config.RECIPES["simpsons"], image_size=64)
    network = networks.build(recipe, None, seed=0)
    before = weights_by_layer(network)
    networks.unfreeze_after(network, recipe.phases[1].unfreeze_after)
    networks.compile_for(network, replace(recipe.phases[1], learning_rate=0.1), 1)
    network.fit(make_photos(4, 64), np.arange(4) % 2, verbose=0)
    changed = changed_layers(network, before)
    assert changed == {*TRAINED_LAYERS["simpsons", "unfrozen"], "probabilities"}


def test_trained_variables_are_the_weights_that_any_phase_changes_and_the_state_of_dropout(network):
    def paths(*cuts):
        phases = [tiny_phase(f"phase{n}", unfreeze_after=cut) for n, cut in enumerate(cuts)]
        return {variable.path for variable in networks.trained_variables(network, phases)}

    head = {f"{name}/{kind}" for name in ("head_dense", "probabilities") for kind in WEIGHTS}
    (state,) = paths(None) - head
    assert "seed_generator_state" in state
    block5 = {f"{name}/{kind}" for name in BLOCK5 for kind in WEIGHTS}
    assert paths(None, "block4_pool") == head | {state} | block5


def test_with_frozen_part_runs_the_frozen_layers_in_inference_mode_during_training():
    network = small_network()
    model = networks.with_frozen_part(network, None)
    before = weights_by_layer(network)
    expected = output_of(network, make_photos(4, 8))
    np.testing.assert_allclose(model(make_photos(4, 8), training=True), expected, rtol=1e-4)
    assert changed_layers(network, before) == set()
    # Without it, block2_drop would drop half of the features.
    assert not np.allclose(network(make_photos(4, 8), training=True), expected, rtol=1e-4)


def test_with_frozen_part_trains_the_variables_of_the_network():
    network = small_network()
    networks.unfreeze_after(network, "block1_add")
    model = networks.with_frozen_part(network, "block1_add")
    assert list(map(id, model.trainable_weights)) == list(map(id, network.trainable_weights))


@pytest.mark.soak
def test_dropout_layers_of_efficientnet_drop_nothing_while_they_are_frozen(efficientnet):
    is_dropout = keras.layers.Dropout
    assert sum(isinstance(layer, is_dropout) for layer in efficientnet.layers) > 5
    model = networks.with_frozen_part(efficientnet, None)
    expected = output_of(efficientnet, make_photos())
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(model(make_photos(), training=True), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "momentum"), [("SGD", 0.9), ("SGD", 0), ("Adam", 0), ("RMSprop", 0)]
)
def test_compile_for_uses_the_optimizer_of_the_phase(network, optimizer, momentum):
    phase = tiny_phase("any", optimizer=optimizer, learning_rate=0.25, momentum=momentum)
    networks.compile_for(network, phase, steps_per_epoch=1)
    assert type(network.optimizer) is getattr(keras.optimizers, optimizer)
    assert float(network.optimizer.learning_rate.numpy()) == 0.25
    assert network.optimizer.get_config().get("momentum", 0) == momentum


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compile_for_takes_a_whole_number_as_learning_rate(network, optimizer):
    networks.compile_for(network, tiny_phase("any", optimizer=optimizer, learning_rate=1), 1)
    assert float(network.optimizer.learning_rate.numpy()) == 1


def test_cosine_schedule_rises_in_the_first_tenth_of_a_phase_and_falls_to_0():
    phase = tiny_phase("any", epochs=5, learning_rate=0.5, schedule="cosine")
    schedule = networks.learning_rate(phase, steps_per_epoch=8)
    rates = [float(schedule(step)) for step in range(41)]
    assert rates[0] == 0
    assert rates[2] == pytest.approx(0.25)
    assert rates[4] == max(rates) == 0.5
    assert rates[22] == pytest.approx(0.25)  # halfway down
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[39] < 0.002
    assert rates[40] == pytest.approx(0)


def test_cosine_schedule_of_a_single_step_learns_nothing_and_does_not_fail():
    phase = tiny_phase("any", epochs=1, learning_rate=0.5, schedule="cosine")
    schedule = networks.learning_rate(phase, steps_per_epoch=1)
    assert float(schedule(0)) == 0


def test_learning_rate_without_a_schedule_stays():
    assert networks.learning_rate(tiny_phase("any", learning_rate=1), 3) == 1.0


def test_compile_for_chooses_the_loss_by_the_number_of_outputs(network):
    networks.compile_for(network, tiny_phase("any"), 1)
    assert network.loss == "sparse_categorical_crossentropy"
    head = Head(pooling="flatten", units=None, dropout=0, output="sigmoid")
    sigmoid = networks.build(tiny_recipe(classes=("cat", "dog"), head=head), None)
    networks.compile_for(sigmoid, tiny_phase("any"), 1)
    assert sigmoid.loss == "binary_crossentropy"


# Predicting


@pytest.mark.parametrize("count", [1, 16, 21])
def test_predict_function_predicts_every_photo_in_order(network, count):
    photos = make_photos(count)
    predicted = networks.predict_function(network)(photos)
    np.testing.assert_allclose(predicted, output_of(network, photos), atol=1e-6)


@pytest.mark.parametrize(
    ("on_gpu", "batches"), [(False, [16] * 32 + [5] * 5), (True, [37] * 37)], ids=["CPU", "GPU"]
)
def test_predict_function_gives_a_cpu_16_photos_at_once(monkeypatch, on_gpu, batches):
    monkeypatch.setattr(machine, "has_gpu", lambda: on_gpu)
    rows = keras.Input((1,))
    ones = keras.ops.ones_like(rows)
    size_of_batch = keras.Model(rows, ones * keras.ops.sum(ones))
    sizes = networks.predict_function(size_of_batch)(np.zeros((37, 1)))
    assert sizes.ravel().tolist() == batches


def test_feature_extractor_returns_one_row_per_photo_and_trains_nothing(thin):
    extractor = networks.build_feature_extractor(tiny_recipe(image_size=64), None)
    # Five poolings turn 64 x 64 pixels into 2 x 2 cells of 64 channels.
    assert output_of(extractor, make_photos(3, 64)).shape == (3, 2 * 2 * 64)
    assert extractor.trainable_weights == []


def test_features_of_further_layers_are_averages_each_of_unit_length(thin):
    plain = tiny_recipe(image_size=64)
    keras.utils.set_random_seed(0)
    network = networks.build_feature_extractor(plain, None)
    middle = keras.Model(network.input, network.get_layer("block4_pool").output)
    parts = (
        output_of(network, make_photos(3, 64)),
        output_of(middle, make_photos(3, 64)).mean((1, 2)),
    )
    keras.utils.set_random_seed(0)
    settings = Regression(layers=("block4_pool",), unit_length=True)
    extractor = networks.build_feature_extractor(replace(plain, regression=settings), None)
    expected = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    rows = output_of(extractor, make_photos(3, 64))
    np.testing.assert_allclose(rows, np.hstack(expected), atol=1e-5)


def test_automatic_feature_layer_is_the_start_of_the_last_block_of_any_backbone():
    settings = Regression(layers=("block4_pool",))
    recipe = tiny_recipe(backbone="MobileNetV2", regression=settings)
    extractor = networks.build_feature_extractor(recipe, None)
    start = keras.Model(extractor.input, extractor.get_layer("block_13_project_BN").output)
    averages = output_of(start, make_photos()).mean((1, 2))
    rows = output_of(extractor, make_photos())
    np.testing.assert_allclose(rows[:, -averages.shape[1] :], averages, atol=1e-5)


def test_feature_layer_that_the_backbone_does_not_have_is_refused(thin):
    recipe = tiny_recipe(regression=Regression(layers=("block4_pol",)))
    with pytest.raises(
        UserError, match=r"regression.layers has 'block4_pol'; allowed: .*block4_pool"
    ):
        networks.build_feature_extractor(recipe, None)


def test_weights_digest_changes_with_a_single_weight(network):
    digest = networks.weights_digest(network)
    assert networks.weights_digest(network) == digest
    network.get_layer("probabilities").bias.assign([0, 0, 1e-3])
    assert networks.weights_digest(network) != digest


# Precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_set_precision_is_used_by_the_networks_that_are_built_from_then_on(thin, precision):
    assert networks.set_precision(precision) == precision
    network = networks.build(tiny_recipe(), None)
    assert network.get_layer("block1_conv1").dtype_policy.name == precision


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        (set(), "float32"),
        ({"avx512f"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
    ],
)
def test_precision_auto_depends_on_the_instructions_of_a_cpu(monkeypatch, flags, precision):
    monkeypatch.setattr(machine, "processor_flags", lambda: flags)
    monkeypatch.setattr(networks.tf.config, "list_physical_devices", lambda kind: [])
    assert networks.set_precision("auto") == precision


@pytest.mark.parametrize(
    ("details", "precision"),
    [
        ({"compute_capability": (7, 0)}, "mixed_float16"),
        ({"compute_capability": (6, 1)}, "float32"),
        ({}, "float32"),  # a GPU that is not from NVIDIA
    ],
)
def test_precision_auto_depends_on_the_tensor_cores_of_a_gpu(monkeypatch, details, precision):
    tf_config = networks.tf.config
    monkeypatch.setattr(tf_config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf_config.experimental, "get_device_details", lambda gpu: details)
    assert networks.set_precision("auto") == precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_probabilities_are_float32_and_add_up_to_one_in_any_precision(thin, precision):
    networks.set_precision(precision)
    rows = output_of(networks.build(tiny_recipe(), None), make_photos())
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("backbone", ["VGG16", pytest.param("ResNet50", marks=pytest.mark.soak)])
def test_float32_copy_has_the_same_weights_and_computes_in_float32(backbone):
    recipe = tiny_recipe(backbone=backbone, image_size=32, phases=(tiny_phase("head"),))
    networks.set_precision("mixed_bfloat16")
    network = networks.build(recipe, None)
    copy = networks.float32_copy(network)
    networks.set_precision("float32")
    built_in_float32 = networks.build(recipe, None)
    built_in_float32.set_weights(network.get_weights())
    photos = make_photos(4)
    expected = output_of(built_in_float32, photos)
    np.testing.assert_allclose(output_of(copy, photos), expected, atol=1e-6)
    assert np.any(networks.predict_function(network)(photos) != expected)


@pytest.mark.parametrize(("output", "classes"), [("softmax", "abc"), ("sigmoid", "ab")])
def test_calibrated_copy_divides_the_logits_and_leaves_the_network_as_it_is(thin, output, classes):
    head = Head(pooling="flatten", units=8, dropout=0, output=output)
    network = networks.build(tiny_recipe(head=head, classes=tuple(classes)), None, seed=0)
    digest, photos = networks.weights_digest(network), make_photos(4)
    logits, _ = networks.predict_function(networks.with_logits(network))(photos)
    for temperature in (1, 3):
        found = output_of(networks.calibrated_copy(network, temperature), photos)
        expected = calibration.probabilities(logits, temperature)[:, -found.shape[1] :]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert networks.weights_digest(network) == digest


def test_similarity_can_be_added_in_a_fresh_process(thin):
    """Keras names operations by counting them, and begins anew in every process."""
    keras.utils.clear_session()
    networks.build(tiny_recipe(), None).save("saved.keras")
    keras.utils.clear_session()
    loaded = keras.saving.load_model("saved.keras")
    channels = networks.cut_tensor(loaded, None).shape[-1]
    reference = similarity.Reference(np.eye(channels, dtype=np.float16), threshold=0.5)
    model = networks.with_similarity(loaded, reference)
    assert [output.shape for output in model.outputs] == [(None, 3), (None, 1)]


def test_float32_copy_shares_no_weight_with_the_network(network):
    before = networks.weights_digest(network)
    copy = networks.float32_copy(network)
    copy.set_weights([np.zeros_like(weight) for weight in copy.get_weights()])
    assert networks.weights_digest(network) == before


@pytest.mark.soak
def test_float32_copy_normalizes_pixels_as_the_network_does(efficientnet):
    expected = output_of(efficientnet, make_photos())
    assert np.ptp(expected) > 0.01
    copy = networks.float32_copy(efficientnet)
    np.testing.assert_allclose(output_of(copy, make_photos()), expected, rtol=1e-4)


def test_float32_copy_rounds_to_16_bits_nowhere():
    """ConvNeXt contains models, which have inputs of their own."""
    networks.set_precision("mixed_bfloat16")
    recipe = tiny_recipe(backbone="ConvNeXtTiny", image_size=32, phases=(tiny_phase("head"),))
    copy = networks.float32_copy(networks.build(recipe, None))
    layers = [layer for layer in copy._flatten_layers() if not isinstance(layer, keras.Model)]
    inputs = [layer for layer in layers if isinstance(layer, keras.layers.InputLayer)]
    assert sorted(layer.dtype for layer in inputs) == ["float32"] * 4 + ["uint8"]
    assert {layer.compute_dtype for layer in layers if layer not in inputs} == {"float32"}


# ImageNet's 1,000 classes


@pytest.fixture
def download(monkeypatch):
    """Let a small network take the place of a download with its class names."""

    def replace_download(backbone, size):
        application = getattr(keras.applications, backbone)
        pixels = keras.Input((size, size, 3))
        means = keras.layers.GlobalAveragePooling2D()(pixels)
        network = keras.Model(pixels, keras.layers.Dense(1000, activation="softmax")(means))

        def build(weights):
            assert weights == "imagenet"
            return network

        def decode_predictions(rows, top):
            labels = [row.argsort()[::-1][:top] for row in rows]
            return [[(f"n{label}", f"class {label}", 1.0) for label in best] for best in labels]

        build.__module__ = application.__module__
        monkeypatch.setattr(keras.applications, backbone, build)
        module = sys.modules[application.__module__]
        monkeypatch.setattr(module, "decode_predictions", decode_predictions)
        return network

    return replace_download


def test_imagenet_classifier_is_the_downloaded_network_with_preprocessing(download):
    downloaded = download("VGG16", 32)
    network, names = networks.build_imagenet_classifier("VGG16")
    assert names == [f"class {label}" for label in range(1000)]
    pixels = keras.applications.vgg16.preprocess_input(make_photos().astype("float32"))
    expected = output_of(downloaded, pixels)
    np.testing.assert_allclose(output_of(network, make_photos()), expected, rtol=1e-4)


def test_imagenet_classifier_for_photos_of_any_size_takes_the_size_it_was_trained_with(download):
    download("MobileNetV3Small", None)
    network, _ = networks.build_imagenet_classifier("MobileNetV3Small")
    assert network.input_shape == (None, 224, 224, 3)
