"""The network of a recipe: its parts, what is frozen and trained, and its float32 copy."""

import functools
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import tiny_phase, tiny_recipe

from pyimagesearch import classifier, config, networks
from pyimagesearch import recipe as recipes
from pyimagesearch.recipe import Head
from pyimagesearch.support import machine
from pyimagesearch.support.errors import UserError

WARMUP, UNFROZEN = tiny_recipe().phases


def pixels(count=3, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return networks.build(tiny_recipe(), None)


@functools.cache
def network_of(name):
    """Return the network of a row, built once for the tests that teach it nothing."""
    return networks.build(config.RECIPES[name], None)


def body_weights(model):
    return {
        layer.name: [weight.numpy() for weight in layer.weights]
        for layer in model.layers
        if layer.name.startswith("block")
    }


def test_food11s_network_has_the_tutorials_shapes():
    network = network_of("food11")
    body = [layer for layer in network.layers if layer.name.startswith("block")]
    assert sum(layer.count_params() for layer in body) == 14_714_688
    assert network.get_layer("features").output.shape == (None, 25_088)
    assert network.get_layer("head_dense").count_params() == 25_088 * 512 + 512
    assert network.get_layer("probabilities").count_params() == 512 * 11 + 11
    assert network.get_layer("head_dropout").rate == 0.5


def test_preprocessing_inside_the_network_is_vgg16s_own():
    photos = pixels()
    recipe = tiny_recipe()
    keras.utils.set_random_seed(0)
    inside = networks.predict_function(networks.build_feature_extractor(recipe, None))(photos)
    keras.utils.set_random_seed(0)
    bare = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    outside = keras.applications.vgg16.preprocess_input(photos.astype("float32"))
    expected = bare(outside).numpy().reshape(len(photos), -1)
    np.testing.assert_allclose(inside, expected, rtol=1e-4, atol=1e-4)


def test_rescale_divides_by_255():
    recipe = tiny_recipe(preprocessing="rescale")
    extractor = networks.build_feature_extractor(recipe, None)
    scaled = keras.Model(extractor.input, extractor.get_layer("rescale").output)
    np.testing.assert_allclose(scaled(pixels()).numpy(), pixels() / 255, atol=1e-6)


@pytest.mark.parametrize("name", config.RECIPES)
def test_every_row_builds_its_network_and_can_be_cut_where_it_says(name):
    recipe, network = config.RECIPES[name], network_of(name)
    photos = pixels(2, recipe.image_size)
    whole = networks.predict_function(network)(photos)
    probabilities = classifier.from_network(network, recipe.classes).predict(photos)
    assert probabilities.shape == (2, len(recipe.classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    for phase in recipe.phases:
        frozen, rest = networks.split_at(network, phase.unfreeze_after)
        halves = rest(networks.predict_function(frozen)(photos)).numpy()
        np.testing.assert_allclose(halves, whole, atol=1e-5)


def test_frozen_part_then_rest_equals_the_whole_network(network):
    whole = networks.predict_function(network)(pixels())
    for cut in ("block1_conv1", "block3_conv2", "block4_pool", "block5_pool", None):
        frozen, rest = networks.split_at(network, cut)
        parts = networks.predict_function(rest)(networks.predict_function(frozen)(pixels()))
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_few_photos_go_through_a_network_together():
    numbers = keras.Input((1,))
    ones = keras.ops.ones_like(numbers)
    together = ones * keras.ops.sum(ones)
    answers = networks.predict_function(keras.Model(numbers, together))(np.zeros((37, 1)))
    assert answers.ravel().tolist() == [16] * 32 + [5] * 5


@pytest.mark.parametrize("count", [1, 16, 21])
def test_every_photo_is_answered_whatever_goes_together(network, count):
    photos = pixels(count)
    expected = network(photos, training=False)
    np.testing.assert_allclose(networks.predict_function(network)(photos), expected, atol=1e-6)


def learn_a_step(network, phase):
    networks.unfreeze_after(network, phase.unfreeze_after)
    learner = keras.Model(network.input, network.output)
    networks.compile_for(learner, phase)
    learner.fit(pixels(8), np.arange(8) % 3, batch_size=4, epochs=1, verbose=0)


def test_phase_one_leaves_every_backbone_weight_untouched(network):
    before = body_weights(network)
    head = network.get_layer("head_dense").kernel.numpy()
    learn_a_step(network, tiny_phase("warmup", learning_rate=0.1))
    for name, weights in body_weights(network).items():
        for was, now in zip(before[name], weights, strict=True):
            np.testing.assert_array_equal(was, now)
    assert np.any(network.get_layer("head_dense").kernel.numpy() != head)


def test_phase_two_changes_the_layers_after_the_cut_and_no_other(network):
    before = body_weights(network)
    learn_a_step(network, tiny_phase("unfrozen", unfreeze_after="block4_pool", learning_rate=0.1))
    changed = {
        name
        for name, weights in body_weights(network).items()
        if any(np.any(a != b) for a, b in zip(before[name], weights, strict=True))
    }
    assert changed == {"block5_conv1", "block5_conv2", "block5_conv3"}


def test_trainable_counts_grow_from_phase_to_phase(network):
    networks.unfreeze_after(network, WARMUP.unfreeze_after)
    first = networks.count_trainable(network)
    assert [layer.name for layer in network.layers if layer.trainable_weights] == [
        "head_dense",
        "probabilities",
    ]
    networks.unfreeze_after(network, UNFROZEN.unfreeze_after)
    assert [layer.name for layer in network.layers if layer.trainable_weights] == [
        *("block5_conv1", "block5_conv2", "block5_conv3"),
        *("head_dense", "probabilities"),
    ]
    assert networks.count_trainable(network) == first + 3 * (3 * 3 * 512 * 512 + 512)
    networks.unfreeze_after(network, WARMUP.unfreeze_after)
    assert networks.count_trainable(network) == first


def test_probabilities_are_float32_and_sum_to_one_in_sixteen_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = networks.build(tiny_recipe(), None)
    finally:
        keras.config.set_dtype_policy("float32")
    rows = networks.predict_function(network)(pixels())
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ({"avx512f"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
    ],
)
def test_auto_precision_follows_the_processor(monkeypatch, flags, policy):
    monkeypatch.setattr(machine, "processor_flags", lambda: flags)
    monkeypatch.setattr(networks.tf.config, "list_physical_devices", lambda kind: [])
    assert networks.fastest_precision() == policy


def test_misspelt_precision_is_refused():
    with pytest.raises(UserError, match=r"'float23'.*mixed_bfloat16"):
        networks.set_precision("float23")


@pytest.fixture
def efficient(tmp_path):
    """Return (a recipe on EfficientNetB0, a file of weights that normalise)."""
    photos = keras.Input((32, 32, 3))
    network = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_tensor=photos
    )
    layer = next(e for e in network.layers if isinstance(e, keras.layers.Normalization))
    layer.adapt_mean.assign([0.485, 0.456, 0.406])
    layer.adapt_variance.assign([0.229, 0.224, 0.225])
    # Random numbers would make features of a millionth.
    network.get_layer("top_bn").gamma.assign(np.full(1280, 1e6))
    path = tmp_path / "efficient.weights.h5"
    network.save_weights(path)
    phases = (tiny_phase("head"),)
    return tiny_recipe(backbone="EfficientNetB0", image_size=32, phases=phases), str(path)


def some_photos():
    return np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


def test_a_copy_in_32_bits_normalises_as_the_network_does(efficient):
    network = networks.build(*efficient)
    copy = networks.float32_copy(network)
    expected = networks.predict_function(network)(some_photos())
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(networks.predict_function(copy)(some_photos()), expected, rtol=1e-4)


def test_a_copy_in_32_bits_rounds_nowhere_to_16():
    """ConvNeXt's downsampling has inputs of its own."""
    networks.set_precision("mixed_bfloat16")
    recipe = tiny_recipe(backbone="ConvNeXtTiny", image_size=32, phases=(tiny_phase("head"),))
    copy = networks.float32_copy(networks.build(recipe, None))
    inputs, others = [], []
    for layer in copy._flatten_layers():
        kinds = inputs if isinstance(layer, keras.layers.InputLayer) else others
        kinds.append(layer)
    assert [each.dtype for each in inputs].count("float32") == 4
    assert {each.dtype for each in inputs} == {"uint8", "float32"}
    computing = [each for each in others if not isinstance(each, keras.Model)]
    assert {each.compute_dtype for each in computing} == {"float32"}


def test_the_frozen_part_drops_nothing_while_the_rest_learns(efficient):
    recipe, path = efficient
    recipe = replace(recipe, head=Head(pooling="flatten", units=8, dropout=0, output="softmax"))
    network = networks.build(recipe, path)
    drops = [each for each in network.layers if isinstance(each, keras.layers.Dropout)]
    assert len(drops) > 5
    learner = networks.with_frozen_part(network, None)
    expected = networks.predict_function(network)(some_photos())
    for training in (False, True):
        said = learner(some_photos(), training=training)
        np.testing.assert_allclose(said, expected, rtol=1e-4)
    networks.unfreeze_after(network, recipe.phases[0].unfreeze_after)
    assert [id(w) for w in learner.trainable_weights] == [id(w) for w in network.trainable_weights]


def test_weights_from_a_file_make_the_network_that_keras_download_makes(efficient, monkeypatch):
    recipe, path = efficient
    mine = networks.build_feature_extractor(recipe, path)
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: path)
    its = networks.build_feature_extractor(recipe, "imagenet")
    expected = networks.predict_function(its)(some_photos())
    close = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(networks.predict_function(mine)(some_photos()), expected, **close)


@pytest.mark.parametrize("name", ["my photos", "küche", "_mine", "2026-11"])
def test_a_network_answers_whatever_its_recipe_is_called(name):
    network = networks.build(replace(tiny_recipe(), name=name), None)
    network = networks.float32_copy(network)
    photos = np.zeros((2, 32, 32, 3), np.uint8)
    assert networks.predict_function(network)(photos).shape == (2, 3)


def test_weights_digest_changes_with_a_single_number(network):
    before = networks.weights_digest(network)
    kernel = network.get_layer("head_dense").kernel
    kernel.assign(kernel + 1e-3)
    assert networks.weights_digest(network) != before


def test_head_has_the_units_and_dropout_of_its_row():
    network = networks.build(
        tiny_recipe(head=Head(pooling="flatten", units=5, dropout=0.25, output="softmax")), None
    )
    assert network.get_layer("head_dense").units == 5
    assert network.get_layer("head_dropout").rate == 0.25


def test_phases_of_every_row_open_what_they_say():
    opened = {}
    for name, recipe in config.RECIPES.items():
        network = network_of(name)
        for phase in recipe.phases:
            networks.unfreeze_after(network, phase.unfreeze_after)
            learning = [layer.name for layer in network.layers if layer.trainable_weights]
            opened[name, phase.name] = [each for each in learning if "head" not in each]
    block5 = ["block5_conv1", "block5_conv2", "block5_conv3"]
    block4 = ["block4_conv1", "block4_conv2", "block4_conv3"]
    for name in ("food5k", "food11", "sample", "digits"):
        assert opened[name, "warmup"] == ["probabilities"]
        assert opened[name, "unfrozen"] == [*block5, "probabilities"]
    assert opened["knifey_spoony", "fine_tuning"] == [*block4, *block5, "probabilities"]
    assert opened["cats_vs_dogs_features", "head"] == ["probabilities"]
    assert opened["cats_vs_dogs", "unfrozen"] == [*block5, "probabilities"]
    assert opened["simpsons", "unfrozen"] == [
        *(f"conv5_block{block}_{part}_conv" for block in (2, 3) for part in (1, 2, 3)),
        "probabilities",
    ]


def test_batch_normalization_stays_frozen_while_the_blocks_around_it_learn():
    recipe = config.RECIPES["simpsons"]
    keras.utils.set_random_seed(0)
    network = networks.build(replace(recipe, image_size=64), None)
    networks.unfreeze_after(network, recipe.phases[1].unfreeze_after)
    learner = keras.Model(network.input, network.output)
    networks.compile_for(learner, replace(recipe.phases[1], learning_rate=0.1))
    normalisers = [each for each in network.layers if "BatchNorm" in type(each).__name__]
    assert len(normalisers) == 53
    before = [weight.numpy() for layer in normalisers for weight in layer.weights]
    kernel = network.get_layer("conv5_block3_1_conv").kernel.numpy()
    learner.fit(pixels(4, 64), np.arange(4) % 2, verbose=0)
    after = [weight.numpy() for layer in normalisers for weight in layer.weights]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)
    assert np.any(network.get_layer("conv5_block3_1_conv").kernel.numpy() != kernel)


