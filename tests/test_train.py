"""train.py: what it writes, when it trains again, how it resumes, and its options."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, assert_one_error, leftovers, read, tiny_phase

from pyimagesearch import classifier, config, datasets, frozen, regression, training
from pyimagesearch.support import console, files, machine

pytestmark = pytest.mark.usefixtures("untraced")

BOTH = pytest.mark.parametrize("method", ["logistic_regression", "fine_tune"])
OUTPUT = Path("output/tiny")
# The cheapest fine-tuning that evaluates the stored outputs of the frozen layers.
PLAIN_PHASES = (
    tiny_phase("warmup", augment=False),
    tiny_phase("unfrozen", augment=False, unfreeze_after="block4_pool"),
)


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture
def train(script):
    """Return a function that trains successfully and returns (stdout, stderr)."""

    def run(method="fine_tune", *options):
        if method == "logistic_regression":
            assert script("extract_features")[0] == 0
        status, out, messages = script("train", "--method", method, *options)
        assert status == 0, messages
        return out, messages

    return run


@pytest.fixture
def begin(script, monkeypatch):
    """Return a function that interrupts fine-tuning at a function and returns the messages."""

    def run(*options, at=(training, "fit")):
        with monkeypatch.context() as patch:
            patch.setattr(*at, interrupt)
            status, _, messages = script("train", "--method", "fine_tune", *options)
        assert status == 130
        assert "Run the same command again to resume" in messages
        return messages

    return run


def evaluation_photos():
    return datasets.list_photos(config.DATASET_DIR, config.RECIPES["tiny"], config.TEST)


def history():
    """Return (phase, epoch, loss, ...) of each epoch, without its seconds."""
    with open(OUTPUT / "fine_tune" / "history.csv") as file:
        return [tuple(row.values())[:-1] for row in csv.DictReader(file)]


# What it writes


@BOTH
def test_metrics_say_how_good_the_classifier_is_and_what_made_it(trained, method):
    metrics = read(trained(method) / "metrics.json")
    assert 0 <= metrics["accuracy"] <= 1
    assert set(metrics["classes"]) == set(CLASSES)
    assert sum(row["support"] for row in metrics["classes"].values()) == 15
    assert metrics["photos"] == {"training": 21, "validation": 12, "evaluation": 15}
    assert metrics["precision"] == "float32"
    assert metrics["seed"] == config.SEED
    assert metrics["seconds"] > 0
    assert "keras" in metrics["versions"]
    if method == "fine_tune":
        assert list(metrics["phases"]) == ["warmup", "unfrozen"]
        assert metrics["phases"]["unfrozen"] == metrics["accuracy"]
    else:
        assert metrics["feature_seconds"] == read(OUTPUT / "features/made_from.json")["seconds"]


@BOTH
def test_folder_has_the_classifier_its_classes_its_report_and_its_pictures(trained, method):
    folder = trained(method)
    names = {path.name for path in folder.iterdir()}
    assert {"classes.json", "metrics.json", "report.txt", "report.html"} <= names
    assert read(folder / "classes.json") == list(CLASSES)
    assert "support" in (folder / "report.txt").read_text()
    if method == "fine_tune":
        assert {"model.keras", "history.csv"} <= names
        for phase in ("warmup", "unfrozen"):
            assert {f"{phase}.png", f"{phase}_confusion.png", f"{phase}_mistakes.png"} <= names
        epochs = [(phase, epoch) for phase, epoch, *_ in history()]
        assert epochs == [("warmup", "1"), ("warmup", "2"), ("unfrozen", "1")]
    else:
        assert {"model.skops", "backbone.keras", "confusion.png"} <= names
    assert not leftovers()


def test_report_is_printed_with_the_milestones_and_the_next_command(built, tiny, train):
    tiny(phases=PLAIN_PHASES[:1])
    out, messages = train()
    report = (OUTPUT / "fine_tune" / "report.txt").read_text()
    assert f"After warmup\n\n{out}" == f"{report}\n"
    milestones = ("loading network...", "warmup 1/1: loss", "warmup: accuracy", "saving model...")
    positions = [messages.index(f"[INFO] {milestone}") for milestone in milestones]
    assert positions == sorted(positions)
    photo = evaluation_photos().paths[0]
    command = f"python predict.py --recipe tiny --method fine_tune --image {photo}"
    assert messages.splitlines()[-1] == f"[INFO] next: {command}"


@BOTH
def test_augmentation_is_drawn_before_training_and_only_if_there_is_one(
    built, tiny, script, monkeypatch, method
):
    # Logistic regression ends even earlier: there are no features.
    monkeypatch.setattr(frozen, "compute", interrupt)

    def drawn_after(*phases):
        tiny(phases=phases)
        script("train", "--method", method)
        return {path.name for path in OUTPUT.glob("*.png")}

    augmentation = {"augmentation.png"} if method == "fine_tune" else set()
    assert drawn_after(tiny_phase("head", augment=False)) == set()
    assert drawn_after(tiny_phase("head")) == augmentation
    # The picture of an earlier training is deleted.
    assert drawn_after(tiny_phase("head", augment=False)) == set()


@BOTH
def test_classifier_trained_in_16_bits_is_evaluated_and_saved_in_float32(
    built, tiny, train, monkeypatch, method
):
    monkeypatch.setattr(config, "PRECISION", "mixed_bfloat16")
    tiny(phases=PLAIN_PHASES)
    train(method)
    metrics, loaded = read(OUTPUT / method / "metrics.json"), classifier.load(OUTPUT / method)
    assert metrics["precision"] == "mixed_bfloat16"
    policies = {layer.dtype_policy.name for layer in loaded.network.layers if layer.weights}
    assert policies == {"float32"}
    photos = evaluation_photos()
    predicted = loaded.predict(loaded.read(photos.paths)).argmax(axis=1)
    assert metrics["accuracy"] == pytest.approx(np.mean(predicted == photos.labels))


def test_fresh_augmentation_makes_the_same_files_and_stores_no_outputs(trained, tiny, train):
    folder = trained()
    # history.png joins the curves of several phases.
    expected = {path.name for path in folder.iterdir()} - {"history.png"}
    expected = {name for name in expected if not name.startswith("unfrozen")}
    shutil.rmtree(OUTPUT)
    tiny(views=None, phases=(tiny_phase("warmup"),))
    train()
    differing = expected ^ {path.name for path in folder.iterdir()}
    # These two are drawn only if there are such predictions.
    assert all(name.endswith(("mistakes.png", "uncertain.png")) for name in differing)
    assert not (OUTPUT / "cache").exists()


# When it trains again


@BOTH
def test_second_run_prints_the_report_and_changes_nothing(trained, train, method):
    folder = trained(method)
    paths = [path for path in OUTPUT.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in paths}
    out, messages = train(method)
    assert out.strip() == (folder / "report.txt").read_text().strip()
    assert f"output/tiny/{method} is up to date; --force trains again" in messages
    assert "next: python predict.py --recipe tiny" in messages
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_missing_page_is_written_without_training(trained, train):
    page = trained() / "report.html"
    page.unlink()
    _, messages = train()
    assert "is up to date" in messages
    assert page.is_file()


def test_another_recipe_is_trained_again_and_the_change_is_printed(trained, tiny, begin):
    trained()
    tiny(batch_size=5)
    assert "[INFO] training again: batch_size was 8 and is now 5\n" in begin()


def test_number_of_mistakes_in_the_report_trains_logistic_regression_again(trained, tiny, train):
    trained("logistic_regression")
    tiny(mistakes=4)
    _, messages = train("logistic_regression")
    assert "training again: mistakes was 3 and is now 4" in messages
    _, messages = train("logistic_regression")
    assert "is up to date" in messages


@BOTH
def test_calibration_that_is_switched_off_trains_again(trained, tiny, script, method, monkeypatch):
    trained(method)
    tiny(calibrate=False)
    for module in (regression, training):
        monkeypatch.setattr(module, "fit", interrupt)
    _, _, messages = script("train", "--method", method)
    assert "training again: calibrate was True and is now False" in messages


def test_result_of_an_earlier_version_is_reported_in_one_line_and_trained_again(trained, begin):
    path = trained() / "metrics.json"
    metrics = read(path)
    # The earlier version had no "format" and other parts.
    del metrics["made_from"]["format"]
    metrics["made_from"]["photo_stamps"] = {}
    files.write_json(path, metrics)
    lines = [line for line in begin().splitlines() if "training again" in line]
    assert lines == ["[INFO] training again: it was made by another version of this project"]


# After an interruption


def contents(folder):
    """Return {path in a folder: bytes} of its files."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_interrupted_training_leaves_every_file_of_the_classifier_as_it_was(trained, tiny, begin):
    folder = trained()
    expected = contents(folder)
    tiny(phases=PLAIN_PHASES)
    begin(at=(classifier, "save_network"))
    assert contents(folder) == expected
    assert (files.partial_path(folder) / "history.csv").is_file()


