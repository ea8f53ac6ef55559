"""Logistic regression on as many rows as you like: how long it takes, and in how much memory.

    python benchmarks/rows.py 30000 at_once
    python benchmarks/rows.py 300000 in_pieces --passes 1

The rows are those of output/sample/features/training.csv, again and again, so the time counts and
the accuracy does not. 300,000 rows are 18.5 GB on the disk; they are deleted afterwards.
"""

import argparse
import itertools
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from race import peak_memory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyimagesearch import config, console, features, images, regression  # noqa: E402

WAYS = {"at_once": regression.fit_at_once, "in_pieces": regression.fit_in_pieces}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=int)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--passes", type=int, default=regression.PASSES)
    arguments = parser.parse_args()
    regression.PASSES = arguments.passes
    recipe = config.RECIPES["sample"]
    source = ROOT / config.OUTPUT_DIR / recipe.name / "features" / f"{config.TRAIN}.csv"
    pieces = features.read_pieces(source, recipe.classes)
    labels = np.resize(np.concatenate([each for _, each in pieces]), arguments.rows)
    photos = images.Photos(tuple(map(str, range(len(labels)))), labels, recipe.classes)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        with open(Path(folder) / source.name, "wb") as file, open(source, "rb") as rows:
            file.writelines(itertools.islice(itertools.cycle(rows), len(labels)))
        columns = features.count_columns(source)
        clock = console.Stopwatch()
        _, words = WAYS[arguments.way](folder, config.TRAIN, photos, columns, config.SEED)
    peak = peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    console.show(f"{len(labels):,} rows {arguments.way}: {words}, {clock}, {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    console.run(main)
