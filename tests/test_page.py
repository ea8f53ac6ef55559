"""report.html: its content, and how headless Chromium shows it."""

import re

import pytest
from conftest import make_flat_download, tiny_phase, tiny_recipe

from pyimagesearch import config
from pyimagesearch.recipe import Split
from pyimagesearch.report import page
from pyimagesearch.support import files

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture(params=["logistic_regression", "fine_tune"])
def report_page(real_figures, trained, request):
    """Train the tiny recipe with one of the two methods and return the path of its page."""
    return trained(request.param) / page.NAME


def test_page_has_the_accuracy_every_class_every_picture_and_every_setting(report_page):
    text = report_page.read_text(encoding="utf-8")
    metrics = files.read_json(report_page.parent / "metrics.json")
    assert f"<dd>{metrics['accuracy']:.1%}</dd>" in text
    # The accuracy after the last phase is that of the classifier, which is there already.
    shown = list(metrics.get("phases", {}))[:-1]
    assert re.findall(r"<dt>accuracy after (\w+)</dt>", text) == shown
    low, high = metrics["accuracy_interval"]
    assert f"{low:.1%} to {high:.1%}</dd>" in text
    assert f"<dd>{metrics['baseline']['accuracy']:.1%}</dd>" in text
    for name in ("ece", "ece_before", "nll", "nll_before", "temperature"):
        digits = 2 if name == "temperature" else 3
        assert f"{metrics['calibration'][name]:.{digits}f}" in text
    for name in metrics["classes"]:
        assert f"<td>{name}</td>" in text
    drawn = [*report_page.parent.glob("*.png"), report_page.parent.parent / "first_look.png"]
    if report_page.parent.name == "fine_tune":
        drawn.append(report_page.parent.parent / "augmentation.png")
        assert (report_page.parent / "history.png") in drawn
    for path in drawn:
        assert page.embed(path) in text, path
    for word in ("keras", "float32", "image_size", "pooling"):
        assert word in text
    for word in ("learning_rate=0.001", "rotation_degrees=20", "units=8"):
        assert (word in text) == (report_page.parent.name == "fine_tune")


def test_settings_leave_augmentation_out_when_no_phase_uses_it():
    recipe = tiny_recipe(phases=(tiny_phase("head", augment=False),))
    shown = dict(page.settings(recipe, "fine_tune"))
    assert "augment=False" in shown["phase head"]
    assert not {"augmentation", "views"} & set(shown)


def test_settings_show_augmentation_when_any_phase_uses_it():
    phases = (tiny_phase("head", augment=False), tiny_phase("more", unfreeze_after="block4_pool"))
    recipe = tiny_recipe(phases=phases, views=None, split=Split(shuffle=False))
    shown = dict(page.settings(recipe, "fine_tune"))
    assert "augment=False" in shown["phase head"]
    assert "augment=True" in shown["phase more"]
    assert "rotation_degrees=20" in shown["augmentation"]
    assert "new augmentation in every epoch" in shown["views"]
    assert "shuffle=False" in shown["split"]


def test_page_of_logistic_regression_shows_no_augmentation(tmp_path):
    shown = {path.name for _, paths in page.sections(tmp_path, []) for path in paths}
    assert "first_look.png" in shown
    assert "augmentation.png" not in shown


def test_page_starts_with_the_evaluation_after_the_last_phase(tmp_path):
    sections = page.sections(tmp_path, ["warmup", "unfrozen"])
    headings = [heading for heading, _ in sections]
    assert headings == [
        "Evaluation",
        "Training curves",
        "Evaluation after warmup",
        "Training photos",
    ]
    assert [path.name for path in sections[0][1]] == [
        "unfrozen_confusion.png",
        "unfrozen_mistakes.png",
        "unfrozen_uncertain.png",
        "unfrozen_reliability.png",
    ]


@pytest.mark.parametrize(
    "name", ["confusion", "a_mistakes", "reliability", "a_smoothed", "unfrozen"]
)
def test_every_picture_has_a_caption_of_its_own(tmp_path, name):
    captions = [page.caption_of(tmp_path / f"{stem}.png") for stem in (name, "history")]
    assert captions[0].endswith(".")
    assert captions[0] != captions[1]


def test_page_has_no_script_and_no_link_to_another_file(report_page):
    text = report_page.read_text(encoding="utf-8")
    without_pictures = re.sub(r"data:image/webp;base64,[\w+/=]+", "", text)
    assert "http" not in without_pictures
    assert "<script" not in text


def test_class_names_are_escaped(tiny, script):
    tiny(classes=("<script>alert(1)</script>", "a & b", "c"))
    make_flat_download("Tiny")
    assert script("build_dataset")[0] == 0
    assert script("train", "--method", "fine_tune")[0] == 0
    text = (config.OUTPUT_DIR / "tiny" / "fine_tune" / page.NAME).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_a_phone_and_a_desktop_and_shows_every_picture(report_page, chromium, width):
    tab = chromium.new_page(viewport={"width": width, "height": 800})
    requests = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(report_page.absolute().as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    picture_widths = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert all(picture_widths)
    # Some pictures are wider than the phone, so the page has scaled them.
    assert max(picture_widths) > 390
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
