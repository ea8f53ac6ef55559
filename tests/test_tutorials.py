"""The commands of each tutorial's page, on a small download that looks like the real one."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pages
import pytest
from conftest import ROOT, assert_one_error, make_photo, read, tiny_phase
from made_downloads import (
    make_cats_vs_dogs,
    make_food5k,
    make_food11,
    make_knifey_spoony,
    make_simpsons,
)

from pyimagesearch import config, networks
from pyimagesearch.recipe import Split

pytestmark = pytest.mark.usefixtures("untraced")

SMALL_SPLIT = Split(training=6, validation=3, evaluation=3, shuffle=False)
TWO_CHARACTERS = Split(training=None, validation=0, evaluation=5)
# Page -> ({recipe: fields that are changed to fit the small download}, function that makes it).
TUTORIALS = {
    "food5k": ({"food5k": {}}, make_food5k),
    "food11": ({"food11": {}}, make_food11),
    "knifey_spoony": ({"knifey_spoony": {}}, make_knifey_spoony),
    "cats_vs_dogs": (
        {"cats_vs_dogs_features": {"split": SMALL_SPLIT}, "cats_vs_dogs": {"split": SMALL_SPLIT}},
        make_cats_vs_dogs,
    ),
    "simpsons": ({"simpsons": {"split": TWO_CHARACTERS}}, make_simpsons),
}


OTHER_PAGES = {
    "backbones",
    "which_way",
    "calibration",
    "cluster",
    "computing_once",
    "downloads",
    "from_the_posts",
    "several_gpus",
    "times",
}
OTHER_PAGES |= {"check", "own_photos", "unlike", "python", "onnx", "litert", "saved_model"}
OTHER_RECIPES = {"food11_better", "sample", "digits"}


@pytest.fixture
def follow(shortened, script, monkeypatch):
    """Return a function that runs the commands of a tutorial's page and checks what it promises.

    The function returns {command: (stdout, stderr)}.
    """
    # VGG16 with its own top has 528 MB, and its download host cannot be reached everywhere.
    photos = keras.Input((32, 32, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(photos))
    network = keras.Model(photos, keras.layers.Dense(2, activation="softmax")(flat))
    monkeypatch.setattr(
        networks, "build_imagenet_classifier", lambda name: (network, ["macaw", "cat"])
    )

    def follow(name):
        recipes, make_download = TUTORIALS[name]
        for recipe, changes in recipes.items():
            shortened(recipe, **changes)
        make_download()
        text = pages.read_page(f"docs/{name}.md")
        printed = pages.run_all(script, text)
        assert_prints_what_the_page_shows(text, "".join(out + err for out, err in printed.values()))
        for recipe in recipes:
            commands = [each for each in printed if f"predict.py --recipe {recipe} " in each]
            predictions = [printed[command][0] for command in commands]
            if not commands:
                photo = next(Path("dataset", recipe, "evaluation").rglob("*.jpg"))
                status, *predictions, _ = script("predict", "--recipe", recipe, "--image", photo)
                assert status == 0
            assert all("%" in prediction for prediction in predictions)
        assert_writes_the_files_of_from_the_posts(name)
        return printed

    return follow


def assert_prints_what_the_page_shows(text, printed):
    """Check that every line in the page's text blocks was printed, except for the numbers."""
    lines = [line for block in pages.blocks("text", text) for line in block.splitlines()]
    assert lines
    for line in lines:
        # The numbers on the page are those of the real photos, and ... stands for any text.
        pattern = re.escape(re.sub(r"\d[\d,.]*\d|\d", "#", line))
        pattern = pattern.replace("\\#", r"\d[\d,.]*").replace("…", ".*")
        assert re.search(f"^{pattern}$", printed, re.MULTILINE), line


def assert_writes_the_files_of_from_the_posts(name):
    """Check that the files which docs/from_the_posts.md names for a tutorial are there."""
    recipes = "|".join(TUTORIALS[name][0])
    page = pages.read_page("docs/from_the_posts.md")
    paths = re.findall(rf"`((?:output|dataset)/(?:{recipes})/[^`]+)`", page)
    assert paths
    for path in paths:
        assert Path(path).exists(), path