def test_cats_vs_dogs_way_two_has_30_weight_tensors_of_which_4_learn():
    network = network_of("cats_vs_dogs")
    assert len(network.weights) == 30
    networks.unfreeze_after(network, config.RECIPES["cats_vs_dogs"].phases[0].unfreeze_after)
    assert len(network.trainable_weights) == 4
    assert network.get_layer("features").output.shape == (None, 8_192)


def test_the_two_ways_of_cats_vs_dogs_differ_by_dropout():
    ways = [network_of(f"cats_vs_dogs{end}") for end in ("_features", "")]
    names = [[layer.name for layer in way.layers if "head" in layer.name] for way in ways]
    assert names == [["head_dense", "head_dropout"], ["head_dense"]]


def test_simpsons_head_stands_on_2048_averages():
    network = network_of("simpsons")
    assert network.get_layer("features").output.shape == (None, 2_048)
    assert network.get_layer("probabilities").count_params() == 2_049


@pytest.mark.parametrize(
    "backbone", ["MobileNetV3Small", "EfficientNetB0", "DenseNet121", "ConvNeXtTiny"]
)
def test_any_backbone_works_at_its_own_size_and_can_be_cut(backbone):
    head = Head(pooling="average", units=None, dropout=0, output="softmax")
    recipe = tiny_recipe(
        backbone=backbone, image_size=None, head=head, phases=(tiny_phase("head"),)
    )
    assert recipe.image_size == recipes.BACKBONES[backbone] == 224
    network = networks.build(recipe, None)
    cuts = networks.cut_points(network)
    cut = cuts[cuts.index("features") - 3]
    frozen_part, trained_part = networks.split_at(network, cut)
    photos = pixels(1, 224)
    frozen_outputs = networks.predict_function(frozen_part)(photos)
    halves = networks.predict_function(trained_part)(frozen_outputs)
    np.testing.assert_allclose(halves, networks.predict_function(network)(photos), atol=1e-5)


