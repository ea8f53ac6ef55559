"""benchmarks/ladder.py trains each way on more and more photos, and says which one to take."""

import importlib

import numpy as np
import pytest
from conftest import ROOT, read

from pyimagesearch import config
from pyimagesearch.recipe import Regression


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("ladder")


def result(validation, minutes):
    return {"validation": validation, "evaluation": 0.5, "minutes": minutes}


def test_choices_of_photos_contain_the_smaller_ones_and_end_with_all(ladder):
    labels = np.array([0] * 9 + [1] * 4)
    choices = ladder.choose_photos(labels, [20, 5, 2, 5])
    assert list(choices) == [2, 5, 9]
    assert set(choices[2]) < set(choices[5]) < set(choices[9])
    assert list(choices[9]) == list(range(13))
    assert np.bincount(labels[choices[2]]).tolist() == [2, 2]
    assert np.bincount(labels[choices[5]]).tolist() == [5, 4]


@pytest.mark.parametrize(
    ("slow", "count", "taken"),
    [
        (
            0.74,
            100,
            "take averages: 0.720 on the validation photos; fine_tune has 0.740, which may",
        ),
        (0.74, 10_000, "take fine_tune: 0.740 on the validation photos"),
        (0.60, 100, "take averages: 0.720 on the validation photos"),
    ],
)
def test_advice_is_the_fast_way_unless_a_slower_one_is_clearly_better(ladder, slow, count, taken):
    results = {
        "tutorial": {"30": result(0.71, 1.0)},
        "averages": {"10": result(0.62, 0.5), "30": result(0.72, 1.1)},
        "fine_tune": {"30": result(slow, 20)},
    }
    advice = ladder.advice(results, count)
    assert advice.startswith(taken)
    rise = "30 instead of 10 photos of each class changed that by +0.100"
    assert (rise in advice) == ("take averages" in taken)


@pytest.mark.parametrize("way", ["tutorial", "averages", "better"])
def test_C_is_not_chosen_on_the_evaluation_photos(ladder, tiny, way):
    recipe = ladder.recipe_of(way, tiny(validate_on_evaluation=True))
    candidates = ladder.recipe_of(way, tiny()).regression.candidates
    assert recipe.regression.candidates == (candidates[len(candidates) // 2],)


def test_better_way_has_the_head_and_the_phases_of_food11_better(ladder, tiny):
    recipe, better = ladder.recipe_of("better", tiny()), config.FOOD11_BETTER
    assert (recipe.head, recipe.regression) == (better.head, better.regression)
    assert recipe.phases == better.phases
    assert recipe.augmentation == tiny().augmentation


@pytest.mark.soak
def test_each_way_is_trained_on_each_number_of_photos(ladder, built, tiny, script):
    tiny(regression=Regression(C=3))
    status, out, err = script("ladder", "--photos", "2")
    assert status == 0
    assert "take " in err
    results = read("output/tiny/ladder/ladder.json")
    assert list(results) == ["tutorial", "averages", "fine_tune", "better"]
    for way, by_count in results.items():
        assert len(by_count) == 2
        for photos, row in by_count.items():
            assert f"{way:<12}{photos:>21}{row['validation']:>12.3f}" in out
    assert {row["C"] for row in results["tutorial"].values()} == {1}
    _, _, err = script("ladder", "--photos", "2", "--ways", "fine_tune")
    assert err.count("is up to date") == 2
