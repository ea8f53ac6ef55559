import functools
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import tiny_recipe

from pyimagesearch import artifacts, config, machine, networks
from pyimagesearch import recipe as recipes
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Head, Phase

WARMUP, UNFROZEN = tiny_recipe().phases


def pixels(count=3, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def classifier():
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
    classifier = network_of("food11")
    body = [layer for layer in classifier.layers if layer.name.startswith("block")]
    assert sum(layer.count_params() for layer in body) == 14_714_688
    assert classifier.get_layer("features").output.shape == (None, 25_088)
    assert classifier.get_layer("head_dense").count_params() == 25_088 * 512 + 512
    assert classifier.get_layer("probabilities").count_params() == 512 * 11 + 11
    assert classifier.get_layer("head_dropout").rate == 0.5


def test_preprocessing_inside_the_network_is_vgg16s_own():
    photos = pixels()
    recipe = tiny_recipe()
    keras.utils.set_random_seed(0)
    inside = networks.forward(networks.build_feature_extractor(recipe, None))(photos)
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
    recipe, classifier = config.RECIPES[name], network_of(name)
    photos = pixels(2, recipe.image_size)
    whole = networks.forward(classifier)(photos)
    asked = artifacts.from_network(classifier, recipe.classes).probabilities(photos)
    assert asked.shape == (2, len(recipe.classes))
    np.testing.assert_allclose(asked.sum(axis=1), 1, atol=1e-5)
    for phase in recipe.phases:
        frozen, rest = networks.split_at(classifier, phase.unfreeze_after)
        halves = rest(networks.forward(frozen)(photos)).numpy()
        np.testing.assert_allclose(halves, whole, atol=1e-5)


def test_frozen_part_then_rest_equals_the_whole_network(classifier):
    whole = networks.forward(classifier)(pixels())
    for cut in ("block1_conv1", "block3_conv2", "block4_pool", "block5_pool", None):
        frozen, rest = networks.split_at(classifier, cut)
        parts = networks.forward(rest)(networks.forward(frozen)(pixels()))
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_few_photos_go_through_a_network_together():
    numbers = keras.Input((1,))
    ones = keras.ops.ones_like(numbers)
    together = ones * keras.ops.sum(ones)
    answers = networks.forward(keras.Model(numbers, together))(np.zeros((37, 1)))
    assert answers.ravel().tolist() == [16] * 32 + [5] * 5


@pytest.mark.parametrize("count", [1, 16, 21])
def test_every_photo_is_answered_whatever_goes_together(classifier, count):
    photos = pixels(count)
    expected = classifier(photos, training=False)
    np.testing.assert_allclose(networks.forward(classifier)(photos), expected, atol=1e-6)


def learn_a_step(classifier, phase):
    networks.open_for(classifier, phase)
    learner = keras.Model(classifier.input, classifier.output)
    networks.compile_for(learner, phase)
    learner.fit(pixels(8), np.arange(8) % 3, batch_size=4, epochs=1, verbose=0)


def test_phase_one_leaves_every_backbone_weight_untouched(classifier):
    before = body_weights(classifier)
    head = classifier.get_layer("head_dense").kernel.numpy()
    learn_a_step(classifier, Phase("warmup", learning_rate=0.1))
    for name, weights in body_weights(classifier).items():
        for was, now in zip(before[name], weights, strict=True):
            np.testing.assert_array_equal(was, now)
    assert np.any(classifier.get_layer("head_dense").kernel.numpy() != head)


def test_phase_two_changes_the_layers_after_the_cut_and_no_other(classifier):
    before = body_weights(classifier)
    learn_a_step(classifier, Phase("unfrozen", unfreeze_after="block4_pool", learning_rate=0.1))
    changed = {
        name
        for name, weights in body_weights(classifier).items()
        if any(np.any(a != b) for a, b in zip(before[name], weights, strict=True))
    }
    assert changed == {"block5_conv1", "block5_conv2", "block5_conv3"}


def test_trainable_counts_grow_from_phase_to_phase(classifier):
    networks.open_for(classifier, WARMUP)
    first = networks.count_trainable(classifier)
    assert networks.trainable_layers(classifier) == ["head_dense", "probabilities"]
    networks.open_for(classifier, UNFROZEN)
    assert networks.trainable_layers(classifier) == [
        *("block5_conv1", "block5_conv2", "block5_conv3"),
        *("head_dense", "probabilities"),
    ]
    assert networks.count_trainable(classifier) == first + 3 * (3 * 3 * 512 * 512 + 512)
    networks.open_for(classifier, WARMUP)
    assert networks.count_trainable(classifier) == first


def test_probabilities_are_float32_and_sum_to_one_in_sixteen_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        classifier = networks.build(tiny_recipe(), None)
    finally:
        keras.config.set_dtype_policy("float32")
    rows = networks.forward(classifier)(pixels())
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


def test_weights_are_found_in_this_order(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "WEIGHTS_DIR", tmp_path)
    assert networks.find_weights("VGG16", "imagenet") == "imagenet"
    fetched = tmp_path / "vgg16.weights.h5"
    fetched.write_bytes(b"")
    assert networks.find_weights("VGG16", "imagenet") == str(fetched)
    with pytest.raises(UserError, match=r"mine\.weights\.h5"):
        networks.find_weights("VGG16", "mine.weights.h5")
    own = tmp_path / "mine.weights.h5"
    own.write_bytes(b"")
    assert networks.find_weights("VGG16", own) == str(own)


def test_weights_that_do_not_fit_are_one_error(tmp_path):
    damaged = tmp_path / "vgg16.weights.h5"
    damaged.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"does not hold the weights of VGG16"):
        networks.build(tiny_recipe(), str(damaged))


