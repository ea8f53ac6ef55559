"""report.html, as written and as headless Chromium shows it."""

import re

import pytest
from conftest import tiny_recipe

from pyimagesearch import config, page
from pyimagesearch.recipe import Phase, Split


@pytest.fixture(params=["logistic_regression", "fine_tune"])
def report_page(trained, request):
    """Train the tiny recipe; return the path of the page."""
    return trained(request.param) / page.NAME


def test_page_has_the_accuracy_every_class_every_picture_and_every_setting(report_page):
    text = report_page.read_text(encoding="utf-8")
    metrics = page.files.read_json(report_page.parent / "metrics.json")
    assert f"<dd>{metrics['accuracy']:.1%}</dd>" in text
    for name in metrics["classes"]:
        assert f"<td>{name}</td>" in text
    drawn = [*report_page.parent.glob("*.png"), report_page.parent.parent / "first_look.png"]
    if report_page.parent.name == "fine_tune":
        drawn.append(report_page.parent.parent / "augmentation.png")
        assert (report_page.parent / "history.png") in drawn
    for path in drawn:
        assert page.embedded(path) in text, path
    for word in ("keras", "float32", "image_size", "pooling"):
        assert word in text
    for word in ("learning_rate=0.001", "rotation_degrees=20", "units=8"):
        assert (word in text) == (report_page.parent.name == "fine_tune")


def test_settings_say_what_was_used_of_the_augmentation():
    head = Phase("head", augment=False)
    shown = dict(page.settings(tiny_recipe(phases=(head,)), "fine_tune"))
    assert "augment=False" in shown["phase head"]
    assert not {"augmentation", "views"} & set(shown)
    phases, split = (head, Phase("more", unfreeze_after="block4_pool")), Split(shuffle=False)
    shown = dict(page.settings(tiny_recipe(phases=phases, views=None, split=split), "fine_tune"))
    assert "augment=False" in shown["phase head"]
    assert "augment=True" in shown["phase more"]
    assert "rotation_degrees=20" in shown["augmentation"]
    assert "afresh" in shown["views"]
    assert "shuffle=False" in shown["split"]


def test_page_of_logistic_regression_shows_no_augmentation(tmp_path):
    shown = {path.name for _, paths in page.sections(tmp_path, []) for path in paths}
    assert "first_look.png" in shown
    assert "augmentation.png" not in shown


def test_page_loads_nothing_and_runs_nothing(report_page):
    text = report_page.read_text(encoding="utf-8")
    without_pictures = re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
    assert "http" not in without_pictures
    assert "<script" not in text


def test_names_of_classes_are_shown_and_not_run(tmp_path, monkeypatch, tiny, script):
    from conftest import make_flat_download

    tiny(classes=("<script>alert(1)</script>", "a & b", "c"))
    make_flat_download("Tiny")
    assert script("build_dataset")[0] == 0
    assert script("train", "--method", "fine_tune")[0] == 0
    text = (config.OUTPUT_DIR / "tiny" / "fine_tune" / page.NAME).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_a_phone_and_a_desk_and_every_picture_shows(report_page, chromium, width):
    tab = chromium.new_page(viewport={"width": width, "height": 800})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report_page.absolute().as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sizes = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert all(sizes)
    # Wider than a phone: so it was made to fit.
    assert max(sizes) > 390
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
