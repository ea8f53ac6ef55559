"""config.py: each tutorial's row has the published numbers and shows every one of them."""

import ast
import importlib.util
from dataclasses import replace

import pytest
from conftest import ROOT

from pyimagesearch import config
from pyimagesearch.recipe import Augmentation, Head, Phase, Split, checked
from pyimagesearch.support.errors import UserError

# The rows whose numbers come from a post, a book or a kernel.
TUTORIALS = (
    *("food5k", "food11", "knifey_spoony"),
    *("cats_vs_dogs_features", "cats_vs_dogs", "simpsons"),
)
NO_OTHER_SETTINGS = {"validate_on_evaluation": False, "class_weights": None, "smoothing": 0}


def assert_row(name, **published):
    """Check fields of a row. Settings that `published` does not mention must be off."""
    row = config.RECIPES[name]
    expected = NO_OTHER_SETTINGS | published
    assert {field: getattr(row, field) for field in expected} == expected


# The published numbers


def test_food5k_has_the_numbers_of_the_post():
    assert_row(
        "food5k",
        source="Food-5K",
        official_counts={"training": 3000, "validation": 1000, "evaluation": 1000},
        classes=("non_food", "food"),  # the labels 0 and 1 in the file names
        method="logistic_regression",
        backbone="VGG16",
        preprocessing=None,
        image_size=224,
        batch_size=32,
    )
    # The features are VGG16's last pooling, flattened.
    assert config.RECIPES["food5k"].head.pooling == "flatten"


def test_food11_has_the_numbers_of_the_post():
    sgd = {"optimizer": "SGD", "learning_rate": 1e-4, "momentum": 0.9}
    assert_row(
        "food11",
        source="Food-11",
        official_counts={"training": 9866, "validation": 3430, "evaluation": 3347},
        # The label of a photo is the position of its class.
        classes=(
            *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
            *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
        ),
        method="fine_tune",
        backbone="VGG16",
        preprocessing=None,
        image_size=224,
        batch_size=32,
        head=Head(pooling="flatten", units=512, dropout=0.5, output="softmax"),
        augmentation=Augmentation(
            rotation_degrees=30,
            width_shift=0.2,
            height_shift=0.2,
            shear_degrees=0.15,
            zoom=0.15,
            horizontal_flip=True,
        ),
        phases=(
            Phase("warmup", epochs=50, **sgd),
            Phase("unfrozen", unfreeze_after="block4_pool", epochs=20, **sgd),
        ),
    )
    assert sum(config.RECIPES["food11"].official_counts.values()) == 16_643


def test_knifey_spoony_has_the_numbers_of_the_tutorial():
    steps = {"epochs": 20, "steps_per_epoch": 100, "optimizer": "Adam"}
    assert_row(
        "knifey_spoony",
        official_counts={"training": 4170, "validation": 530, "evaluation": 530},
        classes=("forky", "knifey", "spoony"),
        validate_on_evaluation=True,
        method="fine_tune",
        backbone="VGG16",
        preprocessing="rescale",
        image_size=224,
        batch_size=20,
        head=Head(pooling="flatten", units=1024, dropout=0.5, output="softmax"),
        augmentation=Augmentation(
            rotation_degrees=180,
            width_shift=0.1,
            height_shift=0.1,
            shear_degrees=0.1,
            zoom=(0.9, 1.5),
            horizontal_flip=True,
            vertical_flip=True,
        ),
        class_weights="balanced",
        mistakes=9,
        phases=(
            Phase("transfer", learning_rate=1e-5, **steps),
            Phase("fine_tuning", unfreeze_after="block3_pool", learning_rate=1e-7, **steps),
        ),
    )


CATS_VS_DOGS = {
    "classes": ("cat", "dog"),
    "layout": None,  # Kaggle's archive and Microsoft's have two
    "split": Split(training=1000, validation=500, evaluation=500, shuffle=False),
    "method": "fine_tune",
    "backbone": "VGG16",
    "preprocessing": "rescale",
    "image_size": 150,
    "batch_size": 20,
    "smoothing": 0.8,
}


def test_cats_vs_dogs_features_has_the_numbers_of_the_book():
    assert_row(
        "cats_vs_dogs_features",
        **CATS_VS_DOGS,
        head=Head(pooling="flatten", units=256, dropout=0.5, output="sigmoid"),
        augmentation=Augmentation(),
        phases=(Phase("head", epochs=30, augment=False, optimizer="RMSprop", learning_rate=2e-5),),
    )


