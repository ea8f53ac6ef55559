"""What a row of config.py may contain, and the error that a wrong row is.

`checked` reads all rows when config.py is imported. Layers are checked later, with the network:
test_networks.py.
"""

import unicodedata
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import tiny_phase
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimagesearch.recipe import (
    BACKBONES,
    RULES,
    SMALLEST_IMAGE,
    SMALLEST_IMAGE_OF_OTHERS,
    Augmentation,
    Download,
    Head,
    Phase,
    Recipe,
    Regression,
    Split,
    checked,
    find_recipe,
    folder_name,
    with_classes,
)
from pyimagesearch.support.errors import UserError

HEAD = Head(pooling="flatten", units=8, dropout=0.5, output="softmax")
PHASE = tiny_phase("warmup")
# A row with the fields that have no default, and no others.
ROW = Recipe(
    source="photos",
    classes=("one", "two"),
    method="fine_tune",
    backbone="VGG16",
    batch_size=32,
    head=HEAD,
    phases=(PHASE,),
)


def error_of(**changes):
    """Return the error of a row with these changes."""
    with pytest.raises(UserError) as refused:
        checked({"mine": replace(ROW, **changes)})
    return str(refused.value)


# Rows that are accepted


def test_row_without_optional_fields_augments_nothing_and_balances_nothing():
    row = checked({"mine": ROW})["mine"]
    assert row.augmentation == Augmentation()
    assert row.augmentation.zoom_range == (1, 1)
    assert (row.preprocessing, row.class_weights) == (None, None)
    assert not row.validate_on_evaluation


def test_checked_gives_each_row_its_name():
    rows = checked({"mine": ROW, "yours": ROW})
    assert {key: row.name for key, row in rows.items()} == {"mine": "mine", "yours": "yours"}


@pytest.mark.parametrize(
    ("backbone", "image_size"), [("VGG16", 224), ("InceptionV3", 299), ("EfficientNetB3", 300)]
)
def test_checked_gives_a_row_without_image_size_that_of_its_backbone(backbone, image_size):
    row = replace(ROW, backbone=backbone)
    assert checked({"mine": row})["mine"].image_size == image_size
    assert checked({"mine": replace(row, image_size=150)})["mine"].image_size == 150


@pytest.mark.parametrize("name", ["my photos", "küche", "_mine", "2026-11"])
def test_recipe_can_have_any_name_that_a_folder_can_have(name):
    assert checked({name: ROW})[name].name == name


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", "..", ".mine", "--mine", 3])
def test_recipe_cannot_have_another_name(name):
    with pytest.raises(UserError, match="cannot name a recipe; allowed: the name of a folder"):
        checked({name: ROW})


def test_zoom_is_a_fraction_around_1_or_the_two_ends_of_a_range():
    assert Augmentation(zoom=0.25).zoom_range == (0.75, 1.25)
    assert Augmentation(zoom=(0.9, 1.5)).zoom_range == (0.9, 1.5)


def test_row_with_lists_is_the_row_with_tuples():
    lists = replace(ROW, classes=["one", "two"], phases=[PHASE])
    assert checked({"mine": lists}) == checked({"mine": ROW})
    assert Augmentation(zoom=[0.9, 1.5]).zoom_range == (0.9, 1.5)
    checked({"mine": replace(ROW, augmentation=Augmentation(zoom=[0.9, 1.5]))})


@pytest.mark.parametrize(
    ("image_size", "expected"), [((48, 96), (48, 96)), ([48, 96], (48, 96)), ((48, 48), 48)]
)
def test_image_size_may_be_a_height_and_a_width(image_size, expected):
    row = checked({"mine": replace(ROW, image_size=image_size)})["mine"]
    assert row.image_size == expected


@pytest.mark.parametrize("source", ["~/my_photos", Path("~/my_photos"), Path("/home/me/my_photos")])
def test_source_is_text_or_a_path_and_may_begin_with_the_home_folder(monkeypatch, source):
    monkeypatch.setenv("HOME", "/home/me")
    assert checked({"mine": replace(ROW, source=source)})["mine"].source == "/home/me/my_photos"