def test_every_tutorial_has_a_page_and_every_recipe_a_tutorial():
    names = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert names == set(TUTORIALS) | OTHER_PAGES
    recipes = {recipe for recipes, _ in TUTORIALS.values() for recipe in recipes}
    assert recipes | OTHER_RECIPES == set(config.RECIPES)


def pictures(name, method="fine_tune"):
    """Return the names of the pictures in a classifier's folder."""
    return {path.name for path in Path("output", name, method).glob("*.png")}


def photos_in(*folder):
    """Return the names of the photos in a folder of the dataset."""
    return sorted(path.name for path in Path("dataset", *folder).rglob("*.jpg"))


def test_food5k_label_0_is_non_food_although_food_sorts_first(follow):
    printed = follow("food5k")
    out, _ = printed["python train.py --recipe food5k"]
    _, messages = printed["python build_dataset.py --recipe food5k"]
    assert "training has 30 photos; the official download has 3,000" in messages
    assert photos_in("food5k", "training", "non_food") == sorted(
        f"0_{number}.jpg" for number in range(0, 30, 2)
    )
    assert read("output/food5k/logistic_regression/classes.json") == ["non_food", "food"]
    assert out.index("non_food") < out.index(" food ")
    header = Path("output/food5k/features/training.csv").read_text().splitlines()[0]
    # After five poolings, 64 x 64 pixels are a map of 2 x 2, with the thin network's 64 channels.
    assert len(header.split(",")) == 1 + 2 * 2 * 64
    mistakes = set() if "No mistakes" in out else {"mistakes.png"}
    drawn = pictures("food5k", "logistic_regression")
    # There may be no correct prediction that is uncertain.
    assert drawn - {"uncertain.png"} == {"confusion.png", "reliability.png"} | mistakes


def test_food11_trains_two_phases_with_a_slash_in_its_class_names(follow):
    out, messages = follow("food11")["python train.py --recipe food11"]
    assert photos_in("food11", "training", "Noodles-Pasta") == ["6_0.jpg"]
    assert "Noodles/Pasta" in out
    assert "warmup: training head_dense, probabilities: 137,227 of 272,539 weights\n" in messages
    assert (
        "unfrozen: training block5_conv1, block5_conv2, block5_conv3, head_dense, probabilities: "
        "248,011 of 272,539 weights\n"
    ) in messages
    assert {"warmup.png", "unfrozen.png"} <= pictures("food11")
    assert read("output/food11/fine_tune/classes.json") == list(config.RECIPES["food11"].classes)


def test_knifey_spoony_balances_classes_and_shows_its_mistakes(follow):
    printed = follow("knifey_spoony")
    out, messages = printed["python train.py --recipe knifey_spoony"]
    assert "exact copy" not in "".join(printed["python build_dataset.py --recipe knifey_spoony"])
    assert len(photos_in("knifey_spoony", "training")) == 42
    assert photos_in("knifey_spoony", "validation") == photos_in("knifey_spoony", "evaluation")
    assert len(photos_in("knifey_spoony", "evaluation")) == 11
    assert "(0) forky\n(1) knifey\n(2) spoony" in out
    assert "class weights: forky 1.400, knifey 1.167, spoony 0.700" in messages
    assert "fine_tuning: training block4_conv1" in messages
    assert Path("output/knifey_spoony/first_look.png").is_file()
    assert Path("output/knifey_spoony/augmentation.png").is_file()
    for phase in ("transfer", "fine_tuning"):
        names = {f"{phase}.png", f"{phase}_confusion.png", f"{phase}_mistakes.png"}
        assert names <= pictures("knifey_spoony")


