import keras
import numpy as np
import pytest
from conftest import tiny_recipe

from pyimagesearch import config, networks
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Head, Phase

WARMUP, UNFROZEN = tiny_recipe().phases


def pixels(count=3, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def classifier():
    keras.utils.set_random_seed(0)
    return networks.build(tiny_recipe(), None)


def body_weights(model):
    return {
        layer.name: [weight.numpy() for weight in layer.weights]
        for layer in model.layers
        if layer.name.startswith("block")
    }


def test_food11s_network_has_the_tutorials_shapes():
    classifier = networks.build(config.RECIPES["food11"], None)
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
    recipe = config.RECIPES[name]
    classifier = networks.build(recipe, None)
    photos = pixels(2, recipe.image_size)
    whole = networks.forward(classifier)(photos)
    assert whole.shape == (2, len(recipe.classes))
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
    monkeypatch.setattr(networks, "processor_flags", lambda: flags)
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


def test_a_failed_download_is_one_error_with_its_remedy(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://example.org: None -- no route")

    monkeypatch.setattr(networks.keras.applications, "VGG16", fail)
    with pytest.raises(UserError, match=r"get_weights\.py"):
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