def test_block4_pool_of_food11_is_the_start_of_the_last_block_in_a_row_for_another_backbone():
    phases = (PHASE, tiny_phase("unfrozen", unfreeze_after="block4_pool"))
    food11 = replace(ROW, phases=phases)
    rows = {"food11": food11, "mine": replace(food11, backbone="Xception")}
    cuts = {name: row.phases[1].unfreeze_after for name, row in checked(rows).items()}
    assert cuts == {"food11": "block4_pool", "mine": "auto"}


# Wrong values


def phase(**changes):
    """Return the changes of a row whose only phase has these changes."""
    return {"phases": (replace(PHASE, **changes),)}


def head(**changes):
    return {"head": replace(HEAD, **changes)}


def download(**changes):
    return {"download": Download(**{"url": "https://a.example/b.zip"} | changes)}


def augmentation(**changes):
    return {"augmentation": Augmentation(**changes)}


# (changes of a row, what the error quotes, what it allows instead)
WRONG = [
    ({"source": ""}, "source is ''", "the folder"),
    ({"source": None}, "source is None", "in quotes"),
    ({"download": None}, "download is None", "Download(...), or a text"),
    (download(url="photos.zip"), "download.url is 'photos.zip'", "begins with https://"),
    (download(url="https://me:secret@a.example/b.zip"), "download.url is", "without a password"),
    (download(size="5 MB"), "download.size is '5 MB'", "a whole number"),
    (download(checksum="sha256:abc"), "download.checksum is 'sha256:abc'", "64 hexadecimal"),
    (download(checksum="b7974b"), "download.checksum is 'b7974b'", "64 hexadecimal"),
    ({"classes": ()}, "classes is ()", "two names"),
    ({"classes": ("one",)}, "classes is ('one',)", "two names"),
    ({"classes": ["one"]}, "classes is ['one']", "two names"),
    ({"classes": {"one", "two"}}, "classes is {", "a tuple"),
    ({"classes": "ab"}, "classes is 'ab'", "a tuple"),
    ({"labels": ("a.csv", "id")}, "labels is ('a.csv', 'id')", "column of classes"),
    ({"classes": (1, 2, 10)}, "classes is 1", "names in quotes, such as '1'"),
    ({"classes": ("a", " ")}, "classes is ' '", "not empty"),
    ({"classes": ("a", ".b")}, "classes is '.b'", "a dot"),
    ({"classes": ("a/b", "A-B")}, "classes is 'a/b'", "upper and lower case"),
    ({"classes": ("cat", "cat")}, "classes is 'cat'", "upper and lower case"),
    ({"classes": ("Cat", "cat")}, "classes is 'Cat'", "upper and lower case"),
    ({"classes": ("cre\u0300me", "cr\u00e8me")}, "classes is 'cre\u0300me'", "upper and lower"),
    ({"layout": "nested"}, "layout is 'nested'", "'flat'"),
    ({"official_counts": 3}, "official_counts is 3", "{split: photos}"),
    ({"official_counts": {"training": "9"}}, "official_counts is {'training': '9'}", "{split:"),
    ({"validate_on_evaluation": "no"}, "validate_on_evaluation is 'no'", "False, True"),
    ({"method": "svm"}, "method is 'svm'", "'fine_tune'"),
    ({"method": None}, "method is None", "'fine_tune'"),
    ({"backbone": "VGG17"}, "backbone is 'VGG17' (did you mean 'VGG1", "'ConvNeXtBase', "),
    ({"backbone": None}, "backbone is None", "VGG16"),
    ({"backbone": ["VGG16"]}, "backbone is ['VGG16']", "VGG16"),
    ({"preprocessing": "none"}, "preprocessing is 'none'", "'rescale'"),
    ({"preprocessing": "rescale", "backbone": "EfficientNetV2S"}, "'rescale'", "by itself"),
    ({"preprocessing": "rescale", "backbone": "MobileNetV3Large"}, "'rescale'", "by itself"),
    ({"preprocessing": "rescale", "backbone": "ConvNeXtTiny"}, "'rescale'", "by itself"),
    ({"image_size": 0}, "image_size is 0", "from 1"),
    ({"image_size": 16}, "image_size is 16", "from 32, for VGG16"),
    ({"image_size": (48, 16)}, "image_size is (48, 16)", "from 32, for VGG16"),
    ({"image_size": (48, 96, 3)}, "image_size is (48, 96, 3)", "(height, width)"),
    ({"image_size": (48, None)}, "image_size is (48, None)", "(height, width)"),
    ({"image_size": 224.0}, "image_size is 224.0", "whole number"),
    ({"backbone": "InceptionV3", "image_size": 74}, "image_size is 74", "75, for InceptionV3"),
    ({"batch_size": 0}, "batch_size is 0", "from 1"),
    ({"batch_size": True}, "batch_size is True", "from 1"),
    ({"views": True}, "views is True", "'auto'"),
    ({"views": -1}, "views is -1", "'auto'"),
    ({"views": "many"}, "views is 'many'", "'auto'"),
    ({"class_weights": "equal"}, "class_weights is 'equal'", "'balanced'"),
    ({"mistakes": 0}, "mistakes is 0", "from 1"),
    ({"smoothing": 1}, "smoothing is 1", "below 1"),
    ({"head": None}, "head is None", "Head(...)"),
    (head(units=0), "head.units is 0", "None"),
    (head(dropout=1), "head.dropout is 1", "below 1"),
    (head(pooling="max"), "head.pooling is 'max'", "'average'"),
    (head(output="tanh"), "head.output is 'tanh'", "'sigmoid'"),
    (head(start="fitted"), "head.start is 'fitted'", "None, 'logistic_regression'"),
    (
        head(start="logistic_regression", pooling="flatten", units=None),
        "head.start is 'logistic_regression'",
        "None, unless pooling='average' and units=None",
    ),
    (
        head(start="logistic_regression", pooling="average", units=8),
        "head.start is 'logistic_regression'",
        "None, unless pooling='average' and units=None",
    ),
    (
        {"classes": ("a", "b", "c")} | head(output="sigmoid"),
        "head.output is 'sigmoid'",
        "3 classes, not 2",
    ),
    ({"augmentation": None}, "augmentation is None", "Augmentation(...)"),
    (augmentation(rotation_degrees=-1), "augmentation.rotation_degrees is -1", "from 0"),
    (augmentation(shear_degrees=90), "augmentation.shear_degrees is 90", "below 90"),
    (
        {"regression": Regression(layers="block4_pool")},
        "regression.layers is 'b",
        "names of layers",
    ),
    ({"regression": Regression(C=0)}, "regression.C is 0", "a number above 0, or several"),
    ({"regression": Regression(C=(1, "10"))}, "regression.C is (1, '10')", "a number above 0"),
    ({"regression": Regression(C=[])}, "regression.C is []", "or several in brackets"),
    (
        {"regression": Regression(C=(1, 10)), "validate_on_evaluation": True},
        "regression.C is (1, 10)",
        "a single number: the best of several cannot be chosen on the evaluation photos",
    ),
    (augmentation(zoom=(0.9,)), "augmentation.zoom is (0.9,)", "(smallest, largest)"),
    (augmentation(zoom=("a", 1)), "augmentation.zoom is ('a', 1)", "(smallest, largest)"),
    (augmentation(zoom=1.0), "augmentation.zoom is 1.0", "a fraction below 1"),
    (augmentation(zoom=(2, 1)), "augmentation.zoom is (2, 1)", "(smallest, largest)"),
    (augmentation(zoom=(0, 1)), "augmentation.zoom is (0, 1)", "(smallest, largest)"),
    (augmentation(width_shift="a"), "augmentation.width_shift is 'a'", "below 1"),
    (augmentation(height_shift=1), "augmentation.height_shift is 1", "below 1"),
    (augmentation(horizontal_flip=2), "augmentation.horizontal_flip is 2", "True"),
    ({"split": 0.2}, "split is 0.2", "Split(...)"),
    ({"split": Split(training=-1)}, "split.training is -1", "None"),
    ({"split": Split(evaluation=1.5)}, "split.evaluation is 1.5", "a fraction below 1"),
    ({"split": Split(validation=None)}, "split is Split(", "at most one part that is None"),
    ({"phases": ()}, "phases is ()", "at least one"),
    ({"phases": None}, "phases is None", "at least one"),
    ({"phases": PHASE}, "phases is Phase(", "comma"),
    ({"phases": (PHASE, "b")}, "phases is (", "at least one Phase"),
    ({"phases": (PHASE, PHASE)}, "phases[0].name is 'warmup'", "no other phase"),
    (
        {"phases": (tiny_phase("a", unfreeze_after="block4_pool"), tiny_phase("b"))},
        "phases[1].unfreeze_after is None",
        "'block4_pool' or an earlier layer: a phase trains the layers of the one before it",
    ),
    (phase(name="warm up"), "phases[0].name is 'warm up'", "part of file names"),
    (phase(unfreeze_after=15), "phases[0].unfreeze_after is 15", "the name of a layer"),
    (phase(epochs=0), "phases[0].epochs is 0", "from 1"),
    (phase(epochs="3"), "phases[0].epochs is '3'", "from 1"),
    (phase(optimizer="sgd"), "phases[0].optimizer is 'sgd'", "'SGD'"),
    (phase(learning_rate=0), "phases[0].learning_rate is 0", "above 0"),
    (phase(learning_rate=-1e-4), "phases[0].learning_rate is -0.0001", "above 0"),
    (phase(learning_rate=float("nan")), "phases[0].learning_rate is nan", "above 0"),
    (phase(learning_rate=float("inf")), "phases[0].learning_rate is inf", "above 0"),
    (phase(learning_rate=None), "phases[0].learning_rate is None", "above 0"),
    (phase(learning_rate="1e-4"), "phases[0].learning_rate is '1e-4'", "above 0"),
    (phase(momentum=1), "phases[0].momentum is 1", "below 1"),
    (phase(schedule="step"), "phases[0].schedule is 'step'", "None, 'cosine'"),
    (phase(steps_per_epoch=0), "phases[0].steps_per_epoch is 0", "None"),
    (phase(held_out=1), "phases[0].held_out is 1", "below 1"),
    (phase(patience=0), "phases[0].patience is 0", "None"),
    (phase(keep_best=None), "phases[0].keep_best is None", "False, True"),
]


