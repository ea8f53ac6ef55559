"""The README's own commands, run in its order."""

import glob
import importlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from conftest import ROOT, make_photo

from pyimagesearch import config, networks, recipe

README = (ROOT / "README.md").read_text(encoding="utf-8")

# Cannot be tried inside a test; `make setup` does the same, and `make test` stands on it.
SETTING_UP = ("python3 -m venv", "source ", "pip install -r requirements.txt")


def blocks(language):
    """Return the contents of the README's fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    """Return the README's shell commands, without remarks."""
    lines = [line.split(" #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(SETTING_UP)]


@pytest.fixture
def small_rows(monkeypatch, random_weights):
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


def test_every_command_of_the_readme_runs_in_its_order(small_rows, script, monkeypatch):
    # The network with its own top needs a download that is not to be had everywhere.
    photos = keras.Input((32, 32, 3), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(photos))
    untouched = keras.Model(photos, keras.layers.Dense(2, activation="softmax")(flat))
    monkeypatch.setattr(networks, "build_untouched", lambda name: (untouched, ["macaw", "cat"]))
    ran = []
    for command in commands():
        if command.startswith("make "):
            continue
        python, path, *arguments = shlex.split(command)
        assert python == "python"
        assert (ROOT / path).is_file()
        arguments = [name for each in arguments for name in sorted(glob.glob(each)) or [each]]
        module = path.removesuffix(".py").replace("/", ".")
        status, _, said = script(module, *arguments)
        assert status == 0, f"{command}: {said}"
        ran.append(module)
    assert {"tools.get_weights", "tools.get_sample", "build_dataset", "train"} <= set(ran)


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


def test_links_of_the_readme_lead_to_files():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_recipes_of_the_readme_are_those_of_the_config():
    table = README.split("| recipe | photos |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(config.RECIPES)


def test_race_of_the_readme_is_what_was_measured():
    figures = json.loads((ROOT / "benchmarks/results.json").read_text())["figures"]
    lines = README.split("| figure | plain | ours | ratio |")[1].split("\n\n")[0].splitlines()[2:]
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
