from dataclasses import fields

import pytest

from pyimagesearch import config, recipe
from pyimagesearch.console import UserError
from pyimagesearch.recipe import Augmentation, Head, Phase, Recipe, Split

GOOD = {"source": "photos", "classes": ("one", "two")}


def refusal(**changes):
    """Return what `checked` says of a row with these changes."""
    with pytest.raises(UserError) as refused:
        recipe.checked({"mine": Recipe(**GOOD | changes)})
    return str(refused.value)


def test_a_row_that_says_only_photos_and_classes_passes_with_its_name():
    row = recipe.checked({"mine": Recipe(**GOOD)})["mine"]
    assert row.name == "mine"
    assert row.image_size == 224


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", "..", ".mine", "--mine", 3])
def test_a_name_that_is_no_folders_is_refused(name):
    with pytest.raises(UserError, match="a recipe is named"):
        recipe.checked({name: Recipe(**GOOD)})


@pytest.mark.parametrize("name", ["my photos", "küche", "_mine", "2026-11"])
def test_other_names_pass(name):
    assert recipe.checked({name: Recipe(**GOOD)})[name].name == name


@pytest.mark.parametrize("name", config.RECIPES)
def test_every_row_of_the_config_passes_and_carries_its_own_name(name):
    assert list(recipe.wrong_fields(config.RECIPES[name])) == []
    assert config.RECIPES[name].name == name


def test_the_first_wrong_row_is_the_one_reported():
    rows = {"fine": Recipe(**GOOD), "wrong": Recipe(**GOOD, batch_size=0), "worse": Recipe()}
    with pytest.raises(UserError, match="recipe 'wrong': batch_size is 0"):
        recipe.checked(rows)


def with_phase(**changes):
    return {"phases": (Phase(**{"name": "warmup"} | changes),)}


