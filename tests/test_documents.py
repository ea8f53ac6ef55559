"""The README, CONTRIBUTING and the docs: their commands run, their links and figures are right."""

import importlib
import json
import re
import runpy
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, make_photo, read, thin_resnet50
from pages import README, blocks, commands, read_page, run_all, table_rows

from pyimagesearch import config, recipe
from pyimagesearch.report import intervals
from pyimagesearch.support import files

pytestmark = pytest.mark.usefixtures("untraced")

PAGES = sorted(page for folder in (".", "docs", "output") for page in (ROOT / folder).glob("*.md"))
(OWN_ROW,) = blocks("python")
OWN_ROWS = blocks("python", read_page("docs/own_photos.md"))


def read_row(row):
    """Return the recipe that a row, as text, adds to config.RECIPES."""
    own = eval(f"{{{row}}}", vars(config))
    return recipe.checked(config.RECIPES | own)[next(iter(own))]


def make_own_photos(count):
    """Write this many photos of each class of the page on own photos."""
    for label, name in enumerate(read_row(OWN_ROWS[1]).classes):
        for number in range(count):
            make_photo(Path("my_photos", name, f"{number}.jpg"), label, number)


@pytest.fixture
def small_rows(monkeypatch, thin, random_weights, quick_figures):
    """Make the recipes in the README's commands small, and add the one it tells a user to write."""
    rows = config.RECIPES | {"mine": read_row(OWN_ROW)}
    for name in ("sample", "mine"):
        phase = replace(rows[name].phases[0], epochs=1)
        rows[name] = replace(rows[name], image_size=32, batch_size=64, views=1, phases=(phase,))
    monkeypatch.setattr(config, "RECIPES", rows)
    monkeypatch.setattr(config, "WEIGHTS", random_weights)
    make_own_photos(30)


def test_readme_commands_run_in_order_and_the_python_page_predicts_the_same(
    small_rows, script, capsys
):
    """The programs of the other pages are run in tests/test_exports.py."""
    printed = run_all(script)
    for name in ("onnx", "litert", "saved_model"):
        assert len(run_all(script, read_page(f"docs/{name}.md"))) == 1
    scripts = {command.split()[1] for command in printed}
    assert scripts == {
        "tools/get_weights.py",
        "tools/get_sample.py",
        "build_dataset.py",
        "extract_features.py",
        "train.py",
        "predict.py",
    }
    Path("example.py").write_text("".join(blocks("python", read_page("docs/python.md"))))
    runpy.run_path("example.py")
    *by_example, unreadable, shape = capsys.readouterr().out.splitlines()
    assert "report.txt cannot be read as a photo" in unreadable
    assert shape in ("(1, 6) [True]", "(1, 6) [False]")
    first_prediction = next(command for command in printed if "predict.py" in command)
    _, answer, _ = script("predict", *first_prediction.split()[2:], "--format", "json")
    classes = json.loads(answer)["classes"]
    assert by_example == [f"{each['class']}: {each['probability']:.2%}" for each in classes]


def test_first_row_for_own_photos_is_that_of_the_readme():
    assert OWN_ROWS[0] == OWN_ROW


def test_rows_for_own_photos_are_accepted():
    assert [read_row(row).backbone for row in OWN_ROWS] == ["VGG16", "VGG16", "MobileNetV2"]


