"""The commands of README.md and docs/, run in their order; what they show, say and link to."""

import glob
import importlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import keras
import made_downloads
import pytest
from conftest import ROOT, make_photo

from pyimagesearch import config, networks, recipe
from pyimagesearch.recipe import Split

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Cannot be tried inside a test; `make setup` does the same, and `make test` stands on it.
SETTING_UP = ("python3 -m venv", "source ", "pip install -r requirements.txt")

SMALL_CATS = Split(training=6, validation=3, evaluation=3, shuffle=False)
SMALL_SIMPSONS = Split(training=None, validation=0, evaluation=5)
# A page: the rows it uses, and what changes in them beside their size; the download.
TUTORIALS = {
    "food5k": ({"food5k": {}}, made_downloads.make_food5k),
    "food11": ({"food11": {}}, made_downloads.make_food11),
    "knifey_spoony": ({"knifey_spoony": {}}, made_downloads.make_knifey_spoony),
    "cats_vs_dogs": (
        {"cats_vs_dogs_features": {"split": SMALL_CATS}, "cats_vs_dogs": {"split": SMALL_CATS}},
        made_downloads.make_cats_vs_dogs,
    ),
    "simpsons": ({"simpsons": {"split": SMALL_SIMPSONS}}, made_downloads.make_simpsons),
}


def blocks(language, text=README):
    """Return the contents of a page's fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text=README):
    """Return a page's shell commands, without remarks."""
    lines = "".join(blocks("bash", text)).splitlines()
    lines = [line.split(" #")[0].strip() for line in lines]
    return [line for line in lines if line and not line.startswith(SETTING_UP)]


def run_all(script, text):
    """Run a page's commands in their order; return (the scripts that ran, what they printed)."""
    ran, printed = [], ""
    for command in commands(text):
        if command.startswith("make "):
            continue
        python, path, *arguments = shlex.split(command)
        assert python == "python"
        assert (ROOT / path).is_file()
        arguments = [name for each in arguments for name in sorted(glob.glob(each)) or [each]]
        ran.append(path.removesuffix(".py").replace("/", "."))
        status, out, said = script(ran[-1], *arguments)
        assert status == 0, f"{command}: {said}"
        printed += out + said
    return ran, printed


@pytest.fixture
def untouched(monkeypatch):
    """Stand in for the network with its own top: its download is not to be had everywhere."""
    photos = keras.Input((32, 32, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(photos))
    network = keras.Model(photos, keras.layers.Dense(2, activation="softmax")(flat))
    monkeypatch.setattr(networks, "build_untouched", lambda name: (network, ["macaw", "cat"]))


@pytest.fixture
def small_rows(monkeypatch, thin, random_weights):
    """Shorten the rows the README uses, and add the one it tells a reader to write."""
    mine = eval("{" + blocks("python")[0] + "}", vars(recipe))
    rows = config.RECIPES | recipe.checked(mine)
    for name in ("sample", "food5k", "mine"):
        phases = tuple(replace(phase, epochs=1) for phase in rows[name].phases)
        rows[name] = replace(rows[name], image_size=32, views=1, phases=phases)
    monkeypatch.setattr(config, "RECIPES", rows)
    monkeypatch.setattr(config, "WEIGHTS", random_weights)
    for number in range(30):
        for split in ("training", "validation", "evaluation"):
            make_photo(Path("Food-5K", split, f"{number % 2}_{number}.jpg"), number % 2, number)
        for label, name in enumerate(rows["mine"].classes):
            make_photo(Path("my_photos", name, f"{number}.jpg"), label, number)


def test_every_command_of_the_readme_runs_in_its_order(small_rows, script):
    ran, _ = run_all(script, README)
    assert {"tools.get_weights", "tools.get_sample", "build_dataset", "train"} <= set(ran)


@pytest.mark.parametrize("name", TUTORIALS)
def test_every_command_of_a_tutorial_runs_and_prints_what_its_page_shows(
    shortened, script, untouched, name
):
    rows, make = TUTORIALS[name]
    for row, changes in rows.items():
        shortened(row, **changes)
    make()
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    _, printed = run_all(script, text)
    shown = [line for block in blocks("text", text) for line in block.splitlines()]
    assert shown
    for line in shown:
        # Numbers are of the real photos, and ... is left out.
        form = re.sub(r"\d[\d,.]*\d|\d", "#", line)
        form = re.escape(form).replace("\\#", r"\d[\d,.]*").replace("…", ".*")
        assert re.search(f"^{form}$", printed, re.MULTILINE), line


def test_there_is_a_page_for_every_tutorial():
    pages = {page.stem for page in PAGES if page.parent.name == "docs"}
    assert pages == set(TUTORIALS) | {"computing_once"}
    assert {row for rows, _ in TUTORIALS.values() for row in rows} | {"sample", "digits"} == set(
        config.RECIPES
    )


def test_make_targets_of_the_readme_are_in_the_makefile():
    targets = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert set(targets) == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets)


def test_demo_runs_the_commands_that_the_readme_lists_as_the_long_way(monkeypatch, script):
    demo = importlib.import_module("tools.demo")
    ran = []

    def note(script, *arguments, keep_output=False):
        ran.append(" ".join([script, *map(str, arguments)]))
        return "sample\n"

    monkeypatch.setattr(demo, "python", note)
    monkeypatch.setattr(demo, "table", lambda recipe: "")
    monkeypatch.setattr(demo, "first_photo", lambda recipe: "PHOTO")
    demo.main([])
    long_way = [line.removeprefix("python ") for line in commands() if "make" not in line]
    assert ran[:6] == long_way[:6]
    assert all(each.startswith("predict.py --recipe sample --method") for each in ran[6:])
    assert len(ran) == 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_recipes_of_the_readme_are_those_of_the_config():
    table = README.split("| recipe | photos |")[1].split("\n\n")[0]
    assert re.findall(r"^\| \[?`(\w+)`", table, re.MULTILINE) == list(config.RECIPES)


@pytest.mark.parametrize(
    ("page", "place", "results"),
    [
        ("README.md", 1, "results.json"),
        ("docs/computing_once.md", 1, "results.json"),
        ("docs/computing_once.md", 2, "results_avx2.json"),
    ],
)
def test_race_is_shown_as_it_was_measured(page, place, results):
    figures = json.loads((ROOT / "benchmarks" / results).read_text())["figures"]
    text = (ROOT / page).read_text(encoding="utf-8")
    tables = text.split("| figure | plain | ours | ratio |")
    lines = tables[place].split("\n\n")[0].splitlines()[2:]
    assert lines
    for line in lines:
        name, plain, ours, ratio = (cell.strip() for cell in line.strip("| ").split("|"))
        measured = figures[name]
        seen = [measured["plain"], measured["ours"], measured["ratio"][0]]
        assert [plain, ours, ratio] == [f"{number:.3g}" for number in seen]


@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
def test_asking_the_demo_for_help_does_not_start_it(monkeypatch, script, argument):
    demo = importlib.import_module("tools.demo")
    monkeypatch.setattr(demo, "python", lambda *_, **__: pytest.fail("the demo started"))
    status, _, _ = script("tools.demo", argument)
    assert status == (0 if argument == "--help" else 2)