@pytest.mark.parametrize(("changes", "value", "allowed"), WRONG, ids=[row[1] for row in WRONG])
def test_wrong_value_is_refused_with_row_field_value_and_what_is_allowed(changes, value, allowed):
    before, _, after = error_of(**changes).partition("; allowed: ")
    assert before.startswith("pyimagesearch/config.py, recipe 'mine': ")
    assert value in before
    assert allowed in after


def test_classes_can_be_a_list_or_those_of_the_dataset():
    assert checked({"mine": replace(ROW, classes=["b", "a"])})["mine"].classes == ("b", "a")
    row = replace(ROW, classes=None, head=replace(ROW.head, output="sigmoid"))
    row = checked({"mine": row})["mine"]
    assert row.classes is None
    assert with_classes(row, ["x", "y"]).classes == ("x", "y")
    with pytest.raises(UserError, match=r"head\.output is 'sigmoid'.*3 classes, not 2"):
        with_classes(row, ["x", "y", "z"])


def test_row_that_is_not_a_recipe_is_refused():
    with pytest.raises(UserError, match=r"recipe 'mine': the row is 3; allowed: Recipe\(\.\.\.\)"):
        checked({"mine": 3})


def test_checked_reports_the_first_wrong_row():
    rows = {"fine": ROW, "wrong": replace(ROW, batch_size=0), "worse": replace(ROW, classes=())}
    with pytest.raises(UserError, match="recipe 'wrong': batch_size is 0"):
        checked(rows)