def test_a_damaged_copy_of_the_weights_is_made_again_by_the_tool(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "WEIGHTS_DIR", tmp_path)
    copy = networks.weights_file("VGG16")
    copy.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"get_weights\.py --force"):
        networks.build(tiny_recipe(), networks.find_weights("VGG16", "imagenet"))


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("VGG16", r"Try: python tools/get_weights\.py\. Or: Set WEIGHTS"),
        ("VGG19", r"route\)\. Set WEIGHTS in pyimagesearch/config\.py to the path of a .* of it"),
        ("VGG16 with its top", r"route\)\. Look at the connection"),
    ],
)
def test_the_tool_for_weights_is_named_only_for_those_that_it_has(backbone, words):
    failure = Exception("URL fetch failure on https://a.b: None -- no route")
    explained = networks.weights_errors_explained(backbone, "imagenet")
    with pytest.raises(UserError, match=words), explained:
        raise failure


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
    phases = (Phase("head"),)
    return tiny_recipe(backbone="EfficientNetB0", image_size=32, phases=phases), str(path)


def some_photos():
    return np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


def test_a_copy_in_32_bits_normalises_as_the_network_does(efficient):
    network = networks.build(*efficient)
    copy = networks.in_float32(network)
    expected = networks.forward(network)(some_photos())
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(networks.forward(copy)(some_photos()), expected, rtol=1e-4)


def test_a_copy_in_32_bits_rounds_nowhere_to_16():
    """ConvNeXt's downsampling has inputs of its own."""
    networks.set_precision("mixed_bfloat16")
    recipe = tiny_recipe(backbone="ConvNeXtTiny", image_size=32, phases=(Phase("head"),))
    copy = networks.in_float32(networks.build(recipe, None))
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
    recipe = replace(recipe, head=Head(units=8, dropout=0))
    network = networks.build(recipe, path)
    drops = [each for each in network.layers if isinstance(each, keras.layers.Dropout)]
    assert len(drops) > 5
    learner = networks.learner_of(network, None)
    expected = networks.forward(network)(some_photos())
    for training in (False, True):
        said = learner(some_photos(), training=training)
        np.testing.assert_allclose(said, expected, rtol=1e-4)
    networks.open_for(network, recipe.phases[0])
    assert [id(w) for w in learner.trainable_weights] == [id(w) for w in network.trainable_weights]


def test_weights_from_a_file_make_the_network_that_keras_download_makes(efficient, monkeypatch):
    recipe, path = efficient
    mine = networks.build_feature_extractor(recipe, path)
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: path)
    its = networks.build_feature_extractor(recipe, "imagenet")
    expected = networks.forward(its)(some_photos())
    close = {"rtol": 1e-3, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(networks.forward(mine)(some_photos()), expected, **close)


@pytest.mark.parametrize("name", ["my photos", "küche", "_mine", "2026-11"])
def test_a_network_answers_whatever_its_recipe_is_called(name):
    network = networks.build(replace(tiny_recipe(), name=name), None)
    network = networks.in_float32(network)
    photos = np.zeros((2, 32, 32, 3), np.uint8)
    assert networks.forward(network)(photos).shape == (2, 3)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Exception("URL fetch failure on https://a.b: None -- no route"), r"get_weights\.py"),
        (
            ValueError("Incomplete or corrupted file detected. The sha256 file hash does not"),
            r"damaged \(Incomplete .* detected\)\. Delete it from",
        ),
    ],
    ids=["failed", "damaged"],
)
def test_a_failed_or_damaged_download_is_one_error_with_its_remedy(monkeypatch, failure, words):
    def fail(**_):
        raise failure

    fail.__module__ = keras.applications.VGG16.__module__
    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(UserError, match=words):
        networks.build(tiny_recipe(), "imagenet")


def test_weights_digest_changes_with_a_single_number(classifier):
    before = networks.weights_digest(classifier)
    kernel = classifier.get_layer("head_dense").kernel
    kernel.assign(kernel + 1e-3)
    assert networks.weights_digest(classifier) != before


def test_head_has_the_units_and_dropout_of_its_row():
    classifier = networks.build(tiny_recipe(head=Head(units=5, dropout=0.25)), None)
    assert classifier.get_layer("head_dense").units == 5
    assert classifier.get_layer("head_dropout").rate == 0.25