WRONG = [
    ({"epocs": 3}, "epocs", "source, classes"),
    ({"head": Head(unit=3)}, "head.unit", "units"),
    ({"augmentation": Augmentation(rotation=3)}, "augmentation.rotation", "rotation_degrees"),
    ({"split": Split(test=0.1)}, "split.test", "evaluation"),
    (with_phase(lr=0.1), "phases[0].lr", "learning_rate"),
    ({"source": ""}, "source is ''", "the folder"),
    ({"classes": ()}, "classes is ()", "two names"),
    ({"classes": ("one",)}, "classes is ('one',)", "two names"),
    ({"classes": "ab"}, "classes is 'ab'", "a tuple"),
    ({"classes": ["a", "b"]}, "classes is ['a', 'b']", "a tuple"),
    ({"classes": None}, "classes is None", "a tuple"),
    ({"classes": ("a", 3)}, "classes is 3", "names"),
    ({"classes": ("a", " ")}, "classes is ' '", "not empty"),
    ({"classes": ("a", ".b")}, "classes is '.b'", "a dot"),
    ({"classes": ("a/b", "A-B")}, "classes is 'a/b'", "upper and lower case"),
    ({"classes": ("cat", "cat")}, "classes is 'cat'", "upper and lower case"),
    ({"classes": ("Cat", "cat")}, "classes is 'Cat'", "upper and lower case"),
    ({"layout": "nested"}, "layout is 'nested'", "'flat'"),
    ({"backbone": "VGG17"}, "backbone is 'VGG17'", "VGG16"),
    ({"backbone": None}, "backbone is None", "VGG16"),
    ({"backbone": ["VGG16"]}, "backbone is ['VGG16']", "VGG16"),
    ({"preprocessing": "none"}, "preprocessing is 'none'", "'rescale'"),
    ({"preprocessing": "rescale", "backbone": "EfficientNetV2S"}, "'rescale'", "by itself"),
    ({"preprocessing": "rescale", "backbone": "MobileNetV3Large"}, "'rescale'", "by itself"),
    ({"preprocessing": "rescale", "backbone": "ConvNeXtTiny"}, "'rescale'", "by itself"),
    ({"image_size": 16}, "image_size is 16", "from 32"),
    ({"image_size": 224.0}, "image_size is 224.0", "whole number"),
    ({"backbone": "InceptionV3", "image_size": 74}, "image_size is 74", "75, for InceptionV3"),
    ({"batch_size": 0}, "batch_size is 0", "from 1"),
    ({"batch_size": True}, "batch_size is True", "from 1"),
    ({"method": "svm"}, "method is 'svm'", "'fine_tune'"),
    ({"method": None}, "method is None", "'fine_tune'"),
    ({"views": True}, "views is True", "'auto'"),
    ({"views": -1}, "views is -1", "'auto'"),
    ({"views": "many"}, "views is 'many'", "'auto'"),
    ({"class_weights": "equal"}, "class_weights is 'equal'", "'balanced'"),
    ({"official_counts": 3}, "official_counts is 3", "{split: photos}"),
    ({"head": None}, "head is None", "Head(...)"),
    ({"head": Head(units=0)}, "head.units is 0", "None"),
    ({"head": Head(dropout=1)}, "head.dropout is 1", "below 1"),
    ({"head": Head(pooling="max")}, "head.pooling is 'max'", "'average'"),
    ({"head": Head(output="tanh")}, "head.output is 'tanh'", "'sigmoid'"),
    (
        {"classes": ("a", "b", "c"), "head": Head(output="sigmoid")},
        "head.output is 'sigmoid'",
        "3 classes, not 2",
    ),
    ({"augmentation": None}, "augmentation is None", "Augmentation(...)"),
    (
        {"augmentation": Augmentation(rotation_degrees=-1)},
        "augmentation.rotation_degrees is -1",
        "from 0",
    ),
    ({"augmentation": Augmentation(shear_degrees=90)}, "shear_degrees is 90", "below 90"),
    ({"augmentation": Augmentation(zoom=(0.9,))}, "zoom is (0.9,)", "(smallest, largest)"),
    ({"augmentation": Augmentation(zoom=[0.9, 1.5])}, "zoom is [0.9, 1.5]", "(smallest, largest)"),
    ({"augmentation": Augmentation(zoom=("a", 1))}, "zoom is ('a', 1)", "(smallest, largest)"),
    ({"augmentation": Augmentation(zoom=1.0)}, "augmentation.zoom is 1.0", "a share below 1"),
    ({"augmentation": Augmentation(zoom=(2, 1))}, "zoom is (2, 1)", "(smallest, largest)"),
    ({"augmentation": Augmentation(zoom=(0, 1))}, "zoom is (0, 1)", "(smallest, largest)"),
    ({"augmentation": Augmentation(width_shift="a")}, "width_shift is 'a'", "below 1"),
    ({"augmentation": Augmentation(height_shift=1)}, "height_shift is 1", "below 1"),
    ({"augmentation": Augmentation(horizontal_flip=2)}, "horizontal_flip is 2", "True"),
    ({"split": 0.2}, "split is 0.2", "Split(...)"),
    ({"split": Split(training=-1)}, "split.training is -1", "None"),
    ({"split": Split(evaluation=1.5)}, "split.evaluation is 1.5", "a share below 1"),
    ({"split": Split(validation=None)}, "split is Split(", "one part None"),
    ({"phases": ()}, "phases is ()", "at least one"),
    ({"phases": None}, "phases is None", "at least one"),
    ({"phases": [Phase("warmup")]}, "phases is [Phase(", "a tuple"),
    ({"phases": Phase("warmup")}, "phases is Phase(", "comma"),
    ({"phases": (Phase("a"), "b")}, "phases is (", "at least one Phase"),
    ({"phases": (Phase("a"), Phase("a"))}, "phases[0].name is 'a'", "no other phase"),
    (with_phase(name="warm up"), "phases[0].name is 'warm up'", "names files"),
    (with_phase(unfreeze_after="block9_pool"), "unfreeze_after is 'block9_pool'", "block5_pool"),
    (with_phase(unfreeze_after=15), "unfreeze_after is 15", "the name of a layer"),
    (with_phase(epochs=0), "epochs is 0", "from 1"),
    (with_phase(epochs="3"), "epochs is '3'", "from 1"),
    (with_phase(optimizer="sgd"), "optimizer is 'sgd'", "'SGD'"),
    (with_phase(learning_rate=0), "learning_rate is 0", "above 0"),
    (with_phase(learning_rate=-1e-4), "learning_rate is -0.0001", "above 0"),
    (with_phase(learning_rate=float("nan")), "learning_rate is nan", "above 0"),
    (with_phase(learning_rate=float("inf")), "learning_rate is inf", "above 0"),
    (with_phase(learning_rate=None), "learning_rate is None", "above 0"),
    (with_phase(learning_rate="1e-4"), "learning_rate is '1e-4'", "above 0"),
    (with_phase(momentum=1), "momentum is 1", "below 1"),
    (with_phase(steps_per_epoch=0), "steps_per_epoch is 0", "None"),
    (with_phase(held_out=1), "held_out is 1", "below 1"),
    ({"mistakes": 0}, "mistakes is 0", "from 1"),
    ({"smoothing": 1}, "smoothing is 1", "below 1"),
]


