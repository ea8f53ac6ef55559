"""The page of tools/try_it.py, driven in headless Chromium."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CLASSES, ROOT, assert_one_error

from pyimagesearch import artifacts, config, files

# Runs the tool on the tiny recipe of the test, in a process of its own.
SERVE = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from conftest import tiny_recipe
from pyimagesearch import config, console
from tools import try_it
config.RECIPES = {{"tiny": tiny_recipe()}}
console.run(lambda: try_it.main(["--recipe", "tiny", "--port", "{port}", "--no-browser"]))
"""


# A stranger's classifier may bring any name for a class.
HOSTILE = "<img src=x onerror=document.title='ran'>"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def address(trained):
    """Serve the tiny recipe's classifier under hostile names; return the page's address."""
    classes = [f'{name}">{HOSTILE}' for name in CLASSES]
    files.write_json(trained() / artifacts.CLASSES, classes)
    port = free_port()
    code = SERVE.format(root=str(ROOT), tests=str(ROOT / "tests"), port=port)
    with open("served.log", "w") as log:
        # NiceGUI behaves otherwise where it finds pytest's name in the environment.
        environment = {k: v for k, v in os.environ.items() if "PYTEST" not in k}
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None, Path("served.log").read_text()
            time.sleep(0.5)
    yield url
    process.terminate()
    process.wait(20)


def test_a_dropped_photo_is_answered_with_bars_and_an_explanation(address, chromium, script):
    photo = next((config.DATASET_DIR / "tiny" / "evaluation").rglob("*.jpg"))
    _, out, _ = script("predict", "--image", photo)
    label, share = re.match(r".*?  (.+?): ([\d.]+%)", out).groups()

    tab = chromium.new_page(viewport={"width": 390, "height": 800})
    tab.goto(address)
    tab.get_by_text('It knows: zebra">').wait_for()
    tab.set_input_files("input[type=file]", photo)
    tab.get_by_text(f"{photo.name}: {label}").wait_for()
    assert tab.get_by_text(share, exact=True).count() == 1
    assert tab.locator(".q-linear-progress").count() == 3
    sizes = tab.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(sizes) == 2
    assert all(sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.title() == "tiny: try it"

    # The page answers to this machine only, not under its name in a network.
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", int(address.rsplit(":", 1)[1])))

    Path("text.jpg").write_text("no picture")
    tab.set_input_files("input[type=file]", "text.jpg")
    tab.get_by_text("text.jpg cannot be read as a photo").wait_for()


def test_a_port_that_is_taken_is_one_line(trained, script):
    trained()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, _, said = script("tools.try_it", "--port", port)
    assert status == 2
    assert_one_error(said, str(port), "--port")


def test_before_training_names_the_command(tiny, script):
    status, _, said = script("tools.try_it")
    assert status == 2
    assert_one_error(said, "no finished classifier", "python train.py --recipe tiny")
