"""kill -9 at random moments of every script: the next run resumes and ends with the same files."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest
from conftest import ROOT, make_flat_download, put_thin_vgg16, read, tiny_recipe

from pyimagesearch import config
from pyimagesearch.support import files

if sys.platform == "win32":
    pytest.skip("Windows has neither kill -9 nor a server that forks", allow_module_level=True)

IN_A_ROW = 5  # kills before a run may finish
# A process that imports some modules once and is copied for each run.
SERVER = multiprocessing.get_context("forkserver")
HEAVY_PACKAGES = ["keras", "sklearn.linear_model", "matplotlib.pyplot", "polars"]


def run_script(folder, weights, name, arguments):
    """Run a script on the tiny recipe in a folder; the child's main function."""
    import importlib

    from pyimagesearch.support import console

    sys.path[:0] = [str(ROOT)]
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    config.RECIPES, config.RECIPE = {"tiny": tiny_recipe()}, "tiny"
    config.PRECISION, config.WEIGHTS = "float32", weights
    if weights is not None:
        put_thin_vgg16()
    main = importlib.import_module(name).main
    console.run(lambda: main(arguments))


def start(folder, weights, name, *arguments):
    process = SERVER.Process(target=run_script, args=(folder, weights, name, arguments))
    process.start()
    return process


def complete(folder, weights, name, *arguments):
    """Run a script to its end; return the seconds it took."""
    began = time.monotonic()
    process = start(folder, weights, name, *arguments)
    process.join(120)
    assert process.exitcode == 0, (folder / "log.txt").read_text()
    return time.monotonic() - began


def kill_at_random(folder, weights, seconds, rng, name, *arguments):
    """Run a script and kill it at a random moment; return how long it took if it ended before."""
    began = time.monotonic()
    process = start(folder, weights, name, *arguments)
    process.join(rng.uniform(0, seconds))
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return None if process.exitcode == -signal.SIGKILL else time.monotonic() - began


def contents(folder):
    """Return {path: what has to be the same} of everything that a script has written."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): content(path)
        for path in paths
        if path.name not in ("log.txt", files.LOCK)
    }


def content(path):
    """Return what has to be the same in a file: its bytes, or its numbers without the times."""
    if path.suffix == ".keras":
        # The archive contains the date.
        import keras

        network = keras.saving.load_model(path, compile=False)
        return [weight.tobytes() for weight in network.get_weights()]
    if path.suffix == ".skops":
        import skops.io

        return skops.io.load(path, trusted=[]).coef_.tobytes()
    if path.name == "history.csv":
        return [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        values = read(path)
        times = ("seconds", "feature_seconds", "made_from")
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if name not in times}
        return values
    return "a picture" if path.suffix in (".html", ".png") else path.read_bytes()


BUILD, EXTRACT = ("build_dataset",), ("extract_features",)
FINE_TUNE = ("train", "--method", "fine_tune")
# {name: (command that is killed, how often, the commands whose files it needs)}
COMMANDS = {
    "build": (BUILD, 20, []),
    "extract": (EXTRACT, 20, [BUILD]),
    "fine_tune": (FINE_TUNE, 10, [BUILD]),
    "regression": (("train", "--method", "logistic_regression"), 5, [BUILD, EXTRACT]),
    "export": ((*FINE_TUNE, "--export", "litert"), 5, [BUILD, FINE_TUNE]),
}


@pytest.mark.soak
def test_build_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    SERVER.set_forkserver_preload(["conftest"])
    compare_with_killed_runs(tmp_path, None, BUILD, kills=2, before=[])


@pytest.mark.soak
@pytest.mark.parametrize("name", COMMANDS)
def test_script_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path, random_weights, name):
    SERVER.set_forkserver_preload(["conftest", *HEAVY_PACKAGES])
    compare_with_killed_runs(tmp_path, random_weights, *COMMANDS[name])


def compare_with_killed_runs(tmp_path, weights, command, kills, before):
    """Check that killed runs of a script end with the files of a run that was not killed.

    Args:
        tmp_path: a folder for the runs.
        weights: the path of the backbone's weights; None: the script does not need a network.
        command: a script and its arguments.
        kills: the least number of kills.
        before: the commands whose files it needs.
    """
    rng = random.Random(str(command))
    prepared, whole = tmp_path / "prepared", tmp_path / "whole"
    make_flat_download(prepared / "Tiny")
    for step in before:
        complete(prepared, weights, *step)
    shutil.copytree(prepared, whole)
    complete(whole, weights, *command)  # the first run also fills caches
    expected = contents(whole)
    force = () if "--export" in command else ("--force",)
    seconds = complete(whole, weights, *command, *force)
    killed = 0
    while killed < kills:
        folder = tmp_path / "killed"
        shutil.copytree(prepared, folder)
        for number in range(IN_A_ROW):
            took = kill_at_random(folder, weights, seconds, rng, *command)
            if took is None:
                killed += 1
            elif number == 0:
                seconds = took  # the machine has become faster
        complete(folder, weights, *command)
        found = contents(folder)
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            assert found[path] == value, path
        shutil.rmtree(folder)