@pytest.mark.parametrize(("changes", "value", "allowed"), WRONG, ids=[row[1] for row in WRONG])
def test_a_wrong_row_is_refused_with_row_field_value_and_what_is_allowed(changes, value, allowed):
    said = refusal(**changes)
    assert "recipe 'mine'" in said
    assert value in said
    assert allowed in said.split("; allowed: ")[1]


def test_something_else_than_a_recipe_is_refused():
    with pytest.raises(UserError, match=r"recipe 'mine': the row is 3; allowed: Recipe"):
        recipe.checked({"mine": 3})


def test_a_layer_that_cannot_be_cut_is_refused_with_its_two_neighbours():
    phases = (Phase("unfrozen", unfreeze_after="conv5_block2_2_conv"),)
    said = refusal(backbone="ResNet50", phases=phases)
    assert "allowed: conv5_block1_out or conv5_block2_add" in said


def test_a_misspelt_layer_is_refused_with_the_likeliest_ones():
    phases = (Phase("unfrozen", unfreeze_after="conv5_blok1_out"),)
    assert "conv5_block1_out" in refusal(backbone="ResNet50", phases=phases)


def test_vgg16_can_be_cut_at_every_layer_but_its_input_and_nowhere_else():
    import keras

    body = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    head = keras.layers.GlobalAveragePooling2D()(body.output)
    layers = body.layers[1:]
    assert list(recipe.BACKBONES["VGG16"]["segments"]) == [layer.name for layer in layers]
    for place, layer in enumerate(layers, start=1):
        tail = keras.Model(layer.output, head)
        behind = [each.name for each in layers[place:]]
        assert [each.name for each in tail.layers[1:-1]] == behind


@pytest.mark.parametrize("backbone", ["VGG16", "Xception", "InceptionV3"])
def test_a_smallest_image_is_the_smallest_that_keras_builds(backbone):
    import keras

    smallest = recipe.BACKBONES[backbone]["smallest_image"]

    def build(size):
        build_network = getattr(keras.applications, backbone)
        return build_network(include_top=False, weights=None, input_shape=(size, size, 3))

    assert 0 not in build(smallest).output.shape[1:]
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
        build(smallest - 1)


@pytest.mark.parametrize("kind", recipe.RULES)
def test_every_field_has_a_rule(kind):
    names = {field.name for field in fields(kind)}
    assert set(recipe.RULES[kind]) == (names - {"name"} if kind is Recipe else names)


def test_class_names_become_folder_names_as_kaggles_copy_has_them():
    assert recipe.folder_name("Noodles/Pasta") == "Noodles-Pasta"
    assert recipe.folder_name("Fried food") == "Fried food"
    assert recipe.folder_name("a\\b/c") == "a-b-c"


def test_food5k_has_the_tutorials_numbers():
    row = config.RECIPES["food5k"]
    assert row.source == "Food-5K"
    assert row.classes == ("non_food", "food")
    assert row.official_counts == {"training": 3000, "validation": 1000, "evaluation": 1000}
    assert (row.backbone, row.image_size, row.batch_size) == ("VGG16", 224, 32)
    assert row.method == "logistic_regression"
    assert row.preprocessing is None