@pytest.mark.parametrize("backbone", ["VGG16", "ResNet50", "MobileNetV3Small"])
def test_cut_points_are_the_layers_at_which_keras_can_cut(backbone):
    size = {"image_size": 32, "backbone": backbone, "phases": (tiny_phase("head"),)}
    network = networks.build(tiny_recipe(**size), None)
    names = [layer.name for layer in network.layers[1:]]
    possible = []
    for name in names[: names.index("features")]:
        try:
            keras.Model(network.get_layer(name).output, network.output)
        except ValueError:
            continue
        possible.append(name)
    allowed = networks.cut_points(network)
    in_backbone = [name for name in allowed[: allowed.index("features")] if name in names]
    assert in_backbone == possible


def test_backbones_are_those_of_keras_applications_at_their_sizes():
    names = {name for name in vars(keras.applications) if name[0].isupper()}
    assert set(recipes.BACKBONES) == names


@pytest.mark.soak
@pytest.mark.parametrize("backbone", recipes.BACKBONES)
def test_image_sizes_are_those_that_keras_builds_by_default(backbone):
    network = getattr(keras.applications, backbone)(weights=None)
    # MobileNetV3 takes any size. It was trained at 224.
    assert recipes.BACKBONES[backbone] == (network.input_shape[1] or 224)
    keras.backend.clear_session()