@pytest.mark.soak
@pytest.mark.parametrize("row", OWN_ROWS[1:], ids=["phases", "backbone"])
def test_other_rows_for_own_photos_can_be_trained(
    row, script, monkeypatch, thin, random_weights, random_resnet, quick_figures
):
    import keras

    def thin_mobilenet(**options):
        return thin_resnet50(**options)

    thin_mobilenet.__module__ = keras.applications.MobileNetV2.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV2", thin_mobilenet)
    own = read_row(row)
    weights = random_weights if own.backbone == "VGG16" else random_resnet
    monkeypatch.setattr(config, "WEIGHTS", weights)
    monkeypatch.setattr(config, "PRECISION", "float32")
    phases = tuple(replace(phase, epochs=1) for phase in own.phases)
    small = replace(own, image_size=32, views=1, phases=phases)
    monkeypatch.setattr(config, "RECIPES", {own.name: small})
    make_own_photos(7)
    for name in ("build_dataset", "train"):
        status, _, messages = script(name, "--recipe", own.name)
        assert status == 0, messages
    last_block = "MobileNetV2: the last block begins after conv5_block1_out"
    assert (last_block in messages) == (own.backbone == "MobileNetV2")
    assert read(f"output/{own.name}/fine_tune/metrics.json")["photos"]["training"] == 15


