"""A plain port of the Food-5K tutorial's train.py: logistic regression on features in a CSV.

    python benchmarks/plain_regression.py OUT [--load-only]

OUT contains training.csv and evaluation.csv, as plain_port.py writes them. Like plain_port.py, the
port keeps what makes the original slow: it converts the CSV value by value in Python.
Source: PyImageSearch, "Transfer Learning with Keras and Deep Learning", 2019-05-20.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--load-only", action="store_true", help="stop after loading training.csv")
    arguments = parser.parse_args()
    start = time.perf_counter()
    train_x, train_y = load_split(arguments.out / "training.csv")
    result = {"load_seconds": time.perf_counter() - start}
    if not arguments.load_only:
        test_x, test_y = load_split(arguments.out / "evaluation.csv")
        start = time.perf_counter()
        model = LogisticRegression(solver="lbfgs")
        model.fit(train_x, train_y)
        predictions = model.predict(test_x)
        print(classification_report(test_y, predictions))
        result["fit_seconds"] = time.perf_counter() - start
        result["accuracy"] = float(np.mean(predictions == test_y))
    (arguments.out / "plain_regression.json").write_text(json.dumps(result, indent=2))


def load_split(path):
    """Return (float64 features, labels as text) of a CSV, parsed as the original does."""
    data, labels = [], []
    with open(path) as file:
        for line in file:
            row = line.strip().split(",")
            labels.append(row[0])
            data.append(np.array(row[1:], dtype="float"))
    return np.array(data), np.array(labels)


if __name__ == "__main__":
    main()