def test_cats_vs_dogs_takes_the_first_photos_by_number(follow):
    printed = follow("cats_vs_dogs")
    for name, phases in (
        ("cats_vs_dogs_features", ["head"]),
        ("cats_vs_dogs", ["frozen", "unfrozen"]),
    ):
        out, messages = printed[f"python train.py --recipe {name}"]
        # In the order of the numbers: cat.10 comes after cat.9.
        assert photos_in(name, "training", "cat") == [f"cat.{number}.jpg" for number in range(6)]
        assert photos_in(name, "validation", "dog") == [f"dog.{n}.jpg" for n in (6, 7, 8)]
        assert photos_in(name, "evaluation", "cat") == ["cat.10.jpg", "cat.11.jpg", "cat.9.jpg"]
        assert "(0) cat\n(1) dog" in out
        assert "training head_dense, probabilities: 66,049 of 201,361 weights\n" in messages
        for phase in phases:
            assert {f"{phase}.png", f"{phase}_smoothed.png"} <= pictures(name)
    # Two steps show 40 photos; there are only 12, so they are repeated.
    assert [phase.steps_per_epoch for phase in config.RECIPES["cats_vs_dogs"].phases] == [2, 2]
    assert "frozen: 12 training photos, 6 validation photos" in messages
    assert "unfrozen 2/2" in messages


def test_cats_vs_dogs_numbers_need_not_begin_at_0(shortened, script):
    shortened("cats_vs_dogs_features", split=SMALL_SPLIT)
    make_cats_vs_dogs(first=4001)
    assert script("build_dataset", "--recipe", "cats_vs_dogs_features")[0] == 0
    names = photos_in("cats_vs_dogs_features", "training", "cat")
    assert names == [f"cat.{number}.jpg" for number in range(4001, 4007)]


def test_cats_vs_dogs_takes_a_photo_that_a_file_manager_renamed(shortened, script):
    shortened("cats_vs_dogs", split=SMALL_SPLIT)
    make_cats_vs_dogs(cats=11)
    make_photo(Path("dogs-vs-cats/train/cat.3(1).jpg"), 0, 99)
    assert script("build_dataset", "--recipe", "cats_vs_dogs")[0] == 0
    assert "cat.3(1).jpg" in photos_in("cats_vs_dogs", "training", "cat")


def test_cats_vs_dogs_with_too_few_photos_of_a_class_is_one_error(shortened, script):
    shortened("cats_vs_dogs", split=SMALL_SPLIT)
    make_cats_vs_dogs(cats=11)
    status, _, messages = script("build_dataset", "--recipe", "cats_vs_dogs")
    assert status == 2
    assert_one_error(messages, "class 'cat' has 11 and needs 12", "smaller")


def test_cats_vs_dogs_with_a_photo_without_a_number_is_one_error(shortened, script):
    shortened("cats_vs_dogs", split=SMALL_SPLIT)
    make_cats_vs_dogs()
    make_photo(Path("dogs-vs-cats/train/cat.x.jpg"), 0, 0)
    status, _, messages = script("build_dataset", "--recipe", "cats_vs_dogs")
    assert status == 2
    assert_one_error(messages, "cat.x.jpg", "cat.0.jpg", "Rename it")


def test_simpsons_uses_two_characters_and_lists_its_most_confident_mistakes(follow):
    printed = follow("simpsons")
    _, built = printed["python build_dataset.py --recipe simpsons"]
    out, trained = printed["python train.py --recipe simpsons"]
    assert "folders of other classes, which are not used: 'lisa_simpson'" in built
    assert len(photos_in("simpsons", "training", "bart_simpson")) == 9
    assert len(photos_in("simpsons", "training", "homer_simpson")) == 10
    assert photos_in("simpsons", "validation") == photos_in("simpsons", "evaluation")
    # A tenth of the 19 photos is held out.
    assert "head: 17 training photos, 2 validation photos" in trained
    assert "conv5_block2_1_conv" in trained
    assert "_bn" not in trained  # batch normalisation stays frozen
    mistakes = out.split("The most confident mistakes")[1]
    assert "pic_" in mistakes
    assert "%" in mistakes


