"""benchmarks/race.py runs both sides, and its figures are computed from what they measured."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT, make_photo

from pyimagesearch.support.errors import UserError


@pytest.fixture
def race(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("race")


# The figures


def test_ratio_is_the_median_of_the_ratios_of_each_round(race):
    row = race.compared("x", [10, 40, 30], [1, 2, 10])
    assert row == {"figure": "x", "plain": 30, "ours": 2, "ratio": [10, 3, 20], "rounds": 3}


def test_figure_of_one_side_has_its_median_and_spread(race):
    row = race.ours_only("x", [3, 1, 4])
    assert row == {"figure": "x", "ours": 3, "spread": [1, 4], "rounds": 3}


def test_plain_schedule_counts_every_batch_of_every_epoch(race):
    """33 photos are two batches of 32; 10 and 5 photos are one each."""
    steps = {
        "warmup": {"step": 2.0, "validation_step": 1.0},
        "unfrozen": {"step": 3.0, "validation_step": 1.0},
    }
    expected = 50 * (2 * 2 + 1) + 1 + 20 * (2 * 3 + 1) + 1
    assert race.plain_schedule(steps, (33, 10, 5)) == expected


def test_our_schedule_counts_the_frozen_layers_once_per_view_and_photo(race):
    part = {"views": 2, "frozen": 1.0, "step": 0.1, "validation_step": 0.01}
    parts = {"warmup": part, "unfrozen": {**part, "frozen": 0.25, "step": 0.5}}
    parts |= {"whole": 3.0, "rest": 0.5}
    steps = 50 * (2 * 0.1 + 0.01) + 20 * (2 * 0.5 + 0.01)
    frozen = 2 * 33 * 1.0 + 2 * 33 * 0.25 + 10 + 5 * (3.0 + 0.5)
    assert race.our_schedule(parts, (33, 10, 5)) == pytest.approx(steps + frozen)


def test_peak_memory_is_in_bytes_on_linux_and_on_macos(race, monkeypatch):
    usage = SimpleNamespace(ru_maxrss=2048)
    monkeypatch.setattr(race.platform, "system", lambda: "Linux")
    assert race.peak_memory(usage) == 2048 * 1024
    monkeypatch.setattr(race.platform, "system", lambda: "Darwin")
    assert race.peak_memory(usage) == 2048


# The races, with processes that write the measurements of the test


@pytest.fixture
def start(race, tmp_path, monkeypatch):
    """Return a function that starts a race whose processes are replaced by a function."""

    def start(run, dataset="sample", rounds=1):
        monkeypatch.setattr(race, "run", run)
        dataset = tmp_path / dataset
        return race.Race(dataset, tmp_path, rounds, large=dataset)

    return start


@pytest.mark.parametrize("bfloat16", [True, False])
def test_extraction_is_also_measured_in_float32_if_that_is_not_the_default(
    race, start, tmp_path, monkeypatch, bfloat16
):
    monkeypatch.setattr(race.machine, "computes_in_bfloat16", lambda: bfloat16)
    for number, split in enumerate(race.SPLITS):
        for photo in range(number + 1):
            make_photo(tmp_path / "sample" / split / "a" / f"{photo}.jpg", 0, photo)

    def run(script, task, *arguments):
        if "plain" in script:
            race.files.write_json(tmp_path / "plain" / "plain_extract.json", {})
            return 12.0, 1e9
        float32 = arguments[-1] == "float32" or not bfloat16
        slowness = 2 if float32 else 1
        forward = {
            "precision": "float32" if float32 else "mixed_bfloat16",
            "photos_a_second": 8 / slowness,
        }
        race.files.write_json(tmp_path / "ours" / f"ours_{task}.json", forward)
        features = tmp_path / "ours" / "sample" / "features"
        race.files.write_json(features / "made_from.json", {"seconds": slowness})
        return 3.0 * slowness, 1e9

    rows = {row["figure"]: row for row in race.measure_extraction(start(run, rounds=2))}
    if bfloat16:
        assert rows["photos -> CSV, whole process (s)"]["ratio"] == [4, 4, 4]
        assert rows["photos -> CSV, whole process, in float32 (s)"]["ratio"] == [2, 2, 2]
        assert rows["photos/s of the extraction, mixed_bfloat16"]["ours"] == 6
    else:
        assert rows["photos -> CSV, whole process (s)"]["ratio"] == [2, 2, 2]
        assert len(rows) == 3
    assert rows["photos/s of the extraction, float32"]["ours"] == 3
    assert rows["photos/s of the forward pass alone, float32"]["ours"] == 4


def test_csv_race_extracts_features_first_if_there_are_none(race, start, tmp_path):
    features = tmp_path / "ours" / "sample" / "features" / "training.csv"

    def run(script, *arguments):
        if arguments[0] == "extract":
            features.parent.mkdir(parents=True)
            features.write_text("0,0.5\n1,0.25\n")
        side = tmp_path / ("ours" if script == "benchmarks/ours.py" else "plain")
        side.mkdir(exist_ok=True)
        for name in ("plain_regression", "ours_read"):
            (side / f"{name}.json").write_text('{"load_seconds": 6, "seconds": 2}')
        return 1.0, 1e9

    seconds, memory = race.measure_csv(start(run, rounds=2))
    assert (seconds["ratio"], memory["ratio"]) == ([3, 3, 3], [1, 1, 1])
    for side in ("plain", "ours"):
        rows = (tmp_path / side / "training.csv").read_text().splitlines()
        assert len(rows) == 3000
        assert rows[:3] == ["0,0.5", "1,0.25", "0,0.5"]


@pytest.mark.parametrize("figure", ["sample", "large", "run_both"])
def test_training_starts_with_nothing_stored(race, start, tmp_path, figure):
    out = tmp_path / "trained_photos"
    stored = out / "photos" / "cache" / "a_view.npy"
    stored.parent.mkdir(parents=True)
    stored.touch()
    steps = {"step": 30.0, "validation_step": 30.0}
    race.files.write_json(tmp_path / "plain_steps.json", [{"warmup": steps, "unfrozen": steps}])
    for split in race.SPLITS:
        make_photo(tmp_path / "photos" / split / "a" / "1.jpg", 0, 0)

    def run(script, task, dataset, *arguments):
        assert not stored.exists()
        assert arguments[-4:] == ("--warmup", 50, "--unfrozen", 20)
        metrics = {"phases": {"warmup": 0.5, "unfrozen": 0.75}}
        race.files.write_json(out / "photos" / "fine_tune" / "metrics.json", metrics)
        race.files.write_json(out / "ours_fine_tune.json", {})
        phases = {"warmup": {"accuracy": 0.5}, "unfrozen": {"accuracy": 0.75}}
        race.files.write_json(tmp_path / "plain" / "plain_fine_tune.json", phases)
        return 60 if "plain" in script else 6, 1e9

    first, *_, after_unfrozen = race.FIGURES[figure](start(run, "photos"))
    # From its steps: 70 epochs of one training and one validation batch, and two evaluations.
    plain_minutes = 1 if figure == "run_both" else (70 * 2 + 2) * 30 / 60
    assert (first["plain"], first["ours"]) == (plain_minutes, 0.1)
    assert after_unfrozen["ours"] == 0.75


def test_training_before_the_schedule_is_measured_is_an_error_with_the_command(race, start):
    def run(*_):
        pytest.fail("a process started")

    with pytest.raises(UserError, match=r"plain_steps\.json.*race\.py --only schedule"):
        race.train_on_sample(start(run))


def test_scaling_compares_the_time_and_memory_per_photo(race, start, tmp_path):
    for number in range(3):
        make_photo(tmp_path / "sample" / "training" / "a" / f"{number}.jpg", 0, number)

    def run(script, task, dataset, out):
        photos = len(list(dataset.rglob("*.jpg")))
        features = out / dataset.name / "features"
        race.files.write_json(features / "made_from.json", {"seconds": 2 * photos})
        return 1.0, 1e9 if photos == 3 else 1.5e9

    rows = {row["figure"]: row["ours"] for row in race.measure_scaling(start(run))}
    for times in (2, 4):
        name = f"extraction of {times} x the photos"
        assert rows[f"{name}: time over {times} x the time"] == 1
        assert rows[f"{name}: peak memory over that of 1 x"] == 1.5


def test_pytorch_races_in_turns_with_the_same_photos_in_its_own_environment(
    race, start, tmp_path, monkeypatch
):
    monkeypatch.setattr(race, "python_with_torch", lambda folder: folder / "bin" / "python")
    monkeypatch.setattr(race.machine, "computes_in_bfloat16", lambda: True)
    tasks = []

    def run(script, task, *arguments, python=sys.executable):
        tasks.append(task)
        if "torch_port" in script:
            assert python == tmp_path / "torch_environment" / "bin" / "python"
            assert arguments[-2:] == ("--precision", "bfloat16")
            steps = {"step": 2.0, "validation_step": 1.0}
            result = {"warmup": steps, "unfrozen": steps, "photos_a_second": 4}
            result |= {"torch": "2.13", "precision": "bfloat16"}
            race.files.write_json(tmp_path / "torch" / f"torch_{task}.json", result)
        else:
            part = {"views": 3, "frozen": 0.1, "step": 0.5, "validation_step": 0.1}
            result = {"warmup": part, "unfrozen": part, "whole": 0.1, "rest": 0.05}
            result |= {"photos_a_second": 8}
            race.files.write_json(arguments[1] / f"ours_{task}.json", result)
        return 1.0, 1e9

    rows = {row["figure"]: row for row in race.measure_torch(start(run, rounds=2))}
    assert tasks == ["reference", *("forward", "forward", "steps", "parts") * 2]
    name = "PyTorch 2.13, bfloat16"
    assert rows[f"{name}: a photo through the frozen network (s)"]["ratio"] == [2, 2, 2]
    assert rows[f"{name}: a training step of unfrozen (s)"]["ratio"] == [4, 4, 4]
    seconds = 70 * (2 * race.count_batches(9866) + race.count_batches(3430))
    assert rows[f"{name}: Food-11's schedule (h)"]["plain"] == seconds / 3600


# Its processes


@pytest.fixture
def project(race, monkeypatch, tmp_path):
    """Let the race run scripts of a folder of the test. Return the folder."""
    (tmp_path / "output" / "race").mkdir(parents=True)
    monkeypatch.setattr(race, "ROOT", tmp_path)
    return tmp_path


def test_processes_do_not_inherit_the_settings_of_this_project(race, project, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    (project / "script.py").write_text("import os; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))")
    race.run("script.py", "task")
    assert (project / "output/race/log.txt").read_text() == "None\n"


def test_race_does_not_import_tensorflow():
    """Linux counts the memory of the race in the peak memory of each process that it starts."""
    code = "import sys, race; race.measured_on(); sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "benchmarks", check=True)


def test_process_that_fails_is_an_error_and_its_output_is_shown(race, project, capfd):
    (project / "script.py").write_text("raise SystemExit('no such dataset')")
    with pytest.raises(UserError, match=r"script\.py task failed.*log\.txt"):
        race.run("script.py", "task")
    assert "no such dataset" in capfd.readouterr().err


# The results


@pytest.mark.parametrize("name", ["results.json", "results_avx2.json"])
def test_measuring_one_figure_again_keeps_the_other_recorded_ones(
    race, project, monkeypatch, capsys, name
):
    recorded = json.loads((ROOT / "benchmarks" / name).read_text())
    results = project / name
    results.write_text(json.dumps(recorded))
    figure = "CSV -> arrays, 3,000 x 25,088 (s)"
    row = race.compared(figure, [8.0], [0.5])
    monkeypatch.setitem(race.FIGURES, "csv", lambda _: [row])
    race.main(["--only", "csv", "--results", str(results)])

    stored = json.loads(results.read_text())
    assert stored["figures"][figure]["ratio"] == [16, 16, 16]
    del stored["figures"][figure], recorded["figures"][figure]
    assert stored["figures"] == recorded["figures"]
    assert stored["machine"] == race.measured_on()
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + len(stored["figures"]) + 1
    assert "16.0 (16.0-16.0), 1" in next(line for line in table if line.startswith(figure))


def test_results_record_processor_and_versions(race):
    recorded = race.measured_on()
    assert "cores" in recorded["processor"]
    assert set(recorded["instructions"]) <= race.INSTRUCTIONS
    assert set(recorded["versions"]) >= {"python", "tensorflow", "keras", "numpy"}


def test_all_figures_are_measured_but_large_and_torch_only_if_wanted(race, project, monkeypatch):
    measured = []
    for name in race.FIGURES:
        row = race.ours_only(name, [1])
        monkeypatch.setitem(
            race.FIGURES, name, lambda _, name=name, row=row: measured.append(name) or [row]
        )
    results = project / "results.json"
    race.main(["--results", str(results)])
    assert measured == [name for name in race.FIGURES if name not in ("large", "torch")]
    measured.clear()
    race.main(["--only", "large", "--large", "DATASET", "--results", str(results)])
    race.main(["--only", "torch", "--results", str(results)])
    assert measured == ["large", "torch"]


def test_table_has_a_row_per_figure(race):
    rows = [race.compared("both sides", [10.0, 30.0], [1.0, 1.0]), race.ours_only("ours", [0.25])]
    _, both_sides, ours = race.table({row.pop("figure"): row for row in rows}).splitlines()
    assert both_sides.split() == ["both", "sides", "20", "1", "20.0", "(10.0-30.0),", "2"]
    assert ours.split() == ["ours", "0.25"]