def test_food11_has_the_tutorials_numbers():
    row = config.RECIPES["food11"]
    assert (row.backbone, row.image_size, row.batch_size) == ("VGG16", 224, 32)
    assert (row.method, row.preprocessing) == ("fine_tune", None)
    assert sum(row.official_counts.values()) == 16_643
    assert row.official_counts == {"training": 9866, "validation": 3430, "evaluation": 3347}
    # The label of a photo is its place in this list.
    assert row.classes == (
        *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
        *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
    )
    assert row.head == Head(pooling="flatten", units=512, dropout=0.5, output="softmax")
    assert row.augmentation == Augmentation(
        rotation_degrees=30,
        width_shift=0.2,
        height_shift=0.2,
        shear_degrees=0.15,
        zoom=0.15,
        horizontal_flip=True,
    )
    warmup, unfrozen = row.phases
    assert (warmup.name, warmup.epochs, warmup.unfreeze_after) == ("warmup", 50, None)
    assert (unfrozen.name, unfrozen.epochs) == ("unfrozen", 20)
    assert unfrozen.unfreeze_after == "block4_pool"
    for phase in row.phases:
        assert (phase.optimizer, phase.learning_rate, phase.momentum) == ("SGD", 1e-4, 0.9)


def test_knifey_spoony_has_the_tutorials_numbers():
    row = config.RECIPES["knifey_spoony"]
    assert row.official_counts["training"] == 4170
    assert row.official_counts["evaluation"] == 530
    assert (row.batch_size, row.class_weights, row.mistakes) == (20, "balanced", 9)
    assert (row.head.units, row.head.dropout) == (1024, 0.5)
    assert row.preprocessing == "rescale"
    assert row.augmentation.rotation_degrees == 180
    assert row.augmentation.zoom_range == (0.9, 1.5)
    assert row.augmentation.vertical_flip
    assert [phase.learning_rate for phase in row.phases] == [1e-5, 1e-7]
    for phase in row.phases:
        assert (phase.epochs, phase.steps_per_epoch, phase.optimizer) == (20, 100, "Adam")


def test_cats_vs_dogs_has_the_books_numbers():
    for name in ("cats_vs_dogs", "cats_vs_dogs_features"):
        row = config.RECIPES[name]
        parts = row.split
        assert (parts.training, parts.validation, parts.evaluation) == (1000, 500, 500)
        assert not parts.shuffle
        assert (row.image_size, row.batch_size, row.preprocessing) == (150, 20, "rescale")
        assert (row.head.units, row.head.output, row.smoothing) == (256, "sigmoid", 0.8)
        assert all(phase.optimizer == "RMSprop" for phase in row.phases)
    (head,) = config.RECIPES["cats_vs_dogs_features"].phases
    assert (head.epochs, head.learning_rate, head.augment) == (30, 2e-5, False)
    frozen, unfrozen = config.RECIPES["cats_vs_dogs"].phases
    assert (frozen.epochs, frozen.steps_per_epoch, frozen.learning_rate) == (30, 100, 2e-5)
    assert (unfrozen.epochs, unfrozen.steps_per_epoch, unfrozen.learning_rate) == (100, 100, 1e-5)
    assert config.RECIPES["cats_vs_dogs"].augmentation.rotation_degrees == 40


def test_simpsons_has_the_kernels_numbers():
    row = config.RECIPES["simpsons"]
    assert row.official_counts == {"training": 2588, "validation": 1000, "evaluation": 1000}
    assert row.split.evaluation == 500
    assert (row.backbone, row.batch_size, row.image_size) == ("ResNet50", 50, 224)
    assert row.head == Head(pooling="average", units=None, dropout=0, output="sigmoid")
    assert row.mistakes == 10
    head, unfrozen = row.phases
    assert (head.epochs, head.optimizer, head.learning_rate) == (15, "Adam", 1e-4)
    assert head.held_out == 0.1
    assert (unfrozen.epochs, unfrozen.optimizer, unfrozen.learning_rate) == (30, "SGD", 1e-4)