def test_settings_of_the_page_on_which_way_to_take_are_those_of_the_ladder(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    ladder = importlib.import_module("ladder")
    (block,) = blocks("python", read_page("docs/which_way.md"))
    changes = {}
    exec(block, changes)  # noqa: S102
    row = replace(config.RECIPES["sample"], **changes["changes"])
    row = recipe.checked({"mine": row})["mine"]
    expected = ladder.recipe_of("averages", config.RECIPES["sample"])
    assert row.regression == expected.regression
    assert row.head.pooling == expected.head.pooling


def test_every_line_that_the_page_on_own_photos_explains_is_in_one_of_its_rows():
    page = read_page("docs/own_photos.md")
    lines = page.split("| line | what it changes |\n")[1:]
    cells = [row.split("|")[1] for table in lines for row in table.split("\n\n")[0].splitlines()]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 10
    for name in names:
        assert name.removesuffix(", ...)") in "".join(OWN_ROWS), name


def test_every_field_that_the_readme_suggests_to_change_can_be_changed_in_its_row():
    fields = [field.strip("`") for field, _ in table_rows(README, "| field | effect |")]
    changes = [field for field in fields if "..." not in field]
    assert len(changes) >= 5
    for change in changes:
        field, value = change.split("=", 1)
        row = read_row(OWN_ROW.rstrip().removesuffix("),") + f"    {change},\n),")
        assert getattr(row, field) == eval(value)


def test_readme_is_at_most_180_lines():
    assert len(README.splitlines()) <= 180


def test_make_targets_of_the_readme_are_in_the_makefile():
    targets = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert targets == ["demo", "test"]
    makefile = read_page("Makefile")
    assert all(f"\n{target}:" in makefile for target in targets)


def test_commands_without_make_are_files_of_tools_that_make_runs_too():
    makefile = read_page("Makefile")
    for name in ("demo", "test"):
        assert f"python3 tools/{name}.py" in README
        assert f"py tools\\{name}.py" in README
        assert f"tools/{name}.py" in makefile


def test_demo_runs_the_commands_that_the_readme_lists_for_people_without_make(monkeypatch):
    demo = importlib.import_module("tools.demo")
    ran = []

    def note(script, *arguments, keep_output=False):
        ran.append(" ".join([script, *map(str, arguments)]))
        return "sample\n"

    monkeypatch.setattr(demo, "python", note)
    monkeypatch.setattr(demo, "table", lambda recipe: "")
    monkeypatch.setattr(demo, "first_photo", lambda recipe: "PHOTO")
    demo.main([])
    by_hand = [line.removeprefix("python ") for line in commands() if "make" not in line]
    assert ran[:6] == by_hand[:6]
    assert all(each.startswith("predict.py --recipe sample --method") for each in ran[6:])
    assert len(ran) == 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [title.lower().replace(" ", "-") for title in headings], target


def test_every_page_of_the_docs_is_linked_from_the_readme():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README


def test_readme_lists_the_recipes_of_the_config_in_their_order():
    rows = table_rows(README, "| recipe | what it teaches | published | here |")
    assert [re.search(r"`(\w+)`", row[0])[1] for row in rows] == list(config.RECIPES)


@pytest.mark.parametrize(
    ("recipe_name", "photos", "accuracies"),
    [
        ("food5k", 500, 1),
        ("food11", 600, 2),
        ("food11_better", 600, 1),
        ("cats_vs_dogs_features", 300, 1),
        ("cats_vs_dogs", 300, 2),
        ("sample", 84, 2),
        ("digits", 359, 2),
    ],
)
def test_accuracies_of_the_readme_have_their_intervals(recipe_name, photos, accuracies):
    rows = table_rows(README, "| recipe | what it teaches | published | here |")
    cell = next(row[-1] for row in rows if f"`{recipe_name}`" in row[0])
    found = re.findall(r"([\d.]+) \(([\d.]+ to [\d.]+)\)", cell)
    assert len(found) == accuracies
    for accuracy, interval in found:
        assert interval == intervals.interval_text(float(accuracy), photos)


def test_table_of_the_demo_in_the_readme_has_the_lines_that_the_demo_prints(monkeypatch, tmp_path):
    demo = importlib.import_module("tools.demo")
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    counts = zip(config.RECIPES["sample"].classes, (10, 23, 14, 7, 11, 19), strict=True)
    metrics = {
        "accuracy": 62 / 84,
        "photos": {"evaluation": 84},
        "classes": {name: {"support": count} for name, count in counts},
    }
    for method, seconds in (("logistic_regression", 18), ("fine_tune", 131)):
        path = tmp_path / config.OUTPUT_DIR / "sample" / method / "metrics.json"
        files.write_json(path, metrics | {"seconds": seconds})
    table = demo.table("sample").strip().split("\n\n")[0]
    assert f"```text\n{table}\n\n" in README


def test_contributing_describes_every_module_and_only_names_files_that_exist():
    text = read_page("CONTRIBUTING.md")
    modules = [row[0].strip("`") for row in table_rows(text, "| module | what it does |")]
    package = ROOT / "pyimagesearch"
    assert sorted([*modules, "__init__.py"]) == sorted(path.name for path in package.glob("*.py"))
    for name in set(re.findall(r"`([\w/]+\.py)`", text)):
        assert (ROOT / name).is_file() or list(package.rglob(name)), name


def test_output_folder_is_in_a_fresh_clone_and_only_its_readme_is_tracked():
    assert (ROOT / "output" / "README.md").is_file()
    ignored = read_page(".gitignore").splitlines()
    assert ignored.index("/output/*") < ignored.index("!/output/README.md")


@pytest.mark.parametrize(
    ("page", "results"),
    [("docs/computing_once.md", "results.json"), ("docs/times.md", "results_avx2.json")],
)
def test_table_of_the_race_has_the_measured_figures(page, results):
    figures = json.loads(read_page(f"benchmarks/{results}"))["figures"]
    rows = table_rows(read_page(page), "| figure | plain | ours | ratio |")
    assert len(rows) >= 7
    for name, *cells in rows:
        figure = figures[name]
        numbers = (figure["plain"], figure["ours"], figure["ratio"][0])
        assert cells == [f"{number:.3g}" for number in numbers], name


def test_table_of_accuracies_has_the_means_and_deviations_of_the_measured_trainings():
    trainings = json.loads(read_page("benchmarks/accuracy.json"))["sample 20 + 10"]
    seeds = set(trainings["fresh"]) & set(trainings["stored"])
    header = f"| {len(seeds)} trainings each | validation (83) | evaluation (84) |"
    rows = iter(table_rows(read_page("docs/computing_once.md"), header))
    for phase in ("warmup", "unfrozen"):
        for way in ("fresh", "stored"):
            cells = next(rows)[1:]
            for split, cell in zip(("validation", "evaluation"), cells, strict=True):
                values = [trainings[way][seed][f"{phase}, {split}"] for seed in seeds]
                mean, deviation = statistics.mean(values), statistics.stdev(values)
                assert cell == f"{mean:.3f} ± {deviation:.3f}"