@pytest.mark.parametrize("backbone", ["VGG16", "Xception", "InceptionV3"])
def test_smallest_image_is_the_smallest_that_keras_builds(backbone):
    smallest = recipes.SMALLEST_IMAGE.get(backbone, recipes.SMALLEST_IMAGE_OF_OTHERS)

    def build(size):
        application = getattr(keras.applications, backbone)
        return application(include_top=False, weights=None, input_shape=(size, size, 3))

    assert 0 not in build(smallest).output.shape[1:]
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
        build(smallest - 1)


def cut_error(*cuts, backbone="VGG16"):
    """Return the error of a recipe whose phases are cut at these layers."""
    phases = [tiny_phase(f"phase{n}", unfreeze_after=cut) for n, cut in enumerate(cuts)]
    with pytest.raises(UserError) as refused:
        networks.build(tiny_recipe(backbone=backbone, phases=tuple(phases)), None)
    return str(refused.value)


def test_misspelt_layer_is_refused_with_similar_ones():
    message = cut_error("block4_pol")
    assert "recipe 'tiny': phases[0].unfreeze_after is 'block4_pol'" in message
    assert "None, or a layer of VGG16 such as block4_pool" in message


def test_layer_inside_a_residual_block_is_refused_with_its_neighbours():
    message = cut_error("conv5_block2_2_conv", backbone="ResNet50")
    assert "conv5_block1_out or conv5_block2_add; ResNet50 cannot be cut in between" in message


