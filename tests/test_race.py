import importlib

import numpy as np
import pytest
from conftest import ROOT, make_photo, write_csv


@pytest.fixture
def race(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("race")


def test_ratios_are_taken_pair_by_pair(race):
    row = race.compared("x", [10, 40, 30], [1, 2, 10])
    assert row == {"figure": "x", "plain": 30, "ours": 2, "ratio": [10, 3, 20], "rounds": 3}


def test_plain_schedule_counts_every_batch_of_every_epoch(race):
    """33 photos are two batches of 32, 10 and 5 are one each."""
    steps = {
        "warmup": {"step": 2.0, "validation_step": 1.0},
        "unfrozen": {"step": 3.0, "validation_step": 1.0},
    }
    expected = 50 * (2 * 2 + 1) + 1 + 20 * (2 * 3 + 1) + 1
    assert race.plain_schedule(steps, (33, 10, 5)) == expected


def test_our_schedule_sends_each_view_and_each_other_photo_through_once(race):
    part = {"views": 2, "frozen": 1.0, "step": 0.1, "validation_step": 0.01}
    parts = {"warmup": part, "unfrozen": {**part, "frozen": 0.25, "step": 0.5}}
    parts |= {"whole": 3.0, "rest": 0.5}
    learning = 50 * (2 * 0.1 + 0.01) + 20 * (2 * 0.5 + 0.01)
    frozen = 2 * 33 * 1.0 + 2 * 33 * 0.25 + 10 + 5 * (3.0 + 0.5)
    assert race.our_schedule(parts, (33, 10, 5)) == pytest.approx(learning + frozen)


def test_the_clock_leaves_out_the_last_batch_of_each_pass(race, monkeypatch):
    """Two passes of 64 + 19 photos, with 100 seconds between them."""
    clock = importlib.import_module("clock").Clock()
    for start in (0, 100):
        clock.on_test_begin()
        for end in (start + 5, start + 7, start + 8):
            monkeypatch.setattr("time.perf_counter", lambda end=end: end)
            clock.on_test_batch_end(0)
    assert clock.median("test") == 2


@pytest.mark.parametrize("bfloat16", [True, False])
def test_extraction_is_raced_in_float32_once(race, tmp_path, monkeypatch, bfloat16):
    monkeypatch.setattr(race.machine, "computes_in_bfloat16", lambda: bfloat16)
    made = tmp_path / "ours" / "sample" / "features" / "made_from.json"

    def run(script, what, dataset, *options):
        precision = options[-1]
        if "plain" in script:
            race.files.write_json(tmp_path / "plain" / "plain_extract.json", {})
            return 12.0, 1e9
        slow = 2 if precision == "float32" or not bfloat16 else 1
        said = {
            "precision": "float32" if slow == 2 else "mixed_bfloat16",
            "photos_a_second": 8 / slow,
        }
        race.files.write_json(tmp_path / "ours" / f"ours_{what}.json", said)
        figures = {"photos": {"training": 6}, "seconds": slow, "waiting_share": None}
        race.files.write_json(made, figures)
        return 3.0 * slow, 1e9

    monkeypatch.setattr(race, "run", run)
    rows = {row["figure"]: row for row in race.extract(race.Race(tmp_path, tmp_path, 2, None))}
    if bfloat16:
        assert rows["photos -> CSV, whole process (s)"]["ratio"] == [4, 4, 4]
        assert rows["photos -> CSV, whole process, in float32 (s)"]["ratio"] == [2, 2, 2]
    else:
        assert rows["photos -> CSV, whole process (s)"]["ratio"] == [2, 2, 2]
        assert len(rows) == 4
    assert rows["photos/s of the extraction, float32"]["ours"] == 3
    assert rows["photos/s of the forward pass alone, float32"]["ours"] == 4


def test_the_race_of_csvs_needs_none_before_it(race, tmp_path, monkeypatch):
    made = tmp_path / "ours" / "sample" / "features" / "training.csv"

    def run(script, *arguments):
        if arguments[0] == "extract":
            made.parent.mkdir(parents=True)
            made.write_text("0,0.5\n1,0.25\n")
        side = tmp_path / ("ours" if script == "benchmarks/ours.py" else "plain")
        side.mkdir(exist_ok=True)
        for name in ("plain_regression", "ours_read"):
            (side / f"{name}.json").write_text('{"load_seconds": 6, "seconds": 2}')
        return 1.0, 1e9

    monkeypatch.setattr(race, "run", run)
    seconds, memory = race.csv(race.Race(tmp_path, tmp_path, 2, None))
    assert (seconds["ratio"], memory["ratio"]) == ([3, 3, 3], [1, 1, 1])
    for side in ("plain", "ours"):
        assert (tmp_path / side / "training.csv").read_bytes().count(b"\n") == race.ROWS


@pytest.mark.parametrize("figure", ["sample", "large", "run_both"])
def test_a_training_that_is_raced_finds_nothing_stored(race, tmp_path, monkeypatch, figure):
    out = tmp_path / "trained_photos"
    left = out / "photos" / "cache" / "a_view.npy"
    left.parent.mkdir(parents=True)
    left.touch()
    steps = {"step": 30.0, "validation_step": 30.0}
    race.files.write_json(tmp_path / "plain_steps.json", [{"warmup": steps, "unfrozen": steps}])
    phases = {"warmup": {"accuracy": 0.5}, "unfrozen": {"accuracy": 0.5}}
    for split in race.SPLITS:
        make_photo(tmp_path / "photos" / split / "a" / "1.jpg", 0, 0)

    def run(script, *arguments):
        assert not left.exists()
        done = {"phases": {"warmup": 0.5, "unfrozen": 0.5}}
        race.files.write_json(out / "photos" / "fine_tune" / "metrics.json", done)
        race.files.write_json(out / "ours_fine_tune.json", {})
        race.files.write_json(tmp_path / "plain" / "plain_fine_tune.json", phases)
        return 60 if "plain" in script else 6, 1e9

    monkeypatch.setattr(race, "run", run)
    photos = tmp_path / "photos"
    first, *_ = race.FIGURES[figure](race.Race(photos, tmp_path, 1, photos))
    # From its steps: 70 epochs of one batch to train and one to validate, and two evaluations.
    plain = 1 if figure == "run_both" else (70 * 2 + 2) * 30 / 60
    assert (first["plain"], first["ours"]) == (plain, 0.1)


def test_what_is_raced_gets_no_setting_from_this_project(race, tmp_path, monkeypatch):
    (tmp_path / "output" / "race").mkdir(parents=True)
    monkeypatch.setattr(race, "ROOT", tmp_path)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    code = "import os; assert 'TF_ENABLE_ONEDNN_OPTS' not in os.environ; print('asked')"
    (tmp_path / "script.py").write_text(code)
    race.run("script.py", "x", "y")
    assert (tmp_path / "output/race/log.txt").read_text() == "asked\n"


def test_table_shows_every_figure(race):
    rows = [race.compared("both sides", [10.0, 30.0], [1.0, 1.0]), race.alone("ours", [0.25])]
    text = race.table({row.pop("figure"): row for row in rows})
    assert "both sides" in text
    assert "20.0 (10.0-30.0), 2" in text
    assert "0.25" in text


@pytest.mark.parametrize("name", ["results.json", "results_avx2.json"])
def test_results_in_the_repository_are_whole_and_say_where_they_are_from(race, name):
    results = race.files.read_json(race.RESULTS.with_name(name))
    assert results["machine"]["versions"]["keras"]
    assert "avx2" in results["machine"]["instructions"]
    for name, row in results["figures"].items():
        assert row["ours"] > 0, name
        if "ratio" in row:
            median, low, high = row["ratio"]
            assert low <= median <= high
            assert row["plain"] > 0


@pytest.mark.parametrize("way", ["at_once", "in_pieces"])
def test_any_number_of_rows_is_timed(race, tmp_path, monkeypatch, capsys, way):
    rows = importlib.import_module("rows")
    folder = tmp_path / "output" / "sample" / "features"
    write_csv(folder / "training.csv", np.arange(6), np.eye(6, dtype=np.float32))
    monkeypatch.setattr(rows, "ROOT", tmp_path)
    monkeypatch.setattr(rows.regression, "PASSES", 6)  # and afterwards as it was
    monkeypatch.setattr("sys.argv", ["rows.py", "100", way, "--passes", "2"])
    rows.main()
    assert f"100 rows {way}: " in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["training.csv"]
