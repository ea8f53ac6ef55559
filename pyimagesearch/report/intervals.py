"""How sure an accuracy is: its 95 % interval, and the accuracy of always predicting one class."""


def interval(accuracy, count):
    """Return the 95 % interval of an accuracy that was measured on `count` photos: [low, high].

    It contains the accuracy on many more photos of the same kind in about 95 of 100 such
    measurements.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    1927.
    """
    # Importing scipy.stats is slow, and a prediction of a single photo does not need it.
    from scipy.stats import binomtest

    bounds = binomtest(round(accuracy * count), count).proportion_ci(method="wilson")
    return [float(bounds.low), float(bounds.high)]


def interval_text(accuracy, count):
    """Return the interval as text: 0.63 to 0.82. A narrow one has three digits."""
    low, high = interval(accuracy, count)
    digits = 2 if high - low > 0.02 else 3
    return f"{low:.{digits}f} to {high:.{digits}f}"


def baseline(class_metrics):
    """Return {"class", "accuracy"} of always predicting the most frequent class.

    `class_metrics` is {class name: {"support": number of photos, ...}}.
    """
    counts = {name: row["support"] for name, row in class_metrics.items()}
    name = max(counts, key=counts.get)
    return {"class": name, "accuracy": counts[name] / sum(counts.values())}


def accuracy_text(metrics):
    """Return the accuracy of evaluation.compute_metrics as text, with what it is compared to."""
    count = sum(row["support"] for row in metrics["classes"].values())
    always = baseline(metrics["classes"])
    return (
        f"accuracy {metrics['accuracy']:.3f} on {count:,} photos "
        f"(95 % interval {interval_text(metrics['accuracy'], count)}; "
        f'always predicting "{always["class"]}": {always["accuracy"]:.2f})'
    )