def test_phase_that_trains_fewer_layers_than_the_one_before_is_refused():
    assert "'block3_pool' or an earlier layer" in cut_error("block3_pool", "block4_pool")
    networks.build(
        tiny_recipe(
            phases=(
                tiny_phase("first", unfreeze_after="block4_pool"),
                tiny_phase("second", unfreeze_after="block3_pool"),
                tiny_phase("third", unfreeze_after="block3_pool"),
            )
        ),
        None,
    )


def test_imagenet_answers_are_the_top_of_the_untouched_network(monkeypatch):
    """The weights and the list of names are Keras' downloads, so both are stood in for."""
    module = sys.modules[keras.applications.VGG16.__module__]
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1000, activation="softmax")(flat))

    def untrained(weights):
        return network

    def names(rows, top):
        order = [np.argsort(-row)[:top] for row in rows]
        return [
            [(f"n{i}", f"class {i}", row[i]) for i in best]
            for row, best in zip(rows, order, strict=True)
        ]

    untrained.__module__ = module.__name__
    monkeypatch.setattr(keras.applications, "VGG16", untrained)
    monkeypatch.setattr(module, "decode_predictions", names)
    loaded = classifier.from_network(*networks.build_imagenet_classifier("VGG16"))
    rows = loaded.predict(pixels(2))
    scaled = keras.applications.vgg16.preprocess_input(pixels(2).astype("float32"))
    expected = network(scaled).numpy()
    np.testing.assert_allclose(rows, expected, rtol=1e-4)
    for row in expected:
        best = loaded.top(row, 5)
        assert len(best) == 5
        assert best[0] == (f"class {row.argmax()}", pytest.approx(row.max()))


@pytest.mark.parametrize("backbone", ["VGG16", "ResNet50"])
def test_a_copy_in_float32_has_the_same_weights_and_answers_in_float32(backbone):
    recipe = tiny_recipe(backbone=backbone, image_size=32, phases=(tiny_phase("head"),))
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = networks.build(recipe, None)
    keras.config.set_dtype_policy("float32")
    whole = networks.build(recipe, None)
    whole.set_weights(half.get_weights())
    copy = networks.float32_copy(half)
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    answers = [networks.predict_function(each)(photos) for each in (copy, whole, half)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert np.any(answers[0] != answers[2])
    # A copy: teaching it leaves the first as it was.
    copy.layers[-1].set_weights([np.zeros_like(each) for each in copy.layers[-1].get_weights()])
    assert np.any(half.layers[-1].get_weights()[0] != 0)


def test_an_untouched_network_for_photos_of_any_size_gets_those_it_was_trained_on(monkeypatch):
    application = keras.applications.MobileNetV3Small
    inputs = keras.Input((None, None, 3))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1000, activation="softmax")(mean))

    def untrained(weights):
        return network

    untrained.__module__ = application.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV3Small", untrained)
    module = sys.modules[application.__module__]
    monkeypatch.setattr(module, "decode_predictions", lambda rows, top: [[("n", "a", 1)]] * 1000)
    loaded = classifier.from_network(*networks.build_imagenet_classifier("MobileNetV3Small"))
    assert loaded.image_size == 224
