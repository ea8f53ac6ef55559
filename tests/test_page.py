"""report.html: its content, and how headless Chromium shows it."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, make_flat_download, tiny_phase, tiny_recipe
from PIL import Image

from pyimagesearch import config, datasets, images
from pyimagesearch.recipe import Split
from pyimagesearch.report import evaluation, figures, markup, page
from pyimagesearch.support import files

OUTPUT = "output/tiny/logistic_regression"

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture(params=["logistic_regression", "fine_tune"])
def report_page(real_figures, trained, request):
    """Train the tiny recipe with one of the two methods and return the path of its page."""
    return trained(request.param) / page.NAME


def test_page_has_the_accuracy_every_class_every_picture_and_every_setting(report_page):
    text = report_page.read_text(encoding="utf-8")
    metrics = files.read_json(report_page.parent / "metrics.json")
    assert f">{page.percent(metrics['accuracy'])}</p>" in text
    # The accuracy after the last phase is that of the classifier, which is there already.
    folded = list(metrics.get("phases", {}))[:-1]
    assert re.findall(r"<summary[^>]*>After (\w+): accuracy", text) == folded
    low, high = map(page.percent, metrics["accuracy_interval"])
    assert f"interval {low} to {high}</p>" in text
    assert page.percent(metrics["baseline"]["accuracy"]) in text
    for name in ("ece", "ece_before", "ece_by_chance", "nll", "nll_before", "temperature"):
        digits = 2 if name == "temperature" else 3
        assert f"{metrics['calibration'][name]:.{digits}f}" in text
    for name in metrics["classes"]:
        assert f"<td>{name}</td>" in text
    drawn = [path for path in report_page.parent.glob("*.png")]
    sheets = [path for path in drawn if path.stem.endswith(tuple(page.PHOTO_SHEETS))]
    for path in drawn:
        assert (page.read_figure(path)["source"] in text) == (path not in sheets), path
    assert text.count('<ul class="photos"') == (
        len(sheets) + len(metrics["classes"]) + (report_page.parent.name == "fine_tune")
    )
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


@pytest.fixture
def rewritten(real_figures, trained):
    """Return a function that writes the page of logistic regression with a mistake; its text.

    Without its list of predictions, it is as a classifier that an earlier version trained.
    """
    folder = trained("logistic_regression")
    recipe = config.RECIPES["tiny"]
    splits = datasets.list_splits(config.DATASET_DIR, recipe, config.SPLITS)
    shutil.copy(folder / "confusion.png", folder / "mistakes.png")

    def write(**shown):
        files.write_json(folder / evaluation.SHOWN_FILE, shown)
        return page.write(folder, recipe, splits).read_text(encoding="utf-8")

    return write


def test_class_without_evaluation_photos_is_shown_as_not_judged(rewritten):
    metrics = files.read_json(Path(OUTPUT, "metrics.json"))
    metrics["classes"][CLASSES[0]]["support"] = 0
    files.write_json(Path(OUTPUT, "metrics.json"), metrics)
    text = rewritten()
    row = re.search(rf"<td>{CLASSES[0]}</td>.*?</tr>", text, re.DOTALL)[0]
    assert "not judged: it has no evaluation photos" in row
    assert "%" not in row
    assert text.count("not judged") == 1


def test_page_shows_a_mistake_as_a_photo_with_both_classes_and_its_file(rewritten):
    path = next(Path(config.DATASET_DIR, "tiny", config.TEST).rglob("*.jpg"))
    mistake = {"photo": str(path), "class": "a & b", "predicted": "<c>", "probability": 0.58}
    text = rewritten(mistakes=[mistake])
    photo = markup.thumbnail(figures.square(images.read_thumbnail(path)))
    _, item = text.split(f'<li title="{path.parent.name}/{path.name}"><img src="{photo}"')
    item, _ = item.split("</li>", 1)
    assert "<span>&lt;c&gt;</span> 58\N{NO-BREAK SPACE}%" in item
    assert "<span>is a &amp; b</span>" in item
    assert page.read_figure(Path(OUTPUT, "mistakes.png"))["source"] not in text


def test_page_shows_the_sheet_of_mistakes_if_the_photos_are_gone_or_were_not_listed(rewritten):
    gone = {"photo": "gone.jpg", "class": "a", "predicted": "b", "probability": 0.58}
    for shown in ({"mistakes": [gone]}, {}):
        assert page.read_figure(Path(OUTPUT, "mistakes.png"))["source"] in rewritten(**shown)


FACTS = {
    "photos": {"training": 1250, "validation": 83, "evaluation": 84},
    "seconds": 131.4,
    "processor": "AMD EPYC, 2 cores, Linux x86_64",
    "classes": {"a": {"support": 84}},
    "calibration": {"temperature": 1, "ece": 0.1, "nll": 0.7},
}


def test_top_of_the_page_has_photos_time_machine_and_calibration():
    assert page.facts(FACTS) == {
        "Photos": ["1,250 training, 83 validation, 84 evaluation"],
        "Time": ["2 min 11 s to train"],
        "Machine": ["AMD EPYC, 2 cores, Linux x86_64"],
        "Calibration": [
            "Not calibrated",
            "expected calibration error: 0.100",
            "negative log-likelihood: 0.700",
        ],
    }


def test_top_of_the_page_has_the_time_of_features_and_unlike_photos_if_they_are_known():
    unlike = {"photos": 6, "share": 6 / 84, "threshold": 0.5}
    found = page.facts({**FACTS, "feature_seconds": 20.2, "unlike_training_photos": unlike})
    assert found["Time"] == ["2 min 11 s to train", "20 s to extract the features"]
    assert found["Similarity"] == [
        "6 of 84 photos (7\N{NO-BREAK SPACE}%) are unlike any training photo"
    ]


def test_page_of_logistic_regression_shows_no_augmentation(report_page):
    has_augmentation = figures.AUGMENTATION_TITLE in report_page.read_text(encoding="utf-8")
    assert has_augmentation == (report_page.parent.name == "fine_tune")


def test_sections_are_in_order_and_only_earlier_phases_are_folded(tmp_path, built, tiny):
    for name in ("unfrozen_confusion", "warmup_confusion", "history", "unfrozen"):
        Image.effect_noise((8, 8), 50).save(tmp_path / f"{name}.png")
    recipe = tiny()
    splits = datasets.list_splits(config.DATASET_DIR, recipe, config.SPLITS)
    metrics = {**FACTS, "seed": 1, "phases": {"warmup": 0.5, "unfrozen": 0.75}}
    found = page.sections(tmp_path, recipe, splits, metrics)
    headings = [(heading.split(":")[0], is_folded) for heading, _, is_folded in found]
    assert headings == [
        ("Evaluation", False),
        ("Training curves", False),
        ("After warmup", True),
        ("Training photos", False),
    ]
    for (_, cards, _), name in zip(found, ("unfrozen_confusion", "history"), strict=False):
        assert (
            cards[0]["figures"][0]["source"] == page.read_figure(tmp_path / f"{name}.png")["source"]
        )


@pytest.mark.parametrize("count", range(1, 7))
def test_no_row_of_cards_is_half_empty(count):
    cards = page.fill_rows([{"is_wide": number == 0} for number in range(count)])
    assert sum(not card["is_wide"] for card in cards) % 2 == 0
    assert sum(card["is_wide"] for card in cards) <= 2


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
    # Photos of a row are side by side, all of one size.
    boxes = tab.evaluate(
        "[...document.querySelector('.photos').querySelectorAll('img')]"
        ".map(i => i.getBoundingClientRect()).map(b => [b.width, b.height, b.x].map(Math.round))"
    )
    assert len({width for width, _, _ in boxes}) == 1
    assert all(width == height for width, height, _ in boxes)
    assert len({x for *_, x in boxes}) >= min(2, len(boxes))
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
