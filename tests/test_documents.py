"""The commands of README.md, run in their order; what its pages say and link to."""

import importlib
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, make_photo
from pages import README, blocks, commands, run_all

from pyimagesearch import config, recipe

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


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
    ran = {command.split()[1] for command in run_all(script)}
    assert {"tools/get_weights.py", "tools/get_sample.py", "build_dataset.py", "train.py"} <= ran


def test_fields_people_change_first_can_be_changed_one_by_one_in_the_readmes_row():
    table = README.split("| field | what it does |")[1].split("\n\n")[0]
    changes = [
        each for each in re.findall(r"^\| `(.+?)`", table, re.MULTILINE) if "..." not in each
    ]
    assert len(changes) >= 5
    for change in changes:
        row = blocks("python")[0].rstrip().removesuffix("),") + f"    {change},\n),"
        field, value = change.split("=", 1)
        mine = recipe.checked(eval(f"{{{row}}}", vars(recipe)))["mine"]
        assert getattr(mine, field) == eval(value)


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


def test_accuracy_of_stored_views_is_shown_as_it_was_measured():
    kept = json.loads((ROOT / "benchmarks" / "accuracy.json").read_text())["sample 20 + 10"]
    seeds = set(kept["fresh"]) & set(kept["stored"])
    page = (ROOT / "docs" / "computing_once.md").read_text(encoding="utf-8")
    table = page.split(f"| {len(seeds)} trainings each | validation (83) | evaluation (84) |")[1]
    lines = iter(table.split("\n\n")[0].splitlines()[2:])
    for phase in ("warmup", "unfrozen"):
        for way in ("fresh", "stored"):
            shown = next(lines).strip("| ").split(" | ")[1:]
            for split, cell in zip(("validation", "evaluation"), shown, strict=True):
                numbers = [kept[way][seed][f"{phase}, {split}"] for seed in seeds]
                assert cell == f"{statistics.mean(numbers):.3f} ± {statistics.stdev(numbers):.3f}"


@pytest.mark.parametrize("argument", ["--help", "--nonsense"])
def test_asking_the_demo_for_help_does_not_start_it(monkeypatch, script, argument):
    demo = importlib.import_module("tools.demo")
    monkeypatch.setattr(demo, "python", lambda *_, **__: pytest.fail("the demo started"))
    status, _, _ = script("tools.demo", argument)
    assert status == (0 if argument == "--help" else 2)


def test_demo_finds_a_photo_and_shows_the_way_to_it_wherever_the_dataset_is(monkeypatch, tmp_path):
    demo = importlib.import_module("tools.demo")
    for root in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.setattr(demo, "ROOT", root)
        monkeypatch.setattr(config, "DATASET_DIR", tmp_path / "dataset")
        photo = tmp_path / "dataset" / "sample" / "evaluation" / "Fruit" / "1.jpg"
        make_photo(photo, 0, 0)
        photo.with_name(".DS_Store").write_bytes(b"Bud1")
        expected = photo.relative_to(tmp_path) if root == tmp_path else photo
        assert demo.first_photo("sample") == expected
