"""kill -9 at random moments of every script: the next run resumes and ends with the same files."""

import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest
from conftest import ROOT, make_flat_download, put_thin_vgg16, read, tiny_recipe

from pyimagesearch import config
from pyimagesearch.support import files

IN_A_ROW = 5  # kills before a run may finish
# A process that has imported TensorFlow once and is copied for each run.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["keras", "sklearn.linear_model", "matplotlib.pyplot", "polars"])


def run_script(folder, weights, name, arguments):
    """Run a script on the tiny recipe in a folder; the child's main function."""
    import importlib
    import sys

    from pyimagesearch.support import console

    sys.path[:0] = [str(ROOT)]
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    config.RECIPES, config.RECIPE = {"tiny": tiny_recipe()}, "tiny"
    config.PRECISION, config.WEIGHTS = "float32", weights
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
    """Return what a script leaves that has to be the same: {path: bytes, or numbers}."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in ("log.txt", files.LOCK):
            continue
        if path.suffix == ".keras":
            # The archive holds the date; its numbers count.
            import keras

            network = keras.saving.load_model(path, compile=False)
            found[name] = [weight.tobytes() for weight in network.get_weights()]
        elif path.suffix == ".skops":
            import skops.io

            found[name] = skops.io.load(path, trusted=[]).coef_.tobytes()
        elif path.name == "history.csv":
            found[name] = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            timed = ("seconds", "feature_seconds", "made_from")
            numbers = read(path)
            found[name] = (
                {k: v for k, v in numbers.items() if k not in timed}
                if isinstance(numbers, dict)
                else numbers
            )
        elif path.suffix not in (".html", ".png"):
            found[name] = path.read_bytes()
        else:
            found[name] = "a picture"
    return found


BUILD, EXTRACT = ("build_dataset",), ("extract_features",)
FINE_TUNE = ("train", "--method", "fine_tune")
# What is killed, how often, and what was run before it.
COMMANDS = {
    "build": (BUILD, 20, []),
    "extract": (EXTRACT, 20, [BUILD]),
    "fine_tune": (FINE_TUNE, 10, [BUILD]),
    "regression": (("train", "--method", "logistic_regression"), 5, [BUILD, EXTRACT]),
    "export": ((*FINE_TUNE, "--export", "litert"), 5, [BUILD, FINE_TUNE]),
}


@pytest.mark.soak
@pytest.mark.parametrize("what", COMMANDS)
def test_killed_at_random_moments_a_script_ends_as_if_it_had_not_been(
    tmp_path, random_weights, what
):
    rng = random.Random(what)
    command, wanted, before = COMMANDS[what]
    start_from, whole = tmp_path / "start", tmp_path / "whole"
    make_flat_download(start_from / "Tiny")
    for step in before:
        complete(start_from, random_weights, *step)
    shutil.copytree(start_from, whole)
    complete(whole, random_weights, *command)  # the first run also fills caches
    expected = contents(whole)
    force = () if what == "export" else ("--force",)
    seconds = complete(whole, random_weights, *command, *force)
    kills, folders = 0, 0
    while kills < wanted:
        folders += 1
        folder = tmp_path / f"killed_{folders}"
        shutil.copytree(start_from, folder)
        for number in range(IN_A_ROW):
            took = kill_at_random(folder, random_weights, seconds, rng, *command)
            if took is None:
                kills += 1
            elif number == 0:
                seconds = took  # the machine has become faster
        complete(folder, random_weights, *command)
        made = contents(folder)
        assert made.keys() == expected.keys()
        for path, content in expected.items():
            assert made[path] == content, path
        shutil.rmtree(folder)