def results():
    """Return everything that the seed decides."""
    folder = OUTPUT / "fine_tune"
    network = classifier.load_network(folder / classifier.NETWORK_FILE)
    metrics = read(folder / "metrics.json")
    return {
        "stored": {path.name: path.read_bytes() for path in OUTPUT.glob("cache/*.npy")},
        "history": history(),
        "weights": [weight.tobytes() for weight in network.get_weights()],
        "metrics": (metrics["accuracy"], metrics["phases"], metrics["classes"]),
    }


def test_same_seed_gives_the_same_bits_after_an_interruption_before_saving(
    trained, tiny, train, begin
):
    trained()
    expected = results()
    assert expected["stored"]
    shutil.rmtree(OUTPUT)
    begin(at=(classifier, "save_network"))
    # These change only pictures, so nothing is trained again.
    tiny(mistakes=4, smoothing=0.5)
    _, messages = train()
    assert "resuming after unfrozen" in messages
    assert "warmup 1/2" not in messages
    assert results() == expected
    smoothed = {path.name for path in (OUTPUT / "fine_tune").glob("*_smoothed.png")}
    assert smoothed == {f"{name}_smoothed.png" for name in ("warmup", "unfrozen", "history")}
    names = {path.name for path in OUTPUT.rglob("*")}
    assert not names & {"checkpoint.npz", "seconds.json", "fine_tune.partial"}


