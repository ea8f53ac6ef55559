"""docs/from_the_posts.md: each setting, file and step of the originals is where it says."""

import dataclasses
import importlib
import re

import pytest
from conftest import ROOT
from pages import read_page, table_rows

from pyimagesearch import recipe

PAGE = read_page("docs/from_the_posts.md")
SETTINGS = table_rows(PAGE, "| in the posts | here | why it differs |")
STEPS = [
    row
    for section in PAGE.split("\n## ")[2:]
    for row in table_rows(section, "| original | here | why it differs |")
]
CONFIG = read_page("pyimagesearch/config.py").splitlines()
# The names in config.py of the two PyImageSearch posts.
NAMES_IN_THE_POSTS = [
    *("ORIG_INPUT_DATASET", "BASE_PATH", "TRAIN", "TEST", "VAL", "CLASSES", "BATCH_SIZE"),
    *("BASE_CSV_PATH", "LE_PATH", "MODEL_PATH", "WARMUP_PLOT_PATH", "UNFROZEN_PLOT_PATH"),
]
FILES_WITHOUT_SETTING = ("LE_PATH", "MODEL_PATH")


def quoted(cell):
    """Return the names in backticks of a table's cell."""
    return re.findall(r"`([^`]+)`", cell)


# Without the files that the scripts write: test_tutorials.py looks for those.
NAMES_HERE = sorted(
    {
        name
        for _, here, _ in SETTINGS + STEPS
        for name in quoted(here)
        if not name.startswith(("output/", "dataset/"))
    }
)


def code_with_comment(name):
    """Return the code in config.py beside or below the comment with a name of the posts."""
    for number, line in enumerate(CONFIG):
        code, _, comment = line.partition("#")
        if re.search(rf"\b{name}\b", comment):
            return code.strip() or "".join(CONFIG[number + 1 : number + 3]).strip()
    raise AssertionError(f"no comment in config.py has {name}")


def exists(name):
    """Return True if the project has a file, option, function, setting or field of that name."""
    script, _, option = name.partition(" ")
    if script.endswith(".py"):
        return (ROOT / script).is_file() and (not option or f'"{option}"' in read_page(script))
    owner, *attributes = name.split(".")
    row_class = getattr(recipe, owner, None)
    if dataclasses.is_dataclass(row_class):
        (attribute,) = attributes
        return attribute in [field.name for field in dataclasses.fields(row_class)]
    (path,) = (ROOT / "pyimagesearch").rglob(f"{owner}.py")
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    value = importlib.import_module(module)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value is not None


@pytest.mark.parametrize("name", NAMES_HERE)
def test_name_in_the_column_here_exists(name):
    assert exists(name)


def test_name_that_is_not_in_the_project_is_found_out():
    assert exists("datasets.list_photos")
    for name in ("load.py", "predict.py --fine", "datasets.list_pictures", "Recipe.pictures"):
        assert not exists(name)


def test_every_step_of_an_original_has_a_place_here():
    assert len(STEPS) > 70
    for original, here, _ in STEPS:
        assert original
        assert quoted(here), original


def test_every_setting_of_the_posts_is_in_the_table():
    assert [name for original, _, _ in SETTINGS for name in quoted(original)] == NAMES_IN_THE_POSTS


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row[0].strip("`"))
def test_setting_is_commented_with_its_name_in_the_posts_in_config(row):
    (name,), (setting, *files) = quoted(row[0]), quoted(row[1])
    if name in FILES_WITHOUT_SETTING:
        assert setting.startswith("output/")
        assert "no setting" in row[2]
    elif files:
        # A plot has the name of its phase, which is the first argument of Phase(...).
        (plot,) = files
        phase = plot.split("/")[-1].removesuffix(".png")
        assert setting == "Phase.name"
        assert re.match(rf'Phase\(\s*"{phase}",', code_with_comment(name))
    else:
        assert re.search(rf"\b{setting.split('.')[1]}\b.*=", code_with_comment(name))