def test_simpsons_without_a_character_is_one_error(shortened, script):
    shortened("simpsons", split=TWO_CHARACTERS)
    make_simpsons(("bart_simpson", "lisa_simpson"))
    status, _, messages = script("build_dataset", "--recipe", "simpsons")
    assert status == 2
    assert_one_error(messages, "homer_simpson", "other data")


def test_own_photos_with_any_names_are_split_and_trained(tiny, script):
    tiny(
        source="my photos",
        classes=("Crème brûlée", "Apfel", "pain au chocolat"),
        layout="unsplit",
        phases=(tiny_phase("head"),),
    )
    for label, name in enumerate(("Crème brûlée", "Apfel", "pain au chocolat")):
        for number in range(10):
            path = Path("my photos", name, f"Été {number}, à la maison.JPG")
            make_photo(path, label, number)
    status, counts, messages = script("build_dataset")
    assert status == 0, messages
    assert counts.splitlines()[-1].split() == ["all", "18", "6", "6"]
    status, _, messages = script("train", "--method", "fine_tune")
    assert status == 0, messages
    photo = next(Path("dataset/tiny/evaluation").rglob("*.JPG"))
    status, answer, _ = script("predict", "--image", photo)
    assert status == 0
    assert str(photo) in answer


def test_own_photos_are_split_the_same_way_again_and_never_mixed_with_another_split(
    tiny, script, monkeypatch
):
    tiny(source="mine", classes=("a", "b"), layout="unsplit")
    for label, name in enumerate("ab"):
        for number in range(20):
            make_photo(Path("mine", name, f"{number}.jpg"), label, number)

    def split_of_a():
        return {split: photos_in("tiny", split, "a") for split in ("training", "evaluation")}

    assert script("build_dataset")[0] == 0
    first = split_of_a()
    assert len(first["training"]) == 14
    assert len(first["evaluation"]) == 3
    assert script("build_dataset")[0] == 0
    assert split_of_a() == first
    monkeypatch.setattr(config, "SEED", 7)
    for _ in range(2):
        status, _, messages = script("build_dataset")
        assert status == 0
        assert "SEED was 42 and is now 7, but photos stay in the split" in messages
        assert split_of_a() == first
        # Files may have another date: after unpacking them again, or on another disk.
        for photo in Path("mine").rglob("*.jpg"):
            os.utime(photo, (0, 0))


def test_imagenet_flag_prints_five_lines_with_percentages(script, monkeypatch, tmp_path):
    def build(backbone):
        assert backbone == "ResNet50"
        photos = keras.Input((32, 32, 3), dtype="uint8")
        flat = keras.layers.Flatten()(keras.layers.Rescaling(0.0)(photos))
        last = keras.layers.Dense(6, activation="softmax")
        network = keras.Model(photos, last(flat))
        probabilities = np.array([0.7902, 0.1, 0.05, 0.03, 0.02, 0.0098])
        last.set_weights([np.zeros(last.kernel.shape), np.log(probabilities)])
        return network, ["macaw", *(f"bird {number}" for number in range(5))]

    monkeypatch.setattr(networks, "build_imagenet_classifier", build)
    make_photo(tmp_path / "parrot.jpg", 0, 0)
    status, out, _ = script("predict", "--imagenet", "ResNet50", "--image", "parrot.jpg")
    assert status == 0
    assert out.splitlines()[:3] == ["parrot.jpg", "  79 % : macaw", "  10 % : bird 0"]
    assert len(out.splitlines()) == 6


def test_imagenet_flag_without_a_connection_is_one_error(script, monkeypatch, tmp_path):
    def fail(weights):
        raise Exception("URL fetch failure on https://example.org: None -- no route")

    fail.__module__ = keras.applications.VGG16.__module__
    monkeypatch.setattr(keras.applications, "VGG16", fail)
    make_photo(tmp_path / "parrot.jpg", 0, 0)
    status, _, messages = script("predict", "--imagenet", "--image", "parrot.jpg")
    assert status == 2
    assert_one_error(messages, "VGG16 with its top", "cannot be downloaded")