def test_seconds_of_an_interrupted_computation_count(built, tiny, train, begin):
    tiny(phases=PLAIN_PHASES[:1])
    begin(at=(frozen, "compute"))
    seconds = OUTPUT / "fine_tune.partial" / "seconds.json"
    files.write_json(seconds, read(seconds) | {"seconds": 1000})
    _, messages = train()
    assert "resuming after" not in messages  # no epoch was finished
    assert read(OUTPUT / "fine_tune" / "metrics.json")["seconds"] > 1000
    assert not seconds.exists()


# The classifier before


# With fine-tuning, the next test has the same files in previous/.
@pytest.mark.parametrize(
    "method", ["logistic_regression", pytest.param("fine_tune", marks=pytest.mark.soak)]
)
def test_training_again_keeps_the_previous_classifier_and_its_report(trained, train, method):
    folder = trained(method)
    (folder / "exports").mkdir()
    expected = contents(folder)
    _, messages = train(method, "--force")
    previous = folder / "previous"
    assert contents(previous) == expected
    assert not (folder / "exports").exists()
    accuracy = read(folder / "metrics.json")["accuracy"]
    assert f"accuracy {accuracy:.3f} -> {accuracy:.3f} on the same 15 photos" in messages
    # Of several earlier ones, the last one is kept.
    train(method, "--force")
    assert not (previous / "previous").exists()


def test_printed_command_puts_the_previous_classifier_back_and_again_undoes_that(
    trained, tiny, train, script
):
    folder = trained()
    (folder / "exports").mkdir()
    first = contents(folder)
    tiny(phases=PLAIN_PHASES)
    _, messages = train()
    second = (folder / "model.keras").read_bytes()
    [command] = [
        line.split(" it back with: ")[1] for line in messages.splitlines() if "back" in line
    ]
    assert command.startswith("python train.py ")
    status, _, messages = script("train", *command.split()[2:])
    assert status == 0
    assert {path: (folder / path).read_bytes() for path in first} == first
    assert (folder / "exports").is_dir()
    assert "[WARN] train.py would train it again: phases[0].epochs was 2 and is now 1" in messages
    assert (folder / "previous" / "model.keras").read_bytes() == second
    _, _, messages = script("train", *command.split()[2:])
    assert (folder / "model.keras").read_bytes() == second
    assert "would train it again" not in messages
    assert "is up to date" in train()[1]


def test_restoring_without_a_previous_classifier_is_one_error(trained, script):
    expected = contents(trained())
    status, _, messages = script("train", "--restore-previous")
    assert status == 2
    assert_one_error(messages, "output/tiny/fine_tune/previous has no classifier to put back")
    assert contents(OUTPUT / "fine_tune") == expected