def test_cats_vs_dogs_has_the_numbers_of_the_book():
    steps = {"steps_per_epoch": 100, "optimizer": "RMSprop"}
    assert_row(
        "cats_vs_dogs",
        **CATS_VS_DOGS,
        # Unlike in the features' row, no dropout.
        head=Head(pooling="flatten", units=256, dropout=0, output="sigmoid"),
        augmentation=Augmentation(
            rotation_degrees=40,
            width_shift=0.2,
            height_shift=0.2,
            shear_degrees=0.2,
            zoom=0.2,
            horizontal_flip=True,
        ),
        phases=(
            Phase("frozen", epochs=30, learning_rate=2e-5, **steps),
            Phase(
                "unfrozen", unfreeze_after="block4_pool", epochs=100, learning_rate=1e-5, **steps
            ),
        ),
    )


def test_simpsons_has_the_numbers_of_the_kernel():
    assert_row(
        "simpsons",
        official_counts={"training": 2588, "validation": 1000, "evaluation": 1000},
        classes=("bart_simpson", "homer_simpson"),
        split=Split(training=None, validation=0, evaluation=500),
        validate_on_evaluation=True,
        method="fine_tune",
        backbone="ResNet50",
        preprocessing=None,
        image_size=224,
        batch_size=50,
        head=Head(pooling="average", units=None, dropout=0, output="sigmoid"),
        augmentation=Augmentation(
            rotation_degrees=20,
            width_shift=0.2,
            height_shift=0.2,
            shear_degrees=0.2,
            zoom=0.2,
            horizontal_flip=True,
        ),
        mistakes=10,
        phases=(
            Phase(
                "head",
                epochs=15,
                augment=False,
                optimizer="Adam",
                learning_rate=1e-4,
                held_out=0.1,
            ),
            Phase(
                "unfrozen",
                unfreeze_after="conv5_block1_out",
                epochs=30,
                optimizer="SGD",
                learning_rate=1e-4,
                momentum=0.9,
            ),
        ),
    )


# Every hyperparameter is visible

SOURCE = (ROOT / "pyimagesearch" / "config.py").read_text(encoding="utf-8")
CONSTANTS = {
    node.targets[0].id: node.value
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
}
# The fields that are written out, although some have a default. Other defaults change nothing.
VISIBLE_FIELDS = {
    "Recipe": (
        *("source", "classes", "method", "backbone", "preprocessing", "image_size"),
        *("batch_size", "head", "augmentation", "phases"),
    ),
    "Head": ("pooling", "units", "dropout", "output"),
    "Phase": ("epochs", "optimizer", "learning_rate"),
    "Split": ("training", "validation", "evaluation"),
}


def written_fields(call):
    """Return {field: the code of its value} of a Recipe(...), or of a replace(...) of one."""
    own = {keyword.arg: keyword.value for keyword in call.keywords}
    if call.func.id == "replace":
        return written_fields(CONSTANTS[call.args[0].id]) | own
    return own


def calls_in(node, name):
    """Return the calls of a class in some code."""
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return [call for call in calls if call.func.id == name]


@pytest.mark.parametrize("name", config.RECIPES)
def test_every_hyperparameter_is_written_in_the_row_or_in_the_row_it_is_derived_from(name):
    row = written_fields(CONSTANTS[name.upper()])
    assert set(VISIBLE_FIELDS["Recipe"]) <= set(row)
    for class_name in ("Head", "Phase", "Split"):
        for code in row.values():
            for call in calls_in(code, class_name):
                written = {keyword.arg for keyword in call.keywords}
                assert set(VISIBLE_FIELDS[class_name]) <= written, ast.unparse(call)
    for call in calls_in(row["phases"], "Phase"):
        if "'SGD'" in ast.unparse(call):
            assert "momentum" in ast.unparse(call)


def test_defaults_that_a_row_does_not_write_change_no_photo_and_no_training():
    assert Augmentation() == Augmentation(
        *(0, 0, 0, 0, 0), horizontal_flip=False, vertical_flip=False
    )
    phase = Phase("any", epochs=1, optimizer="Adam", learning_rate=1)
    assert (phase.momentum, phase.unfreeze_after, phase.steps_per_epoch) == (0, None, None)
    assert (phase.held_out, phase.patience, phase.keep_best) == (0, None, False)
    head = Head(pooling="flatten", units=1, dropout=0, output="softmax")
    assert phase.schedule is head.start is None


# Editing FOOD11

# None of these values is in a row.
EDITED_FOOD11 = """
FOOD11 = replace(
    FOOD11,
    download="elsewhere",
    official_counts={TRAIN: 1, VAL: 1, TEST: 1},
    method="logistic_regression",
    backbone="EfficientNetB3",
    image_size=77,
    batch_size=7,
    head=Head(pooling="average", units=7, dropout=0.7, output="softmax"),
    augmentation=Augmentation(rotation_degrees=7),
    views=7,
    class_weights="balanced",
    mistakes=7,
    smoothing=0.7,
    phases=(Phase("seven", epochs=7, optimizer="Adam", learning_rate=7),),
)
"""