def test_phases_of_every_row_open_what_they_say():
    opened = {}
    for name, recipe in config.RECIPES.items():
        classifier = network_of(name)
        for phase in recipe.phases:
            networks.open_for(classifier, phase)
            learning = networks.trainable_layers(classifier)
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
    classifier = networks.build(replace(recipe, image_size=64), None)
    networks.open_for(classifier, recipe.phases[1])
    learner = keras.Model(classifier.input, classifier.output)
    networks.compile_for(learner, replace(recipe.phases[1], learning_rate=0.1))
    normalisers = [each for each in classifier.layers if "BatchNorm" in type(each).__name__]
    assert len(normalisers) == 53
    before = [weight.numpy() for layer in normalisers for weight in layer.weights]
    kernel = classifier.get_layer("conv5_block3_1_conv").kernel.numpy()
    learner.fit(pixels(4, 64), np.arange(4) % 2, verbose=0)
    after = [weight.numpy() for layer in normalisers for weight in layer.weights]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)
    assert np.any(classifier.get_layer("conv5_block3_1_conv").kernel.numpy() != kernel)


def test_cats_vs_dogs_way_two_has_30_weight_tensors_of_which_4_learn():
    classifier = network_of("cats_vs_dogs")
    assert len(classifier.weights) == 30
    networks.open_for(classifier, config.RECIPES["cats_vs_dogs"].phases[0])
    assert len(classifier.trainable_weights) == 4
    assert classifier.get_layer("features").output.shape == (None, 8_192)


def test_the_two_ways_of_cats_vs_dogs_differ_by_dropout():
    ways = [network_of(f"cats_vs_dogs{end}") for end in ("_features", "")]
    names = [[layer.name for layer in way.layers if "head" in layer.name] for way in ways]
    assert names == [["head_dense", "head_dropout"], ["head_dense"]]


def test_simpsons_head_stands_on_2048_averages():
    classifier = network_of("simpsons")
    assert classifier.get_layer("features").output.shape == (None, 2_048)
    assert classifier.get_layer("probabilities").count_params() == 2_049


@pytest.mark.parametrize(
    "backbone", ["MobileNetV3Small", "EfficientNetB0", "DenseNet121", "ConvNeXtTiny"]
)
def test_any_backbone_works_by_its_name_at_its_own_size_and_can_be_cut(backbone):
    listed = recipes.BACKBONES[backbone]
    recipe = tiny_recipe(
        backbone=backbone,
        image_size=None,
        head=Head(pooling="average", units=None),
        phases=(Phase("unfrozen", unfreeze_after=list(listed["segments"])[-2]),),
    )
    assert recipe.image_size == listed["image_size"] == 224
    classifier = networks.build(recipe, None)
    frozen, rest = networks.split_at(classifier, recipe.phases[0].unfreeze_after)
    photos = pixels(1, 224)
    halves = networks.forward(rest)(networks.forward(frozen)(photos))
    np.testing.assert_allclose(halves, networks.forward(classifier)(photos), atol=1e-5)


@pytest.mark.parametrize("backbone", ["VGG16", "ResNet50", "MobileNetV3Small"])
def test_backbones_file_lists_exactly_the_layers_that_can_be_cut(backbone):
    """Cut the real network at every layer: what is not listed must fail, what is must not."""
    body = getattr(keras.applications, backbone)(
        weights=None, include_top=False, input_shape=(224, 224, 3)
    )
    head = keras.layers.GlobalAveragePooling2D()(body.output)
    segments = recipes.BACKBONES[backbone]["segments"]
    listed = set(segments).union(*segments.values())
    can_be_cut = set()
    for name in listed:
        try:
            keras.Model(body.get_layer(name).output, head)
        except ValueError:
            continue
        can_be_cut.add(name)
    assert can_be_cut == set(segments)


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
    classifier = artifacts.from_network(*networks.build_untouched("VGG16"))
    rows = classifier.probabilities(pixels(2))
    scaled = keras.applications.vgg16.preprocess_input(pixels(2).astype("float32"))
    expected = network(scaled).numpy()
    np.testing.assert_allclose(rows, expected, rtol=1e-4)
    for row in expected:
        best = classifier.likeliest(row, 5)
        assert len(best) == 5
        assert best[0] == (f"class {row.argmax()}", pytest.approx(row.max()))


@pytest.mark.parametrize("backbone", ["VGG16", "ResNet50"])
def test_a_copy_in_float32_has_the_same_weights_and_answers_in_float32(backbone):
    recipe = tiny_recipe(backbone=backbone, image_size=32, phases=(Phase("head"),))
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = networks.build(recipe, None)
    keras.config.set_dtype_policy("float32")
    whole = networks.build(recipe, None)
    whole.set_weights(half.get_weights())
    copy = networks.in_float32(half)
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    answers = [networks.forward(each)(photos) for each in (copy, whole, half)]
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
    classifier = artifacts.from_network(*networks.build_untouched("MobileNetV3Small"))
    assert classifier.image_size == 224