def test_training_that_diverges_saves_nothing_and_names_the_learning_rate(
    trained, tiny, begin, script
):
    expected = contents(trained())
    warmup = tiny_phase("warmup")
    settings = {"unfreeze_after": "block4_pool", "optimizer": "Adam", "momentum": 0}
    tiny(phases=(warmup, tiny_phase("unfrozen", learning_rate=1000.0, epochs=9, **settings)))
    status, _, messages = script("train")
    assert status == 2
    remedy = "learning_rate=1000.0 is too high for Adam here; try 1"
    assert_one_error(messages, "unfrozen diverges: after epoch 1,", remedy)
    assert contents(OUTPUT / "fine_tune") == expected
    assert not (OUTPUT / "fine_tune.partial" / "checkpoint.npz").exists()
    tiny(phases=(warmup, tiny_phase("unfrozen", **settings)))
    assert "resuming after" not in begin()


# Commands that come too early


@pytest.mark.parametrize("name", ["extract_features", "train"])
def test_scripts_before_build_dataset_name_its_command(tiny, script, name):
    status, _, messages = script(name)
    assert status == 2
    assert_one_error(messages, "is missing", "python build_dataset.py --recipe tiny")


def test_logistic_regression_before_extract_features_names_its_command(built, script):
    status, _, messages = script("train", "--method", "logistic_regression")
    assert status == 2
    command = "python extract_features.py --recipe tiny"
    assert_one_error(messages, "training.csv is missing", command)


# Options and settings


def test_accuracy_below_the_required_one_is_status_1(trained, script):
    path = trained() / "metrics.json"
    files.write_json(path, read(path) | {"accuracy": 0.5})
    command = ("train", "--method", "fine_tune", "--assert-accuracy-at-least")
    status, out, messages = script(*command, 0.51)
    assert status == 1
    assert "support" in out
    assert_one_error(messages, "accuracy is 0.5", "less than 0.51")
    assert script(*command, 0.5)[0] == 0


def test_required_accuracy_is_a_fraction_and_no_percentage(tiny, script):
    status, _, messages = script("train", "--assert-accuracy-at-least", 85)
    assert status == 2
    assert_one_error(messages, "--assert-accuracy-at-least", "85", "0.85")


@pytest.mark.parametrize("options", [("--tensorboard",), ("--export", "onnx")])
def test_missing_optional_package_is_reported_before_training(built, script, monkeypatch, options):
    find_spec, hidden = console.importlib.util.find_spec, ("tensorboard", "tf2onnx")
    monkeypatch.setattr(
        console.importlib.util,
        "find_spec",
        lambda name, *rest: None if name in hidden else find_spec(name, *rest),
    )
    status, _, messages = script("train", *options)
    assert status == 2
    assert_one_error(messages, options[-1], "pip install -r requirements-extras.txt")
    assert not OUTPUT.exists()


def test_tensorboard_finds_every_phase_of_this_training_only(built, tiny, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = OUTPUT / "fine_tune" / "tensorboard"
    (logs / "warmup").mkdir(parents=True)
    (logs / "warmup" / "events of an earlier training").touch()
    tiny(phases=PLAIN_PHASES)
    train("fine_tune", "--tensorboard")
    assert not (logs / "warmup" / "events of an earlier training").exists()
    for phase in PLAIN_PHASES:
        events = EventAccumulator(str(logs / phase.name / "validation"))
        events.Reload()
        assert len(events.Tensors("epoch_accuracy")) == phase.epochs


def test_tensorboard_logs_nothing_of_logistic_regression_and_says_so(trained, train):
    folder = trained("logistic_regression")
    _, messages = train("logistic_regression", "--tensorboard", "--force")
    assert "[WARN] --tensorboard logs nothing: logistic regression has no epochs" in messages
    assert not (folder / "tensorboard").exists()


def test_logistic_regression_is_fitted_in_blocks_if_memory_is_short(trained, train, monkeypatch):
    folder = trained("logistic_regression")
    expected = read(folder / "metrics.json")
    monkeypatch.setattr(machine, "available_memory", lambda: 1000)
    _, messages = train("logistic_regression", "--force")
    assert "21 rows of 64 features need" in messages
    assert "fitting in blocks of 512 rows" in messages
    metrics = read(folder / "metrics.json")
    assert (metrics["accuracy"], metrics["classes"]) == (expected["accuracy"], expected["classes"])
    assert not list(OUTPUT.rglob("*.npy"))
    assert not leftovers()