def edited_config(tmp_path, line, addition):
    """Return config.py as a module, with some code added before a line."""
    before, line, after = SOURCE.partition(line)
    assert line
    path = tmp_path / "edited_config.py"
    path.write_text(before + addition + line + after, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("edited_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_editing_food11_changes_no_published_number_of_another_tutorial(tmp_path):
    rows = edited_config(tmp_path, "\nFOOD5K = ", EDITED_FOOD11).RECIPES
    assert rows["food11"].batch_size == 7
    for name in set(TUTORIALS) - {"food5k", "food11"}:
        assert rows[name] == config.RECIPES[name]
    # Food-5K uses Food-11's phases with --method fine_tune, which its post does not have.
    not_in_the_post = ("augmentation", "phases", "views", "class_weights", "mistakes", "smoothing")
    inherited = {field: getattr(rows["food11"], field) for field in not_in_the_post}
    assert rows["food5k"] == replace(config.RECIPES["food5k"], **inherited)


# Rows of one's own


def with_own_row(**changes):
    """Return the rows of config.py and one for one's own photos, derived from FOOD11."""
    own = replace(config.FOOD11, source="my_photos", classes=("a", "b"), **changes)
    return checked({**config.RECIPES, "mine": own})


def test_own_row_is_food11_with_other_photos():
    own = with_own_row(download="", official_counts=None)["mine"]
    assert own.phases == config.FOOD11.phases
    assert own.head == config.FOOD11.head


@pytest.mark.parametrize(
    ("forgotten", "others"),
    [("download", {"official_counts": None}), ("official_counts", {"download": ""})],
)
def test_own_row_that_keeps_what_belongs_to_food11s_photos_is_refused(forgotten, others):
    words = f"recipe 'mine': {forgotten} is that of recipe 'food11', but source is another. Add "
    with pytest.raises(UserError, match=words):
        with_own_row(**others)


def test_own_row_with_another_backbone_gets_that_backbones_image_size():
    rows = with_own_row(download="", official_counts=None, backbone="InceptionV3")
    assert rows["mine"].image_size == 299


# Settings that are not in a row


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RECIPE", "fod11", "'food5k', 'food11'"),
        ("RECIPE", ["food11"], "'food5k', 'food11'"),
        ("SPLITS", ("training", "training", "evaluation"), "three different folders"),
        ("DATASET_DIR", None, "the path of a folder"),
        ("OUTPUT_DIR", 3, "the path of a folder"),
        ("WEIGHTS", None, "'imagenet', or the path of a .weights.h5 file"),
        ("SEED", "42", "from 0 to 4294967295"),
        ("SEED", 2**32, "from 0 to 4294967295"),
        ("PRECISION", "float23", "'auto', 'float32', 'mixed_float16', 'mixed_bfloat16'"),
        ("GPUS", 0, "a whole number from 1 or 'all'"),
        ("MAX_ITERATIONS", 0, "a whole number from 1"),
        ("STORED_VIEWS", -1, "a whole number from 0"),
        ("SHARED_VIEWS", 9, "STORED_VIEWS, which is 3"),
        ("CLUSTER", "10.0.0.1", "the address of a Ray cluster: '10.0.0.1:6379'"),
        ("CLUSTER", True, "None, 'auto'"),
    ],
)
def test_wrong_setting_is_refused_with_its_name_and_what_is_allowed(tmp_path, name, value, allowed):
    with pytest.raises(UserError) as refused:
        edited_config(tmp_path, "\nRECIPES = ", f"\n{name} = {value!r}\n")
    before, _, after = str(refused.value).partition("; allowed: ")
    assert before == f"pyimagesearch/config.py: {name} is {value!r}"
    assert allowed in after


@pytest.mark.parametrize("value", ["auto", "10.0.0.1:6379", "head-node.lab:6379", None])
def test_cluster_may_be_none_auto_or_an_address(tmp_path, value):
    module = edited_config(tmp_path, "\nRECIPES = ", f"\nCLUSTER = {value!r}\n")
    assert value == module.CLUSTER


@pytest.mark.parametrize("kind", ["{!r}", "Path({!r})"])
def test_folders_and_weights_may_begin_with_the_home_folder(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HOME", "/home/me")
    names = ("DATASET_DIR", "OUTPUT_DIR", "WEIGHTS")
    code = "".join(f"\n{name} = {kind.format(f'~/{name}')}" for name in names)
    module = edited_config(tmp_path, "\nRECIPES = ", f"{code}\n")
    assert [str(getattr(module, name)) for name in names] == [f"/home/me/{name}" for name in names]


# The file as a whole


def test_recipe_of_the_config_is_one_of_its_rows():
    assert config.RECIPE in config.RECIPES


@pytest.mark.parametrize("name", config.RECIPES)
def test_every_row_has_its_own_name(name):
    assert config.RECIPES[name].name == name