@pytest.mark.parametrize("row_class", RULES)
def test_every_field_has_a_rule(row_class):
    names = {field.name for field in fields(row_class)}
    # A row gets its name from `checked`.
    assert set(RULES[row_class]) == (names - {"name"} if row_class is Recipe else names)


ANY_VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.floats(allow_nan=True)
    | st.text(max_size=5)
    | st.tuples(st.floats(0, 2), st.floats(0, 2))
    | st.lists(st.integers(), max_size=2)
    | st.sampled_from(["VGG16", "ResNet50", "sigmoid", "balanced", "block4_pool", "SGD", "auto"])
)


@pytest.mark.parametrize("row_class", RULES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_is_accepted_or_refused_with_the_name_of_its_field(row_class, data):
    field = data.draw(st.sampled_from(list(RULES[row_class])))
    change = {field: data.draw(ANY_VALUE)}
    row = {
        Recipe: lambda: replace(ROW, **change),
        Head: lambda: replace(ROW, **head(**change)),
        Regression: lambda: replace(ROW, regression=Regression(**change)),
        Augmentation: lambda: replace(ROW, **augmentation(**change)),
        Download: lambda: replace(ROW, **download(**change)),
        Split: lambda: replace(ROW, split=Split(**change)),
        Phase: lambda: replace(ROW, **phase(**change)),
    }[row_class]()
    try:
        accepted = checked({"mine": row})["mine"]
    except UserError as refused:
        assert "recipe 'mine'" in str(refused)  # noqa: PT017
        # Two parts that are None are an error of the whole split.
        assert field in str(refused) or "split is Split(" in str(refused)  # noqa: PT017
    else:
        assert accepted.name == "mine"


# Wrong fields: errors of the line in config.py, before any row is checked


@pytest.mark.parametrize(
    ("row_class", "name", "message"),
    [
        (Recipe, "imagesize", "Recipe has no field 'imagesize'. Did you mean 'image_size'?"),
        (Phase, "learningrate", "Phase has no field 'learningrate'. Did you mean 'learning_rate'?"),
        (Recipe, "epochs", "Recipe has no field 'epochs'; it belongs in Phase(...)"),
        (Recipe, "units", "Recipe has no field 'units'; it belongs in Head(...)"),
        (Recipe, "zoom", "Recipe has no field 'zoom'; it belongs in Augmentation(...)"),
        (Recipe, "evaluation", "Recipe has no field 'evaluation'; it belongs in Split(...)"),
        (Phase, "batch_size", "Phase has no field 'batch_size'; it belongs in Recipe(...)"),
        (
            Recipe,
            "learningrate",
            "Recipe has no field 'learningrate'. Did you mean 'learning_rate'? It belongs in "
            "Phase(...)",
        ),
        (Head, "xyz", "Head has no field 'xyz'; it has: pooling, units, dropout, output, start"),
    ],
)
def test_unknown_field_is_refused_with_where_it_belongs_or_a_similar_one(row_class, name, message):
    with pytest.raises(UserError) as refused:
        row_class(**{name: 1})
    assert str(refused.value) == message


def test_unknown_field_that_is_like_no_other_is_refused_with_those_that_a_row_can_set():
    with pytest.raises(UserError, match="it has: source, classes, ") as refused:
        Recipe(xyz=1)
    # `checked` gives a row its name.
    assert "name" not in str(refused.value).split(": ")[1].split(", ")


def test_unknown_field_is_refused_in_a_derived_row_too():
    with pytest.raises(UserError, match=r"Did you mean 'batch_size'\?"):
        replace(ROW, batchsize=16)


def test_missing_field_is_refused_with_its_name():
    with pytest.raises(UserError) as refused:
        Phase("warmup", epochs=5)
    assert str(refused.value) == "Phase(...) needs the field 'optimizer', which has no default"


def test_missing_field_of_a_recipe_can_come_from_another_row():
    with pytest.raises(UserError, match=r"Recipe\(\.\.\.\) needs the field 'method'.*replace"):
        Recipe(source="photos", classes=("one", "two"))


# Rows that are derived from others


@pytest.mark.parametrize(
    ("field", "value", "reset"),
    [
        ("download", download()["download"], "download=''"),
        ("official_counts", {"training": 9}, "None"),
    ],
)
def test_derived_row_for_other_photos_needs_its_own_download_and_counts(field, value, reset):
    food = replace(ROW, **{field: value})
    mine = replace(food, source="my_photos")
    with pytest.raises(UserError) as refused:
        checked({"food": food, "mine": mine})
    message = str(refused.value)
    assert f"recipe 'mine': {field} is that of recipe 'food', but source is another" in message
    assert reset in message
    checked({"food": food, "mine": replace(mine, **{field: getattr(ROW, field)})})


def test_derived_row_for_the_same_photos_keeps_their_download_and_counts():
    food = replace(ROW, download="Kaggle: food", official_counts={"training": 9})
    rows = checked({"food": food, "slow": replace(food, batch_size=1)})
    assert rows["slow"].official_counts == {"training": 9}


# Finding a row


def test_find_recipe_returns_the_row_of_a_name():
    assert find_recipe({"mine": ROW}, "mine") is ROW


def test_find_recipe_refuses_a_misspelt_name_with_a_similar_one():
    with pytest.raises(UserError) as refused:
        find_recipe({"food5k": ROW, "food11": ROW}, "fod11")
    assert str(refused.value) == (
        "there is no recipe 'fod11'. Did you mean 'food11'? "
        "pyimagesearch/config.py has: food5k, food11"
    )


def test_find_recipe_refuses_an_unknown_name_with_all_names():
    with pytest.raises(UserError) as refused:
        find_recipe({"food5k": ROW, "food11": ROW}, "xyz")
    assert str(refused.value) == (
        "there is no recipe 'xyz'. pyimagesearch/config.py has: food5k, food11"
    )


# Folders of classes


def test_folder_of_a_class_has_a_hyphen_for_each_slash_as_in_kaggles_copy():
    assert folder_name("Noodles/Pasta") == "Noodles-Pasta"
    assert folder_name("Fried food") == "Fried food"
    assert folder_name("a\\b/c") == "a-b-c"


def test_folder_of_a_class_has_composed_letters():
    assert folder_name("cre\u0300me") == "cr\u00e8me"


@given(name=st.text(max_size=30))
def test_folder_of_any_class_is_one_name(name):
    folder = folder_name(name)
    assert "/" not in folder
    assert "\\" not in folder
    assert len(folder) == len(unicodedata.normalize("NFC", name))


# The list of backbones. These tests alone wait for TensorFlow.

# Quick to build. The others are built by make soak.
SMALL_BACKBONES = ("MobileNet", "MobileNetV3Small", "Xception")
BY_BACKBONE = pytest.mark.parametrize(
    "backbone",
    [
        pytest.param(name, marks=[] if name in SMALL_BACKBONES else [pytest.mark.soak])
        for name in BACKBONES
    ],
)


def build(backbone, **options):
    """Return a network of keras.applications with random weights."""
    import keras

    return getattr(keras.applications, backbone)(weights=None, **options)


def test_backbones_are_the_networks_of_keras_applications():
    import keras

    assert set(BACKBONES) == {name for name in vars(keras.applications) if name[0].isupper()}


@BY_BACKBONE
def test_image_size_of_a_backbone_is_the_one_that_keras_builds_it_with(backbone):
    # Keras builds MobileNetV3 for any size. It was trained with 224 pixels.
    assert BACKBONES[backbone] == (build(backbone, classes=1).input_shape[1] or 224)


@BY_BACKBONE
def test_smallest_image_of_a_backbone_is_the_smallest_that_keras_accepts(backbone):
    size = SMALLEST_IMAGE.get(backbone, SMALLEST_IMAGE_OF_OTHERS)
    network = build(backbone, include_top=False, input_shape=(size, size, 3))
    assert 0 not in network.output.shape[1:]
    with pytest.raises(ValueError, match=f"at least {size}x{size}"):
        build(backbone, include_top=False, input_shape=(size - 1, size - 1, 3))
