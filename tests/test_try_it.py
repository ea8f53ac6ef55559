"""tools/try_it.py serves a page that predicts the photos dropped on it."""

import base64
import io
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CLASSES, ROOT, assert_one_error, make_photo
from PIL import Image

from pyimagesearch import classifier, config
from pyimagesearch.support import files

# Runs the tool on the tiny recipe, in a new process.
SERVE = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from conftest import tiny_recipe
from pyimagesearch import config
from pyimagesearch.support import console
from tools import try_it
config.RECIPES = {{"tiny": tiny_recipe()}}
console.run(lambda: try_it.main(["--recipe", "tiny", "--port", "{port}", "--no-browser"]))
"""

# A classifier from somebody else may have any class name.
HOSTILE = "<img src=x onerror=document.title='ran'>"


@pytest.fixture
def try_it(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from tools import try_it

    return try_it


@pytest.fixture
def address(trained):
    """Serve the tiny recipe's classifier with hostile class names. Return the page's address."""
    files.write_json(
        trained() / classifier.CLASSES_FILE, [f'{name}">{HOSTILE}' for name in CLASSES]
    )
    port = free_port()
    with open("served.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(root=str(ROOT), tests=f"{ROOT}/tests", port=port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            # NiceGUI runs in a test mode if a variable of pytest is in the environment.
            env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
        )
    wait_for(port, process)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def free_port():
    """Return the number of a port that no program uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    """Wait up to a minute until a process accepts connections on a port."""
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None, Path("served.log").read_text()
            time.sleep(0.5)
    pytest.fail(Path("served.log").read_text())


@pytest.mark.soak
def test_page_predicts_a_dropped_photo_as_predict_does(address, chromium, script):
    photo = next((config.DATASET_DIR / "tiny" / "evaluation").rglob("*.jpg"))
    _, out, _ = script("predict", "--image", photo)
    class_name, probability = re.match(r".*?  (.+?): ([<>\d ]+%)", out).groups()

    # The width of a phone.
    tab = chromium.new_page(viewport={"width": 390, "height": 800})
    tab.goto(address)
    tab.get_by_text('Classes: zebra">').wait_for()
    tab.set_input_files("input[type=file]", photo)
    tab.get_by_text(f"{photo.name}: {class_name}").wait_for()
    assert tab.get_by_text(probability, exact=True).count() >= 1
    assert tab.locator(".q-linear-progress").count() == 3

    # The photo and its heat map are there, and no HTML of a class name has become part of the page.
    widths = tab.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 2
    assert all(widths)
    assert tab.title() == "tiny: try it"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390

    Path("text.jpg").write_text("not a photo")
    tab.set_input_files("input[type=file]", "text.jpg")
    tab.get_by_text("text.jpg cannot be read as a photo").wait_for()
    assert tab.locator(".q-linear-progress").count() == 0

    # The server listens on 127.0.0.1 only, not on every address of the machine.
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", int(address.rsplit(":", 1)[1])))


def test_prediction_comes_with_two_pictures_small_enough_for_a_page(try_it, trained):
    from pyimagesearch.report import heatmaps

    loaded = classifier.load(trained())
    make_photo(Path("photo.png"), 0, 0, size=(1600, 400))
    heatmap_function = heatmaps.heatmap_function(loaded.network)
    data = Path("photo.png").read_bytes()
    top_classes, unlike, *urls = try_it.predict(loaded, heatmap_function, data)
    assert unlike in (True, False)
    assert {name for name, _ in top_classes} == set(CLASSES)
    assert sum(probability for _, probability in top_classes) == pytest.approx(1, abs=1e-5)
    for url in urls:
        prefix, encoded = url.split(",")
        assert prefix == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert picture.size == (800, 200)
    assert urls[0] != urls[1]


def test_port_in_use_is_one_error(trained, script):
    trained()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, _, err = script("tools.try_it", "--port", port)
    assert status == 2
    assert_one_error(err, str(port), "--port")


def test_number_that_is_no_port_is_one_error(trained, script):
    trained()
    status, _, err = script("tools.try_it", "--port", 70_000)
    assert status == 2
    assert_one_error(err, "70000", "--port")


def test_without_a_classifier_the_error_names_the_command(tiny, script):
    status, _, err = script("tools.try_it")
    assert status == 2
    assert_one_error(err, "python train.py --recipe tiny")
