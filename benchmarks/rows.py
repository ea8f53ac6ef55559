"""Logistic regression on as many rows as you like: how long it takes, and in how much memory.

    python benchmarks/rows.py 30000 at_once
    python benchmarks/rows.py 300000 in_pieces --passes 1

The rows are those of output/sample/features/training.csv, again and again, so the time counts and
the accuracy does not. 300,000 rows are 18.5 GB on the disk; they are deleted afterwards.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from ours import photos_of
from race import ROOT, peak_memory, repeat_rows

from pyimagesearch import config, console, features, regression

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
    photos = photos_of(source, recipe.classes, arguments.rows)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        repeat_rows(source, Path(folder) / source.name, arguments.rows)
        columns = features.count_columns(source)
        clock = console.Stopwatch()
        _, words = WAYS[arguments.way](folder, config.TRAIN, photos, columns, config.SEED)
    peak = peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    console.show(f"{len(photos):,} rows {arguments.way}: {words}, {clock}, {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    console.run(main)
