"""The demo runs the scripts in order, stops if one fails, and ends with a table of the results."""

import importlib
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT, make_photo

from pyimagesearch import config


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("tools.demo")


@pytest.mark.parametrize(("argument", "expected"), [("--help", 0), ("--nonsense", 2)])
def test_demo_starts_no_script_for_help_or_an_unknown_argument(
    demo, monkeypatch, script, argument, expected
):
    monkeypatch.setattr(demo, "python", lambda *_, **__: pytest.fail("the demo started"))
    status, _, _ = script("tools.demo", argument)
    assert status == expected


def test_demo_uses_the_recipe_that_get_sample_prints_last(demo, monkeypatch):
    commands = []

    def python(script, *arguments, keep_output=False):
        commands.append([script, *arguments])
        return "a line before\ndigits\n" if keep_output else None

    monkeypatch.setattr(demo, "python", python)
    monkeypatch.setattr(demo, "table", lambda recipe: f"table of {recipe}")
    monkeypatch.setattr(demo, "first_photo", lambda recipe: "PHOTO")
    demo.main([])
    after = [each for each in commands if not each[0].startswith("tools/")]
    assert all(each[1:3] == ["--recipe", "digits"] for each in after)
    scripts = ["build_dataset.py", "extract_features.py", *["train.py"] * 2, *["predict.py"] * 2]
    assert [each[0] for each in after] == scripts


def test_demo_prints_each_command_and_returns_its_output_on_request(
    demo, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    Path("script.py").write_text("import sys; print(sys.argv[1:])")
    assert demo.python("script.py", "a b", 2, keep_output=True) == "['a b', '2']\n"
    assert demo.python("script.py") is None
    printed = capfd.readouterr()
    assert printed.err == "\n$ python script.py 'a b' 2\n\n$ python script.py\n"
    assert printed.out == "[]\n"


def test_demo_ends_with_the_status_of_a_script_that_fails(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    Path("script.py").write_text("raise SystemExit(2)")
    with pytest.raises(SystemExit) as ended:
        demo.python("script.py")
    assert ended.value.code == 2


@pytest.mark.parametrize("project", [".", "elsewhere"])
def test_first_photo_is_relative_to_the_project_only_if_the_dataset_is_in_it(
    demo, monkeypatch, tmp_path, project
):
    monkeypatch.setattr(demo, "ROOT", tmp_path / project)
    monkeypatch.setattr(config, "DATASET_DIR", tmp_path / "dataset")
    photo = tmp_path / "dataset" / "sample" / "evaluation" / "Fruit" / "1.jpg"
    make_photo(photo, 0, 0)
    # macOS leaves such files in the folders that it shows.
    photo.with_name(".DS_Store").write_bytes(b"Bud1")
    expected = photo.relative_to(tmp_path) if project == "." else photo
    assert demo.first_photo("sample") == expected


def test_table_shows_accuracy_training_time_and_files_to_open(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    output = tmp_path / config.OUTPUT_DIR / "sample"
    photos = {
        "photos": {"evaluation": 84},
        "classes": {"Fish": {"support": 23}, "Fruit": {"support": 61}},
    }
    metrics = {
        "logistic_regression": {"accuracy": 63 / 84, "seconds": 2.4, "feature_seconds": 16.2},
        "fine_tune": {"accuracy": 69 / 84, "seconds": 131.4},
    }
    for method, values in metrics.items():
        (output / method).mkdir(parents=True)
        (output / method / "metrics.json").write_text(json.dumps(values | photos))
    # The report of the classifier before is not listed.
    previous = "fine_tune/previous/report.html"
    for name in ("fine_tune/report.html", previous, "predictions/1.png"):
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).touch()
    text = demo.table("sample")
    # Logistic regression needs the features first, so their time counts too.
    assert re.search(r"logistic_regression +0\.750 +0\.65 to 0\.83 +19\n", text)
    assert re.search(r"fine_tune +0\.821 +0\.73 to 0\.89 +131\n", text)
    assert re.search(r"most frequent class +0\.726\n", text)
    files = ["output/sample/fine_tune/report.html", "output/sample/predictions/1.png"]
    assert text.split("open in a browser:\n")[1].split() == files
