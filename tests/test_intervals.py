"""The 95 % interval of an accuracy, and the accuracy of always predicting one class."""

import pytest

from pyimagesearch.report import intervals

pytestmark = pytest.mark.usefixtures("untraced")


# R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven
# methods", 1998, table I, method 3.
@pytest.mark.parametrize(
    ("correct", "count", "expected"),
    [
        (81, 263, [0.2553, 0.3662]),
        (15, 148, [0.0624, 0.1605]),
        (0, 20, [0, 0.1611]),
        (1, 29, [0.0061, 0.1718]),
    ],
)
def test_interval_is_the_published_one_of_wilson(correct, count, expected):
    assert intervals.interval(correct / count, count) == pytest.approx(expected, abs=6e-5)


def test_interval_of_a_perfect_accuracy_ends_at_1_and_is_wide_with_few_photos():
    low, high = intervals.interval(1.0, 4)
    assert low < 0.6
    assert high == pytest.approx(1)


@pytest.mark.parametrize(
    ("correct", "count", "expected"),
    [(62, 84, "0.64 to 0.82"), (499, 600, "0.80 to 0.86"), (1000, 1000, "0.996 to 1.000")],
)
def test_interval_has_three_digits_only_where_two_would_hide_its_width(correct, count, expected):
    assert intervals.interval_text(correct / count, count) == expected


def test_baseline_is_the_share_of_the_most_frequent_class():
    class_metrics = {
        "apple": {"support": 3},
        "Noodles/Pasta": {"support": 5},
        "zebra": {"support": 2},
    }
    assert intervals.baseline(class_metrics) == {"class": "Noodles/Pasta", "accuracy": 0.5}


def test_accuracy_text_has_the_interval_and_the_baseline():
    metrics = {
        "accuracy": 62 / 84,
        "classes": {"Fish": {"support": 23}, "Fruit": {"support": 61}},
    }
    assert intervals.accuracy_text(metrics) == (
        'accuracy 0.738 on 84 photos (95 % interval 0.64 to 0.82; always predicting "Fruit": 0.73)'
    )
